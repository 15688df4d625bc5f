"""`lockboard user` and `lockboard token` as somebody types them."""

from __future__ import annotations

import os
import pty
import pwd
import re
import select
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from lockboard.adapters.store import (
    SqlAccounts,
    SqlApiTokens,
    SqlAudit,
    SqlSessions,
    migrate,
    open_audit_engine,
    open_engine,
)
from lockboard.cli import main
from lockboard.cli_people import Desk
from lockboard.config import load
from lockboard.domain.access import Area, Grant, Identity, Role
from lockboard.domain.audit import AuditQuery, Entry, Head, Kind
from lockboard.domain.signin import Account, ApiToken, UnknownAccount
from lockboard.web.passwords import password_is_right
from lockboard.wiring import open_people
from tests.databases import NOON, postgresql_server, sqlite_url
from tests.emulators import REGION

KEY = "the key of the audit log in tests"
PASSWORD = "nine quiet herons"
OTHER = "ten louder herons"
ME = pwd.getpwuid(os.getuid()).pw_name
VIEWER, OPERATOR = Grant(Role.VIEWER), Grant(Role.OPERATOR, Area("prod-kr", "dev/"))


def silent(_head: Head, _at: datetime) -> None:
    return


@dataclass(frozen=True)
class Desktop:
    """A database, settings with two backends, and the commands on them."""

    folder: Path
    url: str

    @property
    def environ(self) -> dict[str, str | None]:
        return {"LOCKBOARD_DATABASE_URL": self.url, "LOCKBOARD_AUDIT_KEY": KEY}

    def settings(self, more: str = "") -> str:
        path = self.folder / "lockboard.toml"
        names = ("prod-kr", "prod-eu")
        backends = [f'[[backends]]\nname = "{n}"\nbucket = "acme-{n}"\nregion = "{REGION}"\n' for n in names]
        path.write_text("".join(backends) + more, encoding="utf-8")
        return str(path)

    def run(
        self,
        *words: str,
        feed: str | None = None,
        environ: Mapping[str, str | None] | None = None,
        more: str = "",
    ) -> Result:
        words = (*words[:2], "--config", self.settings(more), *words[2:])
        return CliRunner(env={**self.environ, **(environ or {})}).invoke(main, words, input=feed)

    def user(self, *words: str, feed: str | None = None) -> Result:
        """A command that has to succeed."""
        result = self.run("user", *words, feed=feed)
        assert result.exit_code == 0, result.output
        return result

    def add(self, name: str = "kim", *words: str) -> Result:
        return self.user(
            "add", name, *(words or ("--role", "viewer")), "--password-stdin", feed=PASSWORD + "\n"
        )

    @property
    def accounts(self) -> SqlAccounts:
        return SqlAccounts(open_engine(self.url))

    @property
    def sessions(self) -> SqlSessions:
        return SqlSessions(open_engine(self.url))

    @property
    def tokens(self) -> SqlApiTokens:
        return SqlApiTokens(open_engine(self.url))

    def account(self, name: str = "kim") -> Account:
        found = self.accounts.find(name)
        assert found is not None
        return found

    def records(self) -> list[Entry]:
        log = SqlAudit(open_audit_engine(self.url), KEY.encode(), lambda: NOON, silent)
        return [record.entry for record in log.export(AuditQuery())][::-1]

    def break_the_log(self) -> None:
        """As somebody who owns the database."""
        with open_engine(self.url).begin() as connection:
            connection.execute(text("DROP TRIGGER audit_no_update"))
            connection.execute(text("UPDATE audit SET body = '{}'"))

    def open_session(self, subject: str) -> str:
        now = datetime.now(UTC)
        return self.sessions.open(Identity(subject, subject, "local", frozenset(), now), "", now)[0]

    def is_open(self, session_id: str) -> bool:
        return self.sessions.find(session_id, datetime.now(UTC)) is not None


