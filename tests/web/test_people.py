"""The page about people: sessions and API tokens, for administrators of everything alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from html import unescape

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.domain.access import Area, Grant, Identity, Rights, Role
from lockboard.domain.audit import Kind
from lockboard.domain.people import grants_to_json
from lockboard.domain.signin import TOKEN_LIFE
from tests.web.entrances import CSRF
from tests.web.people_fakes import House, always, house

SAME = {"Sec-Fetch-Site": "same-origin"}
ADMIN = Rights((Grant(Role.ADMINISTRATOR),))
TOKEN = {"name": "ci", "role": "viewer", "backend": "*", "prefix": "", "days": "30"}


def made(rights: Rights = ADMIN) -> House:
    return house(always(rights, "ada"))


def post(site: House, path: str, **fields: str) -> TestResponse:
    client: FlaskClient = site.app.test_client()
    return client.post(path, data={"csrf": CSRF, **fields}, headers=SAME, buffered=True)


def page(site: House) -> str:
    return site.app.test_client().get("/people", buffered=True).text


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def lee(site: House, name: str = "lee", address: str = "192.0.2.7") -> int:
    identity = Identity(f"local|{name}", name, "local", frozenset(), site.clock())
    return site.sessions.open(identity, address, site.clock())[1].number


# ---------------------------------------------------------------- sessions


def test_every_live_session_is_listed_with_where_it_is_from() -> None:
    site = made()
    lee(site)
    lee(site, "ada", "192.0.2.8")

    text = words(page(site))

    assert "lee 192.0.2.7" in text
    assert "ada 192.0.2.8" in text


def test_no_id_and_no_form_token_of_a_session_stands_on_the_page() -> None:
    site = made()
    lee(site)

    text = page(site)

    assert "session-1" not in text
    assert "form-token-of-1" not in text


def test_ending_a_session_is_recorded_and_ends_it() -> None:
    site = made()
    number = lee(site)

    answer = post(site, f"/people/sessions/{number}/end")

    entry = site.audit.records[-1].entry
    assert (answer.status_code, answer.headers["Location"]) == (303, "/people#sessions")
    assert site.sessions.kept == {}
    assert (entry.kind, entry.action, entry.person.name) == (Kind.EVENT, "session_ended", "ada")
    assert entry.facts["subject"] == "local|lee"


def test_a_session_that_is_gone_already_ends_nothing_and_is_not_recorded() -> None:
    site = made()
    before = len(site.audit.records)

    assert post(site, "/people/sessions/7/end").status_code == 303
    assert post(site, f"/people/sessions/{10**30}/end").status_code == 303
    assert len(site.audit.records) == before


def test_what_cannot_be_recorded_is_not_done() -> None:
    site = made()
    number = lee(site)
    site.tokens.add("ci", "ada", [Grant(Role.VIEWER)], site.clock(), site.clock() + timedelta(days=1))
    site.audit.broken = True

    answers = [
        post(site, f"/people/sessions/{number}/end"),
        post(site, "/people/tokens", **TOKEN),
        post(site, "/people/tokens/1/revoke"),
    ]

    assert [answer.status_code for answer in answers] == [503] * 3
    assert len(site.sessions.kept) == 1
    assert not any("lbt_" in answer.text for answer in answers)
    assert [token.name for token in site.tokens.every() if not token.is_over(site.clock())] == ["ci"]


@pytest.mark.parametrize(
    ("deed", "path"),
    [("session_ended", "/people/sessions/1/end"), ("token_revoked", "/people/tokens/1/revoke")],
)
def test_what_was_recorded_and_then_failed_is_recorded_to_have_failed(deed: str, path: str) -> None:
    site = made()
    lee(site)
    site.tokens.add("ci", "ada", [Grant(Role.VIEWER)], site.clock(), site.clock() + timedelta(days=1))
    site.sessions.read_only = site.tokens.read_only = True

    answer = post(site, path)

    announced, failed = (record.entry for record in site.audit.records[-2:])
    assert answer.status_code == 503
    assert (announced.action, failed.action) == (deed, deed)
    assert failed.facts == {**announced.facts, "failed": True}
    assert "did not happen" in failed.message


def test_a_token_that_cannot_be_made_is_not_recorded() -> None:
    site = made()
    before = len(site.audit.records)
    site.tokens.read_only = True

    assert post(site, "/people/tokens", **TOKEN).status_code == 503
    assert len(site.audit.records) == before


# ---------------------------------------------------------------- tokens


def test_a_new_token_is_shown_once_and_recorded_without_its_secret() -> None:
    site = made()

    answer = post(site, "/people/tokens", **TOKEN)

    entry, (token,) = site.audit.records[-1].entry, site.tokens.every()
    assert answer.status_code == 200
    assert "lbt_1" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "lbt_1" not in page(site)
    assert (entry.action, entry.person.name) == ("token_added", "ada")
    assert entry.message == "API token 1 (ci) is added: viewer, until 2026-12-20 18:00:00 UTC."
    assert entry.facts == {
        "token": 1,
        "name": "ci",
        "owner": "ada",
        "days": 30,
        "grants": grants_to_json([Grant(Role.VIEWER)]),
    }
    assert "lbt_1" not in site.audit.records[-1].body
    assert (token.owner, token.grants) == ("ada", (Grant(Role.VIEWER),))
    assert token.expires_at - token.created_at == timedelta(days=30)


def test_a_token_is_as_narrow_as_it_was_asked_for() -> None:
    site = made()
    fields = {**TOKEN, "role": "operator", "backend": "prod-kr", "prefix": "Prod/", "protected": "on"}

    post(site, "/people/tokens", **fields)

    assert site.tokens.every()[0].grants == (
        Grant(Role.OPERATOR, Area("prod-kr", "Prod/"), unlock_unsuspected=False, protected=True),
    )


def test_the_extras_of_an_operator_go_to_no_other_role() -> None:
    site = made()
    post(site, "/people/tokens", **TOKEN, unlock_unsuspected="on", protected="on")

    assert site.tokens.every()[0].grants == (Grant(Role.VIEWER),)


WRONG: Mapping[str, Mapping[str, str]] = {
    "no name": {"name": ""},
    "an odd name": {"name": "<b>ci</b>"},
    "a name of two lines": {"name": "ci\nkim"},
    "a long name": {"name": "c" * 65},
    "no role": {"role": ""},
    "another role": {"role": "root"},
    "another backend": {"backend": "dev"},
    "no backend": {"backend": ""},
    "an unseen prefix": {"prefix": "Prod/\u202e"},
    "a backslash in the prefix": {"prefix": "Prod\\"},
    "a long prefix": {"prefix": "p" * 1025},
    "no days": {"days": ""},
    "zero days": {"days": "0"},
    "too many days": {"days": str(TOKEN_LIFE.days + 1)},
    "a great many days": {"days": "9" * 40},
    "less than none": {"days": "-1"},
    "half a day": {"days": "0.5"},
    "other digits": {"days": "\u0663"},
    "a blank inside": {"days": "3 0"},
}


@pytest.mark.parametrize("why", WRONG)
def test_what_is_wrong_with_a_token_is_said_and_none_is_made(why: str) -> None:
    site = made()
    before = len(site.audit.records)

    answer = post(site, "/people/tokens", **{**TOKEN, **WRONG[why]})

    assert answer.status_code == 422
    assert "Nothing was done" in words(answer.text)
    assert 'role="alert"' in answer.text
    assert (site.tokens.kept, len(site.audit.records)) == ({}, before)


def test_what_was_typed_is_kept_where_something_is_wrong() -> None:
    text = post(made(), "/people/tokens", **{**TOKEN, "name": "my-ci", "days": "0", "prefix": "Prod/"}).text

    assert 'value="my-ci"' in text
    assert 'value="Prod/"' in text


def test_a_revoked_token_opens_nothing_any_more() -> None:
    site = made(Rights())
    site.tokens.add("ci", "ada", [Grant(Role.VIEWER)], site.clock(), site.clock() + timedelta(days=1))
    bearer = {"Authorization": "Bearer lbt_1"}
    client = site.app.test_client()
    assert client.get("/api/v1/states", headers=bearer, buffered=True).status_code == 200

    admin = house(always(ADMIN, "ada"))
    admin.tokens.kept = site.tokens.kept
    assert post(admin, "/people/tokens/1/revoke").headers["Location"] == "/people#tokens"

    assert client.get("/api/v1/states", headers=bearer, buffered=True).status_code == 401
    entry = admin.audit.records[-1].entry
    assert (entry.action, entry.message) == ("token_revoked", "API token 1 (ci) is revoked.")
    assert entry.facts == {"token": 1, "name": "ci", "owner": "ada"}
    assert "revoked" in words(page(admin))


@pytest.mark.parametrize("number", ["2", "0", str(10**30)])
def test_a_token_that_is_not_there_is_not_revoked(number: str) -> None:
    site = made()
    before = len(site.audit.records)

    assert post(site, f"/people/tokens/{number}/revoke").status_code == 404
    assert len(site.audit.records) == before


def test_hostile_names_are_text() -> None:
    site = made()
    lee(site, "<script>alert(1)</script>\u202e", "<b>address</b>")

    text = page(site)

    assert "<script>alert" not in text
    assert "<b>address" not in text
    assert "\u202e" not in text


def test_accounts_are_listed_with_what_they_may_do_and_without_their_hashes() -> None:
    site = made()
    site.accounts.add(
        "kim", [Grant(Role.OPERATOR, Area("prod-kr", "Prod/"))], "scrypt:hash$x$y", site.clock()
    )
    site.accounts.add("old", [], "", site.clock())
    site.accounts.set_disabled("old", True)

    text = words(page(site))

    assert "kim operator on prod-kr under Prod/" in text
    assert "old disabled nothing" in text
    assert "scrypt" not in page(site)


@pytest.mark.parametrize(
    "rights",
    [
        Rights(),
        Rights((Grant(Role.VIEWER),)),
        Rights((Grant(Role.AUDITOR),)),
        Rights((Grant(Role.OPERATOR, unlock_unsuspected=True, protected=True),)),
        Rights((Grant(Role.ADMINISTRATOR, Area("prod-kr")), Grant(Role.ADMINISTRATOR, Area("dev-kr")))),
        Rights((Grant(Role.ADMINISTRATOR, Area("*", "Prod/")),)),
    ],
)
def test_who_administers_not_everything_sees_and_changes_nothing_of_it(rights: Rights) -> None:
    site = made(rights)
    number = lee(site)
    site.tokens.add("ci", "ada", [Grant(Role.VIEWER)], site.clock(), site.clock() + timedelta(days=1))
    before = site.changes

    answers = [
        site.app.test_client().get("/people", buffered=True),
        post(site, f"/people/sessions/{number}/end"),
        post(site, "/people/tokens", **TOKEN),
        post(site, "/people/tokens/1/revoke"),
    ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert not any("lee" in answer.text for answer in answers)
    assert 'href="/people"' not in site.app.test_client().get("/help", buffered=True).text
    assert site.changes == before
