"""Carrying a plan out: each write once and under its condition, a lost reply settled by reading, Terraform's
lock held around every repair and let go whatever happens.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lockboard.domain.audit import Person, Result
from lockboard.domain.errors import ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import LOCKBOARD_OPERATION, Lock, LockInfo, LockStore, exact_record, lock_text
from lockboard.domain.model import StateObject, Unread
from lockboard.domain.plans import Plan
from lockboard.domain.ports import LockTable, States
from lockboard.domain.text import shown
from lockboard.domain.writes import Hands, Receipt, Sent

ACTION_WITHIN = 30.0
"""Seconds after which no further change is begun."""
SETTLE_PAUSES = (0.0, 0.5, 1.0, 2.0)
"""Seconds before each look at what became of a write whose reply was lost."""
REPAIR_OPERATION = LOCKBOARD_OPERATION + "repair"


@dataclass(frozen=True, slots=True)
class Deed:
    """What became of a plan. facts: every write with AWS's request ID, and what was read before and after."""

    result: Result
    message: str
    facts: Mapping[str, Any]


def own_lock(plan: Plan, person: Person, action_id: str, now: datetime, version: str) -> str:
    """The record of the lock that Lockboard holds meanwhile, "" where the plan needs none.

    Terraform shows it to whoever waits, and can release it by its ID.
    """
    if not plan.held:
        return ""
    who = f"lockboard/{shown(person.name, 80)}"
    path = lock_id(plan.bucket, plan.key)
    return lock_text(LockInfo(action_id, REPAIR_OPERATION, "", who, version, now, path))


def step_facts(receipt: Receipt, target: str) -> dict[str, Any]:
    """One write as the log keeps it. target: the object's key or the item's lock ID."""
    return {
        "operation": receipt.operation,
        "target": target,
        "sent": receipt.sent.value,
        "request_id": receipt.request_id,
        "detail": receipt.detail,
        "version_id": receipt.version_id,
        "etag": receipt.etag,
    }


def step_token(action_id: str, step: str) -> str:
    """A client token for one write of an action: the same when the step is taken up again after a crash."""
    return str(uuid.uuid5(uuid.UUID(action_id), step))


class _Stopped(Exception):
    """The plan goes no further."""

    def __init__(self, result: Result, message: str) -> None:
        super().__init__(message)
        self.result, self.message = result, message


