"""The command that looks for networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from host import show
from host.cli_options import (
    DEFAULT_DB,
    AgentPython,
    BenchmarkBinary,
    Db,
    DelegateLibraries,
    Json,
    Means,
    Seed,
    as_before,
)
from host.errors import EXIT_PARTLY, UsageError
from host.matrix import run_matrix, show_matrix, write_matrix
from host.search_report import write_search_report
from host.verify import Verification, choose, recalibrate, verify
from lut_db.records import Target
from lut_db.samples import open_samples
from lut_db.store import LutStore, open_store
from search.builtin import builtin_samples
from search.evolution import Effort
from search.limits import OF_DEVICE, UNITS, Limit
from search.matrix import Row
from search.result import Candidate, SearchResult, export_winner, write_front
from search.run import Question, search
from search.spaces import space_named
from search.spaces.space import fixed_genes

Space = Annotated[str, typer.Option(help="a search space, or a TOML file that describes one; several with --targets")]


def search_command(
    space: Space,
    device: Annotated[str, typer.Option(help="the device of the table")] = "",
    everywhere: Annotated[
        str, typer.Option("--targets", help="with --limits: all, or names: each of these tables by itself, as a matrix")
    ] = "",
    jobs: Annotated[int, typer.Option(help="with --targets: processes at once", min=1)] = 1,
    address: Annotated[
        str,
        typer.Option(
            help="with --targets: a Ray cluster, HOST:PORT or auto, to search there; its hosts must reach --db"
        ),
    ] = "",
    table: Annotated[list[str] | None, typer.Option("--target", help="a table by its name; repeat for several")] = None,
    engine: Annotated[str, typer.Option(help="its engine, where the device has tables of several")] = "",
    dtype: Annotated[str, typer.Option(help="its element type")] = "",
    threads: Annotated[int, typer.Option(help="its number of threads")] = 0,
    latency_ms: Annotated[float | None, typer.Option(help="most latency")] = None,
    limits: Annotated[str, typer.Option(help="several latency limits at once: FROM:TO:COUNT, in ms")] = "",
    energy_mj: Annotated[float | None, typer.Option(help="most energy")] = None,
    macs_m: Annotated[float | None, typer.Option(help="most million multiply-accumulates")] = None,
    params_m: Annotated[float | None, typer.Option(help="most million parameters")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="most megabytes of activations alive at a time")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="TARGET:latency_ms=8; repeat for several targets")] = None,
    fix: Annotated[list[str] | None, typer.Option(help="GENE=VALUE[,VALUE]: search these values only")] = None,
    risk: Annotated[float | None, typer.Option(help="probability of exceeding a latency limit, such as 0.05")] = None,
    predictor: Annotated[str, typer.Option(help="gp, gradient-boosting or ridge")] = "gp",
    dataset: Annotated[str, typer.Option(help="use samples of this data set only")] = "",
    recipe: Annotated[str, typer.Option(help="predict accuracy for this training recipe")] = "",
    samples_db: Annotated[str, typer.Option("--samples", help="database of accuracies, if not --db")] = "",
    population: Annotated[int, typer.Option(help="children of a generation", min=20)] = 500,
    generations: Annotated[int, typer.Option(help="generations", min=1)] = 120,
    verify_count: Annotated[int, typer.Option("--verify", help="measure so many of the networks found", min=0)] = 0,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="price operators that were never measured by those that were")
    ] = False,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="search with the table of an emulated phone, too")
    ] = False,
    again: Annotated[
        bool, typer.Option("--recalibrate", help="fit the calibration to the verified networks, and search once more")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="folder for front, report and the winner's model files")] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="with --json: all about the search, not only networks")
    ] = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    benchmark_binary: BenchmarkBinary = None,
    delegate_libraries: DelegateLibraries = None,
) -> None:
    """Find the most accurate networks of a space within limits, from stored tables and trained networks."""
    if everywhere:
        _search_everywhere(
            Row(db, samples_db or db, "", "", _sweep(limits), predictor, dataset, recipe, interpolate, seed,
                Effort(population, generations)),
            space, everywhere, jobs, address, out, as_json,
        )  # fmt: skip
        return
    if address:
        raise UsageError("--address must come with --targets, but got it alone")
    chosen = space_named(space)
    with open_store(db, create=not (device or table or limit)) as store:
        named = [store.target_named(name) for name in table or []]
        targets, bounds = _limits(store, device, (engine, dtype, threads), limit or [], named)
        own = {"latency_ms": latency_ms, "energy_mj": energy_mj, "macs_m": macs_m, "params_m": params_m,
               "memory_mb": memory_mb}  # fmt: skip
        sweep = _sweep(limits)
        if sweep:
            if latency_ms is not None:
                raise UsageError("one of --latency-ms and --limits must be given, but got both")
            own["latency_ms"] = max(sweep)
        bounds = [*(Limit(name, value) for name, value in own.items() if value is not None), *bounds]
        _check_limits(bounds, targets)
        _check_sources(targets, emulated)
        question = Question(
            chosen, tuple(targets), tuple(bounds), sweep, fixed_genes(fix or []), predictor, recipe, risk, seed,
            Effort(population, generations), interpolate,
        )  # fmt: skip
        with open_samples(samples_db or db) as samples:
            samples.put(builtin_samples(chosen.plain.name))
            known = samples.samples(chosen.plain.name, dataset)
        if again and interpolate:
            raise UsageError("--recalibrate must have a table of measured operators, but got --interpolate")
        with show.progress("search") as progress:
            result = search(store, known, question, progress.tell)
        if verify_count:
            means = Means(agent_python, benchmark_binary, delegate_libraries)
            target = _target_to_verify(targets)
            result, found = _verified(store, result, target, choose(result, verify_count, bool(sweep)), means)
            if again:
                recalibrate(store, target, result, found)
                result = search(store, known, question)
                result, _ = _verified(store, result, target, choose(result, verify_count, bool(sweep)), means)
    if out is not None:
        _write(result, out)
    if as_json:
        rows = [candidate.as_json() for candidate in result.candidates]
        print(json.dumps(result.as_json() if whole else rows, indent=1))
    else:
        show.show_front(result)


def _search_everywhere(
    like: Row, spaces: str, targets: str, jobs: int, address: str, out: Path | None, as_json: bool
) -> None:
    """Raises UsageError without limits; a space that a target lacks operators of is done in part."""
    if not like.limits_ms:
        raise UsageError("--targets must come with --limits FROM:TO:COUNT, but got none")
    with show.progress("search") as progress:
        found, bill = run_matrix(like, spaces.split(","), targets, jobs, address, progress.tell)
    if out is not None:
        write_matrix(found, bill, out)
    if as_json:
        print(json.dumps({"rows": [row.as_json() for row in found], "bill": bill.as_json()}, indent=1))
    else:
        show_matrix(found, bill)
    if any(row.reason for row in found):
        raise typer.Exit(EXIT_PARTLY)


def _limits(
    store: LutStore, device: str, wanted: tuple[str, str, int], texts: Sequence[str], named: Sequence[Target]
) -> tuple[list[Target], list[Limit]]:
    """Targets of the tables to search with, the device's first, and the limits that name one."""
    own = [choose_target(store, device, *wanted)] if device else []
    targets = list(dict.fromkeys([*own, *named]))
    found = []
    for text in texts:
        name, _, bound = text.rpartition(":")
        quantity, _, value = bound.partition("=")
        if not name or quantity not in OF_DEVICE:
            raise UsageError(f"--limit must read like local-cpu:latency_ms=8, but got {text!r}")
        target = choose_target(store, name, *wanted) if "/" not in name else store.target_named(name)
        if target not in targets:
            targets.append(target)
        found.append(Limit(quantity, _number("--limit", value), targets.index(target)))
    return targets, found


