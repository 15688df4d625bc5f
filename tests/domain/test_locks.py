"""Lock records are read as Go reads them, and whatever else stands in their place is told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import TypeVar

import pytest

from lockboard.domain.locks import (
    Lock,
    LockInfo,
    LockStore,
    UnreadableLock,
    info_as_json,
    lock_from_file,
    lock_from_item,
    parse_created,
    parse_lock_info,
)
from tests.domain.strategies import NAMES, NOW, attribute, created, many_inputs, record, text
from tests.domain.test_text import is_clean

T = TypeVar("T")
SEEN = (
    '{"ID":"7d0c5356-a4a1-5a0e-9b3f-0123456789ab","Operation":"OperationTypeApply","Info":"","Who":"root@vm",'
    '"Version":"1.11.4","Created":"2026-11-20T18:16:57.717784102Z","Path":"bkt1/app/terraform.tfstate"}'
)
STATE_BODY = (
    b'{"version":4,"terraform_version":"1.11.4","serial":3,"lineage":"l","outputs":{},"resources":[],'
    b'"check_results":null}'
)
ENVELOPE = (
    b'{"serial":3,"lineage":"l","meta":{"key_provider.x":"c2FsdA=="},"encrypted_data":"c2VjcmV0",'
    b'"encryption_version":"v0"}'
)


# ---- the record --------------------------------------------------------------


@many_inputs
def test_any_text_is_a_record_or_unreadable_for_a_reason_in_one_clean_line(rnd: Random) -> None:
    raw = record(rnd)
    info, why = attempt(parse_lock_info, raw)

    assert (info is None) == bool(why)
    assert is_clean(why)
    assert info is None or all(is_clean(value) for value in info_as_json(info).values())


def attempt(parse: Callable[[str], T], raw: str) -> tuple[T | None, str]:
    """What was read, or why it is unreadable."""
    try:
        return parse(raw), ""
    except UnreadableLock as error:
        return None, str(error)


@many_inputs
def test_a_record_that_terraform_wrote_is_read_back_whole(rnd: Random) -> None:
    taken = NOW + timedelta(microseconds=rnd.randrange(-(10**15), 10**15))
    id_, operation, comment, who, version, path = (
        text(rnd).encode("utf-8", "replace").decode() for _ in range(6)
    )
    spelt = taken.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"
    pairs = dict(zip(NAMES, (id_, operation, comment, who, version, spelt, path), strict=True))

    info = parse_lock_info(json.dumps(pairs, ensure_ascii=rnd.random() < 0.5))

    assert info == LockInfo(id_, operation, comment, who, version, taken, path)


def test_the_record_that_was_seen_is_read() -> None:
    assert parse_lock_info(SEEN) == LockInfo(
        "7d0c5356-a4a1-5a0e-9b3f-0123456789ab",
        "OperationTypeApply",
        "",
        "root@vm",
        "1.11.4",
        datetime(2026, 11, 20, 18, 16, 57, 717784, UTC),
        "bkt1/app/terraform.tfstate",
    )


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ('{"id":"a"}', LockInfo("a")),
        ('{"iD":"a","WHO":"w"}', LockInfo("a", who="w")),
        ('{"Ver\u017fion":"1"}', LockInfo(version="1")),
        ('{"ID":"a","id":"b"}', LockInfo("b")),
        ('{"ID":"a","ID":null}', LockInfo("a")),
        ('{"Created":null,"Who":null}', LockInfo()),
        ('{"Other":[1,{"ID":7}],"ID":"a"}', LockInfo("a")),
        ('{"Other":' + "9" * 5000 + ',"ID":"a"}', LockInfo("a")),
        ('{"ID":"\\ud800"}', LockInfo("\ud800")),
        ('{"ID":"a\\u0000b"}', LockInfo("a\0b")),
        ("null", LockInfo()),
        (" \n{}\t", LockInfo()),
    ],
)
def test_a_record_is_read_with_gos_rules(raw: str, read: LockInfo) -> None:
    assert parse_lock_info(raw) == read


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " \n",
        "[]",
        "7",
        '"x"',
        "true",
        "{",
        '{"ID":"a"} x',
        '\ufeff{"ID":"a"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"ID":7}',
        '{"ID":{}}',
        '{"ID":["a"]}',
        '{"ID":true}',
        '{"ID":"a","id":7}',
        '{"ID":7,"ID":"a"}',
        '{"Who":' + "9" * 5000 + "}",
        '{"ID":NaN}',
        '{"Other":NaN}',
        '{"Other":Infinity}',
        '{"Other":-Infinity}',
        '{"ID":"a\nb"}',
        "{'ID':'a'}",
        '{"ID":"\\x41"}',
        '{"Created":7}',
        '{"Created":""}',
        '{"Created":"yesterday"}',
        '{"Created":"2026-W01-1"}',
    ],
)
def test_what_go_refuses_is_unreadable(raw: str) -> None:
    with pytest.raises(UnreadableLock):
        parse_lock_info(raw)


def test_a_record_of_399000_bytes_is_read() -> None:
    assert parse_lock_info(json.dumps({"ID": "a", "Info": "x" * 399_000})).id == "a"


# ---- Created -----------------------------------------------------------------


@many_inputs
def test_any_created_is_a_moment_with_a_zone_or_none_or_unreadable(rnd: Random) -> None:
    raw = created(rnd)
    moment, why = attempt(parse_created, raw)

    assert is_clean(why)
    if moment is not None:
        assert moment.utcoffset() == timedelta()
        assert moment == datetime.fromisoformat(raw[:19] + _zone(raw)) + timedelta(microseconds=_micros(raw))


def _zone(raw: str) -> str:
    return "+00:00" if raw.endswith("Z") else raw[-6:]


def _micros(raw: str) -> int:
    fraction = re.match(r"\.([0-9]+)", raw[19:])
    return int((fraction[1] + "000000")[:6]) if fraction else 0


@many_inputs
def test_a_moment_is_read_back_from_any_zone(rnd: Random) -> None:
    moment = NOW + timedelta(seconds=rnd.randrange(-(10**10), 10**10))
    zone = timezone(timedelta(minutes=rnd.randrange(-23 * 60 - 59, 24 * 60)))

    assert parse_created(moment.astimezone(zone).isoformat()) == moment


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("2026-11-20T18:16:57Z", datetime(2026, 11, 20, 18, 16, 57, tzinfo=UTC)),
        ("2026-11-20T18:16:57.717784102Z", datetime(2026, 11, 20, 18, 16, 57, 717784, UTC)),
        ("2026-11-20T18:16:57.1Z", datetime(2026, 11, 20, 18, 16, 57, 100_000, UTC)),
        ("2026-11-20T18:16:57+09:00", datetime(2026, 11, 20, 9, 16, 57, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("0001-01-01T00:00:00+12:00", None),
    ],
)
def test_a_time_that_go_reads_is_a_moment_or_not_known(raw: str, moment: datetime | None) -> None:
    assert parse_created(raw) == moment


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "-1",
        "2026-11-20",
        "2026-11-20T18:16:57",
        "2026-11-20 18:16:57Z",
        "2026-11-20t18:16:57Z",
        "2026-11-20T18:16:57z",
        "2026-11-20T18:16:60Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-31T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T18:60:00Z",
        "2026-11-20T18:16:57.Z",
        "2026-11-20T18:16:57,5Z",
        "2026-11-20T18:16:57+24:00",
        "2026-11-20T18:16:57+09:60",
        "2026-11-20T18:16:57+0900",
        "2026-W01-1",
        "2026-11-20 10:00:00.1 +0000 UTC",
        "\uff12026-11-20T18:16:57Z",
        "2026-11-20T18:16:57Z\n",
        "12026-11-20T18:16:57Z",
        "2026-1-20T8:16:57Z",
    ],
)
def test_a_time_that_go_refuses_is_unreadable(raw: str) -> None:
    with pytest.raises(UnreadableLock):
        parse_created(raw)


# ---- the item ----------------------------------------------------------------


@many_inputs
def test_any_item_is_a_lock_that_is_readable_or_says_why_it_is_not(rnd: Random) -> None:
    raw, carries = record(rnd), rnd.random() < 0.3
    info = attribute(rnd, raw)

    lock = lock_from_item(info, carries_digest=carries)

    assert lock.readable == (lock.problem is None)
    assert is_clean(lock.problem or "")
    assert lock.occupied_by == ("digest" if carries else None)
    assert lock.raw == raw or info != {"S": raw}
    assert lock.acquired is None


@pytest.mark.parametrize(
    "info",
    [
        None,
        {},
        {"S": ""},
        {"N": "42"},
        {"B": b"{}"},
        {"M": {}},
        {"L": []},
        {"SS": ["{}"]},
        {"BOOL": True},
        {"NULL": True},
    ],
)
def test_an_item_without_a_text_in_info_is_an_unreadable_lock(info: dict[str, object] | None) -> None:
    lock = lock_from_item(info)

    assert (lock.store, lock.info, lock.readable) == (LockStore.DYNAMODB, None, False)


@pytest.mark.parametrize("raw", ["{}", "null", '{"Who":"root@ci"}'])
def test_a_record_without_an_id_is_one_that_force_unlock_cannot_name(raw: str) -> None:
    lock = lock_from_item({"S": raw})

    assert (lock.readable, lock.problem) == (False, "its ID is empty")


# ---- the file ----------------------------------------------------------------


@many_inputs
def test_any_body_of_a_lock_file_is_a_lock_and_only_a_readable_record_is_kept(rnd: Random) -> None:
    body = rnd.choice(
        (record(rnd).encode("utf-8", "surrogatepass"), rnd.randbytes(rnd.randrange(40)), STATE_BODY, ENVELOPE)
    )

    lock = lock_from_file(body, NOW, "etag", "v1")

    assert lock.readable == (lock.problem is None)
    assert is_clean(lock.problem or "")
    assert lock.readable or lock.raw == ""
    assert (lock.acquired, lock.etag, lock.version_id, lock.store) == (NOW, "etag", "v1", LockStore.TFLOCK)


@pytest.mark.parametrize(
    "body", [STATE_BODY, ENVELOPE, b'{"version":3,"serial":1,"lineage":"l","modules":[]}']
)
def test_a_state_at_the_place_of_a_lock_file_is_never_taken_for_a_lock(body: bytes) -> None:
    lock = lock_from_file(body, NOW, "etag", None)

    assert (lock.occupied_by, lock.info, lock.raw, lock.readable) == ("state", None, "", False)


def test_json_that_only_happens_to_lie_there_is_not_kept() -> None:
    lock = lock_from_file(b'{"serial":3,"outputs":{"password":{"value":"hunter2"}}}', NOW, "etag", None)

    assert not lock.readable
    assert "hunter2" not in repr(lock)


def test_a_lock_file_is_dated_by_the_server_and_an_item_by_its_holder() -> None:
    file = lock_from_file(SEEN.encode(), NOW, "etag", None)
    item = lock_from_item({"S": SEEN})

    assert file.since == NOW
    assert item.since == datetime(2026, 11, 20, 18, 16, 57, 717784, UTC)
    assert (file.info, file.raw) == (item.info, SEEN)


def test_bytes_that_are_not_utf8_are_replaced_as_go_replaces_them() -> None:
    lock = lock_from_file(b'{"ID":"a\xff"}', NOW, None, None)

    assert lock == Lock(LockStore.TFLOCK, '{"ID":"a\ufffd"}', LockInfo("a\ufffd"), None, NOW)
