"""The gate: who sends a request, and whether they may. What is not listed here is denied.

Every endpoint has one line in `NEEDS`; one without a line is refused, so that a new page is closed until
somebody has said who may see it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from flask import Flask, Request, Response, abort, g, request
from flask.globals import request_ctx

from lockboard import logs
from lockboard.domain.access import Actor, Identity, Permission
from lockboard.domain.ports import Clock
from lockboard.domain.signin import FRESH
from lockboard.services.tickets import VIEW_LASTS
from lockboard.web.security import is_from_own_page

CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
LONGEST_NEXT = 2048
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent the request at hand. csrf: what a form of theirs carries, "" for a program with a token.
    session: the ID of a session, "" where there is none.  newcomer: whom a session is to be opened for.
    """

    actor: Actor
    csrf: str = ""
    session: str = ""
    newcomer: Identity | None = None

    @property
    def key(self) -> str:
        """Whom limits count."""
        return f"{self.actor.person.method}|{self.actor.person.subject or self.actor.person.name}"


class Entrance(Protocol):
    """How requests become visitors, in one mode of sign-in."""

    mode: str

    def visitor(self, now: datetime) -> Visitor | None:
        """Of the request at hand; None where nobody is signed in. It may still be refused, or be one of a
        flood, so nothing is opened or recorded for it here. Raises StoreError.
        """


class Open(Enum):
    """Endpoints that ask for nothing: `EVERYBODY`, and `UNASKED` where it does not even matter who comes, so
    that files and probes need no database; or for a sign-in alone: `SIGNED_IN`.
    """

    UNASKED = "unasked"
    EVERYBODY = "everybody"
    SIGNED_IN = "signed in"


class Need(NamedTuple):
    """What an endpoint asks for. csrf: of its changing methods.  fresh: a recent sign-in; on a page with a
    form as much more recent as its form may be old.
    """

    permission: Permission | Open
    csrf: bool = True
    fresh: bool = False


_FILE, _ANYBODY, _SOMEBODY = Need(Open.UNASKED), Need(Open.EVERYBODY), Need(Open.SIGNED_IN)
_VIEW, _AUDIT = Need(Permission.VIEW), Need(Permission.AUDIT)
_ACT = Need(Permission.ACT, fresh=True)
_DECIDE = Need(Open.SIGNED_IN, fresh=True)  # the requester withdraws, an approver decides: the service knows
_ADMINISTER = Need(Permission.ADMINISTER, fresh=True)
_DEEDS = ("unlock", "digest", "clear", "restore", "takeover", "undo")

NEEDS: Mapping[str, Need] = {
    "static": _FILE,
    "favicon": _FILE,
    "healthz": _FILE,
    "readyz": _FILE,
    "signin.ask": _ANYBODY,
    "signin.enter": Need(
        Open.EVERYBODY, csrf=False
    ),  # its form has a token of its own: there is no session yet
    "signin.callback": _ANYBODY,
    "signin.leave": _SOMEBODY,
    "signin.account": _SOMEBODY,
    "signin.switch": _SOMEBODY,
    "board.home": _SOMEBODY,
    "board.states": _VIEW,
    "board.pulse": _VIEW,
    "board.states_csv": _VIEW,
    "board.states_json": _VIEW,
    "detail.state": _VIEW,
    "detail.recheck": _VIEW,
    "lookup.find": Need(Permission.VIEW, csrf=False),  # a search: its text is too long for an address
    "lookup.go": _VIEW,
    "pages.health": _VIEW,
    "pages.show_settings": _SOMEBODY,
    "pages.prefs": _SOMEBODY,
    "pages.help_page": _SOMEBODY,
    "audit.log": _AUDIT,
    "audit.record": _AUDIT,
    "audit.as_csv": _AUDIT,
    "audit.as_jsonl": _AUDIT,
    "audit.verify": _AUDIT,
    **{f"recovery.{name}": _ACT for name in _DEEDS},
    **{f"recovery.do_{name}": _ACT for name in _DEEDS},
    "approvals.log": _SOMEBODY,
    "approvals.ask": _SOMEBODY,
    "approvals.approve": _DECIDE,
    "approvals.decline": _DECIDE,
    "people.show": _ADMINISTER,
    "people.end_session": _ADMINISTER,
    "people.add_token": _ADMINISTER,
    "people.revoke_token": _ADMINISTER,
    "api.states": _VIEW,
    "api.state": _VIEW,
    "api.audit": _AUDIT,
    "api.openapi": _SOMEBODY,
    "api.plan": _ACT,
    "api.act": _ACT,
}


def visitor() -> Visitor:
    """Who sent the request at hand, once the gate let it through."""
    found: Visitor = g.lockboard_visitor
    return found


def known_visitor() -> Visitor | None:
    """The same where it may be nobody: on an error's page."""
    found: Visitor | None = g.get("lockboard_visitor")
    return found


def newcomer() -> Identity | None:
    """Whom the request at hand opens a session for: only a page does that asks who comes."""
    found, need = known_visitor(), NEEDS.get(request.endpoint or "")
    if found is None or need is None or need.permission in (Open.UNASKED, Open.EVERYBODY):
        return None
    return found.newcomer if request.method in ("GET", "HEAD") else None


def acts(action_id: str) -> None:
    """From here on the request at hand may change something in AWS; what it logs belongs to this action."""
    g.lockboard_acts = True
    logs.bind_action(action_id or None)


