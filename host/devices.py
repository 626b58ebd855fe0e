"""Which devices there are, and how to reach the one that was named.

``local-cpu`` is this machine. Any other name is a phone on ADB, found by its serial or model name; measuring on
phones needs the ADB transport, which this version does not have: it says what is connected and stops.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from agent.protocol import Hello
from host.errors import DeviceUnavailable, UsageError
from host.session import AgentSession
from host.transport.local import LocalTransport, open_transport
from lut_db.records import Device

LOCAL_CPU = "local-cpu"
ADB_SERVER = ("127.0.0.1", 5037)

MALLOC_TUNABLES = {"hugepages": "glibc.malloc.hugetlb=1", "default": ""}
"""How the agent's memory is taken: huge pages make networks 10-20 % faster and steadier, alike for LUT and networks."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A device that can be measured on now."""

    name: str
    address: str

    def open_transport(self) -> LocalTransport:
        return open_transport(self.address)


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as ADB lists it."""

    serial: str
    state: str
    model: str


def find_unit(name: str, agent_python: str = "") -> Unit:
    """The unit of that name.

    Raises:
        DeviceUnavailable: it is not connected or cannot be driven.
    """
    if name == LOCAL_CPU:
        return Unit(LOCAL_CPU, agent_python)
    phones = list_phones()
    named = [phone for phone in phones if name in (phone.serial, phone.model, f"adb:{phone.serial}")]
    server = "" if adb_server_runs() else " (no ADB server runs here: 'adb start-server' starts one)"
    listed = ", ".join(f"{phone.serial} ({phone.model or 'model unknown'}, {phone.state})" for phone in phones)
    if named:
        raise DeviceUnavailable(
            f"a phone must be driven over ADB, but this version measures only on {LOCAL_CPU}; "
            f"{name!r} is connected: {listed}"
        )
    raise DeviceUnavailable(
        f"device {name!r} must be connected, but ADB lists {listed or 'no phone'}{server}; connect it, allow "
        f"USB debugging on its screen and look with 'chamnet devices', or measure here with '--device {LOCAL_CPU}'"
    )


def list_phones() -> list[Phone]:
    """The phones that a running ADB server knows; none where there is no server: none is started for it."""
    import adbutils

    if not adb_server_runs():
        return []
    try:
        listed = adbutils.AdbClient().list(extended=True)
    except (adbutils.AdbError, OSError):
        return []
    return [Phone(entry.serial, entry.state, entry.tags.get("model", "")) for entry in listed]


def adb_server_runs() -> bool:
    try:
        with socket.create_connection(ADB_SERVER, timeout=1):
            return True
    except OSError:
        return False


def local_device(hello: Hello) -> Device:
    return Device(LOCAL_CPU, str(hello.machine.get("cpu_model", "unknown")), hello.machine)


def choose_cpus(threads: int, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """The processors to pin to: those asked for, else the last ones, which serve the fewest interrupts.

    Raises:
        UsageError: more threads than processors, or a processor that is not there.
    """
    present = sorted(os.sched_getaffinity(0))
    if unknown := sorted(set(asked) - set(present)):
        raise UsageError(f"--cpus must be among {_list(present)}, but got {_list(unknown)}")
    cpus = tuple(asked) or tuple(present[-threads:])
    if threads > len(cpus):
        raise UsageError(f"threads must be at most the {len(cpus)} processors {_list(cpus)}, but got {threads}")
    return cpus


def agent_environment(malloc: str, threads: int) -> dict[str, str]:
    tunables = MALLOC_TUNABLES[malloc]
    return {"OMP_NUM_THREADS": str(threads), **({"GLIBC_TUNABLES": tunables} if tunables else {})}


def greet(unit: Unit) -> Hello:
    """Starts an agent on the unit just to hear what it is."""
    transport = unit.open_transport()
    with contextlib.closing(transport), AgentSession(transport, (), {}) as session:
        return session.hello


def _list(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
