"""An NVIDIA GPU's own count of the energy it has used since its driver was loaded (Volta and newer), through NVML.

It grows in steps of some 20 to 100 ms. NVML numbers GPUs by their place on the bus and CUDA by their speed unless told
otherwise, so a number in CUDA_VISIBLE_DEVICES is only trusted where both must mean the same GPU.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any, Dict, List

from agent.meters import MeterError, MeterFacts, Reading, probe_by
from agent.phone import words_there

PERIOD_S = 0.1
UJ_PER_MJ = 1000
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    return probe_by(lambda: open_meter(options))


def open_meter(options: Dict[str, Any]) -> "Nvml":
    """The GPU named by option ``device`` (its NVML number or UUID), else the first that CUDA may use.

    Raises:
        MeterError: there is none, or it has no counter.
    """
    if words_there():
        raise MeterError("NVML must be asked on the device itself, but the device is reached from another computer")
    library = _library()
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise MeterError("NVML must start, but got: {}; it comes with NVIDIA's driver".format(error)) from None
    try:
        handle, title = _gpu(library, str(options.get("device", "")).strip())
        library.nvmlDeviceGetTotalEnergyConsumption(handle)
    except library.NVMLError as error:
        library.nvmlShutdown()
        raise MeterError("a GPU must count its energy (Volta and newer do), but NVML says: {}".format(error)) from None
    except MeterError:
        library.nvmlShutdown()
        raise
    return Nvml(library, handle, title)


class Nvml:
    """One GPU's counter."""

    def __init__(self, library: Any, handle: Any, title: str) -> None:
        self.facts = MeterFacts("nvml", "counter", PERIOD_S, None, False, (title,), "gpu", "NVML: {}".format(title))
        self._library = library
        self._handle = handle

    def read(self) -> Reading:
        before = time.perf_counter_ns()
        try:
            energy_mj = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._library.NVMLError as error:
            raise MeterError("NVML must tell the energy, but says: {}".format(error)) from None
        return Reading((before + time.perf_counter_ns()) // 2, float(energy_mj) * UJ_PER_MJ)

    def close(self) -> None:
        self._library.nvmlShutdown()


def _library() -> Any:
    try:
        return import_module("pynvml")
    except ImportError:
        raise MeterError("the package nvidia-ml-py must be there; 'pip install nvidia-ml-py' brings it") from None


def _gpu(library: Any, asked: str) -> Any:
    """Its handle, and how it is called."""
    handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    names = [_text(library.nvmlDeviceGetName(handle)) for handle in handles]
    uuids = [_text(library.nvmlDeviceGetUUID(handle)) for handle in handles]
    index = _index(asked, names, uuids)
    return handles[index], "GPU {} {} {}".format(index, names[index], uuids[index])


def _index(asked: str, names: List[str], uuids: List[str]) -> int:
    wanted = asked or os.environ.get(VISIBLE, "0").split(",")[0].strip()
    by_uuid = [index for index, uuid in enumerate(uuids) if wanted.startswith("GPU-") and uuid.startswith(wanted)]
    if len(by_uuid) == 1:
        return by_uuid[0]
    if not wanted.isdecimal() or int(wanted) >= len(names):
        listed = "; ".join("{} {} {}".format(index, *gpu) for index, gpu in enumerate(zip(names, uuids))) or "none"
        raise MeterError(
            "a GPU must be one of: {}, but got {!r}; meter option 'device' names it".format(listed, wanted)
        )
    if not asked and len(set(names)) > 1 and os.environ.get(ORDER) != "PCI_BUS_ID":
        raise MeterError(
            "CUDA and NVML must mean the same GPU by {}, but number GPUs of several kinds differently; set "
            "{}=PCI_BUS_ID, or name a UUID as meter option 'device'".format(wanted, ORDER)
        )
    return int(wanted)


def _text(told: Any) -> str:
    """Older versions of the library tell bytes."""
    return told.decode() if isinstance(told, bytes) else str(told)
