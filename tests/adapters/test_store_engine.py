"""Opening and migrating the inventory's database."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, make_url, text

from lockboard.adapters.store import (
    SqlBoard,
    SqlInventory,
    migrate,
    open_audit_engine,
    open_engine,
    open_memory,
)
from lockboard.adapters.store.engine import reading, sqlite_file, writing
from lockboard.adapters.store.migrate import VERSION_TABLE
from lockboard.adapters.store.schema import metadata
from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import Query
from tests.databases import PostgresServer, changes, sqlite_url, state_row

MIGRATE = (
    "import sys; from lockboard.adapters.store import *; sys.stdin.read(1); migrate(open_engine(sys.argv[1]))"
)


def test_a_migrated_database_has_the_tables_that_statements_speak_of(engine: Engine) -> None:
    found = inspect(engine)
    for table in metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ]


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    SqlInventory(engine).apply(changes(state_row("a.tfstate")))
    migrate(engine)
    assert SqlBoard(engine).page(Query(view="all")).total == 1


def test_what_is_up_to_date_is_opened_while_somebody_writes(engine: Engine, database_url: str) -> None:
    with writing(engine):
        migrate(open_engine(database_url))


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    command = [sys.executable, "-c", MIGRATE, database_url]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    ended = [process.communicate(b"g", timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    with reading(open_engine(database_url)) as connection:
        assert connection.execute(text("SELECT one, generation FROM meta")).all() == [(1, 0)]


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError, match="another version of Lockboard"):
        migrate(engine)


def test_an_unmigrated_database_is_a_store_error(database_url: str) -> None:
    with pytest.raises(StoreError, match="meta"):
        SqlBoard(open_engine(database_url)).generation()


def set_generation_and_fail(engine: Engine) -> None:
    with writing(engine, much=True) as (connection, _):
        connection.execute(text("UPDATE meta SET generation = 7"))
        raise ZeroDivisionError


def test_a_failed_block_writes_nothing(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        set_generation_and_fail(engine)
    assert SqlBoard(engine).generation() == 0


def test_a_database_error_is_told_without_values(engine: Engine) -> None:
    with pytest.raises(StoreError) as caught, reading(engine) as connection:
        connection.execute(text("SELECT nothing FROM meta WHERE one = :secret"), {"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


def test_sqlite_is_private_durable_and_does_not_trust_its_schema(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    engine = open_engine(url)
    migrate(engine)
    with reading(engine) as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "trusted_schema")
        }
        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,
            "busy_timeout": 5000,
            "foreign_keys": 1,
            "trusted_schema": 0,
        }
        modes = {file.suffix: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {".db": 0o600, ".db-wal": 0o600, ".db-shm": 0o600}


def test_a_sqlite_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    file = tmp_path / "lockboard.db"
    file.touch(mode=0o644)
    open_engine(f"sqlite:///{file}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_sqlite_url_names_the_same_file_for_the_inventory_and_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a%20b.db"
    migrate(open_engine(url))
    open_audit_engine(url)
    assert sqlite_file(url) in list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}/none does not exist: make it"):
        open_engine(f"sqlite:///{tmp_path}/none/lockboard.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lockboard.db"
    file.write_text("not a database, but long enough to be looked at as one\n" * 50)
    with pytest.raises(StoreError, match=r"cannot be opened: .*not a database"):
        open_engine(f"sqlite:///{file}")


def test_a_folder_in_the_file_s_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_engine(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("lockboard.db", "cannot be read"),
        ("mysql://root:hunter2@localhost/lockboard", "mysql is not supported"),
        ("postgresql+psycopg2://localhost/lockboard", "not supported"),
        ("sqlite://", "names a plain file"),
        ("sqlite:///:memory:", "names a plain file"),
        ("sqlite:///file:lockboard.db?uri=true", "names a plain file"),
        ("postgresql://lockboard:hunter2@127.0.0.1:1/lockboard?connect_timeout=2", "cannot be opened"),
        ("postgresql://lockboard:hun%40ter%2F2@127.0.0.1:1/lockboard?connect_timeout=2", "cannot be opened"),
        (
            "postgresql:///lockboard?host=127.0.0.1&port=1&connect_timeout=2&password=hunter2",
            r"host=127.0.0.1&.*password=•••• .*cannot be opened|password=••••&.*cannot be opened",
        ),
        (
            "postgresql:///lockboard?host=127.0.0.1&port=1&connect_timeout=2&sslpassword=hunter2",
            "cannot be opened",
        ),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        open_engine(url)
    assert "hunter2" not in str(caught.value)
    assert "ter" not in str(caught.value).partition(" cannot be opened")[0]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
@pytest.mark.postgres
def test_postgresql_is_reached_by_either_scheme_with_bounded_waits(
    postgresql: PostgresServer, scheme: str
) -> None:
    url = make_url(postgresql.url).set(drivername=scheme).render_as_string(hide_password=False)
    with reading(open_engine(url)) as connection:
        found = connection.execute(text("SHOW statement_timeout")).scalar_one()
        assert (found, connection.execute(text("SHOW lock_timeout")).scalar_one()) == ("5s", "2s")


@pytest.mark.postgres
def test_postgresql_that_may_lose_a_commit_is_refused(postgresql: PostgresServer) -> None:
    url = postgresql.fresh()
    postgresql.run(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off")
    with pytest.raises(StoreError, match="synchronous_commit = off"):
        open_engine(url)


@pytest.mark.postgres
def test_postgresql_that_cannot_hold_every_key_is_refused(postgresql: PostgresServer) -> None:
    url = postgresql.fresh("ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StoreError, match="encoding LATIN1"):
        open_engine(url)


def test_a_database_in_memory_holds_an_inventory(tmp_path: Path) -> None:
    engine = open_memory()
    assert SqlInventory(engine).apply(changes(state_row("a.tfstate"))) == 1
    assert [row.key for row in SqlBoard(engine).page(Query(view="all")).rows] == ["a.tfstate"]
    assert list(tmp_path.iterdir()) == []
