"""What a person sees in the terminal: tables, progress bars, units. Prints nothing that a program reads."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from host import progress_lines
from host.compare import Comparison
from host.setting import Progress as Tell
from host.setting import Summary
from host.validate import Validation
from ops_catalog import ops
from ops_catalog.networks import published
from search.result import Candidate, SearchResult, sparse_limits
from search.spaces.space import genome_name

output = Console()
errors = Console(stderr=True)

METRICS = {
    "mape": "calibrated LUT: mean error",
    "bias": "bias",
    "spearman": "rank correlation",
    "within_5": "within 5 %",
    "within_10": "within 10 %",
    "noise_floor": "noise floor of the networks themselves",
    "uncalibrated_mape": "LUT without calibration",
    "naive_mape": "single operators in sessions of their own",
    "flops_mape": "latency in proportion to MACs",
}


class RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


@contextmanager
def progress(title: str) -> Iterator[Tell]:
    """A bar on standard error for each stage, or lines for the program that asked for them; else nothing."""
    descriptor = progress_lines.wanted()
    if descriptor is not None:
        yield progress_lines.lines_to(descriptor, title)
        return
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, transient=True, disable=not sys.stderr.isatty()) as bar:
        stages: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(f"{title} {stage}", total=total)
            bar.update(stages[stage], completed=done, total=total)

        def wait(reason: str) -> None:
            bar.console.print(f"{title}: {reason}", markup=False, highlight=False)

        yield Tell(tell, wait)


def show_summary(summary: Summary, told: Container[str] = ()) -> None:
    """What a profile run did, with its doubts; of the operators left out those that were not ``told`` before."""
    seconds = sum(value for stage, value in summary.seconds.items())
    output.print(
        f"[bold]{summary.target}[/]: {summary.wanted} native operators, {summary.already} known before, "
        f"{summary.measured} measurements now ({summary.repeated} operators once more) in {seconds:.1f} s",
        soft_wrap=True,
    )
    if summary.sent_bytes:
        output.print(f"  {summary.sent_bytes / 1e6:.1f} MB sent to the device")
    if summary.first_row_s is not None:
        output.print(f"  first rows stored after {summary.first_row_s:.1f} s")
    if summary.doubts:
        listed = ", ".join(f"{name} {count}" for name, count in summary.doubts.most_common())
        output.print(f"  doubts: {listed}")
    for key, reason in (*summary.refused.items(), *summary.quarantined.items()):
        if key not in told:
            output.print(f"  [yellow]left out[/] {key}: {escape(reason)}", highlight=False, soft_wrap=True)


def show_plan(plan: Sequence[Mapping[str, Any]], db: str) -> None:
    """What a profile run would do."""
    for row in plan:
        output.print(
            f"{row['device']} {row['engine']} {row['dtype']} t{row['threads']}: {row['operators']} operators, "
            f"{row['measurements']} measurements, about {row['seconds']:.0f} s if none is in {db} yet",
            soft_wrap=True,
        )
        if energy := row.get("energy"):
            takes = "" if energy["seconds"] is None else f", about {energy['seconds'] / 60:.0f} minutes"
            output.print(f"  and {energy['operators']} of them metered{takes}", highlight=False)
        _show_refused(row, output)


def show_refusals(plan: Sequence[Mapping[str, Any]]) -> None:
    """What a profile run will leave out; not for programs, to which its summary tells it."""
    for row in plan:
        _show_refused(row, errors)


def _show_refused(row: Mapping[str, Any], console: Console) -> None:
    for key, reason in row["cannot"].items():
        console.print(
            f"  [yellow]cannot run on {row['accelerator']}[/] {key}: {escape(reason)}", highlight=False, soft_wrap=True
        )


def show_validation(validation: Validation) -> None:
    """The errors of one Target."""
    metrics = validation.metrics
    table = Table(
        title=f"{validation.target}\n{metrics['networks']} unseen networks of {metrics['space']}", title_justify="left"
    )
    table.add_column("latency predicted by")
    table.add_column("", justify="right")
    for key, label in METRICS.items():
        table.add_row(label, f"{metrics[key]:.3f}" if key == "spearman" else f"{metrics[key]:.1f} %")
    output.print(table)


def show_named(validations: Sequence[Validation], names: Sequence[str]) -> None:
    """Named networks: published accuracy, and latency predicted and measured with every engine."""
    table = Table(title="latency on this machine, one thread", title_justify="left")
    for heading in ("network", "top-1 %", "MMACs"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for validation in validations:
        for kind in ("predicted", "measured"):
            table.add_column(f"{validation.metrics['engine']}\n{kind} ms", justify="right")
    for name in names:
        found = [result for v in validations for result in v.results if result.graph.name == name]
        facts, macs = published(name), sum(map(ops.macs, found[0].graph.operators)) / 1e6
        latencies = [f"{ns / 1e6:.2f}" for result in found for ns in (result.predicted_ns, result.measured_ns)]
        table.add_row(
            name, f"{facts.top1_percent:.1f}" if facts and facts.top1_percent else "", f"{macs:.1f}", *latencies
        )
    output.print(table)


def show_front(result: SearchResult) -> None:
    """The networks found, the most accurate first."""
    table = Table(title=f"{result.space.name}: {sparse_limits(result.limits, result.targets)}", title_justify="left")
    energies = any(c.energy_mj is not None for c in result.candidates)
    verified = any(c.latency_measured_ms is not None for c in result.candidates)
    headings = ["top-1 %", "+- %", "latency ms", *(["measured ms", "error %"] if verified else []), "MMACs", "Mparams"]
    for heading in (*headings, *(("energy mJ", "95 % interval", "energy") if energies else ())):
        table.add_column(heading, justify="right", overflow="fold")
    for c in reversed(result.candidates):
        latencies = " | ".join(f"{ms:.2f}" for ms in c.latencies_ms.values())
        numbers = (f"{c.accuracy:.2f}", f"{c.accuracy_std:.2f}", latencies, *(_measured_cells(c) if verified else ()))
        sizes = (f"{c.macs_m:.0f}", f"{c.params_m:.2f}")
        table.add_row(*numbers, *sizes, *(_energy_cells(c) if energies else ()))
    output.print(table)
    if result.winner is not None:
        output.print(f"winner: {genome_name(result.space.name, result.winner.genome)}", highlight=False, soft_wrap=True)
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in result.seconds.items())
    output.print(f"{result.evaluations} networks evaluated; {seconds}", highlight=False)
    for miss in result.unmet:
        output.print(f"nothing within {miss.limit:g}: the nearest exceeds it by {100 * miss.excess:.1f} %")
    for note in result.notes:
        output.print(f"[yellow]note[/] {note}", highlight=False)


def _measured_cells(candidate: Candidate) -> tuple[str, str]:
    measured = candidate.latency_measured_ms
    if not measured or not candidate.latency_ms:
        return "", ""
    return f"{measured:.2f}", f"{100 * (candidate.latency_ms / measured - 1):+.1f}"


def _energy_cells(candidate: Candidate) -> tuple[str, str, str]:
    mj, low, high = candidate.energy_mj, candidate.energy_low_mj, candidate.energy_high_mj
    interval = "" if low is None or high is None else f"{low:.3g}-{high:.3g}"
    return "" if mj is None else f"{mj:.3g}", interval, candidate.energy_label


def show_comparison(comparison: Comparison) -> None:
    """Published networks on one target, fastest first."""
    table = Table(title=comparison.target, title_justify="left")
    for heading in ("network", "top-1 %", "latency ms", "MMACs", "recipe"):
        table.add_column(heading, justify="left" if heading in ("network", "recipe") else "right", overflow="fold")
    for row in comparison.rows:
        table.add_row(row.network, f"{row.top1_percent:.1f}", f"{row.latency_ms:.2f}", f"{row.macs_m:.0f}", row.recipe)
    output.print(table)


def show_machine(
    machine: Mapping[str, object], engines: Mapping[str, Mapping[str, str]], meters: Mapping[str, Mapping[str, str]]
) -> None:
    table = Table(title="local-cpu", title_justify="left", show_header=False)
    for name, value in machine.items():
        table.add_row(name, str(value))
    for kind, entries in (("engine", engines), ("meter", meters)):
        for name, entry in entries.items():
            table.add_row(
                f"{kind} {name}", entry.get("version") or entry.get("available") or f"no: {entry['unavailable']}"
            )
    output.print(table)


def show_phones(phones: Sequence[Mapping[str, Any]]) -> None:
    """Each phone on ADB: what it is, how it is, and what can be measured on it."""
    for phone in phones:
        table = Table(title=f"phone {phone['serial']}", title_justify="left", show_header=False)
        for name, value in phone.items():
            lines = [f"{key}: {text}" for key, text in value.items()] if isinstance(value, Mapping) else [str(value)]
            table.add_row(name, "\n".join(lines))
        output.print(table)
    if not phones:
        output.print("no phone on ADB; a Linux board is reached as --device ssh:user@host")
