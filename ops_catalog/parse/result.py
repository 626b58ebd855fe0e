"""What parsing a model file gives: a Graph of what is understood, a list of what is not, and the limits kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ops_catalog import ops
from ops_catalog.spec import Graph, SpecError, format_shape

MAX_FILE_BYTES = 1 << 30
MAX_NODES = 20_000
MAX_TENSORS = 50_000
MAX_LINKS = 200_000
"""Inputs and outputs of all nodes together."""
MAX_RANK = 8
MAX_SIDE = 1 << 31
MAX_ELEMENTS = 1 << 36
"""Elements of one activation: 256 GiB of float32, more than any device here has."""

MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""What decoding nonsense raises, in our code and in the libraries'."""


class ParseError(SpecError):
    """A file that is no model, or a model of which nothing can be understood."""


@dataclass(frozen=True, slots=True)
class UnknownNode:
    """A node of the file that is not in the Graph.

    Attributes:
        name: the node's name in the file, or that of its first output.
        type: the operator as the file calls it.
        macs: its multiply-accumulates; None where they cannot be told.
    """

    name: str
    type: str
    reason: str
    macs: int | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed model.

    Attributes:
        graph: the operators that are understood, in order. What an unknown node makes enters it as an input, and so
            does a constant that an operator of two tensors reads.
        unknown: the nodes that are not.
        notes: what was taken as something else, and how often.
    """

    graph: Graph
    unknown: tuple[UnknownNode, ...]
    notes: tuple[str, ...]

    @property
    def macs_share_unknown(self) -> float:
        """Part of the multiply-accumulates that unknown nodes do, 0 to 1, those without an estimate left out."""
        missing = sum(node.macs or 0 for node in self.unknown)
        total = missing + sum(ops.macs(op) for op in self.graph.operators)
        return missing / total if total else 0.0


def check_shape(shape: tuple[int, ...], what: str) -> None:
    """Raises SpecError where a tensor is too large to be believed."""
    if len(shape) > MAX_RANK or any(not 0 < side < MAX_SIDE for side in shape):
        raise SpecError(
            f"{what} must have up to {MAX_RANK} sides, each above 0 and below {MAX_SIDE}, but got {_short(shape)}"
        )
    size = 1
    for side in shape:
        size *= side
    if size > MAX_ELEMENTS:
        raise SpecError(f"{what} must have at most {MAX_ELEMENTS} elements, but got {_short(shape)}")


def one_line(text: object, longest: int = 200) -> str:
    """A message as one line that can be printed: names and values in it come from a file."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def _short(shape: tuple[int, ...]) -> str:
    return one_line(format_shape(shape), 60)
