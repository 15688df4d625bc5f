from __future__ import annotations

import json
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest

from lockboard.adapters.aws import Access, Single
from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.adapters.dynamodb_writes import DynamoTableWrites, low_level
from lockboard.adapters.policies import actor_policy, session_policy
from lockboard.domain.digests import Attribute
from lockboard.domain.ports import TableItem
from lockboard.domain.writes import Receipt, Sent
from tests.emulators import REGION, Emulator, free_port
from tests.faults import Fault, FaultProxy, fault_proxy, instead, refuse
from tests.iam import ACCOUNT, denied
from tests.stub_aws import Answer, Respond, StubAws, dynamo, dynamo_error, stub_aws

KEY = "env:/blue/app one*.tfstate"
LOCK = f"acme-tfstate/{KEY}"
DIGEST = LOCK + "-md5"
OURS, THEIRS = '{"ID":"ours","Operation":"lockboard-repair"}', '{"ID":"theirs"}'
OLD, NEW = "0" * 32, "1" * 32
ERROR_500 = json.dumps({"__type": "x#InternalServerError", "message": "internal"}).encode()
JSON_1_0 = {"Content-Type": "application/x-amz-json-1.0"}


def token() -> str:
    return str(uuid.uuid4())


@cache
def shared_session() -> Any:
    """The first client of a session is slow."""
    return boto3.Session(region_name=REGION)


def client(url: str) -> Any:
    """A client of one attempt that belongs to nobody else."""
    access = Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url)
    return Single(access, shared_session()).clients("lockboard-action/test").dynamodb


def writer(url: str, table: str = "locks") -> DynamoTableWrites:
    return DynamoTableWrites(client(url), table)


def no_wait(_: float) -> None:
    """Reading one item never waits."""


class Table:
    """A lock table of an emulator as another client would use it."""

    def __init__(self, emulator: Emulator) -> None:
        self.client, self.name = emulator.dynamodb, emulator.make_table()
        self._own = client(emulator.url)

    def put(self, lock_id: str, **attributes: Any) -> None:
        self.client.put_item(TableName=self.name, Item={"LockID": {"S": lock_id}} | attributes)

    def item(self, lock_id: str) -> Any:
        """All attributes but the key, None where there is no item."""
        key = {"LockID": {"S": lock_id}}
        found = self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")
        return None if found is None else {name: value for name, value in found.items() if name != "LockID"}

    def seen(self, lock_id: str) -> TableItem:
        """The item as Lockboard reads it for its pages."""
        reader = DynamoLockTable(self._own, self.name, lambda: datetime.now(UTC), lambda: 0.0, no_wait)
        item = reader.item(lock_id)
        assert isinstance(item, TableItem)
        return item


@pytest.fixture(scope="module")
def one_proxy(emulator: Emulator) -> Iterator[FaultProxy]:
    with fault_proxy(emulator.url) as found:
        yield found


@pytest.fixture(scope="module")
def one_table(emulator: Emulator) -> Table:
    return Table(emulator)


@pytest.fixture(scope="module")
def locks(one_proxy: FaultProxy, one_table: Table) -> DynamoTableWrites:
    """The writer, through the proxy."""
    return writer(one_proxy.url, one_table.name)


@pytest.fixture
def proxy(one_proxy: FaultProxy, one_table: Table) -> Iterator[FaultProxy]:
    """What passes it is looked at afterwards: transactions only, each part conditional, each with a token of
    its own, and all of it within what AWS lets the actor's session do.
    """
    one_proxy.clear_rules()
    one_proxy.recording.clear()
    yield one_proxy
    requests = one_proxy.recording.requests
    for seen in requests:
        assert seen.operation == "TransactWriteItems"
        assert seen.conditional
        assert seen.headers["amz-sdk-request"] == "attempt=1; max=1"
        assert "lockboard-action/test" in seen.headers["user-agent"]
    tokens = [seen.document["ClientRequestToken"] for seen in requests]
    assert len(set(tokens)) == len(tokens)
    role = actor_policy(
        "acme-tfstate", "env:/", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{one_table.name}"
    )
    assert denied([role, session_policy("acme-tfstate", "env:/", KEY, one_table.name)], requests) == []


