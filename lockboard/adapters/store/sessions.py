"""Sessions in SQLite or PostgreSQL."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, not_, select, update

from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import changing, is_number, moment, noting, secret_hash, to_text
from lockboard.adapters.store.schema import sessions
from lockboard.domain.access import Identity
from lockboard.domain.errors import StoreError
from lockboard.domain.signin import SESSION_IDLE, SESSION_LIFE, Session

LIVE_LIMIT = 500
NOTED_EVERY = timedelta(minutes=1)

_SLACK = timedelta(minutes=1)
_WHOLE = tuple(column for column in sessions.columns if column.name != "id")


def _random() -> str:
    return secrets.token_urlsafe(32)


class SqlSessions:
    """`domain.signin.Sessions` over a database that has been migrated.

    new_id: gives a text of 256 random bits, for the ID and for what its forms carry.
    """

    def __init__(self, engine: Engine, new_id: Callable[[], str] = _random) -> None:
        self._engine, self._new_id = engine, new_id

    def open(self, identity: Identity, address: str, now: datetime) -> tuple[str, Session]:
        session_id, csrf, at = self._new_id(), self._new_id(), now.timestamp()
        new = insert(sessions).values(
            id=secret_hash(session_id),
            subject=to_text(identity.subject),
            name=to_text(identity.name),
            method=identity.method,
            groups=to_text(sorted(identity.groups)),
            csrf=csrf,
            address=to_text(address),
            opened_at=at,
            seen_at=at,
            signed_in_at=identity.signed_in_at.timestamp(),
        )
        with changing(self._engine) as connection:
            row = connection.execute(new.returning(*_WHOLE)).one()
        return session_id, _session(row)

    def find(self, session_id: str, now: datetime) -> Session | None:
        query = select(*_WHOLE).where(sessions.c.id == secret_hash(session_id))
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        found = _session(row) if row else None
        if found is None or found.is_over(now):
            return None
        return self._seen(found, now) if now - found.seen_at >= NOTED_EVERY else found

    def close(self, session_id: str) -> None:
        with changing(self._engine) as connection:
            connection.execute(delete(sessions).where(sessions.c.id == secret_hash(session_id)))

    def close_number(self, number: int) -> Session | None:
        if not is_number(number):
            return None
        ended = delete(sessions).where(sessions.c.number == number).returning(*_WHOLE)
        with changing(self._engine) as connection:
            row = connection.execute(ended).first()
        return _session(row) if row else None

    def close_all(self, subject: str) -> int:
        with changing(self._engine) as connection:
            ended = connection.execute(delete(sessions).where(sessions.c.subject == to_text(subject)))
            return ended.rowcount

    def live(self, now: datetime) -> Sequence[Session]:
        newest = (sessions.c.seen_at.desc(), sessions.c.number.desc())
        query = select(*_WHOLE).where(_is_live(now)).order_by(*newest).limit(LIVE_LIMIT)
        with reading(self._engine) as connection:
            return [_session(row) for row in connection.execute(query)]

    def sweep(self, now: datetime) -> int:
        with changing(self._engine) as connection:
            return connection.execute(delete(sessions).where(not_(_is_live(now)))).rowcount

    def _seen(self, session: Session, now: datetime) -> Session:
        """Noted; but a busy database only makes the session seem idle for longer, and ends no request."""
        due = (now - NOTED_EVERY).timestamp()
        same = (sessions.c.number == session.number, sessions.c.seen_at <= due)
        try:
            with noting(self._engine) as connection:
                connection.execute(update(sessions).where(*same).values(seen_at=now.timestamp()))
        except StoreError:
            return session
        return replace(session, seen_at=now)


def _is_live(now: datetime) -> ColumnElement[bool]:
    """`not Session.is_over(now)`."""
    return and_(
        sessions.c.opened_at <= (now + _SLACK).timestamp(),
        sessions.c.opened_at >= (now - SESSION_LIFE).timestamp(),
        sessions.c.seen_at >= (now - SESSION_IDLE).timestamp(),
    )


def _session(row: Any) -> Session:
    identity = Identity(
        subject=json.loads(row.subject),
        name=json.loads(row.name),
        method=row.method,
        groups=frozenset(json.loads(row.groups)),
        signed_in_at=moment(row.signed_in_at),
    )
    address: str = json.loads(row.address)
    return Session(row.number, identity, row.csrf, address, moment(row.opened_at), moment(row.seen_at))
