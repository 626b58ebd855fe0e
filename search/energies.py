"""Energies of all operators of a table from those that were metered: what ``CostModel`` and ``host.predict`` price by.

What was learned from made-up energies is made up as they are: a replayed trace's are simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import hypot

from lut_db.lut import LatencyLut
from lut_db.records import LutEntry
from search.predictors import Z95
from search.predictors.energy import LEAST, EnergyModel, Metered, fit_energy

LABELS = ("measured", "imported", "predicted", "emulated", "simulated")
"""What an energy rests on, from the best to the worst."""
MADE_UP = LABELS[3:]


@dataclass(frozen=True, slots=True)
class Energies:
    """A table with energies, and what is known of their joint error; None where nothing was predicted."""

    lut: LatencyLut
    model: EnergyModel | None

    def sum(self, counts: Mapping[str, float], latency_error_ns: float = 0.0) -> Summed | None:
        """Of native operators, each so many times; None where the energy of any is not known, and of none.

        Args:
            latency_error_ns: standard deviation of the sum of their latencies, in which energy is in proportion.
        """
        entries = [self.lut.by_key[key] for key in counts]
        known = [entry.energy_uj * counts[entry.key] for entry in entries if entry.energy_uj is not None]
        if not known or len(known) < len(entries):
            return None
        total, total_ns = float(sum(known)), sum(entry.latency_ns * counts[entry.key] for entry in entries)
        by_latency = total * latency_error_ns / total_ns if latency_error_ns else 0.0
        reach = Z95 * hypot(self.error_uj(counts), by_latency)
        label = worst_label(entry.energy_label for entry in entries)
        return Summed(total, max(0.0, total - reach), total + reach, label)

    def error_uj(self, counts: Mapping[str, float]) -> float:
        """Standard deviation of a sum of energies, by native operator, each so many times."""
        if self.model is not None:
            return self.model.network_error_uj(counts)
        known = self.lut.by_key
        return float(sum((times * _own_error(known[key])) ** 2 for key, times in counts.items()) ** 0.5)


@dataclass(frozen=True, slots=True)
class Summed:
    """The energy of a network with its 95 % interval, and the weakest of what it rests on (LABELS)."""

    energy_uj: float
    low_uj: float
    high_uj: float
    label: str


def energy_model(lut: LatencyLut) -> EnergyModel | None:
    """What the metered operators tell of the others; None where they are too few."""
    known = {entry.key: _metered(entry) for entry in lut.entries if entry.energy_uj is not None}
    usable = sum(metered.energy_uj > 0 for metered in known.values())
    return fit_energy(lut.entries, known) if usable >= LEAST else None


def complete_energies(lut: LatencyLut) -> Energies:
    """Predicts what was not metered; nothing, where too little was, or where all is known."""
    whole = all(entry.energy_uj is not None for entry in lut.entries)
    model = None if whole else energy_model(lut)
    if model is None:
        return Energies(lut, None)
    worst = worst_label(entry.energy_label for entry in lut.entries)
    label = worst if worst in MADE_UP else "predicted"
    found = model.energies()
    entries = tuple(
        entry if entry.energy_uj is not None else replace(
            entry, energy_uj=found[entry.key].energy_uj, energy_low_uj=found[entry.key].low_uj,
            energy_high_uj=found[entry.key].high_uj, energy_label=label,
        )
        for entry in lut.entries
    )  # fmt: skip
    return Energies(replace(lut, entries=entries), model)


def worst_label(labels: Iterable[str]) -> str:
    """The weakest of what energies rest on; "" of none."""
    return max(filter(None, labels), key=LABELS.index, default="")


def energy_note(lut: LatencyLut) -> str:
    """What a table's energies rest on; "" where it has none."""
    told = [entry for entry in lut.entries if entry.energy_uj is not None]
    if not told:
        return ""
    labels = Counter(entry.energy_label for entry in told if entry.energy_windows or entry.energy_label == "imported")
    parts = [f"{labels[label]} operators {label}" for label in LABELS if label in labels]
    if predicted := len(told) - labels.total():
        parts.append(f"{predicted} predicted from them")
    made_up = next((label for label in MADE_UP if any(entry.energy_label == label for entry in told)), "")
    warning = f"; what is {made_up} says nothing about a real device" if made_up else ""
    return f"energies of {lut.target.name}, beyond what it draws at rest: {', '.join(parts)}{warning}"


def _metered(entry: LutEntry) -> Metered:
    """What another tool's table tells without an interval is taken for exact."""
    energy = float(entry.energy_uj or 0.0)
    low = energy if entry.energy_low_uj is None else entry.energy_low_uj
    high = energy if entry.energy_high_uj is None else entry.energy_high_uj
    return Metered(energy, low, high, entry.energy_windows)


def _own_error(entry: LutEntry) -> float:
    if entry.energy_low_uj is None or entry.energy_high_uj is None:
        return 0.0
    return (entry.energy_high_uj - entry.energy_low_uj) / (2 * Z95)
