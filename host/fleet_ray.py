"""A Ray cluster as a fleet: which units its hosts announce, and one task for each errand to one of them.

A unit is a custom resource of its host, of which there is one; a task that takes it has the unit to itself. Whoever is
in the cluster runs programs on all hosts: its token is asked for, see ``docs/fleet.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from host.errors import HostError
from lut_db.errors import LutError
from search.evaluators.ray_cluster import connected, prepare

UNIT, DEVICE = "unit:", "device:"
REACHED = "="
"""Between a unit's name and what it is found by there, where that is another: ``unit:pi4@shelf=ssh:pi@shelf``."""
START = "'chamnet fleet head' starts one, 'chamnet fleet join ADDRESS' joins one"


class HostGone(HostError):
    """A host, or the process on it that did an errand, has ended.

    Attributes:
        crashed: the process alone did, so that what it was given may be to blame.
    """

    def __init__(self, message: str, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


@dataclass(frozen=True, slots=True)
class Announced:
    """A unit of a host that is there.

    Attributes:
        name: as in the database, ``snapdragon835@SERIAL``.
        reach: what it is found by on its host.
        address: the host's.
    """

    name: str
    reach: str
    host: str
    address: str

    @property
    def resource(self) -> str:
        return resource_of(self.name, self.reach)

    @property
    def title(self) -> str:
        """What its model is called."""
        return title_of(self.name)


def title_of(unit: str) -> str:
    return unit.rpartition("@")[0] or unit


def resource_of(name: str, reach: str) -> str:
    return f"{UNIT}{name}" if reach == name else f"{UNIT}{name}{REACHED}{reach}"


def resources_of(units: Sequence[tuple[str, str]]) -> dict[str, float]:
    """What a host announces: each unit by name and reach, and how many there are of each device."""
    found = {resource_of(name, reach): 1.0 for name, reach in units}
    for name, _ in units:
        device = f"{DEVICE}{title_of(name)}"
        found[device] = found.get(device, 0.0) + 1.0
    return found


def prepare_ray() -> None:
    """To be called before Ray is imported for the first time. Raises HostError where it is not installed."""
    with _told():
        prepare()


@dataclass(frozen=True, slots=True)
class Errand:
    """A task that was started on a unit."""

    reference: Any
    started_s: float


class Fleet:
    """A cluster that this process is connected to. Made by ``open_fleet``."""

    def units(self) -> dict[str, Announced]:
        """Every unit of a host that is there, by name."""
        import ray

        found: dict[str, Announced] = {}
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            for resource in node["Resources"]:
                if resource.startswith(UNIT):
                    name, _, reach = resource.removeprefix(UNIT).partition(REACHED)
                    told = (node["NodeManagerHostname"], node["NodeManagerAddress"])
                    found[name] = Announced(name, reach or name, *told)
        return found

    def free(self) -> set[str]:
        """Units on which no task runs."""
        import ray

        left = ray.available_resources()
        return {name for name, unit in self.units().items() if left.get(unit.resource, 0) >= 1}

    def hosts(self) -> list[tuple[str, str, bool]]:
        """Name, address and whether it is there, of every host that ever joined."""
        import ray

        return [(node["NodeManagerHostname"], node["NodeManagerAddress"], node["Alive"]) for node in ray.nodes()]

    @property
    def address(self) -> str:
        """Of the host that this process runs on."""
        import ray

        return str(ray.util.get_node_ip_address())

    def start(self, unit: Announced, work: Callable[..., Any], *arguments: Any) -> Errand:
        """Has the unit's host do some work, once, while nobody else has the unit."""
        import ray

        remote = ray.remote(num_cpus=0, max_retries=0)(work)
        return Errand(remote.options(resources={unit.resource: 1}).remote(*arguments), time.monotonic())

    def wait(self, errands: Sequence[Errand], limit_s: float) -> list[Errand]:
        """Those that ended by then, at least one of them unless it takes longer."""
        import ray

        known = {errand.reference: errand for errand in errands}
        if not known:
            time.sleep(limit_s)
            return []
        ready, _ = ray.wait(list(known), timeout=limit_s)
        return [known[reference] for reference in ready]

    def result(self, errand: Errand) -> Any:
        """What the work came to. Raises HostGone; whatever the work raised."""
        import ray

        try:
            return ray.get(errand.reference)
        except ray.exceptions.RayTaskError as error:
            raise HostGone(f"the host's program failed: {_last_line(str(error))}", crashed=True) from None
        except ray.exceptions.WorkerCrashedError:
            raise HostGone("the host's process has ended", crashed=True) from None
        except ray.exceptions.RayError as error:
            raise HostGone(f"the host has ended ({type(error).__name__})") from None

    def cancel(self, errand: Errand) -> None:
        """Ends it and its process; harmless when it has ended."""
        import ray

        with suppress(ray.exceptions.RayError, ValueError, TypeError):
            ray.cancel(errand.reference, force=True)


@contextmanager
def open_fleet(address: str = "") -> Iterator[Fleet]:
    """Connects to the cluster whose head or host runs on this computer; to one of this process where there is one.

    What Ray has to say meanwhile, of a host that died for instance, goes to standard error.

    Raises:
        HostError: there is no cluster, it does not let this process in, or Ray is not installed.
    """
    with ExitStack() as stack:
        with _told():
            stack.enter_context(connected(address or "auto", START))
        yield Fleet()


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a cluster, as an error of the host."""
    try:
        yield
    except LutError as error:
        raise HostError(str(error)) from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason"
