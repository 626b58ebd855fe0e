"""Calibrates a device's gauge: real idle and real load for ``energy_calibration``, and the result into the store."""

from __future__ import annotations

import time

from host.bench import open_bench
from host.devices import Unit
from host.energy_calibration import SQUARE_WAVES, Windows, calibrate
from host.errors import HostError
from host.metering import AT_ONCE, Metering, choice_of, choose_meter
from host.setting import Progress, Setting
from lut_db.energy import MeterCalibration
from lut_db.energy_choice import Choice
from lut_db.energy_plans import MeterPlan
from lut_db.store import LutStore
from ops_catalog.build import Network
from ops_catalog.spec import Graph

CHANNELS, SIDE, LAYERS = 256, 28, 8
"""Of the load: enough arithmetic to keep every processor busy."""


def calibrate_meter(
    store: LutStore, unit: Unit, setting: Setting, metering: Metering, charge_s: float, progress: Progress
) -> tuple[Choice, MeterCalibration]:
    """Calibrates a meter and stores what was found; returns it with which meter that was.

    Raises:
        HostError: what was seen makes no sense, or the meter needs no calibration; DeviceUnavailable.
    """
    waves = 0
    with open_bench(store, unit, setting, progress, register=False) as bench:
        meter = choose_meter(metering, bench.agent.hello.meters, unit)
        facts = bench.energise({}, meter, metering.options, AT_ONCE).facts
        if not facts["needs_calibration"]:
            raise HostError(
                f"a meter to calibrate must be a gauge, but {meter!r} says itself what it reads; just use it"
            )
        told_by, load = choice_of(meter, bench.target), bench.put(full_load(setting.dtype))

        def measure(plan: MeterPlan) -> Windows:
            nonlocal waves
            progress.tell("load on and off", waves, len(SQUARE_WAVES) + bool(charge_s))
            waves += 1
            told = bench.energise({"0": load}, meter, metering.options, plan, whole=True).only
            if isinstance(told, str):
                raise HostError(f"the load must run while {meter!r} is read, but got: {told}")
            return told.windows

        found = calibrate(measure, time.time, charge_s)
        store.energies.put_calibration(unit.name, meter, found)
    return told_by, found


def full_load(dtype: str) -> Graph:
    """A network that keeps every processor busy."""
    net = Network("full-load", (1, CHANNELS, SIDE, SIDE), dtype=dtype)
    x = net.input
    for _ in range(LAYERS):
        x = net.add("conv2d", x, out_channels=CHANNELS, kernel=(3, 3))
    return net.finish(x)
