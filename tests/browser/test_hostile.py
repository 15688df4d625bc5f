"""Whoever can write to the bucket or the table writes keys, holders and records: shown, not obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Looks, Visits
from tests.browser.estate import BACKENDS, Seen, past, record, report
from tests.browser.server import Lab
from tests.browser.steps import pass_by, shown_ids

pytestmark = pytest.mark.browser

HOSTILE = (
    "a/<img src=x onerror=alert(1)>/b.tfstate",
    "a/</title><script>alert(2)</script>/b.tfstate",
    'a/" hx-get="/states/pulse" hx-trigger="load" autofocus onfocus="alert(3)/b.tfstate',
    "a/javascript:alert(4)/b.tfstate",
    "a/'><svg onload=alert(5)><a href='javascript:alert(6)'>/b.tfstate",
    "a/{{ 7*7 }}{% include 'base.html' %}/b.tfstate",
    "a/--><style>*{display:none}</style><base href=//evil>/b.tfstate",
    "a/" + "very-long-folder-without-any-place-to-break" * 12 + "/b.tfstate",
    "a/#?%00&lt;&amp;=+;/b.tfstate",
)
HARMLESS = tuple(f"a/harmless-{n}/b.tfstate" for n in range(len(HOSTILE)))
ESCAPED = (
    "a/invoice\u202egpj.exe/b.tfstate",
    "a/lone\ud800surrogate/b.tfstate",
    "a/line\nfeed\x1b[31m/b.tfstate",
)
HARMLESS_ESCAPED = tuple(f"a/zero\u200bwidth-{n}/b.tfstate" for n in range(len(ESCAPED)))

SKELETON = """() => {
  const names = (e) => e.getAttributeNames().sort().join(" ");
  const bones = (e) => `${e.tagName}[${names(e)}](${[...e.children].map(bones).join("")})`;
  return [...document.querySelectorAll(".row, article#region, .found li, head, header.top")].map(bones);
}"""


def estate(keys: tuple[str, ...]) -> list[Seen]:
    """One story for each key: a deleted state whose lock's holder, ID and operation repeat the key."""
    return [
        Seen(
            "dev-kr",
            key,
            state=None,
            digest="old",
            item=record(key, f"{key}@host", timedelta(hours=5), name=key, operation=key),
            history=past(("old", 7), deleted=True),
        )
        for key in keys
    ]


@pytest.fixture(scope="module")
def hostile_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Hostile and harmless keys side by side; each of them has one before it and one behind it."""
    folder = tmp_path_factory.mktemp("hostile")
    keys = ("A/first.tfstate", *HOSTILE, *HARMLESS, *ESCAPED, *HARMLESS_ESCAPED, "z/last.tfstate")
    lab = Lab(folder, estate(keys), BACKENDS, [report(name) for name in BACKENDS])
    yield lab
    lab.close()


def pair(keys: tuple[str, ...], harmless: tuple[str, ...]) -> list[tuple[Seen, Seen]]:
    return list(zip(estate(keys), estate(harmless), strict=True))


PAIRS = [*pair(HOSTILE, HARMLESS), *pair(ESCAPED, HARMLESS_ESCAPED)]


def skeleton(page: Page) -> list[str]:
    bones: list[str] = page.evaluate(SKELETON)
    return bones


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_every_row_of_the_list_has_the_same_bones_whatever_its_key(
    hostile_lab: Lab, visits: Visits, phone: bool
) -> None:
    page = visits(f"{hostile_lab.url}/states?view=all", phone=phone)
    assert len(shown_ids(page)) == 2 * len(PAIRS) + 2
    rows = [bones for bones in skeleton(page) if bones.startswith("TR")]
    assert len(set(rows)) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert hostile_lab.gate.pulses() == 0


@pytest.mark.parametrize(("hostile", "harmless"), PAIRS, ids=[f"{seen.key[2:14]!r}" for seen, _ in PAIRS])
def test_the_page_of_a_hostile_key_has_the_bones_of_a_harmless_one(
    hostile_lab: Lab, looks: Looks, hostile: Seen, harmless: Seen
) -> None:
    page = looks(f"{hostile_lab.url}/s/{harmless.id}")
    expected = skeleton(page)
    page.goto(f"{hostile_lab.url}/s/{hostile.id}")
    page.get_by_text("Raw record").click()
    found = skeleton(page)
    page.get_by_text("Raw record").click()
    assert [bones.replace("DETAILS[open]", "DETAILS[]") for bones in found] == expected
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate(
        "document.activeElement === document.body || document.activeElement.tagName === 'SUMMARY'"
    )


def test_hostile_text_is_shown_as_it_was_written(hostile_lab: Lab, looks: Looks) -> None:
    page = looks(f"{hostile_lab.url}/states?view=all")
    shown = page.locator(".row .key").all_inner_texts()
    for key in HOSTILE:
        assert key in shown
    assert "a/invoice\\u202egpj.exe/b.tfstate" in shown
    assert "a/lone\\ud800surrogate/b.tfstate" in shown
    assert "a/line\\nfeed\\x1b[31m/b.tfstate" in shown or "a/line\\x0afeed\\x1b[31m/b.tfstate" in shown


@pytest.mark.parametrize(
    "where", ["/states?view=all&q=", "/find?q=", "/go?lock=", "/states?view=all&holder="]
)
def test_hostile_words_in_an_address_are_shown_and_not_obeyed(
    hostile_lab: Lab, looks: Looks, where: str
) -> None:
    page = looks()
    looks.complaints.expected = {404}
    page.goto(f"{hostile_lab.url}{where}%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(9)%3E%3Cb%3Enowhere")
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("main img, main b:text-is('nowhere'), header img")).to_have_count(0)


def test_a_search_for_hostile_words_finds_their_row(hostile_lab: Lab, looks: Looks) -> None:
    page = looks(f"{hostile_lab.url}/states?view=all")
    page.locator("#q").fill("<img src=x onerror=alert(1)>")
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".row .key")).to_have_text(HOSTILE[0])
    expect(page.locator(".chip")).to_contain_text("<img src=x onerror=alert(1)>")
    page.locator(".row .c-held a").click()
    expect(page.locator(".row .key")).to_have_text(HOSTILE[0])


def test_a_refresh_of_hostile_rows_stays_inert(hostile_lab: Lab, visits: Visits) -> None:
    """What htmx swaps in is held to the same policy as what the browser loads."""
    page = visits(f"{hostile_lab.url}/states?view=all")
    before = skeleton(page)
    hostile_lab.change(
        Seen(
            "dev-kr", HOSTILE[0], item=record(HOSTILE[0], HOSTILE[2], timedelta(hours=6)), fingerprint="anew"
        )
    )
    pass_by(page, 10.5)
    expect(page.locator(".row", has_text="6 h")).to_have_count(1)
    hostile_lab.restore()
    pass_by(page, 10.5)
    expect(page.locator(".row", has_text="6 h")).to_have_count(0)
    assert skeleton(page) == before
    own = ("/states", "/s/", "/static/", "/favicon", "/find", "/go")
    assert [asked.url for asked in hostile_lab.gate.asked if not asked.path.startswith(own)] == []
