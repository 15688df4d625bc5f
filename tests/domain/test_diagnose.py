"""What holds of every verdict, whatever was observed; and the decision table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

import pytest

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.diagnose import diagnose
from lockboard.domain.digests import MD5_OF_NOTHING, Digest, parse_digest
from lockboard.domain.holders import held_locks
from lockboard.domain.locks import Lock, LockInfo, LockStore, UnreadableLock, lock_from_item, parse_created
from lockboard.domain.model import (
    Action,
    Content,
    Effect,
    History,
    LockStatus,
    Observation,
    Policy,
    Severity,
    StateObject,
    Unread,
    Verdict,
    Version,
)
from tests.domain.strategies import NOW, POLICY, many_inputs, observation, some_inputs
from tests.domain.test_text import is_clean

DELETED = (
    Content.STATE_DELETED,
    Content.STATE_DELETED_AMBIGUOUS,
    Content.STATE_DELETED_UNPROTECTED,
    Content.ORPHAN_DIGEST,
)
REPAIRS = (Action.SET_DIGEST, Action.CLEAR_DIGEST, Action.RESTORE_VERSION)
LIVE = (LockStatus.LOCKED, LockStatus.LOCKED_ACTIVE, LockStatus.LOCK_SPLIT, LockStatus.LOCK_PARTIAL)


def recommended(verdict: Verdict) -> list[Action]:
    return [remedy.action for remedy in verdict.remedies if remedy.recommended]


# ---- what holds of every verdict ---------------------------------------------


@many_inputs
def test_nothing_unread_or_unverified_is_ever_healthy(rnd: Random) -> None:
    seen = observation(rnd)
    verdict = diagnose(seen, POLICY, NOW)
    state = seen.state
    verified = state is None or (
        isinstance(state, StateObject)
        and not isinstance(state.body, Unread)
        and (
            state.body is not None
            or state.size == 0
            or (isinstance(seen.digest, Digest) and state.etag == seen.digest.value)
        )
    )
    content_known = verified and not isinstance(seen.digest, Unread)
    locks_known = not any(isinstance(part, Unread) for part in (seen.table_lock, seen.file_lock))

    if not content_known:
        assert verdict.content is not Content.OK
    if not content_known or not locks_known:
        assert verdict.severity is not Severity.OK
        assert verdict.terraform is not Effect.WORKS
    if not locks_known:
        assert verdict.lock is LockStatus.UNKNOWN


@some_inputs
def test_equal_observations_have_equal_verdicts(rnd: Random) -> None:
    seen = observation(rnd)

    assert diagnose(seen, POLICY, NOW) == diagnose(replace(seen), POLICY, NOW)


@many_inputs
def test_time_alone_settles_what_was_open_and_ages_a_lock_and_nothing_else(rnd: Random) -> None:
    seen = observation(rnd)
    later = NOW + timedelta(seconds=rnd.choice((rnd.uniform(0, 60), rnd.uniform(0, 10**6))))
    now, then = diagnose(seen, POLICY, NOW), diagnose(seen, POLICY, later)

    assert now.content == then.content or now.content is Content.SETTLING
    if now.lock != then.lock and now.content is not Content.SETTLING:
        aging = (LockStatus.LOCKED, LockStatus.LOCKED_ACTIVE, LockStatus.LOCK_PARTIAL)
        assert now.lock in aging
    if (now.content, now.lock, now.settles_at, then.settles_at) == (then.content, then.lock, None, None):
        assert now == then


def test_a_lock_by_a_clock_that_is_ahead_does_not_grow_young() -> None:
    """It was found split, within five minutes of its time taken for one just made, and then split again."""
    seen = seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE, "id-2", ago=-6 * MINUTE))
    later = [diagnose(seen, POLICY, NOW + minutes * MINUTE).lock for minutes in range(10)]

    assert set(later) == {LockStatus.LOCK_SPLIT}


@many_inputs
def test_a_verdict_that_is_not_open_says_so_and_one_that_is_names_a_time_to_come(rnd: Random) -> None:
    seen = observation(rnd)
    verdict = diagnose(seen, POLICY, NOW)

    if verdict.content is Content.SETTLING:
        assert verdict.settles_at is not None
    if verdict.settles_at is not None:
        assert verdict.settles_at > NOW
        assert verdict.content is Content.SETTLING or verdict.lock is LockStatus.LOCKED


@many_inputs
def test_under_a_lock_that_may_be_live_nothing_is_offered_but_an_unlock_that_is_not_recommended(
    rnd: Random,
) -> None:
    seen = observation(rnd)
    verdict = diagnose(seen, POLICY, NOW)

    beside = verdict.lock is LockStatus.LOCK_UNREADABLE and any(lock.readable for lock in held_locks(seen))
    if verdict.lock in LIVE or beside:
        assert recommended(verdict) == []
        assert {remedy.action for remedy in verdict.remedies} <= {Action.FORCE_UNLOCK}


@many_inputs
def test_nothing_is_offered_where_something_is_not_known(rnd: Random) -> None:
    verdict = diagnose(observation(rnd), POLICY, NOW)

    open_content = (Content.UNKNOWN, Content.STATE_UNREADABLE, Content.SETTLING)
    if verdict.content in open_content or verdict.lock in (LockStatus.UNKNOWN, LockStatus.KEY_COLLISION):
        assert verdict.remedies == ()


@many_inputs
def test_the_recommended_remedy_comes_first_and_one_repair_at_most_is_recommended(rnd: Random) -> None:
    verdict = diagnose(observation(rnd), POLICY, NOW)

    flags = [remedy.recommended for remedy in verdict.remedies]
    assert flags == sorted(flags, reverse=True)
    assert len([action for action in recommended(verdict) if action in REPAIRS]) <= 1
    assert Action.CLEAR_DIGEST not in recommended(verdict)
    if verdict.content in (*DELETED, Content.STATE_EMPTY, Content.STATE_CORRUPT):
        assert Action.SET_DIGEST not in recommended(verdict)


@many_inputs
def test_a_remedy_names_a_version_that_can_be_a_state_or_a_digest_that_the_object_has(rnd: Random) -> None:
    seen = observation(rnd)

    for remedy in diagnose(seen, POLICY, NOW).remedies:
        if remedy.action is Action.RESTORE_VERSION:
            assert isinstance(seen.history, History)
            (version,) = [v for v in seen.history.versions if v.version_id == remedy.version_id]
            assert not version.delete_marker
            assert version.size > 0
            broken = isinstance(version.body, Body) and version.body.kind is BodyKind.BROKEN
            assert not (remedy.recommended and broken)
        if remedy.action is Action.SET_DIGEST:
            assert isinstance(seen.state, StateObject)
            assert isinstance(seen.state.body, Body)
            assert remedy.digest == seen.state.body.md5 != MD5_OF_NOTHING


@many_inputs
def test_every_word_of_a_verdict_is_fit_to_show(rnd: Random) -> None:
    verdict = diagnose(observation(rnd), POLICY, NOW)

    lines = [verdict.summary, *verdict.dangers, *verdict.prints.split("\n")]
    lines += [item for fact in verdict.evidence for item in (fact.fact, fact.source)]
    lines += [item for remedy in verdict.remedies for item in (remedy.why, remedy.lock_id or "")]
    assert verdict.summary
    assert [line for line in lines if not is_clean(line)] == []


_CONTENT_SEVERITY = {
    Content.STATE_CORRUPT: Severity.BLOCKED,
    Content.STATE_DELETED_UNPROTECTED: Severity.CRITICAL,
    Content.UNKNOWN: Severity.UNKNOWN,
    Content.STATE_UNREADABLE: Severity.UNKNOWN,
    Content.SETTLING: Severity.BUSY,
    Content.DIGEST_IGNORED: Severity.ATTENTION,
    Content.OK: Severity.OK,
    Content.NO_DIGEST: Severity.OK,
    Content.ABSENT: Severity.OK,
}
_LOCK_SEVERITY = {
    LockStatus.UNLOCKED: Severity.OK,
    LockStatus.LOCKED: Severity.BUSY,
    LockStatus.LOCKED_ACTIVE: Severity.BUSY,
    LockStatus.UNKNOWN: Severity.UNKNOWN,
}


@many_inputs
def test_the_severity_is_at_least_that_of_the_worse_axis(rnd: Random) -> None:
    verdict = diagnose(observation(rnd), POLICY, NOW)

    lock = _LOCK_SEVERITY.get(verdict.lock, Severity.ATTENTION)
    content = _CONTENT_SEVERITY.get(verdict.content, Severity.BLOCKED)
    if verdict.content is Content.STATE_EMPTY and verdict.terraform is not Effect.BLOCKED:
        content = Severity.CRITICAL
    assert verdict.severity.rank <= min(lock.rank, content.rank)
    if verdict.content is not Content.UNKNOWN and verdict.severity is not Severity.UNKNOWN:
        assert verdict.severity.rank == min(lock.rank, content.rank)


@many_inputs
def test_no_state_counts_as_deleted_while_its_versions_show_one_standing(rnd: Random) -> None:
    seen = observation(rnd)
    verdict = diagnose(seen, POLICY, NOW)

    versions = seen.history.versions if isinstance(seen.history, History) else ()
    if versions and versions[0].latest and not versions[0].delete_marker:
        assert verdict.content not in (*DELETED, Content.ABSENT)


# ---- the decision table ----------------------------------

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
V1, V2, V3 = "1" * 32, "2" * 32, "3" * 32


def state_body(md5: str, serial: int | None, lineage: str = "one", resources: int | None = 3) -> Body:
    return Body(md5, 900, BodyKind.STATE, None, 4, serial, lineage, "1.11.4", resources)


OLD, NEW = state_body(V1, 1), state_body(V2, 2)
BROKEN = Body(V3, 5, BodyKind.BROKEN, "it is not JSON: syntax error at byte offset 3")
EMPTY_BODY = Body(MD5_OF_NOTHING, 0, BodyKind.EMPTY)


def an_object(
    body: Body | Unread | None, etag: str = "kms", ago: timedelta = HOUR, size: int = 900
) -> StateObject:
    return StateObject(etag, body.size if isinstance(body, Body) else size, NOW - ago, "v", None, body)


def version(
    name: str, body: Body | Unread | None, ago: timedelta = HOUR, *, latest: bool = False, etag: str = "x"
) -> Version:
    return Version(name, NOW - ago, False, etag, body.size if isinstance(body, Body) else 900, latest, body)


MARKER = Version("marker", NOW - MINUTE, delete_marker=True, latest=True)


def a_digest(value: str) -> Digest:
    return parse_digest({"S": value})


def a_lock(
    store: LockStore = LockStore.DYNAMODB,
    id: str = "id-1",
    ago: timedelta = MINUTE,
    operation: str = "OperationTypeApply",
) -> Lock:
    acquired = NOW - ago if store is LockStore.TFLOCK else None
    return Lock(
        store,
        "{}",
        LockInfo(id, operation, "", "root@ci", "1.11.4", NOW - ago, "b/app.tfstate"),
        None,
        acquired,
    )


TABLE, FILE = LockStore.DYNAMODB, LockStore.TFLOCK


def seen_with(
    state: StateObject | None | Unread,
    digest: str | Digest | None | Unread = None,
    *versions: Version,
    history: History | Unread | None = None,
    table: Lock | None | Unread = None,
    file: Lock | None | Unread = None,
    key: str = "app.tfstate",
    settled: bool = True,
    **more: object,
) -> Observation:
    first = NOW - MINUTE if settled else NOW - SECOND
    found = Observation(
        backend="dev",
        bucket="b",
        key=key,
        state=state,
        digest=a_digest(digest) if isinstance(digest, str) else digest,
        table_lock=table,
        file_lock=file,
        history=History(versions) if versions else history,
        mismatch_since=first,
        locks_since=first,
    )
    return replace(found, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One situation and what is said of it. `remedy` is recommended first, `version` is restored by it."""

    name: str
    seen: Observation
    content: str
    lock: str
    terraform: str
    severity: str
    remedy: str | None = None
    version: str | None = None


