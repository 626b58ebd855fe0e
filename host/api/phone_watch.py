"""Which phones are connected now, asked at most every few seconds, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from host.phones import Phone, list_phones

KEPT_S = 5.0
WAIT_S = 2.0
"""A phone that is silent is waited for elsewhere; the answer of before is given meanwhile."""


class PhoneWatch:
    """The phones on an ADB server that runs already; none where there is no server, or asking fails."""

    def __init__(self, ask: Callable[[], Sequence[Phone]] = list_phones) -> None:
        self._ask = ask
        self._pool = ThreadPoolExecutor(1, "phones")
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None
        self._told_at = float("-inf")
        self._told: tuple[Phone, ...] = ()

    def phones(self) -> tuple[Phone, ...]:
        with self._lock:
            if self._asked is None or (self._asked.done() and time.monotonic() - self._told_at > KEPT_S):
                self._asked = self._pool.submit(self._look)
            asked = self._asked
        with suppress(TimeoutError):
            asked.result(WAIT_S)
        return self._told

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        told: tuple[Phone, ...] = ()
        with suppress(Exception):
            told = tuple(self._ask())
        self._told, self._told_at = told, time.monotonic()
