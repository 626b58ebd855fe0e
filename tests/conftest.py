"""Phones for tests: virtual ones behind a private ADB server, and the real one where the person names it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.virtual_phone.adb_server import AdbServer, open_adb_server
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import VirtualPhone, open_phone

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
