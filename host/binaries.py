"""Where the binary ``benchmark_model`` comes from: given by the user, or downloaded once from its official address.

What it is decides every number that it measures, so its SHA-256 is recorded on first use and enforced afterwards, in
``binaries.json`` in the cache folder. The addresses are those of TensorFlow's nightly builds, whose content changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from host.errors import HostError, UsageError

OFFICIAL = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
NAMES = {
    "arm64-v8a": "android_aarch64_benchmark_model",
    "armeabi-v7a": "android_arm_benchmark_model",
    "linux-x86_64": "linux_x86-64_benchmark_model",
    "linux-aarch64": "linux_aarch64_benchmark_model",
    "linux-arm": "linux_arm_benchmark_model",
}
"""ABI (Android's word, or linux- and the machine) -> the file's name at the official address."""

RECORD = "binaries.json"
DOWNLOAD_LIMIT_S = 60.0
EXECUTABLE = 0o755
ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Binary:
    """An executable on this machine."""

    path: Path
    sha256: str


def obtain(given: Path | None, abi: str, cache: Path, accept_change: bool = False, address: str = OFFICIAL) -> Binary:
    """The binary for that ABI, its digest recorded in the cache folder.

    Args:
        given: the user's own file; None downloads it, unless the cache has it.
        accept_change: record a digest that differs from the recorded one (``--accept-binary``).
        address: the folder that it is downloaded from.

    Raises:
        UsageError: ``given`` is no file, or nothing is offered for the ABI.
        HostError: the digest is not the recorded one, or the download failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if given is not None:
        if not given.is_file():
            raise UsageError(f"--benchmark-binary must be a file, but got {given}")
        return _checked(given, str(given.resolve()), cache, accept_change)
    if abi not in NAMES:
        raise UsageError(
            f"an ABI must be one of {', '.join(NAMES)} for a download, but got {abi!r}; give --benchmark-binary FILE"
        )
    return _downloaded(address + NAMES[abi], cache / NAMES[abi], cache, accept_change)


def _downloaded(address: str, path: Path, cache: Path, accept_change: bool) -> Binary:
    if path.is_file():
        path.chmod(EXECUTABLE)
        return _checked(path, address, cache, accept_change)
    fresh = _download(address, cache, path)
    try:
        sha256 = _checked(fresh, address, cache, accept_change).sha256
        fresh.chmod(EXECUTABLE)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return Binary(path, sha256)


def _checked(path: Path, source: str, cache: Path, accept_change: bool) -> Binary:
    """Raises HostError where the digest of what came from that source is not the one recorded."""
    sha256, records = _digest(path), _load_records(cache)
    recorded = records.get(source)
    if recorded not in (None, sha256) and not accept_change:
        raise HostError(
            f"{source} must have the recorded SHA-256 {recorded}, but got {sha256}; its numbers are not comparable. "
            "Put the former file back, or accept this one with --accept-binary"
        )
    if recorded != sha256:
        _write_records(cache, {**records, source: sha256})
    return Binary(path, sha256)


def _download(address: str, cache: Path, path: Path) -> Path:
    """Into a file of another name in the cache, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=cache, suffix=".part")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(address, timeout=DOWNLOAD_LIMIT_S) as answer:
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
        _check_download(fresh, expected)
    except (OSError, HTTPException, ValueError) as error:
        fresh.unlink(missing_ok=True)
        raise HostError(
            f"{address} must be downloadable, but got {error}; download it by hand to {path}, "
            "or give a file with --benchmark-binary FILE"
        ) from None
    return fresh


def _check_download(fresh: Path, expected: str | None) -> None:
    size_bytes = fresh.stat().st_size
    if expected is not None and size_bytes != int(expected):
        raise ValueError(f"{size_bytes} of {expected} bytes")
    with fresh.open("rb") as file:
        start = file.read(len(ELF))
    if start != ELF:
        raise ValueError(f"no executable: it begins with {start!r}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_records(cache: Path) -> dict[str, Any]:
    path = cache / RECORD
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text())
    except ValueError:
        records = None
    if not isinstance(records, dict):
        raise HostError(
            f"{path} must be a JSON object of digests, but is not; remove it, and digests are recorded anew"
        )
    return records


def _write_records(cache: Path, records: dict[str, Any]) -> None:
    handle, name = tempfile.mkstemp(dir=cache, suffix=".json")
    with os.fdopen(handle, "w") as file:
        json.dump(records, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(cache / RECORD)
