"""``chamnet fleet``: several hosts' units as one, by way of Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import make_url

from host import show
from host.cli_options import DEFAULT_DB, AgentPython, Asked, Cpus, Dtypes, Engines, Json, Seed, Threads
from host.cli_workload import workload_of
from host.demo import DEMO_NETWORKS
from host.errors import EXIT_PARTLY, UsageError
from host.fleet import Sweep, run_sweep
from host.fleet_factors import LIMIT
from host.fleet_node import PORT, find_units, head_command, join_command, make_token, run_node
from host.fleet_ray import Fleet, open_fleet, prepare_ray
from host.fleet_split import OVERLAP
from host.fleet_worker import Order
from host.lease import who
from host.show_fleet import show_status, show_sweep, sweep_progress, told_of
from host.spread import db_anywhere
from host.transport import Launch
from lut_db.database import url_of
from lut_db.store import open_store

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Units of several hosts (docs/fleet.md).")

Address = Annotated[str, typer.Option(help="ADDRESS:PORT of the fleet, where several run on this computer")]
NodeAddress = Annotated[str, typer.Option("--host", help="this host's address, where it has several")]
Boards = Annotated[list[str] | None, typer.Option("--board", help="ssh:user@host of a Linux board; repeat for several")]
RayOptions = Annotated[
    list[str] | None,
    typer.Option("--ray", help="a further option of 'ray start', such as min-worker-port=20000; repeat for several"),
]
LEASE_MIN = 15.0


@app.callback()
def fleet() -> None:
    """Units of several hosts (docs/fleet.md)."""


@app.command("head")
def head_command_line(
    host: NodeAddress = "",
    port: Annotated[int, typer.Option(help="where other hosts join")] = PORT,
    board: Boards = None,
    ray: RayOptions = None,
) -> None:
    """Start a fleet with this host's units, in the foreground until it is interrupted."""
    prepare_ray()
    make_token()
    run_node(head_command(host, port, _found(board), _ray_options(ray)))


@app.command("join")
def join_command_line(
    address: Annotated[str, typer.Argument(help="ADDRESS:PORT of the fleet's head")],
    host: NodeAddress = "",
    board: Boards = None,
    ray: RayOptions = None,
) -> None:
    """Join a fleet with this host's units, in the foreground until it is interrupted."""
    prepare_ray()
    run_node(join_command(address, host, _found(board), _ray_options(ray)))


@app.command("status")
def status_command(
    address: Address = "",
    db: Annotated[str, typer.Option(help="tell who measures on each unit by this database")] = "",
    as_json: Json = False,
) -> None:
    """Show the hosts of the fleet and their units."""
    with open_fleet(address) as there:
        free = there.free()
        hosts = [
            {"host": name, "address": at, "state": "there" if alive else "gone"} for name, at, alive in there.hosts()
        ]
        units = [
            {"unit": name, "host": unit.host, "address": unit.address, "state": "free" if name in free else "at work"}
            for name, unit in sorted(there.units().items())
        ]
    if db:
        with open_store(db, create=False) as store:
            held = {unit: who(lease.owner) for unit, lease in store.leases.held().items()}
        units = [{**unit, "held by": held.get(unit["unit"], "nobody")} for unit in units]
    if as_json:
        print(json.dumps({"hosts": hosts, "units": units}, indent=1))
    else:
        show_status(hosts, units)


