"""A thousand searches after one profiling: two spaces on five targets of this machine within a hundred limits each.

The mbconv space has the accuracies that ship; networks of the digits space are trained here, which needs PyTorch: the
processes of this benchmark and of the training may have environments of their own.

python -m benchmarks.matrix [--limits 100] [--trainings 16] [--jobs 2] [--train-python python] [--out folder]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.closed_loop import SPACE, write_digits
from host.matrix import ALL, run_matrix, show_matrix, write_matrix
from search.matrix import Row

TARGETS = (
    ("--engine", "litert", "--dtype", "float32,int8"),
    ("--engine", "litert", "--engine-option", "xnnpack=off"),
    ("--engine", "onnxruntime"),
    ("--engine", "openvino"),
)
LOW_MS, HIGH_MS = {"mbconv": 1.0, str(SPACE): 0.01}, {"mbconv": 60.0, str(SPACE): 1.0}
START = "from host.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--train-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), asked.trainings, asked.train_python)
        queries, began = 0, time.perf_counter()
        for space in ("mbconv", str(SPACE)):
            found, bill = run_matrix(row_of(Path(folder), space, asked.limits), [space], ALL, asked.jobs, "", quiet)
            show_matrix(found, bill)
            queries += bill.queries
            if asked.out:
                write_matrix(found, bill, asked.out / Path(space).stem)
        print(f"{queries} queries in {time.perf_counter() - began:.1f} s after measuring and training")


def row_of(folder: Path, space: str, limits: int) -> Row:
    low, ratio = LOW_MS[space], HIGH_MS[space] / LOW_MS[space]
    sweep = tuple(low * ratio ** (number / (limits - 1)) for number in range(limits))
    return Row(str(folder / "lut.db"), str(folder / "lut.db"), "", "", sweep)


def fill(folder: Path, trainings: int, train_python: str) -> None:
    """Measures every operator of both spaces on each target, and trains networks."""
    write_digits(folder / "digits.npz")
    db = f"--db={folder / 'lut.db'}"
    for target in TARGETS:
        for space in ("mbconv", str(SPACE)):
            tell(f"profile {' '.join(target)} --space {Path(space).stem}")
            chamnet(sys.executable, "profile", *target, "--space", space, db)
    tell(f"train {trainings} networks of digits")
    per_round = trainings // 2
    chamnet(
        train_python, "sample", "--space", str(SPACE), "--evaluator", "torch", "--source", str(folder / "digits.npz"),
        "--rounds", "2", "--per-round", str(per_round), "--epochs", "6", "--dataset", "digits", db,
    )  # fmt: skip


def chamnet(python: str, *arguments: str) -> None:
    subprocess.run([python, "-c", START, *arguments], check=True, stdout=subprocess.DEVNULL)


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def quiet(stage: str, done: int, total: int) -> None:
    pass


if __name__ == "__main__":
    main()
