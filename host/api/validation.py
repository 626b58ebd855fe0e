"""Networks that were measured whole beside what the table predicts for them with its calibration.

Predictions are of measured operators only. A network's latency is the 10th percentile of the samples of all its turns,
as in ``chamnet validate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, json_bytes, unchanged
from host.api.problems import answers
from host.api.schemas import TARGET_ID, TargetId, example
from host.api.service import Service, Serving
from host.calibration import error_metrics, predict
from lut_db.aggregate import QUANTILE, combine, quantile, summary_statistics
from lut_db.lut import LatencyLut, MissingOpsError
from lut_db.records import Calibration, NetworkMeasurement, Target
from ops_catalog.graphfile import graph_from_json
from ops_catalog.spec import SpecError

router = APIRouter(prefix="/v1", tags=["explore"], dependencies=[READ], responses=answers(404))

Role = Literal["calibration", "unseen"]
Method = Literal["calibrated", "sum"]


class NetworkRow(BaseModel):
    """A network that was measured whole."""

    model_config = example(
        name="mbconv:1-3-1-0", space="mbconv", role="unseen", calibration="mbconv", measured_ns=5_000_000.0,
        predicted_ns=5_100_000.0, sum_ns=4_700_000.0, error=0.02, turns=8, doubts=[], missing=0,
    )  # fmt: skip

    name: str
    space: str = Field(description="empty for one that is of none")
    role: Role = Field(description="calibration: the calibration was fitted to it, so its error flatters")
    calibration: str = Field(description="family of the calibration that was used; empty where there is none")
    measured_ns: float
    predicted_ns: float | None = Field(description="calibrated; null where operators are missing or nothing calibrates")
    sum_ns: float | None = Field(description="of its operators, uncalibrated; null where operators are missing")
    error: float | None = Field(description="of the prediction, else of the sum, relative")
    turns: int = Field(description="measurements it rests on")
    doubts: list[str]
    missing: int = Field(description="operators without a price")


class ErrorRow(BaseModel):
    """How far predictions are off, in percent but for the rank correlation."""

    model_config = example(
        space="mbconv", method="calibrated", role="unseen", networks=32, mape=1.8, bias=-0.4, spearman=0.99,
        within_5=97.0, within_10=100.0, worst=6.1,
    )  # fmt: skip

    space: str
    method: Method = Field(description="sum: of operators, uncalibrated")
    role: Role
    networks: int
    mape: float = Field(description="mean of the sizes of the relative errors")
    bias: float
    spearman: float | None = Field(description="rank correlation; null for fewer than three networks")
    within_5: float
    within_10: float
    worst: float


class ValidationBody(BaseModel):
    """How well a table predicts networks that were measured whole."""

    target: str = Field(examples=[TARGET_ID])
    networks: list[NetworkRow]
    errors: list[ErrorRow]


class _Turns(NamedTuple):
    """All measurements of one network."""

    first: NetworkMeasurement
    measured_ns: float
    turns: int
    doubts: list[str]


@router.get("/targets/{target_id}/validation", response_model=ValidationBody, responses=NOT_MODIFIED)
def get_validation(request: Request, target_id: TargetId, service: Serving) -> Response:
    """Networks that were measured whole beside their predictions, and the errors of these."""
    target = service.target(target_id)
    tag = service.store.lookups.version(target)
    if (same := unchanged(request, tag)) is not None:
        return same
    body = service.fits.get(("validation", target.id, tag), lambda: _validation(service, target))
    return json_bytes(body.model_dump_json().encode(), tag)


def _validation(service: Service, target: Target) -> ValidationBody:
    measured = _by_network(service.store.network_measurements(target))
    if not measured:
        return ValidationBody(target=target.id, networks=[], errors=[])
    lut, calibrations = service.store.lut(target), service.store.calibrations(target)
    rows = [_row(lut, calibrations, turns) for turns in measured]
    return ValidationBody(target=target.id, networks=rows, errors=_errors(rows))


def _by_network(rows: Sequence[NetworkMeasurement]) -> list[_Turns]:
    """Networks that were measured; one whose samples were all interrupted was not."""
    groups: dict[tuple[str, str], list[NetworkMeasurement]] = {}
    for row in rows:
        groups.setdefault((row.name, row.space), []).append(row)
    return [turns for group in groups.values() if (turns := _turns(group)) is not None]


def _turns(rows: Sequence[NetworkMeasurement]) -> _Turns | None:
    told = [row for row in rows if row.summary is not None or any(row.bursts_ns)]
    if not told:
        return None
    doubts = list(dict.fromkeys(doubt for row in told for doubt in row.doubts))
    return _Turns(rows[0], _latency_ns(told), len(told), doubts)


def _latency_ns(rows: Sequence[NetworkMeasurement]) -> float:
    """Of the samples of all turns; where an engine tells only summaries, of these."""
    samples = [ns / row.loops - row.overhead_ns for row in rows for burst in row.bursts_ns for ns in burst]
    if samples:
        return quantile(sorted(samples), QUANTILE)
    told = [(row.summary, row.overhead_ns) for row in rows if row.summary is not None]
    return combine([summary_statistics(summary, overhead_ns).latency_ns for summary, overhead_ns in told])


def _row(lut: LatencyLut, calibrations: Mapping[str, Calibration], turns: _Turns) -> NetworkRow:
    network = turns.first
    calibration = _calibration(calibrations, network.space)
    total, predicted, missing = _predicted(lut, network, calibration)
    best = total if predicted is None else predicted
    fitted = calibration is not None and network.name in calibration.networks
    return NetworkRow(
        name=network.name, space=network.space, role="calibration" if fitted else "unseen",
        calibration=calibration.family if calibration else "", measured_ns=turns.measured_ns, predicted_ns=predicted,
        sum_ns=total, error=None if best is None else best / turns.measured_ns - 1.0, turns=turns.turns,
        doubts=turns.doubts, missing=missing,
    )  # fmt: skip


def _calibration(calibrations: Mapping[str, Calibration], space: str) -> Calibration | None:
    """That of the network's space, else the newest."""
    return calibrations.get(space) or max(calibrations.values(), key=lambda one: one.created_at, default=None)


