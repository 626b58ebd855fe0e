"""From a meter to networks within an energy limit, as a user types it. All of it is made up, and must be told so."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from host import cli, energy
from host.bench import open_bench
from host.devices import LOCAL_CPU, Unit, choose_cpus, find_unit
from host.energy import EnergySummary, meter_operators
from host.errors import DeviceUnavailable, UsageError
from host.lease import beating
from host.metering import Gauging, Metering, choose_meter, open_gauging
from host.power_course import course_of
from host.profile import profile as measure
from host.setting import Progress, Setting, Workload
from host.show_energy import show_energy
from host.two_agents import Clock, laid_over, read_clock, shift_between
from host.validate import sample_networks
from lut_db.energies import EnergyMeasurement
from lut_db.energy import MeterCalibration, estimate
from lut_db.energy_choice import Choice
from lut_db.energy_plans import PLANS, plan_for
from lut_db.lut import LatencyLut
from lut_db.records import LutEntry, Target
from lut_db.store import open_store
from ops_catalog import ops
from ops_catalog.build import single
from ops_catalog.export import export_graph
from ops_catalog.export.fake import export, power_uw
from ops_catalog.ops import make_op
from ops_catalog.spec import OpSpec, TensorSpec
from search.energies import complete_energies, energy_note
from search.spaces import space_named
from tests.metered import COUNTER, GAUGE, counted, noisy

TINY = """
name = "tiny"
resolution = [24, 32]
classes = 10
[stem]
channels = [8, 16]
[[stage]]
block = "inverted_residual"
channels = [16, 24]
stride = 2
depth = [1, 2]
expansion = [3, 6]
[[stage]]
block = "conv"
channels = [32, 48]
stride = 2
kernel = [3, 5]
[head]
channels = 64
"""
FAKE = ("--engine", "fake", "--meter", "replay", "--meter-option", "clock=simulated", "--meter-option")
SHORT = ("--meter-window", "2", "--meter-repeats", "4")
QUICK = {"window_s": 0.3, "idle_s": 0.3, "repeats": 3, "settle_s": 0.02, "read_every_s": 0.015}
POWER = {"kind": "counter", "period_s": 0.001, "points": [[0, 1_000_000]], "load_uw": 2_000_000}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small search space, recorded traces, and a table of which a tenth is metered."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "trace.json").write_text(json.dumps(noisy("counter", 8e5, period_s=0.05, step=61)))
    (folder / "gauge.json").write_text(json.dumps(noisy("gauge", 7e5, **GAUGE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(["profile", "--space", "tiny.toml", "--engine", "fake", "--db", "plain.db"]) == 0
        shutil.copy("plain.db", "chamnet.db")
        assert cli.run(["profile", "--space", "tiny.toml", "--energy", *SHORT, *FAKE, "trace=trace.json"]) == 0
    return folder


@pytest.fixture
def tiny(made: Path) -> str:
    """A folder of one's own with the same."""
    for path in made.iterdir():
        if path.is_file():
            shutil.copy(path, path.name)
    return "tiny.toml"


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(arguments)
    printed = capfd.readouterr()
    return status, printed.out, printed.err


def profile(capfd: pytest.CaptureFixture[str], *more: str, trace: str = "trace.json") -> tuple[int, dict[str, Any]]:
    """What metering did."""
    command = ("profile", "--space", "tiny.toml", "--json", "--energy", *SHORT, *FAKE, f"trace={trace}", *more)
    status, out, err = run(capfd, *command)
    assert out, err
    return status, json.loads(out)[0]["energy"]


