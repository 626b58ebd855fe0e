"""Runs one command on the device and tells what it printed and how it ended: here, or behind a command prefix.

A prefix that ends in ``shell`` (``adb -s SERIAL shell``) hands one text to a shell over there: every word is quoted,
and the exit status comes back as the last line, since adb's own status also stands for a lost connection. To another
prefix (``nice``, an emulator) the words are simply appended.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
from typing import Dict, List, Mapping, NamedTuple, Sequence, Set

from agent.engines import EngineUnavailable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STATUS = re.compile(r"\d+\n")
_REAP_S = 5.0
TO_A_SHELL = ("shell", "--")
"""How a prefix ends that hands one text to a shell over there: that of adb, and that of ssh."""
_RUNNING: "Set[subprocess.Popen[bytes]]" = set()


class Ended(NamedTuple):
    """What a command printed on both streams, and its exit status; below 0 it is the signal that ended it."""

    text: str
    status: int


class ConnectionLost(EngineUnavailable):
    """The device went away during a command, which may have ended in any way."""


class TooLong(RuntimeError):
    """The command did not end in time and was killed; ``text`` is what it had printed."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def run_command(prefix: Sequence[str], words: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> Ended:
    """Raises ConnectionLost, TooLong, or EngineUnavailable where the command itself cannot be started."""
    for name in environment:
        if not _NAME.fullmatch(name):
            raise ValueError("a variable must have a name such as LD_LIBRARY_PATH, but got {!r}".format(name))
    if not prefix or prefix[-1] not in TO_A_SHELL:
        return _run([*prefix, *words], environment, timeout_s)
    marker = "chamnet-{}".format(secrets.token_hex(8))
    ended = _run([*prefix, remote_line(words, environment, marker)], {}, timeout_s)
    text, found, status = ended.text.rpartition(marker + "=")
    if not found or not _STATUS.fullmatch(status):
        raise ConnectionLost(
            "the device must stay connected until the command ends, but {} ended with status {} before it; "
            "look at the cable and at 'adb devices'. It said: {!r}".format(prefix[0], ended.status, ended.text[-200:])
        )
    return Ended(text[:-1] if text.endswith("\n") else text, int(status))


def kill_all() -> None:
    """Ends the commands that run now: they must not outlive an agent that leaves at once."""
    for process in list(_RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def remote_line(words: Sequence[str], environment: Mapping[str, str], marker: str) -> str:
    """The text for a shell far away: quoted, both streams in one, and the status after the marker."""
    settings = ["{}={}".format(name, shlex.quote(value)) for name, value in environment.items()]
    command = " ".join([*settings, *map(shlex.quote, words)])
    return "{{ {}; }} 2>&1; printf '\\n%s=%s\\n' {} $?".format(command, marker)


def _run(words: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> Ended:
    process = _start(list(words), {**os.environ, **environment})
    _RUNNING.add(process)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        text = _kill(process)
        raise TooLong(
            "{} must end within {:g} s, but it did not and was killed".format(words[0], timeout_s), text
        ) from None
    except BaseException:
        _kill(process)
        raise
    finally:
        _RUNNING.discard(process)
    return Ended(_text(output), process.returncode)


def _start(words: List[str], environment: Dict[str, str]) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that a whole group can be killed; it reads nothing of the agent's input."""
    try:
        return subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineUnavailable("{!r} must be a command that runs here, but got {}".format(words[0], error)) from None


def _kill(process: "subprocess.Popen[bytes]") -> str:
    """Ends its process group; returns what it had printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return _text(process.communicate(timeout=_REAP_S)[0])
    except subprocess.TimeoutExpired as kept:
        return _text(kept.output or b"")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").replace("\r\n", "\n")
