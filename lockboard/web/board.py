"""The list of state keys, its pulse and its exports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import NamedTuple
from zlib import crc32

from flask import Blueprint, Response, request
from markupsafe import Markup

from lockboard.domain.inventory import PAGE_SIZE, VIEWS, Board, ListRow, Page, StateRow
from lockboard.web import exports
from lockboard.web.asked import Asked, Links, asked, sort_parameter, spelled_age, view_parameter
from lockboard.web.desk import (
    Desk,
    Health,
    Whole,
    favicon,
    own_parts,
    page_response,
    render_region,
    see_other,
    wants_fragment,
)
from lockboard.web.live import BUCKET_SECONDS, KEPT, KeptPage, Snapshot
from lockboard.web.lookup import looks_pasted
from lockboard.web.marks import STATUS_TITLES, SUSPECT
from lockboard.web.prefs import preferences
from lockboard.web.rows import escaped, table_rows
from lockboard.web.security import HEADERS, NONCE
from lockboard.web.strip import SHOWN, Strip, strip
from lockboard.web.times import NEVER, Moment, Times

VIEW_TITLES = {
    "attention": "Needs attention",
    "locked": "Locked",
    "digest": "Digest",
    "unreadable": "Unreadable",
    "all": "All",
}
_AGES = ((3600, "1 hour"), (6 * 3600, "6 hours"), (86400, "1 day"), (7 * 86400, "7 days"))
_SORTS = (
    ("severity", "Worst first"),
    ("locked", "Held longest"),
    ("key", "Key"),
    ("modified", "Last written"),
)

_NATURAL = {"severity": "descending", "locked": "descending", "key": "ascending", "modified": "descending"}
"""Which way each order runs in what its column shows: worst, longest held, first by name, newest first."""
_OTHER_WAY = {"ascending": "descending", "descending": "ascending"}


class Choice(NamedTuple):
    """A link that changes the list. `number` is None where it is not known."""

    url: str
    title: str
    number: int | None
    current: bool


class Heading(NamedTuple):
    """A column that sorts. order: `ascending`, `descending` or "" where the list is sorted by another one."""

    url: str
    order: str


class Empty(NamedTuple):
    """Why there is no row: a heading and a sentence that are true, and a way on. when: a moment whose age
    ends the sentence.
    """

    kind: str
    title: str
    text: str
    url: str = ""
    link: str = ""
    when: Moment = NEVER


def blueprint(desk: Desk) -> Blueprint:
    """The routes of the list."""
    pages = Blueprint("board", __name__)

    @pages.get("/")
    def home() -> Response:
        return see_other("/states?view=attention")

    @pages.get("/states")
    def states() -> Response:
        fragment, room, now = wants_fragment(), desk.room, desk.clock()
        snapshot = room.watch.snapshot()
        key = (
            snapshot.stamp,
            request.query_string,
            preferences(),
            fragment,
            int(now.timestamp()) // BUCKET_SECONDS,
        )
        kept = room.pages.get(key)
        if kept is None:
            wanted = asked(request.args)
            if looks_pasted(wanted.text):
                return _to_find(wanted.text, fragment)
            with nullcontext() if wanted.text else room.pages.turn():  # nobody waits for another's search
                kept = room.pages.get(key)
                if kept is None:
                    page = list_page(desk, snapshot, wanted)
                    html = render_region("board/states.html", "board/_region.html", **page)
                    kept = room.pages.keep(key, html, wanted.url())
        return _addressed(kept, fragment)

    @pages.get("/states/pulse")
    def pulse() -> Response:
        snapshot = desk.watch.snapshot()
        # Read by hand: most requests of a day are this one, and most of its time would be the parsing.
        query = request.environ.get("QUERY_STRING", "")
        said = query.rpartition("rev=")[2].partition("&")[0]
        seen = int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else -1
        return (_pulse_of_key if "state=" in query else _pulse)(desk, snapshot, seen)

    @pages.get("/states.csv")
    def states_csv() -> Response:
        wanted, times = asked(request.args), desk.times()
        return exports.as_csv(
            desk.board.export(wanted.query(times.now)), desk.watch.snapshot().reports, times.now
        )

    @pages.get("/states.json")
    def states_json() -> Response:
        wanted, now = asked(request.args), desk.clock()
        return exports.as_json(
            desk.board.export(wanted.query(now)), desk.watch.snapshot().reports, now, desk.backends
        )

    return pages


def list_page(desk: Desk, snapshot: Snapshot, wanted: Asked) -> dict[str, object]:
    """Everything the list's template prints."""
    times = desk.times()
    counts, statuses = desk.counted(snapshot)
    page = desk.board.page(wanted.query(times.now))
    health = desk.health(snapshot, times)
    late = {report.backend: moment.short for report, moment in health.unread if moment.iso}
    attention, total = counts.get("attention", 0), counts.get("all", 0)
    list_string = wanted.but(start=1).string()
    return {
        "asked": wanted,
        "canonical": wanted.url(),
        "list_string": list_string,
        "snapshot": snapshot,
        "health": health,
        "old_after": int(desk.old_after.total_seconds()),
        "attention": attention,
        "total": total,
        "locked": counts.get("locked", 0),
        "suspect": sum(statuses.get(status, 0) for status in SUSPECT),
        "icon": favicon(attention),
        "title": f"{VIEW_TITLES[wanted.view]} · Lockboard",
        **_controls(desk, snapshot, wanted.but()),
        "rows": table_rows(page.rows, times, list_string, late, desk.icons),
        "pager": _pager(wanted, page),
        "empty": None if page.rows else _empty(desk, wanted, total, health, times),
        "strip": _strip(desk, times, snapshot),
        "zone": times.zone_name,
    }


