"""Look-up tables of other tools: FORMATS, name -> module that reads one; some also write.

An imported table is a target of its own for every device and element type in the file. Its engine is ``imported``, the
engine's version the format, and its options say source and licence. Rows are kept as what the file tells (mean,
deviation, count), as ``summary`` of a Measurement; a count of 0 and 0 threads mean that the file does not tell.

A format's module has ``SOURCE``, ``LICENCE`` and ``ACCELERATOR`` (what is known of the tables in it),
``recognises(suffix, first_line)``, and ``read(path)``, which yields Reading and Refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from lut_db.errors import ExchangeError
from lut_db.foreign.reading import Reading, Refused
from lut_db.lut import LatencyLut
from lut_db.records import Device, Measurement, Session, Target
from lut_db.store import LutStore

BLOCKS = "mbconv-blocks"
FORMATS = {
    BLOCKS: "lut_db.foreign.mbconv_blocks",
    "ofa-yaml": "lut_db.foreign.ofa_yaml",
    "runtime-lut": "lut_db.foreign.runtime_lut",
    "hw-nas-bench": "lut_db.foreign.hw_nas_bench",
    "nn-meter": "lut_db.foreign.nn_meter",
}
ENGINE = "imported"
NOT_TOLD = 0
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a table comes from.

    Attributes:
        device: what the user calls it; "" to take the file's name for it.
        licence, source: "" for what is known of the format.
    """

    device: str = ""
    licence: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file: targets with their numbers of measurements, and the rows that are none."""

    targets: tuple[tuple[Target, int], ...]
    refused: tuple[Refused, ...]


def import_foreign(store: LutStore, path: Path, format_name: str, origin: Origin) -> Imported:
    """Reads a table of another tool into the store; a second time changes nothing.

    Raises:
        ExchangeError: nothing in the file can be understood, or its device is not told; nothing was imported.
    """
    module = format_named(format_name)
    rows = list(read_rows(module, path))
    readings = [row for row in rows if isinstance(row, Reading)]
    refused = tuple(row for row in rows if isinstance(row, Refused))
    if not readings:
        listed = "; ".join(f"{row.place}: {row.reason}" for row in refused[:SHOWN]) or "it is empty"
        raise ExchangeError(f"{path} must have rows of {format_name}, but got none: {listed}")
    return _put(store, readings, refused, format_name, _known_origin(module, readings, origin, path))


def import_builtin(store: LutStore, name: str, device: str = "") -> Imported:
    """Reads a table that ships with the program into the store. Raises ExchangeError."""
    blocks = format_named(BLOCKS)
    readings = blocks.read_builtin(name)
    origin = Origin(device or name, blocks.BUILTIN[name].licence, blocks.BUILTIN[name].source)
    return _put(store, readings, (), BLOCKS, origin)


def export_foreign(lut: LatencyLut, path: Path, format_name: str) -> tuple[int, list[str]]:
    """Writes a table for another tool; returns how many entries, and the keys of those that it cannot express.

    Raises:
        ExchangeError: the format can only be read, or no entry can be expressed.
    """
    module = format_named(format_name)
    if not hasattr(module, "write"):
        written = [name for name in FORMATS if hasattr(format_named(name), "write")]
        raise ExchangeError(f"--format to write must be one of {', '.join(written)}, but got {format_name!r}")
    count, left = module.write(lut, path)
    return int(count), list(left)


def _put(
    store: LutStore, readings: Sequence[Reading], refused: Sequence[Refused], format_name: str, origin: Origin
) -> Imported:
    """Stores what was read, by device and element type."""
    found = []
    accelerator = format_named(format_name).ACCELERATOR
    for (model, dtype), group in groupby(sorted(readings, key=_kind), key=_kind):
        options = (("licence", origin.licence), ("source", origin.source))
        name = origin.device or device_name(model)
        target = Target(
            name, ENGINE, format_name, accelerator, dtype, NOT_TOLD, (), "not told", options, source="imported"
        )
        found.append((target, _store(store, Device(name, model or name, {"imported": format_name}), target, group)))
    return Imported(tuple(found), tuple(refused))


def read_rows(module: Any, path: Path) -> Iterator[Reading | Refused]:
    """The rows of a file. Raises ExchangeError where it cannot be read as text."""
    try:
        yield from module.read(path)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ExchangeError(f"{path} must be a readable text file, but got {str(error)[:200]}") from None


def format_named(name: str) -> Any:
    """The module of a format. Raises ExchangeError."""
    if name not in FORMATS:
        raise ExchangeError(f"--format must be one of {', '.join(FORMATS)}, but got {name!r}")
    return import_module(FORMATS[name])


def detect(path: Path) -> str:
    """The format that a file looks like, "" for none.

    Raises:
        ExchangeError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.readline(1 << 16).decode("utf-8", "replace")
    except OSError as error:
        raise ExchangeError(f"{path} must be a readable file, but got {error.strerror}") from None
    return next((name for name in FORMATS if format_named(name).recognises(path.suffix, first)), "")


def device_name(model: str) -> str:
    """What a device is called on the command line: ``Samsung Note10`` is ``samsung-note10``."""
    return "-".join("".join(c if c.isalnum() else " " for c in model.lower()).split())


def _kind(row: Reading) -> tuple[str, str]:
    return row.device, row.dtype


def _known_origin(module: Any, readings: Iterable[Reading], origin: Origin, path: Path) -> Origin:
    models = sorted({row.device for row in readings})
    if origin.device and len(models) > 1:
        raise ExchangeError(
            f"--device must name the one device of a file, but {path} has {len(models)}: {', '.join(models)}"
        )
    if not origin.device and not all(models):
        raise ExchangeError(f"the device of {path} must be told, but the file does not; give --device NAME")
    return Origin(origin.device, origin.licence or module.LICENCE, origin.source or module.SOURCE)


def _store(store: LutStore, device: Device, target: Target, rows: Iterable[Reading]) -> int:
    kept = list(rows)
    store.put_device(device)
    store.put_target(target)
    store.put_lowerings(target, [row for r in kept for row in r.lowerings], [r.native for r in kept])
    measurements = [Measurement(r.native.key, (), (), 1, 0.0, energy_uj=r.energy_uj, summary=r.summary) for r in kept]
    store.append(target, Session(0.0, "import", target.engine_version, {}, {}), measurements, _batch(target, kept))
    return len(measurements)


def _batch(target: Target, rows: Sequence[Reading]) -> str:
    """The same for the same content, so that a second import is recognised."""
    text = "\n".join([target.key, *(f"{row.native.key} {row.summary} {row.energy_uj}" for row in rows)])
    return hashlib.sha256(text.encode()).hexdigest()[:36]
