"""The content axis: the state object against its Digest (Terraform's S3 backend, client.go `Get`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.model import Content, History, Observation, Policy, StateObject, Unread, Version
from lockboard.domain.text import spoken_time


@dataclass(frozen=True, slots=True)
class ContentFinding:
    """`refused`: Terraform's digest check stops every command. `matching`: the version whose bytes the digest
    names.

    `body_known`: the bytes were read and are a state, or the ETag proves that they are those of the digest.
    """

    status: Content
    why: str
    refused: bool = False
    matching: Version | None = None
    settles_at: datetime | None = None
    body_known: bool = True


def judge_content(seen: Observation, policy: Policy, now: datetime) -> ContentFinding:
    """What the object and its digest say together."""
    if isinstance(seen.state, Unread):
        return _unread(seen.state, "the state object")
    if isinstance(seen.digest, Unread):
        return ContentFinding(Content.UNKNOWN, f"The digest entry could not be read: {seen.digest.reason}.")
    if seen.state is None:
        return _judge_absence(seen, policy, now)
    if isinstance(seen.state.body, Unread):
        return _unread(seen.state.body, "the state object")
    digest = seen.digest.value if seen.digest else None
    refused = _refused(seen.state, digest)
    if refused is None:
        return ContentFinding(
            Content.UNKNOWN,
            "The state is not verified yet: its bytes have to be read and hashed.",
            body_known=False,
        )
    if refused and (wait := settles_at(seen, policy, now)):
        return ContentFinding(
            Content.SETTLING,
            (
                "Object and digest disagree at first sight; a second look will tell whether a write"
                " is under way."
            ),
            settles_at=wait,
        )
    return _judge_object(seen, seen.state, digest, refused)


def _unread(part: Unread, what: str) -> ContentFinding:
    status = Content.STATE_UNREADABLE if part.denied else Content.UNKNOWN
    return ContentFinding(
        status,
        f"Lockboard could not read {what}: {part.reason}. It is not known to be absent.",
        body_known=False,
    )


def _refused(state: StateObject, digest: str | None) -> bool | None:
    """Whether Terraform's check refuses the object; None where only reading the bytes can tell."""
    if digest is None:
        return False
    if state.size == 0:
        return True  # no bytes are no state to Terraform, which no digest matches, not even their MD5
    if state.md5 is not None:
        return state.md5 != digest
    return False if state.etag == digest else None


def settles_at(seen: Observation, policy: Policy, now: datetime) -> datetime | None:
    """When a disagreement may be called one, or None if that time has come.

    Terraform retries for 10 s, and writes the object before the digest: under a held lock a fresh write
    proves nothing.
    """
    due = (seen.mismatch_since or now) + policy.settle
    changed = _changed_at(seen)
    if changed and (seen.table_lock or seen.file_lock):
        due = max(due, changed + policy.in_flight)
    return due if due > now else None


def _changed_at(seen: Observation) -> datetime | None:
    if isinstance(seen.state, StateObject):
        return seen.state.last_modified
    if seen.history and not isinstance(seen.history, Unread) and seen.history.versions:
        return seen.history.versions[0].last_modified
    return None


def _judge_object(seen: Observation, state: StateObject, digest: str | None, refused: bool) -> ContentFinding:
    matching = _match(seen, digest) if refused else None
    body = state.body if isinstance(state.body, Body) else None
    if state.size == 0:
        return ContentFinding(
            Content.STATE_EMPTY,
            "The state object is empty: Terraform takes it as no state at all.",
            refused,
            matching,
        )
    if body and body.kind is BodyKind.BROKEN:
        return ContentFinding(
            Content.STATE_CORRUPT,
            f"The state object is not a state Terraform can read: {body.problem}.",
            refused,
            matching,
        )
    if refused:
        return _disagreement(seen, state, matching)
    if seen.digest is None:
        return ContentFinding(Content.NO_DIGEST, _no_digest(seen), body_known=body is not None)
    if digest is None:
        return ContentFinding(
            Content.DIGEST_IGNORED,
            f"The digest entry is malformed ({seen.digest.problem}), so Terraform silently skips its check."  # type: ignore[union-attr]
            " A deleted or replaced state would go unnoticed.",
            body_known=body is not None,
        )
    return ContentFinding(Content.OK, "Object and digest match.")


def _no_digest(seen: Observation) -> str:
    if seen.has_table:
        return "There is no digest entry for this state, so Terraform does not check what it reads."
    return "This backend has no lock table, so there are no digests: normal where only lock files are used."


def _match(seen: Observation, digest: str | None) -> Version | None:
    if digest is None or seen.history is None or isinstance(seen.history, Unread):
        return None
    return seen.history.holding(digest)