GOOD = an_object(NEW, V2)
NONE = History(())
OLD_LOCK = a_lock(ago=3 * HOUR)
WORKSPACE = "env:/staging/app.tfstate"

CONTENT_ROWS = [
    Row("the ETag is the digest", seen_with(an_object(None, V2), V2), "ok", "unlocked", "works", "ok"),
    Row("the MD5 is the digest", seen_with(an_object(NEW), V2), "ok", "unlocked", "works", "ok"),
    Row(
        "the digest is in upper case",
        seen_with(an_object(state_body("a" * 32, 1)), "A" * 32),
        "ok",
        "unlocked",
        "works",
        "ok",
    ),
    Row(
        "only an ETag that differs is known",
        seen_with(an_object(None), V2),
        "unknown",
        "unlocked",
        "unknown",
        "unknown",
    ),
    Row("no digest", seen_with(GOOD), "no_digest", "unlocked", "works", "ok"),
    Row(
        "no digest and bytes not read",
        seen_with(an_object(None)),
        "no_digest",
        "unlocked",
        "unknown",
        "unknown",
    ),
    Row(
        "a digest without the attribute",
        seen_with(GOOD, parse_digest(None)),
        "digest_ignored",
        "unlocked",
        "works",
        "attention",
        "set_digest",
    ),
    Row(
        "a digest of 31 characters",
        seen_with(GOOD, V2[:31]),
        "digest_ignored",
        "unlocked",
        "works",
        "attention",
        "set_digest",
    ),
    Row(
        "a malformed digest, bytes not read",
        seen_with(an_object(None), "x"),
        "digest_ignored",
        "unlocked",
        "unknown",
        "attention",
    ),
    Row(
        "a mismatch at first sight",
        seen_with(GOOD, V1, settled=False),
        "settling",
        "unlocked",
        "unknown",
        "busy",
    ),
    Row(
        "deleted, the digest names the last version",
        seen_with(None, V2, MARKER, version("v2", NEW), version("v1", OLD)),
        "state_deleted",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted, the ETag alone proves it",
        seen_with(None, V2, MARKER, version("v2", None, etag=V2)),
        "state_deleted",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "emptied, then deleted",
        seen_with(None, V2, MARKER, version("v3", EMPTY_BODY), version("v2", NEW)),
        "state_deleted",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "spoilt, then deleted",
        seen_with(None, V2, MARKER, version("v3", BROKEN), version("v2", NEW)),
        "state_deleted",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted, the digest names an older version",
        seen_with(None, V1, MARKER, version("v2", NEW), version("v1", OLD)),
        "state_deleted_ambiguous",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted, the last version cannot be read",
        seen_with(None, V1, MARKER, version("v2", Unread("denied")), version("v1", OLD)),
        "unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "deleted, no version matches",
        seen_with(None, V3, MARKER, version("v2", NEW)),
        "orphan_digest",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "deleted, only a broken version matches",
        seen_with(None, V3, MARKER, version("v3", BROKEN), version("v2", NEW)),
        "orphan_digest",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "a digest of nothing, only empty versions",
        seen_with(None, MD5_OF_NOTHING, MARKER, version("v1", EMPTY_BODY)),
        "orphan_digest",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "gone without versions",
        seen_with(None, V2, history=NONE),
        "orphan_digest",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "gone, versions not all compared",
        seen_with(None, V3, history=History((MARKER, version("v2", NEW)), complete=False)),
        "unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "gone, versions unread",
        seen_with(None, V2, history=Unread("denied", "AccessDenied", denied=True)),
        "unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "gone at first sight",
        seen_with(None, V2, history=NONE, settled=False),
        "settling",
        "unlocked",
        "unknown",
        "busy",
    ),
    Row(
        "gone in the listing, there in the versions",
        seen_with(None, V2, version("v2", NEW, latest=True)),
        "settling",
        "unlocked",
        "unknown",
        "busy",
    ),
    Row(
        "new in a stack without digests",
        seen_with(None, None, version("v1", OLD, latest=True), file=a_lock(FILE)),
        "settling",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "deleted, no digest left",
        seen_with(None, None, MARKER, version("v2", NEW)),
        "state_deleted_unprotected",
        "unlocked",
        "recreates",
        "critical",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted, digest malformed",
        seen_with(None, "x", MARKER, version("v2", NEW)),
        "state_deleted_unprotected",
        "unlocked",
        "recreates",
        "critical",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted twice",
        seen_with(None, None, MARKER, MARKER, version("v2", NEW)),
        "state_deleted_unprotected",
        "unlocked",
        "recreates",
        "critical",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted after a broken write",
        seen_with(None, None, MARKER, version("v3", BROKEN), version("v2", NEW)),
        "state_deleted_unprotected",
        "unlocked",
        "recreates",
        "critical",
        "restore_version",
        "v2",
    ),
    Row(
        "deleted when it held nothing",
        seen_with(None, None, MARKER, version("v2", state_body(V2, 2, resources=0))),
        "absent",
        "unlocked",
        "works",
        "ok",
    ),
    Row(
        "deleted when it held nothing, then emptied",
        seen_with(
            None, None, MARKER, version("v3", EMPTY_BODY), version("v2", state_body(V2, 2, resources=0))
        ),
        "absent",
        "unlocked",
        "works",
        "ok",
    ),
    Row(
        "nothing, and versions unread",
        seen_with(None, None, history=Unread("denied")),
        "unknown",
        "unlocked",
        "unknown",
        "unknown",
    ),
    Row(
        "nothing, and versions not all listed",
        seen_with(None, None, history=History((), complete=False)),
        "unknown",
        "unlocked",
        "unknown",
        "unknown",
    ),
    Row(
        "the object is newer",
        seen_with(GOOD, V1, version("v2", NEW, latest=True), version("v1", OLD)),
        "digest_behind",
        "unlocked",
        "blocked",
        "blocked",
        "set_digest",
    ),
    Row(
        "the object is newer than one without a serial",
        seen_with(GOOD, V1, version("v2", NEW), version("v1", state_body(V1, None))),
        "digest_behind",
        "unlocked",
        "blocked",
        "blocked",
        "set_digest",
    ),
    Row(
        "the object is older",
        seen_with(an_object(OLD), V2, version("v3", OLD, latest=True), version("v2", NEW)),
        "state_rolled_back",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "the same serial",
        seen_with(an_object(state_body(V3, 2)), V2, version("v3", state_body(V3, 2)), version("v2", NEW)),
        "manual_edit",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "another lineage",
        seen_with(an_object(state_body(V3, 9, "two")), V2, version("v2", NEW)),
        "manual_edit",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "no version matches",
        seen_with(GOOD, V3, version("v2", NEW, latest=True), version("v1", OLD)),
        "digest_unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "the digest names a broken version",
        seen_with(GOOD, V3, version("v2", NEW), version("v3", BROKEN)),
        "digest_unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "the digest names nothing at all",
        seen_with(GOOD, MD5_OF_NOTHING, version("v2", NEW), version("v0", EMPTY_BODY)),
        "digest_unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "no versions to compare",
        seen_with(GOOD, V1, history=Unread("denied")),
        "digest_unknown",
        "unlocked",
        "blocked",
        "blocked",
    ),
    Row(
        "empty with a digest",
        seen_with(an_object(EMPTY_BODY), V2, version("v3", EMPTY_BODY, latest=True), version("v2", NEW)),
        "state_empty",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "empty with the MD5 of nothing",
        seen_with(an_object(EMPTY_BODY, MD5_OF_NOTHING), MD5_OF_NOTHING, version("v2", NEW)),
        "state_empty",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "empty without a digest",
        seen_with(an_object(EMPTY_BODY), None, version("v2", NEW)),
        "state_empty",
        "unlocked",
        "recreates",
        "critical",
        "restore_version",
        "v2",
    ),
    Row(
        "broken without a digest",
        seen_with(an_object(BROKEN), None, version("v3", BROKEN), version("v2", NEW)),
        "state_corrupt",
        "unlocked",
        "fails",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "broken, the digest names the one before",
        seen_with(an_object(BROKEN), V1, version("v3", BROKEN), version("v2", NEW), version("v1", OLD)),
        "state_corrupt",
        "unlocked",
        "blocked",
        "blocked",
        "restore_version",
        "v1",
    ),
    Row(
        "broken, and so is its digest",
        seen_with(an_object(BROKEN), V3, version("v3", BROKEN), version("v2", NEW)),
        "state_corrupt",
        "unlocked",
        "fails",
        "blocked",
        "restore_version",
        "v2",
    ),
    Row(
        "encrypted by OpenTofu",
        seen_with(an_object(Body(V2, 900, BodyKind.ENCRYPTED, serial=2, lineage="one")), V2),
        "ok",
        "unlocked",
        "works",
        "ok",
    ),
    Row(
        "access denied",
        seen_with(Unread("denied", "AccessDenied", denied=True), V2),
        "state_unreadable",
        "unlocked",
        "fails",
        "unknown",
    ),
    Row(
        "bytes denied",
        seen_with(an_object(Unread("denied", denied=True)), V2),
        "state_unreadable",
        "unlocked",
        "fails",
        "unknown",
    ),
    Row("timed out", seen_with(Unread("timed out"), V2), "unknown", "unlocked", "unknown", "unknown"),
    Row(
        "the digest timed out",
        seen_with(GOOD, Unread("timed out")),
        "unknown",
        "unlocked",
        "unknown",
        "unknown",
    ),
]

