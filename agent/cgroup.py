"""What control groups allow this process of the CPU, and how long they held it back; versions 1 and 2.

A limit of a group holds for all groups within it, so every level is read that is visible from here.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Dict, Iterator, List, Optional

from agent.sysfiles import numbers, read_text, read_word

NS_PER_US = 1000


def read_cgroup() -> Dict[str, Any]:
    """``cpu_quota`` in CPUs and ``cpuset`` as CPU numbers, where such a limit is set; ``version`` of what sets them."""
    version = 1 if _levels("cpu") else 2 if _levels("") else None
    found = {"version": version, "cpu_quota": min(_quotas(), default=None), "cpuset": _cpuset()}
    return {name: value for name, value in found.items() if value is not None}


def throttled_us() -> Optional[int]:
    """How long the quota of any level has held its group back so far; None where nothing counts it."""
    told = [re.search(r"^throttled_usec (\d+)", _text(folder, "cpu.stat"), re.MULTILINE) for folder in _levels("")]
    v1 = [re.search(r"^throttled_time (\d+)", _text(folder, "cpu.stat"), re.MULTILINE) for folder in _levels("cpu")]
    spent = [int(match[1]) for match in told if match] + [int(match[1]) // NS_PER_US for match in v1 if match]
    return sum(spent) if spent else None


def _quotas() -> Iterator[float]:
    """In CPUs, of every level that has one."""
    for folder in _levels(""):
        words = _text(folder, "cpu.max").split()
        if len(words) == 2 and words[0].isdigit():
            yield int(words[0]) / int(words[1])
    for folder in _levels("cpu"):
        quota, period = _text(folder, "cpu.cfs_quota_us").strip(), _text(folder, "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(quota):
            yield int(quota) / int(period)


def _cpuset() -> Optional[List[int]]:
    names = [(folder, "cpuset.cpus.effective") for folder in _levels("")]
    names += [(folder, name) for folder in _levels("cpuset") for name in ("cpuset.effective_cpus", "cpuset.cpus")]
    told = (read_word("{}/{}".format(folder, name)) for folder, name in names)
    return next((numbers(text) for text in told if text), None)


def _levels(controller: str) -> List[str]:
    """Folders of this process's groups, innermost first: of a controller of version 1, or of version 2 for ''."""
    mount, group = _mount(controller), _group(controller)
    if mount is None or group is None:
        return []
    point, root = mount
    inner = PurePosixPath(group)
    inner = inner.relative_to(root) if root in (str(inner), *map(str, inner.parents)) else PurePosixPath()
    place = PurePosixPath(point) / str(inner).lstrip("/")
    return [str(level) for level in (place, *place.parents) if str(level).startswith(point)]


def _mount(controller: str) -> "Optional[tuple[str, str]]":
    """Where a hierarchy is mounted, and which of its groups is seen there."""
    for line in (read_text("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" and not controller:
            return point, root
        if kind == "cgroup" and controller in options.split(",") and controller:
            return point, root
    return None


def _group(controller: str) -> Optional[str]:
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            return group
    return None


def _text(folder: str, name: str) -> str:
    return read_text("{}/{}".format(folder, name)) or ""
