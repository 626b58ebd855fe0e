"""What is seen of requests: each has an id, is counted and timed, and is told in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from host.logs import REQUEST

HEADER = b"x-request-id"
SANE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Ids of callers that are taken over."""
UNKNOWN = "none"
"""What paths without a route are counted under: a caller must not be able to make new series."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

log = logging.getLogger("chamnet.requests")


class Measures:
    """Requests by method, route and status, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "chamnet_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "chamnet_request_seconds", "Time to the end of an answer", ["route"], registry=registry, buckets=SECONDS
        )


class Observed:
    """ASGI middleware, the outermost: an id for every request, which the answer carries."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER.decode(), "")
        id = sent if SANE.fullmatch(sent) else secrets.token_hex(8)
        REQUEST.set(id)
        status, began = 500, time.perf_counter()

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, numbered)
        finally:
            self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN)
        self._measures.requests.labels(scope["method"], route, str(status)).inc()
        self._measures.seconds.labels(route).observe(seconds)
        if log.isEnabledFor(logging.INFO):
            facts = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(1e3 * seconds, 2)}
            log.info("answered", extra={"facts": facts})
