"""The layers of Once-for-All's and ProxylessNAS's tables as operators.

A layer is named by its type, the shapes of input and output (H x W x C), and for blocks the expansion, kernel, stride,
whether there is a shortcut, squeeze-excite and h-swish. The two families differ: Once-for-All's tables (MobileNetV3)
name the channels in the middle, ProxylessNAS's (MobileNetV2, ReLU6 throughout) the expansion ratio, and their
``Logits`` begins with the mean over the image.

References:
    mit-han-lab/once-for-all: ofa/nas/efficiency_predictor/latency_lookup_table.py (MBv3LatencyTable,
    ProxylessNASLatencyTable), ofa/imagenet_classification/networks/mobilenet_v3.py;
    mit-han-lab/proxylessnas: search/utils/latency_estimator.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lut_db.foreign.reading import NotUnderstood, Reading, anywhere, operator, reading_of, shown, whole
from lut_db.records import Lowering
from ops_catalog import ops
from ops_catalog.networks.blocks import round_channels
from ops_catalog.spec import NativeOp, OpSpec

BLOCK = "expanded_conv"
KINDS = (BLOCK, "Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits")
SQUEEZE = 4
"""Squeeze-excite is as wide as a block's middle by this, in steps of 8, with a hard sigmoid gate."""

AFTER_MEAN = "mean of logits"
"""Form of what ProxylessNAS's Logits makes on its way, so that only operators after its own mean are free."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as its table names it.

    Attributes:
        made: shape of the output.
        numbers: expand, kernel, stride, idskip and, in Once-for-All's, se and hs.
    """

    kind: str
    read: tuple[int, ...]
    made: tuple[int, ...]
    numbers: Mapping[str, int]
    mobilenet_v3: bool


def parse_layer(kind: str, read: Any, made: Any, numbers: Mapping[str, Any], mobilenet_v3: bool) -> Layer:
    """A layer of texts. Raises NotUnderstood."""
    if kind not in KINDS:
        raise NotUnderstood(f"a layer must be one of {', '.join(KINDS)}, but got {shown(kind)}")
    wanted = ("expand", "kernel", "stride", "idskip", *(("se", "hs") if mobilenet_v3 else ()))
    names = wanted if kind == BLOCK else ()
    found = {name: whole(name, numbers.get(name), 0 if name in ("idskip", "se", "hs") else 1) for name in names}
    return Layer(kind, _shape(read), _shape(made), found, mobilenet_v3)


def read_layer(layer: Layer, place: str, device: str, summary: Mapping[str, float]) -> Reading:
    """The reading of a layer. Raises NotUnderstood, SpecError."""
    if layer.kind == "Logits":
        return _logits(layer, place, device, summary)
    op = _block(layer) if layer.kind == BLOCK else _plain(layer)
    _check_output(layer, ops.output(op).shape)
    return reading_of(op, place, device, summary)


def name_layer(op: OpSpec, mobilenet_v3: bool) -> Layer | None:
    """The inverse of ``read_layer`` but for ProxylessNAS's Logits; None where no layer is this operator."""
    height, width, channels = _stored(op.inputs[0].shape) if len(op.inputs[0].shape) == 4 else (1, 1, 0)
    a, made, numbers = ops.attributes(op), ops.output(op).shape, dict[str, int]()
    kind = {"global_average_pool": "AvgPool2D", "linear": "Logits", "inverted_residual": BLOCK}.get(op.type, "")
    if op.type == "conv2d":
        kind = "Conv" if channels == 3 else "Conv_2" if height == width == 1 else "Conv_1"
    if op.type == "inverted_residual":
        middle = a["middle"] if mobilenet_v3 else a["middle"] // channels
        same = a["stride"] == (1, 1) and channels == a["out_channels"]
        numbers = {"expand": middle, "kernel": a["kernel"][0], "stride": a["stride"][0], "idskip": int(same)}
        if mobilenet_v3:
            numbers |= {"se": int(a["squeeze"] > 0), "hs": int(a["activation"] == "hard_swish")}
    if not kind or op.inputs[0].shape[0] != 1:
        return None
    read = (1, 1, op.inputs[0].shape[1]) if op.type == "linear" else (height, width, channels)
    layer = Layer(kind, read, made[1:] if op.type == "linear" else _stored(made), numbers, mobilenet_v3)
    return layer if _means(layer, op) else None


