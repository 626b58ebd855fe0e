"""Windows of meters as an agent tells them, made for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

COUNTER = {
    "name": "rapl", "kind": "counter", "period_s": 0.001, "wraps_at": None, "needs_calibration": False,
    "rails": ["package-0"], "scope": "package", "source": "a test",
}  # fmt: skip
IDLE_UW, LENGTH_S, EVERY_S = 1_000_000, 2.0, 0.02


def counted(
    load_uw: float, call_ns: float, repeats: int = 4, noise: float = 0.01, seed: int = 0
) -> list[dict[str, Any]]:
    """A counter's windows of a model that adds so much to the idle power."""
    rng, now_s, energy_uj, found = np.random.default_rng(seed), 0.0, 0.0, []
    for number in range(2 * repeats + 1):
        added = load_uw if number % 2 else 0.0
        times = now_s + np.arange(0.0, LENGTH_S + EVERY_S / 2, EVERY_S)
        powers = (IDLE_UW + added) * (1 + noise * rng.standard_normal(len(times)))
        energies = energy_uj + np.concatenate([[0.0], np.cumsum(powers[1:] * EVERY_S)])
        found.append(
            {
                "kind": "load" if number % 2 else "idle",
                "from_ns": round(1e9 * times[0]), "to_ns": round(1e9 * times[-1]),
                "calls": round(1e9 * LENGTH_S / call_ns) if number % 2 else 0,
                "readings": [[round(1e9 * at), float(round(uj))] for at, uj in zip(times, energies, strict=True)],
                "state": [], "temp_mc": {"before": {}, "after": {}}, "charge_uah": {"before": None, "after": None},
                "errors": 0, "error": "",
            }
        )  # fmt: skip
        now_s, energy_uj = float(times[-1]) + 0.5, float(energies[-1]) + 0.5 * IDLE_UW
    return found


def noisy(kind: str, idle_uw: float, seconds: int = 300, noise: float = 0.02, **more: Any) -> dict[str, Any]:
    """A trace for the replay meter whose idle power is never quite the same."""
    rng = np.random.default_rng(1)
    points = [[i / 5, round(idle_uw * (1 + noise * rng.standard_normal()))] for i in range(5 * seconds)]
    return {"kind": kind, "points": points, "length_s": seconds, "repeat": True, **more}


GAUGE: dict[str, Any] = {
    "period_s": 0.25, "sign": -1, "step": 100, "charge_uah": 3_000_000,
    "states": [[0, {"status": "Discharging", "plugged": "none"}]],
}  # fmt: skip
"""Of a gauge that counts microamperes, negative while it discharges."""
