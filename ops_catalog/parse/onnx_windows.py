"""ONNX nodes that slide a window over an image, resize it or put a frame around it."""

from __future__ import annotations

from collections.abc import Callable

from ops_catalog.ops.window import Pads
from ops_catalog.ops.window import pads as same_pads
from ops_catalog.parse.compose import Pair, convolution, pool
from ops_catalog.parse.draft import Draft
from ops_catalog.parse.nodes import FileNode
from ops_catalog.spec import SpecError


def conv(draft: Draft, node: FileNode, version: int) -> str:
    return convolved(draft, node, node.inputs[1])


def max_pool(draft: Draft, node: FileNode, version: int) -> str:
    if any(node.outputs[1:]):
        raise SpecError("a pool that also gives places is not known")
    return _pooled(draft, node, "max_pool")


def average_pool(draft: Draft, node: FileNode, version: int) -> str:
    made = _pooled(draft, node, "average_pool")
    if node.attributes.get("count_include_pad", 0) and any(node.attributes.get("pads", ())):
        draft.note("AveragePool that counts its padding is priced as one that does not")
    return made


def global_average_pool(draft: Draft, node: FileNode, version: int) -> str:
    shape = draft.shape(node.inputs[0])
    if len(shape) != 3:
        return draft.add("global_average_pool", node.inputs[0])
    image = draft.add("reshape", node.inputs[0], shape=(*shape[:2], 1, shape[2]))
    return draft.add("reshape", draft.add("global_average_pool", image), shape=(*shape[:2], 1))


def resize(draft: Draft, node: FileNode, version: int) -> str:
    """Resize and Upsample, by constant sizes or scales of height and width."""
    shape, mode = draft.shape(node.inputs[0]), node.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear") or len(shape) != 4:
        raise SpecError(f"only images are resized, by the nearest pixel or linearly, but got {mode}, rank {len(shape)}")
    made = _resized(draft, node, shape)
    if made[:2] != shape[:2]:
        raise SpecError("only height and width of an image can be resized")
    if node.attributes.get("coordinate_transformation_mode", "half_pixel") != "half_pixel" or node.type == "Upsample":
        draft.note("a resize with other pixel centres is priced as one with half-pixel centres")
    return draft.add("resize", node.inputs[0], size=made[2:], mode="nearest" if mode == "nearest" else "bilinear")


def pad(draft: Draft, node: FileNode, version: int) -> str:
    """Constant padding of height and width."""
    x, mode = node.inputs[0], node.attributes.get("mode", "constant")
    if mode != "constant":
        raise SpecError(f"only padding with a constant is known, but got {mode}")
    rank = len(draft.shape(x))
    sizes = node.attributes.get("pads") or _numbers(draft, node, 1)
    axes = [int(axis) for axis in _numbers(draft, node, 3)] if _given(node, 3) else list(range(rank))
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(sizes[i]), int(sizes[i + len(axes)])
    if not any((*before, *after)):
        return x
    if rank != 4 or any((*before[:2], *after[:2])):
        raise SpecError("only height and width of an image can be padded")
    fill = draft.tensors[node.inputs[2]].scalar if _given(node, 2) else node.attributes.get("value", 0.0)
    sides = (before[2], after[2], before[3], after[3])
    return draft.add("pad", x, pads=sides, _fill=0.0 if fill is None else fill)


def convolved(draft: Draft, node: FileNode, weight: str) -> str:
    shape, x = draft.shape(weight), node.inputs[0]
    if not draft.tensors[weight].constant:
        raise SpecError("a convolution must have a constant weight")
    if tuple(node.attributes.get("kernel_shape", shape[2:])) != shape[2:]:
        raise SpecError(f"kernel_shape must be that of the weight, but got {node.attributes['kernel_shape']}")
    image = draft.shape(x)
    groups = int(node.attributes.get("group", 1))
    if len(image) == 3 and len(shape) == 3:
        return _convolved_line(draft, node, shape, groups)
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    padding = _padding(node, image[2:], shape[2:], stride, dilation)
    return convolution(draft, x, shape, groups, stride, dilation, padding)


