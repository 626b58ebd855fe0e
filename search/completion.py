"""Completes a table: entries for operators that were never measured, told apart by their label.

What an operator becomes is taken from the measured operator most like it in the same context; what that costs, from the
target's LatencyModel. ``interpolated`` lies among measured sizes; ``estimated`` does not, and is made only on request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lut_db.errors import LutError
from lut_db.lut import LatencyLut, Step, follow, narrower_context, readers_of
from lut_db.records import ANY_CONTEXT, Lowering, LutEntry
from ops_catalog import ops
from ops_catalog.spec import Graph, OpSpec
from search.predictors import Array
from search.predictors.latency import LatencyModel, Row, measured_rows
from search.predictors.op_features import canonical, describe_all

CAUTION = 1.0
"""Standard deviations that an estimate beyond the measured is raised by, where a search will choose among them."""

INVENTED = "~"
"""Begins the keys of native operators that no engine ever ran."""


@dataclass(frozen=True)
class Completed:
    """A table with what was predicted.

    Attributes:
        model: None where nothing was predicted yet.
        predicted: operators in contexts -> latency in ns, and the standard deviation of its logarithm.
        templates: of the measured operators; made at the first completion.
        outside: operators beyond what was measured, left out since no estimate was asked for.
    """

    lut: LatencyLut
    model: LatencyModel | None
    predicted: Mapping[Row, tuple[float, float]]
    outside: tuple[OpSpec, ...] = ()
    templates: Templates | None = field(default=None, repr=False)

    def error_ns(self, graph: Graph) -> float:
        """Standard deviation of a network's sum from its predicted operators; 0 where all were measured."""
        used = [row for row in rows_of(graph, self.lut) if row in self.predicted]
        if not used or self.model is None:
            return 0.0
        return self.model.network_error(used, np.array([self.predicted[row][0] for row in used]))


def rows_of(graph: Graph, lut: LatencyLut) -> list[Row]:
    """Each operator of a network in the context that its table finds it in."""
    found: list[Row] = []
    forms = {name: "plain" for name, _ in graph.inputs}
    readers = readers_of(graph)
    for node in graph.nodes:
        context = _context(forms, node.inputs, node.output in graph.outputs)
        step = Step(node.op.key, node.inputs, node.output)
        (row,) = follow([step], forms, readers, graph.outputs, lut.lowerings)
        found.append((node.op, row.context if row is not None else context))
    return found


def complete_for_graphs(known: Completed, graphs: Iterable[Graph], estimate: bool = False) -> Completed:
    """A table that prices these networks, too, as far as its model may say; it must have one."""
    lut = known.lut
    templates = known.templates or Templates(lut, _model(known))
    wanted: dict[Row, Lowering] = {}
    for graph in graphs:
        forms = {name: "plain" for name, _ in graph.inputs}
        readers = readers_of(graph)
        for node in graph.nodes:
            context = _context(forms, node.inputs, node.output in graph.outputs)
            row = _known(lut, node.op, context, readers[node.output])
            if row is None and (template := templates.nearest(node.op, context)) is not None:
                place = ANY_CONTEXT if template.context == ANY_CONTEXT else context
                row = wanted[node.op, place] = template
            if row is not None:
                forms.update(zip(node.inputs, row.input_forms, strict=True))
            forms[node.output] = row.output_form if row else "plain"
    return _completed(known, templates, wanted, estimate)


def complete_for_operators(known: Completed, operators: Iterable[OpSpec], estimate: bool = False) -> Completed:
    """A table that prices these operators, too, in every context in which their type was measured.

    A search looks for what is cheap, and so for what is thought cheap by mistake: estimates are a standard deviation
    high.
    """
    lut = known.lut
    templates = known.templates or Templates(lut, _model(known))
    wanted: dict[Row, Lowering] = {}
    for op in operators:
        for context in templates.contexts(op):
            if _known(lut, op, context, "") is None and (template := templates.nearest(op, context)) is not None:
                wanted[op, context] = template
    return _completed(known, templates, wanted, estimate, CAUTION)


def _known(lut: LatencyLut, op: OpSpec, context: str, readers: str) -> Lowering | None:
    """What the table makes of an operator, if all of that was measured."""
    for place in (narrower_context(context, readers), context, ANY_CONTEXT):
        row = lut.lowerings.get((op.key, place))
        if row is not None and all(key in lut.by_key for key in row.natives):
            return row
    return None


