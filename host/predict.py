"""What a network will cost on targets that were measured before, without the device at hand. In two lines:

    predictor = open_predictor("chamnet.db", "pixel6")
    latencies_ms = predictor.latency_ms(graphs)

Operators that were never measured are interpolated between those that were, and say so. A network search calls
``latency_ms`` on as many Graphs as it likes; ``predict`` tells where the time of one goes, and how sure that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from host.calibration import predict as calibrated
from lut_db.energy_choice import Choice
from lut_db.errors import LutError
from lut_db.lut import LatencyLut, MissingOpsError
from lut_db.records import Calibration, Target
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.build import split_batch, with_dtype
from ops_catalog.spec import Graph, OpSpec
from search.completion import Completed, complete_for_graphs, rows_of
from search.energies import Energies, Summed, complete_energies
from search.predictors import Z95, Array
from search.predictors.latency import fit_latency
from search.predictors.op_features import Steps

MEASURED_ERROR = 0.015
"""Relative standard deviation of a measured operator, as far as two sessions differ (``lut_db.aggregate``)."""

LABELS = ("measured", "interpolated", "estimated")
"""What a price rests on; an emulated or simulated table's own rows count as measured on it."""


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """One operator of a network, in its order.

    Attributes:
        latency_ns: uncalibrated; NaN where it is not known.
        label: one of LABELS, or "missing".
    """

    op: OpSpec
    latency_ns: float
    label: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """One network on one target.

    Attributes:
        latency_ms: of what is known; the sum of its operators, calibrated.
        low_ms, high_ms: 95 % interval, of the model's error and of the calibration's.
        energy_mj: beyond what the device draws at rest, with its 95 % interval; None where the table has none.
        energy_label: the weakest of what it rests on, of ``search.energies.LABELS``; "" without one.
        missing: operators without a price, which the latency leaves out.
        calibration: family of the networks that it was calibrated on; "" for a plain sum.
    """

    target: Target
    network: str
    latency_ms: float
    low_ms: float
    high_ms: float
    energy_mj: float | None
    operators: tuple[OperatorCost, ...]
    missing: tuple[OpSpec, ...] = ()
    calibration: str = ""
    energy_low_mj: float | None = None
    energy_high_mj: float | None = None
    energy_label: str = ""

    def with_energy(self, energy: Summed) -> Prediction:
        told = energy.energy_uj / 1e3, energy.low_uj / 1e3, energy.high_uj / 1e3
        return replace(
            self, energy_mj=told[0], energy_low_mj=told[1], energy_high_mj=told[2], energy_label=energy.label
        )

    @property
    def known(self) -> bool:
        """Whether anything of it has a price."""
        return any(cost.label != "missing" for cost in self.operators)

    def share(self, label: str) -> float:
        """Of the known latency, in percent."""
        known = [cost for cost in self.operators if cost.label != "missing"]
        total = sum(cost.latency_ns for cost in known)
        return 100 * sum(cost.latency_ns for cost in known if cost.label == label) / total if total else 0.0

    def as_json(self) -> dict[str, Any]:
        rows = [
            {"key": cost.op.key, "latency_us": None if np.isnan(cost.latency_ns) else cost.latency_ns / 1e3,
             "label": cost.label}
            for cost in self.operators
        ]  # fmt: skip
        return {
            "target": self.target.name, "network": self.network, "latency_ms": self.latency_ms if self.known else None,
            "low_ms": self.low_ms if self.known else None, "high_ms": self.high_ms if self.known else None,
            "energy_mj": self.energy_mj, "energy_low_mj": self.energy_low_mj, "energy_high_mj": self.energy_high_mj,
            "energy_label": self.energy_label or None,
            "calibration": self.calibration,
            "shares": {label: self.share(label) for label in LABELS}, "missing": [op.key for op in self.missing],
            "operators": rows,
        }  # fmt: skip


