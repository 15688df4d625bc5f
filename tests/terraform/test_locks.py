"""Who holds the lock, in the table and in the `.tflock`, and what Terraform can and cannot do about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.terraform.board import EXIT_NOTHING_WRONG, look, look_until, scan
from tests.terraform.conftest import Stacks
from tests.terraform.expect import agree, assert_terraform
from tests.terraform.stored import Attribute
from tests.terraform.workspace import Run, Stack

pytestmark = pytest.mark.terraform

STORES: dict[str, dict[str, Any]] = {
    "table": {"table": True, "use_lockfile": False},
    "lock file": {"table": False, "use_lockfile": True},
    "both": {"table": True, "use_lockfile": True},
}
UNREADABLE_INFO: dict[str, dict[str, Attribute]] = {
    "missing": {},
    "empty": {"Info": {"S": ""}},
    "not JSON": {"Info": {"S": "locked by hand, ask Kim"}},
    "a number": {"Info": {"N": "42"}},
    "JSON with a time that is none": {"Info": {"S": '{"ID": "7d0c5356", "Created": "yesterday"}'}},
}
UNREADABLE_FILE: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"locked by hand, ask Kim",
    "JSON of another type": b"42",
}


def stores_of(stack: Stack) -> list[str]:
    return (["tflock"] if stack.use_lockfile else []) + (["dynamodb"] if stack.table else [])


def assert_cannot_release(run: Run) -> None:
    assert run.rc == 1, str(run)
    assert "Failed to unlock state" in run.text or "Failed to load state" in run.text, str(run)


@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
def test_of_two_applies_at_once_the_second_meets_the_holder_of_the_first(
    stacks: Stacks, stores: dict[str, Any]
) -> None:
    stack = stacks.applied(**stores)
    content = "ok" if stack.table else "no_digest"

    with stack.holding() as first:
        verdict = agree(stack, content=content, lock="locked", terraform="waits", severity="busy")
        second = stack.run("apply", "-auto-approve")
        assert_terraform(second, does="waits", locks=verdict.locks)
        assert first.release().rc == 0

    assert {lock["id"] for lock in verdict.locks} == {first.lock_id}
    assert sorted(lock["store"] for lock in verdict.locks) == sorted(stores_of(stack))
    assert all(lock["operation"] == "OperationTypeApply" for lock in verdict.locks)
    assert all(lock["version"] and lock["who"] and lock["created"] for lock in verdict.locks)
    assert verdict.recommended is None
    assert stack.apply(**stack.inputs).rc == 0
    agree(stack, content=content, terraform="works", severity="ok")


@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
def test_the_lock_of_a_killed_apply_is_stale_once_it_is_older_than_the_limit(
    stacks: Stacks, stores: dict[str, Any]
) -> None:
    stack = stacks.applied(**stores)
    lock_id = stack.leave_a_lock()
    content = "ok" if stack.table else "no_digest"

    young = agree(stack, content=content, lock="locked", terraform="waits", severity="busy")
    look_until(stack, "lock_stale", stale_after="1s")
    stale = agree(
        stack, content=content, lock="lock_stale", terraform="waits", severity="attention", stale_after="1s"
    )

    assert young.recommended is None
    assert {lock["id"] for lock in stale.locks} == {lock_id}
    assert stale.recommended is not None
    assert stale.recommended["action"] == "force_unlock"
    assert stack.force_unlock(lock_id).rc == 0
    assert_terraform(stack.plan(), does="works")


def test_an_apply_killed_between_state_and_digest_leaves_both_a_lock_and_a_mismatch(stacks: Stacks) -> None:
    """Lock and old digest are put back over a finished apply, as one leaves them that died in between."""
    stack = stacks.make()
    stack.apply(network="10.0.0.0/16")
    older = stack.stored.digest()
    assert older is not None
    with stack.holding() as holder:
        info = stack.stored.item(stack.stored.lock_id)
        assert info is not None
        holder.release()
    stack.stored.put_digest(older)
    stack.stored.put_item(stack.stored.lock_id, Info=info["Info"])

    verdict = agree(
        stack, content="digest_behind", lock="crashed_mid_write", terraform="blocked", severity="blocked"
    )

    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "take_over"
    assert verdict.recommended["digest"] is not None
    assert_terraform(stack.plan(), does="waits", locks=verdict.locks)


@pytest.mark.parametrize("attributes", UNREADABLE_INFO.values(), ids=UNREADABLE_INFO)
def test_a_lock_item_nobody_can_read_cannot_be_released_by_terraform(
    stacks: Stacks, attributes: dict[str, Attribute]
) -> None:
    stack = stacks.applied()
    stack.stored.put_item(stack.stored.lock_id, **attributes)

    verdict = agree(stack, content="ok", lock="lock_unreadable", terraform="waits", severity="attention")

    assert [(lock["store"], lock["readable"]) for lock in verdict.locks] == [("dynamodb", False)]
    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "force_unlock"
    assert_cannot_release(stack.force_unlock("7d0c5356"))
    assert stack.stored.item(stack.stored.lock_id) is not None


@pytest.mark.parametrize("body", UNREADABLE_FILE.values(), ids=UNREADABLE_FILE)
def test_a_lock_file_nobody_can_read_cannot_be_released_by_terraform(stacks: Stacks, body: bytes) -> None:
    stack = stacks.applied(table=False, use_lockfile=True)
    stack.stored.put_lockfile(body)

    verdict = agree(
        stack, content="no_digest", lock="lock_unreadable", terraform="waits", severity="attention"
    )

    assert [(lock["store"], lock["readable"]) for lock in verdict.locks] == [("tflock", False)]
    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "force_unlock"
    assert_cannot_release(stack.force_unlock("7d0c5356"))
    assert stack.stored.has_lockfile()


@pytest.mark.parametrize("store", ["dynamodb", "tflock"])
def test_a_lock_without_an_id_is_released_by_an_empty_one(stacks: Stacks, store: str) -> None:
    by_file = store == "tflock"
    stack = stacks.applied(table=not by_file, use_lockfile=by_file)
    if by_file:
        stack.stored.put_lockfile(b"{}")
    else:
        stack.stored.put_item(stack.stored.lock_id, Info={"S": "{}"})

    content = "no_digest" if by_file else "ok"
    verdict = agree(stack, content=content, lock="lock_unreadable", terraform="waits", severity="attention")

    assert verdict.recommended is not None
    assert "takes an empty ID" in verdict.recommended["why"]
    assert_cannot_release(stack.force_unlock("7d0c5356"))
    assert stack.force_unlock("").rc == 0
    assert not (stack.stored.has_lockfile() if by_file else stack.stored.item(stack.stored.lock_id))


def test_a_digest_left_behind_by_a_move_to_lock_files_makes_no_apply_look_dead(stacks: Stacks) -> None:
    """It has written its first snapshot under the lock file, and its digest will never follow."""
    stack = stacks.applied(use_lockfile=True)
    moved = replace(stack.fresh_copy("moved"), table=None)
    moved.apply(**{name: f"{value} moved" for name, value in stack.inputs.items()})

    with moved.holding() as alive:
        stack.stored.put_body(stack.stored.body())
        verdict = look(stack)

    assert (verdict.content, verdict.terraform) == ("digest_behind", "blocked")
    assert verdict.lock in ("locked", "locked_active")  # S3 tells of whole seconds, and this took one
    assert [lock["id"] for lock in verdict.locks] == [alive.lock_id]
    assert verdict.recommended is None
    assert {remedy["action"] for remedy in verdict.remedies} == {"force_unlock"}


def test_two_kinds_of_client_can_hold_one_state_at_once_under_different_ids(stacks: Stacks) -> None:
    """One team member locks with the table, another with a file: neither keeps the other out."""
    both = stacks.applied(use_lockfile=True)
    by_table = replace(both.fresh_copy("by-table"), use_lockfile=False)
    by_file = replace(both.fresh_copy("by-file"), table=None)
    for stack in (by_table, by_file):
        stack.write(both.inputs)
        stack.must("init")

    with by_table.holding() as one, by_file.holding() as other:
        verdict = agree(both, content="ok", lock="lock_split", terraform="waits", severity="attention")

        assert {(lock["store"], lock["id"]) for lock in verdict.locks} == {
            ("dynamodb", one.lock_id),
            ("tflock", other.lock_id),
        }
        assert verdict.recommended is None


@pytest.mark.parametrize("left", ["dynamodb", "tflock"])
def test_a_lock_left_in_one_store_of_two_is_released_although_terraform_says_it_failed(
    stacks: Stacks, left: str
) -> None:
    stack = stacks.applied(use_lockfile=True)
    lock_id = stack.leave_a_lock()
    if left == "dynamodb":
        stack.stored.delete_lockfile()
    else:
        stack.stored.delete_item(stack.stored.lock_id)

    verdict = agree(stack, content="ok", lock="lock_partial", terraform="waits", severity="attention")

    assert [(lock["store"], lock["id"]) for lock in verdict.locks] == [(left, lock_id)]
    run = stack.force_unlock(lock_id)
    assert run.rc == 1, str(run)
    assert stack.stored.table_lock() is None
    assert stack.stored.lockfile() is None


@pytest.mark.parametrize("digest", ["kept", "gone"])
def test_a_lock_on_a_workspace_whose_state_is_gone_cannot_be_released_by_terraform(
    stacks: Stacks, digest: str
) -> None:
    stack = stacks.make()
    stack.apply(network="10.0.0.0/16")
    staging = stack.new_workspace("staging")
    staging.apply(network="10.1.0.0/16")
    lock_id = staging.leave_a_lock()
    staging.stored.delete_object()
    if digest == "gone":
        staging.stored.delete_digest()
    content = "state_deleted" if digest == "kept" else "state_deleted_unprotected"
    severity = "blocked" if digest == "kept" else "critical"

    verdict = agree(staging, content=content, lock="lock_orphan", terraform="waits", severity=severity)

    assert [lock["id"] for lock in verdict.locks] == [lock_id]
    assert_cannot_release(staging.force_unlock(lock_id))
    assert staging.stored.table_lock() is not None


def test_a_key_that_ends_in_md5_cannot_be_locked_beside_its_sibling(stacks: Stacks) -> None:
    """`app-md5`'s lock item and `app`'s digest item are one and the same item."""
    odd = stacks.make("app-md5", name="odd")
    odd.apply(network="10.1.0.0/16")
    stack = stacks.make("app", beside=odd)
    stack.apply(network="10.0.0.0/16")

    verdict = agree(odd, content="ok", lock="key_collision", terraform="waits", severity="attention")
    sibling = agree(stack, content="ok", lock="key_collision", terraform="works", severity="attention")

    assert not verdict.remedies
    assert not sibling.remedies
    assert_cannot_release(odd.force_unlock("7d0c5356"))
    assert stack.stored.digest() is not None


def test_a_state_at_anothers_lock_file_is_never_taken_for_a_lock(stacks: Stacks) -> None:
    odd = stacks.make("app.tflock", name="odd", table=False)
    odd.apply(network="10.1.0.0/16")
    stack = stacks.make("app", table=False, beside=odd)
    stack.apply(network="10.0.0.0/16")
    locking = replace(stack.fresh_copy("locking"), use_lockfile=True)
    locking.write(stack.inputs)
    locking.must("init")

    verdict = agree(
        locking, content="no_digest", lock="key_collision", terraform="waits", severity="attention"
    )

    assert not verdict.remedies
    assert json.loads(odd.stored.body())["version"] == 4
    assert_terraform(odd.plan(), does="works")


def test_items_of_other_buckets_in_a_shared_table_are_counted_and_are_never_rows(stacks: Stacks) -> None:
    stack = stacks.applied()
    other = replace(stacks.make(name="other", beside=stack), bucket=stacks.emulator.make_bucket())
    other.apply(network="10.1.0.0/16")
    other.leave_a_lock()

    report = scan(stack)

    assert list(report.verdicts) == [stack.key]
    assert report.verdicts[stack.key].words == ("ok", "unlocked", "works", "ok")
    assert report.backends[0]["foreign_items"] == 2
    assert report.rc == EXIT_NOTHING_WRONG
    assert_terraform(stack.plan(), does="works")
