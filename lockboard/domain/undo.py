"""Taking an action back: a plan like any other, made of the record of what was done and of what stands now.
Refused where the world has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lockboard.domain.audit import Kind, Record, Result
from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest, parse_digest
from lockboard.domain.holders import held_locks
from lockboard.domain.locks import LockStore, exact_record
from lockboard.domain.model import Action, History, Observation, StateObject
from lockboard.domain.plans import (
    DigestChange,
    Plan,
    Refused,
    Situation,
    Source,
    begun,
    completed,
    never,
    standing_of,
)
from lockboard.domain.text import spoken_span, spoken_time

UNDO = "undo"
"""The action's name in the log."""
LOCK_RETURNS_WITHIN = timedelta(minutes=15)
"""A lock is put back only this long after its removal: later nobody expects its holder."""
_CLOCKS_DIFFER = timedelta(minutes=1)
"""By which a removal may lie ahead: the log's records can be another host's."""

Facts = Mapping[str, Any]


def can_be_undone(record: Record) -> bool:
    """Whether a record tells of a change that may be taken back while the world stays as it is."""
    plan = record.entry.facts.get("plan")
    if (
        record.entry.kind is not Kind.OUTCOME
        or record.entry.result != Result.DONE
        or record.entry.action == UNDO
    ):
        return False
    if not isinstance(plan, Mapping):
        return False
    if plan.get("releases"):
        return all(_text_of(lock) for lock in plan["releases"])
    if plan.get("restores") and not (plan.get("standing") or {}).get("size"):
        return False
    change = plan.get("digest")
    return not change or bool(change["absent"]) or _digest_text(change) is not None


def version_undone_to(record: Record) -> str:
    """The version that an undo of a restore puts back, "" for any other action."""
    plan = record.entry.facts.get("plan") or {}
    standing = plan.get("standing") if plan.get("restores") else None
    return str(standing.get("version_id") or "") if standing else ""


def undo_plan(record: Record, situation: Situation) -> Plan | Refused:
    """How to take back what `record` tells, or why that is not possible (any more)."""
    seen = situation.seen
    refused = never(situation)
    if refused:
        return refused
    if not can_be_undone(record):
        return Refused(_why_not(record))
    if held_locks(seen):
        return Refused("A lock is held now, so this is not taken back.")
    facts = record.entry.facts["plan"]
    if (facts["bucket"], facts["table"]) != (seen.bucket, situation.table):
        return Refused("The backend had another bucket or lock table then, so this is not taken back.")
    if facts["releases"]:
        plan = _lock_back(facts, record, seen, situation.now + (seen.clock_skew or timedelta()))
    elif facts["restores"]:
        plan = _version_back(facts, record.entry.facts, seen, situation.versioning)
    else:
        plan = _digest_back(facts, seen)
    return plan if isinstance(plan, Refused) else completed(plan, situation)


def _why_not(record: Record) -> str:
    entry = record.entry
    if entry.action == UNDO:
        return "An undo is not undone: do the action again from the state's page."
    if entry.result in (Result.REFUSED, Result.NO_CHANGE):
        return "Nothing was changed by this attempt, so there is nothing to take back."
    if entry.kind is not Kind.OUTCOME or entry.result != Result.DONE:
        return "What this record tells of is not taken back from here: look at what stands now."
    plan = entry.facts.get("plan") or {}
    if plan.get("restores") and not (plan.get("standing") or {}).get("size"):
        return (
            "The version was restored where no state stood. Taking that back would mean deleting a state,"
            " which Lockboard never does."
        )
    if not plan.get("releases"):
        return "The digest was of a kind that Terraform ignores; it is not written again."
    return "The lock's exact record is not known, so it cannot be put back."


def _text_of(lock: Facts) -> str:
    """The exact text of a lock record, "" where it is not known to be exact."""
    if lock["store"] == LockStore.DYNAMODB:
        text = (lock.get("attribute") or {}).get("S")
        return text if isinstance(text, str) else ""
    return exact_record(str(lock.get("raw") or ""))


def _digest_text(change: Facts) -> str | None:
    """The digest that stood before, None where none did or Terraform ignored it."""
    digest = parse_digest(change["old"])
    return digest.raw if digest.valid else None


