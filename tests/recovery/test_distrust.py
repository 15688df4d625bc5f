"""A store that does not know conditions: nothing is written to it but the test that shows it."""

from __future__ import annotations

import pytest

from lockboard.domain.keys import PROBE_KEY
from tests.faults import FaultProxy, refuse
from tests.recovery.conftest import NewHouse
from tests.recovery.deeds import DEEDS, held
from tests.recovery.house import House

pytestmark = pytest.mark.terraform

IN_THE_TABLE = "unlock in the table"
WITH_S3 = [
    name
    for name, deed in DEEDS.items()
    if name not in (IN_THE_TABLE, "put a lock back", "take a digest back")
]
NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"


def assert_every_action_is_refused(house: House, why: str) -> None:
    for name in WITH_S3:
        key, deed = house.key(), DEEDS[name]
        deed.make(key)
        page = deed.ask(key.known())
        before = held(key)

        answer = key.send(page)

        assert (answer.status, answer.result) == (409, "refused"), name
        assert why in answer.message, answer.message
        assert why in answer.page.told
        assert held(key) == before
    assert house.changes() == []


def test_a_store_that_ignores_conditions_is_not_written_to(new_house: NewHouse) -> None:
    house = new_house(ignores=("if-match", "if-none-match"))

    assert_every_action_is_refused(house, "ignores conditions")

    tried = house.proxy.recording.mutations()
    assert tried
    assert all(PROBE_KEY in seen.path and seen.conditional for seen in tried)


def test_a_store_without_conditional_deletes_is_not_written_to(new_house: NewHouse) -> None:
    house = new_house()
    house.proxy.on(FaultProxy.operation("DeleteObject"), refuse(501, NOT_IMPLEMENTED), times=None)

    assert_every_action_is_refused(house, "does not support this conditional request")

    assert all("if-match" in seen.headers for seen in house.proxy.recording.mutations())


@pytest.mark.parametrize("ignores", [("if-match",), ("if-none-match",)], ids=["If-Match", "If-None-Match"])
def test_a_store_that_ignores_one_of_the_two_conditions_is_not_written_to(
    new_house: NewHouse, ignores: tuple[str, ...]
) -> None:
    assert_every_action_is_refused(new_house(ignores=ignores), "ignores conditions")


def test_a_lock_in_the_table_alone_is_released_beside_such_a_store(new_house: NewHouse) -> None:
    house, deed = new_house(ignores=("if-match", "if-none-match")), DEEDS[IN_THE_TABLE]
    key = house.key()
    deed.make(key)

    assert key.send(deed.ask(key.known())).result == "done"
    assert key.writes() == ["TransactWriteItems"]
