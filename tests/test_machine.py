"""What the agent reads of a machine, from /proc and /sys as kernels write them; which processors the host takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import conditions, machine, sysfiles
from agent.cgroup import read_cgroup, throttled_us
from agent.conditions import read_conditions
from agent.machine import read_features, read_machine
from agent.protocol import Done
from host import cores, quality
from host.devices import choose_cpus
from host.errors import UsageError

SAPPHIRE_RAPIDS = """\
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu fma avx2 avx512f hypervisor avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8
"""
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 /docker/abc /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
41 31 0:38 /docker/abc /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


class Fake:
    """A tree of files in place of this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        into = self.root / path.lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_text(text)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(sysfiles, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "describe_gpu", dict)
    monkeypatch.setattr(conditions, "read_gpu", dict)
    return Fake(tmp_path)


def allow(monkeypatch: pytest.MonkeyPatch, *cpus: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(cpus))


def test_features_that_decide_kernels_are_named(fake: Fake) -> None:
    fake.write("/proc/cpuinfo", SAPPHIRE_RAPIDS)
    told = read_machine()
    assert told["isa"] == "amx"
    assert told["features"] == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"]
    assert read_features() == set(told["features"])


def test_features_of_arm_are_named(fake: Fake) -> None:
    fake.write("/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm bf16\n")
    assert read_machine()["features"] == ["asimdhp", "asimddp", "i8mm", "bf16"]


def test_an_empty_machine_claims_nothing(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 1)
    told = read_machine()
    assert not {"features", "cgroup", "container", "vm", "smt_siblings", "caches", "memory_kib"} & set(told)
    assert not {"steal_ticks", "sibling_ticks", "throttled_us", "freq_khz"} & set(read_conditions())


def test_a_quota_of_version_2_holds_from_any_level(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 1, 2, 3)
    fake.write("/proc/self/mountinfo", V2_MOUNTS)
    fake.write("/proc/self/cgroup", "0::/system.slice/job/inner\n")
    fake.write("/sys/fs/cgroup/system.slice/job/inner/cpu.max", "max 100000\n")
    fake.write("/sys/fs/cgroup/system.slice/job/cpu.max", "250000 100000\n")
    fake.write("/sys/fs/cgroup/system.slice/job/cpu.stat", "usage_usec 9\nnr_throttled 2\nthrottled_usec 1234\n")
    fake.write("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-3\n")
    assert read_cgroup() == {"version": 2, "cpu_quota": 2.5, "cpuset": [0, 1, 2, 3]}
    assert read_machine()["cpus_effective"] == 2.5
    assert throttled_us() == 1234


def test_a_quota_of_version_1_is_read_where_the_container_sees_it(fake: Fake) -> None:
    fake.write("/proc/self/mountinfo", V1_MOUNTS)
    fake.write("/proc/self/cgroup", "4:cpuset:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/docker/abc\n")
    fake.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
    fake.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    fake.write("/sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5000000\n")
    fake.write("/sys/fs/cgroup/cpuset/cpuset.cpus", "2-3,6\n")
    assert read_cgroup() == {"version": 1, "cpu_quota": 1.5, "cpuset": [2, 3, 6]}
    assert throttled_us() == 5000
    assert read_machine()["container"] == "docker"


def test_no_quota_is_no_limit(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 1)
    fake.write("/proc/self/mountinfo", V1_MOUNTS)
    fake.write("/proc/self/cgroup", "2:cpu,cpuacct:/\n")
    fake.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    fake.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert read_cgroup() == {"version": 1}
    assert read_machine()["cpus_effective"] == 2


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("/.dockerenv", "", "docker"),
        ("/run/.containerenv", "", "podman"),
        ("/run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("/proc/self/cgroup", "0::/kubepods/burstable/pod1\n", "kubepods"),
        ("/proc/self/cgroup", "0::/user.slice/dockerish\n", None),
    ],
)
def test_a_container_is_told_by_its_traces(fake: Fake, path: str, text: str, expected: str | None) -> None:
    fake.write(path, text)
    assert read_machine().get("container") == expected


def test_a_virtual_machine_tells_whose_it_is(fake: Fake) -> None:
    fake.write("/proc/cpuinfo", SAPPHIRE_RAPIDS)
    fake.write("/sys/class/dmi/id/sys_vendor", "Google\n")
    fake.write("/sys/class/dmi/id/product_name", "Google Compute Engine\n")
    told = read_machine()
    assert told["hypervisor"] is True
    assert told["vm"] == "Google Google Compute Engine"


