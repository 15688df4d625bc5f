"""A record as columns, and back; and what a list of records asks for, as conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_

from lockboard.adapters.store.schema import audit
from lockboard.domain.areas import EVERY_BACKEND, EVERYTHING, Area
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

LONGEST_START = 400
"""Characters of a key that its column holds whatever they are: 4 bytes each at most."""

_KEY, _MARK = '},"key":"', "\x01"
"""What stands before the key in a body, and nowhere behind it: there its facts end, no object comes after it,
and a quote within a text has a backslash before it. The mark takes its place, a character that no body has.
"""
_OTHERS = "".join(map(chr, range(0x20, 0x7F)))
"""Every character that a body has."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER_HALVES = (r"\udc", r"\udd", r"\ude", r"\udf")
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
    if EVERYTHING not in query.scope:
        found.append(or_(literal(value=False), *map(_lies_in, query.scope)))
    return found


def _lies_in(area: Area) -> ColumnElement[bool]:
    of_one = area.backend != EVERY_BACKEND
    backend = audit.c.backend == bounded(area.backend) if of_one else audit.c.backend != ""
    return and_(backend, *_starts(area.prefix)) if area.prefix else backend


def _starts(prefix: str) -> tuple[ColumnElement[bool], ...]:
    """That the key, as S3 has it, starts with this. The column only says what may do so: it is in lower case.

    What it becomes there does not depend on what follows, but for a capital sigma.
    """
    likely, exact = _searchable(prefix.partition("Σ")[0])[:LONGEST_START], json.dumps(prefix)[1:-1]
    body, length = audit.c.body, func.length(audit.c.body)
    # Most bodies have one such place, and then it is enough that what follows it is somewhere at all.
    somewhere = func.length(func.replace(body, _KEY + exact, "")) < length
    once = func.length(func.replace(body, _KEY, "")) == length - len(_KEY)
    marked = func.replace(body, _KEY, _MARK)
    last = func.length(func.rtrim(marked, _OTHERS)) + 1
    there = or_(once, func.substr(marked, last, len(exact)) == exact)
    found = (func.substr(audit.c.key, 1, len(likely)) == likely, somewhere, there)
    if "\ud800" <= prefix[-1] < "\udc00":
        # The first half of a character, alone: where the other half follows, it is that character.
        return *found, func.substr(marked, last + len(exact), 4).not_in(_OTHER_HALVES)
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
