"""The lock-age strip: every held lock on one logarithmic axis, so that a dead fleet stands out as a heap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence, Set
from datetime import timedelta
from typing import NamedTuple

from markupsafe import Markup

from lockboard.domain.inventory import ListRow
from lockboard.domain.text import spoken_span
from lockboard.web.marks import lock_mark, tone_of
from lockboard.web.rows import escaped, operation_words
from lockboard.web.times import Times, age_words

_FROM, _TO = 60, 30 * 86400
_LENGTH = math.log(_TO / _FROM)
_COLUMNS = 42
_HEIGHT = 4
_STEP = 17
_GROUND = 74
SHOWN = 200
_AXIS = (
    (60, "1 min"),
    (600, "10 min"),
    (3600, "1 h"),
    (6 * 3600, "6 h"),
    (86400, "1 d"),
    (7 * 86400, "7 d"),
    (_TO, "30 d"),
)


class Scale(NamedTuple):
    """Words at a place of the axis."""

    x: str
    text: str
    anchor: str


class Limit(NamedTuple):
    """Where suspicion begins. rest: how much of the axis lies beyond, in per cent."""

    x: str
    rest: str
    text: str


class Strip(NamedTuple):
    """ticks: one padlock for each lock.  heaps: how many are not drawn above each full column.  only: how
    many locks these are, where there are more; else 0.
    """

    ticks: Markup
    heaps: Sequence[Scale]
    scale: Sequence[Scale]
    limit: Limit | None
    oldest: str
    only: int


def strip(
    held: Sequence[ListRow], times: Times, limit_of: Callable[[ListRow], timedelta | None], icons: str
) -> Strip:
    """Lay out the locks of `held`, oldest first. `limit_of`: a stale limit.  `icons`: the sprite's URL."""
    now = times.now.timestamp()
    columns: Counter[int] = Counter()
    ticks = []
    for row in held[:SHOWN]:
        age = max(0.0, now - (row.locked_since or now))
        column = round(position(age) * _COLUMNS)
        level = columns[column]
        columns[column] += 1
        if level < _HEIGHT:
            ticks.append(_tick(row, column, level, age_words(age), icons))
    limits = {limit for limit in map(limit_of, held[:SHOWN]) if limit is not None}
    return Strip(
        ticks=Markup("".join(ticks)),  # noqa: S704 - escaped piece by piece
        heaps=[
            Scale(_per_cent(c / _COLUMNS), f"+{n - _HEIGHT}", "middle")
            for c, n in sorted(columns.items())
            if n > _HEIGHT
        ],
        scale=[Scale(_per_cent(position(seconds)), text, _anchor(seconds)) for seconds, text in _AXIS],
        limit=_limit(limits) if limits else None,
        oldest=age_words(now - (held[0].locked_since or now)) if held else "",
        only=SHOWN if len(held) > SHOWN else 0,
    )


def position(age: float) -> float:
    """0 for a minute and less, 1 for thirty days and more."""
    return min(1.0, math.log(age / _FROM) / _LENGTH) if age > _FROM else 0.0


def _tick(row: ListRow, column: int, level: int, age: str, icons: str) -> str:
    """A padlock that is a link, left out of the tab order: the keyboard reaches the same keys in the list."""
    who = f", {row.holder}" if row.holder else ""
    work = f", {operation_words(row.operation)}" if row.operation else ""
    return (
        f'<a class="tone-{tone_of(row.rank)}" href="/s/{escaped(row.id)}" tabindex="-1">'
        f"<title>{escaped(f'{row.key}: held for {age}{work}{who}')}</title>"
        f'<svg x="{_per_cent(column / _COLUMNS)}" y="{_GROUND - _STEP * (level + 1)}" width="20" height="20"'
        ' overflow="visible">'
        '<rect x="-10" width="20" height="20" opacity="0"/>'
        f'<use x="-10" width="20" height="20" href="{icons}#{lock_mark(row.lock).icon}"/></svg></a>'
    )


def _limit(limits: Set[timedelta]) -> Limit:
    """From the smallest limit on; keys may have different ones."""
    least, most = min(limits), max(limits)
    x = position(least.total_seconds())
    words = f"stale limit {spoken_span(least)}" + (f" to {spoken_span(most)}" if most > least else "")
    return Limit(_per_cent(x), _per_cent(1 - x), words)


def _per_cent(share: float) -> str:
    return f"{share * 100:.2f}%"


def _anchor(seconds: int) -> str:
    return "start" if seconds == _FROM else "end" if seconds == _TO else "middle"
