"""Holds energies against whole networks: do sums of operators, most of them predicted, tell what they draw?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from host.bench import open_bench
from host.devices import Unit
from host.energy import EnergySummary, meter_networks, meter_operators
from host.metering import Metering, open_gauging
from host.predict import Prediction, predictor_of
from host.profile import profile
from host.setting import Progress, Setting, Workload
from host.validate import sample_networks
from lut_db.energies import Metered, Network
from lut_db.energy_choice import Choice
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.build import with_dtype
from ops_catalog.spec import Graph
from search.spaces import space_named


@dataclass(frozen=True, slots=True)
class EnergyQuestion:
    """Which networks to meter whole: so many random ones of a space."""

    space: str
    networks: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class NetworkEnergy:
    """One network: net energies of a call in mJ, metered and summed over its operators, with 95 % intervals."""

    network: str
    measured_mj: float
    low_mj: float
    high_mj: float
    predicted_mj: float
    predicted_low_mj: float
    predicted_high_mj: float

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted_mj / self.measured_mj - 1)

    @property
    def covered(self) -> bool:
        """Whether the two differ by no more than their errors together allow."""
        unsure = np.hypot(self.high_mj - self.low_mj, self.predicted_high_mj - self.predicted_low_mj) / 2
        return bool(abs(self.predicted_mj - self.measured_mj) <= unsure)


@dataclass(frozen=True, slots=True)
class EnergyValidation:
    """The outcome for one target.

    Attributes:
        operators: what metering its operators did.
        refused: networks without an energy, or without a sum, and why.
    """

    target: str
    space: str
    operators: EnergySummary
    rows: tuple[NetworkEnergy, ...]
    refused: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """Errors of the sums in percent, and the share of networks whose intervals hold; empty without networks."""
        if not self.rows:
            return {}
        errors = np.array([row.error_percent for row in self.rows])
        return {
            "networks": len(self.rows), "mape": float(np.abs(errors).mean()),
            "median_ape": float(np.median(np.abs(errors))), "bias": float(errors.mean()),
            "coverage95": float(np.mean([row.covered for row in self.rows])),
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        rows = [{**asdict(row), "error_percent": row.error_percent, "covered": row.covered} for row in self.rows]
        return {
            "target": self.target, "space": self.space, "meter": self.operators.meter, "source": self.operators.source,
            **self.metrics, "energy": self.operators.as_json(), "rows": rows, "refused": dict(self.refused),
        }  # fmt: skip


def validate_energy(
    store: LutStore, unit: Unit, setting: Setting, question: EnergyQuestion, metering: Metering, progress: Progress
) -> EnergyValidation:
    """Measures and meters what the networks' operators lack, meters the networks whole, and compares.

    Raises:
        SpecError: no such space; HostError: nothing of them can be measured; DeviceUnavailable.
    """
    space = space_named(question.space).name
    graphs = sample_networks(question.space, question.networks, question.seed)
    workload = Workload(graphs=tuple(graphs))
    profile(store, unit, setting, workload, progress)
    operators = meter_operators(store, unit, setting, workload, metering, progress)
    with open_bench(store, unit, setting, progress) as bench, open_gauging(bench, unit, metering) as gauging:
        refused = meter_networks(gauging, graphs, space, progress)
        target, choice = bench.target, gauging.choice
    rows = compare_networks(store, target, choice, [with_dtype(graph, setting.dtype) for graph in graphs])
    found = {row.network for row in rows}
    lacking = {graph.name: "its sum is not known" for graph in graphs if graph.name not in found}
    return EnergyValidation(target.name, space, operators, tuple(rows), {**lacking, **refused})


def compare_networks(store: LutStore, target: Target, choice: Choice, graphs: Sequence[Graph]) -> list[NetworkEnergy]:
    """Networks that were metered beside the sums of their operators; those that lack either are left out."""
    measured = {_name(metered): metered for metered in store.energies.networks(target, choice)}
    predictor = predictor_of(store, target, choice=choice)
    pairs = [(measured[graph.name], predictor.predict(graph)) for graph in graphs if graph.name in measured]
    return [row for metered, predicted in pairs if (row := _compared(metered, predicted)) is not None]


def _name(metered: Metered) -> str:
    assert isinstance(metered.of, Network)
    return metered.of.name


def _compared(metered: Metered, predicted: Prediction) -> NetworkEnergy | None:
    found = metered.estimate
    told = (found.net_uj, found.net_low_uj, found.net_high_uj)
    summed = (predicted.energy_mj, predicted.energy_low_mj, predicted.energy_high_mj)
    known = [value / 1e3 for value in told if value is not None] + [value for value in summed if value is not None]
    return NetworkEnergy(_name(metered), *known) if len(known) == len(told) + len(summed) else None
