"""One state key: what is true of it, what Terraform does with it, and the ways out in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from flask import Blueprint, Response, abort, redirect, request

from lockboard.domain.errors import AccessDenied, ReadError
from lockboard.domain.inventory import StateRow
from lockboard.domain.words import ACTION_WORDS, CONTENT_WORDS, EFFECT_WORDS, LOCK_WORDS
from lockboard.web.asked import Asked, asked
from lockboard.web.board import fingerprint_of, neighbours
from lockboard.web.desk import Desk, answer, favicon, render_region
from lockboard.web.marks import SEVERITY_TITLES, content_mark, effect_mark, lock_mark, tone_of
from lockboard.web.rows import operation_words, split_key
from lockboard.web.times import NEVER, Moment, Times, size

Entry = Mapping[str, Any]

_OBJECT = (
    "exists",
    "version_id",
    "etag",
    "size",
    "last_modified",
    "md5",
    "serial",
    "lineage",
    "resources",
    "terraform_version",
    "encrypted",
)
_DIGEST = ("present", "valid", "value", "problem")
_LOCK = (
    "store",
    "readable",
    "id",
    "operation",
    "who",
    "version",
    "created",
    "acquired",
    "since",
    "path",
    "problem",
    "raw",
)
_VERSION = (
    "version_id",
    "last_modified",
    "size",
    "delete_marker",
    "latest",
    "md5",
    "serial",
    "lineage",
    "resources",
    "names_digest",
)
_STORES = {"dynamodb": "DynamoDB item", "tflock": ".tflock object"}


def blueprint(desk: Desk) -> Blueprint:
    """The routes of one key."""
    pages = Blueprint("detail", __name__)

    @pages.get("/s/<state_id>")
    def state(state_id: str) -> Response:
        return _page(desk, _row(desk, state_id), asked(request.args))

    @pages.post("/s/<state_id>/recheck")
    def recheck(state_id: str) -> Response:
        row, wanted = _row(desk, state_id), asked(request.form)
        try:
            desk.recheck(row.backend, row.id)
        except ReadError as error:
            return _page(desk, row, wanted, error)
        desk.watch.forget()
        target = redirect(wanted.url(f"/s/{row.id}"), 303)
        assert isinstance(target, Response)
        return target

    return pages


def _row(desk: Desk, state_id: str) -> StateRow:
    row = desk.board.state(state_id) if len(state_id) <= 64 else None
    if row is None:
        abort(
            404,
            "No state key has this address. It may be gone, or its backend is no longer configured.",
        )
    return row


def _page(desk: Desk, row: StateRow, wanted: Asked, error: ReadError | None = None) -> Response:
    context = detail_page(desk, row, wanted)
    context["failure"] = _failure(error) if error else None
    html = render_region("state/state.html", "state/_region.html", **context)
    return answer(html, 502 if error else 200)


def detail_page(desk: Desk, row: StateRow, wanted: Asked) -> dict[str, object]:
    """Everything the page prints. A part that the document lacks is not known; it never counts as well."""
    snapshot, times, doc = desk.watch.snapshot(), desk.times(), row.document
    health = desk.health(snapshot, times)
    report = next((r for r in snapshot.reports if r.backend == row.backend), None)
    content, lock, plan = content_mark(row.content), lock_mark(row.lock), effect_mark(row.terraform)
    before, after = neighbours(desk.board, row.id, wanted, times)
    key, attention = _text(doc, "key") or row.key, desk.counted(snapshot)[0].get("attention", 0)
    digest, held = whole(doc.get("digest"), _DIGEST), [_lock(entry, times) for entry in _list(doc, "locks")]
    raw_key = _text(doc, "raw_key")
    return {
        "row": row,
        "key": key,
        "copy_key": key if raw_key == key else "",
        "split": split_key(key),
        "title": f"{split_key(key)[1]} · {row.backend} · Lockboard",
        "icon": favicon(attention),
        "attention": attention,
        "snapshot": snapshot,
        "seen": fingerprint_of(row),
        "health": health,
        "old_after": int(desk.old_after.total_seconds()),
        "canonical": wanted.but().url(f"/s/{row.id}"),
        "hidden": wanted.but().pairs(),
        "list_url": wanted.but().url(),
        "beside": Asked(view="all", backend=row.backend, prefix=split_key(key)[0]).url(),
        "previous": before,
        "next": after,
        "tone": tone_of(row.rank),
        "severity": SEVERITY_TITLES.get(tone_of(row.rank), "Not known"),
        "content": content,
        "lock": lock,
        "plan": plan,
        "content_words": CONTENT_WORDS.get(row.content),
        "lock_words": LOCK_WORDS.get(row.lock),
        "plan_meaning": EFFECT_WORDS[row.terraform].meaning if row.terraform in EFFECT_WORDS else "",
        "bucket": _text(doc, "bucket"),
        "workspace": _text(doc, "workspace"),
        "protected": bool(doc.get("protected")),
        "object": _object(doc, times),
        "digest": digest,
        "relation": _relation(row, digest),
        "locks": held,
        "others": _others(desk, row),
        "remedies": [_remedy(entry) for entry in _list(doc, "remedies")],
        "dangers": [str(danger) for danger in _list(doc, "dangers", str)],
        "evidence": [(str(e.get("fact", "")), str(e.get("source", ""))) for e in _list(doc, "evidence")],
        "prints": _text(doc, "prints"),
        "commands": [(str(c.get("label", "")), str(c.get("command", ""))) for c in _list(doc, "commands")],
        "versions": _versions(doc, times),
        "restore": _to_restore(_list(doc, "remedies")),
        "versions_known": isinstance(doc.get("versions"), list),
        "versions_complete": bool(doc.get("versions_complete")),
        "timeline": _timeline(desk, row, times),
        "settles": times.of(doc.get("settles_at")),
        "checked": _checked(doc, report.data_at if report else None, times),
        "late": next((moment for r, moment in health.unread if r.backend == row.backend), None),
        "known_backend": row.backend in desk.backends,
    }


def whole(entry: object, names: Sequence[str]) -> dict[str, Any]:
    """The entry with every name, None where it has none."""
    found = entry if isinstance(entry, Mapping) else {}
    return {name: found.get(name) for name in names}


def _list(doc: Entry, name: str, kind: type = Mapping) -> list[Any]:
    found = doc.get(name)
    return (
        [entry for entry in found if isinstance(entry, kind)]
        if isinstance(found, Sequence) and not isinstance(found, str)
        else []
    )


def _text(doc: Entry, name: str) -> str:
    value = doc.get(name)
    return value if isinstance(value, str) else ""


def _object(doc: Entry, times: Times) -> dict[str, Any]:
    found = whole(doc.get("object"), _OBJECT)
    return {**found, "written": times.of(found["last_modified"]), "size_words": size(found["size"])}


def _lock(entry: Entry, times: Times) -> dict[str, Any]:
    found = whole(entry, _LOCK)
    acquired = times.of(found["acquired"])
    who = found["who"] if isinstance(found["who"], str) else ""
    return {
        **found,
        "where": _STORES.get(str(found["store"]), "lock record"),
        "who": who,
        "work": operation_words(found["operation"]) if isinstance(found["operation"], str) else "",
        "since": times.of(found["since"]),
        "clock": "by S3's clock" if acquired.iso else "by the holder's own clock",
        "holder_href": f"/states?view=all&holder={quote_plus(who, errors='replace')}" if who else "",
    }


def _relation(row: StateRow, digest: Entry) -> str:
    """The sign between object and digest: `=` only where they are proven equal."""
    if row.content == "ok":
        return "="
    if digest["present"] is not True or row.content in (
        "unknown",
        "state_unreadable",
        "digest_ignored",
        "no_digest",
        "absent",
    ):
        return "?" if digest["present"] is None or row.content in ("unknown", "state_unreadable") else ""
    return "≠"


def _others(desk: Desk, row: StateRow) -> int:
    return desk.board.locks_of(row.holder, row.id) if row.holder else 0


def _remedy(entry: Entry) -> dict[str, Any]:
    action = str(entry.get("action", ""))
    words = ACTION_WORDS.get(action)
    return {
        "title": words.title if words else action,
        "meaning": words.meaning if words else "",
        "why": str(entry.get("why", "")),
        "recommended": entry.get("recommended") is True,
        "named": [
            (label, str(entry[name]))
            for label, name in (("version", "version_id"), ("lock ID", "lock_id"), ("digest", "digest"))
            if entry.get(name)
        ],
    }


def _to_restore(remedies: Sequence[Entry]) -> str:
    """The version that the recommended remedy restores, "" where it restores none."""
    found = (str(r.get("version_id") or "") for r in remedies if r.get("recommended") is True)
    return next(filter(None, found), "")


def _versions(doc: Entry, times: Times) -> list[dict[str, Any]]:
    found = [whole(entry, _VERSION) for entry in _list(doc, "versions")]
    lineages = [version["lineage"] for version in found if version["lineage"]]
    usual = max(set(lineages), key=lineages.count) if lineages else None
    return [
        {
            **version,
            "written": times.of(version["last_modified"]),
            "size_words": size(version["size"]),
            "strange": bool(version["lineage"]) and version["lineage"] != usual,
        }
        for version in found
    ]


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


def _failure(error: ReadError) -> dict[str, str]:
    return {"text": str(error), "permission": error.operation if isinstance(error, AccessDenied) else ""}
