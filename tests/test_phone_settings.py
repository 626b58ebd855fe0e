"""What is changed on a phone while it is measured comes back, however the run ends; what a phone says is read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import phone as agent_phone
from agent.phone import HELD, KEPT, parse_phone
from host.devices import find_unit
from host.session import AgentSession
from host.transport import Transport
from tests.virtual_phone.adb_server import AdbServer
from tests.virtual_phone.phone import VirtualPhone

HELD_VALUES = {(space, name): value for space, name, value in KEPT}
WAIT_S = 60.0


def values(phone: VirtualPhone) -> dict[tuple[str, str], str | None]:
    return {(space, name): phone.setting(name, space) for space, name, _ in KEPT}


def held_file(phone: VirtualPhone) -> Path:
    return phone.root / HELD.lstrip("/")


def is_released(phone: VirtualPhone) -> bool:
    """Whether nothing is left to be put back."""
    return not list(held_file(phone).parent.glob("held*"))


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def old(fresh_835: VirtualPhone) -> dict[tuple[str, str], str | None]:
    """The phone's own settings."""
    return values(fresh_835)


@pytest.fixture
def transport(fresh_835: VirtualPhone) -> Iterator[Transport]:
    with contextlib.closing(find_unit(fresh_835.serial).open_transport()) as opened:
        yield opened


def agent_of(phone: VirtualPhone) -> int:
    (pid,) = (pid for pid, command in phone.processes().items() if "-m agent" in command)
    return pid


def test_the_settings_are_held_while_an_agent_runs_and_come_back_at_its_end(
    fresh_835: VirtualPhone, transport: Transport, old: dict[tuple[str, str], str | None]
) -> None:
    with AgentSession(transport, (), {}, hold=True):
        assert values(fresh_835) == HELD_VALUES
        assert "input keyevent KEYCODE_WAKEUP" in fresh_835.calls()
    wait_until(lambda: is_released(fresh_835))
    assert values(fresh_835) == old


def test_an_agent_that_is_not_to_hold_changes_nothing(fresh_835: VirtualPhone, transport: Transport) -> None:
    with AgentSession(transport, (), {}):
        pass
    assert not [call for call in fresh_835.calls() if call.startswith("settings")]


def test_a_setting_that_was_not_set_is_removed_again(fresh_835: VirtualPhone, transport: Transport) -> None:
    setting = fresh_835.root / "vendor/fake/settings/system/screen_off_timeout"
    setting.unlink()
    with AgentSession(transport, (), {}, hold=True):
        assert setting.exists()
    wait_until(lambda: is_released(fresh_835))
    assert not setting.exists()


