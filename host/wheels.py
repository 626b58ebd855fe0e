"""Python wheels for another machine, fetched by pip from wherever pip is set to fetch from."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from host.errors import HostError

PYTHON, ABI = "3.13", "cp313"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel file of a package's version."""

    name: str
    version: str
    filename: str
    sha256: str
    size_bytes: int


def lock_wheel(name: str, version: str, machine: str) -> Wheel:
    """The wheel that pip takes for a machine (``aarch64``, ``x86_64``) and Python 3.13.

    Raises:
        HostError: pip is not there or finds none.
    """
    with TemporaryDirectory() as folder:
        return _describe(_pip_download(name, version, machine, Path(folder)), name, version)


def fetch_wheel(wheel: Wheel, machine: str, cache: Path) -> Path:
    """The wheel's file in the cache, downloaded where it is not there yet.

    Raises:
        HostError: pip is not there, finds none, or gives another file than the locked one.
    """
    path = cache / wheel.filename
    if path.is_file() and _describe(path, wheel.name, wheel.version) == wheel:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as folder:
        fetched = _pip_download(wheel.name, wheel.version, machine, Path(folder))
        got = _describe(fetched, wheel.name, wheel.version)
        if got != wheel:
            raise HostError(
                f"{wheel.name} must come as {wheel.filename} with SHA-256 {wheel.sha256}, but got {got.filename} "
                f"with {got.sha256}; look whether pip's index can be trusted, then 'chamnet bundle lock'"
            )
        os.replace(fetched, path)
    return path


def _describe(path: Path, name: str, version: str) -> Wheel:
    content = path.read_bytes()
    return Wheel(name, version, path.name, hashlib.sha256(content).hexdigest(), len(content))


def _pip_download(name: str, version: str, machine: str, into: Path) -> Path:
    platforms = (word for platform in PLATFORMS for word in ("--platform", f"{platform}_{machine}"))
    command = (
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--abi", ABI, *platforms,
        "--dest", str(into), f"{name}=={version}",
    )  # fmt: skip
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _unfetched(name, version, machine, f"nothing within {TIMEOUT_S} s") from error
    found = next(into.glob("*.whl"), None)
    if ended.returncode or found is None:
        raise _unfetched(name, version, machine, (ended.stderr.strip().splitlines() or ["nothing"])[-1])
    return found


def _unfetched(name: str, version: str, machine: str, reason: str) -> HostError:
    return HostError(
        f"pip must download {name} {version} for {machine}, but got: {reason}; "
        f"see that '{sys.executable} -m pip' works and reaches its index"
    )
