"""Sessions, accounts, API tokens, attempts and approvals, on both databases."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text

from lockboard.adapters.store import (
    SqlAccounts,
    SqlApiTokens,
    SqlApprovals,
    SqlAttempts,
    SqlBoard,
    SqlSessions,
    migrate,
    open_engine,
    open_people_engine,
)
from lockboard.adapters.store.engine import writing
from lockboard.adapters.store.people import CONNECTIONS, CONNECTIONS_POSTGRESQL
from lockboard.adapters.store.schema import accounts, api_tokens, approvals, attempts, sessions
from lockboard.domain.access import Area, Grant, Identity, Role
from lockboard.domain.errors import StoreError
from lockboard.domain.signin import (
    SESSION_IDLE,
    SESSION_LIFE,
    Account,
    AccountExists,
    Accounts,
    ApiTokens,
    Approval,
    Approvals,
    Attempts,
    Session,
    Sessions,
    UnknownAccount,
    Waiting,
)
from tests.databases import NOON, PostgresServer, sqlite_url

KIM = Identity("https://idp.example.com|8f3a", "kim@example.com", "oidc", frozenset({"ops", "dev"}), NOON)
LEE = replace(KIM, subject="https://idp.example.com|77c0", name="lee@example.com")
HOSTILE = "\ud800 lone \0 nul \u202e <b> 'quote' \U0001f512 " + "x" * 3000
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
OPERATOR = Grant(Role.OPERATOR, Area("prod-kr", "dev/\ud800\0"), unlock_unsuspected=True, protected=True)
VIEWER = Grant(Role.VIEWER)
ODD_NUMBERS = [0, -1, 999, 2**63, 10**30]
TABLES = (sessions, accounts, api_tokens, attempts, approvals)
NEVER_FOUND = ["", "x", "\ud800", "\0", "' OR 1=1 --", "é" * 100_000]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of each kind with its tables, for all tests here: making one takes longer than using it."""
    if request.param == "sqlite":
        url = sqlite_url(tmp_path_factory.mktemp("people"))
        migrate(open_engine(url))
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.fresh()
    migrate(open_engine(url))
    yield url
    server.drop(url)


@pytest.fixture
def people(migrated: str) -> Iterator[Engine]:
    """The same, empty, as `open_people` opens it."""
    engine = open_people_engine(migrated)
    with engine.begin() as connection:
        for table in TABLES:
            connection.execute(table.delete())
        if engine.dialect.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence"))
        else:
            names = ", ".join(table.name for table in TABLES)
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    yield engine
    engine.dispose()


@contextmanager
def held(engine: Engine, table: str) -> Iterator[None]:
    """Another process in the middle of a change: of the whole database on SQLite, of the table's rows on
    PostgreSQL.
    """
    other = open_engine(engine.url.render_as_string(hide_password=False))
    with other.connect() as connection:
        if other.dialect.name == "sqlite":
            connection = connection.execution_options(lockboard_writes=True)
            connection.begin()
        else:
            connection.execute(text(f"SELECT * FROM {table} FOR UPDATE"))
        yield
        connection.rollback()
    other.dispose()


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """What is sent to the database, but for the ends of transactions."""
    sent: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def all_text(engine: Engine) -> str:
    """Everything that the tables of people hold."""
    with engine.connect() as connection:
        return "\n".join(str(tuple(row)) for table in TABLES for row in connection.execute(select(table)))


# ---------------------------------------------------------------- sessions


@pytest.fixture
def kept(people: Engine) -> Sessions:
    return SqlSessions(people)


def test_a_session_comes_back_as_it_was_opened(kept: Sessions) -> None:
    session_id, opened = kept.open(KIM, "192.0.2.7", NOON)
    assert opened == Session(1, KIM, opened.csrf, "192.0.2.7", NOON, NOON)
    assert kept.find(session_id, NOON) == opened


