"""The actions that are tried: what stands before, how each is asked for, and what has to be true when it
is done.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import LockInfo, lock_text
from lockboard.domain.model import Action
from lockboard.web.ways import way_to
from tests.emulators import Emulator

HELD_FOR = timedelta(hours=3)
"""How long the locks of dead runs have stood."""


class Change(StrEnum):
    """A kind of change that the proxy tells apart."""

    TAKE_FILE = "take the .tflock"
    TAKE_ITEM = "take the lock item"
    PUT = "put the state"
    DIGEST = "change the digest"
    RELEASE_FILE = "remove the .tflock"
    RELEASE_ITEM = "remove the lock item"
    RETURN_FILE = "put the old .tflock back"
    RETURN_ITEM = "put the old lock item back"


@dataclass(frozen=True)
class Place:
    """Where the keys of a run lie, reached without the proxy."""

    emulator: Emulator
    bucket: str
    table: str
    canary: str


@dataclass(frozen=True)
class Before:
    """What stood before an action. bodies: the versions written, oldest first. digest, item, file: of the
    table and the `.tflock`, as text. goal: the state's MD5 once the action is done, None where it does
    not matter.
    """

    key: str
    bodies: tuple[bytes | None, ...]
    ids: tuple[str, ...]
    digest: str
    item: str | None = None
    file: str | None = None
    goal: str | None = None

    @property
    def versions(self) -> dict[str, str | None]:
        """The MD5 of every version by its ID, None for a delete marker."""
        sums = (md5(body) if body is not None else None for body in self.bodies)
        return dict(zip(self.ids, sums, strict=True))

    @property
    def typed(self) -> str:
        """The name of the state that a risky action asks for: the last part of its key."""
        return self.key.split("/")[-2]


@dataclass(frozen=True)
class Deed:
    """One action. order: its writes by number, the main one first. reads: how many follow the intent before
    the first write of the repair itself. wants: the changes that it consists of. otherwise: what stands
    before it in every other turn, where that is something else.
    """

    name: str
    prepare: Callable[[Place, str], Before]
    path: Callable[[str, Before], str]
    wants: frozenset[Change]
    order: tuple[int, ...] = (0,)
    reads: int = 0
    form: dict[str, str] = field(default_factory=dict)
    otherwise: Callable[[Place, str], Before] | None = None

    @property
    def slug(self) -> str:
        """The name as part of a key."""
        return self.name.replace(" ", "-").replace(".", "")

    @property
    def held(self) -> bool:
        """Whether Lockboard holds Terraform's lock meanwhile."""
        return len(self.order) > 1


