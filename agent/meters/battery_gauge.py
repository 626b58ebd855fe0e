"""A battery's own gauge: current and voltage as the kernel tells them, else as Android's battery service does.

Which way round the current counts and whether in micro- or milliamperes differs from phone to phone, and so does how
often it changes (0.25 to 30 s): readings stay as they are, and are worth nothing before the device was calibrated.
While it is plugged in the gauge shows what flows into the battery, not what the device uses.
"""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.meters.nodes import find, read_nodes, run_there, under, whole
from agent.phone import prefix

SUPPLY = "/sys/class/power_supply"
PHONES_OWN = ("battery", "bms")
"""What phones call their gauges; bms is that of Qualcomm's chips."""

STATE_EVERY_NS = 1_000_000_000
MILLIVOLTS_BELOW = 100_000
"""No battery has less than 0.1 V or more than 100 V, so such a number is of millivolts."""

STATUS = {"2": "Charging", "3": "Discharging", "4": "Not charging", "5": "Full"}
PLUGS = {"ac": "ac", "mains": "ac", "dc": "ac", "adp": "ac", "usb": "usb", "wireless": "wireless"}
POWERED = {"AC powered": "ac", "Dock powered": "ac", "USB powered": "usb", "Wireless powered": "wireless"}
SERVICE = "cmd battery get -f current_now 2>/dev/null; dumpsys battery 2>/dev/null"
_FIELD = re.compile(r"^ *([A-Za-z][\w ]*): *(\S+) *$", re.MULTILINE)
_WHOLE = re.compile(r"[+-]?\d+")


class Told(NamedTuple):
    """What a gauge told at once; ``state`` and ``charge_uah`` are None where they were not asked, or are not told."""

    current: int
    voltage: int
    state: Optional[Dict[str, Any]]
    charge_uah: Optional[int]


class Nodes(NamedTuple):
    """The kernel's files; the status and the charge counter are the first of theirs that can be read.

    Attributes:
        plugs: path that tells whether a plug is in -> what kind of plug.
    """

    current: str
    voltage: str
    status: List[str]
    counters: List[str]
    plugs: Dict[str, str]


Ask = Callable[[bool], Told]
"""Asks a gauge, of its state too where that is wanted. Raises MeterError."""


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "BatteryGauge":
    """Raises MeterError where nothing tells the battery's current."""
    supply = under(options, SUPPLY)
    nodes = find_nodes(supply)
    period_s = options.get("period_s")
    if nodes is not None:
        ask: Ask = partial(ask_nodes, nodes)
    elif prefix() is not None:
        ask = lambda _: parse_service(run_there(SERVICE) or "")  # noqa: E731
    else:
        raise MeterError("a battery must show current_now and voltage_now under {}, but none does".format(supply))
    ask(True)
    source = "dumpsys battery" if nodes is None else "{} {}".format(nodes.current, nodes.voltage)
    return BatteryGauge(source, ask, None if period_s is None else float(period_s))


class BatteryGauge:
    """Raw current times voltage; its state is asked once a second, and by the reading after the charge counter's."""

    def __init__(self, source: str, ask: Ask, period_s: Optional[float]) -> None:
        self.facts = MeterFacts("battery_gauge", "power", period_s, None, True, ("battery",), "battery", source)
        self._ask = ask
        self._asked_ns: Optional[int] = None

    def read(self) -> Reading:
        before = time.perf_counter_ns()
        with_state = self._asked_ns is None or before - self._asked_ns >= STATE_EVERY_NS
        told = self._ask(with_state)
        at_ns = (before + time.perf_counter_ns()) // 2
        if with_state:
            self._asked_ns = before
        voltage_uv = told.voltage * (1000 if told.voltage < MILLIVOLTS_BELOW else 1)
        if voltage_uv <= 0:
            raise MeterError("a battery's voltage must be above 0, but got {}".format(told.voltage))
        return Reading(at_ns, told.current * voltage_uv / 1e6, told.state, float(told.current), float(voltage_uv))

    def charge_uah(self) -> Optional[int]:
        """The charge counter; None where it is not told, or 0 as on phones that do not count."""
        self._asked_ns = None
        return self._ask(True).charge_uah or None

    def close(self) -> None:
        """Nothing stays open."""


