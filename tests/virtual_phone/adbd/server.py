"""The fake device in a thread of this process, and what a test may do to it while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.virtual_phone.adbd.options import Options
from tests.virtual_phone.adbd.shell import end_group, run_framed, run_plain
from tests.virtual_phone.adbd.streams import Stream
from tests.virtual_phone.adbd.sync import Sync
from tests.virtual_phone.adbd.transport import Faults, NoSuchService, Transport

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0


@dataclass(slots=True, eq=False)
class FakeAdbd:
    """A device on ``serial``; ``faults`` may be changed at any time, the methods called from any thread."""

    options: Options
    faults: Faults
    port: int = 0
    _transports: set[Transport] = field(default_factory=set)
    _running: set[Process] = field(default_factory=set)
    _key_allowed: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def serial(self) -> str:
        return f"{HOST}:{self.port}"

    def drop(self) -> None:
        """Cuts all connections; new ones are taken."""
        self._call(self._drop_all)

    def allow_key(self) -> None:
        """The user taps Allow: answers the key prompt of the authorisation ``ask``."""
        self._call(self._key_allowed.set)

    def stop(self) -> None:
        self._call(self._stop.set)

    async def run(self, on_start: Callable[[], None]) -> None:
        """Serves until it is stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, HOST, self.port)
        self.port = server.sockets[0].getsockname()[1]
        on_start()
        await self._stop.wait()
        server.close()
        self._drop_all()
        for process in self._running:
            end_group(process, signal.SIGKILL)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = Transport(reader, writer, self.options, self.faults, self._serve, self._key_allowed)
        self._transports.add(transport)
        with contextlib.suppress(asyncio.CancelledError):
            await transport.run()
        self._transports.discard(transport)

    async def _serve(self, stream: Stream, name: str) -> None:
        service, _, argument = name.partition(":")
        kind, *flags = service.split(",")
        if kind not in ("shell", "exec", "sync"):
            raise NoSuchService(name)
        await stream.accept()
        if kind == "sync":
            await Sync(stream, self.options).serve()
        elif "v2" in flags:
            await run_framed(stream, argument, self.options, self._running)
        else:
            await run_plain(stream, argument, self.options, self._running)

    def _drop_all(self) -> None:
        for transport in list(self._transports):
            transport.drop()

    def _call(self, action: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(action)


@contextlib.contextmanager
def open_adbd(options: Options | None = None, faults: Faults | None = None, port: int = 0) -> Iterator[FakeAdbd]:
    """Serves a fake device on a port of its own until the block ends; then all that it started is ended."""
    adbd = FakeAdbd(options or Options(), faults or Faults(), port)
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(adbd.run(started.set)), name="fake adbd", daemon=True)
    with _limited_space(adbd.options):
        thread.start()
        if not started.wait(START_TIMEOUT_S):
            raise RuntimeError(f"the fake adbd must listen within {START_TIMEOUT_S} s, but did not on port {port}")
        try:
            yield adbd
        finally:
            adbd.stop()
            thread.join()


@contextlib.contextmanager
def _limited_space(options: Options) -> Iterator[None]:
    """As root, the phone's /data is a file system of that size; otherwise single files are limited to it."""
    if not options.has_own_storage:
        yield
        return
    assert options.root is not None
    data = options.root / "data"
    data.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={options.free_bytes}", "tmpfs", str(data)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)
