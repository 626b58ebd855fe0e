"""A device that vanishes while it is asked something is waited for, and asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from host.errors import DeviceUnavailable
from host.setting import Progress
from host.transport import DeviceLost, Transport

LOSSES = 20
"""Times that a device may vanish during one request, before it counts as unable to live through it."""

Answer = TypeVar("Answer")


class LostTooOften(DeviceUnavailable):
    """The device came back each time, and vanished again during the same request."""


def await_start(transport: Transport, patience_s: float, progress: Progress) -> None:
    """Waits for a device that is still starting, or just vanished. Raises DeviceUnavailable."""
    try:
        transport.wait_back(0.0)
    except DeviceUnavailable as absence:
        progress.wait(f"{absence}; waiting for it")
        transport.wait_back(patience_s)


def persist(
    transport: Transport,
    ask: Callable[[], Answer],
    patience_s: float,
    progress: Progress,
    losses: int = LOSSES,
    forget: Callable[[], None] = lambda: None,
) -> Answer:
    """Asks until the device has lived through it.

    Args:
        patience_s: longest wait for it.
        losses: most times that it may vanish.
        forget: lets go of what went with the device.

    Raises:
        DeviceUnavailable: it does not come back.
        LostTooOften: it does, but vanishes each time.
    """
    for _ in range(losses):
        try:
            return ask()
        except DeviceLost as loss:
            progress.wait(f"{loss}; waiting for it")
            forget()
            transport.wait_back(patience_s)
    raise LostTooOften(f"the device must stay connected, but it was lost {losses} times in one request")
