"""The lock axis: holders in DynamoDB and in the `.tflock` object, and whether that can be right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lockboard.domain.content import ContentFinding
from lockboard.domain.keys import workspace_of
from lockboard.domain.locks import LOCKBOARD_OPERATION, Lock, LockStore
from lockboard.domain.model import Content, LockStatus, Observation, Policy, StateObject, Unread
from lockboard.domain.text import shown, spoken_span, spoken_time

OWN_OPERATION_LIMIT = timedelta(minutes=2)
"""Lockboard's own actions end within 30 s; a lock of ours older than this outlived its process."""

_CRASH_SIGNS = (Content.DIGEST_BEHIND, Content.DIGEST_UNKNOWN, Content.STATE_CORRUPT)


@dataclass(frozen=True, slots=True)
class LockFinding:
    """`excludes`: at least one kind of Terraform client cannot take the lock now."""

    status: LockStatus
    why: str
    excludes: bool = False
    settles_at: datetime | None = None


def held_locks(seen: Observation) -> tuple[Lock, ...]:
    """The locks that were read, the file first, as Terraform takes them."""
    return tuple(lock for lock in (seen.file_lock, seen.table_lock) if isinstance(lock, Lock))


def judge_lock(seen: Observation, content: ContentFinding, policy: Policy, now: datetime) -> LockFinding:
    """What the lock records of both stores say together."""
    for part, what in ((seen.table_lock, "The lock table"), (seen.file_lock, "The .tflock object")):
        if isinstance(part, Unread):
            return LockFinding(
                LockStatus.UNKNOWN, f"{what} could not be read: {part.reason}. The state may be locked."
            )
    locks = held_locks(seen)
    if collision := _collision(seen, locks):
        return collision
    if not locks:
        return LockFinding(LockStatus.UNLOCKED, "Nobody holds a lock.")
    broken = next((lock for lock in locks if not lock.readable), None)
    if broken:
        store = "DynamoDB lock item" if broken.store is LockStore.DYNAMODB else ".tflock object"
        why = (
            f"The {store} names no ID: terraform force-unlock releases it only by an empty one."
            if broken.info
            else f"The {store} cannot be read as a lock ({broken.problem}), so terraform force-unlock"
            " cannot release it."
        )
        return LockFinding(LockStatus.LOCK_UNREADABLE, why, True)
    return _judge_readable(seen, locks, content, policy, now)


def _collision(seen: Observation, locks: tuple[Lock, ...]) -> LockFinding | None:
    occupied = next((lock for lock in locks if lock.occupied_by), None)
    if occupied is None and seen.sibling is None:
        return None
    other = f"the state key {shown(seen.sibling)}" if seen.sibling else "another state key"
    if occupied and occupied.store is LockStore.DYNAMODB:
        why = (
            f"This key's lock ID is also the digest entry of {other}: Terraform cannot lock it,"
            " and unlocking would delete a digest."
        )
    elif occupied:
        why = (
            f"The object at this key's .tflock is itself a state ({other}): Terraform cannot lock,"
            " and unlocking would delete a state."
        )
    else:
        why = (
            f"This key and {other} share a lock ID or lock file: each can overwrite the other's"
            " lock or digest."
        )
    if occupied is None and locks and locks[0].readable:
        why += f" Locked by {_holder(locks[0])}."
    return LockFinding(LockStatus.KEY_COLLISION, why, bool(locks))


def age_of(lock: Lock, policy: Policy, now: datetime) -> timedelta | None:
    """How long it has been held by the best clock there is; None where that is not known or lies in the
    future.
    """
    if lock.since is None or lock.since > now + policy.future_tolerance:
        return None
    return max(now - lock.since, timedelta())


def _judge_readable(
    seen: Observation, locks: tuple[Lock, ...], content: ContentFinding, policy: Policy, now: datetime
) -> LockFinding:
    first = locks[0]
    age = age_of(first, policy, now)
    holder = _holder(first)
    # Both have to be: beside a lock that Lockboard left, somebody else may be at work under the other.
    if all(lock.info and lock.info.operation.startswith(LOCKBOARD_OPERATION) for lock in locks):
        ages = [age_of(lock, policy, now) for lock in locks]
        if any(age is None or age <= OWN_OPERATION_LIMIT for age in ages):
            return LockFinding(LockStatus.LOCKED, f"Lockboard itself is at work here: {holder}.", True)
        return LockFinding(
            LockStatus.LOCKBOARD_ORPHAN, f"A Lockboard operation left its lock behind: {holder}.", True
        )
    odd = _odd_pair(seen, locks, content)
    workspace = workspace_of(seen.key, seen.workspace_prefix) if seen.state is None else None
    ripe = _ripe_at(first, seen.locks_since, policy, now)
    due = max(ripe, (seen.locks_since or now) + policy.settle) if odd else ripe
    if (odd or workspace) and due > now:
        return LockFinding(LockStatus.LOCKED, f"Locked: {holder}.", True, settles_at=due)
    if odd and odd[0] is LockStatus.LOCK_SPLIT:
        return LockFinding(*odd, True)
    if workspace:
        why = (
            f"The lock is on workspace {shown(workspace[0])}, whose state object does not exist:"
            f" terraform force-unlock cannot release it ({holder})."
        )
        return LockFinding(LockStatus.LOCK_ORPHAN, why, True)
    if _crashed(seen, locks, content):
        why = (
            "The state was written under this lock, but its digest was not: the holder probably"
            f" died in between ({holder})."
        )
        return LockFinding(LockStatus.CRASHED_MID_WRITE, why, True)
    aged = _judge_age(seen, first, age, policy, now, holder)
    if odd is None:
        return aged
    if aged.status is LockStatus.LOCK_STALE:
        return replace(aged, why=f"{aged.why} {odd[1]}")
    return LockFinding(*odd, True)


