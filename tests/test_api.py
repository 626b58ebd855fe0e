"""What the service answers, held against the store, the files and the searches that it answers from."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from host.api import operators
from host.api.app import create_app
from host.api.phone_watch import PhoneWatch
from host.api.service import Kept, ServiceConfig
from host.lease import new_owner
from host.phones import Phone
from lut_db.errors import StoreUnavailable
from lut_db.exchange import export_target, import_file
from lut_db.samples import open_samples
from lut_db.store import open_store
from ops_catalog.export import export_graph
from search.accuracy import fit_accuracy
from search.cells import Arithmetic, build_cells
from search.samples import training_set
from search.spaces import SPACES, space_named
from tests.api_service import (
    BROKEN,
    CHANNELS,
    KEYS,
    LAYOUTS,
    NATIVES,
    OVERHEAD_NS,
    RELU,
    SESSION,
    TARGET,
    THROTTLED,
    conv,
    fill,
    in_process,
    latency_of,
)

HERE = f"/v1/targets/{TARGET.id}"
THERE = f"/v1/targets/{LAYOUTS.id}"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "lut.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with in_process(db) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TestClient]:
    """A service whose database a test may change."""
    fill(tmp_path / "lut.db")
    with in_process(tmp_path / "lut.db") as found:
        yield found


def problem(answer: Any, status: int, type: str) -> dict[str, Any]:
    """The document of a problem that an answer must be."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"] == (f"urn:chamnet:problem:{type}" if type else "about:blank")
    return body


def test_targets_are_told_with_what_they_hold(client: TestClient) -> None:
    rows = {row["id"]: row for row in client.get("/v1/targets").json()["targets"]}
    assert set(rows) == {TARGET.id, LAYOUTS.id}
    here = rows[TARGET.id]
    assert (here["name"], here["cpus"], here["source"]) == (TARGET.name, [1], "measured")
    assert here["counts"] == {
        "operators": len(KEYS), "measurements": len(KEYS), "doubtful": 1, "quarantined": 1, "networks": 0,
    }  # fmt: skip
    assert here["newest_at"] == SESSION.started_at


@pytest.mark.parametrize(
    "name, found",
    [(TARGET.name, {TARGET.id}), (TARGET.key, {TARGET.id}), ("local-cpu", {TARGET.id, LAYOUTS.id}), ("pixel", set())],
)
def test_targets_are_found_by_name(name: str, found: set[str], client: TestClient) -> None:
    rows = client.get("/v1/targets", params={"name": name}).json()["targets"]
    assert {row["id"] for row in rows} == found


def test_a_target_tells_what_was_learned_about_it(client: TestClient) -> None:
    body = client.get(HERE).json()
    assert body["target"]["id"] == TARGET.id
    assert [(row["family"], row["networks"]) for row in body["calibrations"]] == [("macro", 2)]
    assert body["staircases"] == [{"op_type": "conv2d", "axis": "out", "step": 8}]


@pytest.mark.parametrize("name", ["nowhere", "local-cpu"])
@pytest.mark.parametrize("part", ["", "/operators", "/entries?key=a", "/measurements?key=a", "/table.csv"])
def test_an_unknown_target_lists_the_known(name: str, part: str, client: TestClient) -> None:
    body = problem(client.get(f"/v1/targets/{name}{part}"), 404, "unknown-target")
    assert {row["id"] for row in body["known"]} == {TARGET.id, LAYOUTS.id}


def test_a_target_is_taken_by_a_part_of_its_name(client: TestClient) -> None:
    assert client.get("/v1/targets/litert").json()["target"]["id"] == TARGET.id


def test_a_target_that_came_later_is_found(fresh: TestClient) -> None:
    from dataclasses import replace

    later = replace(TARGET, threads=2)
    assert fresh.get(f"/v1/targets/{later.id}").status_code == 404
    fresh.app.state.service.store.put_target(later)  # type: ignore[attr-defined]
    assert fresh.get(f"/v1/targets/{later.id}").status_code == 200


