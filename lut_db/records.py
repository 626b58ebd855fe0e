"""The rows of the database as values. What SQL makes of them is in ``tables``; only ``store`` speaks SQL."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCES = ("measured", "emulated", "simulated", "imported")

ANY_CONTEXT = "*"

MERGED = ("units", "merged")
"""Among a Target's options: its table is made of several units' own."""

AROUND = frozenset({MERGED[0], "agent", "float16", "gpu", "libraries", "malloc", "operators"})
"""Names among a Target's options that an engine does not take: they tell what surrounds it."""


@dataclass(frozen=True, slots=True)
class Device:
    """One physical unit.

    Attributes:
        name: what it is called on the command line, unique: ``local-cpu``.
        model: what it is: the CPU's or phone's model name.
        facts: all that was read from it (cores, ISA, kernel ...).
    """

    name: str
    model: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What a number is valid for; the key of a LUT. Two targets never mix.

    Attributes:
        options: engine options that decide speed and are not the usual ones, such as ("malloc", "default").
        isa: instruction-set features the engine can use, e.g. ``avx512_vnni``.
        cpus: ids of the processors it is pinned to.
        source: one of SOURCES: what its rows are.
    """

    device: str
    engine: str
    engine_version: str
    accelerator: str
    dtype: str
    threads: int
    cpus: tuple[int, ...]
    isa: str
    options: tuple[tuple[str, str], ...] = ()
    source: str = "measured"

    @property
    def name(self) -> str:
        """The text a person uses: ``local-cpu/onnxruntime-1.32.0/cpu/float32/t1`` and what is not default."""
        parts = [self.device, f"{self.engine}-{self.engine_version}", self.accelerator, self.dtype, f"t{self.threads}"]
        parts += [f"{name}={value}" for name, value in self.options]
        return "/".join(parts)

    @property
    def key(self) -> str:
        """The name and what it leaves out: processors, ISA, source."""
        return f"{self.name}/cpus={','.join(map(str, self.cpus))}/{self.isa}/{self.source}"

    @property
    def id(self) -> str:
        """What it is called in URLs: 12 hex digits that follow from the key, so the same in every database."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


def targets_named(targets: Sequence[Target], name: str) -> list[Target]:
    """The target of that name or key, or those whose name contains every word of the text."""
    exact = [target for target in targets if name in (target.name, target.key)]
    return exact or [target for target in targets if all(word in target.name for word in name.split())]


@dataclass(frozen=True, slots=True)
class Session:
    """One life of an agent on a target, or one batch in it: what all its measurements share.

    Attributes:
        started_at: seconds since the epoch, UTC.
        sentinel_ns: (seconds since started_at, ns of one call) along the batch.
    """

    started_at: float
    agent_version: str
    process: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    sentinel_ns: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw samples of one NativeOp on one Target at one time; append-only.

    Attributes:
        op_key: key of the NativeOp, which the store knows from the lowering that named it.
        bursts_ns: per burst, ns of ``loops`` calls together.
        started_s: per burst, seconds since the session began.
        overhead_ns: ns of a call that does nothing, to be taken off each call.
        doubts: reasons to mistrust it: noisy, drifted, throttled, loaded ...
        summary: instead of samples, where the engine tells only ``count``, ``avg_ns``, ``median_ns`` ... of its calls;
            bursts are empty then.
    """

    op_key: str
    bursts_ns: tuple[tuple[int, ...], ...]
    started_s: tuple[float, ...]
    loops: int
    overhead_ns: float
    rejected: int = 0
    doubts: tuple[str, ...] = ()
    energy_uj: float | None = None
    summary: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An operator that cannot be measured on a target, and why."""

    op_key: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Lowering:
    """What an operator becomes on a target, given how its inputs lie in memory.

    An engine that changes layouts leaves a tensor in one or several forms ("plain", "blocked", "plain+blocked").
    ``context`` is the forms of the inputs at the time it runs, comma-separated, and ``>`` after it where the
    output is the network's: ``blocked,plain`` or ``plain>``; ``*`` holds in any context. Where that is not enough,
    what reads the output follows: ``nhwc then conv2d``, which goes before the same context without it.

    Attributes:
        op_key: key of an OpSpec.
        natives: what the engine runs for it, keys of NativeOps, conversions of its inputs included.
        output_form: the form its output is in.
        input_forms: the forms of its inputs afterwards (a conversion leaves both).
    """

    op_key: str
    context: str
    natives: tuple[str, ...]
    output_form: str
    input_forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkMeasurement:
    """Raw samples, or a summary, of one whole network on one Target; ``graph`` is its JSON (``ops_catalog.sweep``)."""

    name: str
    space: str
    graph: Mapping[str, Any]
    bursts_ns: tuple[tuple[int, ...], ...]
    started_s: tuple[float, ...]
    loops: int
    overhead_ns: float
    doubts: tuple[str, ...] = ()
    summary: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """latency of a network = scale * sum + ns_per_weight_byte * weight bytes + ns_per_node * native nodes.

    An operator's weight bytes count up to a cap.

    Fitted on a few whole networks of one family.

    Attributes:
        family: the space it was fitted on; "" where it holds for any.
        networks: names of the networks of the fit.
        residuals: relative error of each after the fit.
        weight_cap_bytes: None where all count.
        sentinel_ns: time of the sentinel when the networks were measured; None if there was none.
    """

    family: str
    scale: float
    ns_per_weight_byte: float
    ns_per_node: float
    networks: tuple[str, ...]
    residuals: tuple[float, ...]
    weight_cap_bytes: int | None = None
    sentinel_ns: float | None = None
    created_at: float = 0.0

    @property
    def spread(self) -> float:
        """Standard deviation of relative errors; small samples are not flattered."""
        squares = sum(residual**2 for residual in self.residuals)
        return math.sqrt(squares / max(1, len(self.residuals) - 1))


@dataclass(frozen=True, slots=True)
class LutEntry:
    """What the measurements of one NativeOp come to (policy: ``aggregate``).

    Attributes:
        key: of the NativeOp.
        mad_ns: median absolute deviation of the pooled clean samples, per call.
        passes: measurements it rests on.
        label: measured, interpolated, estimated, emulated or simulated.
        energy_uj: of a call, beyond what the device draws at rest; None where it is not known. With it go its 95 %
            interval, ``energy_label`` (measured, predicted, emulated, simulated or imported) and ``energy_windows``,
            the load windows that it rests on.
    """

    key: str
    latency_ns: float
    mad_ns: float
    samples: int
    passes: int
    weight_bytes: int = 0
    doubts: tuple[str, ...] = ()
    label: str = "measured"
    energy_uj: float | None = None
    energy_low_uj: float | None = None
    energy_high_uj: float | None = None
    energy_label: str = ""
    energy_windows: int = 0
