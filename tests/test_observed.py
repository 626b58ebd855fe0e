"""What an operator of a service sees: metrics, readiness, request ids, structured logs."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from host.logs import REQUEST, JsonLines, Lines, log_config
from lut_db.store import open_store
from tests.api_service import ROOT, START, Served, bearer, in_process, new_token, serve

SEARCH = {"space": "macro", "macs_m": 60}


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """A metric's samples by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_requests_are_counted_by_route_and_never_by_what_a_caller_makes_up(tmp_path: Path) -> None:
    with in_process(tmp_path / "lut.db") as client:
        for path in ("/v1/targets", "/v1/targets", "/v1/targets/7", "/v1/made/up", "/v1/made/again"):
            client.get(path)
        answer = client.get("/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = values(answer.text, "chamnet_requests_total")
    assert found["GET", "/v1/targets", "200"] == 2
    assert found["GET", "/v1/targets/{target_id}", "404"] == 1
    assert found["GET", "none", "404"] == 2
    assert values(answer.text, "chamnet_request_seconds_count")["/v1/targets",] == 2


def test_jobs_tables_and_units_are_told(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    token = new_token(db)
    with open_store(db) as store:
        store.leases.acquire("phone", "me", 60, lambda owner: False)
    with in_process(db) as client:
        assert client.post("/v1/searches", json=SEARCH, headers=bearer(token)).status_code == 202
        told = client.get("/v1/metrics").text
    assert values(told, "chamnet_jobs")["search", "queued"] == 1
    assert values(told, "chamnet_jobs")["profile", "running"] == 0
    assert values(told, "chamnet_units_in_use") == {(): 1}


def test_a_unit_whose_holder_is_gone_or_a_sweep_of_many_is_no_unit_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "lut.db"
    with open_store(db) as store:
        with monkeypatch.context() as long_ago:
            long_ago.setattr("lut_db.leases.time.time", lambda: 1e9)
            store.leases.acquire("forgotten", "me", 60, lambda owner: False)
        for unit in ("phone", "board", "fleet:snapdragon835"):
            store.leases.acquire(unit, "me", 60, lambda owner: False)
    with in_process(db) as client:
        assert values(client.get("/v1/metrics").text, "chamnet_units_in_use") == {(): 2}


def test_a_service_without_its_database_lives_but_is_not_ready(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    with in_process(db) as client:
        assert client.get("/v1/health/ready").json() == {"status": "ready"}
        for path in tmp_path.glob("lut.db*"):
            path.unlink()
        db.write_text("no database any more, and long enough to be looked at" * 40)
        client.app.state.service.store._engine.dispose()  # type: ignore[attr-defined]
        assert client.get("/v1/health/ready").status_code == 503
        assert client.get("/v1/health").status_code == 200


def test_where_reading_needs_a_token_metrics_do_and_health_does_not(tmp_path: Path) -> None:
    with in_process(tmp_path / "lut.db", allowed_hosts=("nas.example",)) as client:
        assert client.get("/v1/metrics").status_code == 401
        assert client.get("/v1/health/ready").status_code == 200


@pytest.mark.parametrize(("sent", "kept"), [("build-77.3", True), ("two words", False), ("x" * 65, False), ("", False)])
def test_every_answer_has_an_id_also_one_that_is_refused(tmp_path: Path, sent: str, kept: bool) -> None:
    with in_process(tmp_path / "lut.db") as client:
        for path, status in (("/v1/health", 200), ("/v1/nothing", 404)):
            answer = client.get(path, headers={"X-Request-ID": sent} if sent else {})
            assert answer.status_code == status
            id = answer.headers["x-request-id"]
            assert id == sent if kept else re.fullmatch(r"[0-9a-f]{16}", id)


def told_by(served: Served) -> list[dict[str, object]]:
    served.process.terminate()
    _, err = served.process.communicate(timeout=60)
    return [json.loads(line) for line in err.splitlines()]


def test_the_log_is_json_and_leads_from_a_request_to_its_job(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    token = new_token(db)
    with serve(db, "--log", "json", errors=True) as served, served.client(token) as client:
        added = client.post("/v1/searches", json=SEARCH, headers={"X-Request-ID": "mine"})
        uid = added.json()["uid"]
        with client.stream("GET", f"/v1/jobs/{uid}/events", timeout=120) as answer:
            list(answer.iter_lines())
        rows = told_by(served)
    (job,) = (row for row in rows if row["message"] == "job added")
    assert (job["request"], job["job"], job["kind"]) == ("mine", uid, "search")
    (answered,) = (row for row in rows if row["message"] == "answered" and row["request"] == "mine")
    assert (answered["path"], answered["status"]) == ("/v1/searches", 202)
    runner = [json.loads(line) for line in Path(f"{db}.jobs/runners.log").read_text().splitlines()]
    assert [(row["message"], row["job"]) for row in runner] == [("job taken", uid), ("job over", uid)]
    assert runner[-1]["state"] == "failed"


def test_an_error_has_its_trace_on_the_same_line() -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    token = REQUEST.set("abc")
    told = json.loads(JsonLines().format(record))
    assert (told["message"], told["level"], told["request"]) == ("it failed", "error", "abc")
    assert "ValueError: what went wrong" in told["trace"]
    assert "it failed request=abc\nTraceback" in Lines().format(record)
    REQUEST.reset(token)


def test_no_path_that_a_caller_makes_up_forges_a_line_a_colour_or_a_fact() -> None:
    facts = {"path": "/v1/x\n12:00:00 info job added\x1b[31m\x85\u2028", "status": 404, "name": "a status=200"}
    record = logging.LogRecord("x", logging.INFO, "", 0, "answered %s", ("a\rb",), None)
    record.facts = facts
    line = Lines().format(record)
    assert line.splitlines() == [line]
    assert line.isprintable()
    assert line.endswith(
        r"answered a\rb path='/v1/x\n12:00:00 info job added\x1b[31m\x85\u2028' status=404 name='a status=200'"
    )
    assert json.loads(JsonLines().format(record))["path"] == facts["path"]


def test_a_log_of_another_form_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, "serve", "--log", "xml", "--db", str(tmp_path / "lut.db")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, "--log must be one of text, json, but got 'xml'" in ran.stderr) == (2, True)


def test_every_form_can_be_configured() -> None:
    for form in ("text", "json", ""):
        assert log_config(form, "INFO")["formatters"]["chosen"]["()"].startswith("host.logs.")
