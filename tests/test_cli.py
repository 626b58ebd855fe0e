"""The command as a user types it: what it prints, and the exit status of every bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host import cli
from lut_db.lut import MissingOpsError
from lut_db.records import Target
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from ops_catalog.sweep import load_sweep


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(arguments)
    printed = capfd.readouterr()
    return status, printed.out, printed.err


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


RELU = "relu(1x8x4x4;float32)"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--engine", "warp", "--network", "mobilenet-v2"), 2, "engine must be one of onnxruntime, "),
        (("--network", "mobilenet-v9"), 2, "a network must be one of chamnet-a"),
        (("--space", "outer"), 2, "must be one of chamnet-mobile, chamnet-res, ofa-mobile, mbconv, macro, or"),
        (("--network", "mobilenet-v2", "--dtype", "int3"), 2, "--dtype must be among float32"),
        (("--network", "mobilenet-v2", "--threads", "4096"), 2, "threads must be at most"),
        (("--network", "mobilenet-v2", "--threads", "0"), 2, "--threads must be numbers"),
        (("--network", "mobilenet-v2", "--threads", "two"), 2, "--threads must be numbers"),
        (("--network", "mobilenet-v2", "--cpus", "9999"), 2, "--cpus must be among"),
        (("--network", "mobilenet-v2", "--threads", "2", "--cpus", "0"), 2, "threads must be at most"),
        (("--network", "mobilenet-v2", "--device", "snapdragon835"), 4, "'snapdragon835' must be connected"),
        (("--ops", "nowhere.json"), 2, "nowhere.json"),
    ],
)
def test_a_request_that_cannot_be_meant_is_one_line(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, message: str
) -> None:
    found, out, err = run(capfd, "profile", *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert err.startswith("chamnet: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RELU + "\nwarp(1x8;float32)\n", "line 2"),
        ('{"operators": ["relu"]}', "relu"),
        ('{"operators": 3}', "operators"),
        ("{", "JSON"),
        ("\x00\x01", "key"),
    ],
)
def test_a_bad_operators_file_names_the_place(capfd: pytest.CaptureFixture[str], content: str, message: str) -> None:
    status, _, err = run(capfd, "profile", "--engine", "fake", "--ops", write("ops.txt", content))
    assert status == 2
    assert "ops.txt" in err
    assert message in err


def test_a_database_that_is_none_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    write("lut.db", "a text, not a database, and long enough to be read as one " * 20)
    status, _, err = run(capfd, "profile", "--engine", "fake", "--ops", write("ops.txt", RELU), "--db", "lut.db")
    assert (status, "must be a database" in err) == (1, True)


def test_profiling_an_operators_file_prints_json_and_resumes(capfd: pytest.CaptureFixture[str]) -> None:
    command = ("profile", "--engine", "fake", "--ops", write("ops.txt", RELU), "--json")
    status, out, _ = run(capfd, *command)
    assert (status, json.loads(out)[0]["measured"]) == (0, 2)
    status, out, _ = run(capfd, *command)
    assert (status, json.loads(out)[0]["measured"]) == (0, 0)


def test_a_plan_opens_no_database(capfd: pytest.CaptureFixture[str]) -> None:
    command = ("profile", "--network", "mobilenet-v2", "--threads", "1", "--engine", "litert,onnxruntime")
    status, out, _ = run(capfd, *command, "--dry-run", "--json")
    assert status == 0
    assert [row["operators"] for row in json.loads(out)] == [33, 33]
    assert not Path("chamnet.db").exists()


def test_what_is_refused_makes_the_run_partial(capfd: pytest.CaptureFixture[str]) -> None:
    ops = write("ops.txt", f"{RELU}\nlayer_norm(1x4x8;float32)\n")
    status, out, _ = run(capfd, "profile", "--engine", "litert", "--dtype", "int8", "--ops", ops, "--json")
    assert status == 3
    assert list(json.loads(out)[0]["refused"]) == ["layer_norm(1x4x8;int8)"]


def test_a_table_can_be_looked_at_and_moved(capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "profile", "--engine", "fake", "--ops", write("ops.txt", RELU))
    status, out, _ = run(capfd, "lut", "targets", "--json", "--db", "chamnet.db")
    assert (status, json.loads(out)[0]["counts"]["operators"]) == (0, 1)
    status, out, _ = run(capfd, "lut", "show", "--json")
    assert (status, json.loads(out)["entries"][0]["key"]) == (0, RELU)
    for kind in ("csv", "jsonl", "parquet"):
        assert run(capfd, "lut", "export", f"table.{kind}")[0] == 0
    assert run(capfd, "lut", "import", "table.jsonl", "--db", "other.db")[0] == 0
    assert "2 measurements readable" in run(capfd, "lut", "check", "--db", "other.db")[1]
    assert run(capfd, "lut", "upgrade", "--db", "other.db")[0] == 0


@pytest.mark.parametrize("command", ["targets", "show", "check"])
def test_looking_makes_no_database(capfd: pytest.CaptureFixture[str], command: str) -> None:
    status, _, err = run(capfd, "lut", command)
    assert (status, "there is none" in err) == (1, True)
    assert not Path("chamnet.db").exists()


@pytest.mark.parametrize(("name", "status"), [("table.xls", 1), ("nowhere.jsonl", 1)])
def test_a_file_that_cannot_be_imported_is_one_line(capfd: pytest.CaptureFixture[str], name: str, status: int) -> None:
    found, _, err = run(capfd, "lut", "import", name)
    assert (found, err.count("\n")) == (status, 1)


def test_devices_shows_engines_and_why_meters_are_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, "devices", "--json")
    local = json.loads(out)["local"]
    assert status == 0
    assert local["engines"]["fake"] == {"version": "1"}
    assert set(local["meters"]["rapl"]) <= {"available", "unavailable"}


def test_operators_are_listed_counted_and_exported(capfd: pytest.CaptureFixture[str]) -> None:
    ops = ("--ops", write("ops.txt", f"{RELU}\nsoftmax(1x10;float32)\n"))
    assert run(capfd, "ops", "list", *ops)[1].splitlines()[0].startswith(RELU)
    assert run(capfd, "ops", "count", *ops)[1].split()[-3:] == ["2", "in", "all"]
    assert run(capfd, "ops", "export", *ops, "--out", "models", "--format", "tflite")[0] == 0
    assert len(list(Path("models").glob("*.tflite"))) == 2


def test_missing_operators_are_written_to_a_file_to_profile(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    op = make_op("relu", TensorSpec((1, 8)))
    target = Target("local-cpu", "litert", "2.3.0", "cpu", "float32", 1, (1,), "avx2")

    def lacking(*arguments: object, **options: object) -> None:
        raise MissingOpsError(target, [op])

    monkeypatch.setattr(cli, "app", lacking)
    status, _, err = run(capfd, "anything")
    assert (status, "--ops missing.json" in err) == (1, True)
    assert load_sweep(Path("missing.json")).operators == (op,)


def test_usage_errors_of_the_command_line_itself_are_status_two(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capfd, "profile", "--colour", "red")
    assert status == 2
    assert "--colour" in err
