"""How files and a running agent reach a device: TRANSPORTS, name -> module with ``open_transport(address, launch)``."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from host.errors import DeviceUnavailable

TRANSPORTS = {"local": "host.transport.local", "adb": "host.transport.adb", "ssh": "host.transport.ssh"}

ENDED_BY_DEVICE = (-signal.SIGHUP, -signal.SIGTERM)
"""Statuses of a command that did not end by itself: the device restarts, or hung up on it."""


class DeviceLost(DeviceUnavailable):
    """The connection to the device broke: it was unplugged, restarts, or its network is gone. It may come back."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the agent is started.

    Attributes:
        python: the interpreter that runs it, on the device; empty for the usual one: this program's own here, the
            bundle's elsewhere.
        where: ``device``; ``host``, on this computer, from where it reaches the device through a command prefix; or
            ``auto``: on the device if it can.
        environment: further variables for it.
    """

    python: str = ""
    where: str = "auto"
    environment: Mapping[str, str] = field(default_factory=dict)


class Channel(Protocol):
    """A running agent: text lines in, text lines out."""

    def send(self, line: str) -> None:
        """Raises OSError once the program is gone."""

    def lines(self) -> Iterator[str]:
        """Its standard output until it ends."""

    def close(self) -> None:
        """Ends its input, which ends it, and waits a moment for that; then kills it."""

    def kill(self) -> None:
        """Ends it and all that it started; harmless when it has ended."""

    def abandon(self) -> None:
        """Lets go without asking the device for anything."""

    def exit_status(self) -> int | None:
        """Waits briefly for the end; negative for a signal, None where it still runs or none will ever come."""

    def lost(self) -> bool:
        """Whether the connection to the device is broken, rather than the program ended or silent."""

    def stderr_tail(self) -> str:
        """The last lines that it wrote to standard error."""


class Transport(Protocol):
    """A device's file space and shell. Every method may raise DeviceLost.

    Attributes:
        sent_bytes: how much was sent to the device so far.
    """

    sent_bytes: int

    @property
    def on_host(self) -> str:
        """Why the agent runs on this computer instead of the device; empty where it runs there."""

    @property
    def origin(self) -> str:
        """What brings the interpreter and the engines, by its digest; empty where the device has its own."""

    def install(self, name: str, files: Mapping[str, Path]) -> str:
        """Puts files that stay, executable, into a folder named by their content; returns its path."""

    def put(self, name: str, blob: bytes) -> str:
        """Takes a file for the device; returns the path that it has there once it is ``ready``."""

    def ready(self, paths: Sequence[str]) -> None:
        """Sees to it that files are on the device; those made there count as ready."""

    def clear(self, keep: Sequence[str]) -> None:
        """Removes all files that were put, or made beside them, but these."""

    def fetch(self, path: str) -> bytes:
        """Reads a file of the device. Raises HostError where it cannot be read."""

    def spawn_agent(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Channel:
        """Starts ``python -m agent`` there."""

    def wait_back(self, limit_s: float) -> None:
        """Waits until a device that was lost answers again. Raises DeviceUnavailable at the limit."""

    def close(self) -> None:
        """Removes what was put there for this run."""
