"""What every status, effect, severity and action is called and means, for somebody new to this stack.

One mapping for each axis, because "unknown", "ok" and "blocked" are values of more than one of them:
`CONTENT_WORDS["unknown"]` is about the state object, `LOCK_WORDS["unknown"]` about its lock. The keys are the
enums of `model`, which equal their plain text, so the text of a stored row finds them as well. `words_for`
takes the enum member itself and chooses the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lockboard.domain.model import Action, Content, Effect, LockStatus, Severity


@dataclass(frozen=True, slots=True)
class Words:
    """title: the few words of a badge, at most 28 characters.  meaning: one or two plain sentences.

    advice: what to do first, and the danger of the obvious wrong way.
    runbook: its page below docs/, None where there is none.
    """

    title: str
    meaning: str
    advice: str
    runbook: str | None = None


def words_for(status: Content | LockStatus | Effect | Severity | Action) -> Words:
    """The words of one member of any of the five enums."""
    return _AXES[type(status)][status]


def _page(status: Content | LockStatus) -> str:
    return f"runbook/{status.value.replace('_', '-')}.md"


def _content(status: Content, title: str, meaning: str, advice: str) -> tuple[Content, Words]:
    return status, Words(title, meaning, advice, None if status is Content.OK else _page(status))


def _lock(status: LockStatus, title: str, meaning: str, advice: str) -> tuple[LockStatus, Words]:
    return status, Words(title, meaning, advice, None if status is LockStatus.UNLOCKED else _page(status))


CONTENT_WORDS: Mapping[str, Words] = dict(
    (
        _content(
            Content.OK,
            "Digest matches",
            "The bytes of the state object are those that the digest in the lock table names.",
            "Nothing to do.",
        ),
        _content(
            Content.NO_DIGEST,
            "No digest",
            "There is no digest entry, so Terraform does not check what it reads. This is normal for a stack"
            " that locks with .tflock files only.",
            "Usually nothing to do. Do not add a digest to a stack that uses only lock files: nobody would"
            " keep it up to date, and the next client with a lock table would be blocked by it.",
        ),
        _content(
            Content.DIGEST_IGNORED,
            "Digest ignored",
            "There is a digest entry, but not in a form that Terraform honours, so its check is silently"
            " switched off.",
            "Set the digest to the MD5 of the current object while nobody applies. Until then the stack"
            " looks protected and is not: if its state is deleted, the next apply creates everything again.",
        ),
        _content(
            Content.SETTLING,
            "Settling",
            "Object and digest disagree at this moment. Terraform writes the object first and the digest"
            " after it, so this may be an apply at work.",
            "Wait for the second look, a few seconds later. Change nothing meanwhile: repairing under a live"
            " apply damages it.",
        ),
        _content(
            Content.STATE_DELETED,
            "State deleted",
            "The state object was deleted, and the digest left behind names its last version, which S3 still"
            " keeps.",
            "Restore that version; the digest is already right. Do not remove the digest, as Terraform's"
            " message advises: the next apply would then create every resource a second time.",
        ),
        _content(
            Content.STATE_DELETED_AMBIGUOUS,
            "Deleted, digest is older",
            "The state object was deleted, and the digest left behind names an older version than the last"
            " one.",
            "Compare the last version with the one that the digest names before restoring either. Restoring"
            " the older one drops the newest resources from the state; removing the digest lets the next"
            " apply create everything again.",
        ),
        _content(
            Content.ORPHAN_DIGEST,
            "Digest without state",
            "There is a digest but no state object, and no version in the bucket has the bytes that the"
            " digest names.",
            "Find out whether this stack still exists; if it does, bring its state back from a backup."
            " Remove the digest only if the stack is known to be gone: otherwise the next apply creates"
            " everything again.",
        ),
        _content(
            Content.STATE_DELETED_UNPROTECTED,
            "Deleted, unprotected",
            "The state object is gone and no valid digest is left, so Terraform takes this for a new stack."
            " A plan shows no error: it creates everything again.",
            "Stop every pipeline of this stack now, then restore the last version. A plan that looks clean"
            " is the danger here.",
        ),
        _content(
            Content.DIGEST_BEHIND,
            "Digest behind state",
            "The state object is newer than its digest: an apply wrote the object, and the digest did not"
            " follow.",
            "Make sure that no apply is running, then set the digest to the object's MD5. Do not restore the"
            " version that the digest names: the resources of the last apply would be in no state.",
        ),
        _content(
            Content.STATE_ROLLED_BACK,
            "State rolled back",
            "The state object is older than the one that the digest names: somebody put an earlier version"
            " back.",
            "Restore the version that the digest names, unless the rollback was meant. Setting the digest to"
            " the calculated value, as Terraform's message advises, accepts the loss of the newer resources.",
        ),
        _content(
            Content.MANUAL_EDIT,
            "Edited or replaced",
            "The state object differs from the version that the digest names without being its successor: it"
            " was edited by hand, replaced by another stack's state, or an update was lost.",
            "Compare the two versions, then restore the one that the digest names or accept the edit."
            " Setting the digest accepts it for good: nobody can see it later.",
        ),
        _content(
            Content.DIGEST_UNKNOWN,
            "Unexplained mismatch",
            "The state object does not match its digest, and Lockboard cannot tell from the versions it"
            " could compare which of the two is right.",
            "Find out who wrote the object and when before changing anything. Setting the digest only"
            " silences the check: it proves nothing about the bytes.",
        ),
        _content(
            Content.STATE_EMPTY,
            "Empty state object",
            "The state object has no bytes. Terraform takes that for no state at all: a valid digest blocks"
            " it, and without one it plans to create everything.",
            "Restore the last good version. Setting the digest to the MD5 of nothing (d41d8cd9…) never"
            " works.",
        ),
        _content(
            Content.STATE_CORRUPT,
            "Broken state",
            "The state object is not a state that Terraform can read: it is cut off, not JSON, or has no"
            " usable version.",
            "Restore the newest version that is a state. Setting the digest to the MD5 of broken bytes only"
            " changes the error.",
        ),
        _content(
            Content.STATE_UNREADABLE,
            "Access to state denied",
            "Lockboard may not read the state object. Denied is not absent: the state may be in perfect"
            " order.",
            "Fix the access first (bucket policy, KMS key, storage class). Remove and overwrite nothing"
            " while it cannot be read.",
        ),
        _content(
            Content.ABSENT,
            "No state",
            "There is no state object, and nothing that S3 still keeps shows one with resources. Usually a"
            " stack before its first apply, or after its last destroy.",
            "Look at the lock: that is what there is to see here. If resources of this stack do exist, stop"
            " applies and look for a backup of its state.",
        ),
        _content(
            Content.UNKNOWN,
            "Not verified",
            "Something needed to judge this state could not be read, or has not been read yet.",
            "Read the reason below and re-check. Do not take this for healthy, and do not take it for"
            " broken.",
        ),
    )
)

LOCK_WORDS: Mapping[str, Words] = dict(
    (
        _lock(LockStatus.UNLOCKED, "Unlocked", "Nobody holds a lock on this state.", "Nothing to do."),
        _lock(
            LockStatus.LOCKED,
            "Locked",
            "Somebody holds the lock. Terraform lets one run at a time work on a state.",
            "Let it finish. Force-unlocking a run that is alive makes two writers, and the last one to write"
            " wins.",
        ),
        _lock(
            LockStatus.LOCKED_ACTIVE,
            "Locked and writing",
            "Somebody holds the lock, and the state was written after the lock was taken: that run is making"
            " progress.",
            "Let it finish. Force-unlocking it makes two writers, and the last one to write wins.",
        ),
        _lock(
            LockStatus.LOCK_STALE,
            "Suspected stale",
            "The lock is older than the limit set for this state, and the state was not written in that"
            " time. That is a suspicion, not proof.",
            "Find the holder's job, host or terminal and make sure that it is dead before unlocking. An"
            " approval prompt or a terraform console holds a lock for hours and is alive.",
        ),
        _lock(
            LockStatus.CRASHED_MID_WRITE,
            "Crashed mid-write",
            "The state was written under this lock but its digest was not: the run probably died between the"
            " two.",
            "Make sure that the run is dead, then repair the digest before the lock is released. Unlocking"
            " first lets a waiting run in, which only meets the mismatch.",
        ),
        _lock(
            LockStatus.LOCK_SPLIT,
            "Two holders",
            "The DynamoDB item and the .tflock object name different runs: both may be writing to this state"
            " at once.",
            "Treat both as alive and ask both, then give every client the same lock settings. One"
            " force-unlock frees one store only, and reports a failure.",
        ),
        _lock(
            LockStatus.LOCK_PARTIAL,
            "Locked in one store only",
            "Only one of the two stores holds a lock, on a state that has used both: clients that look only"
            " at the other store are not kept out.",
            "Make sure whether the holder is alive before unlocking. Where both stores are configured"
            " terraform force-unlock reports a failure here even though it released the lock.",
        ),
        _lock(
            LockStatus.LOCK_UNREADABLE,
            "Unreadable lock",
            "Something stands where the lock belongs, but it is not a lock record that Terraform can read."
            " No run can start, and terraform force-unlock cannot remove it.",
            "Look at the raw record first, then remove exactly that item or object. Make sure that it is not"
            " another key's digest or state.",
        ),
        _lock(
            LockStatus.LOCK_ORPHAN,
            "Lock without state",
            "A workspace is locked whose state object does not exist. terraform force-unlock cannot release"
            " it, because Terraform tries to create the state first.",
            "Decide about the missing state before the lock: once the lock is gone, any command, even"
            " output, writes a new empty state for this workspace.",
        ),
        _lock(
            LockStatus.KEY_COLLISION,
            "Keys collide",
            "Two state keys share a lock ID or a lock file, such as app and app-md5: each can overwrite the"
            " other's lock, digest or state.",
            "Rename one of the two keys. Remove nothing here: what looks like a stuck lock is another"
            " stack's digest or state.",
        ),
        _lock(
            LockStatus.LOCKBOARD_ORPHAN,
            "Unfinished repair",
            "A Lockboard repair took this lock and did not release it: its process ended in between.",
            "Find out how far the repair came before releasing the lock: the state or its digest may be half"
            " repaired.",
        ),
        _lock(
            LockStatus.UNKNOWN,
            "Lock not known",
            "The lock table or the .tflock object could not be read, so the state may be locked.",
            "Read the reason below and re-check. Do not take this for unlocked.",
        ),
    )
)

EFFECT_WORDS: Mapping[str, Words] = {
    Effect.WORKS: Words("Terraform works", "A plan reads this state and goes on.", "Nothing to do."),
    Effect.WAITS: Words(
        "Terraform waits",
        'A plan stops with "Error acquiring the state lock", after waiting as long as -lock-timeout says.',
        "Find out who holds the lock. Commands with -lock=false would run beside the holder: do not use it"
        " to get past.",
    ),
    Effect.BLOCKED: Words(
        "Terraform blocked",
        "Every command that reads the state stops, because the object does not match its digest. Neither"
        " -lock=false nor state push -force gets past this.",
        "Find out which of the two is right before changing either. Terraform's own advice is often the"
        " wrong way round.",
    ),
    Effect.RECREATES: Words(
        "Creates everything again",
        "A plan finds no state, shows no error and proposes to create every resource, beside those that"
        " already exist.",
        "Stop every apply of this stack until its state is back.",
    ),
    Effect.FAILS: Words(
        "Terraform fails",
        "A plan stops with an error, because the state cannot be read or is not a state.",
        "Fix the access or restore a good version; running it again does not help.",
    ),
    Effect.UNKNOWN: Words(
        "Effect not known",
        "Too little could be read to say what a plan would do.",
        "Re-check before anybody runs Terraform here.",
    ),
}

SEVERITY_WORDS: Mapping[str, Words] = {
    Severity.CRITICAL: Words(
        "Critical",
        "The state is gone or empty, and at most a lock stands between it and an apply that creates"
        " everything again.",
        "Act now: stop the pipelines of this stack, then bring its state back.",
    ),
    Severity.BLOCKED: Words(
        "Blocked",
        "Terraform cannot use this state as it is.",
        "Somebody has to repair it; read what happened before choosing how.",
    ),
    Severity.ATTENTION: Words(
        "Needs attention",
        "Something is wrong or suspicious here, although it may not stop Terraform.",
        "Look at it today, and before the next apply.",
    ),
    Severity.UNKNOWN: Words(
        "Not known",
        "Something could not be read, so nothing is claimed about this state.",
        "Fix the access or re-check. It counts as needing attention until it is known to be well.",
    ),
    Severity.BUSY: Words(
        "Busy",
        "Somebody is at work here, or a write may be under way.",
        "Wait; this is what an apply looks like.",
    ),
    Severity.OK: Words("OK", "Nothing is wrong with what was read.", "Nothing to do."),
}

ACTION_WORDS: Mapping[str, Words] = {
    Action.FORCE_UNLOCK: Words(
        "Force-unlock",
        "Remove one lock record, so that the next run can take the lock.",
        "Only when the holder is known to be dead: a living holder goes on writing and nobody is kept out"
        " any more.",
    ),
    Action.SET_DIGEST: Words(
        "Set the digest",
        "Write the MD5 of the current state object into the lock table, so that Terraform accepts the"
        " object.",
        "Only when the object is known to be the right one, and while nobody applies: this switches the"
        " alarm off.",
    ),
    Action.CLEAR_DIGEST: Words(
        "Remove the digest",
        "Delete the digest entry, so that Terraform no longer checks what it reads.",
        "Only for a stack that no longer exists: if its resources do, the next apply creates all of them a"
        " second time.",
    ),
    Action.RESTORE_VERSION: Words(
        "Restore a version",
        "Make one earlier version of the state object the current one again.",
        "Choose the version by its digest, serial and lineage, not by its time alone. Its bytes must stay as"
        " they are, or they will not match the digest.",
    ),
    Action.TAKE_OVER: Words(
        "Take the lock over",
        "Replace a dead holder's lock by one's own without a gap, repair under it, then release.",
        "Only when the holder is known to be dead. Unlocking first and locking after lets a waiting run in"
        " between.",
    ),
}

_AXES: Mapping[type, Mapping[str, Words]] = {
    Content: CONTENT_WORDS,
    LockStatus: LOCK_WORDS,
    Effect: EFFECT_WORDS,
    Severity: SEVERITY_WORDS,
    Action: ACTION_WORDS,
}
