"""Operators that exporters write as several smaller ones, found again: activations and layer normalisation.

Each rule looks back from one step; what it took up disappears unless somebody else reads it.
"""

from __future__ import annotations

import math

import numpy as np

from ops_catalog.parse.draft import Draft, Step

TOLERANCE = 0.02
"""Relative; constants of int8 models are this coarse."""
DEEPEST = 8


def find_activation(draft: Draft, step: Step) -> None:
    """hard_sigmoid, hard_swish, silu and gelu from the product that ends them."""
    if step.type != "mul" or step.attributes.get("activation", "none") != "none":
        return
    scale, tensors = _factors(draft, step)
    if len(tensors) == 1:
        x = _shifted_relu6(draft, tensors[0])
        if x is not None and _close(scale, 1 / 6):
            draft.rewrite(step, "hard_sigmoid", [x], {})
    elif len(tensors) == 2:
        for x, gate in (tensors, tensors[::-1]):
            if _find_gated(draft, step, scale, x, gate):
                return


def _find_gated(draft: Draft, step: Step, scale: float, x: str, gate: str) -> bool:
    made = draft.maker(gate)
    if made is None:
        return False
    if _close(scale, 1) and made.inputs == (x,) and made.type in ("sigmoid", "hard_sigmoid"):
        return draft.rewrite(step, "silu" if made.type == "sigmoid" else "hard_swish", [x], {})
    if _close(scale, 1 / 6) and _shifted_relu6(draft, gate) == x:
        return draft.rewrite(step, "hard_swish", [x], {})
    inner = _plus(draft, gate, 1.0)
    bent = draft.maker(inner, "erf", "tanh") if inner is not None else None
    if bent is None or not _close(scale, 0.5):
        return False
    if bent.type == "erf" and _times(draft, bent.inputs[0], x, math.sqrt(0.5)):
        return draft.rewrite(step, "gelu", [x], {})
    if bent.type == "tanh" and _reads_only(draft, bent.inputs[0], x):
        return draft.rewrite(step, "gelu", [x], {"approximate": "tanh"})
    return False


def find_layer_norm(draft: Draft, step: Step) -> None:
    """(x - mean) / sqrt(variance + epsilon) along the last axis, without its scale and offset."""
    if step.type not in ("mul", "div") or len(step.inputs) != 2:
        return
    pairs = [step.inputs] if step.type == "div" else [step.inputs, step.inputs[::-1]]
    for centred, root in pairs:
        variance = _root_of(draft, root, inverse=step.type == "mul")
        centre = draft.maker(centred, "sub")
        if variance is None or centre is None:
            continue
        x, mean = centre.inputs
        found = _plus_any(draft, variance)
        if found is not None and _is_mean(draft, mean, x) and _is_variance(draft, found[0], centred, x, mean):
            draft.rewrite(step, "layer_norm", [x], {"epsilon": float(str(np.float32(found[1])))})
            return


def find_scale_of_layer_norm(draft: Draft, step: Step) -> None:
    """The constant factor and offset that belong to a layer_norm."""
    if step.type not in ("mul", "add") or step.attributes.get("activation", "none") != "none":
        return
    for x, constant in (step.inputs, step.inputs[::-1]):
        norm, tensor = draft.maker(x, "layer_norm"), draft.tensors[constant]
        if norm is None or not tensor.constant or not draft.sole(x):
            continue
        side = draft.shape(norm.inputs[0])[-1]
        if tensor.shape is not None and (tensor.shape[-1:] == (side,) and math.prod(tensor.shape) == side):
            draft.rewrite(step, "layer_norm", norm.inputs, norm.attributes)
            return


def _root_of(draft: Draft, name: str, inverse: bool) -> str | None:
    """What the square root was taken of."""
    made = draft.maker(name)
    if made is None:
        return None
    if not inverse:
        return made.inputs[0] if made.type == "sqrt" else None
    if made.type == "rsqrt":
        return made.inputs[0]
    return _root_of(draft, made.inputs[0], inverse=False) if made.type == "reciprocal" else None


def _is_mean(draft: Draft, name: str, x: str) -> bool:
    made = draft.maker(name, "mean")
    return made is not None and made.inputs == (x,) and made.attributes["axes"] == (len(draft.shape(x)) - 1,)


def _is_variance(draft: Draft, name: str, centred: str, x: str, mean: str) -> bool:
    """The mean of the squares of ``centred``, or of the squared differences of x and its mean."""
    made = draft.maker(name, "mean")
    if made is None or made.attributes["axes"] != (len(draft.shape(x)) - 1,):
        return False
    square = draft.maker(made.inputs[0])
    if square is None:
        return False
    if square.type == "squared_difference":
        return square.inputs == (x, mean)
    if square.type == "mul":
        return square.inputs == (centred, centred)
    return square.type == "pow" and square.inputs[0] == centred and draft.tensors[square.inputs[1]].scalar == 2


def _factors(draft: Draft, step: Step) -> tuple[float, list[str]]:
    """A product of products, taken apart: its constant factor and the tensors in it, at most three."""
    scale, tensors = 1.0, list[str]()
    waiting = [(name, 1) for name in reversed(step.inputs)]
    while waiting and len(tensors) < 3:
        name, depth = waiting.pop()
        number, made = draft.tensors[name].scalar, draft.maker(name, "mul")
        if number is not None:
            scale *= number
        elif made is not None and depth < DEEPEST and made.attributes.get("activation", "none") == "none":
            waiting += [(entry, depth + 1) for entry in reversed(made.inputs)]
        else:
            tensors.append(name)
    return scale, tensors


def _shifted_relu6(draft: Draft, name: str) -> str | None:
    """x of relu6(x + 3)."""
    made = draft.maker(name, "relu6")
    return None if made is None else _plus(draft, made.inputs[0], 3.0)


def _plus(draft: Draft, name: str, wanted: float) -> str | None:
    """x of x + wanted."""
    found = _plus_any(draft, name)
    return found[0] if found is not None and _close(found[1], wanted) else None


def _plus_any(draft: Draft, name: str) -> tuple[str, float] | None:
    """x and the number of x + number."""
    made = draft.maker(name, "add")
    if made is None:
        return None
    for x, other in (made.inputs, made.inputs[::-1]):
        number = draft.tensors[other].scalar
        if number is not None:
            return x, number
    return None


def _times(draft: Draft, name: str, x: str, wanted: float) -> bool:
    made = draft.maker(name, "mul")
    if made is None:
        return False
    scale, tensors = _factors(draft, made)
    return tensors == [x] and _close(scale, wanted)


def _reads_only(draft: Draft, name: str, x: str) -> bool:
    """Whether a tensor is a polynomial of x."""
    waiting, budget = [name], 32
    while waiting and budget:
        budget -= 1
        entry = waiting.pop()
        if entry == x or draft.tensors[entry].constant:
            continue
        made = draft.maker(entry, "mul", "add", "pow")
        if made is None:
            return False
        waiting += made.inputs
    return not waiting


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= TOLERANCE * abs(wanted)
