"""A look because somebody asked: fresh, stored, and honest about what it could not read."""

from __future__ import annotations

import pytest

from lockboard.domain.errors import ReadError
from lockboard.domain.inventory import StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.model import Unread
from lockboard.services.recheck import Rechecker
from tests.services.fakes import Estate, md5

KEY = "a.tfstate"


def recheck(estate: Estate, key: str = KEY) -> StateRow:
    table = estate.table if estate.has_table else None
    rechecker = Rechecker(estate.inventory, {"dev": (estate.backend, estate.bucket, table)}, estate.clock)
    return rechecker("dev", state_id("dev", key))


def told(row: StateRow) -> tuple[str, str, str]:
    return row.content, row.lock, row.terraform


def test_a_recheck_sees_what_happened_since_and_stores_it() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    estate.lock(KEY)
    estate.clock.pass_(5)

    row = recheck(estate)

    assert told(row) == ("ok", "locked", "waits")
    assert estate.inventory.rows[row.id] == row
    assert row.document["rechecked_at"] == "2026-11-20T18:00:05Z"


def test_a_recheck_of_a_mismatch_goes_on_from_when_it_was_first_seen() -> None:
    estate = Estate()
    older = estate.apply(KEY, 1)
    estate.apply(KEY, 2)
    estate.set_digest(KEY, md5(older))
    estate.refresh()

    first = recheck(estate)
    estate.clock.pass_(11)
    second = recheck(estate)

    assert (first.content, second.content) == ("settling", "digest_behind")
    versions = second.document["versions"]
    assert [version["serial"] for version in versions] == [2, 1]  # type: ignore[attr-defined]
    assert [version["names_digest"] for version in versions] == [False, True]  # type: ignore[attr-defined]


def test_a_recheck_finds_the_broken_state_whose_digest_was_made_to_match() -> None:
    estate = Estate()
    estate.bucket.put(KEY, b'{"version": 4,')
    estate.set_digest(KEY, md5(b'{"version": 4,'))
    estate.refresh()

    assert told(recheck(estate)) == ("state_corrupt", "unlocked", "fails")


def test_the_next_refresh_agrees_with_a_recheck_of_something_that_lasts() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    estate.lock(KEY)
    recheck(estate)

    estate.refresh(after=15)

    assert estate.verdicts() == {KEY: ("ok", "locked", "waits")}


def test_a_new_process_judges_anew_what_a_recheck_stored() -> None:
    estate = Estate()
    body = estate.apply(KEY)
    estate.refresh()
    estate.set_digest(KEY, "0" * 32)
    recheck(estate)
    estate.clock.pass_(11)
    assert recheck(estate).content == "digest_unknown"
    estate.set_digest(KEY, md5(body))

    estate.refresher = estate.restarted()
    estate.refresh(after=15)

    assert estate.verdicts() == {KEY: ("ok", "unlocked", "works")}


def test_denied_bytes_are_stored_as_unreadable() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    estate.bucket.happen.unread["get", KEY] = Unread("denied", "AccessDenied", denied=True)

    assert told(recheck(estate)) == ("state_unreadable", "unlocked", "fails")


def test_a_recheck_that_got_no_answer_leaves_the_row_as_it_was() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    stored = dict(estate.inventory.rows)
    estate.bucket.happen.unread["get", KEY] = Unread("timed out", "Timeout")

    with pytest.raises(ReadError):
        recheck(estate)
    assert estate.inventory.rows == stored


def test_a_recheck_whose_table_gave_no_answer_says_that_it_does_not_know() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    estate.table.happen.unread["item", f"b/{KEY}"] = Unread("throttled")

    assert told(recheck(estate)) == ("ok", "unknown", "unknown")


@pytest.mark.parametrize("key", ["never.tfstate"])
def test_a_key_that_is_not_in_the_inventory_is_not_looked_for(key: str) -> None:
    estate = Estate()

    with pytest.raises(ReadError, match="no longer in the inventory"):
        recheck(estate, key)
    assert sum(estate.bucket.requests.counts.values()) == 0


def test_what_a_recheck_saw_is_not_believed_once_it_is_over() -> None:
    estate = Estate()
    estate.apply(KEY)
    estate.refresh()
    estate.lock(KEY)
    recheck(estate)
    estate.unlock(KEY)

    estate.refresh(after=15)

    assert estate.verdicts() == {KEY: ("ok", "unlocked", "works")}


def test_a_recheck_that_still_holds_keeps_what_it_read_besides() -> None:
    estate = Estate()
    estate.apply(KEY, 1)
    estate.apply(KEY, 2)
    estate.refresh()
    fresh = recheck(estate)

    reports = [estate.refresh(after=15), estate.refresh(after=15)]

    assert [report.rows_written for report in reports] == [0, 0]
    assert estate.inventory.rows[fresh.id] == fresh
    assert len(fresh.document["versions"]) == 2  # type: ignore[arg-type]


def test_a_change_after_a_recheck_is_written_though_the_status_stays_the_same() -> None:
    estate = Estate()
    estate.apply(KEY, 1)
    estate.refresh()
    fresh = recheck(estate)
    estate.clock.pass_(5)
    estate.apply(KEY, 2)

    report = estate.refresh(after=15)

    assert report.rows_written == 1
    assert estate.inventory.rows[fresh.id].digest != fresh.digest


def test_a_recheck_of_a_key_that_is_dropped_meanwhile_leaves_no_row_behind() -> None:
    estate = Estate()
    estate.lock(KEY)
    estate.refresh()
    estate.unlock(KEY)
    estate.refresh(after=15)
    estate.lock(KEY)
    estate.refresh(after=15)
    fresh = recheck(estate)
    estate.unlock(KEY)
    estate.refresh(after=15)
    estate.inventory.put(fresh)

    estate.refresh(after=15)

    assert estate.verdicts() == {}
