from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.adapters.policies import (
    LONGEST_SESSION_POLICY,
    actor_policy,
    bucket_arn,
    escaped,
    object_arn,
    policy_text,
    reader_policy,
    session_policy,
    table_arn,
)
from lockboard.adapters.s3 import S3States, probe_key
from tests.emulators import REGION, Emulator
from tests.faults import fault_proxy
from tests.iam import ACCOUNT, Call, Context, Policy, allowed, denied

LONGEST_ROLE_POLICY = 6144
"""Characters of a managed policy, white space not counted; an inline one may have 10,240."""

BUCKET, PREFIX, TABLE = "acme-tfstate", "team/", "terraform-lock"
TABLE_ARN = f"arn:aws:dynamodb:ap-northeast-2:111122223333:table/{TABLE}"
KMS_KEY = "arn:aws:kms:ap-northeast-2:111122223333:key/11111111-2222-3333-4444-555555555555"
KEY = "team/env:/blue/app one.tfstate"
FILE = KEY + ".tflock"
PROBE = probe_key(PREFIX, "0123456789abcdef" * 2) + ".tflock"
LONGEST_TABLE = "arn:aws-us-gov:dynamodb:us-gov-east-1:111122223333:table/" + "t" * 255

MATCH: Context = {"s3:if-match": '"0123456789abcdef0123456789abcdef"'}
NONE: Context = {"s3:if-none-match": "*"}
NOTHING: Context = {}


def of_object(action: str, key: str, context: Context = NOTHING, bucket: str = BUCKET) -> Call:
    return Call(f"s3:{action}", f"arn:aws:s3:::{bucket}/{key}", context)


def of_item(action: str, lock_id: str, within: str = "TransactWriteItems", table: str = TABLE_ARN) -> Call:
    enclosing = {"dynamodb:EnclosingOperation": [within]} if within else {}
    return Call(f"dynamodb:{action}", table, {"dynamodb:LeadingKeys": [lock_id], **enclosing})


def actor(prefix: str = PREFIX) -> Policy:
    return actor_policy(BUCKET, prefix, TABLE_ARN, kms_key_arns=[KMS_KEY])


def session(key: str = KEY, prefix: str = PREFIX, table: str | None = TABLE) -> Policy:
    return session_policy(BUCKET, prefix, key, table)


