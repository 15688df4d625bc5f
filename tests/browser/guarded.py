"""A dashboard with its real sign-in: sessions, accounts, tokens and requests in SQLite, the real actions over
an estate in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path

from playwright.sync_api import BrowserContext

from lockboard.adapters.store import (
    SqlAccounts,
    SqlApiTokens,
    SqlApprovals,
    SqlAttempts,
    SqlBoard,
    SqlInventory,
    SqlSessions,
    migrate,
    open_engine,
)
from lockboard.domain.access import Grant, Identity, Rights, Role
from lockboard.domain.inventory import StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.model import Policy
from lockboard.services.actions import Actions
from lockboard.services.refresh import Refresher
from lockboard.web.app import Services, build_app
from lockboard.web.entrances import DEMO_COOKIE, PLAIN, SessionEntrance, noting
from lockboard.web.passwords import hash_password
from lockboard.web.signin import Doorkeeper, demo_door
from tests.browser.estate import NOW
from tests.browser.server import SETTINGS, Served
from tests.services.action_fakes import World
from tests.services.fakes import Estate, FakeClock
from tests.web.entrances import SECRET

PASSWORD = "nine rails and a gate"
HASHED = hash_password(PASSWORD, "scrypt:1024:8:1")  # quick to compare with: hundreds sign in here
KEY = "network/vpc/terraform.tfstate"
"""Locked three hours ago by a run that has written nothing since."""
FINE = "network/dns/terraform.tfstate"
OPERATOR = Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True)
ROLES = {
    "vic": (Grant(Role.VIEWER),),
    "min": (OPERATOR,),
    "lee": (OPERATOR,),
    "aud": (Grant(Role.AUDITOR),),
    "ada": (Grant(Role.ADMINISTRATOR),),
    "nil": (),
}
"""Accounts by name, all with the same password."""


class Guarded(Served):
    """Everybody of `ROLES` may come. protected: every key is, and a second person is asked for.  demo: nobody
    signs in.

    The clock is the one of the estate: it stands at NOW until a test moves it.
    """

    def __init__(self, folder: Path, *, protected: bool = False, demo: bool = False) -> None:
        engine = open_engine(f"sqlite:///{folder / 'board.db'}")
        migrate(engine)
        self.world = _world(protected=protected)
        estate = self.world.estate
        self.clock = estate.clock
        inventory, board = SqlInventory(engine), SqlBoard(engine)
        self._refresher = Refresher(
            estate.backend, estate.bucket, estate.table, inventory, self.clock, self.clock.monotonic
        )
        self._refresher.refresh()
        self.clock.now = NOW
        self._refresher.refresh()
        self.accounts, self.sessions = SqlAccounts(engine), SqlSessions(engine)
        self.tokens, self.approvals = SqlApiTokens(engine), SqlApprovals(engine)
        for name, grants in ROLES.items():
            self.accounts.add(name, grants, HASHED, NOW)
        actions = Actions(
            board,
            self.world.places,
            self.world.audit,
            self.world.open,
            secret=SECRET,
            clock=self.clock,
            monotonic=self.clock.monotonic,
            sleep=self.clock.pass_,
            new_id=lambda: str(uuid.uuid4()),
            version="0.1.0",
            approvals=self.approvals if protected else None,
        )
        seconds = count()
        door = demo_door(SECRET, self.clock) if demo else self._door(SqlAttempts(engine))
        services = Services(
            board,
            {estate.name: estate.backend},
            _stored(board),
            SETTINGS,
            self.clock,
            timedelta(seconds=15),
            "0.1.0",
            door,
            audit=self.world.audit,
            actions=actions,
            tokens=self.tokens,
            second_person=protected,
            limited=False,
        )
        super().__init__(build_app(services, monotonic=lambda: float(next(seconds))))

    def _door(self, attempts: SqlAttempts) -> Doorkeeper:
        entrance = SessionEntrance("local", self.sessions, self._rights_of, PLAIN)
        return Doorkeeper(
            entrance,
            SECRET,
            self.clock,
            noting(self.world.audit),
            sessions=self.sessions,
            accounts=self.accounts,
            attempts=attempts,
        )

    def _rights_of(self, identity: Identity) -> Rights | None:
        found = self.accounts.find(identity.subject.removeprefix("local|"))
        return None if found is None or found.disabled else Rights(found.grants)

    def let_in(self, context: BrowserContext, account: str, name: str = "") -> None:
        """A session as after a sign-in now. name: what the person is called, where not as the account."""
        who = Identity(f"local|{account}", name or account, "local", frozenset(), self.clock())
        session_id, _ = self.sessions.open(who, "192.0.2.7", self.clock())
        context.add_cookies([{"name": PLAIN.name, "value": session_id, "url": self.url}])

    def play(self, context: BrowserContext, role: str) -> None:
        """Look at the demo in a role."""
        context.add_cookies([{"name": DEMO_COOKIE, "value": role, "url": self.url}])

    def pass_(self, time: timedelta) -> None:
        """Time goes on; a refresh finds all as it was."""
        self.clock.pass_(time.total_seconds())
        self._refresher.refresh()

    def state(self, key: str = KEY) -> str:
        """The page of a state."""
        return f"/s/{state_id(self.world.estate.name, key)}"

    def events(self) -> Sequence[str]:
        """What the log holds, oldest first."""
        return [record.entry.action for record in self.world.audit.records]

    def is_locked(self, key: str = KEY) -> bool:
        """Whether a lock is in the table."""
        return f"{self.world.estate.backend.bucket}/{key}" in self.world.estate.table.items


def _world(*, protected: bool) -> World:
    world = World(Estate(clock=FakeClock(NOW - timedelta(hours=3)), policy=Policy(protected=protected)))
    world.estate.apply(KEY)
    world.estate.apply(FINE)
    world.estate.lock(KEY)
    return world


def _stored(board: SqlBoard) -> Callable[[str, str], StateRow]:
    def recheck(backend: str, state_id: str) -> StateRow:
        row = board.state(state_id)
        assert row is not None
        return row

    return recheck
