"""OpenVINO on the CPU, reading ONNX files.

Options of its own: ``precision`` (float32, bfloat16) is what it computes floats in; unasked, OpenVINO takes bfloat16
wherever the CPU has it. ``edges`` (plain, native) is how images pass in and out, see ``openvino_edges``.
"""

from __future__ import annotations

import shutil
import sys
import time
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from typing import Any, Dict, List, Tuple

from agent.engines import EngineUnavailable, fill
from agent.engines.openvino_edges import TO_FIRST, TO_LAST, lay, moves
from agent.machine import BFLOAT16, read_features

LIVE = 64
DEVICE, TELEMETRY = "CPU", "openvino_telemetry"
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
Way = Tuple[bool, bool]
PLAIN = (False, False)
WAYS = ((True, True), (True, False), PLAIN)
"""Native edges, best first: whether input and output images have channels last. The one is taken that leaves the fewest
to move: what adds into its second input copies a transposed result twice, and pooling takes images as they come."""


def version() -> str:
    try:
        if find_spec("openvino") is not None:
            return package_version("openvino")
    except PackageNotFoundError:
        pass
    raise EngineUnavailable("the package openvino is not installed; 'pip install openvino' brings it")


def live(options: Dict[str, Any]) -> int:
    """The threads of a model sleep while it is not called, so models do not disturb one another."""
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    return OpenModel(path, options)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    """What it makes of a model cannot be loaded again: the copy is the optimised model."""
    shutil.copyfile(path, into_path)


class OpenModel:
    """A compiled model, and a request whose inputs and outputs are bound to buffers.

    Attributes:
        compiled: OpenVINO's CompiledModel, whose runtime model tells what runs.
        request: its InferRequest.
    """

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        package, settings = _package(), _settings(options)
        self._types = [port.element_type.to_dtype() for port in _read(path).outputs]
        native = options.get("edges", "plain") == "native"
        self._way, self.compiled = _compile_native(path, settings) if native else (PLAIN, _compile(path, settings))
        _require_threads(self.compiled, settings)
        self.request = self.compiled.create_infer_request()
        self._inputs = [package.Tensor(port.element_type, port.shape) for port in self.compiled.inputs]
        for index, tensor in enumerate(self._inputs):
            _set(tensor, fill(tensor.data.shape, "float32" if tensor.element_type.is_real() else tensor.data.dtype))
            self.request.set_input_tensor(index, tensor)
        for index, port in enumerate(self.compiled.outputs):
            self.request.set_output_tensor(index, package.Tensor(port.element_type, port.shape))

    def run(self, loops: int) -> int:
        call, request, clock = _bare_infer(), self.request, time.perf_counter_ns
        count = range(loops)
        start = clock()
        for _ in count:
            call(request, {}, True, False)
        return clock() - start

    def infer(self, arrays: List[Any]) -> List[Any]:
        inputs_last, outputs_last = self._way
        for tensor, array in zip(self._inputs, arrays):
            _set(tensor, array.transpose(TO_LAST) if inputs_last and array.ndim == 4 else array)
        self.run(1)
        results = [_get(self.request.get_output_tensor(index), kind) for index, kind in enumerate(self._types)]
        return [array.transpose(TO_FIRST) if outputs_last and array.ndim == 4 else array for array in results]


def _package() -> Any:
    """OpenVINO without its telemetry, which would send something as soon as it is imported."""
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    return import_module("openvino")


@lru_cache(maxsize=1)
def _core() -> Any:
    return _package().Core()


def _bare_infer() -> Any:
    """Without the wrapper that looks at inputs, which are set: it costs two microseconds a call."""
    return import_module("openvino._pyopenvino").InferRequest.infer


def _settings(options: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": int(options.get("threads", 1)),
        "INFERENCE_PRECISION_HINT": _precision(options.get("precision", "float32")),
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
        "CACHE_DIR": "",
    }


def _precision(name: str) -> str:
    if name not in PRECISIONS:
        raise EngineUnavailable("precision must be one of {}, but got {!r}".format(", ".join(PRECISIONS), name))
    if name == "bfloat16" and not BFLOAT16 & set(read_features()):
        raise EngineUnavailable(
            "precision bfloat16 must be the CPU's own ({}), but it has none of these; take precision=float32".format(
                ", ".join(sorted(BFLOAT16))
            )
        )
    return PRECISIONS[name]


def _read(path: str) -> Any:
    model = _core().read_model(path)
    for port in model.inputs:
        if not port.partial_shape.is_static:
            shape = port.partial_shape.to_string()
            raise ValueError("input {} must have a fixed shape, but got {}".format(port.any_name, shape))
    return model


def _compile(path: str, settings: Dict[str, Any]) -> Any:
    return _core().compile_model(_read(path), DEVICE, settings)


def _compile_native(path: str, settings: Dict[str, Any]) -> Tuple[Way, Any]:
    found: List[Tuple[int, Way, Any]] = []
    for way in WAYS:
        model = _read(path)
        lay(model, *way, precision=settings["INFERENCE_PRECISION_HINT"])
        compiled = _core().compile_model(model, DEVICE, settings)
        found.append((moves(compiled), way, compiled))
        if not found[-1][0]:
            break
    _, way, compiled = min(found, key=lambda entry: entry[0])
    return way, compiled


def _require_threads(compiled: Any, settings: Dict[str, Any]) -> None:
    asked, taken = settings["INFERENCE_NUM_THREADS"], compiled.get_property("INFERENCE_NUM_THREADS")
    if taken != asked:
        raise ValueError(
            "OpenVINO must run {} threads, but takes {}, as many as it finds processors".format(asked, taken)
        )


def _set(tensor: Any, array: Any) -> None:
    """Copies values; NumPy has no bfloat16, which is the upper half of a float32."""
    import numpy as np

    if tensor.element_type.get_type_name() != PRECISIONS["bfloat16"]:
        tensor.data[...] = array
        return
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    tensor.data.view(np.uint16)[...] = (bits + 0x8000) >> 16


def _get(tensor: Any, kind: Any) -> Any:
    """A copy of the values, of that NumPy type."""
    import numpy as np

    if tensor.element_type.get_type_name() != PRECISIONS["bfloat16"]:
        return tensor.data.astype(kind)
    return (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(kind)
