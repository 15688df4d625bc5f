"""Which of the permissions Lockboard needs are there, found by using each once on something small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lockboard.adapters.aws import READ_FAILURES, Clients, translate
from lockboard.domain.errors import AccessDenied
from lockboard.domain.text import shown

NOTHING = "nothing to try it on"


@dataclass(frozen=True, slots=True)
class Probe:
    """One IAM action, whether its request was answered, and what was seen or the service's words.

    `ok` also where nothing is there to try it on (`detail` begins with NOTHING): that is no failure, and no
    proof.
    """

    action: str
    ok: bool
    detail: str


def probe_backend(clients: Clients, bucket: str, table: str | None, prefix: str = "") -> list[Probe]:
    """Try each read that Lockboard does: one key listed, one object's first byte read, one item scanned.
    Raises nothing.
    """
    probes = _probe_bucket(clients.s3, bucket, prefix)
    return probes + (_probe_table(clients.dynamodb, table) if table else [])


def _probe_bucket(s3: Any, bucket: str, prefix: str) -> list[Probe]:
    listed: list[Mapping[str, Any]] = []
    versions: list[Mapping[str, Any]] = []

    def list_objects() -> str:
        answer = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        listed.extend(answer.get("Contents", ()))
        return "objects found" if listed else "the bucket or prefix is empty"

    def list_versions() -> str:
        answer = s3.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=10)
        versions.extend(answer.get("Versions", ()))
        return "versions found" if versions else "no versions found"

    def versioning() -> str:
        answer = s3.get_bucket_versioning(Bucket=bucket)
        return f"versioning is {shown(answer.get('Status', 'off'), 20).lower()}"

    def first_byte(key: str, **version: str) -> str:
        s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **version)["Body"].close()
        return f"read {shown(key, 200)}"

    def get_object() -> str:
        readable = [found["Key"] for found in listed] or [v["Key"] for v in versions if v.get("IsLatest")]
        return first_byte(readable[0]) if readable else NOTHING

    def get_version() -> str:
        return first_byte(versions[0]["Key"], VersionId=versions[0]["VersionId"]) if versions else NOTHING

    return [
        _try("s3:ListBucket", list_objects),
        _try("s3:ListBucketVersions", list_versions),
        _try("s3:GetBucketVersioning", versioning),
        _try("s3:GetObject", get_object),
        _try("s3:GetObjectVersion", get_version),
    ]


def _probe_table(dynamodb: Any, table: str) -> list[Probe]:
    found: list[str] = []

    def describe() -> str:
        described = dynamodb.describe_table(TableName=table)["Table"]
        keys = [key["AttributeName"] for key in described.get("KeySchema", ())]
        if keys != ["LockID"]:
            return f"its key is {shown(', '.join(keys), 100)}, not LockID: Terraform cannot lock in it"
        mode = described.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
        units = described.get("ProvisionedThroughput", {}).get("ReadCapacityUnits", 0)
        return "on demand" if mode == "PAY_PER_REQUEST" else f"{units} read units a second"

    def scan() -> str:
        answer = dynamodb.scan(
            TableName=table,
            Limit=1,
            ConsistentRead=True,
            ProjectionExpression="#lock",
            ExpressionAttributeNames={"#lock": "LockID"},
        )
        found.extend(item["LockID"]["S"] for item in answer.get("Items", ()) if "S" in item.get("LockID", {}))
        return "items found" if found else "the table is empty"

    def get_item() -> str:
        # An absent key needs the same permission as a present one.
        lock_id = found[0] if found else "lockboard/probe"
        dynamodb.get_item(
            TableName=table,
            Key={"LockID": {"S": lock_id}},
            ConsistentRead=True,
            ProjectionExpression="#lock",
            ExpressionAttributeNames={"#lock": "LockID"},
        )
        return f"read {shown(lock_id, 200)}" if found else "asked for an item that does not exist"

    return [
        _try("dynamodb:DescribeTable", describe),
        _try("dynamodb:Scan", scan),
        _try("dynamodb:GetItem", get_item),
    ]


def _try(action: str, request: Callable[[], str]) -> Probe:
    try:
        return Probe(action, True, request())
    except READ_FAILURES as raised:
        error = translate(raised, action)
        if isinstance(error, AccessDenied) and error.operation != action:
            return Probe(action, False, f"{error.operation} is missing ({error.code})")
        return Probe(action, False, f"{error.code}: {error.detail}" if error.detail else error.code)
