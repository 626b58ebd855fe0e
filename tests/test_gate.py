"""When a phone is measured and when it is waited for; what the conditions around a batch give away."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.protocol import Done
from host.devices import Unit, choose_cpus, find_unit
from host.gate import Gate, capped, objections, wait_until_fit
from host.profile import profile
from host.quality import batch_doubts, clocks_between
from host.setting import Progress, Setting, Summary, Workload
from lut_db.aggregate import is_clean
from lut_db.records import Measurement
from lut_db.store import open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from tests.virtual_phone.phone import VirtualPhone

COOL: dict[str, Any] = {
    "thermal_status": 0,
    "battery_mc": 30_000,
    "caps_khz": {"0": [1_900_800, 1_900_800], "4": [2_361_600, 2_361_600]},
    "cluster_cpus": {"0": [0, 1, 2, 3], "4": [4, 5, 6, 7]},
    "probe_ns": 1_000_000,
}
CAPPED = {**COOL, "caps_khz": {**COOL["caps_khz"], "4": [1_200_000, 2_361_600]}}
HOT = {**COOL, "thermal_status": 2}
QUICKEST_NS = 1_000_000


def why_not(conditions: dict[str, Any], cpus: tuple[int, ...] = (7,), gate: Gate | None = None) -> tuple[str, ...]:
    return objections(conditions, gate or Gate(), cpus, QUICKEST_NS)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"thermal_status": 1}, "thermal status 1"),
        ({"battery_mc": 40_000}, "battery at 40.0 degrees"),
        ({"probe_ns": 1_250_000}, "25 % slower than at its quickest"),
        ({"caps_khz": CAPPED["caps_khz"]}, "processors 4,5,6,7 capped at 1.20 of 2.36 GHz"),
    ],
)
def test_each_sign_of_heat_speaks_against_measuring(changed: dict[str, Any], reason: str) -> None:
    assert why_not({**COOL, **changed}) == (reason,)


def test_a_cool_phone_is_fit() -> None:
    assert why_not(COOL) == ()


def test_a_phone_that_tells_nothing_is_fit() -> None:
    assert why_not({}) == ()


def test_the_cap_of_a_cluster_that_is_not_used_does_not_matter() -> None:
    assert why_not(CAPPED, cpus=(0, 1)) == ()
    assert why_not(CAPPED, cpus=(3, 4)) == why_not(CAPPED)
    assert why_not(CAPPED, cpus=()) == why_not(CAPPED)


def test_a_cap_of_unknown_processors_counts() -> None:
    assert capped({"caps_khz": {"4": [1, 2]}}, (0,)) == [("4", 1, 2)]


def test_a_slow_probe_says_nothing_where_the_clock_is_emulated_or_new() -> None:
    slow = {**COOL, "probe_ns": 9_000_000}
    assert why_not(slow, gate=Gate(probe_slowdown=None)) == ()
    assert objections(slow, Gate(), (7,), None) == ()


@dataclass(slots=True)
class Wait:
    """A phone that is looked at by a clock of its own; what it says, one look after the other, the last for ever."""

    looks: list[dict[str, Any]]
    now_s: float = 0.0
    told: list[str] = field(default_factory=list)

    def look(self) -> dict[str, Any]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, gate: Gate) -> tuple[str, ...]:
        return wait_until_fit(
            self.look, gate, (7,), lambda: QUICKEST_NS, self.told.append, lambda: self.now_s, self.sleep
        )


def test_a_fit_phone_is_looked_at_once_and_nothing_told() -> None:
    wait = Wait([COOL, HOT])
    assert (wait.run(Gate()), wait.told, wait.now_s, wait.looks) == ((), [], 0.0, [HOT])


def test_a_hot_phone_is_waited_for_and_each_reason_told_once() -> None:
    wait = Wait([HOT, HOT, CAPPED, COOL])
    assert wait.run(Gate(poll_s=5)) == ()
    assert wait.now_s == 15
    assert wait.told == [
        "waiting until it is fit: thermal status 2",
        "waiting until it is fit: processors 4,5,6,7 capped at 1.20 of 2.36 GHz",
        "fit again",
    ]


def test_patience_ends_and_the_doubt_stays() -> None:
    wait = Wait([HOT])
    assert wait.run(Gate(patience_s=60, poll_s=5)) == ("throttled",)
    assert wait.now_s == 60
    assert wait.told[-1] == "measuring all the same, marked as throttled: thermal status 2"


def test_without_patience_it_is_measured_at_once() -> None:
    wait = Wait([HOT, COOL])
    assert (wait.run(Gate(patience_s=0)), wait.now_s) == (("throttled",), 0.0)


def around(before: dict[str, Any], after: dict[str, Any], cpus: tuple[int, ...] = (7,)) -> tuple[str, ...]:
    return batch_doubts(Done(before, after), None, 1.0, cpus)


def test_a_cool_batch_has_no_doubts() -> None:
    assert around(COOL, COOL) == ()


@pytest.mark.parametrize("hot", [HOT, CAPPED])
def test_heat_that_came_or_went_during_a_batch_is_a_doubt(hot: dict[str, Any]) -> None:
    assert around(COOL, hot) == around(hot, COOL) == ("throttled",)


def test_a_cap_of_another_cluster_is_no_doubt() -> None:
    assert around(CAPPED, CAPPED, cpus=(0,)) == ()


def test_only_the_clocks_of_the_processors_in_use_tell_of_throttling() -> None:
    before, after = {"freq_khz": {"cpu0": 2000, "cpu7": 3000}}, {"freq_khz": {"cpu0": 300, "cpu7": 3000}}
    assert around(before, after, cpus=(7,)) == ()
    assert around(before, after, cpus=(0,)) == ("throttled",)
    assert around(before, after, cpus=()) == ("throttled",)


def test_a_plug_that_was_pulled_or_put_in_is_a_doubt() -> None:
    assert around({"charging": True}, {"charging": False}) == ("charging-changed",)
    assert around({"charging": True}, {"charging": True}) == ()
    assert around({"charging": True}, {}) == ()


def ticks(slow: int, full: int) -> dict[str, Any]:
    return {**COOL, "time_in_state": {"4": {"1000000": slow, "2361600": full}}}


@pytest.mark.parametrize(
    ("slow", "full", "cpus", "doubts"),
    [
        (80, 20, (7,), ("slow-clock",)),
        (20, 80, (7,), ()),
        (80, 20, (0,), ()),
        (0, 0, (7,), ()),
    ],
)
def test_most_of_a_batch_below_full_clock_is_a_doubt(
    slow: int, full: int, cpus: tuple[int, ...], doubts: tuple[str, ...]
) -> None:
    assert around(ticks(1000, 1000), ticks(1000 + slow, 1000 + full), cpus) == doubts


def test_the_seconds_at_each_clock_take_the_place_of_the_counters() -> None:
    before, after = clocks_between(ticks(100, 100), ticks(150, 100))
    assert (before, after) == (COOL, {**COOL, "clock_s": {"4": {"1000000": 0.5}}})
    assert clocks_between(ticks(100, 100), ticks(100, 100)) == (COOL, COOL)


def test_clocks_that_are_first_told_afterwards_count_from_nothing() -> None:
    _, after = clocks_between({}, ticks(0, 250))
    assert after["clock_s"] == {"4": {"2361600": 2.5}}


OPERATORS = tuple(make_op("relu", TensorSpec((1, side))) for side in range(2, 6))
PATIENT = Gate(probe_slowdown=None, poll_s=0.01, patience_s=300)


@dataclass(slots=True)
class Run:
    """A profile run on a phone that something happens to at the second pass."""

    unit: Unit
    db: Path
    on_second_pass: Callable[[], None] = lambda: None
    on_wait: Callable[[], None] = lambda: None
    told: list[str] = field(default_factory=list)

    def profile(self, gate: Gate) -> Summary:
        setting = Setting("fake", choose_cpus(1, clusters=self.unit.clusters), gate=gate)
        with open_store(self.db) as store:
            return profile(store, self.unit, setting, Workload(operators=OPERATORS), Progress(self._at, self._waiting))

    def rows(self) -> list[Measurement]:
        with open_store(self.db) as store:
            (target,) = store.targets()
            return list(store.measurements(target))

    def _at(self, stage: str, done: int, total: int) -> None:
        if (stage, done) == ("pass 2", 0):
            self.on_second_pass()

    def _waiting(self, reason: str) -> None:
        self.told.append(reason)
        self.on_wait()


HEATS: tuple[tuple[Callable[[VirtualPhone], None], str], ...] = (
    (lambda phone: phone.heat(status=3), "thermal status 3"),
    (lambda phone: phone.heat(battery_mc=43_500), "battery at 43.5 degrees"),
    (lambda phone: phone.cap_frequency(1, 1_200_000), "capped at 1.20 of"),
)


def test_a_phone_that_gets_hot_during_a_run_is_waited_for_and_the_run_goes_on(
    fresh_835: VirtualPhone, tmp_path: Path
) -> None:
    """One kind of heat after the other: each is seen, and gone when it was told."""
    fresh_835.become("twocore")
    heats = iter(HEATS)

    def next_heat() -> None:
        fresh_835.reset("twocore")
        for heat, _ in itertools.islice(heats, 1):
            heat(fresh_835)

    run = Run(find_unit(fresh_835.serial), tmp_path / "lut.db", next_heat, next_heat)
    summary = run.profile(PATIENT)
    assert [expected in text for text, (_, expected) in zip(run.told, HEATS, strict=False)] == [True] * 3
    assert run.told[3:] == ["fit again"]
    assert (summary.measured, summary.doubts["throttled"]) == (2 * len(OPERATORS), 0)


@pytest.fixture(scope="module")
def hot_run(phone_835: VirtualPhone, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a phone that never cools, with little patience; afterwards it is cool."""
    phone_835.reset("snapdragon835")
    phone_835.heat(battery_mc=43_500)
    run = Run(find_unit(phone_835.serial), tmp_path_factory.mktemp("hot") / "lut.db")
    run.profile(replace(PATIENT, patience_s=0.05))
    phone_835.reset("snapdragon835")
    return run


