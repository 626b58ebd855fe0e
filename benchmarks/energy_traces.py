"""How honest are measured energies? Random recorded traces with known truth, played through calibration and estimate.

A trace is a simulated device (``energy_devices``) under a simulated meter (``energy_meters``), played as the agent does
it, with the plan that is recommended for the meter and the calibration that was found on the same device. Sound traces
meet the protocol; broken ones do not (a charger, a frozen gauge, ...) and must be refused or still be right. Told are,
by meter, how often the 95 % intervals of net and total hold the truth, their width, the error, what was refused, and
what was confidently wrong: further outside than half the interval's width, or off by 20 % with 5 % claimed.

    python -m benchmarks.energy_traces [--traces 400] [--broken 280] [--seeds 3] [--widths]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.energy_devices import Device
from benchmarks.energy_draws import METERS, random_device
from benchmarks.energy_meters import SOUND, Faults, Played, play
from host.energy_calibration import calibrate
from host.errors import HostError
from lut_db.energy import EnergyEstimate, MeterCalibration, estimate
from lut_db.energy_plans import MeterPlan, plan_for
from lut_db.energy_refusals import LEAST_PERIODS, LEAST_UPDATES

REPEATS = (3, 4, 5, 6, 8, 12)


@dataclass(frozen=True)
class Result:
    """One trace: what was estimated, and what is true."""

    meter: str
    fault: str
    found: EnergyEstimate
    truth: Played

    @property
    def refused(self) -> bool:
        return bool(self.found.reason)

    def covered(self, which: str) -> bool:
        low, high, _, truth = self._of(which)
        return low <= truth <= high

    def width(self, which: str) -> float:
        """Half the interval, relative to the estimate."""
        low, high, middle, _ = self._of(which)
        return (high - low) / 2 / middle

    def error(self, which: str) -> float:
        _, _, middle, truth = self._of(which)
        return abs(middle / truth - 1)

    def confidently_wrong(self, which: str) -> bool:
        low, high, _, truth = self._of(which)
        outside = max(low - truth, truth - high, 0.0)
        return outside > (high - low) / 2 or (self.error(which) > 0.2 and self.width(which) < 0.05)

    def _of(self, which: str) -> tuple[float, float, float, float]:
        low, high, middle = (getattr(self.found, f"{which}{part}_uj") for part in ("_low", "_high", ""))
        return low, high, middle, getattr(self.truth, f"{which}_uj")


def calibrated(device: Device, rng: np.random.Generator) -> MeterCalibration | None:
    """What the calibration finds out about a gauge; None for a meter that needs none."""
    if device.battery is None:
        return None
    return calibrate(lambda plan: play(device, plan, rng, full=True).windows, now=lambda: 0.0)


def plan_of(device: Device, calibration: MeterCalibration | None) -> MeterPlan:
    period_s = calibration.update_period_s if calibration else device.period_s
    return plan_for(device.meter, period_s, device.battery is not None)


def sound(meter: str, rng: np.random.Generator, repeats: int | None = None) -> Result:
    """A trace that meets the protocol."""
    device = random_device(meter, rng)
    try:
        calibration = calibrated(device, rng)
    except HostError as error:
        refused = EnergyEstimate(None, None, None, None, None, None, 0, 0, None, None, f"not calibrated: {error}")
        return Result(meter, "", refused, Played({}, [], 1.0, 1.0))
    plan = plan_of(device, calibration)
    played = play(device, replace(plan, repeats=repeats or plan.repeats), rng)
    return Result(meter, "", estimate(played.facts, played.windows, calibration), played)


Break = Callable[[np.random.Generator, MeterPlan], Faults]


def _charger(low_w: float, told: str, comes: bool = True) -> Break:
    def breaks(rng: np.random.Generator, _: MeterPlan) -> Faults:
        return Faults(
            charge_from=rng.uniform(0.05, 0.95) if comes else 0.0, charge_w=rng.uniform(low_w, 15), charge_told=told
        )

    return breaks


def _either(rng: np.random.Generator) -> float:
    return float(rng.choice([-1, 1]))


BREAKS: dict[str, tuple[bool, Break]] = {
    "windows too short": (False, lambda rng, plan: SOUND),
    "two load windows": (False, lambda rng, plan: SOUND),
    "never calibrated": (True, lambda rng, plan: SOUND),
    "reads fail": (False, lambda rng, plan: Faults(lost=rng.uniform(0.5, 0.999))),
    "clocks apart": (False, lambda rng, plan: Faults(clock_s=_either(rng) * rng.uniform(0.08, 1.5) * plan.window_s)),
    "load pauses": (False, lambda rng, plan: Faults(pause=rng.uniform(0.08, 0.8))),
    "frozen": (False, lambda rng, plan: Faults(frozen_from=rng.uniform(0.0, 0.95))),
    "counter set back": (False, lambda rng, plan: Faults(reset_at=rng.uniform(0.05, 0.95))),
    "charger comes": (True, _charger(0.5, "told")),
    "charger comes, state lies": (True, _charger(2.0, "lies")),
    "charging": (True, _charger(0.5, "told", comes=False)),
    "charging, not told": (True, _charger(0.5, "", comes=False)),
    "fed past the battery": (True, lambda rng, plan: Faults(bypass=True)),
    "slower than calibrated": (True, lambda rng, plan: Faults(slower=rng.uniform(3, 20))),
}  # fmt: skip
"""What breaks the protocol -> whether only a gauge's, and how."""


