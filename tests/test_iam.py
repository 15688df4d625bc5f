from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults import Seen
from tests.iam import ACCOUNT, Call, Context, NotUnderstood, allowed, calls_of, denied

ARN = "arn:aws:s3:::b/a.tflock"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    usual = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [usual | one for one in statements]}


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert not allowed(policy(), "s3:PutObject", ARN)
    assert not allowed(policy({}), "s3:DeleteObject", ARN)
    assert allowed(policy({}), "s3:PutObject", ARN)


def test_a_denial_wins_wherever_it_stands() -> None:
    denial = {"Effect": "Deny", "Resource": "arn:aws:s3:::b/*"}
    assert not allowed(policy({}, denial), "s3:PutObject", ARN)
    assert not allowed(policy(denial, {}), "s3:PutObject", ARN)
    assert allowed(policy(denial, {}), "s3:PutObject", "arn:aws:s3:::other/a")


def test_a_policy_may_be_given_as_its_text() -> None:
    text = json.dumps(policy({"Resource": ARN}))
    assert allowed(text, "s3:PutObject", ARN)
    assert not allowed(text, "s3:PutObject", ARN + "x")


@pytest.mark.parametrize(
    ("pattern", "arn", "matches"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y:z", True),
        ("arn:aws:s3:::b/?", "arn:aws:s3:::b/x", True),
        ("arn:aws:s3:::b/?", "arn:aws:s3:::b/xy", False),
        ("arn:aws:s3:::b/a.tflock", "arn:aws:s3:::b/aXtflock", False),
        ("arn:aws:s3:::B/*", "arn:aws:s3:::b/x", False),
        ("arn:aws:dynamodb:*:*:table/t", "arn:aws:dynamodb:us-east-1:1:table/t", True),
        ("arn:aws:dynamodb:*:table/t", "arn:aws:dynamodb:us-east-1:1:table/t", False),
        ("arn:aws:s3:::b/a${*}", "arn:aws:s3:::b/a*", True),
        ("arn:aws:s3:::b/a${*}", "arn:aws:s3:::b/axy", False),
        ("arn:aws:s3:::b/a${?}${$}", "arn:aws:s3:::b/a?$", True),
        ("arn:aws:s3:::b/a${?}", "arn:aws:s3:::b/ax", False),
        ("arn:aws:s3:::b/${$}{aws:username}", "arn:aws:s3:::b/${aws:username}", True),
        ("arn:aws:s3:::b/a\n*", "arn:aws:s3:::b/a\nb\nc", True),
    ],
)
def test_wildcards_match_within_a_segment_and_escapes_only_themselves(
    pattern: str, arn: str, matches: bool
) -> None:
    assert allowed(policy({"Resource": pattern}), "s3:PutObject", arn) == matches
    inverse = policy({"Effect": "Allow"}) | {
        "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "NotResource": pattern}]
    }
    assert allowed(inverse, "s3:PutObject", arn) != matches


def test_actions_are_told_apart_without_regard_to_case() -> None:
    many = policy({"Action": ["kms:ReEncrypt*", "S3:putobject"]})
    assert allowed(many, "kms:ReEncryptFrom", "k")
    assert allowed(many, "s3:PutObject", ARN)
    assert not allowed(many, "s3:PutObjectTagging", ARN)


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"Null": {"s3:if-match": "false"}}, {"s3:if-match": '"e"'}, True),
        ({"Null": {"s3:if-match": "false"}}, {}, False),
        ({"Null": {"s3:if-match": "true"}}, {}, True),
        ({"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}}, {"s3:if-none-match": "*"}, False),
        ({"StringEquals": {"sts:ExternalId": "x"}}, {"sts:externalid": "x"}, True),
        ({"StringEquals": {"sts:ExternalId": "x"}}, {"sts:ExternalId": "y"}, False),
        ({"StringEquals": {"sts:ExternalId": ["x", "y"]}}, {"sts:ExternalId": "y"}, True),
        ({"StringEquals": {"sts:ExternalId": "x"}}, {}, False),
        ({"StringLike": {"s3:prefix": "a${*}/*"}}, {"s3:prefix": "a*/b"}, True),
        ({"StringLike": {"s3:prefix": "a${*}/*"}}, {"s3:prefix": "ab/b"}, False),
        ({"StringLikeIfExists": {"s3:prefix": "a/*"}}, {"s3:prefix": "b/"}, False),
        ({"StringLikeIfExists": {"s3:prefix": "a/*"}}, {"s3:prefix": "a/b"}, True),
        ({"StringLikeIfExists": {"s3:prefix": "a/*"}}, {}, True),
        ({"ForAnyValue:StringEquals": {"d:E": ["T"]}}, {"d:E": ["x", "T"]}, True),
        ({"ForAnyValue:StringEquals": {"d:E": ["T"]}}, {"d:E": ["x"]}, False),
        ({"ForAnyValue:StringEquals": {"d:E": ["T"]}}, {}, False),
        ({"ForAllValues:StringLike": {"d:L": ["b/k*"]}}, {"d:L": ["b/k", "b/k-md5"]}, True),
        ({"ForAllValues:StringLike": {"d:L": ["b/k*"]}}, {"d:L": ["b/k", "b/x"]}, False),
        ({"ForAllValues:StringLike": {"d:L": ["b/k*"]}}, {}, True),
        ({"StringLike": {"a:b": "x*"}, "Null": {"c:d": "true"}}, {"a:b": "xy"}, True),
        ({"StringLike": {"a:b": "x*"}, "Null": {"c:d": "true"}}, {"a:b": "xy", "c:d": "1"}, False),
    ],
)
def test_every_condition_of_a_statement_has_to_hold(
    condition: dict[str, Any], context: Context, holds: bool
) -> None:
    assert allowed(policy({"Condition": condition}), "s3:PutObject", ARN, context) == holds


