"""Nodes of an ONNX model that read constants only: small ones are computed, of large ones the shape is kept.

What computes shapes (Shape, Gather, Concat, ... before a Reshape) disappears this way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ops_catalog.ops.contract import Array
from ops_catalog.parse.nodes import FileNode

LARGEST = 1024
"""Elements of a constant that is computed with."""

Values = Sequence[Array | None]


def compute(node: FileNode, inputs: Values, version: int) -> Array | None:
    """The value of a node of small constants; None where it is not known how, or would be too large.

    Args:
        inputs: None where an optional one is left out.
        version: of the operator set.
    """
    function = FUNCTIONS.get(node.type)
    if function is None or sum(0 if x is None else x.size for x in inputs) > 4 * LARGEST:
        return None
    with np.errstate(all="ignore"):
        made = function(inputs, node.attributes)
    if made is None or np.size(made) > LARGEST or np.ndim(made) > 8:
        return None
    return np.asarray(made)


def _axes(inputs: Values, attributes: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = inputs[1] if len(inputs) > 1 else None
    axes = attributes.get("axes") if given is None else given.reshape(-1)
    return None if axes is None else tuple(int(axis) for axis in axes)


def _first(inputs: Values) -> Array:
    x = inputs[0]
    if x is None:
        raise ValueError("an input is missing")
    return x


def _unsqueeze(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    return np.expand_dims(_first(inputs), _axes(inputs, attributes) or ())


def _squeeze(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    return np.squeeze(_first(inputs), _axes(inputs, attributes))


def _slice(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    x = _first(inputs)
    rest = [None if entry is None else [int(v) for v in entry.reshape(-1)] for entry in inputs[1:]]
    rest += [None] * (4 - len(rest))
    starts, ends = rest[0] or attributes["starts"], rest[1] or attributes["ends"]
    axes = rest[2] or attributes.get("axes") or range(len(starts))
    steps = rest[3] or [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # numpy reads an end below -size as "before the first", as ONNX does
        index[axis] = slice(start, end if abs(end) < 1 << 40 else None, step)
    return x[tuple(index)]


def _filled(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
    shape = [int(side) for side in _first(inputs).reshape(-1)]
    value = attributes.get("value")
    if prod(shape) > LARGEST or min(shape, default=0) < 0:
        return None
    number = np.zeros(1, np.float32) if value is None else value.values
    return None if number is None else np.full(shape, number.reshape(-1)[0])


def _range(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
    start, limit, step = (float(entry.reshape(())) for entry in inputs if entry is not None)
    return np.arange(start, limit, step).astype(_first(inputs).dtype) if (limit - start) / step <= LARGEST else None


def _expand(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
    shape = np.broadcast_shapes(_first(inputs).shape, tuple(int(v) for v in _first(inputs[1:]).reshape(-1)))
    return np.broadcast_to(_first(inputs), shape).copy() if prod(shape) <= LARGEST else None


def _tile(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
    x, repeats = _first(inputs), [int(v) for v in _first(inputs[1:]).reshape(-1)]
    return np.tile(x, repeats) if 0 <= x.size * prod(repeats) <= LARGEST and min(repeats) >= 0 else None


def _reshape(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    x = _first(inputs)
    shape = [int(v) for v in _first(inputs[1:]).reshape(-1)]
    return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape)])


def _divide(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    a, b = _first(inputs), _first(inputs[1:])
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else np.asarray(a / b)


def _cast(inputs: Values, attributes: Mapping[str, Any]) -> Array:
    kinds = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16,
             11: np.float64}  # fmt: skip
    return _first(inputs).astype(kinds[attributes["to"]])


def _reduced(function: Callable[..., Any]) -> Callable[[Values, Mapping[str, Any]], Array]:
    def reduce(inputs: Values, attributes: Mapping[str, Any]) -> Array:
        return np.asarray(
            function(_first(inputs), axis=_axes(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1)))
        )

    return reduce


def _each(function: Callable[..., Any]) -> Callable[[Values, Mapping[str, Any]], Array | None]:
    def apply(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
        shape = np.broadcast_shapes(*(x.shape for x in inputs if x is not None))
        return np.asarray(function(*inputs)) if prod(shape) <= LARGEST else None

    return apply


def _gather(inputs: Values, attributes: Mapping[str, Any]) -> Array | None:
    x, index = _first(inputs), _first(inputs[1:])
    axis = int(attributes.get("axis", 0))
    made = x.size // max(1, x.shape[axis]) * index.size
    return np.take(x, index, axis=axis) if made <= LARGEST else None


FUNCTIONS: dict[str, Callable[[Values, Mapping[str, Any]], Array | None]] = {
    "Identity": lambda inputs, attributes: _first(inputs),
    "Cast": _cast,
    "Gather": _gather,
    "Concat": lambda inputs, attributes: np.concatenate(
        [x for x in inputs if x is not None], axis=int(attributes["axis"])
    ),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Expand": _expand,
    "Tile": _tile,
    "Reshape": _reshape,
    "Transpose": lambda inputs, attributes: np.transpose(_first(inputs), attributes.get("perm")),
    "Div": _divide,
    "Add": _each(np.add),
    "Sub": _each(np.subtract),
    "Mul": _each(np.multiply),
    "Pow": _each(np.power),
    "Mod": _each(np.mod),
    "Equal": _each(np.equal),
    "Less": _each(np.less),
    "Greater": _each(np.greater),
    "And": _each(np.logical_and),
    "Or": _each(np.logical_or),
    "Not": _each(np.logical_not),
    "Where": _each(np.where),
    "Neg": _each(np.negative),
    "Abs": _each(np.abs),
    "Floor": _each(np.floor),
    "Ceil": _each(np.ceil),
    "Sqrt": _each(np.sqrt),
    "Reciprocal": _each(np.reciprocal),
    "Exp": _each(np.exp),
    "Log": _each(np.log),
    "Min": _each(lambda *x: np.minimum.reduce(x)),
    "Max": _each(lambda *x: np.maximum.reduce(x)),
    "Size": lambda inputs, attributes: np.array(_first(inputs).size, np.int64),
    "ReduceProd": _reduced(np.prod),
    "ReduceMin": _reduced(np.min),
    "ReduceMax": _reduced(np.max),
    "ReduceSum": _reduced(np.sum),
}
