"""What every page needs at hand: the services, the kept pages, and the way a template becomes an answer."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask, Response, current_app, redirect, request
from flask.globals import app_ctx
from markupsafe import Markup, escape

from lockboard.domain.access import EVERY_BACKEND, Permission, Rights, Scope
from lockboard.domain.audit import Audit
from lockboard.domain.inventory import BackendReport, Board, StateRow
from lockboard.domain.model import Backend, Policy
from lockboard.domain.ports import Clock
from lockboard.domain.text import shown, utc
from lockboard.services.actions import Actions
from lockboard.services.audit_within import audit_within
from lockboard.web.access import known_visitor
from lockboard.web.live import CSRF, PLACEHOLDER, WHO, Pages, Snapshot, Watch
from lockboard.web.prefs import preferences, zone
from lockboard.web.security import NONCE
from lockboard.web.strip import Strip
from lockboard.web.times import Moment, Times

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from werkzeug.datastructures import Headers

ROOMS = 64
"""Views of the estate that are kept at the same time."""

SKEW_TOLERANCE = Policy().skew_tolerance
"""How far our clock may differ from AWS's before anything is said of it."""


class SettingLine(NamedTuple):
    """One setting in force. value: fit to show, secrets masked.  source: file, environment, default.  inner:
    about people, so for administrators.
    """

    name: str
    value: str
    source: str
    inner: bool = False


class Health(NamedTuple):
    """What is to be said of the data's age on every page, and of the clock.

    now: when this is said, for a browser whose clock is wrong.
    data: the oldest data among the backends that are read well (of all, where none is).
    unread: reports of backends whose last refresh failed, with when their rows were last true.
    waiting: backends that were never read.  old: the data is older than it should be.
    skewed: backends whose answers show our clock to be wrong, so that none of their locks is called stale.
    """

    now: str
    data: Moment
    unread: Sequence[tuple[BackendReport, Moment]]
    waiting: Sequence[str]
    old: bool
    skewed: Sequence[str]

    @property
    def well(self) -> bool:
        return not (self.unread or self.waiting or self.old)


@dataclass(frozen=True)
class Room:
    """What visitors with the same view of the estate share.

    tallies, controls, strips: kept parts of pages.
    """

    board: Board
    backends: Mapping[str, Backend]
    watch: Watch
    audit: Audit | None
    pages: Pages = field(default_factory=Pages)
    tallies: dict[int, tuple[Mapping[str, int], Mapping[str, int]]] = field(default_factory=dict)
    controls: dict[Hashable, Mapping[str, object]] = field(default_factory=dict)
    strips: dict[Hashable, Strip] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """The shared part of all views. What depends on who asks is that of the visitor's room.

    store, configured, log: all of the inventory, every backend, the whole log; pages use `board`, `backends`
    and `audit`.
    """

    store: Board
    configured: Mapping[str, Backend]
    recheck: Callable[[str, str], StateRow]
    clock: Clock
    refresh_every: timedelta
    version: str
    icons: str
    monotonic: Callable[[], float]
    log: Audit | None
    actions: Actions | None
    rooms: dict[tuple[Scope, Scope, Me], Room] = field(default_factory=dict)

    @property
    def room(self) -> Room:
        """Of who sent the request at hand."""
        kept = app_ctx.g  # once: the proxy looks it up for every attribute
        found: Room | None = kept.get("lockboard_room")
        if found is None:
            found = kept.lockboard_room = self._room(*_sight(kept.lockboard_visitor.actor.rights))
        return found

    def _room(self, scope: Scope, audited: Scope, who: Me) -> Room:
        """The frame of pages differs, so people who see the same rows may need rooms of their own."""
        found = self.rooms.get((scope, audited, who))
        if found is None:
            if len(self.rooms) >= ROOMS:
                self.rooms.clear()
            backends = {
                name: backend
                for name, backend in self.configured.items()
                if any(area.backend in (EVERY_BACKEND, name) for area in scope)
            }
            board = self.store.within(scope)
            log = audit_within(self.log, audited) if self.log else None
            found = Room(board, backends, Watch(board, backends, self.monotonic), log)
            self.rooms[scope, audited, who] = found
        return found

    @property
    def board(self) -> Board:
        """The states that the visitor may see."""
        return self.room.board

    @property
    def backends(self) -> Mapping[str, Backend]:
        """The backends of which the visitor may see something."""
        return self.room.backends

    @property
    def watch(self) -> Watch:
        return self.room.watch

    @property
    def audit(self) -> Audit | None:
        """The log, as far as the visitor may read it; None where none is kept."""
        return self.room.audit

    def forget(self) -> None:
        """After a change of our own: the next look of everybody reads again."""
        for room in [*self.rooms.values()]:
            room.watch.forget()

    @property
    def old_after(self) -> timedelta:
        """Data older than this is called old: five minutes, or three refreshes where those are rarer."""
        return max(timedelta(minutes=5), 3 * self.refresh_every)

    def times(self) -> Times:
        return Times(self.clock(), zone(preferences().zone))

    def counted(self, snapshot: Snapshot) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """How many keys each view and each status has; asked of the store once for each change."""
        room = self.room
        found = room.tallies.get(snapshot.stamp)
        if found is None:
            found = room.board.counts(), room.board.statuses()
            room.tallies.clear()
            room.tallies[snapshot.stamp] = found
        return found

    def health(self, snapshot: Snapshot, times: Times, backends: Collection[str] | None = None) -> Health:
        """What to say of the data's age, as seen at the times' `now`. backends: all of the visitor's, unless
        the snapshot is of fewer.
        """
        unread = [report for report in snapshot.reports if report.error or not report.complete]
        seen = {report.backend for report in snapshot.reports if report.data_at or report.error}
        return Health(
            now=utc(times.now),
            data=times.moment(snapshot.data_at),
            unread=[
                (report, times.moment(report.data_at)) for report in unread if report.error or report.data_at
            ],
            waiting=[name for name in backends or self.backends if name not in seen],
            old=snapshot.data_at is not None and times.now - snapshot.data_at > self.old_after,
            skewed=[
                report.backend
                for report in snapshot.reports
                if abs(report.clock_skew_seconds or 0) > SKEW_TOLERANCE.total_seconds()
            ],
        )


