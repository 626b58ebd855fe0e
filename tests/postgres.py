"""A PostgreSQL server of the tests' own: its files in a temporary folder, reached through a socket in there only."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from lut_db.store import open_store

DEBIAN = Path("/usr/lib/postgresql")
OWNERS = ("postgres", "nobody")
"""Who the server runs as where the tests run as root, which it refuses."""
SETTINGS = {"listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "max_connections": "100"}
LIMIT_S = 120.0


@dataclass(slots=True)
class PostgresServer:
    """A running server; databases are copies of an empty one of the newest schema."""

    folder: Path
    names: Iterator[str] = field(default_factory=lambda: (f"lut{number}" for number in itertools.count()))

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def tell(self, *statements: str) -> None:
        """SQL, outside of any transaction."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    @contextmanager
    def database(self, template: str = "chamnet") -> Iterator[str]:
        """The URL of a database that nobody else uses."""
        name = next(self.names)
        self.tell(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.tell(f"DROP DATABASE {name} WITH (FORCE)")


def missing_postgres() -> str:
    """Why no server can be started here; "" where one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "needs psycopg"
    if _binary("initdb") is None:
        return "needs PostgreSQL's server (Debian: postgresql)"
    if os.geteuid() == 0 and _owner() is None:
        return f"needs a user {' or '.join(OWNERS)} for PostgreSQL, which does not run as root"
    return ""


@contextmanager
def open_postgres() -> Iterator[PostgresServer]:
    """Raises CalledProcessError where it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="chamnet-postgres-"))
    data, log = folder / "data", folder / "log"
    owner = _owner() if os.geteuid() == 0 else None
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    settings = " ".join(f"-c {name}={value or repr('')}" for name, value in SETTINGS.items())
    control = (str(_binary("pg_ctl")), "--pgdata", str(data), "--log", str(log), "--wait")
    try:
        _run(
            owner,
            str(_binary("initdb")),
            "--pgdata",
            str(data),
            "--username",
            "postgres",
            "--no-sync",
            "--locale",
            "C",
            "--encoding",
            "UTF8",
        )
        _run(owner, *control, "--options", f"{settings} -c unix_socket_directories={folder}", "start")
        server = PostgresServer(folder)
        server.tell("CREATE DATABASE chamnet")
        with open_store(server.url("chamnet")):
            pass
        yield server
    finally:
        if (data / "postmaster.pid").exists():
            _run(owner, *control, "--mode", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if reason := missing_postgres():
        pytest.skip(reason)
    with open_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind: a file that is not there yet, and a URL."""
    if request.param == "sqlite":
        yield str(tmp_path / "lut.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


def _run(owner: pwd.struct_passwd | None, *command: str) -> None:
    told = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    subprocess.run(command, check=True, timeout=LIMIT_S, cwd="/", stdout=subprocess.DEVNULL, **told)  # type: ignore[call-overload]


def _owner() -> pwd.struct_passwd | None:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in OWNERS if name in known), None)


def _binary(name: str) -> str | None:
    """The newest that Debian has installed, else one on the path."""
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))
