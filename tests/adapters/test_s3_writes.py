from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import count
from threading import Barrier, Thread
from typing import Any

import boto3
import pytest

from lockboard.adapters.aws import Access, Single
from lockboard.adapters.policies import actor_policy, session_policy
from lockboard.adapters.s3 import S3States, is_probe, probe_key
from lockboard.adapters.s3_writes import DISTRUSTED_SECONDS, TRUSTED_SECONDS, S3StateWrites, Trust
from lockboard.domain.bodies import read_body
from lockboard.domain.keys import PROBE_KEY
from lockboard.domain.model import Unread
from lockboard.domain.writes import Receipt, Restorable, Sent, leaves_within
from tests.emulators import REGION, Emulator, free_port
from tests.faults import Fault, FaultProxy, Seen, call, fault_proxy, instead, refuse
from tests.iam import denied
from tests.stub_aws import WRITTEN_HTTP, Answer, Asked, Respond, StubAws, s3_error, s3_object, stub_aws

DEVIATIONS = {
    "moto": {"a body is checked against its MD5"},
    "ministack": {"a bucket key switch is kept", "a version under a delete marker has its tags"},
}
"""Emulator -> behaviour of AWS that a test here needs and it lacks."""

KEY = "env:/blue/app one.tfstate"
FILE = KEY + ".tflock"
OURS, THEIRS = '{"ID":"ours"}', '{"ID":"theirs"}'
STATE = json.dumps({"version": 4, "serial": 3, "lineage": "l", "terraform_version": "1.11.4"}).encode()
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
ERROR_500 = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


def access(url: str) -> Access:
    return Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url)


def single(url: str) -> Single:
    return Single(access(url), shared_session())


@cache
def shared_session() -> Any:
    """The first client of a session is slow."""
    return boto3.Session(region_name=REGION)


def writer(url: str, bucket: str, prefix: str = "", **more: Any) -> S3StateWrites:
    clients = single(url).clients("lockboard-action/test")
    return S3StateWrites(clients.s3, bucket, prefix, bodies=clients.bodies, **more)


