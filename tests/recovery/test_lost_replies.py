"""A reply that is lost, or that lies, at each write of each action: what the page says of it is what the
emulator holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.faults import Deed as ProxyDeed
from tests.faults import Fault, Seen, call, hold_reply, instead, refuse
from tests.recovery.deeds import DEEDS, Deed, held, own_lock_stands
from tests.recovery.house import Answer, House, Key, changes_state_of_affairs

pytestmark = pytest.mark.terraform

NEVER_ARRIVED = Fault.CLOSE_BEFORE
REPLY_LOST = Fault.DROP_REPLY
HALF_A_REPLY = Fault.HALF_REPLY
DONE_SAYS_500 = instead(500, b"<Error><Code>InternalError</Code></Error>")
NOT_DONE_SAYS_503 = refuse(503, b"<Error><Code>SlowDown</Code></Error>")
FAULTS: Mapping[str, Sequence[ProxyDeed]] = {
    "moto": (NEVER_ARRIVED, DONE_SAYS_500),
    "ministack": (REPLY_LOST, NOT_DONE_SAYS_503),
}
"""Over each emulator one fault of what was done and one of what was not, at every write."""


def the(number: int, key: Key) -> Callable[[Seen], bool]:
    """Fits the write of this number, from 1, among those that actions make to this key."""

    def fits(seen: Seen) -> bool:
        return changes_state_of_affairs(seen) and key.changes()[number - 1 : number] == [seen]

    return fits


def assert_every_word_is_true(key: Key, deed: Deed, before: Mapping[str, object], answer: Answer) -> None:
    mended, unchanged = deed.mended(key), held(key) == before
    result, message = answer.result, answer.message
    if result == "done":
        assert mended, message
    elif result in ("refused", "no_change"):
        assert unchanged, message
    elif result == "failed":
        assert not mended, message
        assert unchanged or ", but " in message, message
    else:
        assert result == "unknown"
        assert "reply" in message, message
        assert "lost" in message, message
    if own_lock_stands(key):
        assert "could not be released" in message or "may yet appear" in message, message
    said = answer.page.told if answer.status == 303 else answer.page.text
    assert message in said


@pytest.mark.parametrize("name", DEEDS)
def test_no_word_is_false_whatever_becomes_of_the_reply_to_any_write(house: House, name: str) -> None:
    deed = DEEDS[name]
    struck_by = [*product(FAULTS[house.emulator.name], range(1, deed.writes + 1))]
    for fault, number in [*struck_by, (HALF_A_REPLY, deed.deciding)]:
        key = house.key()
        deed.make(key)
        page = deed.ask(key.known())
        before = held(key)
        house.proxy.on(the(number, key), fault)

        answer = key.send(page)

        house.proxy.clear_rules()
        struck = key.changes()[number - 1]
        assert not struck.forwarded or struck.told != struck.status
        assert_every_word_is_true(key, deed, before, answer)
        if struck.committed:
            assert answer.result == "done", (fault, number, answer.message)
        house.empty()


def test_a_lock_that_is_back_in_one_store_only_is_said_to_be(house: House) -> None:
    """The table is locked by another at that moment, and what was put back cannot be taken away again."""
    key, deed = house.key(), DEEDS["put a lock back"]
    deed.make(key)
    page = deed.ask(key.known())
    house.proxy.on(the(2, key), call(before=lambda _: key.locked(file=False)))
    house.proxy.on(the(3, key), Fault.CLOSE_BEFORE)

    answer = key.send(page)

    assert answer.result == "failed"
    assert "The .tflock object was put back, but not the lock item in DynamoDB" in answer.message
    assert key.stored.has_lockfile()


def test_an_answer_that_never_comes_is_settled_by_reading_for_every_action(house: House) -> None:
    """All at once, since each waits as long as the clients do."""
    until = threading.Event()
    pages = []
    for deed in DEEDS.values():
        key = house.key()
        deed.make(key)
        pages.append((key, deed, deed.ask(key.known())))
    for key, deed, _ in pages:
        house.proxy.on(the(deed.deciding, key), hold_reply(until))

    with ThreadPoolExecutor(len(pages)) as pool:
        answers = list(pool.map(lambda asked: asked[0].send(asked[2]), pages))
    until.set()

    for (key, deed, _), answer in zip(pages, answers, strict=True):
        assert answer.result == "done", answer.message
        assert deed.mended(key)
        assert not own_lock_stands(key)