def is_mobilenet_v3(op: OpSpec) -> bool | None:
    """Which family a block belongs to, None for what is no block."""
    return ops.attributes(op)["activation"] != "relu6" if op.type == "inverted_residual" else None


def _means(layer: Layer, op: OpSpec) -> bool:
    try:
        return op.key in [row.op_key for row in read_layer(layer, "", "", {}).lowerings if row.natives]
    except NotUnderstood:
        return False


def _block(layer: Layer) -> OpSpec:
    n, channels = layer.numbers, layer.read[-1]
    middle = n["expand"] if layer.mobilenet_v3 else n["expand"] * channels
    activation = ("hard_swish" if n["hs"] else "relu") if layer.mobilenet_v3 else "relu6"
    squeeze = round_channels(middle / SQUEEZE) if n.get("se") else 0
    if n["idskip"] != int(n["stride"] == 1 and channels == layer.made[-1]):
        raise NotUnderstood(f"a block must have a shortcut exactly where shapes agree, but got idskip {n['idskip']}")
    return operator(
        "inverted_residual", _image(layer.read), middle=middle, out_channels=layer.made[-1],
        kernel=(n["kernel"],) * 2, stride=(n["stride"],) * 2, activation=activation, expand=middle != channels,
        squeeze=squeeze,
    )  # fmt: skip


def _plain(layer: Layer) -> OpSpec:
    image, activation = _image(layer.read), "hard_swish" if layer.mobilenet_v3 else "relu6"
    if layer.kind == "AvgPool2D":
        return operator("global_average_pool", image)
    if layer.kind == "Conv":
        return operator(
            "conv2d", image, out_channels=layer.made[-1], kernel=(3, 3), stride=(2, 2), activation=activation
        )
    return operator("conv2d", image, out_channels=layer.made[-1], kernel=(1, 1), activation=activation)


def _logits(layer: Layer, place: str, device: str, summary: Mapping[str, float]) -> Reading:
    """The classifier; the reshape before it, and in ProxylessNAS's tables the mean, are part of it."""
    channels, image = layer.read[-1], _image(layer.read)
    if len(layer.made) != 1:
        raise NotUnderstood(f"Logits must make one number a class, but got {layer.made}")
    reshape = operator("reshape", (1, channels, 1, 1), shape=(1, channels))
    linear = operator("linear", (1, channels), out_features=layer.made[0])
    if image[2:] == (1, 1):
        reading = reading_of(linear, place, device, summary)
        return Reading(place, device, "float32", reading.native, (*reading.lowerings, anywhere(reshape)), summary)
    mean = operator("global_average_pool", image)
    key = name_text(layer)
    lowerings = (
        Lowering(mean.key, "*", (key,), AFTER_MEAN, ("plain",)),
        Lowering(reshape.key, AFTER_MEAN, (), AFTER_MEAN, (AFTER_MEAN,)),
        Lowering(linear.key, f"{AFTER_MEAN}>", (), "plain", (AFTER_MEAN,)),
    )
    return Reading(place, device, "float32", NativeOp(key, ops.weight_bytes(linear)), lowerings, summary)


def name_text(layer: Layer) -> str:
    """A layer's key in the YAML files: ``expanded_conv-input:56x56x32-output:28x28x48-expand:96-kernel:3-...``."""
    shapes = [f"{name}:{'x'.join(map(str, shape))}" for name, shape in (("input", layer.read), ("output", layer.made))]
    return "-".join([layer.kind, *shapes, *(f"{name}:{value}" for name, value in layer.numbers.items())])


def _check_output(layer: Layer, made: tuple[int, ...]) -> None:
    if _stored(made) != layer.made:
        raise NotUnderstood(f"the output must be {_stored(made)} for an input of {layer.read}, but got {layer.made}")


def _shape(text: Any) -> tuple[int, ...]:
    return tuple(whole("a side", part) for part in str(text).split("x"))


def _image(stored: tuple[int, ...]) -> tuple[int, ...]:
    if len(stored) != 3:
        raise NotUnderstood(f"an image must be H x W x C, but got {stored}")
    return (1, stored[2], stored[0], stored[1])


def _stored(image: tuple[int, ...]) -> tuple[int, int, int]:
    return (image[2], image[3], image[1])
