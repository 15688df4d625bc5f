"""Digest repair, restore, take-over and undo through their pages, judged by real Terraform afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import call
from tests.recovery.house import Answer, House, Key
from tests.terraform.expect import LOCKED, MISMATCH, NO_CHANGES
from tests.terraform.stored import md5
from tests.terraform.workspace import Run

pytestmark = pytest.mark.terraform

Plan = Callable[..., Run]

ASKED = {("digest", "moto"), ("digest/clear", "ministack")}
"""Where Terraform itself is asked: it looks for ten seconds before it says that the content is not the
expected one.
"""
HELD = ["PutObject", "TransactWriteItems"]
LET_GO = ["DeleteObject", "TransactWriteItems"]


@pytest.fixture
def plan(terraform: str, folder: Path) -> Plan:
    """A colleague's `plan -detailed-exitcode` with the configuration of the newer state, or of `inputs`."""

    def run(key: Key, inputs: dict[str, str] | None = None) -> Run:
        stack = key.stack(terraform, folder, inputs or key.house.bodies.newer_inputs)
        stack.must("init")
        return stack.run("plan", "-detailed-exitcode")

    return run


def assert_no_changes(run: Run) -> None:
    assert run.rc == 0, str(run)
    assert NO_CHANGES in run.text


def assert_done(answer: Answer) -> None:
    assert (answer.status, answer.result) == (303, "done"), answer.message or answer.page.told
    assert answer.message in answer.page.told


# ------------------------------------------------------------------ digests


def test_a_digest_left_behind_is_set_and_terraform_finds_no_changes(house: House, plan: Plan) -> None:
    key = house.key().behind()
    before = key.versions()

    answer = key.known().act("digest")

    assert_done(answer)
    assert key.stored.digest() == md5(house.bodies.newer)
    assert key.writes() == [*HELD, "TransactWriteItems", *LET_GO]
    assert key.free
    assert key.versions() == before
    assert_no_changes(plan(key))


@pytest.mark.parametrize("field", ["digest", "new", "md5"])
def test_a_digest_is_never_typed(house: House, field: str) -> None:
    key = house.key().behind()
    page = key.known().ask("digest")

    answer = key.send(page, **{field: "a" * 32})

    assert answer.status == 400, answer.page.told
    assert key.changes() == []
    assert key.stored.digest() == md5(house.bodies.older)


def test_the_digest_of_a_decommissioned_state_is_removed_and_nothing_blocks_any_more(
    house: House, plan: Plan
) -> None:
    key = house.key().deleted()

    answer = key.known().act("digest/clear")

    assert_done(answer)
    assert key.stored.item(key.stored.digest_id) is None
    assert key.free
    run = plan(key)
    assert run.rc == 2, str(run)
    assert "Plan: 2 to add, 0 to change, 0 to destroy." in run.text


# ------------------------------------------------------------------ versions


def test_a_state_deleted_by_hand_is_restored_and_terraform_finds_no_changes(house: House, plan: Plan) -> None:
    key = house.key().deleted()
    before = key.versions()

    answer = key.send(key.known().ask_restore(house.bodies.newer))

    assert_done(answer)
    assert key.writes() == [*HELD, "PutObject", *LET_GO]
    assert key.stored.body() == house.bodies.newer
    assert key.versions()[1:] == before
    assert key.free
    assert_no_changes(plan(key))


def test_a_restore_brings_the_digest_in_line_in_the_same_action(house: House, plan: Plan) -> None:
    key = house.key().deleted_with_digest_behind()

    answer = key.send(key.known().ask_restore(house.bodies.newer))

    assert_done(answer)
    assert key.writes() == [*HELD, "PutObject", "TransactWriteItems", *LET_GO]
    assert key.stored.digest() == md5(house.bodies.newer)
    assert_no_changes(plan(key))


def test_an_earlier_version_is_put_over_a_live_one_once_its_lower_serial_is_typed(
    house: House, plan: Plan
) -> None:
    key = house.key().healthy()
    before, serial = key.versions(), str(json.loads(house.bodies.older)["serial"])
    page = key.known().ask_restore(house.bodies.older)
    assert page.asking is not None
    assert page.asking.typed["serial"] == serial

    refused = key.send(page, serial="")
    assert refused.status == 422
    assert key.changes() == []
    assert_done(key.send(page))

    assert key.stored.body() == house.bodies.older
    assert key.stored.digest() == md5(house.bodies.older)
    assert key.versions()[1:] == before
    assert_no_changes(plan(key, house.bodies.older_inputs))


