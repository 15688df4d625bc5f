"""The commands that a page offers: they say what the plan does, and no word in them does anything else."""

from __future__ import annotations

import json
import shlex
from random import Random

import pytest

from lockboard.domain.commands import LONGEST, commands_of
from lockboard.domain.keys import digest_id, lock_id
from lockboard.domain.locks import Lock, LockStore
from lockboard.domain.model import Action
from lockboard.domain.plans import DigestChange, Plan, Refused, Source, Standing
from tests.domain.strategies import many_inputs
from tests.domain.test_plans import drawn

HOSTILE = "'; touch pwned; echo '$(id)`id`\n--debug"


def plan(**changes: object) -> Plan:
    found: dict[str, object] = {
        "table": "t",
        "bucket": "b",
        "key": "k",
        "backend": "dev",
        "region": "eu-west-1",
    }
    return Plan(**{"action": Action.FORCE_UNLOCK, "title": "", **found, **changes})  # type: ignore[arg-type]


def words(command: str) -> list[str]:
    return shlex.split(command)


def transaction(command: str) -> dict[str, dict[str, object]]:
    assert words(command)[:4] == ["aws", "dynamodb", "transact-write-items", "--region=eu-west-1"]
    (option,) = words(command)[4:]
    (change,) = json.loads(option.removeprefix("--transact-items="))
    return change  # type: ignore[no-any-return]


@many_inputs
def test_every_write_of_a_plan_is_a_command_with_a_condition(rnd: Random) -> None:
    _, seen, _, made = drawn(rnd)
    if isinstance(made, Refused):
        return

    for _, command in made.commands:
        assert len(command) <= LONGEST
        typed = words(command)
        if typed[0] == "terraform":
            assert len(typed) == 3
        elif typed[1] == "dynamodb":
            (change,) = transaction(command).values()
            assert change["TableName"] == made.table
            named = change.get("Key") or change["Item"]
            assert isinstance(named, dict)
            assert named["LockID"]["S"] in (
                lock_id(seen.bucket, seen.key),
                digest_id(seen.bucket, seen.key),
            )
            assert "LockID" in str(change["ConditionExpression"])
        elif typed[2] != "get-object":
            assert f"--bucket={seen.bucket}" in typed
            assert any(word.startswith(("--if-match=", "--if-none-match=")) for word in typed)


@pytest.mark.parametrize("raw", [HOSTILE, "not json", '{"Who":"한국"}', "\ud83d\ude00"])
def test_a_lock_item_is_compared_with_exactly_what_was_seen(raw: str) -> None:
    attribute = {"S": raw}
    lock = Lock(LockStore.DYNAMODB, raw, None, attribute=attribute)

    ((_, command),) = commands_of(plan(releases=(lock,)))

    change = transaction(command)["Delete"]
    assert change["ExpressionAttributeValues"] == {":seen": json.loads(json.dumps(attribute))}
    assert change["Key"] == {"LockID": {"S": "b/k"}}
    assert "attribute_not_exists(Digest)" in str(change["ConditionExpression"])


def test_an_item_without_a_record_is_removed_only_while_it_has_none() -> None:
    ((_, command),) = commands_of(plan(releases=(Lock(LockStore.DYNAMODB, "", None),)))

    change = transaction(command)["Delete"]
    assert "attribute_not_exists(Info)" in str(change["ConditionExpression"])
    assert "ExpressionAttributeValues" not in change


def test_a_hostile_key_and_version_stay_one_word_each() -> None:
    key = HOSTILE.replace("\n", " ")
    source = Source("--v'1", "0" * 32, 9, 3, "one", "", 1)
    made = plan(key=key, restores=source, standing=Standing("e" * 32, "v2", None, 9, 4))

    (_, fetch), (_, put) = commands_of(made)

    assert words(fetch)[4:] == ["--bucket=b", f"--key={key}", "--version-id=--v'1", "restored.tfstate"]
    assert words(put)[-1] == f'--if-match="{"e" * 32}"'


def test_over_a_delete_marker_a_version_is_put_only_where_nothing_stands() -> None:
    _, (_, put) = commands_of(plan(restores=Source("v1", "0" * 32, 9, 3, "one", "", 1)))

    assert words(put)[-1] == "--if-none-match=*"


@pytest.mark.parametrize(
    ("change", "kind", "condition"),
    [
        (DigestChange(True, None, "a" * 32), "Put", "attribute_not_exists(LockID)"),
        (DigestChange(False, {"S": "x"}, "a" * 32), "Update", "Digest = :seen"),
        (DigestChange(False, None, "a" * 32), "Update", "attribute_not_exists(Digest)"),
        (DigestChange(False, {"S": "x"}, None), "Delete", "Digest = :seen"),
    ],
)
def test_a_digest_is_changed_only_from_what_was_seen(change: DigestChange, kind: str, condition: str) -> None:
    ((_, command),) = commands_of(plan(digest=change))

    ((made, item),) = transaction(command).items()
    assert made == kind
    assert condition in str(item["ConditionExpression"])


def test_commands_name_the_region_of_the_backend() -> None:
    change = DigestChange(True, None, "d" * 32)
    found = [text for _, text in commands_of(plan(digest=change, region="ap-northeast-2"))]
    found += [
        text for _, text in commands_of(plan(puts_back=((LockStore.TFLOCK, "{}"),), region="eu-west-1"))
    ]

    assert ["--region=ap-northeast-2" in words(found[0]), "--region=eu-west-1" in words(found[1])] == [
        True,
        True,
    ]


def test_no_command_holds_a_record_that_would_be_read_otherwise_than_it_is() -> None:
    back = ((LockStore.TFLOCK, '{"Who":"\u202eroot"}'), (LockStore.DYNAMODB, '{"Who":"\u202eroot"}'))

    (found,) = commands_of(plan(puts_back=back))

    assert "\u202e" not in found[1]


def test_no_command_holds_a_version_id_that_would_be_read_otherwise_than_it_is() -> None:
    source = Source("x\u200bx", "a" * 32, 900, 1, "one", "yesterday", 3)

    (back,) = commands_of(plan(restores=source))

    assert "--version-id" not in back[1]


def test_a_lock_is_put_back_as_it_was_and_only_where_none_stands() -> None:
    both = ((LockStore.TFLOCK, HOSTILE), (LockStore.DYNAMODB, HOSTILE))

    (_, file), (_, item) = commands_of(plan(puts_back=both))

    assert words(file)[:3] == ["printf", "%s", HOSTILE]
    assert words(file)[-1] == "--if-none-match=*"
    assert transaction(item)["Put"]["Item"] == {"LockID": {"S": "b/k"}, "Info": {"S": HOSTILE}}


def test_a_key_that_no_terminal_can_show_has_no_commands() -> None:
    lock = Lock(LockStore.TFLOCK, "", None, etag="e")
    assert commands_of(plan(releases=(lock,)))
    assert not commands_of(plan(key="a\u202eb", releases=(lock,)))


def test_a_command_too_long_for_a_hand_is_left_out() -> None:
    lock = Lock(LockStore.DYNAMODB, "x" * 5000, None, attribute={"S": "x" * 5000})
    assert not commands_of(plan(releases=(lock,)))
