"""How little must be measured? Networks predicted from a few percent of a space, actively or randomly chosen.

Whole networks are measured, and all operators of many random networks; then tables are cut down to a share of them,
the rest predicted, the calibration fitted on the same eight networks, and the errors of the others reported. Beside it
three models of single operators are compared on those left out: ours (a Gaussian process), gradient boosting and
log-linear.

    python -m benchmarks.interpolation --imported builtin:note10
    python -m benchmarks.interpolation [--space chamnet-mobile] [--pool 200] [--networks 32] [--engine litert]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from host import cli
from host.budget import FIRST, usual_context
from host.calibration import error_metrics, fit, l2_bytes_of, predict
from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from host.validate import NetworkResult, Question, sample_networks, validate
from lut_db.lut import LatencyLut
from lut_db.store import open_store
from ops_catalog.spec import OpSpec
from search.active import Usage, first_operators, next_operators, usage_of
from search.completion import Completed, complete_for_graphs
from search.predictors import Array
from search.predictors.latency import LEAST, fit_latency, measured_rows
from search.predictors.op_features import describe_all
from search.staircase import detect, probes

SHARES = (0.02, 0.05, 0.10, 0.20)
RANDOM_SEEDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="chamnet-mobile")
    parser.add_argument("--pool", type=int, default=200, help="random networks whose operators are measured")
    parser.add_argument("--networks", type=int, default=32)
    parser.add_argument("--engine", default="litert,onnxruntime")
    parser.add_argument("--db", type=Path, help="keep the measurements here")
    parser.add_argument("--imported", help="instead: the entries of an imported table, such as builtin:note10")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.imported:
            print_imported(asked.imported, Path(folder) / "lut.db")
            return
        for engine in asked.engine.split(","):
            run(engine, asked.space, asked.pool, asked.networks, asked.db or Path(folder) / "lut.db")


def run(engine: str, space: str, pool: int, networks: int, db: Path) -> None:
    unit, setting = find_unit("local-cpu"), Setting(engine, choose_cpus(1))
    graphs = sample_networks(space, pool, seed=1)
    with open_store(db) as store:
        workload = Workload(graphs=tuple(graphs), operators=tuple(op for *_, op in probes("float32")))
        profile(store, unit, setting, workload, Progress())
        validation = validate(store, unit, setting, Question(space, networks), Progress())
        target = store.target_named(validation.target)
        lut = store.lut(target)
    steps = detect(lut)
    print(f"\n## {validation.target}\n\nstaircases: {steps or 'none'}\n")
    networks_tested = [*graphs, *(result.graph for result in validation.results)]
    print_networks(lut, steps, usage_of(networks_tested), validation.results, l2_bytes_of(validation.device))
    print_operators(lut, steps)


def print_networks(
    lut: LatencyLut, steps: dict[tuple[str, str], int], usage: Usage, results: Sequence[NetworkResult], l2_bytes: int
) -> None:
    """Errors of whole networks by the share of operators that was measured."""
    print(f"| share of {len(usage.operators)} operators | chosen | networks: mean error % | within 95 % interval |")
    print("|---|---|---|---|")
    full = error_of(Completed(lut, None, {}), results, l2_bytes)
    print(f"| 100 % | - | {full[0]:.2f} | - |", flush=True)
    chosen = active_choices(lut, steps, usage)
    for share in SHARES:
        count = round(share * len(usage.operators))
        error, covered = error_of(completed(cut(lut, chosen[:count]), steps, results), results, l2_bytes)
        print(f"| {share:.0%} | actively | {error:.2f} | {covered:.0f} % |", flush=True)
        found = []
        for seed in range(RANDOM_SEEDS):
            some = random_choice(usage, count, seed)
            found.append(error_of(completed(cut(lut, some), steps, results), results, l2_bytes))
        error, covered = np.mean(found, axis=0)
        print(f"| {share:.0%} | at random ({RANDOM_SEEDS} seeds) | {error:.2f} | {covered:.0f} % |", flush=True)


def active_choices(lut: LatencyLut, steps: dict[tuple[str, str], int], usage: Usage) -> list[OpSpec]:
    """Operators in the order in which a budgeted run would measure them."""
    most, context = round(max(SHARES) * len(usage.operators)), usual_context(lut)
    chosen = first_operators(usage, min(FIRST, round(0.6 * SHARES[0] * len(usage.operators))))
    while len(chosen) < most:
        model = fit_latency(cut(lut, chosen), steps)
        chosen += next_operators(usage, chosen, model, min(most - len(chosen), max(8, len(chosen) // 3)), context)
    return chosen


def random_choice(usage: Usage, count: int, seed: int) -> list[OpSpec]:
    """Some of every type, the rest at random."""
    order = [usage.operators[i] for i in np.random.default_rng(seed).permutation(len(usage.operators))]
    first = [op for kind in sorted({op.type for op in order}) for op in [o for o in order if o.type == kind][:LEAST]]
    rest = [op for op in order if op not in set(first)]
    return [*first, *rest][: max(count, len(first))]


def cut(lut: LatencyLut, kept: Iterable[OpSpec]) -> LatencyLut:
    """The table as if these operators, and the probes of staircases, were all that was measured."""
    keys = {op.key for op in kept} | {op.key for *_, op in probes(lut.target.dtype)}
    lowerings = {place: row for place, row in lut.lowerings.items() if row.op_key in keys}
    natives = {key for row in lowerings.values() for key in row.natives}
    return replace(lut, entries=tuple(e for e in lut.entries if e.key in natives), lowerings=lowerings)


def completed(lut: LatencyLut, steps: dict[tuple[str, str], int], results: Sequence[NetworkResult]) -> Completed:
    known = Completed(lut, fit_latency(lut, steps), {})
    return complete_for_graphs(known, [result.graph for result in results], estimate=True)


def error_of(known: Completed, results: Sequence[NetworkResult], l2_bytes: int) -> tuple[float, float]:
    """Mean error of the unseen networks, and how many lie within their interval, in percent."""
    prices = [known.lut.price(result.graph) for result in results]
    measured = np.array([result.measured_ns for result in results])
    roles = np.array([result.role for result in results])
    fitted, tested = np.flatnonzero(roles == "calibration"), np.flatnonzero(roles == "test")
    names = [results[i].graph.name for i in fitted]
    calibration = fit([prices[i] for i in fitted], measured[fitted], names, "", l2_bytes)
    predicted = predict([prices[i] for i in tested], calibration)
    error = np.array([known.error_ns(results[i].graph) for i in tested])
    inside = np.abs(predicted - measured[tested]) <= 1.96 * np.maximum(error, calibration.spread * predicted)
    return error_metrics(predicted, measured[tested])["mape"], 100 * float(inside.mean())


def print_operators(lut: LatencyLut, steps: dict[tuple[str, str], int]) -> None:
    """Single operators left out, predicted by three models."""
    rows, latency = measured_rows(lut)
    order = np.random.default_rng(0).permutation(len(rows))
    print("\nOperators that lie among the measured ones in every size:\n")
    print("| trained on | model | mean error % | 90th percentile | within 95 % interval | fit s |")
    print("|---|---|---|---|---|---|")
    for share in SHARES[1:]:
        known, unseen = np.split(order, [round(share * len(rows))])
        within = fit_latency(cut_rows(lut, known), steps).within([rows[i] for i in unseen])
        for name, model in MODELS.items():
            start = time.perf_counter()
            predicted, error = model(lut, steps, known, unseen)
            seconds = time.perf_counter() - start
            usable = np.isfinite(predicted) & within
            off = np.log(predicted[usable] / latency[unseen][usable])
            inside = "-" if error is None else f"{100 * (np.abs(off) <= 1.96 * error[usable]).mean():.0f} %"
            size = np.abs(np.expm1(off))
            print(
                f"| {share:.0%} ({len(known)}) | {name} | {100 * size.mean():.2f} | "
                f"{100 * np.quantile(size, 0.9):.1f} | {inside} | {seconds:.1f} |",
                flush=True,
            )


def print_imported(source: str, db: Path) -> None:
    """Entries of another tool's table that are left out, predicted from the others."""
    if cli.run(["lut", "import", source, "--db", str(db)]):
        raise SystemExit(1)
    with open_store(db) as store:
        lut = store.lut(store.targets()[0])
    rows, latency = measured_rows(lut)
    print(f"\n| trained on, of {len(rows)} entries | mean error % ({RANDOM_SEEDS} seeds) | within 95 % interval |")
    print("|---|---|---|")
    for share in (*SHARES, 0.5):
        found = []
        for seed in range(RANDOM_SEEDS):
            order = np.random.default_rng(seed).permutation(len(rows))
            known, unseen = np.split(order, [round(share * len(rows))])
            predicted, error = fit_latency(cut_rows(lut, known), {}).predict([rows[i] for i in unseen])
            usable = np.isfinite(predicted)
            off = np.log(predicted[usable] / latency[unseen][usable])
            found.append((np.abs(np.expm1(off)).mean(), (np.abs(off) <= 1.96 * error[usable]).mean()))
        mean, covered = 100 * np.mean(found, axis=0)
        print(f"| {share:.0%} | {mean:.2f} | {covered:.0f} % |", flush=True)


