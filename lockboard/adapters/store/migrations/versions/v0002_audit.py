"""The audit log: its table, the indexes of its filters, and triggers that keep every row as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_SAID = "the audit log is insert-only"
_ONCE = "action_id <> '' AND kind IN ('intent', 'outcome')"


def upgrade() -> None:
    """Make the table, its indexes and its triggers."""
    op.create_table(
        "audit",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("action", _TEXT, nullable=False),
        sa.Column("result", _TEXT, nullable=False),
        sa.Column("person", _TEXT, nullable=False),
        sa.Column("backend", _TEXT, nullable=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("ticket", _TEXT, nullable=False),
        sa.Column("state_id", _TEXT, nullable=False),
        sa.Column("action_id", _TEXT, nullable=False),
        sa.Column("mac", _TEXT, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
    )
    _index()
    if op.get_bind().dialect.name == "sqlite":
        _guard_in_sqlite()
    else:
        _guard_in_postgresql()


def _index() -> None:
    for name in (
        "at",
        "kind",
        "action",
        "result",
        "person",
        "backend",
        "ticket",
        "state_id",
        "action_id",
    ):
        op.create_index(f"audit_by_{name}", "audit", [name, "seq"])
    once = sa.text(_ONCE)
    op.create_index(
        "audit_once", "audit", ["action_id", "kind"], unique=True, sqlite_where=once, postgresql_where=once
    )


def _guard_in_sqlite() -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit"
            f" BEGIN SELECT RAISE(ABORT, '{_SAID}'); END"
        )
    # INSERT OR REPLACE removes the row in its way without asking the trigger on DELETE.
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit"  # noqa: S608  from constants above
        " WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq) OR (NEW.action_id <> ''"
        " AND NEW.kind IN ('intent', 'outcome') AND EXISTS (SELECT 1 FROM audit"
        f" WHERE {_ONCE} AND action_id = NEW.action_id AND kind = NEW.kind))"
        f" BEGIN SELECT RAISE(ABORT, '{_SAID}, and has this record already'); END"
    )


def _guard_in_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN RAISE EXCEPTION '{_SAID}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )
    # Also where a session says that it is a replica, which mutes ordinary triggers.
    op.execute("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_insert_only")
