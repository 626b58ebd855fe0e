"""What ``benchmark_model`` printed -> a Timing, or UnknownOutput. Pure; no process is started here.

Four generations of its text are known, from TensorFlow 2.1 to LiteRT, plain or through Android's logcat. A number is
believed only where the log says it twice: the second of two count blocks is the measured one, and the summary after
them must agree with both. So a log that was cut, shuffled, doubled or mixed with another is refused, or gives what the
whole one does. Where its head alone is missing the delegation is unknown, and of LiteRT, which prints its results once
more in steps of 10 us, those are what is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

from agent.engines.benchmark_blocks import (
    Block,
    Summary,
    UnknownOutput,
    agree,
    check_order,
    parse_block,
    parse_milliseconds,
    parse_runs,
    parse_summary,
)

__all__ = ["Timing", "UnknownOutput", "fallback_line", "parse_output"]

_PREFIX = re.compile(
    r"(?:(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+ [VDIWEF] [^:]+: ?)?"
    r"(?:(?:INFO|WARN|WARNING|ERROR|VERBOSE|FATAL): )?(?:\[[\w./-]+:\d+\] ?)?"
)
_EXPLICIT = re.compile(
    r"Explicitly applied (\S+) delegate, and the model graph will be (completely|partially) executed"
)
_REFUSED = re.compile(r"Though (\S+) delegate is explicitly applied, the model graph will not be executed")
_MISSING = re.compile(r"Could not create (\S+) delegate")
_NODES = re.compile(r"(\w+) delegate: (\d+) nodes delegated out of (\d+) nodes")
_SESSION = re.compile(r"Initialized session in (\S+?)ms\.?")
_ONCE = ("STARTING!", "Loaded model ", "Initialized session in ", "The input model file size (MB): ")
_FALLBACKS = (
    "hexagon_nn_config failed",
    "Failed to apply",
    "Failed to fetch Hexagon NN version",
    "Disallowed CPU fallback detected",
)
_FAILURES = (
    *_FALLBACKS,
    "Benchmarking failed",
    "Unconsumed cmdline flags",
    "Failed to parse flag",
    "Failed to invoke",
    "Failed to allocate tensors",
    "Failed to mmap",
    "CANNOT LINK EXECUTABLE",
    "Segmentation fault",
)
_ENDS = "nference timings in us:"
_SEVERITY = ("none", "partial", "full")
_TAIL_LINES = 12


@dataclass(frozen=True)
class Timing:
    """The measured runs of one model, in ns of one run; None is what the log does not tell.

    Attributes:
        count: number of runs.
        init_ns: time to load the model and to apply the delegate.
        delegation: how much of the model the delegate took: full, partial, none, or unknown.
        delegate: its name as the log has it, such as GPU or Hexagon; XNNPACK is one too, and runs on the CPU.
    """

    count: int
    avg_ns: float
    std_ns: Optional[float]
    min_ns: Optional[float]
    max_ns: Optional[float]
    p5_ns: Optional[float]
    median_ns: Optional[float]
    p95_ns: Optional[float]
    init_ns: Optional[float]
    delegation: str
    delegate: Optional[str]


def parse_output(text: str) -> Timing:
    """The measured block of a whole log, standard output and standard error together.

    Raises:
        UnknownOutput: no such block, a failure reported, or numbers that contradict each other; it ends with the
            log's last lines.
    """
    lines = _sentences(text)
    try:
        _refuse_failures(lines)
        block, init_us = _measured(lines)
        delegation, delegate = _delegation(lines)
    except UnknownOutput as reason:
        raise UnknownOutput("{}\n{}".format(reason, "\n".join(text.splitlines()[-_TAIL_LINES:]))) from None
    return _timing(block, init_us, delegation, delegate)


def fallback_line(text: str) -> Optional[str]:
    """The first line saying that the delegate did not take the whole model; None where no line says so."""
    for line in _sentences(text):
        severity, delegate = _claim(line) or (2, "")
        if any(fallback in line for fallback in _FALLBACKS) or (severity < 2 and delegate != "XNNPACK"):
            return line
    return None


def _sentences(text: str) -> List[str]:
    """The lines of a log without logcat's columns, severity and place in the source."""
    return [_PREFIX.sub("", line.rstrip(), count=1) for line in text.split("\n")]


