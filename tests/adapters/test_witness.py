"""Where heads go: lines that are read back whatever is around them, objects that nobody can take away, and a
failure that is said and stops no record.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.store import SqlAudit, open_memory
from lockboard.adapters.witness import S3Witness, read_heads, read_s3_heads, stdout_witness
from lockboard.domain.audit import AuditError, Entry, Head, Kind, Person
from lockboard.domain.errors import AccessDenied, ReadError
from tests.emulators import REGION, Emulator
from tests.faults import Fault, FaultProxy, call, fault_proxy, hold, instead, refuse

KEY = b"the key of the audit log in tests"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PREFIX = "lockboard-audit/"
WAIT_SECONDS = 30

DENIED = b"<Error><Code>AccessDenied</Code><Message>not authorized</Message></Error>"


def head(seq: int, digit: str = "a") -> Head:
    return Head(seq, digit * 64)


def now() -> datetime:
    return NOON


def silent(_head: Head, _at: datetime) -> None:
    return


def an_event() -> Entry:
    return Entry(Kind.EVENT, "export", Person("kim@example.com", "demo", "127.0.0.1"))


def line(seq: int = 7, mac: str = "a" * 64, **more: Any) -> str:
    return json.dumps({"event": "audit_head", "seq": seq, "mac": mac, **more})


# Lines


def test_each_record_is_one_line_that_is_read_back() -> None:
    stream = io.StringIO()
    log = SqlAudit(open_memory(), KEY, now, stdout_witness(stream))
    records = [log.append(an_event()) for _ in range(3)]
    lines = stream.getvalue().splitlines()
    assert [json.loads(each) for each in lines] == [
        {"event": "audit_head", "seq": record.seq, "mac": record.mac, "at": "2026-11-20T12:00:00+00:00"}
        for record in records
    ]
    heads = read_heads(lines)
    assert heads == [Head(record.seq, record.mac) for record in records]
    assert log.verify(heads).tail_proven


@pytest.mark.parametrize(
    "wrapped",
    [
        line(),
        line(at="2026-11-20T12:00:00+00:00", host="web-1"),
        f"  {line()}  \n",
        f"Nov 20 12:00:00 web-1 lockboard[11]: {line()}\n",
        f"2026-11-20T12:00:00Z stdout F {line()}",
        json.dumps({"log": line() + "\n", "stream": "stdout", "time": "2026-11-20T12:00:00Z"}),
        json.dumps({"MESSAGE": line(), "PRIORITY": "6"}),
        json.dumps({"timestamp": 1763640000, "message": line()}),
        "web-1 | " + json.dumps({"msg": line()}),
        '2026-11-20T12:00:00Z {app="lockboard", pod="web-1"} ' + line(),
        "[web{1}] {} " + line(),
        "{" * 5 + line(),
        json.dumps({"jsonPayload": json.loads(line()), "logName": "stdout"}),
        json.dumps({"textPayload": line(), "jsonPayload": {}}),
        json.dumps({"_index": "logs", "_source": {"stream": "stdout", "message": line()}}),
    ],
)
def test_a_head_is_found_in_what_collectors_make_of_its_line(wrapped: str) -> None:
    assert read_heads(["other\n", wrapped, ""]) == [head(7)]


@pytest.mark.parametrize(
    "malformed",
    [
        "audit_head",
        line()[:-1],
        line()[:40],
        line(mac="A" * 64),
        line(mac="a" * 63),
        line(mac="a" * 64 + "\n"),
        line(mac="g" * 64),
        line(seq=0),
        line(seq=-7),
        json.dumps({"event": "audit_head", "seq": "7", "mac": "a" * 64}),
        json.dumps({"event": "audit_head", "seq": True, "mac": "a" * 64}),
        json.dumps({"event": "audit_head", "seq": 7.0, "mac": "a" * 64}),
        json.dumps({"event": "audit_head", "seq": 7, "mac": None}),
        json.dumps({"event": "audit_head", "mac": "a" * 64}),
        json.dumps({"event": "audit_head_of_another", "seq": 7, "mac": "a" * 64}),
        json.dumps(["audit_head", 7, "a" * 64]),
        '{"event": "audit_head", "seq": ' + "7" * 5000 + ', "mac": "' + "a" * 64 + '"}',
        '{"audit_head": ' + "[" * 90_000,
        '{"log": ' * 3000 + line(),
        "{" * 50_000 + line(),
        '{"log": ' * 300 + line() + "}" * 300,
        line(more="x" * 100_001),
        line().replace("7", "\udcff"),
        "\0" + "\x1b]0;audit_head\x07",
    ],
)
def test_what_is_no_head_is_passed_over_and_hides_no_other(malformed: str) -> None:
    assert read_heads([line(1), malformed, line(2)]) == [head(1), head(2)]


def test_a_head_that_was_said_twice_is_one_and_two_of_one_number_are_two() -> None:
    assert read_heads([line(), line(), line(mac="b" * 64)]) == [head(7), head(7, "b")]


def test_lines_of_many_threads_do_not_mix() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stream, os.fdopen(read, encoding="utf-8") as reader:
        witness = stdout_witness(stream)
        threads = [
            threading.Thread(target=lambda n=n: [witness(head(n * 100 + i + 1), NOON) for i in range(50)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stream.close()
        assert len(read_heads(reader)) == 200


class Gone(io.StringIO):
    """A pipe whose other end may be gone."""

    gone = True

    def flush(self) -> None:
        if self.gone:
            raise BrokenPipeError("Broken pipe")


def test_a_stream_that_takes_no_line_stops_no_record_and_is_said_once_until_it_takes_one_again() -> None:
    stream, complaints = Gone(), io.StringIO()
    log = SqlAudit(open_memory(), KEY, now, stdout_witness(stream, complaints))
    assert [log.append(an_event()).seq for _ in range(3)] == [1, 2, 3]
    first = json.loads(complaints.getvalue())
    assert first == {
        "timestamp": first["timestamp"],
        "level": "error",
        "logger": "audit",
        "event": "audit_witness_failed",
        "seq": 1,
        "place": "standard output",
        "error": "Broken pipe",
        "failures": 1,
    }
    assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None
    stream.gone = False
    log.append(an_event())
    stream.gone = True
    log.append(an_event())
    assert [json.loads(each)["seq"] for each in complaints.getvalue().splitlines()] == [1, 5]


def test_closed_streams_on_all_sides_raise_nothing() -> None:
    closed = io.StringIO()
    closed.close()
    log = SqlAudit(open_memory(), KEY, now, stdout_witness(closed, closed))
    assert log.append(an_event()).seq == 1


def test_a_pipe_that_nobody_reads_is_given_up_and_the_chain_goes_on_when_it_is_read() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    while True:
        try:
            filled += os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with os.fdopen(write, "w", encoding="utf-8") as stream, os.fdopen(read, "rb", buffering=0) as reader:
        log = SqlAudit(open_memory(), KEY, now, stdout_witness(stream), deadline=0.3)
        for problem in ("no answer within", "an earlier one is still being written"):
            with pytest.raises(AuditError, match=problem):
                log.append(an_event())
        while filled > 0:
            filled -= len(reader.read(min(filled, 4096)) or b"")
        first = json.loads(reader.read(4096) or b"")
        assert first["seq"] == 1
        patient = SqlAudit(log._engine, KEY, now, stdout_witness(stream))
        assert patient.append(an_event()).seq == 2
        assert patient.verify([Head(1, first["mac"])]).tail_proven


# Objects


def client(url: str) -> Any:
    return open_session(Access(region=REGION, s3_endpoint_url=url)).s3


def locked_bucket(emulator: Emulator) -> str:
    """With Object Lock and a default retention, as the documentation asks for."""
    name = f"heads-{uuid.uuid4().hex[:12]}"
    emulator.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    emulator.s3.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention}
    )
    return name


def keys(emulator: Emulator, bucket: str) -> list[str]:
    return [found["Key"] for found in emulator.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def an_s3_witness(url: str, bucket: str, **options: Any) -> S3Witness:
    options = {"inner": silent, "clock": now, "stream": io.StringIO(), "pause": 0.01, **options}
    return S3Witness(client(url), bucket, PREFIX, **options)


def test_each_head_is_an_object_of_its_own_and_all_are_read_back(emulator: Emulator) -> None:
    bucket, stream = locked_bucket(emulator), io.StringIO()
    witness = an_s3_witness(emulator.url, bucket, inner=stdout_witness(stream))
    log = SqlAudit(open_memory(), KEY, now, witness)
    records = [log.append(an_event()) for _ in range(12)]
    witness.close(WAIT_SECONDS)
    assert keys(emulator, bucket) == [f"lockboard-audit/{seq:020d}.json" for seq in range(1, 13)]
    found = read_s3_heads(client(emulator.url), bucket, PREFIX)
    assert (
        found == read_heads(stream.getvalue().splitlines()) == [Head(each.seq, each.mac) for each in records]
    )
    assert (witness.failures, log.verify(found).tail_proven) == (0, True)


def test_the_object_is_the_same_line_put_only_where_there_is_none(emulator: Emulator) -> None:
    bucket = locked_bucket(emulator)
    with fault_proxy(emulator.url) as proxy:
        witness = an_s3_witness(proxy.url, bucket)
        witness(head(3), NOON)
        witness.close(WAIT_SECONDS)
        (put,) = proxy.recording.mutations()
    assert put.headers["if-none-match"] == "*"
    body = emulator.s3.get_object(Bucket=bucket, Key=f"{PREFIX}{3:020d}.json")["Body"].read().decode()
    assert body == line(3, at="2026-11-20T12:00:00+00:00")


def test_heads_that_were_overwritten_or_hidden_are_read_too_and_other_objects_are_not(
    emulator: Emulator,
) -> None:
    bucket = locked_bucket(emulator)
    put = [
        (f"{PREFIX}{1:020d}.json", line(1)),
        (f"{PREFIX}{1:020d}.json", line(1, mac="b" * 64)),
        (f"{PREFIX}{2:020d}.json", line(2)),
        (f"{PREFIX}{3:020d}.json", "no head"),
        (f"{PREFIX}{4:020d}.json", ""),
        (f"{PREFIX}readme.json", line(5)),
        (f"{PREFIX}sub/{6:020d}.json", line(6)),
        (f"other/{7:020d}.json", line(7)),
    ]
    for key, body in put:
        emulator.s3.put_object(Bucket=bucket, Key=key, Body=body.encode(), ChecksumAlgorithm="SHA256")
    emulator.s3.delete_object(Bucket=bucket, Key=f"{PREFIX}{2:020d}.json")  # a delete marker
    found = read_s3_heads(client(emulator.url), bucket, PREFIX)
    assert sorted(found) == [head(1), head(1, "b"), head(2)]


def test_a_bucket_without_versions_is_read_too(emulator: Emulator) -> None:
    bucket = emulator.make_bucket(versioned=False)
    witness = an_s3_witness(emulator.url, bucket)
    witness(head(1), NOON)
    witness.close(WAIT_SECONDS)
    assert read_s3_heads(client(emulator.url), bucket, PREFIX) == [head(1)]


def test_what_cannot_be_read_whole_is_an_error_and_never_fewer_heads(moto: Emulator) -> None:
    bucket = locked_bucket(moto)
    for seq in (1, 2):
        moto.s3.put_object(Bucket=bucket, Key=f"{PREFIX}{seq:020d}.json", Body=line(seq).encode())
    for operation, action in (
        ("ListObjectVersions", "s3:ListBucketVersions"),
        ("GetObject", "s3:GetObjectVersion"),
    ):
        with fault_proxy(moto.url) as proxy:
            proxy.on(proxy.operation(operation), refuse(403, DENIED))
            with pytest.raises(AccessDenied, match=action):
                read_s3_heads(client(proxy.url), bucket, PREFIX)
    with fault_proxy(moto.url) as proxy:
        proxy.on(proxy.operation("GetObject"), Fault.HALF_REPLY, times=None)
        with pytest.raises(ReadError):
            read_s3_heads(client(proxy.url), bucket, PREFIX)
    with pytest.raises(ReadError, match="NoSuchBucket"):
        read_s3_heads(client(moto.url), "no-such-bucket-here", PREFIX)


# Objects that cannot be put


@contextmanager
def failing(emulator: Emulator, *faults: Any, times: int | None = None) -> Iterator[FaultProxy]:
    with fault_proxy(emulator.url) as proxy:
        proxy.on(proxy.operation("PutObject"), *faults, times=times)
        yield proxy


def complaints(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(each) for each in stream.getvalue().splitlines()]


def test_a_bucket_that_refuses_is_counted_and_said_once_a_minute_and_stops_no_record(
    emulator: Emulator,
) -> None:
    bucket, stream, moments = locked_bucket(emulator), io.StringIO(), [NOON]
    said = threading.Event()
    with failing(emulator, refuse(403, DENIED)) as proxy:
        witness = an_s3_witness(proxy.url, bucket, stream=stream, clock=lambda: moments[0])
        log = SqlAudit(open_memory(), KEY, now, witness)
        assert [log.append(an_event()).seq for _ in range(3)] == [1, 2, 3]
        until(lambda: witness.failures == 3, said)
        moments[0] += timedelta(minutes=2)
        log.append(an_event())
        witness.close(WAIT_SECONDS)
    first, second = complaints(stream)
    assert first == {
        "timestamp": NOON.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "error",
        "logger": "audit",
        "event": "audit_witness_failed",
        "seq": 1,
        "place": f"s3://{bucket}/{PREFIX}",
        "error": "s3:PutObject: AccessDenied: not authorized",
        "failures": 1,
    }
    assert (second["seq"], second["failures"], witness.failures) == (4, 4, 4)
    assert keys(emulator, bucket) == []


def until(true: Callable[[], bool], pause: threading.Event) -> None:
    for _ in range(WAIT_SECONDS * 100):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true")


def test_a_put_that_failed_in_passing_is_tried_again(emulator: Emulator) -> None:
    bucket = locked_bucket(emulator)
    with failing(emulator, refuse(403, DENIED), times=2) as proxy:
        witness = an_s3_witness(proxy.url, bucket)
        witness(head(1), NOON)
        witness.close(WAIT_SECONDS)
    assert (witness.failures, read_s3_heads(client(emulator.url), bucket, PREFIX)) == (0, [head(1)])


@pytest.mark.parametrize("lost", [Fault.DROP_REPLY, Fault.HALF_REPLY, instead(500, b"")])
def test_a_put_whose_reply_was_lost_is_known_by_its_own_object(emulator: Emulator, lost: Any) -> None:
    bucket = locked_bucket(emulator)
    with failing(emulator, lost, times=1) as proxy:
        witness = an_s3_witness(proxy.url, bucket)
        witness(head(1), NOON)
        witness.close(WAIT_SECONDS)
    assert (witness.failures, read_s3_heads(client(emulator.url), bucket, PREFIX)) == (0, [head(1)])


def test_another_head_under_the_same_number_is_said_and_stays(emulator: Emulator) -> None:
    bucket, stream = locked_bucket(emulator), io.StringIO()
    one, other = an_s3_witness(emulator.url, bucket), an_s3_witness(emulator.url, bucket, stream=stream)
    one(head(1), NOON)
    one.close(WAIT_SECONDS)
    other(head(1, "b"), NOON)
    other.close(WAIT_SECONDS)
    (said,) = complaints(stream)
    assert said["error"] == "another head has this number already: the log was forked or rolled back"
    assert read_s3_heads(client(emulator.url), bucket, PREFIX) == [head(1)]


def test_a_bucket_that_does_not_answer_keeps_no_record_waiting_and_what_does_not_fit_is_said(
    moto: Emulator,
) -> None:
    bucket, stream, gate, arrived = locked_bucket(moto), io.StringIO(), threading.Event(), threading.Event()
    with fault_proxy(moto.url) as proxy:
        put = proxy.operation("PutObject")
        proxy.on(put, call(before=lambda _: arrived.set()), hold(gate))
        witness = an_s3_witness(proxy.url, bucket, stream=stream, capacity=2)
        log = SqlAudit(open_memory(), KEY, now, witness, deadline=WAIT_SECONDS)
        log.append(an_event())
        assert arrived.wait(WAIT_SECONDS)
        assert [log.append(an_event()).seq for _ in range(4)] == [2, 3, 4, 5]
        (said,) = complaints(stream)
        assert (said["seq"], said["error"], witness.failures) == (4, "2 heads wait already", 2)
        gate.set()
        witness.close(WAIT_SECONDS)
    found = read_s3_heads(client(moto.url), bucket, PREFIX)
    assert [each.seq for each in found] == [1, 2, 3]


def test_a_witness_that_is_closed_while_its_bucket_hangs_ends_in_time(moto: Emulator) -> None:
    gate, arrived = threading.Event(), threading.Event()
    with fault_proxy(moto.url) as proxy:
        proxy.on(proxy.operation("PutObject"), call(before=lambda _: arrived.set()), hold(gate))
        witness = an_s3_witness(proxy.url, locked_bucket(moto), capacity=1)
        for seq in (1, 2, 3):
            witness(head(seq), NOON)
            assert arrived.wait(WAIT_SECONDS)
        witness.close(0.1)
        assert not gate.is_set()
        gate.set()


def test_a_witness_that_was_told_nothing_closes_at_once() -> None:
    an_s3_witness("http://127.0.0.1:1", "nowhere").close()


WRITE_AND_END = """
import sys
from datetime import UTC, datetime
from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.witness import S3Witness
from lockboard.domain.audit import Head
url, region, bucket, prefix = sys.argv[1:]
client = open_session(Access(region=region, s3_endpoint_url=url)).s3
witness = S3Witness(client, bucket, prefix, lambda head, at: None, lambda: datetime.now(UTC))
for seq in range(1, 6):
    witness(Head(seq, "a" * 64), datetime.now(UTC))
"""


def test_heads_that_wait_are_put_when_the_process_ends(emulator: Emulator) -> None:
    bucket = locked_bucket(emulator)
    words = [sys.executable, "-c", WRITE_AND_END, emulator.url, REGION, bucket, PREFIX]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = read_s3_heads(client(emulator.url), bucket, PREFIX)
    assert found == [head(seq) for seq in range(1, 6)]
