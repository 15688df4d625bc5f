"""Made-up input for the property tests: drawn from one seed each, so that 20,000 examples cost seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import MD5_OF_NOTHING, Digest, parse_digest
from lockboard.domain.locks import Lock, LockInfo, LockStore, lock_from_item
from lockboard.domain.model import History, Observation, Policy, StateObject, Unread, Version

T = TypeVar("T")
_INPUTS_AT_ONCE = 20

Check = Callable[[Random], None]
"""A test of one input, made with the source of chance that it is given."""


def many_inputs(check: Check) -> Callable[[], None]:
    """A test of 20,000 inputs: for everything that reads what others wrote, and what a verdict promises."""
    return _inputs(check, 1_000)


def some_inputs(check: Check) -> Callable[[], None]:
    """A test of 2,000 inputs: for what only passes on what was judged."""
    return _inputs(check, 100)


def _inputs(check: Check, examples: int) -> Callable[[], None]:
    """Twenty inputs make one of Hypothesis's examples, whose own cost is many times that of an input.

    A failure names the seed of its input.
    """

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**63))
    def test(seed: int) -> None:
        for one in range(seed, seed + _INPUTS_AT_ONCE):
            try:
                check(Random(one))
            except BaseException as error:
                error.add_note(f"the input is that of Random({one})")
                raise

    test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
    test.__qualname__ = check.__qualname__
    return test


NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)

ODD = (
    "\x00",
    "\x01",
    "\t",
    "\n",
    "\r",
    "\x1b",
    "\x7f",
    "\x85",
    "\xa0",
    "\xad",
    "\u034f",
    "\u115f",
    "\u1160",
    "\u17b4",
    "\u180b",
    "\u180e",
    "\u200b",
    "\u200f",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u2800",
    "\u3000",
    "\u3164",
    "\ufe00",
    "\ufe0f",
    "\ufeff",
    "\uffa0",
    "\ufffe",
    "\ud800",
    "\udfff",
    "\U000e0041",
    "\U000e0100",
    "\U0010ffff",
    "\ue000",
    "<",
    ">",
    "&",
    '"',
    "'",
    "\\",
    "/",
    "//",
    "..",
    "%",
    "+",
    " ",
    "?",
    "#",
    "*",
    "[",
    "]",
    "!",
    "{",
    "}",
    "-md5",
    ".tflock",
    "env:",
    "env:/",
    "arn:aws:s3:x:accesspoint/",
    ".tfstate",
    "é",
    "한",
    "\U0001f512",
    "İ",
    "\u017f",
    "\u212a",
)
"""Pieces of text that have broken something somewhere."""


def below(rnd: Random, end: int) -> int:
    """A number from 0 up to `end`, in little more than half the time of `randrange`."""
    return int(rnd.random() * end)


def one_of(rnd: Random, values: Sequence[T]) -> T:
    return values[int(rnd.random() * len(values))]


def text(rnd: Random, most: int = 12) -> str:
    """Up to `most` pieces, each plain, odd or any character at all. Half a character never stands beside its
    other half: JSON, as which texts are kept, makes one of the two.
    """
    pieces = "".join(_piece(rnd) for _ in range(below(rnd, most + 1)))
    return pieces.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _piece(rnd: Random) -> str:
    kind = below(rnd, 4)
    if kind == 0:
        return one_of(rnd, ODD)
    if kind == 1:
        return chr(below(rnd, 0x110000))
    if kind == 2:
        return chr(0x20 + below(rnd, 0x5F))
    return one_of(rnd, ("app", "prod", "a", "Z9", "state", "0"))


def key(rnd: Random) -> str:
    """A state key, plain more often than not."""
    plain = one_of(
        rnd, ("app.tfstate", "remote", "env:/staging/app.tfstate", "a/b.tfstate", "x-md5", "x.tflock")
    )
    return plain if rnd.random() < 0.5 else text(rnd) or "k"


def json_text(rnd: Random, value: object) -> str:
    """The value as JSON in one of the ways people and programs write it."""
    return json.dumps(value, ensure_ascii=rnd.random() < 0.5, indent=one_of(rnd, (None, None, 1)))


def any_json(rnd: Random, depth: int = 3) -> object:
    """A JSON value of any type."""
    kind = below(rnd, 9 if depth else 7)
    if kind < 3:
        return text(rnd, 4)
    if kind == 7:
        return [any_json(rnd, depth - 1) for _ in range(below(rnd, 4))]
    if kind == 8:
        return {text(rnd, 2): any_json(rnd, depth - 1) for _ in range(below(rnd, 4))}
    return (None, rnd.random() < 0.5, one_of(rnd, (0, -1, 10**30, 1.5, 2**63)), float("nan"))[kind - 3]


def created(rnd: Random) -> str:
    """A time as a lock record might say it, right, nearly right, or not at all."""
    if rnd.random() < 0.2:
        return text(rnd)
    parts = [
        one_of(rnd, (1 + below(rnd, 12), 0, 13, 99)),
        one_of(rnd, (1 + below(rnd, 28), 0, 29, 30, 31, 32)),
    ]
    clock = [
        one_of(rnd, (below(rnd, 24), 24)),
        one_of(rnd, (below(rnd, 60), 60)),
        one_of(rnd, (below(rnd, 60), 60, 61)),
    ]
    year = one_of(rnd, (2026, 2024, 1900, 1, 0, 9999, below(rnd, 10_000)))
    fraction = one_of(rnd, ("", "." + "123456789"[: below(rnd, 10)], "." + "9" * 40, ","))
    zone = one_of(
        rnd, ("Z", "Z", "", "z", "+00:00", "-12:00", "+14:00", "+24:00", "-23:59", "+09:60", "+0900")
    )
    return (
        f"{year:04}-{parts[0]:02}-{parts[1]:02}{one_of(rnd, ('T', 'T', 'T', ' ', 't'))}"
        f"{clock[0]:02}:{clock[1]:02}:{clock[2]:02}{fraction}{zone}"
    )


NAMES = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")


def record(rnd: Random) -> str:
    """The text of a lock record: whole, damaged, of other types, with names in any case and twice."""
    kind = below(rnd, 8)
    if kind == 0:
        return text(rnd, 30)
    if kind == 1:
        return json_text(rnd, any_json(rnd))
    if kind == 2:
        return one_of(rnd, "[{") * one_of(rnd, (10, 2_000)) + one_of(rnd, ("", "1", '"'))
    pairs = []
    for name in rnd.sample(NAMES, below(rnd, 8)) + rnd.choices(NAMES, k=below(rnd, 3)):
        spelt = one_of(rnd, (name, name, name.lower(), name.upper(), name.replace("s", "\u017f")))
        value = created(rnd) if name == "Created" else text(rnd, 6)
        pairs.append(f"{json.dumps(spelt)}:{json_text(rnd, value if rnd.random() < 0.9 else any_json(rnd))}")
    whole = "{" + ",".join(pairs) + "}"
    if kind == 3 and whole:
        at = below(rnd, len(whole))
        return whole[:at] + text(rnd, 2) + whole[at + below(rnd, 3) :]
    return whole


def attribute(rnd: Random, string: str) -> dict[str, object] | None:
    """A DynamoDB attribute value of any type, a string more often than not, or none at all."""
    other: list[dict[str, object] | None] = [
        None,
        {},
        {"N": "1"},
        {"B": b"\xff\x00"},
        {"NULL": True},
        {"BOOL": False},
        {"L": [{"S": string}]},
        {"M": {"ID": {"S": string}}},
        {"SS": [string, "b"]},
        {"S": None},
        {"S": 7},
        {string: string},
    ]
    return {"S": string} if rnd.random() < 0.6 else one_of(rnd, other)


# ---- observations ------------------------------------------------------------

MD5S = tuple(f"{number:032x}" for number in range(1, 6))
POLICY = Policy()


def moment(rnd: Random, days: float = 3) -> datetime:
    """A time around NOW, on the second or not; within seconds of it as often as further away."""
    span = one_of(rnd, (20.0, 3600.0, 86400.0 * days))
    return NOW + timedelta(seconds=round(rnd.uniform(-span, span / 4), one_of(rnd, (0, 3))))


def unread(rnd: Random) -> Unread:
    return one_of(
        rnd, (Unread("timed out", "Timeout"), Unread("s3:GetObject is denied", "AccessDenied", denied=True))
    )


def body(rnd: Random) -> Body | Unread | None:
    kind = one_of(
        rnd,
        (
            None,
            "unread",
            BodyKind.STATE,
            BodyKind.STATE,
            BodyKind.STATE,
            BodyKind.ENCRYPTED,
            BodyKind.BROKEN,
            BodyKind.EMPTY,
        ),
    )
    if kind is None:
        return None
    if not isinstance(kind, BodyKind):
        return unread(rnd)
    if kind is BodyKind.EMPTY:
        return Body(MD5_OF_NOTHING, 0, kind)
    md5, size = one_of(rnd, MD5S), 1 + below(rnd, 8)
    if kind is BodyKind.BROKEN:
        return Body(md5, size, kind, problem="it is not JSON: syntax error at byte offset 3")
    serial, lineage = one_of(rnd, (None, 1, 2, 3)), one_of(rnd, (None, "one", "one", "one", "two"))
    resources = one_of(rnd, (None, 0, 1, 5)) if kind is BodyKind.STATE else None
    return Body(md5, size, kind, None, 4, serial, lineage, "1.11.4", resources)


def _size(rnd: Random, held: Body | Unread | None) -> int:
    return held.size if isinstance(held, Body) else one_of(rnd, (0, 7, 900))


def _etag(rnd: Random, held: Body | Unread | None) -> str:
    if isinstance(held, Body) and rnd.random() < 0.6:
        return held.md5
    return one_of(rnd, (*MD5S, "6bdf" + "0" * 28 + "-2", "kms"))


def state(rnd: Random) -> StateObject | None | Unread:
    kind = below(rnd, 8)
    if kind < 2:
        return (None, unread(rnd))[kind]
    held = body(rnd)
    return StateObject(
        _etag(rnd, held), _size(rnd, held), moment(rnd), one_of(rnd, (None, "v9", "null")), None, held
    )


def digest(rnd: Random) -> Digest | None | Unread:
    kind = below(rnd, 8)
    if kind < 2:
        return (None, unread(rnd))[kind]
    value = one_of(rnd, (*MD5S, *MD5S, MD5_OF_NOTHING, MD5S[0].upper(), text(rnd)))
    return parse_digest(attribute(rnd, value))


def info(rnd: Random) -> LockInfo:
    """A readable record's fields, hostile or not."""
    if rnd.random() < 0.3:
        id_, operation, comment, who, version, path = (text(rnd) for _ in range(6))
        return LockInfo(id_, operation, comment, who, version, moment(rnd), path)
    operation = one_of(rnd, ("OperationTypeApply", "OperationTypePlan", "init", "lockboard-repair"))
    return LockInfo(
        one_of(rnd, ("id-1", "id-2", "")),
        operation,
        "",
        "root@ci",
        "1.11.4",
        one_of(rnd, (None, moment(rnd))),
        "b/app.tfstate",
    )


