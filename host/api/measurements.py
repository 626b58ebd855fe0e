"""Raw measurements of one native operator, each with the conditions it was made under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, tagged, unchanged
from host.api.entries import raise_unknown
from host.api.problems import Problem, answers
from host.api.schemas import EPOCH_S, OP_KEY, OpKey, TargetId, example
from host.api.service import Service, Serving
from lut_db.aggregate import is_clean, statistics, summary_statistics
from lut_db.records import Measurement, Session, Target

router = APIRouter(prefix="/v1", tags=["measurements"], dependencies=[READ], responses=answers(404))

_CONDITIONS = {
    "started_at": EPOCH_S, "agent_version": "0.1.0", "process": "onnxruntime 1.32.0",
    "before": {"governor": "performance"}, "after": {"governor": "performance"},
    "sentinel_ns": [[0.0, 51_000], [2.1, 51_200]],
}  # fmt: skip


class Conditions(BaseModel):
    """The batch that a measurement was made in: what all of it share."""

    model_config = example(**_CONDITIONS)

    started_at: float = Field(description="seconds since the epoch, UTC")
    agent_version: str
    process: str
    before: dict[str, Any] = Field(description="what was read of the device before it")
    after: dict[str, Any]
    sentinel_ns: list[tuple[float, float]] = Field(description="seconds since the start, ns of the same call each time")


class MeasurementRow(BaseModel):
    """Samples of one native operator at one time."""

    model_config = example(
        latency_ns=151_200.0, mad_ns=310.0, samples=4, clean=True, doubts=[], loops=1, overhead_ns=150.0, rejected=0,
        energy_uj=None, bursts_ns=[[151_300, 151_500], [151_400, 152_100]], started_s=[0.1, 1.4], summary=None,
        conditions=_CONDITIONS,
    )  # fmt: skip

    latency_ns: float
    mad_ns: float
    samples: int
    clean: bool = Field(description="whether no doubt disqualifies it")
    doubts: list[str]
    loops: int = Field(description="calls that a sample is the time of")
    overhead_ns: float = Field(description="time of a call that does nothing, taken off each")
    rejected: int = Field(description="samples left out, since the thread was interrupted")
    energy_uj: float | None
    bursts_ns: list[list[int]] = Field(description="per burst, ns of `loops` calls together; empty with a summary")
    started_s: list[float] = Field(description="per burst, seconds since the batch began")
    summary: dict[str, float] | None = Field(description="where the engine tells no samples")
    conditions: Conditions


class MeasurementList(BaseModel):
    """Measurements of one native operator, newest first."""

    key: str = Field(examples=[OP_KEY])
    total: int = Field(description="how many there are in all")
    measurements: list[MeasurementRow]


@router.get("/targets/{target_id}/measurements", response_model=MeasurementList, responses=NOT_MODIFIED)
def list_measurements(
    target_id: TargetId, key: OpKey, request: Request, response: Response, service: Serving,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:  # fmt: skip
    """The raw samples of one native operator, and the conditions they were taken under."""
    target = service.target(target_id)
    tag = service.store.lookups.version(target)
    if same := unchanged(request, tag):
        return same
    found = service.store.lookups.measurements(target, key)
    if not found:
        _raise_none(service, target, key)
    response.headers.update(tagged(tag))
    rows = [_row(measurement, session) for measurement, session in reversed(found[-limit:])]
    return MeasurementList(key=key, total=len(found), measurements=rows)


def _raise_none(service: Service, target: Target, key: str) -> None:
    """Raises Problem: the operator is unknown, or not what the engine runs."""
    made_of = service.store.lookups.lookup(target, (key,))[0]
    if made_of is None:
        raise_unknown(service, target, key)
    natives = list(dict.fromkeys(native for price in made_of.contexts for native in price.natives))
    detail = f"a native operator must be named, but {key!r} is run as {len(natives)} others; ask for one of those known"
    raise Problem(404, "Not a native operator", detail, "not-native", {"known": natives})


def _row(one: Measurement, session: Session) -> MeasurementRow:
    found = (
        statistics(one.bursts_ns, one.loops, one.overhead_ns)
        if one.summary is None
        else summary_statistics(one.summary, one.overhead_ns)
    )
    return MeasurementRow(
        latency_ns=found.latency_ns, mad_ns=found.mad_ns, samples=found.samples, clean=is_clean(one.doubts),
        doubts=list(one.doubts), loops=one.loops, overhead_ns=one.overhead_ns, rejected=one.rejected,
        energy_uj=one.energy_uj, bursts_ns=[list(burst) for burst in one.bursts_ns], started_s=list(one.started_s),
        summary=None if one.summary is None else _numbers(one.summary), conditions=_conditions(session),
    )  # fmt: skip


def _numbers(summary: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in summary.items()}


def _conditions(session: Session) -> Conditions:
    return Conditions(
        started_at=session.started_at, agent_version=session.agent_version, process=session.process,
        before=dict(session.before), after=dict(session.after),
        sentinel_ns=[(at, float(ns)) for at, ns in session.sentinel_ns],
    )  # fmt: skip