@pytest.fixture
def table(one_table: Table, proxy: FaultProxy) -> Table:
    """The lock table, empty, all that is sent to it looked at."""
    for lock_id in (LOCK, DIGEST, LOCK + "2"):
        one_table.client.delete_item(TableName=one_table.name, Key={"LockID": {"S": lock_id}})
    return one_table


def change(
    locks: DynamoTableWrites,
    old: Attribute | None = None,
    new: str | None = NEW,
    *,
    absent: bool = False,
    info: str = OURS,
) -> Receipt:
    """A change of the digest under our lock."""
    return locks.change_digest(
        DIGEST, absent=absent, old=old, new=new, lock_id=LOCK, info=info, token=token()
    )


# ------------------------------------------------------------------ locks, as they were seen

BIG = "x" * 399_000
INFOS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "string": ({"S": THEIRS}, {"S": THEIRS.replace("t", "T", 1)}),
    "binary": ({"B": b"\x00\xff\xfe{}"}, {"B": b"\x00\xff\xff{}"}),
    "number": ({"N": "41"}, {"N": "42"}),
    "null": ({"NULL": True}, {"BOOL": True}),
    "map": ({"M": {"ID": {"S": "x"}, "b": {"B": b"\xff"}}}, {"M": {"ID": {"S": "x"}, "b": {"B": b"\xfe"}}}),
    "list": ({"L": [{"S": "x"}, {"L": [{"N": "1"}]}]}, {"L": [{"S": "x"}, {"L": [{"N": "2"}]}]}),
    "boolean": ({"BOOL": True}, {"BOOL": False}),
    "set of strings": ({"SS": ["a", "b"]}, {"SS": ["a", "c"]}),
    "empty string": ({"S": ""}, {"S": " "}),
    "absent": (None, {"S": ""}),
    "399 KB": ({"S": BIG + "y"}, {"S": BIG + "z"}),
    "duplicate keys": ({"S": '{"ID":"a","ID":"b"}'}, {"S": '{"ID":"b","ID":"b"}'}),
    "set of binaries": ({"BS": [b"\x01", b"\x02"]}, {"BS": [b"\x01", b"\x03"]}),
    "a digit as text": ({"S": "7"}, {"N": "7"}),
    "text as binary": ({"S": "text"}, {"B": b"text"}),
    "a text to be escaped": ({"S": '\u2028\x01"\\😀'}, {"S": '\u2028\x02"\\😀'}),
}
"""What may stand in a lock's Info -> it, and the same changed by one byte or in its type alone."""
every_info = pytest.mark.parametrize(("exact", "changed"), INFOS.values(), ids=INFOS.keys())


