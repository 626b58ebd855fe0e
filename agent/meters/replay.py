"""A trace of power over time in place of a meter, for tests and trials: what it gives is simulated, and named so.

It is shown as a real meter would show it: held until the next update, in its unit, the wrong way round, wrapped. Option
``trace`` is a JSON file or what such a file holds:

    kind         "counter", "power" or "gauge"
    points       [[t_s, microwatts], ...], each until the next; or, as recorded from a real meter,
    counters     [[t_s, microjoules], ...]; or
    currents     [[t_s, current_raw, voltage_uv], ...]
    period_s     time between updates; absent where it always shows the present
    shows        "mean" (since the update before, the usual) or "now"
    load_uw      added while a load runs, unless the model itself says how much (the fake engine's ``uw``)
    sign, unit_ua, voltage_uv   of a gauge: 1 or -1 while discharging, microamperes of a unit, and the battery's voltage
    step         smallest step of what is shown: microjoules, microwatts, or the gauge's own units
    wraps_at     microjoules at which the counter begins anew
    states       [[t_s, {"status": ..., "plugged": ...}], ...]
    charge_uah   of a battery at the beginning; it then falls with what is used
    length_s     where it ends; ``repeat``: true begins anew there
    fails        [[from_s, to_s], ...] when it cannot be read;  ``freezes_s``: from when it shows the same for ever
    facts        rails, scope, and others of MeterFacts

Time begins when it is opened and passes as on the clock; with option ``clock`` "simulated" only as the load says.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.timekeeping import RealTime, SimulatedTime, Timekeeper

KINDS = ("counter", "power", "gauge")
SOURCES = ("points", "counters", "currents")
VOLTAGE_UV = 3_850_000.0
UAH_PER_UAS = 1 / 3600


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    if "trace" not in options:
        return {"available": "a trace that is named as meter option 'trace'; what it gives is simulated"}
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Replay":
    """Raises MeterError where the trace is none."""
    told = options.get("trace")
    trace = told if isinstance(told, dict) else _load(str(told))
    clock = options.get("clock")
    keeper = SimulatedTime() if clock == "simulated" else RealTime() if clock is None else clock
    try:
        _check(trace)
        facts = _facts(trace, "a trace" if isinstance(told, dict) else str(told), options.get("period_s"))
        return Replay(trace, facts, keeper, simulated=clock is not None)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise MeterError("a trace must be as agent/meters/replay.py describes it, but got {!r}".format(error)) from None


class Steps:
    """A function of time that is constant between its steps, and its integral."""

    def __init__(self, steps: Sequence[Sequence[float]] = ()) -> None:
        self._times: List[float] = []
        self._values: List[float] = []
        self._sums: List[float] = []
        for at_s, value in steps:
            self.add(float(at_s), float(value))

    def add(self, at_s: float, value: float) -> None:
        self._sums.append(self.integral(at_s))
        self._times.append(at_s)
        self._values.append(value)

    def at(self, at_s: float) -> float:
        index = bisect_right(self._times, at_s) - 1
        return self._values[index] if index >= 0 else 0.0

    def integral(self, at_s: float) -> float:
        index = bisect_right(self._times, at_s) - 1
        return self._sums[index] + (at_s - self._times[index]) * self._values[index] if index >= 0 else 0.0


class Replay:
    """A trace that is being played."""

    def __init__(self, trace: Dict[str, Any], facts: MeterFacts, keeper: Timekeeper, simulated: bool) -> None:
        self.facts = facts
        self.time: Optional[Timekeeper] = keeper if simulated else None
        self._trace = trace
        self._keeper = keeper
        self._start_ns = keeper.now_ns()
        self._base = Steps(trace.get("points", ()))
        self._load = Steps()
        self._shown: List[Tuple[float, ...]] = [tuple(row) for row in trace.get("counters", trace.get("currents", ()))]
        self._state_times = [float(at_s) for at_s, _ in trace.get("states", ())]

    def read(self) -> Reading:
        at_ns = self._keeper.now_ns()
        now_s = (at_ns - self._start_ns) / 1e9
        self._check_time(now_s)
        updated_s = self._updated_s(min(now_s, float(self._trace.get("freezes_s", now_s))))
        state = self._state(now_s)
        if self._trace["kind"] != "gauge":
            return Reading(at_ns, float(self._value(updated_s)), state)
        current, voltage_uv = self._gauge(updated_s)
        return Reading(at_ns, current * voltage_uv / 1e6, state, current, voltage_uv)

    def loaded(self, begins: bool, model_uw: Optional[float] = None) -> None:
        """A load begins, or ends."""
        power_uw = float(self._trace.get("load_uw", 0.0)) if model_uw is None else float(model_uw)
        self._load.add((self._keeper.now_ns() - self._start_ns) / 1e9, power_uw if begins else 0.0)

    def charge_uah(self) -> Optional[int]:
        if "charge_uah" not in self._trace:
            return None
        now_s = (self._keeper.now_ns() - self._start_ns) / 1e9
        used_uas = self._energy_uj(now_s) / (self._voltage_uv / 1e6)
        return round(float(self._trace["charge_uah"]) - used_uas * UAH_PER_UAS)

    def close(self) -> None:
        """Nothing stays open."""

    @property
    def _voltage_uv(self) -> float:
        return float(self._trace.get("voltage_uv", VOLTAGE_UV))

    def _check_time(self, now_s: float) -> None:
        length_s = self._trace.get("length_s")
        if length_s is not None and now_s > length_s and not self._trace.get("repeat"):
            raise MeterError("a trace must be long enough, but ended after {:g} s".format(length_s))
        if any(from_s <= now_s < to_s for from_s, to_s in self._trace.get("fails", ())):
            raise MeterError("the trace has no reading at {:g} s".format(now_s))

    def _updated_s(self, now_s: float) -> float:
        """When what is shown now was new."""
        period_s = self._trace.get("period_s")
        return floor(now_s / period_s + 1e-9) * period_s if period_s else now_s

    def _value(self, updated_s: float) -> float:
        """Microjoules so far, or microwatts."""
        if self._shown:
            return self._recorded(updated_s)[0]
        if self._trace["kind"] == "power":
            return self._stepped(self._power_uw(updated_s))
        energy_uj = self._stepped(self._energy_uj(updated_s))
        return energy_uj % self.facts.wraps_at if self.facts.wraps_at else energy_uj

    def _gauge(self, updated_s: float) -> Tuple[float, float]:
        if self._shown:
            current, voltage_uv = self._recorded(updated_s)
            return current, voltage_uv
        current_ua = self._power_uw(updated_s) / (self._voltage_uv / 1e6)
        shown = self._trace.get("sign", 1) * current_ua / self._trace.get("unit_ua", 1)
        return float(round(self._stepped(shown))), self._voltage_uv

    def _recorded(self, at_s: float) -> Tuple[float, ...]:
        times = [row[0] for row in self._shown]
        index = bisect_right(times, self._within(at_s)[1]) - 1
        if index < 0:
            raise MeterError("a trace must have begun, but its first reading is at {:g} s".format(times[0]))
        return tuple(float(value) for value in self._shown[index][1:])

    def _power_uw(self, at_s: float) -> float:
        period_s = self._trace.get("period_s")
        if not period_s or self._trace.get("shows", "mean") == "now" or at_s < period_s:
            return self._base.at(self._within(at_s)[1]) + self._load.at(at_s)
        return (self._energy_uj(at_s) - self._energy_uj(at_s - period_s)) / float(period_s)

    def _energy_uj(self, at_s: float) -> float:
        turns, within_s = self._within(at_s)
        once = self._base.integral(self._trace["length_s"]) if turns else 0.0
        return turns * once + self._base.integral(within_s) + self._load.integral(at_s)

    def _within(self, at_s: float) -> Tuple[int, float]:
        """How often the trace was played before, and where in it that is."""
        length_s = self._trace.get("length_s")
        if not length_s or not self._trace.get("repeat"):
            return 0, at_s
        return int(at_s // length_s), at_s % length_s

    def _stepped(self, value: float) -> float:
        step = self._trace.get("step")
        return floor(value / step) * step if step else value

    def _state(self, now_s: float) -> Optional[Dict[str, Any]]:
        index = bisect_right(self._state_times, now_s) - 1
        return dict(self._trace["states"][index][1]) if index >= 0 else None


def _load(path: str) -> Dict[str, Any]:
    try:
        trace: Dict[str, Any] = json.loads(Path(path).read_text())
        return trace
    except (OSError, ValueError) as error:
        raise MeterError("meter option 'trace' must name a JSON file, but got {!r}: {}".format(path, error)) from None


def _check(trace: Dict[str, Any]) -> None:
    told = [name for name in SOURCES if trace.get(name)]
    if trace["kind"] not in KINDS or len(told) != 1 or (told[0] != "points" and _kind_of(told[0]) != trace["kind"]):
        raise MeterError(
            "a trace must be a counter, power or gauge of points, counters or currents, but got {!r} of {}".format(
                trace["kind"], " and ".join(told) or "nothing"
            )
        )
    times = [row[0] for row in trace[told[0]]]
    if sorted(times) != times:
        raise MeterError("a trace must go forward in time, but its {} do not".format(told[0]))


def _kind_of(source: str) -> str:
    return {"counters": "counter", "currents": "gauge"}[source]


def _facts(trace: Dict[str, Any], source: str, period_s: Optional[float]) -> MeterFacts:
    gauge = trace["kind"] == "gauge"
    told = {**trace.get("facts", {})}
    rails, scope = tuple(told.pop("rails", ("trace",))), told.pop("scope", "battery" if gauge else "device")
    period_s = period_s if gauge or period_s is not None else trace.get("period_s")
    kind = "counter" if trace["kind"] == "counter" else "power"
    facts = MeterFacts("replay", kind, period_s, trace.get("wraps_at"), gauge, rails, scope, source)
    return replace(facts, **told, name="replay")
