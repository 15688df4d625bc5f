"""The pages' side of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, Select, bindparam, func, select, union_all

from lockboard.adapters.store.engine import reading, writing
from lockboard.adapters.store.listing import Listing, page_of
from lockboard.adapters.store.order import order_of
from lockboard.adapters.store.rows import LISTED, WHOLE, report_from_text, storable, to_list_row, to_state_row
from lockboard.adapters.store.schema import (
    HAS_DIGEST,
    PLACE_LENGTH,
    backends,
    documents,
    history,
    kinds,
    lock_ids,
    meta,
    states,
)
from lockboard.adapters.store.sieve import Kind, Sieve, held_by, same
from lockboard.adapters.store.writer import Writer
from lockboard.domain.inventory import (
    COUNT_LIMIT,
    VIEWS,
    BackendReport,
    ListRow,
    Page,
    Query,
    StateRow,
    in_view,
)

PAGE_LIMIT = 1000
_EXPORT_BATCH = 200

_GENERATION = select(meta.c.generation)
_KINDS = select(*(kinds.c[name] for name in Kind._fields))
_REPORTS = select(backends.c.report).order_by(backends.c.backend)
_HELD = (
    select(*LISTED)
    .where(states.c.locked_since.is_not(None))
    .order_by(states.c.locked_since, states.c.place, states.c.id)
    .limit(bindparam("limit"))
)
_WHOLE = select(*WHOLE).join_from(states, documents, states.c.id == documents.c.id)


def _now() -> datetime:
    return datetime.now(UTC)


class SqlBoard:
    """`domain.inventory.Board` in the database of an engine, safe to share between threads.

    Every method raises StoreError where the database cannot be used.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = _now) -> None:
        self._engine, self._clock = engine, clock
        self._last_kinds: tuple[int, tuple[Kind, ...]] = (-1, ())

    def generation(self) -> int:
        """Grows with every change of a row or of a backend's health."""
        with reading(self._engine) as connection:
            return int(connection.execute(_GENERATION).scalar_one())

    def page(self, query: Query) -> Page:
        """One page, read along an index from the cursor on. A cursor that is not one of this order gives
        the first page.

        Going back to where fewer rows than a page are left gives the first page whole; going on past the
        last gives the last.
        """
        limit = max(1, min(query.limit, PAGE_LIMIT))
        with reading(self._engine) as connection:
            return page_of(self._listing(connection, query), query.after, limit)

    def counts(self) -> Mapping[str, int]:
        """How many keys each of VIEWS holds."""
        found = dict.fromkeys(VIEWS, 0)
        for kind in self._kinds():
            for view in VIEWS:
                found[view] += kind.n * in_view(view, kind.rank, kind.content, kind.lock)
        return found

    def statuses(self) -> Mapping[str, int]:
        """How many keys have each content or lock status that occurs."""
        found: Counter[str] = Counter()
        for kind in self._kinds():
            for status in {kind.content, kind.lock}:
                found[status] += kind.n
        return dict(+found)

    def changed_since(self, generation: int, query: Query) -> int:
        """How many rows within the query changed after that generation, counted up to COUNT_LIMIT.

        A row that left the query by its change is not within it any more and does not count.
        """
        with reading(self._engine) as connection:
            changed = (
                Sieve.of(query, self._read_kinds(connection)).changed_since(generation).limit(COUNT_LIMIT)
            )
            return connection.execute(select(func.count()).select_from(changed.subquery())).scalar_one()

    def state(self, state_id: str) -> StateRow | None:
        """One row with its document, None where there is none with this id."""
        with reading(self._engine) as connection:
            row = connection.execute(_WHOLE.where(states.c.id == storable(state_id))).one_or_none()
            return None if row is None else to_state_row(row)

    def neighbours(self, state_id: str, query: Query) -> tuple[str, str]:
        """Ids before and after this row in the query's order, "" where there is none.

        A row that the query does not (any longer) hold has the neighbours it would have if it did.
        """
        with reading(self._engine) as connection:
            row = connection.execute(select(*LISTED).where(states.c.id == storable(state_id))).one_or_none()
            if row is None:
                return "", ""
            listing = self._listing(connection, query)
            position = listing.order.position(to_list_row(row))
            return listing.nearest(position, backward=True), listing.nearest(position, backward=False)

    def export(self, query: Query) -> Iterator[StateRow]:
        """Every match in order, a batch at a time; no transaction is open between batches.

        The matches are those of the first moment; a row deleted before its batch is left out, one changed
        comes as changed.
        """
        with reading(self._engine) as connection:
            ids = self._listing(connection, query).ids()
        for start in range(0, len(ids), _EXPORT_BATCH):
            batch = ids[start : start + _EXPORT_BATCH]
            with reading(self._engine) as connection:
                found = {row.id: row for row in connection.execute(_WHOLE.where(states.c.id.in_(batch)))}
            yield from (to_state_row(found[id_]) for id_ in batch if id_ in found)

    def held(self, limit: int) -> Sequence[ListRow]:
        """Locks with a known time, oldest first."""
        with reading(self._engine) as connection:
            return [to_list_row(row) for row in connection.execute(_HELD, {"limit": limit})]

    def locks_of(self, holder: str, but: str) -> int:
        """How many other keys this holder (as shown) holds; 0 for a holder without a name."""
        others = (
            select(func.count())
            .select_from(states)
            .where(held_by(storable(holder)), states.c.id != storable(but))
        )
        with reading(self._engine) as connection:
            return connection.execute(others).scalar_one()

    def find(
        self, *, ids: Sequence[str] = (), exact: str = "", fragment: str = "", limit: int = 20
    ) -> Sequence[ListRow]:
        """Rows with one of these ids, or with this exact key, holder, digest or lock ID; where there are
        none, rows in whose `search` every word of `fragment` occurs. Worst first.
        """
        wanted = {storable(id_) for id_ in ids}
        with reading(self._engine) as connection:
            if exact:
                wanted.update(connection.scalars(union_all(*_called(storable(exact)))))
            worst = select(*LISTED).order_by(states.c.rank, states.c.place, states.c.id).limit(limit)
            rows = [to_list_row(row) for row in connection.execute(worst.where(states.c.id.in_(wanted)))]
        if rows or not fragment.strip():
            return rows
        return self.page(Query(view="all", text=fragment, limit=limit)).rows

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        """When this key's verdict changed: (when, content, lock, holder), newest first, at most
        HISTORY_LIMIT of them.
        """
        lines = select(history.c.at, history.c.content, history.c.lock, history.c.holder).limit(limit)
        with reading(self._engine) as connection:
            found = connection.execute(
                lines.where(history.c.id == storable(state_id)).order_by(history.c.entry.desc())
            )
            return [
                (datetime.fromtimestamp(at, UTC), content, lock, holder)
                for at, content, lock, holder in found
            ]

    def reports(self) -> Sequence[BackendReport]:
        """The last report of each backend, by name."""
        with reading(self._engine) as connection:
            return [report_from_text(text) for text in connection.scalars(_REPORTS)]

    def put(self, row: StateRow) -> int:
        """Replace one row and return the generation, which is new if the row differs from the stored one."""
        with writing(self._engine) as (connection, generation):
            writer = Writer(connection, generation, self._clock())
            writer.put([row])
            return writer.close()

    def _listing(self, connection: Connection, query: Query) -> Listing:
        sieve = Sieve.of(query, self._read_kinds(connection))
        return Listing(connection, sieve, order_of(query.sort, descending=query.descending))

    def _kinds(self) -> Sequence[Kind]:
        with reading(self._engine) as connection:
            return self._read_kinds(connection)

    def _read_kinds(self, connection: Connection) -> Sequence[Kind]:
        """Read once per generation: nothing in the table changes without it."""
        generation = connection.execute(_GENERATION).scalar_one()
        last, found = self._last_kinds
        if generation != last:
            found = tuple(Kind(*row) for row in connection.execute(_KINDS))
            self._last_kinds = (generation, found)
        return found


def _called(exact: str) -> Iterator[Select[tuple[str]]]:
    """Ids of the rows with this exact key, holder, digest or lock ID."""
    yield select(states.c.id).where(states.c.place == exact[:PLACE_LENGTH], states.c.key == exact)
    yield select(states.c.id).where(held_by(exact))
    yield select(states.c.id).where(HAS_DIGEST, *same(states.c.digest, exact))
    yield select(lock_ids.c.id).where(*same(lock_ids.c.lock_id, exact))
