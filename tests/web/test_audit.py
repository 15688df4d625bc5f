from __future__ import annotations

import csv
import html
import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text
from werkzeug.test import TestResponse

from lockboard.adapters.store import SqlAudit, migrate, open_audit_engine, open_engine
from lockboard.adapters.store.audit_rows import columns_of
from lockboard.adapters.store.schema import audit
from lockboard.domain.access import Area, Grant, Rights, Role
from lockboard.domain.audit import (
    GENESIS,
    AuditError,
    AuditPage,
    AuditQuery,
    Entry,
    Head,
    Kind,
    Person,
    Record,
    Result,
    Stored,
    Verification,
    body_of,
    mac_of,
    verify,
)
from lockboard.domain.keys import state_id
from lockboard.domain.ports import Clock
from lockboard.services.attempts import Halted
from lockboard.web.audit_asked import AskedAudit, asked_audit, days_words
from lockboard.web.audit_exports import COLUMNS
from tests.web.audit_fakes import (
    ALEX,
    CDN,
    IAM,
    KEY,
    KIM,
    RDS,
    REPAIR,
    RESTORE,
    UNLOCK,
    AuditSite,
    FakeAudit,
    attempt,
    client_over,
    lock,
    plan,
    receipt,
    site,
    uuid,
    week,
)
from tests.web.fakes import HOSTILE, NOW, Ticking
from tests.web.test_headers import protected
from tests.web.test_hostile import PAYLOADS, skeleton

OWN = {"Sec-Fetch-Site": "same-origin"}


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def numbers(text: str) -> list[int]:
    """The records of a list, in its order."""
    return [int(seq) for seq in re.findall(r'id="a-(\d+)"', text)]


def row(text: str, seq: int) -> str:
    """The words of one line of the list."""
    found = re.search(rf'id="a-{seq}">(.*?)</tr>', text, re.DOTALL)
    assert found
    return words(found[1])


def many(count: int) -> FakeAudit:
    """Attempts of two people, an hour apart; two records each."""
    log = FakeAudit(lambda: NOW)
    for n in range(count):
        intent, outcome = attempt(
            n, "force_unlock", IAM if n % 2 else RDS, ALEX if n % 3 else KIM, ticket=f"T-{n % 7}"
        )
        at = NOW - timedelta(hours=count - n)
        log.put(at - timedelta(seconds=1), intent)
        log.put(at, outcome)
    return log


def entries(*found: Entry) -> AuditSite:
    """A log of these entries, a second apart."""

    def made(clock: Clock) -> FakeAudit:
        log = FakeAudit(clock)
        for number, entry in enumerate(found):
            log.put(NOW + timedelta(seconds=number), entry)
        return log

    return site(made)


# ---------------------------------------------------------------- the list


def test_the_list_has_every_record_newest_first() -> None:
    text = site().client.get("/audit").text

    assert numbers(text) == list(range(13, 0, -1))
    assert "The whole log, 13 records ; the log begins 3 Feb 2026" in words(text)
    assert "As of 2026-11-20 18:00:00 UTC; this page does not move by itself." in words(text)
    assert "lb:refresh" not in text


def test_a_line_tells_when_who_what_where_why_and_what_changed() -> None:
    line = row(site().client.get("/audit").text, 3)

    for part in (
        "2026-11-02 18:00:00 UTC",
        "record 3, outcome",
        "Force-unlock Done",
        "prod-kr Prod/terraform/ iam /terraform.tfstate",
        "kim loopback · 127.0.0.1",
        "OPS-1841 runner was killed",
        "The lock item is removed.",
        "Lock item 6dbcc1a4… → removed",
    ):
        assert part in line
    assert "planned" not in line


def test_a_line_links_to_its_record_and_to_its_state() -> None:
    text = site().client.get("/audit").text

    assert 'href="/audit/3"' in text
    assert f'href="/s/{state_id(*IAM)}"' in text


@pytest.mark.parametrize(
    ("seq", "said"),
    [
        (13, "Open"),
        (12, "Recorded"),
        (11, "No change"),
        (10, "Refused"),
        (9, "Unknown"),
        (8, "Intent"),
        (7, "Failed"),
        (5, "Done"),
    ],
)
def test_every_ending_has_a_word_and_a_mark_of_its_own(seq: int, said: str) -> None:
    text = site().client.get("/audit").text
    icons = dict(re.findall(r'id="a-(\d+)">.*?icons\.svg[^"]*#([\w-]+)"', text, re.DOTALL))

    assert said in row(text, seq)
    assert len({icons[str(n)] for n in (13, 12, 11, 10, 9, 8, 7, 5)}) == 8


def test_what_did_not_happen_is_called_planned() -> None:
    text = site().client.get("/audit").text

    assert "planned Digest fad67a84… → 1a2b3c4d…" in row(text, 13)
    assert "planned" in row(text, 7)
    assert "planned" in row(text, 9)
    assert "planned" not in row(text, 5)
    assert "State no object → serial 41" in row(text, 5)


def test_attempts_without_an_outcome_stand_above_the_list() -> None:
    text = site().client.get("/audit?person=nobody").text

    assert "One attempt has no outcome yet." in words(text)
    assert "Record 13 Take the lock over, cdn/edge.tfstate, since 2026-11-20 17:59:48 UTC" in words(text)


def test_a_log_without_open_attempts_says_nothing_of_them() -> None:
    assert "no outcome yet" not in site(lambda clock: many(3)).client.get("/audit").text


def test_times_are_also_told_in_the_readers_zone() -> None:
    client = site().client
    client.set_cookie("lockboard_prefs", "Asia/Seoul.auto.comfortable.10.on")

    assert "2026-11-02 18:00:00 UTC 2026-11-03 03:00:00 KST" in row(client.get("/audit").text, 3)
    assert "2026-11-02 18:00:00 UTC 2026-11-03 03:00:00 KST" in words(client.get("/audit/3").text)


