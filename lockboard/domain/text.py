"""Untrusted text made fit to show: the one sanitiser between AWS and every page, row and line of output."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

# Printable by Unicode's classes, yet drawn as nothing: fillers, inherent vowels, Braille blank, variation
# selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)


def shown(text: str, limit: int = 4096) -> str:
    """`text` with every control, bidirectional, zero-width, surrogate and odd space character written as an
    escape.

    What comes back can be encoded as UTF-8, stored in any database and put on one line; it is not reversible,
    so nothing compares or addresses with it. Past `limit` characters the rest is counted, not shown.
    """
    if len(text) > limit:
        return f"{shown(text[:limit], limit)}… ({len(text) - limit} more characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c not in _INVISIBLE else _escape(c) for c in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_USER = re.compile(r"[^:/?]*:")
_PLAIN = frozenset(
    {
        *("host", "hostaddr", "port", "user", "dbname", "application_name", "connect_timeout"),
        *("sslmode", "sslrootcert", "target_session_attrs"),
    }
)


def masked(text: str) -> str:
    """`text` without what a URL in it keeps secret: its password, and of its query every value but those that
    are known to be none, for a database takes its passwords there, too, under several names.
    """
    scheme, found, rest = text.partition("://")
    user = _USER.match(rest)
    end = rest.find("@", user.end()) if user else -1
    asks = rest.find("?", max(end, 0))
    place, query = (rest, "") if asks < 0 else (rest[:asks], rest[asks + 1 :])
    if user and end >= 0:  # up to the last: one in a password may not be escaped
        place = f"{user[0]}••••{place[place.rindex('@') :]}"
    asked = f"?{'&'.join(map(_masked_value, query.split('&')))}" if query else ""
    return f"{scheme}{found}{place}{asked}"


def _masked_value(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}={value if name in _PLAIN else '••••'}" if equals else part


def utc(moment: datetime) -> str:
    """`2026-11-20T18:00:00Z`: RFC 3339 in UTC, whole seconds."""
    return _iso(moment, "T") + "Z"


def spoken_time(moment: datetime) -> str:
    """`2026-11-20 18:00:00 UTC`, for sentences."""
    return _iso(moment, " ") + " UTC"


def _iso(moment: datetime, between: str) -> str:
    # strftime writes the year 33 with two digits, which nothing reads back.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(between, "seconds")


def spoken_span(span: timedelta) -> str:
    """A length of time in its two largest units: `3 h 12 min`, `45 s`, `2 d 4 h`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    units = (("d", 86400), ("h", 3600), ("min", 60))
    parts: list[str] = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)
