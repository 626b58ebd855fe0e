"""The state of the machine around a batch: read before and after, stored with the numbers. Absent is left out."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from agent.machine import read_text
from agent.phone import prefix, read_phone

LOADAVG = "/proc/loadavg"
GATE_STEP_S = 0.004
PROBES, PROBE_STEPS = 9, 20_000
"""A few milliseconds in all on a phone: enough to see a clock that heat has lowered."""


def read_conditions() -> Dict[str, Any]:
    """Frequencies in kHz, governor, load, steal in ticks, temperatures in millidegrees, tunables, threads, and of a
    phone what ``read_phone`` tells; only that where the agent reaches it through a prefix."""
    here = {} if prefix() else _read_here()
    found: Dict[str, Any] = {"time_ns": time.perf_counter_ns(), **here, **read_phone()}
    return {name: value for name, value in found.items() if value not in (None, {})}


def _read_here() -> Dict[str, Any]:
    """Of the machine that this runs on."""
    return {
        "freq_khz": _frequencies(),
        "governor": _first("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load1": _load1(),
        "runnable": runnable(),
        "steal_ticks": _steal_ticks(),
        "temp_mc": _temperatures(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "threads": _threads(),
        "throttled_us": _throttled_us(),
        "probe_ns": probe_ns(),
    }


def read_temperatures() -> Dict[str, int]:
    """Millidegrees of each thermal zone that can be read, and of a phone's battery."""
    battery_mc = read_phone().get("battery_mc")
    return {**({} if prefix() else _temperatures()), **({} if battery_mc is None else {"battery": battery_mc})}


def probe_ns() -> Optional[int]:
    """The quickest of a few runs of a fixed piece of arithmetic; None on what is no phone, or not where this runs."""
    if prefix() != []:
        return None
    return min(_arithmetic_ns() for _ in range(PROBES))


def _arithmetic_ns() -> int:
    start, total = time.perf_counter_ns(), 0
    for number in range(PROBE_STEPS):
        total += number * number
    return time.perf_counter_ns() - start


def interruptions() -> int:
    """Involuntary context switches of this thread; constantly 0 where the system does not count them."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    except (ImportError, AttributeError, ValueError):
        return 0


def runnable() -> Optional[int]:
    """Threads of the whole machine that run or want to."""
    match = re.match(r"\S+ \S+ \S+ (\d+)/", read_text(LOADAVG) or "")
    return int(match.group(1)) if match else None


def quiet_gate(threads: int) -> Callable[[int], int]:
    """A wait for a moment when nothing else wants to run, within a budget in ns; returns ns waited."""

    def wait(budget_ns: int) -> int:
        start = time.perf_counter_ns()
        while time.perf_counter_ns() - start < budget_ns and (runnable() or 0) > threads:
            time.sleep(GATE_STEP_S)
        return time.perf_counter_ns() - start

    return wait


def _frequencies() -> Dict[str, int]:
    found = {}
    for path in sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")):
        text = read_text(str(path))
        if text and text.strip().isdigit():
            found[path.parts[-3]] = int(text)
    return found


def _first(path: str) -> Optional[str]:
    text = read_text(path)
    return text.strip() if text else None


def _load1() -> Optional[float]:
    text = read_text(LOADAVG)
    return float(text.split()[0]) if text else None


def _steal_ticks() -> Optional[int]:
    fields = (read_text("/proc/stat") or "").split("\n", 1)[0].split()
    return int(fields[8]) if len(fields) > 8 else None


def _temperatures() -> Dict[str, int]:
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone[0-9]*")):
        kind, value = read_text(str(zone / "type")), read_text(str(zone / "temp"))
        if kind and value and value.strip().lstrip("-").isdigit():
            found["{}:{}".format(zone.name, kind.strip())] = int(value)
    return found


def _threads() -> Optional[int]:
    match = re.search(r"^Threads:\s*(\d+)", read_text("/proc/self/status") or "", re.MULTILINE)
    return int(match.group(1)) if match else None


def _throttled_us() -> Optional[int]:
    match = re.search(r"^throttled_usec (\d+)", read_text("/sys/fs/cgroup/cpu.stat") or "", re.MULTILINE)
    return int(match.group(1)) if match else None