def test_an_outcome_that_does_not_repeat_the_plan_takes_it_from_its_intent() -> None:
    intent, outcome = attempt(1, "force_unlock", IAM)
    client = entries(intent, replace(outcome, facts={"steps": []})).client

    assert "Lock item 6dbcc1a4… → removed" in row(client.get("/audit").text, 2)
    assert "held by root@runner-t3qyxf-project-7120" in words(client.get("/audit/2").text)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"releases": [lock("tflock")]}, ".tflock 6dbcc1a4… → removed"),
        ({"releases": [lock(id=None, who=None, operation=None)]}, "Lock item unreadable → removed"),
        ({"puts_back": [{"store": "dynamodb", "raw": "{}"}]}, "Lock item none → put back"),
        ({"over": [lock()]}, "Lock item 6dbcc1a4… → taken over"),
        ({"digest": {"absent": True, "old": None, "new": "b" * 32}}, "Digest none → bbbbbbbb…"),
        ({"digest": {"absent": False, "old": {"S": "c" * 32}, "new": None}}, "Digest cccccccc… → removed"),
        ({"digest": {"absent": False, "old": {"N": "7"}, "new": None}}, 'Digest {"N": "7"} → removed'),
        (
            {"restores": {**RESTORE["restores"], "serial": None}, "standing": {"etag": "e"}},
            "State the object → restored",
        ),
        ({"restores": RESTORE["restores"], "standing": {"serial": 42}}, "State serial 42 → serial 41"),
    ],
)
def test_a_change_is_told_in_short(parts: dict[str, object], said: str) -> None:
    _, outcome = attempt(1, "undo", IAM, facts=plan(**parts))

    assert said in row(entries(outcome).client.get("/audit").text, 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"plan": None},
        {"plan": "all of it"},
        {"plan": {"releases": "all", "digest": 7, "restores": [1], "over": {"a": 1}, "puts_back": [None, 3]}},
        {"steps": [{"request_id": None}, {"request_id": {"a": []}, "operation": 3}]},
        {"plan": {"releases": [{}], "digest": {"old": {"S": 1}}}, "undoes": "7", "reconciled": "yes"},
    ],
)
def test_facts_of_another_shape_break_no_page(facts: dict[str, object]) -> None:
    entry = replace(attempt(1, "force_unlock", IAM)[1], facts=facts)
    client = entries(entry).client

    for path in ("/audit", "/audit/1", "/audit.csv", "/audit.jsonl"):
        assert client.get(path).status_code == 200


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("person=kim", [13, 9, 8, 3, 2]),
        ("person=alex%40acme.example", [11, 10, 7, 6, 5, 4]),
        ("action=force_unlock", [11, 10, 9, 8, 3, 2]),
        ("kind=event", [12, 1]),
        ("kind=intent", [13, 8, 6, 4, 2]),
        ("kind=refusal", [11, 10]),
        ("result=refused", [10]),
        ("result=no_change", [11]),
        ("backend=dev-kr", [9, 8]),
        ("key=TERRAFORM+iam", [11, 10, 3, 2]),
        ("ticket=OPS-1841", [3, 2]),
        (f"state_id={state_id(*CDN)}", [13, 7, 6]),
        (f"action_id={uuid(2)}", [5, 4]),
        ("since=2026-11-18", [13, 12, 11, 10]),
        ("until=2026-02-03", [1]),
        ("since=2026-11-03&until=2026-11-11", [7, 6, 5, 4]),
        ("since=2026-11-11&until=2026-11-11", [7, 6]),
        ("person=kim&kind=outcome&result=done", [3]),
        ("something=else", list(range(13, 0, -1))),
    ],
)
def test_each_filter_keeps_what_it_names(query: str, found: list[int]) -> None:
    assert numbers(site().client.get(f"/audit?{query}").text) == found


def test_days_are_those_of_utc_and_both_are_whole() -> None:
    found = site()
    found.client.get("/audit?since=2026-11-01&until=2026-11-20")

    assert (found.log.asked[0].since, found.log.asked[0].until) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 21, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("kind=rumour", "kind is one of: intent, outcome, refusal, event."),
        ("result=perhaps", "result is one of: done, refused, no_change, failed, unknown."),
        ("action=DROP TABLE", "action is a name such as force_unlock"),
        ("action_id=%00", "action_id is the ID of one attempt"),
        ("state_id=../../etc", "state_id is the address of a state"),
        ("since=yesterday", "since is a day in UTC, such as 2026-11-20."),
        ("since=2026-02-30", "since is a day in UTC"),
        ("until=20261120", "until is a day in UTC"),
        ("until=9999-12-31", "until is a day in UTC"),
        ("since=2026-11-20&until=2026-11-19", "since (2026-11-20) is after until (2026-11-19)"),
        ("before=-1", "before is the number of a record."),
        ("before=" + "9" * 19, "before is the number of a record."),
        ("after=%D9%A1", "after is the number of a record."),
        ("before=3&after=2", "before and after lead to different pages"),
        ("key=" + "x" * 1201, "key is longer than 1200 characters."),
        ("person=a%00b", "person holds a NUL"),
    ],
)
@pytest.mark.parametrize("path", ["/audit", "/audit.csv", "/audit.jsonl"])
def test_a_bad_value_is_answered_with_what_is_possible(path: str, query: str, said: str) -> None:
    found = site()
    answer = found.client.get(f"{path}?{query}")

    assert answer.status_code == 400
    assert said in html.unescape(answer.text)
    assert len(found.log.records) == 13


def test_a_form_sent_without_script_ends_at_the_canonical_address() -> None:
    answer = site().client.get("/audit?person=kim&action=&result=&key=+a++b&ticket=&since=2026-11-01&until=")

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/audit?person=kim&key=a+b&since=2026-11-01"


def test_the_form_holds_what_is_in_force_and_keeps_what_it_does_not_offer() -> None:
    text = (
        site()
        .client.get(
            f"/audit?person=gone&action=resume&result=done&kind=outcome&state_id={state_id(*IAM)}&since=2026-11-01&key=iam"
        )
        .text
    )

    assert '<option value="gone" selected>gone</option>' in text
    assert '<option value="resume" selected>resume</option>' in text
    assert '<option value="done" selected>Done</option>' in text
    assert '<input type="hidden" name="kind" value="outcome">' in text
    assert f'<input type="hidden" name="state_id" value="{state_id(*IAM)}">' in text
    assert 'name="since" value="2026-11-01"' in text
    assert 'name="key" value="iam"' in text
    assert '<option value="alex@acme.example">' in text


def test_the_days_asked_for_most_are_one_click_away() -> None:
    text = html.unescape(site().client.get("/audit?person=kim&since=2026-11-14&before=9").text)

    assert '<a href="/audit?person=kim&since=2026-11-20">Today</a>' in text
    assert '<a href="/audit?person=kim&since=2026-11-14" aria-current="page">Last 7 days</a>' in text
    assert '<a href="/audit?person=kim&since=2026-10-22">Last 30 days</a>' in text
    assert '<a href="/audit?person=kim">All days</a>' in text


def test_an_answered_intent_steps_back_and_an_open_one_does_not() -> None:
    text = site().client.get("/audit").text
    quiet = [int(seq) for seq in re.findall(r'class="row [^"]* quiet" id="a-(\d+)"', text)]

    assert quiet == [12, 8, 6, 4, 2]


def test_each_chip_leads_to_the_list_without_it() -> None:
    text = site().client.get("/audit?kind=outcome&person=kim&since=2026-11-01&before=9").text
    chips = {
        words(label): html.unescape(url)
        for url, label in re.findall(r'class="chip" href="([^"]+)"[^>]*>(.*?)</a>', text)
    }

    assert chips == {
        "outcome records \u00d7": "/audit?person=kim&since=2026-11-01",
        "by kim \u00d7": "/audit?kind=outcome&since=2026-11-01",
        "since 1 Nov 2026 \u00d7": "/audit?kind=outcome&person=kim",
    }


