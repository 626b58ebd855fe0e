"""All there is to show on an NVIDIA GPU, in one call of less than ten minutes; ``gpu_all.sh`` makes what it needs.

Outputs of a hundred operators against float64; sums of operators against networks, in batches of 32 and singly, with
CUDA graphs and without; operators profiled a minute; two runs held against each other; ONNX Runtime's providers; energy
through NVML; the comparison with the published ResNets. A part that fails or runs out of time is told, and the next one
goes on. Writes ``gpu.json`` and ``gpu.md``, and each part's own output.

    python -m benchmarks.gpu [--out gpu_results] [--only contract,rate] [--limit-s 585] [--rehearse]

``--rehearse`` goes the same way with tiny sizes on the processor, and shows that the way is open, nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from agent.gpu import describe_gpu, read_gpu, why_no_gpu
from benchmarks.gpu_parts import TINY, Part, Rig, Sizes, parts_of
from benchmarks.gpu_table import markdown
from host.devices import LOCAL_CPU, LOCAL_GPU, find_unit, greet

PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "nvidia-ml-py", "pytest", "numpy")
GRACE_S = 5.0
LAST_CHARACTERS = 400


def main() -> None:
    asked = arguments()
    if not asked.rehearse and (lacking := why_no_gpu()):
        raise SystemExit(f"{lacking}; '--rehearse' goes the same way on the processor")
    asked.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + asked.limit_s
    told = {"rehearsed": asked.rehearse, **describe(asked.rehearse)}
    rig = _rig(asked)
    missing = {name: facts["unavailable"] for name, facts in told["engines"].items() if "unavailable" in facts}
    told["parts"] = []
    for part in _chosen(parts_of(rig, missing), asked.only):
        told["parts"].append(run_part(part, until, asked.out))
        _write(asked.out, told)
    told["gpu_after"] = read_gpu()
    _write(asked.out, told)
    print(f"\n{markdown(told)}\n\n{json.dumps(told)}")


def _rig(asked: argparse.Namespace) -> Rig:
    if asked.rehearse:
        return Rig(LOCAL_CPU, asked.engine, TINY, asked.out.resolve(), ("onnxruntime",))
    return Rig(LOCAL_GPU, "torch-cuda", Sizes(networks=asked.networks), asked.out.resolve())


def describe(rehearsed: bool) -> dict[str, Any]:
    """The machine, its GPU, its packages, and which engines run or why not."""
    hello = greet(find_unit(LOCAL_CPU if rehearsed else LOCAL_GPU))
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "cpu": hello.machine.get("cpu_model"),
        "gpu": describe_gpu(),
        "gpu_before": read_gpu(),
        "packages": versions,
        "engines": hello.engines,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _chosen(parts: Iterable[Part], only: str) -> list[Part]:
    names, parts = set(filter(None, only.split(","))), list(parts)
    if unknown := names - {part.name for part in parts}:
        raise SystemExit(f"--only must be of {', '.join(part.name for part in parts)}, but got {', '.join(unknown)}")
    return [part for part in parts if not names or part.name in names]


def run_part(part: Part, until: float, folder: Path) -> dict[str, Any]:
    """What came of it: done, failed, late (out of time) or skipped; its figures; the end of what it said.

    Args:
        until: the moment (``time.monotonic``) at which everything must be over.
    """
    limit_s = min(part.limit_s, until - time.monotonic())
    if part.skip or limit_s <= 0:
        why = part.skip or "no time is left"
        print(f"{part.name}: skipped, {why}", flush=True)
        return {"part": part.name, "state": "skipped", "why": why}
    print(f"{part.name}: at most {limit_s:.0f} s ...", flush=True)
    start, said = time.monotonic(), [folder / f"{part.name}.{kind}" for kind in ("out", "err")]
    with said[0].open("w") as output, said[1].open("w") as errors:
        status = run_limited(part.command, limit_s, output, errors)
    state, seconds = {0: "done", None: "late"}.get(status, "failed"), round(time.monotonic() - start, 1)
    row: dict[str, Any] = {"part": part.name, "state": state, "seconds": seconds, **_figures(part)}
    if status != 0:
        row["why"] = f"out of {limit_s:.0f} s" if status is None else _last_words(*said)
    print(f"{part.name}: {row['state']} after {row['seconds']:.0f} s {row.get('why', '')}", flush=True)
    return row


def run_limited(command: Iterable[str], limit_s: float, output: IO[str], errors: IO[str]) -> int | None:
    """Its exit status; None where it had to be ended, with all that it started."""
    running = subprocess.Popen(list(command), stdout=output, stderr=errors, start_new_session=True)
    try:
        return running.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    """Its group is told to end, then made to."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(GRACE_S)
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _figures(part: Part) -> dict[str, Any]:
    try:
        return dict(part.read())
    except Exception as error:
        return {"unread": f"{type(error).__name__}: {error}"}


def _last_words(*paths: Path) -> str:
    """The end of the last of these files that says anything."""
    texts = [" ".join(path.read_text(errors="replace").split())[-LAST_CHARACTERS:] for path in paths]
    return next(filter(None, reversed(texts)), "it said nothing")


def _write(folder: Path, told: dict[str, Any]) -> None:
    (folder / "gpu.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "gpu.md").write_text(markdown(told) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_results"))
    parser.add_argument("--only", default="", help="parts, comma-separated")
    parser.add_argument(
        "--networks",
        type=int,
        default=Sizes().networks,
        help="random networks of each validation, not those of --rehearse",
    )
    parser.add_argument("--limit-s", type=float, default=585.0, help="for all of it")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the processor")
    parser.add_argument(
        "--engine", default="torch", help="that rehearses; 'fake' needs no PyTorch and no quiet machine"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
