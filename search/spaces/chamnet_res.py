"""ChamNet-Res: bottleneck ResNets scaled down from an outer bound as deep as ResNet-152.

Channels and bottleneck width of a stage go from a quarter of ResNet-152's up to all of them, its depth from one block
to 3, 8, 36 and 3, resolution from 128 to 224. ResNet-50, 101 and 152 are points of it. The paper gives the outer bound;
the lower ends, the steps, and a bottleneck width that varies apart from the channels are our choice.

Networks on its steps need 992 distinct operators at one resolution and 3,890 at all four.

References:
    Dai et al., ChamNet, CVPR 2019.
"""

from __future__ import annotations

from functools import partial

from ops_catalog.build import Network
from ops_catalog.networks.blocks import bottleneck, classifier, conv
from ops_catalog.networks.resnet import STRIDES, BottleneckStages
from search.spaces.space import Genome, SearchSpace, Segment, halved, image, steps

GENES = (
    steps("resolution", 128, 224, 32),
    steps("stem", 32, 64, 16),
    steps("c1", 64, 256, 32), steps("m1", 16, 64, 16), steps("n1", 1, 3),
    steps("c2", 128, 512, 64), steps("m2", 32, 128, 32), steps("n2", 1, 8),
    steps("c3", 256, 1024, 64), steps("m3", 64, 256, 32), steps("n3", 1, 36),
    steps("c4", 512, 2048, 128), steps("m4", 128, 512, 64), steps("n4", 1, 3),
)  # fmt: skip
"""Of each stage: output channels, bottleneck width, depth."""


def _segments() -> tuple[Segment, ...]:
    chain = [Segment(("resolution", "stem"), lambda resolution, stem: image(3, resolution), _stem)]
    enter = "stem"
    for stage, stride in enumerate(STRIDES, 1):
        before, after = (4, *STRIDES[: stage - 1]), (4, *STRIDES[:stage])
        genes = ("resolution", enter, f"c{stage}", f"m{stage}")
        chain.append(Segment(genes, partial(_entering, before), partial(_first, stride)))
        chain.append(Segment((genes[0], *genes[2:]), partial(_entering, after), _rest, f"n{stage}", 1))
        enter = f"c{stage}"
    return (*chain, Segment(("resolution", enter), partial(_entering, (4, *STRIDES)), _head))


def _entering(strides: tuple[int, ...], resolution: int, channels: int, *_: int) -> tuple[int, int, int, int]:
    return image(channels, halved(resolution, *strides))


def _stem(net: Network, x: str, resolution: int, stem: int) -> str:
    return net.add("max_pool", conv(net, x, stem, 7, 2, "relu"), kernel=(3, 3), stride=(2, 2))


def _first(stride: int, net: Network, x: str, resolution: int, enter: int, channels: int, middle: int) -> str:
    return bottleneck(net, x, middle, channels, stride)


def _rest(net: Network, x: str, resolution: int, channels: int, middle: int) -> str:
    return bottleneck(net, x, middle, channels)


def _head(net: Network, x: str, resolution: int, enter: int) -> str:
    return classifier(net, x)


def encode(network: BottleneckStages) -> Genome:
    """The genome of an architecture. Raises SpecError where it is no point of the space."""
    stages = zip(network.channels, network.middles, network.depths, strict=True)
    genome = (network.resolution, network.stem, *(value for stage in stages for value in stage))
    SPACE.check(genome)
    return genome


SPACE = SearchSpace("chamnet-res", GENES, _segments())
