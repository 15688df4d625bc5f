"""Signing in and out, roles, and requests for a second person, in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from lockboard.domain.access import Grant, Role
from lockboard.domain.signin import FRESH, SESSION_IDLE
from tests.browser.axe import sideways
from tests.browser.conftest import Visits
from tests.browser.guarded import FINE, KEY, OPERATOR, PASSWORD, Guarded
from tests.browser.steps import PACE, pass_by
from tests.browser.test_modes import PLAIN, brightness
from tests.browser.test_pages import faults

pytestmark = pytest.mark.browser

WHY = "the runner was killed"
HOSTILE_NAMES = (
    "<img src=x onerror=alert(1)>",
    "</title></bdi></a><script>alert(2)</script>",
    '" onmouseover="alert(3)" autofocus x="',
    "kim\u202egro.live@\u2066",
    "{{ csrf }}{% include 'base.html' %}",
    "m" * 255,
)
SKELETON = """() => {
  const names = (e) => e.getAttributeNames().sort().join(" ");
  const bones = (e) => `${e.tagName}[${names(e)}](${[...e.children].map(bones).join("")})`;
  return [...document.querySelectorAll("head, header.top, main")].map(bones);
}"""

Opens = Callable[..., Guarded]


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    """A dashboard with its sign-in; everybody may come who has an account."""
    kept: list[Guarded] = []

    def opened(**chosen: bool) -> Guarded:
        folder = tmp_path / str(len(kept))
        folder.mkdir()
        kept.append(Guarded(folder, **chosen))
        return kept[-1]

    yield opened
    for lab in kept:
        lab.close()


def comes(visits: Visits, lab: Guarded, account: str, path: str = "", name: str = "") -> Page:
    """Somebody who is signed in."""
    page = visits()
    lab.let_in(page.context, account, name)
    if path:
        page.goto(lab.url + path)
    return page


def unknown(visits: Visits, lab: Guarded, path: str, **options: object) -> Page:
    """Somebody who is not: every page tells them to sign in."""
    page = visits(**options)  # type: ignore[arg-type]
    visits.complaints.expected = {401, 403}
    page.goto(lab.url + path)
    return page


def sign_in(page: Page, name: str = "min", password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def account_link(page: Page) -> Locator:
    return page.locator("a.me")


def confirm(page: Page) -> None:
    """Fill in a form of an action and send it."""
    page.get_by_label("Reason", exact=True).fill(WHY)
    typed = page.locator("#confirm")
    if typed.count():
        typed.fill("vpc")
    page.locator("#deed [type=submit]").click()


def ask_for_it(visits: Visits, lab: Guarded) -> Page:
    """An operator asks for the release of KEY's lock; gives the page that waits."""
    page = comes(visits, lab, "min", f"{lab.state()}/unlock")
    confirm(page)
    expect(page).to_have_url(f"{lab.url}/approvals/1")
    return page


# ---------------------------------------------------------------- in


