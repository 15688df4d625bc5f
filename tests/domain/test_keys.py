"""How Terraform's S3 backend names things, read back from whatever stands in a bucket or a table."""

from __future__ import annotations

from fnmatch import fnmatchcase
from random import Random

import pytest

from lockboard.domain.keys import digest_id, lock_id, matcher, split_lock_id, state_id, workspace_of
from tests.domain.strategies import key, many_inputs, text


@many_inputs
def test_a_lock_id_divides_into_bucket_and_key_or_into_nothing(rnd: Random) -> None:
    whole = text(rnd)

    parts = split_lock_id(whole)

    if parts is None:
        bucket, _, rest = whole.partition("/")
        assert not bucket or not rest or ":accesspoint" in bucket
    else:
        assert all(parts)
        assert "/".join(parts) == whole


@many_inputs
def test_a_lock_id_made_of_bucket_and_key_is_taken_apart_again(rnd: Random) -> None:
    name = key(rnd)

    assert split_lock_id(lock_id("bucket-1", name)) == ("bucket-1", name)
    assert digest_id("bucket-1", name) == lock_id("bucket-1", f"{name}-md5")


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        ("b/a//b/../c", ("b", "a//b/../c")),
        (
            "arn:aws:s3:eu-west-1:1:accesspoint/team/app.tfstate",
            ("arn:aws:s3:eu-west-1:1:accesspoint/team", "app.tfstate"),
        ),
        ("arn:aws:s3:eu-west-1:1:accesspoint/team/a\nb", ("arn:aws:s3:eu-west-1:1:accesspoint/team", "a\nb")),
        ("arn:aws:s3:eu-west-1:1:accesspoint/team/", None),
        ("terragrunt", None),
        ("/app.tfstate", None),
        ("b/", None),
        ("", None),
    ],
)
def test_a_lock_id_is_divided_where_the_bucket_ends(whole: str, parts: tuple[str, str] | None) -> None:
    assert split_lock_id(whole) == parts


@many_inputs
def test_a_workspace_and_its_key_make_the_whole_key_again(rnd: Random) -> None:
    name, prefix = key(rnd), rnd.choice(("env:", "", "work/spaces", text(rnd, 3)))

    found = workspace_of(name, prefix)

    if found is None:
        rest = name.removeprefix(prefix + "/")
        assert not prefix or rest == name or not all(rest.partition("/"))
    else:
        assert all(found)
        assert "/".join((prefix, *found)) == name
        assert "/" not in found[0]


def test_a_key_under_no_prefix_is_the_default_workspace() -> None:
    assert workspace_of("staging/app.tfstate", "") is None
    assert workspace_of("env:/staging") is None
    assert workspace_of("env:/a.b/app.tfstate") == ("a.b", "app.tfstate")


def _pattern(rnd: Random) -> str:
    pieces = (
        "*",
        "?",
        "[a-c]",
        "[!x]",
        "[",
        "]",
        "[z-a]",
        ".tfstate",
        "app",
        "/",
        "-md5",
        "\n",
        text(rnd, 2),
    )
    return "".join(rnd.choice(pieces) for _ in range(rnd.randrange(5)))


@many_inputs
def test_a_matcher_says_what_the_shell_would_of_each_pattern(rnd: Random) -> None:
    patterns = [_pattern(rnd) for _ in range(rnd.randrange(4))]
    name = rnd.choice((key(rnd), "app" + rnd.choice(patterns or [""]).strip("*"), "a.tfstate"))

    assert matcher(patterns)(name) == any(fnmatchcase(name, pattern) for pattern in patterns)


def test_a_hostile_pattern_costs_no_more_time_than_a_plain_one() -> None:
    assert not matcher(["*a*a*a*a*a*a*a*a*a*a*b?"])("a" * 1024)


@many_inputs
def test_a_state_has_an_address_of_16_hexadecimal_digits_whatever_its_key(rnd: Random) -> None:
    backend, name = text(rnd, 3), key(rnd)

    address = state_id(backend, name)

    assert len(address) == 16
    assert int(address, 16) >= 0
    assert state_id(backend, name) == address != state_id(backend, name + "x")
