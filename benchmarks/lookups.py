"""How quick lookups of single operators are, and whether they stay so in a large database. All rows are made up, and
marked so: they are never put where measured ones are.

python -m benchmarks.lookups [--rows 10000 100000 1000000] [--batch 10000] [--repeats 7]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert

from lut_db import tables
from lut_db.database import connect, writing
from lut_db.records import Measurement, Target
from lut_db.repricing import reprice_all
from lut_db.rows import measurement_to_row
from lut_db.store import LutStore, open_store

PLAIN = Target("generated", "litert", "1", "cpu", "float32", 1, (0,), "none", source="simulated")
"""An engine that runs operators as they stand."""
CHANGING = replace(PLAIN, engine="onnxruntime")
"""An engine that runs each in two contexts, in one of them after a conversion, and under another name than its own."""
CONVERSION = "nchwc.ReorderInput(generated)"

PASSES = 2
BATCH_ROWS = 64
"""Measurements in a batch, as a profile stores them."""
BURSTS, SAMPLES = 4, 10
DOUBTS = (*[()] * 12, *[("noisy",)] * 2, ("drifted",), ("few-samples",))
"""Of sixteen measurements; an eighth does not count, as of real ones."""
SIDES = 64
MOST_CHANGING = 100_000
"""Rows with three prices each, which take minutes to make."""
SINGLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    gc.freeze()  # as the service does
    for target in (PLAIN, CHANGING):
        sizes = [rows for rows in options.rows if target == PLAIN or rows <= MOST_CHANGING]
        print(f"{target.engine}: batches of {options.batch} keys drawn anew, the median of {options.repeats}")
        rates = [measured(target, rows, options.batch, options.repeats) for rows in sizes]
        if len(sizes) > 1:
            print(f"  keys/s with {sizes[-1]} rows to those with {sizes[0]}: {rates[-1] / rates[0]:.2f}")


def measured(target: Target, rows: int, batch: int, repeats: int) -> float:
    """Keys a second; prints them, and how quick other questions are that are asked often."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.db"
        making_s = timed(lambda: generated_store(path, rows, target))
        with open_store(path) as store:
            print(f"  {rows} rows, {path.stat().st_size / 1e6:.0f} MB, made in {making_s:.0f} s")
            tell("counts, at first", [timed(store.lookups.counts)])
            tell("version", [timed(lambda: store.lookups.version(target)) for _ in range(SINGLES)])
            tell("page of 100", [timed(lambda: store.lookups.page_operators(target, "conv2d")) for _ in range(50)])
            tell(
                "page of doubtful",
                [timed(lambda: store.lookups.page_operators(target, state="doubtful")) for _ in range(3)],
            )
            rng = np.random.default_rng(1)
            tell("one key", [lookup_s(store, target, [key]) for key in drawn(rng, rows, SINGLES)])
            seconds = [lookup_s(store, target, drawn(rng, rows, batch)) for _ in range(repeats)]
    tell("a batch", seconds)
    rates = f"{batch / statistics.median(seconds):10.0f}, at best {batch / min(seconds):.0f}"
    print(f"    {'keys a second':18s} {rates}")
    return batch / statistics.median(seconds)


def tell(what: str, seconds: Sequence[float]) -> None:
    median_us, high_us = (1e6 * float(np.quantile(seconds, share)) for share in (0.5, 0.99))
    print(f"    {what:18s} {median_us:10.0f} us" + (f", p99 {high_us:.0f} us" if len(seconds) > 20 else ""))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def lookup_s(store: LutStore, target: Target, keys: Sequence[str]) -> float:
    start = time.perf_counter()
    found = store.lookups.lookup(target, keys)
    taken_s = time.perf_counter() - start
    assert None not in found
    return taken_s


def drawn(rng: np.random.Generator, rows: int, count: int) -> list[str]:
    """Keys of operators at random, each once where there are enough."""
    return [operator_key(int(number)) for number in rng.choice(rows, count, replace=count > rows)]


