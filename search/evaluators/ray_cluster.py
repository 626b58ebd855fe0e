"""A Ray cluster: one that runs, or one started here for as long as it is needed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lut_db.errors import LutError

ANSWER_S = 5.0
"""How long the head of a cluster may take to take a connection."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """While it is open, this process is joined to a cluster; one that it had joined before is used as it is.

    Args:
        address: HOST:PORT of the head, "auto" for the cluster of this machine, "" to start one here.

    Raises:
        LutError: there is no such cluster.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check(address)
    dashboard = None if address else False
    try:
        ray.init(address or "local", include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise LutError(f"a Ray cluster must answer at {address or 'local'}, but: {reason}; see 'ray start'") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Ray ends the whole process where nobody answers, so knock first."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not address or address == "auto":
        return
    try:
        if not (colon and port.isdigit()):
            raise LutError(f"--address must be auto or HOST:PORT, but got {address!r}")
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise LutError(f"a Ray cluster must answer at {address}, but: {error}; start one with 'ray start'") from None


def room(cpus_each: float, gpus_each: float) -> int:
    """How many trainings the cluster holds at once. Raises LutError where that is none."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cpus_each, "GPU": gpus_each}
    found = sum(min(int(node.get(name, 0.0) / each) for name, each in wanted.items() if each) for node in nodes)
    if not found:
        have = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        raise LutError(
            f"a node must have {cpus_each:g} CPU and {gpus_each:g} GPU for a training, but the cluster has {have}; "
            "ask for less with --cpus-each and --gpus-each"
        )
    return found
