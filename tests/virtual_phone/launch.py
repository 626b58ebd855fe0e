"""Starts and ends the phone's processes (``container.py``), and speaks with the one that holds them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CONTAINER = Path(__file__).with_name("container.py")
STOP_TIMEOUT_S = 10.0
ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Spec:
    """What ``container.py`` starts: ``adbd`` is its folder within ``root``, ``emulator`` empty where none is needed."""

    root: str
    adbd: str
    emulator: str
    uid: int
    environment: Mapping[str, str]


@dataclass(slots=True)
class Container:
    """The processes of one boot."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    log: Path
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def dial(self) -> socket.socket:
        """A connection to adbd, once it listens."""
        return socket.socket(fileno=self._ask({"do": "dial"})[0])

    def fill_storage(self, free_bytes: int) -> None:
        self._ask({"do": "fill", "free_bytes": free_bytes})

    def processes(self) -> dict[int, str]:
        """The phone's processes but the first: process id on this machine -> command line."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return {}
        namespace = _namespace(Path("/proc", children[0]))
        pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and _namespace(path))
        inside = (pid for pid in pids if _namespace(Path(f"/proc/{pid}")) == namespace and str(pid) != children[0])
        return {pid: _command_line(pid) for pid in inside}

    def stop(self) -> None:
        """Returns when the last process has ended."""
        self.control.close()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, request: Mapping[str, Any]) -> list[int]:
        """Returns the descriptors that came with the answer; raises OSError where it could not be done."""
        with self._asking:
            try:
                self.control.send(json.dumps(request).encode())
                data, descriptors, _, _ = socket.recv_fds(self.control, ANSWER_BYTES, 1)
            except OSError:
                data, descriptors = b"", []
        answer = json.loads(data) if data else {"error": self._last_words()}
        if answer["error"]:
            raise OSError(f"the virtual phone must {request['do']}, but got: {answer['error']}")
        return descriptors

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-1000:] or "it has ended"


def start_container(spec: Spec, log: Path) -> Container:
    """Returns once adbd takes connections.

    Raises:
        OSError: it does not come up; the message holds what it wrote.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-IS", str(CONTAINER), json.dumps(asdict(spec)), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    container = Container(process, ours, log)
    try:
        container.dial().close()
    except OSError:
        container.stop()
        raise
    return container


def _namespace(process: Path) -> str:
    """Empty where the process has ended or may not be looked at."""
    with contextlib.suppress(OSError):
        return os.readlink(process / "ns/pid")
    return ""


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""
