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
from host.calibration import Features, error_metrics, fit, fit_scale
from host.devices import Unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from host.truth import measure_networks
from lut_db.lut import LatencyLut, Prices
from lut_db.records import Calibration
from lut_db.store import LutStore
from ops_catalog import ops
from ops_catalog.build import with_dtype
from ops_catalog.networks import build_network
from ops_catalog.spec import Graph
from search.spaces import space_named

CALIBRATION_NETWORKS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What to validate: so many unseen networks of a space, and named networks beside them."""

    space: str
    networks: int
    named: tuple[str, ...] = ()
    calibration: int = CALIBRATION_NETWORKS
    seed: int = 0


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
    workload = Workload(graphs=tuple(graphs))
    profile(store, unit, setting, workload, progress)
    naive = _naive_lut(store, unit, setting, workload, progress)
    with open_bench(store, unit, setting) as bench:
        truth = measure_networks(bench, graphs, question.space, progress)
        lut = store.lut(bench.target)
        device = dict(bench.agent.hello.machine)
    prices = [lut.price(graph) for graph in graphs]
    naive_ns = np.array([(naive or lut).price(graph).latency_ns.sum() for graph in graphs])
    measured = np.array([truth.latency_ns[graph.name] for graph in graphs])
    features = features_of(prices)
    known, unseen = slice(0, question.calibration), slice(question.calibration, len(sampled))
    calibration = fit(Features(features.rows[known]), measured[known], [g.name for g in graphs[known]], question.space)
    calibration = replace(calibration, sentinel_ns=truth.sentinel_ns, created_at=time.time())
    store.put_calibration(bench.target, calibration)
    predicted = features.predict(calibration)
    macs = np.array([float(sum(map(ops.macs, graph.operators))) for graph in graphs])
    by_macs = macs * fit_scale(macs[known], measured[known])
    metrics = {
        **_describe(setting, question),
        **error_metrics(predicted[unseen], measured[unseen]),
        "noise_floor": truth.noise_floor([graph.name for graph in graphs[unseen]]),
        "uncalibrated_mape": error_metrics(features.rows[unseen, 0], measured[unseen])["mape"],
        "naive_mape": error_metrics(naive_ns[unseen], measured[unseen])["mape"],
        "flops_mape": error_metrics(by_macs[unseen], measured[unseen])["mape"],
    }
    roles = ["calibration"] * question.calibration + ["test"] * question.networks + ["named"] * len(named)
    results = tuple(
        NetworkResult(*row)
        for row in zip(graphs, roles, measured, predicted, features.rows[:, 0], naive_ns, prices, strict=True)
    )
    return Validation(bench.target.name, metrics, calibration, results, device)


def sample_networks(space: str, count: int, seed: int) -> list[Graph]:
    """Different random networks of a space."""
    chosen = space_named(space)
    rng = np.random.default_rng(seed)
    genomes = dict.fromkeys(chosen.sample(rng) for _ in range(count))
    while len(genomes) < count:
        genomes[chosen.sample(rng)] = None
    return [chosen.decode(genome) for genome in genomes]


def features_of(prices: Sequence[Prices]) -> Features:
    """Sum, weight bytes and native nodes of each priced network."""
    rows = [[p.latency_ns.sum(), float(p.weight_bytes.sum()), float(p.native_nodes.sum())] for p in prices]
    return Features(np.array(rows))


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
