"""What a device is: one shell script asks it, and a pure reading of the answer tells its chip, cores and system.

The chip is told by the strongest evidence there is: the vendor's number of it, then what the system calls it, then the
board's platform, which several chips may share.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from host.socs import SOCS, Soc

PROPERTIES = (
    "ro.serialno", "ro.product.manufacturer", "ro.product.model", "ro.product.device", "ro.product.cpu.abi",
    "ro.soc.manufacturer", "ro.soc.model", "ro.vendor.qti.soc_model", "ro.vendor.qti.soc_name", "ro.mediatek.platform",
    "ro.board.platform", "ro.hardware", "ro.boot.hardware", "ro.build.version.release", "ro.build.version.sdk",
    "ro.build.fingerprint", "ro.boot.qemu", "ro.kernel.qemu",
)  # fmt: skip

PROBE = f"""
say() {{ [ -n "$2" ] && echo "$1=$2"; }}
first() {{ [ -r "$1" ] && head -n 1 "$1" 2>/dev/null; }}
if command -v getprop >/dev/null 2>&1; then for p in {" ".join(PROPERTIES)}; do say "$p" "$(getprop $p)"; done; fi
say soc_id "$(first /sys/devices/soc0/soc_id)"
say board "$(tr -d '\\0' 2>/dev/null < /proc/device-tree/model)"
say hardware "$(grep -m1 ^Hardware /proc/cpuinfo | sed 's/.*: *//')"
say cpu_model "$(grep -m1 '^model name' /proc/cpuinfo | sed 's/.*: *//')"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say page_bytes "$(getconf PAGESIZE 2>/dev/null)"
say boot_id "$(first /proc/sys/kernel/random/boot_id)"
say cpus_online "$(first /sys/devices/system/cpu/online)"
say cpus_allowed "$(sed -n 's/^Cpus_allowed_list:[^0-9]*//p' /proc/self/status)"
for p in /sys/devices/system/cpu/cpufreq/policy*; do
  [ -d "$p" ] && say "cluster.${{p##*/policy}}" "$(first $p/cpuinfo_max_freq):$(first $p/related_cpus)"
done
for c in /sys/devices/system/cpu/cpu[0-9]*; do say "capacity.${{c##*/cpu}}" "$(first $c/cpu_capacity)"; done
say in_use "$(first /data/local/tmp/chamnet/lock/owner)"
say in_use_s "$(echo $(($(date +%s) - $(first /data/local/tmp/chamnet/lock/beat))) 2>/dev/null)"
say readable "$(for f in /sys/class/power_supply/battery/current_now /sys/class/thermal/thermal_zone0/temp; do
  [ -r $f ] && printf '%s ' $f; done)"
