"""The audit log as somebody sees it who may read only a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from lockboard.domain.areas import EVERYTHING, Scope
from lockboard.domain.audit import (
    Audit,
    AuditPage,
    AuditQuery,
    Entry,
    Head,
    Record,
    Verification,
    visible,
)


class AuditWithin:
    """The log with nothing in its lists but records about keys of the scope; see `visible`.

    Records are appended, and the chain is checked, as a whole. The names of those who acted are not listed:
    they are of everybody.
    """

    def __init__(self, audit: Audit, scope: Scope) -> None:
        self._audit, self._scope = audit, scope

    def append(self, entry: Entry) -> Record:
        return self._audit.append(entry)

    def record(self, seq: int) -> Record | None:
        found = self._audit.record(seq)
        return found if found is not None and visible(found.entry, self._scope) else None

    def of_action(self, action_id: str) -> Sequence[Record]:
        return self._seen(self._audit.of_action(action_id))

    def open_intents(self) -> Sequence[Record]:
        return self._seen(self._audit.open_intents())

    def page(self, query: AuditQuery) -> AuditPage:
        return self._audit.page(replace(query, scope=self._scope))

    def people(self) -> Sequence[str]:
        return ()

    def export(self, query: AuditQuery) -> Iterator[Record]:
        return self._audit.export(replace(query, scope=self._scope))

    def first(self) -> Record | None:
        page = self._audit.page(AuditQuery(after=0, limit=1, scope=self._scope))
        return page.records[0] if page.records else None

    def head(self) -> Head | None:
        return self._audit.head()

    def verify(self, heads: Sequence[Head] = ()) -> Verification:
        return self._audit.verify(heads)

    def last_verification(self) -> tuple[datetime, Verification] | None:
        return self._audit.last_verification()

    def _seen(self, records: Sequence[Record]) -> Sequence[Record]:
        return [record for record in records if visible(record.entry, self._scope)]


def audit_within(audit: Audit, scope: Scope) -> Audit:
    """The whole log for whom it is open to."""
    return audit if EVERYTHING in scope else AuditWithin(audit, scope)
