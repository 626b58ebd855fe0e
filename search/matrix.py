"""Many searches as one: every space on every target within every limit.

Tables are measured once a target, and networks trained once a space; a search only combines them. So m spaces on n
targets cost n measurements and m trainings, not m times n of either (Dai et al., ChamNet, CVPR 2019, section 3).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import Any

from lut_db.errors import LutError
from lut_db.records import Target
from lut_db.samples import AccuracySample, open_samples
from lut_db.store import open_store
from ops_catalog.spec import SpecError
from search.accuracy import Fitted, fit_accuracy
from search.cells import Arithmetic, build_cells
from search.evolution import Effort
from search.limits import Limit
from search.predictors import LEAST_SAMPLES
from search.result import Candidate
from search.run import Question, search
from search.samples import training_set
from search.spaces import space_named

KEPT = 4
"""Predictors that a process keeps."""


@dataclass(frozen=True, slots=True)
class Row:
    """One space on one target; the limits of a row share one population.

    Attributes:
        db, samples_db: where tables and accuracies are.
        target: the key of the target.
        limits_ms: of latency.
    """

    db: str
    samples_db: str
    space: str
    target: str
    limits_ms: tuple[float, ...]
    predictor: str = "gp"
    dataset: str = ""
    recipe: str = ""
    interpolate: bool = False
    seed: int = 0
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a row.

    Attributes:
        best: for each limit the most accurate network within it, None where none is.
        reason: why nothing was searched; "" where it was.
        fitting_s, searching_s: seconds of fitting a predictor (0 where one was there), and of all else.
    """

    space: str
    target: str
    target_name: str
    limits_ms: tuple[float, ...]
    best: tuple[Candidate | None, ...]
    reason: str = ""
    fitting_s: float = 0.0
    searching_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        cells = [
            {"limit_ms": limit, **({} if one is None else one.as_json())}
            for limit, one in zip(self.limits_ms, self.best, strict=True)
        ]
        return {**asdict(replace(self, best=())), "best": cells}


@dataclass(frozen=True, slots=True)
class Bill:
    """Where the time of all answers went, in seconds.

    Attributes:
        measuring_s: by target, of all batches that its table rests on.
        training_s: by space, of all networks that its predictor learned from or that failed; None where samples do not
            say.
        fitting_s, searching_s: of processors, whichever process they were in; wall_s: by the clock.
        queries: cells that were asked.
    """

    measuring_s: dict[str, float]
    training_s: dict[str, float | None]
    fitting_s: float
    searching_s: float
    wall_s: float
    queries: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Map = Callable[[Callable[[Row], Found], Iterable[Row]], Iterator[Found]]
"""Calls a function on each row, perhaps many at once, and yields what comes as it comes."""


def fill_matrix(rows: Sequence[Row], mapped: Map, tell: Callable[[int, int], None]) -> tuple[list[Found], Bill]:
    """Searches all rows.

    Args:
        mapped: one process after the other, a pool's ``imap_unordered``, or that of a cluster.
        tell: is told rows done, and how many there are.
    """
    began, found = time.perf_counter(), list[Found]()
    for one in mapped(search_row, rows):
        found.append(one)
        tell(len(found), len(rows))
    order = {(row.space, row.target): place for place, row in enumerate(rows)}
    found.sort(key=lambda one: order[one.space, one.target])
    return found, _bill(rows, found, time.perf_counter() - began)


def rows_of(like: Row, spaces: Sequence[str], targets: Sequence[Target]) -> list[Row]:
    """Every space on every target, those of a space one after the other, since they share its predictor."""
    return [replace(like, space=space, target=target.key) for space, target in product(spaces, targets)]


def search_row(row: Row) -> Found:
    """One space on one target; what cannot be searched is a row with the reason."""
    began, nothing, name = time.perf_counter(), (None,) * len(row.limits_ms), ""
    try:
        with open_store(row.db, create=False) as store:
            target = store.target_named(row.target)
            name = target.name
            question = _question(row, target)
            fitted, fitting_s = _fitted(row, target)
            result = search(store, [], question, fitted=fitted)
    except (LutError, SpecError) as error:
        return Found(row.space, row.target, name, row.limits_ms, nothing, str(error))
    best = tuple(best_within(result.candidates, limit) for limit in row.limits_ms)
    spent_s = time.perf_counter() - began
    return Found(row.space, row.target, name, row.limits_ms, best, "", fitting_s, spent_s - fitting_s)


def best_within(candidates: Sequence[Candidate], limit_ms: float) -> Candidate | None:
    """The most accurate network that is quick enough."""
    fitting = [one for one in candidates if one.latency_ms is not None and one.latency_ms <= limit_ms]
    return max(fitting, key=lambda one: one.accuracy, default=None)


def _question(row: Row, target: Target) -> Question:
    limits = (Limit("latency_ms", max(row.limits_ms)),)
    return Question(
        space_named(row.space), (target,), limits, row.limits_ms, {}, row.predictor, row.recipe, None, row.seed,
        row.effort, row.interpolate,
    )  # fmt: skip


def _fitted(row: Row, target: Target) -> tuple[Fitted, float]:
    """The predictor of a space, and the seconds that this call took to fit it."""
    began, before = time.perf_counter(), _fit.cache_info().misses
    fitted = _fit(replace(row, target="", limits_ms=(1.0,)), target.dtype)
    return fitted, time.perf_counter() - began if _fit.cache_info().misses > before else 0.0


@lru_cache(KEPT)
def _fit(row: Row, dtype: str) -> Fitted:
    """Features tell of memory, which depends on the element type; nothing else of a target does."""
    space = space_named(row.space)
    with open_samples(row.samples_db, create=False) as samples:
        known = samples.samples(space.plain.name, row.dataset)
    training = training_set(space, known, LEAST_SAMPLES)
    return fit_accuracy(space, Arithmetic(build_cells(space), dtype), training, row.predictor, row.recipe, row.seed)


def _bill(rows: Sequence[Row], found: Sequence[Found], wall_s: float) -> Bill:
    measuring = defaultdict[str, float](float)
    training: dict[str, float | None] = {}
    for db in {row.db for row in rows}:
        with open_store(db, create=False) as store:
            wanted = {row.target for row in rows if row.db == db}
            for target in store.targets():
                if target.key in wanted:
                    measuring[target.name] += store.measuring_s(target)
    for samples_db, dataset, space in dict.fromkeys((row.samples_db, row.dataset, row.space) for row in rows):
        name = space_named(space).plain.name
        with open_samples(samples_db, create=False) as samples:
            training[name] = _training_s(samples.samples(name, dataset))
    return Bill(
        dict(measuring), training, sum(one.fitting_s for one in found), sum(one.searching_s for one in found), wall_s,
        sum(len(row.limits_ms) for row in rows),
    )  # fmt: skip


def _training_s(samples: Sequence[AccuracySample]) -> float | None:
    """Of the data set that a predictor is fitted to, by all its recipes, failures included."""
    fitted = {sample.dataset for sample in samples if sample.accuracy_percent is not None}
    told = [sample.cost_s for sample in samples if sample.cost_s is not None and sample.dataset in fitted]
    return sum(told) if told else None
