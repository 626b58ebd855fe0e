"""What a measurement takes on disk, and how long a million rows take in and out. All rows are made up, and marked so.

python -m benchmarks.storage [--rows 1000000]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from lut_db.codec import pack
from lut_db.exchange import export_target, import_file
from lut_db.records import Lowering, Measurement, Session, Target
from lut_db.store import LutStore, open_store
from ops_catalog.spec import NativeOp

TARGET = Target("generated", "fake", "1", "cpu", "float32", 1, (0,), "none", source="simulated")
SESSION = Session(0.0, "benchmark", "0", {}, {})
OPERATORS = 50_000
BATCH = 20_000
BURSTS, SAMPLES = 4, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lut.db"
        with open_store(path) as store:
            report("rows appended", rows, timed(lambda: fill(store, rows)))
        with open_store(path) as store:
            report("one LatencyLut opened", rows, timed(lambda: store.lut(TARGET).by_key))
            small = Path(folder) / "part.parquet"
            part = min(rows, 100_000)
            with open_store(Path(folder) / "part.db") as other:
                fill(other, part)
                report("exported as Parquet", part, timed(lambda: export_target(other, TARGET, small)))
            with open_store(Path(folder) / "back.db") as back:
                report("imported from Parquet", part, timed(lambda: import_file(back, small)))
        size = sum(file.stat().st_size for file in Path(folder).glob("lut.db*"))
    raw = len(pack(*draw(np.random.default_rng(0))))
    print(f"{size / rows:.0f} bytes a measurement on disk, {raw} of them samples ({BURSTS} bursts of {SAMPLES})")


def timed(work) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(what: str, rows: int, seconds: float) -> None:
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:24s} {rows:9d} rows {seconds:7.1f} s {rows / seconds:10.0f}/s, peak memory so far {peak_mib:.0f} MiB")


def draw(rng: np.random.Generator) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
    values = rng.integers(20_000, 26_000, (BURSTS, SAMPLES)).tolist()
    return tuple(map(tuple, values)), tuple(float(i) for i in range(BURSTS))


def key_of(number: int) -> str:
    return f"relu(1x{1 + number % OPERATORS};float32)"


def measurement_of(number: int, rng: np.random.Generator) -> Measurement:
    bursts, started = draw(rng)
    return Measurement(key_of(number), bursts, started, 1, 250.0)


def fill(store: LutStore, rows: int, target: Target = TARGET) -> None:
    keys = [key_of(number) for number in range(OPERATORS)]
    store.put_target(target)
    lowerings = [Lowering(key, "*", (key,), "plain", ("plain",)) for key in keys]
    store.put_lowerings(target, lowerings, [NativeOp(key, 0) for key in keys])
    like = measurement_of(0, np.random.default_rng(0))
    for start in range(0, rows, BATCH):
        made = [replace(like, op_key=key_of(number)) for number in range(start, min(start + BATCH, rows))]
        store.append(target, SESSION, made, f"t{target.threads} batch {start}")


if __name__ == "__main__":
    main()
