"""Requests for a second person: made, shown to whom they concern, ended, and told of in the log. Carrying one
out is for `services.actions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lockboard.domain.access import NO_RIGHTS, Actor, Permission
from lockboard.domain.audit import LOCKBOARD, Audit, AuditError, Entry, Kind, Person, Record, Result
from lockboard.domain.model import Backend
from lockboard.domain.permits import may_approve
from lockboard.domain.ports import Clock
from lockboard.domain.signin import Approval, Approvals, Waiting
from lockboard.domain.text import spoken_span
from lockboard.services.attempts import Answer, NotPermitted, UnknownState
from lockboard.services.tickets import Ticket, wanted_of, whose

BEGUN_WITHIN = 60.0
"""Seconds after which an approved action that has no intent will have none."""

_ENDED: Mapping[Waiting, tuple[str, ...]] = {
    Waiting.DECLINED: ("approval_declined", "approval_void"),
    Waiting.WITHDRAWN: ("approval_withdrawn",),
    Waiting.EXPIRED: ("approval_expired",),
    Waiting.APPROVED: ("approval_void",),
}
"""The events that tell how a request ended."""


class SecondPerson:
    """What waits for somebody else than its requester.

    Args:
        kept: where requests wait.
        backends: by name, for what the log says of a key.
        monotonic: seconds that only go forward.
    """

    def __init__(
        self,
        kept: Approvals,
        audit: Audit,
        backends: Mapping[str, Backend],
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._kept, self._audit, self._backends = kept, audit, backends
        self._clock, self._monotonic = clock, monotonic
        self._begun: set[str] = set()
        self._unbegun: dict[str, float] = {}

    def ask(self, wish: Approval, entry: Entry) -> Answer | None:
        """Keep a request and record it; None where the same form, sent twice at once, has made one before.

        entry: the event, without the request's number and its message.  Raises StoreError, AuditError.
        """
        now = wish.requested_at
        asked = self._kept.add(wish)
        others = self._kept.waiting(now)
        if any(a.action_id == asked.action_id and a.number < asked.number for a in others):
            self._kept.decide(asked.number, Waiting.WITHDRAWN, LOCKBOARD.name, now)
            return None
        text = (
            f"Nothing was done yet: this key is protected, so a second person has to approve request"
            f" {asked.number} within {spoken_span(asked.expires_at - now)}."
        )
        try:
            facts = {"request": asked.number, **entry.facts}
            record = self._audit.append(replace(entry, message=text, facts=facts))
        except AuditError:
            self._kept.decide(asked.number, Waiting.WITHDRAWN, LOCKBOARD.name, now)
            raise
        return Answer(Result.NO_CHANGE, text, asked.action_id, record.seq, waits=asked.number)

    def asked(self, actor: Actor, number: int) -> Approval:
        """One that the actor made or may approve. Raises UnknownState where there is none of this number for
        them, StoreError.
        """
        asked = self._kept.find(number)
        if asked is None or not _concerns(actor, asked):
            raise no_such_request()
        return asked

    def requests(self, actor: Actor) -> Sequence[Approval]:
        """Those of them that are among the newest, and all that wait; newest first. Raises StoreError."""
        found = (*self._kept.recent(), *self._kept.waiting(self._clock()))
        mine = {asked.number: asked for asked in found if _concerns(actor, asked)}
        return [mine[number] for number in sorted(mine, reverse=True)]

    def unapprovable(self, actor: Actor, asked: Approval) -> Answer | None:
        """Why nobody can approve it any more, None where somebody can.

        Raises:
            NotPermitted: it is up to somebody else than this actor; recorded.
            StoreError, AuditError.
        """
        same = whose(actor.person) == requester_of(asked)  # by another name than then, perhaps
        if same or _people_of(actor.person) & _people_of(Person(*asked.requester)):
            why = "A second person has to approve this: not the one who asked for it."
            raise NotPermitted(why, self.note(actor, asked, "approval_refused", why).seq)
        if asked.state is not Waiting.WAITING:
            text = f"This request is {asked.state.value} already. Nothing was done."
            return Answer(Result.REFUSED, text, asked.action_id)
        if self._clock() >= asked.expires_at:
            self.settle(actor, asked, Waiting.EXPIRED, "approval_expired", "Approved too late.")
            return Answer(Result.REFUSED, "This request has expired. Nothing was done.", asked.action_id)
        return None

    def decline(self, actor: Actor, number: int) -> bool:
        """End a request without carrying it out: declined by who may approve it, withdrawn by who made it.
        False where it was decided already.

        Raises:
            UnknownState, StoreError, AuditError.
        """
        asked = self.asked(actor, number)
        if whose(actor.person) == requester_of(asked):
            return self.settle(actor, asked, Waiting.WITHDRAWN, "approval_withdrawn", "Withdrawn.")
        return self.settle(actor, asked, Waiting.DECLINED, "approval_declined", "Declined.")

    def expire(self) -> int:
        """End the requests whose time has passed, and those that were approved and never begun. Returns how
        many.

        Raises:
            StoreError, AuditError.
        """
        text, nobody = "Nobody approved it in time.", Actor(LOCKBOARD, NO_RIGHTS)
        overdue = self._kept.overdue(self._clock())
        ended = sum(self.settle(nobody, a, Waiting.EXPIRED, "approval_expired", text) for a in overdue)
        void = [asked for asked in self._kept.recent() if self._was_never_begun(asked)]
        for asked in void:
            why = "It was approved, but never begun: the audit log or the process failed in between."
            self.note(nobody, asked, "approval_void", why)
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

    def settle(self, actor: Actor, asked: Approval, state: Waiting, event: str, message: str) -> bool:
        """Decide a request; False where it was decided before. Recorded first: what cannot be recorded is not
        decided, and goes on waiting. Raises StoreError, AuditError.
        """
        now = self._kept.find(asked.number)
        if now is None or now.state is not Waiting.WAITING:
            return False
        self.note(actor, asked, event, message)
        if self._kept.decide(asked.number, state, actor.person.name, self._clock()):
            return True
        late = "The decision of the record before came too late: the request was over already."
        self.note(actor, asked, "approval_refused", late)
        return False

    def note(self, actor: Actor, asked: Approval, event: str, message: str) -> Record:
        """Record what became of a request. Raises AuditError."""
        backend = self._backends.get(asked.backend)
        return self._audit.append(
            Entry(
                Kind.EVENT,
                event,
                actor.person,
                action_id=asked.action_id,
                backend=asked.backend,
                bucket=backend.bucket if backend else "",
                key=asked.key,
                state_id=asked.state_id,
                reason=asked.form.get("reason", ""),
                ticket=asked.form.get("ticket", ""),
                message=message,
                facts={"request": asked.number, "requester": [*asked.requester]},
            )
        )

    def told(self, records: Sequence[Record]) -> Answer | None:
        """What a form that is sent again is told where its attempt waits for a second person, or waited until
        it was ended. The request itself says which: an event in the log may be of somebody who was too late.

        records: of the attempt.  Raises StoreError.
        """
        asked = _waits(records)
        if asked is None:
            return None
        action_id, number = asked.entry.action_id, int(asked.entry.facts["request"])
        kept = self._kept.find(number)
        ended = next((r for r in records if kept and r.entry.action in _ENDED.get(kept.state, ())), None)
        if ended is not None:
            text = f"{ended.entry.message} Nothing was done."
            return Answer(Result.REFUSED, text, action_id, ended.seq, replayed=True)
        if kept is not None and kept.state is Waiting.APPROVED:
            return None
        text = asked.entry.message
        return Answer(Result.NO_CHANGE, text, action_id, asked.seq, replayed=True, waits=number)


def no_such_request() -> UnknownState:
    """Also what is said of requests that are others' business."""
    return UnknownState("There is no such request, or it is not for you.")


