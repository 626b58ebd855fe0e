"""Whether a phone computes what this computer does: operators run once through adb, adbd and the aarch64 bundle on the
emulated phone, and once by the agent here, with the same inputs.

int8 outputs may differ by one step, float32 ones by 1e-5 of the largest. The emulated phone has other kernels than this
computer (NEON, not AVX), as a real one has.

    python -m benchmarks.phone_outputs [--operators 200] [--qemu-cpu cortex-a53]
"""

from __future__ import annotations

import argparse
import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

import numpy as np

from host.devices import agent_environment
from host.engines import engine_use
from host.errors import HostError
from host.session import AgentDied, AgentSession
from host.transport import Launch, Transport, adb, local
from ops_catalog import ops
from ops_catalog.build import op_with_dtype, single
from ops_catalog.export import export_graph
from ops_catalog.export.onnx import UINT8_SHIFT
from ops_catalog.export.quantise import calibrated, store
from ops_catalog.export.tflite import stored_as_image
from ops_catalog.networks import build_network
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, OpSpec, SpecError
from ops_catalog.sweep import distinct_operators
from tests.test_ops import CASES, draw_inputs, make
from tests.virtual_phone.adb_server import open_adb_server
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import open_phone

ENGINES = ("litert", "onnxruntime")
LIMITS = {"float32": 1e-5, "int8": 1.0}
"""Largest difference: relative to the largest output, or in steps."""

NETWORKS = ("mobilenet-v2-0.35-96", "mobilenet-v3-small", "chamnet-a", "mnasnet-a1", "efficientnet-lite0")
MAX_MACS = 4_000_000
"""Small operators: an emulated processor is slow."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An operator's model file and inputs, as the engine lays them out."""

    op: OpSpec
    model: bytes
    inputs: bytes


@dataclass(slots=True)
class Outcome:
    """How an engine did in one element type.

    Attributes:
        differences: by operator: relative for float32, in steps for int8.
        failures: by operator: what went wrong.
    """

    engine: str
    dtype: str
    differences: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def operators(self) -> int:
        return len(self.differences) + len(self.failures)

    @property
    def too_far(self) -> dict[str, float]:
        return {key: value for key, value in self.differences.items() if value > LIMITS[self.dtype]}


def candidates() -> list[OpSpec]:
    """Small operators: every case of every type, the same in batches of three, then those of networks."""
    small = [op for op in distinct_operators([build_network(name) for name in NETWORKS]) if ops.macs(op) <= MAX_MACS]
    spread = [small[index] for index in np.random.default_rng(0).permutation(len(small))]
    return list(dict.fromkeys([*(make(case) for case in CASES), *_batches_of_three(), *spread]))


def _batches_of_three() -> Iterator[OpSpec]:
    for op_type, shapes, attributes in CASES:
        with suppress(SpecError):
            yield make((op_type, re.sub(r"(^|\|)1x", r"\g<1>3x", shapes), attributes))


def trials(engine: str, dtype: str, count: int, every: int = 1) -> list[Trial]:
    """So many operators that the engine's format expresses: the first, or every second ..."""
    found: list[Trial] = []
    for op in candidates()[::every]:
        if len(found) == count:
            break
        try:
            found.append(_trial(op_with_dtype(op, dtype), engine_use(engine).file_format))
        except SpecError:
            continue
    return found


def compare(phone: Transport, engine: str, dtype: str, count: int, every: int = 1) -> Outcome:
    """Runs operators (``trials``) here and on the phone."""
    outcome, asked = Outcome(engine, dtype), trials(engine, dtype, count, every)
    with closing(local.open_transport()) as here:
        wanted = dict(_outputs(here, engine, asked))
    start = time.perf_counter()
    for key, found in _outputs(phone, engine, asked):
        reference = wanted[key]
        if isinstance(found, str) or isinstance(reference, str):
            outcome.failures[key] = f"{found}, here {reference}" if isinstance(reference, str) else str(found)
        else:
            outcome.differences[key] = max(map(_difference, found, reference))
    outcome.seconds = time.perf_counter() - start
    return outcome


