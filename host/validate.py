"""Holds the look-up table against whole networks: how well do sums of operators predict them?

Random networks of a space are measured whole, in agents of their own. A few fit the Target's calibration; the errors
are those of the others. Beside it stand two plain ways: single operators timed in a session of their own and summed
(naive), and latency in proportion to MACs, its one factor fitted on the same few networks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from host.bench import open_bench
from host.calibration import error_metrics, features_of, fit, fit_scale, l2_bytes_of, predict
from host.devices import Unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from host.truth import TURNS, Truth, measure_networks
from lut_db.lut import LatencyLut, Prices
from lut_db.records import Calibration
from lut_db.store import LutStore
from ops_catalog import ops
from ops_catalog.build import with_dtype
from ops_catalog.networks import build_network
from ops_catalog.spec import Graph
from search.spaces import space_named
from search.spaces.space import SearchSpace

CALIBRATION_NETWORKS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What to validate: so many unseen networks of a space, and named networks beside them.

    Attributes:
        agents: that measure each network whole, an even number.
    """

    space: str
    networks: int
    named: tuple[str, ...] = ()
    calibration: int = CALIBRATION_NETWORKS
    seed: int = 0
    agents: int = TURNS


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """One network: latencies in ns, and what its operators cost."""

    graph: Graph
    role: str
    measured_ns: float
    predicted_ns: float
    uncalibrated_ns: float
    naive_ns: float
    prices: Prices


@dataclass(frozen=True, slots=True)
class Validation:
    """The outcome for one Target; ``metrics`` has the keys of ``chamnet validate --json``."""

    target: str
    metrics: Mapping[str, Any]
    calibration: Calibration
    results: tuple[NetworkResult, ...]
    device: Mapping[str, Any]


def validate(store: LutStore, unit: Unit, setting: Setting, question: Question, progress: Progress) -> Validation:
    """Profiles what the networks lack, measures them whole, fits the calibration, and compares.

    Raises:
        SpecError: no such space or network.
        HostError: a network cannot be measured; DeviceUnavailable: the device is not there.
    """
    sampled = sample_networks(question.space, question.calibration + question.networks, question.seed)
    named = [build_network(name) for name in question.named]
    graphs = [with_dtype(graph, setting.dtype) for graph in (*sampled, *named)]
    workload, family = Workload(graphs=tuple(graphs)), space_named(question.space).name
    profile(store, unit, setting, workload, progress)
    naive = _naive_lut(store, unit, setting, workload, progress)
    with open_bench(store, unit, setting, progress) as bench:
        truth = measure_networks(bench, graphs, family, progress, question.agents)
        lut, device = store.lut(bench.target), dict(bench.agent.hello.machine)
    l2_bytes = l2_bytes_of(device, bench.target.accelerator)
    compared = _compare(graphs, truth, lut, naive or lut, replace(question, space=family), l2_bytes)
    calibration = replace(compared.calibration, sentinel_ns=truth.sentinel_ns, created_at=time.time())
    store.put_calibration(bench.target, calibration)
    metrics = {**_describe(setting, question), **compared.metrics}
    return Validation(bench.target.name, metrics, calibration, compared.results, device)


@dataclass(frozen=True, slots=True)
class _Compared:
    calibration: Calibration
    metrics: Mapping[str, float]
    results: tuple[NetworkResult, ...]


def _compare(
    graphs: Sequence[Graph], truth: Truth, lut: LatencyLut, naive: LatencyLut, question: Question, l2_bytes: int
) -> _Compared:
    """Fits on the first networks, holds the predictions against the next; named ones follow and count for neither."""
    names = [graph.name for graph in graphs]
    known = slice(0, question.calibration)
    unseen = slice(question.calibration, question.calibration + question.networks)
    measured = np.array([truth.latency_ns[name] for name in names])
    prices = [lut.price(graph) for graph in graphs]
    calibration = fit(prices[known], measured[known], names[known], question.space, l2_bytes)
    macs = np.array([float(sum(map(ops.macs, graph.operators))) for graph in graphs])
    predicted, plain = predict(prices, calibration), features_of(prices)[:, 0]
    alone = np.array([naive.price(graph).latency_ns.sum() for graph in graphs])
    by_macs = macs * fit_scale(macs[known], measured[known])
    metrics = error_metrics(predicted[unseen], measured[unseen]) | {"noise_floor": truth.noise_floor(names[unseen])}
    for key, values in (("uncalibrated_mape", plain), ("naive_mape", alone), ("flops_mape", by_macs)):
        metrics[key] = error_metrics(values[unseen], measured[unseen])["mape"]
    roles = ["calibration"] * question.calibration + ["test"] * question.networks + ["named"] * len(question.named)
    rows = zip(graphs, roles, measured, predicted, plain, alone, prices, strict=True)
    return _Compared(calibration, metrics, tuple(NetworkResult(*row) for row in rows))


def sample_networks(space: str | SearchSpace, count: int, seed: int) -> list[Graph]:
    """Different random networks of a space, or of the part of one that is given; no more than it has."""
    chosen = space_named(space) if isinstance(space, str) else space
    rng = np.random.default_rng(seed)
    genomes = dict.fromkeys(chosen.sample(rng) for _ in range(count))
    while len(genomes) < min(count, chosen.size):
        genomes[chosen.sample(rng)] = None
    return [chosen.decode(genome) for genome in genomes]


def _naive_lut(
    store: LutStore, unit: Unit, setting: Setting, workload: Workload, progress: Progress
) -> LatencyLut | None:
    """The LUT of the usual way; None for an engine whose native operators are just these."""
    if not setting.use.lowers:
        return None
    naive = replace(setting, naive=True, passes=1)
    summary = profile(store, unit, naive, workload, progress)
    return store.lut(store.target_named(summary.target))


def _describe(setting: Setting, question: Question) -> dict[str, Any]:
    return {
        "engine": setting.engine,
        "dtype": setting.dtype,
        "threads": setting.threads,
        "space": question.space,
        "networks": question.networks,
    }
