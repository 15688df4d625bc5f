"""Bringing the tables up to date."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from lockboard.adapters.store.engine import WRITES, sqlite_engine, store_error
from lockboard.domain.errors import StoreError

MIGRATIONS = "lockboard.adapters.store:migrations"
VERSION_TABLE = "lockboard_schema"

_ADVISORY_LOCK = 0x6C6F636B  # "lock"; any number does that nothing else in the database uses
_WAIT = "60s"


def migrate(engine: Engine) -> None:
    """Run every migration that has not run, in one transaction; where none is left, nobody is waited for.

    Two processes may call it at once: the second waits for the first and finds nothing to do. Raises
    StoreError, also where the database was made by a newer version.
    """
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    try:
        with engine.connect() as connection:
            if _is_current(connection, config):
                return
        with engine.connect().execution_options(**WRITES) as connection, connection.begin():
            _take_turns(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the database was made by another version of Lockboard: {error}") from error
    except SQLAlchemyError as error:
        raise store_error(error) from error


def open_memory() -> Engine:
    """A SQLite database in memory with all its tables, gone when the engine is: for a scan without a trace.

    It has one connection, for which threads take turns; a thread that holds it must not ask again.
    """
    engine = sqlite_engine("sqlite://", connections=1)
    migrate(engine)
    return engine


def _is_current(connection: Connection, config: Config) -> bool:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_heads() == tuple(ScriptDirectory.from_config(config).get_heads())


def _take_turns(connection: Connection) -> None:
    """On SQLite, BEGIN IMMEDIATE has already done it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT}'"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{_WAIT}'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
