"""What programs get: by their tokens' rights, for every kind of request, right or wrong, and always JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from werkzeug.test import TestResponse

from lockboard.domain.audit import AuditError, Entry, Kind, Result
from lockboard.domain.errors import AccessDenied, LockboardError, StoreError, Throttled
from lockboard.domain.plans import Wanted
from lockboard.services.attempts import Answer, Form, Halted, NotPermitted, UnknownState
from lockboard.services.tickets import BadToken
from tests.web.api_site import (
    AUDITOR,
    CRASHED,
    DELETED,
    LIVE,
    NARROW,
    OPERATOR,
    STALE,
    VIEWER,
    api_site,
    bearer,
)

PLANS, ACTIONS = f"/states/{STALE}/plans", f"/states/{STALE}/actions"
UNLOCK = {"action": "force_unlock"}
WHY = "The runner was killed"


def error_of(answer: TestResponse, status: int) -> str:
    """The words of an error, which is JSON with its status, whatever happened."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    found = answer.get_json()
    assert found["status"] == status
    assert found["error"]
    return str(found["error"])


# ---------------------------------------------------------------- who is let in


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer lbt_unknown", "Basic bGJ0X29wZXJhdG9yOg=="]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whoever_sends_no_good_token_is_asked_for_one(method: str, header: str) -> None:
    site = api_site()
    path = PLANS if method == "POST" else "/states"
    headers = {"Authorization": header} if header else {}
    answer = site.client.open(f"/api/v1{path}", method=method, json=UNLOCK, headers=headers)

    assert "lbt_" in error_of(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not site.actions.prepared


def test_a_token_is_good_until_its_end_and_no_longer() -> None:
    site = api_site()
    site.clock.at += timedelta(days=90, seconds=-1)
    assert site.get("/states").status_code == 200

    site.clock.at += timedelta(seconds=1)
    error_of(site.get("/states"), 401)


def test_a_revoked_token_opens_nothing_from_the_next_request_on() -> None:
    site = api_site()
    token = site.tokens.tokens[VIEWER]
    assert site.get("/states", VIEWER).status_code == 200

    site.tokens.revoke(token.number, site.clock())

    error_of(site.get("/states", VIEWER), 401)


def test_a_token_opens_no_page() -> None:
    site = api_site()

    assert site.client.get("/states", headers=bearer(OPERATOR)).status_code == 401


@pytest.mark.parametrize("secret", [VIEWER, AUDITOR])
@pytest.mark.parametrize("path", [PLANS, ACTIONS])
def test_who_may_only_look_gets_403_for_an_action(path: str, secret: str) -> None:
    site = api_site()
    error_of(site.post(path, {"token": "t", "reason": WHY} if path == ACTIONS else UNLOCK, secret), 403)

    assert not site.actions.prepared
    assert not site.actions.sent


@pytest.mark.parametrize("path", ["", "/plans", "/actions"])
def test_a_state_outside_of_a_tokens_area_is_as_one_that_is_not_there(path: str) -> None:
    site = api_site()
    there, nowhere = [
        site.get(f"/states/{id_}", NARROW) if not path else site.post(f"/states/{id_}{path}", UNLOCK, NARROW)
        for id_ in (STALE, "0" * 16)
    ]

    error_of(there, 404)
    assert there.data == nowhere.data
    assert not site.actions.prepared


def test_a_narrow_token_lists_its_area_alone() -> None:
    found = api_site().get("/states", NARROW).get_json()

    assert {(state["backend"], state["key"].partition("/")[0]) for state in found["states"]} == {
        ("dev-kr", "Dev")
    }
    assert [backend["name"] for backend in found["backends"]] == ["dev-kr"]


def test_a_narrow_token_acts_within_its_area() -> None:
    site = api_site()
    answer = site.post(f"/states/{LIVE}/plans", UNLOCK, NARROW)

    assert answer.status_code == 200
    assert site.actions.prepared[0][0].subject == f"token|{site.tokens.tokens[NARROW].number}|kim"


def test_where_actions_are_off_nothing_is_planned_or_done() -> None:
    site = api_site(acts=False)

    assert "switched off" in error_of(site.post(PLANS, UNLOCK), 403)
    assert "switched off" in error_of(site.post(ACTIONS, {"token": "t", "reason": WHY}), 403)
    assert site.get("/states").status_code == 200


# ---------------------------------------------------------------- a plan and its action


def test_a_plan_says_what_would_be_done_on_what_evidence_and_until_when() -> None:
    site = api_site()
    plan = site.plan(LIVE)

    assert plan["action"] == "force_unlock"
    assert plan["expires_at"] == "2026-11-20T18:02:00Z"
    assert plan["state"]["id"] == LIVE
    assert plan["state"]["locks"][0]["who"] == "minji@Minji-ThinkPad"
    assert plan["state"]["checked_at"] == "2026-11-20T18:00:00Z"
    assert plan["calls"]
    assert plan["confirm"] == "eks"
    assert plan["undoes"] is None
    assert not site.actions.sent


def test_a_plan_and_its_action_are_done_in_the_tokens_name() -> None:
    site = api_site()
    plan = site.plan()
    sent = {"token": plan["token"], "reason": WHY, "ticket": "OPS-311"}
    answer = site.post(ACTIONS, {**sent, "confirm": plan["confirm"], "serial": plan["serial"]})

    assert answer.status_code == 200
    assert answer.get_json()["result"] == "done"
    record = site.log.record(answer.get_json()["record"])
    assert record is not None
    person = record.entry.person
    assert (person.name, person.method, person.subject) == ("operator", "token", "token|2|kim")
    assert (record.entry.reason, record.entry.ticket) == (WHY, "OPS-311")
    assert site.get(f"/states/{STALE}").get_json()["lock"] == "unlocked"


@pytest.mark.parametrize(
    ("id_", "fields", "wanted"),
    [
        (STALE, {"action": "force_unlock", "store": "dynamodb"}, ("force_unlock", "dynamodb", "")),
        (DELETED, {"action": "restore_version", "version_id": "v-0"}, ("restore_version", "", "v-0")),
        (DELETED, {"action": "clear_digest"}, ("clear_digest", "", "")),
        (CRASHED, {"action": "take_over"}, ("take_over", "", "")),
        (CRASHED, {"action": "take_over", "version_id": "v-0"}, ("take_over", "", "v-0")),
        (CRASHED, {"action": "set_digest"}, ("set_digest", "", "")),
    ],
)
def test_every_action_is_asked_for_by_its_name(
    id_: str, fields: dict[str, str], wanted: tuple[str, str, str]
) -> None:
    site = api_site()
    site.post(f"/states/{id_}/plans", fields)
    [(_, asked_id, found)] = site.actions.prepared

    assert asked_id == id_
    assert isinstance(found, Wanted)
    assert (found.action.value, found.store, found.version_id) == wanted


def test_an_undo_is_asked_for_by_the_number_of_its_record() -> None:
    site = api_site()
    plan = site.plan()
    done = site.post(ACTIONS, {"token": plan["token"], "reason": WHY, "confirm": plan["confirm"]}).get_json()

    undo = site.plan(STALE, "undo", record=done["record"])

    assert (undo["action"], undo["undoes"]) == ("undo", done["record"])


@pytest.mark.parametrize("number", [1, 4711, 2**63 - 1])
def test_what_no_record_of_this_state_tells_cannot_be_undone(number: int) -> None:
    error_of(api_site().post(PLANS, {"action": "undo", "record": number}), 404)


def test_a_plan_that_is_not_possible_says_why() -> None:
    site = api_site()
    answer = site.post(f"/states/{DELETED}/plans", UNLOCK)

    error_of(answer, 409)
    assert answer.get_json()["gone"] is True


def test_what_has_to_be_typed_is_said_by_field() -> None:
    site = api_site()
    plan = site.plan(LIVE)
    answer = site.post(f"/states/{LIVE}/actions", {"token": plan["token"], "reason": "x", "confirm": "rds"})

    error_of(answer, 422)
    assert set(answer.get_json()["problems"]) == {"reason", "confirm"}
    assert len(site.log.records) == 3


# ---------------------------------------------------------------- what became of it


def told(result: Result, message: str = "So it is.", **more: object) -> Callable[[str, Form], Answer]:
    return lambda token, form: Answer(result, message, "an-id", 7, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.DONE, 200),
        (Result.NO_CHANGE, 200),
        (Result.REFUSED, 409),
        (Result.FAILED, 502),
        (Result.UNKNOWN, 504),
    ],
)
def test_only_what_is_as_it_was_wanted_is_a_success(result: Result, status: int) -> None:
    site = api_site()
    site.actions.told = told(result)
    answer = site.post(ACTIONS, {"token": "t", "reason": WHY})
    found = answer.get_json()

    assert answer.status_code == status
    assert (found["result"], found["message"], found["record"]) == (result.value, "So it is.", 7)
    assert ("error" in found) == (status >= 400)
    if status >= 400:
        assert error_of(answer, status) == "So it is."


