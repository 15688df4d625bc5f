"""What the services need from the world; adapters answer it.

Reads raise `ReadError` only where nothing at all can be said. A single object, item or version that cannot be
read comes back as `Unread`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from lockboard.domain.bodies import Body
from lockboard.domain.digests import Attribute
from lockboard.domain.locks import Lock
from lockboard.domain.model import History, StateObject, Unread

Listed = tuple[str, str, int, str]
"""One listed object: key, ETag without quotes, size in bytes, LastModified as S3 wrote it (ISO 8601 with Z).
A plain tuple: there may be a million.
"""


class TableItem(NamedTuple):
    """One item of a lock table: its LockID and the two attributes, None where it has not got them."""

    lock_id: str
    info: Attribute | None
    digest: Attribute | None


class SweptKey(NamedTuple):
    """A key that ListObjectVersions knows and whose current version is a delete marker, or that is a
    `.tflock`. `marker` is that marker's version ID, None where an object stands.
    """

    key: str
    marker: str | None


@dataclass(slots=True)
class Requests:
    """Requests sent since the counter was made, by kind; retries count."""

    counts: dict[str, int] = field(
        default_factory=lambda: {"list": 0, "scan": 0, "get": 0, "versions": 0, "other": 0}
    )
    throttled: int = 0

    def snapshot(self) -> dict[str, int]:
        return dict(self.counts)


class States(Protocol):
    """One bucket."""

    requests: Requests

    def list_pages(self, prefix: str, fences: Sequence[str] = ()) -> Iterator[Sequence[Listed]]:
        """Every object under the prefix, in key order, a page at a time (ListObjectsV2). Raises ReadError.

        `fences` are keys known from the last listing, every thousandth: the stretches between them are listed
        at the same time. Where nothing changed that costs the same requests as one after the other; where
        much did, a few more.
        """

    def sweep_pages(self, prefix: str) -> Iterator[Sequence[SweptKey]]:
        """Keys whose current version is a delete marker, and every `.tflock` ever (ListObjectVersions).

        Raises ReadError.
        """

    def read_state(self, key: str, version_id: str | None = None) -> StateObject | None | Unread:
        """GET the object and hash it: `body` is a Body.

        None where S3 proves it absent (404 with ListBucket allowed).
        """

    def read_body(self, key: str, version_id: str) -> Body | Unread:
        """GET one version's bytes and hash them."""

    def read_lockfile(self, key: str, version_id: str | None = None) -> Lock | None | Unread:
        """GET the `.tflock` object of a state key (the key given is the state's), or one version of it."""

    def history(self, key: str) -> History | Unread:
        """The versions of exactly this key, newest first, bodies not read."""

    def versioning(self) -> str:
        """`enabled`, `suspended`, `off`, or `unknown` where it may not be asked."""

    def clock_skew(self) -> timedelta | None:
        """Our clock minus AWS's, from the Date of the last answer; None before the first."""


class LockTable(Protocol):
    """One DynamoDB lock table."""

    requests: Requests

    def scan_pages(self) -> Iterator[Sequence[TableItem]]:
        """Every item, consistently read and projected, within the read budget. Raises ReadError."""

    def item(self, lock_id: str) -> TableItem | None | Unread:
        """One item, consistently read."""


class Clock(Protocol):
    """Tells the time."""

    def __call__(self) -> datetime:
        """Now, with a zone."""
