"""Whatever somebody pastes leads to the state; the addresses for alerts stay the same for ever."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Looks, Visits
from tests.browser.estate import BACKENDS, DELETED, RUNNER, STALE, md5, uuid
from tests.browser.server import Lab

pytestmark = pytest.mark.browser

BUCKET = BACKENDS[DELETED.backend].bucket
LOCK_ERROR = f"""╷
│ Error: Error acquiring the state lock
│
│ Error message: operation error DynamoDB: PutItem, https response error
│ StatusCode: 400, ConditionalCheckFailedException: The conditional request failed
│ Lock Info:
│   ID:        {uuid(STALE.key)}
│   Path:      {BACKENDS[STALE.backend].bucket}/{STALE.key}
│   Operation: OperationTypeApply
│   Who:       ubuntu@ip-172-31-2-133
│   Version:   1.11.4
│   Created:   2026-11-16 15:00:00 +0000 UTC
╵"""
DIGEST_ERROR = f"""Error: error loading state: state data in S3 does not have the expected content.

The checksum calculated for the state stored in S3 does not match the checksum
stored in DynamoDB.

Bucket: {BUCKET}
Key:    {DELETED.key}
Calculated checksum:
Stored checksum:     {md5("old")}
"""
PASTES = {
    "a key": (DELETED.key, DELETED),
    "an S3 address": (f"s3://{BUCKET}/{DELETED.key}", DELETED),
    "a bucket and a key": (f"{BUCKET}/{DELETED.key}", DELETED),
    "a digest's LockID": (f"{BUCKET}/{DELETED.key}-md5", DELETED),
    "a lock's ID": (uuid(STALE.key), STALE),
    "a holder": ("ubuntu@ip-172-31-2-133", STALE),
    "an error about a lock": (LOCK_ERROR, STALE),
    "an error about a digest": (DIGEST_ERROR, DELETED),
}


@pytest.mark.parametrize("what", PASTES)
def test_what_is_pasted_on_the_find_page_leads_to_the_state(lab: Lab, looks: Looks, what: str) -> None:
    text, seen = PASTES[what]
    page = looks(f"{lab.url}/find")
    page.get_by_label("Paste what you have").fill(text)
    page.get_by_role("button", name="Find").click()
    expect(page).to_have_url(f"{lab.url}/s/{seen.id}")


@pytest.mark.parametrize("what", ["an S3 address", "a lock's ID"])
def test_what_is_typed_into_the_search_leads_to_the_state(lab: Lab, looks: Looks, what: str) -> None:
    text, seen = PASTES[what]
    page = looks(f"{lab.url}/states?view=attention")
    page.locator("#q").fill(text)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/s/{seen.id}")


@pytest.mark.parametrize("path", ["/states?view=all", "/help"])
def test_a_whole_error_pasted_into_the_search_of_any_page_leads_to_the_state(
    lab: Lab, visits: Visits, path: str
) -> None:
    page = visits(lab.url + path)
    _paste(page, LOCK_ERROR)
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}")


def test_a_pasted_word_stays_a_search(lab: Lab, looks: Looks) -> None:
    page = looks(f"{lab.url}/states?view=all")
    _paste(page, "ledger")
    expect(page).to_have_url(f"{lab.url}/states?view=all&q=ledger")
    expect(page.locator("#q")).to_have_value("ledger")


def _paste(page: Page, text: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
    page.locator("#q").focus()
    page.keyboard.press("ControlOrMeta+v")


def test_several_states_that_match_are_offered(lab: Lab, looks: Looks) -> None:
    page = looks(f"{lab.url}/find?q=kms")
    expect(page.locator(".found li")).to_have_count(2)
    expect(page.locator("main")).to_contain_text("2 states match")
    page.locator(".found .key").first.click()
    expect(page.locator("h1")).to_contain_text("kms.tfstate")


def test_what_names_another_bucket_is_said_to_lie_outside(lab: Lab, looks: Looks) -> None:
    page = looks(f"{lab.url}/find?q=" + quote("s3://somebody-elses-bucket/a.tfstate"))
    expect(page.locator("main .notice")).to_contain_text(
        "The bucket somebody-elses-bucket is not among the configured backends"
    )
    expect(page.locator(".asked")).to_contain_text("a.tfstate")


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        (f"lock={uuid(STALE.key)}", STALE),
        (f"bucket={BUCKET}&key={quote(DELETED.key, safe='')}", DELETED),
        (f"path={quote(f'{BUCKET}/{DELETED.key}', safe='')}", DELETED),
    ],
)
def test_a_deep_link_leads_to_the_state(lab: Lab, looks: Looks, query: str, seen: object) -> None:
    page = looks(f"{lab.url}/go?{query}")
    assert isinstance(seen, type(STALE))
    expect(page).to_have_url(f"{lab.url}/s/{seen.id}")


def test_a_deep_link_to_what_is_gone_gives_a_page_to_search_from(lab: Lab, looks: Looks) -> None:
    page = looks()
    looks.complaints.expected = {404}
    page.goto(f"{lab.url}/go?lock={uuid('released long ago')}")
    expect(page.locator("main .notice")).to_contain_text("No state was found for this")
    expect(page.locator(".asked")).to_contain_text(uuid("released long ago"))
    page.get_by_label("Paste what you have").fill(RUNNER)
    page.get_by_role("button", name="Find").click()
    expect(page.locator("h1")).to_contain_text("eks")


def test_everything_worth_copying_is_copied_as_it_is(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}?view=locked")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    wanted = {
        "Copy key": STALE.key,
        "Copy link": f"{lab.url}/s/{STALE.id}",
        "Copy the lock ID": uuid(STALE.key),
    }
    for name, text in wanted.items():
        page.get_by_role("button", name=name).first.click()
        expect(page.locator("#said")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == text
        page.locator("#said").evaluate("(element) => { element.textContent = '' }")
    for command in page.locator(".commands dd").all():
        command.get_by_role("button").click()
        expect(page.locator("#said")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()
        page.locator("#said").evaluate("(element) => { element.textContent = '' }")


def test_a_browser_that_forbids_copying_is_believed(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}")
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
    page.get_by_role("button", name="Copy key").click()
    expect(page.locator("#said")).to_have_text("The browser did not allow copying.")
