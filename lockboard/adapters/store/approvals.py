"""Requests for a second person, in SQLite or PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, insert, select, update

from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.people import changing, is_number, moment, moment_or_none, to_text
from lockboard.adapters.store.rows import storable
from lockboard.adapters.store.schema import approvals
from lockboard.domain.signin import Approval, Waiting

WAITING_LIMIT = 200
RECENT_LIMIT = 500

_TEXTS = ("action_id", "state_id", "backend", "key", "fingerprint")


class SqlApprovals:
    """`domain.signin.Approvals` over a database that has been migrated.

    What is asked for is kept as one JSON text, so that every character of a key comes back as it was. What
    has expired cannot be approved, even where nobody has turned it into `EXPIRED` yet.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, approval: Approval) -> Approval:
        document = {name: getattr(approval, name) for name in _TEXTS}
        document |= {
            "requester": list(approval.requester),
            "wanted": dict(approval.wanted),
            "form": dict(approval.form),
        }
        decided = approval.decided_at
        new = insert(approvals).values(
            state=approval.state.value,
            requested_at=approval.requested_at.timestamp(),
            expires_at=approval.expires_at.timestamp(),
            decided_by=storable(approval.decided_by),
            decided_at=None if decided is None else decided.timestamp(),
            document=to_text(document),
        )
        with changing(self._engine) as connection:
            return _approval(connection.execute(new.returning(*approvals.columns)).one())

    def find(self, number: int) -> Approval | None:
        if not is_number(number):
            return None
        return next(iter(self._read(select(approvals).where(approvals.c.number == number))), None)

    def waiting(self, now: datetime) -> Sequence[Approval]:
        still = (approvals.c.state == Waiting.WAITING.value, approvals.c.expires_at > now.timestamp())
        return self._read(select(approvals).where(*still).order_by(approvals.c.number).limit(WAITING_LIMIT))

    def overdue(self, now: datetime) -> Sequence[Approval]:
        past = (approvals.c.state == Waiting.WAITING.value, approvals.c.expires_at <= now.timestamp())
        return self._read(select(approvals).where(*past).order_by(approvals.c.number))

    def recent(self, limit: int = 50) -> Sequence[Approval]:
        bounded = min(max(limit, 1), RECENT_LIMIT)
        return self._read(select(approvals).order_by(approvals.c.number.desc()).limit(bounded))

    def decide(self, number: int, state: Waiting, by: str, now: datetime) -> bool:
        if state is Waiting.WAITING:
            raise ValueError("to wait is no decision")
        if not is_number(number):
            return False
        undecided = [approvals.c.number == number, approvals.c.state == Waiting.WAITING.value]
        if state is Waiting.APPROVED:
            undecided.append(approvals.c.expires_at > now.timestamp())
        decision = {"state": state.value, "decided_by": storable(by), "decided_at": now.timestamp()}
        with changing(self._engine) as connection:
            return connection.execute(update(approvals).where(*undecided).values(**decision)).rowcount == 1

    def _read(self, query: Select[Any]) -> list[Approval]:
        with reading(self._engine) as connection:
            return [_approval(row) for row in connection.execute(query)]


def _approval(row: Any) -> Approval:
    found = json.loads(row.document)
    name, method, address, subject = found["requester"]
    return Approval(
        number=row.number,
        **{text: found[text] for text in _TEXTS},
        requester=(name, method, address, subject),
        wanted=found["wanted"],
        form=found["form"],
        requested_at=moment(row.requested_at),
        expires_at=moment(row.expires_at),
        state=Waiting(row.state),
        decided_by=row.decided_by,
        decided_at=moment_or_none(row.decided_at),
    )
