"""TokenStore: who may use a service. A secret is shown once; the database keeps its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Engine, Row, insert, or_, select, update

from lut_db import tables
from lut_db.database import reading, writing
from lut_db.errors import LutError, StoreUnavailable

SCOPES = ("read", "write")
PREFIX = "chamnet_"
SECRET_BYTES = 32
TOUCH_S = 60
"""Uses within a minute are noted once: reading must not become writing."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known about a token; never its secret.

    Attributes:
        scopes: of SCOPES; who may write may read.
        created_at, revoked_at, last_used_at: seconds since the epoch, UTC; None for never.
    """

    name: str
    scopes: tuple[str, ...]
    created_at: float
    revoked_at: float | None
    last_used_at: float | None


class TokenStore:
    """The tokens of an open database; ``LutStore.tokens`` makes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, scopes: Sequence[str] = ("read",)) -> str:
        """Adds a token and returns its secret, which nobody can read again.

        Raises:
            LutError: the name is taken, also by a revoked token, or empty; a scope is unknown.
        """
        row = {"name": _checked_name(name), "scopes": " ".join(_checked_scopes(scopes)), "created_at": time.time()}
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        with writing(self._engine, "token") as connection:
            if connection.scalar(select(tables.token.c.id).where(tables.token.c.name == name)) is not None:
                raise LutError(f"a token's name must be new, but got {name!r}, which is there; choose another")
            connection.execute(insert(tables.token).values(**row, digest=_digest(secret)))
        return secret

    def revoke(self, name: str) -> None:
        """Ends a token; harmless when it is ended. Raises LutError where there is none of that name."""
        table = tables.token
        known = {token.name for token in self.all()}
        if name not in known:
            listed = ", ".join(sorted(known)) or "none yet"
            raise LutError(f"a token must be known, but got {name!r}; known: {listed}")
        with writing(self._engine) as connection:
            mine = (table.c.name == name, table.c.revoked_at.is_(None))
            connection.execute(update(table).where(*mine).values(revoked_at=time.time()))

    def all(self) -> list[Token]:
        """Every token in the order they were made, revoked ones too."""
        with reading(self._engine) as connection:
            return [_token(row) for row in connection.execute(select(tables.token).order_by(tables.token.c.id))]

    def find(self, secret: str) -> Token | None:
        """The token of a secret, None where there is none or it was revoked; notes that it was used."""
        digest = _digest(secret)
        with reading(self._engine) as connection:
            row = connection.execute(select(tables.token).where(tables.token.c.digest == digest)).first()
        if row is None or not hmac.compare_digest(row.digest, digest) or row.revoked_at is not None:
            return None
        self._touch(row)
        return _token(row)

    def _touch(self, row: Row[tuple[object, ...]]) -> None:
        """A database that cannot be written now refuses nobody."""
        table, now = tables.token, time.time()
        if row.last_used_at is not None and now - row.last_used_at < TOUCH_S:
            return
        with suppress(StoreUnavailable), writing(self._engine) as connection:
            older = or_(table.c.last_used_at.is_(None), table.c.last_used_at < now)
            connection.execute(update(table).where(table.c.id == row.id, older).values(last_used_at=now))


def _digest(secret: str) -> str:
    """A fast hash is enough: secrets are 256 random bits, not words that could be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _checked_name(name: str) -> str:
    if not name.strip():
        raise LutError(f"a token must have a name, but got {name!r}; say what it is for")
    return name


def _checked_scopes(scopes: Sequence[str]) -> list[str]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        listed = ", ".join(unknown) or "none"
        raise LutError(f"a token's scopes must be of {', '.join(SCOPES)}, but got {listed}; name those")
    return [*SCOPES] if "write" in scopes else ["read"]


def _token(row: Row[tuple[object, ...]]) -> Token:
    return Token(row.name, tuple(row.scopes.split()), row.created_at, row.revoked_at, row.last_used_at)
