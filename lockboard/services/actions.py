"""What may be done to a key, and doing it: read, decide, record, change once, read again, record.

Nothing is changed that the person did not see: the page's token carries the fingerprint of its plan, and a
plan made of a fresh reading must have the same. Nothing is changed without a durable record of the intent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from lockboard.domain.access import Actor
from lockboard.domain.audit import AlreadyRecorded, Audit, AuditError, Entry, Kind, Person, Record, Result
from lockboard.domain.errors import ReadError, StoreError
from lockboard.domain.inventory import Board, StateRow
from lockboard.domain.model import Action, Backend, History, Observation, Verdict
from lockboard.domain.permits import forbidden
from lockboard.domain.plans import Plan, Refused, Situation, Wanted, plan_for
from lockboard.domain.ports import Clock, LockTable, States
from lockboard.domain.signin import Approval, Approvals, Waiting
from lockboard.domain.text import spoken_span, utc
from lockboard.domain.undo import UNDO, undo_plan, version_undone_to
from lockboard.domain.writes import Hands, OpenHands
from lockboard.services import memo as memos
from lockboard.services.attempts import (
    LATE_OUTCOME,
    Answer,
    Form,
    Halted,
    NotPermitted,
    Prepared,
    Review,
    UnknownState,
    outcome_of,
    problems_of,
)
from lockboard.services.investigate import Investigator
from lockboard.services.perform import ACTION_WITHIN, Deed, Performer, own_lock
from lockboard.services.recheck import VERSIONS_READ
from lockboard.services.rows import judge
from lockboard.services.second_person import SecondPerson, no_such_request, spelled, ticket_of
from lockboard.services.tickets import VIEW_LASTS, Ticket, Tickets, fields_of, whose

ANSWER_WITHIN = 40.0
"""Seconds that a second submit of the same form waits for the first to be recorded."""
LOOK_EVERY = 0.1


class Place(NamedTuple):
    """One backend's readers."""

    backend: Backend
    states: States
    table: LockTable | None


class _Reading(NamedTuple):
    """One key as read just now."""

    row: StateRow
    place: Place
    situation: Situation


