"""Records of the audit log, ready to print: every text fit to show, none of it escaped yet."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from lockboard.domain.audit import Kind, Record, Result
from lockboard.domain.text import shown, spoken_time, utc
from lockboard.web.audit_words import KIND_TITLES, action_title, mark_of
from lockboard.web.marks import Mark
from lockboard.web.rows import split_key
from lockboard.web.times import Times

_LONG = 4096
_STORES = {"dynamodb": "Lock item", "tflock": ".tflock"}
_DEPTH = 5


class Change(NamedTuple):
    """One thing that an attempt changes. short: both sides in a few characters.  exact: the record that stood
    there, whole, where it was a lock.
    """

    what: str
    before: str
    after: str
    short: str
    exact: str = ""


class Line(NamedTuple):
    """A record in a list. at, iso: when, in UTC.  exact: to the microsecond.  local: in the reader's zone, ""
    where that is UTC.  change: before and after in short, `planned` where it is not known to have happened.
    quiet: it says nothing that another line does not, or that nothing happened.
    """

    seq: int
    iso: str
    at: str
    exact: str
    local: str
    kind: str
    mark: Mark
    action: str
    person: str
    signed: str
    backend: str
    before: str
    name: str
    behind: str
    state_href: str
    reason: str
    ticket: str
    message: str
    change: str
    planned: bool
    attempt: str
    quiet: bool


def lines(records: Sequence[Record], open_ids: Collection[str], times: Times) -> list[Line]:
    """Every record, in the order given. open_ids: attempts whose intent has no outcome."""
    plans = {
        record.entry.action_id: record.entry.facts
        for record in records
        if record.entry.kind is Kind.INTENT and record.entry.action_id
    }
    return [
        line(record, times, plans.get(record.entry.action_id), is_open=_open(record, open_ids))
        for record in records
    ]


def line(
    record: Record, times: Times, intended: Mapping[str, Any] | None = None, *, is_open: bool = False
) -> Line:
    """One record. intended: facts of its attempt's intent, for an outcome that does not repeat the plan."""
    entry, at = record.entry, when(record)
    before, name, behind = split_key(shown(entry.key, 1200))
    found = changes(entry.facts, intended)
    return Line(
        seq=record.seq,
        iso=utc(at),
        at=spoken_time(at),
        exact=f"{at.replace(tzinfo=None).isoformat(' ', 'microseconds')} UTC",
        local="" if times.zone_name == "UTC" else times.moment(at).long,
        kind=KIND_TITLES[entry.kind],
        mark=mark_of(record, is_open=is_open),
        action=action_title(entry.action),
        person=shown(entry.person.name, 200),
        signed=" · ".join(shown(text, 100) for text in (entry.person.method, entry.person.address) if text),
        backend=shown(entry.backend, 100),
        before=before,
        name=name,
        behind=behind,
        state_href=f"/s/{quote(entry.state_id, safe='', errors='replace')}" if entry.state_id else "",
        reason=shown(entry.reason, _LONG),
        ticket=shown(entry.ticket, 200),
        message=shown(entry.message, _LONG),
        change="; ".join(one.short for one in found if one.short),
        planned=not happened(record),
        attempt=entry.action_id,
        quiet=(entry.kind is Kind.INTENT and not is_open) or entry.action == "heartbeat",
    )


def happened(record: Record) -> bool:
    """Whether what its facts describe is known to be so."""
    return record.entry.result == Result.DONE


def when(record: Record) -> datetime:
    """In UTC. A record that was changed may name a moment that has none."""
    try:
        return record.at.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _open(record: Record, open_ids: Collection[str]) -> bool:
    return record.entry.kind is Kind.INTENT and record.entry.action_id in open_ids


# ---------------------------------------------------------------- before and after


def changes(facts: Mapping[str, Any], intended: Mapping[str, Any] | None = None) -> list[Change]:
    """What the plan in the facts, or else in those of the intent, changes, in its order. What is not a plan
    of ours gives nothing.
    """
    plan = _mapping(facts.get("plan")) or _mapping((intended or {}).get("plan"))
    found = [_released(lock) for lock in _mappings(plan.get("releases"))]
    found += [_put_back(lock) for lock in _mappings(plan.get("puts_back"))]
    found += [_taken_over(lock) for lock in _mappings(plan.get("over"))]
    restored = _mapping(plan.get("restores"))
    if restored:
        found.append(_restored(restored, _mapping(plan.get("standing")), _mapping(facts.get("written"))))
    digest = _mapping(plan.get("digest"))
    if digest:
        found.append(_digest(digest))
    return found


def _released(lock: Mapping[str, Any]) -> Change:
    store, held = _store(lock), _lock_words(lock)
    return Change(store, held, "removed", f"{store} {_lock_name(lock)} → removed", _exact(lock))


def _put_back(lock: Mapping[str, Any]) -> Change:
    store = _store(lock)
    return Change(store, "none", _text(lock.get("raw")), f"{store} none → put back")


