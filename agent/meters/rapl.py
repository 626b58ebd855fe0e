"""Intel's and AMD's energy counters, through the kernel's powercap: what whole packages and their memory have used.

A package's zone holds its cores and its uncore, so those are not added; nor is psys, the whole platform, beside them.
The same package may show twice, by its registers and by memory-mapped ones: it is counted once. Each zone wraps by
itself; the meter follows that from reading to reading, so that its sum only grows.
"""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, Optional, Tuple

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.meters.nodes import find, grant, read_nodes, read_numbers, under

POWERCAP = "/sys/class/powercap"
PERIOD_S = 0.001
_ZONE = re.compile(r".*/(intel-rapl(?:-mmio)?):\d+(?::\d+)?$")


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Rapl":
    """Raises MeterError where there are no counters, or they cannot be read."""
    powercap = under(options, POWERCAP)
    zones = _zones(powercap)
    if not zones:
        raise MeterError(
            "a processor must show its energy under {}, but none does; 'sudo modprobe intel_rapl_msr' helps, except in "
            "virtual machines and containers".format(powercap)
        )
    counters = ["{}/energy_uj".format(path) for path in zones.values()]
    texts = read_nodes(counters)
    closed = [path for path in counters if texts[path] is None]
    if closed:
        raise MeterError("energy counters must be readable, but are not; '{}' grants it".format(grant(closed)))
    return Rapl(tuple(zones), counters, read_numbers(["{}/max_energy_range_uj".format(p) for p in zones.values()]))


class Rapl:
    """The sum of zones, each unwrapped by itself."""

    def __init__(self, names: Tuple[str, ...], counters: List[str], ranges_uj: List[int]) -> None:
        self.facts = MeterFacts("rapl", "counter", PERIOD_S, None, False, names, "package", " ".join(counters))
        self._counters = counters
        self._ranges_uj = ranges_uj
        self._last_uj: Optional[List[int]] = None
        self._wrapped_uj = 0

    def read(self) -> Reading:
        """A zone that was left unread for a whole turn has lost it: minutes under full load."""
        before = time.perf_counter_ns()
        now_uj = read_numbers(self._counters)
        at_ns = (before + time.perf_counter_ns()) // 2
        for last, now, turn in zip(self._last_uj or now_uj, now_uj, self._ranges_uj):
            self._wrapped_uj += turn if now < last else 0
        self._last_uj = now_uj
        return Reading(at_ns, float(sum(now_uj) + self._wrapped_uj))

    def close(self) -> None:
        """Nothing stays open."""


def _zones(powercap: str) -> Dict[str, str]:
    """Name -> folder of each package and its memory; registers go before memory-mapped ones."""
    folders = [path for path in find("{}/intel-rapl*:*".format(powercap)) if _ZONE.match(path)]
    names = read_nodes(["{}/name".format(path) for path in folders])
    found: Dict[str, str] = {}
    for path in sorted(folders, key=lambda path: ("-mmio:" in path, path)):
        name = _counted(names["{}/name".format(path)], names.get("{}/name".format(path.rpartition(":")[0])))
        if name is not None:
            found.setdefault(name, path)
    return found


def _counted(name: Optional[str], parent: Optional[str]) -> Optional[str]:
    """What a zone is called in the sum; None for one that is not of it."""
    if name == "dram":
        return "{} dram".format(parent) if parent else "dram"
    return name if name is not None and name.startswith("package") else None