def info(attribute: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if attribute is None else {"Info": attribute}


@every_info
def test_a_lock_is_removed_exactly_as_it_was_seen_and_not_if_a_byte_of_it_changed(
    table: Table, locks: DynamoTableWrites, exact: dict[str, Any] | None, changed: dict[str, Any] | None
) -> None:
    table.put(LOCK, **info(exact))
    seen = table.seen(LOCK).info
    table.put(LOCK, **info(changed))
    lost = locks.release_lock(LOCK, seen, token())
    assert (lost.sent, lost.operation) == (Sent.LOST, "dynamodb:TransactWriteItems")
    assert "no longer as it was seen" in lost.detail
    assert table.item(LOCK) == info(changed)
    table.put(LOCK, **info(exact))
    assert locks.release_lock(LOCK, seen, token()).sent is Sent.DONE
    assert table.item(LOCK) is None


@every_info
def test_a_lock_is_taken_over_exactly_as_it_was_seen_and_not_if_a_byte_of_it_changed(
    table: Table, locks: DynamoTableWrites, exact: dict[str, Any] | None, changed: dict[str, Any] | None
) -> None:
    table.put(LOCK, **info(exact))
    seen = table.seen(LOCK).info
    table.put(LOCK, **info(changed))
    assert locks.replace_lock(LOCK, seen, OURS, token()).sent is Sent.LOST
    assert table.item(LOCK) == info(changed)
    table.put(LOCK, **info(exact), Expires={"N": "1"})
    assert locks.replace_lock(LOCK, seen, OURS, token()).sent is Sent.DONE
    assert table.item(LOCK) == {"Info": {"S": OURS}}


def test_a_lock_without_info_is_not_one_with_it(table: Table, locks: DynamoTableWrites) -> None:
    table.put(LOCK)
    assert locks.release_lock(LOCK, {"S": THEIRS}, token()).sent is Sent.LOST
    assert table.item(LOCK) == {}


def test_a_lock_that_is_gone_cannot_be_removed_or_taken_over(table: Table, locks: DynamoTableWrites) -> None:
    for old in ({"S": THEIRS}, None):
        assert locks.release_lock(LOCK, old, token()).sent is Sent.LOST
        assert locks.replace_lock(LOCK, old, OURS, token()).sent is Sent.LOST
    assert table.item(LOCK) is None


@pytest.mark.parametrize("old", [{"S": THEIRS}, None], ids=["Info", "no Info"])
def test_an_item_with_a_digest_is_never_taken_for_a_lock(
    table: Table, locks: DynamoTableWrites, old: Attribute | None
) -> None:
    table.put(LOCK, **info(old), Digest={"S": OLD})
    before = table.item(LOCK)
    assert locks.release_lock(LOCK, old, token()).sent is Sent.LOST
    assert locks.replace_lock(LOCK, old, OURS, token()).sent is Sent.LOST
    assert locks.take_lock(LOCK, OURS, token()).sent is Sent.LOST
    assert table.item(LOCK) == before


def test_a_lock_is_taken_only_where_none_is(table: Table, locks: DynamoTableWrites) -> None:
    taken = locks.take_lock(LOCK, OURS, token())
    assert (taken.sent, taken.operation) == (Sent.DONE, "dynamodb:TransactWriteItems")
    assert taken.request_id
    again = locks.take_lock(LOCK, THEIRS, token())
    assert again.sent is Sent.LOST
    assert "there is an item already" in again.detail
    assert again.request_id
    assert table.item(LOCK) == {"Info": {"S": OURS}}


def test_other_items_are_left_alone(table: Table, locks: DynamoTableWrites) -> None:
    table.put(LOCK, Info={"S": THEIRS})
    table.put(DIGEST, Digest={"S": OLD})
    table.put(LOCK + "2", Info={"S": THEIRS})
    assert locks.release_lock(LOCK, {"S": THEIRS}, token()).sent is Sent.DONE
    assert (table.item(DIGEST), table.item(LOCK + "2")) == ({"Digest": {"S": OLD}}, {"Info": {"S": THEIRS}})


# ------------------------------------------------------------------ digests, under our lock

DIGESTS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "hexadecimal": ({"S": OLD}, {"S": OLD[1:] + "a"}),
    "upper case": ({"S": "A" * 32}, {"S": "a" * 32}),
    "not hexadecimal": ({"S": "not-hex"}, {"S": "not-heX"}),
    "binary": ({"B": b"\xff\x00"}, {"B": b"\xff\x01"}),
    "number": ({"N": "1"}, {"S": "1"}),
    "empty": ({"S": ""}, {"S": "x"}),
    "absent": (None, {"S": ""}),
}
every_digest = pytest.mark.parametrize(("exact", "changed"), DIGESTS.values(), ids=DIGESTS.keys())


