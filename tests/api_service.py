"""A service for tests, on a real socket or in this process; and a small table with known numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from host.api.app import create_app
from host.api.service import ServiceConfig
from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.records import Calibration, Device, Lowering, Measurement, Quarantined, Session, Target
from lut_db.samples import AccuracySample, open_samples
from lut_db.store import LutStore, open_store
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import NativeOp, TensorSpec

ROOT = Path(__file__).parent.parent
BASE = "http://127.0.0.1"
START = "from host.cli import main; main()"
TARGET = Target("local-cpu", "litert", "2.3.0", "cpu", "float32", 1, (1,), "avx2")
LAYOUTS = replace(TARGET, engine="onnxruntime", engine_version="1.32.0")
"""A target whose engine stores images in two ways, so that an operator has several prices."""
SESSION = Session(1_764_000_000.0, "1", "42", {"load1": 0.5}, {"load1": 0.7}, ((0.0, 1000), (0.5, 1100)))
NETWORK = "mobilenet-v2-0.35-96"
CHANNELS = tuple(range(8, 104, 8))
OVERHEAD_NS = 100


def conv(channels: int, size: int = 14) -> str:
    """Key of a convolution."""
    return make_op("conv2d", TensorSpec((1, channels, size, size)), kernel=(1, 1), out_channels=16).key


RELU = make_op("relu", TensorSpec((1, 8, 4, 4))).key
THROTTLED = make_op("relu", TensorSpec((1, 16, 4, 4))).key
BROKEN = make_op("softmax", TensorSpec((1, 10))).key
KEYS = (*map(conv, CHANNELS), RELU, THROTTLED)
NATIVES = ("Conv(plain 1x8x14x14)", "Conv(blocked 1x8x14x14)", "Reorder(1x8x14x14)")


def latency_of(key: str) -> int:
    """What the table says of an operator, in ns."""
    return 1000 * (1 + (*KEYS, *NATIVES).index(key))


@dataclass(frozen=True, slots=True)
class Served:
    """A service in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    def client(self, token: str = "") -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=bearer(token), timeout=60)


@contextmanager
def serve(db: Path, *options: str, port: int = 0, errors: bool = False) -> Iterator[Served]:
    """``chamnet serve`` on a port that the system chooses; ended by SIGTERM. With ``errors`` its log can be read."""
    command = [sys.executable, "-c", START, "serve", "--db", str(db), "--port", str(port), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe if errors else None, env=environment, cwd=db.parent, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, f"the service must tell its address, but said {line!r}"
            yield Served(found[0], process)
        finally:
            process.terminate()


@contextmanager
def in_process(db: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of a service in this process, which runs no jobs unless asked to."""
    config = ServiceConfig(str(db), **{"run_jobs": False, **settings})
    with TestClient(create_app(config), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def new_token(db: Path, name: str = "tests", scopes: Sequence[str] = ("read", "write")) -> str:
    """The secret of a new token."""
    with open_store(db) as store:
        return store.tokens.create(name, scopes)


def fill(db: Path) -> None:
    """A table of one engine that minds no layouts, one of an engine that does, a device, and a few accuracies."""
    with open_store(db) as store:
        store.put_device(Device("local-cpu", "a CPU", {"cores": 2}))
        _fill_plain(store)
        _fill_layouts(store)
    with open_samples(db) as samples:
        samples.put([_sample(number) for number in range(24)])


def fill_with_network(db: Path) -> None:
    """The same, and the operators of NETWORK on the fake engine."""
    fill(db)
    with open_store(db) as store:
        workload = Workload(graphs=(build_network(NETWORK),))
        profile(store, find_unit("local-cpu"), Setting("fake", choose_cpus(1)), workload, Progress())


def _fill_plain(store: LutStore) -> None:
    store.put_target(TARGET)
    lowerings = [Lowering(key, "*", (key,), "plain", ("plain",)) for key in KEYS]
    store.put_lowerings(TARGET, lowerings, [NativeOp(key, 64) for key in KEYS])
    doubts = {THROTTLED: ("throttled",)}
    rows = [_measurement(key, doubts.get(key, ())) for key in KEYS]
    store.append(TARGET, SESSION, rows, "batch-1")
    store.quarantine(TARGET, [Quarantined(BROKEN, "crash", "the engine ended with signal 11")])
    store.put_calibration(TARGET, Calibration("macro", 1.02, 0.0, 40.0, ("a", "b"), (0.01, -0.01), created_at=2.0))
    store.put_staircases(TARGET, {("conv2d", "out"): 8})


def _fill_layouts(store: LutStore) -> None:
    plain, blocked, reorder = NATIVES
    store.put_target(LAYOUTS)
    lowerings = [
        Lowering(conv(8), "plain", (plain,), "plain", ("plain",)),
        Lowering(conv(8), "blocked", (reorder, blocked), "blocked", ("plain+blocked",)),
    ]
    store.put_lowerings(LAYOUTS, lowerings, [NativeOp(key, 64) for key in NATIVES])
    store.append(LAYOUTS, SESSION, [_measurement(key) for key in NATIVES], "batch-2")


def _measurement(key: str, doubts: tuple[str, ...] = ()) -> Measurement:
    ns = latency_of(key) + OVERHEAD_NS
    return Measurement(key, ((ns,) * 4, (ns,) * 4), (0.0, 0.25), 1, float(OVERHEAD_NS), 0, doubts)


def _sample(number: int) -> AccuracySample:
    """Networks of ``macro`` whose accuracy follows from their genes."""
    genes = [number // 3**place % 3 for place in range(3)] + [number % 2, (number // 2) % 3, 1, 2, 0]
    accuracy = 80.0 + sum((1 + place / 8) * gene for place, gene in enumerate(genes))
    return AccuracySample("macro", "-".join(map(str, genes)), "digits", "ten epochs", accuracy, number % 2)
