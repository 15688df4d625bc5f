"""What may be done to a key, and doing it: read, decide, record, change once, read again, record.

Nothing is changed that the person did not see: the page's token carries the fingerprint of its plan, and a
plan made of a fresh reading must have the same. Nothing is changed without a durable record of the intent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from lockboard.domain.access import NO_RIGHTS, Actor, Permission
from lockboard.domain.audit import (
    LOCKBOARD,
    AlreadyRecorded,
    Audit,
    AuditError,
    Entry,
    Kind,
    Person,
    Record,
    Result,
)
from lockboard.domain.errors import LockboardError, ReadError, StoreError
from lockboard.domain.inventory import Board, StateRow
from lockboard.domain.model import Action, Backend, History, Observation, Verdict
from lockboard.domain.permits import forbidden, may_approve
from lockboard.domain.plans import Plan, Refused, Situation, Wanted, plan_for
from lockboard.domain.ports import Clock, LockTable, States
from lockboard.domain.signin import Approval, Approvals, Waiting
from lockboard.domain.text import shown, spoken_span, utc
from lockboard.domain.undo import UNDO, undo_plan, version_undone_to
from lockboard.domain.writes import Hands, OpenHands
from lockboard.services import memo as memos
from lockboard.services.investigate import Investigator
from lockboard.services.perform import ACTION_WITHIN, Deed, Performer, own_lock
from lockboard.services.recheck import VERSIONS_READ
from lockboard.services.rows import judge

VIEW_LASTS = timedelta(seconds=120)
"""How long a confirmation page may be acted on."""
REASON_LIMIT, TICKET_LIMIT = 500, 100
ANSWER_WITHIN = 40.0
"""Seconds that a second submit of the same form waits for the first to be recorded."""
LOOK_EVERY = 0.1
BEGUN_WITHIN = 60.0
"""Seconds after which an approved action that has no intent will have none."""

LATE_OUTCOME = "late_outcome"
"""The event of a process that was taken for dead and tells what it did."""
_SALT = "lockboard action"
_ENDED: Mapping[Waiting, tuple[str, ...]] = {
    Waiting.DECLINED: ("approval_declined", "approval_void"),
    Waiting.WITHDRAWN: ("approval_withdrawn",),
    Waiting.EXPIRED: ("approval_expired",),
    Waiting.APPROVED: ("approval_void",),
}
"""The events that tell how a request ended."""


class UnknownState(LockboardError):
    """No state key has this address."""


class NotPermitted(LockboardError):
    """The person may not do this to this key. seq: number of the record that says so, None for none."""

    def __init__(self, why: str, seq: int | None = None) -> None:
        super().__init__(why)
        self.seq = seq


class BadToken(LockboardError):
    """The form does not come from a page made for this person and key."""


class Halted(AuditError):
    """The log fails where something may have been done, by this attempt or by one before; the sentence says
    so. After an outcome that could not be recorded nothing more is done until it is.
    """


class Place(NamedTuple):
    """One backend's readers."""

    backend: Backend
    states: States
    table: LockTable | None


class Form(NamedTuple):
    """What the person filled in."""

    reason: str = ""
    ticket: str = ""
    confirm: str = ""
    serial: str = ""


class Problem(NamedTuple):
    """A field to mend (`reason`, `ticket`, `confirm` or `serial`) and what to do."""

    field: str
    text: str