def lock(rnd: Random, store: LockStore) -> Lock | None | Unread:
    kind = below(rnd, 8)
    if kind < 3:
        return None
    if kind == 3:
        return unread(rnd)
    if kind == 4 and store is LockStore.DYNAMODB:
        return lock_from_item(attribute(rnd, record(rnd)), carries_digest=rnd.random() < 0.2)
    acquired = one_of(rnd, (None, moment(rnd))) if store is LockStore.TFLOCK else None
    if kind == 4:
        return Lock(store, "", None, "it is empty", acquired, occupied_by=one_of(rnd, (None, "state")))
    found = info(rnd)
    return Lock(store, "{}", found, None if found.id else "its ID is empty", acquired)


def history(rnd: Random) -> History | Unread | None:
    kind = below(rnd, 8)
    if kind < 2:
        return (None, unread(rnd))[kind]
    versions = []
    for number in range(below(rnd, 5)):
        if rnd.random() < 0.3:
            versions.append(Version(f"m{number}", moment(rnd), delete_marker=True, latest=number == 0))
            continue
        held = body(rnd)
        versions.append(
            Version(f"v{number}", moment(rnd), False, _etag(rnd, held), _size(rnd, held), number == 0, held)
        )
    return History(tuple(versions), rnd.random() < 0.8)


def observation(rnd: Random) -> Observation:
    """Any combination at all, consistent or not: what can be said of a key must hold for each."""
    return Observation(
        backend="dev",
        bucket="b",
        key=key(rnd),
        state=state(rnd),
        digest=digest(rnd),
        table_lock=lock(rnd, LockStore.DYNAMODB),
        file_lock=lock(rnd, LockStore.TFLOCK),
        has_table=rnd.random() < 0.8,
        history=history(rnd),
        lockfile_history=rnd.random() < 0.4,
        sibling=text(rnd) if rnd.random() < 0.1 else None,
        mismatch_since=one_of(rnd, (None, moment(rnd), NOW - timedelta(minutes=1))),
        locks_since=one_of(rnd, (None, moment(rnd), NOW - timedelta(minutes=1))),
        clock_skew=one_of(rnd, (None, timedelta(), timedelta(seconds=rnd.uniform(-90_000, 90_000)))),
    )
