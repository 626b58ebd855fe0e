"""One stream of a connection: bytes both ways, each write answered before the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.virtual_phone.adbd.packets import Command


class StreamClosed(Exception):
    """The other side has closed the stream, or the cable was pulled."""


class Stream:
    """What a service reads and writes; a write waits until the other side has taken it, and so does its reader."""

    def __init__(self, send: Callable[[Command, bytes], Awaitable[None]], max_payload_bytes: int) -> None:
        self.closed = False
        self._send, self._max_payload_bytes = send, max_payload_bytes
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._taken: asyncio.Queue[None] = asyncio.Queue()
        self._rest = b""

    async def accept(self) -> None:
        await self._send(Command.READY, b"")

    async def write(self, data: bytes) -> None:
        """Raises StreamClosed once nobody reads."""
        for start in range(0, len(data), self._max_payload_bytes):
            self._check()
            await self._send(Command.WRITE, data[start : start + self._max_payload_bytes])
            await self._taken.get()
            self._check()

    async def read_some(self) -> bytes:
        """What has come; empty once the stream is closed."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        if self.closed and self._incoming.empty():
            return b""
        data = await self._incoming.get()
        if data and not self.closed:
            await self._send(Command.READY, b"")
        return data

    async def read_exactly(self, size_bytes: int) -> bytes:
        """Raises StreamClosed where it ends earlier."""
        data = b""
        while len(data) < size_bytes:
            more = await self.read_some()
            if not more:
                raise StreamClosed
            data += more
        self._rest = data[size_bytes:]
        return data[:size_bytes]

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._send(Command.CLOSE, b"")

    def receive(self, data: bytes) -> None:
        self._incoming.put_nowait(data)

    def acknowledge(self) -> None:
        self._taken.put_nowait(None)

    def end(self) -> None:
        """Wakes whoever waits on it: the other side is gone."""
        self.closed = True
        self._incoming.put_nowait(b"")
        self._taken.put_nowait(None)

    def _check(self) -> None:
        if self.closed:
            raise StreamClosed
