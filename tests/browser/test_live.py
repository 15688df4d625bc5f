"""The pages stay true by themselves, and nothing moves under a pointer, a focus or a selection."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.estate import BUSY, EVERY_STATUS, FINE, NOW, RUNNER, STALE, held, record, report
from tests.browser.server import Asked, Lab
from tests.browser.steps import PACE, QUIET, freeze, jump, open_menu, pass_by, row, shown_ids, until

pytestmark = pytest.mark.browser

TAKEN = held(FINE.backend, FINE.key, "yuna@laptop", timedelta(minutes=1), fingerprint="taken")
"""The healthy key, after somebody took its lock."""
BEFORE = len([one for one in EVERY_STATUS if one.row().rank <= 3])
"""How many keys need attention at first."""
WATCH = """() => {
  window.touched = [];
  new MutationObserver((all) => all.forEach((one) => {
    const place = one.target.nodeType === 1 ? one.target : one.target.parentElement;
    const name = one.attributeName ?? "", same = name && one.oldValue === place.getAttribute(name);
    if (same || place.closest(".ago")) return;
    window.touched.push(`${one.type} ${place.outerHTML.slice(0, 60)} ${name}`);
  })).observe(region, { subtree: true, childList: true, attributes: true, attributeOldValue: true });
}"""


def pulse(asked: Asked) -> bool:
    return asked.path == "/states/pulse"


def refresh(asked: Asked) -> bool:
    return asked.source.endswith("#region")


def anything(asked: Asked) -> bool:
    return asked.path.startswith(("/states", "/s/", "/health"))


def opened(lab: Lab, visits: Visits, path: str = "/states?view=all") -> Page:
    """A page whose clock stands still, a minute old, with nothing asked of the server yet."""
    page = visits(lab.url + path)
    freeze(page)
    lab.gate.asked.clear()
    return page


def look(page: Page, lab: Lab, seconds: float = PACE) -> None:
    """Jump to where the next look for news is due and let its answer arrive."""
    before = lab.gate.pulses()
    with page.expect_response("**/states/pulse?*"):
        jump(page, seconds)
        until(page, lambda: lab.gate.pulses() > before, "a look for news")


def test_a_look_without_news_leaves_the_document_untouched(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    page.evaluate(WATCH)
    with page.expect_response("**/states/pulse?*") as answer:
        pass_by(page, PACE)
    assert answer.value.status == 204
    look(page, lab)
    assert page.evaluate("window.touched") == []
    assert not any(map(refresh, lab.gate.asked))


def test_a_change_shows_by_itself_while_nobody_touches_the_list(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    page.locator("#q").focus()
    page.evaluate("scrollTo(0, 700)")
    other = row(page, STALE)
    other.evaluate("(element) => { element.same = true }")
    lab.change(TAKEN)
    look(page, lab)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    assert other.evaluate("(element) => element.same"), "rows that did not change are not made anew"
    assert page.evaluate("scrollY") == 700
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#pill")).to_be_hidden()


def test_title_and_favicon_carry_how_many_need_attention(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    expect(page).to_have_title(f"({BEFORE}) All · Lockboard")
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile(rf"^/favicon/{BEFORE}\.svg"))
    lab.change(replace(TAKEN, item=record(FINE.key, "yuna@laptop", timedelta(hours=9))))
    look(page, lab)
    expect(page).to_have_title(f"({BEFORE + 1}) All · Lockboard")
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile(rf"^/favicon/{BEFORE + 1}\.svg"))
    expect(page.locator(".tabs a").first).to_have_text(f"Needs attention {BEFORE + 1}")


def test_rows_do_not_move_under_a_pointer(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    row(page, STALE).hover()
    before = shown_ids(page)
    lab.change(TAKEN, replace(TAKEN, backend="prod-kr", key="new/terraform.tfstate"))
    lab.drop(BUSY)
    look(page, lab)
    pill = page.get_by_role("button", name="2 changes, show")
    expect(pill).to_be_visible()
    expect(page.locator("#said")).to_have_text("2 changes, show")
    expect(page).to_have_title(f"({BEFORE}) All · Lockboard")
    assert shown_ids(page) == before
    pill.click()
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    expect(row(page, BUSY)).to_have_count(0)
    expect(page.locator("#pill")).to_be_hidden()


def test_a_pointer_that_rests_for_long_does_not_keep_news_away(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    row(page, STALE).hover()
    lab.change(TAKEN)
    look(page, lab)
    expect(page.get_by_role("button", name="1 change, show")).to_be_visible()
    look(page, lab, QUIET)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    expect(page.locator("#pill")).to_be_hidden()


def test_rows_do_not_move_under_the_focus_and_it_stays_where_it_is(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    link = row(page, STALE).locator(".key")
    page.keyboard.press("j")
    link.focus()
    lab.change(TAKEN)
    look(page, lab)
    expect(page.get_by_role("button", name="1 change, show")).to_be_visible()
    look(page, lab, QUIET)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    expect(link).to_be_focused()


def test_a_focus_whose_row_went_away_goes_to_the_heading(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    row(page, STALE).locator(".key").focus()
    pass_by(page, QUIET)
    lab.drop(STALE)
    look(page, lab)
    expect(row(page, STALE)).to_have_count(0)
    expect(page.locator("h1")).to_be_focused()


def test_selected_text_stays_selected(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    row(page, FINE).locator(".why").evaluate("(element) => getSelection().selectAllChildren(element)")
    words = page.evaluate("getSelection().toString()")
    pass_by(page, QUIET)
    lab.change(TAKEN)
    look(page, lab)
    expect(page.locator("#pill")).to_be_visible()
    assert page.evaluate("getSelection().toString()") == words
    page.evaluate("getSelection().removeAllRanges()")
    look(page, lab)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")


def test_an_open_menu_stays_open(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    choices = open_menu(page, "Status")
    lab.change(TAKEN)
    look(page, lab, QUIET)
    expect(page.locator("#pill")).to_be_visible()
    expect(choices).to_be_visible()
    page.keyboard.press("Escape")
    expect(choices).to_be_hidden()
    look(page, lab, QUIET)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")


def test_an_open_record_on_the_page_of_a_key_stays_open(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/s/{STALE.id}")
    page.get_by_text("Raw record").click()
    expect(page.locator(".tag details pre")).to_be_visible()
    lab.change(
        replace(STALE, item=record(STALE.key, "somebody@else", timedelta(hours=2)), fingerprint="anew")
    )
    look(page, lab)
    expect(page.get_by_role("button", name="1 change, show")).to_be_visible()
    look(page, lab, QUIET)
    expect(page.locator(".tag .who")).to_contain_text("somebody@else")
    expect(page.locator(".tag details pre")).to_be_visible()
    expect(page.locator(".tag details pre")).to_contain_text("somebody@else")


def test_the_page_of_a_key_is_left_alone_by_changes_of_others(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/s/{STALE.id}")
    page.evaluate(WATCH)
    lab.change(TAKEN)
    look(page, lab)
    look(page, lab)
    assert page.evaluate("window.touched.filter((one) => !one.endsWith('data-rev'))") == []
    assert not any(map(refresh, lab.gate.asked))


def test_the_page_of_a_key_that_went_away_says_so_and_asks_no_more(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/s/{STALE.id}")
    visits.complaints.expected = {404}
    lab.drop(STALE)
    look(page, lab)
    expect(page.locator("#stale")).to_contain_text("This key is no longer in the inventory")
    expect(page.locator("#lamp")).to_have_class("lamp lost")
    expect(page.locator("h1")).to_contain_text("batch")
    before = lab.gate.live()
    pass_by(page, 60)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    assert lab.gate.live() == before


def test_the_health_page_renews_itself(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/health")
    expect(page.locator("#backend-1")).to_contain_text("Read completely")
    lab.report(report("dev-kr", complete=False, error="access denied to the bucket"))
    pass_by(page, PACE)
    expect(page.locator("#backend-1")).to_contain_text("access denied to the bucket")


def test_the_age_of_the_data_goes_on_and_starts_anew_with_a_refresh(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    pass_by(page, 2)
    expect(page.locator("#data-age")).to_have_text("1 min")
    lab.clock.now = NOW + timedelta(minutes=1)
    lab.look_again()
    look(page, lab, PACE - 2)
    expect(page.locator("#data-age")).to_have_text("10 s")
    expect(page.locator("#data-at")).to_have_text("18:01:00 UTC")
    assert not any(map(refresh, lab.gate.asked)), "a refresh that found nothing moves the clock, not the rows"


def test_when_a_key_was_checked_starts_anew_with_a_refresh(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/s/{STALE.id}")
    checked = page.locator(".checked time")
    expect(checked).to_have_text("1 min")
    lab.clock.now = NOW + timedelta(minutes=1)
    lab.look_again()
    look(page, lab)
    expect(checked).to_have_text("10 s")
    assert not any(map(refresh, lab.gate.asked))


def test_the_page_of_a_key_learns_that_its_backend_cannot_be_read(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/s/{STALE.id}")
    lab.report(report(STALE.backend, complete=False, error="access denied to the bucket"))
    look(page, lab)
    expect(page.get_by_text(f"{STALE.backend} could not be read lately.")).to_be_visible()
    expect(page.locator("#lamp")).to_have_class("lamp lost")
    jump(page, 300)
    expect(page.locator("#data-age")).to_have_text("6 min")
    expect(page.locator("#stale")).to_be_hidden()


def test_ages_are_right_on_a_computer_whose_clock_is_not(lab: Lab, visits: Visits) -> None:
    page = visits()
    page.clock.fast_forward(360_000)
    page.goto(f"{lab.url}/states?view=all")
    expect(row(page, BUSY).locator(".c-held time")).to_have_text("9 min")
    expect(page.locator("#stale")).to_be_hidden()


def test_a_clock_that_goes_wrong_while_the_page_is_open_is_noticed_at_the_next_look(
    lab: Lab, visits: Visits
) -> None:
    page = opened(lab, visits)
    jump(page, 360)
    expect(page.locator("#stale")).to_contain_text("This data is 7 min old")
    lab.gate.date = NOW + timedelta(minutes=1)
    look(page, lab)
    expect(page.locator("#stale")).to_be_hidden()
    pass_by(page, 1)
    expect(row(page, BUSY).locator(".c-held time")).to_have_text("10 min")


def test_ages_in_the_list_go_on(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    age = row(page, BUSY).locator(".c-held time")
    expect(age).to_have_text("10 min")
    jump(page, 60)
    expect(age).to_have_text("11 min")


def test_old_data_is_said_to_be_old_until_it_is_fresh_again(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    banner = page.locator("#stale")
    expect(banner).to_be_hidden()
    jump(page, 300)
    expect(banner).to_contain_text("This data is 6 min old")
    expect(page.locator("#lamp")).to_have_class("lamp lost")
    lab.clock.now = NOW + timedelta(minutes=6)
    lab.look_again()
    look(page, lab)
    expect(banner).to_be_hidden()


@pytest.mark.parametrize("failure", ["cut", "503", "offline"])
def test_a_server_that_is_not_reached_is_announced_and_recovers_by_itself(
    lab: Lab, visits: Visits, failure: str
) -> None:
    page = opened(lab, visits)
    visits.complaints.expected, visits.complaints.lost_connections_are_expected = {503}, True
    before = shown_ids(page)
    banner = page.locator("#stale")
    if failure == "offline":
        page.context.set_offline(True)
        _miss(page, failure, 3)
        expect(banner).to_contain_text("Lockboard does not answer")
        page.context.set_offline(False)
    else:
        gate = lab.gate.cutting(anything) if failure == "cut" else lab.gate.answering(503, anything)
        with gate:
            _miss(page, failure, 2)
            expect(banner).to_be_hidden()
            _miss(page, failure, 1)
            expect(banner).to_contain_text("Lockboard does not answer. What you see was true")
    assert shown_ids(page) == before
    expect(page.locator("#lamp")).to_have_class("lamp lost")
    look(page, lab, 4 * PACE)
    expect(banner).to_be_hidden()
    expect(page.locator("#lamp")).to_have_class("lamp")


def _miss(page: Page, failure: str, times: int) -> None:
    """Let so many looks fail. Each failure makes the next look come later, at most four times as late."""
    for _ in range(times):
        seen = (
            page.expect_response("**/states/pulse?*")
            if failure == "503"
            else page.expect_event("requestfailed")
        )
        with seen:
            jump(page, 4 * PACE)


def test_an_error_page_never_lands_in_the_list(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    visits.complaints.expected = {500, 502}
    before = shown_ids(page)
    with lab.gate.answering(502, refresh):
        lab.change(TAKEN)
        look(page, lab)
        until(page, lambda: any(map(refresh, lab.gate.asked)), "a refresh")
        expect(page.locator("body")).not_to_contain_text("nginx says no")
        assert shown_ids(page) == before
    with lab.gate.answering(500, lambda asked: asked.source == "form#search"):
        page.locator("#q").fill("rds")
        with page.expect_response(lambda response: response.status == 500):
            pass_by(page, 1)
        expect(page.locator("#said")).to_have_text("The server answered 500.")
        expect(page.locator("body")).not_to_contain_text("nginx says no")
        assert shown_ids(page) == before
    look(page, lab)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")


def test_a_slow_answer_does_not_hold_the_page_for_ever(lab: Lab, visits: Visits) -> None:
    """After 15 s htmx gives up, and the next look works."""
    page = opened(lab, visits)
    visits.complaints.lost_connections_are_expected = True
    with lab.gate.holding(pulse) as late:
        pass_by(page, PACE)
        until(page, late.has_arrived, "a look for news")
        with page.expect_event("requestfailed"):
            page.clock.run_for(15_500)
    lab.change(TAKEN)
    look(page, lab, 2 * PACE)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")


def test_pausing_stops_every_look_until_it_is_resumed(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    page.get_by_role("button", name="Pause").click()
    resume = page.get_by_role("button", name="Resume")
    expect(resume).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#lamp")).to_have_class("lamp paused")
    lab.change(TAKEN)
    pass_by(page, 60)
    page.reload()
    expect(resume).to_be_visible()
    pass_by(page, 60)
    expect(resume).to_be_visible()
    assert lab.gate.live() == 0
    resume.click()
    until(page, lambda: lab.gate.pulses() == 1, "a look at once")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "false")


def test_a_hidden_tab_asks_for_nothing(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    _show(page, hidden=True)
    lab.change(TAKEN)
    pass_by(page, 120)
    _show(page, hidden=False)
    until(page, lambda: lab.gate.pulses() > 0, "a look at once when it is seen again")
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    assert lab.gate.pulses() == 1


def _show(page: Page, *, hidden: bool) -> None:
    """As the browser does it when another tab comes to the front."""
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
          const state = { configurable: true, get: () => (hidden ? "hidden" : "visible") };
          Object.defineProperty(document, "visibilityState", state);
          document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
        }""",
        hidden,
    )