def _predicted(
    lut: LatencyLut, network: NetworkMeasurement, calibration: Calibration | None
) -> tuple[float | None, float | None, int]:
    """The sum of a network's operators, the calibrated prediction, and how many operators are missing."""
    try:
        prices = lut.price(graph_from_json(network.graph))
    except MissingOpsError as error:
        return None, None, len(error.operators)
    except SpecError:
        return None, None, len(network.graph.get("nodes", ()))
    calibrated = None if calibration is None else float(predict([prices], calibration)[0])
    return float(prices.latency_ns.sum()), calibrated, 0


def _errors(rows: Sequence[NetworkRow]) -> list[ErrorRow]:
    """For each space and role, of calibrated predictions and of plain sums."""
    found = []
    for space, role in dict.fromkeys((row.space, row.role) for row in rows):
        mine = [row for row in rows if (row.space, row.role) == (space, role)]
        found += _error_rows(space, role, mine)
    return found


def _error_rows(space: str, role: Role, rows: Sequence[NetworkRow]) -> list[ErrorRow]:
    measured = [row.measured_ns for row in rows]
    methods: tuple[tuple[Method, list[float | None]], ...] = (
        ("calibrated", [row.predicted_ns for row in rows]), ("sum", [row.sum_ns for row in rows]),
    )  # fmt: skip
    known = [
        (method, [(p, m) for p, m in zip(values, measured, strict=True) if p is not None]) for method, values in methods
    ]
    return [_error_row(space, role, method, pairs) for method, pairs in known if pairs]


def _error_row(space: str, role: Role, method: Method, pairs: Sequence[tuple[float, float]]) -> ErrorRow:
    """Of pairs of predicted and measured latencies."""
    predicted, measured = np.array(pairs, float).T
    metrics = error_metrics(predicted, measured)
    spearman = metrics.pop("spearman")
    return ErrorRow(
        space=space, role=role, method=method, networks=len(pairs), **metrics,
        spearman=spearman if np.isfinite(spearman) else None,
    )  # fmt: skip
