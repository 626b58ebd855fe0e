"""MobileNetV1, V2 and V3, at any width and resolution.

References:
    Howard et al., arXiv 1704.04861; Sandler et al., CVPR 2018; Howard et al., ICCV 2019.
"""

from __future__ import annotations

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, depthwise, inverted_residual, round_channels
from ops_catalog.spec import Graph

V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(channels, stride) of each separable convolution."""

V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, depth, stride) of each stage."""

V3_LARGE = (
    (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
    (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hard_swish", 2),
    (3, 200, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1),
    (3, 480, 112, 1, "hard_swish", 1), (3, 672, 112, 1, "hard_swish", 1), (5, 672, 160, 1, "hard_swish", 2),
    (5, 960, 160, 1, "hard_swish", 1), (5, 960, 160, 1, "hard_swish", 1),
)  # fmt: skip
V3_SMALL = (
    (3, 16, 16, 1, "relu", 2), (3, 72, 24, 0, "relu", 2), (3, 88, 24, 0, "relu", 1), (5, 96, 40, 1, "hard_swish", 2),
    (5, 240, 40, 1, "hard_swish", 1), (5, 240, 40, 1, "hard_swish", 1), (5, 120, 48, 1, "hard_swish", 1),
    (5, 144, 48, 1, "hard_swish", 1), (5, 288, 96, 1, "hard_swish", 2), (5, 576, 96, 1, "hard_swish", 1),
    (5, 576, 96, 1, "hard_swish", 1),
)  # fmt: skip
"""(kernel, middle channels, channels, squeeze-excite, activation, stride) of each block; last layer's widths apart."""


def build_v1(name: str, width: float = 1.0, resolution: int = 224) -> Graph:
    """Channels are rounded down, but never below 8."""
    net = Network(name, (1, 3, resolution, resolution))
    x = conv(net, net.input, max(8, int(32 * width)), 3, 2, "relu6")
    for channels, stride in V1_BLOCKS:
        x = depthwise(net, x, 3, stride)
        x = conv(net, x, max(8, int(channels * width)), activation="relu6")
    return net.finish(classifier(net, x))


def build_v2(name: str, width: float = 1.0, resolution: int = 224) -> Graph:
    """The last convolution keeps its 1280 channels where the width is below one."""
    net = Network(name, (1, 3, resolution, resolution))
    x = conv(net, net.input, round_channels(32 * width), 3, 2, "relu6")
    for expansion, channels, depth, stride in V2_STAGES:
        for block in range(depth):
            middle = net.shape(x)[1] * expansion
            wide = round_channels(channels * width)
            x = inverted_residual(net, x, middle, wide, 3, stride if block == 0 else 1, expand=expansion > 1)
    x = conv(net, x, round_channels(1280 * max(width, 1.0)), activation="relu6")
    return net.finish(classifier(net, x))


def build_v3(name: str, width: float = 1.0, resolution: int = 224, size: str = "large") -> Graph:
    """A block widens its input by the factor that it has at width 1, so rounded inputs make rounded middles."""
    blocks, last, features = (V3_LARGE, 960, 1280) if size == "large" else (V3_SMALL, 576, 1024)
    net = Network(name, (1, 3, resolution, resolution))
    x = conv(net, net.input, round_channels(16 * width), 3, 2, "hard_swish")
    unscaled = 16
    for kernel, middle, channels, squeezed, activation, stride in blocks:
        enter = net.shape(x)[1]
        middle, wide = round_channels(enter * middle / unscaled), round_channels(channels * width)
        squeeze = round_channels(middle / 4) if squeezed else 0
        x = inverted_residual(net, x, middle, wide, kernel, stride, activation, squeeze, expand=middle != enter)
        unscaled = channels
    x = conv(net, x, round_channels(last * width), activation="hard_swish")
    y = net.add("global_average_pool", x)
    y = net.add("reshape", y, shape=(1, net.shape(y)[1]))
    y = net.add("linear", y, out_features=round_channels(features * max(width, 1.0)), activation="hard_swish")
    return net.finish(net.add("linear", y, out_features=1000))
