"""The engine benchmark_model: the real agent in a real process, with a stand-in for the binary."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.engines.benchmark_model import command
from agent.engines.launch import remote_line
from agent.protocol import Failure, Measure, Measured, Message, Model, Optimise, Run
from tests.test_agent import Agent, kind

STAND_IN = Path(__file__).parent / "stand_in" / "benchmark_model"
HEXAGON = {"flags": ["--use_hexagon=true", "--require_full_delegation=true"], "confirm": True}
ADB = """import os, sys
words = sys.argv[1:]
assert words[:3] == ["-s", "SERIAL", "shell"] and len(words) == 4, words
if os.environ.get("ADB_FAILS"):
    sys.exit(255)
sys.stdout.flush()
os.execv("/bin/sh", ["sh", "-c", words[3]])
"""
"""As adb does: one text to the shell over there. It passes the exit status of that shell on."""

Start = Callable[..., Agent]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts an agent whose environment names the stand-in; more variables as given."""
    running = []

    def begin(**environment: str) -> Agent:
        for name, value in {"CHAMNET_BENCHMARK_BINARY": str(STAND_IN), **environment}.items():
            monkeypatch.setenv(name, value)
        running.append(Agent())
        return running[-1]

    yield begin
    for agent in running:
        agent.process.kill()
        agent.process.wait()


def prefix(folder: Path) -> str:
    script = folder / "adb.py"
    script.write_text(ADB)
    return json.dumps([sys.executable, str(script), "-s", "SERIAL", "shell"])


def model(folder: Path, name: str, size: int = 400) -> Model:
    path = folder / f"{name}.tflite"
    path.write_text("x" * size)
    return Model(name, str(path))


def ask(agent: Agent, folder: Path, *models: Model, sentinel: bool = False, **options: Any) -> list[Message]:
    null, network = model(folder, "null", 1).path, model(folder, "net", 9000).path if sentinel else None
    return agent.ask(Measure("benchmark_model", options, list(models), null, network))


def only_failure(answers: list[Message]) -> Failure:
    (failure,) = (message for message in answers if isinstance(message, Failure))
    return failure


def engine(agent: Agent) -> dict[str, str]:
    return agent.hello.engines["benchmark_model"]  # type: ignore[union-attr]


@pytest.mark.parametrize("generation", ["1", "2", "3", "4"])
def test_it_measures_with_every_generation_of_the_binary(start: Start, tmp_path: Path, generation: str) -> None:
    answers = ask(start(STAND_IN_GENERATION=generation), tmp_path, model(tmp_path, "a"), **HEXAGON)
    assert [kind(message) for message in answers] == ["Opening", "Measured", "Done"]
    measured = answers[1]
    assert isinstance(measured, Measured)
    assert measured.bursts_ns == []
    assert measured.summary is not None
    assert measured.summary["avg_ns"] == pytest.approx(500_000, abs=5_000)
    assert measured.overhead_ns == pytest.approx(101_000, abs=5_000)
    assert ("median_ns" in measured.summary) == (generation == "3")


