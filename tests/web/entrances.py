"""Doors for tests that are about something else: everybody who comes is the same person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from lockboard.domain.access import Actor, Grant, Rights, Role
from lockboard.domain.audit import Person
from lockboard.domain.ports import Clock
from lockboard.web.access import CSRF_HEADER, Visitor
from lockboard.web.signin import Doorkeeper

SECRET = "k" * 40
CSRF = "the-token-of-the-forms"
ALL_RIGHTS = Rights((Grant(Role.ADMINISTRATOR),))


def nobody_noted(action: str, person: Person, message: str) -> None:
    """Where no log is kept."""


def now() -> datetime:
    return datetime.now(UTC)


class Always:
    """The same visitor with every request."""

    mode = "local"

    def __init__(self, name: str, method: str, rights: Rights) -> None:
        self.name, self.method, self.rights = name, method, rights
        self.signed_in_at: datetime | None = None

    def visitor(self, now: datetime) -> Visitor | None:
        person = Person(self.name, self.method, "127.0.0.1")
        return Visitor(Actor(person, self.rights, self.signed_in_at), CSRF)


def always(
    name: str = "kim", method: str = "loopback", rights: Rights = ALL_RIGHTS, clock: Clock = now
) -> Doorkeeper:
    """Somebody who may do everything unless told otherwise."""
    return Doorkeeper(Always(name, method, rights), SECRET, clock, nobody_noted)


class OwnForms(FlaskClient):
    """A browser whose forms carry the token; for tests that are about what a form does."""

    def open(self, *args: Any, **named: Any) -> Any:
        headers = {**dict(named.pop("headers", None) or {})}
        headers.setdefault(CSRF_HEADER, CSRF)
        named.setdefault("buffered", True)  # an answer that is not closed holds its place among those at work
        return super().open(*args, headers=headers, **named)


def with_own_forms(app: Flask) -> Flask:
    """The same application; its test clients send the token of `always` with every form."""
    app.test_client_class = OwnForms
    return app
