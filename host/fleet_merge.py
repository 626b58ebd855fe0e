"""One table of a model out of its units' own: what each unit settled, its times divided by what it is off by."""

from __future__ import annotations

import time

from host.devices import REACH
from host.fleet_group import Group, judge_tables, own_tables
from lut_db.merges import Portion
from lut_db.records import Device
from lut_db.store import LutStore


def merge(store: LutStore, group: Group) -> None:
    """Makes the merged table anew; factors and refusals go into its device's facts and into ``group``."""
    tables = {target.device: target for target in own_tables(store, group)}
    verdict = judge_tables(store, group)
    group.factors, group.refused_units = verdict.factors, verdict.refused
    portions = [
        Portion(
            tables[unit],
            store.settled(tables[unit], group.passes),
            1 / factor.applied,
            {"unit": unit, **factor.as_json()},
        )
        for unit, factor in verdict.factors.items()
    ]
    facts = {
        REACH: group.title,
        "units": {unit: factor.as_json() for unit, factor in verdict.factors.items()},
        "refused_units": dict(verdict.refused),
    }
    store.put_device(Device(group.name, group.model, facts))
    store.put_target(group.target)
    group.merged_rows = store.merges.replace(group.target, portions)
    for target in tables.values():
        if steps := store.staircases(target):
            store.put_staircases(group.target, steps)
    group.requeue(store)
    group.seconds = time.monotonic() - group.started_s
