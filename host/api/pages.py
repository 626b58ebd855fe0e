"""The dashboard's files at ``/``, and the charting library out of its installed package: no CDN, no build step."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from host.api.access import UNDER

FOLDER = Path(__file__).parent / "dashboard"
LIBRARY = "plotly"
LIBRARY_FILE = "package_data/plotly.min.js"
FOR_EVER = "public, max-age=31536000, immutable"


def add_pages(app: FastAPI) -> None:
    """Serves the dashboard wherever no other path matches. A folder that is missing or empty is a plain 404."""
    app.add_api_route("/vendor/plotly.min.js", to_library, include_in_schema=False)
    app.add_api_route("/vendor/plotly-{number}.min.js", library, include_in_schema=False)
    app.router.default = Pages(StaticFiles(directory=FOLDER, html=True, check_dir=False))


class Pages:
    """ASGI: files for all paths but those of the API, whose unknown paths have their own 404."""

    def __init__(self, files: ASGIApp) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith((f"{UNDER}/", "/vendor/")) or not FOLDER.is_dir():
            raise HTTPException(404)
        await self._files(scope, receive, send)


async def to_library() -> Response:
    """To the address that has the version in it, which may be kept for ever."""
    return RedirectResponse(f"/vendor/plotly-{version(LIBRARY)}.min.js", headers={"Cache-Control": "no-cache"})


async def library(request: Request, number: str) -> Response:
    """The charting library, compressed where that is taken."""
    if number != version(LIBRARY):
        raise HTTPException(404)
    headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(await run_in_threadpool(_library), media_type="text/javascript", headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(await run_in_threadpool(_compressed), media_type="text/javascript", headers=headers)


def _library() -> bytes:
    """Without importing the package, whose import alone would take a second."""
    spec = find_spec(LIBRARY)
    if spec is None or spec.origin is None:
        raise HTTPException(404)
    return (Path(spec.origin).parent / LIBRARY_FILE).read_bytes()


@cache
def _compressed() -> bytes:
    return gzip.compress(_library(), 6, mtime=0)
