"""The power monitor of NVIDIA's Jetson boards: voltage and current of its rails, by hwmon, or older kernels' iio files.

Some rails feed others, so what is summed is chosen by the board's known inputs; a board with other rails needs option
``rails``.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.meters.nodes import find, grant, read_nodes, read_numbers, under

HWMON = "/sys/class/hwmon"
DRIVERS = "/sys/bus/i2c/drivers"
CHANNELS = (1, 2, 3)
NOT_CONNECTED = ("", "NC")
INPUTS = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Rails that together feed a module: Orin Nano, Orin NX and Xavier NX; Nano and TX2; AGX Orin (whose memory rail is fed
by VIN_SYS_5V0); AGX Xavier."""


class Rail(NamedTuple):
    """A channel: its power is the product of its files, times ``uw`` microwatts a unit."""

    name: str
    files: Tuple[str, ...]
    uw: int


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Ina3221":
    """Raises MeterError where there is no such monitor, it cannot be read, or what to sum is not known."""
    rails = {rail.name: rail for rail in [*_hwmon(options), *_iio(options)]}
    if not rails:
        raise MeterError("a board must have an INA3221 under {}, as Jetsons do, but has none".format(HWMON))
    chosen = _chosen(options.get("rails"), rails)
    files = [path for rail in chosen for path in rail.files]
    texts = read_nodes(files)
    closed = [path for path in files if texts[path] is None]
    if closed:
        raise MeterError("the INA3221 must be readable, but is not; '{}' grants it".format(grant(closed)))
    return Ina3221(chosen, _period_s(chosen))


class Ina3221:
    """The sum of rails."""

    def __init__(self, rails: List[Rail], period_s: Optional[float]) -> None:
        files = [path for rail in rails for path in rail.files]
        names = tuple(rail.name for rail in rails)
        self.facts = MeterFacts("ina3221", "power", period_s, None, False, names, "rails", " ".join(files))
        self._rails = rails
        self._files = files

    def read(self) -> Reading:
        before = time.perf_counter_ns()
        numbers = dict(zip(self._files, read_numbers(self._files)))
        at_ns = (before + time.perf_counter_ns()) // 2
        return Reading(at_ns, float(sum(_power_uw(rail, numbers) for rail in self._rails)))

    def close(self) -> None:
        """Nothing stays open."""


def _power_uw(rail: Rail, numbers: Dict[str, int]) -> int:
    power = rail.uw
    for path in rail.files:
        power *= numbers[path]
    return power


def _hwmon(options: Dict[str, Any]) -> List[Rail]:
    """Channels of each monitor: power in uW where the kernel tells it, else mV times mA."""
    folders = find(under(options, "{}/hwmon*".format(HWMON)))
    names = read_nodes(["{}/name".format(folder) for folder in folders])
    ours = [folder for folder in folders if names["{}/name".format(folder)] == "ina3221"]
    ours = ours or find(under(options, "{}/ina3221/*/hwmon/hwmon*".format(DRIVERS)))
    return [rail for folder in ours for rail in map(_channel, [folder] * len(CHANNELS), CHANNELS) if rail is not None]


def _channel(folder: str, number: int) -> Optional[Rail]:
    files = [form.format(folder, number) for form in ("{}/in{}_label", "{}/in{}_enable", "{}/power{}_input")]
    name, enabled, power = read_nodes(files).values()
    if name is None or name in NOT_CONNECTED or enabled == "0":
        return None
    if power is not None:
        return Rail(name, (files[-1],), 1)
    return Rail(name, ("{}/in{}_input".format(folder, number), "{}/curr{}_input".format(folder, number)), 1)


def _iio(options: Dict[str, Any]) -> List[Rail]:
    """Channels as kernels of NVIDIA's before 5 tell them, in mW."""
    labels = find(under(options, "{}/ina3221x/*/iio:device*/rail_name_[0-2]".format(DRIVERS)))
    names = read_nodes(labels)
    found = []
    for label in labels:
        name = names[label]
        if name is not None and name not in NOT_CONNECTED:
            found.append(Rail(name, (label.replace("rail_name_", "in_power") + "_input",), 1000))
    return found


def _chosen(asked: Optional[List[str]], rails: Dict[str, Rail]) -> List[Rail]:
    names = asked or next((group for group in INPUTS if set(group) <= set(rails)), ())
    if not names or not set(names) <= set(rails):
        raise MeterError(
            "rails that together feed the board must be named as meter option 'rails', but got {}; there are {}".format(
                ", ".join(asked or ["none"]), ", ".join(rails)
            )
        )
    return [rails[name] for name in names]


def _period_s(rails: List[Rail]) -> Optional[float]:
    """The longest of the monitors' own; None where the kernel does not tell it."""
    paths = sorted({"{}/update_interval".format(rail.files[0].rpartition("/")[0]) for rail in rails})
    periods_ms = [int(text) for text in read_nodes(paths).values() if text and text.isdecimal()]
    return max(periods_ms) / 1000 if len(periods_ms) == len(paths) else None
