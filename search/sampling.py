"""Which networks to train next, so that the predictor learns most from few trainings.

A pool of quasi-random architectures; the first round takes its start, every further one a mix: half are those whose
outcome is most uncertain, each once the ones before it are taken as known; half those of the best upper confidence
bound in strata of MACs, so that the predictor is good where a search will look. The last round takes the best upper
confidence bounds and expected improvements of every stratum.

An evaluator that trains several at once gets another network whenever one has ended, with no rounds in between. Those
still in training, and those that brought no accuracy, are believed to turn out as predicted, so that what they would
tell is not asked for again.

References:
    Dai et al., ChamNet, CVPR 2019 (iterative sampling); Krause et al., JMLR 2008 (greedy variance reduction).
    Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010 (kriging believer).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from lut_db.errors import LutError
from lut_db.samples import AccuracySample, SampleStore
from search.cells import Arithmetic, Array
from search.evaluators import STOPPED_EARLY, AsynchronousEvaluator, Evaluation, Evaluator
from search.features import search_inputs
from search.predictors import LEAST_SAMPLES, Inputs, fit_predictor
from search.predictors.evaluate import scores
from search.predictors.gp import GaussianProcess
from search.predictors.informative import most_informative
from search.spaces.space import Genome, Genomes, SearchSpace, format_genome, parse_genome

STRATEGIES = ("mixed", "variance", "random")
POOL = 2048
STRATA = 8
BOUND = 1.0
"""Standard deviations above the mean in an upper confidence bound."""

UNBALANCED_POWER = 1.5
"""Of the uniform numbers of an unbalanced pool: choices lean towards low values."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to sample.

    Attributes:
        rounds, per_round: trainings in all are their product.
        until_rmse: stop once the leave-one-out error is this small, in percent points; None to use all rounds.
        unbalanced: lean the pool towards cheap networks.
    """

    rounds: int
    per_round: int
    strategy: str = "mixed"
    until_rmse: float | None = None
    unbalanced: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """How far a sampling is: networks trained and failed so far, and the leave-one-out scores.

    Attributes:
        stopped_early: how many of the failed only fell behind the others.
    """

    number: int
    trained: int
    failed: int
    rmse: float | None
    kendall_tau: float | None
    stopped_early: int = 0


def sample_rounds(
    store: SampleStore, blank: AccuracySample, space: SearchSpace, arithmetic: Arithmetic, evaluator: Evaluator,
    plan: Plan, tell: Callable[[Round], None],
) -> Round:  # fmt: skip
    """Trains networks round by round and stores every outcome at once; goes on where an earlier call stopped.

    An asynchronous evaluator knows no rounds: a network that has ended is followed by the next.

    Args:
        blank: space, data set, recipe, seed and source of the samples to make.

    Raises:
        LutError: an unknown strategy, or the pool is used up.
    """
    if plan.strategy not in STRATEGIES:
        raise LutError(f"--strategy must be one of {', '.join(STRATEGIES)}, but got {plan.strategy!r}")
    pool = architecture_pool(space, POOL, plan) if evaluator.pool is None else evaluator.pool
    if isinstance(evaluator, AsynchronousEvaluator):
        return _sample_stream(store, blank, space, arithmetic, evaluator, plan, tell, pool)
    while True:
        known = store.samples(space.name, blank.dataset, blank.recipe)
        state = _state(known, space, arithmetic, plan)
        tell(state)
        count = min(plan.per_round, plan.rounds * plan.per_round - len(known))
        if count <= 0 or _good_enough(state, plan):
            return state
        last = len(known) + count >= plan.rounds * plan.per_round and plan.rounds > 1
        genomes = next_networks(known, pool, arithmetic, plan, count, last)
        for evaluation in evaluator.evaluate(genomes):
            store.put([_sample(blank, evaluation)])


def _sample_stream(
    store: SampleStore, blank: AccuracySample, space: SearchSpace, arithmetic: Arithmetic,
    evaluator: AsynchronousEvaluator, plan: Plan, tell: Callable[[Round], None], pool: Genomes,
) -> Round:  # fmt: skip
    """Keeps the evaluator busy; a round is so many outcomes, and what an earlier call began comes first."""
    known = store.samples(space.name, blank.dataset, blank.recipe)
    state = _state(known, space, arithmetic, plan)
    tell(state)
    fresh = {tuple(genome) for genome in _untried(known, pool).tolist()}
    begun = deque(genome for genome in evaluator.begun() if genome in fresh)

    def ask(pending: Sequence[Genome]) -> Genome | None:
        if len(known) + len(pending) >= plan.rounds * plan.per_round or _good_enough(state, plan):
            return None
        return begun.popleft() if begun else next_network(known, pending, pool, arithmetic, plan)

    with closing(evaluator.stream(ask)) as outcomes:
        for evaluation in outcomes:
            store.put([_sample(blank, evaluation)])
            known = store.samples(space.name, blank.dataset, blank.recipe)
            if len(known) % plan.per_round == 0:
                state = _state(known, space, arithmetic, plan)
                tell(state)
    if len(known) % plan.per_round:
        state = _state(known, space, arithmetic, plan)
        tell(state)
    return state


def architecture_pool(space: SearchSpace, size: int, plan: Plan) -> Genomes:
    """Distinct quasi-random genomes (at most size x d), every gene's choices equally often or leaning to low values."""
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(space.genes), rng=np.random.default_rng(plan.seed))
    uniform = sobol.random(1 << (size - 1).bit_length())[:size] ** (UNBALANCED_POWER if plan.unbalanced else 1.0)
    columns = [
        np.array(gene.choices)[np.minimum((column * len(gene.choices)).astype(int), len(gene.choices) - 1)]
        for gene, column in zip(space.genes, uniform.T, strict=True)
    ]
    genomes = np.stack(columns, axis=1)
    if space.same is not None:
        genomes = space.same(genomes)
    return genomes[np.sort(np.unique(genomes, axis=0, return_index=True)[1])]


