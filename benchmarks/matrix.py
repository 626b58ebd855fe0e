"""A thousand searches after one profiling: two spaces on five targets of this machine within a hundred limits each.

The mbconv space has the accuracies that ship; networks of the digits space are trained here, which needs PyTorch, and
perhaps another Python (--train-python). What it came to is told at the end: what measuring, training and searching
took, and what a query did. With --work the database stays, and a second call goes on with it.

    pip install 'chamnet[openvino,train]'
    python -m benchmarks.matrix [--limits 100] [--trainings 16] [--jobs 2] [--train-python python] [--work folder]
        [--out folder]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.closed_loop import SPACE, write_digits
from host.errors import EXIT_DONE, EXIT_PARTLY
from host.matrix import ALL, run_matrix, show_matrix, write_matrix
from search.matrix import Bill, Found, Row
from search.predictors import LEAST_SAMPLES

TARGETS = (
    ("--engine", "litert", "--dtype", "float32,int8"),
    ("--engine", "litert", "--engine-option", "xnnpack=off"),
    ("--engine", "onnxruntime"),
    ("--engine", "openvino"),
)

RANGES_MS = {"mbconv": (1.0, 60.0), str(SPACE): (0.01, 1.0)}
"""Limits of latency by space, from and to."""

EPOCHS, ROUNDS = 6, 2
START = "from host.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--train-python", default=sys.executable)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.limits < 2 or asked.trainings < LEAST_SAMPLES:
        parser.error(f"--limits must be 2 or more, and --trainings {LEAST_SAMPLES} or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measured_s = measure(folder)
        train(folder, asked.trainings, asked.train_python)
        rows, bills = list[Found](), list[Bill]()
        for space in RANGES_MS:
            tell(f"search {Path(space).stem}")
            found, bill = run_matrix(row_of(folder, space, asked.limits), [space], ALL, asked.jobs, "", quiet)
            show_matrix(found, bill)
            rows, bills = [*rows, *found], [*bills, bill]
            if asked.out:
                write_matrix(found, bill, asked.out / Path(space).stem)
    print(as_table(rows, bills, measured_s))


def row_of(folder: Path, space: str, limits: int) -> Row:
    """Limits are as far apart in the logarithm."""
    low, high = RANGES_MS[space]
    sweep = tuple(low * (high / low) ** (number / (limits - 1)) for number in range(limits))
    return Row(str(folder / "lut.db"), str(folder / "lut.db"), "", "", sweep)


def measure(folder: Path) -> float:
    """Measures every operator of both spaces on each target; returns seconds by the clock."""
    began = time.perf_counter()
    for target in TARGETS:
        for space in RANGES_MS:
            chamnet(sys.executable, "profile", *target, "--space", space, f"--db={folder / 'lut.db'}")
    return time.perf_counter() - began


def train(folder: Path, trainings: int, python: str) -> None:
    """Trains networks of the digits space."""
    write_digits(folder / "digits.npz")
    chamnet(
        python, "sample", "--space", str(SPACE), "--evaluator", "torch", "--source", str(folder / "digits.npz"),
        "--rounds", str(ROUNDS), "--per-round", str(-(-trainings // ROUNDS)), "--epochs", str(EPOCHS),
        "--dataset", "digits", f"--db={folder / 'lut.db'}",
    )  # fmt: skip


def chamnet(python: str, *arguments: str) -> None:
    """Runs a command, which may be done in part. Raises CalledProcessError."""
    began = time.perf_counter()
    done = subprocess.run([python, "-c", START, *arguments], stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (EXIT_DONE, EXIT_PARTLY):
        done.check_returncode()
    partly = ", in part" if done.returncode == EXIT_PARTLY else ""
    tell(f"{' '.join(arguments[:-1])}: {time.perf_counter() - began:.0f} s{partly}")


def as_table(rows: Sequence[Found], bills: Sequence[Bill], measured_s: float) -> str:
    """Seconds of everything. The same tables are measured for all spaces, so they count once."""
    queries, wall_s = sum(bill.queries for bill in bills), sum(bill.wall_s for bill in bills)
    measuring_s = {name: seconds for bill in bills for name, seconds in bill.measuring_s.items()}
    training_s = {name: seconds for bill in bills for name, seconds in bill.training_s.items()}
    fitting_s, searching_s = sum(bill.fitting_s for bill in bills), sum(bill.searching_s for bill in bills)
    trained = ", ".join(f"{name} {'as shipped' if s is None else f'{s:.0f} s'}" for name, s in training_s.items())
    met = sum(one is not None for row in rows for one in row.best)
    lines = [
        (f"measuring {len(measuring_s)} targets", f"{sum(measuring_s.values()):.0f}", "targets"),
        ("the same by the clock, models and starts included", f"{measured_s:.0f}", ""),
        (f"training ({trained})", f"{sum(filter(None, training_s.values())):.0f}", "spaces"),
        ("fitting predictors, of a processor", f"{fitting_s:.1f}", "spaces"),
        ("searching, of a processor", f"{searching_s:.1f}", "spaces x targets"),
        ("fitting and searching by the clock", f"{wall_s:.1f}", ""),
        ("a query by the clock", f"{wall_s / queries:.3f}", ""),
    ]
    heads = [f"| {queries} queries, {met} with a network within the limit | s | grows with |", "|---|---:|---|"]
    return "\n".join([*heads, *(f"| {' | '.join(line)} |" for line in lines)])


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def quiet(stage: str, done: int, total: int) -> None:
    pass


if __name__ == "__main__":
    main()
