"""What the inventory keeps of each key and each backend, and what a page asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from lockboard.domain.areas import Area, Scope, scope_of
from lockboard.domain.model import Content, LockStatus, Severity
from lockboard.domain.text import shown

PAGE_SIZE = 50
COUNT_LIMIT = 1000
"""Matches of a search are counted up to here; beyond it the answer is "more than"."""


@dataclass(frozen=True, slots=True)
class StateRow:
    """One key. All text is fit to show and to store; `document` is the JSON contract's entry and what the
    pages need besides.

    id: opaque address (`keys.state_id`).  rank: `Severity.rank`, 0 the worst.
    locked_since, modified: seconds since 1970, None where not known.
    search: lower-case text that the search box looks in (key, bucket, holder, lock IDs, digest).
    fingerprint: identifies everything the verdict was made of; equal means nothing to do.
    memo: what the next refresh has to remember of this key (JSON), "" for most.
    """

    id: str
    backend: str
    key: str
    rank: int
    content: str
    lock: str
    terraform: str
    summary: str
    holder: str
    operation: str
    locked_since: float | None
    modified: float | None
    size: int | None
    digest: str
    search: str
    fingerprint: str
    memo: str
    document: Mapping[str, object]

    @property
    def raw_key(self) -> str:
        """The key as S3 has it, which rules are held against; `key` in a row that does not tell."""
        return str(self.document.get("raw_key", self.key))


class Known(NamedTuple):
    """What the refresher loads of a stored row when it starts."""

    fingerprint: str
    content: str
    lock: str
    terraform: str
    memo: str


@dataclass(frozen=True, slots=True)
class BackendReport:
    """How the last refresh of one backend went. Times carry a zone; `data_at` is when its rows were last
    known to be true.

    requests: by kind, of the refresh alone; `sweep_requests` of the last sweep.
    error: fit to show, None where all was read; `missing_permission`: the IAM action, where that is the
    cause.
    """

    backend: str
    bucket: str
    region: str
    table: str | None
    attempted_at: datetime
    data_at: datetime | None
    complete: bool
    error: str | None = None
    missing_permission: str | None = None
    states: int = 0
    foreign_items: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    sweep_requests: int = 0
    throttled: int = 0
    duration_seconds: float = 0.0
    rows_written: int = 0
    versioning: str = "unknown"
    clock_skew_seconds: float | None = None
    swept_at: datetime | None = None
    sweep_error: str | None = None

    def aws_time(self, now: datetime) -> datetime:
        """AWS's time when our own clock says `now`, as far as the two were ever compared."""
        return now - timedelta(seconds=self.clock_skew_seconds or 0)


@dataclass(frozen=True, slots=True)
class Changes:
    """One backend's transaction: rows to put, ids to drop, the report.

    Empty but for the report when nothing changed.
    """

    backend: str
    put: Sequence[StateRow]
    drop: Sequence[str]
    report: BackendReport


class Inventory(Protocol):
    """The refresher's side of the store."""

    def known(self, backend: str) -> dict[str, Known]:
        """id -> what was stored last."""

    def rechecked(self, backend: str, since: int) -> tuple[int, dict[str, Known]]:
        """Rows without a fingerprint that were put after generation `since`: somebody else wrote them.

        Returns the generation now, for the next question, and those rows.
        """

    def apply(self, changes: Changes) -> int:
        """Write it all in one transaction and return the generation, which grows only if rows or the
        backend's health changed. A row equal to the stored one is not written; the stored report's
        `rows_written` says how many were.
        """

    def report(self, backend: str) -> BackendReport | None:
        """The last report stored."""

    def forget_backends(self, but: Sequence[str]) -> None:
        """Drop rows and reports of backends that are no longer configured."""


VIEWS = ("attention", "locked", "digest", "unreadable", "all")
SORTS = ("severity", "locked", "key", "modified")
"""Worst first; oldest lock first; by code point of the key; newest change first.

Rows without the value come last, also reversed.
"""

_NOT_HELD = frozenset({LockStatus.UNLOCKED, LockStatus.UNKNOWN})
_DIGEST_CONTENTS = frozenset(Content) - {
    Content.OK,
    Content.NO_DIGEST,
    Content.STATE_UNREADABLE,
    Content.ABSENT,
    Content.UNKNOWN,
}
_UNREADABLE_CONTENTS = frozenset({Content.STATE_UNREADABLE, Content.UNKNOWN})
_UNREADABLE_LOCKS = frozenset({LockStatus.UNKNOWN, LockStatus.LOCK_UNREADABLE})


