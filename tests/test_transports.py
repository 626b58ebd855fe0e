"""One contract for every way to reach a device: this machine, a phone on real adb and adbd, a board on a real sshd."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.protocol import Measure, Model
from host.devices import find_unit
from host.errors import HostError, UsageError
from host.session import AgentDied, AgentSession, Batch
from host.transport import DeviceLost, Launch, Transport, adb, local, ssh
from host.transport.remote import RemoteTransport
from host.transport.shell import Output, Stream, run

AWKWARD = 'it\'s "so"; $HOME `id` $(touch broken) \\ *? ~ & | < > ü\nsecond line \\n %s'
NAMES = ("plain.model", "with space.bin", "-rf", "it's.$HOME;`touch broken`.x", "ünïcode", "tab\there", 'quo"te\\.bin')
CONTENTS = (b"", bytes(range(256)), b"\r\n\0\x1a\n" * 3, bytes(range(256)) * 2000)
ROUND_TRIP = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Opener = Callable[[], Transport]


@pytest.fixture(params=["local", "adb", "ssh"])
def open_transport(request: pytest.FixtureRequest) -> Opener:
    """Opens a transport to one and the same device."""
    if request.param == "local":
        return local.open_transport
    if request.param == "adb":
        serial = request.getfixturevalue("x86_phone").serial
        return lambda: adb.open_transport(serial, Launch())
    address = request.getfixturevalue("board").address
    return lambda: ssh.open_transport(address, Launch(python=sys.executable))


@pytest.fixture
def transport(open_transport: Opener) -> Iterator[Transport]:
    with contextlib.closing(open_transport()) as opened:
        yield opened


@pytest.fixture
def remote(transport: Transport) -> RemoteTransport:
    if not isinstance(transport, RemoteTransport):
        pytest.skip("this machine is reached without a shell")
    return transport


def shell(transport: Transport, command: str) -> Output:
    """Runs a command on the device, whichever it is."""
    if isinstance(transport, RemoteTransport):
        return transport.run(command)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


def placed(transport: Transport, name: str, blob: bytes) -> str:
    path = transport.put(name, blob)
    transport.ready([path])
    return path


def measured(transport: Transport, session: AgentSession, model: bytes, limit_s: float = 30.0) -> Batch:
    paths = [placed(transport, f"{name}.model", blob) for name, blob in (("null", b'{"ns": 0}'), ("it", model))]
    return session.measure(Measure("fake", {}, [Model("it", paths[1])], paths[0]), limit_s)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_come_back_as_they_were(transport: Transport, name: str) -> None:
    for content in CONTENTS:
        path = placed(transport, f"{len(content)}-{name}", content)
        assert transport.fetch(path) == content
    assert shell(transport, "ls broken ~/broken").stdout == b""


@given(content=st.binary(max_size=5000))
@ROUND_TRIP
def test_any_bytes_come_back_as_they_were(transport: Transport, content: bytes) -> None:
    path = placed(transport, f"{hash(content)}.model", content)
    assert transport.fetch(path) == content


def test_many_files_travel_together(transport: Transport) -> None:
    paths = [transport.put(f"{number}.model", b"%d" % number) for number in range(300)]
    with commands(transport) as sent:
        transport.ready(paths)
    assert len([command for command in sent if "tar" in command]) <= 1
    assert [transport.fetch(path) for path in paths[::50]] == [b"%d" % number for number in range(0, 300, 50)]


@contextlib.contextmanager
def commands(transport: Transport) -> Iterator[list[str]]:
    """What the device's shell is told within the block."""
    told: list[str] = []
    if not isinstance(transport, RemoteTransport):
        yield told
        return
    spawn = transport.shell.spawn

    def recorded(command: str) -> Stream:
        told.append(command)
        return spawn(command)

    transport.shell.spawn = recorded  # type: ignore[method-assign]
    try:
        yield told
    finally:
        transport.shell.spawn = spawn  # type: ignore[method-assign]


def test_a_file_that_is_there_is_not_sent_again(transport: Transport) -> None:
    path = placed(transport, "once.model", b"once")
    before = transport.sent_bytes
    with commands(transport) as told:
        transport.ready([path, path])
        placed(transport, "once.model", b"once")
    assert not told
    assert transport.sent_bytes == before


