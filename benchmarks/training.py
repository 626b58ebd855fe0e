"""Networks trained side by side by the ray evaluator against one after the other by the torch evaluator: wall time, and
whether the same seeds give the same accuracies.

Random networks of ``benchmarks/digits.toml`` on scikit-learn's digits, every training with one thread; one after the
other also with as many threads as PyTorch likes. Times of Ray hold everything: starting a cluster here (unless
--address names one) and its processes, and reporting every epoch.

    pip install 'chamnet[fleet,train]'
    python -m benchmarks.training [--networks 16] [--epochs 10] [--jobs 2] [--address HOST:PORT] [--asha]
        [--all-threads]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.closed_loop import SPACE, write_digits
from search.evaluators import Evaluation, Evaluator, Options, open_evaluator
from search.spaces import space_named
from search.spaces.space import Genome, SearchSpace


@dataclass(frozen=True, slots=True)
class Run:
    """How networks were trained: outcomes, wall seconds in all and until the first outcome."""

    name: str
    outcomes: dict[Genome, Evaluation]
    all_s: float
    first_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--address", default="")
    parser.add_argument("--asha", action="store_true", help="also side by side with early stopping")
    parser.add_argument("--all-threads", action="store_true", help="also one after the other with all processors")
    asked = parser.parse_args()
    space = space_named(str(SPACE))
    genomes = list(dict.fromkeys(map(tuple, space.sample_many(np.random.default_rng(0), asked.networks).tolist())))
    with tempfile.TemporaryDirectory() as folder:
        write_digits(Path(folder) / "digits.npz")
        options = Options(str(Path(folder) / "digits.npz"), epochs=asked.epochs, cpus_each=1)
        beside = replace(options, jobs=asked.jobs, address=asked.address)
        ways = {
            "one after the other, 1 thread": options,
            f"side by side, {asked.jobs} at once": replace(beside, work=f"{folder}/all"),
        }
        if asked.asha:
            ways[f"side by side, {asked.jobs} at once, ASHA"] = replace(beside, work=f"{folder}/asha", stop_early=True)
        if asked.all_threads:
            ways["one after the other, all threads"] = replace(options, cpus_each=os.cpu_count() or 1)
        runs = [train(name, space, genomes, "ray" if chosen.work else "torch", chosen) for name, chosen in ways.items()]
    print(as_table(runs))


def train(name: str, space: SearchSpace, genomes: list[Genome], evaluator: str, options: Options) -> Run:
    opened: Evaluator = open_evaluator(evaluator, space, options)
    start = time.perf_counter()
    outcomes, first_s = {}, 0.0
    for outcome in opened.evaluate(genomes):
        first_s = first_s or time.perf_counter() - start
        outcomes[outcome.genome] = outcome
    run = Run(name, outcomes, time.perf_counter() - start, first_s)
    print(f"{name}: {run.all_s:.1f} s", file=sys.stderr, flush=True)
    return run


def as_table(runs: list[Run]) -> str:
    first = runs[0].outcomes
    heads = ("trainings", "wall s", "first outcome s", "accuracies", "ended early", "failed", "same as row 1")
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for run in runs:
        found = list(run.outcomes.values())
        done = [o for o in found if o.accuracy_percent is not None]
        early = sum(o.failure.startswith("stopped early") for o in found)
        same = sum(o.accuracy_percent == first[o.genome].accuracy_percent for o in done)
        rows.append(
            f"| {run.name} | {run.all_s:.1f} | {run.first_s:.1f} | {len(done)} | {early} | "
            f"{len(found) - len(done) - early} | {same} of {len(done)} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