def in_view(view: str, rank: int, content: str, lock: str) -> bool:
    """Whether a key with this verdict belongs to one of VIEWS. Raises ValueError for another view.

    attention: anything a person should look at.  locked: somebody or something holds a lock.  digest: the
    object and its digest do not go together, or Terraform's check is off.  unreadable: the object or a lock
    could not be read.
    """
    if view == "attention":
        return rank <= Severity.UNKNOWN.rank
    if view == "locked":
        return lock not in _NOT_HELD
    if view == "digest":
        return content in _DIGEST_CONTENTS
    if view == "unreadable":
        return content in _UNREADABLE_CONTENTS or lock in _UNREADABLE_LOCKS
    if view == "all":
        return True
    raise ValueError(f"no such view: {view!r}")


@dataclass(frozen=True, slots=True)
class Query:
    """A list as its URL says it.

    view: one of VIEWS.  status: a content or lock status.  prefix: start of the key.  holder: exact, as
    shown.
    older_than: only locks held since before this moment.  text: words that must all occur (see
    StateRow.search).
    sort: one of SORTS; `descending` reverses it.  after: cursor from a Page.
    """

    view: str = "attention"
    status: str = ""
    backend: str = ""
    prefix: str = ""
    holder: str = ""
    older_than: datetime | None = None
    text: str = ""
    sort: str = "severity"
    descending: bool = False
    after: str = ""
    limit: int = PAGE_SIZE


class ListRow(NamedTuple):
    """What one line of the list shows; plain values in this order, because a page is made of thousands of
    them an hour.
    """

    id: str
    backend: str
    key: str
    rank: int
    content: str
    lock: str
    terraform: str
    summary: str
    holder: str
    operation: str
    locked_since: float | None
    modified: float | None
    size: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order with the cursors of its neighbours ("" where there is none) and how many match (`capped`:
    at least that many).
    """

    rows: Sequence[ListRow]
    next: str
    previous: str
    total: int
    capped: bool = False


def displayed(scope: Scope) -> Scope:
    """The areas for keys as rows have them: every prefix fit to show.

    Keys that are shown alike lie in the same areas, whatever S3 calls them. A prefix without a backslash and
    without characters that are escaped is exact.
    """
    return scope_of(Area(area.backend, shown(area.prefix)) for area in scope)


class Board(Protocol):
    """The pages' side of the store. Reads only, except that a re-check puts one row."""

    def within(self, scope: Scope) -> Board:
        """The same board with nothing on it but the keys of these areas, prefixes as S3 has them; of a board
        that is limited already, those that both hold.

        It counts, finds and moves about among them as if there were no others. The report of a backend of
        which it shows a part counts the keys of that part, and no foreign items. `put` writes any row.
        """

    def generation(self) -> int: ...

    def page(self, query: Query) -> Page: ...

    def counts(self) -> Mapping[str, int]:
        """How many keys each of VIEWS holds."""

    def statuses(self) -> Mapping[str, int]:
        """How many keys have each content or lock status that occurs."""

    def changed_since(self, generation: int, query: Query) -> int:
        """How many rows within the query changed after that generation, counted up to COUNT_LIMIT."""

    def state(self, state_id: str) -> StateRow | None: ...

    def neighbours(self, state_id: str, query: Query) -> tuple[str, str]:
        """Ids before and after this row in the query's order, "" where there is none."""

    def export(self, query: Query) -> Iterator[StateRow]:
        """Every match in order, a batch at a time."""

    def held(self, limit: int) -> Sequence[ListRow]:
        """Locks with a known time, oldest first: the lock-age strip."""

    def locks_of(self, holder: str, but: str) -> int:
        """How many other keys this holder (as shown) holds."""

    def find(
        self, *, ids: Sequence[str] = (), exact: str = "", fragment: str = "", limit: int = 20
    ) -> Sequence[ListRow]:
        """Rows with one of these ids, or with this exact key, holder, digest or lock ID; if there are none,
        those in whose `search` every word of `fragment` occurs.
        """

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        """When this key's verdict changed: (when, content, lock, holder), newest first."""

    def reports(self) -> Sequence[BackendReport]: ...

    def put(self, row: StateRow) -> int:
        """Replace one row and return the new generation."""
