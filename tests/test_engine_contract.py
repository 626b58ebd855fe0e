"""The engine contract: 100 operators through every engine that is here, and how each of them behaves, by real agents.

Outputs are held against plain NumPy in float64 (``tests/float64.py``). An engine that is missing is skipped with the
reason that the agent gives; PyTorch runs where the Python of the tests has it. ``CONTRACT_PYTHON`` names another
Python for the agent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np
import pytest

from agent.protocol import Measure, Model, Sampling
from benchmarks.gpu_parts import AGENT_PYTHON
from host.devices import agent_environment
from host.engines import engine_use
from host.errors import HostError
from host.session import AgentSession, Batch
from host.transport import Launch, Transport, local
from ops_catalog import ops
from ops_catalog.build import expand, op_with_dtype, single, with_batch
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops.contract import Array
from ops_catalog.spec import OpSpec, SpecError, TensorSpec
from tests.engine_contract import (
    DTYPES,
    ENGINES,
    OPERATORS,
    REFUSED,
    Asked,
    Engine,
    ask,
    found,
    lacking,
    operators,
    time_is_left,
    too_far,
)
from tests.float64 import MEANING, evaluate64
from tests.test_ops import draw_inputs

SAMPLING = Sampling(burst_ns=100_000, rounds=2, max_rounds=2, gate_budget_ns=0)


every_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    with closing(local.open_transport(launch=Launch(os.environ.get(AGENT_PYTHON, "")))) as opened:
        yield opened


@pytest.fixture(scope="module")
def session(transport: Transport) -> Iterator[AgentSession]:
    with AgentSession(transport, (0,), agent_environment("default", 1)) as running:
        yield running


@pytest.fixture
def here(session: AgentSession, engine: Engine) -> AgentSession:
    """The agent, where it has the engine, and time to ask it."""
    if not time_is_left():
        pytest.skip("no time is left")
    if reason := session.hello.engines[engine.name].get("unavailable"):
        pytest.skip(f"{engine.name}: {reason}")
    if reason := lacking(engine, "float32", session.hello.machine):
        pytest.skip(reason)
    return session


def test_the_operators_are_100_of_every_type() -> None:
    chosen = operators()
    assert len(chosen) == len(set(chosen)) == OPERATORS
    assert {op.type for op in chosen} == set(ops.OPS)
    assert operators() == chosen
    assert {node.op.type for op in chosen for node in expand(single(op)).nodes} <= set(MEANING)


def test_the_reference_is_what_the_catalogue_means() -> None:
    """The two are written apart; where they agree to float32, either can be trusted."""
    from ops_catalog.export.quantise import evaluate

    for op in operators():
        inputs = draw_inputs(op)
        wanted = evaluate(single(op), inputs)["t0"]
        assert np.abs(evaluate64(single(op), inputs) - wanted).max() <= 1e-5 * max(1.0, float(np.abs(wanted).max())), op


def test_int8_and_bfloat16_are_asked_of_processors_that_compute_them() -> None:
    plain, server = ({"arch": "x86_64", "features": names} for names in (["avx2"], ["avx2", "avx512_vnni"]))
    onnx, lite, half = (Engine("onnxruntime"), Engine("litert"), Engine("openvino", (("precision", "bfloat16"),)))
    assert lacking(onnx, "int8", plain).startswith("without VNNI onnxruntime adds")
    assert lacking(half, "float32", plain) == "the processor has no bfloat16 of its own"
    assert lacking(half, "float32", {"arch": "x86_64", "features": ["avx512_bf16"]}) == ""
    fitting = [
        (onnx, "int8", server),
        (onnx, "float32", plain),
        (lite, "int8", plain),
        (onnx, "int8", {"arch": "arm64"}),
    ]
    assert [lacking(*case) for case in fitting] == [""] * 4


@every_engine
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_engine_computes_what_100_operators_mean(
    here: AgentSession, transport: Transport, engine: Engine, dtype: str
) -> None:
    if reason := lacking(engine, dtype, here.hello.machine):
        pytest.skip(reason)
    wrong, refused, done = dict[str, str](), set[str](), list[OpSpec]()
    for op in (op_with_dtype(op, dtype) for op in operators()):
        if not time_is_left():
            break
        done.append(op)
        try:
            asked = ask(op, engine.file_format)
        except SpecError:
            refused.add(op.key)
            continue
        try:
            reason = too_far(engine, asked, found(here, transport, engine, asked))
        except HostError as error:
            reason = str(error)
        if reason:
            wrong[op.key] = reason
    expected = REFUSED.get((engine.file_format, dtype), frozenset())
    assert refused == {op.key for op in done if op.type in expected}
    assert wrong == {}
    if len(done) < OPERATORS:
        pytest.skip(f"no time is left after {len(done)} of {OPERATORS} operators, as they should be")


SMALL = ops.make_op("conv2d", TensorSpec((1, 16, 16, 16)), out_channels=16, kernel=(3, 3))
"""Of a tenth of a millisecond at most; ``large`` is of two hundred times its work, on a GPU, where small operators
take as long as their launch, of more than a thousand times."""

TRIES = 10


def large(engine: Engine) -> OpSpec:
    batch = 8 if engine_use(engine.name).on_gpu else 1
    return ops.make_op("conv2d", TensorSpec((batch, 64, 56, 56)), out_channels=64, kernel=(3, 3))


def put(transport: Transport, name: str, op: OpSpec, engine: Engine) -> str:
    return transport.put(name, export_graph(single(op), engine.file_format))


def measure(
    session: AgentSession, transport: Transport, engine: Engine, models: Mapping[str, str], whole: bool = True
) -> Batch:
    null = put(transport, "null.model", ops.make_op("relu", TensorSpec((1,))), engine)
    asked = [Model(id, path) for id, path in models.items()]
    return session.measure(Measure(engine.name, engine.options("float32", whole), asked, null, None, SAMPLING))


@every_engine
def test_the_engine_takes_samples_and_longer_for_two_hundred_times_the_work(
    here: AgentSession, transport: Transport, engine: Engine
) -> None:
    """Repeated where another process interrupted every sample of one of them."""
    operators = {"small": SMALL, "large": large(engine)}
    assert ops.macs(operators["large"]) > 190 * ops.macs(SMALL)
    paths = {name: put(transport, f"{name}.model", op, engine) for name, op in operators.items()}
    quickest: dict[str, float] = {}
    for _ in range(TRIES):
        batch = measure(here, transport, engine, paths)
        assert batch.failures == ()
        for reply in batch.measured:
            samples = [ns for burst in reply.bursts_ns for ns in burst]
            assert all(ns > 0 for ns in samples)
            assert reply.overhead_ns > 0
            known = quickest.get(reply.id, float("inf"))
            quickest |= {reply.id: min([known, *(ns / reply.loops for ns in samples)])} if samples else {}
        if len(quickest) == len(operators):
            break
    assert set(quickest) == set(operators)
    assert quickest["small"] < quickest["large"]


@every_engine
def test_a_broken_file_is_one_named_failure_and_the_others_are_measured(
    here: AgentSession, transport: Transport, engine: Engine
) -> None:
    good = put(transport, "good.model", SMALL, engine)
    cut = transport.put("cut.model", export_graph(single(SMALL), engine.file_format)[:100])
    files = {"first": good, "broken": transport.put("broken.model", b"not a model"), "cut": cut, "last": good}
    batch = measure(here, transport, engine, files)
    assert {failure.id: failure.reason for failure in batch.failures} == {"broken": "load", "cut": "load"}
    assert all(failure.message for failure in batch.failures)
    assert {reply.id for reply in batch.measured} == {"first", "last"}


@every_engine
def test_a_file_that_the_engine_optimised_runs(here: AgentSession, transport: Transport, engine: Engine) -> None:
    network = transport.put("net.model", export_graph(build_network("mobilenet-v2-0.35-96"), engine.file_format))
    into = f"{network}.optimised"
    here.optimise(engine.name, engine.options("float32"), network, into)
    batch = measure(here, transport, engine, {"net": into}, whole=False)
    assert [reply.id for reply in batch.measured] == ["net"]
    assert batch.failures == ()


@every_engine
def test_a_network_of_a_batch_is_computed_image_by_image(
    here: AgentSession, transport: Transport, engine: Engine
) -> None:
    one = build_network("mobilenet-v2-0.35-96")
    images = draw_inputs(with_batch(one, 4).operators[0])["x0"]
    models = [export_graph(graph, engine.file_format) for graph in (one, with_batch(one, 4))]

    def outputs(model: bytes, batch: Array) -> Array:
        laid_out = batch.transpose(0, 2, 3, 1) if engine.file_format == "tflite" else batch
        asked = Asked(one.operators[-1], one, model, (np.ascontiguousarray(laid_out),), batch)
        return found(here, transport, engine, asked)

    alone = np.concatenate([outputs(models[0], image[None]) for image in images])
    together = outputs(models[1], images)
    assert together.shape == alone.shape
    assert np.abs(together - alone).max() <= engine.tolerance[0] * max(1.0, float(np.abs(alone).max()))
