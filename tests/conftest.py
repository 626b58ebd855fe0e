"""Phones for tests: virtual ones behind a private ADB server, and the real one where the person names it; databases."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.board import Board, missing_board, open_board
from tests.postgres import place, postgres
from tests.virtual_phone.adb_server import AdbServer, open_adb_server
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import VirtualPhone, open_phone

__all__ = ["place", "postgres"]

ADB_VARIABLES = ("ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT", "ADB_SERVER_SOCKET")
PERSONS_OWN = {name: os.environ.get(name) for name in ADB_VARIABLES}


@pytest.fixture(scope="session")
def adb_server() -> Iterator[AdbServer]:
    """A private one, which adb and adbutils find through the environment."""
    with open_adb_server() as server:
        yield server


@pytest.fixture(scope="session")
def x86_phone(adb_server: AdbServer) -> Iterator[VirtualPhone]:
    """At this machine's speed. Shared: who breaks it opens a phone of his own."""
    yield from _connected_phone(adb_server, "x86_64")


@pytest.fixture(scope="session")
def arm_phone(adb_server: AdbServer) -> Iterator[VirtualPhone]:
    """Emulated. Shared: who breaks it opens a phone of his own."""
    yield from _connected_phone(adb_server, "arm64-v8a")


@pytest.fixture(scope="session")
def running_835() -> Iterator[VirtualPhone]:
    if reason := missing("x86_64"):
        pytest.skip(reason)
    with open_phone("x86_64", "snapdragon835", "VPHONE0835") as virtual:
        yield virtual


@pytest.fixture(scope="module")
def phone_835(adb_server: AdbServer, running_835: VirtualPhone) -> Iterator[VirtualPhone]:
    """A Snapdragon 835 at this machine's speed, connected while a module of tests runs. Shared, see ``fresh_835``."""
    adb_server.connect(running_835.serial)
    yield running_835
    adb_server.disconnect(running_835.serial)


@pytest.fixture
def fresh_835(phone_835: VirtualPhone) -> Iterator[VirtualPhone]:
    """The same, cool and with its own settings before the test and after it; what was brought stays on it."""
    phone_835.reset()
    yield phone_835
    phone_835.reset()


@pytest.fixture
def phone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The serial of the real phone that the person named in ANDROID_SERIAL, else of the emulated one."""
    if serial := PERSONS_OWN["ANDROID_SERIAL"]:
        for name, value in PERSONS_OWN.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        return serial
    virtual: VirtualPhone = request.getfixturevalue("arm_phone")
    return virtual.serial


@pytest.fixture(scope="session")
def running_board() -> Iterator[Board]:
    if reason := missing_board():
        pytest.skip(reason)
    with open_board() as board:
        yield board


@pytest.fixture
def board(running_board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A Linux board that plain ``ssh`` reaches. Shared, its cable plugged."""
    for name, value in running_board.environment.items():
        monkeypatch.setenv(name, value)
    return running_board


def _connected_phone(server: AdbServer, abi: str) -> Iterator[VirtualPhone]:
    if reason := missing(abi):
        pytest.skip(reason)
    with open_phone(abi) as virtual:
        server.connect(virtual.serial)
        yield virtual
        server.disconnect(virtual.serial)


@pytest.fixture(autouse=True)
def no_adb_server_of_the_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests start no ADB server but the private one."""
    monkeypatch.setattr("host.phones.start_adb_server", lambda: None)
