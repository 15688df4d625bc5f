"""What keeps pages cheap: one read of the generation for all, and pages kept as long as they are true."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from lockboard.domain.inventory import BackendReport, Board
from lockboard.domain.text import utc

HOLD_SECONDS = 0.5
"""How long a read of the generation serves everybody."""

BUCKET_SECONDS = 10
"""Ages on a page that is kept are at most this old; the script corrects them."""

KEPT = 128
"""Pages, and lists whose controls are made, that are kept at the same time."""

PATIENCE_SECONDS = 0.25
"""How long one waits for another to have made a page: many times what that takes, unless the store hangs."""

_MARK = f"mark-{secrets.token_hex(16)}-"
"""What every placeholder begins with, so that a page is searched for one text. Never sent, so nobody can
forge it.
"""
PLACEHOLDER = f"{_MARK}n"
"""Stands for the nonce in a page while it is kept."""
WHO, CSRF = f"{_MARK}w", f"{_MARK}c"
"""Stand for the visitor's name and for the token of their forms: kept pages are shared by those who may see
the same.
"""
_MARKS = re.compile(f"({_MARK}[nwc])")


class Snapshot(NamedTuple):
    """What the store said last.

    stamp: grows whenever the generation or a report differs from the look before.  data_at: the moment to
    which the data is known to be true, that of the backend furthest behind among those read well (among all,
    where none was); None where nothing was ever read.  headers: what tells a page of both.
    """

    stamp: int
    generation: int
    reports: Sequence[BackendReport]
    data_at: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def of(self, backend: str) -> Snapshot:
        """What was said of one backend: what a page about one of its keys tells, whatever the others are."""
        reports = [report for report in self.reports if report.backend == backend]
        return _snapshot(self.stamp, self.generation, reports)


class Watch:
    """The store's generation and reports, read at most every half second."""

    def __init__(self, board: Board, backends: Collection[str], monotonic: Callable[[], float]) -> None:
        self._board, self._backends, self._monotonic = board, backends, monotonic
        self._held: tuple[float, Snapshot] | None = None

    def snapshot(self) -> Snapshot:
        """Raises StoreError."""
        held, tick = self._held, self._monotonic()
        if held is not None and tick - held[0] < HOLD_SECONDS:
            return held[1]
        generation, reports = self._board.generation(), self._mine(self._board.reports())
        if held is None or (generation, reports) != (held[1].generation, held[1].reports):
            fresh = _snapshot(held[1].stamp + 1 if held else 0, generation, reports)
        else:
            fresh = held[1]
        self._held = (tick, fresh)
        return fresh

    def _mine(self, reports: Sequence[BackendReport]) -> Sequence[BackendReport]:
        """Without those of backends that are no longer configured."""
        return [report for report in reports if report.backend in self._backends]

    def forget(self) -> None:
        """After a change of our own: the next look reads again."""
        if self._held is not None:
            self._held = (float("-inf"), self._held[1])


def _snapshot(stamp: int, generation: int, reports: Sequence[BackendReport]) -> Snapshot:
    well = [report.data_at for report in reports if report.data_at and report.complete and not report.error]
    data_at = min(well or [report.data_at for report in reports if report.data_at], default=None)
    headers = (
        ("Lockboard-Generation", str(generation)),
        ("Lockboard-Data-At", utc(data_at) if data_at else ""),
    )
    return Snapshot(stamp, generation, reports, data_at, headers)


class KeptPage(NamedTuple):
    """A rendered page cut where something goes that is not the same for everybody, and the canonical URL of
    what it shows. marks: what goes between the parts, one fewer than these.
    """

    parts: Sequence[bytes]
    marks: Sequence[str]
    canonical: str

    def body(self, nonce: str, own: Mapping[str, str]) -> bytes:
        """own: what stands in for the placeholders that are the visitor's."""
        fill = {mark: text.encode("utf-8", "replace") for mark, text in own.items()}
        fill[PLACEHOLDER] = nonce.encode("ascii")
        pieces = [self.parts[0]]
        for mark, part in zip(self.marks, self.parts[1:], strict=True):
            pieces += (fill.get(mark, b""), part)
        return b"".join(pieces)


class Pages:
    """Rendered pages by what they were made of. patience: see PATIENCE_SECONDS."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._kept: dict[Hashable, KeptPage] = {}
        self._making, self._patience = threading.Lock(), patience

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A page is made inside of it, unless it is kept by then: after a change everybody asks for the same
        one, and of two that one interpreter makes side by side both take longer than one after the other.
        """
        mine = self._making.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if mine:
                self._making.release()

    def get(self, key: Hashable) -> KeptPage | None:
        return self._kept.get(key)

    def keep(self, key: Hashable, html: str, canonical: str) -> KeptPage:
        # Encoded piece by piece: all but the first is plain ASCII on most lists, which is far quicker.
        pieces = _MARKS.split(html)
        parts = [part.encode("utf-8", "replace") for part in pieces[::2]]
        page = KeptPage(parts, pieces[1::2], canonical)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[key] = page
        return page
