"""Opening the database for the audit log: few connections, short waits, one attempt."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError

from lockboard.adapters.store.engine import (
    open_engine,
    read_only_sqlite_engine,
    sqlite_engine,
    sqlite_file,
)
from lockboard.domain.audit import AuditError
from lockboard.domain.errors import StoreError
from lockboard.domain.text import shown

CONNECTIONS = 6
WAIT_MS = 4000
"""How long a statement, SQLite's lock or a free connection is waited for."""
LOCK_WAIT_MS = 3500
"""The same for a lock of PostgreSQL: less than for a statement, so that the error names the lock."""
CONNECT_SECONDS = 3
CACHE_KIB = 2048

_FILE = "lockboard_audit_file"
_POSTGRESQL = {
    "connect_timeout": CONNECT_SECONDS,
    # A server that is gone without a word is noticed, and its connection given up, within seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}


def open_audit_engine(url: str, *, reads_only: bool = False) -> Engine:
    """The database at `url`, which `migrate` has been over, as the audit log uses it: nothing in it waits for
    more than about 4 s, so that an action is refused in time where a record cannot be written.

    reads_only: nothing is written, and nothing of a SQLite file changed; it need not be writable. Raises
    StoreError; also where the SQLite file does not exist, for an empty one would be no audit log.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise StoreError(f"there is no database at {shown(str(file), 1024)}")
    if file is not None and reads_only:
        return read_only_sqlite_engine(file, CONNECTIONS, WAIT_MS)
    engine = open_engine(url)
    address = engine.url
    engine.dispose()
    if address.get_backend_name() == "sqlite":
        engine = sqlite_engine(address, CONNECTIONS, timeout=WAIT_MS / 1000)
        event.listen(engine, "connect", _hurry_sqlite)
        _watch_file(engine, address)
    else:
        engine = create_engine(
            address,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=WAIT_MS / 1000,
            pool_pre_ping=True,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            connect_args=_POSTGRESQL,
        )
        event.listen(engine, "connect", _prepare_postgresql)
    return engine


def file_is_there(connection: Connection) -> bool:
    """Whether what this connection writes to is still the file of that name; True where there is none."""
    known = connection.info.get(_FILE)
    return known is None or known == _identity(connection.engine.url)


def audit_error(error: SQLAlchemyError | StoreError | sqlite3.Error, doing: str) -> AuditError:
    """The same in words fit to show, without the statement and its values."""
    return AuditError(f"the audit log {doing}: {shown(' '.join(_words(error).split()), 300)}")


def _words(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).partition("\n")[0]  # PostgreSQL's go on with the statement or the row


def _hurry_sqlite(raw: Any, _record: object) -> None:
    raw.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
    raw.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _watch_file(engine: Engine, address: URL) -> None:
    """Never write to a file that was moved away, removed or replaced under an open connection: SQLite would
    say done, and the record would be gone.
    """

    def require(*_: object) -> None:
        if _identity(address) is None:
            raise StoreError(f"{shown(address.database or '', 1024)} is not there any more")

    def remember(_raw: object, record: Any) -> None:
        record.info[_FILE] = _identity(address)

    def look(_raw: object, record: Any, _proxy: object) -> None:
        if record.info.get(_FILE) != _identity(address):
            raise DisconnectionError("the database's file is another one")

    event.listen(engine, "do_connect", require)  # SQLite would make an empty file
    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", look)


def _identity(address: URL) -> tuple[int, int] | None:
    try:
        found = Path(address.database or "").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare_postgresql(raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {WAIT_MS}")
        cursor.execute(f"SET lock_timeout = {LOCK_WAIT_MS}")
        # One process that stands still must not keep the turn from all others.
        cursor.execute("SET idle_in_transaction_session_timeout = 10000")
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
        )
    raw.commit()
