"""Which rows a query is about, as conditions that the indexes can serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, select

from lockboard.adapters.store.order import Lane, Order
from lockboard.adapters.store.rows import storable
from lockboard.adapters.store.schema import (
    FULL_TEXT,
    HAS_HOLDER,
    HEAD_LENGTH,
    PLACE_LENGTH,
    head,
    states,
)
from lockboard.adapters.store.schema import kinds as kinds_table
from lockboard.domain.inventory import COUNT_LIMIT, Query, in_view

WORD_LIMIT = 32
"""Words of a search that count; each costs a comparison per row, and SQLite refuses very deep expressions."""

_HIGHEST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_LIKE = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})

TRIGRAM_LIMIT = 40
"""Pieces of a search that the index is asked for; what it finds is compared as a whole anyway."""


class Kind(NamedTuple):
    """A row of `kinds`."""

    kind: int
    backend: str
    rank: int
    content: str
    lock: str
    n: int


class Reach(NamedTuple):
    """Keys that somebody may see: those of some backends that start with a prefix, as shown.

    kinds: of these backends; `n` says how many of the keys have each.
    """

    prefix: str
    kinds: tuple[Kind, ...]

    @property
    def home(self) -> str:
        """The backend, "" where there are several."""
        names = {kind.backend for kind in self.kinds}
        return names.pop() if len(names) == 1 else ""


@dataclass(frozen=True, slots=True)
class Sieve:
    """A query's filter, within what may be seen.

    kinds: those it lets through, None for all. ranks: of these. most: how many rows they hold within reach,
    which is all that match but for what `prefix` asks beyond it (`narrowed`), `holder`, `older_than` and
    `words`. among: how many they hold at all. whole_backend: they are all of one backend's. home: the one
    backend that may be seen. prefix, holder, older_than (seconds since 1970), words: the rest; "", None or ()
    where not asked for.
    """

    kinds: tuple[Kind, ...] | None
    ranks: tuple[int, ...]
    most: int
    among: int
    backend: str
    whole_backend: bool
    home: str
    prefix: str
    narrowed: bool
    holder: str
    older_than: float | None
    words: tuple[str, ...]

    @classmethod
    def of(cls, query: Query, kinds: Sequence[Kind], reach: Reach | None = None) -> Sieve:
        """The filter of a query, given all kinds there are; of all keys, or of those within reach."""
        asked, home = storable(query.prefix), reach.home if reach else ""
        least = reach.prefix if reach else ""
        meets = asked.startswith(least) or least.startswith(asked)
        near = reach.kinds if reach else kinds
        passed = tuple(kind for kind in near if meets and _passes(query, kind))
        backend = home or storable(query.backend)
        numbers = {kind.kind for kind in passed}
        return cls(
            kinds=None if len(passed) == len(kinds) else passed,
            ranks=tuple(sorted({kind.rank for kind in passed})),
            most=sum(kind.n for kind in passed),
            among=sum(kind.n for kind in kinds if kind.kind in numbers),
            backend=backend,
            whole_backend=bool(backend) and len(passed) == sum(kind.backend == backend for kind in kinds),
            home=home,
            prefix=max(asked, least, key=len),
            narrowed=len(asked) > len(least),
            holder=storable(query.holder),
            older_than=query.older_than.timestamp() if query.older_than else None,
            words=words_of(query.text),
        )

    @property
    def total(self) -> int | None:
        """How many rows match, where the counts alone say so."""
        asked = self.narrowed or self.holder or self.words or self.older_than is not None
        return None if asked and self.most else self.most

    @property
    def few(self) -> bool:
        """Whether the counts say that few rows match."""
        return self.few_kinds or (self.total is not None and bool(self.prefix) and self.most <= COUNT_LIMIT)

    @property
    def few_kinds(self) -> bool:
        """Whether the kinds alone leave few rows."""
        return self.kinds is not None and self.among <= COUNT_LIMIT

    def find(self, columns: Sequence[ColumnElement[Any]], dialect: str) -> Select[Any]:
        """The matches, by way of the condition that few rows meet."""
        trigrams = trigrams_of(self.words) if dialect == "sqlite" else ()
        if not trigrams or self.few_kinds or self.holder or self.older_than is not None:
            conditions = self._conditions(by_kind=self.few_kinds, by_prefix=not self.few_kinds)
            return select(*columns).where(*conditions)
        joined = FULL_TEXT.join(states, states.c.seq == FULL_TEXT.c.rowid)
        # Candidates by MATCH, then LIKE: the index also takes GLOB, but SQLite 3.40 crashes on some patterns.
        return select(*columns).select_from(joined).where(_matches(trigrams), *self._conditions())

    def candidates(self, dialect: str, limit: int) -> Select[Any] | None:
        """How many rows the index over the text takes for matches, counted up to `limit`; None where it is
        not asked, or another condition leaves few rows anyway.
        """
        trigrams = trigrams_of(self.words) if dialect == "sqlite" else ()
        if not trigrams or self.few_kinds or self.holder or self.older_than is not None:
            return None
        found = select(FULL_TEXT.c.rowid).where(_matches(trigrams)).limit(limit)
        return select(func.count()).select_from(found.subquery())

    def walk(self, columns: Sequence[ColumnElement[Any]], order: Order, lane: Lane) -> Select[Any]:
        """The matches of one lane, to be read along the index of its order."""
        by_backend = order.backends and bool(self.backend)
        by_rank = lane.columns[0] == "rank"
        # Each rank has its own stretch of keys with the prefix, so the index is entered once for each.
        by_prefix = bool(self.prefix) and (by_rank or lane.columns[0] == "place")
        conditions = self._conditions(by_prefix=by_prefix, kinds=not (by_backend and self.whole_backend))
        if by_backend:
            conditions.append(states.c.backend == self.backend)
        if by_rank and by_prefix:
            conditions.append(states.c.rank.in_(self.ranks))
        elif by_rank and self.kinds:
            conditions += [states.c.rank >= min(self.ranks), states.c.rank <= max(self.ranks)]
        return select(*columns).where(*conditions)

    def changed_since(self, generation: int) -> Select[Any]:
        """Ids of the matches that changed after it."""
        stamp = states.c.generation + literal_column("0") if self.few_kinds else states.c.generation
        return select(states.c.id).where(stamp > generation, *self._conditions(by_kind=self.few_kinds))

    def _conditions(
        self, *, by_kind: bool = False, by_prefix: bool = False, kinds: bool = True
    ) -> list[ColumnElement[bool]]:
        """`by_…`: the index on it may be used; else the column is hidden from a planner that guesses."""
        found: list[ColumnElement[bool]] = []
        if kinds and self.kinds is not None:
            kind = states.c.kind if by_kind else states.c.kind + literal_column("0")
            found.append(kind.in_([kind.kind for kind in self.kinds]))
        if self.prefix:
            found.append(_starts(self.prefix, by_index=by_prefix))
        if self.home and self.prefix and by_prefix:
            found.append(states.c.backend == self.home)
        if self.holder:
            found.append(held_by(self.holder))
        if self.older_than is not None:
            found.append(states.c.locked_since < self.older_than)
        return [*found, *map(contains, self.words)]


def within_reach(prefix: str, numbers: Sequence[int]) -> Select[Any]:
    """How many rows of each `kind` start with the prefix: `n`. Each counted along the index of its kind."""
    rows = select(func.count()).where(
        states.c.kind == kinds_table.c.kind,
        states.c.rank == kinds_table.c.rank,
        _starts(prefix, by_index=True),
    )
    counted = select(kinds_table.c.kind, rows.scalar_subquery().label("n"))
    return counted.where(kinds_table.c.kind.in_(numbers))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a search, lower-case, each once."""
    return tuple(dict.fromkeys(storable(text).lower().split()))[:WORD_LIMIT]