def digest(attribute: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if attribute is None else {"Digest": attribute}


@every_digest
@pytest.mark.parametrize("new", [NEW, None], ids=["set", "removed"])
def test_a_digest_is_changed_exactly_as_it_was_seen_and_not_if_a_byte_of_it_changed(
    table: Table,
    locks: DynamoTableWrites,
    exact: dict[str, Any] | None,
    changed: dict[str, Any] | None,
    new: str | None,
) -> None:
    table.put(LOCK, Info={"S": OURS})
    table.put(DIGEST, **digest(exact))
    seen = table.seen(DIGEST).digest
    table.put(DIGEST, **digest(changed))
    lost = change(locks, seen, new)
    assert (lost.sent, "the item is no longer" in lost.detail) == (Sent.LOST, True)
    assert "no longer ours" not in lost.detail
    assert table.item(DIGEST) == digest(changed)
    table.put(DIGEST, **digest(exact), Note={"S": "kept"})
    assert change(locks, seen, new).sent is Sent.DONE
    assert table.item(DIGEST) == ({"Digest": {"S": NEW}, "Note": {"S": "kept"}} if new else None)
    assert table.item(LOCK) == {"Info": {"S": OURS}}


def test_a_digest_is_added_only_where_there_is_no_item(table: Table, locks: DynamoTableWrites) -> None:
    table.put(LOCK, Info={"S": OURS})
    assert change(locks, absent=True).sent is Sent.DONE
    assert table.item(DIGEST) == {"Digest": {"S": NEW}}
    again = change(locks, absent=True, new=OLD)
    assert (again.sent, "there is an item already" in again.detail) == (Sent.LOST, True)
    assert table.item(DIGEST) == {"Digest": {"S": NEW}}


def test_a_digest_that_is_gone_is_not_changed(table: Table, locks: DynamoTableWrites) -> None:
    table.put(LOCK, Info={"S": OURS})
    for old in ({"S": OLD}, None):
        for new in (NEW, None):
            assert change(locks, old, new).sent is Sent.LOST
    assert table.item(DIGEST) is None


LOCKS_NOT_OURS: dict[str, dict[str, Any] | None] = {
    "gone": None,
    "theirs": {"Info": {"S": THEIRS}},
    "changed by a byte": {"Info": {"S": OURS + " "}},
    "of another type": {"Info": {"B": OURS.encode()}},
    "without Info": {},
}


@pytest.mark.parametrize("held", LOCKS_NOT_OURS.values(), ids=LOCKS_NOT_OURS.keys())
def test_no_digest_is_changed_under_a_lock_that_is_not_ours(
    table: Table, locks: DynamoTableWrites, held: dict[str, Any] | None
) -> None:
    if held is not None:
        table.put(LOCK, **held)
    absent = change(locks, absent=True)
    table.put(DIGEST, Digest={"S": OLD})
    found = [absent, change(locks, {"S": OLD}), change(locks, {"S": OLD}, None)]
    assert [receipt.sent for receipt in found] == [Sent.LOST] * 3
    assert all("the lock is no longer ours" in receipt.detail for receipt in found)
    assert (table.item(DIGEST), table.item(LOCK)) == ({"Digest": {"S": OLD}}, held)


def test_both_reasons_are_told_where_lock_and_digest_changed(table: Table, locks: DynamoTableWrites) -> None:
    table.put(LOCK, Info={"S": THEIRS})
    table.put(DIGEST, Digest={"S": NEW})
    lost = change(locks, {"S": OLD})
    assert lost.sent is Sent.LOST
    assert "the lock is no longer ours and the item is no longer as it was seen" in lost.detail


@pytest.mark.parametrize("old", [{"S": OLD}, None], ids=["Digest", "no Digest"])
def test_an_item_with_info_is_never_taken_for_a_digest(
    table: Table, locks: DynamoTableWrites, old: Attribute | None
) -> None:
    table.put(LOCK, Info={"S": OURS})
    table.put(DIGEST, Info={"S": THEIRS}, **digest(old))
    before = table.item(DIGEST)
    for new in (NEW, None):
        assert change(locks, old, new).sent is Sent.LOST
    assert table.item(DIGEST) == before


def test_removing_a_digest_that_is_not_there_sends_nothing(
    locks: DynamoTableWrites, proxy: FaultProxy
) -> None:
    receipt = change(locks, absent=True, new=None)
    assert (receipt.sent, receipt.detail) == (Sent.FAILED, "nothing was sent: there is no digest to remove")
    assert proxy.recording.requests == []


# ------------------------------------------------------------------ what became of a write

Write = Callable[[DynamoTableWrites], Receipt]

WRITES: dict[str, Write] = {
    "take": lambda locks: locks.take_lock(LOCK, OURS, token()),
    "take over": lambda locks: locks.replace_lock(LOCK, {"S": OURS}, THEIRS, token()),
    "release": lambda locks: locks.release_lock(LOCK, {"S": OURS}, token()),
    "set a digest": lambda locks: change(locks, {"S": OLD}),
    "add a digest": lambda locks: change(locks, absent=True),
    "remove a digest": lambda locks: change(locks, {"S": OLD}, None),
}
STANDING: dict[str, dict[str, dict[str, Any]]] = {
    "take": {},
    "take over": {LOCK: {"Info": {"S": OURS}}},
    "release": {LOCK: {"Info": {"S": OURS}}},
    "set a digest": {LOCK: {"Info": {"S": OURS}}, DIGEST: {"Digest": {"S": OLD}}},
    "add a digest": {LOCK: {"Info": {"S": OURS}}},
    "remove a digest": {LOCK: {"Info": {"S": OURS}}, DIGEST: {"Digest": {"S": OLD}}},
}
"""The six changes, and the items among which each is possible."""


@contextmanager
def stubbed(respond: Respond) -> Iterator[tuple[DynamoTableWrites, StubAws]]:
    with stub_aws(respond) as stub:
        yield writer(stub.url), stub


def cancelled(*codes: str, document: bool = True, message: str = "") -> Answer:
    """A cancelled transaction: with the reasons as DynamoDB writes them, or in its message alone."""
    told = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"}
    text = (
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(codes)}]"
    )
    reasons = {"CancellationReasons": [{"Code": code} for code in codes]} if document else {}
    return Answer(400, json.dumps(told | {"Message": message or text} | reasons).encode(), JSON_1_0)


