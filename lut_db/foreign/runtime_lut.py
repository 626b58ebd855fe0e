"""ChamNet's and FBNet's phone table: JSON Lines of Caffe2 operators (mobile-vision's ``runtime_lut``).

    {"device": "SM-G950U-7.0-24", "op_type": "Int8ConvRelu", "input_shapes": [[1, 112, 112, 96], [96, 3, 3, 1], [96]],
     "input_dtypes": [6, 6, 2], "op_args": ["name: \\"group\\"\\ni: 96\\n", ...], "runtime_us_p0": 330.0, ...}

Times are percentiles 0, 10, 50, 90 and 100 in microseconds; there is no mean, and the median stands for it. Int8
operators are stored N x H x W x C, the others as their argument ``order`` says. Operators that convert layouts or
quantise are none of ours and are refused by name.

References:
    facebookresearch/mobile-vision: runtime_lut/README.md (units; CC BY-NC), runtime_lut/code/lut_schema.py,
    runtime_lut/code/api.py; issue #6 (a query in full).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lut_db.foreign.reading import (
    NS_PER_US,
    NotUnderstood,
    Reading,
    Refused,
    operator,
    positive,
    reading_of,
    shown,
    understood,
    whole,
)
from ops_catalog.spec import OpSpec

SOURCE, LICENCE, ACCELERATOR = "facebookresearch/mobile-vision runtime_lut", "CC-BY-NC", "cpu"
PERCENTILES = ("p0", "p10", "p50", "p90", "p100")
_ARGUMENT = re.compile(
    r'name: "(?P<name>\w+)"\s+(i: (?P<number>-?\d{1,9})|s: "(?P<text>\w*)"|(?P<list>(ints: -?\d{1,9}\s*)+))\s*'
)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One operator: its type without Int8 and Relu, shapes as stored, and arguments."""

    type: str
    shapes: tuple[Shape, ...]
    arguments: Mapping[str, Any]
    dtype: str
    activation: str

    def number(self, name: str, default: int) -> int:
        return whole(name, self.arguments.get(name, default), 0)

    def image(self, shape: Shape) -> Shape:
        """A stored image as N x C x H x W."""
        if len(shape) != 4:
            raise NotUnderstood(f"{self.type} must read an image, but got shape {list(shape)}")
        n, *rest = shape
        return (n, rest[2], rest[0], rest[1]) if self.channels_last else shape

    @property
    def channels_last(self) -> bool:
        return bool(self.arguments.get("order", "NHWC" if self.dtype == "int8" else "NCHW") == "NHWC")


def recognises(suffix: str, first_line: str) -> bool:
    return first_line.lstrip().startswith("{") and '"op_type"' in first_line


