"""`python -m load.browsers JSON`: all the browsers of a run, in one process that does little but wait.

Each has a connection and cookies of its own and does what `static/lockboard.js` does: it opens a page, asks
for news at intervals, more often for a minute after there were some, fetches the rows anew when there are,
and goes to another page now and then.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.children import Command, answer_commands
from load.lines import Answer, Line

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
CALM_SECONDS, CALM_PACE = 60.0, 3.0
"""For so long after news the script looks every three seconds."""

SECRET_HEADER = "X-Lockboard-Proxy-Secret"  # noqa: S105  its name
SECRET_VARIABLE = "LOAD_PROXY_SECRET"  # noqa: S105  its name
GROUP = "operators"

RUSHED = ("list", "filter", "key")
IDLE_PAUSE = 0.03
TOLD = 5
"""Failures that are told in words; the rest are counted."""

_REGION = re.compile(rb'id="region"[^>]*>')
_PULSE = re.compile(r'data-pulse="([^"]*)"')
_REV = re.compile(r'data-rev="(\d+)"')
_SELF = re.compile(r'hx-get="([^"]*)"')


@dataclass
class Tally:
    """What came of the requests. seconds: of each kind, those that were answered as they should be."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    busy: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, answer: Answer) -> bool:
        """Whether it is an answer to go on with."""
        if answer.busy:
            self.busy += 1
        elif answer.status == 200 or (kind == "pulse" and answer.status == 204):
            self.seconds[kind].append(answer.took)
            return True
        else:
            self.failures[f"{kind}: status {answer.status}"] += 1
        return False

    def told(self) -> dict[str, Any]:
        """As the answer to a command."""
        return {
            "seconds": {kind: sorted(found) for kind, found in self.seconds.items()},
            "answered": sum(map(len, self.seconds.values())),
            "busy": self.busy,
            "failed": sum(self.failures.values()),
            "failures": [f"{times} x {what}" for what, times in self.failures.most_common(TOLD)],
        }


