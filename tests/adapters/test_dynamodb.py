from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from math import ceil
from typing import Any

import pytest

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.domain.errors import AccessDenied, ReadError, Throttled, Unreachable
from lockboard.domain.model import Unread
from lockboard.domain.ports import TableItem
from tests.emulators import REGION, Emulator
from tests.stub_aws import (
    Answer,
    Asked,
    FakeTable,
    Respond,
    StubAws,
    dynamo,
    dynamo_error,
    in_order,
    stub_aws,
)

ON_DEMAND = dynamo({"Table": {"BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"}}})


class Time:
    """A clock that goes forward only when slept on; `slept` is every wait asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def clock() -> datetime:
    return datetime(2026, 11, 20, 18, tzinfo=UTC)


@contextmanager
def table(
    respond: Respond, time: Time | None = None, **more: Any
) -> Iterator[tuple[DynamoLockTable, StubAws]]:
    """A reader of a scripted table."""
    time = time or Time()
    config = more.pop("config", {})
    with stub_aws(respond) as stub:
        yield DynamoLockTable(stub.client("dynamodb", **config), "t", clock, time, time.sleep, **more), stub


def reader(emulator: Emulator, name: str) -> DynamoLockTable:
    clients = open_session(Access(REGION, s3_endpoint_url=emulator.url, dynamodb_endpoint_url=emulator.url))
    time = Time()
    return DynamoLockTable(clients.dynamodb, name, clock, time, time.sleep)


def scripted(*scans: Answer, described: Answer = ON_DEMAND) -> Respond:
    """DescribeTable is always answered alike, scans one after the other."""
    following = in_order(*scans)
    return lambda asked: described if asked.operation == "DescribeTable" else following(asked)


def scanned(found: Iterator[Sequence[TableItem]]) -> list[TableItem]:
    return [item for page in found for item in page]


# ------------------------------------------------------------------ on both emulators


def test_items_come_with_their_attributes_as_written_and_nothing_else(emulator: Emulator) -> None:
    name = emulator.make_table()
    items: list[dict[str, Any]] = [
        {"LockID": {"S": "b/k"}, "Info": {"S": '{"ID":"x"}'}, "Tag": {"S": "y"}},
        {"LockID": {"S": "b/k-md5"}, "Digest": {"S": "fad67a84f7ddef1a9de62c85afc3b70a"}},
        {"LockID": {"S": "한국 +%?"}, "Info": {"B": b"xx"}},
        {"LockID": {"S": "n"}, "Info": {"N": "7"}, "Digest": {"L": [{"BOOL": True}]}},
        {"LockID": {"S": "nothing"}},
    ]
    for item in items:
        emulator.dynamodb.put_item(TableName=name, Item=item)
    locks = reader(emulator, name)
    expected = [
        TableItem("b/k", {"S": '{"ID":"x"}'}, None),
        TableItem("b/k-md5", None, {"S": "fad67a84f7ddef1a9de62c85afc3b70a"}),
        TableItem("n", {"N": "7"}, {"L": [{"BOOL": True}]}),
        TableItem("nothing", None, None),
        TableItem("한국 +%?", {"B": "eHg="}, None),
    ]
    assert sorted(scanned(locks.scan_pages()), key=lambda item: item.lock_id) == expected
    assert [locks.item(item.lock_id) for item in expected] == expected
    assert locks.item("absent") is None
    assert locks.requests.snapshot() == {"list": 0, "scan": 1, "get": 6, "versions": 0, "other": 1}


def test_a_table_over_several_pages_is_read_whole(emulator: Emulator) -> None:
    name = emulator.make_table()
    for number in range(5):
        emulator.dynamodb.put_item(
            TableName=name, Item={"LockID": {"S": f"b/{number}"}, "Info": {"S": "x" * 300_000}}
        )
    locks = reader(emulator, name)
    assert sorted(item.lock_id for item in scanned(locks.scan_pages())) == [f"b/{n}" for n in range(5)]
    assert locks.requests.counts["scan"] > 1


def test_an_empty_table_has_no_items(emulator: Emulator) -> None:
    assert scanned(reader(emulator, emulator.make_table()).scan_pages()) == []


def test_a_table_that_does_not_exist_is_an_error(emulator: Emulator) -> None:
    locks = reader(emulator, "no-such-table")
    with pytest.raises(ReadError) as raised:
        scanned(locks.scan_pages())
    assert raised.value.code == "ResourceNotFoundException"
    item = locks.item("x")
    assert isinstance(item, Unread)
    assert item.code == "ResourceNotFoundException"


# ------------------------------------------------------------------ what is asked


def test_reads_are_consistent_projected_and_tell_what_they_cost() -> None:
    with table(FakeTable(3)) as (locks, stub):
        scanned(locks.scan_pages())
        locks.item("b/k")
        for asked in [asked for asked in stub.asked if asked.operation != "DescribeTable"]:
            request = asked.document
            assert request["ConsistentRead"] is True
            assert request["ReturnConsumedCapacity"] == "TOTAL"
            names = request["ExpressionAttributeNames"]
            wanted = [names[name.strip()] for name in request["ProjectionExpression"].split(",")]
            assert wanted == ["LockID", "Info", "Digest"]


def test_a_table_on_demand_is_read_in_full_pages_without_a_pause() -> None:
    time = Time()
    with table(FakeTable(20_000), time) as (locks, stub):
        assert len(scanned(locks.scan_pages())) == 20_000
        pages = ceil(20_000 / (1024**2 // 130))
        assert stub.operations() == ["DescribeTable"] + ["Scan"] * pages
        assert not any("Limit" in asked.document for asked in stub.asked)
    assert time.slept == []


def test_the_table_is_described_once_an_hour() -> None:
    time = Time()
    with table(FakeTable(3), time) as (locks, stub):
        for moment in (0, 3599, 3601):
            time.now = 1000.0 + moment
            scanned(locks.scan_pages())
        assert stub.operations().count("DescribeTable") == 2


# ------------------------------------------------------------------ the read budget


@pytest.mark.parametrize(
    ("read_units", "item_bytes"), [(1, 5000), (5, 130), (5, 450), (100, 1300), (100, 5000)]
)
def test_a_scan_takes_at_most_a_quarter_of_a_table_s_capacity(read_units: int, item_bytes: int) -> None:
    time = Time()
    fake = FakeTable(2 * 1024**2 // item_bytes, item_bytes=item_bytes, read_units=read_units)
    with table(fake, time) as (locks, _):
        while time.now < 1600.0:
            assert len(scanned(locks.scan_pages())) == fake.items
    *paid, _ = fake.taken  # the last page is paid for by waiting before the next
    assert sum(paid) <= read_units * 0.25 * (time.now - 1000.0) + 1e-6
    assert max(fake.taken) <= max(read_units, ceil(item_bytes / 4096))


def test_the_first_page_comes_at_once_and_the_next_scan_pays_for_the_last() -> None:
    time = Time()
    with table(FakeTable(20, item_bytes=200, read_units=5), time) as (locks, _):
        scanned(locks.scan_pages())
        assert time.slept == []
        scanned(locks.scan_pages())
        assert time.slept == [pytest.approx(1 / 1.25)]


def test_a_single_item_never_waits_but_is_paid_for() -> None:
    time = Time()

    def respond(asked: Asked) -> Answer:
        if asked.operation == "GetItem":
            return dynamo({"ConsumedCapacity": {"CapacityUnits": 5.0}})
        return FakeTable(20, read_units=5)(asked)

    with table(respond, time) as (locks, _):
        scanned(locks.scan_pages())
        for _ in range(3):
            locks.item("x")
        assert time.slept == []
        scanned(locks.scan_pages())
        assert sum(time.slept) == pytest.approx((1 + 15) / 1.25)


def test_where_the_cost_is_not_told_the_length_of_the_answer_stands_for_it() -> None:
    time = Time()
    items = [{"LockID": {"S": "x" * 1000}} for _ in range(40)]
    described = dynamo({"Table": {"ProvisionedThroughput": {"ReadCapacityUnits": 10}}})
    more = {"LastEvaluatedKey": {"LockID": {"S": "x"}}}
    first = dynamo({"Items": items} | more)
    with table(scripted(first, dynamo({"Items": []}), described=described), time) as (locks, _):
        scanned(locks.scan_pages())
    assert time.slept == [pytest.approx(ceil(len(first.body) / 4096) / 2.5)]


def test_a_table_that_may_not_be_described_is_paced_as_if_it_gave_25_units() -> None:
    time, fake = Time(), FakeTable(20_000, item_bytes=1300)

    def respond(asked: Asked) -> Answer:
        return dynamo_error("AccessDeniedException") if asked.operation == "DescribeTable" else fake(asked)

    with table(respond, time) as (locks, stub):
        assert len(scanned(locks.scan_pages())) == 20_000
        limits = [asked.document["Limit"] for asked in stub.asked if asked.operation == "Scan"]
    assert max(limits[1:]) <= 25 * 4096 / 1300
    assert sum(time.slept) == pytest.approx(sum(fake.taken[:-1]) / (25 * 0.25))


def test_on_demand_capacity_with_a_maximum_is_kept_to() -> None:
    described = dynamo(
        {
            "Table": {
                "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
                "OnDemandThroughput": {"MaxReadRequestUnits": 40},
            }
        }
    )
    with table(scripted(dynamo({"Items": []}), described=described)) as (locks, stub):
        scanned(locks.scan_pages())
        assert stub.asked[-1].document["Limit"] == 40 * 4096 // 400


def test_a_throttle_ends_the_scan_without_another_try() -> None:
    respond = scripted(dynamo_error("ProvisionedThroughputExceededException"))
    retries = {"retries": {"mode": "standard", "total_max_attempts": 3}}
    with table(respond, config=retries) as (locks, stub):
        with pytest.raises(Throttled):
            scanned(locks.scan_pages())
        assert stub.operations() == ["DescribeTable", "Scan"]
        assert (locks.requests.counts["scan"], locks.requests.throttled) == (1, 1)


def test_another_failure_of_a_scan_is_tried_again() -> None:
    numbers = count(1)

    def respond(asked: Asked) -> Answer:
        if asked.operation == "Scan" and next(numbers) == 1:
            return dynamo_error("InternalServerError", status=500)
        return FakeTable(3)(asked)

    with table(respond, config={"retries": {"mode": "standard", "total_max_attempts": 3}}) as (locks, stub):
        assert len(scanned(locks.scan_pages())) == 3
        assert stub.operations() == ["DescribeTable", "Scan", "Scan"]


# ------------------------------------------------------------------ faults


def paged(following: str | None, items: int = 1) -> Answer:
    more = {"LastEvaluatedKey": {"LockID": {"S": following}}} if following is not None else {}
    return dynamo({"Items": [{"LockID": {"S": f"i{following}-{n}"}} for n in range(items)]} | more)


@pytest.mark.parametrize(
    ("answers", "code", "scans"),
    [
        ([paged(str(n)) for n in range(30)], "EndlessListing", 20),
        ([paged("a"), paged("b"), paged("a")], "RepeatedPage", 3),
        ([paged("a"), paged("b", 2), paged("a", 0)], "RepeatedToken", 3),
        ([paged(str(n), 0) for n in range(30)], "EmptyPages", 6),
        ([Answer(200, b"<html></html>")], "NotAListing", 1),
        ([Answer(200, b'{"Items": 7}')], "NotAListing", 1),
        ([Answer(200, b'{"Items": [{"LockID": 7}]}')], "NotAListing", 1),
    ],
)
def test_a_scan_that_goes_nowhere_is_refused(answers: list[Answer], code: str, scans: int) -> None:
    with table(scripted(*answers), max_pages=20) as (locks, stub):
        with pytest.raises(ReadError) as raised:
            scanned(locks.scan_pages())
        assert (raised.value.operation, raised.value.code) == ("dynamodb:Scan", code)
        assert stub.operations().count("Scan") == scans


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_scan_that_fails_on_any_page_fails(failing: int) -> None:
    answers = [paged("a"), paged("b"), paged("c"), paged(None)]
    answers[failing] = dynamo_error("InternalServerError", status=500)
    with table(scripted(*answers)) as (locks, _), pytest.raises(ReadError):
        scanned(locks.scan_pages())


def test_denied_reads_name_their_actions() -> None:
    denied = dynamo_error("AccessDeniedException", "not authorized")
    with table(scripted(denied)) as (locks, _):
        with pytest.raises(AccessDenied) as raised:
            scanned(locks.scan_pages())
        assert raised.value.operation == "dynamodb:Scan"
        item = locks.item("x")
    assert isinstance(item, Unread)
    assert (item.denied, "dynamodb:GetItem" in item.reason) == (True, True)


def test_an_expired_token_or_a_silent_service_is_unreachable() -> None:
    with table(scripted(dynamo_error("ExpiredTokenException"))) as (locks, _), pytest.raises(Unreachable):
        scanned(locks.scan_pages())
    stalled = Answer(200, b"x", send=0, stall=True)
    with table(lambda _: stalled, config={"read_timeout": 0.1}) as (locks, _), pytest.raises(Unreachable):
        scanned(locks.scan_pages())


@pytest.mark.parametrize(
    "described", [b"<html></html>", b'{"Table": 7}', b"{}", b"[]", b'{"Table": {"KeySchema": 7}}']
)
def test_a_description_that_is_none_is_refused(described: bytes) -> None:
    with table(lambda _: Answer(200, described)) as (locks, _), pytest.raises(ReadError) as raised:
        scanned(locks.scan_pages())
    assert raised.value.operation == "dynamodb:DescribeTable"


@pytest.mark.parametrize(
    "answer", [Answer(200, b"<html></html>"), Answer(200, b'{"Item": [7]}'), Answer(500)]
)
def test_an_item_that_cannot_be_read_is_unread_and_never_absent(answer: Answer) -> None:
    with table(lambda _: answer) as (locks, _):
        assert isinstance(locks.item("x"), Unread)
