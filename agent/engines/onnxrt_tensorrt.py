"""ONNX Runtime on an NVIDIA GPU by its TensorRT provider, which compiles a model when it is opened: seconds for each.

What it compiled lies beside the model file, in a folder of its content's: ONNX Runtime tells engines apart by names
alone, and would give one model another's.
"""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict

from agent.engines import EngineUnavailable
from agent.engines.cuda_stream import shared_stream
from agent.engines.onnxrt_cuda import preload
from agent.engines.onnxrt_gpu import OpenModel, Provider, version_of

NAME = "TensorrtExecutionProvider"
LIVE = 8
PACKAGE = "tensorrt"
TF32 = "NVIDIA_TF32_OVERRIDE"
"""TensorRT's builder uses TF32 unasked, and ONNX Runtime has no option for it; NVIDIA's libraries obey this."""
QUANTISED, HALF = b"DequantizeLinear", "tensor(float16)"


def version() -> str:
    told = version_of(NAME, "tensorrt-cu13", "tensorrt-cu12", PACKAGE)
    if find_spec(PACKAGE) is None:
        raise EngineUnavailable(
            "TensorRT's libraries must be there for {}; 'pip install tensorrt' brings them; its release must be the "
            "one that onnxruntime-gpu was built for".format(NAME)
        )
    return told


def live(options: Dict[str, Any]) -> int:
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> OpenModel:
    if options.get("tf32", "off") != "on":
        os.environ[TF32] = "0"
    stream = shared_stream()
    preload()
    import_module(PACKAGE)
    return OpenModel(path, options, provider_of(path, options, stream.address), stream)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    raise ValueError("a model that TensorRT compiled cannot be written; measure operators as they are exported")


def provider_of(path: str, options: Dict[str, Any], stream: int) -> Provider:
    """Options: ``graph`` (on, off). The types that TensorRT may compute in are those of the model."""
    folder, content = Path(path).parent, Path(path).read_bytes()
    engines = folder / "{}.engines".format(hashlib.sha256(content).hexdigest())
    engines.mkdir(exist_ok=True)
    return Provider(
        NAME,
        {
            "device_id": "0",
            "user_compute_stream": str(stream),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
            "trt_fp16_enable": "1" if is_half(path) else "0",
            "trt_int8_enable": "1" if QUANTISED in content else "0",
            "trt_cuda_graph_enable": "1" if options.get("graph", "on") == "on" else "0",
        },
    )


def is_half(path: str, provider: str = "CUDAExecutionProvider") -> bool:
    """Whether a model's first input is of 16 bits, asked of a session that optimises nothing."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, settings, providers=[provider])
    return bool(session.get_inputs()[0].type == HALF)
