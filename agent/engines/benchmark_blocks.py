"""The single lines of ``benchmark_model`` that carry numbers, and when two of them agree. Pure; times in us.

All of it refuses what it does not know to the last character: a number that is cut short must not pass for another.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

DIGITS = 6
"""Significant digits that it prints of a number with a fraction."""

_N = r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)"
_COUNT = re.compile(
    r"count=(\d+)(?: first={n} curr={n} min={n} max={n} avg={n} std={n}| curr={n}(\(all same\))?)?"
    r"(?: p5={n} median={n} p95={n})?".replace("{n}", _N)
)
_RUNS = re.compile(
    r"Running benchmark for at least (\d+) iterations and at least {n} seconds"
    r"(?: but terminate if exceeding {n} seconds\.)?".replace("{n}", _N)
)
_SUMMARY = re.compile(
    r"Inference timings in us: Init: {n}, First inference: {n}, Warmup \(avg\): {n}, Inference \(avg\): {n}".replace(
        "{n}", _N
    )
)
_OLD_SUMMARY = re.compile(
    r"Average inference timings in us: Warmup: {n}, Init: {n}, (?:no stats|Inference): {n}".replace("{n}", _N)
)
_RESULT = re.compile(
    r"(Model initialization|Warmup \(first\)|Warmup \(avg\)|Inference \((?:avg|min|max|std)\)):\s+(\d+\.\d\d)"
    r"(?: ms(?: \((\d+) runs\))?)?"
)
_RESULTS = 7
_SHARE_OF_LIMIT = 0.5


class UnknownOutput(ValueError):
    """A log or result file that cannot be trusted to the last number."""


@dataclass(frozen=True)
class Block:
    """One ``count=`` line: how often it ran and what a run took."""

    count: int
    avg_us: float
    first_us: Optional[float] = None
    std_us: Optional[float] = None
    min_us: Optional[float] = None
    max_us: Optional[float] = None
    p5_us: Optional[float] = None
    median_us: Optional[float] = None
    p95_us: Optional[float] = None


@dataclass(frozen=True)
class Runs:
    """How long a block was told to last at least, and the seconds after which it ends in any case."""

    count: int
    seconds: float
    limit_s: Optional[float]


@dataclass(frozen=True)
class Summary:
    """What is said of both blocks once more after them, in steps of ``step_us``; counts where it tells them."""

    init_us: float
    first_us: Optional[float]
    warmup_us: float
    avg_us: float
    step_us: float = 0.0
    counts: Optional[Tuple[int, int]] = None


def agree(one: Optional[float], other: Optional[float], step: float) -> bool:
    """Whether both may be the same number, printed in 6 digits or in steps of ``step``."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= max(step, _rounding(max(one, other))) / 2 * (1 + 1e-6)


def parse_block(line: str) -> Block:
    """Raises UnknownOutput for another line, for no runs at all, or for numbers that cannot be of one series."""
    match = _COUNT.fullmatch(line)
    if match is None:
        raise UnknownOutput("a count block must be whole, but got {!r}".format(line[:160]))
    count, percentiles = int(match[1]), [None if text is None else float(text) for text in match.groups()[9:]]
    if count < 1 or (match[2] is None and match[8] is None):
        raise UnknownOutput("a count block must have at least one run and its time, but got {!r}".format(line[:160]))
    if match[8] is not None:
        return _of_equals(count, float(match[8]), percentiles, same=match[9] is not None)
    first, curr, low, high, avg, std = map(float, match.groups()[1:7])
    block = Block(count, avg, first, std, low, high, *percentiles)
    if not low <= curr <= high:
        raise UnknownOutput(
            "the last run must be between the shortest and the longest, but got {!r}".format(line[:160])
        )
    check_block(block)
    return block


def check_block(block: Block) -> None:
    """Raises UnknownOutput unless min <= avg <= max, min <= p5 <= median <= p95 <= max, and the rest is possible."""
    rising = [block.min_us, block.p5_us, block.median_us, block.p95_us, block.max_us]
    told = [value for value in rising if value is not None]
    slack = _rounding(block.avg_us)
    low, high = (told[0], told[-1]) if told else (block.avg_us, block.avg_us)
    possible = (
        told == sorted(told)
        and low - slack <= block.avg_us <= high + slack
        and (block.first_us is None or low <= block.first_us <= high)
        and (block.std_us is None or block.std_us <= (high - low) / 2 + slack)
    )
    if not possible:
        raise UnknownOutput("the numbers of a block must be possible together, but got {}".format(block))