def choose_target(store: LutStore, device: str, engine: str = "", dtype: str = "", threads: int = 0) -> Target:
    """The one table of a device that fits; of several, the one that has operators, or else the engine's usual one.

    Raises:
        UsageError: none or several fit; it lists them.
    """
    known = [t for t in store.targets() if dict(t.options).get("operators") != "exported"]
    found = [t for t in known if _fits(t, device, engine, dtype, threads)]
    if len(found) > 1:
        found = [t for t in found if store.counts(t)["operators"]] or found
    usual = [t for t in found if not t.options]
    if len(found) == 1 or (len(usual) == 1 and engine and dtype):
        return (usual or found)[0]
    asked = f"--device {device} with --engine, --dtype and --threads"
    if found:
        listed = ", ".join(t.name for t in found)
        raise UsageError(
            f"one table must match {asked}, but got {len(found)}: {listed}; a search takes one by name with --target"
        )
    measured = ", ".join(dict.fromkeys(t.device for t in known)) or "no device"
    raise UsageError(
        f"a table must match {asked}, but none does: {measured} was measured; 'chamnet profile --device {device}' "
        "measures one, 'chamnet lut targets' lists all"
    )


def _fits(target: Target, device: str, engine: str, dtype: str, threads: int) -> bool:
    """A phone is named snapdragon835@SERIAL in the tables; either half names it here, too."""
    named = device in (target.device, *target.device.split("@"))
    return named and engine in ("", target.engine) and dtype in ("", target.dtype) and threads in (0, target.threads)


