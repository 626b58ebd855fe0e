"""The local GPU: what is said where there is none, what it is and how it is where a driver (made up) tells."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import conditions, machine
from agent.engines import EngineUnavailable, describe_engines
from agent.engines.cuda_stream import QUEUED, CudaError, CudaStream, ask_ns
from agent.gpu import describe_gpu, read_gpu, require_gpu, why_no_gpu
from agent.phone import PHONE, PREFIX
from agent.protocol import Done, Hello
from host.bench import null_of, sentinel_of
from host.calibration import USUAL_L2_BYTES, l2_bytes_of
from host.cli_options import Asked, Means, as_before, settings_of
from host.devices import find_unit
from host.engines import DEVICE_SAMPLING, ENGINES
from host.errors import HostError
from host.quality import MIN_SAMPLES, batch_doubts
from host.setting import Circumstances, Setting, target_of
from host.verify import check_target
from lut_db.records import Target
from lut_db.store import open_store
from ops_catalog.spec import TensorSpec
from tests.fake_cuda import UUID, FakeDriver, FakeNvmlState, use_driver, use_state

BUSY: dict[str, Any] = {
    "in_use": True, "sm_mhz": 1755, "power_state": 0, "slowed_by": [], "held_ns": {"power": 0, "thermal": 0},
    "temp_mc": 61_000, "slowdown_mc": 92_000, "other_processes": 0,
}  # fmt: skip
GPU_ENGINES = ("onnxruntime-cuda", "onnxruntime-tensorrt")


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PHONE, PREFIX):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver()
    use_driver(monkeypatch, made)
    return made


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> FakeNvmlState:
    return use_state(monkeypatch, FakeNvmlState())


# Whether there is one.


def test_without_a_driver_it_is_one_line_that_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, None)
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA GPU can be used: libcuda\.so\.1 .*'nvidia-smi' must") as no:
        require_gpu()
    assert "\n" not in str(no.value)
    assert why_no_gpu() == str(no.value)
    assert describe_gpu() == read_gpu() == {}


def test_engines_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, None)
    described = describe_engines()
    assert {described[name].get("unavailable") for name in GPU_ENGINES} == {why_no_gpu()}


def test_a_driver_that_fails_is_told_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, FakeDriver(init_status=802))
    assert "its driver says system not yet initialized (802)" in str(why_no_gpu())


def test_gpus_that_are_hidden_are_told_with_the_variable_that_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, FakeDriver(count=0))
    assert "its driver finds none; " in str(why_no_gpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "finds none among CUDA_VISIBLE_DEVICES='-1'" in str(why_no_gpu())


# What it is, and how it is.


def test_its_facts_are_those_of_the_machine(driver: FakeDriver) -> None:
    facts = {
        "name": "NVIDIA H100", "uuid": f"GPU-{UUID}", "isa": "sm_90", "multiprocessors": 132, "l2_bytes": 50 << 20,
        "memory_mib": 80 << 10, "driver": "550.54.15", "cuda": "12.4",
    }  # fmt: skip
    assert describe_gpu() == facts
    assert machine.read_machine()["gpu"] == facts


def test_a_machine_without_one_has_no_such_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, None)
    assert "gpu" not in machine.read_machine()
    assert "gpu" not in conditions.read_conditions()


def test_its_state_is_read_with_units(state: FakeNvmlState, driver: FakeDriver) -> None:
    driver.active = 1
    state.reasons, state.pids = 0x4 | 0x40 | 0x1, [os.getpid(), 77]
    told = read_gpu()
    assert told == {
        "in_use": True, "sm_mhz": 1755, "memory_mhz": 2619, "max_sm_mhz": 1980, "power_state": 0,
        "slowed_by": ["power-cap", "hw-thermal"], "held_ns": {"power": 5, "thermal": 7}, "temp_mc": 61_000,
        "slowdown_mc": 92_000, "power_mw": 412_000, "power_limit_mw": 700_000, "utilisation_percent": 97,
        "other_processes": 1,
    }  # fmt: skip
    assert conditions.read_conditions()["gpu"] == told
    assert state.open == 0


def test_what_it_does_not_tell_is_left_out(state: FakeNvmlState) -> None:
    state.clocks = state.power_state = state.reasons = state.held_ns = state.temperature = state.pids = None
    told = read_gpu()
    assert {"sm_mhz", "power_state", "slowed_by", "held_ns", "temp_mc", "other_processes"}.isdisjoint(told)
    assert told["power_mw"] == 412_000


def test_a_part_of_a_gpu_is_found_by_its_own_name(state: FakeNvmlState) -> None:
    state.knows = f"MIG-{UUID}"
    assert read_gpu()["power_state"] == 0
    state.knows = "GPU-another"
    assert read_gpu() == {}


def test_without_the_package_or_with_nvml_not_starting_there_is_no_state(
    state: FakeNvmlState, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.loads = False
    assert read_gpu() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpu() == {}


def test_in_a_container_one_of_the_foreign_numbers_is_this_process(state: FakeNvmlState, driver: FakeDriver) -> None:
    state.pids = [4001, 4002]
    assert read_gpu()["other_processes"] == 2
    driver.active = 1
    assert read_gpu()["other_processes"] == 1


# What is doubted.


def doubts(before: dict[str, Any], after: dict[str, Any], seconds: float = 10.0) -> tuple[str, ...]:
    return batch_doubts(Done({"gpu": before}, {"gpu": after}), None, seconds)


def test_a_gpu_that_woke_up_and_worked_undisturbed_is_not_doubted() -> None:
    asleep = {"in_use": False, "sm_mhz": 210, "power_state": 8, "slowed_by": ["power-cap"], "other_processes": 0}
    assert doubts(asleep, BUSY) == ()
    assert doubts(BUSY, BUSY) == ()
    assert doubts(BUSY, {"in_use": True}) == ()


@pytest.mark.parametrize(
    "change, doubt",
    [
        ({"slowed_by": ["hw-thermal"]}, "throttled"),
        ({"slowed_by": ["sw-thermal"]}, "throttled"),
        ({"slowed_by": ["hw-slowdown"]}, "throttled"),
        ({"slowed_by": ["power-brake"]}, "throttled"),
        ({"held_ns": {"power": 0, "thermal": 1_000_000_000}}, "throttled"),
        ({"slowed_by": ["power-cap"]}, "power-capped"),
        ({"held_ns": {"power": 1_000_000_000, "thermal": 0}}, "power-capped"),
        ({"power_state": 8}, "slow-clock"),
        ({"sm_mhz": 1200}, "slow-clock"),
        ({"other_processes": 1}, "gpu-shared"),
        ({"temp_mc": 90_000}, "hot"),
    ],
)
def test_what_slowed_it_is_a_doubt(change: dict[str, Any], doubt: str) -> None:
    assert doubts(BUSY, {**BUSY, **change}) == (doubt,)


def test_a_moment_of_being_held_down_is_none() -> None:
    assert doubts(BUSY, {**BUSY, "held_ns": {"power": 100_000_000, "thermal": 0}}) == ()


def test_a_gpu_that_others_use_says_nothing_about_a_batch_on_the_cpu() -> None:
    assert doubts(BUSY, {**BUSY, "in_use": False, "power_state": 8, "other_processes": 3}) == ()


def test_a_doubt_is_told_once() -> None:
    slow = Done({"freq_khz": {"cpu0": 2000}, "gpu": BUSY},
                {"freq_khz": {"cpu0": 1000}, "gpu": {**BUSY, "slowed_by": ["hw-thermal"]}})  # fmt: skip
    assert batch_doubts(slow, None, 1.0) == ("throttled",)


def test_the_cache_that_counts_is_that_of_what_computes() -> None:
    told = {"caches": {"L2 unified": "2048K"}, "gpu": {"l2_bytes": 50 << 20}}
    assert l2_bytes_of(told) == 2 << 20
    assert l2_bytes_of(told, "cuda") == l2_bytes_of(told, "tensorrt") == 50 << 20
    assert l2_bytes_of({}, "cuda") == USUAL_L2_BYTES


def test_what_becomes_of_the_hosts_processors_is_no_doubt_of_a_gpus_batch() -> None:
    """Idle ones change their clocks as they like, and all of them are the agent's."""
    done = Done({"freq_khz": {"cpu0": 2000}, "steal_ticks": 0, "gpu": BUSY},
                {"freq_khz": {"cpu0": 1000}, "steal_ticks": 99, "gpu": BUSY})  # fmt: skip
    assert batch_doubts(done, None, 1.0, on_gpu=True) == ()
    assert batch_doubts(done, None, 1.0) == ("throttled", "stolen")
    assert batch_doubts(Done({}, {}, [(0, 1300)]), 1000.0, 1.0, on_gpu=True) == ("drifted",)


