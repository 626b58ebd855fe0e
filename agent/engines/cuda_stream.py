"""A CUDA stream of the driver's own, on which device time is told by events.

A GPU waits for its host where calls are short, so that a pair of events around one call would tell mostly how long the
host needed to ask for it. So the stream is held busy by writing to a buffer while the calls are queued, and the first
event comes when they all are: what is told is the time of the device alone. Without ``hold`` it is what passes when the
host asks as quickly as it can.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Callable, List

from agent.gpu import require_gpu

NON_BLOCKING = 1
HOLD_BYTES = 64 << 20
HOLD_NS = 2_000_000
"""Longest that the stream is held at a time; more calls come in several turns."""
QUEUED = 256
"""Calls in one turn at most: a queue that is full would make the host wait."""
MARGIN = 1.5
TRIALS = 5
NOT_READY = 600
"""Of CUresult: the stream has more to do."""
NS_PER_MS = 1_000_000


class CudaError(Exception):
    """What the driver refused."""


class CudaStream:
    """A stream in the context that every library of this process shares.

    Raises:
        EngineUnavailable: there is no GPU; CudaError: the driver refuses.
    """

    def __init__(self) -> None:
        self._driver = require_gpu()
        self._context, self._stream, self._buffer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
        self._ask("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), 0)
        self._ask("cuCtxSetCurrent", self._context)
        self._ask("cuStreamCreate", ctypes.byref(self._stream), NON_BLOCKING)
        self._events = [self._event(), self._event()]
        self._ask("cuMemAlloc_v2", ctypes.byref(self._buffer), ctypes.c_size_t(HOLD_BYTES))
        self._write_ns = self._time_write()

    @property
    def address(self) -> int:
        """What other libraries take as a stream."""
        return int(self._stream.value or 0)

    def time_ns(self, call: Callable[[], Any], calls: int, ask_ns: int, hold: bool) -> int:
        """Device time of so many calls.

        Args:
            ask_ns: what the host needs to ask for one.
            hold: the calls are all asked for before the first begins; one that does not count goes before them, since
                holding the stream empties the GPU's cache.
        """
        if not hold:
            return self._between(lambda: _repeat(call, calls))
        most = max(1, min(QUEUED, HOLD_NS // max(1, ask_ns)))
        turns = [min(most, calls - done) for done in range(0, calls, most)]
        return sum(self._turn(call, count, ask_ns) for count in turns)

    def waits(self, call: Callable[[], Any]) -> bool:
        """Whether a call that is asked for comes back only when the device has done it: then holding is in vain."""
        return all(self._is_done_after(call) for _ in range(TRIALS))

    def _is_done_after(self, call: Callable[[], Any]) -> bool:
        self._write(1 + HOLD_NS // self._write_ns)
        call()
        status = self._driver.cuStreamQuery(self._stream)
        self._between(lambda: None)
        if status not in (0, NOT_READY):
            raise CudaError("cuStreamQuery must succeed, but the driver returned error {}".format(status))
        return not status

    def _turn(self, call: Callable[[], Any], count: int, ask_ns: int) -> int:
        self._write(1 + int(min(HOLD_NS, MARGIN * ask_ns * (count + 1))) // self._write_ns)
        call()
        return self._between(lambda: _repeat(call, count))

    def _between(self, work: Callable[[], None]) -> int:
        """ns between two events around what is asked for."""
        first, last = self._events
        self._ask("cuEventRecord", first, self._stream)
        work()
        self._ask("cuEventRecord", last, self._stream)
        self._ask("cuEventSynchronize", last)
        passed_ms = ctypes.c_float()
        self._ask("cuEventElapsedTime", ctypes.byref(passed_ms), first, last)
        return int(passed_ms.value * NS_PER_MS)

    def _write(self, times: int) -> None:
        for _ in range(times):
            self._ask("cuMemsetD8Async", self._buffer, ctypes.c_ubyte(0), ctypes.c_size_t(HOLD_BYTES), self._stream)

    def _time_write(self) -> int:
        return max(1, min(self._between(lambda: self._write(1)) for _ in range(TRIALS)))

    def _event(self) -> Any:
        event = ctypes.c_void_p()
        self._ask("cuEventCreate", ctypes.byref(event), 0)
        return event

    def _ask(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._driver, name)(*arguments):
            raise CudaError("{} must succeed, but the driver returned error {}".format(name, status))


_STREAMS: List[CudaStream] = []


def shared_stream() -> CudaStream:
    """One for all models of this process."""
    if not _STREAMS:
        _STREAMS.append(CudaStream())
    return _STREAMS[0]


def ask_ns(call: Callable[[], Any]) -> int:
    """What the host needs to ask for a call, at best."""
    spent = []
    for _ in range(TRIALS):
        start = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - start)
    return max(1, min(spent))


def _repeat(call: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        call()
