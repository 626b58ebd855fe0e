"""How many look-ups a second the service answers, single ones and batches, and whether it stays so with a million rows.

python -m benchmarks.service_load [--rows 10000 1000000] [--seconds 10] [--connections 16]

Needs the program ``wrk``, which asks from this same machine and takes its share of it. All rows are made up, in
databases of their own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.lookups import drawn, generated_store
from tests.api_service import Served, serve

PATHS, BODIES = 20_000, 16
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
SINGLE = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
request = function() return wrk.format("GET", paths[math.random(#paths)]) end
"""
BATCH = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
request = function() return wrk.format(nil, nil, nil, bodies[math.random(#bodies)]) end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw; latencies in ms."""

    requests_s: float
    median_ms: float
    p99_ms: float
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk must be installed, but is not on the PATH; 'apt-get install wrk' brings it")
    singles, rates = [], []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            single, batch = loads(Path(folder), rows, options.batch, options.connections, options.seconds)
        tell(f"{rows} rows, single, {options.connections} connections", single, 1)
        tell(f"{rows} rows, {options.batch} keys a request", batch, options.batch)
        singles.append(single.requests_s)
        rates.append(batch.requests_s)
    print(f"last to first: single {singles[-1] / singles[0]:.2f}, batch {rates[-1] / rates[0]:.2f}")


def loads(folder: Path, rows: int, batch: int, connections: int, seconds: int) -> tuple[Load, Load]:
    """A service on a new database under both kinds of load, one after the other."""
    db = folder / "generated.db"
    target, rng = generated_store(db, rows), np.random.default_rng(0)
    entries = f"/v1/targets/{target.id}/entries"
    keys = drawn(rng, rows, PATHS)
    single = script(folder / "single", SINGLE, [f"{entries}?key={quote(key, safe='')}" for key in keys])
    bodies = [json.dumps({"keys": drawn(rng, rows, batch)}) for _ in range(BODIES)]
    many = script(folder / "batch", BATCH, bodies)
    with serve(db, "--no-jobs") as served:
        warm = run(served, "/", single, connections, 2)
        assert warm.requests_s > 0
        return run(served, "/", single, connections, seconds), run(served, entries, many, 2, seconds)


def script(path: Path, text: str, lines: Sequence[str]) -> Path:
    """A wrk script that asks what is in a file."""
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    path.with_suffix(".lua").write_text(text % path.with_suffix(".txt"))
    return path.with_suffix(".lua")


def run(served: Served, path: str, lua: Path, connections: int, seconds: int) -> Load:
    command = [
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "30s",
        "--latency", "--script", str(lua), served.url.rstrip("/") + path,
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failures = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    failed = int(failures[1]) if failures else 0
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", said)[1])
    return Load(rate, _ms("50%", said), _ms("99%", said), failed)


def _ms(share: str, said: str) -> float:
    found = _found(rf"{share}\s+([\d.]+)(us|ms|s)", said)
    return float(found[1]) * UNITS_MS[found[2]]


def _found(pattern: str, said: str) -> re.Match[str]:
    found = re.search(pattern, said)
    assert found, said
    return found


def tell(what: str, load: Load, keys: int) -> None:
    rate = f"{load.requests_s:.0f} requests/s" if keys == 1 else f"{load.requests_s * keys:.0f} keys/s"
    print(f"{what}: {rate}, median {load.median_ms:.2f} ms, p99 {load.p99_ms:.1f} ms, failed {load.failed}", flush=True)


if __name__ == "__main__":
    main()
