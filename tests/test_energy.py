"""Energies from raw readings: intervals that hold the truth, and a reason wherever there is none to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.meters import METERS
from agent.protocol import Plan
from benchmarks.energy_devices import Battery, Device
from benchmarks.energy_meters import SOUND, Faults, Played, play
from benchmarks.energy_traces import BREAKS, many_broken, many_sound
from host.energy_calibration import calibrate, charge_ratio, response_s, sign_and_scale, update_period_s
from host.errors import HostError
from lut_db.energy import EnergyEstimate, MeterCalibration, estimate
from lut_db.energy_interval import Series, intervals
from lut_db.energy_plans import PLANS, MeterPlan, plan_for

STILL = {"noise": (0.02, 0.0), "load_noise": (0.02, 0.0)}
POWER = Device("ina3221", 1.0, 2.0, 4.0, 0.01, 0.02, **STILL)  # type: ignore[arg-type]
COUNTER = Device("rapl", 5.0, 2.0, 4.0, 0.01, 0.001, unit_uj=61.0, **STILL)  # type: ignore[arg-type]
GAUGE = Device("battery_gauge", 0.5, 1.5, 3.0, 0.05, 0.25, battery=Battery(), **STILL)  # type: ignore[arg-type]
SHORT, LONG = MeterPlan(1.0, 1.0, 4, 0.2, 0.02), MeterPlan(10.0, 10.0, 4, 1.0, 0.1)
FOUND = MeterCalibration(1, 1.0, 0.25, 0.0)


def played(device: Device = POWER, faults: Faults = SOUND, plan: MeterPlan | None = None, seed: int = 0) -> Played:
    return play(device, plan or (LONG if device.battery else SHORT), np.random.default_rng(seed), faults)


def told(trace: Played, calibration: MeterCalibration | None = FOUND) -> EnergyEstimate:
    return estimate(trace.facts, trace.windows, calibration)


def readings(trace: Played, change: Callable[[int, list[float]], list[float]]) -> Played:
    """The trace with every reading changed, by its window's number."""
    windows = [{**w, "readings": [change(i, row) for row in w["readings"]]} for i, w in enumerate(trace.windows)]
    return replace(trace, windows=windows)


def states(trace: Played, *told: dict[str, str]) -> Played:
    """The trace with these states of the battery, one a window, the last to the end."""
    windows = [
        {**w, "state": [[w["from_ns"], told[min(i, len(told) - 1)]]] if told else []}
        for i, w in enumerate(trace.windows)
    ]
    return replace(trace, windows=windows)


# Honest intervals.


def test_intervals_hold_the_truth_of_random_traces_and_few_traces_are_refused() -> None:
    results = many_sound(64, seed=5)
    known = [result for result in results if not result.refused]
    assert len(known) >= 0.9 * len(results)
    for which in ("net", "total"):
        assert np.mean([result.covered(which) for result in known]) >= 0.92
        assert np.median([result.error(which) for result in known]) < 0.01
        assert np.median([result.width(which) for result in known]) < 0.04
        assert not any(result.confidently_wrong(which) for result in known)


def test_broken_traces_are_refused_or_right() -> None:
    results = many_broken(2 * len(BREAKS), seed=5)
    known = [result for result in results if not result.refused]
    assert len(known) <= len(results) / 3
    assert not any(result.confidently_wrong(which) for result in known for which in ("net", "total"))


def test_intervals_of_normal_windows_hold_the_truth_in_95_percent() -> None:
    rng, loaded = np.random.default_rng(0), np.arange(11) % 2 == 1
    noise = np.where(loaded, 3.0, 1.0)
    held = []
    for _ in range(200):
        power = 1000 + 500 * loaded + 2 * np.arange(11) + noise * rng.standard_normal(11)
        net, total = intervals(Series(np.arange(11.0), power, loaded.astype(float), noise))
        held += [net.low <= 500 <= net.high, total.low <= 1510 <= total.high]
    assert 0.93 <= np.mean(held) <= 0.99


