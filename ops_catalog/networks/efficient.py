"""MnasNet-A1 and EfficientNet-Lite0-4.

References:
    Tan et al., MnasNet, CVPR 2019; Tan and Le, EfficientNet, ICML 2019, and its "lite" variants (no squeeze-excite,
    relu6, stem and head not scaled).
"""

from __future__ import annotations

import math

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, depthwise, inverted_residual, round_channels
from ops_catalog.spec import Graph

MNASNET_A1 = (
    (6, 24, 2, 2, 3, 0), (3, 40, 3, 2, 5, 1), (6, 80, 4, 2, 3, 0), (6, 112, 2, 1, 3, 1), (6, 160, 3, 2, 5, 1),
    (6, 320, 1, 1, 3, 0),
)  # fmt: skip
"""(expansion, channels, depth, stride, kernel, squeeze-excite) of each stage after the first separable convolution."""

LITE_STAGES = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip
LITE_SCALES = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260), 3: (1.2, 1.4, 280), 4: (1.4, 1.8, 300)}
"""Variant -> (width, depth, resolution); the first and the last stage are not deepened."""


def build_mnasnet(name: str, resolution: int = 224) -> Graph:
    """Squeeze-excite reduces to a quarter of the block's input, as published."""
    net = Network(name, (1, 3, resolution, resolution))
    x = conv(net, net.input, 32, 3, 2, "relu")
    x = conv(net, depthwise(net, x, 3, 1, "relu"), 16)
    for expansion, channels, depth, stride, kernel, squeezed in MNASNET_A1:
        for block in range(depth):
            enter = net.shape(x)[1]
            squeeze = max(1, enter // 4) if squeezed else 0
            step = stride if block == 0 else 1
            x = inverted_residual(net, x, enter * expansion, channels, kernel, step, "relu", squeeze, gate="sigmoid")
    return net.finish(classifier(net, conv(net, x, 1280, activation="relu")))


def build_lite(name: str, variant: int) -> Graph:
    width, deep, resolution = LITE_SCALES[variant]
    net = Network(name, (1, 3, resolution, resolution))
    x = conv(net, net.input, 32, 3, 2, "relu6")
    last = len(LITE_STAGES) - 1
    for stage, (expansion, channels, depth, stride, kernel) in enumerate(LITE_STAGES):
        repeats = depth if stage in (0, last) else math.ceil(depth * deep)
        for block in range(repeats):
            middle = net.shape(x)[1] * expansion
            step = stride if block == 0 else 1
            x = inverted_residual(net, x, middle, round_channels(channels * width), kernel, step, expand=expansion > 1)
    return net.finish(classifier(net, conv(net, x, 1280, activation="relu6")))
