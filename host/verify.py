"""Measures networks that a search found, on the device they were found for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from host.bench import Bench, open_bench
from host.calibration import fit, l2_bytes_of
from host.devices import Unit
from host.errors import HostError
from host.setting import Progress, Setting
from host.truth import measure_networks
from lut_db.records import Calibration, Target
from lut_db.store import LutStore
from search.result import Candidate, SearchResult
from search.spaces.space import Genome

LEAST_VERIFIED = 4


@dataclass(frozen=True, slots=True)
class Verification:
    """Measured latencies.

    Attributes:
        slowdown: how much slower the machine's sentinel was than when the table was calibrated; None if not known.
    """

    latencies_ms: dict[Genome, float]
    sentinel_ns: float | None
    slowdown: float | None


def check_target(bench: Bench, target: Target) -> None:
    """Raises HostError where what would be measured is not what the table is valid for."""
    if bench.target.key != target.key:
        raise HostError(
            f"the device must be what its table is valid for, {target.key!r}, but is now {bench.target.key!r}; "
            "profile it again"
        )


def verify(
    store: LutStore,
    unit: Unit,
    setting: Setting,
    target: Target,
    result: SearchResult,
    chosen: Sequence[Candidate],
    progress: Progress,
) -> Verification:
    """Measures candidates whole on the device of a target.

    Args:
        setting: how to measure for the target once more.

    Raises:
        HostError: the device is not the target's any more, or a network cannot be measured.
    """
    graphs = [result.network(candidate) for candidate in chosen]
    with open_bench(store, unit, setting, progress) as bench:
        check_target(bench, target)
        truth = measure_networks(bench, graphs, result.space.name, progress)
    latencies = {c.genome: truth.latency_ns[graph.name] / 1e6 for c, graph in zip(chosen, graphs, strict=True)}
    return Verification(
        latencies, truth.sentinel_ns, _slowdown(truth.sentinel_ns, store.calibrations(target).get(result.space.name))
    )


def recalibrate(store: LutStore, target: Target, result: SearchResult, found: Verification) -> None:
    """Fits the target's calibration to the networks that were verified: those that a search looks at, not random ones.

    Raises:
        HostError: too few were verified.
    """
    if len(found.latencies_ms) < LEAST_VERIFIED:
        raise HostError(
            f"a calibration must rest on at least {LEAST_VERIFIED} networks, but "
            f"{len(found.latencies_ms)} were verified; raise --verify or the limits"
        )
    lut = store.lut(target)
    graphs = [result.space.decode(genome, target.dtype) for genome in found.latencies_ms]
    facts = next((device.facts for device in store.devices() if device.name == target.device), {})
    calibration = fit(
        [lut.price(graph) for graph in graphs], np.array(list(found.latencies_ms.values())) * 1e6,
        [graph.name for graph in graphs], result.space.name, l2_bytes_of(facts, target.accelerator),
    )  # fmt: skip
    store.put_calibration(target, replace(calibration, sentinel_ns=found.sentinel_ns, created_at=time.time()))


def _slowdown(sentinel_ns: float | None, calibration: Calibration | None) -> float | None:
    if sentinel_ns is None or calibration is None or calibration.sentinel_ns is None:
        return None
    return sentinel_ns / calibration.sentinel_ns


def choose(result: SearchResult, count: int, spread: bool) -> list[Candidate]:
    """Candidates to measure: the most accurate, or so many spread over the front; the winner is always among them."""
    ordered = sorted(result.candidates, key=lambda candidate: -candidate.accuracy)
    if not spread or count >= len(ordered) or count < 2:
        return ordered[:count]
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]
