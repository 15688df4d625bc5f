"""Opening the inventory's database, and the two kinds of transaction that use it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    QueuePool,
    create_engine,
    event,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from lockboard.adapters.store.schema import meta
from lockboard.domain.errors import StoreError
from lockboard.domain.text import masked, shown

BUSY_TIMEOUT_MS = 5000
STATEMENT_TIMEOUT_MS = 5000
LOCK_TIMEOUT_MS = 2000
WRITE_TIMEOUT_MS = 60_000
WRITE_ATTEMPTS = 5
CONNECTIONS = 20
CACHE_KIB = 4096
CACHE_KIB_TO_WRITE = 65536

OLDEST_SQLITE = (3, 35, 0)
DURABLE = ("on", "local", "remote_write", "remote_apply")

WRITES = {"lockboard_writes": True}
"""Execution options of a connection that writes."""

_NETWORKED = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "coda", "ncpfs"),
        *("ceph", "fuse.ceph", "fuse.ceph-fuse", "glusterfs", "fuse.glusterfs", "lustre", "gpfs", "beegfs"),
        *("gfs", "gfs2", "ocfs2", "orangefs", "pvfs2"),
        *("sshfs", "fuse.sshfs", "davfs", "fuse.davfs2", "fuse.s3fs", "fuse.mount-s3", "fuse.goofys"),
        *("fuse.rclone", "fuse.gcsfuse", "fuse.blobfuse2", "fuse.juicefs"),
    }
)
_UNREADABLE = (
    "[database] url, or LOCKBOARD_DATABASE_URL, cannot be read: write sqlite:////path/to/file or"
    " postgresql://user@host/name, and in a password %40 for @, %3A for : and %2F for /"
)
_OCTAL = re.compile(r"\\([0-7]{3})")
_BUSY_STATES = frozenset({"55P03", "40001", "40P01"})


def open_engine(url: str) -> Engine:
    """Open the database at `url` and prove that it can be used; `migrate` is still to be called.

    `sqlite:////path/to/file` (its folder must exist; the file is made, readable by its owner alone) or
    `postgresql://user@host/database`. Raises StoreError, which says what to do about it.
    """
    address = _parsed(url)
    if address.get_backend_name() == "sqlite":
        return _checked(_open_sqlite(address), address)
    return _checked(_open_postgresql(address), address)


def sqlite_engine(url: str | URL, connections: int, *, pool_timeout: float = 30.0, **options: Any) -> Engine:
    """An engine whose connections and transactions are set up as the store needs them. pool_timeout: seconds
    that a free connection is waited for.
    """
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=pool_timeout,
        hide_parameters=True,
        connect_args={"check_same_thread": False, **options},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def read_only_sqlite_engine(file: Path, connections: int, wait_ms: int) -> Engine:
    """An engine that changes nothing of the file, not its mode, and makes no files beside it: it may be
    evidence, or belong to somebody else.
    """

    def connect() -> sqlite3.Connection:
        # Where no journal lies beside it nobody has it open, and SQLite would make one only to read.
        alone = not file.with_name(f"{file.name}-wal").exists()
        uri = f"{file.as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
        return sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=wait_ms / 1000)

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_ms / 1000,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_to_read)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def sqlite_file(url: str) -> Path | None:
    """The file that a database's URL names; None for PostgreSQL and for what no engine is opened for."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return None
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return None
    return Path(str(address.database)).absolute()


def network_filesystem(file: Path, mounts: str) -> str | None:
    """The kind of network file system that holds `file`, such as `nfs4`; None for one of this machine.

    SQLite's locks and its shared memory (WAL) do not work across one: two writers would not see each other.
    file: an absolute path without symbolic links.  mounts: the text of /proc/self/mountinfo (proc(5)), in
    which a later line hides an earlier one of the same place.
    """
    found, longest = "", -1
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:
            continue
        place = Path(_unescaped(fields[4]))
        if len(place.parts) >= longest and file.is_relative_to(place):
            found, longest = tail.split(" ")[0], len(place.parts)
    return found if found in _NETWORKED else None


