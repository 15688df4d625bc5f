from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest

from lockboard.domain.model import Content, Effect, LockStatus
from lockboard.web.prefs import Preferences, from_cookie
from tests.web.entrances import CSRF
from tests.web.fakes import NOW, report, web

OWN = {"Sec-Fetch-Site": "same-origin"}


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_health_says_for_each_backend_how_old_its_data_is_and_what_it_cost() -> None:
    text = words(web().client.get("/health").text)

    assert (
        "dev-kr Read completely bucket acme-dev-kr-tfstate region ap-northeast-2 lock table terraform-lock"
        in text
    )
    assert "Data as of 8 s ago 2026-11-20 17:59:52 UTC" in text
    assert "Took 412 ms" in text
    assert "Requests 1 list, 1 scan, 2 get" in text
    assert "no lock table, .tflock only" in text


def test_health_names_the_missing_permission() -> None:
    denied = report(
        "prod-kr", complete=False, error="dynamodb:Scan: AccessDenied", missing_permission="dynamodb:Scan"
    )
    text = words(web(reports=[denied]).client.get("/health").text)

    assert "prod-kr Could not be read" in text
    assert "dynamodb:Scan: AccessDenied. Missing permission: dynamodb:Scan" in text
    assert "dev-kr Not read yet" in text


@pytest.mark.parametrize(
    ("skew", "said"),
    [
        (None, "not measured yet"),
        (0.4, "under 1 s"),
        (-30, "30 s behind AWS"),
        (90, "1 min ahead of AWS: no lock is called stale"),
    ],
)
def test_health_says_how_far_the_clocks_differ_and_what_follows(skew: float | None, said: str) -> None:
    assert f"Clock {said}" in words(
        web(reports=[report("dev-kr", clock_skew_seconds=skew)]).client.get("/health").text
    )


def test_health_warns_where_deleted_states_cannot_be_restored() -> None:
    text = words(web(reports=[report("dev-kr", versioning="off")]).client.get("/health").text)

    assert "Versioning off: a deleted state cannot be restored" in text


def test_health_calls_old_data_old() -> None:
    assert (
        "Data is old"
        in web(reports=[report("dev-kr", data_at=NOW - timedelta(hours=1))]).client.get("/health").text
    )


def test_settings_are_shown_with_their_source() -> None:
    text = words(web().client.get("/settings").text)

    assert "database.url sqlite:////var/lib/lockboard/lockboard.db file" in text
    assert "secret_key •••••••• environment" in text


def test_preferences_are_kept_in_a_cookie_that_scripts_cannot_read() -> None:
    client = web().client
    choice = {
        "zone": "Asia/Seoul",
        "theme": "dark",
        "density": "compact",
        "refresh": "30",
        "shortcuts": "off",
    }
    answer = client.post("/prefs", data=choice, headers=OWN)
    cookie = answer.headers["Set-Cookie"]

    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings?saved=1#preferences")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    page = client.get("/settings").text
    assert 'data-theme="dark" data-density="compact" data-keys="off" data-refresh="30"' in page
    assert "<option selected>Asia/Seoul</option>" in page


def test_the_cookie_is_marked_secure_over_https() -> None:
    answer = web().client.post("/prefs", data={}, headers=OWN, base_url="https://localhost")

    assert "; Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "cookie",
    ["", "x", "Mars/Base.neon.huge.0.maybe", "../../etc/passwd.dark", '"><script>.a.b.c.d', "." * 50],
)
def test_a_cookie_that_was_tampered_with_gives_the_defaults(cookie: str) -> None:
    found = from_cookie(cookie)

    assert found in (Preferences(), Preferences(theme="dark"))
    client = web().client
    client.set_cookie("lockboard_prefs", cookie)
    assert client.get("/states").status_code == 200


def test_preferences_survive_their_cookie() -> None:
    wanted = Preferences("America/Argentina/Buenos_Aires", "light", "compact", "off", "off")

    assert from_cookie(wanted.cookie()) == wanted


@pytest.mark.parametrize("status", [*Content, *LockStatus])
def test_help_explains_each_status_at_its_anchor(status: Content | LockStatus) -> None:
    anchor = "lock_unknown" if status is LockStatus.UNKNOWN else status.value

    assert web().client.get("/help").text.count(f'id="{anchor}"') == 1


def test_no_anchor_of_help_occurs_twice() -> None:
    found = re.findall(r'\sid="([^"]+)"', web().client.get("/help").text)

    assert sorted(set(found)) == sorted(found)
    assert {f"terraform-{effect}" for effect in Effect} <= set(found)


@pytest.mark.parametrize(
    "path", ["/settings", "/help", "/healthz", "/static/lockboard.css", "/favicon/0.svg"]
)
def test_pages_that_need_no_store_work_without_one(path: str) -> None:
    site = web()
    site.board.broken = True

    assert site.client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/states", "/health", "/find?q=x", "/s/0000000000000000", "/states/pulse"])
def test_a_page_that_needs_the_store_says_that_it_cannot_be_read(path: str) -> None:
    site = web()
    site.board.broken = True
    answer = site.client.get(path)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "The inventory cannot be read" in answer.text
    assert "the database is locked" not in answer.text


def test_readiness_follows_the_store_and_liveness_does_not() -> None:
    site = web()
    ready = site.client.get("/readyz").status_code
    site.board.broken = True

    assert [ready, site.client.get("/readyz").status_code, site.client.get("/healthz").status_code] == [
        200,
        503,
        200,
    ]
    assert site.client.get("/healthz").text == "ok\n"


def test_an_error_page_says_what_was_wrong_with_the_address() -> None:
    text = words(web().client.get("/states?view=everything").text)

    assert "view is one of: all, attention, digest, locked, unreadable." in text


def test_the_tab_carries_the_count() -> None:
    text = web().client.get("/states?view=all").text

    assert "<title>(17) All · Lockboard</title>" in text
    assert 'href="/favicon/17.svg?v=0.1.0"' in text
    assert web().client.get("/favicon/100.svg").text.count("99+") == 1
    assert "<text" not in web().client.get("/favicon/0.svg").text


def test_everything_can_be_reached_and_done_without_a_script() -> None:
    site = web()
    client = site.client
    found = client.get("/states", query_string={"view": "all", "q": "iam"})
    link = re.search(r'class="key" href="([^"]+)"', found.text)
    assert link
    page = client.get(html.unescape(link[1]))
    form = re.search(r'<form action="([^"]+)" method="post">(.*?)</form>', page.text)
    assert form
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form[2]))
    done = client.post(form[1], data=fields, headers=OWN)

    assert fields == {"view": "all", "q": "iam", "csrf": CSRF}
    assert client.get(done.headers["Location"]).status_code == 200
    assert len(site.recheck.asked) == 1


@pytest.mark.parametrize("path", ["/states", "/health", "/settings", "/help", "/find"])
def test_every_link_of_a_page_leads_somewhere(path: str) -> None:
    client = web().client
    links = set(re.findall(r'<a [^>]*href="([^"#]+)', client.get(path).text))

    assert links
    assert {
        link: client.get(html.unescape(link)).status_code
        for link in links
        if client.get(html.unescape(link)).status_code not in (200, 303)
    } == {}
