"""How well is energy predicted? On SIMULATED devices (``power_devices``, ``power_boards``): no figure was measured.

Operators: a tenth of a table is metered, chosen in two rounds, and the rest predicted; beside it, on the same readings,
energy as one constant power times latency, as one of every class, and as a process of energy itself. Then the same from
random operators, and sums of whole networks. Networks: ours beside the constant power of ten, board by board.

    python -m benchmarks.energy [--devices 24] [--share 0.1] [--boards 4] [--sizes 30,60,240]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.power_boards import KINDS, make_board
from benchmarks.power_boards import SPACES as BOARD_SPACES
from benchmarks.power_devices import SPACES, Bench, make_bench
from search.predictors import Array
from search.predictors.additive import Noise, Term
from search.predictors.additive_fit import fit
from search.predictors.energy import LEAST, EnergyModel, Metered, choose, fit_energy
from search.predictors.energy_evaluate import constant_power, errors_of, power_gp
from search.predictors.power_features import TERMS, describe_operators

SEEDS, UNSEEN = 8, 700
FREE = tuple(Term(term.name, term.smooth, 5 * term.sd, term.spread, term.within) for term in TERMS)
"""Of a process that does not know that energy is power times latency."""

Scores = tuple[float, float]
"""Median error of the energies that were not metered, and of networks' sums on average, in percent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=24)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--boards", type=int, default=4, help="of each kind and space; 0: none")
    parser.add_argument("--sizes", default="30,60,240")
    asked = parser.parse_args()
    print("All devices and boards are SIMULATED.")
    for space in SPACES:
        show_operators(space, asked.devices, asked.share)
    if asked.boards:
        show_boards(asked.boards, [int(size) for size in asked.sizes.split(",")])


def show_operators(space: str, devices: int, share: float) -> None:
    rows: dict[str, list[Scores]] = {}
    intervals: list[tuple[float, float, float]] = []
    for seed in range(devices):
        bench, rng = make_bench(space, seed), np.random.default_rng(1000 + seed)
        count = max(LEAST, round(share * len(bench.entries)))
        start = time.perf_counter()
        metered = metered_in_two_rounds(bench, count, rng)
        seconds = time.perf_counter() - start
        model = fit_energy(bench.entries, metered)
        rows.setdefault("ours", []).append(scores(bench, metered, predicted(model)))
        intervals.append((*coverage(bench, model), seconds))
        for name, energies in baselines(bench, metered).items():
            rows.setdefault(name, []).append(scores(bench, metered, energies))
        at_random = bench.meter([bench.entries[i].key for i in rng.permutation(len(bench.entries))[:count]], rng)
        random_model = predicted(fit_energy(bench.entries, at_random))
        rows.setdefault("ours, operators at random", []).append(scores(bench, at_random, random_model))
    print(f"\n## {space}: {count} of {len(bench.entries)} operators metered, {devices} simulated devices\n")
    print("| model | operators: median error % | worst device | networks: mean error % | worst device |")
    print("|---|---|---|---|---|")
    for name, found in rows.items():
        (operators, networks), (worst, worst_networks) = np.mean(found, axis=0), np.max(found, axis=0)
        print(f"| {name} | {operators:.2f} | {worst:.2f} | {networks:.2f} | {worst_networks:.2f} |")
    single, sums, seconds = np.array(intervals).T
    print(
        f"\n95 % intervals of ours hold {100 * single.mean():.1f} % of the operators (devices from "
        f"{100 * single.min():.0f} to {100 * single.max():.0f}), {100 * sums.mean():.1f} % of the networks' sums; "
        f"choosing and learning took {seconds.mean():.1f} s",
        flush=True,
    )


