"""What ``benchmark_model`` needs on the device: the binary itself, a vendor's libraries, and how it is to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host.accelerators import ACCELERATORS, accelerator, benchmark_environment, benchmark_flags, missing_files, supports
from host.errors import UsageError
from host.transport import Transport

BINARY = "benchmark_model"
PROTOCOL = {"warmup_min_secs": 0.5, "num_runs": 50, "min_secs": 1.0, "max_secs": 10}
"""Fifty runs and a second at least; ten seconds at most, so that a huge operator costs no minutes."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """The files of this computer that are needed.

    Attributes:
        libraries: the folder of the vendor's libraries; None where the accelerator needs none.
    """

    binary: Path
    libraries: Path | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """Variables for the agent, and options of its engine, once everything is on the device.

    Attributes:
        libraries: the digest of the vendor's libraries, which decide every number; empty without any.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    libraries: str = ""


def check_delegate(name: str, dtype: str, libraries: Path | None, hexagon: str | None) -> None:
    """Raises UsageError where an accelerator cannot be used with this chip, element type or folder, and says why."""
    chosen = accelerator(name)
    if reason := supports(name, hexagon):
        raise UsageError(reason)
    if dtype not in chosen.dtypes:
        kinds = " or ".join(chosen.dtypes)
        raise UsageError(f"{name} must be given {kinds} models, but got {dtype}; ask for --dtype {chosen.dtypes[0]}")
    if libraries and not chosen.files:
        raise UsageError(f"--delegate-libraries must go with hexagon or qnn-htp, but got {name}; leave them out")
    if libraries and not libraries.is_dir():
        raise UsageError(f"--delegate-libraries must be a folder, but got {libraries}; docs/dsp.md says what is in it")
    there = [path.name for path in libraries.iterdir()] if libraries else []
    if missing := missing_files(name, hexagon, there):
        raise UsageError(
            f"{name} must have {', '.join(missing)} in the folder of --delegate-libraries, but got "
            f"{', '.join(sorted(there)) or 'nothing'}; docs/dsp.md says where they come from"
        )


def bring(transport: Transport, name: str, dtype: str, cpus: tuple[int, ...], delegate: Delegate) -> Brought:
    """Puts the binary and the libraries on the device. Raises DeviceLost, DeviceUnavailable."""
    folder = transport.install("benchmark", {BINARY: delegate.binary})
    libraries = ""
    if delegate.libraries is not None:
        files = {path.name: path for path in sorted(delegate.libraries.iterdir()) if path.is_file()}
        libraries = transport.install("libraries", files)
    options = {
        "cpus": list(cpus),
        "flags": benchmark_flags(name, dtype, libraries),
        "environment": benchmark_environment(name, libraries),
        "confirm": ACCELERATORS[name].confirm,
        **PROTOCOL,
    }
    return Brought({"CHAMNET_BENCHMARK_BINARY": f"{folder}/{BINARY}"}, options, libraries.rpartition("-")[2])