def test_a_deep_link_leads_over_the_sign_in_to_the_state(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = unknown(visits, lab, lab.state())
    expect(heading(page)).to_have_text("Sign in")
    expect(page.get_by_label("Name")).to_be_focused()
    expect(page.get_by_text("come back to the page")).to_be_visible()
    expect(page.locator("header a")).to_have_count(1)
    sign_in(page)
    expect(page).to_have_url(lab.url + lab.state())
    expect(heading(page)).to_contain_text("vpc")
    expect(account_link(page)).to_have_text("Signed in as min")
    assert lab.events() == ["sign_in"]


def test_a_password_manager_finds_what_it_fills_in(opens: Opens, visits: Visits) -> None:
    page = unknown(visits, opens(), "/signin")
    form = page.locator("form.signin")
    expect(form.get_by_label("Name")).to_have_attribute("autocomplete", "username")
    expect(form.get_by_label("Password")).to_have_attribute("autocomplete", "current-password")
    expect(form.get_by_label("Password")).to_have_attribute("type", "password")
    assert form.get_attribute("autocomplete") is None


def test_a_wrong_password_says_so_where_the_focus_is_and_keeps_the_way(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = unknown(visits, lab, lab.state())
    sign_in(page, password="not the one")
    said = page.get_by_role("alert")
    expect(said).to_contain_text("That did not work.")
    expect(said).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("min")
    expect(page.get_by_label("Password")).to_have_value("")
    expect(page.get_by_label("Password")).to_have_accessible_description(re.compile("That did not work"))
    assert faults(page) == []
    sign_in(page)
    expect(page).to_have_url(lab.url + lab.state())
    assert lab.events() == ["sign_in_refused", "sign_in"]


def test_signing_in_takes_the_keyboard_alone(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = unknown(visits, lab, "/states?view=locked")
    page.keyboard.type("min")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/states?view=locked")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('a.me')"):
            break
    expect(account_link(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Your account")


def test_without_script_one_signs_in_acts_and_signs_out(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = unknown(visits, lab, lab.state(), **PLAIN)
    sign_in(page, password="not the one")
    expect(page.get_by_role("alert")).to_contain_text("That did not work.")
    sign_in(page)
    page.get_by_role("link", name="Force-unlock…").first.click()
    confirm(page)
    expect(page.locator("#told")).to_contain_text("done")
    assert not lab.is_locked()
    account_link(page).click()
    page.get_by_role("button", name="Sign out").click()
    expect(heading(page)).to_have_text("You are signed out")


def test_signing_out_ends_the_session_in_every_tab(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "min", "/account")
    visits.complaints.expected = {401}
    other = page.context.new_page()
    other.goto(lab.url + lab.state())
    page.get_by_role("button", name="Sign out").click()
    expect(heading(page)).to_have_text("You are signed out")
    expect(page.get_by_role("navigation")).to_have_count(0)
    other.reload()
    expect(heading(other)).to_have_text("Sign in")
    page.get_by_role("link", name="Sign in again").click()
    expect(heading(page)).to_have_text("Sign in")
    assert lab.events() == ["sign_out"]


# ---------------------------------------------------------------- a session that is old or over


def test_an_old_sign_in_is_asked_for_once_more_before_an_action(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "min", lab.state())
    visits.complaints.expected = {401}
    lab.pass_(FRESH + timedelta(minutes=1))
    page.get_by_role("link", name="Force-unlock…").first.click()
    expect(heading(page)).to_have_text("Sign in once more")
    expect(page.get_by_text("Nothing was done.")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("min")
    expect(page.get_by_label("Password")).to_be_focused()
    assert faults(page) == []
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"{lab.state()}/unlock"))
    confirm(page)
    expect(page.locator("#told")).to_contain_text("done")
    assert not lab.is_locked()


def test_a_form_that_was_open_too_long_does_nothing_and_comes_back_after_the_sign_in(
    opens: Opens, visits: Visits
) -> None:
    lab = opens()
    page = comes(visits, lab, "min", f"{lab.state()}/unlock")
    visits.complaints.expected = {401}
    lab.pass_(FRESH + timedelta(minutes=1))
    confirm(page)
    expect(heading(page)).to_have_text("Sign in once more")
    assert lab.is_locked()
    sign_in(page)
    expect(heading(page)).to_have_text("Force-unlock this state?")
    assert page.url == f"{lab.url}{lab.state()}/unlock"


@pytest.mark.parametrize("path", ["/states?view=all&sort=key", "state", "/health"])
def test_a_session_that_ends_under_an_open_page_leads_to_the_sign_in_and_back(
    opens: Opens, visits: Visits, path: str
) -> None:
    lab = opens()
    where = lab.state() if path == "state" else path
    page = comes(visits, lab, "min", where)
    visits.complaints.expected = {401}
    lab.clock.pass_(SESSION_IDLE.total_seconds() + 60)
    with page.expect_navigation():
        pass_by(page, PACE)
    expect(heading(page)).to_have_text("Sign in")
    expect(page.locator("#region")).to_have_count(0)
    expect(page.locator("form.signin")).to_have_count(1)
    sign_in(page)
    expect(page).to_have_url(lab.url + where)
    expect(page.locator("#region")).to_be_visible()


def test_an_account_that_is_disabled_is_out_at_once(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "min", lab.state())
    visits.complaints.expected = {401, 403}
    lab.accounts.set_disabled("min", True)
    page.reload()
    expect(heading(page)).to_have_text("Sign in")
    sign_in(page)
    expect(page.get_by_role("alert")).to_contain_text("the account is disabled")


# ---------------------------------------------------------------- what each role sees


def test_a_viewer_sees_the_ways_out_and_why_there_is_no_button(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "vic", lab.state())
    expect(page.get_by_text("You may look at this state, but not act on it.")).to_be_visible()
    expect(page.locator("main a[href*='/unlock'], main a[href*='/digest'], main a.button")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(
        ["Board", "Find", "Health", "Settings", "Help"]
    )
    visits.complaints.expected = {403}
    page.goto(f"{lab.url}{lab.state()}/unlock")
    expect(page.get_by_text("have no permission to act on a state")).to_be_visible()
    assert faults(page) == []


def test_an_auditor_reads_the_log_and_has_no_way_to_act(opens: Opens, visits: Visits) -> None:
    lab = opens()
    acting = comes(visits, lab, "min", f"{lab.state()}/unlock")
    confirm(acting)
    expect(acting.locator("#told")).to_contain_text("done")
    page = comes(visits, lab, "aud", "/audit")
    expect(page.locator(".row").first).to_contain_text("min")
    page.locator(".row a").first.click()
    expect(heading(page)).to_contain_text("Record")
    expect(page.locator("main form[method=post], main a[href*='/undo']")).to_have_count(0)
    page.goto(lab.url + lab.state())
    expect(page.locator("main a[href*='/unlock'], main a[href*='/undo'], main a.button")).to_have_count(0)


def test_somebody_without_a_role_is_told_so_and_sees_no_state(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "nil", "/account")
    expect(page.get_by_text("nobody has granted you a role")).to_be_visible()
    expect(page.get_by_role("search")).to_have_count(0)
    assert faults(page) == []
    visits.complaints.expected = {403}
    page.goto(lab.url + lab.state())
    expect(page.get_by_text("have no permission to see any state")).to_be_visible()
    expect(page.get_by_text("vpc")).to_have_count(0)


def test_single_keys_do_no_harm_where_there_is_nothing_to_search(opens: Opens, visits: Visits) -> None:
    page = comes(visits, opens(), "nil", "/account")
    expect(page.get_by_role("search")).to_have_count(0)
    for key in ("/", "j", "k", "Escape", "?"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_demo_is_seen_in_another_role_at_a_click(opens: Opens, visits: Visits) -> None:
    lab = opens(demo=True)
    page = visits(lab.url + lab.state())
    expect(page.get_by_role("link", name="Force-unlock…").first).to_be_visible()
    account_link(page).click()
    chosen = page.get_by_role("button", pressed=True)
    expect(chosen).to_contain_text("operator")
    page.get_by_role("button", name="viewer").click()
    expect(chosen).to_contain_text("viewer")
    expect(chosen).to_have_count(1)
    expect(account_link(page)).to_have_text("Signed in as demo-viewer")
    quiet = page.get_by_role("button", pressed=False).first
    grounds = [one.evaluate("(e) => getComputedStyle(e).backgroundColor") for one in (chosen, quiet)]
    assert grounds[0] != grounds[1]
    page.goto(lab.url + lab.state())
    expect(page.get_by_role("link", name="Force-unlock…")).to_have_count(0)
    expect(page.get_by_text("You may look at this state, but not act on it.")).to_be_visible()


# ---------------------------------------------------------------- a second person


def test_what_one_asks_for_another_approves_and_the_lock_is_gone(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    asking = ask_for_it(visits, lab)
    expect(asking.get_by_text("Somebody else who may act on protected keys")).to_be_visible()
    expect(asking.get_by_role("button", name="Approve")).to_have_count(0)
    assert lab.is_locked()
    approving = comes(visits, lab, "lee", "/approvals")
    approving.get_by_role("link", name="Request 1").click()
    expect(approving.get_by_text(WHY)).to_be_visible()
    approving.get_by_role("button", name="Approve and carry out").click()
    expect(approving.locator("#told")).to_contain_text("done")
    assert approving.url.startswith(f"{lab.url}{lab.state()}?done=")
    assert not lab.is_locked()
    asking.reload()
    expect(asking.locator(".hero")).to_contain_text("Approved by lee")
    expect(asking.locator("main form")).to_have_count(0)
    assert lab.events() == ["approval_requested", "approval_given", "force_unlock", "force_unlock"]


def test_a_request_that_is_declined_does_nothing(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    page = comes(visits, lab, "lee", "/approvals/1")
    page.get_by_role("button", name="Decline").click()
    expect(page.locator(".hero")).to_contain_text("Declined by lee")
    assert lab.is_locked()


def test_a_request_is_withdrawn_by_who_made_it(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    page = ask_for_it(visits, lab)
    page.get_by_role("button", name="Withdraw").click()
    expect(page.locator(".hero")).to_contain_text("Withdrawn by min")
    assert lab.is_locked()


def test_a_request_of_before_the_state_moved_can_only_be_declined(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    lab.world.estate.lock(KEY, "another-run", who="yuna@laptop")
    page = comes(visits, lab, "lee", "/approvals/1")
    expect(page.get_by_role("alert")).to_contain_text("It is not as it was when this was asked for.")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    expect(page.get_by_role("button", name="Decline")).to_be_visible()
    assert faults(page) == []


def test_the_two_answers_to_a_request_stand_apart(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    page = comes(visits, lab, "lee", "/approvals/1")
    for width, least in ((1280, 60), (390, 20)):
        page.set_viewport_size({"width": width, "height": 800})
        yes, no = (page.get_by_role("button", name=name).bounding_box() for name in ("Approve", "Decline"))
        assert yes
        assert no
        apart = max(no["x"] - yes["x"] - yes["width"], no["y"] - yes["y"] - yes["height"])
        assert apart >= least


def test_a_viewer_has_no_requests_to_see(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    page = comes(visits, lab, "vic", "/approvals")
    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    visits.complaints.expected = {404}
    page.goto(f"{lab.url}/approvals/1")
    expect(page.get_by_text("There is no such request, or it is not for you.")).to_be_visible()


# ---------------------------------------------------------------- people


def test_an_administrator_ends_a_session_and_its_browser_is_out(opens: Opens, visits: Visits) -> None:
    lab = opens()
    theirs = comes(visits, lab, "min", lab.state())
    visits.complaints.expected = {401}
    page = comes(visits, lab, "ada", "/people")
    page.get_by_role("button", name="End the session of min").click()
    expect(page.get_by_role("button", name="End the session of min")).to_have_count(0)
    theirs.reload()
    expect(heading(theirs)).to_have_text("Sign in")
    assert lab.events() == ["session_ended"]


def test_a_tokens_secret_is_shown_once_and_copied_whole(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "ada", "/people")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=lab.url)
    page.get_by_label("Name").fill("ci-reader")
    page.get_by_role("button", name="Make a token").click()
    note = page.locator("#secret")
    expect(note).to_be_focused()
    secret = note.locator("code").inner_text()
    page.get_by_role("button", name="Copy the token").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_be_attached()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert lab.tokens.find(secret, lab.clock()) is not None
    assert faults(page) == []
    page.goto(f"{lab.url}/people")
    expect(page.get_by_text(secret)).to_have_count(0)
    page.get_by_role("button", name="Revoke ci-reader").click()
    expect(page.locator("#tokens table")).to_contain_text("revoked")
    assert lab.tokens.find(secret, lab.clock()) is None


def test_a_wrong_token_form_says_what_is_wrong_and_keeps_what_was_typed(opens: Opens, visits: Visits) -> None:
    page = comes(visits, opens(), "ada", "/people")
    visits.complaints.expected = {422}
    page.get_by_label("Name").fill("ci")
    page.get_by_label("Role").select_option("operator")
    page.get_by_label("acts on protected keys").check()
    page.get_by_label("Days").fill("400")
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_role("alert")).to_contain_text("A token lasts 1 to 90 days. Nothing was done.")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("ci")
    expect(page.get_by_label("Role")).to_have_value("operator")
    expect(page.get_by_label("acts on protected keys")).to_be_checked()


# ---------------------------------------------------------------- how it looks, to everybody


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/signin", "Sign in"),
        ("/signin?next=/audit&again=1", "Sign in once more"),
        ("/states?view=all", "Sign in"),
        ("/nowhere", "There is nothing here"),
    ],
)
def test_what_nobody_in_particular_sees_is_accessible(
    opens: Opens, visits: Visits, path: str, name: str
) -> None:
    page = visits()
    visits.complaints.expected = {401, 404}
    page.goto(opens().url + path)
    expect(heading(page)).to_have_text(name)
    assert faults(page) == []


def test_the_page_after_signing_out_is_accessible(opens: Opens, visits: Visits) -> None:
    page = comes(visits, opens(), "min", "/account")
    assert faults(page) == []
    page.get_by_role("button", name="Sign out").click()
    expect(heading(page)).to_have_text("You are signed out")
    assert faults(page) == []


@pytest.mark.parametrize("role", ["viewer", "operator", "auditor"])
def test_the_account_page_of_each_role_is_accessible(opens: Opens, visits: Visits, role: str) -> None:
    lab = opens(demo=True)
    page = visits()
    lab.play(page.context, role)
    page.goto(f"{lab.url}/account")
    expect(page.get_by_role("button", pressed=True)).to_contain_text(role)
    assert faults(page) == []


def test_approvals_are_accessible_whatever_became_of_them(opens: Opens, visits: Visits) -> None:
    lab = opens(protected=True)
    approving = comes(visits, lab, "lee", "/approvals")
    expect(approving.get_by_text("Nothing waits for you")).to_be_visible()
    assert faults(approving) == []
    asking = ask_for_it(visits, lab)
    assert faults(asking) == []
    approving.reload()
    assert faults(approving) == []
    approving.goto(f"{lab.url}/approvals/1")
    approving.locator("summary").evaluate("(summary) => summary.click()")
    assert faults(approving) == []
    approving.get_by_role("button", name="Decline").click()
    expect(approving.locator(".hero")).to_contain_text("Declined")
    assert faults(approving) == []


def test_the_page_of_people_is_accessible_and_its_tables_scroll_by_themselves(
    opens: Opens, visits: Visits
) -> None:
    lab = opens()
    comes(visits, lab, "min")
    grant = Grant(Role.OPERATOR, OPERATOR.area, protected=True, unlock_unsuspected=True)
    lab.tokens.add("ci-writer", "ada", [grant], lab.clock(), lab.clock() + timedelta(days=30))
    page = comes(visits, lab, "ada", "/people")
    for name in ("Sessions", "Accounts", "API tokens"):
        expect(page.get_by_role("group", name=name).get_by_role("table")).to_be_visible()
    assert faults(page) == []


def walk(visits: Visits, lab: Guarded, name: str) -> list[list[str]]:
    """What every page is built of that prints the name of somebody, who asks for something on the way."""
    asking = comes(visits, lab, "min", f"{lab.state()}/unlock", name)
    confirm(asking)
    expect(asking).to_have_url(f"{lab.url}/approvals/1")
    approving = comes(visits, lab, "ada", name=name)
    ways = [(asking, path) for path in ("/account", "/approvals", "/approvals/1", "/states?view=all")]
    ways += [(approving, path) for path in ("/approvals", "/approvals/1", "/people")]
    found = []
    for page, path in ways:
        page.goto(lab.url + path)
        found.append(page.evaluate(SKELETON))
        page.set_viewport_size({"width": 390, "height": 800})
        assert sideways(page) == []
        box = account_link(page).bounding_box()
        assert box
        assert box["x"] + box["width"] <= 390
        page.set_viewport_size({"width": 1280, "height": 800})
    asking.goto(f"{lab.url}/approvals/1")
    asking.get_by_role("button", name="Withdraw").click()
    expect(asking.locator(".hero")).to_contain_text("Withdrawn by")
    return [*found, asking.evaluate(SKELETON)]


HARMLESS_WALK: list[list[str]] = []
"""Filled by the first test that compares with it."""


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_a_hostile_name_is_shown_and_not_obeyed(opens: Opens, visits: Visits, name: str) -> None:
    if not HARMLESS_WALK:
        HARMLESS_WALK.extend(walk(visits, opens(protected=True), "Kim"))
    assert walk(visits, opens(protected=True), name) == HARMLESS_WALK


@pytest.mark.parametrize("account", ["vic", "min", "ada"])
@pytest.mark.parametrize("path", ["/states?view=all", "/account"])
def test_the_header_holds_every_page_and_a_wide_search_at_each_width(
    opens: Opens, visits: Visits, account: str, path: str
) -> None:
    lab = opens(protected=True)
    page = comes(visits, lab, account, path)
    for width in (320, 360, 390, 768, 1024, 1180, 1280, 1440, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert sideways(page) == []
        search, brand, me, *links = (
            one.bounding_box()
            for one in (
                page.locator("#search"),
                page.locator(".brand"),
                account_link(page),
                *page.locator(".pages a").all(),
            )
        )
        assert search
        assert search["width"] >= 290
        assert brand
        assert me
        assert abs(brand["y"] + brand["height"] / 2 - me["y"] - me["height"] / 2) < 3, "in one line"
        assert width - 30 < me["x"] + me["width"] <= width, "at the far right"
        assert len(links) >= 5
        for box in links:
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("path", ["/account", "/people", "/approvals/1"])
def test_forced_colours_keep_what_is_chosen_and_every_mark(opens: Opens, visits: Visits, path: str) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    page = visits(forced_colors="active", color_scheme="dark")
    lab.let_in(page.context, "ada")
    page.goto(lab.url + path)
    expect(page.locator("header [aria-current=page]")).to_have_css("text-decoration-line", "underline")
    marks = page.locator("main svg:visible").evaluate_all(
        """(all) => {
          const ground = getComputedStyle(document.body).backgroundColor;
          return all.filter((one) => getComputedStyle(one).color === ground).length;
        }"""
    )
    assert marks == 0


@pytest.mark.parametrize("path", ["/account", "/people", "/approvals", "/approvals/1"])
def test_paper_gets_these_pages_in_ink_and_no_button_of_a_deed(
    opens: Opens, visits: Visits, path: str
) -> None:
    lab = opens(protected=True)
    ask_for_it(visits, lab)
    page = visits(color_scheme="dark")
    lab.let_in(page.context, "lee" if path != "/people" else "ada")
    page.goto(lab.url + path)
    page.emulate_media(media="print")
    for away in ("header.top", ".foot", ".buttons", ".plain form", ".crumbs"):
        for found in page.locator(away).all():
            expect(found).to_be_hidden()
    assert brightness(page, "h1", "color") < 100
    assert sideways(page) == []


def test_a_healthy_state_offers_nothing_to_an_operator_either(opens: Opens, visits: Visits) -> None:
    lab = opens()
    page = comes(visits, lab, "min", lab.state(FINE))
    expect(page.get_by_role("link", name="Force-unlock…")).to_have_count(0)
    expect(page.get_by_text("You may look at this state")).to_have_count(0)
