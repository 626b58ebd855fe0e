"""Fleets: how a sweep is split, what units are off by, what is merged, and a sweep that survives what happens to it."""

from __future__ import annotations

import importlib.util
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import fleet, fleet_worker
from host.cli_fleet import reached_by_all
from host.cli_options import Asked
from host.errors import DeviceUnavailable, HostError, UsageError
from host.fleet import Sweep, run_sweep
from host.fleet_factors import judge
from host.fleet_group import Group, as_json
from host.fleet_ray import Announced, Errand, HostGone, resources_of
from host.fleet_split import Item, as_workload, overlap_of, take
from host.fleet_worker import Greeting, Order, Refusal
from host.setting import Summary, Workload
from host.transport import Launch
from lut_db.records import Device, Lowering, Measurement, Session, Target
from lut_db.store import LutStore, open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import NativeOp, OpSpec, TensorSpec
from tests import fleet_trial
from tests.fleet_trial import How
from tests.virtual_phone.availability import missing

OPERATORS = tuple(make_op("relu", TensorSpec((1, 8 * side))) for side in range(1, 201))
WORKLOAD = Workload(operators=OPERATORS)
MODEL, TITLE = "Acme 835", "snapdragon835"
LATENCIES = {op.key: 1000.0 * (1 + number) for number, op in enumerate(OPERATORS)}


def target_of(unit: str, version: str = "1") -> Target:
    return Target(unit, "fake", version, "cpu", "float32", 1, (7,), "neon", source="simulated")


@dataclass
class Pretended:
    """A fleet whose units write made-up measurements; ``orders`` is what each was given.

    Attributes:
        factors: of units by name.
        ends: of units, after how many errands their host ends.
        deadly: an operator that ends any process which is given it.
    """

    store: LutStore
    factors: dict[str, float]
    ends: dict[str, int] = field(default_factory=dict)
    deadly: OpSpec | None = None
    versions: dict[str, str] = field(default_factory=dict)
    orders: list[tuple[str, Workload]] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    address: str = "10.0.0.1"

    def units(self) -> dict[str, Announced]:
        left = [name for name in self.factors if self.ends.get(name, 1) > 0]
        return {name: Announced(name, name, "shelf", "10.0.0.2") for name in left}

    def start(self, unit: Announced, work: Callable[..., Any], *arguments: Any) -> Errand:
        errand = Errand(len(self.answers), 0.0)
        if unit.name in self.ends:
            self.ends[unit.name] -= 1
        ended = self.ends.get(unit.name, 1) <= 0
        given = arguments[2] if len(arguments) == 3 else None
        if ended or (given is not None and self.deadly in given.operators):
            self.answers[errand.reference] = HostGone("it has ended", crashed=not ended)
        else:
            self.answers[errand.reference] = (
                self._greet(unit.name) if given is None else self._measure(unit.name, given)
            )
        return errand

    def wait(self, errands: Sequence[Errand], limit_s: float) -> list[Errand]:
        return list(errands)

    def result(self, errand: Errand) -> Any:
        answer = self.answers[errand.reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, errand: Errand) -> None:
        pass

    def _greet(self, name: str) -> Greeting:
        self.store.put_device(Device(name, MODEL))
        return Greeting(name, MODEL, "shelf", target_of(name, self.versions.get(name, "1")), 2, False)

    def _measure(self, name: str, workload: Workload) -> Summary:
        self.orders.append((name, workload))
        put(self.store, target_of(name, self.versions.get(name, "1")), workload.operators, self.factors[name])
        return Summary(name)


def put(store: LutStore, target: Target, operators: Sequence[OpSpec], factor: float = 1.0) -> None:
    store.put_device(Device(target.device, MODEL))
    store.put_target(target)
    rows = [Lowering(op.key, "*", (op.key,), "plain", tuple("plain" for _ in op.inputs)) for op in operators]
    store.put_lowerings(target, rows, [NativeOp(op.key, 0) for op in operators])
    for number in range(2):
        times = {op.key: round(LATENCIES[op.key] * factor) for op in operators}
        made = [Measurement(key, ((ns,) * 10,), (0.0,), 1, 0.0) for key, ns in times.items()]
        store.append(target, Session(float(number), "1", "1", {}, {}), made, str(uuid.uuid4()))


def swept(store: LutStore, there: Pretended, **more: Any) -> list[Group]:
    order = Order("sqlite://", "", "", Asked("fake"), Launch())
    return run_sweep(there, store, order, Sweep((TITLE,), WORKLOAD, **more))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LutStore]:
    monkeypatch.setattr(fleet, "TICK_S", 0.0)
    monkeypatch.setattr(fleet, "REST_S", 0.0)
    with open_store(tmp_path / "lut.db") as opened:
        yield opened


