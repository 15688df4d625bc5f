"""Lock records: the `Info` attribute of a lock item and the body of a `.tflock` object (Terraform
statemgr/locker.go `LockInfo`).

Both hold the same JSON. It is read with the rules of Go's decoder, because a record that Go cannot read is
one that `terraform force-unlock` cannot release: names match whatever their case, the last duplicate wins,
null changes nothing, and a value of another type is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import NoReturn

from lockboard.domain.bodies import BodyKind, read_body
from lockboard.domain.digests import Attribute
from lockboard.domain.text import shown

LOCKBOARD_OPERATION = "lockboard-"
"""How the Operation of every lock that Lockboard itself takes begins."""


class LockStore(StrEnum):
    """Where a lock stands: the table's item or the object beside the state."""

    DYNAMODB = "dynamodb"
    TFLOCK = "tflock"


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Terraform's seven fields.

    `created` is the holder's own clock, None where absent, zero or outside Python's years.
    """

    id: str = ""
    operation: str = ""
    info: str = ""
    who: str = ""
    version: str = ""
    created: datetime | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held, in one store. `info` is None where Go could not read the record, and `problem`
    says why.

    `raw` is the exact text of an item's Info; for a `.tflock` only where it is a lock record, since a state
    may lie at that key. `acquired` is the server's time of a `.tflock`, which DynamoDB does not keep.
    `occupied_by` says what else stands where the lock belongs: "digest" (another key's digest item) or
    "state" (another key's state object). `attribute` is an item's Info exactly as the service holds it, None
    where it has none: what a conditional write compares with.
    """

    store: LockStore
    raw: str
    info: LockInfo | None
    problem: str | None = None
    acquired: datetime | None = None
    etag: str | None = None
    version_id: str | None = None
    occupied_by: str | None = None
    attribute: Attribute | None = None

    @property
    def since(self) -> datetime | None:
        """When it was taken, as well as can be known: the server's clock before the holder's."""
        return self.acquired or (self.info.created if self.info else None)

    @property
    def readable(self) -> bool:
        """Whether Terraform could name this lock in force-unlock: it has to parse and to carry an ID."""
        return self.info is not None and self.info.id != ""


class UnreadableLock(ValueError):
    """The record is not one that Go decodes into a LockInfo; the message says what is wrong."""


def exact_record(raw: str) -> str:
    """The record of a `.tflock` as it can be written again, "" where its bytes were not all text: what stands
    for such a byte was not there.
    """
    return "" if "\ufffd" in raw else raw


def lock_from_item(info: Attribute | None, carries_digest: bool = False) -> Lock:
    """The lock of a table item from its `Info` attribute (None where the item has none)."""
    occupied = "digest" if carries_digest else None
    if info is None:
        problem = (
            "the item carries a Digest instead of Info"
            if carries_digest
            else "the item has no Info attribute"
        )
        return Lock(LockStore.DYNAMODB, "", None, problem, occupied_by=occupied)
    text = info.get("S")
    if not isinstance(text, str):
        kind = shown(" ".join(str(name) for name in info) or "none", 20)
        problem = f"Info is of type {kind}, not S (string)"
        return Lock(LockStore.DYNAMODB, _raw_of(info), None, problem, occupied_by=occupied, attribute=info)
    read, problem_found = _read(text)
    return Lock(LockStore.DYNAMODB, text, read, problem_found, occupied_by=occupied, attribute=info)


def lock_from_file(
    body: bytes, last_modified: datetime | None, etag: str | None, version_id: str | None
) -> Lock:
    """The lock of a `.tflock` object from its whole body, of which nothing is kept unless it is a lock record
    with an ID.

    An encrypted state is asked for first: none of its names is one of a lock record's, so Go reads an empty
    record in it.
    """
    if read_body(body).kind in (BodyKind.STATE, BodyKind.ENCRYPTED):
        problem = "it is a state, not a lock record"
        return Lock(LockStore.TFLOCK, "", None, problem, last_modified, etag, version_id, "state")
    text = body.decode("utf-8", "replace")
    info, found = _read(text)
    raw = text if info and info.id else ""
    return Lock(LockStore.TFLOCK, raw, info, found, last_modified, etag, version_id)


def _read(text: str) -> tuple[LockInfo | None, str | None]:
    try:
        info = parse_lock_info(text)
    except UnreadableLock as error:
        return None, str(error)
    return info, None if info.id else "its ID is empty"


