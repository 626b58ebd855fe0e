"""Where jobs keep files: what was uploaded lies beside the database, and a command works in a folder of its own.

Names are made here; none comes from a request.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from host.bundle import cache_folder
from host.lease import gone
from lut_db.database import url_of

UPLOADED = (".jsonl", ".parquet", ".part")
FILE_URL = "sqlite:///"
PRIVATE = 0o700
WORK, OWNER = "chamnet-job-", "owner"
ABANDONED_S = 3600.0
"""A file that no job names may be of one that is about to be added; after so long it is not."""


def absolute(db: str) -> str:
    """A database's URL that means the same in any folder."""
    url = url_of(db)
    file = url.removeprefix(FILE_URL)
    return f"{FILE_URL}{Path(file).resolve()}" if url.startswith(FILE_URL) and file else url


def shared_folder(db: str) -> Path:
    """The folder of a database's jobs, for their user only: beside its file, else in the cache."""
    url = absolute(db)
    if url.startswith(FILE_URL):
        folder = Path(url.removeprefix(FILE_URL).partition("?")[0] + ".jobs")
    else:
        folder = cache_folder() / "jobs" / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    folder.chmod(PRIVATE)
    return folder


@contextmanager
def work_folder(owner: str) -> Iterator[Path]:
    """An empty folder that one command works in, gone afterwards; those whose owners ended without a word go, too.

    Args:
        owner: as ``host.lease.new_owner`` writes it.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{WORK}*/{OWNER}"):
        with suppress(OSError):
            if gone(left.read_text()):
                shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=WORK))
    try:
        (folder / OWNER).write_text(owner)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path, needed: Container[str]) -> None:
    """Removes uploads that no job needs any more."""
    for path in folder.iterdir():
        if path.suffix in UPLOADED and path.name not in needed and time.time() - path.stat().st_mtime > ABANDONED_S:
            path.unlink(missing_ok=True)
