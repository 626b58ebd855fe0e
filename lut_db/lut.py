"""LatencyLut: everything known about one Target, as a snapshot that prices networks without touching a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from lut_db.errors import LutError
from lut_db.records import ANY_CONTEXT, AROUND, MERGED, Calibration, Lowering, LutEntry, Target
from ops_catalog.spec import Graph, OpSpec

Lowerings = Mapping[tuple[str, str], Lowering]
"""What operators become, by operator key and context."""

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

SHOWN = 3
INTERPOLATE = "; 'chamnet predict' and 'chamnet search --interpolate' price them by those that were measured"


class MissingOpsError(LutError):
    """Operators of a network that the table cannot price.

    Attributes:
        operators: each once, in the network's order.
    """

    def __init__(self, target: Target, operators: Sequence[OpSpec]) -> None:
        self.target = target
        self.operators = tuple(operators)
        listed = ", ".join(op.key for op in self.operators[:SHOWN]) + (", ..." if len(self.operators) > SHOWN else "")
        advice = how_to_measure(target) + INTERPOLATE
        super().__init__(f"no latency for {len(self.operators)} operators on {target.name!r}: {listed}; {advice}")


def how_to_measure(target: Target, operators_file: str = "FILE") -> str:
    """What a person can do about operators that a target's table lacks."""
    if target.source == "imported":
        return "its table was imported, and holds no more"
    title = target.device.partition("@")[0]
    fleet = f"fleet profile --device {title} --all-hosts"
    profile = fleet if MERGED in target.options else f"profile --device {target.device}"
    return f"measure them with 'chamnet {profile} {how_to_ask(target)} --ops {operators_file}'"


def how_to_ask(target: Target) -> str:
    """The options of a command, beside the device, that mean a target."""
    words = [f"--engine {target.engine}"]
    if target.accelerator != "cpu" and "gpu" not in dict(target.options):
        words.append(f"--accelerator {target.accelerator}")
    words += [f"--dtype {target.dtype}", f"--threads {target.threads}"]
    words += [f"--engine-option {name}={value}" for name, value in target.options if name not in AROUND]
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class Prices:
    """What each operator of a network costs, in its order (n): latency, native nodes, bytes of their constants."""

    latency_ns: Array
    native_nodes: Array
    weight_bytes: Array

    def capped_weight_bytes(self, cap: int | None) -> float:
        """Weight bytes of all operators, each counted up to a cap."""
        return float((self.weight_bytes if cap is None else np.minimum(self.weight_bytes, cap)).sum())


def resolve(graph: Graph, lowerings: Lowerings) -> list[Lowering | None]:
    """What each operator of a network becomes, None where that is not known."""
    forms = {name: "plain" for name, _ in graph.inputs}
    steps = [Step(node.op.key, node.inputs, node.output) for node in graph.nodes]
    return follow(steps, forms, readers_of(graph), graph.outputs, lowerings)


@dataclass(frozen=True, slots=True)
class Step:
    """An operator in a network by its key, the tensors it reads, and the one it makes."""

    key: str
    inputs: tuple[str, ...]
    output: str


def follow(
    steps: Sequence[Step],
    forms: dict[str, str],
    readers: Mapping[str, str],
    outputs: Sequence[str],
    lowerings: Lowerings,
) -> list[Lowering | None]:
    """Follows the form of every tensor through operators in their order.

    An operator's context is the forms of its inputs when it runs, and whether it makes an output of the network.

    Args:
        forms: of the tensors that are there at the start; afterwards of all.
        readers: types of the operators that read each tensor (``readers_of``).
        outputs: tensors that are the network's outputs.
    """
    found = []
    for step in steps:
        context = ",".join([forms[name] for name in step.inputs]) + (">" if step.output in outputs else "")
        contexts = (narrower_context(context, readers[step.output]), context, ANY_CONTEXT)
        row = next((lowerings[step.key, c] for c in contexts if (step.key, c) in lowerings), None)
        found.append(row)
        forms[step.output] = row.output_form if row else "plain"
        if row:
            forms.update(zip(step.inputs, row.input_forms, strict=True))
    return found


