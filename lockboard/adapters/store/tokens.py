"""API tokens in SQLite or PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, insert, or_, select, update

from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import (
    changing,
    grants_from_text,
    grants_to_text,
    is_number,
    moment,
    moment_or_none,
    noting,
    secret_hash,
)
from lockboard.adapters.store.rows import storable
from lockboard.adapters.store.schema import api_tokens
from lockboard.domain.access import Grant
from lockboard.domain.errors import StoreError
from lockboard.domain.signin import ApiToken

PREFIX = "lbt_"
"""What a secret begins with, so that scanners for leaked ones can know it."""
NOTED_EVERY = timedelta(minutes=1)

_WHOLE = tuple(column for column in api_tokens.columns if column.name != "id")


def _random() -> str:
    return PREFIX + secrets.token_urlsafe(32)


class SqlApiTokens:
    """`domain.signin.ApiTokens` over a database that has been migrated.

    new_secret: gives `lbt_` and 256 random bits.
    """

    def __init__(self, engine: Engine, new_secret: Callable[[], str] = _random) -> None:
        self._engine, self._new_secret = engine, new_secret

    def add(
        self, name: str, owner: str, grants: Sequence[Grant], now: datetime, expires_at: datetime
    ) -> tuple[str, ApiToken]:
        secret = self._new_secret()
        new = insert(api_tokens).values(
            id=secret_hash(secret),
            name=storable(name),
            owner=storable(owner),
            grants=grants_to_text(grants),
            created_at=now.timestamp(),
            expires_at=expires_at.timestamp(),
        )
        with changing(self._engine) as connection:
            return secret, _token(connection.execute(new.returning(*_WHOLE)).one())

    def find(self, secret: str, now: datetime) -> ApiToken | None:
        if not secret.startswith(PREFIX):
            return None
        query = select(*_WHOLE).where(api_tokens.c.id == secret_hash(secret))
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        found = _token(row) if row else None
        if found is None or found.is_over(now):
            return None
        noted = found.used_at is not None and now - found.used_at < NOTED_EVERY
        return found if noted else self._used(found, now)

    def every(self) -> Sequence[ApiToken]:
        query = select(*_WHOLE).order_by(api_tokens.c.number.desc())
        with reading(self._engine) as connection:
            return [_token(row) for row in connection.execute(query)]

    def revoke(self, number: int, now: datetime) -> ApiToken | None:
        if not is_number(number):
            return None
        same = api_tokens.c.number == number
        first = update(api_tokens).where(same, api_tokens.c.revoked_at.is_(None))
        with changing(self._engine) as connection:
            connection.execute(first.values(revoked_at=now.timestamp()))
            row = connection.execute(select(*_WHOLE).where(same)).first()
        return _token(row) if row else None

    def _used(self, token: ApiToken, now: datetime) -> ApiToken:
        """Noted, unless the database is busy: the program's request goes on."""
        before = api_tokens.c.used_at
        due = or_(before.is_(None), before <= (now - NOTED_EVERY).timestamp())
        same = api_tokens.c.number == token.number
        try:
            with noting(self._engine) as connection:
                connection.execute(update(api_tokens).where(same, due).values(used_at=now.timestamp()))
        except StoreError:
            return token
        return replace(token, used_at=now)


def _token(row: Any) -> ApiToken:
    return ApiToken(
        row.number,
        row.name,
        row.owner,
        grants_from_text(row.grants),
        moment(row.created_at),
        moment(row.expires_at),
        moment_or_none(row.revoked_at),
        moment_or_none(row.used_at),
    )
