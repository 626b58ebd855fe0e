"""Opens a database: finds out whether it is one, which schema it has, and how to talk to it.

SQLite in one file by default (WAL: readers never wait, two processes may write); any SQLAlchemy URL works.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from lut_db.errors import LutError, NotADatabase, SchemaError, StoreUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10
WRITE = "chamnet_write"
_SNAPSHOT: ContextVar[Connection | None] = ContextVar("snapshot", default=None)


def connect(path_or_url: str | Path, create: bool = True) -> Engine:
    """An engine on a database of the newest schema; a new one is made where there is none.

    Raises:
        NotADatabase: the file is something else, or missing where ``create`` is false.
        SchemaError: the schema is older or newer than this program's.
        StoreUnavailable: it cannot be opened or written.
    """
    url = url_of(path_or_url)
    missing = _missing_file(url)
    if missing and not create:
        raise NotADatabase(f"a database must be at {missing}, but there is none; 'chamnet profile --db' makes one")
    with explained(url):
        engine = _engine(url)
        revision = _revision(engine)
        if revision is None:
            _migrate(engine)
        elif revision != head():
            raise _wrong_schema(url, revision)
    return engine


def upgrade(path_or_url: str | Path) -> tuple[str, str]:
    """Brings an older database to the newest schema; returns both revisions.

    Raises:
        SchemaError: it is newer than this program.
    """
    url = url_of(path_or_url)
    with explained(url):
        engine = _engine(url)
        before = _revision(engine)
        if before is not None and before not in revisions():
            raise _wrong_schema(url, before)
        _migrate(engine)
        engine.dispose()
    return before or "none", head()


def url_of(path_or_url: str | Path) -> str:
    text = str(path_or_url)
    return text if "://" in text else f"sqlite:///{text}"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns what a database driver raises into one-line errors."""
    try:
        yield
    except OperationalError as error:
        raise _unavailable(url, " ".join(str(error.orig).split())) from None
    except DatabaseError as error:
        if "not a database" in str(error.orig):
            raise NotADatabase(
                f"{place_of(url)} must be a database, but it is another kind of file; name another --db"
            ) from None
        raise _unavailable(url, str(error.orig)) from None


@contextmanager
def writing(engine: Engine, turn: str = "") -> Iterator[Connection]:
    """One transaction that may write; all or nothing.

    Args:
        turn: of transactions of one name the second begins after the first. Where writers take turns anyway, as in
            SQLite, it changes nothing; elsewhere who looks before it inserts needs one.
    """
    with (
        explained(str(engine.url)),
        engine.connect().execution_options(**{WRITE: True}) as connection,
        connection.begin(),
    ):
        if turn:
            await_turn(connection, turn)
        yield connection


def await_turn(connection: Connection, turn: str) -> None:
    """Takes one more turn, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(turn, 0))))


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that sees what is there now; in the block of a ``snapshot`` of the database, what it sees."""
    held = _SNAPSHOT.get()
    if held is not None and held.engine.url == engine.url:
        yield held
        return
    with explained(str(engine.url)), engine.connect() as connection:
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A reading transaction in which nothing changes, whoever writes meanwhile; ``reading`` is within it, too."""
    level = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with explained(str(engine.url)), engine.connect().execution_options(**level) as connection, connection.begin():
        token = _SNAPSHOT.set(connection)
        try:
            yield connection
        finally:
            _SNAPSHOT.reset(token)


def revisions() -> list[str]:
    """Every schema this program knows, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


def head() -> str:
    return revisions()[0]


def _engine(url: str) -> Engine:
    arguments = {"timeout": BUSY_TIMEOUT_S} if url.startswith("sqlite") else {}
    try:
        engine = create_engine(url, connect_args=arguments)
    except ModuleNotFoundError as error:
        raise StoreUnavailable(
            f"the driver {error.name!r} must be installed for such a database; pip install 'chamnet[postgres]' does it "
            "for postgresql+psycopg"
        ) from None
    except (ArgumentError, ValueError) as error:
        raise StoreUnavailable(f"a database's URL must be one that SQLAlchemy knows, but got: {error}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: one that first reads could find the database changed and fail."""
    writes = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(engine: Engine) -> str | None:
    """The schema's revision; None for an empty database."""
    from alembic.runtime.migration import MigrationContext

    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        if not names:
            return None
        if "alembic_version" not in names:
            raise NotADatabase(f"{place_of(str(engine.url))} must be a database of chamnet, but it has other tables")
        return MigrationContext.configure(connection).get_current_revision()


def _migrate(engine: Engine) -> None:
    """Brings the schema up where it is older, and then what is made of other tables."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    from lut_db.repricing import await_all_turns, reprice_all

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with writing(engine, "schema") as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision == head():
            return
        if revision is not None:
            await_all_turns(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        reprice_all(connection)


def _wrong_schema(url: str, revision: str) -> SchemaError:
    if revision in revisions():
        return SchemaError(
            f"{place_of(url)} must have schema {head()}, but has the older {revision}; 'chamnet lut upgrade' brings it "
            "up"
        )
    return SchemaError(
        f"{place_of(url)} must have schema {head()} or older, but has {revision} of a newer chamnet; use that version"
    )


def _unavailable(url: str, reason: str) -> LutError:
    advice = {
        "locked": "another process holds it; wait for it, or name another --db",
        "readonly": "give it write permission, or name another --db",
        "disk": "make room; what was stored before is intact",
        "full": "make room; what was stored before is intact",
        "unable to open": "the folder must exist and be writable",
    }
    hint = next((text for word, text in advice.items() if word in reason), "see the reason given")
    return StoreUnavailable(f"{place_of(url)} must be readable and writable, but got: {reason}; {hint}")


def _missing_file(url: str) -> str | None:
    path = url.removeprefix("sqlite:///")
    return path if url.startswith("sqlite:///") and path and not Path(path).exists() else None


def place_of(url: str) -> str:
    """How a database is called: its file, or its URL without the password."""
    return url.removeprefix("sqlite:///") if url.startswith("sqlite") else make_url(url).render_as_string()