def test_noise_between_windows_widens_the_interval_beyond_that_within() -> None:
    rng, loaded = np.random.default_rng(1), np.arange(11) % 2 == 1
    power = 1000 + 500 * loaded + 30 * rng.standard_normal(11)
    net, _ = intervals(Series(np.arange(11.0), power, loaded.astype(float), np.ones(11)))
    assert net.high - net.low > 40
    assert net.low <= 500 <= net.high


@pytest.mark.parametrize("device", [POWER, COUNTER, GAUGE], ids=lambda device: device.meter)
def test_more_windows_narrow_the_interval(device: Device) -> None:
    plan = LONG if device.battery else SHORT
    few, many = (told(played(device, plan=replace(plan, repeats=n))) for n in (3, 12))
    assert (few.windows, many.windows) == (3, 12)
    assert _width(many) < 0.75 * _width(few)


def _width(found: EnergyEstimate) -> float:
    assert found.net_high_uj is not None
    assert found.net_low_uj is not None
    return found.net_high_uj - found.net_low_uj


def test_a_call_costs_its_power_times_its_time() -> None:
    trace = played(replace(POWER, noise=(0.0, 0.0), load_noise=(0.0, 0.0)))
    found = told(trace)
    assert (found.net_uj, found.total_uj) == (pytest.approx(20_000, rel=0.01), pytest.approx(30_000, rel=0.01))
    assert (found.idle_uw, found.load_uw) == (pytest.approx(1e6, rel=0.01), pytest.approx(3e6, rel=0.01))
    assert found.calls == sum(window["calls"] for window in trace.windows)
    assert not found.reason


def test_a_counter_that_wraps_tells_what_it_would_have_told() -> None:
    plain, wrapping = played(COUNTER), played(replace(COUNTER, wraps_at_uj=20e6))
    fell = [np.diff([row[1] for row in window["readings"]]).min() < 0 for window in wrapping.windows]
    assert any(fell)
    assert told(wrapping).net_uj == pytest.approx(told(plain).net_uj, rel=1e-6)


def test_a_steady_drift_of_idle_power_changes_no_net_energy() -> None:
    steady, drifting = played(POWER), played(replace(POWER, drift=(0.3, 0.0, 0.0)))
    assert told(drifting).net_uj == pytest.approx(told(steady).net_uj, rel=0.01)


def test_a_window_in_which_reads_failed_is_left_out() -> None:
    trace = played(plan=replace(SHORT, repeats=5))
    lost = [{**w, "readings": w["readings"][::9] if i == 3 else w["readings"]} for i, w in enumerate(trace.windows)]
    lost[3]["readings"] = lost[3]["readings"][:3]
    found = told(replace(trace, windows=lost))
    assert found.windows == 4
    assert found.net_uj == pytest.approx(told(trace).net_uj, rel=0.02)


def test_a_trend_in_every_rest_after_a_load_widens_the_net_interval() -> None:
    cooling = replace(POWER, tail=0.2, tail_s=0.5)
    found = told(played(cooling, plan=replace(SHORT, settle_s=0.1)))
    assert _width(found) > 3 * _width(told(played(POWER)))
    assert found.net_low_uj is not None
    assert found.net_high_uj is not None
    assert found.net_low_uj <= 20_000 <= found.net_high_uj


@pytest.mark.parametrize("state", [{"status": "Discharging", "plugged": "usb", "suspended": "/sys/input_suspend"},
                                   {"status": "Unknown", "plugged": "none"}, {"status": "Discharging"}])  # fmt: skip
def test_a_battery_that_nothing_feeds_is_metered(state: dict[str, str]) -> None:
    assert not told(states(played(GAUGE), state)).reason


def test_charging_does_not_concern_a_meter_that_is_no_battery_s() -> None:
    assert not told(states(played(), {"status": "Charging", "plugged": "usb"}, {"status": "Full"})).reason


