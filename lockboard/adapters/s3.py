"""One bucket, read: the port `States` over boto3.

A body is hashed in pieces as it arrives and let go; none is kept, logged or written anywhere.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from lockboard.adapters import fast_pages
from lockboard.adapters.aws import BODY_FAILURES, READ_FAILURES, Meter, translate, unread
from lockboard.adapters.fast_pages import VersionRow, objects_of, versions_of
from lockboard.adapters.listing import PageGuard
from lockboard.domain.bodies import Body, BodyKind, BodyReader
from lockboard.domain.errors import ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX, PROBE_KEY
from lockboard.domain.locks import Lock, LockStore, lock_from_file
from lockboard.domain.model import History, StateObject, Unread, Version
from lockboard.domain.ports import Clock, Listed, SweptKey

PAGE = 1000
"""Keys a page; S3 gives no more."""
MAX_PAGES = 5000
THREADS = 8
CHUNK = 256 * 1024
MAX_BODY = 1024**3
MAX_LOCKFILE = 1024**2
MAX_HISTORY = 1000
SLOWEST_BYTES_PER_SECOND = 1024**2
"""A body has BODY_SECONDS and as long again as it takes at this pace; a sender of single bytes is cut off."""
BODY_SECONDS = 60

_PROBE = re.compile(rf"{re.escape(PROBE_KEY)}-[0-9a-f]{{32}}{re.escape(LOCKFILE_SUFFIX)}\Z")

_VERSIONING = {"Enabled": "enabled", "Suspended": "suspended", None: "off"}
_LIST, _VERSIONS = "s3:ListBucket", "s3:ListBucketVersions"


class S3States:
    """Reads one bucket.

    Args:
        client: an S3 client that belongs to this reader alone, since its requests are counted.
        bodies: another one for whole objects, with a longer read time-out; the same where left out.
        page: keys or versions asked for at a time; fences stand this many keys apart.
        max_pages: pages of one listing after which it is refused as endless.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        clock: Clock,
        *,
        bodies: Any = None,
        monotonic: Callable[[], float] = time.monotonic,
        page: int = PAGE,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._client, self._bodies = client, bodies or client
        self._bucket, self._monotonic, self._page, self._max_pages = bucket, monotonic, page, max_pages
        self._ordered = True
        fast_pages.install(client)
        self._meter = Meter(clock, client, self._bodies)
        self.requests = self._meter.requests

    def clock_skew(self) -> timedelta | None:
        """See `States.clock_skew`."""
        return self._meter.skew()

    def _ask(self, method: str, action: str, **parameters: Any) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = getattr(self._client, method)(Bucket=self._bucket, **parameters)
        except READ_FAILURES as error:
            raise translate(error, action) from None
        return answer

    # -------------------------------------------------------------- listing

    def list_pages(self, prefix: str, fences: Sequence[str] = ()) -> Iterator[Sequence[Listed]]:
        """See `States.list_pages`. Up to THREADS stretches at once, and at most twice as many kept.

        A fence with no key behind it costs one request too many: where the count is a multiple of `page`, the
        last key is none.
        """
        posts = sorted({fence for fence in fences if fence.startswith(prefix)})
        if not posts or not self._ordered:
            yield from self._stretch(_Stretch(prefix))
            return
        stretches = iter([_Stretch(prefix, *ends) for ends in pairwise([None, *posts])])
        tail = self._stretch(_Stretch(prefix, posts[-1]))
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="list")
        try:
            tail_start = pool.submit(next, tail)
            waiting: deque[Future[list[Sequence[Listed]]]] = deque()
            while True:
                while len(waiting) < 2 * THREADS and (stretch := next(stretches, None)):
                    waiting.append(pool.submit(self._all_of, stretch))
                if not waiting:
                    break
                yield from waiting.popleft().result()
            yield tail_start.result()
            yield from tail
        finally:
            pool.shutdown(cancel_futures=True)

    def _all_of(self, stretch: _Stretch) -> list[Sequence[Listed]]:
        return list(self._stretch(stretch))

    def _stretch(self, stretch: _Stretch) -> Iterator[Sequence[Listed]]:
        """The pages of one stretch, one after the other."""
        guard, last = PageGuard(_LIST, self._max_pages), stretch.after
        start = {} if stretch.after is None else {"StartAfter": stretch.after}
        while True:
            answer = self._ask(
                "list_objects_v2",
                _LIST,
                Prefix=stretch.prefix,
                MaxKeys=self._page,
                EncodingType="url",
                **start,
            )
            rows = objects_of(answer)
            self._check_order(rows, last, stretch)
            token = guard.next(
                rows[0][0] if rows else None, answer.get("IsTruncated"), answer.get("NextContinuationToken")
            )
            last = rows[-1][0] if rows else last
            yield _without_probes(stretch.cut(rows))
            if token is None or stretch.ends_before(last):
                return
            start = {"ContinuationToken": token}

    def _check_order(self, rows: Sequence[Listed], last: str | None, stretch: _Stretch) -> None:
        """Stretches hold only where keys come in the order of their UTF-8 bytes, which is that of their code
        points.
        """
        keys = [row[0] for row in rows]
        if keys == sorted(keys) and not (keys and last is not None and keys[0] <= last):
            return
        self._ordered = False
        if stretch.fenced:
            detail = "this store does not list keys in order; the next listing will not be divided"
            raise ReadError(_LIST, "OutOfOrder", detail)

    def sweep_pages(self, prefix: str) -> Iterator[Sequence[SweptKey]]:
        """See `States.sweep_pages`. Each key once, though its versions may lie on several pages."""
        before: dict[str, str | None] = {}
        for rows in self._version_pages(prefix):
            seen: dict[str, str | None] = {}
            for row in rows:
                if row.latest and row.deleted:
                    seen[row.key] = row.version_id
                elif row.key.endswith(LOCKFILE_SUFFIX):
                    seen.setdefault(row.key, None)
            yield [
                SweptKey(key, marker)
                for key, marker in seen.items()
                if (key not in before or (before[key] is None and marker is not None)) and not is_probe(key)
            ]
            before = seen

    def _version_pages(self, prefix: str) -> Iterator[Sequence[VersionRow]]:
        guard = PageGuard(_VERSIONS, self._max_pages)
        start: dict[str, str] = {}
        while True:
            answer = self._ask(
                "list_object_versions",
                _VERSIONS,
                Prefix=prefix,
                MaxKeys=self._page,
                EncodingType="url",
                **start,
            )
            rows = versions_of(answer)
            first = (rows[0].key, rows[0].version_id, rows[0].deleted) if rows else None
            token = guard.next(first, answer.get("IsTruncated"), _version_token(answer))
            yield rows
            if token is None:
                return
            start = {"KeyMarker": token[0]} | ({"VersionIdMarker": token[1]} if token[1] else {})

    # -------------------------------------------------------------- one key

    def history(self, key: str) -> History | Unread:
        """See `States.history`. At most MAX_HISTORY versions; `complete` is False where there are more."""
        found: list[VersionRow] = []
        try:
            for rows in self._version_pages(key):
                found += _newest_first([row for row in rows if row.key == key])
                if len(found) > MAX_HISTORY or any(row.key != key for row in rows):
                    break
        except ReadError as error:
            return unread(error)
        try:
            versions = tuple(_version(row) for row in found)
        except ValueError:
            return Unread("the store gave a version without a readable LastModified", "BadTimestamp")
        return History(versions[:MAX_HISTORY], complete=len(versions) <= MAX_HISTORY)

    def versioning(self) -> str:
        """See `States.versioning`."""
        try:
            answer = self._ask("get_bucket_versioning", "s3:GetBucketVersioning")
        except ReadError:
            return "unknown"
        return _VERSIONING.get(answer.get("Status"), "unknown")

    def read_state(self, key: str, version_id: str | None = None) -> StateObject | None | Unread:
        """See `States.read_state`. A version that is gone, or is a delete marker, is Unread and no proof of
        absence.
        """
        reader = BodyReader()
        answer = self._fetch(key, version_id, reader.feed)
        if answer is None or isinstance(answer, Unread):
            return answer
        body = reader.finish()
        return StateObject(
            etag=etag_of(answer),
            size=body.size,
            last_modified=answer["LastModified"].astimezone(UTC),
            version_id=answer.get("VersionId"),
            storage_class=answer.get("StorageClass"),
            body=body,
        )

    def read_body(self, key: str, version_id: str) -> Body | Unread:
        """See `States.read_body`."""
        reader = BodyReader()
        answer = self._fetch(key, version_id, reader.feed)
        if answer is None or isinstance(answer, Unread):
            return answer or Unread("this version does not exist", "NoSuchVersion")
        return reader.finish()

    def read_lockfile(self, key: str, version_id: str | None = None) -> Lock | None | Unread:
        """See `States.read_lockfile`. What is larger than MAX_LOCKFILE is no lock record, whatever else it
        is.
        """
        reader, start = BodyReader(), bytearray()

        def feed(chunk: bytes) -> None:
            reader.feed(chunk)
            start.extend(chunk[: MAX_LOCKFILE - len(start)])

        answer = self._fetch(key + LOCKFILE_SUFFIX, version_id, feed)
        if answer is None or isinstance(answer, Unread):
            return answer
        body, modified = reader.finish(), answer["LastModified"].astimezone(UTC)
        etag, found_id = etag_of(answer), answer.get("VersionId")
        if body.size <= MAX_LOCKFILE:
            return lock_from_file(bytes(start), modified, etag, found_id)
        occupied = "state" if body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED) else None
        problem = f"it has {body.size} bytes, too many for a lock record"
        return Lock(LockStore.TFLOCK, "", None, problem, modified, etag, found_id, occupied)

    def _fetch(
        self, key: str, version_id: str | None, feed: Callable[[bytes], None]
    ) -> Mapping[str, Any] | None | Unread:
        """GET one object into `feed`. The answer's head where all of it arrived; None where S3 says that
        there is none.
        """
        version = {"VersionId": version_id} if version_id else {}
        try:
            answer: Mapping[str, Any] = self._bodies.get_object(Bucket=self._bucket, Key=key, **version)
        except READ_FAILURES as error:
            return not_read(error, version_id)
        try:
            return drain(answer, feed, self._monotonic) or answer
        except BODY_FAILURES as error:
            return not_read(error, version_id)


