"""The rows a query is about, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


class Listing:
    """A query's rows in order, read as far as is asked for.

    Where they are few they are found first and then put in order; where they are many the index of the
    order is walked, and it meets enough of them soon.

    order: how its rows stand. total: how many they are, counted up to COUNT_LIMIT if `capped`.
    """

    def __init__(self, connection: Connection, sieve: Sieve, order: Order) -> None:
        self.order = order
        self._connection, self._sieve = connection, sieve
        found = self._count() if sieve.total is None else sieve.total
        self.capped = sieve.total is None and found > COUNT_LIMIT
        self.total = COUNT_LIMIT if self.capped else found
        self._few = sieve.few_kinds or (sieve.total is None and not self.capped) or self._sorts_soon()

    def take(self, position: Position | None, limit: int, *, backward: bool) -> list[ListRow]:
        """Up to `limit` rows after (before) the position, or from the start (the end), in the listing's
        order.
        """
        found = [to_list_row(row) for row in self._read(LISTED, position, limit, backward=backward)]
        return found[::-1] if backward else found

    def nearest(self, position: Position, *, backward: bool) -> str:
        """The id of the row right after (before) the position, "" where there is none."""
        found = self._read((states.c.id,), position, 1, backward=backward)
        return str(found[0].id) if found else ""

    def ids(self) -> list[str]:
        """All of them in order."""
        return [row.id for row in self._read((states.c.id,), None, None, backward=False)]

    def _count(self) -> int:
        found = self._sieve.find((states.c.seq,), self._connection.dialect.name).limit(COUNT_LIMIT + 1)
        return self._connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()

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
        self,
        columns: Sequence[ColumnElement[Any]],
        start: Position | None,
        limit: int | None,
        *,
        backward: bool,
    ) -> list[Row[Any]]:
        found: list[Row[Any]] = []
        lanes = list(enumerate(self.order.lanes)) if self.total else []
        for number, lane in reversed(lanes) if backward else lanes:
            if start and (number > start.lane if backward else number < start.lane):
                continue
            values = start.values if start and number == start.lane else None
            query = self._lane(
                columns, lane, values, None if limit is None else limit - len(found), backward=backward
            )
            found += self._connection.execute(query).all()
            if len(found) == limit:
                break
        return found

    def _lane(
        self,
        columns: Sequence[ColumnElement[Any]],
        lane: Lane,
        values: Sequence[Any] | None,
        limit: int | None,
        *,
        backward: bool,
    ) -> Select[Any]:
        if self._few:
            return self._found(columns, lane, values, limit, backward=backward)
        query = self._sieve.walk(columns, self.order, lane).limit(limit)
        conditions = lane.conditions(states.c, values, backward=backward)
        return query.where(*conditions).order_by(*lane.ordering(states.c, backward=backward))

    def _found(
        self,
        columns: Sequence[ColumnElement[Any]],
        lane: Lane,
        values: Sequence[Any] | None,
        limit: int | None,
        *,
        backward: bool,
    ) -> Select[Any]:
        dialect = self._connection.dialect.name
        source: Columns = states.c
        page = self._sieve.find((states.c.seq,), dialect)
        if dialect == "postgresql":
            # OFFSET 0 keeps its planner from walking the index of the order all the same, past what differs.
            needed = [states.c[name] for name in ("seq", *self.order.lanes[0].columns)]
            source = self._sieve.find(needed, dialect).offset(0).subquery().c
            page = select(source.seq)
        page = page.where(*lane.conditions(source, values, backward=backward)).limit(limit)
        page = page.order_by(*lane.ordering(source, backward=backward))
        # Only the rows of the page are read whole: what is needed to find and order them is in the indexes.
        chosen = select(*columns).where(states.c.seq.in_(page))
        return chosen.order_by(*lane.ordering(states.c, backward=backward))


def page_of(listing: Listing, after: str, limit: int) -> Page:
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


def _page(listing: Listing, rows: Sequence[ListRow], *, before: bool, beyond: bool) -> Page:
    order = listing.order
    return Page(
        rows=rows,
        next=cursors.encode(order, Cursor(order.position(rows[-1]), backward=False)) if beyond else "",
        previous=cursors.encode(order, Cursor(order.position(rows[0]), backward=True)) if before else "",
        total=listing.total,
        capped=listing.capped,
    )


def _has(listing: Listing, edge: ListRow, *, backward: bool) -> bool:
    return bool(listing.nearest(listing.order.position(edge), backward=backward))
