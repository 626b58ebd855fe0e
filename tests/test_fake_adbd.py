"""The fake device of ``tests/virtual_phone/adbd``: faults that the real adbd cannot give, seen through the real adb."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.virtual_phone import state
from tests.virtual_phone.adb_server import AdbServer
from tests.virtual_phone.adbd import FakeAdbd, Faults, Options, open_adbd
from tests.virtual_phone.adbd.options import host_command
from tests.virtual_phone.profiles import PROFILES

LIMIT_S = 60.0


@pytest.fixture
def device(adb_server: AdbServer, tmp_path: Path) -> Iterator[FakeAdbd]:
    state.build_folder(tmp_path, PROFILES["snapdragon835"])
    environment = {"PATH": f"{tmp_path}/system/bin:/usr/bin:/bin"}
    with open_adbd(Options(root=tmp_path, environment=environment)) as adbd:
        adb_server.connect(adbd.serial)
        yield adbd
        adb_server.disconnect(adbd.serial)


@pytest.fixture
def heard_hang_ups() -> Iterator[None]:
    """Under ``nohup`` no shell can trap a hang-up: what is ignored stays so in children."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(bytes(range(256)) * 10_000)
    return path


def test_commands_run_in_the_folder_that_stands_for_the_phone(adb_server: AdbServer, device: FakeAdbd) -> None:
    ran = adb_server.adb("-s", device.serial, "shell", "-T", "getprop ro.board.platform; cat /sys/devices/soc0/soc_id")
    assert ran.stdout.split() == [b"msm8998", b"292"]


def test_output_errors_and_status_come_apart(adb_server: AdbServer, device: FakeAdbd) -> None:
    ran = adb_server.adb("-s", device.serial, "shell", "-T", "cat; echo err >&2; exit 7", stdin=b"in")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"in", b"err\n", 7)


def test_what_is_pushed_can_be_pulled(
    adb_server: AdbServer, device: FakeAdbd, large_file: Path, tmp_path: Path
) -> None:
    adb_server.adb("-s", device.serial, "push", str(large_file), "/data/local/tmp/")
    adb_server.adb("-s", device.serial, "pull", "/data/local/tmp/large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == large_file.read_bytes()
    assert (tmp_path / "data/local/tmp/large").exists()


def test_a_refused_key_leaves_the_device_unauthorised(adb_server: AdbServer) -> None:
    with open_adbd(Options(authorisation="never")) as adbd:
        adb_server.connect(adbd.serial)
        assert adb_server.state(adbd.serial) == "unauthorized"
        adb_server.disconnect(adbd.serial)


def test_an_allowed_key_makes_it_usable(adb_server: AdbServer) -> None:
    with open_adbd(Options(authorisation="ask")) as adbd:
        adb_server.connect(adbd.serial)
        assert adb_server.state(adbd.serial) == "unauthorized"
        adbd.allow_key()
        adb_server.wait_for(adbd.serial)
        assert adb_server.adb("-s", adbd.serial, "shell", "-T", "echo here").stdout == b"here\n"
        adb_server.disconnect(adbd.serial)


def test_a_push_is_cut_after_so_many_bytes(adb_server: AdbServer, device: FakeAdbd, large_file: Path) -> None:
    device.faults.drop_after_bytes = 1_000_000
    assert adb_server.adb("-s", device.serial, "push", str(large_file), "/data/local/tmp/").returncode != 0
    adb_server.wait_for(device.serial)
    assert adb_server.adb("-s", device.serial, "push", str(large_file), "/data/local/tmp/").returncode == 0


@pytest.mark.usefixtures("heard_hang_ups")
def test_a_cut_connection_hangs_up_on_framed_commands(adb_server: AdbServer, device: FakeAdbd, tmp_path: Path) -> None:
    command = "trap 'echo hung up > /data/ended; exit' HUP; echo started; while :; do sleep 0.05; done"
    adb = [adb_server.adb_path, "-P", str(adb_server.port), "-s", device.serial, "shell", "-T", command]
    with subprocess.Popen(adb, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        device.drop()
        assert process.wait(timeout=LIMIT_S) == 255
    ended, deadline = tmp_path / "data/ended", time.monotonic() + LIMIT_S
    while not ended.exists() or not ended.read_text():
        assert time.monotonic() < deadline, "the command must be told"
        time.sleep(0.01)
    assert ended.read_text() == "hung up\n"


def test_a_refusing_device_is_offline(adb_server: AdbServer, device: FakeAdbd) -> None:
    device.faults.refusing = True
    device.drop()
    ran = adb_server.adb("-s", device.serial, "shell", "-T", "true")
    assert ran.returncode != 0
    assert adb_server.state(device.serial) in ("", "offline")


def test_a_full_device_takes_no_more(adb_server: AdbServer, large_file: Path, tmp_path: Path) -> None:
    with open_adbd(Options(root=tmp_path, free_bytes=100_000)) as adbd:
        adb_server.connect(adbd.serial)
        pushed = adb_server.adb("-s", adbd.serial, "push", str(large_file), "/data/local/tmp/large")
        assert b"No space left on device" in pushed.stderr
        adb_server.disconnect(adbd.serial)
    assert f" {tmp_path}" not in Path("/proc/self/mounts").read_text()


def test_a_slow_link_still_works(adb_server: AdbServer) -> None:
    with open_adbd(faults=Faults(packet_delay_s=0.005)) as adbd:
        adb_server.connect(adbd.serial)
        assert adb_server.adb("-s", adbd.serial, "shell", "-T", "echo here").stdout == b"here\n"
        adb_server.disconnect(adbd.serial)


@pytest.mark.parametrize(
    "command, mapped",
    [
        ("cat /sys/a/b", "cat /phone/sys/a/b"),
        ("echo x >/data/y && ls '/sdcard'", "echo x >/phone/data/y && ls '/phone/sdcard'"),
        ("ls /usr/data /database ./data", "ls /usr/data /database ./data"),
    ],
)
def test_only_paths_of_the_phone_are_mapped(command: str, mapped: str) -> None:
    assert host_command(Options(root=Path("/phone")), command) == mapped
