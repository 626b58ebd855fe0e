"""One run of a command: text in, the end of what it printed out, never longer than it may take.

What it prints is read as it comes and only the end of it kept, so that a command that prints for ever fills no memory.
A command that is ended takes its process group along; what left the group and keeps the pipes open is not waited for.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

KEPT_BYTES = 65_536
LOOK_S = 0.05
"""How often a run looks whether the command has ended, or is to end."""

LAST_READS = 4
"""Reads after the end: more than a pipe holds, and no more, since something else may keep writing to it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        status: None where it took too long or was stopped.
        out, err: the end of what it printed.
    """

    status: int | None
    out: str
    err: str


def run_command(arguments: Sequence[str], text: str, timeout_s: float, stop: threading.Event) -> Ended:
    """Runs a command to its end, that of its time, or until ``stop`` is set. Raises OSError where it cannot start."""
    pipe = subprocess.PIPE
    started = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
    with started as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(text.encode())
            process.stdin.close()
            tails = _read(process, (process.stdout, process.stderr), time.monotonic() + timeout_s, stop)
        finally:
            status = process.poll()
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
    out, err = (tail.decode(errors="replace") for tail in tails)
    return Ended(status, out, err)


def _read(
    process: subprocess.Popen[bytes], streams: Sequence[IO[bytes]], until: float, stop: threading.Event
) -> list[bytes]:
    """The end of what each stream brings until the process ends, or its time does."""
    tails, last_reads = [b"" for _ in streams], LAST_READS
    with selectors.DefaultSelector() as selector:
        for number, stream in enumerate(streams):
            selector.register(stream, selectors.EVENT_READ, number)
        while last_reads:
            running = process.poll() is None
            if running and (time.monotonic() >= until or stop.is_set()):
                break
            last_reads -= not running
            for key, _ in selector.select(LOOK_S if running else 0.0):
                chunk = os.read(key.fd, KEPT_BYTES)
                tails[key.data] = (tails[key.data] + chunk)[-KEPT_BYTES:]
                if not chunk:
                    selector.unregister(key.fileobj)
            if running and not selector.get_map():
                stop.wait(LOOK_S)
    return tails