def test_every_result_has_a_status() -> None:
    for result in Result:
        site = api_site()
        site.actions.told = told(result)
        assert site.post(ACTIONS, {"token": "t", "reason": WHY}).get_json()["result"] == result.value


def test_a_world_that_moved_is_a_409_that_says_so() -> None:
    site = api_site()
    site.actions.told = told(Result.REFUSED, "The lock is not as the page showed it.", moved=True)

    assert "not as" in error_of(site.post(ACTIONS, {"token": "t", "reason": WHY}), 409)


def test_what_waits_for_a_second_person_is_accepted_and_not_done() -> None:
    site = api_site()
    site.actions.told = told(Result.NO_CHANGE, "Nothing was done yet.", waits=12)
    answer = site.post(ACTIONS, {"token": "t", "reason": WHY})

    assert answer.status_code == 202
    assert (answer.get_json()["result"], answer.get_json()["request"]) == ("waiting", 12)


def test_a_token_sent_again_says_that_it_was() -> None:
    site = api_site()
    site.actions.told = told(Result.DONE, replayed=True)

    assert site.post(ACTIONS, {"token": "t", "reason": WHY}).get_json()["replayed"] is True


FAILURES: list[tuple[LockboardError, int, str]] = [
    (BadToken("not ours"), 400, "Ask for a plan again. Nothing was done."),
    (NotPermitted("This key is protected.", 12), 403, "This key is protected. Nothing was done."),
    (UnknownState("No state key has this address."), 404, "No state key has this address."),
    (Throttled("s3:GetObject", "SlowDown", "Reduce"), 502, "Nothing was done: AWS could not be read."),
    (AuditError("read-only"), 503, "Nothing was done: the audit log cannot be used: read-only."),
    (Halted("It was unlocked. But the outcome could not be recorded."), 503, "It was unlocked."),
]


