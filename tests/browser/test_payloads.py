"""A hundred of the hostile texts in a real browser, over every page and what htmx swaps into it: nothing
of them runs, asks, breaks the policy or becomes an element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from playwright.sync_api import Page, expect

from lockboard.domain.audit import Entry, Kind, Person, Result
from lockboard.domain.text import shown
from tests.browser.conftest import Visits
from tests.browser.estate import BACKENDS, Seen, past, record, report
from tests.browser.server import Clock, Lab
from tests.browser.steps import pass_by
from tests.hostile.payloads import sample
from tests.web.audit_fakes import FakeAudit, lock, plan, uuid

pytestmark = pytest.mark.browser

COUNT = 100
PAYLOADS = sample(COUNT)
HARMLESS = (
    "x",
    "x\u200bx",
    " ",
    "terraform.tfstate",
    "a/b",
    "-md5",
    "x" * 1000,
    "x" * 999,
    "x" * 2000,
    "\n" * 1000,
)
"""One of each shape that a page may rightly tell apart; the long ones have one holder."""

BONES = """(chosen) => {
  const names = (e) => e.getAttributeNames().filter((name) => name !== "open").sort().join(" ");
  const bones = (e) => `${e.tagName}[${names(e)}](${[...e.children].map(bones).join("")})`;
  return [...document.querySelectorAll(chosen)].map(bones);
}"""
WOUNDS = """() => [...document.querySelectorAll("*")].filter((e) =>
  e.getAttributeNames().some((name) => name.startsWith("on") || name === "style" || name === "srcdoc")
  || ["href", "src", "action", "formaction", "xlink:href"].some((name) =>
    e.hasAttribute(name) && !/^(#|$|[/](?![/\\\\]))/.test(e.getAttribute(name)))
  || ["IFRAME", "OBJECT", "EMBED", "BASE", "IMG", "VIDEO", "TEMPLATE", "HX-PARTIAL"].includes(e.tagName)
).map((e) => e.outerHTML.slice(0, 200))"""


def seen(number: int, text: str) -> Seen:
    """A deleted state under a lock, the text in its key and in every field of the record."""
    text = text[:900]
    key = f"k{number:04d}/{text}.tfstate"
    info = record(key, text, timedelta(hours=5), name=text, operation=text)
    return Seen("dev-kr", key, state=None, digest="old", item=info, history=past(("old", 7), deleted=True))


def anew(one: Seen) -> Seen:
    """The same key an hour longer under its lock."""
    assert isinstance(one.item, str)
    longer = one.item.replace("2026-11-20T13:00:00Z", "2026-11-20T12:00:00Z")
    return replace(one, item=longer, fingerprint="anew")


def entries(number: int, text: str) -> Iterator[Entry]:
    told = plan(releases=[lock(who=text, id=text, operation=text, raw=text, attribute={"S": text})])
    yield Entry(
        Kind.OUTCOME,
        "force_unlock",
        Person(text, text, text),
        action_id=uuid(number),
        backend=text,
        bucket=text,
        key=text,
        state_id=f"{number:016x}",
        reason=text,
        ticket=text,
        result=Result.DONE,
        message=text,
        facts={"plan": told, "steps": [{"operation": text, "request_id": text, "detail": text}]},
    )


STATES = [seen(number, text) for number, text in enumerate((*HARMLESS, *(p.text for p in PAYLOADS)))]
PLAIN, HOSTILE = STATES[: len(HARMLESS)], STATES[len(HARMLESS) :]
LINES = len(STATES) + len(HARMLESS)


def log(clock: Clock) -> FakeAudit:
    """A record of each text, the harmless ones first and once more at the end."""
    found = FakeAudit(clock)
    texts = (*HARMLESS, *(payload.text[:2000] for payload in PAYLOADS), *HARMLESS)
    for number, text in enumerate(texts):
        for entry in entries(number, text):
            found.append(entry)
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("payloads")
    lab = Lab(folder, STATES, BACKENDS, [report(name) for name in BACKENDS], log, acts=True)
    assert lab.actions is not None
    for one in STATES:
        lab.actions.look(one.observed())
    yield lab
    lab.close()


def bones(page: Page, chosen: str) -> list[str]:
    found: list[str] = page.evaluate(BONES, chosen)
    assert page.evaluate(WOUNDS) == []
    return found


def strange(page: Page, urls: Sequence[tuple[str, str]], plain: Sequence[str], chosen: str) -> list[str]:
    """The texts whose page is made of anything but what a page of a harmless text is made of."""
    fine = set()
    for url in plain:
        page.goto(url, wait_until="domcontentloaded")
        fine.add(tuple(bones(page, chosen)))
    odd = []
    for url, text in urls:
        page.goto(url, wait_until="domcontentloaded")
        if tuple(bones(page, chosen)) not in fine:
            odd.append(text[:80])
    return odd


def test_the_sample_is_of_every_family() -> None:
    families = {payload.family for payload in PAYLOADS}
    assert len(PAYLOADS) == COUNT
    assert families == {payload.family for payload in sample(2000)}


def test_the_pages_of_all_states_are_inert(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/health")
    urls = [(f"{hostile.url}/s/{one.id}", p.text) for one, p in zip(HOSTILE, PAYLOADS, strict=True)]
    plain = [f"{hostile.url}/s/{one.id}" for one in PLAIN]
    odd = strange(page, urls, plain, "article#region > :not(.crumbs), head, header.top")
    assert odd == []


def test_the_pages_that_ask_are_inert(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/health")
    pairs = list(zip(HOSTILE, PAYLOADS, strict=True))[::4]
    urls = [(f"{hostile.url}/s/{one.id}/unlock", payload.text) for one, payload in pairs]
    plain = [f"{hostile.url}/s/{one.id}/unlock" for one in PLAIN]
    assert strange(page, urls, plain, "#ask, head, header.top") == []


def test_every_row_of_the_list_is_inert_also_after_it_was_swapped(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/states?view=all&sort=key")
    before = rows_of_all_pages(page)
    assert len(before) == len(STATES)
    page.goto(f"{hostile.url}/states?view=all&sort=key&q=k00")
    shown_rows = bones(page, ".row")
    hostile.change(*(anew(one) for one in STATES[:100]))
    pass_by(page, 10.5)
    expect(page.locator(".row", has_text="6 h").first).to_be_visible()
    swapped = bones(page, ".row")
    hostile.restore()
    assert len(set(before)) == len(set(shown_rows)) == len(set(swapped))
    assert set(swapped) <= set(before)


def rows_of_all_pages(page: Page) -> list[str]:
    found = bones(page, ".row")
    while page.locator(".pager a[rel=next]").count():
        first = page.locator(".row").first.get_attribute("id")
        page.locator(".pager a[rel=next]").click()
        expect(page.locator(".row").first).not_to_have_attribute("id", first or "")
        found += bones(page, ".row")
    return found


def test_a_state_that_is_swapped_while_it_is_looked_at_stays_inert(hostile: Lab, visits: Visits) -> None:
    for one in HOSTILE[::25]:
        page = visits(f"{hostile.url}/s/{one.id}")
        before = bones(page, "article#region > :not(.crumbs)")
        hostile.change(anew(one))
        pass_by(page, 10.5)
        expect(page.locator(".tag time").first).to_have_text("6 h")
        after = bones(page, "article#region > :not(.crumbs):not(section:has(.timeline))")
        assert set(after) <= set(before)
        hostile.restore()


def test_what_is_searched_for_is_inert(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/find")
    visits.complaints.expected = {404, 400}
    for payload in PAYLOADS[::5]:
        asked = quote_plus(payload.text[:500], errors="replace")
        for where in ("/find?q=", "/states?view=all&q="):
            page.goto(f"{hostile.url}{where}{asked}", wait_until="domcontentloaded")
            assert page.evaluate(WOUNDS) == []


def test_the_log_is_inert(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/audit")
    lines = rows_of_all_pages(page)
    ends = {*lines[: len(HARMLESS)], *lines[-len(HARMLESS) :]}
    assert len(lines) == LINES
    assert set(lines) == ends


def test_the_records_of_the_log_are_inert(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/audit")
    first = len(HARMLESS) + 1
    urls = [(f"{hostile.url}/audit/{first + n}", p.text) for n, p in enumerate(PAYLOADS) if n % 4 == 0]
    plain = [f"{hostile.url}/audit/{n + 2}" for n in range(len(HARMLESS) - 1)]
    assert strange(page, urls, plain, "main > :not(.crumbs), head, header.top") == []


def test_what_cannot_be_shown_as_it_is_is_shown_as_an_escape(hostile: Lab, visits: Visits) -> None:
    page = visits(f"{hostile.url}/states?view=all&sort=key&q=k0")
    text = page.locator("table.board").inner_text()
    assert [c for c in set(text) - {"\n", "\t"} if shown(c) != c] == []
