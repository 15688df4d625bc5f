"""The phases of a run, each judged against what the server did alone a minute before."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.children import Child
from benchmarks.figures import Figure, spoken
from load.browsers import RUSHED, person
from load.house import ESTATE, LOOK_SECONDS, Held, House
from load.visitors import Visitor, form_of
from lockboard.domain.keys import LOCKFILE_SUFFIX, lock_id, state_id
from torture.deeds import Place

CHURN = 100
"""Locks that move between two refreshes, so that every refresh is news for everybody."""
LATENCY = 0.03
MOST_MB = 512.0
REFUSALS = 2
"""How often a release may be refused in a run because the page that asked for it had become untrue."""
SLOWEST_PROBE = 2.0
KINDS = {
    "list": "a page of the list",
    "filter": "a filtered list",
    "key": "the page of a key",
    "find": "a search",
    "health": "the health page",
    "rows": "the rows anew, after news",
    "pulse": "a look for news",
}
SEED = 20


@dataclass(frozen=True)
class Scale:
    """browsers: in the long phase.  crowd: in the two after it.  seconds: of the long phase; idle, rush: of
    the others.  every: seconds between two refreshes.  pace, stay: of a browser, see `Browser`.
    actions: locks that are released meanwhile.  slow: seconds from a request of the refresher to its answer
    while one is, so that the refresh lasts.  act: seconds that one may take.
    times: how much slower than alone a page may be at p95.  quick: seconds at p95 that are quick enough,
    however quick it was alone.
    """

    keys: int
    browsers: int
    crowd: int
    seconds: float
    idle: float
    rush: float
    every: float
    pace: float
    stay: float
    actions: int
    slow: float
    act: float
    times: float
    quick: float


@dataclass
class Watched:
    """What was seen of the estate's refreshes and of the actions while browsers were at work."""

    refreshes: int = 0
    requests: Mapping[str, int] | None = None
    took: float = 0.0
    acted: tuple[float, ...] = ()
    refused: tuple[str, ...] = ()
    during: int = 0
    standing: int = 0


