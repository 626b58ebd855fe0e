"""One connection of an ADB server: greeting, key, and streams, each served by a coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from tests.virtual_phone.adbd.options import Options
from tests.virtual_phone.adbd.packets import (
    FEATURES,
    MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    AuthKind,
    Command,
    Packet,
    encode_packet,
    read_packet,
)
from tests.virtual_phone.adbd.streams import Stream, StreamClosed

TOKEN_BYTES = 20

Service = Callable[[Stream, str], Awaitable[None]]
"""Serves one stream, given the name under which it was opened."""


class NoSuchService(Exception):
    """The device does not serve a stream of that name."""


@dataclass(slots=True)
class Faults:
    """What goes wrong; may be changed at any time.

    Attributes:
        drop_after_bytes: cut the connection, once, when so many more bytes of payload have come.
        packet_delay_s: waited before each packet sent.
        refusing: answers nothing: the device is offline.
    """

    drop_after_bytes: int | None = None
    packet_delay_s: float = 0.0
    refusing: bool = False


@dataclass(slots=True, eq=False)
class Transport:
    """One connection, until it ends or is dropped."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    options: Options
    faults: Faults
    serve: Service
    key_allowed: asyncio.Event
    _max_payload_bytes: int = 4096
    _streams: dict[int, Stream] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        try:
            while True:
                await self._handle(await read_packet(self.reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.drop()

    def drop(self) -> None:
        """Cuts the connection without a word."""
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
        self.writer.transport.abort()

    async def _send(self, packet: Packet) -> None:
        await asyncio.sleep(self.faults.packet_delay_s)
        async with self._sending:
            self.writer.write(encode_packet(packet))
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def _handle(self, packet: Packet) -> None:
        if self.faults.refusing:
            return
        stream = self._streams.get(packet.second)
        match packet.command:
            case Command.CONNECT:
                self._max_payload_bytes = min(packet.second, MAX_PAYLOAD_BYTES)
                await (self._greet() if self.options.authorisation == "none" else self._ask_signature())
            case Command.AUTHORISE:
                await self._authorise(packet)
            case Command.OPEN:
                self._start(self._open(packet))
            case Command.WRITE:
                await self._receive(packet, stream)
            case Command.READY if stream:
                stream.acknowledge()
            case Command.CLOSE if stream:
                self._streams.pop(packet.second).end()

    async def _greet(self) -> None:
        said = {
            "ro.product.name": self.options.product,
            "ro.product.model": self.options.model,
            "ro.product.device": self.options.device,
            "features": ",".join(FEATURES),
        }
        banner = "device::" + ";".join(f"{name}={value}" for name, value in said.items())
        await self._send(Packet(Command.CONNECT, PROTOCOL_VERSION, MAX_PAYLOAD_BYTES, banner.encode()))

    async def _ask_signature(self) -> None:
        await self._send(Packet(Command.AUTHORISE, AuthKind.TOKEN, 0, secrets.token_bytes(TOKEN_BYTES)))

    async def _authorise(self, packet: Packet) -> None:
        if packet.first == AuthKind.SIGNATURE:
            await self._ask_signature()
        elif packet.first == AuthKind.PUBLIC_KEY and self.options.authorisation == "accept":
            await self._greet()
        elif packet.first == AuthKind.PUBLIC_KEY and self.options.authorisation == "ask":
            self._start(self._greet_when_allowed())

    async def _greet_when_allowed(self) -> None:
        await self.key_allowed.wait()
        await self._greet()

    async def _receive(self, packet: Packet, stream: Stream | None) -> None:
        if self._reaches_the_limit(len(packet.payload)):
            raise ConnectionResetError
        if stream:
            stream.receive(packet.payload)
        else:
            await self._send(Packet(Command.CLOSE, 0, packet.first))

    def _reaches_the_limit(self, size_bytes: int) -> bool:
        left = self.faults.drop_after_bytes
        if left is None:
            return False
        self.faults.drop_after_bytes = None if size_bytes >= left else left - size_bytes
        return size_bytes >= left

    async def _open(self, packet: Packet) -> None:
        local_id, remote_id = next(self._numbers), packet.first

        async def send(command: Command, payload: bytes) -> None:
            await self._send(Packet(command, local_id, remote_id, payload))

        stream = self._streams[local_id] = Stream(send, self._max_payload_bytes)
        try:
            await self.serve(stream, packet.payload.rstrip(b"\0").decode())
            await stream.close()
        except NoSuchService:
            await self._send(Packet(Command.CLOSE, 0, remote_id))
        except StreamClosed:
            pass
        finally:
            self._streams.pop(local_id, None)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Keeps a reference: asyncio does not."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