HURRY = """new MutationObserver((_, seen) => {
  if (!document.documentElement.classList.contains("scripted") || window.hurried !== undefined) return;
  seen.disconnect();
  window.hurried = document.getElementById("main") !== null;
  const root = document.documentElement, all = { bubbles: true, cancelable: true };
  document.dispatchEvent(new Event("visibilitychange", all));
  for (const key of ["Escape", "/", "?", "j"])
    root.dispatchEvent(new KeyboardEvent("keydown", { key, ...all }));
  root.click();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["class"] })"""
"""What somebody does who comes to a tab of which only the head has arrived."""


@pytest.mark.parametrize(
    "path", ["/states?view=all", f"/s/{STALE.id}", "/health", "/find", "/settings", "/nowhere"]
)
def test_a_tab_that_is_come_to_before_its_page_is_whole(lab: Lab, visits: Visits, path: str) -> None:
    page = visits()
    visits.complaints.expected = {404} if path == "/nowhere" else set()
    page.add_init_script(HURRY)
    page.goto(lab.url + path)
    assert page.evaluate("window.hurried") is False
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize("path", ["/find", "/settings", "/help"])
def test_a_page_that_looks_for_no_news_asks_for_none_when_it_is_come_back_to(
    lab: Lab, visits: Visits, path: str
) -> None:
    page = visits(lab.url + path)
    _show(page, hidden=True)
    _show(page, hidden=False)
    pass_by(page, 60)
    assert lab.gate.pulses() == 0


