"""``chamnet energy calibrate``, ``validate`` and ``report``; and how a command is told which meter to read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from host import show
from host.cli_options import (
    DEFAULT_DB,
    PATIENCE_MIN,
    AgentPython,
    AgentWhere,
    Asked,
    Cpus,
    Db,
    Device,
    Force,
    Json,
    Patience,
    Seed,
    settings_of,
    where_of,
)
from host.cli_search import choose_target
from host.devices import LOCAL_CPU, choose_cpus, find_unit
from host.energy_report import write_energy_report
from host.energy_validate import EnergyQuestion, validate_energy
from host.errors import EXIT_PARTLY, UsageError
from host.meter_calibration import calibrate_meter
from host.metering import PLACES, REPLAY, Metering
from host.show_energy import show_calibration, show_energy, show_energy_validation
from host.transport import Launch
from lut_db.energy_refusals import LEAST_WINDOWS
from lut_db.store import open_store

SHARE = 0.1
GAUGE = "battery_gauge"
CHARGE_MIN = 15.0
TEXTS = ("command", "trace")
"""Options whose values are no JSON, but for lists and objects."""

MeterName = Annotated[
    str, typer.Option("--meter", help="rapl, nvml, battery_gauge, odpm, ina3221, monsoon, command or replay")
]
MeterOptions = Annotated[
    list[str] | None,
    typer.Option("--meter-option", help="NAME=VALUE for the meter, a text or JSON; repeat for several"),
]
MeterAt = Annotated[str, typer.Option("--meter-at", help="where it is read: device; host, this computer; or auto")]
MeterWindow = Annotated[
    float,
    typer.Option("--meter-window", help="seconds under load, and at rest; by default what suits the meter", min=0),
]
MeterRepeats = Annotated[int, typer.Option("--meter-repeats", help="windows under load, 3 or more", min=0)]
EnergyShare = Annotated[float, typer.Option("--energy-share", help="of the operators, which are metered")]
Networks = Annotated[int, typer.Option(help="random networks to meter whole", min=1)]


@dataclass(frozen=True, slots=True)
class AskedMeter:
    """The options about a meter, as they were typed."""

    meter: str = ""
    options: Sequence[str] | None = None
    at: str = "auto"
    window_s: float = 0.0
    repeats: int = 0
    share: float = SHARE


def metering_of(energy: bool, asked: AskedMeter) -> Metering | None:
    """None where energy was not asked for. Raises UsageError."""
    if not energy:
        if asked != AskedMeter(options=asked.options) or asked.options:
            raise UsageError("options about meters must come with --energy, but got them without it")
        return None
    if not 0 < asked.share <= 1:
        raise UsageError(f"--energy-share must be above 0 and at most 1, but got {asked.share:g}")
    if asked.at not in PLACES:
        raise UsageError(f"--meter-at must be one of {', '.join(PLACES)}, but got {asked.at!r}")
    if 0 < asked.repeats < LEAST_WINDOWS:
        raise UsageError(f"--meter-repeats must be at least {LEAST_WINDOWS}, but got {asked.repeats}")
    window = {"window_s": asked.window_s, "idle_s": asked.window_s} if asked.window_s else {}
    changes = {**window, **({"repeats": asked.repeats} if asked.repeats else {})}
    return Metering(asked.meter, _options(asked.meter, asked.options or ()), asked.share, changes, asked.at)


def _options(meter: str, texts: Sequence[str]) -> dict[str, Any]:
    """What a meter is told: a recorded trace is read here, and files that a command names are found from here."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--meter-option must read like NAME=VALUE, but got {text!r}")
        found[name] = value if name in TEXTS and value[:1] not in ("[", "{") else _value(value)
    if meter == REPLAY and isinstance(found.get("trace"), str):
        found["trace"] = _trace(Path(found["trace"]))
    if isinstance(found.get("command"), str):
        found["command"] = [_word(word) for word in shlex.split(found["command"])]
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _trace(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"meter option 'trace' must name a JSON file, but got {str(path)!r}: {error}") from None


