"""Graph -> a model of the fake engine: a JSON text that says how long it takes. For tests and trials, never real."""

from __future__ import annotations

import json

from ops_catalog import ops
from ops_catalog.spec import Graph

NS_PER_KMAC = 50
NS_PER_KBYTE = 100


def export(graph: Graph, seed: int = 0, quant: object = None, weights: object = None) -> bytes:
    """Time grows with MACs and bytes moved, as on a machine without caches; the other arguments change nothing."""
    work = sum(ops.macs(op) * NS_PER_KMAC + ops.bytes_moved(op) * NS_PER_KBYTE for op in graph.operators)
    return json.dumps({"ns": work // 1000}).encode()
