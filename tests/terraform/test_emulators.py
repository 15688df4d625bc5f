"""Each emulator answers as AWS does, except where `DEVIATIONS` says otherwise: neither more nor less."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from tests.emulators import DEVIATIONS, Emulator

BODY = b"a state"


def refused(call: Callable[[], object], *codes: str) -> bool:
    """Whether the call ends with one of these error codes; any other answer of the service is a plain no."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] in codes
    return False


def put(emulator: Emulator, bucket: str, key: str = "k", body: bytes = BODY) -> str:
    """Put an object; its ETag."""
    return str(emulator.s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"])


def put_honours_if_none_match(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    put(emulator, bucket)
    return refused(
        lambda: emulator.s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*"),
        "PreconditionFailed",
    )


def put_honours_if_match(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    stale = put(emulator, bucket, body=b"older")
    put(emulator, bucket)
    return refused(
        lambda: emulator.s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfMatch=stale), "PreconditionFailed"
    )


def delete_honours_if_match(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    stale = put(emulator, bucket, body=b"older")
    put(emulator, bucket)
    return refused(
        lambda: emulator.s3.delete_object(Bucket=bucket, Key="k", IfMatch=stale), "PreconditionFailed"
    )


def copy_honours_if_none_match(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    put(emulator, bucket)
    put(emulator, bucket, "source")
    source = {"Bucket": bucket, "Key": "source"}
    return refused(
        lambda: emulator.s3.copy_object(Bucket=bucket, Key="k", CopySource=source, IfNoneMatch="*"),
        "PreconditionFailed",
    )


def copy_honours_the_etag_of_its_source(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    put(emulator, bucket, "source")
    source = {"Bucket": bucket, "Key": "source"}
    return refused(
        lambda: emulator.s3.copy_object(
            Bucket=bucket, Key="k", CopySource=source, CopySourceIfMatch=f'"{"0" * 32}"'
        ),
        "PreconditionFailed",
    )


def a_delete_marker_is_named(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    put(emulator, bucket)
    emulator.s3.delete_object(Bucket=bucket, Key="k")
    try:
        emulator.s3.head_object(Bucket=bucket, Key="k")
    except ClientError as error:
        headers: dict[str, str] = error.response["ResponseMetadata"]["HTTPHeaders"]
        return headers.get("x-amz-delete-marker") == "true"
    return False


def versions_come_newest_first(emulator: Emulator) -> bool:
    """Two versions with a delete marker between them, one entry a page: S3 keeps their order."""
    bucket = emulator.make_bucket()
    put(emulator, bucket)
    emulator.s3.delete_object(Bucket=bucket, Key="k")
    put(emulator, bucket)
    pages = emulator.s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    return ["DeleteMarkers" in page for page in pages] == [False, True, False]


def a_transaction_runs_once_for_its_token(emulator: Emulator) -> bool:
    table = emulator.make_table()
    item = {"LockID": {"S": "b/k"}}
    put_once = {
        "Put": {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(LockID)"}
    }
    call = {"TransactItems": [put_once], "ClientRequestToken": "7d0c5356-0001"}
    emulator.dynamodb.transact_write_items(**call)
    return not refused(lambda: emulator.dynamodb.transact_write_items(**call), "TransactionCanceledException")


def a_lost_race_shows_the_winner(emulator: Emulator) -> bool:
    table = emulator.make_table()
    emulator.dynamodb.put_item(TableName=table, Item={"LockID": {"S": "b/k"}, "Info": {"S": "first"}})
    try:
        emulator.dynamodb.put_item(
            TableName=table,
            Item={"LockID": {"S": "b/k"}, "Info": {"S": "second"}},
            ConditionExpression="attribute_not_exists(LockID)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        item: dict[str, object] = error.response.get("Item", {})
        return item.get("Info") == {"S": "first"}
    return False


def a_key_may_hold_a_newline(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    return not refused(lambda: put(emulator, bucket, "a\nb"), "NoSuchKey", "404")


def a_kms_etag_is_no_md5(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    answer = emulator.s3.put_object(
        Bucket=bucket, Key="k", Body=BODY, ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/tfstate"
    )
    return str(answer["ETag"]).strip('"') != hashlib.md5(BODY, usedforsecurity=False).hexdigest()


def a_multipart_etag_is_no_md5(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    upload = emulator.s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = emulator.s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    answer = emulator.s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts
    )
    return str(answer["ETag"]).strip('"').endswith("-1")


def a_key_ends_at_1024_bytes(emulator: Emulator) -> bool:
    bucket = emulator.make_bucket()
    return refused(lambda: put(emulator, bucket, "k" * 1025), "KeyTooLongError")


BEHAVIOURS: dict[str, Callable[[Emulator], bool]] = {
    "put honours If-None-Match": put_honours_if_none_match,
    "put honours If-Match": put_honours_if_match,
    "delete honours If-Match": delete_honours_if_match,
    "copy honours If-None-Match": copy_honours_if_none_match,
    "copy honours the source's ETag": copy_honours_the_etag_of_its_source,
    "a delete marker is named in the answer": a_delete_marker_is_named,
    "versions come newest first": versions_come_newest_first,
    "a transaction's token is honoured": a_transaction_runs_once_for_its_token,
    "a lost race shows the winner": a_lost_race_shows_the_winner,
    "a key may hold a newline": a_key_may_hold_a_newline,
    "a KMS object's ETag is no MD5": a_kms_etag_is_no_md5,
    "a multipart ETag is no MD5": a_multipart_etag_is_no_md5,
    "a key ends at 1,024 bytes": a_key_ends_at_1024_bytes,
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_emulator_answers_as_aws_does_unless_the_table_says_otherwise(
    emulator: Emulator, behaviour: str
) -> None:
    assert BEHAVIOURS[behaviour](emulator) is not emulator.deviates(behaviour)


def test_every_known_deviation_is_probed() -> None:
    assert {name for table in DEVIATIONS.values() for name in table} <= set(BEHAVIOURS)
