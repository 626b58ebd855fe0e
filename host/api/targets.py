"""Targets: what tables there are, what each is valid for, and how much is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, tagged, unchanged
from host.api.problems import answers
from host.api.schemas import EPOCH_S, Counts, TargetId, TargetRow, example
from host.api.service import Service, Serving
from lut_db.records import Calibration, Target, targets_named

router = APIRouter(prefix="/v1", tags=["targets"], dependencies=[READ])


class TargetList(BaseModel):
    targets: list[TargetRow]


class CalibrationRow(BaseModel):
    """latency = scale * sum + ns_per_weight_byte * weight bytes + ns_per_node * native nodes."""

    model_config = example(
        family="macro", scale=1.02, ns_per_weight_byte=0.01, ns_per_node=40.0, weight_cap_bytes=None, networks=8,
        spread=0.012, created_at=EPOCH_S,
    )  # fmt: skip

    family: str = Field(description="the space it was fitted on; empty where it holds for any")
    scale: float
    ns_per_weight_byte: float
    ns_per_node: float
    weight_cap_bytes: int | None = Field(description="up to where an operator's weights count; null for all")
    networks: int = Field(description="whole networks it was fitted to")
    spread: float = Field(description="standard deviation of the relative errors that are left")
    created_at: float


class Staircase(BaseModel):
    """In which steps a target computes an axis of an operator type."""

    model_config = example(op_type="conv2d", axis="out", step=8)

    op_type: str
    axis: str
    step: int


class TargetDetail(BaseModel):
    """A table with what was learned about it."""

    target: TargetRow
    calibrations: list[CalibrationRow]
    staircases: list[Staircase]


@router.get("/targets")
def list_targets(
    service: Serving,
    name: Annotated[str, Query(max_length=400, description="only the target of that name, or whose name has it")] = "",
) -> TargetList:
    """The tables: what each is valid for, and how much is in it."""
    counts = service.store.lookups.counts()
    return TargetList(targets=[_row(target, counts) for target in targets_named(service.store.targets(), name)])


@router.get("/targets/{target_id}", responses={**answers(404), **NOT_MODIFIED}, response_model=TargetDetail)
def get_target(target_id: TargetId, request: Request, response: Response, service: Serving) -> Any:
    """One table with its calibrations and staircases."""
    target = service.target(target_id)
    tag = service.store.lookups.version(target)
    if same := unchanged(request, tag):
        return same
    response.headers.update(tagged(tag))
    return _detail(service, target)


def _detail(service: Service, target: Target) -> TargetDetail:
    steps = service.store.staircases(target)
    return TargetDetail(
        target=_row(target, service.store.lookups.counts()),
        calibrations=[_calibration(one) for one in service.store.calibrations(target).values()],
        staircases=[Staircase(op_type=op_type, axis=axis, step=step) for (op_type, axis), step in steps.items()],
    )  # fmt: skip


def _row(target: Target, counts: Mapping[str, Mapping[str, Any]]) -> TargetRow:
    found = counts.get(target.key, {})
    facts = ("id", "name", "device", "engine", "engine_version", "accelerator", "dtype", "threads", "isa", "source")
    return TargetRow(
        **{name: getattr(target, name) for name in facts}, cpus=list(target.cpus), options=dict(target.options),
        newest_at=found.get("newest_at"),
        counts=Counts(
            operators=found.get("operators", 0), measurements=found.get("measurement", 0),
            doubtful=found.get("doubtful", 0), quarantined=found.get("quarantine", 0),
            networks=found.get("network_measurement", 0),
        ),
    )  # fmt: skip


def _calibration(one: Calibration) -> CalibrationRow:
    return CalibrationRow(
        family=one.family, scale=one.scale, ns_per_weight_byte=one.ns_per_weight_byte, ns_per_node=one.ns_per_node,
        weight_cap_bytes=one.weight_cap_bytes, networks=len(one.networks), spread=one.spread,
        created_at=one.created_at,
    )  # fmt: skip
