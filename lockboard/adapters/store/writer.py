"""Writing what changed, and with it counts and history, inside one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, select, text, update

from lockboard.adapters.store.rows import Prepared, lock_ids_of, prepare, storable
from lockboard.adapters.store.schema import HISTORY_LIMIT, documents, history, kinds, lock_ids, meta, states
from lockboard.domain.inventory import StateRow

BATCH = 500
ANALYZE_FROM = 2000
"""After more changes than this PostgreSQL must look at the table again, or it plans for the one it knew."""

_FORGET_TEXT = text(
    "INSERT INTO states_search (states_search, rowid, search) SELECT 'delete', seq, search FROM states "
    "WHERE id IN :ids AND generation < :generation"
).bindparams(bindparam("ids", expanding=True))
_LEARN_TEXT = text(
    "INSERT INTO states_search (rowid, search) SELECT seq, search FROM states WHERE generation = :generation"
)


class Kind(NamedTuple):
    """What all keys counted together have in common."""

    backend: str
    rank: int
    content: str
    lock: str


class _Stored(NamedTuple):
    checksum: str
    kind: int
    content: str
    lock: str
    holder: str
    entries: int


_STORED = select(states.c.id, *(states.c[name] for name in _Stored._fields)).where(
    states.c.id.in_(bindparam("ids", expanding=True))
)


class Writer:
    """One transaction's worth of changes. `close` must end it, or the counts are not written.

    generation: what rows written now are stamped with, one more than the last. written: rows that were
    inserted, changed or deleted so far.
    """

    def __init__(self, connection: Connection, last_generation: int, now: datetime) -> None:
        self.generation, self.written = last_generation + 1, 0
        self._connection, self._now = connection, now.timestamp()
        self._indexes_text = connection.dialect.name == "sqlite"
        found = connection.execute(
            select(kinds.c.kind, kinds.c.backend, kinds.c.rank, kinds.c.content, kinds.c.lock)
        )
        self._kinds = {Kind(*kind): number for number, *kind in found}
        self._next_kind = max(self._kinds.values(), default=0) + 1
        self._delta: Counter[int] = Counter()

    def put(self, rows: Iterable[StateRow]) -> None:
        """Write those that differ from what is stored."""
        for batch in _batches(rows):
            self._put_batch({storable(row.id): row for row in batch})

    def drop(self, backend: str, ids: Iterable[str]) -> None:
        """Delete rows of this backend with all that hangs on them; ids that are not there are passed over."""
        for batch in _batches(map(storable, ids)):
            found = self._connection.execute(
                select(states.c.id, states.c.kind).where(
                    states.c.id.in_(batch), states.c.backend == storable(backend)
                )
            ).all()
            if found:
                self._delete([row.id for row in found])
                self._delta.subtract(row.kind for row in found)

    def drop_some(self, backend: str, at_most: int) -> int:
        """Delete rows of this backend; how many it were."""
        found = select(states.c.id).where(states.c.backend == storable(backend)).limit(at_most)
        ids = self._connection.scalars(found).all()
        self.drop(backend, ids)
        return len(ids)

    def close(self, *, anyway: bool = False) -> int:
        """Write counts and generation, and return it: as it was if nothing was written, except `anyway`."""
        changed = [{"number": kind, "by": by} for kind, by in self._delta.items() if by]
        if changed:
            more = (
                update(kinds).where(kinds.c.kind == bindparam("number")).values(n=kinds.c.n + bindparam("by"))
            )
            self._connection.execute(more, changed)
        if not self.written and not anyway:
            return self.generation - 1
        if self._indexes_text and self.written:
            # At the end and in one statement: the index merges what it has gathered after each.
            self._connection.execute(_LEARN_TEXT, {"generation": self.generation})
        if not self._indexes_text and self.written > ANALYZE_FROM:
            self._connection.execute(text("ANALYZE states"))
        self._connection.execute(update(meta).values(generation=self.generation))
        return self.generation

    def _put_batch(self, rows: dict[str, StateRow]) -> None:
        stored = {
            id_: _Stored(*rest) for id_, *rest in self._connection.execute(_STORED, {"ids": list(rows)})
        }
        changed, told, documented = [], [], []
        for id_, row in rows.items():
            new, old = prepare(row), stored.get(id_)
            if old is not None and old.checksum == new.checksum:
                continue
            entries = old.entries if old else 0
            if old is None or (old.content, old.lock, old.holder) != (new.content, new.lock, new.holder):
                entries += 1
                told.append((id_, entries, self._now, new.content, new.lock, new.holder))
            *given, document = new
            changed.append((*given, self._count(new, old), self.generation, entries))
            documented.append((id_, document))
        if changed:
            ids = [id_ for id_, _ in documented]
            self._forget_text([id_ for id_ in ids if id_ in stored])
            self._upsert(states, (*Prepared._fields[:-1], "kind", "generation", "entries"), changed)
            self._upsert(documents, ("id", "document"), documented)
            self._write_lock_ids(ids, rows, stored)
            self._write_history(told)
            self.written += len(changed)

    def _count(self, new: Prepared, old: _Stored | None) -> int:
        kind = Kind(new.backend, new.rank, new.content, new.lock)
        number = self._kinds.get(kind)
        if number is None:
            number, self._next_kind = self._next_kind, self._next_kind + 1
            self._kinds[kind] = number
            self._connection.execute(insert(kinds).values(kind=number, n=0, **kind._asdict()))
        self._delta[number] += 1
        if old is not None:
            self._delta[old.kind] -= 1
        return number

    def _write_lock_ids(self, ids: Sequence[str], rows: dict[str, StateRow], stored: Container[str]) -> None:
        old = [id_ for id_ in ids if id_ in stored]
        if old:
            self._connection.execute(delete(lock_ids).where(lock_ids.c.id.in_(old)))
        new = [(id_, number, lock_id) for id_ in ids for number, lock_id in enumerate(lock_ids_of(rows[id_]))]
        if new:
            self._upsert(lock_ids, ("id", "number", "lock_id"), new)

    def _write_history(self, lines: Sequence[tuple[str, int, float, str, str, str]]) -> None:
        if lines:
            self._upsert(history, ("id", "entry", "at", "content", "lock", "holder"), lines)
        past = [
            {"of": id_, "last": entry - HISTORY_LIMIT} for id_, entry, *_ in lines if entry > HISTORY_LIMIT
        ]
        if past:
            beyond = and_(history.c.id == bindparam("of"), history.c.entry <= bindparam("last"))
            self._connection.execute(delete(history).where(beyond), past)

    def _forget_text(self, ids: Sequence[str]) -> None:
        """Before the rows change: an index without a copy of the text must be told what to take out.

        Rows of this generation are not in it yet.
        """
        if self._indexes_text and ids:
            self._connection.execute(_FORGET_TEXT, {"ids": ids, "generation": self.generation})

    def _delete(self, ids: Sequence[str]) -> None:
        self._forget_text(ids)
        for table in (states, documents, lock_ids, history):
            self._connection.execute(delete(table).where(table.c.id.in_(ids)))
        self.written += len(ids)

    def _upsert(self, table: Table, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        # Given to the driver as it is: 100,000 rows cost SQLAlchemy more time than the database.
        self._connection.exec_driver_sql(
            _upsert_text(table, names, self._connection.dialect.name), list(rows)
        )


@cache
def _upsert_text(table: Table, names: tuple[str, ...], dialect: str) -> str:
    """INSERT .. ON CONFLICT DO UPDATE with a placeholder for each name, in this order."""
    key = ["id"] if table is states else [column.name for column in table.primary_key]
    marks = ", ".join(["?" if dialect == "sqlite" else "%s"] * len(names))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) "  # noqa: S608  names of our own columns
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
    )


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(islice(remaining, BATCH)):
        yield batch
