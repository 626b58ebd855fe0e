"""ONNX Runtime on an NVIDIA GPU by its CUDA provider.

It has no integer convolutions: an int8 model runs in float32 between conversions, and is measured so.
"""

from __future__ import annotations

from typing import Any, Dict

from agent.engines.cuda_stream import shared_stream
from agent.engines.onnxrt_gpu import OpenModel, Provider, optimise_with, version_of

NAME = "CUDAExecutionProvider"
LIVE = 16


def version() -> str:
    return version_of(NAME, "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")


def live(options: Dict[str, Any]) -> int:
    """Every session keeps its buffers and work space on the GPU."""
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> OpenModel:
    stream = shared_stream()
    preload()
    return OpenModel(path, options, provider_of(options, stream.address), stream)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    preload()
    optimise_with(path, into_path, options, provider_of({**options, "graph": "off"}, shared_stream().address))


def provider_of(options: Dict[str, Any], stream: int) -> Provider:
    """Options: ``graph`` (on, off), ``tf32`` (off, on)."""
    return Provider(
        NAME,
        {
            "device_id": "0",
            "user_compute_stream": str(stream),
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "1" if options.get("tf32", "off") == "on" else "0",
            "enable_cuda_graph": "1" if options.get("graph", "on") == "on" else "0",
        },
    )


def preload() -> None:
    """Loads the libraries that packages brought, where this version of ONNX Runtime can."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
