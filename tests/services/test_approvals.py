"""A second person: what waits for one, who may be it, and that nothing is done but what both of them saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from lockboard.domain.access import Actor, Area, Grant, Rights, Role
from lockboard.domain.audit import AuditError, Entry, Kind, Person, Record, Result
from lockboard.domain.errors import AccessDenied, StoreError
from lockboard.domain.keys import lock_id
from lockboard.domain.model import Action, Policy
from lockboard.domain.plans import Refused, Wanted
from lockboard.domain.signin import Waiting
from lockboard.domain.writes import Hands
from lockboard.services.attempts import Answer, Halted, NotPermitted, UnknownState
from lockboard.services.reconcile import DEAD_AFTER
from lockboard.services.second_person import BEGUN_WITHIN
from tests.services.action_fakes import Killed, World
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
    look,
    protected,
    submit,
    waiting,
)
from tests.services.fakes import Estate

UNLOCKED = ["release_lockfile", "release_lock"]
LASTS = timedelta(minutes=30)


def done(world: World) -> list[str]:
    """The changes that reached AWS."""
    return [name for name, _ in world.committed]


def steps(world: World) -> list[tuple[str, str, str]]:
    """What the log tells: kind, action, and who it was."""
    return [
        (r.entry.kind.value, r.entry.action, r.entry.person.name)
        for r in world.audit.records
        if r.entry.action_id
    ]


def happens_at(world: World, action: str, then: Callable[[], object]) -> None:
    """Right after the log took the first event of this name."""
    append, left = world.audit.append, [then]

    def taking(entry: Entry) -> Record:
        record = append(entry)
        if entry.action == action and left:
            left.pop()()
        return record

    world.audit.append = taking  # type: ignore[method-assign]


def broken_at(world: World, action: str, kind: Kind = Kind.EVENT) -> None:
    """From the record of this kind and action on the log takes nothing more."""
    append = world.audit.append

    def failing(entry: Entry) -> Record:
        if (entry.action, entry.kind) == (action, kind):
            world.audit.broken = True
        return append(entry)

    world.audit.append = failing  # type: ignore[method-assign]


# ---------------------------------------------------------------- asking


def test_a_page_of_a_protected_key_says_that_a_second_person_is_asked() -> None:
    world, _ = protected()

    assert look(world).second is True


def test_a_page_of_any_other_key_does_not() -> None:
    world, _ = protected()
    world.estate.policy = Policy(protected=False)

    assert look(world).second is False


def test_a_protected_key_waits_and_nothing_is_done() -> None:
    world, approvals = protected()

    found = submit(world, look(world))

    assert (found.result, found.waits) == (Result.NO_CHANGE, 1)
    assert done(world) == []
    assert [a.state for a in approvals.kept] == [Waiting.WAITING]
    assert steps(world) == [("event", "approval_requested", "min")]


def test_the_record_of_a_request_tells_who_what_why_and_until_when() -> None:
    world, approvals, number = waiting()
    entry, asked = world.audit.records[-1].entry, approvals.kept[0]

    assert (MIN.person, KEY, "dev", ID) == (entry.person, entry.key, entry.backend, entry.state_id)
    assert (entry.reason, entry.ticket) == ("the runner was killed", "OPS-1")
    assert (number, "force_unlock") == (entry.facts["request"], entry.facts["wanted"])
    assert asked.expires_at - asked.requested_at == LASTS
    assert asked.requester == ("min", "local", "192.0.2.7", "local|min")


def test_an_unprotected_key_waits_for_nobody() -> None:
    world, approvals = protected()
    world.estate.policy = Policy(protected=False)

    assert submit(world, look(world)).result == Result.DONE
    assert approvals.kept == []


def test_without_the_setting_a_protected_key_waits_for_nobody() -> None:
    world = World(Estate(policy=Policy(protected=True)))
    world.estate.apply(KEY)
    world.estate.lock(KEY)
    world.estate.clock.pass_(3 * 3600)
    world.estate.refresh()

    assert submit(world, look(world)).result == Result.DONE


def test_a_form_with_something_to_mend_asks_nobody() -> None:
    world, approvals = protected()

    found = submit(world, look(world), reason="")

    assert [(p.field,) for p in found.problems] == [("reason",)]
    assert approvals.kept == []


@pytest.mark.parametrize("who", STRANGERS)
def test_who_may_not_act_on_it_cannot_ask(who: str) -> None:
    world, approvals = protected()

    with pytest.raises(NotPermitted):
        look(world, STRANGERS[who])
    assert approvals.kept == []


def test_rights_that_went_between_page_and_form_ask_nobody() -> None:
    world, approvals = protected()
    prepared = look(world)

    with pytest.raises(NotPermitted):
        submit(world, prepared, replace(MIN, rights=Rights((Grant(Role.OPERATOR),))))
    assert approvals.kept == []
    assert steps(world) == [("refusal", "force_unlock", "min")]


def test_a_second_submit_of_the_same_form_answers_the_same_request() -> None:
    world, approvals = protected()
    prepared = look(world)

    first, second = submit(world, prepared), submit(world, prepared)

    assert (first.waits, first.record, True) == (second.waits, second.record, second.replayed)
    assert len(approvals.kept) == 1


def test_two_submits_at_once_leave_one_request() -> None:
    world, approvals = protected()
    prepared = look(world)
    twin: list[Answer] = []
    approvals.after_add = lambda: twin.append(submit(world, prepared))

    first = submit(world, prepared)

    assert (first.waits, twin[0].waits) == (1, None)
    assert (twin[0].replayed, twin[0].result) == (True, Result.UNKNOWN)  # told while the first is at work
    assert [a.state for a in approvals.kept if a.state is not Waiting.WITHDRAWN] == [Waiting.WAITING]
    assert len(approvals.waiting(world.estate.clock())) == 1
    assert sum(action == "approval_requested" for _, action, _ in steps(world)) == 1


def expired(world: World) -> None:
    world.estate.clock.pass_(LASTS.total_seconds())
    world.actions.expire()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda world: world.actions.decline(LEE, 1), "Declined. Nothing was done."),
        (lambda world: world.actions.decline(MIN, 1), "Withdrawn. Nothing was done."),
        (expired, "Nobody approved it in time. Nothing was done."),
    ],
)
def test_a_submit_after_the_request_ended_says_how_and_asks_for_nothing_new(
    end: Callable[[World], object], words: str
) -> None:
    world, approvals = protected()
    prepared = look(world)
    submit(world, prepared)
    end(world)

    again = submit(world, prepared)

    assert (again.result, again.message, again.waits) == (Result.REFUSED, words, None)
    assert again.record == world.audit.records[-1].seq
    assert (len(approvals.kept), done(world)) == (1, [])


def test_a_submit_is_not_told_of_a_decision_that_came_too_late() -> None:
    world, _ = protected()
    prepared = look(world)
    submit(world, prepared)
    approved: list[Result] = []
    happens_at(world, "approval_declined", lambda: approved.append(world.actions.approve(ADA, 1).result))

    assert world.actions.decline(LEE, 1) is False
    again = submit(world, prepared)

    assert (approved, again.result, again.waits) == ([Result.DONE], Result.DONE, None)
    assert done(world) == UNLOCKED
    assert steps(world)[-1] == ("event", "approval_refused", "lee")


def test_a_submit_while_the_approved_change_is_at_work_is_not_told_that_nothing_was_done() -> None:
    world, _ = protected()
    prepared = look(world)
    submit(world, prepared)
    again: list[Answer] = []

    def declined_too_late() -> None:
        world.actions.decline(LEE, 1)
        again.append(submit(world, prepared))

    world.before["release_lockfile"] = declined_too_late
    world.actions.approve(ADA, 1)

    assert [(found.result, found.waits) for found in again] == [(Result.UNKNOWN, None)]


def test_a_submit_after_approval_tells_what_became_of_it() -> None:
    world, _ = protected()
    prepared = look(world)
    submit(world, prepared)
    world.actions.approve(LEE, 1)

    again = submit(world, prepared)

    assert (again.result, again.waits, again.replayed) == (Result.DONE, None, True)
    assert done(world) == UNLOCKED


def test_a_request_that_cannot_be_recorded_does_not_wait() -> None:
    world, approvals = protected()
    prepared = look(world)
    broken_at(world, "approval_requested")

    with pytest.raises(AuditError):
        submit(world, prepared)

    assert [a.state for a in approvals.kept] == [Waiting.WITHDRAWN]
    assert approvals.waiting(world.estate.clock()) == []


def test_a_request_that_cannot_be_kept_is_not_recorded() -> None:
    world, approvals = protected()
    prepared = look(world)
    approvals.broken = True

    with pytest.raises(StoreError):
        submit(world, prepared)

    assert steps(world) == []


# ---------------------------------------------------------------- approving


@pytest.mark.parametrize("second", [LEE, ADA, PROTECTED_ONLY])
def test_an_approved_request_is_carried_out_once_in_its_requesters_name(second: Actor) -> None:
    world, approvals, number = waiting()

    found = world.actions.approve(second, number)

    assert (found.result, done(world)) == (Result.DONE, UNLOCKED)
    name = second.person.name
    assert [
        ("event", "approval_requested", "min"),
        ("event", "approval_given", name),
        ("intent", "force_unlock", "min"),
        ("outcome", "force_unlock", "min"),
    ] == steps(world)
    assert (Waiting.APPROVED, name) == (approvals.kept[0].state, approvals.kept[0].decided_by)


def test_the_intent_says_who_approved_which_request() -> None:
    world, _, number = waiting()
    world.actions.approve(LEE, number)
    intent = next(r.entry for r in world.audit.records if r.entry.kind is Kind.INTENT)

    assert number == intent.facts["approval"]["request"]
    assert intent.facts["approval"]["approved_by"] == ["lee", "local", "192.0.2.7", "local|lee"]
    assert intent.facts["approval"]["requested"] == "2026-11-20T21:00:20Z"
    assert (intent.reason, intent.ticket) == ("the runner was killed", "OPS-1")
    assert len({r.entry.action_id for r in world.audit.records if r.entry.action_id}) == 1


SAME = {
    "the requester": MIN,
    "the requester with more rights": replace(MIN, rights=ADA.rights),
    "the requester from another address": replace(MIN, person=replace(MIN.person, address="198.51.100.9")),
    "somebody of the requester's name": actor("min", BOTH, method="oidc"),
    "somebody of the requester's name in other case": actor("MIN", BOTH, method="oidc"),
    "the requester by a token of the same name": Actor(
        Person("min", "token", "192.0.2.7", "token|7|ada"), Rights((BOTH,))
    ),
    "a token that the requester made": Actor(
        Person("ci", "token", "192.0.2.7", "token|7|min"), Rights((BOTH,))
    ),
}


@pytest.mark.parametrize("who", SAME)
def test_the_requester_is_no_second_person(who: str) -> None:
    world, approvals, number = waiting()

    with pytest.raises(NotPermitted, match="second person"):
        world.actions.approve(SAME[who], number)

    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)
    assert ("event", "approval_refused", SAME[who].person.name) == steps(world)[-1]


def test_whoever_made_a_token_is_no_second_person_for_what_it_asks() -> None:
    world, approvals = protected()
    token = Actor(Person("ci", "token", "192.0.2.7", "token|7|lee"), Rights((BOTH,)))
    number = ask(world, token)

    with pytest.raises(NotPermitted, match="second person"):
        world.actions.approve(LEE, number)

    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)
    assert world.actions.approve(ADA, number).result == Result.DONE


@pytest.mark.parametrize("who", STRANGERS)
def test_for_who_may_not_approve_there_is_no_such_request(who: str) -> None:
    world, approvals, number = waiting()

    for deed in (world.actions.approve, world.actions.decline, world.actions.review):
        with pytest.raises(UnknownState):
            deed(STRANGERS[who], number)

    assert world.actions.requests(STRANGERS[who]) == []
    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)


@pytest.mark.parametrize("number", [0, -1, 2, 2**63, 10**30])
def test_a_number_that_no_request_has_is_none(number: int) -> None:
    world, _, _ = waiting()

    with pytest.raises(UnknownState):
        world.actions.approve(LEE, number)


def test_an_approver_who_may_not_release_such_a_lock_is_refused_and_the_request_waits_on() -> None:
    world, approvals, number = waiting(stale=False)

    for _ in range(2):
        with pytest.raises(NotPermitted, match="not suspected stale"):
            world.actions.approve(PROTECTED_ONLY, number)

    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)
    assert steps(world) == [
        ("event", "approval_requested", "min"),
        ("event", "approval_refused", "ona"),
        ("event", "approval_refused", "ona"),
    ]
    assert world.actions.approve(LEE, number).result == Result.DONE


def moved_lock(world: World) -> None:
    world.estate.unlock(KEY)
    world.estate.lock(KEY, id="id-2", file=True)


def moved_away(world: World) -> None:
    world.estate.unlock(KEY)


def moved_digest(world: World) -> None:
    world.estate.lock(KEY, id="id-3")


@pytest.mark.parametrize("happens", [moved_lock, moved_away, moved_digest])
def test_where_the_world_moved_nothing_is_done_and_the_request_is_void(
    happens: Callable[[World], None],
) -> None:
    world, approvals, number = waiting()
    happens(world)
    told = world.actions.review(LEE, number)

    found = world.actions.approve(LEE, number)

    assert told.moved
    assert found.result in (Result.REFUSED, Result.NO_CHANGE)
    assert (done(world), found.prepared, found.moved) == ([], None, False)
    assert approvals.kept[0].state is Waiting.DECLINED
    assert steps(world)[1:] == [("refusal", "force_unlock", "min"), ("event", "approval_void", "lee")]
    assert found.record == next(r.seq for r in world.audit.records if r.entry.kind is Kind.REFUSAL)
    assert "already" in world.actions.approve(LEE, number).message
    assert done(world) == []


def test_a_review_shows_the_plan_as_it_is_now_without_a_token() -> None:
    world, _, number = waiting()

    found = world.actions.review(LEE, number)

    assert not found.moved
    assert not isinstance(found.prepared.plan, Refused)
    assert (found.prepared.token, found.asked.number) == ("", number)


def test_a_request_too_old_is_expired_and_does_nothing() -> None:
    world, approvals, number = waiting()
    world.estate.clock.pass_(LASTS.total_seconds())

    found = world.actions.approve(LEE, number)

    assert (found.result, found.message) == (Result.REFUSED, "This request has expired. Nothing was done.")
    assert (done(world), approvals.kept[0].state) == ([], Waiting.EXPIRED)
    assert steps(world)[-1] == ("event", "approval_expired", "lee")


def test_a_request_can_be_approved_up_to_its_last_second() -> None:
    world, _, number = waiting()
    world.estate.clock.pass_(LASTS.total_seconds() - 1)

    assert world.actions.approve(LEE, number).result == Result.DONE


def test_a_request_that_expires_while_it_is_read_does_nothing() -> None:
    world, _, number = waiting()
    happens_at(world, "approval_given", lambda: world.estate.clock.pass_(LASTS.total_seconds()))

    found = world.actions.approve(LEE, number)

    assert (found.result, done(world)) == (Result.REFUSED, [])
    assert "its time ran out" in found.message
    assert steps(world)[-1] == ("event", "approval_refused", "lee")
    assert world.actions.expire() == 1


@pytest.mark.parametrize(
    ("who", "state", "event"),
    [
        (MIN, Waiting.WITHDRAWN, "approval_withdrawn"),
        (LEE, Waiting.DECLINED, "approval_declined"),
        (ADA, Waiting.DECLINED, "approval_declined"),
    ],
)
def test_a_request_that_was_ended_does_nothing(who: Actor, state: Waiting, event: str) -> None:
    world, approvals, number = waiting()

    assert world.actions.decline(who, number) is True
    assert world.actions.decline(who, number) is False
    found = world.actions.approve(LEE, number)

    assert (Result.REFUSED, state) == (found.result, approvals.kept[0].state)
    assert f"{state.value} already" in found.message
    assert done(world) == []
    assert [("event", event, who.person.name)] == steps(world)[1:]


def test_of_two_approvers_at_once_one_makes_the_change() -> None:
    world, approvals, number = waiting()
    first: list[Result] = []
    approvals.before_decide = lambda: first.append(world.actions.approve(ADA, number).result)

    second = world.actions.approve(LEE, number)

    assert (first, second.result) == ([Result.DONE], Result.REFUSED)
    assert "somebody else decided" in second.message
    assert done(world) == UNLOCKED
    assert approvals.kept[0].decided_by == "ada"
    assert sum(kind == "intent" for kind, _, _ in steps(world)) == 1


def test_a_request_withdrawn_while_it_is_approved_does_nothing() -> None:
    world, approvals, number = waiting()
    approvals.before_decide = lambda: world.actions.decline(MIN, number)

    found = world.actions.approve(LEE, number)

    assert (found.result, done(world)) == (Result.REFUSED, [])
    assert approvals.kept[0].state is Waiting.WITHDRAWN


def test_a_race_lost_at_the_last_moment_is_told_without_a_page_to_go_on_with() -> None:
    """Such a page would be the requester's, and the approver has it in hand."""
    world, approvals, number = waiting()
    world.before["release_lockfile"] = lambda: moved_lock(world)

    found = world.actions.approve(LEE, number)

    assert (found.result, found.moved, found.prepared) == (Result.REFUSED, False, None)
    assert (done(world), approvals.kept[0].state) == ([], Waiting.APPROVED)
    assert steps(world)[-1] == ("outcome", "force_unlock", "min")


