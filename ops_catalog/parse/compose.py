"""Steps that both formats' nodes come down to."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ops_catalog.ops.window import Pads
from ops_catalog.parse.draft import Draft
from ops_catalog.parse.normal import padding_of
from ops_catalog.spec import SpecError, TensorSpec

Pair = tuple[int, int]


def convolution(
    draft: Draft, x: str, weight: tuple[int, ...], groups: int, stride: Pair, dilation: Pair, padding: Pads | str
) -> str:
    """conv2d or depthwise_conv2d from a weight's logical shape (out x in x height x width)."""
    shape = draft.shape(x)
    if len(shape) != 4 or len(weight) != 4:
        raise SpecError(f"only convolutions of images are known, but got one of rank {len(shape)}")
    channels, kernel = shape[1], (weight[2], weight[3])
    if weight[1] * groups != channels:
        raise SpecError(f"a weight of {weight[1]} x {groups} groups must fit {channels} channels")
    sizes = {"kernel": kernel, "stride": stride, "dilation": dilation}
    chosen = padding if isinstance(padding, str) else padding_of(TensorSpec(shape), dict(sizes), padding)
    if groups == channels == weight[0] and groups > 1:
        return draft.add("depthwise_conv2d", x, **sizes, padding=chosen)
    return draft.add("conv2d", x, out_channels=weight[0], groups=groups, **sizes, padding=chosen)


def pool(draft: Draft, kind: str, x: str, kernel: Pair, stride: Pair, padding: Pads | str) -> str:
    chosen = padding
    if not isinstance(padding, str):
        chosen = padding_of(TensorSpec(draft.shape(x)), {"kernel": kernel, "stride": stride}, padding)  # type: ignore[assignment]
    return draft.add(kind, x, kernel=kernel, stride=stride, padding=chosen)


def linear(draft: Draft, x: str, features: int, bias: bool) -> str:
    """A fully connected layer on the last axis; what has more than three sides is reshaped before and after."""
    shape = draft.shape(x)
    if len(shape) in (2, 3):
        return draft.add("linear", x, out_features=features, _bias=bias)
    if len(shape) < 2:
        raise SpecError(f"a layer needs an input of rank 2 or more, but got {len(shape)}")
    flat = draft.add("reshape", x, shape=(prod(shape[:-1]), shape[-1]))
    made = draft.add("linear", flat, out_features=features, _bias=bias)
    return draft.add("reshape", made, shape=(*shape[:-1], features))


def matmul(draft: Draft, a: str, b: str, transpose_b: bool = False) -> str:
    return draft.add("matmul", a, b, **({"transpose_b": True} if transpose_b else {}))


def mean(draft: Draft, x: str, axes: Sequence[int], keep: bool) -> str:
    """The mean of images over height and width, else a step for the patterns."""
    shape = draft.shape(x)
    chosen = tuple(sorted({axis % len(shape) for axis in axes}))
    if len(shape) == 4 and chosen == (2, 3):
        made = draft.add("global_average_pool", x)
        return made if keep else draft.add("reshape", made, shape=shape[:2])
    return draft.add("mean", x, axes=chosen, keep=keep)


def binary(draft: Draft, kind: str, a: str, b: str) -> str:
    """add, mul, sub or div; a constant that is subtracted or divided by is added or multiplied, an idle one dropped."""
    constants = [draft.tensors[name].constant for name in (a, b)]
    if all(constants):
        raise SpecError("an operator must read a tensor that is no constant")
    for x, other in ((a, b), (b, a))[: 2 if kind in ("add", "mul") else 1]:
        idle = draft.tensors[other].scalar == (0 if kind in ("add", "sub") else 1)
        if draft.folds_constants and idle and len(draft.shape(other)) <= len(draft.shape(x)):
            return x
    if kind in ("sub", "div") and constants[1]:
        number = draft.tensors[b].scalar
        opposite = None if number is None or (kind == "div" and number == 0) else number
        if opposite is None:
            other = draft.constant(draft.shape(b), None, draft.labels[b])
        else:
            other = draft.number(-opposite if kind == "sub" else 1 / opposite)
        return draft.add("add" if kind == "sub" else "mul", a, other)
    return draft.add(kind, a, b)


def power(draft: Draft, x: str, exponent: str) -> str:
    number = draft.tensors[exponent].scalar
    return draft.add("sqrt", x) if number == 0.5 else draft.add("pow", x, exponent)


def clip(draft: Draft, x: str, low: float | None, high: float | None) -> str:
    """relu, relu6 or what is near to it."""
    unbounded = high is None or high > 1e30
    if low == 0 and unbounded:
        return draft.add("relu", x)
    if low == 0 and high is not None and abs(high - 6) < 0.05:
        return draft.add("relu6", x)
    if unbounded and (low is None or low < -1e30):
        return x
    draft.note("other limits than 0 and 6 are priced as relu6")
    return draft.add("relu6", x)


def reshape(draft: Draft, x: str, shape: Sequence[int]) -> str:
    """To a shape in which one side may be -1."""
    size, wanted = prod(draft.shape(x)), [int(side) for side in shape]
    if wanted.count(-1) == 1:
        rest = prod(side for side in wanted if side != -1)
        if rest < 1 or size % rest:
            raise SpecError(f"a reshape to {tuple(wanted)} must fit {size} elements")
        wanted[wanted.index(-1)] = size // rest
    if not wanted:
        raise SpecError("a single value is no tensor of a network")
    return draft.add("reshape", x, shape=tuple(wanted))
