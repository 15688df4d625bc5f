"""A record as columns, and back; and what a list of records asks for, as conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement

from lockboard.adapters.store.schema import audit
from lockboard.domain.audit import UNREADABLE, AuditQuery, Entry, Kind, Person, Record, Stored, entry_of
from lockboard.domain.text import shown

KEY_BYTES = 2000
TEXT_BYTES = 400
"""What a column holds of a text, and so an entry of an index, which PostgreSQL limits to 2,704 bytes."""

WORD_LIMIT = 32
"""Words of a key that are looked for; each costs a comparison per record."""

COPIES = tuple(name for name in audit.columns.keys() if name not in ("seq", "mac", "body"))  # noqa: SIM118
"""The columns that repeat what the body says."""

WHOLE = (audit.c.seq, audit.c.at, audit.c.mac, audit.c.body)
"""What makes a Record."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = ("person", "action", "kind", "result", "backend", "ticket", "state_id", "action_id")


def columns_of(_seq: int, at: datetime, entry: Entry) -> Mapping[str, object]:
    """The copies beside the body. The key in lower case, for words are looked for in it."""
    return {
        "at": at.timestamp(),
        "kind": entry.kind.value,
        "action": bounded(entry.action),
        "result": bounded(entry.result),
        "person": bounded(entry.person.name),
        "backend": bounded(entry.backend),
        "key": _searchable(entry.key),
        "ticket": bounded(entry.ticket),
        "state_id": bounded(entry.state_id),
        "action_id": bounded(entry.action_id),
    }


def bounded(text: str, limit: int = TEXT_BYTES) -> str:
    """The text as shown, or the start of it, in at most `limit` bytes of UTF-8."""
    found = shown(text, limit)
    if len(found) * 4 <= limit:
        return found
    return found.encode()[:limit].decode("utf-8", "ignore")


def record_of(row: Any) -> Record:
    """The record in a row of `WHOLE`.

    One whose body cannot be read has the action `UNREADABLE`, so that it never hides the others.
    """
    body, mac = _text(row.body), _text(row.mac)
    try:
        at, entry = entry_of(body)
    except ValueError:
        said = "The record was changed after it was written and cannot be read any more."
        entry = Entry(Kind.EVENT, UNREADABLE, Person("", "", ""), message=said)
        return Record(row.seq, _moment(row.at), entry, shown(body), shown(mac, 64))
    return Record(row.seq, at, entry, body, mac)


def stored_of(row: Any) -> Stored:
    """The same, believed in nothing."""
    found = row._asdict()
    return Stored(row.seq, row.body, row.mac, {name: found[name] for name in COPIES})


def conditions(query: AuditQuery) -> list[ColumnElement[bool]]:
    """What a record must meet, wherever the page begins and ends."""
    found = [audit.c[name] == bounded(value) for name in _EXACT if (value := getattr(query, name))]
    words = dict.fromkeys(shown(query.key, KEY_BYTES).lower().split())
    found += [audit.c.key.contains(word, autoescape=True) for word in list(words)[:WORD_LIMIT]]
    if query.since is not None:
        found.append(audit.c.at >= query.since.timestamp())
    if query.until is not None:
        found.append(audit.c.at < query.until.timestamp())
    return found


def _searchable(key: str) -> str:
    return bounded(shown(key, KEY_BYTES).lower(), KEY_BYTES)


def _moment(at: object) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC) if isinstance(at, float) else _EPOCH
    except (ValueError, OverflowError, OSError):
        return _EPOCH


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
