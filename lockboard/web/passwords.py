"""Passwords of local accounts: hashed with scrypt, compared in a time that tells nothing of whether there is
an account, and what a new one has to be.
"""

from __future__ import annotations

import threading
import unicodedata

from werkzeug.security import check_password_hash, generate_password_hash

METHOD = "scrypt:32768:8:3"
"""Werkzeug's name for N = 2^15, r = 8, p = 3, in 32 MiB: one of the equal choices of OWASP's password storage
cheat sheet.
"""
AT_ONCE = 2
"""Hashes computed at one time: more would only take memory, 32 MiB each, from what serves the pages."""

SHORTEST = 12
"""Characters."""
LONGEST = 1024
"""Bytes in UTF-8."""

_OBVIOUS = frozenset(
    {
        "000000000000",
        "111111111111",
        "123123123123",
        "123456123456",
        "123456789012",
        "1234567890123",
        "12345678901234",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "abcdefghijkl",
        "administrator",
        "administrator1",
        "changemechangeme",
        "correcthorsebatterystaple",
        "iloveyouiloveyou",
        "letmeinletmein",
        "lockboardlockboard",
        "lockboard123",
        "lockboard1234",
        "password1234",
        "password12345",
        "password123456",
        "passwordpassword",
        "qwerty123456",
        "qwertyqwerty",
        "qwertyuiop12",
        "qwertyuiop123",
        "qwertyuiopasdfghjkl",
        "terraform123",
        "terraform1234",
        "terraformterraform",
        "welcome12345",
    }
)


_turns = threading.BoundedSemaphore(AT_ONCE)

_NOBODY = f"{METHOD}$nobodynobodynobo${'0' * 128}"
"""Costs what any other does to compare with, and equals none: no password is known to give all zeros."""


def hash_password(password: str, method: str = METHOD) -> str:
    """What is kept of a password that `refusal` has nothing against. method: as Werkzeug writes it."""
    with _turns:
        return generate_password_hash(_normal(password), method)


def password_is_right(stored: str, given: str) -> bool:
    """Whether `given` has this hash; never where there is none (""), which takes as long."""
    fits = _size(given) <= LONGEST
    equal = _equal(stored or _NOBODY, _normal(given) if fits else "")
    return equal and fits and stored != ""


def _equal(stored: str, given: str) -> bool:
    with _turns:
        try:
            return check_password_hash(stored, given)
        except ValueError:  # a hash that was changed by hand
            return False


def refusal(password: str, account_name: str) -> str:
    """Why this may not be the password of the account: a sentence without the password, "" where it may."""
    size = _size(password)
    if size > LONGEST:
        return f"The password is longer than {LONGEST} bytes, or is not text."
    if len(_normal(password)) < SHORTEST:
        return f"The password has fewer than {SHORTEST} characters."
    plain = _normal(password).casefold().strip()
    if plain == account_name.casefold():
        return "The password is the account's name."
    if plain in _OBVIOUS or len(set(plain)) <= 1:
        return "The password is one of the first that anybody tries."
    return ""


def _size(password: str) -> int:
    """Bytes in UTF-8; more than any limit for what is no text."""
    if len(password) > LONGEST:
        return LONGEST + 1
    try:
        return len(password.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return LONGEST + 1


def _normal(password: str) -> str:
    """The same whether a keyboard composes its accents or the system does."""
    return unicodedata.normalize("NFKC", password)
