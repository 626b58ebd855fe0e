"""The sources of energy readings: METERS, name -> module, imported on use. Nothing is ever estimated in their place.

A meter's module has:

    probe(options)        {"available": what is read} or {"unavailable": why it is not, and the command that mends it}
    open_meter(options)   -> a Meter; raises MeterError

Options are shared words: ``root`` (a folder that stands for /), ``rails`` (a list of those to sum), ``period_s`` (the
update period, as it was found out); what else a module takes it says itself. A meter may have more than Meter asks:
``charge_uah()`` (a battery's charge counter), ``time`` (it keeps its own, see ``agent.timekeeping``) and ``loaded``
(it is told when a load begins and ends, see ``replay``).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, Optional, Protocol, Tuple

METERS = {
    "rapl": "agent.meters.rapl",
    "nvml": "agent.meters.nvml",
    "battery_gauge": "agent.meters.battery_gauge",
    "odpm": "agent.meters.odpm",
    "ina3221": "agent.meters.ina3221",
    "monsoon": "agent.meters.monsoon",
    "command": "agent.meters.command",
    "replay": "agent.meters.replay",
}


class MeterError(Exception):
    """Why a meter cannot be read, now or at all, and what would help."""


@dataclass(frozen=True)
class MeterFacts:
    """What readings of a meter are.

    Attributes:
        kind: "counter" (energy so far) or "power" (at the moment, or on average since the last update).
        period_s: how often its value changes; None where that is not known.
        wraps_at: microjoules at which a counter begins anew; None where it does not, or the meter follows it itself.
        needs_calibration: sign and unit are not certain, as of battery gauges.
        rails: names of what is summed.
        scope: what is metered: "package", "device", "gpu", "battery" or "rails".
        source: the path, command or instrument that is read.
    """

    name: str
    kind: str
    period_s: Optional[float]
    wraps_at: Optional[float]
    needs_calibration: bool
    rails: Tuple[str, ...]
    scope: str
    source: str


@dataclass(frozen=True)
class Reading:
    """One value.

    Attributes:
        at_ns: on the monotonic clock, halfway through reading.
        value: microjoules of a counter, else microwatts; of a gauge that needs calibration, ``current_raw`` times
            ``voltage_uv`` in millionths, which is microwatts if it counts microamperes the right way round.
        state: of a battery: ``status`` and ``plugged``; None where it was not asked this time.
    """

    at_ns: int
    value: float
    state: Optional[Dict[str, Any]] = None
    current_raw: Optional[float] = None
    voltage_uv: Optional[float] = None


class Meter(Protocol):
    """A source of readings that is open. It may be read by several threads, one at a time."""

    facts: MeterFacts

    def read(self) -> Reading:
        """Raises MeterError where this one reading cannot be had; the next may."""

    def close(self) -> None:
        """Lets go of it."""


def meter_module(name: str) -> Any:
    """The module of a meter. Raises MeterError for an unknown name."""
    if name not in METERS:
        raise MeterError("a meter must be one of {}, but got {!r}".format(", ".join(sorted(METERS)), name))
    return import_module(METERS[name])


def open_meter(name: str, options: Dict[str, Any]) -> Meter:
    """Raises MeterError where it cannot be read here."""
    meter: Meter = meter_module(name).open_meter(options)
    return meter


def describe_meters() -> Dict[str, Dict[str, str]]:
    """Name -> what it reads here, or why it cannot."""
    return {name: _describe(name) for name in METERS}


def probe_by(open_it: Callable[[], Meter]) -> Dict[str, str]:
    """Tries whether it opens: what it reads, or why it cannot be read."""
    try:
        meter = open_it()
    except MeterError as reason:
        return {"unavailable": str(reason)}
    meter.close()
    return {"available": "{} ({})".format(", ".join(meter.facts.rails), meter.facts.source)}


def _describe(name: str) -> Dict[str, str]:
    try:
        found: Dict[str, str] = meter_module(name).probe({})
        return found
    except Exception as error:
        return {"unavailable": "{}: {}".format(type(error).__name__, error)}