@pytest.fixture
def desk(tmp_path: Path) -> Desktop:
    return Desktop(tmp_path, sqlite_url(tmp_path))


# ---------------------------------------------------------------- accounts


def test_an_account_is_made_with_its_grants_and_a_hash_of_its_password(desk: Desktop) -> None:
    words = (
        "--role",
        "operator",
        "--backend",
        "prod-kr",
        "--prefix",
        "dev/",
        "--prefix",
        "test/",
        "--protected",
    )
    result = desk.add("Kim", *words)
    areas = [Area("prod-kr", "dev/"), Area("prod-kr", "test/")]
    made = desk.account()
    assert made.grants == tuple(Grant(Role.OPERATOR, area, protected=True) for area in areas)
    assert (made.name, made.disabled) == ("Kim", False)
    assert password_is_right(made.password, PASSWORD)
    assert "Kim is added: operator on prod-kr under dev/ (also protected keys); operator on" in result.stdout
    assert PASSWORD not in result.output


def test_a_role_without_a_place_holds_everywhere(desk: Desktop) -> None:
    desk.add("kim", "--role", "operator", "--unlock-unsuspected")
    assert desk.account().grants == (Grant(Role.OPERATOR, Area("*", ""), unlock_unsuspected=True),)


def test_every_change_is_recorded_with_who_typed_it_and_no_secret(desk: Desktop) -> None:
    desk.add("kim", "--role", "operator", "--backend", "prod-kr", "--prefix", "dev/")
    first = desk.account().password
    desk.user("role", "KIM", "--role", "viewer")
    desk.user("passwd", "kim", "--password-stdin", feed=OTHER)
    desk.user("disable", "kim")
    desk.user("enable", "kim")
    records = desk.records()
    assert [record.action for record in records] == [
        "account_added",
        "account_role",
        "account_password",
        "account_disabled",
        "account_enabled",
    ]
    assert {(record.kind, record.person.name, record.person.method) for record in records} == {
        (Kind.EVENT, ME, "command line")
    }
    assert {record.facts["account"] for record in records} == {"kim"}
    operator: dict[str, object] = {"role": "operator", "backend": "prod-kr", "prefix": "dev/"}
    operator |= {"unlock_unsuspected": False, "protected": False}
    viewer = {**operator, "role": "viewer", "backend": "*", "prefix": ""}
    assert records[0].facts["grants"] == [operator]
    assert records[1].facts == {"account": "kim", "grants": [viewer], "grants_before": [operator]}
    assert records[1].message == "Account kim is viewer; it was operator on prod-kr under dev/."
    kept = repr(records)
    for secret in (PASSWORD, OTHER, "scrypt", first, desk.account().password):
        assert secret not in kept


CHANGES = [
    ("user", "add", "lee", "--role", "viewer", "--password-stdin"),
    ("user", "role", "kim", "--role", "administrator"),
    ("user", "passwd", "kim", "--password-stdin"),
    ("user", "disable", "kim"),
    ("user", "enable", "kim"),
    ("token", "revoke", "1"),
    ("token", "add", "ci", "--role", "viewer"),
]
every_change = pytest.mark.parametrize("words", CHANGES, ids=lambda words: " ".join(words[:2]))


def whole(desk: Desktop) -> tuple[list[Account], list[ApiToken]]:
    return list(desk.accounts.every()), list(desk.tokens.every())


def with_kim_and_a_token(desk: Desktop) -> None:
    desk.add("kim")
    assert desk.run("token", "add", "nightly", "--role", "viewer").exit_code == 0


@every_change
def test_without_an_audit_log_nothing_is_changed(desk: Desktop, words: tuple[str, ...]) -> None:
    with_kim_and_a_token(desk)
    before = whole(desk)
    result = desk.run(*words, feed=OTHER, environ={"LOCKBOARD_AUDIT_KEY": None})
    assert result.exit_code == 2
    assert (
        "lockboard: there is no audit log, and every change of who may do what is kept in it" in result.stderr
    )
    assert whole(desk) == before