@pytest.mark.parametrize(("error", "status", "words"), FAILURES, ids=[type(f[0]).__name__ for f in FAILURES])
@pytest.mark.parametrize("path", [PLANS, ACTIONS])
def test_every_failure_has_its_status_and_says_what_was_done(
    path: str, error: LockboardError, status: int, words: str
) -> None:
    site = api_site()
    site.actions.error = error
    answer = site.post(path, UNLOCK if path == PLANS else {"token": "t", "reason": WHY})

    assert words in error_of(answer, status)
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_a_permission_that_aws_asks_for_is_named() -> None:
    site = api_site()
    site.actions.error = AccessDenied("dynamodb:GetItem", "AccessDeniedException", "no")
    answer = site.post(PLANS, UNLOCK)

    error_of(answer, 502)
    assert answer.get_json()["missing_permission"] == "dynamodb:GetItem"


def test_a_refusal_that_was_recorded_names_its_record() -> None:
    site = api_site()
    site.actions.error = NotPermitted("This key is protected.", 12)

    assert site.post(ACTIONS, {"token": "t", "reason": WHY}).get_json()["record"] == 12


@pytest.mark.parametrize(("error", "status"), [(StoreError("locked"), 503), (RuntimeError("no"), 500)])
def test_an_accident_in_an_action_does_not_claim_that_nothing_was_done(error: Exception, status: int) -> None:
    site = api_site()
    site.actions.error = error

    assert "is not known" in error_of(site.post(ACTIONS, {"token": "t", "reason": WHY}), status)
    assert "is not known" not in error_of(site.post(PLANS, UNLOCK), status)