def test_approving_twice_makes_one_change() -> None:
    world, _, number = waiting()
    world.actions.approve(LEE, number)

    again = world.actions.approve(ADA, number)

    assert (again.result, again.record) == (Result.REFUSED, None)
    assert done(world) == UNLOCKED


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("action", "kind"),
    [("approval_given", Kind.EVENT), ("force_unlock", Kind.INTENT)],
)
def test_a_log_that_takes_no_record_lets_nothing_be_done(action: str, kind: Kind) -> None:
    world, _, number = waiting()
    broken_at(world, action, kind)

    with pytest.raises(AuditError):
        world.actions.approve(LEE, number)

    assert done(world) == []


def test_where_the_approval_cannot_be_recorded_the_request_goes_on_waiting() -> None:
    world, approvals, number = waiting()
    world.audit.broken = True

    with pytest.raises(AuditError):
        world.actions.approve(LEE, number)
    assert approvals.kept[0].state is Waiting.WAITING

    world.audit.broken = False
    assert world.actions.approve(LEE, number).result == Result.DONE


@pytest.mark.parametrize("who", [MIN, LEE])
def test_a_decision_that_cannot_be_recorded_is_not_made(who: Actor) -> None:
    world, approvals, number = waiting()
    world.audit.broken = True

    with pytest.raises(AuditError):
        world.actions.decline(who, number)

    assert approvals.kept[0].state is Waiting.WAITING


