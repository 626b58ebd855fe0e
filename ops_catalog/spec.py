"""The values everything else talks in: one tensor, one operator, a network, and what an engine really runs.

Shapes are logical: images are ``N x C x H x W`` whatever an engine stores. An operator is identified by its key,
a text that lists all that decides its cost and can be parsed back:

    conv2d(1x32x56x56;activation=relu6;kernel=3x3;out_channels=64;stride=2x2;float32)

Attributes that have their default value are not part of the key, so a new attribute leaves old keys valid.
What an operator type means is in ``ops_catalog.ops``; this module knows none of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

Value = bool | int | float | str | tuple[int, ...]

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

_TUPLE = re.compile(r"-?\d+x(-?\d+(x-?\d+)*)?")
_KEY = re.compile(
    r"(?P<type>[a-z][a-z0-9_]*)\((?P<shapes>[^;]+)(?P<attributes>(;[a-z_0-9]+=[^;]*)*);(?P<dtype>[a-z0-9]+)\)"
)


class SpecError(ValueError):
    """An operator or a network that cannot exist: wrong attribute, shape or wiring."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: logical shape and element type."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.size * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One operator with all that decides its cost. Make it with ``ops.make_op``, which checks it.

    Attributes:
        type: a name of the table ``ops.OPS``.
        inputs: the activations it reads, all of one dtype; weights follow from the attributes.
        attributes: (name, value) in name order, those at their default left out.
    """

    type: str
    inputs: tuple[TensorSpec, ...]
    attributes: tuple[tuple[str, Value], ...] = ()

    @property
    def dtype(self) -> str:
        return self.inputs[0].dtype

    @property
    def key(self) -> str:
        shapes = "|".join(format_shape(tensor.shape) for tensor in self.inputs)
        attributes = [f"{name}={format_value(value)}" for name, value in self.attributes]
        return f"{self.type}({';'.join([shapes, *attributes, self.dtype])})"


@dataclass(frozen=True, slots=True)
class NativeOp:
    """What an engine really runs and what is therefore measured: one node of a model as the engine optimised it.

    Attributes:
        key: engine's operator name, attributes, activation and weight shapes; for an engine that runs
            operators as they were exported, the key of the OpSpec itself.
        weight_bytes: size of the constants it reads.
    """

    key: str
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """An operator in a network: which tensors it reads, and the name of the one it writes."""

    op: OpSpec
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class Graph:
    """An ordered network: every tensor is made before it is read. A single operator is a Graph of one node."""

    name: str
    inputs: tuple[tuple[str, TensorSpec], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    @property
    def operators(self) -> tuple[OpSpec, ...]:
        return tuple(node.op for node in self.nodes)

    @property
    def dtype(self) -> str:
        return self.inputs[0][1].dtype


def format_shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def format_value(value: Value) -> str:
    """One attribute value as it stands in a key; a tuple of one element keeps its ``x``: ``3x``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(map(str, value)) + ("x" if len(value) == 1 else "")
    return repr(value) if isinstance(value, float) else str(value)


def parse_value(text: str) -> Value:
    """The inverse of ``format_value``."""
    if text in ("true", "false"):
        return text == "true"
    if _TUPLE.fullmatch(text):
        return tuple(int(part) for part in text.split("x") if part)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_shape(text: str) -> tuple[int, ...]:
    if text == "scalar":
        return ()
    try:
        return tuple(int(part) for part in text.split("x"))
    except ValueError:
        raise SpecError(f"a shape must read like 1x32x56x56, but got {text!r}") from None


def parse_key(key: str) -> OpSpec:
    """The OpSpec that a key describes, unchecked; ``ops.load_op`` also checks it.

    Raises:
        SpecError: the text is not a key.
    """
    match = _KEY.fullmatch(key)
    if match is None or match["dtype"] not in DTYPE_BYTES:
        raise SpecError(f"an operator key must read like relu(1x8x4x4;float32), but got {key!r}")
    inputs = tuple(TensorSpec(parse_shape(shape), match["dtype"]) for shape in match["shapes"].split("|"))
    pairs = (part.split("=", 1) for part in match["attributes"].split(";") if part)
    return OpSpec(match["type"], inputs, tuple((name, parse_value(value)) for name, value in pairs))