def began_to_act() -> bool:
    """Whether an accident of the request at hand may have come after a change."""
    return g.get("lockboard_acts") is True


def may(permission: Permission, backend: str, key: str) -> bool:
    """Whether the visitor may do it to this key."""
    return visitor().actor.rights.may(permission, backend, key)


class Refuser(Protocol):
    """Makes the answers that the gate gives instead of a page."""

    def sign_in(self, return_to: str) -> Response:
        """Nobody is signed in."""

    def sign_in_again(self, return_to: str) -> Response:
        """The sign-in is too old for what was asked."""


def recognise(
    app: Flask, entrance: Entrance, bearer: Callable[[str, datetime], Visitor | None], clock: Clock
) -> None:
    """Find out whose each request is, so that limits count it for them whether the gate lets it in or not.
    `bearer`: the visitor of an API token, None for a bad one. What would change something and is neither a
    program's nor of one of our pages is nobody's: no other site uses up what its visitors may do here.
    """

    @app.before_request
    def look() -> None:
        asked = request_ctx.request  # once: the proxy looks it up for every attribute
        need = NEEDS.get(asked.endpoint or "")
        if need is None and asked.endpoint is not None:
            abort(403)
        if need is None or need.permission is not Open.UNASKED:
            token, now = _bearer(asked), clock()
            if token is not None:
                g.lockboard_visitor = bearer(token, now)
            elif asked.method in _CHANGING and not is_from_own_page(asked):
                g.lockboard_visitor = None
            else:
                g.lockboard_visitor = entrance.visitor(now)


def stand_guard(app: Flask, refuser: Refuser, clock: Clock) -> None:
    """Let each request of somebody who was recognised in, or answer it here."""

    @app.before_request
    def gate() -> Response | None:
        asked = request_ctx.request
        need = NEEDS.get(asked.endpoint or "")
        if need is None or need.permission in (Open.UNASKED, Open.EVERYBODY):
            return None  # also where there is no such page, which is said to everybody alike
        found = known_visitor()
        if found is None:
            return refuser.sign_in(here())
        if need.permission is not Open.SIGNED_IN:
            assert isinstance(need.permission, Permission)
            if not found.actor.rights.somewhere(need.permission):
                abort(403, f"You are signed in, but have no permission to {_WORDS[need.permission]}.")
        changing = asked.method in _CHANGING
        if changing and need.csrf and _bearer(asked) is None and not _csrf_is_right(found):
            abort(403, "This form is of another sign-in, or it was made up. Open its page again.")
        if need.fresh and not found.actor.is_fresh(clock(), FRESH if changing else FRESH - VIEW_LASTS):
            return refuser.sign_in_again(here())
        return None


_WORDS = {
    Permission.VIEW: "see any state",
    Permission.ACT: "act on a state",
    Permission.UNLOCK_UNSUSPECTED: "release locks that are not suspected stale",
    Permission.ACT_PROTECTED: "act on protected keys",
    Permission.APPROVE: "approve what others ask for",
    Permission.AUDIT: "read the audit log",
    Permission.ADMINISTER: "see who may do what here",
}


def _bearer(asked: Request) -> str | None:
    """The token of a program, "" for anything else that claims to be one; only the API takes one, so that no
    page can be driven with it.
    """
    if not asked.path.startswith("/api/") or "HTTP_AUTHORIZATION" not in asked.environ:
        return None
    scheme, _, value = asked.environ["HTTP_AUTHORIZATION"].partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _csrf_is_right(found: Visitor) -> bool:
    sent = request.form.get(CSRF_FIELD) or request.headers.get(CSRF_HEADER, "")
    return bool(found.csrf) and hmac.compare_digest(sent.encode("utf-8", "replace"), found.csrf.encode())


_PAGES = {
    "approvals": "/approvals/{number}",
    "people": "/people",
    "audit": "/audit",
    "detail": "/s/{state_id}",
}
"""Where forms stand whose own address is no page, by blueprint."""


def here() -> str:
    """The page at hand, as a path of ours to come back to: of a form, the one that it stands on; of a part of
    a page, the whole.
    """
    if around := _page_around():
        return around
    if request.method not in _CHANGING or request.blueprint == "recovery":
        return request.full_path.rstrip("?")
    return _PAGES.get(request.blueprint or "", "/").format(**(request.view_args or {}))


def _page_around() -> str:
    """Where htmx says that a request for a part of a page comes from, "" where it does not."""
    try:
        found = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:
        return ""
    return f"{found.path}?{found.query}" if found.query else found.path


def safe_path(text: str) -> str:
    """`text` where it is a path on this server, else "/": nobody is sent to another site after signing in."""
    if not 0 < len(text) <= LONGEST_NEXT or not text.startswith("/") or text.startswith(("//", "/\\")):
        return "/"
    if any(ord(char) < 0x21 or ord(char) == 0x7F or char == "\\" for char in text):
        return "/"
    found: Any = urlsplit(text)
    return "/" if found.scheme or found.netloc else text


def sign_in_url(return_to: str, *, again: bool = False) -> str:
    """The page that signs people in and brings them back."""
    return f"/signin?next={quote(return_to, safe='')}{'&again=1' if again else ''}"


def keyed(secret: str, purpose: str, text: str) -> str:
    """43 characters that nobody without the secret can make."""
    mac = hmac.new(secret.encode(), f"{purpose}\0{text}".encode("utf-8", "replace"), hashlib.sha256)
    return base64.urlsafe_b64encode(mac.digest()).decode("ascii").rstrip("=")
