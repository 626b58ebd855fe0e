"""The engines as the host sees them: which file format they read, and how they are asked to run it.

ENGINES has one line per engine of ``agent.engines``. What decides speed goes into the Target's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


ENGINES = {
    "onnxruntime": EngineUse(
        "onnx", True, {"optimisation": "none"}, {"optimisation": "all"}, {"optimisation": "all", "entry": "run"}
    ),
    "litert": EngineUse("tflite", False, {}, {}, {}, float16="weights"),
    "benchmark_model": EngineUse("tflite", False, {}, {}, {}, float16="weights", binary=True, seconds=1.8),
    "fake": EngineUse("fake", False, {}, {}, {}, source="simulated"),
}


def engine_use(name: str) -> EngineUse:
    """Raises UsageError for a name that is not in ENGINES."""
    if name not in ENGINES:
        raise UsageError(f"an engine must be one of {', '.join(ENGINES)}, but got {name!r}")
    return ENGINES[name]
