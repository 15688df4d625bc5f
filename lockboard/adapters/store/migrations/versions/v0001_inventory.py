"""The inventory: keys with their verdicts, counts, history, reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table, its indexes and, the trigram index of the text."""
    _create_states()
    _index_states()
    _create_companions()
    op.execute("INSERT INTO meta (one, generation) VALUES (1, 0)")
    if op.get_bind().dialect.name == "sqlite":
        _index_text_in_sqlite()
    else:
        _index_text_in_postgresql()


def _create_states() -> None:
    op.create_table(
        "states",
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("id", _TEXT, nullable=False, unique=True),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("backend", _TEXT, nullable=False),
        sa.Column("place", _TEXT, nullable=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("content", _TEXT, nullable=False),
        sa.Column("lock", _TEXT, nullable=False),
        sa.Column("terraform", _TEXT, nullable=False),
        sa.Column("locked_since", sa.Double),
        sa.Column("modified", sa.Double),
        sa.Column("size", sa.BigInteger),
        sa.Column("holder", _TEXT, nullable=False),
        sa.Column("operation", _TEXT, nullable=False),
        sa.Column("digest", _TEXT, nullable=False),
        sa.Column("summary", _TEXT, nullable=False),
        sa.Column("search", _TEXT, nullable=False),
        sa.Column("fingerprint", _TEXT, nullable=False),
        sa.Column("memo", _TEXT, nullable=False),
        sa.Column("checksum", _TEXT, nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
    )


def _index_states() -> None:
    op.create_index("states_by_kind", "states", ["kind", "rank", "place", "id", "locked_since", "modified"])
    # With the text, a search along an index need not read the rows it passes over. PostgreSQL limits the
    # size of an entry.
    text = ["search"] if op.get_bind().dialect.name == "sqlite" else []
    op.create_index("states_by_rank", "states", ["rank", "place", "id", "kind", *text])
    op.create_index("states_by_place", "states", ["place", "id", "kind", *text])
    op.create_index("states_by_backend_rank", "states", ["backend", "rank", "place", "id", "kind"])
    op.create_index("states_by_backend_place", "states", ["backend", "place", "id", "kind"])
    op.create_index("states_by_modified", "states", ["modified", "place", "id", "kind"])
    op.create_index("states_by_generation", "states", ["generation"])
    for name, columns, where in (
        ("states_by_lock_age", ["locked_since", "place", "id", "kind"], "locked_since IS NOT NULL"),
        ("states_by_holder", [sa.text("substr(holder, 1, 64)")], "holder <> ''"),
        ("states_by_digest", [sa.text("substr(digest, 1, 64)")], "digest <> ''"),
    ):
        condition = sa.text(where)
        op.create_index(name, "states", columns, sqlite_where=condition, postgresql_where=condition)


def _create_companions() -> None:
    op.create_table(
        "documents",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("document", _TEXT, nullable=False),
    )
    op.create_table(
        "lock_ids",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lock_id", _TEXT, nullable=False),
    )
    op.create_index("lock_ids_by_lock_id", "lock_ids", [sa.text("substr(lock_id, 1, 64)")])
    op.create_table(
        "kinds",
        sa.Column("kind", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("backend", _TEXT, nullable=False),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("content", _TEXT, nullable=False),
        sa.Column("lock", _TEXT, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
    )
    op.create_table(
        "history",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("entry", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("content", _TEXT, nullable=False),
        sa.Column("lock", _TEXT, nullable=False),
        sa.Column("holder", _TEXT, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "backends",
        sa.Column("backend", _TEXT, primary_key=True),
        sa.Column("report", _TEXT, nullable=False),
    )
    op.create_table(
        "meta",
        sa.Column("one", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )


def _index_text_in_sqlite() -> None:
    # Filled by the writer, not by triggers: with trusted_schema off, SQLite before 3.44 refuses a trigger
    # that does.
    op.execute(
        "CREATE VIRTUAL TABLE states_search USING fts5(search, content = 'states', content_rowid = 'seq',"
        " tokenize = 'trigram', detail = 'none', columnsize = 0)"
    )


def _index_text_in_postgresql() -> None:
    """A trigram index where the server has the extension and lets this role have it; LIKE works without."""
    connection = op.get_bind()
    known = connection.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'"))
    if not known:
        return
    try:
        with connection.begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            op.execute("CREATE INDEX states_by_search ON states USING gin (search gin_trgm_ops)")
    except sa.exc.DBAPIError:
        return
