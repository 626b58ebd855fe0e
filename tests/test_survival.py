"""What breaks while a phone is measured: each fault ends in a resume or in one clear line; no row is lost or doubled.

A fault in the middle of a batch comes when an operator of the fake engine is stuck in it: it makes a file and waits.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.protocol import Sampling
from host import bench, cli, passes
from host.bundle import cache_folder
from host.devices import Unit, find_unit
from host.errors import DeviceUnavailable
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from host.transport import Launch
from host.transport.adb import AdbShell
from host.transport.shell import run as run_there
from lut_db.store import open_store
from tests.test_profile import CULPRIT, count_rows, misbehave, passes_of
from tests.test_profile import OPERATORS as ALL
from tests.virtual_phone import state
from tests.virtual_phone.adb_server import AdbServer, open_adb_server
from tests.virtual_phone.adbd import FakeAdbd, Faults, Options, open_adbd
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import VirtualPhone, open_phone
from tests.virtual_phone.profiles import PROFILES

LIMIT_S = 60.0
OPERATORS = ALL[60:84]
assert CULPRIT in OPERATORS
BATCH = 8
QUICK = Sampling(gate_budget_ns=0)
HOME = "data/local/tmp/chamnet"
COMPLETE = {2: len(OPERATORS)}
SETTINGS = {("global", "stay_on_while_plugged_in"): "0", ("system", "screen_brightness"): "102"}


@dataclass
class Device:
    """A phone of either kind, with a cable that a test may pull."""

    serial: str
    files: Path
    seen_there: str
    pull: Callable[[], None]
    plug: Callable[[], None]
    pull_after: Callable[[int], None]
    launch: Launch = field(default_factory=Launch)


def of_virtual_phone(phone: VirtualPhone) -> Device:
    files, there = phone.root / "data/local/tmp", "/data/local/tmp"
    return Device(phone.serial, files, there, phone.pull_cable, phone.plug_cable, phone.pull_cable_after)


def of_fake_adbd(adbd: FakeAdbd, files: Path) -> Device:
    def pull() -> None:
        adbd.faults.refusing = True
        adbd.drop()

    def plug() -> None:
        adbd.faults.refusing = False
        adbd.drop()

    def pull_after(size_bytes: int) -> None:
        adbd.faults.drop_after_bytes = size_bytes

    return Device(adbd.serial, files, str(files), pull, plug, pull_after, Launch(python=sys.executable))


@pytest.fixture(scope="module")
def hard_phone(adb_server: AdbServer) -> Iterator[VirtualPhone]:
    """Treated badly by every test, and whole again after each."""
    if reason := missing("x86_64"):
        pytest.skip(reason)
    with open_phone("x86_64", "twocore") as phone:
        adb_server.connect(phone.serial)
        yield phone
        adb_server.disconnect(phone.serial)


@pytest.fixture
def phone(hard_phone: VirtualPhone, adb_server: AdbServer) -> VirtualPhone:
    hard_phone.plug_cable()
    hard_phone.complete_boot()
    adb_server.connect(hard_phone.serial)
    AdbShell(hard_phone.serial).wait_back(LIMIT_S)
    shutil.rmtree(hard_phone.root / HOME / "lock", ignore_errors=True)
    (hard_phone.root / "data/local/tmp/stuck").unlink(missing_ok=True)
    return hard_phone


@pytest.fixture(autouse=True)
def several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "BATCH", BATCH)


@pytest.fixture
def fake_adbd(adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdbd]:
    """A phone without namespaces: its agent is run by this Python, its files are in a folder."""
    root = tmp_path / "phone"
    state.build_folder(root, PROFILES["snapdragon8gen2"])
    monkeypatch.setattr("host.transport.adb.HOME", f"{tmp_path}/chamnet")
    environment = {"PATH": f"{root}/system/bin:{os.environ['PATH']}"}
    with open_adbd(Options(root=root, environment=environment), Faults()) as adbd:
        adb_server.connect(adbd.serial)
        yield adbd
        adb_server.disconnect(adbd.serial)


@pytest.fixture(params=["virtual phone", "fake adbd"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if request.param == "fake adbd":
        return of_fake_adbd(request.getfixturevalue("fake_adbd"), tmp_path)
    return of_virtual_phone(request.getfixturevalue("phone"))


@pytest.fixture
def fake_device(fake_adbd: FakeAdbd, tmp_path: Path) -> Device:
    return of_fake_adbd(fake_adbd, tmp_path)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "lut.db"


def run(
    device: Device, db: Path, tell: Callable[[str], None] = lambda stage: None, patience_s: float = LIMIT_S
) -> tuple[Summary, list[str]]:
    """Profiles; what was waited for is told, and the cable is plugged then."""
    waits: list[str] = []

    def wait(reason: str) -> None:
        waits.append(reason)
        device.plug()

    with open_store(db) as store:
        progress = Progress(lambda stage, done, total: tell(f"{stage} {done}"), wait)
        return profile(store, *request_of(device, patience_s), Workload(operators=OPERATORS), progress), waits


def request_of(device: Device, patience_s: float = LIMIT_S) -> tuple[Unit, Setting]:
    unit = find_unit(device.serial, device.launch)
    return unit, Setting("fake", (0,), gate=unit.gate, patience_s=patience_s, sampling=QUICK)


def finish(device: Device, db: Path) -> None:
    """Runs on until nothing is lacking: on a busy machine a pass may leave a few operators doubtful."""
    for _ in range(5):
        if passes_of(db) != COMPLETE:
            run(device, db)
    assert passes_of(db) == COMPLETE


def once(stage: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Acts at the first time that a stage is told."""
    due = [act]

    def tell(told: str) -> None:
        if told.startswith(stage) and due:
            due.pop()()

    return tell


