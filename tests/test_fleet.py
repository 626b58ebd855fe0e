"""Fleets: how a sweep is split, what units are off by, what is merged, and a sweep that survives what happens to it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.fleet import main as benchmark
from host import fleet, fleet_group, fleet_worker
from host.cli_fleet import reached_by_all
from host.cli_options import Asked
from host.errors import DeviceUnavailable, HostError, UsageError
from host.fleet import Sweep, run_sweep
from host.fleet_factors import MOST, judge
from host.fleet_group import Group
from host.fleet_ray import Announced, Errand, HostGone, open_fleet, resources_of
from host.fleet_split import Item, as_workload, overlap_of, take
from host.fleet_worker import Greeting, Order, Refusal
from host.setting import Summary, Workload
from host.show_fleet import show_sweep, told_of
from host.transport import Launch
from lut_db.errors import StoreUnavailable
from lut_db.leases import LeaseStore
from lut_db.lut import how_to_measure
from lut_db.records import MERGED, Device, Lowering, Measurement, Session, Target
from lut_db.store import LutStore, open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import NativeOp, OpSpec, TensorSpec
from search.evaluators.ray_cluster import ENVIRONMENT
from tests import fleet_trial
from tests.fleet_trial import How
from tests.virtual_phone.availability import missing

EVERY = tuple(make_op("relu", TensorSpec((1, 8 * side))) for side in range(1, 301))
OPERATORS, OTHERS = EVERY[:200], EVERY[200:]
WORKLOAD = Workload(operators=OPERATORS)
MODEL, TITLE = "Acme 835", "snapdragon835"
LATENCIES = {op.key: 1000.0 * (1 + number) for number, op in enumerate(EVERY)}
A, B, C, D = (f"{TITLE}@{name}" for name in "abcd")
BUSY = Refusal("shelf: a database must be readable and writable, but got: it is locked; wait for it", database=True)


def target_of(unit: str, version: str = "1") -> Target:
    return Target(unit, "fake", version, "cpu", "float32", 1, (7,), "neon", source="simulated")


@dataclass
class Pretended:
    """A fleet whose units write made-up measurements; ``orders`` is what each was given.

    Attributes:
        factors: of units by name.
        ends: of units, after how many errands their host ends.
        deadly: an operator that ends any process which is given it.
        unexportable: one that is refused.
        instead: what is answered to a unit's errand of that number, of which the first is to greet.
        slow: how often such an errand is waited for in vain.
        tick: is called whenever the sweep waits.
    """

    store: LutStore
    factors: dict[str, float]
    ends: dict[str, int] = field(default_factory=dict)
    deadly: OpSpec | None = None
    unexportable: OpSpec | None = None
    versions: dict[str, str] = field(default_factory=dict)
    instead: dict[tuple[str, int], Any] = field(default_factory=dict)
    slow: dict[tuple[str, int], int] = field(default_factory=dict)
    orders: list[tuple[str, Workload]] = field(default_factory=list)
    started: Counter[str] = field(default_factory=Counter)
    answers: dict[int, Any] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)
    address: str = "10.0.0.1"
    tick: Callable[[], None] = lambda: None

    def units(self) -> dict[str, Announced]:
        left = [name for name in self.factors if self.ends.get(name, 1) > 0]
        return {name: Announced(name, name, "shelf", "10.0.0.2") for name in left}

    def start(self, unit: Announced, work: Callable[..., Any], *arguments: Any) -> Errand:
        errand, number = Errand(len(self.answers), 0.0), (unit.name, self.started[unit.name])
        self.started[unit.name] += 1
        if unit.name in self.ends:
            self.ends[unit.name] -= 1
        given = arguments[2] if len(arguments) == 3 else None
        self.waits[errand.reference] = self.slow.get(number, 0)
        self.answers[errand.reference] = self.instead.get(number) or self._answer(unit.name, given)
        return errand

    def wait(self, errands: Sequence[Errand], limit_s: float) -> list[Errand]:
        self.tick()
        ended = [errand for errand in errands if self.waits[errand.reference] <= 0]
        for errand in errands:
            self.waits[errand.reference] -= 1
        return ended

    def result(self, errand: Errand) -> Any:
        answer = self.answers[errand.reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, errand: Errand) -> None:
        pass

    def _answer(self, name: str, given: Workload | None) -> Any:
        ended = self.ends.get(name, 1) <= 0
        if ended or (given is not None and self.deadly in given.operators):
            return HostGone("it has ended", crashed=not ended)
        return self._greet(name) if given is None else self._measure(name, given)

    def _greet(self, name: str) -> Greeting:
        self.store.put_device(Device(name, MODEL))
        return Greeting(name, MODEL, "shelf", target_of(name, self.versions.get(name, "1")), 2, False)

    def _measure(self, name: str, workload: Workload) -> Summary:
        self.orders.append((name, workload))
        able = [op for op in workload.operators if op != self.unexportable]
        put(self.store, target_of(name, self.versions.get(name, "1")), able, self.factors[name])
        return Summary(name, refused={op.key: "no" for op in workload.operators if op == self.unexportable})


def put(store: LutStore, target: Target, operators: Sequence[OpSpec], factor: float = 1.0) -> None:
    store.put_device(Device(target.device, MODEL))
    store.put_target(target)
    rows = [Lowering(op.key, "*", (op.key,), "plain", tuple("plain" for _ in op.inputs)) for op in operators]
    store.put_lowerings(target, rows, [NativeOp(op.key, 0) for op in operators])
    for number in range(2):
        times = {op.key: round(LATENCIES[op.key] * factor) for op in operators}
        made = [Measurement(key, ((ns,) * 10,), (0.0,), 1, 0.0) for key, ns in times.items()]
        store.append(target, Session(float(number), "1", "1", {}, {}), made, str(uuid.uuid4()))


def swept(store: LutStore, there: Pretended, workload: Workload = WORKLOAD, **more: Any) -> list[Group]:
    order = Order("sqlite://", "", "", Asked("fake"), Launch())
    return run_sweep(there, store, order, Sweep((TITLE,), workload, **more))  # type: ignore[arg-type]


def merged_ns(store: LutStore, group: Group) -> dict[str, float]:
    return {entry.key: entry.latency_ns for entry in store.lut(group.target).entries}


def keys_of(operators: Sequence[OpSpec]) -> set[str]:
    return {op.key for op in operators}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LutStore]:
    monkeypatch.setattr(fleet, "TICK_S", 0.0)
    monkeypatch.setattr(fleet, "REST_S", 0.0)
    with open_store(tmp_path / "lut.db") as opened:
        yield opened


@dataclass
class Clock:
    """Passes only when it is told to, by 100 s."""

    now_s: float = field(default_factory=time.monotonic)

    def monotonic(self) -> float:
        return self.now_s

    def tick(self) -> None:
        self.now_s += 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The sweep's."""
    clock = Clock()
    for module in (fleet, fleet_group):
        monkeypatch.setattr(module, "time", clock)
    return clock


