"""One measurer a unit: a row in the database, and a lock folder on the device for hosts that share no database.

The lock holds its owner's computer, process and boot; its age by the device's own clock is the heartbeat, renewed
before every batch. A lock whose owner is gone, or that is too old, is taken over.
"""

from __future__ import annotations

import os
import shlex
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from host.errors import DeviceUnavailable
from host.transport.remote import RemoteTransport
from lut_db.leases import LeaseHeld, LeaseStore

STALE_S = 600
"""A batch is measured in three minutes at most; who has not been heard of for ten is gone."""

_TAKE = """
mkdir -p {home} && cd {home} || exit 9
now=$(date +%s)
if mkdir lock 2>/dev/null; then :; else
  owner=$(cat lock/owner 2>/dev/null)
  beat=$(cat lock/beat 2>/dev/null)
  case "$owner" in {takeable}) ;; *)
    if [ -n "$owner" ] && [ $((now - ${{beat:-0}})) -lt {stale} ]; then echo "$owner"; exit 8; fi ;;
  esac
fi
echo {owner} > lock/owner && echo $now > lock/beat
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """A unit held by this process."""

    transport: RemoteTransport
    store: LeaseStore
    unit: str
    owner: str

    def renew(self) -> None:
        """The heartbeat. Raises DeviceLost; DeviceUnavailable where another has taken the unit over."""
        home = shlex.quote(self.transport.home)
        held = self.transport.run(f"cd {home} && cat lock/owner && date +%s > lock/beat")
        if held.text.strip() != self.owner:
            raise DeviceUnavailable(
                f"{self.unit} must be held by this process, but {held.text.strip() or 'nobody'} holds it"
            )
        self.store.renew(self.unit, self.owner)


@contextmanager
def leased(transport: RemoteTransport, store: LeaseStore, unit: str) -> Iterator[Lease]:
    """Holds a unit until the end.

    Raises:
        DeviceUnavailable: another process measures on it.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{_boot()}:{uuid.uuid4().hex[:8]}"
    try:
        store.acquire(unit, owner, STALE_S, _gone)
    except LeaseHeld as held:
        raise _in_use(unit, held.owner) from None
    try:
        _lock(transport, unit, owner)
        yield Lease(transport, store, unit, owner)
    finally:
        with suppress(DeviceUnavailable):
            _unlock(transport, owner)
        store.release(unit, owner)


def _lock(transport: RemoteTransport, unit: str, owner: str) -> None:
    """Takes the lock folder; one of this computer whose process is gone is taken at once."""
    found = transport.run(f"cat {shlex.quote(transport.home)}/lock/owner 2>/dev/null").text.strip()
    takeable = shlex.quote(found) if found and _gone(found) else "''"
    script = _TAKE.format(home=shlex.quote(transport.home), takeable=takeable, stale=STALE_S, owner=shlex.quote(owner))
    done = transport.run(script)
    if done.status == 8:
        raise _in_use(unit, done.text.strip())
    if done.status:
        raise DeviceUnavailable(f"{unit} must have a folder {transport.home} to write in, but got: {done.complaint}")


def _unlock(transport: RemoteTransport, owner: str) -> None:
    home, mine = shlex.quote(transport.home), shlex.quote(owner)
    transport.run(f'cd {home} && [ "$(cat lock/owner)" = {mine} ] && rm -rf lock')


def _gone(owner: str) -> bool:
    """Whether an owner was a process of this computer that has ended."""
    host, _, rest = owner.partition(":")
    pid, _, rest = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return rest.partition(":")[0] != _boot() or not Path(f"/proc/{pid}").exists()


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return "unknown"


def _in_use(unit: str, owner: str) -> DeviceUnavailable:
    host, _, rest = owner.partition(":")
    return DeviceUnavailable(
        f"{unit} must be free, but process {rest.partition(':')[0]} on {host} measures on it; wait for its end"
    )
