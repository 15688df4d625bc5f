"""The object against its Digest: what Lockboard says of each disagreement, and what Terraform then does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.terraform.conftest import Stacks
from tests.terraform.expect import agree
from tests.terraform.stored import Attribute, md5

pytestmark = pytest.mark.terraform

SOME_MD5 = "9e107d9d372bb6826bd81d3542a419d6"
CORRUPT: dict[str, bytes] = {
    "cut off": b'{"version": 4, "terraform_version": "1.11.4", "serial": 2, "lin',
    "an empty object": b"{}",
    "null": b"null",
    "an array": b"[]",
    "HTML": b"<html><body>503 Slow Down</body></html>",
    "of format version 99": b'{"version": 99, "serial": 1, "lineage": "a", "outputs": {}, "resources": []}',
}
IGNORED: dict[str, dict[str, Attribute]] = {
    "not hexadecimal": {"Digest": {"S": "z" * 32}},
    "one digit short": {"Digest": {"S": SOME_MD5[:-1]}},
    "empty": {"Digest": {"S": ""}},
    "in quotes": {"Digest": {"S": f'"{SOME_MD5}"'}},
    "a number": {"Digest": {"N": "12345678901234567890123456789012"}},
    "binary": {"Digest": {"B": SOME_MD5.encode()}},
    "null": {"Digest": {"NULL": True}},
    "missing, as Terragrunt leaves it after a migration": {},
}


def edited(body: bytes) -> bytes:
    """The state with another input of its first resource and the same serial, as an editor leaves it."""
    content: dict[str, Any] = json.loads(body)
    content["resources"][0]["instances"][0]["attributes"]["input"]["value"] = "by hand"
    return json.dumps(content, indent=2).encode()


def test_an_applied_state_matches_its_digest(stacks: Stacks) -> None:
    stack = stacks.applied()

    verdict = agree(stack, content="ok", terraform="works", severity="ok")

    assert verdict.object["exists"]
    assert verdict.object["size"] == len(stack.stored.body())
    assert verdict.digest_words == (True, True, stack.stored.digest())
    assert verdict.locks == []
    assert verdict.remedies == []


def test_an_upper_case_digest_is_as_good(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_digest(md5(stack.stored.body()).upper())

    agree(stack, content="ok", terraform="works", severity="ok")


def test_an_object_newer_than_its_digest_wants_the_digest_set(stacks: Stacks) -> None:
    stack = stacks.make()
    stack.apply(network="10.0.0.0/16")
    first = stack.stored.version_id()
    older = stack.stored.digest()
    stack.apply(network="10.0.0.0/16", cluster="blue")
    assert older is not None
    stack.stored.put_digest(older)

    verdict = agree(stack, content="digest_behind", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "set_digest"
    restore = verdict.remedy("restore_version")
    assert restore is not None
    assert (restore["version_id"], restore["recommended"]) == (first, False)


def test_a_rolled_back_object_wants_the_version_its_digest_names(stacks: Stacks) -> None:
    stack = stacks.make()
    stack.apply(network="10.0.0.0/16")
    older = stack.stored.body()
    stack.apply(network="10.0.0.0/16", cluster="blue")
    named = stack.stored.version_id()
    stack.stored.put_body(older)

    verdict = agree(stack, content="state_rolled_back", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", named)


def test_an_object_edited_by_hand_keeps_its_serial_and_is_told_apart_by_it(stacks: Stacks) -> None:
    stack = stacks.applied()
    named = stack.stored.version_id()
    stack.stored.put_body(edited(stack.stored.body()))

    verdict = agree(stack, content="manual_edit", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", named)


def test_a_digest_that_names_no_version_recommends_nothing(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_digest(SOME_MD5)

    verdict = agree(stack, content="digest_unknown", terraform="blocked", severity="blocked")

    assert verdict.recommended is None
    assert verdict.remedy("set_digest") is not None


def test_in_an_unversioned_bucket_a_digest_has_nothing_to_name(stacks: Stacks) -> None:
    stack = stacks.applied(versioned=False)
    stack.stored.put_body(edited(stack.stored.body()))

    verdict = agree(stack, content="digest_unknown", terraform="blocked", severity="blocked")

    assert verdict.recommended is None
    assert verdict.remedy("restore_version") is None


def test_an_empty_object_never_matches_not_even_the_md5_of_nothing(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_body(b"")
    stack.stored.put_digest(md5(b""))

    verdict = agree(stack, content="state_empty", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "restore_version"
    assert verdict.remedy("set_digest") is None


def test_an_empty_object_without_a_digest_makes_terraform_create_everything_again(stacks: Stacks) -> None:
    stack = stacks.applied()
    last = stack.stored.version_id()
    stack.stored.put_body(b"")
    stack.stored.delete_digest()

    verdict = agree(stack, content="state_empty", terraform="recreates", severity="critical")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", last)


@pytest.mark.parametrize("body", CORRUPT.values(), ids=CORRUPT)
@pytest.mark.parametrize("digest", ["set to match", "absent"])
def test_a_body_that_is_no_state_fails_whether_its_digest_matches_or_is_absent(
    stacks: Stacks, digest: str, body: bytes
) -> None:
    stack = stacks.applied()
    last = stack.stored.version_id()
    stack.stored.put_body(body)
    if digest == "absent":
        stack.stored.delete_digest()
    else:
        stack.stored.put_digest(md5(body))

    verdict = agree(stack, content="state_corrupt", terraform="fails", severity="blocked")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", last)
    assert verdict.remedy("set_digest") is None


def test_a_truncated_object_is_refused_by_the_digest_before_anybody_parses_it(stacks: Stacks) -> None:
    stack = stacks.applied()
    whole, named = stack.stored.body(), stack.stored.version_id()
    stack.stored.put_body(whole[: len(whole) // 2])

    verdict = agree(stack, content="state_corrupt", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", named)


@pytest.mark.parametrize("attributes", IGNORED.values(), ids=IGNORED)
def test_a_digest_that_terraform_cannot_use_switches_its_check_off(
    stacks: Stacks, attributes: dict[str, Attribute]
) -> None:
    stack = stacks.applied()
    right = stack.stored.digest()
    stack.stored.put_item(stack.stored.digest_id, **attributes)

    verdict = agree(stack, content="digest_ignored", terraform="works", severity="attention")

    assert verdict.digest_words[:2] == (True, False)
    assert verdict.recommended is not None
    assert verdict.recommended["action"] == "set_digest"
    assert md5(stack.stored.body()) == right


def test_a_state_locked_with_files_only_has_no_digest_and_needs_none(stacks: Stacks) -> None:
    stack = stacks.applied(table=False, use_lockfile=True)

    verdict = agree(stack, content="no_digest", terraform="works", severity="ok")

    assert verdict.digest_words == (False, False, None)
    assert verdict.recommended is None
