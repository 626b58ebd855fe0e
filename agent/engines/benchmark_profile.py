"""The operator profile that ``benchmark_model --enable_op_profiling=true`` prints or writes -> its rows. Pure.

Both forms hold a table for loading and one for the measured runs; only the latter is read. Columns are found by their
names, since builds differ in which they have. What a delegate swallowed shows as one row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple

from agent.engines.benchmark_blocks import UnknownOutput

_TITLE = re.compile(r"=+ (.+?) =+")
_RUNS = "Operator-wise Profiling Info for Regular Benchmark Runs"
_LOADING = "Profiling Info for Benchmark Initialization"
_OTHER_PARTS = (_LOADING, "Delegate internal", "Subgraph (index")
_RUN_ORDER = "Run Order"
_NODES = re.compile(r"Number of nodes executed: (\d+)")
_LEVEL = re.compile(r"(?:INFO|WARN|WARNING|ERROR|VERBOSE): ")
_NEEDED = ("node type", "first", "avg ms", "times called", "name")


@dataclass(frozen=True)
class ProfileRow:
    """One node of the graph: what it is, and the time of its first and of its average run."""

    node_type: str
    name: str
    first_ns: float
    avg_ns: float
    times_called: int


def parse_profile_csv(text: str) -> Tuple[ProfileRow, ...]:
    """The nodes of the measured runs in the order they ran, from ``--op_profiling_output_mode=csv``.

    Raises:
        UnknownOutput: no such table, unknown columns, or a row that does not fit them.
    """
    return _parse(text, ",")


def parse_profile_text(text: str) -> Tuple[ProfileRow, ...]:
    """The same from the text among the log. Raises UnknownOutput."""
    return _parse(text, "\t")


def _parse(text: str, separator: str) -> Tuple[ProfileRow, ...]:
    table = _run_order([_LEVEL.sub("", line.rstrip(), count=1) for line in text.split("\n")])
    columns = [_column(cell) for cell in _cells(table[0], separator)]
    if any(name not in columns for name in _NEEDED):
        raise UnknownOutput("a profile must have the columns {}, but got {}".format(", ".join(_NEEDED), table[0][:160]))
    return tuple(_row(line, columns, separator) for line in table[1:])


def _run_order(lines: List[str]) -> List[str]:
    """The table 'Run Order' of the measured runs, header first."""
    part = _measured_part(lines)
    tables = [list(_table(part[index + 1 :])) for index in _titles(part)]
    nodes = [int(match[1]) for match in map(_NODES.fullmatch, part) if match]
    if len(tables) != 1 or not tables[0]:
        raise UnknownOutput(
            "a profile must have one table 'Run Order' of the measured runs, but got {}".format(len(tables))
        )
    if nodes and nodes != [len(tables[0]) - 1]:
        raise UnknownOutput("a profile must list the nodes it ran, {}, but got {}".format(nodes, len(tables[0]) - 1))
    return tables[0]


def _measured_part(lines: List[str]) -> List[str]:
    """From the title of the measured runs to what else is told after their main graph.

    A file without part titles has the table of loading first and that of the runs second.
    """
    starts = [index for index, line in enumerate(lines) if line.startswith(_RUNS)]
    if not starts and not any(line.startswith(_LOADING) for line in lines) and len(_titles(lines)) == 2:
        starts = _titles(lines)[1:]
    if len(starts) != 1:
        raise UnknownOutput("a profile must have one part of measured runs, but got {}".format(len(starts)))
    rest = lines[starts[0] :]
    ends = (index for index, line in enumerate(rest) if line.startswith(_OTHER_PARTS))
    return rest[: next(ends, len(rest))]


def _titles(lines: List[str]) -> List[int]:
    """Where the tables 'Run Order' begin."""
    found = ((index, _TITLE.fullmatch(line)) for index, line in enumerate(lines))
    return [index for index, title in found if title and title[1] == _RUN_ORDER]


def _table(lines: List[str]) -> Iterator[str]:
    for line in lines:
        if not line.strip() or _TITLE.fullmatch(line):
            return
        yield line


def _cells(line: str, separator: str) -> List[str]:
    """In CSV a comma within a name stands as a tab; in text the first column is empty."""
    cells = line.split(",") if separator == "," else line.lstrip("\t").split("\t")
    return [cell.strip().replace("\t", ",") for cell in cells]


def _column(cell: str) -> str:
    return cell.strip("[]").lower().replace("_", " ")


def _row(line: str, columns: List[str], separator: str) -> ProfileRow:
    cells = _cells(line, separator)
    if len(cells) != len(columns):
        raise UnknownOutput("a profile row must have {} columns, but got {!r}".format(len(columns), line[:160]))
    row: Dict[str, str] = dict(zip(columns, cells))
    try:
        times = [round(float(row[name]) * 1_000_000, 3) for name in ("first", "avg ms")]
        called = int(row["times called"])
    except ValueError:
        raise UnknownOutput("a profile row must have numbers, but got {!r}".format(line[:160])) from None
    if not all(0 <= time < float("inf") for time in times):
        raise UnknownOutput("a profile row must have times, but got {!r}".format(line[:160]))
    return ProfileRow(row["node type"], row["name"], times[0], times[1], called)
