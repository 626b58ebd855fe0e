"""Many searches as one: every space, target and limit, in one process or several, as a single search would answer."""

from __future__ import annotations

import csv
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from host import matrix as host_matrix
from host import show
from host.errors import HostError, UsageError
from host.matrix import run_matrix, show_matrix
from host.spread import anywhere as from_anywhere
from host.spread import spread, work_there
from lut_db.merges import Portion
from lut_db.records import MERGED, Device, LutEntry, Measurement, Session, Target
from lut_db.samples import open_samples
from lut_db.store import LutStore, open_store
from ops_catalog.spec import NativeOp
from search import matrix as search_matrix
from search.evolution import Effort
from search.limits import Limit
from search.matrix import Bill, Found, Row, best_within, search_row
from search.run import Question, search
from search.spaces import space_named
from tests.test_cli import run
from tests.test_search import TARGET, anywhere, entries_of, samples_of

OTHER = replace(TARGET, threads=2)
POOR = replace(TARGET, threads=3)
SPACE = space_named("macro")
ENTRIES = entries_of(SPACE)
EFFORT = ("--population", "60", "--generations", "8")
LIMITS = "4:12:5"


@pytest.fixture
def db(tmp_path: Path) -> str:
    """The space macro on two targets, of which one takes twice as long, and on one that lacks nearly everything."""
    path = str(tmp_path / "lut.db")
    with open_store(path) as store, open_samples(path) as samples:
        put(store, TARGET, ENTRIES, 10)
        put(store, OTHER, ENTRIES, 20)
        put(store, POOR, ENTRIES[:3], 10)
        samples.put([replace(sample, cost_s=2.0) for sample in samples_of(SPACE)])
    return path


def put(store: LutStore, target: Target, measured: Sequence[LutEntry], factor: int) -> None:
    store.put_device(Device(target.device, "none"))
    store.put_target(target)
    store.put_lowerings(target, list(anywhere(ENTRIES).values()), [NativeOp(e.key, 0) for e in ENTRIES])
    rows = [Measurement(e.key, ((int(e.latency_ns * factor),) * 6,), (0.0,), 10, 0.0) for e in measured]
    looks = ((0.0, 1000), (7.5, 1000))
    store.append(target, Session(0.0, "1", "1", {}, {}, looks), rows, f"batch {target.device} {target.threads}")


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


def test_only_trainings_of_the_data_set_that_is_asked_for_are_billed(
    capfd: pytest.CaptureFixture[str], db: str
) -> None:
    with open_samples(db) as samples:
        others = [replace(sample, dataset="other", cost_s=1000.0) for sample in samples_of(SPACE)]
        samples.put(
            [*others, replace(others[0], dataset="made-up", recipe="failed", accuracy_percent=None, cost_s=5.0)]
        )
    status, told = matrix(capfd, db, "--targets", TARGET.name, "--dataset", "made-up")
    assert (status, told["bill"]["training_s"]) == (0, {"macro": 125.0})


def test_a_data_set_of_which_no_network_was_trained_is_not_billed(capfd: pytest.CaptureFixture[str], db: str) -> None:
    with open_samples(db) as samples:
        samples.put([replace(samples_of(SPACE)[0], dataset="other", accuracy_percent=None, cost_s=5.0)])
    _, told = matrix(capfd, db, "--targets", TARGET.name)
    assert told["bill"]["training_s"] == {"macro": 120.0}


def test_a_space_in_two_batches_is_trained_once(db: str) -> None:
    like = Row(db, db, "", "", (5.0, 6.0), effort=Effort(60, 2))
    _, bill = run_matrix(like, ["macro", "macro@b2"], TARGET.name, 1, "", lambda *told: None)
    assert bill.training_s == {"macro": 120.0}


UNITS = tuple(replace(TARGET, device=f"acme@{name}") for name in ("one", "two", "three"))
WHOLE = replace(TARGET, device="acme@phone", options=(MERGED,))


