"""How a model is metered: by which meter, with which windows, by the device's own agent or by a second one here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from agent.protocol import Energise, Energised, Plan
from host.bench import Bench
from host.devices import LOCAL_CPU, Unit, find_unit
from host.errors import DeviceUnavailable, UsageError
from host.session import AgentDied, AgentSession, MeteredBatch
from host.two_agents import Outside, open_outside
from lut_db.energies import EnergyMeasurement, Network
from lut_db.energy import MeterCalibration
from lut_db.energy_choice import Choice
from lut_db.energy_plans import MeterPlan, plan_for
from lut_db.store import LutStore

REPLAY = "replay"
WITHOUT_ASKING = ("rapl", "odpm", "ina3221", "monsoon", "battery_gauge")
"""Taken in this order where none is named. A GPU's meter tells nothing of a processor, a trace nothing at all."""
ON_HOST = ("monsoon", "command")
"""Instruments that hang on this computer, whatever device they meter."""
PLACES = ("auto", "device", "host")
AT_ONCE = Plan(0.0, 0.0, 0, 0.0, 0.01)
"""Reads the meter once, to see what it is."""
READ_LIMIT_S = 60.0
READINGS = 50
"""In a window, at least."""


@dataclass(frozen=True, slots=True)
class Metering:
    """How to meter.

    Attributes:
        meter: a name of the agent's meters; "" for the best that can be read there.
        options: for the meter.
        share: of the operators, which are metered.
        changes: of the windows that suit the meter, by field of MeterPlan.
        at: where the meter is read: on the "device", on the "host", or "auto".
    """

    meter: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 0.1
    changes: Mapping[str, float] = field(default_factory=dict)
    at: str = "auto"


@dataclass(frozen=True, slots=True)
class Gauging:
    """A bench and the meter that is read there.

    Attributes:
        outside: the agent that reads it, where that is not the device's own.
    """

    bench: Bench
    meter: str
    options: Mapping[str, Any]
    calibration: MeterCalibration | None
    plan: MeterPlan
    outside: Outside | None = None

    @property
    def choice(self) -> Choice:
        """What energies are: never measured where time or power is made up."""
        source = self.bench.target.source
        return Choice(self.meter, "simulated" if self.meter == REPLAY and source == "measured" else source)

    def meter_model(self, path: str, of: str | Network) -> EnergyMeasurement | str:
        """What the meter read of a model, or why it read nothing.

        Raises:
            HostError: the meter does not open; DeviceUnavailable: the device is not there.
        """
        try:
            answer = self._energise(path, whole=isinstance(of, Network))
        except AgentDied as death:
            self.bench.fresh()
            return str(death)
        if isinstance(answer, str):
            return answer
        source, now, overhead_ns = self.choice.source, time.time(), self._overhead_ns(of)
        return EnergyMeasurement(
            of, self.meter, source, now, answer.facts, answer.windows, self.calibration, overhead_ns
        )

    def _overhead_ns(self, of: str | Network) -> float:
        """Of a call, as its latency was last told without; nothing beside a whole network."""
        if isinstance(of, Network):
            return 0.0
        newest = deque(self.bench.store.measurements(self.bench.target, of), maxlen=1)
        return newest[0].overhead_ns if newest else 0.0

    def _energise(self, path: str, whole: bool) -> Energised | str:
        if self.outside is not None:
            return self.outside.energise(self.bench, path, self.plan, whole)
        answer = self.bench.energise({"0": path}, self.meter, self.options, as_plan(self.plan), whole)
        return only(answer)


@contextmanager
def open_gauging(bench: Bench, unit: Unit, metering: Metering) -> Iterator[Gauging]:
    """The meter that was asked for, or the best that can be read there.

    Raises:
        DeviceUnavailable: it cannot be read, with the reason; or it is a gauge that was never calibrated.
    """
    with _reader(bench, unit, metering) as (meter, outside):
        facts = _facts(outside.facts() if outside else bench.energise({}, meter, metering.options, AT_ONCE))
        calibration = calibration_of(bench.store, bench.target.device, meter, facts)
        period_s = calibration.update_period_s if calibration else facts["period_s"]
        plan = changed(plan_for(meter, period_s, calibration is not None), metering.changes)
        options = {**({"period_s": period_s} if calibration else {}), **metering.options}
        yield Gauging(bench, meter, options, calibration, plan, outside)


