"""Meters against made-up hardware: what is read where it is there, and what is said where it is not."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.meters import METERS, Meter, MeterError, battery_gauge, describe_meters, meter_module, odpm, open_meter
from agent.meters.nodes import find, read_nodes, read_numbers, run_there
from agent.phone import PHONE, PREFIX
from tests.fake_meters import (
    AOSP_DUMP,
    FAKES,
    HAL_DUMP,
    IIO,
    ODPM_COMPUTING_UJ,
    ODPM_MAIN,
    ODPM_SUB,
    POWERCAP,
    SAMSUNG_DUMP,
    SUPPLY,
    FakeMonsoon,
    FakeNvml,
    become_phone,
    close_node,
    rapl,
    use_monsoon,
    use_nvml,
    write_tree,
    zone,
)

WAIT_S = 30.0
SCOPES = {"package", "device", "gpu", "battery", "rails"}
HERE = ("rapl", "nvml", "battery_gauge", "odpm", "ina3221", "monsoon", "command")
"""Meters that tests have only because they make them up."""


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PHONE, PREFIX):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=sorted(METERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return FAKES[name](tmp_path, monkeypatch)


@pytest.fixture
def meter(name: str, options: dict[str, Any]) -> Iterator[Meter]:
    opened = open_meter(name, options)
    yield opened
    opened.close()


def read(name: str, **options: Any) -> float:
    return open_meter(name, options).read().value


def refusal(name: str, **options: Any) -> str:
    """Why it does not open; a probe must say the same."""
    with pytest.raises(MeterError) as refused:
        open_meter(name, options)
    assert meter_module(name).probe(options) == {"unavailable": str(refused.value)}
    return str(refused.value)


# What holds for every meter.


def test_every_meter_has_a_fake() -> None:
    assert set(FAKES) == set(METERS)


def test_a_meter_that_is_there_is_told_with_what_it_reads(name: str, options: dict[str, Any]) -> None:
    (available,) = meter_module(name).probe(options).items()
    assert available[0] == "available"
    assert len(available[1]) > 5


def test_its_facts_are_whole_and_travel(name: str, meter: Meter) -> None:
    facts = meter.facts
    assert facts.name == name
    assert facts.kind in {"counter", "power"}
    assert facts.scope in SCOPES
    assert facts.rails
    assert all(facts.rails)
    assert facts.source
    assert facts.period_s is None or facts.period_s > 0
    assert json.loads(json.dumps(asdict(facts)))["name"] == name


def test_it_is_read_again_and_again(meter: Meter) -> None:
    readings = [meter.read() for _ in range(3)]
    assert all(math.isfinite(reading.value) for reading in readings)
    times = [reading.at_ns for reading in readings]
    assert times == sorted(times)
    if meter.facts.kind == "counter":
        assert readings[0].value <= readings[1].value <= readings[2].value


def test_a_gauge_that_needs_calibration_tells_raw_current_and_voltage(meter: Meter) -> None:
    reading = meter.read()
    raw = (reading.current_raw, reading.voltage_uv)
    assert all(part is None for part in raw) is not meter.facts.needs_calibration
    if reading.current_raw is not None and reading.voltage_uv is not None:
        assert reading.value == pytest.approx(reading.current_raw * reading.voltage_uv / 1e6)


@pytest.mark.parametrize("name", HERE)
def test_a_meter_that_is_not_there_says_what_would_help(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "Monsoon", None)
    (told,) = meter_module(name).probe({"root": str(tmp_path)}).items()
    assert told[0] == "unavailable"
    assert "must" in told[1]
    with pytest.raises(MeterError, match="must"):
        open_meter(name, {"root": str(tmp_path)})


def test_all_are_described_and_no_probe_breaks_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: dict[str, Any]) -> dict[str, str]:
        raise RuntimeError("no luck")

    monkeypatch.setattr(meter_module("rapl"), "probe", broken)
    described = describe_meters()
    assert set(described) == set(METERS)
    assert described["rapl"] == {"unavailable": "RuntimeError: no luck"}
    assert all(set(told) <= {"available", "unavailable"} and len(told) == 1 for told in described.values())


def test_an_unknown_meter_is_refused_with_those_there_are() -> None:
    with pytest.raises(MeterError, match="battery_gauge, command, ina3221"):
        open_meter("oracle", {})


# Small files, here and behind a prefix.


@pytest.fixture(params=["here", "behind a prefix"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "here":
        monkeypatch.setenv(PREFIX, '["nice"]')
    return str(request.param)


def test_files_are_read_and_found(place: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a:0/x": " 12 ", "a:1/x": "two\nlines", "empty/x": ""})
    close = tmp_path / "a:2" / "x"
    close.mkdir(parents=True)
    paths = [f"{tmp_path}/{folder}/x" for folder in ("a:0", "a:1", "a:2", "empty", "none")]
    assert find(f"{tmp_path}/a:*/x") == paths[:3]
    assert read_nodes(paths) == dict(zip(paths, ["12", "two\nlines", None, "", None], strict=True))
    assert read_numbers(paths[:1]) == [12]


@pytest.mark.parametrize("folder", ["a:1", "none"])
def test_what_is_no_number_is_named(place: str, folder: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a:1/x": "two"})
    with pytest.raises(MeterError, match=folder):
        read_numbers([f"{tmp_path}/{folder}/x"])


def test_a_device_out_of_reach_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX, '["/no/such/adb", "shell"]')
    assert (run_there("echo here"), find("/sys/*"), read_nodes(["/proc/uptime"])) == (None, [], {"/proc/uptime": None})


# RAPL.


def test_rapl_sums_packages_and_memory_once(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = open_meter("rapl", rapl(tmp_path, monkeypatch))
    assert meter.facts.rails == ("package-0", "package-0 dram")
    assert meter.read().value == 1070


def test_rapl_sums_all_packages_as_amd_names_them_too(tmp_path: Path) -> None:
    for number in (0, 1):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 100 + number)
        zone(tmp_path, f"intel-rapl:{number}:0", "core", 90)
    assert read("rapl", root=str(tmp_path)) == 201


def test_rapl_reads_memory_mapped_counters_where_there_are_no_others(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 500)
    zone(tmp_path, "intel-rapl-mmio:0:0", "dram", 5)
    assert read("rapl", root=str(tmp_path)) == 505


def test_each_rapl_zone_wraps_by_itself(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 999_990, 1_000_000)
    memory = zone(tmp_path, "intel-rapl:0:0", "dram", 100, 5_000)
    meter = open_meter("rapl", {"root": str(tmp_path)})
    seen = []
    for package_uj, memory_uj in ((999_990, 100), (20, 4_900), (30, 60), (999_000, 70), (5, 80)):
        package.write_text(f"{package_uj}\n")
        memory.write_text(f"{memory_uj}\n")
        seen.append(meter.read().value - 1_000_090)
    assert seen == [0, 30 + 4_800, 40 + 4_960, 999_010 + 4_970, 1_000_015 + 4_980]


def test_rapl_names_the_command_that_opens_its_files(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = rapl(tmp_path, monkeypatch)
    counters = [tmp_path / POWERCAP / folder / "energy_uj" for folder in ("intel-rapl:0", "intel-rapl:0:2")]
    for counter in counters:
        close_node(counter)
    assert f"sudo chmod a+r {counters[0]} {counters[1]}" in refusal("rapl", **options)


def test_one_failed_reading_of_rapl_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = open_meter("rapl", rapl(tmp_path, monkeypatch))
    counter = tmp_path / POWERCAP / "intel-rapl:0" / "energy_uj"
    counter.write_text("")
    with pytest.raises(MeterError):
        meter.read()
    counter.write_text("1005\n")
    assert meter.read().value == 1075


# NVML.

SMALL, LARGE = ("GTX 1060", "GPU-1060aaaa"), ("H100", "GPU-4100bbbb")


def test_nvml_counts_in_microjoules_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    library = use_nvml(monkeypatch, FakeNvml(SMALL))
    meter = open_meter("nvml", {})
    library.energy_mj[SMALL[1]] = 1234
    assert meter.read().value == 1_234_000
    library.counts = False
    with pytest.raises(MeterError, match="Not Supported"):
        meter.read()
    meter.close()
    assert library.open == 0


@pytest.mark.parametrize(
    ("visible", "order", "device", "energy_mj"),
    [
        (None, "PCI_BUS_ID", None, 1000),
        ("1", "PCI_BUS_ID", None, 2000),
        ("1,0", "PCI_BUS_ID", None, 2000),
        ("GPU-4100", None, None, 2000),
        ("0", None, 1, 2000),
        (None, None, "GPU-4100bbbb", 2000),
    ],
)
def test_nvml_takes_the_gpu_that_cuda_takes(
    visible: str | None, order: str | None, device: object, energy_mj: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_nvml(monkeypatch, FakeNvml(SMALL, LARGE))
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert read("nvml", **({} if device is None else {"device": device})) == energy_mj * 1000


@pytest.mark.parametrize("visible", [None, "0", "1"])
def test_nvml_and_cuda_number_unlike_gpus_differently(visible: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, FakeNvml(SMALL, LARGE))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in refusal("nvml")


def test_like_gpus_are_numbered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, FakeNvml(LARGE, ("H100", "GPU-4100cccc")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert read("nvml") == 2_000_000


@pytest.mark.parametrize("visible", ["", "-1", "7", "MIG-1", "GPU-"])
def test_a_gpu_that_is_not_there_is_refused(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = use_nvml(monkeypatch, FakeNvml(SMALL, LARGE))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "GPU-1060aaaa" in refusal("nvml")
    assert library.open == 0


def test_nvml_says_why_it_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    library = use_nvml(monkeypatch, FakeNvml(SMALL))
    library.counts = False
    assert "Volta" in refusal("nvml")
    library.loads = False
    assert "driver" in refusal("nvml")
    monkeypatch.setenv(PREFIX, '["adb", "shell"]')
    assert "on the device itself" in refusal("nvml")


# Battery gauges.


def supply(root: Path, **texts: object) -> dict[str, Any]:
    """``battery__current_now=5``: files below power_supply."""
    write_tree(root, {f"{SUPPLY}/{name.replace('__', '/')}": text for name, text in texts.items()})
    return {"root": str(root)}


@pytest.mark.parametrize("current", [-326171, 1104003, -321, 321, 0])
def test_a_gauges_current_stays_as_it_is(current: int, place: str, tmp_path: Path) -> None:
    reading = open_meter(
        "battery_gauge", supply(tmp_path, battery__current_now=current, battery__voltage_now=4_000_000)
    ).read()
    assert (reading.current_raw, reading.voltage_uv, reading.value) == (current, 4_000_000, 4 * current)


def test_a_voltage_in_millivolts_is_told_in_microvolts(tmp_path: Path) -> None:
    reading = open_meter("battery_gauge", supply(tmp_path, battery__current_now=5, battery__voltage_now=4_123)).read()
    assert reading.voltage_uv == 4_123_000


def test_qualcomms_gauge_is_read_where_the_batterys_cannot_be(place: str, tmp_path: Path) -> None:
    options = supply(tmp_path, bms__current_now=77, battery__current_now=1, battery__voltage_now=4_000_000)
    close_node(tmp_path / SUPPLY / "battery" / "current_now")
    meter = open_meter("battery_gauge", options)
    assert meter.read().current_raw == 77
    assert "bms/current_now" in meter.facts.source
    assert "battery/voltage_now" in meter.facts.source


def test_a_laptops_battery_is_read_and_a_mouses_is_not(tmp_path: Path) -> None:
    mouse = {
        "A_mouse__type": "Battery",
        "A_mouse__scope": "Device",
        "A_mouse__current_now": 1,
        "A_mouse__voltage_now": 3_000_000,
    }
    laptop = {"BAT0__type": "Battery", "BAT0__current_now": 900_000, "BAT0__voltage_now": 11_000_000, "ADP1__online": 1}
    reading = open_meter("battery_gauge", supply(tmp_path, **mouse, **laptop)).read()
    assert reading.current_raw == 900_000
    assert reading.state == {"status": None, "plugged": "ac"}


@pytest.mark.parametrize(
    ("files", "plugged"),
    [
        ({"usb__online": 0, "ac__online": 0}, "none"),
        ({"usb__online": 1, "ac__online": 0}, "usb"),
        ({"usb__online": 1, "main__online": 1, "main__type": "Mains", "wireless__online": 1}, "ac+usb+wireless"),
        ({"pc_port__online": 1, "pc_port__type": "USB_PD"}, "usb"),
        ({}, None),
    ],
)
def test_a_gauge_tells_what_is_plugged_in(files: dict[str, object], plugged: str | None, tmp_path: Path) -> None:
    gauge = {"battery__current_now": 5, "battery__voltage_now": 4_000_000, "battery__status": "Discharging"}
    state = open_meter("battery_gauge", supply(tmp_path, **gauge, **files)).read().state
    assert state == {"status": "Discharging", "plugged": plugged}


def test_a_gauges_state_is_asked_once_a_second_and_its_period_given(tmp_path: Path) -> None:
    options = supply(tmp_path, battery__current_now=5, battery__voltage_now=4_000_000)
    meter = open_meter("battery_gauge", {**options, "period_s": 0.25})
    assert [meter.read().state is None for _ in range(3)] == [False, True, True]
    assert meter.charge_uah() is None  # type: ignore[attr-defined]
    assert [meter.read().state is None for _ in range(2)] == [False, True]
    assert meter.facts.period_s == 0.25


@pytest.mark.parametrize(("counter", "told"), [(3_012_000, 3_012_000), (0, None)])
def test_a_gauge_tells_its_charge_counter_where_it_counts(counter: int, told: int | None, tmp_path: Path) -> None:
    options = supply(tmp_path, battery__current_now=5, battery__voltage_now=4_000_000, battery__charge_counter=counter)
    assert open_meter("battery_gauge", options).charge_uah() == told  # type: ignore[attr-defined]


def test_on_a_phone_the_battery_service_is_asked_where_files_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_phone(tmp_path, monkeypatch, {"cmd": "-451000\n", "dumpsys": AOSP_DUMP})
    meter = open_meter("battery_gauge", {"root": str(tmp_path)})
    reading = meter.read()
    assert (reading.current_raw, reading.voltage_uv) == (-451_000, 3_912_000)
    assert reading.state == {"status": "Discharging", "plugged": "none"}
    assert (meter.facts.source, meter.charge_uah()) == ("dumpsys battery", 2_345_000)  # type: ignore[attr-defined]


def test_samsungs_dump_tells_milliamperes_as_they_are() -> None:
    told = battery_gauge.parse_service("Unknown get option: current_now\n" + SAMSUNG_DUMP)
    assert (told.current, told.voltage, told.charge_uah) == (321, 4063, 0)
    assert told.state == {"status": "Charging", "plugged": "usb"}


@pytest.mark.parametrize("first", ["", "\n", "Unknown get option: current_now\n", "cmd: Can't find service: battery\n"])
def test_a_phone_that_tells_no_current_says_what_would_help(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_phone(tmp_path, monkeypatch, {"cmd": first, "dumpsys": AOSP_DUMP})
    assert "adb root" in refusal("battery_gauge", root=str(tmp_path))


def test_values_set_by_hand_are_refused() -> None:
    frozen = AOSP_DUMP.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")
    with pytest.raises(MeterError, match="dumpsys battery reset"):
        battery_gauge.parse_service("-451000\n" + frozen)


# ODPM.


@pytest.mark.parametrize("swapped", [False, True])
def test_odpm_goes_by_names_whatever_the_numbers(swapped: bool, place: str, tmp_path: Path) -> None:
    chips = (ODPM_SUB, ODPM_MAIN) if swapped else (ODPM_MAIN, ODPM_SUB)
    write_tree(tmp_path, {f"{IIO}/iio:device{n}/energy_value": text for n, text in enumerate(chips)})
    write_tree(tmp_path, {f"{IIO}/iio:device2/name": "bmi160"})
    meter = open_meter("odpm", {"root": str(tmp_path)})
    assert meter.read().value == ODPM_COMPUTING_UJ
    assert not [rail for rail in meter.facts.rails if "DISPLAY" in rail or "MODEM" in rail or "AOC" in rail]


def test_odpm_sums_the_rails_it_is_asked_for(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN})
    assert read("odpm", root=str(tmp_path), rails=["S4M_VDD_CPUCL0", "S1M_VDD_MIF"]) == 46356942 + 21091363
    assert "S5M_VDD_INT" in refusal("odpm", root=str(tmp_path), rails=["S9M_VDD_NONE"])


def test_odpm_misses_a_rail_that_is_not_told_any_more(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN})
    meter = open_meter("odpm", {"root": str(tmp_path)})
    write_tree(tmp_path, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN.replace("S5M_VDD_INT", "S5M_VDD_INT2")})
    with pytest.raises(MeterError, match="S5M_VDD_INT"):
        meter.read()


def test_a_hal_is_asked_where_the_files_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN})
    close_node(tmp_path / IIO / "iio:device0" / "energy_value")
    become_phone(tmp_path, monkeypatch, {"dumpsys": HAL_DUMP})
    meter = open_meter("odpm", {"root": str(tmp_path)})
    assert meter.facts.rails == ("S1M_VDD_MIF", "S4M_VDD_CPUCL0")
    assert meter.read().value == pytest.approx(46_356_940 + 21_091_360)


def test_energy_consumers_are_no_rails() -> None:
    assert set(odpm.parse_hal(HAL_DUMP)) == {"S4M_VDD_CPUCL0", "S1M_VDD_MIF", "VSYS_PWR_DISPLAY"}
    assert odpm.parse_hal(HAL_DUMP.replace("[S1M_VDD_MIF]:DDR", "      S1M_VDD_MIF"))["S1M_VDD_MIF"] == 21_091_360
    assert odpm.parse_hal("Can't find service\n") == {}


def test_closed_rails_name_what_opens_them(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN})
    close_node(tmp_path / IIO / "iio:device0" / "energy_value")
    assert "adb root" in refusal("odpm", root=str(tmp_path))


# INA3221.


def monitor(root: Path, folder: str, **channels: tuple[int, int]) -> None:
    """Channels of one monitor: label -> mV, mA."""
    write_tree(root, {f"{folder}/name": "ina3221"})
    for number, (label, (millivolts, milliamperes)) in enumerate(channels.items(), 1):
        files = {"in{}_label": label, "in{}_input": millivolts, "curr{}_input": milliamperes}
        write_tree(root, {f"{folder}/{form.format(number)}": text for form, text in files.items()})


HWMON = "sys/class/hwmon"


def test_a_board_is_metered_at_its_input(place: str, tmp_path: Path) -> None:
    monitor(tmp_path, f"{HWMON}/hwmon1", VDD_IN=(4968, 1520), VDD_CPU_GPU_CV=(4960, 1000), VDD_SOC=(4960, 400))
    meter = open_meter("ina3221", {"root": str(tmp_path)})
    assert (meter.facts.rails, meter.read().value) == (("VDD_IN",), 4968 * 1520)


def test_agx_orins_memory_rail_is_not_counted_twice(tmp_path: Path) -> None:
    monitor(tmp_path, f"{HWMON}/hwmon4", VDD_GPU_SOC=(20_000, 100), VDD_CPU_CV=(20_000, 50), VIN_SYS_5V0=(5_000, 600))
    monitor(tmp_path, f"{HWMON}/hwmon5", NC=(0, 0), VDDQ_VDD2_1V8AO=(20_000, 30))
    assert read("ina3221", root=str(tmp_path)) == 20_000 * 150 + 5_000 * 600


def test_rails_can_be_named(tmp_path: Path) -> None:
    monitor(tmp_path, f"{HWMON}/hwmon1", VDD_IN=(5_000, 1_000), VDD_SOC=(5_000, 100))
    assert read("ina3221", root=str(tmp_path), rails=["VDD_SOC"]) == 500_000


def test_an_unknown_board_must_be_told_what_feeds_it(tmp_path: Path) -> None:
    monitor(tmp_path, f"{HWMON}/hwmon1", LEFT=(5_000, 1_000), RIGHT=(5_000, 100))
    assert "there are LEFT, RIGHT" in refusal("ina3221", root=str(tmp_path))
    assert "there are LEFT, RIGHT" in refusal("ina3221", root=str(tmp_path), rails=["VDD_IN"])


def test_a_channel_that_is_off_is_no_rail_and_told_power_is_taken(tmp_path: Path) -> None:
    folder = f"{HWMON}/hwmon1"
    monitor(tmp_path, folder, VDD_IN=(5_000, 1_000), POM_5V_IN=(5_000, 3))
    write_tree(tmp_path, {f"{folder}/in1_enable": 0, f"{folder}/power2_input": 7_777, f"{folder}/update_interval": 36})
    meter = open_meter("ina3221", {"root": str(tmp_path)})
    assert (meter.facts.rails, meter.facts.period_s, meter.read().value) == (("POM_5V_IN",), 0.036, 7_777)


def test_older_kernels_files_are_read(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write_tree(tmp_path, {f"{folder}/rail_name_{n}": name for n, name in enumerate(("POM_5V_IN", "POM_5V_GPU"))})
    write_tree(tmp_path, {f"{folder}/in_power{n}_input": mw for n, mw in enumerate((3_215, 40))})
    assert read("ina3221", root=str(tmp_path)) == 3_215_000


def test_a_driver_without_a_class_folder_is_found(tmp_path: Path) -> None:
    monitor(tmp_path, "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2", VDD_IN=(5_000, 1_000))
    assert read("ina3221", root=str(tmp_path)) == 5_000_000


def test_a_closed_monitor_names_the_command_that_opens_it(tmp_path: Path) -> None:
    monitor(tmp_path, f"{HWMON}/hwmon1", VDD_IN=(5_000, 1_000))
    closed = tmp_path / HWMON / "hwmon1" / "curr1_input"
    close_node(closed)
    assert f"sudo chmod a+r {closed}" in refusal("ina3221", root=str(tmp_path))


# Monsoon.


def test_a_monsoon_tells_mean_power_of_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_monsoon(monkeypatch, FakeMonsoon())
    main = open_meter("monsoon", {})
    assert main.read().value == pytest.approx(73_000)
    assert (main.facts.source, main.facts.period_s) == ("Monsoon HVPM 20123", pytest.approx(0.02))
    main.close()
    assert fake.told == [("setup_usb", None), "stopSampling", "periodicStopSampling", "closeDevice"]
    assert open_meter("monsoon", {"channel": "usb", "samples": 50}).read().value == pytest.approx(17_500)


def test_a_monsoon_is_set_up_only_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_monsoon(monkeypatch, FakeMonsoon())
    open_meter("monsoon", {"serial": 20123, "vout_v": 4.2, "usb_passthrough": "on"})
    assert fake.told == [("setup_usb", 20123), "stopSampling", ("setUSBPassthroughMode", 1), ("setVout", 4.2)]


@pytest.mark.parametrize("vout_v", [0.0, 42.0])
def test_a_monsoon_gives_no_voltage_that_harms(vout_v: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_monsoon(monkeypatch, FakeMonsoon())
    with pytest.raises(MeterError, match="between"):
        open_meter("monsoon", {"vout_v": vout_v})
    assert not [told for told in fake.told if told[0] == "setVout"]  # type: ignore[index]


def test_a_monsoon_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_monsoon(monkeypatch, FakeMonsoon())
    for options, what in (({"channel": "aux"}, "main or usb"), ({"usb_passthrough": "maybe"}, "KeyError")):
        with pytest.raises(MeterError, match=what):
            open_meter("monsoon", options)
    fake.calibrates = False
    with pytest.raises(MeterError, match="turn it off and on"):
        open_meter("monsoon", {})
    fake.is_there = False
    with pytest.raises(MeterError, match="plug it in"):
        open_meter("monsoon", {})


def test_a_failed_sample_is_one_failed_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use_monsoon(monkeypatch, FakeMonsoon())
    meter = open_meter("monsoon", {})
    fake.samples_fail = True
    with pytest.raises(MeterError, match="timed out"):
        meter.read()
    fake.samples_fail = False
    assert meter.read().value == pytest.approx(73_000)


def test_a_monsoon_without_permission_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = FAKES["monsoon"](tmp_path, monkeypatch)
    (tmp_path / "dev/bus/usb/001/007").unlink()
    told = meter_module("monsoon").probe(options)
    assert f"sudo chmod a+rw {tmp_path}/dev/bus/usb/001/007" in told["unavailable"]
