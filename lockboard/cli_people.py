"""The commands for local accounts and API tokens. Every change is in the audit log, or is not made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from lockboard.cli_common import config_option, fail, settings_of, typing_person
from lockboard.config import Settings
from lockboard.domain.access import EVERY_BACKEND, Area, Grant, Role
from lockboard.domain.audit import Audit, Entry, Kind
from lockboard.domain.errors import LockboardError, SettingsError
from lockboard.domain.people import (
    NAME_RULE,
    grants_to_json,
    is_name,
    is_plain_prefix,
    spoken_grants,
    token_facts,
)
from lockboard.domain.signin import TOKEN_LIFE, Account, AccountExists, ApiToken, UnknownAccount
from lockboard.domain.text import shown, spoken_time

if TYPE_CHECKING:
    from lockboard.wiring import People

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

DAYS = TOKEN_LIFE.days
_LONGEST_LINE = 4096
_STATUS = "Exit status: 0 done, 2 not done; the reason is said."


class Refused(LockboardError):
    """It was not done."""


class Asked(NamedTuple):
    """What an account or a token shall be allowed to do, as it was typed."""

    role: Role
    backends: Sequence[str]
    prefixes: Sequence[str]
    unlock_unsuspected: bool
    protected: bool

    def grants(self, settings: Settings) -> tuple[Grant, ...]:
        """One for each backend and prefix. Raises Refused."""
        known = [backend.name for backend in settings.backends]
        for name in self.backends:
            if name not in known:
                raise Refused(f"--backend {shown(name, 64)}: there is none of this name: {', '.join(known)}")
        if not all(is_plain_prefix(prefix) for prefix in self.prefixes):
            raise Refused("--prefix: at most 1,024 characters, no backslash, and none that cannot be seen")
        if (self.unlock_unsuspected or self.protected) and self.role is not Role.OPERATOR:
            raise Refused("--unlock-unsuspected and --protected belong to --role operator")
        return tuple(
            Grant(self.role, Area(backend, prefix), self.unlock_unsuspected, self.protected)
            for backend in dict.fromkeys(self.backends or (EVERY_BACKEND,))
            for prefix in dict.fromkeys(self.prefixes or ("",))
        )


@dataclass(frozen=True)
class Desk:
    """What the commands work on. audit: None where nothing is to be changed."""

    settings: Settings
    people: People
    audit: Audit | None
    now: datetime

    def account(self, name: str) -> Account:
        """Raises Refused."""
        found = self.people.accounts.find(name)
        if found is None:
            raise Refused(f"there is no account {shown(name, 64)}: `lockboard user list` names them")
        return found

    def change(self, action: str, message: str, facts: dict[str, Any], make: Callable[[], T]) -> T:
        """Record what is about to change, then make it; if that fails, record that too, and raise."""
        self.record(action, message, facts)
        try:
            return make()
        except (LockboardError, AccountExists, UnknownAccount) as error:
            said = f"The change of the record before did not happen: {shown(str(error), 500)}"
            with suppress(LockboardError):
                self.record(action, said, {**facts, "failed": True})
            raise

    def record(self, action: str, message: str, facts: dict[str, Any]) -> None:
        """Raises AuditError."""
        assert self.audit is not None
        self.audit.append(Entry(Kind.EVENT, action, typing_person(), message=message, facts=facts))


@contextmanager
def _desk(config_path: Path | None, *, changes: bool) -> Iterator[Desk]:
    """Everything opened; what is refused in it ends the command with status 2."""
    from lockboard.wiring import open_audit, open_people, open_store, utc_now

    settings = settings_of(config_path)
    try:
        if changes and settings.audit_key is None:
            raise SettingsError(
                "there is no audit log, and every change of who may do what is kept in it: set"
                " LOCKBOARD_AUDIT_KEY or LOCKBOARD_AUDIT_KEY_FILE"
            )
        open_store(settings)[0].dispose()
        audit = open_audit(settings, sys.stderr) if changes else None
        yield Desk(settings, open_people(settings), audit, utc_now())
    except AccountExists as error:
        fail(Refused(f"there is an account {shown(str(error), 64)} already, perhaps in other letter case"))
    except UnknownAccount as error:
        fail(Refused(f"there is no account {shown(str(error.args[0]), 64)} any more"))
    except LockboardError as error:
        fail(error)


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_name(value):
        raise click.BadParameter(f"is {NAME_RULE}")
    return value


name_argument = click.argument("name", callback=_name)
"""Of an account or a token that is to be made."""


def grant_options(command: Command) -> Command:
    """What is granted; collected by `Asked`."""
    options = (
        click.option("--role", type=click.Choice([role.value for role in Role]), required=True),
        click.option(
            "--backend", "backends", multiple=True, metavar="NAME", help="On this backend only; repeatable."
        ),
        click.option("--prefix", "prefixes", multiple=True, help="Only on keys that start so; repeatable."),
        click.option(
            "--unlock-unsuspected",
            is_flag=True,
            help="An operator may also release locks that are not suspected stale.",
        ),
        click.option(
            "--protected",
            is_flag=True,
            help="An operator may also act on protected keys, and approve such actions of others.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


stdin_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input, one line."
)


def _asked(
    role: str, backends: Sequence[str], prefixes: Sequence[str], unlock: bool, protected: bool
) -> Asked:
    return Asked(Role(role), backends, prefixes, unlock, protected)


# ---------------------------------------------------------------- accounts


@click.group()
def user() -> None:
    """Local accounts: who signs in with a password, and what they may do."""


@user.command("add", epilog=_STATUS)
@config_option
@name_argument
@grant_options
@stdin_option
def user_add(
    config_path: Path | None,
    name: str,
    role: str,
    backends: Sequence[str],
    prefixes: Sequence[str],
    unlock_unsuspected: bool,
    protected: bool,
    from_stdin: bool,
) -> None:
    """Make an account. Its password is asked for twice."""
    with _desk(config_path, changes=True) as desk:
        grants = _asked(role, backends, prefixes, unlock_unsuspected, protected).grants(desk.settings)
        accounts = desk.people.accounts
        if accounts.find(name) is not None:
            raise AccountExists(name)
        password = _hashed(_password(from_stdin), name)
        desk.change(
            "account_added",
            f"Account {name} is added: {spoken_grants(grants)}.",
            {"account": name, "grants": grants_to_json(grants)},
            lambda: accounts.add(name, grants, password, desk.now),
        )
        click.echo(f"{name} is added: {spoken_grants(grants)}.")
        mode = desk.settings.auth.mode
        if mode not in (None, "local"):
            click.echo(
                f'lockboard: [auth] mode is "{mode}": accounts count only where it is "local"', err=True
            )


@user.command("disable", epilog=_STATUS)
@config_option
@click.argument("name")
def user_disable(config_path: Path | None, name: str) -> None:
    """Let somebody in no more, and end their sessions. The account stays, and so do their API tokens."""
    with _desk(config_path, changes=True) as desk:
        account = desk.account(name)
        desk.change(
            "account_disabled",
            f"Account {account.name} is disabled.",
            {"account": account.name},
            lambda: desk.people.accounts.set_disabled(account.name, True),
        )
        click.echo(f"{account.name} is disabled. {_ended(desk, account)}")


@user.command("enable", epilog=_STATUS)
@config_option
@click.argument("name")
def user_enable(config_path: Path | None, name: str) -> None:
    """Let somebody in again, with the password and the role they had."""
    with _desk(config_path, changes=True) as desk:
        account = desk.account(name)
        desk.change(
            "account_enabled",
            f"Account {account.name} is enabled.",
            {"account": account.name},
            lambda: desk.people.accounts.set_disabled(account.name, False),
        )
        click.echo(f"{account.name} is enabled: {spoken_grants(account.grants)}.")


@user.command("role", epilog=_STATUS)
@config_option
@click.argument("name")
@grant_options
def user_role(
    config_path: Path | None,
    name: str,
    role: str,
    backends: Sequence[str],
    prefixes: Sequence[str],
    unlock_unsuspected: bool,
    protected: bool,
) -> None:
    """Replace all that somebody may do, and end their sessions."""
    with _desk(config_path, changes=True) as desk:
        account = desk.account(name)
        grants = _asked(role, backends, prefixes, unlock_unsuspected, protected).grants(desk.settings)
        desk.change(
            "account_role",
            f"Account {account.name} is {spoken_grants(grants)}; it was {spoken_grants(account.grants)}.",
            {
                "account": account.name,
                "grants": grants_to_json(grants),
                "grants_before": grants_to_json(account.grants),
            },
            lambda: desk.people.accounts.grant(account.name, grants),
        )
        click.echo(f"{account.name} is now: {spoken_grants(grants)}. {_ended(desk, account)}")


@user.command("passwd", epilog=_STATUS)
@config_option
@click.argument("name")
@stdin_option
def user_passwd(config_path: Path | None, name: str, from_stdin: bool) -> None:
    """Give an account another password, asked for twice, and end its sessions."""
    with _desk(config_path, changes=True) as desk:
        account = desk.account(name)
        password = _hashed(_password(from_stdin), account.name)
        desk.change(
            "account_password",
            f"Account {account.name} has another password.",
            {"account": account.name},
            lambda: desk.people.accounts.set_password(account.name, password, desk.now),
        )
        click.echo(f"{account.name} has another password. {_ended(desk, account)}")


@user.command("list")
@config_option
def user_list(config_path: Path | None) -> None:
    """Every account: its name, what it may do, and since when its password is the one it is."""
    with _desk(config_path, changes=False) as desk:
        accounts = desk.people.accounts.every()
        for account in accounts:
            state = "disabled" if account.disabled else "enabled"
            click.echo(
                f"{shown(account.name, 64):<24} {state:<8} {spoken_grants(account.grants)};"
                f" password of {spoken_time(account.changed_at)}"
            )
        if not accounts:
            click.echo("There are no accounts. `lockboard user add NAME --role administrator` makes one.")


def _ended(desk: Desk, account: Account) -> str:
    """End the account's sessions, and say how many."""
    try:
        ended = desk.people.sessions.close_all(account.subject)
    except LockboardError as error:
        raise Refused(f"done, but the sessions of {account.name} could not be ended: {error}") from error
    return f"{ended} {'session was' if ended == 1 else 'sessions were'} ended."


