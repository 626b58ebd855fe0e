"""SIMULATED devices with the energies of operators, and meters that read them. Nothing here was measured.

A device's power is an idle floor, cores that saturate (a Hill curve of their utilisation) beside what they draw while
they wait, memory by the level that a working set falls into, frequency steps by an operator's length, and a cap:
thresholds and sums, where the predictor multiplies smooth terms. A meter tells what a call draws beyond idle: with 2 to
5 % noise, an idle power that drifts between operators, and an interval by Student's t from a few windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lut_db.records import LutEntry
from ops_catalog.spec import Graph
from search.active import usage_of
from search.predictors import Array
from search.predictors.energy import Metered
from search.predictors.power_features import Shape, shape_of
from search.spaces import space_named

BYTES = 4.0
LATENCY_NOISE = 0.01
SPACES = {"chamnet-mobile": 40, "mbconv": 60}
"""Space -> random networks whose operators make its table; mbconv's has all of that space."""

TESTED = 40
Rng = np.random.Generator


@dataclass(frozen=True)
class Device:
    """A made-up chip. Rates are multiply-accumulates or bytes a nanosecond, powers uW, sizes bytes.

    Attributes:
        skill: share of the peak rate that a class of operators reaches.
        bandwidth, memory_uw: of three levels of memory; caches: the sizes of the first two.
        half, steepness: of the Hill curve; waiting: what stalled cores draw, as a share of busy ones.
        steps: of the frequency, by the lengths that limits_ns part.
        own: how much single operators differ from all this, relative.
        noise: of the meter, relative; drift: of idle power, what idle windows around a load leave of it, relative.
    """

    peak: float
    overhead_ns: float
    lanes: int
    skill: Mapping[str, float]
    bandwidth: Array
    caches: Array
    idle_uw: float
    core_uw: Mapping[str, float]
    half: float
    steepness: float
    waiting: float
    memory_uw: Array
    steps: Array
    limits_ns: Array
    cap_uw: float
    own: float
    noise: float
    drift: float

    def latency_ns(self, s: Shape) -> float:
        used = s.outer / (-(-s.outer // self.lanes) * self.lanes)
        rate = self.peak * self.skill[s.kind] * used * (s.work + 1.0) / (s.work + 2e4)
        moving = 0.6 * BYTES * s.traffic / float(self.bandwidth[self._level(s)])
        return self.overhead_ns + s.work / rate + moving

    def net_uw(self, s: Shape, ns: float) -> float:
        """What an operator draws beyond idle."""
        busy = min(1.0, s.work / ns / self.peak) ** self.steepness
        curve = busy / (busy + self.half**self.steepness)
        core = self.core_uw[s.kind] * (self.waiting + (1.0 - self.waiting) * curve)
        level = self._level(s)
        memory = self.memory_uw[level] * min(1.0, BYTES * s.traffic / ns / self.bandwidth[level])
        step = self.steps[int(np.searchsorted(self.limits_ns, ns))]
        return float(min(step * (core + memory), self.cap_uw))

    def _level(self, s: Shape) -> int:
        return int(np.searchsorted(self.caches, BYTES * s.traffic))


def draw_device(rng: Rng, kinds: Sequence[str]) -> Device:
    core = rng.uniform(0.8e6, 3e6)
    steps = np.sort(rng.uniform(0.65, 1.0, 3)) if rng.random() < 0.7 else np.ones(3)
    return Device(
        peak=rng.uniform(5.0, 60.0),
        overhead_ns=rng.uniform(500.0, 4000.0),
        lanes=int(rng.choice([4, 8, 16])),
        skill={kind: 1.0 if kind.startswith("conv2d") else float(rng.uniform(0.1, 0.7)) for kind in kinds},
        bandwidth=np.array([60.0, 25.0, 8.0]) * rng.uniform(0.6, 1.5),
        caches=np.array([rng.uniform(64e3, 512e3), rng.uniform(1e6, 4e6)]),
        idle_uw=core * rng.uniform(0.1, 0.6),
        core_uw={kind: float(core * rng.uniform(0.6, 1.4)) for kind in kinds},
        half=rng.uniform(0.15, 0.5),
        steepness=rng.uniform(1.0, 3.0),
        waiting=rng.uniform(0.3, 0.8),
        memory_uw=core * np.array([0.1, 0.3, 0.6]) * rng.uniform(0.3, 1.2),
        steps=steps,
        limits_ns=np.array([rng.uniform(5e3, 4e4), rng.uniform(1e5, 1e6)]),
        cap_uw=core * rng.uniform(1.8, 3.5),
        own=rng.uniform(0.0, 0.015),
        noise=rng.uniform(0.02, 0.05),
        drift=rng.uniform(0.0, 0.02),
    )


@dataclass(frozen=True)
class Bench:
    """A device and the operators of a space.

    Attributes:
        truth: what each entry's operator draws beyond idle, in uJ a call.
        usage: how often a random network has each, by key.
        networks: others, as counts by key.
    """

    device: Device
    entries: list[LutEntry]
    truth: Array
    usage: Mapping[str, float]
    networks: list[Mapping[str, int]]

    @cached_property
    def places(self) -> Mapping[str, int]:
        return {entry.key: place for place, entry in enumerate(self.entries)}

    def meter(self, keys: Sequence[str], rng: Rng) -> dict[str, Metered]:
        """Readings in a random order, while the idle power drifts."""
        windows, phase = int(rng.integers(3, 7)), rng.uniform(0.0, 2.0 * np.pi)
        found = {}
        for turn, i in enumerate(rng.permutation(len(keys))):
            place = self.places[keys[i]]
            away = np.sin(phase + 15.0 * turn / len(keys)) + 0.3 * rng.standard_normal()
            idle_uj = self.device.drift * self.device.idle_uw * away * self.entries[place].latency_ns / 1e9
            readings = 1.0 + self.device.noise * np.sqrt(windows) * rng.standard_normal(windows)
            found[keys[i]] = _told(self.truth[place] * readings + idle_uj)
        return found


def make_bench(space: str, seed: int) -> Bench:
    rng, drawn, chosen = np.random.default_rng(seed), np.random.default_rng(1), space_named(space)
    graphs = [chosen.decode(chosen.sample(drawn)) for _ in range(SPACES[space] + TESTED)]
    keys = list(dict.fromkeys(op.key for graph in graphs for op in graph.operators))
    shapes = [shape_of(LutEntry(key, 1.0, 0.0, 50, 2)) for key in keys]
    device = draw_device(rng, sorted({shape.kind for shape in shapes}))
    ns = np.array([device.latency_ns(shape) for shape in shapes]) * _near_one(rng, LATENCY_NOISE, len(keys))
    net_uw = np.array([device.net_uw(shape, t) for shape, t in zip(shapes, ns, strict=True)])
    told = ns * _near_one(rng, LATENCY_NOISE, len(keys))
    entries = [LutEntry(key, float(t), 0.0, 50, 2, label="simulated") for key, t in zip(keys, told, strict=True)]
    usage = usage_of(graphs[: SPACES[space]]).per_network
    truth = net_uw * ns / 1e9 * _near_one(rng, device.own, len(keys))
    return Bench(device, entries, truth, {op.key: n for op, n in usage.items()}, list(map(_counts, graphs[-TESTED:])))


def _told(readings_uj: Array) -> Metered:
    from scipy.stats import t

    count = len(readings_uj)
    half = float(t.ppf(0.975, count - 1) * readings_uj.std(ddof=1)) / count**0.5
    mean = float(readings_uj.mean())
    return Metered(mean, mean - half, mean + half, count)


def _near_one(rng: Rng, spread: float, count: int) -> Array:
    return np.asarray(np.exp(spread * rng.standard_normal(count)))


def _counts(graph: Graph) -> Mapping[str, int]:
    return Counter(op.key for op in graph.operators)