def spelled(person: Person) -> tuple[str, str, str, str]:
    """As a request keeps its requester."""
    return person.name, person.method, person.address, person.subject


def requester_of(asked: Approval) -> str:
    """Whose request it is, as tokens tell people."""
    return whose(Person(*asked.requester))


def ticket_of(asked: Approval) -> Ticket:
    """What the requester confirmed."""
    return Ticket(
        asked.action_id,
        asked.state_id,
        requester_of(asked),
        wanted_of(asked.wanted["wanted"]),
        asked.wanted["undoes"],
        asked.fingerprint,
        asked.requested_at.timestamp(),
    )


def _concerns(actor: Actor, asked: Approval) -> bool:
    if whose(actor.person) == requester_of(asked):
        return actor.rights.may(Permission.VIEW, asked.backend, asked.key)
    return may_approve(actor.rights, asked.backend, asked.key)


def _people_of(person: Person) -> set[str]:
    """The names of whoever may be behind it: of a token, also of who made it."""
    owner = person.subject.split("|", 2)[2:] if person.method == "token" else []
    return {name.casefold() for name in (person.name, *owner)}


def _waits(records: Sequence[Record]) -> Record | None:
    """The record of a request that still is all that became of an attempt."""
    if any(record.entry.kind is not Kind.EVENT for record in records):
        return None
    return next((record for record in records if record.entry.action == "approval_requested"), None)
