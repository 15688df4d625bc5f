"""Plans: what an action will do to one key, decided before anything is done.

A plan is a pure function of what was read of the key just now. The page shows it, its fingerprint goes into
the form, and what is executed is a plan made anew from another reading whose fingerprint is the same: so
nothing happens that nobody saw.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.commands import Command, commands_of
from lockboard.domain.digests import Digest
from lockboard.domain.holders import OWN_OPERATION_LIMIT, age_of, held_locks
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import LOCKBOARD_OPERATION, Lock, LockStore
from lockboard.domain.model import (
    Action,
    Content,
    History,
    LockStatus,
    Observation,
    Policy,
    StateObject,
    Unread,
    Verdict,
    Version,
)
from lockboard.domain.remedies import known_states, lineage_it_lacks
from lockboard.domain.text import shown, spoken_time

TYPABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,39}\Z")
_USUAL_NAMES = ("terraform.tfstate", "terraform.tfstate.json", "default.tfstate")

REPAIRABLE = {
    Action.SET_DIGEST: (
        Content.DIGEST_BEHIND,
        Content.DIGEST_IGNORED,
        Content.STATE_ROLLED_BACK,
        Content.MANUAL_EDIT,
        Content.DIGEST_UNKNOWN,
        Content.NO_DIGEST,
    ),
    Action.CLEAR_DIGEST: (
        Content.STATE_DELETED,
        Content.STATE_DELETED_AMBIGUOUS,
        Content.ORPHAN_DIGEST,
        Content.DIGEST_BEHIND,
    ),
}
"""Where each digest repair makes sense."""

RESTORABLE = (
    Content.STATE_DELETED,
    Content.STATE_DELETED_AMBIGUOUS,
    Content.ORPHAN_DIGEST,
    Content.STATE_DELETED_UNPROTECTED,
    Content.DIGEST_BEHIND,
    Content.STATE_ROLLED_BACK,
    Content.MANUAL_EDIT,
    Content.DIGEST_UNKNOWN,
    Content.DIGEST_IGNORED,
    Content.STATE_EMPTY,
    Content.STATE_CORRUPT,
    Content.OK,
    Content.NO_DIGEST,
)
"""Where an earlier version may be put back: also over a healthy state, which a person may know to be wrong.
"""

_TAKEN_OVER = (
    LockStatus.CRASHED_MID_WRITE,
    LockStatus.LOCK_STALE,
    LockStatus.LOCK_ORPHAN,
    LockStatus.LOCKBOARD_ORPHAN,
)
_PROBABLY_DEAD = (LockStatus.LOCK_STALE, LockStatus.LOCKBOARD_ORPHAN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for. store: `dynamodb` or `tflock` for one half of a split lock, "" for the lock.
    version_id: what to restore; with take_over, what to restore under the lock instead of setting the digest.
    """

    action: Action
    store: str = ""
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """One key with all that a plan is made of.

    seen: read just now, consistently, with the bytes of the current object and of the version wanted.
    verdict: the diagnosis of it.  now: the server's time of the reading.  state_id: its address in Lockboard.
    table: name of the lock table.  versioning: of the bucket (`enabled`, `suspended`, `off`, `unknown`).
    region: of both.
    """

    seen: Observation
    verdict: Verdict
    policy: Policy
    now: datetime
    state_id: str
    table: str | None
    versioning: str
    region: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an action is not possible now, in a sentence. gone: what it would remove or mend is not there (any
    more), so there is nothing left to do.
    """

    reason: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """The current state object as a condition can name it; None in its place where none stands."""

    etag: str
    version_id: str | None
    md5: str | None
    size: int
    serial: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """The version to put back, by what was read of its bytes."""

    version_id: str
    md5: str
    size: int
    serial: int | None
    lineage: str | None
    written: str
    resources: int | None


@dataclass(frozen=True, slots=True)
class DigestChange:
    """The digest item as seen (`absent`: none; else its Digest is exactly `old`) and what it becomes: 32
    hexadecimal digits, or None where the item is removed.
    """

    absent: bool
    old: Any
    new: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """One AWS call as the page announces it. condition: what has to hold for it to change anything."""

    operation: str
    target: str
    condition: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done to one key.

    releases: locks to remove, exactly as seen, in the order Terraform releases them.
    puts_back: (store, record) of locks to set where none stands.
    held: whether Terraform's own lock is held meanwhile, `over` the locks named there.
    restores: the version whose bytes are put over `standing`.  digest: its change, None to leave it.
    confirm: what has to be typed, "" for nothing; `confirm_why` says why.  accept_serial: the serial that has
    to be typed as well, because it is lower than the newest.
    consequences, calls, commands: what the page says; commands are (what it is, what to type).
    region: where the commands go.
    """

    action: Action
    backend: str
    bucket: str
    key: str
    table: str | None
    title: str
    recommended: bool = False
    releases: tuple[Lock, ...] = ()
    puts_back: tuple[tuple[LockStore, str], ...] = ()
    held: bool = False
    over: tuple[Lock, ...] = ()
    standing: Standing | None = None
    restores: Source | None = None
    digest: DigestChange | None = None
    confirm: str = ""
    confirm_why: str = ""
    accept_serial: str = ""
    consequences: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    commands: tuple[Command, ...] = ()
    region: str = ""

    @property
    def writes_s3(self) -> bool:
        """Whether it relies on S3 to honour conditions."""
        return (
            self.held
            or any(lock.store is LockStore.TFLOCK for lock in self.releases)
            or any(store is LockStore.TFLOCK for store, _ in self.puts_back)
        )

    def facts(self) -> dict[str, Any]:
        """The plan as the audit log keeps it; raw records are kept whole. `fingerprint` is made of it."""
        return {
            "action": self.action.value,
            "backend": self.backend,
            "bucket": self.bucket,
            "key": self.key,
            "table": self.table,
            "releases": [lock_facts(lock) for lock in self.releases],
            "puts_back": [{"store": store.value, "raw": raw} for store, raw in self.puts_back],
            "held": self.held,
            "over": [lock_facts(lock) for lock in self.over],
            "standing": _fields(self.standing),
            "restores": _fields(self.restores),
            "digest": _fields(self.digest),
            "confirm": self.confirm,
            "accept_serial": self.accept_serial,
        }

    def fingerprint(self) -> str:
        """Equal for two plans that do the same under the same conditions and are risky for the same reason: a
        run that came alive, or a second lock that went, makes another plan.
        """
        facts = {**self.facts(), "confirm_why": self.confirm_why}
        text = json.dumps(facts, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def lock_facts(lock: Lock) -> dict[str, Any]:
    """One lock record, exactly."""
    return {
        "store": lock.store.value,
        "id": lock.info.id if lock.info else None,
        "who": lock.info.who if lock.info else None,
        "operation": lock.info.operation if lock.info else None,
        "raw": lock.raw,
        "attribute": lock.attribute,
        "etag": lock.etag,
        "version_id": lock.version_id,
    }


def _fields(value: Any) -> dict[str, Any] | None:
    return None if value is None else {name: getattr(value, name) for name in value.__slots__}


def confirm_name(key: str, state_id: str) -> str:
    """The short name that a person types: the last part of the key that says something, or the state's
    address where that could not be typed.
    """
    parts = [part for part in key.split("/") if part]
    while len(parts) > 1 and parts[-1] in _USUAL_NAMES:
        parts.pop()
    return parts[-1] if parts and TYPABLE.match(parts[-1]) else state_id


def plan_for(wanted: Wanted, situation: Situation) -> Plan | Refused:
    """The plan, or why there is none."""
    refused = never(situation)
    if refused:
        return refused
    plan = _MAKERS[wanted.action](wanted, situation.seen, situation.verdict, situation.versioning)
    if isinstance(plan, Refused):
        return plan
    return completed(replace(plan, recommended=_recommended(wanted, situation.verdict)), situation)


def begun(action: Action, seen: Observation, title: str) -> Plan:
    """A plan for this key that does nothing yet."""
    return Plan(action, seen.backend, seen.bucket, seen.key, None, title)


def completed(plan: Plan, situation: Situation) -> Plan:
    """With what every plan has: the table, what has to be typed, and its calls."""
    why = plan.confirm_why or ("This key is protected by the settings." if situation.policy.protected else "")
    name = confirm_name(situation.seen.key, situation.state_id) if why else ""
    plan = replace(plan, table=situation.table, region=situation.region, confirm=name, confirm_why=why)
    return replace(plan, calls=calls_of(plan), commands=commands_of(plan))


def never(situation: Situation) -> Refused | None:
    """Why no action at all is possible on this key now."""
    seen, verdict = situation.seen, situation.verdict
    for part, what in (
        (seen.state, "The state object"),
        (seen.digest, "The digest entry"),
        (seen.table_lock, "The lock table"),
        (seen.file_lock, "The .tflock object"),
    ):
        if isinstance(part, Unread):
            return Refused(
                f"{what} could not be read ({part.reason}). Nothing is changed on what is not known."
            )
    if verdict.lock is LockStatus.KEY_COLLISION:
        return Refused(
            "This key shares its lock ID or lock file with another key: removing the lock would delete a"
            " digest or a state. Rename one of the two keys."
        )
    if verdict.content in (Content.STATE_UNREADABLE, Content.UNKNOWN):
        return Refused(f"{verdict.summary} Nothing is changed on what is not known.")
    if any(_at_work(lock, situation.policy, situation.now) for lock in held_locks(seen)):
        return Refused("Lockboard itself is at work on this key. Look again in a minute.")
    return None


def _at_work(lock: Lock, policy: Policy, now: datetime) -> bool:
    """Whether an action of Lockboard's may be under way; one without a usable time is not waited for."""
    if not lock.readable or lock.info is None or not lock.info.operation.startswith(LOCKBOARD_OPERATION):
        return False
    age = age_of(lock, policy, now)
    return age is not None and age <= OWN_OPERATION_LIMIT


def _recommended(wanted: Wanted, verdict: Verdict) -> bool:
    return any(
        remedy.recommended
        and remedy.action is wanted.action
        and (remedy.version_id or "") == wanted.version_id
        and (remedy.store or "") in ("", wanted.store)
        for remedy in verdict.remedies
    )


# ---------------------------------------------------------------- force-unlock


def _force_unlock(wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str) -> Plan | Refused:
    locks = held_locks(seen)
    if not locks:
        return Refused("No lock is held any more.", gone=True)
    chosen = tuple(lock for lock in locks if wanted.store in ("", lock.store.value))
    if not chosen:
        return Refused(f"The {_place(LockStore(wanted.store))} is not held any more.", gone=True)
    ids = {lock.info.id if lock.readable and lock.info else None for lock in chosen}
    if len(chosen) > 1 and (len(ids) > 1 or None in ids):
        return Refused(
            "Two different locks are held. Release one at a time: choose the DynamoDB item or the .tflock."
        )
    name = " and the ".join(_place(lock.store) for lock in chosen)
    return replace(
        begun(Action.FORCE_UNLOCK, seen, f"Force-unlock: remove the {name}"),
        releases=chosen,
        confirm_why=_why_unlock_is_risky(verdict, chosen),
        consequences=_unlock_consequences(verdict, chosen),
    )


def _place(store: LockStore) -> str:
    return "lock item in DynamoDB" if store is LockStore.DYNAMODB else ".tflock object in S3"


def _why_unlock_is_risky(verdict: Verdict, chosen: tuple[Lock, ...]) -> str:
    if verdict.lock in _PROBABLY_DEAD or (
        verdict.lock is LockStatus.LOCK_UNREADABLE and all(not lock.readable for lock in chosen)
    ):
        return ""
    return {
        LockStatus.LOCK_SPLIT: "Two holders are named, and both may be alive.",
        LockStatus.LOCKED_ACTIVE: "The state was written after this lock was taken: the run looks alive.",
        LockStatus.CRASHED_MID_WRITE: (
            "The content does not match its digest: taking the lock over is the safer way."
        ),
        LockStatus.LOCK_ORPHAN: (
            "The state of this workspace is gone: without the lock any command writes an empty one."
        ),
        LockStatus.LOCK_UNREADABLE: (
            "A readable lock stands beside the unreadable one, and its holder may be alive."
        ),
    }.get(verdict.lock, "This lock is not suspected stale: its holder may be alive.")


def _unlock_consequences(verdict: Verdict, chosen: tuple[Lock, ...]) -> tuple[str, ...]:
    alive = (
        "If that run is still alive, two applies can write at once and the last one wins: nothing stops"
        " its next write of the state."
    )
    said = [alive]
    other_stays = verdict.lock is LockStatus.LOCK_SPLIT and len(chosen) == 1
    if other_stays:
        said.append("The other lock stays, and keeps out the clients that look at it.")
    said.append(
        "The state and its digest are not touched. What a dead run created may be missing"
        " from the state: plan before you apply."
    )
    if all(lock.readable for lock in chosen) and not other_stays:
        said.append("You can put the lock back for 15 minutes, if nobody has locked by then.")
    return tuple(said)


# ---------------------------------------------------------------- digest


def _set_digest(wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str) -> Plan | Refused:
    refused = _held(seen)
    return refused or _setting(seen, verdict, Action.SET_DIGEST, ())


def _setting(seen: Observation, verdict: Verdict, action: Action, over: tuple[Lock, ...]) -> Plan | Refused:
    if not seen.has_table:
        return Refused("This backend has no lock table, so there is no digest to set.")
    state = seen.state
    if not isinstance(state, StateObject):
        return Refused("There is no state object whose MD5 could be the digest.")
    body = state.body
    if not isinstance(body, Body):
        return Refused("The state object's bytes could not be read, so its MD5 is not known.")
    if body.kind not in (BodyKind.STATE, BodyKind.ENCRYPTED):
        return Refused(
            "The object is not a state: a digest of it would only change the error message."
            " Restore a version."
        )
    digest = seen.digest if isinstance(seen.digest, Digest) else None
    if digest and digest.value == body.md5:
        return Refused("The digest is the MD5 of the object already.", gone=True)
    if verdict.content not in REPAIRABLE[Action.SET_DIGEST]:
        return Refused(f"Setting the digest does not mend this: {verdict.summary}")
    serial = "" if body.serial is None else f", serial {body.serial}"
    risky = {
        Content.STATE_ROLLED_BACK: (
            "The digest names a newer state: setting it accepts the loss of what came after."
        ),
        Content.MANUAL_EDIT: (
            "The object was changed without a new serial: setting the digest accepts that edit for good."
        ),
        Content.DIGEST_UNKNOWN: (
            "The digest names no version that is left: nothing proves that these are the right bytes."
        ),
        Content.NO_DIGEST: "On a stack that only uses lock files, a digest would cause a mismatch later.",
    }
    return replace(
        begun(action, seen, f"Set the digest to {body.md5}, the MD5 of the current object{serial}"),
        held=True,
        over=over,
        standing=standing_of(state),
        digest=DigestChange(digest is None, digest.attribute if digest else None, body.md5),
        confirm_why=risky.get(verdict.content, ""),
        consequences=(
            "Terraform's check passes again, and what the object now holds counts as the state.",
            "Terraform's own lock is held while this runs, so an apply waits and sees who holds it.",
        ),
    )


def _clear_digest(wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str) -> Plan | Refused:
    refused = _held(seen)
    if refused:
        return refused
    if not isinstance(seen.digest, Digest):
        return Refused("There is no digest entry any more.", gone=True)
    migrated = verdict.content is Content.DIGEST_BEHIND and seen.lockfile_history
    if verdict.content not in REPAIRABLE[Action.CLEAR_DIGEST] or (
        verdict.content is Content.DIGEST_BEHIND and not migrated
    ):
        return Refused(f"Removing the digest does not mend this: {verdict.summary}")
    state = seen.state if isinstance(seen.state, StateObject) else None
    gone = (
        "Terraform will find no state and plan to create every resource a second time, unless"
        " the stack is gone."
    )
    return replace(
        begun(Action.CLEAR_DIGEST, seen, "Remove the digest entry"),
        held=True,
        standing=standing_of(state) if state else None,
        digest=DigestChange(False, seen.digest.attribute, None),
        confirm_why=(
            "Only if every client of this stack now locks with files alone."
            if migrated
            else (
                "Only if this stack is decommissioned: nothing then stops an apply from creating"
                " everything again."
            )
        ),
        consequences=("Terraform no longer checks this state." if state else gone,),
    )


def _held(seen: Observation) -> Refused | None:
    if held_locks(seen):
        return Refused(
            "A lock is held. Repairs are never made under somebody's lock: release it, or take it over."
        )
    return None


# ---------------------------------------------------------------- restore


def _restore(wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str) -> Plan | Refused:
    return _held(seen) or _restoring(wanted, seen, verdict, versioning, Action.RESTORE_VERSION, ())


def _restoring(
    wanted: Wanted,
    seen: Observation,
    verdict: Verdict,
    versioning: str,
    action: Action,
    over: tuple[Lock, ...],
) -> Plan | Refused:
    found = _version(wanted.version_id, seen, versioning)
    if isinstance(found, Refused):
        return found
    if verdict.content not in RESTORABLE:
        return Refused(f"Restoring a version does not mend this: {verdict.summary}")
    version, body = found
    state = seen.state if isinstance(seen.state, StateObject) else None
    if state and state.md5 == body.md5 and state.size:
        return Refused("The current object has these bytes already.", gone=True)
    stranger = _stranger(body, seen)
    if stranger:
        return stranger
    digest = seen.digest if isinstance(seen.digest, Digest) else None
    # A stack without a digest gets none: on one that only uses lock files it would cause a mismatch later.
    change = DigestChange(False, digest.attribute, body.md5) if digest and digest.value != body.md5 else None
    newest = _newest_serial(body, seen, version)
    lower = newest is not None and (body.serial or 0) < newest
    serial = "" if body.serial is None else f", serial {body.serial}"
    written = spoken_time(version.last_modified)
    return replace(
        begun(action, seen, f"Restore the version of {written}{serial}"),
        held=True,
        over=over,
        standing=standing_of(state) if state else None,
        restores=Source(
            version.version_id, body.md5, body.size, body.serial, body.lineage, written, body.resources
        ),
        digest=change,
        confirm_why="The restored version becomes the state that every later plan starts from.",
        accept_serial=str(body.serial or 0) if lower else "",
        consequences=_restore_consequences(body, newest if lower else None, state, change),
    )


def _version(version_id: str, seen: Observation, versioning: str) -> tuple[Version, Body] | Refused:
    if versioning == "unknown":
        return Refused(
            "Whether the bucket keeps versions could not be read (s3:GetBucketVersioning), so"
            " nothing is written over."
        )
    if versioning != "enabled":
        return Refused(f"Versioning is {versioning} in this bucket: what is written over would be lost.")
    if not isinstance(seen.history, History):
        return Refused("The versions of this key could not be read (s3:ListBucketVersions).")
    version = next((found for found in seen.history.versions if found.version_id == version_id), None)
    if version is None:
        return Refused("This version does not exist any more.")
    if version.delete_marker:
        return Refused("This is a delete marker, not a version.")
    body = version.body
    if not isinstance(body, Body):
        why = f" ({body.reason})" if isinstance(body, Unread) else ""
        return Refused(f"The version's bytes could not be read{why}.")
    if body.kind is BodyKind.EMPTY or not body.size:
        return Refused("This version is empty: Terraform takes an empty object as no state.")
    if body.kind is BodyKind.BROKEN:
        return Refused(f"This version is not a state that Terraform could read: {body.problem}.")
    return version, body


def _stranger(body: Body, seen: Observation) -> Refused | None:
    newest = lineage_it_lacks(body, seen)
    if not newest:
        return None
    return Refused(
        f"This version has another lineage ({shown(body.lineage or 'none', 60)}) than the newest state"
        f" ({shown(newest, 60)}): it belongs to another state. Compare both by hand."
    )


def _newest_serial(body: Body, seen: Observation, version: Version) -> int | None:
    serials = [known.serial or 0 for known in known_states(seen, version)]
    return max(serials, default=None)


def _restore_consequences(
    body: Body, newest: int | None, state: StateObject | None, change: DigestChange | None
) -> tuple[str, ...]:
    said = [
        "Its bytes are written as a new version; no version and no delete marker is removed."
        + (" What stands now stays in the bucket's history." if state else "")
    ]
    if newest is not None:
        said.append(
            f"Serial {body.serial or 0} is lower than {newest}, the newest known: resources created after"
            " it exist but are in no state. Terraform would create them again: import them, do not apply."
        )
    if change:
        said.append("The digest is set to the restored bytes' MD5 in the same action.")
    said.append("Terraform's own lock is held while this runs, so an apply waits and sees who holds it.")
    return tuple(said)


# ---------------------------------------------------------------- take over


def _take_over(wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str) -> Plan | Refused:
    locks = held_locks(seen)
    if not locks:
        return Refused("No lock is held any more: repair the content directly.", gone=True)
    unreadable = verdict.lock is LockStatus.LOCK_UNREADABLE and not any(lock.readable for lock in locks)
    if verdict.lock not in _TAKEN_OVER and not unreadable:
        return Refused(f"This lock is not one to take over: {verdict.summary}")
    if verdict.content is Content.NO_DIGEST and not wanted.version_id:
        return Refused("There is nothing to repair under this lock: force-unlock it.")
    if wanted.version_id:
        plan = _restoring(wanted, seen, verdict, versioning, Action.TAKE_OVER, locks)
    else:
        plan = _setting(seen, verdict, Action.TAKE_OVER, locks)
    if isinstance(plan, Refused):
        return plan
    holder = next((lock.info.who for lock in locks if lock.info), "")
    return replace(
        plan,
        title=f"Take the lock over, then: {plan.title[0].lower()}{plan.title[1:]}",
        confirm_why=(
            f"The lock of {shown(holder, 80) or 'its holder'} is taken without a gap; if that run"
            " is alive, it writes on."
        ),
        consequences=(
            (
                "The lock changes hands without a moment in which a waiting run could take it, and is"
                " released at the end."
            ),
            *plan.consequences,
        ),
    )


_Maker = Callable[[Wanted, Observation, Verdict, str], "Plan | Refused"]

_MAKERS: dict[Action, _Maker] = {
    Action.FORCE_UNLOCK: _force_unlock,
    Action.SET_DIGEST: _set_digest,
    Action.CLEAR_DIGEST: _clear_digest,
    Action.RESTORE_VERSION: _restore,
    Action.TAKE_OVER: _take_over,
}


def standing_of(state: StateObject) -> Standing:
    """The object as a condition names it."""
    serial = state.body.serial if isinstance(state.body, Body) else None
    return Standing(state.etag, state.version_id, state.md5, state.size, serial)


# ---------------------------------------------------------------- in words


def calls_of(plan: Plan) -> tuple[Call, ...]:
    """Every AWS call that changes something, in order."""
    own, table = shown(lock_id(plan.bucket, plan.key), 300), plan.table or ""
    file = shown(plan.key + LOCKFILE_SUFFIX, 300)
    item = f"item {own} of table {shown(table, 100)}"
    calls: list[Call] = []
    for lock in plan.releases:
        calls.append(
            Call("dynamodb:DeleteItem", item, "its Info is exactly what this page shows")
            if lock.store is LockStore.DYNAMODB
            else Call("s3:DeleteObject", file, f"its ETag is {shown(lock.etag or '', 80)} (If-Match)")
        )
    for store, _ in plan.puts_back:
        calls.append(
            Call("dynamodb:PutItem", item, "no lock stands there")
            if store is LockStore.DYNAMODB
            else Call("s3:PutObject", file, "none stands there (If-None-Match: *)")
        )
    if plan.held:
        calls += _taking(plan, item, file)
    if plan.restores:
        over = (
            f"the ETag is {shown(plan.standing.etag, 80)} (If-Match)"
            if plan.standing
            else "none stands there (If-None-Match: *)"
        )
        calls.append(Call("s3:PutObject", shown(plan.key, 300), over))
    if plan.digest:
        name = f"item {shown(digest_id(plan.bucket, plan.key), 300)} of table {shown(table, 100)}"
        condition = "the digest is as this page shows it, and the lock is still ours, in one transaction"
        calls.append(Call(_digest_operation(plan.digest), name, condition))
    if plan.held:
        calls.append(Call("s3:DeleteObject", file, "it is still our own lock (If-Match)"))
        if table:
            calls.append(Call("dynamodb:DeleteItem", item, "its Info is still our own"))
    return tuple(calls)


def _digest_operation(change: DigestChange) -> str:
    if change.new is None:
        return "dynamodb:DeleteItem"
    return "dynamodb:PutItem" if change.absent else "dynamodb:UpdateItem"


def _taking(plan: Plan, item: str, file: str) -> list[Call]:
    taken = {lock.store: lock for lock in plan.over}
    stale = taken.get(LockStore.TFLOCK)
    calls = [
        Call(
            "s3:PutObject",
            file,
            f"its ETag is {shown(stale.etag or '', 80)} (If-Match)"
            if stale
            else "none stands there (If-None-Match: *)",
        )
    ]
    if plan.table:
        over = (
            "its Info is exactly what this page shows"
            if LockStore.DYNAMODB in taken
            else "no lock stands there"
        )
        calls.append(Call("dynamodb:PutItem", item, over))
    return calls
