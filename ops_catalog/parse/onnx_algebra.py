"""ONNX nodes that multiply, add, activate, normalise or move elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from ops_catalog.parse import compose
from ops_catalog.parse.draft import Draft
from ops_catalog.parse.nodes import FileNode
from ops_catalog.spec import SpecError

Handler = Callable[[Draft, FileNode, int], str]


def gemm(draft: Draft, node: FileNode, version: int) -> str:
    a, b = node.inputs[:2]
    shape, turned = draft.shape(b), bool(node.attributes.get("transB", 0))
    if len(shape) != 2 or len(draft.shape(a)) != 2:
        raise SpecError("Gemm needs matrices")
    if node.attributes.get("transA", 0):
        a = draft.add("transpose", a, perm=(1, 0))
    has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
    if draft.tensors[b].constant:
        check_inner(draft.shape(a)[-1], shape[1] if turned else shape[0])
        made = draft.add("linear", a, out_features=shape[0] if turned else shape[1], _bias=has_bias)
        has_bias = has_bias and not draft.tensors[node.inputs[2]].constant
    else:
        made = compose.matmul(draft, a, b, turned)
    return draft.add("add", made, node.inputs[2]) if has_bias else made


def matmul(draft: Draft, node: FileNode, version: int) -> str:
    return product(draft, node.inputs[0], node.inputs[1])


def softmax(draft: Draft, node: FileNode, version: int) -> str:
    """Before version 13 along all axes from ``axis`` on; only the last may be more than one there."""
    shape = draft.shape(node.inputs[0])
    axis = int(node.attributes.get("axis", -1 if version >= 13 else 1)) % len(shape)
    if version < 13 and prod(shape[axis + 1 :]) != 1:
        if prod(shape[axis:-1]) != 1:
            raise SpecError("a softmax along several axes is not known")
        axis = len(shape) - 1
    return draft.add("softmax", node.inputs[0], axis=axis)


def layer_norm(draft: Draft, node: FileNode, version: int) -> str:
    shape = draft.shape(node.inputs[0])
    axis = int(node.attributes.get("axis", -1)) % len(shape)
    if prod(shape[axis:-1]) != 1:
        raise SpecError("a layer normalisation along several axes is not known")
    epsilon = float(f"{node.attributes.get('epsilon', 1e-5):.7g}")
    return draft.add("layer_norm", node.inputs[0], epsilon=epsilon)


def batch_norm(draft: Draft, node: FileNode, version: int) -> str:
    x = node.inputs[0]
    return draft.add("batch_norm" if len(draft.shape(x)) == 4 else "scale_shift", x)


def clip(draft: Draft, node: FileNode, version: int) -> str:
    limits: list[float | None] = []
    for place, name in ((1, "min"), (2, "max")):
        if len(node.inputs) > place and node.inputs[place]:
            limit = draft.tensors[node.inputs[place]].scalar
            if limit is None:
                raise SpecError("the limits of Clip must be constants")
            limits.append(limit)
        else:
            limits.append(node.attributes.get(name))
    return compose.clip(draft, node.inputs[0], *limits)


def hard_sigmoid(draft: Draft, node: FileNode, version: int) -> str:
    if abs(node.attributes.get("alpha", 0.2) - 1 / 6) > 1e-3:
        draft.note("a HardSigmoid of another slope is priced as that of a sixth")
    return draft.add("hard_sigmoid", node.inputs[0])


def gelu(draft: Draft, node: FileNode, version: int) -> str:
    return draft.add("gelu", node.inputs[0], approximate=node.attributes.get("approximate", "none"))


def reduce_mean(draft: Draft, node: FileNode, version: int) -> str:
    x, axes = node.inputs[0], node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = _integers(draft, node, 1)
    if axes is None:
        axes = tuple(range(len(draft.shape(x))))
    return compose.mean(draft, x, axes, bool(node.attributes.get("keepdims", 1)))


def concat(draft: Draft, node: FileNode, version: int) -> str:
    return draft.add("concat", *node.inputs, axis=int(node.attributes["axis"]) % len(draft.shape(node.inputs[0])))


def reshape(draft: Draft, node: FileNode, version: int) -> str:
    shape = draft.shape(node.inputs[0])
    wanted = node.attributes.get("shape") or _integers(draft, node, 1)
    if not node.attributes.get("allowzero", 0):
        wanted = [shape[i] if side == 0 else side for i, side in enumerate(wanted)]
    return compose.reshape(draft, node.inputs[0], wanted)


def flatten(draft: Draft, node: FileNode, version: int) -> str:
    shape = draft.shape(node.inputs[0])
    axis = int(node.attributes.get("axis", 1))
    axis += len(shape) if axis < 0 else 0
    return draft.add("reshape", node.inputs[0], shape=(prod(shape[:axis]), prod(shape[axis:])))


def squeeze(draft: Draft, node: FileNode, version: int) -> str:
    shape = draft.shape(node.inputs[0])
    axes = _axes(draft, node) or [i for i, side in enumerate(shape) if side == 1]
    chosen = {axis % len(shape) for axis in axes}
    return compose.reshape(draft, node.inputs[0], [side for i, side in enumerate(shape) if i not in chosen])


def unsqueeze(draft: Draft, node: FileNode, version: int) -> str:
    shape, axes = list(draft.shape(node.inputs[0])), _axes(draft, node)
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return compose.reshape(draft, node.inputs[0], shape)


def transpose(draft: Draft, node: FileNode, version: int) -> str:
    rank = len(draft.shape(node.inputs[0]))
    perm = tuple(int(axis) for axis in node.attributes.get("perm", range(rank)[::-1]))
    return node.inputs[0] if perm == tuple(range(rank)) else draft.add("transpose", node.inputs[0], perm=perm)


def power(draft: Draft, node: FileNode, version: int) -> str:
    return compose.power(draft, node.inputs[0], node.inputs[1])


def summed(draft: Draft, node: FileNode, version: int) -> str:
    made = node.inputs[0]
    for other in node.inputs[1:]:
        made = draft.add("add", made, other)
    return made


def product(draft: Draft, a: str, b: str) -> str:
    """With a constant matrix a linear layer, else a matmul."""
    first, second = draft.shape(a), draft.shape(b)
    if draft.tensors[b].constant and len(second) == 2 and len(first) >= 2:
        check_inner(first[-1], second[0])
        return compose.linear(draft, a, second[1], bias=False)
    return compose.matmul(draft, a, b)


def check_inner(found: int, wanted: int) -> None:
    if found != wanted:
        raise SpecError(f"a weight for {wanted} features must fit, but got {found}")


def binary(kind: str) -> Handler:
    def handle(draft: Draft, node: FileNode, version: int) -> str:
        return compose.binary(draft, kind, node.inputs[0], node.inputs[1])

    return handle


def same(kind: str) -> Handler:
    def handle(draft: Draft, node: FileNode, version: int) -> str:
        return draft.add(kind, node.inputs[0])

    return handle


def _axes(draft: Draft, node: FileNode) -> list[int]:
    if len(node.inputs) > 1 and node.inputs[1]:
        return _integers(draft, node, 1)
    return [int(axis) for axis in node.attributes.get("axes", ())]


def _integers(draft: Draft, node: FileNode, place: int) -> list[int]:
    values: Sequence[float] | None = None
    tensor = draft.tensors[node.inputs[place]]
    if tensor.values is not None:
        values = [value.item() for value in tensor.values.reshape(-1)]
    if values is None:
        raise SpecError(f"input {place} of {node.type} must be a small constant")
    return [int(value) for value in values]


HANDLERS: dict[str, Handler] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "Add": binary("add"),
    "Sub": binary("sub"),
    "Mul": binary("mul"),
    "Div": binary("div"),
    "Sum": summed,
    "Pow": power,
    "com.microsoft::Gelu": same("gelu"),
    "com.microsoft::QuickGelu": same("silu"),
    "Relu": same("relu"),
    "Sigmoid": same("sigmoid"),
    "HardSwish": same("hard_swish"),
    "Swish": same("silu"),
    "PRelu": same("prelu"),
    "LeakyRelu": same("prelu"),
    "Erf": same("erf"),
    "Tanh": same("tanh"),
    "Sqrt": same("sqrt"),
    "Reciprocal": same("reciprocal"),
    "HardSigmoid": hard_sigmoid,
    "Clip": clip,
    "Gelu": gelu,
    "Softmax": softmax,
    "LayerNormalization": layer_norm,
    "BatchNormalization": batch_norm,
    "ReduceMean": reduce_mean,
    "Concat": concat,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
}
