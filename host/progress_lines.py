"""How far a command is, as JSON lines for the program that started it: on the descriptor named in $CHAMNET_PROGRESS_FD.

A line has ``title``, ``stage``, ``done``, ``total`` and ``note`` (why it waits, else ""). Who does not read loses
lines; the command never waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from host.setting import Progress

VARIABLE = "CHAMNET_PROGRESS_FD"
EVERY_S = 0.1
LONGEST_NOTE = 300
"""So that a line is written whole or not at all."""


def wanted() -> int | None:
    """The descriptor to write to; None where no program asked for lines."""
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isdecimal() else None


def lines_to(descriptor: int, title: str) -> Progress:
    """Tells by lines: the begin and the end of each stage, and ten times a second what is between."""
    os.set_blocking(descriptor, False)
    told: dict[str, Any] = {"title": title, "stage": "", "done": 0, "total": 0, "note": ""}
    last_s = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last_s
        now = time.monotonic()
        if stage == told["stage"] and done < total and now - last_s < EVERY_S:
            return
        last_s = now
        told.update(stage=stage, done=done, total=total, note="")
        _write(descriptor, told)

    def wait(reason: str) -> None:
        told["note"] = reason[:LONGEST_NOTE]
        _write(descriptor, told)

    return Progress(tell, wait)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """What a line tells; None for anything else."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and {"stage", "done", "total", "note"} <= told.keys() else None


def _write(descriptor: int, told: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(told).encode() + b"\n")
