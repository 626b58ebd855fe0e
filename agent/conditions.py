"""The state of the machine around a batch: read before and after, stored with the numbers. Absent is left out."""

from __future__ import annotations

import os
import re
import time
from pathlib import PurePosixPath
from typing import Any, Callable, Dict, List, Optional

from agent.cgroup import throttled_us
from agent.gpu import read_gpu
from agent.machine import read_text, siblings_of
from agent.phone import prefix, read_phone
from agent.sysfiles import paths_like, read_word

LOADAVG = "/proc/loadavg"
GATE_STEP_S = 0.004
STEAL, IDLE = 7, (3, 4)
"""Places of a CPU's counters in /proc/stat: of stolen time, and of waiting for work or for a disk."""
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
        "governor": read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load1": _load1(),
        "runnable": runnable(),
        **_ticks(),
        "temp_mc": _temperatures(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "threads": _threads(),
        "throttled_us": throttled_us(),
        "probe_ns": probe_ns(),
        "gpu": read_gpu(),
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
    for path in paths_like("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"):
        text = read_word(path)
        if text and text.isdigit():
            found[PurePosixPath(path).parts[-3]] = int(text)
    return found


def _load1() -> Optional[float]:
    text = read_text(LOADAVG)
    return float(text.split()[0]) if text else None


def _ticks() -> Dict[str, int]:
    """Of the CPUs that this process may use: what the hypervisor gave to others, and what the other hardware threads
    of their cores were busy."""
    mine = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()
    told = _ticks_of_cpus()
    others = siblings_of(mine)
    return {
        **({"steal_ticks": sum(told[cpu][STEAL] for cpu in mine)} if mine and mine <= set(told) else {}),
        **({"sibling_ticks": sum(_busy(told[cpu]) for cpu in others)} if others and others <= set(told) else {}),
    }


def _ticks_of_cpus() -> Dict[int, List[int]]:
    """CPU -> its counters in /proc/stat; empty where there are too few of them."""
    rows = re.findall(r"^cpu(\d+) ([\d ]+)$", read_text("/proc/stat") or "", re.MULTILINE)
    told = {int(cpu): [int(ticks) for ticks in counters.split()] for cpu, counters in rows}
    return {cpu: ticks for cpu, ticks in told.items() if len(ticks) > STEAL}


def _busy(ticks: List[int]) -> int:
    return sum(ticks[: STEAL + 1]) - sum(ticks[place] for place in IDLE)


def _temperatures() -> Dict[str, int]:
    found = {}
    for zone in paths_like("/sys/class/thermal/thermal_zone[0-9]*"):
        kind, value = read_word("{}/type".format(zone)), read_word("{}/temp".format(zone))
        if kind and value and value.lstrip("-").isdigit():
            found["{}:{}".format(PurePosixPath(zone).name, kind)] = int(value)
    return found


def _threads() -> Optional[int]:
    match = re.search(r"^Threads:\s*(\d+)", read_text("/proc/self/status") or "", re.MULTILINE)
    return int(match.group(1)) if match else None
