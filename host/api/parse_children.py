"""Nursery: the process that makes children which parse (``parse_worker``), as the service speaks to it.

Everything here waits, if only for milliseconds, and belongs into a thread.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

from host.api.parse_worker import NUMBER
from host.errors import HostError

ROOT = Path(__file__).resolve().parents[2]
KEPT_VARIABLES = ("LANG", "LD_LIBRARY_PATH", "PATH")
TIMEOUT_S = 30.0
"""For the imports, at the first child; later it answers at once."""


class Nursery:
    """Makes children by forking, ends them, and is made again where it was lost. An empty folder is their home."""

    def __init__(self, memory_bytes: int, cpu_s: int) -> None:
        self._arguments = (str(memory_bytes), str(cpu_s))
        self._folder = tempfile.TemporaryDirectory(prefix="chamnet-parse-")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Lets it import what children need, so that the first need not wait."""
        with self._lock:
            self._start()

    def begin(self, connection: socket.socket) -> int:
        """Makes a child that reads from a connection; returns its id. Raises HostError."""
        with self._lock:
            try:
                return self._ask(0, connection)
            except OSError:
                self._stop()
                self._start()
            try:
                return self._ask(0, connection)
            except OSError as error:
                raise HostError(
                    f"a model must be parsed in a process of its own, but none can be made: {error}"
                ) from None

    def end(self, child: int) -> int:
        """Ends a child, if it has not; returns its exit status, below 0 for a signal."""
        with self._lock:
            try:
                return self._ask(child)
            except OSError:
                self._stop()
                return -signal.SIGKILL

    def close(self) -> None:
        """Ends it and all children."""
        with self._lock:
            self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = (sys.executable, "-P", "-m", "host.api.parse_worker", *self._arguments)
        self._control, theirs = socket.socketpair()
        self._control.settimeout(TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=DEVNULL, stderr=DEVNULL, cwd=self._folder.name,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def _stop(self) -> None:
        """Children are in a process group with it, and so end with it."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._control = self._process = None

    def _ask(self, number: int, *connections: socket.socket) -> int:
        """Raises OSError where it does not answer."""
        if self._control is None:
            raise ConnectionError("there is no process yet")
        socket.send_fds(self._control, [NUMBER.pack(number)], [one.fileno() for one in connections])
        answer = self._control.recv(NUMBER.size)
        if len(answer) < NUMBER.size:
            raise ConnectionError("its process has ended")
        found: int = NUMBER.unpack(answer)[0]
        return found