def _check_limits(bounds: Sequence[Limit], targets: Sequence[Target]) -> None:
    if not bounds:
        raise UsageError(f"something must be limited, but got nothing; give one of {', '.join(UNITS)} or --limits")
    for bound in bounds:
        if not 0 < bound.at_most < float("inf"):
            raise UsageError(f"{bound.quantity} must be above 0 and finite, but got {bound.at_most:g}")
        if bound.quantity in OF_DEVICE and not targets:
            raise UsageError(f"{bound.quantity} must be of a device, but none is named; give --device")


def _check_sources(targets: Sequence[Target], emulated: bool) -> None:
    """An emulator's clock says nothing about a phone."""
    for target in targets:
        if target.source == "emulated" and not emulated:
            raise UsageError(
                f"a table must be measured on a device, but {target.name!r} is of an emulated one; "
                "--emulated searches with it all the same"
            )


def _sweep(text: str) -> tuple[float, ...]:
    """The limits of FROM:TO:COUNT, evenly spaced."""
    if not text:
        return ()
    parts = text.split(":")
    if len(parts) != 3 or not parts[2].isdigit() or not 2 <= int(parts[2]) <= 1000:
        raise UsageError(f"--limits must read like 5:50:20 (from, to, how many), but got {text!r}")
    low, high = (_number("--limits", part) for part in parts[:2])
    if not 0 < low < high < float("inf"):
        raise UsageError(f"--limits must go up from above 0, but got {text!r}")
    return tuple(low + (high - low) * i / (int(parts[2]) - 1) for i in range(int(parts[2])))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} must have a number, but got {text!r}") from None


def _target_to_verify(targets: Sequence[Target]) -> Target:
    if not targets:
        raise UsageError("--verify must have a device to measure on, but none is named; give --device")
    return targets[0]


def _verified(
    store: LutStore, result: SearchResult, target: Target, chosen: Sequence[Candidate], means: Means
) -> tuple[SearchResult, Verification]:
    unit, setting = as_before(store, target, means)
    with show.progress("verify") as progress:
        found = verify(store, unit, setting, target, result, chosen, progress)
    if found.slowdown is not None:
        show.errors.print(f"the machine's speed is now {100 / found.slowdown:.1f} % of that at its calibration")
    return result.measured(found.latencies_ms), found


def _write(result: SearchResult, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_front(result, out)
    write_search_report(result, out / "report.html")
    written, refused = export_winner(result, out)
    show.errors.print(f"{out}: front.json, front.csv, report.html, {', '.join(path.name for path in written)}")
    for reason in refused:
        show.errors.print(f"not written: {reason}", highlight=False)
