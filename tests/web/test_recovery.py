"""The pages that act: what each shows, what it sends, and what every answer to it says."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.audit import AuditError, Person, Result
from lockboard.domain.errors import AccessDenied, LockboardError, Throttled
from lockboard.domain.keys import state_id
from lockboard.domain.locks import lock_from_item
from lockboard.domain.model import Action, History, Observation
from lockboard.domain.plans import Plan, Wanted
from lockboard.services.attempts import Answer, Form, Halted, UnknownState
from lockboard.services.tickets import BadToken
from lockboard.web.app import Services, build_app
from lockboard.web.ways import way_to
from tests.web.audit_fakes import KIM, FakeAudit
from tests.web.entrances import always, with_own_forms
from tests.web.fake_actions import UNLOCK, FakeActions
from tests.web.fakes import (
    BACKENDS,
    HOSTILE,
    HOSTILE_KEY,
    NOW,
    OLD,
    SETTINGS,
    STORIES,
    UUID,
    FakeBoard,
    Recheck,
    Story,
    Ticking,
    estate,
    report,
)

OWN = {"Sec-Fetch-Site": "same-origin"}
HTMX = {**OWN, "HX-Request": "true", "HX-Request-Type": "partial"}
WHY = "runner was killed"

STALE = state_id("dev-kr", "batch/remote")
LIVE = state_id("dev-kr", "Dev/terraform/eks/terraform.tfstate")
CRASHED = state_id("prod-kr", "Prod/terraform/iam/terraform.tfstate")
DELETED = state_id("prod-kr", "Prod/terraform/rds/terraform.tfstate")
EDITED = state_id("prod-kr", "cdn/edge.tfstate")
ORPHAN = state_id("dev-kr", "Dev/terraform/rds/terraform.tfstate")
FINE = state_id("prod-kr", "app.tfstate")
HAUNTED = state_id("dev-kr", HOSTILE_KEY)
BEHIND_STORY = Story("prod-kr", "mail/behind.tfstate", digest=OLD, older=((OLD, 11),))
BEHIND = state_id("prod-kr", "mail/behind.tfstate")

PAGES = {
    "unlock": (f"/s/{STALE}/unlock", "Force-unlock this state?", "Force-unlock"),
    "digest": (f"/s/{BEHIND}/digest", "Set the digest of this state?", "Set the digest"),
    "clear": (f"/s/{ORPHAN}/digest/clear", "Remove the digest of this state?", "Remove the digest"),
    "restore": (
        f"/s/{DELETED}/restore/v-0",
        "Restore an earlier version of this state?",
        "Restore this version",
    ),
    "takeover": (
        f"/s/{CRASHED}/takeover",
        "Take this lock over and repair the state?",
        "Take over and repair",
    ),
}
EVERY_PAGE = pytest.mark.parametrize(("path", "question", "deed"), PAGES.values(), ids=PAGES)


@dataclass
class Site:
    """The application over made-up observations, with the handles a test turns."""

    board: FakeBoard
    log: FakeAudit
    actions: FakeActions
    client: FlaskClient

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, headers=headers)

    def post(self, path: str, headers: Mapping[str, str] = OWN, /, **fields: str) -> TestResponse:
        return self.client.post(path, data=fields, headers=dict(headers))

    def confirm(self, path: str, headers: Mapping[str, str] = OWN, /, **fields: str) -> TestResponse:
        """Open the page and send its form."""
        token = token_of(self.get(path).text)
        self.actions.prepared.clear()
        return self.post(path, headers, token=token, **fields)

    def the_plan(self) -> Plan:
        """The one that the last page showed."""
        return list(self.actions.plans.values())[-1]

    def observe(self, id_: str, **changes: object) -> None:
        """The key changes behind the page."""
        self.actions.seen[id_] = replace(self.actions.seen[id_], **changes)  # type: ignore[arg-type]


def acting(*, switched_on: bool = True) -> Site:
    clock = Ticking()
    board = FakeBoard([*estate(), BEHIND_STORY.row()], [report(name) for name in BACKENDS])
    log = FakeAudit(clock)
    actions = FakeActions(board, BACKENDS, log, clock)
    for story in (*STORIES, BEHIND_STORY):
        actions.look(story.seen())
    services = Services(
        board,
        BACKENDS,
        Recheck(board),
        SETTINGS,
        clock,
        timedelta(seconds=15),
        "0.1.0",
        always(KIM.name, KIM.method, clock=clock),
        limited=False,
        audit=log,
        actions=actions.as_actions() if switched_on else None,
    )
    app = with_own_forms(build_app(services, monotonic=clock.monotonic))
    return Site(board, log, actions, app.test_client())


def token_of(text: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found
    return html.unescape(found[1])


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def field_of(text: str, name: str) -> str:
    """The tag of a visible field."""
    found = re.search(rf'<input id="{name}"[^>]*>', text)
    assert found
    return found[0]


def value_of(text: str, name: str) -> str:
    found = re.search(r' value="([^"]*)"', field_of(text, name))
    assert found
    return html.unescape(found[1])


def held_by(who: str, key: str = "Dev/terraform/eks/terraform.tfstate") -> Observation:
    return Story("dev-kr", key, who=who, held=timedelta(minutes=1)).seen()


# ---------------------------------------------------------------- what a page shows


@EVERY_PAGE
def test_a_page_asks_one_question_and_its_button_says_the_deed(path: str, question: str, deed: str) -> None:
    text = acting().get(path).text

    assert f"<title>{question} · Lockboard</title>" in text
    assert f"<b>{question}</b></h1>" in text
    assert re.findall(r'<button type="submit"[^>]*>([^<]+)</button>', text.split('id="deed"')[1]) == [deed]


@EVERY_PAGE
def test_opening_a_page_changes_and_records_nothing(path: str, question: str, deed: str) -> None:
    site = acting()

    assert site.get(path).status_code == 200
    assert site.client.head(path, headers=OWN).status_code == 200
    assert (site.actions.sent, site.log.records) == ([], [])


@EVERY_PAGE
def test_a_page_announces_every_call_in_order_with_its_condition(path: str, question: str, deed: str) -> None:
    site = acting()
    text = words(site.get(path).text)
    said = [f"{call.operation} {call.target} only if {call.condition}" for call in site.the_plan().calls]

    assert said
    assert " ".join(said) in text
    for consequence in site.the_plan().consequences:
        assert consequence in text


def test_the_calls_of_an_unlock_are_one_deletion_of_exactly_what_is_shown() -> None:
    text = words(acting().get(f"/s/{STALE}/unlock").text)

    call = "dynamodb:DeleteItem item acme-dev-kr-tfstate/batch/remote of table terraform-lock"
    assert f"{call} only if its Info is exactly what this page shows" in text


def test_an_unlock_gives_terraforms_own_command_and_what_that_does_not_check() -> None:
    text = acting().get(f"/s/{STALE}/unlock").text

    assert f'data-copy="terraform force-unlock {UUID}"' in text
    assert "compares the ID and then deletes whatever is there" in words(text)


def test_a_page_shows_the_evidence_and_the_lock_with_what_becomes_of_it() -> None:
    text = words(acting().get(f"/s/{STALE}/unlock").text)

    assert "The stale limit for this key is 1 h" in text
    assert "DynamoDB item will be removed ubuntu@ip-172-31-2-133 claimed, not verified" in text
    assert UUID in text


def test_of_two_locks_the_one_to_be_removed_stands_first_and_the_other_stays() -> None:
    site = acting()
    split = Story("dev-kr", "edge/split.tfstate", who="ci@old", tflock=True).seen()
    site.actions.look(replace(split, table_lock=held_by("ci@new").table_lock))
    id_ = state_id("dev-kr", "edge/split.tfstate")
    site.board.put(Story("dev-kr", "edge/split.tfstate").row())
    file_first = words(site.get(f"/s/{id_}/unlock?store=tflock").text)
    item_first = words(site.get(f"/s/{id_}/unlock?store=dynamodb").text)

    assert file_first.index(".tflock object will be removed") < file_first.index("DynamoDB item stays")
    assert item_first.index("DynamoDB item will be removed") < item_first.index(".tflock object stays")


def test_a_takeover_says_which_locks_change_hands_and_what_the_digest_becomes() -> None:
    text = words(acting().get(f"/s/{CRASHED}/takeover").text)

    assert "DynamoDB item will be taken over" in text
    assert f"Digest Now {OLD} Then 1a2b3c4d5e6f708192a3b4c5d6e7f809" in text


def test_a_takeover_of_a_version_restores_it_under_the_lock() -> None:
    site = acting()
    site.get(f"/s/{CRASHED}/takeover?version=v-0")

    assert site.actions.prepared[-1][2] == Wanted(Action.TAKE_OVER, version_id="v-0")
    assert site.the_plan().restores is not None


def test_a_restore_names_the_version_whose_bytes_are_put_back() -> None:
    text = words(acting().get(f"/s/{DELETED}/restore/v-0").text)

    assert "Version v-0 Written 2026-11-19 18:00:00 UTC Size 5.3 kB Serial 41 Resources 36" in text
    assert f"MD5 {OLD}" in text
    assert "s3:PutObject Prod/terraform/rds/terraform.tfstate only if none stands there" in text


def test_what_is_recommended_and_what_is_not_is_said() -> None:
    site = acting()

    assert "What will be done recommended" in words(site.get(f"/s/{DELETED}/restore/v-0").text)
    assert "What will be done not recommended" in words(site.get(f"/s/{DELETED}/digest/clear").text)


def test_a_safe_unlock_asks_for_a_reason_alone() -> None:
    text = acting().get(f"/s/{STALE}/unlock").text

    assert 'aria-required="true"' in field_of(text, "reason")
    assert 'maxlength="500"' in field_of(text, "reason")
    assert 'maxlength="100"' in field_of(text, "ticket")
    assert 'id="confirm"' not in text
    assert 'id="serial"' not in text


def test_a_risky_deed_asks_for_the_states_name_says_why_and_puts_cancel_first() -> None:
    text = acting().get(f"/s/{LIVE}/unlock").text
    buttons = text.split('class="buttons"')[1]

    assert "Type eks to confirm" in words(text)
    assert "This lock is not suspected stale: its holder may be alive." in words(text)
    assert 'autocapitalize="none"' in field_of(text, "confirm")
    assert buttons.index("Cancel") < buttons.index("Force-unlock")


def test_a_lower_serial_is_asked_for_besides_the_name() -> None:
    text = words(acting().get(f"/s/{BEHIND}/restore/v-0").text)

    assert "Type behind.tfstate to confirm" in text
    assert "Type the lower serial 11 to accept it" in text


def test_common_reasons_are_offered_as_buttons_and_in_the_list_of_the_field() -> None:
    text = acting().get(f"/s/{STALE}/unlock").text

    assert re.findall(r'data-reason="([^"]+)"', text) == [
        "runner killed",
        "laptop lost",
        "pipeline cancelled",
    ]
    assert re.findall(r'<option value="([^"]+)">', text) == [
        "runner killed",
        "laptop lost",
        "pipeline cancelled",
    ]


def test_a_page_names_who_acts_and_until_when_it_holds() -> None:
    text = words(acting().get(f"/s/{STALE}/unlock").text)

    assert "You act as kim (loopback)." in text
    assert "Read from AWS just now, 2026-11-20 18:00:00 UTC. What you confirm is this, for 2 minutes" in text


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("path", "heading", "reason"),
    [
        (f"/s/{FINE}/unlock", "Nothing is left to do", "No lock is held any more."),
        (f"/s/{FINE}/digest", "Nothing is left to do", "The digest is the MD5 of the object already."),
        (f"/s/{DELETED}/restore/v-9", "This is not possible now", "This version does not exist any more."),
        (f"/s/{DELETED}/restore/marker-1", "This is not possible now", "This is a delete marker"),
        (f"/s/{CRASHED}/digest", "This is not possible now", "A lock is held."),
        (f"/s/{DELETED}/takeover", "Nothing is left to do", "No lock is held any more"),
    ],
)
def test_a_refused_action_says_why_and_has_no_form(path: str, heading: str, reason: str) -> None:
    answer = acting().get(path)

    assert answer.status_code == 200
    assert reason in words(answer.text)
    assert 'name="token"' not in answer.text
    assert 'method="post"' not in answer.text
    assert heading in words(answer.text)


def test_where_the_key_could_not_be_read_whole_nothing_is_offered() -> None:
    site = acting()
    id_ = state_id("prod-kr", "archive/2023/kms.tfstate")
    text = site.get(f"/s/{id_}/digest").text

    assert "could not be read (access denied to the object (s3:GetObject))" in words(text)
    assert 'name="token"' not in text


@pytest.mark.parametrize("store", ["s3", "DynamoDB", "dynamodb "])
def test_a_store_that_is_none_is_refused(store: str) -> None:
    answer = acting().client.get(f"/s/{STALE}/unlock", query_string={"store": store})

    assert answer.status_code == 400
    assert "store is one of: dynamodb, tflock." in words(answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/s/0123456789abcdef/unlock",
        f"/s/{STALE}/undo/0",
        f"/s/{STALE}/undo/99999999999999999999",
        f"/s/{STALE}/undo/7",
        f"/s/{STALE}/restore/{'v' * 1025}",
        f"/s/{STALE}/restore/",
        f"/s/{STALE}/delete",
    ],
)
def test_what_is_not_there_is_not_found(path: str) -> None:
    site = acting()

    assert site.get(path).status_code == 404
    assert site.post(path, token="t", reason=WHY).status_code in (400, 404)
    assert site.log.records == []


# ---------------------------------------------------------------- the deed


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unlock", {}),
        ("digest", {}),
        ("clear", {"confirm": "rds"}),
        ("restore", {"confirm": "rds"}),
        ("takeover", {"confirm": "iam"}),
    ],
)
def test_a_confirmed_deed_is_done_once_and_leads_to_the_state_with_its_outcome(
    name: str, fields: dict[str, str]
) -> None:
    site, path = acting(), PAGES[name][0]
    answer = site.confirm(path, reason=WHY, ticket="OPS-7", **fields)

    (sent,) = site.actions.sent
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/s/{sent.state_id}?done=1")
    assert sent.form == Form(WHY, "OPS-7", fields.get("confirm", ""), "")
    assert sent.actor.person == Person("kim", "loopback", "127.0.0.1")
    assert site.log.records[0].entry.reason == WHY


def test_a_lower_serial_needs_its_second_typed_confirmation() -> None:
    site, path = acting(), f"/s/{BEHIND}/restore/v-0"
    without = site.confirm(path, reason=WHY, confirm="behind.tfstate")

    assert without.status_code == 422
    assert 'href="#serial"' in without.text
    assert 'href="#confirm"' not in without.text
    assert value_of(without.text, "confirm") == "behind.tfstate"
    assert site.log.records == []
    assert site.confirm(path, reason=WHY, confirm="behind.tfstate", serial="11").status_code == 303


def test_the_answer_leads_back_into_the_list_that_the_reader_came_from() -> None:
    site = acting()
    path = f"/s/{STALE}/unlock?view=locked&sort=key"

    assert f'href="/s/{STALE}?view=locked&amp;sort=key">Cancel' in site.get(path).text
    assert site.confirm(path, reason=WHY).headers["Location"] == f"/s/{STALE}?view=locked&sort=key&done=1"


def test_htmx_is_told_where_to_go_because_it_follows_redirects_out_of_sight() -> None:
    answer = acting().confirm(f"/s/{STALE}/unlock", HTMX, reason=WHY)

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, f"/s/{STALE}?done=1")
    assert answer.text == ""


def test_the_page_that_follows_tells_the_outcome_its_record_and_the_way_to_undo_it() -> None:
    site = acting()
    text = site.get(site.confirm(f"/s/{STALE}/unlock", reason=WHY).headers["Location"]).text
    told = text.split('id="told"')[1].split("</p>")[0]

    assert "Force-unlock: done. The lock item in DynamoDB was removed." in words(told)
    assert 'href="/audit/1"' in told
    assert f'href="/s/{STALE}/undo/1"' in told
    assert "until 18:15:00 UTC" in words(told)


@pytest.mark.parametrize("done", ["2", "0", "-1", "x", "9" * 30, "1 ", "<b>", "\u0661"])
def test_an_outcome_that_is_not_of_this_state_is_not_told(done: str) -> None:
    site = acting()
    site.confirm(f"/s/{STALE}/unlock", reason=WHY)
    site.confirm(f"/s/{LIVE}/unlock", reason=WHY, confirm="eks")
    answer = site.client.get(f"/s/{STALE}", query_string={"done": done})

    assert answer.status_code == 200
    assert 'id="told"' not in answer.text


# ---------------------------------------------------------------- what is to be mended


def test_a_form_to_mend_keeps_what_was_typed_and_names_each_problem_where_it_is() -> None:
    site = acting()
    answer = site.confirm(f"/s/{LIVE}/unlock", reason="", ticket="OPS-7", confirm="EKS")
    notice = answer.text.split('id="oops"')[1].split("</ul>")[0]

    assert answer.status_code == 422
    assert 'role="alert" tabindex="-1" autofocus' in notice
    assert "There is a problem. Nothing was done yet." in words(notice)
    assert re.findall(r'<a href="#(\w+)">([^<]+)</a>', notice) == [
        ("reason", "Say why, in a few words."),
        ("confirm", "Type eks exactly."),
    ]
    assert [value_of(answer.text, name) for name in ("reason", "ticket", "confirm")] == ["", "OPS-7", "EKS"]
    for name in ("reason", "confirm"):
        assert 'aria-invalid="true"' in field_of(answer.text, name)
        assert f'aria-describedby="{name}-hint"' in field_of(answer.text, name)
    assert "aria-invalid" not in field_of(answer.text, "ticket")
    assert site.log.records == []


def test_a_form_to_mend_has_a_token_of_its_own_that_works() -> None:
    site, path = acting(), f"/s/{STALE}/unlock"
    first = site.confirm(path, reason="")
    again = site.post(path, token=token_of(first.text), reason=WHY)

    assert again.status_code == 303


def test_htmx_gets_the_form_alone_with_the_mark_of_our_own_answer() -> None:
    answer = acting().confirm(f"/s/{STALE}/unlock", HTMX, reason="")

    assert answer.status_code == 422
    assert answer.headers["Lockboard-Answer"] == "1"
    assert '<article id="ask">' in answer.text
    assert "<html" not in answer.text


# ---------------------------------------------------------------- the lost race


@pytest.fixture
def overtaken() -> Site:
    """Between page and click the lock was released and taken by somebody else."""
    site = acting()

    def told(token: str, form: Form) -> Answer:
        site.actions.look(held_by("yuna@laptop"))
        return site.actions.moved(LIVE, UNLOCK, "The lock is not as the page showed it. Nothing was done.")

    site.actions.told = told
    return site


def test_a_lost_race_shows_the_new_holder_and_does_nothing(overtaken: Site) -> None:
    answer = overtaken.confirm(f"/s/{LIVE}/unlock", reason=WHY, ticket="OPS-7", confirm="eks")
    text = words(answer.text)

    assert answer.status_code == 409
    assert "Not done. The lock is not as the page showed it. Nothing was done." in text
    assert "What follows is how it stands now." in text
    assert "yuna@laptop claimed, not verified" in text
    assert "minji@Minji-ThinkPad" not in text


def test_after_a_lost_race_the_reason_stays_and_what_confirmed_the_old_view_is_cleared(
    overtaken: Site,
) -> None:
    sent = {"reason": WHY, "ticket": "OPS-7", "confirm": "eks", "serial": "11"}
    answer = overtaken.confirm(f"/s/{LIVE}/unlock", **sent)

    assert [value_of(answer.text, name) for name in ("reason", "ticket", "confirm")] == [WHY, "OPS-7", ""]
    assert token_of(answer.text) != overtaken.actions.sent[0].token


def test_a_lost_race_is_the_same_for_htmx(overtaken: Site) -> None:
    answer = overtaken.confirm(f"/s/{LIVE}/unlock", HTMX, reason=WHY, confirm="eks")

    assert (answer.status_code, answer.headers["Lockboard-Answer"]) == (409, "1")
    assert '<article id="ask">' in answer.text
    assert "HX-Retarget" not in answer.headers


def test_a_lost_race_whose_key_is_unlocked_now_offers_nothing_more() -> None:
    site = acting()

    def told(token: str, form: Form) -> Answer:
        site.observe(STALE, table_lock=None)
        return site.actions.moved(STALE, UNLOCK, "The lock changed. Nothing was done.")

    site.actions.told = told
    answer = site.confirm(f"/s/{STALE}/unlock", reason=WHY)

    assert answer.status_code == 409
    assert "Nothing is left to do No lock is held any more." in words(answer.text)
    assert 'name="token"' not in answer.text


def test_a_lock_that_is_gone_already_is_told_calmly_on_the_states_page() -> None:
    site = acting()
    site.actions.told = lambda token, form: Answer(Result.NO_CHANGE, "No lock is held any more.", "", 1)
    answer = site.confirm(f"/s/{STALE}/unlock", reason=WHY)

    assert (answer.status_code, answer.headers["Location"]) == (303, f"/s/{STALE}?done=1")


def test_a_refusal_without_a_new_view_says_so_and_that_nothing_was_done() -> None:
    site = acting()
    why = "This store does not honour conditions, so locks in it are not removed."
    site.actions.told = lambda token, form: Answer(Result.REFUSED, why, "", 1)
    answer = site.confirm(f"/s/{STALE}/unlock", reason=WHY)

    assert answer.status_code == 409
    assert f"Nothing was done. {why}" in words(answer.text)


def test_a_second_submit_of_the_same_form_gets_the_first_ones_answer() -> None:
    site = acting()
    site.actions.told = lambda token, form: Answer(Result.DONE, "Removed.", "", 41, replayed=True)

    assert site.confirm(f"/s/{STALE}/unlock", reason=WHY).headers["Location"] == f"/s/{STALE}?done=41"


def test_an_outcome_that_is_not_known_leads_to_the_states_page_and_its_record() -> None:
    site = acting()
    site.actions.told = lambda token, form: Answer(Result.UNKNOWN, "No reply came.", "", 12)

    assert site.confirm(f"/s/{STALE}/unlock", reason=WHY).headers["Location"] == f"/s/{STALE}?done=12"


# ---------------------------------------------------------------- failures


FAILURES = [
    (BadToken("This form was not made by Lockboard."), 400, "This form was not made by Lockboard."),
    (UnknownState("No state key has this address."), 404, "No state key has this address."),
    (
        AccessDenied("dynamodb:GetItem", "AccessDeniedException", ""),
        502,
        "dynamodb:GetItem: AccessDeniedException. Missing permission: dynamodb:GetItem",
    ),
    (Throttled("s3:GetObject", "SlowDown", "Please reduce"), 502, "Nothing was done: AWS could not be read."),
    (
        AuditError("the database is read-only"),
        503,
        "Nothing was changed in AWS by this attempt. The audit log cannot be used: the database is",
    ),
    (
        Halted("The lock was removed. But the outcome could not be recorded."),
        503,
        "Actions wait for the audit log. The lock was removed. But the outcome could not be recorded.",
    ),
]
EVERY_FAILURE = pytest.mark.parametrize(
    ("error", "code", "said"), FAILURES, ids=[type(error).__name__ for error, _, _ in FAILURES]
)


@EVERY_FAILURE
def test_each_failure_of_a_deed_has_its_status_and_words(error: LockboardError, code: int, said: str) -> None:
    site = acting()
    token = token_of(site.get(f"/s/{STALE}/unlock").text)
    site.actions.error = error
    answer = site.post(f"/s/{STALE}/unlock", token=token, reason=WHY)

    assert answer.status_code == code
    assert said in words(answer.text)
    assert answer.headers["Lockboard-Answer"] == "1"
    assert answer.headers.get("Retry-After") == ("5" if code == 503 else None)
    assert f'href="/s/{STALE}"' in answer.text


@EVERY_FAILURE
def test_with_htmx_a_failure_is_put_above_the_form_which_stays(
    error: LockboardError, code: int, said: str
) -> None:
    site = acting()
    token = token_of(site.get(f"/s/{STALE}/unlock").text)
    site.actions.error = error
    answer = site.post(f"/s/{STALE}/unlock", HTMX, token=token, reason=WHY)

    assert (answer.status_code, answer.headers["HX-Retarget"]) == (code, "#oops")
    assert 'id="oops"' in answer.text
    assert 'role="alert" tabindex="-1" autofocus' in answer.text
    assert "<form" not in answer.text


@EVERY_FAILURE
def test_each_failure_of_opening_a_page_has_its_status(error: LockboardError, code: int, said: str) -> None:
    site = acting()
    site.actions.error = error
    answer = site.get(f"/s/{STALE}/unlock")

    assert answer.status_code == code
    assert 'name="token"' not in answer.text


def test_an_accident_in_a_deed_never_claims_that_nothing_was_changed() -> None:
    site = acting()
    token = token_of(site.get(f"/s/{STALE}/unlock").text)
    site.actions.error = RuntimeError("a fault of ours")
    answer = site.post(f"/s/{STALE}/unlock", token=token, reason=WHY)
    silent = site.post(f"/s/{STALE}/unlock", HTMX, token=token, reason=WHY)

    assert answer.status_code == 500
    assert "Whether something was changed in AWS is not known." in words(answer.text)
    assert "Nothing was changed" not in answer.text
    assert "Lockboard-Answer" not in silent.headers


def test_what_is_refused_before_anything_began_is_told_to_htmx_above_the_form() -> None:
    site = acting()
    path = f"/s/{STALE}/unlock"
    token = token_of(site.get(path).text)
    foreign = site.post(path, {**HTMX, "Sec-Fetch-Site": "cross-site"}, token=token, reason=WHY)
    row = site.board.rows.pop(STALE)
    gone = site.post(path, HTMX, token=token, reason=WHY)
    site.board.rows[STALE], site.board.broken = row, True
    broken = site.post(path, HTMX, token=token, reason=WHY)

    assert [answer.status_code for answer in (foreign, gone, broken)] == [403, 404, 503]
    for answer in (foreign, gone, broken):
        assert (answer.headers["Lockboard-Answer"], answer.headers["HX-Retarget"]) == ("1", "#oops")
        assert answer.text.startswith('<div id="oops"')
    assert "This request was refused." in words(foreign.text)
    assert "No state key has this address." in words(gone.text)
    assert "Nothing was changed in AWS." in words(broken.text)
    assert site.log.records == []


def test_the_form_shows_every_refusal_that_lockboard_gives() -> None:
    text = acting().get(f"/s/{STALE}/unlock").text

    for code in (400, 403, 404, 409, 413, 422, 429, 500, 502, 503):
        assert text.count(f'hx-status:{code}="swap:outerHTML"') == 1


def test_a_form_with_a_token_of_ones_own_making_is_refused() -> None:
    site = acting()
    answer = site.post(f"/s/{STALE}/unlock", token="made-up", reason=WHY)

    assert answer.status_code == 400
    assert "This form cannot be used." in words(answer.text)
    assert "Nothing was done." in words(answer.text)
    assert site.log.records == []


# ---------------------------------------------------------------- who may send what


@pytest.mark.parametrize("name", ["digest", "version", "version_id", "md5", "store", "lock_id", "<b>"])
@EVERY_PAGE
def test_what_is_written_is_never_typed_a_form_that_carries_it_is_refused(
    path: str, question: str, deed: str, name: str
) -> None:
    site = acting()
    answer = site.confirm(path, reason=WHY, confirm="rds", **{name: "d41d8cd98f00b204e9800998ecf8427e"})

    assert answer.status_code == 400
    assert f"It has a field that no page of Lockboard sends: {name}." in html.unescape(answer.text)
    assert (site.actions.sent, site.log.records) == ([], [])


@EVERY_PAGE
@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
def test_a_form_of_another_site_is_refused(
    path: str, question: str, deed: str, headers: dict[str, str]
) -> None:
    site = acting()
    token = token_of(site.get(path).text)

    assert site.post(path, headers, token=token, reason=WHY).status_code == 403
    assert site.actions.sent == []


def test_every_route_that_acts_is_a_post_on_exactly_one_state() -> None:
    rules = [
        rule
        for rule in acting().client.application.url_map.iter_rules()
        if rule.endpoint.startswith("recovery.do_")
    ]

    assert sorted(rule.rule for rule in rules) == [
        "/s/<state_id>/digest",
        "/s/<state_id>/digest/clear",
        "/s/<state_id>/restore/<path:version>",
        "/s/<state_id>/takeover",
        "/s/<state_id>/undo/<int:seq>",
        "/s/<state_id>/unlock",
    ]
    for rule in rules:
        assert (rule.methods or set()) - {"OPTIONS"} == {"POST"}


@EVERY_PAGE
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_no_other_method_does_anything(path: str, question: str, deed: str, method: str) -> None:
    site = acting()

    assert site.client.open(path, method=method, headers=OWN).status_code == 405
    assert site.actions.sent == []


@EVERY_PAGE
def test_the_pages_are_kept_by_no_cache(path: str, question: str, deed: str) -> None:
    site = acting()
    for answer in (site.get(path), site.confirm(path, reason=""), site.confirm(path, HTMX, reason="")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Vary"] == "HX-Request-Type"
        assert "script-src 'nonce-" in answer.headers["Content-Security-Policy"]


# ---------------------------------------------------------------- switched off


@EVERY_PAGE
def test_where_actions_are_off_a_page_says_how_to_switch_them_on(path: str, question: str, deed: str) -> None:
    answer = acting(switched_on=False).get(path)

    assert answer.status_code == 200
    assert "Actions are switched off" in words(answer.text)
    assert "[actions] enabled = true" in words(answer.text)
    assert "<form" not in answer.text.split("<main")[1].split("</main>")[0]


@EVERY_PAGE
@pytest.mark.parametrize("headers", [OWN, HTMX], ids=["plain", "htmx"])
def test_where_actions_are_off_a_form_is_refused(
    path: str, question: str, deed: str, headers: dict[str, str]
) -> None:
    site = acting(switched_on=False)
    answer = site.post(path, headers, token="t", reason=WHY)

    assert answer.status_code == 403
    assert "Actions are switched off. This Lockboard only reads. Nothing was done." in words(answer.text)
    assert site.log.records == []


def test_where_actions_are_off_an_unknown_state_is_still_not_found() -> None:
    assert acting(switched_on=False).get("/s/0123456789abcdef/unlock").status_code == 404


def test_where_actions_are_off_no_page_leads_to_one() -> None:
    text = acting(switched_on=False).get(f"/s/{STALE}").text

    assert f"/s/{STALE}/unlock" not in text
    assert f"/s/{STALE}/unlock" in acting().get(f"/s/{STALE}").text


# ---------------------------------------------------------------- text from elsewhere


@pytest.mark.parametrize("phase", ["asking", "mending", "failing"])
def test_a_hostile_key_and_holder_are_text_on_every_page(phase: str) -> None:
    site, path = acting(), f"/s/{HAUNTED}/unlock"
    if phase == "asking":
        text = site.get(path).text
    elif phase == "mending":
        text = site.confirm(path, reason="", ticket=HOSTILE).text
        assert value_of(text, "ticket") == HOSTILE
    else:
        site.actions.told = lambda token, form: Answer(Result.REFUSED, HOSTILE, "", 1)
        text = site.confirm(path, reason=WHY).text

    assert "<script>alert" not in text
    assert "<img" not in text
    assert not re.search(r'<[^>]* hx-get=[\'"]?/x', text)
    assert HOSTILE in html.unescape(text)
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_a_lock_that_cannot_be_read_is_shown_raw_and_may_be_removed() -> None:
    site = acting()
    raw = '{"ID": "<b>", "Who": "\u202egpj"'
    site.observe(STALE, table_lock=lock_from_item({"S": raw}))
    text = site.get(f"/s/{STALE}/unlock").text

    assert "Nobody can be named" in text
    assert "&lt;b&gt;" in text
    assert "\u202e" not in text
    assert site.the_plan().releases[0].attribute == {"S": raw}


ODD_VERSIONS = (
    "null",
    ".PUhovJJUIdGZ.ln1I4tp4SjUtzH8kjw",
    "a b+c%2Fd?e#f&g=h;i",
    "with/a/slash",
    "ü漢\u202e",
    "x" * 1024,
)


@pytest.mark.parametrize("version", ODD_VERSIONS, ids=[f"{v[:12]!a}" for v in ODD_VERSIONS])
@pytest.mark.parametrize("action", [Action.RESTORE_VERSION, Action.TAKE_OVER])
def test_a_version_id_of_any_characters_comes_through_its_address_unchanged(
    action: Action, version: str
) -> None:
    site = acting()
    url = way_to(DELETED, action, version=version, query="view=all")
    answer = site.get(url)

    assert answer.status_code == 200
    assert site.actions.prepared[-1][2] == Wanted(action, version_id=version)
    assert "\u202e" not in answer.text


def test_the_form_of_a_version_goes_to_its_own_address() -> None:
    site = acting()
    seen = site.actions.seen[DELETED]
    assert isinstance(seen.history, History)
    odd = replace(seen.history.versions[1], version_id="a b/c?d")
    site.observe(DELETED, history=replace(seen.history, versions=(odd,)))
    path = way_to(DELETED, Action.RESTORE_VERSION, version="a b/c?d")
    text = site.get(path).text

    assert f'action="{path}"' in text
    assert site.confirm(path, reason=WHY, confirm="rds").status_code == 303


# ---------------------------------------------------------------- undo


@pytest.fixture
def unlocked() -> Site:
    """The lock was removed by record 1."""
    site = acting()
    site.confirm(f"/s/{STALE}/unlock", reason=WHY)
    return site


def test_an_undo_says_what_it_takes_back_and_what_will_stand_then(unlocked: Site) -> None:
    answer = unlocked.get(f"/s/{STALE}/undo/1")
    text = words(answer.text)

    assert answer.status_code == 200
    assert "Undo this change?" in text
    assert "This takes back what audit record 1 tells." in text
    assert 'href="/audit/1"' in answer.text
    assert "Put the lock back." in text
    assert "dynamodb:PutItem" in text
    assert "only if no lock stands there" in text
    assert "its holder can release it" in text


def test_an_undo_is_confirmed_like_any_other_deed(unlocked: Site) -> None:
    answer = unlocked.confirm(f"/s/{STALE}/undo/1", reason="the run was alive")

    assert (answer.status_code, answer.headers["Location"]) == (303, f"/s/{STALE}?done=2")
    assert unlocked.confirm(f"/s/{STALE}/undo/1", reason="").status_code == 422


def test_an_undo_is_refused_where_the_world_has_moved_on(unlocked: Site) -> None:
    unlocked.actions.look(held_by("yuna@laptop", "batch/remote"))
    text = unlocked.get(f"/s/{STALE}/undo/1").text

    assert "A lock is held now, so this is not taken back." in words(text)
    assert "yuna@laptop" in text
    assert 'name="token"' not in text


def test_an_undo_of_another_states_record_is_not_found(unlocked: Site) -> None:
    answer = unlocked.get(f"/s/{LIVE}/undo/1")

    assert answer.status_code == 404
    assert "The audit log has no such record of this state key." in words(answer.text)


def test_after_fifteen_minutes_a_lock_is_not_put_back_and_no_page_offers_it(unlocked: Site) -> None:
    clock = unlocked.actions.clock
    assert isinstance(clock, Ticking)
    clock.at = NOW + timedelta(minutes=16)

    assert "/undo/1" not in unlocked.get(f"/s/{STALE}?done=1").text
    assert "not later." in words(unlocked.get(f"/s/{STALE}/undo/1").text)
