"""One bucket, written: the port `StateWrites` over boto3.

Every write carries `If-Match` or `If-None-Match` and is sent once. Nothing here deletes a version, copies an
object or tries again without its condition: a store that does not know conditions is not written to.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError

from lockboard.adapters.aws import BODY_FAILURES, READ_FAILURES, translate, unread
from lockboard.adapters.once import Once, Refusal, Reply, status_of, unsettled
from lockboard.adapters.s3 import drain, etag_of, not_read, probe_key
from lockboard.domain.bodies import BodyReader
from lockboard.domain.errors import ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX
from lockboard.domain.model import Unread
from lockboard.domain.writes import LARGEST_RESTORED, Receipt, Restorable, Sent, leaves_within

TRUSTED_SECONDS = 24 * 3600.0
"""How long a store that was seen to honour conditions is taken to do so."""
DISTRUSTED_SECONDS = 600.0
"""How long one that was seen not to is left alone."""

_PUT, _DELETE = "PutObject", "DeleteObject"
_TAGGING = "s3:GetObjectVersionTagging"
_KEPT = (
    "ContentType",
    "ContentEncoding",
    "ContentLanguage",
    "ContentDisposition",
    "CacheControl",
    "Metadata",
    "ServerSideEncryption",
)
_READABLE_CLASSES = frozenset(
    {"STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY", "GLACIER_IR"}
)
"""Storage classes that a state is put back into; out of an archive it comes back as STANDARD, or Terraform
could not read it.
"""
_ETAG = re.compile(r"[\x21\x23-\x7e]{1,200}\Z")
_NO_ETAG = "0" * 32
_PROBE_BODY = b"Lockboard tests here whether this store honours conditional writes. It may be deleted.\n"
_UNKNOWN_CONDITION = frozenset(
    {"InvalidArgument", "InvalidRequest", "NotImplemented", "NotSupported", "UnsupportedOperation", "400", ""}
)


class Trust:
    """What is known of how one bucket's store treats conditions; shared by all its writers."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._known: tuple[float, str] | None = None

    def recall(self) -> str | None:
        """As `StateWrites.refuses_wrong_conditions` said last; None where it has to be tried."""
        with self._lock:
            if self._known is None:
                return None
            at, verdict = self._known
        lasts = DISTRUSTED_SECONDS if verdict else TRUSTED_SECONDS
        return verdict if self._monotonic() - at < lasts else None

    def remember(self, verdict: str) -> None:
        with self._lock:
            self._known = (self._monotonic(), verdict)


class _Hurried(BytesIO):
    """A body that ends the request where it does not leave in time. botocore sets a limit to each piece that
    it sends and none to the whole, and a process that sends for minutes would be taken for dead.
    """

    def __init__(self, body: bytes, monotonic: Callable[[], float]) -> None:
        super().__init__(body)
        self._monotonic, self._until = monotonic, monotonic() + leaves_within(len(body))

    def read(self, size: int | None = -1, /) -> bytes:
        if self._monotonic() > self._until:
            raise TimeoutError
        return super().read(size)


class _Finding(NamedTuple):
    """Of a test of conditions: "" or why not to trust the store; whether the store itself showed it; whether
    an object may have been left.
    """

    verdict: str
    proven: bool
    left: bool