def noisy(factors: dict[str, float]) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    return {
        unit: {op.key: LATENCIES[op.key] * factor * float(np.exp(rng.normal(0, 0.01))) for op in OPERATORS}
        for unit, factor in factors.items()
    }


def judged(factors: dict[str, float], limit: float = 0.1) -> Any:
    return judge(noisy(factors), {}, limit)


def test_factors_are_found_with_intervals_that_hold_them() -> None:
    verdict = judged({"a": 0.97, "b": 1.0, "c": 1.03})
    for unit, true in (("a", 0.97), ("b", 1.0), ("c", 1.03)):
        factor = verdict.factors[unit]
        assert factor.factor == pytest.approx(true, abs=0.005)
        assert factor.low < factor.factor < factor.high < factor.low + 0.01


def test_units_that_may_as_well_be_alike_are_not_corrected() -> None:
    assert {factor.applied for factor in judged({"a": 1.0, "b": 1.0}).factors.values()} == {1.0}


def test_a_unit_too_far_off_is_refused_and_the_others_are_compared_without_it() -> None:
    verdict = judged({"a": 1.0, "b": 1.01, "c": 1.0, "d": 1.3})
    assert set(verdict.refused) == {"d"}
    assert "1.29" in verdict.refused["d"] or "1.30" in verdict.refused["d"]
    assert verdict.factors["a"].factor == pytest.approx(0.997, abs=0.004)


