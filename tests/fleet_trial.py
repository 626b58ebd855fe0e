"""A fleet on this machine: three nodes of Ray and four virtual phones; a sweep, and what is done to it meanwhile.

It is a program of its own, since Ray keeps what it once was told in its process: ``python -m tests.fleet_trial HOW
INTO`` writes what came of it into a file. Everything on the way is real but the phones and the fake engine: adb,
leases, agents, Ray.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.protocol import Sampling
from host import bench, passes
from host.cli_options import Asked
from host.fleet import Sweep, run_sweep
from host.fleet_ray import open_fleet, resources_of
from host.fleet_worker import Order
from host.phones import slug
from host.session import Batch
from host.setting import Workload
from host.show_fleet import told_of
from host.transport import Launch
from lut_db.store import LutStore, open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from tests.virtual_phone.adb_server import open_adb_server
from tests.virtual_phone.phone import VirtualPhone, open_phone

HOW = "CHAMNET_FLEET_TRIAL"
QUICK = Sampling(gate_budget_ns=0)
PASSES = 2
NODES = ((0,), (1, 2), (3,))
"""Which phones hang on which node; the first is the head."""
UNPLUGGED, KILLED = 1, 3
"""Phones: one that shares its node with another, and the one of the last node."""
STORE_BYTES = 80 << 20


@dataclass(frozen=True)
class How:
    """What is tried.

    Attributes:
        call_s: what measuring an operator once takes in real time, beside what the fake engine tells.
        slow: phones by number whose times are so many times the others'.
        kill_at, unplug_at: measurements of the phone KILLED that are stored when its node is killed, and of the phone
            UNPLUGGED when it is unplugged; 0 for never.
        repeat: sweeps again with what is left of the fleet.
    """

    db: str
    operators: int = 240
    units: int = 4
    batch: int = 16
    call_s: float = 0.0
    slow: dict[str, float] = field(default_factory=dict)
    kill_at: int = 0
    unplug_at: int = 0
    repeat: bool = False
    patience_min: float = 0.1
    limit_s: float = 300.0


@dataclass(frozen=True)
class _Fault:
    """What is done once so many measurements of a phone are stored."""

    name: str
    phone: int
    at: int
    do: Callable[[], None]


def quicken() -> None:
    """In every process that measures: small batches, no wait for a quiet machine; calls take time, some phones more."""
    how = How(**json.loads(os.environ[HOW]))
    measure = bench.Bench.measure

    def measured(self: bench.Bench, files: dict[str, str], *rest: Any, **named: Any) -> Batch:
        answer = measure(self, files, *rest, **{**named, "sampling": QUICK})
        time.sleep(how.call_s * len(files))
        factor = how.slow.get(self.target.device.rpartition("@")[2], 1.0)
        rows = [
            replace(row, bursts_ns=[[round(ns * factor) for ns in b] for b in row.bursts_ns]) for row in answer.measured
        ]
        return replace(answer, measured=tuple(rows))

    passes.BATCH = how.batch
    bench.Bench.measure = measured  # type: ignore[method-assign]


def run(how: How) -> dict[str, Any]:
    """Sweeps once or twice; returns what was told, and what is in the database afterwards."""
    import ray

    workload = Workload(operators=tuple(make_op("relu", TensorSpec((1, 64 * n))) for n in range(1, how.operators + 1)))
    os.environ[HOW] = json.dumps(asdict(how))
    with ExitStack() as stack:
        server = stack.enter_context(open_adb_server())
        phones = [stack.enter_context(open_phone("x86_64", "snapdragon835", f"FLEET{i}")) for i in range(how.units)]
        for phone in phones:
            server.connect(phone.serial)
        cluster, last = _start_cluster(how.units)
        stack.callback(cluster.shutdown)
        hook = {"worker_process_setup_hook": "tests.fleet_trial.quicken"}
        ray.init(address=cluster.address, runtime_env=hook, log_to_driver=False, logging_level=logging.ERROR)
        stack.callback(ray.shutdown)
        store = stack.enter_context(open_store(how.db))
        with _faults(how, store, phones, lambda: cluster.remove_node(last, allow_graceful=False)) as done:
            first = _sweep(store, how, workload)
        again = _sweep(store, how, workload) if how.repeat else []
        return {"first": first, "again": again, "faults": done, **_judged(store, how, workload)}


def _start_cluster(units: int) -> tuple[Any, Any]:
    """The cluster and its last node."""
    from ray.cluster_utils import Cluster

    def node(numbers: Sequence[int]) -> dict[str, Any]:
        names = [f"snapdragon835@{slug(f'FLEET{i}')}" for i in numbers if i < units]
        return {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "resources": resources_of([(name, name) for name in names]),
        }

    cluster = Cluster(initialize_head=True, head_node_args={**node(NODES[0]), "include_dashboard": False})
    nodes = [cluster.add_node(wait=False, **node(numbers)) for numbers in NODES[1:]]
    cluster.wait_for_nodes()
    return cluster, nodes[-1]


def _sweep(store: LutStore, how: How, workload: Workload) -> list[dict[str, Any]]:
    order = Order(f"sqlite:///{Path(how.db).resolve()}", "", "", Asked("fake", patience_min=how.patience_min), Launch())
    with open_fleet() as fleet:
        groups = run_sweep(fleet, store, order, Sweep(("snapdragon835",), workload, patience_s=60.0))
    return [told_of(store, group) for group in groups]


@contextmanager
def _faults(how: How, store: LutStore, phones: list[VirtualPhone], kill: Callable[[], None]) -> Iterator[list[str]]:
    """Does what is to be done at its moment; tells what was."""
    done: list[str] = []
    ended = threading.Event()

    def unplug() -> None:
        phones[UNPLUGGED].pull_cable()

    planned = [
        _Fault("node killed", KILLED, how.kill_at, kill),
        _Fault("unit unplugged", UNPLUGGED, how.unplug_at, unplug),
    ]

    def watch() -> None:
        left = [plan for plan in planned if plan.at]
        while left and not ended.wait(0.05):
            for plan in [plan for plan in left if _rows(store, plan.phone) >= plan.at]:
                plan.do()
                done.append(plan.name)
                left.remove(plan)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def _own(store: LutStore) -> list[Any]:
    return [target for target in store.targets() if "@fleet" in target.device]


def _rows(store: LutStore, number: int) -> int:
    mine = (target for target in _own(store) if target.device.endswith(f"@fleet{number}"))
    return sum(store.counts(target)["measurement"] for target in mine)


def _judged(store: LutStore, how: How, workload: Workload) -> dict[str, Any]:
    """Operators that no unit settled, measurements in a table beyond an entry's passes, and the merged table."""
    own = _own(store)
    settled = set().union(*(store.settled(target, PASSES) for target in own))
    merged = next(target for target in store.targets() if dict(target.options).get("units") == "merged")
    entries = {entry.key: entry for entry in store.lut(merged).entries}
    times = Counter(key for target in own for key in store.settled(target, PASSES))
    return {
        "target": merged.name,
        "lost": sum(op.key not in settled for op in workload.operators),
        "doubled": sum(max(0, count - PASSES) for target in own for count in store.clean_passes(target).values()),
        "merged": len(entries),
        "latencies_ns": {key: entry.latency_ns for key, entry in entries.items()},
        "on_one_unit": sum(count == 1 for count in times.values()),
        "on_several_units": sum(count > 1 for count in times.values()),
        "leases": sorted(store.leases.held()),
    }


def start(how: How, into: Path) -> dict[str, Any]:
    """The same in a process of its own. Raises CalledProcessError, with its words in ``stderr``."""
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": root}
    command = [sys.executable, "-m", "tests.fleet_trial", json.dumps(asdict(how)), str(into)]
    subprocess.run(command, check=True, cwd=root, env=environment, capture_output=True, text=True, timeout=how.limit_s)
    told: dict[str, Any] = json.loads(into.read_text())
    return told


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(run(How(**json.loads(sys.argv[1])))))