@pytest.fixture
def fleet(db: str) -> str:
    """Three units of which two are merged."""
    with open_store(db) as store:
        for unit in UNITS:
            put(store, unit, ENTRIES, 10)
        store.put_device(Device(WHOLE.device, "none"))
        store.put_target(WHOLE)
        keys = {entry.key for entry in ENTRIES}
        assert store.merges.replace(WHOLE, [Portion(unit, keys, 1.0, {"unit": unit.device}) for unit in UNITS[:2]])
    return db


@pytest.mark.parametrize("asked", ["all", "acme", f"acme,{UNITS[2].name}"])
def test_a_merged_table_stands_for_its_units_and_is_billed_once(
    capfd: pytest.CaptureFixture[str], fleet: str, asked: str
) -> None:
    _, told = matrix(capfd, fleet, "--targets", asked)
    names = {row["target_name"] for row in told["rows"] if row["target_name"].startswith("acme")}
    assert names == {WHOLE.name, UNITS[2].name}
    measuring = told["bill"]["measuring_s"]
    assert {name: measuring[name] for name in names} == {WHOLE.name: 15.0, UNITS[2].name: 7.5}


def test_a_units_table_beside_the_merged_one_that_holds_it_costs_no_more(
    capfd: pytest.CaptureFixture[str], fleet: str
) -> None:
    _, told = matrix(capfd, fleet, "--targets", f"{WHOLE.name},{UNITS[0].name},{UNITS[2].name}")
    assert [row["target_name"] for row in told["rows"]] == [WHOLE.name, UNITS[0].name, UNITS[2].name]
    assert told["bill"]["measuring_s"] == {WHOLE.name: 15.0, UNITS[2].name: 7.5}


def test_a_units_table_is_searched_where_it_alone_is_named(capfd: pytest.CaptureFixture[str], fleet: str) -> None:
    _, told = matrix(capfd, fleet, "--targets", "acme@one")
    assert told["bill"]["measuring_s"] == {UNITS[0].name: 7.5}


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


