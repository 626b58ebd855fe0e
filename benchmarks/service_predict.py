"""How long a model takes from upload to price: MobileNetV2 as an ONNX file, sent to a service in a process of its own.

python -m benchmarks.service_predict [--uploads 100] [--pause-s 0.2] [--network mobilenet-v2] [--format onnx]

The table is measured here first (LiteRT, a few seconds).
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.store import open_store
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.parse import parse_model

WARM = 3
PARTS = re.compile(r"(\w+);dur=([\d.]+)")
START = "from host.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--pause-s", type=float, default=0.2, help="between two uploads")
    parser.add_argument("--network", default="mobilenet-v2")
    parser.add_argument("--format", choices=("onnx", "tflite"), default="onnx")
    options = parser.parse_args()
    graph = build_network(options.network)
    model = export_graph(graph, options.format)
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "lut.db"
        with open_store(db) as store:
            profile(
                store, find_unit("local-cpu"), Setting("litert", choose_cpus(1)), Workload(graphs=(graph,)), Progress()
            )
            token = store.tokens.create("benchmark", ("read", "write"))
        print(f"{options.network}.{options.format}: {len(model) / 1e6:.1f} MB, {len(graph.nodes)} operators, "
              f"parsed in this process in {1e3 * quickest(lambda: parse_model(model)):.0f} ms")  # fmt: skip
        with serve(db) as url, httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
            for _ in range(WARM):
                upload(client, model)
            report(
                f"{options.pause_s:g} s apart", [upload(client, model, options.pause_s) for _ in range(options.uploads)]
            )
            report("one after the other", [upload(client, model) for _ in range(options.uploads)])


def upload(client: httpx.Client, model: bytes, pause_s: float = 0.0) -> dict[str, float]:
    """Milliseconds in all, and of its parts."""
    time.sleep(pause_s)
    start = time.perf_counter()
    headers = {"Content-Type": "application/octet-stream"}
    answer = client.post("/v1/predictions/model", params={"target": "litert"}, content=model, headers=headers)
    total_ms = 1e3 * (time.perf_counter() - start)
    answer.raise_for_status()
    parts = {name: float(ms) for name, ms in PARTS.findall(answer.headers["Server-Timing"])}
    return {"in all": total_ms, **parts, "rest": total_ms - sum(parts.values())}


def report(what: str, uploads: Sequence[dict[str, float]]) -> None:
    print(f"{len(uploads)} uploads, {what}")
    for part in uploads[0]:
        times = sorted(times[part] for times in uploads)
        p99 = times[min(len(times) - 1, round(0.99 * len(times)))]
        print(f"  {part:8s} median {statistics.median(times):6.1f} ms, p99 {p99:6.1f} ms, longest {times[-1]:6.1f} ms")


def quickest(work) -> float:  # type: ignore[no-untyped-def]
    """Seconds, of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@contextmanager
def serve(db: Path) -> Iterator[str]:
    """The address of a service that runs meanwhile."""
    command = [sys.executable, "-c", START, "serve", "--db", str(db), "--port", "0", "--no-jobs", "--rate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
