"""Profiles a space within a budget: measures what tells most about its networks, round by round.

A phone measures a hundred times slower than a computer, and a space has tens of thousands of operators. After every
round the model is learned anew, and says which operators would lower the error of a random network the most. What was
measured is in the store, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from host.devices import Unit
from host.errors import UsageError
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from host.validate import sample_networks
from lut_db.errors import LutError
from lut_db.lut import LatencyLut
from lut_db.records import ANY_CONTEXT, Target
from lut_db.store import LutStore
from ops_catalog.build import with_dtype
from ops_catalog.spec import OpSpec
from search.active import Usage, expected_error, first_operators, next_operators, usage_of
from search.predictors.latency import LatencyModel, fit_latency
from search.spaces import space_named
from search.staircase import detect, probes

NETWORKS = 300
"""Random networks that tell how often a space uses its operators."""

FIRST = 48
GROWTH = 0.4
LEAST_ROUND = 24
"""A round measures this share of what is known by then, and so many at least."""

PROBED_FROM = 2000
"""In spaces with fewer operators, looking for staircases costs more than they save."""

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop; whatever comes first.

    Attributes:
        seconds: of the whole run; None for no limit.
        fraction: of the space's operators; None for no limit.
        error_percent: expected error of a random network; None for as good as the budget allows.
    """

    seconds: float | None = None
    fraction: float | None = None
    error_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """After one round: operators measured, their share of the space, seconds, and the expected error of a network."""

    measured: int
    percent: float
    seconds: float
    error_percent: float | None


@dataclass(frozen=True, slots=True)
class Course:
    """A whole run: its learning curve, and the summaries of its rounds added up."""

    target: str
    points: tuple[Point, ...]
    measurements: int
    left_out: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_seconds(text: str) -> float:
    """90s, 10m, 2h as seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or not float(match[1]):
        raise UsageError(f"--budget must read like 90s, 10m or 2h, but got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def profile_within(
    store: LutStore, unit: Unit, setting: Setting, space: str, budget: Budget, progress: Progress,
    relative: Target | None = None, tell: Callable[[Point], None] = lambda point: None,
) -> Course:  # fmt: skip
    """Measures operators of a space until the budget is used up.

    Args:
        relative: a target of a related device, whose table this one is learned as the difference from.
        tell: is called with each point of the learning curve.

    Raises:
        DeviceUnavailable: the device is not there; LutError: the relative's table is too small.
    """
    start, points, summaries, asked = time.perf_counter(), list[Point](), list[Summary](), set[OpSpec]()
    usage, count = _usage(space, setting)
    base = None if relative is None else fit_latency(store.lut(relative), store.staircases(relative))
    first = first_operators(usage, FIRST // 2 if base else FIRST, setting.seed)
    most = len(usage.operators) if budget.fraction is None else max(len(first), round(budget.fraction * count))
    batch = [*first, *(_probes(setting) if base is None and count >= PROBED_FROM else [])]
    while batch:
        asked |= set(batch)
        summaries.append(profile(store, unit, setting, Workload(operators=tuple(batch)), progress))
        target = store.target_named(summaries[-1].target)
        store.put_staircases(target, detect(store.lut(target)))
        lut = store.lut(target)
        measured, model = measured_operators(lut), _model(store, target, lut, base)
        known = [op for op in usage.operators if op.key in measured]
        error = None if model is None else 100 * expected_error(usage, known, model, usual_context(lut))
        points.append(Point(len(known), 100 * len(known) / count, time.perf_counter() - start, error))
        tell(points[-1])
        done = [op for op in usage.operators if op in asked or op.key in measured]
        left = min(most - len(known), _affordable(budget, points))
        batch = [] if _over(budget, points[-1]) else _next_batch(usage, done, model, left, lut)
    return Course(
        summaries[-1].target, tuple(points), sum(summary.measured for summary in summaries),
        {key: reason for summary in summaries for key, reason in (summary.refused | summary.quarantined).items()},
    )  # fmt: skip


def measured_operators(lut: LatencyLut) -> set[str]:
    """Keys of the operators whose native operators are all measured, in some context."""
    return {
        row.op_key for row in lut.lowerings.values() if all(key in lut.by_key for key in row.natives)
    }  # fmt: skip


def usual_context(lut: LatencyLut) -> str:
    """The context that most measured operators were seen in."""
    counts = Counter(row.context for row in lut.lowerings.values() if " then " not in row.context)
    return counts.most_common(1)[0][0] if counts else ANY_CONTEXT


def _usage(space: str, setting: Setting) -> tuple[Usage, int]:
    """How random networks use the operators of a space, and how many it has in all."""
    graphs = [with_dtype(graph, setting.dtype) for graph in sample_networks(space, NETWORKS, setting.seed)]
    return usage_of(graphs), sum(1 for _ in space_named(space).operators(setting.dtype))


def _probes(setting: Setting) -> list[OpSpec]:
    return [op for *_, op in probes(setting.dtype)]


def _next_batch(
    usage: Usage, done: Sequence[OpSpec], model: LatencyModel | None, left: int, lut: LatencyLut
) -> list[OpSpec]:
    count = min(left, max(LEAST_ROUND, round(GROWTH * len(done))))
    if count <= 0:
        return []
    if model is None:
        known = set(done)
        return [op for op in usage.operators if op not in known][:count]
    return next_operators(usage, done, model, count, usual_context(lut))


def _model(store: LutStore, target: Target, lut: LatencyLut, base: LatencyModel | None) -> LatencyModel | None:
    try:
        return fit_latency(lut, store.staircases(target), base)
    except LutError:
        return None


def _affordable(budget: Budget, points: Sequence[Point]) -> int:
    """Operators that the rest of the time pays for, at the rate of the last round."""
    if budget.seconds is None:
        return sys.maxsize
    earlier = points[-2] if len(points) > 1 else Point(0, 0.0, 0.0, None)
    rate = (points[-1].measured - earlier.measured) / max(1e-3, points[-1].seconds - earlier.seconds)
    return int(rate * max(0.0, budget.seconds - points[-1].seconds))


def _over(budget: Budget, point: Point) -> bool:
    if budget.seconds is not None and point.seconds >= budget.seconds:
        return True
    return budget.error_percent is not None and point.error_percent is not None and (
        point.error_percent <= budget.error_percent
    )  # fmt: skip
