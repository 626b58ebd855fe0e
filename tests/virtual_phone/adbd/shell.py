"""Commands on this machine, as the services ``shell,v2`` (framed), ``shell`` and ``exec`` (plain) run them.

No terminals. A framed command gets SIGHUP when its client vanishes; a plain one only the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import struct
from asyncio.subprocess import PIPE, STDOUT, Process
from enum import IntEnum

from tests.virtual_phone.adbd.options import Options, host_command
from tests.virtual_phone.adbd.streams import Stream, StreamClosed

CHUNK_BYTES = 1 << 16
SIGNALLED = 128
_FRAME = struct.Struct("<BI")


class Frame(IntEnum):
    """What a packet of the shell v2 protocol carries; window sizes (5) are ignored."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3
    CLOSE_STDIN = 4


async def run_framed(stream: Stream, command: str, options: Options, running: set[Process]) -> None:
    process = await _spawn(command, options, PIPE, running)
    feeding = asyncio.ensure_future(_feed_frames(stream, process))
    assert process.stdout is not None
    assert process.stderr is not None
    pumps = (_pump_frames(stream, process.stdout, Frame.STDOUT), _pump_frames(stream, process.stderr, Frame.STDERR))
    await asyncio.gather(*pumps)
    status = await _wait(process, running)
    feeding.cancel()
    await stream.write(_frame(Frame.EXIT, bytes([status])))


async def run_plain(stream: Stream, command: str, options: Options, running: set[Process]) -> None:
    process = await _spawn(command, options, STDOUT, running)
    feeding = asyncio.ensure_future(_feed_plain(stream, process))
    assert process.stdout is not None
    while data := await process.stdout.read(CHUNK_BYTES):
        with contextlib.suppress(StreamClosed):
            await stream.write(data)
    await _wait(process, running)
    feeding.cancel()


def end_group(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _spawn(command: str, options: Options, stderr: int, running: set[Process]) -> Process:
    process = await asyncio.create_subprocess_exec(
        *options.shell,
        *(("-c", host_command(options, command)) if command else ()),
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        cwd=options.root,
        env={**os.environ, **options.environment},
        start_new_session=True,
    )
    if (limit := options.file_limit_bytes) is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    running.add(process)
    return process


async def _wait(process: Process, running: set[Process]) -> int:
    """The status as a shell tells it: 128 and the signal where one ended the command."""
    status = await process.wait()
    running.discard(process)
    return status if status >= 0 else SIGNALLED - status


async def _feed_frames(stream: Stream, process: Process) -> None:
    assert process.stdin is not None
    try:
        while True:
            kind, size_bytes = _FRAME.unpack(await stream.read_exactly(_FRAME.size))
            data = await stream.read_exactly(size_bytes)
            if kind == Frame.STDIN:
                await _write(process.stdin, data)
            elif kind == Frame.CLOSE_STDIN:
                process.stdin.close()
    except StreamClosed:
        end_group(process, signal.SIGHUP)


async def _feed_plain(stream: Stream, process: Process) -> None:
    assert process.stdin is not None
    while data := await stream.read_some():
        await _write(process.stdin, data)
    process.stdin.close()


async def _write(stdin: asyncio.StreamWriter, data: bytes) -> None:
    """What the command no longer reads is lost."""
    with contextlib.suppress(ConnectionError):
        stdin.write(data)
        await stdin.drain()


async def _pump_frames(stream: Stream, output: asyncio.StreamReader, kind: Frame) -> None:
    while data := await output.read(CHUNK_BYTES):
        with contextlib.suppress(StreamClosed):
            await stream.write(_frame(kind, data))


def _frame(kind: Frame, data: bytes) -> bytes:
    return _FRAME.pack(kind, len(data)) + data
