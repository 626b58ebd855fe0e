"""Joins the steps of a draft as engines do, and as our networks are written.

Batch norms, constant factors and biases go into the convolution or linear layer before them, paddings into the window
after them, a residual and then an activation into the convolution that they follow: each only where nobody else reads
what disappears.
"""

from __future__ import annotations

from ops_catalog.ops import activation
from ops_catalog.ops.window import pads
from ops_catalog.parse.draft import Draft, Step
from ops_catalog.parse.normal import padding_of
from ops_catalog.parse.patterns import find_activation, find_layer_norm, find_scale_of_layer_norm
from ops_catalog.spec import TensorSpec

LAYERS = ("conv2d", "depthwise_conv2d", "linear")
WINDOWS = ("conv2d", "depthwise_conv2d", "max_pool")
ACTIVATIONS = frozenset({"relu", "relu6", *activation.SEPARATE})
LOWEST = -1e30


def fuse(draft: Draft) -> None:
    for rule in RULES:
        for step in list(draft.steps.values()):
            if draft.steps.get(step.output) is step:
                rule(draft, step)


def drop_reshape(draft: Draft, step: Step) -> None:
    """A reshape of a reshape, and one that changes nothing."""
    if step.type != "reshape":
        return
    before = draft.maker(step.inputs[0], "reshape")
    if before is not None and draft.rewrite(step, "reshape", before.inputs, step.attributes):
        step = draft.steps[step.output]
    if draft.shape(step.inputs[0]) == draft.shape(step.output):
        draft.bypass(step, step.inputs[0])


def cancel_transposes(draft: Draft, step: Step) -> None:
    """Two that undo each other, also around a softmax, which then is along another axis."""
    if step.type != "transpose":
        return
    perm, softmax = step.attributes["perm"], draft.maker(step.inputs[0], "softmax")
    before = draft.maker(softmax.inputs[0] if softmax else step.inputs[0], "transpose")
    if before is None or [before.attributes["perm"][axis] for axis in perm] != list(range(len(perm))):
        return
    if softmax is None:
        draft.bypass(step, before.inputs[0])
    elif draft.sole(softmax.output) and draft.sole(before.output):
        axis = before.attributes["perm"][softmax.attributes.get("axis", -1)]
        draft.rewrite(step, "softmax", before.inputs, {"axis": axis})


def transpose_in_matmul(draft: Draft, step: Step) -> None:
    """The second input given with its last two sides swapped."""
    if step.type != "matmul" or step.attributes.get("transpose_b", False):
        return
    before = draft.maker(step.inputs[1], "transpose")
    if before is None or not draft.sole(before.output):
        return
    rank = len(before.attributes["perm"])
    if before.attributes["perm"] == (*range(rank - 2), rank - 1, rank - 2):
        draft.rewrite(step, "matmul", (step.inputs[0], before.inputs[0]), {**step.attributes, "transpose_b": True})


def scale_in_matmul(draft: Draft, step: Step) -> None:
    """A constant factor before or after a product of two tensors."""
    if step.type == "mul" and draft.folds_constants:
        for x, constant in (step.inputs, step.inputs[::-1]):
            made = draft.maker(x, "matmul")
            if made is not None and draft.sole(x) and draft.tensors[constant].scalar is not None:
                draft.note("a constant factor became part of the matmul before it")
                draft.bypass(step, x)
                return
    if step.type == "matmul" and draft.folds_constants:
        for name in step.inputs:
            scaled = draft.maker(name, "mul")
            number = [draft.tensors[entry].scalar is not None for entry in scaled.inputs] if scaled else []
            if scaled is not None and draft.sole(name) and any(number):
                draft.note("a constant factor became part of the matmul after it")
                draft.bypass(scaled, scaled.inputs[number.index(False) if False in number else 0])


def fold_batch_norm(draft: Draft, step: Step) -> None:
    if step.type not in ("batch_norm", "scale_shift"):
        return
    direct = _open_layer(draft, step.inputs[0])
    before = direct or _layer_behind_reshape(draft, step.inputs[0])
    if before is None or (before.type == "linear" and len(draft.shape(step.output)) != 2):
        return
    if direct is not None:
        draft.rewrite(step, before.type, before.inputs, before.attributes)
    else:
        draft.bypass(step, step.inputs[0])


def fold_constant(draft: Draft, step: Step) -> None:
    """A constant per channel, or one for all, multiplied or added: a bias, or a batch norm written out."""
    if step.type not in ("add", "mul") or step.attributes.get("activation", "none") != "none":
        return
    for x, constant in (step.inputs, step.inputs[::-1]):
        tensor, direct = draft.tensors[constant], _open_layer(draft, x)
        before = direct or _layer_behind_reshape(draft, x)
        if before is None or not tensor.constant or tensor.shape is None:
            continue
        is_bias = before.attributes.get("_bias") is False and step.type == "add"
        if (draft.folds_constants or is_bias) and _per_channel(draft, before, draft.shape(x), tensor.shape):
            attributes = {**before.attributes, "_bias": True}
            if direct is not None:
                draft.rewrite(step, before.type, before.inputs, attributes)
            else:
                draft.rewrite(before, before.type, before.inputs, attributes)
                draft.bypass(step, x)
            if not is_bias:
                draft.note("a constant factor or offset became part of the layer before it")
            return


