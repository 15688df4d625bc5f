"""The inventory, the audit log and people in SQLite or PostgreSQL: `open_engine`, `migrate`, then
`SqlInventory` to write and `SqlBoard` to read; `open_audit_engine`, then `SqlAudit`;
`open_people_engine`, then what is kept of those who sign in.
"""

from __future__ import annotations

from lockboard.adapters.store.accounts import SqlAccounts
from lockboard.adapters.store.approvals import SqlApprovals
from lockboard.adapters.store.attempts import SqlAttempts
from lockboard.adapters.store.audit import SqlAudit
from lockboard.adapters.store.audit_engine import open_audit_engine
from lockboard.adapters.store.board import SqlBoard
from lockboard.adapters.store.engine import open_engine
from lockboard.adapters.store.inventory import SqlInventory
from lockboard.adapters.store.migrate import migrate, open_memory
from lockboard.adapters.store.people import open_people_engine
from lockboard.adapters.store.rates import SqlRates, open_rates_engine
from lockboard.adapters.store.sessions import SqlSessions
from lockboard.adapters.store.tokens import SqlApiTokens

__all__ = [
    "SqlAccounts",
    "SqlApiTokens",
    "SqlApprovals",
    "SqlAttempts",
    "SqlAudit",
    "SqlBoard",
    "SqlInventory",
    "SqlRates",
    "SqlSessions",
    "migrate",
    "open_audit_engine",
    "open_engine",
    "open_memory",
    "open_people_engine",
    "open_rates_engine",
]
