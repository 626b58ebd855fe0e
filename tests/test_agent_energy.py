"""Windows of idle and load with a meter: on a clock that passes as it is told, and by the real agent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.energy import LEAST_PERIODS, LEAST_UPDATES, energise, lengthened
from agent.meters import MeterError, MeterFacts, Reading
from agent.protocol import Done, Energise, Energised, Failure, Look, Measure, Message, Opening, Plan, encode
from agent.readings import Recorder
from agent.timekeeping import RealTime, SimulatedTime
from tests.test_agent import Agent, fake

PLAN = Plan(window_s=2.0, idle_s=1.0, repeats=3, settle_s=0.25, read_every_s=0.05)
IDLE_UW, LOAD_UW = 1_000_000, 3_000_000
CALL_NS = 2_000_000 + 250
COUNTER = {"kind": "counter", "period_s": 0.001, "points": [[0, IDLE_UW]]}
GAUGE = {
    "kind": "gauge",
    "period_s": 0.25,
    "points": [[0, IDLE_UW]],
    "sign": -1,
    "states": [[0, {"status": "Discharging", "plugged": "none"}]],
    "charge_uah": 2_000_000,
}


def asked(
    folder: Path, trace: dict[str, Any] = COUNTER, plan: Plan = PLAN, models: int = 1, **options: Any
) -> Energise:
    """The fake engine on the replay meter, in no time."""
    listed = [fake(folder, f"m{number}", ns=2_000_000, uw=LOAD_UW) for number in range(models)]
    return Energise("fake", {}, listed, "replay", {"trace": trace, "clock": "simulated", **options}, plan)


def answers(request: Energise) -> list[Message]:
    sent: list[Message] = []
    energise(request, sent.append)
    return sent


def windows(request: Energise) -> list[dict[str, Any]]:
    """Of its only model."""
    (energised,) = (message for message in answers(request) if isinstance(message, Energised))
    return energised.windows


def power_uw(window: dict[str, Any]) -> float:
    """Of a counter: from the first reading to the last."""
    (first_ns, first_uj), (last_ns, last_uj) = window["readings"][0], window["readings"][-1]
    return float(1e9 * (last_uj - first_uj) / (last_ns - first_ns))


def test_windows_of_idle_and_load_take_turns(tmp_path: Path) -> None:
    assert [window["kind"] for window in windows(asked(tmp_path))] == ["idle", "load"] * 3 + ["idle"]


def test_a_window_lasts_as_planned_and_settling_lies_between(tmp_path: Path) -> None:
    found = windows(asked(tmp_path))
    for window in found:
        length_s = (window["to_ns"] - window["from_ns"]) / 1e9
        assert length_s == pytest.approx(2.0 if window["kind"] == "load" else 1.0, abs=0.02)
    gaps_s = [(later["from_ns"] - earlier["to_ns"]) / 1e9 for earlier, later in pairwise(found)]
    assert all(0.25 <= gap_s < 0.27 for gap_s in gaps_s)


def test_calls_are_those_of_the_window_alone(tmp_path: Path) -> None:
    for window in windows(asked(tmp_path)):
        length_ns = window["to_ns"] - window["from_ns"]
        assert window["calls"] == (length_ns / CALL_NS if window["kind"] == "load" else 0)


def test_a_counter_is_read_at_the_borders_and_between(tmp_path: Path) -> None:
    for window in windows(asked(tmp_path)):
        times = [row[0] for row in window["readings"]]
        assert (times[0], times[-1]) == (window["from_ns"], window["to_ns"])
        assert times == sorted(set(times))
        assert all(later - earlier <= 50_000_000 for earlier, later in pairwise(times))
        expected_uw = IDLE_UW + (LOAD_UW if window["kind"] == "load" else 0)
        assert power_uw(window) == pytest.approx(expected_uw, rel=0.001)


def test_a_gauge_is_told_raw_with_its_state_once(tmp_path: Path) -> None:
    first, second, *_ = windows(asked(tmp_path, GAUGE))
    assert {tuple(row[2:]) for row in first["readings"][5:]} == {(-round(IDLE_UW / 3.85), 3_850_000)}
    assert all(len(row) == 4 and row[1] == pytest.approx(row[2] * row[3] / 1e6) for row in first["readings"])
    assert second["readings"][-1][1] == pytest.approx(-(IDLE_UW + LOAD_UW), rel=0.001)
    ((at_ns, state),) = first["state"]
    assert at_ns == first["readings"][0][0]
    assert (state["status"], state["plugged"], state["suspended"]) == ("Discharging", "none", "")
    assert "only be suspended on a phone" in state["suspended_not"]


def test_a_state_is_noted_when_it_changes(tmp_path: Path) -> None:
    states = [[0, {"status": "Discharging"}], [2.5, {"status": "Charging"}]]
    told = [
        [row[1]["status"] for row in window["state"]]
        for window in windows(asked(tmp_path, {**GAUGE, "states": states}))
    ]
    assert told[:3] == [["Discharging"], ["Discharging", "Charging"], ["Charging"]]


def test_the_charge_counter_is_told_at_the_borders(tmp_path: Path) -> None:
    found = windows(asked(tmp_path, GAUGE))
    for earlier, later in pairwise(found):
        assert earlier["charge_uah"]["after"] == later["charge_uah"]["before"]
    used_uah = found[0]["charge_uah"]["before"] - found[-1]["charge_uah"]["after"]
    assert used_uah == pytest.approx(3 * (2.25 * 4 + 1.25) / 3.85 / 3600 * 1e6, rel=0.05)
    assert {window["charge_uah"]["before"] for window in windows(asked(tmp_path))} == {None}


def test_temperatures_are_told_at_the_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warmth = iter(range(30_000, 40_000, 1_000))
    monkeypatch.setattr("agent.energy.read_temperatures", lambda: {"cpu": next(warmth)})
    found = [window["temp_mc"] for window in windows(asked(tmp_path, plan=replace(PLAN, repeats=1)))]
    assert [(temp["before"]["cpu"], temp["after"]["cpu"]) for temp in found] == [
        (30_000, 31_000),
        (31_000, 32_000),
        (32_000, 33_000),
    ]


@pytest.mark.parametrize(
    ("trace", "options", "least_s"),
    [
        (COUNTER, {}, 0.0),
        ({**COUNTER, "period_s": 0.5}, {}, LEAST_PERIODS * 0.5),
        (GAUGE, {"period_s": 10.0}, LEAST_UPDATES * 10.0),
        (GAUGE, {}, 0.0),
    ],
)
def test_windows_are_prolonged_as_the_meter_needs(
    trace: dict[str, Any], options: dict[str, Any], least_s: float, tmp_path: Path
) -> None:
    for window in windows(asked(tmp_path, trace, replace(PLAN, repeats=1, read_every_s=1.0), **options)):
        wanted_s = max(least_s, 2.0 if window["kind"] == "load" else 1.0)
        assert (window["to_ns"] - window["from_ns"]) / 1e9 == pytest.approx(wanted_s, abs=0.02)


def test_a_plan_that_is_long_enough_stays_as_it_is() -> None:
    facts = MeterFacts("a", "counter", 0.001, None, False, ("a",), "package", "a")
    assert lengthened(PLAN, facts) == PLAN
    assert lengthened(PLAN, replace(facts, period_s=None)) == PLAN


def test_failed_readings_are_counted_and_the_window_goes_on(tmp_path: Path) -> None:
    first, second, *others = windows(asked(tmp_path, {**COUNTER, "fails": [[0.5, 0.8], [2.0, 2.2]]}))
    assert (first["errors"], second["errors"]) == (6, 4)
    assert "no reading at" in first["error"]
    assert first["readings"][-1][0] == first["to_ns"]
    assert [window["errors"] for window in others] == [0] * 5


def test_a_window_that_cannot_be_read_at_all_is_told_as_it_is(tmp_path: Path) -> None:
    first, *_ = windows(asked(tmp_path, {**COUNTER, "fails": [[0, 60]]}))
    assert first["readings"] == []
    assert first["errors"] > 20
    assert (first["to_ns"] - first["from_ns"]) / 1e9 == pytest.approx(1.0)


def test_each_model_is_named_before_it_is_loaded(tmp_path: Path) -> None:
    sent = answers(asked(tmp_path, models=2))
    assert [type(message) for message in sent] == [Opening, Energised, Opening, Energised, Done]
    assert [message.id for message in sent[:-1]] == ["m0", "m0", "m1", "m1"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("how", "reason"), [("load", "load"), ("run", "run"), ("memory", "memory")])
def test_a_model_that_fails_is_named_and_the_others_metered(how: str, reason: str, tmp_path: Path) -> None:
    request = asked(tmp_path, models=2)
    bad = replace(request, models=[fake(tmp_path, "bad", fail=how), *request.models])
    sent = answers(bad)
    (failure,) = (message for message in sent if isinstance(message, Failure))
    assert (failure.id, failure.reason) == ("bad", reason)
    assert [message.id for message in sent if isinstance(message, Energised)] == ["m0", "m1"]


def test_readings_end_when_a_load_fails_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tired:
        power_uw = None

        def __init__(self) -> None:
            self.calls = 0

        def run(self, loops: int) -> int:
            self.calls += 1
            if self.calls > 20:
                raise ValueError("too tired")
            return 10_000_000

    clock = SimulatedTime()
    engine = SimpleNamespace(open_model=lambda path, options: Tired())
    monkeypatch.setattr("agent.energy.engine_module", lambda name: engine)
    request = asked(tmp_path, clock=clock)
    _, failure, _ = answers(replace(request, plan=replace(PLAN, settle_s=0.0)))
    assert isinstance(failure, Failure)
    assert "too tired" in failure.message
    assert clock._alarms == []


def test_an_engine_that_runs_by_itself_is_metered_in_its_measured_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, told = SimulatedTime(), []

    def summarise(path: str, options: dict[str, Any]) -> dict[str, float]:
        told.append(options)
        clock.sleep(0.7 + options["warmup_min_secs"] + options["min_secs"])
        return {"count": 400, "avg_ns": options["min_secs"] * 1e9 / 400}

    monkeypatch.setattr("agent.energy.engine_module", lambda name: SimpleNamespace(summarise=summarise))
    _, load, _ = windows(replace(asked(tmp_path, clock=clock, plan=replace(PLAN, repeats=1)), options={"threads": 4}))
    assert (load["calls"], load["to_ns"] - load["from_ns"]) == (400, 2_000_000_000)
    assert load["readings"][-1][0] == load["to_ns"]
    assert load["readings"][0][0] - load["from_ns"] < 50_000_000
    assert {key: told[0][key] for key in ("threads", "num_runs", "min_secs", "warmup_min_secs")} == {
        "threads": 4,
        "num_runs": 1,
        "min_secs": 2.0,
        "warmup_min_secs": 0.25,
    }


def test_an_engine_that_tells_no_runs_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(summarise=lambda path, options: {"min_ns": 5.0})
    monkeypatch.setattr("agent.energy.engine_module", lambda name: engine)
    _, failure, _ = answers(asked(tmp_path))
    assert isinstance(failure, Failure)
    assert "min_ns" in failure.message


def test_a_meter_is_closed_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr("agent.meters.replay.Replay.close", lambda meter: closed.append("closed"))
    answers(asked(tmp_path))
    with pytest.raises(Exception, match="warp"):
        answers(replace(asked(tmp_path), engine="warp"))
    assert closed == ["closed", "closed"]


# Readings as they come from a thread.


class Ticking:
    """A meter in real time that can be made to fail or to wait."""

    facts = MeterFacts("ticking", "power", None, None, False, ("a",), "device", "a")

    def __init__(self) -> None:
        self.reads = 0
        self.come = threading.Semaphore(0)

    def read(self) -> Reading:
        self.reads += 1
        self.come.release()
        if self.reads == 2:
            raise MeterError("once")
        return Reading(time.perf_counter_ns(), float(self.reads))

    def close(self) -> None:
        pass


def test_a_thread_reads_from_the_first_border_to_the_second() -> None:
    meter = Ticking()
    recorder = Recorder(meter, RealTime(), 0.001, {})
    from_ns = recorder.border()
    for _ in range(5):
        assert meter.come.acquire(timeout=30)
    to_ns = recorder.border()
    read = meter.reads
    window = recorder.window("idle", SimpleNamespace(from_ns=from_ns, to_ns=to_ns, calls=0))  # type: ignore[arg-type]
    assert (window["errors"], window["error"]) == (1, "once")
    assert [row[1] for row in window["readings"]][:2] == [1.0, 3.0]
    assert meter.reads == read


def test_a_thread_that_acts_has_ended_when_it_is_stopped() -> None:
    acts: list[float] = []
    stop = RealTime().every(0.0, lambda: acts.append(time.monotonic()))
    give_up = time.monotonic() + 30
    while len(acts) < 3:
        assert time.monotonic() < give_up
    stop()
    count = len(acts)
    assert [thread for thread in threading.enumerate() if "go_on" in thread.name] == []
    assert len(acts) == count


def test_simulated_acts_come_in_order_when_they_are_due() -> None:
    clock, seen = SimulatedTime(), []
    stop = clock.every(0.3, lambda: seen.append(("a", clock.now_ns())))
    clock.every(0.5, lambda: seen.append(("b", clock.now_ns())))
    clock.passed(650_000_000)
    stop()
    clock.sleep(0.5)
    assert [(name, now // 1_000_000) for name, now in seen] == [
        ("a", 0), ("b", 0), ("a", 300), ("b", 500), ("a", 600), ("b", 1000),
    ]  # fmt: skip
    assert clock.now_ns() == 1_150_000_000


# The real agent in a real process.


@pytest.fixture
def agent() -> Iterator[Agent]:
    running = Agent()
    yield running
    running.process.kill()
    running.process.wait()


def test_the_real_agent_meters_with_a_replayed_trace_in_no_time(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({**COUNTER, "wraps_at": 5e6}))
    hours = Plan(window_s=600.0, idle_s=3600.0, repeats=2, settle_s=5.0, read_every_s=1.0)
    request = asked(tmp_path, plan=hours, models=2)
    sent = agent.ask(replace(request, meter_options={"trace": str(path), "clock": "simulated"}))
    energised = [message for message in sent if isinstance(message, Energised)]
    assert [message.id for message in energised] == ["m0", "m1"]
    assert (energised[0].facts["name"], energised[0].facts["wraps_at"]) == ("replay", 5e6)
    load = energised[1].windows[1]
    steps = [later[1] - earlier[1] for earlier, later in pairwise(load["readings"])]
    assert sum(step % 5e6 for step in steps) / load["calls"] == pytest.approx(4.0 * CALL_NS / 1e3, rel=0.001)
    assert isinstance(sent[-1], Done)
    assert sent[-1].before["time_ns"] < sent[-1].after["time_ns"]


def test_the_real_agent_meters_in_real_time(agent: Agent, tmp_path: Path) -> None:
    plan = Plan(window_s=0.05, idle_s=0.05, repeats=1, settle_s=0.01, read_every_s=0.002)
    request = replace(asked(tmp_path, plan=plan), meter_options={"trace": COUNTER})
    _, energised, _ = agent.ask(request)
    assert isinstance(energised, Energised)
    for window in energised.windows:
        assert window["to_ns"] - window["from_ns"] >= 0.05e9
        assert len(window["readings"]) >= 3
        expected_uw = IDLE_UW + (LOAD_UW if window["kind"] == "load" else 0)
        spent_ns = window["readings"][-1][0] - window["readings"][0][0]
        assert power_uw(window) == pytest.approx(expected_uw, abs=expected_uw * 2e6 / spent_ns)


@pytest.mark.parametrize(
    ("meter", "options", "what"),
    [
        ("oracle", {}, "must be one of"),
        ("replay", {}, "must name a JSON file"),
        ("command", {"command": "/no/such"}, "runs here"),
    ],
)
def test_a_meter_that_is_not_there_fails_the_request(
    agent: Agent, meter: str, options: dict[str, Any], what: str, tmp_path: Path
) -> None:
    (failure,) = agent.ask(replace(asked(tmp_path), meter=meter, meter_options=options))
    assert isinstance(failure, Failure)
    assert (failure.id, failure.reason) == (None, "meter")
    assert what in failure.message
    assert isinstance(agent.ask(Look())[0], Done)


def test_an_unknown_engine_fails_the_request(agent: Agent, tmp_path: Path) -> None:
    (failure,) = agent.ask(replace(asked(tmp_path), engine="warp"))
    assert isinstance(failure, Failure)
    assert (failure.id, failure.reason) == (None, "engine")


def test_it_measures_as_before_after_metering(agent: Agent, tmp_path: Path) -> None:
    agent.ask(asked(tmp_path))
    sent = agent.ask(Measure("fake", {}, [fake(tmp_path, "a")], fake(tmp_path, "null", ns=0).path))
    assert [type(message).__name__ for message in sent] == ["Opening", "Measured", "Done"]


def test_a_look_at_the_clock_tells_nothing_else(agent: Agent) -> None:
    before_ns = time.perf_counter_ns()
    (done,) = agent.ask(Look(clock_only=True))
    assert isinstance(done, Done)
    assert set(done.before) == {"time_ns"}
    assert before_ns <= done.before["time_ns"] <= time.perf_counter_ns()


def test_a_second_agent_watches_while_the_first_is_at_work(agent: Agent, tmp_path: Path) -> None:
    """Both clocks are this machine's, so the one's windows lie in the other's readings as they are."""
    watcher = Agent()
    watched = Energise("", {}, [], "replay", {"trace": COUNTER}, Plan(window_s=3.0, read_every_s=0.005))
    watcher.say(encode(watched))
    assert watcher.read() == Opening("")
    plan = Plan(window_s=0.2, idle_s=0.2, repeats=1, settle_s=0.0, read_every_s=1.0)
    _, energised, _ = agent.ask(replace(asked(tmp_path, plan=plan), meter_options={"trace": COUNTER}))
    seen = watcher.read()
    assert isinstance(energised, Energised)
    assert isinstance(seen, Energised)
    (watch,) = seen.windows
    assert (seen.id, watch["kind"], watch["calls"]) == ("", "watch", 0)
    assert isinstance(watcher.read(), Done)
    assert watcher.end() == 0
    for window in energised.windows:
        inside = [at_ns for at_ns, _ in watch["readings"] if window["from_ns"] <= at_ns <= window["to_ns"]]
        assert len(inside) >= 3
