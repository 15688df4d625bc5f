"""The one place where a word of Lockboard meets a run of real Terraform: the two can never drift apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.terraform.board import Verdict, look
from tests.terraform.workspace import Run, Stack

NO_CHANGES = "No changes. Your infrastructure matches the configuration."
LOCKED = "Error acquiring the state lock"
MISMATCH = "state data in S3 does not have the expected content"


def assert_terraform(
    run: Run,
    *,
    does: str,
    creates: int | None = None,
    locks: Sequence[Mapping[str, Any]] = (),
    calculated: str | None = None,
    stored: str | None = None,
) -> None:
    """Hold a run of `plan` (or of `init`) against a word of Lockboard's `terraform` column.

    `creates`: how many resources a plan that starts from nothing would make. `locks`: the locks shown, one of
    which Terraform must name; none readable means that it names no holder. `calculated`, `stored`: the MD5 of
    the object (None where there is none to hash) and the Digest, which Terraform prints when they differ.
    """
    match does:
        case "works":
            assert run.rc == 0, str(run)
            assert NO_CHANGES in run.text, str(run)
        case "recreates":
            assert run.rc == 0, str(run)
            assert f"Plan: {creates} to add, 0 to change, 0 to destroy." in run.text, str(run)
        case "waits":
            assert run.rc == 1, str(run)
            assert LOCKED in run.text or "failed to lock s3 state" in run.text, str(run)
            assert_names_a_holder(run, locks)
        case "blocked":
            assert run.rc == 1, str(run)
            assert MISMATCH in run.text, str(run)
            printed = [
                "Calculated checksum:",
                *([calculated] if calculated else []),
                f"Stored checksum: {stored}",
            ]
            assert " ".join(printed) in run.text, str(run)
        case "fails":
            assert run.rc == 1, str(run)
            assert LOCKED not in run.text, str(run)
            assert MISMATCH not in run.text, str(run)
        case _:
            raise AssertionError(f"{does!r} promises nothing that a run of Terraform could show")


def assert_names_a_holder(run: Run, locks: Sequence[Mapping[str, Any]]) -> None:
    """Terraform prints the ID and the Who of one of these locks, or no Lock Info where it can read none."""
    named = re.search(r"Lock Info: ID: (\S+) .* Who: (.*?) Version:", run.text)
    held = {(lock["id"], lock["who"]) for lock in locks if lock["readable"]}
    if not held:
        assert named is None, str(run)
        return
    assert named is not None, str(run)
    assert named.groups() in held, str(run)


def agree(
    stack: Stack,
    *,
    content: str,
    terraform: str,
    severity: str,
    lock: str = "unlocked",
    **settings: str,
) -> Verdict:
    """Lockboard gives this verdict of the stack's key, and then a real `terraform plan` does what it says.

    Where a lock is held and the digest differs, a directory that is initialised stops at the lock. But the
    first thing a pipeline runs is `init` in a fresh one, which reads the state and never locks: so run that.
    """
    verdict = look(stack, **settings)
    assert (content, lock, terraform, severity) == verdict.words, verdict
    behind_a_lock = terraform == "blocked" and bool(verdict.locks)
    run = stack.fresh_copy("fresh").init() if behind_a_lock else stack.plan()
    assert_terraform(
        run,
        does=verdict.terraform,
        creates=len(stack.inputs),
        locks=verdict.locks,
        calculated=verdict.object["md5"] if verdict.object["size"] else None,
        stored=verdict.digest["value"],
    )
    return verdict
