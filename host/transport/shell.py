"""A device's shell as transports use it: start a command, or run one to its end within a limit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from host.transport import ENDED_BY_DEVICE, DeviceLost
from host.transport.shell_v2 import STDOUT

RUN_LIMIT_S = 60.0


class Stream(Protocol):
    """A command that runs on a device."""

    def write(self, data: bytes) -> None:
        """To its standard input. Raises OSError."""

    def close_input(self) -> None:
        """Raises OSError."""

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Pieces of its output (STDOUT) and errors (STDERR) until it ends or the connection does."""

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs, and for ever when the connection broke."""

    def kill(self) -> None:
        """Cuts the connection; harmless when it has ended."""


class Shell(Protocol):
    """Runs command lines of POSIX sh on a device."""

    @property
    def prefix(self) -> list[str]:
        """A command line of this computer that runs a command of the device."""

    def spawn(self, command: str) -> Stream:
        """Raises DeviceLost, DeviceUnavailable."""

    def wait_back(self, limit_s: float) -> None:
        """Raises DeviceUnavailable where the device does not come back within the limit."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Output:
    """What a command came to."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line of its errors, or of its output where there is none."""
        lines = (self.stderr.strip() or self.stdout.strip()).decode(errors="replace").splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


def run(shell: Shell, command: str, stdin: bytes = b"", limit_s: float = RUN_LIMIT_S) -> Output:
    """Runs a command to its end.

    Raises:
        DeviceLost: the connection broke, the device ended the command, or it did not end within the limit.
    """
    stream = shell.spawn(command)
    late = threading.Timer(limit_s, stream.kill)
    late.daemon = True
    late.start()
    threading.Thread(target=_feed, args=(stream, stdin), daemon=True).start()
    pieces: dict[int, list[bytes]] = {}
    try:
        for kind, content in stream.output():
            pieces.setdefault(kind, []).append(content)
    finally:
        late.cancel()
        status = stream.status()
        stream.kill()
    errors = b"".join(content for kind, found in pieces.items() if kind != STDOUT for content in found)
    if status is None or status in ENDED_BY_DEVICE:
        raise DeviceLost(_unfinished(command, limit_s, errors))
    return Output(status, b"".join(pieces.get(STDOUT, [])), errors)


def _unfinished(command: str, limit_s: float, errors: bytes) -> str:
    said = errors.decode(errors="replace").strip().splitlines()[-1:]
    words = " ".join(command.split())
    return (
        f"the connection broke{f' ({said[0]})' if said else ''}, or this took longer than {limit_s:.0f} s: {words[:80]}"
    )


def _feed(stream: Stream, data: bytes) -> None:
    """A command that ends before it has read everything is not an error: its status tells."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(data)
        stream.close_input()