def _lock_back(facts: Facts, record: Record, seen: Observation, now: datetime) -> Plan | Refused:
    """now: by our own clock, as the log's."""
    # The log's times never go back: after a clock that was ahead, its latest may lie in the future.
    if not -_CLOCKS_DIFFER <= now - record.at <= LOCK_RETURNS_WITHIN:
        return Refused(
            f"A lock is put back within {spoken_span(LOCK_RETURNS_WITHIN)} of its removal, not later."
            f" By the log's clock that was {spoken_time(record.at)}."
        )
    return replace(
        begun(Action.FORCE_UNLOCK, seen, "Put the lock back"),
        puts_back=tuple((LockStore(lock["store"]), _text_of(lock)) for lock in facts["releases"]),
        consequences=(
            "The lock stands again with its old ID: its holder can release it, and everybody else waits.",
        ),
    )


def _digest_back(facts: Facts, seen: Observation) -> Plan | Refused:
    change = facts["digest"]
    now = seen.digest if isinstance(seen.digest, Digest) else None
    moved = _moved(facts["standing"], seen.state)
    if moved or (now.value if now else None) != change["new"]:
        return Refused("The state or its digest changed since, so this is not taken back.")
    old = _digest_text(change)
    if not change["absent"] and old is None:
        return Refused("The digest was of a kind that Terraform ignores; it is not written again.")
    plan = _under_lock(seen, Action.SET_DIGEST if old else Action.CLEAR_DIGEST)
    return replace(
        plan,
        title=f"Set the digest back to {old}" if old else "Remove the digest entry again",
        digest=DigestChange(now is None, now.attribute if now else None, old),
        confirm_why="This brings back what was repaired: Terraform then judges the state as it did before.",
        consequences=("The digest is again what it was before the repair.",),
    )


def _version_back(facts: Facts, outcome: Facts, seen: Observation, versioning: str) -> Plan | Refused:
    standing, state = facts["standing"], seen.state
    written = _written(facts["restores"], outcome)
    if written is None:
        return Refused(
            "Which version the restore wrote is not known, so neither is whether the state was written since."
        )
    if not isinstance(state, StateObject) or state.version_id != written:
        return Refused("The state was written since the restore, so that is not taken back.")
    if versioning != "enabled" or not isinstance(seen.history, History):
        return Refused("The versions of this key could not be read, or the bucket does not keep them.")
    version = next((v for v in seen.history.versions if v.version_id == standing["version_id"]), None)
    body = version.body if version else None
    if version is None or not isinstance(body, Body) or body.kind is BodyKind.EMPTY:
        return Refused("The version that stood before is gone, empty, or could not be read.")
    now = seen.digest if isinstance(seen.digest, Digest) else None
    change = facts["digest"]
    back = None
    if change:
        old = _digest_text(change)
        if not now or now.value != change["new"] or old is None:
            return Refused("The digest changed since, or was of a kind that Terraform ignores.")
        back = DigestChange(False, now.attribute, old)
    written_at = spoken_time(version.last_modified)
    return replace(
        _under_lock(seen, Action.RESTORE_VERSION),
        title=f"Put the version of {written_at} back, which stood before the restore",
        restores=Source(
            version.version_id, body.md5, body.size, body.serial, body.lineage, written_at, body.resources
        ),
        digest=back,
        confirm_why="This brings back what was repaired: Terraform then judges the state as it did before.",
        consequences=("Its bytes are written as a new version; nothing is removed from the history.",),
    )


def _written(source: Facts, outcome: Facts) -> str | None:
    """The version that a restore made: as AWS named it, or, where its answer was lost, as the reading shows
    that found these very bytes afterwards.
    """
    named = (outcome.get("written") or {}).get("version_id")
    after = outcome.get("after") or {}
    found = after.get("version_id") if after.get("md5") == source["md5"] else None
    return named or found


def _under_lock(seen: Observation, action: Action) -> Plan:
    state = seen.state if isinstance(seen.state, StateObject) else None
    return replace(
        begun(action, seen, ""),
        held=True,
        standing=standing_of(state) if state else None,
    )


def _moved(standing: Facts | None, state: object) -> bool:
    if not isinstance(state, StateObject):
        return standing is not None
    return standing is None or (state.etag, state.version_id) != (standing["etag"], standing["version_id"])
