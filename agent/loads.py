"""A model at work for as long as a window lasts: called in a loop, or run by an engine that is a program of its own."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Protocol

from agent.timekeeping import Timekeeper

CHUNK_NS = 10_000_000
MOST_LOOPS = 100_000
SPARE_S = 30.0
"""Longer than it was told to, a program's own run of a window may take."""


class Span(NamedTuple):
    """A time, and the calls that were made in it."""

    from_ns: int
    to_ns: int
    calls: int


class Load(Protocol):
    """A model that is ready to work.

    Attributes:
        power_uw: what it draws, of one that is made up.
    """

    power_uw: Optional[float]

    def work(self, settle_s: float, window_s: float, border: Callable[[], int]) -> Span:
        """Settles, then works through a window; ``border`` is called at both its ends and tells when that was."""


class Looped:
    """Calls of an open model, in the thread that asks. Raises what the engine raises."""

    def __init__(self, model: Any, keeper: Timekeeper) -> None:
        self.power_uw: Optional[float] = getattr(model, "power_uw", None)
        self._run = model.run
        self._keeper = keeper
        self._work(1)
        self._loops = int(min(MOST_LOOPS, max(1, CHUNK_NS // max(1, self._work(1)))))

    def work(self, settle_s: float, window_s: float, border: Callable[[], int]) -> Span:
        self._until(self._keeper.now_ns() + round(settle_s * 1e9))
        from_ns = border()
        calls = self._until(from_ns + round(window_s * 1e9))
        return Span(from_ns, border(), calls)

    def _until(self, deadline_ns: int) -> int:
        calls = 0
        while self._keeper.now_ns() < deadline_ns:
            self._work(self._loops)
            calls += self._loops
        return calls

    def _work(self, loops: int) -> int:
        spent_ns: int = self._run(loops)
        self._keeper.passed(spent_ns)
        return spent_ns


class Summarised:
    """Runs of an engine that is a program: it settles by its warm-up and ends with the runs that it measures.

    So the window is the time before its end that those took by its own account; ending itself takes milliseconds.
    """

    power_uw: Optional[float] = None

    def __init__(self, engine: Any, path: str, options: Dict[str, Any]) -> None:
        self._engine = engine
        self._path = path
        self._options = options

    def work(self, settle_s: float, window_s: float, border: Callable[[], int]) -> Span:
        wanted = {"num_runs": 1, "min_secs": window_s, "max_secs": 2 * window_s + SPARE_S, "warmup_min_secs": settle_s}
        began_ns = border()
        told = self._engine.summarise(self._path, {**self._options, **wanted})
        to_ns = border()
        if "count" not in told or "avg_ns" not in told:
            raise ValueError("an engine must tell how often it ran and how long, but told {}".format(sorted(told)))
        return Span(max(began_ns, to_ns - round(told["count"] * told["avg_ns"])), to_ns, int(told["count"]))