@dataclass
class Performer:
    """Carries out one plan, once.

    own: the record of our own lock.  until: of `monotonic`, in seconds, when no further change is begun;
    counted from before the intent, because somebody may settle that later on.  sleep: waits seconds.
    """

    plan: Plan
    hands: Hands
    states: States
    table: LockTable | None
    action_id: str
    own: str
    until: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    steps: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    own_etag: str | None = None
    taken: set[LockStore] = field(default_factory=set)

    def perform(self) -> Deed:
        """Do it. Raises nothing that AWS causes; whatever else is raised, our own lock was let go first."""
        try:
            if self.plan.held:
                message = self._under_lock()
            elif self.plan.puts_back:
                message = self._put_back()
            else:
                message = self._release()
            result = Result.DONE
        except _Stopped as stop:
            result, message = stop.result, stop.message
        return Deed(result, message, {"steps": self.steps, **self.facts})

    # ------------------------------------------------------------ locks of others

    def _release(self) -> str:
        """Remove the locks of the plan, the file first, as Terraform does."""
        removed: list[str] = []
        for lock in self.plan.releases:
            receipt = self._release_one(lock)
            place = _place(lock.store)
            if receipt.sent is not Sent.DONE:
                raise _Stopped(*self._not_released(receipt, place, removed))
            removed.append(place)
        return f"The {' and the '.join(removed)} {'was' if len(removed) == 1 else 'were'} removed."

    def _release_one(self, lock: Lock) -> Receipt:
        key, name = self.plan.key, lock_id(self.plan.bucket, self.plan.key)
        if self._late():
            return _TOO_LATE
        if lock.store is LockStore.TFLOCK:
            receipt = self.hands.states.release_lockfile(key, lock.etag or "")
            return self._settled(receipt, self._file, lambda: self._file_differs(lock.etag))
        assert self.hands.table is not None
        receipt = self.hands.table.release_lock(name, lock.attribute, self._token("release"))
        return self._settled(receipt, name, lambda: self._item_differs(lock))

    def _not_released(self, receipt: Receipt, place: str, removed: list[str]) -> tuple[Result, str]:
        before = f"The {removed[0]} was removed, but not the {place}: " if removed else ""
        if receipt.sent is Sent.LOST:
            why = f"the {place} is not the one the page showed any more. It was not touched."
            return (Result.FAILED if removed else Result.REFUSED), _sentence(before + why)
        if receipt.sent is Sent.FAILED:
            return Result.FAILED, _sentence(f"{before}the {place} was not removed: {receipt.detail}")
        why = (
            f"AWS's reply about the {place} was lost, and it still stands. The removal may yet"
            " happen: look again."
        )
        return Result.UNKNOWN, _sentence(before + why)

    def _put_back(self) -> str:
        """Set locks again where none stands; all or, as far as we can, none."""
        done: list[tuple[LockStore, Receipt]] = []
        for store, text in self.plan.puts_back:
            receipt = self._take(store, text, None, "put-back")
            if receipt.sent is not Sent.DONE:
                for earlier, taken in reversed(done):
                    undone = self._let_go_one(earlier, text, taken.etag, None)
                    if undone.sent in (Sent.FAILED, Sent.UNSETTLED):
                        why = f"The {_place(earlier)} was put back, but not the {_place(store)}."
                        raise _Stopped(
                            Result.FAILED, f"{why} Force-unlock it, or put back the other by hand."
                        )
                raise _Stopped(*_not_taken(receipt, store, "The lock was not put back", "as it was"))
            done.append((store, receipt))
        return "The lock was put back as it was."

    # ------------------------------------------------------------ our own lock

    def _under_lock(self) -> str:
        try:
            self._take_ours()
            self._require_unchanged()
            message = self._repair()
        except _Stopped as stop:
            raise _Stopped(stop.result, stop.message + self._let_go(success=False)) from None
        except ReadError as error:
            why = f"AWS could not be read ({error}). Nothing was changed."
            raise _Stopped(Result.FAILED, why + self._let_go(success=False)) from None
        except BaseException:
            self._let_go(success=False)
            raise
        return message + self._let_go(success=True)

    def _take_ours(self) -> None:
        over = {lock.store: lock for lock in self.plan.over}
        receipt = self._take(LockStore.TFLOCK, self.own, over.get(LockStore.TFLOCK), "take")
        if receipt.sent is not Sent.DONE:
            raise _Stopped(*_not_taken(receipt, LockStore.TFLOCK, "Terraform's lock could not be taken"))
        self.own_etag = receipt.etag
        self.taken.add(LockStore.TFLOCK)
        if self.hands.table is None:
            return
        receipt = self._take(LockStore.DYNAMODB, self.own, over.get(LockStore.DYNAMODB), "take")
        if receipt.sent is not Sent.DONE:
            raise _Stopped(*_not_taken(receipt, LockStore.DYNAMODB, "Terraform's lock could not be taken"))
        self.taken.add(LockStore.DYNAMODB)

    def _take(self, store: LockStore, text: str, over: Lock | None, step: str) -> Receipt:
        key, name = self.plan.key, lock_id(self.plan.bucket, self.plan.key)
        if self._late():
            return _TOO_LATE
        if store is LockStore.TFLOCK:
            receipt = self.hands.states.take_lockfile(key, text, over.etag if over else None)
            etag: list[str | None] = []
            receipt = self._settled(receipt, self._file, lambda: self._file_is(text, etag))
            # Of the very reading that showed it to be ours: the next one may find somebody else's.
            return replace(receipt, etag=receipt.etag or etag[-1]) if etag else receipt
        assert self.hands.table is not None
        if over:
            receipt = self.hands.table.replace_lock(name, over.attribute, text, self._token(step))
        else:
            receipt = self.hands.table.take_lock(name, text, self._token(step))
        return self._settled(receipt, name, lambda: self._item_is(text))

    def _let_go(self, *, success: bool) -> str:
        """Release our own lock, the file first; after a failed take-over what stood there is put back.

        Returns a sentence where it was not possible, else "".
        """
        before = {} if success else {lock.store: lock for lock in self.plan.over if lock.store in self.taken}
        left: list[str] = []
        for store in (LockStore.TFLOCK, LockStore.DYNAMODB):
            if store in self.taken:
                receipt = self._let_go_one(store, self.own, self.own_etag, before.get(store))
                left += [_place(store)] if receipt.sent in (Sent.FAILED, Sent.UNSETTLED) else []
        self.taken.clear()
        said = not_put_back([store for store, lock in before.items() if not _can_return(lock)])
        if left:
            self.facts["lock_left"] = True
            said += (
                f" Lockboard's own {' and '.join(left)} could not be released: force-unlock it from"
                " the state's page."
            )
        return said

    def _let_go_one(self, store: LockStore, text: str, etag: str | None, before: Lock | None) -> Receipt:
        key, name = self.plan.key, lock_id(self.plan.bucket, self.plan.key)
        if store is LockStore.TFLOCK:
            if before and exact_record(before.raw):
                receipt = self.hands.states.take_lockfile(key, before.raw, etag)
            else:
                receipt = self.hands.states.release_lockfile(key, etag or "")
            return self._settled(receipt, self._file, lambda: self._file_differs(etag))
        assert self.hands.table is not None
        ours = {"S": text}
        old = before.attribute.get("S") if before and before.attribute else None
        if isinstance(old, str):
            receipt = self.hands.table.replace_lock(name, ours, old, self._token("give-back"))
        else:
            receipt = self.hands.table.release_lock(name, ours, self._token("let-go"))
        lock = Lock(LockStore.DYNAMODB, text, None, attribute=ours)
        return self._settled(receipt, name, lambda: self._item_differs(lock))

    # ------------------------------------------------------------ the repair

    def _require_unchanged(self) -> None:
        """Under our lock: object and digest are still what the page showed."""
        state = self.states.read_state(self.plan.key)
        if isinstance(state, Unread):
            raise _Stopped(
                Result.FAILED, f"The state could not be read ({state.reason}). Nothing was changed."
            )
        standing, digest = self.plan.standing, self.plan.digest
        same = (state is None) == (standing is None)
        if state is not None and standing is not None:
            same = (state.etag, state.version_id, state.md5) == (
                standing.etag,
                standing.version_id,
                standing.md5,
            )
        if not same:
            raise _Stopped(
                Result.REFUSED, "The state object changed since the page was made. Nothing was done."
            )
        if digest is None or self.table is None:
            return
        item = self.table.item(digest_id(self.plan.bucket, self.plan.key))
        if isinstance(item, Unread):
            raise _Stopped(
                Result.FAILED, f"The digest could not be read ({item.reason}). Nothing was changed."
            )
        if digest.absent != (item is None) or (item is not None and item.digest != digest.old):
            raise _Stopped(Result.REFUSED, "The digest changed since the page was made. Nothing was done.")

    def _repair(self) -> str:
        said = []
        if self.plan.restores:
            said.append(self._restore())
        if self.plan.digest:
            said.append(self._change_digest(restored=bool(said)))
        with suppress(ReadError):
            self._read_after()
        if self._written_meanwhile():
            why = (
                "But meanwhile somebody wrote the state who does not mind Terraform's lock, so this may not"
                " be right for what stands there now: look again."
            )
            raise _Stopped(Result.FAILED, f"{' '.join(said)} {why}")
        if self.plan.over:
            said.append("The lock that was taken over is gone.")
        return " ".join(said)

    def _restore(self) -> str:
        source, standing = self.plan.restores, self.plan.standing
        assert source is not None
        version = self.hands.states.read_version(self.plan.key, source.version_id)
        if isinstance(version, Unread):
            raise _Stopped(
                Result.FAILED, f"The version could not be read ({version.reason}). Nothing was changed."
            )
        if version.body.md5 != source.md5:
            raise _Stopped(
                Result.REFUSED, "The version's bytes are not those the page showed. Nothing was done."
            )
        self._require_time()
        over = standing.etag if standing else None
        receipt = self.hands.states.put_state(self.plan.key, version, over)
        receipt = self._settled(receipt, self.plan.key, lambda: self._state_is(source.md5))
        if receipt.sent is Sent.LOST:
            raise _Stopped(Result.REFUSED, "Somebody wrote this state at the same moment. Nothing was done.")
        if receipt.sent is Sent.FAILED:
            raise _Stopped(Result.FAILED, f"The version was not restored: {receipt.detail}.")
        if receipt.sent is Sent.UNSETTLED:
            why = (
                "AWS's reply was lost, and the restored version is not there. It may yet appear: look again."
            )
            raise _Stopped(Result.UNKNOWN, why)
        self.facts["written"] = {"version_id": receipt.version_id, "etag": receipt.etag}
        return f"The version of {source.written} was restored."

    def _change_digest(self, *, restored: bool) -> str:
        change, table = self.plan.digest, self.hands.table
        assert change is not None
        assert table is not None
        begun = "The version was restored, but the digest was not changed: " if restored else ""
        if not restored:
            self._require_time()
        receipt = table.change_digest(
            digest_id(self.plan.bucket, self.plan.key),
            absent=change.absent,
            old=change.old,
            new=change.new,
            lock_id=lock_id(self.plan.bucket, self.plan.key),
            info=self.own,
            token=self._token("digest"),
        )
        name = digest_id(self.plan.bucket, self.plan.key)
        receipt = self._settled(receipt, name, lambda: self._digest_is(change.new))
        if receipt.sent is Sent.LOST:
            why = "the digest, or Lockboard's lock, changed at the same moment."
            result = Result.FAILED if restored else Result.REFUSED
            raise _Stopped(result, _sentence(begun + why + ("" if restored else " Nothing was done.")))
        if receipt.sent is Sent.FAILED:
            raise _Stopped(Result.FAILED, _sentence(f"{begun}the digest was not changed: {receipt.detail}."))
        if receipt.sent is Sent.UNSETTLED:
            why = "AWS's reply about the digest was lost, and it is as before. It may yet change: look again."
            raise _Stopped(Result.UNKNOWN, _sentence(begun + why))
        return f"The digest was set to {change.new}." if change.new else "The digest entry was removed."

    def _read_after(self) -> None:
        """What stands now, for the record; a failure to read it changes nothing of what was done."""
        state = self.states.read_state(self.plan.key)
        if isinstance(state, StateObject):
            self.facts["after"] = {"version_id": state.version_id, "etag": state.etag, "md5": state.md5}
        elif state is None:
            self.facts["after"] = None
        if self.table:
            item = self.table.item(digest_id(self.plan.bucket, self.plan.key))
            if not isinstance(item, Unread):
                self.facts["digest_after"] = item.digest if item else None

    def _written_meanwhile(self) -> bool:
        """Whether reading showed another state than the one that was put there, or that was hashed."""
        if "after" not in self.facts:
            return False
        after, source, standing = self.facts["after"], self.plan.restores, self.plan.standing
        if source:
            return after is None or after["md5"] not in (None, source.md5)
        if after is None or standing is None:
            return after is not None or standing is not None
        return (after["etag"], after["version_id"]) != (standing.etag, standing.version_id)

    def _require_time(self) -> None:
        if self._late():
            raise _Stopped(Result.FAILED, f"{_sentence(_TOO_LATE.detail)}. Nothing was changed.")

    def _late(self) -> bool:
        return self.monotonic() > self.until

    # ------------------------------------------------------------ settling

    def _settled(self, receipt: Receipt, target: str, came_true: Callable[[], bool | None]) -> Receipt:
        """The receipt, with a lost reply turned into `done` where reading shows that the change is there."""
        if receipt.sent is Sent.UNSETTLED:
            for pause in SETTLE_PAUSES:
                self.sleep(pause)
                if _true(came_true):
                    receipt = replace(
                        receipt, sent=Sent.DONE, detail=f"{receipt.detail} Settled by reading.".strip()
                    )
                    break
                if self._late():
                    break
        self.steps.append(step_facts(receipt, target))
        return receipt

    @property
    def _file(self) -> str:
        return self.plan.key + LOCKFILE_SUFFIX

    def _file_is(self, text: str, etag: list[str | None]) -> bool | None:
        """etag: takes that of the file where it is."""
        found = self.states.read_lockfile(self.plan.key)
        if not isinstance(found, Lock):
            return None if isinstance(found, Unread) else False
        if found.raw == text:
            etag.append(found.etag)
        return found.raw == text

    def _file_differs(self, etag: str | None) -> bool | None:
        found = self.states.read_lockfile(self.plan.key)
        return None if isinstance(found, Unread) else found is None or found.etag != etag

    def _item_is(self, text: str) -> bool | None:
        assert self.table is not None
        item = self.table.item(lock_id(self.plan.bucket, self.plan.key))
        return None if isinstance(item, Unread) else item is not None and item.info == {"S": text}

    def _item_differs(self, lock: Lock) -> bool | None:
        assert self.table is not None
        item = self.table.item(lock_id(self.plan.bucket, self.plan.key))
        return None if isinstance(item, Unread) else item is None or item.info != lock.attribute

    def _state_is(self, md5: str) -> bool | None:
        state = self.states.read_state(self.plan.key)
        return None if isinstance(state, Unread) else state is not None and state.md5 == md5

    def _digest_is(self, value: str | None) -> bool | None:
        assert self.table is not None
        item = self.table.item(digest_id(self.plan.bucket, self.plan.key))
        if isinstance(item, Unread):
            return None
        return item is None if value is None else item is not None and item.digest == {"S": value}

    def _token(self, step: str) -> str:
        return step_token(self.action_id, step)


