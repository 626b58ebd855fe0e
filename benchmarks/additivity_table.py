"""The rows of ``python -m benchmarks.additivity`` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    ("n", "networks", ".0f"), ("MAPE %", "mape", ".2f"), ("within 10 %", "within_10", ".0f"),
    ("Spearman", "spearman", ".3f"), ("noise floor %", "noise_floor", ".2f"),
    ("uncalibrated MAPE %", "uncalibrated_mape", ".1f"), ("naive MAPE %", "naive_mape", ".1f"),
    ("MACs only MAPE %", "flops_mape", ".1f"),
)  # fmt: skip
"""Heading, figure and format."""


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a row one measurement: its target, its space, and the named networks beside it."""
    return (*(str(row[name]) for name in ("engine", "dtype", "threads", "space")), ",".join(row["asked"]))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of random networks, that of named ones, and why the rest failed."""
    failed = [f"* {_title(row)}: {row['failed']}" for row in rows if "failed" in row]
    parts = [_errors(rows), _named(rows), "\n".join(["Failed:", "", *failed]) if failed else ""]
    return "\n\n".join(part for part in parts if part)


def _errors(rows: Sequence[Mapping[str, Any]]) -> str:
    headings = ["engine", "dtype", "threads", "space", *(heading for heading, _, _ in COLUMNS)]
    lines = [_line(headings), _line(["---"] * 4 + ["---:"] * len(COLUMNS))]
    for row in rows:
        cells = ["failed" if "failed" in row else format(row[name], kind) for _, name, kind in COLUMNS]
        lines.append(_line([*_target(row), row["space"], *cells]))
    return "\n".join(lines)


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a network, one column a target: measured latency and the error of the prediction."""
    cells: dict[str, dict[tuple[str, ...], str]] = {}
    targets = dict.fromkeys(tuple(_target(row)) for row in rows if row.get("named"))
    for row in rows:
        for found in row.get("named", ()):
            told = f"{found['predicted_ms']:.2f} / {found['measured_ms']:.2f} ({found['error']:+.1f} %)"
            cells.setdefault(found["network"], {})[tuple(_target(row))] = told
    if not cells:
        return ""
    titles = [f"{engine} {dtype} t{threads}" for engine, dtype, threads in targets]
    lines = [_line(["network: predicted / measured ms", *titles]), _line(["---"] + ["---:"] * len(targets))]
    lines += [_line([name, *(known.get(target, "") for target in targets)]) for name, known in cells.items()]
    return "\n".join(lines)


def _target(row: Mapping[str, Any]) -> list[str]:
    return [str(row["engine"]), str(row["dtype"]), str(row["threads"])]


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['engine']} {row['dtype']} t{row['threads']} {row['space']}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
