"""The path of a fleet's sweep: units that are alike share it, different ones run side by side, what dies gives back.

What is measured lies in each unit's own table, as when it is measured alone; ``fleet_merge`` makes one table of them.
No state is kept elsewhere: what lacks is asked of the store, so repeating a sweep goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from host import fleet_worker
from host.errors import DeviceUnavailable, HostError
from host.fleet_factors import LIMIT
from host.fleet_group import Group, Unit
from host.fleet_merge import Kind
from host.fleet_ray import Errand, Fleet, HostGone, title_of
from host.fleet_split import OVERLAP
from host.fleet_worker import Greeting, Order, Refusal
from host.lease import STALE_S, SWEEP, gone, new_owner, who
from host.phones import slug
from host.setting import Summary, Workload
from host.socs import soc_named
from lut_db.errors import StoreUnavailable
from lut_db.leases import LeaseHeld
from lut_db.store import LutStore

TICK_S = 0.5
BEAT_S = 60.0
REST_S = 5.0
"""After a unit failed, before it is asked again; twice as long after every further time."""
LONGEST_REST_S = 60.0

Tell = Callable[[str, str, int, int], None]
"""What is told of the progress: a device or unit, what it does, operators done, and in all (0 where unknown)."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be measured, and on what.

    Attributes:
        devices: names of units, or what units of one model are called.
        address: only units of the host with this address; empty for all.
        overlap: the share of operators that every unit measures.
        limit: how far a unit's factor may be from 1.
        patience_s: how long it may go on without any unit that works.
    """

    devices: tuple[str, ...]
    workload: Workload
    address: str = ""
    overlap: float = OVERLAP
    limit: float = LIMIT
    seed: int = 0
    patience_s: float = 900.0

    @property
    def leases(self) -> tuple[str, ...]:
        """One for each model, whatever it is called: another sweep of any of its units would measure the same twice."""
        return tuple(sorted({f"{SWEEP}{_model_named(name)}" for name in self.devices}))

    def wants(self, unit: str) -> bool:
        """Whether a unit is one of the devices, by its name, its model's or its chip's."""
        title = title_of(unit)
        chip = soc_named(title)
        return any(
            slug(name) in (slug(unit), slug(title)) or (chip is not None and soc_named(name) == chip)
            for name in self.devices
        )


def _model_named(device: str) -> str:
    title = title_of(device)
    chip = soc_named(title)
    return chip.name if chip is not None else slug(title)


@dataclass(slots=True)
class _State:
    """What goes on in a sweep.

    Attributes:
        idle_since_s: when a unit answered last, put off by the time that any was at work since.
    """

    units: dict[str, Unit] = field(default_factory=dict)
    groups: dict[Kind, Group] = field(default_factory=dict)
    idle_since_s: float = field(default_factory=time.monotonic)


def run_sweep(
    fleet: Fleet, store: LutStore, order: Order, sweep: Sweep, tell: Tell = lambda *told: None
) -> list[Group]:
    """Measures on every unit of a fleet that is meant, and merges what units of one kind measured.

    Args:
        order: without its lease, which is taken here.

    Raises:
        DeviceUnavailable: no such unit is announced, or none works for too long before all is measured; what was
            is merged first.
        HostError: another process sweeps the same; no host reaches the database.
    """
    state = _State()
    with _held(store, order, sweep) as held:
        try:
            _measure_all(fleet, store, state, held, sweep, tell)
        except DeviceUnavailable:
            _finish(store, state)
            raise
        _finish(store, state)
    return list(state.groups.values())


def _measure_all(fleet: Fleet, store: LutStore, state: _State, order: Order, sweep: Sweep, tell: Tell) -> None:
    """Until nothing is left that any unit may measure. Raises DeviceUnavailable, HostError."""
    beaten_s = time.monotonic()
    while True:
        _see(fleet, state, sweep)
        for group in state.groups.values():
            group.judge(store)
        _hand_out(fleet, state, order)
        busy = {unit.errand: unit for unit in state.units.values() if unit.errand is not None}
        if not busy and all(group.is_done for group in state.groups.values()) and _all_heard(state):
            return
        for errand in _ended(fleet, state, list(busy)):
            _take_back(fleet, store, state, busy[errand], errand, sweep)
        _raise_if_idle(state, sweep)
        for unit in state.units.values():
            tell(unit.name, unit.doing, unit.done, 0)
        for group in state.groups.values():
            tell(group.name, "operators", group.done, group.total)
        if time.monotonic() - beaten_s > BEAT_S:
            _beat(store, sweep, order.owner)
            beaten_s = time.monotonic()


def _finish(store: LutStore, state: _State) -> None:
    for group in state.groups.values():
        group.finish(store)


@contextmanager
def _held(store: LutStore, order: Order, sweep: Sweep) -> Iterator[Order]:
    """Holds the sweep's leases; hosts know their database by one of them."""
    owner = new_owner()
    with ExitStack() as stack:
        for lease in sweep.leases:
            try:
                store.leases.acquire(lease, owner, STALE_S, gone)
            except LeaseHeld as taken:
                raise HostError(f"{lease} must be free, but {who(taken.owner)} sweeps it; wait for its end") from None
            stack.callback(store.leases.release, lease, owner)
        yield replace(order, lease=sweep.leases[0], owner=owner)


