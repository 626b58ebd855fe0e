"""TFLite operators that slide a window over an image, resize it or put a frame around it."""

from __future__ import annotations

from collections.abc import Callable

from ops_catalog.parse import compose
from ops_catalog.parse.draft import Shape
from ops_catalog.parse.tflite_here import Here, activated
from ops_catalog.parse.tflite_layout import TO_PLAIN
from ops_catalog.spec import SpecError

SAME = 0


def conv(here: Here) -> str:
    out, rows, columns, inner = _four(here.weight(1))
    channels = here.draft.shape(here.inputs[0])[1]
    return _window(here, (out, inner, rows, columns), channels // inner)


def depthwise(here: Here) -> str:
    _, rows, columns, out = _four(here.weight(1))
    return _window(here, (out, 1, rows, columns), here.draft.shape(here.inputs[0])[1])


def pool(kind: str) -> Callable[[Here], str]:
    def handle(here: Here) -> str:
        o = here.options
        kernel, stride = (o["FilterHeight"], o["FilterWidth"]), (o["StrideH"], o["StrideW"])
        made = compose.pool(here.draft, kind, here.inputs[0], kernel, stride, _padding(here))
        return activated(here, made)

    return handle


def pad(here: Here) -> str:
    sizes = here.integers(1)
    pairs = [(sizes[2 * i], sizes[2 * i + 1]) for i in range(len(sizes) // 2)]
    if len(pairs) != 4:
        raise SpecError("only images can be padded")
    pairs = [pairs[axis] for axis in TO_PLAIN] if here.images[0] else pairs
    if any((*pairs[0], *pairs[1])):
        raise SpecError("only height and width of an image can be padded")
    file = here.files[2] if len(here.files) > 2 else None
    fill = 0.0
    if file is not None:
        fill = float("-inf") if file.lowest else float(here.values(2)[0])
    return here.draft.add("pad", here.inputs[0], pads=(*pairs[2], *pairs[3]), _fill=fill)


def resize(mode: str) -> Callable[[Here], str]:
    def handle(here: Here) -> str:
        height, width = here.integers(1)
        if not here.options.get("HalfPixelCenters", False):
            here.draft.note("a resize with other pixel centres is priced as one with half-pixel centres")
        return here.draft.add("resize", here.inputs[0], size=(height, width), mode=mode)

    return handle


def _window(here: Here, weight: Shape, groups: int) -> str:
    o = here.options
    stride = (o["StrideH"], o["StrideW"])
    dilation = (o.get("DilationHFactor", 1), o.get("DilationWFactor", 1))
    made = compose.convolution(here.draft, here.inputs[0], weight, groups, stride, dilation, _padding(here))
    return activated(here, made)


def _padding(here: Here) -> str | tuple[int, int, int, int]:
    """Zeros are the same as "same" where that pads nothing."""
    return "same" if here.options["Padding"] == SAME else (0, 0, 0, 0)


def _four(shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise SpecError(f"a weight must have four sides, but got {len(shape)}")
    return shape[0], shape[1], shape[2], shape[3]


HANDLERS: dict[str, Callable[[Here], str]] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "AVERAGE_POOL_2D": pool("average_pool"),
    "MAX_POOL_2D": pool("max_pool"),
    "PAD": pad,
    "PADV2": pad,
    "RESIZE_BILINEAR": resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
}