def neighbours(board: Board, state_id: str, wanted: Asked, times: Times) -> tuple[str, str]:
    """Links to the keys before and after one in its list."""
    string = wanted.but().string()
    suffix = f"?{string}" if string else ""
    before, after = board.neighbours(state_id, wanted.but().query(times.now))
    return f"/s/{before}{suffix}" if before else "", f"/s/{after}{suffix}" if after else ""


def _controls(desk: Desk, snapshot: Snapshot, wanted: Asked) -> Mapping[str, object]:
    """What changes the list: the same on each of its pages, as long as the counts are."""
    key = (snapshot.stamp, wanted)
    kept = desk.room.controls.get(key)
    if kept is None:
        links = Links(wanted)
        counts, statuses = desk.counted(snapshot)
        kept = {
            "tabs": _tabs(wanted, links, counts),
            "menus": _menus(desk, wanted, links, statuses, snapshot),
            "chips": _chips(wanted, links),
            "headings": {sort: _heading(wanted, links, sort) for sort, _ in _SORTS},
            "hidden": [(name, value) for name, value in wanted.pairs() if name != "q"],
        }
        if len(desk.room.controls) >= KEPT:
            desk.room.controls.clear()
        desk.room.controls[key] = kept
    return kept


def _tabs(wanted: Asked, links: Links, counts: Mapping[str, int]) -> list[Choice]:
    return [
        Choice(links.to(view=view_parameter(view)), VIEW_TITLES[view], counts.get(view), view == wanted.view)
        for view in VIEWS
    ]


def _menus(desk: Desk, wanted: Asked, links: Links, counts: Mapping[str, int], snapshot: Snapshot) -> Markup:
    """The filters' menus: fifty links, so they are written here and not by a template."""
    states = {report.backend: report.states for report in snapshot.reports}
    known = sorted(STATUS_TITLES.keys() & counts.keys(), key=STATUS_TITLES.__getitem__)
    backends = [
        Choice(links.to(backend=""), "Any backend", None, not wanted.backend),
        *(
            Choice(links.to(backend=name), name, states.get(name), name == wanted.backend)
            for name in desk.backends
        ),
    ]
    statuses = [
        Choice(links.to(status=""), "Any status", None, not wanted.status),
        *(
            Choice(links.to(status=s, view="all"), STATUS_TITLES[s], counts[s], s == wanted.status)
            for s in known
        ),
    ]
    ages = [
        Choice(links.to(age=""), "Any length of time", None, not wanted.age),
        *(
            Choice(links.to(age=spelled_age(age)), f"Longer than {words}", None, age == wanted.age)
            for age, words in _AGES
        ),
    ]
    sorts = [
        Choice(links.to(sort=sort_parameter(sort)), words, None, sort == wanted.sort)
        for sort, words in _SORTS
    ]
    return Markup(  # noqa: S704 - escaped piece by piece
        _menu("Backend", wanted.backend, backends)
        + _menu("Status", STATUS_TITLES.get(wanted.status, ""), statuses)
        + _menu("Held for", f"> {spelled_age(wanted.age)}" if wanted.age else "", ages)
        + _menu("Sort", "", sorts)
    )


