"""People: sessions, local accounts, API tokens, attempts that are counted, requests for a second person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables and their indexes."""
    _create_sessions()
    _create_accounts()
    _create_api_tokens()
    _create_attempts()
    _create_approvals()


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("id", _TEXT, nullable=False, unique=True),
        sa.Column("subject", _TEXT, nullable=False),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("method", _TEXT, nullable=False),
        sa.Column("groups", _TEXT, nullable=False),
        sa.Column("csrf", _TEXT, nullable=False),
        sa.Column("address", _TEXT, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("signed_in_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("folded", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("grants", _TEXT, nullable=False),
        sa.Column("password", _TEXT, nullable=False),
        sa.Column("disabled", sa.SmallInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )


def _create_api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("id", _TEXT, nullable=False, unique=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("grants", _TEXT, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("used_at", sa.Double),
        sqlite_autoincrement=True,
    )


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("attempts_by_name", "attempts", ["name", "at"])
    op.create_index("attempts_by_at", "attempts", ["at"])


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("requested_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("decided_by", _TEXT, nullable=False),
        sa.Column("decided_at", sa.Double),
        sa.Column("document", _TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("approvals_by_state", "approvals", ["state", "expires_at"])
