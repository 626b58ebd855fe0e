"""Many searches as one: every space, target and limit, in one process or several, as a single search would answer."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lut_db.records import Device, Measurement, Session
from lut_db.samples import open_samples
from lut_db.store import open_store
from ops_catalog.spec import NativeOp
from search.evolution import Effort
from search.limits import Limit
from search.matrix import best_within
from search.run import Question, search
from search.spaces import space_named
from tests.test_cli import run
from tests.test_search import TARGET, anywhere, entries_of, samples_of

OTHER = replace(TARGET, threads=2)
POOR = replace(TARGET, threads=3)
EFFORT = ("--population", "60", "--generations", "8")
LIMITS = "4:12:5"


@pytest.fixture
def db(tmp_path: Path) -> str:
    """The space macro on two targets, of which one takes twice as long, and on one that lacks nearly everything."""
    path, space = str(tmp_path / "lut.db"), space_named("macro")
    entries = entries_of(space)
    with open_store(path) as store, open_samples(path) as samples:
        store.put_device(Device("bench", "none"))
        for target, factor in ((TARGET, 10), (OTHER, 20), (POOR, 10)):
            store.put_target(target)
            store.put_lowerings(target, list(anywhere(entries).values()), [NativeOp(e.key, 0) for e in entries])
            some = entries[:3] if target == POOR else entries
            rows = [Measurement(e.key, ((int(e.latency_ns * factor),) * 6,), (0.0,), 10, 0.0) for e in some]
            looks = ((0.0, 1000), (7.5, 1000))
            store.append(target, Session(0.0, "1", "1", {}, {}, looks), rows, f"batch {target.threads}")
        samples.put([replace(sample, cost_s=2.0) for sample in samples_of(space)])
    return path


def matrix(capfd: pytest.CaptureFixture[str], db: str, *more: str) -> tuple[int, Any]:
    asked = ("search", "--space", "macro", "--limits", LIMITS, *EFFORT, "--db", db, "--json", *more)
    status, out, err = run(capfd, *asked)
    assert out, err
    return status, json.loads(out)


def test_a_matrix_answers_as_single_searches_do(capfd: pytest.CaptureFixture[str], db: str) -> None:
    status, told = matrix(capfd, db, "--targets", "all")
    assert status == 3
    space, rows = space_named("macro"), {row["target_name"]: row for row in told["rows"]}
    assert "no latency for" in rows[POOR.name]["reason"]
    assert rows[POOR.name]["best"] == [{"limit_ms": limit} for limit in (4.0, 6.0, 8.0, 10.0, 12.0)]
    sweep = tuple(np.linspace(4, 12, 5))
    for target in (TARGET, OTHER):
        question = Question(space, (target,), (Limit("latency_ms", 12.0),), sweep, effort=Effort(60, 8))
        with open_store(db) as store:
            alone = search(store, samples_of(space), question)
        best = [best_within(alone.candidates, limit) for limit in sweep]
        genomes = [None if one is None else list(one.genome) for one in best]
        assert [cell.get("genome") for cell in rows[target.name]["best"]] == genomes
        assert any(genomes)
        for limit, cell in zip(sweep, rows[target.name]["best"], strict=True):
            assert cell.get("latency_ms", 0.0) <= limit


def test_the_bill_tells_measuring_training_and_searching_apart(capfd: pytest.CaptureFixture[str], db: str) -> None:
    status, told = matrix(capfd, db, "--targets", f"{TARGET.name},{OTHER.name}")
    bill = told["bill"]
    assert status == 0
    assert bill["measuring_s"] == {TARGET.name: 7.5, OTHER.name: 7.5}
    assert bill["training_s"] == {"macro": 120.0}
    assert bill["queries"] == 10
    assert [row["fitting_s"] > 0 for row in told["rows"]] == [True, False]


def test_several_processes_find_the_same(capfd: pytest.CaptureFixture[str], db: str, tmp_path: Path) -> None:
    asked = ("--targets", f"{TARGET.name},{OTHER.name}")
    _, alone = matrix(capfd, db, *asked)
    _, together = matrix(capfd, db, *asked, "--jobs", "2", "--out", str(tmp_path / "out"))
    assert [row["best"] for row in together["rows"]] == [row["best"] for row in alone["rows"]]
    with (tmp_path / "out/matrix.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["limit_ms"] for line in lines[:5]] == ["4.0000", "6.0000", "8.0000", "10.0000", "12.0000"]
    assert len(lines) == 10
    page = (tmp_path / "out/fronts.html").read_text()
    assert page.count("<svg") == 1
    assert TARGET.name in page


def test_a_person_sees_accuracies_and_costs(capfd: pytest.CaptureFixture[str], db: str) -> None:
    status, out, _ = run(
        capfd, "search", "--space", "macro", "--targets", "all", "--limits", LIMITS, *EFFORT, "--db", db
    )
    assert status == 3
    assert "what 15 queries cost" in out
    assert "not searched" in out


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (("--targets", "all"), 2, "--targets must come with --limits"),
        (("--targets", "pixel", "--limits", LIMITS), 1, "--targets must be all, or name tables, but got 'pixel'"),
    ],
)
def test_a_matrix_of_nothing_is_refused(
    capfd: pytest.CaptureFixture[str], db: str, asked: tuple[str, ...], status: int, message: str
) -> None:
    found, _, err = run(capfd, "search", "--space", "macro", *asked, "--db", db)
    assert (found, message in err) == (status, True), err
