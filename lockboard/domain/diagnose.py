"""The decision: one observation, one verdict. Pure; everything it knows comes in as an argument."""

from __future__ import annotations

from datetime import datetime

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.content import ContentFinding, judge_content
from lockboard.domain.digests import Digest
from lockboard.domain.holders import LockFinding, held_locks, judge_lock
from lockboard.domain.keys import workspace_of
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import (
    Content,
    Effect,
    Evidence,
    History,
    LockStatus,
    Observation,
    Policy,
    Severity,
    StateObject,
    Verdict,
)
from lockboard.domain.remedies import dangers_of, remedies_for
from lockboard.domain.terraform_text import printed
from lockboard.domain.text import shown, spoken_span, spoken_time

_QUIET_LOCKS = (LockStatus.UNLOCKED, LockStatus.LOCKED, LockStatus.LOCKED_ACTIVE)
_HEALTHY_CONTENT = (Content.OK, Content.NO_DIGEST, Content.ABSENT)


def diagnose(seen: Observation, policy: Policy, now: datetime) -> Verdict:
    """Judge one key.

    Args:
        seen: everything that was read, with what could not be read marked as such.
        policy: the limits for this key.
        now: AWS's time as nearly as it is known, with a zone.
    """
    content = judge_content(seen, policy, now)
    lock = judge_lock(seen, content, policy, now)
    effect = _effect(seen, content, lock)
    due = [moment for moment in (content.settles_at, lock.settles_at) if moment]
    return Verdict(
        content=content.status,
        lock=lock.status,
        terraform=effect,
        severity=_severity(content, lock, effect),
        summary=_summary(content, lock),
        remedies=remedies_for(seen, content, lock),
        evidence=_evidence(seen, policy),
        dangers=dangers_of(seen, content, lock),
        prints=printed(seen, effect, content.status, held_locks(seen)),
        settles_at=max(due) if due else None,
        matching_version=content.matching.version_id if content.matching else None,
    )


def _effect(seen: Observation, content: ContentFinding, lock: LockFinding) -> Effect:
    """Digest outranks lock, because init reads before it locks; lock outranks what a plan would find.

    A workspace other than default that has no object is made anew before it is read, and that takes the
    lock first.
    """
    if content.status is Content.STATE_UNREADABLE:
        return Effect.FAILS
    if lock.excludes and seen.state is None and workspace_of(seen.key, seen.workspace_prefix):
        return Effect.WAITS
    if content.refused:
        return Effect.BLOCKED
    if content.status is Content.UNKNOWN or lock.status is LockStatus.UNKNOWN:
        return Effect.UNKNOWN
    if lock.excludes:
        return Effect.WAITS
    if content.status is Content.SETTLING:
        return Effect.UNKNOWN
    if content.status in (Content.STATE_DELETED_UNPROTECTED, Content.STATE_EMPTY):
        return Effect.RECREATES
    if content.status is Content.STATE_CORRUPT:
        return Effect.FAILS
    return Effect.WORKS if content.body_known else Effect.UNKNOWN


def _severity(content: ContentFinding, lock: LockFinding, effect: Effect) -> Severity:
    worst = min(_content_severity(content), _lock_severity(lock), key=lambda severity: severity.rank)
    if effect is Effect.UNKNOWN and not worst.needs_attention and content.status is not Content.SETTLING:
        return Severity.UNKNOWN
    return worst


def _content_severity(content: ContentFinding) -> Severity:
    if content.refused or content.status is Content.STATE_CORRUPT:
        return Severity.BLOCKED
    if content.status in (Content.STATE_DELETED_UNPROTECTED, Content.STATE_EMPTY):
        return Severity.CRITICAL
    if content.status in (Content.UNKNOWN, Content.STATE_UNREADABLE):
        return Severity.UNKNOWN
    if content.status is Content.SETTLING:
        return Severity.BUSY
    return Severity.OK if content.status in _HEALTHY_CONTENT else Severity.ATTENTION


