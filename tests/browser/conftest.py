"""Fixtures of this room: one Chromium, one dashboard for each estate, one context for each test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests import needs
from tests.browser.estate import BACKENDS, EVERY_STATUS, NOW, report
from tests.browser.reports import Complaints
from tests.browser.server import Lab

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=needs.chromium(), args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def estate_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("estate"), EVERY_STATUS, BACKENDS, [report(name) for name in BACKENDS])
    yield lab
    lab.close()


@pytest.fixture
def lab(estate_lab: Lab) -> Lab:
    """The dashboard over every status, as it was at first."""
    estate_lab.restore()
    estate_lab.gate.asked.clear()
    estate_lab.gate.date = None
    return estate_lab


class Visits:
    """The contexts of one test and what their pages complained about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._open: list[tuple[BrowserContext, Complaints]] = []

    def __call__(self, url: str = "", *, phone: bool = False, **options: Any) -> Page:
        """A page in a context of its own; `options` are those of `Browser.new_context`."""
        scripted = options.get("java_script_enabled") is not False
        settings: dict[str, Any] = {
            "viewport": PHONE if phone else WIDE,
            "has_touch": phone,
            "locale": "en-GB",
            "timezone_id": "Asia/Seoul",
            **options,
        }
        context = self._browser.new_context(**settings)
        context.set_default_timeout(8000)
        self._open.append((context, Complaints(context, scripted=scripted)))
        context.clock.install(time=NOW)
        page = context.new_page()
        if url:
            page.goto(url)
        return page

    @property
    def complaints(self) -> Complaints:
        """Of the page that was opened last."""
        return self._open[-1][1]

    def close(self) -> list[str]:
        found = []
        for context, complaints in self._open:
            context.close()
            found += complaints.all()
        return found


@dataclass(frozen=True)
class Looks:
    """One page for all tests that only look at what an address shows. A context of its own costs a second
    of processor time; here the clock stands at NOW, and nothing may be kept by the browser.
    """

    page: Page
    complaints: Complaints

    def __call__(self, url: str = "") -> Page:
        if url:
            self.page.goto(url)
        return self.page


@pytest.fixture(scope="package")
def looking(browser: Browser) -> Iterator[Looks]:
    visits = Visits(browser)
    page = visits()
    page.clock.set_fixed_time(NOW)
    yield Looks(page, visits.complaints)
    visits.close()


@pytest.fixture
def looks(looking: Looks) -> Iterator[Looks]:
    """Like `visits`, of a page that was used before; a test fails for the same complaints."""
    looking.complaints.forget()
    looking.page.set_viewport_size(WIDE)
    looking.page.emulate_media(color_scheme="light")
    yield looking
    looking.page.goto("about:blank")
    assert looking.page.context.cookies() == []
    assert looking.complaints.all() == []


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Opens pages; a test fails where one of them broke the policy, threw, asked or got an error."""
    found = Visits(browser)
    yield found
    assert found.close() == []
