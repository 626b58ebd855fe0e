"""Commands about accuracies: sample (train networks), samples (list, import, export), predictor (evaluate, fit)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from host import show
from host.cli_options import DEFAULT_DB, Db, Json, Seed
from host.errors import EXIT_PARTLY, HostError, UsageError
from lut_db.samples import AccuracySample, open_samples
from search.builtin import builtin_samples
from search.cells import Arithmetic, Array, build_cells
from search.evaluators import WORK, Options, open_evaluator
from search.features import training_inputs
from search.predictors import LEAST_SAMPLES, Inputs, plain_inputs
from search.predictors.evaluate import evaluate, scores
from search.predictors.file import save
from search.predictors.gp import fit
from search.samples import read_csv, training_set, write_csv
from search.sampling import Plan, Round, sample_rounds
from search.spaces import space_named

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Accuracies of trained networks.")
predictor: typer.Typer = typer.Typer(no_args_is_help=True, help="Predictors of accuracy.")

Space = Annotated[str, typer.Option(help="a search space, or a TOML file that describes one")]
Dataset = Annotated[str, typer.Option(help="what the networks are trained on")]
Recipe = Annotated[str, typer.Option(help="how they are trained; accuracies of different recipes do not compare")]


def sample_command(
    space: Space,
    source: Annotated[
        str, typer.Option(help="CSV file (table), command line (command), .npz or image folder (torch, ray)")
    ],
    evaluator: Annotated[str, typer.Option(help="table, command, torch or ray (docs/training.md)")] = "command",
    rounds: Annotated[int, typer.Option(help="rounds of training", min=1)] = 6,
    per_round: Annotated[int, typer.Option(help="networks trained in each", min=1)] = 10,
    strategy: Annotated[str, typer.Option(help="mixed, variance or random")] = "mixed",
    unbalanced: Annotated[bool, typer.Option("--unbalanced", help="lean towards cheap networks")] = False,
    until_rmse: Annotated[
        float | None, typer.Option(help="stop at this leave-one-out error, in percent points")
    ] = None,
    dataset: Dataset = "own",
    recipe: Recipe = "",
    accuracy: Annotated[str, typer.Option(help="column of a table")] = "accuracy_percent",
    timeout_s: Annotated[float, typer.Option(help="longest run of a command", min=0.1)] = 3600.0,
    retries: Annotated[int, typer.Option(help="further tries of a command, or of a training of ray", min=0)] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(help="at once: commands, by default 1; trainings of ray, by default all that fit", min=1),
    ] = None,
    epochs: Annotated[int, typer.Option(help="epochs of a training", min=1)] = 10,
    work: Annotated[str, typer.Option(help=f"folder for checkpoints of trainings; of ray by default {WORK}")] = "",
    address: Annotated[
        str,
        typer.Option(help="Ray cluster: HOST:PORT, or auto for that of this machine; by default one is started here"),
    ] = "",
    cpus_each: Annotated[
        float, typer.Option(help="processors (threads) of a training; of ray by default 1", min=0)
    ] = 0,
    gpus_each: Annotated[float, typer.Option(help="GPUs of a training of ray; 0.5: two share one", min=0)] = 0,
    asha: Annotated[bool, typer.Option("--asha/--no-asha", help="ray: end trainings that fall behind early")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Train networks that a predictor learns most from; a second call goes on where the first stopped."""
    chosen = space_named(space).plain
    at_once = jobs or (0 if evaluator == "ray" else 1)
    options = Options(
        source, accuracy, timeout_s, retries, at_once, epochs, seed, work, cpus_each, gpus_each, address, asha
    )
    trainer = open_evaluator(evaluator, chosen, options)
    blank = AccuracySample(chosen.name, "", dataset, recipe or trainer.recipe, None, seed, source=evaluator)
    plan = Plan(rounds, per_round, strategy, until_rmse, unbalanced, seed)
    arithmetic = Arithmetic(build_cells(chosen))
    with open_samples(db) as store:
        state = sample_rounds(store, blank, chosen, arithmetic, trainer, plan, _tell)
    if as_json:
        facts = {name: getattr(state, name) for name in ("trained", "failed", "stopped_early", "rmse", "kendall_tau")}
        print(json.dumps({"space": chosen.name, "dataset": dataset, "recipe": blank.recipe, **facts}, indent=1))
    if state.failed > state.stopped_early:
        raise typer.Exit(EXIT_PARTLY)


def _tell(state: Round) -> None:
    error = "" if state.rmse is None else f", leave-one-out error {state.rmse:.2f} points, tau {state.kendall_tau:.2f}"
    early = f", {state.stopped_early} stopped early" if state.stopped_early else ""
    failed = state.failed - state.stopped_early
    show.errors.print(f"round {state.number}: {state.trained} trained, {failed} failed{early}{error}")


