"""What a prediction is answered with: its models, and how they are filled.

All that has no price is told together with what is known, never left out in silence: such an answer is a problem, and
holds the rest as ``partial``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, Field

from host.api.pricing import Answer, Question, price
from host.api.problems import Problem
from host.api.schemas import OP_KEY, TARGET_ID, TARGET_NAME
from host.api.service import Service
from host.predict import OperatorCost
from lut_db.lut import how_to_measure
from lut_db.records import Target
from ops_catalog.parse import Parsed

IN_CHEAPEST = "a list does not say what is around an operator: each has the price of its cheapest measured context"

Label = Literal["measured", "interpolated", "estimated", "emulated", "simulated", "imported", "missing"]


class OperatorPrice(BaseModel):
    """What one operator of a network costs."""

    key: str = Field(examples=[OP_KEY])
    tensor: str = Field(description="what it makes, by its name in the network; empty in a list", examples=["t17"])
    count: int = Field(default=1, description="how often it is in a list; 1 in a network, which tells each one")
    latency_ns: float | None = Field(
        description="of all `count`, uncalibrated; null where missing", examples=[188671.0]
    )
    label: Label = Field(description="what the price rests on", examples=["measured"])
    share: float | None = Field(description="of the known latency, 0 to 1", examples=[0.04])


class CalibrationUsed(BaseModel):
    """How the sum of operators was made the latency of a network."""

    family: str = Field(examples=["chamnet-mobile"])
    networks: int = Field(description="whole networks that it was fitted on", examples=[8])
    spread: float = Field(description="standard deviation of what it leaves, relative", examples=[0.012])


class NetworkPrice(BaseModel):
    """What a network costs on a target. Nothing is missing, except in the `partial` of a problem."""

    target: str = Field(description="its name", examples=[TARGET_NAME])
    target_id: str = Field(examples=[TARGET_ID])
    network: str = Field(examples=["mobilenet-v2"])
    latency_ns: float | None = Field(description="of what is known, calibrated", examples=[4_812_000.0])
    low_ns: float | None = Field(description="of the 95 % interval", examples=[4_701_000.0])
    high_ns: float | None = Field(description="of the 95 % interval", examples=[4_923_000.0])
    energy_uj: float | None = Field(description="beyond what the device draws at rest; null where the table has none")
    energy_low_uj: float | None = Field(description="of its 95 % interval")
    energy_high_uj: float | None
    energy_label: str | None = Field(
        description="the weakest that it rests on: measured, predicted, imported, simulated"
    )
    operators: list[OperatorPrice] = Field(description="in the network's order")
    shares: dict[Label, float] = Field(description="of the known latency, by label, 0 to 1", examples=[{"measured": 1}])
    calibration: CalibrationUsed | None = Field(description="null for a plain sum")
    missing: list[str] = Field(description="keys without a price, each once")
    measure_with: str | None = Field(description="what to do about `missing`")
    notes: list[str] = Field(description="what was taken as something else")


class NetworkPrices(BaseModel):
    """The same network on several targets, in the order they were asked for."""

    predictions: list[NetworkPrice]


def answered(
    service: Service, targets: Sequence[Target], question: Question, parsed: Parsed, single: bool
) -> NetworkPrice | NetworkPrices:
    """Raises Problem where something has no price."""
    prices = [_network_price(price(service, target, question), question, parsed) for target in targets]
    answer = prices[0] if single else NetworkPrices(predictions=prices)
    lacking = next((one for one in prices if one.missing), None)
    if lacking is not None or parsed.unknown:
        raise _incomplete(lacking, prices, parsed, question.estimate, answer)
    return answer


def _network_price(answer: Answer, question: Question, parsed: Parsed) -> NetworkPrice:
    prediction, calibration = answer.prediction, answer.calibration
    target, known = prediction.target, prediction.known
    rows = _rows(prediction.operators, question, target)
    shares: Counter[Label] = Counter()
    for row in rows:
        shares[row.label] += row.share or 0.0  # type: ignore[assignment]
    missing = [op.key for op in prediction.missing]
    return NetworkPrice(
        target=target.name, target_id=target.id, network=prediction.network,
        latency_ns=prediction.latency_ms * 1e6 if known else None, low_ns=prediction.low_ms * 1e6 if known else None,
        high_ns=prediction.high_ms * 1e6 if known else None,
        energy_uj=_uj(prediction.energy_mj), energy_low_uj=_uj(prediction.energy_low_mj),
        energy_high_uj=_uj(prediction.energy_high_mj), energy_label=prediction.energy_label or None, operators=rows,
        shares={label: min(1.0, share) for label, share in shares.items() if share},
        calibration=None if calibration is None else CalibrationUsed(
            family=calibration.family, networks=len(calibration.networks), spread=calibration.spread
        ),
        missing=missing, measure_with=how_to_measure(target) if missing else None,
        notes=[*parsed.notes, *([IN_CHEAPEST] if answer.cheapest else [])],
    )  # fmt: skip


def _rows(costs: Sequence[OperatorCost], question: Question, target: Target) -> list[OperatorPrice]:
    """In the order of the network; of a list each operator once."""
    tensors = [node.output for node in question.graph.nodes]
    counts = Counter(cost.op for cost in costs) if question.listed else None
    total = sum(cost.latency_ns for cost in costs if cost.label != "missing")
    rows = []
    for cost, tensor in zip(costs, tensors, strict=True):
        if counts is None:
            rows.append(_row(cost, tensor, 1, total, target))
        elif count := counts.pop(cost.op, 0):
            rows.append(_row(cost, "", count, total, target))
    return rows


def _row(cost: OperatorCost, tensor: str, count: int, total_ns: float, target: Target) -> OperatorPrice:
    """A target's own rows are labelled by what its table holds: measured, emulated, simulated or imported."""
    known = None if math.isnan(cost.latency_ns) else cost.latency_ns * count
    label: Any = target.source if cost.label == "measured" else cost.label
    share = None if known is None else known / total_ns if total_ns else 0.0
    return OperatorPrice(key=cost.op.key, tensor=tensor, count=count, latency_ns=known, label=label, share=share)


def _incomplete(
    lacking: NetworkPrice | None, prices: Sequence[NetworkPrice], parsed: Parsed, estimate: bool, partial: BaseModel
) -> Problem:
    """What has no price, and all that has one."""
    missing = list(dict.fromkeys(key for one in prices for key in one.missing))
    extra = {
        "missing": missing, "measure_with": lacking.measure_with if lacking else None,
        "unknown": [asdict(node) for node in parsed.unknown], "partial": partial.model_dump(),
    }  # fmt: skip
    if lacking is None:
        detail = f"every node must be one that is known, but {len(parsed.unknown)} are not; see unknown and partial"
        return Problem(422, "Nodes without a price", detail, "unknown-nodes", extra)
    advice = "" if estimate else "; estimate prices what lies beyond the measured sizes"
    detail = f"every operator must have a price, but {len(lacking.missing)} have none on {lacking.target!r}"
    return Problem(
        422, "Operators without a price", f"{detail}; {lacking.measure_with}{advice}", "missing-operators", extra
    )


def _uj(energy_mj: float | None) -> float | None:
    return None if energy_mj is None else energy_mj * 1e3
