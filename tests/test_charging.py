"""A phone's charging is suspended while its battery is the meter, and put back however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import charging
from agent.phone import PHONE, PREFIX
from agent.protocol import Done, Energise, Energised, Failure, Message, Model, Plan
from host.devices import find_unit
from host.session import AgentSession
from host.transport import Transport
from tests.virtual_phone.adb_server import AdbServer
from tests.virtual_phone.phone import VirtualPhone

NODE = "battery/input_suspend"
WAIT_S = 60.0
SHORT = Plan(window_s=0.02, idle_s=0.02, repeats=1, settle_s=0.0, read_every_s=0.005)
LONG = Plan(window_s=600.0, idle_s=600.0, repeats=3, settle_s=0.0, read_every_s=0.2)

# The scripts, run by this machine's shell on made-up nodes.


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three nodes that suspend charging with 1, 0 and 1; none is there yet."""
    paths = [tmp_path / name for name in ("input_suspend", "charging_enabled", "charge_disable")]
    monkeypatch.setattr(charging, "NODES", tuple(zip(map(str, paths), "101", strict=True)))
    monkeypatch.setattr(charging, "SAVED", str(tmp_path / "chamnet" / "charging"))
    monkeypatch.setattr(charging, "GOING_S", 0)
    monkeypatch.setenv(PHONE, "usb")
    monkeypatch.setenv(PREFIX, '["sh", "-c"]')
    return paths


def left_over(nodes: list[Path]) -> list[str]:
    """Files that say what is to be put back."""
    return sorted(path.name for path in nodes[0].parent.glob("chamnet/*"))


def values(nodes: list[Path]) -> list[str]:
    return [path.read_text().strip() for path in nodes if path.exists()]


def test_the_surest_node_is_changed_and_put_back(nodes: list[Path]) -> None:
    for node, value in zip(nodes, "010", strict=True):
        node.write_text(f"{value}\n")
    assert charging.suspend() == {"suspended": str(nodes[0])}
    assert (values(nodes), left_over(nodes)) == (["1", "1", "0"], ["charging"])
    charging.resume()
    assert (values(nodes), left_over(nodes)) == (["0", "1", "0"], [])


def test_the_next_node_is_taken_where_one_is_not_there(nodes: list[Path]) -> None:
    nodes[1].write_text("1\n")
    assert charging.suspend() == {"suspended": str(nodes[1])}
    assert values(nodes) == ["0"]
    charging.resume()
    assert values(nodes) == ["1"]


def test_a_node_that_does_not_keep_its_value_is_passed_over(nodes: list[Path]) -> None:
    nodes[0].symlink_to("/dev/null")
    nodes[2].write_text("0\n")
    assert charging.suspend() == {"suspended": str(nodes[2])}
    charging.resume()
    assert nodes[2].read_text().strip() == "0"


def test_a_phone_without_such_a_node_says_what_would_help(nodes: list[Path]) -> None:
    told = charging.suspend()
    assert told["suspended"] == ""
    assert "adb root" in told["suspended_not"]
    assert left_over(nodes) == []


def test_charging_that_was_suspended_before_stays_so(nodes: list[Path]) -> None:
    nodes[0].write_text("1\n")
    charging.suspend()
    charging.resume()
    assert values(nodes) == ["1"]


def test_suspending_twice_keeps_the_first_values(nodes: list[Path]) -> None:
    nodes[0].write_text("0\n")
    charging.suspend()
    charging.suspend()
    charging.resume()
    charging.resume()
    assert values(nodes) == ["0"]


def test_what_was_not_saved_to_its_end_is_not_put_back(nodes: list[Path]) -> None:
    """An agent that is killed while it saves has changed nothing yet."""
    nodes[0].write_text("0\n")
    saved = Path(charging.SAVED)
    saved.parent.mkdir()
    saved.with_name("charging.new").write_text(f"{nodes[0]} 7\n")
    charging.resume()
    assert values(nodes) == ["0"]
    assert charging.suspend() == {"suspended": str(nodes[0])}
    charging.resume()
    assert values(nodes) == ["0"]


def test_an_agent_that_was_killed_while_it_put_back_is_followed(nodes: list[Path]) -> None:
    nodes[0].write_text("0\n")
    charging.suspend()
    Path(charging.SAVED).rename(charging.SAVED + ".going")
    charging.resume()
    assert (values(nodes), left_over(nodes)) == (["0"], [])


def test_what_cannot_be_put_back_now_is_put_back_later(nodes: list[Path]) -> None:
    nodes[0].write_text("0\n")
    charging.suspend()
    nodes[0].unlink()
    nodes[0].mkdir()
    charging.resume()
    assert left_over(nodes) == ["charging"]
    nodes[0].rmdir()
    nodes[0].write_text("1\n")
    charging.resume()
    assert (values(nodes), left_over(nodes)) == (["0"], [])