def noisy(factors: dict[str, float]) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    return {
        unit: {key: ns * factor * float(np.exp(rng.normal(0, 0.01))) for key, ns in LATENCIES.items()}
        for unit, factor in factors.items()
    }


def judged(factors: dict[str, float], limit: float = 0.1) -> Any:
    return judge(noisy(factors), dict.fromkeys(factors, 200), limit)


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
    verdict = judge(noisy({"a": 1.0, "b": 1.5}), {"a": 30, "b": 200}, 0.1)
    assert set(verdict.factors) == {"b"}
    assert "none can tell" in verdict.refused["a"]


def test_a_unit_with_too_little_in_common_is_refused() -> None:
    shared = noisy({"a": 1.0, "b": 1.0})
    shared["c"] = dict(list(shared["a"].items())[:3])
    assert "3" in judge(shared, dict.fromkeys(shared, 200), 0.1).refused["c"]


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
    assert [len(chunk) for chunk in chunks] == [50, 37, 32, 32, 32, 17]
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
    told = as_json(store, group)
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
    told = as_json(store, group)
    assert set(told["refused_units"]) == {f"{TITLE}@c"}
    assert told["left"] == 0
    entries = store.lut(group.target).by_key
    assert {key: entries[key].latency_ns for key in LATENCIES} == LATENCIES


def test_a_host_that_ends_gives_its_operators_back(store: LutStore) -> None:
    there = Pretended(store, {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.0}, ends={f"{TITLE}@b": 3})
    (group,) = swept(store, there)
    assert group.given_back > 0
    assert as_json(store, group)["left"] == 0
    assert len(store.lut(group.target).entries) == 200


def test_units_with_another_engine_are_swept_side_by_side(store: LutStore) -> None:
    there = Pretended(store, {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.0}, versions={f"{TITLE}@b": "2"})
    groups = swept(store, there)
    assert len({group.target.key for group in groups}) == 2
    assert [as_json(store, group)["left"] for group in groups] == [0, 0]


def test_an_operator_that_processes_keep_dying_of_is_left_at_last(store: LutStore) -> None:
    chosen = set(overlap_of(WORKLOAD, 0.05, 0))
    deadly = next(op for op in OPERATORS if op not in chosen)
    there = Pretended(store, {f"{TITLE}@a": 1.0, f"{TITLE}@b": 1.0}, deadly=deadly)
    (group,) = swept(store, there)
    assert list(group.queue) == [deadly]
    assert len(store.lut(group.target).entries) == 199


def test_two_sweeps_of_one_device_exclude_each_other(store: LutStore) -> None:
    store.leases.acquire(f"fleet:{TITLE}", "elsewhere:1:boot:x", 60.0, lambda owner: False)
    with pytest.raises(HostError, match="wait for its end"):
        swept(store, Pretended(store, {f"{TITLE}@a": 1.0}))


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


def test_a_file_is_no_database_for_several_hosts(store: LutStore, tmp_path: Path) -> None:
    there: Any = Pretended(store, {f"{TITLE}@a": 1.0})
    with pytest.raises(UsageError, match="every host reaches"):
        reached_by_all(str(tmp_path / "lut.db"), there, "")
    assert reached_by_all("postgresql+psycopg://server/db", there, "") == "postgresql+psycopg://server/db"
    there.address = "10.0.0.2"
    assert reached_by_all(str(tmp_path / "lut.db"), there, "") == f"sqlite:///{tmp_path}/lut.db"


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (pip install 'chamnet[fleet]')")
def test_a_killed_node_and_an_unplugged_unit_lose_and_double_no_row(tmp_path: Path) -> None:
    """Three nodes of Ray, four virtual phones; the sweep is repeated with what is left of them."""
    if reason := missing("x86_64"):
        pytest.skip(reason)
    how = How(
        str(tmp_path / "lut.db"), operators=140, call_s=0.01, slow={"fleet2": 1.05}, kill_at=0.45, unplug_at=0.6,
        repeat=True,
    )  # fmt: skip
    told = fleet_trial.start(how, tmp_path / "told.json")
    assert told["faults"] == ["node killed", "unit unplugged"]
    assert (told["lost"], told["doubled"], told["merged"]) == (0, 0, 140)
    (first,), (again,) = told["first"], told["again"]
    assert first["given_back"] > 0
    assert (first["left"], again["left"]) == (0, 0)
    factors = {unit["unit"].rpartition("@")[2]: unit["factor"]["factor"] for unit in first["units"] if unit["factor"]}
    assert factors["fleet2"] / factors["fleet0"] == pytest.approx(1.05, abs=0.01)