def test_options_become_flags_pinning_and_environment(start: Start, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_runs": 7, "min_secs": 0.1, "max_secs": 2, "warmup_min_secs": 0.2, "threads": 2}
    answers = ask(
        start(), tmp_path, model(tmp_path, "a"), cpus=[0], environment={"STAND_IN_GENERATION": "2"}, **options
    )
    assert isinstance(answers[1], Measured)
    assert answers[1].summary == {
        "count": 15, "avg_ns": 500_000, "std_ns": 5_000, "min_ns": 490_000, "max_ns": 530_000
    }  # fmt: skip
    assert command("/b", "/m", {**options, "cpus": [4, 5, 6, 7], "flags": ["--x=1"]}) == [
        "taskset", "f0", "/b", "--graph=/m", "--num_threads=2", "--num_runs=7", "--min_secs=0.1", "--max_secs=2",
        "--warmup_min_secs=0.2", "--x=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "options", "reason", "text"),
    [
        ("fallback", HEXAGON, "fallback", "fell back to the CPU"),
        ("partial", HEXAGON, "fallback", "fell back to the CPU"),
        ("fallback", {"flags": ["--use_hexagon=true"], "confirm": True}, "fallback", "fell back to the CPU"),
        ("partial", {"flags": ["--use_gpu=true"], "confirm": True}, "fallback", "partially executed"),
        ("none", {"confirm": True}, "fallback", "no line confirms"),
        ("crash", {}, "run", "139"),
        ("garbage", {}, "format", "measured block"),
        ("cut", {}, "format", "one line"),
        ("unknown_flags", {}, "format", "Unconsumed cmdline flags"),
        ("none", {"flags": ["--no_such_flag=1"]}, "format", "--no_such_flag=1"),
        ("none", {"flags": ["rm"]}, "run", "flags must be"),
        ("none", {"cpus": [-1]}, "run", "cpus must be"),
        ("none", {"num_runs": "7; reboot"}, "run", "num_runs must be"),
        ("none", {"environment": {"A;reboot": "1"}}, "run", "variable must"),
    ],
)
def test_what_goes_wrong_is_told_apart(
    start: Start, tmp_path: Path, behaviour: str, options: dict[str, Any], reason: str, text: str
) -> None:
    failure = only_failure(ask(start(STAND_IN_BEHAVIOUR=behaviour), tmp_path, model(tmp_path, "a"), **options))
    assert failure.reason == reason
    assert text in failure.message
    if reason == "fallback":
        assert failure.message.startswith("fell back to the CPU")


def test_without_confirmation_the_cpu_times_of_a_fallback_are_what_was_asked_for(start: Start, tmp_path: Path) -> None:
    options = {"flags": ["--use_hexagon=true"]}
    answers = ask(start(STAND_IN_BEHAVIOUR="fallback"), tmp_path, model(tmp_path, "a"), **options)
    assert "Measured" in map(kind, answers)


def only_bad(binary: Path, folder: Path) -> Path:
    """The stand-in, but of a model named bad the log is cut."""
    script = folder / "benchmark"
    script.write_text(f'#!/bin/sh\ncase "$*" in *bad*) STAND_IN_BEHAVIOUR=cut; export STAND_IN_BEHAVIOUR;; esac\n'
                      f'exec {shlex.quote(str(binary))} "$@"\n')  # fmt: skip
    script.chmod(0o755)
    return script


def test_a_model_with_an_unknown_log_is_named_its_log_kept_and_the_others_measured(
    start: Start, tmp_path: Path
) -> None:
    agent = start(CHAMNET_BENCHMARK_BINARY=str(only_bad(STAND_IN, tmp_path)))
    answers = ask(agent, tmp_path, model(tmp_path, "a"), model(tmp_path, "bad"), model(tmp_path, "b"))
    assert [kind(message) for message in answers] == [
        "Opening", "Measured", "Opening", "Failure", "Opening", "Measured", "Done"
    ]  # fmt: skip
    failure = only_failure(answers)
    assert (failure.id, failure.reason) == ("bad", "format")
    kept = tmp_path / "bad.tflite.log"
    assert str(kept) in failure.message
    assert "STARTING!" in kept.read_text()


def test_a_hanging_benchmark_is_killed_with_all_it_started(start: Start, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *bad*) sleep 987 & echo $! > {tmp_path}/child; wait;; esac\n'
                    f'exec {shlex.quote(str(STAND_IN))} "$@"\n')  # fmt: skip
    slow.chmod(0o755)
    agent = start(CHAMNET_BENCHMARK_BINARY=str(slow))
    failure = only_failure(ask(agent, tmp_path, model(tmp_path, "bad"), timeout_s=1))
    assert (failure.id, failure.reason) == ("bad", "run")
    assert "must end within 1 s" in failure.message
    child = int((tmp_path / "child").read_text())
    assert ended(child)


