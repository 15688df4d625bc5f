"""The audit log: what is recorded of each attempt, and the keyed chain that shows any later change to it.

Every record carries an HMAC over a domain tag, its number, the MAC of the record before it and its own bytes,
so an edit, a removal, an insertion or an exchange breaks the chain at that place. What a chain cannot show by
itself, a tail that was cut off or an older copy put back, the heads given to a witness do.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from lockboard.domain.areas import EVERYTHING, Scope, in_scope
from lockboard.domain.errors import LockboardError

GENESIS = "0" * 64
"""Stands where the first record has nothing before it."""
SHORTEST_KEY = 32
"""Bytes of the audit key."""

_TAG = b"lockboard audit record 1\0"
_TEXTS = (
    "action",
    "action_id",
    "backend",
    "bucket",
    "key",
    "state_id",
    "reason",
    "ticket",
    "result",
    "message",
)


class Kind(StrEnum):
    """What a record is.

    intent: a change is about to be made, and is not made unless this is durable.  outcome: what became of it.
    refusal: an attempt that was refused before any intent.  event: something else worth proof (an export, a
    verification, a start, an hour in which nothing happened).
    """

    INTENT = "intent"
    OUTCOME = "outcome"
    REFUSAL = "refusal"
    EVENT = "event"


class Result(StrEnum):
    """How an attempt ended.

    done: AWS holds the change.  refused: a rule or a lost race stopped it, nothing changed.  no_change: what
    was wanted was so already.  failed: it certainly did not happen, or was taken back.  unknown: no answer
    that can be trusted; what is true now has to be read.
    """

    DONE = "done"
    REFUSED = "refused"
    NO_CHANGE = "no_change"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts: a name to read, how it was established (`oidc`, `alb`, `proxy`, `local`, `token`, `demo`),
    the address of the browser, and the subject: who it is to whatever established it, unique there also where
    two have one name.
    """

    name: str
    method: str
    address: str
    subject: str = ""


LOCKBOARD = Person("lockboard", "system", "")
"""Lockboard itself: reconciliation, heartbeats."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded. All text may be as hostile as AWS holds it: it is escaped, never dropped.

    An intent and an outcome have an action_id.

    action: `force_unlock`, … of `model.Action`, `undo`, or for events `export`, `verify`, `start`,
    `heartbeat`.
    action_id: one for each attempt (a lower-case UUID); at most one intent and one outcome carry it.
    key: the state key as S3 has it.  result: "" for intents and events.  message: one sentence.
    facts: JSON values: the plan, the raw lock or digest removed, versions before and after, request IDs.
    """

    kind: Kind
    action: str
    person: Person
    action_id: str = ""
    backend: str = ""
    bucket: str = ""
    key: str = ""
    state_id: str = ""
    reason: str = ""
    ticket: str = ""
    result: str = ""
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry as it stands in the log. seq: from 1, without gaps.  at: UTC, microseconds.  body: the exact
    text that the MAC covers (`body_of`).  mac: 64 hexadecimal digits.
    """

    seq: int
    at: datetime
    entry: Entry
    body: str
    mac: str


class Head(NamedTuple):
    """The last record of the chain at some time: what a witness is given."""

    seq: int
    mac: str


class Stored(NamedTuple):
    """A row of the log as the database holds it, believed in nothing. `columns` are the copies that lists
    filter by; they have to agree with the body.
    """

    seq: int
    body: str
    mac: str
    columns: Mapping[str, object]


def body_of(at: datetime, entry: Entry) -> str:
    """The canonical JSON of a record: ASCII, names sorted, no spaces; lone surrogates survive as escapes.

    Raises ValueError or TypeError where `facts` is not JSON.
    """
    found = {
        "at": at.astimezone(UTC).isoformat(),
        "kind": entry.kind.value,
        "action": entry.action,
        "person": _person(entry.person),
        "action_id": entry.action_id,
        "backend": entry.backend,
        "bucket": entry.bucket,
        "key": entry.key,
        "state_id": entry.state_id,
        "reason": entry.reason,
        "ticket": entry.ticket,
        "result": entry.result,
        "message": entry.message,
        "facts": entry.facts,
    }
    return json.dumps(found, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _person(person: Person) -> list[str]:
    """Records made before there were sign-ins have no subject, and keep their bytes."""
    found = [person.name, person.method, person.address]
    return [*found, person.subject] if person.subject else found


def entry_of(body: str) -> tuple[datetime, Entry]:
    """What `body_of` wrote. Raises ValueError for anything else."""
    try:
        found = json.loads(body)
        at = datetime.fromisoformat(found.pop("at"))
        person, kind = Person(*found.pop("person")), Kind(found.pop("kind"))
        entry = Entry(kind=kind, person=person, **found)
        canonical = at.tzinfo is not None and body_of(at, entry) == body
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError("it is not an audit record") from None
    if not (canonical and _has_its_types(entry)):
        raise ValueError("it is not in the canonical form of an audit record")
    return at, entry


def _has_its_types(entry: Entry) -> bool:
    person = entry.person
    texts = (*_person(person), *(getattr(entry, name) for name in _TEXTS))
    return all(isinstance(text, str) for text in texts) and isinstance(entry.facts, dict)


def mac_of(key: bytes, seq: int, previous: str, body: str) -> str:
    """HMAC-SHA256 over tag, number, the MAC before and the body; the fixed lengths of the first three leave
    no second way to read it.
    """
    message = _TAG + seq.to_bytes(8, "big") + bytes.fromhex(previous) + body.encode("ascii")
    return hmac.new(key, message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking the chain found. checked: how many records, from the first, are as they were written.
    head: the last of these.  bad_seq: the number of the first record that is not, None where all are.
    problem: "" or a sentence.  tail_proven: a witness's heads were compared, and all lie within the log.
    """

    checked: int
    head: Head | None
    bad_seq: int | None = None
    problem: str = ""
    tail_proven: bool = False

    @property
    def ok(self) -> bool:
        return not self.problem