UNREADABLE_ITEM = lock_from_item({"S": "ask Kim"})
BEHIND = (V1, version("v2", NEW, latest=True), version("v1", OLD))

LOCK_ROWS = [
    Row("nobody", seen_with(GOOD, V2), "ok", "unlocked", "works", "ok"),
    Row("a young lock", seen_with(GOOD, V2, table=a_lock()), "ok", "locked", "waits", "busy"),
    Row(
        "a lock file, no table",
        seen_with(GOOD, None, file=a_lock(FILE), has_table=False),
        "no_digest",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "both stores, one ID",
        seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE)),
        "ok",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "written since",
        seen_with(an_object(NEW, V2, SECOND), V2, table=a_lock()),
        "ok",
        "locked_active",
        "waits",
        "busy",
    ),
    Row(
        "old, but written within the limit",
        seen_with(an_object(NEW, V2, 30 * MINUTE), V2, table=OLD_LOCK),
        "ok",
        "locked_active",
        "waits",
        "busy",
    ),
    Row(
        "older than the limit, no write since",
        seen_with(an_object(NEW, V2, 4 * HOUR), V2, table=OLD_LOCK),
        "ok",
        "lock_stale",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "older than the limit, the last write too",
        seen_with(an_object(NEW, V2, 2 * HOUR), V2, table=OLD_LOCK),
        "ok",
        "lock_stale",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "an absent state under an old lock",
        seen_with(None, None, history=NONE, table=OLD_LOCK),
        "absent",
        "lock_stale",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "state written, digest not",
        seen_with(an_object(NEW, ago=MINUTE), *BEHIND, table=a_lock(ago=2 * MINUTE)),
        "digest_behind",
        "crashed_mid_write",
        "blocked",
        "blocked",
        "take_over",
    ),
    Row(
        "state written a moment ago, digest not",
        seen_with(an_object(NEW, ago=SECOND), *BEHIND, table=a_lock(ago=2 * MINUTE)),
        "settling",
        "locked_active",
        "waits",
        "busy",
    ),
    Row(
        "the same in one store of two",
        seen_with(an_object(NEW, ago=MINUTE), *BEHIND, table=a_lock(ago=2 * MINUTE), lockfile_history=True),
        "digest_behind",
        "crashed_mid_write",
        "blocked",
        "blocked",
        "take_over",
    ),
    Row(
        "a mismatch from before a live lock",
        seen_with(GOOD, *BEHIND, table=a_lock()),
        "digest_behind",
        "locked",
        "blocked",
        "blocked",
    ),
    Row(
        "two holders",
        seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE, "id-2")),
        "ok",
        "lock_split",
        "waits",
        "attention",
    ),
    *(
        Row(
            f"two holders, one by a clock that is {ahead} ahead",
            seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE, "id-2", ago=-ahead)),
            "ok",
            "lock_split",
            "waits",
            "attention",
        )
        for ahead in (SECOND, 2 * MINUTE, 2 * HOUR)
    ),
    Row(
        "two holders at first sight",
        seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE, "id-2"), settled=False),
        "ok",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "two holders over a deleted state",
        seen_with(None, V2, MARKER, version("v2", NEW), table=a_lock(), file=a_lock(FILE, "id-2")),
        "state_deleted",
        "lock_split",
        "blocked",
        "blocked",
    ),
    Row(
        "the table alone in a dual stack",
        seen_with(GOOD, V2, table=a_lock(), lockfile_history=True),
        "ok",
        "lock_partial",
        "waits",
        "attention",
    ),
    Row(
        "the file alone in a dual stack",
        seen_with(GOOD, V2, file=a_lock(FILE)),
        "ok",
        "lock_partial",
        "waits",
        "attention",
    ),
    Row(
        "the file alone in a dual stack, taken just now",
        seen_with(GOOD, V2, file=a_lock(FILE, ago=SECOND), settled=False),
        "ok",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "the file alone, old",
        seen_with(an_object(NEW, V2, 4 * HOUR), V2, file=a_lock(FILE, ago=3 * HOUR)),
        "ok",
        "lock_stale",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "an item nobody can read",
        seen_with(GOOD, V2, table=UNREADABLE_ITEM),
        "ok",
        "lock_unreadable",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "a record without an ID",
        seen_with(GOOD, V2, table=lock_from_item({"S": "{}"})),
        "ok",
        "lock_unreadable",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "an unreadable item beside a live lock file",
        seen_with(GOOD, V2, table=UNREADABLE_ITEM, file=a_lock(FILE)),
        "ok",
        "lock_unreadable",
        "waits",
        "attention",
    ),
    Row(
        "an unreadable item over a deleted state",
        seen_with(None, V2, MARKER, version("v2", NEW), table=UNREADABLE_ITEM),
        "state_deleted",
        "lock_unreadable",
        "blocked",
        "blocked",
        "take_over",
    ),
    Row(
        "a workspace whose state was deleted",
        seen_with(None, V2, MARKER, version("v2", NEW), table=a_lock(), key=WORKSPACE),
        "state_deleted",
        "lock_orphan",
        "waits",
        "blocked",
        "take_over",
    ),
    Row(
        "a workspace whose state was deleted with its digest",
        seen_with(None, None, MARKER, version("v2", NEW), table=a_lock(), key=WORKSPACE),
        "state_deleted_unprotected",
        "lock_orphan",
        "waits",
        "critical",
        "take_over",
    ),
    Row(
        "a workspace that never was",
        seen_with(None, None, history=NONE, table=a_lock(), key=WORKSPACE),
        "absent",
        "lock_orphan",
        "waits",
        "attention",
        "force_unlock",
    ),
    Row(
        "a workspace that is being made",
        seen_with(None, None, history=NONE, table=a_lock(ago=SECOND), key=WORKSPACE, settled=False),
        "absent",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "the digest of another key",
        seen_with(GOOD, V2, table=lock_from_item(None, carries_digest=True)),
        "ok",
        "key_collision",
        "waits",
        "attention",
    ),
    Row(
        "a state at the lock file",
        seen_with(GOOD, V2, file=Lock(FILE, "", None, "it is a state", NOW, occupied_by="state")),
        "ok",
        "key_collision",
        "waits",
        "attention",
    ),
    Row(
        "two states that share a name",
        seen_with(GOOD, V2, sibling="app.tfstate-md5"),
        "ok",
        "key_collision",
        "works",
        "attention",
    ),
    Row(
        "the same while one is locked",
        seen_with(GOOD, V2, table=a_lock(), sibling="app.tfstate-md5"),
        "ok",
        "key_collision",
        "waits",
        "attention",
    ),
    Row(
        "Lockboard at work",
        seen_with(GOOD, V2, table=a_lock(operation="lockboard-repair")),
        "ok",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "Lockboard's lock left behind",
        seen_with(GOOD, V2, table=a_lock(operation="lockboard-repair", ago=3 * MINUTE)),
        "ok",
        "lockboard_orphan",
        "waits",
        "attention",
        "force_unlock",
    ),
    *(
        Row(
            f"Lockboard's lock left behind in the {where}, beside another's",
            seen_with(an_object(NEW, V2, SECOND), V2, file=file, table=table),
            "ok",
            "lock_split",
            "waits",
            "attention",
        )
        for where, file, table in (
            (
                "file",
                a_lock(FILE, "lb-1", operation="lockboard-repair", ago=3 * HOUR),
                a_lock(ago=MINUTE),
            ),
            (
                "table",
                a_lock(FILE, ago=MINUTE),
                a_lock(TABLE, "lb-1", operation="lockboard-repair", ago=3 * HOUR),
            ),
        )
    ),
    Row(
        "Lockboard at work in one store, what it left behind in the other",
        seen_with(
            GOOD,
            V2,
            file=a_lock(FILE, "lb-1", operation="lockboard-repair", ago=3 * HOUR),
            table=a_lock(TABLE, "lb-2", operation="lockboard-repair", ago=MINUTE),
        ),
        "ok",
        "locked",
        "waits",
        "busy",
    ),
    Row(
        "a digest left behind by a move to lock files, under an apply that has written",
        seen_with(an_object(NEW, ago=MINUTE), *BEHIND, file=a_lock(FILE, ago=2 * MINUTE)),
        "digest_behind",
        "locked_active",
        "blocked",
        "blocked",
    ),
    Row(
        "an old lock over a state that cannot be read",
        seen_with(Unread("access denied", denied=True), V2, table=OLD_LOCK),
        "state_unreadable",
        "locked",
        "fails",
        "unknown",
    ),
    Row(
        "the table unread",
        seen_with(GOOD, V2, table=Unread("timed out")),
        "ok",
        "unknown",
        "unknown",
        "unknown",
    ),
    Row(
        "the lock file unread",
        seen_with(GOOD, V2, file=Unread("timed out")),
        "ok",
        "unknown",
        "unknown",
        "unknown",
    ),
]