@settings(deadline=None, max_examples=25)
@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_energies_scale_with_all_powers(factor: float, seed: int) -> None:
    trace = played(seed=seed)
    scaled = readings(trace, lambda _, row: [row[0], factor * row[1]])
    assert astuple(told(scaled))[:6] == pytest.approx([factor * value for value in astuple(told(trace))[:6]], rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(more_uw=st.floats(0, 1e7), seed=st.integers(0, 9))
def test_a_constant_idle_power_changes_the_total_only(more_uw: float, seed: int) -> None:
    trace = played(seed=seed)
    found, more = told(trace), told(readings(trace, lambda _, row: [row[0], row[1] + more_uw]))
    assert (more.net_uj, more.net_low_uj) == pytest.approx((found.net_uj, found.net_low_uj), rel=1e-4)
    assert more.total_uj == pytest.approx(found.total_uj + more_uw * 0.01, rel=0.01)


@settings(deadline=None, max_examples=10)
@given(sign=st.sampled_from([1, -1]), unit_ua=st.sampled_from([1.0, 1000.0]), seed=st.integers(0, 4))
def test_sign_and_unit_of_a_gauge_do_no_harm_when_calibrated(sign: int, unit_ua: float, seed: int) -> None:
    trace = played(GAUGE, seed=seed)
    other = readings(trace, lambda _, row: [row[0], sign * row[1] / unit_ua, sign * row[2] / unit_ua, row[3]])
    calibration = replace(FOUND, sign=sign, scale=unit_ua)
    assert astuple(told(other, calibration))[:6] == pytest.approx(astuple(told(trace))[:6], rel=1e-9)


# What is refused.


def refused(trace: Played, reason: str, calibration: MeterCalibration | None = FOUND) -> None:
    found = told(trace, calibration)
    assert reason in found.reason
    assert [*astuple(found)[:6], found.idle_uw, found.load_uw] == [None] * 8


def facts(trace: Played, **changed: Any) -> Played:
    return replace(trace, facts={**trace.facts, **changed})


def test_an_unknown_kind_of_meter() -> None:
    refused(facts(played(), kind="guess"), "must be a 'counter' or show 'power'")


def test_a_gauge_without_calibration() -> None:
    refused(played(GAUGE), "never calibrated", None)


def test_a_gauge_whose_current_and_charge_counter_disagree() -> None:
    refused(played(GAUGE), "their ratio is 1.30", replace(FOUND, charge_ratio=1.3))


def test_a_gauge_without_its_current() -> None:
    refused(readings(played(GAUGE), lambda _, row: row[:2]), "must carry current and voltage")


@pytest.mark.parametrize("states_told, reason", [
    ((), "charging state must be told"),
    (({"status": "Charging", "plugged": "usb"},), "only while nothing feeds it"),
    (({"status": "Discharging", "plugged": "usb"},), "only while nothing feeds it"),
    (({"status": "Not charging", "plugged": "ac", "suspended": "/sys/x"},), "only while nothing feeds it"),
    (({"status": "Discharging", "plugged": "none"}, {"status": "Charging", "plugged": "usb"}), "must not change"),
])  # fmt: skip
def test_a_battery_that_is_or_may_be_charged(states_told: tuple[dict[str, str], ...], reason: str) -> None:
    refused(states(played(GAUGE), *states_told), reason)


def test_too_few_windows() -> None:
    refused(played(plan=replace(SHORT, repeats=2)), "at least 3 load and 3 idle windows must be measured, but got 2")


def test_nothing_measured_at_all() -> None:
    refused(Played(played().facts, [], 0.0, 0.0), "but got 0 and 0")


def test_a_load_window_without_a_call() -> None:
    trace = played()
    refused(replace(trace, windows=[{**w, "calls": 0} for w in trace.windows]), "at least one call")


def test_windows_too_short_for_the_meter() -> None:
    refused(played(replace(POWER, period_s=0.1)), "must last at least 20 updates of the meter, 2 s")
    refused(played(GAUGE), "must last at least 30 updates", replace(FOUND, update_period_s=0.5))


def test_a_gauge_that_became_slower_than_it_was_calibrated() -> None:
    trace = played(GAUGE, Faults(slower=4.0))
    refused(trace, "must last at least 30 updates of the meter, 31.5 s")


def test_reads_that_failed() -> None:
    trace = played()
    gone = [{**w, "readings": w["readings"][: len(w["readings"]) // 2] if i > 2 else w["readings"]}
            for i, w in enumerate(trace.windows)]  # fmt: skip
    refused(replace(trace, windows=gone), "must be read without gaps")
    refused(replace(trace, windows=[{**w, "readings": []} for w in trace.windows]), "must be read without gaps")


def test_readings_too_seldom() -> None:
    refused(played(plan=replace(SHORT, read_every_s=0.1)), "at least 16 readings")


def test_a_period_that_cannot_be_known() -> None:
    trace = readings(facts(played(), period_s=None), lambda i, row: [row[0], 1e6 + 2e6 * (i % 2)])
    refused(trace, "update period must be known")


def test_a_counter_that_falls() -> None:
    refused(played(COUNTER, Faults(reset_at=0.5)), "where it wraps is not known")
    started = replace(COUNTER, starts_at_uj=9e9)
    refused(played(replace(started, wraps_at_uj=262e9), Faults(reset_at=0.5)), "it was set back")


def test_a_counter_that_may_have_wrapped_unseen() -> None:
    refused(played(replace(COUNTER, wraps_at_uj=0.2e6)), "may have wrapped unseen")


def test_a_counter_that_jumps() -> None:
    trace = played(COUNTER)
    middle = trace.windows[3]["readings"][20][0]
    refused(readings(trace, lambda _, row: [row[0], row[1] + 262e9 * (row[0] > middle)]), "jumped")


def test_a_frozen_meter() -> None:
    refused(played(COUNTER, Faults(frozen_from=0.4)), "stood still")
    refused(played(POWER, Faults(frozen_from=0.4)), "stood still while the load changed")
    refused(played(GAUGE, Faults(frozen_from=0.4)), "stood still while the load changed")


def test_a_meter_that_was_frozen_for_a_while() -> None:
    trace = played()
    start = trace.windows[3]["from_ns"] + 200_000_000
    still = readings(trace, lambda i, row: [row[0], 3e6] if i == 3 and row[0] > start else row)
    refused(still, "stood still for most of a window")


def test_negative_power() -> None:
    refused(readings(played(), lambda _, row: [row[0], -row[1]]), "power must be positive")
    refused(played(GAUGE), "power must be positive", replace(FOUND, sign=-1))


def test_a_load_that_does_not_show() -> None:
    refused(readings(played(), lambda i, row: [row[0], row[1] - 2.2e6 * (i % 2)]), "no difference is certain")
    noisy = replace(POWER, load_w=0.002, noise=(0.3, 0.05))
    refused(played(noisy), "no difference is certain")


def test_a_charger_that_feeds_the_device_past_its_battery() -> None:
    scaled = readings(played(GAUGE), lambda _, row: [row[0], row[1] / 50, row[2] / 50, row[3]])
    refused(scaled, "a charger feeds it past its battery")


def test_idle_power_that_jumps() -> None:
    refused(readings(played(), lambda i, row: [row[0], row[1] + 3e6 * (i > 4)]), "idle power changed by more")


def test_a_load_that_is_interrupted_or_timed_by_another_clock() -> None:
    refused(played(faults=Faults(pause=0.3)), "steady within the load windows")
    refused(played(faults=Faults(clock_s=-0.4)), "steady within the load windows")


# Calibration of gauges.


def waves(device: Device, seed: int = 0, faults: Faults = SOUND) -> Callable[[MeterPlan], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    return lambda plan: play(device, plan, rng, faults, full=True).windows


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unit_ua", [1.0, 1000.0])
def test_sign_and_unit_are_found(sign: int, unit_ua: float) -> None:
    device = replace(GAUGE, battery=Battery(sign=sign, unit_ua=unit_ua))
    found = calibrate(waves(device), now=lambda: 7.0)
    assert (found.sign, found.scale, found.verified_at, found.charge_ratio) == (sign, unit_ua, 7.0, None)


@pytest.mark.parametrize("period_s", [0.25, 0.4, 1.0, 3.0, 10.0])
def test_the_update_period_is_found(period_s: float) -> None:
    device = replace(GAUGE, period_s=period_s, battery=Battery(average=0.0))
    assert calibrate(waves(device), now=lambda: 0.0).update_period_s == pytest.approx(period_s, rel=0.1)


def test_values_that_are_averaged_over_longer_than_an_update_count_as_slow() -> None:
    device = replace(GAUGE, battery=Battery(average=8.0))
    windows = waves(device)(MeterPlan(10.0, 10.0, 4, 0.0, 0.1))
    assert update_period_s(windows) == pytest.approx(0.25, rel=0.1)
    assert response_s(windows, 0.25) == pytest.approx(2.0, rel=0.25)
    assert calibrate(waves(device), now=lambda: 0.0).update_period_s == pytest.approx(2.0, rel=0.25)


def test_updates_that_bring_the_same_value_are_still_counted() -> None:
    coarse = replace(GAUGE, period_s=1.0, battery=Battery(average=0.0, step_ua=20e3), noise=(0.1, 0.0))
    windows = waves(coarse)(MeterPlan(60.0, 60.0, 4, 0.0, 0.1))
    currents = [row[2] for window in windows if window["kind"] == "idle" for row in window["readings"]]
    assert np.mean(np.diff(currents) != 0) < 0.08
    assert update_period_s(windows) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("faults, reason", [
    (Faults(charge_from=0.0), "only while nothing feeds it"),
    (Faults(charge_from=0.5), "must not change"),
    (Faults(charge_from=0.0, charge_w=12.0, charge_told="lies"), "must rise under full load"),
    (Faults(bypass=True), "must rise under full load|too slow|0.05 to 6 A"),
    (Faults(frozen_from=0.0), "too slow"),
    (Faults(slower=400.0), "too slow"),
])  # fmt: skip
def test_what_makes_no_sense_is_not_calibrated(faults: Faults, reason: str) -> None:
    with pytest.raises(HostError, match=reason):
        calibrate(waves(GAUGE, faults=faults), now=lambda: 0.0)


def test_a_current_in_no_known_unit_is_not_calibrated() -> None:
    windows = [{**w, "readings": [[at, value, current / 40, voltage] for at, value, current, voltage in w["readings"]]}
               for w in waves(GAUGE)(LONG)]  # fmt: skip
    with pytest.raises(HostError, match="neither in microamperes nor in milliamperes"):
        sign_and_scale(windows)


def test_a_gauge_that_is_not_read_is_not_calibrated() -> None:
    windows = [{**window, "readings": window["readings"][:2]} for window in waves(GAUGE)(LONG)]
    with pytest.raises(HostError, match="must be read all along"):
        sign_and_scale(windows)


def charged(share: float) -> Callable[[MeterPlan], list[dict[str, Any]]]:
    """A charge counter that falls by a share of what the current says."""

    def measure(plan: MeterPlan) -> list[dict[str, Any]]:
        windows, used = waves(GAUGE)(plan), 0.0
        for window in windows:
            hours = (window["to_ns"] - window["from_ns"]) / 3.6e12
            before = 3e6 - share * used
            used += hours * float(np.mean([row[2] for row in window["readings"]]))
            window["charge_uah"] = {"before": before, "after": 3e6 - share * used}
        return windows

    return measure


def test_the_charge_counter_confirms_the_current() -> None:
    assert calibrate(charged(1.0), now=lambda: 0.0, charge_s=600.0).charge_ratio == pytest.approx(1.0, abs=0.02)
    with pytest.raises(HostError, match=r"makes 1\.2. times the counter's change"):
        calibrate(charged(0.8), now=lambda: 0.0, charge_s=600.0)


def test_a_charge_counter_that_is_not_told_or_hardly_moves_confirms_nothing() -> None:
    assert charge_ratio(waves(GAUGE)(LONG), 1, 1.0) is None
    assert charge_ratio(charged(1.0)(SHORT), 1, 1.0) is None


# Plans.


def test_every_meter_has_a_plan_that_its_period_and_the_policy_allow() -> None:
    assert set(PLANS) == set(METERS)
    assert all(plan.repeats >= 3 for plan in PLANS.values())
    assert Plan(**{name: getattr(PLANS["rapl"], name) for name in Plan.__dataclass_fields__}).repeats == 12


def test_a_slow_gauge_gets_longer_windows() -> None:
    assert plan_for("battery_gauge", 0.5, gauge=True).window_s == 60
    slow = plan_for("battery_gauge", 10.0, gauge=True)
    assert (slow.window_s, slow.idle_s) == (pytest.approx(330), pytest.approx(330))
    assert plan_for("nvml", None, gauge=False) == PLANS["nvml"]
