"""ChamNet-A...F as released. A block of expansion 1 keeps its 1x1 expansion.

References:
    Dai et al., ChamNet, CVPR 2019; architectures from the released model files.
"""

from __future__ import annotations

from dataclasses import dataclass

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.spec import Graph


@dataclass(frozen=True, slots=True)
class MobileStages:
    """A network of inverted residuals.

    Attributes:
        stages: (expansion, channels, depth, stride); expansion 0 means a block without its first 1x1 convolution.
    """

    resolution: int
    stem: int
    stages: tuple[tuple[int, int, int, int], ...]
    head: int


RELEASED = {
    "a": MobileStages(
        224, 32,
        ((1, 24, 1, 1), (4, 40, 2, 2), (6, 48, 3, 2), (4, 96, 4, 2), (4, 160, 3, 1), (4, 248, 3, 2), (6, 480, 1, 1)),
        2016,
    ),
    "b": MobileStages(
        192, 24,
        ((1, 16, 1, 1), (5, 40, 2, 2), (6, 40, 3, 2), (6, 92, 3, 2), (6, 104, 3, 1), (5, 200, 3, 2), (6, 384, 1, 1)),
        1984,
    ),
    "c": MobileStages(
        224, 16,
        ((1, 16, 1, 1), (4, 24, 1, 2), (4, 32, 3, 2), (5, 64, 2, 2), (6, 96, 3, 1), (6, 160, 3, 2), (4, 256, 1, 1)),
        1520,
    ),
    "d": MobileStages(
        192, 8,
        ((1, 8, 1, 1), (6, 24, 1, 2), (4, 32, 2, 2), (6, 40, 4, 2), (6, 80, 3, 1), (5, 160, 3, 2), (6, 224, 1, 1)),
        1600,
    ),
    "e": MobileStages(
        160, 8,
        ((1, 8, 1, 1), (4, 24, 1, 2), (4, 32, 3, 2), (6, 64, 1, 2), (6, 64, 3, 1), (6, 96, 2, 2), (4, 128, 1, 1)),
        1600,
    ),
    "f": MobileStages(
        128, 8,
        ((1, 8, 1, 1), (4, 24, 1, 2), (4, 32, 3, 2), (4, 40, 1, 2), (4, 64, 3, 1), (4, 128, 2, 2), (4, 192, 1, 1)),
        1280,
    ),
}  # fmt: skip
"""ChamNet-E's single stage of four 64-channel blocks is written as one block of stride 2 and three of stride 1."""


def build_chamnet(name: str, letter: str) -> Graph:
    return build_stages(name, RELEASED[letter])


def build_stages(name: str, network: MobileStages) -> Graph:
    """A stem, stages of inverted residuals, a 1x1 head and the classifier; relu6 throughout."""
    net = Network(name, (1, 3, network.resolution, network.resolution))
    x = conv(net, net.input, network.stem, 3, 2, "relu6")
    for expansion, channels, depth, stride in network.stages:
        for block in range(depth):
            middle = net.shape(x)[1] * max(1, expansion)
            x = inverted_residual(net, x, middle, channels, 3, stride if block == 0 else 1, expand=expansion > 0)
    x = conv(net, x, network.head, activation="relu6")
    return net.finish(classifier(net, x))