def _menu(name: str, chosen: str, choices: Sequence[Choice]) -> str:
    summary = f'<summary class="chosen">{name}: <b>{escaped(chosen)}</b>' if chosen else f"<summary>{name}"
    items = "".join([_item(choice) for choice in choices])
    opened = f'<details class="menu" name="menu" id="menu-{name[:4].lower()}">{summary}</summary>'
    return f"{opened}<ul>{items}</ul></details>\n"


def _item(choice: Choice) -> str:
    current = ' aria-current="true"' if choice.current else ""
    count = f' <span class="count">{choice.number}</span>' if choice.number is not None else ""
    return f'<li><a href="{escaped(choice.url)}"{current}>{escaped(choice.title)}{count}</a></li>'


def _chips(wanted: Asked, links: Links) -> list[tuple[str, str]]:
    """(what narrows the list, the URL without it)."""
    found = (
        (f"“{wanted.text}”", "q", wanted.text),
        (f"backend {wanted.backend}", "backend", wanted.backend),
        (f"status {STATUS_TITLES.get(wanted.status, wanted.status)}", "status", wanted.status),
        (f"key starts with {wanted.prefix}", "prefix", wanted.prefix),
        (f"held by {wanted.holder}", "holder", wanted.holder),
        (f"held longer than {spelled_age(wanted.age)}", "age", wanted.age),
    )
    return [(words, links.to(**{name: ""})) for words, name, active in found if active]


def _heading(wanted: Asked, links: Links, sort: str) -> Heading:
    if sort != wanted.sort:
        return Heading(links.to(sort=sort_parameter(sort)), "")
    order = _OTHER_WAY[_NATURAL[sort]] if wanted.descending else _NATURAL[sort]
    return Heading(links.to(sort=sort_parameter(sort, descending=not wanted.descending)), order)


def _pager(wanted: Asked, page: Page) -> dict[str, object]:
    first = wanted.start if wanted.after else 1
    count = len(page.rows)
    last_start = max(1, first - PAGE_SIZE)
    return {
        "first": first,
        "last": first + count - 1,
        "total": _total(page),
        "previous": wanted.but(after=page.previous, start=last_start).url() if page.previous else "",
        "next": wanted.but(after=page.next, start=first + count).url() if page.next else "",
    }


def _total(page: Page) -> str:
    """How many match, as far as they were counted."""
    return f"more than {page.total:,}" if page.capped else f"{page.total:,}"


