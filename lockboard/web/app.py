"""The web side, joined: services in, a Flask application out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from flask import Flask, Response, abort, request, send_from_directory
from jinja2 import StrictUndefined

from lockboard.domain.audit import Audit, Person
from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import Board, StateRow
from lockboard.domain.model import Backend
from lockboard.domain.ports import Clock
from lockboard.services.actions import Actions
from lockboard.web import audit, board, detail, errors, exports, lookup, pages, recovery
from lockboard.web.desk import Assets, Desk, SettingLine, set_up_templates
from lockboard.web.live import Pages, Watch
from lockboard.web.security import LOOPBACK, SecurityHeaders, guard

__all__ = ["ROOT", "Services", "SettingLine", "build_app"]

_PACKAGE = Path(__file__).resolve().parent.parent
ROOT = _PACKAGE if (_PACKAGE / "templates").is_dir() else _PACKAGE.parent
"""The folder of `templates/` and `static/`: the package where installed, the project where edited."""

LARGEST_REQUEST = 64 * 1024
_TEXTS = frozenset({"text/css", "text/javascript", "application/javascript", "image/svg+xml"})
"""What is sent compressed to whoever takes it: on a phone the files are half of the first page."""
_FOR_EVER = "public, max-age=31536000, immutable"
_NOBODY = partial(Person, "unknown", "none")


@dataclass(frozen=True)
class Services:
    """What the pages need of the rest.

    recheck: (backend's name, state's id) -> the fresh row, already stored; raises ReadError.
    settings: the configuration in force, fit to show.  refresh_every: how often the refresher looks.
    who: (address of the browser) -> the person behind it.  audit: the log; None where no audit key is set.
    actions: what may be done; None while actions are switched off.
    """

    board: Board
    backends: Mapping[str, Backend]
    recheck: Callable[[str, str], StateRow]
    settings: Sequence[SettingLine]
    clock: Clock
    refresh_every: timedelta
    version: str
    who: Callable[[str], Person] = _NOBODY
    audit: Audit | None = None
    actions: Actions | None = None


def build_app(
    services: Services,
    *,
    trusted_hosts: Sequence[str] = LOOPBACK,
    monotonic: Callable[[], float] = time.monotonic,
) -> Flask:
    """Join everything. Opens nothing: what is slow or may fail is in `services`.

    `trusted_hosts` are the names this server answers to, without port; one that starts with a dot stands for
    every name below it. `monotonic` gives seconds that only grow, which say how long a read of the
    store is kept.
    """
    app = Flask("lockboard", root_path=str(ROOT), template_folder="templates", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_REQUEST, MAX_FORM_MEMORY_SIZE=LARGEST_REQUEST, MAX_FORM_PARTS=50
    )
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    assets = Assets(ROOT / "static")
    desk = Desk(
        board=services.board,
        backends=services.backends,
        recheck=services.recheck,
        clock=services.clock,
        refresh_every=services.refresh_every,
        version=services.version,
        icons=assets.url("icons.svg"),
        watch=Watch(services.board, services.backends, monotonic),
        pages=Pages(),
        who=services.who,
        audit=services.audit,
        actions=services.actions,
    )
    set_up_templates(app, assets, services.version)
    app.jinja_env.globals["may_act"] = services.actions is not None
    guard(app, trusted_hosts)
    errors.set_up(app)
    for blueprint in (
        board.blueprint(desk),
        detail.blueprint(desk),
        recovery.blueprint(desk),
        lookup.blueprint(desk),
        exports.blueprint(desk),
        audit.blueprint(desk),
        pages.blueprint(desk, services.settings),
    ):
        app.register_blueprint(blueprint)
    _files(app, assets, services.version)
    _probes(app, services.board)
    app.wsgi_app = SecurityHeaders(app.wsgi_app)  # type: ignore[method-assign]
    return app


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
