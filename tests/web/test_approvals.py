"""The pages of a second person: what each shows to whom, and what its buttons do."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.access import Actor, Area, Grant, Rights, Role
from lockboard.domain.audit import Entry, Kind, Record
from lockboard.domain.errors import Throttled
from lockboard.domain.model import Action
from lockboard.domain.plans import Wanted
from lockboard.domain.signin import Waiting
from lockboard.web.access import Visitor
from lockboard.web.app import Services, build_app
from lockboard.web.signin import Doorkeeper
from tests.services.action_fakes import World
from tests.services.approval_fakes import (
    ADA,
    BOTH,
    ID,
    KEY,
    LEE,
    MIN,
    PROTECTED_ONLY,
    STRANGERS,
    FakeApprovals,
    actor,
    ask,
    protected,
    waiting,
)
from tests.web.entrances import CSRF, SECRET, nobody_noted
from tests.web.fakes import SETTINGS
from tests.web.test_headers import protected as has_every_header

SAME = {"Sec-Fetch-Site": "same-origin"}
UNLOCK, UNLOCK_WANTED = f"/s/{ID}/unlock", Wanted(Action.FORCE_UNLOCK)
UNLOCKED = ["release_lockfile", "release_lock"]


class As:
    """Whoever the test says comes now."""

    mode = "local"

    def __init__(self) -> None:
        self.actor = MIN

    def visitor(self, now: datetime) -> Visitor:
        return Visitor(self.actor, CSRF)


class House:
    """The pages over real actions on a world in memory."""

    def __init__(self, world: World, approvals: FakeApprovals) -> None:
        self.world, self.approvals, self.entrance = world, approvals, As()
        clock = world.estate.clock
        services = Services(
            world.estate.inventory,
            {world.estate.name: world.estate.backend},
            self._recheck,
            SETTINGS,
            clock,
            timedelta(seconds=15),
            "0.1.0",
            Doorkeeper(self.entrance, SECRET, clock, nobody_noted),
            audit=world.audit,
            actions=world.actions,
            second_person=True,
            limited=False,
        )
        self.app = build_app(services, monotonic=clock.monotonic)

    def _recheck(self, backend: str, state_id: str) -> Any:
        raise AssertionError("nobody asked for it")

    def as_(self, who: Actor) -> FlaskClient:
        self.entrance.actor = who
        return self.app.test_client()

    def get(self, who: Actor, path: str) -> TestResponse:
        return self.as_(who).get(path, buffered=True)

    def post(self, who: Actor, path: str, **fields: str) -> TestResponse:
        return self.as_(who).post(path, data={"csrf": CSRF, **fields}, headers=SAME, buffered=True)

    def send(self, who: Actor = MIN) -> TestResponse:
        """The form of the page that asks, filled in."""
        token = re.search(r'name="token" value="([^"]+)"', self.get(who, UNLOCK).text)
        assert token
        confirm = self.world.actions.prepare(who, ID, UNLOCK_WANTED).plan.confirm  # type: ignore[union-attr]
        return self.post(who, UNLOCK, token=token[1], reason="the runner was killed", confirm=confirm)

    @property
    def done(self) -> list[str]:
        return [name for name, _ in self.world.committed]


def house() -> tuple[House, int]:
    """With a request of MIN's that waits."""
    world, approvals, number = waiting()
    return House(world, approvals), number


def words(answer: TestResponse) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def test_the_page_that_asks_says_that_somebody_else_has_to_approve() -> None:
    world, approvals = protected()

    text = words(House(world, approvals).get(MIN, UNLOCK))

    assert "second person" in text


def test_a_form_on_a_protected_key_leads_to_the_request_and_does_nothing() -> None:
    world, approvals = protected()
    made = House(world, approvals)

    answer = made.send()

    assert (answer.status_code, answer.headers["Location"]) == (303, "/approvals/1")
    assert made.done == []
    page = words(made.get(MIN, "/approvals/1"))
    assert "Waiting" in page
    assert "the runner was killed" in page


def test_the_same_form_sent_again_leads_to_the_same_request() -> None:
    world, approvals = protected()
    made = House(world, approvals)
    page = made.get(MIN, UNLOCK).text
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token
    confirm = made.world.actions.prepare(MIN, ID, UNLOCK_WANTED).plan.confirm  # type: ignore[union-attr]
    sent = {"token": token[1], "reason": "the runner was killed", "confirm": confirm}

    answers = [made.post(MIN, UNLOCK, **sent) for _ in range(3)]

    assert {answer.headers["Location"] for answer in answers} == {"/approvals/1"}
    assert len(approvals.kept) == 1


