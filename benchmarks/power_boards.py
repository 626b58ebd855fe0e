"""SIMULATED boards with the latencies and energies of whole networks, of many kinds. Nothing here was measured.

Genes are random networks of real spaces; latency grows with their work. A kind says how power depends on them, and how
the board errs: hardly at all, with heavy tails, in two regimes that nothing tells apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from search.cells import Arithmetic, build_cells
from search.predictors import Array
from search.predictors.network_power import Networks
from search.spaces import space_named

SPACES = ("mbconv", "macro")
COUNT = 1400
WATTS = 5.0
Rng = np.random.Generator
Board = Callable[[Rng, Array, Array, Array], tuple[Array, Array]]
"""Random numbers, genes, true latency in ms, standardised log parameters -> power in W, and latency as measured."""


def make_board(space: str, kind: str, seed: int) -> Networks:
    """Random networks on a board of this kind."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    genomes, macs, params = _networks(space)
    order = rng.permutation(len(genomes))
    genomes, macs, params = genomes[order], macs[order], params[order]
    ms = 1.0 + 20.0 * (macs / macs.mean()) ** rng.uniform(0.75, 1.0) + 3.0 * params / params.mean()
    ms = ms * _noisy(rng, 0.02, len(ms))
    watts, told = KINDS[kind](rng, genomes, ms, _standard(np.log(params)))
    return Networks(genomes, told, watts * ms)


@cache
def _networks(space: str) -> tuple[Array, Array, Array]:
    chosen = space_named(space)
    genomes = np.unique(chosen.sample_many(np.random.default_rng(0), 2 * COUNT), axis=0)
    genomes = genomes[np.random.default_rng(0).permutation(len(genomes))[:COUNT]]
    arithmetic = Arithmetic(build_cells(chosen))
    return genomes, arithmetic.macs(genomes).astype(float), arithmetic.params(genomes).astype(float)


def _noisy(rng: Rng, spread: float, count: int) -> Array:
    return np.asarray(np.exp(spread * rng.standard_normal(count)))


def _heavy(rng: Rng, spread: float, count: int) -> Array:
    return np.asarray(np.exp(spread * rng.standard_t(3, count) / 3**0.5))


def _standard(values: Array) -> Array:
    return np.asarray((values - values.mean()) / values.std())


def _constant(spread: float) -> Board:
    return lambda rng, genes, ms, params: (WATTS * _noisy(rng, spread, len(ms)), ms)


def _by_size(power: float, spread: float) -> Board:
    return lambda rng, genes, ms, params: (WATTS * (ms / np.median(ms)) ** power * _noisy(rng, spread, len(ms)), ms)


def _tails(spread: float, power: float = 0.0) -> Board:
    return lambda rng, genes, ms, params: (WATTS * (ms / np.median(ms)) ** power * _heavy(rng, spread, len(ms)), ms)


def _idle_and_load(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    return (0.7 * WATTS + 0.3 * WATTS * np.median(ms) / ms) * _noisy(rng, 0.035, len(ms)), ms


def _two_clocks_by_length(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    return WATTS * np.where(ms > np.quantile(ms, 0.6), 1.15, 1.0) * _noisy(rng, 0.03, len(ms)), ms


def _two_clocks(share: float) -> Board:
    """Which one, nothing tells."""
    return lambda rng, genes, ms, params: (
        WATTS * np.where(rng.random(len(ms)) < share, 1.2, 1.0) * _noisy(rng, 0.02, len(ms)), ms
    )  # fmt: skip


def _choices(count: int | None, spread: float) -> Board:
    """Every choice of so many genes, or of all, has a power of its own."""

    def board(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
        effect = np.zeros(len(ms))
        for j in rng.permutation(genes.shape[1])[:count]:
            _, which = np.unique(genes[:, j], return_inverse=True)
            effect += spread * rng.standard_normal(which.max() + 1)[which]
        return WATTS * np.exp(effect) * _noisy(rng, 0.03, len(ms)), ms

    return board


def _wrong_latency(spread: float) -> Board:
    return lambda rng, genes, ms, params: (WATTS * _noisy(rng, 0.02, len(ms)), ms * _noisy(rng, spread, len(ms)))


def _outliers(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    far = np.where(rng.random(len(ms)) < 0.05, rng.choice([0.3, 1.6, 3.0], len(ms)), 1.0)
    return WATTS * far * _noisy(rng, 0.03, len(ms)), ms


def _latency_outliers(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    return WATTS * _noisy(rng, 0.03, len(ms)), ms * np.where(rng.random(len(ms)) < 0.04, 1.5, 1.0)


def _skewed(sign: float) -> Board:
    return lambda rng, genes, ms, params: (WATTS * (1 + 0.05 * rng.exponential(1.0, len(ms)) ** 1.3) ** sign, ms)


def _memory(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    watts = 0.8 + 0.2 / (1 + np.exp(-3 * params)) + 0.1 * np.tanh(_standard(np.log(ms)))
    return WATTS * watts * _noisy(rng, 0.03, len(ms)), ms


def _noisier_if_small(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    return WATTS * np.exp(0.04 * rng.standard_normal(len(ms)) * np.exp(-0.6 * _standard(np.log(ms)))), ms


def _warming(rng: Rng, genes: Array, ms: Array, params: Array) -> tuple[Array, Array]:
    """With the time of the day, which no column tells."""
    return WATTS * (1 + 0.06 * np.sin(np.arange(len(ms)) / 150)) * _noisy(rng, 0.02, len(ms)), ms


KINDS: dict[str, Board] = {
    "constant, 1 % noise": _constant(0.01),
    "constant, 3 % noise": _constant(0.03),
    "constant, 8 % noise": _constant(0.08),
    "falls with size": _by_size(-0.1, 0.03),
    "falls weakly with size": _by_size(-0.03, 0.04),
    "idle and load": _idle_and_load,
    "heavy tails, 5 %": _tails(0.05),
    "heavy tails, 10 %": _tails(0.10),
    "heavy tails, falls with size": _tails(0.06, -0.06),
    "two clocks, by length": _two_clocks_by_length,
    "two clocks, 30 % at random": _two_clocks(0.3),
    "two clocks, half at random": _two_clocks(0.5),
    "every choice a little": _choices(None, 0.012),
    "three choices much": _choices(3, 0.05),
    "latency 5 % off": _wrong_latency(0.05),
    "latency 10 % off": _wrong_latency(0.10),
    "outliers": _outliers,
    "latency outliers": _latency_outliers,
    "skewed up": _skewed(1.0),
    "skewed down": _skewed(-1.0),
    "memory-bound": _memory,
    "noisier if small": _noisier_if_small,
    "warming": _warming,
}
