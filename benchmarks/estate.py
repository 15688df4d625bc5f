"""A made-up estate: the same keys, ETags, digests and held locks for the same number of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import NamedTuple

BUCKET = "bench-tfstate"
TABLE = "bench-lock"
REGION = "us-east-1"

PAGE_KEYS = 1000
"""Keys of a LIST page: S3 gives no more."""
PAGE_BYTES = 1024**2
"""Bytes of items of a Scan page, names and values as DynamoDB counts them (developer guide, "Item sizes")."""
HELD = 120
"""Locks held in the estate, all of them for days: enough for two pages of rows that say something."""

_TEAMS = (
    "billing",
    "checkout",
    "data-lake",
    "identity",
    "ledger",
    "network",
    "payments",
    "search",
    "shipping",
    "web",
)
_PLACES = ("ap-northeast-2", "eu-central-1", "us-east-1", "us-west-2")
_STAGES = ("dev", "prod", "staging")


class Stored(NamedTuple):
    """One object: LastModified as S3 writes it, ETag without quotes."""

    key: str
    etag: str
    size: int
    modified: str


class Item(NamedTuple):
    """One item of the table. `size`: what DynamoDB counts for it, names and values in bytes."""

    lock_id: str
    digest: str | None
    info: str | None

    @property
    def size(self) -> int:
        digest = len("Digest") + len(self.digest) if self.digest is not None else 0
        info = len("Info") + len(self.info.encode()) if self.info is not None else 0
        return len("LockID") + len(self.lock_id.encode()) + digest + info


@dataclass(frozen=True)
class Estate:
    """objects: in the order of a listing.  items: of a scan, a digest for each object, then held locks."""

    objects: tuple[Stored, ...]
    items: tuple[Item, ...]

    @property
    def list_pages(self) -> int:
        return -(-len(self.objects) // PAGE_KEYS)

    def scan_pages(self) -> list[slice]:
        """The items of each page: DynamoDB ends one with the item that reaches PAGE_BYTES."""
        pages, start, weight = [], 0, 0
        for number, item in enumerate(self.items):
            weight += item.size
            if weight >= PAGE_BYTES:
                pages.append(slice(start, number + 1))
                start, weight = number + 1, 0
        if start < len(self.items) or not pages:
            pages.append(slice(start, len(self.items)))
        return pages


def build(keys: int, now: datetime) -> Estate:
    """An estate of so many state keys, about `HELD` of them locked, none written in the day before `now`."""
    names = sorted(_key(number) for number in range(keys))
    objects = tuple(_stored(name, number, now) for number, name in enumerate(names))
    locked = range(0, keys, max(1, keys // HELD))
    return Estate(objects, (*map(_digest, objects), *_locks(objects, locked, now)))


def lock_item(key: str, number: int, since: datetime) -> Item:
    """A lock as Terraform writes it."""
    info = {
        "ID": f"{number:08x}-5b1c-4d2e-9f30-{number:012x}",
        "Operation": "OperationTypeApply",
        "Info": "",
        "Who": f"ci-{number % 23:02}@runner-{number % 7}.internal",
        "Version": "1.11.4",
        "Created": since.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "Path": f"{BUCKET}/{key}",
    }
    return Item(f"{BUCKET}/{key}", None, json.dumps(info, separators=(",", ":")))


def _key(number: int) -> str:
    team, place, stage = _TEAMS[number % 10], _PLACES[number // 10 % 4], _STAGES[number // 40 % 3]
    if number % 5 == 4:
        return f"env:/{stage}/{team}/{place}/component-{number:06}/terraform.tfstate"
    return f"{team}/{stage}/{place}/component-{number:06}/terraform.tfstate"


def _stored(key: str, number: int, now: datetime) -> Stored:
    written = now - timedelta(days=1, minutes=number % 500_000, milliseconds=now.microsecond // 1000)
    moment = written.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    etag = md5(key.encode(), usedforsecurity=False).hexdigest()
    return Stored(key, etag, 2000 + number * 37 % 180_000, moment)


def _digest(stored: Stored) -> Item:
    return Item(f"{BUCKET}/{stored.key}-md5", stored.etag, None)


def _locks(objects: tuple[Stored, ...], numbers: range, now: datetime) -> Iterator[Item]:
    for turn, number in enumerate(numbers):
        yield lock_item(objects[number].key, number, now - timedelta(days=2 + turn % 30, hours=turn % 24))
