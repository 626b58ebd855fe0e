"""The bench: a device set up for one Target, with the agent that is running on it now.

A device that vanishes while it is asked something is waited for, and asked again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from agent.protocol import Energise, Measure, Model, Plan, Sampling
from host.delegates import Brought, bring
from host.devices import Unit, agent_environment, device_of
from host.errors import DeviceUnavailable
from host.gate import wait_until_fit
from host.lease import Lease, beating, leased, new_owner
from host.patience import LOSSES, Answer, LostTooOften, await_start, persist
from host.session import AgentDied, AgentSession, Batch, MeteredBatch
from host.setting import Circumstances, Progress, Setting, target_of
from host.transport import Transport
from host.transport.remote import RemoteTransport
from lut_db.energy_plans import MeterPlan, planned_s
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.build import single, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, TensorSpec

SENTINEL = "mobilenet-v2-0.5-128"
"""Timed all along to show how the machine drifts: a network, since neighbours disturb networks before operators. On an
accelerator one convolution, which a delegate takes for certain. On a GPU, too, whose clock is what drifts, and where
each agent would compile a network anew; one that keeps all of it busy for longer than its events can miss."""

BATCH_LIMIT_S = 180.0
MEASURING_LOSSES = 3
"""Times that a device may vanish during one batch, before the batch counts as what ends it."""

LONGER = 2.0
"""Times as long as planned, metering may take: calls that are long end late."""

RENEW_S = 60.0
"""Between heartbeats of the lease while something else than measuring goes on."""

PROBE = "probe_ns"
"""Among a device's facts: the quickest that the agent's fixed arithmetic was ever seen, by what ran it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The beginning of a batch: what is left to doubt about the device, and the time, seconds since the epoch."""

    unfit: tuple[str, ...]
    started_at: float


class Bench:
    """A device, a store and a setting; starts agents as they are needed. Made by ``open_bench``."""

    def __init__(
        self,
        store: LutStore,
        unit: Unit,
        setting: Setting,
        transport: Transport,
        lease: Lease | None,
        progress: Progress,
        register: bool = True,
    ) -> None:
        self.store = store
        self.setting = setting
        self.transport = transport
        self._unit = unit
        self._lease = lease
        self._progress = progress
        self._renewed_at = time.monotonic()
        self._agent: AgentSession | None = None
        self._brought = self._persist(self._bring)
        hello = self._persist(lambda: self.agent.hello)
        if "version" not in hello.engines.get(setting.engine, {}):
            self.fresh()
            reason = hello.engines.get(setting.engine, {}).get("unavailable", "the agent does not know it")
            raise DeviceUnavailable(f"engine {setting.engine!r} must run on {unit.name!r}, but {reason}")
        driven = unit.architecture if transport.on_host else ""
        around = Circumstances(unit.name, unit.emulated, driven, self._brought.libraries)
        self.target: Target = target_of(setting, around, hello)
        self.version = "/".join(filter(None, [str(hello.version), f"python-{hello.python}", transport.origin]))
        self._device = device_of(unit, {} if transport.on_host else hello.machine)
        self._probes = _known_probes(store, unit.name)
        self._gave_up = False
        self._remember()
        if register:
            store.put_target(self.target)

    @property
    def agent(self) -> AgentSession:
        if self._agent is None:
            environment = agent_environment(self.setting.malloc, self.setting.threads)
            cpus = () if self.transport.on_host else self.setting.cpus
            wanted = {**environment, **self._brought.environment}
            self._agent = AgentSession(self.transport, cpus, wanted, hold=self._unit.is_phone)
        return self._agent

    def fresh(self) -> None:
        """Ends the running agent; the next request starts another."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def put(self, graph: Graph) -> str:
        """Exports a Graph; returns the path that it has on the device once something asks for it."""
        return self.put_file(export_graph(graph, self.setting.use.file_format, seed=self.setting.seed))

    def put_file(self, blob: bytes) -> str:
        return self.transport.put(f"{hashlib.sha256(blob).hexdigest()[:24]}.model", blob)

    def optimise(self, path: str) -> str:
        """Lets the engine optimise a model on the device; returns the path of what it made of it."""
        into_path = f"{path}.optimised"

        def ask() -> None:
            self.transport.ready([path])
            self.agent.optimise(self.setting.engine, self._options(whole=True), path, into_path)

        self._persist(ask)
        return into_path

    def fetch(self, path: str) -> bytes:
        """Reads a file of the device."""
        return self._persist(lambda: self.transport.fetch(path))

    def await_moment(self, progress: Progress) -> Moment:
        """Waits until a phone is cool and quick enough, but only once for one that never is; others always are."""
        self._renew()
        gate, unfit = self.setting.gate, tuple[str, ...]()
        if gate is not None:
            gate = replace(gate, patience_s=0.0) if self._gave_up else gate
            unfit = wait_until_fit(self._look, gate, self.setting.cpus, lambda: self._quickest_ns, progress.wait)
            self._gave_up = bool(unfit)
        return Moment(unfit, time.time())

    def measure(self, files: dict[str, str], seed: int, whole: bool = False, sampling: Sampling | None = None) -> Batch:
        """Measures model files by id: operators, or whole networks as exported.

        Raises:
            AgentDied: one of them ends the agent, or the device, whenever they are tried.
        """

        def ask() -> Batch:
            self.transport.ready([self._null, self._sentinel, *files.values()])
            return self.agent.measure(request, BATCH_LIMIT_S)

        request = Measure(
            engine=self.setting.engine,
            options=self._options(whole),
            models=[Model(id, path) for id, path in files.items()],
            null_path=self._null,
            sentinel_path=self._sentinel,
            sampling=sampling or self.setting.sampling or self.setting.use.sampling,
            seed=seed,
        )
        try:
            return self._persist(ask, MEASURING_LOSSES)
        except LostTooOften as losses:
            raise AgentDied("lost", str(losses), tuple(files)) from None

    def energise(
        self, files: dict[str, str], meter: str, options: Mapping[str, Any], plan: MeterPlan, whole: bool = False
    ) -> MeteredBatch:
        """Meters model files by id.

        Raises:
            AgentDied: one of them ends the agent, or the device, whenever they are tried; HostError for the meter.
        """

        def ask() -> MeteredBatch:
            self.transport.ready(list(files.values()))
            return self.agent.energise(request, limit_s)

        models = [Model(id, path) for id, path in files.items()]
        request = Energise(self.setting.engine, self._options(whole), models, meter, dict(options), as_plan(plan))
        limit_s = BATCH_LIMIT_S + LONGER * planned_s(plan)
        try:
            with beating(self._lease):
                return self._persist(ask, MEASURING_LOSSES)
        except LostTooOften as losses:
            raise AgentDied("lost", str(losses), tuple(files)) from None

    def clock(self) -> int:
        """What the agent's clock shows now, in ns."""
        return self._persist(lambda: self.agent.clock())

    def clear(self) -> None:
        """Removes the models put so far, here and on the device, but those that every batch needs."""
        needed = [self.__dict__[name] for name in ("_null", "_sentinel") if name in self.__dict__]
        self._persist(lambda: self.transport.clear(needed))

    def close(self) -> None:
        """Ends the agent and remembers how quick the device was."""
        self.fresh()
        self._remember()

    @cached_property
    def _null(self) -> str:
        return self.put(null_of(self.setting))

    @cached_property
    def _sentinel(self) -> str:
        path = self.put(sentinel_of(self.setting))
        return self.optimise(path) if self.setting.lowers else path

    def _options(self, whole: bool) -> dict[str, Any]:
        return {**self.setting.options(whole), **self._brought.options}

    def _bring(self) -> Brought:
        """What the engine needs on the device. Raises DeviceUnavailable where it cannot run there at all."""
        setting = self.setting
        if self.transport.on_host and not setting.use.binary:
            raise DeviceUnavailable(
                f"engine {setting.engine!r} must run on {self._unit.name!r} itself, but cannot, since "
                f"{self.transport.on_host}; '--engine benchmark_model' is driven from here"
            )
        if setting.delegate is None:
            return Brought()
        return bring(self.transport, setting.accelerator, setting.dtype, setting.cpus, setting.delegate)

    def _look(self) -> dict[str, object]:
        found = dict(self._persist(lambda: self.agent.look()))
        if probe := found.get(PROBE):
            self._probes[self._probed] = min(int(str(probe)), self._quickest_ns or int(str(probe)))
        return found

    def _remember(self) -> None:
        facts = {**self._device.facts, **({PROBE: self._probes} if self._probes else {})}
        self.store.put_device(replace(self._device, facts=facts))

    @property
    def _probed(self) -> str:
        """What decides the probe's time on a cool device: processors and interpreter."""
        return f"cpus {','.join(map(str, self.setting.cpus))} {self.transport.origin}".strip()

    @property
    def _quickest_ns(self) -> int | None:
        return self._probes.get(self._probed)

    def _persist(self, ask: Callable[[], Answer], losses: int = LOSSES) -> Answer:
        """Asks until the device has lived through it. Raises DeviceUnavailable where it does not come back."""
        self._renew(RENEW_S)
        return persist(self.transport, ask, self.setting.patience_s, self._progress, losses, self._drop)

    def _renew(self, after_s: float = 0.0) -> None:
        """The lease's heartbeat, where the last was so long ago."""
        if self._lease is not None and time.monotonic() - self._renewed_at >= after_s:
            self._renewed_at = time.monotonic()
            self._persist(self._lease.renew)

    def _drop(self) -> None:
        """Forgets an agent that is out of reach."""
        if self._agent is not None:
            self._agent.abandon()
            self._agent = None


