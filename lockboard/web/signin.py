"""Signing in and out, and the page that says who one is here."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, abort, current_app, g, request

from lockboard.domain.access import UNTOLD, Identity, Permission, Rights, Role
from lockboard.domain.audit import Person
from lockboard.domain.people import is_name, spoken_grant
from lockboard.domain.ports import Clock
from lockboard.domain.signin import FRESH, SESSION_IDLE, SESSION_LIFE, Accounts, Attempts, Sessions
from lockboard.domain.text import shown, spoken_span
from lockboard.web.access import (
    Entrance,
    Visitor,
    keyed,
    known_visitor,
    safe_path,
    sign_in_url,
    visitor,
)
from lockboard.web.desk import Desk, answer, frame, render, see_other, wants_fragment
from lockboard.web.doors import HeaderDoor, RedirectDoor, SignInRefused
from lockboard.web.entrances import (
    DEMO_COOKIE,
    DEMO_ROLES,
    PLAIN,
    Cookie,
    DemoEntrance,
    address,
    noting,
    person_of,
)
from lockboard.web.limits import network
from lockboard.web.passwords import password_is_right

FAILURES = 5
FAILED_WITHIN = timedelta(minutes=15)
"""So many failed sign-ins of one account from one address in so long: then none is tried for a while."""
_FORM_COOKIE = "lockboard_signin"
_WRONG = (
    "That did not work. Name or password are wrong, the account is disabled, or there were too many attempts."
)
_REFUSED = "The sign-in did not work. Nobody was signed in; try once more, or ask whoever runs Lockboard."
Note = Callable[[str, Person, str], None]


@dataclass(frozen=True)
class Doorkeeper:
    """What the sign-in pages need. Of `accounts` and the doors, the one that the mode has.

    home: the address that people type, "" where it is the one they came by.
    """

    entrance: Entrance
    secret: str
    clock: Clock
    note: Note
    sessions: Sessions | None = None
    cookie: Cookie = PLAIN
    accounts: Accounts | None = None
    attempts: Attempts | None = None
    redirect_door: RedirectDoor | None = None
    header_door: HeaderDoor | None = None
    home: str = ""

    @property
    def mode(self) -> str:
        return self.entrance.mode


class PageRefuser:
    """The gate's answers as pages: one that says what to do, with the way back in it."""

    def __init__(self, keeper: Doorkeeper) -> None:
        self._keeper = keeper

    def sign_in(self, return_to: str) -> Response:
        return _not_yet(self._keeper, return_to, again=False)

    def sign_in_again(self, return_to: str) -> Response:
        return _not_yet(self._keeper, return_to, again=True)


def blueprint(desk: Desk, keeper: Doorkeeper) -> Blueprint:
    """The routes of signing in, for every mode; those that a mode does not have say 404."""
    pages = Blueprint("signin", __name__)

    @pages.get("/signin")
    def ask() -> Response:
        return_to, again = safe_path(request.args.get("next", "/")), request.args.get("again") == "1"
        if keeper.mode == "demo":
            return see_other("/account")
        if keeper.redirect_door is not None:
            return _begin(keeper, keeper.redirect_door, return_to, again=again)
        if keeper.header_door is not None:
            return _anew_in_front(keeper, keeper.header_door, return_to)
        return _form(keeper, return_to, again=again)

    @pages.post("/signin")
    def enter() -> Response:
        if keeper.accounts is None:
            abort(404)
        return _enter(keeper, keeper.accounts)

    @pages.get("/signin/callback")
    def callback() -> Response:
        if keeper.redirect_door is None:
            abort(404)
        try:
            identity, return_to = keeper.redirect_door.finish(keeper.clock())
        except SignInRefused as error:
            return _refused(keeper, error)
        return _let_in(keeper, identity, safe_path(return_to))

    @pages.post("/signout")
    def leave() -> Response:
        return _leave(keeper)

    _about_oneself(pages, desk, keeper)
    return pages


def _about_oneself(pages: Blueprint, desk: Desk, keeper: Doorkeeper) -> None:
    @pages.get("/account")
    def account() -> Response:
        return answer(render("signin/account.html", **account_page(desk, keeper)))

    @pages.post("/demo/role")
    def switch() -> Response:
        role = request.form.get("role", "")
        if keeper.mode != "demo" or role not in DEMO_ROLES:
            abort(404)
        made = see_other("/account")
        made.set_cookie(DEMO_COOKIE, role, path="/", httponly=True, samesite="Strict")
        return made


# ---------------------------------------------------------------- local accounts