def test_firmware_of_bare_metal_is_no_virtual_machine(fake: Fake) -> None:
    fake.write("/proc/cpuinfo", SAPPHIRE_RAPIDS.replace("hypervisor ", ""))
    fake.write("/sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
    assert not {"vm", "hypervisor"} & set(read_machine())


STAT = """\
cpu  1 1 1 1 1 1 1 900 0 0
cpu0 100 0 50 9000 5 0 0 7 0 0
cpu1 10 0 0 9000 5 0 0 11 0 0
cpu2 300 5 20 9000 5 1 2 2 0 0
cpu3 0 0 0 9000 5 0 0 500 0 0
intr 12345 cpu0 9
"""


def test_steal_and_siblings_are_those_of_the_processors_in_use(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 1)
    fake.write("/proc/stat", STAT)
    for cpu, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        fake.write(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{siblings}\n")
    told = read_conditions()
    assert told["steal_ticks"] == 7 + 11
    assert told["sibling_ticks"] == (300 + 5 + 20 + 1 + 2 + 2) + 500


def test_siblings_that_run_the_agent_too_disturb_nobody(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 2)
    fake.write("/proc/stat", STAT)
    for cpu in (0, 2):
        fake.write(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", "0,2\n")
    assert "sibling_ticks" not in read_conditions()


@pytest.mark.parametrize(
    ("counter", "grown", "cpus", "expected"),
    [
        ("steal_ticks", 6, (1,), ("stolen",)),
        ("steal_ticks", 6, (0, 1), ()),
        ("steal_ticks", 4, (1,), ()),
        ("sibling_ticks", 11, (1,), ("busy-sibling",)),
        ("sibling_ticks", 9, (1,), ()),
        ("throttled_us", 1, (1,), ("throttled",)),
        ("throttled_us", 0, (1,), ()),
    ],
)
def test_counters_that_grew_during_a_second_are_doubts(
    counter: str, grown: int, cpus: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    assert quality.batch_doubts(Done({counter: 50}, {counter: 50 + grown}), None, 1.0, cpus) == expected


@pytest.mark.parametrize("counter", ["steal_ticks", "sibling_ticks", "throttled_us"])
def test_a_counter_that_was_read_once_tells_nothing(counter: str) -> None:
    assert quality.batch_doubts(Done({}, {counter: 10_000}), None, 1.0, (0,)) == ()


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(cores, "CPUS", tmp_path / "cpu")
    monkeypatch.setattr(cores, "KINDS", (tmp_path / "atom", tmp_path / "core"))
    return Fake(tmp_path)


def share(topology: Fake, *groups: str) -> None:
    for group in groups:
        for cpu in group.split(","):
            topology.write(f"/cpu/cpu{cpu}/topology/thread_siblings_list", f"{group}\n")


def test_threads_get_cores_of_their_own_while_there_are_any(topology: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, *range(8))
    share(topology, "0,1", "2,3", "4,5", "6,7")
    assert choose_cpus(1) == (7,)
    assert choose_cpus(4) == (1, 3, 5, 7)
    assert choose_cpus(5) == (1, 3, 5, 6, 7)
    assert choose_cpus(8) == tuple(range(8))


def test_siblings_numbered_far_apart_are_known_as_well(topology: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, *range(8))
    share(topology, "0,4", "1,5", "2,6", "3,7")
    assert choose_cpus(2) == (6, 7)
    assert choose_cpus(4) == (4, 5, 6, 7)


def test_a_sibling_that_is_not_allowed_leaves_its_core_to_the_other(
    topology: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 0, 2, 3)
    share(topology, "0,1", "2,3")
    assert choose_cpus(2) == (0, 3)


def test_the_quick_cores_of_a_hybrid_processor_come_first(topology: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, *range(8))
    share(topology, "0,1", "2,3")
    topology.write("/core", "0-3\n")
    topology.write("/atom", "4-7\n")
    assert choose_cpus(2) == (1, 3)
    assert choose_cpus(4) == (0, 1, 2, 3)
    with pytest.raises(UsageError, match="at most"):
        choose_cpus(5)


def test_without_topology_the_last_processors_are_taken(topology: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 0, 1, 2, 3)
    assert choose_cpus(2) == (2, 3)
    assert choose_cpus(2, asked=(0, 1)) == (0, 1)


def test_clusters_of_a_phone_are_taken_as_they_are(topology: Fake) -> None:
    share(topology, "0,1", "2,3")
    assert choose_cpus(2, clusters=((0, 1), (2, 3))) == (2, 3)