def test_a_refusal_that_cannot_be_recorded_still_refuses() -> None:
    world, approvals, number = waiting()
    world.audit.broken = True

    with pytest.raises(AuditError):
        world.actions.approve(MIN, number)

    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)


def test_an_outcome_that_cannot_be_recorded_halts_and_says_what_was_done() -> None:
    world, _, number = waiting()
    broken_at(world, "force_unlock", Kind.OUTCOME)

    with pytest.raises(Halted):
        world.actions.approve(LEE, number)

    assert done(world) == UNLOCKED


def test_while_actions_are_halted_nothing_is_approved() -> None:
    world, approvals, number = waiting()
    halted = ask(world, LEE)
    broken_at(world, "force_unlock", Kind.OUTCOME)
    with pytest.raises(Halted):
        world.actions.approve(LEE, number)
    world.committed.clear()

    with pytest.raises(Halted):
        world.actions.approve(MIN, halted)

    assert (done(world), approvals.kept[1].state) == ([], Waiting.WAITING)


@pytest.mark.parametrize("deed", ["approve", "decline", "review", "requests", "expire"])
def test_a_store_that_does_not_answer_decides_nothing(deed: str) -> None:
    world, approvals, number = waiting()
    approvals.broken = True
    arguments: tuple[object, ...] = {"expire": (), "requests": (LEE,)}.get(deed, (LEE, number))

    with pytest.raises(StoreError):
        getattr(world.actions, deed)(*arguments)

    assert done(world) == []


