from __future__ import annotations

import html
import json
import re
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from lockboard.domain.inventory import BackendReport, StateRow
from lockboard.web.live import Pages
from tests.web.fakes import NOW, Web, report, web

PARTIAL = {"HX-Request-Type": "partial"}


def named(site: Web, key: str) -> StateRow:
    return next(row for row in site.board.rows.values() if row.key == key)


def change(site: Web, key: str, **fields: object) -> StateRow:
    row = replace(named(site, key), **fields)  # type: ignore[arg-type]
    site.board.put(row)
    return row


def test_a_pulse_with_nothing_new_has_no_body_and_says_how_old_the_data_is() -> None:
    answer = web().client.get("/states/pulse?rev=7")

    assert answer.status_code == 204
    assert answer.data == b""
    assert answer.headers["Lockboard-Data-At"] == "2026-11-20T17:59:52Z"
    assert "HX-Trigger" not in answer.headers


def test_a_pulse_that_fails_half_way_does_not_make_the_page_believe_that_its_data_is_new() -> None:
    site = web()
    site.client.get("/states/pulse?rev=7")  # from here on the generation is known
    site.board.broken = True
    for rest in ("rev=1", "rev=1&state=0123456789abcdef"):
        answer = site.client.get(f"/states/pulse?{rest}")
        assert answer.status_code == 503
        assert not {"Lockboard-Data-At", "Lockboard-Generation"} & {name for name, _ in answer.headers}


def test_a_pulse_counts_the_changed_rows_of_its_own_list() -> None:
    site = web()
    change(site, "cdn/edge.tfstate", summary="new")
    change(site, "app.tfstate", summary="new")

    def rows(query: str) -> int:
        answer = site.client.get(f"/states/pulse?rev=7{query}")
        return int(json.loads(answer.headers["HX-Trigger"])["lb:changed"]["rows"])

    assert [rows("&view=all"), rows(""), rows("&view=locked")] == [2, 1, 0]


def test_a_pulse_carries_the_count_for_the_tab() -> None:
    site = web()
    change(site, "cdn/edge.tfstate", rank=5, content="ok")
    news = json.loads(site.client.get("/states/pulse?rev=7").headers["HX-Trigger"])

    assert news["lb:changed"]["attention"] == 16


def test_the_pulse_of_a_key_speaks_of_that_key_only() -> None:
    site = web()
    mine = named(site, "app.tfstate")
    page = site.client.get(f"/s/{mine.id}").text
    pulse = page.partition('data-pulse="')[2].partition('"')[0].replace("&amp;", "&") + "&rev=7"

    change(site, "cdn/edge.tfstate", summary="new")
    site.clock.pass_by(1)
    other = site.client.get(pulse)
    change(site, "app.tfstate", fingerprint="new")
    site.clock.pass_by(1)

    assert other.status_code == 204
    assert other.headers["Lockboard-Generation"] == "8"
    assert site.client.get(pulse).status_code == 200


def test_viewers_share_one_read_of_the_generation_for_half_a_second() -> None:
    site = web()
    for _ in range(50):
        site.client.get("/states/pulse?rev=7")
    shared = site.board.calls["generation"]
    site.clock.pass_by(0.6)
    site.client.get("/states/pulse?rev=7")

    assert [shared, site.board.calls["generation"]] == [1, 2]


def test_a_page_whose_data_has_not_changed_is_not_made_again() -> None:
    site = web()
    first = site.client.get("/states?view=all")
    again = site.client.get("/states?view=all")

    assert site.board.calls["page"] == 1
    assert first.text != again.text  # another nonce
    assert first.text.partition("<body>")[2][:200] == again.text.partition("<body>")[2][:200]


def test_a_page_that_many_ask_for_at_once_is_made_once() -> None:
    pages, made = Pages(patience=60), []
    begun, go_on = threading.Event(), threading.Event()

    def ask() -> None:
        with pages.turn():
            if pages.get("list") is None:
                begun.set()
                go_on.wait(60)
                made.append(pages.keep("list", "<p>", "/states"))

    asking = [threading.Thread(target=ask) for _ in range(5)]
    for one in asking:
        one.start()
    assert begun.wait(60)
    go_on.set()
    for one in asking:
        one.join(60)

    assert len(made) == 1


def test_a_page_is_made_although_another_is_stuck_in_the_making() -> None:
    pages = Pages(patience=0)

    with pages.turn(), pages.turn():
        pages.keep("list", "<p>", "/states")
    with pages.turn():
        found = pages.get("list")

    assert found is not None


def test_a_page_that_failed_holds_nobody_up() -> None:
    pages = Pages(patience=60)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError), pages.turn():
            raise ZeroDivisionError


def test_a_change_is_shown_at_the_next_look() -> None:
    site = web()
    site.client.get("/states?view=all")
    change(site, "app.tfstate", summary="Something new.")
    site.clock.pass_by(0.6)

    assert "Something new." in site.client.get("/states?view=all").text


def test_a_new_report_is_shown_although_no_row_changed() -> None:
    site = web()
    site.client.get("/states")
    site.board.said = [report("prod-kr", complete=False, error="no answer")]
    site.clock.pass_by(0.6)

    assert "could not be read" in site.client.get("/states").text