def test_of_two_units_that_differ_the_fuller_table_counts() -> None:
    tables = noisy({"a": 1.0, "b": 1.5})
    verdict = judge({**tables, "a": dict(list(tables["a"].items())[:30])}, {}, 0.1)
    assert set(verdict.factors) == {"b"}
    assert "none can tell" in verdict.refused["a"]


def test_a_unit_with_too_little_in_common_is_refused() -> None:
    shared = noisy({"a": 1.0, "b": 1.0})
    shared["c"] = dict(list(shared["a"].items())[:3])
    assert "but has 3" in judge(shared, {}, 0.1).refused["c"]


def test_a_full_table_with_little_in_common_gives_way_to_two_that_have_much() -> None:
    tables = noisy({"a": 1.0, "b": 1.0, "c": 1.0})
    keys = list(tables["a"])
    parts = {"a": keys[:50], "b": keys[:50], "c": keys[45:]}
    shared = {unit: {key: tables[unit][key] for key in part} for unit, part in parts.items()}
    assert set(judge(shared, {}, 0.1).refused) == {"c"}


def test_a_unit_that_is_away_makes_room_for_those_that_are_here() -> None:
    tables = noisy({"here": 1.0, "also": 1.02, "away": 1.0})
    keys = list(tables["here"])
    parts = {"here": keys[:150], "also": keys[:30], "away": keys[100:]}
    shared = {unit: {key: tables[unit][key] for key in part} for unit, part in parts.items()}
    known = judged({"away": 1.05, "x": 1.0}).factors["away"]
    verdict = judge(shared, {"away": known}, 0.1, away={"away"})
    assert verdict.factors["away"] == known
    assert verdict.factors["also"].operators == 30
    assert set(judge(shared, {}, 0.1, away={"away"}).refused) == {"away"}


def test_a_factor_that_is_kept_is_put_on_the_scale_of_the_new_ones() -> None:
    """The others are compared with another unit than before, so their middle is another."""
    before = judged({"a": 1.0, "b": 1.0, "away": 1.06}).factors
    tables = noisy({"a": 1.0, "b": 1.0, "away": 1.06, "new": 1.08})
    keys = list(tables["a"])
    parts = {"a": keys, "b": keys, "away": keys[:50], "new": keys[50:]}
    shared = {unit: {key: tables[unit][key] for key in part} for unit, part in parts.items()}
    after = judge(shared, before, 0.1, away={"away"}).factors
    for unit, true in (("b", 1.0), ("away", 1.06), ("new", 1.08)):
        assert after[unit].factor / after["a"].factor == pytest.approx(true, abs=0.003)
    kept, old = after["away"], before["away"]
    assert (kept.low / kept.factor, kept.high / kept.factor) == pytest.approx(
        (old.low / old.factor, old.high / old.factor)
    )
    assert kept.operators == old.operators


def test_a_comparison_takes_no_more_operators_than_it_needs() -> None:
    tables = {unit: {str(key): 1.0 + key for key in range(1000)} for unit in "ab"}
    assert judge(tables, {}, 0.1).factors["a"].operators == MOST


def test_the_overlap_goes_from_the_lightest_to_the_heaviest_and_is_always_the_same() -> None:
    chosen = overlap_of(WORKLOAD, 0.05, 0)
    assert len(chosen) == len(set(chosen)) == 30
    assert chosen == overlap_of(Workload(operators=OPERATORS[::-1]), 0.05, 0)
    sizes = [op.inputs[0].shape[1] for op in chosen]
    assert sizes == sorted(sizes)
    assert min(sizes) < 8 * 10
    assert max(sizes) > 8 * 190


def test_chunks_shrink_towards_the_end_and_hold_everything_once() -> None:
    queue, chunks = deque[Item](OPERATORS), []
    while queue:
        chunks.append(take(queue, 2))
    assert [len(chunk) for chunk in chunks] == [66, 64, 64, 6]
    assert as_workload([item for chunk in chunks for item in chunk]).operators == OPERATORS


def test_hosts_announce_units_and_devices() -> None:
    units = [("snapdragon835@a", "snapdragon835@a"), ("snapdragon835@b", "snapdragon835@b"), ("pi4@c", "ssh:pi@c")]
    assert resources_of(units) == {
        "unit:snapdragon835@a": 1, "unit:snapdragon835@b": 1, "unit:pi4@c=ssh:pi@c": 1,
        "device:snapdragon835": 2, "device:pi4": 1,
    }  # fmt: skip


