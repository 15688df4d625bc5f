"""What the abuse tests start under a real gunicorn: the pages over fakes, and how often somebody acted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from flask import Flask

from lockboard.domain.access import Actor
from lockboard.domain.audit import Person
from lockboard.web.access import Visitor
from lockboard.web.app import Services, build_app
from lockboard.web.server import Worker
from lockboard.web.signin import Doorkeeper
from tests.web.audit_fakes import FakeAudit
from tests.web.entrances import ALL_RIGHTS, CSRF, SECRET, Always, nobody_noted
from tests.web.fake_actions import FakeActions
from tests.web.fakes import BACKENDS, SETTINGS, STORIES, FakeBoard, Recheck, Ticking, estate, report

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

ACTED = "/-/acted"
"""Answers how many actions were carried out or tried."""


class HastyWorker(Worker):
    """The real one with less patience, so that tests need less."""

    gather_within = 1.5
    linger_within = 0.5


def build() -> tuple[Flask, FakeActions]:
    """Whoever comes may do everything, so that nothing but the shape of a request keeps it from acting."""
    board = FakeBoard(estate(), [report(name) for name in BACKENDS])
    log = FakeAudit(Ticking())
    actions = FakeActions(board, BACKENDS, log, _now)
    for story in STORIES:
        actions.look(story.seen())
    services = Services(
        board,
        BACKENDS,
        Recheck(board),
        SETTINGS,
        _now,
        timedelta(seconds=15),
        "0.1.0",
        Doorkeeper(Everybody(), SECRET, _now, nobody_noted),
        audit=log,
        actions=actions.as_actions(),
    )
    return build_app(services), actions


def _now() -> datetime:
    return datetime.now(UTC)


class Everybody(Always):
    """Somebody else with every request: limits on one person are no matter here."""

    def __init__(self) -> None:
        super().__init__("kim", "local", ALL_RIGHTS)
        self._numbers = count()

    def visitor(self, now: datetime) -> Visitor | None:
        person = Person(f"kim {next(self._numbers)}", self.method, "127.0.0.1")
        return Visitor(Actor(person, self.rights), CSRF)


class Counted:
    """The application, and one address beside it."""

    def __init__(self) -> None:
        self.app, self.actions = build()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != ACTED:
            return self.app(environ, start_response)
        body = str(len(self.actions.sent)).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]


def application() -> Counted:
    """For gunicorn."""
    return Counted()