def test_its_requester_can_withdraw_it_and_has_no_button_to_approve() -> None:
    made, number = house()
    text = made.get(MIN, f"/approvals/{number}").text

    assert f'action="/approvals/{number}/approve"' not in text
    assert f'action="/approvals/{number}/decline"' in text
    assert "Withdraw" in text


def test_who_may_approve_sees_exactly_what_it_would_do_and_both_buttons() -> None:
    made, number = house()
    page = made.get(LEE, f"/approvals/{number}")

    assert f'action="/approvals/{number}/approve"' in page.text
    assert "Decline" in page.text
    assert "dynamodb" in page.text.lower()
    assert "min (local)" in words(page)
    assert KEY in words(page)


@pytest.mark.parametrize("second", [LEE, ADA, PROTECTED_ONLY])
def test_approving_carries_it_out_and_leads_to_the_state_with_what_became_of_it(second: Actor) -> None:
    made, number = house()

    answer = made.post(second, f"/approvals/{number}/approve")

    record = made.world.audit.records[-1]
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/s/{ID}?done={record.seq}")
    assert (record.entry.kind, record.entry.person.name) == (Kind.OUTCOME, "min")
    assert made.done == UNLOCKED
    assert record.entry.message in words(made.get(second, answer.headers["Location"]))


def test_approving_reads_nothing_more_once_it_is_done() -> None:
    """A reading that fails afterwards must not make a change look like none."""
    made, number = house()
    append, world = made.world.audit.append, made.world

    def then_fail(entry: Entry) -> Record:
        record = append(entry)
        if entry.kind is Kind.OUTCOME:
            world.estate.inventory.rows.clear()
        return record

    world.audit.append = then_fail  # type: ignore[method-assign]
    answer = made.post(LEE, f"/approvals/{number}/approve")

    assert answer.status_code == 303
    assert made.done == UNLOCKED


def test_the_requester_is_refused_and_nothing_is_done() -> None:
    made, number = house()
    answer = made.post(MIN, f"/approvals/{number}/approve")

    assert answer.status_code == 403
    assert "A second person has to approve this" in words(answer)
    assert "Nothing was done" in words(answer)
    assert (made.done, made.approvals.kept[0].state) == ([], Waiting.WAITING)


@pytest.mark.parametrize("who", STRANGERS)
def test_for_everybody_else_there_is_no_such_request(who: str) -> None:
    made, number = house()
    stranger = STRANGERS[who]

    answers = [
        made.get(stranger, f"/approvals/{number}"),
        made.post(stranger, f"/approvals/{number}/approve"),
        made.post(stranger, f"/approvals/{number}/decline"),
    ]
    missing = made.get(stranger, "/approvals/999")

    assert [answer.status_code for answer in answers] == [404] * 3
    assert missing.status_code == 404
    assert {words(answer) for answer in answers} == {words(missing)}
    assert f"/approvals/{number}" not in made.get(stranger, "/approvals").text
    assert (made.done, made.approvals.kept[0].state) == ([], Waiting.WAITING)


@pytest.mark.parametrize(
    ("who", "state", "title"), [(MIN, Waiting.WITHDRAWN, "Withdrawn"), (LEE, Waiting.DECLINED, "Declined")]
)
def test_declining_ends_it_and_says_by_whom(who: Actor, state: Waiting, title: str) -> None:
    made, number = house()

    answer = made.post(who, f"/approvals/{number}/decline")

    assert (answer.status_code, answer.headers["Location"]) == (303, f"/approvals/{number}")
    assert made.approvals.kept[0].state is state
    for path in ("/approvals", f"/approvals/{number}"):
        page = words(made.get(LEE, path))
        assert title in page
        assert f"by {who.person.name}" in page
    assert f"/approvals/{number}/approve" not in made.get(LEE, f"/approvals/{number}").text
    assert made.done == []


def test_what_was_decided_is_not_decided_again() -> None:
    made, number = house()
    made.post(LEE, f"/approvals/{number}/approve")
    before = len(made.world.audit.records)

    for deed in ("approve", "decline"):
        answer = made.post(ADA, f"/approvals/{number}/{deed}")
        assert answer.headers["Location"] == f"/approvals/{number}"

    assert made.done == UNLOCKED
    assert len(made.world.audit.records) == before


