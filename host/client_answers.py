"""What the client gives back: answers of the service as values, its problems as errors; unknown members are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import httpx

from host.errors import HostError

INCOMPLETE = ("missing-operators", "unknown-nodes")
"""Types of problems that hold what is known all the same."""

Value = TypeVar("Value")
Body = Mapping[str, Any]


def _made(kind: type[Value], body: Body, **changed: Any) -> Value:
    """A value from a JSON object of a service that may be newer."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in body.items() if name in known} | changed)


@dataclass(frozen=True, slots=True)
class Price:
    """What an operator costs in one context, such as the layout of its inputs; "*" where that does not matter."""

    context: str
    latency_ns: float
    mad_ns: float
    samples: int
    passes: int
    energy_uj: float | None
    label: str
    doubts: list[str]
    natives: list[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """An operator, and its price in every context that is known."""

    key: str
    contexts: tuple[Price, ...]

    @classmethod
    def of(cls, body: Body) -> Entry:
        return cls(body["key"], tuple(_made(Price, row) for row in body["contexts"]))

    @property
    def latency_ns(self) -> float:
        """In the cheapest context."""
        return min(price.latency_ns for price in self.contexts)


@dataclass(frozen=True, slots=True)
class OperatorPrice:
    """What one operator of a network costs: None where it is missing; ``share`` is of the known latency, 0 to 1."""

    key: str
    tensor: str
    count: int
    latency_ns: float | None
    label: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network costs on a target.

    Attributes:
        latency_ns, low_ns, high_ns: calibrated, with the 95 % interval; None only where nothing at all is known.
        operators: in the network's order, uncalibrated.
        shares: of the known latency by label, 0 to 1.
        calibration: family, networks and spread; None for a plain sum.
        missing: keys without a price; empty except in what is partly known.
    """

    target: str
    target_id: str
    network: str
    latency_ns: float | None
    low_ns: float | None
    high_ns: float | None
    energy_uj: float | None
    energy_low_uj: float | None
    energy_high_uj: float | None
    energy_label: str | None
    operators: tuple[OperatorPrice, ...]
    shares: Mapping[str, float]
    calibration: Mapping[str, Any] | None
    missing: list[str]
    notes: list[str]

    @classmethod
    def of(cls, body: Body) -> Prediction:
        return _made(cls, body, operators=tuple(_made(OperatorPrice, row) for row in body["operators"]))

    @property
    def latency_ms(self) -> float | None:
        return None if self.latency_ns is None else self.latency_ns / 1e6


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A network's predicted accuracy and its standard deviation, in percent."""

    genome: str
    accuracy_percent: float
    std_percent: float | None

    @classmethod
    def of(cls, body: Body) -> Accuracy:
        return _made(cls, body)


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Accuracies, and what they rest on: data set, recipe, number of networks, errors."""

    rows: tuple[Accuracy, ...]
    basis: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A search, a measurement or an import as it stands.

    Attributes:
        state: queued, running, done, failed or cancelled.
        progress: stage, done, total, note; None before there is any.
        result: what came of it; None until then, and in lists.
    """

    uid: str
    kind: str
    state: str
    command: str
    progress: Mapping[str, Any] | None
    error: str
    exit_status: int | None
    revision: int
    result: Any = None

    @classmethod
    def of(cls, body: Body) -> Job:
        return _made(cls, body)

    @property
    def has_ended(self) -> bool:
        return self.state not in ("queued", "running")


class ServiceError(HostError):
    """What the service answered instead.

    Attributes:
        status: of HTTP.
        problem: the problem document; ``type`` tells what kind it is, some kinds have members of their own.
    """

    def __init__(self, status: int, problem: Body) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"the service answered {status}"))
        self.status = status
        self.problem = problem


class MissingOperators(ServiceError):
    """Something of a network has no price."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys of operators, each once."""
        return tuple(self.problem.get("missing") or ())

    @property
    def measure_with(self) -> str | None:
        """What to do about them."""
        return self.problem.get("measure_with")

    @property
    def unknown(self) -> tuple[Body, ...]:
        """Nodes of a model file that were not understood: name, type, reason, macs."""
        return tuple(self.problem.get("unknown") or ())

    @property
    def partial(self) -> Prediction | None:
        """What is known."""
        found = self.problem.get("partial")
        return None if found is None else Prediction.of(found)


class JobFailed(HostError):
    """A job that ended otherwise than done.

    Attributes:
        job: as it is now.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.uid} must be done, but is {job.state}: {job.error or 'it was asked to end'}")
        self.job = job


class Unreachable(HostError):
    """The service does not answer."""


def check(answer: httpx.Response) -> None:
    """Raises ServiceError for what is no success; the answer must have been read."""
    if not answer.is_error:
        return
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    problem = answer.json() if is_problem else {"title": f"the service answered {answer.status_code}"}
    incomplete = str(problem.get("type", "")).rpartition(":")[2] in INCOMPLETE
    raise (MissingOperators if incomplete else ServiceError)(answer.status_code, problem)