def _disagreement(seen: Observation, state: StateObject, matching: Version | None) -> ContentFinding:
    if matching is None:
        return ContentFinding(Content.DIGEST_UNKNOWN, _unmatched(seen), True)
    now_body, then_body = state.body, matching.body
    then = f"the version of {spoken_time(matching.last_modified)}"
    if not isinstance(now_body, Body) or not isinstance(then_body, Body):
        why = f"The object does not match its digest, which names {then}; nobody could compare their serials."
        return ContentFinding(Content.DIGEST_UNKNOWN, why, True, matching)
    if not matching.usable:
        why = (
            f"The object does not match its digest, which names {then},"
            " and that is not a state Terraform can read."
        )
        return ContentFinding(Content.DIGEST_UNKNOWN, why, True, matching)
    if now_body.lineage != then_body.lineage:
        why = f"The object was replaced by a state of another lineage; the digest names {then}."
        return ContentFinding(Content.MANUAL_EDIT, why, True, matching)
    serial, named = now_body.serial or 0, then_body.serial or 0  # what gives none has serial 0 to Terraform
    if serial == named:
        why = (
            f"The object differs from {then} that the digest names, yet has the same serial: it"
            " was edited by hand or an update was lost."
        )
        return ContentFinding(Content.MANUAL_EDIT, why, True, matching)
    if serial > named:
        why = f"The object (serial {serial}) is newer than its digest, which names {then} (serial {named})."
        return ContentFinding(Content.DIGEST_BEHIND, why + _left_over(seen), True, matching)
    why = f"The object (serial {serial}) was rolled back: the digest names {then} (serial {named})."
    return ContentFinding(Content.STATE_ROLLED_BACK, why, True, matching)


def _left_over(seen: Observation) -> str:
    if not seen.lockfile_history:
        return ""
    return (
        " Lock files have been used here: if the stack has moved to them, this digest is left over"
        " and stops only clients that use the table."
    )


def _unmatched(seen: Observation) -> str:
    if isinstance(seen.history, Unread):
        return (
            "The object does not match its digest, and its versions could not be listed:"
            f" {seen.history.reason}."
        )
    if seen.history is None or not seen.history.complete:
        return "The object does not match its digest, and not all of its versions could be compared."
    if not seen.history.versions or len(seen.history.versions) == 1:
        return "The object does not match its digest, and there are no older versions to compare with."
    return "The object does not match its digest, and no version in the bucket does."


def _judge_absence(seen: Observation, policy: Policy, now: datetime) -> ContentFinding:
    """The object is proven absent: nothing at the key, or a delete marker on top."""
    digest = seen.digest
    assert not isinstance(digest, Unread)
    if isinstance(seen.history, History) and seen.history.standing:
        why = "The state object appeared while this key was being looked at; a second look will tell."
        return ContentFinding(Content.SETTLING, why, settles_at=now + policy.settle, body_known=False)
    if digest and digest.value:
        if wait := settles_at(seen, policy, now):
            return ContentFinding(
                Content.SETTLING,
                "The digest has no object at first sight; a second look will tell.",
                settles_at=wait,
            )
        return _judge_leftover_digest(seen, digest.value)
    if seen.history is None or isinstance(seen.history, Unread):
        reason = seen.history.reason if seen.history else "not asked yet"
        return ContentFinding(
            Content.UNKNOWN,
            (
                "There is no state object, and whether one was deleted is not known: its versions"
                f" could not be listed ({reason})."
            ),
        )
    newest = seen.history.newest_body
    if newest is None:
        if digest:
            why = (
                "There is no state object and the digest entry left behind is malformed: nothing"
                " stops Terraform from creating everything again."
            )
            return ContentFinding(Content.STATE_DELETED_UNPROTECTED, why)
        if not seen.history.complete:
            why = "There is no state object, and one may have been deleted: its versions were not all listed."
            return ContentFinding(Content.UNKNOWN, why)
        return ContentFinding(
            Content.ABSENT, "There is no state object, and never was one that S3 still knows."
        )
    if isinstance(newest.body, Body) and newest.body.kind is BodyKind.STATE and newest.body.resources == 0:
        return ContentFinding(Content.ABSENT, "The state object was deleted when it held no resources.")
    why = (
        f"The state was deleted (last version {spoken_time(newest.last_modified)}) and no valid digest is"
        " left: nothing stops Terraform from creating everything again."
    )
    return ContentFinding(Content.STATE_DELETED_UNPROTECTED, why)


def _judge_leftover_digest(seen: Observation, digest: str) -> ContentFinding:
    if seen.history is None or isinstance(seen.history, Unread):
        reason = seen.history.reason if seen.history else "not asked yet"
        why = (
            "The state object is gone while its digest remains, and its versions could not be"
            f" listed: {reason}."
        )
        return ContentFinding(Content.UNKNOWN, why, True)
    matching, newest = seen.history.holding(digest), seen.history.newest_usable
    if matching is not None and not matching.usable:
        matching = None
    if matching is not None and matching is newest:
        why = (
            "The state object was deleted; its last version"
            f" ({spoken_time(matching.last_modified)}) is the one the digest names."
        )
        return ContentFinding(Content.STATE_DELETED, why, True, matching)
    if matching is not None and newest is not None and isinstance(newest.body, Body):
        why = (
            "The state object was deleted, and the digest names an older version"
            f" ({spoken_time(matching.last_modified)}) than the last one"
            f" ({spoken_time(newest.last_modified)})."
        )
        return ContentFinding(Content.STATE_DELETED_AMBIGUOUS, why, True, matching)
    if matching is not None or not seen.history.complete:
        return ContentFinding(
            Content.UNKNOWN,
            (
                "The state object is gone while its digest remains, and not all of its versions could"
                " be compared."
            ),
            True,
        )
    return ContentFinding(
        Content.ORPHAN_DIGEST,
        "There is a digest but no state object, and no state among its versions has those bytes.",
        True,
    )
