"""Phones on ADB: which are connected, what they are, what to do about those that cannot be used, and who is meant."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from host.accelerators import ACCELERATORS, needed_files, supports
from host.bundle_lock import ABIS as BUNDLED
from host.errors import DeviceUnavailable
from host.gate import Gate
from host.identity import OLDEST_SDK, PROBE, Identity, parse_probe
from host.lease import STALE_S, who
from host.socs import SOCS, soc_named
from host.transport.shell import Shell, run

ADB = "adb:"
READY = "device"
SILENT = "silent"
"""A state of ours: ADB lists the phone as ready, but its shell does not answer."""
SERVER_LIMIT_S = 30.0
PROBE_LIMIT_S = 20.0
PROBED_AT_ONCE = 8
HOT_MC = Gate().battery_mc

ADVICE = {
    "unauthorized": "allow USB debugging on its screen",
    "authorizing": "allow USB debugging on its screen",
    "connecting": "wait a moment",
    "offline": "plug it in again, or 'adb reconnect offline'",
    "no permissions": "give this user access to the USB device (udev rules), then plug it in again",
    "recovery": "restart it into Android",
    "rescue": "restart it into Android",
    "sideload": "restart it into Android",
    "bootloader": "restart it into Android",
    SILENT: "it does not answer: restart it",
}
"""What to do about a phone that ADB lists in another state than ready, or that is silent."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as ADB lists it, and what it says of itself where it answers."""

    serial: str
    state: str
    model: str
    identity: Identity | None = None

    @property
    def is_ready(self) -> bool:
        return self.identity is not None

    @property
    def advice(self) -> str:
        """What to do before it can be used; empty where it is ready."""
        return "" if self.is_ready else ADVICE.get(self.state, "plug it in again")

    @property
    def title(self) -> str:
        if self.identity is None:
            return f"{self.serial} ({self.model or 'model unknown'}, {self.state}: {self.advice})"
        return f"{self.serial} ({self.identity.model}, {_chip(self.identity)}, ready)"


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
    phones = [Phone(entry.serial, _state(entry.state), entry.tags.get("model", "")) for entry in listed]
    with ThreadPoolExecutor(PROBED_AT_ONCE) as pool:
        return list(pool.map(_asked, phones))


def describe_phone(phone: Phone) -> dict[str, Any]:
    """What a person wants to know of a phone: what it is, how it is now, what to do, and what can be measured on it."""
    found: dict[str, Any] = {"serial": phone.serial, "state": "ready" if phone.is_ready else phone.state}
    if phone.identity is None:
        return {**found, "model": phone.model, "to do": phone.advice}
    it, said = phone.identity, phone.identity.said
    to_do = "; ".join(_to_do(it))
    return {
        **found,
        "model": it.model,
        "soc": f"{_chip(it)} ({it.evidence})" if it.evidence else _chip(it),
        "android": f"{said.get('ro.build.version.release', '?')} (API {said.get('ro.build.version.sdk', '?')})",
        "clusters": {f"cpus {_list(c.cpus)}": f"{c.max_khz / 1e6:.2f} GHz" for c in it.clusters},
        "battery": _battery(said),
        "thermal status": said.get("thermal_status", "not told"),
        "in use": holder(said) or "no",
        "engines": _engines(said.get("ro.product.cpu.abi", "")),
        "accelerators": {name: _usable(name, it) for name in ACCELERATORS},
        "meters": {"battery_gauge": "readable" if "current_now" in said.get("readable", "") else "not readable"},
        **({"emulated": "yes; searches refuse what is measured on it"} if it.emulated else {}),
        **({"mismatches": "; ".join(it.mismatches)} if it.mismatches else {}),
        **({"to do": to_do} if to_do else {}),
    }


def holder(said: Mapping[str, str]) -> str:
    """Who measures on a phone, by its lock folder; empty where nobody does, or has not been heard of for too long."""
    age = said.get("in_use_s", "")
    return who(said["in_use"]) if "in_use" in said and age.isdecimal() and int(age) < STALE_S else ""


def read_identity(shell: Shell) -> Identity:
    """Asks a device what it is. Raises DeviceLost."""
    return parse_probe(run(shell, PROBE, limit_s=PROBE_LIMIT_S).text)


def start_adb_server() -> None:
    """Quietly; where it does not start, nothing is listed."""
    import adbutils

    with contextlib.suppress(adbutils.AdbError, OSError, subprocess.SubprocessError):
        subprocess.run([adbutils.adb_path(), "start-server"], capture_output=True, check=False, timeout=SERVER_LIMIT_S)


