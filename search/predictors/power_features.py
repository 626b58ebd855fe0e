"""What decides the power of an operator, read from a table's entry: its class, work and traffic, and how fast it ran.

Keys of entries are those of operators or of an engine's native ones, such as
``nchwc.Conv(1x32x56x56:float;w=64x32x1x1:float|64:float;group=1;strides=1,1)``: name, activations, attributes. Of a
native one, work and output are worked out from the shapes, paddings left aside: for power, that is near enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.records import LutEntry
from ops_catalog import ops
from ops_catalog.spec import OpSpec, SpecError
from search.predictors import Array
from search.predictors.additive import Noise, Points, Term

TERMS = (
    Term("class", smooth=False, sd=0.3, within=True),
    Term("line", smooth=False, sd=0.1),
    Term("line of a class", smooth=False, sd=0.05, within=True),
    Term("latency", smooth=True, sd=0.15),
    Term("work rate", smooth=True, sd=0.1),
    Term("traffic rate", smooth=True, sd=0.1),
    Term("traffic", smooth=True, sd=0.2),
    Term("rates of a class", smooth=True, sd=0.25, within=True),
    Term("everything", smooth=True, sd=0.08),
)
"""Of log power: what is thought of devices before one is metered."""

NOISE = Noise(sd=0.02)
"""How much single operators differ from what their class and sizes tell, beyond a meter's error."""

RATES, SIZES = 3, 7
FLOAT_BYTES = 4

INVENTED = re.compile(r"~(?P<key>.*)@[^@]*/\d+")
"""An entry that a completed table made up for an operator in a context."""

NATIVE = re.compile(r"(?P<name>[^(]*)\((?P<body>.*)\)")


@dataclass(frozen=True, slots=True)
class Shape:
    """An operator's class and sizes.

    Attributes:
        kind: such as ``conv2d/pointwise``; operators of a kind keep the same parts of a chip busy.
        work: multiply-accumulates.
        traffic: values read and written.
        inner, outer, area: channels in and out, pixels out.
        inputs: how many tensors it reads.
    """

    kind: str
    work: float
    traffic: float
    inner: float
    outer: float
    area: float
    kernel: float
    inputs: float


@dataclass(frozen=True, slots=True)
class Operators:
    """Entries of a table as TERMS see them, by key (n).

    Attributes:
        log_ns: logarithms of latencies (n).
    """

    places: Mapping[str, int]
    log_ns: Array
    points: Points

    def part(self, keys: Sequence[str]) -> tuple[Points, Array]:
        rows = np.array([self.places[key] for key in keys], np.int64)
        return self.points.part(rows), self.log_ns[rows]


def describe_operators(entries: Sequence[LutEntry]) -> Operators:
    """Entries as the terms see them; numbers are standardised over all of them."""
    shapes = [shape_of(entry) for entry in entries]
    numbers = _numbers(entries, shapes)
    rates, ones = numbers[:, :RATES], np.ones((len(numbers), 1))
    traffic = numbers[:, RATES + 1 : RATES + 2]
    columns = (ones, numbers, numbers, *np.split(rates, RATES, axis=1), traffic, rates, numbers)
    kinds = {kind: number for number, kind in enumerate(sorted({shape.kind for shape in shapes}))}
    groups = np.array([kinds[shape.kind] for shape in shapes], np.int64)
    places = {entry.key: place for place, entry in enumerate(entries)}
    return Operators(places, np.log([_ns(entry) for entry in entries]), Points(columns, groups))


def shape_of(entry: LutEntry) -> Shape:
    """An entry's class and sizes; of a key that tells nothing, the key's name and its weights' size."""
    invented = INVENTED.fullmatch(entry.key)
    try:
        return _of_operator(ops.load_op(invented["key"] if invented else entry.key))
    except SpecError:
        return _of_native(entry)


def _numbers(entries: Sequence[LutEntry], shapes: Sequence[Shape]) -> Array:
    """Logarithms of RATES (latency, work and traffic a nanosecond), then of SIZES, standardised (n x 10).

    What does no sums has no rate of work, and is taken to be usual in it.
    """
    rows = []
    for entry, s in zip(entries, shapes, strict=True):
        sizes = (s.work or math.nan, s.traffic, s.inner, s.outer, s.area, s.kernel, s.inputs)
        rates = (_ns(entry), (s.work or math.nan) / _ns(entry), (1.0 + s.traffic) / _ns(entry))
        rows.append([*map(math.log, rates), *map(math.log1p, sizes)])
    table = np.array(rows).reshape(len(rows), RATES + SIZES)
    told = np.isfinite(table)
    middle = np.array(
        [column[known].mean() if known.any() else 0.0 for column, known in zip(table.T, told.T, strict=True)]
    )
    away = np.where(told, table - middle, 0.0)
    spread = np.sqrt((away**2).sum(axis=0) / np.maximum(told.sum(axis=0), 1))
    return np.asarray(away / np.where(spread > 1e-9, spread, 1.0))


def _ns(entry: LutEntry) -> float:
    return max(entry.latency_ns, 1.0)


def _of_operator(op: OpSpec) -> Shape:
    attributes, made = ops.attributes(op), ops.output(op).shape
    kernel = float(math.prod(attributes.get("kernel", (1, 1))))
    traffic = sum(tensor.size for tensor in op.inputs) + ops.params(op) + math.prod(made)
    inner, outer = _channels(op.inputs[0].shape), _channels(made)
    kind = f"{op.type}/{'pointwise' if kernel == 1 else 'wide'}" if op.type == "conv2d" else op.type
    area = math.prod(made) / max(1.0, outer)
    return Shape(kind, float(ops.macs(op)), float(traffic), inner, outer, area, kernel, float(len(op.inputs)))


def _of_native(entry: LutEntry) -> Shape:
    found = NATIVE.fullmatch(entry.key)
    if found is None:
        return Shape(entry.key, 0.0, entry.weight_bytes / FLOAT_BYTES, 1.0, 1.0, 1.0, 1.0, 1.0)
    first, *rest = found["body"].split(";")
    attributes = dict(part.partition("=")[::2] for part in rest)
    inputs = [sides for text in first.split("|") if (sides := _sides(text))] or [(1,)]
    weight = _sides(attributes.get("w", "").split("|")[0])
    inner, kernel = _channels(inputs[0]), float(math.prod(weight[2:]))
    area = math.prod(inputs[0]) / max(1.0, inner) / math.prod(_sides(attributes.get("strides", "1")))
    outer = float(weight[0]) if len(weight) > 2 else math.prod(weight) / max(1.0, inner) if weight else inner
    traffic = sum(map(math.prod, inputs)) + entry.weight_bytes / FLOAT_BYTES + outer * area
    work = math.prod(weight) * area if weight else 0.0
    kind = _native_kind(found["name"], attributes, weight)
    return Shape(kind, float(work), float(traffic), inner, outer, area, kernel, float(len(inputs)))


def _native_kind(name: str, attributes: Mapping[str, str], weight: Sequence[int]) -> str:
    kind = name.split(".")[-1].lower()
    if len(weight) <= 2:
        return kind
    if attributes.get("group", "1") != "1":
        return f"{kind}/depthwise"
    return f"{kind}/pointwise" if math.prod(weight[2:]) == 1 else f"{kind}/wide"


def _sides(text: str) -> tuple[int, ...]:
    """1x32x56x56:float or 1,1 as numbers; none where it is no shape."""
    parts = re.split("[x,]", text.split(":")[0])
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def _channels(shape: Sequence[int]) -> float:
    return float(shape[1] if len(shape) == 4 else shape[-1] if shape else 1)
