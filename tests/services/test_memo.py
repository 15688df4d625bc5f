"""What is remembered of a key survives being stored, and whatever else is stored breaks nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random

import pytest

from lockboard.domain.bodies import Body, BodyKind
from lockboard.services.memo import Memo, Since, dump, load, since
from tests.domain.strategies import NOW, any_json, body, json_text, many_inputs, moment, text

FULL = Memo(
    Since("absent 0", NOW),
    Since("dynamodb:id", NOW - timedelta(hours=1)),
    {
        "v1": Body("0" * 32, 3, BodyKind.BROKEN, "it is not JSON"),
        "v2": Body("1" * 32, 9, BodyKind.STATE, serial=2),
    },
    "app-md5",
    lockfile_history=True,
)


@many_inputs
def test_a_memo_is_loaded_as_it_was_dumped(rnd: Random) -> None:
    bodies = {_plain(rnd): held for held in (body(rnd) for _ in range(3)) if isinstance(held, Body)}
    suspicion = rnd.choice((None, Since(_plain(rnd), moment(rnd))))
    memo = Memo(
        suspicion, rnd.choice((None, suspicion)), bodies, rnd.choice((None, _plain(rnd))), rnd.random() < 0.5
    )

    assert load(dump(memo)) == memo
    assert dump(memo).isascii()


def _plain(rnd: Random) -> str:
    return text(rnd, 4).encode("utf-8", "replace").decode()


@many_inputs
def test_any_stored_text_is_a_memo_or_an_empty_one(rnd: Random) -> None:
    whole = dump(FULL)
    at = rnd.randrange(len(whole))
    other = dict(zip("mlbsf", (any_json(rnd, 2) for _ in range(5)), strict=True))
    for stored in (
        text(rnd),
        json_text(rnd, any_json(rnd)),
        whole[:at],
        whole[:at] + whole[at + 1 :],
        json.dumps(other),
    ):
        assert isinstance(load(stored), Memo)


def test_nothing_to_remember_is_stored_as_nothing() -> None:
    assert dump(Memo()) == ""
    assert load("") == Memo()


@pytest.mark.parametrize("moment", ["2026-11-20T18:00:00", "yesterday"])
def test_a_time_without_a_zone_is_not_believed(moment: str) -> None:
    stored = dump(FULL).replace("2026-11-20T18:00:00+00:00", moment)

    assert load(stored) == Memo()


def test_a_suspicion_goes_on_while_its_facts_stay_and_begins_anew_when_they_change() -> None:
    later = NOW + timedelta(seconds=7)
    begun = since(None, "a", NOW)

    assert begun == Since("a", NOW)
    assert since(begun, "a", later) == begun
    assert since(begun, "b", later) == Since("b", later)
    assert since(begun, None, later) is None


def test_the_bodies_last_read_are_kept_and_the_oldest_let_go() -> None:
    memo = Memo()
    for number in range(100):
        memo = memo.with_body(f"v{number}", Body("0" * 32, number, BodyKind.STATE))

    assert list(memo.bodies) == [f"v{number}" for number in range(60, 100)]
