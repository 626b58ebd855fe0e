"""A Linux board over SSH: commands through the OpenSSH client, so that the user's keys, hosts and jumps all hold.

``ssh`` itself ends with 255 when the connection breaks and when the command does, so the command's status is written
as the last line of its errors.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from queue import Queue
from typing import IO

from host.errors import DeviceUnavailable, UsageError
from host.transport import DeviceLost, Launch
from host.transport.parcel import Parcel, bundle_parcel
from host.transport.remote import Place, RemoteTransport
from host.transport.shell import run
from host.transport.shell_v2 import CHUNK, STDERR, STDOUT, signed

CONNECT_LIMIT_S = 10
POLL_S = 1.0
FOLDER = ".cache/chamnet"
ADDRESS = re.compile(r"((?:[\w.-]+@)?(?:[\w.-]+|\[[\w.:%]+\]))(?::(\d+))?")
"""[user@]host[:port]; an address of IPv6 in brackets."""

ABI_OF_MACHINE = {"aarch64": "arm64-v8a", "x86_64": "x86_64"}


class SshShell:
    """Runs commands on one board, over one shared connection."""

    def __init__(self, address: str) -> None:
        """``address`` reads [user@]host[:port]. Raises UsageError, DeviceUnavailable."""
        named = ADDRESS.fullmatch(address)
        if named is None or address.startswith("-"):
            raise UsageError(f"a board must be named ssh:user@host or ssh:user@host:port, but got {address!r}")
        if shutil.which("ssh") is None:
            raise DeviceUnavailable("the program 'ssh' must be installed to reach a board, but it is not on PATH")
        self.address = address
        self._host = [*(["-p", named[2]] if named[2] else []), re.sub(r"[\[\]]", "", named[1])]
        self._folder = tempfile.TemporaryDirectory(prefix="chamnet-ssh-", ignore_cleanup_errors=True)
        shared = ["ControlMaster=auto", f"ControlPath={self._folder.name}/s", "ControlPersist=60"]
        private = ["BatchMode=yes", "RemoteCommand=none", "ClearAllForwardings=yes"]
        limits = [f"ConnectTimeout={CONNECT_LIMIT_S}", "ServerAliveInterval=5"]
        self._words = ["ssh", "-T", *(word for option in (*private, *limits, *shared) for word in ("-o", option))]

    @property
    def by_hand(self) -> str:
        """How a person tries the connection."""
        return shlex.join(["ssh", *self._host])

    @property
    def prefix(self) -> list[str]:
        return [*self._words, *self._host, "--"]

    def spawn(self, command: str) -> SshStream:
        mark = f"chamnet-{uuid.uuid4().hex}"
        process = subprocess.Popen(
            [*self.prefix, f"sh -c {shlex.quote(_with_status(command, mark))}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        return SshStream(process, mark.encode())

    def wait_back(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                run(self, "true", limit_s=CONNECT_LIMIT_S)
                return
            except DeviceLost as loss:
                if time.monotonic() > deadline:
                    raise DeviceUnavailable(
                        f"board {self.address} must answer within {limit_s:.0f} s, but {loss}; '{self.by_hand}' "
                        "must work without a password"
                    ) from None
                time.sleep(POLL_S)

    def close(self) -> None:
        subprocess.run([*self._words, "-O", "exit", *self._host], capture_output=True, check=False)
        self._folder.cleanup()


def _with_status(command: str, mark: str) -> str:
    """Runs the command in a shell of its own, whose number it may tell and keep, and tells its status at the end."""
    return f"sh -c {shlex.quote(command)}; status=$?; printf '\\n%s %d\\n' {mark} $status >&2; exit $status"


class SshStream:
    """A command on a board, behind a local ``ssh``."""

    def __init__(self, process: subprocess.Popen[bytes], mark: bytes) -> None:
        self._process = process
        self._mark = b"\n" + mark + b" "
        self._status: int | None = None
        self._pieces: Queue[tuple[int, bytes] | None] = Queue()

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        for start in range(0, len(data), CHUNK):
            self._process.stdin.write(data[start : start + CHUNK])
        self._process.stdin.flush()

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def output(self) -> Iterator[tuple[int, bytes]]:
        for kind, pipe in ((STDOUT, self._process.stdout), (STDERR, self._process.stderr)):
            threading.Thread(target=_pump, args=(kind, pipe, self._pieces), daemon=True).start()
        held, open_pipes = b"", 2
        while open_pipes and (piece := self._pieces.get()):
            kind, content = piece
            if kind == STDERR and content:
                content, held, status = without_status(held + content, self._mark)
                self._status = self._status if status is None else status
            elif not content:
                open_pipes -= 1
            if content:
                yield kind, content
        if held:
            yield STDERR, held

    def status(self) -> int | None:
        return None if self._status is None else signed(self._status)

    def kill(self) -> None:
        """Ends the local ``ssh``. The shared connection keeps its pipes open until the board's command ends."""
        self._pieces.put(None)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            self.close_input()


def without_status(errors: bytes, mark: bytes) -> tuple[bytes, bytes, int | None]:
    """What a command itself wrote to standard error, what may yet become the line with its status, and the status."""
    start = errors.find(mark)
    if start < 0:
        start = max(errors.rfind(b"\n"), 0)
        return (errors[:start], errors[start:], None) if mark.startswith(errors[start:]) else (errors, b"", None)
    told, ended, rest = errors[start + len(mark) :].partition(b"\n")
    return (errors[:start] + rest, b"", int(told)) if ended else (errors[:start], errors[start:], None)


def _pump(kind: int, pipe: IO[bytes] | None, pieces: Queue[tuple[int, bytes] | None]) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError, ValueError):
        while content := os.read(pipe.fileno(), CHUNK):
            pieces.put((kind, content))
    pieces.put((kind, b""))


def open_transport(address: str, launch: Launch) -> RemoteTransport:
    """``address`` reads [user@]host[:port]. Raises DeviceLost, DeviceUnavailable, UsageError."""
    shell = SshShell(address)
    facts = run(shell, 'echo "$HOME"; uname -m').text.split("\n")
    if len(facts) < 2:
        raise DeviceUnavailable(f"board {address} must be a Linux system, but its shell answered {facts}")
    return RemoteTransport(shell, Place(f"{facts[0]}/{FOLDER}", lambda: _bundle(facts[1])), launch)


def _bundle(machine: str) -> Parcel:
    if machine not in ABI_OF_MACHINE:
        known = ", ".join(ABI_OF_MACHINE)
        raise DeviceUnavailable(
            f"there must be a bundle for the board, but it is {machine!r}, not {known}; install Python with the "
            "engines there and name it with --agent-python"
        )
    return bundle_parcel(ABI_OF_MACHINE[machine])
