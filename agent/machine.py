"""Facts about the machine that do not change while it runs; what cannot be read is left out."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

ISA_LADDER = (
    ("amx", ("amx_int8",)),
    ("avx512_vnni", ("avx512f", "avx512_vnni")),
    ("avx512", ("avx512f",)),
    ("avx_vnni", ("avx2", "avx_vnni")),
    ("avx2", ("avx2", "fma")),
    ("sve", ("sve",)),
    ("i8mm", ("i8mm",)),
    ("dotprod", ("asimddp",)),
    ("neon", ("asimd",)),
)


def read_machine() -> Dict[str, Any]:
    """CPU model, ISA, processors, caches, memory, kernel, container limits."""
    cpuinfo = read_text("/proc/cpuinfo") or ""
    flags = _flags(cpuinfo)
    facts = {
        "cpu_model": _field(cpuinfo, "model name") or _field(cpuinfo, "Hardware") or platform.processor() or None,
        "arch": platform.machine(),
        "isa": next((name for name, needed in ISA_LADDER if set(needed) <= flags), platform.machine()),
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "smt_siblings": _siblings(),
        "caches": _caches(),
        "memory_kib": _memory_kib(),
        "kernel": platform.release(),
        "hypervisor": "hypervisor" in flags or None,
        "cgroup_cpu_max": (read_text("/sys/fs/cgroup/cpu.max") or "").strip() or None,
        "transparent_hugepages": _chosen(read_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "libc": " ".join(platform.libc_ver()).strip() or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def read_text(path: str) -> Optional[str]:
    """A small file's text, None where it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _flags(cpuinfo: str) -> "set[str]":
    return set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())


def _field(cpuinfo: str, name: str) -> Optional[str]:
    match = re.search(r"^{}\s*:\s*(.+)$".format(re.escape(name)), cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else None


def _siblings() -> Optional[List[str]]:
    folders = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"))
    groups = [text.strip() for text in map(read_text, map(str, folders)) if text]
    return sorted(set(groups)) or None


def _caches() -> Optional[Dict[str, str]]:
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        level, kind, size = (read_text(str(folder / name)) for name in ("level", "type", "size"))
        if level and kind and size:
            caches["L{} {}".format(level.strip(), kind.strip().lower())] = size.strip()
    return caches or None


def _memory_kib() -> Optional[int]:
    match = re.search(r"^MemTotal:\s*(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE)
    return int(match.group(1)) if match else None


def _chosen(text: Optional[str]) -> Optional[str]:
    match = re.search(r"\[(\w+)\]", text or "")
    return match.group(1) if match else None
