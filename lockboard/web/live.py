"""What keeps the pages cheap: one read of the generation for all viewers, and pages kept as long as they are true."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from lockboard.domain.inventory import BackendReport, Board

HOLD_SECONDS = 0.5
"""How long a read of the generation serves everybody."""

BUCKET_SECONDS = 10
"""Ages on a page that is kept are at most this old; the script corrects them."""

_KEPT_PAGES = 128

PLACEHOLDER = f"nonce-{secrets.token_hex(16)}"
"""Stands for the nonce in a page while it is kept. Never sent, so nobody can forge it."""


class Snapshot(NamedTuple):
    """stamp: grows whenever the generation or a report differs from the last look."""

    stamp: int
    generation: int
    reports: Sequence[BackendReport]


class Watch:
    """The store's generation and reports, read at most every half second."""

    def __init__(self, board: Board, monotonic: Callable[[], float]) -> None:
        self._board, self._monotonic = board, monotonic
        self._held: tuple[float, Snapshot] | None = None

    def snapshot(self) -> Snapshot:
        """Raises StoreError."""
        held, tick = self._held, self._monotonic()
        if held is not None and tick - held[0] < HOLD_SECONDS:
            return held[1]
        fresh = Snapshot(0, self._board.generation(), tuple(self._board.reports()))
        if held is not None:
            same = fresh[1:] == held[1][1:]
            fresh = held[1] if same else fresh._replace(stamp=held[1].stamp + 1)
        self._held = (tick, fresh)
        return fresh

    def forget(self) -> None:
        """After a change of our own: the next look reads again."""
        if self._held is not None:
            self._held = (float("-inf"), self._held[1])


class KeptPage(NamedTuple):
    """A rendered page cut where the nonce goes, and the canonical URL of what it shows."""

    parts: Sequence[bytes]
    canonical: str

    def body(self, nonce: str) -> bytes:
        return nonce.encode("ascii").join(self.parts)


class Pages:
    """Rendered pages by what they were made of."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, KeptPage] = {}

    def get(self, key: Hashable) -> KeptPage | None:
        return self._kept.get(key)

    def keep(self, key: Hashable, html: str, canonical: str) -> KeptPage:
        page = KeptPage(html.encode("utf-8", "replace").split(PLACEHOLDER.encode("ascii")), canonical)
        if len(self._kept) >= _KEPT_PAGES:
            self._kept.clear()
        self._kept[key] = page
        return page
