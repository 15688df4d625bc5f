"""`make load` in its short form: fewer keys and browsers, the same assertions."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from load.browsers import Browser, Tally
from load.lines import Answer, Line
from load.visitors import form_of
from tests.needs import ROOT

ROWS = """
a page of the list, p95: alone, median
a filtered list, p95: alone, median
the page of a key, p95: alone, median
a search, p95: alone, median
the health page, p95: alone, median
the rows anew, after news, p95: alone, median
a look for news, p95: alone, median
20 browsers: unanswered or wrong
refreshes: requests to AWS off refreshes x pages
refreshes meanwhile
1 of 1: locks not released while a refresh ran
releasing a lock, confirmed to answered, slowest
60 browsers: but for 503 with Retry-After
60 without a pause: but for 503 with Retry-After
health probe meanwhile, slowest
peak memory of the web process
""".strip().splitlines()


def test_twenty_browsers_and_somebody_who_acts_are_served_in_time_and_cost_aws_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "load", "--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [next((line for line in run.stdout.splitlines() if row in line), row) for row in ROWS]

    assert [line for line in lines if not line.endswith("  ok")] == [], run.stdout + run.stderr
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("status", "headers", "busy", "failed"),
    [
        (503, {"retry-after": "5"}, 1, 0),
        (503, {}, 0, 1),
        (500, {"retry-after": "5"}, 0, 1),
        (303, {}, 0, 1),
        (200, {}, 0, 0),
    ],
)
def test_only_a_503_that_says_when_to_come_again_is_no_failure(
    status: int, headers: dict[str, str], busy: int, failed: int
) -> None:
    tally = Tally()
    tally.count("list", Answer(status, headers, b"", 0.1))

    told = tally.told()
    assert (told["busy"], told["failed"]) == (busy, failed)
    assert told["answered"] == (status == 200)


def test_a_browser_reads_from_a_page_where_its_news_are() -> None:
    browser = Browser(Line(1), {}, Tally(), random.Random(1))
    rows = 'hx-get="/states?view=all&amp;n=1" data-rev="7"'
    browser.read(f'<section id="region" {rows} data-pulse="/states/pulse?view=all">'.encode())

    assert (browser.again, browser.pulse, browser.rev) == (
        "/states?view=all&n=1",
        "/states/pulse?view=all",
        "7",
    )


def test_a_form_is_read_with_its_hidden_fields_and_buttons() -> None:
    page = (
        '<form id="other"></form><form id="deed" action="/s/1/unlock">'
        '<input type="hidden" name="token" value="a&amp;b">'
        '<input name="reason"><button name="as" value="kim">Kim,\n an operator</button></form>'
    )
    form = form_of(page, "deed")

    assert (form.action, form.fields) == ("/s/1/unlock", {"token": "a&b"})
    assert form.buttons == [("as", "kim", "Kim, an operator")]
