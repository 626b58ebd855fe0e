"""A device behind a shell: files travel as one tar at a time, the agent and its bundle in folders named by content.

Nothing is sent twice: a folder with its mark is complete. Model files wait on this computer until they are needed,
so that none is sent while something is being timed, and leave the device when it has had too many.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from host.errors import DeviceUnavailable, HostError
from host.transport import Channel, DeviceLost, Launch
from host.transport.channel import RemoteChannel
from host.transport.local import LocalTransport
from host.transport.parcel import Parcel, agent_parcel, parcel_of, tar_of
from host.transport.shell import Output, Shell, run

PUSH_LIMIT_S = 600.0
KEPT_BYTES = 256 << 20, 1 << 30
"""Model files on the device at a time: always, and where that is at most half of the room there. Older ones leave, and
are sent again should they be needed once more."""

PREFIX = "CHAMNET_PREFIX"
"""Tells an agent on this computer how to run a command of the device."""

MARK = ".ok"
FULL = b"No space left"


class StorageFull(DeviceUnavailable):
    """What must go to the device does not fit."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie on a device.

    Attributes:
        bundle: what brings an interpreter and engines, built when it is needed; None where the device has its own.
    """

    home: str
    bundle: Callable[[], Parcel] | None = None


@dataclass(slots=True)
class _Models:
    """Model files by their path on the device: what waits here, and what is there, oldest first.

    Attributes:
        folder: of this run alone: one that ends late must not take away another's.
    """

    folder: str = field(default_factory=lambda: f"models-{uuid.uuid4().hex[:8]}")
    waiting: dict[str, Path] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)


class RemoteTransport:
    """A device's files and its agent, through a shell on it."""

    def __init__(self, shell: Shell, place: Place, launch: Launch) -> None:
        self.shell = shell
        self._place = place
        self._launch = launch
        self.sent_bytes = 0
        self._scratch = tempfile.TemporaryDirectory(prefix="chamnet-", ignore_cleanup_errors=True)
        self._models = _Models()
        self._local: LocalTransport | None = None

    @property
    def home(self) -> str:
        """The folder of ours on the device."""
        return self._place.home

    def run(self, command: str, stdin: bytes = b"") -> Output:
        """Runs a command line there. Raises DeviceLost."""
        return run(self.shell, command, stdin)

    @cached_property
    def on_host(self) -> str:
        if self._launch.where != "auto":
            return "--agent host was asked for" if self._launch.where == "host" else ""
        try:
            started = self.run(shlex.join([*self._interpreter(), "-c", "pass"]))
        except (DeviceLost, StorageFull):
            raise
        except HostError as refusal:
            return str(refusal).partition(";")[0]
        return (
            f"{self._launch.python or 'its bundle'} does not run there: {started.complaint}" if started.status else ""
        )

    @property
    def origin(self) -> str:
        if self.on_host or self._launch.python or self._place.bundle is None:
            return ""
        return self._bundle.name

    def install(self, name: str, files: Mapping[str, Path]) -> str:
        return self._installed(parcel_of(name, {file: path.read_bytes() for file, path in files.items()}, 0o755))

    def put(self, name: str, blob: bytes) -> str:
        path = f"{self._place.home}/{self._models.folder}/{name}"
        file = Path(self._scratch.name) / name
        file.write_bytes(blob)
        self._models.waiting[path] = file
        return path

    def ready(self, paths: Sequence[str]) -> None:
        lacking = [
            path for path in dict.fromkeys(paths) if path in self._models.waiting and path not in self._models.there
        ]
        if not lacking:
            return
        files = {Path(path).name: self._models.waiting[path].read_bytes() for path in lacking}
        self._make_room(sum(map(len, files.values())), keep=set(paths))
        self._send(self._models.folder, tar_of(files))
        self._models.there.update({path: len(files[Path(path).name]) for path in lacking})

    def clear(self, keep: Sequence[str]) -> None:
        for path in [path for path in self._models.waiting if path not in keep]:
            self._models.waiting.pop(path).unlink(missing_ok=True)
            self._models.there.pop(path, None)
        kept = "|".join(shlex.quote(Path(path).name) for path in keep) or "''"
        folder = shlex.quote(f"{self._place.home}/{self._models.folder}")
        self.run(f'cd {folder} 2>/dev/null && for f in *; do case "$f" in {kept}) ;; *) rm -f "$f" ;; esac; done')

    def fetch(self, path: str) -> bytes:
        found = self.run(f"cat {shlex.quote(path)}")
        if found.status:
            raise HostError(f"{path} must be readable on the device, but got: {found.complaint}")
        return found.stdout

    def spawn_agent(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Channel:
        wanted = {**environment, **self._launch.environment}
        if self.on_host:
            self._local = self._local or LocalTransport()
            return self._local.spawn_agent(arguments, {**wanted, PREFIX: json.dumps(self.shell.prefix)})
        home = self._installed(agent_parcel())
        wanted["CHAMNET_AGENT_HOME"] = home
        words = [*self._interpreter(), "-m", "agent", *arguments]
        exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in wanted.items())
        command = f"{exports}cd {shlex.quote(home)} && exec {shlex.join(words)}"
        return RemoteChannel(self.shell, command)

    def wait_back(self, limit_s: float) -> None:
        self.shell.wait_back(limit_s)
        self._models.there.clear()

    def close(self) -> None:
        with contextlib.suppress(DeviceUnavailable):
            self.run(f"rm -rf {shlex.quote(f'{self._place.home}/{self._models.folder}')}")
        if self._local is not None:
            self._local.close()
        self.shell.close()
        self._scratch.cleanup()

    def _interpreter(self) -> list[str]:
        """The words that start Python there; brings the bundle where it is needed."""
        if self._launch.python:
            return [self._launch.python]
        if self._place.bundle is None:
            return ["python3"]
        return ["sh", f"{self._installed(self._bundle)}/run.sh"]

    @cached_property
    def _bundle(self) -> Parcel:
        assert self._place.bundle is not None
        return self._place.bundle()

    def _installed(self, parcel: Parcel) -> str:
        """The folder of a parcel on the device; sends it where it is not there or not whole."""
        folder = f"{self._place.home}/{parcel.name}"
        if self.run(f"test -f {shlex.quote(f'{folder}/{MARK}')}").status:
            self._send(parcel.name, parcel.read(), whole=True)
        return folder

    def _send(self, name: str, tar: bytes, whole: bool = False) -> None:
        """Unpacks a tar into a folder of the device, by way of a folder beside it, so that a file is there or not."""
        home, folder = shlex.quote(self._place.home), shlex.quote(name)
        steps = [
            f"mkdir -p {home}", f"cd {home}", f"rm -rf {folder}.new", f"mkdir {folder}.new",
            f"tar -xf - -C {folder}.new",
            *(
                [f"rm -rf {folder}", f"mv {folder}.new {folder}", f"touch {folder}/{MARK}"] if whole
                else [f"mkdir -p {folder}", f"mv -f {folder}.new/* {folder}/", f"rmdir {folder}.new"]
            ),
        ]  # fmt: skip
        self.sent_bytes += len(tar)
        done = run(self.shell, " && ".join(steps), tar, PUSH_LIMIT_S)
        if done.status:
            with contextlib.suppress(DeviceLost):
                self.run(f"rm -rf {home}/{folder}.new")
            raise _unsent(name, len(tar), done)

    @cached_property
    def _kept_bytes(self) -> int:
        home = shlex.quote(self._place.home)
        told = self.run(f"mkdir -p {home} && stat -f -c '%a %S' {home}").text.split()
        free_bytes = int(told[0]) * int(told[1]) if len(told) == 2 and all(map(str.isdigit, told)) else 0
        least, most = KEPT_BYTES
        return min(max(least, free_bytes // 2), most)

    def _make_room(self, size_bytes: int, keep: set[str]) -> None:
        there = self._models.there
        surplus = sum(there.values()) + size_bytes - self._kept_bytes
        leaving = []
        for path, size in there.items():
            if surplus > 0 and path not in keep:
                leaving.append(path)
                surplus -= size
        if leaving:
            self._remove(leaving)

    def _remove(self, paths: Sequence[str]) -> None:
        names = " ".join(shlex.quote(Path(path).name) for path in paths)
        self.run(f"cd {shlex.quote(self._place.home)}/{self._models.folder} && xargs rm -f", names.encode())
        for path in paths:
            self._models.there.pop(path, None)


def _unsent(name: str, size_bytes: int, done: Output) -> HostError:
    if FULL in done.stderr or FULL in done.stdout:
        return StorageFull(
            f"the device must have room for {size_bytes / 1e6:.0f} MB of {name}, but its storage is full; make room "
            "and repeat the command: what was measured is stored"
        )
    return DeviceUnavailable(f"{name} must unpack on the device, but got: {done.complaint}")