def test_the_kinds_are_tabs_that_keep_the_other_filters() -> None:
    text = html.unescape(site().client.get("/audit?kind=intent&person=kim").text)

    assert '<a href="/audit?kind=intent&person=kim" aria-current="page">Intents</a>' in text
    assert '<a href="/audit?person=kim">All records</a>' in text
    assert '<a href="/audit?kind=refusal&person=kim">Refusals</a>' in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "The whole log, 13 records ;"),
        ("?since=2026-11-01&until=2026-11-20", "1\u201320 Nov 2026, 12 records ;"),
        ("?since=2026-11-18&kind=refusal", "Since 18 Nov 2026, 2 records match ;"),
        ("?until=2026-02-03&kind=event", "Until 3 Feb 2026, 1 record matches ;"),
    ],
)
def test_the_page_states_its_window(query: str, said: str) -> None:
    assert said in words(site().client.get(f"/audit{query}").text)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        (date(2026, 11, 1), date(2026, 11, 20), "1\u201320 Nov 2026"),
        (date(2026, 10, 28), date(2026, 11, 20), "28 Oct \u2013 20 Nov 2026"),
        (date(2025, 12, 28), date(2026, 1, 3), "28 Dec 2025 \u2013 3 Jan 2026"),
        (date(2026, 11, 20), date(2026, 11, 20), "20 Nov 2026"),
        (date(2025, 11, 1), date(2026, 11, 20), "1 Nov 2025 \u2013 20 Nov 2026"),
        (None, None, ""),
    ],
)
def test_a_window_names_month_and_year_no_more_often_than_needed(
    since: date | None, until: date | None, said: str
) -> None:
    assert days_words(since, until) == said


def test_more_records_than_are_counted_are_called_more() -> None:
    found = site()
    found.log.counted = 10

    assert "The whole log, more than 10 records" in words(found.client.get("/audit").text)


plain = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
lists = st.builds(
    AskedAudit,
    kind=st.sampled_from(["", *map(str, Kind)]),
    person=plain,
    action=st.sampled_from(["", "force_unlock", "heartbeat"]),
    result=st.sampled_from(["", *map(str, Result)]),
    backend=plain,
    key=plain.map(lambda text: " ".join(text.split())),
    ticket=plain.map(str.strip),
    state_id=st.sampled_from(["", "0123456789abcdef"]),
    action_id=st.sampled_from(["", uuid(1)]),
    since=st.none() | st.dates(max_value=date(2025, 1, 1)),
    until=st.none() | st.dates(min_value=date(2025, 1, 1), max_value=date(9999, 12, 30)),
    before=st.none() | st.integers(0, 10**18 - 1),
)


@given(lists)
def test_a_list_survives_its_url(wanted: AskedAudit) -> None:
    query = wanted.url().partition("?")[2]

    assert asked_audit(dict(parse_qsl(query, keep_blank_values=True))) == wanted


# ---------------------------------------------------------------- paging


def test_the_pages_hold_every_match_once_and_lead_back() -> None:
    client = site(lambda clock: many(90)).client
    seen: list[list[int]] = []
    url = "/audit?kind=outcome"
    while url:
        text = client.get(url).text
        seen.append(numbers(text))
        older = re.search(r'href="([^"]+)" rel="next"', text)
        url = html.unescape(older[1]) if older else ""

    assert [len(page) for page in seen] == [50, 40]
    assert [seq for page in seen for seq in page] == list(range(180, 0, -2))
    back = re.search(r'href="([^"]+)" rel="prev"', text)
    assert back
    assert numbers(client.get(html.unescape(back[1])).text) == seen[0]


def test_a_page_says_which_records_it_shows_and_leads_to_the_newest() -> None:
    text = site(lambda clock: many(90)).client.get("/audit?kind=outcome&before=81").text

    assert "Records 80\u20132" in words(text)
    assert '<a href="/audit?kind=outcome">Newest</a>' in text


def test_an_empty_page_leads_to_the_newest() -> None:
    text = site().client.get("/audit?person=kim&before=1").text

    assert "This page is empty" in text
    assert 'href="/audit?person=kim">To the newest' in text


# ---------------------------------------------------------------- empty, absent, out of order


class Dead(FakeAudit):
    """Its database does not answer."""

    def page(self, query: AuditQuery) -> AuditPage:
        raise AuditError("the audit log does not answer: the disk is gone")

    def record(self, seq: int) -> Record | None:
        raise AuditError("the audit log does not answer: the disk is gone")


@pytest.mark.parametrize("path", ["/audit", "/audit/3", "/audit.csv", "/audit.jsonl"])
def test_a_log_that_does_not_answer_is_a_503_that_says_so(path: str) -> None:
    answer = site(Dead).client.get(path)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "The audit log does not answer: the disk is gone." in answer.text
    protected(answer)


@pytest.mark.parametrize("path", ["/audit/1", "/audit.csv", "/audit.jsonl"])
def test_without_a_log_there_is_nothing_and_the_answer_says_what_it_needs(path: str) -> None:
    answer = site(kept=False).client.get(path)

    assert answer.status_code == 404
    assert "LOCKBOARD_AUDIT_KEY" in answer.text


def test_without_a_log_the_page_says_why_and_how() -> None:
    answer = site(kept=False).client.get("/audit?kind=nonsense")

    assert answer.status_code == 200
    assert "No audit log is kept" in answer.text
    assert "sets LOCKBOARD_AUDIT_KEY" in answer.text
    assert "at least 32 bytes" in answer.text
    assert site(kept=False).client.post("/audit/verify", headers=OWN).status_code == 404


def test_an_empty_log_says_so() -> None:
    text = words(site(FakeAudit).client.get("/audit").text)

    assert "The log is empty" in text
    assert "The whole log, 0 records ." in text


def test_no_match_offers_the_way_back() -> None:
    text = site().client.get("/audit?person=nobody").text

    assert "No record matches" in text
    assert "The log begins 3 Feb 2026." in text
    assert '<a class="button" href="/audit">Clear every filter</a>' in text


# ---------------------------------------------------------------- the chain


def test_a_chain_that_was_never_checked_is_not_called_good() -> None:
    text = words(site().client.get("/audit").text)

    assert "The chain has not been checked since Lockboard started" in text
    assert "verified" not in text
    assert "lockboard audit verify" in text


