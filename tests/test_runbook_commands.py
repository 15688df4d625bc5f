"""The runbook's commands, run as they are printed: each changes exactly what was looked at, or nothing.

`aws` is a stand-in (`tests/aws_command.py`) that takes the same words; jq, openssl and the shell are real.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lockboard.domain.commands import commands_of
from lockboard.domain.diagnose import diagnose
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import Action, Backend, Policy
from lockboard.domain.plans import DigestChange, Plan, Source
from lockboard.services.documents import document
from tests import needs
from tests.aws_command import aws_command
from tests.domain.strategies import NOW
from tests.domain.test_diagnose import seen_with
from tests.emulators import REGION, Emulator

KEY = "Dev/a b+c/ü/terraform.tfstate"
_BLOCKS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOOLBOX = _BLOCKS.findall((needs.ROOT / "docs" / "runbook" / "README.md").read_text("utf-8"))[1]


_FUNCTION = re.compile(r"^(\w+)\(\)", re.MULTILINE)
_PROGRAMS = {"aws", "cp", "diff", "<(jq", "head", "terraform"}


def lock_record(holder: str) -> str:
    fields = {"ID": holder, "Operation": "OperationTypeApply", "Info": "", "Who": holder, "Version": "1.11.4"}
    return json.dumps({**fields, "Created": "2026-01-01T00:00:00Z", "Path": "p"}, separators=(",", ":"))


def state_of(serial: int) -> bytes:
    found = {"version": 4, "serial": serial, "lineage": "one", "resources": []}
    return json.dumps({**found, "terraform_version": "1.11.4"}).encode()


def md5_of(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Stack:
    """One key in an emulator, and a shell with the runbook's block pasted into it."""

    emulator: Emulator
    bucket: str
    table: str
    folder: Path

    def type(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Type the lines after the block. The status is that of the last one."""
        variables = f"BUCKET={self.bucket}\nKEY='{KEY}'\nTABLE={self.table}\n"
        script = "\n".join([variables, TOOLBOX, *lines])
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TMPDIR": str(self.folder)}
        return subprocess.run(
            ["bash"], input=script, text=True, capture_output=True, check=False, env=environment, timeout=120
        )

    def put_state(self, serial: int) -> str:
        answer = self.emulator.s3.put_object(
            Bucket=self.bucket,
            Key=KEY,
            Body=state_of(serial),
            ContentType="application/json",
            Metadata={"by": "terraform"},
            Tagging="team=net%20work",
        )
        return str(answer["VersionId"])

    def put_locks(self, holder: str) -> None:
        self.emulator.s3.put_object(
            Bucket=self.bucket, Key=f"{KEY}.tflock", Body=lock_record(holder).encode()
        )
        self.put_item("", {"Info": {"S": lock_record(holder)}})

    def put_item(self, suffix: str, attributes: dict[str, Any]) -> None:
        name = {"LockID": {"S": f"{self.bucket}/{KEY}{suffix}"}}
        self.emulator.dynamodb.put_item(TableName=self.table, Item={**name, **attributes})

    def item(self, suffix: str = "") -> dict[str, Any] | None:
        key = {"LockID": {"S": f"{self.bucket}/{KEY}{suffix}"}}
        found: dict[str, Any] | None = self.emulator.dynamodb.get_item(
            TableName=self.table, Key=key, ConsistentRead=True
        ).get("Item")
        return found

    def digest(self) -> object:
        item = self.item("-md5")
        return item and item.get("Digest")

    def body(self, suffix: str = "") -> bytes | None:
        listed = self.emulator.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        if f"{KEY}{suffix}" not in [entry["Key"] for entry in listed]:
            return None
        found: bytes = self.emulator.s3.get_object(Bucket=self.bucket, Key=f"{KEY}{suffix}")["Body"].read()
        return found

    def locked(self) -> bool:
        return self.item() is not None or self.body(".tflock") is not None


@pytest.fixture
def stack(moto: Emulator, tmp_path: Path) -> Iterator[Stack]:
    for tool in ("bash", "jq", "openssl"):
        if not shutil.which(tool):
            needs.missing(tool, f"install the package `{tool}`")
    with aws_command(tmp_path, moto.client):
        yield Stack(moto, moto.make_bucket(), moto.make_table(), tmp_path)


def test_a_dead_lock_is_removed_from_both_stores_and_can_be_put_back(stack: Stack) -> None:
    stack.put_locks("dead")

    done = stack.type("lockfile; lock", "unlock_file && unlock_item || exit 9")
    assert done.returncode == 0, done.stderr
    assert not stack.locked()

    stack.put_locks("dead")
    back = stack.type("lockfile; lock", "unlock_file && unlock_item && put_back")
    assert back.returncode == 0, back.stderr
    assert stack.body(".tflock") == lock_record("dead").encode()
    assert (stack.item() or {})["Info"] == {"S": lock_record("dead")}


def test_a_lock_that_was_taken_since_it_was_looked_at_is_not_removed(stack: Stack) -> None:
    stack.put_locks("dead")
    item = json.dumps({"LockID": {"S": f"{stack.bucket}/{KEY}"}, "Info": {"S": lock_record("alive")}})
    (stack.folder / "alive").write_text(lock_record("alive"))

    done = stack.type(
        "lockfile; lock",
        f"aws dynamodb put-item --table-name {stack.table} --item '{item}'",
        f"put_file {stack.folder}/alive >/dev/null",
        "unlock_file && exit 9",
        "unlock_item && exit 9",
        "take_over && exit 9",
        "exit 0",
    )

    assert done.returncode == 0, done.stderr
    assert stack.body(".tflock") == lock_record("alive").encode()
    assert (stack.item() or {})["Info"] == {"S": lock_record("alive")}


def test_an_item_without_a_record_is_removed_and_one_with_a_digest_is_not(stack: Stack) -> None:
    stack.put_item("", {})
    assert stack.type("lock; unlock_item").returncode == 0
    assert stack.item() is None

    stack.put_item("", {"Digest": {"S": "0" * 32}})
    assert stack.type("lock; unlock_item").returncode != 0
    assert stack.item() is not None


def test_a_digest_is_set_to_the_md5_of_the_object_under_the_lock_and_the_lock_is_released(
    stack: Stack,
) -> None:
    stack.put_state(2)
    for old in ({"Digest": {"S": "0" * 32}}, {"Digest": {"N": "5"}}, {}):
        stack.put_item("-md5", old)

        done = stack.type("hold && look && digest && set_digest && release")

        assert done.returncode == 0, done.stderr
        assert stack.digest() == {"S": md5_of(state_of(2))}
        assert not stack.locked()


def test_a_digest_that_is_not_there_is_made_and_one_that_is_there_is_removed(stack: Stack) -> None:
    stack.put_state(2)
    assert stack.type("hold && look && digest && set_digest; release").returncode == 0
    assert stack.digest() == {"S": md5_of(state_of(2))}

    assert stack.type("hold && digest && remove_digest; release").returncode == 0
    assert stack.item("-md5") is None


def test_nothing_is_repaired_without_the_lock_or_on_an_older_look(stack: Stack) -> None:
    version = stack.put_state(2)
    stack.put_item("-md5", {"Digest": {"S": "0" * 32}})
    stack.put_locks("alive")

    done = stack.type(
        f"look {version}; look; digest",
        "hold && exit 9",
        "set_digest && exit 9",
        "remove_digest && exit 9",
        f"restore {version} over && exit 9",
        "lockfile; lock; unlock_file; unlock_item; hold || exit 8",
        """printf '{"Item": {"Digest": {"S": "1"}}}' >"$work/digest"; set_digest && exit 9""",
        "release; set_digest && exit 9",
        "exit 0",
    )

    assert done.returncode == 0, done.stderr
    assert stack.digest() == {"S": "0" * 32}
    assert stack.body() == state_of(2)


def test_a_deleted_state_comes_back_with_all_that_belongs_to_it(stack: Stack) -> None:
    version = stack.put_state(2)
    stack.emulator.s3.delete_object(Bucket=stack.bucket, Key=KEY)

    done = stack.type(f"look {version}; hold; look", f"restore {version} && release")

    assert done.returncode == 0, done.stderr
    head = stack.emulator.s3.head_object(Bucket=stack.bucket, Key=KEY)
    tags = stack.emulator.s3.get_object_tagging(Bucket=stack.bucket, Key=KEY)["TagSet"]
    assert stack.body() == state_of(2)
    assert (head["ContentType"], head["Metadata"]) == ("application/json", {"by": "terraform"})
    assert tags == [{"Key": "team", "Value": "net work"}]


def test_a_version_is_restored_over_the_object_that_was_looked_at_and_over_no_other(stack: Stack) -> None:
    old = stack.put_state(1)
    stack.put_state(2)

    plain = stack.type(f"look {old}; hold; look", f"restore {old}")
    assert plain.returncode != 0
    assert stack.body() == state_of(2)

    stack.emulator.s3.delete_object(Bucket=stack.bucket, Key=f"{KEY}.tflock")
    stack.emulator.dynamodb.delete_item(TableName=stack.table, Key={"LockID": {"S": f"{stack.bucket}/{KEY}"}})
    other = (
        f"aws s3api put-object --bucket {stack.bucket} --key '{KEY}' --body {stack.folder}/other >/dev/null"
    )
    (stack.folder / "other").write_bytes(state_of(3))
    done = stack.type(
        f"look {old}; hold; look",
        f"restore {old} over || exit 8",
        other,
        f"restore {old} over && exit 9",
        "release",
    )

    assert done.returncode == 0, done.stderr
    assert stack.body() == state_of(3)


def test_a_dead_lock_is_taken_over_without_a_gap_and_released_after_the_repair(stack: Stack) -> None:
    stack.put_state(2)
    stack.put_item("-md5", {"Digest": {"S": "0" * 32}})
    stack.put_locks("dead")

    done = stack.type("lockfile; lock", "take_over && look && digest && set_digest && release")

    assert done.returncode == 0, done.stderr
    assert stack.digest() == {"S": md5_of(state_of(2))}
    assert not stack.locked()


@pytest.mark.parametrize(
    "page", sorted((needs.ROOT / "docs" / "runbook").glob("[a-z]*.md")), ids=lambda p: p.stem
)
def test_a_page_of_the_runbook_uses_only_commands_that_its_first_block_defines(page: Path) -> None:
    known = _PROGRAMS | set(_FUNCTION.findall(TOOLBOX))
    for block in _BLOCKS.findall(page.read_text("utf-8")):
        for line in block.splitlines():
            commands = re.split(r"&&|;", line.partition("  #")[0])
            assert {command.split()[0] for command in commands if command.strip()} <= known, line


# ---------------------------------------------------------------- what a page offers


def a_plan(stack: Stack, **changes: Any) -> Plan:
    return Plan(Action.FORCE_UNLOCK, "dev", stack.bucket, KEY, stack.table, "", region=REGION, **changes)


def test_the_commands_of_an_unlock_remove_the_seen_lock_and_no_other(stack: Stack) -> None:
    stack.put_locks("dead")
    item = {"S": lock_record("dead")}
    file = stack.emulator.s3.head_object(Bucket=stack.bucket, Key=f"{KEY}.tflock")["ETag"].strip('"')
    locks = (
        Lock(LockStore.TFLOCK, "", None, etag=file),
        Lock(LockStore.DYNAMODB, item["S"], None, attribute=item),
    )
    commands = [command for _, command in commands_of(a_plan(stack, releases=locks))]

    stack.put_locks("alive")
    assert [stack.type(command).returncode == 0 for command in commands] == [False, False]
    stack.put_locks("dead")
    assert [stack.type(command).returncode == 0 for command in commands] == [True, True]
    assert not stack.locked()

    back = tuple((lock.store, item["S"]) for lock in locks)
    for _, command in commands_of(a_plan(stack, puts_back=back)):
        assert stack.type(f"cd {stack.folder}", command).returncode == 0
    assert stack.body(".tflock") == item["S"].encode()
    assert (stack.item() or {})["Info"] == item


def test_the_commands_of_a_restore_bring_back_the_bytes_and_the_digest(stack: Stack) -> None:
    version = stack.put_state(1)
    stack.emulator.s3.delete_object(Bucket=stack.bucket, Key=KEY)
    stack.put_item("-md5", {"Digest": {"S": "0" * 32}})
    md5 = md5_of(state_of(1))
    source = Source(version, md5, len(state_of(1)), 1, "one", "", 0)
    digest = DigestChange(False, {"S": "0" * 32}, md5)
    commands = [command for _, command in commands_of(a_plan(stack, restores=source, digest=digest))]

    done = stack.type(f"cd {stack.folder}", " && ".join(commands))

    assert done.returncode == 0, done.stderr
    assert stack.body() == state_of(1)
    assert stack.digest() == {"S": md5}
    assert stack.type(f"cd {stack.folder}", commands[1]).returncode != 0
    assert stack.type(commands[2]).returncode != 0


def test_the_commands_that_only_look_find_what_the_page_shows(stack: Stack) -> None:
    version, digest = stack.put_state(1), {"Digest": {"S": "0" * 32}}
    stack.put_locks("dead")
    stack.put_item("-md5", digest)
    seen = seen_with(None, key=KEY, bucket=stack.bucket)
    backend = Backend("dev", stack.bucket, REGION, stack.table, "", str.isascii, lambda _: Policy())
    entry = document(seen, diagnose(seen, Policy(), NOW), backend)
    found = {
        command["label"]: json.loads(stack.type(command["command"]).stdout)
        for command in entry["commands"]
        if not command["command"].startswith("aws s3 cp")  # which the stand-in does not know
    }

    assert [one["VersionId"] for one in found["List the versions"]["Versions"] if one["Key"] == KEY] == [
        version
    ]
    assert found["Read the lock"]["Item"]["Info"] == {"S": lock_record("dead")}
    assert found["Read the digest"]["Item"]["Digest"] == digest["Digest"]