def test_where_the_world_moved_the_page_says_so_and_approving_does_nothing() -> None:
    made, number = house()
    made.world.estate.unlock(KEY)
    made.world.estate.lock(KEY, id="id-2", file=True)

    page = made.get(LEE, f"/approvals/{number}")
    answer = made.post(LEE, f"/approvals/{number}/approve")

    assert "It is not as it was when this was asked for" in words(page)
    assert f"/approvals/{number}/approve" not in page.text
    assert made.done == []
    told = made.get(MIN, answer.headers["Location"])
    assert "Nothing was done" in words(told)
    assert "Declined" in words(made.get(MIN, f"/approvals/{number}"))


def test_a_request_past_its_time_is_called_expired_at_once() -> None:
    made, number = house()
    made.world.estate.clock.pass_(1800)

    page = made.get(LEE, f"/approvals/{number}")
    answer = made.post(LEE, f"/approvals/{number}/approve")

    assert "Expired" in words(page)
    assert f"/approvals/{number}/approve" not in page.text
    assert answer.headers["Location"] == f"/approvals/{number}"
    assert (made.done, made.approvals.kept[0].state) == ([], Waiting.EXPIRED)


@pytest.mark.parametrize("deed", ["see", "approve"])
def test_where_aws_cannot_be_read_it_is_said_and_the_request_waits_on(deed: str) -> None:
    made, number = house()

    def fail(*args: object, **named: object) -> Any:
        raise Throttled("s3:GetObject", "SlowDown", "")

    made.world.estate.bucket.read_state = fail  # type: ignore[method-assign]
    path = f"/approvals/{number}"
    answer = made.get(LEE, path) if deed == "see" else made.post(LEE, f"{path}/approve")

    assert answer.status_code == 502
    assert "Nothing was done: AWS could not be read" in words(answer)
    has_every_header(answer)
    assert (made.done, made.approvals.kept[0].state) == ([], Waiting.WAITING)


@pytest.mark.parametrize("deed", ["approve", "decline"])
def test_without_a_record_nothing_is_decided(deed: str) -> None:
    made, number = house()
    made.world.audit.broken = True

    answer = made.post(LEE, f"/approvals/{number}/{deed}")

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert (made.done, made.approvals.kept[0].state) == ([], Waiting.WAITING)


def test_an_approver_who_may_not_release_such_a_lock_is_told_so() -> None:
    world, approvals, number = waiting(stale=False)
    made = House(world, approvals)

    answer = made.post(PROTECTED_ONLY, f"/approvals/{number}/approve")

    assert answer.status_code == 403
    assert "not suspected stale" in words(answer)
    assert (made.done, approvals.kept[0].state) == ([], Waiting.WAITING)


def test_the_list_names_each_request_once_with_what_became_of_it() -> None:
    made, number = house()
    second = ask(made.world, LEE)
    made.post(LEE, f"/approvals/{number}/approve")
    text = words(made.get(ADA, "/approvals"))

    assert text.count("Request 1:") == text.count(f"Request {second}:") == 1
    assert "Approved" in text
    assert "Waiting" in text


def test_hostile_text_in_a_request_is_text() -> None:
    made, number = house()
    hostile = "<script>alert(1)</script>\u202e'\""
    found = made.approvals.kept[0]
    made.approvals.kept[0] = replace(
        found,
        form={**found.form, "reason": hostile, "ticket": hostile},
        requester=(hostile, hostile, "", "x"),
    )

    for path in ("/approvals", f"/approvals/{number}"):
        text = made.get(LEE, path).text
        assert "<script>alert" not in text
        assert "\u202e" not in text


def test_the_nav_offers_requests_to_those_who_act() -> None:
    made, _ = house()

    assert 'href="/approvals"' in made.get(LEE, "/help").text
    assert 'href="/approvals"' not in made.get(actor("vic", Grant(Role.VIEWER)), "/help").text


def test_a_second_person_of_one_prefix_approves_there_alone() -> None:
    made, number = house()
    there = actor("lee", replace(BOTH, area=Area("dev", "team/")))
    beside = actor("lee", replace(BOTH, area=Area("dev", "team/vpc-2/")))

    assert made.post(beside, f"/approvals/{number}/approve").status_code == 404
    assert made.post(there, f"/approvals/{number}/approve").status_code == 303
    assert made.done == UNLOCKED


def test_who_lost_sight_of_the_key_loses_sight_of_the_request() -> None:
    made, number = house()
    moved = replace(MIN, rights=Rights((Grant(Role.OPERATOR, Area("other")),)))

    assert made.get(moved, f"/approvals/{number}").status_code == 404
    assert made.post(moved, f"/approvals/{number}/decline").status_code == 404
