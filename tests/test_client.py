"""The Python client against a real service: what it returns, and what it makes of everything that goes wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from host.client import Client, Job, JobFailed, MissingOperators, ServiceError, Unreachable
from host.errors import HostError
from host.predict import open_predictor
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from search.spaces import space_named
from tests.api_service import (
    LAYOUTS,
    NETWORK,
    RELU,
    TARGET,
    conv,
    fill_with_network,
    latency_of,
    new_token,
    serve,
)

SMALL = "gelu(1x8x8x8;float32)"
GENOME = (0, 0, 0, 0, 0, 1, 2, 0)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "lut.db"
    fill_with_network(path)
    return path


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[Client]:
    token = new_token(db, "client")
    with serve(db) as served, Client(served.url, token) as client:
        yield client


def test_targets_are_told_with_what_is_in_them(client: Client) -> None:
    (found,) = client.targets(TARGET.name)
    assert (found["id"], found["name"]) == (TARGET.id, TARGET.name)
    assert found["counts"]["operators"] > 10


@pytest.mark.parametrize("target", [TARGET.id, TARGET.name, "litert"])
def test_entries_come_in_the_order_of_their_keys(client: Client, target: str) -> None:
    keys = [RELU, SMALL, conv(8)]
    found = client.entries(target, keys)
    assert [entry and entry.latency_ns for entry in found] == [latency_of(RELU), None, latency_of(conv(8))]


def test_more_keys_than_a_batch_are_asked_for_in_several(client: Client) -> None:
    keys = [conv(channels) for channels in (8, 16, 24, 32, 40)]
    found = client.entries(TARGET.id, keys, batch=2)
    assert [entry.key for entry in found if entry] == keys


def test_an_entry_of_an_engine_that_minds_layouts_has_several_prices(client: Client) -> None:
    (found,) = client.entries(LAYOUTS.name, [conv(8)])
    assert found is not None
    assert {price.context for price in found.contexts} == {"plain", "blocked"}
    assert found.latency_ns == min(price.latency_ns for price in found.contexts)


def test_a_network_is_predicted_as_the_library_does(client: Client, db: Path) -> None:
    found = client.predict("fake", network=NETWORK)
    expected = open_predictor(db, "fake").predict(build_network(NETWORK))
    assert found.latency_ms == pytest.approx(expected.latency_ms)
    assert [row.key for row in found.operators] == [cost.op.key for cost in expected.operators]


@pytest.mark.parametrize("operators", [[RELU, RELU, conv(8)], {RELU: 2, conv(8): 1}])
def test_operators_may_come_as_a_list_or_with_counts(client: Client, operators: list[str] | dict[str, int]) -> None:
    found = client.predict(TARGET.id, operators=operators)
    assert sum(row.latency_ns or 0 for row in found.operators) == 2 * latency_of(RELU) + latency_of(conv(8))


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_model_may_be_a_file_or_bytes(client: Client, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(export_graph(build_network(NETWORK), suffix))
    from_file, from_bytes = client.predict("fake", model=path), client.predict("fake", model=path.read_bytes())
    assert from_file.network == "mine"
    assert from_file.latency_ns == from_bytes.latency_ns == client.predict("fake", network=NETWORK).latency_ns


def test_an_incomplete_price_says_what_is_missing_and_how_to_measure_it(client: Client) -> None:
    with pytest.raises(MissingOperators, match="every operator must have a price, but 1 have none") as caught:
        client.predict(TARGET.id, operators=[RELU, SMALL])
    assert caught.value.missing == (SMALL,)
    assert "chamnet profile" in (caught.value.measure_with or "")
    assert caught.value.partial is not None
    assert caught.value.partial.operators[0].latency_ns == latency_of(RELU)


def test_genomes_of_a_space_are_predicted_in_latency_and_accuracy(client: Client) -> None:
    with pytest.raises(MissingOperators) as caught:
        client.predict("fake", space="macro", genome=GENOME)
    keys = [op.key for op in space_named("macro").decode(GENOME).operators]
    assert set(caught.value.missing) < set(keys)
    assert [row.key for row in caught.value.partial.operators] == keys if caught.value.partial else False
    found = client.accuracies("macro", [GENOME, "0-0-0-0-0-1-2-0"], dataset="digits")
    assert found.rows[0] == found.rows[1]
    assert 70 < found.rows[0].accuracy_percent < 100
    assert found.basis["networks"] == 24


def test_a_table_is_written_whole_or_not_at_all(client: Client, tmp_path: Path) -> None:
    path = client.table(TARGET.name, tmp_path / "table.parquet")
    assert pyarrow.parquet.read_table(path).num_rows > 10
    rows = client.table("litert", tmp_path / "table.csv").read_text().splitlines()
    assert any(RELU in row for row in rows)
    with pytest.raises(ServiceError):
        client.table("nowhere", tmp_path / "other.csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv", "table.parquet"]


def test_a_table_must_be_of_a_known_format(client: Client, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"must end in \.csv"):
        client.table(TARGET.id, tmp_path / "table.xlsx")


def test_a_measurement_is_a_job_that_can_be_waited_for(client: Client) -> None:
    told: list[Job] = []
    done = client.wait(client.profile(engine="fake", operators=[SMALL]), told.append)
    assert (done.state, done.has_ended) == ("done", True)
    assert [job.revision for job in told] == sorted({job.revision for job in told})
    assert told[-1] == done
    found = client.entries("fake", [SMALL])[0]
    assert found is not None
    assert found.contexts[0].label == "simulated"


def test_a_search_without_what_it_needs_fails_with_the_reason(client: Client) -> None:
    job = client.search("macro", targets=[{"target": TARGET.id, "latency_ms": 1.0}])
    with pytest.raises(JobFailed, match=f"job {job.uid} must be done, but is failed: ") as caught:
        client.wait(job)
    assert caught.value.job.state == "failed"
    assert job.uid in [one.uid for one in client.jobs(kind="search")]


def test_a_table_goes_from_one_service_to_another(client: Client, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    token = new_token(other)
    path = client.table(TARGET.id, tmp_path / "table.jsonl")
    with serve(other) as served, Client(served.url, token) as there:
        there.wait(there.import_table(path))
        (entry,) = there.entries(TARGET.id, [RELU])
    assert entry is not None
    assert entry.latency_ns == latency_of(RELU)


def test_what_the_service_refuses_keeps_its_words_and_members(client: Client) -> None:
    with pytest.raises(ServiceError, match="a target must be one of those known, but got 'pixel99'") as caught:
        client.predict("pixel99", network=NETWORK)
    assert caught.value.status == 404
    assert TARGET.id in [row["id"] for row in caught.value.problem["known"]]


def test_a_name_that_matches_no_table_lists_those_there_are(client: Client) -> None:
    with pytest.raises(HostError, match=f"one target must match 'no/such', but got 0; known: {TARGET.name}"):
        client.entries("no/such", [RELU])


def test_who_may_not_write_is_told_how_to_get_a_token(client: Client) -> None:
    with Client(client.url) as reader, pytest.raises(ServiceError, match="chamnet token create") as caught:
        reader.predict("fake", model=b"\x08\x08" * 1_000_000)
    assert caught.value.status == 401


def test_no_service_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Client(url) as client,
            pytest.raises(Unreachable, match=f"a service must answer at {url}, but got") as error,
        ):
            client.targets()
    assert "chamnet serve" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_service_that_is_silent_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.1) as client, pytest.raises(Unreachable, match="must answer in time"):
            client.targets()


def test_waiting_survives_a_restart_of_the_service(db: Path) -> None:
    token = new_token(db, "patient")
    with serve(db, "--no-jobs") as first:
        port = int(first.url.rpartition(":")[2])
        client = Client(first.url, token)
        job = client.profile(engine="fake", operators=["silu(1x8x8x8;float32)"])
    with pytest.raises(Unreachable):
        client.job(job.uid)
    with pytest.raises(Unreachable):
        client.wait(job, patience_s=0.0)
    with serve(db, port=port):
        assert client.wait(job).state == "done"
    client.close()


def test_the_client_loads_nothing_heavy() -> None:
    program = "import json, sys, host.client; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    heavy = {"numpy", "scipy", "onnx", "fastapi", "starlette", "pydantic", "sqlalchemy", "typer", "agent",
             "lut_db", "ops_catalog", "search", "sklearn", "pyarrow"}  # fmt: skip
    assert not heavy & set(json.loads(out))