def _true(came_true: Callable[[], bool | None]) -> bool:
    """What reading shows; nothing where it fails, because the write was sent all the same."""
    try:
        return bool(came_true())
    except ReadError:
        return False


_TOO_LATE = Receipt(Sent.FAILED, "", detail=f"it took longer than {ACTION_WITHIN:g} s")


def _can_return(lock: Lock) -> bool:
    """Whether the exact record is known as text, so that it can stand there again."""
    if lock.store is LockStore.TFLOCK:
        return bool(exact_record(lock.raw))
    return isinstance((lock.attribute or {}).get("S"), str)


def not_put_back(gone: Sequence[LockStore]) -> str:
    """What is said of locks that were taken over and could not be put back, "" of none."""
    if not gone:
        return ""
    names = " and the ".join(_place(store) for store in gone)
    return f" The {names} that stood there before cannot be written again as it was, and is gone."


def _place(store: LockStore) -> str:
    return "lock item in DynamoDB" if store is LockStore.DYNAMODB else ".tflock object"


def _not_taken(
    receipt: Receipt, store: LockStore, what: str, appears: str = "as Lockboard's own"
) -> tuple[Result, str]:
    if receipt.sent is Sent.LOST:
        return Result.REFUSED, f"{what}: another lock stands there now ({_place(store)}). Nothing was done."
    if receipt.sent is Sent.FAILED:
        return Result.FAILED, f"{what}: {receipt.detail}. Nothing was done."
    why = (
        f"{what}: AWS's reply about the {_place(store)} was lost. The lock may yet appear, {appears}:"
        " look again."
    )
    return Result.UNKNOWN, why


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