@every_change
def test_where_the_log_takes_no_record_nothing_is_changed(desk: Desktop, words: tuple[str, ...]) -> None:
    with_kim_and_a_token(desk)
    session = desk.open_session("local|kim")
    accounts, tokens = whole(desk)
    desk.break_the_log()
    result = desk.run(*words, feed=OTHER)
    assert result.exit_code == 2
    assert "the audit log is broken" in result.stderr
    assert result.stdout == ""
    now_accounts, now_tokens = whole(desk)
    assert now_accounts == accounts
    assert [
        token for token in now_tokens if token.revoked_at is None
    ] == tokens  # what was made opens nothing
    assert desk.is_open(session)


@pytest.mark.parametrize(
    "words",
    [("disable", "KIM"), ("role", "kim", "--role", "auditor"), ("passwd", "kim", "--password-stdin")],
    ids=lambda words: words[0],
)
def test_a_loss_of_rights_ends_the_sessions_of_that_account_alone(
    desk: Desktop, words: tuple[str, ...]
) -> None:
    desk.add("kim")
    kims = [desk.open_session("local|kim") for _ in range(2)]
    others = [desk.open_session(subject) for subject in ("local|lee", "https://idp.example.com|kim")]
    result = desk.user(*words, feed=OTHER)
    assert result.stdout.endswith("2 sessions were ended.\n")
    assert [desk.is_open(session) for session in (*kims, *others)] == [False, False, True, True]


def test_disabling_and_enabling_keep_password_and_grants(desk: Desktop) -> None:
    desk.add("kim")
    made = desk.account()
    desk.user("disable", "kim")
    assert desk.account().disabled
    desk.user("enable", "kim")
    assert desk.account() == made


def test_a_new_password_replaces_the_old_one(desk: Desktop) -> None:
    desk.add("kim")
    desk.user("passwd", "kim", "--password-stdin", feed=OTHER + "\r\n")
    kept = desk.account().password
    assert (password_is_right(kept, OTHER), password_is_right(kept, PASSWORD)) == (True, False)


@pytest.mark.parametrize("name", ["", "kim lee", "kim|root", "kím", "x" * 65, "kim\n"])
def test_a_name_of_other_characters_is_refused(desk: Desktop, name: str) -> None:
    result = desk.run("user", "add", "--role", "viewer", "--password-stdin", "--", name, feed=PASSWORD)
    assert result.exit_code == 2
    assert "1 to 64 of the letters a to z, digits, and . _ - @" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--role", "viewer", "--backend", "prod-us"),
            "--backend prod-us: there is none of this name: prod-kr,",
        ),
        (("--role", "viewer", "--backend", "\x1b[2J"), "--backend \\x1b[2J: there is none"),
        (("--role", "viewer", "--protected"), "belong to --role operator"),
        (("--role", "administrator", "--unlock-unsuspected"), "belong to --role operator"),
        (("--role", "root"), "'root' is not one of"),
        ((), "Missing option '--role'"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(desk: Desktop, words: tuple[str, ...], said: str) -> None:
    desk.add("kim")
    before = whole(desk)
    for command in (
        ("user", "add", "lee", "--password-stdin"),
        ("user", "role", "kim"),
        ("token", "add", "ci"),
    ):
        result = desk.run(*command, *words, feed=PASSWORD)
        assert result.exit_code == 2
        assert said in result.stderr
    assert whole(desk) == before


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("too short\n", "fewer than 12 characters"),
        ("", "fewer than 12 characters"),
        ("\n" + PASSWORD, "fewer than 12 characters"),
        ("x" * 5000, "longer than 1024 bytes"),
        ("password1234", "first that anybody tries"),
    ],
)
def test_a_bad_password_is_refused_and_not_repeated(desk: Desktop, feed: str, said: str) -> None:
    desk.add("kim")
    made = desk.account()
    for words in (("add", "lee", "--role", "viewer"), ("passwd", "kim")):
        result = desk.run("user", *words, "--password-stdin", feed=feed)
        assert result.exit_code == 2
        assert said in result.stderr
        assert feed.strip() not in result.output or not feed.strip()
    assert list(desk.accounts.every()) == [made]


