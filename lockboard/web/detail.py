"""One state key: what is true of it, what Terraform does with it, and the ways out in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, abort, request

from lockboard.domain.access import Permission
from lockboard.domain.audit import AuditError, Kind
from lockboard.domain.errors import AccessDenied, ReadError
from lockboard.domain.inventory import StateRow
from lockboard.domain.model import Action, LockStatus
from lockboard.domain.plans import RESTORABLE
from lockboard.domain.text import shown
from lockboard.domain.words import ACTION_WORDS
from lockboard.web.access import may
from lockboard.web.asked import Asked, asked
from lockboard.web.audit import audit_lines, undoing
from lockboard.web.audit_words import action_title, mark_of
from lockboard.web.board import fingerprint_of, neighbours
from lockboard.web.desk import Desk, answer, favicon, render_region, see_other
from lockboard.web.facts import Entry, entries, key_facts, text_of, versions_of
from lockboard.web.marks import content_mark, lock_mark
from lockboard.web.times import NEVER, Moment, Times
from lockboard.web.ways import WAYS, way_to

_LARGEST_SEQ = 2**63 - 1


def blueprint(desk: Desk) -> Blueprint:
    """The routes of one key."""
    pages = Blueprint("detail", __name__)

    @pages.get("/s/<state_id>")
    def state(state_id: str) -> Response:
        return _page(desk, known_row(desk, state_id), asked(request.args))

    @pages.post("/s/<state_id>/recheck")
    def recheck(state_id: str) -> Response:
        row, wanted = known_row(desk, state_id), asked(request.form)
        try:
            desk.recheck(row.backend, row.id)
        except ReadError as error:
            return _page(desk, row, wanted, error)
        desk.forget()
        return see_other(wanted.url(f"/s/{row.id}"))

    return pages


def known_row(desk: Desk, state_id: str) -> StateRow:
    """The row of this address; ends the request with 404 where there is none."""
    row = desk.board.state(state_id) if len(state_id) <= 64 else None
    if row is None:
        abort(
            404,
            "No state key has this address. It may be gone, or its backend is no longer configured.",
        )
    return row


def _page(desk: Desk, row: StateRow, wanted: Asked, error: ReadError | None = None) -> Response:
    context = detail_page(desk, row, wanted)
    context["failure"] = read_failure(error) if error else None
    context["told"] = None if error else _told(desk, row, request.args.get("done", ""))
    html = render_region("state/state.html", "state/_region.html", **context)
    return answer(html, 502 if error else 200)


def detail_page(desk: Desk, row: StateRow, wanted: Asked) -> dict[str, object]:
    """Everything the page prints. A part that the document lacks is not known; it never counts as well."""
    snapshot, times, doc = desk.watch.snapshot(), desk.times(), row.document
    own = snapshot.of(row.backend)
    health = desk.health(own, times, (row.backend,))
    before, after = neighbours(desk.board, row.id, wanted, times)
    attention = desk.counted(snapshot)[0].get("attention", 0)
    facts = key_facts(desk, row, times)
    allowed = may(Permission.ACT, row.backend, row.raw_key)
    acts = desk.actions is not None and allowed and row.backend in desk.backends
    offer = _Offer(row, wanted.but().string(), acts=acts)
    return {
        **facts,
        "title": f"{facts['split'][1]} · {row.backend} · Lockboard",
        "icon": favicon(attention),
        "attention": attention,
        "snapshot": snapshot,
        "seen": fingerprint_of(row, own),
        "health": health,
        "old_after": int(desk.old_after.total_seconds()),
        "canonical": wanted.but().url(f"/s/{row.id}"),
        "hidden": wanted.but().pairs(),
        "list_url": wanted.but().url(),
        "beside": Asked(view="all", backend=row.backend, prefix=facts["split"][0]).url(),
        "previous": before,
        "next": after,
        "locks": [{**held, "unlock": offer.unlock(held, facts["locks"])} for held in facts["locks"]],
        "remedies": [_remedy(entry, offer) for entry in entries(doc, "remedies")],
        "acts": offer.acts,
        "only_looks": desk.actions is not None and not allowed,
        "dangers": [str(danger) for danger in entries(doc, "dangers", str)],
        "prints": text_of(doc, "prints"),
        "commands": [(str(c.get("label", "")), str(c.get("command", ""))) for c in entries(doc, "commands")],
        "versions": [
            {**found, "href": offer.restore(found, facts["object"])} for found in versions_of(doc, times)
        ],
        "restore": _to_restore(entries(doc, "remedies")),
        "versions_known": isinstance(doc.get("versions"), list),
        "versions_complete": bool(doc.get("versions_complete")),
        "timeline": _timeline(desk, row, times),
        "audited": audit_lines(desk, row, times),
        "settles": times.of(doc.get("settles_at")),
        "checked": _checked(doc, own.data_at, times),
        "late": next((moment for _, moment in health.unread), None),
        "known_backend": row.backend in desk.backends,
    }


# ---------------------------------------------------------------- ways out


class _Offer:
    """Where the actions on one key are confirmed; "" for what is not offered. query: the reader's list."""

    def __init__(self, row: StateRow, query: str, *, acts: bool) -> None:
        self.acts, self._row, self._query = acts, row, query
        self._remedies = {str(entry.get("action")) for entry in entries(row.document, "remedies")}

    def way(self, action: str, store: str = "", version: str = "") -> str:
        if not self.acts:
            return ""
        return way_to(self._row.id, action, store=store, version=version, query=self._query)

    def unlock(self, held: Entry, locks: Sequence[Entry]) -> str:
        """One of two locks that differ is named by its store."""
        if self._row.lock == LockStatus.KEY_COLLISION:
            return ""
        names = {lock["id"] if lock["readable"] else lock["store"] for lock in locks}
        return self.way(Action.FORCE_UNLOCK, store=str(held["store"] or "") if len(names) > 1 else "")

    def restore(self, version: Entry, current: Entry) -> str:
        """Of a version with other bytes than stand now; under a dead holder's lock by taking it over."""
        same = current["exists"] and (
            version["latest"] or (version["md5"] and version["md5"] == current["md5"])
        )
        if same or version["delete_marker"] or not version["size"] or version["strange"]:
            return ""
        if self._row.content not in RESTORABLE:
            return ""
        if self._row.lock == LockStatus.UNLOCKED:
            return self.way(Action.RESTORE_VERSION, version=str(version["version_id"] or ""))
        if Action.TAKE_OVER in self._remedies:
            return self.way(Action.TAKE_OVER, version=str(version["version_id"] or ""))
        return ""


