"""What is kept of the Debian packages and wheels, and what is left out; copies it into the tree of a bundle.

Left out is what measuring models cannot need: tests, documentation, compilers and converters, accelerators that a
glibc process cannot open on Android, and the parts of the standard library that would pull in more libraries.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

from host.bundle_lock import Abi
from host.elf import is_elf, read_elf
from host.errors import HostError

STDLIB = "python3.13"


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns of paths (``*`` also spans folders): kept is what matches ``keep`` and no ``leave_out``."""

    keep: tuple[str, ...] = ("*",)
    leave_out: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        return any(fnmatch(path, p) for p in self.keep) and not any(fnmatch(path, p) for p in self.leave_out)


STANDARD_LIBRARY = Selection(
    leave_out=(
        "EXTERNALLY-MANAGED", "LICENSE.txt", "sitecustomize.py", "__pycache__/*", "*/__pycache__/*",
        "_pyrepl/*", "curses/*", "dbm/*", "ensurepip/*", "idlelib/*", "pydoc_data/*", "sqlite3/*", "test/*",
        "tkinter/*", "turtle*", "venv/*", "wsgiref/*", "xmlrpc/*", "config-*", "*/test/*", "*/tests/*",
        "lib-dynload/*test*", "lib-dynload/xx*", "lib-dynload/_codecs_*", "lib-dynload/_curses*", "lib-dynload/_dbm*",
        "lib-dynload/_bz2*", "lib-dynload/_hashlib*", "lib-dynload/_interp*", "lib-dynload/_lsprof*",
        "lib-dynload/_lzma*", "lib-dynload/_multibytecodec*", "lib-dynload/_sqlite3*", "lib-dynload/_ssl*",
        "lib-dynload/_uuid*", "lib-dynload/readline*",
    )
)  # fmt: skip

WHEEL_FILES = {
    "ai-edge-litert": Selection(
        keep=tuple(
            f"ai_edge_litert/{name}"
            for name in (
                "__init__.py", "interpreter.py", "metrics_interface.py", "metrics_portable.py",
                "_pywrap_litert_interpreter_wrapper.so", "_pywrap_string_util.so",
                "_pywrap_tensorflow_lite_metrics_wrapper.so", "format_converter_wrapper_pybind11.so",
                "libpywrap_litert_common.so",
            )
        )
    ),
    "flatbuffers": Selection(keep=("flatbuffers/*",)),
    "numpy": Selection(
        keep=("numpy/*", "numpy.libs/*"),
        leave_out=(
            "*/tests/*", "numpy/f2py/*", "numpy/_pyinstaller/*", "*/include/*", "*/doc/*", "*.pyi", "*.pxd", "*.pyx",
            "*.a", "*.lib", "*.h", "*_tests.*.so", "numpy/conftest.py",
        ),
    ),
    "onnxruntime": Selection(
        keep=("onnxruntime/*",),
        leave_out=tuple(f"onnxruntime/{name}" for name in (
            "backend/*", "datasets/*", "quantization/*", "tools/*", "training/*", "transformers/*", "LICENSE", "*.md",
            "ThirdPartyNotices.txt", "capi/libonnxruntime.so*",
        )),
    ),
}  # fmt: skip


def keep_python(root: Path, tree: Path) -> None:
    """Copies interpreter and standard library from the unpacked Debian packages."""
    _copy(root / "usr/bin/python3.13", tree / "bin/python3")
    library = root / "usr/lib" / STDLIB
    for path in sorted(library.rglob("*")):
        name = path.relative_to(library).as_posix()
        if path.is_file() and STANDARD_LIBRARY.takes(name):
            _copy(path, tree / "lib" / STDLIB / name)


def keep_wheel(name: str, wheel: Path, tree: Path) -> None:
    """Unzips what is kept of a wheel, and its METADATA, by which Python knows its version."""
    selection = WHEEL_FILES[name]
    with ZipFile(wheel) as archive:
        for entry in archive.namelist():
            if entry.endswith(".dist-info/METADATA") or (selection.takes(entry) and not entry.endswith("/")):
                archive.extract(entry, tree / "site")


def keep_libraries(root: Path, tree: Path, abi: Abi) -> None:
    """Copies the loader and every library that something in the tree needs, and that it does not hold yet.

    Raises:
        HostError: a library is in none of the packages, or its segments do not fit the pages of such devices.
    """
    libraries = root / "usr/lib" / abi.triplet
    _copy(libraries / abi.loader, tree / "lib" / abi.loader)
    held = {path.name for path in tree.rglob("*")}
    waiting = [path for path in sorted(tree.rglob("*")) if path.is_file() and is_elf(path)]
    while waiting:
        path = waiting.pop()
        for name in _needed(path, abi):
            if name in held:
                continue
            if not (libraries / name).is_file():
                raise HostError(
                    f"{name}, needed by {path.name}, must be in one of the bundle's packages, but got none with it; "
                    "leave the file out in host/bundle_contents.py, or lock the package in host/bundle_lock.py"
                )
            waiting.append(_copy(libraries / name, tree / "lib" / name))
            held.add(name)


def executables(tree: Path) -> Iterator[Path]:
    """The files that get the right to be executed."""
    yield from (tree / "run.sh", tree / "bin/python3")
    yield from (path for path in tree.rglob("*.so*") if path.is_file())


def _needed(path: Path, abi: Abi) -> tuple[str, ...]:
    elf = read_elf(path)
    if elf.align_bytes < abi.align_bytes:
        raise HostError(
            f"segments of {path.name} must be aligned to {abi.align_bytes} bytes, but got {elf.align_bytes}; "
            "devices with such pages cannot load it: pin another version in host/bundle_lock.py"
        )
    return elf.needed


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, target))
