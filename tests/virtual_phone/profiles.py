"""What the virtual phone pretends to be: PROFILES, one chip each, with what its system says of it.

Numbers are of the chip's class, not of one phone. ``inverted`` is a chip whose gauge counts the other way round;
``twocore`` has only processors that any machine has, so that pinning really pins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

ARM, QUALCOMM = "0x41", "0x51"
ZONES_MC = {"cpu-0-0": 45_100, "gpuss-0": 41_200, "battery": 28_700, "skin": 33_000}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Processors that share a clock; ``capacity`` is None where the kernel does not tell it."""

    cpus: tuple[int, ...]
    max_khz: int
    capacity: int | None
    implementer: str
    part: str

    @property
    def frequencies_khz(self) -> tuple[int, ...]:
        """Four steps, the slowest first."""
        return tuple(self.max_khz * quarter // 4 for quarter in (1, 2, 3, 4))


@dataclass(frozen=True, slots=True)
class Profile:
    """One phone.

    Attributes:
        soc_id: of /sys/devices/soc0; None where there is no such folder.
        current_sign: of current_now while the battery charges; the kernel's rule is +1.
        current_unit_ua: of current_now; 1000 where the gauge tells milliamperes.
    """

    model: str
    manufacturer: str
    device: str
    platform: str
    release: str
    sdk: int
    clusters: tuple[Cluster, ...]
    soc_id: int | None = None
    soc_machine: str = ""
    governor: str = "schedutil"
    more_properties: Mapping[str, str] = field(default_factory=dict)
    zones_mc: Mapping[str, int] = field(default_factory=lambda: ZONES_MC)
    current_sign: int = 1
    current_unit_ua: int = 1

    @property
    def cpus(self) -> int:
        return sum(len(cluster.cpus) for cluster in self.clusters)


SNAPDRAGON_835 = Profile(
    "VPhone 835", "Acme", "vphone835", "msm8998", "8.1.0", 27,
    (
        Cluster((0, 1, 2, 3), 1_900_800, None, QUALCOMM, "0x801"),
        Cluster((4, 5, 6, 7), 2_361_600, None, QUALCOMM, "0x800"),
    ),
    soc_id=292, soc_machine="MSM8998", governor="interactive", more_properties={"ro.hardware": "qcom"},
)  # fmt: skip
SNAPDRAGON_8_GEN_2 = Profile(
    "VPhone 8G2", "Acme", "vphone", "kalama", "14", 34,
    (
        Cluster((0, 1, 2), 2_016_000, 325, ARM, "0xd46"),
        Cluster((3, 4, 5, 6), 2_803_200, 857, ARM, "0xd4d"),
        Cluster((7,), 3_187_200, 1024, ARM, "0xd4e"),
    ),
    soc_id=519, soc_machine="KALAMA", governor="walt",
    more_properties={"ro.hardware": "qcom", "ro.soc.manufacturer": "QTI", "ro.soc.model": "SM8550"},
)  # fmt: skip
SNAPDRAGON_845 = Profile(
    "VPhone 845", "Acme", "vphone845", "sdm845", "10", 29,
    (
        Cluster((0, 1, 2, 3), 1_766_400, 397, QUALCOMM, "0x803"),
        Cluster((4, 5, 6, 7), 2_803_200, 1024, QUALCOMM, "0x802"),
    ),
    soc_id=321, soc_machine="SDM845", more_properties={"ro.hardware": "qcom"},
)  # fmt: skip
TENSOR_G1 = Profile(
    "Pixel 6", "Google", "oriole", "gs101", "15", 35,
    (
        Cluster((0, 1, 2, 3), 1_803_000, 165, ARM, "0xd05"),
        Cluster((4, 5), 2_253_000, 582, ARM, "0xd0b"),
        Cluster((6, 7), 2_802_000, 1024, ARM, "0xd44"),
    ),
    governor="sched_pixel", zones_mc={"BIG": 47_000, "MID": 44_500, "LITTLE": 43_000, "battery": 29_100},
    more_properties={"ro.hardware": "oriole", "ro.soc.manufacturer": "Google", "ro.soc.model": "Tensor"},
)  # fmt: skip
TWO_CORES = replace(
    SNAPDRAGON_8_GEN_2,
    model="VPhone Two",
    clusters=(Cluster((0,), 2_016_000, 325, ARM, "0xd46"), Cluster((1,), 3_187_200, 1024, ARM, "0xd4e")),
)

PROFILES: Mapping[str, Profile] = {
    "snapdragon835": SNAPDRAGON_835,
    "snapdragon8gen2": SNAPDRAGON_8_GEN_2,
    "tensorg1": TENSOR_G1,
    "inverted": replace(SNAPDRAGON_845, current_sign=-1),
    "milliampere": replace(SNAPDRAGON_8_GEN_2, current_unit_ua=1000),
    "twocore": TWO_CORES,
}


def profile_named(name: str) -> Profile:
    """Raises ValueError, naming what there is."""
    if name not in PROFILES:
        raise ValueError(f"--soc must be one of {', '.join(PROFILES)}, but got {name!r}; choose one of these")
    return PROFILES[name]


def properties_of(profile: Profile, abi: str, serialno: str) -> dict[str, str]:
    """What getprop tells."""
    release = f"{profile.release}/VP1A/1:userdebug/test-keys"
    return {
        "ro.product.manufacturer": profile.manufacturer,
        "ro.product.model": profile.model,
        "ro.product.device": profile.device,
        "ro.product.name": profile.device,
        "ro.product.cpu.abi": abi,
        "ro.product.cpu.abilist": abi,
        "ro.board.platform": profile.platform,
        "ro.build.version.release": profile.release,
        "ro.build.version.sdk": str(profile.sdk),
        "ro.build.fingerprint": f"{profile.manufacturer}/{profile.device}/{profile.device}:{release}".lower(),
        "ro.build.type": "userdebug",
        "ro.debuggable": "0",
        "ro.serialno": serialno,
        "ro.boot.qemu": "1",
        "sys.boot_completed": "1",
        **profile.more_properties,
    }