ITEM_WRITES = ("PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
ACTION_NEEDS = [
    Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
    of_object("GetObject", KEY),
    of_object("GetObject", FILE, MATCH),
    of_object("GetObjectVersion", KEY),
    of_object("GetObjectVersionTagging", KEY),
    of_object("PutObject", KEY, MATCH),
    of_object("PutObject", KEY, NONE),
    of_object("PutObjectTagging", KEY, NONE),
    of_object("PutObject", FILE, MATCH),
    of_object("PutObject", FILE, NONE),
    of_object("DeleteObject", FILE, MATCH),
    of_object("PutObject", PROBE, NONE),
    of_object("PutObject", PROBE, MATCH),
    of_object("GetObject", PROBE),
    of_object("DeleteObject", PROBE, MATCH),
    Call("kms:Decrypt", KMS_KEY),
    Call("kms:GenerateDataKey", KMS_KEY),
    *(of_item(action, f"{BUCKET}/{KEY}{suffix}") for action in ITEM_WRITES for suffix in ("", "-md5")),
]
"""What AWS asks for when an action does its work."""

NEVER = [
    of_object("DeleteObject", FILE),
    of_object("DeleteObject", PROBE),
    of_object("DeleteObject", KEY),
    of_object("DeleteObject", KEY, MATCH),
    of_object("DeleteObject", FILE + ".bak", MATCH),
    of_object("DeleteObject", "other/app.tfstate.tflock", MATCH),
    of_object("DeleteObjectVersion", KEY),
    of_object("DeleteObjectVersion", FILE),
    of_object("DeleteObjectVersion", FILE, MATCH),
    of_object("BypassGovernanceRetention", KEY),
    of_object("PutObject", KEY, bucket="another-bucket", context=NONE),
    of_object("PutObject", "other/app.tfstate", NONE),
    of_object("GetObject", KEY, bucket="another-bucket"),
    Call("s3:PutBucketVersioning", f"arn:aws:s3:::{BUCKET}"),
    Call("s3:PutLifecycleConfiguration", f"arn:aws:s3:::{BUCKET}"),
    *(of_item(action, f"{BUCKET}/{KEY}", within="") for action in ITEM_WRITES),
    *(of_item(action, f"{BUCKET}/{KEY}", "BatchExecuteStatement") for action in ITEM_WRITES),
    *(of_item(action, f"{BUCKET}/{KEY}", table=TABLE_ARN + "2") for action in ITEM_WRITES),
    of_item("BatchWriteItem", f"{BUCKET}/{KEY}", within=""),
    of_item("PartiQLDelete", f"{BUCKET}/{KEY}", within=""),
    of_item("PartiQLDelete", f"{BUCKET}/{KEY}"),
    Call("dynamodb:DeleteTable", TABLE_ARN),
    Call("dynamodb:Scan", TABLE_ARN),
    Call("kms:ScheduleKeyDeletion", KMS_KEY),
    Call("iam:CreateUser", "*"),
]
"""What no action may do, whatever goes wrong in Lockboard."""

OF_OTHER_KEYS = [
    of_object("GetObject", "team/other.tfstate"),
    of_object("PutObject", "team/other.tfstate", NONE),
    of_object("PutObject", KEY + "2", NONE),
    of_object("DeleteObject", "team/other.tfstate.tflock", MATCH),
    of_object("DeleteObject", FILE + ".tflock", MATCH),
    *(of_item(action, f"{BUCKET}/team/other.tfstate") for action in ITEM_WRITES),
    *(of_item(action, f"another-bucket/{KEY}") for action in ITEM_WRITES),
    *(of_item(action, f"{BUCKET}/{KEY}2") for action in ITEM_WRITES),
]
"""What the role may do, and the session of an action on one key may not."""


def named(calls: list[Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls, ids=lambda call: call.action)


# ------------------------------------------------------------------ the actor


@named(ACTION_NEEDS)
def test_an_action_may_do_what_it_needs(call: Call) -> None:
    assert call.allowed_by(actor(), session())


@named(NEVER)
def test_the_actor_s_role_may_not_do_what_must_never_happen(call: Call) -> None:
    assert not call.allowed_by(actor())


@named(NEVER)
def test_a_wider_role_does_not_make_it_possible(call: Call) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    assert call.allowed_by(everything)
    assert not call.allowed_by(everything, session())


def test_the_denials_of_the_actor_hold_whatever_else_its_role_is_given() -> None:
    policy = actor_policy(BUCKET, PREFIX, TABLE_ARN)
    more = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    wider = policy | {"Statement": [*policy["Statement"], more]}
    forbidden = [
        of_object("DeleteObject", KEY, MATCH),
        of_object("DeleteObject", FILE),
        of_object("DeleteObjectVersion", KEY),
        of_object("DeleteObjectVersion", FILE, MATCH),
        of_object("PutObject", KEY),
        of_object("PutObject", "another/key"),
        Call("s3:PutBucketVersioning", f"arn:aws:s3:::{BUCKET}"),
        Call("dynamodb:DeleteTable", TABLE_ARN),
        *(of_item(action, "x/y", within="") for action in ("PutItem", "UpdateItem", "DeleteItem")),
        of_item("BatchWriteItem", "x/y", within=""),
    ]
    assert [call for call in forbidden if call.allowed_by(wider)] == []
    assert of_object("PutObject", "another/key", NONE).allowed_by(wider)


def test_a_write_to_s3_without_a_condition_is_denied() -> None:
    for key in (KEY, FILE, PROBE):
        assert not of_object("PutObject", key).allowed_by(actor())
        assert of_object("PutObject", key, NONE).allowed_by(actor())


@named(OF_OTHER_KEYS)
def test_the_session_of_an_action_reaches_its_own_key_only(call: Call) -> None:
    assert not call.allowed_by(session())


def test_the_role_reaches_every_key_below_its_prefix() -> None:
    assert of_object("PutObject", "team/other.tfstate", NONE).allowed_by(actor())
    assert of_item("PutItem", f"{BUCKET}/team/other.tfstate").allowed_by(actor())


def test_without_a_table_nothing_in_dynamodb_is_allowed() -> None:
    without = actor_policy(BUCKET, PREFIX), session(table=None)
    for action in ITEM_WRITES:
        call = of_item(action, f"{BUCKET}/{KEY}")
        assert [call.allowed_by(one) for one in without] == [False, False]


def test_a_prefix_with_wildcards_is_meant_literally() -> None:
    policy = actor("te?m*/")
    assert of_object("PutObject", "te?m*/a.tfstate", NONE).allowed_by(policy)
    assert not of_object("PutObject", "team/a.tfstate", NONE).allowed_by(policy)
    assert not of_object("DeleteObject", "team/a.tfstate.tflock", MATCH).allowed_by(policy)


# ------------------------------------------------------------------ the reader

READS = [
    Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": "team/x"}),
    Call("s3:ListBucketVersions", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": PREFIX}),
    Call("s3:GetBucketVersioning", f"arn:aws:s3:::{BUCKET}"),
    of_object("GetObject", KEY),
    of_object("GetObjectVersion", FILE),
    Call("dynamodb:Scan", TABLE_ARN),
    Call("dynamodb:GetItem", TABLE_ARN, {"dynamodb:LeadingKeys": ["x"]}),
    Call("dynamodb:DescribeTable", TABLE_ARN),
    Call("kms:Decrypt", KMS_KEY),
]


def reader() -> Policy:
    return reader_policy(BUCKET, PREFIX, TABLE_ARN, kms_key_arns=[KMS_KEY])


@named(READS)
def test_the_reader_may_read(call: Call) -> None:
    assert call.allowed_by(reader())


def changes(call: Call) -> bool:
    return not call.action.split(":")[1].startswith(("Get", "List", "Scan", "Decrypt"))


@named([call for call in [*ACTION_NEEDS, *NEVER] if changes(call)])
def test_the_reader_may_not_change_anything(call: Call) -> None:
    assert not call.allowed_by(reader())


def test_all_that_is_sent_to_read_a_backend_is_allowed_to_the_reader(emulator: Emulator) -> None:
    bucket, table = emulator.make_bucket(), emulator.make_table()
    version = emulator.s3.put_object(Bucket=bucket, Key=KEY, Body=b"{}")["VersionId"]
    with fault_proxy(emulator.url) as proxy:
        access = Access(REGION, s3_endpoint_url=proxy.url, dynamodb_endpoint_url=proxy.url)
        clients = open_session(access)
        states = S3States(clients.s3, bucket, lambda: datetime.now(UTC), bodies=clients.bodies)
        locks = DynamoLockTable(
            clients.dynamodb, table, lambda: datetime.now(UTC), lambda: 0.0, lambda _: None
        )
        assert [row[0] for page in states.list_pages(PREFIX) for row in page] == [KEY]
        list(states.sweep_pages(PREFIX))
        states.history(KEY)
        states.versioning()
        states.read_state(KEY)
        states.read_state(KEY, version)
        states.read_lockfile(KEY)
        list(locks.scan_pages())
        locks.item(f"{bucket}/{KEY}")
        requests = proxy.recording.requests
    assert {seen.operation for seen in requests} == {
        "DescribeTable",
        "GetBucketVersioning",
        "GetItem",
        "GetObject",
        "ListObjectVersions",
        "ListObjectsV2",
        "Scan",
    }
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"
    assert denied([reader_policy(bucket, PREFIX, arn)], requests) == []
    assert len(denied([reader_policy(bucket, "other/", arn + "2")], requests)) == len(requests) - 1


def test_the_reader_sees_nothing_beside_its_prefix() -> None:
    assert not of_object("GetObject", "other/a.tfstate").allowed_by(reader())
    assert not Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": ""}).allowed_by(reader())


def test_the_reader_is_told_that_an_object_is_absent_and_not_that_it_is_denied() -> None:
    # S3 asks for s3:ListBucket, without a prefix, before it answers 404 to a GET.
    assert Call("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {}).allowed_by(reader())


# ------------------------------------------------------------------ hostile and long keys

TWINS = [
    ("team/a*.tfstate", "team/abc.tfstate"),
    ("team/a?.tfstate", "team/ab.tfstate"),
    ("team/a$.tfstate", "team/a.tfstate"),
    ("team/${*}.tfstate", "team/*.tfstate"),
    ("team/${aws:username}.tfstate", "team/root.tfstate"),
    ("team/*", "team/anything"),
    ("team/a.tfstate", "team/A.tfstate"),
    ("team/é.tfstate", "team/e\u0301.tfstate"),
    ('team/"}],"x.tfstate', "team/x.tfstate"),
]


@pytest.mark.parametrize(("key", "other"), TWINS)
def test_a_key_is_meant_literally_and_its_look_alike_is_out_of_reach(key: str, other: str) -> None:
    policy = session(key)
    for name, within in ((key, True), (other, False)):
        for call in calls_for(name):
            assert call.allowed_by(policy) == within, (call.action, name)
            assert call.allowed_by(actor()), (call.action, name)


def calls_for(key: str) -> list[Call]:
    return [
        of_object("PutObject", key, NONE),
        of_object("GetObjectVersion", key),
        of_object("DeleteObject", key + ".tflock", MATCH),
        of_item("DeleteItem", f"{BUCKET}/{key}"),
        of_item("UpdateItem", f"{BUCKET}/{key}-md5"),
    ]


def of_bytes(piece: str, size: int = 1024) -> str:
    """A key as long as S3 takes it, made of this piece."""
    return piece * (size // len(piece.encode()))


LONG = [of_bytes(piece) for piece in ("a", "*", "?", "$", "${*}", "한", "é", "😀", '"', "\\", "\x01", "a/*")]


@pytest.mark.parametrize("key", LONG, ids=lambda key: repr(key[:3]))
@pytest.mark.parametrize(
    ("bucket", "table"), [(BUCKET, TABLE), ("b" * 63, LONGEST_TABLE)], ids=["usual", "longest"]
)
def test_sts_takes_the_policy_of_the_longest_key_and_it_still_allows_the_action(
    key: str, bucket: str, table: str
) -> None:
    text = session_policy(bucket, "", key, table, partition="aws-us-gov")
    assert len(text) <= LONGEST_SESSION_POLICY
    assert text.isascii()
    state, arn = f"arn:aws-us-gov:s3:::{bucket}/{key}", table_arn(table, "aws-us-gov")
    probe = f"arn:aws-us-gov:s3:::{bucket}/{probe_key('', 'f' * 32)}.tflock"
    leading = {"dynamodb:EnclosingOperation": ["TransactWriteItems"]}
    for call in (
        Call("s3:PutObject", state, MATCH),
        Call("s3:PutObject", state + ".tflock", NONE),
        Call("s3:DeleteObject", state + ".tflock", MATCH),
        Call("s3:DeleteObject", probe, MATCH),
        Call("dynamodb:DeleteItem", arn, {"dynamodb:LeadingKeys": [f"{bucket}/{key}"], **leading}),
        Call("dynamodb:UpdateItem", arn, {"dynamodb:LeadingKeys": [f"{bucket}/{key}-md5"], **leading}),
    ):
        assert call.allowed_by(text), call.action
    for call in (
        Call("s3:DeleteObject", state, MATCH),
        Call("s3:DeleteObject", state + ".tflock"),
        Call("s3:DeleteObjectVersion", state + ".tflock", MATCH),
        Call("s3:PutObject", f"arn:aws-us-gov:s3:::{bucket}/other", NONE),
        Call("dynamodb:DeleteItem", arn, {"dynamodb:LeadingKeys": [f"{bucket}/other"], **leading}),
        Call("dynamodb:DeleteItem", arn, {"dynamodb:LeadingKeys": [f"{bucket}/{key}"]}),
    ):
        assert not call.allowed_by(text), call.action


def test_a_key_that_fits_is_named_whole_and_a_longer_one_by_its_beginning() -> None:
    fits = "k" * 198
    assert not of_object("PutObject", fits + "x", NONE).allowed_by(session(fits, prefix=""))
    longer = "k" * 199
    policy = session(longer, prefix="")
    assert of_object("PutObject", longer + "x", NONE).allowed_by(policy)
    assert not of_object("PutObject", "k" * 100, NONE).allowed_by(policy)


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=1024),
    cut=st.integers(0, 1024),
    other=st.text(st.sampled_from("ab*?$-{}/"), max_size=8),
)
def test_whatever_the_key_its_policy_is_short_enough_allows_it_and_not_what_begins_otherwise(
    key: str, cut: int, other: str
) -> None:
    text = session_policy(BUCKET, key[:cut], key, TABLE)
    assert len(text) <= LONGEST_SESSION_POLICY
    assert text == policy_text(json.loads(text))
    for call in calls_for(key):
        assert call.allowed_by(text)
    if not other.startswith(key[:1]):
        for call in calls_for(other):
            assert not call.allowed_by(text)


def test_escaping_leaves_nothing_special() -> None:
    assert escaped("a*b?c$d${*}") == "a${*}b${?}c${$}d${$}{${*}}"


# ------------------------------------------------------------------ sizes and names


def test_iam_takes_the_role_policies_with_the_longest_names() -> None:
    for make in (reader_policy, actor_policy):
        policy = make("b" * 63, "p" * 200, LONGEST_TABLE, kms_key_arns=[KMS_KEY] * 3, partition="aws-us-gov")
        assert len(policy_text(policy)) <= LONGEST_ROLE_POLICY


@pytest.mark.parametrize(
    ("bucket", "of_bucket", "of_key"),
    [
        ("b", "arn:aws-cn:s3:::b", "arn:aws-cn:s3:::b/k"),
        (
            "arn:aws-cn:s3:x:1:accesspoint/p",
            "arn:aws-cn:s3:x:1:accesspoint/p",
            "arn:aws-cn:s3:x:1:accesspoint/p/object/k",
        ),
        ("p-abc-s3alias", "arn:aws-cn:s3:*:*:accesspoint/*", "arn:aws-cn:s3:*:*:accesspoint/*/object/k"),
    ],
)
def test_a_bucket_may_be_an_access_point(bucket: str, of_bucket: str, of_key: str) -> None:
    assert bucket_arn(bucket, "aws-cn") == of_bucket
    assert object_arn(bucket, "k", "aws-cn") == of_key


def test_a_table_is_named_in_any_region_or_by_its_arn() -> None:
    assert allowed(session(), "dynamodb:PutItem", TABLE_ARN, of_item("PutItem", f"{BUCKET}/{KEY}").context)
    assert table_arn(TABLE) == f"arn:aws:dynamodb:*:*:table/{TABLE}"
    assert table_arn(TABLE_ARN) == TABLE_ARN
