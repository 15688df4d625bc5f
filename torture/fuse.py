"""Ports with a fuse: each passes everything on, and says what it has just passed to something that may
kill the process there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lockboard.domain.audit import Audit, Entry, Kind, Person, Record
from lockboard.domain.bodies import Body
from lockboard.domain.digests import Attribute
from lockboard.domain.locks import Lock
from lockboard.domain.model import History, StateObject, Unread
from lockboard.domain.ports import LockTable, States, TableItem
from lockboard.domain.writes import Hands, OpenHands, Receipt, Restorable, StateWrites, TableWrites
from torture.points import Spot, Where


class Fuse:
    """Kills this process, as the system would, when the spot that it was armed with is reached."""

    def __init__(self) -> None:
        self._spot: Spot | None = None
        self._passed = 0
        self._acting = False

    def arm(self, spot: Spot) -> None:
        """From now on count what is passed."""
        self._spot, self._passed, self._acting = spot, 0, False

    def reach(self, where: Where) -> None:
        """Something is passed. Reads count from the intent on."""
        if self._spot is None or where is not self._spot.where:
            return
        if where is Where.READ and not self._acting:
            return
        if self._passed == self._spot.passed:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def begun(self) -> None:
        """The intent is recorded."""
        self._acting = True


class FusedAudit:
    """The log; dies before or after a record."""

    def __init__(self, inner: Audit, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def of_action(self, action_id: str) -> Sequence[Record]:
        """See `Audit.of_action`. It is asked before the fresh read, and again right after it."""
        found = self._inner.of_action(action_id)
        self._fuse.reach(Where.LOOKED)
        return found

    def append(self, entry: Entry) -> Record:
        """See `Audit.append`."""
        spots = {
            Kind.INTENT: (Where.INTENT_NEXT, Where.INTENT),
            Kind.OUTCOME: (Where.OUTCOME_NEXT, Where.OUTCOME),
        }.get(entry.kind)
        if spots is None:
            return self._inner.append(entry)
        self._fuse.reach(spots[0])
        record = self._inner.append(entry)
        if entry.kind is Kind.INTENT:
            self._fuse.begun()
        self._fuse.reach(spots[1])
        return record


class FusedStates:
    """The bucket's reader; dies after a read."""

    def __init__(self, inner: States, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_state(self, key: str, version_id: str | None = None) -> StateObject | None | Unread:
        found = self._inner.read_state(key, version_id)
        self._fuse.reach(Where.READ)
        return found

    def read_body(self, key: str, version_id: str) -> Body | Unread:
        return self._inner.read_body(key, version_id)

    def read_lockfile(self, key: str, version_id: str | None = None) -> Lock | None | Unread:
        return self._inner.read_lockfile(key, version_id)

    def history(self, key: str) -> History | Unread:
        return self._inner.history(key)

    def versioning(self) -> str:
        return self._inner.versioning()

    def clock_skew(self) -> timedelta | None:
        """Zero: the emulator has this machine's clock, but its Date header whole seconds only, so that a
        second look could seem to come before the first.
        """
        return timedelta()


class FusedTable:
    """The table's reader; dies after a read."""

    def __init__(self, inner: LockTable, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def item(self, lock_id: str) -> TableItem | None | Unread:
        found = self._inner.item(lock_id)
        self._fuse.reach(Where.READ)
        return found


@dataclass(frozen=True)
class FusedHands:
    """Opens writers that die before or after a write."""

    inner: OpenHands
    fuse: Fuse

    def __call__(self, backend: str, key: str, person: Person, action_id: str) -> Hands:
        """See `OpenHands`."""
        hands = self.inner(backend, key, person, action_id)
        table = FusedTableWrites(hands.table, self.fuse) if hands.table else None
        return Hands(FusedStateWrites(hands.states, self.fuse), table)


@dataclass(frozen=True)
class FusedStateWrites:
    """`StateWrites` with a fuse."""

    inner: StateWrites
    fuse: Fuse

    def refuses_wrong_conditions(self) -> str:
        return self.inner.refuses_wrong_conditions()

    def take_lockfile(self, key: str, text: str, over: str | None = None) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.take_lockfile(key, text, over))

    def release_lockfile(self, key: str, etag: str) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.release_lockfile(key, etag))

    def read_version(self, key: str, version_id: str) -> Restorable | Unread:
        found = self.inner.read_version(key, version_id)
        self.fuse.reach(Where.READ)
        return found

    def put_state(self, key: str, version: Restorable, over: str | None) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.put_state(key, version, over))

    def _told(self, receipt: Receipt) -> Receipt:
        self.fuse.reach(Where.WRITE)
        return receipt


@dataclass(frozen=True)
class FusedTableWrites:
    """`TableWrites` with a fuse."""

    inner: TableWrites
    fuse: Fuse

    def take_lock(self, lock_id: str, info: str, token: str) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.take_lock(lock_id, info, token))

    def replace_lock(self, lock_id: str, old: Attribute | None, info: str, token: str) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.replace_lock(lock_id, old, info, token))

    def release_lock(self, lock_id: str, old: Attribute | None, token: str) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        return self._told(self.inner.release_lock(lock_id, old, token))

    def change_digest(
        self,
        digest_id: str,
        *,
        absent: bool,
        old: Attribute | None,
        new: str | None,
        lock_id: str,
        info: str,
        token: str,
    ) -> Receipt:
        self.fuse.reach(Where.WRITE_NEXT)
        receipt = self.inner.change_digest(
            digest_id, absent=absent, old=old, new=new, lock_id=lock_id, info=info, token=token
        )
        return self._told(receipt)

    def _told(self, receipt: Receipt) -> Receipt:
        self.fuse.reach(Where.WRITE)
        return receipt