def test_verify_now_checks_records_that_it_did_and_leads_back() -> None:
    found = site()
    answer = found.client.post("/audit/verify", headers=OWN)
    noted = found.log.records[-1].entry

    assert (answer.status_code, answer.headers["Location"]) == (303, "/audit#chain")
    assert (noted.kind, noted.action, noted.person) == (Kind.EVENT, "verify", KIM)
    assert noted.message == "Verified the chain to record 13."
    assert noted.facts["head_mac"] == found.log.records[12].mac
    text = words(found.client.get("/audit").text)
    assert "Chain verified to record 13 at 2026-11-20 18:00:00 UTC" in text
    assert "Whether records were cut off at its end shows only beside a witness's heads." in text


def test_a_proven_tail_is_called_proven() -> None:
    found = site()
    found.log.verify([Head(13, found.log.records[-1].mac)])

    text = words(found.client.get("/audit").text)
    assert "The heads that the witness holds lie in it." in text
    assert "cut off at its end" not in text


def test_a_large_number_is_written_with_commas() -> None:
    found = site()
    found.log._last = (NOW, Verification(12_345, Head(12_345, "0" * 64)))

    assert "Chain verified to record 12,345 at 2026-11-20 18:00:00 UTC" in words(
        found.client.get("/audit").text
    )


def test_a_broken_chain_names_the_first_bad_record_everywhere() -> None:
    found = site()
    found.log.tamper(7)
    found.client.post("/audit/verify", headers=OWN)
    text = words(found.client.get("/audit").text)

    assert "Chain broken at record 7, found at 2026-11-20 18:00:00 UTC" in text
    assert "Records up to 6 are as they were written; what follows cannot be relied on." in text
    assert "Broken chain" in row(found.client.get("/audit").text, 14)
    assert found.log.records[-1].entry.message.startswith(
        "The chain is broken: record 7: its MAC does not fit"
    )
    assert "This record cannot be relied on." in words(found.client.get("/audit/7").text)
    assert "This record cannot be relied on." in words(found.client.get("/audit/8").text)
    assert "cannot be relied on. The" not in words(found.client.get("/audit/6").text)


def test_a_chain_broken_at_its_first_record_leaves_nothing_to_rely_on() -> None:
    found = site()
    found.log.tamper(1)
    found.log.verify()

    text = words(found.client.get("/audit").text)
    assert "Nothing in the log can be relied on." in text
    assert "The key may be another, too" in text


def test_a_broken_chain_says_what_to_do() -> None:
    found = site()
    found.log.tamper(7)
    found.log.verify()

    for path in ("/audit", "/audit/7"):
        text = words(found.client.get(path).text)
        assert "Switch actions off. Keep a copy of the database" in text
        assert "The key may be another" not in text
    assert "Switch actions off" not in site().client.get("/audit").text


def test_an_empty_log_can_be_verified() -> None:
    found = site(FakeAudit)
    found.client.post("/audit/verify", headers=OWN)

    assert found.log.records[0].entry.message == "Verified the chain: the log is empty."
    assert "the log was empty at 2026-11-20 18:00:00 UTC" in words(found.client.get("/audit").text)


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_site_cannot_start_a_check(headers: dict[str, str]) -> None:
    found = site()

    assert found.client.post("/audit/verify", headers=headers).status_code == 403
    assert found.log.checks == 0


def test_two_checks_never_run_at_the_same_time() -> None:
    found = site()
    codes: list[int] = []
    found.log.during_check = lambda: codes.append(found.client.post("/audit/verify", headers=OWN).status_code)

    assert found.client.post("/audit/verify", headers=OWN).status_code == 303
    assert codes == [409]
    assert found.log.checks == 1
    found.log.during_check = lambda: None
    assert found.client.post("/audit/verify", headers=OWN).status_code == 303


def test_health_tells_of_the_chain() -> None:
    found = site()
    found.log.verify()

    assert "Audit log Chain verified to record 13" in words(found.client.get("/health").text)
    assert "Audit log None is kept." in words(site(kept=False).client.get("/health").text)


# ---------------------------------------------------------------- one record


def test_a_record_is_shown_whole() -> None:
    found = site()
    text, record = found.client.get("/audit/3").text, found.log.records[2]
    said = words(text)

    for part in (
        "Record 3 Force-unlock",
        "Done 2026-11-02 18:00:00 UTC",
        "The lock item is removed.",
        "AWS holds the change.",
        "Before ID 6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f, held by root@runner-t3qyxf-project-7120",
        "After removed",
        "dynamodb:DeleteItem done REQ0001EXAMPLE",
        "Person kim loopback · 127.0.0.1",
        "Bucket acme-prod-kr-tfstate",
        "Reason runner was killed",
        "Ticket OPS-1841",
        f"Attempt {uuid(1)}",
        f"MAC {record.mac}",
        f"Before it {found.log.records[1].mac}",
    ):
        assert part in said
    assert html.escape(record.body, quote=True).replace("&quot;", "&#34;") in text
    assert f'data-copy="{record.mac}"' in text
    assert 'data-copy-link="/audit/3"' in text


def beside(text: str) -> dict[str, str]:
    """Where `prev` and `next` lead."""
    return {rel: html.unescape(url) for url, rel in re.findall(r'href="([^"]+)" rel="(prev|next)"', text)}


def test_a_record_leads_to_those_beside_it_and_to_the_rest_of_its_attempt() -> None:
    text = site().client.get("/audit/3").text

    assert beside(text) == {"prev": "/audit/4", "next": "/audit/2"}
    assert "Newer: record 4 Older: record 2" in words(text)
    assert '<li><a href="/audit/2">Record 2</a>' in text
    assert beside(site().client.get("/audit/1").text) == {"prev": "/audit/2"}
    assert beside(site().client.get("/audit/13").text) == {"next": "/audit/12"}


def test_a_record_opened_from_a_filtered_list_leads_along_that_list_and_back_into_it() -> None:
    client = site().client
    opened = re.search(r'id="a-8">.*?href="([^"]+)"', client.get("/audit?person=kim").text, re.DOTALL)
    assert opened
    assert opened[1] == "/audit/8?person=kim"
    text = client.get(opened[1]).text

    assert beside(text) == {"prev": "/audit/9?person=kim", "next": "/audit/3?person=kim"}
    assert '<a href="/audit?person=kim#a-8">Back to the log: by kim</a>' in text
    assert 'data-copy-link="/audit/8"' in text
    assert client.get("/audit/8?kind=rumour").status_code == 400


def test_an_attempt_shows_on_what_evidence_it_was_decided() -> None:
    for seq in (2, 3, 10):
        text = words(site().client.get(f"/audit/{seq}").text)

        assert "On what evidence Suspected stale: held since 2026-11-02 09:12:44 UTC" in text
        assert "No state write since this lock was taken. DynamoDB" in text
    assert "On what evidence" not in site().client.get("/audit/12").text


