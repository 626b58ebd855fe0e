"""What a service refuses before it looks at it: bodies that are too large, requests that are too many, other hosts'
names; and the headers that bind a browser. All plain ASGI: nothing is buffered, nothing copied.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from host.api.problems import Problem, response_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIB = 1024 * 1024
JSON_MIB = 16
UPLOADS = ("/v1/predictions/model", "/v1/imports")
"""Paths that take files; every other body is JSON, and small."""

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """ASGI middleware: adds SECURITY, and what may be kept, to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._raw = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *self._raw, *_keeping(names)]
            await send(message)

        await self._app(scope, receive, sealed)


def _keeping(names: set[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """What has an ETag is asked for again each time, all else is not kept; unless the answer says otherwise."""
    if b"cache-control" not in names:
        yield b"cache-control", b"private, no-cache" if b"etag" in names else b"no-store"


class AllowedHosts:
    """ASGI middleware: refuses what a browser was led to by another name (DNS rebinding).

    Names are compared without port; on other than loopback addresses a plain IP address is taken, too, since no name
    was resolved then.
    """

    def __init__(self, app: ASGIApp, host: str, loopback: bool, allowed: Iterable[str]) -> None:
        self._app = app
        own = (host,) if loopback else (host, socket.gethostname())
        self._names = {name.lower() for name in (*LOOPBACK, *own, *allowed)}
        self._addresses = not loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_allowed(host_of(Headers(scope=scope).get("host", ""))):
            detail = f"Host must be one of {', '.join(sorted(self._names))}; allow another with --allow-host"
            await response_of(Problem(400, "Unknown host", detail, "unknown-host"))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, name: str) -> bool:
        return name in self._names or (self._addresses and _is_address(name))


def host_of(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


class BodyLimit:
    """ASGI middleware: refuses a body by its declared length, and one that turns out larger while it is read."""

    def __init__(self, app: ASGIApp, upload_mb: int) -> None:
        self._app = app
        self._upload_mb = upload_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        limit = (self._upload_mb if scope["path"] in UPLOADS else JSON_MIB) * MIB
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            problem = Problem(
                413, "Body too large", _too_large(limit), "body-too-large", headers={"Connection": "close"}
            )
            await response_of(problem)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise HTTPException(413, _too_large(limit), {"Connection": "close"})
        return message

    return counted


def _too_large(limit: int) -> str:
    advice = "split it" if limit == JSON_MIB * MIB else "split it, or serve with --max-upload-mb"
    return f"a body must be at most {limit // MIB} MiB here, but is larger; {advice}"


def check_batch(count: int, most: int, what: str) -> None:
    """Raises Problem for more than a request may ask at once."""
    if count > most:
        detail = f"a request must have at most {most} {what}, but got {count}; send several"
        raise Problem(422, "Too much at once", detail, "batch-too-large", {"at_most": most})


class TokenBuckets:
    """Requests a second for each name, twice as many at once after a pause.

    Args:
        rate: requests a second; 0 for no limit.
    """

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float:
        """Takes a request; returns 0, or the seconds to wait where there is none."""
        if not self.rate:
            return 0.0
        now = self._now()
        left, at = self._left.get(name, (2 * self.rate, now))
        left = min(2 * self.rate, left + (now - at) * self.rate)
        taken = left >= 1
        self._left[name] = (left - taken, now)
        return 0.0 if taken else (1 - left) / self.rate


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