# ---------------------------------------------------------------- expiry, lists, death


def test_what_nobody_approved_in_time_is_expired_once_by_lockboard() -> None:
    world, approvals, _ = waiting()
    ask(world, LEE)
    world.estate.clock.pass_(LASTS.total_seconds() - 1)
    assert world.actions.expire() == 0
    world.estate.clock.pass_(1)

    assert (world.actions.expire(), world.actions.expire()) == (2, 0)
    assert [a.state for a in approvals.kept] == [Waiting.EXPIRED] * 2
    assert steps(world)[2:] == [("event", "approval_expired", "lockboard")] * 2
    assert done(world) == []


def test_what_cannot_be_recorded_as_expired_is_expired_later() -> None:
    world, approvals, _ = waiting()
    world.estate.clock.pass_(LASTS.total_seconds())
    world.audit.broken = True
    with pytest.raises(AuditError):
        world.actions.expire()
    assert approvals.kept[0].state is Waiting.WAITING

    world.audit.broken = False
    assert world.actions.expire() == 1


def test_nothing_expires_where_no_second_person_is_asked_for() -> None:
    assert World().actions.expire() == 0


def test_everybody_sees_their_own_requests_and_those_they_may_approve() -> None:
    world, _, number = waiting()

    assert [number] == [a.number for a in world.actions.requests(MIN)]
    assert [number] == [a.number for a in world.actions.requests(LEE)]


