"""Whose time it is: the machine's, or one that passes only as it is told, so that hours of metering take no time.

A loop asks ``now_ns``, waits with ``sleep``, tells ``passed`` what it spent, and has things done ``every`` so often.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, List, Protocol


class Timekeeper(Protocol):
    """Time, and what happens by it."""

    def now_ns(self) -> int:
        """On one clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Returns when so much has passed."""

    def passed(self, spent_ns: int) -> None:
        """Work that took so long was just done."""

    def every(self, period_s: float, act: Callable[[], None]) -> Callable[[], None]:
        """Acts now, then each time so much has passed, until what this returns is called; no act is under way then."""


class RealTime:
    """The machine's monotonic clock; what is to be done every so often is done by a thread."""

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def passed(self, spent_ns: int) -> None:
        """The clock has seen it."""

    def every(self, period_s: float, act: Callable[[], None]) -> Callable[[], None]:
        ended = threading.Event()

        def go_on() -> None:
            due_s = time.monotonic()
            while not ended.is_set():
                act()
                due_s = max(due_s + period_s, time.monotonic())
                ended.wait(due_s - time.monotonic())

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()

        def stop() -> None:
            ended.set()
            thread.join()

        return stop


class SimulatedTime:
    """Starts at 0 and passes by ``sleep`` and ``passed`` alone; acts come exactly when they are due."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._alarms: List[_Alarm] = []

    def now_ns(self) -> int:
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        self.passed(round(max(0.0, seconds) * 1e9))

    def passed(self, spent_ns: int) -> None:
        until_ns = self._now_ns + max(0, spent_ns)
        while self._alarms:
            alarm = min(self._alarms, key=lambda alarm: alarm.due_ns)
            if alarm.due_ns > until_ns:
                break
            self._now_ns = alarm.due_ns
            alarm.due_ns += alarm.period_ns
            alarm.act()
        self._now_ns = until_ns

    def every(self, period_s: float, act: Callable[[], None]) -> Callable[[], None]:
        period_ns = max(1, round(period_s * 1e9))
        alarm = _Alarm(self._now_ns + period_ns, period_ns, act)
        self._alarms.append(alarm)
        act()
        return lambda: self._alarms.remove(alarm)


class _Alarm:
    def __init__(self, due_ns: int, period_ns: int, act: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.period_ns = period_ns
        self.act = act