def _raw_of(attribute: Attribute) -> str:
    try:
        return json.dumps(attribute, default=str)
    except (RecursionError, ValueError, TypeError):
        return "(a value that cannot be written as JSON)"


class _Object(list[tuple[str, object]]):
    """A JSON object as its pairs in order, duplicates kept."""


class _Number(str):
    """A JSON number kept as its text: never converted, so no size of it can cost or fail."""


def parse_lock_info(text: str) -> LockInfo:
    """Read LockInfo JSON with Go's rules.

    Raises:
        UnreadableLock: Go's json.Unmarshal would refuse it (or it nests deeper than Python reads).
    """
    if not text.strip(" \t\r\n"):
        raise UnreadableLock("it is empty")
    try:
        top = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise UnreadableLock(
            f"it is not JSON: {error.msg.removesuffix(' at')} (character {error.pos})"
        ) from None
    except RecursionError:
        raise UnreadableLock("it is nested too deep") from None
    if top is None:
        return LockInfo()
    if not isinstance(top, _Object):
        raise UnreadableLock(f"it is {_kind(top)}, not an object")
    return _from_pairs(top)


def _no_constant(name: str) -> NoReturn:
    raise UnreadableLock(f"it is not JSON: {name}")


_FIELDS = {
    "id": "id",
    "operation": "operation",
    "info": "info",
    "who": "who",
    "version": "version",
    "path": "path",
}


def _from_pairs(pairs: _Object) -> LockInfo:
    found: dict[str, str] = {}
    created: datetime | None = None
    for name, value in pairs:
        folded = name.replace("\u017f", "s").lower()  # Go folds the long s as well
        if value is None or (folded not in _FIELDS and folded != "created"):
            continue
        if not isinstance(value, str) or isinstance(value, _Number):
            raise UnreadableLock(f"{shown(name, 20)} is {_kind(value)}, not a string")
        if folded == "created":
            created = parse_created(value)
        else:
            found[_FIELDS[folded]] = value
    return LockInfo(created=created, **found)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, _Number):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, _Object):
        return "an object"
    return "an array"


_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:(Z)|([+-])(\d\d):(\d\d))\Z", re.ASCII
)


def parse_created(text: str) -> datetime | None:
    """A time as Go's encoding/json takes it: strict RFC 3339 with a zone, any number of fraction digits.

    Returns the moment in UTC, cut to microseconds; None for Go's zero time and for what Python's calendar
    cannot hold.

    Raises:
        UnreadableLock: Go would refuse it.
    """
    found = _RFC3339.match(text)
    if not found:
        raise UnreadableLock(f"Created is not an RFC 3339 time: {shown(text, 60)}")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    offset_hours, offset_minutes = int(found[10] or 0), int(found[11] or 0)
    if not (
        1 <= month <= 12 and 1 <= day <= _days(year, month) and hour < 24 and minute < 60 and second < 60
    ):
        raise UnreadableLock(f"Created has a part out of range: {shown(text, 60)}")
    if offset_hours > 23 or offset_minutes > 59:
        raise UnreadableLock(f"Created has a zone out of range: {shown(text, 60)}")
    micros = int((found[7] or "0")[:6].ljust(6, "0"))
    offset = timedelta(hours=offset_hours, minutes=offset_minutes)
    try:
        moment = datetime(
            year, month, day, hour, minute, second, micros, timezone(-offset if found[9] == "-" else offset)
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if moment.year == 1 else moment


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def lock_text(info: LockInfo) -> str:
    """The record as Go writes it: names in the order of the struct, no spaces, HTML escaped.

    OpenTofu compares with its own rendering of what it read, so only these bytes can be released by it.
    """
    created = info.created.astimezone(UTC) if info.created else datetime(1, 1, 1, tzinfo=UTC)
    moment = created.replace(tzinfo=None).isoformat("T", "microseconds").rstrip("0").rstrip(".") + "Z"
    fields = {
        "ID": info.id,
        "Operation": info.operation,
        "Info": info.info,
        "Who": info.who,
        "Version": info.version,
        "Created": moment,
        "Path": info.path,
    }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return "".join(_GO_ESCAPES.get(char, char) for char in text)


_GO_ESCAPES = {char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def info_as_json(info: LockInfo) -> Mapping[str, str]:
    """The fields fit to show, by the field names of the JSON contract."""
    return {
        "id": shown(info.id, 200),
        "operation": shown(info.operation, 200),
        "who": shown(info.who, 200),
        "version": shown(info.version, 60),
        "path": shown(info.path, 2200),
    }