def kept(emulator: Emulator, bucket: str, key: str = FILE) -> bytes | None:
    """The bytes of the current version, None where there is none."""
    try:
        return bytes(emulator.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except emulator.s3.exceptions.NoSuchKey:
        return None


def put(emulator: Emulator, bucket: str, key: str = FILE, text: str = THEIRS) -> str:
    """Put an object as another client would; its ETag."""
    return str(emulator.s3.put_object(Bucket=bucket, Key=key, Body=text.encode())["ETag"]).strip('"')


def versions(emulator: Emulator, bucket: str, key: str) -> list[str]:
    """Version IDs and, marked so, delete markers of a key."""
    answer = emulator.s3.list_object_versions(Bucket=bucket, Prefix=key)
    found = [row["VersionId"] for row in answer.get("Versions", ())]
    return found + [f"marker {row['VersionId']}" for row in answer.get("DeleteMarkers", ())]


def restorable(data: bytes = STATE, **headers: Any) -> Restorable:
    return Restorable(data, read_body(data), "v", "e", headers)


@pytest.fixture(params=["versioned", "plain", "suspended"])
def bucket(request: pytest.FixtureRequest, emulator: Emulator) -> str:
    """A bucket of each kind in turn."""
    name = emulator.make_bucket(versioned=request.param != "plain")
    if request.param == "suspended":
        emulator.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    return name


@pytest.fixture(scope="module")
def one_proxy(emulator: Emulator) -> Iterator[FaultProxy]:
    with fault_proxy(emulator.url) as found:
        yield found


@pytest.fixture
def proxy(one_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """What passes it is looked at afterwards: all of it within what AWS lets the actor's session do."""
    one_proxy.clear_rules()
    one_proxy.recording.clear()
    yield one_proxy
    requests = one_proxy.recording.requests
    for bucket in {seen.path.split("/")[1] for seen in requests}:
        role, session = actor_policy(bucket, kms_key_arns=[KMS_KEY]), session_policy(bucket, "", KEY, None)
        assert denied([role, session], requests) == []


# ------------------------------------------------------------------ the lock file


def test_a_lock_file_is_taken_only_where_none_is(emulator: Emulator, bucket: str) -> None:
    states = writer(emulator.url, bucket)
    taken = states.take_lockfile(KEY, OURS)
    assert (taken.sent, taken.operation, taken.etag) == (
        Sent.DONE,
        "s3:PutObject",
        hashlib.md5(OURS.encode()).hexdigest(),
    )
    assert taken.request_id
    again = states.take_lockfile(KEY, THEIRS)
    assert (again.sent, again.etag) == (Sent.LOST, None)
    assert "no longer as it was seen" in again.detail
    assert kept(emulator, bucket) == OURS.encode()
    assert emulator.s3.head_object(Bucket=bucket, Key=FILE)["ContentType"] == "application/json"


def test_a_lock_file_is_taken_over_only_as_it_was_seen(emulator: Emulator, bucket: str) -> None:
    states, seen = writer(emulator.url, bucket), put(emulator, bucket)
    put(emulator, bucket, text='{"ID":"newer"}')
    assert states.take_lockfile(KEY, OURS, over=seen).sent is Sent.LOST
    assert kept(emulator, bucket) == b'{"ID":"newer"}'
    seen = put(emulator, bucket)
    assert states.take_lockfile(KEY, OURS, over=seen).sent is Sent.DONE
    assert kept(emulator, bucket) == OURS.encode()


def test_a_lock_file_that_is_gone_cannot_be_taken_over(emulator: Emulator, bucket: str) -> None:
    found = writer(emulator.url, bucket).take_lockfile(KEY, OURS, over="0" * 32)
    assert found.sent is Sent.LOST
    assert kept(emulator, bucket) is None


def test_a_lock_file_is_released_only_as_it_was_seen(emulator: Emulator, bucket: str) -> None:
    states, seen = writer(emulator.url, bucket), put(emulator, bucket)
    newer = put(emulator, bucket, text='{"ID":"newer"}')
    lost = states.release_lockfile(KEY, seen)
    assert (lost.sent, lost.operation, kept(emulator, bucket)) == (
        Sent.LOST,
        "s3:DeleteObject",
        b'{"ID":"newer"}',
    )
    assert states.release_lockfile(KEY, newer).sent is Sent.DONE
    assert kept(emulator, bucket) is None
    assert states.release_lockfile(KEY, newer).sent is Sent.LOST


def test_releasing_removes_no_version(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    seen = put(emulator, bucket)
    before = versions(emulator, bucket, FILE)
    writer(emulator.url, bucket).release_lockfile(KEY, seen)
    after = versions(emulator, bucket, FILE)
    assert before == after[:1]
    assert after[1].startswith("marker ")


def test_every_write_is_conditional_sent_once_and_names_the_action(
    emulator: Emulator, proxy: FaultProxy
) -> None:
    bucket = emulator.make_bucket()
    states = writer(proxy.url, bucket)
    assert states.refuses_wrong_conditions() == ""
    taken = states.take_lockfile(KEY, OURS)
    over = states.take_lockfile(KEY, THEIRS, taken.etag)
    states.release_lockfile(KEY, str(over.etag))
    states.put_state(KEY, restorable(), None)
    states.put_state(KEY, restorable(b"{}"), hashlib.md5(STATE).hexdigest())
    writes = proxy.recording.mutations()
    assert len(writes) == 11
    for one in writes:
        assert one.operation in ("PutObject", "DeleteObject")
        assert one.conditional
        assert one.query == {}
        assert "lockboard-action/test" in one.headers["user-agent"]
        assert one.headers["amz-sdk-request"] == "attempt=1; max=1"
        assert one.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
        if one.operation == "PutObject":
            assert one.headers["content-md5"] == b64encode(hashlib.md5(one.body).digest()).decode()


@pytest.mark.parametrize("etag", ["", 'a"b', "a b", "a\nb", "é", "*" * 201])
def test_without_an_etag_to_compare_with_nothing_is_sent(etag: str) -> None:
    with stub_aws(lambda _: Answer()) as stub:
        states = writer(stub.url, "b")
        found = [
            states.release_lockfile(KEY, etag),
            states.take_lockfile(KEY, OURS, over=etag),
            states.put_state(KEY, restorable(), etag),
        ]
        assert [receipt.sent for receipt in found] == [Sent.FAILED] * 3
        assert "no ETag" in found[0].detail
        assert stub.asked == []


def test_a_star_is_an_etag_like_any_other(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    put(emulator, bucket)
    assert writer(emulator.url, bucket).release_lockfile(KEY, "*").sent is Sent.LOST
    assert kept(emulator, bucket) == THEIRS.encode()


# ------------------------------------------------------------------ restoring a version


def versioned_state(emulator: Emulator, bucket: str, **headers: Any) -> str:
    return str(emulator.s3.put_object(Bucket=bucket, Key=KEY, Body=STATE, **headers)["VersionId"])


def read(states: S3StateWrites, version_id: str) -> Restorable:
    found = states.read_version(KEY, version_id)
    assert isinstance(found, Restorable), found
    return found


HEADERS = {
    "ContentType": "application/json",
    "ContentEncoding": "identity",
    "ContentLanguage": "en",
    "ContentDisposition": "inline",
    "CacheControl": "no-store",
    "Metadata": {"team": "blue"},
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": KMS_KEY,
    "StorageClass": "STANDARD_IA",
}
TAGS = [{"Key": "cost centre", "Value": "a+b = c/d"}, {"Key": "empty", "Value": ""}]


def test_a_restored_version_is_the_old_one_in_bytes_head_and_tags(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    states = writer(emulator.url, bucket)
    lacks = "a bucket key switch is kept" in DEVIATIONS[emulator.name]
    version = versioned_state(emulator, bucket, **HEADERS, BucketKeyEnabled=True)
    emulator.s3.put_object_tagging(Bucket=bucket, Key=KEY, Tagging={"TagSet": TAGS})
    over = None
    if "a version under a delete marker has its tags" in DEVIATIONS[emulator.name]:
        over = put(emulator, bucket, KEY, "{}")
    else:
        emulator.s3.delete_object(Bucket=bucket, Key=KEY)
    before = versions(emulator, bucket, KEY)
    found = read(states, version)
    assert (found.data, found.body, found.version_id) == (STATE, read_body(STATE), version)
    put_back = states.put_state(KEY, found, over)
    assert put_back.sent is Sent.DONE
    assert put_back.etag == hashlib.md5(STATE).hexdigest()
    now = emulator.s3.get_object(Bucket=bucket, Key=KEY)
    assert now["Body"].read() == STATE
    assert {name: now.get(name) for name in HEADERS} == HEADERS
    assert now.get("BucketKeyEnabled") is (None if lacks else True)
    assert emulator.s3.get_object_tagging(Bucket=bucket, Key=KEY)["TagSet"] == TAGS
    assert set(versions(emulator, bucket, KEY)) == {*before, now["VersionId"]}
    assert put_back.version_id == now["VersionId"]


def test_a_state_is_put_over_only_as_it_was_seen(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    states, version = writer(emulator.url, bucket), versioned_state(emulator, bucket)
    seen, newer = put(emulator, bucket, KEY, '{"version":4}'), put(emulator, bucket, KEY, '{"newer":1}')
    old = read(states, version)
    assert states.put_state(KEY, old, seen).sent is Sent.LOST
    assert states.put_state(KEY, old, None).sent is Sent.LOST
    assert kept(emulator, bucket, KEY) == b'{"newer":1}'
    assert states.put_state(KEY, old, newer).sent is Sent.DONE
    assert kept(emulator, bucket, KEY) == STATE
    assert len(versions(emulator, bucket, KEY)) == 4


def test_a_version_without_tags_is_put_back_without_a_header_for_them(
    emulator: Emulator, proxy: FaultProxy
) -> None:
    bucket = emulator.make_bucket()
    version = versioned_state(emulator, bucket)
    emulator.s3.delete_object(Bucket=bucket, Key=KEY)
    states = writer(proxy.url, bucket)
    assert states.put_state(KEY, read(states, version), None).sent is Sent.DONE
    [sent] = proxy.recording.mutations()
    assert {"x-amz-tagging", "x-amz-storage-class"} & sent.headers.keys() == set()


def test_a_version_that_is_not_there_or_has_no_body_is_unread(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    states = writer(emulator.url, bucket)
    versioned_state(emulator, bucket)
    marker = emulator.s3.delete_object(Bucket=bucket, Key=KEY)["VersionId"]
    for version in (marker, "11111111-2222-3333-4444-555555555555"):
        assert isinstance(states.read_version(KEY, version), Unread)


def tagged(answer: Answer, body: Answer | None = None) -> Respond:
    """A bucket with one version whose tags are answered so."""
    version = body or s3_object(STATE)
    return lambda asked: answer if "tagging" in asked.query else version


NO_TAGS = Answer(body=b"<Tagging><TagSet></TagSet></Tagging>", headers={"Content-Type": "application/xml"})


@contextmanager
def stubbed(respond: Respond, **more: Any) -> Iterator[tuple[S3StateWrites, StubAws]]:
    with stub_aws(respond) as stub:
        yield writer(stub.url, "b", **more), stub


def test_tags_that_may_not_be_read_are_not_lost_unseen() -> None:
    with stubbed(tagged(s3_error(403, "AccessDenied"))) as (states, _):
        found = states.read_version(KEY, "v1")
    assert isinstance(found, Unread)
    assert found.denied
    assert "s3:GetObjectVersionTagging is needed" in found.reason


@pytest.mark.parametrize(
    "answer", [s3_error(500, "InternalError"), s3_error(404, "NoSuchKey"), Answer(200, b"<x/>")]
)
def test_tags_without_an_answer_are_not_lost_unseen(answer: Answer) -> None:
    two = s3_object(STATE, headers={"x-amz-tagging-count": "2"})
    with stubbed(tagged(answer, two)) as (states, _):
        found = states.read_version(KEY, "v1")
    assert isinstance(found, Unread)
    assert "would lose them" in found.reason


@pytest.mark.parametrize("answer", [s3_error(501, "NotImplemented"), s3_error(404, "NoSuchKey")])
def test_a_store_without_tags_of_versions_has_none_to_lose(answer: Answer) -> None:
    with stubbed(tagged(answer)) as (states, _):
        assert "Tagging" not in read(states, "v1").headers


def test_a_version_under_a_delete_marker_has_its_tags_or_is_known_not_to_and_is_unread(
    emulator: Emulator,
) -> None:
    bucket = emulator.make_bucket()
    version = versioned_state(emulator, bucket, Tagging="a=b")
    emulator.s3.delete_object(Bucket=bucket, Key=KEY)
    found = writer(emulator.url, bucket).read_version(KEY, version)
    lacks = "a version under a delete marker has its tags" in DEVIATIONS[emulator.name]
    assert isinstance(found, Unread if lacks else Restorable)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (s3_object(STATE, headers={"x-amz-version-id": "v2"}), "WrongVersion"),
        (Answer(200, STATE, {"ETag": '"e"', "Last-Modified": WRITTEN_HTTP}), "WrongVersion"),
        (s3_object(STATE, send=10), "IncompleteBody"),
        (s3_object(STATE, length=300 * 1024**2), "TooLarge"),
        (s3_object(STATE, headers={"x-amz-missing-meta": "1"}), "MissingMeta"),
        (s3_object(STATE, bare=True, send=10), "MissingLength"),
        (s3_error(403, "AccessDenied"), "AccessDenied"),
        (s3_error(403, "InvalidObjectState"), "InvalidObjectState"),
        (s3_error(404, "NoSuchVersion"), "NoSuchVersion"),
        (s3_error(405, "MethodNotAllowed"), "MethodNotAllowed"),
    ],
)
def test_what_is_not_all_of_that_version_is_unread(body: Answer, code: str) -> None:
    with stubbed(tagged(NO_TAGS, body)) as (states, _):
        found = states.read_version(KEY, "v1")
    assert isinstance(found, Unread)
    assert found.code == code


@pytest.mark.parametrize(
    ("told", "kept_class"),
    [
        ("GLACIER_IR", "GLACIER_IR"),
        ("INTELLIGENT_TIERING", "INTELLIGENT_TIERING"),
        ("GLACIER", None),
        ("X", None),
    ],
)
def test_a_state_is_put_back_where_terraform_can_read_it(told: str, kept_class: str | None) -> None:
    with stubbed(tagged(NO_TAGS, s3_object(STATE, headers={"x-amz-storage-class": told}))) as (states, _):
        assert read(states, "v1").headers.get("StorageClass") == kept_class


def test_a_key_id_without_kms_is_not_sent() -> None:
    head = {"x-amz-server-side-encryption": "AES256"}
    with stubbed(tagged(NO_TAGS, s3_object(STATE, headers=head))) as (states, _):
        headers = read(states, "v1").headers
    assert headers["ServerSideEncryption"] == "AES256"
    assert "SSEKMSKeyId" not in headers


def test_bytes_of_a_state_do_not_show_in_its_text() -> None:
    assert "lineage" not in repr(restorable())


# ------------------------------------------------------------------ what became of a write

Write = Callable[[S3StateWrites, str], Receipt]

WRITES: dict[str, Write] = {
    "take": lambda states, _: states.take_lockfile(KEY, OURS),
    "take over": lambda states, etag: states.take_lockfile(KEY, OURS, over=etag),
    "release": lambda states, etag: states.release_lockfile(KEY, etag),
    "restore": lambda states, _: states.put_state(KEY, restorable(), None),
}
"""The four writes, given the ETag of the lock file that was seen."""
SEEN = "0" * 32
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())

DENIED = "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: {} on resource: y"


@pytest.mark.parametrize(
    ("answer", "sent", "words"),
    [
        (s3_error(412, "PreconditionFailed"), Sent.LOST, "no longer as it was seen"),
        (s3_error(404, "NoSuchKey"), Sent.LOST, "no object stands there"),
        (s3_error(409, "ConditionalRequestConflict"), Sent.FAILED, "another write"),
        (s3_error(409, "OperationAborted"), Sent.FAILED, "OperationAborted"),
        (s3_error(404, "NoSuchBucket"), Sent.FAILED, "NoSuchBucket"),
        (s3_error(403, "AccessDenied"), Sent.FAILED, "access denied: s3:"),
        (
            s3_error(403, "AccessDenied", DENIED.format("kms:GenerateDataKey")),
            Sent.FAILED,
            "kms:GenerateDataKey is",
        ),
        (s3_error(400, "ExpiredToken"), Sent.FAILED, "credentials have expired"),
        (s3_error(403, "RequestTimeTooSkewed"), Sent.FAILED, "clock"),
        (s3_error(400, "BadDigest"), Sent.FAILED, "BadDigest"),
        (s3_error(400, "KMS.DisabledException"), Sent.FAILED, "kms:"),
        (s3_error(429, "TooManyRequests"), Sent.FAILED, "TooManyRequests"),
        (s3_error(501, "NotImplemented"), Sent.FAILED, "does not support this conditional request (501"),
        (s3_error(405, "MethodNotAllowed"), Sent.FAILED, "does not support this conditional request (405"),
        (s3_error(400, "InvalidArgument"), Sent.FAILED, "does not support this conditional request (400"),
        (
            s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"),
            Sent.FAILED,
            "it is in eu-west-1",
        ),
        (s3_error(503, "SlowDown"), Sent.UNSETTLED, "503 (SlowDown)"),
        (s3_error(500, "InternalError"), Sent.UNSETTLED, "500 (InternalError)"),
        (Answer(502, b"<html>bad gateway</html>"), Sent.UNSETTLED, "502"),
        (Answer(200, b"<html>hello</html>", {"Content-Type": "text/html"}), Sent.UNSETTLED, "the answer"),
        (Answer(204, b"", {"ETag": '"e"', "Content-Length": "7"}, bare=True), Sent.UNSETTLED, ""),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, Answer) else None,
)
def test_every_answer_has_one_meaning_and_is_asked_for_once(answer: Answer, sent: Sent, words: str) -> None:
    with stub_aws(lambda _: answer) as stub:
        receipts = {kind: write(writer(stub.url, "b"), SEEN) for kind, write in WRITES.items()}
        assert len(stub.asked) == len(WRITES)
    assert {kind: receipt.sent for kind, receipt in receipts.items()} == dict.fromkeys(WRITES, sent)
    assert [receipt.detail for receipt in receipts.values() if words not in receipt.detail] == []


def test_the_request_id_of_a_refusal_is_kept() -> None:
    answer = s3_error(412, "PreconditionFailed", x_amz_request_id="4442587FB7D0A2F9")
    with stubbed(lambda _: answer) as (states, _):
        assert states.take_lockfile(KEY, OURS).request_id == "4442587FB7D0A2F9"


@every_write
@pytest.mark.parametrize(
    ("fault", "happened"),
    [
        (Fault.CLOSE_BEFORE, False),
        (Fault.DROP_REPLY, True),
        (Fault.HALF_REPLY, True),
        (instead(500, ERROR_500), True),
        (instead(503, ERROR_500), True),
        (refuse(500, ERROR_500), False),
    ],
    ids=["closed before", "reply dropped", "half a reply", "500 after", "503 after", "500 before"],
)
def test_a_lost_reply_is_neither_done_nor_refused(
    emulator: Emulator,
    proxy: FaultProxy,
    write: Write,
    fault: Any,
    happened: bool,
) -> None:
    bucket = emulator.make_bucket()
    states = writer(proxy.url, bucket)
    seen_etag = put(emulator, bucket) if write is not WRITES["take"] else SEEN
    proxy.on(proxy.mutation, fault)
    receipt = write(states, seen_etag)
    assert receipt.sent is Sent.UNSETTLED
    assert receipt.detail
    [seen] = proxy.recording.requests
    assert seen.committed is happened


def test_a_request_that_is_not_answered_in_time_is_unsettled() -> None:
    with stub_aws(lambda _: Answer(body=b"late", stall=True, send=0)) as stub:
        states = S3StateWrites(stub.client("s3", read_timeout=0.2), "b")
        receipt = states.take_lockfile(KEY, OURS)
        assert len(stub.asked) == 1
    assert (receipt.sent, receipt.detail) == (Sent.UNSETTLED, "no answer came in time (ReadTimeoutError)")


def test_a_body_that_leaves_too_slowly_is_given_up_and_no_object_comes_of_it(emulator: Emulator) -> None:
    """By then another replica may have taken the process for dead."""
    size = 4 * 1024 * 1024
    bucket, asked = emulator.make_bucket(versioned=True), count()

    def after_some_pieces() -> float:
        return 0.0 if next(asked) < 20 else leaves_within(size) + 1

    states = writer(emulator.url, bucket, monotonic=after_some_pieces)
    receipt = states.put_state(KEY, restorable(b"x" * size), None)

    assert receipt.sent is Sent.UNSETTLED
    assert kept(emulator, bucket, KEY) is None


def test_what_never_left_failed_certainly(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = writer(f"http://127.0.0.1:{free_port()}", "b").take_lockfile(KEY, OURS)
    assert (refused.sent, "nothing was sent" in refused.detail) == (Sent.FAILED, True)
    nowhere = writer("http://nowhere.invalid", "b").take_lockfile(KEY, OURS)
    assert (nowhere.sent, "nothing was sent" in nowhere.detail) == (Sent.FAILED, True)
    with stub_aws(lambda _: Answer()) as stub:
        plain = writer(stub.url.replace("http", "https"), "b").take_lockfile(KEY, OURS)
        assert (plain.sent, "nothing was sent" in plain.detail) == (Sent.FAILED, True)
        surrogate = writer(stub.url, "b").take_lockfile("\ud800", OURS)
        assert (surrogate.sent, "nothing was sent" in surrogate.detail) == (Sent.FAILED, True)
        nothing = writer(stub.url, "b").put_state(KEY, restorable(Metadata={"a": 1}), None)
        assert (nothing.sent, "nothing was sent" in nothing.detail) == (Sent.FAILED, True)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        anonymous = S3StateWrites(Single(access(stub.url)).clients("x").s3, "b").take_lockfile(KEY, OURS)
        assert (anonymous.sent, "no AWS credentials" in anonymous.detail) == (Sent.FAILED, True)
        assert stub.asked == []


def test_a_damaged_body_is_refused_by_the_service(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()

    def damage(request: Any, **_: object) -> None:
        request.headers.replace_header("Content-MD5", b64encode(hashlib.md5(b"other").digest()).decode())

    clients = single(emulator.url).clients("x")
    clients.s3.meta.events.register("before-sign.s3.PutObject", damage)
    receipt = S3StateWrites(clients.s3, bucket).put_state(KEY, restorable(), None)
    lacks = "a body is checked against its MD5" in DEVIATIONS[emulator.name]
    assert (receipt.sent, kept(emulator, bucket, KEY)) == (
        (Sent.DONE, STATE) if lacks else (Sent.FAILED, None)
    )


# ------------------------------------------------------------------ trust


def test_a_store_that_honours_conditions_is_trusted_and_keeps_nothing(
    emulator: Emulator, bucket: str
) -> None:
    with fault_proxy(emulator.url) as proxy:
        assert writer(proxy.url, bucket, "team/").refuses_wrong_conditions() == ""
        assert proxy.recording.operations() == [
            "DeleteObject",
            "PutObject",
            "PutObject",
            "PutObject",
            "DeleteObject",
            "GetObject",
            "DeleteObject",
        ]
        paths = {seen.path for seen in proxy.recording.requests}
    assert len(paths) == 1
    key = paths.pop().removeprefix(f"/{bucket}/")
    assert key.startswith(f"team/{PROBE_KEY}-")
    assert is_probe(key)
    assert emulator.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


class Store:
    """One object in memory; `judge` says what the store does with a request's condition: True to obey what it
    says, None to answer nothing but `Answer`s of its own.
    """

    def __init__(self, honours: Callable[[Asked], bool | Answer]) -> None:
        self.body: bytes | None = None
        self.honours = honours
        self.unconditional = 0

    def __call__(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            if self.body is None:
                return s3_error(404, "NoSuchKey")
            return s3_object(self.body, headers={"ETag": f'"{self.etag}"'})
        conditions = {"if-match", "if-none-match"} & asked.headers.keys()
        self.unconditional += not conditions
        verdict = self.honours(asked)
        if isinstance(verdict, Answer):
            return verdict
        if verdict and not self.holds(asked):
            absent = self.body is None
            return s3_error(404, "NoSuchKey") if absent else s3_error(412, "PreconditionFailed")
        self.body = asked.body if asked.method == "PUT" else None
        return Answer(204) if asked.method == "DELETE" else Answer(headers={"ETag": f'"{self.etag}"'})

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body or b"").hexdigest()

    def holds(self, asked: Asked) -> bool:
        if "if-none-match" in asked.headers:
            return self.body is None
        return self.body is not None and asked.headers["if-match"] == f'"{self.etag}"'


def is_delete(asked: Asked) -> bool:
    return asked.method == "DELETE"


NOT_IMPLEMENTED = s3_error(501, "NotImplemented", "A header you provided implies functionality")
LIARS: dict[str, tuple[Callable[[Asked], bool | Answer], str]] = {
    "ignores every condition": (lambda _: False, "performed a PUT over an existing object"),
    "ignores If-None-Match": (
        lambda a: "if-none-match" not in a.headers,
        "performed a PUT over an existing object",
    ),
    "ignores If-Match of a PUT": (
        lambda a: is_delete(a) or "if-match" not in a.headers,
        "performed a PUT with a wrong `If-Match`",
    ),
    "ignores If-Match of a DELETE": (
        lambda a: not is_delete(a),
        "performed a DELETE with a wrong `If-Match`",
    ),
    "knows no conditional DELETE (501)": (
        lambda a: NOT_IMPLEMENTED if is_delete(a) else True,
        "501 NotImplemented",
    ),
    "knows no conditional DELETE (405)": (
        lambda a: s3_error(405, "MethodNotAllowed") if is_delete(a) else True,
        "405 MethodNotAllowed",
    ),
    "knows no conditional PUT (501)": (
        lambda a: True if is_delete(a) else NOT_IMPLEMENTED,
        "501 NotImplemented",
    ),
    "knows no conditional PUT (400)": (
        lambda a: True if is_delete(a) else s3_error(400, "InvalidArgument"),
        "400 InvalidArgument",
    ),
    "refuses all PUTs with a condition": (
        lambda a: True if is_delete(a) else s3_error(412, "PreconditionFailed"),
        "refuses `If-None-Match: *` where nothing stands",
    ),
    "refuses all DELETEs with a condition": (
        lambda a: s3_error(412, "PreconditionFailed") if is_delete(a) else True,
        "refuses a DELETE with the right `If-Match`",
    ),
}


@pytest.mark.parametrize(("honours", "words"), LIARS.values(), ids=LIARS.keys())
def test_a_store_that_does_not_honour_conditions_is_not_trusted_and_never_written_to_without(
    honours: Callable[[Asked], bool | Answer], words: str
) -> None:
    store = Store(honours)
    with stubbed(store) as (states, stub):
        verdict = states.refuses_wrong_conditions()
        assert words in verdict
        asked = len(stub.asked)
        assert [states.refuses_wrong_conditions() for _ in range(20)] == [verdict] * 20
        assert len(stub.asked) == asked
    assert store.unconditional == 0
    assert store.body is None or "refuses a DELETE" in words


def test_a_store_that_says_no_and_does_it_all_the_same_is_not_trusted() -> None:
    store = Store(lambda _: True)

    def respond(asked: Asked) -> Answer:
        answer = store(asked)
        if answer.status == 412 and asked.method == "PUT":
            store.body = asked.body
        return answer

    with stubbed(respond) as (states, _):
        assert "answered that it refused a change, and made it" in states.refuses_wrong_conditions()
    assert store.body is None


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("honours", "lasts"), [(True, TRUSTED_SECONDS), (False, DISTRUSTED_SECONDS)])
def test_a_finding_is_shared_and_remembered_for_its_time(honours: bool, lasts: float) -> None:
    time, trust_of = Time(), Trust
    trust = trust_of(time)
    with stub_aws(Store(lambda _: honours)) as stub:
        found = writer(stub.url, "b", trust=trust).refuses_wrong_conditions()
        asked = len(stub.asked)
        time.now += lasts - 1
        assert writer(stub.url, "b", trust=trust).refuses_wrong_conditions() == found
        assert len(stub.asked) == asked
        time.now += 1
        assert writer(stub.url, "b", trust=trust).refuses_wrong_conditions() == found
        assert len(stub.asked) == 2 * asked


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(403, "AccessDenied"),
        s3_error(503, "SlowDown"),
        s3_error(404, "NoSuchBucket"),
        s3_error(400, "ExpiredToken"),
    ],
    ids=lambda answer: str(answer.status),
)
@pytest.mark.parametrize("failing", range(7))
def test_a_test_that_could_not_be_made_says_so_is_not_remembered_and_leaves_nothing(
    answer: Answer, failing: int
) -> None:
    store, number = Store(lambda _: True), count()
    with stubbed(lambda asked: answer if next(number) == failing else store(asked)) as (states, _):
        verdict = states.refuses_wrong_conditions()
        assert verdict.startswith("whether this store honours conditions could not be tried: ")
        assert states.refuses_wrong_conditions() == ""
    assert (store.body, store.unconditional) == (None, 0)


@pytest.mark.parametrize("lost", range(7))
def test_a_test_whose_reply_is_lost_is_cleaned_up(emulator: Emulator, proxy: FaultProxy, lost: int) -> None:
    bucket = emulator.make_bucket(versioned=False)
    proxy.on(lambda seen: seen.number == lost, Fault.DROP_REPLY)
    assert "could not be tried" in writer(proxy.url, bucket).refuses_wrong_conditions()
    assert emulator.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert all(seen.conditional for seen in proxy.recording.mutations())


def test_two_replicas_testing_at_once_do_not_disturb_each_other(emulator: Emulator) -> None:
    bucket, gate, found = emulator.make_bucket(), Barrier(4), list[str]()

    def run() -> None:
        states = writer(emulator.url, bucket)
        gate.wait()
        found.append(states.refuses_wrong_conditions())

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [""] * 4


# ------------------------------------------------------------------ listings leave the test out


def test_listings_and_sweeps_leave_the_probe_out_while_it_stands_and_after(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    put(emulator, bucket, "team/app.tfstate")
    put(emulator, bucket, "team/app.tfstate.tflock")
    put(emulator, bucket, f"team/{PROBE_KEY}.tflock")
    clients = single(emulator.url).clients("x")
    states = S3States(clients.s3, bucket, lambda: datetime(2026, 11, 20, tzinfo=UTC))
    seen: list[list[str]] = []

    def look(_: Seen) -> None:
        seen.append([row[0] for page in states.list_pages("") for row in page])
        seen.append([row.key for page in states.sweep_pages("") for row in page])

    theirs = [f"team/{PROBE_KEY}.tflock", "team/app.tfstate", "team/app.tfstate.tflock"]
    swept = [theirs[0], theirs[2]]
    with fault_proxy(emulator.url) as proxy:
        proxy.on(lambda one: one.number == 2, call(before=look))
        assert writer(proxy.url, bucket, "team/").refuses_wrong_conditions() == ""
    look(proxy.recording.requests[0])
    assert seen == [theirs, swept, theirs, swept]


def test_only_what_a_test_writes_is_left_out() -> None:
    token = "0123456789abcdef" * 2
    assert is_probe(probe_key("a/b-", token) + ".tflock")
    for key in (
        probe_key("", token),
        probe_key("", token) + ".tfstate",
        probe_key("", token[1:]) + ".tflock",
        probe_key("", token) + ".tflock.tflock",
        f"{PROBE_KEY}.tflock",
        "app.tfstate.tflock",
    ):
        assert not is_probe(key)


def test_an_emulator_keeps_the_bucket_key_switch_or_is_known_not_to(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    versioned_state(emulator, bucket, **HEADERS, BucketKeyEnabled=True)
    found = emulator.s3.head_object(Bucket=bucket, Key=KEY).get("BucketKeyEnabled")
    assert (not found) == ("a bucket key switch is kept" in DEVIATIONS[emulator.name])
