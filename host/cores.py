"""The processors of this machine as its kernel tells them: kinds of cores, and hardware threads that share one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
KINDS = (Path("/sys/devices/cpu_atom/cpus"), Path("/sys/devices/cpu_core/cpus"))
"""Which CPUs are of which kind where an Intel processor has two, the slower kind first."""


def kinds_of(cpus: Iterable[int]) -> list[tuple[int, ...]]:
    """These CPUs by kind of core, slowest kind first; all together where there is one kind."""
    allowed = set(cpus)
    kinds = [tuple(sorted(allowed & _numbers(path))) for path in KINDS]
    known = [kind for kind in kinds if kind]
    return known if set().union(*known) == allowed and allowed else [tuple(sorted(allowed))]


def one_of_each_core_last(cpus: Sequence[int]) -> tuple[int, ...]:
    """These CPUs in an order whose end has one hardware thread of every core, highest numbers last, and before it the
    threads that would share a core with one of them."""
    siblings = {cpu: _numbers(CPUS / f"cpu{cpu}/topology/thread_siblings_list") | {cpu} for cpu in cpus}
    chosen: list[int] = []
    for cpu in sorted(cpus, reverse=True):
        if siblings[cpu].isdisjoint(chosen):
            chosen.insert(0, cpu)
    return (*sorted(set(cpus) - set(chosen)), *chosen)


def _numbers(path: Path) -> set[int]:
    """The numbers of a file such as ``0-3,8``; empty where it cannot be read."""
    try:
        ranges = re.findall(r"(\d+)(?:-(\d+))?", path.read_text())
    except OSError:
        return set()
    return {cpu for first, last in ranges for cpu in range(int(first), int(last or first) + 1)}
