"""Look-up tables as files: CSV for people, JSON Lines and Parquet without loss.

A file of measurements carries the target, the operators, what operators become, every raw sample, and every reading of
a meter; importing it twice changes nothing. CSV has one row an entry and can only be written; energies in it are what a
call draws beyond rest, empty where no meter told of it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from lut_db.energies import EnergyMeasurement
from lut_db.energy import MeterCalibration
from lut_db.errors import ExchangeError
from lut_db.records import Lowering, LutEntry, Measurement, Session, Target
from lut_db.store import LutStore
from ops_catalog.spec import NativeOp

FORMATS = ("csv", "jsonl", "parquet")
CSV_COLUMNS = (
    "key", "latency_us", "mad_us", "samples", "passes", "weight_bytes", "label", "doubts",
    "energy_uj", "energy_low_uj", "energy_high_uj", "energy_label",
)  # fmt: skip
BATCH, ENERGY_BATCH = 5_000, 100

KEYS = ("op_key", "key", "of")
"""What a row calls its operator."""

Row = Target | NativeOp | Lowering | Measurement | EnergyMeasurement


def export_target(store: LutStore, target: Target, path: Path) -> int:
    """Writes one target's table in the format of the file's name; returns the number of rows.

    Raises:
        ExchangeError: unknown format.
    """
    kind = path.suffix.lstrip(".")
    if kind == "csv":
        return _write_csv(store, target, path)
    if kind == "jsonl":
        return _write_lines(_rows(store, target), path)
    if kind == "parquet":
        return _write_parquet(_rows(store, target), path)
    raise ExchangeError(f"a table's file must end in one of {', '.join(FORMATS)}, but got {path.name!r}")


def import_file(store: LutStore, path: Path) -> tuple[Target, int]:
    """Reads a JSON Lines or Parquet file into the store; returns its target and how many measurements it holds.

    The file is read twice: once to see that every row can be understood, then to store it in batches. What the store
    has already, imported before or measured here, is not stored again.

    Raises:
        ExchangeError: a row cannot be understood; nothing was imported.
    """
    target = _checked_target(path)
    store.put_target(target)
    natives = [row for row in _read(path) if isinstance(row, NativeOp)]
    store.put_lowerings(target, [row for row in _read(path) if isinstance(row, Lowering)], natives)
    measurements, count = (row for row in _read(path) if isinstance(row, Measurement)), 0
    known = Counter(map(_digest, store.measurements(target)))
    while part := list(islice(measurements, BATCH)):
        new = [row for row in part if not _counted_off(known, row)]
        if new:
            store.append(target, Session(0.0, "import", path.name, {}, {}), new, str(uuid.uuid4()))
        count += len(part)
    energies = (row for row in _read(path) if isinstance(row, EnergyMeasurement))
    while metered := list(islice(energies, ENERGY_BATCH)):
        store.energies.append(target, metered)
    return target, count


def _checked_target(path: Path) -> Target:
    targets = [row for row in _read(path) if isinstance(row, Target)]
    if len(targets) != 1:
        raise ExchangeError(f"{path} must describe one target, but got {len(targets)}")
    return targets[0]


def _read(path: Path) -> Iterator[Row]:
    """Every row of a file as what it is. Raises ExchangeError."""
    readers = {".jsonl": _read_lines, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ExchangeError(f"a table to import must end in jsonl or parquet, but got {path.name!r}")
    for place, kind, fields in readers[path.suffix](path):
        try:
            yield _MAKERS[kind](fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ExchangeError(f"{path}: {place} must be a whole {', '.join(_MAKERS)}, but got {error!r}") from None


def _write_csv(store: LutStore, target: Target, path: Path) -> int:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        return sum(writer.writerow(_csv_row(entry)) > 0 for entry in store.each_entry(target))


def _csv_row(e: LutEntry) -> Sequence[object]:
    latency, mad = f"{e.latency_ns / 1e3:.3f}", f"{e.mad_ns / 1e3:.3f}"
    energies = ("" if uj is None else f"{uj:.6g}" for uj in (e.energy_uj, e.energy_low_uj, e.energy_high_uj))
    plain = (e.key, latency, mad, e.samples, e.passes, e.weight_bytes, e.label, " ".join(e.doubts))
    return [*plain, *energies, e.energy_label]


def _rows(store: LutStore, target: Target) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything about a target as (kind, fields)."""
    yield "target", asdict(target)
    for entry in store.each_entry(target):
        yield "native", {"key": entry.key, "weight_bytes": entry.weight_bytes}
    for row in store.each_lowering(target):
        yield "lowering", asdict(row)
    for measurement in store.measurements(target):
        yield "measurement", asdict(measurement)
    for metered in store.energies.measurements(target):
        yield "energy", {**asdict(metered), "of": str(metered.of)}