class S3StateWrites:
    """Writes one bucket for one action.

    Args:
        client: an S3 client of one attempt that belongs to this writer alone.
        prefix: the backend's, below which the test of conditions is made.
        bodies: another client for reading a version whole, with a longer read time-out.
        trust: what the bucket's other writers found; the store is tried anew where left out.
        token: 32 hexadecimal digits, others at each call.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str = "",
        *,
        bodies: Any = None,
        trust: Trust | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        token: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._once, self._bodies = Once(client, "s3"), bodies or client
        self._bucket, self._prefix = bucket, prefix
        self._trust, self._monotonic, self._token = trust or Trust(monotonic), monotonic, token

    # -------------------------------------------------------------- writes

    def take_lockfile(self, key: str, text: str, over: str | None = None) -> Receipt:
        """See `StateWrites.take_lockfile`."""
        body = text.encode()
        return self._put(key + LOCKFILE_SUFFIX, body, over, ContentType="application/json").receipt

    def release_lockfile(self, key: str, etag: str) -> Receipt:
        """See `StateWrites.release_lockfile`."""
        return self._delete(key + LOCKFILE_SUFFIX, etag).receipt

    def put_state(self, key: str, version: Restorable, over: str | None) -> Receipt:
        """See `StateWrites.put_state`. The service checks the bytes against their MD5."""
        if len(version.data) > LARGEST_RESTORED:
            return _not_sent(_PUT, f"a version of {len(version.data)} bytes is not put back")
        return self._put(key, version.data, over, **version.headers).receipt

    def _put(self, key: str, body: bytes, over: str | None, **headers: Any) -> Reply:
        if over is not None and not _ETAG.match(over):
            return Reply(_not_sent(_PUT, "there is no ETag to compare with"))
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": f'"{over}"'}
        md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        source = _Hurried(body, self._monotonic)
        here = {"Bucket": self._bucket, "Key": key, "Body": source, "ContentMD5": md5}
        reply = self._once.send(_PUT, "s3:PutObject", _judge, **(headers | here | condition))
        if reply.receipt.sent is not Sent.DONE:
            return reply
        answer, etag = reply.answer, etag_of(reply.answer)
        if not etag:
            return unsettled(reply, "the answer names no ETag, as that of a store would")
        receipt = Receipt(
            Sent.DONE,
            reply.receipt.operation,
            reply.receipt.request_id,
            version_id=answer.get("VersionId"),
            etag=etag,
        )
        return Reply(receipt, answer)

    def _delete(self, key: str, etag: str) -> Reply:
        if not _ETAG.match(etag):
            return Reply(_not_sent(_DELETE, "there is no ETag to compare with"))
        reply = self._once.send(
            _DELETE, "s3:DeleteObject", _judge, Bucket=self._bucket, Key=key, IfMatch=f'"{etag}"'
        )
        if reply.receipt.sent is Sent.DONE and status_of(reply.answer) != 204:
            return unsettled(reply, f"the answer is {status_of(reply.answer)}, not the 204 of a deletion")
        return reply

    # -------------------------------------------------------------- reading a version

    def read_version(self, key: str, version_id: str) -> Restorable | Unread:
        """See `StateWrites.read_version`. Where its tags cannot be read it is Unread, or restoring it would
        lose them unseen.
        """
        reader, data = BodyReader(), bytearray()

        def feed(chunk: bytes) -> None:
            reader.feed(chunk)
            data.extend(chunk)

        try:
            answer = self._bodies.get_object(Bucket=self._bucket, Key=key, VersionId=version_id)
        except READ_FAILURES as error:
            return _unread_version(error, version_id)
        try:
            failed = drain(answer, feed, self._monotonic, LARGEST_RESTORED)
        except BODY_FAILURES as error:
            return _unread_version(error, version_id)
        if failed or (failed := _other_version(answer, version_id)):
            return failed
        tags = self._tags(key, version_id, answer)
        if isinstance(tags, Unread):
            return tags
        headers = _headers_to_keep(answer) | tags
        return Restorable(bytes(data), reader.finish(), version_id, etag_of(answer), headers)

    def _tags(self, key: str, version_id: str, head: Mapping[str, Any]) -> dict[str, str] | Unread:
        try:
            answer = self._bodies.get_object_tagging(Bucket=self._bucket, Key=key, VersionId=version_id)
            pairs = [(tag["Key"], tag["Value"]) for tag in answer["TagSet"]]
        except READ_FAILURES as error:
            if isinstance(error, ClientError) and _has_no_tags(status_of(error.response), head):
                return {}
            part = unread(translate(error, _TAGGING))
            words = f"its tags could not be read, and restoring would lose them: {part.reason}"
            return Unread(words, part.code, part.denied)
        return {"Tagging": urlencode(pairs, quote_via=quote)} if pairs else {}

    # -------------------------------------------------------------- trust

    def refuses_wrong_conditions(self) -> str:
        """See `StateWrites.refuses_wrong_conditions`. Seven requests, each with a condition; what they make
        is removed, in a bucket with versioning under a delete marker.
        """
        known = self._trust.recall()
        if known is not None:
            return known
        key = probe_key(self._prefix, self._token())
        found = self._try_conditions(key + LOCKFILE_SUFFIX)
        if found.left:
            self._tidy(key + LOCKFILE_SUFFIX)
        if found.proven:
            self._trust.remember(found.verdict)
        return found.verdict

    def _try_conditions(self, key: str) -> _Finding:
        # Before anything stands there: it could not be removed from a store without conditional DELETE.
        early = self._delete(key, _NO_ETAG)
        if early.receipt.sent in (Sent.FAILED, Sent.UNSETTLED):
            return _gave_up(early, left=False)
        made = self._put(key, _PROBE_BODY, None)
        etag = made.receipt.etag
        if etag is None:
            if made.receipt.sent is Sent.LOST:
                return _Finding(
                    "this store refuses `If-None-Match: *` where nothing stands", proven=True, left=False
                )
            return _gave_up(made, left=made.receipt.sent is Sent.UNSETTLED)
        wrong: Mapping[str, Callable[[], Reply]] = {
            "a PUT over an existing object with `If-None-Match: *`": lambda: self._put(key, b"1\n", None),
            "a PUT with a wrong `If-Match`": lambda: self._put(key, b"2\n", _NO_ETAG),
            "a DELETE with a wrong `If-Match`": lambda: self._delete(key, _NO_ETAG),
        }
        for what, send in wrong.items():
            reply = send()
            if reply.receipt.sent is Sent.DONE:
                words = f"this store ignores conditions: it performed {what}"
                return _Finding(words, proven=True, left=True)
            if reply.receipt.sent is not Sent.LOST:
                return _gave_up(reply, left=True)
        return self._try_the_right_one(key, etag)

    def _try_the_right_one(self, key: str, etag: str) -> _Finding:
        now = self._etag_at(key)
        if isinstance(now, ReadError):
            words = f"whether this store honours conditions could not be tried: {unread(now).reason}"
            return _Finding(words, proven=False, left=True)
        if now != etag:
            words = "this store ignores conditions: it answered that it refused a change, and made it"
            return _Finding(words, proven=True, left=True)
        last = self._delete(key, etag)
        if last.receipt.sent is Sent.LOST:
            return _Finding("this store refuses a DELETE with the right `If-Match`", proven=True, left=True)
        if last.receipt.sent is not Sent.DONE:
            return _gave_up(last, left=True)
        return _Finding("", proven=True, left=False)

    def _tidy(self, key: str) -> None:
        """Remove what a test left, on condition like everything; if that fails it stays, unlisted."""
        etag = self._etag_at(key)
        if isinstance(etag, str):
            self._delete(key, etag)

    def _etag_at(self, key: str) -> str | ReadError:
        try:
            answer = self._bodies.get_object(Bucket=self._bucket, Key=key)
            answer["Body"].close()
        except READ_FAILURES as error:
            return translate(error, "s3:GetObject")
        return etag_of(answer)


def _gave_up(reply: Reply, *, left: bool) -> _Finding:
    """The test ended with a request that failed: because the store knows no conditions, or for another
    reason.
    """
    refusal = reply.refusal
    if refusal is not None and _knows_no_condition(refusal):
        return _Finding(reply.receipt.detail, proven=True, left=left)
    words = f"whether this store honours conditions could not be tried: {reply.receipt.detail}"
    return _Finding(words, proven=False, left=left)


def _judge(refusal: Refusal) -> tuple[Sent, str] | None:
    """What S3's 4xx means to a conditional write."""
    status, code = refusal.status, refusal.code
    if status == 412:
        return Sent.LOST, "the object is no longer as it was seen (PreconditionFailed)"
    if (status, code) == (404, "NoSuchKey"):
        return Sent.LOST, "no object stands there any more (NoSuchKey)"
    if (status, code) == (409, "ConditionalRequestConflict"):
        return Sent.FAILED, "another write to this object was under way (ConditionalRequestConflict)"
    if _knows_no_condition(refusal):
        words = f"this store does not support this conditional request ({status} {code}".rstrip() + ")"
        return Sent.FAILED, f"{words}: {refusal.message}" if refusal.message else words
    return None