def test_the_exact_lock_record_is_shown() -> None:
    text = site().client.get("/audit/3").text
    kept = re.search(r'<pre class="exact"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert kept

    assert html.unescape(kept[1]) == lock()["raw"]


def test_a_lock_attribute_that_is_no_text_is_shown_as_it_is_typed() -> None:
    _, outcome = attempt(1, "force_unlock", IAM, facts=plan(releases=[lock(attribute={"N": "7"})]))

    assert 'Record {"N": "7"}' in words(entries(outcome).client.get("/audit/1").text)


def test_a_digest_entry_without_a_value_is_called_that() -> None:
    change = plan(digest={"absent": False, "old": None, "new": "b" * 32})
    _, outcome = attempt(1, "set_digest", IAM, facts=change)

    assert "Digest no value → bbbbbbbb…" in row(entries(outcome).client.get("/audit").text, 1)


def test_a_record_tells_its_time_to_the_microsecond() -> None:
    log = FakeAudit(lambda: NOW)
    log.put(NOW + timedelta(microseconds=7), attempt(1, "force_unlock", IAM)[1])

    assert "When 2026-11-20 18:00:00.000007 UTC" in words(site(lambda clock: log).client.get("/audit/1").text)


def test_the_answers_of_aws_name_the_version_that_was_written() -> None:
    entry = attempt(1, "restore_version", RDS, facts=RESTORE)[1]
    step = {**receipt("s3:PutObject"), "version_id": "v-new"}
    text = words(entries(replace(entry, facts={**entry.facts, "steps": [step]})).client.get("/audit/1").text)

    assert "s3:PutObject done version v-new REQ0001EXAMPLE" in text


def test_who_unlocked_a_state_why_on_what_evidence_and_what_aws_answered_is_one_click_from_the_search() -> (
    None
):
    client = site().client
    found = client.get(
        "/audit?key=iam&action=force_unlock&kind=outcome&since=2026-11-02&until=2026-11-02"
    ).text
    assert numbers(found) == [3]
    opened = re.search(r'class="key" href="([^"]+)"', found)
    assert opened
    told = words(client.get(html.unescape(opened[1])).text)

    for answer in (
        "kim : runner was killed OPS-1841",
        "loopback · 127.0.0.1",
        "On what evidence Suspected stale",
        "held by root@runner-t3qyxf-project-7120",
        "dynamodb:DeleteItem done REQ0001EXAMPLE",
    ):
        assert answer in told


# ---------------------------------------------------------------- undo, and a state's own timeline


def recent(*done: tuple[str, dict[str, object]], ago: timedelta = timedelta(minutes=2)) -> AuditSite:
    """Attempts on one state that were carried out, a second apart."""

    def made(clock: Clock) -> FakeAudit:
        log = FakeAudit(clock)
        for number, (action, facts) in enumerate(done):
            for entry in attempt(number, action, IAM, facts=facts):
                log.put(NOW - ago + timedelta(seconds=number), entry)
        return log

    return site(made, acts=True)


IAM_PAGE = f"/s/{state_id(*IAM)}"


def test_a_change_that_can_be_taken_back_links_to_its_undo() -> None:
    found = recent(("force_unlock", UNLOCK))
    text = found.client.get("/audit/2").text

    assert f'<a href="{IAM_PAGE}/undo/2">Undo…</a>' in text
    assert "Undo… until 18:13:00 UTC" in words(text)
    assert "Undo…" not in found.client.get("/audit/1").text


def test_a_lock_is_not_offered_back_after_a_quarter_of_an_hour_and_a_digest_still_is() -> None:
    late = timedelta(minutes=16)

    assert "Undo…" not in recent(("force_unlock", UNLOCK), ago=late).client.get("/audit/2").text
    assert f'href="{IAM_PAGE}/undo/2"' in recent(("set_digest", REPAIR), ago=late).client.get("/audit/2").text


def test_the_log_is_read_exported_and_verified_while_actions_are_off_and_offers_no_undo() -> None:
    found = recent(("force_unlock", UNLOCK))
    off = site(lambda clock: found.log).client

    for path in ("/audit", "/audit/2", "/audit.csv", "/audit.jsonl", IAM_PAGE):
        answer = off.get(path)
        assert answer.status_code == 200
        assert "Undo…" not in answer.text
    assert off.post("/audit/verify", headers=OWN).status_code == 303


def timeline(text: str) -> str:
    """The words of the state's part of the log."""
    found = re.search(r"<h2>Audit log</h2>(.*?)</section>", text, re.DOTALL)
    assert found
    return words(found[1])


def test_a_state_page_tells_its_own_attempts_newest_first_with_the_newest_to_undo() -> None:
    text = recent(("set_digest", REPAIR), ("force_unlock", UNLOCK)).client.get(IAM_PAGE).text

    assert timeline(text) == (
        "2026-11-20 17:58:01 UTC Done Force-unlock kim: runner was killed Undo… until 18:13:01 UTC"
        " 2026-11-20 17:58:00 UTC Done Set the digest kim: runner was killed"
        " All 4 records of this state"
    )
    assert f'href="/audit?state_id={state_id(*IAM)}"' in text


def test_what_an_undo_took_back_is_not_offered_again() -> None:
    text = timeline(recent(("set_digest", REPAIR), ("undo", REPAIR)).client.get(IAM_PAGE).text)

    assert "Undo kim: runner was killed" in text
    assert "Undo…" not in text


def test_an_attempt_at_work_stands_in_the_timeline_as_open() -> None:
    text = timeline(site().client.get(f"/s/{state_id(*CDN)}").text)

    assert text.startswith("2026-11-20 17:59:48 UTC Open Take the lock over kim: laptop lost")
    assert "Intent" not in text


def test_a_state_that_nobody_touched_says_so() -> None:
    text = site(FakeAudit).client.get(IAM_PAGE).text

    assert timeline(text) == "Nothing was attempted on this state through Lockboard."


def test_a_log_that_does_not_answer_hides_nothing_else_of_a_state() -> None:
    answer = site(Dead).client.get(IAM_PAGE)

    assert answer.status_code == 200
    assert timeline(answer.text).startswith("The audit log does not answer, so it is not known what was done")
    assert "What to do" in answer.text


def test_an_open_intent_says_that_nothing_is_known_yet() -> None:
    text = words(site().client.get("/audit/13").text)

    assert "Open 2026-11-20 17:59:48 UTC" in text
    assert "No outcome is recorded yet" in text
    assert "What was planned" in text
    assert "Planned 1a2b3c4d5e6f708192a3b4c5d6e7f809" in text


def test_an_answered_intent_is_not_open() -> None:
    text = words(site().client.get("/audit/2").text)

    assert "No outcome is recorded yet" not in text
    assert "Record 3 2026-11-02 18:00:00 UTC Done Outcome: Force-unlock" in text


def test_an_approved_attempt_at_work_says_that_no_outcome_is_there_yet() -> None:
    intent, outcome = attempt(1, "force_unlock", RDS)
    asked = replace(intent, kind=Kind.EVENT, action="approval_requested", person=ALEX)
    found = entries(asked, replace(asked, action="approval_given", person=KIM), intent)

    assert "No outcome is recorded yet" in found.client.get("/audit/3").text
    found.log.append(outcome)
    assert "No outcome is recorded yet" not in found.client.get("/audit/3").text


def test_a_restore_names_the_version_that_was_written() -> None:
    entry = attempt(1, "restore_version", RDS, facts=RESTORE)[1]
    entry = replace(entry, facts={**entry.facts, "written": {"version_id": "v-new", "etag": "e"}})

    assert "written as version v-new" in words(entries(entry).client.get("/audit/1").text)


def test_a_record_says_what_it_takes_back_and_that_it_was_settled_later() -> None:
    entry = attempt(1, "undo", RDS, facts=REPAIR)[1]
    entry = replace(entry, facts={**entry.facts, "undoes": 9, "reconciled": True})
    text = entries(entry).client.get("/audit/1").text

    assert '<a href="/audit/9">Record 9</a>' in text
    assert "Settled by reading AWS, after the process that began it had stopped." in words(text)


def test_a_state_that_is_gone_from_the_inventory_is_named_without_a_link() -> None:
    text = entries(attempt(1, "force_unlock", ("prod-kr", "gone.tfstate"))[1]).client.get("/audit/1").text

    assert "gone.tfstate not in the inventory now" in words(text)
    assert f'href="/s/{state_id("prod-kr", "gone.tfstate")}"' not in text


def test_a_very_large_record_is_shown_and_not_copied() -> None:
    entry = replace(
        attempt(1, "force_unlock", IAM)[1], facts={"plan": plan(releases=[lock(raw="x" * 400_000)])}
    )
    answer = entries(entry).client.get("/audit/1")

    assert answer.status_code == 200
    assert "Copy it" not in answer.text
    assert "x" * 400_000 in answer.text


@pytest.mark.parametrize("seq", ["0", "14", "9" * 40, "-1", "one"])
def test_a_number_that_no_record_has_is_not_found(seq: str) -> None:
    assert site().client.get(f"/audit/{seq}").status_code == 404


def test_a_number_past_the_end_is_told_where_the_log_ends() -> None:
    assert "The log has no record 14: it ends with 13." in site().client.get("/audit/14").text
    assert "The log has no record 1: it is empty." in site(FakeAudit).client.get("/audit/1").text


# ---------------------------------------------------------------- exports


def jsonl(answer: TestResponse) -> tuple[dict[str, object], list[str], dict[str, object]]:
    """The line about the file, those of the records, and the last one."""
    first, *middle, last = answer.text.splitlines()
    return json.loads(first), middle, json.loads(last)


def test_json_lines_carry_the_exact_records_and_verify_by_themselves() -> None:
    found = site()
    about, lines, end = jsonl(found.client.get("/audit.jsonl"))
    rows = [
        Stored(
            json.loads(line)["seq"],
            re.sub(r'^\{.*?"record":(.*)\}$', r"\1", line, flags=re.DOTALL),
            json.loads(line)["mac"],
            {},
        )
        for line in reversed(lines)
    ]

    assert verify(rows, KEY, [Head(13, str(about["head_mac"]))]) == Verification(
        13, Head(13, found.log.records[12].mac), tail_proven=True
    )
    assert {
        name: about[name] for name in ("filter", "count", "first_seq", "last_seq", "head_seq", "exported_as")
    } == {
        "filter": "",
        "count": 13,
        "first_seq": 1,
        "last_seq": 13,
        "head_seq": 13,
        "exported_as": 14,
    }
    assert end == {"end": True, "count": 13}


def test_an_export_holds_what_its_filter_keeps() -> None:
    about, lines, end = jsonl(site().client.get("/audit.jsonl?person=kim&kind=outcome&before=3"))

    assert [json.loads(line)["seq"] for line in lines] == [9, 3]
    assert (about["filter"], about["first_seq"], about["last_seq"], end["count"]) == (
        "kind=outcome&person=kim",
        3,
        9,
        2,
    )


def test_an_export_without_a_match_is_still_whole() -> None:
    about, lines, end = jsonl(site().client.get("/audit.jsonl?person=nobody"))

    assert (about["count"], about["first_seq"], about["last_seq"], lines, end["count"]) == (0, 0, 0, [], 0)


def test_a_count_that_is_not_known_is_not_given() -> None:
    found = site()
    found.log.counted = 5

    assert jsonl(found.client.get("/audit.jsonl"))[0]["count"] is None
    assert "count: not counted" in found.client.get("/audit.csv").text
    assert "Exported many records" in found.log.records[13].entry.message


def table(text: str) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """The line about the file, the records by column, the last line."""
    first, names, *rows, last = list(csv.reader(io.StringIO(text)))
    return first, [dict(zip(names, cells, strict=True)) for cells in rows], last


def test_csv_has_a_line_for_each_record_under_its_columns() -> None:
    first, rows, last = table(site().client.get("/audit.csv?person=kim").text)

    assert first[0] == "# Lockboard audit log, exported 2026-11-20T18:00:00Z as record 14"
    assert first[1:4] == ["filter: person=kim", "count: 5", "records 2 to 13"]
    assert first[4].startswith("chain head: 13 ")
    assert tuple(rows[0]) == COLUMNS
    assert [row["seq"] for row in rows] == ["13", "9", "8", "3", "2"]
    assert last == ["# end: 5 records"]
    assert rows[3]["at"] == "2026-11-02T18:00:00Z"
    assert rows[3]["request_ids"] == "REQ0001EXAMPLE"
    assert rows[3]["change"].startswith("Lock item: ID 6dbcc1a4-52bc")
    assert rows[3]["change"].endswith("-> removed")
    assert rows[0]["change"].startswith("planned: ")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    entry = Entry(
        kind=Kind.EVENT,
        action=text,
        person=Person(text, text, text),
        backend=text,
        bucket=text,
        key=text,
        reason=text,
        ticket=text,
        message=text,
    )
    [row] = table(entries(entry).client.get("/audit.csv").text)[1]

    for name in (
        "action",
        "person",
        "method",
        "address",
        "backend",
        "bucket",
        "key",
        "reason",
        "ticket",
        "message",
    ):
        assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert "calc" in row[name]


def test_a_csv_record_never_begins_a_line_of_its_own() -> None:
    entry = replace(attempt(1, "force_unlock", IAM)[1], reason='a "b", c\nd\r\ne\u202ef')
    text = entries(entry).client.get("/audit.csv").text

    assert len(text.splitlines()) == 4
    assert table(text)[1][0]["reason"] == 'a "b", c\\x0ad\\x0d\\x0ae\\u202ef'


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=40, max_size=40))
def test_whatever_the_texts_an_export_has_one_line_for_each_record_and_no_formula(texts: list[str]) -> None:
    found = [
        replace(attempt(n, "force_unlock", IAM)[1], reason=said, ticket=said, message=said, key=f"a/{said}")
        for n, said in enumerate(texts)
    ]
    client = entries(*found).client
    answer = client.get("/audit.csv").text
    _, records, last = table(answer)
    cells = [cell for record in records for cell in record.values()]

    assert len(answer.split("\r\n")) == len(found) + len(["about", "columns", "end", ""])
    assert last == ["# end: 40 records"]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert not {"\n", "\r", "\t"} & set("".join(cells))
    exported = len(client.get("/audit.jsonl").text.split("\n"))
    assert exported == len(found) + len(["the export before", "about", "end", ""])


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_is_recorded_before_its_first_byte(form: str) -> None:
    found = site()
    answer = found.client.get(f"/audit.{form}?person=kim&since=2026-11-01")
    noted = found.log.records[-1]

    assert answer.status_code == 200
    assert (noted.seq, noted.entry.kind, noted.entry.action, noted.entry.person) == (
        14,
        Kind.EVENT,
        "export",
        KIM,
    )
    assert noted.entry.facts == {
        "format": form,
        "filter": "person=kim&since=2026-11-01",
        "count": 5,
        "first_seq": 2,
        "last_seq": 13,
        "head_seq": 13,
        "head_mac": found.log.records[12].mac,
    }
    name = {"csv": "CSV", "jsonl": "JSON lines"}[form]
    assert noted.entry.message == (
        f"Exported 5 records of the audit log as {name}: by kim, since 1 Nov 2026."
    )


