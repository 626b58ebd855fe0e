"""Validation end to end on the fake engine, and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol import Done, Measured, Sampling
from host import quality
from host.bench import Bench, open_bench
from host.calibration import error_metrics, fit, fit_scale, l2_bytes_of, predict
from host.devices import choose_cpus, find_unit
from host.engines import DEVICE_SAMPLING, ENGINES
from host.errors import HostError
from host.report import save_picture, write_report
from host.session import Batch
from host.setting import Progress, Setting
from host.truth import NETWORK_SAMPLING, Turn, measure_networks, truth_of
from host.validate import Question, Validation, sample_networks, validate
from lut_db.lut import Prices
from lut_db.records import Calibration
from lut_db.store import open_store

KEYS = {
    "engine", "dtype", "threads", "space", "networks", "mape", "bias", "spearman", "within_5", "within_10",
    "noise_floor", "uncalibrated_mape", "naive_mape", "flops_mape",
}  # fmt: skip


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    question = Question("chamnet-mobile", 4, ("chamnet-f",), 3)
    with open_store(tmp_path_factory.mktemp("validation") / "lut.db") as store:
        result = validate(store, find_unit("local-cpu"), Setting("fake", choose_cpus(1)), question, Progress())
        target = store.target_named(result.target)
        assert store.calibrations(target)["chamnet-mobile"] == result.calibration
        assert len({row.name for row in store.network_measurements(target)}) == 8
    return result


def test_an_engine_whose_time_is_the_sum_of_its_operators_is_predicted_exactly(validation: Validation) -> None:
    assert validation.metrics.keys() >= KEYS
    assert validation.metrics["mape"] < 0.5
    assert validation.metrics["noise_floor"] < 0.01
    assert validation.metrics["within_5"] == 100


def test_only_unseen_networks_count(validation: Validation) -> None:
    assert [result.role for result in validation.results] == ["calibration"] * 3 + ["test"] * 4 + ["named"]
    assert len({result.graph.name for result in validation.results}) == 8


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.outside.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_report_is_whole_and_loads_nothing(validation: Validation, tmp_path: Path) -> None:
    write_report([validation, validation], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.tags.count("svg") == 2
    assert page.tags.count("details") == 2
    assert "script" not in page.tags
    assert page.outside == []
    assert len(page.ids) == len(set(page.ids))
    assert "chamnet-f" in text


def test_the_picture_is_a_png(validation: Validation, tmp_path: Path) -> None:
    save_picture([validation], tmp_path / "scatter.png")
    assert (tmp_path / "scatter.png").read_bytes().startswith(b"\x89PNG")


def test_samples_are_different_networks_and_the_same_for_a_seed() -> None:
    graphs = sample_networks("chamnet-mobile", 20, seed=3)
    assert len({graph.name for graph in graphs}) == 20
    assert sample_networks("chamnet-mobile", 20, seed=3) == graphs


def made_up(count: int, seed: int = 0) -> list[Prices]:
    """Prices of random networks of 20 to 90 operators."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 90, count)
    return [Prices(rng.uniform(1e4, 4e5, n), np.ones(n), rng.uniform(1e3, 4e6, n)) for n in sizes]


@settings(deadline=None)
@given(st.floats(0.9, 1.3), st.floats(0, 0.02), st.floats(0, 1000), st.sampled_from([None, 1 << 20, 1 << 21]))
def test_a_calibration_finds_the_truth_it_was_made_from(
    scale: float, per_byte: float, per_node: float, cap: int | None
) -> None:
    known, unseen = made_up(8), made_up(50, seed=1)
    truth = Calibration("space", scale, per_byte, per_node, (), (), cap)
    found = fit(known, predict(known, truth), [str(i) for i in range(8)], "space", l2_bytes=1 << 21)
    assert error_metrics(predict(unseen, found), predict(unseen, truth))["mape"] < 1.5


def test_the_second_cache_is_read_from_what_the_agent_found() -> None:
    assert l2_bytes_of({"caches": {"L2 unified": "2048K"}}) == 2 << 20
    assert l2_bytes_of({"caches": {"L2 unified": "1M"}}) == 1 << 20
    assert l2_bytes_of({}) == 1 << 20


