"""Invented colleagues who run Terraform against the demo's estate, so that a visitor sees locks come and go.

They do on the wire what Terraform does (client.go `Lock`, `Put`, `Unlock`): take the `.tflock` and then the
table's lock, put the state, put its digest, release in the same order. Now and then one is killed and leaves
its lock; later somebody clears it.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from botocore.exceptions import ClientError

from lockboard.demo import bodies
from lockboard.demo.estate import ROWS, cluster_of

MOST_RUNS = 3
MOST_DEAD = 3
"""The most locks of killed runs that stand at one time."""
KEPT_VERSIONS = 40
"""How many versions of an object the lifecycle rule leaves, lest a demo left running fill the memory."""

_CHANCE_OF_DEATH = 0.06
_CHANCE_OF_CLEARING = 0.05
_CHANCE_OF_CHANGES = 0.65
_CHANCE_OF_EXPIRY = 0.05
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "ConditionalCheckFailedException"}
_MISSING = {"NoSuchKey", "404"}


@dataclass(frozen=True, slots=True)
class Target:
    """A state that the team works on, and where its configuration keeps locks."""

    region: str
    bucket: str
    key: str
    table: str | None
    lockfile: bool

    @property
    def path(self) -> str:
        """Its LockID."""
        return f"{self.bucket}/{self.key}"

    @property
    def file(self) -> str:
        """The key of its `.tflock`."""
        return f"{self.key}.tflock"


def targets() -> tuple[Target, ...]:
    """The states of the estate that are the team's."""
    found = ((row, cluster_of(row.backend)) for row in ROWS if row.team)
    return tuple(Target(c.region, c.bucket, row.key, c.table, c.lockfile) for row, c in found)


