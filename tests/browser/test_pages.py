"""Every page, light and dark, wide and on a phone: no complaint of axe or the policy, no target too small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lockboard.domain.errors import AccessDenied
from lockboard.domain.inventory import BackendReport
from lockboard.domain.model import Backend, Content, LockStatus
from tests.browser.axe import SCHEMES, sideways, small_targets, violations
from tests.browser.conftest import PHONE, WIDE, Looks, Visits
from tests.browser.estate import BACKENDS, DELETED, EVERY_STATUS, FINE, NOW, Seen, held, report
from tests.browser.server import Lab
from tests.browser.steps import PACE, freeze, jump, open_menu, pass_by

pytestmark = pytest.mark.browser


def faults(page: Page) -> list[str]:
    """What is wrong with a page, in both themes and at both widths."""
    found = []
    for viewport, least in ((WIDE, 24), (PHONE, 44)):
        page.set_viewport_size(viewport)
        where = f"at {viewport['width']} px"
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found += [f"{scheme} {where}: {text}" for text in violations(page)]
        found += [f"{where} the page scrolls sideways: {text}" for text in sideways(page)]
        found += [f"{where} too small: {text}" for text in small_targets(page, least)]
    return found


def test_the_estate_holds_every_status_there_is() -> None:
    rows = [seen.row() for seen in EVERY_STATUS]
    assert {row.content for row in rows} == set(map(str, Content))
    assert {row.lock for row in rows} == set(map(str, LockStatus))


@pytest.mark.parametrize("view", ["attention", "locked", "digest", "unreadable", "all"])
def test_each_view_of_the_list_is_accessible(lab: Lab, looks: Looks, view: str) -> None:
    page = looks(f"{lab.url}/states?view={view}")
    expect(page.locator(".tabs [aria-current=page]")).to_be_visible()
    assert page.locator(".row").count() > 0
    assert faults(page) == []


def test_a_filtered_list_with_an_open_menu_is_accessible(lab: Lab, looks: Looks) -> None:
    page = looks(f"{lab.url}/states?view=all&backend=dev-kr&q=terraform&age=1s&sort=-key")
    expect(page.locator(".chip")).to_have_count(3)
    expect(open_menu(page, "Status")).to_be_visible()
    assert faults(page) == []


ONE_OF_EACH = {(row.content, row.lock): seen for seen in EVERY_STATUS for row in [seen.row()]}


@pytest.mark.parametrize("seen", ONE_OF_EACH.values(), ids=["-".join(both) for both in ONE_OF_EACH])
def test_the_page_of_each_status_is_accessible(lab: Lab, looks: Looks, seen: Seen) -> None:
    page = looks(f"{lab.url}/s/{seen.id}?view=all")
    expect(page.locator("h1")).to_contain_text(seen.key.split("/")[0])
    page.locator("details:not(.menu) summary").evaluate_all("(all) => all.forEach((one) => one.click())")
    assert faults(page) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/find", 200),
        ("/find?q=terraform", 200),
        ("/find?q=s3://another-bucket/nowhere.tfstate", 200),
        ("/go?lock=4f0f9b1e-0000-4000-8000-000000000000", 404),
        ("/go?bucket=acme-dev-kr-tfstate&key=nowhere", 404),
        ("/health", 200),
        ("/settings", 200),
        ("/settings?saved=1", 200),
        ("/help", 200),
        ("/nowhere", 404),
        ("/s/0123456789abcdef", 404),
        ("/states?view=sideways", 400),
        ("/states?q=matches-no-key-at-all", 200),
        ("/states?view=unreadable&q=vpc", 200),
    ],
)
def test_every_other_page_is_accessible(lab: Lab, looks: Looks, path: str, status: int) -> None:
    page = looks()
    looks.complaints.expected = {status} - {200}
    response = page.goto(lab.url + path)
    assert response is not None
    assert response.status == status
    expect(page.locator("h1")).to_be_visible()
    assert faults(page) == []


def test_the_keyboard_dialog_is_accessible(lab: Lab, looks: Looks) -> None:
    page = looks(f"{lab.url}/states?view=all")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    assert faults(page) == []


def test_the_notices_of_a_page_in_trouble_are_accessible(lab: Lab, visits: Visits) -> None:
    lab.report(
        report(
            "dev-kr",
            complete=False,
            error="access denied to the table",
            missing_permission="dynamodb:Scan",
            data_at=NOW - timedelta(hours=3),
        )
    )
    lab.report(report("prod-kr", data_at=NOW - timedelta(minutes=9)))
    page = visits(f"{lab.url}/states?view=all")
    expect(page.locator("#region > .notice")).to_have_count(2)
    expect(page.locator("#region > .notice-blocked")).to_contain_text("Missing permission: dynamodb:Scan")
    expect(page.locator(".late").first).to_contain_text("as of 20 Nov 15:00 UTC")
    assert faults(page) == []
    page.goto(f"{lab.url}/health")
    expect(page.locator("#backend-1")).to_contain_text("Could not be read")
    assert faults(page) == []


def test_a_lost_connection_and_a_waiting_change_are_announced_accessibly(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/states?view=all")
    freeze(page)
    page.locator(".row").first.hover()
    lab.change(replace(FINE, digest="else", history=None))
    pass_by(page, PACE)
    expect(page.locator("#pill")).to_be_visible()
    page.locator("summary", has_text="Status").click()
    jump(page, 400)
    expect(page.locator("#stale")).to_be_visible()
    page.clock.resume()
    assert faults(page) == []


def test_a_re_check_that_is_refused_says_so_accessibly(lab: Lab, visits: Visits) -> None:
    lab.recheck_answer = AccessDenied("s3:GetObject", "AccessDenied", "access denied to the object")
    page = visits(f"{lab.url}/s/{DELETED.id}")
    visits.complaints.expected = {502}
    page.get_by_role("button", name="Re-check now").click()
    expect(page.get_by_role("alert")).to_contain_text("The re-check could not read AWS")
    expect(page.get_by_role("alert")).to_contain_text("s3:GetObject")
    assert faults(page) == []


def test_a_failure_of_lockboard_itself_has_a_readable_page(lab: Lab, visits: Visits) -> None:
    lab.recheck_answer = RuntimeError("made up")
    page = visits(f"{lab.url}/s/{DELETED.id}")
    visits.complaints.expected = {500}
    page.get_by_role("button", name="Re-check now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Something went wrong in Lockboard")
    assert "made up" not in page.content()
    assert faults(page) == []


@contextmanager
def another(
    folder: Path, seen: tuple[Seen, ...], backends: dict[str, Backend], reports: list[BackendReport]
) -> Iterator[Lab]:
    lab = Lab(folder, seen, backends, reports)
    try:
        yield lab
    finally:
        lab.close()


def test_a_lost_store_has_a_readable_page(tmp_path: Path, visits: Visits) -> None:
    with another(tmp_path, (FINE,), BACKENDS, [report("dev-kr")]) as lab:
        lab.lose_the_store()
        page = visits()
        visits.complaints.expected = {503}
        page.goto(f"{lab.url}/states?view=all")
        expect(page.get_by_role("heading", level=1)).to_have_text("The inventory cannot be read")
        assert faults(page) == []


def empty(name: str) -> tuple[tuple[Seen, ...], dict[str, Backend], list[BackendReport]]:
    well = [report(backend) for backend in BACKENDS]
    return {
        "no backend": ((), {}, []),
        "first refresh": ((), BACKENDS, []),
        "no key": ((), BACKENDS, well),
        "all well": ((FINE, replace(FINE, key="Dev/terraform/dns/terraform.tfstate")), BACKENDS, well),
        "one waits": ((FINE,), BACKENDS, [report("dev-kr"), report("prod-kr")]),
    }[name]


@pytest.mark.parametrize(
    ("estate", "view", "title", "says"),
    [
        ("no backend", "attention", "No backend is configured", "Name at least one bucket"),
        ("first refresh", "attention", "The first refresh is running", "dev-kr, prod-kr, tools"),
        ("no key", "all", "There are no state keys", "hold no state keys"),
        ("all well", "attention", "Nothing needs attention", "All 2 keys checked 8 s ago"),
        ("all well", "locked", "No lock is held", "All 2 keys checked"),
        ("all well", "digest", "No digest is in doubt", "All 2 keys checked"),
        ("all well", "unreadable", "Everything could be read", "All 2 keys checked"),
        ("one waits", "attention", "Nothing that is known needs attention", "not every backend"),
    ],
)
def test_an_empty_list_says_what_is_true(
    tmp_path: Path, looks: Looks, estate: str, view: str, title: str, says: str
) -> None:
    with another(tmp_path, *empty(estate)) as lab:
        page = looks(f"{lab.url}/states?view={view}")
        expect(page.locator(".empty h2")).to_have_text(title)
        expect(page.locator(".empty")).to_contain_text(says)
        assert faults(page) == []


def test_what_is_unlocked_by_the_last_look_is_said_to_be_held_no_more(lab: Lab, visits: Visits) -> None:
    """The page of a key whose lock went away says so in place of the tag."""
    page = visits(f"{lab.url}/s/{EVERY_STATUS[-1].id}?view=all")
    expect(page.locator(".tag")).to_have_count(0)
    lab.change(held("prod-kr", EVERY_STATUS[-1].key, "late@runner", timedelta(minutes=1)))
    page.reload()
    expect(page.locator(".tag .who")).to_contain_text("late@runner")
