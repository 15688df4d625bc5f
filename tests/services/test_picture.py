"""Which names are state keys, and which keys a change of listing or table is about."""

from __future__ import annotations

from random import Random

import pytest

from lockboard.domain.keys import matcher
from lockboard.domain.model import Backend, Policy
from lockboard.domain.ports import Listed, TableItem
from lockboard.services.picture import Picture, Swept, listed_object
from tests.domain.strategies import NOW, many_inputs

POLICY = Policy()
BACKEND = Backend("dev", "b", "eu-west-1", "locks", "", matcher(["*.tfstate"]), lambda _key: POLICY)
INFO = {"S": "{}"}
NAMES = (
    "a",
    "a-md5",
    "a-md5-md5",
    "a.tflock",
    "a.tflock-md5",
    "a.tflock.tflock",
    "a-md5.tflock",
    "s.tfstate",
    "s.tfstate-md5",
)


def listed(key: str, etag: str = "e") -> Listed:
    return (key, etag, 9, "2026-11-20T18:00:00.000Z")


def picture(
    *objects: str, digests: tuple[str, ...] = (), locks: tuple[str, ...] = (), swept: Swept | None = None
) -> Picture:
    items: dict[str, TableItem | str] = {f"b/{key}-md5": "0" * 32 for key in digests}
    items |= {f"b/{key}": TableItem(f"b/{key}", INFO, None) for key in locks}
    return Picture(BACKEND, {key: listed(key) for key in objects}, items, swept or Swept())


def test_a_state_key_is_one_by_its_name_its_items_its_lock_file_or_the_sweep() -> None:
    swept = Swept({"deleted": "m1"}, {"filed", "never-stood"})
    found = picture(
        "a.tfstate", "filed", "held", "held.tflock", "readme", digests=("d",), locks=("l",), swept=swept
    )

    assert found.keys == {"a.tfstate", "filed", "held", "d", "l", "deleted"}


def test_items_of_other_buckets_and_names_without_a_key_are_no_keys() -> None:
    items: dict[str, TableItem | str] = dict.fromkeys(("b2/a", "b/", "b", "x", "b/-md5", "B/a"), "0" * 32)

    found = Picture(BACKEND, {".tflock": listed(".tflock")}, items, Swept())

    assert found.keys == set()
    assert found.foreign == 5


@many_inputs
def test_a_key_whose_facts_changed_is_among_those_a_change_is_about(rnd: Random) -> None:
    before, after = (_some(rnd) for _ in range(2))

    about = after.changed_since(before)

    both = before.keys & after.keys
    changed = {key for key in both if before.fingerprint(key) != after.fingerprint(key)}
    new = after.keys - before.keys - after.swept.deleted.keys()
    assert (changed | new) - about == set()


def _some(rnd: Random) -> Picture:
    return picture(
        *rnd.sample(NAMES, rnd.randrange(5)),
        digests=tuple(rnd.sample(NAMES, rnd.randrange(3))),
        locks=tuple(rnd.sample(NAMES, rnd.randrange(3))),
        swept=Swept(
            {rnd.choice(NAMES): rnd.choice(("m1", "m2", None))}, set(rnd.sample(NAMES, rnd.randrange(2)))
        ),
    )


def test_a_picture_that_did_not_change_is_about_nothing() -> None:
    one = picture(*NAMES, digests=NAMES, locks=NAMES)
    other = picture(*NAMES, digests=NAMES, locks=NAMES)

    assert other.changed_since(one) == set()
    assert other.changed_since(None) == other.keys


@pytest.mark.parametrize(
    ("objects", "digests", "of", "sibling"),
    [
        (("s.tfstate", "s.tfstate-md5"), (), "s.tfstate", None),
        (("s.tfstate", "s.tfstate-md5"), ("s.tfstate-md5",), "s.tfstate", "s.tfstate-md5"),
        (("s.tfstate", "s.tfstate-md5"), ("s.tfstate-md5",), "s.tfstate-md5", "s.tfstate"),
        (("s.tfstate", "s.tfstate.tflock"), (), "s.tfstate", None),
        (("s.tfstate", "s.tfstate.tflock"), ("s.tfstate.tflock",), "s.tfstate", "s.tfstate.tflock"),
        (("s.tfstate-md5",), ("s.tfstate-md5",), "s.tfstate-md5", None),
    ],
)
def test_two_states_share_a_name_only_where_both_stand_as_states(
    objects: tuple[str, ...], digests: tuple[str, ...], of: str, sibling: str | None
) -> None:
    assert picture(*objects, digests=digests).sibling(of) == sibling


def test_a_listed_row_becomes_an_object_with_a_time_in_utc() -> None:
    found = listed_object(listed("k", "abc"))

    assert (found.etag, found.size, found.last_modified, found.body, found.version_id) == (
        "abc",
        9,
        NOW,
        None,
        None,
    )
