"""Rows of a matrix as tasks of a Ray cluster, whose hosts work in other folders, and may lack the files of this one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sqlalchemy import make_url

from host.errors import HostError, UsageError
from lut_db.database import url_of
from ops_catalog.build import split_batch
from search.matrix import Found, Row


def anywhere(row: Row) -> Row:
    """The same for a process in any folder. Raises UsageError for a database that lies in no file."""
    space = str(Path(row.space).resolve()) if _is_file(row.space) else row.space
    return replace(row, db=db_anywhere(row.db), samples_db=db_anywhere(row.samples_db), space=space)


def db_anywhere(db: str) -> str:
    """The database as a process in any folder may name it. Raises UsageError for one that lies in no file."""
    url = make_url(url_of(db))
    if url.get_backend_name() != "sqlite":
        return db
    if not url.database or url.database == ":memory:":
        raise UsageError(f"a database that other hosts or processes use must be a file or a server, but got {db!r}")
    return url.set(database=str(Path(url.database).resolve())).render_as_string(hide_password=False)


def spread(work: Callable[[Row], Found], rows: Iterable[Row]) -> Iterator[Found]:
    """A task of the cluster that this process is joined to for every row; yields what comes as it comes.

    What is found bears the space's name as the row has it, not as the hosts are told it.

    Raises:
        HostError: a host lacks a file, or cannot do the work.
        UsageError: a database lies in no file.
    """
    import ray

    task = ray.remote(work_there)
    spaces = {task.remote(work, anywhere(row)): row.space for row in rows}
    waiting = list(spaces)
    while waiting:
        (done,), waiting = ray.wait(waiting)
        try:
            found = ray.get(done)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, HostError):
                raise HostError(str(cause)) from None
            reason = str(error).strip().splitlines()[-1]
            raise HostError(f"every host of the cluster must be able to search, but got: {reason}") from None
        yield replace(found, space=spaces[done])


def work_there(work: Callable[[Row], Found], row: Row) -> Found:
    """On a host of the cluster. Raises HostError."""
    files = [_file_of(row.db), _file_of(row.samples_db), split_batch(row.space)[0] if _is_file(row.space) else ""]
    if lacking := [file for file in files if file and not Path(file).is_file()]:
        raise HostError(
            f"{lacking[0]} must be on every host of the cluster, but {platform.node()} lacks it; put it there, or name "
            "a server by --db: 'chamnet db copy' moves a file's content to one"
        )
    return work(row)


def _is_file(space: str) -> bool:
    return split_batch(space)[0].endswith(".toml")


def _file_of(db: str) -> str:
    """The file that a database is; "" for a server."""
    url = make_url(url_of(db))
    return url.database or "" if url.get_backend_name() == "sqlite" else ""