@dataclass(frozen=True)
class Prepared:
    """What a confirmation page shows. row: as read just now.  token: "" where the plan is refused.
    undoes: the number of the record that is undone, None for any other action.  second: whether it then waits
    for a second person.
    """

    row: StateRow
    plan: Plan | Refused
    token: str
    undoes: int | None = None
    second: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of an attempt.

    problems: fields to mend; nothing was tried or recorded.  moved: the world is not as the page showed it,
    so nothing was done; `prepared` is the page to decide on anew (also with `problems`).
    record: number of the record that tells the result.  replayed: the form was sent before, and this is what
    became of it then.  waits: number of the request that waits for a second person; nothing was done yet.
    """

    result: Result
    message: str
    action_id: str
    record: int | None = None
    problems: tuple[Problem, ...] = ()
    moved: bool = False
    replayed: bool = False
    prepared: Prepared | None = None
    waits: int | None = None


@dataclass(frozen=True)
class Review:
    """A request for a second person beside what it would do now. moved: not what its requester confirmed."""

    asked: Approval
    prepared: Prepared
    moved: bool


class _Ticket(NamedTuple):
    """What a token binds."""

    action_id: str
    state_id: str
    person: str
    wanted: Wanted
    undoes: int | None
    fingerprint: str
    issued: float


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
        self._approvals, self._approval_lasts = approvals, approval_lasts
        self._board, self._places, self._audit, self._open = board, places, audit, open_hands
        self._signer = URLSafeSerializer(secret, salt=_SALT)
        self._clock, self._monotonic, self._sleep, self._new_id = clock, monotonic, sleep, new_id
        self._version = version
        self._halted = threading.Event()
        self.at_work: set[str] = set()
        self._begun: set[str] = set()
        self._unbegun: dict[str, float] = {}

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
        ticket = _Ticket(
            self._new_id(),
            reading.row.id,
            whose(actor.person),
            wanted,
            seq,
            plan.fingerprint(),
            self._clock().timestamp(),
        )
        second = self._approvals is not None and reading.situation.policy.protected
        return Prepared(reading.row, plan, self._sign(ticket), seq, second)

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
        ticket = self._opened(token, actor.person, state_id)
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
        problems = _problems(found, form)
        if problems:
            prepared = self._prepared(actor, reading, wanted, undoes)
            text = "Nothing was done yet: there is something to mend in the form."
            return Answer(Result.REFUSED, text, ticket.action_id, problems=problems, prepared=prepared)
        if self._approvals is not None and reading.situation.policy.protected:
            return self._ask_second(actor, ticket, reading, form, undoes)
        hands = self._ready(actor, ticket, reading, found, form, undoes)
        if isinstance(hands, Answer):
            return hands
        return self._commit(actor, ticket, reading, found, hands, form, undoes)

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
        self, actor: Actor, ticket: _Ticket, reading: _Reading, form: Form, undoes: Record | None
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
        ticket: _Ticket,
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
        ticket: _Ticket,
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
        ticket: _Ticket,
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

    def _again(self, actor: Actor, ticket: _Ticket, undoes: Record | None) -> Prepared | None:
        wanted = None if undoes else ticket.wanted
        try:
            return self._prepared(actor, self._read(ticket.state_id, ticket.wanted), wanted, undoes)
        except (ReadError, StoreError, UnknownState, NotPermitted):
            return None

    # ------------------------------------------------------------ a second person

    def _ask_second(
        self, actor: Actor, ticket: _Ticket, reading: _Reading, form: Form, undoes: Record | None
    ) -> Answer:
        """Nothing is done yet: somebody else has to approve it first."""
        assert self._approvals is not None
        now = self._clock()
        asked = self._approvals.add(
            Approval(
                number=0,
                action_id=ticket.action_id,
                state_id=reading.row.id,
                backend=reading.row.backend,
                key=str(reading.row.document["raw_key"]),
                requester=_spelled(actor.person),
                wanted={"wanted": [*_fields(ticket.wanted)], "undoes": ticket.undoes},
                fingerprint=ticket.fingerprint,
                form=form._asdict(),
                requested_at=now,
                expires_at=now + self._approval_lasts,
            )
        )
        if self._is_second(asked, now):
            self._approvals.decide(asked.number, Waiting.WITHDRAWN, LOCKBOARD.name, now)
            return self._replayed(ticket.action_id)
        name = UNDO if undoes else ticket.wanted.action.value
        text = (
            f"Nothing was done yet: this key is protected, so a second person has to approve request"
            f" {asked.number} within {spoken_span(self._approval_lasts)}."
        )
        facts = {"request": asked.number, "wanted": name, "expires_at": utc(asked.expires_at)}
        entry = self._entry(Kind.EVENT, "approval_requested", actor, ticket, reading, form, facts=facts)
        try:
            record = self._audit.append(replace(entry, message=text))
        except AuditError:
            self._approvals.decide(asked.number, Waiting.WITHDRAWN, LOCKBOARD.name, now)
            raise
        return Answer(Result.NO_CHANGE, text, ticket.action_id, record.seq, waits=asked.number)

    def _is_second(self, asked: Approval, now: datetime) -> bool:
        """Whether the same form, sent twice at once, has made a request before this one."""
        assert self._approvals is not None
        others = self._approvals.waiting(now)
        return any(a.action_id == asked.action_id and a.number < asked.number for a in others)

    def review(self, actor: Actor, number: int) -> Review:
        """What a request for a second person would do now.

        Raises:
            UnknownState: also where the actor neither made it nor may approve it.
            ReadError, StoreError, AuditError.
        """
        asked = self.asked(actor, number)
        reading, undoes = self._reading_of(asked)
        plan = self._plan(reading, None if undoes else _ticket(asked).wanted, undoes)
        moved = isinstance(plan, Refused) or plan.fingerprint() != asked.fingerprint
        return Review(asked, Prepared(reading.row, plan, "", _ticket(asked).undoes), moved=moved)

    def approve(self, actor: Actor, number: int) -> Answer:
        """Carry a request out in its requester's name, where all is as it was when they confirmed it.

        Raises:
            NotPermitted: the actor is the requester, or may not do this to the key; recorded.
            UnknownState, ReadError: as `perform`; the request goes on waiting.
            AuditError, Halted: as `perform`. An approval that was recorded is not given again: where nothing
            was begun after it, `expire` ends the request.
        """
        asked = self.asked(actor, number)
        ticket, requester = _ticket(asked), Actor(Person(*asked.requester), actor.rights)
        refused = self._unapprovable(actor, asked)
        if refused:
            return refused
        self._refuse_while_halted()
        reading, undoes = self._reading_of(asked)
        self._require_permitted(actor, asked, ticket, reading, undoes)
        form = Form(**asked.form)
        facts = {
            "request": number,
            "approved_by": [*_spelled(actor.person)],
            "requested": utc(asked.requested_at),
        }
        found = self._still(requester, ticket, reading, form, undoes)
        if isinstance(found, Answer):
            self._settle(actor, asked, Waiting.DECLINED, "approval_void", found.message)
            return replace(found, moved=False, prepared=None)
        hands = self._ready(requester, ticket, reading, found, form, undoes)
        if isinstance(hands, Answer):
            self._settle(actor, asked, Waiting.DECLINED, "approval_void", hands.message)
            return hands
        if not self._settle(actor, asked, Waiting.APPROVED, "approval_given", "Approved."):
            text = "Meanwhile somebody else decided this request, or its time ran out. This did nothing."
            return Answer(Result.REFUSED, text, asked.action_id)
        answer = self._commit(requester, ticket, reading, found, hands, form, undoes, facts)
        return replace(answer, moved=False, prepared=None)  # a page to go on with would be the requester's

    def _require_permitted(
        self, actor: Actor, asked: Approval, ticket: _Ticket, reading: _Reading, undoes: Record | None
    ) -> None:
        """Who approves has to be allowed to do it. It is they who are refused, and not the requester."""
        plan = self._plan(reading, None if undoes else ticket.wanted, undoes)
        why = forbidden(actor.rights, plan, reading.situation)
        if why:
            raise NotPermitted(why, self._note_approval(actor, asked, "approval_refused", why).seq)

    def decline(self, actor: Actor, number: int) -> bool:
        """End a request without carrying it out: declined by who may approve it, withdrawn by who made it.
        False where it was decided already.

        Raises:
            UnknownState, StoreError, AuditError.
        """
        asked = self.asked(actor, number)
        if whose(actor.person) == _whose(asked):
            return self._settle(actor, asked, Waiting.WITHDRAWN, "approval_withdrawn", "Withdrawn.")
        return self._settle(actor, asked, Waiting.DECLINED, "approval_declined", "Declined.")

    def expire(self) -> int:
        """End the requests whose time has passed, and those that were approved and never begun. Returns how
        many.

        Raises:
            StoreError, AuditError.
        """
        if self._approvals is None:
            return 0
        text, nobody = "Nobody approved it in time.", Actor(LOCKBOARD, NO_RIGHTS)
        overdue = self._approvals.overdue(self._clock())
        ended = sum(self._settle(nobody, a, Waiting.EXPIRED, "approval_expired", text) for a in overdue)
        void = [asked for asked in self._approvals.recent() if self._was_never_begun(asked)]
        for asked in void:
            why = "It was approved, but never begun: the audit log or the process failed in between."
            self._note_approval(nobody, asked, "approval_void", why)
        return ended + len(void)

    def _was_never_begun(self, asked: Approval) -> bool:
        """Whether an approved request has had a minute, by this process's own clock, and no intent."""
        if asked.state is not Waiting.APPROVED or asked.action_id in self._begun:
            return False
        records = self._audit.of_action(asked.action_id)
        if any(r.entry.kind is not Kind.EVENT or r.entry.action == "approval_void" for r in records):
            self._begun.add(asked.action_id)
            return False
        now = self._monotonic()
        return now - self._unbegun.setdefault(asked.action_id, now) >= BEGUN_WITHIN

    def requests(self, actor: Actor) -> Sequence[Approval]:
        """Those requests, among the newest and all that wait, that the actor made or may approve; newest
        first. Raises StoreError.
        """
        if self._approvals is None:
            return []
        found = (*self._approvals.recent(), *self._approvals.waiting(self._clock()))
        mine = {asked.number: asked for asked in found if self._concerns(actor, asked)}
        return [mine[number] for number in sorted(mine, reverse=True)]

    def _concerns(self, actor: Actor, asked: Approval) -> bool:
        if whose(actor.person) == _whose(asked):
            return actor.rights.may(Permission.VIEW, asked.backend, asked.key)
        return may_approve(actor.rights, asked.backend, asked.key)

    def asked(self, actor: Actor, number: int) -> Approval:
        """One of those. Raises UnknownState where there is none of this number for the actor, StoreError."""
        asked = self._approvals.find(number) if self._approvals else None
        if asked is None or not self._concerns(actor, asked):
            raise UnknownState("There is no such request, or it is not for you.")
        return asked

    def _unapprovable(self, actor: Actor, asked: Approval) -> Answer | None:
        """Raises NotPermitted where it is up to somebody else."""
        same = whose(actor.person) == _whose(asked)  # by another name than then, perhaps
        if same or _people_of(actor.person) & _people_of(Person(*asked.requester)):
            why = "A second person has to approve this: not the one who asked for it."
            raise NotPermitted(why, self._note_approval(actor, asked, "approval_refused", why).seq)
        if asked.state is not Waiting.WAITING:
            text = f"This request is {asked.state.value} already. Nothing was done."
            return Answer(Result.REFUSED, text, asked.action_id)
        if self._clock() >= asked.expires_at:
            self._settle(actor, asked, Waiting.EXPIRED, "approval_expired", "Approved too late.")
            return Answer(Result.REFUSED, "This request has expired. Nothing was done.", asked.action_id)
        return None

    def _settle(self, actor: Actor, asked: Approval, state: Waiting, event: str, message: str) -> bool:
        """Recorded first: what cannot be recorded is not decided, and goes on waiting."""
        assert self._approvals is not None
        now = self._approvals.find(asked.number)
        if now is None or now.state is not Waiting.WAITING:
            return False
        self._note_approval(actor, asked, event, message)
        if self._approvals.decide(asked.number, state, actor.person.name, self._clock()):
            return True
        late = "The decision of the record before came too late: the request was over already."
        self._note_approval(actor, asked, "approval_refused", late)
        return False

    def _note_approval(self, actor: Actor, asked: Approval, event: str, message: str) -> Record:
        return self._audit.append(
            Entry(
                Kind.EVENT,
                event,
                actor.person,
                action_id=asked.action_id,
                backend=asked.backend,
                bucket=self._places[asked.backend].backend.bucket if asked.backend in self._places else "",
                key=asked.key,
                state_id=asked.state_id,
                reason=asked.form.get("reason", ""),
                ticket=asked.form.get("ticket", ""),
                message=message,
                facts={"request": asked.number, "requester": [*asked.requester]},
            )
        )

    def _reading_of(self, asked: Approval) -> tuple[_Reading, Record | None]:
        ticket = _ticket(asked)
        undoes = None if ticket.undoes is None else self._undoable(asked.state_id, ticket.undoes)
        return self._read(asked.state_id, ticket.wanted, keep=False), undoes

    # ------------------------------------------------------------ what is recorded

    def _refusal(
        self,
        actor: Actor,
        ticket: _Ticket,
        reading: _Reading,
        form: Form,
        result: Result,
        why: str,
        undoes: Record | None,
        *,
        moved: bool = False,
    ) -> Answer:
        name = UNDO if ticket.undoes is not None else ticket.wanted.action.value
        facts = {"wanted": [*_fields(ticket.wanted)], "undoes": ticket.undoes, "lockboard": self._version}
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
        ticket: _Ticket,
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
            told = _told(records) or self._of_request(records)
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

    def _of_request(self, records: Sequence[Record]) -> Answer | None:
        """Where it waits for a second person, or waited until it was ended. The request itself says which:
        an event in the log may be of somebody who was too late.
        """
        asked = _waits(records)
        if asked is None or self._approvals is None:
            return None
        action_id, number = asked.entry.action_id, int(asked.entry.facts["request"])
        kept = self._approvals.find(number)
        ended = next((r for r in records if kept and r.entry.action in _ENDED.get(kept.state, ())), None)
        if ended is not None:
            text = f"{ended.entry.message} Nothing was done."
            return Answer(Result.REFUSED, text, action_id, ended.seq, replayed=True)
        if kept is not None and kept.state is Waiting.APPROVED:
            return None
        text = asked.entry.message
        return Answer(Result.NO_CHANGE, text, action_id, asked.seq, replayed=True, waits=number)

    def _undoable(self, state_id: str, seq: int) -> Record:
        record = self._audit.record(seq)
        if record is None or record.entry.state_id != state_id:
            raise UnknownState("The audit log has no such record of this state key.")
        return record

    # ------------------------------------------------------------ tokens

    def _sign(self, ticket: _Ticket) -> str:
        text: str = self._signer.dumps([*ticket[:3], [*_fields(ticket.wanted)], *ticket[4:]])
        return text

    def action_id(self, token: str) -> str:
        """Of the attempt that the form with this token is for; "" where the token is not ours."""
        try:
            return str(self._signer.loads(token)[0])
        except (BadSignature, LookupError, TypeError):
            return ""

    def _opened(self, token: str, person: Person, state_id: str) -> _Ticket:
        try:
            action_id, state, name, (action, store, version), undoes, print_, issued = self._signer.loads(
                token
            )
        except (BadSignature, ValueError, TypeError):
            raise BadToken(
                "This form was not made by Lockboard, or its secret key has changed. Open the page again."
            ) from None
        ticket = _Ticket(
            action_id, state, name, Wanted(Action(action), store, version), undoes, print_, issued
        )
        if ticket.state_id != state_id or ticket.person != whose(person):
            raise BadToken("This form was made for another state or another person. Open the page again.")
        return ticket


