"""Least-privilege IAM policies: the reader's, the actor's, and the one that limits an action to one key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lockboard.domain.keys import DIGEST_SUFFIX, LOCKFILE_SUFFIX, PROBE_KEY

Policy = dict[str, Any]

LONGEST_SESSION_POLICY = 2048
"""Characters that STS takes."""

_READ_OBJECTS = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectVersionTagging"]
_PUT_OBJECTS = ["s3:PutObject", "s3:PutObjectTagging"]
_ITEM_WRITES = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
_IN_TRANSACTION = {
    "ForAnyValue:StringEquals": {"dynamodb:EnclosingOperation": ["TransactWriteItems"]},
}
_WITH_IF_MATCH = {"Null": {"s3:if-match": "false"}}
_ESCAPES = {"*": "${*}", "?": "${?}", "$": "${$}"}


def escaped(text: str) -> str:
    """`text` as a policy's Resource or condition means it literally."""
    return "".join(_ESCAPES.get(char, char) for char in text)


def policy_text(policy: Policy) -> str:
    """The policy as compact JSON, whose characters STS counts, and in ASCII, which it demands."""
    return json.dumps(policy, ensure_ascii=True, separators=(",", ":"))


def reader_policy(
    bucket: str,
    prefix: str = "",
    table_arn: str | None = None,
    *,
    kms_key_arns: Sequence[str] = (),
    partition: str = "aws",
) -> Policy:
    """What reading one backend needs and nothing else.

    S3 answers 404 to a GET of an absent object only if s3:ListBucket is allowed, else 403, and asks that
    without an s3:prefix. Hence IfExists: an absent state must not be taken for one that is denied.
    """
    names = bucket_arn(bucket, partition)
    limited = {"Condition": {"StringLikeIfExists": {"s3:prefix": f"{escaped(prefix)}*"}}} if prefix else {}
    statements = [
        _allow("ListStates", ["s3:ListBucket", "s3:ListBucketVersions"], names) | limited,
        _allow("SeeVersioning", "s3:GetBucketVersioning", names),
        _allow(
            "ReadStates",
            ["s3:GetObject", "s3:GetObjectVersion"],
            object_arn(bucket, escaped(prefix) + "*", partition),
        ),
    ]
    if table_arn:
        actions = ["dynamodb:Scan", "dynamodb:GetItem", "dynamodb:DescribeTable"]
        statements.append(_allow("ReadLocksAndDigests", actions, table_arn))
    if kms_key_arns:
        statements.append(_allow("DecryptStates", "kms:Decrypt", list(kms_key_arns)))
    return _policy(statements)


def actor_policy(
    bucket: str,
    prefix: str = "",
    table_arn: str | None = None,
    *,
    kms_key_arns: Sequence[str] = (),
    partition: str = "aws",
) -> Policy:
    """What acting on one backend needs, and denials of what must never happen, whatever else the role is
    given.

    AWS itself then refuses a write to S3 without a condition, a deletion of anything but a `.tflock`, and a
    write to the lock table outside a transaction.
    """
    objects = object_arn(bucket, escaped(prefix) + "*", partition)
    lock_files = object_arn(bucket, f"{escaped(prefix)}*{LOCKFILE_SUFFIX}", partition)
    statements = [
        _allow("TellAbsentFromDenied", "s3:ListBucket", bucket_arn(bucket, partition)),
        _allow("ReadVersions", _READ_OBJECTS, objects),
        _allow("PutStatesAndLockFiles", _PUT_OBJECTS, objects),
        _allow("ReleaseLockFiles", "s3:DeleteObject", lock_files) | {"Condition": _WITH_IF_MATCH},
    ]
    if table_arn:
        changes = [*_ITEM_WRITES, "dynamodb:ConditionCheckItem"]
        statements += [
            _allow("ChangeItemsInTransactions", changes, table_arn) | {"Condition": _IN_TRANSACTION},
            _allow("ReadItems", "dynamodb:GetItem", table_arn),
        ]
    if kms_key_arns:
        statements.append(_allow("UseKeys", ["kms:Decrypt", "kms:GenerateDataKey"], list(kms_key_arns)))
    return _policy(statements + _denials(bucket, lock_files, partition))