def md5(body: bytes) -> str:
    """As Terraform writes it into the digest."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _body(place: Place, key: str, serial: int) -> bytes:
    """A state with a secret in it."""
    secret = {"value": place.canary, "type": "string", "sensitive": True}
    text = {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": serial,
        "lineage": str(uuid.uuid5(uuid.NAMESPACE_URL, key)),
        "outputs": {"password": secret},
        "resources": [
            {
                "mode": "managed",
                "type": "terraform_data",
                "name": place.canary,
                "provider": 'provider["terraform.io/builtin/terraform"]',
                "instances": [{"schema_version": 0, "attributes": {"input": place.canary}}],
            }
        ],
    }
    return json.dumps(text, indent=2).encode()


def _put(place: Place, key: str, *bodies: bytes) -> tuple[str, ...]:
    put = place.emulator.s3.put_object
    return tuple(str(put(Bucket=place.bucket, Key=key, Body=body)["VersionId"]) for body in bodies)


def _set_digest(place: Place, key: str, value: str) -> str:
    item = {"LockID": {"S": digest_id(place.bucket, key)}, "Digest": {"S": value}}
    place.emulator.dynamodb.put_item(TableName=place.table, Item=item)
    return value


def _lock(place: Place, key: str) -> str:
    """The record of a run that has not been heard of for long."""
    since = datetime.now(UTC) - HELD_FOR
    path = lock_id(place.bucket, key)
    return lock_text(
        LockInfo(str(uuid.uuid4()), "OperationTypeApply", "", "ci@runner-7", "1.11.4", since, path)
    )


def _lock_item(place: Place, key: str, text: str) -> str:
    item = {"LockID": {"S": lock_id(place.bucket, key)}, "Info": {"S": text}}
    place.emulator.dynamodb.put_item(TableName=place.table, Item=item)
    return text


def _lock_file(place: Place, key: str, text: str) -> str:
    place.emulator.s3.put_object(Bucket=place.bucket, Key=key + LOCKFILE_SUFFIX, Body=text.encode())
    return text


def _locked_item(place: Place, key: str) -> Before:
    body = _body(place, key, 1)
    ids, text = _put(place, key, body), _lock_item(place, key, _lock(place, key))
    return Before(key, (body,), ids, _set_digest(place, key, md5(body)), item=text)


def _locked_file(place: Place, key: str) -> Before:
    body = _body(place, key, 1)
    ids, text = _put(place, key, body), _lock_file(place, key, _lock(place, key))
    return Before(key, (body,), ids, _set_digest(place, key, md5(body)), file=text)


def _behind(place: Place, key: str) -> Before:
    old, new = _body(place, key, 1), _body(place, key, 2)
    return Before(
        key, (old, new), _put(place, key, old, new), _set_digest(place, key, md5(old)), goal=md5(new)
    )


def _overwritten(place: Place, key: str) -> Before:
    old, new = _body(place, key, 1), _body(place, key, 2)
    return Before(
        key, (old, new), _put(place, key, old, new), _set_digest(place, key, md5(new)), goal=md5(old)
    )


def _deleted(place: Place, key: str) -> Before:
    old, new = _body(place, key, 1), _body(place, key, 2)
    ids, digest = _put(place, key, old, new), _set_digest(place, key, md5(new))
    marker = str(place.emulator.s3.delete_object(Bucket=place.bucket, Key=key)["VersionId"])
    return Before(key, (old, new, None), (*ids, marker), digest, goal=md5(old))


def _crashed(place: Place, key: str) -> Before:
    old, new, text = _body(place, key, 1), _body(place, key, 2), _lock(place, key)
    digest, first = _set_digest(place, key, md5(old)), _put(place, key, old)
    item, file = _lock_item(place, key, text), _lock_file(place, key, text)
    ids = first + _put(place, key, new)
    return Before(key, (old, new), ids, digest, item=item, file=file, goal=md5(new))


def _way(action: Action, *, version: bool = False) -> Callable[[str, Before], str]:
    return lambda state_id, before: way_to(state_id, action, version=before.ids[0] if version else "")


_REPAIR = (2, 0, 1, 3, 4)
DEEDS: tuple[Deed, ...] = (
    Deed("unlock the item", _locked_item, _way(Action.FORCE_UNLOCK), frozenset({Change.RELEASE_ITEM})),
    Deed("unlock the .tflock", _locked_file, _way(Action.FORCE_UNLOCK), frozenset({Change.RELEASE_FILE})),
    Deed(
        "repair the digest",
        _behind,
        _way(Action.SET_DIGEST),
        frozenset({Change.DIGEST}),
        order=_REPAIR,
        reads=2,
    ),
    Deed(
        "restore a version",
        _overwritten,
        _way(Action.RESTORE_VERSION, version=True),
        frozenset({Change.PUT, Change.DIGEST}),
        order=(2, 3, 0, 1, 4, 5),
        reads=3,
        form={"serial": "1"},
        otherwise=_deleted,
    ),
    Deed(
        "take a lock over",
        _crashed,
        _way(Action.TAKE_OVER),
        frozenset({Change.DIGEST}),
        order=_REPAIR,
        reads=2,
    ),
)