def test_a_request_that_waits_is_not_pushed_off_the_list_by_newer_ones_of_others() -> None:
    world, approvals, number = waiting()
    mine = approvals.kept[0]
    for _ in range(60):
        approvals.add(replace(mine, backend="other", state=Waiting.DECLINED))
    here = actor("lee", replace(BOTH, area=Area("dev")))

    assert [number] == [a.number for a in world.actions.requests(here)]


def test_who_may_no_longer_see_the_key_sees_no_request_of_their_own() -> None:
    world, _, number = waiting()
    moved = replace(MIN, rights=Rights((Grant(Role.OPERATOR, Area("dev", "elsewhere/")),)))

    assert world.actions.requests(moved) == []
    with pytest.raises(UnknownState):
        world.actions.review(moved, number)


def test_a_process_that_dies_after_an_approval_is_settled_by_the_reconciler() -> None:
    world, _, number = waiting()

    def die() -> None:
        world.dead = True
        raise Killed

    world.before["release_lockfile"] = die
    with pytest.raises(Killed):
        world.actions.approve(LEE, number)
    world.new_process()
    assert world.reconcile() == 0
    world.estate.clock.pass_(DEAD_AFTER)

    assert world.reconcile() == 1
    assert steps(world)[-1] == ("outcome", "force_unlock", "lockboard")
    assert world.audit.records[-1].entry.result == Result.FAILED


