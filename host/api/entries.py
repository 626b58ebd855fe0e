"""Entries of a table: what single operators cost, by key, one or ten thousand in a request.

A lookup takes microseconds, so it is made where the request is read; only large batches go to a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, json_bytes, unchanged
from host.api.limits import check_batch
from host.api.problems import Problem, answers
from host.api.schemas import OP_KEY, TARGET_ID, OpKey, TargetId, example
from host.api.service import Service, Serving, current_service
from lut_db.lut import how_to_measure
from lut_db.prices import Found, Price
from lut_db.records import Target

router = APIRouter(prefix="/v1", tags=["entries"], dependencies=[READ], responses=answers(404))

FEW = 200
"""Keys that are looked up in less time than it takes to go to a thread and back."""

_PRICE = {
    "context": "*", "latency_ns": 151_200.0, "mad_ns": 310.0, "samples": 24, "passes": 2, "energy_uj": None,
    "label": "measured", "doubts": [], "natives": [OP_KEY],
}  # fmt: skip
_ENTRY = {"key": OP_KEY, "contexts": [_PRICE]}


class PriceRow(BaseModel):
    """What an operator costs in one context."""

    model_config = example(**_PRICE)

    context: str = Field(
        description="how its inputs lie in memory and what reads its output, as far as the engine minds; `*` where it "
        "does not, empty for what the engine itself runs"
    )
    latency_ns: float
    mad_ns: float = Field(description="median absolute deviation; of several native operators, the sum")
    samples: int
    passes: int = Field(description="measurements it rests on; of several native operators, those of the fewest")
    energy_uj: float | None
    label: str = Field(description="measured, emulated, simulated or imported")
    doubts: list[str] = Field(description="reasons to mistrust it")
    natives: list[str] = Field(description="what the engine runs for it, by key")


class EntryRow(BaseModel):
    """An operator's price in every context that is known."""

    model_config = example(**_ENTRY)

    key: str
    contexts: list[PriceRow] = Field(min_length=1)


class EntryBatch(BaseModel):
    """Operators to look up."""

    model_config = example(keys=[OP_KEY])

    keys: list[str] = Field(min_length=1, description="of operators or native operators; at most 10,000 by default")


class EntryList(BaseModel):
    """Entries in the order of the keys; null where a table has none."""

    model_config = example(target=TARGET_ID, missing=1, entries=[_ENTRY, None])

    target: str = Field(description="the target's `id`")
    missing: int = Field(description="number of keys without an entry")
    entries: list[EntryRow | None]


@router.get("/targets/{target_id}/entries", response_model=EntryRow, responses=NOT_MODIFIED)
async def get_entry(
    target_id: TargetId, key: OpKey, request: Request,
    context: Annotated[str | None, Query(max_length=400, description="only in this context")] = None,
) -> Response:  # fmt: skip
    """What one operator costs."""
    service = current_service(request)
    target, lookups = service.target(target_id), service.store.lookups
    tag = lookups.version(target)
    if same := unchanged(request, tag):
        return same
    found = lookups.lookup(target, (key,))[0]
    if found is None:
        raise_unknown(service, target, key)
    return json_bytes(to_json(_as_json(found if context is None else _within(found, context))), tag)


@router.post("/targets/{target_id}/entries", response_model=EntryList)
async def get_entries(target_id: TargetId, batch: EntryBatch, service: Serving) -> Response:
    """What many operators cost."""
    check_batch(len(batch.keys), service.config.max_batch, "keys")
    target = service.target(target_id)
    if len(batch.keys) <= FEW:
        return json_bytes(_looked_up(service, target, batch.keys))
    return json_bytes(await to_thread.run_sync(_looked_up, service, target, batch.keys, limiter=service.in_turn))


def raise_unknown(service: Service, target: Target, key: str) -> NoReturn:
    """Raises the Problem of an operator that a table does not have: why, and what to do."""
    refused = service.store.quarantined(target).get(key)
    why = f": {refused.reason}, {refused.message}" if refused else f"; {how_to_measure(target)}"
    detail = f"an operator must be in the table of {target.name!r}, but got {key[:200]!r}{why}"
    raise Problem(404, "Unknown operator", detail, "unknown-operator", {"missing": [key[:2000]]})


def _looked_up(service: Service, target: Target, keys: Sequence[str]) -> bytes:
    found = service.store.lookups.lookup(target, keys)
    rows = [None if one is None else _as_json(one) for one in found]
    return to_json({"target": target.id, "missing": rows.count(None), "entries": rows})


def _within(found: Found, context: str) -> Found:
    prices = tuple(price for price in found.contexts if price.context == context)
    if not prices:
        known = [price.context for price in found.contexts]
        detail = f"a context of {found.key!r} must be one of {', '.join(map(repr, known))}, but got {context!r}"
        raise Problem(404, "Unknown context", detail, "unknown-context", {"known": known})
    return Found(found.key, prices)


def _as_json(found: Found) -> Mapping[str, Any]:
    """Without a model in between, which would take longer than the look-up."""
    return {"key": found.key, "contexts": [dict(zip(Price._fields, price, strict=True)) for price in found.contexts]}
