"""The web side, joined: services in, a Flask application out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask, Request, Response, abort, request, send_from_directory
from flask.sessions import NullSession, SessionInterface
from jinja2 import StrictUndefined

from lockboard.domain.audit import Audit, Person
from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import Board, StateRow
from lockboard.domain.model import Backend
from lockboard.domain.ports import Clock
from lockboard.domain.signin import ApiTokens, RateCounters
from lockboard.services.actions import Actions
from lockboard.web import (
    api,
    approvals,
    audit,
    board,
    detail,
    errors,
    limits,
    lookup,
    pages,
    people,
    recovery,
    signin,
)
from lockboard.web.access import known_visitor, recognise, stand_guard
from lockboard.web.desk import Assets, Desk, SettingLine, set_up_templates
from lockboard.web.entrances import HeaderEntrance, address, bearer_of, noting
from lockboard.web.forwarded import Forwarded
from lockboard.web.log import watch_requests
from lockboard.web.overload import Overload
from lockboard.web.security import LOOPBACK, SecurityHeaders, guard
from lockboard.web.signin import Doorkeeper, PageRefuser

__all__ = ["ROOT", "Services", "SettingLine", "build_app"]

_PACKAGE = Path(__file__).resolve().parent.parent
ROOT = _PACKAGE if (_PACKAGE / "templates").is_dir() else _PACKAGE.parent
"""The folder of `templates/` and `static/`: the package where installed, the project where edited."""

LARGEST_REQUEST = 64 * 1024
_TEXTS = frozenset({"text/css", "text/javascript", "application/javascript", "image/svg+xml"})
"""What is sent compressed to whoever takes it: on a phone the files are half of the first page."""
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Services:
    """What the pages need of the rest.

    recheck: (backend's name, state's id) -> the fresh row, already stored; raises ReadError.
    settings: the configuration in force, fit to show.  refresh_every: how often the refresher looks.
    door: how people sign in.  audit: the log; None where no audit key is set.
    actions: what may be done; None while actions are switched off.
    tokens: the API tokens; None where none are taken.  second_person: whether actions on protected keys wait
    for somebody else.  counters: what all processes count together; None where there is but this one.
    limited: whether anything is counted; it is, but in tests.
    """

    board: Board
    backends: Mapping[str, Backend]
    recheck: Callable[[str, str], StateRow]
    settings: Sequence[SettingLine]
    clock: Clock
    refresh_every: timedelta
    version: str
    door: Doorkeeper
    audit: Audit | None = None
    actions: Actions | None = None
    tokens: ApiTokens | None = None
    second_person: bool = False
    counters: RateCounters | None = None
    limited: bool = True


class _NoSessions(SessionInterface):
    """Our sessions are in the database; Flask's are nowhere."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class _Synchronous(Flask):
    """No view is a coroutine, so none is asked whether it is: four times in every request."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def build_app(
    services: Services,
    *,
    trusted_hosts: Sequence[str] = LOOPBACK,
    proxies: Sequence[str] = (),
    monotonic: Callable[[], float] = time.monotonic,
) -> Flask:
    """Join everything. Opens nothing: what is slow or may fail is in `services`.

    `trusted_hosts` are the names this server answers to, without port; one that starts with a dot stands for
    every name below it. `proxies` are the networks whose X-Forwarded headers are believed. `monotonic` gives
    seconds that only grow, which say how long a read of the store is kept.
    """
    app = _Synchronous("lockboard", root_path=str(ROOT), template_folder="templates", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_REQUEST, MAX_FORM_MEMORY_SIZE=LARGEST_REQUEST, MAX_FORM_PARTS=50
    )
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    assets = Assets(ROOT / "static")
    desk = Desk(
        store=services.board,
        configured=services.backends,
        recheck=services.recheck,
        clock=services.clock,
        refresh_every=services.refresh_every,
        version=services.version,
        icons=assets.url("icons.svg"),
        monotonic=monotonic,
        log=services.audit,
        actions=services.actions,
    )
    set_up_templates(app, assets, services.version)
    app.jinja_env.globals["may_act"] = services.actions is not None
    app.jinja_env.globals["asks_second"] = services.actions is not None and services.second_person
    watch_requests(app, monotonic)
    guard(app, trusted_hosts)
    recognise(app, services.door.entrance, bearer_of(services.tokens), services.clock)
    if services.limited:
        limits.set_up(
            app,
            counters=services.counters,
            who=_whom,
            address=address,
            note=_rate_note(noting(services.audit), services.door.mode),
            clock=services.clock,
            monotonic=monotonic,
        )
    if isinstance(services.door.entrance, HeaderEntrance):
        services.door.entrance.set_up(app, services.clock)
    stand_guard(app, PageRefuser(services.door), services.clock)
    errors.set_up(app)
    for blueprint in (
        board.blueprint(desk),
        detail.blueprint(desk),
        recovery.blueprint(desk),
        lookup.blueprint(desk),
        api.blueprint(desk),
        audit.blueprint(desk),
        approvals.blueprint(desk),
        signin.blueprint(desk, services.door),
        people.blueprint(desk, services.door, services.tokens),
        pages.blueprint(desk, services.settings),
    ):
        app.register_blueprint(blueprint)
    _files(app, assets, services.version)
    _probes(app, services.board)
    app.wsgi_app = Forwarded(SecurityHeaders(Overload(app.wsgi_app)), proxies)  # type: ignore[method-assign]
    return app


def _whom() -> str:
    found = known_visitor()
    return found.key if found else ""


def _rate_note(note: Callable[[str, Person, str], None], mode: str) -> limits.Note:
    def flooded(*, limit: str, allowed: str) -> None:
        found = known_visitor()
        person = found.actor.person if found else Person("", mode, address())
        note("rate_limited", person, f"More requests than are answered ({limit}: {allowed}).")

    return flooded


def _files(app: Flask, assets: Assets, version: str) -> None:
    @app.get("/static/<path:name>")
    def static(name: str) -> Response:
        answer = send_from_directory(assets.folder, name)
        if answer.status_code == 200 and answer.mimetype in _TEXTS:
            answer.vary.update(("HX-Request-Type", "Accept-Encoding"))
            if request.accept_encodings["gzip"] and not request.range:
                answer = Response(assets.packed(name), 200, answer.headers)
                answer.content_encoding = "gzip"
                answer.headers.remove("ETag")  # it is that of other bytes
        versioned = name.startswith("vendor/") or request.args.get("v") == assets.version(name)
        answer.headers["Cache-Control"] = _FOR_EVER if versioned else "no-store"
        return answer

    @app.get("/favicon/<int:count>.svg")
    def favicon(count: int) -> Response:
        """The mark with a count, for the tab: 100 stands for more than 99."""
        if count > 100:
            abort(404)
        text = app.jinja_env.get_template("favicon.svg").render(count=count)
        return Response(
            text,
            content_type="image/svg+xml",
            headers={"Cache-Control": _FOR_EVER if request.args.get("v") == version else "no-store"},
        )


def _probes(app: Flask, store: Board) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", content_type="text/plain; charset=utf-8")

    @app.get("/readyz")
    def readyz() -> Response:
        try:
            store.generation()
        except StoreError:
            return Response("the store cannot be read\n", 503, content_type="text/plain; charset=utf-8")
        return Response("ready\n", content_type="text/plain; charset=utf-8")
