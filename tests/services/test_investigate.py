"""Looking closer reads what the question needs and not more, and takes nothing unread for absent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lockboard.domain.bodies import Body
from lockboard.domain.digests import Digest
from lockboard.domain.model import History, StateObject, Unread
from lockboard.domain.ports import TableItem
from lockboard.services.investigate import (
    VERSIONS_COMPARED,
    Facts,
    Investigator,
    digest_of,
    is_lock_item,
    lock_of,
)
from lockboard.services.memo import Memo
from tests.services.fakes import Estate, md5, state_body

KEY = "a.tfstate"
INFO, DIGEST = {"S": '{"ID":"x"}'}, {"S": "0" * 32}


def investigator(estate: Estate) -> Investigator:
    return Investigator(estate.backend, estate.bucket, estate.table if estate.has_table else None)


def item(name: str, info: object = None, digest: object = None) -> TableItem:
    return TableItem(name, info, digest)  # type: ignore[arg-type]


# ---- whose item it is --------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "info", "digest", "is_lock"),
    [
        ("a", INFO, None, True),
        ("a", None, None, True),
        ("a", None, DIGEST, False),
        ("a", INFO, DIGEST, True),
        ("a-md5", INFO, None, True),
        ("a-md5", None, DIGEST, False),
        ("a-md5", None, None, False),
    ],
)
def test_an_item_is_a_lock_by_its_attributes_and_never_by_its_name_alone(
    key: str, info: object, digest: object, is_lock: bool
) -> None:
    assert is_lock_item(item(f"b/{key}", info, digest), key) == is_lock


def test_a_digest_is_read_from_its_item_and_a_lock_that_stands_there_is_none() -> None:
    found = digest_of(item("b/a-md5", None, DIGEST))

    assert isinstance(found, Digest)
    assert found.value == "0" * 32
    assert digest_of(item("b/a-md5", INFO, None)) is None
    assert isinstance(digest_of(item("b/a-md5")), Digest)
    assert digest_of(None) is None
    assert digest_of(Unread("x")) == Unread("x")


@pytest.mark.parametrize(
    ("key", "stands", "occupied"),
    [("a", True, "digest"), ("a", False, "digest"), ("a-md5", True, "digest"), ("a-md5", False, "no lock")],
)
def test_a_digest_where_a_lock_belongs_occupies_it_only_for_a_key_that_is_one(
    key: str, stands: bool, occupied: str
) -> None:
    found = lock_of(item(f"b/{key}", None, DIGEST), key, stands_as_state=stands)

    assert (
        found.occupied_by if found is not None and not isinstance(found, Unread) else "no lock"
    ) == occupied


# ---- the reads ---------------------------------------------------------------


def test_a_fresh_look_at_a_healthy_state_reads_object_lock_file_and_two_items() -> None:
    estate = Estate()
    body = estate.apply(KEY)

    seen, _ = investigator(estate).fresh(KEY, Memo(), estate.clock())

    assert isinstance(seen.state, StateObject)
    assert seen.state.md5 == md5(body)
    assert (seen.table_lock, seen.file_lock, seen.history) == (None, None, None)
    assert estate.bucket.requests.counts == {"list": 0, "scan": 0, "get": 2, "versions": 0, "other": 0}
    assert estate.table.requests.counts["other"] == 2


def test_a_look_with_versions_reads_the_newest_and_asks_whether_lock_files_were_used() -> None:
    estate = Estate()
    for serial in range(1, 20):
        estate.apply(KEY, serial)
    estate.lock(KEY, table=False, file=True)
    estate.unlock(KEY)

    seen, memo = investigator(estate).fresh(KEY, Memo(), estate.clock(), versions=12)

    assert isinstance(seen.history, History)
    serials = [v.body.serial if isinstance(v.body, Body) else None for v in seen.history.versions]
    assert serials == [*range(19, 7, -1), *[None] * 7]
    assert memo.lockfile_history
    assert (
        estate.bucket.requests.counts["get"] == 13
    )  # the current bytes are read once, and each older version once


def test_the_version_that_a_digest_names_is_found_by_its_etag_with_two_reads_at_most() -> None:
    estate = Estate()
    bodies = [estate.apply(KEY, serial, digest=False) for serial in range(1, 12)]
    estate.set_digest(KEY, md5(bodies[2]))
    estate.bucket.delete(KEY)

    seen, _ = investigator(estate).fresh(KEY, Memo(), estate.clock())

    assert isinstance(seen.history, History)
    assert (
        estate.bucket.requests.counts["get"] == 4
    )  # the state, its lock file, the newest and the named version
    named = seen.history.holding(md5(bodies[2]))
    assert named is not None
    assert named.version_id == "v3"


def test_where_etags_say_nothing_so_many_versions_are_read_and_no_more() -> None:
    estate = Estate(kms=True)
    for serial in range(1, 50):
        estate.apply(KEY, serial)
    estate.set_digest(KEY, "0" * 32)
    estate.bucket.delete(KEY)

    seen, memo = investigator(estate).fresh(KEY, Memo(), estate.clock())

    assert isinstance(seen.history, History)
    assert not seen.history.complete
    assert estate.bucket.requests.counts["get"] == 2 + VERSIONS_COMPARED

    investigator(estate).fresh(KEY, memo, estate.clock())

    assert estate.bucket.requests.counts["get"] == 2 * 2 + VERSIONS_COMPARED


def test_a_deleted_state_without_a_digest_is_read_down_to_the_newest_that_is_a_state() -> None:
    estate = Estate(has_table=False)
    for body in (state_body(1), state_body(2), b"{", b""):
        estate.bucket.put(KEY, body)
    estate.bucket.delete(KEY)

    seen, _ = investigator(estate).fresh(KEY, Memo(), estate.clock())

    assert isinstance(seen.history, History)
    assert [isinstance(version.body, Body) for version in seen.history.versions] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert seen.history.newest_usable == seen.history.versions[3]


def test_an_object_that_was_replaced_between_listing_and_reading_is_seen_as_it_is_now() -> None:
    estate = Estate(kms=True)
    estate.apply(KEY, 1)
    estate.bucket.happen.after["list"] = lambda: estate.apply(KEY, 2)

    estate.refresh()

    assert estate.row(KEY).document["object"]["serial"] == 2  # type: ignore[index]


@pytest.mark.parametrize("store", ["b/a.tfstate", "b/a.tfstate-md5"])
def test_an_item_that_cannot_be_read_is_unread_and_never_absent(store: str) -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.table.happen.unread["item", store] = Unread("throttled")

    seen, _ = investigator(estate).fresh(KEY, Memo(), estate.clock())

    assert (seen.table_lock if store.endswith("state") else seen.digest) == Unread("throttled")


def test_a_look_that_may_not_read_leaves_what_it_needs_unknown() -> None:
    estate = Estate()
    state = StateObject("kms", 9, estate.clock())
    look = investigator(estate)

    seen, _ = look.complete(Facts(KEY, state, None, None, None), Memo(), estate.clock(), may_read=False)
    gone, _ = look.complete(Facts(KEY, None, None, None, None), Memo(), estate.clock(), may_read=False)

    assert seen.state == state
    assert isinstance(gone.history, Unread)
    assert sum(estate.bucket.requests.counts.values()) == 0


def test_a_suspicion_ends_when_object_and_digest_agree_again() -> None:
    estate = Estate()
    estate.apply(KEY, 1)
    body = estate.apply(KEY, 2, digest=False)
    look = investigator(estate)

    seen, memo = look.fresh(KEY, Memo(), estate.clock())
    assert seen.mismatch_since == estate.clock()
    estate.set_digest(KEY, md5(body))
    seen, memo = look.fresh(KEY, memo, estate.clock() + timedelta(seconds=5))

    assert seen.mismatch_since is None
    assert memo.mismatch is None
