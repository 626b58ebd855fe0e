"""Whether the virtual phone can run on this machine, and if not, why."""

from __future__ import annotations

import functools
import platform
import re
import subprocess

from host.errors import HostError
from tests.virtual_phone.packages import ABIS
from tests.virtual_phone.rootfs import prepare_programs

OLDEST_KERNEL = (6, 7)
"""The first where each user namespace has a binfmt_misc of its own, which runs the other architecture's programs."""
NAMESPACES = ("--user", "--map-root-user", "--net", "--mount", "--pid", "--uts", "--ipc", "--time", "--fork")


@functools.cache
def missing(abi: str = "x86_64") -> str | None:
    """Why a phone of that ABI cannot run here; None where it can. Fetches what it is made of."""
    return _wrong_machine() or _old_kernel(abi) or _no_namespaces() or _no_programs(abi)


def _wrong_machine() -> str | None:
    machine = f"{platform.system()} on {platform.machine()}"
    return None if machine == "Linux on x86_64" else f"a virtual phone needs Linux on x86_64, but this is {machine}"


def _old_kernel(abi: str) -> str | None:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    if not ABIS[abi].needs_emulator or (found and tuple(map(int, found.groups())) >= OLDEST_KERNEL):
        return None
    return f"a virtual {abi} phone needs Linux 6.7 or later, but this is {platform.release()}"


def _no_namespaces() -> str | None:
    try:
        probe = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"a virtual phone needs unshare of util-linux, but got: {error}"
    return f"a virtual phone needs user namespaces, but got: {probe.stderr.strip()}" if probe.returncode else None


def _no_programs(abi: str) -> str | None:
    try:
        prepare_programs(ABIS[abi])
    except (HostError, OSError, subprocess.CalledProcessError) as error:
        return f"a virtual phone needs Debian packages that cannot be had here: {error}"
    return None
