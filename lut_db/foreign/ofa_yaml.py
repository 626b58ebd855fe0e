"""Latency tables of Once-for-All and ProxylessNAS: YAML, one layer a key.

    expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0:
      count: 154
      mean: 5.264772727272727        # ms
      var: 0.19495998666150827       # ms squared

The file is composed, never constructed: no tag in it can make an object.

References:
    mit-han-lab/once-for-all: ofa/nas/efficiency_predictor/latency_lookup_table.py, issue #37 (the sample above);
    mit-han-lab/proxylessnas: search/utils/latency_estimator.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lut_db.aggregate import MADS_PER_STD
from lut_db.errors import ExchangeError
from lut_db.foreign.layers import is_mobilenet_v3, name_layer, name_text, parse_layer, read_layer
from lut_db.foreign.reading import (
    NS_PER_MS,
    UNSTATED,
    NotUnderstood,
    Reading,
    Refused,
    not_negative,
    positive,
    shown,
    text_of,
    understood,
    whole,
)
from lut_db.lut import LatencyLut
from lut_db.records import LutEntry
from ops_catalog import ops
from ops_catalog.spec import SpecError

SOURCE, LICENCE, ACCELERATOR = "Once-for-All or ProxylessNAS latency table", UNSTATED, "cpu"
_KEY = re.compile(r"(?P<kind>\w+)-input:(?P<read>[\dx]+)-output:(?P<made>[\dx]+)(?P<numbers>(-[a-z]+:\d+)*)")


def recognises(suffix: str, first_line: str) -> bool:
    return suffix in (".yaml", ".yml")


def read(path: Path) -> Iterator[Reading | Refused]:
    """Raises ExchangeError where the file is no mapping of layers."""
    pairs = _pairs(path)
    mobilenet_v3 = any("-hs:" in key.value for key, _ in pairs if isinstance(key.value, str))
    seen = set()
    for key, value in pairs:
        place = f"line {key.start_mark.line + 1}"
        if not isinstance(key.value, str) or key.value in seen:
            yield Refused(place, f"a key must be a layer told once, but got {shown(key.value)}")
            continue
        seen.add(key.value)
        yield understood(place, _reading, key.value, value, mobilenet_v3)


def write(lut: LatencyLut, path: Path) -> tuple[int, list[str]]:
    """Writes the entries that are layers of such a table; returns how many, and the keys of those that are not.

    Where there are blocks with ReLU6 only, the table is one of ProxylessNAS's family.
    """
    import yaml

    families = {is_mobilenet_v3(op) for op in map(_op, lut.by_key) if op is not None}
    mobilenet_v3 = True in families or False not in families
    rows, left = {}, []
    for entry in lut.entries:
        name = _name(entry.key, mobilenet_v3)
        if name:
            rows[name] = _told(entry)
        else:
            left.append(entry.key)
    if not rows:
        raise ExchangeError(f"some operators must be layers of such a table, but got none of {len(left)}")
    path.write_text(yaml.safe_dump(rows, sort_keys=True))
    return len(rows), left


def _pairs(path: Path) -> list[tuple[Any, Any]]:
    import yaml

    try:
        root = yaml.compose(text_of(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ExchangeError(f"{path} must be YAML, but got: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ExchangeError(f"{path} must map layers to latencies, but got {'nothing' if root is None else root.id}")
    return list(root.value)


def _reading(place: str, key: str, node: Any, mobilenet_v3: bool) -> Reading:
    match = _KEY.fullmatch(key)
    if match is None:
        raise NotUnderstood(f"a key must read like Conv-input:224x224x3-output:112x112x24, but got {shown(key)}")
    numbers = dict(part.split(":") for part in match["numbers"].split("-") if part)
    layer = parse_layer(match["kind"], match["read"], match["made"], numbers, mobilenet_v3)
    return read_layer(layer, place, "", _summary(_scalars(node)))


def _scalars(node: Any) -> dict[str, str]:
    """The plain values of an entry by name; what else is in it, tagged values too, is no value."""
    pairs = node.value if node.id == "mapping" else []
    plain = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:str")
    return {str(key.value): value.value for key, value in pairs if value.id == "scalar" and value.tag in plain}


def _summary(told: dict[str, str]) -> dict[str, float]:
    summary = {"count": float(whole("count", told["count"])) if "count" in told else 0.0}
    summary["avg_ns"] = positive("mean", told.get("mean")) * NS_PER_MS
    if "var" in told:
        summary["std_ns"] = math.sqrt(not_negative("var", told["var"])) * NS_PER_MS
    elif "std" in told:
        summary["std_ns"] = not_negative("std", told["std"]) * NS_PER_MS
    return summary


def _op(key: str) -> Any:
    try:
        return ops.load_op(key)
    except SpecError:
        return None


def _name(key: str, mobilenet_v3: bool) -> str:
    """The layer of a native operator, "" for none; what was imported under a layer's name still has it."""
    op = _op(key)
    if op is None:
        return key if _KEY.fullmatch(key) else ""
    layer = name_layer(op, mobilenet_v3) if op.dtype == "float32" else None
    return name_text(layer) if layer else ""


def _told(entry: LutEntry) -> dict[str, float]:
    std = entry.mad_ns * MADS_PER_STD / NS_PER_MS
    told = {"mean": entry.latency_ns / NS_PER_MS, "var": std * std}
    return {"count": entry.samples, **told} if entry.samples else told