def _unescaped(text: str) -> str:
    """A path of mountinfo, where space, tab, newline and backslash are three octal digits."""
    return _OCTAL.sub(lambda digits: chr(int(digits[1], 8)), text)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction in which all statements see one moment. StoreError if the database does not answer."""
    options: dict[str, Any] = {}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**options)
    except SQLAlchemyError as error:
        raise store_error(error) from error


@contextmanager
def writing(engine: Engine, *, much: bool = False) -> Iterator[tuple[Connection, int]]:
    """The transaction of the only writer, and the generation it starts from; committed if all ends well.

    Another writer is waited for, at most about 25 s on SQLite and 10 s on PostgreSQL; then StoreError.
    """
    try:
        connection, generation = _begin_writing(engine)
        with connection, _room(connection) if much else nullcontext():
            yield connection, generation
            connection.commit()
    except SQLAlchemyError as error:
        raise store_error(error) from error


@contextmanager
def _room(connection: Connection) -> Iterator[None]:
    """Memory for what a great change touches, or SQLite would write and read the same pages many times."""
    raw: Any = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        yield
        return
    raw.execute(f"PRAGMA cache_size = -{CACHE_KIB_TO_WRITE}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def store_error(error: SQLAlchemyError) -> StoreError:
    """The same in words fit to show: the database's own, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return StoreError(f"the inventory's database: {shown(' '.join(str(cause).split()), 500)}")


def _begin_writing(engine: Engine) -> tuple[Connection, int]:
    generation = select(meta.c.generation).with_for_update()
    for attempt in range(1, WRITE_ATTEMPTS + 1):
        connection = engine.connect().execution_options(**WRITES)
        try:
            connection.begin()
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL statement_timeout = {WRITE_TIMEOUT_MS}"))
            return connection, connection.execute(generation).scalar_one()
        except DBAPIError as error:
            connection.close()
            if attempt == WRITE_ATTEMPTS or not _busy(error):
                raise
        except SQLAlchemyError:
            connection.close()
            raise
    raise AssertionError("the last attempt returns or raises")


def _busy(error: DBAPIError) -> bool:
    """Whether another writer was in the way; the database itself has already waited its time."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(error.orig, "sqlstate", None) in _BUSY_STATES


def _parsed(url: str) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):  # whose words quote part of the password
        raise StoreError(_UNREADABLE) from None
    if address.host and "@" in f"{address.host}{address.database}":
        raise StoreError(_UNREADABLE)  # the rest of a password, which errors would quote as a name
    if address.drivername in ("sqlite", "sqlite+pysqlite"):
        return address
    if address.drivername in ("postgresql", "postgresql+psycopg"):
        return address.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"{shown(address.drivername, 40)} is not supported: the database is SQLite or PostgreSQL (psycopg)"
    )


def _open_sqlite(address: URL) -> Engine:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, OLDEST_SQLITE))} is the oldest"
        )
    if address.query or not address.database or address.database == ":memory:":
        raise StoreError("the SQLite URL names a plain file: sqlite:////path/to/file")
    _make_private(Path(address.database))
    return sqlite_engine(address, CONNECTIONS, timeout=BUSY_TIMEOUT_MS / 1000)


def _make_private(file: Path) -> None:
    """Make the file, or narrow it: it holds who locked what. SQLite gives its journals the same mode."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise StoreError(
            f"the folder {folder} does not exist: make it, or set another place in [database] url"
        )
    try:
        file.touch(mode=0o600)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{file} cannot be written by this user: {error.strerror}") from error


def _prepare_sqlite(raw: Any, _record: object) -> None:
    # SQLAlchemy begins and commits; sqlite3 itself must not begin behind its back.
    raw.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "journal_size_limit = 67108864",
        f"cache_size = -{CACHE_KIB}",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _prepare_to_read(raw: Any, _record: object) -> None:
    raw.isolation_level = None
    raw.execute("PRAGMA trusted_schema = OFF")


def _begin_sqlite(connection: Connection) -> None:
    # A writer says so at once: one that began by reading could be refused in the middle, not just waited for.
    writes = connection.get_execution_options().get("lockboard_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _open_postgresql(address: URL) -> Engine:
    try:
        engine = create_engine(
            address, pool_size=CONNECTIONS, max_overflow=0, hide_parameters=True, pool_pre_ping=True
        )
    except ModuleNotFoundError as error:
        raise StoreError("PostgreSQL needs its driver: pip install 'lockboard[postgres]'") from error
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('server_encoding')")
        commits, encoding = cursor.fetchone() or ("", "")
        if commits not in DURABLE:
            raise StoreError(
                f"PostgreSQL has synchronous_commit = {commits} and may lose what it called done: set it on"
            )
        if encoding != "UTF8":
            raise StoreError(
                f"the PostgreSQL database has the encoding {encoding}: create one with ENCODING 'UTF8'"
            )
        cursor.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    raw.commit()


def _checked(engine: Engine, address: URL) -> Engine:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        engine.dispose()
        place = masked(address.render_as_string(hide_password=False))
        raise StoreError(f"{place} cannot be opened: {store_error(error)}") from error
    except StoreError:
        engine.dispose()
        raise
    return engine
