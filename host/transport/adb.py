"""A phone on ADB: commands through the ADB server's shell service, by way of adbutils."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

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
BOOTED = "sys.boot_completed"
PHONE = "CHAMNET_PHONE"
"""Tells the agent that the device is a phone, and how it is connected."""

ABIS = ("arm64-v8a", "x86_64")


class AdbShell:
    """Runs commands on one phone. It keeps no connection between them, so a phone may come and go."""

    def __init__(self, serial: str) -> None:
        self.serial = serial

    @property
    def prefix(self) -> list[str]:
        """A command line of this computer that runs a command of the phone."""
        import adbutils

        return [adbutils.adb_path(), "-s", self.serial, "shell"]

    def spawn(self, command: str) -> ShellV2:
        """Raises DeviceLost, DeviceUnavailable where the phone's system is too old."""
        import adbutils

        try:
            connection = self._device().open_transport(timeout=CONNECT_LIMIT_S)
            connection.send_command(f"shell,v2,raw:{command}")
            connection.check_okay()
        except (adbutils.AdbError, OSError, EOFError) as error:
            raise DeviceLost(f"phone {self.serial} must answer over ADB, but got: {error}") from None
        connection.conn.settimeout(None)
        return ShellV2(connection.conn)

    def wait_back(self, limit_s: float) -> None:
        """Waits for the phone, its restart included. Raises DeviceUnavailable."""
        deadline = time.monotonic() + limit_s
        while not self._answers():
            if time.monotonic() > deadline:
                raise DeviceUnavailable(
                    f"phone {self.serial} must come back within {limit_s:.0f} s, but it did not; connect it and repeat "
                    "the command: it goes on where it stopped"
                )
            time.sleep(POLL_S)

    def close(self) -> None:
        pass

    def _answers(self) -> bool:
        try:
            self._reconnect()
            return run(self, f"getprop {BOOTED}", limit_s=CONNECT_LIMIT_S).stdout.strip() != b"0"
        except DeviceUnavailable:
            return False

    def _reconnect(self) -> None:
        """A phone on the network is not kept by an ADB server that was started anew."""
        import adbutils

        if ":" in self.serial:
            try:
                adbutils.AdbClient().connect(self.serial, timeout=CONNECT_LIMIT_S)
            except (adbutils.AdbError, OSError) as error:
                raise DeviceLost(str(error)) from None

    def _device(self) -> Any:
        import adbutils

        return adbutils.AdbClient(socket_timeout=CONNECT_LIMIT_S).device(self.serial)


def open_transport(address: str, launch: Launch) -> RemoteTransport:
    """``address`` is the serial."""
    shell = AdbShell(address)
    cable = "network" if ":" in address else "usb"
    as_phone = replace(launch, environment={**launch.environment, PHONE: cable})
    return RemoteTransport(shell, Place(HOME, lambda: _bundle(shell)), as_phone)


def _bundle(shell: AdbShell) -> Parcel:
    abi = run(shell, "getprop ro.product.cpu.abi").text.strip()
    if abi not in ABIS:
        raise DeviceUnavailable(
            f"there must be a bundle for the phone, but it is {abi!r}, not {', '.join(ABIS)}; '--agent host' drives "
            "benchmark_model on it from here"
        )
    return bundle_parcel(abi)
