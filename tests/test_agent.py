"""The real agent in a real process."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.engines import ENGINES as ENGINES_OF_THE_AGENT
from agent.protocol import VERSION, Measure, Message, Model, Optimise, Quit, Run, decode, encode
from host.transport.local import AGENT_HOME
from ops_catalog.build import single
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec

CONV = make_op("conv2d", TensorSpec((1, 8, 8, 8)), out_channels=16, kernel=(3, 3))
ENGINES = {"onnxruntime": "onnx", "litert": "tflite"}


class Agent:
    """A subprocess that is spoken to line by line."""

    def __init__(self, python: str = sys.executable, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "agent", *arguments],
            cwd=AGENT_HOME,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.hello = self.read()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> Message:
        assert self.process.stdout is not None
        return decode(self.process.stdout.readline())

    def ask(self, request: Message) -> list[Message]:
        """All answers up to Done, or to a Failure of the whole request."""
        self.say(encode(request))
        answers = [self.read()]
        while kind(answers[-1]) != "Done" and not (kind(answers[-1]) == "Failure" and answers[-1].id is None):  # type: ignore[union-attr]
            answers.append(self.read())
        return answers

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)


def kind(message: Message) -> str:
    return type(message).__name__


@pytest.fixture
def agent() -> Iterator[Agent]:
    running = Agent()
    yield running
    running.process.kill()
    running.process.wait()


def null_model(folder: Path, engine: str) -> str:
    path = folder / f"null.{engine}"
    path.write_bytes(export_graph(single(make_op("relu", TensorSpec((1,)))), ENGINES.get(engine, "fake")))
    return str(path)


def model(folder: Path, name: str, engine: str, content: bytes | None = None) -> Model:
    path = folder / f"{name}.{engine}"
    path.write_bytes(export_graph(single(CONV), ENGINES[engine]) if content is None else content)
    return Model(name, str(path))


def fake(folder: Path, name: str, **body: object) -> Model:
    path = folder / f"{name}.fake"
    path.write_text(json.dumps({"ns": 5000, **body}))
    return Model(name, str(path))


def test_it_greets_with_its_version_machine_engines_and_meters(agent: Agent) -> None:
    hello = agent.hello
    assert kind(hello) == "Hello"
    assert hello.version == VERSION  # type: ignore[union-attr]
    assert set(hello.engines) == set(ENGINES_OF_THE_AGENT)  # type: ignore[union-attr]
    assert all(set(meter) <= {"available", "unavailable"} for meter in hello.meters.values())  # type: ignore[union-attr]


def test_it_ends_with_its_input(agent: Agent) -> None:
    assert agent.end() == 0


def test_it_ends_when_told(agent: Agent) -> None:
    agent.say(encode(Quit()))
    assert agent.process.wait(timeout=30) == 0


@pytest.mark.parametrize("line", ["", "nonsense", "{}", '{"is":"hello"}', '{"is":"opening","id":"3"}'])
def test_a_bad_line_is_answered_and_harms_nothing(agent: Agent, line: str, tmp_path: Path) -> None:
    agent.say(line)
    answer = agent.read()
    assert kind(answer) == "Failure"
    answers = agent.ask(Measure("fake", {}, [fake(tmp_path, "a")], fake(tmp_path, "null", ns=0).path))
    assert [kind(message) for message in answers] == ["Opening", "Measured", "Done"]


def test_an_unknown_engine_is_a_failure_that_names_those_there_are(agent: Agent, tmp_path: Path) -> None:
    (answer,) = agent.ask(Measure("warp", {}, [], ""))
    assert kind(answer) == "Failure"
    assert "fake, litert, onnxruntime" in answer.message  # type: ignore[union-attr]


@pytest.mark.parametrize("engine", ENGINES)
def test_real_engines_measure_and_name_what_does_not_load(agent: Agent, engine: str, tmp_path: Path) -> None:
    models = [model(tmp_path, "good", engine), model(tmp_path, "bad", engine, b"not a model")]
    answers = agent.ask(Measure(engine, {"threads": 1}, models, null_model(tmp_path, engine)))
    found = {kind(message): message for message in answers}
    assert found["Failure"].id == "bad"  # type: ignore[union-attr]
    assert found["Failure"].reason == "load"  # type: ignore[union-attr]
    measured = found["Measured"]
    assert measured.id == "good"  # type: ignore[union-attr]
    assert len(measured.bursts_ns) >= 3  # type: ignore[union-attr]
    assert measured.overhead_ns > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("engine", ENGINES)
def test_run_gives_what_the_engine_computes(agent: Agent, engine: str, tmp_path: Path) -> None:
    relu = export_graph(single(make_op("relu", TensorSpec((2, 3)))), ENGINES[engine])
    path = model(tmp_path, "relu", engine, relu).path
    np.savez(tmp_path / "in.npz", **{"0": np.array([[-1, 2, -3], [4, -5, 6]], np.float32)})
    request = Run(engine, {}, path, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert [kind(message) for message in agent.ask(request)] == ["Done"]
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs["0"].tolist() == [[0, 2, 0], [4, 0, 6]]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_optimised_network_runs(agent: Agent, engine: str, tmp_path: Path) -> None:
    network = export_graph(build_network("mobilenet-v2-0.35-96"), ENGINES[engine])
    path, into = model(tmp_path, "net", engine, network).path, str(tmp_path / "optimised")
    assert [kind(message) for message in agent.ask(Optimise(engine, {"threads": 1}, path, into))] == ["Done"]
    request = Measure(engine, {"optimisation": "none"}, [Model("net", into)], null_model(tmp_path, engine))
    assert "Measured" in [kind(message) for message in agent.ask(request)]


def test_a_sentinel_is_looked_at_in_every_batch(agent: Agent, tmp_path: Path) -> None:
    request = Measure(
        "fake", {}, [fake(tmp_path, "a")], fake(tmp_path, "null", ns=0).path, fake(tmp_path, "net", ns=9000).path
    )
    done = agent.ask(request)[-1]
    assert len(done.sentinel_ns) >= 2  # type: ignore[union-attr]


@pytest.mark.parametrize(("how", "reason"), [("load", "load"), ("run", "run"), ("memory", "memory")])
def test_a_model_that_fails_is_named_and_the_others_measured(
    agent: Agent, how: str, reason: str, tmp_path: Path
) -> None:
    models = [fake(tmp_path, "a"), fake(tmp_path, "bad", fail=how), fake(tmp_path, "b")]
    answers = agent.ask(Measure("fake", {}, models, fake(tmp_path, "null", ns=0).path))
    (failure,) = (message for message in answers if kind(message) == "Failure")
    assert (failure.id, failure.reason) == ("bad", reason)  # type: ignore[union-attr]
    assert {message.id for message in answers if kind(message) == "Measured"} == {"a", "b"}  # type: ignore[union-attr]


def test_it_pins_itself_to_the_processors_it_is_given() -> None:
    running = Agent(sys.executable, "--cpus", "0")
    affinity = Path(f"/proc/{running.process.pid}/status")
    if affinity.exists():
        assert "Cpus_allowed_list:\t0\n" in affinity.read_text()
    assert running.end() == 0


def test_every_file_is_python_3_9() -> None:
    import ast

    for path in (AGENT_HOME / "agent").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def other_pythons() -> list[str]:
    candidates = [*Path("/usr/bin").glob("python3.*"), *Path.home().glob(".pyenv/versions/3.*/bin/python")]
    return sorted(
        {str(path) for path in candidates if path.name.removeprefix("python3.").isdigit() or path.name == "python"}
    )


def version_of(python: str) -> tuple[int, ...]:
    found = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(map(int, found.stdout.split())) if found.returncode == 0 else (0,)


def test_it_measures_under_every_python_from_3_9_found_here(tmp_path: Path) -> None:
    pythons = [python for python in other_pythons() if version_of(python) >= (3, 9)]
    if not pythons:
        pytest.skip("no other Python from 3.9 on this machine")
    for python in pythons:
        running = Agent(python)
        answers = running.ask(Measure("fake", {}, [fake(tmp_path, "a")], fake(tmp_path, "null", ns=0).path))
        assert "Measured" in [kind(message) for message in answers], python
        assert running.end() == 0


@pytest.fixture(scope="session")
def tflite_runtime_python() -> str:
    """The Python of an environment that has tflite-runtime and NumPy 1 only; built once beside the tests' own."""
    if version_of(sys.executable) != (3, 11):
        pytest.skip("tflite-runtime has no wheel for this Python: 3.11 is the newest")
    folder = Path(sys.prefix) / "tflite-runtime-only"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-q", "tflite-runtime==2.14.0", "numpy<2"]
        if subprocess.run(install, capture_output=True).returncode:
            pytest.skip("tflite-runtime cannot be installed here")
        (folder / ".installed").touch()
    return str(python)


def test_it_measures_where_only_tflite_runtime_is_installed(tflite_runtime_python: str, tmp_path: Path) -> None:
    running = Agent(tflite_runtime_python)
    assert running.hello.engines["litert"]["version"].startswith("tflite-runtime-2.14")  # type: ignore[union-attr]
    assert "unavailable" in running.hello.engines["onnxruntime"]  # type: ignore[union-attr]
    network = export_graph(build_network("mobilenet-v2-0.35-96"), "tflite")
    models = [model(tmp_path, "conv", "litert"), model(tmp_path, "net", "litert", network)]
    answers = running.ask(Measure("litert", {"threads": 1}, models, null_model(tmp_path, "litert")))
    assert [kind(message) for message in answers] == ["Opening", "Opening", "Measured", "Measured", "Done"]
    assert running.end() == 0