def test_units_that_are_alike_share_a_sweep_and_their_table_is_corrected(store: LutStore) -> None:
    there = Pretended(store, {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.06})
    (group,) = swept(store, there)
    told = told_of(store, group)
    assert (told["left"], told["merged_measurements"]) == (0, 2 * 200 + 2 * 30)
    assert sum(unit["operators"] for unit in told["units"]) == 200 + 30
    entries = store.lut(group.target).by_key
    middle = 1.06**0.5
    assert [entries[op.key].latency_ns for op in OPERATORS] == pytest.approx(
        [LATENCIES[op.key] * middle for op in OPERATORS], rel=0.002
    )


def test_a_sweep_that_is_repeated_measures_nothing_and_doubles_nothing(store: LutStore) -> None:
    units = {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.06}
    (first,) = swept(store, Pretended(store, units))
    digest = store.digest(first.target)
    again = Pretended(store, units)
    (second,) = swept(store, again)
    assert again.orders == []
    assert store.digest(second.target) == digest
    assert second.already == 170


def test_what_a_refused_unit_measured_goes_back(store: LutStore) -> None:
    there = Pretended(store, {f"{TITLE}@{name}": factor for name, factor in (("a", 1.0), ("b", 1.0), ("c", 1.4))})
    (group,) = swept(store, there)
    told = told_of(store, group)
    assert set(told["refused_units"]) == {f"{TITLE}@c"}
    assert told["left"] == 0
    entries = store.lut(group.target).by_key
    assert {op.key: entries[op.key].latency_ns for op in OPERATORS} == {op.key: LATENCIES[op.key] for op in OPERATORS}


@pytest.mark.parametrize("slow", [{(C, 2): 9, (D, 1): 1}, {(D, 1): 3}], ids=["at work", "before"])
def test_what_a_unit_measured_before_or_while_it_is_refused_goes_back(
    store: LutStore, slow: dict[tuple[str, int], int]
) -> None:
    """Another unit ends the overlap when the odd one has got of what they share."""
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4, D: 1.0}, slow=slow)
    (group,) = swept(store, there)
    assert [len(given.operators) for unit, given in there.orders if unit == C][:2] == [30, 42]
    assert set(group.verdict.refused) == {C}
    assert group.left == []
    assert merged_ns(store, group) == {op.key: LATENCIES[op.key] for op in OPERATORS}


def test_what_a_unit_measured_goes_back_also_where_the_last_of_the_overlap_is_given_up(store: LutStore) -> None:
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4, D: 1.0}, ends={D: 2})
    (group,) = swept(store, there)
    assert set(group.verdict.refused) == {C}
    assert keys_of(OPERATORS) == merged_ns(store, group).keys()


def test_what_only_a_refused_unit_settled_before_is_measured_by_others(store: LutStore) -> None:
    for unit in (A, B):
        put(store, target_of(unit), OPERATORS[:100])
    put(store, target_of(C), OPERATORS, 1.4)
    known = len(set(OPERATORS[:100]) - set(overlap_of(WORKLOAD, 0.05, 0)))
    for factors, already in (({A: 1.0, B: 1.0}, known), ({A: 1.0, B: 1.0, C: 1.4}, 170)):
        (group,) = swept(store, Pretended(store, factors))
        assert group.already == already
        assert set(group.verdict.refused) == {C}
        assert group.left == []
        assert merged_ns(store, group) == {op.key: LATENCIES[op.key] for op in OPERATORS}


def test_what_units_that_count_had_their_turn_with_is_not_handed_out_again(store: LutStore) -> None:
    """Neither has settled it, since it cannot be exported, when another unit's part is handed out again."""
    chosen = set(overlap_of(WORKLOAD, 0.05, 0))
    never = next(op for op in OPERATORS if op not in chosen)
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4, D: 1.0}, slow={(D, 1): 3}, unexportable=never)
    (group,) = swept(store, there)
    assert [unit for unit, given in there.orders if never in given.operators] == [A]
    assert (group.left, list(group.refused)) == ([], [never.key])


