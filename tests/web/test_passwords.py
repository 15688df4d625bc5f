"""Passwords of local accounts: what is kept, what is taken, and that no time tells whether there is one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from time import process_time

import pytest

from lockboard.web.passwords import LONGEST, METHOD, hash_password, password_is_right, refusal

CHEAP = "scrypt:1024:8:1"
GOOD = "nine quiet herons"


def test_a_hash_is_scrypt_of_the_chosen_cost_and_holds_no_password() -> None:
    kept = hash_password(GOOD)
    assert kept.startswith(f"{METHOD}$")
    assert GOOD not in kept


def test_one_password_hashed_twice_gives_two_texts() -> None:
    assert hash_password(GOOD, CHEAP) != hash_password(GOOD, CHEAP)


def test_only_the_password_itself_is_right() -> None:
    kept = hash_password(GOOD, CHEAP)
    found = {
        given: password_is_right(kept, given) for given in (GOOD, GOOD + " ", GOOD.upper(), GOOD[:-1], "")
    }
    assert found == {GOOD: True, GOOD + " ": False, GOOD.upper(): False, GOOD[:-1]: False, "": False}


def test_accents_are_the_same_however_a_keyboard_makes_them() -> None:
    composed = "crème brûlée à midi"
    apart = unicodedata.normalize("NFD", composed)
    assert composed != apart
    assert password_is_right(hash_password(composed, CHEAP), apart)


@pytest.mark.parametrize(
    "stored", ["", "plain", "scrypt:16:8:1$salt", "md9$salt$00", "scrypt:x:8:1$salt$00", "$$", "pbkdf2:1$s$"]
)
def test_nothing_is_right_where_there_is_no_hash_that_can_be_read(stored: str) -> None:
    assert not any(password_is_right(stored, given) for given in ("", GOOD, stored))


@pytest.mark.parametrize("given", ["x" * (LONGEST + 1), "é" * 513, "\ud800" * 20, "\0" * 2000])
def test_what_is_too_long_or_no_text_is_never_right_and_no_error(given: str) -> None:
    assert not password_is_right(hash_password("", CHEAP), given)


def seconds(check: Callable[[], bool]) -> float:
    """Of the processor, the least of three runs: neither another process nor the thread's turn counts."""
    taken = []
    for _ in range(3):
        began = process_time()
        assert not check()
        taken.append(process_time() - began)
    return min(taken)


def test_an_unknown_account_costs_as_much_as_a_wrong_password() -> None:
    kept = hash_password(GOOD)
    wrong = seconds(lambda: password_is_right(kept, "a wrong password"))
    for nobody in (
        seconds(lambda: password_is_right("", "a wrong password")),
        seconds(lambda: password_is_right(kept, "x" * 5000)),
    ):
        assert wrong / 2 < nobody < wrong * 2


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("eleven char", "fewer than 12 characters"),
        ("", "fewer than 12 characters"),
        ("x" * (LONGEST + 1), "longer than 1024 bytes"),
        ("é" * 513, "longer than 1024 bytes"),
        ("a lone \ud800 surrogate", "is not text"),
        ("kim@example.com", "the account's name"),
        ("KIM@Example.com", "the account's name"),
        (" kim@example.com ", "the account's name"),
        ("Password1234", "first that anybody tries"),
        ("passwordpassword", "first that anybody tries"),
        ("zzzzzzzzzzzz", "first that anybody tries"),
        ("            ", "first that anybody tries"),
    ],
)
def test_a_bad_password_is_refused_with_the_reason_and_not_repeated(password: str, said: str) -> None:
    found = refusal(password, "kim@example.com")
    assert said in found
    assert not password or password not in found


@pytest.mark.parametrize(
    "password", [GOOD, "x1" * 6, "éa" * 341, "日本語のとても長い合言葉です", "kim@example.com!"]
)
def test_a_good_password_is_taken(password: str) -> None:
    assert refusal(password, "kim@example.com") == ""
