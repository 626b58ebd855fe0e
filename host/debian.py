"""Debian packages as files: read a suite's index, fetch what it lists, unpack it; no apt, no root, nothing installed.

What is fetched is held against the SHA-256 in its ``Package``. The index itself is taken as the mirror gives it (its
signature is not checked): trust comes from the lock file that was made from it and reviewed.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from importlib import import_module
from itertools import chain
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from host.apt_sources import APT, debian_archives
from host.errors import HostError

MIRROR_VARIABLE = "CHAMNET_DEBIAN_MIRROR"
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 20
AR_MAGIC, AR_HEADER_BYTES = b"!<arch>\n", 60
ZSTD_MODULES = ("compression.zstd", "zstandard")


class VanishedPackage(HostError):
    """The mirror no longer has this version: a newer one has taken its place."""


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package of a suite; ``depends`` holds the first alternative of each dependency."""

    name: str
    version: str
    architecture: str
    filename: str
    sha256: str
    size_bytes: int
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


def mirror_url(asked: str = "", apt: Path = APT) -> str:
    """The Debian archive to fetch from: as asked, else by the environment, else the one that this machine's apt uses.

    Raises:
        HostError: none is named anywhere.
    """
    named = asked or os.environ.get(MIRROR_VARIABLE, "") or next(debian_archives(apt), "")
    if not named:
        raise HostError(
            f"a Debian mirror must be known, but got none in {apt}; "
            f"name one with --mirror http://HOST/debian or in the variable {MIRROR_VARIABLE}"
        )
    return named.rstrip("/")


def read_index(mirror: str, suite: str, architecture: str) -> dict[str, Package]:
    """The packages of a suite's ``main`` archive for one architecture (a Debian name such as ``arm64``), by name.

    Raises:
        HostError: the mirror does not answer, or what it sends is no index.
    """
    path = f"dists/{suite}/main/binary-{architecture}/Packages.xz"
    try:
        text = lzma.decompress(b"".join(_download(mirror, path))).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise _unreachable(f"{mirror}/{path}", str(error)) from error
    return {package.name: package for package in map(_parse_package, text.strip().split("\n\n")) if package.name}


def fetch(mirror: str, package: Package, cache: Path) -> Path:
    """The package's file in the cache, downloaded where it is not there yet; ``mirror_url`` where none is named.

    Raises:
        VanishedPackage: the mirror no longer has this version.
        HostError: the mirror does not answer, or what it sends is another file.
    """
    path = cache / Path(package.filename).name
    if path.is_file() and _sha256(path) == package.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as folder:
        partial = Path(folder) / path.name
        with partial.open("wb") as file:
            file.writelines(_download(mirror_url(mirror), package.filename, package))
        _check(partial, package)
        os.replace(partial, path)
    return path


def unpack(deb: Path, into: Path) -> None:
    """Writes a package's files under a folder. Links stay links; absolute ones are kept within the folder.

    Raises:
        HostError: the file is no Debian package, or no module here reads its compression.
    """
    into.mkdir(parents=True, exist_ok=True)
    for name, content in _ar_members(deb):
        if name.startswith("data.tar"):
            _extract(deb, _plain_tar(name, content), into)
            return
    raise HostError(f"a Debian package must hold data.tar, but got none in {deb}; delete the file and fetch it again")


def closure(index: Mapping[str, Package], names: Sequence[str], leave_out: Sequence[str] = ()) -> list[Package]:
    """The named packages and all they depend on, sorted by name. Versions and second alternatives are ignored.

    Raises:
        HostError: the suite has no such package and none that provides it.
    """
    found: dict[str, Package] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name in leave_out:
            continue
        package = index.get(name) or _provider(index, name)
        if package.name not in found and package.name not in leave_out:
            found[package.name] = package
            waiting.extend(package.depends)
    return sorted(found.values(), key=lambda package: package.name)


