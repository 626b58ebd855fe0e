"""What a person sees of metering in the terminal; what a trace or an emulator made up is called so."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from host.energy import EnergySummary
from host.energy_validate import EnergyValidation
from host.show import output
from lut_db.energy import MeterCalibration
from lut_db.energy_choice import Choice
from search.energies import MADE_UP


def show_energy(summaries: Sequence[EnergySummary]) -> None:
    """What metering did, and which operators have no energy for it."""
    for summary in summaries:
        left = f", {len(summary.refused)} refused" if summary.refused else ""
        output.print(
            f"[bold]energy[/] of {summary.target} by {summary.meter}{made_up(summary.source)}: {summary.metered} "
            f"operators metered now, {summary.already} before, of {summary.operators}{left}; {summary.seconds:.0f} s",
            soft_wrap=True,
        )
        for key, reason in summary.refused.items():
            output.print(f"  [yellow]no energy[/] {key}: {escape(reason)}", highlight=False, soft_wrap=True)
        if summary.gave_up:
            output.print("  given up, since so many were refused; once that is mended, repeat it", soft_wrap=True)


def show_energy_validation(found: EnergyValidation) -> None:
    """Whole networks against sums of operators, and those that were refused."""
    title = f"{found.target}\nenergy of whole networks by {found.operators.meter}{made_up(found.operators.source)}"
    table = Table(title=title, title_justify="left")
    for heading in ("network", "measured mJ", "95 % interval", "sum of operators mJ", "95 % interval", "error %"):
        table.add_column(heading, justify="left" if heading == "network" else "right", overflow="fold")
    for row in found.rows:
        numbers = (
            f"{row.measured_mj:.4g}", f"{row.low_mj:.4g}-{row.high_mj:.4g}", f"{row.predicted_mj:.4g}",
            f"{row.predicted_low_mj:.4g}-{row.predicted_high_mj:.4g}", f"{row.error_percent:+.1f}",
        )  # fmt: skip
        table.add_row(row.network, *numbers)
    output.print(table)
    if metrics := found.metrics:
        output.print(
            f"mean error {metrics['mape']:.1f} %, median {metrics['median_ape']:.1f} %, bias {metrics['bias']:+.1f} %; "
            f"95 % intervals hold {100 * metrics['coverage95']:.0f} % of them",
            highlight=False,
        )
    for name, reason in found.refused.items():
        output.print(f"  [yellow]no energy[/] {name}: {escape(reason)}", highlight=False, soft_wrap=True)


def show_calibration(device: str, told_by: Choice, found: MeterCalibration) -> None:
    ratio = (
        "not compared" if found.charge_ratio is None else f"{found.charge_ratio:.3f} times the charge counter's change"
    )
    table = Table(
        title=f"{told_by.meter} of {device}{made_up(told_by.source)}", title_justify="left", show_header=False
    )
    table.add_row("while it draws from its battery", "positive" if found.sign > 0 else "negative")
    table.add_row("unit", "mA" if found.scale == 1000 else "uA")
    table.add_row("a new value every", f"{found.update_period_s:.3g} s")
    table.add_row("integral of the current", ratio)
    output.print(table)


def made_up(source: str) -> str:
    """The label of what no real device drew; "" for what one did."""
    return f" ({source.upper()}, not of a real device)" if source in MADE_UP else ""
