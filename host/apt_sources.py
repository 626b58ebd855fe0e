"""The Debian archives that this machine's own apt fetches from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

APT = Path("/etc/apt")


def debian_archives(apt: Path = APT) -> Iterator[str]:
    """Addresses that end in ``/debian``, in the order in which apt reads its lists."""
    lists = (path for pattern in ("sources.list", "sources.list.d/*") for path in sorted(apt.glob(pattern)))
    for path in lists:
        if path.suffix in (".list", ".sources"):
            for line in path.read_text(errors="replace").splitlines():
                yield from (word for word in _addresses(line) if word.rstrip("/").endswith("/debian"))


def _addresses(line: str) -> list[str]:
    """Those of ``URIs: A B`` or of ``deb [options] A suite component``; none of a comment."""
    words = line.split()
    if not words or words[0].lower() not in ("uris:", "deb"):
        return []
    return [word for word in words[1:] if word.startswith(("http://", "https://"))]
