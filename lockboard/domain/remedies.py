"""The ways out of each situation, the recommended one first, and what makes the others dangerous."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.content import ContentFinding
from lockboard.domain.holders import LockFinding, held_locks
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import (
    Action,
    Content,
    History,
    LockStatus,
    Observation,
    Remedy,
    StateObject,
    Version,
)
from lockboard.domain.text import shown, spoken_time

CLEARING_RECREATES = (
    "Removing the digest, as Terraform's own message advises, lets the next apply create"
    " every resource a second time."
)
_LIVE = (LockStatus.LOCKED, LockStatus.LOCKED_ACTIVE, LockStatus.LOCK_SPLIT, LockStatus.LOCK_PARTIAL)
_UNTOUCHABLE_LOCKS = (LockStatus.UNKNOWN, LockStatus.KEY_COLLISION)
_UNTOUCHABLE_CONTENT = (Content.STATE_UNREADABLE, Content.UNKNOWN, Content.SETTLING)


def remedies_for(seen: Observation, content: ContentFinding, lock: LockFinding) -> tuple[Remedy, ...]:
    """What may help, the recommended first.

    Nothing is offered where something is unknown; no repair under a live lock.
    """
    if lock.status in _UNTOUCHABLE_LOCKS or content.status in _UNTOUCHABLE_CONTENT:
        return ()
    repairs = tuple(
        found
        for found in _CONTENT_REMEDIES.get(content.status, _none)(seen, content)
        if not (found.version_id and _is_of_another_state(found.version_id, seen))
    )
    locks = held_locks(seen)
    if not locks:
        return _recommended_first(repairs)
    if _may_be_alive(lock, locks):
        return _unlocks(locks, recommended=False)
    if not repairs or content.status is Content.NO_DIGEST:
        return _unlocks(locks, recommended=True)
    unlocks = _unlocks(locks, recommended=False)
    return _recommended_first((*_taking_over(repairs), *unlocks))


def known_states(seen: Observation, but: Version | None = None) -> list[Body]:
    """The bodies that are states, but for one version's: the current one first, then newest first."""
    bodies: list[Body] = []
    if isinstance(seen.state, StateObject) and isinstance(seen.state.body, Body):
        bodies.append(seen.state.body)
    if isinstance(seen.history, History):
        bodies += [v.body for v in seen.history.versions if v is not but and isinstance(v.body, Body)]
    return [body for body in bodies if body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)]


def lineage_it_lacks(body: Body, seen: Observation) -> str:
    """The lineage of the newest state there is, where this one has another: it is another stack's, or was
    begun anew, and which of the two belongs here is for a person to find out. "" where nothing says so.
    """
    known = known_states(seen)
    lineages = [found.lineage for found in known if found.lineage]
    if known[:1] == [body] or not lineages or body.lineage == lineages[0]:
        return ""
    return lineages[0]


def _is_of_another_state(version_id: str, seen: Observation) -> bool:
    versions = seen.history.versions if isinstance(seen.history, History) else ()
    body = next((version.body for version in versions if version.version_id == version_id), None)
    return isinstance(body, Body) and bool(lineage_it_lacks(body, seen))


def _taking_over(repairs: tuple[Remedy, ...]) -> tuple[Remedy, ...]:
    """The repairs as they are made under the lock of a dead holder.

    Unlocking first would let a waiting run in. Removing a digest is not made this way.
    """
    under = [found for found in repairs if found.action is not Action.CLEAR_DIGEST]
    how = (
        "Once the holder is known to be dead, take its lock over without a gap, repair under"
        " it, then release. "
    )
    return tuple(replace(found, action=Action.TAKE_OVER, why=how + found.why) for found in under)


def _may_be_alive(lock: LockFinding, locks: tuple[Lock, ...]) -> bool:
    """Whether somebody may well be at work: beside an unreadable record, the holder of the readable one."""
    beside = lock.status is LockStatus.LOCK_UNREADABLE and any(held.readable for held in locks)
    return beside or lock.status in _LIVE


def dangers_of(seen: Observation, content: ContentFinding, lock: LockFinding) -> tuple[str, ...]:
    """What goes wrong with the obvious wrong remedy, in plain words."""
    said = []
    if content.status in _CONTENT_DANGERS:
        said.append(_CONTENT_DANGERS[content.status])
    if lock.status in _LOCK_DANGERS:
        said.append(_LOCK_DANGERS[lock.status])
    return tuple(said)


def _distinct(locks: tuple[Lock, ...]) -> tuple[Lock, ...]:
    """One lock for each ID: force-unlock of one ID frees it in both stores."""
    seen_ids: dict[object, Lock] = {}
    for held in locks:
        seen_ids.setdefault(held.info.id if held.readable and held.info else held.store, held)
    return tuple(seen_ids.values())


