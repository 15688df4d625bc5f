"""What changes between the page and the click, or in the very moment of the change, is never overrun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults import call
from tests.recovery.deeds import DEEDS, held
from tests.recovery.house import House, Key, changes_state_of_affairs
from tests.recovery.page import Page
from tests.terraform.expect import LOCKED, MISMATCH
from tests.terraform.stored import md5
from tests.terraform.workspace import Run, Stack

pytestmark = pytest.mark.terraform

ROUNDS, WITHIN_SECONDS = 8, 60.0


def assert_nothing_was_done(key: Key, before: Mapping[str, Any]) -> None:
    assert held(key) == before
    assert key.changes() == []


@pytest.mark.parametrize("stores", [{"file": False}, {"table": False}, {}], ids=["table", "file", "both"])
def test_a_lock_taken_again_since_the_page_stays_and_its_holder_is_shown(
    house: House, stores: dict[str, bool]
) -> None:
    key = house.key().healthy()
    key.locked(**stores)
    page = key.known().ask("unlock")
    again = key.locked(**stores)
    before = held(key)

    answer = key.send(page)

    assert answer.status == 409
    assert answer.result == "refused"
    assert again in answer.page.text
    assert answer.page.asking is not None
    assert_nothing_was_done(key, before)
    assert key.send(answer.page).result == "done"


@pytest.mark.parametrize("stores", [{"file": False}, {"table": False}], ids=["table", "file"])
def test_a_lock_taken_again_in_the_moment_of_its_removal_stays(house: House, stores: dict[str, bool]) -> None:
    key = house.key().healthy()
    key.locked(**stores)
    page = key.known().ask("unlock")
    house.proxy.on(changes_state_of_affairs, call(before=lambda _: key.locked(**stores)))

    answer = key.send(page)

    assert (answer.status, answer.result) == (409, "refused")
    assert not key.free
    assert key.writes() == []


@pytest.mark.parametrize("name", DEEDS)
def test_a_page_older_than_two_minutes_is_refused_and_shown_anew(house: House, name: str) -> None:
    key, deed = house.key(), DEEDS[name]
    deed.make(key)
    page = deed.ask(key.known())
    before = held(key)

    with house.later(seconds=121):
        answer = key.send(page)

        assert (answer.status, answer.result) == (409, "refused")
        assert "older than 2 min" in answer.page.told
        assert_nothing_was_done(key, before)
        assert answer.page.asking is not None
        assert key.send(answer.page).result == "done"
    assert deed.mended(key)


@pytest.mark.parametrize(
    "name", ["set the digest", "restore a deleted state", "restore over a live state", "take over"]
)
@pytest.mark.parametrize("moment", ["before the click", "under Lockboard's lock"])
def test_a_state_written_since_the_page_is_never_written_over(house: House, name: str, moment: str) -> None:
    key, deed = house.key(), DEEDS[name]
    deed.make(key)
    page = deed.ask(key.known())
    foreign = house.bodies.newer.replace(b'"serial": ', b'"serial": 4')

    def write(_: object = None) -> None:
        key.stored.put_body(foreign)

    if moment == "before the click":
        write()
    else:
        house.proxy.on(lambda seen: b"lockboard-repair" in seen.body, call(after=write))
    answer = key.send(page)

    assert answer.status == 409, answer.page.told
    assert answer.result == "refused"
    assert key.stored.body() == foreign
    assert key.stored.digest() in (md5(house.bodies.older), md5(house.bodies.newer))
    assert not [seen for seen in key.changes(committed=True) if seen.path.endswith(key.key)]


def test_a_digest_changed_since_the_page_is_left_alone(house: House) -> None:
    key = house.key().behind()
    page = key.known().ask("digest")
    key.stored.put_digest("b" * 32)

    answer = key.send(page)

    assert (answer.status, answer.result) == (409, "refused")
    assert key.stored.digest() == "b" * 32
    assert key.changes() == []


def test_a_lock_taken_since_the_page_keeps_a_repair_out(house: House) -> None:
    key = house.key().behind()
    page = key.known().ask("digest")
    lock_id = key.locked()

    answer = key.send(page)

    assert (answer.status, answer.result) == (409, "refused")
    assert (key.stored.table_lock() or {})["ID"] == lock_id
    assert key.changes() == []


def test_an_apply_beside_each_repair_never_meets_a_content_that_it_does_not_expect(
    house: House, terraform: str, folder: Path
) -> None:
    """Applies that write each time, begun together with the click or once Lockboard has the lock."""
    key = house.key().healthy().known()
    stack = key.stack(terraform, folder, house.bodies.newer_inputs)
    stack.must("init")
    runs: list[Run] = []
    results: list[str] = []
    for number in range(ROUNDS):
        page, begin = ask_for_repair(key, number), threading.Event()
        if number % 2:
            begin.set()
        else:
            house.proxy.on(changes_state_of_affairs, call(after=_setting(begin)))
        with ThreadPoolExecutor(1) as pool:
            applying = pool.submit(apply, stack, number, begin)
            results.append(key.send(page).result)
            runs.append(applying.result())

    assert results[::2] == ["done"] * (ROUNDS // 2)
    assert set(results) <= {"done", "refused"}
    assert not [str(run) for run in runs if MISMATCH in run.text]
    assert not [str(run) for run in runs if run.rc and LOCKED not in run.text]
    assert 0 in [run.rc for run in runs]
    assert set(digests_written(house, key)) <= {etag for _, etag in key.versions()}
    assert key.stored.digest() == md5(key.stored.body())
    assert key.free


def apply(stack: Stack, number: int, begin: threading.Event) -> Run:
    """One apply that changes something, and waits for the lock; it gives up where a lock file is gone again
    before it could read whose that was.
    """
    assert begin.wait(WITHIN_SECONDS)
    stack.write({**stack.inputs, "round": str(number)})
    return stack.run("apply", "-auto-approve", "-lock-timeout=60s")


def ask_for_repair(key: Key, number: int) -> Page:
    """Of four: restores over what the last apply wrote, and digests set where somebody removed one."""
    if number % 4 < 2:
        return key.ask(f"restore/{key.versions()[1][0]}")
    key.stored.delete_digest()
    return key.ask("digest")


def _setting(event: threading.Event) -> Callable[[object], None]:
    return lambda _: event.set()


def digests_written(house: House, key: Key) -> list[str]:
    """By anybody, as the proxy saw them."""
    name, found = {"S": key.stored.digest_id}, []
    for seen in house.proxy.recording.mutations(committed=True):
        document = seen.document if seen.target else {}
        parts = [part for one in document.get("TransactItems", [document]) for part in one.values()]
        parts = [part for part in [document, *parts] if isinstance(part, dict)]
        for part in parts:
            if (part.get("Item") or {}).get("LockID") == name:
                found.append(part["Item"]["Digest"]["S"])
            elif (part.get("Key") or {}).get("LockID") == name and "UpdateExpression" in part:
                found.append(part["ExpressionAttributeValues"][":new"]["S"])
    return found
