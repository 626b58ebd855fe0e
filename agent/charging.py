"""A phone's charging, suspended while its battery is the meter, and its old state, which is always put back.

The old values of all nodes are written into a file on the phone before the first is changed. ``resume`` puts them
back: at the end of a request, at the end of the agent's input, or, after an agent was killed, when the next one starts.
Where that fails, the file stays for the next attempt. ``dumpsys battery`` is left alone: it only pretends.
"""

from __future__ import annotations

from typing import Dict, Tuple

from agent.phone import GOING_S, ask, prefix, signals_wait

SAVED = "/data/local/tmp/chamnet/charging"
SUPPLY = "/sys/class/power_supply"
NODES: Tuple[Tuple[str, str], ...] = (
    (SUPPLY + "/battery/input_suspend", "1"),
    (SUPPLY + "/battery/charge_disable", "1"),
    (SUPPLY + "/battery/charging_enabled", "0"),
    (SUPPLY + "/usb/device/charge", "0"),
    (SUPPLY + "/usb/device/usb_limit_sink_enable", "1"),
)
"""What suspends charging, the surest first: node, and the value that does it."""

NOT_WRITABLE = (
    "no node that suspends charging is writable; 'adb root' helps on builds that allow it, else pull the cable"
)
_SETTLED = """
n=0
while [ -f {saved}.going ] && [ $n -lt {going_s} ]; do sleep 1; n=$((n + 1)); done
[ ! -f {saved}.going ] || mv {saved}.going {saved}
"""
"""Another agent that puts values back now is waited for; one that was killed in the middle of it has not done it."""

_SUSPEND = (
    """
mkdir -p "$(dirname {saved})"
"""
    + _SETTLED
    + """
[ -f {saved} ] || {{
  {{
    for node in {nodes}; do [ -w $node ] && value=$(cat $node) && echo "$node $value"; done
    echo end
  }} > {saved}.new && grep -q '^end$' {saved}.new && mv {saved}.new {saved}
}}
[ -f {saved} ] || exit 1
{writes}
"""
)
_WRITE = 'grep -q "^{0} " {saved} && echo {1} > {0} && [ "$(cat {0})" = {1} ] && echo suspended={0} && exit 0'
"""Only what was written down is changed, until one node keeps its new value."""

_RESUME = (
    _SETTLED
    + """
mv {saved} {saved}.going 2>/dev/null || exit 0
failed=
while read -r node value; do
  [ "$node" = end ] || [ "$(cat $node 2>/dev/null)" = "$value" ] || echo "$value" > $node || failed=1
done < {saved}.going
if [ -z "$failed" ]; then rm -f {saved}.going; else mv {saved}.going {saved}; fi
"""
)


def suspend() -> Dict[str, str]:
    """Suspends charging: ``suspended`` is the node that did it, or "", and then ``suspended_not`` says why not."""
    if prefix() is None:
        return {"suspended": "", "suspended_not": "charging can only be suspended on a phone"}
    writes = "\n".join(_WRITE.format(*node, saved=SAVED) for node in NODES)
    nodes = " ".join(node for node, _ in NODES)
    with signals_wait():
        told = ask(_SUSPEND.format(saved=SAVED, nodes=nodes, writes=writes, going_s=GOING_S)) or ""
        found = [line.partition("=")[2].strip() for line in told.splitlines() if line.startswith("suspended=")]
        if not found:
            resume()
    return {"suspended": found[0]} if found else {"suspended": "", "suspended_not": NOT_WRITABLE}


def resume() -> None:
    """Puts back what ``suspend`` changed, now or in an agent that was killed; harmless when nothing is suspended."""
    ask(_RESUME.format(saved=SAVED, going_s=GOING_S))
