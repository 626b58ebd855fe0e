"""Commands that spend time on a device: profile, validate, devices, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from host import show
from host.cli_budget import BudgetTime, Fraction, Like, UntilError, budget_of, run_within
from host.cli_metering import (
    SHARE,
    AskedMeter,
    EnergyShare,
    MeterAt,
    MeterName,
    MeterOptions,
    MeterRepeats,
    MeterWindow,
    metering_of,
)
from host.cli_options import (
    DEFAULT_DB,
    PATIENCE_MIN,
    AcceleratorName,
    AcceptBinary,
    AgentPython,
    AgentWhere,
    Asked,
    BenchmarkBinary,
    Cpus,
    Db,
    DelegateLibraries,
    Device,
    Dtypes,
    EngineOptions,
    Engines,
    Force,
    Json,
    Patience,
    Seed,
    Threads,
    settings_of,
    where_of,
)
from host.cli_workload import plan_of, workload_of
from host.demo import DEMO_NETWORKS, demo_questions
from host.devices import LOCAL_CPU, Unit, find_unit, greet
from host.energy import EnergySummary, meter_operators
from host.errors import EXIT_PARTLY, UsageError
from host.metering import require_meter
from host.phones import describe_phone, list_phones
from host.profile import profile
from host.report import save_picture, write_report
from host.setting import Setting
from host.show_energy import show_energy
from host.transport import Launch
from host.validate import Question, Validation, validate
from lut_db.store import open_store


def profile_command(
    device: Device = LOCAL_CPU,
    engine: Engines = "",
    engine_option: EngineOptions = None,
    space: Annotated[str, typer.Option(help="every operator of a search space, or of --networks random ones")] = "",
    networks: Annotated[int, typer.Option(help="with --space: so many random networks of it")] = 0,
    ops: Annotated[Path | None, typer.Option(help="an operators file")] = None,
    network: Annotated[str, typer.Option(help="networks by name, comma-separated")] = "",
    dtype: Dtypes = "float32",
    threads: Threads = "1",
    cpus: Cpus = "",
    db: Db = DEFAULT_DB,
    limit: Annotated[int, typer.Option(help="at most so many operators; 0 for all")] = 0,
    budget: BudgetTime = "",
    fraction: Fraction = 0.0,
    until_error: UntilError = 0.0,
    like: Like = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan, measure nothing")] = False,
    as_json: Json = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    agent: AgentWhere = "auto",
    force: Force = False,
    patience: Patience = PATIENCE_MIN,
    accelerator: AcceleratorName = "cpu",
    benchmark_binary: BenchmarkBinary = None,
    delegate_libraries: DelegateLibraries = None,
    accept_binary: AcceptBinary = False,
    energy: Annotated[bool, typer.Option("--energy", help="meter a share of them, too")] = False,
    meter: MeterName = "",
    meter_option: MeterOptions = None,
    meter_at: MeterAt = "auto",
    meter_window: MeterWindow = 0.0,
    meter_repeats: MeterRepeats = 0,
    energy_share: EnergyShare = SHARE,
) -> None:
    """Measure operators on a device and keep them in the look-up table; a second call goes on where it stopped.

    Without --space, --ops or --network: the operators of ChamNet-A...F and MobileNetV2.
    """
    if not (space or ops or network):
        network = ",".join(DEMO_NETWORKS)
    workload = workload_of(space, networks, ops, network, limit, seed)
    unit = find_unit(device, Launch(agent_python, where_of(agent)), force)
    asked = Asked(engine, dtype, threads, cpus, seed, patience, accelerator, benchmark_binary, delegate_libraries,
                  accept_binary, engine_option or ())  # fmt: skip
    settings = settings_of(unit, asked)
    within = budget_of(
        space, budget, fraction, until_error, like,
        {"--ops": ops, "--network": network, "--networks": networks, "--limit": limit},
    )  # fmt: skip
    asked_meter = AskedMeter(meter, meter_option, meter_at, meter_window, meter_repeats, energy_share)
    metering = metering_of(energy, asked_meter)
    if within is not None and metering is not None:
        raise UsageError("--energy must come without a budget, but got both; repeat it with --networks, which meters")
    if within is not None and not dry_run:
        raise typer.Exit(run_within(unit, settings, space, within, like, db, as_json))
    plan = [plan_of(unit, setting, workload, metering) for setting in settings]
    if dry_run:
        print(json.dumps(plan, indent=1)) if as_json else show.show_plan(plan, db)
        return
    show.show_refusals(plan)
    summaries, energies = [], list[EnergySummary]()
    with open_store(db) as store:
        if metering is not None:
            require_meter(store, unit, metering)
        for setting, planned in zip(settings, plan, strict=True):
            with show.progress(f"{setting.engine} {setting.dtype} t{setting.threads}") as progress:
                summaries.append(profile(store, unit, setting, workload, progress))
                if metering is not None:
                    energies.append(meter_operators(store, unit, setting, workload, metering, progress))
            if not as_json:
                show.show_summary(summaries[-1], told=planned["cannot"])
                show_energy(energies[-1:])
    if as_json:
        told = [{"energy": energy.as_json()} for energy in energies] or [{}] * len(summaries)
        rows = [{**summary.as_json(), **more} for summary, more in zip(summaries, told, strict=True)]
        print(json.dumps(rows, indent=1))
    if any(s.quarantined or s.refused for s in summaries) or any(summary.refused for summary in energies):
        raise typer.Exit(EXIT_PARTLY)


def validate_command(
    device: Device = LOCAL_CPU,
    engine: Engines = "",
    engine_option: EngineOptions = None,
    space: Annotated[str, typer.Option(help="the space of the random networks")] = "chamnet-mobile",
    networks: Annotated[int, typer.Option(help="unseen networks to compare", min=3)] = 32,
    calibration: Annotated[int, typer.Option(help="further networks to fit the calibration on", min=1)] = 8,
    named: Annotated[str, typer.Option(help="named networks beside them, comma-separated")] = "",
    dtype: Dtypes = "float32",
    threads: Threads = "1",
    cpus: Cpus = "",
    db: Db = DEFAULT_DB,
    html: Annotated[Path | None, typer.Option(help="write a report here")] = None,
    as_json: Json = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    agent: AgentWhere = "auto",
    force: Force = False,
    patience: Patience = PATIENCE_MIN,
    accelerator: AcceleratorName = "cpu",
    benchmark_binary: BenchmarkBinary = None,
    delegate_libraries: DelegateLibraries = None,
    accept_binary: AcceptBinary = False,
) -> None:
    """Measure random whole networks and show how well the look-up table predicts them; fits the calibration."""
    unit = find_unit(device, Launch(agent_python, where_of(agent)), force)
    asked = Asked(engine, dtype, threads, cpus, seed, patience, accelerator, benchmark_binary, delegate_libraries,
                  accept_binary, engine_option or ())  # fmt: skip
    settings = settings_of(unit, asked)
    names = tuple(filter(None, named.split(",")))
    question = Question(space, networks, names, calibration, seed)
    results = _validate_all(unit, settings, [question] * len(settings), db, quiet=as_json)
    if as_json:
        print(json.dumps([dict(result.metrics) for result in results], indent=1))
    if html is not None:
        write_report(results, html)
        show.errors.print(f"report: {html.resolve()}")


def devices_command(as_json: Json = False, agent_python: AgentPython = "") -> None:
    """Show what can be measured on, and with what; what to do about a phone that is not ready."""
    hello, phones = greet(find_unit(LOCAL_CPU, Launch(agent_python))), list_phones(start_server=True)
    if as_json:
        local = {"name": LOCAL_CPU, "machine": hello.machine, "engines": hello.engines, "meters": hello.meters}
        print(json.dumps({"local": local, "phones": [describe_phone(phone) for phone in phones]}, indent=1))
        return
    show.show_machine(hello.machine, hello.engines, hello.meters)
    show.show_phones([describe_phone(phone) for phone in phones])


def demo_command(
    db: Annotated[Path, typer.Option(help="the database")] = Path("demo/chamnet.db"),
    html: Annotated[Path, typer.Option(help="the report")] = Path("demo/report.html"),
    picture: Annotated[Path | None, typer.Option(help="write the plots as PNG, too")] = None,
    seed: Seed = 0,
) -> None:
    """Measure this machine and compare ChamNet-A...F and MobileNetV2 on it, predicted and measured."""
    db.parent.mkdir(parents=True, exist_ok=True)
    questions = demo_questions(seed)
    unit = find_unit(LOCAL_CPU)
    settings = [setting for engine in questions for setting in settings_of(unit, Asked(engine, seed=seed))]
    show.output.print(f"Measuring on {LOCAL_CPU} in a few minutes; interrupt and repeat as you like.")
    results = _validate_all(unit, settings, list(questions.values()), db, quiet=False)
    show.show_named(results, DEMO_NETWORKS)
    write_report(results, html)
    if picture is not None:
        save_picture(results, picture)
    show.output.print(f"Report with plots: {html.resolve()}\nLook-up table: {db.resolve()}")


def _validate_all(
    unit: Unit, settings: list[Setting], questions: list[Question], db: Path | str, quiet: bool
) -> list[Validation]:
    results = []
    with open_store(db) as store:
        for setting, question in zip(settings, questions, strict=True):
            with show.progress(f"{setting.engine} {setting.dtype} t{setting.threads}") as progress:
                results.append(validate(store, unit, setting, question, progress))
            if not quiet:
                show.show_validation(results[-1])
    return results