def _form(keeper: Doorkeeper, return_to: str, *, again: bool, wrong: str = "", code: int = 200) -> Response:
    """With a token that ties the form to this browser, so that no other site can sign somebody in."""
    seed = request.cookies.get(_FORM_COOKIE, "")
    if len(seed) < 22:
        seed = secrets.token_urlsafe(32)
    who = known_visitor()
    made = answer(
        render(
            "signin/signin.html",
            **frame("Sign in"),
            return_to=return_to,
            again=again,
            wrong=wrong,
            name=request.form.get("name", "") or (who.actor.person.name if who else ""),
            token=keyed(keeper.secret, "sign-in form", seed),
            fresh=spoken_span(FRESH),
        ),
        code,
    )
    made.set_cookie(
        _FORM_COOKIE, seed, max_age=3600, secure=keeper.cookie.secure, httponly=True, samesite="Lax"
    )
    return made


def _enter(keeper: Doorkeeper, accounts: Accounts) -> Response:
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    return_to, again = safe_path(request.form.get("next", "/")), request.form.get("again") == "1"
    seed = request.cookies.get(_FORM_COOKIE, "")
    token = keyed(keeper.secret, "sign-in form", seed)
    if not seed or not secrets.compare_digest(request.form.get("token", "").encode(), token.encode()):
        said = "The form was too old, or your browser keeps no cookies. Try again."
        return _form(keeper, return_to, again=again, wrong=said, code=403)
    identity = _checked(keeper, accounts, name, password)
    if identity is None:
        return _form(keeper, return_to, again=again, wrong=_WRONG, code=403)
    return _let_in(keeper, identity, return_to)


def _checked(keeper: Doorkeeper, accounts: Accounts, name: str, password: str) -> Identity | None:
    """None where it is not right, said alike and after the same work whatever was wrong with it."""
    now, attempts = keeper.clock(), keeper.attempts
    assert attempts is not None
    counted = f"{name.casefold()[:200]}|{network(address())}"
    attempt = _counted(attempts, counted, now)
    account = accounts.find(name) if 0 < len(name) <= 64 else None
    tried = account is not None and not account.disabled and attempt <= FAILURES
    right = password_is_right(account.password if account and tried else "", password)
    if account is not None and right:
        attempts.forget(counted)
        return Identity(account.subject, account.name, "local", frozenset(), now)
    if attempt <= FAILURES:
        wait = f"until the first of these {FAILURES} is {spoken_span(FAILED_WITHIN)} old"
        last = "" if attempt < FAILURES else f" No further attempt is tried {wait}."
        # What no account can be called may be a password that was typed into the wrong field.
        person = Person(name if is_name(name) else "", "local", address())
        keeper.note("sign_in_refused", person, f"A sign-in with this name failed.{last}")
    return None


def _counted(attempts: Attempts, name: str, now: datetime) -> int:
    """The how many-th attempt this is. It counts before it is tried, so that many at once are not all tried;
    what is not tried counts for nothing, so that the wait ends.
    """
    since = now - FAILED_WITHIN
    if attempts.count(name, since) >= FAILURES:
        return FAILURES + 1
    attempts.note(name, now)
    return attempts.count(name, since)


# ---------------------------------------------------------------- in and out


def _begin(keeper: Doorkeeper, door: RedirectDoor, return_to: str, *, again: bool) -> Response:
    try:
        return door.begin(return_to, again=again)
    except SignInRefused as error:
        return _refused(keeper, error, 503)


def _anew_in_front(keeper: Doorkeeper, door: HeaderDoor, return_to: str) -> Response:
    """Whoever stands in front has to ask again; the session of before ends here."""
    if keeper.sessions is not None:
        keeper.sessions.close(keeper.cookie.read())
    made = door.sign_out(f"{keeper.home}{return_to}")
    keeper.cookie.drop(made)
    return made


def _refused(keeper: Doorkeeper, error: SignInRefused, code: int = 403) -> Response:
    current_app.logger.warning("a sign-in was refused: %s", error)
    keeper.note("sign_in_refused", Person("", keeper.mode, address()), shown(str(error), 500))
    return _say("Nobody was signed in", _REFUSED, sign_in_url("/"), "Sign in", code)


def _let_in(keeper: Doorkeeper, identity: Identity, return_to: str) -> Response:
    """A new session with a new ID; the one of before is of no use any more."""
    assert keeper.sessions is not None
    keeper.note("sign_in", person_of(identity), f"Signed in by {keeper.mode}.")
    keeper.sessions.close(keeper.cookie.read())
    session_id, _ = keeper.sessions.open(identity, address(), keeper.clock())
    made = see_other(return_to)
    keeper.cookie.give(made, session_id)
    return made


