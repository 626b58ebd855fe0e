"""This machine as a device: a scratch folder, and the agent as a child process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from agent import protocol
from host.errors import HostError
from host.transport import Launch

AGENT_HOME = Path(protocol.__file__).resolve().parent.parent
STDERR_TAIL_BYTES = 4000
MODEL_SUFFIXES = (".model", ".optimised")
LEAVE_LIMIT_S = 10.0
"""For an agent whose input has ended to go."""


class LocalTransport:
    """Files in a temporary folder; ``python`` is the interpreter that runs the agent, of any environment."""

    def __init__(self, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        self.python = python
        self.environment = environment or {}
        self.sent_bytes = 0
        self._scratch = tempfile.TemporaryDirectory(prefix="chamnet-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)

    on_host, origin = "", ""

    def install(self, name: str, files: Mapping[str, Path]) -> str:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, source in files.items():
            shutil.copy2(source, folder / file)
            (folder / file).chmod(0o755)
        return str(folder)

    def put(self, name: str, blob: bytes) -> str:
        path = self.folder / name
        path.write_bytes(blob)
        return str(path)

    def ready(self, paths: Sequence[str]) -> None:
        """Files are where ``put`` wrote them."""

    def clear(self, keep: Sequence[str]) -> None:
        for path in self.folder.iterdir():
            if path.is_file() and path.suffix in MODEL_SUFFIXES and str(path) not in keep:
                path.unlink()

    def fetch(self, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise HostError(f"{path} must be readable, but got: {error.strerror}") from None

    def wait_back(self, limit_s: float) -> None:
        """This machine is always there."""

    def spawn_agent(self, arguments: Sequence[str], environment: Mapping[str, str]) -> LocalChannel:
        stderr = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - lives as long as the channel
        process = subprocess.Popen(
            [self.python, "-m", "agent", *arguments],
            cwd=AGENT_HOME,
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        return LocalChannel(process, cast(IO[bytes], stderr))

    def close(self) -> None:
        self._scratch.cleanup()


class LocalChannel:
    """A child process in a process group of its own."""

    def __init__(self, process: subprocess.Popen[str], stderr: IO[bytes]) -> None:
        self._process = process
        self._stderr = stderr

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        return iter(self._process.stdout)

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()

    def abandon(self) -> None:
        self.kill()

    def exit_status(self) -> int | None:
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None

    def lost(self) -> bool:
        return False

    def stderr_tail(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._stderr.read().decode(errors="replace")


def open_transport(address: str = "", launch: Launch | None = None) -> LocalTransport:
    """There is only one address: this machine."""
    chosen = launch or Launch()
    return LocalTransport(chosen.python or sys.executable, chosen.environment)