def generated_store(path: Path | str, rows: int, target: Target = PLAIN) -> Target:
    """Makes a new database of made-up measurements of so many operators; returns its target.

    Args:
        target: PLAIN or CHANGING, or one of their kind.
    """
    if target.source != "simulated" or Path(path).exists():
        raise ValueError(f"generated rows must be simulated and in a new file, but got {target.source!r} in {path}")
    with open_store(path) as store:
        store.put_target(target)
    engine = connect(path)
    with writing(engine) as connection:
        measured_ids = _put_operators(connection, rows, target.engine == CHANGING.engine)
        for number in range(PASSES):
            _put_pass(connection, number, measured_ids)
        reprice_all(connection)
    engine.dispose()
    return target


def operator_key(number: int) -> str:
    """A linear operator, a depthwise or a full convolution; another for every number."""
    wide, rest = number % SIDES + 1, number // SIDES
    out, rest = rest % SIDES + 1, rest // SIDES
    size, kernel = rest % SIDES + 1, 2 * (rest // SIDES) + 1
    if number % 10 == 0:
        return f"linear(1x{8 * (wide + SIDES * (rest + 1))};out_features={8 * out};float32)"
    if number % 10 == 1:
        return f"depthwise_conv2d(1x{8 * (wide + SIDES * out)}x{size}x{size};kernel={kernel}x{kernel};float32)"
    shape = f"1x{8 * wide}x{size}x{size}"
    return f"conv2d({shape};activation=relu6;kernel={kernel}x{kernel};out_channels={8 * out};float32)"


def _put_operators(connection: Connection, rows: int, changing: bool) -> range:
    """Native operators, which have the first ids, the operators that become them, and how; returns these ids."""
    keys = [operator_key(number) for number in range(rows)]
    names = [*(f"nchwc.{key}" for key in keys), CONVERSION, *keys] if changing else keys
    operators = [{"id": id, "key": key, "weight_bytes": 0} for id, key in enumerate(names, 1)]
    connection.execute(insert(tables.operator), operators)
    first = 1 + len(names) - rows
    facts = {"target_id": 1, "output_form": "plain", "input_forms": ["plain"]}
    plans = [
        {**facts, "operator_id": first + number, "context": context, "natives": natives}
        for number in range(rows)
        for context, natives in _plans(names[number], changing)
    ]
    connection.execute(insert(tables.lowering), plans)
    return range(1, rows + 1 + changing)


def _plans(native: str, changing: bool) -> list[tuple[str, list[str]]]:
    return [("plain", [CONVERSION, native]), ("blocked", [native])] if changing else [("*", [native])]


def _put_pass(connection: Connection, number: int, ids: range) -> None:
    """Every native operator measured once, in batches with a session of their own."""
    made = list(_measurements(number))
    chosen = np.random.default_rng(number).integers(len(made), size=len(ids)).tolist()
    count = -(-len(ids) // BATCH_ROWS)
    first = 1 + number * count
    facts = {"target_id": 1, "agent_version": "generated", "process": "0", "before": {}, "after": {}}
    sessions = [
        {**facts, "id": id, "batch": f"generated {id}", "started_at": float(id), "sentinel_ns": []}
        for id in range(first, first + count)
    ]
    connection.execute(insert(tables.session), sessions)
    for start in range(0, len(ids), 100_000):
        part = range(start, min(start + 100_000, len(ids)))
        rows = [{**made[chosen[i]], "operator_id": ids[i], "session_id": first + i // BATCH_ROWS} for i in part]
        connection.execute(insert(tables.measurement), rows)


def _measurements(seed: int) -> Iterator[dict[str, Any]]:
    """Rows of measurements, all different, whose statistics are those of their samples."""
    rng = np.random.default_rng(seed)
    started = tuple(float(burst) for burst in range(BURSTS))
    for number in range(256):
        values = rng.integers(20_000 + 997 * number, 21_000 + 997 * number, (BURSTS, SAMPLES)).tolist()
        doubts = DOUBTS[number % len(DOUBTS)]
        one = Measurement("", tuple(map(tuple, values)), started, 1, 250.0, doubts=doubts)
        yield {"target_id": 1, **measurement_to_row(one)}


if __name__ == "__main__":
    main()
