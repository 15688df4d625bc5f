"""Signing in and out in every mode, over the stores that are used in earnest, on both databases."""

from __future__ import annotations

import hashlib
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, select
from werkzeug.test import TestResponse

from lockboard.adapters.store import SqlAudit, migrate, open_audit_engine, open_engine
from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import changing
from lockboard.adapters.store.schema import accounts, api_tokens, approvals, attempts, sessions
from lockboard.config import Settings, load
from lockboard.domain.access import UNTOLD, Area, Grant, Identity, Role
from lockboard.domain.audit import AuditError, Entry, Record
from lockboard.domain.keys import state_id
from lockboard.domain.signin import SESSION_IDLE, SESSION_LIFE
from lockboard.web import passwords
from lockboard.web.app import Services, build_app
from lockboard.web.passwords import hash_password
from lockboard.web.security import LOOPBACK
from lockboard.web.signin import FAILED_WITHIN, FAILURES
from lockboard.web.wsgi import open_door
from lockboard.wiring import People, open_people
from tests.databases import PostgresServer, postgresql_server, sqlite_url
from tests.oidc_provider import Registered, Someone, provider, serve
from tests.web.audit_fakes import IAM
from tests.web.fakes import BACKENDS, SETTINGS, STORIES, FakeBoard, Recheck, Ticking, estate, report
from tests.web.people_fakes import StrictActions
from tests.web.test_headers import protected

SECRET, AUDIT_KEY, PROXY_SECRET = "k" * 40, "a" * 40, "p" * 40
SAME = {"Sec-Fetch-Site": "same-origin"}
PASSWORD, CHEAP = "correct battery horse", "scrypt:1024:8:1"
ADMIN = Grant(Role.ADMINISTRATOR)
OPERATOR = Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True)
KEY = state_id(*IAM)
UNLOCK = f"/s/{KEY}/unlock"
COOKIE = "lockboard_session"
TABLES = (sessions, accounts, api_tokens, attempts, approvals)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
STEP_UP = timedelta(minutes=5)


IN_EARNEST = passwords._NOBODY
"""What a password is compared with where there is no account: as costly as any."""


# ---------------------------------------------------------------- the house


@pytest.fixture(autouse=True)
def cheap_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_NOBODY", f"{CHEAP}$nobody${'0' * 128}")


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[PostgresServer]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of each kind with its tables, for all tests here."""
    if request.param == "sqlite":
        url = sqlite_url(tmp_path_factory.mktemp("signin"))
        migrate(open_engine(url))
        yield url
        return
    server: PostgresServer = request.getfixturevalue("own_postgresql")
    url = server.fresh()
    migrate(open_engine(url))
    yield url
    server.drop(url)


class FailingAudit:
    """The log, until it fails."""

    def __init__(self, audit: SqlAudit) -> None:
        self._audit, self.broken = audit, False

    def append(self, entry: Entry) -> Record:
        if self.broken:
            raise AuditError("the database is read-only")
        return self._audit.append(entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audit, name)


@dataclass
class Site:
    """The application as it is wired, over a database; AWS, the inventory and the clock are the test's."""

    people: People
    clock: Ticking
    audit: FailingAudit
    started: int
    folder: Path
    url: str
    engine: Engine
    app: Flask | None = None
    actions: StrictActions | None = None

    def settings(self, auth: str = 'mode = "local"', web: str = "") -> Settings:
        path = self.folder / "lockboard.toml"
        backend = (
            '[[backends]]\nname = "prod-kr"\nbucket = "acme-prod-kr-tfstate"\nregion = "ap-northeast-2"\n'
        )
        path.write_text(f"[auth]\n{auth}\n[web]\n{web}\n{backend}")
        secrets = {
            "LOCKBOARD_SECRET_KEY": SECRET,
            "LOCKBOARD_AUDIT_KEY": AUDIT_KEY,
            "LOCKBOARD_PROXY_SECRET": PROXY_SECRET,
            "LOCKBOARD_OIDC_CLIENT_SECRET": "client-secret-of-the-tests",
            "LOCKBOARD_DATABASE_URL": self.url,
        }
        return load(path, secrets)

    def open(self, auth: str = 'mode = "local"', web: str = "", *, limited: bool = False) -> Site:
        """As after a start with these settings."""
        settings = self.settings(auth, web)
        board = FakeBoard(estate(), [report(name) for name in BACKENDS])
        self.actions = StrictActions(board, BACKENDS, self.audit, self.clock)
        for story in STORIES:
            self.actions.look(story.seen())
        services = Services(
            board,
            BACKENDS,
            Recheck(board),
            SETTINGS,
            self.clock,
            timedelta(seconds=15),
            "0.1.0",
            open_door(settings, self.people, self.audit, self.clock),
            audit=self.audit,
            actions=self.actions.as_actions(),
            tokens=self.people.tokens,
            limited=limited,
        )
        self.app = build_app(
            services,
            trusted_hosts=(*LOOPBACK, *settings.hosts),
            proxies=settings.in_front,
            monotonic=self.clock.monotonic,
        )
        return self

    def browser(self, address: str = "127.0.0.1", base: str = "http://localhost") -> Browser:
        assert self.app is not None
        self.app.test_client_class = Browser
        found = self.app.test_client()
        assert isinstance(found, Browser)
        found.address, found.base = address, base
        return found

    def account(self, name: str = "kim", *grants: Grant, password: str = PASSWORD) -> None:
        stored = hash_password(password, CHEAP) if password else ""
        self.people.accounts.add(name, grants or (ADMIN,), stored, self.clock())

    def __call__(self, environ: Any, start: Any) -> Any:
        assert self.app is not None
        return self.app(environ, start)

    @property
    def told(self) -> list[tuple[str, str, str, str, str]]:
        """What the log has since the start: action, name, method, address, subject; oldest first."""
        head = self.audit.head()
        found = [self.audit.record(seq) for seq in range(self.started + 1, head.seq + 1 if head else 0)]
        people = [(r.entry.action, r.entry.person) for r in found if r]
        return [(action, who.name, who.method, who.address, who.subject) for action, who in people]

    @property
    def sessions(self) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(sessions)))


