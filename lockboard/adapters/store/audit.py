"""The audit log in SQLite or PostgreSQL: one writer at a time, who builds on nothing that does not fit."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, exists, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from lockboard.adapters.store.audit_engine import audit_error, file_is_there
from lockboard.adapters.store.audit_rows import (
    WHOLE,
    bounded,
    columns_of,
    conditions,
    record_of,
    stored_of,
)
from lockboard.adapters.store.engine import WRITES
from lockboard.adapters.store.schema import audit
from lockboard.domain.audit import (
    GENESIS,
    SHORTEST_KEY,
    AlreadyRecorded,
    AuditError,
    AuditPage,
    AuditQuery,
    Entry,
    Head,
    Kind,
    Record,
    Stored,
    Verification,
    Witness,
    body_of,
    entry_of,
    mac_of,
    verify,
    visible,
)
from lockboard.domain.errors import StoreError
from lockboard.domain.text import shown

DEADLINE_SECONDS = 4.7
"""After which `append` gives up, whatever the database is still doing."""

COUNT_LIMIT = 10_000
PAGE_LIMIT = 500
BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024
PEOPLE_LIMIT = 200

_ADVISORY_LOCK = 0x61756469  # "audi"; any number does that nothing else in the database uses
_READ_WAIT_SECONDS = 4.0
_NEXT_ROWS = 50
_ONCE = (Kind.INTENT, Kind.OUTCOME)


class _Before(NamedTuple):
    """What a new record goes on from. at: None before the first record."""

    seq: int
    mac: str
    at: datetime | None


class SqlAudit:
    """`domain.audit.Audit` over a database that has been migrated.

    Processes and threads may append at once: they take turns. `engine`: of `open_audit_engine`; it serves one
    appending and some reading threads at a time. key: at least 32 bytes. clock: now, in UTC.
    """

    def __init__(
        self,
        engine: Engine,
        key: bytes,
        clock: Callable[[], datetime],
        witness: Witness,
        *,
        deadline: float = DEADLINE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"the audit key has {len(key)} bytes, fewer than {SHORTEST_KEY}")
        self._engine, self._key, self._clock, self._witness = engine, key, clock, witness
        self._deadline, self._monotonic = deadline, monotonic
        self._turn = threading.Lock()
        size = getattr(engine.pool, "size", lambda: 1)()
        # One connection is always left to whoever appends.
        self._readers = threading.BoundedSemaphore(max(1, size - 1))
        self._written: Head | None = None
        self._settled = 0
        self._verified: tuple[datetime, Verification] | None = None

    def append(self, entry: Entry) -> Record:
        # In a thread of its own: a disk or a server that hangs can be waited for, but not interrupted.
        ends = self._monotonic() + self._deadline
        if not self._turn.acquire(timeout=self._deadline):
            raise AuditError("the audit log did not take the record: an earlier one is still being written")
        answer: Future[Record] = Future()
        given_up = threading.Event()
        try:
            threading.Thread(
                target=self._work, args=(entry, answer, given_up), name="audit", daemon=True
            ).start()
        except RuntimeError as error:
            self._turn.release()
            raise AuditError(f"the audit log did not take the record: {error}") from error
        try:
            return answer.result(max(0.0, ends - self._monotonic()))
        except TimeoutError as error:
            given_up.set()
            raise AuditError(
                f"the audit log did not take the record: no answer within {self._deadline:.1f} s"
            ) from error

    def record(self, seq: int) -> Record | None:
        return next(iter(self._records(select(*WHOLE).where(audit.c.seq == seq))), None)

    def of_action(self, action_id: str) -> Sequence[Record]:
        found = select(*WHOLE).where(audit.c.action_id == bounded(action_id)).order_by(audit.c.seq)
        return self._records(found) if action_id else []

    def open_intents(self) -> Sequence[Record]:
        other, before = audit.alias(), audit.alias()
        settled = exists().where(other.c.action_id == audit.c.action_id, other.c.kind == Kind.OUTCOME.value)
        intents = (
            select(*WHOLE, before.c.mac.label("previous"))
            .outerjoin(before, before.c.seq == audit.c.seq - 1)
            .where(audit.c.kind == Kind.INTENT.value, audit.c.seq > self._settled, ~settled)
            .order_by(audit.c.seq)
        )
        with self._reading() as connection:
            last = connection.execute(select(func.max(audit.c.seq))).scalar()
            rows = connection.execute(intents).all()
        # An intent once settled stays so, and most have been for long: they need not be looked at again.
        self._settled = rows[0].seq - 1 if rows else last or 0
        return [record_of(row) for row in rows if self._fits(row.seq, row.previous or GENESIS, row)]

    def page(self, query: AuditQuery) -> AuditPage:
        wanted = conditions(query)
        limit = min(max(query.limit, 1), PAGE_LIMIT)
        matches = select(*WHOLE).where(*wanted)
        some = select(audit.c.seq).where(*wanted)
        with self._reading() as connection:
            records = _first(connection, matches, query, limit)
            records.sort(key=lambda record: record.seq, reverse=True)
            newest, oldest = _ends(query, records)

            def beyond(older: bool) -> bool:
                there = audit.c.seq < oldest if older else audit.c.seq > newest
                return connection.execute(some.where(there).limit(1)).first() is not None

            older, newer = beyond(older=True), beyond(older=False)
            counted = select(func.count()).select_from(some.limit(COUNT_LIMIT + 1).subquery())
            total = connection.execute(counted).scalar_one()
        return AuditPage(
            records,
            oldest if older else None,
            newest if newer else None,
            min(total, COUNT_LIMIT),
            total > COUNT_LIMIT,
        )

    def people(self) -> Sequence[str]:
        names = select(audit.c.person).where(audit.c.person != "").distinct()
        with self._reading() as connection:
            found = connection.execute(names.order_by(audit.c.person).limit(PEOPLE_LIMIT)).scalars()
            return [bounded(name) for name in found if isinstance(name, str)]

    def export(self, query: AuditQuery) -> Iterator[Record]:
        matches = select(*WHOLE).where(*conditions(query)).order_by(audit.c.seq.desc())
        head = self.head()
        below = head.seq + 1 if head else 0
        while rows := self._batch(matches.where(audit.c.seq < below)):
            below = rows[-1].seq
            found = map(record_of, rows)
            yield from (record for record in found if visible(record.entry, query.scope))

    def first(self) -> Record | None:
        return next(iter(self._records(select(*WHOLE).order_by(audit.c.seq).limit(1))), None)

    def head(self) -> Head | None:
        newest = select(audit.c.seq, audit.c.mac).order_by(audit.c.seq.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(newest).first()
        return Head(row.seq, shown(str(row.mac), 64)) if row else None

    def verify(self, heads: Sequence[Head] = ()) -> Verification:
        written, last = self._written, self.head()
        # What this process wrote, and what there was a moment ago, must be there as well.
        known = [*heads, *(head for head in (written, last) if head)]
        rows = self._stored(last.seq) if last else ()
        found = verify(rows, self._key, known, columns_of)
        found = replace(found, tail_proven=found.ok and bool(heads))
        self._verified = (self._clock(), found)
        return found

    def last_verification(self) -> tuple[datetime, Verification] | None:
        return self._verified

    def _work(self, entry: Entry, answer: Future[Record], given_up: threading.Event) -> None:
        try:
            answer.set_result(self._append(entry, given_up))
        except BaseException as error:  # noqa: BLE001  it is the caller's, who waits for it
            answer.set_exception(error)
        finally:
            self._turn.release()

    def _append(self, entry: Entry, given_up: threading.Event) -> Record:
        self._require_whole(entry)
        with self._writing() as connection:
            record = self._next(self._before(connection), entry)
            # From here on as it reads back: two lone surrogates side by side have become one character.
            kept = record.entry
            if kept.kind in _ONCE and _is_recorded(connection, kept):
                raise AlreadyRecorded(f"action {bounded(kept.action_id)} has its {kept.kind.value} already")
            connection.execute(
                insert(audit).values(
                    seq=record.seq,
                    body=record.body,
                    mac=record.mac,
                    **columns_of(record.seq, record.at, kept),
                )
            )
            if given_up.is_set():
                raise AuditError("the audit log did not take the record: it took too long")
            connection.commit()
            if not file_is_there(connection):
                connection.invalidate()
                raise AuditError("the audit log did not take the record: its file was moved or replaced")
        self._written = Head(record.seq, record.mac)
        self._witness(self._written, record.at)
        return record

    def _next(self, before: _Before, entry: Entry) -> Record:
        """The record, proved to be one that `verify` accepts."""
        if entry.kind in _ONCE and not entry.action_id:
            raise AuditError(f"the audit log does not take an {entry.kind.value} without its action's ID")
        at = max(self._clock(), before.at) if before.at else self._clock()
        try:
            body = body_of(at, entry)
            at, kept = entry_of(body)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise AuditError(
                "the audit log does not take the record: it cannot be written as JSON"
            ) from error
        seq = before.seq + 1
        return Record(seq, at, kept, body, mac_of(self._key, seq, before.mac, body))

    def _before(self, connection: Connection) -> _Before:
        """The newest record, proved to be the one that was written. AuditError for any other."""
        newest = select(*WHOLE).order_by(audit.c.seq.desc()).limit(2)
        rows = connection.execute(newest).all()
        self._require_written(connection)
        if not rows:
            return _Before(0, GENESIS, None)
        head = rows[0]
        previous = rows[1].mac if len(rows) == 2 and rows[1].seq == head.seq - 1 else GENESIS
        if (head.seq > 1) != (len(rows) == 2) or not self._fits(head.seq, previous, head):
            raise AuditError(
                f"the audit log is broken, or its key is another: record {head.seq} is not as it was written."
                " Run: lockboard audit verify"
            )
        return _Before(head.seq, head.mac, entry_of(head.body)[0])

    def _require_whole(self, entry: Entry) -> None:
        """That no change is begun on a log that was found changed. What is under way gets its outcome."""
        if entry.kind is Kind.INTENT and self._verified and not self._verified[1].ok:
            raise AuditError(
                f"the audit log was changed: {self._verified[1].problem}. Nothing is begun until it verifies"
            )

    def _require_written(self, connection: Connection) -> None:
        """That the log still holds what this process wrote last."""
        if self._written is None:
            return
        found = connection.execute(select(audit.c.mac).where(audit.c.seq == self._written.seq)).scalar()
        if found != self._written.mac:
            raise AuditError(
                f"the audit log is another one: record {self._written.seq}, which this process wrote, is gone"
                " or changed. Run: lockboard audit verify"
            )

    def _fits(self, seq: int, previous: str, row: Any) -> bool:
        try:
            return bool(row.mac == mac_of(self._key, seq, previous, row.body))
        except (ValueError, TypeError, AttributeError, OverflowError):
            return False

    def _records(self, found: Select[Any]) -> list[Record]:
        with self._reading() as connection:
            return [record_of(row) for row in connection.execute(found)]

    def _stored(self, last: int) -> Iterator[Stored]:
        """Every row up to this number, in order."""
        rows = select(audit).where(audit.c.seq <= last).order_by(audit.c.seq)
        batch = self._batch(rows)
        while batch:
            yield from map(stored_of, batch)
            batch = self._batch(rows.where(audit.c.seq > batch[-1].seq))

    def _batch(self, rows: Select[Any]) -> list[Any]:
        """The first of these rows, read in a transaction of its own: so many that memory stays bounded."""
        found: list[Any] = []
        size = 0
        with self._reading() as connection:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=50)
            with streaming.execute(rows.limit(BATCH_ROWS)) as result:
                for row in result:
                    found.append(row)
                    size += len(row.body or "")
                    if size >= BATCH_BYTES:
                        break
        return found

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction in which all statements see one moment."""
        options: dict[str, Any] = {}
        if self._engine.dialect.name == "postgresql":
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        if not self._readers.acquire(timeout=_READ_WAIT_SECONDS):
            raise AuditError("the audit log does not answer: too many are reading it")
        try:
            with self._engine.connect() as connection, _lenient(connection):
                yield connection.execution_options(**options)
        except (SQLAlchemyError, StoreError, sqlite3.Error) as error:
            raise audit_error(error, "does not answer") from error
        finally:
            self._readers.release()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """The transaction of the only writer; rolled back where it is not committed."""
        try:
            with self._engine.connect().execution_options(**WRITES) as connection:
                try:
                    connection.begin()
                    if connection.dialect.name == "postgresql":
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
                    with _lenient(connection):
                        yield connection
                except (SQLAlchemyError, sqlite3.Error):
                    _discard(connection)
                    raise
        except (SQLAlchemyError, StoreError, sqlite3.Error) as error:
            raise audit_error(error, "did not take the record") from error


