"""What is kept of people who sign in: sessions, local accounts, API tokens, failed attempts, and requests
that wait for a second person. Ports; the store keeps them.

Whatever opens a door (a session's ID, a token) is kept as its SHA-256 alone, so that a stolen database opens
none. Every method raises StoreError where the database does not answer. Times carry a zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from lockboard.domain.access import Grant, Identity, Rights

SESSION_IDLE = timedelta(minutes=30)
"""A session ends when nothing was asked in it for so long."""
SESSION_LIFE = timedelta(hours=8)
"""A session ends so long after its sign-in, whatever was asked in it."""
FRESH = timedelta(minutes=5)
"""An action needs a sign-in at most so old."""
TOKEN_LIFE = timedelta(days=90)
"""The longest life of an API token."""


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that signed in. number: names it in lists, opens nothing.  csrf: what its forms carry.
    seen_at: when it was last used, to the minute.
    """

    number: int
    identity: Identity
    csrf: str
    address: str
    opened_at: datetime
    seen_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Whether it was idle or is old; also where the clock went backwards by more than a minute."""
        if now < self.opened_at - timedelta(minutes=1):
            return True
        return now - self.seen_at > SESSION_IDLE or now - self.opened_at > SESSION_LIFE


class Sessions(Protocol):
    """The sessions of every process that shares the database."""

    def open(self, identity: Identity, address: str, now: datetime) -> tuple[str, Session]:
        """A new session with a new ID of 256 random bits, which is given out here and never again."""

    def find(self, session_id: str, now: datetime) -> Session | None:
        """None where there is none, or it is over. Notes that it was used, once a minute at most."""

    def close(self, session_id: str) -> None:
        """End it; nothing happens where there is none."""

    def close_number(self, number: int) -> Session | None:
        """End the one of this number, and give it; None where there is none."""

    def close_all(self, subject: str) -> int:
        """End every session of somebody. Returns how many."""

    def live(self, now: datetime) -> Sequence[Session]:
        """Those that are not over, last used first, at most 500."""

    def sweep(self, now: datetime) -> int:
        """Drop what is over. Returns how many."""


@dataclass(frozen=True, slots=True)
class Account:
    """A local account.

    password: the hash as Werkzeug writes it, "" for none.  changed_at: of the password.
    """

    name: str
    grants: tuple[Grant, ...]
    password: str
    disabled: bool
    created_at: datetime
    changed_at: datetime

    @property
    def subject(self) -> str:
        return f"local|{self.name}"


class UnknownAccount(LookupError):
    """There is no account of this name."""


class AccountExists(ValueError):
    """There is an account of this name, perhaps in other letter case."""


class Accounts(Protocol):
    """Local accounts. Names are compared without regard to case, and keep the one they were made with."""

    def add(self, name: str, grants: Sequence[Grant], password: str, now: datetime) -> Account:
        """Raises AccountExists."""

    def find(self, name: str) -> Account | None: ...

    def every(self) -> Sequence[Account]:
        """By name."""

    def grant(self, name: str, grants: Sequence[Grant]) -> Account:
        """Replace what it may do. Raises UnknownAccount."""

    def set_password(self, name: str, password: str, now: datetime) -> Account:
        """Raises UnknownAccount."""

    def set_disabled(self, name: str, disabled: bool) -> Account:
        """Raises UnknownAccount."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A program's key. number: names it in lists and in the log.  owner: who made it.  grants: what it may
    do, which is never more than its owner could give.  used_at: to the minute, None before the first use.
    """

    number: int
    name: str
    owner: str
    grants: tuple[Grant, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None

    @property
    def rights(self) -> Rights:
        return Rights(self.grants)

    def is_over(self, now: datetime) -> bool:
        return self.revoked_at is not None or now >= self.expires_at


class ApiTokens(Protocol):
    """API tokens."""

    def add(
        self, name: str, owner: str, grants: Sequence[Grant], now: datetime, expires_at: datetime
    ) -> tuple[str, ApiToken]:
        """A new one and its secret (`lbt_` and 256 random bits), which is given out here and never again."""

    def find(self, secret: str, now: datetime) -> ApiToken | None:
        """None where there is none or it is over. Notes that it was used, once a minute at most."""

    def every(self) -> Sequence[ApiToken]:
        """Newest first."""

    def revoke(self, number: int, now: datetime) -> ApiToken | None:
        """None where there is none; the first revocation's time stays."""


class Attempts(Protocol):
    """What is counted so that it can be limited, for every process that shares the database."""

    def count(self, name: str, since: datetime) -> int:
        """How many of this name were noted at or after a moment."""

    def note(self, name: str, now: datetime) -> None: ...

    def forget(self, name: str) -> None: ...

    def sweep(self, before: datetime) -> int:
        """Drop what is older. Returns how many."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was counted in the window at hand, and when that window ends."""

    count: int
    ends_at: datetime


class RateCounters(Protocol):
    """How often something was asked for in a window of time, for every process that shares the database."""

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        """Count it, and give the new tally. A window begins with what is counted first and lasts so long;
        what comes after its end begins another one. Two callers are never given the same count of one window.

        name: any text.  lasts: the same for every call with this name.
        """

    def sweep(self, now: datetime) -> int:
        """Drop the windows that have ended. Returns how many."""


class Waiting(StrEnum):
    """What became of a request for a second person."""

    WAITING = "waiting"
    APPROVED = "approved"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """An action that waits for a second person.

    number: names it.  action_id: of the attempt, the same in the log.  requester: (name, method, address,
    subject).
    wanted: what is to be done, as JSON values.  fingerprint: of the plan that the requester confirmed.
    form: reason and ticket and what was typed.  state: of Waiting.  decided_by: the name of who decided, ""
    before.
    """

    number: int
    action_id: str
    state_id: str
    backend: str
    key: str
    requester: tuple[str, str, str, str]
    wanted: Mapping[str, Any]
    fingerprint: str
    form: Mapping[str, str]
    requested_at: datetime
    expires_at: datetime
    state: Waiting = Waiting.WAITING
    decided_by: str = ""
    decided_at: datetime | None = None


class Approvals(Protocol):
    """Requests for a second person."""

    def add(self, approval: Approval) -> Approval:
        """With its number; `approval.number` is passed over."""

    def find(self, number: int) -> Approval | None: ...

    def waiting(self, now: datetime) -> Sequence[Approval]:
        """Those that wait and have not expired, oldest first, at most 200."""

    def overdue(self, now: datetime) -> Sequence[Approval]:
        """Those that wait although they have expired."""

    def recent(self, limit: int = 50) -> Sequence[Approval]:
        """Newest first, whatever became of them."""

    def decide(self, number: int, state: Waiting, by: str, now: datetime) -> bool:
        """Turn WAITING into another state, once: False where it no longer waits, so that of two only one
        decides.
        """
