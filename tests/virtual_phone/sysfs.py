"""The virtual phone's /sys and /proc/cpuinfo: relative path -> text, from its profile."""

from __future__ import annotations

from collections.abc import Iterator

from tests.virtual_phone.profiles import Cluster, Profile

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"
SUPPLY = "sys/class/power_supply"
SOC = "sys/devices/soc0"
BATTERY = {
    "status": "Charging", "capacity": "87", "temp": "287", "voltage_now": "4123000", "charge_counter": "3012000",
    "health": "Good", "present": "1", "technology": "Li-ion",
}  # fmt: skip
CHARGING_UA = 312_500
PLUGS = {"usb": "1", "ac": "0", "wireless": "0"}
CPUINFO = "vendor/fake/cpuinfo"
BOOT_ID = "vendor/fake/boot_id"


def sysfs_of(profile: Profile) -> dict[str, str]:
    return {**dict(_cpus(profile)), **dict(_thermal(profile)), **_supply(profile), **_soc(profile)}


def links_of(profile: Profile) -> dict[str, str]:
    """Symbolic links: each processor's cpufreq is its cluster's."""
    return {
        f"{CPU}/cpu{cpu}/cpufreq": f"../cpufreq/policy{cluster.cpus[0]}"
        for cluster in profile.clusters
        for cpu in cluster.cpus
    }


def cpuinfo_of(profile: Profile) -> str:
    """Only processes of the machine's own architecture see it: qemu-user shows its own to others."""
    return "\n".join(_processor(cpu, cluster) for cluster in profile.clusters for cpu in cluster.cpus)


def battery_current(profile: Profile, into_battery_ua: int) -> str:
    """``current_now`` as this phone's gauge tells it."""
    return str(into_battery_ua * profile.current_sign // profile.current_unit_ua)


def _cpus(profile: Profile) -> Iterator[tuple[str, str]]:
    for name in ("possible", "present", "online"):
        yield f"{CPU}/{name}", f"0-{profile.cpus - 1}"
    for cluster in profile.clusters:
        for name, text in _policy(cluster, profile.governor).items():
            yield f"{CPU}/cpufreq/policy{cluster.cpus[0]}/{name}", text
        if cluster.capacity is not None:
            for cpu in cluster.cpus:
                yield f"{CPU}/cpu{cpu}/cpu_capacity", str(cluster.capacity)


def _policy(cluster: Cluster, governor: str) -> dict[str, str]:
    cpus, lowest_khz = " ".join(map(str, cluster.cpus)), str(cluster.frequencies_khz[0])
    return {
        "related_cpus": cpus,
        "affected_cpus": cpus,
        "cpuinfo_min_freq": lowest_khz,
        "cpuinfo_max_freq": str(cluster.max_khz),
        "scaling_min_freq": lowest_khz,
        "scaling_max_freq": str(cluster.max_khz),
        "scaling_cur_freq": str(cluster.max_khz),
        "scaling_governor": governor,
        "scaling_available_governors": f"{governor} performance powersave",
        "scaling_available_frequencies": " ".join(map(str, cluster.frequencies_khz)),
        "stats/time_in_state": "\n".join(f"{khz} {khz // 1000}" for khz in cluster.frequencies_khz),
        "stats/total_trans": "4711",
    }


def _thermal(profile: Profile) -> Iterator[tuple[str, str]]:
    for number, (name, temp_mc) in enumerate(profile.zones_mc.items()):
        yield f"{THERMAL}/thermal_zone{number}/type", name
        yield f"{THERMAL}/thermal_zone{number}/temp", str(temp_mc)


def _supply(profile: Profile) -> dict[str, str]:
    battery = {**BATTERY, "current_now": battery_current(profile, CHARGING_UA)}
    plugs = {f"{SUPPLY}/{name}/online": online for name, online in PLUGS.items()}
    return {**{f"{SUPPLY}/battery/{name}": text for name, text in battery.items()}, **plugs}


def _soc(profile: Profile) -> dict[str, str]:
    if profile.soc_id is None:
        return {}
    return {f"{SOC}/soc_id": str(profile.soc_id), f"{SOC}/machine": profile.soc_machine, f"{SOC}/family": "Snapdragon"}


def _processor(cpu: int, cluster: Cluster) -> str:
    lines = {
        "processor": str(cpu), "BogoMIPS": "38.40", "Features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics",
        "CPU implementer": cluster.implementer, "CPU architecture": "8", "CPU variant": "0x1",
        "CPU part": cluster.part, "CPU revision": "0",
    }  # fmt: skip
    return "".join(f"{name}\t: {text}\n" for name, text in lines.items())
