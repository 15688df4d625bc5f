"""Who gets in where: every role against every route and method, other people's keys, forged forms, and ways
back that lead elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.access import Area, Grant, Identity, Permission, Rights, Role
from lockboard.domain.errors import AccessDenied
from lockboard.domain.keys import state_id
from lockboard.web.access import NEEDS, Open, safe_path
from lockboard.web.entrances import PLAIN, HeaderEntrance, SessionEntrance
from tests.web.audit_fakes import CDN, IAM
from tests.web.entrances import CSRF
from tests.web.fakes import STORIES
from tests.web.people_fakes import FakeSessions, House, always, house, request_for
from tests.web.test_headers import protected

OWN = {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": CSRF}
HTMX = {**OWN, "HX-Request": "true", "HX-Request-Type": "partial"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")

HERE = Area("prod-kr", "Prod/")
RIGHTS: Mapping[str, Rights | None] = {
    "nobody": None,
    "known": Rights(),
    "viewer": Rights((Grant(Role.VIEWER),)),
    "operator": Rights((Grant(Role.OPERATOR),)),
    "extras": Rights((Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True),)),
    "auditor": Rights((Grant(Role.AUDITOR),)),
    "admin": Rights((Grant(Role.ADMINISTRATOR),)),
    "narrow": Rights((Grant(Role.ADMINISTRATOR, HERE),)),
}
KEY = state_id(*IAM)
"""Protected, under a crashed holder's lock, and within what `narrow` may do."""
SEQ = 3
"""The record of a change of that key."""

# `narrow` is an administrator of prod-kr's keys under Prod/ alone; every other role holds everywhere.
TABLE = f"""
#                                          nobody known viewer operator extras auditor admin narrow
GET    /                                      401   303    303      303    303     303   303    303
GET    /states?view=all                       401   403    200      200    200     200   200    200
GET    /states/pulse                          401   403    200      200    200     200   200    200
GET    /states.csv                            401   403    200      200    200     200   200    200
GET    /states.json                           401   403    200      200    200     200   200    200
GET    /s/{KEY}                               401   403    200      200    200     200   200    200
POST   /s/{KEY}/recheck                       401   403    303      303    303     303   303    303
GET    /find?q=nothing                        401   403    200      200    200     200   200    200
POST   /find?q=nothing                        401   403    200      200    200     200   200    200
GET    /go?lock=nothing                       401   403    404      404    404     404   404    404
GET    /health                                401   403    200      200    200     200   200    200
GET    /settings                              401   200    200      200    200     200   200    200
POST   /prefs                                 401   303    303      303    303     303   303    303
GET    /help                                  401   200    200      200    200     200   200    200
GET    /audit                                 401   403    403      200    200     200   200    200
GET    /audit/{SEQ}                           401   403    403      200    200     200   200    200
GET    /audit.csv                             401   403    403      200    200     200   200    200
GET    /audit.jsonl                           401   403    403      200    200     200   200    200
POST   /audit/verify                          401   403    403      303    303     303   303    303
GET    /s/{KEY}/unlock                        401   403    403      403    200     403   200    200
POST   /s/{KEY}/unlock                        401   403    403      400    400     403   400    400
GET    /s/{KEY}/digest                        401   403    403      200    200     403   200    200
POST   /s/{KEY}/digest                        401   403    403      400    400     403   400    400
GET    /s/{KEY}/digest/clear                  401   403    403      200    200     403   200    200
POST   /s/{KEY}/digest/clear                  401   403    403      400    400     403   400    400
GET    /s/{KEY}/restore/v-1                   401   403    403      200    200     403   200    200
POST   /s/{KEY}/restore/v-1                   401   403    403      400    400     403   400    400
GET    /s/{KEY}/takeover                      401   403    403      403    200     403   200    200
POST   /s/{KEY}/takeover                      401   403    403      400    400     403   400    400
GET    /s/{KEY}/undo/{SEQ}                    401   403    403      200    200     403   200    200
POST   /s/{KEY}/undo/{SEQ}                    401   403    403      400    400     403   400    400
GET    /approvals                             401   200    200      200    200     200   200    200
GET    /approvals/1                           401   404    404      404    200     404   200    200
POST   /approvals/1/approve                   401   404    404      404    303     404   303    303
POST   /approvals/1/decline                   401   404    404      404    303     404   303    303
GET    /people                                401   403    403      403    403     403   200    403
POST   /people/sessions/1/end                 401   403    403      403    403     403   303    403
POST   /people/tokens                         401   403    403      403    403     403   422    403
POST   /people/tokens/1/revoke                401   403    403      403    403     403   303    403
GET    /account                               401   200    200      200    200     200   200    200
POST   /signout                               401   200    200      200    200     200   200    200
GET    /signin                                200   200    200      200    200     200   200    200
POST   /signin                                403   403    403      403    403     403   403    403
GET    /signin/callback                       404   404    404      404    404     404   404    404
POST   /demo/role                             401   404    404      404    404     404   404    404
GET    /static/lockboard.css                  200   200    200      200    200     200   200    200
GET    /favicon/3.svg                         200   200    200      200    200     200   200    200
GET    /healthz                               200   200    200      200    200     200   200    200
GET    /readyz                                200   200    200      200    200     200   200    200
GET    /api/v1/openapi.json                   401   200    200      200    200     200   200    200
GET    /api/v1/states                         401   403    200      200    200     200   200    200
GET    /api/v1/states/{KEY}                   401   403    200      200    200     200   200    200
POST   /api/v1/states/{KEY}/plans             401   403    403      403    200     403   200    200
POST   /api/v1/states/{KEY}/actions           401   403    403      400    400     403   400    400
GET    /api/v1/audit                          401   403    403      200    200     200   200    200
GET    /nothing                               404   404    404      404    404     404   404    404
"""
BODIES: Mapping[str, Any] = {
    f"/api/v1/states/{KEY}/plans": {"json": {"action": "force_unlock"}},
    f"/api/v1/states/{KEY}/actions": {"json": {"token": "made-up", "reason": "because"}},
}


