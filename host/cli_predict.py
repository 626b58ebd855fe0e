"""The command that says what a model will cost on devices that were measured before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from host import show
from host.bench import open_bench
from host.cli_options import (
    DEFAULT_DB,
    AgentPython,
    BenchmarkBinary,
    Db,
    DelegateLibraries,
    Json,
    Means,
    as_before,
)
from host.errors import EXIT_PARTLY, HostError, UsageError
from host.predict import Prediction, predictor_of
from host.predict_report import write_prediction_report
from host.profile import profile
from host.setting import Workload
from host.show_predict import show_predictions
from host.truth import measure_networks
from host.verify import check_target
from lut_db.lut import how_to_measure
from lut_db.records import Target
from lut_db.store import LutStore, open_store
from ops_catalog.build import batch_of, with_dtype
from ops_catalog.networks import NETWORKS, build_network
from ops_catalog.parse import Parsed, parse_model
from ops_catalog.spec import Graph, OpSpec
from ops_catalog.sweep import Sweep, save_sweep

MISSING = Path("missing.json")
ESTIMATE = "; --estimate prices what lies beyond the measured sizes"
SHAPE_HINT = "an input's shape must read like input=1x3x224x224"


def predict_command(
    model: Annotated[str, typer.Argument(help="an .onnx or .tflite file, or the name of a known network")],
    device: Annotated[list[str] | None, typer.Option(help="a table's device or name; repeat for several")] = None,
    all_targets: Annotated[bool, typer.Option("--all-targets", help="every table of the database")] = False,
    shape: Annotated[list[str] | None, typer.Option(help="INPUT=1x3x224x224, where the model leaves it open")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="price what lies beyond the measured, too")] = False,
    calibration: Annotated[str, typer.Option(help="family of the calibration to use; by default the newest")] = "",
    missing_file: Annotated[Path, typer.Option("--missing", help="where to list operators without a price")] = MISSING,
    measure_missing: Annotated[
        bool, typer.Option("--measure-missing", help="measure them, if the device is here")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="measure the whole model, too, and show the error")] = False,
    html: Annotated[Path | None, typer.Option(help="write a report here")] = None,
    top: Annotated[int, typer.Option(help="operators to list, the dearest first", min=0)] = 12,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
    agent_python: AgentPython = "",
    benchmark_binary: BenchmarkBinary = None,
    delegate_libraries: DelegateLibraries = None,
) -> None:
    """Say how long a model takes on devices that were measured before, and where the time goes.

    Operators that were never measured are interpolated between those that were, and marked; what has no price is
    listed.
    """
    parsed, means = _parsed(model, _shapes(shape or [])), Means(agent_python, benchmark_binary, delegate_libraries)
    with open_store(db, create=False) as store:
        targets = _targets(store, device or [], all_targets)
        predictions = []
        for target in targets:
            if measure_missing:
                _measure(store, target, parsed.graph, means)
            predictor = predictor_of(store, target, estimate, calibration, batch=batch_of(parsed.graph))
            predictions.append(predictor.predict(parsed.graph))
        measured = {t.name: _verified(store, t, parsed.graph, means) for t in targets} if verify else {}
    missing = list(dict.fromkeys(op for prediction in predictions for op in prediction.missing))
    if missing:
        save_sweep(missing_file, Sweep(tuple(missing)))
    if html is not None:
        write_prediction_report(predictions, measured, parsed, html)
    _print(parsed, predictions, measured, missing, missing_file, top, as_json, estimate)
    if missing or parsed.unknown:
        raise typer.Exit(EXIT_PARTLY)


def _print(
    parsed: Parsed, predictions: Sequence[Prediction], measured: dict[str, float], missing: Sequence[OpSpec],
    missing_file: Path, top: int, as_json: bool, estimate: bool,
) -> None:  # fmt: skip
    if as_json:
        unknown = [{"name": n.name, "type": n.type, "reason": n.reason, "macs": n.macs} for n in parsed.unknown]
        rows = [{**p.as_json(), "measured_ms": measured.get(p.target.name)} for p in predictions]
        print(json.dumps({"unknown": unknown, "notes": list(parsed.notes), "predictions": rows}, indent=1))
        return
    show_predictions(parsed, predictions, measured, top)
    for prediction in predictions:
        if prediction.missing:
            show.output.print(
                f"{len(prediction.missing)} operators have no price on {prediction.target.name} ({missing_file}): "
                f"{how_to_measure(prediction.target, str(missing_file))}{'' if estimate else ESTIMATE}",
                highlight=False,
            )  # fmt: skip


def _parsed(model: str, shapes: dict[str, tuple[int, ...]]) -> Parsed:
    """A file, or a network by name. Raises UsageError, SpecError."""
    path = Path(model)
    if path.is_file():
        return parse_model(path, shapes)
    if path.suffix in (".onnx", ".tflite") or "/" in model:
        raise UsageError(f"a model must be a file, but there is none at {model!r}")
    if model.split("-")[0] not in {name.split("-")[0] for name in NETWORKS}:
        raise UsageError(f"a model must be a file or one of {', '.join(NETWORKS)}, but got {model!r}")
    if shapes:
        raise UsageError(f"--shape must be for a model file, but {model!r} is a known network, whose shapes are fixed")
    return Parsed(build_network(model), (), ())


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for text in texts:
        name, _, sides = text.rpartition("=")
        if not name or not all(side.isdigit() and int(side) for side in sides.split("x")):
            raise UsageError(f"{SHAPE_HINT}, but got {text!r}")
        found[name] = tuple(map(int, sides.split("x")))
    return found


def _targets(store: LutStore, names: Sequence[str], everything: bool) -> list[Target]:
    known = [target for target in store.targets() if dict(target.options).get("operators") != "exported"]
    if everything or (not names and len(known) == 1):
        return known
    if not names:
        listed = ", ".join(target.name for target in known) or "none yet; 'chamnet profile' measures one"
        raise UsageError(f"--device must name a table, or --all-targets all of them, but got none; known: {listed}")
    found = []
    for name in names:
        of_device = [target for target in known if name in (target.device, *target.device.split("@"))]
        found += of_device or [store.target_named(name)]
    return list(dict.fromkeys(found))


def _measure(store: LutStore, target: Target, graph: Graph, means: Means) -> None:
    """Measures what the table lacks of a network."""
    unit, setting = as_before(store, target, means)
    with show.progress(target.name) as progress:
        summary = profile(store, unit, setting, Workload(graphs=(graph,)), progress)
    if summary.target != target.name:
        raise HostError(f"the device must still be {target.name!r}, but is {summary.target!r} now; name that table")


def _verified(store: LutStore, target: Target, graph: Graph, means: Means) -> float:
    """The latency of the whole network on the target's device, in ms."""
    unit, setting = as_before(store, target, means)
    with show.progress("verify") as progress, open_bench(store, unit, setting, progress) as bench:
        check_target(bench, target)
        typed = with_dtype(graph, target.dtype)
        return measure_networks(bench, [typed], "", progress).latency_ns[typed.name] / 1e6