def _unlocks(locks: tuple[Lock, ...], *, recommended: bool) -> tuple[Remedy, ...]:
    """One for each ID; where two locks differ, each names its store."""
    found = _distinct(locks)
    return tuple(
        _unlock(held, recommended=recommended, store=held.store.value if len(found) > 1 else None)
        for held in found
    )


def _unlock(held: Lock, *, recommended: bool, store: str | None = None) -> Remedy:
    where = "DynamoDB item" if held.store is LockStore.DYNAMODB else ".tflock object"
    if held.readable and held.info:
        why = (
            f"Remove the lock {shown(held.info.id, 60)}, once its holder"
            f" {shown(held.info.who, 80)} is known to be dead."
        )
        return Remedy(Action.FORCE_UNLOCK, why, recommended, lock_id=shown(held.info.id, 200), store=store)
    theirs = "takes an empty ID for it" if held.info else "cannot"
    why = f"Remove exactly this {where}; terraform force-unlock {theirs}."
    return Remedy(Action.FORCE_UNLOCK, why, recommended, store=store)


def _recommended_first(remedies: tuple[Remedy, ...]) -> tuple[Remedy, ...]:
    return tuple(sorted(remedies, key=lambda remedy: not remedy.recommended))


def _restore(version: Version, why: str, *, recommended: bool) -> Remedy:
    return Remedy(Action.RESTORE_VERSION, why, recommended, version_id=version.version_id)


def _set_digest(seen: Observation, why: str, *, recommended: bool) -> tuple[Remedy, ...]:
    """Set the digest to the MD5 of the current object: only where that is known."""
    state = seen.state
    if not isinstance(state, StateObject):
        return ()
    md5 = state.md5
    return (Remedy(Action.SET_DIGEST, why, recommended, digest=md5),) if md5 else ()


