"""A program acts with a token: by the same rules as a person, once, in its own name, and never on what it
did not see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from lockboard.domain.access import Area, Grant, Role
from tests.recovery.deeds import DEEDS
from tests.recovery.house import BACKEND, House, Key

pytestmark = pytest.mark.terraform

OWNER, NAME, WHY = "kim", "repair-bot", "the runner was killed"
OPERATOR = Grant(Role.OPERATOR, unlock_unsuspected=True)

Body = Mapping[str, Any]
ASKED: Mapping[str, Callable[[Key], Body]] = {
    "unlock in the table": lambda key: {"action": "force_unlock"},
    "unlock the file": lambda key: {"action": "force_unlock", "store": "tflock"},
    "unlock both": lambda key: {"action": "force_unlock"},
    "set the digest": lambda key: {"action": "set_digest"},
    "remove the digest": lambda key: {"action": "clear_digest"},
    "restore a deleted state": lambda key: _restore(key, key.house.bodies.newer),
    "restore over a live state": lambda key: _restore(key, key.house.bodies.older),
    "take over": lambda key: {"action": "take_over"},
}
"""What a program asks for to do each deed."""


def _restore(key: Key, body: bytes) -> Body:
    return {"action": "restore_version", "version_id": key.version_of(body)}


@dataclass(frozen=True)
class Program:
    """Whoever has this secret. number: of its token."""

    house: House
    secret: str
    number: int

    def post(self, key: Key, path: str, body: Body) -> TestResponse:
        """Lone surrogates and all."""
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        answer = self.house.app.test_client().post(
            f"/api/v1/states/{key.id}/{path}", data=json.dumps(body), headers=headers, buffered=True
        )
        self.house.said.append(answer.data)
        return answer

    def plan(self, key: Key, body: Body) -> dict[str, Any]:
        """What is answered to a plan; it has to be one."""
        answer = self.post(key, "plans", body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()
        return found

    def act(self, key: Key, plan: Mapping[str, Any], **fields: str) -> TestResponse:
        """As the plan says, and for a reason."""
        typed = {"confirm": plan["confirm"], "serial": plan["serial"]}
        return self.post(key, "actions", {"token": plan["token"], "reason": WHY, **typed, **fields})


def program(house: House, *grants: Grant, lasts: timedelta = timedelta(hours=1)) -> Program:
    """With a token of its own."""
    now = house.clock()
    secret, token = house.tokens.add(NAME, OWNER, grants or (OPERATOR,), now, now + lasts)
    return Program(house, secret, token.number)


@pytest.mark.parametrize("name", ASKED)
def test_a_program_does_what_a_person_may_do_with_the_same_writes_and_in_its_own_name(
    house: House, name: str
) -> None:
    key, deed, robot = house.key(), DEEDS[name], program(house)
    deed.make(key)
    plan = robot.plan(key.known(), ASKED[name](key))
    assert key.changes() == []

    answer = robot.act(key, plan)

    assert answer.status_code == 200, answer.text
    assert answer.get_json()["result"] == "done"
    assert deed.mended(key)
    assert len(key.writes()) == deed.writes
    outcome, intent = key.records()
    assert [record.entry.kind.value for record in (intent, outcome)] == ["intent", "outcome"]
    assert answer.get_json()["record"] == outcome.seq
    person = outcome.entry.person
    assert (person.name, person.method) == (NAME, "token")
    assert person.subject.startswith(f"token|{robot.number}|")
    assert outcome.entry.reason == WHY


@pytest.mark.parametrize(
    ("name", "undone"), [("unlock both", "put a lock back"), ("set the digest", "take a digest back")]
)
def test_a_program_takes_back_what_it_did(house: House, name: str, undone: str) -> None:
    key, robot = house.key(), program(house)
    DEEDS[name].make(key)
    done = robot.act(key, robot.plan(key.known(), ASKED[name](key))).get_json()
    house.proxy.recording.clear()

    plan = robot.plan(key, {"action": "undo", "record": done["record"]})
    answer = robot.act(key, plan)

    assert plan["undoes"] == done["record"]
    assert answer.get_json()["result"] == "done", answer.text
    assert DEEDS[undone].mended(key)
    assert len(key.writes()) == DEEDS[undone].writes


def test_an_action_that_is_sent_again_changes_nothing_and_tells_the_same(house: House) -> None:
    key, robot = house.key().healthy(), program(house)
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))
    first = robot.act(key, plan).get_json()
    key.locked()
    writes = len(key.changes())

    with house.later(hours=0.5):
        again = robot.act(key, plan)

    assert again.status_code == 200
    assert again.get_json() == {**first, "replayed": True}
    assert len(key.changes()) == writes
    assert not key.free


# ---------------------------------------------------------------- who may not


def test_a_viewers_token_acts_on_nothing(house: House) -> None:
    key, viewer = house.key().healthy(), program(house, Grant(Role.VIEWER))
    key.locked()
    plan = program(house).plan(key.known(), ASKED["unlock both"](key))

    assert viewer.post(key, "plans", ASKED["unlock both"](key)).status_code == 403
    assert viewer.act(key, plan).status_code == 403
    assert key.changes() == []
    assert list(key.records()) == []


def test_a_token_of_another_area_does_not_know_the_state(house: House) -> None:
    key = house.key().healthy()
    elsewhere = program(house, Grant(Role.OPERATOR, Area(BACKEND, "elsewhere/"), unlock_unsuspected=True))
    key.locked()
    plan = program(house).plan(key.known(), ASKED["unlock both"](key))

    assert elsewhere.post(key, "plans", ASKED["unlock both"](key)).status_code == 404
    assert elsewhere.act(key, plan).status_code == 404
    assert key.changes() == []


def test_a_token_that_sees_more_than_it_may_act_on_is_told_so(house: House) -> None:
    key = house.key().healthy()
    narrow = program(house, Grant(Role.VIEWER), Grant(Role.OPERATOR, Area(BACKEND, "elsewhere/")))
    key.locked()

    assert narrow.post(key.known(), "plans", ASKED["unlock both"](key)).status_code == 403
    assert key.changes() == []


def test_a_lock_that_is_not_suspected_stale_needs_its_own_permission(house: House) -> None:
    key, careful = house.key().healthy(), program(house, Grant(Role.OPERATOR))
    key.locked()
    answer = careful.post(key.known(), "plans", ASKED["unlock both"](key))

    assert answer.status_code == 403
    assert "not suspected stale" in answer.get_json()["error"]


def test_a_token_that_is_over_opens_nothing_though_its_plan_was_made_before(house: House) -> None:
    key = house.key().healthy()
    robot = program(house, lasts=timedelta(seconds=30))
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))

    with house.later(seconds=40):
        assert robot.act(key, plan).status_code == 401
    assert key.changes() == []
    assert not key.free


def test_a_token_that_is_revoked_opens_nothing_though_its_plan_was_made_before(house: House) -> None:
    key, robot = house.key().healthy(), program(house)
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))
    house.tokens.revoke(robot.number, house.clock())

    answer = robot.act(key, plan)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert key.changes() == []


def test_a_plan_is_of_no_use_to_another_token(house: House) -> None:
    key, robot, other = house.key().healthy(), program(house), program(house)
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))

    assert other.act(key, plan).status_code == 400
    assert key.changes() == []
    assert list(key.records()) == []


def test_a_plan_is_of_no_use_for_another_state(house: House) -> None:
    one, other, robot = house.key().healthy(), house.key().healthy(), program(house)
    one.locked()
    other.locked()
    plan = robot.plan(one.known(), ASKED["unlock both"](one))

    assert robot.act(other, plan).status_code == 400
    assert not other.free


# ---------------------------------------------------------------- what was not seen


def test_a_lock_that_was_taken_anew_since_the_plan_stays(house: House) -> None:
    key, robot = house.key().healthy(), program(house)
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))
    key.locked()

    answer = robot.act(key, plan)

    assert answer.status_code == 409
    assert answer.get_json()["result"] == "refused"
    assert "Nothing was done" in answer.get_json()["error"]
    assert key.changes() == []
    assert not key.free
    [record] = key.records()
    assert (record.seq, record.entry.kind.value) == (answer.get_json()["record"], "refusal")


def test_a_plan_of_two_minutes_ago_is_carried_out_no_more(house: House) -> None:
    key, robot = house.key().behind(), program(house)
    plan = robot.plan(key.known(), ASKED["set the digest"](key))

    with house.later(seconds=150):
        answer = robot.act(key, plan)

    assert answer.status_code == 409
    assert key.changes() == []


def test_what_is_gone_already_is_no_change(house: House) -> None:
    key, robot = house.key().healthy(), program(house)
    key.locked()
    plan = robot.plan(key.known(), ASKED["unlock both"](key))
    key.stored.delete_item(key.stored.lock_id)
    house.emulator.s3.delete_object(Bucket=house.bucket, Key=key.stored.lockfile_key)

    answer = robot.act(key, plan)

    assert (answer.status_code, answer.get_json()["result"]) == (200, "no_change")
    assert key.changes() == []


def test_a_risky_plan_wants_its_name_typed(house: House) -> None:
    key, robot = house.key().deleted(), program(house)
    plan = robot.plan(key.known(), ASKED["remove the digest"](key))

    answer = robot.act(key, plan, confirm="something-else")

    assert answer.status_code == 422
    assert set(answer.get_json()["problems"]) == {"confirm"}
    assert key.changes() == []
    assert list(key.records()) == []
    assert robot.act(key, plan).get_json()["result"] == "done"


def test_a_reason_of_any_characters_is_recorded_as_it_was_sent(house: House) -> None:
    key, robot, odd = house.key().healthy(), program(house), "\ud800 \0 \u202e \x1b[31m …\r\n=1+1"
    key.locked()

    answer = robot.act(key, robot.plan(key.known(), ASKED["unlock both"](key)), reason=odd)

    assert answer.get_json()["result"] == "done", answer.text
    assert [record.entry.reason for record in key.records()] == [odd, odd]
    assert all(record.body.isascii() for record in key.records())
    assert house.audit.verify().ok
