"""What a host of a fleet does when it is told to: greet for a unit, and measure on it. Knows nothing of Ray.

Expected errors travel as values: what a unit or a host cannot do is no reason for the fleet to end.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from host.bench import open_bench
from host.cli_options import Asked, settings_of
from host.devices import Unit, find_unit
from host.errors import HostError
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from host.transport import Launch
from lut_db.errors import LutError
from lut_db.records import Target
from lut_db.store import LutStore, open_store
from ops_catalog.spec import SpecError

AWAY_S = 60.0
"""Longest that a host waits for a unit which vanished before others get its operators."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Order:
    """What a host must know to measure.

    Attributes:
        db: a URL that every host reaches.
        lease: one of the sweep's in that database; who does not find it there looks at another database.
        owner: who holds it.
    """

    db: str
    lease: str
    owner: str
    asked: Asked
    launch: Launch


@dataclass(frozen=True, slots=True)
class Greeting:
    """A unit that can be measured on.

    Attributes:
        model: what it is; units of one model and one target but for the name share a sweep.
        passes: of a setting that an entry needs.
        lowers: networks tell what operators become, so they stay whole.
    """

    unit: str
    model: str
    host: str
    target: Target
    passes: int
    lowers: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a host did not do what it was told.

    Attributes:
        database: it cannot open the sweep's database, or looks at another; not that this one was busy.
    """

    message: str
    database: bool = False


def greet(order: Order, name: str) -> Greeting | Refusal:
    """Starts an agent on a unit to hear what it is; puts what it needs there."""

    def ask(store: LutStore, unit: Unit, setting: Setting) -> Greeting:
        with open_bench(store, unit, setting, register=False) as bench:
            target = bench.target
        model = unit.identity.model if unit.identity else unit.name
        return Greeting(unit.name, model, platform.node(), target, setting.passes, setting.lowers)

    return _answered(order, name, ask)


def measure(order: Order, name: str, workload: Workload) -> Summary | Refusal:
    """Measures on a unit what its table lacks of a workload; holds the unit's lease meanwhile."""
    return _answered(order, name, lambda store, unit, setting: profile(store, unit, setting, workload, Progress()))


def _answered(order: Order, name: str, ask: Callable[[LutStore, Unit, Setting], Answer]) -> Answer | Refusal:
    try:
        opened = open_store(order.db, create=False)
    except LutError as error:
        return Refusal(f"{platform.node()}: {error}", database=True)
    try:
        with opened as store:
            if refusal := _other_database(store, order):
                return refusal
            unit = find_unit(name, order.launch)
            (setting,) = settings_of(unit, order.asked)
            return ask(store, unit, replace(setting, patience_s=min(setting.patience_s, AWAY_S)))
    except LutError as error:
        return Refusal(f"{platform.node()}: {error}")
    except (HostError, SpecError) as error:
        return Refusal(str(error))


def _other_database(store: LutStore, order: Order) -> Refusal | None:
    held = store.leases.held().get(order.lease)
    if held is not None and held.owner == order.owner:
        return None
    return Refusal(
        f"{platform.node()} must see the sweep in its database, but found {held.owner if held else 'none'}; name a "
        "server by an address that is the same for all hosts",
        database=True,
    )
