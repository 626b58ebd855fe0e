"""Fills a matrix of searches, in several processes or on a cluster, and shows it: every space, target and limit."""

from __future__ import annotations

import csv
import html
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from host import show
from host.errors import HostError
from host.page import draw_svg, html_table, open_frame, write_page
from host.spread import spread
from lut_db.records import MERGED, Target, targets_named
from lut_db.samples import open_samples
from lut_db.store import LutStore, open_store
from search.builtin import builtin_samples
from search.evaluators.ray_cluster import connected, room
from search.matrix import Bill, Found, Map, Row, fill_matrix, rows_of
from search.spaces import space_named
from search.spaces.space import format_genome

ALL = "all"
COLUMNS = ("space", "target", "limit_ms", "genome", "accuracy_percent", "std_percent", "latency_ms", "macs_m", "reason")
SHOWN = 8
"""Limits of a row on the screen; files have all."""


def run_matrix(
    like: Row, spaces: Sequence[str], targets: str, jobs: int, address: str, tell: Callable[[str, int, int], None]
) -> tuple[list[Found], Bill]:
    """Searches every space on every target.

    Args:
        like: what all rows have in common.
        targets: names or parts of names, comma-separated; or ALL.
        jobs: processes on this computer; address: of a Ray cluster, in their place.

    Raises:
        HostError: no target, or a host of the cluster cannot search; LutError.
    """
    chosen, twice = _targets(like.db, targets)
    with open_samples(like.samples_db) as samples:
        for space in spaces:
            samples.put(builtin_samples(space_named(space).plain.name))
    rows = rows_of(like, spaces, chosen)
    with _mapped(min(jobs, len(rows)), address) as mapped:
        found, bill = fill_matrix(rows, mapped, lambda done, total: tell("search", done, total))
    once = {name: seconds for name, seconds in bill.measuring_s.items() if name not in twice}
    return found, replace(bill, measuring_s=once)


def _targets(db: str, text: str) -> tuple[list[Target], set[str]]:
    """All tables of operators as engines run them, or those that were named.

    Where a merged table is meant, too, units' own tables that it holds are left out, unless one is named by itself.
    The second that is returned are names of those: the merged table's measuring is theirs.

    Raises:
        HostError: there is none.
    """
    with open_store(db, create=False) as store:
        known = [target for target in store.targets() if dict(target.options).get("operators") != "exported"]
        named = [known] if text == ALL else [targets_named(known, name.strip()) for name in text.split(",")]
        found = list(dict.fromkeys(target for group in named for target in _unmerged(store, group)))
        twice = {target.name for target in set(found).difference(_unmerged(store, found))}
    if not found:
        listed = ", ".join(target.name for target in known) or "none yet; 'chamnet profile' measures one"
        raise HostError(f"--targets must be all, or name tables, but got {text!r}; there are {listed}")
    return found, twice


def _unmerged(store: LutStore, targets: Sequence[Target]) -> list[Target]:
    """All but units' own tables whose measurements a merged table among these holds."""
    units = {merged: store.merges.sources(merged) for merged in targets if MERGED in merged.options}
    held = {
        target
        for merged, names in units.items()
        for target in targets
        if target.device in names
        and replace(target, device=merged.device, options=tuple(sorted((*target.options, MERGED)))) == merged
    }
    return [target for target in targets if target not in held]


@contextmanager
def _mapped(jobs: int, address: str) -> Iterator[Map]:
    if address:
        with connected(address):
            room(1.0, 0.0, "search", "start one with 'ray start --num-cpus'")
            yield spread
    elif jobs > 1:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield pool.imap_unordered
    else:
        yield map


def show_matrix(found: Sequence[Found], bill: Bill) -> None:
    """Accuracy of the best network within each limit, and what all of it cost."""
    limits = found[0].limits_ms
    columns = min(SHOWN, len(limits))
    places = [round(number * (len(limits) - 1) / max(1, columns - 1)) for number in range(columns)]
    table = Table(title="predicted accuracy, %, of the best network within each latency", title_justify="left")
    for heading in ("space", "target", *(f"{limits[place]:.3g} ms" for place in places)):
        table.add_column(heading, justify="left" if heading in ("space", "target") else "right", overflow="fold")
    for row in found:
        cells = [row.best[place] for place in places]
        names = escape(Path(row.space).name), escape(row.target_name)
        table.add_row(*names, *("-" if one is None else f"{one.accuracy:.2f}" for one in cells))
    show.output.print(table)
    for row in found:
        if row.reason:
            told = escape(f"{row.space} on {row.target_name}: {row.reason}")
            show.output.print(f"  [yellow]not searched[/] {told}")
    show.output.print(_costs(bill))


def _costs(bill: Bill) -> Table:
    table = Table(title=f"what {bill.queries} queries cost", title_justify="left")
    for heading in ("", "seconds", "grows with"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", overflow="fold")
    for target, seconds in bill.measuring_s.items():
        table.add_row(escape(f"measuring {target}"), f"{seconds:.0f}", "targets")
    for space, trained in bill.training_s.items():
        table.add_row(
            escape(f"training networks of {space}"), "not told" if trained is None else f"{trained:.0f}", "spaces"
        )
    table.add_row("fitting predictors", f"{bill.fitting_s:.1f}", "spaces")
    table.add_row("searching", f"{bill.searching_s:.1f}", "spaces x targets")
    table.add_row("by the clock, without measuring and training", f"{bill.wall_s:.1f}", "")
    return table


def write_matrix(found: Sequence[Found], bill: Bill, folder: Path) -> None:
    """Writes matrix.csv, matrix.json and fronts.html."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"rows": [row.as_json() for row in found], "bill": bill.as_json()}
    (folder / "matrix.json").write_text(json.dumps(told, indent=1))
    with (folder / "matrix.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(line for row in found for line in _lines(row))
    write_page(folder / "fronts.html", "Fronts of every space on every target", _page(found))


def _lines(row: Found) -> Iterator[list[Any]]:
    for limit, one in zip(row.limits_ms, row.best, strict=True):
        known = [""] * 5
        if one is not None:
            numbers = (one.accuracy, one.accuracy_std, one.latency_ms, one.macs_m)
            known = [format_genome(one.genome), *(f"{number:.4f}" for number in numbers)]
        yield [row.space, row.target_name, f"{limit:.4f}", *known, row.reason]


def _page(found: Sequence[Found]) -> str:
    """A plot for every space, a line for every target; and all in a table."""
    parts = []
    for number, space in enumerate(dict.fromkeys(row.space for row in found)):
        rows = [row for row in found if row.space == space and any(row.best)]
        if rows:
            plot = draw_svg(f"f{number}", partial(_draw, rows), (7.6, 4.8))
            parts.append(f"<h2>{html.escape(space)}</h2><figure>{plot}</figure>")
    lines = [list(map(str, line)) for row in found for line in _lines(row)]
    return "".join(parts) + html_table(list(COLUMNS), lines)


def _draw(rows: Sequence[Found], axis: Any) -> None:
    for row in rows:
        points = [(limit, one.accuracy) for limit, one in zip(row.limits_ms, row.best, strict=True) if one]
        axis.plot(*zip(*points, strict=True), drawstyle="steps-post", linewidth=1.6, label=row.target_name)
    axis.set(xscale="log", xlabel="latency limit, ms", ylabel="predicted top-1, %")
    axis.legend(frameon=False, loc="lower right", fontsize="small")
    open_frame(axis)