def _seen(verdict: Verdict) -> dict[str, Any]:
    """On what evidence it was decided, as the audit log keeps it."""
    return {
        "content": verdict.content.value,
        "lock": verdict.lock.value,
        "terraform": verdict.terraform.value,
        "summary": verdict.summary,
        "evidence": [{"fact": item.fact, "source": item.source} for item in verdict.evidence],
    }


def whose(person: Person) -> str:
    """What a token binds: one name may be two people's."""
    return f"{person.method}|{person.subject or person.name}"


def _whose(asked: Approval) -> str:
    return whose(Person(*asked.requester))


def _people_of(person: Person) -> set[str]:
    """The names of whoever may be behind it: of a token, also of who made it."""
    owner = person.subject.split("|", 2)[2:] if person.method == "token" else []
    return {name.casefold() for name in (person.name, *owner)}


def _spelled(person: Person) -> tuple[str, str, str, str]:
    return person.name, person.method, person.address, person.subject


def _ticket(asked: Approval) -> _Ticket:
    """What the requester confirmed."""
    action, store, version = asked.wanted["wanted"]
    return _Ticket(
        asked.action_id,
        asked.state_id,
        _whose(asked),
        Wanted(Action(action), store, version),
        asked.wanted["undoes"],
        asked.fingerprint,
        asked.requested_at.timestamp(),
    )


