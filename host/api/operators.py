"""Operators of a table, page by page: of one type, of some sizes, in some state."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, tagged, unchanged
from host.api.problems import Problem, answers
from host.api.schemas import EPOCH_S, OP_KEY, TargetId, example
from host.api.service import Serving
from lut_db.lookups import LookupStore, OperatorRow
from lut_db.records import Target

router = APIRouter(prefix="/v1", tags=["operators"], dependencies=[READ], responses=answers(404))

CHUNK = 1000
LOOKED_AT = 20_000
"""Operators that one request looks at; where few fit, a page may be short and still have a next one."""

_SHAPE = re.compile(r"\((\d+(?:x\d+)*)")

Side = Annotated[int | None, Field(ge=1, le=1_000_000_000)]


class OperatorBody(BaseModel):
    """One native operator: what the engine runs, and what the table says of it."""

    model_config = example(
        key=OP_KEY, state="measured", latency_ns=151_200.0, mad_ns=310.0, samples=24, passes=2, label="measured",
        doubts=[], measured_at=EPOCH_S,
    )  # fmt: skip

    key: str
    state: Literal["measured", "doubtful", "quarantined"]
    latency_ns: float | None = Field(description="null where it cannot be measured")
    mad_ns: float | None
    samples: int
    passes: int
    label: str
    doubts: list[str]
    measured_at: float | None = Field(description="when it was last measured; seconds since the epoch, UTC")


class OperatorPage(BaseModel):
    """Operators in the order of their keys."""

    operators: list[OperatorBody]
    next: str | None = Field(description="the cursor of the next page; null on the last", examples=["Y29udjJk"])


class Wanted(BaseModel):
    """Which operators, and where to go on. Sides are those of the first input, N x C x H x W or N x C."""

    type: str = Field(default="", max_length=100, description="only of this type", examples=["conv2d"])
    contains: str = Field(default="", max_length=400, description="only keys with this text")
    state: Literal["measured", "doubtful", "quarantined"] | None = None
    min_channels: Side = None
    max_channels: Side = None
    min_size: Side = Field(default=None, description="of the larger of height and width")
    max_size: Side = None
    cursor: str = Field(default="", max_length=6000, description="`next` of the page before")
    limit: int = Field(default=100, ge=1, le=1000)

    def takes(self, key: str) -> bool:
        """Whether an operator has the text and the sides."""
        if self.contains not in key:
            return False
        found = _SHAPE.search(key)
        sides = [int(side) for side in found[1].split("x")] if found else []
        channels, size = (sides[1] if len(sides) > 1 else None), max(sides[2:], default=None)
        return _within(channels, self.min_channels, self.max_channels) and _within(size, self.min_size, self.max_size)


@router.get("/targets/{target_id}/operators", response_model=OperatorPage, responses=NOT_MODIFIED)
def list_operators(
    target_id: TargetId, request: Request, response: Response, service: Serving, wanted: Annotated[Wanted, Query()]
) -> Any:
    """What a table holds, operator by operator."""
    target = service.target(target_id)
    tag = service.store.lookups.version(target)
    if same := unchanged(request, tag):
        return same
    response.headers.update(tagged(tag))
    return _page(_rows(service.store.lookups, target, wanted), wanted)


def _page(rows: Iterator[OperatorRow], wanted: Wanted) -> OperatorPage:
    found: list[OperatorBody] = []
    last = ""
    for count, row in enumerate(rows):
        if len(found) == wanted.limit or count == LOOKED_AT:
            return OperatorPage(operators=found, next=_cursor(last))
        last = row.key
        if wanted.takes(row.key):
            found.append(_body(row))
    return OperatorPage(operators=found, next=None)


def _rows(lookups: LookupStore, target: Target, wanted: Wanted) -> Iterator[OperatorRow]:
    """All operators after a key, read in chunks as they are asked for."""
    after = _after(wanted.cursor)
    while part := lookups.page_operators(target, wanted.type, after, CHUNK, wanted.state or ""):
        yield from part
        after = part[-1].key


def _body(row: OperatorRow) -> OperatorBody:
    return OperatorBody(**row._asdict())


def _within(side: int | None, low: int | None, high: int | None) -> bool:
    """An axis that is not there is within nothing but no bounds."""
    if low is None and high is None:
        return True
    return side is not None and (low is None or side >= low) and (high is None or side <= high)


def _after(cursor: str) -> str:
    """The key that a cursor stands for. Raises Problem."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        detail = f"a cursor must be the `next` of a page, but got {cursor[:80]!r}"
        raise Problem(422, "Invalid request", detail, "invalid-cursor") from None


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()
