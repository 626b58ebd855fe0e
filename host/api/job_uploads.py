"""Takes a table that is uploaded: to a file of a name of its own, never held in memory, told apart by its content."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from host.api.problems import Problem
from host.api.uploads import ParseLimits, stalled

PARQUET = b"PAR1"
HEAD_BYTES = 64
UPLOAD_S, IDLE_S = ParseLimits().upload_s, ParseLimits().idle_s


async def receive_table(request: Request, folder: Path) -> tuple[Path, int]:
    """Writes the body to a file of a name of its own, which tells what it holds. Raises Problem."""
    path, size_bytes, head = folder / f"{uuid.uuid4().hex}.part", 0, b""
    try:
        with path.open("xb") as file:
            async with asyncio.timeout(UPLOAD_S):
                async for chunk in _in_time(request.stream()):
                    await run_in_threadpool(file.write, chunk)
                    head, size_bytes = head + chunk[: HEAD_BYTES - len(head)], size_bytes + len(chunk)
        return path.rename(path.with_suffix(_suffix(head))), size_bytes
    except TimeoutError:
        path.unlink(missing_ok=True)
        raise stalled(UPLOAD_S) from None
    except ClientDisconnect:
        path.unlink(missing_ok=True)
        raise Problem(400, "Upload incomplete", "a table must come whole, but its upload ended early") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _in_time(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same. Raises TimeoutError where the next does not come."""
    while True:
        async with asyncio.timeout(IDLE_S):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


def _suffix(head: bytes) -> str:
    """What a file begins like. Raises Problem."""
    if head.startswith(PARQUET):
        return ".parquet"
    if head.lstrip().startswith(b"{"):
        return ".jsonl"
    detail = f"a table must be JSON Lines or Parquet, but begins with {head[:16]!r}; export one to see what it is like"
    raise Problem(415, "Not a table", detail, "not-a-table")