def fold_padding(draft: Draft, step: Step) -> None:
    """Zeros before a convolution, lowest values before a max pool."""
    before = draft.maker(step.inputs[0], "pad") if step.type in WINDOWS else None
    if before is None or not draft.sole(before.output):
        return
    fill = before.attributes.get("_fill", 0.0)
    if fill > LOWEST if step.type == "max_pool" else fill != 0:
        return
    a = {"kernel": (1, 1), "stride": (1, 1), "dilation": (1, 1), "padding": "same", **step.attributes}
    now = pads(draft.shape(before.output)[2:], a["kernel"], a["stride"], a["dilation"], a["padding"])  # type: ignore[arg-type]
    top, bottom, left, right = (one + other for one, other in zip(now, before.attributes["pads"], strict=True))
    image = TensorSpec(draft.shape(before.inputs[0]))
    padding = padding_of(image, a, (top, bottom, left, right))
    draft.rewrite(step, step.type, (before.inputs[0], *step.inputs[1:]), {**step.attributes, "padding": padding})


def read_saturation(draft: Draft, step: Step) -> None:
    """relu and relu6 of an int8 model that are left to the limits of the stored integers."""
    if step.type not in (*LAYERS, "add", "mul") or step.attributes.get("activation", "none") != "none":
        return
    readers = [draft.steps[name].type for name in draft.readers.get(step.output, {}) if name in draft.steps]
    if not draft.low.get(step.output) or (len(readers) == 1 and readers[0] in ACTIVATIONS):
        return
    if step.type in LAYERS or not all(draft.low.get(name, False) for name in step.inputs):
        kind = "relu6" if step.output in draft.six else "relu"
        draft.rewrite(step, step.type, step.inputs, {**step.attributes, "activation": kind})


def fuse_residual(draft: Draft, step: Step) -> None:
    """Into the convolution that makes the first input, else the second."""
    if step.type != "add" or any(draft.tensors[name].constant for name in step.inputs):
        return
    for x, residual in (step.inputs, step.inputs[::-1]):
        before = _open_layer(draft, x)
        if before is None or before.type != "conv2d" or draft.shape(residual) != draft.shape(x):
            continue
        chosen = {**before.attributes, "activation": step.attributes.get("activation", "none")}
        if draft.rewrite(step, "conv2d", (before.inputs[0], residual), chosen):
            return


def fuse_activation(draft: Draft, step: Step) -> None:
    if step.type not in ACTIVATIONS or step.attributes.get("approximate", "none") != "none":
        return
    behind = _layer_behind_reshape(draft, step.inputs[0])
    if behind is not None:
        draft.rewrite(behind, behind.type, behind.inputs, {**behind.attributes, "activation": step.type})
        draft.bypass(step, step.inputs[0])
        return
    before = draft.maker(step.inputs[0], *LAYERS, "add", "mul")
    if before is None or not draft.sole(before.output) or before.attributes.get("activation", "none") != "none":
        return
    if before.type in LAYERS or step.type in activation.FUSED:
        draft.rewrite(step, before.type, before.inputs, {**before.attributes, "activation": step.type})


def _open_layer(draft: Draft, name: str) -> Step | None:
    """The layer that makes a tensor for one reader, with neither residual nor activation."""
    before = draft.maker(name, *LAYERS)
    if before is None or not draft.sole(name) or len(before.inputs) != 1:
        return None
    return before if before.attributes.get("activation", "none") == "none" else None


def _layer_behind_reshape(draft: Draft, name: str) -> Step | None:
    """The layer before a reshape, where the two are there for nobody else: a layer on more sides than ours take."""
    reshape = draft.maker(name, "reshape")
    layer = _open_layer(draft, reshape.inputs[0]) if reshape is not None and draft.sole(name) else None
    if layer is None:
        return None
    axis = -1 if layer.type == "linear" else 1
    made, flat = draft.shape(name), draft.shape(layer.output)
    return layer if len(made) > 1 and made[axis] == flat[axis] else None


def _per_channel(draft: Draft, layer: Step, made: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a constant varies along a layer's channels alone, in an output of shape ``made``."""
    axis = len(made) - 1 if layer.type == "linear" else 1
    if len(shape) > len(made):
        return False
    padded = (1,) * (len(made) - len(shape)) + shape
    return all(side == 1 or (i == axis and side == made[i]) for i, side in enumerate(padded))


RULES = (
    drop_reshape, cancel_transposes, find_activation, find_layer_norm, find_scale_of_layer_norm, transpose_in_matmul,
    scale_in_matmul, transpose_in_matmul, fold_batch_norm, fold_constant, fold_batch_norm, fold_padding,
    read_saturation, fuse_residual, fuse_activation, drop_reshape,
)  # fmt: skip
