"""How to measure, what to measure, and what came of it: the values of the profile path."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.protocol import Hello, Sampling
from host.delegates import Delegate
from host.engines import EngineUse, engine_use
from host.gate import Gate
from host.phones import slug
from lut_db.records import Target
from ops_catalog.build import op_with_dtype, with_dtype
from ops_catalog.spec import Graph, OpSpec
from ops_catalog.sweep import distinct_operators

DEFAULT_MALLOC = "hugepages"
PATIENCE_S = 900.0
MIB_PER_GIB = 1024
PART, PART_GRAPHS = 4096, 100
"""Operators, or networks, whose models are kept at a time: a gigabyte or two."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How to measure: what the user chooses of a Target, and how long to look.

    Attributes:
        cpus: processors that the agent is pinned to; none where they are not what computes.
        naive: one session per exported operator, as the usual tools do, instead of native operators.
        passes: measurements in fresh sessions that an entry needs; one more where two differ.
        sampling: how long to measure an operator; None for as long as the engine needs.
        choices: of the engine, what differs from what it does unasked (``EngineUse.choices``).
        accelerator: a name of ``host.accelerators.ACCELERATORS``.
        delegate: the files of an engine that is a vendor's binary; None for any other.
        gate: what must hold before a batch; None where the device needs none.
        patience_s: longest wait for a device that vanished.
    """

    engine: str
    cpus: tuple[int, ...]
    dtype: str = "float32"
    threads: int = 1
    malloc: str = DEFAULT_MALLOC
    naive: bool = False
    passes: int = 2
    seed: int = 0
    sampling: Sampling | None = None
    choices: tuple[tuple[str, str], ...] = ()
    accelerator: str = "cpu"
    delegate: Delegate | None = None
    gate: Gate | None = None
    patience_s: float = PATIENCE_S

    @property
    def use(self) -> EngineUse:
        return engine_use(self.engine)

    @property
    def lowers(self) -> bool:
        return self.use.lowers and not self.naive

    def options(self, whole: bool = False) -> dict[str, Any]:
        """Engine options for a single operator, or for a whole network."""
        use = self.use
        chosen = use.whole_options if whole else use.naive_options if self.naive else use.native_options
        return {"threads": self.threads, **chosen, **dict(self.choices)}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be measured: every operator of these networks, and these operators."""

    graphs: tuple[Graph, ...] = ()
    operators: tuple[OpSpec, ...] = ()

    def parts(self, lowers: bool) -> Iterator[Workload]:
        """The same in parts, so that the models of one are measured before those of the next are made.

        Args:
            lowers: networks must stay whole, since they tell what operators become.
        """
        if not lowers:
            operators = distinct_operators(self.graphs, self.operators)
            yield from (Workload(operators=operators[i : i + PART]) for i in range(0, len(operators), PART))
            return
        yield from (Workload(self.graphs[i : i + PART_GRAPHS]) for i in range(0, len(self.graphs), PART_GRAPHS))
        yield from (Workload(operators=self.operators[i : i + PART]) for i in range(0, len(self.operators), PART))

    def in_dtype(self, dtype: str) -> Workload:
        graphs = tuple(with_dtype(graph, dtype) for graph in self.graphs)
        return Workload(graphs, tuple(op_with_dtype(op, dtype) for op in self.operators))


@dataclass(frozen=True, slots=True)
class Progress:
    """What is told while it works: the stage, how much of it is done, and how much there is; why it waits."""

    tell: Callable[[str, int, int], None] = lambda stage, done, total: None
    wait: Callable[[str], None] = lambda reason: None

    def of_part(self, number: int, count: int) -> Progress:
        """The same for one part of several."""
        if count == 1:
            return self
        return Progress(
            lambda stage, done, total: self.tell(f"{stage} of part {number}/{count}", done, total), self.wait
        )


@dataclass(slots=True)
class Summary:
    """What a profile run did.

    Attributes:
        wanted: native operators that the workload needs.
        already: of these, how many the store had before.
        measured: measurements made now, passes counted.
        repeated: operators whose passes differed, or were disturbed, measured once more.
        refused: what cannot be exported or optimised, with the reason.
        sent_bytes: what was sent to a device: the bundle, the agent, models.
        first_row_s: from the start of the run to its first stored batch; None where nothing was measured.
        seconds: where the time went, by stage.
    """

    target: str
    wanted: int = 0
    already: int = 0
    measured: int = 0
    repeated: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    doubts: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    first_row_s: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter, repr=False)

    def row_stored(self) -> None:
        if self.first_row_s is None:
            self.first_row_s = time.perf_counter() - self.started

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def as_json(self) -> dict[str, Any]:
        told = {**asdict(self), "doubts": dict(self.doubts)}
        del told["started"]
        return told


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a Target is, beside what the user chose of it.

    Attributes:
        device: name of the unit.
        emulated: its rows are never measured ones.
        driven: the architecture of a device whose agent runs on this computer; empty where it runs there.
        libraries: digest of the vendor's libraries; empty without any.
    """

    device: str
    emulated: bool = False
    driven: str = ""
    libraries: str = ""


def target_of(setting: Setting, around: Circumstances, hello: Hello) -> Target:
    """The Target that a setting means on the machine that greeted."""
    options = dict(setting.choices)
    if setting.malloc != DEFAULT_MALLOC:
        options["malloc"] = setting.malloc
    if setting.naive:
        options["operators"] = "exported"
    if around.driven:
        options["agent"] = "host"
    if around.libraries:
        options["libraries"] = around.libraries
    if setting.dtype == "float16":
        options["float16"] = setting.use.float16
    if setting.use.on_gpu:
        options["gpu"] = gpu_of(hello.machine)
    return Target(
        device=around.device,
        engine=setting.engine,
        engine_version=hello.engines[setting.engine]["version"],
        accelerator=setting.accelerator if setting.use.binary else setting.use.accelerator,
        dtype=setting.dtype,
        threads=setting.threads,
        cpus=setting.cpus,
        isa=around.driven or _isa(setting.use, hello.machine),
        options=tuple(sorted(options.items())),
        source="emulated" if around.emulated and setting.use.source == "measured" else setting.use.source,
    )


def gpu_of(machine: Mapping[str, Any]) -> str:
    """What tells one kind of GPU, or of part of one, from another where the architecture is the same: such as
    ``nvidia-h100-132sm-80gib``; what the machine does not tell is left out."""
    told = machine.get("gpu", {})
    parts = [slug(str(told.get("name", "unknown")))]
    if "multiprocessors" in told:
        parts.append(f"{told['multiprocessors']}sm")
    if "memory_mib" in told:
        parts.append(f"{round(told['memory_mib'] / MIB_PER_GIB)}gib")
    return "-".join(parts)


def _isa(use: EngineUse, machine: Mapping[str, Any]) -> str:
    """What a target's processor understands: a CPU's instructions, or a GPU's compute capability."""
    told = machine.get("gpu", {}) if use.on_gpu else machine
    return str(told.get("isa", "unknown"))
