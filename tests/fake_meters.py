"""What meters read, made up: trees of /sys, texts of Android's commands, and libraries with the real ones' names."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

POWERCAP = "sys/class/powercap"
SUPPLY = "sys/class/power_supply"
IIO = "sys/bus/iio/devices"

ODPM_MAIN = """\
t=349894
CH0(T=349894)[S10M_VDD_TPU], 1000
CH1(T=349894)[VSYS_PWR_MODEM], 900000
CH2(T=349894)[VSYS_PWR_RFFE], 500000
CH3(T=349894)[S2M_VDD_CPUCL2], 20000
CH4(T=349894)[S3M_VDD_CPUCL1], 30000
CH5(T=349894)[S4M_VDD_CPUCL0], 46356942
CH6(T=349894)[S5M_VDD_INT], 10771876
CH7(T=349894)[S1M_VDD_MIF], 21091363
"""
ODPM_SUB = """\
t=359458
CH0(T=359458)[VSYS_PWR_WLAN_BT], 45993209
CH1(T=359458)[L2S_VDD_AOC_RET], 2822928
CH2(T=359458)[S9S_VDD_AOC], 6923706
CH3(T=359458)[S5S_VDDQ_MEM], 4658202
CH4(T=359458)[S10S_VDD2L], 5506273
CH5(T=359458)[S4S_VDD2H_MEM], 14254574
CH6(T=359458)[S2S_VDD_G3D], 5315420
CH7(T=359458)[VSYS_PWR_DISPLAY], 81221665
"""
ODPM_COMPUTING_UJ = 1000 + 20000 + 30000 + 46356942 + 10771876 + 21091363 + 4658202 + 5506273 + 14254574 + 5315420
"""Of both texts without modem, radio, display, Bluetooth and the sensor hub."""

HAL_DUMP = """\

============= PowerStats HAL 2.0 energy consumers ==============
                        Consumer    Cumulative Energy
                          CPUCL0         46356.94 mWs
========== End of PowerStats HAL 2.0 energy consumers ==========

============= PowerStats HAL 2.0 energy meter ==============
                           Channel    Cumulative Energy
             [S4M_VDD_CPUCL0]:CPU         46356.94 mWs
                [S1M_VDD_MIF]:DDR         21091.36 mWs
       [VSYS_PWR_DISPLAY]:Display         81221.66 mWs
========== End of PowerStats HAL 2.0 energy meter ==========
"""
SAMSUNG_DUMP = """\
Current Battery Service state:
  mBootCompleted: true
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Charge counter: 0
  status: 2
  health: 2
  present: true
  level: 84
  scale: 100
  voltage: 4063
  temperature: 326
  technology: Li-ion
  current now: 321
  charge counter: 0
"""
AOSP_DUMP = """\
Current Battery Service state:
  AC powered: false
  USB powered: false
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Charge counter: 2345000
  status: 3
  level: 71
  voltage: 3912
  temperature: 287
"""

Options = dict[str, Any]
Fake = Callable[[Path, pytest.MonkeyPatch], Options]


def write_tree(root: Path, files: Mapping[str, object]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")


def close_node(path: Path) -> None:
    """Makes it unreadable, for a superuser as well: a folder in its place."""
    path.unlink()
    path.mkdir()


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    """One zone of powercap; returns its counter."""
    path = f"{POWERCAP}/{folder}"
    write_tree(
        root,
        {f"{path}/name": name, f"{path}/energy_uj": energy_uj, f"{path}/max_energy_range_uj": range_uj},
    )
    return root / path / "energy_uj"


def rapl(root: Path, patch: pytest.MonkeyPatch) -> Options:
    zone(root, "intel-rapl:0", "package-0", 1000)
    zone(root, "intel-rapl:0:0", "core", 400)
    zone(root, "intel-rapl:0:1", "uncore", 50)
    zone(root, "intel-rapl:0:2", "dram", 70)
    zone(root, "intel-rapl:1", "psys", 9000)
    zone(root, "intel-rapl-mmio:0", "package-0", 1001)
    return {"root": str(root)}


def battery(root: Path, patch: pytest.MonkeyPatch) -> Options:
    write_tree(
        root,
        {
            f"{SUPPLY}/battery/current_now": -326171,
            f"{SUPPLY}/battery/voltage_now": 4123000,
            f"{SUPPLY}/battery/status": "Discharging",
            f"{SUPPLY}/battery/charge_counter": 3012000,
            f"{SUPPLY}/usb/online": 0,
            f"{SUPPLY}/usb/type": "USB_PD",
            f"{SUPPLY}/wireless/online": 0,
        },
    )
    return {"root": str(root)}


def odpm(root: Path, patch: pytest.MonkeyPatch) -> Options:
    write_tree(root, {f"{IIO}/iio:device0/energy_value": ODPM_MAIN, f"{IIO}/iio:device1/energy_value": ODPM_SUB})
    return {"root": str(root)}


def jetson(root: Path, patch: pytest.MonkeyPatch) -> Options:
    folder = "sys/class/hwmon/hwmon3"
    labels = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    channels = {f"{folder}/in{n}_label": label for n, label in enumerate(labels, 1)}
    volts = {f"{folder}/in{n}_input": 4968 for n in (1, 2, 3)}
    currents = {f"{folder}/curr{n}_input": 1520 // n for n in (1, 2, 3)}
    write_tree(root, {"sys/class/hwmon/hwmon0/name": "nct6775", f"{folder}/name": "ina3221", **channels})
    write_tree(root, {**volts, **currents, f"{folder}/in7_label": "sum of shunt voltages"})
    return {"root": str(root)}


class FakeNvml(types.ModuleType):
    """Of the library pynvml what a counter needs, with GPUs as (name, UUID)."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: tuple[str, str]) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.energy_mj = {uuid: 1000 * (index + 1) for index, (_, uuid) in enumerate(gpus)}
        self.counts = True
        self.loads = True
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.loads:
            raise self.NVMLError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.gpus[handle][0]

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return self.gpus[handle][1].encode()

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if not self.counts:
            raise self.NVMLError("Not Supported")
        return self.energy_mj[self.gpus[handle][1]]