def _provider(index: Mapping[str, Package], name: str) -> Package:
    for package in index.values():
        if name in package.provides:
            return package
    raise HostError(
        f"a package must be in the suite, but got {name!r}, which none of {len(index)} packages provides; "
        "correct the name or leave it out"
    )


def _parse_package(stanza: str) -> Package:
    lines = (line.partition(": ") for line in stanza.splitlines() if not line.startswith(" "))
    fields = {name: value for name, _, value in lines}
    depends = chain(_names(fields.get("Pre-Depends", "")), _names(fields.get("Depends", "")))
    return Package(
        fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", ""),
        fields.get("Filename", ""), fields.get("SHA256", ""), int(fields.get("Size", "0")),
        tuple(depends), tuple(_names(fields.get("Provides", ""))),
    )  # fmt: skip


def _names(relation: str) -> Iterator[str]:
    """``a (>= 1) | b, c:any`` -> ``a``, ``c``."""
    for part in filter(None, map(str.strip, relation.split(","))):
        yield part.split("|")[0].split("(")[0].strip().partition(":")[0]


def _download(mirror: str, path: str, package: Package | None = None) -> Iterator[bytes]:
    address = f"{mirror}/{path}"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        if error.code == 404 and package is not None:
            raise VanishedPackage(
                f"the mirror must have {package.name} {package.version}, but got 404 for {address}; "
                "lock the versions that it has now with 'chamnet bundle lock'"
            ) from error
        raise _unreachable(address, f"{error.code} {error.reason}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise _unreachable(address, str(getattr(error, "reason", error))) from error


def _unreachable(address: str, reason: str) -> HostError:
    return HostError(
        f"the mirror must send {address}, but got: {reason}; try again, or name another with --mirror URL "
        f"or in the variable {MIRROR_VARIABLE}"
    )


def _check(path: Path, package: Package) -> None:
    size_bytes, sha256 = path.stat().st_size, _sha256(path)
    if (size_bytes, sha256) != (package.size_bytes, package.sha256):
        raise HostError(
            f"{package.name} {package.version} must have {package.size_bytes} bytes and SHA-256 {package.sha256}, "
            f"but got {size_bytes} bytes and {sha256}; name another mirror with --mirror URL"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    if not content.startswith(AR_MAGIC):
        raise HostError(f"a Debian package must be an ar archive, but got {content[:8]!r} in {path}; fetch it again")
    at = len(AR_MAGIC)
    while at + AR_HEADER_BYTES <= len(content):
        header = content[at : at + AR_HEADER_BYTES]
        name, size_bytes = header[:16].decode().rstrip(" ").rstrip("/"), int(header[48:58])
        at += AR_HEADER_BYTES
        yield name, content[at : at + size_bytes]
        at += size_bytes + size_bytes % 2


def _extract(deb: Path, content: bytes, into: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
            archive.extractall(into, filter=_within)
    except tarfile.TarError as error:
        raise HostError(f"{deb} must unpack within {into}, but got: {error}; fetch it again") from error


def _plain_tar(name: str, content: bytes) -> bytes:
    """What tarfile reads by itself on every Python; of Zstandard only what a module here can read."""
    if not name.endswith(".zst"):
        return content
    for module in ZSTD_MODULES:
        try:
            zstd = import_module(module)
        except ImportError:
            continue
        return bytes(zstd.open(io.BytesIO(content), "rb").read())
    raise HostError(
        f"{name} must be read by one of {', '.join(ZSTD_MODULES)}, but got none of them; "
        "use Python 3.14 or install zstandard"
    )


def _within(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
    """tarfile's data filter; an absolute link is first made relative to the folder, as it is meant in a root."""
    if member.issym() and member.linkname.startswith("/"):
        up = "../" * len(PurePosixPath(member.name).parent.parts)
        member = member.replace(linkname=up + member.linkname.lstrip("/"), deep=False)
    return tarfile.data_filter(member, into)