def test_the_rows_of_a_phone_that_stays_hot_are_marked(hot_run: Run) -> None:
    rows = hot_run.rows()
    assert len(rows) == 3 * len(OPERATORS)
    assert all("throttled" in row.doubts and not is_clean(row.doubts) for row in rows)


def test_a_phone_that_stays_hot_is_waited_for_only_once(hot_run: Run) -> None:
    waiting, *others = hot_run.told
    assert waiting == "waiting until it is fit: battery at 43.5 degrees"
    assert others == ["measuring all the same, marked as throttled: battery at 43.5 degrees"] * 3


def test_the_rows_of_a_phone_come_with_its_build_and_conditions(hot_run: Run) -> None:
    with sqlite3.connect(hot_run.db) as connection:
        ((text,), *_) = connection.execute("select before from session")
    before = json.loads(text)
    assert before["fingerprint"].startswith("acme/vphone835")
    assert (before["battery_mc"], before["battery_percent"], before["charging"]) == (43_500, 87, True)
    assert before["cluster_cpus"] == {"0": [0, 1, 2, 3], "4": [4, 5, 6, 7]}


def test_the_quickest_probe_is_kept_for_the_processors_and_the_interpreter(hot_run: Run) -> None:
    with open_store(hot_run.db) as store:
        (device,) = store.devices()
        (target,) = store.targets()
    (probed,) = device.facts["probe_ns"]
    assert probed.startswith(f"cpus {','.join(map(str, target.cpus))} bundle-")


def test_what_was_measured_hot_is_measured_again_by_the_next_run(hot_run: Run, tmp_path: Path) -> None:
    again = Run(hot_run.unit, Path(shutil.copy(hot_run.db, tmp_path)))
    summary = again.profile(PATIENT)
    assert (summary.measured, summary.doubts["throttled"]) == (2 * len(OPERATORS), 0)
