"""A phone that a test may treat badly: real adbd, real shell, everything else made up and changeable while it runs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.virtual_phone import state, sysfs
from tests.virtual_phone.adb_server import free_port
from tests.virtual_phone.launch import Container, Spec, start_container
from tests.virtual_phone.packages import ABIS
from tests.virtual_phone.profiles import Profile, profile_named
from tests.virtual_phone.relay import HOST, Relay
from tests.virtual_phone.rootfs import ADBD_HOME, prepare_programs

Plug = Literal["usb", "ac", "wireless", "none"]
SHELL_UID = 2000
ENVIRONMENT = {
    "PATH": "/product/bin:/system/bin:/vendor/bin", "HOME": "/", "SHELL": "/bin/sh", "TMPDIR": "/data/local/tmp",
    "ANDROID_ROOT": "/system", "ANDROID_DATA": "/data",
}  # fmt: skip


@dataclass(slots=True)
class VirtualPhone:
    """A running phone.

    Attributes:
        serial: as adb knows it after ``adb connect``.
        root: its file system on this machine; changes are seen at once, by both sides.
    """

    serial: str
    root: Path
    abi: str
    serialno: str
    profile: Profile
    _spec: Spec
    _relay: Relay
    _container: Container

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def write(self, path: str, text: str) -> None:
        """One file, in place; a newline is added."""
        state.write_text(self.root, path, text)

    def deny(self, path: str) -> None:
        """Makes a file unreadable for the phone's shell, as SELinux may."""
        (self.root / path.lstrip("/")).chmod(0)

    def calls(self) -> list[str]:
        """The commands that changed or asked something through Android's tools, oldest first."""
        return self.read(f"{state.FAKE}/calls").splitlines()

    def property(self, name: str) -> str | None:
        return self._value(f"properties/{name}")

    def set_property(self, name: str, value: str) -> None:
        self.write(f"{state.FAKE}/properties/{name}", value)

    def setting(self, name: str, namespace: str = "global") -> str | None:
        return self._value(f"settings/{namespace}/{name}")

    def set_setting(self, name: str, value: str, namespace: str = "global") -> None:
        self.write(f"{state.FAKE}/settings/{namespace}/{name}", value)

    def become(self, soc: str) -> None:
        """Takes on another chip of PROFILES, with its properties, clusters and sensors; settings stay."""
        self.profile = profile_named(soc)
        state.write_profile(self.root, self.profile, self.abi, self.serialno)

    def reset(self, soc: str = "snapdragon835") -> None:
        """As it was when it was new, but for files in its storage and the settings' remains there."""
        state.write_state(self.root, profile_named(soc), self.abi, self.serialno)
        self.profile = profile_named(soc)

    def heat(
        self,
        zones_mc: Mapping[str, int] | None = None,
        status: int | None = None,
        battery_mc: int | None = None,
    ) -> None:
        """Temperatures of thermal zones by their type, the thermal status (0 none to 6 shutdown), the battery's."""
        for name, temp_mc in (zones_mc or {}).items():
            self.write(f"{self._zone(name)}/temp", str(temp_mc))
        if status is not None:
            self.write(f"{state.FAKE}/thermal_status", str(status))
        if battery_mc is not None:
            self.write(f"{sysfs.SUPPLY}/battery/temp", str(battery_mc // 100))
            self.write(f"{self._zone('battery')}/temp", str(battery_mc))

    def cap_frequency(self, policy: int, khz: int) -> None:
        """The cluster's clock may not exceed it, as when the phone is hot."""
        for name in ("scaling_max_freq", "scaling_cur_freq"):
            self.write(f"{sysfs.CPU}/cpufreq/policy{policy}/{name}", str(khz))

    def charge(
        self,
        *,
        level_percent: int | None = None,
        into_battery_ua: int | None = None,
        counter_uah: int | None = None,
        plug: Plug | None = None,
    ) -> None:
        """The battery; ``into_battery_ua`` is negative while it discharges, whatever this phone's gauge makes of it."""
        battery = f"{sysfs.SUPPLY}/battery"
        if level_percent is not None:
            self.write(f"{battery}/capacity", str(level_percent))
        if counter_uah is not None:
            self.write(f"{battery}/charge_counter", str(counter_uah))
        if into_battery_ua is not None:
            self.write(f"{battery}/current_now", sysfs.battery_current(self.profile, into_battery_ua))
            self.write(f"{battery}/status", _charging_status(into_battery_ua))
        if plug is not None:
            for name in sysfs.PLUGS:
                self.write(f"{sysfs.SUPPLY}/{name}/online", str(int(name == plug)))

    def offer_node(self, node: str, value: str) -> None:
        """A file below power_supply that its shell may write, as on phones whose charging can be suspended."""
        self.write(f"{sysfs.SUPPLY}/{node}", value)

    def node(self, node: str) -> str:
        """What such a file holds now."""
        return self.read(f"{sysfs.SUPPLY}/{node}").strip()

    def pull_cable(self) -> None:
        self._relay.pull()

    def pull_cable_after(self, size_bytes: int) -> None:
        """Pulls it when so many more bytes have gone through, both ways together; adb compresses what it pushes."""
        self._relay.pull_after(size_bytes)

    def plug_cable(self) -> None:
        """An ADB server that knows the phone finds it again by itself, within seconds."""
        self._relay.plug()

    def reboot(self, complete: bool = True) -> None:
        """Ends all processes and starts anew on the same files; ``sys.boot_completed`` is 0 until it is complete."""
        self._relay.pull()
        self._container.stop()
        self.set_property("sys.boot_completed", "0")
        _new_boot_id(self.root)
        self._container = start_container(self._spec, self._container.log)
        self._relay.plug()
        if complete:
            self.complete_boot()

    def complete_boot(self) -> None:
        self.set_property("sys.boot_completed", "1")

    def fill_storage(self, free_bytes: int) -> None:
        """Leaves so much room in /data/local/tmp until the next reboot; what is written there then stays in memory,
        unseen in ``root``."""
        self._container.fill_storage(free_bytes)

    def processes(self) -> dict[int, str]:
        """What runs on the phone: process id on this machine -> command line (an emulator's, for arm64-v8a)."""
        return self._container.processes()

    def close(self) -> None:
        self._relay.close()
        self._container.stop()

    def _zone(self, name: str) -> str:
        number = list(self.profile.zones_mc).index(name)
        return f"{sysfs.THERMAL}/thermal_zone{number}"

    def _value(self, name: str) -> str | None:
        path = self.root / state.FAKE / name
        return path.read_text().rstrip("\n") if path.exists() else None


@contextlib.contextmanager
def open_phone(
    abi: str = "x86_64", soc: str = "snapdragon8gen2", serialno: str = "VPHONE0001", qemu_cpu: str = "", port: int = 0
) -> Iterator[VirtualPhone]:
    """A phone that runs until the block ends; connect to its ``serial``.

    ``x86_64`` runs at this machine's speed, ``arm64-v8a`` through an emulator, as the processor ``qemu_cpu`` where one
    is named (such as cortex-a53). ``availability.missing`` says beforehand why it cannot.

    Raises:
        HostError: its packages cannot be fetched.
        OSError: its processes do not come up.
    """
    with tempfile.TemporaryDirectory(prefix="chamnet-phone-", ignore_cleanup_errors=True) as folder:
        phone = _start(Path(folder), abi, profile_named(soc), serialno, qemu_cpu, port or free_port())
        try:
            yield phone
        finally:
            phone.close()


def _start(folder: Path, abi: str, profile: Profile, serialno: str, qemu_cpu: str, port: int) -> VirtualPhone:
    root, programs = folder / "root", prepare_programs(ABIS[abi])
    shutil.copytree(programs.root, root, symlinks=True)
    state.write_commands(root)
    state.write_state(root, profile, abi, serialno)
    _new_boot_id(root)
    environment = {**ENVIRONMENT, **({"QEMU_CPU": qemu_cpu} if qemu_cpu else {})}
    spec = Spec(str(root), f"/{ADBD_HOME}", str(programs.emulator or ""), SHELL_UID, environment)
    container = start_container(spec, folder / "log")
    relay = Relay(port, lambda: phone._container.dial())
    phone = VirtualPhone(f"{HOST}:{port}", root, abi, serialno, profile, spec, relay, container)
    relay.plug()
    return phone


def _new_boot_id(root: Path) -> None:
    state.write_text(root, sysfs.BOOT_ID, str(uuid.uuid4()))


def _charging_status(into_battery_ua: int) -> str:
    if into_battery_ua == 0:
        return "Not charging"
    return "Charging" if into_battery_ua > 0 else "Discharging"
