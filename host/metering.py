"""How a model is metered: by which meter, with which windows, by the device's own agent or by a second one here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.protocol import Energise, Energised
from host.bench import Bench, as_plan
from host.devices import LOCAL_CPU, Unit, find_unit
from host.errors import DeviceUnavailable, UsageError
from host.session import AgentDied, AgentSession
from host.two_agents import Outside, open_outside
from lut_db.energies import EnergyMeasurement, Network
from lut_db.energy import MeterCalibration
from lut_db.energy_choice import Choice
from lut_db.energy_plans import MeterPlan, plan_for
from lut_db.records import Target
from lut_db.store import LutStore

REPLAY = "replay"
WITHOUT_ASKING = ("rapl", "odpm", "ina3221", "monsoon", "battery_gauge")
"""Taken in this order where none is named. A GPU's meter tells nothing of a processor, a trace nothing at all."""
ON_HOST = ("monsoon", "command")
"""Instruments that hang on this computer, whatever device they meter."""
PLACES = ("auto", "device", "host")
AT_ONCE = MeterPlan(0.0, 0.0, 0, 0.0, 0.01)
"""Reads the meter once, to see what it is."""
READ_LIMIT_S = 60.0


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
        return choice_of(self.meter, self.bench.target)

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
        return self.bench.energise({"0": path}, self.meter, self.options, self.plan, whole).only


def choice_of(meter: str, target: Target) -> Choice:
    """What a meter tells of a target: never measured where time or power is made up."""
    return Choice(meter, "simulated" if meter == REPLAY and target.source == "measured" else target.source)


@contextmanager
def open_gauging(bench: Bench, unit: Unit, metering: Metering) -> Iterator[Gauging]:
    """The meter that was asked for, or the best that can be read there.

    Raises:
        DeviceUnavailable: it cannot be read, with the reason; or it is a gauge that was never calibrated.
    """
    with _reader(bench, unit, metering) as (meter, outside):
        facts = (outside.facts() if outside else bench.energise({}, meter, metering.options, AT_ONCE)).facts
        calibration = calibration_of(bench.store, bench.target.device, meter, facts)
        period_s = calibration.update_period_s if calibration else facts["period_s"]
        plan = plan_for(meter, period_s, calibration is not None, metering.changes)
        options = {**({"period_s": period_s} if calibration else {}), **metering.options}
        yield Gauging(bench, meter, options, calibration, plan, outside)


def require_meter(store: LutStore, unit: Unit, metering: Metering) -> None:
    """Says at once, before anything is measured, that a meter cannot be read. Raises as ``open_gauging``."""
    reader = find_unit(LOCAL_CPU) if _is_outside(unit, metering.meter, metering.at) else unit
    with closing(reader.open_transport()) as transport, AgentSession(transport, (), {}) as session:
        meter = choose_meter(metering, session.hello.meters, unit)
        request = Energise("", {}, [], meter, dict(metering.options), as_plan(AT_ONCE))
        calibration_of(store, unit.name, meter, session.energise(request, READ_LIMIT_S).facts)


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


def choose_meter(metering: Metering, meters: Mapping[str, Mapping[str, str]], unit: Unit) -> str:
    """The name of a meter; what hangs on this computer is not taken for its own without being asked for.

    Raises:
        UsageError: an unknown one; DeviceUnavailable: none can be read.
    """
    if metering.meter:
        if metering.meter not in meters:
            raise UsageError(f"--meter must be one of {', '.join(meters)}, but got {metering.meter!r}")
        return metering.meter
    told = [name for name in WITHOUT_ASKING if name in meters and not (unit.transport == "local" and name in ON_HOST)]
    readable = [name for name in told if "available" in meters[name]]
    if readable:
        return readable[0]
    reasons = (f"{name}: {meters[name]['unavailable']}" for name in told)
    raise DeviceUnavailable(
        f"a meter must be readable on {unit.name!r}, but none is. {'. '.join(reasons)}. docs/energy.md tells what helps"
    )


def _is_outside(unit: Unit, meter: str, at: str) -> bool:
    """Whether a second agent reads the meter."""
    return at == "host" or (at == "auto" and meter in ON_HOST and unit.transport != "local")


@contextmanager
def _reader(bench: Bench, unit: Unit, metering: Metering) -> Iterator[tuple[str, Outside | None]]:
    """The meter's name, and the second agent, where that reads it."""
    if bench.transport.on_host or not _is_outside(unit, metering.meter, metering.at):
        yield choose_meter(metering, bench.agent.hello.meters, unit), None
        return
    with open_outside(metering.options, lambda meters: choose_meter(metering, meters, unit)) as outside:
        yield outside.meter, outside
