"""What a command is asked to measure, and about how long that takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from host.accelerators import runnable
from host.devices import Unit
from host.energy import wanted_of
from host.errors import UsageError
from host.metering import Metering
from host.setting import Setting, Workload
from host.validate import sample_networks
from lut_db.energy_plans import PLANS, plan_for, planned_s
from ops_catalog.networks import build_network
from ops_catalog.spec import OpSpec
from ops_catalog.sweep import distinct_operators, load_sweep
from search.spaces import space_named

SHOWING = 32
"""Networks that come with a whole space."""


def workload_of(space: str, networks: int, ops: Path | None, network: str, limit: int, seed: int) -> Workload:
    """What was asked for, each operator once; ``limit`` keeps the first. Raises UsageError, SpecError.

    Some networks come with a whole space: an engine that joins operators shows in them what operators become.
    """
    if not (space or ops or network):
        raise UsageError(
            "something must be measured; give --network mobilenet-v2, --space chamnet-mobile or --ops FILE"
        )
    graphs = [build_network(name) for name in network.split(",")] if network else []
    operators: list[OpSpec] = []
    if space:
        graphs += sample_networks(space, networks or SHOWING, seed)
    if space and not networks:
        operators += space_named(space).operators()
    if ops is not None:
        sweep = load_sweep(ops)
        graphs += sweep.graphs
        operators += sweep.operators
    if not limit:
        return Workload(tuple(graphs), tuple(dict.fromkeys(operators)))
    return Workload(operators=distinct_operators(graphs, operators)[:limit])


def plan_of(unit: Unit, setting: Setting, workload: Workload, metering: Metering | None = None) -> dict[str, Any]:
    """How many operators would be measured, about how long that takes, and which cannot be; opens no agent."""
    wanted = workload.in_dtype(setting.dtype)
    kept, cannot = runnable(setting.accelerator, distinct_operators(wanted.graphs, wanted.operators))
    return {
        "device": unit.name,
        "engine": setting.engine,
        "dtype": setting.dtype,
        "threads": setting.threads,
        "accelerator": setting.accelerator,
        "operators": len(kept),
        "measurements": len(kept) * setting.passes,
        "seconds": round(len(kept) * setting.passes * setting.use.seconds, 1),
        "cannot": cannot,
        **({} if metering is None else {"energy": _energy_plan(len(kept), metering)}),
    }


def _energy_plan(operators: int, metering: Metering) -> dict[str, Any]:
    """How many would be metered; how long that takes is known where the meter is."""
    count = wanted_of(metering.share, operators)
    known = metering.meter in PLANS
    seconds = count * planned_s(plan_for(metering.meter, None, False, metering.changes)) if known else None
    return {"operators": count, "seconds": None if seconds is None else round(seconds, 1)}
