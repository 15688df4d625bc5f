"""What is counted so that it can be limited, in SQLite or PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, delete, func, insert, select

from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import changing, secret_hash
from lockboard.adapters.store.schema import attempts


class SqlAttempts:
    """`domain.signin.Attempts` over a database that has been migrated.

    A name is kept as its SHA-256 alone: somebody who types the password into the field of the name leaves no
    password in the database, and no length or character of it is too odd for an index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count(self, name: str, since: datetime) -> int:
        same = (attempts.c.name == secret_hash(name), attempts.c.at >= since.timestamp())
        with reading(self._engine) as connection:
            return connection.execute(select(func.count()).where(*same)).scalar_one()

    def note(self, name: str, now: datetime) -> None:
        with changing(self._engine) as connection:
            connection.execute(insert(attempts).values(name=secret_hash(name), at=now.timestamp()))

    def forget(self, name: str) -> None:
        with changing(self._engine) as connection:
            connection.execute(delete(attempts).where(attempts.c.name == secret_hash(name)))

    def sweep(self, before: datetime) -> int:
        with changing(self._engine) as connection:
            return connection.execute(delete(attempts).where(attempts.c.at < before.timestamp())).rowcount