@contextmanager
def when_stuck(monkeypatch: pytest.MonkeyPatch, device: Device, fault: Callable[[], None]) -> Iterator[None]:
    """Breaks something while an operator is being measured, which then goes on as if nothing had been."""
    misbehave(monkeypatch, fail="hang", fail_once=f"{device.seen_there}/stuck")
    over = threading.Event()

    def watch() -> None:
        until(lambda: over.is_set() or (device.files / "stuck").exists())
        if not over.is_set():
            fault()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, condition
        time.sleep(0.01)


def agents_on(phone: VirtualPhone) -> list[int]:
    return [pid for pid, command in phone.processes().items() if "-m agent" in command]


def settings_of(phone: VirtualPhone) -> dict[tuple[str, str], str | None]:
    return {(space, name): phone.setting(name, space) for space, name in SETTINGS}


def test_a_cable_pulled_in_the_middle_of_a_batch_is_waited_for(
    device: Device, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with when_stuck(monkeypatch, device, device.pull):
        summary, waits = run(device, db)
    assert waits
    assert not summary.quarantined
    finish(device, db)


@pytest.mark.parametrize("what, size_bytes", [("agent", 30_000), ("models", 12_000)])
def test_a_cable_pulled_in_the_middle_of_a_push_is_waited_for(
    what: str, size_bytes: int, device: Device, db: Path
) -> None:
    for folder in device.files.glob("chamnet/agent-*"):
        shutil.rmtree(folder)

    def pull() -> None:
        device.pull_after(size_bytes)

    if what == "agent":
        pull()
    summary, waits = run(device, db, once("pass 1 0", pull) if what == "models" else lambda stage: None)
    assert waits
    assert not summary.quarantined
    finish(device, db)


def test_a_bundle_that_came_half_is_sent_again(phone: VirtualPhone, db: Path) -> None:
    for folder in (phone.root / HOME).glob("bundle-*"):
        shutil.rmtree(folder)
    phone.pull_cable_after(60_000_000)
    summary, waits = run(of_virtual_phone(phone), db)
    assert waits
    assert summary.sent_bytes > 60_000_000
    assert not list((phone.root / HOME).glob("*.new"))
    finish(of_virtual_phone(phone), db)


def test_a_phone_that_restarts_in_the_middle_of_a_batch_is_waited_for(
    phone: VirtualPhone, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = of_virtual_phone(phone)
    with when_stuck(monkeypatch, device, phone.reboot):
        summary, waits = run(device, db)
    assert waits
    assert not summary.quarantined
    assert settings_of(phone) == SETTINGS
    finish(device, db)


def test_a_phone_is_not_back_before_it_has_started(phone: VirtualPhone) -> None:
    phone.set_property("sys.boot_completed", "")
    with pytest.raises(DeviceUnavailable, match="still starting"):
        AdbShell(phone.serial).wait_back(0)
    phone.complete_boot()
    AdbShell(phone.serial).wait_back(0)


def test_an_adb_server_that_ends_is_started_anew_and_finds_the_phone(
    phone: VirtualPhone, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAMNET_CACHE", str(cache_folder()))
    monkeypatch.setenv("HOME", str(tmp_path))
    device = of_virtual_phone(phone)
    with open_adb_server() as server:
        server.connect(phone.serial)
        with when_stuck(monkeypatch, device, lambda: server.adb("kill-server")):
            summary, waits = run(device, db)
        assert waits
        assert not summary.quarantined
        server.adb("kill-server")
    finish(device, db)


def test_another_phone_at_the_same_address_is_not_taken_for_it(phone: VirtualPhone) -> None:
    shell = AdbShell(phone.serial)
    shell.wait_back(0)
    phone.set_property("ro.serialno", "OTHER")
    with pytest.raises(DeviceUnavailable, match="phone OTHER answers in its place"):
        shell.wait_back(0)
    phone.set_property("ro.serialno", phone.serialno)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_is_ended_in_the_middle_of_a_batch_is_started_anew(
    number: signal.Signals, phone: VirtualPhone, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = of_virtual_phone(phone)
    with when_stuck(monkeypatch, device, lambda: [os.kill(pid, number) for pid in agents_on(phone)]):
        summary, _ = run(device, db)
    assert not summary.quarantined
    finish(device, db)


def test_an_operator_that_ends_the_agent_is_named_with_the_signal(
    fake_device: Device, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehave(monkeypatch, fail="crash")
    summary, _ = run(fake_device, db)
    assert list(summary.quarantined) == [CULPRIT.key]
    assert "SIGSEGV" in summary.quarantined[CULPRIT.key]
    assert passes_of(db)[2] > 0
    assert sum(passes_of(db).values()) == len(OPERATORS) - 1


def test_an_operator_that_hangs_is_named_and_its_agent_ended(
    phone: VirtualPhone, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BATCH_LIMIT_S", 2.0)
    misbehave(monkeypatch, fail="hang")
    summary, _ = run(of_virtual_phone(phone), db)
    assert list(summary.quarantined) == [CULPRIT.key]
    assert not agents_on(phone)
    assert settings_of(phone) == SETTINGS


def test_an_operator_that_takes_the_phone_with_it_each_time_is_named(
    fake_device: Device, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a driver does that brings the system down."""
    few = (OPERATORS[0], CULPRIT)
    misbehave(monkeypatch, fail="exit")
    monkeypatch.setattr("host.transport.channel.RemoteChannel.exit_status", lambda channel: None)
    monkeypatch.setattr("host.transport.channel.RemoteChannel.lost", lambda channel: True)
    with open_store(db) as store:
        summary = profile(store, *request_of(fake_device), Workload(operators=few), Progress())
    assert list(summary.quarantined) == [CULPRIT.key]
    assert passes_of(db).total() == 1


def test_a_full_phone_is_told_and_what_was_measured_stays(phone: VirtualPhone, db: Path) -> None:
    device = of_virtual_phone(phone)
    with pytest.raises(DeviceUnavailable, match="storage is full; make room") as told:
        run(device, db, once("pass 1 8", lambda: phone.fill_storage(20_000)))
    rows = count_rows(db)
    assert told.value.exit_status == 4
    assert rows > 0
    phone.reboot()
    AdbShell(phone.serial).wait_back(LIMIT_S)
    finish(device, db)
    assert count_rows(db) >= rows


def test_a_phone_too_full_for_the_bundle_is_told(phone: VirtualPhone, db: Path) -> None:
    shutil.rmtree(phone.root / HOME)
    phone.fill_storage(20_000_000)
    with pytest.raises(DeviceUnavailable, match=r"room for \d+ MB of bundle.*storage is full; make room"):
        run(of_virtual_phone(phone), db)
    phone.reboot()


def test_a_phone_without_room_is_left_as_it_is(phone: VirtualPhone, db: Path) -> None:
    """Settings whose old values cannot be written down stay."""
    run(of_virtual_phone(phone), db)
    phone.fill_storage(0)
    shell = AdbShell(phone.serial)
    shell.wait_back(LIMIT_S)
    agent = next((phone.root / HOME).glob("agent-*"))
    bundle = next((phone.root / HOME).glob("bundle-*"))
    there = f"CHAMNET_PHONE=usb CHAMNET_AGENT_HOME=/{HOME}/{agent.name} sh /{HOME}/{bundle.name}/run.sh"
    held = run_there(shell, f"{there} -c 'from agent import phone; phone.hold(); phone.hold()'")
    assert held.status == 0, held
    assert settings_of(phone) == SETTINGS
    phone.reboot()


def test_an_unauthorised_phone_is_told(adb_server: AdbServer, db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with open_adbd(Options(authorisation="never")) as adbd:
        adb_server.connect(adbd.serial)
        status = cli.run(["profile", "--device", adbd.serial, "--engine", "fake", "--db", str(db)])
        adb_server.disconnect(adbd.serial)
    told = capfd.readouterr().err
    assert status == 4
    assert "allow USB debugging" in told
    assert told.count("\n") == 1


def test_a_phone_that_comes_back_unauthorised_is_told(adb_server: AdbServer) -> None:
    with open_adbd(Options(authorisation="never")) as adbd:
        adb_server.connect(adbd.serial)
        with pytest.raises(DeviceUnavailable, match=r"was not: .*unauthorized.*repeat the command") as told:
            AdbShell(adbd.serial).wait_back(0)
        adb_server.disconnect(adbd.serial)
    assert "\n" not in str(told.value)


def test_a_phone_that_does_not_come_back_is_told_after_the_patience(fake_device: Device, db: Path) -> None:
    fake_device.plug, plug = lambda: None, fake_device.plug
    with pytest.raises(DeviceUnavailable, match=r"must be ready.*repeat the command") as told:
        run(fake_device, db, once("pass 1 8", fake_device.pull), patience_s=0.0)
    assert told.value.exit_status == 4
    rows = count_rows(db)
    plug()
    AdbShell(fake_device.serial).wait_back(LIMIT_S)
    finish(fake_device, db)
    assert count_rows(db) >= rows


def test_a_killed_host_leaves_a_phone_as_it_was_and_free(phone: VirtualPhone, db: Path) -> None:
    command = [sys.executable, "-m", "host.profile", "--device", phone.serial, "--engine", "fake", "--db", str(db)]
    host = subprocess.Popen([*command, "--space", "chamnet-res", "--limit", "600"], stderr=subprocess.PIPE)
    until(lambda: count_rows(db) > 0 or host.poll() is not None)
    host.kill()
    assert host.wait() == -signal.SIGKILL
    rows = count_rows(db)
    assert rows > 0
    until(lambda: settings_of(phone) == SETTINGS and not agents_on(phone))
    assert (phone.root / HOME / "lock/owner").exists()
    assert run(of_virtual_phone(phone), db)[0].measured > 0
    assert count_rows(db) >= rows
    assert max(passes_of(db)) == 2
    assert not list((phone.root / HOME).glob("models*"))


@pytest.mark.parametrize("shared", [True, False], ids=["one database", "two databases"])
def test_a_second_host_is_refused_while_the_first_measures(shared: bool, device: Device, db: Path) -> None:
    told: list[str] = []

    def second() -> None:
        with pytest.raises(DeviceUnavailable) as refusal:
            run(device, db if shared else db.with_name("other.db"))
        told.append(str(refusal.value))
        assert refusal.value.exit_status == 4

    run(device, db, once("pass 1 8", second))
    assert re.search(rf"must be free, but process {os.getpid()} on \S+ measures on it; wait for its end", told[0])
    finish(device, db)


@pytest.mark.parametrize("age_s, taken", [(60, False), (3600, True)])
def test_a_lock_of_another_computer_holds_while_it_is_renewed(
    age_s: int, taken: bool, device: Device, db: Path
) -> None:
    write_lock(device, "elsewhere:1:boot:id", time.time() - age_s)
    if taken:
        assert run(device, db)[0].measured
        return
    with pytest.raises(DeviceUnavailable, match="process 1 on elsewhere measures on it"):
        run(device, db)


def test_who_is_taken_over_stops_and_leaves_the_other_alone(fake_device: Device, db: Path) -> None:
    lock = fake_device.files / "chamnet/lock"
    with pytest.raises(DeviceUnavailable, match="but elsewhere:1:boot:id holds it; repeat the command"):
        run(fake_device, db, once("pass 1 8", lambda: write_lock(fake_device, "elsewhere:1:boot:id", time.time())))
    assert (lock / "owner").read_text() == "elsewhere:1:boot:id\n"
    shutil.rmtree(lock)
    finish(fake_device, db)


def write_lock(device: Device, owner: str, beat: float) -> None:
    lock = device.files / "chamnet/lock"
    lock.mkdir(parents=True, exist_ok=True)
    (lock / "owner").write_text(f"{owner}\n")
    (lock / "beat").write_text(f"{int(beat)}\n")
