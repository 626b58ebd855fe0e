"""The hermetic bundle for devices without Python: one tar with a Python, its C library and the engines.

Built from the files in ``bundle_lock.json``, byte for byte the same wherever it is built, and kept in the cache. What
is in it: ``run.sh`` (starts its Python), ``lib``, ``bin``, ``site`` and ``manifest.json``. The agent is not: it is put
beside, and found by CHAMNET_AGENT_HOME.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from host import bundle_contents, bytecode
from host.bundle_lock import ABIS, Abi, Lock, Parts, abi_named, load_lock
from host.debian import fetch, unpack
from host.wheels import fetch_wheel

CACHE_VARIABLE = "CHAMNET_CACHE"
LAUNCHER = Path(__file__).with_name("launcher.sh")
RECIPE = ("bundle.py", "bundle_contents.py", "bytecode.py", LAUNCHER.name)
"""The files beside this one that decide what a bundle holds."""
NOT_COMPILED = "no Python 3.13 runs here, so the bundle holds no bytecode: each start compiles (seconds, not 0.3 s)"

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A built bundle.

    Attributes:
        path: the tar, uncompressed.
        digest: SHA-256 of the tar.
        versions: of every package in it, by name.
        notes: what a user should know about it.
    """

    abi: str
    path: Path
    digest: str
    size_bytes: int
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()


def cache_folder() -> Path:
    """Where downloads and bundles are kept: $CHAMNET_CACHE, else ~/.cache/chamnet."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "chamnet")


def bundle_for(
    abi: str, cache: Path | None = None, mirror: str = "", tell: Tell = lambda stage, done, total: None
) -> Bundle:
    """The bundle for an ABI from the cache, built where it is not there yet or is damaged."""
    return cached_bundle(abi, cache) or build_bundle(abi, cache, mirror, tell)


def cached_bundle(abi: str, cache: Path | None = None) -> Bundle | None:
    """The bundle of this lock and recipe if the cache has it whole, else None."""
    path = _tar_path(abi, cache or cache_folder(), load_lock())
    try:
        body = json.loads(path.with_suffix(".json").read_text())
        bundle = Bundle(**{**body, "path": path, "notes": tuple(body["notes"])})
        return bundle if _sha256(path) == bundle.digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build_bundle(
    abi: str, cache: Path | None = None, mirror: str = "", tell: Tell = lambda stage, done, total: None
) -> Bundle:
    """Builds the bundle for one of ``ABIS`` and puts it into the cache.

    Raises:
        UsageError: the ABI is unknown.
        HostError: a part cannot be had, or the parts do not make a whole.
    """
    known, lock, cache = abi_named(abi), load_lock(), cache or cache_folder()
    parts = lock.parts[abi]
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache, prefix=".build-") as work:
        root, tree = Path(work) / abi, Path(work) / "tree"
        _unpack_packages(parts, root, cache, mirror, tell)
        bundle_contents.keep_python(root, tree)
        _keep_wheels(parts, known, tree, cache, tell)
        bundle_contents.keep_libraries(root, tree, known)
        (tree / "run.sh").write_text(LAUNCHER.read_text().replace("@LOADER@", known.loader))
        tell("bytecode", 0, 1)
        compiled = _compile(lock, root, tree, cache, mirror, tell)
        _write_manifest(tree, abi, lock, compiled)
        tell("tar", 0, 1)
        return _store(_write_tar(tree, Path(work) / "bundle.tar"), abi, cache, lock, compiled)


def _unpack_packages(parts: Parts, root: Path, cache: Path, mirror: str, tell: Tell) -> None:
    for done, package in enumerate(parts.debian):
        tell(f"packages {root.name}", done, len(parts.debian))
        unpack(fetch(mirror, package, cache / "debian"), root)


def _keep_wheels(parts: Parts, abi: Abi, tree: Path, cache: Path, tell: Tell) -> None:
    for done, wheel in enumerate(parts.wheels):
        tell("wheels", done, len(parts.wheels))
        bundle_contents.keep_wheel(wheel.name, fetch_wheel(wheel, abi.machine, cache / "wheels"), tree)


def _compile(lock: Lock, root: Path, tree: Path, cache: Path, mirror: str, tell: Tell) -> bool:
    """With the locked Python, which makes the same bytes everywhere, else with the one that runs this."""
    runnable = bytecode.runnable_abi()
    if runnable is None:
        interpreter = bytecode.running_interpreter()
    else:
        here = root.with_name(runnable)
        if here != root:
            _unpack_packages(lock.parts[runnable], here, cache, mirror, tell)
        interpreter = bytecode.unpacked_interpreter(here, ABIS[runnable])
    if interpreter is not None:
        bytecode.compile_tree(tree, interpreter)
    return interpreter is not None


def _write_manifest(tree: Path, abi: str, lock: Lock, compiled: bool) -> None:
    manifest = {"abi": abi, "versions": lock.parts[abi].versions, "lock": lock.digest, "bytecode": compiled}
    (tree / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _write_tar(tree: Path, path: Path) -> Path:
    """Names sorted, times and owners zero, modes fixed: the same tree gives the same bytes."""
    executable = set(bundle_contents.executables(tree))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for source in sorted(tree.rglob("*"), key=lambda source: source.relative_to(tree).parts):
            entry = tarfile.TarInfo(source.relative_to(tree).as_posix())
            entry.mode = 0o755 if source.is_dir() or source in executable else 0o644
            if source.is_dir():
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
                continue
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                archive.addfile(entry, content)
    return path


def _store(built: Path, abi: str, cache: Path, lock: Lock, compiled: bool) -> Bundle:
    path = _tar_path(abi, cache, lock)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = () if compiled else (NOT_COMPILED,)
    bundle = Bundle(abi, path, _sha256(built), built.stat().st_size, lock.parts[abi].versions, notes)
    described = built.with_suffix(".json")
    described.write_text(json.dumps({**asdict(bundle), "path": path.name}, indent=1))
    os.replace(built, path)
    os.replace(described, path.with_suffix(".json"))
    return bundle


def _tar_path(abi: str, cache: Path, lock: Lock) -> Path:
    recipe = b"".join(Path(__file__).with_name(name).read_bytes() for name in RECIPE)
    key = hashlib.sha256(lock.digest.encode() + recipe).hexdigest()[:16]
    return cache / "bundles" / f"{abi_named(abi).machine}-{key}.tar"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
