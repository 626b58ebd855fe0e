"""Takes a meter's readings from one border of a window to the other, in a thread where time is real."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Optional

from agent.loads import Span
from agent.meters import Meter, Reading
from agent.timekeeping import Timekeeper

BORDER_TRIES = 3
ERROR_CHARACTERS = 200


class Recorder:
    """One window's readings; a reading that fails is counted, and the next is taken all the same."""

    def __init__(self, meter: Meter, keeper: Timekeeper, read_every_s: float, note: Dict[str, Any]) -> None:
        """``note`` goes with every state that the meter tells."""
        self._meter = meter
        self._keeper = keeper
        self._read_every_s = read_every_s
        self._note = note
        self._lock = threading.Lock()
        self._stop: Optional[Callable[[], None]] = None
        self._readings: List[List[float]] = []
        self._states: List[List[Any]] = []
        self._errors, self._error = 0, ""

    def border(self) -> int:
        """The first begins to read, the second ends it; returns its time, of a counter that of a reading."""
        at_ns = self._border_ns()
        if self._stop is None:
            self._stop = self._keeper.every(self._read_every_s, self._tick)
        else:
            self.stop()
        return at_ns

    def stop(self) -> None:
        """No reading is taken any more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def window(self, kind: str, span: Span) -> Dict[str, Any]:
        """As ``agent.protocol.Energised`` has it, with what was read between its borders."""
        inside = [row for row in self._readings if span.from_ns <= row[0] <= span.to_ns]
        told = {"readings": inside, "state": self._states, "errors": self._errors, "error": self._error}
        return {"kind": kind, "from_ns": span.from_ns, "to_ns": span.to_ns, "calls": span.calls, **told}

    def _border_ns(self) -> int:
        if self._meter.facts.kind == "counter":
            for _ in range(BORDER_TRIES):
                reading = self._take()
                if reading is not None:
                    return reading.at_ns
        return self._keeper.now_ns()

    def _tick(self) -> None:
        self._take()

    def _take(self) -> Optional[Reading]:
        with self._lock:
            try:
                reading = self._meter.read()
            except Exception as error:
                self._errors += 1
                self._error = str(error)[:ERROR_CHARACTERS]
                return None
            self._keep(reading)
            return reading

    def _keep(self, reading: Reading) -> None:
        raw = [] if reading.current_raw is None else [reading.current_raw, reading.voltage_uv or 0.0]
        if not self._readings or reading.at_ns > self._readings[-1][0]:
            self._readings.append([reading.at_ns, reading.value, *raw])
        state = None if reading.state is None else {**reading.state, **self._note}
        if state is not None and (not self._states or self._states[-1][1] != state):
            self._states.append([reading.at_ns, state])
