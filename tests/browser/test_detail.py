"""The page of one key: what is known, what Terraform says, the ways out, and where to read more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from lockboard.domain.model import Content, Effect, LockStatus
from tests.browser.conftest import Visits
from tests.browser.estate import DELETED, FINE, NOW, STALE, held, md5, past, uuid
from tests.browser.server import Lab

pytestmark = pytest.mark.browser


def test_a_lock_comes_with_evidence_whether_its_holder_is_alive(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}")
    evidence = page.locator("section", has=page.get_by_role("heading", name="Is it alive? What is known"))
    expect(evidence).to_contain_text("The stale limit for this key is 1 h")
    expect(evidence).to_contain_text("The same holder holds no other key")
    tag = page.locator(".tag")
    expect(tag).to_contain_text("ubuntu@ip-172-31-2-133")
    expect(tag).to_contain_text("claimed, not verified")
    expect(tag).to_contain_text("4 d 3 h")
    expect(tag).to_contain_text("by the holder's own clock")
    expect(tag).to_contain_text(uuid(STALE.key))


def test_a_deleted_state_names_the_version_to_restore_and_the_danger_of_terraforms_advice(
    lab: Lab, visits: Visits
) -> None:
    page = visits(f"{lab.url}/s/{DELETED.id}")
    recommended = page.locator(".recommended")
    expect(recommended).to_contain_text("Restore a version")
    expect(recommended.locator("code")).to_have_text("v-41")
    expect(page.locator(".other")).to_contain_text("not recommended")
    expect(page.locator(".danger").first).to_contain_text("create every resource a second time")
    expect(page.locator(".prints")).to_contain_text("state data in S3 does not have the expected content")
    expect(page.locator(".prints")).to_contain_text(md5("old"))
    expect(page.locator("main")).to_contain_text("This Lockboard only reads and changes nothing in AWS")


def test_the_versions_mark_the_one_that_the_digest_names(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{DELETED.id}")
    named = page.locator("tr.named")
    expect(named).to_have_count(1)
    expect(named).to_contain_text("v-41")
    expect(named).to_contain_text("the digest names this")
    expect(page.get_by_text("delete marker", exact=True)).to_be_visible()


def test_the_timeline_tells_each_change_newest_first(lab: Lab, visits: Visits) -> None:
    key = replace(FINE, key="fresh/terraform.tfstate")
    lab.change(key)
    lab.change(held(key.backend, key.key, "yuna@laptop", timedelta(minutes=1), fingerprint="taken"))
    lab.change(
        replace(key, state=None, digest="old", history=past(("old", 3), deleted=True), fingerprint="gone")
    )
    page = visits(f"{lab.url}/s/{key.id}")
    steps = page.locator(".timeline li")
    expect(steps).to_have_count(3)
    expect(steps.nth(0)).to_contain_text("State deleted")
    expect(steps.nth(1)).to_contain_text("yuna@laptop")
    expect(steps.nth(2)).to_contain_text("Digest matches")


def test_a_backend_that_could_not_be_read_dates_its_keys(lab: Lab, visits: Visits) -> None:
    lab.report(
        replace(
            lab.reports[FINE.backend], complete=False, error="slow down", data_at=NOW - timedelta(hours=2)
        )
    )
    page = visits(f"{lab.url}/s/{FINE.id}")
    expect(page.locator("#region > .notice")).to_contain_text("dev-kr could not be read lately")
    expect(page.locator("#region > .notice")).to_contain_text("2026-11-20 16:00:00 UTC")


def test_each_word_leads_to_its_page_of_the_runbook(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/s/{STALE.id}")
    page.get_by_role("link", name="Suspected stale").click()
    expect(page).to_have_url(f"{lab.url}/help#lock_stale")
    expect(page.locator(":target")).to_contain_text("Suspected stale")
    expect(page.locator(":target")).to_be_in_viewport()


def test_the_help_has_an_entry_for_every_status(lab: Lab, visits: Visits) -> None:
    page = visits(f"{lab.url}/help")
    found = set(page.locator(".statuses div[id]").evaluate_all("(all) => all.map((one) => one.id)"))
    locks = {"lock_unknown" if status == "unknown" else str(status) for status in LockStatus}
    assert set(map(str, Content)) | locks | {f"terraform-{effect}" for effect in Effect} <= found