def _knows_no_condition(refusal: Refusal) -> bool:
    if refusal.status in (405, 501):
        return True
    return refusal.status == 400 and refusal.code in _UNKNOWN_CONDITION


def _not_sent(operation: str, why: str) -> Receipt:
    return Receipt(Sent.FAILED, f"s3:{operation}", detail=f"nothing was sent: {why}")


def _unread_version(error: Exception, version_id: str) -> Unread:
    return not_read(error, version_id) or Unread("this version does not exist", "NoSuchVersion")


def _other_version(answer: Mapping[str, Any], version_id: str) -> Unread | None:
    """Why the answer is not all of the version that was asked for, None where it is."""
    given = str(answer.get("VersionId", "null"))
    if given != version_id:
        return Unread("the store answered with another version than asked for", "WrongVersion")
    if answer.get("MissingMeta"):
        return Unread("some of its metadata cannot be read, and restoring would lose it", "MissingMeta")
    return None


def _has_no_tags(status: int, head: Mapping[str, Any]) -> bool:
    """Whether a refusal to tell the tags of a version, whose bytes came under this head, means that it has
    none.

    501: the store has no tags.  404: it knows those of the current object only, which is a delete marker; who
    may ask for tags (else it were 403) is told their number with the bytes.
    """
    return status == 501 or (status == 404 and not head.get("TagCount"))


def _headers_to_keep(answer: Mapping[str, Any]) -> dict[str, Any]:
    headers = {name: answer[name] for name in _KEPT if answer.get(name)}
    if str(answer.get("ServerSideEncryption", "")).startswith("aws:kms"):
        headers |= {
            name: answer[name] for name in ("SSEKMSKeyId", "BucketKeyEnabled") if answer.get(name) is not None
        }
    if answer.get("StorageClass") in _READABLE_CLASSES:
        headers["StorageClass"] = answer["StorageClass"]
    return headers