def by_process(
    lut: LatencyLut, steps: dict[tuple[str, str], int], known: Array, unseen: Array
) -> tuple[Array, Array | None]:
    rows, _ = measured_rows(lut)
    model = fit_latency(cut_rows(lut, known), steps)
    return model.predict([rows[i] for i in unseen])


def cut_rows(lut: LatencyLut, known: Array) -> LatencyLut:
    rows, _ = measured_rows(lut)
    places = {(rows[i][0].key, rows[i][1]) for i in known}
    return replace(lut, lowerings={place: row for place, row in lut.lowerings.items() if place in places})


def by_boosting(
    lut: LatencyLut, steps: dict[tuple[str, str], int], known: Array, unseen: Array
) -> tuple[Array, Array | None]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _by_type(
        lut, steps, known, unseen,
        lambda x, y: HistGradientBoostingRegressor(max_iter=300, min_samples_leaf=3, random_state=0).fit(x, y).predict,
    )  # fmt: skip


def by_line(
    lut: LatencyLut, steps: dict[tuple[str, str], int], known: Array, unseen: Array
) -> tuple[Array, Array | None]:
    from sklearn.linear_model import BayesianRidge

    return _by_type(lut, steps, known, unseen, lambda x, y: BayesianRidge().fit(x, y).predict)


def _by_type(
    lut: LatencyLut, steps: dict[tuple[str, str], int], known: Array, unseen: Array,
    learn: Callable[[Array, Array], Callable[[Array], Array]],
) -> tuple[Array, None]:  # fmt: skip
    rows, latency = measured_rows(lut)
    kinds = np.array([op.type for op, _ in rows])
    predicted = np.full(len(unseen), np.nan)
    for kind in sorted(set(kinds)):
        train, test = known[kinds[known] == kind], np.flatnonzero(kinds[unseen] == kind)
        if len(train) >= LEAST and len(test):
            told = learn(describe_all([rows[i] for i in train], steps), np.log(latency[train]))
            predicted[test] = np.exp(told(describe_all([rows[i] for i in unseen[test]], steps)))
    return predicted, None


MODELS = {"Gaussian process": by_process, "gradient boosting": by_boosting, "log-linear": by_line}


if __name__ == "__main__":
    main()
