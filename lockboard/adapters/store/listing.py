"""The rows a query is about, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from lockboard.adapters.store import cursor as cursors
from lockboard.adapters.store.cursor import Cursor
from lockboard.adapters.store.order import Columns, Lane, Order, Position
from lockboard.adapters.store.rows import LISTED, to_list_row
from lockboard.adapters.store.schema import states
from lockboard.adapters.store.sieve import Sieve
from lockboard.domain.inventory import COUNT_LIMIT, ListRow, Page

SORTED_AT_ONCE = 20_000
"""Rows that a search may find and still put in order by itself; of more, the index of the order meets some
soon.
"""

PICKED = 200
"""Rows that a search may find and still be named one by one after it, so as not to search twice."""

STATEMENTS = 512
"""Statements that are kept: building one takes longer than running it, and most lists are asked for again."""


class Listing:
    """A query's rows in order, read as far as is asked for.

    Where they are few they are found first and then put in order; where they are many the index of the
    order is walked, and it meets enough of them soon.

    order: how its rows stand. total: how many they are, counted up to COUNT_LIMIT if `capped`.
    """

    def __init__(self, connection: Connection, sieve: Sieve, order: Order) -> None:
        self.order = order
        self._connection, self._sieve = connection, sieve
        self._picked: tuple[int, ...] | None = None
        found = self._count() if sieve.total is None else sieve.total
        self.capped = sieve.total is None and found > COUNT_LIMIT
        self.total = COUNT_LIMIT if self.capped else found
        self._few = sieve.few or (sieve.total is None and not self.capped) or self._sorts_soon()

    def take(self, position: Position | None, limit: int | None, *, backward: bool) -> list[ListRow]:
        """Up to `limit` rows after (before) the position, or from the start (the end), in the listing's
        order; all of them where it is None.
        """
        found = [to_list_row(row) for row in self._read(position, limit, backward=backward)]
        return found[::-1] if backward else found

    def nearest(self, position: Position, *, backward: bool) -> str:
        """The id of the row right after (before) the position, "" where there is none."""
        found = self._read(position, 1, backward=backward, whole=False)
        return str(found[0].id) if found else ""

    def ids(self) -> list[str]:
        """All of them in order."""
        return [row.id for row in self._read(None, None, backward=False, whole=False)]

    def _count(self) -> int:
        dialect = self._connection.dialect.name
        if not self._sieve.words:
            return int(self._connection.execute(_counting(self._sieve, dialect)).scalar_one())
        found = tuple(self._connection.scalars(_finding(self._sieve, dialect)))
        if len(found) <= PICKED:
            self._picked = found
        return len(found)

    def _sorts_soon(self) -> bool:
        """Whether a search finds more rows than are counted, but few enough to put them in order: walking
        the index of the order could meet the first of them late.
        """
        dialect = self._connection.dialect.name
        candidates = self._sieve.candidates(dialect, SORTED_AT_ONCE + 1) if self.capped else None
        if candidates is None:
            return False
        return bool(self._connection.execute(candidates).scalar_one() <= SORTED_AT_ONCE)

    def _read(
        self, start: Position | None, limit: int | None, *, backward: bool, whole: bool = True
    ) -> list[Row[Any]]:
        found: list[Row[Any]] = []
        dialect = self._connection.dialect.name
        stretch = _Stretch(self.order, backward, whole, self._few, self._picked, dialect)
        lanes = list(enumerate(self.order.lanes)) if self.total else []
        for number, lane in reversed(lanes) if backward else lanes:
            if start and (number > start.lane if backward else number < start.lane):
                continue
            values = start.values if start and number == start.lane else None
            left = None if limit is None else limit - len(found)
            found += self._connection.execute(_statement(self._sieve, stretch, lane, values, left)).all()
            if len(found) == limit:
                break
        return found


class Merged:
    """Several listings that share an order and no row, read as one."""

    def __init__(self, parts: Sequence[Listing], order: Order) -> None:
        self.order, self._parts = order, parts
        self.capped = any(part.capped for part in parts)
        self.total = COUNT_LIMIT if self.capped else sum(part.total for part in parts)

    def take(self, position: Position | None, limit: int | None, *, backward: bool) -> list[ListRow]:
        """As `Listing.take`."""
        rows = [row for part in self._parts for row in part.take(position, limit, backward=backward)]
        placed = [(self.order.position(row), row) for row in rows]
        found: list[ListRow] = []
        for number, lane in enumerate(self.order.lanes):
            mine = [(place.values, row) for place, row in placed if place.lane == number]
            found += [row for _, row in sorted(mine, key=itemgetter(0), reverse=lane.falling)]
        if limit is None:
            return found
        return found[max(0, len(found) - limit) :] if backward else found[:limit]

    def nearest(self, position: Position, *, backward: bool) -> str:
        """As `Listing.nearest`."""
        found = self.take(position, 1, backward=backward)
        return found[0].id if found else ""

    def ids(self) -> list[str]:
        """As `Listing.ids`."""
        return [row.id for row in self.take(None, None, backward=False)]


def listing_of(connection: Connection, sieves: Sequence[Sieve], order: Order) -> Listing | Merged:
    """What the sieves let through; none of them may let through what another does."""
    if len(sieves) > 1:
        sieves = [sieve for sieve in sieves if sieve.most]
    parts = [Listing(connection, sieve, order) for sieve in sieves]
    return parts[0] if len(parts) == 1 else Merged(parts, order)


class _Stretch(NamedTuple):
    """How a listing is read. whole: the columns of a list, not the id alone. few: found first, then put in
    order. picked: the `seq` of all that a search found.
    """

    order: Order
    backward: bool
    whole: bool
    few: bool
    picked: tuple[int, ...] | None
    dialect: str


@lru_cache(STATEMENTS)
def _finding(sieve: Sieve, dialect: str) -> Select[Any]:
    return sieve.find((states.c.seq,), dialect).limit(COUNT_LIMIT + 1)


@lru_cache(STATEMENTS)
def _counting(sieve: Sieve, dialect: str) -> Select[Any]:
    return select(func.count()).select_from(_finding(sieve, dialect).subquery())


@lru_cache(STATEMENTS)
def _statement(
    sieve: Sieve, stretch: _Stretch, lane: Lane, values: tuple[Any, ...] | None, limit: int | None
) -> Select[Any]:
    """One lane's rows after (before) the row with these values."""
    columns = LISTED if stretch.whole else (states.c.id,)
    if stretch.few:
        return _found(columns, sieve, stretch, lane, values, limit)
    query = sieve.walk(columns, stretch.order, lane).limit(limit)
    conditions = lane.conditions(states.c, values, backward=stretch.backward)
    return query.where(*conditions).order_by(*lane.ordering(states.c, backward=stretch.backward))


