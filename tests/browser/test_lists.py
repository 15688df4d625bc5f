"""Searching, filtering, ordering, paging and exporting the list; its address says all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.estate import BACKENDS, BUSY, DELETED, RUNNER, STALE, Seen, held, report, stored
from tests.browser.server import Lab
from tests.browser.steps import back, forward, open_menu, row, shown_ids

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def long_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """120 keys, three pages of the list."""
    seen = [
        Seen("dev-kr", f"team/{n:03}/terraform.tfstate", state=stored("same", ago=timedelta(hours=n)))
        for n in range(120)
    ]
    lab = Lab(tmp_path_factory.mktemp("long"), seen, BACKENDS, [report(name) for name in BACKENDS])
    yield lab
    lab.close()


def stays(page: Page) -> None:
    """From here on the page must not be loaded anew; `stayed` tells."""
    page.evaluate("window.stayed = true")


def stayed(page: Page) -> bool:
    return page.evaluate("window.stayed === true") is True


def rows(first: int, last: int) -> str:
    return f"{first}\N{EN DASH}{last} of 120"


def keys(page: Page) -> list[str]:
    return page.locator(".row .key").all_inner_texts()


def test_the_landing_page_is_what_needs_attention_worst_first(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/")
    expect(page).to_have_url(f"{lab.url}/states?view=attention")
    tones = page.locator(".row").evaluate_all("(rows) => rows.map((row) => row.className.split('edge-')[1])")
    order = ["critical", "blocked", "attention", "unknown"]
    assert tones == sorted(tones, key=order.index)
    assert set(tones) == set(order)


def test_typing_searches_in_place_and_replaces_the_address(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    stays(page)
    before = page.evaluate("history.length")
    page.locator("#q").press_sequentially("terraform rds")
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=terraform+rds")
    expect(page.locator(".row")).to_have_count(2)
    expect(page.locator("#q")).to_be_focused()
    assert page.evaluate("history.length") == before
    assert stayed(page)


def test_enter_searches_at_once(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    stays(page)
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)
    page.locator("#q").fill("ledger")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=ledger")
    expect(page.locator(".row")).to_have_count(1)
    assert stayed(page)


def test_searching_from_another_page_leads_to_the_list(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/help")
    page.locator("#q").fill("ledger")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=ledger")
    expect(page.locator(".row")).to_have_count(1)


def test_a_search_without_a_match_here_names_the_matches_elsewhere(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=attention")
    page.locator("#q").fill("vpc")
    expect(page.get_by_role("heading", name="Nothing under “Needs attention” matches")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("2 keys match")
    page.get_by_role("link", name="Show them").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=vpc")
    expect(page.locator(".row")).to_have_count(2)


def test_filters_add_up_and_back_and_forward_walk_through_them(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=attention")
    stays(page)
    page.locator(".tabs").get_by_text("Locked").click()
    expect(page).to_have_url(f"{lab.url}/states?view=locked")
    expect(page).to_have_title("(23) Locked · Lockboard")
    open_menu(page, "Backend").get_by_text("dev-kr").click()
    expect(page).to_have_url(f"{lab.url}/states?view=locked&backend=dev-kr")
    expect(page.locator("details.menu[open]")).to_have_count(0)
    open_menu(page, "Held for").get_by_text("Longer than 1 day").click()
    narrow = f"{lab.url}/states?view=locked&backend=dev-kr&age=1d"
    expect(page).to_have_url(narrow)
    expect(page.locator(".chip")).to_have_count(2)
    assert stayed(page)
    found = shown_ids(page)
    assert found
    back(page)
    expect(page).to_have_url(f"{lab.url}/states?view=locked&backend=dev-kr")
    expect(page.locator(".chip")).to_have_count(1)
    back(page)
    expect(page.locator(".chip")).to_have_count(0)
    back(page)
    expect(page).to_have_url(f"{lab.url}/states?view=attention")
    expect(page.locator(".tabs [aria-current]")).to_contain_text("Needs attention")
    for chips in range(3):
        forward(page)
        expect(page.locator(".chip")).to_have_count(chips)
    expect(page).to_have_url(narrow)
    assert shown_ids(page) == found


def test_reload_reloads_what_the_address_says_by_now(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=attention")
    page.locator(".tabs").get_by_role("link", name="Locked").click()
    expect(page).to_have_url(f"{lab.url}/states?view=locked")
    found = shown_ids(page)
    stays(page)
    with page.expect_event("load"):
        page.get_by_role("link", name="Reload").click()
    expect(page).to_have_url(f"{lab.url}/states?view=locked")
    assert not stayed(page)
    assert shown_ids(page) == found


def test_a_chip_takes_its_filter_away(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all&backend=dev-kr&q=terraform")
    page.get_by_role("link", name="Remove the filter: “terraform”").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&backend=dev-kr")
    expect(page.locator("#q")).to_have_value("")
    page.get_by_role("link", name="Remove the filter: backend dev-kr").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all")
    expect(page.locator(".chip")).to_have_count(0)


def test_the_status_menu_lists_every_status_with_its_count(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=locked")
    choices = open_menu(page, "Status")
    expect(choices.get_by_role("link", name="State deleted 1")).to_be_visible()
    choices.get_by_role("link", name="State deleted 1").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&status=state_deleted")
    assert shown_ids(page) == [DELETED.id]


def test_a_search_keeps_the_filters(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=attention")
    open_menu(page, "Backend").get_by_text("prod-kr").click()
    expect(page).to_have_url(f"{lab.url}/states?backend=prod-kr")
    page.locator("#q").press_sequentially("terraform")
    expect(page).to_have_url(f"{lab.url}/states?backend=prod-kr&q=terraform")
    assert all("terraform" in key for key in keys(page))


def test_a_saved_address_gives_the_same_list(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    open_menu(page, "Sort").get_by_text("Held longest").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&sort=locked")
    page.locator("#q").press_sequentially("terraform")
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=terraform&sort=locked")
    again = visits(page.url)
    assert keys(again) == keys(page)
    expect(again.locator("#q")).to_have_value("terraform")


def test_a_column_sorts_both_ways(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    heading = page.get_by_role("columnheader", name="Key")
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    ascending = keys(page)
    assert ascending == sorted(ascending)
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert keys(page) == ascending[::-1]


def test_a_click_with_a_modifier_opens_another_tab_as_everywhere(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    with page.context.expect_page() as other:
        page.locator(".tabs").get_by_text("Locked").click(modifiers=["ControlOrMeta"])
    expect(other.value).to_have_url(f"{lab.url}/states?view=locked")
    expect(page).to_have_url(f"{lab.url}/states?view=all")


def test_the_pager_walks_to_the_end_and_back(long_lab: Lab, visits: Visits) -> None:
    page = visits(f"{long_lab.url}/states?view=all&sort=key")
    stays(page)
    pager, first = page.locator(".pager"), keys(page)
    expect(pager).to_contain_text(rows(1, 50))
    expect(page.get_by_role("link", name="Previous", exact=True)).to_have_count(0)
    pager.get_by_text("Next").click()
    expect(pager).to_contain_text(rows(51, 100))
    expect(page.locator(".row").first).to_be_in_viewport()
    second = keys(page)
    pager.get_by_text("Next").click()
    expect(pager).to_contain_text(rows(101, 120))
    expect(pager.get_by_text("Next")).to_have_count(0)
    assert len(set(first + second + keys(page))) == 120
    pager.get_by_text("Previous").click()
    expect(pager).to_contain_text(rows(51, 100))
    assert keys(page) == second
    assert stayed(page)
    back(page)
    expect(pager).to_contain_text(rows(101, 120))
    back(page)
    expect(pager).to_contain_text(rows(51, 100))
    back(page)
    expect(pager).to_contain_text(rows(1, 50))
    assert keys(page) == first


def test_a_saved_page_of_the_list_stays_the_same_page(long_lab: Lab, visits: Visits) -> None:
    page = visits(f"{long_lab.url}/states?view=all&sort=-modified")
    page.locator(".pager").get_by_text("Next").click()
    expect(page.locator(".pager")).to_contain_text(rows(51, 100))
    again = visits(page.url)
    expect(again.locator(".pager")).to_contain_text(rows(51, 100))
    assert keys(again) == keys(page)


def test_previous_and_next_on_a_key_stay_within_the_filtered_list(lab: Lab, visits: Visits) -> None:
    address = f"{lab.url}/states?view=locked&backend=dev-kr&sort=key"
    page = visits(address)
    ids = shown_ids(page)
    assert len(ids) > 3
    page.locator(".row .key").first.click()
    expect(page.get_by_role("link", name="Previous", exact=True)).to_have_count(0)
    walked = [_id(page)]
    for _ in ids[1:]:
        page.get_by_role("link", name="Next", exact=True).click()
        page.wait_for_url(lambda url: _id_of(url) != walked[-1])
        walked.append(_id(page))
    assert walked == ids
    expect(page.get_by_role("link", name="Next", exact=True)).to_have_count(0)
    page.get_by_role("link", name="Previous", exact=True).click()
    page.wait_for_url(lambda url: _id_of(url) == ids[-2])
    page.get_by_role("link", name="Back to the list").click()
    expect(page).to_have_url(address)
    assert shown_ids(page) == ids


def _id(page: Page) -> str:
    return _id_of(page.url)


def _id_of(url: str) -> str:
    return url.partition("/s/")[2].partition("?")[0]


def test_a_re_check_stays_on_the_key_and_in_its_list(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}?view=locked&sort=key")
    lab.recheck_answer = Seen(STALE.backend, STALE.key, fingerprint="released")
    page.get_by_role("button", name="Re-check now").click()
    expect(page.locator(".axes")).to_contain_text("Unlocked")
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}?view=locked&sort=key")
    expect(page.locator(".checked")).to_contain_text("Checked")


def test_the_name_of_a_holder_leads_to_everything_it_holds(lab: Lab, visits: Visits) -> None:
    lab.change(held("dev-kr", "more/terraform.tfstate", RUNNER, timedelta(minutes=2)))
    page = visits(f"{lab.url}/states?view=all")
    row(page, BUSY).get_by_role("link", name=RUNNER).click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&holder=runner%40fv-az1113-87")
    expect(page.locator(".row")).to_have_count(2)
    page.locator(".row .key").first.click()
    expect(page.get_by_role("link", name="1 other key")).to_have_attribute(
        "href", "/states?view=all&holder=runner%40fv-az1113-87"
    )


def test_the_exports_hold_what_the_list_shows(lab: Lab, visits: Visits, tmp_path: Path) -> None:
    page = visits(f"{lab.url}/states?view=locked&backend=dev-kr&sort=key")
    ids = shown_ids(page)
    with page.expect_download() as as_json:
        page.get_by_role("link", name="JSON").click()
    as_json.value.save_as(tmp_path / "states.json")
    states = json.loads((tmp_path / "states.json").read_text("utf-8"))["states"]
    assert [state["id"] for state in states] == ids
    with page.expect_download() as as_csv:
        page.get_by_role("link", name="CSV").click()
    as_csv.value.save_as(tmp_path / "states.csv")
    lines = (tmp_path / "states.csv").read_text("utf-8").splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ids


def test_the_strip_draws_every_lock_with_a_known_age_as_a_link_to_its_key(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=locked")
    aged = page.locator(".row .c-held time")
    expect(page.locator(".strip svg a")).to_have_count(aged.count())
    mark = page.locator(f'.strip a[href="/s/{STALE.id}"]')
    expect(mark.locator("title")).to_have_text(
        "batch/remote: held for 4 d 3 h, apply, ubuntu@ip-172-31-2-133"
    )
    mark.locator("rect").click(force=True)
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}")