def _first(connection: Connection, matches: Select[Any], query: AuditQuery, limit: int) -> list[Record]:
    """So many records of the scope, where there are. A row that only seems to be one of it, for it cannot be
    read any more, takes nobody's place.
    """
    records: list[Record] = []
    size = limit
    while True:
        rows = connection.execute(_slice(matches, query, size)).all()
        found = map(record_of, rows)
        records += [record for record in found if visible(record.entry, query.scope)]
        if len(rows) < size or len(records) >= limit:
            return records[:limit]
        query = replace(query, **{"after" if _upward(query) else "before": rows[-1].seq})
        size = max(limit, _NEXT_ROWS)


def _slice(matches: Select[Any], query: AuditQuery, limit: int) -> Select[Any]:
    if query.before is not None:
        matches = matches.where(audit.c.seq < query.before)
    if query.after is not None:
        matches = matches.where(audit.c.seq > query.after)
    return matches.order_by(audit.c.seq if _upward(query) else audit.c.seq.desc()).limit(limit)


def _upward(query: AuditQuery) -> bool:
    return query.after is not None and query.before is None


def _ends(query: AuditQuery, records: Sequence[Record]) -> tuple[int, int]:
    """Between which numbers a page lies: newest and oldest, both its own."""
    if records:
        return records[0].seq, records[-1].seq
    if query.before is not None:
        return query.before - 1, query.before
    edge = query.after or 0
    return edge, edge + 1


def _is_recorded(connection: Connection, entry: Entry) -> bool:
    same = (audit.c.action_id == bounded(entry.action_id), audit.c.kind == entry.kind.value)
    return connection.execute(select(audit.c.seq).where(*same).limit(1)).first() is not None


@contextmanager
def _lenient(connection: Connection) -> Iterator[None]:
    """Bytes that are no UTF-8 are read as what they are, not as an error: a changed row must be shown and
    named. PostgreSQL lets none in.
    """
    raw: Any = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        yield
        return
    kept, raw.text_factory = raw.text_factory, _decoded
    try:
        yield
    finally:
        raw.text_factory = kept


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _discard(connection: Connection) -> None:
    """After an error the next one gets a new connection; that of a database in memory is all there is."""
    if connection.engine.url.database or connection.dialect.name != "sqlite":
        connection.invalidate()