def _none(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    return ()


def _clear(why: str = CLEARING_RECREATES) -> Remedy:
    return Remedy(Action.CLEAR_DIGEST, why)


def _deleted(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    assert content.matching is not None
    return (
        _restore(
            content.matching,
            "Restore the version that the digest names: it is the last one written.",
            recommended=True,
        ),
        _clear(),
    )


def _deleted_ambiguous(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    newest = _newest_usable(seen)
    assert content.matching is not None
    assert newest is not None
    return (
        _restore(
            newest,
            (
                "Restore the newest version, after comparing it with the one the digest names; its"
                " digest follows."
            ),
            recommended=True,
        ),
        _restore(
            content.matching,
            "Restore the older version that the digest names: drops what was written after it.",
            recommended=False,
        ),
        _clear(),
    )


def _orphan(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    newest = _newest_usable(seen)
    why = "Restore the newest version left, only after comparing it with what exists; its digest follows."
    return (
        *((_restore(newest, why, recommended=False),) if newest else ()),
        _clear(
            "Only if this stack is known to be decommissioned; otherwise bring the state back"
            f" from a backup first. {CLEARING_RECREATES}"
        ),
    )


def _unprotected(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    newest = _newest_usable(seen)
    if newest is None:
        return ()
    return (
        _restore(
            newest,
            "Restore the last version at once: nothing stops an apply from creating everything again.",
            recommended=True,
        ),
    )


def _behind(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    remedies = _set_digest(
        seen,
        "Set the digest to the current object's MD5: the object holds the newest state.",
        recommended=True,
    )
    if content.matching:
        why = "Restore the version that the digest names: loses what the last apply wrote."
        remedies += (_restore(content.matching, why, recommended=False),)
    if seen.lockfile_history:
        remedies += (_clear("Remove the digest, only if every client now locks with files alone."),)
    return remedies


def _back_to_digest(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    assert content.matching is not None
    return (
        _restore(content.matching, "Restore the version that the digest names.", recommended=True),
        *_set_digest(
            seen,
            "Set the digest to the current object's MD5: accepts what the object now holds.",
            recommended=False,
        ),
    )


def _unknown_digest(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    why = (
        "Set the digest to the current object's MD5, only after somebody has looked at the"
        " state and its history."
    )
    return _set_digest(seen, why, recommended=False)


def _ignored(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    return _set_digest(
        seen,
        "Set the digest to the object's MD5, which switches Terraform's check on again.",
        recommended=True,
    )


def _no_digest(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    if not seen.has_table:
        return ()
    why = (
        "Write the digest, if this stack locks with DynamoDB; on a stack that only uses lock"
        " files it would cause a mismatch later."
    )
    return _set_digest(seen, why, recommended=False)


def _bad_object(seen: Observation, content: ContentFinding) -> tuple[Remedy, ...]:
    good, which = content.matching, "which the digest names"
    if good is None or not good.usable:
        good, which = _newest_usable(seen), "the newest that may be a state"
    if good is None:
        return ()
    why = f"Restore the version of {spoken_time(good.last_modified)}, {which}."
    return (_restore(good, why, recommended=True),)


def _newest_usable(seen: Observation) -> Version | None:
    return seen.history.newest_usable if isinstance(seen.history, History) else None


_CONTENT_REMEDIES: dict[Content, Callable[[Observation, ContentFinding], tuple[Remedy, ...]]] = {
    Content.STATE_DELETED: _deleted,
    Content.STATE_DELETED_AMBIGUOUS: _deleted_ambiguous,
    Content.ORPHAN_DIGEST: _orphan,
    Content.STATE_DELETED_UNPROTECTED: _unprotected,
    Content.DIGEST_BEHIND: _behind,
    Content.STATE_ROLLED_BACK: _back_to_digest,
    Content.MANUAL_EDIT: _back_to_digest,
    Content.DIGEST_UNKNOWN: _unknown_digest,
    Content.DIGEST_IGNORED: _ignored,
    Content.NO_DIGEST: _no_digest,
    Content.STATE_EMPTY: _bad_object,
    Content.STATE_CORRUPT: _bad_object,
}

_CONTENT_DANGERS: dict[Content, str] = {
    Content.STATE_DELETED: CLEARING_RECREATES + " Restoring another version would not match the digest.",
    Content.STATE_DELETED_AMBIGUOUS: CLEARING_RECREATES
    + " Restoring the older version drops the newest resources from the state.",
    Content.ORPHAN_DIGEST: CLEARING_RECREATES,
    Content.STATE_DELETED_UNPROTECTED: (
        "Any plan now looks clean and creates everything again beside what already exists:"
        " stop applies until the state is back."
    ),
    Content.DIGEST_BEHIND: (
        "Restoring the version that the digest names would lose the last apply: its resources"
        " would exist but be in no state."
    ),
    Content.STATE_ROLLED_BACK: (
        "Setting the digest to the calculated value, as Terraform's own message advises,"
        " accepts the loss of the newer resources."
    ),
    Content.MANUAL_EDIT: (
        "Setting the digest accepts the edit for good: without a new serial nobody can see it later."
    ),
    Content.DIGEST_UNKNOWN: (
        "Setting the digest only silences the check: nothing proves that these are the right bytes."
    ),
    Content.STATE_EMPTY: (
        "Setting the digest to the MD5 of nothing (d41d8cd9…) never works: Terraform takes an"
        " empty object as no state."
    ),
    Content.STATE_CORRUPT: "Setting the digest to the MD5 of a broken object only changes the error message.",
    Content.DIGEST_IGNORED: (
        "It looks protected and is not: if the state is deleted now, the next apply creates everything again."
    ),
    Content.STATE_UNREADABLE: (
        "Access denied is not absence: removing the digest or writing a new state here would"
        " destroy a state that may be fine."
    ),
}

_LOCK_DANGERS: dict[LockStatus, str] = {
    LockStatus.LOCKED: (
        "Force-unlocking a run that is alive makes two writers, and the last one to write wins."
    ),
    LockStatus.LOCKED_ACTIVE: (
        "This run is writing: force-unlocking it makes two writers, and the last one to write wins."
    ),
    LockStatus.LOCK_STALE: (
        "Age is not proof of death: an approval prompt or a terraform console holds a lock"
        " for hours. Ask the holder or look at the job first."
    ),
    LockStatus.CRASHED_MID_WRITE: (
        "Unlocking first lets a waiting run in, which then meets the mismatch. What the dead"
        " run created may not be in the state."
    ),
    LockStatus.LOCK_SPLIT: (
        "Treat both holders as alive. One force-unlock frees one store and reports a failure."
    ),
    LockStatus.LOCK_PARTIAL: (
        "terraform force-unlock with both stores configured reports a failure here even where"
        " it released the lock."
    ),
    LockStatus.LOCK_UNREADABLE: (
        "Look whether another key's digest stands at this lock ID before anything is removed."
    ),
    LockStatus.LOCK_ORPHAN: (
        "Decide about the missing state first: once the lock is gone, any command, even"
        " output, writes a new empty state for this workspace."
    ),
    LockStatus.KEY_COLLISION: (
        "Nothing here can be repaired without renaming one key: removing the lock would"
        " delete a digest or a state."
    ),
    LockStatus.LOCKBOARD_ORPHAN: (
        "An unfinished repair may lie behind this lock: read the audit log before releasing it."
    ),
}
