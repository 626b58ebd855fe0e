"""A fused draft -> Parsed: what is still no operator of ours is listed, the rest becomes a Graph."""

from __future__ import annotations

from collections.abc import Mapping

from ops_catalog.parse.draft import INTERIM, Draft, Step
from ops_catalog.parse.fuse import fuse
from ops_catalog.parse.normal import normal_op
from ops_catalog.parse.result import Parsed, ParseError, UnknownNode, one_line
from ops_catalog.spec import Graph, Node, TensorSpec

NEAR = {"sub": "add", "prelu": "relu", "tanh": "sigmoid"}
"""Interim steps that cost what an operator of ours does."""


def finish(draft: Draft) -> Parsed:
    """Raises ParseError where no operator was understood."""
    for name in draft.outputs:
        draft.needed[name] += 1
    fuse(draft)
    alive = len(draft.steps)
    draft.drop_unread()
    if alive > len(draft.steps):
        draft.note(f"{alive - len(draft.steps)} operators whose results nobody needs are left out")
    _settle(draft)
    if not draft.steps:
        kinds = ", ".join(sorted({node.type for node in draft.unknown})[:8]) or "nothing"
        raise ParseError(
            f"a model must have an operator that ChamNet knows, but got {one_line(kinds)}; see ops_catalog/ops"
        )
    return Parsed(_graph(draft), tuple(draft.unknown), _notes(draft))


def _settle(draft: Draft) -> None:
    """Takes interim steps as what they are near to, or out of the draft; their outputs then enter it."""
    for step in list(draft.steps.values()):
        near = NEAR.get(step.type)
        if near is not None and draft.rewrite(step, near, step.inputs, {}):
            draft.note(f"{step.origin[1]} is priced as {near}")
            continue
        if step.type in INTERIM:
            reason = "there is no such operator, and no pattern of one around it"
            _give_up(draft, step, reason)


def _give_up(draft: Draft, step: Step, reason: str) -> None:
    draft.unknown.append(UnknownNode(*step.origin, reason, 0))
    for name in step.inputs:
        draft.needed[name] += 1
        draft.readers.get(name, {}).pop(step.output, None)
    del draft.steps[step.output]


def _graph(draft: Draft) -> Graph:
    labels = _labels(draft)
    nodes, entering = list[Node](), dict[str, TensorSpec]()
    for step in draft.steps.values():
        op = normal_op(draft.op(step.type, step.inputs, step.attributes, draft.dtype))
        names = []
        for name, tensor in zip(step.inputs, op.inputs, strict=True):
            names.append(_enter(draft, entering, labels, name, tensor))
        nodes.append(Node(op, tuple(names), labels[step.output]))
    order = [labels[name] for name in draft.labels if labels.get(name) in entering]
    inputs = tuple((name, entering[name]) for name in dict.fromkeys([*order, *entering]))
    return Graph(draft.name, inputs, tuple(nodes), _outputs(draft, labels))


def _enter(draft: Draft, entering: dict[str, TensorSpec], labels: Mapping[str, str], name: str, now: TensorSpec) -> str:
    """The name of an input of a step; a constant is a tensor of its own wherever it is read in another shape."""
    label = labels[name]
    if name in draft.steps:
        return label
    if draft.tensors[name].constant:
        draft.note("a constant operand is priced as a tensor that enters the network")
        while entering.get(label, now) != now:
            label += "'"
    entering[label] = now
    return label


def _outputs(draft: Draft, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The file's outputs that are understood, then what unknown nodes read, else what nobody reads."""
    wanted = [name for name in (*draft.outputs, *draft.needed) if name in draft.steps and draft.needed[name]]
    wanted = wanted or [name for name in draft.steps if not draft.readers.get(name)]
    return tuple(dict.fromkeys(labels[name] for name in wanted))


def _labels(draft: Draft) -> dict[str, str]:
    """A name for every tensor: the file's where there is one, else that of what it goes into, numbered."""
    taken: set[str] = set()
    labels: dict[str, str] = {}
    for name in draft.tensors:
        wanted = draft.labels.get(name) or f"t.{name[1:]}"
        if wanted in taken:
            wanted += f".{name[1:]}"
        while wanted in taken:
            wanted += "'"
        taken.add(wanted)
        labels[name] = wanted
    return labels


def _notes(draft: Draft) -> tuple[str, ...]:
    return tuple(one_line(text if count == 1 else f"{text} ({count} times)") for text, count in draft.notes.items())
