"""Prices for whoever asks the service: one predictor serves many at once, and what is asked has limits.

A list of operators does not say what is around them. On an engine whose operators cost more or less by the layouts they
meet, each then has the price of the cheapest context that it was measured in: conversions are its neighbours'.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from host.api.problems import Problem
from host.api.service import Service
from host.predict import Prediction, Predictor
from lut_db.lut import LatencyLut
from lut_db.records import ANY_CONTEXT, Calibration, Lowering, Target
from ops_catalog import ops
from ops_catalog.parse.result import check_shape
from ops_catalog.spec import Graph, Node, OpSpec, SpecError

MOST_DISTINCT = 2000
"""Different operators in one prediction: the joint error of those never measured is a square matrix of them."""
MOST_WORK = 1 << 62
"""Multiply-accumulates, or bytes moved, of one operator."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be priced.

    Attributes:
        listed: whether the Graph is a list of operators that do not read each other (``as_list``).
        estimate: also price operators beyond what was measured.
        family: of the calibration; by default the newest.
    """

    graph: Graph
    listed: bool = False
    estimate: bool = False
    family: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction, and the calibration it used; ``cheapest`` where the target's operators cost by their context."""

    prediction: Prediction
    calibration: Calibration | None
    cheapest: bool = False


@dataclass(slots=True)
class Shared:
    """What goes with a predictor: who uses it now, and the same for lists where contexts matter, once one came."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    of_lists: Predictor | None = None


_SHARED: WeakKeyDictionary[Predictor, Shared] = WeakKeyDictionary()
_SHARED_LOCK = threading.Lock()


def price(service: Service, target: Target, question: Question) -> Answer:
    """What a network or a list costs on a target; one thread at a time, since a predictor keeps what it predicts.

    Raises:
        Problem: too many operators.
        SpecError: an operator that cannot be meant.
        LutError: no such calibration.
    """
    check_size(question.graph)
    predictor = service.predictor_for(target, question.estimate, question.family)
    with _SHARED_LOCK:
        shared = _SHARED.setdefault(predictor, Shared())
    with shared.lock:
        if question.listed and has_contexts(predictor.lut):
            if shared.of_lists is None:
                steps = service.store.staircases(target)
                shared.of_lists = Predictor(
                    cheapest(predictor.lut), steps, predictor.calibration, question.estimate
                )  # fmt: skip
            return Answer(shared.of_lists.predict(question.graph), predictor.calibration, cheapest=True)
        return Answer(predictor.predict(question.graph), predictor.calibration)


def has_contexts(lut: LatencyLut) -> bool:
    """Whether operators cost what they do by what is around them."""
    return any(context != ANY_CONTEXT for _, context in lut.lowerings)


def cheapest(lut: LatencyLut) -> LatencyLut:
    """A table that holds each measured operator as it is cheapest, in any context."""
    best: dict[str, tuple[float, Lowering]] = {}
    own = {entry.key: entry.latency_ns for entry in lut.entries if entry.label == lut.target.source}
    for (op_key, _), row in lut.lowerings.items():
        if all(key in own for key in row.natives):
            cost = sum(own[key] for key in row.natives)
            if op_key not in best or cost < best[op_key][0]:
                best[op_key] = (cost, row)
    rows = {(op_key, ANY_CONTEXT): _anywhere(row) for op_key, (_, row) in best.items()}
    return replace(lut, lowerings=rows)


def as_list(operators: Mapping[OpSpec, int], name: str) -> Graph:
    """Operators, each so many times, as a Graph in which none reads another."""
    repeated = [op for op, count in operators.items() for _ in range(count)]
    nodes = [Node(op, tuple(f"x{i}.{j}" for j in range(len(op.inputs))), f"t{i}") for i, op in enumerate(repeated)]
    inputs = [(tensor, spec) for node in nodes for tensor, spec in zip(node.inputs, node.op.inputs, strict=True)]
    return Graph(name, tuple(inputs), tuple(nodes), ())


def check_size(graph: Graph) -> None:
    """Raises Problem where a network has too many operators to be priced, SpecError where one cannot be meant."""
    distinct = dict.fromkeys(graph.operators)
    if len(distinct) > MOST_DISTINCT:
        detail = (
            f"a prediction must be of at most {MOST_DISTINCT} different operators, but got {len(distinct)}; split it"
        )
        raise Problem(422, "Too many operators", detail, "too-many-operators")
    for op in distinct:
        check_operator(op)


def check_operator(op: OpSpec) -> None:
    """Raises SpecError where no device could ever run it."""
    for tensor in (*op.inputs, ops.output(op)):
        check_shape(tensor.shape, f"a tensor of {op.type}")
    if max(ops.macs(op), ops.bytes_moved(op)) > MOST_WORK:
        raise SpecError(f"an operator must do less than {MOST_WORK} multiply-accumulates, but got one of {op.type}")


def _anywhere(row: Lowering) -> Lowering:
    return replace(row, context=ANY_CONTEXT, output_form="plain", input_forms=("plain",) * len(row.input_forms))