def _convolved_line(draft: Draft, node: FileNode, weight: tuple[int, ...], groups: int) -> str:
    """A convolution of sequences, as one of images of one row."""
    batch, channels, length = draft.shape(node.inputs[0])
    stride = (1, int(*node.attributes.get("strides", (1,))))
    dilation = (1, int(*node.attributes.get("dilations", (1,))))
    before, after = map(int, node.attributes.get("pads", (0, 0)))
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise SpecError("auto_pad of a sequence is not known")
    image = draft.add("reshape", node.inputs[0], shape=(batch, channels, 1, length))
    kernel = (*weight[:2], 1, weight[2])
    made = convolution(draft, image, kernel, groups, stride, dilation, (0, 0, before, after))
    draft.note("a convolution of sequences is priced as one of images of one row")
    shape = draft.shape(made)
    return draft.add("reshape", made, shape=(shape[0], shape[1], shape[3]))


def _pooled(draft: Draft, node: FileNode, kind: str) -> str:
    kernel, stride = _pair(node, "kernel_shape"), _pair(node, "strides")
    if _pair(node, "dilations") != (1, 1):
        raise SpecError("a pool with gaps in its window is not known")
    image = draft.shape(node.inputs[0])
    padding = _padding(node, image[2:], kernel, stride, (1, 1))
    if node.attributes.get("ceil_mode", 0):
        padding = _ceiled(image[2:], kernel, stride, padding)
    return pool(draft, kind, node.inputs[0], kernel, stride, padding)


def _padding(node: FileNode, size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, dilation: Pair) -> Pads:
    if len(size) != 2 or len(kernel) != 2:
        raise SpecError(f"only windows over images are known, but got {len(size)} sides")
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return (0, 0, 0, 0)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        top, bottom, left, right = same_pads(_two(size), _two(kernel), stride, dilation, "same")
        return (top, bottom, left, right) if automatic == "SAME_UPPER" else (bottom, top, right, left)
    top, left, bottom, right = map(int, node.attributes.get("pads", (0, 0, 0, 0)))
    if min(top, left, bottom, right) < 0:
        raise SpecError("padding must not be negative")
    return (top, bottom, left, right)


def _ceiled(size: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pads) -> Pads:
    """The padding with which the last window, begun inside the image, is whole."""
    ends = []
    for i in range(2):
        before, after = padding[2 * i], padding[2 * i + 1]
        count = -(-(size[i] + before + after - kernel[i]) // stride[i]) + 1
        if (count - 1) * stride[i] >= size[i] + before:
            count -= 1
        needed = (count - 1) * stride[i] + kernel[i] - size[i] - before
        ends.append(max(after, needed))
    return (padding[0], ends[0], padding[2], ends[1])


def _resized(draft: Draft, node: FileNode, shape: tuple[int, ...]) -> tuple[int, ...]:
    if node.type == "Resize" and _given(node, 3):
        sizes, made = _numbers(draft, node, 3), list(shape)
        axes = node.attributes.get("axes", tuple(range(len(sizes))))
        for i, axis in enumerate(axes):
            made[axis] = int(sizes[i])
        return tuple(made)
    place = 2 if len(node.inputs) > 2 else 1
    scales = node.attributes.get("scales") or _numbers(draft, node, place)
    return tuple(int(side * scale) for side, scale in zip(shape, scales, strict=True))


def _numbers(draft: Draft, node: FileNode, place: int) -> list[float]:
    """The values of a small constant input."""
    values = draft.tensors[node.inputs[place]].values if _given(node, place) else None
    if values is None:
        raise SpecError(f"input {place} of {node.type} must be a small constant")
    return [value.item() for value in values.reshape(-1)]


def _given(node: FileNode, place: int) -> bool:
    return len(node.inputs) > place and bool(node.inputs[place])


def _pair(node: FileNode, name: str) -> Pair:
    return _two(node.attributes.get(name, (1, 1)))


def _two(values: tuple[int, ...]) -> Pair:
    if len(values) != 2:
        raise SpecError(f"a window must have two sides, but got {len(values)}")
    return int(values[0]), int(values[1])


HANDLERS: dict[str, Callable[[Draft, FileNode, int], str]] = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "Resize": resize,
    "Upsample": resize,
    "Pad": pad,
}
