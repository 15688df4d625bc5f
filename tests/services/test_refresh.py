"""A refresh asks for no more than it needs, writes only what changed, and never says more than it knows."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from lockboard.domain.errors import AccessDenied, ReadError, Throttled
from lockboard.domain.inventory import BackendReport
from lockboard.domain.model import Severity, Unread
from tests.services.fakes import Estate, FakeInventory, md5, state_body

FINE = ("ok", "unlocked", "works")


def asked(report: BackendReport) -> dict[str, int]:
    return {kind: count for kind, count in report.requests.items() if count}


# ---- what it costs -----------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "lists", "scans"), [(0, 1, 1), (1, 1, 1), (1000, 1, 10), (1001, 2, 11), (2500, 3, 25)]
)
def test_a_refresh_of_a_healthy_estate_is_its_lists_and_scans_alone(
    states: int, lists: int, scans: int
) -> None:
    estate = Estate()
    for number in range(states):
        estate.apply(f"{number:05}.tfstate")

    reports = [estate.refresh(), estate.refresh(after=60), estate.refresh(after=60)]

    assert [asked(report) for report in reports] == [{"list": lists, "scan": scans}] * 3
    assert [report.rows_written for report in reports] == [states, 0, 0]
    assert set(estate.verdicts().values()) <= {FINE}


def test_an_etag_that_proves_nothing_costs_one_get_for_each_version() -> None:
    estate = Estate(kms=True)
    estate.apply("a.tfstate")
    estate.apply("b.tfstate")

    first, again = estate.refresh(), estate.refresh(after=60)
    estate.apply("a.tfstate", 2)
    changed, at_last = estate.refresh(after=60), estate.refresh(after=60)

    assert [r.requests["get"] for r in (first, again, changed, at_last)] == [2, 0, 1, 0]
    assert [r.requests["versions"] for r in (first, again, changed, at_last)] == [0, 0, 0, 0]
    assert estate.verdicts() == {"a.tfstate": FINE, "b.tfstate": FINE}


def test_a_new_process_does_not_read_again_what_the_last_one_read() -> None:
    estate = Estate(kms=True)
    estate.apply("a.tfstate")
    estate.refresh()

    estate.refresher = estate.restarted()
    report = estate.refresh(after=60)

    assert report.requests["get"] == 0
    assert report.rows_written == 0


def test_a_stack_without_a_table_costs_one_get_for_each_version_and_no_scan() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")

    assert [asked(estate.refresh(after=60)) for _ in range(2)] == [{"list": 1, "get": 1}, {"list": 1}]
    assert estate.verdicts() == {"a.tfstate": ("no_digest", "unlocked", "works")}


def test_a_lock_file_is_read_once_for_each_holder() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.refresh()
    estate.lock("a.tfstate", "one", table=False, file=True)
    gets = [estate.refresh(after=60).requests["get"] for _ in range(3)]
    estate.unlock("a.tfstate")
    estate.lock("a.tfstate", "two", table=False, file=True)
    gets += [estate.refresh(after=60).requests["get"] for _ in range(2)]

    assert gets == [1, 0, 0, 1, 0]
    assert estate.row("a.tfstate").document["locks"][0]["id"] == "two"  # type: ignore[index]


def test_the_sweep_is_counted_apart_and_repeated_when_it_is_due() -> None:
    estate = Estate()
    estate.apply("a.tfstate")

    reports = [estate.refresh(), estate.refresh(after=3599), estate.refresh(after=2)]

    assert all(asked(report) == {"list": 1, "scan": 1} for report in reports)
    assert estate.bucket.requests.counts["versions"] == 2
    assert reports[0].sweep_requests == 2  # one page of versions, and whether the bucket keeps them
    assert reports[2].swept_at == estate.clock()


def test_more_keys_than_one_refresh_may_read_are_unknown_and_read_by_the_next() -> None:
    estate = Estate(kms=True)
    for number in range(2300):
        estate.apply(f"{number:05}.tfstate")

    first = estate.refresh()
    unknown = [key for key, told in estate.verdicts().items() if told != FINE]
    second, third = estate.refresh(after=15), estate.refresh(after=15)

    assert (first.requests["get"], len(unknown)) == (2000, 300)
    assert (second.requests["get"], second.rows_written) == (300, 300)
    assert set(estate.verdicts().values()) == {FINE}
    assert (third.requests["get"], third.rows_written) == (0, 0)


# ---- what it writes ----------------------------------------------------------


def test_nothing_is_written_while_only_time_passes() -> None:
    estate = Estate()
    estate.apply("free.tfstate")
    for key in ("held.tfstate", "env:/x/held.tfstate"):
        estate.apply(key)
        estate.lock(key)
    estate.apply("split.tfstate")
    estate.lock("split.tfstate", "one")
    estate.lock("split.tfstate", "two", table=False, file=True)
    estate.apply("behind.tfstate", 2)
    estate.set_digest("behind.tfstate", md5(state_body(9)))
    estate.apply("gone.tfstate")
    estate.bucket.delete("gone.tfstate")
    estate.settled()
    estate.refresh(after=16)

    written = [estate.refresh(after=60).rows_written for _ in range(20)]

    assert written == [0] * 20
    assert estate.verdicts()["split.tfstate"][1] == "lock_split"


def test_a_lock_that_grows_old_is_written_once_more_and_costs_no_request() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("a.tfstate")
    estate.refresh()

    reports = [estate.refresh(after=600) for _ in range(9)]

    assert [report.rows_written for report in reports] == [0] * 5 + [1] + [0] * 3
    assert all(asked(report) == {"list": 1, "scan": 1} for report in reports)
    assert estate.verdicts() == {"a.tfstate": ("ok", "lock_stale", "waits")}


def test_only_the_row_that_changed_is_written() -> None:
    estate = Estate()
    for number in range(50):
        estate.apply(f"{number}.tfstate")
    estate.refresh()
    estate.lock("7.tfstate")

    report = estate.refresh(after=60)

    assert report.rows_written == 1
    assert [row.key for row in estate.inventory.writes[-1].put] == ["7.tfstate"]


def test_a_key_that_leaves_without_a_trace_loses_its_row() -> None:
    estate = Estate()
    estate.lock("new.tfstate")
    estate.refresh()
    assert estate.verdicts() == {"new.tfstate": ("absent", "locked", "waits")}

    estate.unlock("new.tfstate")
    report = estate.refresh(after=60)

    assert estate.verdicts() == {}
    assert report.states == 0


def test_a_first_refresh_drops_rows_of_keys_that_left_while_nobody_looked() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("b.tfstate")
    estate.refresh()
    estate.unlock("b.tfstate")
    estate.refresher = estate.restarted()

    assert estate.refresh().rows_written == 1
    assert estate.verdicts() == {"a.tfstate": FINE}


# ---- what settles ------------------------------------------------------------


def test_a_mismatch_is_settling_at_first_sight_and_called_one_at_the_second() -> None:
    estate = Estate()
    older = estate.apply("a.tfstate", 1)
    estate.apply("a.tfstate", 2)
    estate.set_digest("a.tfstate", md5(older))

    first = estate.refresh()
    told = [estate.verdicts()["a.tfstate"]]
    early = estate.refresh(after=5)
    told.append(estate.verdicts()["a.tfstate"])
    second = estate.refresh(after=5)
    told.append(estate.verdicts()["a.tfstate"])

    assert told == [("settling", "unlocked", "unknown")] * 2 + [("digest_behind", "unlocked", "blocked")]
    assert (first.requests["versions"], early.rows_written, second.requests["versions"]) == (0, 0, 1)


def test_a_digest_that_catches_up_clears_the_suspicion() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 1)
    estate.refresh()
    body = estate.apply("a.tfstate", 2, digest=False)
    estate.refresh(after=60)
    assert estate.verdicts()["a.tfstate"][0] == "settling"

    estate.set_digest("a.tfstate", md5(body))
    report = estate.refresh(after=60)

    assert estate.verdicts() == {"a.tfstate": FINE}
    assert report.requests["versions"] == 0


def test_an_object_that_keeps_changing_never_becomes_a_mismatch() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 1)
    for serial in range(2, 8):
        estate.apply("a.tfstate", serial, digest=False)
        estate.refresh(after=9)
        assert estate.verdicts()["a.tfstate"][0] == "settling"
    estate.refresh(after=9)
    estate.refresh(after=2)

    assert estate.verdicts()["a.tfstate"] == ("digest_behind", "unlocked", "blocked")


def test_a_fresh_write_under_a_live_lock_stays_settling_until_it_is_fresh_no_more() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 1)
    estate.lock("a.tfstate", ago=60)
    estate.clock.pass_(60)
    estate.apply("a.tfstate", 2, digest=False)

    told = []
    for _ in range(4):
        estate.refresh()
        told.append(estate.verdicts()["a.tfstate"][:2])
        estate.clock.pass_(5)

    assert told == [("settling", "locked_active")] * 3 + [("digest_behind", "crashed_mid_write")]


def test_a_suspicion_goes_on_in_a_new_process() -> None:
    estate = Estate()
    older = estate.apply("a.tfstate", 1)
    estate.apply("a.tfstate", 2)
    estate.set_digest("a.tfstate", md5(older))
    estate.refresh()

    estate.refresher = estate.restarted()
    estate.refresh(after=11)

    assert estate.verdicts()["a.tfstate"][0] == "digest_behind"


def test_a_new_process_writes_nothing_of_what_is_stored_already() -> None:
    estate = Estate()
    churn(estate, Random(1), 60)
    estate.settled()
    estate.refresh(after=16)
    stored = dict(estate.inventory.rows)

    estate.refresher = estate.restarted()
    report = estate.refresh(after=1)

    assert estate.inventory.rows == stored
    assert report.rows_written == 0


# ---- lock files of the past --------------------------------------------------


def repaired(estate: Estate, key: str, times: int = 1) -> None:
    """As Lockboard repairs: under both locks, whatever the stack uses."""
    for _ in range(times):
        estate.lock(key, "lb", file=True, operation="lockboard-set-digest")
        estate.unlock(key)


def test_a_lock_file_of_lockboards_own_makes_no_stack_one_that_uses_them() -> None:
    estate = Estate()
    older = estate.apply("a.tfstate")
    repaired(estate, "a.tfstate", 2)
    estate.settled()

    estate.lock("a.tfstate")
    reports = [estate.refresh(after=20) for _ in range(3)]

    assert estate.verdicts()["a.tfstate"] == ("ok", "locked", "waits")
    assert [asked(report) for report in reports] == [
        {"list": 1, "scan": 1, "get": 2, "versions": 1},
        *[{"list": 1, "scan": 1}] * 2,
    ]

    estate.unlock("a.tfstate")
    estate.apply("a.tfstate", 2)
    estate.set_digest("a.tfstate", md5(older))
    estate.settled()

    row = estate.row("a.tfstate")
    assert row.content == "digest_behind"
    assert "clear_digest" not in {remedy["action"] for remedy in row.document["remedies"]}  # type: ignore[attr-defined]
    assert asked(estate.refresh(after=60)) == {"list": 1, "scan": 1}


@pytest.mark.parametrize("unread", [None, ("lockfile", "a.tfstate"), ("history", "a.tfstate.tflock")])
def test_a_lock_file_that_may_be_of_terraform_tells_of_a_stack_that_uses_them(
    unread: tuple[str, str] | None,
) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    if unread is None:
        estate.lock("a.tfstate", file=True)
        estate.unlock("a.tfstate")
    else:
        estate.bucket.happen.unread[unread] = Unread("AccessDenied", "AccessDenied", denied=True)
    repaired(estate, "a.tfstate")
    estate.settled()

    estate.lock("a.tfstate")
    estate.refresh(after=20)
    estate.refresh(after=20)

    assert estate.verdicts()["a.tfstate"] == ("ok", "lock_partial", "waits")


@pytest.mark.parametrize("failing", [("lockfile", "a.tfstate"), ("history", "a.tfstate.tflock")])
def test_a_guess_about_old_lock_files_is_made_good_once_they_can_be_read(failing: tuple[str, str]) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    repaired(estate, "a.tfstate")
    estate.settled()
    estate.bucket.happen.unread[failing] = Unread("SlowDown", "SlowDown")
    estate.lock("a.tfstate")
    estate.refresh(after=20)
    estate.refresh(after=20)
    assert estate.verdicts()["a.tfstate"] == ("ok", "lock_partial", "waits")

    estate.bucket.happen.unread.clear()
    estate.refresh(after=301)

    assert estate.verdicts()["a.tfstate"] == ("ok", "locked", "waits")


@pytest.mark.parametrize("times", [3, 9])
def test_repairs_of_lockboards_do_not_hide_who_used_lock_files_before_them(times: int) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("a.tfstate", file=True)
    estate.unlock("a.tfstate")
    repaired(estate, "a.tfstate", times)
    estate.settled()

    estate.lock("a.tfstate")
    estate.refresh(after=20)
    estate.refresh(after=20)

    assert estate.verdicts()["a.tfstate"] == ("ok", "lock_partial", "waits")


def test_a_lock_file_that_was_seen_and_left_no_version_tells_of_a_stack_that_uses_them() -> None:
    """As in a bucket without versioning."""
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("a.tfstate", file=True)
    estate.settled()
    estate.unlock("a.tfstate")
    estate.bucket.forget("a.tfstate.tflock")
    estate.refresh(after=20)

    estate.lock("a.tfstate")
    estate.refresh(after=20)
    estate.refresh(after=20)

    assert estate.verdicts()["a.tfstate"] == ("ok", "lock_partial", "waits")


def test_a_lock_file_too_large_for_a_record_is_not_fetched_to_learn_whose_it_was() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.bucket.put("a.tfstate.tflock", b" " * 100_000)
    estate.unlock("a.tfstate")
    estate.settled()

    estate.lock("a.tfstate")
    report = estate.refresh(after=20)
    estate.refresh(after=20)

    assert asked(report) == {"list": 1, "scan": 1, "versions": 1}
    assert estate.verdicts()["a.tfstate"] == ("ok", "lock_partial", "waits")


# ---- states that are gone ----------------------------------------------------


def test_a_state_deleted_between_two_refreshes_with_no_digest_is_found_without_a_sweep() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.refresh()

    estate.bucket.delete("a.tfstate")
    report = estate.refresh(after=60)

    assert estate.verdicts() == {"a.tfstate": ("state_deleted_unprotected", "unlocked", "recreates")}
    assert asked(report) == {"list": 1, "get": 0, "versions": 1} or asked(report) == {
        "list": 1,
        "versions": 1,
    }
    assert estate.row("a.tfstate").rank == Severity.CRITICAL.rank
    assert asked(estate.refresh(after=60)) == {"list": 1}


@pytest.mark.parametrize("has_table", [True, False])
def test_the_sweep_finds_what_was_deleted_before_the_start(has_table: bool) -> None:
    estate = Estate(has_table=has_table)
    estate.apply("a.tfstate")
    estate.bucket.delete("a.tfstate")
    estate.drop_digest("a.tfstate")

    estate.refresh()

    assert estate.verdicts() == {"a.tfstate": ("state_deleted_unprotected", "unlocked", "recreates")}


def test_a_state_deleted_when_it_held_nothing_is_no_row() -> None:
    estate = Estate(has_table=False)
    for key in ("before.tfstate", "between.tfstate"):
        estate.apply(key, 2, resources=0)
    estate.bucket.delete("before.tfstate")
    estate.refresh()
    estate.bucket.delete("between.tfstate")
    estate.refresh(after=60)

    assert estate.verdicts() == {}
    assert asked(estate.refresh(after=60)) == {"list": 1}


def test_a_deleted_state_whose_versions_expire_loses_its_row_at_the_next_sweep() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.bucket.delete("a.tfstate")
    estate.refresh()
    estate.bucket.forget("a.tfstate")

    estate.refresh(after=60)
    assert len(estate.verdicts()) == 1
    estate.refresh(after=3600)

    assert estate.verdicts() == {}


@pytest.mark.parametrize("new_process", [True, False])
def test_a_state_deleted_again_before_anybody_looked_is_judged_by_its_newest_versions(
    new_process: bool,
) -> None:
    estate = Estate(has_table=False)
    for key in ("restored.tfstate", "destroyed.tfstate"):
        estate.apply(key, 1)
        estate.bucket.delete(key)
    estate.refresh()

    estate.clock.pass_(1800)
    newest = estate.bucket.put("restored.tfstate", state_body(2))
    estate.bucket.put("destroyed.tfstate", state_body(2, resources=0))
    for key in ("restored.tfstate", "destroyed.tfstate"):
        estate.bucket.delete(key)
    estate.refresher = estate.restarted() if new_process else estate.refresher
    estate.refresh(after=1801)

    assert estate.verdicts() == {"restored.tfstate": ("state_deleted_unprotected", "unlocked", "recreates")}
    assert estate.row("restored.tfstate").document["remedies"][0]["version_id"] == newest  # type: ignore[index]
    assert asked(estate.refresh(after=60)) == {"list": 1}


def test_a_deleted_state_costs_nothing_at_a_sweep_that_finds_the_same_marker() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.bucket.delete("a.tfstate")
    estate.settled()

    report = estate.refresh(after=3600)

    assert report.swept_at == estate.clock()
    assert (asked(report), estate.written()) == ({"list": 1, "scan": 1}, 0)


def test_a_digest_whose_versions_expire_is_an_orphan_from_the_next_sweep_on() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.bucket.delete("a.tfstate")
    estate.settled()
    assert estate.verdicts() == {"a.tfstate": ("state_deleted", "unlocked", "blocked")}

    estate.bucket.forget("a.tfstate")
    estate.refresh(after=3600)

    assert estate.verdicts() == {"a.tfstate": ("orphan_digest", "unlocked", "blocked")}


def test_a_deleted_state_without_a_suffix_is_still_known_to_a_new_process() -> None:
    estate = Estate()
    estate.apply("remote")
    estate.refresh()
    estate.bucket.delete("remote")
    estate.drop_digest("remote")
    estate.refresh(after=60)

    estate.refresher = estate.restarted()
    estate.refresh(after=60)

    assert estate.verdicts() == {"remote": ("state_deleted_unprotected", "unlocked", "recreates")}


def test_a_restored_state_is_fine_again() -> None:
    estate = Estate(has_table=False)
    body = estate.apply("a.tfstate")
    estate.refresh()
    estate.bucket.delete("a.tfstate")
    estate.refresh(after=60)

    estate.bucket.put("a.tfstate", body)
    estate.refresh(after=60)

    assert estate.verdicts() == {"a.tfstate": ("no_digest", "unlocked", "works")}


def test_a_deleted_state_with_its_digest_is_told_by_the_second_look() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.refresh()
    estate.bucket.delete("a.tfstate")

    estate.refresh(after=60)
    first = estate.verdicts()["a.tfstate"]
    estate.refresh(after=11)

    assert first == ("settling", "unlocked", "unknown")
    assert estate.verdicts() == {"a.tfstate": ("state_deleted", "unlocked", "blocked")}


def test_in_an_unversioned_bucket_a_digest_without_its_state_is_an_orphan() -> None:
    estate = Estate(versioned=False)
    estate.apply("a.tfstate")
    estate.bucket.delete("a.tfstate")

    estate.settled()

    assert estate.verdicts() == {"a.tfstate": ("orphan_digest", "unlocked", "blocked")}


def test_in_an_unversioned_bucket_bytes_that_were_overwritten_are_not_remembered_as_the_current_ones() -> (
    None
):
    estate = Estate(versioned=False)
    first = estate.apply("a.tfstate", 5)
    estate.set_digest("a.tfstate", "0" * 32)
    estate.settled()
    assert estate.verdicts()["a.tfstate"][0] == "digest_unknown"

    estate.apply("a.tfstate", 3, digest=False)
    estate.set_digest("a.tfstate", md5(first))
    estate.settled()

    assert estate.verdicts()["a.tfstate"][0] == "digest_unknown"
    assert "restore_version" not in str(estate.row("a.tfstate").document["remedies"])


def test_a_state_that_is_written_while_the_refresh_runs_is_not_called_deleted() -> None:
    estate = Estate(has_table=False)
    estate.lock("new.tfstate", table=False, file=True)
    estate.bucket.happen.after["list"] = lambda: estate.apply("new.tfstate")

    estate.refresh()
    first = estate.verdicts()["new.tfstate"]
    estate.refresh(after=15)

    assert first == ("settling", "locked", "waits")
    assert estate.verdicts()["new.tfstate"][0] == "no_digest"


def test_a_state_that_was_there_for_a_moment_only_does_not_stay_open() -> None:
    estate = Estate(has_table=False)
    estate.lock("new.tfstate", table=False, file=True)
    estate.bucket.happen.after["list"] = lambda: estate.apply("new.tfstate", resources=0)
    estate.refresh()
    estate.bucket.delete("new.tfstate")

    estate.refresh(after=15)

    assert estate.verdicts()["new.tfstate"][0] == "absent"


def test_an_emptied_and_then_deleted_state_is_restored_from_its_last_real_version() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 4)
    estate.bucket.put("a.tfstate", b"")
    estate.bucket.delete("a.tfstate")

    estate.settled()

    first = estate.row("a.tfstate").document["remedies"][0]  # type: ignore[index]
    assert (estate.verdicts()["a.tfstate"][0], first["action"], first["version_id"]) == (
        "state_deleted",
        "restore_version",
        "v1",
    )


def test_a_broken_state_stays_broken_when_its_digest_is_set_to_match() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 4)
    estate.bucket.put("a.tfstate", b'{"version": 4,')
    estate.settled()
    assert estate.verdicts()["a.tfstate"] == ("state_corrupt", "unlocked", "blocked")

    estate.set_digest("a.tfstate", md5(b'{"version": 4,'))
    estate.refresh(after=60)

    assert estate.verdicts()["a.tfstate"] == ("state_corrupt", "unlocked", "fails")


# ---- what cannot be read -----------------------------------------------------

FAILURES: list[tuple[str, int, ReadError]] = [
    ("list", 0, AccessDenied("s3:ListBucket", "AccessDenied", "no")),
    ("list", 1, Throttled("s3:ListBucket", "SlowDown", "")),
    ("list", 2, ReadError("s3:ListBucket", "InternalError", "")),
    ("scan", 0, AccessDenied("dynamodb:Scan", "AccessDeniedException", "no")),
    ("scan", 1, Throttled("dynamodb:Scan", "ProvisionedThroughputExceededException", "")),
    ("scan", 24, ReadError("dynamodb:Scan", "InternalServerError", "")),
]


@pytest.mark.parametrize(("operation", "page", "error"), FAILURES, ids=lambda value: str(value)[:30])
def test_a_page_that_fails_turns_nothing_green_and_leaves_known_rows_as_they_are(
    operation: str, page: int, error: ReadError
) -> None:
    estate = Estate()
    for number in range(2500):
        estate.apply(f"{number:05}.tfstate")
    estate.refresh()
    stored = dict(estate.inventory.rows)
    data_at = estate.clock()
    estate.apply("new.tfstate")
    estate.lock("00003.tfstate")
    estate.bucket.delete("00004.tfstate")
    port = estate.bucket if operation == "list" else estate.table
    port.happen.failing_page[operation] = (page, error)

    report = estate.refresh(after=60)

    assert {key: estate.inventory.rows[key] for key in stored} == stored
    assert [row.terraform for key, row in estate.inventory.rows.items() if key not in stored] == ["unknown"]
    assert (report.complete, report.data_at, report.states) == (False, data_at, 2500)
    assert report.error is not None
    assert report.missing_permission == (error.operation if isinstance(error, AccessDenied) else None)

    port.happen.failing_page.clear()
    whole = estate.refresh(after=60)

    assert (whole.complete, whole.error, whole.states) == (True, None, 2501)
    assert estate.verdicts()["new.tfstate"] == FINE
    assert estate.verdicts()["00003.tfstate"] == ("ok", "locked", "waits")
    assert estate.verdicts()["00004.tfstate"][0] == "settling"


@pytest.mark.parametrize("operation", ["list", "scan"])
def test_a_first_refresh_that_fails_shows_what_it_saw_as_unknown_with_what_it_read(operation: str) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("a.tfstate", file=True)
    port = estate.bucket if operation == "list" else estate.table
    port.happen.failing_page[operation] = (0, ReadError("x:Y", "InternalError", ""))

    estate.refresh()

    row = estate.row("a.tfstate")
    assert (row.content, row.lock, row.terraform) == ("unknown", "unknown", "unknown")
    assert row.document["remedies"] == []
    assert row.document["object"]["exists"] is (None if operation == "list" else True)  # type: ignore[index]
    assert row.document["digest"]["present"] is (True if operation == "list" else None)  # type: ignore[index]
    assert row.holder == ("root@ci" if operation == "list" else "")


def test_an_unknown_row_of_a_key_that_never_comes_back_is_dropped_by_the_next_whole_refresh() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.refresh()
    estate.lock("new.tfstate")
    estate.bucket.happen.failing_page["list"] = (0, ReadError("s3:ListBucket", "InternalError", ""))
    estate.refresh(after=60)
    assert len(estate.verdicts()) == 2
    estate.unlock("new.tfstate")
    estate.bucket.happen.failing_page.clear()

    estate.refresh(after=60)

    assert estate.verdicts() == {"a.tfstate": FINE}


def test_a_sweep_that_failed_is_tried_again_long_before_the_next_is_due() -> None:
    estate = Estate()
    estate.bucket.happen.failing_page["sweep"] = (0, Throttled("s3:ListBucketVersions", "SlowDown", ""))
    failed = estate.refresh()
    estate.bucket.happen.failing_page.clear()

    soon, later = estate.refresh(after=60), estate.refresh(after=300)

    assert [report.sweep_error is None for report in (failed, soon, later)] == [False, False, True]
    assert [report.swept_at for report in (failed, soon)] == [None, None]
    assert later.swept_at == later.attempted_at


def test_a_sweep_that_fails_keeps_deleted_states_until_one_succeeds() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.apply("b.tfstate")
    estate.bucket.delete("a.tfstate")
    estate.refresh()
    estate.refresher = estate.restarted()
    estate.bucket.happen.failing_page["sweep"] = (
        0,
        AccessDenied("s3:ListBucketVersions", "AccessDenied", ""),
    )

    report = estate.refresh(after=60)
    assert report.sweep_error is not None
    assert estate.verdicts()["a.tfstate"][0] == "state_deleted_unprotected"

    estate.bucket.forget("a.tfstate")
    estate.bucket.happen.failing_page.clear()
    report = estate.refresh(after=3601)

    assert report.sweep_error is None
    assert list(estate.verdicts()) == ["b.tfstate"]


def test_a_backend_that_cannot_be_read_leaves_another_alone() -> None:
    one, two = Estate(name="one"), Estate(name="two")
    two.inventory = one.inventory
    two.refresher = two.restarted()
    one.apply("a.tfstate")
    two.apply("a.tfstate")
    one.refresh()
    two.refresh()
    one.bucket.happen.failing_page["list"] = (0, AccessDenied("s3:ListBucket", "AccessDenied", ""))
    two.lock("a.tfstate")

    assert not one.refresh(after=60).complete
    assert two.refresh(after=60).complete
    assert sorted((row.backend, row.lock) for row in one.inventory.rows.values()) == [
        ("one", "unlocked"),
        ("two", "locked"),
    ]


def test_denied_bytes_are_unreadable_and_never_absent_and_asked_for_again_only_after_a_while() -> None:
    estate = Estate(kms=True)
    estate.apply("a.tfstate")
    estate.bucket.happen.unread["get", "a.tfstate"] = Unread("denied", "AccessDenied", denied=True)

    gets = [estate.refresh(after=60).requests["get"] for _ in range(5)]
    told = estate.verdicts()["a.tfstate"]
    estate.bucket.happen.unread.clear()
    estate.refresh(after=301)

    assert gets == [1, 0, 0, 0, 0]
    assert told == ("state_unreadable", "unlocked", "fails")
    assert estate.verdicts() == {"a.tfstate": FINE}


def test_a_lock_file_that_cannot_be_read_is_not_no_lock() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.lock("a.tfstate", table=False, file=True)
    estate.bucket.happen.unread["lockfile", "a.tfstate"] = Unread("timed out")

    gets = [estate.refresh(after=60).requests["get"] for _ in range(3)]
    told = estate.verdicts()["a.tfstate"]
    estate.bucket.happen.unread.clear()
    estate.refresh(after=301)

    assert gets == [2, 0, 0]
    assert told == ("no_digest", "unknown", "unknown")
    assert estate.verdicts()["a.tfstate"] == ("no_digest", "locked", "waits")


def test_versions_that_cannot_be_listed_make_no_verdict_on_a_deleted_state() -> None:
    estate = Estate(has_table=False)
    estate.apply("a.tfstate")
    estate.refresh()
    estate.bucket.delete("a.tfstate")
    estate.bucket.happen.unread["history", "a.tfstate"] = Unread("denied", "AccessDenied", denied=True)

    estate.refresh(after=60)
    told = estate.verdicts()["a.tfstate"]
    estate.bucket.happen.unread.clear()
    estate.refresh(after=301)

    assert told == ("unknown", "unlocked", "unknown")
    assert estate.verdicts()["a.tfstate"][0] == "state_deleted_unprotected"


# ---- names -------------------------------------------------------------------


def test_items_of_other_buckets_are_counted_and_never_rows() -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    for name in ("other/a.tfstate", "other/a.tfstate-md5", "b2/x", "no-slash", "b/", "b"):
        estate.table.put(name, digest="0" * 32)

    report = estate.refresh()

    assert report.foreign_items == 6
    assert estate.verdicts() == {"a.tfstate": FINE}


@pytest.mark.parametrize("name", ["b/-md5", "b/.tflock"])
def test_a_name_that_is_nothing_but_a_suffix_breaks_nothing(name: str) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.table.put(name, digest="0" * 32)
    estate.bucket.put(".tflock", b"{}")

    estate.settled()

    assert estate.verdicts()["a.tfstate"] == FINE
    assert "" not in estate.verdicts()


def test_keys_outside_the_prefix_are_neither_listed_nor_rows() -> None:
    estate = Estate(prefix="team/")
    estate.apply("team/a.tfstate")
    estate.apply("other/a.tfstate")
    estate.lock("other/b.tfstate")

    report = estate.refresh()

    assert estate.verdicts() == {"team/a.tfstate": FINE}
    assert report.foreign_items == 0


def test_an_object_is_a_state_by_its_name_or_by_what_terraform_keeps_beside_it() -> None:
    estate = Estate()
    estate.apply("remote")
    estate.apply("locked", digest=False)
    estate.lock("locked")
    estate.apply("filed", digest=False)
    estate.lock("filed", table=False, file=True)
    estate.bucket.put("readme.txt", b"hello")

    estate.refresh()

    assert set(estate.verdicts()) == {"remote", "locked", "filed"}


def test_a_key_that_ends_in_md5_collides_with_its_sibling_whichever_comes_last() -> None:
    estate = Estate(include=("*",))
    estate.apply("app-md5")
    estate.refresh()
    assert estate.verdicts() == {"app-md5": FINE}
    estate.apply("app")

    estate.refresh(after=60)

    assert {key: told[1] for key, told in estate.verdicts().items()} == {
        "app": "key_collision",
        "app-md5": "key_collision",
    }
    assert all(row.document["remedies"] == [] for row in estate.inventory.rows.values())


def test_a_sibling_that_becomes_a_state_only_by_its_digest_is_noticed() -> None:
    estate = Estate()
    estate.apply("app.tfstate")
    estate.bucket.put("app.tfstate-md5", state_body(1))
    estate.refresh()
    assert estate.verdicts() == {"app.tfstate": FINE}
    estate.set_digest("app.tfstate-md5", md5(state_body(1)))

    estate.refresh(after=60)

    assert {told[1] for told in estate.verdicts().values()} == {"key_collision"}
    assert len(estate.verdicts()) == 2


def test_a_state_at_the_place_of_a_lock_file_is_a_collision_and_not_a_lock() -> None:
    estate = Estate(has_table=False)
    estate.apply("app.tfstate")
    estate.apply("app.tfstate.tflock")

    estate.refresh()

    assert estate.verdicts() == {"app.tfstate": ("no_digest", "key_collision", "waits")}
    assert "hunter2" not in repr(estate.inventory.rows)


def test_no_value_of_a_state_reaches_a_row_or_a_report() -> None:
    estate = Estate(kms=True)
    churn(estate, Random(7), 120)
    estate.settled()

    assert "hunter2" not in repr((estate.inventory.rows, estate.inventory.writes))


@pytest.mark.parametrize(
    "key",
    [
        "a b+%41?&#.tfstate",
        "한국/é.tfstate",
        "a\x01\n.tfstate",
        "../a.tfstate",
        "x" * 1016 + ".tfstate",
        "\ud800.tfstate",
    ],
)
def test_keys_as_people_have_them_make_a_row_that_can_be_stored(key: str) -> None:
    estate = Estate()
    estate.apply(key)
    estate.lock(key, who="root\x00@\u202eci")

    estate.refresh()

    assert estate.verdicts() == {key: ("ok", "locked", "waits")}


# ---- second looks ------------------------------------------------------------


def test_a_second_look_reads_only_what_is_open() -> None:
    estate = Estate()
    for number in range(20):
        estate.apply(f"{number}.tfstate")
    older = estate.apply("behind.tfstate", 1)
    estate.apply("behind.tfstate", 2)
    estate.set_digest("behind.tfstate", md5(older))
    estate.refresh()
    wait = estate.refresher.settles_in()
    before = sum(estate.bucket.requests.counts.values())

    estate.clock.pass_(11)
    report = estate.refresher.second_look()

    assert wait == timedelta(seconds=10)
    assert report is not None
    assert estate.bucket.requests.counts["list"] == 1
    assert sum(estate.bucket.requests.counts.values()) - before <= 6
    assert estate.verdicts()["behind.tfstate"][0] == "digest_behind"
    assert estate.refresher.settles_in() is None
    assert estate.refresher.second_look() is None


def test_a_second_look_by_a_clock_that_is_wrong_waits_as_long() -> None:
    estate = Estate()
    older = estate.apply("a.tfstate", 1)
    estate.apply("a.tfstate", 2)
    estate.set_digest("a.tfstate", md5(older))
    estate.bucket.skew = timedelta(hours=5)
    estate.refresh()

    assert estate.refresher.settles_in() == timedelta(seconds=10)


# ---- everything at once ------------------------------------------------------

CHURNED = (
    "a.tfstate",
    "env:/w/a.tfstate",
    "remote",
    "b.tfstate",
    "b.tfstate-md5",
    "c.tfstate",
    "c.tfstate.tflock",
    "d",
)


def churn(estate: Estate, rnd: Random, deeds: int) -> None:
    """So many things that happen to states, in any order, as people and programs do them."""
    for _ in range(deeds):
        key, deed = rnd.choice(CHURNED), rnd.randrange(14)
        if deed < 4:
            estate.apply(key, rnd.randrange(1, 9), digest=rnd.random() < 0.8, resources=rnd.randrange(3))
        elif deed == 4:
            estate.bucket.delete(key)
        elif deed == 5:
            estate.drop_digest(key)
        elif deed == 6:
            versions = [v.body for v in estate.bucket.versions.get(key, ()) if v.body and len(v.body) > 9]
            estate.set_digest(key, md5(rnd.choice(versions)) if versions else "0" * 32)
        elif deed == 7:
            estate.set_digest(key, rnd.choice(("x", "F" * 32, {"N": "1"}, None)))
        elif deed in (8, 9):
            estate.lock(
                key,
                f"id-{rnd.randrange(3)}",
                table=rnd.random() < 0.7,
                file=rnd.random() < 0.5,
                ago=rnd.choice((0, 60, 9000)),
            )
        elif deed in (10, 11):
            estate.unlock(key)
        elif deed == 12:
            estate.bucket.put(key, rnd.choice((b"", b"{", b"<html>", state_body(5, note=str(rnd.random())))))
        else:
            estate.table.put(f"b/{key}", info=rnd.choice(("", "{}", "[]", {"N": "1"}, None)))


@pytest.mark.parametrize("seed", range(12))
def test_rows_kept_step_by_step_are_those_of_a_first_look(seed: int) -> None:
    """But for names that only a process that once saw their lock or digest knows to be those of states."""
    rnd = Random(seed)
    estate = Estate(
        versioned=seed % 4 != 3, kms=seed % 3 == 2, has_table=seed % 5 != 4, sweep_every=timedelta(0)
    )
    for step in range(35):
        churn(estate, rnd, rnd.randrange(4))
        estate.settled()
        estate.refresh(after=16)
        kept = estate.verdicts()
        assert estate.refresh().rows_written == 0, f"step {step}"

        inventory = FakeInventory()
        newcomer = estate.restarted(inventory)
        for _ in range(2):
            newcomer.refresh()
            estate.clock.pass_(16)
        newcomer.refresh()
        rows = inventory.rows.values()
        found = {str(row.document["raw_key"]): (row.content, row.lock, row.terraform) for row in rows}
        remembered = {key for key in kept.keys() - found.keys() if not estate.backend.state_key(key)}
        assert all(kept[key][1] == "unlocked" for key in remembered), f"step {step}"
        assert found == {key: told for key, told in kept.items() if key not in remembered}, f"step {step}"
