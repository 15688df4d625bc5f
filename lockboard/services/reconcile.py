"""Settling what a dead process left: every intent without an outcome is answered by reading what is true now,
and a lock that Lockboard left behind is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lockboard.domain.audit import (
    LOCKBOARD,
    AlreadyRecorded,
    Audit,
    Entry,
    Kind,
    Record,
    Result,
)
from lockboard.domain.errors import LockboardError, ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import Lock, LockStore, exact_record
from lockboard.domain.model import StateObject, Unread
from lockboard.domain.ports import TableItem
from lockboard.domain.writes import Hands, OpenHands, Receipt, Sent, leaves_within
from lockboard.services.actions import Actions, Place
from lockboard.services.perform import ACTION_WITHIN, not_put_back, step_facts, step_token

DEAD_AFTER = ACTION_WITHIN + 15.0
"""Seconds after which an open intent belongs to nobody who is still at work: an action begins no change after
ACTION_WITHIN, and its last request takes less than the rest, but for the time in which a version leaves.
"""
EVERY_SECONDS = 10.0
HEARTBEAT_SECONDS = 3600.0

Facts = Mapping[str, Any]


class _NotReadable(Exception):
    """What is true now cannot be read at the moment."""


class _Truth(NamedTuple):
    """What stands now."""

    state: StateObject | None
    file: Lock | None
    item: TableItem | None
    digest: TableItem | None


@dataclass(frozen=True)
class Reconciler:
    """Answers the open intents of dead processes. Called by every replica: whoever records the outcome first
    has done it, and every write is conditional.

    monotonic: seconds that only go forward. How long an intent has been open is counted from when this
    process saw it first: what another wrote about the time is by another clock.
    """

    audit: Audit
    places: Mapping[str, Place]
    open_hands: OpenHands
    actions: Actions
    monotonic: Callable[[], float]
    _first_seen: dict[str, float] = field(default_factory=dict, init=False)

    def __call__(self) -> int:
        """Settle what can be settled and return how many intents were.

        Raises AuditError where the log fails.
        """
        settled, waiting = 0, False
        intents, now = self.audit.open_intents(), self.monotonic()
        first = {one.entry.action_id: self._first_seen.get(one.entry.action_id, now) for one in intents}
        self._first_seen.clear()
        self._first_seen.update(first)
        for intent in intents:
            if intent.entry.action_id in self.actions.at_work:
                continue
            dead = now - first[intent.entry.action_id] >= DEAD_AFTER + _sending(intent.entry)
            outcome = self._outcome(intent) if dead else None
            if outcome is None:
                waiting = True
                continue
            try:
                self.audit.append(outcome)
                settled += 1
            except AlreadyRecorded:
                continue
        if not waiting:
            self.actions.resume()
        return settled

    def _outcome(self, intent: Record) -> Entry | None:
        """The outcome as far as it can be known, None where AWS cannot be read now."""
        entry, place = intent.entry, self.places.get(intent.entry.backend)
        base = replace(entry, kind=Kind.OUTCOME, person=LOCKBOARD)
        plan: Facts = entry.facts["plan"]
        if place is None or (place.backend.bucket, place.backend.table) != (entry.bucket, plan["table"]):
            text = (
                "The process ended in the middle, and its backend is no longer configured"
                f"{' as it was' if place else ''}: what happened is not known. A lock of Lockboard's may"
                " still stand there."
            )
            return replace(
                base, result=Result.UNKNOWN.value, message=text, facts={"plan": plan, "reconciled": True}
            )
        try:
            truth = _read(place, entry)
            hands = self.open_hands(entry.backend, entry.key, LOCKBOARD, entry.action_id)
            work = _Work(plan, str(entry.facts.get("own_lock") or ""), entry, hands, truth)
            result, message = work.held() if plan["held"] else work.locks()
        except (_NotReadable, ReadError):
            return None
        facts = {"plan": plan, "reconciled": True, "steps": work.steps, **_after(truth)}
        return replace(base, result=result.value, message=message, facts=facts)


def _sending(entry: Entry) -> float:
    """Seconds more that a version which is put back may take to leave."""
    source = entry.facts["plan"]["restores"]
    return leaves_within(source["size"]) - leaves_within(0) if source else 0.0


def _after(truth: _Truth) -> Facts:
    """What stands after a restore, so that it can be undone."""
    state = truth.state
    return {"after": {"version_id": state.version_id, "etag": state.etag, "md5": state.md5}} if state else {}


def _read(place: Place, entry: Entry) -> _Truth:
    key = entry.key
    state, file = place.states.read_state(key), place.states.read_lockfile(key)
    item = place.table.item(lock_id(entry.bucket, key)) if place.table else None
    digest = place.table.item(digest_id(entry.bucket, key)) if place.table else None
    if (
        isinstance(state, Unread)
        or isinstance(file, Unread)
        or isinstance(item, Unread)
        or isinstance(digest, Unread)
    ):
        raise _NotReadable
    return _Truth(state, file, item, digest)


class _Work:
    """One open intent."""

    def __init__(self, plan: Facts, own: str, entry: Entry, hands: Hands, truth: _Truth) -> None:
        self._plan, self._own, self._entry, self._hands, self._truth = plan, own, entry, hands, truth
        self.steps: list[dict[str, Any]] = []

    # ------------------------------------------------------------ unlock and its undo

    def locks(self) -> tuple[Result, str]:
        """Whether the locks that were to be removed, or to be put back, are."""
        asked = self._plan["releases"] or self._plan["puts_back"]
        standing = [self._stands(lock) for lock in asked]
        removing = bool(self._plan["releases"])
        done = [stands is not removing for stands in standing]
        what = "removal of the lock" if removing else "return of the lock"
        if all(done):
            return Result.DONE, f"Lockboard's process ended in the middle; the {what} is there."
        if not any(done):
            return Result.FAILED, f"Lockboard's process ended in the middle; the {what} did not happen."
        return (
            Result.FAILED,
            f"Lockboard's process ended in the middle; the {what} happened in one of two stores.",
        )

    def _stands(self, lock: Facts) -> bool:
        if lock["store"] == LockStore.TFLOCK:
            file = self._truth.file
            return file is not None and (
                file.etag == lock.get("etag") if "etag" in lock else file.raw == lock["raw"]
            )
        item = self._truth.item
        wanted = lock["attribute"] if "attribute" in lock else {"S": lock["raw"]}
        return item is not None and item.info == wanted

    # ------------------------------------------------------------ repairs under our own lock

    def held(self) -> tuple[Result, str]:
        """How far the repair came; taken up where half of it is done; our lock let go."""
        restored, digest = self._restored(), self._digest_as_planned()
        unfinished = bool(self._plan["restores"]) and restored and not digest
        if unfinished and self._digest_untouched() and self._ours_in_table():
            digest = self._finish_digest()
        done = restored and digest
        left = self._let_go(done)
        begun = "Lockboard's process ended in the middle; "
        if done and not self._fits():
            why = "the digest was changed, but the state was written by somebody else: look at both."
            return Result.FAILED, f"{begun}{why}{left}"
        if done:
            return Result.DONE, f"{begun}the repair is there.{left}"
        if self._plan["restores"] and restored:
            return (
                Result.FAILED,
                f"{begun}the version is restored, but the digest is not as it should be.{left}",
            )
        if self._untouched():
            return Result.FAILED, f"{begun}nothing was changed.{left}"
        return Result.UNKNOWN, f"{begun}the state has changed since, so what it did cannot be told.{left}"

    def _restored(self) -> bool:
        source, state = self._plan["restores"], self._truth.state
        return source is None or (state is not None and state.md5 == source["md5"])

    def _digest_as_planned(self) -> bool:
        change, item = self._plan["digest"], self._truth.digest
        if change is None:
            return True
        return (
            item is None
            if change["new"] is None
            else item is not None and item.digest == {"S": change["new"]}
        )

    def _fits(self) -> bool:
        """Whether the state is the one that a digest was set to, or that it was removed for."""
        change, state, source = self._plan["digest"], self._truth.state, self._plan["restores"]
        if change is None or source:
            return True
        if change["new"] is None:
            return (state is None) == (self._plan["standing"] is None)
        return state is not None and state.md5 in (None, change["new"])

    def _untouched(self) -> bool:
        standing, state = self._plan["standing"], self._truth.state
        same = (state is None) == (standing is None) and (
            state is None or (state.etag, state.version_id) == (standing["etag"], standing["version_id"])
        )
        return same and self._digest_untouched()

    def _digest_untouched(self) -> bool:
        change, item = self._plan["digest"], self._truth.digest
        if change is None:
            return True
        return change["absent"] == (item is None) and (item is None or item.digest == change["old"])

    def _ours_in_table(self) -> bool:
        item = self._truth.item
        return item is not None and item.info == {"S": self._own}

    def _ours_in_file(self) -> bool:
        return self._truth.file is not None and self._truth.file.raw == self._own

    def _finish_digest(self) -> bool:
        """The second half of a restore, under the lock that still stands: same condition and token."""
        change, entry, table = self._plan["digest"], self._entry, self._hands.table
        if table is None:
            return False
        receipt = table.change_digest(
            digest_id(entry.bucket, entry.key),
            absent=change["absent"],
            old=change["old"],
            new=change["new"],
            lock_id=lock_id(entry.bucket, entry.key),
            info=self._own,
            token=step_token(entry.action_id, "digest"),
        )
        self._noted(receipt, digest_id(entry.bucket, entry.key))
        if receipt.sent in (Sent.LOST, Sent.UNSETTLED):
            raise _NotReadable  # what stands now is not what was read: the next look tells
        return receipt.sent is Sent.DONE

    def _let_go(self, done: bool) -> str:
        """Our own lock where it stands; after a take-over that mended nothing, the lock that stood before."""
        before = {} if done else {lock["store"]: lock for lock in self._plan["over"]}
        entry, ok = self._entry, True
        gone: list[LockStore] = []
        if self._ours_in_file() and self._truth.file:
            old, etag = before.get(LockStore.TFLOCK), self._truth.file.etag or ""
            states, text = self._hands.states, exact_record(old["raw"]) if old else ""
            gone += [LockStore.TFLOCK] if old and not text else []
            receipt = (
                states.take_lockfile(entry.key, text, etag)
                if text
                else states.release_lockfile(entry.key, etag)
            )
            ok = self._noted(receipt, entry.key + LOCKFILE_SUFFIX) and ok
        if self._ours_in_table() and self._hands.table:
            old, name, ours = (
                before.get(LockStore.DYNAMODB),
                lock_id(entry.bucket, entry.key),
                {"S": self._own},
            )
            string = (old.get("attribute") or {}).get("S") if old else None
            gone += [LockStore.DYNAMODB] if old and not isinstance(string, str) else []
            receipt = (
                self._hands.table.replace_lock(name, ours, string, step_token(entry.action_id, "give-back"))
                if isinstance(string, str)
                else self._hands.table.release_lock(name, ours, step_token(entry.action_id, "let-go"))
            )
            ok = self._noted(receipt, name) and ok
        left = " Lockboard's own lock could not be released: force-unlock it from the state's page."
        return not_put_back(gone) + ("" if ok else left)

    def _noted(self, receipt: Receipt, target: str) -> bool:
        self.steps.append(step_facts(receipt, target))
        return receipt.sent in (Sent.DONE, Sent.LOST)


@dataclass
class Upkeep:
    """What the log needs all the while: open intents settled, a sign of life each hour so that silence is
    proven too, the chain checked. monotonic: seconds that only go forward.  chores: what else is done every
    time, one after the other; one that fails keeps none of the others from being done.
    """

    audit: Audit
    reconcile: Callable[[], int] | None
    monotonic: Callable[[], float]
    version: str
    chores: Sequence[Callable[[], object]] = ()

    def start(self) -> None:
        """Record that this process begins. Raises AuditError."""
        self._record(
            "start", f"Lockboard {self.version} started with actions {'on' if self.reconcile else 'off'}."
        )

    def run(self, wait: Callable[[float], bool], log: Callable[[str], None]) -> None:
        """Go on until `wait` (of so many seconds) says that it is over."""
        due = self.monotonic()
        while True:
            try:
                if self.reconcile:
                    self.reconcile()
                if self.monotonic() >= due:
                    due = self.monotonic() + HEARTBEAT_SECONDS
                    self._check(log)
            except LockboardError as error:
                log(f"the audit log: {error}")
            for chore in self.chores:
                try:
                    chore()
                except LockboardError as error:
                    log(f"upkeep: {error}")
            if wait(EVERY_SECONDS):
                return

    def _check(self, log: Callable[[str], None]) -> None:
        found = self.audit.verify()
        if not found.ok:
            log(f"the audit log is not as it was written: {found.problem}")
            return
        noun = "record" if found.checked == 1 else "records"
        self._record("heartbeat", f"{found.checked} {noun} checked, none changed.")

    def _record(self, action: str, message: str) -> None:
        facts = {"lockboard": self.version}
        self.audit.append(Entry(Kind.EVENT, action, LOCKBOARD, message=message, facts=facts))