class Templates:
    """Measured operators to take the forms of others from."""

    def __init__(self, lut: LatencyLut, model: LatencyModel) -> None:
        self._lut = lut
        self._model = model
        self._rows: dict[tuple[str, int, str], list[Lowering]] = {}
        for row in lut.lowerings.values():
            if " then " not in row.context and all(key in lut.by_key for key in row.natives):
                op = ops.load_op(row.op_key)
                self._rows.setdefault((op.type, len(op.inputs), row.context), []).append(row)
        self._described: dict[tuple[str, int, str], Array] = {}

    @cached_property
    def equal(self) -> dict[tuple[object, str], float]:
        """Latencies in ns by what makes operators equal, and context."""
        rows = zip(*measured_rows(self._lut), strict=True)
        return {(canonical(op, self._model.steps), context): ns for (op, context), ns in rows}

    def contexts(self, op: OpSpec) -> list[str]:
        return [context for kind, count, context in self._rows if (kind, count) == (op.type, len(op.inputs))]

    def nearest(self, op: OpSpec, context: str) -> Lowering | None:
        """The row of the operator most like this one, in this context or else in the one most like it."""
        places = sorted(self.contexts(op), key=lambda place: _unlike(place, context))
        if not places:
            return None
        key = (op.type, len(op.inputs), places[0])
        if places[0] == ANY_CONTEXT:
            return self._rows[key][0]
        here = describe_all([(op, places[0])], self._model.steps)
        return self._rows[key][int(((self._all(key) - here) ** 2).sum(axis=1).argmin())]

    def _all(self, key: tuple[str, int, str]) -> Array:
        if key not in self._described:
            rows = [(ops.load_op(row.op_key), row.context) for row in self._rows[key]]
            self._described[key] = describe_all(rows, self._model.steps)
        return self._described[key]


def _completed(
    known: Completed, templates: Templates, wanted: Mapping[Row, Lowering], estimate: bool, lean: float = 0.0
) -> Completed:
    lut, model = known.lut, _model(known)
    priced = [row for row, template in wanted.items() if template.natives and model.knows(row[0].type)]
    free = [row for row, template in wanted.items() if not template.natives]
    within = model.within(priced)
    latency, error = _predicted(templates, model, priced)
    latency = np.where(within, latency, latency * np.exp(lean * error))
    kept = [i for i in range(len(priced)) if within[i] or estimate]
    entries: list[LutEntry] = []
    lowerings: dict[tuple[str, str], Lowering] = {}
    for i in kept:
        op, context = priced[i]
        label = "interpolated" if within[i] else "estimated"
        made = _entries(op, context, len(wanted[priced[i]].natives), float(latency[i]), float(error[i]), label)
        entries += made
        natives = tuple(entry.key for entry in made)
        lowerings[op.key, context] = replace(wanted[priced[i]], op_key=op.key, context=context, natives=natives)
    for op, context in free:
        lowerings[op.key, context] = replace(wanted[op, context], op_key=op.key, context=context)
    left = sorted(set(range(len(priced))) - set(kept))
    outside = tuple(dict.fromkeys(priced[i][0] for i in left))
    predicted = {priced[i]: (float(latency[i]), float(error[i])) for i in kept} | dict.fromkeys(free, (0.0, 0.0))
    every = {**known.predicted, **predicted}
    return Completed(lut.with_entries(entries, lowerings), model, every, (*known.outside, *outside), templates)


def _model(known: Completed) -> LatencyModel:
    if known.model is None:
        raise LutError(f"a table must have a model to be completed, but that of {known.lut.target.name!r} has none")
    return known.model


def _predicted(templates: Templates, model: LatencyModel, rows: Sequence[Row]) -> tuple[Array, Array]:
    """Of the model; but what a staircase makes equal to a measured operator costs what that does."""
    latency, error = model.predict(rows)
    if model.steps:
        for i, (op, context) in enumerate(rows):
            latency[i] = templates.equal.get((canonical(op, model.steps), context), latency[i])
    return latency, error


def _entries(op: OpSpec, context: str, count: int, latency_ns: float, error: float, label: str) -> list[LutEntry]:
    """An operator's latency, spread over as many native operators as its like has: a calibration counts them."""
    mad, weights = latency_ns * error / 1.4826 / count, ops.weight_bytes(op)
    return [
        LutEntry(
            f"{INVENTED}{op.key}@{context}/{i}", latency_ns / count, mad, 0, 0, weights if i == 0 else 0, (), label
        )
        for i in range(count)
    ]


def _unlike(context: str, other: str) -> tuple[bool, bool, int]:
    """How much two contexts differ: any context is like all, then whether both end the network, then forms."""
    forms, others = ({*text.rstrip(">").replace("+", ",").split(",")} for text in (context, other))
    return context not in (ANY_CONTEXT, other), context.endswith(">") != other.endswith(">"), len(forms ^ others)


def _context(forms: Mapping[str, str], inputs: Sequence[str], ends: bool) -> str:
    return ",".join(forms[name] for name in inputs) + (">" if ends else "")
