"""Who may look and act where: what no grant gives is denied."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.domain.access import (
    EVERYTHING,
    NO_RIGHTS,
    Actor,
    Area,
    Grant,
    Permission,
    Rights,
    Role,
    in_scope,
    scope_of,
)
from lockboard.domain.areas import common, prefixes_of
from lockboard.domain.audit import Entry, Kind, Person, visible

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KIM = Person("kim", "oidc", "10.0.0.7", "idp|kim")

_PREFIXES = st.text(st.sampled_from("ab/%_\\한\ud83d"), max_size=4)
_BACKENDS = st.sampled_from(["prod", "dev", "prod-kr"])
_AREAS = st.builds(Area, st.sampled_from(["*", "prod", "dev"]), _PREFIXES)
_SCOPES = st.lists(_AREAS, max_size=5).map(scope_of)
_KEYS = st.text(st.sampled_from("ab/%_\\한\ud83d\U0001f512"), max_size=6)
_GRANTS = st.builds(
    Grant, st.sampled_from(Role), _AREAS, unlock_unsuspected=st.booleans(), protected=st.booleans()
)
_RIGHTS = st.lists(_GRANTS, max_size=4).map(lambda grants: Rights(tuple(grants)))


# Areas.


@pytest.mark.parametrize(
    ("area", "backend", "key", "held"),
    [
        (EVERYTHING, "prod", "", True),
        (Area("prod"), "prod", "a", True),
        (Area("prod"), "prod-kr", "a", False),
        (Area("prod"), "Prod", "a", False),
        (Area("prod", "team/"), "prod", "team/vpc", True),
        (Area("prod", "team/"), "prod", "team", False),
        (Area("prod", "team"), "prod", "team-b/vpc", True),
        (Area("prod", "team/"), "prod", "Team/vpc", False),
        (Area("prod", "team/"), "prod", "/team/vpc", False),
        (Area("prod", "%"), "prod", "a", False),
        (Area("prod", "te_m/"), "prod", "team/vpc", False),
        (Area("*", "team/"), "dev", "team/vpc", True),
        (Area("*", "team/"), "dev", "other/team/", False),
        (Area("prod", "é"), "prod", "e\u0301", False),
    ],
)
def test_an_area_holds_the_keys_of_its_backend_that_start_with_its_prefix(
    area: Area, backend: str, key: str, held: bool
) -> None:
    assert area.holds(backend, key) is held


@given(_AREAS, _AREAS, _BACKENDS, _KEYS)
def test_an_area_within_another_holds_no_key_that_the_other_does_not(
    one: Area, other: Area, backend: str, key: str
) -> None:
    if one.within(other):
        assert other.holds(backend, key) >= one.holds(backend, key)


@given(st.lists(_AREAS, max_size=5), _BACKENDS, _KEYS)
def test_a_scope_has_the_keys_of_its_areas_and_no_area_too_many(
    areas: list[Area], backend: str, key: str
) -> None:
    scope = scope_of(areas)
    assert in_scope(scope, backend, key) == any(area.holds(backend, key) for area in areas)
    assert not any(a.within(b) for a, b in product(scope, scope) if a != b)
    assert (scope_of(scope), scope_of(reversed(areas))) == (scope, scope)


def test_everything_leaves_no_other_area_and_nothing_leaves_none() -> None:
    assert scope_of([Area("prod", "a/"), EVERYTHING, Area("dev")]) == (EVERYTHING,)
    assert scope_of([]) == ()
    assert not in_scope((), "prod", "")


@given(_SCOPES, _SCOPES, _BACKENDS, _KEYS)
def test_what_two_scopes_have_in_common_is_what_both_hold(
    one: tuple[Area, ...], other: tuple[Area, ...], backend: str, key: str
) -> None:
    both = in_scope(one, backend, key) and in_scope(other, backend, key)
    assert in_scope(common(one, other), backend, key) == both
    assert common(one, other) == common(other, one)
    assert common(one, (EVERYTHING,)) == one


@given(_SCOPES, _BACKENDS, _KEYS)
def test_the_prefixes_of_a_backend_hold_each_of_its_keys_once_or_not_at_all(
    scope: tuple[Area, ...], backend: str, key: str
) -> None:
    found = [prefix for prefix in prefixes_of(scope, backend) if key.startswith(prefix)]
    assert len(found) == in_scope(scope, backend, key)


# Grants.


def test_a_role_gives_what_it_is_for_and_nothing_else() -> None:
    look, act = Permission.VIEW, Permission.ACT
    assert {role: Grant(role).permissions for role in Role} == {
        Role.VIEWER: {look},
        Role.OPERATOR: {look, act, Permission.AUDIT},
        Role.AUDITOR: {look, Permission.AUDIT},
        Role.ADMINISTRATOR: set(Permission),
    }


def test_the_extras_widen_an_operator_and_nobody_else() -> None:
    gained = {
        role: Grant(role, unlock_unsuspected=True, protected=True).permissions - Grant(role).permissions
        for role in Role
    }
    assert gained == {
        Role.VIEWER: set(),
        Role.OPERATOR: {Permission.UNLOCK_UNSUSPECTED, Permission.ACT_PROTECTED, Permission.APPROVE},
        Role.AUDITOR: set(),
        Role.ADMINISTRATOR: set(),
    }
    assert Permission.ACT_PROTECTED not in Grant(Role.OPERATOR, unlock_unsuspected=True).permissions
    assert Permission.UNLOCK_UNSUSPECTED not in Grant(Role.OPERATOR, protected=True).permissions


@pytest.mark.parametrize("area", [Area("prod"), Area("*", "team/"), Area("prod", "team/")])
def test_who_administers_a_part_does_not_reach_people(area: Area) -> None:
    rights = Rights((Grant(Role.ADMINISTRATOR, area),))
    assert not rights.somewhere(Permission.ADMINISTER)
    assert rights.may(Permission.ACT_PROTECTED, "prod", "team/vpc")


# Rights.


@given(st.sampled_from(Permission), _BACKENDS, _KEYS)
def test_what_no_grant_gives_is_denied(permission: Permission, backend: str, key: str) -> None:
    assert not NO_RIGHTS.may(permission, backend, key)
    assert not NO_RIGHTS.somewhere(permission)
    assert not NO_RIGHTS.everywhere(permission)
    assert (NO_RIGHTS.scope(permission), NO_RIGHTS.roles) == ((), ())


@settings(max_examples=300)
@given(_RIGHTS, st.sampled_from(Permission), _BACKENDS, _KEYS)
def test_the_scope_of_a_permission_is_where_it_may_be_used(
    rights: Rights, permission: Permission, backend: str, key: str
) -> None:
    scope = rights.scope(permission)
    assert in_scope(scope, backend, key) == rights.may(permission, backend, key)
    assert rights.somewhere(permission) == bool(scope)
    assert rights.everywhere(permission) == (scope == (EVERYTHING,))


@given(_RIGHTS, _GRANTS, st.sampled_from(Permission), _BACKENDS, _KEYS)
def test_a_further_grant_takes_nothing_away(
    rights: Rights, grant: Grant, permission: Permission, backend: str, key: str
) -> None:
    more = replace(rights, grants=(*rights.grants, grant))
    assert more.may(permission, backend, key) >= rights.may(permission, backend, key)


@given(_RIGHTS, _BACKENDS, _KEYS)
def test_whoever_may_do_anything_with_a_key_may_look_at_it(rights: Rights, backend: str, key: str) -> None:
    anything = any(rights.may(permission, backend, key) for permission in Permission)
    assert rights.may(Permission.VIEW, backend, key) == anything


def test_a_grant_in_one_area_says_nothing_about_another() -> None:
    rights = Rights((Grant(Role.OPERATOR, Area("dev")), Grant(Role.VIEWER, Area("prod", "team/"))))
    asked = [("dev", "x"), ("prod", "team/x"), ("prod", "x"), ("stage", "team/x")]
    assert [rights.may(Permission.ACT, *place) for place in asked] == [True, False, False, False]
    assert [rights.may(Permission.VIEW, *place) for place in asked] == [True, True, False, False]


def test_two_halves_of_the_estate_are_not_all_of_it() -> None:
    rights = Rights((Grant(Role.VIEWER, Area("dev")), Grant(Role.VIEWER, Area("prod"))))
    assert not rights.everywhere(Permission.VIEW)
    assert Rights((*rights.grants, Grant(Role.VIEWER))).everywhere(Permission.VIEW)


def test_roles_are_named_once_each_from_viewer_to_administrator() -> None:
    held = (Role.ADMINISTRATOR, Role.VIEWER, Role.VIEWER, Role.AUDITOR)
    rights = Rights(tuple(Grant(role, Area(f"b{number}")) for number, role in enumerate(held)))
    assert rights.roles == (Role.VIEWER, Role.AUDITOR, Role.ADMINISTRATOR)


# How long ago somebody proved who they are.


@pytest.mark.parametrize(
    ("ago", "fresh"),
    [
        (timedelta(0), True),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, microseconds=1), False),
        (timedelta(minutes=-1), True),
        (timedelta(minutes=-1, microseconds=-1), False),
        (timedelta(days=365), False),
    ],
)
def test_a_sign_in_is_fresh_for_its_time_and_never_from_the_future(ago: timedelta, fresh: bool) -> None:
    actor = Actor(KIM, NO_RIGHTS, NOON - ago)
    assert actor.is_fresh(NOON, timedelta(minutes=5)) is fresh


def test_an_api_token_has_no_sign_in_to_grow_old() -> None:
    assert Actor(KIM, NO_RIGHTS).is_fresh(NOON, timedelta(0))


# Which records somebody may see.


def _record(backend: str = "", key: str = "") -> Entry:
    return Entry(Kind.INTENT, "force_unlock", KIM, backend=backend, key=key)


def test_a_record_about_no_backend_belongs_to_the_whole_estate_alone() -> None:
    sign_in = _record()
    assert visible(sign_in, (EVERYTHING,))
    assert not visible(sign_in, ())
    assert not visible(sign_in, (Area("prod"),))
    assert not visible(sign_in, (Area("*", "team/"), Area("prod")))
    assert not visible(_record(key="team/vpc"), (Area("*", "team/"),))


@given(_SCOPES, _BACKENDS, _KEYS)
def test_a_record_about_a_key_is_seen_by_whoever_may_see_the_key(
    scope: tuple[Area, ...], backend: str, key: str
) -> None:
    assert visible(_record(backend=backend, key=key), scope) == in_scope(scope, backend, key)