def test_an_entry_is_that_of_the_table(client: TestClient, db: Path) -> None:
    with open_store(db) as store:
        known = store.lut(TARGET).by_key
    for key in KEYS:
        entry, (price,) = known[key], client.get(f"{HERE}/entries", params={"key": key}).json()["contexts"]
        assert price["latency_ns"] == entry.latency_ns == pytest.approx(latency_of(key))
        assert (price["samples"], price["passes"], price["label"]) == (entry.samples, entry.passes, entry.label)
        assert tuple(price["doubts"]) == entry.doubts
        assert price["natives"] == [key]


def test_an_operator_has_a_price_in_every_context(client: TestClient) -> None:
    contexts = client.get(f"{THERE}/entries", params={"key": conv(8)}).json()["contexts"]
    plain, blocked, reorder = map(latency_of, NATIVES)
    assert {one["context"]: one["latency_ns"] for one in contexts} == {"plain": plain, "blocked": blocked + reorder}
    asked = client.get(f"{THERE}/entries", params={"key": conv(8), "context": "blocked"}).json()["contexts"]
    assert [one["context"] for one in asked] == ["blocked"]


def test_an_unknown_context_lists_the_known(client: TestClient) -> None:
    body = problem(client.get(f"{THERE}/entries", params={"key": conv(8), "context": "nhwc"}), 404, "unknown-context")
    assert set(body["known"]) == {"plain", "blocked"}


@pytest.mark.parametrize("key, reason", [(conv(13), "chamnet profile"), (BROKEN, "signal 11"), ("anything", "profile")])
def test_an_operator_without_an_entry_says_why_and_what_to_do(key: str, reason: str, client: TestClient) -> None:
    body = problem(client.get(f"{HERE}/entries", params={"key": key}), 404, "unknown-operator")
    assert body["missing"] == [key]
    assert reason in body["detail"]


def test_a_batch_keeps_its_order_and_has_null_for_what_is_missing(client: TestClient) -> None:
    keys = [RELU, "nothing", *KEYS, RELU]
    body = client.post(f"{HERE}/entries", json={"keys": keys}).json()
    assert [entry and entry["key"] for entry in body["entries"]] == [RELU, None, *KEYS, RELU]
    assert body["missing"] == 1
    single = client.get(f"{HERE}/entries", params={"key": RELU}).json()
    assert body["entries"][0] == body["entries"][-1] == single


def test_a_large_batch_is_answered_like_a_small_one(client: TestClient) -> None:
    keys = [KEYS[number % len(KEYS)] for number in range(10_000)]
    body = client.post(f"{HERE}/entries", json={"keys": keys}).json()
    assert [entry["key"] for entry in body["entries"]] == keys
    assert {entry["contexts"][0]["latency_ns"] for entry in body["entries"]} == set(map(float, map(latency_of, KEYS)))


def test_a_batch_has_a_limit(client: TestClient) -> None:
    body = problem(client.post(f"{HERE}/entries", json={"keys": ["a"] * 10_001}), 422, "batch-too-large")
    assert body["at_most"] == 10_000


