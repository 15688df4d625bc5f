"""The ten moments at which a process is killed, and where in each action they lie."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from torture.deeds import Deed


class Point(StrEnum):
    """A moment of an action. The value says it in words."""

    K0 = "authorised"
    K1 = "intent committed"
    K2 = "Terraform's lock taken"
    K3 = "pre-read done"
    K4 = "request about to be sent"
    K5 = "AWS committed, reply unread"
    K6 = "reply read"
    K7 = "outcome committed"
    K8 = "Terraform's lock released"
    K9 = "answer sent"


class Where(StrEnum):
    """What is passed, for the time counted from 0, when the process dies."""

    LOOKED = "the log was asked whether the form was sent before"
    INTENT_NEXT = "the intent is about to be recorded"
    INTENT = "the intent is recorded"
    WRITE_NEXT = "a write is about to be asked of the adapter"
    WRITE = "a write's receipt is there"
    READ = "a read after the intent is done"
    OUTCOME_NEXT = "the outcome is about to be recorded"
    OUTCOME = "the outcome is recorded"
    ANSWER = "the answer has left"
    ARRIVED = "a change arrived at the proxy and is not passed on"
    DONE = "the service did a change, and the reply is held back"


AT_PROXY = (Where.ARRIVED, Where.DONE)


class Spot(NamedTuple):
    """One moment of one process. passed: how many such are let pass before."""

    where: Where
    passed: int = 0


def spot_of(deed: Deed, point: Point, turn: int) -> Spot:
    """Where a point lies in a deed. The first turn takes the main one of several places, later ones the
    others.

    An unlock takes no lock of Lockboard's: its K2 is the moment before the only write, its K3 the end of
    the fresh read that goes before the intent, and its K8 lies between the removal and the record of it.
    """
    if point in (Point.K4, Point.K5, Point.K6):
        nth = deed.order[turn % len(deed.order)]
        return Spot({Point.K4: Where.ARRIVED, Point.K5: Where.DONE, Point.K6: Where.WRITE}[point], nth)
    if point in (Point.K2, Point.K3, Point.K8):
        return (_of_held if deed.held else _of_unlock)(deed, point, turn)
    return {
        Point.K0: Spot(Where.INTENT_NEXT),
        Point.K1: Spot(Where.INTENT),
        Point.K7: Spot(Where.OUTCOME),
        Point.K9: Spot(Where.ANSWER),
    }[point]


def _of_unlock(deed: Deed, point: Point, turn: int) -> Spot:
    looked = Spot(Where.LOOKED, 1)
    return {Point.K2: Spot(Where.WRITE_NEXT), Point.K3: looked, Point.K8: Spot(Where.OUTCOME_NEXT)}[point]


def _of_held(deed: Deed, point: Point, turn: int) -> Spot:
    """Turns alternate between both locks taken, or released, and the file's alone."""
    other = turn % 2
    if point is Point.K2:
        return Spot(Where.WRITE, 1 - other)
    if point is Point.K3:
        return Spot(Where.READ, 0 if other else deed.reads - 1)
    return Spot(Where.WRITE, len(deed.order) - 1 - other)


def relapse_of(turn: int) -> Spot | None:
    """Where the restarted process is killed as well, so that a third has to settle what is left; None for
    not at all, which is so in two turns of three.
    """
    if turn % 3 != 2:
        return None
    return Spot(Where.WRITE) if turn % 2 else Spot(Where.OUTCOME_NEXT)