def ended(pid: int, limit_s: float = 10.0) -> bool:
    """A killed process may stay as a zombie until its new parent has read its status."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_the_sentinel_is_timed_first_every_16_models_and_last(start: Start, tmp_path: Path) -> None:
    models = [model(tmp_path, f"m{number}") for number in range(17)]
    done = ask(start(), tmp_path, *models, sentinel=True)[-1]
    looks = done.sentinel_ns  # type: ignore[union-attr]
    assert [ns for _, ns in looks] == [9_100_000] * 3
    assert [at for at, _ in looks] == sorted({at for at, _ in looks})


@pytest.mark.parametrize("generation", ["1", "3"])
def test_it_measures_behind_a_shell_far_away(start: Start, tmp_path: Path, generation: str) -> None:
    agent = start(CHAMNET_PREFIX=prefix(tmp_path))
    answers = ask(
        agent, tmp_path, model(tmp_path, "a"), **HEXAGON, environment={"STAND_IN_GENERATION": generation, "X": "a;b c"}
    )
    assert [kind(message) for message in answers] == ["Opening", "Measured", "Done"]


def test_no_path_breaks_out_of_the_shell_far_away(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "it's; touch owned; $(touch owned) `touch owned` \"&"
    folder.mkdir()
    agent = start(CHAMNET_PREFIX=prefix(tmp_path))
    answers = ask(agent, folder, model(folder, "a b"), environment={"LD_LIBRARY_PATH": "'; touch owned"})
    assert "Measured" in map(kind, answers)
    assert not list(tmp_path.rglob("owned"))
    assert not Path("owned").exists()


def test_a_status_far_away_is_its_own_and_the_log_is_kept_here(start: Start, tmp_path: Path) -> None:
    agent = start(CHAMNET_PREFIX=prefix(tmp_path), CHAMNET_BENCHMARK_BINARY=str(only_bad(STAND_IN, tmp_path)),
                  TMPDIR=str(tmp_path))  # fmt: skip
    failure = only_failure(ask(agent, tmp_path, model(tmp_path, "bad")))
    assert failure.reason == "format"
    (kept,) = tmp_path.glob("chamnet-bad.tflite-*.log")
    assert str(kept) in failure.message
    crashed = only_failure(
        ask(start(STAND_IN_BEHAVIOUR="crash", CHAMNET_BENCHMARK_BINARY=str(STAND_IN)), tmp_path, model(tmp_path, "a"))
    )
    assert "139" in crashed.message


def test_a_lost_connection_ends_the_request_and_blames_no_model(start: Start, tmp_path: Path) -> None:
    binary = tmp_path / "vanishes"
    binary.write_text(f'#!/bin/sh\ncase "$*" in *bad*) kill -9 $PPID;; esac\nexec {shlex.quote(str(STAND_IN))} "$@"\n')
    binary.chmod(0o755)
    agent = start(CHAMNET_PREFIX=prefix(tmp_path), CHAMNET_BENCHMARK_BINARY=str(binary))
    answers = ask(agent, tmp_path, model(tmp_path, "a"), model(tmp_path, "bad"))
    failure = answers[-1]
    assert isinstance(failure, Failure)
    assert (failure.id, failure.reason) == (None, "lost")
    assert "must stay connected" in failure.message


def test_the_version_is_the_digest_of_the_binary_here_and_far_away(start: Start, tmp_path: Path) -> None:
    expected = {"version": f"sha256-{hashlib.sha256(STAND_IN.read_bytes()).hexdigest()[:12]}"}
    assert engine(start()) == expected
    assert engine(start(CHAMNET_PREFIX=prefix(tmp_path))) == expected


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"CHAMNET_BENCHMARK_BINARY": ""}, "--benchmark-binary"),
        ({"CHAMNET_BENCHMARK_BINARY": "/no/such/file"}, "executable"),
        ({"CHAMNET_BENCHMARK_BINARY": __file__}, "executable"),
        ({"CHAMNET_PREFIX": "adb shell"}, "JSON"),
        ({"CHAMNET_PREFIX": '["no-such-adb", "shell"]'}, "no-such-adb"),
    ],
)
def test_why_it_is_unavailable_is_told_with_what_to_do(start: Start, environment: dict[str, str], text: str) -> None:
    assert text in engine(start(**environment))["unavailable"]


def test_a_missing_binary_or_device_far_away_is_told(start: Start, tmp_path: Path) -> None:
    far = prefix(tmp_path)
    missing = start(CHAMNET_PREFIX=far, CHAMNET_BENCHMARK_BINARY="/no/such/file")
    assert "executable" in engine(missing)["unavailable"]
    lost = start(CHAMNET_PREFIX=far, CHAMNET_BENCHMARK_BINARY=str(STAND_IN), ADB_FAILS="1")
    assert "must stay connected" in engine(lost)["unavailable"]


def test_it_copies_when_asked_to_optimise_and_runs_nothing_singly(start: Start, tmp_path: Path) -> None:
    agent, path, into = start(), model(tmp_path, "a").path, str(tmp_path / "copy")
    assert [kind(message) for message in agent.ask(Optimise("benchmark_model", {}, path, into))] == ["Done"]
    assert Path(into).read_bytes() == Path(path).read_bytes()
    (answer,) = agent.ask(Run("benchmark_model", {}, path, "", ""))
    assert kind(answer) == "Failure"


def test_the_line_for_a_shell_tells_the_status_of_the_command() -> None:
    line = remote_line(["sh", "-c", "echo out; echo err >&2; exit 7"], {"A": "b c"}, "mark")
    for shell in filter(None, map(shutil.which, ("sh", "dash", "mksh", "busybox"))):
        words = [shell, "sh", "-c", line] if shell.endswith("busybox") else [shell, "-c", line]
        assert subprocess.run(words, capture_output=True, text=True).stdout == "out\nerr\n\nmark=7\n"


def test_the_stand_in_is_executable_and_says_what_it_is(tmp_path: Path) -> None:
    assert os.access(STAND_IN, os.X_OK)
    told = subprocess.run([STAND_IN, f"--graph={model(tmp_path, 'a').path}"], capture_output=True, text=True)
    assert "stand-in" in told.stdout
    assert told.returncode == 0
