"""The audit list as its URL says it, and back: one canonical spelling for each list."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import quote_plus

from lockboard.domain.audit import AuditQuery, Kind, Result
from lockboard.domain.text import shown
from lockboard.web.asked import BadQuery
from lockboard.web.audit_words import KIND_TITLES, RESULT_TITLES, action_title, day_words

_LONGEST = 1200
_DASH = "\u2013"
_WORD = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AskedAudit:
    """What a list's URL asks for. since, until: whole days in UTC, both included.  The rest as in
    `AuditQuery`.
    """

    kind: str = ""
    person: str = ""
    action: str = ""
    result: str = ""
    backend: str = ""
    key: str = ""
    ticket: str = ""
    state_id: str = ""
    action_id: str = ""
    since: date | None = None
    until: date | None = None
    before: int | None = None
    after: int | None = None

    def query(self, limit: int) -> AuditQuery:
        same = {name: getattr(self, name) for name in _TEXTS}
        return AuditQuery(
            **same,
            since=_midnight(self.since) if self.since else None,
            until=_midnight(self.until + timedelta(days=1)) if self.until else None,
            before=self.before,
            after=self.after,
            limit=limit,
        )

    def but(self, **changes: object) -> AskedAudit:
        """The first page of the same list with something changed."""
        return replace(self, **{"before": None, "after": None, **changes})  # type: ignore[arg-type]

    @property
    def paged(self) -> bool:
        return self.before is not None or self.after is not None

    @property
    def narrowed(self) -> bool:
        """Whether anything besides the days narrows it."""
        return any(getattr(self, name) for name in _TEXTS)

    def pairs(self) -> list[tuple[str, str]]:
        """Name and value of each parameter that is set, in their canonical order."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, str(value)) for name, value in named if value not in ("", None)]

    def string(self) -> str:
        return "&".join(f"{name}={quote_plus(value, errors='replace')}" for name, value in self.pairs())

    def url(self, path: str = "/audit") -> str:
        query = self.string()
        return f"{path}?{query}" if query else path

    def chips(self) -> list[tuple[str, str]]:
        """(what narrows the list, the URL without it)."""
        return [
            (words, self.but(**{name: None if name in ("since", "until") else ""}).url())
            for name, words in self._said()
        ]

    def words(self) -> str:
        """What narrows the list, in a line; "" where nothing does."""
        return ", ".join(words for _, words in self._said())

    def window(self) -> str:
        """The days it covers, "" for all."""
        return days_words(self.since, self.until)

    def _said(self) -> list[tuple[str, str]]:
        said = (
            ("kind", KIND_TITLES.get(self.kind, "").lower() + " records", self.kind),
            ("person", f"by {shown(self.person, 120)}", self.person),
            ("action", f"action {action_title(self.action).lower()}", self.action),
            ("result", f"result {RESULT_TITLES.get(self.result, '').lower()}", self.result),
            ("backend", f"backend {shown(self.backend, 120)}", self.backend),
            ("key", f"key has “{shown(self.key, 200)}”", self.key),
            ("ticket", f"ticket {shown(self.ticket, 120)}", self.ticket),
            ("state_id", f"state {self.state_id}", self.state_id),
            ("action_id", f"attempt {self.action_id}", self.action_id),
            ("since", f"since {day_words(self.since)}" if self.since else "", self.since),
            ("until", f"until {day_words(self.until)}" if self.until else "", self.until),
        )
        return [(name, words) for name, words, active in said if active]


_TEXTS = ("kind", "person", "action", "result", "backend", "key", "ticket", "state_id", "action_id")
NAMES = frozenset(field.name for field in fields(AskedAudit))
"""Every parameter of the list."""


def asked_audit(args: Mapping[str, str]) -> AskedAudit:
    """Read a URL's parameters. Those that are not ours are passed over, empty ones mean any.

    Raises:
        BadQuery: a value is none that a list has.
    """
    since, until = _day(args, "since"), _day(args, "until")
    if since and until and since > until:
        raise BadQuery(f"since ({since}) is after until ({until}): no day lies between them.")
    before, after = _seq(args, "before"), _seq(args, "after")
    if before is not None and after is not None:
        raise BadQuery("before and after lead to different pages: only one of them can be given.")
    return AskedAudit(
        kind=_one_of(args, "kind", [str(kind) for kind in Kind]),
        person=_text(args, "person"),
        action=_matching(args, "action", _WORD, "a name such as force_unlock or export"),
        result=_one_of(args, "result", [str(result) for result in Result]),
        backend=_text(args, "backend"),
        key=" ".join(_text(args, "key").split()),
        ticket=_text(args, "ticket").strip(),
        state_id=_matching(args, "state_id", _ID, "the address of a state, as it stands after /s/"),
        action_id=_matching(args, "action_id", _ID, "the ID of one attempt, a UUID"),
        since=since,
        until=until,
        before=before,
        after=after,
    )


def days_words(since: date | None, until: date | None) -> str:
    """The window in words, naming month and year once where both ends share them; "" for no bound."""
    if since and until:
        if since == until:
            return day_words(since)
        last = day_words(until)
        if (since.year, since.month) == (until.year, until.month):
            return f"{since.day}{_DASH}{last}"
        first = day_words(since)
        return f"{first.removesuffix(f' {until.year}') if since.year == until.year else first} {_DASH} {last}"
    return f"Since {day_words(since)}" if since else f"Until {day_words(until)}" if until else ""


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _text(args: Mapping[str, str], name: str) -> str:
    value = args.get(name) or ""
    if len(value) > _LONGEST:
        raise BadQuery(f"{name} is longer than {_LONGEST} characters.")
    if "\0" in value:
        raise BadQuery(f"{name} holds a NUL, which cannot be looked for.")
    return value


def _matching(args: Mapping[str, str], name: str, pattern: re.Pattern[str], what: str) -> str:
    value = args.get(name) or ""
    if value and not pattern.fullmatch(value):
        raise BadQuery(f"{name} is {what}.")
    return value


def _one_of(args: Mapping[str, str], name: str, choices: list[str]) -> str:
    value = args.get(name) or ""
    if value and value not in choices:
        raise BadQuery(f"{name} is one of: {', '.join(choices)}.")
    return value


def _day(args: Mapping[str, str], name: str) -> date | None:
    value = args.get(name) or ""
    if not value:
        return None
    try:
        found = date.fromisoformat(value) if _DAY.fullmatch(value) else None
    except ValueError:
        found = None
    if found is None or found == date.max:
        raise BadQuery(f"{name} is a day in UTC, such as 2026-11-20.")
    return found


def _seq(args: Mapping[str, str], name: str) -> int | None:
    value = args.get(name) or ""
    if value and not _NUMBER.fullmatch(value):
        raise BadQuery(f"{name} is the number of a record.")
    return int(value) if value else None
