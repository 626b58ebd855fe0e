"""What goes through the wire, without a device: ADB's packets, the status line of SSH, and tars."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.transport.parcel import agent_parcel, parcel_of, tar_of
from host.transport.shell_v2 import CHUNK, EXIT, STDERR, STDIN, STDOUT, ShellV2, packet, read_packets, signed
from host.transport.ssh import without_status

PACKETS = st.lists(st.tuples(st.sampled_from((STDOUT, STDERR)), st.binary(max_size=300)), max_size=8)
CUTS = st.lists(st.integers(1, 200), min_size=1, max_size=30)
FILES = st.dictionaries(st.text("abcxyz-._ü", min_size=1, max_size=20), st.binary(max_size=600), max_size=6)
MARK = b"\nchamnet-0123456789abcdef "


def cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces, at = [], 0
    for length in lengths:
        pieces.append(data[at : at + length])
        at += length
    return [piece for piece in (*pieces, data[at:]) if piece]


def fed(pieces: Sequence[bytes]) -> socket.socket:
    """A socket that gets the pieces one by one, then its end."""
    near, far = socket.socketpair()

    def feed() -> None:
        with far:
            for piece in pieces:
                far.sendall(piece)

    threading.Thread(target=feed, daemon=True).start()
    return near


@given(packets=PACKETS, cuts=CUTS)
def test_packets_arrive_whole_wherever_they_are_cut(packets: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(packet(kind, content) for kind, content in packets)
    with fed(cut(wire, cuts)) as connection:
        assert list(read_packets(connection)) == packets


@given(packets=PACKETS, status=st.integers(0, 255), end=st.integers(0, 5000))
def test_a_connection_that_ends_early_never_tells_a_status(
    packets: list[tuple[int, bytes]], status: int, end: int
) -> None:
    wire = b"".join(packet(kind, content) for kind, content in packets) + packet(EXIT, bytes([status]))
    command = ShellV2(fed([wire[:end]] if end else []))
    told = list(command.output())
    assert told == packets[: len(told)]
    assert command.status() == (signed(status) if end >= len(wire) else None)
    command.kill()


@given(data=st.binary(max_size=100), repeat=st.integers(1, 3000))
def test_what_is_written_is_split_and_comes_together(data: bytes, repeat: int) -> None:
    near, far = socket.socketpair()

    def write() -> None:
        ShellV2(near).write(data * repeat)
        near.close()

    threading.Thread(target=write, daemon=True).start()
    with far:
        packets = list(read_packets(far))
    assert {kind for kind, _ in packets} <= {STDIN}
    assert max((len(content) for _, content in packets), default=0) <= CHUNK
    assert b"".join(content for _, content in packets) == data * repeat


@pytest.mark.parametrize(
    ("status", "meaning"), [(0, 0), (1, 1), (128, 128), (137, -9), (139, -11), (192, -64), (193, 193), (255, 255)]
)
def test_a_status_beyond_the_signals_is_a_status(status: int, meaning: int) -> None:
    assert signed(status) == meaning


@given(errors=st.text("ab\n chamnet-0123", max_size=80), status=st.integers(0, 255), cuts=CUTS)
def test_a_status_is_taken_out_of_errors_wherever_they_are_cut(errors: str, status: int, cuts: list[int]) -> None:
    own, held, told = b"", b"", None
    for piece in cut(errors.encode() + MARK + b"%d\n" % status, cuts):
        passed, held, found = without_status(held + piece, MARK)
        own, told = own + passed, found if told is None else told
    assert (own + held, told) == (errors.encode(), status)


@given(errors=st.text("ab\nchamnet", max_size=80))
def test_no_more_than_the_beginning_of_a_status_is_held_back(errors: str) -> None:
    passed, held, status = without_status(errors.encode(), MARK)
    assert (passed + held, status) == (errors.encode(), None)
    assert MARK.startswith(held)


@given(files=FILES, shuffled=st.randoms())
def test_a_tar_depends_on_what_is_in_it_only(files: dict[str, bytes], shuffled: object) -> None:
    entries = list(files.items())
    shuffled.shuffle(entries)  # type: ignore[attr-defined]
    assert tar_of(dict(entries)) == tar_of(files)
    with tarfile.open(fileobj=io.BytesIO(tar_of(files))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert found == files


@given(files=FILES, name=st.text("abc", min_size=1), content=st.binary(max_size=10))
def test_a_parcel_is_named_by_its_content(files: dict[str, bytes], name: str, content: bytes) -> None:
    changed = {**files, name: content}
    same = parcel_of("x", files).name == parcel_of("x", changed).name
    assert same == (changed == files)
    assert parcel_of("x", {"a": b""}, 0o644).name != parcel_of("x", {"a": b""}, 0o755).name


def test_the_agents_parcel_holds_the_agent_only() -> None:
    with tarfile.open(fileobj=io.BytesIO(agent_parcel().read())) as tar:
        names = tar.getnames()
    assert "agent/__main__.py" in names
    assert all(name.startswith("agent/") and name.endswith(".py") for name in names)