@app.command("list")
def list_command(
    space: Annotated[str, typer.Option(help="of this space; of all by default")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="show failed trainings one by one")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Count accuracies by space, data set and recipe."""
    with open_samples(db, create=False) as store:
        known = store.samples(space or None)
    counts = Counter((s.space, s.dataset, s.recipe, s.source, s.accuracy_percent is not None) for s in known)
    rows = [dict(zip(("space", "dataset", "recipe", "source", "usable"), key, strict=True), count=n)
            for key, n in counts.items()]  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for heading in ("space", "data set", "recipe", "source", "usable", "networks"):
        table.add_column(heading, justify="right" if heading == "networks" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(row[k]) for k in ("space", "dataset", "recipe", "source")),
                      "yes" if row["usable"] else "failed", str(row["count"]))  # fmt: skip
    show.output.print(table)
    for sample in known if failed else []:
        if sample.failure:
            show.output.print(f"{sample.space}:{sample.genome}: {sample.failure}", highlight=False)


@app.command("import")
def import_command(
    source: Annotated[
        Path, typer.Argument(help="CSV: a column for every gene or one for the genome, and the accuracy")
    ],
    space: Space,
    dataset: Dataset,
    recipe: Recipe,
    accuracy: Annotated[str, typer.Option(help="its column, in percent")] = "accuracy_percent",
    genome: Annotated[str, typer.Option(help="column of whole genomes, if there is one")] = "genome",
    db: Db = DEFAULT_DB,
) -> None:
    """Read accuracies from a CSV file; rows that are none are named, the others are kept."""
    found = read_csv(space_named(space).plain, source, accuracy, dataset, recipe, genome)
    with open_samples(db) as store:
        new = store.put(found.samples)
    show.errors.print(f"{new} new of {len(found.samples)} networks; {len(found.refused)} lines refused")
    for line, reason in found.refused:
        show.errors.print(f"  line {line}: {reason}", highlight=False, markup=False)
    if found.refused:
        raise typer.Exit(EXIT_PARTLY)


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="CSV file to write")], space: Space, db: Db = DEFAULT_DB,
    dataset: Annotated[str, typer.Option(help="of this data set only")] = "",
) -> None:  # fmt: skip
    """Write the accuracies of a space to a CSV file, those that ship with the program included."""
    chosen = space_named(space).plain
    with open_samples(db) as store:
        store.put(builtin_samples(chosen.name))
        known = store.samples(chosen.name, dataset)
    write_csv(chosen, known, out)
    show.errors.print(f"{len(known)} rows in {out}")


@predictor.command("evaluate")
def evaluate_command(
    train: Annotated[Path, typer.Option(help="CSV of networks to train on")],
    test: Annotated[Path, typer.Option(help="CSV of other networks to be tested on")],
    target: Annotated[str, typer.Option(help="column of the accuracy")],
    features: Annotated[str, typer.Option(help="columns of integer genes; patterns, comma-separated")] = "*",
    log_features: Annotated[str, typer.Option(help="columns of positive costs, comma-separated")] = "",
    n: Annotated[str, typer.Option("--n", help="numbers of networks to train on, comma-separated")] = "60,120,240",
    seeds: Annotated[int, typer.Option(help="random samples of each number", min=1)] = 8,
    as_json: Json = False,
) -> None:
    """Compare predictors on networks they never saw: Gaussian process, gradient boosting, ridge."""
    sizes = [int(part) if part.isdigit() else 0 for part in n.split(",")]
    if min(sizes) < LEAST_SAMPLES:
        raise UsageError(f"--n must be numbers from {LEAST_SAMPLES} up, but got {n!r}")
    columns, costs = features.split(","), [name for name in log_features.split(",") if name]
    known, known_percent = _read_table(train, columns, costs, target)
    unseen, truth = _read_table(test, columns, costs, target)
    rows = evaluate(known, known_percent, unseen, truth, sizes, seeds)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(
        title=f"{len(truth)} networks of {test.name}, means over {seeds} random samples", title_justify="left"
    )
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(*("" if v is None else v if isinstance(v, str) else f"{v:.3g}" for v in row.values()))
    show.output.print(table)


@predictor.command("fit")
def fit_command(
    space: Space,
    out: Annotated[Path, typer.Option(help="file to write, .npz")],
    dataset: Annotated[str, typer.Option(help="use samples of this data set only")] = "",
    db: Db = DEFAULT_DB,
) -> None:
    """Fit the Gaussian process to the accuracies of a space, show its leave-one-out errors, and keep it in a file."""
    chosen = space_named(space).plain
    with open_samples(db) as store:
        store.put(builtin_samples(chosen.name))
        training = training_set(chosen, store.samples(chosen.name, dataset), LEAST_SAMPLES)
    inputs = training_inputs(chosen, Arithmetic(build_cells(chosen)), training.genomes, training.recipes)
    process = fit(inputs, training.accuracy_percent)
    save(process, out)
    found = scores(*process.leave_one_out())
    text = ", ".join(f"{name} {value:.3f}" for name, value in found.items() if value is not None)
    show.output.print(f"{len(training.genomes)} networks of {training.dataset}; leave-one-out: {text}; {out}")


def _read_table(path: Path, patterns: list[str], costs: list[str], target: str) -> tuple[Inputs, Array]:
    """Genes, costs and accuracies of a CSV file. Raises HostError, which names the column or line."""
    try:
        with path.open(newline="") as lines:
            reader = csv.DictReader(lines)
            names, rows = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HostError(f"networks must be in a readable CSV file, but {path} is not: {error}") from None
    taken = {target, *costs}
    genes = [name for name in names if name not in taken and any(fnmatch(name, pattern) for pattern in patterns)]
    if missing := [name for name in taken if name not in names]:
        raise HostError(f"{path} must have columns {', '.join(missing)}, but got {', '.join(names) or 'none'}")
    if not genes or not rows:
        raise HostError(
            f"{path} must have rows and columns like {','.join(patterns)}, but got {', '.join(names) or 'none'}"
        )
    values = np.array(
        [[_cell(path, line, row, name) for name in (*genes, *costs, target)] for line, row in enumerate(rows, 2)]
    )
    inputs = plain_inputs(values[:, : len(genes)].astype(np.int64), values[:, len(genes) : -1])
    if costs and not (inputs.costs > 0).all():
        raise HostError(
            f"{path} must have positive {', '.join(costs)}, but some are not; leave them out of --log-features"
        )
    return inputs, values[:, -1]


def _cell(path: Path, line: int, row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise HostError(f"{path}: line {line} must have a number in {name}, but got {row[name]!r}; leave the row out")
    return value
