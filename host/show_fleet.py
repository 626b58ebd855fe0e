"""What a person sees of a fleet: its hosts and units, a sweep's progress, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from host.fleet import Tell
from host.show import errors, output


@contextmanager
def sweep_progress() -> Iterator[Tell]:
    """A bar for each device, and a line for each unit, on standard error."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(name: str, doing: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=None)
            bar.update(tasks[name], description=escape(f"{name} {doing}"), completed=done, total=total or None)

        yield tell


def show_sweep(told: Mapping[str, Any]) -> None:
    """One device's sweep: ``fleet_group.as_json``."""
    output.print(
        f"[bold]{escape(told['target'])}[/]: {told['wanted']} asked for, {told['already']} known before, "
        f"{told['overlap']} on every unit, {told['given_back']} given back, {told['left']} left; "
        f"{told['merged_measurements']} measurements merged in {told['seconds']:.1f} s",
        soft_wrap=True,
    )
    table = Table()
    for heading in ("unit", "host", "operators", "measured", "failed", "factor", "95 % interval", "merged"):
        table.add_column(heading, justify="left" if heading in ("unit", "host") else "right", overflow="fold")
    for unit in told["units"]:
        factor = unit["factor"]
        numbers = (
            ("", "") if factor is None else (f"{factor['factor']:.3f}", f"{factor['low']:.3f}-{factor['high']:.3f}")
        )
        counts = (str(unit[name]) for name in ("operators", "measured", "failed"))
        table.add_row(unit["unit"], unit["host"], *counts, *numbers, "yes" if unit["merged"] else "no")
    output.print(table)
    for unit in told["units"]:
        if unit["reason"]:
            output.print(f"  [yellow]{unit['unit']}[/]: {escape(unit['reason'])}", highlight=False, soft_wrap=True)
    for key, reason in (*told["refused"].items(), *told["quarantined"].items()):
        output.print(f"  [yellow]left out[/] {key}: {escape(reason)}", highlight=False, soft_wrap=True)


def show_status(hosts: Sequence[Mapping[str, Any]], units: Sequence[Mapping[str, Any]]) -> None:
    for title, rows in (("hosts", hosts), ("units", units)):
        table = Table(title=title, title_justify="left")
        for heading in rows[0] if rows else ("none",):
            table.add_column(heading)
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        output.print(table)
