"""The inventory and the audit log in SQLite or PostgreSQL: `open_engine`, `migrate`, then `SqlInventory` to
write and `SqlBoard` to read; `open_audit_engine`, then `SqlAudit`.
"""

from __future__ import annotations

from lockboard.adapters.store.audit import SqlAudit
from lockboard.adapters.store.audit_engine import open_audit_engine
from lockboard.adapters.store.board import SqlBoard
from lockboard.adapters.store.engine import open_engine
from lockboard.adapters.store.inventory import SqlInventory
from lockboard.adapters.store.migrate import migrate, open_memory

__all__ = [
    "SqlAudit",
    "SqlBoard",
    "SqlInventory",
    "migrate",
    "open_audit_engine",
    "open_engine",
    "open_memory",
]
