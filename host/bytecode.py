"""Compiles a bundle's Python files ahead, with the bundle's own version of Python, as this machine can run it.

The device then reads bytecode from the first start on; its sources' times do not matter (unchecked hashes).
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host.bundle_lock import ABIS, Abi
from host.errors import HostError

COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "lib", "site")
FIXED = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How to start a Python 3.13 here."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def runnable_abi() -> str | None:
    """The ABI whose Debian packages this machine can run; None where it is no Linux of a known kind."""
    if sys.platform != "linux":
        return None
    return next((name for name, abi in ABIS.items() if abi.machine == platform.machine()), None)


def unpacked_interpreter(root: Path, abi: Abi) -> Interpreter:
    """The Python of unpacked Debian packages, started through their own loader."""
    libraries = root / "usr/lib" / abi.triplet
    command = (str(libraries / abi.loader), "--library-path", str(libraries), str(root / "usr/bin/python3.13"))
    return Interpreter(command, {"PYTHONHOME": str(root / "usr")})


def running_interpreter() -> Interpreter | None:
    """The Python that runs this, if its bytecode is the bundle's."""
    return Interpreter((sys.executable, "-I")) if sys.version_info[:2] == (3, 13) else None


def compile_tree(tree: Path, interpreter: Interpreter) -> None:
    """Writes a .pyc beside every .py below ``lib`` and ``site``; the same bytes wherever the tree lies.

    Raises:
        HostError: the interpreter does not run, or a file does not compile.
    """
    command = (*interpreter.command, *COMPILE)
    environment = {**FIXED, **interpreter.environment}
    ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stdout + ended.stderr).strip().splitlines() or ["nothing"]
        raise HostError(
            f"the bundle's Python files must compile, but got exit status {ended.returncode}: {said[-1]}; "
            "delete the cache folder and build again"
        )