def probe_key(prefix: str, token: str) -> str:
    """The state key below which one test of conditional writes is made; `token` is 32 hexadecimal digits, new
    for each, so that two tests never meet.
    """
    return f"{prefix}{PROBE_KEY}-{token}"


def is_probe(key: str) -> bool:
    """Whether an object's key is of such a test, under whatever backend's prefix."""
    return PROBE_KEY in key and _PROBE.search(key) is not None


def _without_probes(rows: Sequence[Listed]) -> Sequence[Listed]:
    if not [row for row in rows if PROBE_KEY in row[0]]:
        return rows
    return [row for row in rows if not is_probe(row[0])]


def drain(
    answer: Mapping[str, Any],
    feed: Callable[[bytes], None],
    monotonic: Callable[[], float],
    largest: int = MAX_BODY,
) -> Unread | None:
    """Receive the body of a GetObject answer into `feed`, at most `largest` bytes and within its time; None
    where all of it arrived.
    """
    length, encoding = answer.get("ContentLength"), _headers(answer).get("transfer-encoding", "")
    # Leaving the block before the end closes the connection, so nothing more is received.
    with answer["Body"] as raw:
        if length is None and encoding.lower() != "chunked":
            return Unread("the store did not say how long the object is", "MissingLength")
        if answer.get("LastModified") is None:
            return Unread("the store did not say when the object was written", "MissingLastModified")
        read, began = 0, monotonic()
        while True:
            if (length or 0) > largest or read > largest:
                return Unread(f"too large: Lockboard reads at most {largest // 1024**2} MiB", "TooLarge")
            if monotonic() - began > BODY_SECONDS + read / SLOWEST_BYTES_PER_SECOND:
                return Unread(f"too slow: {read} bytes in over {BODY_SECONDS} s", "TooSlow")
            # Whatever has arrived: a plain read would wait for the whole chunk, however slowly it comes.
            chunk = raw.read1(CHUNK)
            if not chunk:
                break
            read += len(chunk)
            feed(chunk)
    if length is not None and read != length:
        return Unread(f"only {read} of {length} bytes arrived", "IncompleteBody")
    return None