def test_an_export_says_of_which_part_of_the_log_it_is() -> None:
    rights = Rights((Grant(Role.AUDITOR, Area("prod-kr", "Prod/")), Grant(Role.AUDITOR, Area("dev-kr"))))
    found = site(rights=rights)
    first, rows, _ = table(found.client.get("/audit.csv").text)

    assert {(row["backend"], row["key"].partition("/")[0]) for row in rows} == {
        ("prod-kr", "Prod"),
        ("dev-kr", "batch"),
    }
    assert first[1] == "filter: none"
    assert first[5] == "part: only what this person may read: dev-kr; prod-kr, keys under Prod/"
    noted = found.log.records[-1].entry
    assert noted.message == (
        "Exported 8 records of the audit log as CSV: only what this person may read: dev-kr; prod-kr, keys"
        " under Prod/."
    )
    assert noted.facts["part"] == [["dev-kr", ""], ["prod-kr", "Prod/"]]
    about, _, _ = jsonl(found.client.get("/audit.jsonl?person=kim"))
    assert about["part"] == noted.facts["part"]
    assert found.log.records[-1].entry.message.endswith("keys under Prod/, by kim.")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_cannot_be_recorded_is_not_exported(form: str) -> None:
    found = site()
    found.log.broken = True
    answer = found.client.get(f"/audit.{form}")

    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.data)["status"] == 503
    assert json.loads(answer.data)["error"].startswith(
        "The database is read-only. Nothing was changed in AWS"
    )
    assert [query for query in found.log.asked if query.limit != 1] == []