def _told(records: Sequence[Record]) -> Answer | None:
    """What the log says became of an attempt: its outcome, as its own process told it if it did; or a refusal
    where it was never begun.
    """
    kinds = {record.entry.kind: record for record in reversed(records)}
    late = next((record for record in records if record.entry.action == LATE_OUTCOME), None)
    found = late or kinds.get(Kind.OUTCOME)
    if found is None and Kind.INTENT not in kinds:
        found = kinds.get(Kind.REFUSAL)
    if found is None:
        return None
    entry = found.entry
    return Answer(Result(entry.result), entry.message, entry.action_id, found.seq, replayed=True)


def _waits(records: Sequence[Record]) -> Record | None:
    """The record of a request that still is all that became of an attempt."""
    if any(record.entry.kind is not Kind.EVENT for record in records):
        return None
    return next((record for record in records if record.entry.action == "approval_requested"), None)


def _fields(wanted: Wanted) -> tuple[str, str, str]:
    return wanted.action.value, wanted.store, wanted.version_id


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


def _problems(plan: Plan, form: Form) -> tuple[Problem, ...]:
    found: list[Problem] = []
    reason = form.reason.strip()
    if len(reason) < 3:
        found.append(Problem("reason", "Say why, in a few words: it goes into the audit log."))
    elif len(reason) > REASON_LIMIT:
        found.append(Problem("reason", f"Shorten the reason to {REASON_LIMIT} characters."))
    if len(form.ticket.strip()) > TICKET_LIMIT:
        found.append(Problem("ticket", f"Shorten the ticket to {TICKET_LIMIT} characters."))
    if plan.confirm and form.confirm.strip() != plan.confirm:
        found.append(
            Problem(
                "confirm", f"Type {shown(plan.confirm, 80)} exactly, to show that this is the state you mean."
            )
        )
    if plan.accept_serial and form.serial.strip() != plan.accept_serial:
        found.append(
            Problem("serial", f"Type the lower serial {plan.accept_serial}, to show that you accept it.")
        )
    return tuple(found)
