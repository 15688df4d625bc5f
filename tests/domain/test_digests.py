"""The Digest attribute is honoured exactly where Terraform honours it."""

from __future__ import annotations

import re
from random import Random

import pytest

from lockboard.domain.digests import parse_digest
from tests.domain.strategies import attribute, many_inputs, text
from tests.domain.test_text import is_clean

MD5 = "01a71b5ed062f690ccbfaed0d029a9a9"


@many_inputs
def test_any_attribute_is_a_valid_digest_or_one_with_its_problem_in_words(rnd: Random) -> None:
    string = rnd.choice(
        (
            text(rnd, 40),
            "".join(rnd.choice("0123456789abcdefABCDEFg") for _ in range(rnd.choice((31, 32, 32, 33)))),
        )
    )
    given_attribute = attribute(rnd, string)

    found = parse_digest(given_attribute)

    honoured = given_attribute == {"S": string} and re.fullmatch("[0-9a-fA-F]{32}", string, re.ASCII)
    assert found.value == (string.lower() if honoured else None)
    assert found.valid == (found.problem is None) == bool(honoured)
    assert is_clean(found.raw)
    assert is_clean(found.problem or "")


def test_upper_case_is_accepted() -> None:
    assert parse_digest({"S": MD5.upper()}).value == MD5


@pytest.mark.parametrize(
    "spoilt",
    [
        None,
        {"S": ""},
        {"S": MD5[:31]},
        {"S": MD5 + "0"},
        {"S": MD5 + "\n"},
        {"S": f'"{MD5}"'},
        {"S": "g" * 32},
        {"S": "٣" * 32},
        {"N": "1"},
        {"B": bytes.fromhex(MD5)},
        {"NULL": True},
        {"S": "AacbXtBi9pDMv67Q0CmpqQ=="},
    ],
)
def test_what_terraform_ignores_is_ignored(spoilt: dict[str, object] | None) -> None:
    assert not parse_digest(spoilt).valid
