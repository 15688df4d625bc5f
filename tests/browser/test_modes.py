"""Other ways to look at it: without script, on paper, in forced colours, without motion, on a phone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import sideways, violations
from tests.browser.conftest import Visits
from tests.browser.estate import DELETED, FINE, STALE, Seen, held
from tests.browser.server import Lab
from tests.browser.steps import open_menu, pass_by, row

pytestmark = pytest.mark.browser

PLAIN = {"java_script_enabled": False}
IDLE = """(buttons) => buttons.filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.form)
  .map((one) => one.outerHTML.slice(0, 120))"""


def brightness(page: Page, selector: str, what: str) -> float:
    """How light a computed colour is, 0 to 255."""
    colour: list[float] = page.locator(selector).first.evaluate(
        """(element, what) => {
          const brush = new OffscreenCanvas(1, 1).getContext("2d");
          brush.fillStyle = getComputedStyle(element)[what];
          brush.fillRect(0, 0, 1, 1);
          return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        what,
    )
    return sum(colour) / 3


# Without script


def test_without_script_the_list_is_filtered_sorted_and_searched(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/", **PLAIN)
    expect(page).to_have_url(f"{lab.url}/states?view=attention")
    page.locator(".tabs").get_by_text("All").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all")
    open_menu(page, "Backend").get_by_text("dev-kr").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&backend=dev-kr")
    page.get_by_role("columnheader", name="Key").get_by_role("link").click()
    expect(page).to_have_url(f"{lab.url}/states?view=all&backend=dev-kr&sort=key")
    page.locator("#q").fill("terraform")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    for part in ("q=terraform", "backend=dev-kr", "sort=key", "view=all"):
        assert part in page.url
    assert len(shown_ids_without_script(page)) > 2


def shown_ids_without_script(page: Page) -> list[str]:
    return [found.get_attribute("id") or "" for found in page.locator(".row").all()]


def test_without_script_a_key_is_read_and_checked_again(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=locked&sort=key", **PLAIN)
    row(page, STALE).locator(".key").click()
    expect(page.locator("h1")).to_contain_text("batch")
    page.get_by_text("Raw record").click()
    expect(page.locator(".tag details pre")).to_be_visible()
    lab.recheck_answer = Seen(STALE.backend, STALE.key, fingerprint="released")
    page.get_by_role("button", name="Re-check now").click()
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}?view=locked&sort=key")
    expect(page.locator(".axes")).to_contain_text("Unlocked")
    page.get_by_role("link", name="Back to the list").click()
    expect(page).to_have_url(f"{lab.url}/states?view=locked&sort=key")


def test_without_script_a_paste_leads_to_the_state(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/find", **PLAIN)
    page.get_by_label("Paste what you have").fill(DELETED.key)
    page.get_by_role("button", name="Find").click()
    expect(page).to_have_url(f"{lab.url}/s/{DELETED.id}")
    page.locator("#q").fill(f"s3://acme-prod-kr-tfstate/{DELETED.key}")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/s/{DELETED.id}")


def test_without_script_preferences_are_kept(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings", **PLAIN)
    page.get_by_role("radio", name="Dark").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{lab.url}/states?view=all")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("path", ["/states?view=all", f"/s/{STALE.id}", "/settings", "/help", "/health"])
def test_without_script_no_button_is_shown_that_does_nothing(lab: Lab, visits: Visits, path: str) -> None:
    page = visits(lab.url + path, **PLAIN)
    for button in page.locator("button").all():
        if button.is_visible():
            assert button.get_attribute("type") != "button", button.inner_text()
    expect(page.get_by_text("keyboard", exact=True)).to_be_hidden()


def test_with_script_every_button_is_live(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}")
    idle = page.locator("button").evaluate_all(IDLE)
    assert [one for one in idle if "data-copy" not in one and 'id="pause"' not in one] == []


# On paper


@pytest.mark.parametrize("path", ["/states?view=all", f"/s/{DELETED.id}"])
def test_paper_gets_the_content_in_ink_and_nothing_to_click(lab: Lab, visits: Visits, path: str) -> None:
    page = visits(lab.url + path, color_scheme="dark")
    page.emulate_media(media="print")
    expect(page.locator("h1")).to_be_visible()
    for away in ("nav.pages", "header.top", ".foot", ".tabs", ".crumbs", ".tools", ".copy", ".skip"):
        for found in page.locator(away).all():
            expect(found).to_be_hidden()
    buttons = page.locator("button").evaluate_all(
        "(all) => all.filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert buttons == []
    assert brightness(page, "h1", "color") < 100
    assert brightness(page, "html", "backgroundColor") > 240
    assert len(page.pdf()) > 10_000
    assert sideways(page) == []


def test_paper_is_light_where_dark_was_chosen(lab: Lab, visits: Visits) -> None:
    page = visits()
    page.context.add_cookies(
        [{"name": "lockboard_prefs", "value": "UTC.dark.comfortable.10.on", "url": lab.url}]
    )
    page.goto(f"{lab.url}/states?view=all")
    assert brightness(page, "h1", "color") > 200
    page.emulate_media(media="print")
    assert brightness(page, "h1", "color") < 100
    assert brightness(page, ".row .key", "color") < 140


# Forced colours, motion, touch


@pytest.mark.parametrize("path", ["/states?view=all", f"/s/{STALE.id}", "/settings"])
def test_forced_colours_keep_every_mark_and_border(lab: Lab, visits: Visits, path: str) -> None:
    page = visits(lab.url + path, forced_colors="active", color_scheme="dark")
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")
    edges = page.locator(".row td:first-child, .hero, .notice:visible, .tag")
    for edge in edges.all()[:5]:
        style = edge.evaluate(
            "(e) => [getComputedStyle(e).borderLeftStyle, getComputedStyle(e).borderLeftWidth]"
        )
        assert style[0] == "solid"
        assert float(style[1].removesuffix("px")) >= 1
    marks = page.locator("main svg:visible").evaluate_all(
        """(all) => {
          const ground = getComputedStyle(document.body).backgroundColor;
          return all.filter((one) => getComputedStyle(one).color === ground).length;
        }"""
    )
    assert marks == 0
    assert violations(page) == []
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_the_current_page_and_view_are_underlined_in_forced_colours(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=locked", forced_colors="active")
    for place in (".tabs [aria-current]", ".pages [aria-current]"):
        expect(page.locator(place)).to_have_css("text-decoration-line", "underline")


@pytest.mark.parametrize(("motion", "name"), [("reduce", "none"), ("no-preference", "rise")])
def test_nothing_moves_for_who_asked_for_less_motion(
    lab: Lab, visits: Visits, motion: str, name: str
) -> None:
    page = visits(f"{lab.url}/states?view=all", reduced_motion=motion)
    page.locator("#pill").evaluate("(pill) => { pill.hidden = false }")
    expect(page.locator("#pill")).to_have_css("animation-name", name)
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*:not(#pill)")].map((e) => getComputedStyle(e)).filter(
          (style) => style.animationName !== "none" || parseFloat(style.transitionDuration) > 0).length"""
    )
    assert moving == 0


def test_a_phone_shows_cards_that_open_wherever_they_are_touched(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=attention", phone=True)
    expect(page.get_by_role("table", name="State keys")).to_be_visible()
    card = row(page, STALE)
    card.scroll_into_view_if_needed()
    box = card.bounding_box()
    assert box is not None
    assert box["width"] > 340
    for part in (".c-key", ".c-plan", ".c-held", ".c-state"):
        expect(card.locator(part)).to_be_visible()
    page.touchscreen.tap(box["x"] + box["width"] - 12, box["y"] + box["height"] - 8)
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}")
    assert sideways(page) == []


def test_a_phone_does_not_lose_the_place_when_news_comes(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all", phone=True)
    last = page.locator(".row").last
    last.scroll_into_view_if_needed()
    before = last.bounding_box()
    lab.change(held(FINE.backend, FINE.key, "yuna@laptop", timedelta(minutes=1), fingerprint="taken"))
    pass_by(page, 10.5)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    after = last.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) < 2, "the card that was being read stays where it is"