def find_nodes(supply: str) -> Optional[Nodes]:
    """None where no battery's current can be read, or no voltage, which may be another battery folder's."""
    folders = _batteries(supply)
    current = _readable(["{}/current_now".format(folder) for folder in folders])
    if current is None:
        return None
    own = current.rpartition("/")[0]
    voltage = _readable(["{}/voltage_now".format(folder) for folder in (own, *folders)])
    if voltage is None:
        return None
    online = [path for path in find("{}/*/online".format(supply)) if path.rpartition("/")[0] not in folders]
    kinds = read_nodes([_beside(path, "type") for path in online])
    plugs = {path: _plug(path, kinds[_beside(path, "type")]) for path in online}
    status, counters = (["{}/{}".format(folder, n) for folder in folders] for n in ("status", "charge_counter"))
    return Nodes(current, voltage, status, counters, plugs)


def ask_nodes(nodes: Nodes, with_state: bool) -> Told:
    """Raises MeterError."""
    more = [*nodes.status, *nodes.counters, *nodes.plugs] if with_state else []
    texts = read_nodes([nodes.current, nodes.voltage, *more])
    current, voltage = whole(texts[nodes.current], nodes.current), whole(texts[nodes.voltage], nodes.voltage)
    if not with_state:
        return Told(current, voltage, None, None)
    told = [path for path in nodes.plugs if texts[path] is not None]
    plugged = _joined([nodes.plugs[path] for path in told if texts[path] != "0"]) if told else None
    state = {"status": _first(texts, nodes.status), "plugged": plugged}
    return Told(current, voltage, state, _maybe(_first(texts, nodes.counters)))


def parse_service(text: str) -> Told:
    """What ``cmd battery get current_now`` (Android 15 and newer) and ``dumpsys battery`` printed, one after the other.

    Raises:
        MeterError: it tells no current, or values that were set by hand.
    """
    if "UPDATES STOPPED" in text:
        raise MeterError("a battery's values must be its own, but were set by hand; 'dumpsys battery reset' ends that")
    said = dict(_FIELD.findall(text))
    first = text.partition("\n")[0].strip()
    current = first if _WHOLE.fullmatch(first) else said.get("current now")
    if current is None or "voltage" not in said:
        raise MeterError(
            "a battery's current must be told, but current_now is not readable under {} and the battery service does "
            "not tell it; 'adb root' makes the file readable on builds that allow it".format(SUPPLY)
        )
    plugged = _joined([plug for name, plug in POWERED.items() if said.get(name) == "true"])
    state = {"status": STATUS.get(said.get("status", "")), "plugged": plugged}
    counter = _maybe(said.get("Charge counter"))
    return Told(whole(current, "current_now"), whole(said["voltage"], "voltage"), state, counter)


def _batteries(supply: str) -> List[str]:
    """Folders of the device's own batteries, a phone's usual ones first; a mouse's says that it is of a Device."""
    phones = ["{}/{}".format(supply, name) for name in PHONES_OWN]
    others = [path.rpartition("/")[0] for path in find("{}/*/current_now".format(supply))]
    others = [folder for folder in others if folder not in phones]
    texts = read_nodes(["{}/{}".format(folder, name) for folder in others for name in ("type", "scope")])
    own = [f for f in others if texts["{}/type".format(f)] == "Battery" and texts["{}/scope".format(f)] != "Device"]
    return [*phones, *own]


def _plug(online: str, kind: Optional[str]) -> str:
    """What a folder's plug is: by its type, else by its name."""
    said = (kind or online.split("/")[-2]).lower()
    return next((plug for start, plug in PLUGS.items() if said.startswith(start)), said)


def _beside(path: str, name: str) -> str:
    return "{}/{}".format(path.rpartition("/")[0], name)


def _joined(plugs: List[str]) -> str:
    return "+".join(sorted(set(plugs))) or "none"


def _readable(paths: List[str]) -> Optional[str]:
    texts = read_nodes(paths)
    return next((path for path in paths if _maybe(texts[path]) is not None), None)


def _first(texts: Dict[str, Optional[str]], paths: List[str]) -> Optional[str]:
    return next((texts[path] for path in paths if texts[path]), None)


def _maybe(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and _WHOLE.fullmatch(text) else None
