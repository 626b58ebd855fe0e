"""Phones on ADB: which are connected, what they are, what to do about those that cannot be used, and who is meant."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from host.accelerators import ACCELERATORS, needed_files, supports
from host.bundle_lock import ABIS as BUNDLED
from host.errors import DeviceUnavailable
from host.identity import PROBE, Identity, parse_probe
from host.socs import SOCS, soc_named
from host.transport.shell import Shell, run

ADB = "adb:"
READY = "device"
SERVER_LIMIT_S = 30.0
PROBE_LIMIT_S = 20.0

ADVICE = {
    "unauthorized": "allow USB debugging on its screen",
    "authorizing": "allow USB debugging on its screen",
    "offline": "plug it in again, or 'adb reconnect offline'",
    "no permissions": "give this user access to the USB device (udev rules), then plug it in again",
    "recovery": "restart it into Android",
    "sideload": "restart it into Android",
    "bootloader": "restart it into Android",
}
"""What to do about a phone that ADB lists in another state than ready."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as ADB lists it, and what it says of itself where it answers."""

    serial: str
    state: str
    model: str
    identity: Identity | None = None

    @property
    def title(self) -> str:
        what = f"{self.identity.model}, {_chip(self.identity)}" if self.identity else self.model or "model unknown"
        return f"{self.serial} ({what}, {ADVICE.get(self.state, self.state) if self.state != READY else 'ready'})"


def list_phones(start_server: bool = False) -> list[Phone]:
    """The phones that the ADB server knows; none where there is no server and none is to be started."""
    import adbutils

    if start_server and not adb_server_runs():
        start_adb_server()
    if not adb_server_runs():
        return []
    try:
        listed = adbutils.AdbClient().list(extended=True)
    except (adbutils.AdbError, OSError):
        return []
    phones = [Phone(entry.serial, entry.state, entry.tags.get("model", "")) for entry in listed]
    return [replace(phone, identity=_identity_of(phone)) for phone in phones]


def describe_phone(phone: Phone) -> dict[str, Any]:
    """What a person wants to know of a phone: what it is, how it is now, and what can be measured on it."""
    found: dict[str, Any] = {"serial": phone.serial, "state": phone.state}
    if phone.identity is None:
        return {**found, "model": phone.model, "to do": ADVICE.get(phone.state, "plug it in again")}
    it, said = phone.identity, phone.identity.said
    battery = _words(said.get("battery", ""))
    found |= {
        "model": it.model,
        "soc": f"{_chip(it)} ({it.evidence})" if it.evidence else _chip(it),
        "android": f"{said.get('ro.build.version.release', '?')} (API {said.get('ro.build.version.sdk', '?')})",
        "clusters": {f"cpus {_list(c.cpus)}": f"{c.max_khz / 1e6:.2f} GHz" for c in it.clusters},
        "battery": f"{battery.get('level', '?')} %, {int(battery.get('temperature', 0)) / 10:.1f} degrees",
        "thermal status": said.get("thermal_status", "not told"),
        "in use": said.get("in_use", "no"),
        "engines": _engines(said.get("ro.product.cpu.abi", "")),
        "accelerators": {name: _usable(name, it) for name in ACCELERATORS},
        "meters": {"battery_gauge": "readable" if "current_now" in said.get("readable", "") else "not readable"},
    }
    return found if not it.mismatches else {**found, "mismatches": "; ".join(it.mismatches)}


def read_identity(shell: Shell) -> Identity:
    """Asks a device what it is. Raises DeviceLost."""
    return parse_probe(run(shell, PROBE, limit_s=PROBE_LIMIT_S).text)


def start_adb_server() -> None:
    """Quietly; where it does not start, nothing is listed."""
    import adbutils

    subprocess.run([adbutils.adb_path(), "start-server"], capture_output=True, check=False, timeout=SERVER_LIMIT_S)


def adb_server_runs() -> bool:
    host = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _identity_of(phone: Phone) -> Identity | None:
    from host.transport.adb import AdbShell

    if phone.state != READY:
        return None
    try:
        return read_identity(AdbShell(phone.serial))
    except DeviceUnavailable:
        return None


def answers_to(phone: Phone, name: str) -> bool:
    """Whether a phone is what a name says: its serial, its model, its chip, or its name in the database."""
    if name.removeprefix(ADB) == phone.serial:
        return True
    if phone.identity is None:
        return slug(name) == slug(phone.model) != ""
    said, asked = phone.identity.said, name.rpartition("@")
    if asked[1]:
        return asked[2] == slug(said.get("ro.serialno", phone.serial))
    names = {slug(said.get(key, "")) for key in ("ro.serialno", "ro.product.model", "ro.product.device")}
    return slug(name) in (names | {slug(phone.identity.model)}) - {""} or (
        phone.identity.soc is not None and soc_named(name) == phone.identity.soc
    )


def why_no_phone(name: str, named: Sequence[Phone], phones: Sequence[Phone]) -> str:
    """What a person is told where no one phone is ready under a name, of those that answer to it and all others."""
    listed = "; ".join(phone.title for phone in named or phones) or "no phone"
    if len(named) > 1:
        return f"one phone must be {name!r}, but {len(named)} are: {listed}; name one by its serial"
    if named:
        return f"phone {name!r} must be ready, but is not: {listed}"
    known = "" if soc_named(name) or not name.startswith("snapdragon") else (
        f"; known chips: {', '.join(soc.name for soc in SOCS if soc.name.startswith('snapdragon'))}"
    )  # fmt: skip
    advice = "'--force' takes the phone that is there as it is" if any(p.state == READY for p in phones) else (
        "connect it, allow USB debugging on its screen"
    )  # fmt: skip
    return (
        f"device {name!r} must be connected, but ADB lists {listed}{known}; {advice}, look with 'chamnet devices', or "
        f"measure here with '--device local-cpu'"
    )


def _chip(identity: Identity) -> str:
    return identity.soc.name if identity.soc else identity.said.get("ro.board.platform", "unknown chip")


def slug(text: str) -> str:
    """A name as it is typed: lower case, no spaces."""
    return re.sub(r"[^a-z0-9.+_]+", "-", text.lower()).strip("-")


def _engines(abi: str) -> str:
    if abi in BUNDLED:
        return "onnxruntime, litert (brought on first use), benchmark_model"
    return f"benchmark_model, driven from here: there is no bundle for {abi or 'its ABI'}"


def _usable(name: str, identity: Identity) -> str:
    """How an accelerator is reached, or why it is not."""
    hexagon = identity.soc.hexagon if identity.soc else None
    if reason := supports(name, hexagon):
        return f"no: {reason}"
    files = needed_files(name, hexagon)
    return f"with {', '.join(files)} (docs/dsp.md)" if files else "yes" if name == "cpu" else "if its driver takes it"


def _words(text: str) -> dict[str, str]:
    """``level: 87 status: 2`` by name."""
    return dict(re.findall(r"(\w+): (\S+)", text))


def _list(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))