class Me(NamedTuple):
    """What the frame of a page depends on: whether somebody is signed in, which pages they may open, and
    whether requests may wait for them.
    """

    known: bool = False
    views: bool = False
    audits: bool = False
    administers: bool = False
    acts: bool = False


def me() -> Me:
    """Of who sent the request at hand; nobody on the page that asks for a sign-in."""
    found = known_visitor()
    return Me() if found is None else _sight(found.actor.rights)[2]


@lru_cache(maxsize=256)
def _sight(rights: Rights) -> tuple[Scope, Scope, Me]:
    """What somebody with these rights sees of the states and of the log, and which pages they may open."""
    who = Me(
        True,
        rights.somewhere(Permission.VIEW),
        rights.somewhere(Permission.AUDIT),
        rights.somewhere(Permission.ADMINISTER),
        rights.somewhere(Permission.ACT),
    )
    return rights.scope(Permission.VIEW), rights.scope(Permission.AUDIT), who


def frame(title: str) -> dict[str, object]:
    """What the frame of a page asks for that says nothing of the estate."""
    return {"title": f"{title} · Lockboard", "icon": favicon(0), "attention": None, "health": None}


def render(template: str, **context: object) -> str:
    """A template's text, with placeholders for the answer's nonce and for what is the visitor's own."""
    return current_app.jinja_env.get_template(template).render(prefs=preferences(), me=me(), **context)


def render_region(page: str, region: str, **context: object) -> str:
    """A page's region alone for htmx, or the page around it.

    The region is rendered by itself: one step for the page instead of one for each of its pieces.
    """
    html = render(region, **context)
    if wants_fragment():
        return render("_title.html", **context) + html
    return render(page, region=Markup(html), **context)  # noqa: S704 - a template made it


def answer(html: str, status: int = 200) -> Response:
    """The page with its nonce and what is the visitor's own."""
    html = html.replace(PLACEHOLDER, request.environ[NONCE])
    for mark, text in own_parts().items():
        html = html.replace(mark, text)
    return page_response(html.encode("utf-8", "replace"), status)


def own_parts() -> Mapping[str, str]:
    """What stands in for each placeholder that is the visitor's own: their name and their forms' token."""
    found = known_visitor()
    return {WHO: _printed(found.actor.person.name), CSRF: found.csrf} if found else {WHO: "", CSRF: ""}


@lru_cache(maxsize=256)
def _printed(name: str) -> str:
    """A person's name on every page of theirs."""
    return str(escape(shown(name, 80)))


def see_other(url: str) -> Response:
    """Where the answer to a form is, or the address that is meant (303)."""
    found = redirect(url, 303, Response)
    assert isinstance(found, Response)
    return found


class Whole(Response):
    """An answer with every header that it needs: of any other, Werkzeug copies the headers and looks for what
    it could complete, which costs as much as finding the view.
    """

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        return self.headers


def page_response(body: bytes, status: int = 200) -> Response:
    """HTML whose nonce is in its place."""
    return Whole(body, status, content_type="text/html; charset=utf-8")


def wants_fragment() -> bool:
    """Whether htmx asks for a region; it asks for `full` when it restores history."""
    return request.environ.get("HTTP_HX_REQUEST_TYPE") == "partial"


def hx(**attributes: str) -> Markup:
    """htmx attributes with the nonce without which hx-csp removes them: `hx(get=url, target="#region")`."""
    named = "".join(f' hx-{name.replace("_", "-")}="{escape(value)}"' for name, value in attributes.items())
    return Markup(f'hx-nonce="{PLACEHOLDER}"{named}')  # noqa: S704 - every value is escaped above


PAGE_FILES = ("lockboard.css", "lockboard.js", "vendor/htmx-4.0.1.min.js", "vendor/hx-csp-4.0.1.min.js")
"""What every page loads."""


class Assets:
    """Static files by name, with a version in the URL so that caches may keep them for ever."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._urls: dict[str, str] = {}
        self._packed: dict[str, tuple[bytes, bytes]] = {}

    def url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = (
                f"/static/{name}" if name.startswith("vendor/") else f"/static/{name}?v={self.version(name)}"
            )
        return self._urls[name]

    def packed(self, name: str) -> bytes:
        """The file compressed with gzip."""
        plain = (self.folder / name).read_bytes()
        kept = self._packed.get(name)
        if kept is None or kept[0] != plain:
            kept = self._packed[name] = plain, gzip.compress(plain, 9, mtime=0)
        return kept[1]

    def version(self, name: str) -> str:
        return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()[:8]


def set_up_templates(app: Flask, assets: Assets, version: str) -> None:
    """One set of names for every template; a name that is missing is an error, not an empty string."""
    app.jinja_env.globals.update(
        hx=hx,
        assets={name: assets.url(name) for name in PAGE_FILES},
        icons=assets.url("icons.svg"),
        nonce=PLACEHOLDER,
        who=WHO,
        csrf=CSRF,
        version=version,
    )


def favicon(count: int) -> str:
    """Address of the tab's mark with a count."""
    return f"/favicon/{min(count, 100)}.svg"
