"""The one call for a GPU: parts end in time, whatever they do, and what they leave is read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import run_part
from benchmarks.gpu_parts import (
    TINY,
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
from benchmarks.gpu_table import markdown, verdict
from host.devices import find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.store import open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec

PROJECT = Path(__file__).parent.parent


def part(code: str, limit_s: float = 60.0, **more: Any) -> Part:
    return Part("x", limit_s, [sys.executable, "-c", code], lambda: {"figure": 1}, **more)


def run(made: Part, folder: Path, left_s: float = 100.0) -> dict[str, Any]:
    return run_part(made, time.monotonic() + left_s, folder)


def test_a_part_that_does_its_work_is_done(tmp_path: Path) -> None:
    row = run(part("print('all well')"), tmp_path)
    assert (row["state"], row["figure"]) == ("done", 1)
    assert "why" not in row


def test_a_part_that_fails_is_told_with_its_last_words_and_what_it_left(tmp_path: Path) -> None:
    row = run(part("raise SystemExit('no such engine')"), tmp_path)
    assert (row["state"], row["why"], row["figure"]) == ("failed", "no such engine", 1)


def test_a_part_out_of_time_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    )
    row = run(part(f"{code}\nprint(child.pid, flush=True)\ntime.sleep(99)", 3.0), tmp_path)
    assert (row["state"], row["why"], row["figure"]) == ("late", "out of 3 s", 1)
    child = Path(f"/proc/{(tmp_path / 'x.out').read_text().strip()}/stat")
    until = time.monotonic() + 30.0
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < until, "what it started must end, too"
        time.sleep(0.01)


def test_no_part_begins_without_time_or_its_engine(tmp_path: Path) -> None:
    assert run(part("print()"), tmp_path, left_s=0.0)["why"] == "no time is left"
    assert run(part("print()", skip="no torch"), tmp_path)["why"] == "no torch"


def test_what_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    def read() -> dict[str, Any]:
        raise ValueError("half a line")

    assert run(Part("x", 60.0, [sys.executable, "-c", ""], read), tmp_path)["unread"] == "ValueError: half a line"


def test_all_of_it_fits_ten_minutes(tmp_path: Path) -> None:
    parts = parts_of(Rig("local-gpu", "torch-cuda", Sizes(), tmp_path), {"onnxruntime-tensorrt": "no libraries"})
    assert sum(each.limit_s for each in parts if not each.skip) <= 600
    assert {each.name for each in parts if each.skip} == {"onnxruntime-tensorrt"}
    assert len({each.name for each in parts}) == len(parts) == 9


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


def profiled(db: Path, count: int) -> None:
    operators = tuple(
        make_op("conv2d", TensorSpec((1, 8, 8, 8)), out_channels=8 * n, kernel=(3, 3)) for n in range(1, 7)
    )
    with open_store(db) as store:
        profile(store, find_unit("local-cpu"), Setting("fake", (0,)), Workload(operators=operators[:count]), Progress())


def test_two_runs_are_held_against_each_other_on_what_both_measured(tmp_path: Path) -> None:
    profiled(tmp_path / "a.db", 6)
    profiled(tmp_path / "b.db", 3)
    assert read_profile(tmp_path / "a.db")["operators"] == 6
    told = compare(tmp_path / "a.db", tmp_path / "b.db")
    assert told["operators"] == 3
    assert told["median_ratio"] == pytest.approx(1.0, abs=0.05)
    assert compare(tmp_path / "a.db", tmp_path / "none.db") == read_profile(tmp_path / "none.db") == {}


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
    assert "| torch-cuda | chamnet-res@b32 | 2.50 | 0.00 | 8.00 | 0.50 | 6.00 | yes |" in text
    assert "no figure says anything about a GPU" in markdown({**told, "rehearsed": True})


def test_the_script_is_a_script() -> None:
    subprocess.run(["sh", "-n", "benchmarks/gpu_all.sh"], cwd=PROJECT, check=True)