def readers_of(graph: Graph) -> dict[str, str]:
    """For each operator's output, the types of the operators that read it."""
    readers: dict[str, list[str]] = {node.output: [] for node in graph.nodes}
    for node in graph.nodes:
        for name in set(node.inputs) & readers.keys():
            readers[name].append(node.op.type)
    return {name: "+".join(sorted(types)) for name, types in readers.items()}


def narrower_context(context: str, readers: str) -> str:
    """The context and what reads the output: for engines that decide by what comes after an operator."""
    return f"{context} then {readers}"


def digest_of(target: Target, entries: Iterable[LutEntry], lowerings: Iterable[Lowering]) -> str:
    """A table's digest, the same in any order of its parts, of which none is kept: a large table need not fit into
    memory."""
    of_entries = (f"{entry.key} {entry.latency_ns!r} {entry.label}{_energy_text(entry)}" for entry in entries)
    of_lowerings = (f"{row.op_key} {row.context} {row.natives} {row.output_form}" for row in lowerings)
    total = sum(_hash(line) for line in chain(of_entries, of_lowerings))
    return hashlib.sha256(f"{target.key} {total:x}".encode()).hexdigest()


def _hash(line: str) -> int:
    return int.from_bytes(hashlib.sha256(line.encode()).digest())


def _energy_text(entry: LutEntry) -> str:
    if entry.energy_uj is None:
        return ""
    told = (entry.energy_uj, entry.energy_low_uj, entry.energy_high_uj)
    return f" {' '.join(map(repr, told))} {entry.energy_label}"


@dataclass(frozen=True)
class LatencyLut:
    """A read-only table of one Target: entries of native operators, and what operators become."""

    target: Target
    entries: tuple[LutEntry, ...]
    lowerings: Lowerings = field(repr=False)

    @cached_property
    def by_key(self) -> Mapping[str, LutEntry]:
        return {entry.key: entry for entry in self.entries}

    @cached_property
    def digest(self) -> str:
        """Changes with any latency, energy or lowering."""
        return digest_of(self.target, self.entries, self.lowerings.values())

    def price(self, graph: Graph) -> Prices:
        """What every operator of a network costs.

        Raises:
            MissingOpsError: the table lacks operators; all of them are listed.
        """
        steps = resolve(graph, self.lowerings)
        known = self.by_key
        missing = [
            node.op
            for node, step in zip(graph.nodes, steps, strict=True)
            if step is None or any(key not in known for key in step.natives)
        ]
        if missing:
            raise MissingOpsError(self.target, list(dict.fromkeys(missing)))
        natives = [[known[key] for key in step.natives] for step in steps if step is not None]
        return Prices(
            np.array([sum(entry.latency_ns for entry in row) for row in natives]),
            np.array([len(row) for row in natives]),
            np.array([sum(entry.weight_bytes for entry in row) for row in natives]),
        )

    def predict(self, graph: Graph, calibration: Calibration | None = None) -> float:
        """Latency of a whole network in ns: the sum of its operators, calibrated if asked. Raises MissingOpsError."""
        prices = self.price(graph)
        total = float(prices.latency_ns.sum())
        if calibration is None:
            return total
        per_byte = calibration.ns_per_weight_byte * prices.capped_weight_bytes(calibration.weight_cap_bytes)
        return calibration.scale * total + per_byte + calibration.ns_per_node * float(prices.native_nodes.sum())

    def with_entries(self, entries: Sequence[LutEntry], lowerings: Lowerings | None = None) -> LatencyLut:
        """The same table with more entries, which must be new or are left out, and what they are the price of."""
        new = (entry for entry in entries if entry.key not in self.by_key)
        return replace(self, entries=(*self.entries, *new), lowerings={**self.lowerings, **(lowerings or {})})
