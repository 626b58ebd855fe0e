"""Who may do what: every path that writes, with every kind of token, and what a service refuses unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from host.api.access import OPEN
from host.api.app import create_app
from host.api.limits import JSON_MIB, MIB, SECURITY, TokenBuckets, host_of
from host.api.service import ServiceConfig
from lut_db.store import open_store
from tests.api_service import BASE, bearer, fill, in_process, new_token

READING_POSTS = {"/v1/targets/{target_id}/entries", "/v1/predictions", "/v1/accuracies"}
"""They ask in a body; every other path that is not asked with GET writes."""

Operation = tuple[str, str]


def operations() -> list[Operation]:
    """Every method and path of the API."""
    paths = create_app(ServiceConfig("unopened.db")).openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def writing() -> list[Operation]:
    return [(method, path) for method, path in operations() if method != "GET" and path not in READING_POSTS]


def ids(found: list[Operation]) -> list[str]:
    return [" ".join(one) for one in found]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("access") / "lut.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def tokens(db: Path) -> dict[str, str]:
    secrets = {name: new_token(db, name, ("read",)) for name in ("reader", "gone reader")}
    secrets |= {name: new_token(db, name) for name in ("writer", "gone writer")}
    with open_store(db) as store:
        store.tokens.revoke("gone reader")
        store.tokens.revoke("gone writer")
    return secrets | {"unknown": "chamnet_" + "x" * 43}


@pytest.fixture(scope="module")
def here(db: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
    with in_process(db, rate=0) as client:
        yield client


@pytest.fixture(scope="module")
def elsewhere(db: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
    """A service that others reach."""
    with in_process(db, host="0.0.0.0", rate=0) as client:
        yield client


def test_there_are_paths_that_write_and_paths_that_read() -> None:
    assert len(writing()) >= 4
    assert len(operations()) > len(writing()) + 10


@pytest.mark.parametrize("operation", writing(), ids=ids(writing()))
@pytest.mark.parametrize(
    "token, status",
    [("", 401), ("unknown", 401), ("reader", 403), ("gone reader", 401), ("gone writer", 401)],
)
@pytest.mark.parametrize("body", [b"{}", b"{not json", b""])
def test_only_a_token_that_may_write_writes(
    operation: Operation, token: str, status: int, body: bytes, here: TestClient, tokens: dict[str, str]
) -> None:
    method, path = operation
    headers = {**bearer(tokens.get(token, "")), "Content-Type": "application/json"}
    answer = here.request(method, path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("operation", writing(), ids=ids(writing()))
def test_a_token_that_may_write_comes_further(operation: Operation, here: TestClient, tokens: dict[str, str]) -> None:
    method, path = operation
    answer = here.request(method, path, headers=bearer(tokens["writer"]))
    assert answer.status_code not in (401, 403)


@pytest.mark.parametrize("operation", operations(), ids=ids(operations()))
def test_what_others_reach_tells_nothing_without_a_token(
    operation: Operation, elsewhere: TestClient, tokens: dict[str, str]
) -> None:
    method, path = operation
    bare = elsewhere.request(method, path)
    assert bare.status_code == (200 if path in OPEN else 401)
    for token in ("unknown", "gone reader"):
        assert elsewhere.request(method, path, headers=bearer(tokens[token])).status_code == 401
    if operation not in writing():
        assert elsewhere.request(method, path, headers=bearer(tokens["reader"])).status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/openapi.json", "/v1/nothing", "/v1/targets/"])
def test_no_path_of_the_api_is_forgotten(path: str, elsewhere: TestClient) -> None:
    assert elsewhere.get(path).status_code == 401


def test_reading_is_open_on_loopback_and_a_token_sent_must_be_valid(here: TestClient, tokens: dict[str, str]) -> None:
    assert here.get("/v1/targets").status_code == 200
    assert here.get("/v1/targets", headers=bearer(tokens["reader"])).status_code == 200
    assert here.get("/v1/targets", headers=bearer(tokens["unknown"])).status_code == 401
    assert here.get("/v1/targets", headers={"Authorization": "Basic YTpi"}).status_code == 401
    assert here.get("/v1/targets", headers={"Authorization": "Bearer "}).status_code == 401


def test_a_token_that_is_revoked_ends_at_once(db: Path, here: TestClient) -> None:
    secret = new_token(db, "short-lived")
    assert here.get("/v1/targets", headers=bearer(secret)).status_code == 200
    with open_store(db) as store:
        store.tokens.revoke("short-lived")
    assert here.get("/v1/targets", headers=bearer(secret)).status_code == 401


def test_the_database_holds_no_secret(db: Path, tokens: dict[str, str]) -> None:
    with open_store(db):
        content = b"".join(path.read_bytes() for path in db.parent.rglob("*") if path.is_file())
    assert not any(secret.encode() in content for secret in tokens.values())


@pytest.mark.parametrize(
    "name, status",
    [
        ("127.0.0.1:8420", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8420", 200), ("nas.example", 200),
        ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("", 400), ("10.0.0.7", 400), ("localhost.", 400),
    ],
)  # fmt: skip
def test_other_hosts_names_are_refused(name: str, status: int, db: Path) -> None:
    with in_process(db, allowed_hosts=("nas.example",)) as client:
        answer = client.get("/v1/health", headers={"Host": name})
    assert answer.status_code == status
    assert status == 200 or answer.headers["content-type"] == "application/problem+json"


def test_under_another_name_reading_needs_a_token_since_a_proxy_may_bring_others(
    db: Path, tokens: dict[str, str]
) -> None:
    with in_process(db, allowed_hosts=("nas.example",)) as client:
        assert client.get("/v1/targets").status_code == 401
        assert client.get("/v1/targets", headers=bearer(tokens["reader"])).status_code == 200


def test_a_service_answers_on_each_address_of_this_computer(db: Path) -> None:
    with in_process(db, host="127.0.0.2") as client:
        assert client.get("/v1/health", headers={"Host": "127.0.0.2:8420"}).status_code == 200


def test_what_others_reach_is_named_by_address_or_as_allowed(db: Path) -> None:
    with in_process(db, host="0.0.0.0", allowed_hosts=("nas.example",)) as client:
        found = [client.get("/v1/health", headers={"Host": name}).status_code
                 for name in ("10.0.0.7:8420", "nas.example", "evil.example")]  # fmt: skip
    assert found == [200, 200, 400]


@pytest.mark.parametrize("header, name", [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("[::1", "::1"), (" x ", "x")])
def test_the_name_of_a_host_header(header: str, name: str) -> None:
    assert host_of(header) == name


def test_a_body_is_refused_by_its_declared_length_and_while_it_is_read(db: Path, tokens: dict[str, str]) -> None:
    large = b"[" + b" " * (JSON_MIB * MIB) + b"]"
    headers = {"Content-Type": "application/json"}
    with in_process(db) as client:
        declared = client.post("/v1/accuracies", content=large, headers=headers)
        chunked = client.post(
            "/v1/accuracies", content=(large[i : i + MIB] for i in range(0, len(large), MIB)), headers=headers
        )
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert "16 MiB" in answer.json()["detail"]


def test_an_upload_may_be_as_large_as_the_service_was_told(db: Path, tokens: dict[str, str]) -> None:
    with in_process(db, max_upload_mb=1) as client:
        path, headers = "/v1/predictions/model?target=litert", bearer(tokens["writer"])
        assert client.post(path, content=b"x" * MIB, headers=headers).status_code == 422
        assert client.post(path, content=b"x" * (MIB + 1), headers=headers).status_code == 413


def test_a_token_that_asks_too_often_is_told_when_to_come_back(db: Path, tokens: dict[str, str]) -> None:
    with in_process(db, rate=5) as client:
        answers = [client.get("/v1/health", headers=bearer(tokens["reader"])) for _ in range(12)]
        other = client.get("/v1/health", headers=bearer(tokens["writer"]))
        none = client.get("/v1/health")
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (other.status_code, none.status_code) == (200, 200)


def test_a_bucket_fills_again_up_to_twice_its_rate() -> None:
    clock = [0.0]
    buckets = TokenBuckets(2.0, lambda: clock[0])
    assert [buckets.take("a") == 0 for _ in range(5)] == [True] * 4 + [False]
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    clock[0] = 0.5
    assert [buckets.take("a") == 0 for _ in range(2)] == [True, False]
    clock[0] = 100.0
    assert [buckets.take("a") == 0 for _ in range(5)] == [True] * 4 + [False]


def test_no_rate_is_no_limit() -> None:
    assert not any(TokenBuckets(0).take("a") for _ in range(1000))


@pytest.mark.parametrize("path", ["/", "/v1/health", "/v1/nothing", "/v1/targets/nowhere", "/vendor/plotly.min.js"])
def test_every_answer_binds_the_browser(path: str, here: TestClient) -> None:
    answer = here.get(path, follow_redirects=False)
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert answer.headers["cache-control"]
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


def test_an_unexpected_error_tells_nothing_and_binds_the_browser(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process(db) as client:
        monkeypatch.setattr(client.app.state.service.store, "targets", _fail)  # type: ignore[attr-defined]
        answer = client.get("/v1/targets")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def _fail() -> None:
    raise RuntimeError("a secret of the program")


def test_other_origins_read_nothing_unless_they_are_named(db: Path) -> None:
    preflight = {"Origin": "https://nas.example", "Access-Control-Request-Method": "GET"}
    with in_process(db) as client:
        assert "access-control-allow-origin" not in client.get("/v1/health", headers=preflight).headers
        assert client.options("/v1/targets", headers=preflight).status_code == 405
    with in_process(db, cors=("https://nas.example",)) as client:
        named = client.get("/v1/health", headers=preflight)
        other = client.get("/v1/health", headers={"Origin": "https://evil.example"})
        asked = client.options("/v1/targets", headers=preflight)
    assert named.headers["access-control-allow-origin"] == "https://nas.example"
    assert "access-control-allow-origin" not in other.headers
    assert asked.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/%2e%2e/%2e%2e/host/cli.py", "/..%2f..%2fcli.py", "//etc/passwd", "/vendor/../app.py",
     "/v1/../host/cli.py", "/%00", "/" + "a" * 5000, "/vendor/plotly-..%2f..%2fx.min.js"],
)  # fmt: skip
def test_no_file_outside_the_dashboard_is_served(path: str, db: Path) -> None:
    status, body = asyncio.run(_raw(create_app(ServiceConfig(str(db), run_jobs=False)), path))
    assert status in (404, 405)
    assert b"import" not in body


async def _raw(app: Any, path: str) -> tuple[int, bytes]:
    """The answer to a path as it stands, which no client has tidied."""
    from urllib.parse import unquote

    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", BASE.removeprefix("http://").encode())], "client": ("127.0.0.1", 1), "server": None,
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
