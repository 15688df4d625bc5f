from __future__ import annotations

import pytest

from lockboard.adapters.aws import Access, Clients, open_session
from lockboard.adapters.probe import NOTHING, Probe, probe_backend
from tests.emulators import REGION, Emulator
from tests.stub_aws import (
    Answer,
    Asked,
    Kept,
    dynamo_error,
    listing,
    s3_error,
    s3_object,
    stub_aws,
    version_listing,
    version_row,
)

ACTIONS = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetBucketVersioning",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "dynamodb:DescribeTable",
    "dynamodb:Scan",
    "dynamodb:GetItem",
]


def clients_at(url: str) -> Clients:
    return open_session(Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url))


def test_every_permission_is_tried_and_found(emulator: Emulator) -> None:
    bucket, table = emulator.make_bucket(), emulator.make_table()
    emulator.s3.put_object(Bucket=bucket, Key="a b+c.tfstate", Body=b"x")
    emulator.dynamodb.put_item(TableName=table, Item={"LockID": {"S": "b/k"}})
    probes = probe_backend(clients_at(emulator.url), bucket, table)
    assert [(probe.action, probe.ok) for probe in probes] == [(action, True) for action in ACTIONS]
    details = {probe.action: probe.detail for probe in probes}
    assert details["s3:GetBucketVersioning"] == "versioning is enabled"
    assert details["s3:GetObject"] == "read a b+c.tfstate"
    assert details["dynamodb:DescribeTable"] == "on demand"


def test_where_nothing_exists_there_is_nothing_to_try_it_on(emulator: Emulator) -> None:
    bucket, table = emulator.make_bucket(versioned=False), emulator.make_table()
    probes = {probe.action: probe for probe in probe_backend(clients_at(emulator.url), bucket, table)}
    assert probes["s3:GetObject"] == Probe("s3:GetObject", True, NOTHING)
    assert probes["s3:GetObjectVersion"] == Probe("s3:GetObjectVersion", True, NOTHING)
    assert probes["s3:GetBucketVersioning"].detail == "versioning is off"
    assert probes["dynamodb:GetItem"] == Probe(
        "dynamodb:GetItem", True, "asked for an item that does not exist"
    )


def test_a_bucket_without_a_table_is_probed_alone(emulator: Emulator) -> None:
    probes = probe_backend(clients_at(emulator.url), emulator.make_bucket(), None)
    assert [probe.action for probe in probes] == ACTIONS[:5]


def test_a_table_with_another_key_is_said_to_be_no_lock_table(emulator: Emulator) -> None:
    emulator.dynamodb.create_table(
        TableName="other-key",
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    probes = {
        p.action: p for p in probe_backend(clients_at(emulator.url), emulator.make_bucket(), "other-key")
    }
    assert "not LockID" in probes["dynamodb:DescribeTable"].detail
    assert not probes["dynamodb:GetItem"].ok


def test_every_denied_permission_is_shown_and_stops_none_of_the_others() -> None:
    def respond(asked: Asked) -> Answer:
        if asked.method == "POST":
            return dynamo_error("AccessDeniedException", "no")
        return s3_error(403, "AccessDenied", "Access Denied")

    with stub_aws(respond) as stub:
        probes = probe_backend(clients_at(stub.url), "b", "t")
    shown = [(probe.action, probe.ok) for probe in probes]
    assert shown == [(action, action in ("s3:GetObject", "s3:GetObjectVersion")) for action in ACTIONS]
    assert [probe.detail for probe in probes[3:5]] == [NOTHING] * 2
    assert probes[0].detail == "AccessDenied: Access Denied"


def test_one_byte_of_one_object_is_read() -> None:
    answers = {
        "ListObjectsV2": listing([Kept("k")]),
        "ListObjectVersions": version_listing([version_row("k", "v")]),
        "GetObject": s3_object(b"x"),
    }
    with stub_aws(lambda asked: answers.get(asked.operation) or s3_error(501, "NotImplemented")) as stub:
        probe_backend(clients_at(stub.url), "b", None)
        read = [asked for asked in stub.asked if asked.operation == "GetObject"]
    assert [asked.headers["range"] for asked in read] == ["bytes=0-0"] * 2
    assert [asked.query.get("versionId") for asked in read] == [None, "v"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1"])
def test_an_unreachable_endpoint_fails_every_probe_that_needs_it(url: str) -> None:
    probes = probe_backend(clients_at(url), "b", None)
    assert [probe.ok for probe in probes] == [False, False, False, True, True]