class _Stretch(NamedTuple):
    """The keys of a prefix after one key and up to another, None for no bound."""

    prefix: str
    after: str | None = None
    until: str | None = None

    @property
    def fenced(self) -> bool:
        return self.after is not None or self.until is not None

    def cut(self, rows: Sequence[Listed]) -> Sequence[Listed]:
        if self.until is None or not rows or rows[-1][0] <= self.until:
            return rows
        until = self.until
        return [row for row in rows if row[0] <= until]

    def ends_before(self, last: str | None) -> bool:
        """Whether nothing of the stretch can follow `last`."""
        return self.until is not None and last is not None and last >= self.until


def _version_token(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    marker = answer.get("NextKeyMarker")
    if not marker:
        return None
    encoded = answer.get("EncodingType") == "url"
    return (unquote_plus(marker) if encoded else marker), answer.get("NextVersionIdMarker") or ""


def _newest_first(rows: Sequence[VersionRow]) -> list[VersionRow]:
    """One key's rows of a page newest first: as S3 lists them, or merged where a store lists all versions
    before all markers.

    Times have a resolution of a second, so the merge goes by `latest`, then by time, then by taking turns: a
    marker follows a version more often than another marker. A multipart upload carries the time of its start,
    which is why an interleaved listing is believed as it is.
    """
    turns = sum(one.deleted != other.deleted for one, other in pairwise(rows))
    if turns != 1 or rows[0].deleted:
        return list(rows)
    heads = {deleted: deque(row for row in rows if row.deleted == deleted) for deleted in (False, True)}
    merged: list[VersionRow] = []
    while heads[False] and heads[True]:
        version, marker = heads[False][0], heads[True][0]
        if version.latest != marker.latest:
            deleted = marker.latest
        elif version.modified != marker.modified:
            deleted = marker.modified > version.modified
        else:
            deleted = not merged or not merged[-1].deleted
        merged.append(heads[deleted].popleft())
    return [*merged, *heads[False], *heads[True]]


def _version(row: VersionRow) -> Version:
    return Version(
        version_id=row.version_id,
        last_modified=datetime.fromisoformat(row.modified).astimezone(UTC),
        delete_marker=row.deleted,
        etag=row.etag,
        size=row.size,
        latest=row.latest,
    )


def etag_of(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, without quotes."""
    return str(answer.get("ETag", "")).strip('"')


def _headers(answer: Mapping[str, Any]) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


_SSE_C = "form of Server Side Encryption"


def not_read(error: Exception, version_id: str | None) -> Unread | None:
    """Why a GET gave no object, or None where the answer proves that there is none (404 is only sent to who
    may list).
    """
    reason = translate(error, "s3:GetObjectVersion" if version_id else "s3:GetObject")
    status = 0
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if not version_id and (reason.code == "KeyTooLongError" or (status, reason.code) == (404, "NoSuchKey")):
        return None
    if version_id and status == 405:
        return Unread("this version is a delete marker, which has no body", reason.code)
    if version_id and reason.code in ("NoSuchKey", "NoSuchVersion", "404"):
        return Unread("this version does not exist, or is a delete marker", reason.code)
    if reason.code == "InvalidObjectState":
        return Unread("it is archived: restore it in S3 before it can be read", reason.code, denied=True)
    if status == 400 and _SSE_C in reason.detail:
        words = "it is encrypted with a key that each request must bring (SSE-C): look at it with terraform"
        return Unread(words, "SSE-C", denied=True)
    return unread(reason)
