"""Blocks that convolutional networks are made of, written onto a Network; each returns the name of its output.

Batch norm is folded into the bias of the convolution before it, as every engine does for inference; residuals and
activations are part of the convolution that they follow.
"""

from __future__ import annotations

from ops_catalog.build import Network


def conv(net: Network, x: str, channels: int, kernel: int = 1, stride: int = 1, activation: str = "none") -> str:
    """A square convolution with "same" padding."""
    return net.add(
        "conv2d", x, out_channels=channels, kernel=(kernel, kernel), stride=(stride, stride), activation=activation
    )


def depthwise(net: Network, x: str, kernel: int = 3, stride: int = 1, activation: str = "relu6") -> str:
    return net.add("depthwise_conv2d", x, kernel=(kernel, kernel), stride=(stride, stride), activation=activation)


def inverted_residual(
    net: Network,
    x: str,
    middle: int,
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    activation: str = "relu6",
    squeeze: int = 0,
    expand: bool = True,
    gate: str = "hard_sigmoid",
) -> str:
    """1x1 to ``middle`` channels, depthwise, optional squeeze-excite, 1x1 to ``channels``; residual where shapes agree.

    Args:
        squeeze: channels inside squeeze-excite; 0 for none.
        expand: whether the first 1x1 convolution is there; without it ``middle`` must be the input's channels.

    References:
        Sandler et al., MobileNetV2, CVPR 2018; Howard et al., Searching for MobileNetV3, ICCV 2019.
    """
    y = conv(net, x, middle, activation=activation) if expand else x
    y = depthwise(net, y, kernel, stride, activation)
    if squeeze:
        y = squeeze_excite(net, y, squeeze, gate)
    same = stride == 1 and net.shape(x)[1] == channels
    inputs = (y, x) if same else (y,)
    return net.add("conv2d", *inputs, out_channels=channels, kernel=(1, 1))


def squeeze_excite(net: Network, x: str, squeeze: int, gate: str = "hard_sigmoid") -> str:
    """Scales every channel by a gate computed from its mean. References: Hu et al., CVPR 2018."""
    y = net.add("global_average_pool", x)
    y = conv(net, y, squeeze, activation="relu")
    y = conv(net, y, net.shape(x)[1], activation=gate)
    return net.add("mul", x, y)


def bottleneck(net: Network, x: str, middle: int, channels: int, stride: int = 1) -> str:
    """ResNet's 1x1, 3x3, 1x1 with the stride in the 3x3; the shortcut is a 1x1 convolution where shapes differ.

    References:
        He et al., CVPR 2016; stride placement as in torchvision ("v1.5").
    """
    residual = _shortcut(net, x, channels, stride)
    y = conv(net, x, middle, activation="relu")
    y = conv(net, y, middle, 3, stride, activation="relu")
    return net.add("conv2d", y, residual, out_channels=channels, kernel=(1, 1), activation="relu")


def basic_residual(net: Network, x: str, channels: int, stride: int = 1) -> str:
    """ResNet's two 3x3 convolutions."""
    residual = _shortcut(net, x, channels, stride)
    y = conv(net, x, channels, 3, stride, activation="relu")
    return net.add("conv2d", y, residual, out_channels=channels, kernel=(3, 3), activation="relu")


def classifier(net: Network, x: str, classes: int = 1000) -> str:
    """Mean of every channel, then a linear layer."""
    y = net.add("global_average_pool", x)
    y = net.add("reshape", y, shape=(net.shape(y)[0], net.shape(y)[1]))
    return net.add("linear", y, out_features=classes)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, but never more than 10 % below: TensorFlow's rule for widths."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _shortcut(net: Network, x: str, channels: int, stride: int) -> str:
    same = stride == 1 and net.shape(x)[1] == channels
    return x if same else conv(net, x, channels, 1, stride)
