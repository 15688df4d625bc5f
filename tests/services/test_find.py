from __future__ import annotations

import json
import time
from datetime import timedelta
from random import Random

import pytest

from lockboard.domain.keys import matcher, state_id
from lockboard.domain.model import Backend, Policy
from lockboard.services.find import INPUT_LIMIT, Finding, candidates, understand
from tests.domain.strategies import many_inputs, text

LOCK = "7d0c5356-96d2-4fc7-9c3e-9d1f3a5b6c7d"
ASKED = "11111111-2222-3333-4444-555555555555"
STORED = "1c2e77000decdc947c32b2cb92bef583"
CALCULATED = "537adc689657b91e19713b5660ab4f07"
BUCKET = "acme-tfstate"
KEY = "Dev/terraform/vpc/terraform.tfstate"
WHO = "root@ci-runner-42"
LONG_KEY = "a-team/of/people/with/very-long-names/and/folders/that/never/end/prod/eu-west-1/network.tfstate"
SPACED_KEY = "a team of people/with long names/and folders/prod eu-west-1/network state.tfstate"


def lock_info(key: str = KEY) -> str:
    """The block as terraform 1.11.4 prints it; 0.9 prints the same."""
    return (
        "Lock Info:\n"
        f"  ID:        {LOCK}\n  Path:      {BUCKET}/{key}\n"
        f"  Operation: OperationTypeApply\n  Who:       {WHO}\n"
        "  Version:   1.11.4\n  Created:   2026-11-20 18:16:57.717784102 +0000 UTC\n  Info:      \n"
    )


def lock_error(key: str = KEY) -> str:
    return (
        "\nError: Error acquiring the state lock\n\n"
        "Error message: operation error DynamoDB: PutItem, https response error\n"
        "StatusCode: 400, RequestID:\n"
        "wZFlQ2pQbKcsePqWbnfv8NEgnvAYuOJpT1IFweekaNLja2QHFxfc,\n"
        f"ConditionalCheckFailedException: The conditional request failed\n{lock_info(key)}\n\n"
        "Terraform acquires a state lock to protect the state from being written\n"
        "by multiple users at the same time.\n"
    )


def mismatch(key: str = KEY, calculated: str = CALCULATED) -> str:
    """As terraform 1.9 and newer print it; an absent object has no calculated checksum."""
    advice = (
        f"update the Digest\nvalue stored in the DynamoDB table to the following value: {calculated}"
        if calculated
        else "remove the Digest\nvalue stored in the DynamoDB table"
    )
    return (
        "Error: error loading state: state data in S3 does not have the expected content.\n\n"
        "The checksum calculated for the state stored in S3 does not match the checksum\n"
        "stored in DynamoDB.\n\n"
        f"Bucket: {BUCKET}\nKey:    {key}\n"
        f"Calculated checksum: {calculated}\nStored checksum:     {STORED}\n\n"
        "This may be caused by unusually long delays in S3 processing a previous state\n"
        "update. Please wait for a minute or two and try again.\n\n"
        f"outage, you may need to manually verify the remote state and {advice}\n"
    )


def old_mismatch(value: str) -> str:
    """As terraform up to 1.5 and OpenTofu print it: no bucket, no key, and the calculated MD5 only."""
    return (
        "Error refreshing state: state data in S3 does not have the expected content.\n\n"
        f"... and update the Digest value stored in the\nDynamoDB table to the following value: {value}\n"
    )


def coloured(text: str) -> str:
    """With the bar and the colours of a terminal."""
    lines = (f"\x1b[31m│\x1b[0m \x1b[0m{line}" for line in text.split("\n"))
    return "\r\n".join(["\x1b[31m╷\x1b[0m\x1b[0m", *lines, "\x1b[31m╵\x1b[0m\x1b[0m"])


def logged(prefix: str, text: str) -> str:
    return "\n".join(prefix + line for line in text.split("\n"))


def as_json(text: str) -> str:
    detail = {"severity": "error", "summary": "Error acquiring the state lock", "detail": text}
    return json.dumps(
        {"@level": "error", "@message": "Error: Error", "diagnostic": detail, "type": "diagnostic"}
    )


def broken_at(width: int, text: str) -> str:
    """As a terminal that breaks lines hands them to the clipboard."""
    return "\n".join(
        line[i : i + width] for line in text.split("\n") for i in range(0, max(len(line), 1), width)
    )


