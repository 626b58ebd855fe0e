"""What ``benchmarks.gpu`` found, as Markdown, beside what it should show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_MAPE = {True: 3.0, False: 6.0}
"""Percent, in batches and singly."""
MOST_OUTSIDE = 2.0
OPERATORS, MINUTES = 2000, 10
REPRODUCED = 0.02
REASONS = 3
"""Of a contract, why tests failed or were skipped; all are in ``gpu.json``."""


def markdown(told: Mapping[str, Any]) -> str:
    """The machine, then a line for each part, then one for each validation."""
    lines = [_title(told), ""]
    lines += [f"* {name}: {value or 'not installed'}" for name, value in told["packages"].items()]
    lines += [
        f"* {name}: {facts.get('version') or 'no: ' + facts['unavailable']}" for name, facts in _gpu_engines(told)
    ]
    lines += ["", "| part | state | seconds | what came of it |", "|---|---|---:|---|"]
    lines += [_part_line(part) for part in told["parts"]]
    lines += ["", "| engine | networks of | MAPE % | outside +-10 % | worst % | floor % | uncalibrated % | meets |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---|"]
    lines += [_row_line(row) for part in told["parts"] for row in part.get("rows", ())]
    return "\n".join(lines)


def _title(told: Mapping[str, Any]) -> str:
    if told["rehearsed"]:
        return "# REHEARSED on the processor with tiny sizes: no figure says anything about a GPU"
    gpu = told["gpu"]
    return f"# {gpu.get('name')}, {gpu.get('isa')}, driver {gpu.get('driver')}, CUDA {gpu.get('cuda')}"


def _gpu_engines(told: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, str]]]:
    return [(name, facts) for name, facts in told["engines"].items() if "cuda" in name or "tensorrt" in name]


def _part_line(part: Mapping[str, Any]) -> str:
    return f"| {part['part']} | {part['state']} | {part.get('seconds', '')} | {_told(part)} |"


def _told(part: Mapping[str, Any]) -> str:
    """Its figures in words; why it did not end well."""
    words = [f"{name} {part[name]}" for name in ("passed", "failure", "error", "skipped") if name in part]
    if "measurements" in part:
        words.append(rate_of(part))
    if "median_ratio" in part:
        meets = "yes" if abs(part["median_ratio"] - 1) <= REPRODUCED else "NO"
        words.append(f"median ratio {part['median_ratio']:.4f} over {part['operators']} operators, within 2 %: {meets}")
        words.append(f"each by {part['median_deviation_percent']:.1f} % at the median")
    words += ["figures in gpu.json"] if "told" in part else []
    words += [str(reason).replace("|", "/") for reason in part.get("reasons", ())[:REASONS]]
    words += [str(part[name]).replace("|", "/") for name in ("why", "unread") if name in part]
    return "; ".join(words)


def rate_of(part: Mapping[str, Any]) -> str:
    """Operators in the time that it took, and what ten minutes would hold at that rate, started once."""
    worked_s = part.get("worked_s", part["seconds"])
    reach = part["operators"] / worked_s * (60 * MINUTES - (part["seconds"] - worked_s))
    meets = "yes" if reach >= OPERATORS else "NO"
    doubts = ", ".join(f"{count} {name}" for name, count in part["doubts"].items()) or "no doubts"
    return f"{part['operators']} operators, {reach:.0f} in {MINUTES} min: {meets}; {doubts}"


def _row_line(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"| {row['engine']} | {row['space']} | | | | | | {row['failed'].replace('|', '/')} |"
    figures = ("mape", "outside_percent", "worst", "noise_floor", "uncalibrated_mape")
    cells = " | ".join(f"{row[name]:.2f}" for name in figures)
    return f"| {row['engine']} | {row['space']} | {cells} | {verdict(row)} |"


def verdict(row: Mapping[str, Any]) -> str:
    """Whether it is as good as it should be; the share outside is asked of batches alone."""
    batched = "@b" in row["space"]
    good = row["mape"] <= MOST_MAPE[batched] and (not batched or row["outside_percent"] <= MOST_OUTSIDE)
    return "yes" if good else "NO"
