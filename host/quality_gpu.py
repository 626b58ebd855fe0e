"""Doubts about what an NVIDIA GPU measured, from its state before and after a batch (``agent.gpu.read_gpu``).

A GPU at rest has a low clock, and gets a high one within milliseconds of work. So only the state right after a batch,
while the agent still holds the GPU, tells about its clock; the counters of time held down are compared between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUICK_STATES = range(3)
"""Power states of a GPU that computes: P0, on some kinds P2."""

FALL = 0.05
"""Loss of clock since the batch before, and share of a batch that clocks were held down, above which it is doubted."""

HOT_MARGIN_MC = 5_000
"""Millidegrees below the temperature at which the GPU slows itself."""

THROTTLED_BY = frozenset({"hw-slowdown", "sw-thermal", "hw-thermal", "power-brake"})
NS_PER_S = 1e9


def gpu_doubts(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> tuple[str, ...]:
    """Empty where the agent did not compute on the GPU, or its state cannot be read.

    Args:
        seconds: how long the batch took.
    """
    if not after.get("in_use"):
        return ()
    found = {
        "throttled": bool(THROTTLED_BY & _reasons(before, after)) or _held("thermal", before, after, seconds),
        "power-capped": "power-cap" in _reasons(before, after) or _held("power", before, after, seconds),
        "slow-clock": not _is_quick(after) or _fell(before, after),
        "gpu-shared": any(told.get("other_processes") for told in (before, after)),
        "hot": _is_hot(after),
    }
    return tuple(doubt for doubt, holds in found.items() if holds)


def _reasons(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """What held clocks down while the agent computed: before its first batch it does not."""
    return {reason for told in (before, after) if told.get("in_use") for reason in told.get("slowed_by", ())}


def _held(cause: str, before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> bool:
    first, last = (told.get("held_ns", {}).get(cause) for told in (before, after))
    if first is None or last is None or seconds <= 0:
        return False
    return bool((last - first) / NS_PER_S > FALL * seconds)


def _is_quick(told: Mapping[str, Any]) -> bool:
    """Whether its power state is one for computing, as far as it tells."""
    return told.get("power_state") is None or told["power_state"] in QUICK_STATES


def _fell(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """The first reading counts only where the GPU was awake."""
    first, last = before.get("sm_mhz"), after.get("sm_mhz")
    if first is None or last is None or not before.get("in_use") or not _is_quick(before):
        return False
    return bool(last < (1 - FALL) * first)


def _is_hot(after: Mapping[str, Any]) -> bool:
    now, limit = after.get("temp_mc"), after.get("slowdown_mc")
    return now is not None and limit is not None and now > limit - HOT_MARGIN_MC
