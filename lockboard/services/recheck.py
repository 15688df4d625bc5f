"""Looking at one key again because somebody asked: consistent reads, its versions with their serials, and the
row put anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from lockboard.domain.errors import ReadError
from lockboard.domain.inventory import Board, StateRow
from lockboard.domain.model import Backend, Unread
from lockboard.domain.ports import Clock, LockTable, States
from lockboard.services import memo as memos
from lockboard.services.investigate import Investigator
from lockboard.services.rows import judge

VERSIONS_READ = 12
"""Newest versions whose bytes are read for their serial and lineage."""


class Rechecker:
    """Re-checks on demand; `ports` opens the clients of a backend when they are first needed."""

    def __init__(
        self, board: Board, backends: Mapping[str, tuple[Backend, States, LockTable | None]], clock: Clock
    ) -> None:
        self._board, self._backends, self._clock = board, backends, clock

    def __call__(self, backend_name: str, state_id: str) -> StateRow:
        """The fresh row, already stored.

        Raises:
            ReadError: nothing could be read, or the key or its backend is no longer known.
        """
        row = self._board.state(state_id)
        if row is None or backend_name not in self._backends or row.backend != backend_name:
            raise ReadError("lockboard:Recheck", "NotFound", "this state is no longer in the inventory")
        backend, states, table = self._backends[backend_name]
        key = str(row.document["raw_key"])
        now = self._clock() - (states.clock_skew() or timedelta())
        seen, memo = Investigator(backend, states, table).fresh(
            key, memos.load(row.memo), now, versions=VERSIONS_READ
        )
        if isinstance(seen.state, Unread) and not seen.state.denied:
            raise ReadError("s3:GetObject", seen.state.code or "Unread", seen.state.reason)
        # Read after the last listing, so it vouches for none: a refresh that loads the row judges anew.
        fresh, _ = judge(seen, memo, backend, now, "", rechecked=True)
        self._board.put(fresh)
        return fresh
