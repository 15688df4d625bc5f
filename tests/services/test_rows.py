"""A row's holder, operation and time are those of one lock: what a person reads together belongs together."""

from __future__ import annotations

from datetime import timedelta

from lockboard.domain.keys import lock_id
from tests.services.fakes import Estate, info_json

KEY = "app.tfstate"


def estate_with_a_state() -> Estate:
    estate = Estate()
    estate.apply(KEY)
    return estate


def test_of_two_holders_the_row_shows_one_with_the_time_of_its_own_lock() -> None:
    estate = estate_with_a_state()
    estate.lock(KEY, "old", who="alice@laptop", operation="OperationTypePlan", ago=3 * 86400)
    taken = estate.clock()
    estate.lock(KEY, "new", table=False, file=True, who="bob@ci")
    estate.settled()

    row = estate.row(KEY)

    assert (row.lock, row.holder, row.operation) == ("lock_split", "bob@ci", "OperationTypeApply")
    assert row.locked_since == taken.timestamp()


def test_a_lock_in_both_stores_is_as_old_as_s3_says_and_not_as_its_holder_does() -> None:
    estate = estate_with_a_state()
    taken = estate.clock()
    info = info_json("one", lock_id("b", KEY), taken - timedelta(hours=5))
    estate.bucket.put(f"{KEY}.tflock", info.encode())
    estate.table.put(lock_id("b", KEY), info=info)
    estate.refresh(after=30)

    assert estate.row(KEY).locked_since == taken.timestamp()


def test_beside_a_lock_file_that_cannot_be_read_the_row_shows_the_lock_that_can() -> None:
    estate = estate_with_a_state()
    estate.lock(KEY, who="alice@laptop", ago=7200)
    taken = estate.clock() - timedelta(hours=2)
    estate.bucket.put(f"{KEY}.tflock", b"")
    estate.refresh()

    row = estate.row(KEY)

    assert (row.lock, row.holder, row.locked_since) == ("lock_unreadable", "alice@laptop", taken.timestamp())


def test_a_lock_file_that_cannot_be_read_has_been_there_since_it_was_written() -> None:
    estate = estate_with_a_state()
    estate.bucket.put(f"{KEY}.tflock", b"")
    taken = estate.clock()
    estate.refresh(after=30)

    row = estate.row(KEY)

    assert (row.holder, row.operation, row.locked_since) == ("", "", taken.timestamp())
