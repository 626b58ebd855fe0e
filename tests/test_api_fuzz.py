"""The service keeps to its own description; ``python -m benchmarks.service_fuzz`` asks it thousands of things."""

from __future__ import annotations

from pathlib import Path

from benchmarks.service_fuzz import fuzz
from tests.api_service import fill, new_token, serve


def test_no_answer_is_one_that_the_description_does_not_allow(tmp_path: Path) -> None:
    fill(tmp_path / "service.db")
    with serve(tmp_path / "service.db", "--no-jobs", "--rate", "0") as served:
        assert fuzz(served.url, new_token(tmp_path / "service.db"), cases=100, seed=1, phases="fuzzing") == 0
