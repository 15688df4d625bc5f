"""What the stores of people share: their engine, their transactions, and how they write times and secrets.

Their transactions are apart from those of the inventory: on PostgreSQL none waits for a refresh, and on
neither database does one change the generation that pages and polls go by.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from lockboard.adapters.store.engine import WRITES, open_engine, sqlite_engine, store_error
from lockboard.domain.access import Grant
from lockboard.domain.people import grants_from_json, grants_to_json

CONNECTIONS = 20
"""On SQLite, more than the web process has threads."""
CONNECTIONS_POSTGRESQL = 8
POOL_WAIT_SECONDS = 1.0
"""How long a free connection is waited for."""
WAIT_MS = 3500
"""How long a statement, or SQLite's lock, is waited for."""
LOCK_WAIT_MS = 3000
"""The same for a lock of PostgreSQL: less than for a statement, so that the error names the lock."""
NOTE_WAIT_MS = 50
"""How long a write is waited for that may as well be left out."""
CACHE_KIB = 1024

_LARGEST = 2**63 - 1
_POSTGRESQL = {
    "connect_timeout": 3,
    # A server that is gone without a word is given up within seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 4000,
}


def open_people_engine(url: str) -> Engine:
    """The database at `url`, which `migrate` has been over, as those use it who sign in: nobody waits for a
    connection and a lock together for more than 4.5 s.

    Raises StoreError.
    """
    engine = open_engine(url)
    address = engine.url
    engine.dispose()
    if address.get_backend_name() == "sqlite":
        engine = sqlite_engine(address, CONNECTIONS, pool_timeout=POOL_WAIT_SECONDS, timeout=WAIT_MS / 1000)
        event.listen(engine, "connect", _hurry_sqlite)
        return engine
    engine = create_engine(
        address,
        pool_size=CONNECTIONS_POSTGRESQL,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=_POSTGRESQL,
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes, committed if all ends well. StoreError if the database does not take it."""
    try:
        with engine.connect().execution_options(**WRITES) as connection, connection.begin():
            yield connection
    except SQLAlchemyError as error:
        raise store_error(error) from error


@contextmanager
def noting(engine: Engine) -> Iterator[Connection]:
    """The same for what may as well be left out: it waits for nobody longer than a blink."""
    try:
        with (
            engine.connect().execution_options(**WRITES) as connection,
            _briefly(connection),
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = {NOTE_WAIT_MS}"))
            yield connection
    except SQLAlchemyError as error:
        raise store_error(error) from error


@contextmanager
def _briefly(connection: Connection) -> Iterator[None]:
    raw: Any = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        yield
        return
    (usual,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute(f"PRAGMA busy_timeout = {NOTE_WAIT_MS}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA busy_timeout = {usual}")


def secret_hash(secret: str) -> str:
    """What is kept of a secret of 256 random bits: its SHA-256. There is nothing in it to guess, so it needs
    no salt and no slowness.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def moment(seconds: float) -> datetime:
    """A time as the tables have it, seconds since 1970, with its zone."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """The same where there may be none."""
    return None if seconds is None else moment(seconds)


def is_number(number: int) -> bool:
    """Whether a row may have it; a larger one would be an error of the database rather than no row."""
    return 0 < number <= _LARGEST


def to_text(value: object) -> str:
    """JSON in ASCII, which holds lone surrogates and NUL as they are. TypeError or ValueError for what is not
    JSON.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def grants_to_text(grants: Sequence[Grant]) -> str:
    """Grants as a column has them."""
    return to_text(grants_to_json(grants))


def grants_from_text(stored: str) -> tuple[Grant, ...]:
    """The same back; what cannot be read gives nothing."""
    try:
        return grants_from_json(json.loads(stored))
    except (ValueError, RecursionError):
        return ()


def _hurry_sqlite(raw: Any, _record: object) -> None:
    raw.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
    raw.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _prepare_postgresql(raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {WAIT_MS}")
        cursor.execute(f"SET lock_timeout = {LOCK_WAIT_MS}")
        # One process that stands still must not keep a session's row from all others.
        cursor.execute("SET idle_in_transaction_session_timeout = 10000")
    raw.commit()
