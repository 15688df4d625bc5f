"""How often somebody may ask: what is over a limit gets 429 and is told when to ask again.

A window begins with the first request that is counted in it. Costly things are counted in the database, so
that all processes share one count; the ceiling on everything is counted in the process alone, so that a page
costs no write. Where the database does not answer, the process's own counts stand: no request fails for want
of a count.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, cast

from flask import Flask, Response, abort, g, request
from flask_limiter import ApplicationLimit, Limiter, RequestLimit
from limits.storage import Storage

from lockboard.domain.errors import LockboardError, StoreError
from lockboard.domain.ports import Clock
from lockboard.domain.signin import RateCounters, Tally
from lockboard.web.access import newcomer
from lockboard.web.overload import ABOVE_THE_FORM, oops

WAIT = 0.2
"""Seconds that a count waits for its turn, and again for the database."""
PAUSE = 10.0
"""Seconds in which the database is not asked again after it did not answer."""
TURNS = 4
"""Counts that ask the database at the same time: as many as it has connections for them."""
MOST_NAMES = 20_000
SWEEP_EVERY = timedelta(minutes=10)
NOTE_EVERY = timedelta(minutes=1)

_RETRY_AFTER = "limits_retry_after"


class Rule(NamedTuple):
    """One limit. allowed: as the library `limits` reads it.  applies: to the request at hand.
    by_address: and not by person.
    """

    name: str
    allowed: str
    applies: Callable[[], bool]
    by_address: bool = False


class Note(Protocol):
    """Where a flood is told of, once a minute for each limit and whoever it is counted for.

    limit: the rule's name.  allowed: such as "10 per 1 minute".  It may raise LockboardError.
    """

    def __call__(self, *, limit: str, allowed: str) -> None: ...


# ---------------------------------------------------------------- what is limited


def _acts() -> bool:
    acting = request.blueprint in ("recovery", "approvals") and request.method == "POST"
    return acting or request.endpoint == "api.act"


def _asks_to_act() -> bool:
    asking = request.blueprint == "recovery" and request.method != "POST"
    return asking or request.endpoint in ("approvals.ask", "api.plan")


def _searches() -> bool:
    if request.endpoint == "board.states":
        return bool(request.args.get("q"))
    return request.endpoint == "lookup.find" and (request.method == "POST" or bool(request.args.get("q")))


_SIGN_IN = frozenset({"signin.ask", "signin.enter", "signin.callback"})
_EXPORTS = frozenset({"board.states_csv", "board.states_json", "audit.as_csv", "audit.as_jsonl", "api.audit"})

RULES = (
    Rule("actions", "10/minute;60/hour", _acts),
    Rule("confirmations", "30/minute", _asks_to_act),
    Rule("sign-in", "30/minute", lambda: request.endpoint in _SIGN_IN, by_address=True),
    Rule("sessions", "30/minute;120/hour", lambda: newcomer() is not None),
    Rule("searches", "120/minute", _searches),
    Rule("rechecks", "30/minute", lambda: request.endpoint == "detail.recheck"),
    Rule("exports", "10/minute", lambda: request.endpoint in _EXPORTS),
    Rule("api", "120/minute", lambda: request.path.startswith("/api/v1/")),
    Rule("verifications", "5/hour", lambda: request.endpoint == "audit.verify"),
)
"""What costs most. Only sign-in is counted by address: an office may share one. A session is opened for who
comes without a cookie and was signed in by what stands in front.
"""

CEILING = 1200
"""Requests of any kind in a minute: a hundred tabs that poll every five seconds."""
_UNCOUNTED = frozenset({"static", "favicon", "healthz", "readyz"})
_FREQUENT = frozenset({*_UNCOUNTED, "board.pulse"})
_MINUTE = timedelta(minutes=1)


def set_up(
    app: Flask,
    *,
    counters: RateCounters | None,
    who: Callable[[], str],
    address: Callable[[], str],
    note: Note,
    clock: Clock,
    monotonic: Callable[[], float],
) -> None:
    """Limit the requests of an application; to be registered when it is known whose they are, and before
    anything is refused for it: who knocks without end is told so too.

    counters: what all processes share; None where there is but one.  who: a name for the person or token at
    hand, unique among them; "" for nobody, who is counted by address.  address: of the browser, as far as
    proxies in front are trusted.
    """
    found = _Limits(app, Counts(counters, monotonic), who, address, note, clock)
    app.before_request(found.ceiling)
    app.after_request(found.say_when)
    limiter = Limiter(
        found.key,
        application_limits=[found.limit_of(rule) for rule in RULES],
        storage_uri=f"{_Counted.SCHEME}://",
        storage_options=cast(Any, {"counts": found.counts, "clock": clock}),
        strategy="fixed-window",
        headers_enabled=False,
    )
    limiter.request_filter(lambda: request.endpoint in _FREQUENT and newcomer() is None)
    limiter.init_app(app)


class _Limits:
    """What happens before a limit, at it, and after."""

    def __init__(
        self,
        app: Flask,
        counts: Counts,
        who: Callable[[], str],
        address: Callable[[], str],
        note: Note,
        clock: Clock,
    ) -> None:
        self.counts = counts
        self._log, self._note, self._clock = app.logger, note, clock
        self._who, self._address = who, address
        self._everything = MemoryCounters()

    def key(self) -> str:
        """Whom the request at hand is counted for."""
        person = self._who()
        return f"person {person}" if person else self._place()

    def _place(self) -> str:
        return f"address {network(self._address())}"

    def limit_of(self, rule: Rule) -> ApplicationLimit:
        return ApplicationLimit(
            lambda: rule.allowed if rule.applies() else "",
            key_function=self._place if rule.by_address else self.key,
            scope=rule.name,
            on_breach=lambda limit: self._shut(rule, limit),
        )

    def ceiling(self) -> None:
        """Counted in this process alone, so that a pulse costs no write."""
        if request.endpoint in _UNCOUNTED:
            return
        key = self.key()
        tally = self._everything.add(key, self._clock(), _MINUTE)
        if tally.count > CEILING:
            self._breached("requests", f"{CEILING} per 1 minute", key, tally.ends_at)
            abort(429)

    def say_when(self, answer: Response) -> Response:
        """Retry-After, in seconds; and for a form that htmx sent the same in words, above it."""
        seconds = g.get(_RETRY_AFTER)
        if seconds is None or answer.status_code != 429:
            return answer
        answer.headers["Retry-After"] = str(seconds)
        if request.method == "POST" and request.environ.get("HTTP_HX_REQUEST_TYPE") == "partial":
            noun = "second" if seconds == 1 else "seconds"
            answer.set_data(oops("Too often", f"Nothing was done with this. Try again in {seconds} {noun}."))
            answer.headers.update(ABOVE_THE_FORM)
        return answer

    def _shut(self, rule: Rule, limit: RequestLimit) -> None:
        self._breached(rule.name, str(limit.limit), limit.key, self.counts.shut(limit.key, self._clock()))

    def _breached(self, name: str, allowed: str, key: str, ends_at: datetime) -> None:
        now = self._clock()
        setattr(g, _RETRY_AFTER, max(1, math.ceil((ends_at - now).total_seconds())))
        if not self.counts.first(f"note {name} {key}", now, NOTE_EVERY):
            return
        try:
            self._note(limit=name, allowed=allowed)
        except LockboardError as error:
            self._log.error("a breached limit could not be recorded: %s", error)


def network(address: str) -> str:
    """What is counted as one address: of IPv6 the 64 bits that one household or host has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(found)


