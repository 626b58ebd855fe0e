"""Errors as RFC 9457 problem documents: which status, what must hold, and what is known instead.

Nothing of a program's inside reaches a caller: an unexpected error is a plain 500, its trace goes to the log.

References:
    Nottingham, Wilde, Dalal: RFC 9457, Problem Details for HTTP APIs, 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from host.errors import DeviceUnavailable, HostError
from lut_db.errors import LutError, NotADatabase, SchemaError, StoreUnavailable
from lut_db.leases import LeaseHeld
from lut_db.lut import MissingOpsError, how_to_measure
from ops_catalog.spec import SpecError

MEDIA_TYPE = "application/problem+json"
SCHEMA = "#/components/schemas/ProblemDocument"
TYPES = "urn:chamnet:problem:"
SHOWN = 20
"""Errors of a request's fields that are told at once."""

MEANINGS = {
    400: "The request cannot be read, or its Host is none of this service's.",
    401: "A token is needed, or the one sent is unknown or revoked.",
    403: "The token may not write.",
    404: "There is nothing of that name; what is known is listed.",
    405: "The method is none of this path's.",
    408: "The body did not come in time.",
    409: "The state of things forbids it now.",
    413: "The body is larger than allowed.",
    415: "The body is of another kind than the path reads.",
    422: "The request cannot be meant as it stands; `errors` or `detail` say where.",
    429: "Too many requests with this token; `Retry-After` says when the next is taken.",
    500: "An error of the service, told in its log.",
    503: "The database or a device cannot be reached now.",
}


class Problem(Exception):
    """What a caller is told instead of an answer.

    Args:
        title: the same for every problem of the type.
        detail: what must hold, what was got, what to do.
        type: a short name for programs, such as ``unknown-target``; empty where the status says it all.
        extra: members of the document beside these.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        type: str = "",
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.type = status, title, detail, type
        self.extra, self.headers = dict(extra or {}), dict(headers or {})


class FieldError(BaseModel):
    """One place of a request that cannot be meant."""

    at: str = Field(description="where: `query.limit`, `body.keys.3`", examples=["query.limit"])
    reason: str = Field(examples=["Input should be less than or equal to 1000"])


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457); some types add members of their own, such as `known` or `missing`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:chamnet:problem:unknown-target", "title": "Unknown target", "status": 404,
                    "detail": "a target must be one of those known, but got 'pixel9'; see /v1/targets",
                    "known": [{"id": "0d6fbd4a2ef1", "name": "local-cpu/litert-2.3.0/cpu/float32/t1"}],
                }
            ]
        },
    )  # fmt: skip

    type: str = Field(default="about:blank", description="names the kind of problem for programs")
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] | None = Field(default=None, description="where the request is wrong")


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What ``responses`` of a path or router declares for these statuses; all are problem documents."""
    content = {MEDIA_TYPE: {"schema": {"$ref": SCHEMA}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


def response_of(problem: Problem) -> Response:
    body = {
        "type": TYPES + problem.type if problem.type else "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extra,
    }
    content = json.dumps(body)  # in ASCII: what it repeats of a request may be half a character
    return Response(content, problem.status, problem.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem that an expected error of ours is."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MissingOpsError):
        return _missing(error)
    if isinstance(error, LeaseHeld):
        return Problem(409, "Device in use", str(error), "device-in-use")
    if isinstance(error, StoreUnavailable | NotADatabase | SchemaError):
        return Problem(503, "Database unavailable", _without_place(error), "database-unavailable")
    if isinstance(error, DeviceUnavailable):
        return Problem(503, "Device unavailable", str(error), "device-unavailable")
    title, type = ("Not a valid operator or network", "invalid-spec")
    if not isinstance(error, SpecError):
        title, type = "The request cannot be met", "cannot-be-met"
    return Problem(422, title, str(error), type)


def add_handlers(app: FastAPI) -> None:
    """Makes every error of an application a problem document."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_driver)
    app.add_exception_handler(UnicodeEncodeError, _on_half_character)
    app.add_exception_handler(Exception, _on_unexpected)
    for kind in (Problem, LutError, SpecError, HostError):
        app.add_exception_handler(kind, _on_expected)


async def on_invalid(request: Request, error: Exception) -> Response:
    """What of a request is wrong, field by field."""
    assert isinstance(error, RequestValidationError)
    told = error.errors()
    errors = [{"at": _place(row["loc"]), "reason": _reason(row)} for row in told[:SHOWN]]
    detail = "; ".join(f"{row['at']}: {row['reason']}" for row in errors[:3])
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return response_of(Problem(422, "Invalid request", detail + more, "invalid-request", {"errors": errors}))


async def _on_expected(request: Request, error: Exception) -> Response:
    return response_of(problem_of(error))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, headers = HTTPStatus(error.status_code).phrase, dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers["Allow"] = ", ".join(allowed)
    detail = error.detail if error.detail != title else _advice(request, error.status_code, headers)
    return response_of(Problem(error.status_code, title, detail, headers=headers))


def _allowed(request: Request) -> list[str]:
    """The methods of a path, which may be those of several routes."""
    path = request.scope["path"]
    return sorted(
        {method for pattern, methods in request.app.state.methods if pattern.match(path) for method in methods}
    )


async def _on_driver(request: Request, error: Exception) -> Response:
    detail = "the database must be readable and writable, but its driver refuses; see the service's log"
    return response_of(Problem(503, "Database unavailable", detail, "database-unavailable"))


async def _on_half_character(request: Request, error: Exception) -> Response:
    """JSON can spell halves of characters, which no database takes."""
    detail = "a text must be of whole characters, but got half of one (a lone surrogate)"
    return response_of(Problem(422, "Invalid request", detail, "invalid-request"))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    from host.api.limits import SECURITY

    response = response_of(Problem(500, "Internal error", "an error of the service, told in its log"))
    response.headers.update(SECURITY)
    return response


def _missing(error: MissingOpsError) -> Problem:
    extra = {"missing": [op.key for op in error.operators], "measure_with": how_to_measure(error.target)}
    return Problem(422, "Operators without a price", str(error), "missing-operators", extra)


def _without_place(error: LutError) -> str:
    """The reason without the path of the database, which is nobody's business."""
    return "the database must " + str(error).partition(" must ")[2] if " must " in str(error) else str(error)


def _advice(request: Request, status: int, headers: Mapping[str, str]) -> str:
    if status == 404:
        return "nothing is at this path; /v1/openapi.json lists what is"
    if status == 405:
        return f"this path takes {headers.get('Allow', 'other methods')}, but got {request.method}"
    return ""


def _place(location: Sequence[Any]) -> str:
    return ".".join(map(str, location))


def _reason(row: Mapping[str, Any]) -> str:
    reason = str(row["msg"])
    told = (row.get("ctx") or {}).get("error")
    return f"{reason}: {told}" if isinstance(told, str) else reason
