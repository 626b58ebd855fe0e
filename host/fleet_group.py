"""Units that are alike, and the one sweep that they share: what is left of it, who has what, who counts."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from host.fleet_factors import LEAST, Verdict
from host.fleet_merge import Kind, judge_tables, merge, own_tables
from host.fleet_ray import Announced, Errand
from host.fleet_split import MOST_CHUNK, Item, as_workload, is_settled, items_of, overlap_of, take, weight
from host.fleet_worker import Greeting
from host.setting import Summary, Workload
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.spec import OpSpec

AFTER_CRASH = (MOST_CHUNK, 8, 1)
"""Items that are handed out at once by how often processes ended with them; after the last, the one item is left."""


@dataclass(slots=True)
class Chunk:
    """What a unit is given at a time."""

    items: list[Item]
    overlap: bool = False

    @property
    def workload(self) -> Workload:
        return as_workload(self.items)

    @property
    def size(self) -> int:
        """Its operators."""
        return sum(map(weight, self.items))


@dataclass(slots=True)
class Unit:
    """A unit of the fleet in this sweep.

    Attributes:
        there: its host is.
        overlap: operators left that every unit measures.
        finished: what it had its turn with, which goes back where it does not count.
        given_back: operators that it was given and did not measure; those that every unit measures it keeps.
        reason: why it failed last.
        lacks_database: it failed last since it did not reach the sweep's database.
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
    given_back: int = 0
    rows_before: int = 0
    reason: str = ""
    lacks_database: bool = False
    doing: str = "joins"

    @property
    def name(self) -> str:
        return self.announced.name

    @property
    def takes_part(self) -> bool:
        """Whether it is waited for to be compared: its host is there, and it did not fail at the overlap."""
        return self.there and not (self.overlap and self.failures)

    @property
    def is_free(self) -> bool:
        return self.there and self.errand is None and time.monotonic() >= self.rest_until_s

    def fail(
        self, reason: str, rest_s: float, longest_s: float, crashed: bool = False, lacks_database: bool = False
    ) -> None:
        """Gives back what it had, and rests."""
        self.rest_until_s = time.monotonic() + min(longest_s, rest_s * 2**self.failures)
        self.failures, self.failed = self.failures + 1, self.failed + 1
        self.errand, self.reason, self.doing, self.lacks_database = None, reason, "rests", lacks_database
        chunk, self.chunk = self.chunk, None
        if chunk is not None and self.group is not None:
            self.group.give_back(self, chunk, crashed)


