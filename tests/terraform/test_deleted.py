"""A state object that is gone: a Digest left behind blocks Terraform; without one it creates everything."""

from __future__ import annotations

import pytest

from tests.terraform.conftest import Stacks
from tests.terraform.expect import agree, assert_terraform
from tests.terraform.stored import md5

pytestmark = pytest.mark.terraform


def test_a_state_deleted_by_hand_is_restored_from_the_version_its_digest_names(stacks: Stacks) -> None:
    stack = stacks.applied()
    body, named = stack.stored.body(), stack.stored.version_id()
    stack.stored.delete_object()

    verdict = agree(stack, content="state_deleted", terraform="blocked", severity="blocked")

    assert verdict.object["exists"] is False
    assert verdict.digest_words == (True, True, md5(body))
    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", named)
    clear = verdict.remedy("clear_digest")
    assert clear is not None
    assert not clear["recommended"]

    stack.stored.put_body(body)
    assert_terraform(stack.plan(), does="works")


def test_terraforms_own_advice_after_a_delete_leads_to_creating_everything_again(stacks: Stacks) -> None:
    """Terraform says "remove the Digest value"; from then on nothing stops an apply, which is critical."""
    stack = stacks.applied()
    last = stack.stored.version_id()
    stack.stored.delete_object()
    stack.stored.delete_digest()

    verdict = agree(stack, content="state_deleted_unprotected", terraform="recreates", severity="critical")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", last)


def test_a_state_deleted_where_only_lock_files_are_used_has_nothing_that_protects_it(stacks: Stacks) -> None:
    stack = stacks.applied(table=False, use_lockfile=True)
    last = stack.stored.version_id()
    stack.stored.delete_object()

    verdict = agree(stack, content="state_deleted_unprotected", terraform="recreates", severity="critical")

    assert verdict.recommended is not None
    assert (verdict.recommended["action"], verdict.recommended["version_id"]) == ("restore_version", last)


def test_a_digest_that_terraform_ignores_does_not_protect_a_deleted_state(stacks: Stacks) -> None:
    stack = stacks.applied()
    stack.stored.put_digest("not a digest")
    stack.stored.delete_object()

    verdict = agree(stack, content="state_deleted_unprotected", terraform="recreates", severity="critical")

    assert verdict.digest_words[:2] == (True, False)


def test_a_state_deleted_from_an_unversioned_bucket_leaves_an_orphan_digest(stacks: Stacks) -> None:
    stack = stacks.applied(versioned=False)
    stack.stored.delete_object()

    verdict = agree(stack, content="orphan_digest", terraform="blocked", severity="blocked")

    assert verdict.recommended is None
    assert verdict.remedy("restore_version") is None
    assert verdict.remedy("clear_digest") is not None


def test_a_digest_that_names_an_older_version_of_a_deleted_state_leaves_a_choice(stacks: Stacks) -> None:
    stack = stacks.make()
    stack.apply(network="10.0.0.0/16")
    older, older_digest = stack.stored.version_id(), stack.stored.digest()
    stack.apply(network="10.0.0.0/16", cluster="blue")
    newest = stack.stored.version_id()
    assert older_digest is not None
    stack.stored.put_digest(older_digest)
    stack.stored.delete_object()

    verdict = agree(stack, content="state_deleted_ambiguous", terraform="blocked", severity="blocked")

    offered = [remedy["version_id"] for remedy in verdict.remedies if remedy["action"] == "restore_version"]
    assert offered == [newest, older]


def test_a_state_deleted_twice_over_is_still_found_under_its_stacked_markers(stacks: Stacks) -> None:
    stack = stacks.applied()
    named = stack.stored.version_id()
    stack.stored.delete_object()
    stack.stored.delete_object()

    verdict = agree(stack, content="state_deleted", terraform="blocked", severity="blocked")

    assert verdict.recommended is not None
    assert verdict.recommended["version_id"] == named