class Line(NamedTuple):
    """One route: its method, an address of it, and the status for each role."""

    method: str
    path: str
    codes: Mapping[str, int]


def lines() -> list[Line]:
    roles, *rows = [row.lstrip("# ").split() for row in TABLE.strip().splitlines()]
    return [Line(m, p, dict(zip(roles, map(int, codes), strict=True))) for m, p, *codes in rows]


LINES = lines()
PATHS = list(dict.fromkeys(line.path for line in LINES))


def code_of(method: str, path: str, role: str) -> int:
    """What the table says: HEAD is as GET, and OPTIONS is let through or refused as any method there is."""
    own = {line.method: line.codes[role] for line in LINES if line.path == path}
    if path == "/nothing":
        return 404
    if method == "HEAD" and "GET" in own:
        return own["GET"]
    if method == "OPTIONS":
        return options_of(path, role)
    return own.get(method, 405)


def options_of(path: str, role: str) -> int:
    """200 for whoever is let through the gate."""
    need = need_of(path)
    if need.permission in (Open.UNASKED, Open.EVERYBODY):
        return 200
    rights = RIGHTS[role]
    if rights is None:
        return 401
    allowed = need.permission is Open.SIGNED_IN or rights.somewhere(Permission(need.permission))
    return 200 if allowed else 403


APP = house(always(None)).app


def need_of(path: str) -> Any:
    adapter = APP.url_map.bind("localhost")
    endpoint, _ = adapter.match(path.partition("?")[0], method="OPTIONS")
    return NEEDS[endpoint]


class Browser(FlaskClient):
    """Reads every answer to its end, so that none keeps its place among those that are being worked on."""

    def open(self, *args: Any, **named: Any) -> Any:
        return super().open(*args, **{"buffered": True, **named})


def client_of(app: Flask) -> FlaskClient:
    app.test_client_class = Browser
    return app.test_client()


def ask(client: FlaskClient, method: str, path: str, headers: Mapping[str, str] = OWN) -> TestResponse:
    return client.open(path, method=method, headers=dict(headers), **BODIES.get(path, {}))


def furnished(role: str) -> House:
    """With a request of somebody else's, a session and a token."""
    made = house(always(RIGHTS[role]))
    made.actions.waiting.append(request_for(KEY, *IAM, made.clock()))
    made.sessions.open(Identity("local|lee", "lee", "local", frozenset(), made.clock()), "", made.clock())
    made.tokens.add("ci", "lee", [Grant(Role.VIEWER)], made.clock(), made.clock.at.replace(year=2027))
    return made


# ---------------------------------------------------------------- the lines


def test_every_endpoint_has_one_line_and_no_line_is_left_over() -> None:
    assert {rule.endpoint for rule in APP.url_map.iter_rules()} == set(NEEDS)


def test_every_endpoint_is_in_the_table_with_each_of_its_methods() -> None:
    adapter = APP.url_map.bind("localhost")
    told = {
        adapter.match(x.path.partition("?")[0], method=x.method)[0] for x in LINES if x.path != "/nothing"
    }

    assert told == set(NEEDS)


def test_an_endpoint_without_a_line_is_closed_even_to_administrators() -> None:
    app = house(always(RIGHTS["admin"])).app
    app.add_url_rule("/new", "brand.new", lambda: "brand-new page", methods=["GET", "POST"])

    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        answer = ask(client_of(app), method, "/new")
        assert (method, answer.status_code) == (method, 403)
        assert b"brand-new page" not in answer.data


@pytest.mark.parametrize("role", RIGHTS)
def test_every_route_and_method_answers_each_role_as_the_table_says(role: str) -> None:
    client = client_of(furnished(role).app)

    found = {(m, p): ask(client, m, p).status_code for p in PATHS for m in METHODS}

    assert found == {(m, p): code_of(m, p, role) for p in PATHS for m in METHODS}