class Actions:
    """The actions of every backend.

    Args:
        places: by backend's name.
        secret: signs the tokens; the same for all replicas.
        monotonic: seconds that only go forward, for deadlines; `sleep` waits so many seconds.
        new_id: a new lower-case UUID each time.
        version: of Lockboard, for lock records and the log.
        approvals: where actions on protected keys wait for a second person; None where none is asked for.
        approval_lasts: how long such a request can be approved.

    `at_work`: IDs of the actions that this process is carrying out now.
    """

    def __init__(
        self,
        board: Board,
        places: Mapping[str, Place],
        audit: Audit,
        open_hands: OpenHands,
        *,
        secret: str,
        clock: Clock,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        new_id: Callable[[], str],
        version: str,
        approvals: Approvals | None = None,
        approval_lasts: timedelta = timedelta(minutes=30),
    ) -> None:
        self._board, self._places, self._audit, self._open = board, places, audit, open_hands
        self._tickets = Tickets(secret)
        self._clock, self._monotonic, self._sleep, self._new_id = clock, monotonic, sleep, new_id
        self._version = version
        self._halted = threading.Event()
        self.at_work: set[str] = set()
        backends = {name: place.backend for name, place in places.items()}
        self._second = (
            None if approvals is None else SecondPerson(approvals, audit, backends, clock, monotonic)
        )
        self._approval_lasts = approval_lasts

    # ------------------------------------------------------------ the page

    def prepare(self, actor: Actor, state_id: str, wanted: Wanted) -> Prepared:
        """Read the key and say what would be done.

        Raises:
            UnknownState, ReadError: see `Rechecker`.
            NotPermitted: the actor may not do it.
        """
        return self._prepared(actor, self._read(state_id, wanted), wanted, None)

    def prepare_undo(self, actor: Actor, state_id: str, seq: int) -> Prepared:
        """The same for taking back what record `seq` tells.

        Raises:
            UnknownState, ReadError, AuditError, NotPermitted.
        """
        record = self._undoable(state_id, seq)
        reading = self._read(state_id, Wanted(Action.FORCE_UNLOCK, "", version_undone_to(record)))
        return self._prepared(actor, reading, None, record)

    def _prepared(
        self, actor: Actor, reading: _Reading, wanted: Wanted | None, undoes: Record | None
    ) -> Prepared:
        plan = self._plan(reading, wanted, undoes)
        seq = undoes.seq if undoes else None
        why = forbidden(actor.rights, plan, reading.situation)
        if why:
            raise NotPermitted(why)
        if isinstance(plan, Refused):
            return Prepared(reading.row, plan, "", seq)
        wanted = wanted or Wanted(plan.action, "", plan.restores.version_id if plan.restores else "")
        ticket = Ticket(
            self._new_id(),
            reading.row.id,
            whose(actor.person),
            wanted,
            seq,
            plan.fingerprint(),
            self._clock().timestamp(),
        )
        second = self._second is not None and reading.situation.policy.protected
        return Prepared(reading.row, plan, self._tickets.token(ticket), seq, second)

    def _plan(self, reading: _Reading, wanted: Wanted | None, undoes: Record | None) -> Plan | Refused:
        if undoes is not None:
            return undo_plan(undoes, reading.situation)
        assert wanted is not None
        return plan_for(wanted, reading.situation)

    def _read(self, state_id: str, wanted: Wanted, *, keep: bool = True) -> _Reading:
        """keep: also for the pages. Not on the way to a change, which a slow store must not hold up."""
        row = self._board.state(state_id)
        place = self._places.get(row.backend) if row else None
        if row is None or place is None:
            raise UnknownState(
                "No state key has this address. It may be gone, or its backend is not configured."
            )
        key, now = str(row.document["raw_key"]), self._clock() - (place.states.clock_skew() or timedelta())
        investigator = Investigator(place.backend, place.states, place.table)
        seen, memo = investigator.fresh(key, memos.load(row.memo), now, versions=VERSIONS_READ)
        fresh, verdict = judge(seen, memo, place.backend, now, "", rechecked=True)
        if keep:
            self._board.put(fresh)
        seen = _with_body(seen, wanted.version_id, place.states)
        policy = place.backend.policy_for(key)
        versioning = place.states.versioning() if wanted.version_id else "unknown"
        table, region = place.backend.table, place.backend.region
        situation = Situation(seen, verdict, policy, now, fresh.id, table, versioning, region)
        return _Reading(fresh, place, situation)

    # ------------------------------------------------------------ the deed

    def perform(self, actor: Actor, state_id: str, token: str, form: Form) -> Answer:
        """Do what the page of this token announced, or say why not.

        Raises:
            BadToken: the form is not from a page of this person for this key.
            NotPermitted: the actor may not do it; recorded.
            UnknownState, ReadError: the key could not be read; nothing was done.
            AuditError: the log does not take records, so nothing was done.
            Halted: it fails, and something may have been done.
        """
        ticket = self._tickets.opened(token, actor.person, state_id)
        if self._records(ticket.action_id):
            return self._replayed(ticket.action_id)
        self._refuse_while_halted()
        reading = self._read(state_id, ticket.wanted, keep=False)
        if self._records(ticket.action_id):
            # The same form, sent twice, has begun meanwhile: what was read may be its own doing.
            return self._replayed(ticket.action_id)
        undoes = None if ticket.undoes is None else self._undoable(state_id, ticket.undoes)
        wanted = None if undoes else ticket.wanted
        found = self._still(actor, ticket, reading, form, undoes)
        if isinstance(found, Answer):
            return found
        age = self._clock().timestamp() - ticket.issued
        if not -60 <= age <= VIEW_LASTS.total_seconds():
            why = (
                f"The page was older than {spoken_span(VIEW_LASTS)}. Nothing was done: confirm what it"
                " shows now."
            )
            return self._refusal(actor, ticket, reading, form, Result.REFUSED, why, undoes, moved=True)
        problems = problems_of(found, form)
        if problems:
            prepared = self._prepared(actor, reading, wanted, undoes)
            text = "Nothing was done yet: there is something to mend in the form."
            return Answer(Result.REFUSED, text, ticket.action_id, problems=problems, prepared=prepared)
        if self._second is not None and reading.situation.policy.protected:
            return self._ask_second(self._second, actor, ticket, reading, form, undoes)
        hands = self._ready(actor, ticket, reading, found, form, undoes)
        if isinstance(hands, Answer):
            return hands
        return self._commit(actor, ticket, reading, found, hands, form, undoes)

    def action_id(self, token: str) -> str:
        """See `Tickets.action_id`."""
        return self._tickets.action_id(token)

    def _records(self, action_id: str) -> Sequence[Record]:
        try:
            return self._audit.of_action(action_id)
        except AuditError as error:
            raise Halted(
                f"Nothing was changed now. Whether this form was sent before, and done then, cannot be read"
                f" ({error}): look at the state, and send the form again in a minute. It never acts twice."
            ) from error

    def _refuse_while_halted(self) -> None:
        if self._halted.is_set():
            raise Halted("An earlier outcome could not be recorded yet. Nothing is changed until it is.")

    def _still(
        self, actor: Actor, ticket: Ticket, reading: _Reading, form: Form, undoes: Record | None
    ) -> Plan | Answer:
        """The plan that the page announced, made anew and allowed; else the answer that refuses it."""
        plan = self._plan(reading, None if undoes else ticket.wanted, undoes)
        why = forbidden(actor.rights, plan, reading.situation)
        if why:
            answer = self._refusal(actor, ticket, reading, form, Result.REFUSED, why, undoes)
            raise NotPermitted(why, answer.record)
        if isinstance(plan, Refused):
            result = Result.NO_CHANGE if plan.gone else Result.REFUSED
            return self._refusal(actor, ticket, reading, form, result, plan.reason, undoes)
        if plan.fingerprint() != ticket.fingerprint:
            why = (
                "The lock, the digest or the state is not as the page showed it. Nothing was done:"
                " look again."
            )
            return self._refusal(actor, ticket, reading, form, Result.REFUSED, why, undoes, moved=True)
        return plan

    def _ready(
        self,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        plan: Plan,
        form: Form,
        undoes: Record | None,
    ) -> Hands | Answer:
        """The writers of the action, tried; else the answer that refuses it. Raises ReadError."""
        hands = self._open(plan.backend, plan.key, actor.person, ticket.action_id)
        distrust = hands.states.refuses_wrong_conditions() if plan.writes_s3 else ""
        if distrust:
            return self._refusal(actor, ticket, reading, form, Result.REFUSED, distrust, undoes)
        return hands

    def _commit(
        self,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        plan: Plan,
        hands: Hands,
        form: Form,
        undoes: Record | None,
        approval: Mapping[str, Any] | None = None,
    ) -> Answer:
        own = own_lock(plan, actor.person, ticket.action_id, self._clock(), self._version)
        facts: dict[str, Any] = {"plan": plan.facts(), "own_lock": own, "lockboard": self._version}
        if undoes:
            facts["undoes"] = undoes.seq
        if approval:
            facts["approval"] = approval
        name = UNDO if undoes else plan.action.value
        intent = self._entry(Kind.INTENT, name, actor, ticket, reading, form, facts=facts)
        performer = Performer(
            plan,
            hands,
            reading.place.states,
            reading.place.table,
            ticket.action_id,
            own,
            self._monotonic() + ACTION_WITHIN,
            self._monotonic,
            self._sleep,
        )
        try:
            self._audit.append(intent)
        except AlreadyRecorded:
            return self._replayed(ticket.action_id)
        self.at_work.add(ticket.action_id)
        try:
            return self._finish(actor, ticket, reading, performer, intent, undoes)
        finally:
            self.at_work.discard(ticket.action_id)

    def _finish(
        self,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        performer: Performer,
        intent: Entry,
        undoes: Record | None,
    ) -> Answer:
        deed = performer.perform()
        outcome = replace(
            intent,
            kind=Kind.OUTCOME,
            result=deed.result.value,
            message=deed.message,
            facts={"plan": intent.facts["plan"], **deed.facts},
        )
        record = self._recorded(outcome, deed)
        self._look_again(reading)
        moved = deed.result is Result.REFUSED
        again = self._again(actor, ticket, undoes) if moved else None
        return Answer(deed.result, deed.message, ticket.action_id, record.seq, moved=moved, prepared=again)

    def _recorded(self, outcome: Entry, deed: Deed) -> Record:
        try:
            try:
                return self._audit.append(outcome)
            except AlreadyRecorded:
                return self._recorded_late(outcome)
        except AuditError as error:
            self._halted.set()
            raise Halted(
                f"{deed.message} But the outcome could not be recorded ({error}). Nothing more is changed"
                " until it is; Lockboard settles the record by reading AWS as soon as its log works."
            ) from error

    def _recorded_late(self, outcome: Entry) -> Record:
        """Another replica took us for dead and has settled it. Where it told otherwise, the log has both."""
        records = self._audit.of_action(outcome.action_id)
        settled = next(record for record in records if record.entry.kind is Kind.OUTCOME)
        if (settled.entry.result, settled.entry.message) == (outcome.result, outcome.message):
            return settled
        text = f"Record {settled.seq} took the process for dead. It was not, and tells: {outcome.message}"
        return self._audit.append(replace(outcome, kind=Kind.EVENT, action=LATE_OUTCOME, message=text))

    def resume(self) -> None:
        """Every outcome is recorded again: actions may go on."""
        self._halted.clear()

    def _look_again(self, reading: _Reading) -> None:
        """The row as it is now, for the pages; the next refresh finds it in any case."""
        try:
            self._read(reading.row.id, Wanted(Action.FORCE_UNLOCK))
        except (ReadError, StoreError, UnknownState):
            return

    def _again(self, actor: Actor, ticket: Ticket, undoes: Record | None) -> Prepared | None:
        wanted = None if undoes else ticket.wanted
        try:
            return self._prepared(actor, self._read(ticket.state_id, ticket.wanted), wanted, undoes)
        except (ReadError, StoreError, UnknownState, NotPermitted):
            return None

    # ------------------------------------------------------------ a second person

    def _ask_second(
        self,
        second: SecondPerson,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        form: Form,
        undoes: Record | None,
    ) -> Answer:
        """Nothing is done yet: somebody else has to approve it first."""
        now = self._clock()
        ends = now + self._approval_lasts
        wish = Approval(
            number=0,
            action_id=ticket.action_id,
            state_id=reading.row.id,
            backend=reading.row.backend,
            key=str(reading.row.document["raw_key"]),
            requester=spelled(actor.person),
            wanted={"wanted": [*fields_of(ticket.wanted)], "undoes": ticket.undoes},
            fingerprint=ticket.fingerprint,
            form=form._asdict(),
            requested_at=now,
            expires_at=ends,
        )
        facts = {"wanted": UNDO if undoes else ticket.wanted.action.value, "expires_at": utc(ends)}
        entry = self._entry(Kind.EVENT, "approval_requested", actor, ticket, reading, form, facts=facts)
        return second.ask(wish, entry) or self._replayed(ticket.action_id)

    def requests(self, actor: Actor) -> Sequence[Approval]:
        """See `SecondPerson.requests`."""
        return self._second.requests(actor) if self._second else []

    def asked(self, actor: Actor, number: int) -> Approval:
        """See `SecondPerson.asked`."""
        return self._waiting_for_second().asked(actor, number)

    def decline(self, actor: Actor, number: int) -> bool:
        """See `SecondPerson.decline`."""
        return self._waiting_for_second().decline(actor, number)

    def expire(self) -> int:
        """See `SecondPerson.expire`."""
        return self._second.expire() if self._second else 0

    def _waiting_for_second(self) -> SecondPerson:
        if self._second is None:
            raise no_such_request()
        return self._second

    def review(self, actor: Actor, number: int) -> Review:
        """What a request for a second person would do now.

        Raises:
            UnknownState: also where the actor neither made it nor may approve it.
            ReadError, StoreError, AuditError.
        """
        asked = self.asked(actor, number)
        ticket = ticket_of(asked)
        reading, undoes = self._reading_of(ticket)
        plan = self._plan(reading, None if undoes else ticket.wanted, undoes)
        moved = isinstance(plan, Refused) or plan.fingerprint() != asked.fingerprint
        return Review(asked, Prepared(reading.row, plan, "", ticket.undoes), moved=moved)

    def approve(self, actor: Actor, number: int) -> Answer:
        """Carry a request out in its requester's name, where all is as it was when they confirmed it.

        Raises:
            NotPermitted: the actor is the requester, or may not do this to the key; recorded.
            UnknownState, ReadError: as `perform`; the request goes on waiting.
            AuditError, Halted: as `perform`. An approval that was recorded is not given again: where nothing
            was begun after it, `expire` ends the request.
        """
        second = self._waiting_for_second()
        asked = second.asked(actor, number)
        ticket, requester = ticket_of(asked), Actor(Person(*asked.requester), actor.rights)
        refused = second.unapprovable(actor, asked)
        if refused:
            return refused
        self._refuse_while_halted()
        reading, undoes = self._reading_of(ticket)
        why = forbidden(
            actor.rights,
            self._plan(reading, None if undoes else ticket.wanted, undoes),
            reading.situation,
        )
        if why:  # who approves has to be allowed to do it; it is they who are refused, and not the requester
            raise NotPermitted(why, second.note(actor, asked, "approval_refused", why).seq)
        form = Form(**asked.form)
        facts = {
            "request": number,
            "approved_by": [*spelled(actor.person)],
            "requested": utc(asked.requested_at),
        }
        found = self._still(requester, ticket, reading, form, undoes)
        if isinstance(found, Answer):
            second.settle(actor, asked, Waiting.DECLINED, "approval_void", found.message)
            return replace(found, moved=False, prepared=None)
        hands = self._ready(requester, ticket, reading, found, form, undoes)
        if isinstance(hands, Answer):
            second.settle(actor, asked, Waiting.DECLINED, "approval_void", hands.message)
            return hands
        if not second.settle(actor, asked, Waiting.APPROVED, "approval_given", "Approved."):
            text = "Meanwhile somebody else decided this request, or its time ran out. This did nothing."
            return Answer(Result.REFUSED, text, asked.action_id)
        answer = self._commit(requester, ticket, reading, found, hands, form, undoes, facts)
        return replace(answer, moved=False, prepared=None)  # a page to go on with would be the requester's

    def _reading_of(self, ticket: Ticket) -> tuple[_Reading, Record | None]:
        undoes = None if ticket.undoes is None else self._undoable(ticket.state_id, ticket.undoes)
        return self._read(ticket.state_id, ticket.wanted, keep=False), undoes

    # ------------------------------------------------------------ what is recorded

    def _refusal(
        self,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        form: Form,
        result: Result,
        why: str,
        undoes: Record | None,
        *,
        moved: bool = False,
    ) -> Answer:
        name = UNDO if ticket.undoes is not None else ticket.wanted.action.value
        facts = {"wanted": [*fields_of(ticket.wanted)], "undoes": ticket.undoes, "lockboard": self._version}
        entry = self._entry(Kind.REFUSAL, name, actor, ticket, reading, form, facts=facts)
        record = self._audit.append(replace(entry, result=result.value, message=why))
        with suppress(StoreError):  # the next refresh finds it in any case
            self._board.put(reading.row)
        prepared = None
        if moved:
            prepared = self._prepared(actor, reading, None if undoes else ticket.wanted, undoes)
        return Answer(result, why, ticket.action_id, record.seq, moved=moved, prepared=prepared)

    def _entry(
        self,
        kind: Kind,
        action: str,
        actor: Actor,
        ticket: Ticket,
        reading: _Reading,
        form: Form,
        *,
        facts: Mapping[str, Any],
    ) -> Entry:
        return Entry(
            kind=kind,
            action=action,
            person=actor.person,
            action_id=ticket.action_id,
            backend=reading.row.backend,
            bucket=reading.situation.seen.bucket,
            key=reading.situation.seen.key,
            state_id=reading.row.id,
            reason=form.reason.strip(),
            ticket=form.ticket.strip(),
            facts={**facts, "seen": _seen(reading.situation.verdict)},
        )

    def _replayed(self, action_id: str) -> Answer:
        """What became of the first submit of the same form; waits for it where it is still at work."""
        until = self._monotonic() + ANSWER_WITHIN
        while True:
            records = self._records(action_id)
            told = outcome_of(records)
            if told is None and self._second is not None:
                told = self._second.told(records)
            if told is not None:
                return told
            if self._monotonic() >= until:
                text = (
                    "This was sent before, and its outcome is not recorded yet. Look at the audit log in"
                    " a minute."
                )
                return Answer(
                    Result.UNKNOWN, text, action_id, records[0].seq if records else None, replayed=True
                )
            self._sleep(LOOK_EVERY)

    def _undoable(self, state_id: str, seq: int) -> Record:
        record = self._audit.record(seq)
        if record is None or record.entry.state_id != state_id:
            raise UnknownState("The audit log has no such record of this state key.")
        return record


def _seen(verdict: Verdict) -> dict[str, Any]:
    """On what evidence it was decided, as the audit log keeps it."""
    return {
        "content": verdict.content.value,
        "lock": verdict.lock.value,
        "terraform": verdict.terraform.value,
        "summary": verdict.summary,
        "evidence": [{"fact": item.fact, "source": item.source} for item in verdict.evidence],
    }


def _with_body(seen: Observation, version_id: str, states: States) -> Observation:
    """With the bytes of the version asked for looked at, however old it is."""
    if not version_id or not isinstance(seen.history, History):
        return seen
    versions = tuple(
        replace(v, body=states.read_body(seen.key, v.version_id))
        if v.version_id == version_id and v.body is None and not v.delete_marker
        else v
        for v in seen.history.versions
    )
    return replace(seen, history=replace(seen.history, versions=versions))