@app.command("profile")
def profile_command(
    device: Annotated[str, typer.Option(help="chips, models or units of the fleet, comma-separated")],
    all_hosts: Annotated[bool, typer.Option("--all-hosts", help="units of every host, not of this one alone")] = False,
    engine: Engines = "",
    space: Annotated[str, typer.Option(help="every operator of a search space, or of --networks random ones")] = "",
    networks: Annotated[int, typer.Option(help="with --space: so many random networks of it")] = 0,
    ops: Annotated[Path | None, typer.Option(help="an operators file")] = None,
    network: Annotated[str, typer.Option(help="networks by name, comma-separated")] = "",
    dtype: Dtypes = "float32",
    threads: Threads = "1",
    cpus: Cpus = "",
    db: Annotated[str, typer.Option(help="the database: a server's URL; a file where all is on one host")] = DEFAULT_DB,
    limit: Annotated[int, typer.Option(help="at most so many operators; 0 for all")] = 0,
    overlap: Annotated[float, typer.Option(help="share of operators that every unit measures", min=0, max=1)] = OVERLAP,
    unit_limit: Annotated[
        float, typer.Option(help="how far a unit may be from the others to be merged: 0.1 for 10 %", min=0.001)
    ] = LIMIT,
    patience: Annotated[
        float, typer.Option(help="minutes to wait for a unit that works, or is hot", min=0)
    ] = LEASE_MIN,
    as_json: Json = False,
    seed: Seed = 0,
    agent_python: AgentPython = "",
    address: Address = "",
) -> None:
    """Measure operators on all units of a device at once; a second call goes on where it stopped.

    Units that are alike share the work, different ones work side by side. Without --space, --ops or --network: the
    operators of ChamNet-A...F and MobileNetV2.
    """
    if not (space or ops or network):
        network = ",".join(DEMO_NETWORKS)
    workload = workload_of(space, networks, ops, network, limit, seed)
    devices = tuple(filter(None, device.split(",")))
    if not devices:
        raise UsageError(f"--device must name chips, models or units, but got {device!r}; see 'chamnet fleet status'")
    found = []
    with open_fleet(address) as there:
        at = "" if all_hosts else there.address
        url = reached_by_all(db, there, at)
        sweep = Sweep(devices, workload, at, overlap, unit_limit, seed, 60 * patience)
        with open_store(url) as store:
            for asked in _each(Asked(engine, dtype, threads, cpus, seed, patience)):
                order = Order(url, "", "", asked, Launch(agent_python))
                with sweep_progress() as tell:
                    groups = run_sweep(there, store, order, sweep, tell)
                found += [told_of(store, group) for group in groups]
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for told in found:
            show_sweep(told)
    if any(told[name] for told in found for name in ("left", "quarantined", "refused", "refused_units")):
        raise typer.Exit(EXIT_PARTLY)


def reached_by_all(db: str, there: Fleet, address: str) -> str:
    """The database's URL as every host may use it.

    Raises:
        UsageError: it is a file, and units are on other hosts; or it is neither file nor server.
    """
    url = url_of(db)
    if not url.startswith("sqlite"):
        return url
    others = {unit.host for unit in there.units().values() if address in ("", unit.address)}
    elsewhere = {unit.address for unit in there.units().values() if address in ("", unit.address)} - {there.address}
    if elsewhere:
        raise UsageError(
            f"--db must be a server that every host reaches, such as postgresql+psycopg://user@server/chamnet, but got "
            f"the file {make_url(url).database!r} and units on {', '.join(sorted(others))}; 'chamnet db copy' moves a "
            "file's content to a server"
        )
    return db_anywhere(db)


def _each(asked: Asked) -> list[Asked]:
    """One for each engine, element type and number of threads."""
    return [
        Asked(engine, dtype, threads, asked.cpus, asked.seed, asked.patience_min)
        for engine in asked.engine.split(",")
        for dtype in asked.dtype.split(",")
        for threads in asked.threads.split(",")
    ]


def _found(boards: list[str] | None) -> list[tuple[str, str]]:
    units = find_units(boards or [])
    for name, reach in units:
        show.errors.print(f"unit {name}" + ("" if reach == name else f" by {reach}"), highlight=False)
    if not units:
        show.errors.print("no unit here: connect a phone, or name a board with --board, and start this anew")
    return units


def _ray_options(options: list[str] | None) -> list[str]:
    return [f"--{option.removeprefix('--')}" for option in options or []]
