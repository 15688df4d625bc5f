"""`Actions` over observations in a dictionary: the plans are the real ones, nothing is ever sent to AWS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import cast

from lockboard.domain.access import Actor
from lockboard.domain.audit import Audit, Entry, Kind, Person, Result
from lockboard.domain.inventory import Board
from lockboard.domain.keys import state_id
from lockboard.domain.model import Action, Backend, Observation
from lockboard.domain.plans import Plan, Refused, Situation, Wanted, plan_for
from lockboard.domain.ports import Clock
from lockboard.domain.undo import undo_plan
from lockboard.services.actions import Actions
from lockboard.services.attempts import Answer, Form, Prepared, Problem, UnknownState
from lockboard.services.memo import Memo
from lockboard.services.rows import judge
from lockboard.services.tickets import BadToken
from tests.web.entrances import ALL_RIGHTS

Told = Callable[[str, Form], Answer]


@dataclass
class Sent:
    """One call of `perform`."""

    actor: Actor
    state_id: str
    token: str
    form: Form


@dataclass
class FakeActions:
    """Answers from `seen`, by address. error: raised by every call.  told: (token, form) -> what `perform`
    answers; left out, it checks the form as the real one does and tells the log that the plan was carried
    out.
    """

    board: Board
    backends: Mapping[str, Backend]
    audit: Audit
    clock: Clock
    seen: MutableMapping[str, Observation] = field(default_factory=dict)
    error: Exception | None = None
    told: Told | None = None
    sent: list[Sent] = field(default_factory=list)
    prepared: list[tuple[Person, str, Wanted]] = field(default_factory=list)
    plans: dict[str, Plan] = field(default_factory=dict)
    versioning: str = "enabled"

    def as_actions(self) -> Actions:
        """With the type that the application wants."""
        return cast(Actions, self)

    def look(self, seen: Observation) -> None:
        """From now on the key is as observed here."""
        self.seen[state_id(seen.backend, seen.key)] = seen

    def prepare(self, actor: Actor, state_id: str, wanted: Wanted) -> Prepared:
        self.prepared.append((actor.person, state_id, wanted))
        plan = plan_for(wanted, self._situation(state_id))
        return self._page(state_id, plan)

    def prepare_undo(self, actor: Actor, state_id: str, seq: int) -> Prepared:
        record = self.audit.record(seq)
        if record is None or record.entry.state_id != state_id:
            raise UnknownState("The audit log has no such record of this state key.")
        plan = undo_plan(record, self._situation(state_id))
        return replace(self._page(state_id, plan), undoes=seq)

    def action_id(self, token: str) -> str:
        return ""

    def perform(self, actor: Actor, state_id: str, token: str, form: Form) -> Answer:
        self.sent.append(Sent(actor, state_id, token, form))
        if self.error is not None:
            raise self.error
        if self.told is not None:
            return self.told(token, form)
        if token not in self.plans:
            raise BadToken("This form was not made by Lockboard.")
        plan = self.plans[token]
        problems = _problems(plan, form)
        if problems:
            return Answer(Result.REFUSED, "", "", problems=problems, prepared=self._page(state_id, plan))
        return self.carried_out(actor.person, state_id, plan, form)

    def carried_out(self, person: Person, state_id: str, plan: Plan, form: Form) -> Answer:
        """Told to the log and to the inventory, where every lock of the plan is gone."""
        seen = replace(self.seen[state_id], table_lock=None, file_lock=None)
        self.seen[state_id] = seen
        row, _ = judge(seen, Memo(), self.backends[seen.backend], self.clock(), "", rechecked=True)
        self.board.put(row)
        entry = Entry(
            Kind.OUTCOME,
            plan.action,
            person,
            action_id=f"00000000-0000-4000-8000-{len(self.sent):012d}",
            backend=plan.backend,
            bucket=plan.bucket,
            key=plan.key,
            state_id=state_id,
            reason=form.reason,
            ticket=form.ticket,
            result=Result.DONE,
            message="The lock item in DynamoDB was removed.",
            facts={"plan": plan.facts()},
        )
        record = self.audit.append(entry)
        return Answer(Result.DONE, entry.message, entry.action_id, record.seq)

    def moved(self, state_id: str, wanted: Wanted, message: str) -> Answer:
        """Refused because the key is not as the page showed it: with the page to decide on anew."""
        prepared = self.prepare(Actor(Person("", "", ""), ALL_RIGHTS), state_id, wanted)
        return Answer(Result.REFUSED, message, "", 1, moved=True, prepared=prepared)

    def _situation(self, state_id: str) -> Situation:
        if self.error is not None:
            raise self.error
        seen = self.seen.get(state_id)
        if seen is None:
            raise UnknownState("No state key has this address.")
        backend, now = self.backends[seen.backend], self.clock()
        row, verdict = judge(seen, Memo(), backend, now, "", rechecked=True)
        self.board.put(row)
        policy = backend.policy_for(seen.key)
        return Situation(seen, verdict, policy, now, row.id, backend.table, self.versioning, backend.region)

    def _page(self, state_id: str, plan: Plan | Refused) -> Prepared:
        row = self.board.state(state_id)
        assert row is not None
        if isinstance(plan, Refused):
            return Prepared(row, plan, "")
        token = f"token-{len(self.plans) + 1}"
        self.plans[token] = plan
        return Prepared(row, plan, token)


def _problems(plan: Plan, form: Form) -> tuple[Problem, ...]:
    wanted = (
        ("reason", len(form.reason.strip()) >= 3, "Say why, in a few words."),
        ("confirm", form.confirm == plan.confirm, f"Type {plan.confirm} exactly."),
        ("serial", form.serial == plan.accept_serial, f"Type the lower serial {plan.accept_serial}."),
    )
    return tuple(Problem(name, text) for name, well, text in wanted if not well)


UNLOCK = Wanted(Action.FORCE_UNLOCK)
