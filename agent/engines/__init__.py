"""The inference engines: ENGINES, name -> module, imported on use.

An engine module has:

    version()                           its version; raises EngineUnavailable where it cannot run here
    live(options)                       how many models may be open at once
    open_model(path, options)           -> a Loaded model
    optimise(path, into_path, options)  writes the model as the engine would run it

and, where it tells no single samples, in place of open_model:

    summarise(path, options)            -> the ``summary`` of protocol.Measured; raises FellBack

A Loaded model may have ``device_alone``: true where it tells the time of a device alone, whatever the host does. No
sample is then dropped because the host was interrupted. All models of a batch are as its null model in this.

Options are shared words: ``threads``, ``optimisation`` (all, none), ``entry`` (binding, run), ``xnnpack`` (on, off),
``settle`` (on; off for a model that is opened to be run once); engines have more of their own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, List, Protocol

ENGINES = {
    "onnxruntime": "agent.engines.onnxrt",
    "onnxruntime-cuda": "agent.engines.onnxrt_cuda",
    "onnxruntime-tensorrt": "agent.engines.onnxrt_tensorrt",
    "litert": "agent.engines.litert",
    "openvino": "agent.engines.openvino_cpu",
    "torch": "agent.engines.torch_cpu",
    "torch-cuda": "agent.engines.torch_cuda",
    "benchmark_model": "agent.engines.benchmark_model",
    "fake": "agent.engines.fake",
}


SEED = 1
POOL = 4093


class EngineUnavailable(Exception):
    """Why an engine cannot run here."""


class FellBack(Exception):
    """A model did not run, or not wholly, on the accelerator it was meant for."""


class Loaded(Protocol):
    """An open model whose inputs are set."""

    def run(self, loops: int) -> int:
        """Calls it that often; ns for all calls together."""

    def infer(self, arrays: List[Any]) -> List[Any]:
        """Outputs for these inputs, both in the model's order."""


def fill(shape: Any, dtype: Any) -> Any:
    """An input of that shape: a few thousand random values, repeated, since latency does not depend on them."""
    import numpy as np

    kind = np.dtype(dtype)
    rng = np.random.default_rng(SEED)
    values = rng.standard_normal(POOL) if kind.kind == "f" else rng.integers(0, 100, POOL)
    return np.resize(values.astype(kind), shape)


def engine_module(name: str) -> Any:
    """The module of an engine. Raises EngineUnavailable for an unknown name."""
    if name not in ENGINES:
        raise EngineUnavailable("an engine must be one of {}, but got {!r}".format(", ".join(sorted(ENGINES)), name))
    return import_module(ENGINES[name])


def describe_engines() -> Dict[str, Dict[str, str]]:
    """Name -> its version, or why it is unavailable."""
    return {name: _describe(name) for name in ENGINES}


def _describe(name: str) -> Dict[str, str]:
    try:
        return {"version": engine_module(name).version()}
    except EngineUnavailable as reason:
        return {"unavailable": str(reason)}