def test_a_device_that_is_no_phone_is_left_alone(nodes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    nodes[0].write_text("0\n")
    monkeypatch.delenv(PHONE)
    assert "on a phone" in charging.suspend()["suspended_not"]
    charging.resume()
    assert values(nodes) == ["0"]


def test_a_signal_waits_until_charging_is_suspended(nodes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what it puts back would be overwritten by what is still being written."""
    events = []

    def hung_up_meanwhile(script: str) -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        events.append("asked")
        return f"suspended={nodes[0]}\n"

    monkeypatch.setattr(charging, "ask", hung_up_meanwhile)
    before = signal.signal(signal.SIGHUP, lambda *_: events.append("hung up"))
    charging.suspend()
    signal.signal(signal.SIGHUP, before)
    assert events == ["asked", "hung up"]


# The agent on a virtual phone.


@pytest.fixture
def transport(fresh_835: VirtualPhone) -> Iterator[Transport]:
    """To a phone that is on its battery as soon as charging is suspended, as its gauge would say."""
    fresh_835.offer_node(NODE, "0")
    fresh_835.charge(into_battery_ua=-450_000)
    with contextlib.closing(find_unit(fresh_835.serial).open_transport()) as opened:
        yield opened


def request(transport: Transport, plan: Plan) -> Energise:
    path = transport.put("energy.model", json.dumps({"ns": 1_000_000}).encode())
    transport.ready([path])
    return Energise("fake", {}, [Model("m", path)], "battery_gauge", {}, plan)


def ask(session: AgentSession, asked: Energise) -> list[Message]:
    session._send(asked)
    answers: list[Message] = []
    while not answers or not isinstance(answers[-1], Done | Failure):
        answers.append(session._next(WAIT_S, ()))
    return answers


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@contextlib.contextmanager
def metering(phone: VirtualPhone, transport: Transport) -> Iterator[AgentSession]:
    """An agent in the middle of a window."""
    asked = request(transport, LONG)
    session = AgentSession(transport, (), {}, hold=True)
    session._send(asked)
    wait_until(lambda: phone.node(NODE) == "1")
    yield session


def is_put_back(phone: VirtualPhone) -> bool:
    return phone.node(NODE) == "0" and not list((phone.root / charging.SAVED.lstrip("/")).parent.glob("charging*"))


def test_a_gauge_is_read_with_charging_suspended(fresh_835: VirtualPhone, transport: Transport) -> None:
    with AgentSession(transport, (), {}) as session:
        assert "battery/current_now" in session.hello.meters["battery_gauge"]["available"]
        _, energised, _ = ask(session, request(transport, SHORT))
        assert is_put_back(fresh_835)
    assert isinstance(energised, Energised)
    first = energised.windows[0]
    assert {tuple(row[2:]) for row in first["readings"]} == {(-450_000.0, 4_123_000.0)}
    assert first["state"][0][1] == {
        "status": "Discharging", "plugged": "usb", "suspended": f"/sys/class/power_supply/{NODE}"
    }  # fmt: skip
    assert (first["charge_uah"]["before"], first["temp_mc"]["after"]["battery"]) == (3_012_000, 28_700)


def test_a_phone_that_cannot_suspend_is_read_all_the_same(fresh_835: VirtualPhone, transport: Transport) -> None:
    (fresh_835.root / "sys/class/power_supply" / NODE).unlink()
    with AgentSession(transport, (), {}) as session:
        _, energised, _ = ask(session, request(transport, SHORT))
    assert isinstance(energised, Energised)
    state = energised.windows[0]["state"][0][1]
    assert (state["suspended"], state["plugged"]) == ("", "usb")
    assert "adb root" in state["suspended_not"]


def test_the_battery_service_is_never_made_to_pretend(fresh_835: VirtualPhone, transport: Transport) -> None:
    with AgentSession(transport, (), {}, hold=True) as session:
        ask(session, request(transport, SHORT))
    wait_until(lambda: is_put_back(fresh_835))
    told = [call for call in fresh_835.calls() if call.startswith(("dumpsys battery ", "cmd battery "))]
    assert not [call for call in told if {"set", "unplug", "suspend_input"} & set(call.split())]


def test_charging_goes_on_when_the_host_leaves_in_the_middle(fresh_835: VirtualPhone, transport: Transport) -> None:
    with metering(fresh_835, transport) as session:
        session.close()
    wait_until(lambda: is_put_back(fresh_835))


def test_after_an_agent_was_killed_the_next_that_measures_lets_it_charge(
    fresh_835: VirtualPhone, transport: Transport
) -> None:
    with metering(fresh_835, transport) as killed:
        (pid,) = (pid for pid, command in fresh_835.processes().items() if "-m agent" in command)
        os.kill(pid, signal.SIGKILL)
        killed.close()
    with AgentSession(transport, (), {}):
        assert fresh_835.node(NODE) == "1"
    with AgentSession(transport, (), {}, hold=True):
        assert is_put_back(fresh_835)


def test_charging_goes_on_when_the_cable_is_pulled(
    adb_server: AdbServer, fresh_835: VirtualPhone, transport: Transport
) -> None:
    with metering(fresh_835, transport) as cut:
        fresh_835.pull_cable()
        wait_until(lambda: is_put_back(fresh_835))
        cut.abandon()
    fresh_835.plug_cable()
    adb_server.wait_for(fresh_835.serial)


def test_a_gauge_is_read_through_adb_where_the_agent_runs_here(
    adb_server: AdbServer, fresh_835: VirtualPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.meters import open_meter

    words = [adb_server.adb_path, "-P", str(adb_server.port), "-s", fresh_835.serial, "shell"]
    monkeypatch.setenv(PREFIX, json.dumps(words))
    monkeypatch.setenv(PHONE, "usb")
    reading = open_meter("battery_gauge", {}).read()
    assert (reading.current_raw, reading.voltage_uv) == (312_500, 4_123_000)
    assert reading.state == {"status": "Charging", "plugged": "usb"}