def _write_lines(rows: Iterable[tuple[str, Mapping[str, Any]]], path: Path) -> int:
    with path.open("w") as file:
        return sum(file.write(_line(kind, fields)) > 0 for kind, fields in rows)


def _line(kind: str, fields: Mapping[str, Any]) -> str:
    return json.dumps({"is": kind, **fields}, separators=(",", ":")) + "\n"


def _write_parquet(rows: Iterable[tuple[str, Mapping[str, Any]]], path: Path) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("is", "key", "fields")])
    count, left = 0, iter(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while part := list(islice(left, BATCH)):
            keys = [str(next((fields[name] for name in KEYS if name in fields), "")) for _, fields in part]
            texts = [json.dumps(fields, separators=(",", ":")) for _, fields in part]
            writer.write_table(pyarrow.table([[kind for kind, _ in part], keys, texts], schema=schema))
            count += len(part)
    return count


def _read_lines(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    with path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                body = json.loads(line)
                kind = body.pop("is")
            except (ValueError, KeyError, AttributeError):
                raise ExchangeError(
                    f"{path}: line {number} must be a JSON object with 'is', but got {line[:80]!r}"
                ) from None
            yield f"line {number}", kind, body


def _read_parquet(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=["is", "fields"]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row["is"], json.loads(row["fields"])
    except (pyarrow.ArrowInvalid, KeyError) as error:
        raise ExchangeError(
            f"{path} must be a Parquet table with columns 'is' and 'fields', but got: {error}"
        ) from None


def _target(fields: dict[str, Any]) -> Target:
    options = tuple((str(name), str(value)) for name, value in fields["options"])
    return Target(**{**fields, "cpus": tuple(fields["cpus"]), "options": options})


def _native(fields: dict[str, Any]) -> NativeOp:
    return NativeOp(str(fields["key"]), int(fields["weight_bytes"]))


def _lowering(fields: dict[str, Any]) -> Lowering:
    return Lowering(**{**fields, "natives": tuple(fields["natives"]), "input_forms": tuple(fields["input_forms"])})


def _measurement(fields: dict[str, Any]) -> Measurement:
    bursts = tuple(tuple(int(ns) for ns in burst) for burst in fields["bursts_ns"])
    if any(ns < 0 for burst in bursts for ns in burst) or fields["loops"] < 1:
        raise ValueError("a negative time")
    if fields.get("summary") is not None and not {"count", "avg_ns"} <= set(fields["summary"]):
        raise ValueError("a summary without count and average")
    started, doubts = tuple(map(float, fields["started_s"])), tuple(fields["doubts"])
    return Measurement(**{**fields, "bursts_ns": bursts, "started_s": started, "doubts": doubts})


def _energy(fields: dict[str, Any]) -> EnergyMeasurement:
    calibration = None if fields["calibration"] is None else MeterCalibration(**fields["calibration"])
    found = EnergyMeasurement(**{**fields, "of": str(fields["of"]), "calibration": calibration})
    if not found.started_at > 0 or not isinstance(found.estimate.reason, str):
        raise ValueError("readings without a time")
    return found


_MAKERS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "target": _target,
    "native": _native,
    "lowering": _lowering,
    "measurement": _measurement,
    "energy": _energy,
}


def _counted_off(known: Counter[bytes], row: Measurement) -> bool:
    """Whether the store has a row; each of those that it has stands for one, since equal ones are several passes."""
    digest = _digest(row)
    known[digest] -= 1
    return known[digest] >= 0


def _digest(row: Measurement) -> bytes:
    """The same for the same content."""
    return hashlib.sha256(repr(row).encode()).digest()