def put_accuracies() -> None:
    """Made up: what is larger is better."""
    space, rng = space_named("tiny.toml"), np.random.default_rng(0)
    genomes = dict.fromkeys(space.sample(rng) for _ in range(60))
    with Path("accuracies.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["genome", "acc"])
        for genome in genomes:
            writer.writerow(["-".join(map(str, genome)), 60 + np.log(np.prod(genome)) + rng.normal() / 10])


# The whole way.


def test_networks_are_searched_within_an_energy_limit(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    put_accuracies()
    imported = ("samples", "import", "accuracies.csv", "--space", tiny, "--dataset", "made-up", "--recipe", "made-up")
    assert run(capfd, *imported, "--accuracy", "acc", "--genome", "genome")[0] == 0
    asked = ("search", "--space", tiny, "--device", LOCAL_CPU, "--generations", "5", "--json", "--whole")
    status, _, err = run(capfd, *asked, "--energy-mj", "1", "--db", "plain.db", "--samples", "chamnet.db")
    assert (status, "'chamnet profile --energy' meters them" in err) == (1, True)
    operators, metered = counts("chamnet.db")
    assert metered == round(operators / 10)
    status, out, err = run(capfd, *asked, "--energy-mj", "0.1", "--out", "found")
    found = json.loads(out)
    assert (status, len(found["candidates"]) > 2) == (0, True), err
    for one in found["candidates"]:
        assert one["energy_mj"] <= 0.1
        assert one["energy_low_mj"] < one["energy_mj"] < one["energy_high_mj"]
        assert one["energy_label"] == "simulated"
    (note,) = (note for note in found["notes"] if "energies" in note)
    assert f"{metered} operators simulated, {operators - metered} predicted from them" in note
    assert "says nothing about a real device" in note
    assert "simulated" in Path("found/report.html").read_text()
    shown = run(capfd, *asked[:-2], "--energy-mj", "0.1")[1].split()
    assert {"energy", "simulated"} <= set(shown)
    assert "says nothing about a real device" in " ".join(shown)


def counts(db: str) -> tuple[int, int]:
    """Operators of its only table, and how many of them were metered."""
    with open_store(db) as store:
        (target,) = store.targets()
        entries = store.lut(target).entries
    return len(entries), sum(entry.energy_uj is not None for entry in entries)


def test_energies_are_shown_wherever_a_table_is(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    entries = json.loads(run(capfd, "lut", "show", "--limit", "1000", "--json")[1])["entries"]
    assert sum(entry["energy_uj"] is not None for entry in entries) == counts("chamnet.db")[1]
    assert {entry["energy_label"] for entry in entries} == {"", "simulated"}
    assert "energy" in run(capfd, "lut", "show")[1]
    assert f"{counts('chamnet.db')[1]} energies readable" in run(capfd, "lut", "check")[1]
    status, out, err = run(
        capfd, "energy", "validate", "--space", tiny, "--networks", "3", "--json", *SHORT, *FAKE, "trace=trace.json"
    )
    assert status == 0, err
    valid = json.loads(out)
    assert (valid["source"], len(valid["rows"]), valid["refused"]) == ("simulated", 3, {})
    assert valid["mape"] < 25
    assert run(capfd, "energy", "report", "--html", "page.html")[0] == 0
    page = Path("page.html").read_text()
    for what in ("SIMULATED.", "Power over time", "conv2d/pointwise", "Whole networks", "net uJ", "predicted"):
        assert what in page


def test_a_prediction_has_an_energy_with_its_interval(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("net.onnx").write_bytes(export_graph(sample_networks(tiny, 1, 5)[0], "onnx"))
    status, out, err = run(capfd, "predict", "net.onnx", "--json", "--html", "p.html")
    assert status == 0, err
    (found,) = json.loads(out)["predictions"]
    assert found["energy_low_mj"] < found["energy_mj"] < found["energy_high_mj"]
    assert found["energy_label"] == "simulated"
    assert "energy mJ" in Path("p.html").read_text()
    shown = run(capfd, "predict", "net.onnx")[1]
    assert f"{found['energy_mj']:.3g} mJ, 95 % interval" in shown
    assert "simulated" in shown


def operators(count: int) -> list[OpSpec]:
    return [
        make_op("conv2d", TensorSpec((1, 8 + 4 * i, 8, 8)), out_channels=16, kernel=(1 + i % 3,) * 2)
        for i in range(count)
    ]


# Which operators are metered, and what becomes of those that are refused.


def test_metering_goes_on_where_it_stopped(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    operators, metered = counts("chamnet.db")
    _, same = profile(capfd)
    assert (same["operators"], same["already"], same["metered"]) == (operators, metered, 0)
    _, more = profile(capfd, "--energy-share", "0.2")
    assert (more["already"], more["metered"], more["wanted"]) == (
        metered,
        more["wanted"] - metered,
        round(operators / 5),
    )
    assert counts("chamnet.db") == (operators, more["wanted"])


def test_what_is_refused_is_named_and_the_run_is_partial(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    fails = [[10, 1e9]]
    Path("fails.json").write_text(json.dumps(noisy("counter", 8e5, period_s=0.05, step=61, fails=fails)))
    asked = ("profile", "--space", tiny, "--db", "plain.db", "--energy", *SHORT, *FAKE)
    status, out, _ = run(capfd, *asked, "trace=fails.json", "--json")
    told = json.loads(out)[0]["energy"]
    assert status == 3
    assert (told["metered"], told["gave_up"]) == (0, True)
    assert len(told["refused"]) == energy.IN_VAIN
    assert all("3 load and 3 idle windows must be read without gaps" in reason for reason in told["refused"].values())
    status, out, _ = run(capfd, *asked, "trace=trace.json", "--json")
    told = json.loads(out)[0]["energy"]
    assert (status, told["metered"]) == (0, told["wanted"])


def test_what_metering_did_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    show_energy(
        [EnergySummary("pixel/litert", "odpm", "measured", 80, 8, 2, 5, {"relu": "it [was] frozen"}, False, 61.0)]
    )
    told = capfd.readouterr().out
    assert "pixel/litert by odpm: 5 operators metered now, 2 before, of 80, 1 refused; 61 s" in told
    assert "no energy relu: it [was] frozen" in told
    assert "given up" not in told
    show_energy([EnergySummary("pixel/litert", "replay", "simulated", gave_up=True)])
    told = capfd.readouterr().out
    assert "(SIMULATED, not of a real device)" in told
    assert "given up" in told


def test_a_gauge_counts_once_it_is_calibrated(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    asked = ("profile", "--space", tiny, "--json", "--energy", *SHORT, *FAKE, "trace=gauge.json")
    status, out, err = run(capfd, *asked, "--db", "plain.db")
    assert (status, out) == (4, "")
    assert "'chamnet energy calibrate --device local-cpu --meter replay' does it" in err
    calibrate = ("energy", "calibrate", "--charge-minutes", "10", "--json", *FAKE)
    status, out, err = run(capfd, *calibrate, "trace=gauge.json", "--db", "plain.db")
    assert status == 0, err
    found = json.loads(out)
    assert (found["meter"], found["source"], found["sign"], found["scale"]) == ("replay", "simulated", -1, 1.0)
    assert 0.24 < found["update_period_s"] < 0.5
    assert found["charge_ratio"] == pytest.approx(1.0, abs=0.03)
    assert len(json.loads(run(capfd, "lut", "targets", "--json", "--db", "plain.db")[1])) == 1
    status, out, err = run(capfd, *asked, "--db", "plain.db")
    told = json.loads(out)[0]["energy"]
    assert (status, told["metered"], told["refused"]) == (0, told["wanted"], {})
    status, _, err = run(capfd, *calibrate, "trace=trace.json")
    assert (status, "must be a gauge, but 'replay' says itself" in err) == (1, True)


def test_a_report_of_nothing_says_how_to_meter(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capfd, "energy", "report", "--html", "page.html", "--db", "plain.db")
    assert (status, "chamnet profile --energy --device local-cpu --engine fake" in err) == (1, True)


def ops_file() -> str:
    Path("ops.txt").write_text("relu(1x8x4x4;float32)")
    return "ops.txt"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--meter", "rapl"), 2, "must come with --energy"),
        (("--meter-option", "a=1"), 2, "must come with --energy"),
        (("--energy", "--meter", "ruler"), 2, "--meter must be one of rapl, nvml"),
        (("--energy", "--energy-share", "0"), 2, "--energy-share must be above 0"),
        (("--energy", "--energy-share", "1.5"), 2, "at most 1"),
        (("--energy", "--meter-at", "moon"), 2, "--meter-at must be one of auto, device, host"),
        (("--energy", "--meter-repeats", "2"), 2, "--meter-repeats must be at least 3"),
        (("--energy", "--meter-option", "trace"), 2, "--meter-option must read like NAME=VALUE"),
        (("--energy", "--meter", "replay", "--meter-option", "trace=no.json"), 2, "must name a JSON file"),
        (("--energy", "--meter", "replay"), 4, "the meter must be readable, but meter option 'trace'"),
        (("--energy", "--meter", "rapl", "--meter-option", 'root="/nowhere"'), 4, "show its energy under /nowhere"),
        (("--energy", "--meter", "command", "--meter-option", "command=false"), 4, "false must print a number"),
    ],
)
def test_a_meter_that_cannot_be_meant_or_read_is_one_line(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, message: str
) -> None:
    found, out, err = run(capfd, "profile", "--engine", "fake", "--ops", ops_file(), *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert (err.startswith("chamnet: "), err.count("\n")) == (True, 1)


def test_energy_and_a_budget_do_not_go_together(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capfd, "profile", "--space", "macro", "--fraction", "0.1", "--energy")
    assert (status, "without a budget" in err) == (2, True)


def test_a_plan_tells_what_metering_takes(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    asked = ("profile", "--space", tiny, "--dry-run", "--energy", "--meter", "battery_gauge")
    status, out, _ = run(capfd, *asked, "--json")
    told = json.loads(out)[0]
    assert status == 0
    assert told["energy"]["operators"] == max(6, round(told["operators"] / 10))
    assert told["energy"]["seconds"] / told["energy"]["operators"] == pytest.approx(11 * 65, abs=1)
    assert "of them metered, about" in run(capfd, *asked)[1]


METERS = {
    "rapl": {"unavailable": "none does; 'sudo chmod a+r x' grants it"},
    "nvml": {"available": "a GPU"},
    "battery_gauge": {"available": "battery"},
    "odpm": {"available": "rails"},
    "replay": {"available": "a trace"},
}
PIXEL = Unit("pixel", transport="adb")


def test_the_best_meter_is_taken_and_never_a_trace_or_a_gpus() -> None:
    assert choose_meter(Metering(), METERS, PIXEL) == "odpm"
    assert choose_meter(Metering("nvml"), METERS, PIXEL) == "nvml"
    with pytest.raises(UsageError, match="--meter must be one of rapl, nvml"):
        choose_meter(Metering("ruler"), METERS, PIXEL)
    left = {name: METERS[name] for name in ("rapl", "nvml", "replay")}
    with pytest.raises(DeviceUnavailable, match=r"on 'pixel', but none is. rapl: none does; 'sudo chmod a\+r x'"):
        choose_meter(Metering(), left, PIXEL)
    readable = {"monsoon": {"available": "an HVPM on USB"}}
    assert choose_meter(Metering(), readable, PIXEL) == "monsoon"
    with pytest.raises(DeviceUnavailable, match="on 'local-cpu'"):
        choose_meter(Metering(), readable, find_unit("local-cpu"))


# Real engines in real time, on a trace.

OF_A_BUSY_MACHINE = ("without gaps", "longer than one that does nothing")


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
def test_operators_of_a_real_engine_are_metered_in_real_time(engine: str) -> None:
    some = tuple(operators(1))
    setting = Setting(engine, choose_cpus(1), passes=1)
    metering = Metering("replay", {"trace": POWER}, share=1.0, changes=QUICK)
    unit, workload = find_unit(LOCAL_CPU), Workload(operators=some)
    with open_store("lut.db") as store:
        measure(store, unit, setting, workload, Progress())
        told = meter_operators(store, unit, setting, workload, metering, Progress())
        (target,) = store.targets()
        assert (told.source, told.meter, target.source) == ("simulated", "replay", "measured")
        found = store.energies.operators(target)
        assert len(found) == told.metered == told.operators - len(told.refused)
        assert all(metered.source == "simulated" for metered in found.values())
        assert [
            reason for reason in told.refused.values() if not any(busy in reason for busy in OF_A_BUSY_MACHINE)
        ] == []
        for row in store.energies.measurements(target):
            whole = estimate(row.facts, row.windows, row.calibration)
            assert row.overhead_ns > 0
            if whole.net_uj is not None:
                loads = [window for window in row.windows if window["kind"] == "load"]
                calls_uj = [2e-3 * (window["to_ns"] - window["from_ns"]) / window["calls"] for window in loads]
                assert 0.9 * min(calls_uj) < whole.net_uj < 1.1 * max(calls_uj)


# An instrument here, the load elsewhere.

CLOCK = """
import time
while True:
    print(time.perf_counter_ns() / 1e9, flush=True)
    time.sleep(0.002)
"""


def test_a_meter_here_is_laid_over_the_windows_of_another_agent() -> None:
    Path("clock.py").write_text(CLOCK)
    command = [sys.executable, str(Path("clock.py").resolve())]
    metering = Metering("command", {"command": command}, changes={**QUICK, "window_s": 0.4, "idle_s": 0.4}, at="host")
    unit, setting = find_unit(LOCAL_CPU), Setting("litert", choose_cpus(1), passes=1)
    with (
        open_store("lut.db") as store,
        open_bench(store, unit, setting) as bench,
        open_gauging(bench, unit, metering) as gauging,
    ):
        assert gauging.outside is not None
        (op,) = operators(1)
        row = gauging.meter_model(bench.put(single(op)), op.key)
        assert isinstance(row, EnergyMeasurement), row
    assert (row.meter, row.facts["name"]) == ("command", "command")
    assert [window["kind"] for window in row.windows] == ["idle", "load"] * 3 + ["idle"]
    assert all(window["calls"] > 0 for window in row.windows if window["kind"] == "load")
    for window in row.windows:
        shown_ns = np.array([1e3 * reading[1] for reading in window["readings"]])
        assert len(shown_ns) > 10
        assert shown_ns.min() >= window["from_ns"] - 0.1e9
        assert shown_ns.max() <= window["to_ns"]


def test_a_meter_here_that_cannot_be_read_is_told_at_once() -> None:
    metering = Metering("command", {"command": "false"}, at="host")
    unit, setting = find_unit(LOCAL_CPU), Setting("fake", choose_cpus(1))
    with (
        open_store("lut.db") as store,
        open_bench(store, unit, setting) as bench,
        pytest.raises(DeviceUnavailable, match="false must print a number"),
        open_gauging(bench, unit, metering),
    ):
        pass


def window(from_s: float, to_s: float, kind: str = "load") -> dict[str, Any]:
    return {"kind": kind, "from_ns": round(1e9 * from_s), "to_ns": round(1e9 * to_s), "calls": 5, "readings": [[0, 0]]}


def test_windows_take_the_readings_that_were_made_within_them() -> None:
    windows = [window(100.0, 110.0, "idle"), window(112.0, 122.0)]
    before, after = (Clock(90_000_000_000, 1000), Clock(0, 1000)), (Clock(90_010_000_000, 1000), Clock(0, 1000))
    shift = shift_between(windows, before, after)
    assert not isinstance(shift, str)
    watched = {
        "readings": [[round(1e9 * at / 4), at] for at in range(200)], "state": [[0, "a"], [25_000_000_000, "b"]],
        "errors": 2, "error": "no answer",
    }  # fmt: skip
    first, second = laid_over(windows, watched, shift)
    assert (first["from_ns"], first["to_ns"], first["state"]) == (10_000_000_000, 19_995_454_545, [[0, "a"]])
    assert [row[1] for row in first["readings"]] == list(range(40, 80))
    assert (first["errors"], first["error"]) == (2, "no answer")
    assert (second["from_ns"], second["to_ns"]) == (21_994_545_455, 31_990_000_000)
    assert [row[1] for row in second["readings"]] == list(range(88, 128))
    assert second["state"] == [[0, "a"], [25_000_000_000, "b"]]


@pytest.mark.parametrize(("ahead_ns", "within_ns"), [(0, 200_000_000), (300_000_000, 1000)])
def test_clocks_that_are_not_known_well_enough_are_told(ahead_ns: int, within_ns: int) -> None:
    before, after = (Clock(0, within_ns), Clock(0, 0)), (Clock(ahead_ns, within_ns), Clock(0, 0))
    found = shift_between([window(0, 10), window(12, 22)], before, after)
    assert isinstance(found, str)
    assert "must be known within 1% of a window" in found


def test_a_clock_is_read_by_the_quickest_answer() -> None:
    answers = iter([5_000_000, *[0] * 20])

    def ask() -> int:
        time.sleep(next(answers) / 1e9)
        return time.perf_counter_ns() + 7_000_000_000

    found = read_clock(ask)
    assert abs(found.ahead_ns - 7_000_000_000) <= found.within_ns + 1000
    assert found.within_ns < 2_000_000


def test_a_lease_is_renewed_in_the_middle_of_a_long_request(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = threading.Semaphore(0)

    class Held:
        def renew(self) -> None:
            beats.release()
            raise DeviceUnavailable("out of reach for a moment")

    monkeypatch.setattr("host.lease.BEAT_S", 0.001)
    with beating(Held()):  # type: ignore[arg-type]
        assert beats.acquire(timeout=30)
        assert beats.acquire(timeout=30)
    count = threading.active_count()
    with beating(None):
        assert threading.active_count() == count


# What energies become.


def test_a_made_up_model_draws_by_class_and_size_and_networks_what_their_operators_do() -> None:
    small, large = operators(2)[0], make_op("conv2d", TensorSpec((1, 64, 56, 56)), out_channels=128, kernel=(3, 3))
    deep = make_op("depthwise_conv2d", TensorSpec((1, 64, 56, 56)), kernel=(3, 3))
    assert power_uw(small) < power_uw(deep) < power_uw(large)
    net = space_named("macro").decode((1, 2, 0, 1, 0, 0, 2, 1))
    parts = [json.loads(export(single(op))) for op in net.operators]
    whole = json.loads(export(net))
    assert whole["ns"] * whole["uw"] == pytest.approx(sum(part["ns"] * part["uw"] for part in parts), rel=1e-3)
    assert all(ops.macs(op) == 0 or part["uw"] > 0 for op, part in zip(net.operators, parts, strict=True))


def table(labels: Sequence[str], energy_uj: float = 5.0) -> LatencyLut:
    entries = [
        LutEntry(op.key, 1000.0 * (i + 1), 1.0, 9, 2)
        if not label
        else LutEntry(op.key, 1000.0 * (i + 1), 1.0, 9, 2, energy_uj=energy_uj, energy_label=label, energy_windows=5)
        for i, (op, label) in enumerate(zip(operators(len(labels)), labels, strict=True))
    ]
    return LatencyLut(Target("pixel", "litert", "2", "cpu", "float32", 1, (1,), "arm64"), tuple(entries), {})


def test_too_few_energies_tell_nothing_of_others() -> None:
    lut = table([*["measured"] * 5, "", ""])
    found = complete_energies(lut)
    assert (found.lut, found.model) == (lut, None)
    assert found.sum({lut.entries[0].key: 2, lut.entries[5].key: 1}) is None
    told = found.sum({lut.entries[0].key: 2, lut.entries[1].key: 1})
    assert told is not None
    assert (told.energy_uj, told.label) == (15.0, "measured")
    assert energy_note(table([""] * 3)) == ""


@pytest.mark.parametrize(
    ("known", "label"), [("measured", "predicted"), ("imported", "predicted"), ("emulated", "emulated")]
)
def test_what_is_learned_is_no_better_than_what_it_was_learned_from(known: str, label: str) -> None:
    lut = complete_energies(table([*[known] * 7, "", ""])).lut
    assert [entry.energy_label for entry in lut.entries] == [known] * 7 + [label] * 2
    assert all(entry.energy_uj is not None for entry in lut.entries)
    note = energy_note(lut)
    assert f"7 operators {known}, 2 predicted from them" in note
    assert ("says nothing about a real device" in note) == (known == "emulated")


def test_a_table_of_nothing_but_idle_energies_is_left_as_it_is() -> None:
    lut = table([*["imported"] * 7, ""], energy_uj=0.0)
    assert complete_energies(lut).lut == lut


# How power is drawn.


def measurement(windows: list[dict[str, Any]], facts: dict[str, Any], **more: Any) -> EnergyMeasurement:
    return EnergyMeasurement("conv2d", "rapl", "measured", 1.0, facts, windows, **more)


def test_the_course_of_a_counter_is_its_power() -> None:
    course = course_of(measurement(counted(2e6, 1000.0), COUNTER))
    assert [part.loaded for part in course.parts] == [False, True] * 4 + [False]
    for part in course.parts:
        assert part.power_mw == pytest.approx(3000 if part.loaded else 1000, rel=0.1)
        assert part.start_s <= part.at_s.min() <= part.at_s.max() <= part.end_s
    assert "under load" in course.outcome


def test_the_course_of_a_gauge_is_in_milliwatts_and_of_nonsense_nothing() -> None:
    facts = {**COUNTER, "kind": "power", "needs_calibration": True, "scope": "battery"}
    readings = [[round(1e9 * at), 0.0, -500, 4e6] for at in np.arange(0.0, 2.0, 0.05)]
    windows = [{**window(0.0, 2.0), "readings": readings}]
    calibration = MeterCalibration(-1, 1000.0, 0.05, 1.0)
    (part,) = course_of(measurement(windows, facts, calibration=calibration)).parts
    assert part.power_mw == pytest.approx(2000)
    course = course_of(measurement(windows, facts))
    assert course.parts == ()
    assert "never calibrated" in course.outcome


def test_windows_are_as_they_were_asked_for_and_short_ones_read_more_often() -> None:
    plan = PLANS["odpm"]
    assert plan_for("odpm", None, gauge=False) == plan
    changes = {"window_s": 1.0, "idle_s": 1.0, "repeats": 4.0}
    assert plan_for("odpm", 0.1, gauge=False, changes=changes).window_s == pytest.approx(2.2)
    short = plan_for("odpm", None, gauge=False, changes=changes)
    assert (short.window_s, short.idle_s, short.repeats, short.settle_s) == (1.0, 1.0, 4, plan.settle_s)
    assert short.read_every_s == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("meter", "of_target", "source"),
    [
        ("replay", "measured", "simulated"),
        ("replay", "emulated", "emulated"),
        ("odpm", "emulated", "emulated"),
        ("rapl", "simulated", "simulated"),
        ("rapl", "measured", "measured"),
    ],
)
def test_energy_is_never_measured_where_time_or_power_is_made_up(meter: str, of_target: str, source: str) -> None:
    bench: Any = SimpleNamespace(target=SimpleNamespace(source=of_target))
    assert Gauging(bench, meter, {}, None, PLANS["rapl"]).choice == Choice(meter, source)
