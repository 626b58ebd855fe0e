"""An inverted residual as one operator: what look-up tables of whole blocks price.

1x1 convolution to ``middle`` channels, depthwise convolution, perhaps squeeze-excite, 1x1 convolution; the input is
added where shapes agree. It is written out as these parts (``networks.blocks.inverted_residual`` makes the same).

References:
    Sandler et al., MobileNetV2, CVPR 2018; Howard et al., Searching for MobileNetV3, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Steps, Weight
from ops_catalog.ops.window import check_count
from ops_catalog.spec import Graph, Node, OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {
    "middle": REQUIRED,
    "out_channels": REQUIRED,
    "kernel": (3, 3),
    "stride": (1, 1),
    "activation": "relu6",
    "expand": True,
    "squeeze": 0,
    "gate": "hard_sigmoid",
}
"""``expand``: whether the first convolution is there. ``squeeze``: channels inside squeeze-excite, 0 for none."""
OUTPUT_QUANT = OWN


def check(op: OpSpec) -> None:
    a = ops.attributes(op)
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"inverted_residual needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    check_count("middle", a["middle"])
    activation.check(a["activation"])
    if a["expand"] not in (True, False) or (not a["expand"] and a["middle"] != op.inputs[0].shape[1]):
        raise SpecError(
            f"without its first convolution a block must have middle={op.inputs[0].shape[1]}, but got {a['middle']}"
        )
    if a["squeeze"] != 0:
        check_count("squeeze", a["squeeze"])
        activation.check(a["gate"])
    inside(op)


def inside(op: OpSpec) -> Graph:
    """Its parts as a network of their own. Raises SpecError where they do not fit."""
    known, nodes = {"x0": op.inputs[0]}, list[Node]()

    def steps(op_type: str, *inputs: str, **attributes: Value) -> str:
        name = f"t{len(nodes)}"
        nodes.append(Node(ops.make_op(op_type, *(known[x] for x in inputs), **attributes), inputs, name))
        known[name] = ops.output(nodes[-1].op)
        return name

    expand(op, steps, ["x0"])
    return Graph(op.key, (("x0", op.inputs[0]),), tuple(nodes), (nodes[-1].output,))


def expand(op: OpSpec, steps: Steps, inputs: Sequence[str]) -> None:
    a, (x,), one = ops.attributes(op), inputs, (1, 1)
    act = a["activation"]
    y = steps("conv2d", x, out_channels=a["middle"], kernel=one, activation=act) if a["expand"] else x
    y = steps("depthwise_conv2d", y, kernel=a["kernel"], stride=a["stride"], activation=act)
    if a["squeeze"]:
        gate = steps(
            "conv2d", steps("global_average_pool", y), out_channels=a["squeeze"], kernel=one, activation="relu"
        )
        y = steps("mul", y, steps("conv2d", gate, out_channels=a["middle"], kernel=one, activation=a["gate"]))
    same = a["stride"] == one and op.inputs[0].shape[1] == a["out_channels"]
    steps("conv2d", *((y, x) if same else (y,)), out_channels=a["out_channels"], kernel=one)


def output(op: OpSpec) -> TensorSpec:
    return ops.output(inside(op).nodes[-1].op)


def macs(op: OpSpec) -> int:
    return sum(map(ops.macs, inside(op).operators))


def weights(op: OpSpec) -> tuple[Weight, ...]:
    parts = enumerate(inside(op).operators)
    return tuple(replace(w, name=f"{number}.{w.name}") for number, part in parts for w in ops.weights(part))


def _by_parts(*_: Any) -> NoReturn:
    raise AssertionError("exporters and the reference see the parts of an inverted residual only")


compute = to_onnx = to_tflite = _by_parts
