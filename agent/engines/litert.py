"""LiteRT on the CPU, with or without XNNPACK: the package ai-edge-litert, else its forerunner tflite-runtime."""

from __future__ import annotations

import shutil
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Any, Dict, List, Tuple

from agent.engines import EngineUnavailable, fill

LIVE = 64
PACKAGES = (("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime"))


def version() -> str:
    _, package = _interpreter_module()
    try:
        number = package_version(package)
    except PackageNotFoundError:
        number = "unknown"
    return number if package == "ai-edge-litert" else "{}-{}".format(package, number)


def live(options: Dict[str, Any]) -> int:
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    return OpenModel(path, options)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    """LiteRT runs operators as they are written: the copy is the optimised model."""
    shutil.copyfile(path, into_path)


class OpenModel:
    """An interpreter with its input tensors set."""

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        module, _ = _interpreter_module()
        kinds = module.OpResolverType
        resolver = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if options.get("xnnpack", "on") == "off" else kinds.AUTO
        self._interpreter = module.Interpreter(
            model_path=path, num_threads=int(options.get("threads", 1)), experimental_op_resolver_type=resolver
        )
        self._interpreter.allocate_tensors()
        for entry in self._interpreter.get_input_details():
            self._interpreter.set_tensor(entry["index"], fill(entry["shape"], entry["dtype"]))
        inner = getattr(self._interpreter, "_interpreter", None)
        self._call = getattr(inner, "Invoke", self._interpreter.invoke)

    def run(self, loops: int) -> int:
        call, clock = self._call, time.perf_counter_ns
        count = range(loops)
        start = clock()
        for _ in count:
            call()
        return clock() - start

    def infer(self, arrays: List[Any]) -> List[Any]:
        for entry, array in zip(self._interpreter.get_input_details(), arrays):
            self._interpreter.set_tensor(entry["index"], array)
        self._call()
        return [self._interpreter.get_tensor(entry["index"]) for entry in self._interpreter.get_output_details()]


def _interpreter_module() -> Tuple[Any, str]:
    reasons = []
    for module, package in PACKAGES:
        try:
            return import_module(module), package
        except ImportError as error:
            reasons.append("{}: {}".format(package, error))
    raise EngineUnavailable("neither package imports: {}".format("; ".join(reasons)))
