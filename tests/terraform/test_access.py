"""What may not be read is never taken for what is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.terraform.board import EXIT_NOTHING_WRONG, scan
from tests.terraform.conftest import Stacks
from tests.terraform.expect import agree
from tests.terraform.proxy import s3_proxy

pytestmark = pytest.mark.terraform


@pytest.mark.parametrize("digest", ["right", "left behind", "absent"])
def test_a_state_that_may_not_be_read_is_unreadable_and_never_absent(stacks: Stacks, digest: str) -> None:
    """Nothing is repaired where access is denied. As with KMS, its ETag does not prove what the bytes are."""
    stack = stacks.applied()
    if digest == "left behind":
        stack.stored.put_digest("0" * 32)
    elif digest == "absent":
        stack.stored.delete_digest()
    with s3_proxy(stack.emulator.url, deny=f"{stack.bucket}/{stack.key}", opaque_etags=True) as url:
        denied = replace(stack, endpoint=url)
        denied.write(stack.inputs)
        denied.run("init", "-reconfigure")

        verdict = agree(denied, content="state_unreadable", terraform="fails", severity="unknown")

        assert verdict.object["exists"]
        assert not verdict.remedies
        assert scan(denied).rc != EXIT_NOTHING_WRONG
