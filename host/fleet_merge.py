"""Tables of units that are alike: which they are, how the units differ, and the one table that is made of theirs.

The merged table holds what each unit settled, its times divided by what it is off by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from host.devices import REACH
from host.fleet_factors import Factor, Latencies, Verdict, judge
from host.fleet_ray import title_of
from host.fleet_worker import Greeting
from host.phones import slug
from lut_db.merges import Portion
from lut_db.records import MERGED, Device, Target
from lut_db.store import LutStore

MERGES = "merges"
"""Among the facts of a merged table's device: by the table's key, the units' factors and refusals."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What units have in common that share a sweep: the model, and the target but for the unit's name.

    Attributes:
        title: what its units are called without their serials.
        target: of the merged table.
        passes: of a setting that an entry needs.
    """

    title: str
    model: str
    target: Target
    passes: int

    @classmethod
    def of(cls, greeting: Greeting) -> Kind:
        title = title_of(greeting.unit)
        options = tuple(sorted((*greeting.target.options, MERGED)))
        target = replace(greeting.target, device=device_name(title, greeting.model), options=options)
        return cls(title, greeting.model, target, greeting.passes)


def device_name(title: str, model: str) -> str:
    """What units of one model are called together; a chip's name is not enough, since phones differ in cooling."""
    return title if slug(model) == title else f"{title}@{slug(model)}"


def own_tables(store: LutStore, kind: Kind) -> list[Target]:
    """Tables of such units in the database, of those too that are not here now."""
    models = {device.name: device.model for device in store.devices()}
    alike = replace(kind.target, device="", options=tuple(o for o in kind.target.options if o != MERGED))
    return [
        target
        for target in store.targets()
        if replace(target, device="") == alike
        and title_of(target.device) == kind.title
        and models.get(target.device) == kind.model
    ]


def judge_tables(store: LutStore, kind: Kind, here: Collection[str], limit: float, least: int) -> Verdict:
    """The factors of units by all that they have settled in common, in this sweep or before.

    Args:
        here: names of the units that are.
    """
    found = {target.device: _settled(store, target, kind.passes) for target in own_tables(store, kind)}
    tables = {unit: latencies for unit, latencies in found.items() if latencies}
    return judge(tables, _known_factors(store, kind), limit, least, tables.keys() - set(here))


def merge(store: LutStore, kind: Kind, verdict: Verdict) -> int:
    """Makes the merged table anew; returns its measurements. Factors and refusals go into its device's facts.

    Where no unit has settled anything, there is no such table.
    """
    if not verdict.factors:
        return 0
    tables = {target.device: target for target in own_tables(store, kind)}
    portions = [
        Portion(
            tables[unit],
            store.settled(tables[unit], kind.passes),
            1 / factor.applied,
            {"unit": unit, **factor.as_json()},
        )
        for unit, factor in verdict.factors.items()
    ]
    told = {
        "units": {unit: factor.as_json() for unit, factor in verdict.factors.items()},
        "refused_units": dict(verdict.refused),
    }
    facts = {REACH: kind.title, MERGES: {**_merges(store, kind), kind.target.key: told}}
    store.put_device(Device(kind.target.device, kind.model, facts))
    store.put_target(kind.target)
    measurements = store.merges.replace(kind.target, portions)
    for target in tables.values():
        if steps := store.staircases(target):
            store.put_staircases(kind.target, steps)
    return measurements


def _settled(store: LutStore, target: Target, passes: int) -> Latencies:
    keys = store.settled(target, passes)
    return {entry.key: entry.latency_ns for entry in store.each_entry(target) if entry.key in keys}


def _known_factors(store: LutStore, kind: Kind) -> dict[str, Factor]:
    """Those that the merged table was made with last."""
    told = _merges(store, kind).get(kind.target.key, {"units": {}})
    return {unit: Factor.of_json(factor) for unit, factor in told["units"].items()}


def _merges(store: LutStore, kind: Kind) -> Mapping[str, Any]:
    facts = next((device.facts for device in store.devices() if device.name == kind.target.device), {})
    merges: Mapping[str, Any] = facts.get(MERGES, {})
    return merges
