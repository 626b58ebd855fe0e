"""What a user is told in one line, and the exit status that goes with it."""

from __future__ import annotations

EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_PARTLY, EXIT_DEVICE = 0, 1, 2, 3, 4


class HostError(Exception):
    """An expected error: shown as one line, exit status 1."""

    exit_status = EXIT_ERROR


class UsageError(HostError):
    """The request itself cannot be meant: exit status 2."""

    exit_status = EXIT_USAGE


class DeviceUnavailable(HostError):
    """The device that was asked for is not there or cannot do it: exit status 4."""

    exit_status = EXIT_DEVICE
