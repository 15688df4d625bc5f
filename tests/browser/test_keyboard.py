"""Everything can be reached and seen with the keyboard, and single keys can be switched off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.estate import DELETED, STALE
from tests.browser.server import Lab
from tests.browser.steps import row, shown_ids

pytestmark = pytest.mark.browser

FOCUS = """() => {
  const here = document.activeElement;
  if (here === document.body) return null;
  const ring = [here, here.closest(".row")].some((e) => e && getComputedStyle(e).outlineStyle !== "none"
    && parseFloat(getComputedStyle(e).outlineWidth) >= 2);
  const box = here.getBoundingClientRect(), top = document.querySelector("header.top");
  const inFlow = !top.contains(here) && !here.matches(".skip") && getComputedStyle(top).position === "sticky";
  const under = inFlow && box.bottom > 0 && box.top < top.getBoundingClientRect().bottom - 1;
  const seen = box.width > 0 && box.height > 0 && here.checkVisibility({ visibilityProperty: true });
  return { what: here.outerHTML.slice(0, 110), ring, under, seen };
}"""


def walk(page: Page, key: str, most: int) -> list[dict[str, object]]:
    """Press the key until the focus has left the document; gives every stop."""
    stops: list[dict[str, object]] = []
    for _ in range(most):
        page.keyboard.press(key)
        stop = page.evaluate(FOCUS)
        if stop is None:
            return stops
        stops.append(stop)
    raise AssertionError(f"the focus never left the page: {stops[-3:]}")


def test_slash_goes_to_the_search(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all&q=terraform")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#q")).to_have_value("terraform")
    page.keyboard.type("a/b?jk")
    expect(page.locator("#q")).to_have_value("a/b?jk")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).not_to_be_focused()


def test_j_and_k_walk_through_the_rows_and_enter_opens_one(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    ids = shown_ids(page)
    links = page.locator(".row .key")
    for position in (0, 1, 2):
        page.keyboard.press("j")
        expect(links.nth(position)).to_be_focused()
    page.keyboard.press("k")
    expect(links.nth(1)).to_be_focused()
    assert page.evaluate(FOCUS)["ring"]
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/s/{ids[1]}?view=all")


def test_j_and_k_keep_the_row_in_sight_below_the_header(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    for _ in range(len(shown_ids(page))):
        page.keyboard.press("j")
        stop = page.evaluate(FOCUS)
        assert stop["ring"], stop
    expect(page.locator(".row").last).to_be_in_viewport(ratio=0.99)
    for _ in range(len(shown_ids(page))):
        page.keyboard.press("k")
        stop = page.evaluate(FOCUS)
        assert not stop["under"], stop
    expect(page.locator(".row").first).to_be_in_viewport(ratio=0.99)


def test_j_and_k_walk_from_key_to_key_on_their_pages(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=locked&sort=key")
    ids = shown_ids(page)
    page.locator(".row .key").first.click()
    expect(page).to_have_url(f"{lab.url}/s/{ids[0]}?view=locked&sort=key")
    page.keyboard.press("j")
    expect(page).to_have_url(f"{lab.url}/s/{ids[1]}?view=locked&sort=key")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{lab.url}/s/{ids[0]}?view=locked&sort=key")


def test_a_question_mark_shows_the_keys_and_escape_puts_them_away(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    page.keyboard.press("j")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Go to the search")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(".row .key").first).to_be_focused()


def test_keys_with_a_modifier_are_left_to_the_browser(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    for chord in ("Control+j", "Alt+k", "Meta+j"):
        page.keyboard.press(chord)
    expect(page.locator(".row .key").first).not_to_be_focused()
    expect(page.locator("#q")).not_to_be_focused()


def test_single_keys_can_be_switched_off(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    page.get_by_role("group", name="Single-key shortcuts").get_by_label("Off").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{lab.url}/states?view=all")
    for key in ("/", "j", "k", "?"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement === document.body")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()
    expect(page.locator(".search kbd")).to_be_hidden()


def test_the_first_stop_leads_past_the_header(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    assert (skip.bounding_box() or {"height": 0})["height"] >= 24
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
@pytest.mark.parametrize("path", ["/states?view=locked", f"/s/{DELETED.id}", "/settings", "/help", "/find"])
def test_every_stop_is_seen_and_the_focus_is_never_trapped(
    lab: Lab, visits: Visits, path: str, phone: bool
) -> None:
    page = visits(lab.url + path, phone=phone)
    stops = walk(page, "Tab", 160)
    assert len(stops) >= 10
    assert [stop for stop in stops if not stop["ring"]] == []
    assert [stop for stop in stops if not stop["seen"]] == []
    assert [stop for stop in stops if stop["under"]] == []


def test_walking_backwards_never_hides_a_stop_under_the_header(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    page.locator(".foot").scroll_into_view_if_needed()
    page.locator(".row .key").last.focus()
    stops = walk(page, "Shift+Tab", 160)
    assert [stop for stop in stops if stop["under"] or not stop["ring"]] == []


def test_a_menu_opens_and_chooses_by_keyboard(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    page.locator("summary", has_text="Backend").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_contain_text("dev-kr")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/states?view=all&backend=dev-kr")
    expect(page.locator("details.menu[open]")).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body"), "the focus stays near where it was"
    expect(row(page, STALE)).to_be_visible()


def test_escape_closes_a_menu_and_gives_the_focus_back_to_its_name(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    name = page.locator("summary", has_text="Status")
    name.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.locator("details.menu[open]")).to_have_count(0)
    expect(name).to_be_focused()
