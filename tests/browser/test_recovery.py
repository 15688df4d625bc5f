"""Acting on a key in a browser: with a thumb, with a keyboard, without script, over a bad line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from lockboard.domain.audit import AuditError
from lockboard.domain.errors import AccessDenied
from lockboard.domain.model import History
from lockboard.services.attempts import Answer, Form, Halted
from tests.browser.axe import violations
from tests.browser.conftest import Looks, Visits
from tests.browser.estate import (
    BACKENDS,
    DAY,
    DELETED,
    EVERY_STATUS,
    HOUR,
    NOW,
    STALE,
    Seen,
    held,
    report,
    uuid,
)
from tests.browser.server import Asked, Gate, Lab
from tests.browser.steps import back, jump, until
from tests.browser.test_hostile import HARMLESS, HOSTILE, estate
from tests.browser.test_modes import PLAIN
from tests.browser.test_pages import faults
from tests.web.audit_fakes import FakeAudit
from tests.web.fake_actions import UNLOCK, FakeActions

pytestmark = pytest.mark.browser

LIVE = next(seen for seen in EVERY_STATUS if seen.key == "Dev/terraform/eks/terraform.tfstate")
BEHIND = next(seen for seen in EVERY_STATUS if seen.key == "mail/behind.tfstate")
CRASHED = next(seen for seen in EVERY_STATUS if seen.key == "Prod/terraform/iam/terraform.tfstate")
SPLIT = next(seen for seen in EVERY_STATUS if seen.key == "edge/split.tfstate")
ORPHAN = next(seen for seen in EVERY_STATUS if seen.key == "Dev/terraform/rds/terraform.tfstate")
COLLIDING = next(seen for seen in EVERY_STATUS if seen.key == "twins/a.tfstate-md5")
RETAKEN = held(LIVE.backend, LIVE.key, "yuna@laptop", timedelta(minutes=1), fingerprint="retaken")
WHY = "the runner was killed"

BONES = """() => {
  const names = (e) => e.getAttributeNames().sort().join(" ");
  const bones = (e) => `${e.tagName}[${names(e)}](${[...e.children].map(bones).join("")})`;
  return [...document.querySelectorAll("#ask, head, header.top")].map(bones);
}"""

Opens = Callable[..., Lab]


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    """A dashboard that acts, over the keys that are given, with an empty log."""
    labs: list[Lab] = []

    def opened(*seen: Seen, acts: bool = True) -> Lab:
        folder = tmp_path / str(len(labs))
        lab = Lab(folder, seen, BACKENDS, [report(name) for name in BACKENDS], FakeAudit, acts=acts)
        labs.append(lab)
        if lab.actions:
            for one in seen:
                lab.actions.look(one.observed())
        return lab

    yield opened
    for lab in labs:
        lab.close()


def acting(lab: Lab) -> FakeActions:
    assert lab.actions
    return lab.actions


def records(lab: Lab) -> list[str]:
    """The reasons of everything that was recorded."""
    audit = acting(lab).audit
    assert isinstance(audit, FakeAudit)
    return [record.entry.reason for record in audit.records]


def is_deed(asked: Asked) -> bool:
    return asked.method == "POST"


def deeds(gate: Gate) -> int:
    return sum(map(is_deed, gate.asked))


def reason(page: Page) -> Locator:
    return page.get_by_label("Reason", exact=True)


def button(page: Page, name: str = "Force-unlock") -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def told(page: Page) -> Locator:
    return page.locator("#told")


def taken_meanwhile(lab: Lab) -> None:
    """From now on a click comes too late: somebody else holds LIVE."""

    def answer(token: str, form: Form) -> Answer:
        acting(lab).look(RETAKEN.observed())
        return acting(lab).moved(LIVE.id, UNLOCK, "The lock is not as the page showed it. Nothing was done.")

    acting(lab).told = answer


# ---------------------------------------------------------------- from the alert to an unlocked state


def test_from_an_alert_to_an_unlocked_state_on_a_phone_in_two_taps_and_a_reason(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/go?lock={uuid(STALE.key)}", phone=True)
    page.get_by_role("link", name="Force-unlock…").first.tap()
    reason(page).fill(WHY)
    button(page).tap()
    expect(told(page)).to_contain_text("Force-unlock: done.")
    expect(page.locator(".axes")).to_contain_text("Unlocked")
    assert page.url == f"{lab.url}/s/{STALE.id}?done=1"
    assert records(lab) == [WHY]


def test_a_reason_that_is_often_given_is_one_tap_and_may_be_edited(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(STALE).url}/s/{STALE.id}/unlock", phone=True)
    choices = page.get_by_role("group", name="Reasons to choose from")
    choices.get_by_role("button", name="laptop lost").tap()
    expect(reason(page)).to_have_value("laptop lost")
    expect(page.get_by_role("status").filter(has_text="Reason: laptop lost")).to_be_attached()
    reason(page).press("End")
    reason(page).press_sequentially(" on a train")
    button(page).tap()
    expect(page.locator(".timeline").last).to_contain_text("laptop lost on a train")


def test_the_first_thing_to_do_on_the_states_page_is_the_recommended_one(
    opens: Opens, visits: Visits
) -> None:
    page = visits(f"{opens(DELETED).url}/s/{DELETED.id}")
    ways = page.locator(".remedies .button")
    expect(ways).to_have_text(["Restore this version…", "Remove the digest…"])
    ways.first.click()
    expect(page.locator(".what")).to_have_text("Restore the version of 2026-11-19 18:00:00 UTC, serial 41.")


def test_the_outcome_has_the_focus_and_leads_to_its_record_and_to_its_undo(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    reason(page).fill(WHY)
    button(page).click()
    expect(told(page)).to_be_focused()
    expect(told(page).get_by_role("link", name="Audit record 1")).to_have_attribute("href", "/audit/1")
    told(page).get_by_role("link", name="Undo…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Undo this change?")
    reason(page).fill("the run was alive")
    button(page, "Undo").click()
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}?done=2")
    assert records(lab) == [WHY, "the run was alive"]


# ---------------------------------------------------------------- the keyboard and what is heard


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).innerText") == name:
            return
    raise AssertionError(f"no Tab leads to {name}")


def test_a_lock_is_released_without_a_pointer(opens: Opens, visits: Visits) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}")
    tab_to(page, "Force-unlock…")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{lab.url}/s/{LIVE.id}/unlock")
    tab_to(page, "Reason")
    page.keyboard.type(WHY)
    tab_to(page, "Type eks to confirm")
    page.keyboard.type("eks")
    tab_to(page, "Cancel")
    tab_to(page, "Force-unlock")
    page.keyboard.press("Enter")
    expect(told(page)).to_contain_text("Force-unlock: done.")
    assert records(lab) == [WHY]


def test_enter_in_a_field_sends_the_form(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(STALE).url}/s/{STALE.id}/unlock")
    reason(page).fill(WHY)
    reason(page).press("Enter")
    expect(told(page)).to_contain_text("done")


def test_a_form_to_mend_takes_the_focus_to_its_problems_and_from_there_to_each_field(
    opens: Opens, visits: Visits
) -> None:
    page = visits(f"{opens(LIVE).url}/s/{LIVE.id}/unlock")
    visits.complaints.expected = {422}
    page.get_by_label("Ticket").fill("OPS-7")
    button(page).click()
    problems = page.get_by_role("alert").filter(has_text="There is a problem. Nothing was done yet.")
    expect(problems).to_be_focused()
    expect(page.get_by_label("Ticket")).to_have_value("OPS-7")
    problems.get_by_role("link", name="Type eks exactly.").click()
    typed = page.get_by_label("Type eks to confirm")
    expect(typed).to_be_focused()
    expect(typed).to_have_attribute("aria-invalid", "true")
    expect(typed).to_have_accessible_description(
        "The name of this state, to show that it is the one you mean. Type eks exactly."
    )
    assert faults(page) == []
    typed.fill("eks")
    reason(page).fill(WHY)
    button(page).click()
    expect(told(page)).to_contain_text("done")


def test_every_field_has_a_name_and_says_what_it_wants(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(BEHIND).url}/s/{BEHIND.id}/restore/v-11")
    expect(page.get_by_role("heading", level=1)).to_have_text("Restore an earlier version of this state?")
    for name, wants in (
        ("Reason", "Required. It goes into the audit log."),
        ("Ticket", "Optional."),
        ("Type behind.tfstate to confirm", "The name of this state, to show that it is the one you mean."),
        ("Type the lower serial 11 to accept it", "What was written after it is in no state any more."),
    ):
        expect(page.get_by_role("textbox" if name != "Reason" else "combobox", name=name)).to_be_visible()
        expect(page.get_by_label(name, exact=True)).to_have_accessible_description(wants)
    expect(button(page, "Restore this version")).to_be_visible()


def test_a_lower_serial_is_restored_only_after_both_were_typed(opens: Opens, visits: Visits) -> None:
    lab = opens(BEHIND)
    page = visits(f"{lab.url}/s/{BEHIND.id}/restore/v-11")
    visits.complaints.expected = {422}
    reason(page).fill(WHY)
    page.get_by_label("Type behind.tfstate to confirm").fill("behind.tfstate")
    button(page, "Restore this version").click()
    expect(page.get_by_role("link", name="Type the lower serial 11.")).to_be_visible()
    assert records(lab) == []
    page.get_by_label("Type the lower serial 11 to accept it").fill("11")
    button(page, "Restore this version").click()
    expect(told(page)).to_contain_text("Restore a version: done.")


# ---------------------------------------------------------------- the lost race


def test_a_lost_race_shows_the_new_holder_and_what_to_decide_on_anew(opens: Opens, visits: Visits) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}/unlock")
    visits.complaints.expected = {409}
    taken_meanwhile(lab)
    expect(page.locator(".tag")).to_contain_text("minji@Minji-ThinkPad")
    reason(page).fill(WHY)
    page.get_by_label("Type eks to confirm").fill("eks")
    button(page).click()
    notice = page.get_by_role("alert").filter(has_text="Not done.")
    expect(notice).to_be_focused()
    expect(notice).to_contain_text("Nothing was done. What follows is how it stands now.")
    expect(page.locator(".tag")).to_contain_text("yuna@laptop")
    expect(page.locator(".tag")).not_to_contain_text("minji@Minji-ThinkPad")
    expect(reason(page)).to_have_value(WHY)
    expect(page.get_by_label("Type eks to confirm")).to_have_value("")
    assert records(lab) == []
    assert faults(page) == []
    acting(lab).told = None
    page.get_by_label("Type eks to confirm").fill("eks")
    button(page).click()
    expect(told(page)).to_contain_text("done")


# ---------------------------------------------------------------- once, over a bad line


def test_a_double_click_sends_once(opens: Opens, visits: Visits) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    reason(page).fill(WHY)
    with lab.gate.holding(is_deed) as on_its_way:
        button(page).dblclick()
        until(page, on_its_way.has_arrived, "the form arrives")
        reason(page).press("Enter")
        expect(button(page)).to_be_disabled()
        expect(page.get_by_role("status").filter(has_text="Sent. Waiting for the answer.")).to_be_attached()
        assert violations(page) == []
    expect(told(page)).to_contain_text("done")
    assert (deeds(lab.gate), records(lab)) == (1, [WHY])


Trouble = Callable[[Gate], AbstractContextManager[None]]
TROUBLES: dict[str, Trouble] = {
    "a proxy answers 502": lambda gate: gate.answering(502, is_deed),
    "a proxy answers 503": lambda gate: gate.answering(503, is_deed),
    "a proxy answers 404": lambda gate: gate.answering(404, is_deed),
    "the connection is cut": lambda gate: gate.cutting(is_deed),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_no_answer_of_ours_is_told_as_not_known_and_what_was_typed_stays(
    opens: Opens, visits: Visits, trouble: Trouble
) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}/unlock")
    visits.complaints.expected = {502, 503, 404}
    visits.complaints.lost_connections_are_expected = True
    reason(page).fill(WHY)
    page.get_by_label("Type eks to confirm").fill("eks")
    with trouble(lab.gate):
        button(page).click()
        lost = page.get_by_role("alert").filter(has_text="No answer came: it may or may not have happened.")
        expect(lost).to_be_focused()
    expect(lost).to_contain_text("before you try again")
    expect(lost.get_by_role("link", name="the state")).to_have_attribute("href", f"/s/{LIVE.id}")
    expect(lost.get_by_role("link", name="its audit log")).to_have_attribute(
        "href", f"/audit?state_id={LIVE.id}"
    )
    expect(page.locator("main")).not_to_contain_text("nginx")
    expect(reason(page)).to_have_value(WHY)
    expect(page.get_by_label("Type eks to confirm")).to_have_value("eks")
    expect(button(page)).to_be_enabled()
    assert faults(page) == []
    button(page).click()
    expect(told(page)).to_contain_text("done")


def test_an_answer_after_a_minute_is_not_waited_for(opens: Opens, visits: Visits) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    visits.complaints.lost_connections_are_expected = True
    reason(page).fill(WHY)
    page.clock.pause_at(NOW + timedelta(minutes=1))
    with lab.gate.holding(is_deed) as on_its_way:
        button(page).click()
        until(page, on_its_way.has_arrived, "the form arrives")
        page.clock.fast_forward(59_000)
        expect(page.locator("#lost")).to_be_hidden()
        page.clock.fast_forward(2_000)
        expect(page.locator("#lost")).to_be_focused()
    expect(reason(page)).to_have_value(WHY)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (AuditError("the database is read-only"), 503, "Nothing was changed in AWS by this attempt."),
        (
            Halted("The lock was removed. But the outcome could not be recorded."),
            503,
            "The lock was removed.",
        ),
        (
            AccessDenied("dynamodb:GetItem", "AccessDeniedException", ""),
            502,
            "Missing permission: dynamodb:GetItem",
        ),
    ],
    ids=["no record", "halted", "no reading"],
)
def test_a_failure_of_ours_is_told_above_the_form_which_stays(
    opens: Opens, visits: Visits, error: Exception, code: int, said: str
) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    visits.complaints.expected = {code}
    reason(page).fill(WHY)
    acting(lab).error = error
    button(page).click()
    notice = page.locator("#oops")
    expect(notice).to_contain_text(said)
    expect(notice).to_be_focused()
    expect(page.locator("#lost")).to_be_hidden()
    expect(reason(page)).to_have_value(WHY)
    expect(button(page)).to_be_enabled()
    assert faults(page) == []
    acting(lab).error = None
    button(page).click()
    expect(told(page)).to_contain_text("done")


def test_a_form_of_another_sign_in_is_told_to_be_refused_and_not_to_be_lost(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    visits.complaints.expected = {403}
    reason(page).fill(WHY)
    page.locator("#deed [name=csrf]").evaluate("(field) => { field.value = 'of another sign-in' }")
    button(page).click()
    notice = page.locator("#oops")
    expect(notice).to_contain_text("This form is of another sign-in")
    expect(page.locator("#lost")).to_be_hidden()
    expect(reason(page)).to_have_value(WHY)
    expect(button(page)).to_be_enabled()
    assert records(lab) == []


def test_what_an_earlier_attempt_said_is_gone_once_the_form_is_sent_again(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}/unlock")
    visits.complaints.expected = {422, 502, 503}
    button(page).click()
    oops, lost = page.locator("#oops"), page.locator("#lost")
    expect(oops).to_contain_text("Nothing was done yet.")
    with lab.gate.answering(502, is_deed):
        button(page).click()
        expect(lost).to_be_focused()
        expect(oops).to_be_hidden()
    acting(lab).error = AuditError("the database is read-only")
    button(page).click()
    expect(oops).to_contain_text("Nothing was changed in AWS by this attempt.")
    expect(lost).to_be_hidden()


def test_the_way_back_from_an_outcome_shows_the_key_as_it_is_now(opens: Opens, visits: Visits) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}")
    page.get_by_role("link", name="Force-unlock…").first.click()
    reason(page).fill(WHY)
    button(page).click()
    expect(told(page)).to_be_visible()
    back(page)
    expect(page).to_have_url(f"{lab.url}/s/{STALE.id}/unlock")
    expect(page.locator("main")).to_contain_text("Nothing is left to do")
    expect(page.locator("#deed")).to_have_count(0)
    assert deeds(lab.gate) == 1


def test_news_never_moves_a_form_that_somebody_fills_in(opens: Opens, visits: Visits) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}/unlock")
    reason(page).fill(WHY)
    lab.change(RETAKEN)
    jump(page, 120)
    expect(reason(page)).to_have_value(WHY)
    assert lab.gate.live() == 0


# ---------------------------------------------------------------- without script


def test_without_script_a_lock_is_released_after_mending_the_form(opens: Opens, visits: Visits) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}", **PLAIN)
    visits.complaints.expected = {422}
    page.get_by_role("link", name="Force-unlock…").first.click()
    expect(page.get_by_role("group", name="Reasons to choose from")).to_be_hidden()
    reason(page).fill(WHY)
    button(page).click()
    expect(page.get_by_role("alert").filter(has_text="There is a problem")).to_be_visible()
    expect(reason(page)).to_have_value(WHY)
    page.get_by_label("Type eks to confirm").fill("eks")
    button(page).click()
    expect(page).to_have_url(f"{lab.url}/s/{LIVE.id}?done=1")
    expect(told(page)).to_contain_text("Force-unlock: done.")


def test_without_script_a_lost_race_and_a_failure_are_pages_of_their_own(
    opens: Opens, visits: Visits
) -> None:
    lab = opens(LIVE)
    page = visits(f"{lab.url}/s/{LIVE.id}/unlock", **PLAIN)
    visits.complaints.expected = {409, 503}
    taken_meanwhile(lab)
    reason(page).fill(WHY)
    page.get_by_label("Type eks to confirm").fill("eks")
    button(page).click()
    expect(page.locator(".tag")).to_contain_text("yuna@laptop")
    expect(page.locator("#lost")).to_be_hidden()
    expect(reason(page)).to_have_value(WHY)
    acting(lab).error = AuditError("the database is read-only")
    button(page).click()
    expect(page.locator("main")).to_contain_text("Nothing was changed in AWS by this attempt.")
    page.get_by_role("link", name="To the state").click()
    expect(page).to_have_url(f"{lab.url}/s/{LIVE.id}")


# ---------------------------------------------------------------- every page, both themes, wide and small


CONFIRMED = {
    "a safe unlock": (STALE, "unlock"),
    "one of two locks": (SPLIT, "unlock?store=tflock"),
    "a digest": (BEHIND, "digest"),
    "a removal": (ORPHAN, "digest/clear"),
    "a lower serial": (BEHIND, "restore/v-11"),
    "a takeover": (CRASHED, "takeover"),
    "what is refused": (COLLIDING, "unlock"),
    "what is done already": (DELETED, "unlock"),
}


@pytest.mark.parametrize(("seen", "way"), CONFIRMED.values(), ids=CONFIRMED)
def test_each_page_that_asks_is_accessible(opens: Opens, looks: Looks, seen: Seen, way: str) -> None:
    page = looks(f"{opens(seen).url}/s/{seen.id}/{way}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.locator("details summary").evaluate_all("(all) => all.forEach((one) => one.click())")
    assert faults(page) == []


def test_the_outcome_and_its_undo_are_accessible(opens: Opens, visits: Visits) -> None:
    lab = opens(STALE)
    page = visits(f"{lab.url}/s/{STALE.id}/unlock")
    reason(page).fill(WHY)
    button(page).click()
    expect(told(page)).to_be_visible()
    assert faults(page) == []
    page.goto(f"{lab.url}/s/{STALE.id}/undo/1")
    expect(page.locator(".what")).to_have_text("Put the lock back.")
    assert faults(page) == []


def test_where_actions_are_off_the_page_says_so_accessibly(opens: Opens, visits: Visits) -> None:
    page = visits(f"{opens(STALE, acts=False).url}/s/{STALE.id}/unlock")
    expect(page.get_by_role("heading", level=1)).to_have_text("Actions are switched off")
    expect(page.locator("main form")).to_have_count(0)
    assert faults(page) == []


# ---------------------------------------------------------------- text from elsewhere


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_key_and_lock_leave_the_page_with_the_bones_of_a_harmless_one(
    opens: Opens, looks: Looks, number: int
) -> None:
    hostile, harmless = estate((HOSTILE[number],))[0], estate((HARMLESS[number],))[0]
    lab = opens(hostile, harmless)
    page = looks(f"{lab.url}/s/{harmless.id}/unlock")
    expected = page.evaluate(BONES)
    page.goto(f"{lab.url}/s/{hostile.id}/unlock")
    assert page.evaluate(BONES) == expected
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    reason(page).fill(HOSTILE[number][:400])
    button(page).click()
    expect(told(page)).to_contain_text("Force-unlock: done.")
    assert deeds(lab.gate) == 1


def test_a_version_with_an_odd_id_is_reached_from_the_list_of_versions(opens: Opens, visits: Visits) -> None:
    odd = "a b/c?d#e%2F&f+g"
    assert isinstance(DELETED.history, History)
    marker, newest, *older = DELETED.history.versions
    versions = (marker, replace(newest, version_id=odd), *older)
    lab = opens(replace(DELETED, history=History(versions)))
    page = visits(f"{lab.url}/s/{DELETED.id}")
    page.locator("tr.named").get_by_role("link", name="Restore…").click()
    expect(page.locator("dl.facts dd").filter(has_text=odd)).to_be_visible()
    reason(page).fill(WHY)
    page.get_by_label("Type rds to confirm").fill("rds")
    button(page, "Restore this version").click()
    expect(told(page)).to_contain_text("Restore a version: done.")
    (plan,) = acting(lab).plans.values()
    assert plan.restores is not None
    assert plan.restores.version_id == odd


def test_the_same_holders_other_locks_are_one_click_from_the_evidence(opens: Opens, visits: Visits) -> None:
    dead = "root@runner-t3qyxf-0"
    first = held("dev-kr", "a/one.tfstate", dead, DAY)
    lab = opens(first, held("dev-kr", "a/two.tfstate", dead, 9 * HOUR))
    page = visits(f"{lab.url}/s/{first.id}/unlock")
    page.get_by_role("link", name="1 other key").click()
    expect(page.locator(".row")).to_have_count(2)
