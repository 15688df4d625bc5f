"""Requests for a second person in memory, and a world in which every key is protected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from lockboard.domain.access import Actor, Area, Grant, Rights, Role
from lockboard.domain.audit import Person
from lockboard.domain.errors import StoreError
from lockboard.domain.keys import state_id
from lockboard.domain.model import Action, Policy
from lockboard.domain.plans import Wanted
from lockboard.domain.signin import Approval, Waiting
from lockboard.services.attempts import Answer, Prepared
from tests.services.action_fakes import FORM, World
from tests.services.fakes import Estate

KEY = "team/vpc/terraform.tfstate"
HOUR = 3600.0


class FakeApprovals:
    """`Approvals` in a list. broken: nothing is read or taken.  before_decide: happens once, first."""

    def __init__(self) -> None:
        self.kept: list[Approval] = []
        self.broken = False
        self.before_decide: Callable[[], object] | None = None
        self.after_add: Callable[[], object] | None = None

    def add(self, approval: Approval) -> Approval:
        self._answer()
        taken = replace(approval, number=len(self.kept) + 1)
        self.kept.append(taken)
        then, self.after_add = self.after_add, None
        if then:
            then()
        return taken

    def find(self, number: int) -> Approval | None:
        self._answer()
        return next((a for a in self.kept if a.number == number), None)

    def waiting(self, now: datetime) -> Sequence[Approval]:
        self._answer()
        return [a for a in self.kept if a.state is Waiting.WAITING and a.expires_at > now][:200]

    def overdue(self, now: datetime) -> Sequence[Approval]:
        self._answer()
        return [a for a in self.kept if a.state is Waiting.WAITING and a.expires_at <= now]

    def recent(self, limit: int = 50) -> Sequence[Approval]:
        self._answer()
        return list(reversed(self.kept))[:limit]

    def decide(self, number: int, state: Waiting, by: str, now: datetime) -> bool:
        then, self.before_decide = self.before_decide, None
        if then:
            then()
        self._answer()
        found = self.find(number)
        late = state is Waiting.APPROVED and found is not None and found.expires_at <= now
        if found is None or found.state is not Waiting.WAITING or late:
            return False
        self.kept[number - 1] = replace(found, state=state, decided_by=by, decided_at=now)
        return True

    def _answer(self) -> None:
        if self.broken:
            raise StoreError("the database is locked")


def person(name: str, method: str = "local") -> Person:
    return Person(name, method, "192.0.2.7", f"{method}|{name}")


def actor(name: str, *grants: Grant, method: str = "local") -> Actor:
    return Actor(person(name, method), Rights(grants))


BOTH = Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True)
MIN, LEE, ADA = actor("min", BOTH), actor("lee", BOTH), actor("ada", Grant(Role.ADMINISTRATOR))
"""Two operators with every extra, and an administrator."""
PROTECTED_ONLY = actor("ona", Grant(Role.OPERATOR, protected=True))
STRANGERS = {
    "somebody without a grant": actor("nil"),
    "a viewer": actor("vic", Grant(Role.VIEWER)),
    "an auditor": actor("aud", Grant(Role.AUDITOR)),
    "an operator without the extra": actor("opa", Grant(Role.OPERATOR, unlock_unsuspected=True)),
    "an operator of another backend": actor("far", replace(BOTH, area=Area("other"))),
    "an operator of other keys": actor("off", replace(BOTH, area=Area("dev", "elsewhere/"))),
    "an administrator of other keys": actor("adm", Grant(Role.ADMINISTRATOR, Area("dev", "elsewhere/"))),
}


def protected(*, stale: bool = True) -> tuple[World, FakeApprovals]:
    """A healthy, protected state under a lock: held for hours without a write, or taken just now."""
    approvals = FakeApprovals()
    world = World(Estate(policy=Policy(protected=True)), approvals=approvals)
    world.estate.apply(KEY)
    if stale:
        world.estate.lock(KEY, file=True)
        world.estate.clock.pass_(3 * HOUR)
    else:
        world.estate.clock.pass_(3 * HOUR)
        world.estate.lock(KEY, file=True)
    world.estate.refresh()
    world.estate.refresh(after=20)
    world.committed.clear()
    return world, approvals


ID = state_id("dev", KEY)


def look(world: World, who: Actor = MIN) -> Prepared:
    return world.actions.prepare(who, ID, Wanted(Action.FORCE_UNLOCK))


def submit(world: World, prepared: Prepared, who: Actor = MIN, **fields: str) -> Answer:
    """The page's form with everything in it that it asks for."""
    plan: Any = prepared.plan
    form = FORM._replace(confirm=plan.confirm, serial=plan.accept_serial)._replace(**fields)
    return world.actions.perform(who, prepared.row.id, prepared.token, form)


def ask(world: World, who: Actor = MIN) -> int:
    """The number of a new request."""
    found = submit(world, look(world, who), who)
    assert found.waits is not None
    return found.waits


def waiting(*, stale: bool = True) -> tuple[World, FakeApprovals, int]:
    """A request of MIN's that waits."""
    world, approvals = protected(stale=stale)
    return world, approvals, ask(world)
