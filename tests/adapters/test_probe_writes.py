"""`lockboard check` tries the actor's writes without changing anything."""

from __future__ import annotations

import uuid

import pytest

from lockboard.adapters.aws import Access
from lockboard.adapters.hands import HandsOpener, Reach
from lockboard.adapters.policies import actor_policy, session_policy
from lockboard.adapters.probe import NOTHING
from lockboard.adapters.probe_writes import UNTRIED, probe_writes
from lockboard.domain.audit import LOCKBOARD
from lockboard.domain.keys import PROBE_KEY
from lockboard.domain.writes import Hands
from tests.emulators import REGION, Emulator
from tests.faults import fault_proxy
from tests.iam import ACCOUNT, denied
from tests.stub_aws import Answer, Asked, dynamo_error, s3_error, stub_aws

ACTIONS = [
    "s3:PutObject, s3:DeleteObject",
    "s3:PutObject",
    UNTRIED,
    "dynamodb:PutItem",
    "dynamodb:DeleteItem",
    "dynamodb:UpdateItem",
]


def hands_at(url: str, bucket: str, table: str | None) -> Hands:
    access = Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url)
    opener = HandsOpener({"dev": Reach(access, bucket, "team/", table)})
    return opener("dev", "team/a.tfstate", LOCKBOARD, str(uuid.uuid4()))


@pytest.mark.parametrize("versioned", [True, False])
def test_every_write_is_tried_and_none_of_them_leaves_anything(emulator: Emulator, versioned: bool) -> None:
    bucket, table = emulator.make_bucket(versioned=versioned), emulator.make_table()

    probes = probe_writes(hands_at(emulator.url, bucket, table), bucket, "team/")

    assert [probe.action for probe in probes] == ACTIONS
    assert all(probe.ok for probe in probes), probes
    assert emulator.s3.list_objects_v2(Bucket=bucket).get("KeyCount") == 0
    assert emulator.dynamodb.scan(TableName=table)["Count"] == 0


def test_without_a_table_only_s3_is_tried(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()

    probes = probe_writes(hands_at(emulator.url, bucket, None), bucket, "team/")

    assert [probe.action for probe in probes] == ACTIONS[:3]
    assert probes[2].detail.startswith(NOTHING)


def test_all_that_is_tried_is_within_the_role_and_the_session_of_its_key(emulator: Emulator) -> None:
    bucket, table = emulator.make_bucket(), emulator.make_table()
    with fault_proxy(emulator.url) as proxy:
        probes = probe_writes(hands_at(proxy.url, bucket, table), bucket, "team/")
        requests = proxy.recording.requests
    assert all(probe.ok for probe in probes), probes
    role = actor_policy(bucket, "team/", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}")
    session = session_policy(bucket, "team/", f"team/{PROBE_KEY}", table)
    assert denied([role, session], requests) == []
    assert all(seen.conditional for seen in proxy.recording.mutations())


def test_a_missing_permission_is_named() -> None:
    def denied(asked: Asked) -> Answer:
        if "x-amz-target" in {name.lower() for name in asked.headers}:
            return dynamo_error("AccessDeniedException", "not authorized to perform: dynamodb:PutItem on it")
        return s3_error(403, "AccessDenied", "Access Denied")

    with stub_aws(denied) as stub:
        probes = probe_writes(hands_at(stub.url, "bucket", "locks"), "bucket", "team/")

    assert not any(probe.ok for probe in probes)
    assert "could not be tried: access denied: s3:" in probes[0].detail
    assert any("dynamodb:PutItem" in probe.detail for probe in probes)
