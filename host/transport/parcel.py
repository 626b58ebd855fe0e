"""What is sent to a device whole: a tar, in a folder named by its content."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent import protocol
from host.bundle import bundle_for

DIGITS = 16


@dataclass(frozen=True, slots=True)
class Parcel:
    """A folder to be.

    Attributes:
        name: of the folder on the device; holds the digest of its content.
        read: its tar.
    """

    name: str
    read: Callable[[], bytes]


def parcel_of(name: str, files: Mapping[str, bytes], mode: int = 0o644) -> Parcel:
    """Files as a parcel."""
    tar = tar_of(files, mode)
    return Parcel(f"{name}-{hashlib.sha256(tar).hexdigest()[:DIGITS]}", lambda: tar)


def tar_of(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """An uncompressed tar that depends on names, contents and mode only."""
    pieces = []
    for name, blob in sorted(files.items()):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(blob), mode
        pieces += [entry.tobuf(tarfile.USTAR_FORMAT), blob, bytes(-len(blob) % tarfile.BLOCKSIZE)]
    return b"".join([*pieces, bytes(2 * tarfile.BLOCKSIZE)])


@cache
def bundle_parcel(abi: str) -> Parcel:
    """An interpreter with engines; built or taken from the cache. Raises HostError."""
    bundle = bundle_for(abi)
    return Parcel(f"bundle-{bundle.digest[:DIGITS]}", bundle.path.read_bytes)


@cache
def agent_parcel() -> Parcel:
    """This program's agent."""
    home = Path(protocol.__file__).resolve().parent
    return parcel_of("agent", {f"agent/{path.relative_to(home)}": path.read_bytes() for path in home.rglob("*.py")})
