"""Untrusted text is shown as one clean line; times and spans are spelt the same in every year there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from random import Random
from unicodedata import category

import pytest

from lockboard.domain.text import shown, spoken_span, spoken_time, utc
from tests.domain.strategies import ODD, many_inputs, text

DRAWN_AS_NOTHING = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x2800,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0000, 0xE1000),
}
"""Unicode's Default_Ignorable_Code_Point outside the classes of control and format, and the Braille blank."""


def is_clean(line: str) -> bool:
    """Whether it is printable, visible, one line, and can be stored anywhere."""
    encoded = line.encode()
    return (
        line.isprintable()
        and b"\0" not in encoded
        and len(line.splitlines()) <= 1
        and not any(ord(char) in DRAWN_AS_NOTHING or category(char)[0] == "C" for char in line)
    )


@many_inputs
def test_what_is_shown_is_one_clean_line(rnd: Random) -> None:
    raw = text(rnd, 30)

    assert is_clean(shown(raw))


@many_inputs
def test_what_is_shown_is_bounded_and_tells_how_much_is_missing(rnd: Random) -> None:
    raw, limit = text(rnd, 30), rnd.randrange(1, 20)

    line = shown(raw, limit)

    assert is_clean(line)
    assert len(line) <= 10 * limit + 40
    assert (len(raw) > limit) == line.endswith(f"… ({len(raw) - limit} more characters)")


def test_a_character_that_draws_nothing_is_written_out() -> None:
    assert [code for code in DRAWN_AS_NOTHING if not shown(f"a{chr(code)}b").isascii()] == []


def test_plain_text_of_any_script_stays_as_it_is() -> None:
    line = "Dev/한국/café app+1?&#%41'\"<b>\\ 🔒.tfstate"

    assert shown(line) == line


def test_two_texts_that_look_alike_by_an_odd_character_are_shown_differently() -> None:
    assert len({shown(f"app{odd}") for odd in ODD}) == len(ODD)


@many_inputs
def test_a_time_is_spelt_in_utc_and_read_back_in_every_year(rnd: Random) -> None:
    moment = datetime(rnd.randrange(2, 9999), rnd.randrange(1, 13), rnd.randrange(1, 29), tzinfo=UTC)
    moment += timedelta(seconds=rnd.randrange(86_400))
    elsewhere = moment.astimezone(timezone(timedelta(minutes=rnd.randrange(-1400, 1400))))

    assert datetime.fromisoformat(utc(elsewhere)) == moment
    assert spoken_time(elsewhere) == utc(moment).replace("T", " ").replace("Z", " UTC")


def test_a_time_of_a_year_below_1000_keeps_its_four_digits() -> None:
    assert utc(datetime(33, 4, 3, 15, 0, tzinfo=UTC)) == "0033-04-03T15:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (45.9, "45 s"),
        (60, "1 min"),
        (90, "1 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (11520, "3 h 12 min"),
        (86400, "1 d"),
        (86430, "1 d"),
        (187200, "2 d 4 h"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert spoken_span(timedelta(seconds=seconds)) == said