def _lock_severity(lock: LockFinding) -> Severity:
    if lock.status is LockStatus.UNLOCKED:
        return Severity.OK
    if lock.status is LockStatus.UNKNOWN:
        return Severity.UNKNOWN
    return Severity.BUSY if lock.status in _QUIET_LOCKS else Severity.ATTENTION


def _summary(content: ContentFinding, lock: LockFinding) -> str:
    if lock.status is LockStatus.UNLOCKED:
        return content.why
    if content.status in (Content.OK, Content.NO_DIGEST) or (
        content.status is Content.ABSENT and lock.status is not LockStatus.LOCKED
    ):
        return lock.why
    return f"{content.why} {lock.why}"


def _evidence(seen: Observation, policy: Policy) -> tuple[Evidence, ...]:
    facts = [*_object_facts(seen), *_digest_facts(seen), *_history_facts(seen)]
    for lock in held_locks(seen):
        facts.extend(_lock_facts(lock, seen))
    if held_locks(seen):
        facts.append(
            Evidence(f"The stale limit for this key is {spoken_span(policy.stale_after)}.", "settings")
        )
    if seen.clock_skew is not None and abs(seen.clock_skew) > policy.skew_tolerance:
        facts.append(
            Evidence(
                "This computer's clock and AWS's differ by more than 60 s, so no lock is called stale.",
                "AWS Date header",
            )
        )
    return tuple(facts)


def _object_facts(seen: Observation) -> list[Evidence]:
    state = seen.state
    if state is None:
        return [Evidence("There is no current state object.", "S3")]
    if not isinstance(state, StateObject):
        return []
    facts = [Evidence(f"State written {spoken_time(state.last_modified)}, {state.size} bytes.", "S3")]
    if isinstance(state.body, Body):
        facts.append(Evidence(f"MD5 of its bytes: {state.body.md5}.", "S3"))
        if state.body.kind is BodyKind.ENCRYPTED:
            facts.append(
                Evidence("The body is encrypted by OpenTofu: OpenTofu reads it, Terraform cannot.", "S3")
            )
    return facts


def _digest_facts(seen: Observation) -> list[Evidence]:
    if not isinstance(seen.digest, Digest):
        return []
    if seen.digest.value:
        return [Evidence(f"Digest: {seen.digest.value}.", "DynamoDB")]
    return [Evidence(f"The digest entry is malformed: {seen.digest.problem}.", "DynamoDB")]


def _history_facts(seen: Observation) -> list[Evidence]:
    if not isinstance(seen.history, History) or not seen.history.versions:
        return []
    top = seen.history.versions[0]
    if top.delete_marker:
        return [Evidence(f"A delete marker was put on top {spoken_time(top.last_modified)}.", "S3 versions")]
    return []


def _lock_facts(lock: Lock, seen: Observation) -> list[Evidence]:
    source = "DynamoDB" if lock.store is LockStore.DYNAMODB else ".tflock"
    if lock.info is None:
        return [Evidence(f"A lock record that cannot be read: {lock.problem}.", source)]
    clock = "S3's clock" if lock.acquired else "the holder's own clock"
    when = f"since {spoken_time(lock.since)} by {clock}" if lock.since else "with no usable time"
    facts = [
        Evidence(
            f"Held by {shown(lock.info.who, 120)} (claimed, not verified) {when};"
            f" {shown(lock.info.operation, 60)}, version {shown(lock.info.version, 30)}, ID"
            f" {shown(lock.info.id, 60)}.",
            source,
        )
    ]
    if isinstance(seen.state, StateObject) and lock.since:
        after = seen.state.last_modified.replace(microsecond=0) > lock.since
        facts.append(
            Evidence(
                "The state was written after this lock was taken."
                if after
                else "No state write since this lock was taken.",
                source,
            )
        )
    if lock.info.path and lock.info.path != f"{seen.bucket}/{seen.key}":
        facts.append(Evidence(f"The record names another path: {shown(lock.info.path, 300)}.", source))
    return facts