def _ripe_at(lock: Lock, seen_since: datetime | None, policy: Policy, now: datetime) -> datetime:
    """When it is no longer so young that what seems wrong may be an apply at work; `now` where it is not.

    By a clock that is ahead of ours a lock would stay young: it was taken before it was seen first.
    """
    if lock.since is None:
        return now
    taken = min(lock.since, seen_since or lock.since, now)
    return max(taken + policy.in_flight, now)


def _holder(lock: Lock) -> str:
    info = lock.info
    assert info is not None
    since = f" since {spoken_time(lock.since)}" if lock.since else ", since when is not known"
    return (
        f"{shown(info.who, 120) or 'an unnamed holder'}"
        f" ({shown(info.operation, 60) or 'no operation named'}){since}"
    )


def _odd_pair(
    seen: Observation, locks: tuple[Lock, ...], content: ContentFinding
) -> tuple[LockStatus, str] | None:
    """Two different holders, or one of two records missing where the stack is known to use both."""
    if len(locks) == 2:
        ids = {lock.info.id for lock in locks if lock.info}
        if len(ids) == 1:
            return None
        return LockStatus.LOCK_SPLIT, (
            f"Two different holders: .tflock is held by {_holder(locks[0])}, DynamoDB by {_holder(locks[1])}."
            " Both may be writing."
        )
    if locks[0].store is LockStore.TFLOCK and seen.has_table and content.status is Content.OK:
        return LockStatus.LOCK_PARTIAL, (
            f"Only the .tflock is held ({_holder(locks[0])}) although this state's digest is kept in"
            " DynamoDB: clients that lock with the table alone are not kept out."
        )
    if locks[0].store is LockStore.DYNAMODB and seen.lockfile_history:
        return LockStatus.LOCK_PARTIAL, (
            f"Only the DynamoDB lock is held ({_holder(locks[0])}) although this state has used lock files:"
            " clients that lock with .tflock alone are not kept out."
        )
    return None


def _crashed(seen: Observation, locks: tuple[Lock, ...], content: ContentFinding) -> bool:
    if content.status not in _CRASH_SIGNS or not content.refused or not isinstance(seen.state, StateObject):
        return False
    # Who locks with a file alone writes no digest: that of a stack which moved to lock files stays behind.
    if not any(lock.store is LockStore.DYNAMODB for lock in locks):
        return False
    since = locks[0].since
    # S3 keeps whole seconds, so a write in the second of the lock counts as written under it.
    return since is not None and seen.state.last_modified >= since.replace(microsecond=0)


def _judge_age(
    seen: Observation, lock: Lock, age: timedelta | None, policy: Policy, now: datetime, holder: str
) -> LockFinding:
    if age is None or lock.since is None:
        return LockFinding(LockStatus.LOCKED, f"Locked by {holder}.", True)
    written = seen.state.last_modified if isinstance(seen.state, StateObject) else lock.since
    wrote_since = written.replace(microsecond=0) > lock.since  # a GET of the lock file gives whole seconds
    quiet = now - max(lock.since, written)
    skewed = seen.clock_skew is not None and abs(seen.clock_skew) > policy.skew_tolerance
    known = not isinstance(seen.state, Unread)
    if quiet >= policy.stale_after and known and not skewed:
        why = (
            f"Suspected stale: held by {holder}, longer than the limit of"
            f" {spoken_span(policy.stale_after)}, with no state write in that time."
        )
        return LockFinding(LockStatus.LOCK_STALE, why, True)
    if wrote_since:
        return LockFinding(
            LockStatus.LOCKED_ACTIVE,
            f"Locked and writing: {holder}; the state was written after the lock was taken.",
            True,
        )
    return LockFinding(LockStatus.LOCKED, f"Locked by {holder}.", True)