THE_LOCK = Finding(BUCKET, KEY, LOCK, holder=WHO)
THE_MISMATCH = Finding(BUCKET, KEY, digest=STORED)
GITHUB = "2026-11-20T18:16:57.7177841Z "
GH_CLI = "plan\tUNKNOWN STEP\t2026-11-20T18:16:57.7177841Z "
GITLAB = "2026-11-20T18:16:57.717784Z 01O "
JENKINS = "[2026-11-20T18:16:57.717Z] "
TERRAGRUNT = "18:16:57.717 STDERR [vpc] terraform: "
COMPOSE = "terraform-1  | "

MESSAGES = {
    "a lock error": (lock_error(), THE_LOCK),
    "a lock error in colour": (coloured(lock_error()), THE_LOCK),
    "a lock error whose escapes lost their ESC": (coloured(lock_error()).replace("\x1b", ""), THE_LOCK),
    "a lock error as JSON": (as_json(lock_error()), THE_LOCK),
    "a lock error that a chat made one line": (" ".join(lock_error().split()), THE_LOCK),
    "a lock error in GitHub's log": (logged(GITHUB, lock_error()), THE_LOCK),
    "a coloured lock error in GitHub's log": (logged(GITHUB, coloured(lock_error())), THE_LOCK),
    "a lock error from the gh command": (logged(GH_CLI, lock_error()), THE_LOCK),
    "a lock error in GitLab's log": (logged(GITLAB, lock_error()), THE_LOCK),
    "a lock error in Jenkins' log": (logged(JENKINS, lock_error()), THE_LOCK),
    "a lock error from Terragrunt": (logged(TERRAGRUNT, lock_error()), THE_LOCK),
    "a coloured lock error from Terragrunt": (logged(TERRAGRUNT, coloured(lock_error())), THE_LOCK),
    "a lock error from docker compose": (logged(COMPOSE, lock_error()), THE_LOCK),
    "the block alone": (lock_info(), THE_LOCK),
    "a quoted block": (logged("> ", lock_info()), THE_LOCK),
    "a path broken at 80 columns": (
        broken_at(80, lock_error(LONG_KEY)),
        Finding(BUCKET, LONG_KEY, LOCK, holder=WHO),
    ),
    "a path with spaces": (coloured(lock_error(SPACED_KEY)), Finding(BUCKET, SPACED_KEY, LOCK, holder=WHO)),
    "a lock on an access point": (
        lock_info().replace(BUCKET + "/", "arn:aws:s3:eu-west-1:123456789012:accesspoint/states/"),
        Finding("arn:aws:s3:eu-west-1:123456789012:accesspoint/states", KEY, LOCK, holder=WHO),
    ),
    "a failed unlock, DynamoDB": (
        f'Failed to unlock state: lock ID "{ASKED}" does not match existing lock ("{LOCK}")\n{lock_info()}',
        THE_LOCK,
    ),
    "a failed unlock, lock file": (
        f"Failed to unlock: lock ID '{ASKED}' does not match the existing lock ID '{LOCK}'\n{lock_info()}",
        THE_LOCK,
    ),
    "a failed unlock without its block": (
        f'Failed to unlock state: lock ID "{ASKED}" does not match existing lock ("{LOCK}")',
        Finding(lock_id=LOCK),
    ),
    "a failed unlock of a lock file without its block": (
        f"lock ID '{ASKED}' does not match the existing lock ID '{LOCK}'",
        Finding(lock_id=LOCK),
    ),
    "an unlock of nothing": (
        f'\x1b[31mfailed to retrieve lock info for lock ID "{ASKED}": unexpected end of JSON',
        Finding(lock_id=ASKED),
    ),
    "a half-released pair": (
        (
            f"failed to unlock S3: unable to retrieve file from S3 bucket '{BUCKET}' with key"
            f" '{KEY}.tflock': operation error S3: GetObject, StatusCode: 404, NoSuchKey:"
        ),
        Finding(BUCKET, f"{KEY}.tflock"),
    ),
    "OpenTofu's unlock of nothing": (
        f'failed to unlock: no lock info found for: "{BUCKET}/{KEY}" within the DynamoDB table: locks',
        Finding(BUCKET, KEY),
    ),
    "a mismatch": (mismatch(), THE_MISMATCH),
    "a mismatch in colour": (coloured(mismatch()), THE_MISMATCH),
    "a mismatch in GitHub's log": (logged(GITHUB, mismatch()), THE_MISMATCH),
    "a mismatch in GitLab's log": (logged(GITLAB, mismatch()), THE_MISMATCH),
    "a mismatch from Terragrunt": (logged(TERRAGRUNT, coloured(mismatch())), THE_MISMATCH),
    "a mismatch as JSON": (as_json(mismatch()), THE_MISMATCH),
    "a mismatch that a chat made one line": (" ".join(mismatch().split()), THE_MISMATCH),
    "a mismatch of a long key": (broken_at(80, mismatch(LONG_KEY)), Finding(BUCKET, LONG_KEY, digest=STORED)),
    "a mismatch of a key with spaces": (mismatch(SPACED_KEY), Finding(BUCKET, SPACED_KEY, digest=STORED)),
    "a mismatch of a deleted state": (mismatch(calculated=""), THE_MISMATCH),
    "a deleted state's mismatch on one line": (" ".join(mismatch(calculated="").split()), THE_MISMATCH),
    "a mismatch of terraform 1.6 that advises the stored value": (
        mismatch().replace(f"value: {CALCULATED}", f"value: {STORED}"),
        THE_MISMATCH,
    ),
    "a mismatch of terraform 1.5": (old_mismatch(CALCULATED), Finding(digest=CALCULATED)),
    "a mismatch of terraform 1.5 broken before the value": (
        old_mismatch(f"\n{CALCULATED.upper()}"),
        Finding(digest=CALCULATED),
    ),
    "a mismatch of terraform 1.5 of a deleted state names nothing": (old_mismatch(""), Finding()),
    "no access": (
        f'Error: Unable to access object "{KEY}" in S3 bucket "{BUCKET}": operation error S3, 403',
        Finding(BUCKET, KEY),
    ),
    "no access, broken over lines, to a key with quotes": (
        'Error: Unable to access object\n"say \\"hi\\".tfstate" in S3 bucket\n"acme-tfstate": 403 Forbidden',
        Finding(BUCKET, 'say "hi".tfstate'),
    ),
    "an unreadable lock names nothing": (
        lock_error().split("Lock Info:")[0] + "unexpected end of JSON input\n",
        Finding(),
    ),
}


