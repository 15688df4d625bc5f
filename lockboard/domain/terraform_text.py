"""What Terraform 1.9 and newer prints in each situation, so that an operator recognises it (client.go,
statemgr/locker.go).
"""

from __future__ import annotations

from lockboard.domain.bodies import Body
from lockboard.domain.digests import Digest
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import Content, Effect, Observation, StateObject
from lockboard.domain.text import shown


def printed(seen: Observation, effect: Effect, content: Content, locks: tuple[Lock, ...]) -> str:
    """The heart of the error text, or "" where plan prints no error."""
    if effect is Effect.BLOCKED:
        return _digest_error(seen)
    if effect is Effect.WAITS and locks:
        return _lock_error(locks[0])
    if effect is Effect.RECREATES:
        return "Plan: N to add, 0 to change, 0 to destroy.   (no error: it plans to create everything)"
    if effect is Effect.FAILS and content is Content.STATE_UNREADABLE:
        return f'Unable to access object "{shown(seen.key)}" in S3 bucket "{shown(seen.bucket)}"'
    if effect is Effect.FAILS:
        return "Error: Failed to load state: the state file could not be parsed"
    return ""


def _digest_error(seen: Observation) -> str:
    stored = seen.digest.value if isinstance(seen.digest, Digest) else ""
    calculated = _calculated(seen)
    way = (
        f"update the Digest value stored in the DynamoDB table to the following value: {calculated}"
        if calculated
        else "remove the Digest value stored in the DynamoDB table"
    )
    return (
        "Error: error loading state: state data in S3 does not have the expected content.\n\n"
        "The checksum calculated for the state stored in S3 does not match the"
        " checksum\nstored in DynamoDB.\n\n"
        f"Bucket: {shown(seen.bucket)}\nKey:    {shown(seen.key)}\n"
        f"Calculated checksum: {calculated}\nStored checksum:     {stored}\n\n"
        f"… you may need to manually verify the remote state and {way}"
    )


def _calculated(seen: Observation) -> str:
    """Terraform prints nothing for a missing or empty object."""
    if not isinstance(seen.state, StateObject) or seen.state.size == 0:
        return ""
    return seen.state.body.md5 if isinstance(seen.state.body, Body) else ""


def _lock_error(lock: Lock) -> str:
    if lock.store is LockStore.DYNAMODB:
        cause = (
            "operation error DynamoDB: PutItem, … ConditionalCheckFailedException: The"
            " conditional request failed"
        )
    else:
        cause = (
            "operation error S3: PutObject, … StatusCode: 412, … PreconditionFailed: At least one"
            " of the pre-conditions you specified did not hold"
        )
    head = f"Error: Error acquiring the state lock\n\nError message: {cause}"
    if lock.info is None:
        return head + "\n(no Lock Info: Terraform cannot read the record either)"
    info = lock.info
    created = (
        f"{info.created:%Y-%m-%d %H:%M:%S.%f} +0000 UTC" if info.created else "0001-01-01 00:00:00 +0000 UTC"
    )
    return (
        f"{head}\nLock Info:\n  ID:        {shown(info.id, 200)}\n  Path:      {shown(info.path, 2200)}\n"
        f"  Operation: {shown(info.operation, 200)}\n  Who:       {shown(info.who, 200)}\n"
        f"  Version:   {shown(info.version, 60)}\n  Created:   {created}\n  Info:     "
        f" {shown(info.info, 200)}"
    )
