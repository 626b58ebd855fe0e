"""``chamnet lut``: look at the look-up tables, move them, check and upgrade the database."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from host import show
from host.cli_options import DEFAULT_DB, Db, Json
from host.errors import EXIT_PARTLY, UsageError
from lut_db.database import place_of, upgrade, url_of
from lut_db.exchange import export_target, import_file
from lut_db.foreign import FORMATS, Imported, Origin, detect, export_foreign, import_builtin, import_foreign
from lut_db.foreign.mbconv_blocks import BUILTIN
from lut_db.records import LutEntry
from lut_db.store import LutStore, open_store

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Look-up tables: what was measured.")

SHIPS = "builtin:"
SHIPPED = tuple(f"{SHIPS}{name}" for name in BUILTIN)

OptionalTarget = Annotated[str, typer.Option("--target", help="a target; not needed where there is only one")]


@app.command("targets")
def targets_command(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """List the targets: what each table is valid for, and how much is in it."""
    with open_store(db, create=False) as store:
        rows = [{"name": t.name, **asdict(t), "counts": store.counts(t)} for t in store.targets()]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for heading in ("target", "source", "operators", "measurements", "quarantined", "networks"):
        table.add_column(heading, justify="left" if heading in ("target", "source") else "right", overflow="fold")
    for row in rows:
        counts = row["counts"]
        numbers = [counts[name] for name in ("operators", "measurement", "quarantine", "network_measurement")]
        table.add_row(row["name"], row["source"], *map(str, numbers))
    show.output.print(table)


@app.command("show")
def show_command(
    target: OptionalTarget = "", db: Db = DEFAULT_DB, as_json: Json = False,
    contains: Annotated[str, typer.Option(help="only operators whose key contains this")] = "",
    limit: Annotated[int, typer.Option(help="at most so many, the dearest first")] = 40,
) -> None:  # fmt: skip
    """Show a table's entries."""
    with open_store(db, create=False) as store:
        chosen = store.target_named(target)
        lut = store.lut(chosen)
    entries = sorted((e for e in lut.entries if contains in e.key), key=lambda e: -e.latency_ns)[:limit]
    if as_json:
        print(
            json.dumps({"target": chosen.name, "digest": lut.digest, "entries": list(map(asdict, entries))}, indent=1)
        )
        return
    label = "" if chosen.source == "measured" else f" ({chosen.source})"
    table = Table(title=f"{chosen.name}{label}", title_justify="left")
    told = ("energy uJ", "95 % interval", "energy") if any(e.energy_uj is not None for e in entries) else ()
    for heading in ("operator", "us", "+- us", "passes", "doubts", *told):
        left = heading in ("operator", "doubts", "energy")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for e in entries:
        plain = (e.key, f"{e.latency_ns / 1e3:.2f}", f"{e.mad_ns / 1e3:.2f}", str(e.passes), " ".join(e.doubts))
        table.add_row(*plain, *(_energy(e) if told else ()))
    show.output.print(table)


def _energy(entry: LutEntry) -> tuple[str, str, str]:
    """Of a call, beyond what the device draws at rest; empty where no meter told of it."""
    low, high = entry.energy_low_uj, entry.energy_high_uj
    interval = "" if low is None or high is None else f"{low:.4g}-{high:.4g}"
    return "" if entry.energy_uj is None else f"{entry.energy_uj:.4g}", interval, entry.energy_label


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="file to write: .csv, .jsonl or .parquet; .yaml with --format ofa-yaml")],
    target: OptionalTarget = "",
    format_name: Annotated[str, typer.Option("--format", help="ofa-yaml; by default what the file's name says")] = "",
    db: Db = DEFAULT_DB,
) -> None:
    """Write one target's table to a file."""
    left: list[str] = []
    with open_store(db, create=False) as store:
        chosen = store.target_named(target)
        if format_name:
            rows, left = export_foreign(store.lut(chosen), out, format_name)
        else:
            rows = export_target(store, chosen, out)
    show.errors.print(f"{rows} rows in {out}")
    _tell_left("no layer of such a table", left)


@app.command("import")
def import_command(
    file: Annotated[str, typer.Argument(help=f"a file, or a table that ships: {', '.join(SHIPPED)}")],
    format_name: Annotated[
        str, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default what the file looks like")
    ] = "",
    device: Annotated[str, typer.Option(help="what to call its device; needed where the file does not say")] = "",
    licence: Annotated[str, typer.Option(help="the licence of another tool's table, kept with it")] = "",
    source: Annotated[str, typer.Option(help="where another tool's table is from, kept with it")] = "",
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Read a table from a file, ours or another tool's; what is there already is not doubled."""
    with open_store(db) as store:
        found = _import(store, file, format_name, Origin(device, licence, source))
    if as_json:
        targets = [{"name": target.name, "measurements": count} for target, count in found.targets]
        print(json.dumps({"targets": targets, "refused": list(map(asdict, found.refused))}, indent=1))
    for target, count in found.targets:
        show.errors.print(f"{count} measurements of {target.name}", highlight=False, markup=False, soft_wrap=True)
    _tell_left("not understood", [f"{row.place}: {row.reason}" for row in found.refused])


def _import(store: LutStore, file: str, format_name: str, origin: Origin) -> Imported:
    if file in SHIPPED:
        return import_builtin(store, file.removeprefix(SHIPS), origin.device)
    if found := format_name or detect(Path(file)):
        return import_foreign(store, Path(file), found, origin)
    if origin != Origin():
        raise UsageError(f"--device, --licence and --source are for other tools' tables, but {file} is none")
    return Imported((import_file(store, Path(file)),), ())


def _tell_left(what: str, rows: list[str]) -> None:
    """Names rows that were left out, and ends as done in part."""
    if rows:
        show.errors.print(f"{len(rows)} left out, {what}:")
        for row in rows:
            show.errors.print(f"  {row}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_PARTLY)


@app.command("check")
def check_command(db: Db = DEFAULT_DB) -> None:
    """Read everything in the database: schema, samples, tables."""
    with open_store(db, create=False) as store:
        for target in store.targets():
            count = sum(1 for _ in store.measurements(target))
            metered = sum(1 for _ in store.energies.measurements(target))
            energies = f", {metered} energies" if metered else ""
            digest = store.lut(target).digest[:12]
            show.output.print(f"{target.name}: {count} measurements{energies} readable, digest {digest}")


@app.command("upgrade")
def upgrade_command(db: Db = DEFAULT_DB) -> None:
    """Bring a database of an older version to this one's schema; harmless where it has it."""
    before, after = upgrade(db)
    told = f"schema {before} -> {after}" if before != after else f"schema {after}, nothing to do"
    show.output.print(f"{place_of(url_of(db))}: {told}", markup=False, highlight=False)