def _denials(bucket: str, lock_files: str, partition: str) -> list[Policy]:
    everything = object_arn(bucket, "*", partition)
    never = [
        "s3:DeleteObjectVersion",
        "s3:BypassGovernanceRetention",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "dynamodb:DeleteTable",
        "dynamodb:BatchWriteItem",
        "dynamodb:PartiQLInsert",
        "dynamodb:PartiQLUpdate",
        "dynamodb:PartiQLDelete",
    ]
    unconditional = {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}}
    return [
        _deny("NeverThese", never, "*"),
        {
            "Sid": "NeverDeleteStates",
            "Effect": "Deny",
            "Action": "s3:DeleteObject",
            "NotResource": lock_files,
        },
        _deny("NeverDeleteUnseen", "s3:DeleteObject", everything)
        | {"Condition": {"Null": {"s3:if-match": "true"}}},
        _deny("NeverOverwriteUnseen", "s3:PutObject", everything) | {"Condition": unconditional},
        _deny("NeverWritePlainly", _ITEM_WRITES, "*")
        | {"Condition": {"Null": {"dynamodb:EnclosingOperation": "true"}}},
    ]


# ------------------------------------------------------------------ one action


def session_policy(bucket: str, prefix: str, key: str, table: str | None, *, partition: str = "aws") -> str:
    """The policy of one action's session, as text: this state key, its `.tflock`, its two items, and the test
    of conditions. The role's own policy still applies.

    STS takes 2,048 characters. Where the key is too long for them, the longest beginning of it that fits
    stands for it, with `*` behind.
    """
    whole = _session(bucket, prefix, key, table, partition, exact=True)
    if len(whole) <= LONGEST_SESSION_POLICY:
        return whole

    def cut(length: int) -> str:
        return _session(bucket, prefix[:length], key[:length], table, partition, exact=False)

    return cut(_largest(len(key), lambda length: len(cut(length)) <= LONGEST_SESSION_POLICY))


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number of 0 to `most` that fits; what is smaller fits too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _session(bucket: str, prefix: str, key: str, table: str | None, partition: str, *, exact: bool) -> str:
    name, rest = escaped(key), "" if exact else "*"

    def arn(path: str) -> str:
        return object_arn(bucket, path, partition)

    lock_file = arn(f"{name}{rest}{LOCKFILE_SUFFIX}")
    probe = arn(f"{escaped(prefix)}{rest}{PROBE_KEY}-*{LOCKFILE_SUFFIX}")
    state = [arn(name), lock_file] if exact else [arn(f"{name}*")]
    statements = [
        _allow("", "s3:ListBucket", bucket_arn(bucket, partition)),
        _allow("", [*_READ_OBJECTS, *_PUT_OBJECTS], [*state, probe]),
        _allow("", "s3:DeleteObject", [lock_file, probe]) | {"Condition": _WITH_IF_MATCH},
        _allow("", ["kms:Decrypt", "kms:Encrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"], "*"),
    ]
    if table:
        lock_id = f"{escaped(bucket)}/{name}{rest}"
        items = [lock_id, lock_id + DIGEST_SUFFIX] if exact else [lock_id]
        leading = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": items}}
        changes = [*_ITEM_WRITES, "dynamodb:ConditionCheckItem"]
        statements += [
            _allow("", changes, table_arn(table, partition)) | {"Condition": leading | _IN_TRANSACTION}
        ]
    return policy_text(_policy(statements))


# ------------------------------------------------------------------ ARNs


def bucket_arn(bucket: str, partition: str = "aws") -> str:
    """The ARN of a bucket or of the access point in its place, which an alias does not name."""
    if bucket.endswith("-s3alias"):
        return f"arn:{partition}:s3:*:*:accesspoint/*"
    return bucket if bucket.startswith("arn:") else f"arn:{partition}:s3:::{bucket}"


def object_arn(bucket: str, path: str, partition: str = "aws") -> str:
    """The ARN of objects; `path` may hold wildcards."""
    holder = bucket_arn(bucket, partition)
    return f"{holder}/object/{path}" if ":accesspoint/" in holder else f"{holder}/{path}"


def table_arn(table: str, partition: str = "aws") -> str:
    """The ARN of a table in whatever region and account; a table named by its ARN has it already."""
    return table if table.startswith("arn:") else f"arn:{partition}:dynamodb:*:*:table/{table}"


def _allow(sid: str, action: str | list[str], resource: str | list[str]) -> Policy:
    return ({"Sid": sid} if sid else {}) | {"Effect": "Allow", "Action": action, "Resource": resource}


def _deny(sid: str, action: str | list[str], resource: str) -> Policy:
    return {"Sid": sid, "Effect": "Deny", "Action": action, "Resource": resource}


def _policy(statements: Sequence[Mapping[str, Any]]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}