def test_looks_come_faster_for_a_minute_after_a_change(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    lab.change(TAKEN)
    look(page, lab)
    expect(row(page, FINE)).to_contain_text("yuna@laptop")
    for _ in range(3):
        look(page, lab, 3)
    jump(page, 60)
    until(page, lambda: lab.gate.pulses() == 5, "the first look after that minute")
    pass_by(page, PACE - 1)
    look(page, lab, 1)
    assert lab.gate.pulses() == 6


def test_looks_come_rarely_once_nobody_has_touched_the_page_for_long(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    jump(page, 601)
    until(page, lambda: lab.gate.pulses() == 1, "the look that was due")
    pass_by(page, 3 * PACE - 1)
    look(page, lab, 1)
    assert lab.gate.pulses() == 2


def test_no_look_at_all_where_the_preferences_say_never(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/settings")
    page.get_by_role("radio", name="never").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{lab.url}/states?view=all")
    pass_by(page, 120)
    expect(page.locator("#data-age")).to_have_text("2 min")
    expect(page.locator("#pause")).to_be_hidden()
    assert lab.gate.live() == 0


def test_an_older_answer_never_takes_the_place_of_a_newer_one(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    visits.complaints.lost_connections_are_expected = True
    with lab.gate.holding(lambda asked: "q=r" in asked.query.split("&")) as older:
        page.locator("#q").press_sequentially("r")
        pass_by(page, 0.3)
        until(page, older.has_arrived, "the first search")
        page.locator("#q").press_sequentially("ds")
        page.clock.run_for(300)
        expect(page).to_have_url(f"{lab.url}/states?view=all&q=rds")
        found = shown_ids(page)
        assert len(found) == 2
        older.let_go()
        look(page, lab)
    assert shown_ids(page) == found
    expect(page.locator("#stale")).to_be_hidden()
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=rds")
    expect(page.locator(".chip")).to_contain_text("“rds”")


def test_a_refresh_under_way_never_undoes_a_search(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits)
    visits.complaints.lost_connections_are_expected = True
    lab.change(TAKEN)
    with lab.gate.holding(refresh) as late:
        look(page, lab)
        until(page, late.has_arrived, "the refresh")
        page.locator("#q").press_sequentially("rds")
        page.clock.run_for(300)
        expect(page.locator(".chip")).to_contain_text("“rds”")
        late.let_go()
        look(page, lab)
    expect(page.locator(".chip")).to_contain_text("“rds”")
    assert len(shown_ids(page)) == 2


def test_the_list_of_one_holder_follows_only_its_own_changes(lab: Lab, visits: Visits) -> None:
    page = opened(lab, visits, f"/states?view=all&holder={RUNNER}")
    expect(page.locator(".row")).to_have_count(1)
    more = held("dev-kr", "more/terraform.tfstate", RUNNER, timedelta(minutes=2))
    row(page, BUSY).hover()
    lab.change(TAKEN, more)
    look(page, lab)
    page.get_by_role("button", name="1 change, show").click()
    expect(row(page, more)).to_be_visible()
    expect(page.locator(".row")).to_have_count(2)
