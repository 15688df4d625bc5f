"""Each way out names exactly what it is about, and says what makes the obvious one dangerous."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lockboard.domain.diagnose import diagnose
from lockboard.domain.model import Action, Content, Remedy, Verdict
from lockboard.domain.remedies import CLEARING_RECREATES
from tests.domain.strategies import NOW, POLICY
from tests.domain.test_diagnose import (
    CONTENT_ROWS,
    FILE,
    GOOD,
    LOCK_ROWS,
    MARKER,
    NEW,
    OLD,
    V1,
    V2,
    V3,
    Row,
    a_lock,
    an_object,
    seen_with,
    version,
)

_ROWS = {row.name: row for row in CONTENT_ROWS + LOCK_ROWS}


def verdict_of(name: str) -> Verdict:
    return diagnose(_ROWS[name].seen, POLICY, NOW)


def offered(verdict: Verdict) -> list[tuple[Action, bool, str | None]]:
    return [(r.action, r.recommended, r.version_id or r.digest or r.lock_id) for r in verdict.remedies]


@pytest.mark.parametrize(
    "name", ["deleted, the digest names the last version", "deleted, the digest names an older version"]
)
def test_removing_the_digest_of_a_deleted_state_is_offered_last_and_with_its_danger(name: str) -> None:
    verdict = verdict_of(name)

    assert verdict.remedies[-1] == Remedy(Action.CLEAR_DIGEST, CLEARING_RECREATES)
    assert any(CLEARING_RECREATES in danger for danger in verdict.dangers)
    assert "second time" in CLEARING_RECREATES


def test_an_ambiguous_deletion_offers_both_versions_the_newest_first() -> None:
    verdict = verdict_of("deleted, the digest names an older version")

    assert offered(verdict)[:2] == [
        (Action.RESTORE_VERSION, True, "v2"),
        (Action.RESTORE_VERSION, False, "v1"),
    ]


def test_an_orphan_digest_recommends_nothing_but_offers_the_newest_version_left() -> None:
    verdict = verdict_of("deleted, no version matches")

    assert offered(verdict) == [(Action.RESTORE_VERSION, False, "v2"), (Action.CLEAR_DIGEST, False, None)]


def test_a_digest_that_is_behind_is_set_to_the_md5_of_the_object() -> None:
    verdict = verdict_of("the object is newer")

    assert offered(verdict) == [(Action.SET_DIGEST, True, V2), (Action.RESTORE_VERSION, False, "v1")]
    assert any("lose the last apply" in danger for danger in verdict.dangers)


def test_a_digest_left_over_from_before_the_lock_files_may_be_removed_and_that_is_not_recommended() -> None:
    seen = seen_with(GOOD, V1, version("v2", NEW, latest=True), version("v1", OLD), lockfile_history=True)
    verdict = diagnose(seen, POLICY, NOW)

    assert verdict.content is Content.DIGEST_BEHIND
    assert offered(verdict)[-1] == (Action.CLEAR_DIGEST, False, None)
    assert "left over" in verdict.summary


def test_a_rolled_back_state_warns_of_the_advice_that_terraform_prints() -> None:
    verdict = verdict_of("the object is older")

    assert offered(verdict) == [(Action.RESTORE_VERSION, True, "v2"), (Action.SET_DIGEST, False, V1)]
    assert any("accepts the loss" in danger for danger in verdict.dangers)


def test_the_digest_of_an_empty_object_is_never_set() -> None:
    verdict = verdict_of("empty with the MD5 of nothing")

    assert offered(verdict) == [(Action.RESTORE_VERSION, True, "v2")]
    assert any("never works" in danger for danger in verdict.dangers)


def test_a_digest_nobody_can_explain_is_set_only_after_a_look() -> None:
    assert offered(verdict_of("no version matches")) == [(Action.SET_DIGEST, False, V2)]


@pytest.mark.parametrize("has_table", [True, False])
def test_a_missing_digest_is_offered_only_where_there_is_a_table_and_never_recommended(
    has_table: bool,
) -> None:
    verdict = diagnose(seen_with(GOOD, has_table=has_table), POLICY, NOW)

    assert offered(verdict) == ([(Action.SET_DIGEST, False, V2)] if has_table else [])


def test_one_unlock_frees_one_id_in_both_stores() -> None:
    verdict = diagnose(seen_with(GOOD, V2, table=a_lock(), file=a_lock(FILE)), POLICY, NOW)

    assert offered(verdict) == [(Action.FORCE_UNLOCK, False, "id-1")]


def test_two_holders_are_two_unlocks_and_neither_is_recommended() -> None:
    assert offered(verdict_of("two holders")) == [
        (Action.FORCE_UNLOCK, False, "id-2"),
        (Action.FORCE_UNLOCK, False, "id-1"),
    ]


def test_a_lock_nobody_can_read_is_removed_without_an_id() -> None:
    assert offered(verdict_of("an item nobody can read")) == [(Action.FORCE_UNLOCK, True, None)]


def test_under_a_dead_lock_the_content_is_repaired_before_the_lock_is_released() -> None:
    verdict = verdict_of("state written, digest not")

    assert offered(verdict) == [
        (Action.TAKE_OVER, True, V2),
        (Action.TAKE_OVER, False, "v1"),
        (Action.FORCE_UNLOCK, False, "id-1"),
    ]
    assert any("Unlocking first" in danger for danger in verdict.dangers)


def test_a_repair_waits_until_a_live_lock_is_gone() -> None:
    states = (GOOD, None, an_object(OLD))
    versions = (MARKER, version("v2", NEW), version("v1", OLD))
    for state in states:
        verdict = diagnose(
            seen_with(state, V3, *versions, table=a_lock(ago=timedelta(seconds=30))), POLICY, NOW
        )
        assert offered(verdict) == [(Action.FORCE_UNLOCK, False, "id-1")]


@pytest.mark.parametrize(
    "row", [row for row in LOCK_ROWS if row.lock == "key_collision"], ids=lambda row: row.name
)
def test_where_two_keys_collide_nothing_is_offered_and_the_danger_is_told(row: Row) -> None:
    verdict = diagnose(row.seen, POLICY, NOW)

    assert verdict.remedies == ()
    assert any("renaming one key" in danger for danger in verdict.dangers)


def test_a_locked_state_that_shares_its_name_still_names_its_holder() -> None:
    assert "root@ci" in verdict_of("the same while one is locked").summary
