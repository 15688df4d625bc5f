"""A list as its URL says it, and back: one canonical spelling for each list, defaults left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote_plus

from lockboard.domain.inventory import SORTS, VIEWS, Query
from lockboard.domain.model import Content, LockStatus
from lockboard.domain.text import shown

STATUSES = frozenset(str(status) for status in (*Content, *LockStatus))
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_AGE = re.compile(r"([1-9][0-9]{0,9})([dhms])", re.ASCII)
_LONGEST = 1200
_LONGEST_CURSOR = 4096


class BadQuery(ValueError):
    """A parameter has a value that no list has; its text says which values there are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list's URL asks for.

    age: locks held longer than this many seconds, 0 for any.  start: the number of the first row, as far
    as it is known; only shown.  The rest as in `Query`.
    """

    view: str = "attention"
    status: str = ""
    backend: str = ""
    prefix: str = ""
    holder: str = ""
    age: int = 0
    text: str = ""
    sort: str = "severity"
    descending: bool = False
    after: str = ""
    start: int = 1

    def query(self, now: datetime) -> Query:
        return Query(
            view=self.view,
            status=self.status,
            backend=self.backend,
            prefix=self.prefix,
            holder=self.holder,
            older_than=now - timedelta(seconds=self.age) if self.age else None,
            text=self.text,
            sort=self.sort,
            descending=self.descending,
            after=self.after,
        )

    def but(self, **changes: object) -> Asked:
        """The first page of the same list with something changed."""
        return replace(self, **{"after": "", "start": 1, **changes})  # type: ignore[arg-type]

    @property
    def filtered(self) -> bool:
        """Whether anything besides the view narrows it."""
        return bool(self.status or self.backend or self.prefix or self.holder or self.age or self.text)

    def unfiltered(self) -> Asked:
        return Asked(view=self.view, sort=self.sort, descending=self.descending)

    def pairs(self) -> list[tuple[str, str]]:
        """Name and value of each parameter that is not the default, in their canonical order."""
        return [(name, value) for name, value in _parameters(self) if value]

    def string(self) -> str:
        """The canonical query string, "" for the landing list."""
        return "&".join(_pair(name, value) for name, value in self.pairs())

    def url(self, path: str = "/states") -> str:
        """The canonical address of this list."""
        query = self.string()
        return f"{path}?{query}" if query else path


class Links:
    """Addresses of lists that differ in a parameter or two: fifty on a page, so the rest is spelled once."""

    def __init__(self, wanted: Asked) -> None:
        first = wanted.but()
        self._pairs = {name: _pair(name, value) if value else "" for name, value in _parameters(first)}

    def to(self, **changes: str) -> str:
        """`to(backend="prod", view="")`: values as in the URL, "" for the default."""
        pairs = self._pairs | {name: _pair(name, value) if value else "" for name, value in changes.items()}
        query = "&".join(filter(None, pairs.values()))
        return f"/states?{query}" if query else "/states"


def view_parameter(view: str) -> str:
    """The view as URLs have it."""
    return view if view != "attention" else ""


def sort_parameter(sort: str, *, descending: bool = False) -> str:
    """The order as URLs have it."""
    return f"-{sort}" if descending else sort if sort != "severity" else ""


def _pair(name: str, value: str) -> str:
    return f"{name}={value if value.isalnum() and value.isascii() else quote_plus(value, errors='replace')}"


def _parameters(wanted: Asked) -> tuple[tuple[str, str], ...]:
    return (
        ("view", view_parameter(wanted.view)),
        ("status", wanted.status),
        ("backend", wanted.backend),
        ("prefix", wanted.prefix),
        ("holder", wanted.holder),
        ("age", spelled_age(wanted.age)),
        ("q", wanted.text),
        ("sort", sort_parameter(wanted.sort, descending=wanted.descending)),
        ("after", wanted.after),
        ("n", str(wanted.start) if wanted.after and wanted.start > 1 else ""),
    )


def asked(args: Mapping[str, str], view: str = "attention") -> Asked:
    """Read a URL's parameters; `view` is meant where none is named. Those that are not ours are passed over.

    Raises:
        BadQuery: a value is none that a list has.
    """
    sort = args.get("sort") or "severity"
    return Asked(
        view=_one_of("view", args.get("view") or view, VIEWS),
        status=_one_of("status", args.get("status") or "", STATUSES | {""}),
        backend=_text(args, "backend"),
        prefix=_text(args, "prefix"),
        holder=_text(args, "holder"),
        age=parsed_age(args.get("age") or ""),
        text=_text(args, "q").strip(),
        sort=_one_of("sort", sort.removeprefix("-"), SORTS),
        descending=sort.startswith("-"),
        after=(args.get("after") or "")[:_LONGEST_CURSOR],
        start=_number(args.get("n") or "1") if args.get("after") else 1,
    )


def spelled_age(seconds: int) -> str:
    """`7d`, `90s`: in the largest unit that divides it; "" for none."""
    for unit, size in _UNITS.items():
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return ""


def parsed_age(text: str) -> int:
    """Seconds. Raises BadQuery."""
    if not text:
        return 0
    found = _AGE.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= 36500 * 86400:
        raise BadQuery("age is a whole number with d, h, m or s behind it, such as 12h or 7d.")
    return seconds


def _one_of(name: str, value: str, choices: frozenset[str] | tuple[str, ...]) -> str:
    if value not in choices:
        raise BadQuery(f"{name} is one of: {', '.join(sorted(filter(None, choices)))}.")
    return value


def _text(args: Mapping[str, str], name: str) -> str:
    """As stored rows have it: what is not fit to show stands there as an escape, too."""
    value = args.get(name) or ""
    if len(value) > _LONGEST:
        raise BadQuery(
            f"{name} is longer than {_LONGEST} characters. A whole error message goes to the find page."
        )
    return shown(value) if value else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 1
