"""The nodes of a model file as both formats' readers give them, in an order in which they can be computed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FileNode:
    """One node of a file.

    Attributes:
        name: its own, or that of its first output.
        type: the operator as the file calls it, with its domain where that is not the format's own.
        inputs: names of tensors, "" where an optional one is left out.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def in_order(nodes: Sequence[FileNode], known: Set[str]) -> tuple[list[FileNode], list[tuple[FileNode, str]]]:
    """The nodes so that every tensor is made before it is read, else in the file's order.

    Args:
        known: tensors that no node makes.

    Returns:
        The nodes in order, and those that cannot be computed, each with the reason.
    """
    makers: dict[str, int] = {}
    refused: dict[int, str] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in makers or name in known:
                refused[index] = f"it makes {name!r}, which is made already"
            makers.setdefault(name, index)
    waiting, readers = _dependencies(nodes, makers, known, refused)
    ready = [index for index in range(len(nodes)) if not waiting[index] and index not in refused]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if not waiting[reader] and reader not in refused:
                heapq.heappush(ready, reader)
    done = {id(node) for node in ordered}
    left = [(node, index) for index, node in enumerate(nodes) if id(node) not in done]
    return ordered, [(node, refused.get(index, "it is part of a cycle or reads from one")) for node, index in left]


def _dependencies(
    nodes: Sequence[FileNode], makers: Mapping[str, int], known: Set[str], refused: dict[int, str]
) -> tuple[list[int], dict[int, list[int]]]:
    """How many nodes each node waits for, and which nodes wait for it. A tensor that nobody makes is no dependency."""
    waiting = [0] * len(nodes)
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(node.inputs):
            maker = makers.get(name)
            if name and name not in known and maker is not None and maker not in refused:
                waiting[index] += 1
                readers.setdefault(maker, []).append(index)
    return waiting, readers
