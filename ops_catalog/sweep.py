"""What to measure: the distinct operators of networks, of a whole search space, or of a file, in a fixed order.

An operators file is JSON ({"operators": [keys], "graphs": [networks]}), TOML with grids, or a text of one key a
line:

    [[grid]]
    type = "conv2d"
    input = ["1x32x28x28", "1x64x28x28"]     # lists are tried one by one, each with each
    kernel = "3x3"
    out_channels = [32, 64, 128]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from ops_catalog import ops
from ops_catalog.graphfile import graph_from_json, graph_to_json
from ops_catalog.spec import Graph, OpSpec, SpecError, TensorSpec, parse_shape, parse_value


class HasOperators(Protocol):
    """Anything that can list every operator it may ever need, such as a search space."""

    def operators(self, dtype: str = "float32") -> Iterable[OpSpec]: ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """The content of an operators file."""

    operators: tuple[OpSpec, ...] = ()
    graphs: tuple[Graph, ...] = ()


def distinct_operators(graphs: Iterable[Graph], operators: Iterable[OpSpec] = ()) -> tuple[OpSpec, ...]:
    """Every operator once, in the order of first appearance."""
    found = dict.fromkeys(op for graph in graphs for op in graph.operators)
    return tuple(found | dict.fromkeys(operators))


def load_sweep(path: Path) -> Sweep:
    """Reads an operators file.

    Raises:
        SpecError: the file cannot be understood; names the entry and what is known.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"an operators file must be readable text, but {path} is not: {error}") from None
    if path.suffix == ".toml":
        return _from_toml(path, text)
    return _from_json(path, text) if text.lstrip().startswith("{") else _from_lines(path, text)


def save_sweep(path: Path, sweep: Sweep) -> None:
    """Writes an operators file as JSON."""
    body = {"operators": [op.key for op in sweep.operators], "graphs": [graph_to_json(graph) for graph in sweep.graphs]}
    path.write_text(json.dumps(body, indent=1) + "\n")


def _from_json(path: Path, text: str) -> Sweep:
    try:
        body = json.loads(text)
        keys, graphs = body.get("operators", []), body.get("graphs", [])
        if not isinstance(keys, list) or not isinstance(graphs, list):
            raise ValueError("operators and graphs must be lists")
    except (ValueError, AttributeError) as error:
        raise SpecError(f"{path} must hold JSON with operators and graphs, but got: {error}") from None
    operators = [_located(path, f"operator {index}", key) for index, key in enumerate(keys)]
    return Sweep(tuple(operators), tuple(graph_from_json(graph) for graph in graphs))


def _from_lines(path: Path, text: str) -> Sweep:
    lines = [(number, line.split("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1)]
    return Sweep(tuple(_located(path, f"line {number}", line) for number, line in lines if line))


def _from_toml(path: Path, text: str) -> Sweep:
    try:
        grids = tomllib.loads(text).get("grid", [])
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} must be TOML, but got: {error}") from None
    if not isinstance(grids, list) or not all(isinstance(grid, dict) for grid in grids):
        raise SpecError(f"{path} must list grids as [[grid]]")
    return Sweep(tuple(dict.fromkeys(op for index, grid in enumerate(grids, 1) for op in _grid(path, index, grid))))


def _grid(path: Path, index: int, grid: Mapping[str, Any]) -> Iterable[OpSpec]:
    """Every combination of the listed values; ``input`` may name several tensors as ``1x8x4x4|1x8x4x4``."""
    if "type" not in grid or "input" not in grid:
        raise SpecError(f"{path}: grid {index} must have type and input, but got {', '.join(grid)}")
    names = [name for name in grid if name != "type"]
    choices = [grid[name] if isinstance(grid[name], list) else [grid[name]] for name in names]
    for values in product(*choices):
        chosen = dict(zip(names, values, strict=True))
        inputs = [TensorSpec(parse_shape(shape)) for shape in str(chosen.pop("input")).split("|")]
        attributes = {name: parse_value(value) if isinstance(value, str) else value for name, value in chosen.items()}
        try:
            yield ops.make_op(str(grid["type"]), *inputs, **attributes)
        except SpecError as error:
            raise SpecError(f"{path}: grid {index}: {error}") from None


def _located(path: Path, place: str, key: object) -> OpSpec:
    try:
        return ops.load_op(str(key))
    except SpecError as error:
        raise SpecError(f"{path}: {place}: {error}") from None
