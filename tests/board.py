"""A Linux board for tests: a real sshd of Debian's, a user with a home of his own, and a cable that can be pulled.

It runs as one ordinary user in private user, mount and process namespaces on this machine's files, so nothing is
installed and no account is made. ``ssh`` on PATH is Debian's client with keys and hosts of the board's only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from host.debian import closure, fetch, mirror_url, read_index, unpack
from host.errors import HostError
from tests.virtual_phone.adb_server import free_port
from tests.virtual_phone.packages import MACHINE, SUITE, cache_folder
from tests.virtual_phone.relay import HOST, Relay

USER, USER_ID = "board", 1000
PROGRAMS = {
    "sshd": "sbin", "sshd-session": "lib/openssh", "sshd-auth": "lib/openssh", "ssh": "bin", "ssh-keygen": "bin",
}  # fmt: skip
LIBRARIES = "lib/x86_64-linux-gnu"
LEAVE_OUT = (
    "adduser", "debconf", "init-system-helpers", "libpam-modules", "libpam-runtime", "lsb-base", "openssh-sftp-server",
    "openssl-provider-legacy", "passwd", "procps", "runit-helper", "systemd", "sysvinit-utils", "ucf",
)  # fmt: skip
"""What sets up a system, not what the programs load."""

NAMESPACES = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
AS_USER = ("--user", f"--map-user={USER_ID}", f"--map-group={USER_ID}")
START_TIMEOUT_S = 20.0

SERVER_CONFIG = """
ListenAddress {host}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
SshdSessionPath {folder}/bin/sshd-session
SshdAuthPath {folder}/bin/sshd-auth
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
CLIENT_CONFIG = """
IdentityFile {folder}/user_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile none
StrictHostKeyChecking yes
"""


@dataclass(slots=True)
class Board:
    """A running board.

    Attributes:
        address: what stands after ``ssh:``.
        home: the user's home, as a folder of this machine.
        environment: what makes plain ``ssh`` reach it.
    """

    address: str
    home: Path
    environment: Mapping[str, str]
    _relay: Relay
    _server: subprocess.Popen[bytes]

    def pull_cable(self) -> None:
        """Cuts every connection and refuses new ones."""
        self._relay.pull()

    def pull_cable_after(self, size_bytes: int) -> None:
        self._relay.pull_after(size_bytes)

    def plug_cable(self) -> None:
        self._relay.plug()

    def processes(self, word: str) -> list[int]:
        """The board's processes with that word in their command line, by their number on this machine."""
        namespaces = {_namespace(pid) for pid in _children(self._server.pid)}
        return [pid for pid in _pids() if word in _command_line(pid) and _namespace(pid) in namespaces]


@functools.cache
def missing_board() -> str | None:
    """Why a board cannot run here; None where it can. Fetches what it is made of."""
    try:
        command = ["unshare", *NAMESPACES, "unshare", *AS_USER, "id", "-u"]
        probe = subprocess.run(command, capture_output=True, text=True, check=False)
        if probe.stdout.strip() != str(USER_ID):
            return f"a board needs user namespaces, but got: {probe.stderr.strip()}"
        _prepared()
    except (HostError, OSError) as error:
        return f"a board needs unshare and Debian packages that cannot be had here: {error}"
    return None


@contextlib.contextmanager
def open_board() -> Iterator[Board]:
    """A board that runs until the block ends.

    Raises:
        HostError: its packages cannot be fetched.
        OSError: its sshd does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="chamnet-board-", ignore_cleanup_errors=True) as name:
        folder, inner, outer = Path(name), free_port(), free_port()
        _write_files(folder, inner, outer)
        with _running(folder, inner) as server, contextlib.closing(Relay(outer, lambda: _dial(inner))) as relay:
            relay.plug()
            path = f"{folder}/client:{os.environ['PATH']}"
            yield Board(f"{USER}@{HOST}:{outer}", folder / "home", {"PATH": path}, relay, server)


def _prepared() -> Path:
    """Debian's programs and all that they load, unpacked once into the cache."""
    recipe = hashlib.sha256(repr((SUITE, LEAVE_OUT)).encode()).hexdigest()[:12]
    prepared = cache_folder() / f"board-{recipe}"
    if prepared.is_dir():
        return prepared
    mirror = mirror_url()
    packages = closure(read_index(mirror, SUITE, MACHINE), ("openssh-server", "libc6"), LEAVE_OUT)
    prepared.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prepared.parent, prefix="unfinished-") as unfinished:
        for package in packages:
            unpack(fetch(mirror, package, cache_folder() / "packages"), Path(unfinished, "complete"))
        with contextlib.suppress(OSError):
            Path(unfinished, "complete").rename(prepared)
    return prepared


def _write_files(folder: Path, inner: int, outer: int) -> None:
    for name in ("bin", "client", "home"):
        (folder / name).mkdir()
    for name in PROGRAMS:
        _write_program(folder / "bin" / name, name)
    for name in ("host_key", "user_key"):
        _ran([str(folder / "bin/ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    (folder / "server.conf").write_text(SERVER_CONFIG.format(host=HOST, port=inner, folder=folder))
    (folder / "client.conf").write_text(CLIENT_CONFIG.format(folder=folder))
    (folder / "known_hosts").write_text(f"[{HOST}]:{outer} {(folder / 'host_key.pub').read_text()}")
    _write_program(folder / "client/ssh", "ssh", "-F", str(folder / "client.conf"))
    accounts = Path("/etc/passwd").read_text().splitlines()
    others = [line for line in accounts if line.split(":")[2] != str(USER_ID)]
    account = f"{USER}:x:{USER_ID}:{USER_ID}::{folder}/home:/bin/sh"
    (folder / "passwd").write_text("\n".join([*others, account, ""]))


def _write_program(path: Path, name: str, *arguments: str) -> None:
    """Runs a program of the unpacked packages by their own loader, whatever C library this machine has."""
    root = _prepared() / "usr"
    libraries = root / LIBRARIES
    words = [
        str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), "--argv0", str(path),
        str(root / PROGRAMS[name] / name), *arguments,
    ]  # fmt: skip
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


@contextlib.contextmanager
def _running(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    as_user = shlex.join(["unshare", *AS_USER, str(folder / "bin/sshd"), "-D", "-e", "-f", str(folder / "server.conf")])
    script = f"mount --bind {shlex.quote(str(folder / 'passwd'))} /etc/passwd && exec {as_user}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(folder / "home")},
        )  # fmt: skip
    try:
        _wait_for(server, port, folder / "log")
        yield server
    finally:
        for pid in _children(server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with contextlib.suppress(OSError):
            _dial(port).close()
            return
        time.sleep(0.01)
    raise OSError(f"sshd must listen on port {port}, but got: {log.read_text(errors='replace')[-500:]}")


def _dial(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=None)


def _ran(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} must run, but got: {done.stderr.strip()}")


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return ""


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