@pytest.mark.parametrize(("text", "found"), MESSAGES.values(), ids=list(MESSAGES))
def test_a_message_is_read_however_it_was_copied(text: str, found: Finding) -> None:
    assert understand(text) == found


def test_a_holder_cannot_name_a_path_that_is_not_the_locks() -> None:
    text = lock_info().replace(WHO, f"x Path: other/state.tfstate ID: {ASKED}")

    found = understand(text)

    assert (found.bucket, found.key, found.lock_id) == (BUCKET, KEY, LOCK)


RECORD = json.dumps({"ID": LOCK, "Operation": "OperationTypeApply", "Who": WHO, "Path": f"{BUCKET}/{KEY}"})
NAMES = {
    "a key": (KEY, Finding(key=KEY, words=KEY)),
    "a part of a key": ("vpc", Finding(key="vpc", words="vpc")),
    "a key with spaces": (
        "team a/network state",
        Finding(key="team a/network state", words="team a/network state"),
    ),
    "a Korean key in quotes": (
        "'팀/네트워크.tfstate',",
        Finding(key="팀/네트워크.tfstate", words="팀/네트워크.tfstate"),
    ),
    "a key that ends in a quote": ('say "hi"', Finding(key='say "hi"', words='say "hi"')),
    "a key with 32 hexadecimal digits in it": (
        f"dev/{STORED}/terraform.tfstate",
        Finding(key=f"dev/{STORED}/terraform.tfstate", words=f"dev/{STORED}/terraform.tfstate"),
    ),
    "a LockID": (f"{BUCKET}/{KEY}-md5", Finding(key=f"{BUCKET}/{KEY}-md5", words=f"{BUCKET}/{KEY}-md5")),
    "a lock ID": (f"  {LOCK.upper()}\n", Finding(lock_id=LOCK, words=LOCK.upper())),
    "a digest": (STORED.upper(), Finding(digest=STORED, words=STORED.upper())),
    "a holder": (WHO, Finding(holder=WHO, words=WHO)),
    "a holder whose user is not known": (
        "@ip-172-31-2-133",
        Finding(holder="@ip-172-31-2-133", words="@ip-172-31-2-133"),
    ),
    "a command": (f"terraform force-unlock -force {LOCK}", Finding(lock_id=LOCK)),
    "an S3 URI": (f"s3://{BUCKET}/{KEY}", Finding(BUCKET, KEY)),
    "an S3 URI of a version": (f"s3://{BUCKET}/{KEY}?versionId=3sL4kqtJlcpXroDTDmJ", Finding(BUCKET, KEY)),
    "an S3 URI is not decoded": (f"s3://{BUCKET}/a%41+b?c", Finding(BUCKET, "a%41+b?c")),
    "an S3 URI with spaces": (f"s3://{BUCKET}/team a/state", Finding(BUCKET, "team a/state")),
    "a bucket": (f"s3://{BUCKET}", Finding(BUCKET, words=BUCKET)),
    "a folder": (f"s3://{BUCKET}/Dev/", Finding(BUCKET, words="Dev/")),
    "a path-style address": (f"https://s3.eu-west-1.amazonaws.com/{BUCKET}/{KEY}", Finding(BUCKET, KEY)),
    "an old path-style address": (f"https://s3-eu-west-1.amazonaws.com/{BUCKET}/{KEY}", Finding(BUCKET, KEY)),
    "a virtual-hosted address": (f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/{KEY}", Finding(BUCKET, KEY)),
    "a virtual-hosted address of a bucket with dots": (
        f"https://acme.tf.s3.amazonaws.com/{KEY}?versionId=abc",
        Finding("acme.tf", KEY),
    ),
    "an address in China": (f"https://{BUCKET}.s3.cn-north-1.amazonaws.com.cn/{KEY}", Finding(BUCKET, KEY)),
    "an encoded address": (
        f"https://{BUCKET}.s3.amazonaws.com/env%3A/staging/a+b%2Bc%20%EA%B0%80.tfstate",
        Finding(BUCKET, "env:/staging/a b+c 가.tfstate"),
    ),
    "another store's address": (f"http://127.0.0.1:9000/{BUCKET}/a+b%20c", Finding(BUCKET, "a+b c")),
    "a console address": (
        f"https://eu-west-1.console.aws.amazon.com/s3/object/{BUCKET}?region=eu-west-1&prefix=env%3A%2Fa%2Fx.tfstate&tab=versions",
        Finding(BUCKET, "env:/a/x.tfstate"),
    ),
    "a console address of a folder": (
        f"https://s3.console.aws.amazon.com/s3/buckets/{BUCKET}?prefix=Dev/terraform/&showversions=true",
        Finding(BUCKET, words="Dev/terraform/"),
    ),
    "a console address of a lock item": (
        (
            "https://eu-west-1.console.aws.amazon.com/dynamodbv2/home?region=eu-west-1#edit-item?itemMode=2"
            f"&pk={BUCKET}%2Fapp.tfstate-md5&route=ROUTE_ITEM_EXPLORER&table=locks"
        ),
        Finding(BUCKET, "app.tfstate-md5"),
    ),
    "an ARN": (f"arn:aws:s3:::{BUCKET}/{KEY}", Finding(BUCKET, KEY)),
    "an ARN in China": (f"arn:aws-cn:s3:::{BUCKET}/{KEY}", Finding(BUCKET, KEY)),
    "a lock record": (RECORD, Finding(BUCKET, KEY, LOCK, holder=WHO)),
    "a lock item": (
        json.dumps({"Item": {"LockID": {"S": f"{BUCKET}/{KEY}"}, "Info": {"S": RECORD}}}, indent=4),
        Finding(BUCKET, KEY, LOCK, holder=WHO),
    ),
    "a digest item": (
        json.dumps({"LockID": {"S": f"{BUCKET}/{KEY}-md5"}, "Digest": {"S": STORED}}),
        Finding(BUCKET, f"{KEY}-md5"),
    ),
    "an address in running text": (
        f"look at\nthe state (s3://{BUCKET}/{KEY}), please",
        Finding(BUCKET, KEY),
    ),
    "nothing": ("", Finding()),
    "only space": (" \n\t ", Finding()),
    "text of several lines about nothing": ("hello\nworld", Finding()),
    "a web address of nothing": ("https://[", Finding(key="https://[", words="https://[")),
}


@pytest.mark.parametrize(("text", "found"), NAMES.values(), ids=list(NAMES))
def test_a_name_is_read_as_what_it_is(text: str, found: Finding) -> None:
    assert understand(text) == found


def test_nothing_past_the_limit_is_read() -> None:
    assert understand("x\n" * (INPUT_LIMIT // 2) + lock_error()) == Finding()


def test_only_an_empty_finding_is_nothing() -> None:
    assert understand("").nothing
    assert not understand("vpc").nothing


@pytest.mark.parametrize(
    ("finding", "value"),
    [
        (THE_LOCK, LOCK),
        (THE_MISMATCH, ""),
        (Finding(digest=STORED), STORED),
        (Finding(key=KEY, words=KEY), KEY),
        (Finding(holder=WHO), WHO),
        (Finding(BUCKET, words="Dev/"), ""),
    ],
)
def test_the_exact_value_is_one_that_cannot_lead_to_another_buckets_state(
    finding: Finding, value: str
) -> None:
    assert finding.exact == value


def backend(name: str, bucket: str) -> Backend:
    return Backend(
        name=name,
        bucket=bucket,
        region="eu-west-1",
        table="locks",
        prefix="",
        state_key=matcher(["*.tfstate"]),
        policy_for=lambda key: Policy(stale_after=timedelta(hours=1)),
    )


PROD, DEV, TWIN = backend("prod", BUCKET), backend("dev", "acme-dev"), backend("twin", BUCKET)


def test_a_known_bucket_gives_the_key_in_every_backend_of_that_bucket() -> None:
    ids = candidates(Finding(BUCKET, KEY), [PROD, DEV, TWIN])

    assert ids == (state_id("prod", KEY), state_id("twin", KEY))


def test_a_bucket_that_is_not_configured_gives_nothing_rather_than_a_namesake() -> None:
    assert candidates(Finding("elsewhere", KEY), [PROD, DEV]) == ()


def test_a_bare_key_is_looked_for_in_every_backend() -> None:
    assert candidates(Finding(key=KEY), [PROD, DEV]) == (state_id("prod", KEY), state_id("dev", KEY))


def test_a_key_that_begins_with_a_bucket_is_read_both_ways() -> None:
    path = f"{BUCKET}/{KEY}"

    ids = candidates(Finding(key=path), [PROD, DEV])

    assert ids == (state_id("prod", path), state_id("prod", KEY), state_id("dev", path))


@pytest.mark.parametrize("suffix", ["-md5", ".tflock"])
def test_a_name_beside_a_state_is_read_as_a_state_and_as_its_companion(suffix: str) -> None:
    ids = candidates(Finding(BUCKET, KEY + suffix), [PROD])

    assert ids == (state_id("prod", KEY + suffix), state_id("prod", KEY))


def test_a_digest_items_lock_id_finds_the_state_without_naming_its_bucket_apart() -> None:
    ids = candidates(understand(f"{BUCKET}/{KEY}-md5"), [PROD])

    assert state_id("prod", KEY) in ids


def test_a_finding_without_a_key_has_no_candidates() -> None:
    assert candidates(Finding(lock_id=LOCK, holder=WHO), [PROD]) == ()


PIECES = (
    *(text for text, _ in MESSAGES.values()),
    *(text for text, _ in NAMES.values()),
    *("Lock Info:", "ID:", "Path:", "Key:", "│", "\x1b[", "\x1b]", "?versionId=", '\\"', '"LockID": {"S": "'),
    *("s3://", "https://", "arn:aws:s3:::", "console.aws.amazon.com/s3/object/", "%", "[", "]"),
    *("\ud800", "\u202e", "\x00", "does not have the expected content"),
)


@many_inputs
def test_no_paste_is_an_error(rnd: Random) -> None:
    pieces = (rnd.choice(PIECES) if rnd.random() < 0.5 else text(rnd, 30) for _ in range(rnd.randrange(6)))
    start, length = rnd.randrange(401), rnd.randrange(4001)
    paste = "".join(pieces)[start : start + length]
    found = understand(paste)

    assert found == understand(paste)
    assert len(candidates(found, [PROD, DEV])) <= 12


@pytest.mark.parametrize(
    "unit",
    [
        "Lock Info:",
        "Lock Info: ID: ",
        "Path: x\n",
        "?versionId=",
        "s3://b/?versionId=",
        'access object "',
        '"ID": "',
        " ",
        "│",
        "does not have the expected content Key: ",
        "\x1b[",
        "\x1b]",
        "https://",
        "[1;",
        "lock ID '",
        "Bucket: ",
        "a@",
        "\\n@message",
    ],
)
def test_a_repeated_piece_is_read_in_steps_that_do_not_explode(unit: str) -> None:
    whole, half = (steps(unit * (size // len(unit))) for size in (INPUT_LIMIT, INPUT_LIMIT // 2))

    assert whole < 6 * half + 0.05


def steps(text: str) -> float:
    """CPU seconds of one reading, the best of three."""

    def once() -> float:
        began = time.process_time()
        understand(text + "/")
        return time.process_time() - began

    return min(once() for _ in range(3))