def read(path: Path) -> Iterator[Reading | Refused]:
    """Line by line: the published file is large."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield understood(f"line {number}", _reading, line)


def _reading(place: str, line: str) -> Reading:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise NotUnderstood(f"a line must be JSON, but got {shown(line)}") from None
    if not isinstance(row, dict) or not isinstance(row.get("device"), str):
        raise NotUnderstood(f"a line must describe an operator on a device, but got {shown(row)}")
    record = _record(row)
    if record.type not in OPERATORS:
        raise NotUnderstood(f"{shown(row.get('op_type'))} is none of the operators known here: {', '.join(OPERATORS)}")
    op = OPERATORS[record.type](record)
    told = {name: positive(name, row[f"runtime_us_{name}"]) for name in PERCENTILES if row.get(f"runtime_us_{name}")}
    if "p50" not in told:
        raise NotUnderstood(f"runtime_us_p50 must be above 0, but got {shown(row.get('runtime_us_p50'))}")
    times = {f"{name}_ns": value * NS_PER_US for name, value in told.items() if name != "p50"}
    median = told["p50"] * NS_PER_US
    return reading_of(op, place, row["device"], {"count": 0.0, "avg_ns": median, "median_ns": median, **times})


def _record(row: Mapping[str, Any]) -> Record:
    name, shapes = row.get("op_type"), row.get("input_shapes")
    if not isinstance(name, str) or not isinstance(shapes, list) or not all(isinstance(s, list) for s in shapes):
        raise NotUnderstood(f"an operator must have op_type and input_shapes, but got {shown(name)}")
    sides = tuple(tuple(whole("a side", side) for side in shape) for shape in shapes)
    base = name.removeprefix("Int8")
    activated = base.endswith("Relu") and base != "Relu"
    arguments = _arguments(row.get("op_args", []))
    dtype, activation = "int8" if name.startswith("Int8") else "float32", "relu" if activated else "none"
    return Record(base.removesuffix("Relu") if activated else base, sides, arguments, dtype, activation)


def _arguments(texts: Any) -> dict[str, Any]:
    """Arguments as their protocol buffers print: ``name: "kernel"\\ni: 3\\n``."""
    found: dict[str, Any] = {}
    for text in texts if isinstance(texts, list) else [texts]:
        match = _ARGUMENT.fullmatch(text) if isinstance(text, str) else None
        if match and match["list"]:
            found[match["name"]] = tuple(map(int, re.findall(r"-?\d+", match["list"])))
        elif match:
            found[match["name"]] = int(match["number"]) if match["number"] else match["text"]
        elif not (isinstance(text, str) and re.search(r"\bf: ", text)):
            raise NotUnderstood(f"an argument must be a number, a text or numbers, but got {shown(text)}")
    return found


def _window(record: Record) -> dict[str, Any]:
    """Kernel, stride and padding; "same" where the padding is half the kernel."""
    kernel, stride, pad = (record.number(name, default) for name, default in (("kernel", 0), ("stride", 1), ("pad", 0)))
    if kernel < 1:
        raise NotUnderstood(f"{record.type} must have one kernel size, but got {dict(record.arguments)}")
    pads = tuple(record.number(name, pad) for name in ("pad_t", "pad_b", "pad_l", "pad_r"))
    half = kernel % 2 == 1 and set(pads) == {kernel // 2}
    return {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": "same" if half else pads}


def _conv(record: Record) -> OpSpec:
    if len(record.shapes) < 2 or len(record.shapes[1]) != 4:
        raise NotUnderstood(f"Conv must have an image and weights, but got shapes {shown(record.shapes)}")
    image, out = record.image(record.shapes[0]), record.shapes[1][0]
    groups, channels, dilation = record.number("group", 1), image[1], record.number("dilation", 1)
    common = {**_window(record), "activation": record.activation, "dilation": (dilation, dilation)}
    if groups > 1 and groups == channels == out:
        return operator("depthwise_conv2d", image, dtype=record.dtype, **common)
    return operator("conv2d", image, dtype=record.dtype, out_channels=out, groups=groups, **common)


def _linear(record: Record) -> OpSpec:
    if len(record.shapes) < 2 or len(record.shapes[1]) != 2:
        raise NotUnderstood(f"FC must have an input and weights, but got shapes {shown(record.shapes)}")
    out, features = record.shapes[1]
    return operator("linear", (record.shapes[0][0], features), dtype=record.dtype, out_features=out)


def _pool(op_type: str) -> Callable[[Record], OpSpec]:
    def pool(record: Record) -> OpSpec:
        image = record.image(record.shapes[0])
        everything = record.number("global_pooling", 0) or record.number("kernel", 0) == image[2] == image[3]
        if everything and op_type == "average_pool":
            return operator("global_average_pool", image, dtype=record.dtype)
        return operator(op_type, image, dtype=record.dtype, **_window(record))

    return pool


def _like(op_type: str, inputs: int) -> Callable[[Record], OpSpec]:
    """An operator on whole tensors; images among them become N x C x H x W."""

    def build(record: Record) -> OpSpec:
        if len(record.shapes) != inputs:
            raise NotUnderstood(f"{record.type} must have {inputs} inputs, but got {len(record.shapes)}")
        shapes: Sequence[Shape] = [record.image(s) if len(s) == 4 else s for s in record.shapes]
        activated = {"activation": record.activation} if record.activation != "none" else {}
        return operator(op_type, *shapes, dtype=record.dtype, **activated)

    return build


OPERATORS: dict[str, Callable[[Record], OpSpec]] = {
    "Conv": _conv,
    "FC": _linear,
    "AveragePool": _pool("average_pool"),
    "MaxPool": _pool("max_pool"),
    "Add": _like("add", 2),
    "Sum": _like("add", 2),
    "Relu": _like("relu", 1),
    "Sigmoid": _like("sigmoid", 1),
    "Softmax": _like("softmax", 1),
}
