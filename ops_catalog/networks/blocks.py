"""The blocks that image networks are made of: plain, inverted residual, bottleneck and basic residual, squeeze-excite, head.

Every block adds operators to a Network and returns the name of its output. Batch norm is folded into the bias,
activations and residual sums are part of the convolution before them. Windows are padded "same": the networks cost
what the originals cost, and no engine needs an operator of its own for padding.

References:
    Sandler et al., MobileNetV2, CVPR 2018; He et al., Deep Residual Learning, CVPR 2016;
    Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.
"""

from __future__ import annotations

from ops_catalog.build import Network
from ops_catalog.spec import Value

CLASSES = 1000


def conv(
    network: Network,
    x: str,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    activation: str = "none",
    residual: str | None = None,
) -> str:
    """A convolution with a square kernel; the residual is added before the activation."""
    inputs = (x,) if residual is None else (x, residual)
    attributes: dict[str, Value] = {"kernel": (kernel, kernel), "stride": (stride, stride), "activation": activation}
    return network.add("conv2d", *inputs, out_channels=channels, **attributes)


def depthwise(network: Network, x: str, kernel: int, stride: int, activation: str) -> str:
    """A depthwise convolution with a square kernel."""
    attributes: dict[str, Value] = {"kernel": (kernel, kernel), "stride": (stride, stride), "activation": activation}
    return network.add("depthwise_conv2d", x, **attributes)


def squeeze_excite(network: Network, x: str, squeezed: int, gate: str) -> str:
    """Scales every channel by what the mean of all channels says; ``gate`` is hard_sigmoid or sigmoid."""
    y = network.add("global_average_pool", x)
    y = conv(network, y, squeezed, activation="relu")
    y = conv(network, y, _channels(network, x), activation=gate)
    return network.add("mul", x, y)


def inverted_residual(
    network: Network,
    x: str,
    expanded: int | None,
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    activation: str = "relu6",
    squeezed: int = 0,
    gate: str = "hard_sigmoid",
) -> str:
    """Widen, filter depthwise, project back; the input is added where shape and stride allow.

    Args:
        expanded: channels between; None leaves the widening 1x1 convolution out.
        squeezed: channels of the squeeze-excite after the depthwise convolution; 0 for none.
    """
    y = x if expanded is None else conv(network, x, expanded, activation=activation)
    y = depthwise(network, y, kernel, stride, activation)
    if squeezed:
        y = squeeze_excite(network, y, squeezed, gate)
    keeps = stride == 1 and _channels(network, x) == channels
    return conv(network, y, channels, residual=x if keeps else None)


def bottleneck(network: Network, x: str, width: int, channels: int, stride: int = 1) -> str:
    """The deep ResNets' block, with its stride in the 3x3 convolution."""
    y = conv(network, x, width, activation="relu")
    y = conv(network, y, width, kernel=3, stride=stride, activation="relu")
    return conv(network, y, channels, activation="relu", residual=_shortcut(network, x, channels, stride))


def basic(network: Network, x: str, channels: int, stride: int = 1) -> str:
    """The shallow ResNets' block: two 3x3 convolutions, the stride in the first."""
    y = conv(network, x, channels, kernel=3, stride=stride, activation="relu")
    return conv(network, y, channels, kernel=3, activation="relu", residual=_shortcut(network, x, channels, stride))


def residual_stem(network: Network, channels: int) -> str:
    """What ResNets begin with: a 7x7 convolution and a 3x3 maximum, each of stride 2."""
    y = conv(network, network.input, channels, kernel=7, stride=2, activation="relu")
    return network.add("max_pool", y, kernel=(3, 3), stride=(2, 2), padding="same")


def classifier(network: Network, x: str) -> str:
    """The mean of every channel, and a score for each of the 1000 classes of ImageNet."""
    return scores(network, network.add("global_average_pool", x))


def scores(network: Network, x: str) -> str:
    """A score per class from an N x C x 1 x 1 image."""
    batch, channels, _, _ = network.shape(x)
    flat = network.add("reshape", x, shape=(batch, channels))
    return network.add("linear", flat, out_features=CLASSES)


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, but never below 90 % of it (MobileNetV2's rule)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def _shortcut(network: Network, x: str, channels: int, stride: int) -> str:
    """What a residual block adds: its input, projected where the shape changes."""
    if stride == 1 and _channels(network, x) == channels:
        return x
    return conv(network, x, channels, stride=stride)


def _channels(network: Network, x: str) -> int:
    return network.shape(x)[1]
