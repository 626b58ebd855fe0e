"""Where benchmark_model comes from, and that it stays the same."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from host.binaries import NAMES, RECORD, obtain
from host.errors import HostError, UsageError

ABI = "arm64-v8a"
FIRST, SECOND = b"\x7fELF first", b"\x7fELF second"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that the server offers, with a binary in it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / NAMES[ABI]).write_bytes(FIRST)
    return folder


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(shelf: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(shelf)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_download_is_executable_recorded_and_made_once(address: str, shelf: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    binary = obtain(None, ABI, cache, address=address)
    assert (binary.path.read_bytes(), binary.sha256) == (FIRST, digest(FIRST))
    assert os.access(binary.path, os.X_OK)
    assert json.loads((cache / RECORD).read_text()) == {address + NAMES[ABI]: digest(FIRST)}
    (shelf / NAMES[ABI]).unlink()
    assert obtain(None, ABI, cache, address=address) == binary
    assert sorted(path.name for path in cache.iterdir()) == sorted([NAMES[ABI], RECORD])


def test_a_changed_cache_names_both_digests_and_the_option(address: str, tmp_path: Path) -> None:
    binary = obtain(None, ABI, tmp_path, address=address)
    binary.path.write_bytes(SECOND)
    with pytest.raises(HostError) as error:
        obtain(None, ABI, tmp_path, address=address)
    assert all(part in str(error.value) for part in (digest(FIRST), digest(SECOND), "--accept-binary"))


def test_a_changed_download_is_not_installed_until_it_is_accepted(address: str, shelf: Path, tmp_path: Path) -> None:
    binary = obtain(None, ABI, tmp_path / "cache", address=address)
    binary.path.unlink()
    (shelf / NAMES[ABI]).write_bytes(SECOND)
    with pytest.raises(HostError, match="--accept-binary"):
        obtain(None, ABI, tmp_path / "cache", address=address)
    assert not binary.path.exists()
    accepted = obtain(None, ABI, tmp_path / "cache", accept_change=True, address=address)
    assert accepted.sha256 == digest(SECOND)
    assert obtain(None, ABI, tmp_path / "cache", address=address) == accepted


def test_a_given_file_is_recorded_and_enforced_too(tmp_path: Path) -> None:
    mine = tmp_path / "benchmark_model"
    mine.write_bytes(b"a script will do")
    assert obtain(mine, ABI, tmp_path / "cache").path == mine
    mine.write_bytes(b"another")
    with pytest.raises(HostError, match=digest(b"another")):
        obtain(mine, ABI, tmp_path / "cache")
    assert obtain(mine, "mips", tmp_path / "cache", accept_change=True).sha256 == digest(b"another")


@pytest.mark.parametrize("content", [None, b"", b"<html>Please log in</html>"])
def test_a_failed_download_says_what_to_do_by_hand(
    address: str, shelf: Path, tmp_path: Path, content: bytes | None
) -> None:
    (shelf / NAMES[ABI]).unlink()
    if content is not None:
        (shelf / NAMES[ABI]).write_bytes(content)
    with pytest.raises(HostError, match="by hand") as error:
        obtain(None, ABI, tmp_path / "cache", address=address)
    assert str(tmp_path / "cache" / NAMES[ABI]) in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_put_into_the_cache_by_hand_is_used(tmp_path: Path) -> None:
    (tmp_path / NAMES[ABI]).write_bytes(FIRST)
    binary = obtain(None, ABI, tmp_path, address="http://127.0.0.1:1/")
    assert binary.sha256 == digest(FIRST)
    assert os.access(binary.path, os.X_OK)


def test_a_server_that_is_not_there_is_a_failed_download(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="by hand"):
        obtain(None, ABI, tmp_path, address="http://127.0.0.1:1/")


def test_a_download_that_ends_early_is_a_failed_download(tmp_path: Path) -> None:
    class Short(Silent):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(FIRST)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Short)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(HostError, match="by hand"):
        obtain(None, ABI, tmp_path, address=f"http://127.0.0.1:{server.server_address[1]}/")
    server.shutdown()
    server.server_close()
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a file"):
        obtain(tmp_path / "none", ABI, tmp_path)
    with pytest.raises(UsageError, match="arm64-v8a"):
        obtain(None, "mips", tmp_path)


def test_a_spoilt_record_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[")
    (tmp_path / NAMES[ABI]).write_bytes(FIRST)
    with pytest.raises(HostError, match=RECORD):
        obtain(None, ABI, tmp_path)
