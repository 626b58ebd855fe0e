"""What several commands are asked: which device, how it is driven, and which settings to measure with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from host.accelerators import accelerator
from host.binaries import obtain
from host.bundle import cache_folder
from host.delegates import Delegate, check_delegate
from host.devices import REACH, Unit, choose_cpus, find_unit
from host.engines import ENGINES, EngineUse, chosen_of, engine_use
from host.errors import UsageError
from host.setting import Setting
from host.transport import Launch
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.spec import DTYPE_BYTES

LITERT, TORCH = "litert", "torch-cuda"

Device = Annotated[str, typer.Option(help="local-cpu, local-gpu; a phone's chip, model or serial; or ssh:user@host")]
Engines = Annotated[
    str,
    typer.Option("--engine", help=f"of {', '.join(ENGINES)}; comma-separated; by default {LITERT}, on a GPU {TORCH}"),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option("--engine-option", help="NAME=VALUE, such as xnnpack=off, tf32=on, mode=eager; repeat for several"),
]
Dtypes = Annotated[str, typer.Option("--dtype", help=f"{', '.join(DTYPE_BYTES)}; comma-separated")]
Threads = Annotated[str, typer.Option(help="numbers of threads, comma-separated")]
Cpus = Annotated[str, typer.Option(help="processors to pin to, such as 0,1; by default the fastest that are alike")]
Db = Annotated[str, typer.Option(help="the database: a file, or any SQLAlchemy URL")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Seed = Annotated[int, typer.Option(help="seed of everything random")]
AgentPython = Annotated[str, typer.Option(help="the Python that runs the agent there, if not the usual one")]
AgentWhere = Annotated[
    str, typer.Option("--agent", help="where the agent runs: device; host, to drive benchmark_model from here; or auto")
]
Force = Annotated[bool, typer.Option("--force", help="take the only phone that is connected, whatever it is")]
Patience = Annotated[float, typer.Option(help="minutes to wait for a device that vanished, or is hot", min=0.0)]
AcceleratorName = Annotated[
    str, typer.Option("--accelerator", help="cpu; or hexagon, qnn-htp, gpu, nnapi by way of benchmark_model")
]
BenchmarkBinary = Annotated[Path | None, typer.Option(help="TFLite's benchmark_model, if it is not to be downloaded")]
DelegateLibraries = Annotated[Path | None, typer.Option(help="folder of the vendor's libraries (docs/dsp.md)")]
AcceptBinary = Annotated[bool, typer.Option("--accept-binary", help="take a binary that is not the one of before")]

DEFAULT_DB = "chamnet.db"
WHERE = ("auto", "device", "host")
PATIENCE_MIN = 15.0
BINARY_ENGINE = "benchmark_model"


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that make settings, as they were typed."""

    engine: str = ""
    dtype: str = "float32"
    threads: str = "1"
    cpus: str = ""
    seed: int = 0
    patience_min: float = PATIENCE_MIN
    accelerator: str = "cpu"
    binary: Path | None = None
    libraries: Path | None = None
    accept_binary: bool = False
    options: Sequence[str] = ()

    def engines(self, unit: Unit) -> list[str]:
        """A phone's accelerators are reached through the vendor's binary."""
        if self.accelerator != "cpu":
            return [BINARY_ENGINE]
        return (self.engine or (TORCH if unit.is_gpu else LITERT)).split(",")


