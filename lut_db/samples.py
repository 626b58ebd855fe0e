"""SampleStore: accuracies of trained networks, in the same database as the look-up tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from sqlalchemy import Row, delete, insert, select

from lut_db import tables
from lut_db.database import connect, reading, writing

Key = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class AccuracySample:
    """One training of one network, or the attempt.

    Attributes:
        space: name of the search space that the genome belongs to.
        genome: as ``search.spaces.space.format_genome`` writes it.
        recipe: how it was trained; accuracies of different recipes do not compare.
        accuracy_percent: top-1; None where the training failed.
        failure: why, "" where it did not.
        cost_s: seconds of training, None where unknown.
        source: where the number comes from.
        created_at: seconds since the epoch, UTC.
    """

    space: str
    genome: str
    dataset: str
    recipe: str
    accuracy_percent: float | None
    seed: int = 0
    failure: str = ""
    cost_s: float | None = None
    source: str = ""
    created_at: float = 0.0

    @property
    def key(self) -> Key:
        """What makes it one sample: training the same again replaces nothing."""
        return self.space, self.genome, self.dataset, self.recipe, self.seed


class SampleStore:
    """The samples of an open database; use it as a context manager. Made by ``open_samples``."""

    def __init__(self, path_or_url: str | Path, create: bool = True) -> None:
        self._engine = connect(path_or_url, create)

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def put(self, samples: Sequence[AccuracySample]) -> int:
        """Adds samples, all or nothing; returns how many were new. A success replaces a failure of the same key."""
        table = tables.accuracy_sample
        lacking = {sample.key: sample for sample in samples}
        with writing(self._engine, "samples") as connection:
            spaces = {sample.space for sample in samples}
            failed = []
            for row in connection.execute(select(table).where(table.c.space.in_(spaces))):
                key = _sample(row).key
                if key in lacking and row.accuracy_percent is None:
                    failed.append(row.id)
                else:
                    lacking.pop(key, None)
            if failed:
                connection.execute(delete(table).where(table.c.id.in_(failed)))
            if lacking:
                connection.execute(insert(table), [asdict(sample) for sample in lacking.values()])
        return len(lacking)

    def samples(self, space: str | None = None, dataset: str = "", recipe: str = "") -> list[AccuracySample]:
        """Samples in the order they came, of one space or all; of one data set or recipe, if named."""
        table = tables.accuracy_sample
        query = select(table).order_by(table.c.id)
        for column, value in ((table.c.dataset, dataset), (table.c.recipe, recipe)):
            if value:
                query = query.where(column == value)
        if space is not None:
            query = query.where(table.c.space == space)
        with reading(self._engine) as connection:
            return [_sample(row) for row in connection.execute(query)]


def open_samples(path_or_url: str | Path, create: bool = True) -> SampleStore:
    """Opens a database, by default making one where there is none. Raises LutError."""
    return SampleStore(path_or_url, create)


def _sample(row: Row[tuple[object, ...]]) -> AccuracySample:
    values = dict(row._mapping)
    del values["id"]
    return AccuracySample(**values)
