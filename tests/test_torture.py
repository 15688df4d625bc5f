"""Kills, a sample: every action at every point of its way once, on the two databases by turns. `make
torture` does the full thousand on each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.faults import Seen
from torture.arena import Arena, Standing, Trial
from torture.deeds import DEEDS, Change
from torture.points import Point, Where, spot_of
from torture.running import open_arena
from torture.truth import Fault, change_of, faults_of

UNLOCK, DIGEST, TAKE_OVER = DEEDS[0], DEEDS[2], DEEDS[4]


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with open_arena("SQLite", "moto") as arena:
        yield arena


def broken_in(arena: Arena, turn: int) -> list[tuple[str, str, Fault]]:
    """What every other point of each action breaks, by name, and what is seen only at the end."""
    kills = [
        (deed, point)
        for row, deed in enumerate(DEEDS)
        for column, point in enumerate(Point)
        if (row + column) % 2 == turn
    ]
    assert len(kills) == len(DEEDS) * len(Point) // 2
    found = [
        (deed.name, point.name, fault)
        for deed, point in kills
        for fault in faults_of(arena.hold(deed, point, 0))
    ]
    problem, leaks = arena.broken_chain(), arena.leaks()
    found += [("", "", ("I8", problem))] if problem else []
    return found + [("", "", ("I9", where)) for where in leaks]


def test_a_kill_at_half_of_all_points_breaks_no_promise(arena: Arena) -> None:
    assert broken_in(arena, 0) == []


@pytest.mark.postgres
def test_nor_does_one_at_the_other_half_with_postgresql() -> None:
    with open_arena("PostgreSQL", "moto") as arena:
        assert broken_in(arena, 1) == []


@pytest.fixture(scope="module")
def repaired(arena: Arena) -> Trial:
    """A digest repair that was killed once it was done."""
    return arena.hold(DIGEST, Point.K5, 0)


@pytest.fixture(scope="module")
def unlocked(arena: Arena) -> Trial:
    """A lock removed, and nothing recorded of it before the restart."""
    return arena.hold(UNLOCK, Point.K5, 0)


def broken(trial: Trial) -> set[str]:
    return {invariant for invariant, _ in faults_of(trial)}


def settled(trial: Trial, **changes: Any) -> Trial:
    return replace(trial, settled={**trial.settled, **changes})


def recorded(trial: Trial, **changes: str) -> Trial:
    intent, outcome = trial.settled["records"]
    return settled(trial, records=[intent, {**outcome, **changes}])


def standing(trial: Trial, **changes: Any) -> Trial:
    after: Standing = replace(trial.after, **changes)
    return replace(trial, after=after)


def change(trial: Trial, wanted: Change) -> Seen:
    return next(seen for seen in trial.writes if change_of(seen, trial.before) is wanted)


LIES: dict[str, tuple[str, Callable[[Trial], Trial]]] = {
    "the process lives on": ("I0", lambda t: replace(t, ended={"signal": 0, "status": 0})),
    "no intent": ("I1", lambda t: replace(t, unintended=("PutObject of no action",))),
    "an open intent": ("I2", lambda t: settled(t, open=["a"])),
    "settled while it may be at work": ("I2", lambda t: settled(t, settled=[1, 0, 0])),
    "settled twice": ("I2", lambda t: settled(t, settled=[0, 1, 1])),
    "no outcome": ("I2", lambda t: settled(t, records=t.settled["records"][:1])),
    "done twice": ("I3", lambda t: replace(t, writes=(*t.writes, change(t, Change.DIGEST)))),
    "another digest": ("I5", lambda t: standing(t, digest="0" * 32)),
    "a version gone": ("I6", lambda t: standing(t, versions={})),
    "another's lock": ("I7", lambda t: standing(t, item='{"ID":"x"}')),
    "the wrong word": ("I10", lambda t: recorded(t, result="failed")),
    "a word less than is known": ("I10", lambda t: recorded(t, result="unknown")),
    "a page with other words": ("I10", lambda t: settled(t, page=[200, "all is well"])),
    "not mended": ("I10", lambda t: standing(t, digest=t.before.digest)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_broken_promise_is_found(repaired: Trial, lie: str) -> None:
    invariant, tell = LIES[lie]
    assert broken(repaired) == set()
    assert invariant in broken(tell(repaired))


def test_a_lock_removed_that_nobody_confirmed_is_found(unlocked: Trial) -> None:
    (removal,) = unlocked.writes
    document = removal.document
    document["TransactItems"][0]["Delete"]["ExpressionAttributeValues"][":old"]["S"] = "another"
    other = replace(removal, body=json.dumps(document).encode())
    assert broken(unlocked) == set()
    assert broken(replace(unlocked, writes=(other,))) == {"I4"}


def test_a_secret_that_leaks_is_found(arena: Arena) -> None:
    leak = arena.folder / "leak.log"
    leak.write_text(f"so much for {arena.place.canary}")
    assert arena.leaks() == ["leak.log"]
    leak.unlink()


def test_every_point_lies_at_a_place_of_its_own_and_all_writes_get_their_turn() -> None:
    for deed in DEEDS:
        assert len({spot_of(deed, point, 0) for point in Point}) == len(Point)
        arrived = {spot_of(deed, Point.K4, turn) for turn in range(25)}
        assert {spot.passed for spot in arrived} == set(range(len(deed.order)))
        assert {spot.where for spot in arrived} == {Where.ARRIVED}