def adb_server_runs() -> bool:
    host = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _state(told: str) -> str:
    """adbutils cuts "no permissions (...)" after its first word."""
    return "no permissions" if told == "no" else told


def _asked(phone: Phone) -> Phone:
    """With what a ready phone says of itself."""
    from host.transport.adb import AdbShell

    if phone.state != READY:
        return phone
    try:
        return replace(phone, identity=read_identity(AdbShell(phone.serial)))
    except DeviceUnavailable:
        return replace(phone, state=SILENT)


def answers_to(phone: Phone, name: str) -> bool:
    """Whether a phone is what a name says: its serial, its model, its chip, or its name in the database."""
    if name.removeprefix(ADB) == phone.serial:
        return True
    if phone.identity is None:
        return slug(name) == slug(phone.model) != ""
    what, at, serial = name.rpartition("@")
    said, names = phone.identity.said, _names(phone.identity)
    serials = {slug(phone.serial), slug(said.get("ro.serialno", ""))} - {""}
    if at:
        return slug(serial) in serials and (slug(what) in names or soc_named(what) == phone.identity.soc)
    return slug(name) in names | serials or None is not soc_named(name) == phone.identity.soc


def _names(identity: Identity) -> set[str]:
    told = (identity.said.get(key, "") for key in ("ro.product.model", "ro.product.device"))
    return {slug(name) for name in (*told, identity.model)} - {""}


def why_no_phone(name: str, named: Sequence[Phone], phones: Sequence[Phone], force: bool = False) -> str:
    """What a person is told where no one phone is ready under a name, of those that answer to it and all others."""
    listed = "; ".join(phone.title for phone in named or phones) or "no phone"
    ready = [phone for phone in named or phones if phone.is_ready]
    if len(ready) > 1 and (named or force):
        return f"{name!r} must be one phone, but {len(ready)} are ready: {listed}; name one by its serial"
    if named:
        return f"phone {name!r} must be ready, but got {listed}"
    advice = "name it, or take it as it is with '--force'" if ready else "connect it and allow USB debugging"
    return (
        f"device {name!r} must be connected, but ADB lists {listed}{_known(name)}; {advice}, look with "
        "'chamnet devices', or measure here with '--device local-cpu'"
    )


def _known(name: str) -> str:
    """The chips of the same maker, where a name is none of them."""
    maker = re.match("[a-z]+", name.lower())
    known = [soc.name for soc in SOCS if maker and soc.name.startswith(maker[0])]
    return f"; known chips are {', '.join(known)}" if known and soc_named(name) is None else ""


def _chip(identity: Identity) -> str:
    return identity.soc.name if identity.soc else identity.said.get("ro.board.platform", "unknown chip")


def slug(text: str) -> str:
    """A name as it is typed: lower case, no spaces."""
    return re.sub(r"[^a-z0-9.+_]+", "-", text.lower()).strip("-")


def _battery(said: Mapping[str, str]) -> str:
    battery = _words(said.get("battery", ""))
    warmth = f"{int(battery['temperature']) / 10:.1f} degrees" if _is_hot(said) is not None else "warmth not told"
    return f"{battery.get('level', '?')} %, {warmth}"


def _is_hot(said: Mapping[str, str]) -> bool | None:
    """Whether its battery is; None where it does not say."""
    temperature = _words(said.get("battery", "")).get("temperature", "")
    return 100 * int(temperature) >= HOT_MC if re.fullmatch(r"-?\d+", temperature) else None


def _to_do(identity: Identity) -> Iterator[str]:
    said = identity.said
    if identity.is_too_old:
        yield f"take a phone with Android 7 (API {OLDEST_SDK}) or newer"
    if said.get("thermal_status", "0") != "0" or _is_hot(said):
        yield "let it cool: measuring waits until it is"
    if holder(said):
        yield "wait until who uses it has ended"


def _engines(abi: str) -> str:
    if abi in BUNDLED:
        return "onnxruntime, litert (brought on first use), benchmark_model"
    return f"benchmark_model, driven from here, since there is no bundle for {abi or 'its ABI'}"


def _usable(name: str, identity: Identity) -> str:
    """How an accelerator is reached, or why it is not."""
    hexagon = identity.soc.hexagon if identity.soc else None
    if reason := supports(name, hexagon):
        return f"no: {reason}"
    files = needed_files(name, hexagon)
    return f"with {', '.join(files)} (docs/dsp.md)" if files else "yes" if name == "cpu" else "if its driver takes it"


def _words(text: str) -> dict[str, str]:
    """``level: 87 temperature: 287`` by name."""
    return dict(re.findall(r"(\w+): (\S+)", text))


def _list(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))