def test_ages_on_a_kept_page_go_on() -> None:
    site = web()
    before = site.client.get("/states?view=locked").text
    site.clock.pass_by(3600)

    assert ">12 min</time>" in before
    assert ">1 h 12 min</time>" in site.client.get("/states?view=locked").text


def test_preferences_do_not_leak_from_one_viewer_to_another() -> None:
    site = web()
    dark, plain = site.client, site.client
    dark.set_cookie("lockboard_prefs", "UTC.dark.compact.10.on")

    assert 'data-theme="dark"' in dark.get("/states").text
    assert 'data-theme="auto"' in plain.get("/states").text


def test_htmx_gets_the_region_with_a_title_and_no_page_around_it() -> None:
    text = web().client.get("/states?view=locked", headers=PARTIAL).text

    assert text.startswith("<title>(17) Locked · Lockboard</title>")
    assert '<section id="region"' in text
    assert "<html" not in text
    assert "<form" not in text


def test_htmx_restoring_its_history_gets_the_whole_page() -> None:
    assert "<html" in web().client.get("/states", headers={"HX-Request-Type": "full"}).text


def test_typing_replaces_the_address_and_a_click_adds_one_and_a_refresh_does_neither() -> None:
    client = web().client
    path = "/states?sort=severity&view=all&q=vpc"

    typed = client.get(path, headers={**PARTIAL, "HX-Source": "form#search"}).headers
    clicked = client.get(path, headers={**PARTIAL, "HX-Source": "div#go"}).headers
    refreshed = client.get(path, headers={**PARTIAL, "HX-Source": "section#region"}).headers

    assert typed["HX-Replace-Url"] == clicked["HX-Push-Url"] == "/states?view=all&q=vpc"
    assert "HX-Push-Url" not in typed
    assert "HX-Replace-Url" not in clicked
    assert not {"HX-Push-Url", "HX-Replace-Url"} & set(refreshed.keys())


def test_the_region_refreshes_itself_from_its_canonical_address() -> None:
    text = web().client.get("/states?sort=severity&view=all").text

    assert (
        'hx-get="/states?view=all" hx-trigger="lb:refresh" hx-swap="outerMorph" hx-sync="this:abort"' in text
    )


def test_a_failing_store_is_told_to_htmx_without_a_page() -> None:
    site = web()
    site.board.broken = True
    answer = site.client.get("/states", headers=PARTIAL)

    assert answer.status_code == 503
    assert answer.data == b""


LATER = NOW + timedelta(minutes=20)


def pulse_of(text: str) -> str:
    """The address that an open page asks for news, with what it has seen."""
    url, seen = re.findall(r'data-(?:pulse|rev)="([^"]+)"', text)[::-1]
    return f"{html.unescape(url)}&rev={seen}"


def refreshed(name: str, **changes: object) -> BackendReport:
    moment = LATER - timedelta(seconds=8)
    return report(name, **{"attempted_at": moment, "data_at": moment, **changes})


def unread(name: str) -> BackendReport:
    return refreshed(
        name, complete=False, error="access denied to the bucket", data_at=NOW - timedelta(seconds=8)
    )


def test_an_open_page_of_a_key_learns_that_its_backend_can_no_longer_be_read_and_that_it_can_again() -> None:
    site = web()
    mine = named(site, "app.tfstate")
    before = pulse_of(site.client.get(f"/s/{mine.id}").text)
    site.board.said = [refreshed("dev-kr"), refreshed("dev-us"), unread("prod-kr")]
    site.board.number += 1
    site.clock.pass_by(20 * 60)

    answer = site.client.get(before)
    assert answer.status_code == 200
    assert answer.headers["Lockboard-Data-At"] == "2026-11-20T17:59:52Z"
    late = site.client.get(f"/s/{mine.id}").text
    assert "prod-kr could not be read lately." in late
    assert 'data-at="2026-11-20T17:59:52Z"' in late
    assert site.client.get(pulse_of(late)).status_code == 204

    site.board.said = [refreshed(name) for name in ("dev-kr", "dev-us", "prod-kr")]
    site.board.number += 1
    site.clock.pass_by(1)
    answer = site.client.get(pulse_of(late))
    assert (answer.status_code, answer.headers["Lockboard-Data-At"]) == (200, "2026-11-20T18:19:52Z")


def test_the_page_of_a_key_tells_the_age_of_its_own_backend_whatever_the_others_are() -> None:
    site = web()
    mine = named(site, "app.tfstate")
    site.board.said = [refreshed("dev-kr"), refreshed("prod-kr"), unread("dev-us")]
    site.clock.pass_by(20 * 60)
    text = site.client.get(f"/s/{mine.id}").text

    assert 'data-at="2026-11-20T18:19:52Z"' in text
    assert 'id="data-at" datetime="2026-11-20T18:19:52Z"' in text
    assert 'class="lamp"' in text
    assert site.client.get(pulse_of(text)).headers["Lockboard-Data-At"] == "2026-11-20T18:19:52Z"
