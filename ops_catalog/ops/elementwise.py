"""What all operators share that treat every element of one tensor alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops_catalog.ops.contract import TfliteBuilder, Weight
from ops_catalog.spec import OpSpec, SpecError, TensorSpec


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1:
        raise SpecError(f"{op.type} needs one input, but got {len(op.inputs)}")


def output(op: OpSpec) -> TensorSpec:
    return op.inputs[0]


def macs(op: OpSpec) -> int:
    return 0


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return ()


def to_tflite(
    builtin: str, op: OpSpec, build: TfliteBuilder, inputs: Sequence[str], options: Mapping[str, Any] | None = None
) -> str:
    """One builtin on the tensor as it is stored."""
    return build.emit(builtin, inputs, op.inputs[0].shape, options, image=build.is_image(inputs[0]))
