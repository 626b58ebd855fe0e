"""The operators: one module each, named in OPS, with everything that is to be known about its type.

An operator module has (``conv2d.py`` is the fullest example, ``contract.py`` gives the types):

    ATTRIBUTES      {name: default}; REQUIRED where there is none
    OUTPUT_QUANT    how an int8 output is scaled: its OWN range, same as INPUT, or a fixed (scale, zero point)
    check(op)       raises SpecError where the operator cannot exist
    output(op)      -> TensorSpec
    macs(op)        -> multiply-accumulates; 0 for operators that only move or activate
    weights(op)     -> the constants it owns
    compute(op, inputs, weights)        what it means, in plain NumPy float32
    to_onnx(op, build, inputs)          emits ONNX nodes, returns the output's name
    to_tflite(op, build, inputs)        emits TFLite operators, returns the output's name

and, only where it is made of parts, ``expand(op, steps, inputs)``: the same thing as simpler operators.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from ops_catalog.ops.contract import REQUIRED, Operator, Weight
from ops_catalog.spec import DTYPE_BYTES, OpSpec, SpecError, TensorSpec, Value, parse_key

OPS = {
    name: f"ops_catalog.ops.{name}"
    for name in (
        "add", "average_pool", "batch_norm", "concat", "conv2d", "depthwise_conv2d", "gelu", "global_average_pool",
        "hard_sigmoid", "hard_swish", "inverted_residual", "layer_norm", "linear", "matmul", "max_pool", "mul", "pad",
        "relu", "relu6", "reshape", "resize", "sigmoid", "silu", "softmax", "transpose",
    )
}  # fmt: skip


def operator(op_type: str) -> Operator:
    """The module of an operator type.

    Raises:
        SpecError: no such type.
    """
    if op_type not in OPS:
        raise SpecError(f"an operator type must be one of {', '.join(sorted(OPS))}, but got {op_type!r}")
    return cast(Operator, import_module(OPS[op_type]))


def make_op(op_type: str, *inputs: TensorSpec, **attributes: Value) -> OpSpec:
    """A checked OpSpec in canonical form (attributes sorted, defaults left out).

    Raises:
        SpecError: unknown type or attribute, or shapes that do not fit.
    """
    known = operator(op_type).ATTRIBUTES
    if unknown := attributes.keys() - known.keys():
        raise SpecError(
            f"{op_type} takes {', '.join(sorted(known)) or 'no attributes'}, but got {', '.join(sorted(unknown))}"
        )
    if missing := [name for name, default in known.items() if default == REQUIRED and name not in attributes]:
        raise SpecError(f"{op_type} needs {', '.join(missing)}")
    if not inputs or len({tensor.dtype for tensor in inputs}) != 1 or inputs[0].dtype not in DTYPE_BYTES:
        raise SpecError(f"{op_type} needs inputs of one type among {', '.join(DTYPE_BYTES)}, but got {inputs}")
    if any(side < 1 for tensor in inputs for side in tensor.shape):
        raise SpecError(f"{op_type} needs shapes of positive sides, but got {[tensor.shape for tensor in inputs]}")
    chosen = tuple(sorted((name, value) for name, value in attributes.items() if value != known[name]))
    op = OpSpec(op_type, inputs, chosen)
    operator(op_type).check(op)
    return op


def load_op(key: str) -> OpSpec:
    """The checked OpSpec of a key. Raises SpecError."""
    op = parse_key(key)
    return make_op(op.type, *op.inputs, **dict(op.attributes))


def attributes(op: OpSpec) -> dict[str, Any]:
    """All attributes of an operator, defaults filled in."""
    return {**operator(op.type).ATTRIBUTES, **dict(op.attributes)}


def output(op: OpSpec) -> TensorSpec:
    return operator(op.type).output(op)


def macs(op: OpSpec) -> int:
    """Multiply-accumulates of one inference."""
    return operator(op.type).macs(op)


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return operator(op.type).weights(op)


def params(op: OpSpec) -> int:
    """Number of learned values, biases included."""
    return sum(TensorSpec(weight.shape).size for weight in weights(op))


def weight_bytes(op: OpSpec) -> int:
    return params(op) * DTYPE_BYTES[op.dtype]


def bytes_moved(op: OpSpec) -> int:
    """Bytes read and written once: inputs, weights, output."""
    return sum(tensor.size_bytes for tensor in op.inputs) + weight_bytes(op) + output(op).size_bytes
