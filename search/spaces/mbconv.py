"""MBConv: the space of Accel-NASBench, seven stages of inverted residuals at 224 pixels on ImageNet.

Of each stage: expansion, kernel, depth, squeeze-excite. Widths and strides are fixed. Parameters equal the
benchmark's to the last one (squeeze-excite as wide as a quarter of its block's input, no expansion layer at
expansion 1); its data do not name the activation: ReLU here, and a sigmoid gate.

References:
    Ahmad et al., Accel-NASBench, DAC 2024.
"""

from __future__ import annotations

from functools import partial

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from search.spaces.space import Gene, SearchSpace, Segment, halved, image

RESOLUTION, STEM, HEAD = 224, 32, 1280
STRIDES = (1, 2, 2, 2, 1, 2, 1)
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
DEPTHS = ((1, 2, 3),) * 5 + ((1, 2, 3, 4), (1, 2, 3))

GENES = tuple(
    gene
    for stage, depths in enumerate(DEPTHS)
    for gene in (
        Gene(f"b{stage}_e", (1, 4, 6)),
        Gene(f"b{stage}_k", (3, 5)),
        Gene(f"b{stage}_l", depths),
        Gene(f"b{stage}_se", (0, 1)),
    )
)


def _segments() -> tuple[Segment, ...]:
    chain = [Segment((), lambda: image(3, RESOLUTION), lambda net, x: conv(net, x, STEM, 3, 2, "relu"))]
    size = halved(RESOLUTION, 2)
    enter = STEM
    for stage, (stride, width) in enumerate(zip(STRIDES, WIDTHS, strict=True)):
        genes = (f"b{stage}_e", f"b{stage}_k", f"b{stage}_se")
        chain.append(Segment(genes, partial(_shape, enter, size), partial(_block, width, stride)))
        size = halved(size, stride)
        chain.append(Segment(genes, partial(_shape, width, size), partial(_block, width, 1), f"b{stage}_l", 1))
        enter = width
    return (*chain, Segment((), lambda: image(enter, size), _head))


def _shape(channels: int, size: int, *_: int) -> tuple[int, int, int, int]:
    return image(channels, size)


def _block(width: int, stride: int, net: Network, x: str, expansion: int, kernel: int, squeezed: int) -> str:
    enter = net.shape(x)[1]
    squeeze = max(1, enter // 4) if squeezed else 0
    return inverted_residual(
        net, x, enter * expansion, width, kernel, stride, "relu", squeeze, expand=expansion > 1, gate="sigmoid"
    )


def _head(net: Network, x: str) -> str:
    return classifier(net, conv(net, x, HEAD, activation="relu"))


SPACE = SearchSpace("mbconv", GENES, _segments())