# ---------------------------------------------------------------- what cannot be read

DEEP = b'{"action": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
NOT_JSON = {
    "nothing": b"",
    "no JSON": b"action=force_unlock",
    "half of it": b'{"action": "force',
    "an array": b'["force_unlock"]',
    "a text": b'"force_unlock"',
    "null": b"null",
    "NaN": b'{"action": NaN}',
    "infinity": b'{"action": "undo", "record": Infinity}',
    "beyond infinity": b'{"action": "undo", "record": 1e999}',
    "a field twice": b'{"action": "force_unlock", "action": "set_digest"}',
    "deep": DEEP,
    "deep in a field of no use": b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
    "not UTF-8": b'{"action": "force_\xff"}',
    "UTF-16": '{"action": "force_unlock"}'.encode("utf-16"),
    "a surrogate in bytes": b'{"action": "\xed\xa0\x80"}',
    "a number of 5,000 digits": b'{"action": "undo", "record": ' + b"9" * 5_000 + b"}",
    "a mark of byte order": b'\xef\xbb\xbf{"action": "force_unlock"}',
}


@pytest.mark.parametrize("path", [PLANS, ACTIONS])
@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_a_json_object_is_refused(data: bytes, path: str) -> None:
    site = api_site()
    error_of(site.send(path, data), 400)

    assert not site.actions.prepared
    assert not site.actions.sent


NO_PLANS = [
    {},
    {"action": None},
    {"action": 1},
    {"action": ["force_unlock"]},
    {"action": "FORCE_UNLOCK"},
    {"action": "delete_everything"},
    {"action": "force_unlock", "store": ""},
    {"action": "force_unlock", "store": None},
    {"action": "force_unlock", "store": "s3"},
    {"action": "force_unlock", "version_id": "v-0"},
    {"action": "force_unlock", "digest": "0" * 32},
    {"action": "set_digest", "store": "dynamodb"},
    {"action": "restore_version"},
    {"action": "restore_version", "version_id": ""},
    {"action": "restore_version", "version_id": None},
    {"action": "restore_version", "version_id": 7},
    {"action": "restore_version", "version_id": "v" * 1025},
    {"action": "take_over", "record": 1},
    {"action": "undo"},
    {"action": "undo", "record": "1"},
    {"action": "undo", "record": True},
    {"action": "undo", "record": 0},
    {"action": "undo", "record": -1},
    {"action": "undo", "record": 1.5},
    {"action": "undo", "record": 2**63},
    {"action": "undo", "record": 10**400},
    {"action": "force_unlock", "\ud800": "lone"},
]


@pytest.mark.parametrize("body", NO_PLANS, ids=lambda body: json.dumps(body)[:60])
def test_what_no_plan_can_be_made_of_is_refused(body: dict[str, object]) -> None:
    site = api_site()
    error_of(site.post(PLANS, body), 400)

    assert not site.actions.prepared


