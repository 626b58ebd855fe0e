"""What a phone is, from what it says; which phone a name means; which of its processors are taken."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from host.devices import choose_cpus, device_of, find_unit
from host.errors import DeviceUnavailable, UsageError
from host.identity import PROBE, Identity, parse_probe
from host.lease import STALE_S
from host.phones import Phone, describe_phone, holder, read_identity
from host.socs import ALSO, SOCS, soc_named
from host.transport.adb import AdbShell
from host.transport.shell import run
from tests.virtual_phone.phone import VirtualPhone
from tests.virtual_phone.profiles import PROFILES

SNAPDRAGON_835 = """\
ro.serialno=0123456789ABCDEF
ro.product.manufacturer=Acme
ro.product.model=Phone 5
ro.product.device=cheeseburger
ro.product.cpu.abi=arm64-v8a
ro.board.platform=msm8998
ro.hardware=qcom
ro.build.version.release=8.1.0
ro.build.version.sdk=27
ro.build.fingerprint=acme/phone5:8.1.0/OPM1:user/release-keys
soc_id=292
hardware=Qualcomm Technologies, Inc MSM8998
machine=aarch64
cpus_online=0-7
cpus_allowed=0-7
cluster.0=1900800:0 1 2 3
cluster.4=2361600:4 5 6 7
battery=level: 87 status: 2 voltage: 4123 temperature: 287
"""
"""As a phone of 2017 answers: no ro.soc.model, no thermal service, no cpu_capacity."""

SNAPDRAGON_8_GEN_2 = """\
ro.serialno=R5CW0000001
ro.product.manufacturer=acme
ro.product.model=AC-911
ro.product.device=kalama
ro.product.cpu.abi=arm64-v8a
ro.soc.manufacturer=QTI
ro.soc.model=SM8550
ro.board.platform=kalama
ro.build.version.release=14
ro.build.version.sdk=34
soc_id=519
cpus_online=0-7
cluster.0=2016000:0 1 2
cluster.3=2803200:3 4 5 6
cluster.7=3187200:7
capacity.0=325
capacity.3=857
capacity.7=1024
"""
PIXEL_6 = """\
ro.serialno=1A2B3C
ro.product.manufacturer=Google
ro.product.model=Pixel 6
ro.product.device=oriole
ro.soc.manufacturer=Google
ro.soc.model=Tensor
ro.board.platform=gs101
ro.hardware=oriole
ro.build.version.sdk=35
cpus_online=0-7
cluster.0=1803000:0 1 2 3
cluster.4=2253000:4 5
cluster.6=2802000:6 7
"""


def told(text: str) -> str | None:
    """The name of the chip that an answer tells."""
    soc = parse_probe(text).soc
    return soc.name if soc else None


def said(text: str, name: str, value: str | None) -> str:
    """An answer with another value of one name; without it for None."""
    lines = [line for line in text.splitlines() if not line.startswith(f"{name}=")]
    return "\n".join([*lines, *([f"{name}={value}"] if value is not None else [])])


def test_a_phone_of_its_time_is_read_to_the_last_line() -> None:
    found = parse_probe(SNAPDRAGON_835)
    assert (found.soc, found.evidence) == (soc_named("snapdragon835"), "soc_id 292")
    assert found.model == "Acme Phone 5"
    assert [(cluster.cpus, cluster.max_khz) for cluster in found.clusters] == [
        ((0, 1, 2, 3), 1_900_800), ((4, 5, 6, 7), 2_361_600)
    ]  # fmt: skip
    assert (found.mismatches, found.emulated, found.is_too_old) == ((), False, False)


@pytest.mark.parametrize("name", ["ro.soc.model", "ro.vendor.qti.soc_model", "ro.vendor.qti.soc_name"])
def test_the_number_of_the_chip_wins_over_every_name(name: str) -> None:
    assert told(said(SNAPDRAGON_835, name, "SM8550")) == "snapdragon835"


@pytest.mark.parametrize(
    ("answer", "name", "evidence"),
    [
        ("ro.soc.model=SM8475\nro.board.platform=taro", "snapdragon8+gen1", "ro.soc.model SM8475"),
        ("soc_id=530\nro.board.platform=taro", "snapdragon8+gen1", "soc_id 530"),
        ("soc_id=457\nro.board.platform=taro", "snapdragon8gen1", "soc_id 457"),
        ("ro.soc.model=SM8650\nro.vendor.qti.soc_model=SM8550", "snapdragon8gen3", "ro.soc.model SM8650"),
        ("ro.vendor.qti.soc_model=SM8250-AC\nro.board.platform=kona", "snapdragon865", None),
        ("ro.vendor.qti.soc_name=cape\nro.board.platform=taro", "snapdragon8+gen1", "ro.vendor.qti.soc_name cape"),
        ("soc_id=999999\nro.board.platform=msm8998", "snapdragon835", "ro.board.platform msm8998"),
        ("soc_id=n/a\nro.board.platform=msm8998", "snapdragon835", "ro.board.platform msm8998"),
        ("soc_id=319", "snapdragon835", "soc_id 319"),
        ("soc_id=318\nro.board.platform=sdm660", "snapdragon630", "soc_id 318"),
        ("ro.soc.model=MT6983Z/CZA\nro.mediatek.platform=MT6983", "dimensity9000", "ro.soc.model MT6983Z/CZA"),
        ("ro.mediatek.platform=MT6893\nro.board.platform=mt6893", "dimensity1200", "ro.mediatek.platform MT6893"),
        ("hardware=MT6853V/TNZA", "dimensity720", "hardware MT6853V/TNZA"),
        ("ro.board.platform=universal9810\nro.hardware=samsungexynos9810", "exynos9810", None),
        ("ro.hardware=s5e9925\nro.soc.model=s5e9925", "exynos2200", "ro.soc.model s5e9925"),
        ("ro.boot.hardware=exynos990", "exynos990", "ro.boot.hardware exynos990"),
        (PIXEL_6, "tensorg1", "ro.soc.model Tensor"),
        ("ro.soc.model=Tensor G4\nro.board.platform=zumapro", "tensorg4", "ro.soc.model Tensor G4"),
        ("ro.board.platform=gs101", "tensorg1", "ro.board.platform gs101"),
        ("hardware=Qualcomm Technologies, Inc SDM845", "snapdragon845", None),
    ],
)
def test_a_chip_is_told_by_the_strongest_evidence(answer: str, name: str, evidence: str | None) -> None:
    found = parse_probe(answer)
    assert told(answer) == name
    assert evidence in (None, found.evidence)


@pytest.mark.parametrize(
    ("answer", "among"),
    [
        ("ro.board.platform=taro", ("snapdragon8gen1", "snapdragon8+gen1", "snapdragon7+gen2")),
        ("ro.board.platform=lahaina", ("snapdragon888", "snapdragon778")),
        ("ro.board.platform=sdm660", ("snapdragon660", "snapdragon630")),
    ],
)
def test_a_platform_that_chips_share_tells_none_of_them_but_which_it_may_be(
    answer: str, among: tuple[str, ...]
) -> None:
    found = parse_probe(answer)
    assert (found.soc, found.evidence) == (None, "")
    assert all(name in found.mismatches[0] for name in among)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n\n",
        "=\n==\nno equals sign",
        "ro.board.platform=nobodys\nsoc_id=7",
        "\x00\x01\x7f=\ufffd",
        "soc_id=\nro.x=",
    ],
)
def test_what_says_nothing_known_has_no_chip(answer: str) -> None:
    found = parse_probe(answer)
    assert (found.soc, found.clusters, found.cpus, found.mismatches) == (None, (), (), ())
    assert found.model == "unknown"


def test_windows_line_ends_change_nothing() -> None:
    assert parse_probe(SNAPDRAGON_835.replace("\n", "\r\n")) == parse_probe(SNAPDRAGON_835)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpus_online", "all of them"),
        ("cpus_allowed", "0-"),
        ("cpus_allowed", "0-3-5"),
        ("cluster.4", ":4 5 6 7"),
        ("cluster.4", "2361600:"),
        ("cluster.4", "2361600:4 five"),
        ("capacity.4", "big"),
        ("soc_id", "two hundred"),
        ("ro.build.version.sdk", "Tiramisu"),
    ],
)
def test_a_garbled_value_counts_as_not_told(name: str, value: str) -> None:
    found = parse_probe(said(SNAPDRAGON_835, name, value))
    assert (found.soc, found.is_too_old) == (soc_named("snapdragon835"), False)
    assert found.clusters[0].cpus == (0, 1, 2, 3)


def test_clusters_come_slowest_first_by_capacity_before_clock() -> None:
    text = "cluster.0=3000000:0 1\ncluster.2=2000000:2 3\ncapacity.0=300\ncapacity.2=1024"
    assert [cluster.cpus for cluster in parse_probe(text).clusters] == [(0, 1), (2, 3)]


def test_processors_that_the_shell_may_not_use_are_left_out_and_told() -> None:
    found = parse_probe(said(SNAPDRAGON_8_GEN_2, "cpus_allowed", "0-4"))
    assert [cluster.cpus for cluster in found.clusters] == [(0, 1, 2), (3, 4)]
    assert found.cpus == (0, 1, 2, 3, 4)
    assert found.mismatches == ("its shell may run on processors 0-4 only, of 0-7",)


def test_processors_that_are_off_are_left_out() -> None:
    found = parse_probe(said(said(SNAPDRAGON_835, "cpus_online", "0-5"), "cpus_allowed", "0-7"))
    assert [cluster.cpus for cluster in found.clusters] == [(0, 1, 2, 3), (4, 5)]


def test_without_clusters_the_processors_online_are_all_there_is() -> None:
    assert parse_probe("cpus_online=0-3,6\ncpus_allowed=1-7").cpus == (1, 2, 3, 6)


@pytest.mark.parametrize("answer", [SNAPDRAGON_835, SNAPDRAGON_8_GEN_2, PIXEL_6])
def test_a_phone_that_is_as_the_table_says_has_no_mismatch(answer: str) -> None:
    assert parse_probe(answer).mismatches == ()


@pytest.mark.parametrize(
    ("name", "value", "mismatch"),
    [
        ("cluster.4", "2361600:4 5", "big processors 4,5,6,7 in the table, but the device says 4,5"),
        ("ro.board.platform", "acme1", "platform msm8998 in the table, but the device says acme1"),
        ("ro.board.platform", "sdm845", "ro.board.platform sdm845 is that of snapdragon845, not of snapdragon835"),
        ("ro.soc.model", "SM8550", "ro.soc.model SM8550 is that of snapdragon8gen2, not of snapdragon835"),
    ],
)
def test_what_contradicts_the_table_is_recorded(name: str, value: str, mismatch: str) -> None:
    found = parse_probe(said(SNAPDRAGON_835, name, value))
    assert told(SNAPDRAGON_835) == "snapdragon835"
    (only,) = found.mismatches
    assert mismatch in only
    assert found.as_json()["mismatches"] == [only]


def test_a_phone_of_before_android_7_is_too_old() -> None:
    assert parse_probe("ro.build.version.sdk=23").is_too_old


def test_an_emulated_phone_says_so() -> None:
    assert [parse_probe(f"{name}=1").emulated for name in ("ro.boot.qemu", "ro.kernel.qemu", "ro.x")] == [
        True,
        True,
        False,
    ]


def test_no_two_chips_share_a_name_a_model_or_a_number() -> None:
    names = [name.lower() for soc in SOCS for name in (soc.name, *soc.models)]
    numbers = [number for soc in SOCS for number in soc.soc_ids]
    assert [name for name, count in Counter([*names, *ALSO]).items() if count > 1] == []
    assert [number for number, count in Counter(numbers).items() if count > 1] == []


def test_every_line_of_the_table_is_sound() -> None:
    for soc in SOCS:
        assert re.fullmatch(r"[a-z0-9+]+", soc.name)
        assert all(platform == platform.lower() for platform in soc.platforms)
        assert soc.hexagon is None or re.fullmatch(r"v\d\d", soc.hexagon)
        assert soc.hexagon is None or soc.name.startswith("snapdragon")
        assert soc.models
        assert list(soc.big_cpus) == sorted(soc.big_cpus)


@pytest.mark.parametrize(("alias", "name"), ALSO.items())
def test_a_chip_is_found_by_its_other_name(alias: str, name: str) -> None:
    found = soc_named(alias.upper())
    assert found is not None
    assert found.name == name


def test_the_probe_is_plain_sh() -> None:
    assert "[[" not in PROBE
    assert "\\|" not in PROBE


TWO, THREE = ((0, 1, 2, 3), (4, 5, 6, 7)), ((0, 1, 2), (3, 4, 5, 6), (7,))


@pytest.mark.parametrize(
    ("threads", "asked", "clusters", "cpus"),
    [
        (1, (), TWO, (7,)),
        (2, (), TWO, (6, 7)),
        (4, (), TWO, (4, 5, 6, 7)),
        (1, (), THREE, (7,)),
        (2, (), THREE, (5, 6)),
        (4, (), THREE, (3, 4, 5, 6)),
        (1, (0,), THREE, (0,)),
        (2, (2, 7), THREE, (2, 7)),
    ],
)
def test_threads_run_on_the_fastest_cluster_that_has_enough_processors(
    threads: int, asked: tuple[int, ...], clusters: tuple[tuple[int, ...], ...], cpus: tuple[int, ...]
) -> None:
    assert choose_cpus(threads, asked, clusters) == cpus


@pytest.mark.parametrize(
    ("threads", "asked", "message"),
    [
        (5, (), "threads must be at most the 4 processors 3, 4, 5, 6, but got 5"),
        (1, (8,), "--cpus must be among 0, 1, 2, 3, 4, 5, 6, 7, but got 8"),
        (2, (7,), "threads must be at most the 1 processors 7, but got 2"),
    ],
)
def test_processors_that_are_not_there_are_a_usage_error(threads: int, asked: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        choose_cpus(threads, asked, THREE)


def phone(serial: str, answer: str, state: str = "device") -> Phone:
    identity = parse_probe(answer) if answer else None
    return Phone(serial, state if identity or state != "device" else "silent", "", identity)


PHONE_835, PHONE_8G2 = phone("0123456789ABCDEF", SNAPDRAGON_835), phone("R5CW0000001", SNAPDRAGON_8_GEN_2)
TWIN = phone("FEDCBA", said(SNAPDRAGON_835, "ro.serialno", "FEDCBA"))


def connect(monkeypatch: pytest.MonkeyPatch, *phones: Phone) -> None:
    monkeypatch.setattr("host.devices.list_phones", lambda start_server: list(phones))


def why_not(name: str, force: bool = False) -> str:
    with pytest.raises(DeviceUnavailable) as refused:
        find_unit(name, force=force)
    return str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "snapdragon835", "Snapdragon835", "MSM8998", "0123456789ABCDEF", "0123456789abcdef", "adb:0123456789ABCDEF",
        "Phone 5", "acme-phone-5", "cheeseburger", "snapdragon835@0123456789abcdef", "phone-5@0123456789abcdef",
    ],
)  # fmt: skip
def test_a_phone_is_found_by_what_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    connect(monkeypatch, PHONE_8G2, PHONE_835)
    unit = find_unit(name)
    assert (unit.name, unit.address, unit.forced) == ("snapdragon835@0123456789abcdef", "0123456789ABCDEF", "")
    assert (unit.is_phone, unit.hexagon, unit.abi) == (True, "v62", "arm64-v8a")
    assert unit.clusters == TWO


def test_a_model_name_of_a_chip_names_the_phone_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, PHONE_8G2, PHONE_835)
    assert find_unit("SM8550").name == "snapdragon8gen2@r5cw0000001"


def test_a_phone_of_an_unknown_chip_is_called_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, phone("X1", "ro.product.model=New One\nro.board.platform=nobodys"))
    assert find_unit("X1").name == "new-one@x1"
    assert find_unit("new-one@x1").hexagon is None


@pytest.mark.parametrize(
    "name", ["snapdragon845", "snapdragon845@0123456789abcdef", "snapdragon835@other", "adb:other"]
)
def test_a_name_that_no_phone_proves_is_refused_with_what_is_connected(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    connect(monkeypatch, PHONE_835)
    refused = why_not(name)
    assert (
        f"device {name!r} must be connected, but ADB lists 0123456789ABCDEF (Acme Phone 5, snapdragon835, ready)"
        in refused
    )
    assert "--force" in refused


def test_a_shared_platform_does_not_prove_a_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, phone("T1", "ro.product.model=T\nro.board.platform=taro"))
    assert "must be connected" in why_not("snapdragon8gen1")


def test_an_unknown_chip_of_a_maker_is_told_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch)
    assert "ADB lists no phone; known chips are snapdragon820, snapdragon630" in why_not("snapdragon1")
    assert "known chips" not in why_not("snapdragon835")
    assert "known chips" not in why_not("fairphone")


def test_forced_it_takes_the_phone_that_is_there_and_the_device_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, PHONE_835)
    unit = find_unit("snapdragon845", force=True)
    assert (unit.name, unit.forced) == ("snapdragon835@0123456789abcdef", "snapdragon845")
    facts = device_of(unit, {}).facts
    assert (facts["forced"], facts["soc"], facts["soc_told_by"]) == ("snapdragon845", "snapdragon835", "soc_id 292")


def test_forced_with_its_right_name_nothing_is_to_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, PHONE_835, PHONE_8G2)
    assert find_unit("snapdragon835", force=True).forced == ""


def test_forced_it_does_not_choose_between_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, PHONE_835, PHONE_8G2)
    assert "must be one phone, but 2 are ready" in why_not("snapdragon845", force=True)


def test_of_several_phones_of_one_chip_the_serials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, PHONE_835, TWIN)
    refused = why_not("snapdragon835")
    assert "'snapdragon835' must be one phone, but 2 are ready" in refused
    assert "0123456789ABCDEF" in refused
    assert "FEDCBA" in refused
    assert find_unit("FEDCBA").name == "snapdragon835@fedcba"


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("unauthorized", "allow USB debugging"),
        ("offline", "plug it in again"),
        ("no permissions", "udev rules"),
        ("device", "does not answer"),
    ],
)
def test_a_phone_that_is_not_ready_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, state: str, advice: str
) -> None:
    connect(monkeypatch, phone("S1", "", state))
    refused = why_not("S1")
    assert "phone 'S1' must be ready, but got S1" in refused
    assert advice in refused


def test_the_ready_one_of_two_phones_of_a_model_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Phone("OTHER", "offline", "Phone_5"), PHONE_835)
    assert find_unit("phone 5").address == "0123456789ABCDEF"


def test_a_phone_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, phone("OLD", said(SNAPDRAGON_835, "ro.build.version.sdk", "23")))
    assert "must have Android 7 (API 24) or newer, but OLD has API 23; take another one" in why_not("OLD")


def described(**values: str) -> dict[str, object]:
    """What is shown of the phone with these values in place of its own."""
    answer = SNAPDRAGON_835
    for name, value in values.items():
        answer = said(answer, name, value)
    return describe_phone(replace(PHONE_835, identity=parse_probe(answer)))


def test_a_ready_phone_is_described_with_what_can_be_measured_on_it() -> None:
    shown = described()
    assert shown["soc"] == "snapdragon835 (soc_id 292)"
    assert shown["clusters"] == {"cpus 0,1,2,3": "1.90 GHz", "cpus 4,5,6,7": "2.36 GHz"}
    assert shown["battery"] == "87 %, 28.7 degrees"
    assert shown["thermal status"] == "not told"
    assert shown["in use"] == "no"
    assert "litert" in str(shown["engines"])
    usable = shown["accelerators"]
    assert isinstance(usable, dict)
    assert (usable["cpu"], usable["hexagon"]) == (
        "yes", "with libhexagon_interface.so, libhexagon_nn_skel.so (docs/dsp.md)"
    )  # fmt: skip
    assert "there is no QNN" in usable["qnn-htp"]
    assert "to do" not in shown


@pytest.mark.parametrize(
    ("values", "to_do"),
    [
        ({"thermal_status": "2"}, "let it cool"),
        ({"battery": "level: 50 temperature: 412"}, "let it cool"),
        ({"ro.build.version.sdk": "22"}, "Android 7"),
        ({"in_use": "desk:4711:1234:abcd", "in_use_s": "30"}, "wait until who uses it has ended"),
    ],
)
def test_what_is_wrong_with_a_ready_phone_comes_with_what_to_do(values: dict[str, str], to_do: str) -> None:
    assert to_do in str(described(**values)["to do"])


def test_who_uses_a_phone_is_told_unless_he_was_not_heard_of_for_too_long() -> None:
    owner = "desk:4711:1234:abcd"
    assert described(in_use=owner, in_use_s="30")["in use"] == "process 4711 on desk"
    assert described(in_use=owner, in_use_s=str(STALE_S))["in use"] == "no"


def test_a_battery_that_is_not_told_is_no_number() -> None:
    assert described(battery="level: 87")["battery"] == "87 %, warmth not told"
    assert described(battery="garbage")["battery"] == "? %, warmth not told"


def test_an_identity_survives_as_json() -> None:
    value = parse_probe(SNAPDRAGON_8_GEN_2).as_json()
    assert value["clusters"][2] == {"cpus": [7], "max_khz": 3_187_200, "capacity": 1024}
    assert Identity({}).as_json()["soc"] is None


@pytest.mark.parametrize("chip", [name for name in PROFILES if name not in ("inverted", "milliampere", "twocore")])
def test_a_phone_answers_the_probe(fresh_835: VirtualPhone, chip: str) -> None:
    fresh_835.become(chip)
    found = read_identity(AdbShell(fresh_835.serial))
    assert found.soc == soc_named(chip)
    assert (found.emulated, found.said["machine"], found.said["ro.serialno"]) == (True, "x86_64", "VPHONE0835")
    assert (found.said["cpus_online"], found.said["battery"].split()[:2]) == ("0-7", ["status:", "2"])
    assert found.clusters[0].max_khz == fresh_835.profile.clusters[0].max_khz
    assert all("its shell may run on" in mismatch for mismatch in found.mismatches)


def test_the_probe_tells_who_uses_the_phone_and_since_when(fresh_835: VirtualPhone) -> None:
    shell = AdbShell(fresh_835.serial)
    home = "/data/local/tmp/chamnet/lock"
    run(shell, f"mkdir -p {home}; echo desk:4711:1234:abcd > {home}/owner; date +%s > {home}/beat")
    used = holder(read_identity(shell).said)
    run(shell, f"echo 12345 > {home}/beat")
    stale = holder(read_identity(shell).said)
    run(shell, f"echo garbage > {home}/beat")
    garbled = read_identity(shell)
    run(shell, f"rm -r {home}")
    assert (used, stale, holder(garbled.said)) == ("process 4711 on desk", "", "")
    assert garbled.soc == soc_named("snapdragon835")
    assert holder(read_identity(shell).said) == ""
