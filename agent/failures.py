"""An exception of an engine as the Failure that the host is told."""

from __future__ import annotations

from typing import Optional

from agent.engines import EngineUnavailable, FellBack
from agent.engines.benchmark_output import UnknownOutput
from agent.engines.launch import ConnectionLost
from agent.meters import MeterError
from agent.protocol import Failure

REASONS = (
    (ConnectionLost, "lost"),
    (EngineUnavailable, "engine"),
    (MeterError, "meter"),
    (FellBack, "fallback"),
    (UnknownOutput, "format"),
)
"""What is told apart by its kind; of all else the one who asked knows whether it was loading or running."""

MESSAGE_CHARACTERS = 400


def failure(id: Optional[str], reason: str, error: BaseException) -> Failure:
    """A Failure for that model, or for the whole request; ``reason`` holds unless the error says more."""
    if isinstance(error, MemoryError):
        return Failure(id, "memory", "the model needs more memory than there is")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    for kind, known in REASONS:
        if isinstance(error, kind):
            return Failure(id, known, lines[0][:MESSAGE_CHARACTERS])
    return Failure(id, reason, "{}: {}".format(type(error).__name__, lines[0][:MESSAGE_CHARACTERS]))
