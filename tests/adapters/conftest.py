"""Fixtures of the rooms that touch the world: each database in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from lockboard.adapters.store import migrate, open_engine
from tests.databases import PostgresServer, postgresql_server, sqlite_url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One PostgreSQL for the session."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database, on each kind in turn: for everything that must hold on both."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path_factory.mktemp("sqlite"))
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The same with its tables made."""
    engine = open_engine(database_url)
    migrate(engine)
    yield engine
    engine.dispose()