@pytest.mark.parametrize(
    "body, at",
    [({"keys": []}, "body.keys"), ({"keys": [1]}, "body.keys.0"), ({}, "body.keys"), ([], "body"), (None, "body")],
)
def test_a_body_that_cannot_be_meant_says_where(body: Any, at: str, client: TestClient) -> None:
    found = problem(client.post(f"{HERE}/entries", json=body), 422, "invalid-request")
    assert found["errors"][0]["at"] == at
    assert at in found["detail"]


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"keys": ["\\ud800"]}', b'{"keys": "' + b"9" * 5000]
)
def test_a_body_that_is_no_json_is_refused(content: bytes, client: TestClient) -> None:
    answer = client.post(f"{HERE}/entries", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("part", ["", "/operators", f"/entries?key={RELU}", f"/measurements?key={RELU}", "/table.csv"])
def test_what_was_seen_is_not_sent_again_until_it_changes(part: str, fresh: TestClient) -> None:
    first = fresh.get(HERE + part)
    tag = first.headers["etag"]
    assert first.status_code == 200
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = fresh.get(HERE + part, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    store = fresh.app.state.service.store  # type: ignore[attr-defined]
    store.append(TARGET, SESSION, list(store.measurements(TARGET, RELU)), "a later batch")
    changed = fresh.get(HERE + part, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def pages_of(client: TestClient, **asked: Any) -> list[dict[str, Any]]:
    """All operators, page by page."""
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{HERE}/operators", params={**asked, "cursor": cursor}).json()
        found += page["operators"]
        cursor = page["next"]
    return found


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_hold_every_operator_once(limit: int, client: TestClient) -> None:
    found = pages_of(client, limit=limit)
    assert [row["key"] for row in found if row["latency_ns"] is not None] == sorted(KEYS)
    assert {row["key"] for row in found} == {*KEYS, BROKEN}


@pytest.mark.parametrize(
    "asked, keys",
    [
        ({"type": "relu"}, {RELU, THROTTLED}),
        ({"type": "rel"}, set()),
        ({"state": "doubtful"}, {THROTTLED}),
        ({"state": "quarantined"}, {BROKEN}),
        ({"state": "measured", "type": "relu"}, {RELU}),
        ({"contains": "1x16x"}, {conv(16), THROTTLED}),
        ({"min_channels": 80}, {conv(80), conv(88), conv(96)}),
        ({"max_channels": 8}, {conv(8), RELU}),
        ({"min_channels": 16, "max_channels": 24, "type": "conv2d"}, {conv(16), conv(24)}),
        ({"min_size": 14}, set(map(conv, CHANNELS))),
        ({"max_size": 13}, {RELU, THROTTLED}),
    ],
)
def test_operators_are_found_by_type_state_and_shape(asked: dict[str, Any], keys: set[str], client: TestClient) -> None:
    assert {row["key"] for row in pages_of(client, **asked, limit=2)} == keys


def test_a_page_ends_where_it_would_take_too_long(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LOOKED_AT", 2)
    page = client.get(f"{HERE}/operators", params={"min_channels": 90}).json()
    assert page["next"]
    assert {row["key"] for row in pages_of(client, min_channels=90)} == {conv(96)}


@pytest.mark.parametrize("cursor", ["!", "abc", "gICA", "é"])
def test_a_cursor_that_is_none_is_refused(cursor: str, client: TestClient) -> None:
    problem(client.get(f"{HERE}/operators", params={"cursor": cursor}), 422, "invalid-cursor")


def test_measurements_come_with_their_conditions(client: TestClient) -> None:
    body = client.get(f"{HERE}/measurements", params={"key": THROTTLED}).json()
    (row,) = body["measurements"]
    assert body["total"] == 1
    assert row["latency_ns"] == latency_of(THROTTLED)
    assert row["bursts_ns"] == [[latency_of(THROTTLED) + OVERHEAD_NS] * 4] * 2
    assert (row["doubts"], row["clean"]) == (["throttled"], False)
    conditions = row["conditions"]
    assert (conditions["started_at"], conditions["before"]) == (SESSION.started_at, {"load1": 0.5})
    assert conditions["sentinel_ns"] == [[0.0, 1000], [0.5, 1100]]


def test_the_newest_measurements_come_first(fresh: TestClient) -> None:
    from dataclasses import replace

    store = fresh.app.state.service.store  # type: ignore[attr-defined]
    for number in range(3):
        later = replace(SESSION, started_at=SESSION.started_at + 1 + number)
        store.append(TARGET, later, list(store.measurements(TARGET, RELU))[:1], f"later {number}")
    body = fresh.get(f"{HERE}/measurements", params={"key": RELU, "limit": 2}).json()
    times = [row["conditions"]["started_at"] - SESSION.started_at for row in body["measurements"]]
    assert (body["total"], times) == (4, [3, 2])


def test_an_operator_that_is_run_as_others_names_them(client: TestClient) -> None:
    body = problem(client.get(f"{THERE}/measurements", params={"key": conv(8)}), 404, "not-native")
    assert set(body["known"]) == set(NATIVES)


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_table_is_exported_as_the_command_exports_it(
    format: str, client: TestClient, db: Path, tmp_path: Path
) -> None:
    answer = client.get(f"{HERE}/table.{format}")
    path = tmp_path / f"table.{format}"
    with open_store(db) as store:
        export_target(store, TARGET, path)
        digest = store.lut(TARGET).digest
    assert answer.content == path.read_bytes()
    assert answer.headers["etag"].strip('"').startswith(digest)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-disposition"].endswith(f'.{format}"')


def test_an_exported_table_can_be_imported_without_loss(client: TestClient, db: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_bytes(client.get(f"{HERE}/table.jsonl").content)
    with open_store(db) as store, open_store(tmp_path / "other.db") as other:
        target, _ = import_file(other, path)
        assert other.lut(target).digest == store.lut(TARGET).digest


def test_a_csv_has_a_row_an_entry(client: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get(f"{HERE}/table.csv").text)))
    assert {row["key"]: float(row["latency_us"]) for row in rows} == {key: latency_of(key) / 1e3 for key in KEYS}


def test_an_export_leaves_no_file_behind(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert client.get(f"{HERE}/table.parquet").status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(client: TestClient) -> None:
    found = problem(client.get(f"{HERE}/table.xls"), 422, "invalid-request")
    assert found["errors"][0]["at"] == "path.format"


def test_devices_are_told_with_their_tables(client: TestClient) -> None:
    (row,) = client.get("/v1/devices").json()["devices"]
    assert (row["name"], row["model"], row["facts"], row["tables"]) == ("local-cpu", "a CPU", {"cores": 2}, 2)
    assert (row["newest_at"], row["measuring"], row["connected"]) == (SESSION.started_at, None, True)


def test_a_device_that_is_held_says_by_whom(fresh: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = new_owner()
    fresh.app.state.service.store.leases.acquire("local-cpu", owner, 60, lambda owner: False)  # type: ignore[attr-defined]
    monkeypatch.setattr("host.lease._LIVE", {owner})
    (row,) = fresh.get("/v1/devices").json()["devices"]
    assert row["measuring"]["by"].startswith("process ")
    assert row["measuring"]["job"] is None
    monkeypatch.setattr("host.lease._LIVE", set())
    assert fresh.get("/v1/devices").json()["devices"][0]["measuring"] is None


def test_a_job_that_measures_is_named_at_its_device(fresh: TestClient) -> None:
    jobs = fresh.app.state.service.store.jobs  # type: ignore[attr-defined]
    job = jobs.add("profile", {"device": "local-cpu"}, ["profile"], "ci")
    assert fresh.get("/v1/devices").json()["devices"][0]["measuring"] is None
    jobs.claim("profile", "runner", 60, lambda owner: False)
    assert fresh.get("/v1/devices").json()["devices"][0]["measuring"]["job"] == job.uid


def test_phones_that_are_connected_are_told(fresh: TestClient) -> None:
    fresh.app.state.service.phones = PhoneWatch(lambda: [Phone("8XV5T15A21", "unauthorized", "Pixel_2")])  # type: ignore[attr-defined]
    (phone,) = fresh.get("/v1/devices").json()["phones"]
    assert (phone["serial"], phone["device"], phone["ready"]) == ("8XV5T15A21", None, False)
    assert "allow USB debugging" in phone["facts"]["to do"]


def test_phones_that_cannot_be_asked_are_absent() -> None:
    def fail() -> list[Phone]:
        raise OSError("no adb")

    assert PhoneWatch(fail).phones() == ()


def test_phones_are_asked_once_for_many_and_never_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.api.phone_watch.WAIT_S", 0.01)
    asked, released = [], threading.Event()

    def slowly() -> list[Phone]:
        asked.append(1)
        released.wait(30)
        return [Phone("1", "offline", "")]

    watch = PhoneWatch(slowly)
    assert [watch.phones() for _ in range(3)] == [()] * 3
    released.set()
    monkeypatch.setattr("host.api.phone_watch.WAIT_S", 30)
    assert [phone.serial for phone in watch.phones()] == ["1"]
    assert len(asked) == 1


def test_spaces_are_told_with_their_genes(client: TestClient) -> None:
    rows = client.get("/v1/spaces").json()["spaces"]
    assert [row["name"] for row in rows] == list(SPACES)
    for name in SPACES:
        body, space = client.get(f"/v1/spaces/{name}").json(), space_named(name)
        assert [(gene["name"], tuple(gene["choices"])) for gene in body["genes"]] == [
            (gene.name, gene.choices) for gene in space.genes
        ]
        assert client.get(f"/v1/spaces/{name}/networks/{body['smallest']}").status_code == 200


@pytest.mark.parametrize("name", ["inner", "pyproject.toml", "%2Fetc%2Fpasswd.toml", "..%2fdigits.toml"])
def test_only_spaces_that_ship_are_known(name: str, client: TestClient) -> None:
    answer = client.get(f"/v1/spaces/{name}")
    assert answer.status_code == 404
    assert "passwd" in name or "%2f" in name or answer.json()["known"] == list(SPACES)


GENOME = "1-1-2-1-1-1-2-0"


def test_a_network_is_told_layer_by_layer(client: TestClient) -> None:
    body = client.get(f"/v1/spaces/macro/networks/{GENOME}", params={"dtype": "int8"}).json()
    graph = space_named("macro").decode(tuple(map(int, GENOME.split("-"))), "int8")
    assert [layer["key"] for layer in body["layers"]] == [op.key for op in graph.operators]
    assert body["macs"] == sum(layer["macs"] for layer in body["layers"]) > 0
    assert body["outputs"] == list(graph.outputs)


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_network_is_a_model_file(format: str, client: TestClient) -> None:
    answer = client.get(f"/v1/spaces/macro/networks/{GENOME}/model", params={"format": format})
    graph = space_named("macro").decode(tuple(map(int, GENOME.split("-"))))
    assert answer.content == export_graph(graph, format)
    assert answer.headers["content-disposition"] == f'attachment; filename="macro-{GENOME}-float32.{format}"'


@pytest.mark.parametrize("genome", ["1", "a", "9-9-9-9-9-9-9-9", "1-1-2-1-1-1-2-" + "9" * 300,
                                    "1%0A-1-2-1-1-1-2-0", "1%0D%0A-1-2-1-1-1-2-0", "%D9%A1-1-2-1-1-1-2-0"])  # fmt: skip
def test_a_genome_that_is_none_says_what_must_hold(genome: str, client: TestClient) -> None:
    for path in (f"/v1/spaces/macro/networks/{genome}", f"/v1/spaces/macro/networks/{genome}/model"):
        assert "must" in problem(client.get(path), 404, "unknown-network")["detail"]


def test_accuracies_are_those_of_a_search(client: TestClient, db: Path) -> None:
    genomes = [GENOME, "0-0-0-0-0-1-2-0"]
    body = client.post("/v1/accuracies", json={"space": "macro", "genomes": genomes}).json()
    space = space_named("macro")
    with open_samples(db) as samples:
        training = training_set(space, samples.samples("macro"))
    arithmetic = Arithmetic(build_cells(space))
    fitted = fit_accuracy(space, arithmetic, training)
    predictor, facts = fitted.predictor, fitted.facts
    from search.features import training_inputs

    rows = [tuple(map(int, genome.split("-"))) for genome in genomes]
    import numpy as np

    mean, std = predictor.predict_std(training_inputs(space, arithmetic, np.array(rows), np.zeros(2, np.int64)))
    assert [row["accuracy_percent"] for row in body["accuracies"]] == pytest.approx(mean.tolist())
    assert std is not None
    assert [row["std_percent"] for row in body["accuracies"]] == pytest.approx(std.tolist())
    assert (body["basis"]["dataset"], body["basis"]["networks"]) == ("digits", facts.networks)
    assert body["basis"]["rmse_percent"] == pytest.approx(facts.rmse)


def test_accuracies_are_fitted_once_and_again_after_another_training(fresh: TestClient, tmp_path: Path) -> None:
    from tests.api_service import _sample

    asked = {"space": "macro", "genomes": [GENOME]}
    first = fresh.post("/v1/accuracies", json=asked).json()
    kept = fresh.app.state.service.fits  # type: ignore[attr-defined]
    before = len(kept._values)
    assert fresh.post("/v1/accuracies", json=asked).json() == first
    assert len(kept._values) == before
    with open_samples(tmp_path / "lut.db") as samples:
        samples.put([_sample(number) for number in range(24, 30)])
    later = fresh.post("/v1/accuracies", json=asked).json()
    assert later["basis"]["networks"] > first["basis"]["networks"]


@pytest.mark.parametrize(
    "asked, status, type",
    [
        ({"space": "inner"}, 404, "unknown-space"),
        ({"genomes": ["1-1"]}, 422, "invalid-spec"),
        ({"genomes": []}, 422, "invalid-request"),
        ({"genomes": [GENOME] * 10_001}, 422, "batch-too-large"),
        ({"recipe": "another"}, 422, "unknown-recipe"),
        ({"dataset": "another"}, 422, "cannot-be-met"),
        ({"predictor": "oracle"}, 422, "invalid-request"),
        ({"space": "chamnet-res", "genomes": ["1"]}, 422, "invalid-spec"),
    ],
)
def test_accuracies_that_cannot_be_predicted_say_why(
    asked: dict[str, Any], status: int, type: str, client: TestClient
) -> None:
    body = {"space": "macro", "genomes": [GENOME], **asked}
    problem(client.post("/v1/accuracies", json=body), status, type)


def test_networks_between_the_steps_of_a_space_have_a_limit(client: TestClient) -> None:
    space = space_named("chamnet-mobile")
    genome = [gene.choices[0] for gene in space.genes]
    place = next(i for i, gene in enumerate(space.genes) if gene.between and gene.choices[1] - gene.choices[0] > 1)
    genome[place] += 1
    body = {"space": "chamnet-mobile", "genomes": ["-".join(map(str, genome))] * 501}
    assert problem(client.post("/v1/accuracies", json=body), 422, "batch-too-large")["at_most"] == 500


def test_a_database_that_cannot_be_read_is_told_without_its_place(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked() -> None:
        raise StoreUnavailable("/secret/lut.db must be readable and writable, but got: locked; wait")

    monkeypatch.setattr(client.app.state.service.store, "targets", locked)  # type: ignore[attr-defined]
    body = problem(client.get("/v1/targets"), 503, "database-unavailable")
    assert "secret" not in body["detail"]
    assert "locked" in body["detail"]


@pytest.mark.parametrize(
    "method, path, status, allowed",
    [
        ("GET", "/v1/nothing", 404, None),
        ("DELETE", "/v1/targets", 405, "GET"),
        ("PUT", "/v1/health", 405, "GET"),
        ("PATCH", f"{HERE}/entries", 405, "GET, POST"),
    ],
)
def test_what_is_not_there_is_a_problem(
    method: str, path: str, status: int, allowed: str | None, client: TestClient
) -> None:
    answer = client.request(method, path)
    problem(answer, status, "")
    assert answer.headers.get("allow") == allowed


def models(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = schema["components"]["schemas"]
    return {name: one for name, one in found.items() if one.get("type") == "object"}


def test_the_description_has_types_and_examples_throughout() -> None:
    schema = create_app(ServiceConfig("unopened.db")).openapi()
    assert schema["openapi"].startswith("3.1")
    for name, one in models(schema).items():
        within = [field.get("examples") or "$ref" in json.dumps(field) for field in one["properties"].values()]
        assert "examples" in one or any(within), f"{name} must have an example"
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"].isidentifier(), path
            assert len(operation["operationId"]) < 32
            assert operation.get("summary"), path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
            assert {"400", "401", "405", "422", "429", "503"} <= set(operation["responses"])
            assert "{" not in path or "404" in operation["responses"]


def test_every_example_of_a_model_fits_it() -> None:
    import jsonschema_rs

    schema = create_app(ServiceConfig("unopened.db")).openapi()
    checked = 0
    for one in models(schema).values():
        for example in one.get("examples", []):
            whole = {**one, "components": schema["components"]}
            jsonschema_rs.Draft202012Validator(whole).validate(example)
            checked += 1
    assert checked > 15


def test_what_is_kept_is_made_once_and_the_oldest_goes() -> None:
    kept, made = Kept(2), []

    def make(name: str) -> str:
        made.append(name)
        return name

    assert [kept.get(name, lambda name=name: make(name)) for name in "abacab"] == list("abacab")  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]


def test_what_is_kept_does_not_wait_for_what_is_being_made() -> None:
    kept, begun, released = Kept(), threading.Event(), threading.Event()

    def slowly() -> str:
        begun.set()
        assert released.wait(30)
        return "slow"

    assert kept.get("known", lambda: "quick") == "quick"
    maker = threading.Thread(target=kept.get, args=("new", slowly))
    maker.start()
    assert begun.wait(30)
    assert kept.get("known", lambda: "again") == "quick"
    released.set()
    maker.join()
    assert kept.get("new", lambda: "again") == "slow"


def test_what_cannot_be_made_is_tried_again() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 / 0)
    assert kept.get("a", lambda: 1) == 1
