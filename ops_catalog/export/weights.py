"""Seeded weights: the same values in every file format, different for every operator of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from ops_catalog import ops
from ops_catalog.ops.contract import Array
from ops_catalog.spec import OpSpec

SMALL = 0.05

Weights = Sequence[Mapping[str, Array]]
"""The constants of every operator of an expanded network, in its order, by name, float32."""

Source = Callable[[OpSpec, int], Mapping[str, Array]]
"""The constants of an operator, by its place in the expanded network."""


def source_of(seed: int, weights: Weights | None) -> Source:
    """Given weights, or seeded ones."""
    if weights is None:
        return partial(make_weights, seed)
    return lambda op, index: weights[index]


def make_weights(seed: int, op: OpSpec, index: int) -> dict[str, Array]:
    """The constants of the ``index``-th operator of a network, by name, float32.

    He-uniform, so that activations neither vanish nor explode: variance 2 / fan-in before a rectifier, 1 / fan-in
    where nothing is cut off; biases small, scales near one.

    References:
        He et al., Delving deep into rectifiers, ICCV 2015.
    """
    rng = np.random.Generator(np.random.SFC64((seed, index)))
    gain = 1.0 if ops.attributes(op).get("activation", "none") == "none" else 2.0
    return {weight.name: _draw(rng, weight.shape, weight.fan_in, gain) for weight in ops.weights(op)}


def _draw(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, gain: float) -> Array:
    values = rng.random(shape, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(math.sqrt(12))
    if fan_in == 0:
        return values * np.float32(SMALL)
    if fan_in == 1:
        return np.float32(1) + values * np.float32(SMALL)
    values *= np.float32(math.sqrt(gain / fan_in))
    return values
