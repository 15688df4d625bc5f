"""Who asks too often is told when to ask again, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.audit import AuditError
from lockboard.domain.errors import StoreError
from lockboard.domain.signin import Tally
from lockboard.web import limits
from lockboard.web.limits import MOST_NAMES, PAUSE, RULES, Counts, MemoryCounters, network
from tests.web.entrances import OwnForms
from tests.web.fakes import NOW, Ticking, Web, web

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OWN = {"Sec-Fetch-Site": "same-origin"}


class Browser(OwnForms):
    """Reads every answer to its end, so that none keeps its place among those that are being worked on."""

    def open(self, *args: Any, **named: Any) -> Any:
        return super().open(*args, **{"buffered": True, **named})


class House:
    """The application with its limits, and the handles a test turns."""

    def __init__(self, shared: MemoryCounters | None = None) -> None:
        self.web: Web = web()
        self.web.app.test_client_class = Browser
        self.clock: Ticking = self.web.clock
        self.person, self.address = "local|kim", "192.0.2.7"
        self.notes: list[tuple[str, str, str]] = []
        self.log_is_broken = False
        limits.set_up(
            self.web.app,
            counters=shared,
            who=lambda: self.person,
            address=lambda: self.address,
            note=self.note,
            clock=self.clock,
            monotonic=self.clock.monotonic,
        )

    def note(self, *, limit: str, allowed: str) -> None:
        self.notes.append((limit, allowed, self.person or self.address))
        if self.log_is_broken:
            raise AuditError("no room on the disk")

    @property
    def client(self) -> FlaskClient:
        return self.web.client

    @property
    def state(self) -> str:
        return next(iter(self.web.board.rows))

    def act(self) -> TestResponse:
        return self.client.post(f"/s/{self.state}/unlock", data={"token": "x"}, headers=OWN)


def limited(answer: TestResponse) -> bool:
    return answer.status_code == 429


ASKED: dict[str, tuple[int, float, Callable[[House], TestResponse]]] = {
    "actions": (10, 60, House.act),
    "approvals": (
        10,
        60,
        lambda h: h.client.post("/approvals/7/approve", headers=OWN),
    ),
    "confirmations": (30, 60, lambda h: h.client.get(f"/s/{h.state}/unlock")),
    "sign-in page": (30, 60, lambda h: h.client.get("/signin")),
    "sign-in": (30, 60, lambda h: h.client.post("/signin", data={"name": "kim"}, headers=OWN)),
    "callback": (30, 60, lambda h: h.client.get("/signin/callback")),
    "searches": (120, 60, lambda h: h.client.get("/states?q=rds")),
    "finding": (120, 60, lambda h: h.client.get("/find?q=rds")),
    "pasting": (120, 60, lambda h: h.client.post("/find", data={"q": "rds"}, headers=OWN)),
    "rechecks": (30, 60, lambda h: h.client.post(f"/s/{h.state}/recheck", headers=OWN)),
    "csv": (10, 60, lambda h: h.client.get("/states.csv")),
    "json": (10, 60, lambda h: h.client.get("/states.json")),
    "log as csv": (10, 60, lambda h: h.client.get("/audit.csv")),
    "log as lines": (10, 60, lambda h: h.client.get("/audit.jsonl")),
    "api": (120, 60, lambda h: h.client.get("/api/v1/states")),
    "verifications": (5, 3600, lambda h: h.client.post("/audit/verify", headers=OWN)),
}


@pytest.mark.parametrize("name", ASKED)
def test_so_many_are_answered_and_the_next_once_the_window_is_over(name: str) -> None:
    most, seconds, ask = ASKED[name]
    house = House()
    assert not any(limited(ask(house)) for _ in range(most))
    assert limited(ask(house))
    house.clock.pass_by(seconds - 1)
    assert limited(ask(house))
    house.clock.pass_by(1)
    assert not limited(ask(house))


def test_sixty_actions_are_carried_out_in_an_hour_however_they_are_spread() -> None:
    house = House()
    for _ in range(6):
        assert not any(limited(house.act()) for _ in range(10))
        house.clock.pass_by(60)
    refused = house.act()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(3600 - 6 * 60))
    house.clock.pass_by(3600 - 6 * 60)
    assert not limited(house.act())


def test_the_answer_says_in_seconds_when_to_ask_again() -> None:
    house = House()
    for _ in range(10):
        house.act()
        house.clock.pass_by(1.25)
    assert house.act().headers["Retry-After"] == "48"  # 60 - 12.5, rounded up


def test_nothing_but_retry_after_tells_of_limits() -> None:
    house = House()
    before = set(house.client.get("/states?q=rds").headers.keys())
    for _ in range(11):
        refused = house.act()
    assert "Retry-After" not in before
    assert not any("rate" in name.lower() for name in {*before, *refused.headers.keys()})


def test_a_person_over_a_limit_is_no_trouble_to_another_at_the_same_address() -> None:
    house = House()
    while not limited(house.act()):
        pass
    house.person = "local|lee"
    assert not limited(house.act())


def test_a_person_at_many_addresses_is_one_person() -> None:
    house = House()
    for number in range(10):
        house.address = f"192.0.2.{number}"
        house.act()
    house.address = "198.51.100.1"
    assert limited(house.act())


def test_sign_in_is_counted_by_address_whoever_it_is_for() -> None:
    house = House()
    for number in range(30):
        house.person = f"local|{number}" if number % 2 else ""
        assert not limited(house.client.get("/signin"))
    assert limited(house.client.get("/signin"))
    house.address = "192.0.2.8"
    assert not limited(house.client.get("/signin"))


def test_signing_out_is_not_limited_as_sign_in_is() -> None:
    house = House()
    while not limited(house.client.get("/signin")):
        pass
    assert not limited(house.client.post("/signout", headers=OWN))


def test_nobody_is_counted_by_address() -> None:
    house = House()
    house.person = ""
    while not limited(house.act()):
        pass
    house.address = "192.0.2.8"
    assert not limited(house.act())


def test_what_a_forwarding_header_claims_changes_nothing() -> None:
    house = House()
    house.person = ""
    for number in range(30):
        house.client.get("/signin", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    assert limited(house.client.get("/signin", headers={"X-Forwarded-For": "203.0.113.99"}))


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, counted: str) -> None:
    assert network(address) == counted


def test_different_ways_to_the_same_work_share_one_limit() -> None:
    house = House()
    for _ in range(5):
        house.client.get("/states.csv")
        house.client.get("/audit.jsonl")
    assert limited(house.client.get("/states.json"))


def test_a_search_beyond_its_limit_leaves_the_list_without_one_open() -> None:
    house = House()
    while not limited(house.client.get("/states?q=rds")):
        pass
    assert house.client.get("/states").status_code == 200


def test_every_method_of_a_confirmation_page_counts() -> None:
    house = House()
    for _ in range(15):
        house.client.head(f"/s/{house.state}/unlock")
        house.client.options(f"/s/{house.state}/unlock")
    assert limited(house.client.get(f"/s/{house.state}/unlock"))


# ---------------------------------------------------------------- the ceiling


def test_nobody_asks_more_than_1200_times_a_minute_for_anything_that_costs() -> None:
    house = House()
    for number in range(1200):
        assert not limited(house.client.get("/states/pulse?rev=7" if number % 3 else "/nowhere"))
    for path in ("/states", "/states/pulse?rev=7", "/nowhere", "/help"):
        assert limited(house.client.get(path)), path
    for path in ("/healthz", "/readyz", "/static/lockboard.css", "/favicon/3.svg"):
        assert house.client.get(path).status_code == 200, path
    house.clock.pass_by(60)
    assert house.client.get("/states").status_code == 200


def test_forty_tabs_that_poll_are_never_limited() -> None:
    house = House()
    for _ in range(24):  # two minutes, every five seconds
        assert not any(limited(house.client.get("/states/pulse?rev=7")) for _ in range(40))
        house.clock.pass_by(5)


def test_the_pulse_and_plain_pages_ask_nothing_of_the_shared_counters() -> None:
    shared = Recording()
    house = House(shared)
    for path in ("/states/pulse?rev=7", "/states", "/", f"/s/{house.state}", "/healthz", "/help"):
        house.client.get(path)
    assert shared.asked == []
    house.client.get("/states?q=rds")
    assert len(shared.asked) == 1


# ---------------------------------------------------------------- what is said


def test_people_are_told_in_words() -> None:
    house = House()
    while not limited(answer := house.act()):
        pass
    page = answer.get_data(as_text=True)
    assert "Too many requests" in page
    assert "nothing was done" in page
    assert "10 per 1 minute" not in page
    assert answer.headers["Content-Security-Policy"]


def test_programs_are_told_in_json() -> None:
    house = House()
    while not limited(answer := house.client.get("/api/v1/states")):
        pass
    assert answer.get_json() == {"error": "Too many requests", "status": 429}
    assert answer.headers["Retry-After"] == "60"


def test_a_piece_of_a_page_is_refused_without_a_body() -> None:
    house = House()
    partial = {"HX-Request": "true", "HX-Request-Type": "partial"}
    for _ in range(121):
        answer = house.client.get("/states?q=rds", headers=partial)
    assert (answer.status_code, answer.data) == (429, b"")
    assert "HX-Retarget" not in answer.headers
    assert answer.headers["Retry-After"] == "60"


def test_a_flood_is_noted_once_a_minute_for_each_limit_and_person() -> None:
    house = House()
    for _ in range(100):
        house.act()
        house.client.get("/states.csv")
    house.person = "local|lee"
    for _ in range(20):
        house.act()
    assert house.notes == [
        ("actions", "10 per 1 minute", "local|kim"),
        ("exports", "10 per 1 minute", "local|kim"),
        ("actions", "10 per 1 minute", "local|lee"),
    ]
    house.clock.pass_by(60)
    for _ in range(20):
        house.act()
    assert len(house.notes) == 4


def test_a_flood_over_many_minutes_is_noted_once_in_each() -> None:
    house = House()
    for _ in range(50):
        house.client.post("/audit/verify", headers=OWN)
        house.clock.pass_by(6)
    assert house.notes == [("verifications", "5 per 1 hour", "local|kim")] * 5


def test_a_log_that_takes_no_record_does_not_let_anybody_over_the_limit() -> None:
    house = House()
    house.log_is_broken = True
    answers = [house.act().status_code for _ in range(12)]
    assert answers[10:] == [429, 429]


# ---------------------------------------------------------------- one count for all processes


class Recording(MemoryCounters):
    """What another process sees of the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.swept: list[datetime] = []

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        self.asked.append(name)
        return super().add(name, now, lasts, amount)

    def sweep(self, now: datetime) -> int:
        self.swept.append(now)
        return super().sweep(now)


