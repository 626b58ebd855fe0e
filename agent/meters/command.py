"""Any instrument that a command line prints the power of, in watts: one number a line, or one and the end.

A command that goes on is left running, and its newest line is the reading; one that ends is started anew for each. It
is named by option ``command`` (a text or a list of words; no shell takes part), which only the host's own command line
sets. ``unit`` may be "mW" or "uW", ``scope`` what is metered ("device"), ``period_s`` how often it has something new.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading
import time
from typing import Any, Dict, List, Optional

from agent.meters import MeterError, MeterFacts, Reading, probe_by

UNITS_UW = {"W": 1e6, "mW": 1e3, "uW": 1.0}
FIRST_LIMIT_S = 10.0
STALE_S = 10.0
STALE_PERIODS = 20


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    """Starts it once where it is named."""
    if not options.get("command"):
        return {"unavailable": "an instrument's command line must be given, as meter option 'command'"}
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Command":
    """Starts it and waits for its first number. Raises MeterError where none comes."""
    command = options.get("command")
    words = shlex.split(command) if isinstance(command, str) else list(command or [])
    unit = str(options.get("unit", "W"))
    if not words or unit not in UNITS_UW:
        raise MeterError(
            "a command line and a unit (W, mW or uW) must be given as meter options, but got {!r} and {!r}".format(
                command, unit
            )
        )
    period_s = options.get("period_s")
    meter = Command(
        words, UNITS_UW[unit], None if period_s is None else float(period_s), str(options.get("scope", "device"))
    )
    try:
        meter.read()
    except MeterError:
        meter.close()
        raise
    return meter


class Command:
    """A process that prints, its lines read by a thread."""

    def __init__(self, words: List[str], unit_uw: float, period_s: Optional[float], scope: str) -> None:
        source = " ".join(map(shlex.quote, words))
        self.facts = MeterFacts("command", "power", period_s, None, False, ("output",), scope, source)
        self._words = words
        self._unit_uw = unit_uw
        self._stale_s = max(STALE_S, STALE_PERIODS * (period_s or 0.0))
        self._running: Optional[Running] = None

    def read(self) -> Reading:
        """The newest number; of a command that has ended, the first of its next run."""
        if self._running is None or self._running.has_ended():
            self.close()
            self._running = Running(self._words)
        line = self._running.newest(FIRST_LIMIT_S, self._stale_s)
        return Reading(time.perf_counter_ns(), self._unit_uw * _number(line))

    def close(self) -> None:
        if self._running is not None:
            self._running.end()
        self._running = None


class Running:
    """One run of it. Raises MeterError where it cannot be started."""

    def __init__(self, words: List[str]) -> None:
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
            )
        except OSError as error:
            raise MeterError("{!r} must be a command that runs here, but got {}".format(words[0], error)) from None
        self._name = words[0]
        self._line, self._line_s = "", 0.0
        self._come = threading.Condition()
        self._over = False
        self._told = False
        threading.Thread(target=self._listen, daemon=True).start()

    def has_ended(self) -> bool:
        """Whether its last line was told, or missed, and no more will come."""
        return self._over and self._told

    def newest(self, limit_s: float, stale_s: float) -> str:
        """Its newest line; waits for the first one. Raises MeterError where none comes, or the newest is too old."""
        with self._come:
            self._come.wait_for(lambda: self._line or self._over, limit_s)
            self._told = True
            if not self._line:
                raise MeterError("{} must print a number, but {}".format(self._name, self._why()))
            if not self._over and time.monotonic() - self._line_s > stale_s:
                raise MeterError("{} must go on printing, but did not for {:g} s".format(self._name, stale_s))
            return self._line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _why(self) -> str:
        return "ended with status {}".format(self._process.wait()) if self._over else "did not in time"

    def _listen(self) -> None:
        stream = self._process.stdout
        with contextlib.suppress(ValueError, OSError):
            for line in stream or ():
                if line.strip():
                    with self._come:
                        self._line, self._line_s, self._told = line.strip(), time.monotonic(), False
                        self._come.notify_all()
        with self._come:
            self._over = True
            self._come.notify_all()


def _number(line: str) -> float:
    try:
        return float(line.split()[0])
    except ValueError:
        raise MeterError("a line must begin with a number, but got {!r}".format(line[:80])) from None
