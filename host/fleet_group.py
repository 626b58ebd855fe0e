"""Units that are alike, and the one sweep that they share: what is left of it, who has what, who counts."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from host.fleet_factors import Factor, Verdict, judge
from host.fleet_ray import Announced, Errand, title_of
from host.fleet_split import MOST_CHUNK, Item, as_workload, is_settled, items_of, overlap_of, take, weight
from host.fleet_worker import Greeting
from host.phones import slug
from host.setting import Summary, Workload
from lut_db.lut import resolve
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.build import single
from ops_catalog.spec import OpSpec

AFTER_CRASH = (MOST_CHUNK, 8, 1)
"""Items that are handed out at once by how often processes ended with them; after the last, the one item is left."""
MERGED = ("units", "merged")
"""Among a Target's options: a table made of several units' own."""


@dataclass(slots=True)
class Chunk:
    """What a unit is given at a time."""

    items: list[Item]
    overlap: bool = False

    @property
    def workload(self) -> Workload:
        return as_workload(self.items)


@dataclass(slots=True)
class Unit:
    """A unit of the fleet in this sweep.

    Attributes:
        there: its host is.
        overlap: operators left that every unit measures.
        finished: what it measured, which goes back where it does not count.
        reason: why it failed last, or does not count.
    """

    announced: Announced
    there: bool = True
    group: Group | None = None
    target: Target | None = None
    errand: Errand | None = None
    chunk: Chunk | None = None
    overlap: list[OpSpec] = field(default_factory=list)
    finished: list[Item] = field(default_factory=list)
    rest_until_s: float = 0.0
    failures: int = 0
    failed: int = 0
    done: int = 0
    rows_before: int = 0
    reason: str = ""
    lacks_database: bool = False
    doing: str = "joins"

    @property
    def name(self) -> str:
        return self.announced.name

    @property
    def is_free(self) -> bool:
        return self.there and self.errand is None and time.monotonic() >= self.rest_until_s

    def fail(self, reason: str, rest_s: float, longest_s: float, crashed: bool = False) -> None:
        """Gives back what it had, and rests."""
        self.rest_until_s = time.monotonic() + min(longest_s, rest_s * 2**self.failures)
        self.failures, self.failed = self.failures + 1, self.failed + 1
        self.errand, self.reason, self.doing = None, reason, "rests"
        chunk, self.chunk = self.chunk, None
        if chunk is not None and self.group is not None:
            self.group.give_back(self, chunk, crashed)


def group_key(greeting: Greeting) -> Hashable:
    """What units must have in common to share a sweep: the model, and the target but for the unit's name."""
    return title_of(greeting.unit), greeting.model, replace(greeting.target, device="")


def device_name(title: str, model: str) -> str:
    """What units of one model are called together; a chip's name is not enough, since phones differ in cooling."""
    return title if slug(model) == title else f"{title}@{slug(model)}"


