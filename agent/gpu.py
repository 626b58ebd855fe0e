"""The NVIDIA GPU that CUDA would use here: whether there is one, what it is, and what state it is in.

What it is, NVIDIA's driver tells (libcuda, which knows CUDA_VISIBLE_DEVICES); its state NVML tells, through the package
nvidia-ml-py, about the GPU of the same UUID. Makes no context, so that it costs the GPU nothing.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from importlib import import_module
from typing import Any, Callable, Dict, List, Optional

from agent.engines import EngineUnavailable

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVER, MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"
NO_DEVICE = 100
NAME_BYTES = 96
L2_BYTES, MULTIPROCESSORS, MAJOR, MINOR = 38, 16, 75, 76
"""Of CUdevice_attribute."""
SLOWED_BY = {
    0x2: "application-clocks",
    0x4: "power-cap",
    0x8: "hw-slowdown",
    0x10: "sync-boost",
    0x20: "sw-thermal",
    0x40: "hw-thermal",
    0x80: "power-brake",
    0x100: "display-clocks",
}
"""NVML's reasons for clocks below the highest; that it idles is none."""
POLICIES = {"power": 0, "thermal": 1}
"""NVML's counters of the time that clocks were held down."""
UNKNOWN_STATE = 32


def require_gpu() -> Any:
    """NVIDIA's driver, ready. Raises EngineUnavailable with why no GPU can be used."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        raise EngineUnavailable(
            "no NVIDIA GPU can be used: {} of NVIDIA's driver is not found; 'nvidia-smi' must list a GPU (in a "
            "container, one that was started with '--gpus all')".format(DRIVER)
        ) from None
    status, count = driver.cuInit(0), ctypes.c_int()
    status = status or driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in (0, NO_DEVICE):
        raise EngineUnavailable(
            "no NVIDIA GPU can be used: its driver says {}; 'nvidia-smi' must list one".format(_error(driver, status))
        )
    if not count.value:
        hidden = " among {}={!r}".format(VISIBLE, os.environ[VISIBLE]) if VISIBLE in os.environ else ""
        raise EngineUnavailable(
            "no NVIDIA GPU can be used: its driver finds none{}; 'nvidia-smi' must list one".format(hidden)
        )
    return driver


def why_no_gpu() -> Optional[str]:
    """Why ``require_gpu`` refuses; None where it does not."""
    try:
        require_gpu()
    except EngineUnavailable as reason:
        return str(reason)
    return None


def describe_gpu() -> Dict[str, Any]:
    """Facts of the first GPU that CUDA may use: name, uuid, isa (such as sm_90), multiprocessors, l2_bytes, memory_mib,
    version of the driver and the newest cuda that it runs. Empty without a GPU; what is not told is left out."""
    try:
        driver = require_gpu()
    except EngineUnavailable:
        return {}
    major, minor = _attribute(driver, MAJOR), _attribute(driver, MINOR)
    facts = {
        "name": _name(driver),
        "uuid": _uuid(driver),
        "isa": None if major is None or minor is None else "sm_{}{}".format(major, minor),
        "multiprocessors": _attribute(driver, MULTIPROCESSORS),
        "l2_bytes": _attribute(driver, L2_BYTES),
        "memory_mib": _memory_mib(driver),
        "driver": _driver_version(),
        "cuda": _cuda_version(driver),
    }
    return {name: value for name, value in facts.items() if value is not None}


def read_gpu() -> Dict[str, Any]:
    """State of that GPU: clocks in MHz, power state (0 the quickest), what holds clocks down and held them down so far
    in ns, temperature in millidegrees, power in mW, utilisation in percent, number of other processes that compute on
    it, and whether this one does (``in_use``). Empty without a GPU or the package nvidia-ml-py."""
    try:
        driver, library = require_gpu(), import_module("pynvml")
    except (EngineUnavailable, ImportError):
        return {}
    try:
        library.nvmlInit()
    except library.NVMLError:
        return {}
    try:
        handle = _handle(library, _uuid(driver))
        return {} if handle is None else _state(library, handle, _in_use(driver))
    finally:
        library.nvmlShutdown()


def _state(nvml: Any, gpu: Any, in_use: bool) -> Dict[str, Any]:
    def told(ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(gpu, *arguments)
        except nvml.NVMLError:
            return None

    power_state, reasons = told(nvml.nvmlDeviceGetPerformanceState), told(_reasons_call(nvml))
    utilisation, pids = told(nvml.nvmlDeviceGetUtilizationRates), told(nvml.nvmlDeviceGetComputeRunningProcesses)
    held = {name: told(nvml.nvmlDeviceGetViolationStatus, policy) for name, policy in POLICIES.items()}
    state = {
        "in_use": in_use,
        "sm_mhz": told(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        "memory_mhz": told(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        "max_sm_mhz": told(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        "power_state": None if power_state == UNKNOWN_STATE else power_state,
        "slowed_by": None if reasons is None else [name for bit, name in SLOWED_BY.items() if reasons & bit],
        "held_ns": {name: int(status.violationTime) for name, status in held.items() if status is not None} or None,
        "temp_mc": _thousandfold(told(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)),
        "slowdown_mc": _thousandfold(
            told(nvml.nvmlDeviceGetTemperatureThreshold, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        ),
        "power_mw": told(nvml.nvmlDeviceGetPowerUsage),
        "power_limit_mw": told(nvml.nvmlDeviceGetEnforcedPowerLimit),
        "utilisation_percent": None if utilisation is None else int(utilisation.gpu),
        "other_processes": None if pids is None else _others([process.pid for process in pids], in_use),
    }
    return {name: value for name, value in state.items() if value is not None}


def _others(pids: List[int], in_use: bool) -> int:
    """A container may not know its processes by the numbers that NVML knows them by: one of those is then this one."""
    others = set(pids) - {os.getpid()}
    return len(others) - (1 if in_use and others and os.getpid() not in pids else 0)


def _reasons_call(nvml: Any) -> Callable[..., Any]:
    """Renamed in newer versions of the library."""
    newer = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    call: Callable[..., Any] = newer or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    return call


def _handle(nvml: Any, found: Optional[str]) -> Any:
    """NVML's handle of the GPU, or of the part of one, that CUDA uses; None where it does not know it."""
    for kind in ("GPU", "MIG") if found else ():
        try:
            return nvml.nvmlDeviceGetHandleByUUID(str(found).replace("GPU", kind, 1))
        except nvml.NVMLError:
            continue
    return None


