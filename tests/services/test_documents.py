"""The entry of each key in the contract: complete, storable, the same until something changes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import timedelta
from random import Random

from lockboard.domain.diagnose import diagnose
from lockboard.domain.model import Backend
from lockboard.services.documents import document, served
from tests.domain.strategies import NOW, POLICY, observation, some_inputs
from tests.domain.test_diagnose import FILE, GOOD, MARKER, NEW, V2, a_lock, seen_with, version
from tests.domain.test_text import is_clean

BACKEND = Backend("dev", "b", "eu-west-1", "locks", "", str.isascii, lambda _: POLICY)
CONTRACT = {
    "id",
    "backend",
    "bucket",
    "key",
    "severity",
    "content",
    "lock",
    "terraform",
    "summary",
    "object",
    "digest",
    "locks",
    "remedies",
}
OBJECT = {"exists", "version_id", "etag", "size", "last_modified", "md5", "serial", "lineage"}


@some_inputs
def test_any_entry_can_be_stored_and_served_with_all_its_names(rnd: Random) -> None:
    seen = observation(rnd)
    entry = document(seen, diagnose(seen, POLICY, NOW), BACKEND)
    stored = json.loads(json.dumps(entry))

    given = served(stored, NOW, NOW)

    assert stored == entry
    assert given.keys() >= CONTRACT | {"checked_at"}
    assert given["object"].keys() >= OBJECT
    assert given["digest"].keys() >= {"present", "valid", "value"}
    assert all(lock["age_seconds"] is None or lock["age_seconds"] >= 0 for lock in given["locks"])
    assert _dirty({**given, "raw_key": ""}) == []


def _dirty(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _dirty(item)]
    if isinstance(value, list):
        return [text for item in value for text in _dirty(item)]
    lines = value.split("\n") if isinstance(value, str) else []
    return [line for line in lines if not is_clean(line)]


@some_inputs
def test_a_command_names_exactly_the_key_or_is_not_given(rnd: Random) -> None:
    seen = observation(rnd)
    entry = document(seen, diagnose(seen, POLICY, NOW), BACKEND)

    for command in entry["commands"]:
        words = shlex.split(command["command"])
        assert words[0] in ("aws", "terraform")
        assert words[0] == "terraform" or words[3] == "--region=eu-west-1"
        if words[1] == "s3api":
            assert f"--prefix={seen.key}" in words
        if words[1] == "dynamodb":
            name = json.loads(
                next(word for word in words if word.startswith("--key=")).removeprefix("--key=")
            )
            assert name["LockID"]["S"] in (f"b/{seen.key}", f"b/{seen.key}-md5")


def test_an_entry_is_the_same_at_another_time_but_for_the_ages_it_is_served_with() -> None:
    seen = seen_with(GOOD, V2, table=a_lock())
    entries = [
        document(seen, diagnose(seen, POLICY, at), BACKEND) for at in (NOW, NOW + timedelta(minutes=9))
    ]

    assert entries[0] == entries[1]
    ages = [
        served(entries[0], at, None)["locks"][0]["age_seconds"] for at in (NOW, NOW + timedelta(minutes=9))
    ]
    assert ages == [60, 600]


def test_a_lock_from_the_future_has_no_age() -> None:
    near, far = (
        seen_with(GOOD, V2, table=a_lock(ago=-ahead))
        for ahead in (timedelta(minutes=4), timedelta(minutes=6))
    )

    given = [served(document(seen, diagnose(seen, POLICY, NOW), BACKEND), NOW, None) for seen in (near, far)]

    assert [entry["locks"][0]["age_seconds"] for entry in given] == [0, None]


def test_a_lock_of_the_first_century_is_served() -> None:
    lock = a_lock()
    assert lock.info is not None
    seen = seen_with(GOOD, V2, table=replace(lock, info=replace(lock.info, created=NOW.replace(year=33))))

    entry = served(document(seen, diagnose(seen, POLICY, NOW), BACKEND), NOW, None)

    assert entry["locks"][0]["created"] == "0033-11-20T18:00:00Z"


def test_the_version_that_the_digest_names_is_marked_and_no_other() -> None:
    seen = seen_with(None, V2, MARKER, version("v2", NEW), version("v1", replace(NEW, md5="0" * 32)))
    entry = document(seen, diagnose(seen, POLICY, NOW), BACKEND)

    assert [(v["version_id"], v["names_digest"], v["delete_marker"]) for v in entry["versions"]] == [
        ("marker", False, True),
        ("v2", True, False),
        ("v1", False, False),
    ]
    assert entry["remedies"][0] == {
        "action": "restore_version",
        "recommended": True,
        "why": entry["remedies"][0]["why"],
        "version_id": "v2",
    }


def test_what_was_last_checked_by_hand_counts_as_checked() -> None:
    entry = {"locks": [], "rechecked_at": "2026-11-20T18:00:00Z"}

    assert served(entry, NOW, NOW - timedelta(minutes=1))["checked_at"] == "2026-11-20T18:00:00Z"
    assert served(entry, NOW, NOW + timedelta(minutes=1))["checked_at"] == "2026-11-20T18:01:00Z"
    assert served({"locks": []}, NOW, None)["checked_at"] is None


def test_an_id_that_could_be_a_command_is_never_put_into_one() -> None:
    seen = seen_with(GOOD, V2, file=a_lock(FILE, "$(rm -rf /)"))
    entry = document(seen, diagnose(seen, POLICY, NOW), BACKEND)

    assert not any("force-unlock" in command["command"] for command in entry["commands"])