# What is measured for it, and how.

FACTS = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-1", "isa": "sm_90", "multiprocessors": 132, "memory_mib": 81_089}
OTHERS: dict[str, dict[str, Any]] = {
    "another kind": {"name": "NVIDIA H200", "memory_mib": 143_156},
    "a part of it": {"name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "multiprocessors": 16, "memory_mib": 9984},
    "fewer multiprocessors": {"multiprocessors": 114},
    "more memory": {"memory_mib": 96_000},
}


def target_on(**facts: Any) -> Target:
    (setting,) = settings_of(find_unit("local-gpu"), Asked("torch-cuda"))
    hello = Hello(1, "3.11", 1, {"gpu": {**FACTS, **facts}}, {"torch-cuda": {"version": "2.9.0+cu128"}}, {})
    return target_of(setting, Circumstances("local-gpu"), hello)


@pytest.mark.parametrize("facts", OTHERS.values(), ids=OTHERS)
def test_gpus_that_differ_have_tables_of_their_own_and_none_is_measured_on_for_the_other(
    facts: dict[str, Any],
) -> None:
    stored, now = target_on(), target_on(**facts)
    assert stored.isa == now.isa
    assert len({stored.key, now.key}) == len({stored.name, now.name}) == 2
    check_target(SimpleNamespace(target=stored), stored)  # type: ignore[arg-type]
    with pytest.raises(HostError, match="must be what its table is valid for"):
        check_target(SimpleNamespace(target=now), stored)  # type: ignore[arg-type]


def test_two_gpus_of_a_kind_share_a_table_that_names_it() -> None:
    assert target_on(uuid="GPU-2") == target_on()
    assert dict(target_on().options) == {"gpu": "nvidia-h100-80gb-hbm3-132sm-79gib"}
    bare = Hello(1, "3.11", 1, {"gpu": {"isa": "sm_90"}}, {"torch-cuda": {"version": "2.9.0"}}, {})
    assert dict(target_of(Setting("torch-cuda", ()), Circumstances("local-gpu"), bare).options) == {"gpu": "unknown"}


def test_a_target_on_the_cpu_says_nothing_of_a_gpu() -> None:
    hello = Hello(1, "3.11", 1, {"gpu": FACTS, "isa": "avx2"}, {"torch": {"version": "2.9.0"}}, {})
    assert target_of(Setting("torch", (0,)), Circumstances("local-cpu"), hello).options == ()


def test_a_gpus_agent_is_pinned_only_where_asked_for_also_when_it_is_driven_again(tmp_path: Path) -> None:
    unit = find_unit("local-gpu")
    (free,), (pinned,) = (settings_of(unit, Asked("torch-cuda", cpus=cpus)) for cpus in ("", "0"))
    assert (free.cpus, pinned.cpus) == ((), (0,))
    assert settings_of(find_unit("local-cpu"), Asked("torch"))[0].cpus
    with open_store(tmp_path / "a.db") as store:
        assert as_before(store, target_on(), Means()) == (unit, free)


GPU_USES = [name for name, use in ENGINES.items() if use.on_gpu]


@pytest.mark.parametrize("engine", GPU_USES)
def test_a_gpu_gets_the_models_of_an_accelerator_and_a_sentinel_that_fills_it(engine: str) -> None:
    setting = Setting(engine, (), dtype="float16")
    assert null_of(setting).inputs[0][1] == TensorSpec((1, 4, 4, 4), "float16")
    graph = sentinel_of(setting)
    assert [node.op.type for node in graph.nodes] == ["conv2d"]
    assert graph.inputs[0][1] == TensorSpec((32, 64, 56, 56), "float16")


def test_a_cpu_and_a_phones_accelerator_keep_theirs() -> None:
    assert null_of(Setting("litert", (0,), dtype="int8")).inputs[0][1] == TensorSpec((1,))
    assert len(sentinel_of(Setting("litert", (0,))).nodes) > 50
    hexagon = Setting("benchmark_model", (0,), dtype="int8", accelerator="hexagon")
    assert null_of(hexagon).inputs[0][1] == TensorSpec((1, 4, 4, 4), "int8")
    assert sentinel_of(hexagon).inputs[0][1] == TensorSpec((1, 32, 28, 28), "int8")


def test_samples_of_device_time_are_few_and_long_and_enough() -> None:
    assert all(ENGINES[name].sampling is DEVICE_SAMPLING for name in GPU_USES)
    assert DEVICE_SAMPLING.rounds * DEVICE_SAMPLING.burst_min > MIN_SAMPLES
    assert DEVICE_SAMPLING.gate_budget_ns == 0
    assert ENGINES["torch"].sampling.gate_budget_ns > 0


# Its stream.


def test_a_held_stream_tells_the_time_of_the_device_alone(driver: FakeDriver) -> None:
    stream = CudaStream()
    call = lambda: driver.queue(ask_ns=20_000, work_ns=3_000)  # noqa: E731
    assert stream.time_ns(call, 10, 20_000, hold=True) == pytest.approx(10 * 3_000, abs=2)
    assert stream.time_ns(call, 10, 20_000, hold=False) == pytest.approx(10 * 20_000 + 3_000, abs=2)


def test_more_calls_than_the_queue_holds_come_in_turns(driver: FakeDriver) -> None:
    stream, queued = CudaStream(), []

    def call() -> None:
        queued.append(driver.host_ns)
        driver.queue(ask_ns=1_000, work_ns=2_000)

    assert stream.time_ns(call, 3 * QUEUED, 1_000, hold=True) == pytest.approx(3 * QUEUED * 2_000, rel=1e-6)
    assert len(queued) == 3 * (QUEUED + 1)


def test_a_call_that_waits_for_the_device_is_told_from_one_that_does_not(driver: FakeDriver) -> None:
    stream = CudaStream()

    def call() -> None:
        driver.queue(ask_ns=1_000, work_ns=1_000)

    def waiting() -> None:
        call()
        driver.host_ns = driver.device_ns

    assert not stream.waits(call)
    assert stream.waits(waiting)


def test_a_call_that_now_and_then_comes_late_does_not_wait(driver: FakeDriver) -> None:
    """Where the host was held up for longer than the stream."""
    stream, late = CudaStream(), iter([True, False])

    def call() -> None:
        driver.queue(ask_ns=1_000, work_ns=1_000)
        driver.host_ns = driver.device_ns if next(late) else driver.host_ns

    assert not stream.waits(call)


def test_a_stream_that_broke_is_told(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = CudaStream()
    monkeypatch.setattr(driver, "cuStreamQuery", lambda stream: 700)
    with pytest.raises(CudaError, match="cuStreamQuery must succeed, but the driver returned error 700"):
        stream.waits(lambda: None)


def test_a_call_that_waits_for_the_device_itself_is_held_no_longer_than_the_limit(driver: FakeDriver) -> None:
    stream = CudaStream()

    def call() -> None:
        driver.queue(ask_ns=1_000, work_ns=50_000_000)
        driver.host_ns = driver.device_ns

    driver.writes = 0
    assert stream.time_ns(call, 2, 50_000_000, hold=True) == pytest.approx(2 * 50_001_000, rel=1e-6)
    assert driver.writes <= 2 * (2_000_000 // 30_000 + 1)


def test_a_driver_that_refuses_is_told_by_the_call(driver: FakeDriver) -> None:
    driver.refused = "memory"
    with pytest.raises(CudaError, match="cuDevicePrimaryCtxRetain must succeed, but the driver returned error 2"):
        CudaStream()


def test_asking_costs_at_least_a_nanosecond() -> None:
    assert ask_ns(lambda: None) >= 1
