"""TFLite operators that multiply, add, activate, normalise or move elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from ops_catalog.parse import compose
from ops_catalog.parse.tflite_here import Here, activated, operand
from ops_catalog.parse.tflite_layout import TO_IMAGE, TO_PLAIN, logical
from ops_catalog.spec import SpecError


def fully_connected(here: Here) -> str:
    draft, x, options = here.draft, here.inputs[0], here.options
    shape, weight = draft.shape(x), here.files[1]
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        raise SpecError("a fully connected layer needs a matrix")
    features, inner = weight.shape
    if not weight.constant:
        return activated(here, compose.matmul(draft, x, here.inputs[1], transpose_b=True))
    keep = options.get("KeepNumDims", False)
    if keep and here.images[0] and here.image:
        return activated(here, draft.add("conv2d", x, out_channels=features, kernel=(1, 1)))
    if not keep and (len(shape) != 2 or shape[1] != inner):
        x = compose.reshape(draft, x, (-1, inner))
    if draft.shape(x)[-1] != inner:
        raise SpecError(f"a weight for {inner} features must fit, but got {draft.shape(x)[-1]}")
    return activated(here, compose.linear(draft, x, features, bias=len(here.inputs) > 2 and bool(here.inputs[2])))


def batch_matmul(here: Here) -> str:
    draft, (a, b) = here.draft, here.inputs[:2]
    if here.options.get("AdjX", False):
        rank = len(draft.shape(a))
        a = draft.add("transpose", a, perm=(*range(rank - 2), rank - 1, rank - 2))
    turned, shape = bool(here.options.get("AdjY", False)), draft.shape(b)
    if draft.tensors[b].constant and prod(shape[:-2]) == 1:
        if draft.shape(a)[-1] != shape[-1 if turned else -2]:
            raise SpecError("a weight must fit the features")
        return compose.linear(draft, a, shape[-2 if turned else -1], bias=False)
    return compose.matmul(draft, a, b, turned)


def binary(kind: str) -> Callable[[Here], str]:
    def handle(here: Here) -> str:
        names = [operand(here, place) for place in range(2)]
        return activated(here, compose.binary(here.draft, kind, names[0], names[1]))

    return handle


def squared_difference(here: Here) -> str:
    return here.draft.add("squared_difference", *here.inputs[:2])


def square(here: Here) -> str:
    return here.draft.add("mul", here.inputs[0], here.inputs[0])


def power(here: Here) -> str:
    return compose.power(here.draft, here.inputs[0], here.inputs[1])


def same(kind: str) -> Callable[[Here], str]:
    return lambda here: here.draft.add(kind, here.inputs[0])


def gelu(here: Here) -> str:
    return here.draft.add("gelu", here.inputs[0], approximate="tanh" if here.options.get("Approximate") else "none")


def softmax(here: Here) -> str:
    """Along the last stored side."""
    return here.draft.add("softmax", here.inputs[0], axis=1 if here.images[0] else -1)


def mean(here: Here) -> str:
    rank = len(here.draft.shape(here.inputs[0]))
    axes = [axis % rank for axis in here.integers(1)]
    if here.images[0]:
        axes = [TO_IMAGE[axis] for axis in axes]
    keep = bool(here.options.get("KeepDims", False))
    if here.images[0] and not keep and sorted(axes) != [2, 3]:
        raise SpecError("a mean that drops a side of an image is only known over height and width")
    return compose.mean(here.draft, here.inputs[0], axes, keep)


def concatenation(here: Here) -> str:
    rank = len(here.draft.shape(here.inputs[0]))
    axis = here.options.get("Axis", 0) % rank
    names = [operand(here, place) for place in range(len(here.inputs))]
    return activated(here, here.draft.add("concat", *names, axis=TO_IMAGE[axis] if here.image else axis))


def reshape(here: Here) -> str:
    wanted: Sequence[int] | None = here.made
    shape = here.files[1] if len(here.files) > 1 else None
    if shape is not None and shape.values is not None:
        stored = here.integers(1)
        wanted = logical(tuple(stored), here.image) if len(stored) == 4 else stored
    if wanted is None:
        raise SpecError("the shape that it makes is not known")
    return compose.reshape(here.draft, here.inputs[0], wanted)


def as_claimed(here: Here) -> str:
    """SQUEEZE and EXPAND_DIMS: a reshape to what the file says."""
    if here.made is None:
        raise SpecError("the shape that it makes is not known")
    return compose.reshape(here.draft, here.inputs[0], here.made)


def transpose(here: Here) -> str:
    """Nothing where only the way of storing changes."""
    perm = here.integers(1)
    if sorted(perm) != list(range(len(here.draft.shape(here.inputs[0])))):
        raise SpecError(f"axes must be put in order, but got {perm}")
    if len(perm) == 4:
        stored = TO_IMAGE if here.images[0] else (0, 1, 2, 3)
        turned = [stored[axis] for axis in perm]
        perm = [turned[axis] for axis in (TO_PLAIN if here.image else (0, 1, 2, 3))]
    if perm == list(range(len(perm))):
        return here.inputs[0]
    return here.draft.add("transpose", here.inputs[0], perm=tuple(perm))


HANDLERS: dict[str, Callable[[Here], str]] = {
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "ADD": binary("add"),
    "SUB": binary("sub"),
    "MUL": binary("mul"),
    "DIV": binary("div"),
    "SQUARED_DIFFERENCE": squared_difference,
    "SQUARE": square,
    "POW": power,
    "RELU": same("relu"),
    "RELU6": same("relu6"),
    "RELU_N1_TO_1": lambda here: compose.clip(here.draft, here.inputs[0], -1.0, 1.0),
    "RELU_0_TO_1": lambda here: compose.clip(here.draft, here.inputs[0], 0.0, 1.0),
    "PRELU": same("prelu"),
    "LEAKY_RELU": same("prelu"),
    "LOGISTIC": same("sigmoid"),
    "HARD_SWISH": same("hard_swish"),
    "TANH": same("tanh"),
    "RSQRT": same("rsqrt"),
    "SQRT": same("sqrt"),
    "GELU": gelu,
    "SOFTMAX": softmax,
    "MEAN": mean,
    "CONCATENATION": concatenation,
    "RESHAPE": reshape,
    "SQUEEZE": as_claimed,
    "EXPAND_DIMS": as_claimed,
    "TRANSPOSE": transpose,
}
