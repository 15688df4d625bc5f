"""Without a log that takes records nothing reaches AWS, the answer comes soon, and pages go on reading."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.recovery.conftest import NewHouse
from tests.recovery.deeds import DEEDS, held
from tests.recovery.house import House, Key
from tests.recovery.page import Page

pytestmark = pytest.mark.terraform

ANSWER_WITHIN_SECONDS = 6.0

KINDS = ("INSERT", "UPDATE", "DELETE")

Failure = Callable[[str], AbstractContextManager[None]]


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def file_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def driven(url: str) -> URL:
    """With the driver that we have."""
    address = make_url(url)
    return address if is_sqlite(url) else address.set(drivername="postgresql+psycopg")


def run(url: str, *statements: str) -> None:
    """In a database or, for PostgreSQL, from outside of it."""
    engine = create_engine(driven(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def elsewhere(url: str) -> str:
    """The server's maintenance database."""
    return make_url(url).set(database="postgres").render_as_string(hide_password=False)


def disconnect(url: str) -> None:
    name = make_url(url).database
    run(
        elsewhere(url),
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )


# ------------------------------------------------------------------ ways to fail


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else holds it and does not let go."""
    if is_sqlite(url):
        other = sqlite3.connect(file_of(url), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()
        return
    engine = create_engine(driven(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
        yield


@contextmanager
def full(url: str) -> Iterator[None]:
    """It has no room for a record."""
    with refusing(url, ["audit"], "database or disk is full", "53100"):
        yield


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Neither the log nor the inventory takes anything."""
    with refusing(url, ["audit", "states", "meta"], "attempt to write a readonly database", "25006"):
        yield


@contextmanager
def refusing(url: str, tables: Sequence[str], words: str, code: str) -> Iterator[None]:
    """Every write to these tables is refused with these words, and PostgreSQL's code."""
    if not is_sqlite(url):
        body = f"BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'; END"
        run(url, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    for table in tables:
        for kind in KINDS:
            name = f"refuse_{kind}_{table}"
            run(
                url,
                f"CREATE TRIGGER {name} BEFORE {kind} ON {table}"
                + (
                    f" BEGIN SELECT RAISE(ABORT, '{words}'); END"
                    if is_sqlite(url)
                    else " EXECUTE FUNCTION refuse()"
                ),
            )
    yield
    for table in tables:
        for kind in KINDS:
            run(url, f"DROP TRIGGER refuse_{kind}_{table}" + ("" if is_sqlite(url) else f" ON {table}"))


@contextmanager
def gone(url: str) -> Iterator[None]:
    """Moved away, or renamed with everybody thrown out."""
    if is_sqlite(url):
        path = file_of(url)
        kept = path.with_suffix(".kept")
        path.rename(kept)
        yield
        kept.rename(path)
        return
    name = make_url(url).database
    disconnect(url)
    run(elsewhere(url), f"ALTER DATABASE {name} RENAME TO {name}_kept")
    yield
    run(elsewhere(url), f"ALTER DATABASE {name}_kept RENAME TO {name}")


FAILURES: Mapping[str, Failure] = {"locked": locked, "full": full, "read-only": read_only, "gone": gone}
STANDS_FOR_ALL = {
    "locked": ["unlock both"],
    "full": ["unlock in the table", "set the digest", "restore over a live state"],
    "read-only": ["unlock the file", "take over"],
}
"""Where each answer takes seconds, or another failure looks the same to an action, some stand for all."""


def asked(house: House, names: list[str]) -> list[tuple[Key, Page]]:
    """A page of each of these actions, each of another key."""
    pages = []
    for name in names:
        key = house.key()
        DEEDS[name].make(key)
        pages.append((key, DEEDS[name].ask(key.known())))
    house.proxy.recording.clear()
    return pages


@pytest.mark.parametrize("failure", FAILURES)
def test_while_the_log_takes_no_records_nothing_reaches_aws_and_the_answer_comes_soon(
    new_house: NewHouse, failure: str
) -> None:
    house = new_house()
    pages = asked(house, STANDS_FOR_ALL.get(failure, list(DEEDS)))

    with FAILURES[failure](house.settings.store_url):
        for key, page in pages:
            before = held(key)
            assert page.asking is not None
            began = time.monotonic()
            found = house.post(page.asking.action, page.asking.filled())

            assert time.monotonic() - began < ANSWER_WITHIN_SECONDS
            assert found.status == 503, found.text
            assert "othing was changed" in found.text, found.text
            assert held(key) == before
            if failure != "gone":
                assert house.get(f"/s/{key.id}").status == 200
                assert house.get("/states").status == 200
    assert house.changes() == []

    for key, page in pages:
        assert key.send(page).result == "done"
    assert house.audit.verify().ok