def broken(fault: str, rng: np.random.Generator) -> Result:
    """A trace that does not meet the protocol."""
    gauge_only, breaks = BREAKS[fault]
    counters = fault == "counter set back"
    some = [
        meter
        for meter in METERS
        if (meter == "battery_gauge" or not gauge_only) and (not counters or meter in METERS[:3])
    ]
    device = random_device(str(rng.choice(some)), rng)
    try:
        calibration = calibrated(device, rng)
    except HostError:
        return broken(fault, rng)
    plan = plan_of(device, calibration)
    faults = breaks(rng, plan)
    if fault == "windows too short":
        plan = _too_short(device, plan, calibration, rng.uniform(0.2, 0.9))
    if fault == "two load windows":
        plan = replace(plan, repeats=2)
    played = play(device, plan, rng, faults)
    known = None if fault == "never calibrated" else calibration
    return Result(device.meter, fault, estimate(played.facts, played.windows, known), played)


def _too_short(device: Device, plan: MeterPlan, calibration: MeterCalibration | None, share: float) -> MeterPlan:
    """Load windows of a share of what the meter needs."""
    least_s = LEAST_UPDATES * calibration.update_period_s if calibration else LEAST_PERIODS * device.period_s
    return replace(plan, window_s=share * least_s, read_every_s=min(plan.read_every_s, share * least_s / 40))


def many_sound(count: int, seed: int, repeats: int | None = None) -> list[Result]:
    return [sound(METERS[i % len(METERS)], np.random.default_rng([seed, i]), repeats) for i in range(count)]


def many_broken(count: int, seed: int) -> list[Result]:
    faults = tuple(BREAKS)
    return [broken(faults[i % len(faults)], np.random.default_rng([seed, 1, i])) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=400, help="sound ones, per seed")
    parser.add_argument("--broken", type=int, default=280, help="broken ones, per seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", action="store_true", help="instead: how intervals narrow with the load windows")
    asked = parser.parse_args()
    if asked.widths:
        print_widths(asked.traces)
        return
    every_sound, every_broken = [], []
    for seed in range(asked.seeds):
        results = many_sound(asked.traces, seed)
        print(f"\n## Sound traces, seed {seed}\n")
        print_sound(results)
        every_sound += results
        every_broken += many_broken(asked.broken, seed)
    print(f"\n## Sound traces, {asked.seeds} seeds\n")
    print_sound(every_sound)
    print(f"\n## Broken traces, {asked.seeds} seeds\n")
    print_broken(every_broken)


def print_sound(results: Sequence[Result]) -> None:
    print("| meter | traces | refused | net, total in interval | half width % | median error % | confidently wrong |")
    print("|---|---|---|---|---|---|---|")
    for meter in [*dict.fromkeys(METERS), "all"]:
        some = [result for result in results if meter in ("all", result.meter)]
        known = [result for result in some if not result.refused]
        shares = _both(Result.covered, known, np.mean, "{:.3f}")
        widths, errors = (_both(value, known, np.median, "{:.2%}") for value in (Result.width, Result.error))
        refused = 1 - len(known) / len(some)
        print(f"| {meter} | {len(some)} | {refused:.1%} | {shares} | {widths} | {errors} | {_wrong(known)} |")
    reasons = Counter(result.found.reason.partition(",")[0] for result in results if result.refused)
    print("".join(f"\nrefused {count}: {reason}" for reason, count in reasons.most_common()))


def _both(value: Callable[[Result, str], float], results: Sequence[Result], summary: Any, form: str) -> str:
    return ", ".join(form.format(summary([value(result, which) for result in results])) for which in ("net", "total"))


def _wrong(results: Iterable[Result]) -> int:
    return sum(result.confidently_wrong("net") or result.confidently_wrong("total") for result in results)


def print_broken(results: Sequence[Result]) -> None:
    print("| broken by | traces | refused | told, in interval | told, outside | confidently wrong |")
    print("|---|---|---|---|---|---|")
    for fault in BREAKS:
        some = [result for result in results if result.fault == fault]
        told = [result for result in some if not result.refused]
        right = sum(result.covered("net") and result.covered("total") for result in told)
        print(f"| {fault} | {len(some)} | {len(some) - len(told)} | {right} | {len(told) - right} | {_wrong(told)} |")


def print_widths(traces: int) -> None:
    print(f"Median half width of net, total by the number of load windows ({traces} traces each)\n")
    print("| meter | " + " | ".join(map(str, REPEATS)) + " |\n|---|" + "---|" * len(REPEATS))
    rows = {repeats: many_sound(traces, 0, repeats) for repeats in REPEATS}
    for meter in dict.fromkeys(METERS):
        known = [[r for r in rows[repeats] if r.meter == meter and not r.refused] for repeats in REPEATS]
        print(f"| {meter} | " + " | ".join(_both(Result.width, some, np.median, "{:.1%}") for some in known) + " |")


if __name__ == "__main__":
    main()