def _strip(desk: Desk, times: Times, snapshot: Snapshot) -> Strip | None:
    """The same for every list, so it is laid out once for each change and minute."""
    key = (snapshot.stamp, int(times.now.timestamp()) // 60)
    kept = desk.room.strips.get(key)
    if kept is None:
        held = desk.board.held(SHOWN + 1)  # one more tells whether these are all

        def limit_of(row: ListRow) -> timedelta | None:
            backend = desk.backends.get(row.backend)
            return backend.policy_for(row.key).stale_after if backend else None

        kept = strip(held, times, limit_of, desk.icons)
        desk.room.strips.clear()
        desk.room.strips[key] = kept
    return kept if kept.ticks else None


def _empty(desk: Desk, wanted: Asked, total: int, health: Health, times: Times) -> Empty:
    if not desk.backends:
        return Empty(
            "settings",
            "No backend is configured",
            "Name at least one bucket in the settings file, then start Lockboard again.",
            "/settings",
            "Settings",
        )
    if not total and health.waiting:
        waiting = ", ".join(health.waiting)
        return Empty(
            "waiting",
            "The first refresh is running",
            f"Lockboard is reading {waiting}. The keys appear here by themselves.",
            "/health",
            "Health",
        )
    if wanted.after:
        return Empty(
            "match",
            "This page of the list is empty now",
            "The list has become shorter.",
            wanted.but().url(),
            "Back to its start",
        )
    if wanted.filtered:
        return _no_match(desk, wanted, times)
    return _nothing_here(wanted.view, total, health)


def _no_match(desk: Desk, wanted: Asked, times: Times) -> Empty:
    if wanted.view != "all":
        everywhere = wanted.but(view="all")
        others = desk.board.page(everywhere.query(times.now))
        if others.total:
            what = "1 key matches" if others.total == 1 else f"{_total(others)} keys match"
            return Empty(
                "match",
                f"Nothing under “{VIEW_TITLES[wanted.view]}” matches",
                f"Among all keys, {what}.",
                everywhere.url(),
                "Show them",
            )
    return Empty(
        "match",
        "Nothing matches",
        "No key has all of what is asked for above.",
        wanted.unfiltered().url(),
        "Clear every filter",
    )


def _nothing_here(view: str, total: int, health: Health) -> Empty:
    checked, when = "The configured buckets hold no state keys.", NEVER
    if total:
        checked, when = f"All {total:,} keys checked", health.data
    if not health.well:
        checked, when = "But not every backend could be read lately: see the notice above.", NEVER
    titles = {
        "attention": "Nothing needs attention" if health.well else "Nothing that is known needs attention",
        "locked": "No lock is held",
        "digest": "No digest is in doubt",
        "unreadable": "Everything could be read",
    }
    if view == "unreadable" and not health.well:
        return Empty("calm", "No single key is unreadable", checked, "/health", "Health")
    title = titles.get(view, "There are no state keys")
    return Empty(
        "calm" if health.well else "match",
        title,
        checked,
        "/states?view=all" if total else "/help",
        "Show all keys" if total else "Help",
        when,
    )


def _pulse(desk: Desk, snapshot: Snapshot, seen: int) -> Response:
    """204 while the page shows what there is; else how many of its rows changed, by an event."""
    if seen == snapshot.generation:
        return _with_age(snapshot, Whole(status=204))
    changed = desk.board.changed_since(seen, asked(request.args).but().query(desk.clock()))
    return _with_age(snapshot, _news(desk, snapshot, changed))


def _pulse_of_key(desk: Desk, snapshot: Snapshot, seen: int) -> Response:
    """The same for the page of one key, with the age of the data of its own backend."""
    own = snapshot.of(request.args.get("backend", ""))
    if seen != snapshot.generation:
        row = desk.board.state(request.args.get("state", ""))
        if fingerprint_of(row, own) != request.args.get("seen", ""):
            return _with_age(own, _news(desk, snapshot, 1))
    return _with_age(own, Whole(status=204))


def _news(desk: Desk, snapshot: Snapshot, changed: int) -> Response:
    news = {"rows": changed, "attention": desk.counted(snapshot)[0].get("attention", 0)}
    return Response(status=200, headers={"HX-Trigger": json.dumps({"lb:changed": news})})


def _with_age(snapshot: Snapshot, answer: Response) -> Response:
    """Only an answer that is one says how old the data is: an error has none to tell of."""
    request.environ[HEADERS] = snapshot.headers
    return answer


def fingerprint_of(row: StateRow | None, own: Snapshot) -> str:
    """What a page about one key shows, in a word: equal means there is nothing new to show. own: of its
    backend.
    """
    if row is None:
        return ""
    well = [report.complete and not report.error for report in own.reports]
    seen = (row.fingerprint, row.content, row.lock, row.terraform, row.document.get("rechecked_at"), well)
    return f"{crc32(repr(seen).encode('utf-8', 'replace')):x}"


def _to_find(text: str, fragment: bool) -> Response:
    target = Asked(text=text, view="attention").url("/find")
    if fragment:
        return Response(status=200, headers={"HX-Redirect": target})
    return see_other(target)


def _addressed(kept: KeptPage, fragment: bool) -> Response:
    """Typing replaces the address, a click adds one to the history, a refresh leaves it."""
    answer = page_response(kept.body(request.environ[NONCE], own_parts()))
    if fragment:
        source = request.headers.get("HX-Source", "")
        if source.startswith("form"):
            answer.headers["HX-Replace-Url"] = kept.canonical
        elif source.startswith("div"):
            answer.headers["HX-Push-Url"] = kept.canonical
    return answer
