"""Meters models: windows idle - load - ... - idle, in which a thread reads the meter. Raw readings, no statistics.

While a battery is the meter, charging is suspended where the phone allows it. Without models the meter alone is
watched: the host then lays the windows of another agent over its readings.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from agent import charging
from agent.conditions import read_conditions, read_temperatures
from agent.engines import EngineUnavailable, engine_module
from agent.failures import failure
from agent.loads import Load, Looped, Span, Summarised
from agent.meters import Meter, MeterError, MeterFacts, open_meter
from agent.protocol import Done, Energise, Energised, Message, Model, Opening, Plan
from agent.readings import Recorder
from agent.timekeeping import RealTime, Timekeeper

LEAST_PERIODS, LEAST_UPDATES = 20, 30
DISCHARGE_LIMIT_S, DISCHARGE_STEP_S = 10.0, 0.5
"""A battery says that it discharges some seconds after its charging was suspended."""

Send = Callable[[Message], None]


class Bench(NamedTuple):
    """A meter that is open, and what belongs to all its windows.

    Attributes:
        note: what goes with the state of a battery: whether its charging is suspended.
    """

    meter: Meter
    keeper: Timekeeper
    plan: Plan
    note: Dict[str, str]


def energise(request: Energise, send: Send) -> None:
    """Raises MeterError where the meter does not open, EngineUnavailable where the engine is not there."""
    before = read_conditions()
    meter = open_meter(request.meter, request.meter_options)
    try:
        keeper = getattr(meter, "time", None) or RealTime()
        plan = lengthened(request.plan, meter.facts) if request.models else request.plan
        bench = Bench(meter, keeper, plan, {})
        if request.models:
            _meter_models(request, bench, send)
        else:
            send(Energised("", asdict(meter.facts), [_watch(bench, send)]))
    finally:
        meter.close()
    send(Done(before, read_conditions()))


def lengthened(plan: Plan, facts: MeterFacts) -> Plan:
    """The plan with windows that are long enough for the meter; a gauge that needs calibration is coarse, too."""
    least_s = (LEAST_UPDATES if facts.needs_calibration else LEAST_PERIODS) * (facts.period_s or 0.0)
    return replace(plan, window_s=max(plan.window_s, least_s), idle_s=max(plan.idle_s, least_s))


def measure_windows(bench: Bench, load: Load) -> List[Dict[str, Any]]:
    """The windows of one model. Raises what its engine raises."""
    windows, border = [], _at_border(bench)
    for number in range(2 * bench.plan.repeats + 1):
        window = _load_window(bench, load) if number % 2 else _idle_window(bench)
        before, border = border, _at_border(bench)
        windows.append({**window, **{name: {"before": before[name], "after": border[name]} for name in border}})
    return windows


def _meter_models(request: Energise, bench: Bench, send: Send) -> None:
    engine = engine_module(request.engine)
    is_battery = bench.meter.facts.scope == "battery"
    try:
        if is_battery:
            bench = bench._replace(note=charging.suspend())
            _await_discharge(bench)
        for model in request.models:
            send(Opening(model.id))
            send(_metered(engine, request, model, bench))
    finally:
        if is_battery:
            charging.resume()


def _metered(engine: Any, request: Energise, model: Model, bench: Bench) -> Message:
    reason = "load"
    try:
        summarises = hasattr(engine, "summarise")
        opened = None if summarises else engine.open_model(model.path, request.options)
        reason = "run"
        load: Load = Summarised(engine, model.path, request.options) if summarises else Looped(opened, bench.keeper)
        return Energised(model.id, asdict(bench.meter.facts), measure_windows(bench, load))
    except EngineUnavailable:
        raise
    except Exception as error:
        return failure(model.id, reason, error)


def _idle_window(bench: Bench) -> Dict[str, Any]:
    bench.keeper.sleep(bench.plan.settle_s)
    return _recorded(bench, "idle", lambda border: _rest(bench.keeper, bench.plan.idle_s, border))


def _load_window(bench: Bench, load: Load) -> Dict[str, Any]:
    told = getattr(bench.meter, "loaded", None) or _not_told
    told(True, load.power_uw)
    try:
        return _recorded(bench, "load", lambda border: load.work(bench.plan.settle_s, bench.plan.window_s, border))
    finally:
        told(False, None)


def _watch(bench: Bench, send: Send) -> Dict[str, Any]:
    before = _at_border(bench)
    send(Opening(""))
    window = _recorded(bench, "watch", lambda border: _rest(bench.keeper, bench.plan.window_s, border))
    after = _at_border(bench)
    return {**window, **{name: {"before": before[name], "after": after[name]} for name in after}}


def _recorded(bench: Bench, kind: str, act: Callable[[Callable[[], int]], Span]) -> Dict[str, Any]:
    recorder = Recorder(bench.meter, bench.keeper, bench.plan.read_every_s, bench.note)
    try:
        return recorder.window(kind, act(recorder.border))
    finally:
        recorder.stop()


def _rest(keeper: Timekeeper, seconds: float, border: Callable[[], int]) -> Span:
    from_ns = border()
    keeper.sleep(seconds)
    return Span(from_ns, border(), 0)


def _at_border(bench: Bench) -> Dict[str, Any]:
    """What is read between windows, since reading it is work."""
    return {"temp_mc": read_temperatures(), "charge_uah": _charge_uah(bench.meter)}


def _charge_uah(meter: Meter) -> Optional[int]:
    ask = getattr(meter, "charge_uah", None)
    try:
        return None if ask is None else ask()
    except MeterError:
        return None


def _await_discharge(bench: Bench) -> None:
    waited_s = 0.0
    while bench.note.get("suspended") and waited_s < DISCHARGE_LIMIT_S and _is_charging(bench.meter):
        bench.keeper.sleep(DISCHARGE_STEP_S)
        waited_s += DISCHARGE_STEP_S


def _is_charging(meter: Meter) -> bool:
    """Also where it does not tell this time."""
    try:
        state = meter.read().state
    except MeterError:
        return True
    return state is None or state.get("status") == "Charging"


def _not_told(begins: bool, power_uw: Optional[float]) -> None:
    """Real meters notice by themselves."""
