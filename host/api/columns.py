"""One operator type as columns of numbers to draw: what its operators are, compute, move and cost.

Prices are those of operators, whatever an engine runs for them: each in the cheapest context that it was seen in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, json_bytes, unchanged
from host.api.drawn import AXES, Drawn, chosen, drawn
from host.api.problems import Problem, answers
from host.api.schemas import OP_KEY, TARGET_ID, TargetId, example
from host.api.service import Service, Serving
from lut_db.prices import Found, Price
from lut_db.records import Target
from ops_catalog import ops

router = APIRouter(prefix="/v1", tags=["explore"], dependencies=[READ], responses=answers(404))

MOST_DRAWN = 20_000
USUALLY_DRAWN = 5_000

Axis = Literal["in_channels", "out_channels", "height", "width", "kernel", "stride", "groups"]
Fixed = Annotated[int | None, Query(ge=0, le=1 << 31, description="only operators with this number")]


class TypeCount(BaseModel):
    """An operator type that a table knows."""

    type: str = Field(examples=["conv2d"])
    operators: int = Field(examples=[107])


class TypeList(BaseModel):
    """The operator types of a table, the most frequent first."""

    types: list[TypeCount]


class Facet(BaseModel):
    """A number that operators have, and the values it takes."""

    axis: str = Field(examples=["kernel"])
    values: list[int] = Field(examples=[[1, 3, 5]])


class Columns(BaseModel):
    """Operators of one type: the n-th of every column is of the n-th operator, null where it has no such number."""

    model_config = example(
        target=TARGET_ID, type="conv2d", known=107, fitting=1, facets=[{"axis": "kernel", "values": [1]}],
        steps={"out": 16}, key=[OP_KEY], in_channels=[96], out_channels=[480], height=[14], width=[14], kernel=[1],
        stride=[1], groups=[1], rest=["activation=relu6"], line=[0], macs=[9031680], bytes=[637824],
        latency_ns=[141000.0], mad_ns=[800.0], doubts=[""], label=["measured"],
    )  # fmt: skip

    target: str
    type: str
    known: int = Field(description="operators of the type in the table")
    fitting: int = Field(description="those that have the fixed numbers; the columns have fewer where limited")
    facets: list[Facet] = Field(description="what can be fixed, of all operators of the type")
    steps: dict[str, int] = Field(description="in which steps channels are computed, by side (in, out), where known")
    key: list[str]
    in_channels: list[int | None]
    out_channels: list[int | None]
    height: list[int | None]
    width: list[int | None]
    kernel: list[int | None]
    stride: list[int | None]
    groups: list[int | None]
    rest: list[str] = Field(description="what else sets an operator apart")
    line: list[int] = Field(description="operators with the same number differ along the axis only")
    macs: list[int]
    bytes: list[int] = Field(description="inputs, weights and output, each once")
    latency_ns: list[float]
    mad_ns: list[float]
    doubts: list[str] = Field(description="separated by spaces")
    label: list[str]


@router.get("/targets/{target_id}/types")
def list_types(target_id: TargetId, service: Serving) -> TypeList:
    """The operator types of a table, and how many operators of each it knows."""
    found = _keys_by_type(service, service.target(target_id))
    counts = [TypeCount(type=type, operators=len(keys)) for type, keys in found.items()]
    return TypeList(types=sorted(counts, key=lambda row: (-row.operators, row.type)))


@router.get("/targets/{target_id}/columns", response_model=Columns, responses=NOT_MODIFIED)
def get_columns(
    request: Request, target_id: TargetId, service: Serving,
    type: Annotated[str, Query(max_length=100, examples=["conv2d"])],
    along: Annotated[Axis, Query(description="the axis whose longest lines come first")] = "in_channels",
    limit: Annotated[int, Query(ge=1, le=MOST_DRAWN)] = USUALLY_DRAWN,
    in_channels: Fixed = None, out_channels: Fixed = None, height: Fixed = None, width: Fixed = None,
    kernel: Fixed = None, stride: Fixed = None, groups: Fixed = None,
) -> Response:  # fmt: skip
    """Operators of one type as columns of numbers."""
    target = service.target(target_id)
    asked = dict(zip(AXES, (in_channels, out_channels, height, width, kernel, stride, groups), strict=True))
    tag = f"{service.store.lookups.version(target)}-{_digest(type, along, limit, *asked.values())}"
    if (same := unchanged(request, tag)) is not None:
        return same
    rows = _rows(service, target, type)
    fitting = chosen(rows, {axis: value for axis, value in asked.items() if value is not None}, along)
    steps = {side: step for (op_type, side), step in service.store.staircases(target).items() if op_type == type}
    facts = {"target": target.id, "type": type, "known": len(rows), "fitting": len(fitting), "steps": steps}
    columns = _columns(fitting[:limit], _prices(service, target, fitting[:limit]), along)
    body = Columns.model_validate({**facts, "facets": _facets(rows), **columns})
    return json_bytes(body.model_dump_json().encode(), tag)


def cheapest(found: Found | None) -> Price | None:
    """The price in the cheapest context; None where there is none."""
    return min(found.contexts, key=lambda price: price.latency_ns, default=None) if found else None


def _digest(*asked: object) -> str:
    """Of what was asked, in letters that a header may hold."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def _keys_by_type(service: Service, target: Target) -> Mapping[str, Sequence[str]]:
    """The operators that a table knows, each once; kept until the table changes."""

    def listed() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key in dict.fromkeys(row.op_key for row in service.store.lowerings(target).values()):
            found.setdefault(key.partition("(")[0], []).append(key)
        return found

    version = service.store.lookups.version(target)
    return service.fits.get(("operators", target.id, version), listed)


