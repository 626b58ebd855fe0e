"""Commands about energy: evaluate (predictors of whole networks' energy on networks that they never saw)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from host import show
from host.cli_options import Json
from host.errors import UsageError
from host.network_energies import Wanted, read_pair
from search.predictors.energy_evaluate import TEN, evaluate_energy

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Energy: meters, and predictors.")


@app.command("evaluate")
def evaluate_command(
    train: Annotated[Path, typer.Option(help="CSV of networks to train on: genes, latency, energy")],
    test: Annotated[Path, typer.Option(help="CSV of other networks to be tested on")],
    target: Annotated[str, typer.Option(help="column of the energy in mJ")] = "energy_mj",
    latency: Annotated[str, typer.Option(help="column of the measured latency in ms")] = "lat_ms",
    features: Annotated[
        str, typer.Option(help="columns of integer genes; patterns, comma-separated; by default all of whole numbers")
    ] = "",
    n: Annotated[str, typer.Option("--n", help="numbers of networks to train on, comma-separated")] = "30,60,240",
    seeds: Annotated[int, typer.Option(help="random samples of each number", min=1)] = 8,
    as_json: Json = False,
) -> None:
    """Compare predictors of a network's energy: ours, power as one constant, energy without a notion of power."""
    sizes = [int(part) if part.strip().isdigit() else 0 for part in n.split(",")]
    if min(sizes) < TEN:
        raise UsageError(f"--n must be numbers from {TEN} up, but got {n!r}")
    patterns = tuple(part.strip() for part in features.split(",") if part.strip())
    known, unseen, genes, aside = read_pair(train, test, Wanted(latency, target, patterns))
    note = f"{len(genes)} genes: {', '.join(genes)}" + (f"; left aside: {', '.join(aside)}" if aside else "")
    show.errors.print(note, highlight=False, markup=False)
    rows = evaluate_energy(known, unseen, sizes, seeds)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    show.output.print(_table(rows, f"{len(unseen)} networks of {test.name}, means over {seeds} random samples"))


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.3g}" for value in row.values()))
    return table
