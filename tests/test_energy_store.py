"""What meters told, in the database: which energies count, what prices and files make of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lut_db import database
from lut_db.energies import EnergyMeasurement, Network
from lut_db.energy import MeterCalibration, estimate
from lut_db.energy_choice import Choice
from lut_db.errors import ExchangeError, LutError
from lut_db.exchange import export_target, import_file
from lut_db.records import Lowering, Measurement
from lut_db.repricing import reprice_all
from lut_db.store import LutStore, open_store
from ops_catalog.graphfile import graph_to_json
from tests.metered import COUNTER, counted
from tests.test_lut_db import FROZEN, KEYS, SESSION, TARGET, fill, network

CALL_NS = 1000.0
CONV, ADD, RELU = KEYS


def metered(of: str | Network, load_uw: float = 2e6, at: float = 1.0, **more: Any) -> EnergyMeasurement:
    told = {"meter": "rapl", "source": "measured", "facts": COUNTER, "windows": counted(load_uw, CALL_NS), **more}
    return EnergyMeasurement(of=of, started_at=at, **told)


def refused(of: str, at: float = 1.0, **more: Any) -> EnergyMeasurement:
    return metered(of, at=at, windows=counted(2e6, CALL_NS, repeats=2), **more)


@pytest.fixture
def store(place: str) -> Iterator[LutStore]:
    with open_store(place) as opened:
        fill(opened, 1000)
        yield opened


def energies(store: LutStore) -> dict[str, float | None]:
    return {entry.key: entry.energy_uj for entry in store.lut(TARGET).entries}


def prices(store: LutStore, *keys: str) -> list[float | None]:
    found = store.lookups.lookup(TARGET, keys)
    return [one.contexts[0].energy_uj for one in found if one is not None]


def test_an_energy_comes_into_the_table_with_its_interval_and_label(store: LutStore) -> None:
    assert store.energies.append(TARGET, [metered(CONV)]) == 1
    entry = store.lut(TARGET).by_key[CONV]
    assert entry.energy_uj == pytest.approx(2.0, rel=0.02)
    assert entry.energy_low_uj is not None
    assert entry.energy_high_uj is not None
    assert entry.energy_low_uj < 2.0 < entry.energy_high_uj
    assert (entry.energy_label, entry.energy_windows) == ("measured", 4)
    assert energies(store)[ADD] is None


def test_readings_come_back_as_they_went_in(store: LutStore) -> None:
    calibration = MeterCalibration(-1, 1000.0, 0.5, 3.0, 1.02)
    rows = [metered(CONV), refused(ADD, at=2.0, calibration=calibration, overhead_ns=40.0)]
    store.energies.append(TARGET, rows)
    assert list(store.energies.measurements(TARGET)) == rows
    assert list(store.energies.measurements(TARGET, ADD)) == rows[1:]


def test_prices_carry_energies_at_once(store: LutStore) -> None:
    assert prices(store, CONV, ADD) == [None, None]
    version = store.lookups.version(TARGET)
    store.energies.append(TARGET, [metered(CONV)])
    assert prices(store, CONV, ADD) == [energies(store)[CONV], None]
    assert store.lookups.version(TARGET) != version


def test_an_operator_costs_what_its_native_operators_do(store: LutStore) -> None:
    store.put_lowerings(TARGET, [Lowering("block", "*", (CONV, ADD, CONV), "plain", ("plain",))], [])
    store.energies.append(TARGET, [metered(CONV)])
    assert prices(store, "block") == [None]
    store.energies.append(TARGET, [metered(ADD, 1e6)])
    assert prices(store, "block") == [pytest.approx(5.0, rel=0.02)]


def test_latencies_that_come_later_leave_energies_in_prices(store: LutStore) -> None:
    store.energies.append(TARGET, [metered(CONV)])
    more = [Measurement(CONV, ((900, 901, 902),) * 3, (0.0,) * 3, 1, 100.0)]
    store.append(TARGET, SESSION, more, "another")
    assert prices(store, CONV) == [energies(store)[CONV]]


def test_the_newest_energy_counts_and_a_refusal_takes_none_away(store: LutStore) -> None:
    store.energies.append(TARGET, [metered(CONV, 2e6, 1.0), metered(CONV, 4e6, 2.0), refused(CONV, 3.0)])
    assert energies(store)[CONV] == pytest.approx(4.0, rel=0.02)
    assert prices(store, CONV) == [energies(store)[CONV]]
    assert store.energies.refused(TARGET) == {}


def test_what_was_refused_is_told_with_its_reason_until_it_is_known(store: LutStore) -> None:
    store.energies.append(TARGET, [metered(ADD), refused(CONV, 2.0)])
    assert energies(store)[CONV] is None
    assert "at least 3 load" in store.energies.refused(TARGET)[CONV]
    store.energies.append(TARGET, [metered(CONV, at=3.0)])
    assert store.energies.refused(TARGET) == {}


def test_what_was_measured_goes_before_what_a_trace_made_up(store: LutStore) -> None:
    made_up = [metered(key, 9e6, 2.0, meter="replay", source="simulated") for key in KEYS]
    store.energies.append(TARGET, made_up)
    assert {entry.energy_label for entry in store.lut(TARGET).entries} == {"simulated"}
    assert prices(store, *KEYS) == [None] * 3
    store.energies.append(TARGET, [metered(CONV, 2e6, 1.0)])
    assert energies(store) == {CONV: pytest.approx(2.0, rel=0.02), ADD: None, RELU: None}
    assert prices(store, *KEYS) == [energies(store)[key] for key in KEYS]
    told = store.energies.operators(TARGET, Choice("replay", "simulated"))
    assert told.keys() == set(KEYS)


def test_of_several_meters_the_one_that_told_of_the_most_counts(store: LutStore) -> None:
    store.energies.append(TARGET, [metered(CONV, 2e6, 1.0)])
    odpm = [metered(key, 3e6, 2.0, meter="odpm") for key in KEYS]
    store.energies.append(TARGET, odpm[:1])
    assert energies(store)[CONV] == pytest.approx(3.0, rel=0.02)
    store.energies.append(TARGET, [metered(ADD, 2e6, 3.0)])
    assert [energies(store)[CONV], energies(store)[ADD]] == [pytest.approx(2.0, rel=0.02)] * 2
    store.energies.append(TARGET, odpm[1:])
    assert [energies(store)[key] for key in KEYS] == [pytest.approx(3.0, rel=0.02)] * 3
    assert prices(store, *KEYS) == [energies(store)[key] for key in KEYS]


def test_what_is_stored_twice_is_there_once(store: LutStore) -> None:
    row = metered(CONV)
    assert [store.energies.append(TARGET, [row]), store.energies.append(TARGET, [row])] == [1, 0]
    assert store.energies.append(TARGET, []) == 0
    assert len(list(store.energies.measurements(TARGET))) == 1


def test_an_energy_is_told_without_the_overhead_of_a_call() -> None:
    whole, half = metered(CONV).estimate, metered(CONV, overhead_ns=CALL_NS / 2).estimate
    assert whole.net_uj is not None
    assert whole.total_high_uj is not None
    assert half.net_uj == pytest.approx(whole.net_uj / 2, rel=0.01)
    assert half.total_high_uj == pytest.approx(whole.total_high_uj / 2, rel=0.01)
    assert (half.load_uw, half.calls) == (whole.load_uw, whole.calls)


def test_a_call_that_is_all_overhead_has_no_energy() -> None:
    none = metered(CONV, overhead_ns=1.1 * CALL_NS).estimate
    assert (none.net_uj, none.total_low_uj, none.load_uw) == (None, None, None)
    assert "longer than one that does nothing" in none.reason


def test_whole_networks_are_kept_beside_operators(store: LutStore) -> None:
    body = graph_to_json(network())
    net = Network("tiny", "macro", body)
    store.energies.append(TARGET, [metered(net, 1e6, 1.0), metered(CONV, at=2.0), metered(net, 2e6, 3.0)])
    (found,) = store.energies.networks(TARGET)
    assert found.of == net
    assert found.estimate.net_uj == pytest.approx(2.0, rel=0.02)
    assert [row.of for row in store.energies.measurements(TARGET)] == [CONV]


def test_the_newest_calibration_of_a_devices_meter_counts(store: LutStore) -> None:
    first, second = MeterCalibration(1, 1.0, 1.0, 1.0), MeterCalibration(-1, 1000.0, 2.0, 2.0, 0.98)
    assert store.energies.calibration("pixel", "battery_gauge") is None
    store.energies.put_calibration("pixel", "battery_gauge", second)
    store.energies.put_calibration("pixel", "battery_gauge", first)
    assert store.energies.calibration("pixel", "battery_gauge") == second
    assert store.energies.calibration("other", "battery_gauge") is None
    assert store.energies.calibration("pixel", "odpm") is None


def test_a_target_that_is_not_there_is_told(store: LutStore) -> None:
    with pytest.raises(LutError, match="a target must be in the database"):
        store.energies.append(replace(TARGET, threads=3), [metered(CONV)])


def test_a_digest_changes_with_energies(store: LutStore) -> None:
    digests = [store.lut(TARGET).digest]
    for at, load_uw in enumerate((2e6, 3e6), 1):
        store.energies.append(TARGET, [metered(CONV, load_uw, float(at))])
        digests.append(store.lut(TARGET).digest)
    assert len(set(digests)) == 3
    plain = [replace(entry, energy_uj=None) for entry in store.lut(TARGET).entries]
    assert replace(store.lut(TARGET), entries=tuple(plain)).digest == digests[0]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_carries_every_reading(store: LutStore, kind: str, tmp_path: Path) -> None:
    rows = [
        metered(CONV, overhead_ns=100.0, calibration=MeterCalibration(1, 1.0, 1.0, 1.0)),
        refused(ADD, 2.0, meter="replay", source="simulated"),
    ]
    store.energies.append(TARGET, rows)
    export_target(store, TARGET, tmp_path / f"t.{kind}")
    with open_store(tmp_path / "other.db") as other:
        for _ in range(2):
            import_file(other, tmp_path / f"t.{kind}")
            assert list(other.energies.measurements(TARGET)) == rows
            assert other.lut(TARGET).digest == store.lut(TARGET).digest
        assert other.lookups.lookup(TARGET, KEYS) == store.lookups.lookup(TARGET, KEYS)


def test_a_csv_file_has_energies_where_a_meter_told_of_them(store: LutStore, tmp_path: Path) -> None:
    store.energies.append(TARGET, [metered(CONV)])
    export_target(store, TARGET, tmp_path / "t.csv")
    heading, *lines = (line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines())
    assert heading[-5:] == ["doubts", "energy_uj", "energy_low_uj", "energy_high_uj", "energy_label"]
    told = {line[0]: line[-4:] for line in lines}
    assert float(told[CONV][0]) == pytest.approx(2.0, rel=0.02)
    assert told[CONV][-1] == "measured"
    assert told[ADD.split(",")[0]] == [""] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"windows": [{"kind": "load"}]},
        {"windows": 3},
        {"facts": {}},
        {"started_at": None},
        {"calibration": {"sign": 1}},
        {"volume": 3},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_readings_that_cannot_be_understood_are_named_and_nothing_is_imported(
    store: LutStore, change: dict[str, Any], tmp_path: Path
) -> None:
    store.energies.append(TARGET, [metered(CONV)])
    export_target(store, TARGET, tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    broken = json.dumps({**json.loads(lines[-1]), **change})
    (tmp_path / "t.jsonl").write_text("\n".join([*lines[:-1], broken]))
    with open_store(tmp_path / "other.db") as other:
        with pytest.raises(ExchangeError, match=f"line {len(lines)} must be a whole"):
            import_file(other, tmp_path / "t.jsonl")
        assert other.targets() == []


def test_prices_made_anew_are_the_same(store: LutStore) -> None:
    store.energies.append(TARGET, [metered(CONV), metered(ADD, at=2.0, meter="replay", source="simulated")])
    before = store.lookups.lookup(TARGET, KEYS)
    with database.writing(store._engine) as connection:
        reprice_all(connection)
    assert store.lookups.lookup(TARGET, KEYS) == before


def test_a_frozen_database_tells_what_its_meters_read(tmp_path: Path) -> None:
    path = tmp_path / "lut.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((FROZEN / "schema_0006.sql").read_text())
    database.upgrade(path)
    with open_store(path) as store:
        (target,) = store.targets()
        found = store.energies.operators(target)[CONV].estimate
        (row,) = store.energies.measurements(target, CONV)
        assert found.net_uj == pytest.approx(1.8, rel=0.02)
        assert estimate(row.facts, row.windows, row.calibration).net_uj == pytest.approx(2.0, rel=0.02)
        assert list(store.energies.refused(target)) == [ADD]
        assert len(store.energies.networks(target)) == 1
        assert store.energies.calibration("local-cpu", "battery_gauge") == MeterCalibration(-1, 1.0, 1.0, 4.0, 1.01)
        assert prices_of(store, target) == found.net_uj


def prices_of(store: LutStore, target: Any) -> float | None:
    (one,) = store.lookups.lookup(target, [CONV])
    return None if one is None else one.contexts[0].energy_uj
