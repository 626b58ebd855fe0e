"""Who may do what: bearer tokens, checked before anything of a request is read.

A service on a loopback address, without another name, is open for reading; writing needs a token that may write. On
any other, everything under ``/v1`` needs a token, ``/v1/health`` and ``/v1/health/ready`` apart. A token that is sent
must be valid in every case.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from host.api.limits import TokenBuckets
from host.api.problems import Problem, problem_of, response_of
from lut_db.errors import LutError
from lut_db.tokens import Token

UNDER = "/v1"
OPEN = (f"{UNDER}/health", f"{UNDER}/health/ready")
WRITES = "write"
_TOKEN = "chamnet.token"
_MAKE = "make one with 'chamnet token create NAME{}' and send it as 'Authorization: Bearer TOKEN'"

Handler = Callable[[Request, Exception], Awaitable[Response]]


class Access:
    """ASGI middleware: finds the token of a request, counts its requests, and refuses who may not read.

    Raises nothing; what is refused is answered.
    """

    def __init__(self, app: ASGIApp, reads_openly: bool, rate: float) -> None:
        self._app = app
        self._reads_openly = reads_openly
        self._buckets = TokenBuckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_under(scope["path"]):
            try:
                await self._admit(scope)
            except (Problem, LutError) as error:
                await response_of(problem_of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        sent = Headers(scope=scope).get("authorization")
        if sent is None:
            if not self._reads_openly and scope["path"] not in OPEN:
                raise _unauthorised(f"every request must have a token; {_MAKE.format('')}")
            return
        token = await _found(scope, sent)
        if wait_s := self._buckets.take(token.name):
            raise _too_many(token, self._buckets.rate, wait_s)
        scope[_TOKEN] = token


async def may_read(request: Request) -> None:
    """Declares that a path is read; ``Access`` has refused who may not."""


async def may_write(request: Request) -> None:
    """Raises Problem for a caller without a token that may write."""
    token = _token(request)
    if token is None:
        raise _unauthorised(f"writing must be allowed by a token; {_MAKE.format(' --scope write')}")
    if WRITES not in token.scopes:
        detail = f"token {token.name!r} must have the scope write, but has {' '.join(token.scopes)}"
        raise Problem(403, "Not allowed", f"{detail}; {_MAKE.format(' --scope write')}", "read-only-token")


READ = Depends(may_read)
WRITE = Depends(may_write)
SCHEME = {"type": "http", "scheme": "bearer", "description": "a token, made by 'chamnet token create'"}
"""What OpenAPI calls them."""


def caller(request: Request) -> str:
    """The name of the token of a request; "" where none was sent."""
    token = _token(request)
    return token.name if token else ""


def before(handler: Handler) -> Handler:
    """A handler of errors that come before a path's dependencies: who may not write is told so, and not the error."""

    async def handle(request: Request, error: Exception) -> Response:
        dependencies = getattr(request.scope.get("route"), "dependencies", ())
        if WRITE in dependencies:
            try:
                await may_write(request)
            except Problem as problem:
                return response_of(problem)
        return await handler(request, error)

    return handle


def _token(request: Request) -> Token | None:
    found: Token | None = request.scope.get(_TOKEN)
    return found


def _is_under(path: str) -> bool:
    return path == UNDER or path.startswith(f"{UNDER}/")


async def _found(scope: Scope, sent: str) -> Token:
    """The token of an Authorization header. Raises Problem."""
    kind, _, secret = sent.partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise _unauthorised("authorization must read 'Bearer TOKEN', but is of another kind")
    token: Token | None = await run_in_threadpool(scope["app"].state.service.store.tokens.find, secret.strip())
    if token is None:
        raise _unauthorised(f"a token must be known and not revoked; {_MAKE.format('')}")
    return token


def _unauthorised(detail: str) -> Problem:
    return Problem(401, "Token needed", detail, "token-needed", headers={"WWW-Authenticate": 'Bearer realm="chamnet"'})


def _too_many(token: Token, rate: float, wait_s: float) -> Problem:
    detail = f"token {token.name!r} may send {rate:g} requests a second, but sent more; wait {wait_s:.1f} s"
    seconds = str(max(1, round(wait_s + 0.5)))
    return Problem(429, "Too many requests", detail, "too-many-requests", headers={"Retry-After": seconds})
