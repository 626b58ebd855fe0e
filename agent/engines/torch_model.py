"""A .pt2 file as a plain function of tensors, and what both PyTorch engines ask of the package.

The file's module would cost 50 us a call beside its operators (checks, flattening, one look-up per weight). Its graph
takes weights and inputs as arguments and costs 1 us, so weights can also be exchanged between two calls.
"""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from agent.engines import POOL, EngineUnavailable, fill

COMPILERS = ("g++", "c++", "clang++")
_VERSION = re.compile(r"^__version__\s*=\s*'([^']+)'", re.MULTILINE)
_CUDA = re.compile(r"^cuda\b[^=]*=\s*'([^']+)'", re.MULTILINE)


class Program(NamedTuple):
    """A model whose inputs are set.

    Attributes:
        call: takes ``arguments``, gives a tuple of outputs.
        arguments: weights and inputs in the order of the graph, laid out as the file says.
        inputs: which of them are inputs.
        operators: how many operators it calls.
    """

    call: Callable[..., Any]
    arguments: List[Any]
    inputs: List[int]
    operators: int


def torch_build() -> Tuple[str, Optional[str]]:
    """Version of the package and of the CUDA that it was built for, None without; read without importing it.

    Raises:
        EngineUnavailable: it is not installed.
    """
    found = find_spec("torch")
    if found is None or found.origin is None:
        raise EngineUnavailable("the package torch is not installed; 'pip install torch' brings it")
    try:
        text = Path(found.origin).with_name("version.py").read_text()
    except OSError as error:
        raise EngineUnavailable("the package torch must tell its version, but got {}".format(error)) from None
    version, cuda = _VERSION.search(text), _CUDA.search(text)
    if version is None:
        raise EngineUnavailable("the package torch must tell its version in version.py, but does not")
    return version[1], cuda[1] if cuda else None


def load_program(path: str, device: str = "cpu") -> Program:
    """With its arguments on a device, where inputs are made.

    Raises:
        ValueError: its graph takes more than tensors; and what PyTorch raises for a broken file.
    """
    import torch

    program = torch.export.load(path)
    stored = {**dict(program.state_dict), **dict(program.constants)}
    arguments, inputs, nodes = [], [], program.graph.nodes
    entries = [node for node in nodes if node.op == "placeholder"]
    for index, (node, spec) in enumerate(zip(entries, program.graph_signature.input_specs)):
        if spec.target is None:
            inputs.append(index)
            arguments.append(_filled(node.meta["val"], device))
        elif spec.target in stored:
            arguments.append(stored[spec.target].detach().to(device))
        else:
            raise ValueError("a model must take weights and inputs alone, but {} takes {}".format(path, spec.target))
    operators = sum(node.op == "call_function" for node in nodes)
    return Program(program.graph_module.forward, arguments, inputs, operators)


def contiguous(program: Program) -> Program:
    """The same with everything in the order of its dimensions, whatever the file says."""
    return program._replace(arguments=[tensor.contiguous() for tensor in program.arguments])


def mode_of(options: Dict[str, Any], known: Sequence[str]) -> str:
    """The option ``mode``; the first is what is done unasked. Raises ValueError for one that is not known."""
    mode = str(options.get("mode", known[0]))
    if mode not in known:
        raise ValueError("mode must be one of {}, but got {!r}".format(", ".join(known), mode))
    return mode


def require_compiler() -> None:
    """Raises ValueError where there is no C++ compiler, without which nothing can be compiled."""
    named = os.environ.get("CXX")
    if not any(map(shutil.which, (named,) if named else COMPILERS)):
        raise ValueError(
            "mode=compile must have a C++ compiler, but found none of {}; install g++, or take mode=eager".format(
                named or ", ".join(COMPILERS)
            )
        )


def infer_with(program: Program, call: Callable[..., Any], arrays: Sequence[Any]) -> List[Any]:
    """Outputs for other inputs. NumPy has no bfloat16: inputs may be float32, outputs are then."""
    import torch

    arguments = list(program.arguments)
    for index, array in zip(program.inputs, arrays):
        arguments[index] = arguments[index].clone().copy_(torch.from_numpy(array))
    with torch.inference_mode():
        return as_arrays(call(*arguments))


def as_arrays(outputs: Sequence[Any]) -> List[Any]:
    """As NumPy has them: those in bfloat16 as float32."""
    import torch

    tensors = [tensor.cpu() for tensor in outputs]
    return [(tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy() for tensor in tensors]


def _filled(like: Any, device: str) -> Any:
    """An input laid out as that one: what ``fill`` repeats, in the order of its memory, since reordering a large image
    takes most of a second."""
    import torch

    size = 1 + sum((side - 1) * step for side, step in zip(like.shape, like.stride()))
    values = torch.from_numpy(fill((POOL,), "float32")).to(device, like.dtype)
    return values.repeat(-(-size // POOL))[:size].as_strided(tuple(like.shape), like.stride())
