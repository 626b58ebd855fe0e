"""What the agent does with a request, on an engine that is made up."""

from __future__ import annotations

import itertools
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from agent import serve
from agent.protocol import Done, Failure, Measure, Measured, Message, Model, Sampling

SAMPLING = Sampling(rounds=1, max_rounds=1, gate_budget_ns=0)


class Loaded:
    def run(self, loops: int) -> int:
        return 50_000 * loops

    def fail(self, loops: int) -> int:
        raise RuntimeError("it holds the model in its traceback")


def test_the_models_of_a_group_are_gone_before_those_of_the_next_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, and what is timed beside all of them, must fit the memory; not four. One that fails stays no longer
    than the others."""
    opened: list[weakref.ref[Loaded]] = []
    alive: list[int] = []

    def open_model(path: str, options: dict[str, Any]) -> Any:
        alive.append(sum(model() is not None for model in opened))
        model = Loaded()
        opened.append(weakref.ref(model))
        return SimpleNamespace(run=model.fail if path == "broken" else model.run)

    engine = SimpleNamespace(open_model=open_model, live=lambda options: 2)
    monkeypatch.setattr(serve, "engine_module", lambda name: engine)
    sent: list[Message] = []
    models = [Model(str(number), "broken" if number == 2 else "sound") for number in range(5)]
    serve.measure(Measure("fake", {}, models, "null", "sentinel", SAMPLING), sent.append)
    assert alive == [0, 1, *(2 + held for held in (0, 1, 0, 0, 0))]
    assert [reply.id for reply in sent if isinstance(reply, Measured)] == ["0", "1", "3", "4"]
    assert [reply.id for reply in sent if isinstance(reply, Failure)] == ["2"]
    assert isinstance(sent[-1], Done)


@pytest.mark.parametrize("alone", [True, False])
def test_interruptions_count_only_where_the_host_is_part_of_the_time(
    alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here there is one during every sample."""
    model = SimpleNamespace(run=Loaded().run, **({"device_alone": True} if alone else {}))
    engine = SimpleNamespace(open_model=lambda path, options: model, live=lambda options: 1)
    monkeypatch.setattr(serve, "engine_module", lambda name: engine)
    monkeypatch.setattr(serve, "interruptions", itertools.count().__next__)
    sent: list[Message] = []
    serve.measure(Measure("fake", {}, [Model("0", "sound")], "null", None, SAMPLING), sent.append)
    (told,) = (reply for reply in sent if isinstance(reply, Measured))
    assert (told.rejected == 0, any(told.bursts_ns)) == (alone, alone)
