"""How many multiply-accumulates a node does that is not understood, from the shapes around it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]

CONVOLUTIONS = frozenset(
    {"Conv", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"}
)
TRANSPOSED = frozenset({"ConvTranspose", "TRANSPOSE_CONV"})
PRODUCTS = frozenset(
    {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "QGemm", "FusedMatMul", "MatMulIntegerToFloat",
     "DynamicQuantizeMatMul", "FullyConnected", "FULLY_CONNECTED", "BATCH_MATMUL"}
)  # fmt: skip
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
HEAVY = frozenset(
    {"Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention", "If", "Loop", "Scan", "WHILE",
     "IF", "CALL", "CALL_ONCE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "SVDF", "DFT", "STFT",
     "UNIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN", "GridSample", "RoiAlign", "CUSTOM", "STABLEHLO_COMPOSITE"}
)  # fmt: skip


def estimate_macs(
    kind: str, activations: Sequence[Shape | None], constants: Sequence[Shape], made: Sequence[Shape | None]
) -> int | None:
    """None where the shapes do not tell; 0 for what only moves or activates.

    Args:
        activations: shapes of the inputs that nodes make; constants: of those that are constant; made: of the outputs.
    """
    custom, kind = "::" in kind, kind.split("::")[-1]
    weight = max(constants, key=prod, default=())
    image = activations[0] if activations else None
    result = made[0] if made else None
    if kind in CONVOLUTIONS:
        return prod(result) * prod(weight) // max(1, result[1]) if result and len(result) > 1 and weight else None
    if kind in TRANSPOSED:
        return prod(image) * prod(weight) // max(1, image[1]) if image and len(image) > 1 and weight else None
    if kind in PRODUCTS:
        return prod(result) * image[-1] if result and image else None
    if kind in RECURRENT:
        matrices = sum(prod(shape) for shape in constants if len(shape) == 3)
        return image[0] * image[1] * matrices if image and len(image) == 3 and matrices else None
    return None if kind in HEAVY or custom else 0