NO_ACTIONS = [
    {},
    {"token": "t"},
    {"reason": WHY},
    {"token": None, "reason": WHY},
    {"token": "t", "reason": None},
    {"token": "t", "reason": 5},
    {"token": ["t"], "reason": WHY},
    {"token": "t", "reason": WHY, "ticket": None},
    {"token": "t", "reason": WHY, "confirm": 1},
    {"token": "t", "reason": WHY, "serial": 41},
    {"token": "t", "reason": WHY, "digest": "0" * 32},
    {"token": "t", "reason": WHY, "person": "somebody else"},
]


@pytest.mark.parametrize("body", NO_ACTIONS, ids=lambda body: json.dumps(body)[:60])
def test_what_no_action_can_be_made_of_is_refused(body: dict[str, object]) -> None:
    site = api_site()
    error_of(site.post(ACTIONS, body), 400)

    assert not site.actions.sent


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/problem+json"]
)
def test_what_is_not_said_to_be_json_is_not_read_as_json(kind: str) -> None:
    site = api_site()

    assert "application/json" in error_of(site.send(PLANS, b'{"action": "force_unlock"}', kind), 415)
    assert not site.actions.prepared


@pytest.mark.parametrize("path", [PLANS, ACTIONS])
def test_a_body_of_400_kb_is_too_long(path: str) -> None:
    site = api_site()
    body = json.dumps({"token": "t", "reason": "x" * 400_000, **UNLOCK}).encode()

    error_of(site.send(path, body), 413)
    assert not site.actions.sent


@pytest.mark.parametrize(
    "text", ["a lone \ud800 one", "NUL \0 NUL", "\u202egpj.exe", "\x1b[31m red", "a\r\nb: c"]
)
def test_whatever_a_reason_holds_it_is_handed_on_as_it_is(text: str) -> None:
    site = api_site()
    plan = site.plan()
    body = json.dumps({"token": plan["token"], "reason": text, "confirm": plan["confirm"]}).encode()
    answer = site.send(ACTIONS, body)

    assert answer.status_code == 200
    record = site.log.record(answer.get_json()["record"])
    assert record is not None
    assert record.entry.reason == text
    assert record.body.isascii()


@pytest.mark.parametrize("token", ["\ud800", "\0", "…", "a.b", "x" * 60_000, '{"a":1}.sig'])
def test_odd_tokens_are_of_no_plan(token: str) -> None:
    body = json.dumps({"token": token, "reason": WHY}).encode()

    error_of(api_site().send(ACTIONS, body), 413 if len(body) > 65_536 else 400)


# ---------------------------------------------------------------- addresses and methods


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/states",
        "/api/v1/states/",
        "/api/v1/states/a/b/c",
        f"/api/v1/states/{STALE}/recheck",
        "/api/v1/openapi",
    ],
)
def test_an_address_that_does_not_exist_is_a_404_in_json(path: str) -> None:
    site = api_site()

    error_of(site.client.get(path, headers=bearer(OPERATOR)), 404)


@pytest.mark.parametrize(
    "id_",
    ["0" * 16, STALE.upper(), "%00", "%ff%fe", "..", "%2e%2e", "a" * 4000, "%ED%A0%80", "-1", "' OR 1=1 --"],
)
def test_an_id_of_no_state_is_a_404(id_: str) -> None:
    site = api_site()

    error_of(site.get(f"/states/{id_}"), 404)
    error_of(site.post(f"/states/{id_}/plans", UNLOCK), 404)


