"""The hermetic bundle: its lock, its launcher, what goes in, and the built x86_64 bundle where it can be built."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from host import bundle, bundle_contents, bundle_lock, bytecode, cli
from host.bundle import LAUNCHER, NOT_COMPILED, Bundle, build_bundle, bundle_for, cache_folder, cached_bundle
from host.bundle_contents import STANDARD_LIBRARY, WHEEL_FILES, keep_libraries
from host.bundle_lock import ABIS, DEBIAN_ROOTS, LOCK, WHEELS, Lock, Parts, load_lock, lock_bundle, save_lock
from host.debian import Package
from host.elf import read_elf
from host.errors import HostError, UsageError
from host.wheels import Wheel
from tests.test_debian import Mirror, data_tar, index_of, member, mirror, stanza, write_deb

__all__ = ["mirror"]

ROOT = Path(__file__).parent.parent
ABI = ABIS["arm64-v8a"]
SHA256 = re.compile("[0-9a-f]{64}")


def elf(*needed: str, align_bytes: int = 65536) -> bytes:
    """A shared library that holds nothing but what it needs."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets = [names.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    strings, base = 64 + 2 * 56, 0x10000
    table = strings + len(names)
    entries = [(1, offset) for offset in offsets] + [(5, base + strings), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    total = table + len(dynamic)
    header = b"\x7fELF\x02\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, align_bytes)
    moving = struct.pack("<IIQQQQQQ", 2, 4, table, base + table, base + table, len(dynamic), len(dynamic), 8)
    return header + load + moving + names + dynamic


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_lock_lists_every_part_of_every_bundle() -> None:
    lock = load_lock()
    assert set(lock.parts) == set(ABIS)
    for name, parts in lock.parts.items():
        assert {wheel.name: wheel.version for wheel in parts.wheels} == WHEELS
        assert set(DEBIAN_ROOTS) <= {package.name for package in parts.debian}
        assert {package.architecture for package in parts.debian} == {ABIS[name].debian}
        for part in (*parts.debian, *parts.wheels):
            assert SHA256.fullmatch(part.sha256)
            assert part.size_bytes > 0
            assert not part.filename.startswith("/")


def test_every_abi_has_the_same_versions() -> None:
    versions = [parts.versions for parts in load_lock().parts.values()]
    assert versions[0] == versions[1]


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK.read_text()


def test_device_and_host_run_the_same_engines() -> None:
    pinned = (ROOT / "requirements.lock").read_text()
    for name in ("onnxruntime", "ai-edge-litert"):
        assert f"{name}=={WHEELS[name]}" in pinned


def test_every_wheel_has_its_table_of_what_is_kept() -> None:
    assert set(WHEEL_FILES) == set(WHEELS)


def test_a_lock_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_lock(load_lock(), tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_text() == LOCK.read_text()


@pytest.mark.parametrize("text", ["", "{}", '{"suite": "trixie", "parts": {"x86_64": 1}}'])
def test_a_damaged_lock_names_the_command_that_mends_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(HostError, match="'chamnet bundle lock'"):
        load_lock(tmp_path / "lock.json")


def test_a_lock_takes_the_versions_that_the_mirror_has(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    arm64 = {name: abi for name, abi in ABIS.items() if abi.debian == "arm64"}
    monkeypatch.setattr(bundle_lock, "ABIS", arm64)
    monkeypatch.setattr(bundle_lock, "lock_wheel", lambda name, version, machine: Wheel(name, version, "w", "00", 1))
    index_of(mirror, *(stanza(name, Version="9", Depends="libssl3t64") for name in DEBIAN_ROOTS))
    parts = lock_bundle(mirror.url).parts["arm64-v8a"]
    assert parts.versions == {**dict.fromkeys(DEBIAN_ROOTS, "9"), **WHEELS}


def test_an_unknown_abi_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="abi must be one of arm64-v8a, x86_64, but got 'mips'"):
        build_bundle("mips")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(bundle.CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(bundle.CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/chamnet"


@pytest.mark.parametrize("shell", ["dash", "mksh", "sh"])
def test_the_launcher_starts_its_own_python_from_any_folder(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    home = tmp_path / "a folder"
    write(home / "run.sh", LAUNCHER.read_bytes().replace(b"@LOADER@", b"loader"))
    loader = write(home / "lib/loader", b'#!/bin/sh\nprintf "%s\\n" "$@"; env\n')
    loader.chmod(0o755)
    given = {"LD_PRELOAD": "", "LD_LIBRARY_PATH": "/x", "CHAMNET_AGENT_HOME": "/agent", "PATH": "/usr/bin:/bin"}
    for command, folder in (([str(home / "run.sh")], tmp_path), (["run.sh"], home), (["a folder/run.sh"], tmp_path)):
        said = subprocess.run(
            [program, *command, "-m", "agent x"], cwd=folder, env=given, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        python = f"{home}/bin/python3"
        assert said[:3] == ["--inhibit-cache", "--library-path", f"{home}/lib"]
        assert said[3:9] == ["--argv0", python, python, "-s", "-m", "agent x"]
        assert {f"PYTHONHOME={home}", f"PYTHONPATH={home}/site:/agent", f"TMPDIR={tmp_path}"} <= set(said)
        assert not any(line.startswith("LD_") for line in said)


def test_an_elf_file_tells_what_it_needs(tmp_path: Path) -> None:
    read = read_elf(write(tmp_path / "a.so", elf("libm.so.6", "libc.so.6", align_bytes=4096)))
    assert (read.needed, read.align_bytes) == (("libm.so.6", "libc.so.6"), 4096)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh", elf("libc.so.6")[:-60], elf("libc.so.6")[:100]])
def test_a_damaged_elf_file_is_an_error_of_one_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"a\.so must be a 64-bit little-endian ELF file"):
        read_elf(write(tmp_path / "a.so", content))


def library_root(folder: Path, **libraries: bytes) -> Path:
    for name, content in {"ld-linux-aarch64": elf(), **libraries}.items():
        suffix = ".so.1" if name.startswith("ld-") else ".so"
        write(folder / "usr/lib" / ABI.triplet / f"{name}{suffix}", content)
    return folder


def test_libraries_are_followed_to_the_end_and_found_beside_wheels(tmp_path: Path) -> None:
    root = library_root(tmp_path / "root", liba=elf("libb.so"), libb=elf(ABI.loader), unused=elf())
    write(tmp_path / "tree/site/numpy/x.so", elf("liba.so", "libblas.so"))
    write(tmp_path / "tree/site/numpy.libs/libblas.so", elf())
    keep_libraries(root, tmp_path / "tree", ABI)
    assert sorted(path.name for path in (tmp_path / "tree/lib").iterdir()) == [ABI.loader, "liba.so", "libb.so"]


def test_a_library_that_no_package_has_is_named(tmp_path: Path) -> None:
    write(tmp_path / "tree/site/x.so", elf("libssl.so"))
    with pytest.raises(HostError, match=r"libssl\.so, needed by x\.so, must be in one of the bundle's packages"):
        keep_libraries(library_root(tmp_path / "root"), tmp_path / "tree", ABI)


def test_a_library_that_does_not_fit_16_kb_pages_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "tree/site/x.so", elf(align_bytes=4096))
    with pytest.raises(HostError, match=r"segments of x\.so must be aligned to 16384 bytes, but got 4096"):
        keep_libraries(library_root(tmp_path / "root"), tmp_path / "tree", ABI)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("os.py", True), ("json/decoder.py", True), ("lib-dynload/_ctypes.cpython-313-x.so", True),
        ("lib-dynload/_ssl.cpython-313-x.so", False), ("lib-dynload/_testcapi.cpython-313-x.so", False),
        ("test/support.py", False), ("unittest/mock.py", True), ("sitecustomize.py", False),
    ],
)  # fmt: skip
def test_the_standard_library_is_kept_but_for_what_needs_more_libraries(path: str, kept: bool) -> None:
    assert STANDARD_LIBRARY.takes(path) is kept


def fake_wheel(folder: Path, name: str, version: str) -> Wheel:
    package = name.replace("-", "_")
    path = folder / f"{package}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "")
        archive.writestr(f"{package}/tests/test_it.py", "")
        archive.writestr(f"{package}-{version}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\n")
        archive.writestr(f"{package}-{version}.dist-info/RECORD", "")
    content = path.read_bytes()
    return Wheel(name, version, path.name, hashlib.sha256(content).hexdigest(), len(content))


def fake_package(folder: Path, name: str, path: str, content: bytes) -> Package:
    deb = write_deb(folder / f"{name}.deb", "data.tar", data_tar("w", member(path), content=content))
    size_bytes, digest = deb.stat().st_size, hashlib.sha256(deb.read_bytes()).hexdigest()
    return Package(name, "1", "arm64", f"pool/{deb.name}", digest, size_bytes)


@pytest.fixture
def fake_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a cache that holds every part of an arm64 bundle that holds next to nothing; no Python runs here."""
    monkeypatch.setattr(bytecode, "runnable_abi", lambda: None)
    monkeypatch.setattr(bytecode, "running_interpreter", lambda: None)
    files = {
        "python": ("./usr/bin/python3.13", elf("libc.so")), "stdlib": ("./usr/lib/python3.13/os.py", b"pass\n"),
        "libc": (f"./usr/lib/{ABI.triplet}/libc.so", elf()),
        "loader": (f"./usr/lib/{ABI.triplet}/{ABI.loader}", elf()),
    }  # fmt: skip

    def make(name: str) -> Path:
        cache = tmp_path / name
        debian = tuple(fake_package(cache / "debian", package, *file) for package, file in files.items())
        wheels = tuple(fake_wheel(cache / "wheels", *pin) for pin in WHEELS.items())
        monkeypatch.setattr(bundle, "load_lock", lambda: Lock("trixie", {"arm64-v8a": Parts(debian, wheels)}))
        return cache

    return make


def test_a_bundle_holds_what_is_kept_and_says_what_it_lacks(fake_cache: Callable[[str], Path]) -> None:
    built = build_bundle("arm64-v8a", fake_cache("cache"))
    with tarfile.open(built.path) as archive:
        modes = {entry.name: entry.mode for entry in archive if entry.isfile()}
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    metadata = {f"site/{name.replace('-', '_')}-{version}.dist-info/METADATA" for name, version in WHEELS.items()}
    modules = {f"site/{name.replace('-', '_')}/__init__.py" for name in WHEELS}
    programs = {"run.sh", "bin/python3", "lib/libc.so", f"lib/{ABI.loader}"}
    data = {
        "manifest.json",
        "lib/python3.13/os.py",
        "site/flatbuffers/tests/test_it.py",
        "site/onnxruntime/tests/test_it.py",
    }
    assert modes == {**dict.fromkeys(programs, 0o755), **dict.fromkeys(data | modules | metadata, 0o644)}
    assert manifest["versions"] == built.versions
    assert built.notes == (NOT_COMPILED,)


def test_a_bundle_has_the_same_bytes_wherever_it_is_built(fake_cache: Callable[[str], Path]) -> None:
    first, second = (build_bundle("arm64-v8a", fake_cache(name)) for name in ("a", "another/and deeper"))
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_a_built_bundle_is_used_again_until_it_is_damaged(fake_cache: Callable[[str], Path]) -> None:
    cache = fake_cache("cache")
    assert cached_bundle("arm64-v8a", cache) is None
    built = bundle_for("arm64-v8a", cache)
    written_ns = built.path.stat().st_mtime_ns
    assert bundle_for("arm64-v8a", cache) == built
    assert built.path.stat().st_mtime_ns == written_ns
    built.path.write_bytes(b"half")
    assert bundle_for("arm64-v8a", cache) == built
    assert built.path.stat().st_size == built.size_bytes


def test_another_recipe_is_another_bundle(fake_cache: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = fake_cache("cache")
    built = bundle_for("arm64-v8a", cache)
    changed = replace(bundle.load_lock(), suite="forky")
    monkeypatch.setattr(bundle, "load_lock", lambda: changed)
    assert cached_bundle("arm64-v8a", cache) is None
    assert bundle_for("arm64-v8a", cache).path != built.path


def test_a_file_that_does_not_compile_is_named(tmp_path: Path) -> None:
    write(tmp_path / "lib/bad.py", b"def\n")
    (tmp_path / "site").mkdir()
    with pytest.raises(HostError, match="must compile, but got exit status 1"):
        bytecode.compile_tree(tmp_path, bytecode.Interpreter((sys.executable, "-I")))


def test_the_command_shows_the_lock(capfd: pytest.CaptureFixture[str], fake_cache: Callable[[str], Path]) -> None:
    assert cli.run(["bundle", "show", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["versions"]["x86_64"]["onnxruntime"] == WHEELS["onnxruntime"]


def test_the_command_builds_and_copies(
    capfd: pytest.CaptureFixture[str],
    fake_cache: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(bundle.CACHE_VARIABLE, str(fake_cache("cache")))
    assert cli.run(["bundle", "build", "--out", str(tmp_path / "b.tar"), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["path"] == str(tmp_path / "b.tar")
    assert said["digest"] == hashlib.sha256((tmp_path / "b.tar").read_bytes()).hexdigest()


def test_the_command_refuses_an_unknown_abi(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bundle", "build", "--abi", "mips"]) == 2
    assert "abi must be one of" in capfd.readouterr().err


@pytest.fixture(scope="session")
def native() -> Bundle:
    """The real bundle for this machine, from the cache of its user or built into it."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"the x86_64 bundle runs on x86_64 Linux only, not on {sys.platform} {platform.machine()}")
    try:
        return bundle_for("x86_64")
    except (HostError, OSError) as error:
        pytest.skip(f"the bundle cannot be built here: {error}")


@pytest.fixture(scope="session")
def unpacked(native: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with tarfile.open(native.path) as archive:
        archive.extractall(folder, filter="data")
    return folder


def launch(unpacked: Path, *arguments: str, given: str = "", agent_home: str = "") -> str:
    environment = {"CHAMNET_AGENT_HOME": agent_home, "PATH": "/nowhere"}
    command = [shutil.which("sh") or "/bin/sh", str(unpacked / "run.sh"), *arguments]
    ended = subprocess.run(command, input=given, env=environment, cwd="/", capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_bundle_imports_its_engines_from_itself(native: Bundle, unpacked: Path) -> None:
    code = (
        "import json, sys, onnxruntime, ai_edge_litert.interpreter as litert; from importlib.metadata import version; "
        "print(json.dumps([version('ai-edge-litert'), onnxruntime.__version__, onnxruntime.__file__, litert.__file__, "
        "sys.prefix]), file=sys.stdout)"
    )
    litert_version, onnxruntime_version, *places = json.loads(launch(unpacked, "-c", code).splitlines()[-1])
    assert litert_version == native.versions["ai-edge-litert"]
    assert onnxruntime_version == native.versions["onnxruntime"]
    assert all(Path(place).is_relative_to(unpacked) for place in places)


def test_the_bundle_loads_no_library_of_the_system(unpacked: Path) -> None:
    code = "import onnxruntime, ai_edge_litert.interpreter, ctypes, mmap; print(open('/proc/self/maps').read())"
    maps = launch(unpacked, "-c", code)
    libraries = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    assert len(libraries) > 10
    assert all(Path(library).is_relative_to(unpacked) for library in libraries)


def test_the_bundle_is_compiled_and_tells_nothing_of_where_it_was_built(unpacked: Path) -> None:
    sources = list(unpacked.rglob("*.py"))
    compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in sources]
    contents = [path.read_bytes() for path in compiled]
    assert {content[4:8] for content in contents} == {(1).to_bytes(4, "little")}
    assert not any(str(cache_folder()).encode() in content for content in contents)


def test_the_agent_greets_from_the_bundle(native: Bundle, unpacked: Path) -> None:
    said = launch(unpacked, "-m", "agent", given='{"is":"quit"}\n', agent_home=str(ROOT))
    hello = json.loads(said.splitlines()[0])
    assert hello["is"] == "hello"
    assert hello["engines"]["onnxruntime"] == {"version": native.versions["onnxruntime"]}
    assert hello["engines"]["litert"] == {"version": native.versions["ai-edge-litert"]}


def test_nothing_is_kept_that_the_contents_leave_out(unpacked: Path) -> None:
    names = {path.relative_to(unpacked / "site").as_posix() for path in (unpacked / "site").rglob("*")}
    assert not [name for name in names if "WebGpu" in name or "/transformers/" in name or "libonnxruntime.so" in name]
    assert not [path for path in unpacked.rglob("*") if path.is_symlink()]
    assert bundle_contents.STDLIB in {path.name for path in (unpacked / "lib").iterdir()}
