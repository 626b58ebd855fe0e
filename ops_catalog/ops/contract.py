"""What an operator module offers and what it is given: the words shared by all of ``ops_catalog.ops``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

Array = np.ndarray[Any, np.dtype[Any]]

REQUIRED: Final = "required"
OWN: Final = "own"
INPUT: Final = "input"

OutputQuant = str | tuple[float, int]


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that an operator owns.

    Attributes:
        shape: in the order of ONNX: output channels first.
        fan_in: inputs summed into one output, for He initialisation; 0 for a bias, 1 for a scale.
        channel_axis: the axis with a quantisation scale of its own per index; None for one scale.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    channel_axis: int | None = 0


class OnnxBuilder(Protocol):
    """What ``to_onnx`` emits through. Tensors are names. Images are stored N x C x H x W.

    In an int8 model every method speaks of dequantised values: the exporter puts QuantizeLinear and
    DequantizeLinear around what the operator emits, and ``weight`` returns a dequantised constant;
    ``float_weight`` one that stays float.
    """

    int8: bool

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str: ...
    def weight(self, name: str) -> str: ...
    def float_weight(self, name: str) -> str: ...
    def constant(self, array: Array) -> str: ...


class TfliteBuilder(Protocol):
    """What ``to_tflite`` emits through. Tensors are names; every tensor knows how it is stored.

    ``image(x)`` and ``plain(x)`` return x stored N x H x W x C or in logical order, transposed where needed.
    ``emit`` writes one builtin operator. ``shape`` is the output's logical shape; ``image`` says how the
    output is stored. ``quant`` is the output's (scale, zero point) in an int8 model: the operator's own by
    default, ``quant_of(x)`` where it must equal an input's.
    ``weight(name, order)`` is the constant with its axes in the given order; ``constant`` is an int32
    parameter such as paddings; ``operand`` a float constant that is quantised in an int8 model; ``like(x, value)`` one
    value of x's type and scale. ``rescaled(x)`` brings x to the operator's own output scale in an int8 model.
    ``refuse`` makes the error of an operator that TFLite does not have in this dtype.
    """

    int8: bool

    def image(self, tensor: str) -> str: ...
    def plain(self, tensor: str) -> str: ...
    def is_image(self, tensor: str) -> bool: ...
    def emit(
        self,
        builtin: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        options: Mapping[str, Any] | None = None,
        *,
        image: bool = False,
        quant: tuple[float, int] | None = None,
    ) -> str: ...
    def weight(self, name: str, order: Sequence[int] | None = None) -> str: ...
    def bias(self, name: str, data: str, weight: str) -> str: ...
    def constant(self, array: Array) -> str: ...
    def operand(self, array: Array) -> str: ...
    def like(self, tensor: str, value: float) -> str: ...
    def rescaled(self, tensor: str) -> str: ...
    def refuse(self, reason: str) -> SpecError: ...
    def quant_of(self, tensor: str) -> tuple[float, int] | None: ...


class Steps(Protocol):
    """What ``expand`` writes simpler operators through: ``steps("relu", x)`` returns the name of its output."""

    def __call__(self, op_type: str, *inputs: str, **attributes: Value) -> str: ...


class Operator(Protocol):
    """An operator module. ``expand`` is optional."""

    ATTRIBUTES: Mapping[str, Value]
    OUTPUT_QUANT: OutputQuant
    check: Callable[[OpSpec], None]
    output: Callable[[OpSpec], TensorSpec]
    macs: Callable[[OpSpec], int]
    weights: Callable[[OpSpec], tuple[Weight, ...]]
    compute: Callable[[OpSpec, Sequence[Array], Mapping[str, Array]], Array]
    to_onnx: Callable[[OpSpec, OnnxBuilder, Sequence[str]], str]
    to_tflite: Callable[[OpSpec, TfliteBuilder, Sequence[str]], str]