def metered_in_two_rounds(bench: Bench, count: int, rng: np.random.Generator) -> Mapping[str, Metered]:
    """Half of the operators chosen with nothing known, the others with what these told."""
    first = choose(bench.entries, max(LEAST, count // 2), bench.usage)
    metered = bench.meter(first, rng)
    model = fit_energy(bench.entries, metered)
    return metered | bench.meter(choose(bench.entries, count - len(first), bench.usage, model), rng)


def predicted(model: EnergyModel) -> Array:
    energies = model.energies()
    return np.array([energies[key].energy_uj for key in model.operators.places])


def scores(bench: Bench, metered: Mapping[str, Metered], energies: Array) -> Scores:
    """Energies are in the order of the entries; those metered are as they were metered."""
    left = [place for key, place in bench.places.items() if key not in metered]
    known = energies.copy()
    for key, m in metered.items():
        known[bench.places[key]] = m.energy_uj
    sums = [(_sum(bench, counts, known), _sum(bench, counts, bench.truth)) for counts in bench.networks]
    off = np.abs(energies[left] / bench.truth[left] - 1.0)
    return 100 * float(np.median(off)), 100 * float(np.mean([abs(told / true - 1.0) for told, true in sums]))


def coverage(bench: Bench, model: EnergyModel) -> tuple[float, float]:
    """Share of what was not metered, and of networks' sums, within the 95 % intervals."""
    energies = model.energies()
    left = [(energies[key], bench.truth[place]) for key, place in bench.places.items() if key not in model.metered]
    single = float(np.mean([e.low_uj <= true <= e.high_uj for e, true in left]))
    known = np.array([energies[key].energy_uj for key in bench.places])
    inside = [
        abs(_sum(bench, counts, known) - _sum(bench, counts, bench.truth)) <= 1.96 * model.network_error_uj(counts)
        for counts in bench.networks
    ]
    return single, float(np.mean(inside))


def baselines(bench: Bench, metered: Mapping[str, Metered]) -> Mapping[str, Array]:
    operators = describe_operators(bench.entries)
    keys = list(metered)
    points, log_ns = operators.part(keys)
    log_energy = np.log([metered[key].energy_uj for key in keys])
    power = log_energy - log_ns
    classes = {group: power[points.groups == group].mean() for group in set(points.groups.tolist())}
    of_class = np.array([classes.get(group, power.mean()) for group in operators.points.groups.tolist()])
    direct = fit(FREE, points, log_energy, Noise(sd=0.02))
    return {
        "one power": np.exp(power.mean() + operators.log_ns),
        "a power of every class": np.exp(of_class + operators.log_ns),
        "a process of energy itself": np.exp(direct.predict(operators.points)),
    }


def _sum(bench: Bench, counts: Mapping[str, int], energies: Array) -> float:
    return float(sum(energies[bench.places[key]] * times for key, times in counts.items()))


def show_boards(boards: int, sizes: Sequence[int]) -> None:
    print(f"\n## Whole networks: {boards} boards of each kind on {', '.join(BOARD_SPACES)}, {SEEDS} samples each\n")
    print("Errors are means (medians) in percent; worse: boards on which ours is, by how much of it at most.\n")
    print("| kind | n | ours | power of ten | within 95 % | worse by mean | by median |")
    print("|---|---|---|---|---|---|---|")
    every: list[Array] = []
    for kind in KINDS:
        for size in sizes:
            found = np.array(
                [board_scores(space, kind, seed, size) for space in BOARD_SPACES for seed in range(boards)]
            )
            mean, median, inside, ten, ten_median = found.mean(axis=0)
            worse = np.stack([found[:, 0] / found[:, 3], found[:, 1] / found[:, 4]], axis=1) - 1.0
            every.append(worse)
            told = " | ".join(_worse(column) for column in worse.T)
            ours, baseline = f"{mean:.2f} ({median:.2f})", f"{ten:.2f} ({ten_median:.2f})"
            print(f"| {kind} | {size} | {ours} | {baseline} | {100 * inside:.1f} % | {told} |", flush=True)
    means, medians = np.concatenate(every).T
    print(
        f"\nOf {len(means)} boards and sizes, ours is worse by its mean on {(means > 0).sum()}, by its median on "
        f"{(medians > 0).sum()}; on average its errors are {-100 * means.mean():.0f} % and "
        f"{-100 * medians.mean():.0f} % smaller"
    )


def board_scores(space: str, kind: str, seed: int, size: int) -> list[float]:
    """Of ours: mean and median error, share within the interval; of the power of ten: mean and median error."""
    board = make_board(space, kind, seed)
    pool, unseen = np.arange(len(board) - UNSEEN), board.part(np.arange(len(board) - UNSEEN, len(board)))
    found = []
    for sample in range(SEEDS):
        known = board.part(np.random.default_rng(sample).permutation(pool)[:size])
        ours, ten = (errors_of(*model(known, unseen), unseen.energy_mj) for model in (power_gp, constant_power))
        found.append([ours["mape"], ours["median_ape"], ours["coverage95"], ten["mape"], ten["median_ape"]])
    return [float(value) for value in np.mean(found, axis=0)]


def _worse(shares: Array) -> str:
    return f"{(shares > 0).sum()}, {100 * shares.max():.1f} %" if (shares > 0).any() else "0"


if __name__ == "__main__":
    main()
