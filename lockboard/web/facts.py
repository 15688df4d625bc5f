"""What a key's document says, ready to print: every part that it lacks is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from lockboard.domain.inventory import StateRow
from lockboard.domain.text import shown
from lockboard.domain.words import CONTENT_WORDS, EFFECT_WORDS, LOCK_WORDS
from lockboard.web.desk import Desk
from lockboard.web.marks import SEVERITY_TITLES, content_mark, effect_mark, lock_mark, tone_of
from lockboard.web.rows import operation_words, split_key
from lockboard.web.times import Times, size

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


def key_facts(desk: Desk, row: StateRow, times: Times) -> dict[str, Any]:
    """What is true of a key, as its page and every page that asks about it print it."""
    doc, digest = row.document, whole(row.document.get("digest"), _DIGEST)
    key, raw_key = text_of(doc, "key") or row.key, text_of(doc, "raw_key")
    return {
        "row": row,
        "key": key,
        "copy_key": key if raw_key == key else "",
        "split": split_key(key),
        "tone": tone_of(row.rank),
        "severity": SEVERITY_TITLES.get(tone_of(row.rank), "Not known"),
        "content": content_mark(row.content),
        "lock": lock_mark(row.lock),
        "plan": effect_mark(row.terraform),
        "content_words": CONTENT_WORDS.get(row.content),
        "lock_words": LOCK_WORDS.get(row.lock),
        "plan_meaning": EFFECT_WORDS[row.terraform].meaning if row.terraform in EFFECT_WORDS else "",
        "bucket": text_of(doc, "bucket"),
        "workspace": text_of(doc, "workspace"),
        "protected": bool(doc.get("protected")),
        "object": _object(doc, times),
        "digest": digest,
        "relation": _relation(row, digest),
        "locks": [_lock(entry, times) for entry in entries(doc, "locks")],
        "others": _others(desk, row),
        "others_href": f"/states?view=all&holder={quote_plus(row.holder, errors='replace')}",
        "evidence": [(str(e.get("fact", "")), str(e.get("source", ""))) for e in entries(doc, "evidence")],
    }


def whole(entry: object, names: Sequence[str]) -> dict[str, Any]:
    """The entry with every name, None where it has none."""
    found = entry if isinstance(entry, Mapping) else {}
    return {name: found.get(name) for name in names}


def entries(doc: Entry, name: str, kind: type = Mapping) -> list[Any]:
    """A list's items that are of the kind wanted; nothing where it is no list."""
    found = doc.get(name)
    return (
        [entry for entry in found if isinstance(entry, kind)]
        if isinstance(found, Sequence) and not isinstance(found, str)
        else []
    )


def text_of(doc: Entry, name: str) -> str:
    """A text, "" where it is none."""
    value = doc.get(name)
    return value if isinstance(value, str) else ""


def _object(doc: Entry, times: Times) -> dict[str, Any]:
    found = whole(doc.get("object"), _OBJECT)
    return {
        **found,
        "version_id": shown(str(found["version_id"] or ""), 200),
        "written": times.of(found["last_modified"]),
        "size_words": size(found["size"]),
    }


def _lock(entry: Entry, times: Times) -> dict[str, Any]:
    found = whole(entry, _LOCK)
    acquired = times.of(found["acquired"])
    who = found["who"] if isinstance(found["who"], str) else ""
    since = times.of(found["since"])
    return {
        **found,
        "where": _STORES.get(str(found["store"]), "lock record"),
        "who": who,
        "work": operation_words(found["operation"]) if isinstance(found["operation"], str) else "",
        "since": since,
        "utc": "" if times.zone_name == "UTC" else f"{since.iso[:10]} {since.iso[11:19]} UTC",
        "clock": "by S3's clock" if acquired.iso else "by the holder's own clock",
        "unlock": "",
        "fate": "",
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


def versions_of(doc: Entry, times: Times) -> list[dict[str, Any]]:
    """Every version, newest first. strange: its lineage is not that of the newest state there is, which is
    what a plan to restore asks, too.  name: its ID, fit to show.
    """
    found = [whole(entry, _VERSION) for entry in entries(doc, "versions")]
    newest_first = (whole(doc.get("object"), _OBJECT), *found)
    usual = next((state["lineage"] for state in newest_first if state["lineage"]), None)
    return [
        {
            **version,
            "name": shown(str(version["version_id"] or ""), 200),
            "written": times.of(version["last_modified"]),
            "size_words": size(version["size"]),
            "strange": bool(version["lineage"]) and version["lineage"] != usual,
        }
        for version in found
    ]


def _others(desk: Desk, row: StateRow) -> int:
    return desk.board.locks_of(row.holder, row.id) if row.holder else 0
