"""Operators as numbers that can be drawn along and fixed, and which of many to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ops_catalog import ops
from ops_catalog.spec import OpSpec, SpecError, parse_key

AXES = ("in_channels", "out_channels", "height", "width", "kernel", "stride", "groups")
"""A kernel or stride is its first side."""

CHANNELS = frozenset({"in_channels", "out_channels"})
IMAGE = frozenset({"height", "width"})
WIDENED = ("out_channels", "out_features")
"""Attributes of operators whose output has channels of its own choice."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """An operator as numbers.

    Attributes:
        numbers: by AXES; None where it has no such number.
        rest: all else that sets it apart from operators of its type.
        widens: its output has as many channels as it likes; else they follow from the input's.
    """

    op: OpSpec
    key: str
    numbers: tuple[int | None, ...]
    rest: str
    widens: bool

    def line(self, along: str) -> tuple[Any, ...]:
        """What operators share that differ along an axis only: images stay square, channels that follow go along."""
        moving = IMAGE if along in IMAGE else CHANNELS if along in CHANNELS and not self.widens else frozenset({along})
        return (*(self.numbers[place] for place in _others(moving)), self.rest)


@cache
def _others(moving: frozenset[str]) -> tuple[int, ...]:
    return tuple(place for place, axis in enumerate(AXES) if axis not in moving)


def drawn(key: str) -> Drawn | None:
    """An operator by its key; None where this catalogue does not know it."""
    try:
        op = parse_key(key)
        shape, made, known = op.inputs[0].shape, ops.output(op).shape, ops.attributes(op)
    except (SpecError, KeyError, IndexError, TypeError):
        return None
    height, width = shape[2:] if len(shape) == 4 else (None, None)
    numbers = (
        _channels(shape), _channels(made), height, width,
        _first(known.get("kernel")), _first(known.get("stride")), known.get("groups"),
    )  # fmt: skip
    return Drawn(op, key, numbers, _rest(op), any(name in known for name in WIDENED))


def chosen(rows: Sequence[Drawn], fixed: Mapping[str, int], along: str) -> list[Drawn]:
    """The rows that have the fixed numbers, those of the longest lines along an axis first."""
    places = [(AXES.index(axis), value) for axis, value in fixed.items()]
    lines: dict[tuple[Any, ...], list[Drawn]] = {}
    for row in rows:
        if all(row.numbers[place] == value for place, value in places):
            lines.setdefault(row.line(along), []).append(row)
    return [row for line in sorted(lines.values(), key=len, reverse=True) for row in line]


def _channels(shape: Sequence[int]) -> int | None:
    return (shape[1] if len(shape) == 4 else shape[-1]) if shape else None


def _first(value: Any) -> int | None:
    number: int | None = value[0] if isinstance(value, tuple) else value
    return number


def _rest(op: OpSpec) -> str:
    left = [f"{name}={value}" for name, value in op.attributes if name not in (*AXES, "out_features")]
    return " ".join([*left, *([f"{len(op.inputs)} inputs"] if len(op.inputs) > 1 else [])])
