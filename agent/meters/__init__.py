"""The sources of energy readings: METERS, name -> function that says whether it can be read here, or why not.

Reading them is not part of this version; nothing is ever estimated in their place.
"""

from __future__ import annotations

import os
from typing import Callable, Dict

POWERCAP = "/sys/class/powercap"
BATTERY = "/sys/class/power_supply/battery"


def rapl() -> Dict[str, str]:
    zones = [name for name in _list(POWERCAP) if ":" in name]
    if not zones:
        return {"unavailable": "no energy counters under {}".format(POWERCAP)}
    counter = os.path.join(POWERCAP, zones[0], "energy_uj")
    if not os.access(counter, os.R_OK):
        return {"unavailable": "{0} is not readable; 'sudo chmod a+r {0}' grants it".format(counter)}
    return {"available": ", ".join(zones)}


def battery_gauge() -> Dict[str, str]:
    gauge = os.path.join(BATTERY, "current_now")
    return {"available": gauge} if os.access(gauge, os.R_OK) else {"unavailable": "no {}".format(gauge)}


METERS: Dict[str, Callable[[], Dict[str, str]]] = {"rapl": rapl, "battery_gauge": battery_gauge}


def describe_meters() -> Dict[str, Dict[str, str]]:
    return {name: probe() for name, probe in METERS.items()}


def _list(folder: str) -> "list[str]":
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
