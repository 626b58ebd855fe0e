"""Reads a line, acts, answers. One bad request, or one bad model, never ends the agent."""

from __future__ import annotations

import os
import platform
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from agent import protocol
from agent.conditions import interruptions, quiet_gate, read_conditions
from agent.energy import energise
from agent.engines import describe_engines, engine_module
from agent.failures import failure
from agent.machine import read_machine
from agent.measure import Gauge, Sentinel, Surroundings, calibrate, measure_all, overhead_ns
from agent.meters import describe_meters
from agent.protocol import (
    Done,
    Energise,
    Failure,
    Hello,
    Look,
    Measure,
    Measured,
    Message,
    Model,
    Opening,
    Optimise,
    ProtocolError,
    Quit,
    Run,
)
from agent.summaries import measure_summaries

Send = Callable[[Message], None]


def serve(lines: Iterable[str], send: Send) -> None:
    """Greets, then answers every line until Quit or the end of the input."""
    send(hello())
    for line in lines:
        try:
            request = protocol.decode(line)
        except ProtocolError as error:
            send(Failure(None, "request", str(error)))
            continue
        if isinstance(request, Quit):
            return
        try:
            answer(request, send)
        except Exception as error:
            send(failure(None, "run", error))


def hello() -> Hello:
    return Hello(
        protocol.VERSION, platform.python_version(), os.getpid(), read_machine(), describe_engines(), describe_meters()
    )


def answer(request: Message, send: Send) -> None:
    if isinstance(request, Measure):
        measure(request, send)
    elif isinstance(request, Energise):
        energise(request, send)
    elif isinstance(request, Optimise):
        engine_module(request.engine).optimise(request.path, request.into_path, request.options)
        send(Done())
    elif isinstance(request, Run):
        _run_once(request)
        send(Done())
    elif isinstance(request, Look):
        send(Done({"time_ns": time.perf_counter_ns()} if request.clock_only else read_conditions()))
    else:
        send(Failure(None, "request", "a request must be one of the host's, but got {}".format(request)))


def measure(request: Measure, send: Send) -> None:
    """Opens the models, measures them together as far as the engine lets them live together, and answers."""
    engine = engine_module(request.engine)
    if hasattr(engine, "summarise"):
        measure_summaries(engine, request, send)
        return
    before = read_conditions()
    null_model = engine.open_model(request.null_path, request.options)
    null = calibrate("null", null_model.run, request.sampling)
    sentinel = Sentinel(
        engine.open_model(request.sentinel_path, request.options).run if request.sentinel_path else None
    )
    around = Surroundings(_interruptions_for(null_model), quiet_gate(int(request.options.get("threads", 1))))
    live = engine.live(request.options)

    def measure_group(first: int) -> int:
        """Ns waited for quiet. Its models are gone when it returns, so that the next ones find their memory free."""
        opened = _open(engine, request, request.models[first : first + live], send)
        gauges = [gauge for gauge, _ in opened]
        waited = measure_all(gauges, null, sentinel, request.sampling, around, request.seed + first)
        for gauge, open_ns in opened:
            send(_measured(gauge, open_ns, overhead_ns(null)))
        return waited

    waited = sum(measure_group(first) for first in range(0, len(request.models), live))
    send(Done(before, read_conditions(), sentinel.looks, waited))


def _interruptions_for(model: Any) -> Callable[[], int]:
    """Constantly 0 where this thread's are no part of the time that such models tell."""
    return _never if getattr(model, "device_alone", False) else interruptions


def _never() -> int:
    return 0


def _open(engine: Any, request: Measure, models: List[Model], send: Send) -> List[Tuple[Gauge, int]]:
    opened = (_open_one(engine, request, model, send) for model in models)
    return [one for one in opened if one is not None]


def _open_one(engine: Any, request: Measure, model: Model, send: Send) -> Optional[Tuple[Gauge, int]]:
    """None for one that fails, which is told; by then nothing holds it any more."""
    send(Opening(model.id))
    reason = "load"
    try:
        start = time.perf_counter_ns()
        loaded = engine.open_model(model.path, request.options)
        open_ns = time.perf_counter_ns() - start
        reason = "run"
        return calibrate(model.id, loaded.run, request.sampling), open_ns
    except Exception as error:
        send(failure(model.id, reason, error))
        return None


def _measured(gauge: Gauge, open_ns: int, overhead: float) -> Measured:
    return Measured(gauge.id, gauge.bursts_ns, gauge.loops, overhead, gauge.rejected, gauge.started_ns, open_ns)


def _run_once(request: Run) -> None:
    import numpy as np

    with np.load(request.inputs_path) as stored:
        arrays = [stored[str(index)] for index in range(len(stored.files))]
    outputs = engine_module(request.engine).open_model(request.path, request.options).infer(arrays)
    named: Dict[str, Any] = {str(index): array for index, array in enumerate(outputs)}
    np.savez(request.outputs_path, **named)
