"""ResNet-18, 50, 101 and 152, with the stride of a stage in its first 3x3 convolution, and any bottleneck ResNet.

References:
    He et al., Deep residual learning, CVPR 2016; stride placement as in torchvision ("v1.5").
"""

from __future__ import annotations

from dataclasses import dataclass

from ops_catalog.build import Network
from ops_catalog.networks.blocks import basic_residual, bottleneck, classifier, conv
from ops_catalog.spec import Graph

STRIDES = (1, 2, 2, 2)
CHANNELS = (256, 512, 1024, 2048)
DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass(frozen=True, slots=True)
class BottleneckStages:
    """A bottleneck ResNet: of each stage its output channels, its width inside, its depth."""

    resolution: int
    stem: int
    channels: tuple[int, ...]
    middles: tuple[int, ...]
    depths: tuple[int, ...]


def build_resnet(name: str, layers: int, resolution: int = 224) -> Graph:
    if layers == 18:
        return _build_basic(name, DEPTHS[18], resolution)
    middles = tuple(channels // 4 for channels in CHANNELS)
    return build_bottlenecks(name, BottleneckStages(resolution, 64, CHANNELS, middles, DEPTHS[layers]))


def build_bottlenecks(name: str, network: BottleneckStages) -> Graph:
    net = Network(name, (1, 3, network.resolution, network.resolution))
    x = _stem(net, network.stem)
    for channels, middle, depth, stride in zip(network.channels, network.middles, network.depths, STRIDES, strict=True):
        for block in range(depth):
            x = bottleneck(net, x, middle, channels, stride if block == 0 else 1)
    return net.finish(classifier(net, x))


def _build_basic(name: str, depths: tuple[int, ...], resolution: int) -> Graph:
    net = Network(name, (1, 3, resolution, resolution))
    x = _stem(net, 64)
    for channels, depth, stride in zip((64, 128, 256, 512), depths, STRIDES, strict=True):
        for block in range(depth):
            x = basic_residual(net, x, channels, stride if block == 0 else 1)
    return net.finish(classifier(net, x))


def _stem(net: Network, channels: int) -> str:
    x = conv(net, net.input, channels, 7, 2, "relu")
    return net.add("max_pool", x, kernel=(3, 3), stride=(2, 2))
