"""The power rails that Pixels (6 and newer) meter themselves: energy so far of each, from the kernel or the HAL.

Two chips have eight channels each, and which is which changes from boot to boot, so rails go by their names. There is
no rail of the whole phone: unless option ``rails`` names others, those that computing draws on are summed. Charging
does not disturb them.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.meters.nodes import find, read_nodes, run_there, under
from agent.phone import prefix

DEVICES = "/sys/bus/iio/devices"
PERIOD_S = 0.05
"""The chips add up at 8 to 1000 Hz and are asked when the file is read; what is older than this is asked anew."""

HAL = "dumpsys android.hardware.power.stats.IPowerStats/default 2>/dev/null"
"""``dumpsys powerstats`` lists the rails only; the HAL's own text has what they used."""

UJ_PER_MWS = 1000
COMPUTING = re.compile(r"CPUCL|VDD_INT|VDD_MIF|VDD_G3D|VDD_TPU|VDDQ?2?[HL]?_MEM|VDD2L|VDD_SLC")
_KERNEL = re.compile(r"^CH\d+(?:\(T=\d+\))?\[([^\]]+)\], *(\d+)", re.MULTILINE)
_SECTION = re.compile(r"energy meter =+\n(.*?)(?:\n=+ End|\Z)", re.DOTALL)
_CHANNEL = re.compile(r"^ *(?:\[([^\]]+)\]\S*|(\S+)) +(\d+(?:\.\d+)?) mWs", re.MULTILINE)

Energies = Dict[str, float]
"""Rail -> microjoules so far."""


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Odpm":
    """Raises MeterError where no rail can be read, or not all that are asked for."""
    source, read = _source(under(options, DEVICES))
    rails = _chosen(options.get("rails"), sorted(read()))
    return Odpm(source, rails, read)


class Odpm:
    """The sum of rails."""

    def __init__(self, source: str, rails: Tuple[str, ...], read: Callable[[], Energies]) -> None:
        self.facts = MeterFacts("odpm", "counter", PERIOD_S, None, False, rails, "rails", source)
        self._energies = read

    def read(self) -> Reading:
        before = time.perf_counter_ns()
        energies = self._energies()
        at_ns = (before + time.perf_counter_ns()) // 2
        missing = [rail for rail in self.facts.rails if rail not in energies]
        if missing:
            raise MeterError("all rails must be told, but {} are not".format(", ".join(missing)))
        return Reading(at_ns, float(sum(energies[rail] for rail in self.facts.rails)))

    def close(self) -> None:
        """Nothing stays open."""


def parse_kernel(text: str) -> Energies:
    """``energy_value`` of one chip: ``CH3(T=359458)[S5S_VDDQ_MEM], 4658202``, in microwatt-seconds."""
    return {rail: float(energy_uj) for rail, energy_uj in _KERNEL.findall(text)}


def parse_hal(text: str) -> Energies:
    """The energy meter's part of what the power stats HAL dumps: ``[VSYS_PWR_DISPLAY]:Display   611687.45 mWs``."""
    section = _SECTION.search(text)
    rows = _CHANNEL.findall(section.group(1)) if section else []
    return {bracketed or plain: float(energy) * UJ_PER_MWS for bracketed, plain, energy in rows}


def _source(devices: str) -> Tuple[str, Callable[[], Energies]]:
    """What is read, and how."""
    paths = find("{}/iio:device*/energy_value".format(devices))
    if paths and _of_kernel(paths):
        return " ".join(paths), lambda: _of_kernel(paths)
    if prefix() is not None and _of_hal():
        return HAL.split(" 2>")[0], _of_hal
    if paths:
        why = "{} cannot be read; 'adb root' makes them readable on builds that allow it".format(" ".join(paths))
    else:
        why = "there is no energy_value under {}; Pixels from the 6 on have them".format(devices)
    raise MeterError("a phone must meter its power rails, but {}".format(why))


def _of_kernel(paths: Sequence[str]) -> Energies:
    energies: Energies = {}
    for text in read_nodes(paths).values():
        energies.update(parse_kernel(text or ""))
    return energies


def _of_hal() -> Energies:
    return parse_hal(run_there(HAL) or "")


def _chosen(asked: Optional[List[str]], known: List[str]) -> Tuple[str, ...]:
    rails = tuple(asked) if asked else tuple(filter(COMPUTING.search, known))
    if not rails or not set(rails) <= set(known):
        raise MeterError(
            "rails must be some of {}, but got {}; name them as meter option 'rails'".format(
                ", ".join(known), ", ".join(asked or ["none"])
            )
        )
    return rails