@pytest.mark.parametrize(
    "statement",
    [
        {"Principal": "*"},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": "2026"}}},
        {"Condition": {"StringEqualsIfExists": {"a": "b"}}},
        {"Condition": {"ForNoValue:StringEquals": {"a": "b"}}},
        {"Condition": {"StringEquals": {"a": "${aws:username}"}}},
        {"Condition": {"StringLike": {"a": "${aws:username}"}}},
        {"Resource": "arn:aws:s3:::b/${aws:username}"},
    ],
)
def test_what_the_evaluator_does_not_know_is_not_passed_over(statement: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        allowed(policy(statement), "s3:PutObject", ARN, {"a": "b"})


def test_an_older_policy_has_no_variables_and_is_not_understood() -> None:
    with pytest.raises(NotUnderstood):
        allowed(policy({}) | {"Version": "2008-10-17"}, "s3:PutObject", ARN)


# ------------------------------------------------------------------ requests


def asked(method: str, path: str, query: dict[str, str] | None = None, **headers: str) -> Seen:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Seen(0, method, path, query or {}, named, b"")


def item_request(operation: str, document: object) -> Seen:
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    return Seen(0, "POST", "/", {}, headers, json.dumps(document).encode())


def test_a_request_to_s3_needs_its_permissions_on_its_key_under_its_conditions() -> None:
    put = asked("PUT", "/b/a b/k", if_none_match="*", x_amz_tagging="x=y")
    arn, context = "arn:aws:s3:::b/a b/k", {"s3:if-none-match": "*"}
    assert calls_of(put) == [
        Call("s3:PutObject", arn, context),
        Call("s3:PutObjectTagging", arn, context),
    ]
    match = {"s3:if-match": '"e"'}
    assert calls_of(asked("DELETE", "/b/k.tflock", if_match='"e"')) == [
        Call("s3:DeleteObject", "arn:aws:s3:::b/k.tflock", match),
        Call("s3:GetObject", "arn:aws:s3:::b/k.tflock", match),
    ]
    listing = asked("GET", "/b", {"list-type": "2", "prefix": "x/"})
    assert calls_of(listing) == [Call("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": "x/"})]


def test_encryption_with_a_key_needs_the_key() -> None:
    put = asked("PUT", "/b/k", if_none_match="*", x_amz_server_side_encryption_aws_kms_key_id="arn:key")
    assert calls_of(put)[1] == Call("kms:GenerateDataKey", "arn:key")


def test_each_part_of_a_transaction_needs_its_own_permission() -> None:
    key = {"LockID": {"S": "b/k"}}
    parts = [
        {"ConditionCheck": {"TableName": "t", "Key": key}},
        {"Put": {"TableName": "arn:aws:dynamodb:x:1:table/u", "Item": key | {"Info": {"S": "i"}}}},
    ]
    table = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/t"
    within = {"dynamodb:LeadingKeys": ["b/k"], "dynamodb:EnclosingOperation": ["TransactWriteItems"]}
    assert calls_of(item_request("TransactWriteItems", {"TransactItems": parts})) == [
        Call("dynamodb:ConditionCheckItem", table, within),
        Call("dynamodb:PutItem", "arn:aws:dynamodb:x:1:table/u", within),
    ]
    plain = item_request("DeleteItem", {"TableName": "t", "Key": key})
    assert calls_of(plain) == [Call("dynamodb:DeleteItem", table, {"dynamodb:LeadingKeys": ["b/k"]})]


@pytest.mark.parametrize(
    "seen", [asked("PUT", "/b/k", x_amz_copy_source="/b/k"), asked("POST", "/b", {"delete": ""})]
)
def test_a_request_that_lockboard_never_sends_is_not_understood(seen: Seen) -> None:
    with pytest.raises(NotUnderstood):
        calls_of(seen)


def test_what_would_be_denied_is_named() -> None:
    only_put = policy({"Resource": "arn:aws:s3:::b/*"})
    requests = [asked("PUT", "/b/k"), asked("GET", "/b/k"), asked("PUT", "/c/k")]
    assert denied([only_put], requests) == [
        "s3:GetObject on arn:aws:s3:::b/k",
        "s3:PutObject on arn:aws:s3:::c/k",
    ]
    assert denied([only_put, policy()], requests[:1]) == ["s3:PutObject on arn:aws:s3:::b/k"]
