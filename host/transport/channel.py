"""The agent on a device behind a shell, as lines in and out."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from host.errors import DeviceUnavailable
from host.transport.shell import Shell, run
from host.transport.shell_v2 import STDOUT

STDERR_TAIL_BYTES = 4000
LEAVE_LIMIT_S = 10.0
"""For an agent whose input has ended to put the device's settings back and go."""

GOING_S = 8
"""For an agent that was hung up on to do the same; one that is stuck in an engine may not notice."""

PING_LIMIT_S = 5.0
STATUS_LIMIT_S = 5.0
PID = b"chamnet-pid"
"""Begins the line that tells the agent's number there, which it keeps."""

_END = """
n=0
while kill -0 {pid} 2>/dev/null; do
  [ $n -lt {seconds} ] || {{ kill -9 {pid}; break; }}
  sleep 1
  n=$((n + 1))
done
"""


class RemoteChannel:
    """A command that speaks lines. One thread must exhaust ``lines``."""

    def __init__(self, shell: Shell, command: str) -> None:
        self._shell = shell
        self._stream = shell.spawn(f"echo {PID.decode()} $$ >&2; {command}")
        self._stderr = b""
        self._ended = threading.Event()
        self._killed = False

    def send(self, line: str) -> None:
        self._stream.write(line.encode() + b"\n")

    def lines(self) -> Iterator[str]:
        held = b""
        for kind, content in self._stream.output():
            if kind != STDOUT:
                self._stderr = (self._stderr + content)[-STDERR_TAIL_BYTES:]
                continue
            *whole, held = (held + content).split(b"\n")
            yield from (line.decode() for line in whole)
        self._ended.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close_input()
            self._ended.wait(LEAVE_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        """Hangs up, which ends the agent; one that stays all the same is ended by its number."""
        self._stream.kill()
        found = re.search(rb"%s (\d+)" % PID, self._stderr)
        if found and not self._killed and self._stream.status() is None:
            with contextlib.suppress(DeviceUnavailable):
                run(self._shell, _END.format(pid=int(found[1]), seconds=GOING_S), limit_s=GOING_S + PING_LIMIT_S)
        self._killed = True

    def abandon(self) -> None:
        self._killed = True
        self._stream.kill()

    def exit_status(self) -> int | None:
        self._ended.wait(STATUS_LIMIT_S)
        return self._stream.status()

    def lost(self) -> bool:
        """An agent that ended has told how; of one that is silent, the device tells whether it is still there."""
        if self._stream.status() is not None:
            return False
        if self._ended.is_set():
            return True
        try:
            run(self._shell, "true", limit_s=PING_LIMIT_S)
        except DeviceUnavailable:
            return True
        return False

    def stderr_tail(self) -> str:
        return re.sub(rb"%s \d+\n?" % PID, b"", self._stderr).decode(errors="replace")
