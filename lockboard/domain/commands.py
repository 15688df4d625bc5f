"""A plan as commands for a terminal: the same writes under the same conditions.

Every word that comes from AWS is quoted for a POSIX shell and joined to its option by `=`, so that none can
become an option or a command of its own.
"""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.text import shown

if TYPE_CHECKING:
    from lockboard.domain.plans import Plan

Command = tuple[str, str]
"""What it does, and what to type."""

LONGEST = 4096
"""Characters of a command that is offered: a longer one is for a script, not for a hand."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)
_FILE = "restored.tfstate"


def commands_of(plan: Plan) -> tuple[Command, ...]:
    """The same by hand, in order; nothing where the key cannot be written in a terminal exactly.

    Repairs begin with the state: Terraform's lock, which Lockboard holds meanwhile, has to be held by hand
    too (the runbook says how).
    """
    if shown(plan.key) != plan.key:
        return ()
    found = [*_releases(plan), *_returns(plan), *_restore(plan), *_digest(plan)]
    return tuple((label, text) for label, text in found if len(text) <= LONGEST and _reads_as_it_is(text))


def _reads_as_it_is(text: str) -> bool:
    """Whether nothing in a command from AWS, such as a version ID or a record, makes it read otherwise."""
    return all(shown(line, len(line)) == line for line in text.split("\n"))


def _releases(plan: Plan) -> Iterable[Command]:
    for lock in plan.releases:
        if lock.store is LockStore.TFLOCK:
            yield (
                "Remove this .tflock, if it is still as seen",
                _s3("delete-object", plan, plan.key + LOCKFILE_SUFFIX, f"--if-match={_tag(lock.etag)}"),
            )
        else:
            yield (
                "Remove this lock item, if it is still as seen",
                _transaction(plan, _delete_lock(plan, lock)),
            )
    for name in sorted({lock.info.id for lock in plan.releases if lock.info and _UUID.match(lock.info.id)}):
        label = "Terraform's own, which compares the ID and then deletes whatever is there"
        yield label, f"terraform force-unlock {name}"


def _delete_lock(plan: Plan, lock: Lock) -> Mapping[str, Any]:
    seen = "Info = :seen" if lock.attribute is not None else "attribute_not_exists(Info)"
    change = {
        "TableName": plan.table,
        "Key": {"LockID": {"S": lock_id(plan.bucket, plan.key)}},
        "ConditionExpression": f"attribute_exists(LockID) AND {seen} AND attribute_not_exists(Digest)",
    }
    return {"Delete": change | _values(seen=lock.attribute)}


def _returns(plan: Plan) -> Iterable[Command]:
    for store, record in plan.puts_back:
        if store is LockStore.TFLOCK:
            name = plan.key + LOCKFILE_SUFFIX
            put = _s3("put-object", plan, name, "--body=lock.json", "--if-none-match='*'")
            yield (
                "Put the .tflock back, if none stands there",
                f"printf %s {shlex.quote(record)} > lock.json && {put}",
            )
        else:
            item = {"LockID": {"S": lock_id(plan.bucket, plan.key)}, "Info": {"S": record}}
            condition = {"ConditionExpression": "attribute_not_exists(LockID)"}
            put_item = {"Put": {"TableName": plan.table, "Item": item} | condition}
            yield "Put the lock item back, if there is none", _transaction(plan, put_item)


def _restore(plan: Plan) -> Iterable[Command]:
    if plan.restores is None:
        return
    version = f"--version-id={shlex.quote(plan.restores.version_id)}"
    yield "Fetch the version", _s3("get-object", plan, plan.key, version, _FILE)
    condition = f"--if-match={_tag(plan.standing.etag)}" if plan.standing else "--if-none-match='*'"
    label = "Under Terraform's lock: put its bytes back, if the state is still as seen"
    put = _s3("put-object", plan, plan.key, f"--body={_FILE}", "--content-type=application/json", condition)
    yield label, put


def _digest(plan: Plan) -> Iterable[Command]:
    change = plan.digest
    if change is None:
        return
    name = digest_id(plan.bucket, plan.key)
    if change.absent:
        item = {"LockID": {"S": name}, "Digest": {"S": change.new}}
        condition = {"ConditionExpression": "attribute_not_exists(LockID)"}
        label = "Under Terraform's lock: write the digest, if there is none"
        yield label, _transaction(plan, {"Put": {"TableName": plan.table, "Item": item} | condition})
        return
    seen = "Digest = :seen" if change.old is not None else "attribute_not_exists(Digest)"
    at = {
        "TableName": plan.table,
        "Key": {"LockID": {"S": name}},
        "ConditionExpression": f"attribute_exists(LockID) AND {seen} AND attribute_not_exists(Info)",
    }
    if change.new is None:
        label = "Under Terraform's lock: remove the digest, if it is still as seen"
        yield label, _transaction(plan, {"Delete": at | _values(seen=change.old)})
        return
    update = {"UpdateExpression": "SET Digest = :new"}
    label = "Under Terraform's lock: set the digest, if it is still as seen"
    yield label, _transaction(plan, {"Update": at | update | _values(seen=change.old, new={"S": change.new})})


def _values(**values: Any) -> dict[str, Any]:
    named = {f":{name}": value for name, value in values.items() if value is not None}
    return {"ExpressionAttributeValues": named} if named else {}


def _transaction(plan: Plan, change: Mapping[str, Any]) -> str:
    items = shlex.quote(json.dumps([change], ensure_ascii=True, default=_base64))
    return f"aws dynamodb transact-write-items{_region(plan)} --transact-items={items}"


def _base64(value: object) -> str:
    """Binary values as the command line takes them. Raises TypeError for what DynamoDB does not have."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} is no value of DynamoDB")
    return b64encode(value).decode("ascii")


def _s3(operation: str, plan: Plan, key: str, *words: str) -> str:
    place = f"--bucket={shlex.quote(plan.bucket)} --key={shlex.quote(key)}"
    return " ".join((f"aws s3api {operation}{_region(plan)}", place, *words))


def _region(plan: Plan) -> str:
    """Tables are called the same everywhere, and the shell may be set to another region."""
    return f" --region={shlex.quote(plan.region)}"


def _tag(etag: str | None) -> str:
    return shlex.quote(f'"{etag or ""}"')
