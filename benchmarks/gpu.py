"""All there is to show on an NVIDIA GPU, in one call of less than ten minutes; ``gpu_all.sh`` makes what it needs.

Sums of operators against networks, in batches of 32 and singly, with CUDA graphs and without; operators profiled a
minute; two runs held against each other; outputs of a hundred operators against float64; the comparison with the
published ResNets; ONNX Runtime's providers; energy through NVML. A part has a time that no earlier one takes from it,
and what no later one needs. One that fails or runs out of time is told, and the next one goes on. Writes ``gpu.json``
and ``gpu.md``, and each part's own output.

    python -m benchmarks.gpu [--out gpu_results] [--only torch-batch,rate] [--limit-s 580] [--rehearse]

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from agent.gpu import describe_gpu, read_gpu, why_no_gpu
from benchmarks.gpu_parts import LUT, TINY, UNTIL, Part, Rig, Sizes, parts_of, remove
from benchmarks.gpu_table import markdown
from host.devices import LOCAL_CPU, LOCAL_GPU, find_unit, greet
from host.errors import HostError
from host.transport import Launch

PACKAGES = ("torch", "onnxruntime", "nvidia-ml-py", "pytest", "numpy")
LIMIT_S = 580.0
"""For all parts: ten minutes hold them, and what comes before and after them."""
GRACE_S = 5.0
"""How long a part that is out of time may clean up, beyond its limit."""
MARGIN_S = 10.0
"""How long before its end a part is told to end by itself."""
LAST_CHARACTERS = 400
RESULTS = "gpu.json"


def main() -> None:
    asked = arguments()
    if not asked.rehearse and (lacking := why_no_gpu()):
        raise SystemExit(f"{lacking}; '--rehearse' goes the same way on the processor")
    asked.out.mkdir(parents=True, exist_ok=True)
    rig = _rig(asked)
    told = {"rehearsed": asked.rehearse, **describe(rig), "parts": []}
    until = time.monotonic() + asked.limit_s
    chosen = _chosen(parts_of(rig, _missing(told["engines"])), asked.only)
    if asked.only:
        told["parts"] = kept_rows(asked.out / RESULTS, told)
    else:
        remove([rig.folder / LUT])
    _write(asked.out, told)
    for number, part in enumerate(chosen, 1):
        row = run_part(part, share_s(part, chosen[number:], until - time.monotonic()), asked.out)
        told["parts"] = with_row(told["parts"], row)
        _write(asked.out, told)
    told["gpu_after"] = read_gpu()
    _write(asked.out, told)
    print(f"\n{markdown(told)}\n\n{json.dumps(told)}")


def _rig(asked: argparse.Namespace) -> Rig:
    folder = asked.out.resolve()
    if asked.rehearse:
        return Rig(LOCAL_CPU, asked.engine, TINY, folder, ("onnxruntime",), asked.agent_python)
    return Rig(LOCAL_GPU, "torch-cuda", Sizes(networks=asked.networks), folder, agent_python=asked.agent_python)


def describe(rig: Rig) -> dict[str, Any]:
    """The machine, its GPU, its packages, and which engines run or why not."""
    hello = greet(find_unit(rig.device))
    return {
        "python": platform.python_version(),
        "cpu": hello.machine.get("cpu_model"),
        "gpu": describe_gpu(),
        "gpu_before": read_gpu(),
        "packages": {name: _version(name) for name in PACKAGES},
        "engines": {**hello.engines, **_providers(rig)},
    }


def _providers(rig: Rig) -> dict[str, dict[str, str]]:
    """What the Python of the providers' agents has; where it runs none, why."""
    if not rig.agent_python:
        return {}
    try:
        engines = greet(find_unit(rig.device, Launch(rig.agent_python))).engines
    except (HostError, OSError) as error:
        return {name: {"unavailable": f"{rig.agent_python} must run an agent, but {error}"} for name in rig.providers}
    return {name: engines[name] for name in rig.providers}


