"""How much of a space's operators a table has, and what measures the rest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from host.accelerators import runnable
from host.api.access import READ
from host.api.answers import NOT_MODIFIED, json_bytes, unchanged
from host.api.columns import cheapest
from host.api.problems import answers
from host.api.schemas import OP_KEY, TARGET_ID, TargetId, example
from host.api.service import Service, Serving
from host.api.spaces import known_space
from lut_db.aggregate import is_clean
from lut_db.lut import how_to_measure
from lut_db.records import Target
from search.spaces import SPACES, space_named

router = APIRouter(prefix="/v1", tags=["explore"], dependencies=[READ], responses=answers(404))

LISTED = 200

State = Literal["measured", "doubtful", "quarantined", "missing"]


class TypeCoverage(BaseModel):
    """How many operators of one type a space has, and what a table knows of them."""

    type: str = Field(examples=["conv2d"])
    operators: int
    measured: int = Field(description="with a price that rests on clean measurements")
    doubtful: int = Field(description="with a price, but without a clean measurement")
    quarantined: int = Field(description="they cannot be measured there")
    missing: int


class ListedOperator(BaseModel):
    """An operator that is not plainly measured."""

    key: str = Field(examples=[OP_KEY])
    why: str = Field(description="the doubts, or the reason of the quarantine; empty for a missing one")


class Coverage(BaseModel):
    """How much of a space's operators a table has."""

    model_config = example(
        target=TARGET_ID, space="mbconv", dtype="float32",
        types=[{"type": "conv2d", "operators": 107, "measured": 100, "doubtful": 1, "quarantined": 0, "missing": 6}],
        doubtful=[{"key": OP_KEY, "why": "throttled"}], quarantined=[], missing=[],
        measure="measure them with 'chamnet profile --device local-cpu --engine litert --space mbconv'",
    )  # fmt: skip

    target: str
    space: str
    dtype: str
    types: list[TypeCoverage]
    doubtful: list[ListedOperator] = Field(description=f"the first {LISTED}, as of the next two")
    quarantined: list[ListedOperator]
    missing: list[ListedOperator]
    measure: str = Field(description="what to do about those that are missing; empty where none is")


class Judged(NamedTuple):
    """An operator of a space, and what a table knows of it."""

    type: str
    key: str
    state: State
    why: str = ""


@router.get("/targets/{target_id}/coverage", response_model=Coverage, responses=NOT_MODIFIED)
def get_coverage(
    request: Request, target_id: TargetId, service: Serving,
    space: Annotated[str, Query(max_length=100, examples=["mbconv"])],
) -> Response:  # fmt: skip
    """How much of a space a table has: measured, doubtful, quarantined and missing operators by type."""
    target, name = service.target(target_id), known_space(space).name
    tag = f"{service.store.lookups.version(target)}-{name}"
    if (same := unchanged(request, tag)) is not None:
        return same
    return json_bytes(_coverage(service, target, name).model_dump_json().encode(), tag)


def _coverage(service: Service, target: Target, space: str) -> Coverage:
    judged = list(_judge(service, target, space))
    missing = any(row.state == "missing" for row in judged)
    advice = how_to_measure(target).replace("--ops FILE", f"--space {space}") if missing else ""
    types = [
        _count(type, [row for row in judged if row.type == type]) for type in dict.fromkeys(r.type for r in judged)
    ]
    return Coverage(
        target=target.id, space=space, dtype=target.dtype, types=types, measure=advice,
        doubtful=_listed(judged, "doubtful"), quarantined=_listed(judged, "quarantined"),
        missing=_listed(judged, "missing"),
    )  # fmt: skip


def _judge(service: Service, target: Target, space: str) -> Iterator[Judged]:
    """Every operator of a space. One that became something quarantined counts as that."""
    keys = _operators(space, target.dtype)
    cannot = {**_refused(target.accelerator, space, target.dtype), **_quarantined(service, target)}
    found = service.store.lookups.lookup(target, keys)
    for key, known in zip(keys, found, strict=True):
        type, price = key.partition("(")[0], cheapest(known)
        if price is not None:
            yield Judged(type, key, "measured" if is_clean(price.doubts) else "doubtful", " ".join(price.doubts))
        else:
            yield Judged(type, key, "quarantined" if key in cannot else "missing", cannot.get(key, ""))


def _quarantined(service: Service, target: Target) -> dict[str, str]:
    """Operators that cannot be measured, by key, or that become something that cannot, and why."""
    natives = {row.op_key: f"{row.reason}: {row.message}" for row in service.store.quarantined(target).values()}
    if not natives:
        return {}
    lowered = service.store.lowerings(target).values()
    through = {row.op_key: natives[key] for row in lowered for key in row.natives if key in natives}
    return {**through, **natives}


@lru_cache(maxsize=4 * len(SPACES))
def _operators(space: str, dtype: str) -> tuple[str, ...]:
    """Keys of every operator of a space: seconds for a large one, so they are kept."""
    return tuple(op.key for op in space_named(space).operators(dtype))


@lru_cache(maxsize=4 * len(SPACES))
def _refused(accelerator: str, space: str, dtype: str) -> dict[str, str]:
    """Operators of a space that an accelerator cannot run, by key, and why."""
    return {} if accelerator == "cpu" else runnable(accelerator, space_named(space).operators(dtype))[1]


def _count(type: str, rows: list[Judged]) -> TypeCoverage:
    states = [row.state for row in rows]
    return TypeCoverage(
        type=type, operators=len(rows), measured=states.count("measured"), doubtful=states.count("doubtful"),
        quarantined=states.count("quarantined"), missing=states.count("missing"),
    )  # fmt: skip


def _listed(judged: list[Judged], state: State) -> list[ListedOperator]:
    return [ListedOperator(key=row.key, why=row.why) for row in judged if row.state == state][:LISTED]
