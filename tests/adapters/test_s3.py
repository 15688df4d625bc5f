from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil
from threading import Barrier
from typing import Any

import pytest

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.s3 import MAX_LOCKFILE, S3States
from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.errors import AccessDenied, ReadError, Throttled, Unreachable
from lockboard.domain.locks import Lock
from lockboard.domain.model import History, StateObject, Unread
from lockboard.domain.ports import SweptKey
from tests.emulators import REGION, Emulator
from tests.stub_aws import (
    WRITTEN,
    Answer,
    Asked,
    FakeBucket,
    Kept,
    Respond,
    StubAws,
    in_order,
    listing,
    s3_error,
    s3_object,
    stub_aws,
    version_listing,
    version_row,
)

NOW = datetime(2026, 11, 20, 18, 0, 0, tzinfo=UTC)
STATE = json.dumps({"version": 4, "serial": 3, "lineage": "l", "terraform_version": "1.11.4"}).encode()
LOCK = json.dumps({"ID": "7d0c5356", "Operation": "OperationTypeApply", "Who": "root@ci"}).encode()
ODD_KEYS = [
    "plain.tfstate",
    "remote",
    "with space.tfstate",
    "plus+plus.tfstate",
    "percent%41%2F.tfstate",
    "query?a=b&c#d.tfstate",
    "quotes'\"`<x>&amp;.tfstate",
    "한국/서울/terraform.tfstate",
    "é-nfc.tfstate",
    "e\u0301-nfd.tfstate",
    "env:/staging/app.tfstate",
    "a/../b.tfstate",
    "./dot",
    "double//slash",
    "/leading",
    "trailing/",
    "back\\slash",
    "tab\there",
    "rtl\u202eoverride",
    "emoji😀.tfstate",
    "x" * 1024,
]


def clock() -> datetime:
    return NOW


@contextmanager
def states(respond: Respond, **more: Any) -> Iterator[tuple[S3States, StubAws]]:
    """A reader of a scripted bucket."""
    config = more.pop("config", {})
    date = more.pop("date", None)
    with stub_aws(respond, date=date) as stub:
        yield S3States(stub.client("s3", **config), "b", clock, **more), stub


def reader(emulator: Emulator, bucket: str, **more: Any) -> S3States:
    clients = open_session(Access(REGION, s3_endpoint_url=emulator.url, dynamodb_endpoint_url=emulator.url))
    return S3States(clients.s3, bucket, clock, bodies=clients.bodies, **more)


def listed(found: Iterator[Sequence[Any]]) -> list[str]:
    return [row[0] for page in found for row in page]


def keys_of(total: int) -> list[str]:
    return [f"k{n:06}" for n in range(total)]


def fences_of(keys: Sequence[str], page: int = 1000) -> list[str]:
    """Every thousandth key that another one follows."""
    return sorted(keys)[page - 1 : len(keys) - 1 : page]


# ------------------------------------------------------------------ on both emulators


@pytest.fixture
def odd_keys(emulator: Emulator) -> list[str]:
    return ODD_KEYS + ([] if emulator.deviates("a key may hold a newline") else ["new\nline"])


def test_odd_keys_are_listed_read_and_told_apart(emulator: Emulator, odd_keys: list[str]) -> None:
    bucket = emulator.make_bucket(versioned=False)
    for number, key in enumerate(odd_keys):
        emulator.s3.put_object(Bucket=bucket, Key=key, Body=b"%d" % number)
    s3 = reader(emulator, bucket)
    rows = [row for page in s3.list_pages("") for row in page]
    assert [row[0] for row in rows] == sorted(odd_keys)
    for number, key in enumerate(odd_keys):
        md5 = hashlib.md5(b"%d" % number).hexdigest()
        state = s3.read_state(key)
        assert isinstance(state, StateObject)
        assert (state.md5, state.etag) == (md5, md5)
        assert (key, md5) in [row[:2] for row in rows]


def test_odd_keys_have_their_own_history(emulator: Emulator, odd_keys: list[str]) -> None:
    bucket = emulator.make_bucket()
    for number, key in enumerate(odd_keys):
        for _ in range(1 + number % 2):
            emulator.s3.put_object(Bucket=bucket, Key=key, Body=b"x" * number)
    s3 = reader(emulator, bucket)
    for number, key in enumerate(odd_keys):
        history = s3.history(key)
        assert isinstance(history, History)
        assert [version.size for version in history.versions] == [number] * (1 + number % 2)