def _password(from_stdin: bool) -> str:
    """What was typed, twice the same. Raises Refused."""
    if not from_stdin:
        if not sys.stdin.isatty():
            raise Refused("there is no terminal to ask for the password: give it with --password-stdin")
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    line = sys.stdin.buffer.readline(_LONGEST_LINE)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise Refused("the password is not UTF-8 text") from None


def _hashed(password: str, account_name: str) -> str:
    from lockboard.web.passwords import hash_password, refusal

    if why := refusal(password, account_name):
        raise Refused(why)
    return hash_password(password)


# ---------------------------------------------------------------- tokens


@click.group()
def token() -> None:
    """API tokens: the keys of programs."""


@token.command("add", epilog=_STATUS)
@config_option
@name_argument
@grant_options
@click.option(
    "--days", type=click.IntRange(1, DAYS), default=30, show_default=True, help="After which it ends."
)
def token_add(
    config_path: Path | None,
    name: str,
    role: str,
    backends: Sequence[str],
    prefixes: Sequence[str],
    unlock_unsuspected: bool,
    protected: bool,
    days: int,
) -> None:
    """Make a token and print its secret, alone on standard output. It is never shown again."""
    with _desk(config_path, changes=True) as desk:
        grants = _asked(role, backends, prefixes, unlock_unsuspected, protected).grants(desk.settings)
        owner = typing_person().name
        secret, made = desk.people.tokens.add(name, owner, grants, desk.now, desk.now + timedelta(days=days))
        said = f"{spoken_grants(grants)}, until {spoken_time(made.expires_at)}"
        # The record needs its number. Until it is durable nobody has the secret, so the token opens nothing.
        try:
            desk.record(
                "token_added",
                f"API token {made.number} ({name}) is added: {said}.",
                {**token_facts(made), "grants": grants_to_json(grants), "days": days},
            )
        except LockboardError:
            with suppress(LockboardError):
                desk.people.tokens.revoke(made.number, desk.now)
            raise
        click.echo(f"Token {made.number} ({name}): {said}. Its secret, now and never again:", err=True)
        click.echo(secret)