# ---------------------------------------------------------------- counting


class MemoryCounters:
    """`RateCounters` of one process. Of more than `MOST_NAMES` the oldest half is forgotten."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._lock = threading.Lock()

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        with self._lock:
            known = self._tallies.get(name)
            if known is None or not now < known.ends_at <= now + 2 * lasts:
                self._tallies.pop(name, None)
                self._make_room(now)
                known = Tally(0, now + lasts)
            self._tallies[name] = known = replace(known, count=known.count + amount)
            return known

    def learn(self, name: str, tally: Tally) -> Tally:
        """What others counted, where that is more. Returns what is known now."""
        with self._lock:
            known = self._tallies.get(name)
            if known is None or tally.count > known.count:
                self._tallies[name] = known = tally
            return known

    def find(self, name: str) -> Tally | None:
        return self._tallies.get(name)

    def forget(self, name: str) -> None:
        with self._lock:
            self._tallies.pop(name, None)

    def sweep(self, now: datetime) -> int:
        with self._lock:
            return self._sweep(now)

    def _sweep(self, now: datetime) -> int:
        over = [name for name, tally in self._tallies.items() if tally.ends_at <= now]
        for name in over:
            del self._tallies[name]
        return len(over)

    def _make_room(self, now: datetime) -> None:
        if len(self._tallies) < MOST_NAMES:
            return
        self._sweep(now)
        if len(self._tallies) >= MOST_NAMES:
            for name in list(self._tallies)[: MOST_NAMES // 2]:
                del self._tallies[name]


class Counts:
    """The counts of this process, and of the others as far as the database says so in time; never raises."""

    def __init__(
        self, shared: RateCounters | None, monotonic: Callable[[], float], wait: float = WAIT
    ) -> None:
        self._shared, self._monotonic, self._wait = shared, monotonic, wait
        self._own = MemoryCounters()
        self._shut: dict[str, datetime] = {}
        self._turns = threading.Semaphore(TURNS)
        self._down_until = float("-inf")
        self._swept_at: datetime | None = None

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        """Count it here, and among all. Nothing is counted for a name that is shut."""
        ends_at = self._shut.get(name)
        if ends_at is not None:
            known = self._own.find(name)
            if known is not None and now < ends_at <= now + 2 * lasts:
                return known
            self._shut.pop(name, None)
        own = self._own.add(name, now, lasts, amount)
        told = self._ask(name, now, lasts, amount)
        return own if told is None else self._own.learn(name, told)

    def first(self, name: str, now: datetime, lasts: timedelta) -> bool:
        """Count it, and say whether it was the first in its window; the others are asked where it may be."""
        if self._own.add(name, now, lasts).count > 1:
            return False
        told = self._ask(name, now, lasts, 1)
        return told is None or told.count == 1

    def shut(self, name: str, now: datetime) -> datetime:
        """Count no more of it until its window ends, which is the answer; now for one that was forgotten."""
        known = self._own.find(name)
        if known is None:
            return now
        if len(self._shut) >= MOST_NAMES:
            self._shut.clear()
        self._shut[name] = known.ends_at
        return known.ends_at

    def known(self, name: str) -> Tally | None:
        """As it was last counted here."""
        return self._own.find(name)

    def forget(self, name: str) -> None:
        """In this process."""
        self._shut.pop(name, None)
        self._own.forget(name)

    def _ask(self, name: str, now: datetime, lasts: timedelta, amount: int) -> Tally | None:
        """None where nobody is asked, or the answer does not come in time.

        In a thread of its own: a server that stands still answers no timeout that is set with it.
        """
        shared = self._shared
        if shared is None or self._monotonic() < self._down_until:
            return None
        answers: SimpleQueue[Tally | None] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(shared.add(name, now, lasts, amount))
                self._sweep_at_times(shared, now)
            except StoreError:
                answers.put(None)
            finally:
                self._turns.release()

        found = None
        if self._turns.acquire(timeout=self._wait):
            threading.Thread(target=ask, name="count", daemon=True).start()
            try:
                found = answers.get(timeout=self._wait)
            except Empty:
                found = None
        if found is None:
            self._down_until = self._monotonic() + PAUSE
        return found

    def _sweep_at_times(self, shared: RateCounters, now: datetime) -> None:
        if self._swept_at is None or not timedelta() <= now - self._swept_at < SWEEP_EVERY:
            self._swept_at = now
            shared.sweep(now)


class _Counted(Storage):
    """`Counts` as Flask-Limiter finds it: by the scheme of its address, which registers it."""

    SCHEME = "lockboard-counts"
    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  the library's own declaration

    def __init__(self, uri: str, *, counts: Counts, clock: Clock) -> None:
        super().__init__(uri)
        self._counts, self._clock = counts, clock

    @property
    def base_exceptions(self) -> type[Exception]:
        return LockboardError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self._counts.add(key, self._clock(), timedelta(seconds=expiry), amount).count

    def get(self, key: str) -> int:
        known = self._counts.known(key)
        return known.count if known is not None and self._clock() < known.ends_at else 0

    def get_expiry(self, key: str) -> float:
        known = self._counts.known(key)
        return (known.ends_at if known is not None else self._clock()).timestamp()

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        raise NotImplementedError("what others counted is not for one process to forget")

    def clear(self, key: str) -> None:
        self._counts.forget(key)
