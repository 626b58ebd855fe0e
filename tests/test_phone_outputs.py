"""A share of what ``python -m benchmarks.phone_outputs`` shows: the emulated phone computes what this computer does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.phone_outputs import ENGINES, LIMITS, compare
from host.transport import Launch, Transport, adb
from tests.virtual_phone.phone import VirtualPhone

OPERATORS, EVERY = 24, 2


@pytest.fixture
def transport(arm_phone: VirtualPhone) -> Iterator[Transport]:
    with closing(adb.open_transport(arm_phone.serial, Launch())) as opened:
        yield opened


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_emulated_phone_computes_what_this_computer_does(transport: Transport, engine: str, dtype: str) -> None:
    outcome = compare(transport, engine, dtype, OPERATORS, EVERY)
    assert outcome.failures == {}
    assert outcome.too_far == {}
    assert outcome.operators == OPERATORS
