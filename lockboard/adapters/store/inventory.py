"""The refresher's side of the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from sys import intern
from time import sleep
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, insert, select

from lockboard.adapters.store.engine import reading, writing
from lockboard.adapters.store.rows import report_from_text, report_to_text, storable
from lockboard.adapters.store.schema import backends, kinds, meta, states
from lockboard.adapters.store.writer import Writer
from lockboard.domain.inventory import BackendReport, Changes, Known

_KNOWN = select(states.c.id, *(states.c[name] for name in Known._fields))
_STREAM = 2000
FORGOTTEN_AT_ONCE = 5000
"""Rows of a backend without a place in the settings that go in one transaction."""
_PAUSE_SECONDS = 0.1
"""As long as SQLite waits at most before it tries again: somebody else comes to write between two parts."""


class SqlInventory:
    """`domain.inventory.Inventory` in the database of an engine.

    Every method raises StoreError where the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, backend: str) -> dict[str, Known]:
        """id -> what was stored last, for every row of the backend."""
        with reading(self._engine) as connection:
            return _known(connection, _KNOWN.where(states.c.backend == storable(backend)))

    def rechecked(self, backend: str, since: int) -> tuple[int, dict[str, Known]]:
        """Rows without a fingerprint put after a generation, and the generation now."""
        query = _KNOWN.where(
            states.c.generation > since, states.c.backend == storable(backend), states.c.fingerprint == ""
        )
        with reading(self._engine) as connection:
            now = connection.scalar(select(meta.c.generation))
            return now or 0, _known(connection, query)

    def apply(self, changes: Changes) -> int:
        """Write what differs in one transaction and return the generation.

        `put` and `drop` may be iterators and are read once, a batch at a time. A row equal to the stored
        one is not written; the report is stored with the number of rows that were
        (`report(...).rows_written`). Lines of the timeline are dated `attempted_at`.
        """
        with writing(self._engine, much=True) as (connection, generation):
            writer = Writer(connection, generation, changes.report.attempted_at)
            writer.drop(changes.backend, changes.drop)
            writer.put(changes.put)
            report = replace(changes.report, rows_written=writer.written)
            before = _report(connection, changes.backend)
            _store_report(connection, changes.backend, report)
            return writer.close(anyway=before is None or _health(before) != _health(report))

    def report(self, backend: str) -> BackendReport | None:
        """The last report stored, None for a backend that was never refreshed."""
        with reading(self._engine) as connection:
            return _report(connection, backend)

    def forget_backends(
        self,
        but: Sequence[str],
        *,
        at_once: int = FORGOTTEN_AT_ONCE,
        wait: Callable[[float], object] = sleep,
    ) -> None:
        """Drop rows and reports of every backend that is not named, a part at a time: others write, too."""
        kept = {storable(name) for name in but}
        with reading(self._engine) as connection:
            named = select(kinds.c.backend).union(select(backends.c.backend))
            forgotten = [name for name in connection.scalars(named) if name not in kept]
        while forgotten and not self._forget_some(forgotten, at_once):
            wait(_PAUSE_SECONDS)

    def _forget_some(self, forgotten: Sequence[str], at_once: int) -> bool:
        """Whether nothing of these backends is left."""
        with writing(self._engine, much=True) as (connection, generation):
            writer = Writer(connection, generation, datetime.now(UTC))
            room = at_once
            for name in forgotten:
                room -= writer.drop_some(name, room)
            writer.close(anyway=room > 0)
            if room > 0:
                connection.execute(delete(kinds).where(kinds.c.backend.in_(forgotten)))
                connection.execute(delete(backends).where(backends.c.backend.in_(forgotten)))
        return room > 0


def _known(connection: Connection, query: Select[*tuple[Any, ...]]) -> dict[str, Known]:
    found = connection.execute(query.execution_options(yield_per=_STREAM))
    return {
        id_: Known(fingerprint, intern(content), intern(lock), intern(terraform), memo)
        for id_, fingerprint, content, lock, terraform, memo in found
    }


def _report(connection: Connection, backend: str) -> BackendReport | None:
    found = connection.scalar(select(backends.c.report).where(backends.c.backend == storable(backend)))
    return None if found is None else report_from_text(found)


def _store_report(connection: Connection, backend: str, report: BackendReport) -> None:
    connection.execute(delete(backends).where(backends.c.backend == storable(backend)))
    connection.execute(insert(backends).values(backend=storable(backend), report=report_to_text(report)))


def _health(report: BackendReport) -> tuple[object, ...]:
    """What about a backend is news to someone who looks at the pages; times and costs are not."""
    return report.complete, report.error, report.missing_permission, report.versioning, report.sweep_error
