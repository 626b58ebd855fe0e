"""ADB's shell protocol, version 2: packets that keep a command's output, errors and exit status apart.

A packet is its kind (one byte), its length (four, little-endian), and so many bytes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
HEAD = struct.Struct("<BI")
CHUNK = 1 << 16
SIGNAL_BASE = 128
"""The device's shell adds it to the number of the signal that ended a command."""

LAST_SIGNAL = 64


def signed(status: int) -> int:
    """A shell's exit status, negative where a signal ended the command."""
    return SIGNAL_BASE - status if SIGNAL_BASE < status <= SIGNAL_BASE + LAST_SIGNAL else status


def packet(kind: int, content: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(content)) + content


def read_packets(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Whole packets until the other side closes; one that was cut is dropped. Raises OSError."""
    held = b""
    while chunk := connection.recv(CHUNK):
        held += chunk
        while len(held) >= HEAD.size:
            kind, size = HEAD.unpack_from(held)
            if len(held) < HEAD.size + size:
                break
            yield kind, held[HEAD.size : HEAD.size + size]
            held = held[HEAD.size + size :]


class ShellV2:
    """A command that runs on a device, over a socket that speaks the protocol."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._status: int | None = None

    def write(self, data: bytes) -> None:
        """To its standard input. Raises OSError once the connection is gone."""
        for start in range(0, len(data), CHUNK):
            self._connection.sendall(packet(STDIN, data[start : start + CHUNK]))

    def close_input(self) -> None:
        self._connection.sendall(packet(CLOSE_STDIN))

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Pieces of its output (STDOUT) and errors (STDERR) until it ends or the connection does."""
        try:
            for kind, content in read_packets(self._connection):
                if kind == EXIT:
                    self._status = content[0] if content else 0
                    return
                if kind in (STDOUT, STDERR):
                    yield kind, content
        except OSError:
            return

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs, and for ever when the connection broke."""
        return None if self._status is None else signed(self._status)

    def kill(self) -> None:
        """Cuts the connection: the device then hangs up on the command."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