def test_a_check_that_cannot_be_recorded_says_that_nothing_was_changed() -> None:
    found = site()
    found.log.broken = True
    answer = found.client.post("/audit/verify", headers=OWN)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "The audit log cannot be used" in answer.text
    assert "Nothing was changed in AWS" in answer.text
    assert "The database is read-only." in answer.text
    protected(answer)


def test_a_lost_outcome_is_told_in_its_own_words_and_not_as_nothing_changed() -> None:
    class Lost(FakeAudit):
        def page(self, query: AuditQuery) -> object:  # type: ignore[override]
            raise Halted("The lock item was removed. But the outcome could not be recorded.")

    answer = site(Lost).client.get("/audit")

    assert answer.status_code == 503
    assert "The lock item was removed. But the outcome could not be recorded." in answer.text
    assert "Nothing was changed" not in answer.text


def test_a_log_that_cannot_be_read_halfway_gives_no_half_file_that_looks_whole() -> None:
    class Torn(FakeAudit):
        def export(self, query: AuditQuery) -> Iterator[Record]:
            yield from self._matching(query)[:100]
            raise AuditError("the connection was lost")

    log = many(300)
    torn = Torn(log.clock, log.records)
    answer = site(lambda clock: torn).client.get("/audit.jsonl", buffered=False)
    pieces: list[bytes] = []
    with pytest.raises(AuditError):
        pieces.extend(bytes(piece) for piece in answer.response if isinstance(piece, bytes))

    assert b'"end"' not in b"".join(pieces)


def test_a_log_that_cannot_be_read_at_all_gives_an_error_and_no_file() -> None:
    class Gone(FakeAudit):
        def export(self, query: AuditQuery) -> Iterator[Record]:
            raise AuditError("the connection was lost")

    assert site(lambda clock: Gone(clock, many(3).records)).client.get("/audit.csv").status_code == 503


def test_an_export_of_many_records_is_sent_in_pieces_and_reads_a_batch_at_a_time() -> None:
    log = many(400)
    answer = site(lambda clock: log).client.get("/audit.jsonl")
    pieces = [bytes(piece) for piece in answer.response if isinstance(piece, bytes)]

    assert len(pieces) > 10
    assert max(map(len, pieces)) < 100_000
    assert len(b"".join(pieces).splitlines()) == 802


def seeded(url: str, count: int) -> SqlAudit:
    """A real log with as many records, of whom every fourth one is KIM's."""
    engine = open_engine(url)
    migrate(engine)
    mac = GENESIS
    with engine.begin() as connection:
        for start in range(1, count + 1, 1000):
            rows: list[dict[str, object]] = []
            for seq in range(start, min(start + 1000, count + 1)):
                at, entry = (
                    NOW - timedelta(seconds=count - seq),
                    Entry(Kind.EVENT, "export", ALEX if seq % 4 else KIM),
                )
                body = body_of(at, entry)
                mac = mac_of(KEY, seq, mac, body)
                rows.append({"seq": seq, "body": body, "mac": mac, **columns_of(seq, at, entry)})
            connection.execute(insert(audit), rows)
    engine.dispose()
    return SqlAudit(open_audit_engine(url), KEY, lambda: NOW, lambda head, at: None)


def test_an_export_out_of_100_000_records_is_recorded_first_and_needs_no_more_memory_than_a_small_one(
    tmp_path: Path,
) -> None:
    log = seeded(f"sqlite:///{tmp_path / 'log.db'}", 100_000)
    client = client_over(log, Ticking())
    tracemalloc.start()
    try:
        answer = client.get("/audit.jsonl?person=kim", buffered=False)
        head = log.head()
        sizes, count = [], 0
        for piece in answer.response:
            assert isinstance(piece, bytes)
            sizes.append(len(piece))
            count += piece.count(b"\n")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert head is not None
    assert head.seq == 100_001
    assert count == 25_002
    assert sum(sizes) > 8_000_000
    assert max(sizes) < 100_000
    assert most < 4_000_000


