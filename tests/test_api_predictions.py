"""Prices over HTTP: what is known, guessed and missing, of networks, genomes and lists, on one target or several."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from host.api.pricing import MOST_DISTINCT
from host.devices import choose_cpus, find_unit
from host.predict import open_predictor
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.records import Measurement
from lut_db.store import open_store
from ops_catalog.networks import build_network
from search.spaces import space_named
from tests.api_service import LAYOUTS, RELU, SESSION, TARGET, conv, fill, in_process, latency_of

KNOWN = tuple(f"mobilenet-v2-{width}-{size}" for width in ("0.35", "0.5", "1.0") for size in ("96", "128"))
BETWEEN = "mobilenet-v2-0.75-96"
FAKE = "fake"
MACRO = [1, 1, 2, 1, 1, 1, 2, 0]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small tables of known numbers, and one of every operator of a few networks on the engine of exact time."""
    path = tmp_path_factory.mktemp("predictions") / "lut.db"
    fill(path)
    with open_store(path) as store:
        graphs = tuple(build_network(name) for name in KNOWN)
        profile(store, find_unit("local-cpu"), Setting("fake", choose_cpus(1)), Workload(graphs=graphs), Progress())
    return path


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with in_process(db) as client:
        yield client


def ask(client: TestClient, status: int = 200, **body: Any) -> Any:
    answer = client.post("/v1/predictions", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_network_costs_what_the_library_says(client: TestClient, db: Path) -> None:
    found = ask(client, target=FAKE, network=KNOWN[0])
    expected = open_predictor(db, FAKE).predict(build_network(KNOWN[0]))
    assert found["latency_ns"] == pytest.approx(expected.latency_ms * 1e6)
    assert [found["low_ns"], found["high_ns"]] == pytest.approx([expected.low_ms * 1e6, expected.high_ms * 1e6])
    assert [row["key"] for row in found["operators"]] == [cost.op.key for cost in expected.operators]
    assert sum(row["latency_ns"] for row in found["operators"]) == pytest.approx(found["latency_ns"])
    assert sum(row["share"] for row in found["operators"]) == pytest.approx(1)


def test_rows_of_an_engine_of_exact_time_are_labelled_so(client: TestClient) -> None:
    found = ask(client, target=FAKE, network=KNOWN[0])
    assert {row["label"] for row in found["operators"]} == {"simulated"}
    assert found["shares"] == {"simulated": pytest.approx(1)}


def test_a_network_between_the_measured_ones_is_interpolated(client: TestClient) -> None:
    found = ask(client, target=FAKE, network=BETWEEN)
    assert found["shares"]["interpolated"] > 0.2
    assert found["low_ns"] < found["latency_ns"] < found["high_ns"]


def test_a_genome_costs_what_its_network_does(client: TestClient, db: Path) -> None:
    as_text = ask(client, 422, target=FAKE, space="macro", genome="-".join(map(str, MACRO)), estimate=True)
    as_list = ask(client, 422, target=FAKE, space="macro", genome=MACRO, estimate=True)
    expected = open_predictor(db, FAKE, estimate=True).predict(space_named("macro").decode(MACRO))
    assert as_text == as_list
    assert as_list["missing"] == [op.key for op in expected.missing]
    assert as_list["partial"]["latency_ns"] == pytest.approx(expected.latency_ms * 1e6)


def test_operators_count_as_often_as_they_come(client: TestClient) -> None:
    found = ask(client, target=TARGET.id, operators=[RELU, {"key": conv(8), "count": 3}, RELU])
    total = 2 * latency_of(RELU) + 3 * latency_of(conv(8))
    assert {row["key"]: (row["count"], row["latency_ns"]) for row in found["operators"]} == {
        RELU: (2, 2 * latency_of(RELU)),
        conv(8): (3, 3 * latency_of(conv(8))),
    }
    assert found["latency_ns"] == pytest.approx(1.02 * total + 5 * 40)
    assert found["calibration"] == {"family": "macro", "networks": 2, "spread": pytest.approx(0.0141, abs=1e-4)}


def test_a_list_has_the_cheapest_measured_contexts(client: TestClient) -> None:
    found = ask(client, target=LAYOUTS.id, operators=[conv(8)])
    assert found["latency_ns"] == pytest.approx(latency_of("Conv(plain 1x8x14x14)"))
    assert found["calibration"] is None
    assert "cheapest" in found["notes"][0]


def test_several_targets_answer_in_their_order(client: TestClient) -> None:
    both = ask(client, targets=[LAYOUTS.name, TARGET.id], operators=[conv(8)])["predictions"]
    assert [row["target"] for row in both] == [LAYOUTS.name, TARGET.name]
    assert both[0] == ask(client, target=LAYOUTS.id, operators=[conv(8)])


def test_what_has_no_price_is_told_with_what_has(client: TestClient) -> None:
    gelu = "gelu(1x8x8x8;float32)"
    problem = ask(client, 422, target=TARGET.id, operators=[RELU, gelu])
    assert problem["type"] == "urn:chamnet:problem:missing-operators"
    assert problem["missing"] == [gelu]
    assert problem["measure_with"].startswith("measure them with 'chamnet profile --device local-cpu --engine litert")
    rows = {row["key"]: row for row in problem["partial"]["operators"]}
    assert rows[RELU]["latency_ns"] == latency_of(RELU)
    assert (rows[gelu]["latency_ns"], rows[gelu]["label"], rows[gelu]["share"]) == (None, "missing", None)


def test_nothing_known_is_no_latency_rather_than_none_at_all(client: TestClient) -> None:
    partial = ask(client, 422, target=TARGET.id, operators=["gelu(1x8x8x8;float32)"])["partial"]
    assert [partial[name] for name in ("latency_ns", "low_ns", "high_ns", "energy_uj")] == [None] * 4


def test_one_of_several_targets_may_lack_operators(client: TestClient) -> None:
    problem = ask(client, 422, targets=[TARGET.id, LAYOUTS.id], operators=[RELU])
    assert [row["missing"] for row in problem["partial"]["predictions"]] == [[], [RELU]]
    assert "--engine onnxruntime" in problem["measure_with"]
    assert LAYOUTS.name in problem["detail"]


def test_an_unknown_target_is_answered_with_the_known_ones(client: TestClient) -> None:
    problem = ask(client, 404, target="pixel99", network=KNOWN[0])
    assert {"id": TARGET.id, "name": TARGET.name} in problem["known"]


def test_an_unknown_calibration_is_answered_with_the_known_ones(client: TestClient) -> None:
    problem = ask(client, 422, target=TARGET.id, operators=[RELU], calibration="nothing")
    assert "must be of macro, but got 'nothing'" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"network": KNOWN[0]},
        {"target": FAKE},
        {"target": FAKE, "targets": [FAKE], "network": KNOWN[0]},
        {"target": FAKE, "network": KNOWN[0], "operators": [RELU]},
        {"target": FAKE, "space": "macro"},
        {"target": FAKE, "genome": MACRO},
        {"target": FAKE, "operators": []},
        {"targets": [], "network": KNOWN[0]},
        {"target": FAKE, "network": KNOWN[0], "path": "/etc/passwd"},
        {"target": FAKE, "operators": [{"key": RELU, "count": 0}]},
        {"target": FAKE, "operators": [{"key": RELU, "count": 10_001}]},
    ],
)
def test_a_request_must_ask_one_thing(client: TestClient, body: dict[str, Any]) -> None:
    assert ask(client, 422, **body)["type"] == "urn:chamnet:problem:invalid-request"


