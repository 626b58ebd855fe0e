"""Limits: what a network may cost, in the units people use, and as the rows of numbers that the search works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.errors import LutError
from search.cells import Arithmetic, Array
from search.cost import CostModel
from search.spaces.space import Genomes

UNITS = {"latency_ms": 1e6, "energy_mj": 1e3, "macs_m": 1e6, "params_m": 1e6, "memory_mb": 1e6}
"""Quantities that can be limited, and how many of the base unit (ns, uJ, one, byte) one of it is."""

OF_DEVICE = ("latency_ms", "energy_mj")


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound.

    Attributes:
        quantity: a name of UNITS.
        target: number of the target that it holds for; ignored for what does not depend on a device.
    """

    quantity: str
    at_most: float
    target: int = 0


class Costs:
    """All that networks cost, priced on demand.

    Attributes:
        risk_factor: by how much latencies are raised before they are held against a limit, per target.
    """

    def __init__(self, arithmetic: Arithmetic, models: Sequence[CostModel], risk_factor: Sequence[float]) -> None:
        self.arithmetic = arithmetic
        self.models = models
        self.risk_factor = risk_factor

    def of(self, quantity: str, target: int, genomes: Genomes) -> Array:
        """A quantity of networks (n) in its unit of UNITS. Raises LutError where a table has no energies."""
        priced: dict[str, Callable[[Genomes], Array | None]] = {
            "macs_m": self.arithmetic.macs,
            "params_m": self.arithmetic.params,
            "memory_mb": self.arithmetic.memory_bytes,
        }
        if quantity in OF_DEVICE:
            model = self.models[target]
            priced |= {"latency_ms": model.latency_ns, "energy_mj": model.energy_uj}
        values = priced[quantity](genomes)
        if values is None:
            name = self.models[target].target.name
            raise LutError(
                f"the operators of {name!r} must have energies for an energy limit, but too few were metered; "
                "'chamnet profile --energy' meters them"
            )
        return np.asarray(values / UNITS[quantity])

    def limited(self, limits: Sequence[Limit], genomes: Genomes) -> Array:
        """What is held against the limits (n x limits): latencies at their upper confidence bound."""
        columns = []
        for limit in limits:
            factor = self.risk_factor[limit.target] if limit.quantity == "latency_ms" else 1.0
            columns.append(self.of(limit.quantity, limit.target, genomes) * factor)
        return np.stack(columns, axis=1)


def limit_rows(limits: Sequence[Limit], sweep: Sequence[float]) -> Array:
    """Rows of bounds (sweep x limits): the first limit takes the values of the sweep, the others stay."""
    rows = np.array([[limit.at_most for limit in limits]] * len(sweep), float)
    rows[:, 0] = sweep
    return rows


def even_sweep(costs: Costs, limits: Sequence[Limit], cheapest: Genomes, count: int) -> tuple[float, ...]:
    """Values of the first limit from a little above the cheapest network's cost up to the limit, evenly in ratio."""
    low = float(costs.limited(limits[:1], cheapest).min()) * 1.15
    high = limits[0].at_most
    return tuple(map(float, np.geomspace(low, high, count))) if low < high else (high,)