@pytest.mark.parametrize(
    ("path", "methods", "allowed"),
    [
        ("/states", ("POST", "PUT", "PATCH", "DELETE"), "GET, HEAD, OPTIONS"),
        (f"/states/{STALE}", ("POST", "PUT", "PATCH", "DELETE"), "GET, HEAD, OPTIONS"),
        (PLANS, ("GET", "PUT", "PATCH", "DELETE"), "OPTIONS, POST"),
        (ACTIONS, ("GET", "PUT", "PATCH", "DELETE"), "OPTIONS, POST"),
        ("/audit", ("POST", "PUT", "PATCH", "DELETE"), "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_a_405_that_says_which_there_are(
    path: str, methods: tuple[str, ...], allowed: str
) -> None:
    site = api_site()
    for method in methods:
        answer = site.client.open(f"/api/v1{path}", method=method, headers=bearer(OPERATOR))
        error_of(answer, 405)
        assert answer.headers["Allow"] == allowed


def test_nothing_is_done_by_get_whatever_method_it_claims_to_be() -> None:
    site = api_site()
    for headers in ({"X-HTTP-Method-Override": "POST"}, {"X-HTTP-Method": "POST"}):
        answer = site.client.get(f"/api/v1{ACTIONS}?_method=POST", headers={**bearer(OPERATOR), **headers})
        error_of(answer, 405)

    assert not site.actions.sent


def test_a_list_that_does_not_exist_is_a_400_that_says_which_do() -> None:
    assert "attention" in error_of(api_site().get("/states?view=everything"), 400)


def test_a_store_that_fails_is_a_503_in_json() -> None:
    site = api_site()
    site.board.broken = True
    for path in ("/states", f"/states/{STALE}"):
        answer = site.get(path)
        error_of(answer, 503)
        assert answer.headers["Retry-After"] == "5"


def test_too_many_requests_are_told_when_to_come_back() -> None:
    site = api_site()
    for _ in range(120):
        assert site.get("/openapi.json", VIEWER).status_code == 200
    answer = site.get("/openapi.json", VIEWER)

    error_of(answer, 429)
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert site.get("/openapi.json", OPERATOR).status_code == 200


def test_one_state_is_the_same_as_in_the_list() -> None:
    site = api_site()
    states = site.get("/states").get_json()["states"]

    for state in states[:5]:
        assert site.get(f"/states/{state['id']}").get_json() == state


# ---------------------------------------------------------------- the audit log


def lines(answer: TestResponse) -> list[dict[str, object]]:
    assert answer.status_code == 200
    assert answer.content_type == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_auditor_reads_every_record_and_that_is_recorded() -> None:
    site = api_site()
    found = lines(site.get("/audit", AUDITOR))

    assert [line.get("seq") for line in found] == [None, 3, 2, 1, None]
    assert found[-1] == {"end": True, "count": 3}
    noted = site.log.records[-1].entry
    assert (noted.action, noted.person.name, noted.person.method) == ("export", "auditor", "token")


def test_a_narrow_operator_reads_the_records_of_their_area() -> None:
    assert [line.get("seq") for line in lines(api_site().get("/audit", NARROW))] == [None, 2, None]


def test_the_log_is_narrowed_as_on_its_page() -> None:
    site = api_site()
    site.log.append(Entry(Kind.EVENT, "sign_in", site.log.records[0].entry.person, message="Signed in."))

    assert [line.get("seq") for line in lines(site.get("/audit?action=sign_in", AUDITOR))] == [None, 4, None]
    error_of(site.get("/audit?since=yesterday", AUDITOR), 400)


def test_a_viewer_does_not_read_the_log() -> None:
    site = api_site()

    assert "audit log" in error_of(site.get("/audit", VIEWER), 403)
    assert len(site.log.records) == 3


def test_where_no_log_is_kept_there_is_none_to_read() -> None:
    error_of(api_site(keeps_log=False).get("/audit", AUDITOR), 404)


def test_asking_for_the_heading_alone_is_no_export() -> None:
    site = api_site()
    answer = site.client.head("/api/v1/audit", headers=bearer(AUDITOR))

    assert answer.status_code == 200
    assert len(site.log.records) == 3


def test_an_export_that_cannot_be_recorded_is_not_made() -> None:
    site = api_site()
    site.log.broken = True

    assert "read-only" in error_of(site.get("/audit", AUDITOR), 503)


def test_another_sites_page_begins_no_export() -> None:
    site = api_site()
    headers = {**bearer(AUDITOR), "Sec-Fetch-Site": "cross-site"}

    error_of(site.client.get("/api/v1/audit", headers=headers), 403)
    assert len(site.log.records) == 3