def contains(word: str) -> ColumnElement[bool]:
    """That `search` has this lower-case word somewhere."""
    return states.c.search.like(f"%{word.translate(_LIKE)}%", escape="\\")


def held_by(holder: str) -> ColumnElement[bool]:
    """That this holder, as shown, has the lock."""
    return and_(HAS_HOLDER, *same(states.c.holder, holder))


def same(text_column: ColumnElement[str], value: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """That a text whose head is indexed equals this value.

    Not by `column = value`: SQLite would put the value in the column's place everywhere, and lose sight of
    the index.
    """
    rest = func.substr(text_column, HEAD_LENGTH + 1)
    return head(text_column) == value[:HEAD_LENGTH], rest == value[HEAD_LENGTH:]


def after_prefix(prefix: str) -> str | None:
    """The least text that is greater than all that start with `prefix`; None where there is none."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code <= _HIGHEST:
            return prefix[: end - 1] + chr(_SURROGATES.stop if code in _SURROGATES else code)
    return None


def _starts(prefix: str, *, by_index: bool) -> ColumnElement[bool]:
    short = prefix[:PLACE_LENGTH]
    conditions: list[ColumnElement[bool]] = []
    if by_index:
        conditions.append(states.c.place >= short)
        if (end := after_prefix(short)) is not None:
            conditions.append(states.c.place < end)
    else:
        conditions.append(func.substr(states.c.place, 1, len(short)) == short)
    if len(prefix) > PLACE_LENGTH:
        conditions.append(func.substr(states.c.key, 1, len(prefix)) == prefix)
    return and_(*conditions)


def _passes(query: Query, kind: Kind) -> bool:
    return (
        in_view(query.view, kind.rank, kind.content, kind.lock)
        and query.backend in ("", kind.backend)
        and query.status in ("", kind.content, kind.lock)
    )


def trigrams_of(words: Sequence[str]) -> tuple[str, ...]:
    """Three-character pieces that cover the words, quoted for MATCH; none where every word is shorter.

    Every third is enough, and each one more costs as much again: what they find is compared as a whole.
    """
    pieces = (
        word[start : start + 3]
        for word in words
        for start in (*range(0, len(word) - 2, 3), *([len(word) - 3] if len(word) > 3 else []))
    )
    return tuple(
        '"' + piece.replace('"', '""') + '"' for piece in islice(dict.fromkeys(pieces), TRIGRAM_LIMIT)
    )


def _matches(trigrams: Sequence[str]) -> ColumnElement[bool]:
    return FULL_TEXT.c.states_search.op("MATCH")(" AND ".join(trigrams))
