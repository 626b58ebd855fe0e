"""Facts about the machine that do not change while it runs; what cannot be read is left out."""

from __future__ import annotations

import os
import platform
import re
from typing import Any, Dict, List, Optional, Set

from agent.cgroup import read_cgroup
from agent.gpu import describe_gpu
from agent.sysfiles import exists, numbers, paths_like, read_word
from agent.sysfiles import read_text as read_text

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

FEATURES = (
    "avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Flags of the kernel's cpuinfo that decide which kernels an engine takes."""

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})
"""Each means that the CPU computes in bfloat16 itself."""

CONTAINERS = (("docker", "/.dockerenv"), ("podman", "/run/.containerenv"))
GROUPS = ("kubepods", "docker", "libpod", "lxc")


def read_machine() -> Dict[str, Any]:
    """CPU model, ISA, processors, caches, memory, kernel, limits of container and VM; of an NVIDIA GPU
    ``describe_gpu``'s.

    ``cpus_effective`` is how many processors' worth of time there is: those allowed, or less where a quota says so.
    """
    cpuinfo = read_text("/proc/cpuinfo") or ""
    flags = _flags(cpuinfo)
    allowed, cgroup = _allowed(), read_cgroup()
    facts = {
        "cpu_model": _field(cpuinfo, "model name") or _field(cpuinfo, "Hardware") or platform.processor() or None,
        "arch": platform.machine(),
        "isa": next((name for name, needed in ISA_LADDER if set(needed) <= flags), platform.machine()),
        "features": [name for name in FEATURES if name in flags] or None,
        "cpus": allowed,
        "cpus_effective": min(len(allowed or ()) or os.cpu_count() or 1, cgroup.get("cpu_quota", float("inf"))),
        "smt_siblings": _siblings(),
        "caches": _caches(),
        "memory_kib": _memory_kib(),
        "kernel": platform.release(),
        "hypervisor": "hypervisor" in flags or None,
        "vm": _vm() if "hypervisor" in flags else None,
        "container": _container(),
        "cgroup": cgroup or None,
        "transparent_hugepages": _chosen(read_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "gpu": describe_gpu() or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def read_features() -> Set[str]:
    """Those of FEATURES that the CPU has."""
    return _flags(read_text("/proc/cpuinfo") or "") & set(FEATURES)


def siblings_of(cpus: Set[int]) -> Set[int]:
    """Other hardware threads of the cores that these CPUs belong to; empty where the kernel does not tell."""
    path = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {sibling for cpu in cpus for sibling in numbers(read_text(path.format(cpu)))} - cpus


def _flags(cpuinfo: str) -> "set[str]":
    return set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())


def _field(cpuinfo: str, name: str) -> Optional[str]:
    match = re.search(r"^{}\s*:\s*(.+)$".format(re.escape(name)), cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else None


def _allowed() -> Optional[List[int]]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _vm() -> Optional[str]:
    """Whose virtual machine it is, as its firmware or its hypervisor says."""
    names = [read_word("/sys/class/dmi/id/{}".format(name)) for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or read_word("/sys/hypervisor/type")


def _container() -> Optional[str]:
    """What it runs in, as its files or its control groups say; None for no container that can be seen."""
    said = next((name for name, path in CONTAINERS if exists(path)), None) or read_word("/run/systemd/container")
    groups = read_text("/proc/self/cgroup") or ""
    return said or next((name for name in GROUPS if re.search(r"[/:-]{}\b".format(name), groups)), None)


def _siblings() -> Optional[List[str]]:
    paths = paths_like("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
    return sorted({text for text in map(read_word, paths) if text}) or None


def _caches() -> Optional[Dict[str, str]]:
    caches = {}
    for folder in paths_like("/sys/devices/system/cpu/cpu0/cache/index[0-9]*"):
        level, kind, size = (read_word("{}/{}".format(folder, name)) for name in ("level", "type", "size"))
        if level and kind and size:
            caches["L{} {}".format(level, kind.lower())] = size
    return caches or None


def _memory_kib() -> Optional[int]:
    match = re.search(r"^MemTotal:\s*(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE)
    return int(match.group(1)) if match else None


def _chosen(text: Optional[str]) -> Optional[str]:
    match = re.search(r"\[(\w+)\]", text or "")
    return match.group(1) if match else None
