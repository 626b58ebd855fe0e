"""A meter that hangs on this computer while the load runs on a device: two agents, their clocks laid over each other.

The one here reads the meter for as long as the device's own goes through its windows. Each is asked for its clock
before and after; the windows then take the readings that were made within them. Where the clocks are not known well
enough for such windows, nothing is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agent.protocol import Energise, Energised, Plan
from host.bench import Bench
from host.devices import LOCAL_CPU, find_unit
from host.errors import HostError
from host.session import AgentDied, AgentSession, MeteredBatch
from host.transport import Transport
from lut_db.energy_plans import MeterPlan, planned_s
from lut_db.energy_windows import EDGE

SURE = EDGE / 4
"""How well the clocks must be known, as a share of a window, of which EDGE is left out at its ends."""

STAND_IN: tuple[str, dict[str, Any]] = ("replay", {"trace": {"kind": "power", "points": [[0, 0]]}})
"""What the device's own agent reads meanwhile: nothing."""
SELDOM_S = 5.0
"""Between those readings."""
AT_ONCE_S = 0.01

LOOKS = 12
"""At a clock; the quickest answer counts."""
SPARE_S = 5.0, 60.0
"""How much longer than planned the meter is read, and how much longer where that was too short."""
WAIT_S = 60.0
"""For an answer beyond the time that was asked for."""


Choose = Callable[[Mapping[str, Mapping[str, str]]], str]
"""The name of a meter out of those that Hello tells of; it may raise."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How far an agent's clock is ahead of this program's, and how well that is known (ns)."""

    ahead_ns: int
    within_ns: int


@dataclass(frozen=True, slots=True)
class Shift:
    """From the device's clock to the meter's: what to add at two moments of the device's clock (ns)."""

    first_ns: int
    first_add_ns: int
    last_ns: int
    last_add_ns: int
    within_ns: int

    def __call__(self, at_ns: int) -> int:
        share = (at_ns - self.first_ns) / max(1, self.last_ns - self.first_ns)
        return at_ns + self.first_add_ns + round(share * (self.last_add_ns - self.first_add_ns))