DENIED = "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: {} on resource: y"


@pytest.mark.parametrize(
    ("answer", "sent", "words"),
    [
        (dynamo_error("TransactionConflictException"), Sent.FAILED, "another change of the item was under"),
        (
            dynamo_error("ReplicatedWriteConflictException"),
            Sent.FAILED,
            "another change of the item was under",
        ),
        (dynamo_error("TransactionInProgressException"), Sent.UNSETTLED, "still at work"),
        (
            dynamo_error("IdempotentParameterMismatchException"),
            Sent.FAILED,
            "IdempotentParameterMismatchException",
        ),
        (dynamo_error("ConditionalCheckFailedException"), Sent.FAILED, "ConditionalCheckFailedException"),
        (dynamo_error("ThrottlingException"), Sent.FAILED, "ThrottlingException"),
        (
            dynamo_error("ProvisionedThroughputExceededException"),
            Sent.FAILED,
            "ProvisionedThroughputExceededException",
        ),
        (dynamo_error("RequestLimitExceeded"), Sent.FAILED, "RequestLimitExceeded"),
        (dynamo_error("ValidationException"), Sent.FAILED, "ValidationException"),
        (dynamo_error("ResourceNotFoundException"), Sent.FAILED, "ResourceNotFoundException"),
        (dynamo_error("AccessDeniedException"), Sent.FAILED, "access denied: dynamodb:"),
        (
            dynamo_error("AccessDeniedException", DENIED.format("dynamodb:ConditionCheckItem")),
            Sent.FAILED,
            "access denied: dynamodb:ConditionCheckItem is needed",
        ),
        (dynamo_error("ExpiredTokenException"), Sent.FAILED, "credentials have expired"),
        (dynamo_error("UnrecognizedClientException"), Sent.FAILED, "access key is not known"),
        (dynamo_error("InternalServerError", status=500), Sent.UNSETTLED, "500 (InternalServerError)"),
        (dynamo_error("ServiceUnavailable", status=503), Sent.UNSETTLED, "503 (ServiceUnavailable)"),
        (Answer(502, b"<html>bad gateway</html>"), Sent.UNSETTLED, "502"),
        (Answer(200, b"<html>hello</html>", {"Content-Type": "text/html"}), Sent.UNSETTLED, "answer"),
        (Answer(200, b"{}", {"Content-Type": "application/json"}), Sent.UNSETTLED, "not what DynamoDB"),
        (Answer(200, b"{}", JSON_1_0, length=7), Sent.UNSETTLED, ""),
        (dynamo({}), Sent.DONE, ""),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, Answer) else None,
)
def test_every_answer_has_one_meaning_and_is_asked_for_once(answer: Answer, sent: Sent, words: str) -> None:
    with stub_aws(lambda _: answer) as stub:
        receipts = {kind: write(writer(stub.url)) for kind, write in WRITES.items()}
        assert stub.operations() == ["TransactWriteItems"] * len(WRITES)
    assert {kind: receipt.sent for kind, receipt in receipts.items()} == dict.fromkeys(WRITES, sent)
    assert [receipt.detail for receipt in receipts.values() if words not in receipt.detail] == []


