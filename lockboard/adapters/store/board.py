"""The pages' side of the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, bindparam, func, select, union_all

from lockboard.adapters.store.engine import reading, writing
from lockboard.adapters.store.listing import Listing, Merged, listing_of, page_of
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
from lockboard.adapters.store.sieve import Kind, Reach, Sieve, held_by, same, within_reach
from lockboard.adapters.store.writer import Writer
from lockboard.domain.areas import EVERYTHING, Scope, common, in_scope, prefixes_of
from lockboard.domain.inventory import (
    COUNT_LIMIT,
    VIEWS,
    BackendReport,
    ListRow,
    Page,
    Query,
    StateRow,
    displayed,
    in_view,
)

PAGE_LIMIT = 1000
_EXPORT_BATCH = 200
_ALL_OF_THEM = 2**31 - 1
_SCOPES = 256
"""Scopes whose counts are kept: as many as people have different grants."""

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


class _Tally(NamedTuple):
    """All kinds there are at a generation."""

    generation: int
    kinds: tuple[Kind, ...]


class _Kept:
    """What a board and all that are narrowed from it have counted. reaches: the last of each scope."""

    def __init__(self) -> None:
        self.tally = _Tally(-1, ())
        self.reaches: dict[Scope, tuple[int, tuple[Reach, ...]]] = {}


class _Part(NamedTuple):
    """What makes a narrowed board. scope: prefixes as shown.  kept: of the board that it is a part of."""

    scope: Scope
    kept: _Kept


class SqlBoard:
    """`domain.inventory.Board` in the database of an engine, safe to share between threads.

    Every method raises StoreError where the database cannot be used.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], datetime] = _now, *, part: _Part | None = None
    ) -> None:
        self._engine, self._clock = engine, clock
        self._scope = part.scope if part else None
        self._kept = part.kept if part else _Kept()

    def within(self, scope: Scope) -> SqlBoard:
        """The same board with nothing on it but the keys of these areas.

        Keys are counted anew for each scope and generation, which the boards of one scope share.
        """
        if EVERYTHING in scope:
            return self
        wanted = displayed(scope)
        mine = wanted if self._scope is None else common(self._scope, wanted)
        return SqlBoard(self._engine, self._clock, part=_Part(mine, self._kept))

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
        found = 0
        with reading(self._engine) as connection:
            for sieve in self._sieves(connection, query):
                changed = sieve.changed_since(generation).limit(COUNT_LIMIT).subquery()
                found += connection.execute(select(func.count()).select_from(changed)).scalar_one()
        return min(found, COUNT_LIMIT)

    def state(self, state_id: str) -> StateRow | None:
        """One row with its document, None where there is none with this id."""
        with reading(self._engine) as connection:
            row = connection.execute(_WHOLE.where(states.c.id == storable(state_id))).one_or_none()
            return to_state_row(row) if row is not None and self._shows(row) else None

    def neighbours(self, state_id: str, query: Query) -> tuple[str, str]:
        """Ids before and after this row in the query's order, "" where there is none.

        A row that the query does not (any longer) hold has the neighbours it would have if it did.
        """
        with reading(self._engine) as connection:
            row = connection.execute(select(*LISTED).where(states.c.id == storable(state_id))).one_or_none()
            if row is None or not self._shows(row):
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
            read = limit if self._scope is None else _ALL_OF_THEM
            rows = filter(self._shows, connection.execute(_HELD, {"limit": read}))
            return [to_list_row(row) for row in islice(rows, limit)]

    def locks_of(self, holder: str, but: str) -> int:
        """How many other keys this holder (as shown) holds; 0 for a holder without a name."""
        others = (held_by(storable(holder)), states.c.id != storable(but))
        with reading(self._engine) as connection:
            if self._scope is None:
                return connection.execute(
                    select(func.count()).select_from(states).where(*others)
                ).scalar_one()
            found = connection.execute(select(states.c.backend, states.c.key).where(*others))
            return sum(map(self._shows, found))

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
            worst = select(*LISTED).order_by(states.c.rank, states.c.place, states.c.id)
            worst = worst.limit(limit if self._scope is None else None)
            found = filter(self._shows, connection.execute(worst.where(states.c.id.in_(wanted))))
            rows = [to_list_row(row) for row in islice(found, limit)]
        if rows or not fragment.strip():
            return rows
        return self.page(Query(view="all", text=fragment, limit=limit)).rows

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        """When this key's verdict changed: (when, content, lock, holder), newest first, at most
        HISTORY_LIMIT of them.
        """
        lines = select(history.c.at, history.c.content, history.c.lock, history.c.holder).limit(limit)
        key = select(states.c.backend, states.c.key).where(states.c.id == storable(state_id))
        with reading(self._engine) as connection:
            if self._scope is not None and not any(map(self._shows, connection.execute(key))):
                return []
            found = connection.execute(
                lines.where(history.c.id == storable(state_id)).order_by(history.c.entry.desc())
            )
            return [
                (datetime.fromtimestamp(at, UTC), content, lock, holder)
                for at, content, lock, holder in found
            ]

    def reports(self) -> Sequence[BackendReport]:
        """The last report of each backend, by name. To who sees only a part of one it says nothing by which
        the rest of it could be counted.
        """
        with reading(self._engine) as connection:
            found = [report_from_text(text) for text in connection.scalars(_REPORTS)]
            if self._scope is None:
                return found
            seen: Counter[str] = Counter()
            for kind in self._kinds_within(connection):
                seen[kind.backend] += kind.n
        return [
            report if prefixes == ("",) else _narrowed(report, seen[report.backend])
            for report in found
            if (prefixes := prefixes_of(self._scope, report.backend))
        ]

    def put(self, row: StateRow) -> int:
        """Replace one row and return the generation, which is new if the row differs from the stored one."""
        with writing(self._engine) as (connection, generation):
            writer = Writer(connection, generation, self._clock())
            writer.put([row])
            return writer.close()

    def _listing(self, connection: Connection, query: Query) -> Listing | Merged:
        order = order_of(query.sort, descending=query.descending)
        return listing_of(connection, self._sieves(connection, query), order)

    def _sieves(self, connection: Connection, query: Query) -> list[Sieve]:
        """One for each part of what may be seen, which no two share a key of."""
        tally = self._tally(connection)
        if self._scope is None:
            return [Sieve.of(query, tally.kinds)]
        reaches = self._reaches(connection, tally, self._scope)
        return [Sieve.of(query, tally.kinds, reach) for reach in reaches]

    def _kinds(self) -> Sequence[Kind]:
        with reading(self._engine) as connection:
            return self._kinds_within(connection)

    def _kinds_within(self, connection: Connection) -> Sequence[Kind]:
        tally = self._tally(connection)
        if self._scope is None:
            return tally.kinds
        return [kind for reach in self._reaches(connection, tally, self._scope) for kind in reach.kinds]

    def _tally(self, connection: Connection) -> _Tally:
        """Read once per generation: nothing in the table changes without it."""
        generation = connection.execute(_GENERATION).scalar_one()
        found = self._kept.tally
        if generation != found.generation:
            kinds_now = tuple(Kind(*row) for row in connection.execute(_KINDS))
            found = self._kept.tally = _Tally(generation, kinds_now)
        return found

    def _reaches(self, connection: Connection, tally: _Tally, scope: Scope) -> tuple[Reach, ...]:
        """Counted once per generation, too."""
        generation, found = self._kept.reaches.get(scope, (-1, ()))
        if generation != tally.generation:
            found = _reach(connection, tally.kinds, scope)
            if len(self._kept.reaches) >= _SCOPES:
                self._kept.reaches.clear()
            self._kept.reaches[scope] = (tally.generation, found)
        return found

    def _shows(self, row: Any) -> bool:
        """Whether a row with a backend and a key may be seen."""
        return self._scope is None or in_scope(self._scope, row.backend, row.key)