def _leave(keeper: Doorkeeper) -> Response:
    found = visitor()
    if keeper.sessions is None:
        return see_other("/account")
    keeper.sessions.close(found.session)
    keeper.note("sign_out", found.actor.person, "Signed out.")
    if keeper.header_door is not None:
        made = keeper.header_door.sign_out(f"{keeper.home}/")
    else:
        g.lockboard_visitor = None
        made = _say(
            "You are signed out", "Nothing of your sign-in is kept.", sign_in_url("/"), "Sign in again", 200
        )
    keeper.cookie.drop(made)
    return made


def _not_yet(keeper: Doorkeeper, return_to: str, *, again: bool) -> Response:
    """401 with the way in, so that a page in the middle of something is never half of a sign-in page."""
    url = sign_in_url(return_to, again=again)
    if request.path.startswith("/api/"):
        return _no_token()
    if wants_fragment():
        return Response(status=401, headers={"HX-Redirect": url})
    if keeper.accounts is not None and request.method in ("GET", "HEAD"):
        return _form(keeper, return_to, again=again, code=401)
    if again:
        heading = "Sign in once more"
        words = (
            f"Who changes something has to have signed in within the last {spoken_span(FRESH)}. Nothing was"
            " done."
        )
    else:
        heading, words = "Sign in", "This page is for people who are signed in."
        if "lockboard_refused" in g:
            current_app.logger.warning("a sign-in was refused: %s", g.lockboard_refused)
    return _say(heading, words, url, heading, 401)


def _no_token() -> Response:
    text = '{"error": "Send an API token: Authorization: Bearer lbt_…", "status": 401}\n'
    return Response(text, 401, {"WWW-Authenticate": "Bearer"}, content_type="application/json")


def _say(heading: str, words: str, url: str, link: str, code: int) -> Response:
    html = render("signin/said.html", **frame(heading), heading=heading, words=words, url=url, link=link)
    return answer(html, code)


# ---------------------------------------------------------------- who one is


def account_page(desk: Desk, keeper: Doorkeeper) -> dict[str, Any]:
    """Everything the page prints."""
    found, times = visitor(), desk.times()
    since = found.actor.signed_in_at
    return {
        **frame("Your account"),
        "person": found.actor.person,
        "method": METHODS.get(found.actor.person.method, found.actor.person.method),
        "since": times.moment(None if since == UNTOLD else since),
        "untold": since == UNTOLD,
        "grants": [*map(spoken_grant, found.actor.rights.grants)],
        "can": _can(found),
        "demo": keeper.mode == "demo",
        "roles": [(str(role), ROLE_WORDS[role], role == _demo_role(keeper)) for role in DEMO_ROLES],
        "idle": spoken_span(SESSION_IDLE),
        "life": spoken_span(SESSION_LIFE),
        "fresh": spoken_span(FRESH),
    }


METHODS = {
    "local": "a local account",
    "oidc": "OpenID Connect",
    "alb": "the load balancer",
    "proxy": "the proxy in front",
    "demo": "the demo, which asks nobody",
    "token": "an API token",
}
ROLE_WORDS = {
    Role.VIEWER: "looks at states",
    Role.OPERATOR: "looks and acts",
    Role.AUDITOR: "looks, and reads the audit log",
    Role.ADMINISTRATOR: "everything, and who else may do what",
}


def _can(found: Visitor) -> list[tuple[str, bool]]:
    rights: Rights = found.actor.rights
    named = (
        (Permission.VIEW, "Look at states"),
        (Permission.ACT, "Force-unlock, repair and restore"),
        (Permission.UNLOCK_UNSUSPECTED, "Release locks that are not suspected stale"),
        (Permission.ACT_PROTECTED, "Act on protected keys"),
        (Permission.APPROVE, "Approve actions of others on protected keys"),
        (Permission.AUDIT, "Read the audit log"),
        (Permission.ADMINISTER, "See and end other people's sessions, make API tokens"),
    )
    return [(words, rights.somewhere(permission)) for permission, words in named]


def _demo_role(keeper: Doorkeeper) -> Role | None:
    return keeper.entrance.role() if isinstance(keeper.entrance, DemoEntrance) else None


def demo_door(secret: str, clock: Clock) -> Doorkeeper:
    """Where nobody signs in: for loopback."""
    return Doorkeeper(DemoEntrance(secret), secret, clock, noting(None))
