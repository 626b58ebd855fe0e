"""HW-NAS-Bench's operator tables of the FBNet space as CSV: one row an operator, a column for every device.

    op,pixel3_latency,raspi4_latency,edgegpu_latency,edgegpu_energy
    ConvBlock_H56_W56_Cin24_Cout24_exp3_kernel5_stride1_group1,2.31,4.02,1.7,6.9

Latencies are in ms, energies in mJ, nothing tells a spread or a count. The data set itself is a pickle, which is never
opened here; ``HWNASBenchAPI.get_op_lookup_tables()`` has the same names and numbers, one dict a metric. Blocks with
groups shuffle channels between their convolutions, which is no operator of ours; a skip that changes nothing is none.

References:
    GATECH-EIC/HW-NAS-Bench: README.md (units; MIT), hw_nas_bench_api/hw_nas_bench_api.py (names),
    hw_nas_bench_api/fbnet_models/model_infer.py (what they mean).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lut_db.errors import ExchangeError
from lut_db.foreign.reading import (
    NS_PER_MS,
    UJ_PER_MJ,
    NotUnderstood,
    Reading,
    Refused,
    operator,
    positive,
    reading_of,
    shown,
    understood,
)
from ops_catalog.spec import OpSpec

SOURCE, LICENCE, ACCELERATOR = "GATECH-EIC/HW-NAS-Bench", "MIT", "unstated"
LATENCY, ENERGY = "_latency", "_energy"
_NAME = re.compile(r"(?P<kind>[A-Za-z]+)(?P<numbers>(_[A-Za-z]+\d{1,9})+)")
_NUMBER = re.compile(r"_([A-Za-z]+)(\d+)")


def recognises(suffix: str, first_line: str) -> bool:
    names = first_line.strip().split(",")
    return suffix == ".csv" and any(name.endswith(LATENCY) for name in names[1:])


def read(path: Path) -> Iterator[Reading | Refused]:
    """Raises ExchangeError where no column is a latency."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            devices = [name.removesuffix(LATENCY) for name in columns[1:] if name.endswith(LATENCY)]
            if not devices:
                raise ExchangeError(f"{path} must have columns such as pixel3{LATENCY}, but got {', '.join(columns)}")
            rows = [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise ExchangeError(f"{path} must be CSV, but got: {error}") from None
    seen = set()
    for place, row in rows:
        name = row[columns[0]]
        if name in seen:
            yield Refused(place, f"an operator must be told once, but got {shown(name)} again")
            continue
        seen.add(name)
        told = [device for device in devices if row[device + LATENCY]]
        if not told:
            yield Refused(place, f"a row must tell a latency, but got none of {shown(name)}")
        for device in told:
            yield understood(place, _reading, name, device, row)


def _reading(place: str, name: str, device: str, row: Mapping[str, str]) -> Reading:
    op = _operator(name)
    latency = positive(device + LATENCY, row[device + LATENCY]) * NS_PER_MS
    told = row.get(device + ENERGY)
    energy = positive(device + ENERGY, told) * UJ_PER_MJ if told else None
    return reading_of(op, place, device, {"count": 0.0, "avg_ns": latency}, energy)


def _operator(name: str) -> OpSpec:
    match = _NAME.fullmatch(name or "")
    if match is None or match["kind"] not in OPERATORS:
        raise NotUnderstood(f"an operator must be one of {', '.join(OPERATORS)}_..., but got {shown(name)}")
    numbers = {key: int(value) for key, value in _NUMBER.findall(match["numbers"])}
    try:
        return OPERATORS[match["kind"]](numbers)
    except KeyError as error:
        raise NotUnderstood(f"{match['kind']} must tell {error.args[0]}, but got {shown(name)}") from None


def _image(n: Mapping[str, int]) -> tuple[int, ...]:
    return (1, n["Cin"], n["H"], n["W"])


def _conv(n: Mapping[str, int]) -> OpSpec:
    kernel, stride = (n["kernel"],) * 2, (n["stride"],) * 2
    return operator(
        "conv2d", _image(n), out_channels=n["Cout"], kernel=kernel, stride=stride, groups=n["group"], activation="relu"
    )


def _block(n: Mapping[str, int]) -> OpSpec:
    if n["group"] != 1:
        raise NotUnderstood("a block with groups shuffles channels inside, which is no operator here")
    return operator(
        "inverted_residual", _image(n), middle=n["Cin"] * n["exp"], out_channels=n["Cout"], kernel=(n["kernel"],) * 2,
        stride=(n["stride"],) * 2, activation="relu",
    )  # fmt: skip


def _skip(n: Mapping[str, int]) -> OpSpec:
    if n["stride"] == 1 and n["Cin"] == n["Cout"]:
        raise NotUnderstood("a skip that changes nothing is no operator")
    stride = (n["stride"],) * 2
    return operator("conv2d", _image(n), out_channels=n["Cout"], kernel=(1, 1), stride=stride, activation="relu")


def _pool(n: Mapping[str, int]) -> OpSpec:
    return operator("global_average_pool", _image(n))


def _linear(n: Mapping[str, int]) -> OpSpec:
    return operator("linear", (1, n["Cin"]), out_features=n["Cout"])


OPERATORS: dict[str, Callable[[Mapping[str, int]], OpSpec]] = {
    "ConvNorm": _conv,
    "ConvBlock": _block,
    "Skip": _skip,
    "AvgP": _pool,
    "FC": _linear,
}
