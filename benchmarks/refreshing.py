"""A whole refresh of an estate in which nothing changed, and what it takes in requests, rows and memory."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from benchmarks.children import Child
from benchmarks.figures import Figure, ratio_of, spoken

LATENCY = 0.03
"""Seconds from a request to its answer."""
GET_THREADS = 32
MEMORY_MB = 400.0


class Outcome(NamedTuple):
    """notes: what the table has no room for."""

    figures: list[Figure]
    notes: list[str]


class _Rounds(NamedTuple):
    """Seconds of each round: of ours, of the textbook, of a GET for one key. asked: requests of our last."""

    ours: list[float]
    textbook: list[float]
    get: list[float]
    written: int
    asked: dict[str, int]


def measure(endpoint: Child, ours: Child, textbook: Child, keys: int, rounds: int, sample: int) -> Outcome:
    """`sample`: how many keys are read one by one; their time is scaled up to `keys`."""
    endpoint.ask("tune", latency=LATENCY)
    first = ours.ask("refresh")
    if first["states"] != keys:
        raise RuntimeError(f"{first['states']} of {keys} keys were found")
    ours.ask("refresh")
    names = endpoint.ask("keys_of", count=sample)["keys"]
    found = _rounds(endpoint, ours, textbook, names, rounds)
    floor, peak = endpoint.ask("floor"), ours.ask("peak")["mb"]
    off = sum(abs(found.asked.get(kind, 0) - floor.get(kind, 0)) for kind in found.asked | floor)
    took, whole = spoken(median(found.ours)), [seconds * keys for seconds in found.get]
    one_by_one = f"refresh, nothing new: a GET each, {GET_THREADS} threads"
    figures = [
        _faster("refresh, nothing new: every row upserted", took, found.textbook, found.ours, 4),
        _faster(one_by_one, took, whole, found.ours, 25),
        _at_most("requests of that refresh off the floor", str(off), off, 0, "requests"),
        _at_most("rows written by that refresh", str(found.written), found.written, 0, "rows"),
        _at_most("peak memory of the refresher", f"{peak:.0f} MB", peak, MEMORY_MB, "MB"),
    ]
    notes = [
        f"First fill of {keys:,} keys: {spoken(first['seconds'])}, of which {spoken(first['cpu'])} CPU.",
        f"Requests of an unchanged refresh: {_counted(found.asked)}. The floor: {_counted(floor)}.",
        _about_gets(len(names), keys, median(found.get)),
    ]
    return Outcome(figures, notes)


def _rounds(endpoint: Child, ours: Child, textbook: Child, names: list[str], rounds: int) -> _Rounds:
    found = _Rounds([], [], [], 0, {})
    for _ in range(rounds):
        found.textbook.append(textbook.ask("refresh")["seconds"])
        before = endpoint.ask("counts")
        refreshed = ours.ask("refresh")
        after = endpoint.ask("counts")
        found.ours.append(refreshed["seconds"])
        found.get.append(textbook.ask("get_each", keys=names, threads=GET_THREADS)["seconds"] / len(names))
        asked = {kind: after[kind] - before.get(kind, 0) for kind in after}
        asked = {kind: count for kind, count in asked.items() if count}
        found = found._replace(written=found.written + refreshed["written"], asked=asked)
    return found


def _faster(name: str, took: str, theirs: list[float], ours: list[float], bound: float) -> Figure:
    ratio = ratio_of(zip(theirs, ours, strict=True))
    return Figure(name, took, spoken(median(theirs)), ratio, bound, at_least=True)


def _at_most(name: str, printed: str, value: float, bound: float, unit: str) -> Figure:
    return Figure(name, printed, "", value, bound, at_least=False, unit=unit)


def _counted(requests: Mapping[str, int]) -> str:
    return " and ".join(f"{count} {kind}" for kind, count in sorted(requests.items()))


def _about_gets(read: int, keys: int, each: float) -> str:
    if read == keys:
        return f"A GET for each key: all {keys:,} were read."
    product = spoken(each * keys)
    return f"A GET for each key: {read:,} keys were read, {spoken(each)} each, times {keys:,} is {product}."