def _word(word: str) -> str:
    return str(Path(word).resolve()) if Path(word).is_file() else word


def calibrate_command(
    device: Device = LOCAL_CPU,
    meter: MeterName = GAUGE,
    meter_option: MeterOptions = None,
    charge_minutes: Annotated[
        float,
        typer.Option(help="for how long to compare current and charge counter afterwards; 0 for not at all", min=0),
    ] = CHARGE_MIN,
    engine: Annotated[str, typer.Option(help="what makes the load: litert, onnxruntime, benchmark_model")] = "litert",
    cpus: Cpus = "",
    db: Db = DEFAULT_DB,
    as_json: Json = False,
    agent_python: AgentPython = "",
    agent: AgentWhere = "auto",
    force: Force = False,
    patience: Patience = PATIENCE_MIN,
) -> None:
    """Find out what a device's battery gauge means, sign, unit and period, by idling and by working on all processors.

    Nothing may charge the device meanwhile.
    """
    unit = find_unit(device, Launch(agent_python, where_of(agent)), force)
    every = cpus or ",".join(str(cpu) for cluster in (unit.clusters or [choose_cpus(0)]) for cpu in cluster)
    asked = Asked(engine, threads=str(len(every.split(","))), cpus=every, patience_min=patience)
    (setting,) = settings_of(unit, asked)
    metering = Metering(meter, _options(meter, meter_option or ()))
    with open_store(db) as store, show.progress("calibrate") as progress:
        told_by, found = calibrate_meter(store, unit, setting, metering, 60 * charge_minutes, progress)
    if as_json:
        print(json.dumps({"device": unit.name, **told_by._asdict(), **asdict(found)}, indent=1))
    else:
        show_calibration(unit.name, told_by, found)


def validate_command(
    device: Device = LOCAL_CPU,
    space: Annotated[str, typer.Option(help="the space of the random networks")] = "chamnet-mobile",
    networks: Networks = 5,
    engine: Annotated[str, typer.Option(help="onnxruntime, litert or benchmark_model")] = "litert",
    dtype: Annotated[str, typer.Option(help="float32, float16 or int8")] = "float32",
    threads: Annotated[int, typer.Option(help="number of threads", min=1)] = 1,
    cpus: Cpus = "",
    meter: MeterName = "",
    meter_option: MeterOptions = None,
    meter_at: MeterAt = "auto",
    meter_window: MeterWindow = 0.0,
    meter_repeats: MeterRepeats = 0,
    energy_share: EnergyShare = SHARE,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    agent: AgentWhere = "auto",
    force: Force = False,
    patience: Patience = PATIENCE_MIN,
) -> None:
    """Meter random whole networks and compare them with the sums of their operators; meters these first."""
    unit = find_unit(device, Launch(agent_python, where_of(agent)), force)
    (setting,) = settings_of(unit, Asked(engine, dtype, str(threads), cpus, seed, patience))
    metering = metering_of(True, AskedMeter(meter, meter_option, meter_at, meter_window, meter_repeats, energy_share))
    assert metering is not None
    question = EnergyQuestion(space, networks, seed)
    with open_store(db) as store, show.progress("energy") as progress:
        found = validate_energy(store, unit, setting, question, metering, progress)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        show_energy([found.operators])
        show_energy_validation(found)
    if found.refused or found.operators.refused:
        raise typer.Exit(EXIT_PARTLY)


def report_command(
    html: Annotated[Path, typer.Option(help="write the report here")],
    device: Annotated[str, typer.Option(help="the device of the table")] = LOCAL_CPU,
    engine: Annotated[str, typer.Option(help="its engine, where the device has tables of several")] = "",
    dtype: Annotated[str, typer.Option(help="its element type")] = "",
    threads: Annotated[int, typer.Option(help="its number of threads")] = 0,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a page of what was metered on a device: power over time, power of each class, what was refused."""
    with open_store(db, create=False) as store:
        target = choose_target(store, device, engine, dtype, threads)
        write_energy_report(store, target, html)
    show.errors.print(f"report: {html.resolve()}")
