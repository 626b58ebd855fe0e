"""ONNX Runtime on the CPU."""

from __future__ import annotations

import time
from typing import Any, Dict, List

from agent.engines import EngineUnavailable, fill

LIVE = 64
SILENT = 4
NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def version() -> str:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable("the package onnxruntime does not import: {}".format(error)) from None
    return str(onnxruntime.__version__)


def live(options: Dict[str, Any]) -> int:
    """Sessions of several threads own a pool each, whose workers disturb the others: one at a time."""
    return LIVE if int(options.get("threads", 1)) == 1 else 1


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    return OpenModel(path, options)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    settings = make_settings({**options, "optimisation": "all"})
    settings.optimized_model_filepath = into_path
    _session(path, settings)


class OpenModel:
    """A session with its inputs and outputs bound to buffers."""

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        self._session = _session(path, make_settings(options))
        self._feeds = {entry.name: input_array(entry) for entry in self._session.get_inputs()}
        self._bound = options.get("entry", "binding") == "binding"
        self._binding = self._session.io_binding()
        if self._bound:
            self._bind()

    def run(self, loops: int) -> int:
        return self._run_bound(loops) if self._bound else self._run_fed(loops)

    def infer(self, arrays: List[Any]) -> List[Any]:
        names = [entry.name for entry in self._session.get_inputs()]
        return list(self._session.run(None, dict(zip(names, arrays))))

    def _bind(self) -> None:
        for name, array in self._feeds.items():
            self._binding.bind_cpu_input(name, array)
        outputs = self._session.run(None, self._feeds)
        self._kept = outputs
        for entry, array in zip(self._session.get_outputs(), outputs):
            self._binding.bind_output(entry.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def _run_bound(self, loops: int) -> int:
        call, binding, clock = self._session._sess.run_with_iobinding, self._binding._iobinding, time.perf_counter_ns
        count = range(loops)
        start = clock()
        for _ in count:
            call(binding, None)
        return clock() - start

    def _run_fed(self, loops: int) -> int:
        call, feeds, clock = self._session.run, self._feeds, time.perf_counter_ns
        count = range(loops)
        start = clock()
        for _ in count:
            call(None, feeds)
        return clock() - start


def make_settings(options: Dict[str, Any]) -> Any:
    """Session options for ``threads`` and ``optimisation``."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options.get("threads", 1))
    settings.inter_op_num_threads = 1
    settings.log_severity_level = SILENT
    everything = options.get("optimisation", "all") == "all"
    settings.graph_optimization_level = levels.ORT_ENABLE_ALL if everything else levels.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return settings


def _session(path: str, settings: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def input_array(entry: Any) -> Any:
    """What an input is set to. Raises ValueError where its shape is open."""
    if not all(isinstance(side, int) for side in entry.shape):
        raise ValueError("input {} must have a fixed shape, but got {}".format(entry.name, entry.shape))
    return fill(entry.shape, NUMPY_TYPES[entry.type])