@dataclass(slots=True)
class Group:
    """Units of one model and one target but for the name.

    Attributes:
        target: of the merged table.
        given_back: operators that a unit was given and did not measure.
        crashes: how often a host's process ended with an item; one that does too often is left.
        verdict: None until every unit that is there has measured the overlap.
    """

    name: str
    title: str
    model: str
    target: Target
    passes: int
    limit: float
    overlap: tuple[OpSpec, ...]
    items: list[Item]
    queue: deque[Item]
    wanted: int
    already: int
    members: dict[str, Unit] = field(default_factory=dict)
    given_back: int = 0
    crashes: Counter[int] = field(default_factory=Counter)
    verdict: Verdict | None = None
    quarantined: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    merged_rows: int = 0
    factors: Mapping[str, Factor] = field(default_factory=dict)
    refused_units: Mapping[str, str] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @classmethod
    def of(
        cls, store: LutStore, greeting: Greeting, workload: Workload, share: float, limit: float, seed: int
    ) -> Group:
        """The sweep that a unit's model lacks, whichever unit measured the rest before."""
        title = title_of(greeting.unit)
        options = tuple(sorted((*greeting.target.options, MERGED)))
        name = device_name(title, greeting.model)
        target = replace(greeting.target, device=name, options=options)
        wanted = workload.in_dtype(target.dtype)
        overlap = overlap_of(wanted, share, seed)
        everywhere = frozenset[Item](overlap)
        items = [item for item in items_of(wanted, greeting.lowers) if item not in everywhere]
        group = cls(name, title, greeting.model, target, greeting.passes, limit, overlap, items, deque(), len(items), 0)
        group.requeue(store)
        group.already = group.wanted - len(group.queue)
        return group

    @property
    def total(self) -> int:
        return sum(map(weight, self.items))

    @property
    def done(self) -> int:
        chunks = [unit.chunk for unit in self.members.values() if unit.chunk is not None and not unit.chunk.overlap]
        at_work = sum(weight(item) for chunk in chunks for item in chunk.items)
        return self.total - sum(map(weight, self.queue)) - at_work

    @property
    def left(self) -> int:
        """Items that no unit which counts has settled, but those that cannot be exported."""
        return sum(not (isinstance(item, OpSpec) and item.key in self.refused) for item in self.queue)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left that any unit which is there may measure."""
        waiting = any(unit.is_free and unit.overlap for unit in self.members.values())
        return not self.queue and not waiting and not any(unit.errand for unit in self.members.values())

    @property
    def tables(self) -> dict[str, Target]:
        """Own tables of units in this sweep, by name."""
        return {unit.name: unit.target for unit in self.members.values() if unit.target is not None}

    def enrol(self, store: LutStore, unit: Unit, greeting: Greeting) -> None:
        store.put_target(greeting.target)
        unit.group, unit.target = self, greeting.target
        unit.rows_before = store.counts(greeting.target)["measurement"]
        settled, lowerings = self._settled(store, greeting.target), store.lowerings(greeting.target)
        unit.overlap = [op for op in self.overlap if not is_settled(op, settled, lowerings)]
        self.members[unit.name] = unit

    def next_chunk(self, unit: Unit) -> Chunk | None:
        """First what every unit measures, then the next of what is left; nothing for a unit that does not count."""
        if unit.overlap:
            return Chunk(list(unit.overlap), overlap=True)
        if unit.name in self.refused_units or not self.queue:
            return None
        active = [other for other in self.members.values() if other.there and other.name not in self.refused_units]
        most = AFTER_CRASH[self.crashes[id(self.queue[0])]]
        return Chunk(take(self.queue, len(active), most))

    def took(self, store: LutStore, unit: Unit, summary: Summary) -> None:
        """A unit has measured its chunk."""
        chunk, unit.chunk, unit.doing, unit.reason = unit.chunk, None, "waits", ""
        self.quarantined |= summary.quarantined
        self.refused |= summary.refused
        if chunk is None:
            return
        unit.done += sum(map(weight, chunk.items))
        if chunk.overlap:
            unit.overlap = []
            self._judge(store)
        else:
            unit.finished += chunk.items

    def give_back(self, unit: Unit, chunk: Chunk, crashed: bool) -> None:
        """Operators of a unit that failed; one that processes keep dying of is given up."""
        self.given_back += sum(map(weight, chunk.items))
        if chunk.overlap:
            return
        if crashed:
            for item in chunk.items:
                self.crashes[id(item)] += 1
        kept = [item for item in chunk.items if self.crashes[id(item)] < len(AFTER_CRASH)]
        self.queue.extendleft(reversed(kept))

    def requeue(self, store: LutStore) -> None:
        """What none of the units settled that count, whether they are here or were; what failed for good is not asked
        again."""
        left = dict.fromkeys(self.items)
        for target in own_tables(store, self):
            if target.device in self.refused_units:
                continue
            settled, lowerings = self._settled(store, target), store.lowerings(target)
            left = {item: None for item in left if not is_settled(item, settled, lowerings)}
        at_work = {id(item) for unit in self.members.values() if unit.chunk for item in unit.chunk.items}
        self.queue = deque(item for item in left if id(item) not in at_work)

    def _settled(self, store: LutStore, target: Target) -> set[str]:
        return store.settled(target, self.passes) | set(store.quarantined(target))

    def _judge(self, store: LutStore) -> None:
        """Once every unit that is there has measured the overlap; what a unit measured that no longer counts goes
        back."""
        if any(unit.overlap and unit.there for unit in self.members.values()):
            return
        self.verdict = judge_tables(store, self)
        before, self.refused_units = self.refused_units, self.verdict.refused
        for name, reason in self.refused_units.items():
            if name in self.members:
                self.members[name].reason = reason
        lost = [unit for name, unit in self.members.items() if name in self.refused_units and name not in before]
        if any(unit.finished for unit in lost):
            self.queue.extend(item for unit in lost for item in unit.finished)
            for unit in lost:
                unit.finished = []


def own_tables(store: LutStore, group: Group) -> list[Target]:
    """Tables of the group's units in the database, of those too that are not here now."""
    models = {device.name: device.model for device in store.devices()}
    alike = replace(group.target, device="", options=tuple(o for o in group.target.options if o != MERGED))
    return [
        target
        for target in store.targets()
        if replace(target, device="") == alike
        and title_of(target.device) == group.title
        and models.get(target.device) == group.model
    ]


def judge_tables(store: LutStore, group: Group) -> Verdict:
    """The factors of units by the operators of the overlap."""
    shared, settled = dict[str, Mapping[str, float]](), dict[str, int]()
    for target in own_tables(store, group):
        keys = store.settled(target, group.passes)
        steps = [step for op in group.overlap for step in resolve(single(op), store.lowerings(target))]
        common = {key for step in steps if step for key in step.natives} & keys
        shared[target.device] = {e.key: e.latency_ns for e in store.each_entry(target) if e.key in common}
        settled[target.device] = len(keys)
    return judge(shared, settled, group.limit, min(8, max(1, len(group.overlap))))


def as_json(store: LutStore, group: Group) -> dict[str, Any]:
    """What a sweep did."""
    units = [
        {
            "unit": name,
            "host": unit.announced.host,
            "operators": unit.done,
            "measured": (store.counts(unit.target)["measurement"] if unit.target else 0) - unit.rows_before,
            "failed": unit.failed,
            "state": "there" if unit.there else "gone",
            "reason": unit.reason,
            "factor": group.factors[name].as_json() if name in group.factors else None,
            "merged": name in group.factors,
        }
        for name, unit in sorted(group.members.items())
    ]
    return {
        "device": group.name,
        "target": group.target.name,
        "wanted": group.wanted + len(group.overlap),
        "overlap": len(group.overlap),
        "already": group.already,
        "given_back": group.given_back,
        "left": group.left,
        "quarantined": group.quarantined,
        "refused": group.refused,
        "refused_units": dict(group.refused_units),
        "merged_measurements": group.merged_rows,
        "seconds": round(group.seconds, 2),
        "units": units,
    }