def test_the_settings_come_back_when_the_host_is_killed(
    fresh_835: VirtualPhone, tmp_path: Path, old: dict[tuple[str, str], str | None]
) -> None:
    command = [sys.executable, "-m", "host.profile", "--device", fresh_835.serial, "--engine", "fake"]
    command += ["--space", "chamnet-res", "--limit", "1500", "--db", str(tmp_path / "lut.db")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as host:
        wait_until(lambda: values(fresh_835) == HELD_VALUES or host.poll() is not None)
        assert host.poll() is None
        host.send_signal(signal.SIGKILL)
        host.wait()
    wait_until(lambda: is_released(fresh_835))
    assert values(fresh_835) == old


def test_after_an_agent_was_killed_the_next_one_brings_the_first_values_back(
    fresh_835: VirtualPhone, transport: Transport, old: dict[tuple[str, str], str | None]
) -> None:
    killed = AgentSession(transport, (), {}, hold=True)
    first = held_file(fresh_835).read_text()
    os.kill(agent_of(fresh_835), signal.SIGKILL)
    killed.close()
    assert values(fresh_835) == HELD_VALUES
    with AgentSession(transport, (), {}, hold=True):
        assert held_file(fresh_835).read_text() == first
    wait_until(lambda: is_released(fresh_835))
    assert values(fresh_835) == old


def test_the_settings_come_back_when_the_cable_is_pulled(
    adb_server: AdbServer, fresh_835: VirtualPhone, transport: Transport, old: dict[tuple[str, str], str | None]
) -> None:
    cut = AgentSession(transport, (), {}, hold=True)
    fresh_835.pull_cable()
    wait_until(lambda: is_released(fresh_835))
    cut.abandon()
    fresh_835.plug_cable()
    adb_server.wait_for(fresh_835.serial)
    assert values(fresh_835) == old


def test_a_file_that_was_not_written_to_its_end_holds_nothing(
    fresh_835: VirtualPhone, transport: Transport, old: dict[tuple[str, str], str | None]
) -> None:
    """An agent that is killed while it saves has changed nothing yet."""
    half = held_file(fresh_835).with_name("held.new")
    with AgentSession(transport, (), {}):
        half.write_text("system screen_brightness 1")
    with AgentSession(transport, (), {}, hold=True):
        pass
    wait_until(lambda: is_released(fresh_835))
    assert values(fresh_835) == old


@pytest.fixture
def from_here(adb_server: AdbServer, fresh_835: VirtualPhone, monkeypatch: pytest.MonkeyPatch) -> VirtualPhone:
    """A phone of Android 14 on a cable, whose agent runs on this computer, in this process."""
    fresh_835.become("snapdragon8gen2")
    words = [adb_server.adb_path, "-P", str(adb_server.port), "-s", fresh_835.serial, "shell"]
    monkeypatch.setenv(agent_phone.PREFIX, json.dumps(words))
    monkeypatch.setenv(agent_phone.PHONE, "usb")
    return fresh_835


def test_on_a_cable_the_radios_are_quiet_until_the_end(from_here: VirtualPhone) -> None:
    agent_phone.hold()
    assert (from_here.setting("airplane_mode_on"), values(from_here)) == ("1", HELD_VALUES)
    agent_phone.release()
    assert from_here.setting("airplane_mode_on") == "0"


def test_a_phone_that_was_in_airplane_mode_stays_in_it(from_here: VirtualPhone) -> None:
    from_here.set_setting("airplane_mode_on", "1")
    agent_phone.hold()
    agent_phone.release()
    assert from_here.setting("airplane_mode_on") == "1"


def test_a_phone_on_the_network_keeps_its_radios(from_here: VirtualPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(agent_phone.PHONE, "network")
    agent_phone.hold()
    assert (from_here.setting("airplane_mode_on"), values(from_here)) == ("0", HELD_VALUES)
    agent_phone.release()


def test_a_phone_of_before_android_11_keeps_its_radios(from_here: VirtualPhone) -> None:
    from_here.become("snapdragon835")
    agent_phone.hold()
    assert not [call for call in from_here.calls() if "airplane" in call]
    agent_phone.release()


def test_holding_twice_keeps_the_first_values(from_here: VirtualPhone, old: dict[tuple[str, str], str | None]) -> None:
    agent_phone.hold()
    agent_phone.hold()
    agent_phone.release()
    assert (values(from_here), from_here.setting("airplane_mode_on")) == (old, "0")


def test_a_signal_waits_until_everything_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what it releases would be overwritten by what is still being held."""
    events = []

    def hung_up_meanwhile(script: str) -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        events.append("asked")
        return ""

    monkeypatch.setattr(agent_phone, "_sh", hung_up_meanwhile)
    before = signal.signal(signal.SIGHUP, lambda *_: events.append("hung up"))
    agent_phone.hold()
    signal.signal(signal.SIGHUP, before)
    assert events == ["asked", "asked", "hung up", "hung up"]


def test_releasing_what_is_not_held_changes_nothing(from_here: VirtualPhone) -> None:
    agent_phone.release()
    assert not [call for call in from_here.calls() if call.startswith(("settings", "cmd"))]


def test_a_device_that_is_no_phone_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(agent_phone.PHONE, raising=False)
    agent_phone.hold()
    agent_phone.release()
    assert agent_phone.read_phone() == {}


def test_a_phone_that_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(agent_phone.PHONE, "usb")
    monkeypatch.setenv(agent_phone.PREFIX, '["/no/such/adb", "shell"]')
    agent_phone.hold()
    assert agent_phone.read_phone() == {}


def test_a_phone_says_how_it_is(from_here: VirtualPhone) -> None:
    from_here.heat(status=2, battery_mc=38_200)
    from_here.cap_frequency(7, 1_593_600)
    found = agent_phone.read_phone()
    assert (found["thermal_status"], found["battery_mc"], found["battery_percent"]) == (2, 38_200, 87)
    assert found["charging"] is True
    assert found["caps_khz"]["7"] == (1_593_600, 3_187_200)
    assert found["cluster_cpus"] == {"0": (0, 1, 2), "3": (3, 4, 5, 6), "7": (7,)}
    assert found["time_in_state"]["7"]["3187200"] == 3187
    assert found["fingerprint"] == from_here.property("ro.build.fingerprint")
    assert len(found["boot_id"]) == 36


def test_windows_line_ends_and_spaces_are_read() -> None:
    text = "thermal_status=1\r\n  battery.level=50 \r\nscaling_max_freq.4=1\r\ncpuinfo_max_freq.4=2\r\n"
    assert parse_phone(text) == {"thermal_status": 1, "battery_percent": 50, "caps_khz": {"4": (1, 2)}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no equals sign\n\n===\n=",
        "thermal_status=\nbattery.level=\nbattery.temperature=warm\nbattery.status=\nboot_id=\nfingerprint=",
        "thermal_status=Permission denied",
        "scaling_max_freq.0=1000",
        "related_cpus.0=",
        "scaling_max_freq.0=\ncpuinfo_max_freq.0=2000",
        "time.0=\ntime.4=;;\ntime.5=300000;600000 x;y 7",
        "Can't find service: thermalservice",
    ],
)
def test_what_is_not_told_is_left_out(text: str) -> None:
    assert parse_phone(text) == {}


@pytest.mark.parametrize(("status", "charging"), [("2", True), ("3", False), ("4", False), ("5", True), ("1", None)])
def test_a_battery_charges_or_not_or_does_not_tell(status: str, charging: bool | None) -> None:
    assert parse_phone(f"battery.status={status}").get("charging") is charging


def test_the_battery_may_be_below_zero() -> None:
    assert parse_phone("battery.temperature=-51") == {"battery_mc": -5_100}


def test_ticks_at_each_clock_are_read() -> None:
    assert parse_phone("time.4=300000 12;600000 7;")["time_in_state"] == {"4": {"300000": 12, "600000": 7}}
