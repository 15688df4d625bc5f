"""The tables of the inventory, of the audit log and of people as statements see them; the migrations make
them, and the indexes.

Every text that is compared or ordered has the binary collation, so that both databases order alike, by code
point.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    column,
    func,
    literal_column,
    table,
    text,
)

PLACE_LENGTH = 400
"""Characters of a key that lists are ordered by; two longer keys that begin alike stand in the order of
their ids.

PostgreSQL refuses an index entry beyond 2,704 bytes, and a hostile text may be longer than that.
"""

HEAD_LENGTH = 64
"""Characters of a holder, digest or lock ID that an index holds."""

metadata = MetaData()

_Text = Text().with_variant(Text(collation="C"), "postgresql")
_Number = BigInteger().with_variant(Integer(), "sqlite")

states = Table(
    "states",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("id", _Text, nullable=False, unique=True),
    Column("kind", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("backend", _Text, nullable=False),
    Column("place", _Text, nullable=False),
    Column("key", _Text, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("content", _Text, nullable=False),
    Column("lock", _Text, nullable=False),
    Column("terraform", _Text, nullable=False),
    Column("locked_since", Double),
    Column("modified", Double),
    Column("size", BigInteger),
    Column("holder", _Text, nullable=False),
    Column("operation", _Text, nullable=False),
    Column("digest", _Text, nullable=False),
    Column("summary", _Text, nullable=False),
    Column("search", _Text, nullable=False),
    Column("fingerprint", _Text, nullable=False),
    Column("memo", _Text, nullable=False),
    Column("checksum", _Text, nullable=False),
    Column("entries", Integer, nullable=False),
)
"""One row per key. kind: the number of its `kinds` row. place: the start of the key, which orders lists.
generation: of its last change. checksum: of everything given, so that an equal row is known without reading
it back. entries: how many lines its history has had.
"""

documents = Table(
    "documents",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("document", _Text, nullable=False),
)
"""`StateRow.document` as JSON in ASCII. Apart, because lists never need it and it is most of a row's bytes.
"""

lock_ids = Table(
    "lock_ids",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("lock_id", _Text, nullable=False),
)
"""The lock IDs of each key that is held, so that one pasted from Terraform's message is found."""

kinds = Table(
    "kinds",
    metadata,
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("backend", _Text, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("content", _Text, nullable=False),
    Column("lock", _Text, nullable=False),
    Column("n", Integer, nullable=False),
)
"""How many keys share one verdict in one backend: what tabs, counts and totals are added up from."""

history = Table(
    "history",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("entry", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("content", _Text, nullable=False),
    Column("lock", _Text, nullable=False),
    Column("holder", _Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The verdicts a key has had, the newest `HISTORY_LIMIT` of them."""

backends = Table(
    "backends",
    metadata,
    Column("backend", _Text, primary_key=True),
    Column("report", _Text, nullable=False),
)
"""The last `BackendReport` of each backend, as JSON in ASCII."""

meta = Table(
    "meta",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("generation", BigInteger, nullable=False),
)
"""One row; a writer on PostgreSQL holds it from its first statement to its commit, so writers take turns."""

audit = Table(
    "audit",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", _Text, nullable=False),
    Column("action", _Text, nullable=False),
    Column("result", _Text, nullable=False),
    Column("person", _Text, nullable=False),
    Column("backend", _Text, nullable=False),
    Column("key", _Text, nullable=False),
    Column("ticket", _Text, nullable=False),
    Column("state_id", _Text, nullable=False),
    Column("action_id", _Text, nullable=False),
    Column("mac", _Text, nullable=False),
    Column("body", _Text, nullable=False),
)
"""The audit log; its rows are inserted and never changed, which triggers see to. body: what the MAC covers;
all between seq and mac are copies out of it, to filter by. It stands last, because SQLite reads all of a row
up to the column that it wants.
"""

sessions = Table(
    "sessions",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("id", _Text, nullable=False, unique=True),
    Column("subject", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("method", _Text, nullable=False),
    Column("groups", _Text, nullable=False),
    Column("csrf", _Text, nullable=False),
    Column("address", _Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("signed_in_at", Double, nullable=False),
    sqlite_autoincrement=True,
)
"""One row per browser that signed in. number: never given twice, or a list that is a minute old would end
somebody else's. id: the SHA-256 of what the browser has. subject, name, groups, address: as JSON in ASCII, so
that a person is compared with exactly who signed in.
"""

accounts = Table(
    "accounts",
    metadata,
    Column("folded", _Text, primary_key=True),
    Column("name", _Text, nullable=False),
    Column("grants", _Text, nullable=False),
    Column("password", _Text, nullable=False),
    Column("disabled", SmallInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
"""Local accounts. folded: the name without regard to case. grants: as JSON in ASCII."""

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("id", _Text, nullable=False, unique=True),
    Column("name", _Text, nullable=False),
    Column("owner", _Text, nullable=False),
    Column("grants", _Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("used_at", Double),
    sqlite_autoincrement=True,
)
"""Keys of programs. id: the SHA-256 of the secret. Rows stay when they are over: the log speaks of them."""

attempts = Table(
    "attempts",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("name", _Text, nullable=False),
    Column("at", Double, nullable=False),
)
"""What is counted so that it can be limited. name: its SHA-256."""

approvals = Table(
    "approvals",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("state", _Text, nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("decided_by", _Text, nullable=False),
    Column("decided_at", Double),
    Column("document", _Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Requests for a second person. document: what is asked for, as JSON in ASCII."""

HISTORY_LIMIT = 100

FULL_TEXT = table("states_search", column("rowid"), column("states_search"))
"""SQLite's trigram index over `states.search`, by `states.seq`; it has no copy of the text. PostgreSQL has
none.
"""


def head(text_column: ColumnElement[str]) -> ColumnElement[str]:
    """The start of a text, as the indexes on it hold it; no bound parameters, or the indexes would not be
    recognised.
    """
    return func.substr(text_column, literal_column("1"), literal_column(str(HEAD_LENGTH)))


HAS_HOLDER = text("holder <> ''")
HAS_DIGEST = text("digest <> ''")
"""What the indexes on holders and digests leave out; no bound parameters either."""

rates = Table(
    "rates",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("ends", Double, nullable=False),
    Column("count", Integer, nullable=False),
)
"""What is counted so that it can be limited: one row for each name and its window at hand. name: the SHA-256
of what is counted.
"""
