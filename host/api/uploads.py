"""Uploaded models, parsed in processes that may do nothing else.

A model comes from outside: each is read by a child of its own (``parse_worker``), which has little memory and time, may
open nothing, and ends with it. Its bytes flow to the child as they arrive; what comes back is checked like any input.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from starlette.concurrency import run_in_threadpool

from host.api.parse_children import Nursery
from host.api.problems import Problem
from ops_catalog.graphfile import graph_from_json
from ops_catalog.parse import Parsed, UnknownNode

ANSWER_BYTES = 32 << 20
"""What a child may answer at most."""

MIB = 1 << 20
AGAIN = "; export it again, or ask 'chamnet predict' where the database is"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What parsing one model may take.

    Attributes:
        memory_mb: beyond what the child has after its imports; the file itself is in it.
        wall_s: from the upload's last byte to the answer.
        upload_s: for all of an upload.
        idle_s: between two pieces of it, and for a turn.
        at_once: uploads that are read and parsed at the same time.
    """

    memory_mb: int = 1024
    cpu_s: int = 20
    wall_s: float = 30.0
    upload_s: float = 600.0
    idle_s: float = 20.0
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class Child:
    """A process that parses, and the connection to it."""

    id: int
    output: asyncio.StreamReader
    input: asyncio.StreamWriter


class Parser:
    """Children that parse, one model each; ``start`` makes ready for them, ``close`` ends all."""

    def __init__(self, limits: ParseLimits | None = None) -> None:
        self.limits = limits or ParseLimits()
        self._turns = asyncio.Semaphore(self.limits.at_once)
        self._nursery = Nursery(self.limits.memory_mb * MIB, self.limits.cpu_s)

    async def start(self) -> None:
        await run_in_threadpool(self._nursery.start)

    async def close(self) -> None:
        await run_in_threadpool(self._nursery.close)

    async def parse(self, pieces: AsyncIterator[bytes], size: int, shapes: Shapes, name: str) -> Parsed:
        """What is in a model of so many bytes.

        Raises:
            Problem: it is none, or takes more than the limits allow, or its bytes do not come.
            HostError: there can be no child.
        """
        async with self._turn():
            child = await self._begin()
            try:
                await self._feed(child, {"length": size, "shapes": shapes, "name": name}, pieces)
                line = await self._answer(child)
            finally:
                child.input.transport.abort()
                status = await run_in_threadpool(self._nursery.end, child.id)
        if not line.endswith(b"\n"):
            raise _ended(status, self.limits)
        return await run_in_threadpool(_parsed, line, self.limits)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._turns.acquire(), self.limits.idle_s)
        except TimeoutError:
            detail = f"at most {self.limits.at_once} models may be uploaded at once, and they are still busy; try later"
            raise Problem(429, "Too many uploads", detail, "too-many-uploads", headers={"Retry-After": "10"}) from None
        try:
            yield
        finally:
            self._turns.release()

    async def _begin(self) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            id = await run_in_threadpool(self._nursery.begin, theirs)
        return Child(id, *await asyncio.open_unix_connection(sock=ours, limit=ANSWER_BYTES))

    async def _feed(self, child: Child, head: Mapping[str, Any], pieces: AsyncIterator[bytes]) -> None:
        """Passes an upload on as it comes. A child that has already ended is asked for its reason. Raises Problem."""
        limits = self.limits
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                child.input.write(json.dumps(head).encode() + b"\n")
                async with asyncio.timeout(limits.upload_s):
                    piece = b" "
                    while piece:
                        async with asyncio.timeout(limits.idle_s):
                            piece = await anext(pieces, b"")
                            child.input.write(piece)
                            await child.input.drain()
                child.input.write_eof()
        except TimeoutError:
            raise stalled(limits.upload_s) from None

    async def _answer(self, child: Child) -> bytes:
        """The child's line; not whole where it has ended. Raises Problem."""
        limits = self.limits
        try:
            return await asyncio.wait_for(child.output.readline(), limits.wall_s)
        except ConnectionResetError:
            return b""
        except TimeoutError:
            raise _beyond(422, f"be parsed within {limits.wall_s:g} s, but takes longer") from None
        except ValueError:
            raise _beyond(413, f"tell of itself in {ANSWER_BYTES // MIB} MiB, but needs more") from None


def stalled(upload_s: float) -> Problem:
    detail = f"an upload must go on, and end within {upload_s:g} s, but did not; send it again"
    return Problem(408, "Upload stalled", detail, headers={"Connection": "close"})


def _parsed(line: bytes, limits: ParseLimits) -> Parsed:
    """The answer of a child, which is not trusted. Raises Problem, SpecError."""
    body = cast(dict[str, Any], json.loads(line))
    if "limit" in body:
        raise _no_memory(limits)
    if "error" in body:
        raise Problem(422, "Not a model", body["error"].replace("--shape ", "shape="), "not-a-model")
    unknown = tuple(UnknownNode(**node) for node in body["unknown"])
    return Parsed(graph_from_json(body["graph"]), unknown, tuple(body["notes"]))


def _ended(status: int, limits: ParseLimits) -> Problem:
    """Why a child that said nothing has ended."""
    if -status == signal.SIGXCPU:
        return _beyond(422, f"be parsed within {limits.cpu_s} s of processor time, but takes longer")
    return _no_memory(limits)


def _no_memory(limits: ParseLimits) -> Problem:
    return _beyond(413, f"be parsed in {limits.memory_mb} MiB of memory, but needs more or breaks the parser")


def _beyond(status: int, what: str) -> Problem:
    return Problem(status, "Model beyond limits", f"a model must {what}{AGAIN}", "model-beyond-limits")
