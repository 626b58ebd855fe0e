"""Networks that are a table of inverted-residual stages: a description of one, and how it is built.

ChamNet, MobileNetV2, MnasNet, EfficientNet-Lite and the mobile search space all describe themselves this way.
"""

from __future__ import annotations

from dataclasses import dataclass

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.spec import Graph


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks in a row with the same output channels.

    Attributes:
        expansion: channels between, as a multiple of each block's input; 0 leaves the widening convolution out.
        stride: of the first block; the others have 1.
        squeeze: channels of a squeeze-excite, as a share of each block's input; 0 for none.
    """

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int = 3
    squeeze: float = 0.0


@dataclass(frozen=True, slots=True)
class MobileArchitecture:
    """A stem (3x3, stride 2), stages, a 1x1 convolution to ``head`` channels, and the classifier.

    Attributes:
        resolution: height and width of the input image, pixels.
        gate: the last activation of a squeeze-excite.
    """

    resolution: int
    stem: int
    stages: tuple[Stage, ...]
    head: int
    activation: str = "relu6"
    gate: str = "sigmoid"


def build_mobile(architecture: MobileArchitecture, name: str, dtype: str = "float32") -> Graph:
    """The network of one image. Raises SpecError where it cannot exist."""
    network = Network(name, (1, 3, architecture.resolution, architecture.resolution), dtype=dtype)
    x = conv(network, network.input, architecture.stem, kernel=3, stride=2, activation=architecture.activation)
    for stage in architecture.stages:
        x = add_stage(network, x, stage, architecture.activation, architecture.gate)
    x = conv(network, x, architecture.head, activation=architecture.activation)
    return network.finish(classifier(network, x))


def add_stage(network: Network, x: str, stage: Stage, activation: str = "relu6", gate: str = "sigmoid") -> str:
    """All blocks of a stage."""
    for index in range(stage.blocks):
        channels = network.shape(x)[1]
        x = inverted_residual(
            network,
            x,
            channels * stage.expansion or None,
            stage.channels,
            kernel=stage.kernel,
            stride=stage.stride if index == 0 else 1,
            activation=activation,
            squeezed=int(channels * stage.squeeze),
            gate=gate,
        )
    return x
