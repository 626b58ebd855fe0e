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
from host.transport.shell_v2 import CHUNK, STDERR, STDOUT

CONNECT_LIMIT_S = 10
POLL_S = 1.0
FOLDER = ".cache/chamnet"
ADDRESS = re.compile(r"(?:[\w.-]+@)?\[?[\w.:-]+?\]?(?::\d+)?")
ABI_OF_MACHINE = {"aarch64": "arm64-v8a", "x86_64": "x86_64"}
SIGNAL_BASE = 128


class SshShell:
    """Runs commands on one board, over one shared connection."""

    def __init__(self, address: str) -> None:
        """``address`` reads [user@]host[:port]. Raises UsageError, DeviceUnavailable."""
        if not ADDRESS.fullmatch(address) or address.startswith("-"):
            raise UsageError(f"a board must be named ssh:user@host or ssh:user@host:port, but got {address!r}")
        if shutil.which("ssh") is None:
            raise DeviceUnavailable("the program 'ssh' must be installed to reach a board, but it is not on PATH")
        host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "")
        self.address = address
        self._folder = tempfile.TemporaryDirectory(prefix="chamnet-ssh-", ignore_cleanup_errors=True)
        shared = ["ControlMaster=auto", f"ControlPath={self._folder.name}/%C", "ControlPersist=60"]
        options = ["BatchMode=yes", f"ConnectTimeout={CONNECT_LIMIT_S}", "ServerAliveInterval=5", *shared]
        self._words = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
        self._words += [*(["-p", port] if port else []), host]

    @property
    def prefix(self) -> list[str]:
        return [*self._words, "--"]

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
                        f"board {self.address} must answer within {limit_s:.0f} s, but {loss}; 'ssh {self.address}' "
                        "must work without a password"
                    ) from None
                time.sleep(POLL_S)

    def close(self) -> None:
        subprocess.run([*self._words[:-1], "-O", "exit", self._words[-1]], capture_output=True, check=False)
        self._folder.cleanup()


def _with_status(command: str, mark: str) -> str:
    """Runs the command so that a signal to the connection reaches it, and tells its status at the end."""
    return f"( {command} ); status=$?; printf '\\n%s %d\\n' {mark} $status >&2; exit $status"


class SshStream:
    """A command on a board, behind a local ``ssh``."""

    def __init__(self, process: subprocess.Popen[bytes], mark: bytes) -> None:
        self._process = process
        self._mark = re.compile(rb"\n?" + mark + rb" (\d+)\n")
        self._status: int | None = None

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        for start in range(0, len(data), CHUNK):
            self._process.stdin.write(data[start : start + CHUNK])
        self._process.stdin.flush()

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def output(self) -> Iterator[tuple[int, bytes]]:
        pieces: Queue[tuple[int, bytes]] = Queue()
        for kind, pipe in ((STDOUT, self._process.stdout), (STDERR, self._process.stderr)):
            threading.Thread(target=_pump, args=(kind, pipe, pieces), daemon=True).start()
        tail, open_pipes = b"", 2
        while open_pipes:
            kind, content = pieces.get()
            if not content:
                open_pipes -= 1
            elif kind == STDOUT:
                yield kind, content
            else:
                tail = self._told(tail + content)
                if self._status is None and len(tail) > CHUNK:
                    yield kind, tail[:-CHUNK]
                    tail = tail[-CHUNK:]
        if tail:
            yield STDERR, tail

    def status(self) -> int | None:
        if self._status is None or self._status <= SIGNAL_BASE:
            return self._status
        return SIGNAL_BASE - self._status

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            self.close_input()

    def _told(self, errors: bytes) -> bytes:
        """Takes the status out of what was written to standard error."""
        if found := self._mark.search(errors):
            self._status = int(found[1])
            return errors[: found.start()]
        return errors


def _pump(kind: int, pipe: IO[bytes] | None, pieces: Queue[tuple[int, bytes]]) -> None:
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