class Wire:
    """Terraform's requests. `client_for` gives a boto3 client for a service's name and a region."""

    def __init__(self, client_for: Callable[[str, str], Any]) -> None:
        self._client_for = client_for
        self._clients: dict[tuple[str, str], Any] = {}

    def _client(self, service: str, target: Target) -> Any:
        wanted = (service, target.region)
        if wanted not in self._clients:
            self._clients[wanted] = self._client_for(*wanted)
        return self._clients[wanted]

    def take(self, target: Target, info: str) -> bool:
        """Take the lock in every store of the target, the file first; False, and nothing taken, where one is
        held.
        """
        if target.lockfile and not self._take_file(target, info):
            return False
        if target.table and not self._take_item(target, info):
            if target.lockfile:
                self._client("s3", target).delete_object(Bucket=target.bucket, Key=target.file)
            return False
        return True

    def _take_file(self, target: Target, info: str) -> bool:
        put = self._client("s3", target).put_object
        return _unless_refused(
            lambda: put(
                Bucket=target.bucket,
                Key=target.file,
                Body=info.encode(),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        )

    def _take_item(self, target: Target, info: str) -> bool:
        put = self._client("dynamodb", target).put_item
        item = {"LockID": {"S": target.path}, "Info": {"S": info}}
        condition = "attribute_not_exists(LockID)"
        return _unless_refused(lambda: put(TableName=target.table, Item=item, ConditionExpression=condition))

    def read(self, target: Target) -> bytes | None:
        """The state's body; None where there is no object."""
        return self._read(target, target.key)

    def _read(self, target: Target, key: str) -> bytes | None:
        try:
            body: bytes = self._client("s3", target).get_object(Bucket=target.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        return body

    def write(self, target: Target, body: bytes) -> None:
        """Put the state."""
        put = self._client("s3", target).put_object
        put(Bucket=target.bucket, Key=target.key, Body=body, ContentType="application/json")

    def put_digest(self, target: Target, body: bytes) -> None:
        """Put the digest item of a body; the target must have a table."""
        item = {"LockID": {"S": f"{target.path}-md5"}, "Digest": {"S": bodies.digest_of(body)}}
        self._client("dynamodb", target).put_item(TableName=target.table, Item=item)

    def holder_ids(self, target: Target) -> set[str]:
        """The IDs of the locks that are held; an unreadable one has none."""
        return {found for found in (self._file_id(target), self._item_id(target)) if found}

    def _file_id(self, target: Target) -> str | None:
        return _id_in(self._read(target, target.file)) if target.lockfile else None

    def _item_id(self, target: Target) -> str | None:
        if not target.table:
            return None
        key = {"LockID": {"S": target.path}}
        answer = self._client("dynamodb", target).get_item(
            TableName=target.table, Key=key, ConsistentRead=True
        )
        return _id_in(answer.get("Item", {}).get("Info", {}).get("S"))

    def release(self, target: Target, lock_id: str) -> None:
        """Release the lock of this ID in every store that has it: read, compare, delete."""
        if self._file_id(target) == lock_id:
            self._client("s3", target).delete_object(Bucket=target.bucket, Key=target.file)
        if self._item_id(target) == lock_id:
            key = {"LockID": {"S": target.path}}
            self._client("dynamodb", target).delete_item(TableName=target.table, Key=key)

    def expire(self, target: Target, keep: int = KEPT_VERSIONS) -> None:
        """What a lifecycle rule does: delete all but the newest versions of the state and of its
        `.tflock`.
        """
        s3 = self._client("s3", target)
        answer = s3.list_object_versions(Bucket=target.bucket, Prefix=target.key)
        everything = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
        for key in (target.key, target.file):
            ours = sorted(
                (v for v in everything if v["Key"] == key), key=lambda v: v["LastModified"], reverse=True
            )
            for old in ours[keep:]:
                if not old["IsLatest"]:
                    s3.delete_object(Bucket=target.bucket, Key=key, VersionId=old["VersionId"])


def _unless_refused(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClientError as error:
        if _code(error) in _REFUSED:
            return False
        raise
    return True


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _id_in(record: str | bytes | None) -> str | None:
    try:
        found = json.loads(record or "null")
    except ValueError:
        return None
    return str(found["ID"]) if isinstance(found, dict) and "ID" in found else None


class Did(StrEnum):
    """What one step did."""

    TOOK = "took"
    REFUSED = "refused"
    WROTE = "wrote"
    DIGESTED = "digested"
    RELEASED = "released"
    DIED = "died"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, and to which state."""

    did: Did
    target: Target


@dataclass(slots=True)
class _Run:
    """One terraform command. `wrote` is the body it has put; `digested` whether the digest followed."""

    target: Target
    lock_id: str
    changes: bool
    wrote: bytes | None = None
    digested: bool = False


class Team:
    """Colleagues at work, one request or two per `step`.

    Args:
        targets: the states that they work on; they leave all others alone.
        wire: how their requests reach AWS.
        clock: the time, aware.
        rng: chooses who does what.
    """

    def __init__(
        self, targets: Sequence[Target], wire: Wire, clock: Callable[[], datetime], rng: random.Random
    ) -> None:
        self._targets, self._wire, self._clock, self._rng = tuple(targets), wire, clock, rng
        self._runs: list[_Run] = []
        self._dead: list[_Run] = []

    @property
    def dead(self) -> tuple[Target, ...]:
        """The states whose lock was left by a killed run, the oldest first."""
        return tuple(run.target for run in self._dead)

    @property
    def working(self) -> tuple[Target, ...]:
        """The states that a living run holds."""
        return tuple(run.target for run in self._runs)

    def work(self, stop: threading.Event) -> None:
        """Step every few seconds until `stop` is set."""
        while not stop.wait(self._rng.uniform(1.5, 4)):
            self.step()

    def step(self) -> Step:
        """Do the next thing and say what it was."""
        if self._dead and self._rng.random() < _CHANCE_OF_CLEARING:
            return self._clear(self._dead.pop(0))
        idle = [target for target in self._targets if target not in (*self.working, *self.dead)]
        if idle and (not self._runs or (len(self._runs) < MOST_RUNS and self._rng.random() < 0.4)):
            return self._begin(self._rng.choice(idle))
        if not self._runs:
            return self._clear(self._dead.pop(0))
        return self._advance(self._rng.choice(self._runs))

    def _begin(self, target: Target) -> Step:
        changes = self._rng.random() < _CHANCE_OF_CHANGES
        run = _Run(target, bodies.new_uuid(self._rng), changes)
        operation = "OperationTypeApply" if changes else "OperationTypePlan"
        who, release = self._rng.choice(bodies.HOLDERS), self._rng.choice(bodies.RELEASES[2:])
        if not self._wire.take(
            target, bodies.lock_info(run.lock_id, operation, who, release, self._clock(), target.path)
        ):
            return Step(Did.REFUSED, target)
        self._runs.append(run)
        return Step(Did.TOOK, target)

    def _advance(self, run: _Run) -> Step:
        if not run.digested and len(self._dead) < MOST_DEAD and self._rng.random() < _CHANCE_OF_DEATH:
            self._runs.remove(run)
            self._dead.append(run)
            return Step(Did.DIED, run.target)
        if run.changes and run.wrote is None and (body := self._wire.read(run.target)):
            run.wrote = bodies.next_body(body, self._rng)
            self._wire.write(run.target, run.wrote)
            return Step(Did.WROTE, run.target)
        if run.wrote is not None and run.target.table and not run.digested:
            self._wire.put_digest(run.target, run.wrote)
            run.digested = True
            return Step(Did.DIGESTED, run.target)
        self._runs.remove(run)
        self._wire.release(run.target, run.lock_id)
        if self._rng.random() < _CHANCE_OF_EXPIRY:
            self._wire.expire(run.target)
        return Step(Did.RELEASED, run.target)

    def _clear(self, run: _Run) -> Step:
        """Somebody repairs what a killed run left, if its lock still stands: the digest it owed, then the
        lock.
        """
        if run.lock_id in self._wire.holder_ids(run.target):
            if run.wrote is not None and run.target.table and (body := self._wire.read(run.target)):
                self._wire.put_digest(run.target, body)
            self._wire.release(run.target, run.lock_id)
        return Step(Did.CLEARED, run.target)