def test_two_processes_share_one_limit() -> None:
    shared = MemoryCounters()
    one, two = House(shared), House(shared)
    answers = [house.act().status_code for _ in range(6) for house in (one, two)]
    assert [code == 429 for code in answers] == [False] * 10 + [True] * 2


def test_a_flood_over_the_limit_asks_the_database_no_more() -> None:
    shared = Recording()
    house = House(shared)
    for _ in range(11):
        house.act()
    asked = len(shared.asked)
    for _ in range(200):
        assert limited(house.act())
    assert len(shared.asked) == asked


def test_a_new_window_asks_the_database_again() -> None:
    shared = Recording()
    house = House(shared)
    for _ in range(15):
        house.act()
    asked = len(shared.asked)
    house.clock.pass_by(60)
    assert not limited(house.act())
    assert len(shared.asked) == asked + 2  # of the minute and of the hour


class Broken:
    """A database that fails, or does not answer until told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = False
        self.stuck: threading.Event | None = None

    def add(self, name: str, now: datetime, lasts: timedelta, amount: int = 1) -> Tally:
        self.asked += 1
        if self.stuck is not None:
            self.stuck.wait(20)
        if not self.answers:
            raise StoreError("the database is locked")
        return Tally(100, now + lasts)

    def sweep(self, now: datetime) -> int:
        return 0


@pytest.fixture
def stuck() -> Iterator[Broken]:
    broken = Broken()
    broken.stuck = threading.Event()
    yield broken
    broken.stuck.set()


def test_without_the_database_the_process_counts_for_itself() -> None:
    clock = Ticking()
    counts = Counts(Broken(), clock.monotonic)
    assert [counts.add("kim", NOW, MINUTE).count for _ in range(4)] == [1, 2, 3, 4]


def test_a_database_that_failed_is_asked_again_after_a_pause() -> None:
    clock, broken = Ticking(), Broken()
    counts = Counts(broken, clock.monotonic)
    for _ in range(5):
        counts.add("kim", NOW, MINUTE)
    assert broken.asked == 1
    broken.answers = True
    clock.pass_by(PAUSE - 0.1)
    assert counts.add("kim", NOW, MINUTE).count == 6
    clock.pass_by(0.1)
    assert counts.add("kim", NOW, MINUTE).count == 100


def test_a_database_that_hangs_is_waited_for_once_and_briefly(stuck: Broken) -> None:
    clock = Ticking()
    counts = Counts(stuck, clock.monotonic, wait=0.01)
    assert [counts.add("kim", NOW, MINUTE).count for _ in range(3)] == [1, 2, 3]
    assert stuck.asked == 1


def test_a_database_that_hangs_for_ever_holds_a_bounded_number_of_threads(stuck: Broken) -> None:
    clock = Ticking()
    counts = Counts(stuck, clock.monotonic, wait=0.01)
    for number in range(12):
        assert counts.add("kim", NOW, MINUTE).count == number + 1
        clock.pass_by(PAUSE)
    assert stuck.asked == limits.TURNS


def test_two_processes_note_a_flood_once() -> None:
    shared = MemoryCounters()
    houses = [House(shared), House(shared)]
    for _ in range(20):
        for house in houses:
            house.act()
    assert sum(len(house.notes) for house in houses) == 1


def test_what_was_counted_while_the_database_was_away_is_not_forgotten_when_it_is_back() -> None:
    clock, shared = Ticking(), MemoryCounters()
    counts = Counts(shared, clock.monotonic)
    shared.add("kim", NOW, MINUTE)
    assert [counts.add("kim", NOW, MINUTE).count for _ in range(2)] == [2, 3]


def test_ended_windows_are_swept_every_ten_minutes() -> None:
    clock, shared = Ticking(), Recording()
    counts = Counts(shared, clock.monotonic)
    for _ in range(31):
        counts.add("kim", clock(), MINUTE)
        clock.pass_by(60)
    for thread in threading.enumerate():
        if thread.name == "count":  # the sweep follows the answer
            thread.join(10)
    assert [at - NOW for at in shared.swept] == [timedelta(minutes=m) for m in (0, 10, 20, 30)]


# ---------------------------------------------------------------- counting in memory


def test_in_memory_a_window_begins_with_the_first_and_ends_after_its_length() -> None:
    counters = MemoryCounters()
    found = [counters.add("kim", NOW + timedelta(seconds=s), MINUTE) for s in (0, 30, 59.9, 60)]
    assert found == [
        Tally(1, NOW + MINUTE),
        Tally(2, NOW + MINUTE),
        Tally(3, NOW + MINUTE),
        Tally(1, NOW + 2 * MINUTE),
    ]


def test_in_memory_a_clock_that_went_far_back_begins_anew() -> None:
    counters = MemoryCounters()
    counters.add("kim", NOW, MINUTE)
    assert counters.add("kim", NOW - HOUR, MINUTE) == Tally(1, NOW - HOUR + MINUTE)


def test_a_name_that_is_shut_opens_where_the_clock_went_far_back() -> None:
    counts = Counts(None, Ticking().monotonic)
    counts.add("kim", NOW, MINUTE)
    assert counts.shut("kim", NOW) == NOW + MINUTE
    assert counts.add("kim", NOW, MINUTE).count == 1
    assert counts.add("kim", NOW - HOUR, MINUTE) == Tally(1, NOW - HOUR + MINUTE)


def test_many_names_take_a_bounded_room_and_the_newest_are_kept() -> None:
    counters = MemoryCounters()
    for number in range(MOST_NAMES + 1):
        counters.add(f"address {number}", NOW, MINUTE)
    assert counters.find("address 0") is None
    assert counters.find(f"address {MOST_NAMES}") == Tally(1, NOW + MINUTE)
    assert counters.sweep(NOW + MINUTE) == MOST_NAMES // 2 + 1


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [rule.name for rule in RULES]
    assert sorted(set(names)) == sorted(names)