def test_a_unit_that_is_here_goes_before_a_fuller_table_that_it_has_nothing_in_common_with(store: LutStore) -> None:
    put(store, target_of(A), overlap_of(WORKLOAD, 0.05, 0))
    put(store, target_of(D), OTHERS)
    (group,) = swept(store, Pretended(store, {A: 1.0}))
    assert set(group.verdict.refused) == {D}
    assert group.left == []


def test_a_sweep_ends_where_none_but_refused_units_are_there(store: LutStore) -> None:
    swept(store, Pretended(store, {A: 1.0, B: 1.0, C: 1.4}))
    (group,) = swept(store, Pretended(store, {C: 1.4}), Workload(operators=OTHERS), patience_s=20.0)
    assert set(group.verdict.refused) == {C}
    assert len(group.left) == len(OTHERS) - 30
    assert keys_of(OPERATORS) == merged_ns(store, group).keys()


def test_what_was_measured_is_merged_where_good_units_left_and_only_a_refused_one_is_there(
    store: LutStore, clock: Clock
) -> None:
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4}, ends={A: 3, B: 3}, tick=clock.tick)
    with pytest.raises(DeviceUnavailable, match=f"for 250 s none did: {A}: it has ended; .*{C}: its factor must"):
        swept(store, there, patience_s=250.0)
    (merged,) = (target for target in store.targets() if MERGED in target.options)
    measured = {entry.key: entry.latency_ns for entry in store.lut(merged).entries}
    assert measured == {op.key: LATENCIES[op.key] for op in overlap_of(WORKLOAD, 0.05, 0)}


def test_units_are_judged_without_one_that_only_fails(
    store: LutStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "REST_S", 60.0)
    instead = {(D, number): HostGone("it has ended") for number in range(1, 99)}
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4, D: 1.0}, instead=instead, tick=clock.tick)
    (group,) = swept(store, there)
    assert set(group.verdict.refused) == {C}
    assert group.left == []


def test_a_unit_that_only_fails_gives_way_to_one_that_works_whatever_it_measured_before(
    store: LutStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, target_of(D), OTHERS)
    monkeypatch.setattr(fleet, "REST_S", 60.0)
    instead = {(D, number): HostGone("it has ended") for number in range(1, 99)}
    (group,) = swept(store, Pretended(store, {A: 1.0, D: 1.0}, instead=instead, tick=clock.tick))
    assert set(group.verdict.refused) == {D}
    assert group.left == []


def test_patience_is_not_tried_while_a_unit_is_at_work(store: LutStore, clock: Clock) -> None:
    instead, slow = {(A, 1): HostGone("it has ended")}, {(A, 1): 9}
    there = Pretended(store, {A: 1.0}, instead=instead, slow=slow, tick=clock.tick)
    (group,) = swept(store, there, patience_s=250.0)
    assert (group.members[A].failed, group.left) == (1, [])


def test_patience_ends_where_a_unit_only_fails_and_no_empty_table_is_left(
    store: LutStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "REST_S", 60.0)
    instead = {(A, number): HostGone("it has ended") for number in range(1, 99)}
    with pytest.raises(DeviceUnavailable, match=f"for 250 s none did: {A}: it has ended"):
        swept(store, Pretended(store, {A: 1.0}, instead=instead, tick=clock.tick), patience_s=250.0)
    assert not any(MERGED in target.options for target in store.targets())


def test_a_unit_that_is_away_keeps_its_part_of_the_merged_table(store: LutStore) -> None:
    (first,) = swept(store, Pretended(store, {A: 1.0, B: 1.06}))
    before = merged_ns(store, first)
    (second,) = swept(store, Pretended(store, {A: 1.0}), Workload(operators=OTHERS))
    assert second.verdict.refused == {}
    assert second.verdict.factors == first.verdict.factors
    after = merged_ns(store, second)
    assert after.keys() == keys_of(EVERY)
    assert {key: after[key] for key in before} == before


def test_units_that_are_away_keep_their_factors_where_a_new_one_has_nothing_in_common(store: LutStore) -> None:
    (first,) = swept(store, Pretended(store, {A: 1.0, B: 1.06}))
    (second,) = swept(store, Pretended(store, {C: 1.0}), Workload(operators=OTHERS))
    assert second.verdict.refused == {}
    assert {unit: second.verdict.factors[unit] for unit in (A, B)} == first.verdict.factors
    assert merged_ns(store, second).keys() == keys_of(EVERY)