def _told(desk: Desk, row: StateRow, done: str) -> dict[str, Any] | None:
    """What became of the attempt that led here, from its record; None for a record of another state."""
    if desk.audit is None or not (done.isascii() and done.isdecimal() and len(done) < 20):
        return None
    try:
        found = desk.audit.record(int(done)) if 0 < int(done) <= _LARGEST_SEQ else None
        if found is None or found.entry.state_id != row.id or found.entry.kind is Kind.EVENT:
            return None
        attempt = desk.audit.of_action(found.entry.action_id) if found.entry.kind is Kind.INTENT else [found]
    except AuditError:
        return None
    found = attempt[-1]
    still_open = found.entry.kind is Kind.INTENT
    text = (
        "Its outcome is not recorded yet. Reload this page in a minute."
        if still_open
        else found.entry.message
    )
    way = undoing(desk, found, desk.times())
    return {
        "mark": mark_of(found, is_open=still_open),
        "action": action_title(found.entry.action),
        "text": text if still_open else shown(found.entry.message),
        "at": desk.times().moment(found.at),
        "seq": found.seq,
        "undo": way.url,
        "until": way.until,
    }


# ---------------------------------------------------------------- parts of a document


def _remedy(entry: Entry, offer: _Offer) -> dict[str, Any]:
    action = str(entry.get("action", ""))
    words = ACTION_WORDS.get(action)
    store, version = str(entry.get("store") or ""), str(entry.get("version_id") or "")
    return {
        "href": offer.way(action, store, version),
        "link": WAYS[action].link if action in WAYS else "",
        "title": words.title if words else action,
        "meaning": words.meaning if words else "",
        "why": str(entry.get("why", "")),
        "recommended": entry.get("recommended") is True,
        "named": [
            (label, shown(str(entry[name]), 200))
            for label, name in (("version", "version_id"), ("lock ID", "lock_id"), ("digest", "digest"))
            if entry.get(name)
        ],
    }


def _to_restore(remedies: Sequence[Entry]) -> str:
    """The version that the recommended remedy restores, "" where it restores none."""
    found = (str(r.get("version_id") or "") for r in remedies if r.get("recommended") is True)
    return next(filter(None, found), "")


def _timeline(desk: Desk, row: StateRow, times: Times) -> list[dict[str, Any]]:
    """Changes of the verdict, newest first."""
    return [
        {
            "at": times.moment(when),
            "content": content_mark(content),
            "lock": lock_mark(lock),
            "locked": lock != "unlocked",
            "holder": holder,
        }
        for when, content, lock, holder in desk.board.timeline(row.id)
    ]


def _checked(doc: Entry, data_at: Any, times: Times) -> Moment:
    read, rechecked = times.moment(data_at), times.of(doc.get("rechecked_at"))
    return max(read, rechecked, key=lambda moment: moment.iso) if read.iso or rechecked.iso else NEVER


def read_failure(error: ReadError) -> dict[str, str]:
    """What AWS said, and the permission that is missing, "" where none is known to be."""
    return {"text": str(error), "permission": error.operation if isinstance(error, AccessDenied) else ""}
