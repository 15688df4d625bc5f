"""What the backend holds for one state key, and the hand that tampers with it: straight to the emulator."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.emulators import Emulator

Attribute = Mapping[str, Any]
"""A DynamoDB attribute value, `{"S": "text"}`."""

LOCKED_WITHIN_SECONDS = 30.0
MISSING = {"404", "NoSuchKey", "NotFound"}


def md5(body: bytes) -> str:
    """The 32 lower-case hexadecimal digits that Terraform stores as Digest."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Stored:
    """One state key: its object, its `.tflock`, and its two items of the lock table (None: no table)."""

    emulator: Emulator
    bucket: str
    table: str | None
    key: str

    @property
    def lock_id(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def digest_id(self) -> str:
        return f"{self.lock_id}-md5"

    @property
    def lockfile_key(self) -> str:
        return f"{self.key}.tflock"

    # The object

    def body(self) -> bytes:
        found = self._read(self.key)
        assert found is not None, f"{self.lock_id} has no object"
        return found

    def put_body(self, body: bytes) -> str | None:
        """Overwrite the object; the answer is the new version's ID where the bucket is versioned."""
        answer = self.emulator.s3.put_object(Bucket=self.bucket, Key=self.key, Body=body)
        version: str | None = answer.get("VersionId")
        return version

    def delete_object(self) -> None:
        self.emulator.s3.delete_object(Bucket=self.bucket, Key=self.key)

    def version_id(self) -> str:
        """The current version's ID."""
        answer = self.emulator.s3.head_object(Bucket=self.bucket, Key=self.key)
        return str(answer["VersionId"])

    # The lock table

    def item(self, lock_id: str) -> dict[str, Any] | None:
        if self.table is None:
            return None
        answer = self.emulator.dynamodb.get_item(
            TableName=self.table, Key={"LockID": {"S": lock_id}}, ConsistentRead=True
        )
        found: dict[str, Any] | None = answer.get("Item")
        return found

    def put_item(self, lock_id: str, **attributes: Attribute) -> None:
        assert self.table is not None, "this stack has no lock table"
        self.emulator.dynamodb.put_item(TableName=self.table, Item={"LockID": {"S": lock_id}, **attributes})

    def delete_item(self, lock_id: str) -> None:
        assert self.table is not None, "this stack has no lock table"
        self.emulator.dynamodb.delete_item(TableName=self.table, Key={"LockID": {"S": lock_id}})

    def digest(self) -> str | None:
        item = self.item(self.digest_id)
        return None if item is None else item.get("Digest", {}).get("S")

    def put_digest(self, value: str) -> None:
        self.put_item(self.digest_id, Digest={"S": value})

    def delete_digest(self) -> None:
        self.delete_item(self.digest_id)

    # The locks

    def table_lock(self) -> dict[str, Any] | None:
        """The LockInfo in the lock table, None where nothing is locked there."""
        item = self.item(self.lock_id)
        return None if item is None else json.loads(item["Info"]["S"])

    def lockfile(self) -> dict[str, Any] | None:
        """The LockInfo in the `.tflock` object, None where nothing is locked there."""
        body = self._read(self.lockfile_key)
        return None if body is None else json.loads(body)

    def put_lockfile(self, body: bytes) -> None:
        self.emulator.s3.put_object(Bucket=self.bucket, Key=self.lockfile_key, Body=body)

    def has_lockfile(self) -> bool:
        return self._read(self.lockfile_key) is not None

    def delete_lockfile(self) -> None:
        self.emulator.s3.delete_object(Bucket=self.bucket, Key=self.lockfile_key)

    def wait_for_lock(self, *, in_table: bool, in_file: bool, while_true: Callable[[], bool]) -> str:
        """Wait until the lock is really there, in each store named; its ID, which both stores share."""
        deadline = time.monotonic() + LOCKED_WITHIN_SECONDS
        while while_true() and time.monotonic() < deadline:
            held = [self.table_lock()] if in_table else []
            held += [self.lockfile()] if in_file else []
            ids = {lock["ID"] for lock in held if lock is not None}
            if held and None not in held and len(ids) == 1:
                return str(ids.pop())
            time.sleep(0.05)
        raise TimeoutError(f"nobody took the lock of {self.lock_id}")

    def _read(self, key: str) -> bytes | None:
        try:
            answer = self.emulator.s3.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return None
            raise
        body: bytes = answer["Body"].read()
        return body
