"""Sessions, accounts, tokens and attempts in memory, and actions that ask who acts, for tests of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from flask import Flask

from lockboard.domain.access import Actor, Grant, Identity, Rights
from lockboard.domain.audit import Audit, Result
from lockboard.domain.errors import StoreError
from lockboard.domain.model import Action
from lockboard.domain.permits import forbidden, may_approve
from lockboard.domain.plans import Refused, Wanted, plan_for
from lockboard.domain.signin import Account, ApiToken, Approval, Session, UnknownAccount, Waiting
from lockboard.services.attempts import Answer, NotPermitted, Prepared, Review, UnknownState
from lockboard.services.tickets import whose
from lockboard.web.access import Entrance
from lockboard.web.app import Services, build_app
from lockboard.web.entrances import noting
from lockboard.web.signin import Doorkeeper
from tests.web.audit_fakes import FakeAudit, week
from tests.web.entrances import SECRET, Always
from tests.web.fake_actions import FakeActions
from tests.web.fakes import BACKENDS, SETTINGS, STORIES, FakeBoard, Recheck, Ticking, estate, report


class FakeSessions:
    """`Sessions` in a dictionary. broken: the database does not answer.  read_only: it takes no end of one.
    asked: how often it was.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Session] = {}
        self.broken, self.read_only, self.asked = False, False, 0

    def open(self, identity: Identity, address: str, now: datetime) -> tuple[str, Session]:
        self._answer()
        number = len(self.kept) + 1
        opened = Session(number, identity, f"form-token-of-{number}", address, now, now)
        self.kept[f"session-{number}"] = opened
        return f"session-{number}", opened

    def find(self, session_id: str, now: datetime) -> Session | None:
        self._answer()
        found = self.kept.get(session_id)
        return None if found is None or found.is_over(now) else found

    def close(self, session_id: str) -> None:
        self._answer()
        self.kept.pop(session_id, None)

    def close_number(self, number: int) -> Session | None:
        _write(self)
        ended = next((id_ for id_, s in self.kept.items() if s.number == number), "")
        return self.kept.pop(ended, None)

    def close_all(self, subject: str) -> int:
        ended = [id_ for id_, s in self.kept.items() if s.identity.subject == subject]
        return len([self.kept.pop(id_) for id_ in ended])

    def live(self, now: datetime) -> Sequence[Session]:
        self._answer()
        return [s for s in self.kept.values() if not s.is_over(now)]

    def sweep(self, now: datetime) -> int:
        return 0

    def _answer(self) -> None:
        self.asked += 1
        if self.broken:
            raise StoreError("the database is locked")


class FakeAccounts:
    """`Accounts` in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, Account] = {}

    def add(self, name: str, grants: Sequence[Grant], password: str, now: datetime) -> Account:
        self.kept[name.casefold()] = made = Account(name, tuple(grants), password, False, now, now)
        return made

    def find(self, name: str) -> Account | None:
        return self.kept.get(name.casefold())

    def every(self) -> Sequence[Account]:
        return [*self.kept.values()]

    def grant(self, name: str, grants: Sequence[Grant]) -> Account:
        return self._change(name, grants=tuple(grants))

    def set_password(self, name: str, password: str, now: datetime) -> Account:
        return self._change(name, password=password, changed_at=now)

    def set_disabled(self, name: str, disabled: bool) -> Account:
        return self._change(name, disabled=disabled)

    def _change(self, name: str, **changes: object) -> Account:
        if name.casefold() not in self.kept:
            raise UnknownAccount(name)
        found = self.kept[name.casefold()] = replace(self.kept[name.casefold()], **changes)  # type: ignore[arg-type]
        return found


class FakeTokens:
    """`ApiTokens` in a dictionary; the secret of the first is `lbt_1`. read_only: the database takes none."""

    def __init__(self) -> None:
        self.kept: dict[str, ApiToken] = {}
        self.read_only = False

    def add(
        self, name: str, owner: str, grants: Sequence[Grant], now: datetime, expires_at: datetime
    ) -> tuple[str, ApiToken]:
        _write(self)
        number = len(self.kept) + 1
        made = ApiToken(number, name, owner, tuple(grants), now, expires_at, None, None)
        self.kept[f"lbt_{number}"] = made
        return f"lbt_{number}", made

    def find(self, secret: str, now: datetime) -> ApiToken | None:
        found = self.kept.get(secret)
        return None if found is None or found.is_over(now) else found

    def every(self) -> Sequence[ApiToken]:
        return [*reversed(self.kept.values())]

    def revoke(self, number: int, now: datetime) -> ApiToken | None:
        _write(self)
        secret = f"lbt_{number}"
        found = self.kept.get(secret)
        if found is not None:
            self.kept[secret] = replace(found, revoked_at=now)
        return found


def _write(store: FakeSessions | FakeTokens) -> None:
    if store.read_only:
        raise StoreError("attempt to write a readonly database")


class FakeAttempts:
    """`Attempts` in a list."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, datetime]] = []

    def count(self, name: str, since: datetime) -> int:
        return sum(kept == name and at >= since for kept, at in self.kept)

    def note(self, name: str, now: datetime) -> None:
        self.kept.append((name, now))

    def forget(self, name: str) -> None:
        self.kept = [one for one in self.kept if one[0] != name]

    def sweep(self, before: datetime) -> int:
        return 0


