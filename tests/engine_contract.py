"""What ``tests/test_engine_contract.py`` holds engines to: which engines, which operators, which outputs."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from agent.machine import BFLOAT16
from benchmarks.gpu_parts import UNTIL
from host.engines import chosen_of, engine_use
from host.session import AgentSession
from host.setting import Setting
from host.transport import Transport
from ops_catalog import ops
from ops_catalog.build import expand, single, with_batch
from ops_catalog.export import export_graph
from ops_catalog.export.onnx import UINT8_SHIFT
from ops_catalog.export.quantise import calibrated
from ops_catalog.export.tflite import stored_as_image
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, OpSpec
from search.spaces import SPACES, space_named
from tests.float64 import Round, evaluate64, quantised
from tests.test_ops import CASES, LOOSE, VNNI, draw_inputs, make

OPERATORS = 100
BATCHES = 12
MAX_MACS, MAX_BYTES = 4_000_000, 2_000_000
DTYPES = ("float32", "float16", "bfloat16", "int8")
ONCE = {"settle": "off"}
"""Options of a model that is opened to be run once: it is not waited until its time has settled."""
SATURATING = frozenset({"onnxruntime", "openvino"})


def time_is_left() -> bool:
    """Where a part of ``benchmarks.gpu`` runs the suite; anywhere else there always is."""
    return time.monotonic() < float(os.environ.get(UNTIL, "inf"))


@dataclass(frozen=True)
class Engine:
    """An engine as it is chosen.

    Attributes:
        tolerance: of float outputs, relative to the largest (at least 1), by element type.
        steps: of int8 outputs, beside those of ``int8_steps``.
    """

    name: str
    choices: tuple[tuple[str, str], ...] = ()
    tolerance: tuple[float, float, float] = (1e-5, 1e-2, 4e-2)
    steps: int = 0

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{name}={value}" for name, value in self.choices)])

    @property
    def file_format(self) -> str:
        return engine_use(self.name).file_format

    def options(self, dtype: str, whole: bool = True) -> dict[str, object]:
        chosen = chosen_of(engine_use(self.name), dict(self.choices))
        return Setting(self.name, (0,), dtype, choices=chosen).options(whole)


def lacking(engine: Engine, dtype: str, machine: Mapping[str, Any]) -> str:
    """What a processor must have for the engine to compute as it should, and has not; "" where it has all."""
    features = set(machine.get("features") or ())
    if ("precision", "bfloat16") in engine.choices and not features & BFLOAT16:
        return "the processor has no bfloat16 of its own"
    if (dtype, machine.get("arch")) == ("int8", "x86_64") and engine.name in SATURATING and not features & VNNI:
        return f"without VNNI {engine.name} adds products of 8 bits in 16, where they overflow"
    return ""


GPU = (1e-4, 1e-2, 4e-2)
"""Convolutions there may be computed in transformed spaces."""

ENGINES = (
    Engine("onnxruntime"),
    Engine("litert"),
    Engine("litert", (("xnnpack", "off"),)),
    Engine("openvino"),
    Engine("openvino", (("precision", "bfloat16"),), (4e-2, 4e-2, 4e-2)),
    Engine("torch"),
    Engine("torch-cuda", (), GPU),
    Engine("torch-cuda", (("mode", "eager"),), GPU),
    Engine("onnxruntime-cuda", (), GPU),
    Engine("onnxruntime-tensorrt", (), GPU),
)


REFUSED: Mapping[tuple[str, str], frozenset[str]] = {
    ("onnx", "bfloat16"): frozenset(ops.OPS),
    ("tflite", "bfloat16"): frozenset(ops.OPS),
    ("tflite", "int8"): frozenset({"layer_norm"}),
    ("pt2", "int8"): frozenset(ops.OPS),
}
"""Operator types that a file format does not have in an element type; all others it must have."""


def operators() -> list[OpSpec]:
    """Every case of every type, some of them in batches of four, and small ones of random networks of every space."""
    rng = np.random.default_rng(0)
    by_hand = [make(case) for case in CASES]
    images = [op for op in by_hand if len({tensor.shape[0] for tensor in op.inputs}) == 1]
    batches = [with_batch(single(images[i]), 4).operators[0] for i in rng.permutation(len(images))[:BATCHES]]
    found = dict.fromkeys([*by_hand, *batches])
    spread = zip_longest(*(_small(name, rng) for name in SPACES))
    found |= dict.fromkeys(op for turn in spread for op in turn if op is not None)
    return list(found)[:OPERATORS]


def _small(name: str, rng: np.random.Generator) -> list[OpSpec]:
    space = space_named(name)
    every = dict.fromkeys(op for _ in range(6) for op in space.decode(space.sample(rng)).operators)
    small = [op for op in every if ops.macs(op) <= MAX_MACS and ops.bytes_moved(op) <= MAX_BYTES]
    return [small[i] for i in rng.permutation(len(small))]


@dataclass(frozen=True)
class Asked:
    """An operator's model, its inputs as the format lays them out, and what must come out."""

    op: OpSpec
    graph: Graph
    model: bytes
    inputs: tuple[Array, ...]
    wanted: Array


