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
from lut_db.database import upgrade
from lut_db.exchange import export_target, import_file
from lut_db.store import open_store

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Look-up tables: what was measured.")

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
    table = Table(title=chosen.name, title_justify="left")
    for heading in ("operator", "us", "+- us", "passes", "doubts"):
        table.add_column(heading, justify="left" if heading in ("operator", "doubts") else "right", overflow="fold")
    for e in entries:
        table.add_row(e.key, f"{e.latency_ns / 1e3:.2f}", f"{e.mad_ns / 1e3:.2f}", str(e.passes), " ".join(e.doubts))
    show.output.print(table)


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="file to write: .csv, .jsonl or .parquet")], target: OptionalTarget = "",
    db: Db = DEFAULT_DB,
) -> None:  # fmt: skip
    """Write one target's table to a file."""
    with open_store(db, create=False) as store:
        rows = export_target(store, store.target_named(target), out)
    show.errors.print(f"{rows} rows in {out}")


@app.command("import")
def import_command(source: Annotated[Path, typer.Argument(help=".jsonl or .parquet")], db: Db = DEFAULT_DB) -> None:
    """Read a table from a file; what is there already is not doubled."""
    with open_store(db) as store:
        target, count = import_file(store, source)
    show.errors.print(f"{count} measurements of {target.name}")


@app.command("check")
def check_command(db: Db = DEFAULT_DB) -> None:
    """Read everything in the database: schema, samples, tables."""
    with open_store(db, create=False) as store:
        for target in store.targets():
            count = sum(1 for _ in store.measurements(target))
            show.output.print(f"{target.name}: {count} measurements readable, digest {store.lut(target).digest[:12]}")


@app.command("upgrade")
def upgrade_command(db: Db = DEFAULT_DB) -> None:
    """Bring a database of an older version to this one's schema."""
    before, after = upgrade(db)
    show.output.print(f"{db}: schema {before} -> {after}")