def read_clock(ask: Callable[[], int]) -> Clock:
    """An agent's clock by the quickest of some answers."""
    found = []
    for _ in range(LOOKS):
        before = time.perf_counter_ns()
        told = ask()
        after = time.perf_counter_ns()
        found.append(Clock(told - (before + after) // 2, (after - before + 1) // 2))
    return min(found, key=lambda clock: clock.within_ns)


def shift_between(
    windows: Sequence[Mapping[str, Any]], before: tuple[Clock, Clock], after: tuple[Clock, Clock]
) -> Shift | str:
    """How to carry a device's windows over to the meter's clock, or why that cannot be done.

    Args:
        before, after: the clocks of the device and of the meter.
    """
    first, last = (meter.ahead_ns - device.ahead_ns for device, meter in (before, after))
    unsure = max(device.within_ns + meter.within_ns for device, meter in (before, after)) + abs(last - first) // 2
    shortest_ns = min(int(window["to_ns"]) - int(window["from_ns"]) for window in windows)
    if unsure > SURE * shortest_ns:
        return (
            f"the clocks of device and meter must be known within {SURE:.0%} of a window, but are within "
            f"{unsure / 1e6:.1f} ms of {shortest_ns / 1e9:.3g} s; lengthen the windows"
        )
    return Shift(int(windows[0]["from_ns"]), first, int(windows[-1]["to_ns"]), last, unsure)


def laid_over(windows: Sequence[Mapping[str, Any]], watched: Mapping[str, Any], shift: Shift) -> list[dict[str, Any]]:
    """A device's windows with what was read meanwhile, all on the meter's clock."""
    found = []
    for window in windows:
        from_ns, to_ns = shift(int(window["from_ns"])), shift(int(window["to_ns"]))
        inside = {"readings": [row for row in watched["readings"] if from_ns <= row[0] <= to_ns],
                  "errors": watched["errors"], "error": watched["error"]}  # fmt: skip
        found.append(
            {**window, **inside, "from_ns": from_ns, "to_ns": to_ns, "state": _states(watched, from_ns, to_ns)}
        )
    return found


def _states(watched: Mapping[str, Any], from_ns: int, to_ns: int) -> list[Any]:
    """The state in which a window began, and its changes."""
    states = watched["state"]
    return [*[row for row in states if row[0] <= from_ns][-1:], *[row for row in states if from_ns < row[0] <= to_ns]]


class Outside:
    """The agent here that reads the meter. Made by ``open_outside``.

    Attributes:
        meter: its name.
    """

    def __init__(self, transport: Transport, options: Mapping[str, Any], choose: Choose) -> None:
        self._transport = transport
        self._options = dict(options)
        self._agent: AgentSession | None = None
        self._spare_s, self._more_s = SPARE_S
        self.meter = choose(self._session.hello.meters)

    def facts(self) -> MeteredBatch:
        """One reading, which comes with what the meter is. Raises DeviceUnavailable where it does not open."""
        return self._session.energise(self._request(0.0, AT_ONCE_S), WAIT_S)

    def energise(self, bench: Bench, path: str, plan: MeterPlan, whole: bool) -> Energised | str:
        """A model's windows on the device with the meter's readings, or why there are none.

        Raises:
            AgentDied: the model ends the device's agent; HostError: the meter does not open.
        """
        found = self._once(bench, path, plan, whole)
        if found is None:
            self._spare_s += self._more_s
            found = self._once(bench, path, plan, whole)
        return (
            found or f"the meter must be read all along, but the windows took {self._spare_s:.0f} s longer than planned"
        )

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _once(self, bench: Bench, path: str, plan: MeterPlan, whole: bool) -> Energised | str | None:
        """None where the windows outlasted the readings."""
        before = self._clocks(bench)
        with ThreadPoolExecutor(1) as pool:
            watching = self._begin(pool, plan)
            try:
                asleep = replace(plan, read_every_s=SELDOM_S)
                answer = bench.energise({"0": path}, *STAND_IN, asleep, whole)
            except BaseException:
                self._abandon()
                raise
            told = answer.only
            if isinstance(told, str):
                self._abandon()
                return told
            watched = self._ended(watching)
        windows = told.windows
        shift = shift_between(windows, before, self._clocks(bench))
        if isinstance(shift, str):
            return shift
        if not _covers(watched.windows[0], windows, shift):
            return None
        return replace(watched, id="0", windows=laid_over(windows, watched.windows[0], shift))

    def _begin(self, pool: ThreadPoolExecutor, plan: MeterPlan) -> Future[MeteredBatch]:
        """Returns once readings are taken. Raises HostError where the meter does not open."""
        began, session, seconds = threading.Event(), self._session, planned_s(plan) + self._spare_s
        request = self._request(seconds, plan.read_every_s)
        watching = pool.submit(session.energise, request, seconds + WAIT_S, began.set)
        watching.add_done_callback(lambda _: began.set())
        began.wait()
        if watching.done():
            self._ended(watching)
        return watching

    def _ended(self, watching: Future[MeteredBatch]) -> Energised:
        """What was read. Raises HostError where the agent here ended, or the meter did not open."""
        try:
            return watching.result().energised[0]
        except AgentDied as death:
            self._abandon()
            raise HostError(f"the agent that reads {self.meter} here must go on, but {death}; repeat it") from None

    def _clocks(self, bench: Bench) -> tuple[Clock, Clock]:
        return read_clock(bench.clock), read_clock(self._session.clock)

    @property
    def _session(self) -> AgentSession:
        if self._agent is None:
            self._agent = AgentSession(self._transport, (), {})
        return self._agent

    def _abandon(self) -> None:
        """Ends the agent in the middle of its readings; the next request starts another."""
        if self._agent is not None:
            self._agent.abandon()
            self._agent = None

    def _request(self, seconds: float, read_every_s: float) -> Energise:
        return Energise("", {}, [], self.meter, self._options, Plan(seconds, 0.0, 0, 0.0, read_every_s))


def _covers(watched: Mapping[str, Any], windows: Sequence[Mapping[str, Any]], shift: Shift) -> bool:
    first, last = shift(int(windows[0]["from_ns"])), shift(int(windows[-1]["to_ns"]))
    return bool(watched["from_ns"] <= first and last <= watched["to_ns"])


@contextmanager
def open_outside(options: Mapping[str, Any], choose: Choose) -> Iterator[Outside]:
    """A second agent, on this computer."""
    with closing(find_unit(LOCAL_CPU).open_transport()) as transport:
        outside = Outside(transport, options, choose)
        try:
            yield outside
        finally:
            outside.close()
