"""Jobs over HTTP: what may be asked, what command it becomes, how it is followed, and what a killed service harms."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from host.api import job_events, jobs
from host.api.job_events import MOST_STREAMS, Streams
from host.api.job_uploads import receive_table
from host.api.problems import Problem
from host.job_files import shared_folder
from lut_db.jobs import JobStore
from lut_db.records import Device
from lut_db.store import open_store
from tests.api_service import LAYOUTS, TARGET, Served, bearer, fill, in_process, new_token, serve
from tests.test_jobs import KEYS, await_that, finish, needs_proc, passes_of, pid_of
from tests.test_profile import count_rows

BOARD = "zcu104@10-0-0-7"
EVIL = replace(TARGET, device="ssh:root@evil")
SEARCH = {"space": "macro", "macs_m": 60}
PROFILE = {"device": "local-cpu", "engine": "fake", "operators": KEYS[:3]}
SPACE = {"device": "local-cpu", "space": "macro"}
LINE = b'{"is": "target"}\n'
OPERATOR = "relu(1x8;float32)"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "lut.db"
    fill(path)
    with open_store(path) as store:
        store.put_device(Device(BOARD, "zcu104", {"reach": "ssh:root@10.0.0.7"}))
        store.put_device(Device("note10", "Samsung Note10", {"imported": "mbconv-blocks"}))
        store.put_target(EVIL)
    return path


@pytest.fixture
def client(db: Path) -> Iterator[TestClient]:
    with in_process(db, rate=0) as opened:
        opened.headers.update(bearer(new_token(db)))
        yield opened


@pytest.fixture
def store(db: Path) -> Iterator[JobStore]:
    with open_store(db) as opened:
        yield opened.jobs


def words(client: TestClient, path: str, body: dict[str, Any]) -> list[str]:
    """The command line that a request becomes."""
    answer = client.post(path, json=body)
    assert answer.status_code == 202, answer.text
    job = client.app.state.service.store.jobs.get(answer.json()["uid"])  # type: ignore[attr-defined]
    return list(job.arguments)


def test_a_search_becomes_the_command_that_a_person_would_type(client: TestClient) -> None:
    body = {
        "space": "macro", "targets": [{"target": TARGET.id, "energy_mj": 2}, {"target": LAYOUTS.name, "latency_ms": 8}],
        "sweep": {"from": 5, "to": 50, "count": 20}, "macs_m": 300, "fix": {"layer0": [0, 1]}, "risk": 0.05,
        "dataset": "--db=/etc/passwd", "recipe": "ten epochs", "population": 60, "generations": 5, "interpolate": True,
        "emulated": True, "seed": 3, "verify": 4, "predictor": "ridge",
    }  # fmt: skip
    assert words(client, "/v1/searches", body) == [
        "search", "--json", "--whole", "--space=macro",
        f"--target={TARGET.key}", f"--limit={TARGET.key}:energy_mj=2.0",
        f"--target={LAYOUTS.key}", f"--limit={LAYOUTS.key}:latency_ms=8.0",
        "--limits=5.0:50.0:20", "--macs-m=300.0", "--risk=0.05", "--predictor=ridge", "--dataset=--db=/etc/passwd",
        "--recipe=ten epochs", "--population=60", "--generations=5", "--seed=3", "--verify=4", "--fix=layer0=0,1",
        "--interpolate", "--emulated",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ({"space": "macro", "budget_s": 60, "fraction": 0.1}, ["--space=macro", "--budget=60.000s", "--fraction=0.1"]),
        ({"space": "mbconv", "random_networks": 12}, ["--space=mbconv", "--networks=12"]),
        ({"networks": ["mobilenet-v2", "chamnet-a"]}, ["--network=mobilenet-v2,chamnet-a"]),
        ({"operators": [OPERATOR]}, ["--ops=operators.txt"]),
    ],
)  # fmt: skip
def test_a_profile_becomes_the_command_that_a_person_would_type(
    client: TestClient, body: dict[str, Any], more: list[str]
) -> None:
    asked = {"device": "local-cpu", "engine": "onnxruntime", "dtype": "int8", "threads": 2, "seed": 5, **body}
    usual = [
        "--device=local-cpu",
        "--engine=onnxruntime",
        "--dtype=int8",
        "--threads=2",
        "--accelerator=cpu",
        "--seed=5",
    ]
    assert words(client, "/v1/profiles", asked) == ["profile", "--json", *usual, *more]


def test_a_board_is_reached_as_it_was_when_it_was_measured(client: TestClient) -> None:
    assert "--device=ssh:root@10.0.0.7" in words(client, "/v1/profiles", {"device": BOARD, "networks": ["chamnet-a"]})


def test_a_job_is_told_with_its_place_and_what_was_asked(client: TestClient) -> None:
    answer = client.post("/v1/profiles", json=PROFILE | {"operators": ["relu(1x8;float32)", "relu(1x8;float32)"]})
    body = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{body['uid']}"
    assert (body["state"], body["made_by"], body["request"]["operators"]) == ("queued", "tests", [OPERATOR])
    assert client.get(answer.headers["location"]).json() == body


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/v1/searches", {"space": "macro"}, "something must be limited"),
        ("/v1/searches", SEARCH | {"space": "/tmp/space.toml"}, "space"),
        ("/v1/searches", SEARCH | {"fix": {"--out": [1]}}, "must have the gene"),
        ("/v1/searches", SEARCH | {"fix": {"layer0": [99]}}, "must be among"),
        ("/v1/searches", SEARCH | {"dataset": "a\0b"}, "dataset"),
        ("/v1/searches", SEARCH | {"out": "/tmp"}, "out"),
        ("/v1/searches", SEARCH | {"verify": 3}, "must have a target"),
        ("/v1/searches", SEARCH | {"macs_m": "--out=x"}, "macs_m"),
        ("/v1/searches", SEARCH | {"macs_m": 1e300}, "macs_m"),
        ("/v1/searches", {"space": "macro", "sweep": {"from": 1, "to": 2, "count": 3}}, "must have a target"),
        ("/v1/searches", SEARCH | {"sweep": {"from": 2, "to": 1, "count": 3}}, "'from' must be below 'to'"),
        ("/v1/searches", SEARCH | {"targets": [{"target": EVIL.id}], "verify": 2}, "a device must be one of"),
        ("/v1/profiles", {"device": "local-cpu"}, "one of space, networks and operators"),
        ("/v1/profiles", PROFILE | {"networks": ["chamnet-a"]}, "one of space, networks and operators"),
        ("/v1/profiles", PROFILE | {"device": "--db=/tmp/x"}, "a device must be one of"),
        ("/v1/profiles", PROFILE | {"device": "ssh:root@evil"}, "a device must be one of"),
        ("/v1/profiles", PROFILE | {"device": "note10"}, "a device must be one of"),
        ("/v1/profiles", PROFILE | {"operators": ["relu"]}, "an operator key must read like"),
        ("/v1/profiles", PROFILE | {"operators": ["relu(1x99999999999;float32)"]}, "must move at most"),
        ("/v1/profiles", PROFILE | {"operators": [OPERATOR] * 10_001}, "10000"),
        ("/v1/profiles", {"device": "local-cpu", "networks": ["mobilenet-v1-16-4096"]}, "must move at most"),
        ("/v1/profiles", PROFILE | {"engine": "benchmark_model"}, "engine"),
        ("/v1/profiles", PROFILE | {"accelerator": "gpu"}, "accelerator"),
        ("/v1/profiles", PROFILE | {"budget_s": 10}, "must come with a space"),
        ("/v1/profiles", {"device": "local-cpu", "networks": ["a,--db=x"]}, "a network must be one of"),
        ("/v1/profiles", SPACE | {"random_networks": 2, "fraction": 0.5}, "a budget must be for a whole space"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_queues_nothing(client: TestClient, path: str, body: dict[str, Any], reason: str) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, reason in answer.text) == (422, True), answer.text
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_a_target_that_is_not_known_is_named_beside_those_that_are(client: TestClient) -> None:
    answer = client.post("/v1/searches", json={"space": "macro", "targets": [{"target": "pixel9", "latency_ms": 1}]})
    assert answer.status_code == 404
    assert TARGET.id in {row["id"] for row in answer.json()["known"]}


@pytest.mark.parametrize(("content", "suffix"), [(LINE, ".jsonl"), (b"PAR1\0\0", ".parquet")])
def test_a_table_is_told_by_its_content_and_kept_under_a_name_of_its_own(
    client: TestClient, db: Path, content: bytes, suffix: str
) -> None:
    answer = client.post("/v1/imports", content=content)
    assert (answer.status_code, answer.json()["command"]) == (202, f"chamnet lut import table{suffix} --json")
    assert answer.json()["request"] == {"size_bytes": len(content)}
    (kept,) = shared_folder(str(db)).iterdir()
    assert (kept.suffix, kept.read_bytes()) == (suffix, content)


@pytest.mark.parametrize(("content", "status"), [(b"genome,latency", 415), (b"", 415), (LINE * 200_000, 413)])
def test_a_body_that_is_no_table_is_refused_and_nothing_is_kept(db: Path, content: bytes, status: int) -> None:
    with in_process(db, rate=0, max_upload_mb=1) as client:
        for body in (content, iter([content])):  # with its length, and in chunks
            answer = client.post("/v1/imports", content=body, headers=bearer(new_token(db, repr(body))))
            assert answer.status_code == status, answer.text
        assert client.get("/v1/jobs").json()["jobs"] == []
    assert list(shared_folder(str(db)).iterdir()) == []


def test_an_upload_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        async def stream(self) -> Any:
            yield LINE
            raise ClientDisconnect

    with pytest.raises(Problem, match="must come whole"):
        asyncio.run(receive_table(Broken(), tmp_path))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_full_queue_takes_no_more(client: TestClient, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    statuses = [client.post("/v1/imports", content=LINE).status_code for _ in range(3)]
    assert statuses == [202, 202, 429]
    assert len(list(shared_folder(str(db)).iterdir())) == 2
    assert client.post("/v1/profiles", json=PROFILE).status_code == 202


def test_jobs_are_listed_newest_first_and_page_by_page(client: TestClient) -> None:
    made = [client.post("/v1/searches", json=SEARCH).json()["uid"] for _ in range(3)]
    client.post("/v1/profiles", json=PROFILE)
    page = client.get("/v1/jobs", params={"kind": "search", "limit": 2}).json()
    assert [job["uid"] for job in page["jobs"]] == [made[2], made[1]]
    rest = client.get("/v1/jobs", params={"kind": "search", "limit": 2, "cursor": page["next"]}).json()
    assert ([job["uid"] for job in rest["jobs"]], rest["next"]) == ([made[0]], None)
    assert client.get("/v1/jobs", params={"state": "running"}).json()["jobs"] == []


def test_a_waiting_job_is_cancelled_at_once(client: TestClient) -> None:
    uid = client.post("/v1/searches", json=SEARCH).json()["uid"]
    assert client.post(f"/v1/jobs/{uid}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{uid}/cancel").json()["state"] == "cancelled"


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/events", "/v1/jobs/{}/cancel"])
def test_a_job_that_is_not_there_is_a_problem(client: TestClient, path: str) -> None:
    ask = client.post if path.endswith("cancel") else client.get
    answer = ask(path.format("0" * 32))
    assert (answer.status_code, answer.json()["title"]) == (404, "Unknown job")
    assert ask(path.format("no-uid")).status_code == 422


@pytest.fixture
def served(db: Path) -> Iterator[Served]:
    """A service that runs no jobs: the test is their runner."""
    with serve(db, "--no-jobs", "--rate", "0") as opened:
        yield opened


def events(answer: httpx.Response) -> Iterator[tuple[int, dict[str, Any]]]:
    """Id and job of each event."""
    lines = (line for line in answer.iter_lines() if line.startswith(("data:", "id:")))
    for data, id in itertools.batched(lines, 2) if hasattr(itertools, "batched") else zip(lines, lines, strict=False):
        yield int(id.removeprefix("id: ")), json.loads(data.removeprefix("data: "))


def test_each_change_of_a_job_is_an_event_up_to_its_last(served: Served, store: JobStore) -> None:
    job = store.add("search", SEARCH, ("search",), "test")
    with served.client() as client, client.stream("GET", f"/v1/jobs/{job.uid}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        assert next(told)[1]["state"] == "queued"
        store.claim("search", "me", 60, lambda owner: False)
        assert next(told)[1]["state"] == "running"
        store.beat(job.uid, "me", {"stage": "prices", "done": 1, "total": 3, "note": ""})
        id, seen = next(told)
        assert (seen["progress"]["stage"], seen["progress"]["done"], id) == ("prices", 1, seen["revision"])
        store.beat(job.uid, "me")
        store.end(job.uid, "me", "done", {"winner": [1]}, exit_status=0)
        id, seen = next(told)
        assert (seen["state"], seen["result"], seen["request"]) == ("done", {"winner": [1]}, None)
        assert list(told) == []


def test_a_reader_who_comes_back_is_told_what_is_new(served: Served, store: JobStore) -> None:
    job = store.add("search", SEARCH, ("search",), "test")
    path = f"/v1/jobs/{job.uid}/events"
    with served.client() as client:
        store.claim("search", "me", 60, lambda owner: False)
        with client.stream("GET", path, headers={"Last-Event-ID": "2"}) as answer:
            store.end(job.uid, "me", "failed", error="no")
            assert [seen["state"] for _, seen in events(answer)] == ["failed"]
        assert client.get(path, headers={"Last-Event-ID": "3"}).status_code == 204
        assert [id for id, _ in events(client.get(path, headers={"Last-Event-ID": "old"}))] == [3]


def test_a_stream_that_nothing_happens_in_is_kept_alive_until_the_service_ends(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "KEEP_ALIVE_S", 0.0)
    job = store.add("search", SEARCH, ("search",), "test")

    ending = iter([False, False, True])
    told = job_events.events(Streams(), store, job.uid, -1, lambda job: job.state, lambda: next(ending))

    async def all_told() -> list[bytes]:
        return [event async for event in told]

    assert asyncio.run(all_told()) == [b"data: queued\nid: 1\n\n", b": ping\n\n", b": ping\n\n"]


def test_streams_are_at_most_so_many_and_given_back(served: Served, store: JobStore) -> None:
    uid = store.add("search", SEARCH, ("search",), "test").uid
    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=served.url, limits=limits, timeout=60) as client:
        opened = [
            client.send(client.build_request("GET", f"/v1/jobs/{uid}/events"), stream=True) for _ in range(MOST_STREAMS)
        ]
        assert {answer.status_code for answer in opened} == {200}
        refused = client.get(f"/v1/jobs/{uid}/events")
        assert (refused.status_code, refused.json()["title"]) == (429, "Too many streams")
        for answer in opened:
            answer.close()
        store.ask_cancel(uid)
        await_that(lambda: client.get(f"/v1/jobs/{uid}/events").status_code == 200)


@needs_proc
def test_a_killed_service_and_a_killed_runner_cost_no_job_and_no_row(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    token = new_token(db)
    with serve(db) as first, first.client(token) as client:
        profile = client.post("/v1/profiles", json=PROFILE | {"operators": KEYS}).json()["uid"]
        search = client.post("/v1/searches", json={"space": "macro", "macs_m": 60}).json()["uid"]
        await_that(lambda: count_rows(db) or state(client, profile)["ended_at"])
        first.process.kill()
        first.process.wait()
    with serve(db) as second, second.client(token) as client:
        assert state(client, profile)["state"] == "running"
        with open_store(db) as store:
            job = store.jobs.get(profile)
            assert job is not None
            os.kill(pid_of(job.runner), signal.SIGKILL)
        await_that(lambda: state(client, profile)["ended_at"])
        await_that(lambda: state(client, search)["ended_at"])
        ended = state(client, profile)
        assert (ended["state"], ended["attempts"]) == ("done", 2)
        assert "must have at least 8 trained networks" in state(client, search)["error"]
    with open_store(db) as store:
        finish(store.jobs, str(db))
    assert passes_of(db) == {2: len(KEYS)}


def state(client: httpx.Client, uid: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{uid}").json()
    return found


def test_what_is_exported_can_be_imported_by_a_job_and_followed(db: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    token = new_token(other)
    with in_process(db) as source, serve(other) as target, target.client(token) as client:
        for kind in ("jsonl", "parquet"):
            table = source.get(f"/v1/targets/{TARGET.id}/table.{kind}")
            assert table.status_code == 200
            uid = client.post("/v1/imports", content=table.content).json()["uid"]
            with client.stream("GET", f"/v1/jobs/{uid}/events", timeout=120) as answer:
                *_, (_, last) = events(answer)
            assert (last["state"], last["error"]) == ("done", "")
            assert last["result"]["targets"][0]["name"] == TARGET.name
        assert client.get("/v1/targets").json()["targets"][0]["id"] == TARGET.id
    assert [path.suffix for path in shared_folder(str(other)).iterdir()] == [".log"]
