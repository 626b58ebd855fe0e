"""What the readers of foreign tables make of a row, and the checks that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lut_db.errors import ExchangeError
from lut_db.records import ANY_CONTEXT, Lowering
from ops_catalog import ops
from ops_catalog.spec import NativeOp, OpSpec, SpecError, TensorSpec, Value

MOST_BYTES = 64 << 20
LARGEST = 1e9
"""Of any number in a table: ms, us, sides, counts; beyond it lies a mistake."""

NS_PER_MS, NS_PER_US, UJ_PER_MJ = 1e6, 1e3, 1e3
UNSTATED = "unstated"


@dataclass(frozen=True, slots=True)
class Reading:
    """One row that was understood.

    Attributes:
        device: model as the file names it; "" where it does not.
        native: what was measured.
        lowerings: the operators that it is.
        summary: ``count`` (0 where not told), ``avg_ns``, and what else is told.
    """

    place: str
    device: str
    dtype: str
    native: NativeOp
    lowerings: tuple[Lowering, ...]
    summary: Mapping[str, float]
    energy_uj: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was not, and why."""

    place: str
    reason: str


class NotUnderstood(Exception):
    """A row that says nothing we can price."""


def understood(place: str, read: Callable[..., Reading], *row: Any) -> Reading | Refused:
    """What ``read(place, *row)`` makes of a row, or why it makes nothing."""
    try:
        return read(place, *row)
    except (NotUnderstood, SpecError) as error:
        return Refused(place, str(error)[:300])


def operator(op_type: str, *shapes: tuple[int, ...], dtype: str = "float32", **attributes: Value) -> OpSpec:
    return ops.make_op(op_type, *(TensorSpec(shape, dtype) for shape in shapes), **attributes)


def reading_of(
    op: OpSpec, place: str, device: str, summary: Mapping[str, float], energy_uj: float | None = None
) -> Reading:
    """The reading of one operator that costs the same anywhere. Raises NotUnderstood where it is absurdly large."""
    size = ops.weight_bytes(op)
    if size > LARGEST:
        raise NotUnderstood(f"an operator must have at most {LARGEST:g} bytes of weights, but got {size:g}")
    return Reading(place, device, op.dtype, NativeOp(op.key, size), (anywhere(op, op.key),), summary, energy_uj)


def anywhere(op: OpSpec, *natives: str) -> Lowering:
    return Lowering(op.key, ANY_CONTEXT, natives, "plain", ("plain",) * len(op.inputs))


def positive(name: str, value: Any) -> float:
    """A number above 0. Raises NotUnderstood."""
    return _number(name, value, lambda x: x > 0, "above 0")


def not_negative(name: str, value: Any) -> float:
    return _number(name, value, lambda x: x >= 0, "0 or more")


def whole(name: str, value: Any, least: int = 1) -> int:
    number = _number(name, value, lambda x: x >= least and x == int(x), f"a whole number from {least}")
    return int(number)


def _number(name: str, value: Any, holds: Callable[[float], bool], wanted: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not holds(number) or number > LARGEST:
        raise NotUnderstood(f"{name} must be {wanted} (and at most {LARGEST:g}), but got {shown(value)}")
    return number


def shown(value: Any) -> str:
    """A value as an error shows it: short, whatever it is."""
    return repr(value)[:80] if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def text_of(path: Path) -> str:
    """A whole file. Raises ExchangeError where it is too large to be read at once."""
    if path.stat().st_size > MOST_BYTES:
        raise ExchangeError(f"{path} must have at most {MOST_BYTES >> 20} MB, but got {path.stat().st_size >> 20}")
    return path.read_text(encoding="utf-8")
