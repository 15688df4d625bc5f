"""What goes into an action and what comes out of it: page, form, answer, and the errors instead of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lockboard.domain.audit import AuditError, Kind, Record, Result
from lockboard.domain.errors import LockboardError
from lockboard.domain.inventory import StateRow
from lockboard.domain.plans import Plan, Refused
from lockboard.domain.signin import Approval
from lockboard.domain.text import shown

REASON_LIMIT, TICKET_LIMIT = 500, 100

LATE_OUTCOME = "late_outcome"
"""The event of a process that was taken for dead and tells what it did."""


class UnknownState(LockboardError):
    """No state key has this address."""


class NotPermitted(LockboardError):
    """The person may not do this to this key. seq: number of the record that says so, None for none."""

    def __init__(self, why: str, seq: int | None = None) -> None:
        super().__init__(why)
        self.seq = seq


class Halted(AuditError):
    """The log fails where something may have been done, by this attempt or by one before; the sentence says
    so. After an outcome that could not be recorded nothing more is done until it is.
    """


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


def outcome_of(records: Sequence[Record]) -> Answer | None:
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


def problems_of(plan: Plan, form: Form) -> tuple[Problem, ...]:
    """What is to be mended in a form before this plan is carried out."""
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