def _beat(store: LutStore, sweep: Sweep, owner: str) -> None:
    """A database that is busy for once does no harm. Raises LeaseHeld."""
    with suppress(StoreUnavailable):
        for lease in sweep.leases:
            store.leases.renew(lease, owner)


def _see(fleet: Fleet, state: _State, sweep: Sweep) -> None:
    """Takes in units that joined; gives back what those had that left."""
    there = {
        name: unit for name, unit in fleet.units().items() if sweep.wants(name) and sweep.address in ("", unit.address)
    }
    if not there and not state.units:
        known = ", ".join(sorted(fleet.units())) or "none"
        raise DeviceUnavailable(
            f"a unit of {', '.join(sweep.devices)} must be announced, but the fleet has {known}; "
            "'chamnet fleet join' on its host announces it"
        )
    for name, announced in there.items():
        known_unit = state.units.setdefault(name, Unit(announced))
        if known_unit.announced != announced or not known_unit.there:
            known_unit.announced, known_unit.there, known_unit.rest_until_s = announced, True, 0.0
    for name in state.units.keys() - there.keys():
        unit = state.units[name]
        unit.there = False
        if unit.errand is not None:
            fleet.cancel(unit.errand)
            unit.fail("its host is gone", REST_S, LONGEST_REST_S)


def _hand_out(fleet: Fleet, state: _State, order: Order) -> None:
    for unit in state.units.values():
        if not unit.is_free:
            continue
        reach = unit.announced.reach
        if unit.group is None:
            unit.errand = fleet.start(unit.announced, fleet_worker.greet, order, reach)
            unit.doing = "greets"
        elif chunk := unit.group.next_chunk(unit):
            unit.chunk = chunk
            unit.errand = fleet.start(unit.announced, fleet_worker.measure, order, reach, chunk.workload)
            unit.doing = "measures"
        else:
            unit.doing = "waits"


def _ended(fleet: Fleet, state: _State, errands: list[Errand]) -> list[Errand]:
    """Those that did by the next look; while units are at work, nobody's patience is tried."""
    began_s = time.monotonic()
    ended = fleet.wait(errands, TICK_S)
    if errands:
        state.idle_since_s += time.monotonic() - began_s
    return ended


def _take_back(fleet: Fleet, store: LutStore, state: _State, unit: Unit, errand: Errand, sweep: Sweep) -> None:
    """What an errand came to; of one that failed the operators go back."""
    try:
        answer = fleet.result(errand)
    except HostGone as end:
        unit.fail(str(end), REST_S, LONGEST_REST_S, crashed=end.crashed)
        return
    if isinstance(answer, Refusal):
        unit.fail(answer.message, REST_S, LONGEST_REST_S, lacks_database=answer.database)
        return
    state.idle_since_s = time.monotonic()
    unit.errand, unit.failures = None, 0
    if isinstance(answer, Greeting):
        _enrol(store, state, unit, answer, sweep)
    elif isinstance(answer, Summary) and unit.group is not None:
        unit.group.took(unit, answer)


def _enrol(store: LutStore, state: _State, unit: Unit, greeting: Greeting, sweep: Sweep) -> None:
    if greeting.unit != unit.name:
        unit.fail(f"{greeting.unit} answers in its place", LONGEST_REST_S, LONGEST_REST_S)
        return
    kind = Kind.of(greeting)
    if kind not in state.groups:
        state.groups[kind] = Group.of(store, greeting, sweep.workload, sweep.overlap, sweep.limit, sweep.seed)
    state.groups[kind].enrol(store, unit, greeting)


def _all_heard(state: _State) -> bool:
    """Whether no unit is still to be greeted that was never asked."""
    return bool(state.groups) and not any(unit.is_free and unit.group is None for unit in state.units.values())


def _raise_if_idle(state: _State, sweep: Sweep) -> None:
    """Raises where no unit works for too long, or none can ever."""
    if any(unit.errand is not None for unit in state.units.values()):
        return
    told = "; ".join(f"{unit.name}: {reason}" for unit in state.units.values() if (reason := _why_idle(unit)))
    if state.units and all(unit.lacks_database and unit.group is None for unit in state.units.values()):
        raise HostError(f"every host must reach the database, but none does: {told}")
    if time.monotonic() - state.idle_since_s > sweep.patience_s:
        raise DeviceUnavailable(
            f"a unit must work, but for {sweep.patience_s:.0f} s none did: {told}; what was measured is stored and "
            "merged, the same command goes on from there"
        )


def _why_idle(unit: Unit) -> str:
    """Why it failed last, is gone or refused; "" where it may work."""
    if unit.reason or not unit.there:
        return unit.reason or "its host is gone"
    return unit.group.verdict.refused.get(unit.name, "") if unit.group else ""
