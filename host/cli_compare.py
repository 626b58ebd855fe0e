"""The command that measures published networks: accuracy against latency on the device at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from host import show
from host.cli_options import (
    DEFAULT_DB,
    AcceleratorName,
    AgentPython,
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
    Seed,
    Threads,
    settings_of,
)
from host.compare import compare, write_comparison
from host.devices import LOCAL_CPU, find_unit
from host.transport import Launch
from lut_db.store import open_store


def compare_command(
    device: Device = LOCAL_CPU,
    engine: Engines = "",
    engine_option: EngineOptions = None,
    dtype: Dtypes = "float32",
    threads: Threads = "1",
    cpus: Cpus = "",
    db: Db = DEFAULT_DB,
    out: Annotated[Path | None, typer.Option(help="folder for compare.csv, compare.html and compare.png")] = None,
    as_json: Json = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    force: Force = False,
    accelerator: AcceleratorName = "cpu",
    benchmark_binary: BenchmarkBinary = None,
    delegate_libraries: DelegateLibraries = None,
) -> None:
    """Measure ChamNet-A...F and MobileNetV2's widths and resolutions; published accuracy against latency here."""
    unit = find_unit(device, Launch(agent_python), force)
    asked = Asked(engine, dtype, threads, cpus, seed, accelerator=accelerator, binary=benchmark_binary,
                  libraries=delegate_libraries, options=engine_option or ())  # fmt: skip
    comparisons = []
    with open_store(db) as store:
        for setting in settings_of(unit, asked):
            with show.progress(f"{setting.engine} {setting.dtype} t{setting.threads}") as progress:
                comparisons.append(compare(store, unit, setting, progress))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_comparison(comparisons, out)
    if as_json:
        print(json.dumps([row.as_json(c.target) for c in comparisons for row in c.rows], indent=1))
        return
    for comparison in comparisons:
        show.show_comparison(comparison)
