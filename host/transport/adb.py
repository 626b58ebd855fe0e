"""A phone on ADB: commands through the ADB server's shell service, by way of adbutils."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from host.bundle_lock import ABIS
from host.errors import DeviceUnavailable
from host.transport import DeviceLost, Launch
from host.transport.parcel import Parcel, bundle_parcel
from host.transport.remote import Place, RemoteTransport
from host.transport.shell import run
from host.transport.shell_v2 import ShellV2

CONNECT_LIMIT_S = 10.0
"""For the ADB server and the phone to accept a command; running it has limits of its own."""

HOME = "/data/local/tmp/chamnet"
POLL_S = 1.0
BOOTED, SERIALNO = "sys.boot_completed", "ro.serialno"
PHONE = "CHAMNET_PHONE"
"""Tells the agent that the device is a phone, and how it is connected."""

MDNS = "._tcp"
"""In the serial of a phone that was found by wireless debugging: adb-SERIAL-X._adb-tls-connect._tcp."""


class AdbShell:
    """Runs commands on one phone. It keeps no connection between them, so a phone may come and go."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._serialno = ""

    @property
    def prefix(self) -> list[str]:
        """A command line of this computer that runs a command of the phone."""
        import adbutils

        return [adbutils.adb_path(), "-s", self.serial, "shell"]

    def spawn(self, command: str) -> ShellV2:
        """Raises DeviceLost."""
        import adbutils

        with self._answering():
            device = adbutils.AdbClient(socket_timeout=CONNECT_LIMIT_S).device(self.serial)
            connection = device.open_transport(timeout=CONNECT_LIMIT_S)
            connection.send_command(f"shell,v2,raw:{command}")
            connection.check_okay()
            connection.conn.settimeout(None)
            return ShellV2(connection.conn)

    def wait_back(self, limit_s: float) -> None:
        """Waits until the phone is there and has started. Raises DeviceUnavailable."""
        deadline = time.monotonic() + limit_s
        while absence := self._absence():
            if time.monotonic() >= deadline:
                raise DeviceUnavailable(
                    f"phone {self.serial} must be ready, but for {limit_s:.0f} s it was not: {absence}; connect it and "
                    "repeat the command: it goes on where it stopped"
                )
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def close(self) -> None:
        pass

    def _absence(self) -> str:
        """Why the phone cannot be worked with now; empty where it can."""
        try:
            self._reconnect()
            said = run(self, f"getprop {BOOTED}; getprop {SERIALNO}", limit_s=CONNECT_LIMIT_S).text.splitlines()
        except DeviceUnavailable as loss:
            return str(loss)
        booted, serialno = [*said, "", ""][:2]
        if booted != "1":
            return "it is still starting"
        if self._serialno not in ("", serialno):
            return f"phone {serialno} answers in its place"
        self._serialno = serialno
        return ""

    def _reconnect(self) -> None:
        """A phone on the network is not kept by an ADB server that was started anew."""
        import adbutils

        if ":" in self.serial:
            with self._answering():
                adbutils.AdbClient().connect(self.serial, timeout=CONNECT_LIMIT_S)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turns what adbutils raises, where there is no phone, no server, or an answer cut short."""
        import adbutils

        try:
            yield
        except (adbutils.AdbError, OSError, EOFError, ValueError, subprocess.SubprocessError) as error:
            told = " ".join(str(error).split()).rstrip(".")
            raise DeviceLost(f"phone {self.serial} must answer over ADB, but got: {told}") from None


def open_transport(address: str, launch: Launch) -> RemoteTransport:
    """``address`` is the serial."""
    shell = AdbShell(address)
    cable = "network" if ":" in address or MDNS in address else "usb"
    as_phone = replace(launch, environment={**launch.environment, PHONE: cable})
    return RemoteTransport(shell, Place(HOME, lambda: _bundle(shell)), as_phone)


def _bundle(shell: AdbShell) -> Parcel:
    abi = run(shell, "getprop ro.product.cpu.abi").text.strip()
    if abi not in ABIS:
        raise DeviceUnavailable(
            f"there must be a bundle for the phone's ABI ({', '.join(ABIS)}), but got {abi!r}; "
            "'--agent host' drives benchmark_model on it from here"
        )
    return bundle_parcel(abi)