def refuse(world: World) -> None:
    """The actor's role is not granted."""

    def denied(backend: str, key: str, who: Person, action_id: str) -> Hands:
        raise AccessDenied("sts:AssumeRole", "AccessDenied", "it is not granted")

    world.open = denied  # type: ignore[method-assign, assignment]
    world.new_process()


def test_an_approval_whose_role_is_not_granted_leaves_the_request_waiting() -> None:
    world, approvals, number = waiting()
    refuse(world)

    with pytest.raises(AccessDenied):
        world.actions.approve(LEE, number)

    assert approvals.kept[0].state is Waiting.WAITING
    assert [entry[1] for entry in steps(world)] == ["approval_requested"]


def test_an_approval_after_which_nothing_was_begun_is_told_as_void() -> None:
    world, approvals = protected()
    prepared = look(world)
    number = submit(world, prepared).waits
    assert number is not None
    broken_at(world, "force_unlock", Kind.INTENT)
    with pytest.raises(AuditError):
        world.actions.approve(LEE, number)
    world.audit.broken = False

    assert world.actions.expire() == 0
    world.estate.clock.pass_(BEGUN_WITHIN)
    assert world.actions.expire() == 1
    assert world.actions.expire() == 0

    assert steps(world)[-1] == ("event", "approval_void", "lockboard")
    again = submit(world, prepared)
    assert (again.result, again.replayed, done(world)) == (Result.REFUSED, True, [])
    assert "never begun" in again.message
    assert approvals.kept[0].state is Waiting.APPROVED