class Browser(FlaskClient):
    """One browser at an address."""

    address, base = "127.0.0.1", "http://localhost"

    def open(self, *args: Any, **named: Any) -> Any:
        named.setdefault("base_url", self.base)
        named.setdefault("environ_base", {"REMOTE_ADDR": self.address})
        return super().open(*args, **{"buffered": True, **named})

    def form(self, path: str = "/signin", next_: str = "/states") -> str:
        """The token of the sign-in form."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(f"{path}?next={quote(next_)}").text)
        assert found
        return found[1]

    def enter(self, name: str = "kim", password: str = PASSWORD, next_: str = "/states") -> TestResponse:
        sent = {"name": name, "password": password, "next": next_, "token": self.form()}
        return self.post("/signin", data=sent, headers=SAME)

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/settings").text)
        assert found
        return found[1]

    def leave(self) -> TestResponse:
        return self.post("/signout", data={"csrf": self.csrf()}, headers=SAME)

    def session_id(self, name: str = COOKIE) -> str:
        found = self.get_cookie(name)
        return found.value if found else ""


@pytest.fixture
def site(migrated: str, tmp_path: Path) -> Iterator[Site]:
    engine = open_engine(migrated)
    with changing(engine) as connection:
        for table in TABLES:
            connection.execute(delete(table))
    clock = Ticking()
    audit = SqlAudit(open_audit_engine(migrated), AUDIT_KEY.encode(), clock, lambda head, at: None)
    head = audit.head()
    found = Site(None, clock, FailingAudit(audit), head.seq if head else 0, tmp_path, migrated, engine)  # type: ignore[arg-type]
    found.people = open_people(found.settings())
    yield found
    for used in (engine, audit._engine, *(store._engine for store in found.people)):
        used.dispose()


@pytest.fixture
def local(site: Site) -> Site:
    """Local accounts: kim may do everything."""
    site.account()
    return site.open()


# ---------------------------------------------------------------- local accounts


def test_the_right_password_opens_a_session_and_leads_on(local: Site) -> None:
    browser = local.browser()
    answer = browser.enter(next_="/states?view=all")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/states?view=all")
    assert browser.get("/states?view=all").status_code == 200
    assert local.told == [("sign_in", "kim", "local", "127.0.0.1", "local|kim")]


def test_a_name_in_other_letter_case_is_the_same_account(local: Site) -> None:
    browser = local.browser()

    assert browser.enter(" KIM ").status_code == 303
    assert local.told == [("sign_in", "kim", "local", "127.0.0.1", "local|kim")]


@pytest.mark.parametrize("text", ["//evil.example", "/\\evil.example", "https:evil.example", "/\t/evil", ""])
def test_no_sign_in_leads_to_another_site(local: Site, text: str) -> None:
    assert local.browser().enter(next_=text).headers["Location"] == "/"


def wrong_ways(site: Site) -> Mapping[str, tuple[str, str]]:
    site.account("disabled")
    site.people.accounts.set_disabled("disabled", True)
    site.account("nopass", password="")
    return {
        "wrong password": ("kim", "wrong"),
        "unknown name": ("nobody", PASSWORD),
        "disabled": ("disabled", PASSWORD),
        "no password": ("nopass", PASSWORD),
        "an empty password for none": ("nopass", ""),
        "an empty password": ("kim", ""),
        "an empty name": ("", PASSWORD),
        "a name too long": ("k" * 5000, PASSWORD),
        "a password too long": ("kim", PASSWORD + "x" * 30_000),
        "an odd name": ("k\u202eim\x00<b>", PASSWORD),
    }


def test_whatever_is_wrong_with_a_sign_in_it_is_said_alike(local: Site) -> None:
    told = set()
    for name, password in wrong_ways(local).values():
        browser = local.browser()
        answer = browser.enter(name, password)
        text = re.sub(
            r'nonce="[^"]*"|(?<=name="token" value=")[^"]*|(?<=name="name" value=")[^"]*', "", answer.text
        )
        headers = {
            k: re.sub(r"nonce-[\w-]+|lockboard_signin=[^;]+|Expires=[^;]+", "", v) for k, v in answer.headers
        }
        del headers["Content-Length"], headers["X-Request-Id"]
        told.add((answer.status_code, text, tuple(sorted(headers.items()))))
        assert browser.session_id() == ""
        assert browser.get("/states").status_code == 401

    assert {code for code, *_ in told} == {403}
    assert len(told) == 1
    assert local.sessions == []


def test_whatever_is_wrong_with_a_sign_in_it_takes_as_long(
    local: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_NOBODY", IN_EARNEST)
    stored = hash_password(PASSWORD)  # in earnest, as all are but in these tests
    local.people.accounts.set_password("kim", stored, local.clock())
    took = {}
    for why, (name, password) in wrong_ways(local).items():
        browser, times = local.browser(), []
        token = browser.form()
        for number in range(3):
            browser.address = f"192.0.2.{number}"
            begun = time.perf_counter()
            browser.post("/signin", data={"name": name, "password": password, "token": token}, headers=SAME)
            times.append(time.perf_counter() - begun)
        took[why] = statistics.median(times)

    assert max(took.values()) < 4 * min(took.values()), took


def test_every_failed_sign_in_is_recorded_with_the_name_that_was_tried(local: Site) -> None:
    local.browser("192.0.2.7").enter("kim", "wrong")
    local.browser("192.0.2.7").enter("nobody", "wrong")

    assert local.told == [
        ("sign_in_refused", "kim", "local", "192.0.2.7", ""),
        ("sign_in_refused", "nobody", "local", "192.0.2.7", ""),
    ]


def test_what_can_be_no_name_is_not_recorded_for_it_may_be_a_password(local: Site) -> None:
    local.browser().enter("correct battery horse!", "kim")
    head = local.audit.head()

    assert local.told == [("sign_in_refused", "", "local", "127.0.0.1", "")]
    assert head is not None
    assert "battery" not in local.audit.record(head.seq).body


def test_the_addresses_of_one_ipv6_network_are_one(local: Site) -> None:
    for number in range(FAILURES):
        local.browser(f"2001:db8:1:2::{number + 1}").enter(password="wrong")

    assert local.browser("2001:db8:1:2:ffff::1").enter().status_code == 403
    assert local.browser("2001:db8:1:3::1").enter().status_code == 303


def test_five_failures_of_one_account_from_one_address_shut_it_there_for_fifteen_minutes(local: Site) -> None:
    browser = local.browser("192.0.2.7")
    for _ in range(FAILURES):
        assert browser.enter(password="wrong").status_code == 403
    shut = browser.enter()

    assert (shut.status_code, browser.session_id()) == (403, "")
    local.clock.pass_by(FAILED_WITHIN.total_seconds() - 1)
    assert browser.enter("Kim").status_code == 403
    local.clock.pass_by(2)
    assert browser.enter().status_code == 303


def test_another_address_and_another_account_are_not_shut(local: Site) -> None:
    local.account("lee")
    browser = local.browser("192.0.2.7")
    for _ in range(FAILURES):
        browser.enter(password="wrong")

    assert local.browser("192.0.2.8").enter().status_code == 303
    assert local.browser("192.0.2.7").enter("lee").status_code == 303


def test_what_is_tried_while_it_is_shut_makes_it_no_longer(local: Site) -> None:
    browser = local.browser()
    for _ in range(FAILURES):
        browser.enter(password="wrong")
    for _ in range(14):
        local.clock.pass_by(60)
        assert browser.enter().status_code == 403
    local.clock.pass_by(61)

    assert browser.enter().status_code == 303


def test_a_flood_is_recorded_as_often_as_it_was_tried_and_no_more(local: Site) -> None:
    browser = local.browser()
    for _ in range(4 * FAILURES):
        browser.enter(password="wrong")

    assert [action for action, *_ in local.told] == ["sign_in_refused"] * FAILURES


def test_a_success_forgets_the_failures_before_it(local: Site) -> None:
    browser = local.browser()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            browser.enter(password="wrong")
        assert browser.enter().status_code == 303


def test_many_guesses_at_once_are_no_more_than_one_after_another(local: Site) -> None:
    local.account("lee", password=PASSWORD)
    barrier, codes = threading.Barrier(12), []
    browsers = [(b := local.browser(), b.form()) for _ in range(12)]

    def guess(browser: Browser, token: str, password: str) -> None:
        barrier.wait()
        sent = {"name": "lee", "password": password, "token": token}
        codes.append(browser.post("/signin", data=sent, headers=SAME).status_code)

    threads = [threading.Thread(target=guess, args=(b, token, "wrong")) for b, token in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codes == [403] * 12
    assert len(local.told) <= FAILURES
    assert local.browser().enter("lee").status_code == 403 or len(local.told) < FAILURES + 1


@pytest.mark.parametrize("token", ["", "x", "the other browser's"])
def test_a_form_that_another_site_could_have_made_signs_nobody_in(local: Site, token: str) -> None:
    other, browser = local.browser(), local.browser()
    browser.form()
    sent = {"name": "kim", "password": PASSWORD, "token": other.form() if "other" in token else token}

    assert browser.post("/signin", data=sent, headers=SAME).status_code == 403
    assert (browser.session_id(), local.told, local.sessions) == ("", [], [])


def test_a_form_without_its_cookie_signs_nobody_in(local: Site) -> None:
    token = local.browser().form()
    sent = {"name": "kim", "password": PASSWORD, "token": token}

    assert local.browser().post("/signin", data=sent, headers=SAME).status_code == 403
    assert local.sessions == []


# ---------------------------------------------------------------- sessions


def test_an_id_that_was_planted_is_never_adopted(local: Site) -> None:
    browser = local.browser()
    browser.set_cookie(COOKIE, "planted-by-somebody-else-43-characters-long")
    assert browser.get("/states").status_code == 401

    browser.enter()

    assert browser.session_id() != "planted-by-somebody-else-43-characters-long"
    planted = local.browser()
    planted.set_cookie(COOKIE, "planted-by-somebody-else-43-characters-long")
    assert planted.get("/states").status_code == 401


def test_every_sign_in_has_a_new_id_and_a_new_form_token_and_ends_the_session_before(local: Site) -> None:
    browser, seen = local.browser(), set()
    for _ in range(5):
        browser.enter()
        seen |= {browser.session_id(), browser.csrf()}

    assert len(seen) == 10
    assert all(len(one) >= 43 for one in seen)
    assert len(local.sessions) == 1


def test_the_database_knows_a_session_by_its_hash_alone(local: Site) -> None:
    browser = local.browser()
    browser.enter()
    found = browser.session_id()
    row = local.sessions[0]

    assert row.id == hashlib.sha256(found.encode()).hexdigest()
    assert found not in repr(row)
    stolen = local.browser()
    stolen.set_cookie(COOKIE, row.id)
    assert stolen.get("/states").status_code == 401


def signed_out(site: Site, browser: Browser) -> None:
    browser.leave()


def idle(site: Site, browser: Browser) -> None:
    site.clock.pass_by((SESSION_IDLE + SECOND).total_seconds())


def old(site: Site, browser: Browser) -> None:
    while site.clock() - BEGAN <= SESSION_LIFE:
        browser.get("/states")
        site.clock.pass_by(600)


def disabled(site: Site, browser: Browser) -> None:
    site.people.accounts.set_disabled("kim", True)


def ended(site: Site, browser: Browser) -> None:
    site.people.sessions.close_number(site.sessions[0].number)


def all_ended(site: Site, browser: Browser) -> None:
    site.people.sessions.close_all("local|kim")


def other_mode(site: Site, browser: Browser) -> None:
    site.open(PROXY_AUTH)


def clock_went_back(site: Site, browser: Browser) -> None:
    site.clock.pass_by(-3600)


BEGAN = Ticking()()
ENDS: Mapping[str, Callable[[Site, Browser], None]] = {
    "sign-out": signed_out,
    "30 minutes idle": idle,
    "8 hours": old,
    "account disabled": disabled,
    "ended by its number": ended,
    "all ended, as after a change of role": all_ended,
    "another mode after a restart": other_mode,
    "a clock that went back": clock_went_back,
}
PROXY_AUTH = """mode = "proxy"
[auth.proxy]
addresses = ["127.0.0.1/32"]
secret_header = "X-Proxy-Secret"
user_header = "X-User"
name_header = "X-Name"
groups_header = "X-Groups"
[[auth.grants]]
role = "administrator"
groups = ["ops"]
[[auth.grants]]
role = "viewer"
groups = ["dev"]
"""


@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_is_over_opens_nothing_a_hundred_times(local: Site, end: str) -> None:
    browser = local.browser()
    browser.enter()
    kept, csrf = browser.session_id(), browser.csrf()
    assert browser.get("/states").status_code == 200
    ENDS[end](local, browser)

    replayed = local.browser()
    replayed.set_cookie(COOKIE, kept)
    pages = [replayed.get("/states") for _ in range(50)]
    parts = [replayed.get("/states", headers={"HX-Request-Type": "partial"}) for _ in range(49)]
    changed = replayed.post("/prefs", data={"csrf": csrf}, headers=SAME)

    assert {answer.status_code for answer in (*pages, *parts, changed)} == {401}
    assert {answer.data for answer in parts} == {b""}
    assert {answer.headers["HX-Redirect"] for answer in parts} == {"/signin?next=%2Fstates"}
    assert not any("tfstate" in answer.text for answer in pages)


def test_a_session_that_is_used_lives_on(local: Site) -> None:
    browser = local.browser()
    browser.enter()
    for _ in range(16):
        local.clock.pass_by(SESSION_IDLE.total_seconds() - 60)
        assert browser.get("/states").status_code == 200


def test_a_role_that_changed_counts_at_once(local: Site) -> None:
    browser = local.browser()
    browser.enter()
    assert browser.get("/people").status_code == 200

    local.people.accounts.grant("kim", [Grant(Role.VIEWER, Area("dev-kr"))])

    assert browser.get("/people").status_code == 403
    assert "prod-kr" not in browser.get("/states?view=all").text


def test_the_form_token_of_the_session_before_is_worth_nothing(local: Site) -> None:
    browser = local.browser()
    browser.enter()
    before = browser.csrf()
    browser.enter()
    lee = local.browser()
    lee.enter()

    assert browser.post("/prefs", data={"csrf": before}, headers=SAME).status_code == 403
    assert browser.post("/prefs", data={"csrf": lee.csrf()}, headers=SAME).status_code == 403
    assert browser.post("/prefs", data={"csrf": browser.csrf()}, headers=SAME).status_code == 303


def test_a_session_of_a_local_account_is_none_where_a_provider_signs_in(site: Site) -> None:
    """Not even where the provider has somebody of the same name, and that name has a grant."""
    site.account("kim")
    kept = site.open().browser()
    kept.enter()
    grants = '[[auth.grants]]\nrole = "administrator"\npeople = ["kim", "local|kim"]\n'
    oidc = 'mode = "oidc"\n[auth.oidc]\nissuer = "https://idp.example.com"\nclient_id = "lockboard"\n'
    browser = site.open(oidc + grants, web='public_url = "http://localhost"').browser()
    browser.set_cookie(COOKIE, kept.session_id())

    assert browser.get("/states").status_code == 401


def test_a_provider_that_does_not_say_when_somebody_signed_in_is_said_not_to(site: Site) -> None:
    grants = '[[auth.grants]]\nrole = "operator"\npeople = ["https://idp.example.com|8f3a"]\n'
    oidc = 'mode = "oidc"\n[auth.oidc]\nissuer = "https://idp.example.com"\nclient_id = "lockboard"\n'
    browser = site.open(oidc + grants, web='public_url = "http://localhost"').browser()
    kim = Identity("https://idp.example.com|8f3a", "kim", "oidc", frozenset(), UNTOLD)
    session_id, _ = site.people.sessions.open(kim, "192.0.2.1", site.clock())
    browser.set_cookie(COOKIE, session_id)
    page = browser.get("/account").text

    assert "not told by the identity provider" in page
    assert "1970" not in page
    assert browser.get(f"/s/{KEY}").status_code == 200
    assert browser.get(UNLOCK).status_code != 200


def test_signing_out_is_recorded_and_ends_this_session_alone(local: Site) -> None:
    phone, desk = local.browser("192.0.2.1"), local.browser("192.0.2.2")
    phone.enter()
    desk.enter()

    answer = phone.leave()

    assert answer.status_code == 200
    assert phone.session_id() == ""
    assert desk.get("/states").status_code == 200
    assert local.told[-1] == ("sign_out", "kim", "local", "192.0.2.1", "local|kim")


@pytest.mark.parametrize(
    ("web", "base", "name", "secure"),
    [
        ("", "http://localhost", COOKIE, False),
        ('public_url = "https://board.acme.example"', "https://board.acme.example", "__Host-lockboard", True),
    ],
)
def test_the_cookie_is_as_narrow_as_can_be(site: Site, web: str, base: str, name: str, secure: bool) -> None:
    site.account()
    browser = site.open(web=web).browser(base=base)
    entered = browser.enter()
    left = browser.leave()

    for answer, parts in ((entered, {"Max-Age=28800"}), (left, {"Max-Age=0"})):
        cookies = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith(f"{name}=")]
        assert len(cookies) == 1
        found = set(cookies[0].split("; ")[1:])
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} | parts <= found
        assert ("Secure" in found) is secure
        assert "Domain" not in cookies[0]
    form = browser.get("/signin").headers["Set-Cookie"]
    assert "HttpOnly" in form
    assert ("Secure" in form) is secure


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_a_sign_in_that_cannot_be_recorded_does_not_happen(local: Site, password: str) -> None:
    browser = local.browser()
    local.audit.broken = True

    answer = browser.enter(password=password)

    assert (answer.status_code, browser.session_id(), local.sessions) == (503, "", [])
    protected(answer)


# ---------------------------------------------------------------- a recent sign-in


def stale(site: Site) -> Browser:
    """Somebody who signed in a while ago, and uses it still."""
    browser = site.browser()
    browser.enter()
    site.clock.pass_by((STEP_UP + SECOND).total_seconds())
    return browser


FRESH_PAGES = [UNLOCK, f"/s/{KEY}/digest", f"/s/{KEY}/restore/v-1", f"/s/{KEY}/takeover", "/people"]
FRESH_FORMS = [
    UNLOCK,
    f"/s/{KEY}/digest",
    f"/s/{KEY}/digest/clear",
    f"/s/{KEY}/restore/v-1",
    f"/s/{KEY}/takeover",
    f"/s/{KEY}/undo/3",
    "/approvals/1/approve",
    "/approvals/1/decline",
    "/people/tokens",
    "/people/tokens/1/revoke",
    "/people/sessions/1/end",
    f"/api/v1/states/{KEY}/plans",
    f"/api/v1/states/{KEY}/actions",
]


def test_five_minutes_after_the_sign_in_every_action_asks_for_it_again(local: Site) -> None:
    browser = stale(local)
    csrf = browser.csrf()
    assert local.actions is not None
    before = len(local.told)

    for path in FRESH_FORMS:
        answer = browser.post(path, data={"csrf": csrf}, headers=SAME)
        assert (path, answer.status_code) == (path, 401)
    for path in FRESH_PAGES:
        page = browser.get(path)
        assert (path, page.status_code) == (path, 401)
        assert "Sign in once more" in page.text
    part = browser.post(UNLOCK, headers={**SAME, "HX-Request-Type": "partial", "X-CSRF-Token": csrf})

    assert (part.status_code, part.data) == (401, b"")
    assert part.headers["HX-Redirect"].endswith("&again=1")
    assert (local.actions.sent, local.actions.prepared, local.actions.decided) == ([], [], [])
    assert len(local.told) == before


def test_looking_asks_for_no_new_sign_in(local: Site) -> None:
    browser = stale(local)

    for path in ("/states", f"/s/{KEY}", "/audit", "/approvals", "/health", "/account"):
        assert (path, browser.get(path).status_code) == (path, 200)


def test_a_page_that_asks_is_only_given_while_its_form_would_still_be_taken(local: Site) -> None:
    browser = local.browser()
    browser.enter()
    local.clock.pass_by(180)
    assert browser.get(UNLOCK).status_code == 200
    local.clock.pass_by(1)
    assert browser.get(UNLOCK).status_code == 401
    local.clock.pass_by(119)
    assert browser.post(UNLOCK, data={"csrf": browser.csrf()}, headers=SAME).status_code == 400
    local.clock.pass_by(1)
    assert browser.get(UNLOCK).status_code == 401


def test_after_signing_in_again_one_is_back_at_the_page_that_asks(local: Site) -> None:
    browser = stale(local)
    page = browser.get(f"{UNLOCK}?store=dynamodb")
    token, back = (re.search(rf'name="{n}" value="([^"]+)"', page.text) for n in ("token", "next"))
    assert token
    assert back

    sent = {"name": "kim", "password": PASSWORD, "token": token[1], "next": unescape(back[1]), "again": "1"}
    answer = browser.post("/signin", data=sent, headers=SAME)

    assert answer.headers["Location"] == f"{UNLOCK}?store=dynamodb"
    assert browser.get(UNLOCK).status_code == 200
    assert local.actions is not None
    assert local.actions.sent == []


def test_a_wrong_password_at_the_second_sign_in_leaves_the_first_as_it_was(local: Site) -> None:
    browser = stale(local)

    assert browser.enter(password="wrong").status_code == 403
    assert browser.get("/states").status_code == 200
    assert browser.get(UNLOCK).status_code == 401


# ---------------------------------------------------------------- an identity in headers


def said_by_proxy(user: str = "kim", groups: str = "ops", **more: str) -> dict[str, str]:
    return {"X-Proxy-Secret": PROXY_SECRET, "X-User": user, "X-Groups": groups, **more}


@pytest.fixture
def proxied(site: Site) -> Site:
    return site.open(PROXY_AUTH)


def test_whom_the_proxy_names_gets_a_session_of_their_own_and_one_record(proxied: Site) -> None:
    browser = proxied.browser()
    for _ in range(3):
        assert browser.get("/states", headers=said_by_proxy()).status_code == 200

    assert proxied.told == [("sign_in", "kim", "proxy", "127.0.0.1", "proxy|kim")]
    assert len(proxied.sessions) == 1
    assert proxied.browser().get("/states", headers=said_by_proxy()).status_code == 200
    assert len(proxied.sessions) == 2


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-User": "kim", "X-Groups": "ops"}, said_by_proxy() | {"X-Proxy-Secret": "x"}, said_by_proxy("")],
)
def test_who_comes_past_the_proxy_is_nobody_whatever_cookie_they_have(
    proxied: Site, headers: Mapping[str, str]
) -> None:
    browser = proxied.browser()
    browser.get("/states", headers=said_by_proxy())

    assert browser.get("/states", headers=headers).status_code == 401
    assert proxied.browser("192.0.2.7").get("/states", headers=said_by_proxy()).status_code == 401
    assert len(proxied.sessions) == 1


def test_another_name_in_the_header_never_rides_on_the_cookie_of_the_first(proxied: Site) -> None:
    browser = proxied.browser()
    browser.get("/states", headers=said_by_proxy())
    first, csrf = browser.session_id(), csrf_of(browser, said_by_proxy())

    page = browser.get("/account", headers=said_by_proxy("lee", "dev"))
    form = browser.post("/prefs", data={"csrf": csrf}, headers={**said_by_proxy("lee", "dev"), **SAME})

    assert "lee" in page.text
    assert "kim" not in page.text
    assert form.status_code == 403
    assert browser.session_id() not in ("", first)
    assert browser.get("/people", headers=said_by_proxy("lee", "dev")).status_code == 403
    assert [name for _, name, *_ in proxied.told] == ["kim", "lee"]
    stolen = proxied.browser()
    stolen.set_cookie(COOKIE, first)
    assert stolen.get("/states", headers=said_by_proxy()).status_code == 401


def csrf_of(browser: Browser, headers: Mapping[str, str]) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/settings", headers=headers).text)
    assert found
    return found[1]


def test_groups_that_changed_in_front_count_at_once(proxied: Site) -> None:
    browser = proxied.browser()

    assert browser.get("/people", headers=said_by_proxy()).status_code == 200
    assert browser.get("/people", headers=said_by_proxy(groups="dev")).status_code == 403
    assert browser.get("/states", headers=said_by_proxy(groups="")).status_code == 403


def test_the_cookie_of_a_session_in_front_outlives_it_so_that_its_end_is_noticed(proxied: Site) -> None:
    given = proxied.browser().get("/states", headers=said_by_proxy()).headers["Set-Cookie"]
    lasts = re.search(r"Max-Age=(\d+)", given)

    assert lasts
    assert int(lasts[1]) > 30 * SESSION_LIFE.total_seconds()


def swept(site: Site, browser: Browser) -> None:
    site.clock.pass_by(timedelta(days=3).total_seconds())
    assert site.people.sessions.sweep(site.clock()) == 1


@pytest.mark.parametrize("end", [idle, old, ended, swept])
def test_a_session_that_ended_has_to_be_signed_in_anew_in_front(
    proxied: Site, end: Callable[[Site, Browser], None]
) -> None:
    browser = proxied.browser()
    browser.get("/states", headers=said_by_proxy())
    end(proxied, browser)

    assert {browser.get("/states", headers=said_by_proxy()).status_code for _ in range(20)} == {401}
    again = browser.get("/signin?next=/states", headers=said_by_proxy())
    assert (again.status_code, again.headers["Location"]) == (303, "/states")
    assert browser.session_id() == ""
    assert browser.get("/states", headers=said_by_proxy()).status_code == 200


def test_in_front_too_an_action_asks_for_a_recent_sign_in(proxied: Site) -> None:
    browser = proxied.browser()
    browser.get("/states", headers=said_by_proxy())
    proxied.clock.pass_by((STEP_UP + SECOND).total_seconds())

    page = browser.get(UNLOCK, headers=said_by_proxy())

    assert page.status_code == 401
    assert f"/signin?next={quote(UNLOCK, safe='')}&amp;again=1" in page.text


def test_without_a_record_of_it_the_proxy_opens_no_session(proxied: Site) -> None:
    browser = proxied.browser()
    proxied.audit.broken = True

    answers = [browser.get("/states", headers=said_by_proxy()) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503] * 3
    assert (browser.session_id(), proxied.sessions) == ("", [])


def test_signing_out_in_front_ends_the_session_here(proxied: Site) -> None:
    browser = proxied.browser()
    csrf = csrf_of(browser, said_by_proxy())
    kept = browser.session_id()

    answer = browser.post("/signout", data={"csrf": csrf}, headers={**said_by_proxy(), **SAME})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert (browser.session_id(), proxied.sessions) == ("", [])
    assert [action for action, *_ in proxied.told] == ["sign_in", "sign_out"]
    browser.set_cookie(COOKIE, kept)
    assert browser.get("/states", headers=said_by_proxy()).status_code == 401


def test_files_and_probes_open_no_session(proxied: Site) -> None:
    browser = proxied.browser()
    for path in ("/static/lockboard.css", "/healthz", "/readyz", "/favicon/0.svg"):
        assert browser.get(path, headers=said_by_proxy()).status_code == 200

    assert (proxied.sessions, proxied.told) == ([], [])


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/signin/callback", 404),
        ("GET", "/signin?next=/states", 303),
        ("DELETE", "/states", 405),
        ("POST", "/prefs", 403),
        ("POST", UNLOCK, 403),
        ("POST", "/find", 200),
        ("OPTIONS", "/states", 200),
    ],
)
def test_only_a_page_that_asks_who_comes_opens_a_session(
    proxied: Site, method: str, path: str, code: int
) -> None:
    browser = proxied.browser()
    answer = browser.open(path, method=method, headers={**said_by_proxy(), **SAME})

    assert (answer.status_code, browser.session_id()) == (code, "")
    assert (proxied.sessions, proxied.told) == ([], [])


def test_somebody_without_a_role_is_told_so_and_recorded_once(proxied: Site) -> None:
    browser = proxied.browser()
    for _ in range(3):
        assert browser.get("/states", headers=said_by_proxy("mallory", "")).status_code == 403

    assert proxied.told == [("sign_in", "mallory", "proxy", "127.0.0.1", "proxy|mallory")]
    assert len(proxied.sessions) == 1


def test_another_session_is_only_ended_by_somebody_else_who_opens_one(proxied: Site) -> None:
    browser = proxied.browser()
    browser.get("/states", headers=said_by_proxy())

    browser.get("/nothing", headers=said_by_proxy("lee"))

    assert browser.get("/states", headers=said_by_proxy()).status_code == 200
    assert [name for _, name, *_ in proxied.told] == ["kim"]


@pytest.mark.parametrize(("path", "code"), [("/states", 200), ("/states/pulse", 200), ("/audit/99999", 404)])
def test_who_keeps_no_cookie_is_not_recorded_without_end(site: Site, path: str, code: int) -> None:
    site.open(PROXY_AUTH, limited=True)
    kept = site.browser()
    kept.get("/states", headers=said_by_proxy())

    codes = [site.browser().get(path, headers=said_by_proxy()).status_code for _ in range(60)]

    assert codes == [code] * 29 + [429] * 31
    assert [action for action, *_ in site.told] == ["sign_in"] * 30 + ["rate_limited"]
    assert len(site.sessions) == 30
    assert kept.get("/states", headers=said_by_proxy()).status_code == 200
    assert site.browser().get("/states", headers=said_by_proxy("lee")).status_code == 200


def test_what_a_limit_refuses_opens_no_session(site: Site) -> None:
    site.open(PROXY_AUTH, limited=True)

    codes = [site.browser().get("/states.csv", headers=said_by_proxy()).status_code for _ in range(25)]

    assert codes == [200] * 10 + [429] * 15
    assert len(site.sessions) == 10


def test_a_program_behind_the_proxy_reads_the_api_without_a_session_and_changes_nothing(
    proxied: Site,
) -> None:
    for _ in range(5):
        program = proxied.browser()
        assert program.get("/api/v1/states", headers=said_by_proxy()).status_code == 200
    assert program.get("/api/v1/states", headers=said_by_proxy(groups="")).status_code == 403
    for token in ("", "x"):
        headers = {**said_by_proxy(), **SAME, "X-CSRF-Token": token}
        sent = program.post(f"/api/v1/states/{KEY}/plans", headers=headers, json={"action": "force_unlock"})
        assert sent.status_code == 403

    assert proxied.actions is not None
    assert (proxied.sessions, proxied.told, proxied.actions.prepared) == ([], [], [])


def test_a_session_of_another_mode_is_none_here(site: Site) -> None:
    site.account("kim")
    kept = site.open().browser()
    kept.enter()
    browser = site.open(PROXY_AUTH).browser()
    browser.set_cookie(COOKIE, kept.session_id())

    assert browser.get("/states", headers=said_by_proxy()).status_code == 200
    assert site.told[-1] == ("sign_in", "kim", "proxy", "127.0.0.1", "proxy|kim")


# ---------------------------------------------------------------- the demo


DEMO = {"viewer": (200, 403, 403), "operator": (200, 200, 200), "auditor": (200, 200, 403)}


@pytest.mark.parametrize("role", DEMO)
def test_each_role_of_the_demo_sees_what_it_may(site: Site, role: str) -> None:
    browser = site.open('mode = "demo"').browser()
    chosen = browser.post("/demo/role", data={"role": role, "csrf": browser.csrf()}, headers=SAME)

    assert chosen.status_code == 303
    assert tuple(browser.get(path).status_code for path in ("/states", "/audit", UNLOCK)) == DEMO[role]
    assert browser.get("/people").status_code == 403
    assert f"demo-{role}" in browser.get("/account").text
    assert (browser.session_id(), site.sessions, site.told) == ("", [], [])


@pytest.mark.parametrize(
    "junk", ["administrator", "", "ADMIN", "viewer ", "\u202e", "x" * 3000, "operator,viewer"]
)
def test_whatever_else_is_in_its_cookie_the_demo_shows_the_operator(site: Site, junk: str) -> None:
    browser = site.open('mode = "demo"').browser()
    browser.set_cookie("lockboard_demo", junk)

    assert "demo-operator" in browser.get("/account").text
    assert browser.get("/people").status_code == 403


@pytest.mark.parametrize("role", ["administrator", "", "VIEWER", "x"])
def test_the_demo_has_no_other_role_to_choose(site: Site, role: str) -> None:
    browser = site.open('mode = "demo"').browser()

    answer = browser.post("/demo/role", data={"role": role, "csrf": browser.csrf()}, headers=SAME)

    assert answer.status_code == 404
    assert "Set-Cookie" not in answer.headers


def test_the_demo_takes_no_session_of_before(site: Site) -> None:
    site.account()
    kept = site.open().browser()
    kept.enter()
    browser = site.open('mode = "demo"').browser()
    browser.set_cookie(COOKIE, kept.session_id())

    assert "demo-operator" in browser.get("/account").text
    assert browser.get("/people").status_code == 403


# ---------------------------------------------------------------- OpenID Connect, from end to end


def test_a_whole_sign_in_at_a_provider_gives_the_role_of_the_group_and_is_asked_for_again(
    site: Site,
) -> None:
    with provider(site.clock) as home, serve(site) as port:
        url = f"http://127.0.0.1:{port}"
        home.people["anna"] = Someone(
            "anna-1",
            "anna's password",
            {"email": "anna@example.com", "email_verified": True, "groups": ["on-call"]},
        )
        home.clients["lockboard"] = Registered(
            "lockboard", "client-secret-of-the-tests", {f"{url}/signin/callback"}
        )
        grants = '[[auth.grants]]\nrole = "operator"\ngroups = ["on-call"]\nprotected = true\n'
        oidc = f'mode = "oidc"\n[auth.oidc]\nissuer = "{home.issuer}"\nclient_id = "lockboard"\n{grants}'
        site.open(oidc, web=f'public_url = "{url}"')
        with requests.Session() as browser:
            browser.trust_env = False
            arrived = through(browser, f"{url}{UNLOCK}")
            account = browser.get(f"{url}/account")
            assert (arrived.status_code, arrived.url) == (200, f"{url}{UNLOCK}")
            assert "anna@example.com" in account.text
            assert "<li>operator (also protected keys)</li>" in account.text
            assert browser.get(f"{url}/people").status_code == 403

            site.clock.pass_by((STEP_UP + SECOND).total_seconds())
            assert browser.get(f"{url}{UNLOCK}").status_code == 401
            assert browser.get(f"{url}/states").status_code == 200
            again = through(browser, f"{url}{UNLOCK}")
            assert (again.status_code, again.url) == (200, f"{url}{UNLOCK}")

    subject = f"{home.issuer}|anna-1"
    assert site.told == [("sign_in", "anna@example.com", "oidc", "127.0.0.1", subject)] * 2
    assert len(site.sessions) == 1


def through(browser: requests.Session, address: str) -> requests.Response:
    """As somebody does it: open the page, take the way in, give the password, be sent back."""
    page = browser.get(address)
    assert page.status_code == 401
    link = re.search(r'class="button" href="(/signin[^"]+)"', page.text)
    assert link
    answer = browser.get(urljoin(page.url, unescape(link[1])))
    form = re.search(r'name="then" value="([^"]*)"', answer.text)
    assert form
    sent = {"user": "anna", "password": "anna's password", "then": unescape(form[1])}
    return browser.post(urljoin(answer.url, "/login"), data=sent)
