"""Prices of single operators in every context, made of entries of native operators and of what operators become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lut_db.aggregate import is_clean
from lut_db.records import LutEntry

Plan = tuple[str, tuple[str, ...]]
"""A context, and the native operators that an operator becomes in it."""
Measured = tuple[LutEntry, float]
"""What a native operator's measurements come to, and when the newest of them was made."""
_decode = json.JSONDecoder().raw_decode


class Price(NamedTuple):
    """What an operator costs in one context. A tuple: ten thousand are made for one request.

    Attributes:
        context: the lowering's (``records.Lowering``); "" for a native operator itself.
        mad_ns: of several native operators, the sum of theirs.
        samples, passes: of several native operators, those of the one with the fewest.
        energy_uj: of a call; None where that of any native operator is not known.
        label: measured, emulated, simulated or imported.
        natives: keys of what the engine runs; empty, and the latency 0, where it runs nothing.
    """

    context: str
    latency_ns: float
    mad_ns: float
    samples: int
    passes: int
    energy_uj: float | None
    label: str
    doubts: tuple[str, ...]
    natives: tuple[str, ...]


class Found(NamedTuple):
    """An operator that has a price in one context or more."""

    key: str
    contexts: tuple[Price, ...]


def price_rows(key: str, plans: Sequence[Plan], measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """An operator's rows of the table ``price``, one a context; a context with an unmeasured native operator has none.

    Its price as a native operator is left out where a context says the same.
    """
    known = [plan for plan in plans if all(native in measured for native in plan[1])]
    if key in measured and (key,) not in [natives for _, natives in known]:
        known.append(("", (key,)))
    return [_row(key, context, natives, [measured[native] for native in natives]) for context, natives in known]


def _row(key: str, context: str, natives: tuple[str, ...], measured: Sequence[Measured]) -> dict[str, Any]:
    entries = [entry for entry, _ in measured]
    energies = [entry.energy_uj for entry in entries]
    doubts = dict.fromkeys(doubt for entry in entries for doubt in entry.doubts)
    return {
        "key": key,
        "context": context,
        "natives": "" if natives == (key,) else json.dumps(natives),
        "latency_ns": float(sum(entry.latency_ns for entry in entries)),
        "mad_ns": float(sum(entry.mad_ns for entry in entries)),
        "samples": min((entry.samples for entry in entries), default=0),
        "passes": min((entry.passes for entry in entries), default=0),
        "energy_uj": None if None in energies else float(sum(energy for energy in energies if energy is not None)),
        "doubts": " ".join(doubts),
        "clean": is_clean(doubts),
        "measured_at": max((at for _, at in measured), default=None),
    }


def natives_of(key: str, text: str) -> tuple[str, ...]:
    """What the column ``natives`` says: nothing for the operator itself, else a JSON list."""
    return tuple(_decode(text)[0]) if text else (key,)