def test_factors_of_another_engine_are_not_taken_for_ones_own(store: LutStore) -> None:
    units = {A: 1.0, B: 1.06}
    swept(store, Pretended(store, dict.fromkeys(units, 1.0), versions=dict.fromkeys(units, "2")))
    (first,) = swept(store, Pretended(store, units))
    swept(store, Pretended(store, dict.fromkeys(units, 1.0), versions=dict.fromkeys(units, "2")))
    (again,) = swept(store, Pretended(store, {C: 1.0}), Workload(operators=OTHERS))
    assert {unit: again.verdict.factors[unit] for unit in units} == first.verdict.factors


def test_a_unit_that_measured_nothing_is_no_refused_one(store: LutStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = HostGone("it has ended")
    monkeypatch.setattr(fleet, "REST_S", 60.0)
    (group,) = swept(store, Pretended(store, {A: 1.0, B: 1.0}, instead={(B, 1): gone}))
    assert group.verdict.refused == {}
    assert set(group.verdict.factors) == {A}


def test_a_host_that_ends_gives_its_operators_back(store: LutStore) -> None:
    there = Pretended(store, {A: 1.0, B: 1.0}, ends={B: 3})
    (group,) = swept(store, there)
    assert group.given_back > 0
    assert told_of(store, group)["left"] == 0
    assert len(store.lut(group.target).entries) == 200


def test_what_every_unit_measures_is_not_given_back(store: LutStore) -> None:
    (group,) = swept(store, Pretended(store, {A: 1.0, B: 1.0}, instead={(B, 1): HostGone("it has ended")}))
    assert (group.members[B].failed, group.given_back) == (1, 0)
    assert set(group.verdict.factors) == {A, B}


def test_units_with_another_engine_are_swept_side_by_side(store: LutStore) -> None:
    there = Pretended(store, {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.0}, versions={f"{TITLE}@b": "2"})
    groups = swept(store, there)
    assert len({group.target.key for group in groups}) == 2
    assert [told_of(store, group)["left"] for group in groups] == [0, 0]


def test_an_operator_that_processes_keep_dying_of_is_left_at_last(store: LutStore) -> None:
    chosen = set(overlap_of(WORKLOAD, 0.05, 0))
    deadly = next(op for op in OPERATORS if op not in chosen)
    there = Pretended(store, {A: 1.0, B: 1.0, C: 1.4, D: 1.0}, deadly=deadly, slow={(D, 1): 60})
    (group,) = swept(store, there)
    assert set(group.verdict.refused) == {C}
    assert group.left == [deadly]
    assert len(store.lut(group.target).entries) == 199


@pytest.mark.parametrize(
    "devices", [(TITLE,), ("msm8998",), ("MSM8998", TITLE), (A,), ("pixel-7", TITLE), ("a b", "Pixel-7")]
)
def test_two_sweeps_of_one_model_exclude_each_other_whatever_it_is_called(
    store: LutStore, devices: tuple[str, ...]
) -> None:
    for model in (TITLE, "a-b"):
        store.leases.acquire(f"fleet:{model}", "elsewhere:1:boot:x", 60.0, lambda owner: False)
    order = Order("sqlite://", "", "", Asked("fake"), Launch())
    with pytest.raises(HostError, match="wait for its end"):
        run_sweep(Pretended(store, {A: 1.0}), store, order, Sweep(devices, WORKLOAD))  # type: ignore[arg-type]
    assert set(store.leases.held()) == {f"fleet:{TITLE}", "fleet:a-b"}


def test_a_sweep_of_another_model_goes_on_beside_it_and_leaves_no_lease(store: LutStore) -> None:
    store.leases.acquire("fleet:pixel-7", "elsewhere:1:boot:x", 60.0, lambda owner: False)
    swept(store, Pretended(store, {A: 1.0}))
    assert set(store.leases.held()) == {"fleet:pixel-7"}


def test_a_sweep_outlives_that_its_lease_cannot_be_renewed_for_once(
    store: LutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def renew(leases: LeaseStore, unit: str, owner: str) -> None:
        tried.append(unit)
        raise StoreUnavailable("it is locked")

    monkeypatch.setattr(fleet, "BEAT_S", -1.0)
    monkeypatch.setattr(LeaseStore, "renew", renew)
    (group,) = swept(store, Pretended(store, {A: 1.0}))
    assert (group.left, set(tried)) == ([], {f"fleet:{TITLE}"})


def test_a_device_that_no_host_announces_is_named_with_those_that_are(store: LutStore) -> None:
    with pytest.raises(DeviceUnavailable, match="pixel@x"):
        swept(store, Pretended(store, {"pixel@x": 1.0}))


def test_a_host_that_looks_at_another_database_says_so(tmp_path: Path) -> None:
    with open_store(tmp_path / "other.db"):
        pass
    order = Order(str(tmp_path / "other.db"), "fleet:x", "me", Asked("fake"), Launch())
    answer = fleet_worker.greet(order, "snapdragon835@a")
    assert isinstance(answer, Refusal)
    assert answer.database
    assert "same for all hosts" in answer.message


def test_a_sweep_ends_where_no_host_ever_reached_the_database(store: LutStore) -> None:
    with pytest.raises(HostError, match="every host must reach the database"):
        swept(store, Pretended(store, {A: 1.0, B: 1.0}, instead={(A, 0): BUSY, (B, 0): BUSY}))


def test_units_that_were_greeted_outlive_a_database_that_is_gone_for_once(store: LutStore) -> None:
    (group,) = swept(store, Pretended(store, {A: 1.0, B: 1.0}, instead={(A, 1): BUSY, (B, 1): BUSY}))
    assert group.left == []


def test_a_unit_that_failed_otherwise_since_does_not_lack_the_database(store: LutStore) -> None:
    """At the second look both rest, and only one of them for the database."""
    gone = HostGone("it has ended")
    instead = {(A, 0): BUSY, (A, 1): gone, (B, 0): gone, (B, 1): BUSY}
    (group,) = swept(store, Pretended(store, {A: 1.0, B: 1.0}, instead=instead))
    assert group.left == []


def test_a_database_that_is_busy_is_not_one_that_a_host_lacks(
    store: LutStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(name: str, launch: Launch) -> None:
        raise StoreUnavailable("it is locked; wait for it")

    store.leases.acquire("fleet:x", "me", 60.0, lambda owner: False)
    monkeypatch.setattr(fleet_worker, "find_unit", busy)
    order = Order(str(tmp_path / "lut.db"), "fleet:x", "me", Asked("fake"), Launch())
    answer = fleet_worker.greet(order, A)
    assert isinstance(answer, Refusal)
    assert (answer.database, "it is locked" in answer.message) == (False, True)
    lacked = fleet_worker.greet(replace(order, db=str(tmp_path / "none.db")), A)
    assert isinstance(lacked, Refusal)
    assert lacked.database


def test_what_lacks_in_a_merged_table_is_measured_by_the_fleet(store: LutStore) -> None:
    (group,) = swept(store, Pretended(store, {A: 1.0}))
    assert f"'chamnet fleet profile --device {TITLE} --all-hosts --engine fake " in how_to_measure(group.target)
    assert f"'chamnet profile --device {A} --engine fake " in how_to_measure(target_of(A))


def test_why_a_unit_failed_is_told_in_a_sentence_and_why_it_is_not_merged_in_full(
    store: LutStore, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Refusal(f"device '{B}' must be connected, but ADB lists no phone; connect it and allow USB debugging")
    instead = {(B, number): lost for number in range(2, 99)}
    (group,) = swept(store, Pretended(store, {A: 1.0, B: 1.0, C: 1.4}, instead=instead))
    told = told_of(store, group)
    show_sweep(told)
    shown = capsys.readouterr().out
    assert f"{B}: device '{B}' must be connected, but ADB lists no phone\n" in shown
    assert f"not merged {C}: its factor must be within 10% of 1" in shown
    assert {unit["unit"]: "USB debugging" in unit["reason"] for unit in told["units"]} == {A: False, B: True, C: False}


def test_a_file_is_no_database_for_several_hosts(store: LutStore, tmp_path: Path) -> None:
    there: Any = Pretended(store, {f"{TITLE}@a": 1.0})
    with pytest.raises(UsageError, match="every host reaches"):
        reached_by_all(str(tmp_path / "lut.db"), there, "")
    assert reached_by_all("postgresql+psycopg://server/db", there, "") == "postgresql+psycopg://server/db"
    there.address = "10.0.0.2"
    assert reached_by_all(str(tmp_path / "lut.db"), there, "") == f"sqlite:///{tmp_path}/lut.db"
    with pytest.raises(UsageError, match="that other hosts or processes use must be a file or a server"):
        reached_by_all("sqlite://", there, "")


class NoToken(Exception):
    """What Ray raises is an error of its own."""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """What a stand-in for Ray was asked to join, and its environment; it lets nobody in."""
    asked: list[tuple[str, dict[str, str]]] = []

    def refuse(address: str, **named: object) -> None:
        asked.append((address, {name: os.environ[name] for name in ENVIRONMENT}))
        raise NoToken("no token was found. Ensure that\n\nand more")

    ray = SimpleNamespace(is_initialized=lambda: False, init=refuse, exceptions=SimpleNamespace(RayError=NoToken))
    monkeypatch.setitem(sys.modules, "ray", ray)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return asked


def test_a_fleet_that_lets_nobody_in_without_its_token_is_one_line(joined: list[tuple[str, dict[str, str]]]) -> None:
    told = r": no token was found; 'chamnet fleet head' .*~/.ray/auth_token"
    with pytest.raises(HostError, match=told) as caught, open_fleet():
        pass
    assert "\n" not in str(caught.value)
    assert joined == [("auto", ENVIRONMENT)]


def test_a_fleet_that_does_not_answer_is_not_waited_for(joined: list[tuple[str, dict[str, str]]]) -> None:
    told = r"must answer at 127.0.0.1:1, but: .*; 'chamnet fleet head' starts one"
    with pytest.raises(HostError, match=told), open_fleet("127.0.0.1:1"):
        pass
    assert joined == []


def test_a_fleet_without_ray_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
    with pytest.raises(HostError, match=r"pip install 'chamnet\[fleet\]'"), open_fleet():
        pass


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (subprocess.TimeoutExpired("trial", 1.0), "must end within"),
        (subprocess.CalledProcessError(1, "trial", stderr="out of memory"), "out of memory"),
    ],
)
def test_what_the_benchmark_found_before_a_trial_failed_is_shown_and_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    message: str,
) -> None:
    first = {"seconds": 1234.0, "units": [{}], "given_back": 0, "left": 0}
    one = {"first": [first], "faults": [], "lost": 0, "doubled": 0}

    def start(how: How, into: Path) -> dict[str, Any]:
        if how.units > 1:
            raise failure
        return one

    monkeypatch.setattr(fleet_trial, "start", start)
    monkeypatch.setattr(sys, "argv", ["fleet", "--json", str(tmp_path / "told.json")])
    with pytest.raises(SystemExit, match=f"trial 'four' failed: .*{message}"):
        benchmark()
    assert json.loads((tmp_path / "told.json").read_text()) == {"one": one}
    assert "1234" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (pip install 'chamnet[fleet]')")
def test_a_killed_node_and_an_unplugged_unit_lose_and_double_no_row(tmp_path: Path) -> None:
    """Three nodes of Ray, four virtual phones. Both faults come when the unit has measured the overlap, twice each, and
    is at work on what it shares with others; the sweep is repeated with what is left."""
    if reason := missing("x86_64"):
        pytest.skip(reason)
    how = How(
        str(tmp_path / "lut.db"), operators=400, call_s=0.02, slow={"fleet2": 1.05}, kill_at=61, unplug_at=61,
        repeat=True,
    )  # fmt: skip
    told = fleet_trial.start(how, tmp_path / "told.json")
    assert set(told["faults"]) == {"node killed", "unit unplugged"}
    assert (told["lost"], told["doubled"], told["merged"]) == (0, 0, 400)
    (first,), (again,) = told["first"], told["again"]
    given_back = {unit["unit"].rpartition("@")[2]: unit["given_back"] for unit in first["units"]}
    assert (given_back["fleet0"], given_back["fleet2"]) == (0, 0)
    assert min(given_back["fleet1"], given_back["fleet3"]) > 0
    assert (first["left"], again["left"]) == (0, 0)
    factors = {unit["unit"].rpartition("@")[2]: unit["factor"]["factor"] for unit in first["units"] if unit["factor"]}
    assert factors["fleet2"] / factors["fleet0"] == pytest.approx(1.05, abs=0.01)
