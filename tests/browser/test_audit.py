"""The audit pages in a browser: both themes, wide and on a phone, no script, on paper, with hostile text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from lockboard.domain.audit import LOCKBOARD, Audit, Entry, Kind, Person
from lockboard.domain.ports import Clock
from tests.browser.axe import sideways, violations
from tests.browser.conftest import Looks, Visits
from tests.browser.estate import BACKENDS, FINE, NOW, report
from tests.browser.server import Lab
from tests.browser.steps import pass_by
from tests.browser.test_modes import PLAIN, brightness
from tests.browser.test_pages import faults
from tests.web.audit_fakes import ALEX, FakeAudit, attempt, lock, plan, week

pytestmark = pytest.mark.browser

OF_FINE = (FINE.backend, FINE.key)
POISON = (
    "<img src=x onerror=alert(1)>",
    '" hx-get="/states/pulse" hx-trigger="load" autofocus onfocus="alert(3)',
    "</details></pre></td></tr></table><form action=//evil><style>*{display:none}</style>",
    "javascript:alert(4)//" + "without-any-place-to-break" * 20,
    "{{ 7*7 }}\u202egpj.exe\x1b[31m",
)


def poisoned(clock: Clock) -> FakeAudit:
    """After the start an outcome that is harmless, one for each poison, and an event."""
    log = FakeAudit(clock)
    log.put(clock() - timedelta(days=1), Entry(Kind.EVENT, "start", LOCKBOARD))
    for number, text in enumerate(("harmless", *POISON)):
        facts = plan(releases=[lock(id=text, who=text, operation=text, raw=text)])
        person = Person(text, text, text)
        _, outcome = attempt(
            number,
            "force_unlock",
            ("dev-kr", f"a/{text}"),
            person,
            reason=text,
            ticket=text,
            message=text,
            facts=facts,
        )
        log.put(clock() - timedelta(hours=9 - number), outcome)
    log.put(clock(), Entry(Kind.EVENT, "verify", person, message=POISON[0], facts={"problem": POISON[1]}))
    return log


def many(clock: Clock) -> FakeAudit:
    """Sixty attempts, all of a state that is in the inventory."""
    log = FakeAudit(clock)
    for number in range(60):
        for entry in attempt(number, "force_unlock", OF_FINE, ALEX, ticket="OPS-7"):
            log.put(clock() - timedelta(hours=60 - number), entry)
    return log


Opens = Callable[[Callable[[Clock], Audit] | None], Lab]


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    """A dashboard over one healthy key and the log that is given."""
    labs: list[Lab] = []

    def opened(audit: Callable[[Clock], Audit] | None) -> Lab:
        folder = tmp_path / str(len(labs))
        labs.append(Lab(folder, [FINE], BACKENDS, [report(name) for name in BACKENDS], audit))
        return labs[-1]

    yield opened
    for lab in labs:
        lab.close()


def line(page: Page, seq: int) -> Locator:
    return page.locator(f"#a-{seq}")


# ---------------------------------------------------------------- every page, light and dark, wide and small


def test_the_log_is_accessible_in_both_themes_and_widths(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(week).url}/audit")
    expect(page.locator(".row")).to_have_count(13)
    expect(page.locator(".pages [aria-current=page]")).to_have_text("Audit")
    assert faults(page) == []


def test_a_filtered_page_in_the_middle_is_accessible(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(many).url}/audit?kind=outcome&ticket=OPS-7&since=2026-11-01&before=119")
    expect(page.locator(".chip")).to_have_count(3)
    expect(page.get_by_role("link", name="Newer")).to_be_visible()
    assert faults(page) == []


@pytest.mark.parametrize("seq", [3, 5, 9, 12, 13])
def test_each_kind_of_record_is_accessible(opens: Opens, looks: Looks, seq: int) -> None:
    page = looks(f"{opens(week).url}/audit/{seq}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Record {seq}")
    page.locator("summary").evaluate_all("(all) => all.forEach((one) => one.click())")
    assert faults(page) == []


def test_a_broken_chain_is_accessible_and_tells_the_record(opens: Opens, visits: Visits) -> None:
    def broken(clock: Clock) -> FakeAudit:
        log = week(clock)
        log.tamper(7)
        return log

    page = visits(f"{opens(broken).url}/audit")
    page.get_by_role("button", name="Verify now").click()
    expect(page).to_have_url(re.compile("/audit#chain$"))
    expect(page.locator("#chain h2")).to_contain_text("Chain broken at record 7")
    assert faults(page) == []
    page.locator("#chain").get_by_role("link", name="Record 7").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be relied on")
    assert faults(page) == []


@pytest.mark.parametrize(
    ("audit", "path", "title"),
    [
        (None, "/audit", "No audit log is kept"),
        (FakeAudit, "/audit", "The log is empty"),
        (week, "/audit?person=nobody", "No record matches"),
    ],
)
def test_an_empty_log_is_accessible_and_says_what_is_true(
    opens: Opens, looks: Looks, audit: Callable[[Clock], Audit] | None, path: str, title: str
) -> None:
    page = looks(opens(audit).url + path)
    expect(page.locator(".empty h2")).to_have_text(title)
    assert faults(page) == []


def test_a_log_that_takes_no_record_has_a_readable_page(opens: Opens, visits: Visits) -> None:
    def full(clock: Clock) -> FakeAudit:
        log = week(clock)
        log.broken = True
        return log

    page = visits(f"{opens(full).url}/audit")
    visits.complaints.expected = {503}
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The audit log cannot be used")
    expect(page.locator("main")).to_contain_text("Nothing was changed in AWS")
    assert faults(page) == []


def test_health_with_a_log_is_accessible(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(week).url}/health")
    expect(page.locator("#audit-log")).to_contain_text("has not been checked")
    assert faults(page) == []


# ---------------------------------------------------------------- using it


def test_a_line_opens_its_record_wherever_it_is_touched_and_its_state_by_its_name(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(many)
    page = visits(f"{lab.url}/audit")
    box = line(page, 120).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 10, box["y"] + 10)
    expect(page).to_have_url(f"{lab.url}/audit/120")
    page.go_back()
    line(page, 120).locator(".c-held a").click()
    expect(page).to_have_url(f"{lab.url}/s/{FINE.id}")


def test_the_keyboard_walks_along_the_lines_and_the_records(opens: Opens, visits: Visits) -> None:
    lab = opens(week)
    page = visits(f"{lab.url}/audit")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(line(page, 12).locator(".key")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/audit/12")
    page.keyboard.press("j")
    expect(page).to_have_url(f"{lab.url}/audit/11")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{lab.url}/audit/12")


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
def test_who_unlocked_what_and_what_aws_answered_is_two_clicks_from_the_log(
    opens: Opens, visits: Visits, scripted: bool
) -> None:
    lab = opens(week)
    page = visits(f"{lab.url}/audit", **({} if scripted else PLAIN))
    form = page.get_by_role("form", name="Filter")
    form.get_by_label("Words of the key").fill("iam")
    form.get_by_label("Action").select_option("Force-unlock")
    form.get_by_label("First day").fill("2026-11-02")
    form.get_by_label("Last day").fill("2026-11-02")
    form.get_by_role("button", name="Filter").click()
    line(page, 3).locator(".key").click()
    expect(page.locator(".hero")).to_contain_text("kim: runner was killed OPS-1841")
    expect(page.locator("main")).to_contain_text("On what evidence")
    expect(page.locator(".exact")).to_contain_text('"Who":"root@runner-t3qyxf-project-7120"')
    expect(page.get_by_role("row").filter(has_text="dynamodb:DeleteItem")).to_contain_text("REQ0001EXAMPLE")
    page.get_by_role("link", name=re.compile("Back to the log: action force-unlock, key has “iam”")).click()
    expect(page.locator(".row")).to_have_count(2)
    assert urlsplit(page.url).fragment == "a-3"


def test_the_page_does_not_move_by_itself(opens: Opens, visits: Visits) -> None:
    lab = opens(week)
    page = visits(f"{lab.url}/audit")
    pass_by(page, 600)
    assert [asked.url for asked in lab.gate.asked if asked.source or asked.path.startswith("/states")] == []
    assert [asked.path for asked in lab.gate.asked].count("/audit") == 1


def test_a_file_is_downloaded_and_recorded(opens: Opens, visits: Visits) -> None:
    lab = opens(week)
    page = visits(f"{lab.url}/audit?person=kim")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="JSON lines").click()
    text = waiting.value.path().read_text("utf-8").splitlines()
    assert waiting.value.suggested_filename == "lockboard-audit-20261120T180000Z.jsonl"
    assert [json.loads(one).get("seq") for one in text] == [None, 13, 9, 8, 3, 2, None]
    page.goto(f"{lab.url}/audit?action=export")
    expect(line(page, 14)).to_contain_text("Exported 5 records of the audit log as JSON lines: by kim.")
    expect(line(page, 14)).to_contain_text("loopback · 127.0.0.1")


def test_a_copy_button_copies_the_mac(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(week).url}/audit/3", permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy the MAC")
    button.click()
    expect(button).to_have_class("ghost copy copied")
    assert page.evaluate("navigator.clipboard.readText()") == button.get_attribute("data-copy")


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
def test_the_log_is_filtered_by_its_form(opens: Opens, visits: Visits, scripted: bool) -> None:
    lab = opens(week)
    page = visits(f"{lab.url}/audit", **({} if scripted else PLAIN))
    page.get_by_role("navigation", name="Kinds of records").get_by_text("Outcomes").click()
    form = page.get_by_role("form", name="Filter")
    form.get_by_label("Person").select_option("alex@acme.example")
    form.get_by_label("Result").select_option("Failed")
    form.get_by_label("Words of the key").fill("EDGE")
    form.get_by_label("First day").fill("2026-11-01")
    form.get_by_role("button", name="Filter").click()
    expect(page.locator(".row")).to_have_count(1)
    expect(line(page, 7)).to_contain_text("Failed")
    assert parse_qs(urlsplit(page.url).query) == {
        "kind": ["outcome"],
        "person": ["alex@acme.example"],
        "result": ["failed"],
        "key": ["EDGE"],
        "since": ["2026-11-01"],
    }
    expect(form.get_by_label("Person")).to_have_value("alex@acme.example")
    page.get_by_role("link", name="Remove the filter: result failed").click()
    expect(page.locator(".chip")).to_have_count(4)
    page.get_by_role("link", name="Remove the filter: key has “EDGE”").click()
    expect(page.locator(".chip")).to_have_count(3)
    expect(page.locator(".row")).to_have_count(2)


def test_without_script_the_log_is_paged_read_and_verified(opens: Opens, visits: Visits) -> None:
    lab = opens(many)
    page = visits(f"{lab.url}/audit", **PLAIN)
    page.get_by_role("link", name="Older").click()
    expect(page).to_have_url(f"{lab.url}/audit?before=71")
    expect(page.locator(".pager")).to_contain_text("Records 70\u201321")
    page.get_by_role("link", name="Newer").click()
    expect(line(page, 120)).to_be_visible()
    line(page, 120).locator(".key").click()
    page.get_by_text("Everything this record keeps, as JSON").click()
    expect(page.locator("details[open] pre")).to_contain_text('"request_id": "REQ0059EXAMPLE"')
    page.get_by_role("link", name="Back to the log").click()
    page.get_by_role("button", name="Verify now").click()
    expect(page.locator("#chain h2")).to_have_text("Chain verified to record 120 at 2026-11-20 18:00:00 UTC")
    for button in page.locator("button").all():
        if button.is_visible():
            assert button.get_attribute("type") != "button"


# ---------------------------------------------------------------- other ways to look at it


def test_a_phone_shows_each_record_as_a_card(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(week).url}/audit", phone=True)
    expect(page.get_by_role("table", name="Audit records")).to_be_visible()
    card = line(page, 7)
    card.scroll_into_view_if_needed()
    box = card.bounding_box()
    assert box is not None
    assert box["width"] > 340
    for part in (".c-when", ".c-what", ".mark", ".c-held"):
        expect(card.locator(part).first).to_be_visible()
    nav = page.locator(".pages")
    assert nav.evaluate("(e) => e.scrollWidth <= e.clientWidth")
    page.touchscreen.tap(box["x"] + box["width"] - 12, box["y"] + 12)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Record")


@pytest.mark.parametrize("path", ["/audit?person=kim", "/audit/3"])
def test_paper_gets_the_records_in_ink_and_nothing_to_click(opens: Opens, visits: Visits, path: str) -> None:
    page = visits(opens(week).url + path, color_scheme="dark")
    page.emulate_media(media="print")
    expect(page.locator("h1")).to_be_visible()
    for away in ("header.top", ".foot", ".tabs", ".crumbs", ".tools", ".copy", ".skip", ".chain .checked"):
        for found in page.locator(away).all():
            expect(found).to_be_hidden()
    shown = page.locator("button, select, input").evaluate_all(
        "(all) => all.filter((one) => one.checkVisibility()).length"
    )
    assert shown == 0
    if "?" in path:
        expect(page.locator(".on-paper")).to_have_text("Narrowed to: by kim.")
        expect(page.locator(".row")).to_have_count(5)
    assert brightness(page, "h1", "color") < 100
    assert brightness(page, "html", "backgroundColor") > 240
    assert len(page.pdf()) > 10_000
    assert sideways(page) == []


def test_a_sheet_of_paper_has_a_table_whose_cells_hold_their_text(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(week).url}/audit", viewport={"width": 718, "height": 1000})
    page.emulate_media(media="print")
    expect(page.locator(".log thead")).to_be_visible()
    assert line(page, 3).evaluate("(e) => getComputedStyle(e).display") == "table-row"
    past = page.locator(".log td").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML)"
    )
    assert past == []
    assert sideways(page) == []


@pytest.mark.parametrize("path", ["/audit", "/audit/7"])
def test_forced_colours_keep_every_mark_and_border(opens: Opens, visits: Visits, path: str) -> None:
    page = visits(opens(week).url + path, forced_colors="active", color_scheme="dark")
    edges = page.locator(".row td:first-child, .hero, .notice:visible, .panel[class*=edge-]")
    assert edges.count() > 1
    for edge in edges.all()[:6]:
        assert edge.evaluate("(e) => getComputedStyle(e).borderLeftStyle") == "solid"
    hidden = page.locator("main svg:visible").evaluate_all(
        """(all) => {
          const ground = getComputedStyle(document.body).backgroundColor;
          return all.filter((one) => getComputedStyle(one).color === ground).length;
        }"""
    )
    assert hidden == 0
    assert violations(page) == []


# ---------------------------------------------------------------- hostile text


SKELETON = """(where) => {
  const names = (e) => e.getAttributeNames().sort().join(" ");
  const bones = (e) => `${e.tagName}[${names(e)}](${[...e.children].map(bones).join("")})`;
  return [...document.querySelectorAll(where)].map(bones);
}"""


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_every_line_has_the_same_bones_whatever_it_says(opens: Opens, visits: Visits, phone: bool) -> None:
    lab = opens(poisoned)
    page = visits(f"{lab.url}/audit?kind=outcome", phone=phone)
    lines = page.evaluate(SKELETON, ".row")
    assert len(lines) == len(POISON) + 1
    assert len(set(lines)) == 1
    assert sideways(page) == []
    assert lab.gate.pulses() == 0


def test_the_page_of_a_hostile_record_has_the_bones_of_a_harmless_one(opens: Opens, visits: Visits) -> None:
    lab = opens(poisoned)
    page = visits(phone=True)
    found = []
    for seq in range(2, len(POISON) + 3):
        page.goto(f"{lab.url}/audit/{seq}")
        page.locator("summary").evaluate_all("(all) => all.forEach((one) => one.click())")
        found.append(page.evaluate(SKELETON, "main > *:not(nav), head, header.top"))
        assert sideways(page) == []
    for bones in found[1:]:
        assert bones == found[0]


def test_a_filter_by_a_hostile_name_finds_its_records(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(poisoned).url}/audit")
    form = page.get_by_role("form", name="Filter")
    form.get_by_label("Person").select_option(POISON[1])
    form.get_by_role("button", name="Filter").click()
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".chip")).to_contain_text(POISON[1])
    assert violations(page) == []


def test_the_clock_of_these_tests_is_that_of_the_estate() -> None:
    assert week(lambda: NOW).records[-1].at == NOW - timedelta(seconds=12)