def require_meter(store: LutStore, unit: Unit, metering: Metering) -> None:
    """Says at once, before anything is measured, that a meter cannot be read. Raises as ``open_gauging``."""
    reader = find_unit(LOCAL_CPU) if _is_outside(unit, metering.meter, metering.at) else unit
    with closing(reader.open_transport()) as transport, AgentSession(transport, (), {}) as session:
        meter = choose_meter(metering, session.hello.meters, unit.name)
        request = Energise("", {}, [], meter, dict(metering.options), AT_ONCE)
        calibration_of(store, unit.name, meter, _facts(session.energise(request, READ_LIMIT_S)))


def calibration_of(store: LutStore, device: str, meter: str, facts: Mapping[str, Any]) -> MeterCalibration | None:
    """What a gauge's readings mean; None for a meter that needs none. Raises DeviceUnavailable."""
    if not facts["needs_calibration"]:
        return None
    found = store.energies.calibration(device, meter)
    if found is None:
        raise DeviceUnavailable(
            f"what {meter} reads on {device!r} must be calibrated, but never was; "
            f"'chamnet energy calibrate --device {device} --meter {meter}' does it"
        )
    return found


def choose_meter(metering: Metering, meters: Mapping[str, Mapping[str, str]], device: str) -> str:
    """The name of a meter. Raises UsageError for an unknown one, DeviceUnavailable where none can be read."""
    if metering.meter:
        if metering.meter not in meters:
            raise UsageError(f"--meter must be one of {', '.join(meters)}, but got {metering.meter!r}")
        return metering.meter
    readable = [name for name in WITHOUT_ASKING if "available" in meters.get(name, {})]
    if readable:
        return readable[0]
    reasons = (f"{name}: {meters[name]['unavailable']}" for name in WITHOUT_ASKING if name in meters)
    raise DeviceUnavailable(
        f"a meter must be readable on {device!r}, but none is. {'. '.join(reasons)}. docs/energy.md tells what helps"
    )


def _facts(answer: MeteredBatch) -> Mapping[str, Any]:
    """Of a meter that was read once: ``agent.meters.MeterFacts``."""
    return answer.energised[0].facts


def only(answer: MeteredBatch) -> Energised | str:
    """The windows of the only model, or why there are none."""
    return answer.energised[0] if answer.energised else answer.failures[0].message


def as_plan(plan: MeterPlan) -> Plan:
    return Plan(plan.window_s, plan.idle_s, plan.repeats, plan.settle_s, plan.read_every_s)


def changed(plan: MeterPlan, changes: Mapping[str, float]) -> MeterPlan:
    """Windows as they were asked for; short ones are read more often."""
    told: dict[str, Any] = {name: int(value) if name == "repeats" else value for name, value in changes.items()}
    asked = replace(plan, **told)
    return replace(asked, read_every_s=min(asked.read_every_s, min(asked.window_s, asked.idle_s) / READINGS))


def _is_outside(unit: Unit, meter: str, at: str) -> bool:
    """Whether a second agent reads the meter."""
    return at == "host" or (at == "auto" and meter in ON_HOST and unit.transport != "local")


@contextmanager
def _reader(bench: Bench, unit: Unit, metering: Metering) -> Iterator[tuple[str, Outside | None]]:
    """The meter's name, and the second agent, where that reads it."""
    if bench.transport.on_host or not _is_outside(unit, metering.meter, metering.at):
        yield choose_meter(metering, bench.agent.hello.meters, unit.name), None
        return
    with open_outside(metering.options, lambda meters: choose_meter(metering, meters, unit.name)) as outside:
        yield outside.meter, outside
