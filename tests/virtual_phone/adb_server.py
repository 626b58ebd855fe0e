"""A private ADB server: own port, own key, no USB, no emulators, no mDNS; the person's own server is left alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import adbutils

HOST = "127.0.0.1"
EMULATOR_PORTS = range(5555, 5586)
"""Ports where an ADB server looks for emulators by itself."""
START_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 30.0
PR_SET_PDEATHSIG = 1
OTHER_SERVERS = ("ANDROID_SERIAL", "ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_HOST")


@dataclass(frozen=True, slots=True)
class AdbServer:
    """A running server on ``port``; ``adb_path`` is the program that started it."""

    port: int
    adb_path: str

    def adb(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs the adb command against this server."""
        command = [self.adb_path, "-P", str(self.port), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)

    def connect(self, serial: str) -> str:
        """Makes a device known; returns what adb says of it."""
        return self.adb("connect", serial).stdout.decode().strip()

    def disconnect(self, serial: str) -> None:
        self.adb("disconnect", serial)

    def state(self, serial: str) -> str:
        """As ``adb devices`` lists it (device, offline, unauthorized, connecting); empty where it does not."""
        lines = self.adb("devices").stdout.decode().splitlines()[1:]
        return dict(line.split("\t", 1) for line in lines if "\t" in line).get(serial, "")

    def wait_for(self, serial: str, state: str = "device") -> None:
        """Waits for that state.

        Raises:
            subprocess.TimeoutExpired: it does not come.
        """
        self.adb("-s", serial, f"wait-for-any-{state}")


@contextlib.contextmanager
def open_adb_server() -> Iterator[AdbServer]:
    """Starts a server that adb and adbutils find by themselves while the block runs: the environment names it."""
    port, adb_path = free_port(), adbutils.adb_path()
    with (
        tempfile.TemporaryDirectory(prefix="chamnet-adb-", ignore_cleanup_errors=True) as home,
        _variables({"ANDROID_ADB_SERVER_PORT": str(port), "ADB_MDNS": "0"}, without=OTHER_SERVERS),
        _server_process(adb_path, port, Path(home)) as process,
    ):
        _wait_for_port(process, port, Path(home) / "log")
        yield AdbServer(port, adb_path)


def free_port() -> int:
    """A port that nobody uses and that ADB servers do not search."""
    while True:
        with socket.create_server((HOST, 0)) as listener:
            port = int(listener.getsockname()[1])
        if port not in EMULATOR_PORTS:
            return port


@contextlib.contextmanager
def _server_process(adb_path: str, port: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    private = {
        "HOME": str(home), "TMPDIR": str(home), "ANDROID_ADB_LOG_PATH": str(home / "log"),
        "ADB_USB": "0", "ADB_EMU": "0",
    }  # fmt: skip
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [adb_path, "-L", f"tcp:{port}", "server", "nodaemon"],
            env={**os.environ, **private},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.01)
    raise RuntimeError(f"the ADB server must listen on port {port}, but got: {log.read_text(errors='replace')[-500:]}")


@contextlib.contextmanager
def _variables(values: Mapping[str, str], without: tuple[str, ...]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in (*values, *without):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
