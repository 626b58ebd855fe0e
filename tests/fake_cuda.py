"""NVIDIA's driver and NVML made up: a GPU whose stream, events and state follow from what it is told."""

from __future__ import annotations

import ctypes
import sys
import types
import uuid
from typing import Any

import pytest

from agent.engines.cuda_stream import NOT_READY
from agent.gpu import DRIVER, MANAGEMENT, NO_DEVICE

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
WRITE_NS = 30_000
ATTRIBUTES = {38: 50 << 20, 16: 132, 75: 9, 76: 0}


class FakeDriver:
    """Of libcuda what is used here. Host and device have a clock each; what is queued begins when both are there."""

    def __init__(self, count: int = 1, init_status: int = 0) -> None:
        self.count, self.init_status, self.active = count, init_status, 0
        self.host_ns = self.device_ns = self.writes = 0
        self.refused = ""
        self.events: list[int] = []

    def queue(self, ask_ns: int, work_ns: int) -> None:
        """A call that costs the host and then the device so much."""
        self.host_ns += ask_ns
        self.device_ns = max(self.device_ns, self.host_ns) + work_ns

    def cuInit(self, flags: int) -> int:
        return self.init_status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.count
        return 0 if self.count else NO_DEVICE

    def cuGetErrorString(self, status: int, text: Any) -> int:
        text._obj.value = b"system not yet initialized"
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: int) -> int:
        text.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetUuid(self, held: Any, device: int) -> int:
        ctypes.memmove(held, UUID.bytes, 16)
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: int) -> int:
        value._obj.value = ATTRIBUTES[number]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: int) -> int:
        size._obj.value = 80 << 30
        return 0

    def cuDriverGetVersion(self, value: Any) -> int:
        value._obj.value = 12040
        return 0

    def cuDevicePrimaryCtxGetState(self, device: int, flags: Any, active: Any) -> int:
        active._obj.value = self.active
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        return 2 if self.refused else 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = 0xABC
        return 0

    def cuEventCreate(self, event: Any, flags: int) -> int:
        self.events.append(0)
        event._obj.value = len(self.events)
        return 0

    def cuMemAlloc_v2(self, buffer: Any, size: Any) -> int:
        buffer._obj.value = 0xDEF
        return 0

    def cuMemsetD8Async(self, buffer: Any, value: Any, size: Any, stream: Any) -> int:
        self.writes += 1
        self.queue(0, WRITE_NS)
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        self.events[event.value - 1] = self.device_ns = max(self.device_ns, self.host_ns)
        return 0

    def cuStreamQuery(self, stream: Any) -> int:
        return NOT_READY if self.device_ns > self.host_ns else 0

    def cuEventSynchronize(self, event: Any) -> int:
        self.host_ns = max(self.host_ns, self.events[event.value - 1])
        return 0

    def cuEventElapsedTime(self, passed: Any, first: Any, last: Any) -> int:
        passed._obj.value = (self.events[last.value - 1] - self.events[first.value - 1]) / 1e6
        return 0


class FakeManagement:
    """Of NVML's own library, the driver's version."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        text.value = b"550.54.15"
        return 0

    def nvmlShutdown(self) -> int:
        return 0


class FakeNvmlState(types.ModuleType):
    """Of the package pynvml what tells a GPU's state; what is set to None it refuses."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1, 2, 0, 1

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.open = 0
        self.loads = True
        self.knows = f"GPU-{UUID}"
        self.clocks: dict[int, int] | None = {1: 1755, 2: 2619}
        self.power_state: int | None = 0
        self.reasons: int | None = 0
        self.held_ns: dict[int, int] | None = {0: 5, 1: 7}
        self.temperature: int | None = 61
        self.pids: list[int] | None = []

    def _told(self, value: Any) -> Any:
        if value is None:
            raise self.NVMLError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        if not self.loads:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, text: str) -> str:
        return str(self._told(text if text == self.knows else None))

    def nvmlDeviceGetClockInfo(self, gpu: str, kind: int) -> int:
        return int(self._told(self.clocks)[kind])

    def nvmlDeviceGetMaxClockInfo(self, gpu: str, kind: int) -> int:
        return 1980

    def nvmlDeviceGetPerformanceState(self, gpu: str) -> int:
        return int(self._told(self.power_state))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:
        return int(self._told(self.reasons))

    def nvmlDeviceGetViolationStatus(self, gpu: str, policy: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(violationTime=self._told(self.held_ns)[policy])

    def nvmlDeviceGetTemperature(self, gpu: str, sensor: int) -> int:
        return int(self._told(self.temperature))

    def nvmlDeviceGetTemperatureThreshold(self, gpu: str, kind: int) -> int:
        return 92

    def nvmlDeviceGetPowerUsage(self, gpu: str) -> int:
        return 412_000

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: str) -> int:
        return 700_000

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(gpu=97)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: str) -> list[types.SimpleNamespace]:
        return [types.SimpleNamespace(pid=pid) for pid in self._told(self.pids)]


def use_driver(patch: pytest.MonkeyPatch, driver: FakeDriver | None) -> FakeDriver | None:
    """Makes this the driver of the machine; None for none."""
    libraries = {} if driver is None else {DRIVER: driver, MANAGEMENT: FakeManagement()}
    real = ctypes.CDLL

    def load(name: str, *rest: Any, **named: Any) -> Any:
        if name not in (DRIVER, MANAGEMENT):
            return real(name, *rest, **named)
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    patch.setattr(ctypes, "CDLL", load)
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return driver


def use_state(patch: pytest.MonkeyPatch, state: FakeNvmlState) -> FakeNvmlState:
    patch.setitem(sys.modules, "pynvml", state)
    return state