def test_every_session_has_an_id_and_a_form_token_of_256_bits_of_its_own(kept: Sessions) -> None:
    made = [kept.open(KIM, "", NOON) for _ in range(5)]
    texts = {text for session_id, session in made for text in (session_id, session.csrf)}
    assert {len(text) for text in texts} == {43}  # 32 bytes in base64
    assert len(texts) == 10
    assert len({session.number for _, session in made}) == 5


def test_a_sign_in_of_before_the_session_keeps_its_time(kept: Sessions) -> None:
    earlier = replace(KIM, signed_in_at=NOON - timedelta(hours=3, microseconds=7))
    session_id, _ = kept.open(earlier, "", NOON)
    found = kept.find(session_id, NOON)
    assert found is not None
    assert found.identity == earlier


def test_the_database_opens_no_session(people: Engine, kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    assert session_id not in all_text(people)
    assert hashlib.sha256(session_id.encode()).hexdigest() in all_text(people)


@pytest.mark.parametrize("session_id", NEVER_FOUND)
def test_no_other_text_is_a_session(kept: Sessions, session_id: str) -> None:
    opened, _ = kept.open(KIM, "", NOON)
    assert kept.find(session_id, NOON) is None
    assert kept.find(hashlib.sha256(opened.encode()).hexdigest(), NOON) is None
    kept.close(session_id)
    assert kept.find(opened, NOON) is not None


def test_hostile_names_and_addresses_come_back_unchanged(kept: Sessions) -> None:
    hostile = replace(KIM, subject=HOSTILE, name=HOSTILE, groups=frozenset({HOSTILE, ""}))
    session_id, opened = kept.open(hostile, HOSTILE, NOON)
    assert kept.find(session_id, NOON) == opened
    assert (opened.identity, opened.address) == (hostile, HOSTILE)
    assert kept.close_all(HOSTILE) == 1


def test_a_request_costs_one_select_by_the_index_and_writes_nothing(people: Engine, kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    with statements(people) as sent:
        assert kept.find(session_id, NOON + MINUTE - SECOND) is not None
    assert len(sent) == 1
    assert sent[0].startswith("SELECT")
    assert "WHERE sessions.id = " in sent[0]


def test_its_use_is_noted_once_a_minute(people: Engine, kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    with statements(people) as sent:
        seen = [kept.find(session_id, NOON + second * SECOND) for second in range(0, 180, 20)]
    noted = [session.seen_at - NOON for session in seen if session]
    assert noted == [MINUTE * (second // 60) for second in range(0, 180, 20)]
    assert sum(statement.startswith("UPDATE") for statement in sent) == 2


def test_a_session_in_use_lives_eight_hours_and_no_longer(kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    now = NOON
    while now + SESSION_IDLE <= NOON + SESSION_LIFE:
        now += SESSION_IDLE
        assert kept.find(session_id, now) is not None
    assert now == NOON + SESSION_LIFE
    assert kept.find(session_id, now + SECOND) is None


def test_an_idle_session_is_over(kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    assert kept.find(session_id, NOON + SESSION_IDLE + SECOND) is None
    assert kept.find(session_id, NOON + SESSION_IDLE) is not None  # the look before noted nothing


def test_a_session_of_the_future_is_over(kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    assert kept.find(session_id, NOON - 2 * MINUTE) is None


def test_a_busy_database_ends_no_request_and_hardly_delays_it(people: Engine, kept: Sessions) -> None:
    session_id, opened = kept.open(KIM, "", NOON)
    later = NOON + 5 * MINUTE
    began = time.monotonic()
    with held(people, "sessions"):
        assert kept.find(session_id, later) == opened
    assert time.monotonic() - began < 1.5
    assert kept.find(session_id, later) == replace(opened, seen_at=later)


def test_a_short_wait_for_a_note_leaves_no_short_wait_behind(people: Engine, kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    kept.find(session_id, NOON + 5 * MINUTE)
    question = "PRAGMA busy_timeout" if people.dialect.name == "sqlite" else "SHOW lock_timeout"
    with people.connect() as connection:
        assert connection.exec_driver_sql(question).scalar_one() in (3500, "3s")


def test_a_closed_session_is_gone(kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    other, _ = kept.open(KIM, "", NOON)
    kept.close(session_id)
    kept.close(session_id)
    assert kept.find(session_id, NOON) is None
    assert kept.find(other, NOON) is not None


def test_a_session_is_ended_by_its_number_once(kept: Sessions) -> None:
    session_id, opened = kept.open(KIM, "", NOON)
    assert kept.close_number(opened.number) == opened
    assert kept.close_number(opened.number) is None
    assert kept.find(session_id, NOON) is None


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_a_number_that_no_session_has_ends_none(kept: Sessions, number: int) -> None:
    kept.open(KIM, "", NOON)
    assert kept.close_number(number) is None
    assert len(kept.live(NOON)) == 1


def test_the_number_of_an_ended_session_is_never_given_again(kept: Sessions) -> None:
    _, first = kept.open(KIM, "", NOON)
    kept.close_number(first.number)
    _, second = kept.open(LEE, "", NOON)
    assert second.number > first.number


def test_all_sessions_of_one_person_end_and_nobody_elses(kept: Sessions) -> None:
    for _ in range(3):
        kept.open(KIM, "", NOON)
    lees, _ = kept.open(LEE, "", NOON)
    assert kept.close_all(KIM.subject) == 3
    assert kept.close_all(KIM.subject) == 0
    assert kept.close_all("nobody") == 0
    assert kept.find(lees, NOON) is not None


def test_live_sessions_stand_last_used_first(kept: Sessions) -> None:
    opened = [kept.open(KIM, "", NOON + minute * MINUTE) for minute in range(3)]
    kept.find(opened[0][0], NOON + 5 * MINUTE)
    numbers = [session.number for session in kept.live(NOON + 5 * MINUTE)]
    assert numbers == [opened[0][1].number, opened[2][1].number, opened[1][1].number]


@pytest.mark.parametrize(
    "now",
    [
        NOON - 2 * MINUTE,
        NOON - MINUTE,
        NOON + SESSION_IDLE,
        NOON + SESSION_IDLE + timedelta(microseconds=1),
        NOON + SESSION_LIFE,
        NOON + SESSION_LIFE + timedelta(microseconds=1),
    ],
)
def test_lists_and_the_sweep_agree_with_the_rule_of_when_a_session_is_over(
    people: Engine, kept: Sessions, now: datetime
) -> None:
    idle_id, _ = kept.open(KIM, "", NOON)
    used_id, _ = kept.open(LEE, "", NOON)
    with people.begin() as connection:
        newest = max(NOON, now).timestamp()
        connection.execute(sessions.update().where(sessions.c.number == 2).values(seen_at=newest))
    with people.connect() as connection:
        rows = {row.number: row for row in connection.execute(select(sessions))}
    alive = {
        number
        for number, row in rows.items()
        if not Session(number, KIM, "", "", NOON, datetime.fromtimestamp(row.seen_at, UTC)).is_over(now)
    }
    assert {session.number for session in kept.live(now)} == alive
    assert kept.sweep(now) == 2 - len(alive)
    assert (kept.find(idle_id, now) is not None, kept.find(used_id, now) is not None) == (
        1 in alive,
        2 in alive,
    )


def test_at_most_500_sessions_are_listed(people: Engine, kept: Sessions) -> None:
    kept.open(KIM, "", NOON)
    with people.begin() as connection:
        row = dict(connection.execute(select(sessions)).one()._mapping)
        copies = [{**row, "number": n, "id": str(n), "seen_at": row["seen_at"] + n} for n in range(2, 602)]
        connection.execute(sessions.insert(), copies)
    found = kept.live(NOON + 10 * MINUTE)
    assert [session.number for session in found] == list(range(601, 101, -1))


# ---------------------------------------------------------------- waits


def test_signing_in_changes_no_generation(people: Engine, kept: Sessions) -> None:
    session_id, _ = kept.open(KIM, "", NOON)
    kept.find(session_id, NOON + 2 * MINUTE)
    SqlAccounts(people).add("kim", [VIEWER], "", NOON)
    SqlAttempts(people).note("kim", NOON)
    kept.close(session_id)
    assert SqlBoard(people).generation() == 0


def test_no_request_waits_for_a_refresh_and_on_postgresql_no_sign_in_does(
    people: Engine, migrated: str, kept: Sessions
) -> None:
    session_id, opened = kept.open(KIM, "", NOON)
    with writing(open_engine(migrated), much=True):
        assert kept.find(session_id, NOON) == opened
        if people.dialect.name == "postgresql":
            kept.open(LEE, "", NOON)
            kept.close(session_id)
            SqlAttempts(people).note("kim", NOON)


def test_who_waits_for_the_database_is_told_within_five_seconds(people: Engine) -> None:
    store = SqlAccounts(people)
    store.add("kim", [VIEWER], "", NOON)
    with held(people, "accounts"):
        began = time.monotonic()
        with pytest.raises(StoreError):
            store.set_disabled("kim", True)
        assert time.monotonic() - began < 5
    assert store.set_disabled("kim", True).disabled


def test_who_waits_for_a_connection_is_told_within_five_seconds(people: Engine, kept: Sessions) -> None:
    many = CONNECTIONS if people.dialect.name == "sqlite" else CONNECTIONS_POSTGRESQL
    taken = [people.connect() for _ in range(many)]
    began = time.monotonic()
    with pytest.raises(StoreError):
        kept.find("x", NOON)
    assert time.monotonic() - began < 5
    for connection in taken:
        connection.close()
    assert kept.find("x", NOON) is None


def test_an_unmigrated_database_is_a_store_error(database_url: str) -> None:
    engine = open_people_engine(database_url)
    for ask in (
        lambda: SqlSessions(engine).find("x", NOON),
        lambda: SqlAccounts(engine).every(),
        lambda: SqlApiTokens(engine).find("lbt_x", NOON),
        lambda: SqlAttempts(engine).note("x", NOON),
        lambda: SqlApprovals(engine).waiting(NOON),
    ):
        with pytest.raises(StoreError):
            ask()


# ---------------------------------------------------------------- accounts


@pytest.fixture
def local(people: Engine) -> Accounts:
    return SqlAccounts(people)


def test_an_account_comes_back_as_it_was_made(local: Accounts) -> None:
    made = local.add("Kim@example.com", [OPERATOR, VIEWER], "scrypt:…", NOON)
    assert made == Account("Kim@example.com", (OPERATOR, VIEWER), "scrypt:…", False, NOON, NOON)
    assert local.find("Kim@example.com") == made


def test_a_name_is_found_in_any_letter_case_and_keeps_its_own(local: Accounts) -> None:
    local.add("Kim", [VIEWER], "", NOON)
    found = local.find("kIM")
    assert found is not None
    assert found.subject == "local|Kim"


def test_one_name_has_one_account_whatever_its_letter_case(local: Accounts) -> None:
    local.add("Kim", [VIEWER], "first", NOON)
    with pytest.raises(AccountExists):
        local.add("KIM", [Grant(Role.ADMINISTRATOR)], "second", NOON)
    assert [(account.name, account.password) for account in local.every()] == [("Kim", "first")]


def test_of_many_who_make_one_account_at_once_one_does(local: Accounts) -> None:
    gate = threading.Barrier(6)

    def make(number: int) -> bool:
        gate.wait()
        try:
            local.add("kim" if number % 2 else "KIM", [VIEWER], str(number), NOON)
        except AccountExists:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(make, range(6))) == [False] * 5 + [True]


@pytest.mark.parametrize("name", NEVER_FOUND)
def test_no_other_text_is_an_account(local: Accounts, name: str) -> None:
    local.add("kim", [VIEWER], "", NOON)
    assert local.find(name) is None
    with pytest.raises(UnknownAccount):
        local.set_disabled(name, True)
    assert [account.disabled for account in local.every()] == [False]


def test_accounts_stand_by_name(local: Accounts) -> None:
    for name in ("mo", "Lee", "kim", "Ann"):
        local.add(name, [VIEWER], "", NOON)
    assert [account.name for account in local.every()] == ["Ann", "kim", "Lee", "mo"]


def test_each_change_changes_its_part_of_one_account_alone(local: Accounts) -> None:
    kim, lee = (local.add(name, [VIEWER], "old", NOON) for name in ("kim", "lee"))
    kim = replace(kim, grants=(OPERATOR,))
    assert local.grant("KIM", [OPERATOR]) == kim
    kim = replace(kim, password="new", changed_at=NOON + DAY)
    assert local.set_password("Kim", "new", NOON + DAY) == kim
    kim = replace(kim, disabled=True)
    assert local.set_disabled("kim", True) == kim
    assert list(local.every()) == [kim, lee]
    assert local.set_disabled("kim", False) == replace(kim, disabled=False)


def test_a_change_of_nobody_is_refused(local: Accounts) -> None:
    with pytest.raises(UnknownAccount):
        local.grant("kim", [VIEWER])
    with pytest.raises(UnknownAccount):
        local.set_password("kim", "new", NOON)


@pytest.mark.parametrize("stored", ["", "{", "null", "[" * 100_000, '[{"role": "root"}]', "1e999"])
def test_grants_that_cannot_be_read_give_nothing(people: Engine, local: Accounts, stored: str) -> None:
    local.add("kim", [Grant(Role.ADMINISTRATOR)], "", NOON)
    with people.begin() as connection:
        connection.execute(accounts.update().values(grants=stored))
    assert [account.grants for account in local.every()] == [()]


# ---------------------------------------------------------------- API tokens


@pytest.fixture
def tokens(people: Engine) -> ApiTokens:
    return SqlApiTokens(people)


def test_a_token_is_found_by_its_secret_and_its_use_is_noted_once_a_minute(
    people: Engine, tokens: ApiTokens
) -> None:
    secret, made = tokens.add("ci", "kim", [OPERATOR], NOON, NOON + DAY)
    assert (made.number, made.name, made.owner, made.grants) == (1, "ci", "kim", (OPERATOR,))
    assert (made.created_at, made.expires_at, made.revoked_at, made.used_at) == (NOON, NOON + DAY, None, None)
    with statements(people) as sent:
        found = [tokens.find(secret, NOON + second * SECOND) for second in (0, 59, 60, 119)]
    assert found == [replace(made, used_at=NOON + n * MINUTE) for n in (0, 0, 1, 1)]
    assert sum(statement.startswith("UPDATE") for statement in sent) == 2


def test_a_secret_says_what_it_is_and_is_256_bits(tokens: ApiTokens) -> None:
    secrets = {tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)[0] for _ in range(5)}
    assert len(secrets) == 5
    assert all(secret.startswith("lbt_") and len(secret) == 4 + 43 for secret in secrets)


def test_the_database_holds_no_secret(people: Engine, tokens: ApiTokens) -> None:
    secret, _ = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    assert secret.removeprefix("lbt_") not in all_text(people)


@pytest.mark.parametrize("secret", [*NEVER_FOUND, *("lbt_" + text for text in NEVER_FOUND)])
def test_no_other_text_is_a_token(tokens: ApiTokens, secret: str) -> None:
    tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    assert tokens.find(secret, NOON) is None


def test_a_token_ends_at_its_time(tokens: ApiTokens) -> None:
    secret, _ = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    assert tokens.find(secret, NOON + DAY - SECOND) is not None
    assert tokens.find(secret, NOON + DAY) is None


def test_a_revoked_token_opens_nothing_and_keeps_the_time_of_its_first_revocation(tokens: ApiTokens) -> None:
    secret, made = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    other, _ = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    revoked = replace(made, revoked_at=NOON + MINUTE)
    assert tokens.revoke(made.number, NOON + MINUTE) == revoked
    assert tokens.revoke(made.number, NOON + 9 * MINUTE) == revoked
    assert tokens.find(secret, NOON + MINUTE) is None
    assert tokens.find(other, NOON + MINUTE) is not None


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_a_number_that_no_token_has_revokes_none(tokens: ApiTokens, number: int) -> None:
    secret, _ = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    assert tokens.revoke(number, NOON) is None
    assert tokens.find(secret, NOON) is not None


def test_tokens_stand_newest_first_with_hostile_names_escaped(tokens: ApiTokens) -> None:
    for name in ("a", HOSTILE, "c"):
        tokens.add(name, HOSTILE, [VIEWER], NOON, NOON + DAY)
    found = tokens.every()
    assert [token.number for token in found] == [3, 2, 1]
    assert found[1].name == found[1].owner == HOSTILE.replace("\ud800", "\\ud800").replace("\0", "\\x00")


def test_a_busy_database_ends_no_request_of_a_program(people: Engine, tokens: ApiTokens) -> None:
    secret, made = tokens.add("ci", "kim", [VIEWER], NOON, NOON + DAY)
    with held(people, "api_tokens"):
        assert tokens.find(secret, NOON) == made
    assert tokens.find(secret, NOON) == replace(made, used_at=NOON)


# ---------------------------------------------------------------- attempts


@pytest.fixture
def counted(people: Engine) -> Attempts:
    return SqlAttempts(people)


def test_attempts_of_one_name_are_counted_from_a_moment_on(counted: Attempts) -> None:
    for minute in range(4):
        counted.note("kim|192.0.2.7", NOON + minute * MINUTE)
    counted.note("lee|192.0.2.7", NOON)
    counts = [counted.count("kim|192.0.2.7", NOON + minute * MINUTE) for minute in range(5)]
    assert counts == [4, 3, 2, 1, 0]
    assert counted.count("KIM|192.0.2.7", NOON) == 0


def test_forgetting_forgets_one_name(counted: Attempts) -> None:
    counted.note("kim", NOON)
    counted.note("lee", NOON)
    counted.forget("kim")
    assert (counted.count("kim", NOON), counted.count("lee", NOON)) == (0, 1)


def test_the_sweep_drops_what_is_older_and_nothing_else(counted: Attempts) -> None:
    counted.note("kim", NOON - SECOND)
    counted.note("kim", NOON)
    assert counted.sweep(NOON) == 1
    assert counted.count("kim", NOON - DAY) == 1


@pytest.mark.parametrize("name", [HOSTILE, "", "é" * 100_000, "my password by mistake"])
def test_any_text_is_counted_and_none_is_kept(people: Engine, counted: Attempts, name: str) -> None:
    counted.note(name, NOON)
    assert counted.count(name, NOON) == 1
    assert "password" not in all_text(people)


# ---------------------------------------------------------------- approvals


WANTED = {
    "action": "force_unlock",
    "lock": {"id": "1\ud800"},
    "size": 180,
    "nothing": None,
    "list": [1, True],
}
ASKED = Approval(
    number=0,
    action_id="5b1c",
    state_id="9f3a",
    backend="prod-kr",
    key="prod/\ud800\0/terraform.tfstate",
    requester=("kim", "local", "192.0.2.7", "local|kim"),
    wanted=WANTED,
    fingerprint="f" * 64,
    form={"reason": HOSTILE, "ticket": "OPS-1"},
    requested_at=NOON,
    expires_at=NOON + 30 * MINUTE,
)


@pytest.fixture
def requests(people: Engine) -> Approvals:
    return SqlApprovals(people)


def test_a_request_comes_back_as_it_was_made_with_a_number(requests: Approvals) -> None:
    made = requests.add(ASKED)
    assert made == replace(ASKED, number=1)
    assert requests.find(1) == made
    assert requests.add(replace(ASKED, number=1)).number == 2


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_a_number_that_no_request_has_finds_and_decides_nothing(requests: Approvals, number: int) -> None:
    requests.add(ASKED)
    assert requests.find(number) is None
    assert not requests.decide(number, Waiting.APPROVED, "lee", NOON)


def test_what_waits_stands_oldest_first_and_what_expired_is_overdue(requests: Approvals) -> None:
    first, second, third = (
        requests.add(replace(ASKED, expires_at=NOON + minutes * MINUTE)) for minutes in (30, 10, 20)
    )
    assert list(requests.waiting(NOON)) == [first, second, third]
    assert list(requests.overdue(NOON)) == []
    at = NOON + 20 * MINUTE
    assert list(requests.waiting(at)) == [first]
    assert list(requests.overdue(at)) == [second, third]
    assert requests.decide(second.number, Waiting.EXPIRED, "lockboard", at)
    assert list(requests.overdue(at)) == [third]


def test_recent_requests_stand_newest_first_whatever_became_of_them(requests: Approvals) -> None:
    made = [requests.add(ASKED).number for _ in range(4)]
    requests.decide(made[2], Waiting.DECLINED, "lee", NOON)
    assert [request.number for request in requests.recent()] == made[::-1]
    assert [request.number for request in requests.recent(2)] == made[:1:-1]


def test_at_most_200_waiting_requests_are_listed(requests: Approvals) -> None:
    for _ in range(203):
        requests.add(replace(ASKED, form={}))
    assert [request.number for request in requests.waiting(NOON)] == list(range(1, 201))


@pytest.mark.parametrize("state", [state for state in Waiting if state is not Waiting.WAITING])
def test_a_decision_stands(requests: Approvals, state: Waiting) -> None:
    number = requests.add(ASKED).number
    assert requests.decide(number, state, "lee \ud800", NOON + MINUTE)
    decided = replace(ASKED, number=number, state=state, decided_by="lee \\ud800", decided_at=NOON + MINUTE)
    assert requests.find(number) == decided
    for other in (Waiting.APPROVED, Waiting.DECLINED):
        assert not requests.decide(number, other, "mo", NOON + 2 * MINUTE)
    assert requests.find(number) == decided


def test_to_wait_is_no_decision(requests: Approvals) -> None:
    number = requests.add(ASKED).number
    with pytest.raises(ValueError, match="no decision"):
        requests.decide(number, Waiting.WAITING, "lee", NOON)


def test_what_has_expired_is_approved_by_nobody(requests: Approvals) -> None:
    number = requests.add(ASKED).number
    assert not requests.decide(number, Waiting.APPROVED, "lee", ASKED.expires_at)
    assert requests.decide(number, Waiting.EXPIRED, "lockboard", ASKED.expires_at)


def test_what_is_no_json_is_not_asked_for(requests: Approvals) -> None:
    with pytest.raises(TypeError):
        requests.add(replace(ASKED, wanted={"at": NOON}))
    assert list(requests.recent()) == []


def test_of_two_processes_that_decide_at_once_exactly_one_does(people: Engine, migrated: str) -> None:
    other = open_people_engine(migrated)
    processes = [SqlApprovals(people), SqlApprovals(other)]
    for _ in range(15):
        number = processes[0].add(ASKED).number
        gate = threading.Barrier(4)

        def decide(turn: int, number: int = number, gate: threading.Barrier = gate) -> bool:
            gate.wait()
            state = (Waiting.APPROVED, Waiting.DECLINED)[turn % 2]
            return processes[turn % 2].decide(number, state, f"person {turn}", NOON)

        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(decide, range(4)))
        assert said.count(True) == 1
        found = processes[1].find(number)
        assert found is not None
        assert found.decided_by == f"person {said.index(True)}"
    other.dispose()
