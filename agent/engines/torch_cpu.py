"""PyTorch on the CPU, reading .pt2 files.

Options of its own: ``mode`` is eager, or compile (torch.compile with its usual settings, inductor; needs a C++ compiler
and takes seconds for a model). Tensors lie as the file says, images channels last: of five MobileNets and ResNets all
ran as quickly or up to a sixth quicker than with plain images (AMD EPYC, oneDNN), and operators do as the networks.
"""

from __future__ import annotations

import shutil
import time
from typing import Any, Dict, List

from agent.engines.torch_model import infer_with, load_program, mode_of, require_compiler, torch_build

LIVE = 64
MODES = ("eager", "compile")


def version() -> str:
    return torch_build()[0]


def live(options: Dict[str, Any]) -> int:
    """All models share one pool of threads."""
    return LIVE


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    return OpenModel(path, options)


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    """What it compiles is no model file: the copy is the optimised model."""
    shutil.copyfile(path, into_path)


class OpenModel:
    """A graph with its arguments. Raises ValueError for an unknown mode, or where nothing can be compiled."""

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        mode = mode_of(options, MODES)
        _use_threads(int(options.get("threads", 1)))
        self._program = load_program(path)
        self._call = _compiled(self._program.call) if mode == "compile" else self._program.call
        self._kept: Any = None

    def run(self, loops: int) -> int:
        """Keeps the last outputs, so that two sets of buffers take turns."""
        import torch

        call, arguments, clock = self._call, self._program.arguments, time.perf_counter_ns
        count, kept = range(loops), self._kept
        with torch.inference_mode():
            start = clock()
            for _ in count:
                kept = call(*arguments)
            spent_ns = clock() - start
        self._kept = kept
        return spent_ns

    def infer(self, arrays: List[Any]) -> List[Any]:
        return infer_with(self._program, self._call, arrays)


def _use_threads(threads: int) -> None:
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def _compiled(call: Any) -> Any:
    import torch

    require_compiler()
    return torch.compile(call, dynamic=False)
