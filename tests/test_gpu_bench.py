"""The one call for a GPU: parts end in time, whatever they do, and what they leave is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import GRACE_S, LIMIT_S, run_part, share_s
from benchmarks.gpu_parts import (
    AGENT_PYTHON,
    LUT,
    TINY,
    UNTIL,
    Part,
    Rig,
    Sizes,
    compare,
    parts_of,
    read_additivity,
    read_contract,
    read_json,
    read_profile,
)
from benchmarks.gpu_table import markdown, rate_of, verdict
from host.devices import find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.store import open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from tests import engine_contract, test_engine_contract

PROJECT = Path(__file__).parent.parent
AROUND_S = 15.0
"""Of ten minutes, what comes before the first part, and after the last."""


def part(code: str, **more: Any) -> Part:
    return Part("x", 60.0, [sys.executable, "-c", code], lambda: {"figure": 1}, **more)


def run(made: Part, folder: Path, limit_s: float = 100.0) -> dict[str, Any]:
    return run_part(made, limit_s, folder)


def test_a_part_that_does_its_work_is_done(tmp_path: Path) -> None:
    row = run(part("print('all well')"), tmp_path)
    assert (row["state"], row["figure"]) == ("done", 1)
    assert "why" not in row


def test_a_part_that_fails_is_told_with_its_last_words_and_what_it_left(tmp_path: Path) -> None:
    row = run(part("raise SystemExit('no such engine')"), tmp_path)
    assert (row["state"], row["why"], row["figure"]) == ("failed", "no such engine", 1)


def test_a_part_out_of_time_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Also what has a session of its own, as agents have."""
    code = (
        "import subprocess, sys, time\nsleep = [sys.executable, '-c', 'import time; time.sleep(99)']\n"
        "children = [subprocess.Popen(sleep, start_new_session=own) for own in (False, True)]\n"
        "print(*[child.pid for child in children], flush=True)\ntime.sleep(99)"
    )
    row = run(part(code), tmp_path, 3.0)
    assert (row["state"], row["why"], row["figure"]) == ("late", "out of 3 s", 1)
    pids = (tmp_path / "x.out").read_text().split()
    assert len(pids) == 2
    until = time.monotonic() + 30.0
    for child in (Path(f"/proc/{pid}/stat") for pid in pids):
        while child.exists() and child.read_text().split()[2] != "Z":
            assert time.monotonic() < until, "what it started must end, too"
            time.sleep(0.01)


def test_a_part_out_of_time_may_clean_up_as_at_ctrl_c(tmp_path: Path) -> None:
    code = "import time\ntry:\n    time.sleep(99)\nfinally:\n    print('cleaned up')"
    assert run(part(code), tmp_path, 3.0)["state"] == "late"
    assert (tmp_path / "x.out").read_text() == "cleaned up\n"


def test_no_part_begins_without_time_or_its_engine(tmp_path: Path) -> None:
    assert run(part("print()"), tmp_path, limit_s=0.0)["why"] == "no time is left"
    assert run(part("print()", skip="no torch"), tmp_path)["why"] == "no torch"


def test_a_part_that_ends_well_without_figures_skipped_itself(tmp_path: Path) -> None:
    made = Part("x", 60.0, [sys.executable, "-c", "print('no meter can be read')"], dict)
    assert run(made, tmp_path) == {"part": "x", "state": "skipped", "why": "no meter can be read"}


@pytest.mark.parametrize("skip", ["", "no torch"])
def test_what_an_earlier_run_left_is_never_read_as_new(skip: str, tmp_path: Path) -> None:
    for name in ("x.out", "a.db", "a.db-wal", "a.db-shm", "other.db"):
        (tmp_path / name).write_text("old")
    left = tmp_path / "a.db"

    def read() -> dict[str, Any]:
        return {"figure": left.read_text()} if left.exists() else {}

    run(Part("x", 60.0, [sys.executable, "-c", "raise SystemExit('it failed')"], read, skip, [left]), tmp_path)
    assert not list(tmp_path.glob("a.db*"))
    assert not (tmp_path / "x.out").exists() or not (tmp_path / "x.out").read_text()
    assert (tmp_path / "other.db").read_text() == "old"


