"""What ONNX Runtime's providers for NVIDIA GPUs share: device buffers, device time, and no silent way to the CPU.

ONNX Runtime puts on the CPU what a provider does not take, and everything where a provider does not start. Both are
refused: it is told not to, the session must name the provider first, and every node must be assigned to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Callable, Dict, List, Optional, Protocol

from agent.engines import EngineUnavailable, FellBack
from agent.engines.cuda_stream import ask_ns
from agent.engines.onnxrt import NUMPY_TYPES, input_array, make_settings
from agent.gpu import require_gpu

NO_FALLBACK, RECORD = "session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info"
NO_SYNC = "disable_synchronize_execution_providers"
STRAYED = ("fallback to CPU EP", "have not been partitioned")
"""In ONNX Runtime's refusals of nodes that would run elsewhere: of any session, and of one with CUDA graphs."""
GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")
NAMED = 5
WARM_CALLS, WARM_NS, AGREE = 3, 30_000_000, 1.05
INSTALL = (
    "'pip install onnxruntime-gpu' brings it; that overwrites the package onnxruntime, so install it into an "
    "environment of its own and name that one's interpreter with '--agent-python'"
)


@dataclass(frozen=True)
class Provider:
    """An execution provider and how it is asked to run a model.

    Attributes:
        device: ONNX Runtime's word for where its buffers lie.
        alone: nothing else may run nodes.
    """

    name: str
    options: Dict[str, str]
    device: str = "cuda"
    alone: bool = True


class Stopwatch(Protocol):
    """Where models run and what tells their time there: ``CudaStream``."""

    def time_ns(self, call: Callable[[], Any], calls: int, ask_ns: int, hold: bool) -> int: ...

    def waits(self, call: Callable[[], Any]) -> bool: ...


def version_of(provider: str, *libraries: str) -> str:
    """ONNX Runtime's version, and that of the first of these packages that is there.

    Raises:
        EngineUnavailable: there is no GPU, or ONNX Runtime has no such provider.
    """
    require_gpu()
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable("the package onnxruntime does not import: {}; {}".format(error, INSTALL)) from None
    if provider not in onnxruntime.get_available_providers():
        raise EngineUnavailable(
            "the package onnxruntime {} here has no {}; {}".format(onnxruntime.__version__, provider, INSTALL)
        )
    found = next(filter(None, map(package_version, libraries)), None)
    return str(onnxruntime.__version__) + ("/{}".format(found) if found else "")


