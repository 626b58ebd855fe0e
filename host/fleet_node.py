"""A host of a fleet: finds its units, and runs Ray in the foreground until it is interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from host.devices import SSH, find_unit
from host.errors import HostError
from host.fleet_ray import prepare_ray, resources_of
from host.phones import list_phones

RAY = (sys.executable, "-m", "ray.scripts.scripts")
PORT = 6379
STORE_BYTES = 80 << 20
"""Ray's memory for what tasks hand each other, which here is little."""
END_S = 60.0
"""Ray gives tasks half a minute to end."""


def find_units(boards: Sequence[str]) -> list[tuple[str, str]]:
    """Name and reach of every phone that is ready, and of these boards. Raises DeviceUnavailable for a board."""
    phones = [find_unit(phone.serial).name for phone in list_phones(start_server=True) if phone.is_ready]
    named = [board if board.startswith(SSH) else f"{SSH}{board}" for board in boards]
    return [*((name, name) for name in phones), *((find_unit(board).name, board) for board in named)]


def make_token() -> None:
    """The secret that hosts of a fleet share, in this person's home; what is there stays. Raises HostError."""
    prepare_ray()
    command = [*RAY, "get-auth-token", "--generate"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"Ray must have a token, but got: {done.stderr.strip()}")


def head_command(host: str, port: int, units: Sequence[tuple[str, str]], more: Sequence[str] = ()) -> list[str]:
    """The command line of the fleet's first host."""
    return [*_start(host, units), "--head", f"--port={port}", "--include-dashboard=false", *more]


def join_command(address: str, host: str, units: Sequence[tuple[str, str]], more: Sequence[str] = ()) -> list[str]:
    """The command line of any other host."""
    return [*_start(host, units), f"--address={address}", *more]


def _start(host: str, units: Sequence[tuple[str, str]]) -> list[str]:
    return [
        *RAY, "start", "--block", "--disable-usage-stats",
        *([f"--node-ip-address={host}"] if host else []),
        f"--object-store-memory={STORE_BYTES}", f"--resources={json.dumps(resources_of(units))}",
    ]  # fmt: skip


def run_node(command: Sequence[str]) -> None:
    """Runs it until it ends or this process is interrupted. Raises HostError where it ends by itself."""
    prepare_ray()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return
    raise HostError(f"Ray must run until it is interrupted, but ended with exit status {status}; its words are above")
