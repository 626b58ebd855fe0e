"""The bench: a device set up for one Target, with the agent that is running on it now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

from agent.protocol import Measure, Model, Sampling
from host.devices import Unit, agent_environment, local_device
from host.errors import DeviceUnavailable
from host.session import AgentSession, Batch
from host.setting import Setting, target_of
from host.transport import Transport
from lut_db.records import Target
from lut_db.store import LutStore
from ops_catalog.build import single, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, TensorSpec

SENTINEL = "mobilenet-v2-0.5-128"
"""Timed all along to show how the machine drifts: a network, since neighbours disturb networks before operators."""

BATCH_LIMIT_S = 180.0


class Bench:
    """A device, a store and a setting; starts agents as they are needed. Made by ``open_bench``."""

    def __init__(self, store: LutStore, unit: Unit, setting: Setting, transport: Transport) -> None:
        self.store = store
        self.setting = setting
        self.transport = transport
        self._agent: AgentSession | None = None
        hello = self.agent.hello
        if "version" not in hello.engines.get(setting.engine, {}):
            reason = hello.engines.get(setting.engine, {}).get("unavailable", "the agent does not know it")
            raise DeviceUnavailable(f"engine {setting.engine!r} must run on {unit.name!r}, but {reason}")
        self.target: Target = target_of(setting, unit.name, hello)
        self.version = f"{hello.version}/python-{hello.python}"
        store.put_device(local_device(hello))
        store.put_target(self.target)
        self._null = self.put(single(make_op("relu", TensorSpec((1,)))))
        self._sentinel = self._put_sentinel()

    @property
    def agent(self) -> AgentSession:
        if self._agent is None:
            environment = agent_environment(self.setting.malloc, self.setting.threads)
            self._agent = AgentSession(self.transport, self.setting.cpus, environment)
        return self._agent

    def fresh(self) -> None:
        """Ends the running agent; the next request starts another."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def put(self, graph: Graph) -> str:
        """Exports a Graph onto the device; returns its path there."""
        blob = export_graph(graph, self.setting.use.file_format, seed=self.setting.seed)
        return self.put_file(graph.name + graph.dtype, blob)

    def put_file(self, key: str, blob: bytes) -> str:
        return self.transport.put(f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.model", blob)

    def optimise(self, path: str) -> str:
        """Lets the engine optimise a model on the device; returns the path of what it made of it."""
        into_path = f"{path}.optimised"
        self.agent.optimise(self.setting.engine, self.setting.options(whole=True), path, into_path)
        return into_path

    def measure(self, files: dict[str, str], seed: int, whole: bool = False, sampling: Sampling | None = None) -> Batch:
        """Measures model files by id: operators, or whole networks as exported. Raises AgentDied."""
        request = Measure(
            engine=self.setting.engine,
            options=self.setting.options(whole),
            models=[Model(id, path) for id, path in files.items()],
            null_path=self._null,
            sentinel_path=self._sentinel,
            sampling=sampling or self.setting.sampling,
            seed=seed,
        )
        return self.agent.measure(request, BATCH_LIMIT_S)

    def _put_sentinel(self) -> str:
        path = self.put(with_dtype(build_network(SENTINEL), self.setting.dtype))
        return self.optimise(path) if self.setting.lowers else path


@contextmanager
def open_bench(store: LutStore, unit: Unit, setting: Setting) -> Iterator[Bench]:
    """A bench whose agent and files are gone afterwards.

    Raises:
        DeviceUnavailable: the agent does not start, or the engine is not there.
    """
    with closing(unit.open_transport()) as transport:
        bench = Bench(store, unit, setting, transport)
        try:
            yield bench
        finally:
            bench.fresh()
