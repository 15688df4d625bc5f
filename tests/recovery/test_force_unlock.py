"""Force-unlock through its page, in each place a lock can stand; then real Terraform is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recovery.house import House, Key
from tests.terraform.expect import LOCKED, NO_CHANGES
from tests.terraform.stored import Attribute

pytestmark = pytest.mark.terraform

STORES: dict[str, dict[str, bool]] = {
    "the table alone": {"table": True, "file": False},
    "the lock file alone": {"table": False, "file": True},
    "both": {"table": True, "file": True},
}
REMOVALS = {"table": "TransactWriteItems", "file": "DeleteObject"}
UNREADABLE: dict[str, dict[str, Attribute]] = {
    "missing": {},
    "not JSON": {"Info": {"S": "locked by hand, ask Kim"}},
    "a number": {"Info": {"N": "42"}},
    "binary": {"Info": {"B": b"\x00\xff"}},
    "a lone surrogate": {"Info": {"S": '{"ID":"1","Who":"\\ud800"}'}},
}


def assert_lets_terraform_in(key: Key, terraform: str, folder: Path) -> None:
    stack = key.stack(terraform, folder, key.house.bodies.newer_inputs)
    stack.must("init")
    run = stack.run("plan", "-detailed-exitcode")
    assert LOCKED not in run.text, str(run)
    assert run.rc == 0, str(run)
    assert NO_CHANGES in run.text


@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
def test_a_lock_is_released_where_it_stands_and_terraform_plans_again(
    house: House, stores: dict[str, bool], terraform: str, folder: Path
) -> None:
    key = house.key().healthy()
    lock_id = key.locked(**stores)
    page = key.known().ask("unlock")
    assert lock_id in page.text

    answer = key.send(page)

    assert (answer.status, answer.result) == (303, "done"), answer.message or answer.page.told
    assert answer.message in answer.page.told
    assert key.free
    wanted = [REMOVALS[store] for store in ("file", "table") if stores[store]]
    assert key.writes() == wanted
    assert_lets_terraform_in(key, terraform, folder)


def test_the_lock_that_a_killed_apply_left_in_both_stores_is_released(
    house: House, terraform: str, folder: Path
) -> None:
    key = house.key().healthy()
    stack = key.stack(terraform, folder, house.bodies.newer_inputs)
    stack.must("init")
    lock_id = stack.leave_a_lock()
    assert LOCKED in stack.plan().text

    answer = key.known().act("unlock")

    assert answer.result == "done"
    assert lock_id in str(answer.record)
    assert NO_CHANGES in stack.plan().text


def test_two_different_locks_are_released_one_at_a_time(house: House, terraform: str, folder: Path) -> None:
    key = house.key().healthy()
    in_table, in_file = key.locked(file=False), key.locked(table=False)
    both = key.known().ask("unlock")
    assert both.asking is None
    assert "Release one at a time" in both.text

    first = key.act("unlock?store=dynamodb")
    assert first.result == "done"
    assert key.stored.table_lock() is None
    assert (key.stored.lockfile() or {}).get("ID") == in_file
    assert in_table in str(first.record)
    second = key.act("unlock?store=tflock")

    assert second.result == "done"
    assert key.free
    assert key.writes() == ["TransactWriteItems", "DeleteObject"]
    assert_lets_terraform_in(key, terraform, folder)


@pytest.mark.parametrize("attributes", UNREADABLE.values(), ids=UNREADABLE)
def test_a_lock_item_that_terraform_cannot_release_is_released(
    house: House, attributes: dict[str, Attribute], terraform: str, folder: Path
) -> None:
    key = house.key().healthy()
    key.stored.put_item(key.stored.lock_id, **attributes)
    stack = key.stack(terraform, folder, house.bodies.newer_inputs)
    stack.must("init")
    if attributes != UNREADABLE["a lone surrogate"]:
        assert stack.force_unlock("1").rc == 1
    assert key.stored.item(key.stored.lock_id) is not None

    answer = key.known().act("unlock")

    assert answer.result == "done", answer.message or answer.page.told
    assert key.free
    assert NO_CHANGES in stack.plan().text


def test_a_lock_file_that_is_no_lock_record_is_released(house: House, terraform: str, folder: Path) -> None:
    key = house.key().healthy()
    key.stored.put_lockfile(b"locked by hand, ask Kim")

    answer = key.known().act("unlock")

    assert answer.result == "done", answer.message or answer.page.told
    assert_lets_terraform_in(key, terraform, folder)


def test_a_lock_that_is_gone_leaves_nothing_to_do(house: House) -> None:
    key = house.key().healthy()
    key.locked()
    page = key.known().ask("unlock")
    key.stored.delete_lockfile()
    key.stored.delete_item(key.stored.lock_id)

    answer = key.send(page)

    assert answer.result == "no_change"
    assert key.changes() == []


@pytest.mark.parametrize("action", ["unlock", "digest", "digest/clear", "takeover"])
def test_where_a_lock_item_is_another_keys_digest_nothing_can_be_done(house: House, action: str) -> None:
    """The lock item of a key that ends in `-md5` is the digest item of the key without it."""
    victim = house.key().healthy()
    twin = house.key(f"{victim.key}-md5")
    twin.healthy()
    kept: Any = victim.stored.item(victim.stored.digest_id)
    victim.known()

    for key in (twin, victim):
        page = key.ask(action)
        assert page.status == 200
        assert page.asking is None, page.text

    assert victim.stored.item(victim.stored.digest_id) == kept
    assert house.changes() == []


def test_a_collision_that_came_after_the_page_never_costs_a_digest(house: House) -> None:
    """The lock that the page showed is replaced by a digest of the same name before the click."""
    twin = house.key(f"{house.key().key}-md5")
    twin.healthy()
    twin.locked(file=False)
    page = twin.known().ask("unlock")
    lock = twin.stored.item(twin.stored.lock_id)
    assert lock is not None
    twin.stored.put_item(twin.stored.lock_id, Digest={"S": "a" * 32}, Info=lock["Info"])

    answer = twin.send(page)

    assert answer.status == 409
    assert answer.result == "refused"
    assert (twin.stored.item(twin.stored.lock_id) or {})["Digest"] == {"S": "a" * 32}
    assert house.changes() == []