@pytest.mark.parametrize("document", [True, False], ids=["reasons", "message"])
@pytest.mark.parametrize(
    ("codes", "sent", "words"),
    [
        (("None", "ConditionalCheckFailed"), Sent.LOST, "the item is no longer as it was seen (Cond"),
        (("ConditionalCheckFailed", "None"), Sent.LOST, "the lock is no longer ours (Cond"),
        (
            ("ConditionalCheckFailed", "ConditionalCheckFailed"),
            Sent.LOST,
            "no longer ours and the item is no longer as it",
        ),
        (("TransactionConflict", "ConditionalCheckFailed"), Sent.LOST, "the item is no longer as it was"),
        (("None", "TransactionConflict"), Sent.FAILED, "another change of the item was under way"),
        (("None", "ThrottlingError"), Sent.FAILED, "cancelled (ThrottlingError)"),
        (("ProvisionedThroughputExceeded", "None"), Sent.FAILED, "(ProvisionedThroughputExceeded)"),
        (("None", "ValidationError"), Sent.FAILED, "(ValidationError)"),
        (("ItemCollectionSizeLimitExceeded", "None"), Sent.FAILED, "(ItemCollectionSizeLimitExceeded)"),
    ],
)
def test_the_reasons_of_a_cancelled_transaction_are_told_apart(
    codes: tuple[str, ...], sent: Sent, words: str, document: bool
) -> None:
    with stubbed(lambda _: cancelled(*codes, document=document)) as (locks, stub):
        receipt = change(locks, {"S": OLD})
        assert len(stub.asked) == 1
    assert receipt.sent is sent
    assert words in receipt.detail


def test_a_cancellation_without_reasons_is_told_in_the_service_s_words() -> None:
    with stubbed(lambda _: cancelled(document=False, message="because")) as (locks, _):
        receipt = WRITES["release"](locks)
    assert receipt.sent is Sent.FAILED
    assert receipt.detail == "the transaction was cancelled (TransactionCanceledException): because"


def test_the_request_id_of_a_refusal_is_kept() -> None:
    answer = cancelled("ConditionalCheckFailed")
    named = Answer(400, answer.body, {**JSON_1_0, "x-amzn-RequestId": "4442587FB7D0A2F9"})
    with stubbed(lambda _: named) as (locks, _):
        receipt = WRITES["release"](locks)
    assert (receipt.sent, receipt.request_id) == (Sent.LOST, "4442587FB7D0A2F9")


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(
    ("fault", "happened"),
    [
        (Fault.CLOSE_BEFORE, False),
        (Fault.DROP_REPLY, True),
        (Fault.HALF_REPLY, True),
        (instead(500, ERROR_500, JSON_1_0), True),
        (instead(503, ERROR_500, JSON_1_0), True),
        (refuse(500, ERROR_500, JSON_1_0), False),
    ],
    ids=["closed before", "reply dropped", "half a reply", "500 after", "503 after", "500 before"],
)
def test_a_lost_reply_is_neither_done_nor_refused_and_is_sent_once(
    table: Table, locks: DynamoTableWrites, proxy: FaultProxy, kind: str, fault: Any, happened: bool
) -> None:
    for lock_id, attributes in STANDING[kind].items():
        table.put(lock_id, **attributes)
    proxy.on(proxy.mutation, fault)
    receipt = WRITES[kind](locks)
    assert receipt.sent is Sent.UNSETTLED
    assert receipt.detail
    [seen] = proxy.recording.requests
    assert seen.committed is happened
    standing = {lock_id: table.item(lock_id) for lock_id in (LOCK, DIGEST) if table.item(lock_id) is not None}
    assert (standing != STANDING[kind]) is happened