@pytest.mark.parametrize("role", [role for role in RIGHTS if role != "nobody"])
def test_a_token_of_each_role_is_worth_its_role_on_the_api_and_nothing_on_pages(role: str) -> None:
    made = furnished("nobody")
    rights = RIGHTS[role]
    assert rights is not None
    secret, _ = made.tokens.add("bot", "ada", rights.grants, made.clock(), made.clock.at.replace(year=2027))
    client, bearer = client_of(made.app), {"Authorization": f"Bearer {secret}"}
    api = [path for path in PATHS if path.startswith("/api/")]
    pages = [path for path in PATHS if not path.startswith("/api/")]

    found = {(m, p): ask(client, m, p, bearer).status_code for p in api for m in METHODS}
    closed = {(m, p): ask(client, m, p, {**OWN, **bearer}).status_code for p in pages for m in METHODS}

    assert found == {(m, p): code_of(m, p, role) for p in api for m in METHODS}
    assert closed == {(m, p): code_of(m, p, "nobody") for p in pages for m in METHODS}


BAD_TOKENS = {
    "none of this text": "Bearer lbt_2",
    "an empty one": "Bearer ",
    "no scheme": "lbt_1",
    "another scheme": "Basic bGJ0XzE6",
    "two": "Bearer lbt_1, Bearer lbt_1",
    "nothing at all": "",
    "a blank": " ",
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_whoever_sends_a_bad_token_is_nobody_whatever_session_they_have(name: str) -> None:
    made = furnished("admin")
    client = client_of(made.app)
    before = made.changes

    for path in (p for p in PATHS if p.startswith("/api/")):
        method = next(line.method for line in LINES if line.path == path)
        answer = ask(client, method, path, {**OWN, "Authorization": BAD_TOKENS[name]})
        assert (path, answer.status_code) == (path, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert made.changes == before


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_a_token_that_is_over_opens_nothing(end: str) -> None:
    made = furnished("nobody")
    if end == "revoked":
        made.tokens.revoke(1, made.clock())
    else:
        made.clock.at = made.clock.at.replace(year=2028)

    answer = ask(client_of(made.app), "GET", "/api/v1/states", {"Authorization": "Bearer lbt_1"})

    assert answer.status_code == 401


def test_head_answers_as_get_does_without_a_body() -> None:
    client = client_of(furnished("admin").app)
    for path in (line.path for line in LINES if line.method == "GET" and "csv" not in line.path):
        got, head = ask(client, "GET", path), ask(client, "HEAD", path)
        assert (path, head.status_code, head.data) == (path, got.status_code, b"")
        assert head.headers.get("Location") == got.headers.get("Location")
        assert head.content_type == got.content_type


def test_no_header_and_no_field_turns_one_method_into_another() -> None:
    made = furnished("admin")
    client, before = client_of(made.app), made.changes
    override = {**OWN, "X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST", "X-Method-Override": "POST"}

    for line in LINES:
        if line.method == "POST" and not line.path.startswith(("/find", "/signin", "/s/")):
            answer = client.get(f"{line.path}?_method=POST", headers=override)
            assert (line.path, answer.status_code) == (line.path, 405)
    assert client.post("/health", data={"_method": "GET"}, headers=OWN).status_code == 405
    assert made.changes == before


def test_files_and_probes_ask_no_database_who_comes() -> None:
    sessions = FakeSessions()
    entrance = SessionEntrance("local", sessions, lambda identity: RIGHTS["admin"], PLAIN)
    made = house(entrance, parts={"sessions": sessions})
    client = client_of(made.app)
    client.set_cookie("lockboard_session", "session-1")
    sessions.broken = True

    for path in ("/static/lockboard.css", "/favicon/3.svg", "/healthz", "/readyz"):
        assert (path, ask(client, "GET", path).status_code) == (path, 200)
    assert sessions.asked == 0
    assert ask(client, "GET", "/states").status_code == 503


# ---------------------------------------------------------------- other people's keys


NARROW = Rights((Grant(Role.OPERATOR, HERE, unlock_unsuspected=True, protected=True),))
INSIDE = {state_id(s.backend, s.key) for s in STORIES if HERE.holds(s.backend, s.key)}
OUTSIDE = [s for s in STORIES if not HERE.holds(s.backend, s.key)]
SECRETS = sorted(
    {
        *(state_id(s.backend, s.key) for s in OUTSIDE),
        *(s.key for s in OUTSIDE if len(s.key) > 12 and "<" not in s.key),
        *(s.who for s in OUTSIDE if s.who and "<" not in s.who),
        "dev-kr",
        "dev-us",
        "acme-dev",
    }
)
LISTS = (
    "/states?view=all",
    "/states?view=attention",
    "/states?view=locked",
    "/states?view=digest",
    "/states?view=unreadable",
    "/states?view=all&sort=key",
    "/states?view=all&q=terraform",
    "/states/pulse",
    "/states.csv?view=all",
    "/states.json?view=all",
    "/api/v1/states",
    "/find?q=terraform",
    "/health",
    "/settings",
    "/help",
    "/account",
    "/approvals",
    "/audit",
    "/audit?kind=outcome",
    "/audit.csv",
    "/audit.jsonl",
    "/api/v1/audit",
    *(f"/s/{one}" for one in sorted(INSIDE)),
    *(f"/s/{one}?view=all" for one in sorted(INSIDE)),
)


def body_of(answer: TestResponse) -> str:
    return answer.text + str(answer.headers)


@pytest.mark.parametrize("path", LISTS)
def test_who_has_a_prefix_sees_nothing_of_other_keys(path: str) -> None:
    answer = ask(client_of(house(always(NARROW)).app), "GET", path)
    text = body_of(answer)

    assert answer.status_code == 200
    assert [secret for secret in SECRETS if secret in text] == []


def test_the_secrets_of_that_test_stand_on_the_pages_of_who_may_see_all() -> None:
    client = client_of(house(always(RIGHTS["admin"])).app)
    seen = "".join(
        body_of(ask(client, "GET", path)) for path in ("/states?view=all", "/health", "/states.csv?view=all")
    )

    assert [secret for secret in SECRETS if secret not in seen and "acme" not in secret] == []
    assert len(SECRETS) > 50


def test_exports_and_counts_hold_the_prefix_alone() -> None:
    client = client_of(house(always(NARROW)).app)

    for path in ("/states.json?view=all", "/api/v1/states"):
        states = json.loads(ask(client, "GET", path).text)["states"]
        assert {found["id"] for found in states} == INSIDE
    counts = re.findall(r'All <span class="count">(\d+)</span>', ask(client, "GET", "/states?view=all").text)
    assert set(counts) == {str(len(INSIDE))}


def test_who_has_a_prefix_is_not_told_what_reading_the_whole_backend_took() -> None:
    told = ("Rows written", "Requests", "Throttled", "Items of other buckets", "0 requests", "1 request")
    narrow, whole = (
        ask(client_of(house(always(rights)).app), "GET", "/health").text
        for rights in (NARROW, RIGHTS["viewer"])
    )

    assert [words for words in told if words in narrow] == []
    assert [words for words in told[:4] if words not in whole] == []
    assert "Versioning" in narrow


PAIRS = (
    (NARROW, RIGHTS["admin"]),
    (NARROW, RIGHTS["viewer"]),
    (NARROW, RIGHTS["extras"]),
    (NARROW, Rights((Grant(Role.OPERATOR, Area("dev-us")),))),
    (NARROW, Rights((Grant(Role.VIEWER, HERE),))),
)
"""Also such as are offered the same pages and see other keys on them."""


class Either:
    """Whoever the test says comes now."""

    mode = "local"

    def __init__(self, rights: Rights) -> None:
        self.rights = rights

    def visitor(self, now: Any) -> Any:
        return always(self.rights, "lee" if self.rights == NARROW else "kim").visitor(now)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pair", range(len(PAIRS)))
def test_a_page_kept_for_one_is_never_shown_to_another_who_may_see_less(pair: int, first: int) -> None:
    apart = [dict[str, str](), dict[str, str]()]
    for which, rights in enumerate(PAIRS[pair]):
        assert rights is not None
        client = client_of(house(Either(rights)).app)
        for path in LISTS:
            apart[which][path] = without_nonces(ask(client, "GET", path))
    rights = PAIRS[pair][first]
    assert rights is not None
    shared = Either(rights)
    client = client_of(house(shared).app)
    for path in LISTS:
        for which in (first, 1 - first, first):
            other = PAIRS[pair][which]
            assert other is not None
            shared.rights = other
            if not path.startswith(("/audit", "/api/v1/audit")):
                assert without_nonces(ask(client, "GET", path)) == apart[which][path]
            elif other == NARROW:  # each export is a record more
                assert [secret for secret in SECRETS if secret in ask(client, "GET", path).text] == []


def without_nonces(answer: TestResponse) -> str:
    return re.sub(r"nonce-?=?\"?[\w-]{16,}", "", answer.text)


GONE = [state_id(s.backend, s.key) for s in OUTSIDE] + ["0" * 16]
DEEDS = ("unlock", "digest", "digest/clear", "restore/v-1", "takeover", "undo/3")


@pytest.mark.parametrize("tail", ["", *(f"/{deed}" for deed in DEEDS)])
def test_a_key_of_others_is_as_if_it_were_not_there(tail: str) -> None:
    made = house(always(NARROW))
    client, before = client_of(made.app), made.changes
    told = set()
    for one in GONE:
        answers = [
            ask(client, "GET", f"/s/{one}{tail}"),
            ask(client, "POST", f"/s/{one}{tail or '/recheck'}"),
        ]
        told |= {(a.request.method, without_nonces(a).replace(one, "")) for a in answers}
        assert {a.status_code for a in answers} == {404}

    assert len(told) == 2
    assert made.changes == before


def test_the_api_has_no_key_of_others_either() -> None:
    made = house(always(NARROW))
    client, before = client_of(made.app), made.changes
    told = set()
    for one in GONE:
        answers = [
            client.get(f"/api/v1/states/{one}", headers=OWN),
            client.post(f"/api/v1/states/{one}/plans", headers=OWN, json={"action": "force_unlock"}),
            client.post(f"/api/v1/states/{one}/actions", headers=OWN, json={"token": "x"}),
        ]
        told |= {(index, a.text) for index, a in enumerate(answers)}
        assert [a.status_code for a in answers] == [404, 404, 404]

    assert len(told) == 3
    assert made.changes == before


@pytest.mark.parametrize("deed", DEEDS)
def test_a_key_that_one_sees_but_may_not_act_on_is_refused_and_not_read(deed: str) -> None:
    made = house(always(Rights((*NARROW.grants, Grant(Role.VIEWER)))))
    client, before = client_of(made.app), made.changes
    cdn = state_id(*CDN)

    assert ask(client, "GET", f"/s/{cdn}").status_code == 200
    assert ask(client, "GET", f"/s/{cdn}/{deed}").status_code == 403
    assert ask(client, "POST", f"/s/{cdn}/{deed}").status_code == 403
    for part in ("plans", "actions"):
        sent = {"action": "force_unlock"} if part == "plans" else {"token": "x"}
        assert client.post(f"/api/v1/states/{cdn}/{part}", headers=OWN, json=sent).status_code == 403
    assert made.changes == before


def test_neither_search_nor_link_finds_a_key_of_others() -> None:
    client = client_of(house(always(NARROW)).app)
    for story in OUTSIDE:
        one = state_id(story.backend, story.key)
        bucket = f"acme-{story.backend}-tfstate"
        for path in (
            f"/go?bucket={bucket}&key={quote(story.key, safe='')}",
            f"/find?q={quote(f's3://{bucket}/{story.key}', safe='')}",
            f"/find?q={quote(story.who or story.key, safe='')}",
        ):
            answer = ask(client, "GET", path)
            assert one not in body_of(answer)
            assert answer.status_code in (200, 404) or f"/s/{one}" not in answer.headers["Location"]


def test_a_record_about_a_key_of_others_is_as_if_it_were_not_there() -> None:
    made = house(always(NARROW))
    client = client_of(made.app)
    told = set()
    for record in made.audit.records:
        answer = ask(client, "GET", f"/audit/{record.seq}")
        mine = HERE.holds(record.entry.backend, record.entry.key)
        assert (record.seq, answer.status_code) == (record.seq, 200 if mine else 404)
        if not mine:
            told.add(without_nonces(answer).replace(f"record {record.seq} ", "record N "))
    missing = ask(client, "GET", "/audit/999")
    told.add(without_nonces(missing).replace("record 999 ", "record N "))

    assert missing.status_code == 404
    assert len(told) == 1


def test_the_records_beside_one_are_those_that_may_be_read() -> None:
    made = house(always(NARROW))
    client = client_of(made.app)
    mine = {r.seq for r in made.audit.records if HERE.holds(r.entry.backend, r.entry.key)}
    for seq in mine:
        linked = set(map(int, re.findall(r'href="/audit/(\d+)', ask(client, "GET", f"/audit/{seq}").text)))
        assert linked <= mine


# ---------------------------------------------------------------- forms that were made up


CHANGING = [
    line for line in LINES if line.method == "POST" and not line.path.startswith(("/find", "/signin"))
]
FORGED: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "an empty field": {"data": {"csrf": ""}},
    "an empty header": {"headers": {"X-CSRF-Token": ""}},
    "another text": {"data": {"csrf": "x" * 43}},
    "another session's": {"data": {"csrf": "form-token-of-1"}},
    "one character less": {"data": {"csrf": CSRF[:-1]}},
    "one character more": {"data": {"csrf": f"{CSRF}x"}},
    "other letter case": {"data": {"csrf": CSRF.upper()}},
    "the placeholder": {"data": {"csrf": "csrf-0123456789"}},
    "a lone surrogate": {"data": {"csrf": b"\xed\xa0\x80"}},
    "in the address": {"query_string": {"csrf": CSRF}},
    "in a cookie": {"headers": {"Cookie": f"csrf={CSRF}; X-CSRF-Token={CSRF}"}},
    "wrong field and right header": {"data": {"csrf": "x"}, "headers": {"X-CSRF-Token": CSRF}},
    "wrong header": {"headers": {"X-CSRF-Token": "x"}},
    "in JSON": {"json": {"csrf": CSRF}},
}
ABROAD: Mapping[str, Mapping[str, str]] = {
    "no headers at all": {},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "none": {"Sec-Fetch-Site": "none"},
    "empty": {"Sec-Fetch-Site": ""},
    "other letter case": {"Sec-Fetch-Site": "Same-Origin"},
    "a list": {"Sec-Fetch-Site": "same-origin, cross-site"},
    "cross-site with our origin": {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    "foreign origin": {"Origin": "http://evil.example"},
    "no origin": {"Origin": "null"},
    "other scheme": {"Origin": "https://localhost"},
    "other port": {"Origin": "http://localhost:8080"},
    "longer name": {"Origin": "http://localhost.evil.example"},
    "user": {"Origin": "http://localhost@evil.example"},
    "foreign referer": {"Referer": "http://localhost/"},
}


@pytest.mark.parametrize("name", FORGED)
def test_no_form_without_the_right_token_changes_anything(name: str) -> None:
    made = furnished("admin")
    client, before = client_of(made.app), made.changes
    sent = dict(FORGED[name])
    headers = {"Sec-Fetch-Site": "same-origin", **sent.pop("headers", {})}

    found = {x.path: client.post(x.path, headers=headers, **sent).status_code for x in CHANGING}

    assert found == {line.path: 403 for line in CHANGING}
    assert made.changes == before


@pytest.mark.parametrize("name", ABROAD)
def test_no_form_of_another_site_changes_anything(name: str) -> None:
    made = furnished("admin")
    client, before = client_of(made.app), made.changes
    paths = [*(line.path for line in CHANGING), "/find", "/signin"]

    found = {
        path: client.post(
            path, headers={"X-CSRF-Token": CSRF, **ABROAD[name]}, data={"csrf": CSRF}
        ).status_code
        for path in paths
    }

    assert found == {path: 401 if path.startswith("/api/") else 403 for path in paths}
    assert made.changes == before


def test_the_right_token_is_taken_from_the_field_and_from_the_header() -> None:
    client = client_of(furnished("admin").app)
    same = {"Sec-Fetch-Site": "same-origin"}

    assert client.post("/prefs", headers=same, data={"csrf": CSRF}).status_code == 303
    assert client.post("/prefs", headers=OWN).status_code == 303
    assert (
        client.post("/prefs", headers={"Origin": "http://localhost"}, data={"csrf": CSRF}).status_code == 303
    )


def test_a_program_needs_no_form_token_and_its_api_token_drives_no_page() -> None:
    made = furnished("nobody")
    grants = [Grant(Role.ADMINISTRATOR)]
    secret, _ = made.tokens.add("bot", "ada", grants, made.clock(), made.clock.at.replace(year=2027))
    client, bearer = client_of(made.app), {"Authorization": f"Bearer {secret}"}
    body = {"action": "force_unlock"}

    assert client.post(f"/api/v1/states/{KEY}/plans", headers=bearer, json=body).status_code == 200
    assert client.post(f"/s/{KEY}/recheck", headers={**bearer, **OWN}).status_code == 401
    assert client.post(f"/s/{KEY}/recheck", headers=bearer).status_code == 403
    assert made.recheck.asked == []


def test_the_log_knows_a_token_by_its_name_its_number_and_who_made_it() -> None:
    made = furnished("nobody")
    grants = [Grant(Role.ADMINISTRATOR)]
    secret, token = made.tokens.add("bot", "ada", grants, made.clock(), made.clock.at.replace(year=2027))
    client_of(made.app).post(
        f"/api/v1/states/{KEY}/plans",
        headers={"Authorization": f"Bearer {secret}"},
        json={"action": "force_unlock"},
    )
    person, _, _ = made.actions.prepared[-1]

    assert (person.name, person.method, person.subject) == ("bot", "token", f"token|{token.number}|ada")
    assert person.address == "127.0.0.1"


# ---------------------------------------------------------------- ways back


AWAY = (
    "",
    "x",
    "states",
    "//evil.example",
    "///evil.example",
    "////evil.example/%2e%2e",
    "//evil.example/..",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/states\\evil",
    "http://evil.example",
    "https://evil.example/states",
    "https:evil.example",
    "https:/evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//",
    "data:text/html,x",
    "mailto:a@evil.example",
    "ftp://evil.example",
    "?next=/states",
    "#states",
    "@evil.example",
    "user@evil.example/states",
    "//user:pass@evil.example/",
    "//localhost@evil.example/",
    "//localhost:80@evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\nLocation: http://evil.example",
    "\t//evil.example",
    "\x00//evil.example",
    " //evil.example",
    "/\x0b/evil.example",
    "/ /evil.example",
    "/\x7f/evil.example",
    "\u2215\u2215evil.example",
    "\uff0f\uff0fevil.example",
    "//evil\u3002example",
    "/" + "x" * 3000,
    "//" + "x" * 3000,
)
KEPT = (
    "/",
    "/states?view=attention",
    "/s/0123456789abcdef/unlock?store=dynamodb",
    "/%2f%2fevil.example",
    "/%5cevil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/states?next=//evil.example",
    "/states?q=http://evil.example",
    "/states#//evil.example",
    "/;//evil.example",
    "/@evil.example",
    "/\uff0f\uff0fevil.example",
    "/\u2028/evil",
    "/evil.example:80",
)


@pytest.mark.parametrize("text", AWAY)
def test_what_may_lead_away_is_no_way_back(text: str) -> None:
    assert safe_path(text) == "/"


@pytest.mark.parametrize("text", KEPT)
def test_a_path_of_ours_is_kept_as_it_is(text: str) -> None:
    assert safe_path(text) == text


def stays(location: str) -> bool:
    """Whether a browser stays here: it drops tabs and line ends, and reads a backslash as a slash."""
    seen = re.sub(r"[\t\r\n]", "", location).strip().replace("\\", "/")
    landed = urlsplit(urljoin("http://localhost/signin", seen))
    return (landed.scheme, landed.netloc) == ("http", "localhost") and not seen.startswith("//")


class Door:
    """A proxy that signs people in."""

    method = "proxy"

    def identity(self, environ: Mapping[str, Any], now: Any) -> Identity:
        return Identity("proxy|kim", "kim", "proxy", frozenset(), now)

    def sign_out(self, home: str) -> Any:
        from flask import redirect  # noqa: PLC0415

        return redirect(home, 303)


@pytest.mark.parametrize("text", [*AWAY, *KEPT])
def test_no_way_through_a_sign_in_leads_to_another_site(text: str) -> None:
    sessions, door = FakeSessions(), Door()
    log: list[object] = []
    front = HeaderEntrance(
        door, sessions, lambda identity: RIGHTS["admin"], PLAIN, lambda *told: log.append(told)
    )
    proxy = house(front, parts={"sessions": sessions, "header_door": door})
    local = client_of(house(always(None)).app)
    asked = local.get("/signin", query_string={"next": text})
    form = re.search(r'name="next" value="([^"]*)"', asked.text)
    assert form

    assert stays(form[1].replace("&amp;", "&").replace("&#39;", "'"))
    assert stays(client_of(proxy.app).get("/signin", query_string={"next": text}).headers["Location"])


# ---------------------------------------------------------------- the headers of every refusal


def refusals() -> Iterator[tuple[int, TestResponse]]:
    """Answers of every kind that is none."""
    for headers in (OWN, HTMX):
        nobody, admin = client_of(furnished("nobody").app), client_of(furnished("admin").app)
        viewer = client_of(furnished("viewer").app)
        yield 401, ask(nobody, "GET", "/states", headers)
        yield 401, ask(nobody, "POST", f"/s/{KEY}/unlock", headers)
        yield 401, ask(nobody, "GET", "/api/v1/states", headers)
        yield 401, ask(nobody, "GET", "/states.json", headers)
        yield 200, ask(nobody, "GET", "/signin", headers)
        yield 403, ask(nobody, "POST", "/signin", headers)
        yield 404, ask(nobody, "GET", "/signin/callback", headers)
        yield 403, ask(viewer, "GET", "/audit", headers)
        yield 403, ask(viewer, "GET", "/api/v1/audit", headers)
        yield 403, admin.post("/prefs", headers={**headers, "X-CSRF-Token": "x"})
        yield 403, admin.post("/prefs", headers={**headers, "Sec-Fetch-Site": "cross-site"})
        yield 404, ask(viewer, "GET", "/approvals/1", headers)
        yield 404, ask(admin, "GET", "/approvals/99", headers)
        yield 404, ask(admin, "GET", "/s/0000000000000000", headers)
        yield 405, ask(admin, "DELETE", "/states", headers)
        yield 413, admin.post("/prefs", headers=headers, data={"x": "y" * 70_000})
        yield 422, ask(admin, "POST", "/people/tokens", headers)
        yield 200, ask(admin, "POST", "/signout", headers)
        yield 400, admin.get("/help", headers={**headers, "Host": "evil.example"})


def test_every_refusal_has_its_status_and_every_header() -> None:
    for code, answer in refusals():
        assert (code, answer.request.path) == (answer.status_code, answer.request.path)
        protected(answer)
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("headers", [OWN, HTMX, {**OWN, "Accept": "application/json"}])
def test_too_many_requests_are_refused_with_every_header(headers: Mapping[str, str]) -> None:
    made = house(always(RIGHTS["admin"]), limited=True)
    client = client_of(made.app)
    answers = [ask(client, "POST", "/audit/verify", headers) for _ in range(6)]
    nobody = client_of(house(always(None), limited=True).app)
    signing = [ask(nobody, "POST", "/signin", headers) for _ in range(31)]

    for answer in (answers[-1], signing[-1]):
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        protected(answer)
    assert {a.status_code for a in answers[:-1]} == {303}


def test_who_knocks_without_end_is_told_so_and_nobody_else_from_the_same_address() -> None:
    made = house(always(None), limited=True)
    rights = RIGHTS["viewer"]
    assert rights is not None
    secret, _ = made.tokens.add("bot", "ada", rights.grants, made.clock(), made.clock.at.replace(year=2027))
    client, before = client_of(made.app), len(made.audit.records)
    guesses = [
        ask(client, "GET", "/api/v1/states", {"Authorization": f"Bearer lbt_{number}"})
        for number in range(1000, 1140)
    ]
    known = ask(client, "GET", "/api/v1/states", {"Authorization": f"Bearer {secret}"})

    assert [answer.status_code for answer in guesses] == [401] * 120 + [429] * 20
    assert guesses[-1].headers["Retry-After"] == "60"
    assert known.status_code == 200
    assert [record.entry.action for record in made.audit.records[before:]] == ["rate_limited"]


def test_who_sends_actions_without_a_token_without_end_is_told_so_and_no_person_is_counted() -> None:
    made = house(always(RIGHTS["admin"]), limited=True)
    client, before, records = client_of(made.app), made.changes[1:], len(made.audit.records)
    path = f"/api/v1/states/{KEY}/plans"
    elsewhere = {"X-CSRF-Token": CSRF, "Sec-Fetch-Site": "cross-site"}
    sent = [client.post(path, headers=elsewhere, json={"action": "force_unlock"}) for _ in range(40)]

    assert [answer.status_code for answer in sent] == [401] * 30 + [429] * 10
    assert json.loads(sent[0].text)["error"].startswith("Send an API token: ")
    assert sent[0].headers["WWW-Authenticate"] == "Bearer"
    assert made.changes[1:] == before
    assert [record.entry.action for record in made.audit.records[records:]] == ["rate_limited"]
    assert ask(client, "GET", f"/s/{KEY}/unlock").status_code == 200


def test_who_asks_for_pages_without_end_and_is_not_signed_in_is_told_so() -> None:
    client = client_of(house(always(None), limited=True).app)
    answers = [ask(client, "GET", "/states") for _ in range(1201)]
    assert [answer.status_code for answer in answers] == [401] * 1200 + [429]


@pytest.mark.parametrize("headers", [OWN, HTMX])
def test_what_fails_is_answered_with_every_header(headers: Mapping[str, str]) -> None:
    made = furnished("admin")
    client = client_of(made.app)
    made.board.broken = True
    answers = [(503, ask(client, "GET", "/states", headers)), (503, ask(client, "GET", "/readyz", headers))]
    made.board.broken = False
    made.actions.error = AccessDenied("s3:GetObject", "AccessDenied", "")
    answers.append((502, ask(client, "GET", f"/s/{KEY}/unlock", headers)))
    answers.append((502, ask(client, "GET", "/approvals/1", headers)))
    made.actions.error = ZeroDivisionError("1/0")
    answers.append((500, ask(client, "GET", "/approvals/1", headers)))
    made.actions.error = None
    made.audit.broken = True
    answers.append((503, ask(client, "POST", "/people/tokens/1/revoke", headers)))

    for code, answer in answers:
        assert (answer.request.path, answer.status_code) == (answer.request.path, code)
        protected(answer)
        assert "1/0" not in answer.text
    assert made.tokens.kept["lbt_1"].revoked_at is None


def test_a_stranger_learns_nothing_of_which_keys_exist() -> None:
    nobody, known = client_of(furnished("nobody").app), client_of(furnished("known").app)
    for client in (nobody, known):
        for tail in ("", "/unlock", "/undo/3", "/restore/v-1"):
            there, not_there = (ask(client, "GET", f"/s/{one}{tail}") for one in (KEY, "0" * 16))
            assert there.status_code == not_there.status_code
            assert without_nonces(there).replace(KEY, "") == without_nonces(not_there).replace("0" * 16, "")


def test_an_expired_request_leads_back_to_the_page_it_was_sent_from() -> None:
    client = client_of(furnished("nobody").app)
    ways = {
        ("POST", f"/s/{KEY}/unlock?store=dynamodb"): f"/s/{KEY}/unlock?store=dynamodb",
        ("POST", f"/s/{KEY}/recheck"): f"/s/{KEY}",
        ("POST", "/approvals/1/approve"): "/approvals/1",
        ("POST", "/people/tokens/1/revoke"): "/people",
        ("POST", "/audit/verify"): "/audit",
        ("POST", "/prefs"): "/",
        ("GET", "/states?view=locked"): "/states?view=locked",
    }
    for (method, path), page in ways.items():
        answer = ask(client, method, path)
        found = re.search(r'name="next" value="([^"]*)"|href="/signin\?next=([^"&]*)', answer.text)
        assert found
        assert (found[1] or found[2]) in (page.replace("&", "&amp;"), quote(page, safe=""))


def test_a_part_of_a_page_leads_back_to_the_page_that_it_is_part_of() -> None:
    client = client_of(furnished("nobody").app)
    shown = {**HTMX, "HX-Current-URL": "http://localhost/states?view=locked&sort=key"}

    answer = ask(client, "GET", "/states/pulse?rev=7", shown)
    forged = ask(client, "GET", "/states/pulse", {**HTMX, "HX-Current-URL": "http://[/"})
    away = ask(client, "GET", "/states/pulse", {**HTMX, "HX-Current-URL": "http://x//evil.example"})

    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["HX-Redirect"] == f"/signin?next={quote('/states?view=locked&sort=key', safe='')}"
    assert forged.status_code == 401
    assert safe_path(away.headers["HX-Redirect"].partition("next=")[2]) == "/"