def parse_runs(line: str) -> Runs:
    match = _RUNS.fullmatch(line)
    if match is None:
        raise UnknownOutput("the announcement of a block must be whole, but got {!r}".format(line[:160]))
    return Runs(int(match[1]), float(match[2]), None if match[3] is None else float(match[3]))


def parse_summary(line: str) -> Summary:
    match = _SUMMARY.fullmatch(line)
    if match is not None:
        init, first, warmup, avg = map(float, match.groups())
        return Summary(init, first, warmup, avg)
    match = _OLD_SUMMARY.fullmatch(line)
    if match is None:
        raise UnknownOutput("the summary must be whole, but got {!r}".format(line[:160]))
    warmup, init, avg = map(float, match.groups())
    return Summary(init, None, warmup, avg)


def parse_milliseconds(lines: List[str]) -> Optional[Tuple[Summary, Block]]:
    """LiteRT's results, in ms of two decimals: the summary and the measured block; None where it printed none."""
    found = [match for match in map(_RESULT.fullmatch, lines) if match]
    labels = sum(line.startswith(("Model initialization:", "Warmup (", "Inference (")) for line in lines)
    if not labels and not any("BENCHMARK RESULTS" in line for line in lines):
        return None
    values = {match[1]: float(match[2]) * 1000 for match in found}
    counts = {match[1]: int(match[3]) for match in found if match[3]}
    if not len(values) == len(found) == labels == _RESULTS or len(counts) != 2:
        raise UnknownOutput("LiteRT's results must be {} different lines, but got {}".format(_RESULTS, labels))
    runs = counts["Inference (avg)"]
    names = ("avg", "std", "min", "max")
    avg, std, low, high = (values["Inference ({})".format(name)] for name in names)
    block = Block(runs, avg, None, std, low, high)
    if runs < 1 or not low <= avg <= high or std > (high - low) / 2 + 10:
        raise UnknownOutput("the numbers of a block must be possible together, but got {}".format(block))
    warmup = (values["Warmup (first)"], values["Warmup (avg)"])
    return Summary(values["Model initialization"], *warmup, avg, 10.0, (counts["Warmup (avg)"], runs)), block


def check_order(wanted: Tuple[Runs, Runs], blocks: Tuple[Block, Block], summary: Summary) -> None:
    """Raises UnknownOutput unless the first block is the warm-up, the second the measured one, and this is certain."""
    if wanted[0].count > wanted[1].count:
        raise UnknownOutput("the warm-up must come first, but got {} and {} runs".format(wanted[0], wanted[1]))
    if not _fits(wanted, blocks, summary):
        raise UnknownOutput("the summary must agree with both blocks, but got {} for {}".format(summary, blocks))
    if blocks[0] != blocks[1] and _fits(wanted, (blocks[1], blocks[0]), summary):
        raise UnknownOutput("it must be certain which block was measured, but got {}".format(blocks))


def _fits(wanted: Tuple[Runs, Runs], blocks: Tuple[Block, Block], summary: Summary) -> bool:
    warmup, measured = blocks
    return (
        all(_long_enough(runs, block) for runs, block in zip(wanted, blocks))
        and agree(warmup.avg_us, summary.warmup_us, summary.step_us)
        and agree(measured.avg_us, summary.avg_us, summary.step_us)
        and (summary.first_us is None or agree(warmup.first_us, summary.first_us, summary.step_us))
        and (summary.counts is None or summary.counts == (warmup.count, measured.count))
    )


def _long_enough(runs: Runs, block: Block) -> bool:
    """It ran as often as it was told, or until its time was over."""
    if block.count >= runs.count:
        return True
    return runs.limit_s is not None and block.count * block.avg_us >= _SHARE_OF_LIMIT * runs.limit_s * 1e6


def _of_equals(count: int, us: float, percentiles: List[Optional[float]], same: bool) -> Block:
    if same != (count > 1) or any(value not in (None, us) for value in percentiles):
        raise UnknownOutput("runs of one time must all be {}, but got {} of {}".format(us, percentiles, count))
    return Block(count, us, us, 0.0, us, us, us, us, us)


def _rounding(value: float) -> float:
    """The step between two neighbours among numbers of that size as they are printed."""
    return 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS) if value > 0 else 0.0
