"""Where the audit log's heads go, so that a cut tail shows: JSON lines, and S3 objects under Object Lock."""

from __future__ import annotations

import atexit
import json
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TextIO

from botocore.exceptions import ClientError

from lockboard.adapters.aws import READ_FAILURES, translate
from lockboard.domain.audit import Head, Witness
from lockboard.domain.errors import ReadError

EVENT = "audit_head"
CAPACITY = 1000
"""Heads that wait to be put."""
ATTEMPTS = 3
PAUSE_SECONDS = 2.0
QUIET = timedelta(minutes=1)
"""How long after one complaint the next comes."""

_MAC = re.compile(r"[0-9a-f]{64}")
_LONGEST_LINE = 100_000
_WRAPPED = ("log", "message", "MESSAGE", "msg", "jsonPayload", "textPayload", "_source")
_WRAPPINGS = 4
_BRACES = 16
_NAME = re.compile(r"\d{20}\.json")
_READERS = 8
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def stdout_witness(stream: TextIO, complaints: TextIO | None = None) -> Witness:
    """One JSON line for each head, flushed: what collects the process's output keeps it.

    A stream that takes none any more is said on `complaints` (standard error), once until it takes one again.
    One that nobody reads, a full pipe, is waited for: the append then takes as long, and is given up in time.
    """
    turn = threading.Lock()
    said, failures = False, 0

    def witness(head: Head, at: datetime) -> None:
        nonlocal said, failures
        with turn:
            try:
                stream.write(_line(head, at) + "\n")
                stream.flush()
                said = False
            except (OSError, ValueError) as error:  # the other end is gone; the record itself is written
                failures += 1
                if not said:
                    _complain(complaints, at, head, "standard output", str(error), failures)
                said = True

    return witness


def read_heads(lines: Iterable[str]) -> list[Head]:
    """The heads among the lines of a log file, each once, whatever other lines there are.

    A log collector's prefix before the JSON, and its JSON around the line, are seen through.
    """
    found: dict[Head, None] = {}
    for line in lines:
        if EVENT in line and len(line) <= _LONGEST_LINE and (head := _head_in(line)):
            found[head] = None
    return list(found)


def read_s3_heads(client: Any, bucket: str, prefix: str) -> list[Head]:
    """Every head that `S3Witness` put there; also those that were overwritten or hidden by a delete marker,
    for Object Lock keeps their versions.

    Needs s3:ListBucketVersions and s3:GetObjectVersion. Raises ReadError where they cannot all be read.
    """
    places = _places(client, bucket, prefix)
    with ThreadPoolExecutor(_READERS) as pool:
        return read_heads(pool.map(lambda place: _read(client, bucket, place), places))


class S3Witness:
    """Puts one object for each head, after `inner` was told. Call it as a `Witness`.

    The bucket should have Object Lock with a default retention, so that nobody can take a head away. Objects
    are `<prefix><seq in 20 digits>.json`, put with `If-None-Match: *` from a thread of its own, so that no
    append waits for S3; what waits when the process ends is put then. What could not be put is counted in
    `failures` and said on `stream` (standard error), once in a minute of `clock`.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        inner: Witness,
        clock: Callable[[], datetime],
        *,
        stream: TextIO | None = None,
        capacity: int = CAPACITY,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._client, self._bucket, self._prefix, self._inner = client, bucket, prefix, inner
        self._clock, self._stream, self._pause = clock, stream, pause
        self._waiting: queue.Queue[tuple[Head, datetime] | None] = queue.Queue(capacity)
        self._starting, self._complaining = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._said: datetime | None = None
        self.failures = 0

    def __call__(self, head: Head, at: datetime) -> None:
        self._inner(head, at)
        try:
            self._start()
            self._waiting.put_nowait((head, at))
        except queue.Full:
            self._failed(head, f"{self._waiting.maxsize} heads wait already")
        except RuntimeError as error:
            self._failed(head, str(error))

    def close(self, timeout: float = 5.0) -> None:
        """Put what waits, for at most `timeout` seconds; at the end of the process it is done by itself."""
        thread = self._thread
        if thread is None:
            return
        self._closing.set()
        ends = time.monotonic() + timeout
        try:
            self._waiting.put(None, timeout=timeout)
        except queue.Full:
            return
        thread.join(max(0.0, ends - time.monotonic()))

    def _start(self) -> None:
        # At the first head and not before: a server that forks its workers would leave the thread behind.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="audit-witness", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _work(self) -> None:
        while waiting := self._waiting.get():
            head, at = waiting
            problem = self._put(head, at)
            if problem:
                self._failed(head, problem)

    def _put(self, head: Head, at: datetime) -> str:
        """Empty once it is there, else why not."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._closing.wait(self._pause)
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=_name(self._prefix, head),
                    Body=_line(head, at).encode("ascii"),
                    ContentType="application/json",
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",  # Object Lock asks for one
                )
            except Exception as error:  # noqa: BLE001  a witness raises nothing, whatever its client meets
                problem = str(translate(error, "s3:PutObject"))
                if isinstance(error, ClientError) and _code(error) in _REFUSED:
                    found = self._in_place_of(head)
                    if found == head:
                        return ""
                    if found is not None:
                        return "another head has this number already: the log was forked or rolled back"
            else:
                return ""
        return problem

    def _in_place_of(self, head: Head) -> Head | None:
        """The head that has this one's number; None where that cannot be read."""
        place = _Place(_name(self._prefix, head), None)
        try:
            return next(iter(read_heads([_read(self._client, self._bucket, place)])), None)
        except ReadError:
            return None

    def _failed(self, head: Head, problem: str) -> None:
        with self._complaining:
            self.failures += 1
            now = self._clock()
            if self._said is not None and now - self._said < QUIET:
                return
            self._said = now
        place = f"s3://{self._bucket}/{self._prefix}"
        _complain(self._stream, now, head, place, problem, self.failures)