def settings_of(unit: Unit, asked: Asked) -> list[Setting]:
    """One setting for each engine, element type and number of threads. Raises UsageError, HostError."""
    accelerator(asked.accelerator)
    pinned = numbers("--cpus", asked.cpus) if asked.cpus else []
    dtypes = asked.dtype.split(",")
    if unknown := [dtype for dtype in dtypes if dtype not in DTYPE_BYTES]:
        raise UsageError(f"--dtype must be among {', '.join(DTYPE_BYTES)}, but got {', '.join(map(repr, unknown))}")
    found = []
    engines, choices = asked.engines(unit), engine_options(asked.options)
    if unclaimed := [name for name in choices if not any(name in engine_use(engine).choices for engine in engines)]:
        has = dict.fromkeys(name for engine in engines for name in engine_use(engine).choices)
        raise UsageError(
            f"--engine-option must be one that {', '.join(engines)} takes ({', '.join(has) or 'none'}), but got "
            f"{unclaimed[0]!r}"
        )
    for engine in engines:
        use = _fitting(unit, engine)
        chosen = chosen_of(use, {name: value for name, value in choices.items() if name in use.choices})
        delegate = _delegate(unit, asked, dtypes) if use.binary else None
        for dtype in dtypes:
            for count in numbers("--threads", asked.threads):
                cpus = choose_cpus(count, pinned, unit.clusters) if pinned or not use.on_gpu else ()
                found.append(
                    _setting(unit, asked, Setting(engine, cpus, dtype, count, choices=chosen, delegate=delegate))
                )
    return found


@dataclass(frozen=True, slots=True)
class Means:
    """How the device of a table is driven once more, as it was typed."""

    agent_python: str = ""
    binary: Path | None = None
    libraries: Path | None = None


def as_before(store: LutStore, target: Target, means: Means) -> tuple[Unit, Setting]:
    """The device of a target, and how to measure for it once more. Raises UsageError, HostError."""
    facts = next((device.facts for device in store.devices() if device.name == target.device), {})
    options = dict(target.options)
    launch = Launch(means.agent_python, "host" if options.get("agent") == "host" else "auto")
    unit = find_unit(str(facts.get(REACH, target.device)), launch)
    asked = Asked(
        target.engine, target.dtype, str(target.threads), ",".join(map(str, target.cpus)),
        accelerator=target.accelerator if engine_use(target.engine).binary else "cpu",
        options=[f"{name}={value}" for name, value in target.options if name in engine_use(target.engine).choices],
        binary=means.binary, libraries=means.libraries,
    )  # fmt: skip
    (setting,) = settings_of(unit, asked)
    return unit, replace(setting, malloc=options.get("malloc", setting.malloc))


def _fitting(unit: Unit, engine: str) -> EngineUse:
    """Raises UsageError for an engine that computes on something else than the unit is."""
    use = engine_use(engine)
    if use.on_gpu != unit.is_gpu:
        fitting = [name for name, known in ENGINES.items() if known.on_gpu == unit.is_gpu]
        raise UsageError(f"--engine must be of {', '.join(fitting)} on {unit.name}, but got {engine!r}")
    return use


def _setting(unit: Unit, asked: Asked, setting: Setting) -> Setting:
    patience_s = 60 * asked.patience_min
    gate = replace(unit.gate, patience_s=patience_s) if unit.gate else None
    return replace(setting, seed=asked.seed, accelerator=asked.accelerator, gate=gate, patience_s=patience_s)


def _delegate(unit: Unit, asked: Asked, dtypes: Sequence[str]) -> Delegate:
    for dtype in dtypes:
        check_delegate(asked.accelerator, dtype, asked.libraries, unit.hexagon)
    binary = obtain(asked.binary, unit.abi, cache_folder() / "binaries", asked.accept_binary)
    return Delegate(binary.path, asked.libraries)


def engine_options(texts: Sequence[str]) -> dict[str, str]:
    """Raises UsageError for what is not NAME=VALUE."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--engine-option must read like NAME=VALUE, but got {text!r}")
        found[name] = value
    return found


def where_of(text: str) -> str:
    """Raises UsageError for what ``--agent`` does not know."""
    if text not in WHERE:
        raise UsageError(f"--agent must be one of {', '.join(WHERE)}, but got {text!r}")
    return text


def numbers(option: str, text: str) -> Sequence[int]:
    """Numbers such as 1,2. Raises UsageError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0 or (option == "--threads" and min(found) < 1):
        raise UsageError(f"{option} must be numbers such as 1,2, but got {text!r}")
    return found