def test_every_part_names_the_files_that_it_is_read_from(tmp_path: Path) -> None:
    """A part that left nothing has no figures, whatever the folder held."""
    for each in parts_of(Rig("local-gpu", "torch-cuda", Sizes(), tmp_path), {}):
        for path in each.leaves:
            path.write_text("not even readable")
        (tmp_path / f"{each.name}.out").write_text("old")
        assert run_part(Part(each.name, 9.0, ["false"], each.read, "", each.leaves), 9.0, tmp_path)["state"] == "failed"
        assert set(run_part(Part(each.name, 9.0, ["true"], each.read, "", each.leaves), 9.0, tmp_path)) == {
            "part", "state", "why",
        }  # fmt: skip


@pytest.mark.parametrize(("words", "kept"), [([], False), (["--only", "x"], True)])
def test_the_operators_of_an_earlier_run_are_kept_for_single_parts_alone(
    words: list[str], kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LUT).write_text("old")
    monkeypatch.setattr(gpu, "parts_of", lambda rig, missing: [part("")])
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--engine", "fake", "--out", str(tmp_path), *words])
    gpu.main()
    assert (tmp_path / LUT).exists() == kept
    assert [row["state"] for row in json.loads((tmp_path / "gpu.json").read_text())["parts"]] == ["done"]


def test_what_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    def read() -> dict[str, Any]:
        raise ValueError("half a line")

    assert run(Part("x", 60.0, [sys.executable, "-c", ""], read), tmp_path)["unread"] == "ValueError: half a line"


def test_all_of_it_fits_ten_minutes_and_comes_in_the_order_in_which_it_matters(tmp_path: Path) -> None:
    parts = parts_of(Rig("local-gpu", "torch-cuda", Sizes(), tmp_path), {})
    assert LIMIT_S + GRACE_S + AROUND_S <= 600.0
    assert [each.name for each in parts] == [
        "torch-batch", "torch-single", "rate", "again", "contract-torch-cuda", "server", "contract-onnxruntime-cuda",
        "onnxruntime-cuda", "contract-onnxruntime-tensorrt", "onnxruntime-tensorrt", "energy",
    ]  # fmt: skip


def test_a_part_has_its_time_though_every_one_before_it_is_late_and_cleans_up(tmp_path: Path) -> None:
    parts, left_s = parts_of(Rig("local-gpu", "torch-cuda", Sizes(), tmp_path), {}), LIMIT_S
    for number, each in enumerate(parts, 1):
        given_s = share_s(each, parts[number:], left_s)
        assert given_s >= each.limit_s or not each.limit_s
        left_s -= given_s + GRACE_S if given_s > 0 else 0.0


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str, driver: str = "1", unit: str = "a") -> None:
    """Runs what is chosen of parts x, y and z on a GPU that is made up."""
    parts = [replace(part(""), name=name) for name in ("x", "y", "z")]
    told = {"gpu": {"name": "H100", "driver": driver, "uuid": unit}, "packages": {}, "engines": {}}
    monkeypatch.setattr(gpu, "why_no_gpu", lambda: "")
    monkeypatch.setattr(gpu, "describe", lambda rig: told)
    monkeypatch.setattr(gpu, "parts_of", lambda rig, missing: parts)
    monkeypatch.setattr(
        gpu, "run_part", lambda part, limit_s, folder: {"part": part.name, "state": "done", "by": words}
    )
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(folder), *words])
    gpu.main()


def figures(folder: Path) -> list[tuple[str, list[str]]]:
    return [(row["part"], row["by"]) for row in json.loads((folder / "gpu.json").read_text())["parts"]]


def test_single_parts_take_their_places_among_what_the_others_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu(monkeypatch, tmp_path)
    on_a_gpu(monkeypatch, tmp_path, "--only", "y", unit="b")
    assert figures(tmp_path) == [("x", []), ("y", ["--only", "y"]), ("z", [])]
    assert "| x | done |" in (tmp_path / "gpu.md").read_text()
    on_a_gpu(monkeypatch, tmp_path)
    assert figures(tmp_path) == [("x", []), ("y", []), ("z", [])]


def test_a_part_that_no_run_had_before_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("y", "x"):
        on_a_gpu(monkeypatch, tmp_path, "--only", name)
    assert [name for name, _ in figures(tmp_path)] == ["y", "x"]


