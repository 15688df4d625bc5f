"""Who is here and which programs may ask: for administrators."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, abort, request

from lockboard.domain.access import EVERY_BACKEND, Area, Grant, Role
from lockboard.domain.audit import Audit, Entry, Kind
from lockboard.domain.errors import LockboardError
from lockboard.domain.people import (
    NAME_RULE,
    grants_to_json,
    is_name,
    is_plain_prefix,
    spoken_grants,
    token_facts,
)
from lockboard.domain.signin import TOKEN_LIFE, Account, ApiToken, ApiTokens, Session
from lockboard.domain.text import shown, spoken_time
from lockboard.web.access import visitor
from lockboard.web.desk import Desk, answer, frame, render, see_other
from lockboard.web.signin import METHODS, Doorkeeper
from lockboard.web.times import Times

_NO_LOG = "No audit log is kept, and what cannot be recorded is not done: set LOCKBOARD_AUDIT_KEY."


def blueprint(desk: Desk, keeper: Doorkeeper, tokens: ApiTokens | None) -> Blueprint:
    """The routes of the page about people."""
    pages = Blueprint("people", __name__)

    @pages.get("/people")
    def show() -> Response:
        return answer(render("people/people.html", **people_page(desk, keeper, tokens)))

    @pages.post("/people/sessions/<int:number>/end")
    def end_session(number: int) -> Response:
        if keeper.sessions is None:
            abort(404)
        log = _log(desk)
        ended = next((s for s in keeper.sessions.live(keeper.clock()) if s.number == number), None)
        if ended is not None:
            name, sessions = shown(ended.identity.name, 80), keeper.sessions
            facts = {"subject": ended.identity.subject}
            said = f"Ended a session of {name}."
            _change(log, "session_ended", said, facts, lambda: sessions.close_number(number))
        return see_other("/people#sessions")

    @pages.post("/people/tokens")
    def add_token() -> Response:
        if tokens is None:
            abort(404)
        name, grant, days, wrong = _asked(desk)
        context = people_page(desk, keeper, tokens)
        if wrong:
            return answer(render("people/people.html", **{**context, "wrong": wrong}), 422)
        secret = _made(_log(desk), tokens, name, grant, days, keeper.clock())
        context = people_page(desk, keeper, tokens)
        told = {"secret": secret, "secret_name": name, "form": {}}
        return answer(render("people/people.html", **{**context, **told}))

    @pages.post("/people/tokens/<int:number>/revoke")
    def revoke_token(number: int) -> Response:
        found = next((t for t in tokens.every() if t.number == number), None) if tokens else None
        if tokens is None or found is None:
            abort(404, "There is no token of that number.")
        said = f"API token {number} ({shown(found.name, 64)}) is revoked."
        now = keeper.clock()
        _change(_log(desk), "token_revoked", said, token_facts(found), lambda: tokens.revoke(number, now))
        return see_other("/people#tokens")

    return pages


def people_page(desk: Desk, keeper: Doorkeeper, tokens: ApiTokens | None) -> dict[str, Any]:
    """Everything the page prints."""
    times = desk.times()
    live = keeper.sessions.live(times.now) if keeper.sessions else ()
    accounts = keeper.accounts.every() if keeper.accounts else ()
    return {
        **frame("People"),
        "mode": METHODS[keeper.mode],
        "local": keeper.accounts is not None,
        "sessions": [_session(found, times) for found in live],
        "accounts": [_account(found, times) for found in accounts],
        "tokens": [_token(found, times) for found in (tokens.every() if tokens else ())],
        "takes_tokens": tokens is not None,
        "roles": [str(role) for role in Role],
        "backends": list(desk.backends),
        "longest": TOKEN_LIFE.days,
        "form": request.form,
        "wrong": "",
        "secret": "",
    }


def _session(found: Session, times: Times) -> dict[str, Any]:
    return {
        "number": found.number,
        "name": shown(found.identity.name, 80),
        "subject": shown(found.identity.subject, 200),
        "address": shown(found.address, 60),
        "opened": times.moment(found.opened_at),
        "seen": times.moment(found.seen_at),
        "mine": found.identity.subject == visitor().actor.person.subject,
    }


def _account(found: Account, times: Times) -> dict[str, Any]:
    return {
        "name": found.name,
        "grants": spoken_grants(found.grants),
        "disabled": found.disabled,
        "changed": times.moment(found.changed_at),
    }


def _token(found: ApiToken, times: Times) -> dict[str, Any]:
    return {
        "number": found.number,
        "name": found.name,
        "owner": shown(found.owner, 80),
        "grants": spoken_grants(found.grants),
        "expires": times.moment(found.expires_at),
        "used": times.moment(found.used_at),
        "state": "revoked" if found.revoked_at else "expired" if found.is_over(times.now) else "valid",
    }


def _asked(desk: Desk) -> tuple[str, Grant, int, str]:
    """The new token of the form, and what is wrong with it, "" for nothing."""
    form = request.form
    name, days = form.get("name", "").strip(), form.get("days", "30").strip()
    role, backend = form.get("role", ""), form.get("backend", EVERY_BACKEND)
    prefix = form.get("prefix", "")
    grant = Grant(Role.VIEWER)
    if not is_name(name):
        return name, grant, 0, f"A token's name is {NAME_RULE}."
    if role not in tuple(Role):
        return name, grant, 0, "Choose a role."
    if backend not in (EVERY_BACKEND, *desk.backends):
        return name, grant, 0, "No backend of that name is configured."
    if not is_plain_prefix(prefix):
        return (
            name,
            grant,
            0,
            "A prefix has at most 1,024 characters, no backslash, and none that cannot be seen.",
        )
    if not (days.isascii() and days.isdecimal() and 1 <= int(days[:4]) <= TOKEN_LIFE.days and len(days) < 4):
        return name, grant, 0, f"A token lasts 1 to {TOKEN_LIFE.days} days."
    operator = role == Role.OPERATOR
    extras = (operator and "unlock_unsuspected" in form, operator and "protected" in form)
    return name, Grant(Role(role), Area(backend, prefix), *extras), int(days), ""


def _log(desk: Desk) -> Audit:
    if desk.log is None:
        abort(409, _NO_LOG)
    return desk.log


def _made(log: Audit, tokens: ApiTokens, name: str, grant: Grant, days: int, now: datetime) -> str:
    """A new token's secret. The record needs its number; until that is durable nobody has the secret, so the
    token opens nothing.
    """
    secret, made = tokens.add(name, visitor().actor.person.name, [grant], now, now + timedelta(days=days))
    said = f"{spoken_grants([grant])}, until {spoken_time(made.expires_at)}"
    facts = {**token_facts(made), "grants": grants_to_json([grant]), "days": days}
    try:
        _note(log, "token_added", f"API token {made.number} ({name}) is added: {said}.", facts)
    except LockboardError:
        with suppress(LockboardError):
            tokens.revoke(made.number, now)
        raise
    return secret


def _change(log: Audit, action: str, message: str, facts: dict[str, Any], make: Callable[[], object]) -> None:
    """Record what is about to change, then make it; if that fails, record that too, and raise."""
    _note(log, action, message, facts)
    try:
        make()
    except LockboardError as error:
        said = f"The change of the record before did not happen: {shown(str(error), 500)}"
        with suppress(LockboardError):
            _note(log, action, said, {**facts, "failed": True})
        raise


def _note(log: Audit, action: str, message: str, facts: dict[str, Any]) -> None:
    log.append(Entry(Kind.EVENT, action, visitor().actor.person, message=message, facts=facts))
