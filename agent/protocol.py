"""The messages between host and agent: one JSON object a line, each with its kind under ``is``.

The host asks (Measure, Energise, Optimise, Run, Look, Quit), the agent answers. It greets with Hello before anything
is asked. To Measure it answers one Opening per model before it touches it, then one Measured or Failure per model, then
Done; to Energise the same with Energised in place of Measured; to Optimise, Run and Look one Done or Failure. A line
that is no message is answered by a Failure without id.

Host and agent must be of the same VERSION; there is no negotiation. Python 3.9, standard library only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Optional, Tuple, Type, Union

VERSION = 3


@dataclass(frozen=True)
class Sampling:
    """How long to measure: bursts of calls, spread over the whole batch in random order.

    A sample is the time of ``loops`` calls, calibrated to last at least ``sample_ns``; a burst is as many samples
    as fit ``burst_ns``, between ``burst_min`` and ``burst_max``. A model is done when it has ``rounds`` bursts and
    its two quickest bursts (by their 25th percentile) agree within ``tolerance``, or at ``max_rounds``.
    """

    sample_ns: int = 20_000
    burst_ns: int = 300_000
    burst_min: int = 3
    burst_max: int = 12
    rounds: int = 3
    max_rounds: int = 12
    tolerance: float = 0.02
    warmup_runs: int = 1
    gate_budget_ns: int = 2_000_000_000


@dataclass(frozen=True)
class Model:
    """A model file to measure, under the id that its answer will carry."""

    id: str
    path: str


@dataclass(frozen=True)
class Measure:
    """Measure every model of a batch, interleaved.

    Attributes:
        null_path: a model that does next to nothing; its time is the overhead of a call.
        sentinel_path: a network that is timed all along, so that drift of the machine shows; None for none.
    """

    engine: str
    options: Dict[str, Any]
    models: List[Model]
    null_path: str
    sentinel_path: Optional[str] = None
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """How to meter a model: windows idle - load - idle - load - ... - idle, ``repeats`` of them under load.

    A window lasts longer where the meter needs it: 20 of its periods, 30 updates of one that needs calibration.

    Attributes:
        settle_s: waited after each change between idle and load, outside of the windows.
        read_every_s: between two readings; a counter is also read at the borders of each window.
    """

    window_s: float = 2.0
    idle_s: float = 2.0
    repeats: int = 3
    settle_s: float = 0.25
    read_every_s: float = 0.02


@dataclass(frozen=True)
class Energise:
    """Read a meter while each model of a list is at rest and at work.

    Without models the meter is only read, for ``plan.window_s``: one Opening and one Energised with the id "" answer,
    the first as soon as readings are taken. So a meter on one computer can watch a device whose own agent is busy with
    another Energise; ``Look(clock_only=True)``, before and after, tells how far the two agents' clocks are apart.

    Attributes:
        meter: a name of Hello's meters.
        meter_options: such as ``rails``, ``period_s``, ``trace``, ``command``: see the meter's module.
    """

    engine: str
    options: Dict[str, Any]
    models: List[Model]
    meter: str
    meter_options: Dict[str, Any] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class Optimise:
    """Let the engine optimise a model and write what it will run to ``into_path``."""

    engine: str
    options: Dict[str, Any]
    path: str
    into_path: str


@dataclass(frozen=True)
class Run:
    """Run a model once: inputs and outputs are .npz files with arrays named 0, 1 ... in the model's order."""

    engine: str
    options: Dict[str, Any]
    path: str
    inputs_path: str
    outputs_path: str


@dataclass(frozen=True)
class Look:
    """Read the conditions of the machine and measure nothing; Done carries them as ``before``.

    Attributes:
        clock_only: tell ``time_ns`` alone, at once: what the clock shows that windows and readings are timed by.
    """

    clock_only: bool = False


@dataclass(frozen=True)
class Quit:
    """End the agent; the end of its standard input does the same."""


@dataclass(frozen=True)
class Hello:
    """What the agent is and what can be measured where it runs.

    Attributes:
        machine: facts that do not change: cpu model, ISA, cores, kernel, memory ...
        engines: name -> {"version": ...} or {"unavailable": reason}.
        meters: name -> {"available": ...} or {"unavailable": reason}.
    """

    version: int
    python: str
    pid: int
    machine: Dict[str, Any]
    engines: Dict[str, Dict[str, str]]
    meters: Dict[str, Dict[str, str]]


@dataclass(frozen=True)
class Opening:
    """The agent is about to load and first run this model: the culprit, should it die now."""

    id: str