def _rows(service: Service, target: Target, type: str) -> list[Drawn]:
    """All operators of a type, kept until the table changes. Raises Problem."""
    known = _keys_by_type(service, target)
    if type not in known:
        detail = (
            f"an operator type of {target.name!r} must be one of {', '.join(known) or 'none yet'}, but got {type!r}"
        )
        raise Problem(404, "Unknown operator type", detail, "unknown-type", {"known": list(known)})
    key = ("drawn", target.id, service.store.lookups.version(target), type)
    return service.fits.get(key, lambda: [row for key in known[type] if (row := drawn(key)) is not None])


def _prices(service: Service, target: Target, rows: Sequence[Drawn]) -> list[Price | None]:
    return [cheapest(found) for found in service.store.lookups.lookup(target, [row.key for row in rows])]


def _columns(rows: Sequence[Drawn], prices: Sequence[Price | None], along: str) -> dict[str, Sequence[object]]:
    """The columns of the operators that have a price."""
    priced = [(row, price) for row, price in zip(rows, prices, strict=True) if price is not None]
    lines: dict[object, int] = {}
    return {
        **{axis: [row.numbers[place] for row, _ in priced] for place, axis in enumerate(AXES)},
        "key": [row.key for row, _ in priced],
        "rest": [row.rest for row, _ in priced],
        "line": [lines.setdefault(row.line(along), len(lines)) for row, _ in priced],
        "macs": [ops.macs(row.op) for row, _ in priced],
        "bytes": [ops.bytes_moved(row.op) for row, _ in priced],
        "latency_ns": [price.latency_ns for _, price in priced],
        "mad_ns": [price.mad_ns for _, price in priced],
        "doubts": [" ".join(price.doubts) for _, price in priced],
        "label": [price.label for _, price in priced],
    }


def _facets(rows: Sequence[Drawn]) -> list[Facet]:
    found = {axis: {row.numbers[place] for row in rows} for place, axis in enumerate(AXES)}
    known = {axis: sorted(value for value in values if value is not None) for axis, values in found.items()}
    return [Facet(axis=axis, values=values) for axis, values in known.items() if values]
