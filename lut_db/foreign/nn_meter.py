"""Profiled kernels of nn-Meter's builder: JSON, kernels by type and id.

    {"conv-bn-relu": {"YB2F4N": {"shapes": [[13, 13, 212]], "latency": "37.53 +- 0.314",
        "config": {"HW": 13, "CIN": 212, "COUT": 176, "KERNEL_SIZE": 1, "STRIDES": 1}}}}

Mean and standard deviation are in ms, images H x W x C, padding "same". Only files profiled with ``DETAIL: TRUE`` tell
the configuration. Squeeze-excite, batch norm with ReLU, splits and shuffles are several operators of ours, or none.

References:
    microsoft/nn-Meter: docs/builder/build_kernel_latency_predictor.md (files, kernels and their configurations),
    nn_meter/builder/backend_meta/utils.py (how a latency is written).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lut_db.errors import ExchangeError
from lut_db.foreign.reading import (
    NS_PER_MS,
    UNSTATED,
    NotUnderstood,
    Reading,
    Refused,
    not_negative,
    operator,
    positive,
    reading_of,
    shown,
    text_of,
    understood,
    whole,
)
from ops_catalog.spec import OpSpec

SOURCE, LICENCE, ACCELERATOR = "nn-Meter profile", UNSTATED, "unstated"
_CONV = re.compile(r"(?P<depthwise>dw)?conv(-bn)?(-(?P<activation>relu6|relu|hswish))?")
_ACTIVATIONS = {None: "none", "relu": "relu", "relu6": "relu6", "hswish": "hard_swish"}

Config = Mapping[str, Any]


def recognises(suffix: str, first_line: str) -> bool:
    return suffix == ".json"


def read(path: Path) -> Iterator[Reading | Refused]:
    """Raises ExchangeError where the file is no JSON object of kernels."""
    try:
        body = json.loads(text_of(path), object_pairs_hook=_Pairs)
    except ValueError as error:
        raise ExchangeError(f"{path} must be JSON, but got: {str(error)[:200]}") from None
    if not isinstance(body, _Pairs):
        raise ExchangeError(f"{path} must be an object of kernels, but got {shown(body)}")
    for kernel, group in body:
        if not isinstance(group, _Pairs):
            yield Refused(kernel, f"a kernel must have profiled models, but got {shown(group)}")
            continue
        seen = set()
        for id, row in group:
            place = f"{kernel} {id}"
            if id in seen:
                yield Refused(place, "a model must be told once")
                continue
            seen.add(id)
            yield understood(place, _reading, kernel, row)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands in the file, what is told twice included."""


def _reading(place: str, kernel: str, row: Any) -> Reading:
    told = dict(row) if isinstance(row, _Pairs) else {}
    config = told.get("config")
    if not isinstance(config, _Pairs):
        raise NotUnderstood("a model must tell its config; profile with DETAIL: TRUE in predictorbuild_config.yaml")
    latency = told.get("latency")
    mean, _, std = latency.partition("+-") if isinstance(latency, str) else (latency, "", "")
    summary = {"count": 0.0, "avg_ns": positive("latency", mean) * NS_PER_MS}
    if std:
        summary["std_ns"] = not_negative("the deviation", std) * NS_PER_MS
    op = _operator(kernel, dict(config))
    return reading_of(op, place, "", summary)


def _operator(kernel: str, config: Config) -> OpSpec:
    match = _CONV.fullmatch(kernel.replace("_", "-"))
    try:
        if match:
            return _conv(config, bool(match["depthwise"]), _ACTIVATIONS[match["activation"]])
        if kernel not in OPERATORS:
            raise NotUnderstood(f"{shown(kernel)} is no single operator here; known: conv..., {', '.join(OPERATORS)}")
        return OPERATORS[kernel](config)
    except KeyError as error:
        raise NotUnderstood(f"the config of {kernel} must have {error.args[0]}") from None


def _image(c: Config) -> tuple[int, ...]:
    return (1, whole("CIN", c["CIN"]), whole("HW", c["HW"]), whole("HW", c["HW"]))


def _square(c: Config, name: str) -> tuple[int, int]:
    return (whole(name, c[name]),) * 2


def _conv(c: Config, depthwise: bool, activation: str) -> OpSpec:
    window: dict[str, Any] = {"kernel": _square(c, "KERNEL_SIZE"), "stride": _square(c, "STRIDES")}
    if depthwise:
        return operator("depthwise_conv2d", _image(c), activation=activation, **window)
    return operator("conv2d", _image(c), out_channels=whole("COUT", c["COUT"]), activation=activation, **window)


def _pool(op_type: str) -> Callable[[Config], OpSpec]:
    def pool(c: Config) -> OpSpec:
        stride = _square(c, "POOL_STRIDES" if "POOL_STRIDES" in c else "STRIDES")
        return operator(op_type, _image(c), kernel=_square(c, "KERNEL_SIZE"), stride=stride)

    return pool


def _linear(c: Config) -> OpSpec:
    return operator("linear", (1, whole("CIN", c["CIN"])), out_features=whole("COUT", c["COUT"]))


def _concat(c: Config) -> OpSpec:
    side = whole("HW", c["HW"])
    parts = [whole(name, c[name], 0) for name in ("CIN1", "CIN2", "CIN3", "CIN4") if c.get(name)]
    return operator("concat", *((1, channels, side, side) for channels in parts if channels))


def _like(op_type: str, inputs: int = 1, **attributes: str) -> Callable[[Config], OpSpec]:
    return lambda c: operator(op_type, *[_image(c)] * inputs, **attributes)


OPERATORS: dict[str, Callable[[Config], OpSpec]] = {
    "maxpool": _pool("max_pool"),
    "avgpool": _pool("average_pool"),
    "global-avgpool": _like("global_average_pool"),
    "fc": _linear,
    "concat": _concat,
    "bn": _like("batch_norm"),
    "relu": _like("relu"),
    "hswish": _like("hard_swish"),
    "add": _like("add", 2),
    "addrelu": _like("add", 2, activation="relu"),
}
