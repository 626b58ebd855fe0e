"""Whole tables as files: written to a temporary one in the format of ``lut_db.exchange``, sent from there piece by
piece, removed afterwards; memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as File
from tempfile import TemporaryDirectory
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from host.api.access import READ
from host.api.answers import NOT_MODIFIED, tagged, unchanged
from host.api.problems import answers
from host.api.schemas import TargetId
from host.api.service import Serving
from lut_db.exchange import export_target

router = APIRouter(prefix="/v1", tags=["targets"], dependencies=[READ], responses=answers(404))

MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}
PIECE_BYTES = 1 << 18
_CONTENT = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": _CONTENT, "description": "The table; its ETag begins with the table's digest."}
}


@router.get(
    "/targets/{target_id}/table.{format}", response_class=StreamingResponse, responses={**_FILE, **NOT_MODIFIED}
)
def export_table(
    target_id: TargetId, format: Literal["csv", "jsonl", "parquet"], request: Request, service: Serving
) -> Response:
    """A whole table: entries as CSV, or everything down to the raw samples as JSON Lines or Parquet."""
    target = service.target(target_id)
    tag = f"{service.digest(target)}.{service.store.lookups.version(target)}"
    if same := unchanged(request, tag):
        return same
    folder = TemporaryDirectory(prefix="chamnet-table-")
    path = File(folder.name) / f"table.{format}"
    export_target(service.store, target, path)
    headers = {
        **tagged(tag),
        "Content-Length": str(path.stat().st_size),
        "Content-Disposition": f'attachment; filename="{target.id}.{format}"',
    }
    return StreamingResponse(_pieces(folder, path), media_type=MEDIA_TYPES[format], headers=headers)


def _pieces(folder: TemporaryDirectory[str], path: File) -> Iterator[bytes]:
    """The file, which ends with what is sent of it, or with this generator where nobody asks on."""
    with folder, path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
