"""What only a phone has: heat limits, a battery, a screen that sleeps. Asked through plain sh, here or behind a prefix.

``hold`` keeps the phone awake and its radios quiet, after writing the old values into a file on the phone; ``release``
puts them back. A file that is there already is of an agent that was killed: its values are the old ones, and stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any, Dict, Iterator, List, Optional, Tuple

PREFIX = "CHAMNET_PREFIX"
"""Environment variable: a JSON list of words that run a command of the phone; absent on the phone itself."""

PHONE = "CHAMNET_PHONE"
"""Environment variable: "usb" or "network", how the phone is connected; absent where the device is none."""

HELD = "/data/local/tmp/chamnet/held"
ENDING = (signal.SIGHUP, signal.SIGTERM)
ANSWER_LIMIT_S = 30.0
GOING_S = 5
"""For an agent to put values back; then it was ended in the middle of it."""

AIRPLANE_SDK = 30
"""Android 11, the first whose shell may switch all radios."""

KEPT = (
    ("global", "stay_on_while_plugged_in", "7"),
    ("system", "screen_brightness_mode", "0"),
    ("system", "screen_brightness", "10"),
    ("system", "screen_off_timeout", "2147483647"),
)
"""Namespace, setting and the value it has while measuring: the screen on and dark, so that the phone never sleeps."""

_HOLD = """
mkdir -p "$(dirname {held})"
n=0
while [ -f {held}.going ] && [ $n -lt {going_s} ]; do sleep 1; n=$((n + 1)); done
[ ! -f {held}.going ] || mv {held}.going {held}
[ -f {held} ] || {{
  {{ {reads} echo end; }} > {held}.new && grep -q '^end$' {held}.new && mv {held}.new {held}
}}
[ -f {held} ] || exit 1
{writes}
input keyevent KEYCODE_WAKEUP
"""
"""Nothing is changed unless all old values are written down; another agent that puts them back now is waited for."""

_RELEASE = """
mv {held} {held}.going 2>/dev/null || exit 0
while read -r space name value; do
  case "$space:$value" in
    end:*|*:) ;;
    airplane:*) cmd connectivity airplane-mode "$value" < /dev/null ;;
    *:null) settings delete "$space" "$name" < /dev/null ;;
    *) settings put "$space" "$name" "$value" < /dev/null ;;
  esac
done < {held}.going
rm -f {held}.going
"""

_READ = r"""
for p in /sys/devices/system/cpu/cpufreq/policy*; do
  [ -d "$p" ] || continue
  for name in scaling_max_freq cpuinfo_max_freq related_cpus; do
    [ -r $p/$name ] && echo "$name.${p##*/policy}=$(cat $p/$name)"
  done
  [ -r $p/stats/time_in_state ] && echo "time.${p##*/policy}=$(tr '\n' ';' < $p/stats/time_in_state)"
done
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
echo "fingerprint=$(getprop ro.build.fingerprint)"
echo "thermal_status=$(dumpsys thermalservice 2>/dev/null | sed -n 's/^Thermal Status: *//p' | head -n 1)"
dumpsys battery 2>/dev/null | sed -n -e 's/^ *level: */battery.level=/p' -e 's/^ *status: */battery.status=/p' \
  -e 's/^ *temperature: */battery.temperature=/p'