def _taken_over(lock: Mapping[str, Any]) -> Change:
    store = _store(lock)
    return Change(
        store,
        _lock_words(lock),
        "taken over by Lockboard, then released",
        f"{store} {_lock_name(lock)} → taken over",
        _exact(lock),
    )


def _restored(version: Mapping[str, Any], standing: Mapping[str, Any], written: Mapping[str, Any]) -> Change:
    before = _object_words(standing) if standing else "no object"
    after = _object_words(version)
    if written.get("version_id"):
        after += f", written as version {_text(written['version_id'])}"
    old = _serial(standing) or "the object" if standing else "no object"
    return Change("State object", before, after, f"State {old} → {_serial(version) or 'restored'}")


def _digest(change: Mapping[str, Any]) -> Change:
    old = "none" if change.get("absent") else _attribute(change.get("old")) or "no value"
    new = _text(change.get("new")) or "removed"
    return Change("Digest", old, new, f"Digest {_cut(old)} → {_cut(new)}")


def _store(lock: Mapping[str, Any]) -> str:
    return _STORES.get(str(lock.get("store")), "Lock")


def _exact(lock: Mapping[str, Any]) -> str:
    """What stood in the store: the text itself, or the attribute where that is no text."""
    attribute = _mapping(lock.get("attribute"))
    if attribute and set(attribute) != {"S"}:
        return _text(attribute)
    return _text(attribute.get("S") or lock.get("raw"))


def _lock_name(lock: Mapping[str, Any]) -> str:
    return _cut(_text(lock.get("id")) or _text(lock.get("who")) or "unreadable")


def _lock_words(lock: Mapping[str, Any]) -> str:
    named = (("ID", "id"), ("held by", "who"), ("for", "operation"), ("ETag", "etag"))
    said = [f"{words} {_text(lock[name])}" for words, name in named if lock.get(name)]
    return ", ".join(said) or f"unreadable: {_text(lock.get('raw'))}"


def _object_words(version: Mapping[str, Any]) -> str:
    named = (("version", "version_id"), ("serial", "serial"), ("MD5", "md5"), ("lineage", "lineage"))
    said = [f"{words} {_text(version[name])}" for words, name in named if version.get(name) is not None]
    return ", ".join(said) or f"ETag {_text(version.get('etag'))}"


def _serial(version: Mapping[str, Any]) -> str:
    return f"serial {_text(version['serial'])}" if version.get("serial") is not None else ""


def _attribute(value: object) -> str:
    """A DynamoDB attribute: the string itself, or whatever else stands there."""
    found = _mapping(value)
    return _text(found["S"]) if set(found) == {"S"} else _text(value)


def _cut(text: str) -> str:
    """Enough of an ID or a checksum to tell it apart."""
    return text if len(text) <= 12 else f"{text[:8]}…"


def _text(value: object) -> str:
    if value is None:
        return ""
    return shown(value if isinstance(value, str) else pretty(value, indent=None), _LONG)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    found = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [item for item in found if isinstance(item, Mapping)]


# ---------------------------------------------------------------- the rest of a record


class Reply(NamedTuple):
    """What AWS answered to one call. target: the object's key or the item's lock ID.  became: `done`, `lost`,
    … of `writes.Sent`.  detail: in its words.  version_id: of the object that it wrote.
    """

    call: str
    target: str
    became: str
    detail: str
    request_id: str
    version_id: str


def replies(facts: Mapping[str, Any]) -> list[Reply]:
    """Every receipt that the facts hold, in their order."""
    names = ("operation", "target", "sent", "detail", "request_id", "version_id")
    return [Reply(*(_text(found.get(name)) for name in names)) for found in _receipts(facts, _DEPTH)]


class Seen(NamedTuple):
    """What Lockboard knew of the key as the attempt was decided. facts: each with where it was read."""

    summary: str
    facts: Sequence[tuple[str, str]]


def seen(facts: Mapping[str, Any], intended: Mapping[str, Any] | None = None) -> Seen | None:
    """From the facts, or else those of the intent; None where neither says."""
    found = _mapping(facts.get("seen")) or _mapping((intended or {}).get("seen"))
    if not found:
        return None
    known = _mappings(found.get("evidence"))
    return Seen(_text(found.get("summary")), [(_text(k.get("fact")), _text(k.get("source"))) for k in known])


def request_ids(facts: Mapping[str, Any]) -> list[str]:
    """AWS's IDs of the calls, in their order."""
    return [reply.request_id for reply in replies(facts) if reply.request_id]


def _receipts(value: object, depth: int) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if "request_id" in value:
            return [value]
        parts: Iterable[object] = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        return []
    return [found for part in parts for found in _receipts(part, depth - 1)] if depth else []


def pretty(value: object, indent: int | None = 2) -> str:
    """JSON for reading, in ASCII, so that nothing in it can change how it reads; deeper than Python can
    indent, it stays on one line.
    """
    try:
        return json.dumps(value, ensure_ascii=True, sort_keys=True, indent=indent, default=str)
    except RecursionError:
        return json.dumps(value, ensure_ascii=True, default=str)