def _in_use(driver: Any) -> bool:
    """Whether this process has its context on the GPU."""
    flags, active = ctypes.c_uint(), ctypes.c_int()
    status = driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active))
    return not status and bool(active.value)


def _name(driver: Any) -> Optional[str]:
    text = ctypes.create_string_buffer(NAME_BYTES)
    return None if driver.cuDeviceGetName(text, NAME_BYTES, 0) else text.value.decode()


def _uuid(driver: Any) -> Optional[str]:
    """The second form of the call tells a part of a GPU (MIG) from the whole."""
    held = (ctypes.c_ubyte * 16)()
    ask = driver.cuDeviceGetUuid_v2 if hasattr(driver, "cuDeviceGetUuid_v2") else driver.cuDeviceGetUuid
    return None if ask(held, 0) else "GPU-{}".format(uuid.UUID(bytes=bytes(held)))


def _attribute(driver: Any, number: int) -> Optional[int]:
    value = ctypes.c_int()
    return None if driver.cuDeviceGetAttribute(ctypes.byref(value), number, 0) else value.value


def _memory_mib(driver: Any) -> Optional[int]:
    size = ctypes.c_size_t()
    return None if driver.cuDeviceTotalMem_v2(ctypes.byref(size), 0) else size.value >> 20


def _cuda_version(driver: Any) -> Optional[str]:
    value = ctypes.c_int()
    status = driver.cuDriverGetVersion(ctypes.byref(value))
    return None if status else "{}.{}".format(value.value // 1000, value.value % 1000 // 10)


def _driver_version() -> Optional[str]:
    """NVML's own library tells it, with or without a package around it."""
    try:
        library = ctypes.CDLL(MANAGEMENT)
    except OSError:
        return None
    text = ctypes.create_string_buffer(NAME_BYTES)
    if library.nvmlInit_v2():
        return None
    status = library.nvmlSystemGetDriverVersion(text, NAME_BYTES)
    library.nvmlShutdown()
    return None if status else text.value.decode()


def _error(driver: Any, status: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return "{} ({})".format((text.value or b"an unknown error").decode(), status)


def _thousandfold(value: Optional[int]) -> Optional[int]:
    return None if value is None else 1000 * value