def test_names_and_reasons_are_shown_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither as markup of the terminal, nor as that of a page."""
    row = Found("a[b]", "", "[red]phone", (1.0, 2.0), (None, None), "<x> & [y] lack 'it'")
    show_matrix([row], Bill({"[red]phone": 1.0}, {"a[b]": None}, 0.0, 0.0, 0.0, 2))
    out = capfd.readouterr().out
    assert "not searched a[b] on [red]phone: <x> & [y] lack 'it'" in out
    assert out.count("[red]phone") == 3
    assert "training networks of a[b]" in out


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (5, 5), (8, 8), (100, 8)])
def test_limits_are_shown_from_the_first_to_the_last(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, columns: int
) -> None:
    limits = tuple(map(float, range(1, count + 1)))
    row = Found("macro", "", "bench", limits, (None,) * count)
    monkeypatch.setattr(show, "output", Console(width=200))
    show_matrix([row], Bill({}, {}, 0.0, 0.0, 0.0, count))
    heads = re.findall(r"(\d+) ms", capfd.readouterr().out)
    assert (len(heads), heads[0], heads[-1]) == (columns, "1", str(count))


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (("--address", "auto"), 2, "--address must come with --targets"),
        (("--targets", "all"), 2, "--targets must come with --limits"),
        (("--targets", "pixel", "--limits", LIMITS), 1, "--targets must be all, or name tables, but got 'pixel'"),
    ],
)
def test_a_matrix_of_nothing_is_refused(
    capfd: pytest.CaptureFixture[str], db: str, asked: tuple[str, ...], status: int, message: str
) -> None:
    found, _, err = run(capfd, "search", "--space", "macro", *asked, "--db", db)
    assert (found, message in err) == (status, True), err


# On a Ray cluster.


def test_a_row_for_other_hosts_names_its_files_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, server = str(tmp_path), "postgresql+psycopg://me:secret@db.lan/lut"
    row = from_anywhere(Row("lut.db", server, "own.toml@b4", "key", (1.0,)))
    assert row == Row(f"sqlite:///{here}/lut.db", server, f"{here}/own.toml@b4", "key", (1.0,))
    assert from_anywhere(row) == row
    with pytest.raises(UsageError, match="must be a file or a server, but got 'sqlite://'"):
        from_anywhere(Row("sqlite://", server, "macro", "key", (1.0,)))


@dataclass
class Here:
    """What is asked of Ray, done at once in this process."""

    answers: list[Any] = field(default_factory=list)
    exceptions = SimpleNamespace(RayError=RuntimeError)

    def remote(self, work: Callable[..., Any]) -> Any:
        return SimpleNamespace(remote=lambda *given: self._put(work(*given)))

    def wait(self, waiting: list[int]) -> tuple[list[int], list[int]]:
        return waiting[-1:], waiting[:-1]

    def get(self, number: int) -> Any:
        return self.answers[number]

    def _put(self, answer: Any) -> int:
        self.answers.append(answer)
        return len(self.answers) - 1


OWN = """
resolution = 16
classes = 3
[stem]
channels = 8
[[stage]]
block = "inverted_residual"
channels = [8, 12]
expansion = [1, 2]
depth = [1, 2]
stride = 2
"""


def test_a_cluster_is_told_where_a_space_lies_and_a_person_what_was_typed(
    capfd: pytest.CaptureFixture[str], db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def searched(row: Row) -> Found:
        asked.append(row.space)
        return Found(row.space, row.target, TARGET.name, row.limits_ms, (None,) * len(row.limits_ms), "no network")

    folder = Path(db).parent
    (folder / "own.toml").write_text(OWN)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "ray", Here())  # type: ignore[arg-type]
    monkeypatch.setattr(host_matrix, "connected", lambda address: nullcontext())
    monkeypatch.setattr(host_matrix, "room", lambda *needed: 1)
    monkeypatch.setattr(search_matrix, "search_row", searched)
    typed = ("own.toml", "own.toml@b2")
    _, out, err = run(
        capfd, "search", "--space", ",".join(typed), "--targets", TARGET.name, "--limits", LIMITS, "--db", "lut.db",
        "--address", "auto", "--out", "out", "--json",
    )  # fmt: skip
    assert asked == [f"{folder}/{space}" for space in typed], err
    assert [row["space"] for row in json.loads(out)["rows"]] == list(typed)
    with (folder / "out/matrix.csv").open() as file:
        assert list(dict.fromkeys(line["space"] for line in csv.DictReader(file))) == list(typed)
    assert str(folder) not in (folder / "out/fronts.html").read_text()


@pytest.mark.parametrize("lacking", ["db", "samples_db", "space"])
def test_a_host_that_lacks_a_file_says_so(db: str, tmp_path: Path, lacking: str) -> None:
    row = replace(Row(db, db, "macro", TARGET.key, (5.0, 6.0)), **{lacking: str(tmp_path / "nothing.toml")})  # type: ignore[arg-type]
    with pytest.raises(
        HostError, match=rf"nothing.toml must be on every host of the cluster, but {platform.node()} lacks"
    ):
        work_there(search_row, row)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install chamnet[fleet]")
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_cluster_finds_the_same_by_a_path_from_here(
    cluster: None, capfd: pytest.CaptureFixture[str], db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--targets", f"{TARGET.name},{POOR.name}")
    _, alone = matrix(capfd, db, *asked)
    monkeypatch.chdir(Path(db).parent)
    status, beside = matrix(capfd, Path(db).name, *asked, "--address", "auto")
    assert status == 3
    assert [row["best"] for row in beside["rows"]] == [row["best"] for row in alone["rows"]]
    assert beside["bill"]["queries"] == 10


def test_a_host_that_cannot_search_ends_it_with_one_line(cluster: None, db: str, tmp_path: Path) -> None:
    row = Row(str(tmp_path / "gone.db"), db, "macro", TARGET.key, (5.0, 6.0))
    with pytest.raises(HostError, match=r"^.*gone.db must be on every host of the cluster") as caught:
        list(spread(search_row, [row]))
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_there_is_told_at_once(
    capfd: pytest.CaptureFixture[str], db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install chamnet[fleet]")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    asked = ("--space", "macro", "--targets", TARGET.name, "--limits", LIMITS, "--address", "127.0.0.1:1")
    status, _, err = run(capfd, "search", *asked, "--db", db)
    assert (status, "a Ray cluster must answer at 127.0.0.1:1" in err) == (1, True)