@pytest.mark.parametrize(("words", "driver"), [((), "2"), (("--rehearse",), "1")])
def test_single_parts_are_not_added_to_what_is_of_another_driver_or_a_rehearsal(
    words: tuple[str, ...], driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu(monkeypatch, tmp_path)
    with pytest.raises(SystemExit, match=r"gpu.json is of H100 1; name another '--out'"):
        on_a_gpu(monkeypatch, tmp_path, "--only", "y", *words, driver=driver)
    assert figures(tmp_path) == [("x", []), ("y", []), ("z", [])]


def test_greeting_agents_takes_no_time_from_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, given_s = [0.0], list[float]()

    def describe(rig: Rig) -> dict[str, Any]:
        now_s[0] += 2 * LIMIT_S
        return {"gpu": {}, "packages": {}, "engines": {}}

    def run_at_once(part: Part, limit_s: float, folder: Path) -> dict[str, Any]:
        given_s.append(limit_s)
        return {"part": part.name, "state": "done"}

    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(gpu, "describe", describe)
    monkeypatch.setattr(gpu, "parts_of", lambda rig, missing: [part("")])
    monkeypatch.setattr(gpu, "run_part", run_at_once)
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--out", str(tmp_path)])
    gpu.main()
    assert given_s == [LIMIT_S]


def test_a_part_takes_what_no_later_one_needs() -> None:
    first, last, skipped = part(""), part(""), part("", skip="no torch")
    assert share_s(first, [last, skipped], 585.0) == 525.0 - GRACE_S
    assert share_s(first, [last] * 20, 585.0) == 60.0
    assert share_s(last, [skipped], 300.0) == 300.0
    assert share_s(last, [last], 20.0) == 20.0
    assert share_s(last, [], -1.0) <= 0


def test_parts_whose_engine_or_pytest_is_missing_are_skipped_with_the_reason(tmp_path: Path) -> None:
    rig = Rig("local-gpu", "torch-cuda", Sizes(), tmp_path)
    absent = parts_of(rig, {"onnxruntime-tensorrt": "no libraries", "pytest": "no pytest"})
    assert {each.name: each.skip for each in absent if each.skip} == {
        "contract-torch-cuda": "no pytest",
        "contract-onnxruntime-cuda": "no pytest",
        "contract-onnxruntime-tensorrt": "no libraries",
        "onnxruntime-tensorrt": "no libraries",
    }
    rest = {each.name for each in parts_of(rig, {"torch-cuda": "no torch"}) if not each.skip}
    assert rest == {"contract-onnxruntime-cuda", "onnxruntime-cuda", "contract-onnxruntime-tensorrt",
                    "onnxruntime-tensorrt", "energy"}  # fmt: skip


def test_only_the_providers_agents_run_in_the_python_of_their_own(tmp_path: Path) -> None:
    rig = Rig("local-gpu", "torch-cuda", Sizes(), tmp_path, agent_python="/ort/python")
    named = {each.name for each in parts_of(rig, {}) if any("/ort/python" in word for word in each.command)}
    assert named == {"contract-onnxruntime-cuda", "onnxruntime-cuda", "contract-onnxruntime-tensorrt",
                     "onnxruntime-tensorrt"}  # fmt: skip


def test_a_python_that_runs_no_agent_is_why_its_engines_are_missing(tmp_path: Path) -> None:
    rig = Rig("local-cpu", "fake", TINY, tmp_path, ("onnxruntime",), "false")
    told = gpu.describe(rig)["engines"]
    assert "false must run an agent, but" in told["onnxruntime"]["unavailable"]
    assert "version" in told["fake"]
    whole = Rig("local-cpu", "fake", TINY, tmp_path, ("onnxruntime",), sys.executable)
    assert "version" in gpu.describe(whole)["engines"]["onnxruntime"]


def suite(words: list[str], **environment: str) -> str:
    """What pytest says."""
    words, known = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words], {**os.environ, **environment}
    return subprocess.run(words, cwd=PROJECT, env=known, capture_output=True, text=True).stdout


def test_a_contract_is_all_tests_of_its_engine_in_every_mode_and_of_no_other(tmp_path: Path) -> None:
    parts = parts_of(Rig("local-gpu", "torch-cuda", Sizes(), tmp_path, ("onnxruntime",)), {})
    words = [each.command for each in parts if each.name.startswith("contract-")]
    chosen = " or ".join(each[each.index("-k") + 1] for each in words)
    ids = [line for line in suite([str(words[0][-4]), "-k", chosen, "--collect-only"]).splitlines() if "::" in line]
    engines = ("[torch-cuda]", "-torch-cuda]", "torch-cuda-mode=eager]", "[onnxruntime]", "-onnxruntime]")
    assert all(id.endswith(engines) for id in ids)
    assert len(ids) == 3 * (len(engine_contract.DTYPES) + 4)


