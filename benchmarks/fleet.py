"""How a fleet's sweep scales, and what faults cost it: ``python -m benchmarks.fleet``.

Four virtual phones on three nodes of Ray on this machine sweep the same operators as one phone, then once more while
a node is killed and a phone is unplugged, both amid operators that are measured by one only. Measuring an operator
takes ``--call`` seconds of real time, in which nothing is computed, since the fake engine's own time is made up:
without, one processor would do all phones' work. What is computed beside it (agents, ADB, Ray, the database) is real,
and shares this machine's processors. Each trial is a process that is waited for, and whatever it starts ends with it.

Lost: operators that no unit's table settles. Doubled: clean measurements in one unit's table beyond an entry's passes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from host.fleet_split import LEAST_OVERLAP, MOST_OVERLAP, OVERLAP
from tests import fleet_trial
from tests.fleet_trial import PASSES, How

LIMIT_S = 3000.0
WIDTH = 110


def main() -> None:
    parser = argparse.ArgumentParser(description="a fleet's sweep: scaling and faults")
    parser.add_argument("--operators", type=int, default=2000)
    parser.add_argument("--call", type=float, default=0.04, help="seconds that measuring an operator once takes")
    parser.add_argument("--only", choices=("one", "four", "faults"), help="by default all three")
    parser.add_argument("--json", type=Path, help="write what came of it into a file")
    options = parser.parse_args()
    faults = {"kill_at": rows(options.operators, 0.3), "unplug_at": rows(options.operators, 0.5), "repeat": True}
    trials: dict[str, dict[str, Any]] = {"one": {"units": 1}, "four": {"units": 4}, "faults": {"units": 4, **faults}}
    found: dict[str, dict[str, Any]] = {}
    failure = ""
    with tempfile.TemporaryDirectory(prefix="chamnet-fleet-") as folder:
        for name, more in trials.items():
            if options.only in (None, name):
                into = Path(folder) / name
                how = How(f"{into}.db", options.operators, batch=64, call_s=options.call, limit_s=LIMIT_S, **more)
                print(f"trial {name!r} runs ...", file=sys.stderr)
                try:
                    found[name] = fleet_trial.start(how, into)
                except subprocess.SubprocessError as error:
                    failure = f"trial {name!r} failed: {told_by(error)}"
                    break
    show(found, options.operators)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if failure:
        sys.exit(failure)


def told_by(error: subprocess.SubprocessError) -> str:
    """The last words of a process that failed, or how long it took."""
    if isinstance(error, subprocess.CalledProcessError):
        return str(error.stderr)[-2000:]
    return f"it must end within {LIMIT_S:.0f} s"


def show(found: dict[str, dict[str, Any]], operators: int) -> None:
    table = Table(title=f"{operators} operators, fake engine, {os.cpu_count()} processors", title_justify="left")
    for heading in ("units", "faults", "seconds", "against one", "at most", "given back", "left", "lost", "doubled"):
        table.add_column(heading, justify="left" if heading == "faults" else "right")
    seconds = {name: told["first"][0]["seconds"] for name, told in found.items()}
    for name, told in found.items():
        first, units = told["first"][0], len(told["first"][0]["units"])
        scaling = f"{seconds['one'] / seconds[name]:.2f}" if "one" in seconds else ""
        table.add_row(
            str(units), ", ".join(told["faults"]) or "none", f"{seconds[name]:.0f}", scaling,
            f"{most(operators, units):.2f}" if not told["faults"] else "", str(first["given_back"]), str(first["left"]),
            str(told["lost"]), str(told["doubled"]),
        )  # fmt: skip
    Console(width=WIDTH).print(table)


def most(operators: int, units: int) -> float:
    """The scaling where nothing but measuring takes time: every unit measures the overlap."""
    shared = overlap(operators)
    return operators / ((operators - shared) / units + shared)


def rows(operators: int, share: float) -> int:
    """Measurements that a unit has stored after the overlap and a share of what is its own, were the four alike."""
    shared = overlap(operators)
    return round(PASSES * (shared + share * (operators - shared) / 4))


def overlap(operators: int) -> int:
    return max(LEAST_OVERLAP, min(MOST_OVERLAP, round(OVERLAP * operators)))


if __name__ == "__main__":
    main()
