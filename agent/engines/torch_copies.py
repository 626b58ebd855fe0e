"""Copies of a model's arguments on the GPU, so many that a call finds none of its own in the L2 cache."""

from __future__ import annotations

from typing import Any, List

from agent.engines.torch_model import Program

MOST_COPIES = 64
MOST_BYTES = 2 << 30
SHARE_OF_FREE = 32
"""Of the memory that is free, the part that one model's copies may take: many models live at once."""

SINGLE_OPERATORS = 16
"""What calls more is a network, which fills its caches by itself."""


def copies_of(program: Program) -> List[List[Any]]:
    """The arguments and further copies of them; one alone of a network."""
    import torch

    if program.operators > SINGLE_OPERATORS:
        return [program.arguments]
    free_bytes, _ = torch.cuda.mem_get_info()
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    size_bytes = max(1, sum(tensor.numel() * tensor.element_size() for tensor in program.arguments))
    budget = min(MOST_BYTES, free_bytes // SHARE_OF_FREE)
    count = max(1, min(MOST_COPIES, budget // size_bytes, l2_bytes // size_bytes + 1))
    return [program.arguments, *([tensor.clone() for tensor in program.arguments] for _ in range(count - 1))]
