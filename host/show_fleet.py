"""What is told of a fleet: its hosts and units, a sweep's progress, and what came of it, for people and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from host.fleet import Tell
from host.fleet_group import Group
from host.show import errors, output
from lut_db.store import LutStore


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


def told_of(store: LutStore, group: Group) -> dict[str, Any]:
    """What a sweep of one device did, as values for JSON."""
    factors, refused = group.verdict.factors, group.verdict.refused
    units = [
        {
            "unit": name,
            "host": unit.announced.host,
            "operators": unit.done,
            "measured": (store.counts(unit.target)["measurement"] if unit.target else 0) - unit.rows_before,
            "failed": unit.failed,
            "given_back": unit.given_back,
            "state": "there" if unit.there else "gone",
            "reason": refused.get(name, unit.reason),
            "factor": factors[name].as_json() if name in factors else None,
            "merged": name in factors,
        }
        for name, unit in sorted(group.members.items())
    ]
    return {
        "device": group.name,
        "target": group.target.name,
        "wanted": len(group.items) + len(group.overlap),
        "overlap": len(group.overlap),
        "already": group.already,
        "given_back": group.given_back,
        "left": len(group.left),
        "quarantined": group.quarantined,
        "refused": group.refused,
        "refused_units": dict(refused),
        "merged_measurements": group.merged_rows,
        "seconds": round(group.seconds, 2),
        "units": units,
    }


def show_sweep(told: Mapping[str, Any]) -> None:
    """One device's sweep: ``told_of``."""
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
        if unit["reason"] and unit["unit"] not in told["refused_units"]:
            first, _, _ = unit["reason"].partition(";")
            output.print(f"  [yellow]{unit['unit']}[/]: {escape(first)}", highlight=False, soft_wrap=True)
    for name, reason in told["refused_units"].items():
        output.print(f"  [yellow]not merged[/] {name}: {escape(reason)}", highlight=False, soft_wrap=True)
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