def _complain(
    stream: TextIO | None, at: datetime, head: Head, place: str, problem: str, failures: int
) -> None:
    """One line as the log has them, past the log: it has to come out whatever that is set to."""
    event = {
        "timestamp": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "error",
        "logger": "audit",
        "event": "audit_witness_failed",
        "seq": head.seq,
        "place": place,
        "error": problem,
        "failures": failures,
    }
    try:
        stream = stream or sys.stderr
        stream.write(json.dumps(event) + "\n")
        stream.flush()
    except (OSError, ValueError):
        return


class _Place(NamedTuple):
    key: str
    version: str | None


def _line(head: Head, at: datetime) -> str:
    return json.dumps({"event": EVENT, "seq": head.seq, "mac": head.mac, "at": at.isoformat()})


def _name(prefix: str, head: Head) -> str:
    return f"{prefix}{head.seq:020d}.json"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _head_in(line: str) -> Head | None:
    """From the first brace on that begins an object to the line's end; a prefix may have braces, too."""
    before = line.find(EVENT)
    start = -1
    for _ in range(_BRACES):
        start = line.find("{", start + 1, before)
        if start < 0:
            break
        try:
            return _head_of(json.loads(line[start:]))
        except (ValueError, RecursionError):
            continue
    return None


def _head_of(found: Any, depth: int = _WRAPPINGS) -> Head | None:
    if isinstance(found, str):
        return _head_in(found) if EVENT in found else None
    if not isinstance(found, Mapping) or not depth:
        return None
    if found.get("event") != EVENT:
        return next(filter(None, (_head_of(found.get(name), depth - 1) for name in _WRAPPED)), None)
    seq, mac = found.get("seq"), found.get("mac")
    if type(seq) is not int or seq < 1 or not isinstance(mac, str) or not _MAC.fullmatch(mac):
        return None
    return Head(seq, mac)


def _places(client: Any, bucket: str, prefix: str) -> list[_Place]:
    try:
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        found = [version for page in pages for version in page.get("Versions", ())]
    except READ_FAILURES as error:
        raise translate(error, "s3:ListBucketVersions") from error
    return [
        _Place(version["Key"], version.get("VersionId"))
        for version in found
        if _NAME.fullmatch(version["Key"].removeprefix(prefix))
    ]


def _read(client: Any, bucket: str, place: _Place) -> str:
    version = {"VersionId": place.version} if place.version else {}
    try:
        # Not the body's own `with`, which gives the stream below it, that does not count its bytes.
        with closing(client.get_object(Bucket=bucket, Key=place.key, **version)["Body"]) as body:
            # To the end: only there it shows that an answer was cut off.
            data = b"".join(iter(lambda: body.read(_LONGEST_LINE), b""))
    except READ_FAILURES as error:
        raise translate(error, "s3:GetObjectVersion") from error
    return data.decode("ascii", "replace")
