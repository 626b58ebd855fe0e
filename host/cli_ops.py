"""``chamnet ops``: what would be measured, without measuring."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from host import show
from host.cli_options import Seed
from host.cli_workload import workload_of
from host.errors import UsageError
from ops_catalog import ops as catalog
from ops_catalog.build import op_with_dtype, single
from ops_catalog.export import EXPORTERS, export_graph
from ops_catalog.spec import DTYPE_BYTES, OpSpec, SpecError
from ops_catalog.sweep import Sweep, distinct_operators, save_sweep

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Operators of networks, search spaces and files.")

Space = Annotated[str, typer.Option(help="a search space, or --networks random networks of it")]
Networks = Annotated[int, typer.Option(help="with --space: so many random networks of it")]
Ops = Annotated[Path | None, typer.Option(help="an operators file")]
Network = Annotated[str, typer.Option(help="networks by name, comma-separated")]
Dtype = Annotated[str, typer.Option(help="element type")]


@app.command("list")
def list_command(
    space: Space = "", networks: Networks = 0, ops: Ops = None, network: Network = "",
    dtype: Dtype = "float32", as_json: Annotated[bool, typer.Option("--json", help="print an operators file")] = False,
    seed: Seed = 0,
) -> None:  # fmt: skip
    """Print every operator once, with its MACs and parameters."""
    found = _operators(space, networks, ops, network, dtype, seed)
    if as_json:
        print(json.dumps({"operators": [op.key for op in found], "graphs": []}, indent=1))
        return
    for op in found:
        print(f"{op.key}\t{catalog.macs(op)} MACs\t{catalog.params(op)} parameters\t{catalog.bytes_moved(op)} bytes")


@app.command("count")
def count_command(
    space: Space = "", networks: Networks = 0, ops: Ops = None, network: Network = "", dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:  # fmt: skip
    """Count distinct operators by type."""
    counts = Counter(op.type for op in _operators(space, networks, ops, network, dtype, seed))
    for op_type, count in counts.most_common():
        print(f"{count:8d}  {op_type}")
    print(f"{counts.total():8d}  in all")


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(help="folder for the model files; --out FILE.json writes an operators file")],
    space: Space = "", networks: Networks = 0, ops: Ops = None, network: Network = "", dtype: Dtype = "float32",
    file_format: Annotated[str, typer.Option("--format", help="onnx or tflite")] = "onnx", seed: Seed = 0,
) -> None:  # fmt: skip
    """Write every operator as a model file of its own, and the list of their keys."""
    if file_format not in EXPORTERS:
        raise UsageError(f"--format must be one of {', '.join(EXPORTERS)}, but got {file_format!r}")
    found = _operators(space, networks, ops, network, dtype, seed)
    if out.suffix == ".json":
        save_sweep(out, Sweep(found))
        return
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for number, op in enumerate(found):
        try:
            blob = export_graph(single(op), file_format, seed)
        except SpecError as refusal:
            show.errors.print(f"left out {op.key}: {refusal}", markup=False)
            continue
        name = f"{number:06d}-{op.type}.{file_format}"
        (out / name).write_bytes(blob)
        written[name] = op.key
    (out / "operators.json").write_text(json.dumps(written, indent=1) + "\n")
    show.errors.print(f"{len(written)} models in {out}")


def _operators(space: str, networks: int, ops: Path | None, network: str, dtype: str, seed: int) -> tuple[OpSpec, ...]:
    if dtype not in DTYPE_BYTES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPE_BYTES)}, but got {dtype!r}")
    workload = workload_of(space, networks, ops, network, 0, seed)
    return tuple(op_with_dtype(op, dtype) for op in distinct_operators(workload.graphs, workload.operators))
