"""PyTorch on an NVIDIA GPU, reading .pt2 files; time is the device's, between two events.

Options of its own:

    mode    graph: CUDA graphs of several calls, which cost no launch of their own; eager: one launch per kernel;
            compile: torch.compile by max-autotune, then graphs
    tf32    off, on: whether float32 products may be rounded to TF32
    layout  images channels_last or contiguous; auto: channels last where tensor cores compute, in 16 bits or TF32
    rotate  on: calls take turns among copies of weights and inputs that together exceed the L2 cache, as the tensors
            of a network do; off: one copy
    settle  on: a model runs until its time has settled before it counts as open; off: it is only to be run once

Unlike the modes, neither layout nor rotation was chosen by measuring yet.
"""

from __future__ import annotations

import gc
import shutil
from importlib.util import find_spec
from typing import Any, Dict, List, Optional

from agent.engines import EngineUnavailable
from agent.engines.torch_copies import copies_of
from agent.engines.torch_model import Program, as_arrays, contiguous, load_program, mode_of, torch_build
from agent.engines.torch_timing import Captured, Launched, Region, beside, settle
from agent.gpu import require_gpu

LIVE = 16
DEVICE = "cuda"
MODES, SWITCH, LAYOUTS = ("graph", "eager", "compile"), ("off", "on"), ("auto", "channels_last", "contiguous")
WARM_UP_CALLS = 3


def version() -> str:
    """With the CUDA that it was built for, as in 2.9.0+cu128. Raises EngineUnavailable without CUDA or a GPU."""
    require_gpu()
    number, cuda = torch_build()
    if cuda is None:
        raise EngineUnavailable(
            "torch must be built for CUDA, but {} is not; install a build with CUDA in an environment of its own and "
            "name it with '--agent-python'".format(number)
        )
    return number if "+" in number else "{}+cu{}".format(number, cuda.replace(".", ""))


def live(options: Dict[str, Any]) -> int:
    return LIVE


def optimise(path: str, into_path: str, options: Dict[str, Any]) -> None:
    """What it compiles is no model file: the copy is the optimised model."""
    shutil.copyfile(path, into_path)


def open_model(path: str, options: Dict[str, Any]) -> "OpenModel":
    """Raises MemoryError where the GPU's memory does not suffice; what was taken of it is given back."""
    model = _opened(path, options)
    if model is None:
        _give_back()
        raise MemoryError("the model must fit into the GPU's memory; measure it in smaller batches")
    return model


class OpenModel:
    """A graph with its arguments on the GPU, warmed up, captured, and run until its time settled.

    Attributes:
        device_alone: kernels follow one another without the host.
    """

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        import torch

        mode, tf32 = mode_of(options, MODES), options.get("tf32", SWITCH[0]) == "on"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self._program = load_program(path, DEVICE)
        if not _channels_last(self._program, options, tf32):
            self._program = contiguous(self._program)
        self._call = _compiled(self._program.call) if mode == "compile" else self._program.call
        self._copies = copies_of(self._program) if options.get("rotate", "on") == "on" else [self._program.arguments]
        self._warm_up()
        self.device_alone = mode != "eager"
        region = Captured if self.device_alone else Launched
        self._region: Region = region(self._call, self._copies)
        if options.get("settle", "on") == "on":
            settle(self._region.run)

    def run(self, loops: int) -> int:
        return self._region.run(loops)

    def infer(self, arrays: List[Any]) -> List[Any]:
        """By the very graph that is timed, whose inputs stay where they are."""
        import torch

        for index, array in zip(self._program.inputs, arrays):
            for arguments in self._copies:
                arguments[index].copy_(torch.from_numpy(array))
        return as_arrays(self._region.outputs())

    def _warm_up(self) -> None:
        """On the stream that captures, as capturing wants it: kernels are loaded, compiled and chosen here."""
        import torch

        with beside():
            for _ in range(WARM_UP_CALLS):
                self._call(*self._copies[0])
        torch.cuda.synchronize()


def _opened(path: str, options: Dict[str, Any]) -> Optional[OpenModel]:
    """None where memory does not suffice; by then nothing holds the failed attempt any more."""
    import torch

    try:
        return OpenModel(path, options)
    except torch.cuda.OutOfMemoryError:
        return None


def _give_back() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _channels_last(program: Program, options: Dict[str, Any], tf32: bool) -> bool:
    layout = str(options.get("layout", LAYOUTS[0]))
    if layout not in LAYOUTS:
        raise ValueError("layout must be one of {}, but got {!r}".format(", ".join(LAYOUTS), layout))
    if layout != "auto":
        return layout == "channels_last"
    return tf32 or program.arguments[0].element_size() == 2


def _compiled(call: Any) -> Any:
    import torch

    if find_spec("triton") is None:
        raise ValueError("mode=compile must have the package triton, but it is not installed; take mode=graph")
    return torch.compile(call, dynamic=False, mode="max-autotune-no-cudagraphs")
