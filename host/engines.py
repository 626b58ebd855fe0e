"""The engines as the host sees them: which file format they read, and how they are asked to run it.

ENGINES has one line per engine of ``agent.engines``. What decides speed goes into the Target's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.protocol import Sampling
from host.errors import UsageError


@dataclass(frozen=True, slots=True)
class EngineUse:
    """How an engine is used.

    Attributes:
        file_format: a name of ``ops_catalog.export.EXPORTERS``.
        lowers: it runs other operators than it is given, so they are learned from optimised networks.
        native_options: for a one-node model that it optimised before, run as it stands.
        whole_options: for a model as exported.
        naive_options: for the usual way, one operator in a session of its own.
        binary: it is a vendor's binary, which runs as a child of the agent.
        seconds: what a measurement costs, all included, for the estimate of a plan.
        float16: what is of 16 bits in a float16 model: tensors, or only weights.
        source: what its rows are.
        accelerator: what it computes on; anything but the CPU is a unit of its own.
        choices: what may be chosen of it by option; the first is what it does unasked.
        sampling: how long it must be looked at.
    """

    file_format: str
    lowers: bool
    native_options: Mapping[str, Any]
    whole_options: Mapping[str, Any]
    naive_options: Mapping[str, Any]
    float16: str = "tensors"
    source: str = "measured"
    binary: bool = False
    seconds: float = 0.006
    accelerator: str = "cpu"
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def on_gpu(self) -> bool:
        return self.accelerator != "cpu"


TF32, ON = {"tf32": ("off", "on")}, ("on", "off")

DEVICE_SAMPLING = Sampling(sample_ns=200_000, burst_min=4, burst_max=4, max_rounds=6, gate_budget_ns=0)
"""For time that the device tells. Its events resolve half a microsecond, so a sample lasts some hundred of them, and as
the mean of so many calls fewer samples do: twelve in three bursts, where nine suffice. What else the host's processors
are asked to do is not waited for."""

ENGINES: Mapping[str, EngineUse] = {
    "onnxruntime": EngineUse(
        "onnx", True, {"optimisation": "none"}, {"optimisation": "all"}, {"optimisation": "all", "entry": "run"}
    ),
    "onnxruntime-cuda": EngineUse(
        "onnx",
        True,
        {"optimisation": "none"},
        {"optimisation": "all"},
        {"optimisation": "all"},
        seconds=0.1,
        accelerator="cuda",
        choices={"graph": ON, **TF32},
        sampling=DEVICE_SAMPLING,
    ),
    "onnxruntime-tensorrt": EngineUse(
        "onnx",
        False,
        {},
        {},
        {},
        seconds=3.0,
        accelerator="tensorrt",
        choices={"graph": ON, **TF32},
        sampling=DEVICE_SAMPLING,
    ),
    "litert": EngineUse("tflite", False, {}, {}, {}, float16="weights", choices={"xnnpack": ON}),
    "openvino": EngineUse(
        "onnx",
        False,
        {"edges": "native"},
        {},
        {},
        float16="weights",
        seconds=0.1,
        choices={"precision": ("float32", "bfloat16")},
    ),
    "torch": EngineUse("pt2", False, {}, {}, {}, choices={"mode": ("eager", "compile")}),
    "torch-cuda": EngineUse(
        "pt2",
        False,
        {},
        {},
        {},
        seconds=0.1,
        accelerator="cuda",
        choices={"mode": ("graph", "eager", "compile"), **TF32},
        sampling=DEVICE_SAMPLING,
    ),
    "benchmark_model": EngineUse("tflite", False, {}, {}, {}, float16="weights", binary=True, seconds=1.8),
    "fake": EngineUse("fake", False, {}, {}, {}, source="simulated"),
}


def chosen_of(use: EngineUse, asked: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What was asked of an engine beyond what it does unasked, by name. Raises UsageError for what it does not have."""
    for name, value in asked.items():
        if value not in use.choices.get(name, ()):
            known = ", ".join(f"{name}={'|'.join(values)}" for name, values in use.choices.items())
            raise UsageError(f"--engine-option must be {known or 'left out for this engine'}, but got {name}={value}")
    return tuple(sorted((name, value) for name, value in asked.items() if value != use.choices[name][0]))


def engine_use(name: str) -> EngineUse:
    """Raises UsageError for a name that is not in ENGINES."""
    if name not in ENGINES:
        raise UsageError(f"an engine must be one of {', '.join(ENGINES)}, but got {name!r}")
    return ENGINES[name]