def _refuse_failures(lines: List[str]) -> None:
    failure = next((line for line in lines if any(failure in line for failure in _FAILURES)), None)
    if failure is not None:
        raise UnknownOutput("benchmark_model must report no failure, but it said {!r}".format(failure[:120]))
    for start in _ONCE:
        if sum(line.startswith(start) for line in lines) > 1:
            raise UnknownOutput("a log must be of one run, but {!r} is there more than once".format(start.strip()))


def _measured(lines: List[str]) -> Tuple[Block, float]:
    """The measured block in us, and the time of loading in us."""
    milliseconds = parse_milliseconds(lines)
    if milliseconds is None:
        return _of_two_blocks(lines)
    summary, coarse = milliseconds
    if any(_ENDS in line for line in lines):
        raise UnknownOutput("a log must be of one run, but it has the summaries of two")
    if not any(line.startswith(("count=", "Running benchmark for")) for line in lines):
        return coarse, summary.init_us
    measured = _second_block(lines, summary)
    for name in ("min_us", "max_us", "std_us"):
        if not agree(getattr(measured, name), getattr(coarse, name), summary.step_us):
            raise UnknownOutput("the count block must agree with the results, but {} differs".format(name))
    return measured, summary.init_us


def _of_two_blocks(lines: List[str]) -> Tuple[Block, float]:
    found = [index for index, line in enumerate(lines) if _ENDS in line]
    counted = [index for index, line in enumerate(lines) if line.startswith("count=")]
    if not counted:
        raise UnknownOutput("a measured block (a line 'count=...') must be there, but the log has none")
    if len(found) != 1:
        raise UnknownOutput("one line 'Inference timings in us' must be there, but got {}".format(len(found)))
    if found[0] < counted[-1]:
        raise UnknownOutput("the summary must come after the count blocks, but it comes before one")
    summary = parse_summary(lines[found[0]])
    _check_session(lines, summary)
    return _second_block(lines, summary), summary.init_us


def _second_block(lines: List[str], summary: Summary) -> Block:
    """The second of exactly two blocks, each under its announcement, in agreement with the summary."""
    told = [line for line in lines if line.startswith(("count=", "Running benchmark for"))]
    if [line[:5] for line in told] != ["Runni", "count", "Runni", "count"]:
        order = ", ".join("count" if line.startswith("count=") else "running" for line in told)
        raise UnknownOutput("a log must tell of warm-up and measured runs in turn, but got {}".format(order[:80]))
    wanted = (parse_runs(told[0]), parse_runs(told[2]))
    blocks = (parse_block(told[1]), parse_block(told[3]))
    check_order(wanted, blocks, summary)
    return blocks[1]


def _check_session(lines: List[str], summary: Summary) -> None:
    for line in lines:
        match = _SESSION.fullmatch(line)
        if match and not agree(float(match[1]) * 1000, summary.init_us, 0.0):
            raise UnknownOutput(
                "loading must take the same time twice, but got {} ms and {} us".format(match[1], summary.init_us)
            )


def _delegation(lines: List[str]) -> Tuple[str, Optional[str]]:
    """The least that any line claims, and the delegate's name; XNNPACK is looked at only where it is alone."""
    claims = [claim for claim in map(_claim, lines) if claim is not None]
    chosen = [claim for claim in claims if claim[1] != "XNNPACK"] or claims
    if not chosen:
        return "unknown", None
    return _SEVERITY[min(severity for severity, _ in chosen)], min(name for _, name in chosen)


def _claim(line: str) -> Optional[Tuple[int, str]]:
    """How much of the model this line says a delegate took, as an index of _SEVERITY, and the delegate."""
    explicit = _EXPLICIT.search(line)
    if explicit:
        return (2 if explicit[2] == "completely" else 1), explicit[1]
    for pattern in (_REFUSED, _MISSING):
        refused = pattern.search(line)
        if refused:
            return 0, refused[1]
    nodes = _NODES.search(line)
    if nodes is None:
        return None
    taken, there = int(nodes[2]), int(nodes[3])
    name = nodes[1][len("TfLite") :] if nodes[1].startswith("TfLite") else nodes[1]
    return (0 if taken == 0 else 2 if taken == there else 1), name.replace("Delegate", "")


def _timing(block: Block, init_us: float, delegation: str, delegate: Optional[str]) -> Timing:
    values = (block.std_us, block.min_us, block.max_us, block.p5_us, block.median_us, block.p95_us, init_us)
    std, low, high, p5, median, p95, init = (None if us is None else round(us * 1000, 3) for us in values)
    return Timing(
        block.count, round(block.avg_us * 1000, 3), std, low, high, p5, median, p95, init, delegation, delegate
    )
