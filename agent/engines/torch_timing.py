"""Timed regions on a GPU: calls between two events, launched one by one or replayed from CUDA graphs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Protocol, Sequence, Tuple

GRAPH_NS, GRAPH_CALLS = 200_000, 256
"""A graph holds as many calls as last that long, at most so many."""

PROBE_CALLS = 8
LONG_NS = 1_000_000
"""Regions as long do not show what it costs to begin them."""

WINDOW_NS, WINDOWS, TOLERANCE = 2_000_000, 10, 0.01
"""A model that is still restless after so many windows is left to its samples, which are spread over seconds."""
FIRST_NS, FIRST_WINDOWS = 300_000_000, 1000
"""How long the first model of a process runs at least until it counts as settled: clocks rise in that time."""

_settled_before: List[bool] = []
_side: List[Any] = []
"""The stream for all that must not run on the usual one: workspaces of libraries are kept for each stream."""


class Region(Protocol):
    def run(self, loops: int) -> int:
        """That many calls; ns on the device."""

    def outputs(self) -> Any:
        """Those of one more call, made as those that are timed."""


class Launched:
    """Calls that are launched one by one: their time includes what the GPU waits for launches."""

    def __init__(self, call: Callable[..., Any], copies: Sequence[Sequence[Any]]) -> None:
        self._call, self._copies = call, copies
        self._next = 0

    def run(self, loops: int) -> int:
        import torch

        with torch.inference_mode():
            return round(_timed(lambda: self._launch(loops)))

    def outputs(self) -> Any:
        import torch

        with torch.inference_mode():
            return self._call(*self._copies[0])

    def _launch(self, loops: int) -> None:
        call, copies, first = self._call, self._copies, self._next
        for index in range(first, first + loops):
            call(*copies[index % len(copies)])
        self._next = (first + loops) % len(copies)


class Captured:
    """Calls in two CUDA graphs: one of a single call, one of several, each with the next copy of the arguments. Both
    take their memory from one pool; of a call that is long the first is both.

    Raises:
        what PyTorch raises for operators that cannot be captured.
    """

    def __init__(self, call: Callable[..., Any], copies: Sequence[Sequence[Any]]) -> None:
        import torch

        torch.cuda.empty_cache()
        pool = torch.cuda.graph_pool_handle()
        self._one, self._outputs = _capture(call, copies, 1, pool)
        call_ns = _timed(lambda: self._replay(self._one, PROBE_CALLS)) / PROBE_CALLS
        wanted = min(GRAPH_CALLS, max(1, round(GRAPH_NS / max(call_ns, 1.0))))
        self.calls = -(-wanted // len(copies)) * len(copies)
        self._many = self._one
        if self.calls > 1:
            self._many, self._outputs = _capture(call, copies, self.calls, pool)
        self._short = call_ns * self.calls < LONG_NS

    def run(self, loops: int) -> int:
        """At least one whole graph, of whose time the part of ``loops`` calls is told; more calls are made exactly.

        A short region follows a graph that is not timed, so that it is enqueued before it begins.
        """
        calls = max(loops, self.calls)
        if calls == self.calls and self._short:
            self._many.replay()
        return round(_timed(lambda: self._make(calls)) * loops / calls)

    def outputs(self) -> Any:
        self._many.replay()
        return self._outputs

    def _make(self, calls: int) -> None:
        self._replay(self._many, calls // self.calls)
        self._replay(self._one, calls % self.calls)

    @staticmethod
    def _replay(graph: Any, times: int) -> None:
        for _ in range(times):
            graph.replay()


def settle(run: Callable[[int], int]) -> None:
    """Runs until two windows in a row agree on the time of a call, within bounds."""
    call_ns = max(1, run(1))
    loops, before, spent = max(1, WINDOW_NS // call_ns), 0.0, 0
    for _ in range(WINDOWS if _settled_before else FIRST_WINDOWS):
        window_ns = run(loops)
        spent += window_ns
        agree = abs(window_ns - before) <= TOLERANCE * window_ns
        if agree and (_settled_before or spent >= FIRST_NS):
            break
        before = window_ns
    _settled_before[:] = [True]


@contextmanager
def beside() -> Iterator[None]:
    """On the side stream, after all that the usual one was asked for, which then waits for it."""
    import torch

    if not _side:
        _side.append(torch.cuda.Stream())
    side, usual = _side[0], torch.cuda.current_stream()
    side.wait_stream(usual)
    with torch.cuda.stream(side), torch.inference_mode():
        yield
    usual.wait_stream(side)


def _capture(call: Callable[..., Any], copies: Sequence[Sequence[Any]], calls: int, pool: Any) -> Tuple[Any, Any]:
    """A graph of so many calls, and where it leaves the outputs of the last. ``torch.cuda.graph`` empties the cache for
    each, and older versions collect garbage, a tenth of a second long; here the cache is emptied once a model."""
    import torch

    graph = torch.cuda.CUDAGraph()
    *others, last = (copies[index % len(copies)] for index in range(calls))
    with beside():
        graph.capture_begin(pool=pool)
        try:
            for arguments in others:
                call(*arguments)
            outputs = call(*last)
        finally:
            graph.capture_end()
    return graph, outputs


def _timed(enqueue: Callable[[], None]) -> float:
    """ns between two events around what is enqueued."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    enqueue()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e6
