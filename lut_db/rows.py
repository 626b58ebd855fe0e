"""Records to rows of the database and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lut_db.aggregate import Statistics, combine, is_clean, statistics, summary_statistics
from lut_db.codec import pack, unpack
from lut_db.records import LutEntry, Measurement, NetworkMeasurement, Target


def measurement_to_row(row: Measurement) -> dict[str, Any]:
    found = _statistics(row)
    doubts = (*row.doubts, "below-overhead") if found.below_overhead else row.doubts
    return {
        "samples": pack(row.bursts_ns, row.started_s),
        "loops": row.loops,
        "overhead_ns": row.overhead_ns,
        "rejected": row.rejected,
        "doubts": " ".join(dict.fromkeys(doubts)),
        "clean": is_clean(doubts),
        "latency_ns": found.latency_ns,
        "mad_ns": found.mad_ns,
        "count": found.samples,
        "energy_uj": row.energy_uj,
        "summary": row.summary,
    }


def measurement_from_row(row: Any) -> Measurement:
    bursts, started = unpack(row.samples)
    doubts = tuple(row.doubts.split())
    return Measurement(
        row.key, bursts, started, row.loops, row.overhead_ns, row.rejected, doubts, row.energy_uj, row.summary
    )


def _statistics(row: Measurement | NetworkMeasurement) -> Statistics:
    if row.summary is not None:
        return summary_statistics(row.summary, row.overhead_ns)
    return statistics(row.bursts_ns, row.loops, row.overhead_ns)


def network_row(name: str, space: str, graph: Mapping[str, Any]) -> dict[str, Any]:
    """A network under the digest of all that it is."""
    text = json.dumps([name, space, graph], sort_keys=True)
    return {"digest": hashlib.sha256(text.encode()).hexdigest(), "name": name, "space": space, "graph": dict(graph)}


def network_measurement_to_row(row: NetworkMeasurement) -> dict[str, Any]:
    return {
        "samples": pack(row.bursts_ns, row.started_s),
        "loops": row.loops,
        "overhead_ns": row.overhead_ns,
        "doubts": " ".join(row.doubts),
        "latency_ns": _statistics(row).latency_ns,
        "summary": row.summary,
    }


def network_measurement_from_row(row: Any) -> NetworkMeasurement:
    bursts, started = unpack(row.samples)
    doubts = tuple(row.doubts.split())
    return NetworkMeasurement(
        row.name, row.space, row.graph, bursts, started, row.loops, row.overhead_ns, doubts, row.summary
    )


def entry_from_rows(key: str, weight_bytes: int, rows: Sequence[Any], label: str) -> LutEntry:
    """Columns of a row from the third on: latency, MAD, samples, clean, doubts, energy (of another tool's table)."""
    used = [row for row in rows if row[5]] or rows
    doubts = dict.fromkeys(doubt for row in used for doubt in row[6].split())
    latency = combine([row[2] for row in used])
    mad = max(row[3] for row in used)
    energies = [row[7] for row in used if row[7] is not None]
    return LutEntry(
        key, latency, mad, sum(row[4] for row in used), len(used), weight_bytes, tuple(doubts), label,
        energy_uj=min(energies, default=None), energy_label="imported" if energies else "",
    )  # fmt: skip


def target_from_json(value: Mapping[str, Any]) -> Target:
    options = tuple((name, text) for name, text in value["options"])
    return Target(**{**value, "cpus": tuple(value["cpus"]), "options": options})