def measure(house: House, scale: Scale, say: Callable[[str], None]) -> tuple[list[Figure], list[str]]:
    """Every phase in turn: figures, and what the table has no room for."""
    house.endpoint.ask("tune", latency=LATENCY, churn=min(CHURN, scale.keys // 100))
    given = json.dumps({"port": house.port, "pages": _pages(house), "seed": SEED})
    with Child("load.browsers", given) as child:
        say(f"{scale.crowd} people arrive")
        arrived = child.ask("arrive", people=scale.crowd)
        if arrived["answered"] != scale.crowd:
            raise RuntimeError(f"not everybody was let in: {arrived['failures']}")
        before = house.memory_mb()
        say("one browser alone")
        alone = child.ask("idle", seconds=scale.idle)
        say(f"{scale.browsers} browsers for {scale.seconds:g} s")
        habits = {"pace": scale.pace, "stay": scale.stay}
        many, watched = _watched(
            house, child, scale, {**habits, "people": scale.browsers, "seconds": scale.seconds}
        )
        say(f"{scale.crowd} browsers")
        short = min(scale.seconds, 2 * scale.rush)
        crowd = child.ask("browse", **habits, people=scale.crowd, seconds=short)
        say(f"{scale.crowd} connections without a pause")
        rush = child.ask("rush", people=scale.crowd, seconds=scale.rush)
    after = house.memory_mb()
    figures = [
        *_slower(alone["seconds"], many["seconds"], scale),
        _none("unanswered or wrong", many["failed"] + many["busy"], f"{scale.browsers} browsers"),
        *_cost(house, scale, watched),
        *_acting(scale, watched),
        _none("but for 503 with Retry-After", crowd["failed"], f"{scale.crowd} browsers"),
        _none("but for 503 with Retry-After", rush["failed"], f"{scale.crowd} without a pause"),
        _most("health probe meanwhile, slowest", max(rush["seconds"]["probe"]), SLOWEST_PROBE),
        Figure(
            "peak memory of the web process",
            f"{after[1]:.0f} MB",
            f"{before[1]:.0f} MB",
            after[1],
            MOST_MB,
            at_least=False,
            unit="MB",
        ),
    ]
    return figures, _notes(scale, alone, many, crowd, rush, watched, (before[0], after[0]))


def _pages(house: House) -> dict[str, list[str]]:
    """What browsers open, of each kind."""
    keys: list[str] = house.endpoint.ask("keys_of", count=100)["keys"]
    parts = sorted({key.split("/")[-2][:-2] for key in keys})[:30]
    views = ["attention", "all", "locked", "digest"]
    starts = sorted({key.rsplit("/", 2)[0] + "/" for key in keys})[:20]
    return {
        "list": [f"/states?view={view}" for view in views] + ["/states?view=all&sort=-key"],
        "filter": [f"/states?view=all&prefix={start}" for start in starts]
        + [f"/states?view=all&holder=ci-{number:02}" for number in range(10)],
        "key": [f"/s/{state_id(ESTATE, key)}" for key in keys],
        "find": [f"/find?q={part}" for part in parts],
        "health": ["/health"],
    }


# ---------------------------------------------------------------- the long phase


def _watched(
    house: House, child: Child, scale: Scale, asked: dict[str, Any]
) -> tuple[dict[str, Any], Watched]:
    """From the end of one refresh to the end of another, counting what the estate was asked."""
    seen = [house.after_refresh()]
    base, began = house.endpoint.ask("counts"), time.monotonic()
    child.send("browse", **asked)
    watched, visitor = Watched(), Visitor(house.port, person(scale.crowd))
    left = list(house.held)
    while (rest := began + scale.seconds - time.monotonic()) > 0:
        if left and rest > scale.slow + scale.every:
            seen += _during_a_refresh(house, visitor, left.pop(0), watched, scale.slow)
        else:
            time.sleep(min(rest, LOOK_SECONDS))
        seen += _new(house, seen[-1])
    many = child.receive()
    visitor.close()
    seen += [house.after_refresh()]
    after = house.endpoint.ask("counts")
    watched.took = time.monotonic() - began
    watched.refreshes = len(set(seen)) - 1
    watched.requests = {kind: after[kind] - base.get(kind, 0) for kind in after}
    watched.standing = sum(_stands(house.place, held) for held in house.held)
    return many, watched


def _new(house: House, last: datetime) -> list[datetime]:
    now = house.attempted()
    return [now] if now is not None and now != last else []


def _during_a_refresh(
    house: House, visitor: Visitor, held: Held, watched: Watched, slow: float
) -> list[datetime]:
    """Release a lock while the estate is being read slowly. The refreshes that ended until that began."""
    house.endpoint.ask("tune", latency=slow, churn=0)
    lists, last = house.endpoint.ask("counts")["ListObjectsV2"], house.attempted()
    seen: list[datetime] = []
    while house.endpoint.ask("counts")["ListObjectsV2"] == lists:
        time.sleep(LOOK_SECONDS)
        seen += _new(house, last) if last else []
        last = seen[-1] if seen else last
    watched.acted += (_release(visitor, held, watched),)
    watched.during += house.attempted() == last
    house.endpoint.ask("tune", latency=LATENCY, churn=CHURN)
    return seen


def _release(visitor: Visitor, held: Held, watched: Watched) -> float:
    """By its pages. Seconds from the click that confirms to the answer. Where the page had become untrue
    meanwhile, it is opened anew, as a person would.
    """
    path = held.deed.path(held.address, held.before)
    form = form_of(visitor.ask(path)[1], "deed")
    fields = {**form.fields, "reason": "the runner was killed", "confirm": held.before.typed}
    began = time.perf_counter()
    status, text = visitor.ask(form.action, fields)
    if status == 409 and len(watched.refused) < REFUSALS:
        watched.refused += (_words(text),)
        return _release(visitor, held, watched)
    if status != 303:
        raise RuntimeError(f"{path} was answered with {status}: {_words(text)}")
    return time.perf_counter() - began


def _words(page: str) -> str:
    """The main part of a page as plain text, cut."""
    main = page.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", main).split())[:1000]


def _stands(place: Place, held: Held) -> bool:
    """Whether the lock is still there, by the emulator's own word."""
    if held.before.item is not None:
        key = {"LockID": {"S": lock_id(place.bucket, held.before.key)}}
        return "Item" in place.emulator.dynamodb.get_item(TableName=place.table, Key=key)
    prefix = held.before.key + LOCKFILE_SUFFIX
    return bool(place.emulator.s3.list_objects_v2(Bucket=place.bucket, Prefix=prefix)["KeyCount"])


# ---------------------------------------------------------------- what is said of it


def _slower(
    alone: Mapping[str, Sequence[float]], many: Mapping[str, Sequence[float]], scale: Scale
) -> list[Figure]:
    return [
        _beside(words, many.get(kind) or [math.inf], alone.get(kind) or [math.inf], scale)
        for kind, words in KINDS.items()
    ]


def _beside(words: str, many: Sequence[float], alone: Sequence[float], scale: Scale) -> Figure:
    slow, usual = _p95(many), median(alone)
    ratio = slow / usual if math.isfinite(slow) else math.inf  # not one of them was answered
    name, bound = f"{words}, p95: alone, median", round(max(scale.times, scale.quick / usual), 1)
    return Figure(name, spoken(slow), spoken(usual), ratio, bound, at_least=False)


def _cost(house: House, scale: Scale, watched: Watched) -> list[Figure]:
    assert watched.requests is not None
    floor = house.endpoint.ask("floor")
    wanted = {kind: pages * watched.refreshes for kind, pages in floor.items()}
    kinds = wanted.keys() | watched.requests.keys()
    off = sum(abs(watched.requests.get(kind, 0) - wanted.get(kind, 0)) for kind in kinds)
    most = math.floor(watched.took / scale.every) + 1
    return [
        _none("requests to AWS off refreshes x pages", off, f"{watched.refreshes} refreshes", "requests"),
        Figure(
            "refreshes meanwhile",
            str(watched.refreshes),
            "",
            watched.refreshes,
            most,
            at_least=False,
            unit="refreshes",
        ),
    ]


def _acting(scale: Scale, watched: Watched) -> list[Figure]:
    acted = f"{len(watched.acted)} of {scale.actions}"
    untried = scale.actions - len(watched.acted)
    undone = scale.actions - watched.during + watched.standing - untried
    return [
        _none("locks not released while a refresh ran", undone, acted, "locks"),
        _most(
            "releasing a lock, confirmed to answered, slowest",
            max(watched.acted, default=math.inf),
            scale.act,
        ),
    ]


def _none(name: str, count: int, of: str, unit: str = "requests") -> Figure:
    return Figure(f"{of}: {name}", str(count), "", count, 0, at_least=False, unit=unit)


def _most(name: str, seconds: float, bound: float) -> Figure:
    return Figure(name, spoken(seconds), "", seconds, bound, at_least=False, unit="s")


def _notes(
    scale: Scale,
    alone: Mapping[str, Any],
    many: Mapping[str, Any],
    crowd: Mapping[str, Any],
    rush: Mapping[str, Any],
    watched: Watched,
    memory: tuple[float, float],
) -> list[str]:
    told = {
        "alone": alone,
        f"{scale.browsers} browsers": many,
        f"{scale.crowd} browsers": crowd,
        "no pause": rush,
    }
    lines = [
        f"{name}: {found['answered']:,} answered, {found['busy']:,} told to come again, {found['failed']}"
        f" failed{': ' if found['failures'] else ''}{'; '.join(found['failures'])}."
        for name, found in told.items()
    ]
    everything = sorted(took for kind, found in crowd["seconds"].items() if kind != "pulse" for took in found)
    lines.append(f"{scale.crowd} browsers: pages at p95 {spoken(_p95(everything))}.")
    pressed = sorted(took for kind in RUSHED for took in rush["seconds"].get(kind, ()))
    lines.append(f"No pause: pages at p95 {spoken(_p95(pressed))}.")
    lines.append(f"Releasing a lock took {', '.join(map(spoken, watched.acted))}.")
    lines += [f"A release was refused, and asked for again: {words}" for words in watched.refused]
    lines.append(f"Memory of the web process: {memory[0]:.0f} MB before, {memory[1]:.0f} MB after.")
    return lines


def _p95(found: Sequence[float]) -> float:
    """By the nearest rank."""
    return found[max(0, math.ceil(0.95 * len(found)) - 1)]