"""


def words_there() -> List[str]:
    """The words that run a command of the device; [] where this runs on the device itself."""
    return [str(word) for word in json.loads(os.environ.get(PREFIX, "[]"))]


def prefix() -> Optional[List[str]]:
    """The words that run a command of the phone; [] on the phone itself, None where the device is no phone."""
    return words_there() if PHONE in os.environ else None


def hold() -> None:
    """Keeps the phone awake; harmless when it is held already."""
    with signals_wait():
        _hold()


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Signals that end this process wait until what is done here is done, so that it is not undone before its end."""
    late: List[int] = []
    before = {number: signal.signal(number, lambda number, _: late.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for pending in late:
            os.kill(os.getpid(), pending)


def _hold() -> None:
    reads = " ".join('echo "{0} {1} $(settings get {0} {1})";'.format(space, name) for space, name, _ in KEPT)
    writes = "\n".join("settings put {} {} {}".format(*kept) for kept in KEPT)
    if _may_quiet_radios():
        reads += ' echo "airplane mode $(cmd connectivity airplane-mode | sed s/d$//)";'
        writes += "\ncmd connectivity airplane-mode enable"
    _sh(_HOLD.format(held=HELD, reads=reads, writes=writes, going_s=GOING_S))


def release() -> None:
    """Puts back what ``hold`` changed; harmless when nothing is held."""
    _sh(_RELEASE.format(held=HELD))


def read_phone() -> Dict[str, Any]:
    """Heat, battery and clock limits now; {} where the device is no phone or does not answer.

    Keys: ``thermal_status`` (0 is none), ``battery_mc`` (millidegrees), ``battery_percent``, ``charging``, ``caps_khz``
    (policy -> allowed, highest), ``cluster_cpus`` (policy -> processors), ``time_in_state`` (policy -> kHz -> ticks of
    10 ms), ``boot_id``, ``fingerprint``.
    """
    return parse_phone(_sh(_READ) or "")


def parse_phone(text: str) -> Dict[str, Any]:
    """What a phone answered, as numbers; what it did not tell is left out."""
    said = dict(line.strip().partition("=")[::2] for line in text.replace("\r", "").splitlines() if "=" in line)
    found = {
        "thermal_status": _number(said.get("thermal_status")),
        "battery_mc": _scaled(said.get("battery.temperature"), 100),
        "battery_percent": _number(said.get("battery.level")),
        "charging": {"2": True, "5": True, "3": False, "4": False}.get(said.get("battery.status", "")),
        "caps_khz": _caps(_by_policy(said, "scaling_max_freq"), _by_policy(said, "cpuinfo_max_freq")),
        "cluster_cpus": _told({name: _numbers(value) for name, value in _by_policy(said, "related_cpus").items()}),
        "time_in_state": _told({name: _times(value) for name, value in _by_policy(said, "time").items()}),
        "boot_id": said.get("boot_id") or None,
        "fingerprint": said.get("fingerprint") or None,
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _by_policy(said: Dict[str, str], what: str) -> Dict[str, str]:
    start = what + "."
    return {name[len(start) :]: value for name, value in said.items() if name.startswith(start)}


def _told(found: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in found.items() if value}


def _caps(allowed: Dict[str, str], highest: Dict[str, str]) -> Dict[str, Tuple[int, int]]:
    return {
        name: (int(allowed[name]), int(highest[name]))
        for name in sorted(set(allowed) & set(highest))
        if allowed[name].isdigit() and highest[name].isdigit()
    }


def _may_quiet_radios() -> bool:
    sdk = _number(_sh("getprop ro.build.version.sdk"))
    return os.environ.get(PHONE) == "usb" and sdk is not None and sdk >= AIRPLANE_SDK


def ask(script: str) -> Optional[str]:
    """What a script printed on the phone; None where it could not run, or the device is no phone."""
    return _sh(script)


def _sh(script: str) -> Optional[str]:
    words = prefix()
    if words is None:
        return None
    command = [*words, script] if words else ["/system/bin/sh", "-c", script]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=ANSWER_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace")


def _number(text: Optional[str]) -> Optional[int]:
    try:
        return int(text or "")
    except ValueError:
        return None


def _scaled(text: Optional[str], factor: int) -> Optional[int]:
    number = _number(text)
    return None if number is None else number * factor


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(word) for word in text.split() if word.isdigit())


def _times(text: str) -> Dict[str, int]:
    """``300000 12;600000 7;`` as kHz -> ticks."""
    pairs = (entry.split() for entry in text.split(";"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit() and pair[1].isdigit()}