def test_a_contract_asks_an_agent_of_the_python_that_it_is_told_and_nothing_when_time_is_up(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n: >"{tmp_path}/used"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    told = {AGENT_PYTHON: str(python), UNTIL: str(time.monotonic())}
    said = suite(["tests/test_engine_contract.py", "-k", "broken and litert]", "-rs"], **told)
    assert "1 skipped" in said
    assert "no time is left" in said
    assert (tmp_path / "used").exists()


def test_a_contract_out_of_time_tells_how_many_operators_were_as_they_should_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And that one was not, where one was not."""

    def check(made: list[float]) -> None:
        left = iter([True] * len(made) + [False])
        monkeypatch.setattr(test_engine_contract, "time_is_left", lambda: next(left))
        answers = iter(made)
        monkeypatch.setattr(test_engine_contract, "found", lambda a, b, c, asked: asked.wanted + next(answers))
        here: Any = SimpleNamespace(hello=SimpleNamespace(machine={}))
        test_engine_contract.test_the_engine_computes_what_100_operators_mean(
            here, here, engine_contract.Engine("litert"), "float32"
        )

    with pytest.raises(pytest.skip.Exception, match="after 3 of 100 operators, as they should be"):
        check([0.0, 0.0, 0.0])
    with pytest.raises(AssertionError):
        check([0.0, 9.0, 0.0])


def test_a_model_that_runs_once_is_opened_without_settling() -> None:
    class Recorder:
        """An agent and its files at once."""

        options: dict[str, object]

        def put(self, name: str, blob: bytes) -> str:
            return name

        def run(self, engine: str, options: dict[str, object], *paths: str) -> None:
            self.options, self.into = options, paths[-1]

        def fetch(self, path: str) -> bytes:
            import io

            packed = io.BytesIO()
            np.savez(packed, **{"0": asked.wanted})
            return packed.getvalue()

    recorder = Recorder()
    asked = engine_contract.ask(make_op("relu", TensorSpec((1, 8))), "onnx")
    engine_contract.found(recorder, recorder, engine_contract.Engine("onnxruntime"), asked)  # type: ignore[arg-type]
    assert recorder.options == {"threads": 1, "optimisation": "all", "settle": "off"}


@pytest.mark.parametrize("module", ["benchmarks.additivity", "benchmarks.server", "benchmarks.gpu_energy"])
@pytest.mark.parametrize("sizes", [Sizes(), TINY], ids=["full", "tiny"])
def test_every_command_is_understood_by_what_it_calls(module: str, sizes: Sizes, tmp_path: Path) -> None:
    """An option that is unknown ends a command before it looks for ``--help``, which ends it well."""
    for each in parts_of(Rig("local-gpu", "torch-cuda", sizes, tmp_path), {}):
        if module in each.command:
            words = list(each.command)
            words.append("--help") if "--resume" not in words else words.insert(3, "--help")
            ended = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stderr


def test_a_contracts_report_is_counted_with_its_reasons(tmp_path: Path) -> None:
    report = tmp_path / "a.xml"
    assert read_contract(report) == {}
    report.write_text(
        "<testsuites><testsuite><testcase name='a'/><testcase name='b'><failure message='too far&#10;x'/></testcase>"
        "<testcase name='c'><skipped message='no GPU'/></testcase></testsuite></testsuites>"
    )
    told = {"passed": 1, "failure": 1, "skipped": 1, "reasons": ["b: too far", "c: no GPU"]}
    assert read_contract(report) == told


def row(**more: Any) -> dict[str, Any]:
    return {
        "engine": "torch-cuda", "space": "chamnet-res@b32", "seconds": 9.0, "target": "t", "networks": 12, "mape": 2.5,
        "bias": 0.1, "worst": 8.0, "spearman": 1.0, "noise_floor": 0.5, "uncalibrated_mape": 6.0, "within_10": 100.0,
        **more,
    }  # fmt: skip


def test_rows_of_a_validation_that_did_not_end_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_additivity(path) == {}
    failed = {"engine": "torch-cuda", "space": "mbconv", "seconds": 1.0, "failed": "no memory"}
    path.write_text(json.dumps(row()) + "\n" + json.dumps(failed) + "\n")
    good, bad = read_additivity(path)["rows"]
    assert (good["mape"], good["outside_percent"]) == (2.5, 0.0)
    assert bad["failed"] == "no memory"


def test_a_validation_meets_what_is_asked_of_batches_and_of_single_images() -> None:
    def told(**more: Any) -> str:
        return verdict({"outside_percent": 0.0, **row(**more)})

    assert (told(), told(mape=3.1), told(outside_percent=2.1)) == ("yes", "NO", "NO")
    assert (told(space="chamnet-res", mape=5.9, outside_percent=9.0), told(space="mbconv", mape=6.1)) == ("yes", "NO")


def profiled(db: Path, count: int, passes: int = 2) -> None:
    operators = tuple(
        make_op("conv2d", TensorSpec((1, 8, 8, 8)), out_channels=8 * n, kernel=(3, 3)) for n in range(1, 7)
    )
    with open_store(db) as store:
        setting = Setting("fake", (0,), passes=passes)
        profile(store, find_unit("local-cpu"), setting, Workload(operators=operators[:count]), Progress())


def test_two_runs_are_held_against_each_other_on_what_both_measured(tmp_path: Path) -> None:
    profiled(tmp_path / "a.db", 6)
    profiled(tmp_path / "b.db", 3)
    said = tmp_path / "none.out"
    assert read_profile(tmp_path / "a.db", said)["operators"] == 6
    told = compare(tmp_path / "a.db", tmp_path / "b.db")
    assert told["operators"] == 3
    assert told["median_ratio"] == pytest.approx(1.0, abs=0.05)
    assert compare(tmp_path / "a.db", tmp_path / "none.db") == read_profile(tmp_path / "none.db", said) == {}


def test_operators_measured_once_count_half_for_the_rate(tmp_path: Path) -> None:
    profiled(tmp_path / "a.db", 6, passes=1)
    told = read_profile(tmp_path / "a.db", tmp_path / "a.out")
    assert (told["operators"], told["measurements"]) == (3, 6)


def test_the_start_of_a_program_counts_once_for_the_rate(tmp_path: Path) -> None:
    """Of 60 s for 100 operators, 20 are the start: in ten minutes that leaves 580 for 2.5 a second."""
    profiled(tmp_path / "a.db", 6)
    (tmp_path / "a.out").write_text('[{"seconds": {"learn": 1.5, "measure": 2.0, "store": 0.5}}]')
    assert read_profile(tmp_path / "a.db", tmp_path / "a.out")["worked_s"] == 4.0
    part = {"operators": 100, "seconds": 60.0, "worked_s": 40.0, "doubts": {}}
    assert rate_of(part) == "100 operators, 1450 in 10 min: NO; no doubts"


def test_output_that_is_not_there_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "a.out").write_text("")
    assert read_json(tmp_path / "a.out") == read_json(tmp_path / "b.out") == {}
    (tmp_path / "a.out").write_text('{"rows": [1]}')
    assert read_json(tmp_path / "a.out") == {"told": {"rows": [1]}}


def test_the_table_says_what_was_found_and_that_a_rehearsal_is_none() -> None:
    parts = [
        {"part": "torch-batch", "state": "done", "seconds": 60.0, "rows": [{"outside_percent": 0.0, **row()}]},
        {"part": "rate", "state": "late", "seconds": 60.0, "operators": 300, "measurements": 600, "doubts": {}},
        {"part": "again", "state": "done", "seconds": 9.0, "operators": 50, "median_ratio": 1.03,
         "median_deviation_percent": 3.1},
        {"part": "server", "state": "failed", "seconds": 1.0, "why": "a | b"},
        {"part": "contract-torch-cuda", "state": "done", "seconds": 9.0, "passed": 7, "skipped": 1,
         "reasons": ["b: no time is left"]},
    ]  # fmt: skip
    told = {"rehearsed": False, "gpu": {"name": "H100", "isa": "sm_90"}, "parts": parts, "packages": {"torch": None},
            "engines": {"torch-cuda": {"unavailable": "no torch"}, "litert": {"version": "2"}}}  # fmt: skip
    text = markdown(told)
    assert "# H100, sm_90" in text
    assert "* torch: not installed" in text
    assert "* torch-cuda: no: no torch" in text
    assert "litert" not in text
    assert "300 operators, 3000 in 10 min: yes; no doubts" in text
    assert "median ratio 1.0300 over 50 operators, within 2 %: NO" in text
    assert "| server | failed | 1.0 | a / b |" in text
    assert "| contract-torch-cuda | done | 9.0 | passed 7; skipped 1; b: no time is left |" in text
    assert "| torch-cuda | chamnet-res@b32 | 2.50 | 0.00 | 8.00 | 0.50 | 6.00 | yes |" in text
    assert "no figure says anything about a GPU" in markdown({**told, "rehearsed": True})
