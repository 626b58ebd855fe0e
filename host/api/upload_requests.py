"""What a request must be that brings a model: its kind, its length, its shapes, and that it comes whole."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request

from host.api.problems import Problem, answers

SHAPE = re.compile(r"(?P<name>.{1,500})=(?P<sides>\d{1,10}(x\d{1,10}){0,7})", re.ASCII | re.DOTALL)
OCTETS = "application/octet-stream"
ACCEPTED = {"required": True, "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
"""What OpenAPI says of an upload's body."""
REFUSALS: dict[int | str, dict[str, Any]] = answers(403, 415) | {
    status: {"description": text, "content": answers(415)[415]["content"]}
    for status, text in ((408, "The upload stalled."), (411, "The upload does not say how long it is."))
}


def size_of_upload(request: Request) -> int:
    """Bytes that a request announces. Raises Problem where they are none, of another kind, or compressed."""
    headers = request.headers
    kind, encoding = headers.get("content-type", OCTETS), headers.get("content-encoding", "identity")
    if kind.partition(";")[0].strip().lower() != OCTETS:
        raise _wrong_kind(f"a model must be sent as it is, as {OCTETS}, but got {kind[:80]!r}")
    if encoding.strip().lower() != "identity":
        raise _wrong_kind(f"a model must not be compressed, but got content-encoding {encoding[:80]!r}")
    size = headers.get("content-length", "")
    if not size.isdecimal():
        detail = "an upload must announce its Content-Length, but got none; send the file itself, not a stream"
        raise Problem(411, "Length required", detail)
    if int(size) == 0:
        raise Problem(422, "Not a model", "a model must be an ONNX or TFLite file, but got no bytes", "not-a-model")
    return int(size)


async def whole(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body. Raises Problem where the caller goes before its end."""
    try:
        async for piece in pieces:
            if piece:
                yield piece
    except ClientDisconnect:
        raise Problem(400, "Upload broken off", "an upload must come whole, but ended early; send it again") from None


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs from ``input=1x3x224x224``. Raises Problem."""
    found = {}
    for text in texts:
        match = SHAPE.fullmatch(text)
        if match is None:
            detail = f"a shape must read like input=1x3x224x224, but got {text[:80]!r}"
            raise Problem(422, "Invalid request", detail, "invalid-request")
        found[match["name"]] = tuple(map(int, match["sides"].split("x")))
    return found


def _wrong_kind(detail: str) -> Problem:
    return Problem(415, "Not a model's bytes", detail, "wrong-media-type")
