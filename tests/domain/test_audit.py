"""Records as canonical text, and the chain over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.domain.audit import (
    GENESIS,
    Entry,
    Head,
    Kind,
    Person,
    Stored,
    body_of,
    entry_of,
    mac_of,
    verify,
)

KEY = b"k" * 32
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LENGTH = 30

HOSTILE = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["\ud800", "\udfff\ud83d", "\0", "\u202e", "\x1b]0;", "</script>", '","kind":"event', "\U0001f512", "\n"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(Kind),
    action=HOSTILE,
    person=st.builds(Person, HOSTILE, HOSTILE, HOSTILE),
    action_id=HOSTILE,
    backend=HOSTILE,
    bucket=HOSTILE,
    key=HOSTILE,
    state_id=HOSTILE,
    reason=HOSTILE,
    ticket=HOSTILE,
    result=HOSTILE,
    message=HOSTILE,
    facts=st.dictionaries(HOSTILE, JSON, max_size=4),
)
MOMENTS = st.datetimes(timezones=st.just(UTC))
PLACES = st.integers(1, LENGTH)


def entry(number: int, **changes: Any) -> Entry:
    person = Person("kim@example.com", "demo", "127.0.0.1")
    made = Entry(Kind.EVENT, "export", person, reason=f"reason {number}", facts={"number": number})
    return replace(made, **changes)


def chain(*entries: Entry, key: bytes = KEY) -> list[Stored]:
    rows: list[Stored] = []
    for seq, made in enumerate(entries, 1):
        body = body_of(NOON + timedelta(seconds=seq), made)
        mac = mac_of(key, seq, rows[-1].mac if rows else GENESIS, body)
        rows.append(Stored(seq, body, mac, copies(seq, NOON, made)))
    return rows


def copies(_seq: int, _at: datetime, made: Entry) -> dict[str, object]:
    return {"reason": made.reason}


LOG = chain(*map(entry, range(1, LENGTH + 1)))
HEADS = [Head(row.seq, row.mac) for row in LOG]


@given(MOMENTS, ENTRIES)
@settings(max_examples=300, deadline=None)
def test_a_record_reads_back_as_it_was_written_however_hostile_its_text(at: datetime, made: Entry) -> None:
    body = body_of(at, made)
    assert body.isascii()
    assert "\n" not in body
    read_at, read = entry_of(body)
    assert body_of(read_at, read) == body
    assert (read_at, read.kind) == (at, made.kind)
    # Two lone surrogates that stand side by side are one character in JSON.
    assert read.key == made.key.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def test_lone_surrogates_nul_and_very_long_text_survive_exactly() -> None:
    made = entry(1, key="\ud800\0\udc00x", reason="\u202e\U0001f512" * 200_000)
    assert entry_of(body_of(NOON, made)) == (NOON, made)


def test_a_moment_is_written_in_utc() -> None:
    seoul = NOON.astimezone(timezone(timedelta(hours=9)))
    assert body_of(seoul, entry(1)) == body_of(NOON, entry(1))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        body_of(NOON, replace(entry(1), facts={"n": number}))


GOOD = json.loads(body_of(NOON, entry(1)))
WRONG: list[dict[str, object]] = [
    {"at": "2026-11-20T12:00:00"},
    {"at": "2026-11-20T21:00:00+09:00"},
    {"at": "9999-12-31T23:59:59-12:00"},
    {"at": 5},
    {"kind": "other"},
    {"kind": []},
    {"person": ["a", "b"]},
    {"person": "abc"},
    {"person": ["a", "b", 3]},
    {"key": 5},
    {"key": None},
    {"facts": []},
    {"more": ""},
]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "7",
        "{}",
        "[" * 100_000,
        body_of(NOON, entry(1)) + " ",
        body_of(NOON, entry(1)).replace(",", ", "),
        *(json.dumps({**GOOD, **change}, sort_keys=True, separators=(",", ":")) for change in WRONG),
    ],
)
def test_what_is_no_record_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError, match="audit record"):
        entry_of(body)


def test_an_untouched_chain_is_right_and_its_tail_is_proven_only_by_a_witness() -> None:
    found = verify(LOG, KEY, columns=copies)
    assert (found.ok, found.checked, found.head, found.bad_seq) == (True, LENGTH, HEADS[-1], None)
    assert not found.tail_proven
    assert verify(LOG, KEY, HEADS, copies).tail_proven
    assert verify(LOG, KEY, [HEADS[3], HEADS[3]], copies).tail_proven


def test_an_empty_log_is_right_until_a_witness_saw_more() -> None:
    assert verify([], KEY).ok
    found = verify([], KEY, HEADS[:1])
    assert (found.ok, found.bad_seq, found.checked, found.head) == (False, 1, 0, None)


def renumbered(rows: list[Stored]) -> list[Stored]:
    return [row._replace(seq=seq) for seq, row in enumerate(rows, 1)]


def edit(place: int) -> list[Stored]:
    return [
        row._replace(body=row.body.replace("reason", "season")) if row.seq == place else row for row in LOG
    ]


def drop(place: int) -> list[Stored]:
    return [row for row in LOG if row.seq != place]


def drop_and_renumber(place: int) -> list[Stored]:
    return renumbered(drop(place))


def insert(place: int) -> list[Stored]:
    forged = chain(entry(99))[0]
    return renumbered([*LOG[: place - 1], forged, *LOG[place - 1 :]])


def twice(place: int) -> list[Stored]:
    return [*LOG[:place], LOG[place - 1], *LOG[place:]]


def copy_edited(place: int) -> list[Stored]:
    return [row._replace(columns={"reason": "mine"}) if row.seq == place else row for row in LOG]


def no_text(place: int) -> list[Stored]:
    return [row._replace(body=b"{}") if row.seq == place else row for row in LOG]  # type: ignore[arg-type]


def mac_of_another_kind(place: int) -> list[Stored]:
    return [row._replace(mac=row.mac.upper() + "\udcff") if row.seq == place else row for row in LOG]


def rewritten_with_the_key(place: int) -> list[Stored]:
    return chain(*(entry(n if n < place else n + 1000) for n in range(1, LENGTH + 1)))


@pytest.mark.parametrize(
    "tamper", [edit, drop_and_renumber, insert, twice, copy_edited, no_text, mac_of_another_kind]
)
@given(place=PLACES)
@settings(max_examples=60, deadline=None)
def test_the_first_record_that_is_not_as_it_was_written_is_named(
    tamper: Callable[[int], list[Stored]], place: int
) -> None:
    found = verify(tamper(place), KEY, HEADS, copies)
    assert (found.ok, found.bad_seq) == (False, place)
    assert str(place) in found.problem
    assert not found.tail_proven


@given(place=st.integers(1, LENGTH - 1))
def test_a_record_that_is_missing_is_named_without_any_witness(place: int) -> None:
    found = verify(drop(place), KEY)
    assert (found.bad_seq, found.checked) == (place, place - 1)
    assert "missing" in found.problem


@given(place=PLACES)
def test_a_tail_cut_off_shows_by_a_witness_alone(place: int) -> None:
    cut = LOG[: place - 1]
    assert verify(cut, KEY).ok
    found = verify(cut, KEY, HEADS[-1:])
    assert (found.ok, found.bad_seq) == (False, place)
    assert f"up to {LENGTH}" in found.problem


@given(place=PLACES)
def test_a_chain_rewritten_with_the_key_shows_by_a_witness_alone(place: int) -> None:
    other = rewritten_with_the_key(place)
    assert verify(other, KEY).ok
    assert verify(other, KEY, HEADS).bad_seq == place


@given(place=PLACES)
def test_two_heads_of_one_number_are_a_fork(place: int) -> None:
    fork = rewritten_with_the_key(place)[place - 1]
    found = verify(LOG, KEY, [Head(place, fork.mac), *HEADS])
    assert found.bad_seq == place
    assert "forked" in found.problem


@given(place=PLACES, change=st.integers(0, 255))
def test_another_key_is_told_at_the_first_record(place: int, change: int) -> None:
    other = bytearray(KEY)
    other[place] = change
    assert verify(LOG, bytes(other)).bad_seq == (None if other == KEY else 1)


def test_a_row_below_the_first_number_is_named() -> None:
    found = verify([LOG[0]._replace(seq=0), *LOG], KEY)
    assert found.bad_seq == 0


def test_a_record_that_is_none_is_told_even_where_its_mac_fits() -> None:
    body = '{"at":"now"}'
    mac = mac_of(KEY, 1, GENESIS, body)
    found = verify([Stored(1, body, mac, {})], KEY)
    assert (found.bad_seq, found.problem) == (1, "record 1: it is not an audit record")
