"""``chamnet profile`` within a budget: what it is asked, and the learning curve that it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from host import show
from host.budget import Budget, Point, parse_seconds, profile_within
from host.devices import Unit
from host.errors import EXIT_DONE, EXIT_PARTLY, UsageError
from host.setting import Setting
from host.show_predict import show_course, show_point
from lut_db.store import open_store

BudgetTime = Annotated[str, typer.Option("--budget", help="with --space: measure what tells most, for 10m, 90s or 2h")]
Fraction = Annotated[float, typer.Option(help="with --space: most of its operators to measure, 0.1 for a tenth", min=0)]
UntilError = Annotated[
    float,
    typer.Option("--until-error", help="with --space: until a network is expected to err by so many percent", min=0),
]
Like = Annotated[str, typer.Option(help="a table of a related device to start from, with a budget")]


def budget_of(
    space: str, seconds: str, fraction: float, error_percent: float, like: str, others: dict[str, object]
) -> Budget | None:
    """None where no budget was asked for.

    Args:
        others: options that mean nothing with a budget, by their names.

    Raises:
        UsageError: options that do not go together.
    """
    if not (seconds or fraction or error_percent):
        if like:
            raise UsageError("--like must come with --budget, --fraction or --until-error, but got none of them")
        return None
    if not space:
        raise UsageError("a budget must be for a search space, but got none; give --space")
    if given := [name for name, value in others.items() if value]:
        raise UsageError(f"a budget must be for a whole search space, but got {', '.join(given)} with it")
    if fraction > 1:
        raise UsageError(f"--fraction must be at most 1, but got {fraction:g}")
    return Budget(parse_seconds(seconds) if seconds else None, fraction or None, error_percent or None)


def run_within(
    unit: Unit, settings: Sequence[Setting], space: str, budget: Budget, like: str, db: str, as_json: bool
) -> int:
    """Profiles each setting within the budget; returns the exit status."""
    courses = []
    with open_store(db) as store:
        relative = store.target_named(like) if like else None
        for setting in settings:
            with show.progress(f"{setting.engine} {setting.dtype} t{setting.threads}") as progress:
                tell = _nothing if as_json else show_point
                courses.append(profile_within(store, unit, setting, space, budget, progress, relative, tell))
            if not as_json:
                show_course(courses[-1])
    if as_json:
        print(json.dumps([course.as_json() for course in courses], indent=1))
    return EXIT_PARTLY if any(course.left_out for course in courses) else EXIT_DONE


def _nothing(point: Point) -> None:
    """A program reads the points at the end."""
