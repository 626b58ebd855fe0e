"""What a person sees in the terminal: tables, progress bars, units. Prints nothing that a program reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from host.devices import Phone
from host.setting import Progress as Tell
from host.setting import Summary
from host.validate import Validation

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


@contextmanager
def progress(title: str) -> Iterator[Tell]:
    """A bar on standard error for each stage; nothing where that is no terminal."""
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.speed:.0f}/s" if False else ""), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, transient=True, disable=not sys.stderr.isatty()) as bar:
        stages: dict[str, int] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(f"{title} {stage}", total=total)
            bar.update(stages[stage], completed=done, total=total)

        yield Tell(tell)


def show_summary(summary: Summary) -> None:
    """What a profile run did, with its doubts."""
    seconds = sum(value for stage, value in summary.seconds.items())
    output.print(
        f"[bold]{summary.target}[/]: {summary.wanted} native operators, {summary.already} known before, "
        f"{summary.measured} measurements now ({summary.repeated} operators a third time) in {seconds:.1f} s"
    )
    if summary.doubts:
        listed = ", ".join(f"{name} {count}" for name, count in summary.doubts.most_common())
        output.print(f"  doubts: {listed}")
    for key, reason in (*summary.refused.items(), *summary.quarantined.items()):
        output.print(f"  [yellow]left out[/] {key}: {reason}", highlight=False)


def show_validation(validation: Validation) -> None:
    """The errors, then the named networks."""
    table = Table(title=f"{validation.target}: {validation.metrics['networks']} unseen networks of "
                  f"{validation.metrics['space']}", title_justify="left")  # fmt: skip
    table.add_column("prediction")
    table.add_column("", justify="right")
    for key, label in METRICS.items():
        unit = "" if key == "spearman" else " %"
        table.add_row(label, f"{validation.metrics[key]:.{3 if key == 'spearman' else 1}f}{unit}")
    output.print(table)


def show_machine(machine: Mapping[str, object], engines: Mapping[str, Mapping[str, str]], meters: Mapping[str, Mapping[str, str]]) -> None:
    table = Table(title="local-cpu", title_justify="left", show_header=False)
    for name, value in machine.items():
        table.add_row(name, str(value))
    for kind, entries in (("engine", engines), ("meter", meters)):
        for name, entry in entries.items():
            table.add_row(f"{kind} {name}", entry.get("version") or entry.get("available") or f"no: {entry['unavailable']}")
    output.print(table)


def show_phones(phones: list[Phone]) -> None:
    for phone in phones:
        output.print(f"{phone.serial}: {phone.model or 'model unknown'}, {phone.state}")
    if not phones:
        output.print("no phone on ADB")
