"""An instrument behind a command line: one that ends with each number, and one that goes on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.meters import Meter, MeterError, open_meter

WAIT_S = 30.0


def python(text: str) -> str:
    return f"{shlex.quote(sys.executable)} -u -c {shlex.quote(text)}"


@pytest.fixture
def opened() -> Iterator[list[Meter]]:
    meters: list[Meter] = []
    yield meters
    for meter in meters:
        meter.close()


def read_until(meter: Meter, value: float) -> list[float]:
    """The different values up to this one, in order."""
    give_up, seen = time.monotonic() + WAIT_S, [meter.read().value]
    while seen[-1] != value:
        assert time.monotonic() < give_up, seen
        if (now := meter.read().value) != seen[-1]:
            seen.append(now)
    return seen


def test_a_command_that_ends_is_run_again(tmp_path: Path, opened: list[Meter]) -> None:
    count = f"import pathlib; p = pathlib.Path({str(tmp_path / 'n')!r}); n = p.read_text() if p.exists() else ''"
    meter = open_meter("command", {"command": python(f"{count}; p.write_text(n + 'x'); print(len(n) + 0.5, 'W')")})
    opened.append(meter)
    assert read_until(meter, 2_500_000) == [500_000, 1_500_000, 2_500_000]


def test_a_command_that_goes_on_tells_its_newest_line(opened: list[Meter]) -> None:
    lines = "import time; print(250); print('', flush=True); print(300); time.sleep(600)"
    meter = open_meter("command", {"command": python(lines), "unit": "mW"})
    opened.append(meter)
    assert read_until(meter, 300_000)[-1] == 300_000
    assert {meter.read().value for _ in range(100)} == {300_000}


def test_a_command_that_stops_to_print_is_a_failed_reading(
    opened: list[Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = open_meter("command", {"command": python("import time; print(1); time.sleep(600)")})
    opened.append(meter)
    later = time.monotonic() + 60
    monkeypatch.setattr("agent.meters.command.time.monotonic", lambda: later)
    with pytest.raises(MeterError, match="go on printing"):
        meter.read()


def test_a_command_is_gone_when_it_is_closed() -> None:
    meter: Any = open_meter("command", {"command": python("import os, time; print(os.getpid()); time.sleep(600)")})
    pid = round(meter.read().value / 1e6)
    meter.close()
    assert not Path(f"/proc/{pid}").exists()


def test_a_line_that_is_no_number_is_one_failed_reading(opened: list[Meter]) -> None:
    with pytest.raises(MeterError, match="'warming up'"):
        open_meter("command", {"command": python("print('warming up')")})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"command": "/no/such/instrument"}, "command that runs"),
        ({"command": python("raise SystemExit(3)")}, "status 3"),
        ({"command": ""}, "must be given"),
        ({"command": "true", "unit": "horsepower"}, "W, mW or uW"),
    ],
)
def test_a_command_that_tells_nothing_is_refused(options: dict[str, str], what: str) -> None:
    with pytest.raises(MeterError, match=what):
        open_meter("command", options)
