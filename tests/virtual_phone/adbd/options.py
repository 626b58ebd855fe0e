"""How the fake device behaves, and where its files are on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Authorisation = Literal["none", "never", "accept", "ask"]
PHONE_FOLDERS = ("data", "sdcard", "sys", "system", "vendor", "product")


@dataclass(frozen=True, slots=True)
class Options:
    """What does not change while the device is served.

    Attributes:
        authorisation: ``none`` asks for no key, ``accept`` takes the first key offered, ``ask`` takes it once
            ``FakeAdbd.allow_key`` is called, ``never`` takes none: the device stays unauthorised.
        shell: the program that runs commands, and its arguments before ``-c``.
        environment: variables of commands, beside those of this process.
        root: the folder that stands for the phone's ``/``; None for this machine's own.
        free_bytes: room for files; None for as much as there is.
    """

    authorisation: Authorisation = "none"
    shell: tuple[str, ...] = ("/bin/sh",)
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    free_bytes: int | None = None
    product: str = "vphone"
    model: str = "VPhone_1"
    device: str = "vphone"

    @property
    def has_own_storage(self) -> bool:
        """Whether the phone's /data is a file system of limited size, which takes root."""
        return self.free_bytes is not None and self.root is not None and os.geteuid() == 0

    @property
    def file_limit_bytes(self) -> int | None:
        """How large a single file may become where the file system does not say."""
        return None if self.has_own_storage else self.free_bytes


def host_path(options: Options, path: str) -> str:
    """Where a file of the phone lies on this machine."""
    return path if options.root is None else f"{options.root}/{path.lstrip('/')}"


def host_command(options: Options, command: str) -> str:
    """A command line whose absolute paths within the phone point into its folder.

    Only text is changed: paths that the command puts together at run time stay as they are.
    """
    if options.root is None:
        return command
    folders = "|".join(PHONE_FOLDERS)
    return re.sub(rf"(?<![\w./-])/(?=(?:{folders})(?:[/\s'\";:&|)]|$))", f"{options.root}/", command)
