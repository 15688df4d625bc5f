"""axe-core against the page as it stands, and two rules of our own about size."""

from __future__ import annotations

from functools import cache
from typing import Literal

from playwright.sync_api import Page

from tests.needs import ROOT

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

_RUN = """(tags) => axe.run(document, { runOnly: tags, resultTypes: ["violations"] })
  .then((found) => found.violations.flatMap((violation) => violation.nodes.map(
    (node) => `${violation.id}: ${node.html.slice(0, 160)} ${node.failureSummary}`)))"""

_SMALL = """(least) => {
  const CONTROLS = "a[href], button, summary, input:not([type=hidden]), select, textarea";
  const stretched = (e) => {
    const after = getComputedStyle(e, "::after");
    return after.content !== "none" && after.position === "absolute" ? e.closest(".row, .found li") : null;
  };
  const labelled = (e) => e.matches("[type=radio], [type=checkbox]") ? e.closest("label") : null;
  const area = (e) => (labelled(e) ?? stretched(e) ?? e).getBoundingClientRect();
  const inSentence = (e) => e.matches("a") && getComputedStyle(e).display === "inline"
    && e.parentElement.textContent.trim().length > e.textContent.trim().length;
  return [...document.querySelectorAll(CONTROLS)]
    .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !inSentence(e))
    .filter((e) => !e.closest("[aria-hidden=true], .hidden, .skip"))
    .map((e) => [e, area(e)])
    .filter(([, box]) => box.width < least - 0.5 || box.height < least - 0.5)
    .map(([e, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${e.outerHTML.slice(0, 140)}`);
}"""

_SIDEWAYS = """() => {
  const page = document.scrollingElement, most = document.documentElement.clientWidth;
  if (page.scrollWidth <= most) return [];
  const past = (e) => e.getBoundingClientRect().right > most + 1;
  const culprits = [...document.body.querySelectorAll("*")].filter(past).slice(0, 5);
  return [`${page.scrollWidth} px in ${most}`, ...culprits.map((e) => e.outerHTML.slice(0, 120))];
}"""


@cache
def _source() -> str:
    (found,) = (ROOT / "tests" / "vendor").glob("axe-*.min.js")
    return found.read_text("utf-8")


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_source())
    found: list[str] = page.evaluate(_RUN, list(TAGS))
    return found


def small_targets(page: Page, least: int) -> list[str]:
    """Controls narrower or lower than `least` CSS pixels.

    Links inside a sentence are let off, as WCAG 2.5.8 does, and so are marks in a picture whose links also
    stand beside it.
    """
    found: list[str] = page.evaluate(_SMALL, least)
    return found


def sideways(page: Page) -> list[str]:
    """Why the page scrolls sideways, nothing where it does not."""
    found: list[str] = page.evaluate(_SIDEWAYS)
    return found