def next_networks(
    known: Sequence[AccuracySample], pool: Genomes, arithmetic: Arithmetic, plan: Plan, count: int, last: bool
) -> list[Genome]:
    """The networks of the pool to train next. Raises LutError where none is left."""
    left = _untried(known, pool)
    if not len(left):
        raise LutError(f"the pool must have networks that were not tried, but all {len(pool)} were")
    good = _good(known)
    rng = np.random.default_rng((plan.seed, len(known)))
    if len(good) < LEAST_SAMPLES or plan.strategy == "random":
        rows = rng.permutation(len(left))[:count] if plan.strategy == "random" else np.arange(min(count, len(left)))
    else:
        process, percent = _fitted(good, arithmetic)
        rows = choose(process, search_inputs(arithmetic, left), float(percent.max()), plan.strategy, count, last)
    return [tuple(map(int, genome)) for genome in left[rows]]


def next_network(
    known: Sequence[AccuracySample], pending: Sequence[Genome], pool: Genomes, arithmetic: Arithmetic, plan: Plan
) -> Genome | None:
    """The network of the pool to train next to those in training; None where only they are left.

    Raises:
        LutError: none is left, and none is in training.
    """
    left = _untried(known, pool, pending)
    if not len(left) and pending:
        return None
    if not len(left):
        raise LutError(f"the pool must have networks that were not tried, but all {len(pool)} were")
    good, number = _good(known), len(known) + len(pending)
    if plan.strategy == "random":
        row = int(np.random.default_rng((plan.seed, number)).integers(len(left)))
    elif len(good) < LEAST_SAMPLES:
        row = 0
    else:
        process, percent = _fitted(good, arithmetic)
        blanks = [parse_genome(sample.genome) for sample in known if sample.accuracy_percent is None]
        if believed := [*blanks, *pending]:
            process = process.believing(search_inputs(arithmetic, np.array(believed, np.int64)))
        row = choose_next(process, search_inputs(arithmetic, left), float(percent.max()), plan, number)
    return tuple(map(int, left[row]))


