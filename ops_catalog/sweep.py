"""What to measure: the distinct operators of networks, of a whole search space, or of a file, in a fixed order.

An operators file is JSON ({"operators": [keys], "graphs": [networks]}), TOML with grids, or a text of one key a
line (# begins a comment). Values in a grid are written as in keys, and lists are tried one by one, each with each:

    [[grid]]
    type = "conv2d"
    input = ["1x32x28x28", "1x64x28x28"]     # two tensors: "1x8x4x4|1x8x1x1"; one shape also as [1, 32, 28, 28]
    dtype = "int8"                           # float32 where it is left out
    kernel = "3x3"
    out_channels = [32, 64, 128]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from ops_catalog import ops
from ops_catalog.graphfile import graph_from_json, graph_to_json
from ops_catalog.spec import Graph, OpSpec, SpecError, TensorSpec, format_shape, parse_shape, parse_value


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
        SpecError: the file cannot be understood or is empty; names the entry and what is known.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"an operators file must be readable text, but {path} is not: {error}") from None
    sweep = _parse(path, text)
    if not sweep.operators and not sweep.graphs:
        raise SpecError(f"an operators file must name at least one operator or network, but got none in {path}")
    return sweep


def save_sweep(path: Path, sweep: Sweep) -> None:
    """Writes an operators file as JSON."""
    body = {"operators": [op.key for op in sweep.operators], "graphs": [graph_to_json(graph) for graph in sweep.graphs]}
    path.write_text(json.dumps(body, indent=1) + "\n")


def _parse(path: Path, text: str) -> Sweep:
    if path.suffix == ".toml":
        return _from_toml(path, text)
    return _from_json(path, text) if text.lstrip().startswith("{") else _from_lines(path, text)


def _from_json(path: Path, text: str) -> Sweep:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise SpecError(f"{path} must be JSON, but got: {error}") from None
    keys, graphs = _lists(path, body, "operators", "graphs")
    operators = []
    for number, key in enumerate(keys, 1):
        with _at(f"{path}: operator {number}"):
            operators.append(ops.load_op(str(key)))
    networks = []
    for number, graph in enumerate(graphs, 1):
        with _at(f"{path}: graph {number}"):
            networks.append(graph_from_json(graph))
    return Sweep(tuple(operators), tuple(networks))


def _from_lines(path: Path, text: str) -> Sweep:
    operators = []
    for number, line in enumerate(text.splitlines(), 1):
        if key := line.split("#")[0].strip():
            with _at(f"{path}: line {number}"):
                operators.append(ops.load_op(key))
    return Sweep(tuple(operators))


def _from_toml(path: Path, text: str) -> Sweep:
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} must be TOML, but got: {error}") from None
    (grids,) = _lists(path, body, "grid")
    operators: dict[OpSpec, None] = {}
    for number, grid in enumerate(grids, 1):
        with _at(f"{path}: grid {number}"):
            operators.update(dict.fromkeys(_grid(grid)))
    return Sweep(tuple(operators))


def _lists(path: Path, body: Any, *names: str) -> list[list[Any]]:
    """The lists of a file under these names; an absent one is empty."""
    if not isinstance(body, dict) or not body.keys() <= set(names):
        raise SpecError(f"{path} must hold {' and '.join(names)}, but got {', '.join(body) or 'nothing'}")
    lists = [body.get(name, []) for name in names]
    if not all(isinstance(entries, list) for entries in lists):
        raise SpecError(f"{path} must hold lists under {' and '.join(names)} ([[grid]] in TOML), but got {body}")
    return lists


def _grid(grid: Any) -> Iterator[OpSpec]:
    """Every combination of the listed values."""
    if not isinstance(grid, dict) or not {"type", "input"} <= grid.keys():
        raise SpecError(f"a grid must have type and input, but got {', '.join(grid)}")
    choices = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
    if all(isinstance(side, int) for side in choices["input"]):
        choices["input"] = [format_shape(choices["input"])]
    for values in product(*choices.values()):
        yield _op(dict(zip(choices, values, strict=True)))


def _op(chosen: dict[str, Any]) -> OpSpec:
    """The operator of one combination: type, input, perhaps dtype, attributes."""
    op_type, shapes, dtype = (str(chosen.pop(name, "float32")) for name in ("type", "input", "dtype"))
    inputs = [TensorSpec(parse_shape(shape), dtype) for shape in shapes.split("|")]
    attributes = {name: parse_value(value) if isinstance(value, str) else value for name, value in chosen.items()}
    return ops.make_op(op_type, *inputs, **attributes)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Says in an error where it was."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None