def _trial(op: OpSpec, file_format: str) -> Trial:
    graph, quant = single(op), None
    inputs = draw_inputs(op)
    if op.dtype == "int8":
        quant = calibrated(graph)
        inputs = {name: store(array, quant[name]) for name, array in inputs.items()}
    model = export_graph(graph, file_format, quant=quant)
    laid_out = [_laid_out(graph, name, array, file_format) for name, array in inputs.items()]
    packed = io.BytesIO()
    np.savez(packed, **{str(index): array for index, array in enumerate(laid_out)})  # type: ignore[arg-type]
    return Trial(op, model, packed.getvalue())


def _laid_out(graph: Graph, name: str, array: Array, file_format: str) -> Array:
    if file_format == "onnx" and array.dtype == np.int8:
        return np.asarray((array.astype(int) + UINT8_SHIFT).astype(np.uint8))
    if file_format == "tflite" and stored_as_image(graph)[name]:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return array


def _outputs(transport: Transport, engine: str, asked: Sequence[Trial]) -> Iterator[tuple[str, list[Array] | str]]:
    """Each operator's outputs, or why there are none, from agents that are started anew where one dies."""
    paths = [_put(transport, number, trial) for number, trial in enumerate(asked)]
    transport.ready([path for pair in paths for path in pair])
    with ExitStack() as agents:
        session = None
        for trial, (model, inputs) in zip(asked, paths, strict=True):
            session = session or agents.enter_context(AgentSession(transport, (), agent_environment("default", 1)))
            into = f"{model}.outputs.npz"
            try:
                session.run(engine, {**engine_use(engine).native_options, "threads": 1}, model, inputs, into)
                with np.load(io.BytesIO(transport.fetch(into))) as arrays:
                    yield trial.op.key, [arrays[str(index)] for index in range(len(arrays.files))]
            except HostError as error:
                session = None if isinstance(error, AgentDied) else session
                yield trial.op.key, str(error)


def _put(transport: Transport, number: int, trial: Trial) -> tuple[str, str]:
    return transport.put(f"{number}.model", trial.model), transport.put(f"{number}.inputs.npz", trial.inputs)


def _difference(found: Array, wanted: Array) -> float:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()
    if wanted.dtype.kind in "iu":
        return float(apart)
    return float(apart / max(float(np.abs(wanted).max()), np.finfo(np.float32).tiny))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=int, default=200, help="so many for each engine and element type")
    parser.add_argument("--qemu-cpu", default="", help="processor to emulate, such as cortex-a53")
    arguments = parser.parse_args()
    if reason := missing("arm64-v8a"):
        raise SystemExit(reason)
    print("engine       dtype    operators types failures      worst  seconds")
    with open_adb_server() as server, open_phone("arm64-v8a", qemu_cpu=arguments.qemu_cpu) as phone:
        server.connect(phone.serial)
        for engine in ENGINES:
            for dtype in LIMITS:
                with closing(adb.open_transport(phone.serial, Launch())) as transport:
                    _show(compare(transport, engine, dtype, arguments.operators))


def _show(outcome: Outcome) -> None:
    worst = max(outcome.differences.values(), default=float("nan"))
    unit = "steps" if outcome.dtype == "int8" else ""
    types = {key.partition("(")[0] for key in outcome.differences}
    bad = len(outcome.failures) + len(outcome.too_far)
    print(
        f"{outcome.engine:12s} {outcome.dtype:8s} {outcome.operators:9d} {len(types):5d} {bad:8d} "
        f"{f'{worst:.2g} {unit}':>10s} {outcome.seconds:8.1f}",
        flush=True,
    )
    far = {key: f"off by {value:.2g}" for key, value in outcome.too_far.items()}
    for key, why in {**outcome.failures, **far}.items():
        print(f"  {key}: {why}")


if __name__ == "__main__":
    main()
