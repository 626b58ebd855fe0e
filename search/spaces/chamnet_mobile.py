"""ChamNet-Mobile: inverted residuals with 3x3 depthwise convolutions, seven stages.

Resolution 96...224, widths in steps of 8 (the head 16); expansion, channels and depth of every stage. ChamNet-A...F
and MobileNetV2 are points of it. The first stage's expansion may be 0: a block without its first 1x1 convolution, as
in MobileNetV2.

Networks on its steps need 9,702 distinct operators at one resolution and 47,032 at all five. 3,185 at each resolution
are the last 1x1 convolution (49 widths in, 65 out): a head in steps of 8 would add 3,325 more.

References:
    Dai et al., ChamNet, CVPR 2019; ranges as in RANGES.
"""

from __future__ import annotations

from functools import partial

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.networks.chamnet import MobileStages
from ops_catalog.spec import SpecError
from search.spaces.space import Genome, SearchSpace, Segment, halved, image, steps

STRIDES = (1, 2, 2, 2, 1, 2, 1)
RANGES = (
    ((0, 1), (8, 32), (1, 1)),
    ((2, 6), (8, 40), (1, 2)),
    ((2, 6), (8, 48), (1, 3)),
    ((2, 6), (16, 96), (1, 4)),
    ((2, 6), (32, 160), (1, 3)),
    ((2, 6), (56, 256), (1, 3)),
    ((2, 6), (96, 480), (1, 1)),
)
"""Of each stage: expansion, channels, depth."""

GENES = (
    steps("resolution", 96, 224, 32),
    steps("stem", 8, 48, 8),
    *(
        steps(f"{name}{stage}", low, high, 8 if name == "c" else 1)
        for stage, ranges in enumerate(RANGES, 1)
        for name, (low, high) in zip("tcn", ranges, strict=True)
    ),
    steps("head", 1024, 2048, 16),
)


def _segments() -> tuple[Segment, ...]:
    chain = [Segment(("resolution", "stem"), lambda resolution, stem: image(3, resolution), _stem)]
    enter = "stem"
    for stage, stride in enumerate(STRIDES, 1):
        before, after = (2, *STRIDES[: stage - 1]), (2, *STRIDES[:stage])
        genes = ("resolution", enter, f"t{stage}", f"c{stage}")
        chain.append(Segment(genes, partial(_entering, before), partial(_first, stride)))
        if RANGES[stage - 1][2] != (1, 1):
            chain.append(Segment((genes[0], *genes[2:]), partial(_inside, after), _rest, f"n{stage}", 1))
        enter = f"c{stage}"
    return (*chain, Segment(("resolution", enter, "head"), partial(_entering, (2, *STRIDES)), _head))


def _entering(strides: tuple[int, ...], resolution: int, channels: int, *_: int) -> tuple[int, int, int, int]:
    return image(channels, halved(resolution, *strides))


def _inside(strides: tuple[int, ...], resolution: int, t: int, channels: int) -> tuple[int, int, int, int]:
    return image(channels, halved(resolution, *strides))


def _stem(net: Network, x: str, resolution: int, stem: int) -> str:
    return conv(net, x, stem, 3, 2, "relu6")


def _first(stride: int, net: Network, x: str, resolution: int, enter: int, t: int, channels: int) -> str:
    return inverted_residual(net, x, net.shape(x)[1] * max(1, t), channels, 3, stride, expand=t > 0)


def _rest(net: Network, x: str, resolution: int, t: int, channels: int) -> str:
    return inverted_residual(net, x, channels * max(1, t), channels, 3, 1, expand=t > 0)


def _head(net: Network, x: str, resolution: int, enter: int, head: int) -> str:
    return classifier(net, conv(net, x, head, activation="relu6"))


def encode(network: MobileStages) -> Genome:
    """The genome of an architecture. Raises SpecError where it is no point of the space."""
    strides = tuple(stride for *_, stride in network.stages)
    if strides != STRIDES:
        raise SpecError(f"stages of {SPACE.name} must have strides {STRIDES}, but got {strides}")
    stages = [value for t, c, n, _ in network.stages for value in (t, c, n)]
    genome = (network.resolution, network.stem, *stages, network.head)
    SPACE.check(genome)
    return genome


SPACE = SearchSpace("chamnet-mobile", GENES, _segments())
