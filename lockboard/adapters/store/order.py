"""The orders of a list, and where a row stands in one.

An order is made of lanes that follow each other: rows that have the value it goes by, then those that have
not (they come last in both directions). Within a lane, rows go by the lane's columns, the last of which is
unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnCollection, ColumnElement, tuple_

from lockboard.adapters.store.schema import PLACE_LENGTH
from lockboard.domain.inventory import ListRow

Columns = ColumnCollection[str, Any]


@dataclass(frozen=True, slots=True)
class Lane:
    """columns: the order within it. by: the column that decides who belongs to it, None for all; `filled`
    or not.
    """

    columns: tuple[str, ...]
    by: str | None = None
    filled: bool = True
    falling: bool = False

    def holds(self, row: ListRow) -> bool:
        return self.by is None or (getattr(row, self.by) is not None) == self.filled

    def conditions(
        self, source: Columns, values: Sequence[Any] | None, *, backward: bool
    ) -> list[ColumnElement[bool]]:
        """Who belongs to it, and stands after (before) the row with these values."""
        found: list[ColumnElement[bool]] = []
        if self.by is not None:
            found.append(source[self.by].is_not(None) if self.filled else source[self.by].is_(None))
        if values is not None:
            columns = tuple_(*(source[name] for name in self.columns))
            found.append(columns < tuple_(*values) if self.falling != backward else columns > tuple_(*values))
        return found

    def ordering(self, source: Columns, *, backward: bool) -> list[ColumnElement[Any]]:
        """What to order by."""
        falls = self.falling != backward
        return [source[name].desc() if falls else source[name].asc() for name in self.columns]


class Position(NamedTuple):
    """Where a row stands: the number of its lane, and its values of the lane's columns."""

    lane: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One of SORTS in one direction. `backends`: indexes serve it within one backend as well."""

    name: str
    descending: bool
    lanes: tuple[Lane, ...]
    backends: bool

    def position(self, row: ListRow) -> Position:
        """Where a row stands."""
        number = next(number for number, lane in enumerate(self.lanes) if lane.holds(row))
        values = (
            row.key[:PLACE_LENGTH] if name == "place" else getattr(row, name)
            for name in self.lanes[number].columns
        )
        return Position(number, tuple(values))


_BY_KEY = ("place", "id")


def order_of(sort: str, *, descending: bool) -> Order:
    """The order of one of SORTS: worst first, oldest lock first, keys by code point, newest change first;
    or the reverse.
    """
    if sort == "severity":
        return Order(sort, descending, (Lane(("rank", *_BY_KEY), falling=descending),), backends=True)
    if sort == "key":
        return Order(sort, descending, (Lane(_BY_KEY, falling=descending),), backends=True)
    if sort == "locked":
        return Order(sort, descending, _with_blanks("locked_since", falling=descending), backends=False)
    if sort == "modified":
        return Order(sort, descending, _with_blanks("modified", falling=not descending), backends=False)
    raise ValueError(f"no such sort: {sort!r}")


def _with_blanks(column: str, *, falling: bool) -> tuple[Lane, Lane]:
    return Lane((column, *_BY_KEY), by=column, falling=falling), Lane(_BY_KEY, by=column, filled=False)