def null_of(setting: Setting) -> Graph:
    """A model that does next to nothing, in a form that what computes takes."""
    on_cpu = setting.accelerator == "cpu" and not setting.use.on_gpu
    return single(make_op("relu", TensorSpec((1,)) if on_cpu else TensorSpec((1, 4, 4, 4), setting.dtype)))


def sentinel_of(setting: Setting) -> Graph:
    """What is timed beside everything: see SENTINEL."""
    if setting.use.on_gpu:
        image = TensorSpec((32, 64, 56, 56), setting.dtype)
    elif setting.accelerator != "cpu":
        image = TensorSpec((1, 32, 28, 28), setting.dtype)
    else:
        return with_dtype(build_network(SENTINEL), setting.dtype)
    return single(make_op("conv2d", image, out_channels=image.shape[1], kernel=(3, 3)))


def as_plan(plan: MeterPlan) -> Plan:
    return Plan(plan.window_s, plan.idle_s, plan.repeats, plan.settle_s, plan.read_every_s)


def _known_probes(store: LutStore, name: str) -> dict[str, int]:
    found = next((device.facts.get(PROBE) for device in store.devices() if device.name == name), None)
    return dict(found) if isinstance(found, Mapping) else {}


@contextmanager
def open_bench(
    store: LutStore, unit: Unit, setting: Setting, progress: Progress | None = None, register: bool = True
) -> Iterator[Bench]:
    """A bench whose agent and files are gone afterwards.

    Args:
        register: the target goes into the store, since something will be measured for it.

    Raises:
        DeviceUnavailable: the agent does not start, the engine is not there, or another process measures on the device.
    """
    told = progress or Progress()
    with closing(unit.open_transport()) as transport, _held(transport, store, unit, setting, told) as lease:
        bench = Bench(store, unit, setting, transport, lease, told, register)
        try:
            yield bench
        finally:
            bench.close()


@contextmanager
def _held(
    transport: Transport, store: LutStore, unit: Unit, setting: Setting, progress: Progress
) -> Iterator[Lease | None]:
    """This machine may be measured on by several processes; any other device by one."""
    if not isinstance(transport, RemoteTransport):
        yield None
        return
    await_start(transport, setting.patience_s, progress)
    lease = Lease(transport, store.leases, unit.name, new_owner())
    with leased(lease, lambda: persist(transport, lease.take, setting.patience_s, progress)):
        yield lease
