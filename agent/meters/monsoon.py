"""Monsoon's high-voltage power monitor on this computer's USB, by its maker's library (package ``monsoon``).

It feeds the device in place of its battery and samples current and voltage at 5 kHz; a reading is the mean power of the
next ``samples`` of them (100). The agent that reads it runs on this computer: the one that drives the device from here,
or one of its own beside that on the device (an Energise without models). Further options: ``serial``, ``channel``
("main" or "usb"), ``vout_v`` (turns the output on at that voltage, and leaves it on: else it stays as it is),
``usb_passthrough`` ("on", "off", "auto", which it begins with and which cuts the device off USB while it samples).
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import time
from typing import Any, Dict, List, Tuple

from agent.machine import read_text
from agent.meters import MeterError, MeterFacts, Reading
from agent.meters.nodes import under

VENDOR = "2ab9"
USB = "/sys/bus/usb/devices"
SAMPLE_S = 0.0002
SAMPLES = 100
LEAST_V, MOST_V = 0.8, 13.5
CHANNELS = {"main": ("MainCurrent", "MainVoltage"), "usb": ("USBCurrent", "USBVoltage")}
PASSTHROUGH = {"off": 0, "on": 1, "auto": 2}
UW_PER_MA_V = 1000
ABSENT = "a Monsoon must be on this computer's USB, but none is; plug it in and turn it on"
PACKAGE = "the package monsoon must be there; 'pip install monsoon' brings it"


def probe(options: Dict[str, Any]) -> Dict[str, str]:
    """Looks for it on USB and starts nothing."""
    if importlib.util.find_spec("Monsoon") is None:
        return {"unavailable": PACKAGE}
    nodes = _nodes(options)
    if not nodes:
        return {"unavailable": ABSENT}
    denied = _denied(options)
    return {"unavailable": denied} if denied else {"available": "Monsoon HVPM ({})".format(", ".join(nodes))}


def open_meter(options: Dict[str, Any]) -> "Monsoon":
    """Starts sampling.

    Raises:
        MeterError: there is none, or it does not start.
    """
    channel = str(options.get("channel", "main"))
    if channel not in CHANNELS:
        raise MeterError("a channel must be main or usb, but got {!r}".format(channel))
    try:
        hvpm, engines = importlib.import_module("Monsoon.HVPM"), importlib.import_module("Monsoon.sampleEngine")
    except ImportError as error:
        raise MeterError("{} ({})".format(PACKAGE, error)) from None
    try:
        monitor = _monitor(hvpm, options)
        engine = _engine(engines, monitor, CHANNELS[channel])
    except MeterError:
        raise
    except Exception as error:
        told = _denied(options) or "a Monsoon must start to sample, but got {}: {}".format(type(error).__name__, error)
        raise MeterError(told) from None
    columns = tuple(getattr(engines.channels, name) for name in CHANNELS[channel])
    return Monsoon(engine, monitor, columns, channel, int(options.get("samples", SAMPLES)))


class Monsoon:
    """A monitor that samples."""

    def __init__(self, engine: Any, monitor: Any, columns: Tuple[int, ...], channel: str, samples: int) -> None:
        source = "Monsoon HVPM {}".format(monitor.statusPacket.serialNumber)
        self.facts = MeterFacts("monsoon", "power", samples * SAMPLE_S, None, False, (channel,), "device", source)
        self._engine = engine
        self._monitor = monitor
        self._columns = columns
        self._samples = samples

    def read(self) -> Reading:
        """Waits for its samples."""
        before = time.perf_counter_ns()
        try:
            told = self._engine.periodicCollectSamples(self._samples)
        except Exception as error:
            raise MeterError(
                "a Monsoon must tell samples, but got {}: {}".format(type(error).__name__, error)
            ) from None
        at_ns = (before + time.perf_counter_ns()) // 2
        return Reading(at_ns, _mean_uw(*(told[column] for column in self._columns)))

    def close(self) -> None:
        """Its output stays as it is: the device may live on it."""
        try:
            self._engine.periodicStopSampling()
            self._monitor.closeDevice()
        except Exception:
            return


def _mean_uw(currents_ma: List[float], voltages_v: List[float]) -> float:
    pairs = list(zip(currents_ma, voltages_v))
    if not pairs:
        raise MeterError("a Monsoon must tell samples, but told none")
    return float(sum(current * voltage for current, voltage in pairs)) / len(pairs) * UW_PER_MA_V


def _monitor(hvpm: Any, options: Dict[str, Any]) -> Any:
    monitor = hvpm.Monsoon()
    serial = options.get("serial")
    monitor.setup_usb(None if serial is None else int(serial))
    if monitor.Protocol is None or monitor.Protocol.DEVICE is None:
        raise MeterError(ABSENT)
    monitor.stopSampling()
    monitor.fillStatusPacket()
    if "usb_passthrough" in options:
        monitor.setUSBPassthroughMode(PASSTHROUGH[str(options["usb_passthrough"])])
    if "vout_v" in options:
        vout_v = float(options["vout_v"])
        if not LEAST_V <= vout_v <= MOST_V:
            raise MeterError("vout_v must be between {} and {} V, but got {}".format(LEAST_V, MOST_V, vout_v))
        monitor.setVout(vout_v)
    return monitor


def _engine(engines: Any, monitor: Any, channels: Tuple[str, str]) -> Any:
    engine = engines.SampleEngine(monitor)
    engine.ConsoleOutput(False)
    for name in ("MainCurrent", "MainVoltage", "USBCurrent", "USBVoltage"):
        change = engine.enableChannel if name in channels else engine.disableChannel
        change(getattr(engines.channels, name))
    if engine.periodicStartSampling() is False:
        raise MeterError("a Monsoon must calibrate itself, but did not; turn it off and on")
    return engine


def _nodes(options: Dict[str, Any]) -> List[str]:
    """The files that monitors are spoken to by."""
    found = []
    for path in sorted(glob.glob(under(options, "{}/*/idVendor".format(USB)))):
        vendor, bus, number = (read_text(path.replace("idVendor", name)) for name in ("idVendor", "busnum", "devnum"))
        if vendor is not None and vendor.strip() == VENDOR and bus and number:
            found.append(under(options, "/dev/bus/usb/{:03d}/{:03d}".format(int(bus), int(number))))
    return found


def _denied(options: Dict[str, Any]) -> str:
    """What keeps monitors that are there from being spoken to, and the command that ends it; else empty."""
    closed = [path for path in _nodes(options) if not os.access(path, os.R_OK | os.W_OK)]
    command = "sudo chmod a+rw {}".format(" ".join(closed))
    return "a Monsoon must be writable, but is not; '{}' grants it".format(command) if closed else ""
