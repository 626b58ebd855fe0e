"""``chamnet db``: a whole database, wherever it lies."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from host import show
from host.cli_options import Json
from host.errors import HostError
from lut_db.copying import Copied, copy_database

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Whole databases.")


@app.callback()
def db() -> None:
    """Whole databases."""


@app.command("copy")
def copy_command(
    source: Annotated[str, typer.Argument(help="a file, or any SQLAlchemy URL")],
    into: Annotated[str, typer.Argument(help="an empty database, or a file that is not there yet")],
    as_json: Json = False,
) -> None:
    """Copy a database, from a file to a PostgreSQL server or back, and compare both: rows, and every table's digest.

    Others may measure meanwhile: the copy is what was there at its beginning. Stop the service first: a job that runs
    would be copied as running.
    """
    with show.progress("copy") as progress:
        copied = copy_database(source, into, progress.tell)
    if as_json:
        print(json.dumps(copied.as_json(), indent=1))
    else:
        _show(copied)
    if not copied.equal:
        raise HostError("a copy must equal its source, but differs; did others write into the copy? Copy into another")


def _show(copied: Copied) -> None:
    table = Table(title=f"{len(copied.digests)} targets copied", title_justify="left")
    for heading in ("table", "rows there", "rows here"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for name, (before, after) in copied.rows.items():
        if before or after:
            table.add_row(name, str(before), str(after))
    show.output.print(table)
    same = sum(before == after for before, after in copied.digests.values())
    show.output.print(f"{same} of {len(copied.digests)} targets have the same digest")