say battery "$(dumpsys battery 2>/dev/null | grep -E '^ *(level|status|temperature|voltage):' | tr -s ' \\n' ' ')"
say thermal_status "$(dumpsys thermalservice 2>/dev/null | sed -n 's/^Thermal Status: *//p' | head -n 1)"
"""
"""Plain sh: what is not there stays unsaid."""

EVIDENCE = ("soc_id", "ro.soc.model", "ro.vendor.qti.soc_model", "ro.vendor.qti.soc_name", "ro.mediatek.platform",
            "ro.board.platform", "ro.hardware", "ro.boot.hardware", "hardware")  # fmt: skip
MOST_CPUS = 1024
_SUFFIX = re.compile(r"(?<=^mt\d{4})\D.*|-[a-z]{2}$")
"""What vendors add to a model: MT6853V/TNZA, SM8250-AC."""
_RANGE = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
_CLUSTER = re.compile(r"(\d+):((?: ?\d{1,4})+)")
OLDEST_SDK = 24
"""Android 7, the first whose shell keeps output, errors and exit status apart."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Processors that share one clock."""

    cpus: tuple[int, ...]
    max_khz: int
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device answered.

    Attributes:
        said: all that it said, by name.
        soc: the chip; None where nothing that it said is in the table.
        evidence: what told the chip.
        clusters: slowest first, of the processors that its shell may use; empty where it does not say.
        mismatches: where it contradicts the table, or itself.
    """

    said: Mapping[str, str]
    soc: Soc | None = None
    evidence: str = ""
    clusters: tuple[Cluster, ...] = ()
    mismatches: tuple[str, ...] = field(default=())

    @property
    def model(self) -> str:
        """What a person calls it."""
        parts = [self.said.get("ro.product.manufacturer", ""), self.said.get("ro.product.model", "")]
        return " ".join(filter(None, parts)) or self.said.get("board") or self.said.get("cpu_model") or "unknown"

    @property
    def emulated(self) -> bool:
        return "1" in (self.said.get("ro.boot.qemu"), self.said.get("ro.kernel.qemu"))

    @property
    def is_too_old(self) -> bool:
        """Whether it cannot be driven; what does not say is taken to be new enough."""
        sdk = self.said.get("ro.build.version.sdk", "")
        return sdk.isdecimal() and int(sdk) < OLDEST_SDK

    @property
    def cpus(self) -> tuple[int, ...]:
        """Every processor that its shell may use, slowest cluster first."""
        usable = _usable(self.said)
        online = (cpu for cpu in _range(self.said.get("cpus_online", "")) if cpu in usable)
        return tuple(cpu for cluster in self.clusters for cpu in cluster.cpus) or tuple(online)

    def as_json(self) -> dict[str, Any]:
        clusters = [{"cpus": list(c.cpus), "max_khz": c.max_khz, "capacity": c.capacity} for c in self.clusters]
        soc = self.soc.name if self.soc else None
        return {**self.said, "soc": soc, "soc_told_by": self.evidence, "clusters": clusters,
                "mismatches": list(self.mismatches)}  # fmt: skip


def parse_probe(text: str) -> Identity:
    """The device from the answer to PROBE."""
    said = dict(_pairs(text))
    soc, evidence = _soc_of(said)
    clusters, usable = _clusters(said), _usable(said)
    mine = (replace(cluster, cpus=tuple(cpu for cpu in cluster.cpus if cpu in usable)) for cluster in clusters)
    mismatches = (*_restrictions(said), *_contradictions(said, soc, clusters))
    return Identity(said, soc, evidence, tuple(cluster for cluster in mine if cluster.cpus), mismatches)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\r", "").splitlines():
        name, equals, value = line.partition("=")
        if equals and value.strip():
            yield name.strip(), value.strip()


def _soc_of(said: Mapping[str, str]) -> tuple[Soc | None, str]:
    """The chip by the strongest evidence that leaves no choice."""
    for name in EVIDENCE:
        found = _candidates(said, name)
        if len(found) == 1:
            return found[0], f"{name} {said[name]}"
    return None, ""


def _candidates(said: Mapping[str, str], name: str) -> list[Soc]:
    value = said.get(name, "")
    return [soc for soc in SOCS if _names(soc, name, value)] if value else []


def _names(soc: Soc, evidence: str, value: str) -> bool:
    if evidence == "soc_id":
        return value.isdecimal() and int(value) in soc.soc_ids
    models = {model.lower() for model in soc.models}
    if evidence == "hardware":
        return any(re.search(rf"\b{re.escape(model)}(?!\d)", value.lower()) for model in models)
    return _SUFFIX.sub("", value.lower()) in models | {platform.lower() for platform in soc.platforms}


def _clusters(said: Mapping[str, str]) -> tuple[Cluster, ...]:
    """All of them, slowest first."""
    found = []
    for name, value in said.items():
        if name.startswith("cluster.") and (match := _CLUSTER.fullmatch(value)):
            cpus = tuple(sorted(map(int, match[2].split())))
            capacity = said.get(f"capacity.{cpus[0]}", "")
            found.append(Cluster(cpus, int(match[1]), int(capacity) if capacity.isdecimal() else 0))
    return tuple(sorted(found, key=lambda cluster: (cluster.capacity, cluster.max_khz, cluster.cpus)))


def _usable(said: Mapping[str, str]) -> Container[int]:
    """The processors that are online and that its shell may run on, as far as it says."""
    told = [set(cpus) for name in ("cpus_online", "cpus_allowed") if (cpus := _range(said.get(name, "")))]
    return set.intersection(*told) if told else range(MOST_CPUS)


def _restrictions(said: Mapping[str, str]) -> Iterator[str]:
    online, allowed = _range(said.get("cpus_online", "")), _range(said.get("cpus_allowed", ""))
    if allowed and not set(online) <= set(allowed):
        yield f"its shell may run on processors {said['cpus_allowed']} only, of {said['cpus_online']}"


def _contradictions(said: Mapping[str, str], soc: Soc | None, clusters: tuple[Cluster, ...]) -> Iterator[str]:
    """Where the device contradicts the table, or itself, or leaves a choice."""
    if soc is None:
        for name in EVIDENCE:
            if found := _candidates(said, name):
                yield f"{name} {said[name]} is that of {' and '.join(chip.name for chip in found)}"
        return
    for name in EVIDENCE:
        found = _candidates(said, name)
        if found and soc not in found:
            yield f"{name} {said[name]} is that of {' and '.join(chip.name for chip in found)}, not of {soc.name}"
    big = tuple(sorted(cpu for cluster in clusters[1:] for cpu in cluster.cpus))
    if big and soc.big_cpus and big != soc.big_cpus:
        yield f"{soc.name} has big processors {_text(soc.big_cpus)} in the table, but the device says {_text(big)}"
    platform = said.get("ro.board.platform")
    if platform and soc.platforms and not _candidates(said, "ro.board.platform"):
        yield f"{soc.name} has platform {' or '.join(soc.platforms)} in the table, but the device says {platform}"


def _range(text: str) -> tuple[int, ...]:
    """The processors of a text such as 0-3,6; none where it is no such text."""
    if not _RANGE.fullmatch(text):
        return ()
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _text(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))
