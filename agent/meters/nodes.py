"""Small files of the device that is metered, and its shell: on this machine, or behind the prefix that leads there."""

from __future__ import annotations

import glob
import os
import shlex
import subprocess
from typing import Any, Dict, List, Optional, Sequence

from agent.engines.launch import TO_A_SHELL
from agent.machine import read_text
from agent.meters import MeterError
from agent.phone import words_there

ANSWER_LIMIT_S = 10.0
SHELLS = ("/system/bin/sh", "/bin/sh")
MARK = "chamnet-node"
_READ = 'if t=$(cat {0} 2>/dev/null); then echo "$t"; echo {1} yes; else echo {1} no; fi'


def under(options: Dict[str, Any], path: str) -> str:
    """A path of the device, below the folder that stands for its root."""
    return str(options.get("root") or "") + path


def find(pattern: str) -> List[str]:
    """The paths that match, sorted; ``*``, ``?`` and ``[]`` have their usual meaning."""
    if not words_there():
        return sorted(glob.glob(pattern))
    return sorted((run_there("ls -d {} 2>/dev/null".format(pattern)) or "").split())


def read_nodes(paths: Sequence[str]) -> Dict[str, Optional[str]]:
    """Path -> its text without the space around it; None where it cannot be read."""
    if words_there():
        return _read_there(paths)
    texts = {path: read_text(path) for path in paths}
    return {path: None if text is None else text.strip() for path, text in texts.items()}


def read_numbers(paths: Sequence[str]) -> List[int]:
    """Raises MeterError where one of them holds no whole number."""
    texts = read_nodes(paths)
    return [whole(texts[path], path) for path in paths]


def whole(text: Optional[str], source: str) -> int:
    """A whole number. Raises MeterError."""
    try:
        return int(text or "")
    except ValueError:
        raise MeterError("{} must hold a whole number, but got {!r}".format(source, text)) from None


def grant(paths: Sequence[str]) -> str:
    """The command that makes files readable for everyone, until the next boot."""
    return "sudo chmod a+r {}".format(" ".join(map(shlex.quote, paths)))


def run_there(script: str) -> Optional[str]:
    """What a script printed in the device's shell; None where it could not run or took too long."""
    try:
        done = subprocess.run(
            _command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").replace("\r\n", "\n")


def _command(script: str) -> List[str]:
    words = words_there()
    if words and words[-1] in TO_A_SHELL:
        return [*words, script]
    shell = next((path for path in SHELLS if os.path.exists(path)), "sh")
    return [*words, "sh" if words else shell, "-c", script]


def _read_there(paths: Sequence[str]) -> Dict[str, Optional[str]]:
    """All in one call, since each costs a journey."""
    found: Dict[str, Optional[str]] = dict.fromkeys(paths)
    lines: List[str] = []
    left = list(paths)
    for line in (run_there("; ".join(_READ.format(shlex.quote(path), MARK) for path in paths)) or "").splitlines():
        if not line.startswith(MARK):
            lines.append(line)
            continue
        path = left.pop(0)
        found[path] = "\n".join(lines).strip() if line.endswith("yes") else None
        lines = []
    return found
