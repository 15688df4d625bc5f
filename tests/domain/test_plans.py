"""Plans: what may be done, from any combination of facts whatever."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.diagnose import diagnose
from lockboard.domain.digests import Digest, parse_digest
from lockboard.domain.holders import held_locks
from lockboard.domain.locks import lock_from_item
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
from lockboard.domain.plans import Plan, Refused, Situation, Wanted, confirm_name, plan_for
from tests.domain.strategies import NOW, POLICY, many_inputs, observation

SETTLED = timedelta(minutes=1)
DEAD = (
    LockStatus.CRASHED_MID_WRITE,
    LockStatus.LOCK_STALE,
    LockStatus.LOCK_ORPHAN,
    LockStatus.LOCKBOARD_ORPHAN,
    LockStatus.LOCK_UNREADABLE,
)


def asked(rnd: Random, seen: Observation) -> Wanted:
    versions = seen.history.versions if isinstance(seen.history, History) else ()
    action = rnd.choice(list(Action))
    restores = action in (Action.RESTORE_VERSION, Action.TAKE_OVER) and rnd.random() < 0.8
    version = rnd.choice([v.version_id for v in versions] or ["gone"]) if restores else ""
    return Wanted(action, rnd.choice(("", "", "dynamodb", "tflock")), version)


def plan_of(
    wanted: Wanted, seen: Observation, verdict: Verdict, versioning: str = "enabled"
) -> Plan | Refused:
    table = "locks" if seen.has_table else None
    return plan_for(wanted, Situation(seen, verdict, POLICY, NOW, "0" * 16, table, versioning, "eu-west-1"))


def drawn(rnd: Random) -> tuple[Wanted, Observation, Verdict, Plan | Refused]:
    seen = observation(rnd)
    seen = (
        replace(seen, mismatch_since=NOW - SETTLED, locks_since=NOW - SETTLED) if rnd.random() < 0.7 else seen
    )
    verdict, wanted = diagnose(seen, POLICY, NOW), asked(rnd, seen)
    return (
        wanted,
        seen,
        verdict,
        plan_of(wanted, seen, verdict, rnd.choice(("enabled", "enabled", "off", "unknown"))),
    )


@many_inputs
def test_anything_asked_of_anything_seen_is_a_plan_or_a_reason(rnd: Random) -> None:
    _, _, _, plan = drawn(rnd)

    if isinstance(plan, Refused):
        assert plan.reason.endswith((".", ")"))
        return
    text = json.dumps(plan.facts(), default=str)
    assert text.isascii()
    assert len(plan.fingerprint()) == 64
    assert plan.calls
    assert bool(plan.confirm) == bool(plan.confirm_why)
    assert all(said.endswith(".") for said in plan.consequences)


@many_inputs
def test_nothing_is_planned_on_what_is_not_known(rnd: Random) -> None:
    _, seen, verdict, plan = drawn(rnd)

    unread = any(
        isinstance(part, Unread) for part in (seen.state, seen.digest, seen.table_lock, seen.file_lock)
    )
    if unread or verdict.lock in (LockStatus.KEY_COLLISION, LockStatus.UNKNOWN):
        assert isinstance(plan, Refused)
    if verdict.content in (Content.STATE_UNREADABLE, Content.UNKNOWN):
        assert isinstance(plan, Refused)


@many_inputs
def test_no_repair_is_planned_under_a_lock_that_may_be_alive(rnd: Random) -> None:
    _, seen, verdict, plan = drawn(rnd)
    if isinstance(plan, Refused) or not plan.held:
        return

    assert plan.over == held_locks(seen)
    assert not plan.over or (plan.action is Action.TAKE_OVER and verdict.lock in DEAD and plan.confirm)
    if verdict.lock is LockStatus.LOCK_UNREADABLE:
        assert not any(lock.readable for lock in plan.over)
    assert not plan.releases


@many_inputs
def test_a_release_names_only_locks_that_stand_and_are_nothing_else(rnd: Random) -> None:
    _, seen, _, plan = drawn(rnd)
    if isinstance(plan, Refused):
        return

    assert set(map(id, plan.releases)) <= set(map(id, held_locks(seen)))
    assert all(lock.occupied_by is None for lock in plan.releases)
    ids = {lock.info.id if lock.info else None for lock in plan.releases}
    assert len(plan.releases) < 2 or (len(ids) == 1 and None not in ids)


@many_inputs
def test_a_digest_is_only_ever_set_to_the_md5_of_bytes_that_were_read(rnd: Random) -> None:
    _, seen, _, plan = drawn(rnd)
    if isinstance(plan, Refused) or plan.digest is None:
        return

    held = seen.digest if isinstance(seen.digest, Digest) else None
    assert (plan.digest.absent, plan.digest.old) == (held is None, held.attribute if held else None)
    if plan.restores:
        assert plan.digest.new == plan.restores.md5
    elif plan.digest.new is None:
        assert plan.action is Action.CLEAR_DIGEST
        assert plan.confirm
    else:
        assert isinstance(seen.state, StateObject)
        assert isinstance(seen.state.body, Body)
        assert seen.state.body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)
        assert plan.digest.new == seen.state.body.md5


@many_inputs
def test_only_a_state_of_the_same_lineage_is_ever_put_back(rnd: Random) -> None:
    _, seen, _, plan = drawn(rnd)
    if isinstance(plan, Refused) or plan.restores is None:
        return

    assert isinstance(seen.history, History)
    version = next(v for v in seen.history.versions if v.version_id == plan.restores.version_id)
    assert isinstance(version.body, Body)
    assert version.body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)
    assert not version.delete_marker
    assert plan.confirm
    bodies = [seen.state.body] if isinstance(seen.state, StateObject) else []
    bodies += [v.body for v in seen.history.versions]
    states = [b for b in bodies if isinstance(b, Body) and b.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)]
    lineages = [b.lineage for b in states if b.lineage]
    assert states[0] == version.body or not lineages or lineages[0] == version.body.lineage
    newest = max((b.serial or 0 for b in states if b is not version.body), default=-1)
    assert bool(plan.accept_serial) == ((version.body.serial or 0) < newest)
    standing = seen.state if isinstance(seen.state, StateObject) else None
    assert (plan.standing.etag if plan.standing else None) == (standing.etag if standing else None)


@many_inputs
def test_what_is_recommended_can_be_done(rnd: Random) -> None:
    seen = replace(observation(rnd), has_table=True)  # without one there is no digest to read either
    verdict = diagnose(seen, POLICY, NOW)
    for remedy in verdict.remedies:
        wanted = Wanted(remedy.action, remedy.store or "", remedy.version_id or "")
        plan = plan_of(wanted, seen, verdict)
        if isinstance(plan, Refused):
            unread = "could not be read" in plan.reason
            lineage = not remedy.recommended and "another lineage" in plan.reason
            at_work = "Lockboard itself is at work" in plan.reason
            assert unread or lineage or at_work or plan.gone, (remedy, plan.reason)
        else:
            assert plan.recommended == remedy.recommended


def test_the_last_state_of_a_stack_that_was_begun_anew_is_put_back_and_those_before_it_are_not() -> None:
    anew, before = (
        Version(
            name,
            NOW - timedelta(days=days),
            etag=md5,
            size=900,
            body=Body(md5, 900, BodyKind.STATE, serial=1, lineage=lineage, resources=3),
        )
        for name, days, md5, lineage in (("v2", 1, "b" * 32, "anew"), ("v1", 9, "a" * 32, "before"))
    )
    marker = Version("marker", NOW - timedelta(hours=1), delete_marker=True, latest=True)
    for digest in (None, parse_digest({"S": "b" * 32})):
        seen = Observation(
            "dev",
            "b",
            "app.tfstate",
            None,
            digest,
            None,
            None,
            history=History((marker, anew, before)),
            mismatch_since=NOW - SETTLED,
        )
        verdict = diagnose(seen, POLICY, NOW)
        recommended = [remedy.version_id for remedy in verdict.remedies if remedy.recommended]

        assert recommended == ["v2"]
        assert isinstance(plan_of(Wanted(Action.RESTORE_VERSION, version_id="v2"), seen, verdict), Plan)
        other = plan_of(Wanted(Action.RESTORE_VERSION, version_id="v1"), seen, verdict)
        assert isinstance(other, Refused)
        assert "another lineage" in other.reason


@many_inputs
def test_two_plans_have_one_fingerprint_only_if_they_do_the_same(rnd: Random) -> None:
    wanted, seen, verdict, plan = drawn(rnd)
    if isinstance(plan, Refused):
        return

    assert plan_of(wanted, seen, verdict) == plan or plan.fingerprint()
    for changed in (
        replace(plan, key=plan.key + "x"),
        replace(plan, releases=plan.releases[1:]) if plan.releases else replace(plan, held=not plan.held),
    ):
        assert changed.fingerprint() != plan.fingerprint()


def test_a_plan_that_became_risky_is_another_plan() -> None:
    """The other half of a split lock was released meanwhile, or the dead run wrote: nobody saw that page."""
    lock = lock_from_item({"S": json.dumps({"ID": "one", "Who": "kim"})})
    state = StateObject("e" * 32, 9, NOW, "v2", None, Body("e" * 32, 9, BodyKind.STATE, None, 4, 2, "one"))
    seen = Observation("dev", "b", "server/terraform.tfstate", state, None, lock, None, has_table=True)
    fingerprints = set()
    for status in (LockStatus.LOCK_STALE, LockStatus.LOCKED_ACTIVE, LockStatus.LOCK_SPLIT):
        verdict = replace(diagnose(seen, POLICY, NOW), lock=status)
        plan = plan_of(Wanted(Action.FORCE_UNLOCK, "dynamodb"), seen, verdict)
        assert isinstance(plan, Plan)
        fingerprints.add(plan.fingerprint())

    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("remote", "remote"),
        ("server/terraform.tfstate", "server"),
        ("Dev/terraform/iam/terraform.tfstate", "iam"),
        ("env:/staging/app.tfstate", "app.tfstate"),
        ("terraform.tfstate", "terraform.tfstate"),
        ("a/terraform.tfstate/terraform.tfstate", "a"),
        ("한국/terraform.tfstate", "0123456789abcdef"),
        ("with space/terraform.tfstate", "0123456789abcdef"),
        ("<script>", "0123456789abcdef"),
        ("x" * 41, "0123456789abcdef"),
        ("/", "0123456789abcdef"),
    ],
)
def test_the_name_to_type_is_short_and_can_be_typed(key: str, name: str) -> None:
    assert confirm_name(key, "0123456789abcdef") == name


def test_a_protected_key_asks_for_its_name_whatever_is_done() -> None:
    policy = Policy(protected=True)
    seen = Observation(
        "dev",
        "b",
        "server/terraform.tfstate",
        StateObject(
            "e" * 32,
            9,
            NOW - timedelta(hours=2),
            "v2",
            None,
            Body("e" * 32, 9, BodyKind.STATE, None, 4, 2, "one"),
        ),
        Digest(None, "x", "it is not hexadecimal", {"S": "x"}),
        None,
        None,
        history=History((Version("v2", NOW, latest=True),)),
    )
    verdict = diagnose(seen, policy, NOW)

    situation = Situation(seen, verdict, policy, NOW, "0" * 16, "locks", "enabled", "eu-west-1")
    plan = plan_for(Wanted(Action.SET_DIGEST), situation)

    assert isinstance(plan, Plan)
    assert (plan.confirm, plan.recommended) == ("server", True)
