"""The service as a process, its tokens on the command line, and the files of the dashboard."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from host.api import pages
from lut_db.store import open_store
from tests.api_service import RELU, ROOT, START, fill, in_process, serve
from tests.test_api import HERE, problem


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serving") / "lut.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with in_process(db) as found:
        yield found


def test_the_dashboard_is_served_where_it_is(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, db: Path
) -> None:
    (tmp_path / "index.html").write_text("<title>ChamNet</title>")
    (tmp_path / "app.js").write_text("export const one = 1;")
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    with in_process(db) as other:
        assert "ChamNet" in other.get("/").text
        script = other.get("/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        tag = script.headers["etag"]
        assert other.get("/app.js", headers={"If-None-Match": tag}).status_code == 304
        assert script.headers["cache-control"] == "private, no-cache"
        assert other.get("/nothing.js").status_code == 404


def test_a_dashboard_that_is_missing_is_no_error_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, db: Path
) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path / "nowhere")
    with in_process(db) as other:
        problem(other.get("/"), 404, "")
        assert other.get("/v1/health").status_code == 200


def test_the_charting_library_comes_compressed_and_is_kept_for_ever(client: TestClient) -> None:
    first = client.get("/vendor/plotly.min.js", follow_redirects=False)
    assert (first.status_code, first.headers["cache-control"]) == (307, "no-cache")
    packed = client.get(first.headers["location"])
    plain = client.get(first.headers["location"], headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert "immutable" in packed.headers["cache-control"]
    assert client.get("/vendor/plotly-0.0.0.min.js").status_code == 404


def test_a_service_tells_its_address_answers_and_ends_cleanly(db: Path) -> None:
    with serve(db) as served:
        with served.client() as client:
            assert client.get("/v1/health").json()["status"] == "ok"
            assert client.get(f"{HERE}/entries", params={"key": RELU}).status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0


def test_a_stream_of_events_is_no_reason_to_stay(db: Path) -> None:
    with open_store(db) as store:
        job = store.jobs.add("search", {}, ["search"], "tests")
    with serve(db, "--no-jobs") as served, served.client() as client:
        with client.stream("GET", f"/v1/jobs/{job.uid}/events") as answer:
            lines = answer.iter_lines()
            assert job.uid in next(lines)
            served.process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line.startswith("data")] == []
        assert served.process.wait(30) == 0


def test_two_services_may_share_a_database(db: Path) -> None:
    with serve(db) as one, serve(db) as other, one.client() as first, other.client() as second:
        assert one.url != other.url
        assert first.get("/v1/targets").json() == second.get("/v1/targets").json()


def command(db: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *arguments, "--db", str(db)],
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT,
    )  # fmt: skip


def test_a_port_in_use_is_one_line(db: Path) -> None:
    with serve(db) as served:
        port = served.url.rpartition(":")[2]
        done = command(db, "serve", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"127.0.0.1:{port} is in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_service_that_others_reach_needs_a_token_first(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    fill(db)
    done = command(db, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "chamnet token create" in done.stderr
    secret = command(db, "token", "create", "team").stdout.strip()
    with serve(db, "--host", "0.0.0.0") as served:
        port = served.url.rpartition(":")[2]
        with served.client(secret) as client:
            assert client.get(f"http://127.0.0.1:{port}/v1/targets").status_code == 200
            assert client.get(f"http://127.0.0.1:{port}/v1/targets", headers={"Authorization": ""}).status_code == 401


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    fill(db)
    secret = command(db, "token", "create", "ci", "--scope", "write").stdout.strip()
    assert secret.startswith("chamnet_")
    (row,) = json.loads(command(db, "token", "list", "--json").stdout)
    assert (row["name"], row["scopes"], row["revoked_at"]) == ("ci", ["read", "write"], None)
    assert secret not in command(db, "token", "list").stdout
    assert command(db, "token", "revoke", "ci").returncode == 0
    assert json.loads(command(db, "token", "list", "--json").stdout)[0]["revoked_at"] is not None
    again = command(db, "token", "create", "ci")
    assert (again.returncode, again.stdout) == (1, "")
    unknown = command(db, "token", "revoke", "nobody")
    assert unknown.returncode == 1
    assert "ci" in unknown.stderr
    assert command(db, "token", "create", "x", "--scope", "all").returncode == 2


def test_the_package_has_every_folder_and_all_of_the_dashboard() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = {name.partition(".")[0] for name in setup["packages"]}
    folders = {path.parent for top in tops for path in (ROOT / top).rglob("__init__.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} <= set(setup["packages"])
    home = ROOT / "host" / "api"
    packed = {path for glob in setup["package-data"]["host.api"] for path in home.glob(glob) if path.is_file()}
    assert packed == {path for path in (home / "dashboard").rglob("*") if path.is_file()}