def test_a_request_that_is_not_answered_in_time_is_unsettled() -> None:
    with stub_aws(lambda _: Answer(body=b"late", stall=True, send=0)) as stub:
        locks = DynamoTableWrites(stub.client("dynamodb", read_timeout=0.2), "t")
        receipt = WRITES["release"](locks)
        assert len(stub.asked) == 1
    assert (receipt.sent, receipt.detail) == (Sent.UNSETTLED, "no answer came in time (ReadTimeoutError)")


def test_what_never_left_failed_certainly() -> None:
    refused = WRITES["take"](writer(f"http://127.0.0.1:{free_port()}"))
    assert (refused.sent, "nothing was sent" in refused.detail) == (Sent.FAILED, True)
    nowhere = WRITES["take"](writer("http://nowhere.invalid"))
    assert (nowhere.sent, "nothing was sent" in nowhere.detail) == (Sent.FAILED, True)
    with stubbed(lambda _: dynamo({})) as (locks, stub):
        untyped = locks.take_lock(LOCK, OURS, 7)  # type: ignore[arg-type]
        assert (untyped.sent, "nothing was sent" in untyped.detail) == (Sent.FAILED, True)
        assert stub.asked == []


# ------------------------------------------------------------------ the token


def test_a_change_sent_again_with_its_token_is_made_once(emulator: Emulator, table: Table) -> None:
    locks, same = writer(emulator.url, table.name), token()
    assert locks.take_lock(LOCK, OURS, same).sent is Sent.DONE
    table.put(LOCK, Info={"S": THEIRS})
    again = locks.take_lock(LOCK, OURS, same)
    ignored = emulator.deviates("a transaction's token is honoured")
    assert again.sent is (Sent.LOST if ignored else Sent.DONE)
    assert table.item(LOCK) == {"Info": {"S": THEIRS}}


def test_the_token_is_the_one_given() -> None:
    with stubbed(lambda _: dynamo({})) as (locks, stub):
        locks.take_lock(LOCK, OURS, "6f7a1c6e-0000-4000-8000-000000000001")
    assert stub.asked[0].document["ClientRequestToken"] == "6f7a1c6e-0000-4000-8000-000000000001"


# ------------------------------------------------------------------ values


def test_binary_values_are_bytes_again_however_deep() -> None:
    encoded = b64encode(b"\x00\xff").decode()
    assert low_level({"B": encoded}) == {"B": b"\x00\xff"}
    assert low_level({"BS": [encoded]}) == {"BS": [b"\x00\xff"]}
    nested = {"M": {"a": {"L": [{"B": encoded}, {"NULL": True}]}}}
    assert low_level(nested) == {"M": {"a": {"L": [{"B": b"\x00\xff"}, {"NULL": True}]}}}


@pytest.mark.parametrize(
    "attribute",
    [
        {},
        {"S": "x", "N": "1"},
        {"B": 7},
        {"B": "no base64!"},
        {"BS": "x"},
        {"L": "x"},
        {"M": [1]},
        {"L": [7]},
    ],
    ids=str,
)
def test_a_value_that_dynamodb_does_not_write_is_never_compared_with(attribute: Any) -> None:
    with stubbed(lambda _: dynamo({})) as (locks, stub):
        found = [
            locks.release_lock(LOCK, attribute, token()),
            locks.replace_lock(LOCK, attribute, OURS, token()),
            change(locks, attribute),
        ]
        assert [receipt.sent for receipt in found] == [Sent.FAILED] * 3
        assert stub.asked == []
    assert "nothing was sent" in found[0].detail
