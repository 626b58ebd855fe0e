"""Latencies of blocks as CSV: tables of Once-for-All and ProxylessNAS brought into one file.

Columns: table, device, resolution, op, input, output (H x W x C), expand, kernel, stride, idskip, se, hs, mean_ms,
sd_ms, n. ``expand`` is the channels in the middle where ``hs`` is told (or anywhere in a table that tells it), else the
ratio. The same block at several resolutions is several measurements of one operator. Two such tables of real phones
ship with the program: BUILTIN (``lut_db/data/NOTICE``).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from lut_db.errors import ExchangeError
from lut_db.foreign.layers import parse_layer, read_layer
from lut_db.foreign.reading import (
    NS_PER_MS,
    UNSTATED,
    Reading,
    Refused,
    not_negative,
    positive,
    understood,
    whole,
)

SOURCE, LICENCE, ACCELERATOR = "table of blocks", UNSTATED, "cpu"
NUMBERS = ("expand", "kernel", "stride", "idskip", "se", "hs")
COLUMNS = ("table", "device", "op", "input", "output", *NUMBERS, "mean_ms", "sd_ms", "n")


@dataclass(frozen=True, slots=True)
class Builtin:
    """A table that ships."""

    table: str
    source: str
    licence: str


BUILTIN = {
    "note10": Builtin("ofa_note10", "Once-for-All by way of CompOFA", "Apache-2.0"),
    "pixel1": Builtin("proxylessnas_pixel1", "ProxylessNAS", "MIT"),
}


def recognises(suffix: str, first_line: str) -> bool:
    return set(COLUMNS) <= set(first_line.strip().split(","))


def read(path: Path, table: str = "") -> Iterator[Reading | Refused]:
    """All rows, or those of one table. Raises ExchangeError where columns are missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise ExchangeError(f"{path} must have columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
            rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ExchangeError(f"{path} must be CSV, but got: {error}") from None
    v3 = {row["table"] for _, row in rows if row["hs"]}
    seen = dict[tuple[str, ...], int]()
    for line, row in rows:
        if table and row["table"] != table:
            continue
        first = seen.setdefault(tuple(map(str, row.values())), line)
        if first != line:
            yield Refused(f"line {line}", f"it repeats line {first}")
        else:
            yield understood(f"line {line}", _reading, row, row["table"] in v3)


def read_builtin(name: str) -> list[Reading]:
    """The rows of a table that ships. Raises ExchangeError."""
    if name not in BUILTIN:
        raise ExchangeError(f"a table that ships must be one of {', '.join(BUILTIN)}, but got {name!r}")
    with ExitStack() as stack:
        path = stack.enter_context(as_file(files("lut_db").joinpath("data/mbconv_luts.csv")))
        return [row for row in read(path, BUILTIN[name].table) if isinstance(row, Reading)]


def _reading(place: str, row: Mapping[str, str], mobilenet_v3: bool) -> Reading:
    layer = parse_layer(row["op"], row["input"], row["output"], row, mobilenet_v3)
    summary = {"count": float(whole("n", row["n"])), "avg_ns": positive("mean_ms", row["mean_ms"]) * NS_PER_MS}
    if row["sd_ms"]:
        summary["std_ns"] = not_negative("sd_ms", row["sd_ms"]) * NS_PER_MS
    return read_layer(layer, place, row["device"], summary)
