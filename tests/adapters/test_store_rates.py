"""Counts that every process shares, on each database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from lockboard.adapters.store import migrate, open_engine
from lockboard.adapters.store.engine import WRITES
from lockboard.adapters.store.rates import CONNECTIONS, SqlRates, open_rates_engine
from lockboard.adapters.store.schema import rates
from lockboard.domain.errors import StoreError
from lockboard.domain.signin import Tally
from tests.databases import sqlite_url

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def counting(database_url: str) -> Iterator[Engine]:
    """A migrated database as counts use it."""
    first = open_engine(database_url)
    migrate(first)
    first.dispose()
    engine = open_rates_engine(database_url)
    yield engine
    engine.dispose()


def test_a_window_begins_with_the_first_that_is_counted_and_ends_after_its_length(counting: Engine) -> None:
    counters = SqlRates(counting)
    found = [counters.add("kim", after(seconds), MINUTE) for seconds in (0, 30, 59.9, 60, 61)]
    first, second = after(60), after(120)
    assert found == [
        Tally(1, first),
        Tally(2, first),
        Tally(3, first),
        Tally(1, second),
        Tally(2, second),
    ]


def test_each_name_has_a_count_of_its_own(counting: Engine) -> None:
    counters = SqlRates(counting)
    for _ in range(3):
        counters.add("kim", NOON, MINUTE)
    assert counters.add("lee", NOON, MINUTE).count == 1


def test_an_amount_is_counted_as_a_whole(counting: Engine) -> None:
    counters = SqlRates(counting)
    assert [counters.add("kim", NOON, MINUTE, amount).count for amount in (3, 1, 5)] == [3, 4, 9]


def test_a_second_process_goes_on_counting_where_the_first_is(counting: Engine) -> None:
    SqlRates(counting).add("kim", NOON, MINUTE)
    assert SqlRates(counting).add("kim", NOON, MINUTE).count == 2


def test_a_clock_that_lags_a_little_counts_on_and_one_that_went_far_back_begins_anew(
    counting: Engine,
) -> None:
    counters = SqlRates(counting)
    counters.add("kim", NOON, MINUTE)
    assert counters.add("kim", after(-45), MINUTE) == Tally(2, after(60))
    assert counters.add("kim", after(-3600), MINUTE) == Tally(1, after(-3540))


@pytest.mark.parametrize("name", ["", "결제 \x00\ud800 \x1b[31m", "k" * 100_000, "' OR 1=1 --"])
def test_any_text_is_a_name(counting: Engine, name: str) -> None:
    counters = SqlRates(counting)
    assert [counters.add(name, NOON, MINUTE).count for _ in range(2)] == [1, 2]


def test_the_database_holds_neither_names_nor_addresses(counting: Engine) -> None:
    SqlRates(counting).add("person kim 192.0.2.7", NOON, MINUTE)
    with counting.connect() as connection:
        kept = connection.execute(select(rates.c.name)).scalars().all()
    assert [len(name) for name in kept] == [64]
    assert not any("kim" in name or "192" in name for name in kept)


def test_callers_at_the_same_time_are_never_given_the_same_count(counting: Engine) -> None:
    counters, found, lock = SqlRates(counting), [], threading.Lock()
    start = threading.Barrier(CONNECTIONS)

    def count() -> None:
        start.wait(10)
        for _ in range(25):
            tally = counters.add("kim", NOON, MINUTE)
            with lock:
                found.append(tally.count)

    threads = [threading.Thread(target=count) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == list(range(1, 25 * CONNECTIONS + 1))


def test_a_sweep_drops_the_windows_that_have_ended_and_no_other(counting: Engine) -> None:
    counters = SqlRates(counting)
    for name, seconds in (("old", 0), ("older", -10), ("young", 30)):
        counters.add(name, after(seconds), MINUTE)
    assert counters.sweep(after(60)) == 2
    assert counters.add("young", after(61), MINUTE).count == 2
    assert counters.add("old", after(61), MINUTE).count == 1


def test_a_database_without_the_table_is_an_error_of_the_store(counting: Engine) -> None:
    with counting.execution_options(**WRITES).begin() as connection:
        connection.execute(text("DROP TABLE rates"))
    with pytest.raises(StoreError):
        SqlRates(counting).add("kim", NOON, MINUTE)
    with pytest.raises(StoreError):
        SqlRates(counting).sweep(NOON)


def test_a_row_that_somebody_else_writes_is_not_waited_for_beyond_the_limit(counting: Engine) -> None:
    SqlRates(counting).add("kim", NOON, MINUTE)
    with counting.execution_options(**WRITES).connect() as holder:
        holder.begin()
        holder.execute(text("UPDATE rates SET count = count"))
        with pytest.raises(StoreError):
            SqlRates(counting).add("kim", NOON, MINUTE)
        holder.rollback()
    assert SqlRates(counting).add("kim", NOON, MINUTE).count == 2


def test_sqlite_does_not_wait_for_the_disk_at_each_count(tmp_path: Path) -> None:
    engine = open_rates_engine(sqlite_url(tmp_path))
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 1  # NORMAL
    engine.dispose()
