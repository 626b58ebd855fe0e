"""Graph -> a model of the fake engine: a JSON text that says how long it takes and what it draws. Never real.

Time grows with MACs and bytes moved, as on a machine without caches. Power (``uw``, beyond what is drawn at rest) is
what the units of an operator's class draw at full use, of which small operators reach little and large ones nearly all,
and the memory's, which rises in steps where an operator outgrows a cache: a replayed meter shows it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ops_catalog import ops
from ops_catalog.spec import Graph, OpSpec

NS_PER_KMAC = 50
NS_PER_KBYTE = 100

CLASS_UW = {"conv2d": 2.6e6, "depthwise_conv2d": 1.1e6, "linear": 1.9e6, "matmul": 2.2e6, "inverted_residual": 2.0e6}
OTHER_UW = 0.5e6
FULL_MACS = 4e6
"""At which three quarters of a class's power are reached."""
CACHES = ((32_000, 0.25e6), (1_000_000, 0.6e6))
"""Bytes that a cache holds, and what moving those of an operator draws that fits; beyond it is MEMORY_UW."""
MEMORY_UW = 1.3e6


def export(graph: Graph, seed: int = 0, quant: object = None, weights: object = None) -> bytes:
    """The work of a network's operators one after the other; the other arguments change nothing."""
    work = [ops.macs(op) * NS_PER_KMAC + ops.bytes_moved(op) * NS_PER_KBYTE for op in graph.operators]
    return json.dumps({"ns": sum(work) // 1000, "uw": _mean(list(map(power_uw, graph.operators)), work)}).encode()


def power_uw(op: OpSpec) -> float:
    """What an operator draws beyond rest while it runs."""
    macs, moved = ops.macs(op), ops.bytes_moved(op)
    busy = math.tanh(math.sqrt(macs / FULL_MACS))
    memory = next((uw for size, uw in CACHES if moved <= size), MEMORY_UW)
    return CLASS_UW.get(op.type, OTHER_UW) * busy + memory


def _mean(powers: Sequence[float], work: Sequence[int]) -> int:
    """Weighted with time; of operators that take none, the plain one."""
    total = sum(work)
    if not total:
        return round(sum(powers) / max(1, len(powers)))
    return round(sum(uw * ns for uw, ns in zip(powers, work, strict=True)) / total)
