"""Macro: the space of NAS-Bench-Macro, eight layers on CIFAR-10 at 32 pixels.

Each layer is nothing (0), an inverted residual with kernel 3 and expansion 3 (1), or one with kernel 5 and expansion 6
(2). Where nothing comes first in a stage, a 1x1 convolution changes width and size. 6,561 genomes, of which 3,969 are
distinct networks: nothing after a stage's first layer has no place of its own. MACs and parameters equal the
benchmark's exactly, its two batch-norm values per channel counted.

References:
    Su et al., Prioritized architecture sampling with Monte-Carlo tree search, CVPR 2021.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from search.spaces.space import Gene, Genomes, SearchSpace, Segment, halved, image

RESOLUTION, STEM, HEAD, CLASSES = 32, 32, 1280, 10
STAGES = ((64, 2), (128, 3), (256, 3))
"""Width and number of layers; the first layer of each halves the image."""

BLOCKS = {1: (3, 3), 2: (6, 5)}
"""Expansion and kernel."""

GENES = tuple(Gene(f"layer{number}", (0, 1, 2)) for number in range(8))


def _segments() -> tuple[Segment, ...]:
    chain = [Segment((), lambda: image(3, RESOLUTION), lambda net, x: conv(net, x, STEM, 3, 1, "relu6"))]
    size, enter, number = RESOLUTION, STEM, 0
    for width, layers in STAGES:
        for layer in range(layers):
            stride = 2 if layer == 0 else 1
            shape = partial(_shape, enter, size)
            chain.append(Segment((f"layer{number}",), shape, partial(_layer, width, stride)))
            size, enter, number = halved(size, stride), width, number + 1
    return (*chain, Segment((), lambda: image(enter, size), _head))


def _shape(channels: int, size: int, choice: int) -> tuple[int, int, int, int]:
    return image(channels, size)


def _layer(width: int, stride: int, net: Network, x: str, choice: int) -> str:
    if choice == 0:
        return x if stride == 1 else conv(net, x, width, 1, stride)
    expansion, kernel = BLOCKS[choice]
    return inverted_residual(net, x, net.shape(x)[1] * expansion, width, kernel, stride)


def _head(net: Network, x: str) -> str:
    return classifier(net, conv(net, x, HEAD, activation="relu6"), CLASSES)


def canonical(genomes: Genomes) -> Genomes:
    """Genomes (n x 8) of the same networks with nothing at the end of every stage."""
    ordered, start = genomes.copy(), 0
    for _, layers in STAGES:
        inside = ordered[:, start + 1 : start + layers]
        order = np.argsort(inside == 0, axis=1, kind="stable")
        ordered[:, start + 1 : start + layers] = np.take_along_axis(inside, order, axis=1)
        start += layers
    return ordered


SPACE = SearchSpace("macro", GENES, _segments(), same=canonical)
