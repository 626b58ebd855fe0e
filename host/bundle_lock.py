"""What exactly goes into the bundles: every Debian package and wheel by version and SHA-256, in ``bundle_lock.json``.

Names no mirror and no index: any of them gives the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host.debian import Package, closure, mirror_url, read_index
from host.errors import HostError, UsageError
from host.wheels import Wheel, lock_wheel

SUITE = "trixie"
DEBIAN_ROOTS = ("python3.13-minimal", "libpython3.13-stdlib", "libc6", "libstdc++6", "libgcc-s1")
DEBIAN_LEFT_OUT = (
    "debconf", "gcc-14-base", "libbz2-1.0", "libdb5.3t64", "liblzma5", "libncursesw6", "libreadline8t64",
    "libsqlite3-0", "libssl3t64", "libtinfo6", "libuuid1", "media-types", "netbase", "tzdata",
)  # fmt: skip
"""Needed only by parts of the standard library that ``bundle_contents`` leaves out, or by an installation."""
WHEELS = {"ai-edge-litert": "2.3.0", "flatbuffers": "25.12.19", "numpy": "2.5.5", "onnxruntime": "1.32.0"}
"""Engines as in requirements.lock, so that device and host agree; numpy the newest for Python 3.13."""
LOCK = Path(__file__).with_name("bundle_lock.json")

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Abi:
    """What one of Android's ABIs is called elsewhere, and the smallest page its segments must be aligned to (bytes)."""

    debian: str
    machine: str
    triplet: str
    loader: str
    align_bytes: int


ABIS = {
    "arm64-v8a": Abi("arm64", "aarch64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", 16384),
    "x86_64": Abi("amd64", "x86_64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", 4096),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that one bundle is made from."""

    debian: tuple[Package, ...]
    wheels: tuple[Wheel, ...]

    @property
    def versions(self) -> dict[str, str]:
        debian = {package.name: package.version for package in self.debian}
        return {**debian, **{wheel.name: wheel.version for wheel in self.wheels}}


@dataclass(frozen=True, slots=True)
class Lock:
    """The parts of every bundle, by ABI, from one Debian suite."""

    suite: str
    parts: Mapping[str, Parts]

    @property
    def digest(self) -> str:
        return hashlib.sha256(_to_json(self).encode()).hexdigest()


def abi_named(name: str) -> Abi:
    if name not in ABIS:
        raise UsageError(f"abi must be one of {', '.join(ABIS)}, but got {name!r}; choose one")
    return ABIS[name]


def load_lock(path: Path = LOCK) -> Lock:
    """Reads a lock file.

    Raises:
        HostError: it is not there or is no lock file.
    """
    try:
        body = json.loads(path.read_text())
        return Lock(body["suite"], {name: _parts(body["parts"][name]) for name in ABIS})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"{path} must list the bundle's parts, but got {type(error).__name__}: {error}; "
            "write it anew with 'chamnet bundle lock'"
        ) from error


def save_lock(lock: Lock, path: Path = LOCK) -> None:
    path.write_text(_to_json(lock))


def lock_bundle(mirror: str = "", tell: Tell = lambda stage, done, total: None) -> Lock:
    """The newest Debian versions of the suite that a mirror has, and the pinned wheels. Writes nothing."""
    address = mirror_url(mirror)
    parts = {}
    for name, abi in ABIS.items():
        index = read_index(address, SUITE, abi.debian)
        wheels = []
        for done, (wheel, version) in enumerate(WHEELS.items()):
            tell(f"{name} wheels", done, len(WHEELS))
            wheels.append(lock_wheel(wheel, version, abi.machine))
        parts[name] = Parts(tuple(closure(index, DEBIAN_ROOTS, DEBIAN_LEFT_OUT)), tuple(wheels))
    return Lock(SUITE, parts)


def _parts(body: Mapping[str, Any]) -> Parts:
    return Parts(
        tuple(Package(**package) for package in body["debian"]), tuple(Wheel(**wheel) for wheel in body["wheels"])
    )


def _to_json(lock: Lock) -> str:
    parts = {
        name: {"debian": list(map(_locked, part.debian)), "wheels": list(map(asdict, part.wheels))}
        for name, part in lock.parts.items()
    }
    return json.dumps({"suite": lock.suite, "parts": parts}, indent=1) + "\n"


def _locked(package: Package) -> dict[str, Any]:
    """What identifies the file; what it depends on was settled when the lock was made."""
    return {name: value for name, value in asdict(package).items() if name not in ("depends", "provides")}
