"""Which devices there are, and how to reach the one that was named.

``local-cpu`` is this machine, ``local-gpu`` its NVIDIA GPU; ``ssh:user@host`` a Linux board; any other name is a phone
on ADB, by its chip (``snapdragon835``), its model, or its serial. A phone must prove to be what its name says.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from agent.protocol import Hello
from host.cores import kinds_of, one_of_each_core_last
from host.errors import DeviceUnavailable, UsageError
from host.gate import Gate
from host.identity import OLDEST_SDK, Identity
from host.phones import Phone, answers_to, list_phones, read_identity, slug, why_no_phone
from host.session import AgentSession
from host.transport import TRANSPORTS, DeviceLost, Launch, Transport
from host.transport.shell import run
from lut_db.records import Device

LOCAL_CPU, LOCAL_GPU = "local-cpu", "local-gpu"
SSH = "ssh:"
BOARD_LIMIT_S = 20.0
"""For a board to take the first connection; jumps over other machines included."""
REACH = "reach"
"""Among a device's facts: the name that it is found by, where that is not its own."""


MALLOC_TUNABLES = {"hugepages": "glibc.malloc.hugetlb=1", "default": ""}
"""How the agent's memory is taken: huge pages make networks 10-20 % faster and steadier, alike for LUT and networks."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A device that can be measured on now.

    Attributes:
        transport: a name of TRANSPORTS.
        identity: what it said of itself; None for this machine, whose agent says it.
        forced: the name it was asked for by, where it is something else.
    """

    name: str
    transport: str = "local"
    address: str = ""
    launch: Launch = field(default_factory=Launch)
    identity: Identity | None = None
    forced: str = ""

    @property
    def is_phone(self) -> bool:
        return self.transport == "adb"

    @property
    def is_gpu(self) -> bool:
        return self.name == LOCAL_GPU

    @property
    def emulated(self) -> bool:
        return self.identity is not None and self.identity.emulated

    @property
    def architecture(self) -> str:
        return self.identity.said.get("machine", "unknown") if self.identity else "unknown"

    @property
    def hexagon(self) -> str | None:
        """The version of its Hexagon DSP or NPU; None where it has none that is known."""
        return self.identity.soc.hexagon if self.identity and self.identity.soc else None

    @property
    def abi(self) -> str:
        """The word for what binaries it runs: Android's, or linux- and the machine."""
        said = self.identity.said if self.identity else {}
        return said.get("ro.product.cpu.abi") or f"linux-{said.get('machine', platform.machine())}"

    @property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Its processors, slowest first."""
        if self.identity is None:
            return ()
        return tuple(cluster.cpus for cluster in self.identity.clusters) or (self.identity.cpus,)

    @property
    def gate(self) -> Gate | None:
        """What must hold before a batch; an emulated clock tells nothing."""
        if not self.is_phone:
            return None
        return Gate(probe_slowdown=None) if self.emulated else Gate()

    def open_transport(self) -> Transport:
        """Raises DeviceLost, DeviceUnavailable."""
        opened: Transport = import_module(TRANSPORTS[self.transport]).open_transport(self.address, self.launch)
        return opened


def find_unit(name: str, launch: Launch | None = None, force: bool = False) -> Unit:
    """The unit of that name.

    Args:
        force: take the only phone that is connected, whatever it is.

    Raises:
        DeviceUnavailable: it is not connected, is something else, or cannot be driven.
    """
    chosen = launch or Launch()
    if name in (LOCAL_CPU, LOCAL_GPU):
        return Unit(name, launch=chosen)
    if name.startswith(SSH):
        return _board(name.removeprefix(SSH), chosen)
    phones = list_phones(start_server=True)
    named = [phone for phone in phones if answers_to(phone, name)]
    ready = [phone for phone in named or (phones if force else []) if phone.is_ready]
    if len(ready) == 1 and ready[0].identity is not None:
        return _phone_unit(ready[0], ready[0].identity, chosen, "" if named else name)
    raise DeviceUnavailable(why_no_phone(name, named, phones, force))


def device_of(unit: Unit, machine: Mapping[str, Any]) -> Device:
    """The row of a unit: what it said, and what the agent on it said."""
    facts: dict[str, Any] = dict(machine)
    if unit.identity is None:
        return Device(unit.name, str(facts.get("cpu_model", "unknown")), facts)
    facts |= unit.identity.as_json()
    if unit.transport == "ssh":
        facts[REACH] = f"{SSH}{unit.address}"
    if unit.forced:
        facts["forced"] = unit.forced
    return Device(unit.name, unit.identity.model, facts)


def choose_cpus(threads: int, asked: Sequence[int] = (), clusters: Sequence[Sequence[int]] = ()) -> tuple[int, ...]:
    """The processors to pin to: those asked for, else the last of the fastest cluster that has enough of them.

    Without clusters they are this machine's: the last ones, which serve the fewest interrupts, and no two hardware
    threads of one core while another core is free.

    Raises:
        UsageError: more threads than processors of one speed, or a processor that is not there.
    """
    groups: list[tuple[int, ...]] = [tuple(group) for group in clusters] or _local_clusters()
    present = sorted(cpu for group in groups for cpu in group)
    if unknown := sorted(set(asked) - set(present)):
        raise UsageError(f"--cpus must be among {_list(present)}, but got {_list(unknown)}")
    fitting = [group[-threads:] for group in groups if len(group) >= threads]
    chosen = fitting[-1] if fitting else max(groups, key=len)
    cpus = tuple(asked) or tuple(sorted(chosen))
    if threads > len(cpus):
        raise UsageError(f"threads must be at most the {len(cpus)} processors {_list(cpus)}, but got {threads}")
    return cpus


def _local_clusters() -> list[tuple[int, ...]]:
    return [one_of_each_core_last(kind) for kind in kinds_of(os.sched_getaffinity(0))]


def agent_environment(malloc: str, threads: int) -> dict[str, str]:
    tunables = MALLOC_TUNABLES[malloc]
    return {"OMP_NUM_THREADS": str(threads), **({"GLIBC_TUNABLES": tunables} if tunables else {})}


def greet(unit: Unit) -> Hello:
    """Starts an agent on the unit just to hear what it is."""
    transport = unit.open_transport()
    with contextlib.closing(transport), AgentSession(transport, (), {}) as session:
        return session.hello


def _board(address: str, launch: Launch) -> Unit:
    from host.transport.ssh import SshShell

    shell = SshShell(address)
    try:
        run(shell, "true", limit_s=BOARD_LIMIT_S)
        identity = read_identity(shell)
    except DeviceLost as loss:
        raise DeviceUnavailable(
            f"board {address} must answer, but {loss}; '{shell.by_hand}' must work without a password"
        ) from None
    finally:
        shell.close()
    return Unit(f"{slug(identity.model)}@{slug(address.rpartition('@')[2])}", "ssh", address, launch, identity)


def _phone_unit(phone: Phone, identity: Identity, launch: Launch, forced: str) -> Unit:
    if identity.is_too_old:
        raise DeviceUnavailable(
            f"a phone must have Android 7 (API {OLDEST_SDK}) or newer, but {phone.serial} has API "
            f"{identity.said['ro.build.version.sdk']}; take another one"
        )
    title = identity.soc.name if identity.soc else slug(identity.model)
    serial = slug(identity.said.get("ro.serialno", phone.serial))
    return Unit(f"{title}@{serial}", "adb", phone.serial, launch, identity, forced)


def _list(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
