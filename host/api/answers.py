"""Answers that are bytes already; ETags and 304."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

JSON = "application/json"
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "What If-None-Match names is still what would be sent."}
}
"""What ``responses`` of a path with an ETag declares."""


def unchanged(request: Request, tag: str) -> Response | None:
    """The answer to a caller who has it already; None where it must be sent."""
    sent = request.headers.get("if-none-match")
    if sent is None:
        return None
    known = {one.strip().removeprefix("W/").strip('"') for one in sent.split(",")}
    return Response(status_code=304, headers=tagged(tag)) if tag in known or "*" in known else None


def json_bytes(content: bytes, tag: str = "") -> Response:
    """JSON that is written already."""
    return Response(content, media_type=JSON, headers=tagged(tag) if tag else None)


def tagged(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"'}