def _missing(engines: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Why parts cannot run, by the engine, or the package, that they need."""
    missing = {name: facts["unavailable"] for name, facts in engines.items() if "unavailable" in facts}
    if find_spec("pytest") is None:
        missing["pytest"] = "pytest must be installed, but is not; 'pip install pytest' brings it"
    return missing


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


def kept_rows(path: Path, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of an earlier run, to which single ones are added; none where there was none.

    Raises SystemExit where they are of another GPU or driver, or the one run is a rehearsal and the other is not.
    """
    if not path.exists():
        return []
    before = json.loads(path.read_text())
    if _ran_on(before) != _ran_on(told):
        raise SystemExit(
            f"--only must add to what is of {_ran_on(told)}, but {path} is of {_ran_on(before)}; name another '--out'"
        )
    return list(before["parts"])


def _ran_on(told: Mapping[str, Any]) -> str:
    """Two GPUs of a kind are the same, as they are one Target."""
    facts = " ".join(str(value) for name, value in told["gpu"].items() if name != "uuid")
    return "a rehearsal" if told["rehearsed"] else facts


def with_row(rows: Iterable[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with this one in place of its part's, or after all."""
    return list({**{each["part"]: each for each in rows}, row["part"]: row}.values())


def share_s(part: Part, later: Sequence[Part], left_s: float) -> float:
    """What a part may take of the time that is left: its own, and what those after it do not need, should every part be
    out of time and clean up for as long as it may."""
    needed_s = sum(other.limit_s + GRACE_S for other in later if other.limit_s and not other.skip)
    return min(left_s, max(part.limit_s, left_s - needed_s))


def run_part(part: Part, limit_s: float, folder: Path) -> dict[str, Any]:
    """What came of it: done, failed, late (out of time) or skipped; its figures; the end of what it said.

    Files that it writes are removed before.
    """
    said = [folder / f"{part.name}.{kind}" for kind in ("out", "err")]
    remove([*part.leaves, *said])
    if part.skip or limit_s <= 0:
        return _skipped(part, part.skip or "no time is left")
    print(f"{part.name}: at most {limit_s:.0f} s ...", flush=True)
    start = time.monotonic()
    with said[0].open("w") as output, said[1].open("w") as errors:
        status = run_limited(part.command, limit_s, output, errors)
    seconds, figures = round(time.monotonic() - start, 1), _figures(part)
    if status == 0 and not figures:
        return _skipped(part, _last_words(*said))
    state = {0: "done", None: "late"}.get(status, "failed")
    row: dict[str, Any] = {"part": part.name, "state": state, "seconds": seconds, **figures}
    if status != 0:
        row["why"] = f"out of {limit_s:.0f} s" if status is None else _last_words(*said)
    print(f"{part.name}: {row['state']} after {row['seconds']:.0f} s {row.get('why', '')}", flush=True)
    return row


def _skipped(part: Part, why: str) -> dict[str, Any]:
    print(f"{part.name}: skipped, {why}", flush=True)
    return {"part": part.name, "state": "skipped", "why": why}


def run_limited(command: Iterable[str], limit_s: float, output: IO[str], errors: IO[str]) -> int | None:
    """Its exit status; None where it had to be ended, with all that it started."""
    environment = {**os.environ, UNTIL: str(time.monotonic() + limit_s - MARGIN_S)}
    with _interruptible():
        running = subprocess.Popen(list(command), stdout=output, stderr=errors, env=environment, start_new_session=True)
    try:
        return running.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(running)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """What is started meanwhile hears SIGINT, also where a shell's background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(running: subprocess.Popen[bytes]) -> None:
    """What it started is killed, agents in groups of their own, too; it may clean up for a moment, as at Ctrl-C."""
    started = descendants(running.pid) if running.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGINT)
        _kill(started)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(GRACE_S)
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Processes that it started, and theirs, whatever their groups."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


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
    partial = folder / f"{RESULTS}.partial"
    partial.write_text(json.dumps(told, indent=1) + "\n")
    partial.replace(folder / RESULTS)
    (folder / "gpu.md").write_text(markdown(told) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_results"))
    parser.add_argument("--only", default="", help="parts, comma-separated; what others left before is kept")
    parser.add_argument("--agent-python", default="", help="the Python of ONNX Runtime's providers, for their agents")
    parser.add_argument(
        "--networks",
        type=int,
        default=Sizes().networks,
        help="random networks of each validation, not those of --rehearse",
    )
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="for all parts")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the processor")
    parser.add_argument(
        "--engine", default="torch", help="that rehearses; 'fake' needs no PyTorch and no quiet machine"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
