"""The inventory in SQLite or PostgreSQL: `open_engine`, `migrate`, then `SqlInventory` to write and
`SqlBoard` to read.
"""

from __future__ import annotations

from lockboard.adapters.store.board import SqlBoard
from lockboard.adapters.store.engine import open_engine
from lockboard.adapters.store.inventory import SqlInventory
from lockboard.adapters.store.migrate import migrate, open_memory

__all__ = ["SqlBoard", "SqlInventory", "migrate", "open_engine", "open_memory"]