def _found(
    columns: Sequence[ColumnElement[Any]],
    sieve: Sieve,
    stretch: _Stretch,
    lane: Lane,
    values: Sequence[Any] | None,
    limit: int | None,
) -> Select[Any]:
    backward, dialect = stretch.backward, stretch.dialect
    source: Columns = states.c
    page = sieve.find((states.c.seq,), dialect)
    if stretch.picked is not None:
        page = select(states.c.seq).where(states.c.seq.in_(stretch.picked))
    elif dialect == "postgresql":
        # OFFSET 0 keeps its planner from walking the index of the order all the same, past what differs.
        needed = [states.c[name] for name in ("seq", *stretch.order.lanes[0].columns)]
        source = sieve.find(needed, dialect).offset(0).subquery().c
        page = select(source.seq)
    page = page.where(*lane.conditions(source, values, backward=backward)).limit(limit)
    page = page.order_by(*lane.ordering(source, backward=backward))
    # Only the rows of the page are read whole: what is needed to find and order them is in the indexes.
    chosen = select(*columns).where(states.c.seq.in_(page))
    return chosen.order_by(*lane.ordering(states.c, backward=backward))


def page_of(listing: Listing | Merged, after: str, limit: int) -> Page:
    """The page that the cursor `after` stands for, the first one where it is none of this order."""
    start = cursors.decode(listing.order, after)
    if start and start.backward:
        rows = listing.take(start.position, limit + 1, backward=True)
        if len(rows) > limit:
            return _page(listing, rows[1:], before=True, beyond=_has(listing, rows[-1], backward=False))
        start = None
    if start is None:
        rows = listing.take(None, limit + 1, backward=False)
        return _page(listing, rows[:limit], before=False, beyond=len(rows) > limit)
    rows = listing.take(start.position, limit + 1, backward=False)
    beyond = len(rows) > limit
    rows = rows[:limit] or listing.take(None, limit, backward=True)
    return _page(listing, rows, before=bool(rows) and _has(listing, rows[0], backward=True), beyond=beyond)


def _page(listing: Listing | Merged, rows: Sequence[ListRow], *, before: bool, beyond: bool) -> Page:
    order = listing.order
    return Page(
        rows=rows,
        next=cursors.encode(order, Cursor(order.position(rows[-1]), backward=False)) if beyond else "",
        previous=cursors.encode(order, Cursor(order.position(rows[0]), backward=True)) if before else "",
        total=listing.total,
        capped=listing.capped,
    )


def _has(listing: Listing | Merged, edge: ListRow, *, backward: bool) -> bool:
    return bool(listing.nearest(listing.order.position(edge), backward=backward))