def test_a_listing_is_of_its_prefix_alone(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    for key in ("a/1", "a b/2", "b/3"):
        emulator.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    s3 = reader(emulator, bucket)
    assert listed(s3.list_pages("a b")) == ["a b/2"]
    assert listed(s3.list_pages("c")) == []
    assert s3.requests.snapshot() == {"list": 2, "scan": 0, "get": 0, "versions": 0, "other": 0}


@pytest.mark.parametrize("total", [9, 10, 11, 35])
def test_fences_give_the_same_listing_for_the_same_requests(emulator: Emulator, total: int) -> None:
    bucket, keys = emulator.make_bucket(versioned=False), [f"k +%{n:06}" for n in range(total)]
    for key in keys:
        emulator.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for fences in ([], fences_of(keys, 10)):
        s3 = reader(emulator, bucket, page=10)
        assert listed(s3.list_pages("", fences)) == keys
        assert s3.requests.counts["list"] == ceil(total / 10)


def test_a_state_is_hashed_and_its_header_read(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    put = emulator.s3.put_object(Bucket=bucket, Key="k", Body=STATE)
    s3 = reader(emulator, bucket)
    state = s3.read_state("k")
    assert isinstance(state, StateObject)
    assert isinstance(state.body, Body)
    assert (state.size, state.version_id) == (len(STATE), put["VersionId"])
    assert (state.md5, state.body.serial, state.body.kind) == (
        hashlib.md5(STATE).hexdigest(),
        3,
        BodyKind.STATE,
    )
    assert state.last_modified.tzinfo is UTC
    assert s3.requests.counts["get"] == 1


def test_an_object_of_no_bytes_is_there_and_empty(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    emulator.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    state = reader(emulator, bucket).read_state("k")
    assert isinstance(state, StateObject)
    assert isinstance(state.body, Body)
    assert (state.size, state.body.kind) == (0, BodyKind.EMPTY)


def test_a_large_body_is_read_whole(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    body = (
        STATE[:-1]
        + b', "outputs": {"x": {"value": "'
        + random.Random(1).randbytes(3_000_000).hex().encode()
        + b'"}}}'
    )
    emulator.s3.put_object(Bucket=bucket, Key="k", Body=body)
    state = reader(emulator, bucket).read_state("k")
    assert isinstance(state, StateObject)
    assert (state.size, state.md5) == (len(body), hashlib.md5(body).hexdigest())


def test_a_multipart_object_s_etag_is_kept_beside_its_md5(emulator: Emulator) -> None:
    bucket, s3 = emulator.make_bucket(), emulator.s3
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=STATE)
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    state = reader(emulator, bucket).read_state("k")
    assert isinstance(state, StateObject)
    assert state.etag.endswith("-1")
    assert state.md5 == hashlib.md5(STATE).hexdigest()


def test_an_absent_state_is_none_with_and_without_a_delete_marker(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    emulator.s3.put_object(Bucket=bucket, Key="k", Body=STATE)
    emulator.s3.delete_object(Bucket=bucket, Key="k")
    s3 = reader(emulator, bucket)
    assert (s3.read_state("k"), s3.read_state("never")) == (None, None)


def test_an_absent_bucket_is_no_proof_of_an_absent_state(emulator: Emulator) -> None:
    s3 = reader(emulator, "no-such-bucket-here")
    for part in (s3.read_state("k"), s3.read_lockfile("k"), s3.read_body("k", "v")):
        assert isinstance(part, Unread)
        assert part.code == "NoSuchBucket"
    with pytest.raises(ReadError) as raised:
        listed(s3.list_pages(""))
    assert (raised.value.operation, raised.value.code) == ("s3:ListBucket", "NoSuchBucket")


def test_history_is_newest_first_with_its_delete_markers_in_place(emulator: Emulator) -> None:
    bucket, s3 = emulator.make_bucket(), emulator.s3
    expected: list[tuple[str, bool]] = []
    for body in (b"1", b"22", None, b"4444", None):
        if body is None:
            answer = s3.delete_object(Bucket=bucket, Key="k")
        else:
            answer = s3.put_object(Bucket=bucket, Key="k", Body=body)
        expected.insert(0, (answer["VersionId"], body is None))
    for other in ("k.tflock", "k2", "j"):
        s3.put_object(Bucket=bucket, Key=other, Body=b"")
    found = reader(emulator, bucket)
    history = found.history("k")
    assert isinstance(history, History)
    assert [(v.version_id, v.delete_marker) for v in history.versions] == expected
    assert [v.latest for v in history.versions] == [True, False, False, False, False]
    assert [v.size for v in history.versions] == [0, 4, 0, 2, 1]
    assert history.complete
    assert found.requests.counts["versions"] == 1


def test_a_version_s_body_is_read_by_its_id(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    old = emulator.s3.put_object(Bucket=bucket, Key="k", Body=STATE)["VersionId"]
    emulator.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    marker = emulator.s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    s3 = reader(emulator, bucket)
    body = s3.read_body("k", old)
    assert isinstance(body, Body)
    assert body.md5 == hashlib.md5(STATE).hexdigest()
    for version_id in (marker, "00000000-0000-0000-0000-000000000000"):
        assert isinstance(s3.read_body("k", version_id), Unread)
        assert isinstance(s3.read_state("k", version_id), Unread)


def test_the_history_of_an_unversioned_bucket_is_the_object_itself(emulator: Emulator) -> None:
    bucket = emulator.make_bucket(versioned=False)
    emulator.s3.put_object(Bucket=bucket, Key="k", Body=STATE)
    history = reader(emulator, bucket).history("k")
    assert isinstance(history, History)
    assert [(v.etag, v.latest) for v in history.versions] == [(hashlib.md5(STATE).hexdigest(), True)]


def test_versioning_is_told(emulator: Emulator) -> None:
    bucket = emulator.make_bucket(versioned=False)
    s3 = reader(emulator, bucket)
    told = [s3.versioning()]
    for status in ("Enabled", "Suspended"):
        emulator.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        told.append(s3.versioning())
    assert told == ["off", "enabled", "suspended"]


def test_a_sweep_finds_the_deleted_and_every_lock_file(emulator: Emulator) -> None:
    bucket, s3 = emulator.make_bucket(), emulator.s3
    for key in ("alive", "dead", "back", "held.tflock", "freed.tflock", "gone-for-good"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    markers = {
        key: s3.delete_object(Bucket=bucket, Key=key)["VersionId"] for key in ("dead", "back", "freed.tflock")
    }
    s3.put_object(Bucket=bucket, Key="back", Body=b"2")
    version = s3.list_object_versions(Bucket=bucket, Prefix="gone-for-good")["Versions"][0]["VersionId"]
    s3.delete_object(Bucket=bucket, Key="gone-for-good", VersionId=version)
    found = reader(emulator, bucket)
    swept = [row for page in found.sweep_pages("") for row in page]
    assert sorted(swept) == [
        SweptKey("dead", markers["dead"]),
        SweptKey("freed.tflock", markers["freed.tflock"]),
        SweptKey("held.tflock", None),
    ]
    assert found.requests.counts["versions"] == 1


def test_versions_that_span_pages_are_swept_and_listed_the_same(emulator: Emulator) -> None:
    bucket, s3 = emulator.make_bucket(), emulator.s3
    for number in range(9):
        for key in ("a", "a.tflock", "b"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x" * number)
        markers = {key: s3.delete_object(Bucket=bucket, Key=key)["VersionId"] for key in ("a.tflock", "b")}
    found = reader(emulator, bucket, page=4)
    swept = [row for page in found.sweep_pages("") for row in page]
    assert sorted(swept) == [SweptKey(key, markers[key]) for key in ("a.tflock", "b")]
    for key, total in (("a", 9), ("a.tflock", 18), ("b", 18)):
        history = found.history(key)
        assert isinstance(history, History)
        assert (len(history.versions), [v.latest for v in history.versions].index(True)) == (total, 0)
        assert [v.size for v in history.versions if not v.delete_marker] == list(range(8, -1, -1))


def test_a_lock_file_is_read_beside_its_state(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    emulator.s3.put_object(Bucket=bucket, Key="k.tflock", Body=LOCK)
    emulator.s3.put_object(Bucket=bucket, Key="s.tflock", Body=STATE)
    s3 = reader(emulator, bucket)
    lock = s3.read_lockfile("k")
    assert isinstance(lock, Lock)
    assert lock.info is not None
    assert (lock.info.id, lock.readable, lock.raw) == ("7d0c5356", True, LOCK.decode())
    assert lock.acquired is not None
    occupied = s3.read_lockfile("s")
    assert isinstance(occupied, Lock)
    assert (occupied.info, occupied.raw, occupied.occupied_by) == (None, "", "state")
    assert s3.read_lockfile("free") is None


def test_an_older_lock_file_is_read_by_its_version(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    for body in (LOCK, STATE):
        emulator.s3.put_object(Bucket=bucket, Key="k.tflock", Body=body)
    emulator.s3.delete_object(Bucket=bucket, Key="k.tflock")
    s3 = reader(emulator, bucket)
    history = s3.history("k.tflock")
    assert isinstance(history, History)
    found = [s3.read_lockfile("k", version.version_id) for version in history.versions]
    assert isinstance(found[0], Unread)
    assert [lock.raw for lock in found[1:] if isinstance(lock, Lock)] == ["", LOCK.decode()]


# ------------------------------------------------------------------ listing, scripted


def test_a_healthy_listing_costs_one_request_a_thousand_objects() -> None:
    for total in (0, 1, 999, 1000, 1001, 2000, 3999, 12000):
        keys = keys_of(total)
        for fences in ([], fences_of(keys)):
            with states(FakeBucket(keys)) as (s3, stub):
                assert listed(s3.list_pages("", fences)) == keys
                assert len(stub.asked) == max(1, ceil(total / 1000)) == s3.requests.counts["list"]


def test_a_fenced_listing_equals_a_serial_one_whatever_changed_since() -> None:
    rng = random.Random(20261120)
    bucket = FakeBucket([], page=10)
    with states(bucket) as (s3, _):
        for _ in range(60):
            bucket.keys = {f"p/{rng.randrange(10**6):06}" for _ in range(rng.randrange(300))}
            fences = fences_of(sorted(bucket.keys), 10)
            churn(bucket, rng, rng.choice([0, 1, 30, 300]))
            prefix = rng.choice(["", "p/", "p/5"])
            fenced = [row for page in s3.list_pages(prefix, fences) for row in page]
            assert fenced == [row for page in s3.list_pages(prefix) for row in page]
            assert [row[0] for row in fenced] == sorted(k for k in bucket.keys if k.startswith(prefix))


def churn(bucket: FakeBucket, rng: random.Random, changes: int) -> None:
    for _ in range(changes):
        if bucket.keys and rng.random() < 0.5:
            bucket.keys.discard(rng.choice(sorted(bucket.keys)))
        else:
            bucket.keys.add(rng.choice(["p/", "o/", "p/5", "p/é"]) + str(rng.randrange(10**6)))


def test_eight_stretches_are_under_way_at_the_same_time() -> None:
    keys, number, together = keys_of(100), count(1), Barrier(8)
    bucket = FakeBucket(keys, page=10)

    def respond(asked: Asked) -> Answer:
        if next(number) <= 8:
            together.wait(10)  # breaks, and fails the request, unless eight arrive
        return bucket(asked)

    with states(respond) as (s3, _):
        assert listed(s3.list_pages("", fences_of(keys, 10))) == keys


def test_fences_that_vanished_or_belong_elsewhere_do_no_harm() -> None:
    keys = [f"p/{key}" for key in keys_of(30)]
    with states(FakeBucket([*keys, "a", "q"], page=10)) as (s3, _):
        assert listed(s3.list_pages("p/", ["a", "p/zzz", "p/k000009x", "q", "p/k000009x"])) == keys


def test_a_listing_that_is_left_early_ends() -> None:
    keys = keys_of(300)
    with states(FakeBucket(keys, page=10)) as (s3, stub):
        pages = s3.list_pages("", fences_of(keys, 10))
        assert len(next(pages)) == 10
        pages.close()  # type: ignore[attr-defined]
        assert len(stub.asked) < 30


def test_a_store_that_lists_out_of_order_is_refused_once_and_then_listed_undivided() -> None:
    bucket = FakeBucket(keys_of(40), page=10)

    def backwards(asked: Asked) -> Answer:
        answer = bucket(asked)
        if "start-after" not in asked.query:
            return answer
        return listing([Kept(key) for key in sorted(bucket.keys, reverse=True)])

    with states(backwards) as (s3, _):
        with pytest.raises(ReadError) as raised:
            listed(s3.list_pages("", fences_of(keys_of(40), 10)))
        assert raised.value.code == "OutOfOrder"
        assert listed(s3.list_pages("", fences_of(keys_of(40), 10))) == keys_of(40)


@pytest.mark.parametrize("failing", [1, 2, 3, 5])
@pytest.mark.parametrize("fenced", [False, True])
def test_a_listing_that_fails_on_any_page_fails(failing: int, *, fenced: bool) -> None:
    keys = keys_of(50)
    bucket, number = FakeBucket(keys, page=10), count(1)

    def respond(asked: Asked) -> Answer:
        return s3_error(500, "InternalError") if next(number) == failing else bucket(asked)

    with states(respond) as (s3, _), pytest.raises(ReadError) as raised:
        listed(s3.list_pages("", fences_of(keys, 10) if fenced else ()))
    assert (raised.value.operation, raised.value.code) == ("s3:ListBucket", "InternalError")


def numbered(token: Callable[[int], str]) -> Respond:
    """A listing without an end: each page has a fresh key, and the token that `token` makes of its number."""
    numbers = count(1)

    def respond(_: Asked) -> Answer:
        number = next(numbers)
        return listing([Kept(f"k{number:06}")], token(number))

    return respond


@pytest.mark.parametrize(
    ("respond", "code", "requests"),
    [
        (numbered(str), "EndlessListing", 20),
        (numbered(lambda _: "same"), "RepeatedToken", 2),
        (numbered(lambda n: "ab"[n % 2]), "RepeatedToken", 3),
        (in_order(listing([Kept("a")], "1"), listing([Kept("a")], "2")), "RepeatedPage", 2),
        (in_order(listing([Kept("a")], "1"), listing([Kept("b")], truncated=True)), "MissingToken", 2),
        (in_order(*[listing([], str(n)) for n in range(20)]), "EmptyPages", 6),
        (in_order(Answer(200, b"<html><body>Sign in</body></html>")), "NotAListing", 1),
    ],
)
def test_a_listing_that_goes_nowhere_is_refused(respond: Respond, code: str, requests: int) -> None:
    with states(respond, max_pages=20) as (s3, stub):
        with pytest.raises(ReadError) as raised:
            listed(s3.list_pages(""))
        assert (raised.value.code, len(stub.asked)) == (code, requests)


def test_a_few_empty_pages_on_the_way_are_no_end() -> None:
    with states(in_order(listing([], "1"), listing([], "2"), listing([Kept("a")]))) as (s3, _):
        assert listed(s3.list_pages("")) == ["a"]


@pytest.mark.parametrize("send", [0, 100, 900])
def test_a_page_that_breaks_off_is_an_error_and_not_a_short_page(send: int) -> None:
    whole = listing([Kept(f"k{n}") for n in range(10)])
    with (
        states(lambda _: Answer(200, whole.body, whole.headers, send=send)) as (s3, _),
        pytest.raises(ReadError),
    ):
        listed(s3.list_pages(""))


def test_an_error_inside_a_200_is_an_error() -> None:
    body = s3_error(500, "InternalError").body
    with states(lambda _: Answer(200, body)) as (s3, _), pytest.raises(ReadError) as raised:
        listed(s3.list_pages(""))
    assert raised.value.code == "InternalError"


def test_a_silent_store_is_unreachable() -> None:
    with (
        states(lambda _: Answer(200, b"x", send=0, stall=True), config={"read_timeout": 0.1}) as (s3, _),
        pytest.raises(Unreachable),
    ):
        listed(s3.list_pages(""))


def test_a_throttled_listing_is_tried_again_and_every_try_is_counted() -> None:
    answers = in_order(s3_error(503, "SlowDown"), s3_error(503, "SlowDown"), listing([Kept("a")]))
    with states(answers, config={"retries": {"mode": "standard", "total_max_attempts": 3}}) as (s3, _):
        assert listed(s3.list_pages("")) == ["a"]
        assert (s3.requests.counts["list"], s3.requests.throttled) == (3, 2)


def test_a_listing_throttled_for_good_says_so() -> None:
    with (
        states(lambda _: s3_error(503, "SlowDown", "Please reduce your request rate.")) as (s3, _),
        pytest.raises(Throttled),
    ):
        listed(s3.list_pages(""))


def test_a_denied_listing_names_the_missing_action() -> None:
    with states(lambda _: s3_error(403, "AccessDenied", "Access Denied")) as (s3, _):
        with pytest.raises(AccessDenied) as listing_denied:
            listed(s3.list_pages(""))
        with pytest.raises(AccessDenied) as sweep_denied:
            list(s3.sweep_pages(""))
    assert listing_denied.value.operation == "s3:ListBucket"
    assert sweep_denied.value.operation == "s3:ListBucketVersions"


# ------------------------------------------------------------------ versions, scripted


def test_versions_of_one_second_keep_s3_s_order() -> None:
    rows = [
        version_row("k", "m2", latest=True, deleted=True),
        version_row("k", "v2"),
        version_row("k", "m1", deleted=True),
        version_row("k", "v1"),
    ]
    with states(lambda _: version_listing([*rows, version_row("k.tflock", "x", latest=True)])) as (s3, _):
        history = s3.history("k")
    assert isinstance(history, History)
    assert [v.version_id for v in history.versions] == ["m2", "v2", "m1", "v1"]


def test_versions_listed_apart_from_markers_are_merged_by_latest_then_time_then_turns() -> None:
    later = "2026-11-20T18:00:09.000Z"
    rows = [
        version_row("k", "v3", modified=later),
        version_row("k", "v2"),
        version_row("k", "v1"),
        version_row("k", "m3", latest=True, deleted=True, modified=later),
        version_row("k", "m2", deleted=True),
        version_row("k", "m1", deleted=True),
    ]
    with states(lambda _: version_listing(rows)) as (s3, _):
        history = s3.history("k")
    assert isinstance(history, History)
    assert [v.version_id for v in history.versions] == ["m3", "v3", "m2", "v2", "m1", "v1"]


def test_a_history_longer_than_a_thousand_versions_is_incomplete() -> None:
    def rows(start: int) -> list[str]:
        return [version_row("k", f"v{n}", latest=n == 0) for n in range(start, start + 1000)]

    pages = in_order(version_listing(rows(0), ("k", "v999")), version_listing(rows(1000), ("k", "v1999")))
    with states(pages) as (s3, stub):
        history = s3.history("k")
        assert isinstance(history, History)
        assert (len(history.versions), history.complete, len(stub.asked)) == (1000, False, 2)


def test_a_history_that_spans_pages_is_whole_and_stops_past_its_key() -> None:
    first = version_listing([version_row("k a", "v2", latest=True)], ("k a", "v2"))
    second = version_listing([version_row("k a", "v1"), version_row("k b", "x")], ("k b", "x"))
    with states(in_order(first, second)) as (s3, stub):
        history = s3.history("k a")
        assert isinstance(history, History)
        assert ([v.version_id for v in history.versions], history.complete) == (["v2", "v1"], True)
        assert [asked.query.get("key-marker") for asked in stub.asked] == [None, "k a"]
        assert [asked.query.get("version-id-marker") for asked in stub.asked] == [None, "v2"]


def test_a_history_that_may_not_be_listed_is_unread() -> None:
    with states(lambda _: s3_error(403, "AccessDenied")) as (s3, _):
        history = s3.history("k")
    assert isinstance(history, Unread)
    assert (history.denied, "s3:ListBucketVersions" in history.reason) == (True, True)


def test_a_history_whose_second_page_fails_is_unread() -> None:
    first = version_listing([version_row("k", "v2", latest=True)], ("k", "v2"))
    with states(in_order(first, s3_error(500, "InternalError"))) as (s3, _):
        assert isinstance(s3.history("k"), Unread)


def test_a_key_whose_versions_span_pages_is_swept_once() -> None:
    pages = [
        version_listing([version_row("a.tflock", "3", latest=True, deleted=True)], ("a.tflock", "3")),
        version_listing([version_row("a.tflock", "2")], ("a.tflock", "2")),
        version_listing([version_row("a.tflock", "1"), version_row("b", "1", latest=True, deleted=True)]),
    ]
    with states(in_order(*pages)) as (s3, _):
        swept = [row for page in s3.sweep_pages("") for row in page]
    assert swept == [SweptKey("a.tflock", "3"), SweptKey("b", "1")]


def test_a_sweep_that_goes_nowhere_is_refused() -> None:
    same = version_listing([version_row("a", "1")], ("a", "1"))
    with states(lambda _: same) as (s3, stub):
        with pytest.raises(ReadError) as raised:
            list(s3.sweep_pages(""))
        assert (raised.value.code, len(stub.asked)) == ("RepeatedPage", 2)


def test_versioning_that_may_not_be_asked_is_unknown() -> None:
    with states(lambda _: s3_error(403, "AccessDenied")) as (s3, _):
        assert s3.versioning() == "unknown"


# ------------------------------------------------------------------ bodies, scripted


def state_of(respond: Respond, version_id: str | None = None, **more: Any) -> StateObject | None | Unread:
    with states(respond, **more) as (s3, _):
        return s3.read_state("k", version_id)


@pytest.mark.parametrize(
    ("answer", "denied", "words"),
    [
        (s3_error(403, "AccessDenied", "Access Denied"), True, "s3:GetObject is needed"),
        (
            s3_error(
                403, "AccessDenied", "User: arn:aws:sts::1:x is not authorized to perform: kms:Decrypt on y"
            ),
            True,
            "kms:Decrypt is needed",
        ),
        (s3_error(403, "AllAccessDisabled"), True, "s3:GetObject is needed"),
        (s3_error(400, "KMS.DisabledException", "the key is disabled"), True, "kms:Decrypt is needed"),
        (s3_error(403, "InvalidObjectState", "not valid for the storage class"), True, "archived"),
        (
            s3_error(
                400,
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. "
                "The correct parameters must be provided to retrieve the object.",
            ),
            True,
            "SSE-C",
        ),
        (s3_error(400, "ExpiredToken", "The provided token has expired."), False, "credentials have expired"),
        (s3_error(403, "RequestTimeTooSkewed"), False, "clock"),
        (s3_error(503, "SlowDown"), False, "SlowDown"),
        (s3_error(500, "InternalError"), False, "InternalError"),
        (s3_error(404, "NoSuchBucket"), False, "NoSuchBucket"),
        (Answer(404, b"<html>not here</html>"), False, "404"),
        (Answer(404), False, "404"),
        (s3_object(STATE, length=len(STATE) + 5), False, ""),
        (s3_object(STATE, send=10), False, ""),
        (s3_object(STATE, send=0), False, ""),
        (s3_object(STATE, chunked=True, send=10), False, ""),
        (s3_object(STATE, bare=True), False, "how long"),
        (s3_object(b"", length=5 * 1024**3), False, "too large"),
        (Answer(200, STATE), False, "when the object was written"),
    ],
)
def test_what_cannot_be_read_is_unread_and_never_absent(answer: Answer, words: str, *, denied: bool) -> None:
    state = state_of(lambda _: answer)
    assert isinstance(state, Unread)
    assert state.denied is denied
    assert words in state.reason
    assert STATE.decode() not in state.reason


def test_a_chunked_body_that_ends_properly_is_whole() -> None:
    state = state_of(lambda _: s3_object(STATE, chunked=True))
    assert isinstance(state, StateObject)
    assert state.md5 == hashlib.md5(STATE).hexdigest()


def test_a_body_is_never_unpacked() -> None:
    state = state_of(lambda _: s3_object(STATE, headers={"Content-Encoding": "gzip"}))
    assert isinstance(state, StateObject)
    assert state.md5 == hashlib.md5(STATE).hexdigest()


@pytest.mark.parametrize("send", [0, 10])
def test_a_body_that_falls_silent_is_unread(send: int) -> None:
    state = state_of(lambda _: s3_object(STATE, send=send, stall=True), config={"read_timeout": 0.1})
    assert isinstance(state, Unread)
    assert not state.denied


def test_a_body_that_trickles_is_given_up() -> None:
    ticks = iter([0.0, 1.0, 59.0, 61.0])
    rare = s3_object(STATE * 100_000, send=5_000_000)
    state = state_of(lambda _: rare, monotonic=lambda: next(ticks))
    assert isinstance(state, Unread)
    assert state.code == "TooSlow"


def test_a_body_may_take_longer_the_larger_it_is() -> None:
    ticks = iter(range(0, 10_000, 1))
    body = b"x" * 1024**2 * 8
    state = state_of(lambda _: s3_object(body), monotonic=lambda: next(ticks) / 8)
    assert isinstance(state, StateObject)
    assert state.size == len(body)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (s3_error(404, "NoSuchVersion"), "does not exist"),
        (s3_error(404, "NoSuchKey"), "does not exist"),
        (s3_error(405, "MethodNotAllowed", x_amz_delete_marker="true"), "delete marker"),
        (s3_error(403, "AccessDenied"), "s3:GetObjectVersion is needed"),
    ],
)
def test_a_version_that_cannot_be_read_is_no_proof_of_absence(answer: Answer, words: str) -> None:
    state = state_of(lambda _: answer, "v1")
    assert isinstance(state, Unread)
    assert words in state.reason


def test_a_key_too_long_for_s3_is_absent() -> None:
    with states(lambda _: s3_error(400, "KeyTooLongError")) as (s3, _):
        assert s3.read_lockfile("x" * 1020) is None


def test_a_name_that_utf_8_cannot_hold_is_unread() -> None:
    with states(lambda _: s3_object(STATE)) as (s3, stub):
        assert isinstance(s3.read_state("\ud800"), Unread)
        assert stub.asked == []


def test_keys_go_over_the_wire_unchanged() -> None:
    odd = [*ODD_KEYS, "new\nline", "\x01\x7f", "%", "..", "a/./b", "a/../../b", "?versionId=x"]
    with states(lambda _: s3_object(STATE)) as (s3, stub):
        for key in odd:
            s3.read_state(key)
        assert [asked.path for asked in stub.asked] == [f"/b/{key}" for key in odd]
        assert {asked.query.get("versionId") for asked in stub.asked} == {None}


def test_a_lock_file_of_up_to_a_mebibyte_is_parsed_and_a_larger_one_is_not() -> None:
    padded = LOCK + b" " * (MAX_LOCKFILE - len(LOCK))
    with states(lambda _: s3_object(padded)) as (s3, _):
        lock = s3.read_lockfile("k")
    assert isinstance(lock, Lock)
    assert lock.readable
    with states(lambda _: s3_object(padded + b" ")) as (s3, _):
        lock = s3.read_lockfile("k")
    assert isinstance(lock, Lock)
    assert (lock.info, lock.raw, lock.occupied_by) == (None, "", None)
    assert "bytes" in (lock.problem or "")


def test_a_large_state_where_a_lock_file_belongs_is_known_for_a_state() -> None:
    state = STATE[:-1] + b" " * MAX_LOCKFILE + b"}"
    with states(lambda _: s3_object(state)) as (s3, _):
        lock = s3.read_lockfile("k")
    assert isinstance(lock, Lock)
    assert (lock.occupied_by, lock.version_id) == ("state", "v1")


def test_a_lock_file_that_may_not_be_read_is_unread() -> None:
    with states(lambda _: s3_error(403, "AccessDenied")) as (s3, _):
        lock = s3.read_lockfile("k")
    assert isinstance(lock, Unread)
    assert lock.denied


# ------------------------------------------------------------------ counting and time


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Fri, 20 Nov 2026 18:00:00 GMT", timedelta()),
        ("Fri, 20 Nov 2026 17:58:30 GMT", timedelta(seconds=90)),
        ("Sat, 21 Nov 2026 18:00:00 GMT", timedelta(days=-1)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_clock_skew_is_ours_minus_aws_s(date: str, skew: timedelta | None) -> None:
    with states(lambda _: listing([]), date=date) as (s3, _):
        assert s3.clock_skew() is None
        listed(s3.list_pages(""))
        assert s3.clock_skew() == skew


def test_every_kind_of_request_is_counted_apart() -> None:
    def respond(asked: Asked) -> Answer:
        empty = {"ListObjectsV2": listing([]), "ListObjectVersions": version_listing([])}
        return empty.get(asked.operation) or s3_error(404, "NoSuchKey")

    with states(respond) as (s3, _):
        listed(s3.list_pages(""))
        list(s3.sweep_pages(""))
        s3.history("k")
        s3.read_state("k")
        s3.read_lockfile("k")
        s3.versioning()
        assert s3.requests.snapshot() == {"list": 1, "scan": 0, "get": 2, "versions": 2, "other": 1}


def test_a_listing_s_time_is_s3_s_own_text() -> None:
    with states(lambda _: listing([Kept("k")])) as (s3, _):
        assert next(row for page in s3.list_pages("") for row in page)[3] == WRITTEN