def test_the_oldest_files_leave_when_there_are_too_many(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """And come again when they are needed."""
    monkeypatch.setattr("host.transport.remote.KEPT_BYTES", (2500, 2500))
    old, *_, new = [placed(transport, f"{number}.model", bytes(1000)) for number in range(4)]
    assert transport.fetch(new) == bytes(1000)
    if isinstance(transport, RemoteTransport):
        with pytest.raises(HostError, match="No such file"):
            transport.fetch(old)
    transport.ready([old, new])
    assert transport.fetch(old) == bytes(1000)


@pytest.mark.parametrize(
    ("blocks", "kept"), [("10 1000", 900), ("1 1600", 800), ("5 100", 300), ("? ?", 300), ("", 300)]
)
def test_more_files_are_kept_where_there_is_more_room(
    remote: RemoteTransport, blocks: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.transport.remote.KEPT_BYTES", (300, 900))
    monkeypatch.setattr(remote, "run", lambda command: Output(0, blocks.encode(), b""))
    assert remote._kept_bytes == kept


def test_what_was_never_put_counts_as_ready(transport: Transport) -> None:
    path = placed(transport, "there.model", b"there")
    transport.ready([f"{path}.optimised"])


def test_a_file_that_is_not_there_is_an_error(transport: Transport) -> None:
    path = transport.put("later.model", b"")
    with pytest.raises(HostError, match="must be readable"):
        transport.fetch(f"{path}.missing")


def test_what_is_installed_runs(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text('#!/bin/sh\necho "here: $1"\n')
    folder = transport.install("tools", {"tool": tmp_path / "tool"})
    assert shell(transport, f"{folder}/tool it").text == "here: it\n"


def test_what_is_installed_is_not_sent_again(open_transport: Opener, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text(f"#!/bin/sh\n# {tmp_path}\n")
    files = {"tool": tmp_path / "tool"}
    with contextlib.closing(open_transport()) as first:
        folder = first.install("tools", files)
    with contextlib.closing(open_transport()) as second, commands(second) as told:
        again = second.install("tools", files)
        assert not [command for command in told if "tar" in command]
        assert second.sent_bytes == 0
    if isinstance(second, RemoteTransport):
        assert again == folder


def test_the_agent_and_what_it_runs_on_are_not_sent_again(open_transport: Opener) -> None:
    for _ in range(2):
        with contextlib.closing(open_transport()) as transport, AgentSession(transport, (), {}):
            sent = transport.sent_bytes
    assert sent == 0


def test_other_content_is_installed_beside(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("#!/bin/sh\necho old\n")
    old = transport.install("tools", {"tool": tmp_path / "a"})
    (tmp_path / "b").write_text("#!/bin/sh\necho new\n")
    new = transport.install("tools", {"tool": tmp_path / "b"})
    assert shell(transport, f"{new}/tool").text == "new\n"
    assert not isinstance(transport, RemoteTransport) or old != new


def test_the_agent_measures_there(transport: Transport) -> None:
    with AgentSession(transport, (), {}) as session:
        batch = measured(transport, session, b'{"ns": 5000}')
    (answer,) = batch.measured
    assert {ns // answer.loops for burst in answer.bursts_ns for ns in burst} == {5250}
    assert session.hello.engines["fake"] == {"version": "1"}


def test_the_agents_variables_arrive_whatever_is_in_them(transport: Transport) -> None:
    with AgentSession(transport, (), {"GLIBC_TUNABLES": AWKWARD}) as session:
        assert session.look()["glibc_tunables"] == AWKWARD
    assert shell(transport, "ls broken ~/broken").stdout == b""


def test_the_agent_keeps_to_its_processors(transport: Transport) -> None:
    with AgentSession(transport, [0], {}) as session:
        allowed = shell(transport, f"grep Cpus_allowed_list /proc/{session.hello.pid}/status").text
    assert allowed.split() == ["Cpus_allowed_list:", "0"]


def test_errors_and_status_come_apart_from_output(transport: Transport) -> None:
    channel = transport.spawn_agent(["--no-such-option"], {})
    assert list(channel.lines()) == []
    assert channel.exit_status() == 2
    assert "unrecognized arguments: --no-such-option" in channel.stderr_tail()
    assert "chamnet-" not in channel.stderr_tail()
    assert not channel.lost()
    channel.close()


@pytest.mark.parametrize(("how", "told"), [("crash", "signal SIGSEGV"), ("exit", "exit status 7")])
def test_how_an_agent_ended_is_told(transport: Transport, how: str, told: str) -> None:
    with AgentSession(transport, (), {}) as session, pytest.raises(AgentDied, match=told) as death:
        measured(transport, session, b'{"ns": 1, "fail": "%s"}' % how.encode())
    assert death.value.suspects == ("it",)


def test_an_agent_that_hangs_is_ended_on_the_device(transport: Transport) -> None:
    with AgentSession(transport, (), {}) as session:
        pid = session.hello.pid
        assert shell(transport, f"kill -0 {pid}").status == 0
        with pytest.raises(AgentDied, match="said nothing"):
            measured(transport, session, b'{"ns": 1, "fail": "hang"}', limit_s=1.0)
    assert gone(transport, pid)


def test_an_agent_whose_input_ends_goes(transport: Transport) -> None:
    with AgentSession(transport, (), {}) as session:
        pid = session.hello.pid
    assert gone(transport, pid)


def gone(transport: Transport, pid: int) -> bool:
    deadline = time.monotonic() + 10
    while shell(transport, f"kill -0 {pid}").status == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_model_files_leave_with_the_transport(open_transport: Opener) -> None:
    with contextlib.closing(open_transport()) as first:
        path = placed(first, "left.model", b"left")
    with contextlib.closing(open_transport()) as second, pytest.raises(HostError):
        second.fetch(path)


def test_no_argument_breaks_out_of_a_command(remote: RemoteTransport) -> None:
    assert remote.run(f"printf %s {shlex.quote(AWKWARD)}").stdout.decode() == AWKWARD


def test_no_argument_breaks_out_of_a_command_line_of_this_computer(remote: RemoteTransport) -> None:
    """The way in which an agent here reaches the device."""
    words = [*remote.shell.prefix, f"printf %s {shlex.quote(AWKWARD)}; echo err >&2"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout.decode() == AWKWARD
    assert done.stderr.strip() == b"err"


@pytest.mark.parametrize("status", [0, 1, 7, 126, 255])
def test_every_exit_status_arrives(remote: RemoteTransport, status: int) -> None:
    done = remote.run(f"echo out; echo err >&2; exit {status}")
    assert (done.status, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


def test_a_signal_is_a_negative_status(remote: RemoteTransport) -> None:
    assert remote.run("kill -9 $$").status == -9


def test_much_goes_in_and_comes_out(remote: RemoteTransport) -> None:
    content = bytes(range(256)) * 20_000
    assert remote.run("cat", content).stdout == content


def test_a_command_may_leave_its_input_unread(remote: RemoteTransport) -> None:
    assert remote.run("exit 3", bytes(3_000_000)).status == 3


def test_a_command_that_takes_too_long_counts_as_a_lost_device(remote: RemoteTransport) -> None:
    with pytest.raises(DeviceLost, match="longer than 0 s: sleep 30"):
        run(remote.shell, "sleep 30", limit_s=0.3)
    assert remote.run("echo back").text == "back\n"


@pytest.mark.parametrize("address", ["", "-oProxyCommand=id", "a b", "u@h:22:22", "u@h;id", "u@[::1", "$(id)"])
def test_what_is_no_board_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="ssh:user@host"):
        ssh.SshShell(address)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("pi", "ssh pi"),
        ("me@pi.local:2222", "ssh -p 2222 me@pi.local"),
        ("me@[fe80::1%eth0]:22", "ssh -p 22 me@fe80::1%eth0"),
        ("[::1]", "ssh ::1"),
    ],
)
def test_boards_are_named_as_people_name_them(address: str, words: str) -> None:
    with contextlib.closing(ssh.SshShell(address)) as named:
        assert named.by_hand == words


def test_a_board_that_refuses_says_why(board: object) -> None:
    with pytest.raises(HostError, match=r"Connection refused.*'ssh -p 1 me@127\.0\.0\.1' must work"):
        find_unit("ssh:me@127.0.0.1:1")