@pytest.mark.parametrize("row", CONTENT_ROWS + LOCK_ROWS, ids=lambda row: row.name)
def test_the_decision_table_holds(row: Row) -> None:
    verdict = diagnose(row.seen, POLICY, NOW)

    said = (verdict.content, verdict.lock, verdict.terraform, verdict.severity)
    assert said == (row.content, row.lock, row.terraform, row.severity)
    first = verdict.remedies[0] if verdict.remedies and verdict.remedies[0].recommended else None
    assert (first.action if first else None) == row.remedy
    repair = next((r for r in verdict.remedies if r.recommended and r.action is Action.RESTORE_VERSION), None)
    assert (repair.version_id if repair else None) == row.version or row.remedy == "take_over"


def test_every_status_stands_in_the_table() -> None:
    rows = CONTENT_ROWS + LOCK_ROWS

    assert {row.content for row in rows} == set(Content)
    assert {row.lock for row in rows} == set(LockStatus)
    assert {row.terraform for row in rows} == set(Effect)
    assert {row.severity for row in rows} == set(Severity)


# ---- clocks (P36) ------------------------------------------------------------

SKEWS = [timedelta(seconds=s) for s in (-86_400, -3_600, -600, -61, -60, -30, 30, 60, 61, 600, 3_600, 86_400)]


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_no_lock_is_called_stale_by_a_clock_that_is_more_than_a_minute_off(skew: timedelta) -> None:
    seen = seen_with(an_object(NEW, V2, 4 * HOUR), V2, table=OLD_LOCK, clock_skew=skew)
    verdict = diagnose(seen, POLICY, NOW)
    off = abs(skew) > MINUTE

    assert verdict.lock == ("locked" if off else "lock_stale")
    assert off == any("clock" in fact.fact and "stale" in fact.fact for fact in verdict.evidence)


