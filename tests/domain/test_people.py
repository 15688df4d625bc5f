"""Names of accounts and tokens, and grants as JSON and in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockboard.domain.access import Area, Grant, Role
from lockboard.domain.people import grants_from_json, grants_to_json, is_name, spoken_grants

GRANT = st.builds(
    Grant, st.sampled_from(Role), st.builds(Area, st.text(), st.text()), st.booleans(), st.booleans()
)


@pytest.mark.parametrize("name", ["k", "kim@example.com", "CI_2.nightly-run", "x" * 64])
def test_a_name_is_letters_digits_and_five_signs(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "kim lee", "kim\n", "kím", "kim|root", "\u212aim", "ki\0m", "kim/root", "=1+1"]
)
def test_anything_else_is_no_name(name: str) -> None:
    assert not is_name(name)


@given(st.lists(GRANT))
def test_grants_come_back_from_json_as_they_were(grants: list[Grant]) -> None:
    assert grants_from_json(json.loads(json.dumps(grants_to_json(grants)))) == tuple(grants)


@pytest.mark.parametrize(
    "item",
    [
        None,
        "administrator",
        {},
        {"role": "root", "backend": "*", "prefix": ""},
        {"role": ["viewer"], "backend": "*", "prefix": ""},
        {"role": "viewer", "backend": "*"},
        {"role": "viewer", "backend": 1, "prefix": ""},
        {"role": "viewer", "backend": "*", "prefix": None},
    ],
)
def test_what_is_no_grant_gives_nothing_and_hides_no_other(item: object) -> None:
    viewer = Grant(Role.VIEWER)
    assert grants_from_json([item, *grants_to_json([viewer])]) == (viewer,)
    assert grants_from_json(item) == ()


def test_an_extra_is_given_by_true_alone() -> None:
    found = {"role": "operator", "backend": "*", "prefix": "", "unlock_unsuspected": "no", "protected": 1}
    assert grants_from_json([found]) == (Grant(Role.OPERATOR),)


def test_grants_are_spoken_with_where_they_hold_and_what_comes_on_top() -> None:
    grants = [
        Grant(Role.OPERATOR, Area("prod-kr", "dev/"), unlock_unsuspected=True, protected=True),
        Grant(Role.VIEWER),
    ]
    extras = "(also locks that are not suspected stale and protected keys)"
    assert spoken_grants(grants) == f"operator on prod-kr under dev/ {extras}; viewer"
    assert spoken_grants([]) == "nothing"


def test_a_hostile_prefix_is_spoken_escaped() -> None:
    assert spoken_grants([Grant(Role.VIEWER, Area("*", "\x1b[2J\u202e"))]) == "viewer under \\x1b[2J\\u202e"
