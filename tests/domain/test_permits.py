"""Who may carry out which plan: every kind of lock under every kind of rights."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from lockboard.domain.access import NO_RIGHTS, Area, Grant, Rights, Role
from lockboard.domain.diagnose import diagnose
from lockboard.domain.locks import LockStore, lock_from_item
from lockboard.domain.model import Action, LockStatus, Policy
from lockboard.domain.permits import SUSPECT, forbidden, may_approve
from lockboard.domain.plans import Plan, Refused, Situation
from tests.domain.strategies import NOW, POLICY, observation

BACKEND, KEY = "prod-kr", "Prod/vpc/terraform.tfstate"
HERE, ELSEWHERE = Area(BACKEND, "Prod/"), Area(BACKEND, "Dev/")
HELD = lock_from_item({"S": '{"ID":"6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f"}'})

MAY = ""


def rights(*grants: Grant) -> Rights:
    return Rights(grants)


NOBODY = NO_RIGHTS
VIEWER = rights(Grant(Role.VIEWER))
AUDITOR = rights(Grant(Role.AUDITOR))
OPERATOR = rights(Grant(Role.OPERATOR))
UNLOCKER = rights(Grant(Role.OPERATOR, unlock_unsuspected=True))
GUARDED = rights(Grant(Role.OPERATOR, protected=True))
BOTH = rights(Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True))
ADMINISTRATOR = rights(Grant(Role.ADMINISTRATOR))
NARROW = rights(Grant(Role.ADMINISTRATOR, HERE))
FOREIGN = rights(Grant(Role.ADMINISTRATOR, ELSEWHERE), Grant(Role.ADMINISTRATOR, Area("dev-kr")))
SPLIT = rights(
    Grant(Role.OPERATOR, HERE),
    Grant(Role.OPERATOR, ELSEWHERE, unlock_unsuspected=True, protected=True),
    Grant(Role.VIEWER, HERE, unlock_unsuspected=True, protected=True),
)
"""An operator here without extras; the extras are for other keys, or on a role that has none."""

NO_ACT = "not act on it"
LIVE = "not suspected stale"
GUARD = "not act on protected keys"

#                suspected                     any other lock
#                open key  protected key       open key  protected key
TABLE = {
    "nobody": (NOBODY, NO_ACT, NO_ACT, NO_ACT, NO_ACT),
    "viewer": (VIEWER, NO_ACT, NO_ACT, NO_ACT, NO_ACT),
    "auditor": (AUDITOR, NO_ACT, NO_ACT, NO_ACT, NO_ACT),
    "operator": (OPERATOR, MAY, GUARD, LIVE, GUARD),
    "operator who unlocks": (UNLOCKER, MAY, GUARD, MAY, GUARD),
    "operator of protected": (GUARDED, MAY, MAY, LIVE, LIVE),
    "operator with both": (BOTH, MAY, MAY, MAY, MAY),
    "administrator": (ADMINISTRATOR, MAY, MAY, MAY, MAY),
    "administrator of here": (NARROW, MAY, MAY, MAY, MAY),
    "administrator elsewhere": (FOREIGN, NO_ACT, NO_ACT, NO_ACT, NO_ACT),
    "extras for other keys": (SPLIT, MAY, GUARD, LIVE, GUARD),
}
SUSPECTED = {LockStatus.LOCK_STALE, LockStatus.CRASHED_MID_WRITE, LockStatus.LOCKBOARD_ORPHAN}


def situation(lock: LockStatus, *, protected: bool) -> Situation:
    seen = replace(observation(Random(1)), backend=BACKEND, key=KEY)
    verdict = replace(diagnose(seen, POLICY, NOW), lock=lock)
    policy = Policy(stale_after=timedelta(hours=1), protected=protected)
    return Situation(seen, verdict, policy, NOW, "0" * 16, "locks", "enabled", "eu-west-1")


def plan(action: Action = Action.FORCE_UNLOCK) -> Plan:
    return Plan(action, BACKEND, "bucket", KEY, "locks", "Force-unlock")


RELEASES = replace(plan(), releases=(HELD,))
TAKES_OVER = replace(plan(Action.TAKE_OVER), held=True, over=(HELD,))
REPAIRS = replace(plan(Action.SET_DIGEST), held=True)
PUTS_BACK = replace(plan(), puts_back=((LockStore.DYNAMODB, "{}"),))


def test_the_suspected_locks_are_those_three() -> None:
    assert SUSPECT == SUSPECTED


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("lock", LockStatus)
@pytest.mark.parametrize("who", TABLE)
@pytest.mark.parametrize("releasing", [RELEASES, TAKES_OVER])
def test_a_plan_that_ends_a_lock_is_allowed_as_the_table_says(
    releasing: Plan, who: str, lock: LockStatus, protected: bool
) -> None:
    held_by, *cells = TABLE[who]
    expected = cells[2 * (lock not in SUSPECTED) + protected]

    found = forbidden(held_by, releasing, situation(lock, protected=protected))

    assert expected in found
    assert bool(expected) == bool(found)


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("lock", LockStatus)
@pytest.mark.parametrize("who", TABLE)
@pytest.mark.parametrize("keeping", [REPAIRS, PUTS_BACK])
def test_a_plan_that_ends_no_lock_asks_for_no_more_than_for_a_suspected_one(
    keeping: Plan, who: str, lock: LockStatus, protected: bool
) -> None:
    held_by, *cells = TABLE[who]
    expected = cells[int(protected)]

    found = forbidden(held_by, keeping, situation(lock, protected=protected))

    assert expected in found
    assert bool(expected) == bool(found)


@pytest.mark.parametrize("lock", LockStatus)
@pytest.mark.parametrize("who", TABLE)
def test_why_nothing_can_be_done_is_told_to_whoever_could_act_and_to_nobody_else(
    who: str, lock: LockStatus
) -> None:
    held_by, first, *_ = TABLE[who]
    refused = Refused("Nobody holds the lock.", gone=True)

    assert (first in forbidden(held_by, refused, situation(lock, protected=True))) is True
    assert bool(first) == bool(forbidden(held_by, refused, situation(lock, protected=True)))


def test_every_refusal_is_a_sentence() -> None:
    said = {
        forbidden(held_by, RELEASES, situation(lock, protected=protected))
        for held_by, *_ in TABLE.values()
        for lock in LockStatus
        for protected in (False, True)
    } - {""}

    assert len(said) == 3
    assert all(text.endswith(".") and text[0].isupper() for text in said)


@pytest.mark.parametrize(
    ("who", "may"),
    [
        ("nobody", False),
        ("viewer", False),
        ("auditor", False),
        ("operator", False),
        ("operator who unlocks", False),
        ("operator of protected", True),
        ("operator with both", True),
        ("administrator", True),
        ("administrator of here", True),
        ("administrator elsewhere", False),
        ("extras for other keys", False),
    ],
)
def test_the_second_person_may_act_on_protected_keys_there(who: str, may: bool) -> None:
    assert may_approve(TABLE[who][0], BACKEND, KEY) is may


@pytest.mark.parametrize("key", ["Prod", "prod/x", "PRod/x", "Pro", "", "x/Prod/", "/Prod/x", "Prod\\x"])
def test_a_key_beside_the_prefix_is_not_of_the_grant(key: str) -> None:
    beside = situation(LockStatus.LOCK_STALE, protected=False)
    beside = replace(beside, seen=replace(beside.seen, key=key))

    assert NO_ACT in forbidden(NARROW, RELEASES, beside)
    assert not may_approve(NARROW, BACKEND, key)


@pytest.mark.parametrize(
    "key", ["Prod/", "Prod/\ud800", "Prod/\u202e\0\n", "Prod/한글", "Prod/" + "x" * 1019]
)
def test_odd_characters_after_the_prefix_change_nothing(key: str) -> None:
    odd = situation(LockStatus.LOCK_STALE, protected=False)
    odd = replace(odd, seen=replace(odd.seen, key=key))

    assert forbidden(NARROW, RELEASES, odd) == ""


def test_rights_go_by_the_key_as_s3_has_it_and_not_as_it_is_shown() -> None:
    """Two keys may be shown alike; a grant for one is none for the other."""
    narrow = rights(Grant(Role.OPERATOR, Area(BACKEND, "a\\u202eb/")))
    alike = situation(LockStatus.LOCK_STALE, protected=False)
    alike = replace(alike, seen=replace(alike.seen, key="a\u202eb/x.tfstate"))

    assert NO_ACT in forbidden(narrow, RELEASES, alike)