@token.command("list")
@config_option
def token_list(config_path: Path | None) -> None:
    """Every token, newest first: its number, what it may do, who made it, and when it ends."""
    with _desk(config_path, changes=False) as desk:
        tokens = desk.people.tokens.every()
        for found in tokens:
            used = "never used" if found.used_at is None else f"used {spoken_time(found.used_at)}"
            click.echo(
                f"{found.number:>5} {shown(found.name, 64):<24} {_standing(found, desk.now)};"
                f" {spoken_grants(found.grants)}; made by {shown(found.owner, 64)}"
                f" {spoken_time(found.created_at)}; {used}"
            )
        if not tokens:
            click.echo("There are no API tokens.")


@token.command("revoke", epilog=_STATUS)
@config_option
@click.argument("number", type=click.IntRange(min=1))
def token_revoke(config_path: Path | None, number: int) -> None:
    """Let a token open nothing any more, from its next request on."""
    with _desk(config_path, changes=True) as desk:
        tokens = desk.people.tokens
        found = next((each for each in tokens.every() if each.number == number), None)
        if found is None:
            raise Refused(f"there is no token {number}: `lockboard token list` names them")
        if found.revoked_at is not None:
            click.echo(f"Token {number} ({shown(found.name, 64)}) was {_standing(found, desk.now)} already.")
            return
        desk.change(
            "token_revoked",
            f"API token {number} ({shown(found.name, 64)}) is revoked.",
            token_facts(found),
            lambda: tokens.revoke(number, desk.now),
        )
        click.echo(f"Token {number} ({shown(found.name, 64)}) is revoked.")


def _standing(found: ApiToken, now: datetime) -> str:
    if found.revoked_at is not None:
        return f"revoked {spoken_time(found.revoked_at)}"
    return f"{'ended' if found.is_over(now) else 'ends'} {spoken_time(found.expires_at)}"
