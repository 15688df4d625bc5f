"""Local accounts in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import changing, grants_from_text, grants_to_text, moment
from lockboard.adapters.store.rows import storable
from lockboard.adapters.store.schema import accounts
from lockboard.domain.access import Grant
from lockboard.domain.signin import Account, AccountExists, UnknownAccount


class SqlAccounts:
    """`domain.signin.Accounts` over a database that has been migrated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, name: str, grants: Sequence[Grant], password: str, now: datetime) -> Account:
        new = insert(accounts).values(
            folded=_folded(name),
            name=storable(name),
            grants=grants_to_text(grants),
            password=password,
            disabled=0,
            created_at=now.timestamp(),
            changed_at=now.timestamp(),
        )
        with changing(self._engine) as connection:
            try:
                return _account(connection.execute(new.returning(*accounts.columns)).one())
            except IntegrityError:
                raise AccountExists(name) from None

    def find(self, name: str) -> Account | None:
        with reading(self._engine) as connection:
            row = connection.execute(select(accounts).where(accounts.c.folded == _folded(name))).first()
        return _account(row) if row else None

    def every(self) -> Sequence[Account]:
        with reading(self._engine) as connection:
            return [_account(row) for row in connection.execute(select(accounts).order_by(accounts.c.folded))]

    def grant(self, name: str, grants: Sequence[Grant]) -> Account:
        return self._change(name, grants=grants_to_text(grants))

    def set_password(self, name: str, password: str, now: datetime) -> Account:
        return self._change(name, password=password, changed_at=now.timestamp())

    def set_disabled(self, name: str, disabled: bool) -> Account:
        return self._change(name, disabled=int(disabled))

    def _change(self, name: str, **values: object) -> Account:
        one = update(accounts).where(accounts.c.folded == _folded(name)).values(**values)
        with changing(self._engine) as connection:
            row = connection.execute(one.returning(*accounts.columns)).first()
        if row is None:
            raise UnknownAccount(name)
        return _account(row)


def _folded(name: str) -> str:
    return storable(name.casefold())


def _account(row: Any) -> Account:
    return Account(
        row.name,
        grants_from_text(row.grants),
        row.password,
        row.disabled != 0,
        moment(row.created_at),
        moment(row.changed_at),
    )