@lru_cache(maxsize=2 * OPERATORS)
def ask(op: OpSpec, file_format: str) -> Asked:
    """Raises SpecError where the format does not have the operator."""
    graph, inputs = single(op), draw_inputs(op)
    quant = calibrated(graph) if op.dtype == "int8" else None
    model = export_graph(graph, file_format, quant=quant)
    if quant is not None:
        stored = {name: quantised(array, quant[name]) for name, array in inputs.items()}
        real = {name: (stored[name] - quant[name][1]) * quant[name][0] for name in inputs}
        wanted = quantised(evaluate64(graph, real, quant=quant), quant["t0"])
        laid_out = {name: _integers(array, file_format) for name, array in stored.items()}
    else:
        rounded = {name: ROUND[op.dtype](array) for name, array in inputs.items()}
        wanted = evaluate64(graph, rounded, ROUND[op.dtype])
        kind = np.float16 if (op.dtype, file_format) == ("float16", "onnx") else np.float32
        laid_out = {name: array.astype(kind) for name, array in rounded.items()}
    images = stored_as_image(graph) if file_format == "tflite" else dict.fromkeys(inputs, False)
    arrays = [array.transpose(0, 2, 3, 1) if images[name] else array for name, array in laid_out.items()]
    return Asked(op, graph, model, tuple(map(np.ascontiguousarray, arrays)), wanted)


def _integers(array: Array, file_format: str) -> Array:
    return (array + UINT8_SHIFT).astype(np.uint8) if file_format == "onnx" else array.astype(np.int8)


def _bfloat16(array: Array) -> Array:
    """The nearest values of bfloat16, ties to even, as float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.asarray(rounded.astype(np.uint32).view(np.float32))


ROUND: Mapping[str, Round] = {
    "float32": lambda array: array,
    "float16": lambda array: array.astype(np.float16).astype(np.float32),
    "bfloat16": _bfloat16,
}


def found(session: AgentSession, transport: Transport, engine: Engine, asked: Asked) -> Array:
    """What the engine gives: logical order, int8 as integers from -128. Raises HostError."""
    packed = io.BytesIO()
    np.savez(packed, **{str(index): array for index, array in enumerate(asked.inputs)})  # type: ignore[arg-type]
    model, inputs = transport.put("contract.model", asked.model), transport.put("contract.npz", packed.getvalue())
    into = f"{model}.outputs.npz"
    session.run(engine.name, {**engine.options(asked.op.dtype), **ONCE}, model, inputs, into)
    with np.load(io.BytesIO(transport.fetch(into))) as arrays:
        (name,) = arrays.files
        made = arrays[name].astype(np.float64)
    if engine.file_format == "tflite" and stored_as_image(asked.graph)[asked.graph.outputs[0]]:
        made = made.transpose(0, 3, 1, 2)
    return made - UINT8_SHIFT if (asked.op.dtype, engine.file_format) == ("int8", "onnx") else made


def int8_steps(op: OpSpec) -> int:
    """Each part of an operator may round the other way."""
    return 2 if op.type in LOOSE else len(expand(single(op)).nodes)


def too_far(engine: Engine, asked: Asked, made: Array) -> str:
    """How far outputs are from the reference; "" where that is within the tolerance."""
    if made.shape != asked.wanted.shape:
        return f"shape {made.shape}, not {asked.wanted.shape}"
    apart = float(np.abs(made - asked.wanted).max())
    if asked.op.dtype == "int8":
        allowed = float(int8_steps(asked.op) + engine.steps)
    else:
        allowed = engine.tolerance[DTYPES.index(asked.op.dtype)] * max(1.0, float(np.abs(asked.wanted).max()))
    return "" if apart <= allowed else f"off by {apart:.3g}, more than {allowed:.3g}"