def choose(process: GaussianProcess, inputs: Inputs, best: float, strategy: str, count: int, last: bool) -> Array:
    """Rows of the inputs to train next."""
    if strategy == "variance":
        return most_informative(process, inputs, count)
    explored = np.array([], np.int64) if last else most_informative(process, inputs, (count + 1) // 2)
    mean, std = process.predict_std(inputs)
    worth = [mean + BOUND * std] + ([expected_improvement(mean, std, best)] if last else [])
    chosen = dict.fromkeys(explored.tolist())
    strata = np.array_split(np.argsort(inputs.costs[:, 0], kind="stable"), min(STRATA, len(mean)))
    turn = 0
    while len(chosen) < min(count, len(mean)):
        rows = np.array([row for row in strata[::-1][turn % len(strata)] if row not in chosen])
        if len(rows):
            chosen[int(rows[worth[(turn // len(strata)) % len(worth)][rows].argmax()])] = None
        turn += 1
    return np.array(list(chosen))


def choose_next(process: GaussianProcess, inputs: Inputs, best: float, plan: Plan, number: int) -> int:
    """Row of the inputs to train as the number-th network: the mix of ``choose``, one by one."""
    first_of_last = (plan.rounds - 1) * plan.per_round
    last = number >= first_of_last > 0
    if plan.strategy == "variance" or (not last and number % 2 == 0):
        return int(most_informative(process, inputs, 1)[0])
    mean, std = process.predict_std(inputs)
    worth = [mean + BOUND * std] + ([expected_improvement(mean, std, best)] if last else [])
    strata = np.array_split(np.argsort(inputs.costs[:, 0], kind="stable"), min(STRATA, len(mean)))
    turn = number - first_of_last if last else number // 2
    rows = strata[::-1][turn % len(strata)]
    return int(rows[worth[(turn // len(strata)) % len(worth)][rows].argmax()])


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Expected gain over the best so far, of normal outcomes (n). References: Jones et al., 1998."""
    from scipy.stats import norm

    z = (mean - best) / np.maximum(std, 1e-12)
    return np.asarray(std * (z * norm.cdf(z) + norm.pdf(z)))


def _state(known: Sequence[AccuracySample], space: SearchSpace, arithmetic: Arithmetic, plan: Plan) -> Round:
    good = _good(known)
    rmse = tau = None
    if len(good) >= LEAST_SAMPLES:
        found = scores(*_fitted(good, arithmetic)[0].leave_one_out())
        rmse, tau = found["rmse"], found["kendall_tau"]
    early = sum(sample.failure.startswith(STOPPED_EARLY) for sample in known)
    return Round(len(known) // plan.per_round, len(good), len(known) - len(good), rmse, tau, early)


def _good_enough(state: Round, plan: Plan) -> bool:
    return plan.until_rmse is not None and state.rmse is not None and state.rmse <= plan.until_rmse


def _untried(known: Sequence[AccuracySample], pool: Genomes, pending: Sequence[Genome] = ()) -> Genomes:
    tried = {sample.genome for sample in known} | {format_genome(genome) for genome in pending}
    fresh: Genomes = pool[np.array([format_genome(genome) not in tried for genome in pool.tolist()])]
    return fresh


def _good(known: Sequence[AccuracySample]) -> list[AccuracySample]:
    return [sample for sample in known if sample.accuracy_percent is not None]


def _fitted(good: Sequence[AccuracySample], arithmetic: Arithmetic) -> tuple[GaussianProcess, Array]:
    """The process of these samples, and their accuracies in percent (n)."""
    genomes = np.array([parse_genome(sample.genome) for sample in good], np.int64)
    percent = np.array([sample.accuracy_percent for sample in good], float)
    process = fit_predictor("gp", search_inputs(arithmetic, genomes), percent)
    assert isinstance(process, GaussianProcess)
    return process, percent


def _sample(blank: AccuracySample, evaluation: Evaluation) -> AccuracySample:
    import time

    return AccuracySample(
        blank.space, format_genome(evaluation.genome), blank.dataset, blank.recipe, evaluation.accuracy_percent,
        blank.seed, evaluation.failure, evaluation.cost_s, blank.source, time.time(),
    )  # fmt: skip