def test_an_approved_action_that_was_begun_is_not_told_as_void() -> None:
    world, _, number = waiting()
    world.actions.approve(LEE, number)

    world.actions.expire()
    world.estate.clock.pass_(10 * BEGUN_WITHIN)
    assert world.actions.expire() == 0


def test_nobody_approves_their_own_request_by_a_new_name() -> None:
    world, approvals, number = waiting()
    renamed = replace(LEE, person=replace(MIN.person, name="min.new"))

    with pytest.raises(NotPermitted, match="not the one who asked"):
        world.actions.approve(renamed, number)

    assert approvals.kept[0].state is Waiting.WAITING


def test_the_reconciler_leaves_requests_alone() -> None:
    world, approvals, number = waiting()
    world.actions.decline(LEE, number)
    ask(world)
    before = steps(world)

    assert world.reconcile() == 0
    world.estate.clock.pass_(2 * DEAD_AFTER)
    assert world.reconcile() == 0
    assert (before, []) == (steps(world), done(world))
    assert approvals.kept[1].state is Waiting.WAITING


def test_a_request_of_before_a_restart_can_be_approved_after_it() -> None:
    world, _, number = waiting()
    world.new_process()

    assert world.actions.approve(LEE, number).result == Result.DONE
    assert done(world) == UNLOCKED


def test_a_request_of_a_key_that_is_gone_from_the_inventory_does_nothing() -> None:
    world, approvals, number = waiting()
    world.estate.inventory.rows.clear()

    with pytest.raises(UnknownState):
        world.actions.approve(LEE, number)

    assert (done(world), approvals.kept[0].state) == ([], Waiting.WAITING)


def test_taking_back_a_change_of_a_protected_key_waits_for_a_second_person_too() -> None:
    world, _, number = waiting()
    record = world.actions.approve(LEE, number).record
    assert record is not None
    world.committed.clear()

    asked = submit(world, world.actions.prepare_undo(MIN, ID, record))
    assert (asked.waits, done(world)) == (2, [])
    found = world.actions.approve(LEE, 2)

    assert (found.result, done(world)) == (Result.DONE, ["take_lockfile", "take_lock"])
    intent = [r.entry for r in world.audit.records if r.entry.kind is Kind.INTENT][-1]
    assert (intent.action, intent.facts["undoes"], intent.person.name) == ("undo", record, "min")


def test_a_repair_of_a_protected_key_holds_terraforms_lock_in_its_requesters_name() -> None:
    approvals = FakeApprovals()
    world = World(Estate(policy=Policy(protected=True)), approvals=approvals)
    world.estate.apply(KEY, 1)
    world.estate.apply(KEY, 2, digest=False)
    world.estate.refresh()
    world.estate.refresh(after=20)
    held: list[object] = []
    item = lock_id("b", KEY)
    world.before["change_digest"] = lambda: held.append(world.estate.table.items[item].info)
    submit(world, world.actions.prepare(MIN, ID, Wanted(Action.SET_DIGEST)))
    assert done(world) == []

    assert world.actions.approve(LEE, 1).result == Result.DONE
    assert done(world) == ["take_lockfile", "take_lock", "change_digest", "release_lockfile", "release_lock"]
    assert "min" in str(held[0])
    assert "lee" not in str(held[0])


def test_a_submit_while_it_is_at_work_is_not_told_of_the_refusal_of_an_approver_who_came_second() -> None:
    world, _ = protected()
    prepared = look(world)
    submit(world, prepared)
    again: list[Answer] = []

    def refused_meanwhile() -> None:
        intent = next(r.entry for r in world.audit.records if r.entry.kind is Kind.INTENT)
        told = replace(intent, kind=Kind.REFUSAL, result=Result.NO_CHANGE.value, message="No lock is held.")
        world.audit.append(told)
        again.append(submit(world, prepared))

    world.before["release_lockfile"] = refused_meanwhile
    world.actions.approve(ADA, 1)

    assert [found.result for found in again] == [Result.UNKNOWN]
