"""A Ray cluster: one that runs, or one started here for as long as it is needed."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from lut_db.errors import LutError

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}  # fmt: skip
"""For Ray, where the person has not set it: nobody in without the token, nothing sent home, and GPUs stay visible to
what asks for none, as in newer versions."""

START = "start one with 'ray start'"
LESS = "ask for less with --cpus-each and --gpus-each"
ANSWER_S = 5.0
"""How long the head of a cluster may take to take a connection."""


@contextmanager
def connected(address: str, start: str = START) -> Iterator[None]:
    """While it is open, this process is joined to a cluster; one that it had joined before is used as it is.

    What Ray has to say meanwhile goes to standard error.

    Args:
        address: HOST:PORT of the head, "auto" for the cluster of this machine, "" to start one here.
        start: what the person is told who has none.

    Raises:
        LutError: there is no such cluster, it does not let this process in, or Ray is not installed.
    """
    prepare()
    import ray

    if ray.is_initialized():
        yield
        return
    _check(address, start)
    dashboard = None if address else False
    try:
        ray.init(address or "local", include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise _not_joined(address, str(error), start) from None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def prepare() -> None:
    """To be called before Ray is first imported, which reads its environment. Raises LutError: it is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: F401
    except ImportError:
        raise LutError("a cluster must have Ray, but it is not installed; pip install 'chamnet[fleet]'") from None


def _not_joined(address: str, reason: str, start: str) -> LutError:
    told = (reason.strip() or "no reason").splitlines()[0].partition(". ")[0]
    if not address:
        return LutError(f"Ray must start here, but: {told}; see its logs in /tmp/ray")
    place = "on this computer" if address == "auto" else f"at {address}"
    return LutError(
        f"a Ray cluster must answer {place}, but: {told}; {start}; one that runs must be of the same version of Ray, "
        "and its token be in ~/.ray/auth_token here, too (RAY_AUTH_MODE=disabled where it asks for none)"
    )


def _check(address: str, start: str) -> None:
    """Ray ends the whole process where nobody answers, so knock first."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not address or address == "auto":
        return
    try:
        if not (colon and port.isdigit()):
            raise LutError(f"--address must be auto or HOST:PORT, but got {address!r}")
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise LutError(f"a Ray cluster must answer at {address}, but: {error}; {start}") from None


def room(cpus_each: float, gpus_each: float, of: str = "training", advice: str = LESS) -> int:
    """How many trainings, or the like, the cluster holds at once. Raises LutError where that is none."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cpus_each, "GPU": gpus_each}
    found = sum(min(int(node.get(name, 0.0) / each) for name, each in wanted.items() if each) for node in nodes)
    if not found:
        have = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        raise LutError(
            f"a node must have {cpus_each:g} CPU and {gpus_each:g} GPU for a {of}, but the cluster has {have}; {advice}"
        )
    return found