@pytest.mark.parametrize("path", ["/audit", "/audit/1", "/audit.csv"])
def test_a_database_that_lost_its_log_is_a_503_and_the_board_still_answers(tmp_path: Path, path: str) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    client = client_over(seeded(url, 3), Ticking())
    assert client.get("/audit/1").status_code == 200
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE audit"))
    engine.dispose()

    answer = client.get(path)
    assert answer.status_code == 503
    assert "The audit log" in answer.text
    assert client.get("/states?view=all").status_code == 200


def test_a_record_appended_during_an_export_is_not_in_it() -> None:
    class Busy(FakeAudit):
        def export(self, query: AuditQuery) -> Iterator[Record]:
            self.put(NOW, attempt(99, "force_unlock", IAM)[0])
            yield from self._matching(query)

    log = many(3)
    about, lines, end = jsonl(site(lambda clock: Busy(clock, log.records)).client.get("/audit.jsonl"))

    assert [json.loads(line)["seq"] for line in lines] == [6, 5, 4, 3, 2, 1]
    assert about["count"] == end["count"] == 6


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("where", ["cross-site", "same-site"])
def test_another_site_cannot_have_an_export_recorded(form: str, where: str) -> None:
    found = site()

    assert found.client.get(f"/audit.{form}", headers={"Sec-Fetch-Site": where}).status_code == 403
    assert len(found.log.records) == 13


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_asking_for_the_head_of_an_export_records_nothing(form: str) -> None:
    found = site()

    assert found.client.head(f"/audit.{form}").status_code == 200
    assert len(found.log.records) == 13


def test_exports_are_files_with_a_date_in_their_name() -> None:
    client = site().client

    assert (
        client.get("/audit.csv").headers["Content-Disposition"]
        == 'attachment; filename="lockboard-audit-20261120T180000Z.csv"'
    )
    assert client.get("/audit.jsonl").headers["Content-Type"] == "application/x-ndjson"


# ---------------------------------------------------------------- hostile text


def poisoned(poison: str) -> tuple[Entry, ...]:
    """An attempt, a refusal and an event whose every free text is the poison."""
    intent, outcome = attempt(
        1,
        "force_unlock",
        ("prod-kr", f"a/{poison}"),
        Person(poison, poison, poison),
        reason=poison,
        ticket=poison,
        message=poison,
        facts=plan(
            releases=[lock(who=poison, id=poison, operation=poison, raw=poison, attribute={"S": poison})],
            digest={"absent": False, "old": {"S": poison}, "new": poison},
        ),
    )
    step = {"operation": poison, "sent": poison, "request_id": poison, "detail": poison}
    intent, outcome = (replace(one, bucket=poison, backend=poison) for one in (intent, outcome))
    evidence = {"summary": poison, "evidence": [{"fact": poison, "source": poison}]}
    intent = replace(intent, facts={**intent.facts, "seen": evidence})
    outcome = replace(outcome, facts={**outcome.facts, "steps": [step], poison: poison})
    refusal = replace(intent, kind=Kind.REFUSAL, action_id=uuid(2), result="refused", message=poison)
    event = Entry(
        Kind.EVENT, "verify", Person(poison, poison, poison), message=poison, facts={"problem": poison}
    )
    return intent, outcome, refusal, event


def pages(poison: str) -> list[list[tuple[str, tuple[str, ...]]]]:
    client = entries(*poisoned(poison)).client
    paths = ("/audit", "/audit/1", "/audit/2", "/audit/3", "/audit/4")
    found = [client.get(path) for path in paths]
    assert [answer.status_code for answer in found] == [200] * len(paths)
    return [[(tag, sorted_names(names)) for tag, names in skeleton(answer.text)] for answer in found]


def sorted_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Without the attribute that marks what is chosen, whose place in a menu follows the alphabet."""
    return tuple(name for name in names if not name.startswith("selected"))


BASELINE = pages("harmless")


@pytest.mark.parametrize("payload", [*PAYLOADS, "a\u202eb\x1b[31m\x00\ud800", "\ufeff" * 5 + "x"])
def test_a_hostile_record_has_the_skeleton_of_a_harmless_one(payload: str) -> None:
    assert pages(payload) == BASELINE


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda text: text.strip() == text and "/" not in text))
def test_whatever_the_text_the_skeleton_stays(payload: str) -> None:
    assert pages(payload) == BASELINE


@pytest.mark.parametrize("name", ["person", "key", "ticket", "backend"])
def test_a_hostile_address_is_only_text(name: str) -> None:
    client = site().client
    harmless = skeleton(client.get("/audit", query_string={name: "harmless"}).text)

    for payload in PAYLOADS:
        answer = client.get("/audit", query_string={name: payload})
        assert [tag for tag, _ in skeleton(answer.text)] == [tag for tag, _ in harmless]
        assert "<script>alert" not in answer.text


def test_characters_that_change_how_text_reads_are_written_as_escapes() -> None:
    client = entries(*poisoned("a\u202egpj.exe\x1b[31m\u200b")).client

    for path in ("/audit", "/audit/1", "/audit/2", "/audit/4", "/audit.csv", "/audit.jsonl"):
        shown = client.get(path).text
        data = re.sub(r'(value|href)="[^"]*"', "", shown)
        assert not {"\u202e", "\x1b", "\u200b"} & set(data), path


def test_markup_in_a_record_is_shown_as_it_was_written() -> None:
    text = entries(*poisoned(HOSTILE)).client.get("/audit/2").text

    assert "<script>alert(1)" not in text
    assert html.escape(HOSTILE, quote=False)[:30] in text


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/audit", 200),
        ("/audit?kind=x", 400),
        ("/audit/3", 200),
        ("/audit/99", 404),
        ("/audit.csv", 200),
        ("/audit.jsonl", 200),
    ],
)
def test_every_answer_has_every_header_and_is_never_stored(path: str, code: int) -> None:
    answer = site().client.get(path)

    assert answer.status_code == code
    assert answer.headers["Cache-Control"] == "no-store"
    protected(answer)


@pytest.mark.parametrize("path", ["/audit", "/audit/3", "/audit/13"])
def test_no_id_of_a_page_is_given_twice(path: str) -> None:
    ids = sorted(re.findall(r'\sid="([^"]+)"', site().client.get(path).text))

    assert [one for one, other in pairwise(ids) if one == other] == []


def test_unlocks_of_the_week_have_what_the_other_tests_rely_on() -> None:
    log = week(lambda: NOW)

    assert log.records[1].entry.facts["plan"] == UNLOCK
    assert log.verify().ok
