"""Counts that every process shares, one row for each name. Losing them costs little; waiting for them would
cost more.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, case, create_engine, delete, event, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from lockboard.adapters.store.engine import WRITES, open_engine, sqlite_engine, store_error
from lockboard.adapters.store.schema import rates
from lockboard.domain.signin import Tally

CONNECTIONS = 4
WAIT_MS = 150
"""How long a statement or another writer is waited for: less than a request waits for its count."""
CONNECT_SECONDS = 2
"""The least that PostgreSQL's driver takes."""


def open_rates_engine(url: str) -> Engine:
    """The database at `url`, which `migrate` has been over, as counts use it: short waits, and no commit that
    waits for the disk.

    Raises StoreError.
    """
    engine = open_engine(url)
    address = engine.url
    engine.dispose()
    if address.get_backend_name() == "sqlite":
        engine = sqlite_engine(address, CONNECTIONS, timeout=WAIT_MS / 1000)
        event.listen(engine, "connect", _hurry_sqlite)
        return engine
    engine = create_engine(
        address,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 5000},
    )
    event.listen(engine, "connect", _hurry_postgresql)
    return engine


class SqlRates:
    """`RateCounters` in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**WRITES)
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        """In one statement: where two processes count at once, the database has one of them wait.

        A window that ends later than two of them from now was begun by a clock that has gone back since.
        """
        at, length = now.timestamp(), lasts.total_seconds()
        over = or_(rates.c.ends <= at, rates.c.ends > at + 2 * length)
        new = self._insert(rates).values(name=_digest(name), ends=at + length, count=amount)
        counted = new.on_conflict_do_update(
            index_elements=[rates.c.name],
            set_={
                "count": case((over, amount), else_=rates.c.count + amount),
                "ends": case((over, new.excluded.ends), else_=rates.c.ends),
            },
        ).returning(rates.c.count, rates.c.ends)
        try:
            with self._engine.begin() as connection:
                count, ends = connection.execute(counted).one()
        except SQLAlchemyError as error:
            raise store_error(error) from error
        return Tally(count, datetime.fromtimestamp(ends, UTC))

    def sweep(self, now: datetime) -> int:
        try:
            with self._engine.begin() as connection:
                return connection.execute(delete(rates).where(rates.c.ends <= now.timestamp())).rowcount
        except SQLAlchemyError as error:
            raise store_error(error) from error


def _digest(name: str) -> str:
    """Of one length whatever a proxy calls somebody, and without the names and addresses of who was here."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _hurry_sqlite(raw: Any, _record: object) -> None:
    raw.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
    raw.execute("PRAGMA synchronous = NORMAL")


def _hurry_postgresql(raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {WAIT_MS}")
        cursor.execute(f"SET lock_timeout = {WAIT_MS}")
        cursor.execute("SET synchronous_commit = off")
    raw.commit()