@pytest.mark.parametrize(
    "key",
    [
        "relu", "relu(1x8;float32", "warp(1x8;float32)", "relu(1x0;float32)", "relu(1x-8;float32)",
        "relu(1x99999999999;float32)", f"relu({'x'.join(['2147483647'] * 8)};float32)", f"relu(1x{'9' * 1900};float32)",
        f"conv2d(1x3x8x8;kernel=1x1;out_channels={10**30};float32)", "relu(1x8;kernel=3x3;float32)",
        f"depthwise_conv2d(1x3x8x8;kernel={10**12}x{10**12};padding=same;float32)", "conv2d(1x3x8x8;float32)",
        "conv2d(1x3x8x8;kernel=1x1;out_channels=nan;float32)", "conv2d(1x3x8x8;kernel=a;out_channels=8;float32)",
        "relu(scalar;float32)", "softmax(1x8;axis=1e999;float32)", "x" * 2001,
    ],
)  # fmt: skip
def test_an_operator_that_cannot_be_is_refused(client: TestClient, key: str) -> None:
    for target in (FAKE, TARGET.id, LAYOUTS.id):
        assert client.post("/v1/predictions", json={"target": target, "operators": [key]}).status_code == 422


@pytest.mark.parametrize("name", ["macro.toml", "../macro", "/etc/passwd", "nowhere"])
def test_a_space_is_a_name_and_never_a_file(client: TestClient, name: str) -> None:
    assert ask(client, 404, target=FAKE, space=name, genome=[1])["type"].endswith("unknown-space")


def test_a_genome_must_be_of_its_space(client: TestClient) -> None:
    assert "must have 8 genes" in ask(client, 422, target=FAKE, space="macro", genome=[1, 2])["detail"]


def test_more_operators_than_a_batch_are_refused(client: TestClient) -> None:
    asked = [{"key": RELU, "count": 9_999}, {"key": conv(8), "count": 2}]
    assert ask(client, 422, target=TARGET.id, operators=asked)["type"].endswith("batch-too-large")


def test_more_different_operators_than_can_be_weighed_together_are_refused(client: TestClient) -> None:
    keys = [f"relu(1x8x4x{size};float32)" for size in range(1, MOST_DISTINCT + 2)]
    assert ask(client, 422, target=TARGET.id, operators=keys)["type"].endswith("too-many-operators")


def test_callers_at_the_same_time_take_nothing_from_each_other(db: Path) -> None:
    widths = [f"mobilenet-v2-{0.36 + step / 100:.2f}-128" for step in range(10)]
    with in_process(db) as client, ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda name: ask(client, target=FAKE, network=name)["latency_ns"], widths))
    predictor = open_predictor(db, FAKE)
    expected = [predictor.predict(build_network(name)).latency_ms * 1e6 for name in widths]
    assert together == pytest.approx(expected, rel=1e-6)


def test_a_price_is_that_of_the_table_as_it_is_now(tmp_path: Path) -> None:
    path, key = tmp_path / "lut.db", conv(8)
    fill(path)
    with in_process(path) as client:
        before = ask(client, target=LAYOUTS.id, operators=[key])["latency_ns"]
        with open_store(path) as store:
            quicker = Measurement("Conv(plain 1x8x14x14)", ((10,) * 4, (10,) * 4), (0.0, 0.25), 1, 0.0)
            store.append(LAYOUTS, SESSION, [quicker] * 3, "batch-3")
        assert ask(client, target=LAYOUTS.id, operators=[key])["latency_ns"] < before
