"""What the virtual phone is made of: Debian packages, fetched into the cache and unpacked beside each other.

Newest of the suite, no lock: the phone is a tool for tests. Once one is prepared (``rootfs.py``) nothing is fetched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.debian import Package, closure, fetch, mirror_url, read_index, unpack

SUITE = "trixie"
MACHINE = "amd64"
"""The architecture of this machine: adbd and the emulator run on it natively."""
TOOLS = ("adbd", "patchelf")
EMULATOR = "qemu-user"
USERLAND = ("busybox-static", "mksh", "toybox")


@dataclass(frozen=True, slots=True)
class Abi:
    """An Android ABI in Debian's words."""

    name: str
    architecture: str
    triple: str
    loader: str

    @property
    def musl_triple(self) -> str:
        return self.triple.replace("-gnu", "-musl")

    @property
    def needs_emulator(self) -> bool:
        return self.architecture != MACHINE


ABIS: Mapping[str, Abi] = {
    "arm64-v8a": Abi("arm64-v8a", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
    "x86_64": Abi("x86_64", "amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Unpacked packages: ``tools`` of this machine, ``userland`` of the phone; ``emulator`` None where not needed."""

    tools: Path
    userland: Path
    emulator: Path | None


def cache_folder() -> Path:
    chosen = os.environ.get("CHAMNET_CACHE")
    return (Path(chosen) if chosen else Path.home() / ".cache" / "chamnet") / "virtual_phone"


@contextlib.contextmanager
def fetched_parts(abi: Abi, cache: Path) -> Iterator[Parts]:
    """Fetches what is not in the cache; the unpacked files are removed when the block ends.

    Raises:
        HostError: no mirror is known, or it does not answer.
    """
    mirror = mirror_url()
    machine_index = read_index(mirror, SUITE, MACHINE)
    phone_index = read_index(mirror, SUITE, abi.architecture) if abi.needs_emulator else machine_index
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unpacked-") as folder:
        parts = Path(folder)
        _unpack_all(mirror, closure(machine_index, TOOLS), cache, parts / "tools")
        _unpack_all(mirror, closure(phone_index, USERLAND), cache, parts / "userland")
        emulator = _emulator(mirror, machine_index, cache, parts) if abi.needs_emulator else None
        yield Parts(parts / "tools", parts / "userland", emulator)


def _unpack_all(mirror: str, packages: Sequence[Package], cache: Path, into: Path) -> None:
    for package in packages:
        unpack(fetch(mirror, package, cache / "packages"), into)


def _emulator(mirror: str, index: Mapping[str, Package], cache: Path, parts: Path) -> Path:
    """One program of a package that holds an emulator of every architecture."""
    unpack(fetch(mirror, index[EMULATOR], cache / "packages"), parts / "emulators")
    program = parts / "qemu-aarch64"
    shutil.move(parts / "emulators/usr/bin/qemu-aarch64", program)
    shutil.rmtree(parts / "emulators")
    return program