def test_the_name_is_no_password(desk: Desktop) -> None:
    result = desk.run(
        "user", "add", "kim@example.com", "--role", "viewer", "--password-stdin", feed="Kim@example.com"
    )
    assert "lockboard: The password is the account's name." in result.stderr


def test_bytes_that_are_no_text_are_no_password(desk: Desktop) -> None:
    words = ["user", "add", "--config", desk.settings(), "kim", "--role", "viewer", "--password-stdin"]
    result = CliRunner(env=desk.environ).invoke(main, words, input=b"\xff\xfe twelve bytes or more\n")
    assert result.exit_code == 2
    assert "lockboard: the password is not UTF-8 text" in result.stderr


def test_without_a_terminal_nobody_is_asked(desk: Desktop) -> None:
    result = desk.run("user", "add", "kim", "--role", "viewer", feed=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 2
    assert "there is no terminal to ask for the password: give it with --password-stdin" in result.stderr
    assert list(desk.accounts.every()) == []


def typed(desk: Desktop, *answers: str) -> tuple[int, str]:
    """`user add` at a terminal of its own: its exit status and what that showed."""
    words = [
        sys.executable,
        "-m",
        "lockboard",
        "user",
        "add",
        "--config",
        desk.settings(),
        "kim",
        "--role",
        "viewer",
    ]
    environ = {**os.environ, "LOCKBOARD_DATABASE_URL": desk.url, "LOCKBOARD_AUDIT_KEY": KEY}
    process, terminal = pty.fork()
    if process == 0:
        os.execve(words[0], words, environ)
    shown, asked, left = "", 0, list(answers)
    ends = time.monotonic() + 60
    with suppress(OSError):  # Linux's word for the end of a terminal
        while select.select([terminal], [], [], max(0.0, ends - time.monotonic()))[0]:
            shown += os.read(terminal, 4096).decode()
            if left and len(re.findall(r"(?:Password|Repeat for confirmation): ", shown)) > asked:
                asked += 1
                os.write(terminal, left.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(desk: Desktop) -> None:
    status, shown = typed(desk, PASSWORD, OTHER, PASSWORD, PASSWORD)
    assert status == 0, shown
    assert "The two entered values do not match" in shown
    assert PASSWORD not in shown
    assert OTHER not in shown
    assert password_is_right(desk.account().password, PASSWORD)


def test_a_name_is_given_once_whatever_its_letter_case(desk: Desktop) -> None:
    desk.add("kim")
    result = desk.run("user", "add", "KIM", "--role", "administrator", "--password-stdin", feed=OTHER)
    assert result.exit_code == 2
    assert "lockboard: there is an account KIM already, perhaps in other letter case" in result.stderr
    assert desk.account().grants == (VIEWER,)
    assert [record.action for record in desk.records()] == ["account_added"]


@pytest.mark.parametrize(
    "words",
    [("disable",), ("enable",), ("role", "--role", "viewer"), ("passwd", "--password-stdin")],
    ids=lambda words: words[0],
)
def test_an_account_that_there_is_not_is_named_escaped(desk: Desktop, words: tuple[str, ...]) -> None:
    result = desk.run("user", *words, "--", "\x1b]0;kim\x07", feed=PASSWORD)
    assert result.exit_code == 2
    assert (
        "lockboard: there is no account \\x1b]0;kim\\x07: `lockboard user list` names them" in result.stderr
    )
    assert desk.records() == []


def test_a_change_that_fails_after_its_record_has_a_second_one(desk: Desktop) -> None:
    path = Path(desk.settings())
    migrate(open_engine(desk.url))
    settings = load(path, {"LOCKBOARD_DATABASE_URL": desk.url, "LOCKBOARD_AUDIT_KEY": KEY}, acts=False)
    log = SqlAudit(open_audit_engine(desk.url), KEY.encode(), lambda: NOON, silent)
    people = open_people(settings)

    def gone() -> Account:
        return people.accounts.set_disabled("kim", True)

    with pytest.raises(UnknownAccount):
        Desk(settings, people, log, NOON).change("account_disabled", "It is.", {"account": "kim"}, gone)
    first, second = desk.records()
    assert (first.message, first.facts) == ("It is.", {"account": "kim"})
    assert second.message == "The change of the record before did not happen: kim"
    assert (second.action, second.facts) == ("account_disabled", {"account": "kim", "failed": True})


def test_accounts_are_listed_with_what_they_may_do_and_without_an_audit_key(desk: Desktop) -> None:
    assert "There are no accounts." in desk.user("list").stdout
    desk.add("lee", "--role", "operator", "--backend", "prod-kr", "--prefix", "dev/")
    desk.add("Kim")
    desk.user("disable", "lee")
    result = desk.run("user", "list", environ={"LOCKBOARD_AUDIT_KEY": None})
    kim, lee = result.stdout.splitlines()
    assert re.fullmatch(r"Kim +enabled  viewer; password of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", kim)
    assert re.fullmatch(r"lee +disabled operator on prod-kr under dev/; password of .* UTC", lee)
    assert "scrypt" not in result.output


def test_no_list_steers_the_terminal(desk: Desktop) -> None:
    migrate(open_engine(desk.url))
    hostile = "\x1b[2J\u202ekim"
    desk.accounts.add(hostile, [Grant(Role.VIEWER, Area(hostile, hostile))], "", NOON)
    desk.tokens.add(hostile, hostile, [VIEWER], NOON, NOON + timedelta(days=1))
    for words in (("user", "list"), ("token", "list")):
        shown = desk.run(*words).output
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\\x1b[2J\\u202ekim" in shown


def test_where_people_sign_in_otherwise_that_is_said(desk: Desktop) -> None:
    words = ("user", "add", "kim", "--role", "viewer", "--password-stdin")
    result = desk.run(*words, feed=PASSWORD, more='[auth]\nmode = "demo"\n')
    assert result.exit_code == 0
    assert '[auth] mode is "demo": accounts count only where it is "local"' in result.stderr


# ---------------------------------------------------------------- tokens


def add_token(desk: Desktop, *words: str) -> tuple[str, Result]:
    """The secret, and how it was made."""
    result = desk.run("token", "add", "ci", "--role", "viewer", *words)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n"), result


def test_a_token_s_secret_is_alone_on_standard_output_and_opens_what_was_granted(desk: Desktop) -> None:
    words = ("--role", "operator", "--backend", "prod-kr", "--prefix", "dev/", "--days", "7")
    began = datetime.now(UTC)
    secret, result = add_token(desk, *words)
    found = desk.tokens.find(secret, datetime.now(UTC))
    assert found is not None
    assert (found.number, found.name, found.owner, found.grants) == (1, "ci", ME, (OPERATOR,))
    assert timedelta(0) <= found.created_at - began < timedelta(minutes=1)
    assert found.expires_at - found.created_at == timedelta(days=7)
    assert secret.startswith("lbt_")
    assert secret not in result.stderr
    assert "Token 1 (ci): operator on prod-kr under dev/, until " in result.stderr


def test_a_token_lasts_30_days_unless_said_and_90_at_most(desk: Desktop) -> None:
    add_token(desk)
    add_token(desk, "--days", "90")
    assert [token.expires_at - token.created_at for token in desk.tokens.every()] == [
        timedelta(days=90),
        timedelta(days=30),
    ]
    for days in ("0", "91", "-1"):
        result = desk.run("token", "add", "ci", "--role", "viewer", f"--days={days}")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is not in the range 1<=x<=90" in result.stderr


def test_tokens_are_recorded_by_number_and_never_with_their_secret(desk: Desktop) -> None:
    secret, _ = add_token(desk)
    assert desk.run("token", "revoke", "1").exit_code == 0
    added, revoked = desk.records()
    assert (added.action, revoked.action) == ("token_added", "token_revoked")
    viewer = {"role": "viewer", "backend": "*", "prefix": "", "unlock_unsuspected": False, "protected": False}
    who = {"token": 1, "name": "ci", "owner": ME}
    assert added.facts == {**who, "grants": [viewer], "days": 30}
    assert revoked.facts == who
    assert (added.person.name, added.person.method) == (ME, "command line")
    assert secret.removeprefix("lbt_") not in repr((added, revoked))


def test_a_revoked_token_opens_nothing_and_is_revoked_once(desk: Desktop) -> None:
    secret, _ = add_token(desk)
    assert desk.run("token", "revoke", "1").stdout == "Token 1 (ci) is revoked.\n"
    assert desk.tokens.find(secret, datetime.now(UTC)) is None
    again = desk.run("token", "revoke", "1")
    assert again.exit_code == 0
    assert re.fullmatch(r"Token 1 \(ci\) was revoked .* UTC already\.\n", again.stdout)
    assert [record.action for record in desk.records()] == ["token_added", "token_revoked"]


@pytest.mark.parametrize("number", ["2", "0", "-1", "x", "9" * 30])
def test_a_number_that_no_token_has_is_refused(desk: Desktop, number: str) -> None:
    secret, _ = add_token(desk)
    assert desk.run("token", "revoke", "--", number).exit_code == 2
    assert desk.tokens.find(secret, datetime.now(UTC)) is not None


def test_tokens_are_listed_newest_first_with_their_end_and_use(desk: Desktop) -> None:
    assert desk.run("token", "list").stdout == "There are no API tokens.\n"
    secret, _ = add_token(desk)
    add_token(desk, "--days", "1")
    desk.tokens.find(secret, datetime.now(UTC))
    desk.tokens.add("old", "lee", [VIEWER], NOON - timedelta(days=3), NOON - timedelta(days=2))
    desk.run("token", "revoke", "2")
    result = desk.run("token", "list", environ={"LOCKBOARD_AUDIT_KEY": None})
    old, revoked, used = result.stdout.splitlines()
    assert re.match(r" +3 old +ended 2026-11-18 12:00:00 UTC; viewer; made by lee .*; never used$", old)
    assert re.match(rf" +2 ci +revoked .* UTC; viewer; made by {ME} .* UTC; never used$", revoked)
    assert re.match(rf" +1 ci +ends .* UTC; viewer; made by {ME} .* UTC; used .* UTC$", used)
    assert "lbt_" not in result.stdout


# ---------------------------------------------------------------- the other database


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as server:
        yield server.fresh()


@pytest.mark.postgres
def test_all_of_it_works_in_postgresql(server: str, tmp_path: Path) -> None:
    desk = Desktop(tmp_path, server)
    desk.add("kim")
    session = desk.open_session("local|kim")
    secret, _ = add_token(desk)
    desk.user("role", "kim", "--role", "operator", "--backend", "prod-kr", "--prefix", "dev/")
    desk.user("passwd", "kim", "--password-stdin", feed=OTHER)
    desk.user("disable", "kim")
    assert desk.run("token", "revoke", "1").exit_code == 0
    assert (desk.account().grants, desk.account().disabled) == ((OPERATOR,), True)
    assert password_is_right(desk.account().password, OTHER)
    assert not desk.is_open(session)
    assert desk.tokens.find(secret, datetime.now(UTC)) is None
    assert [record.action for record in desk.records()] == [
        "account_added",
        "token_added",
        "account_role",
        "account_password",
        "account_disabled",
        "token_revoked",
    ]
