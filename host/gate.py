"""When a phone is fit to be measured: cool, at full clock, and as quick as it was. Else it is waited for.

The limits: Android's thermal status 0 is "none", and already "light" was seen to slow single phones to half (Jetpack's
benchmark library refuses any); 40 degrees is where batteries of phones begin to be protected by lower clocks; a fixed
piece of arithmetic that takes a tenth longer has lost a tenth of its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Conditions = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gate:
    """What must hold before a batch.

    Attributes:
        probe_slowdown: most that the fixed arithmetic may take longer than at its quickest, relative; None where the
            clock tells nothing, as on an emulated phone.
        patience_s: longest wait; then it is measured all the same and marked.
    """

    thermal_status: int = 0
    battery_mc: int = 40_000
    probe_slowdown: float | None = 0.10
    patience_s: float = 900.0
    poll_s: float = 5.0


def objections(conditions: Conditions, gate: Gate, cpus: Sequence[int], quickest_ns: int | None) -> tuple[str, ...]:
    """Why a phone is not fit now; empty where it is, or does not tell."""
    found = []
    status = conditions.get("thermal_status")
    if status is not None and status > gate.thermal_status:
        found.append(f"thermal status {status}")
    battery = conditions.get("battery_mc")
    if battery is not None and battery >= gate.battery_mc:
        found.append(f"battery at {battery / 1000:.1f} degrees")
    found += [
        f"processors {name} capped at {low / 1e6:.2f} of {high / 1e6:.2f} GHz"
        for name, low, high in capped(conditions, cpus)
    ]
    probe = conditions.get("probe_ns")
    if gate.probe_slowdown is not None and probe and quickest_ns and probe > (1 + gate.probe_slowdown) * quickest_ns:
        found.append(f"{100 * (probe / quickest_ns - 1):.0f} % slower than at its quickest")
    return tuple(found)


def capped(conditions: Conditions, cpus: Sequence[int]) -> list[tuple[str, int, int]]:
    """Clusters in use whose clock is limited now: their processors, allowed and highest kHz."""
    clusters = conditions.get("cluster_cpus", {})
    found = []
    for name, (allowed, highest) in conditions.get("caps_khz", {}).items():
        members = tuple(clusters.get(name, ()))
        if allowed < highest and (not cpus or not members or set(cpus) & set(members)):
            found.append((",".join(map(str, members)) or name, allowed, highest))
    return found


def wait_until_fit(
    look: Callable[[], Conditions],
    gate: Gate,
    cpus: Sequence[int],
    quickest_ns: Callable[[], int | None],
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Looks until nothing speaks against measuring, or patience ends; tells what it waits for, returns what is left to
    doubt."""
    unfit_since, told = None, ""
    while reasons := objections(look(), gate, cpus, quickest_ns()):
        unfit_since = clock() if unfit_since is None else unfit_since
        if clock() - unfit_since >= gate.patience_s:
            tell(f"measuring all the same, marked as throttled: {', '.join(reasons)}")
            return ("throttled",)
        if (text := f"waiting until it is fit: {', '.join(reasons)}") != told:
            tell(text)
        told = text
        sleep(gate.poll_s)
    if told:
        tell("fit again")
    return ()