@dataclass(frozen=True)
class Measured:
    """Raw samples of one model.

    Attributes:
        bursts_ns: per burst, the time of each clean sample, in ns for ``loops`` calls together.
        loops: calls in one sample.
        overhead_ns: time of a call that does nothing, of the same engine in the same batch.
        rejected: samples dropped because the process was interrupted during them.
        started_ns: per burst, when it began, on the agent's monotonic clock.
        open_ns: time to load the model.
        summary: of an engine that tells no single samples: ``count`` of runs and ``avg_ns``, ``std_ns``, ``min_ns``,
            ``max_ns``, ``p5_ns``, ``median_ns``, ``p95_ns`` of one call, as far as it tells them. ``bursts_ns`` is
            empty then.
    """

    id: str
    bursts_ns: List[List[int]]
    loops: int
    overhead_ns: float
    rejected: int
    started_ns: List[int]
    open_ns: int
    summary: Optional[Dict[str, float]] = None


@dataclass(frozen=True)
class Energised:
    """Raw readings of one model's windows.

    Attributes:
        facts: of the meter, as ``agent.meters.MeterFacts`` has them.
        windows: in the order of time, each a dict of

            ``kind``      "idle", "load", or "watch" where there is no model
            ``from_ns``, ``to_ns``   on the clock of ``at_ns``; those of a counter are the times of its border readings
            ``calls``     made between the two; 0 but for load
            ``readings``  [at_ns, value]: a counter's microjoules, else microwatts; of a gauge that needs calibration
                          [at_ns, value, current_raw, voltage_uv], value = current_raw * voltage_uv / 1e6, which is
                          microwatts if the gauge counts microamperes the right way round
            ``state``     [at_ns, {...}] at the first reading and whenever it changed, of a battery: ``status``
                          (Charging, Discharging, Full, Not charging), ``plugged`` ("usb", "ac", "wireless", joined by
                          "+", or "none"), ``suspended`` (the node that charging is suspended by, or "", and then
                          ``suspended_not``: why not)
            ``temp_mc``   {"before": {zone: millidegrees}, "after": ...}
            ``charge_uah``  {"before": ..., "after": ...}: the battery's charge counter, None where it is not told
            ``errors``    how many readings failed; ``error``: the reason of the last, or ""
    """

    id: str
    facts: Dict[str, Any]
    windows: List[Dict[str, Any]]


@dataclass(frozen=True)
class Failure:
    """A request, or one model of it, that could not be done; the agent goes on.

    Attributes:
        reason: one of load, run, memory, fallback (not run where it was meant to), format (unknown output), request,
            engine, meter, lost (the device that the engine reaches through a prefix).
        message: one line for a person.
    """

    id: Optional[str]
    reason: str
    message: str


@dataclass(frozen=True)
class Done:
    """The end of a request.

    Attributes:
        before: conditions before the batch, by name with their unit (``freq_khz``, ``load1``, ``steal_ticks`` ...).
        after: the same afterwards.
        sentinel_ns: (when it began on the monotonic clock, quickest time of one call) per look at the sentinel.
        gate_wait_ns: time spent waiting for a quiet machine.
    """

    before: Dict[str, Any] = field(default_factory=dict)
    after: Dict[str, Any] = field(default_factory=dict)
    sentinel_ns: List[Tuple[int, int]] = field(default_factory=list)
    gate_wait_ns: int = 0


Message = Union[Measure, Energise, Optimise, Run, Look, Quit, Hello, Opening, Measured, Energised, Failure, Done]

_KINDS: Dict[str, Type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (Measure, Energise, Optimise, Run, Look, Quit, Hello, Opening, Measured, Energised, Failure, Done)
}


_NESTED: Dict[Type[Any], Tuple[str, Type[Any]]] = {Measure: ("sampling", Sampling), Energise: ("plan", Plan)}
"""Of a request that lists models: the attribute beside them that is a message's part of its own, and its type."""


class ProtocolError(ValueError):
    """A line that is no message."""


def encode(message: Message) -> str:
    """One line, without its line end."""
    return json.dumps({"is": type(message).__name__.lower(), **asdict(message)}, separators=(",", ":"))


def decode(line: str) -> Message:
    """The message of a line.

    Raises:
        ProtocolError: no JSON object, unknown kind, missing or unknown fields.
    """
    try:
        body = json.loads(line)
        kind = _KINDS[body.pop("is")]
        message = kind(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(
            f"a line must be a message of protocol {VERSION}, but got {line[:200]!r}: {error}"
        ) from None
    return _nested(message) if kind in _NESTED else message


def _nested(message: Any) -> Message:
    name, part = _NESTED[type(message)]
    try:
        models = [Model(**model) for model in message.models]
        nested = part(**getattr(message, name))
    except TypeError as error:
        raise ProtocolError("a request must list models and its {}, but got {}".format(name, error)) from None
    whole: Message = replace(message, models=models, **{name: nested})
    return whole