def test_a_restored_version_keeps_its_headers_and_tags(house: House) -> None:
    key = house.key()
    house.emulator.s3.put_object(
        Bucket=house.bucket,
        Key=key.key,
        Body=house.bodies.older,
        ContentType="application/json",
        CacheControl="no-cache",
        Metadata={"team": "platform"},
        ServerSideEncryption="AES256",
        Tagging="cost=7%2B1&team=platform",
    )
    place = {"Bucket": house.bucket, "Key": key.key}
    names = ("ContentType", "CacheControl", "Metadata", "ServerSideEncryption")

    def kept() -> tuple[object, object]:
        head = house.emulator.s3.head_object(**place)
        tags = house.emulator.s3.get_object_tagging(**place)["TagSet"]
        return {name: head.get(name) for name in names}, sorted(tags, key=lambda tag: tag["Key"])

    before = kept()
    key.stored.put_body(house.bodies.newer)
    assert kept() != before
    assert_done(key.send(key.known().ask_restore(house.bodies.older)))

    assert kept() == before


# ------------------------------------------------------------------ take-over


def test_a_run_that_died_in_mid_write_is_taken_over_without_a_gap_and_terraform_finds_no_changes(
    house: House, plan: Plan
) -> None:
    key = house.key().crashed()
    stale = key.stored.table_lock()
    page = key.known().ask("takeover")
    assert stale is not None
    assert stale["Who"] in page.text

    answer = key.send(page)

    assert_done(answer)
    assert key.writes() == [*HELD, "TransactWriteItems", *LET_GO]
    take = key.changes()[0]
    assert "if-match" in take.headers
    assert key.stored.digest() == md5(house.bodies.newer)
    assert key.free
    assert_no_changes(plan(key))


def test_a_take_over_that_mends_nothing_puts_the_old_lock_back(house: House) -> None:
    """The state is written once more right after Lockboard has taken the lock over."""
    key = house.key().crashed()
    before = key.stored.table_lock()
    page = key.known().ask("takeover")
    house.proxy.on(
        lambda seen: seen.mutates and b"lockboard-repair" in seen.body and seen.operation == "PutObject",
        call(after=lambda _: key.stored.put_body(house.bodies.older)),
    )

    answer = key.send(page)

    assert answer.result == "refused", answer.message or answer.page.told
    assert key.stored.table_lock() == before
    assert key.stored.lockfile() == before
    assert key.stored.digest() == md5(house.bodies.older)


# ------------------------------------------------------------------ undo


def test_a_removed_lock_is_put_back_and_keeps_terraform_out_again(house: House, plan: Plan) -> None:
    key = house.key().healthy()
    lock_id = key.locked()
    before = key.stored.item(key.stored.lock_id), key.stored.lockfile()
    done = key.known().act("unlock")

    assert_done(key.send(key.undo(done)))

    assert (key.stored.item(key.stored.lock_id), key.stored.lockfile()) == before
    run = plan(key)
    assert run.rc == 1, str(run)
    assert LOCKED in run.text
    assert lock_id in run.text


@pytest.mark.parametrize("action", ["digest", "digest/clear"])
def test_a_change_of_the_digest_is_taken_back_and_terraform_stops_as_before(
    house: House, action: str, terraform: str, folder: Path
) -> None:
    key = house.key()
    key = key.behind() if action == "digest" else key.deleted()
    digest = key.stored.digest()
    done = key.known().act(action)
    assert_done(done)

    assert_done(key.send(key.undo(done)))

    assert key.stored.digest() == digest
    assert key.free
    if (action, house.emulator.name) not in ASKED:
        return
    run = key.stack(terraform, folder, house.bodies.newer_inputs).init()
    assert run.rc == 1, str(run)
    assert MISMATCH in run.text


def test_a_restore_over_a_live_state_is_taken_back(house: House, plan: Plan) -> None:
    key = house.key().healthy()
    done = key.send(key.known().ask_restore(house.bodies.older))
    assert_done(done)
    before = key.versions()

    assert_done(key.send(key.undo(done)))

    assert key.stored.body() == house.bodies.newer
    assert key.stored.digest() == md5(house.bodies.newer)
    assert key.versions()[1:] == before
    assert_no_changes(plan(key))


def test_what_cannot_be_taken_back_says_why(house: House) -> None:
    restored = house.key().deleted()
    undeleted = restored.send(restored.known().ask_restore(house.bodies.newer))
    key = house.key().healthy()
    key.locked()
    unlocked = key.known().act("unlock")
    key.locked()

    assert "would mean deleting a state" in restored.undo(undeleted).text
    assert "A lock is held now" in key.undo(unlocked).text
    assert restored.undo(undeleted).asking is None
    assert key.undo(unlocked).asking is None
