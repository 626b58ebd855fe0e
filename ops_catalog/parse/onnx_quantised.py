"""ONNX nodes that compute with integers: each tensor comes with its scale and zero point."""

from __future__ import annotations

from ops_catalog.parse import compose
from ops_catalog.parse.draft import Draft
from ops_catalog.parse.nodes import FileNode
from ops_catalog.parse.onnx_algebra import Handler, check_inner, matmul, product, same
from ops_catalog.parse.onnx_windows import conv, convolved
from ops_catalog.spec import SpecError

OUTPUT_SCALES = {"QLinearConv": 6, "QLinearMatMul": 6, "com.microsoft::QLinearAdd": 6, "com.microsoft::QLinearMul": 6,
                 "com.microsoft::QGemm": 7}  # fmt: skip
"""Which input of an operator is the scale of its output; its zero point follows."""
DYNAMIC = frozenset({"ConvInteger", "MatMulInteger"})
"""Layers between a DynamicQuantizeLinear and a product with the scales."""


def quantised_conv(draft: Draft, node: FileNode, version: int) -> str:
    """QLinearConv: image, scale, zero point, weight, ..."""
    return convolved(draft, node, node.inputs[3])


def quantised_matmul(draft: Draft, node: FileNode, version: int) -> str:
    """QLinearMatMul: a, scale, zero point, b, ..."""
    return product(draft, node.inputs[0], node.inputs[3])


def quantised_gemm(draft: Draft, node: FileNode, version: int) -> str:
    """QGemm: a, scale, zero point, b, scale, zero point, bias, ..."""
    if node.attributes.get("transA", 0):
        raise SpecError("a QGemm of a transposed matrix is not known")
    shape = draft.shape(node.inputs[3])
    inner, outer = shape[::-1] if node.attributes.get("transB", 0) else shape
    check_inner(draft.shape(node.inputs[0])[-1], inner)
    return draft.add("linear", node.inputs[0], out_features=outer, _bias=True)


def quantised_concat(draft: Draft, node: FileNode, version: int) -> str:
    """QLinearConcat: scale, zero point, then each tensor with its own."""
    names = node.inputs[2::3]
    return draft.add("concat", *names, axis=int(node.attributes["axis"]) % len(draft.shape(names[0])))


def _quantised_binary(kind: str) -> Handler:
    """QLinearAdd and QLinearMul: a, scale, zero point, b, ..."""

    def handle(draft: Draft, node: FileNode, version: int) -> str:
        return compose.binary(draft, kind, node.inputs[0], node.inputs[3])

    return handle


HANDLERS: dict[str, Handler] = {
    "ConvInteger": conv,
    "QLinearConv": quantised_conv,
    "QLinearMatMul": quantised_matmul,
    "MatMulInteger": matmul,
    "com.microsoft::QGemm": quantised_gemm,
    "com.microsoft::QLinearConcat": quantised_concat,
    "com.microsoft::QLinearAdd": _quantised_binary("add"),
    "com.microsoft::QLinearMul": _quantised_binary("mul"),
    "com.microsoft::QLinearSigmoid": same("sigmoid"),
    "com.microsoft::QLinearGlobalAveragePool": same("global_average_pool"),
}