@dataclass
class StrictActions(FakeActions):
    """`FakeActions` that asks the rights of who acts, and has requests for a second person."""

    waiting: list[Approval] = field(default_factory=list)
    decided: list[tuple[str, int, str]] = field(default_factory=list)

    def prepare(self, actor: Actor, state_id: str, wanted: Wanted) -> Prepared:
        situation = self._situation(state_id)
        why = forbidden(actor.rights, plan_for(wanted, situation), situation)
        if why:
            raise NotPermitted(why)
        return super().prepare(actor, state_id, wanted)

    def requests(self, actor: Actor) -> Sequence[Approval]:
        return [found for found in self.waiting if self._concerns(actor, found)]

    def asked(self, actor: Actor, number: int) -> Approval:
        found = next((a for a in self.waiting if a.number == number and self._concerns(actor, a)), None)
        if found is None:
            raise UnknownState("There is no such request, or it is not for you.")
        return found

    def review(self, actor: Actor, number: int) -> Review:
        found = self.asked(actor, number)
        plan = plan_for(Wanted(Action.FORCE_UNLOCK), self._situation(found.state_id))
        row = self.board.state(found.state_id)
        assert row is not None
        return Review(found, Prepared(row, plan, ""), moved=isinstance(plan, Refused))

    def approve(self, actor: Actor, number: int) -> Answer:
        found = self.asked(actor, number)
        self.decided.append(("approve", number, actor.person.name))
        return Answer(Result.REFUSED, "It was decided already.", found.action_id)

    def decline(self, actor: Actor, number: int) -> bool:
        self.asked(actor, number)
        self.decided.append(("decline", number, actor.person.name))
        return True

    def _concerns(self, actor: Actor, asked: Approval) -> bool:
        mine = whose(actor.person) == f"{asked.requester[1]}|{asked.requester[3]}"
        return mine or may_approve(actor.rights, asked.backend, asked.key)


class Nobody:
    """Nobody is signed in."""

    mode = "local"

    def visitor(self, now: datetime) -> None:
        return None


@dataclass
class House:
    """The application over fakes, with everything in it that a gate could guard."""

    app: Flask
    board: FakeBoard
    clock: Ticking
    audit: FakeAudit
    actions: StrictActions
    recheck: Recheck
    sessions: FakeSessions
    accounts: FakeAccounts
    tokens: FakeTokens
    keeper: Doorkeeper

    @property
    def changes(self) -> tuple[object, ...]:
        """Grows or changes with whatever a request may change."""
        return (
            len(self.audit.records),
            len(self.actions.sent),
            tuple(self.actions.decided),
            len(self.actions.prepared),
            tuple(self.recheck.asked),
            tuple(self.sessions.kept.items()),
            tuple(self.tokens.kept.items()),
        )


def always(rights: Rights | None, name: str = "kim") -> Entrance:
    """Everybody who comes has these rights; None for nobody."""
    return Nobody() if rights is None else Always(name, "local", rights)


def request_for(row_id: str, backend: str, key: str, now: datetime) -> Approval:
    """That `min` made."""
    return Approval(
        number=1,
        action_id="00000000-0000-4000-8000-000000000099",
        state_id=row_id,
        backend=backend,
        key=key,
        requester=("min", "local", "192.0.2.7", "local|min"),
        wanted={"wanted": [Action.FORCE_UNLOCK.value, "", ""], "undoes": None},
        fingerprint="f" * 64,
        form={"reason": "runner was killed", "ticket": "", "confirm": "", "serial": ""},
        requested_at=now,
        expires_at=now + timedelta(minutes=30),
        state=Waiting.WAITING,
    )


def house(
    entrance: Entrance,
    *,
    audit: Audit | None = None,
    limited: bool = False,
    parts: Mapping[str, object] | None = None,
) -> House:
    """parts: of the `Doorkeeper`, in place of those made here."""
    board = FakeBoard(estate(), [report(name) for name in BACKENDS])
    clock, recheck = Ticking(), Recheck(board)
    log = week(clock)
    sessions, accounts, tokens, attempts = FakeSessions(), FakeAccounts(), FakeTokens(), FakeAttempts()
    actions = StrictActions(board, BACKENDS, log, clock)
    for story in STORIES:
        actions.look(story.seen())
    made: dict[str, object] = {"sessions": sessions, "accounts": accounts, "attempts": attempts}
    keeper = Doorkeeper(entrance, SECRET, clock, noting(log), **{**made, **(parts or {})})  # type: ignore[arg-type]
    services = Services(
        board,
        BACKENDS,
        recheck,
        SETTINGS,
        clock,
        timedelta(seconds=15),
        "0.1.0",
        keeper,
        audit=audit or log,
        actions=actions.as_actions(),
        tokens=tokens,
        second_person=True,
        limited=limited,
    )
    app = build_app(services, monotonic=clock.monotonic)
    return House(app, board, clock, log, actions, recheck, sessions, accounts, tokens, keeper)
