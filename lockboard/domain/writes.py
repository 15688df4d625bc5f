"""What an action needs of AWS: single conditional writes, each sent once.

No write is unconditional, none is repeated, none deletes a version or a delete marker. What became of a
write is a `Receipt`; that a reply was lost is a value here and never an exception, because the caller must
settle it by reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lockboard.domain.audit import Person
from lockboard.domain.bodies import Body
from lockboard.domain.digests import Attribute
from lockboard.domain.model import Unread

LARGEST_RESTORED = 256 * 1024 * 1024
"""Bytes. A version is held in memory while it is written back."""
SLOWEST = 512 * 1024
"""Bytes a second; a body that leaves more slowly is given up."""
LONGEST_LEAVE = 45.0
"""Seconds that any body may take: with all that comes before and after, an action ends within two minutes."""


def leaves_within(size: int) -> float:
    """Seconds that a body of so many bytes may take to leave this machine."""
    return min(5.0 + size / SLOWEST, LONGEST_LEAVE)


class Sent(StrEnum):
    """What is known of a write that was sent once.

    done: the service said so.  lost: its condition did not hold, nothing changed.  failed: it was refused or
    never left this machine, nothing changed; also where another write to the same thing was under way, so
    that the condition was not judged.  unsettled: no reply that can be trusted (connection lost, time-out,
    5xx).
    """

    DONE = "done"
    LOST = "lost"
    FAILED = "failed"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one write. operation: the API call, such as `s3:PutObject`.  request_id: AWS's, ""
    without a reply.  detail: the service's words, fit to show; for `failed` with the missing permission where
    that is the cause.  version_id, etag: of an object written.
    """

    sent: Sent
    operation: str
    request_id: str = ""
    detail: str = ""
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Restorable:
    """A version's bytes with what has to be kept of its head. Never logged, shown or stored: states hold
    secrets.

    headers: boto3 `put_object` parameters that keep content type, encoding, cache control, disposition and
    language, user metadata, server-side encryption with its KMS key and bucket-key switch, tags and storage
    class.
    """

    data: bytes
    body: Body
    version_id: str
    etag: str
    headers: Mapping[str, object] = field(default_factory=dict)


class StateWrites(Protocol):
    """One bucket. Keys are state keys; the lock file's name is made here. ETags are without quotes."""

    def refuses_wrong_conditions(self) -> str:
        """Why this store is not to be trusted with a conditional write; "" where it was seen to refuse a PUT
        over an existing object with `If-None-Match: *`, a PUT and a DELETE with a wrong `If-Match`, and to
        perform a DELETE with the right one. Tried once on a key of our own (`keys.PROBE_KEY`) and remembered;
        a failure to try is not remembered.
        """

    def take_lockfile(self, key: str, text: str, over: str | None = None) -> Receipt:
        """PUT the `.tflock`: with `If-None-Match: *`, or over the one with the ETag `over` (`If-Match`)."""

    def release_lockfile(self, key: str, etag: str) -> Receipt:
        """DELETE the `.tflock` with `If-Match`, without a version ID."""

    def read_version(self, key: str, version_id: str) -> Restorable | Unread:
        """GET one version whole, with its tags; its length checked, at most LARGEST_RESTORED bytes."""

    def put_state(self, key: str, version: Restorable, over: str | None) -> Receipt:
        """PUT its bytes as a new version: over the object with the ETag `over` (`If-Match`), or where none
        stands (`If-None-Match: *`, which a delete marker allows). They leave within `leaves_within`, or the
        connection is closed and S3 has no object.
        """


class TableWrites(Protocol):
    """One lock table. Every change is one TransactWriteItems with `token` as its ClientRequestToken (at most
    36 characters, one for each write); the transaction is what the actor's policy allows writes in.

    An `Attribute` is compared by type and value, exactly; None means that the item has no such attribute.
    Every change of a lock item also demands that it has no Digest.
    """

    def take_lock(self, lock_id: str, info: str, token: str) -> Receipt:
        """Put the lock item where there is none (`attribute_not_exists(LockID)`)."""

    def replace_lock(self, lock_id: str, old: Attribute | None, info: str, token: str) -> Receipt:
        """Put ours over the lock whose `Info` is exactly `old`."""

    def release_lock(self, lock_id: str, old: Attribute | None, token: str) -> Receipt:
        """Delete the lock item whose `Info` is exactly `old`."""

    def change_digest(
        self,
        digest_id: str,
        *,
        absent: bool,
        old: Attribute | None,
        new: str | None,
        lock_id: str,
        info: str,
        token: str,
    ) -> Receipt:
        """Set the digest item's Digest to `new`, or with None delete the item, if it is still as seen
        (`absent`: no such item; else its Digest is exactly `old`, and it carries no Info) and the lock item
        under `lock_id` still holds exactly `info`, ours.
        """


@dataclass(frozen=True, slots=True)
class Hands:
    """The writers of one action: clients of their own, one attempt each, under the actor's role where one is
    set.
    """

    states: StateWrites
    table: TableWrites | None


OpenHands = Callable[[str, str, Person, str], Hands]
"""(backend's name, state key, person, action ID) -> Hands. Where a role is assumed for the action, its
session is named after person and action and limited to this key. Raises ReadError where the role cannot be
assumed.
"""