def package_version(name: str) -> Optional[str]:
    """Such as cudnn-9.1.0; None where the package is not there."""
    try:
        short = name.replace("nvidia-", "").rpartition("-cu")[0] or name
        return "{}-{}".format(short, metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


class OpenModel:
    """A session whose inputs and outputs are bound to buffers on the device.

    With ``graph`` (a CUDA graph, which the first calls record) ``run`` tells device time; without, or where ONNX
    Runtime waits for the end of each replay, what passes while the host asks for one call after the other. With
    ``settle`` off, for a model that is only to be run once, no time is waited for that settles.

    Attributes:
        device_alone: which of the two it tells.

    Raises:
        FellBack: nodes would run elsewhere; EngineUnavailable: the provider does not start.
    """

    def __init__(self, path: str, options: Dict[str, Any], provider: Provider, stopwatch: Stopwatch) -> None:
        import onnxruntime

        self._session = open_session(path, lambda: make_settings(options), provider)
        self._stopwatch = stopwatch
        self._inputs = {
            entry.name: onnxruntime.OrtValue.ortvalue_from_numpy(input_array(entry), provider.device, 0)
            for entry in self._session.get_inputs()
        }
        self._outputs = {entry.name: _buffer(entry, provider.device) for entry in self._session.get_outputs()}
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._call = self._make_call(onnxruntime.RunOptions())
        self._ask_ns = self._settle(WARM_NS if options.get("settle", "on") == "on" else 0)
        self.device_alone = options.get("graph", "on") == "on" and not stopwatch.waits(self._call)

    def run(self, loops: int) -> int:
        return self._stopwatch.time_ns(self._call, loops, self._ask_ns, self.device_alone)

    def infer(self, arrays: List[Any]) -> List[Any]:
        import numpy as np

        for value, array in zip(self._inputs.values(), arrays):
            value.update_inplace(np.ascontiguousarray(array))
        self._binding.synchronize_inputs()
        self.run(1)
        return [value.numpy() for value in self._outputs.values()]

    def _make_call(self, settings: Any) -> Callable[[], Any]:
        settings.add_run_config_entry(NO_SYNC, "1")
        run, binding = self._session._sess.run_with_iobinding, self._binding._iobinding
        return lambda: run(binding, settings)

    def _settle(self, most_ns: int) -> int:
        """Runs until algorithms are chosen, the graph is recorded, and clocks have risen; returns what asking costs."""
        last, until = 0, time.perf_counter_ns() + most_ns
        for _ in range(WARM_CALLS):
            last = self._stopwatch.time_ns(self._call, 1, 1, False)
        while time.perf_counter_ns() < until:
            before, last = last, self._stopwatch.time_ns(self._call, WARM_CALLS, 1, False)
            if before <= AGREE * last <= AGREE * AGREE * before:
                break
        return ask_ns(self._call)


def optimise_with(path: str, into_path: str, options: Dict[str, Any], provider: Provider) -> None:
    """Writes the model as the provider would run it. Raises FellBack, EngineUnavailable."""

    def settings() -> Any:
        made = make_settings({**options, "optimisation": "all"})
        made.optimized_model_filepath = into_path
        return made

    open_session(path, settings, provider)


def open_session(path: str, make: Callable[[], Any], provider: Provider) -> Any:
    """A session of which the provider runs every node.

    Args:
        make: session options, new ones each time.

    Raises:
        FellBack, EngineUnavailable: see ``OpenModel``.
    """
    import onnxruntime

    try:
        session = _session(path, make(), provider, provider.alone)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        if not any(text in str(error) for text in STRAYED):
            raise
        _check(_session(path, make(), without_graphs(provider), False), provider)
        raise FellBack("put nodes on the CPU: {}".format(str(error).splitlines()[0])) from None
    _check(session, provider)
    return session


def without_graphs(provider: Provider) -> Provider:
    """The same for a session that may have nodes elsewhere, which CUDA graphs would refuse."""
    options = {name: "0" if name in GRAPHS else value for name, value in provider.options.items()}
    return replace(provider, options=options)


def _session(path: str, settings: Any, provider: Provider, alone: bool) -> Any:
    import onnxruntime

    settings.add_session_config_entry(RECORD, "1")
    settings.add_session_config_entry(NO_FALLBACK, "1" if alone else "0")
    asked = [(provider.name, provider.options)]
    return onnxruntime.InferenceSession(path, settings, providers=asked, enable_fallback=0)


def _check(session: Any, provider: Provider) -> None:
    """That the provider started, and that it runs every node, as far as this version of ONNX Runtime tells."""
    if session.get_providers()[:1] != [provider.name]:
        raise EngineUnavailable(
            "{} must start, but does not; its libraries (CUDA, cuDNN, TensorRT) must be those that 'pip show "
            "onnxruntime-gpu' names, such as 'pip install onnxruntime-gpu[cuda,cudnn]' brings".format(provider.name)
        )
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    strays = [
        "{} ({}) on {}".format(node.name or "a node", node.op_type, part.ep_name)
        for part in (ask() if ask else ())
        if part.ep_name != provider.name
        for node in part.get_nodes()
    ]
    if strays:
        more = " and {} more".format(len(strays) - NAMED) if len(strays) > NAMED else ""
        raise FellBack("ran nodes elsewhere than on {}: {}{}".format(provider.name, ", ".join(strays[:NAMED]), more))


def _buffer(entry: Any, device: str) -> Any:
    import numpy as np
    import onnxruntime

    if not all(isinstance(side, int) for side in entry.shape):
        raise ValueError("output {} must have a fixed shape, but got {}".format(entry.name, entry.shape))
    kind = np.dtype(NUMPY_TYPES[entry.type])
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(entry.shape, kind, device, 0)
