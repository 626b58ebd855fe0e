"""An image at another size, by the nearest pixel or bilinear; pixel centres at half positions in both formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import INPUT, REQUIRED, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.ops.window import check_sizes
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"size": REQUIRED, "mode": "nearest"}
OUTPUT_QUANT = INPUT
BUILTINS = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}
ONNX_MODES = {"nearest": "nearest", "bilinear": "linear"}
macs, weights = elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    a = ops.attributes(op)
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"resize needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    if a["mode"] not in BUILTINS:
        raise SpecError(f"mode must be one of {', '.join(BUILTINS)}, but got {a['mode']!r}")
    check_sizes("size", a["size"], 2)


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:2], *ops.attributes(op)["size"]), op.dtype)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    a = ops.attributes(op)
    rows, columns = (blend(a["mode"], n, size) for n, size in zip(op.inputs[0].shape[2:], a["size"], strict=True))
    return np.asarray(rows @ inputs[0] @ columns.T, np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    sizes = build.constant(np.array(output(op).shape, np.int64))
    mode = ops.attributes(op)["mode"]
    return build.node(
        "Resize",
        [inputs[0], "", "", sizes],
        mode=ONNX_MODES[mode],
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    )


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    a, x = ops.attributes(op), build.image(inputs[0])
    size = build.constant(np.array(a["size"], np.int32))
    options = {"AlignCorners": False, "HalfPixelCenters": True}
    return build.emit(BUILTINS[a["mode"]], [x, size], output(op).shape, options, image=True, quant=build.quant_of(x))


def blend(mode: str, count: int, size: int) -> Array:
    """How much of each of ``count`` pixels goes into each of ``size`` (size x count)."""
    centres = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    blend = np.zeros((size, count), np.float32)
    if mode == "nearest":
        blend[np.arange(size), np.floor(centres + 0.5).astype(int)] = 1
        return blend
    low = np.floor(centres).astype(int)
    high = np.minimum(low + 1, count - 1)
    np.add.at(blend, (np.arange(size), low), (1 - (centres - low)).astype(np.float32))
    np.add.at(blend, (np.arange(size), high), (centres - low).astype(np.float32))
    return blend
