"""What Terraform 1.11 prints, held against the texts it was seen to print."""

from __future__ import annotations

from lockboard.domain.diagnose import diagnose
from lockboard.domain.model import Verdict
from tests.domain.strategies import NOW, POLICY
from tests.domain.test_diagnose import BEHIND, GOOD, V1, V2, V3, seen_with
from tests.domain.test_remedies import verdict_of

_MISMATCH = """Error: error loading state: state data in S3 does not have the expected content.

The checksum calculated for the state stored in S3 does not match the checksum
stored in DynamoDB.

Bucket: b
Key:    app.tfstate
"""


def test_a_mismatch_prints_both_checksums_and_the_advice_to_take_the_calculated_one() -> None:
    said = verdict_of("the object is newer").prints

    assert said.startswith(f"{_MISMATCH}Calculated checksum: {V2}\nStored checksum:     {V1}\n")
    assert said.endswith(f"update the Digest value stored in the DynamoDB table to the following value: {V2}")


def test_a_deleted_state_prints_no_checksum_and_the_advice_to_remove_the_digest() -> None:
    said = verdict_of("deleted, the digest names the last version").prints

    assert said.startswith(f"{_MISMATCH}Calculated checksum: \nStored checksum:     {V2}\n")
    assert said.endswith("remove the Digest value stored in the DynamoDB table")


def test_an_empty_object_prints_no_checksum_either() -> None:
    assert "Calculated checksum: \n" in verdict_of("empty with a digest").prints


def test_a_broken_object_that_differs_prints_the_mismatch_first() -> None:
    said = verdict_of("broken, the digest names the one before").prints

    assert f"Calculated checksum: {V3}\n" in said


def test_a_lock_prints_its_seven_fields() -> None:
    said = verdict_of("a young lock").prints

    assert said.startswith("Error: Error acquiring the state lock\n")
    assert "ConditionalCheckFailedException" in said
    for line in (
        "  ID:        id-1",
        "  Path:      b/app.tfstate",
        "  Operation: OperationTypeApply",
        "  Who:       root@ci",
    ):
        assert line in said.split("\n")
    assert "  Created:   2026-11-20 17:59:00" in said


def test_a_held_lock_file_prints_the_refusal_of_s3() -> None:
    assert "PreconditionFailed" in verdict_of("a lock file, no table").prints


def test_a_lock_that_cannot_be_read_prints_no_lock_info() -> None:
    said = verdict_of("an item nobody can read").prints

    assert "\nLock Info:\n" not in said
    assert "no Lock Info" in said


def test_a_plan_that_would_create_everything_prints_no_error() -> None:
    said = verdict_of("deleted, no digest left").prints

    assert said.startswith("Plan: ")
    assert "no error" in said


def test_denied_access_prints_bucket_and_key() -> None:
    assert verdict_of("access denied").prints == 'Unable to access object "app.tfstate" in S3 bucket "b"'


def test_where_a_plan_works_nothing_is_printed() -> None:
    verdict: Verdict = verdict_of("the MD5 is the digest")

    assert verdict.prints == ""


def test_a_line_is_never_broken_by_a_key() -> None:
    plain, hostile = (
        diagnose(seen_with(GOOD, *BEHIND, key=key), POLICY, NOW).prints for key in ("k", "k\nBucket: x\u202e")
    )

    assert hostile == plain.replace("Key:    k", "Key:    k\\x0aBucket: x\\u202e")
