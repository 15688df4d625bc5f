"""Personal preferences: one cookie, and every page follows it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.estate import BUSY, NOW
from tests.browser.server import Lab
from tests.browser.steps import jump, pass_by, row

pytestmark = pytest.mark.browser


def choose(page: Page, group: str, name: str) -> None:
    page.get_by_role("group", name=group).get_by_label(name).check()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()


@pytest.mark.parametrize(
    ("chosen", "system", "lightest"), [("Dark", "light", "h1"), ("Light", "dark", "html")]
)
def test_a_chosen_theme_outweighs_the_system_and_stays(
    lab: Lab, visits: Visits, chosen: str, system: str, lightest: str
) -> None:
    page = visits(f"{lab.url}/settings", color_scheme=system)
    choose(page, "Theme", chosen)
    save(page)
    expect(page.get_by_role("radio", name=chosen)).to_be_checked()
    for path in ("/states?view=all", "/health", "/help"):
        page.goto(lab.url + path)
        expect(page.locator("html")).to_have_css("color-scheme", chosen.lower())
    dark = page.locator("html").evaluate("(e) => getComputedStyle(e).backgroundColor") == "rgb(14, 19, 22)"
    assert dark == (lightest == "h1")
    page.close()
    again = page.context.new_page()
    again.goto(f"{lab.url}/settings")
    expect(again.get_by_role("radio", name=chosen)).to_be_checked()


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    choose(page, "Rows", "Compact")
    save(page)
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert page.evaluate("document.cookie") == ""


def test_times_follow_the_chosen_zone(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    page.get_by_role("button", name="Use Asia/Seoul, as this computer").click()
    expect(page.get_by_label("Times in")).to_have_value("Asia/Seoul")
    save(page)
    page.goto(f"{lab.url}/states?view=all")
    expect(page.locator("#data-at")).to_have_text("02:59:52 KST")
    expect(page.locator(".pager")).to_contain_text("times in KST")
    expect(row(page, BUSY).locator(".c-held time")).to_have_attribute("title", "2026-11-21 02:51:00 KST")
    lab.look_again()
    with page.expect_response("**/states/pulse?*"):
        pass_by(page, 10.5)
    expect(page.locator("#data-at")).to_have_text("03:00:00 KST")


def test_compact_rows_are_lower(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    before = page.locator(".board").bounding_box()
    page.goto(f"{lab.url}/settings")
    choose(page, "Rows", "Compact")
    save(page)
    page.goto(f"{lab.url}/states?view=all")
    after = page.locator(".board").bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] < 0.9 * before["height"]


def test_the_pace_of_looks_follows_the_preference(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    choose(page, "Look for news", "every minute")
    save(page)
    page.goto(f"{lab.url}/states?view=all")
    page.clock.pause_at(NOW + timedelta(seconds=45))
    pass_by(page, 14)
    with page.expect_response("**/states/pulse?*"):
        jump(page, 45)
    assert lab.gate.pulses() == 1


def test_a_cookie_that_was_tampered_with_falls_back(lab: Lab, visits: Visits) -> None:
    page = visits()
    page.context.add_cookies(
        [{"name": "lockboard_prefs", "value": "Nowhere/Else.<b>.huge.1.maybe", "url": lab.url}]
    )
    page.goto(f"{lab.url}/states?view=all")
    expect(page.locator("html")).to_have_attribute("data-theme", "auto")
    expect(page.locator("html")).to_have_attribute("data-refresh", "10")
    expect(page.locator("#data-at")).to_have_text("17:59:52 UTC")


def test_the_settings_page_masks_secrets_and_names_each_source(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    secret = page.get_by_role("row", name="secret_key")
    expect(secret).to_contain_text("••••••••")
    expect(secret).to_contain_text("environment")
