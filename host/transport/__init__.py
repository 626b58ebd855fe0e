"""How files and a running agent reach a device: TRANSPORTS, name -> module with ``open_transport(address)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

TRANSPORTS = {"local": "host.transport.local"}


class Channel(Protocol):
    """A running program on the device: text lines in, text lines out."""

    def send(self, line: str) -> None:
        """Raises BrokenPipeError once the program is gone."""

    def lines(self) -> Iterator[str]:
        """Its standard output until it ends."""

    def kill(self) -> None:
        """Ends it and all that it started; harmless when it has ended."""

    def exit_status(self) -> int | None:
        """Waits briefly for the end; negative for a signal, None while it still runs."""

    def stderr_tail(self) -> str:
        """The last lines that it wrote to standard error."""


class Transport(Protocol):
    """A device's file space and shell."""

    def put(self, name: str, blob: bytes) -> str:
        """Writes a file on the device; returns its path there."""

    def fetch(self, path: str) -> bytes:
        """Reads a file of the device."""

    def spawn_agent(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Channel:
        """Starts ``python -m agent`` there."""

    def close(self) -> None:
        """Removes what was put there for this run."""
