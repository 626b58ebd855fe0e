"""Eight writers and eight readers on one PostgreSQL server, beside a million rows; then whether nothing was lost, and
whether a copy in a file comes to the same tables. All rows are made up, and marked so.

python -m benchmarks.postgres [--minutes 10] [--rows 1000000] [--writers 8] [--readers 8]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.storage import OPERATORS, SESSION, TARGET, fill, key_of, measurement_of
from lut_db.copying import copy_database
from lut_db.records import Target
from lut_db.store import LutStore, open_store
from tests.postgres import missing_postgres, open_postgres

TARGETS = 4
WRITTEN, READ = 64, 100
"""Rows in a batch, as a profile stores them; keys in a look-up."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process did: seconds of each call, and batches that were acknowledged."""

    role: str
    seconds: list[float]
    batches: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if reason := missing_postgres():
        raise SystemExit(f"skipped: {reason}")
    with open_postgres() as server, server.database() as url:
        told = measured(url, options)
    print(json.dumps(told, indent=1) if options.json else "\n".join(f"{name:34s} {v}" for name, v in told.items()))


def measured(url: str, options: argparse.Namespace) -> dict[str, object]:
    per_target = options.rows // TARGETS
    with open_store(url) as store:
        began = time.perf_counter()
        for number in range(TARGETS):
            fill(store, per_target, target_of(number))
        filled_s = time.perf_counter() - began
    shares = at_once(url, options)
    with open_store(url) as store:
        lost, doubled = lost_and_doubled(store, per_target, shares)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        copied = copy_database(url, Path(folder) / "copy.db")
        copied_s = time.perf_counter() - began
    rows = copied.rows["measurement"][0]
    return {
        "rows filled in, a second": round(options.rows / filled_s),
        **told_of("write", shares, WRITTEN, options.minutes),
        **told_of("read", shares, READ, options.minutes),
        "rows at the end": rows,
        "rows lost": lost,
        "rows doubled": doubled,
        "rows copied to a file, a second": round(rows / copied_s),
        "digests equal": f"{sum(a == b for a, b in copied.digests.values())} of {len(copied.digests)}",
    }


def target_of(number: int) -> Target:
    return replace(TARGET, threads=1 + number)


def at_once(url: str, options: argparse.Namespace) -> list[Share]:
    """Runs all of them in processes of their own."""
    start = multiprocessing.get_context("spawn")
    jobs = [(write, url, number, options.minutes) for number in range(options.writers)]
    jobs += [(read, url, number, options.minutes) for number in range(options.readers)]
    with start.Pool(len(jobs)) as pool:
        return pool.starmap(_run, jobs)


def _run(role: Callable[[LutStore, Target, int, float], Share], url: str, number: int, minutes: float) -> Share:
    with open_store(url) as store:
        return role(store, target_of(number % TARGETS), number, time.monotonic() + 60 * minutes)


def write(store: LutStore, target: Target, number: int, until: float) -> Share:
    """Batches like those of a profile."""
    rng, share = np.random.default_rng(number), Share("write", [], [])
    while time.monotonic() < until:
        numbers = rng.choice(OPERATORS, WRITTEN, replace=False)
        rows, batch = [measurement_of(int(one), rng) for one in numbers], f"writer {number} batch {len(share.batches)}"
        began = time.perf_counter()
        store.append(target, SESSION, rows, batch)
        share.seconds.append(time.perf_counter() - began)
        share.batches.append(batch)
    return share


def read(store: LutStore, target: Target, number: int, until: float) -> Share:
    """Look-ups like those of a search."""
    rng, share = np.random.default_rng(1000 + number), Share("read", [], [])
    while time.monotonic() < until:
        keys = [key_of(int(number)) for number in rng.choice(OPERATORS, READ)]
        began = time.perf_counter()
        store.lookups.lookup(target, keys)
        share.seconds.append(time.perf_counter() - began)
    return share


def lost_and_doubled(store: LutStore, per_target: int, shares: list[Share]) -> tuple[int, int]:
    """Rows, against what was acknowledged."""
    written = sum(len(share.batches) for share in shares) * WRITTEN
    wanted = per_target * TARGETS + written
    there = sum(store.counts(target_of(number))["measurement"] for number in range(TARGETS))
    return max(0, wanted - there), max(0, there - wanted)


def told_of(role: str, shares: list[Share], size: int, minutes: float) -> dict[str, object]:
    seconds = np.array([s for share in shares if share.role == role for s in share.seconds])
    what = {"write": f"batches of {WRITTEN} rows", "read": f"look-ups of {READ} keys"}[role]
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {
        f"{what}, a second": round(len(seconds) / (60 * minutes), 1),
        f"{what}, ms (p50, p99, most)": f"{p50:.1f}, {p99:.1f}, {seconds.max() * 1e3:.1f}",
        {"write": "rows written, a second", "read": "keys read, a second"}[role]: round(
            len(seconds) * size / (60 * minutes)
        ),
    }


if __name__ == "__main__":
    main()
