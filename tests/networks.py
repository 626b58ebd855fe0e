"""Random networks for tests: inverted residuals with squeeze-excite and hard_swish here and there."""

from __future__ import annotations

import numpy as np

from ops_catalog.build import Network
from ops_catalog.networks.blocks import classifier, conv, inverted_residual
from ops_catalog.spec import Graph


def random_network(rng: np.random.Generator, dtype: str = "float32") -> Graph:
    """Three to six small blocks; activations and squeeze-excite vary from block to block."""
    net = Network("random", (1, 3, 32, 32), dtype=dtype)
    activations = ("relu", "relu6", "hard_swish")
    x = conv(net, net.input, 8 * int(rng.integers(1, 5)), 3, 2, str(rng.choice(activations)))
    for _ in range(rng.integers(3, 7)):
        enter = net.shape(x)[1]
        leave = enter if rng.random() < 0.5 else 8 * int(rng.integers(1, 7))
        middle = enter * int(rng.integers(2, 7))
        squeeze = 8 * int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
        kernel, stride = int(rng.choice((3, 5))), int(rng.choice((1, 1, 2)))
        activation = str(rng.choice(activations))
        x = inverted_residual(net, x, middle, leave, kernel, stride, activation, squeeze)
    return net.finish(classifier(net, x, 10))
