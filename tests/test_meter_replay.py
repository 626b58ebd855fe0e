"""Traces that are played as a real meter would show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.meters import MeterError, meter_module, open_meter
from agent.timekeeping import SimulatedTime

STEP = {"points": [[0, 1e6], [2, 3e6], [5, 2e6]]}


def played(trace: dict[str, Any], at_s: list[float], **options: Any) -> list[Any]:
    clock = SimulatedTime()
    meter = open_meter("replay", {"trace": trace, "clock": clock, **options})
    readings = []
    for due_s in at_s:
        clock.sleep(due_s - clock.now_ns() / 1e9)
        readings.append(meter.read())
    return readings


def test_a_replayed_counter_holds_until_its_update() -> None:
    times = [0, 0.9, 1.0, 2.5, 3.99, 4.0, 7.0]
    shown = [reading.value for reading in played({"kind": "counter", "period_s": 1, **STEP}, times)]
    assert shown == pytest.approx([0, 0, 1e6, 2e6, 5e6, 8e6, 15e6])


def test_a_replayed_counter_wraps_in_its_steps() -> None:
    readings = played({"kind": "counter", "wraps_at": 4e6, "step": 1e5, **STEP}, [1.04, 2.5, 4.0])
    assert [reading.value for reading in readings] == pytest.approx([1.0e6, 3.5e6, 0])


def test_replayed_power_is_the_mean_since_the_update_before() -> None:
    times = [0.5, 4.1, 8.1]
    assert [r.value for r in played({"kind": "power", "period_s": 4, **STEP}, times)] == pytest.approx(
        [1e6, 2e6, 2.25e6]
    )
    assert [r.value for r in played({"kind": "power", "period_s": 4, "shows": "now", **STEP}, times)] == [1e6, 3e6, 2e6]


def test_a_replayed_gauge_shows_its_own_sign_and_unit() -> None:
    trace = {"kind": "gauge", "sign": -1, "unit_ua": 1000, "voltage_uv": 4e6, "charge_uah": 1000, **STEP}
    (reading,) = played(trace, [3])
    assert (reading.current_raw, reading.voltage_uv, reading.value) == (-750, 4e6, -3000)


def test_a_replayed_batterys_charge_falls_by_what_was_used() -> None:
    clock = SimulatedTime()
    trace = {"kind": "gauge", "voltage_uv": 4e6, "points": [[0, 4e6]], "charge_uah": 1_000_000}
    meter = open_meter("replay", {"trace": trace, "clock": clock})
    clock.sleep(3600)
    assert meter.charge_uah() == 0  # type: ignore[attr-defined]


def test_recorded_readings_are_replayed_as_they_are() -> None:
    counted = played({"kind": "counter", "counters": [[0, 5], [1, 70], [2, 3]]}, [0, 1.5, 9])
    assert [reading.value for reading in counted] == [5, 70, 3]
    (gauge,) = played({"kind": "gauge", "currents": [[0, -5, 4e6], [1, -7, 4.1e6]]}, [1.2])
    assert (gauge.current_raw, gauge.voltage_uv) == (-7, 4.1e6)


def test_a_trace_ends_or_begins_anew() -> None:
    trace = {"kind": "counter", "length_s": 6, **STEP}
    with pytest.raises(MeterError, match="ended after 6 s"):
        played(trace, [6.5])
    assert played({**trace, "repeat": True}, [15])[0].value == pytest.approx(2 * 13e6 + 5e6)


def test_a_trace_fails_and_freezes_when_it_says_so() -> None:
    with pytest.raises(MeterError, match="no reading at 1 s"):
        played({"kind": "power", "fails": [[1, 2]], **STEP}, [1])
    assert [r.value for r in played({"kind": "counter", "freezes_s": 2, **STEP}, [2, 3, 60])] == pytest.approx(
        [2e6] * 3
    )


def test_a_trace_tells_the_state_of_its_battery() -> None:
    states = [[0, {"status": "Discharging"}], [2, {"status": "Charging"}]]
    readings = played({"kind": "gauge", "states": states, **STEP}, [1, 3])
    assert [reading.state["status"] for reading in readings] == ["Discharging", "Charging"]


def test_a_load_adds_the_models_power_or_the_traces_own() -> None:
    clock = SimulatedTime()
    meter: Any = open_meter(
        "replay", {"trace": {"kind": "counter", "points": [[0, 1e6]], "load_uw": 2e6}, "clock": clock}
    )
    for begins, model_uw in ((True, None), (False, None), (True, 5e6), (False, 5e6)):
        clock.sleep(1)
        meter.loaded(begins, model_uw)
    clock.sleep(1)
    assert meter.read().value == pytest.approx(5e6 + 2e6 + 5e6)


def test_a_trace_of_a_file_is_real_time_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"kind": "power", "period_s": 0.1, "points": [[0, 5]], "facts": {"rails": ["A"]}}))
    meter: Any = open_meter("replay", {"trace": str(path)})
    assert (meter.time, meter.facts.rails, meter.facts.source) == (None, ("A",), str(path))
    assert open_meter("replay", {"trace": str(path), "clock": "simulated"}).read().at_ns == 0


@pytest.mark.parametrize(
    "trace",
    [
        {},
        {"kind": "counter"},
        {"kind": "sundial", "points": [[0, 1]]},
        {"kind": "counter", "points": [[0, 1]], "counters": [[0, 1]]},
        {"kind": "power", "counters": [[0, 1]]},
        {"kind": "counter", "points": [[1, 1], [0, 1]]},
        {"kind": "counter", "points": [[0]]},
        {"kind": "counter", "points": "much"},
        {"kind": "counter", "points": [[0, 1]], "facts": {"colour": "red"}},
    ],
)
def test_what_is_no_trace_is_refused(trace: dict[str, Any]) -> None:
    with pytest.raises(MeterError, match="a trace must"):
        open_meter("replay", {"trace": trace})


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    options = {"trace": str(tmp_path / "none.json")}
    with pytest.raises(MeterError, match=r"none\.json"):
        open_meter("replay", options)
    assert "none.json" in meter_module("replay").probe(options)["unavailable"]
