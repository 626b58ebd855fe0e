"""Measures with an engine that summarises a model's runs itself and tells no single samples: one call per model."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Tuple

from agent.conditions import read_conditions
from agent.engines import EngineUnavailable
from agent.failures import failure
from agent.protocol import Done, Measure, Measured, Message, Model, Opening

SENTINEL_EVERY = 16


def measure_summaries(engine: Any, request: Measure, send: Callable[[Message], None]) -> None:
    """Answers each model, then Done; a model that fails is named, a device that is lost ends the request."""
    before = read_conditions()
    overhead_ns = typical_ns(_null(engine, request))
    looks: List[Tuple[int, int]] = []
    for number, model in enumerate(request.models):
        if number % SENTINEL_EVERY == 0:
            looks += _look(engine, request)
        send(Opening(model.id))
        send(_answer(engine, request, model, overhead_ns))
    looks += _look(engine, request)
    send(Done(before, read_conditions(), looks))


def typical_ns(summary: Dict[str, float]) -> float:
    """Time of a usual run: the median where it is told, else the average."""
    return summary.get("median_ns", summary["avg_ns"])


def _answer(engine: Any, request: Measure, model: Model, overhead_ns: float) -> Message:
    start = time.perf_counter_ns()
    try:
        summary = engine.summarise(model.path, request.options)
    except EngineUnavailable:
        raise
    except Exception as error:
        return failure(model.id, "run", error)
    return Measured(model.id, [], 1, overhead_ns, 0, [start], 0, summary)


def _look(engine: Any, request: Measure) -> List[Tuple[int, int]]:
    """When the sentinel was timed, and its usual time; nothing without one, or where it fails."""
    if request.sentinel_path is None:
        return []
    start = time.perf_counter_ns()
    try:
        return [(start, round(typical_ns(engine.summarise(request.sentinel_path, request.options))))]
    except EngineUnavailable:
        raise
    except Exception:
        return []


def _null(engine: Any, request: Measure) -> Dict[str, float]:
    """The summary of the model that does nothing; tried twice, since all others rest on it."""
    try:
        return dict(engine.summarise(request.null_path, request.options))
    except EngineUnavailable:
        raise
    except Exception:
        return dict(engine.summarise(request.null_path, request.options))