class Predictor:
    """A target's table, and what was learned from it once something was missing. Made by ``open_predictor``."""

    def __init__(
        self, lut: LatencyLut, steps: Steps, calibration: Calibration | None = None, estimate: bool = False
    ) -> None:
        self.target = lut.target
        self.calibration = calibration
        self._steps = steps
        self._estimate = estimate
        self._completed = Completed(lut, None, {})
        self._priced: tuple[LatencyLut, Energies] | None = None

    @property
    def lut(self) -> LatencyLut:
        """The table with all that was predicted so far."""
        return self._completed.lut

    def latency_ms(self, graphs: Sequence[Graph]) -> Array:
        """Latencies of networks (n). Raises MissingOpsError where an operator has no price."""
        typed = [with_dtype(graph, self.target.dtype) for graph in graphs]
        self._cover(typed)
        prices = [self.lut.price(graph) for graph in typed]
        if self.calibration is None:
            return np.array([float(price.latency_ns.sum()) for price in prices]) / 1e6
        return np.asarray(calibrated(prices, self.calibration) / 1e6)

    def predict(self, graph: Graph) -> Prediction:
        """One network, operator by operator; what has no price is listed."""
        graph = with_dtype(graph, self.target.dtype)
        self._cover([graph])
        costs = tuple(self._costs(graph))
        missing = tuple(dict.fromkeys(cost.op for cost in costs if cost.label == "missing"))
        total_ns = self._total_ns(graph, costs, whole=not missing)
        own = MEASURED_ERROR * float(np.sqrt(sum(c.latency_ns**2 for c in costs if c.label == "measured")))
        error = float(np.hypot(self._error_ns(graph, total_ns), own))
        energy = None if missing else self._energy(graph)
        found = Prediction(
            self.target, graph.name, total_ns / 1e6, max(0.0, total_ns - Z95 * error) / 1e6,
            (total_ns + Z95 * error) / 1e6, None, costs, missing, self.calibration.family if self.calibration else "",
        )  # fmt: skip
        return found if energy is None else found.with_energy(energy)

    def _cover(self, graphs: Sequence[Graph]) -> None:
        """Predicts what the table lacks for networks, as far as it tells enough."""
        lacking = [graph for graph in graphs if not _prices(self.lut, graph)]
        if not lacking:
            return
        if self._completed.model is None:
            try:
                model = fit_latency(self.lut, self._steps)
            except LutError:
                return
            self._completed = replace(self._completed, model=model)
        self._completed = complete_for_graphs(self._completed, lacking, self._estimate)

    def _costs(self, graph: Graph) -> Iterable[OperatorCost]:
        for op, context in rows_of(graph, self.lut):
            row = self.lut.lowerings.get((op.key, context))
            if row is None or any(key not in self.lut.by_key for key in row.natives):
                yield OperatorCost(op, float("nan"), "missing")
                continue
            entries = [self.lut.by_key[key] for key in row.natives]
            labels = {entry.label for entry in entries}
            if (op, context) in self._completed.predicted and not entries:
                labels = {"interpolated"}
            label = next((name for name in reversed(LABELS) if name in labels), "measured")
            yield OperatorCost(op, sum(entry.latency_ns for entry in entries), label)

    def _total_ns(self, graph: Graph, costs: Sequence[OperatorCost], whole: bool) -> float:
        if whole:
            return float(self.latency_ms([graph])[0]) * 1e6
        known = sum(cost.latency_ns for cost in costs if cost.label != "missing")
        return known * (self.calibration.scale if self.calibration else 1.0)

    def _error_ns(self, graph: Graph, total_ns: float) -> float:
        """Standard deviation: of predicted operators, and of what the calibration leaves."""
        scale = self.calibration.scale if self.calibration else 1.0
        of_model = scale * self._completed.error_ns(graph)
        of_sum = self.calibration.spread * total_ns if self.calibration else 0.0
        return float(np.hypot(of_model, of_sum))

    def _energy(self, graph: Graph) -> Summed | None:
        """Of a network all of whose operators have a price."""
        rows = [self.lut.lowerings[op.key, context] for op, context in rows_of(graph, self.lut)]
        if self._priced is None or self._priced[0] is not self.lut:
            self._priced = self.lut, complete_energies(self.lut)
        counts = Counter(key for row in rows for key in row.natives)
        return self._priced[1].sum(counts, self._completed.error_ns(graph))


def open_predictor(db: str | Path, target: str, estimate: bool = False, family: str = "") -> Predictor:
    """A predictor from a database.

    Args:
        target: its name, or a part that only it has.
        estimate: also price operators beyond what was measured.
        family: the calibration to use; by default the newest.

    Raises:
        LutError: no such target or calibration.
    """
    with open_store(db, create=False) as store:
        return predictor_of(store, store.target_named(target), estimate, family)


def predictor_of(
    store: LutStore, target: Target, estimate: bool = False, family: str = "", choice: Choice | None = None,
    batch: int | None = None,
) -> Predictor:  # fmt: skip
    """The same from an open database.

    Args:
        choice: the meter whose energies are taken, by default the one that counts.
        batch: prefer the newest calibration of networks of this batch.
    """
    calibration = _calibration(store, target, family, batch)
    return Predictor(store.lut(target, choice), store.staircases(target), calibration, estimate)


def roofline(prediction: Prediction) -> tuple[Array, Array, list[str]]:
    """Of each known operator: multiply-accumulates a byte, thousand millions of them a second, and its type."""
    known = [cost for cost in prediction.operators if cost.label != "missing" and cost.latency_ns > 0]
    computing = [cost for cost in known if ops.macs(cost.op)]
    intensity = [ops.macs(cost.op) / ops.bytes_moved(cost.op) for cost in computing]
    rate = [ops.macs(cost.op) / cost.latency_ns for cost in computing]
    return np.array(intensity), np.array(rate), [cost.op.type for cost in computing]


def _prices(lut: LatencyLut, graph: Graph) -> bool:
    try:
        lut.price(graph)
    except MissingOpsError:
        return False
    return True


def _calibration(store: LutStore, target: Target, family: str, batch: int | None = None) -> Calibration | None:
    known = store.calibrations(target)
    if family and family not in known:
        raise LutError(f"a calibration must be of {', '.join(known) or 'nothing yet'}, but got {family!r}")
    if family:
        return known[family]
    alike = [calibration for name, calibration in known.items() if split_batch(name)[1] == batch]
    return max(alike or known.values(), key=lambda calibration: calibration.created_at, default=None)