def test_metrics_of_known_errors() -> None:
    metrics = error_metrics(np.array([1.0, 2.2, 2.94]), np.array([1.0, 2.0, 3.0]))
    assert metrics["mape"] == pytest.approx(4)
    assert metrics["bias"] == pytest.approx(8 / 3)
    assert metrics["within_5"] == pytest.approx(200 / 3)
    assert metrics["spearman"] == 1
    assert fit_scale(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(2)


def turn(set: int, ns: Sequence[int], sentinel: Sequence[int] = (1000,)) -> Turn:
    """Two calls a sample, of which 5 ns each are not the network's."""
    reply = Measured("0", [[2 * (each + 5) for each in ns]], 2, 5.0, 0, [0], 0)
    return Turn(Batch((reply,), (), Done(sentinel_ns=list(enumerate(sentinel)))), {"0": "net"}, set)


def test_a_networks_latency_is_that_of_its_quiet_turns() -> None:
    turns = [turn(0, [100] * 20), turn(1, [102] * 20), turn(0, [150] * 20, [3000, 1400]), turn(1, [160] * 20)]
    truth = truth_of(["net"], turns)
    assert (truth.latency_ns, truth.sets_ns) == ({"net": 100}, {"net": (100, 102)})
    assert truth.noise_floor(["net"]) == pytest.approx(100 * 2 / 101)
    assert truth.sentinel_ns == 1000


def test_a_turn_may_lack_samples_and_sentinel() -> None:
    truth = truth_of(["net"], [turn(0, [], []), turn(1, [102] * 20, []), turn(0, [100] * 20, [])])
    assert (truth.sets_ns["net"], truth.sentinel_ns) == ((100, 102), None)


def test_a_network_that_was_always_interrupted_is_refused() -> None:
    with pytest.raises(HostError, match="every sample was interrupted; repeat on a quieter machine"):
        truth_of(["net"], [turn(0, [100]), turn(1, [])])


@pytest.mark.parametrize("sampling", [Sampling(), DEVICE_SAMPLING], ids=["host", "device"])
def test_quiet_moments_are_awaited_for_networks_as_long_as_for_operators(
    sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "fake", replace(ENGINES["fake"], sampling=sampling))
    measure, asked = Bench.measure, list[Sampling]()

    def recorded(bench: Bench, files: dict[str, str], seed: int, whole: bool, sampling: Sampling) -> Batch:
        asked.append(sampling)
        return measure(bench, files, seed, whole, sampling)

    monkeypatch.setattr(Bench, "measure", recorded)
    (graph,) = sample_networks("chamnet-mobile", 1, 0)
    setting = Setting("fake", choose_cpus(1))
    with (
        open_store(tmp_path / "a.db") as store,
        open_bench(store, find_unit("local-cpu"), setting, Progress()) as bench,
    ):
        measure_networks(bench, [graph], "chamnet-mobile", Progress(), 2)
    assert asked == [replace(NETWORK_SAMPLING, gate_budget_ns=sampling.gate_budget_ns)] * 2


def measured(*bursts: list[int]) -> Measured:
    return Measured("0", list(bursts), 1, 0.0, 0, [0] * len(bursts), 0)


def test_samples_give_their_doubts_away() -> None:
    assert quality.doubts_of(measured([100] * 20)) == ()
    assert quality.doubts_of(measured([100] * 4)) == ("few-samples",)
    assert quality.doubts_of(measured([100] * 5 + [200] * 20)) == ("noisy",)


def test_conditions_give_their_doubts_away() -> None:
    quiet = Done(
        {"freq_khz": {"cpu0": 2_000_000}, "steal_ticks": 5}, {"freq_khz": {"cpu0": 2_000_000}, "steal_ticks": 5}
    )
    assert quality.batch_doubts(quiet, None, 1.0) == ()
    slowed = Done({"freq_khz": {"cpu0": 2_000_000}}, {"freq_khz": {"cpu0": 1_500_000}})
    assert quality.batch_doubts(slowed, None, 1.0) == ("throttled",)
    stolen = Done({"steal_ticks": 5}, {"steal_ticks": 35})
    assert quality.batch_doubts(stolen, None, 1.0) == ("stolen",)
    drifted = Done({}, {}, [(0, 1300), (1, 1310)])
    assert quality.batch_doubts(drifted, 1000.0, 1.0) == ("drifted",)