Columns = Callable[[int, datetime, Entry], Mapping[str, object]]
"""The copies that a store keeps beside the body."""


def verify(
    rows: Iterable[Stored], key: bytes, heads: Sequence[Head] = (), columns: Columns | None = None
) -> Verification:
    """Check the whole chain in the order of its numbers, and that every head a witness has lies in it.

    `columns` computes what the copies beside each body must be; left out, they are not looked at.
    """
    witnessed: dict[int, set[str]] = {}
    for head in heads:
        witnessed.setdefault(head.seq, set()).add(head.mac)
    last: Head | None = None
    for row in rows:
        seq, previous = (last.seq + 1, last.mac) if last else (1, GENESIS)
        problem = _problem(row, seq, previous, key, columns) or _conflict(row, witnessed.get(seq, set()))
        if problem:
            return _broken(last, min(row.seq, seq), problem)
        last = Head(row.seq, row.mac)
    expected, known = (last.seq + 1 if last else 1), max(witnessed, default=0)
    if known >= expected:
        return _broken(last, expected, f"it is missing, although records up to {known} were written")
    return Verification(last.seq if last else 0, last, tail_proven=bool(witnessed))


def _broken(last: Head | None, seq: int, problem: str) -> Verification:
    return Verification(last.seq if last else 0, last, seq, f"record {seq}: {problem}")


def _conflict(row: Stored, seen: set[str]) -> str:
    if len(seen) > 1:
        return "a witness saw two different records under this number: the log was forked or rolled back"
    return "" if not seen or seen == {row.mac} else "a witness saw another record under this number"


def _problem(row: Stored, seq: int, previous: str, key: bytes, columns: Columns | None) -> str:
    if row.seq != seq:
        return "it is missing" if row.seq > seq else "no record has this number, or another one has it too"
    try:
        mac = mac_of(key, seq, previous, row.body)
    except (UnicodeEncodeError, AttributeError):
        return "its bytes are not those of an audit record"
    if row.mac != mac:
        return "its MAC does not fit: the record, the one before it or the key is another"
    try:
        at, entry = entry_of(row.body)
    except ValueError as error:
        return str(error)
    if columns is not None and dict(row.columns) != dict(columns(seq, at, entry)):
        return "a column beside it says something else than the record"
    return ""


class AuditError(LockboardError):
    """The audit log did not take the record, or did not answer, so nothing may be changed."""


UNREADABLE = "unreadable"
"""The action of a record that is none any more."""


class AlreadyRecorded(LockboardError):
    """The action has its intent, or its outcome, already."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """A list of records as its URL says it, newest first. Empty means any.

    person, action, result, backend, ticket, state_id, action_id: exact.  kind: of Kind.  key: words that all
    occur in the key, whatever their case.  since, until: `at` within [since, until).  before: records with a
    smaller seq (paging).  after: with a greater one, nearest first.  scope: only records that are `visible`
    in it.
    """

    person: str = ""
    action: str = ""
    kind: str = ""
    result: str = ""
    backend: str = ""
    key: str = ""
    ticket: str = ""
    state_id: str = ""
    action_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    after: int | None = None
    limit: int = 50
    scope: Scope = (EVERYTHING,)


def visible(entry: Entry, scope: Scope) -> bool:
    """Whether a record is about a key of these areas. One that is about no backend, such as a sign-in, an
    export or a heartbeat, and one that cannot be read any more, belong to the whole estate alone.
    """
    return EVERYTHING in scope or (bool(entry.backend) and in_scope(scope, entry.backend, entry.key))


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records newest first; `older` and `newer` are cursors for `before` and `after`, None at the ends.
    total: of all pages; `capped` where there are more than are counted.
    """

    records: Sequence[Record]
    older: int | None
    newer: int | None
    total: int
    capped: bool = False


class Audit(Protocol):
    """The log. Insert only. Every method raises AuditError where the log does not answer. What takes no query
    reads all of it: who shows a record asks `visible` first.

    A record whose body was changed so that it cannot be read any more stands in lists with the action
    `UNREADABLE`.
    """

    def append(self, entry: Entry) -> Record:
        """Write one record; durable, and told to the witness, when it returns.

        Raises AlreadyRecorded for a second intent or outcome of one action; AuditError where the log did not
        take it, within 5 s, and for an intent where this process last found the log changed. After an
        AuditError the record may yet turn up: a commit's reply can be lost.
        """

    def record(self, seq: int) -> Record | None: ...

    def of_action(self, action_id: str) -> Sequence[Record]:
        """Oldest first."""

    def open_intents(self) -> Sequence[Record]:
        """Intents without an outcome, oldest first; only those that are as they were written."""

    def page(self, query: AuditQuery) -> AuditPage: ...

    def people(self) -> Sequence[str]:
        """The names that occur, in order; at most 200."""

    def export(self, query: AuditQuery) -> Iterator[Record]:
        """Every match, newest first, a batch at a time; `limit` and cursors are ignored."""

    def first(self) -> Record | None:
        """The oldest record."""

    def head(self) -> Head | None:
        """The newest record's number and MAC."""

    def verify(self, heads: Sequence[Head] = ()) -> Verification:
        """Check every record. A record being appended meanwhile is no false alarm."""

    def last_verification(self) -> tuple[datetime, Verification] | None:
        """When this process last checked, and what it found; None before the first."""


Witness = Callable[[Head, datetime], None]
"""Told of every new head after its commit. Raises nothing."""
