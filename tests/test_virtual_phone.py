"""The virtual phone itself, spoken to by the real adb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import adbutils
import pytest

from tests.virtual_phone.adb_server import AdbServer
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import VirtualPhone, open_phone

REPOSITORY = Path(__file__).parent.parent
STORAGE = "/data/local/tmp"


@pytest.fixture
def own_phone(adb_server: AdbServer) -> Iterator[VirtualPhone]:
    """One that may be broken."""
    if reason := missing("x86_64"):
        pytest.skip(reason)
    with open_phone("x86_64") as phone:
        adb_server.connect(phone.serial)
        yield phone
        adb_server.disconnect(phone.serial)


def shell(server: AdbServer, phone: VirtualPhone, command: str) -> str:
    ran = server.adb("-s", phone.serial, "shell", "-T", command)
    assert ran.returncode == 0, ran
    return ran.stdout.decode().strip()


def test_the_emulated_phone_runs_arm_programs_as_the_shell_user(adb_server: AdbServer, arm_phone: VirtualPhone) -> None:
    assert shell(adb_server, arm_phone, "id -u; uname -m").split() == ["2000", "aarch64"]


def test_the_native_phone_runs_this_machines_programs(adb_server: AdbServer, x86_phone: VirtualPhone) -> None:
    assert shell(adb_server, x86_phone, "id -u; uname -m").split() == ["2000", "x86_64"]


def test_adbutils_finds_the_private_server(x86_phone: VirtualPhone) -> None:
    device = adbutils.AdbClient().device(x86_phone.serial)
    assert device.shell("getprop ro.serialno") == "VPHONE0001"


def test_the_fixture_phone_answers(phone: str, adb_server: AdbServer) -> None:
    assert adbutils.AdbClient().device(phone).shell("echo here") == "here"


def test_the_phone_says_that_it_is_emulated(adb_server: AdbServer, x86_phone: VirtualPhone) -> None:
    assert shell(adb_server, x86_phone, "getprop ro.boot.qemu") == "1"


def test_output_errors_and_status_come_apart(adb_server: AdbServer, x86_phone: VirtualPhone) -> None:
    ran = adb_server.adb("-s", x86_phone.serial, "shell", "-T", "echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 7)


def test_what_is_pushed_can_be_pulled(adb_server: AdbServer, x86_phone: VirtualPhone, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    adb_server.adb("-s", x86_phone.serial, "push", str(tmp_path / "there"), f"{STORAGE}/pushed")
    adb_server.adb("-s", x86_phone.serial, "pull", f"{STORAGE}/pushed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content == (x86_phone.root / "data/local/tmp/pushed").read_bytes()


def test_the_phone_has_no_c_library_to_lean_on(x86_phone: VirtualPhone) -> None:
    assert not any((x86_phone.root / name).exists() for name in ("lib", "lib64", "usr"))


def test_a_changed_file_of_sys_is_seen_at_once(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.cap_frequency(7, 1_000_000)
    read = shell(adb_server, own_phone, "cat /sys/devices/system/cpu/cpu7/cpufreq/scaling_max_freq")
    assert read == "1000000"


def test_a_changed_property_is_seen_at_once(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.set_property("debug.seen", "yes")
    assert shell(adb_server, own_phone, "getprop debug.seen") == "yes"


def test_another_chip_is_told_at_once(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.become("snapdragon835")
    asked = "getprop ro.board.platform; cat /sys/devices/soc0/soc_id; ls -d /sys/devices/system/cpu/cpufreq/policy*"
    platform, soc_id, *policies = shell(adb_server, own_phone, asked).split()
    assert (platform, soc_id, [policy[-1] for policy in policies]) == ("msm8998", "292", ["0", "4"])


def test_a_hot_phone_says_so(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.heat({"skin": 48_500}, status=3, battery_mc=41_200)
    said = shell(adb_server, own_phone, "dumpsys thermalservice; dumpsys battery")
    assert "Thermal Status: 3" in said
    assert "mValue=48.5, mType=3, mName=skin" in said
    assert "temperature: 412" in said


def test_an_old_phone_has_no_thermal_service(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.become("snapdragon835")
    ran = adb_server.adb("-s", own_phone.serial, "shell", "-T", "dumpsys thermalservice")
    assert b"Can't find service" in ran.stderr


def test_some_gauges_count_the_other_way_round(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.become("inverted")
    own_phone.charge(into_battery_ua=-500_000)
    node = "/sys/class/power_supply/battery"
    assert shell(adb_server, own_phone, f"cat {node}/current_now {node}/status").split() == ["500000", "Discharging"]


def test_settings_are_kept(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    shell(adb_server, own_phone, "settings put system screen_brightness 10; svc power stayon usb")
    assert own_phone.setting("screen_brightness", "system") == "10"
    assert own_phone.setting("stay_on_while_plugged_in") == "2"
    own_phone.set_setting("screen_brightness", "20", "system")
    assert shell(adb_server, own_phone, "settings get system screen_brightness; settings get global none") == "20\nnull"


def test_aeroplane_mode_is_a_setting(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    said = shell(adb_server, own_phone, "cmd connectivity airplane-mode enable; cmd connectivity airplane-mode")
    assert (said, own_phone.setting("airplane_mode_on")) == ("enabled", "1")


def test_a_battery_set_by_hand_freezes_until_reset(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    shell(adb_server, own_phone, "dumpsys battery set level 50")
    own_phone.charge(level_percent=60)
    assert "level: 50" in shell(adb_server, own_phone, "dumpsys battery")
    assert "level: 60" in shell(adb_server, own_phone, "dumpsys battery reset; dumpsys battery")


def test_a_denied_file_cannot_be_read(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.deny("/sys/class/power_supply/battery/current_now")
    ran = adb_server.adb("-s", own_phone.serial, "shell", "-T", "cat /sys/class/power_supply/battery/current_now")
    assert b"Permission denied" in ran.stderr


def test_a_mask_of_the_phones_processors_is_taken(adb_server: AdbServer, x86_phone: VirtualPhone) -> None:
    assert shell(adb_server, x86_phone, "taskset f8 echo pinned") == "pinned"


def test_a_mask_beyond_the_phones_processors_is_refused(adb_server: AdbServer, x86_phone: VirtualPhone) -> None:
    assert adb_server.adb("-s", x86_phone.serial, "shell", "-T", "taskset 100 echo pinned").returncode != 0


def test_a_pulled_cable_ends_commands_and_comes_back(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    adb = [adb_server.adb_path, "-P", str(adb_server.port), "-s", own_phone.serial]
    with subprocess.Popen([*adb, "shell", "-T", "echo started; exec sleep 1000"], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"started\n"
        own_phone.pull_cable()
        assert command.wait(timeout=30) == 255
    assert adb_server.state(own_phone.serial) != "device"
    own_phone.plug_cable()
    adb_server.wait_for(own_phone.serial)
    assert shell(adb_server, own_phone, "echo back") == "back"


def test_a_cable_can_be_pulled_in_the_middle(adb_server: AdbServer, own_phone: VirtualPhone, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(5_000_000))
    own_phone.pull_cable_after(2_000_000)
    pushed = adb_server.adb("-s", own_phone.serial, "push", str(tmp_path / "large"), STORAGE)
    assert pushed.returncode != 0
    assert adb_server.state(own_phone.serial) != "device"


def test_a_reboot_ends_processes_and_keeps_files(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = shell(adb_server, own_phone, f"echo kept > {STORAGE}/kept; sleep 1000 > /dev/null 2>&1 & {boot_id}")
    assert any("sleep" in command for command in own_phone.processes().values())
    own_phone.reboot()
    adb_server.wait_for(own_phone.serial)
    assert shell(adb_server, own_phone, f"cat {STORAGE}/kept; getprop sys.boot_completed") == "kept\n1"
    assert shell(adb_server, own_phone, boot_id) != before
    assert not any("sleep" in command for command in own_phone.processes().values())


def test_a_booting_phone_says_so(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    own_phone.reboot(complete=False)
    adb_server.wait_for(own_phone.serial)
    assert shell(adb_server, own_phone, "getprop sys.boot_completed") == "0"


def test_time_starts_anew_with_the_phone(adb_server: AdbServer, own_phone: VirtualPhone) -> None:
    up_s = float(shell(adb_server, own_phone, "cat /proc/uptime").split()[0])
    assert up_s < float(Path("/proc/uptime").read_text().split()[0])


def test_a_full_phone_takes_no_more(adb_server: AdbServer, own_phone: VirtualPhone, tmp_path: Path) -> None:
    shell(adb_server, own_phone, f"echo kept > {STORAGE}/kept")
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    own_phone.fill_storage(1_000_000)
    pushed = adb_server.adb("-s", own_phone.serial, "push", str(tmp_path / "large"), STORAGE)
    assert b"No space left on device" in pushed.stderr
    assert shell(adb_server, own_phone, f"cat {STORAGE}/kept") == "kept"


def test_nothing_is_left_when_the_phone_is_closed(adb_server: AdbServer) -> None:
    if reason := missing("x86_64"):
        pytest.skip(reason)
    mounts = Path("/proc/self/mounts").read_text()
    with open_phone("x86_64") as phone:
        adb_server.connect(phone.serial)
        shell(adb_server, phone, "sleep 1000 > /dev/null 2>&1 &")
        processes = phone.processes()
        adb_server.disconnect(phone.serial)
    assert len(processes) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert not phone.root.exists()
    assert Path("/proc/self/mounts").read_text() == mounts


def test_a_phone_started_by_hand_ends_with_its_signal() -> None:
    if reason := missing("x86_64"):
        pytest.skip(reason)
    started = [sys.executable, "-m", "tests.virtual_phone", "--abi", "x86_64"]
    with subprocess.Popen(started, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert "connected to" in said[0]
    assert not Path(said[1].removeprefix("its files: ").strip()).exists()
