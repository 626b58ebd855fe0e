"""What the dashboard draws: coverage of a space, columns of one operator type, networks beside predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lut_db.records import Calibration, Lowering, Measurement, NetworkMeasurement, Quarantined, Target
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.graphfile import graph_to_json
from ops_catalog.spec import Graph, NativeOp
from search.spaces import space_named
from tests.api_service import LAYOUTS, SESSION, TARGET, conv, fill, in_process

MACRO = [op.key for op in space_named("macro").operators()]
THROTTLED, BROKEN = MACRO[3], MACRO[5]
UNTOUCHED = MACRO[10:]
SMALL = replace(TARGET, engine_version="9.9")
"""A target with a part of the space ``macro``."""
LARGE = replace(TARGET, engine_version="9.8")
"""A target with all of it, whole networks and a calibration."""


def latency_ns(key: str) -> int:
    return 1000 + 10 * len(key)


def measure(store: LutStore, target: Target, keys: list[str], batch: str) -> None:
    """Adds measurements, one of which is doubted, to a target of an engine that runs what it is given."""
    store.put_target(target)
    lowerings = [Lowering(key, "*", (key,), "plain", ("plain",) * len(ops.load_op(key).inputs)) for key in keys]
    store.put_lowerings(target, lowerings, [NativeOp(key, 64) for key in keys])
    doubts = {THROTTLED: ("throttled",)}
    rows = [
        Measurement(key, ((latency_ns(key),) * 4,) * 3, (0.0, 0.1, 0.2), 1, 0.0, 0, doubts.get(key, ())) for key in keys
    ]
    store.append(target, SESSION, rows, batch)


def whole(graph: Graph, ns: int) -> NetworkMeasurement:
    return NetworkMeasurement(graph.name, "macro", graph_to_json(graph), ((ns,) * 4,), (0.0,), 1, 0.0)


def networks() -> list[Graph]:
    space = space_named("macro")
    return [space.decode(genome) for genome in ((1, 1, 2, 1, 1, 1, 2, 0), (0, 2, 1, 1, 2, 0, 1, 1))]


def total_ns(graph: Graph) -> int:
    return sum(latency_ns(op.key) for op in graph.operators)


def put_networks(store: LutStore) -> None:
    """The first network calibrates, the second is unseen and takes a tenth longer than predicted."""
    known, unseen = networks()
    store.put_calibration(LARGE, Calibration("macro", 2.0, 0.0, 0.0, (known.name,), (0.0,), created_at=1.0))
    rows = [whole(known, 2 * total_ns(known)), whole(unseen, round(2.2 * total_ns(unseen)))]
    store.append_network(LARGE, SESSION, rows, "networks-1")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explore") / "lut.db"
    fill(path)
    with open_store(path) as store:
        measure(store, SMALL, [key for key in MACRO if key not in (BROKEN, *UNTOUCHED)], "small")
        store.quarantine(SMALL, [Quarantined(BROKEN, "crash", "the engine ended with signal 11")])
        measure(store, LARGE, MACRO, "large")
        put_networks(store)
    return path


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with in_process(db) as client:
        yield client


def get(client: TestClient, target: Target, path: str, **query: Any) -> Any:
    answer = client.get(f"/v1/targets/{target.id}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_coverage_tells_for_each_operator_of_a_space_what_is_known(client: TestClient) -> None:
    found = get(client, SMALL, "coverage", space="macro")
    sums = {state: sum(row[state] for row in found["types"]) for state in found["types"][0] if state != "type"}
    assert sums == {
        "operators": len(MACRO), "measured": 8, "doubtful": 1, "quarantined": 1, "missing": len(UNTOUCHED),
    }  # fmt: skip
    assert found["doubtful"] == [{"key": THROTTLED, "why": "throttled"}]
    assert found["quarantined"] == [{"key": BROKEN, "why": "crash: the engine ended with signal 11"}]
    assert [row["key"] for row in found["missing"]] == UNTOUCHED


def test_coverage_names_the_command_that_measures_the_rest(client: TestClient) -> None:
    assert "chamnet profile --device local-cpu" in get(client, SMALL, "coverage", space="macro")["measure"]
    assert "--space macro" in get(client, SMALL, "coverage", space="macro")["measure"]
    assert get(client, LARGE, "coverage", space="macro")["measure"] == ""


def test_an_operator_that_becomes_something_quarantined_counts_as_that(client: TestClient, db: Path) -> None:
    key = UNTOUCHED[0]
    with open_store(db) as store:
        store.put_lowerings(
            LAYOUTS, [Lowering(key, "plain", ("Bad(1)",), "plain", ("plain",))], [NativeOp("Bad(1)", 0)]
        )
        store.quarantine(LAYOUTS, [Quarantined("Bad(1)", "hang", "no answer")])
    found = get(client, LAYOUTS, "coverage", space="macro")
    assert found["quarantined"] == [{"key": key, "why": "hang: no answer"}]


def test_an_unknown_space_is_not_found_and_the_known_ones_are_named(client: TestClient) -> None:
    answer = client.get(f"/v1/targets/{SMALL.id}/coverage", params={"space": "../etc"})
    assert answer.status_code == 404
    assert "mbconv" in answer.json()["known"]


@pytest.mark.parametrize("path", ["coverage?space=macro", "columns?type=conv2d", "validation"])
def test_what_is_known_already_is_not_sent_again_until_the_table_changes(
    client: TestClient, db: Path, path: str
) -> None:
    address = f"/v1/targets/{TARGET.id}/{path}"
    tag = client.get(address).headers["etag"]
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    with open_store(db) as store:
        rows = [Measurement(conv(8), ((5000,) * 4,) * 3, (0.0, 0.1, 0.2), 1, 0.0)]
        store.append(TARGET, SESSION, rows, f"again-{path[:5]}")
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 200


def test_types_are_listed_with_how_many_operators_are_known(client: TestClient) -> None:
    types = {row["type"]: row["operators"] for row in get(client, LARGE, "types")["types"]}
    assert types == {name: sum(key.startswith(f"{name}(") for key in MACRO) for name in types}
    assert sum(types.values()) == len(MACRO)


def test_columns_hold_what_the_keys_say(client: TestClient) -> None:
    found = get(client, LARGE, "columns", type="depthwise_conv2d", along="height")
    assert found["known"] == found["fitting"] == len(found["key"])
    for place, key in enumerate(found["key"]):
        op = ops.load_op(key)
        channels, height, width = op.inputs[0].shape[1:]
        told = [found[name][place] for name in ("in_channels", "out_channels", "height", "width", "macs", "bytes")]
        assert told == [channels, ops.output(op).shape[1], height, width, ops.macs(op), ops.bytes_moved(op)]
        assert found["kernel"][place] == ops.attributes(op)["kernel"][0]
        assert found["latency_ns"][place] == latency_ns(key)


def test_columns_of_one_line_differ_along_the_axis_only(client: TestClient) -> None:
    found = get(client, TARGET, "columns", type="conv2d", along="in_channels")
    assert set(found["line"]) == {0}
    assert len(set(found["in_channels"])) == len(found["key"]) == 12
    across = get(client, TARGET, "columns", type="conv2d", along="out_channels")
    assert len(set(across["line"])) == 12


def test_columns_can_be_fixed_and_limited(client: TestClient) -> None:
    fixed = get(client, TARGET, "columns", type="conv2d", in_channels=16)
    assert fixed["key"] == [conv(16)]
    assert (fixed["known"], fixed["fitting"]) == (12, 1)
    limited = get(client, TARGET, "columns", type="conv2d", limit=5)
    assert (len(limited["key"]), limited["fitting"]) == (5, 12)
    facets = {row["axis"]: row["values"] for row in limited["facets"]}
    assert facets["in_channels"] == list(range(8, 104, 8))


def test_limited_columns_keep_the_longest_lines(client: TestClient) -> None:
    found = get(client, LARGE, "columns", type="conv2d", along="out_channels")
    longest = max(found["line"].count(line) for line in found["line"])
    few = get(client, LARGE, "columns", type="conv2d", along="out_channels", limit=longest)
    assert set(few["line"]) == {0}


def test_an_operator_of_an_engine_with_layouts_costs_what_it_becomes_where_it_is_cheapest(client: TestClient) -> None:
    found = get(client, LAYOUTS, "columns", type="conv2d")
    entry = get(client, LAYOUTS, "entries", key=conv(8))
    assert found["key"] == [conv(8)]
    assert found["latency_ns"] == [min(price["latency_ns"] for price in entry["contexts"])]


def test_an_unknown_type_is_not_found_and_the_known_ones_are_named(client: TestClient) -> None:
    answer = client.get(f"/v1/targets/{LAYOUTS.id}/columns", params={"type": "softmax"})
    assert answer.status_code == 404
    assert "conv2d" in answer.json()["known"]


def test_a_type_of_any_letters_is_answered_in_words(client: TestClient) -> None:
    address = f"/v1/targets/{TARGET.id}/columns"
    for name in ("a\r\nb", "\u6f22", '"'):
        assert client.get(address, params={"type": name}).status_code == 404
        seen = client.get(address, params={"type": name}, headers={"If-None-Match": "*"})
        assert seen.status_code in (304, 404)


def test_networks_stand_beside_what_the_calibrated_table_says(client: TestClient) -> None:
    known, unseen = networks()
    rows = {row["name"]: row for row in get(client, LARGE, "validation")["networks"]}
    assert [rows[graph.name]["role"] for graph in (known, unseen)] == ["calibration", "unseen"]
    for graph in (known, unseen):
        assert rows[graph.name]["sum_ns"] == pytest.approx(total_ns(graph))
        assert rows[graph.name]["predicted_ns"] == pytest.approx(2 * total_ns(graph))
    assert rows[known.name]["error"] == pytest.approx(0)
    assert rows[unseen.name]["error"] == pytest.approx(1 / 1.1 - 1, abs=1e-5)


def test_errors_are_told_apart_by_what_the_calibration_has_seen(client: TestClient) -> None:
    rows = {(row["role"], row["method"]): row for row in get(client, LARGE, "validation")["errors"]}
    assert rows["unseen", "calibrated"]["mape"] == pytest.approx(100 / 11, abs=1e-3)
    assert rows["calibration", "calibrated"]["mape"] == pytest.approx(0, abs=1e-9)
    assert rows["calibration", "sum"]["mape"] == pytest.approx(50)
    assert rows["unseen", "sum"]["networks"] == 1
    assert rows["unseen", "sum"]["spearman"] is None


def test_a_network_that_lacks_operators_has_no_prediction(client: TestClient, db: Path) -> None:
    graph = networks()[0]
    with open_store(db) as store:
        store.append_network(SMALL, SESSION, [whole(graph, 5_000_000)], "networks-2")
    (row,) = get(client, SMALL, "validation")["networks"]
    assert row["predicted_ns"] is None
    assert row["error"] is None
    assert row["missing"] == len({op for op in graph.operators if op.key in (BROKEN, *UNTOUCHED)})


def test_turns_without_a_clean_sample_do_not_count(client: TestClient, db: Path) -> None:
    graph, other = networks()
    with open_store(db) as store:
        interrupted = replace(whole(graph, 1), bursts_ns=((),))
        rows = [whole(graph, 7_000_000), interrupted, replace(whole(other, 1), bursts_ns=((),))]
        store.append_network(TARGET, SESSION, rows, "networks-3")
    (row,) = get(client, TARGET, "validation")["networks"]
    assert (row["name"], row["measured_ns"], row["turns"]) == (graph.name, 7_000_000, 1)


def test_a_table_without_networks_says_so(client: TestClient) -> None:
    found = get(client, LAYOUTS, "validation")
    assert (found["networks"], found["errors"]) == ([], [])