@dataclass(slots=True)
class Group:
    """Units of one kind in a sweep.

    Attributes:
        overlap: what every unit measures.
        items: the rest, of which each is measured by one.
        queue: what is left to hand out.
        already: items that were known before.
        crashes: how often a host's process ended with an item; one that does too often is left.
        verdict: on the units, of those too that are not here.
        judged: whether it was made of all that is known.
        left: items that no unit which counts has settled at the end, but those that cannot be exported.
    """

    kind: Kind
    limit: float
    overlap: tuple[OpSpec, ...]
    items: list[Item]
    queue: deque[Item] = field(default_factory=deque)
    already: int = 0
    members: dict[str, Unit] = field(default_factory=dict)
    crashes: Counter[int] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=lambda: Verdict({}, {}))
    judged: bool = False
    quarantined: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    left: list[Item] = field(default_factory=list)
    merged_rows: int = 0
    started_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @classmethod
    def of(
        cls, store: LutStore, greeting: Greeting, workload: Workload, share: float, limit: float, seed: int
    ) -> Group:
        """The sweep that a unit's kind lacks, whichever unit measured the rest before."""
        kind = Kind.of(greeting)
        wanted = workload.in_dtype(kind.target.dtype)
        overlap = overlap_of(wanted, share, seed)
        everywhere = frozenset[Item](overlap)
        items = [item for item in dict.fromkeys(items_of(wanted, greeting.lowers)) if item not in everywhere]
        group = cls(kind, limit, overlap, items)
        group.judge(store)
        group._requeue(store)
        group.already = len(items) - len(group.queue)
        return group

    @property
    def name(self) -> str:
        return self.kind.target.device

    @property
    def target(self) -> Target:
        """Of the merged table."""
        return self.kind.target

    @property
    def total(self) -> int:
        return sum(map(weight, self.items))

    @property
    def done(self) -> int:
        chunks = [unit.chunk for unit in self.members.values() if unit.chunk is not None and not unit.chunk.overlap]
        return self.total - sum(map(weight, self.queue)) - sum(chunk.size for chunk in chunks)

    @property
    def given_back(self) -> int:
        return sum(unit.given_back for unit in self.members.values())

    @property
    def is_done(self) -> bool:
        """Whether nothing is left that any unit may measure."""
        if any(unit.errand or (unit.is_free and unit.overlap) for unit in self.members.values()):
            return False
        may = any(unit.overlap or self.counts(unit) for unit in self.members.values())
        return not self.queue or not may

    def counts(self, unit: Unit) -> bool:
        return unit.name not in self.verdict.refused

    def enrol(self, store: LutStore, unit: Unit, greeting: Greeting) -> None:
        store.put_target(greeting.target)
        unit.group, unit.target = self, greeting.target
        unit.rows_before = store.counts(greeting.target)["measurement"]
        settled, lowerings = self._settled(store, greeting.target), store.lowerings(greeting.target)
        unit.overlap = [op for op in self.overlap if not is_settled(op, settled, lowerings)]
        self.members[unit.name], self.judged = unit, False

    def next_chunk(self, unit: Unit) -> Chunk | None:
        """First what every unit measures, then the next of what is left; nothing for a unit that does not count."""
        if unit.overlap:
            return Chunk(list(unit.overlap), overlap=True)
        if not self.queue or not self.counts(unit):
            return None
        active = [other for other in self.members.values() if other.there and self.counts(other)]
        most = AFTER_CRASH[self.crashes[id(self.queue[0])]]
        return Chunk(take(self.queue, len(active), most))

    def took(self, unit: Unit, summary: Summary) -> None:
        """A unit has measured its chunk."""
        chunk, unit.chunk, unit.doing, unit.reason = unit.chunk, None, "waits", ""
        self.quarantined |= summary.quarantined
        self.refused |= summary.refused
        if chunk is None:
            return
        unit.done += chunk.size
        if chunk.overlap:
            unit.overlap, self.judged = [], False
        elif self.counts(unit):
            unit.finished += chunk.items
        else:
            self.queue.extend(chunk.items)

    def give_back(self, unit: Unit, chunk: Chunk, crashed: bool) -> None:
        """Operators of a unit that failed; one that processes keep dying of is given up."""
        if chunk.overlap:
            return
        unit.given_back += chunk.size
        if crashed:
            for item in chunk.items:
                self.crashes[id(item)] += 1
        self.queue.extendleft(item for item in reversed(chunk.items) if not self._is_given_up(item))

    def judge(self, store: LutStore) -> None:
        """Once every unit that takes part has measured the overlap; what units measured that no longer count is handed
        out again."""
        if self.judged or any(unit.overlap and unit.takes_part for unit in self.members.values()):
            return
        before, self.verdict, self.judged = self.verdict, self._verdict(store), True
        if self.verdict.refused.keys() != before.refused.keys():
            self._requeue(store)

    def finish(self, store: LutStore) -> None:
        """Makes the merged table anew."""
        self.verdict = self._verdict(store)
        self.merged_rows = merge(store, self.kind, self.verdict)
        self.left = [
            item for item in self._unsettled(store) if not (isinstance(item, OpSpec) and item.key in self.refused)
        ]
        self.seconds = time.monotonic() - self.started_s

    def _verdict(self, store: LutStore) -> Verdict:
        here = [unit.name for unit in self.members.values() if unit.takes_part]
        return judge_tables(store, self.kind, here, self.limit, min(LEAST, max(1, len(self.overlap))))

    def _requeue(self, store: LutStore) -> None:
        """What is unsettled, but what units have now, and what units that count had their turn with."""
        at_work = {id(item) for unit in self.members.values() if unit.chunk for item in unit.chunk.items}
        tried = {id(item) for unit in self.members.values() if self.counts(unit) for item in unit.finished}
        left = (item for item in self._unsettled(store) if id(item) not in at_work | tried)
        self.queue = deque(item for item in left if not self._is_given_up(item))

    def _unsettled(self, store: LutStore) -> list[Item]:
        """What none of the units settled that count, whether they are here or were."""
        left = self.items
        for target in own_tables(store, self.kind):
            if target.device not in self.verdict.refused:
                settled, lowerings = self._settled(store, target), store.lowerings(target)
                left = [item for item in left if not is_settled(item, settled, lowerings)]
        return left

    def _is_given_up(self, item: Item) -> bool:
        return self.crashes[id(item)] >= len(AFTER_CRASH)

    def _settled(self, store: LutStore, target: Target) -> set[str]:
        """What failed for good is not asked again."""
        return store.settled(target, self.kind.passes) | set(store.quarantined(target))
