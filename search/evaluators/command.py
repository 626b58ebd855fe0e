"""Accuracies from the user's own script: one run a network, JSON in, JSON out.

The script reads one JSON object from its standard input,

    {"space": "mbconv", "genome": [6, 3, 1, ...], "genes": {"b0_e": 6, ...}, "seed": 0, "try": 0}

and prints one as the last line of its standard output, ``{"accuracy": 71.3}`` in percent. Anything it prints before
that, or on standard error, is its own affair. A run that takes too long is ended with its process group, and so are all
runs when sampling is interrupted.
"""

from __future__ import annotations

import json
import math
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from lut_db.errors import LutError
from search.evaluators import Evaluation, Options
from search.evaluators.process import run_command
from search.spaces.space import Genome, Genomes, SearchSpace

SHOWN = 200


class Command:
    """Runs a script for every network, several at once if asked."""

    def __init__(self, space: SearchSpace, arguments: Sequence[str], options: Options) -> None:
        self.recipe = shlex.join(arguments)
        self.pool: Genomes | None = None
        self._space = space
        self._arguments = list(arguments)
        self._options = options

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        """Outcomes as they come: one that hangs keeps none of the others from being stored."""
        stop = threading.Event()
        with ThreadPoolExecutor(self._options.jobs) as threads:
            runs = [threads.submit(self._evaluate, genome, stop) for genome in genomes]
            try:
                for run in as_completed(runs):
                    yield run.result()
            finally:
                stop.set()
                threads.shutdown(cancel_futures=True)

    def _evaluate(self, genome: Genome, stop: threading.Event) -> Evaluation:
        start, failure = time.monotonic(), ""
        for attempt in range(1 + self._options.retries):
            accuracy, failure = self._run(genome, attempt, stop)
            if accuracy is not None:
                return Evaluation(genome, accuracy, "", time.monotonic() - start)
        return Evaluation(genome, None, failure, time.monotonic() - start)

    def _run(self, genome: Genome, attempt: int, stop: threading.Event) -> tuple[float | None, str]:
        """Accuracy, or why there is none."""
        genes = dict(zip((gene.name for gene in self._space.genes), genome, strict=True))
        request = {
            "space": self._space.name,
            "genome": genome,
            "genes": genes,
            "seed": self._options.seed,
            "try": attempt,
        }
        try:
            ended = run_command(self._arguments, json.dumps(request) + "\n", self._options.timeout_s, stop)
        except OSError as error:
            return None, f"the command cannot be started: {error}"
        if ended.status is None:
            return None, f"the command took longer than {self._options.timeout_s:g} s"
        if ended.status != 0:
            return None, f"the command ended with status {ended.status}: {ended.err.strip()[-SHOWN:]}"
        return _accuracy(ended.out)


def _accuracy(out: str) -> tuple[float | None, str]:
    lines = out.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        accuracy = float(answer["accuracy"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = lines[-1][:SHOWN] if lines else "nothing"
        return None, f'the last line must be JSON such as {{"accuracy": 71.3}}, but got {last!r}'
    if not (math.isfinite(accuracy) and 0 <= accuracy <= 100):
        return None, f"an accuracy must be from 0 to 100 percent, but got {accuracy}"
    return accuracy, ""


def open_evaluator(space: SearchSpace, options: Options) -> Command:
    """Raises LutError where there is no command."""
    try:
        arguments = shlex.split(options.source)
    except ValueError as error:
        raise LutError(f"a command must be a command line, but {options.source!r} is not: {error}") from None
    if not arguments:
        raise LutError("a command must be given, but got nothing; name it with --source 'python train.py'")
    return Command(space, arguments, options)
