"""One measurer a unit: a row in the database, and a lock folder on the device for hosts that share no database.

The lock holds its owner's computer, process and boot; its age by the device's own clock is the heartbeat, renewed
before every batch. A lock whose owner is gone, or that is too old, is taken over.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from host.errors import DeviceUnavailable
from host.transport.remote import RemoteTransport
from lut_db.errors import LutError
from lut_db.leases import LeaseHeld, LeaseStore

STALE_S = 1800
"""A batch of a vendor's binary may take a quarter of an hour, sending a bundle ten minutes; who has not been heard of
for half an hour is gone."""

BEAT_S = STALE_S / 4
"""Between heartbeats in the middle of one request."""

SWEEP = "fleet:"
"""Begins the name of a lease in the database that is of a fleet's whole sweep, and of no unit."""

IN_USE = 8
"""Exit status of ``_TAKE``."""

_LIVE: set[str] = set()
"""Owners that are leases of this process: any other lock with its number is of one that could not be given back."""

_TAKE = """
mkdir -p {home} && cd {home} || exit 9
now=$(date +%s)
if mkdir lock 2>/dev/null; then :; else
  owner=$(cat lock/owner 2>/dev/null)
  beat=$(cat lock/beat 2>/dev/null)
  case "$owner" in {takeable}|{owner}) ;; *)
    if [ -n "$owner" ] && [ $((now - ${{beat:-0}})) -lt {stale} ]; then echo "$owner"; exit {in_use}; fi ;;
  esac
fi
echo {owner} > lock/owner && echo $now > lock/beat && rm -rf models* *.new
"""
"""The last line removes what an owner left who was not there to do it."""


_RENEW = 'cd {home} && cat lock/owner && [ "$(cat lock/owner)" = {owner} ] && date +%s > lock/beat'
"""Tells the owner, and beats only for this one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A unit that this process holds, or is about to."""

    transport: RemoteTransport
    store: LeaseStore
    unit: str
    owner: str

    def take(self) -> None:
        """Takes the lock folder, at once from a process of this computer that is gone; harmless when it is taken.

        Raises:
            DeviceUnavailable: another process measures on the unit; DeviceLost.
        """
        home = self.transport.home
        found = self.transport.run(f"cat {shlex.quote(home)}/lock/owner 2>/dev/null").text.strip()
        takeable = shlex.quote(found) if found and gone(found) else "''"
        script = _TAKE.format(
            home=shlex.quote(home), takeable=takeable, stale=STALE_S, owner=shlex.quote(self.owner), in_use=IN_USE
        )
        done = self.transport.run(script)
        if done.status == IN_USE:
            raise _in_use(self.unit, done.text.strip())
        if done.status:
            raise DeviceUnavailable(f"{self.unit} must have a folder {home} to write in, but got: {done.complaint}")

    def renew(self) -> None:
        """The heartbeat. Raises DeviceLost; DeviceUnavailable where another has taken the unit over."""
        home = shlex.quote(self.transport.home)
        holder = self.transport.run(_RENEW.format(home=home, owner=shlex.quote(self.owner))).text.strip()
        try:
            self.store.renew(self.unit, self.owner)
        except LeaseHeld as held:
            holder = held.owner
        if holder != self.owner:
            raise DeviceUnavailable(
                f"{self.unit} must be held by this process, but {holder or 'nobody'} holds it; repeat the command when "
                "it is free: it goes on where it stopped"
            )

    def give_back(self) -> None:
        """Harmless when it is another's. Raises DeviceLost."""
        home, mine = shlex.quote(self.transport.home), shlex.quote(self.owner)
        self.transport.run(f'cd {home} && [ "$(cat lock/owner)" = {mine} ] && rm -rf lock')


@contextmanager
def leased(lease: Lease, take: Callable[[], None]) -> Iterator[None]:
    """Holds a unit until the end.

    Args:
        take: takes the lease on the device, by ``Lease.take``.

    Raises:
        DeviceUnavailable: another process measures on it.
    """
    try:
        lease.store.acquire(lease.unit, lease.owner, STALE_S, gone)
    except LeaseHeld as held:
        raise _in_use(lease.unit, held.owner) from None
    _LIVE.add(lease.owner)
    try:
        take()
        yield
    finally:
        _LIVE.discard(lease.owner)
        with suppress(DeviceUnavailable):
            lease.give_back()
        lease.store.release(lease.unit, lease.owner)


@contextmanager
def beating(lease: Lease | None) -> Iterator[None]:
    """Renews a lease now and then while the device is asked something that takes hours; harmless for a short while."""
    if lease is None:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            with suppress(DeviceUnavailable, LutError):
                lease.renew()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def new_owner() -> str:
    """This computer, process and boot, and what tells two leases of one process apart."""
    return f"{_computer()}:{os.getpid()}:{_boot()}:{uuid.uuid4().hex[:8]}"


def gone(owner: str) -> bool:
    """Whether an owner was a process of this computer that has ended, or a lease of this one that has."""
    host, _, rest = owner.partition(":")
    pid, _, rest = rest.partition(":")
    if host != _computer() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return owner not in _LIVE
    return rest.partition(":")[0] != _boot() or not _runs(int(pid))


def _runs(pid: int) -> bool:
    """Whether a process is there; one that has ended and that nobody has asked after is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _computer() -> str:
    """Its name, and what tells it from another of that name."""
    with suppress(OSError):
        return f"{socket.gethostname()}#{Path('/etc/machine-id').read_text().strip()[:8]}"
    return socket.gethostname()


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return "unknown"


def who(owner: str) -> str:
    """An owner as a person would put it."""
    host, _, rest = owner.partition(":")
    return f"process {rest.partition(':')[0]} on {host.partition('#')[0]}"


def _in_use(unit: str, owner: str) -> DeviceUnavailable:
    return DeviceUnavailable(f"{unit} must be free, but {who(owner)} measures on it; wait for its end")