@dataclass
class Browser:
    """One browser. pages: of each kind, the paths that it may open. pace: seconds between two looks for news;
    stay: about as many between two pages.
    """

    line: Line
    pages: Mapping[str, Sequence[str]]
    tally: Tally
    chance: random.Random
    pace: float = 10.0
    stay: float = 30.0
    pulse: str = ""
    again: str = ""
    rev: str = ""

    async def use(self, until: float) -> None:
        """Be looked at until then."""
        due = time.perf_counter() + self.chance.uniform(0, self.pace)
        calm, leave, kind = 0.0, due, self.chance.choice(sorted(self.pages))
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if due >= leave:
                await self.open(kind, due)
                leave = due + self.stay * self.chance.uniform(0.67, 1.33)
                kind = self.chance.choice(sorted(self.pages))
            elif await self.look(due):
                calm = due + CALM_SECONDS
            now = time.perf_counter()
            due = min(leave, max(now, due + (min(self.pace, CALM_PACE) if due < calm else self.pace)))
        self.line.close()

    async def open(self, kind: str, due: float) -> None:
        """Go to a page of that kind."""
        answer = await self._ask(kind, self.chance.choice(self.pages[kind]), due)
        self.pulse = self.again = ""
        if answer is not None:
            self.read(answer.body)

    async def look(self, due: float) -> bool:
        """Ask for news, and fetch the rows where there are some. Whether there were."""
        if not self.pulse:
            return False
        joint = "&" if "?" in self.pulse else "?"
        answer = await self._ask("pulse", f"{self.pulse}{joint}rev={self.rev}", due, PARTIAL)
        if answer is None:
            return False
        if answer.status == 204:
            self.rev = answer.headers.get("lockboard-generation", self.rev)
            return False
        await self.refresh(time.perf_counter())
        return True

    async def refresh(self, due: float) -> None:
        """Fetch the rows of the page anew."""
        answer = await self._ask("rows", self.again, due, PARTIAL)
        if answer is not None:
            self.read(answer.body)

    async def _ask(
        self, kind: str, path: str, due: float, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        try:
            answer = await self.line.get(path, due, headers)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.tally.failures[f"{kind}: {type(error).__name__}"] += 1
            return None
        return answer if self.tally.count(kind, answer) else None

    def read(self, page: bytes) -> None:
        """Where the page says that news of it, and its rows, are to be had."""
        found = _REGION.search(page)
        if found is None:
            return
        tag = html.unescape(found[0].decode())
        pulse, again, rev = (pattern.search(tag) for pattern in (_PULSE, _SELF, _REV))
        if pulse and again and rev:
            self.pulse, self.again, self.rev = pulse[1], again[1], rev[1]


class Crowd:
    """The people of a run, each with the headers by which a proxy in front tells who it is, and with the
    cookies that the server gave them.
    """

    def __init__(self, port: int, pages: Mapping[str, Sequence[str]], seed: int) -> None:
        self._port, self._pages, self._seed = port, pages, seed
        self._jars: dict[int, dict[str, str]] = defaultdict(dict)

    def browser(self, number: int, tally: Tally, pace: float = 10.0, stay: float = 30.0) -> Browser:
        """That of one of them."""
        line = Line(self._port, person(number), self._jars[number])
        return Browser(line, self._pages, tally, random.Random(self._seed + number), pace, stay)

    async def arrive(self, people: int) -> Tally:
        """Each opens a page, one after the other, which signs them in."""
        tally = Tally()
        for number in range(people):
            browser = self.browser(number, tally)
            await browser.open("list", time.perf_counter())
            browser.line.close()
        return tally

    async def idle(self, seconds: float) -> Tally:
        """One browser alone, every kind of page in turn."""
        browser = self.browser(0, Tally())
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for kind in sorted(self._pages):
                await browser.open(kind, time.perf_counter())
                await asyncio.sleep(IDLE_PAUSE)
                if kind == "list":
                    await browser.refresh(time.perf_counter())
                    await asyncio.sleep(IDLE_PAUSE)
                    await browser.look(time.perf_counter())
                    await asyncio.sleep(IDLE_PAUSE)
        browser.line.close()
        return browser.tally

    async def browse(self, people: int, seconds: float, pace: float, stay: float) -> Tally:
        """So many browsers for so many seconds."""
        tally, until = Tally(), time.perf_counter() + seconds
        crowd = [self.browser(number, tally, pace, stay) for number in range(people)]
        await asyncio.gather(*(browser.use(until) for browser in crowd))
        return tally

    async def rush(self, people: int, seconds: float) -> Tally:
        """All of them ask, and again once they are answered; one more asks whether the server is well."""
        tally, until = Tally(), time.perf_counter() + seconds

        async def press(browser: Browser, kinds: Sequence[str], pause: float) -> None:
            while (due := time.perf_counter()) < until:
                await browser.open(browser.chance.choice(kinds), due)
                await asyncio.sleep(pause)
            browser.line.close()

        probe = Browser(Line(self._port), {"probe": ["/healthz"]}, tally, random.Random(self._seed))
        crowd = [press(self.browser(number, tally), RUSHED, 0.01) for number in range(people)]
        await asyncio.gather(press(probe, ["probe"], 0.5), *crowd)
        return tally


def person(number: int) -> dict[str, str]:
    """What the proxy in front says of one of them."""
    return {
        SECRET_HEADER: os.environ[SECRET_VARIABLE],
        "X-Forwarded-User": f"person-{number}",
        "X-Forwarded-Email": f"person-{number}@load.test",
        "X-Forwarded-Groups": GROUP,
    }


def _commands(port: int, pages: Mapping[str, Sequence[str]], seed: int) -> dict[str, Command]:
    crowd = Crowd(port, pages, seed)
    names = ("arrive", "idle", "browse", "rush")
    return {name: _told(getattr(crowd, name)) for name in names}


def _told(work: Callable[..., Coroutine[Any, Any, Tally]]) -> Command:
    return lambda **asked: asyncio.run(work(**asked)).told()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    answer_commands(_commands(given["port"], given["pages"], given["seed"]))
