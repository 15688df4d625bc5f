"""What is counted so that it can be limited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table. PostgreSQL need not carry it over a crash, and writes it the quicker for that."""
    op.create_table(
        "rates",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("ends", sa.Double, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [],
    )