ODD_CREATED = [
    "2026-11-20T10:00:00.717784102Z",
    "2026-11-20T10:00:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-12:00",
    "2026-11-20T10:00:60Z",
    "2026-13-01T00:00:00Z",
    "-1",
    "",
    "2026-W01-1",
    "2026-11-20T18:06:00Z",
    "2027-11-20T10:00:00Z",
]


@pytest.mark.parametrize("created", ODD_CREATED)
def test_an_odd_created_is_an_age_or_an_age_not_known_or_an_unreadable_lock_and_never_breaks(
    created: str,
) -> None:
    lock = lock_from_item(
        {"S": f'{{"ID":"id-1","Operation":"OperationTypeApply","Who":"root@ci","Created":"{created}"}}'}
    )
    verdict = diagnose(seen_with(an_object(NEW, V2, 24 * HOUR), V2, table=lock), POLICY, NOW)

    try:
        known = parse_created(created)
    except UnreadableLock:
        assert verdict.lock == "lock_unreadable"
        return
    if known is None or known > NOW + POLICY.future_tolerance:
        assert verdict.lock == "locked"
    else:
        assert verdict.lock == "lock_stale"


@many_inputs
def test_a_lock_from_the_future_is_never_stale(rnd: Random) -> None:
    created: datetime = NOW + timedelta(seconds=rnd.uniform(0, 10**8))
    lock = Lock(TABLE, "{}", LockInfo("id-1", "OperationTypeApply", "", "root@ci", "1", created))
    policy = Policy(stale_after=timedelta(seconds=rnd.uniform(0.1, 10**5)))

    assert diagnose(seen_with(GOOD, V2, table=lock), policy, NOW).lock is LockStatus.LOCKED


def test_a_lock_file_is_aged_by_the_clock_of_s3_and_not_by_its_holders() -> None:
    file = replace(
        a_lock(FILE, ago=MINUTE), info=replace(a_lock().info or LockInfo(), created=NOW - 24 * HOUR)
    )

    assert diagnose(seen_with(GOOD, None, file=file, has_table=False), POLICY, NOW).lock is LockStatus.LOCKED