def _narrowed(report: BackendReport, states: int) -> BackendReport:
    """Without the requests, too: a listing takes one for each thousand keys."""
    return replace(
        report,
        states=states,
        foreign_items=0,
        requests={},
        sweep_requests=0,
        throttled=0,
        rows_written=0,
    )


def _reach(connection: Connection, all_kinds: Sequence[Kind], scope: Scope) -> tuple[Reach, ...]:
    """The keys of the scope by what they start with, and how many have each kind."""
    backends_of: defaultdict[str, set[str]] = defaultdict(set)
    for backend in {kind.backend for kind in all_kinds}:
        for prefix in prefixes_of(scope, backend):
            backends_of[prefix].add(backend)
    found = []
    for prefix, names in sorted(backends_of.items()):
        mine = tuple(kind for kind in all_kinds if kind.backend in names)
        if prefix:
            counted = connection.execute(within_reach(prefix, [kind.kind for kind in mine]))
            numbers = {row.kind: row.n for row in counted}
            mine = tuple(kind._replace(n=numbers[kind.kind]) for kind in mine)
        found.append(Reach(prefix, mine))
    return tuple(found)


def _called(exact: str) -> Iterator[Select[tuple[str]]]:
    """Ids of the rows with this exact key, holder, digest or lock ID."""
    yield select(states.c.id).where(states.c.place == exact[:PLACE_LENGTH], states.c.key == exact)
    yield select(states.c.id).where(held_by(exact))
    yield select(states.c.id).where(HAS_DIGEST, *same(states.c.digest, exact))
    yield select(lock_ids.c.id).where(*same(lock_ids.c.lock_id, exact))
