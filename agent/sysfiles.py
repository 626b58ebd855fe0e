"""Small files of /proc and /sys. ROOT is where they are looked for: tests put a machine of their own there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Optional

ROOT = Path("/")


def read_text(path: str) -> Optional[str]:
    """A small file's text, None where it cannot be read."""
    try:
        return (ROOT / path.lstrip("/")).read_text()
    except OSError:
        return None


def read_word(path: str) -> Optional[str]:
    """The same without white space around it; None where there is nothing else."""
    return (read_text(path) or "").strip() or None


def paths_like(pattern: str) -> List[str]:
    """Absolute paths that a pattern such as ``/sys/class/thermal/*`` fits, sorted."""
    return sorted("/" + str(path.relative_to(ROOT)) for path in ROOT.glob(pattern.lstrip("/")))


def exists(path: str) -> bool:
    return (ROOT / path.lstrip("/")).exists()


def numbers(text: Optional[str]) -> List[int]:
    """The numbers of a list such as ``0-3,8``, sorted."""
    found = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text or ""):
        found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)
