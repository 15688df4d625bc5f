"""How requests become visitors: by a session, by what a proxy says, or, in a demo, by the role that was
chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from flask import Flask, Response, g, request
from flask.globals import request_ctx

from lockboard.domain.access import NO_RIGHTS, Actor, Grant, Identity, Rights, Role
from lockboard.domain.audit import Audit, Entry, Kind, Person
from lockboard.domain.ports import Clock
from lockboard.domain.signin import SESSION_LIFE, ApiTokens, Session, Sessions
from lockboard.web.access import Visitor, keyed, newcomer, visitor
from lockboard.web.doors import HeaderDoor, SignInRefused

RightsOf = Callable[[Identity], Rights | None]
"""What somebody may do now; None where they may not even be here any more."""

COOKIE_KEPT = timedelta(days=400)
"""As long as browsers keep any."""

DEMO_COOKIE = "lockboard_demo"
DEMO_ROLES = (Role.VIEWER, Role.OPERATOR, Role.AUDITOR)
_AUTHORITY = {
    Role.VIEWER: Rights((Grant(Role.VIEWER),)),
    Role.OPERATOR: Rights((Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True),)),
    Role.AUDITOR: Rights((Grant(Role.AUDITOR),)),
}


def address() -> str:
    """Of the browser; "" where the server was asked through a socket without one."""
    return request.remote_addr or ""


def person_of(identity: Identity) -> Person:
    """As the audit log knows them."""
    return Person(identity.name, identity.method, address(), identity.subject)


class DemoEntrance:
    """Everybody who reaches a demo is its operator until they choose another role; on loopback only."""

    mode = "demo"

    def __init__(self, secret: str) -> None:
        self._csrf = keyed(secret, "csrf", "demo")

    def visitor(self, now: datetime) -> Visitor | None:
        return self._visitor(self.role(), address())

    @lru_cache(maxsize=256)  # noqa: B019  there is one of these in a process
    def _visitor(self, role: Role, address: str) -> Visitor:
        return Visitor(Actor(Person(f"demo-{role}", self.mode, address), _AUTHORITY[role]), self._csrf)

    def role(self) -> Role:
        """The one chosen; the operator before anything was."""
        asked = request_ctx.request  # once: the proxy looks it up for every attribute
        if "HTTP_COOKIE" not in asked.environ:
            return Role.OPERATOR
        chosen = asked.cookies.get(DEMO_COOKIE, "")
        return next((role for role in DEMO_ROLES if role == chosen), Role.OPERATOR)


@dataclass(frozen=True)
class Cookie:
    """The cookie that holds a session's ID. Over https its name ties it to this very host."""

    secure: bool

    @property
    def name(self) -> str:
        return "__Host-lockboard" if self.secure else "lockboard_session"

    def read(self) -> str:
        return request.cookies.get(self.name, "") if "HTTP_COOKIE" in request.environ else ""

    def give(self, answer: Response, value: str, lasts: timedelta = SESSION_LIFE) -> None:
        answer.set_cookie(
            self.name,
            value,
            max_age=int(lasts.total_seconds()),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="Lax",  # Strict would lose it on alert links, and on the way back from a provider
        )

    def drop(self, answer: Response) -> None:
        answer.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="Lax")


PLAIN = Cookie(secure=False)
"""For http, which is for loopback."""


class SessionEntrance:
    """A session in the database, opened by a sign-in page (`local`, `oidc`)."""

    def __init__(self, mode: str, sessions: Sessions, rights_of: RightsOf, cookie: Cookie) -> None:
        self.mode, self._sessions, self._rights_of, self.cookie = mode, sessions, rights_of, cookie

    def visitor(self, now: datetime) -> Visitor | None:
        session_id = self.cookie.read()
        session = self._sessions.find(session_id, now) if session_id else None
        if session is None or session.identity.method != self.mode:
            return None
        rights = self._rights_of(session.identity)
        return None if rights is None else visitor_of(session, session_id, session.identity, rights)


def visitor_of(session: Session, session_id: str, identity: Identity, rights: Rights) -> Visitor:
    """Somebody with a session. identity: as it is now, which may know more than at the sign-in."""
    actor = Actor(person_of(identity), rights, session.identity.signed_in_at)
    return Visitor(actor, session.csrf, session_id)


class HeaderEntrance:
    """What is in front of us says who sends each request (`alb`, `proxy`); a session adds an end and a form
    token.

    A browser without a session gets one with the first page that it opens; a program that reads the API keeps
    no cookie, so it needs none and would be signed in with every request. A browser whose session is over has
    to be signed in anew in front of us: that only the browser can ask for, so it is told to. By its cookie it
    is known to have had one, so the cookie stays longer than any session.
    """

    def __init__(
        self,
        door: HeaderDoor,
        sessions: Sessions,
        rights_of: RightsOf,
        cookie: Cookie,
        note: Callable[[str, Person, str], None],
    ) -> None:
        self.mode, self._door, self._sessions = door.method, door, sessions
        self._rights_of, self.cookie, self._note = rights_of, cookie, note

    def visitor(self, now: datetime) -> Visitor | None:
        try:
            identity = self._door.identity(request.environ, now)
        except SignInRefused as error:
            g.lockboard_refused = str(error)
            return None
        rights = self._rights_of(identity) or NO_RIGHTS
        session_id = self.cookie.read()
        session = self._sessions.find(session_id, now) if session_id else None
        if session is None and session_id:
            return None
        if session is not None and _whose(session.identity) == _whose(identity):
            return visitor_of(session, session_id, identity, rights)
        actor = Actor(person_of(identity), rights, identity.signed_in_at)
        return Visitor(actor, newcomer=None if request.path.startswith("/api/") else identity)

    def set_up(self, app: Flask, clock: Clock) -> None:
        """Open the sessions of newcomers, and give their cookies: to be registered when limits are, so that a
        flood opens none, and before the gate.
        """

        @app.before_request
        def open_session() -> None:
            identity = newcomer()
            if identity is not None:
                rights = visitor().actor.rights
                self._note("sign_in", person_of(identity), f"Signed in by {self.mode}.")
                if other := self.cookie.read():
                    self._sessions.close(other)  # somebody else's
                session_id, session = self._sessions.open(identity, address(), clock())
                g.lockboard_new_session = session_id
                g.lockboard_visitor = visitor_of(session, session_id, identity, rights)

        @app.after_request
        def give(answer: Response) -> Response:
            if "lockboard_new_session" in g:
                self.cookie.give(answer, g.lockboard_new_session, COOKIE_KEPT)
            return answer


def _whose(identity: Identity) -> tuple[str, str]:
    return identity.method, identity.subject


def bearer_of(tokens: ApiTokens | None) -> Callable[[str, datetime], Visitor | None]:
    """The visitor of an API token; nobody where there are no tokens."""

    def bearer(secret: str, now: datetime) -> Visitor | None:
        found = tokens.find(secret, now) if tokens and secret else None
        if found is None:
            return None
        person = Person(found.name, "token", address(), f"token|{found.number}|{found.owner}")
        return Visitor(Actor(person, found.rights))

    return bearer


def noting(audit: Audit | None) -> Callable[[str, Person, str], None]:
    """Records an event about somebody: its action, who, one sentence. Raises AuditError."""

    def note(action: str, person: Person, message: str) -> None:
        if audit is not None:
            audit.append(Entry(Kind.EVENT, action, person, message=message))

    return note
