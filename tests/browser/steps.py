"""What tests of this room do again and again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from playwright.sync_api import Locator, Page, expect

from tests.browser.estate import NOW, Seen

PACE = 10.0
"""Seconds between two looks for news, as the preferences have it at first."""
QUIET = 16.0
"""Seconds without a touch after which rows may move under a pointer or a focus."""


def answered(page: Page) -> None:
    """Wait for what htmx has asked for. Each request has 15 s on the page's clock, which a test lets pass
    in no time: an answer that is on its way would be given up.
    """
    expect(page.locator(".htmx-request")).to_have_count(0)


def pass_by(page: Page, seconds: float) -> None:
    """Let the page's clock run; its timers fire, and only answers of the server are waited for."""
    left = int(seconds * 1000)
    while left > 0:
        answered(page)
        page.clock.run_for(min(left, int(PACE * 1000)))
        left -= int(PACE * 1000)


def jump(page: Page, seconds: float) -> None:
    """Set the page's clock forward, as a computer that slept: what was due on the way fires once."""
    answered(page)
    page.clock.fast_forward(int(seconds * 1000))


def until(page: Page, happened: Callable[[], bool], what: str) -> None:
    """Wait for something outside the page."""
    for _ in range(400):
        if happened():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"this never happened: {what}")


def row(page: Page, seen: Seen) -> Locator:
    return page.locator(f"#r-{seen.id}")


def shown_ids(page: Page) -> list[str]:
    """The rows of the list in order."""
    ids: list[str] = page.locator(".row").evaluate_all("(rows) => rows.map((row) => row.id.slice(2))")
    return ids


def open_menu(page: Page, name: str) -> Locator:
    """Open one of the list's menus; gives its choices."""
    menu = page.locator("details.menu").filter(has=page.locator("summary", has_text=name))
    menu.locator("summary").click()
    return menu.locator("ul")


def back(page: Page) -> None:
    """One step back in the history, which htmx answers with a load."""
    with page.expect_event("load"):
        page.evaluate("history.back()")


def forward(page: Page) -> None:
    """One step forward, as `back`."""
    with page.expect_event("load"):
        page.evaluate("history.forward()")


def freeze(page: Page) -> None:
    """Stop the page's clock a minute after it was opened; from now on time passes only where a test says so.

    The look for news that falls due on the way is over when this returns.
    """
    with page.expect_response("**/states/pulse?*"):
        page.clock.pause_at(NOW + timedelta(minutes=1))
    answered(page)  # on a slow machine one more may have fallen due before