def use_nvml(patch: pytest.MonkeyPatch, library: FakeNvml) -> FakeNvml:
    patch.setitem(sys.modules, "pynvml", library)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        patch.delenv(name, raising=False)
    return library


def nvml(root: Path, patch: pytest.MonkeyPatch) -> Options:
    use_nvml(patch, FakeNvml(("NVIDIA GeForce GTX 1060", "GPU-1060aaaa")))
    return {}


class FakeMonsoon:
    """A monitor of the library Monsoon that feeds 18.25 mA at 4 V, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.is_there = True
        self.calibrates = True
        self.samples_fail = False

    def modules(self) -> dict[str, types.ModuleType]:
        package, hvpm, engines = (
            types.ModuleType(name) for name in ("Monsoon", "Monsoon.HVPM", "Monsoon.sampleEngine")
        )
        package.__path__ = []  # type: ignore[attr-defined]
        package.__spec__ = types.SimpleNamespace(name="Monsoon")  # type: ignore[assignment]
        hvpm.Monsoon = lambda: _Monitor(self)  # type: ignore[attr-defined]
        engines.SampleEngine = lambda monitor: _Engine(self, monitor)  # type: ignore[attr-defined]
        engines.channels = types.SimpleNamespace(  # type: ignore[attr-defined]
            timeStamp=0, MainCurrent=1, USBCurrent=2, AuxCurrent=3, MainVoltage=4, USBVoltage=5
        )
        return {"Monsoon": package, "Monsoon.HVPM": hvpm, "Monsoon.sampleEngine": engines}


class _Monitor:
    def __init__(self, fake: FakeMonsoon) -> None:
        self._fake = fake
        self.Protocol: Any = None
        self.statusPacket = types.SimpleNamespace(serialNumber=0)

    def setup_usb(self, serialno: int | None = None) -> None:
        self._fake.told.append(("setup_usb", serialno))
        self.Protocol = types.SimpleNamespace(DEVICE=object() if self._fake.is_there else None)

    def stopSampling(self) -> None:
        self._fake.told.append("stopSampling")

    def fillStatusPacket(self) -> None:
        self.statusPacket.serialNumber = 20123

    def setVout(self, value: float) -> None:
        self._fake.told.append(("setVout", value))

    def setUSBPassthroughMode(self, USBPassthroughCode: int) -> None:
        self._fake.told.append(("setUSBPassthroughMode", USBPassthroughCode))

    def closeDevice(self) -> None:
        self._fake.told.append("closeDevice")


class _Engine:
    def __init__(self, fake: FakeMonsoon, monitor: _Monitor) -> None:
        self._fake = fake
        self._enabled = {1, 4}

    def ConsoleOutput(self, boolValue: bool) -> None:
        assert boolValue is False

    def enableChannel(self, channel: int) -> None:
        self._enabled.add(channel)

    def disableChannel(self, channel: int) -> None:
        self._enabled.discard(channel)

    def periodicStartSampling(self, calTime: int = 1250) -> Any:
        return [] if self._fake.calibrates else False

    def periodicCollectSamples(self, samples: int = 100) -> list[list[float]]:
        if self._fake.samples_fail:
            raise OSError("[Errno 110] Operation timed out")
        values = {0: 0.0, 1: 18.25, 2: 7.0, 4: 4.0, 5: 2.5}
        return [[values[n]] * samples if n in {0, *self._enabled} and n in values else [] for n in range(6)]

    def periodicStopSampling(self, closeCSV: bool = False) -> None:
        self._fake.told.append("periodicStopSampling")


def use_monsoon(patch: pytest.MonkeyPatch, fake: FakeMonsoon) -> FakeMonsoon:
    for name, module in fake.modules().items():
        patch.setitem(sys.modules, name, module)
    return fake


def monsoon(root: Path, patch: pytest.MonkeyPatch) -> Options:
    use_monsoon(patch, FakeMonsoon())
    place = "sys/bus/usb/devices/1-2"
    write_tree(
        root, {f"{place}/idVendor": "2ab9", f"{place}/busnum": 1, f"{place}/devnum": 7, "dev/bus/usb/001/007": ""}
    )
    return {"root": str(root)}


def command(root: Path, patch: pytest.MonkeyPatch) -> Options:
    return {"command": [sys.executable, "-c", "print(2.5)"]}


def replay(root: Path, patch: pytest.MonkeyPatch) -> Options:
    return {"trace": {"kind": "counter", "points": [[0, 1_000_000]]}}


FAKES: Mapping[str, Fake] = {
    "rapl": rapl,
    "nvml": nvml,
    "battery_gauge": battery,
    "odpm": odpm,
    "ina3221": jetson,
    "monsoon": monsoon,
    "command": command,
    "replay": replay,
}


def become_phone(root: Path, patch: pytest.MonkeyPatch, commands: Mapping[str, str]) -> None:
    """This process runs on a phone whose commands print these texts."""
    for name, text in commands.items():
        program = root / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        program.chmod(0o755)
    patch.setenv("CHAMNET_PHONE", "usb")
    patch.delenv("CHAMNET_PREFIX", raising=False)
    patch.setenv("PATH", f"{root}/bin:/usr/bin:/bin")
