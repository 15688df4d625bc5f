"""What the refresher writes: only what changed, each change with a generation, counts and history with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from lockboard.adapters.store import SqlBoard, SqlInventory, migrate, open_engine
from lockboard.adapters.store.engine import reading
from lockboard.adapters.store.schema import HISTORY_LIMIT
from lockboard.domain.inventory import Changes, Known, ListRow, Query, StateRow
from tests.databases import NOON, changes, locked_row, report, state_row

ALL = Query(view="all", sort="key")


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """The statements that are sent to the database."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def stored(engine: Engine, inventory: SqlInventory, backend: str = "prod-kr") -> int:
    found = inventory.report(backend)
    assert found is not None
    return found.rows_written


def test_what_is_applied_is_read_back(engine: Engine) -> None:
    row = locked_row(
        "dev/vpc/terraform.tfstate",
        "root@ci",
        NOON.timestamp(),
        digest="ab" * 16,
        size=None,
        modified=None,
        memo='{"versions": 3}',
        lock_ids=["4a1c"],
        document={"locks": [{"id": "4a1c", "age": 1.5}], "object": None, "deep": {"list": [1, "가", True]}},
    )
    assert SqlInventory(engine).apply(changes(row)) == 1
    assert SqlBoard(engine).state(row.id) == row
    assert SqlInventory(engine).known("prod-kr") == {row.id: Known("1", "ok", "locked", "waits", row.memo)}
    assert SqlInventory(engine).known("dev-kr") == {}


def test_an_unchanged_estate_writes_no_row_and_keeps_the_generation(engine: Engine) -> None:
    rows = [state_row(f"{number}.tfstate") for number in range(1200)]
    inventory = SqlInventory(engine)
    inventory.apply(changes(*rows))
    assert stored(engine, inventory) == 1200
    with statements(engine) as sent:
        assert inventory.apply(changes(*rows, attempted_at=NOON + timedelta(minutes=1))) == 1
    assert stored(engine, inventory) == 0
    assert [
        line for line in sent if line.startswith(("INSERT", "UPDATE", "DELETE")) and "backends" not in line
    ] == []


def test_a_refresh_without_changes_writes_its_report_alone(engine: Engine) -> None:
    inventory = SqlInventory(engine)
    inventory.apply(changes(state_row("a.tfstate")))
    later: dict[str, Any] = {"attempted_at": NOON + timedelta(hours=1), "data_at": NOON + timedelta(hours=1)}
    spent: dict[str, Any] = {"requests": {"list": 1, "scan": 2}, "duration_seconds": 0.5, "throttled": 3}
    assert inventory.apply(changes(**later, **spent, sweep_requests=4, swept_at=NOON, states=1)) == 1
    expected = report(**later, **spent, sweep_requests=4, swept_at=NOON, states=1)
    assert inventory.report("prod-kr") == expected
    assert SqlBoard(engine).reports() == [expected]


@pytest.mark.parametrize(
    "change",
    [
        {"complete": False},
        {"error": "s3:ListBucket: AccessDenied"},
        {"missing_permission": "s3:ListBucket"},
        {"versioning": "enabled"},
        {"sweep_error": "s3:ListBucketVersions: AccessDenied"},
    ],
)
def test_a_change_of_a_backend_s_health_is_a_generation(engine: Engine, change: dict[str, Any]) -> None:
    inventory = SqlInventory(engine)
    inventory.apply(changes())
    assert inventory.apply(changes(**change)) == 2
    assert inventory.apply(changes(**change)) == 2
    assert inventory.apply(changes()) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "2"},
        {"memo": "seen"},
        {"summary": "Another sentence."},
        {"size": 181},
        {"size": None},
        {"modified": NOON.timestamp() + 0.001},
        {"document": {"locks": [], "key": "other"}},
        {"digest": "cd" * 16},
    ],
)
def test_any_difference_is_written_once(engine: Engine, change: dict[str, Any]) -> None:
    inventory, row = SqlInventory(engine), state_row("a.tfstate")
    other = state_row("b.tfstate")
    inventory.apply(changes(row, other))
    changed = replace(row, **change)
    assert inventory.apply(changes(changed, other)) == 2
    assert stored(engine, inventory) == 1
    assert SqlBoard(engine).state(row.id) == changed
    assert inventory.apply(changes(changed, other)) == 2


def test_rows_may_come_from_an_iterator(engine: Engine) -> None:
    rows: Any = (state_row(f"{number}.tfstate") for number in range(1100))
    inventory = SqlInventory(engine)
    inventory.apply(Changes("prod-kr", rows, iter(()), report()))  # type: ignore[arg-type]
    assert (stored(engine, inventory), SqlBoard(engine).counts()["all"]) == (1100, 1100)


def test_of_a_row_given_twice_the_last_one_stays(engine: Engine) -> None:
    first, last = (
        state_row("a.tfstate", memo="first"),
        state_row("a.tfstate", memo="last", content="manual_edit"),
    )
    between = [state_row(f"{number}.tfstate") for number in range(600)]
    SqlInventory(engine).apply(changes(first, last))
    SqlInventory(engine).apply(changes(first, *between, last))
    board = SqlBoard(engine)
    assert board.state(last.id) == last
    assert (board.counts()["all"], board.statuses()["manual_edit"]) == (601, 1)
    assert board.page(Query(view="all", text="a.tfstate")).total == 1


def test_dropped_rows_leave_nothing_behind(engine: Engine) -> None:
    inventory = SqlInventory(engine)
    kept, gone = state_row("kept.tfstate"), locked_row("gone.tfstate", "root@ci", 1.0, lock_ids=["4a1c"])
    inventory.apply(changes(kept, gone))
    assert inventory.apply(changes(drop=(gone.id, "0" * 16))) == 2
    assert stored(engine, inventory) == 1
    board = SqlBoard(engine)
    assert board.counts() == {"attention": 0, "locked": 0, "digest": 0, "unreadable": 0, "all": 1}
    assert (board.state(gone.id), board.timeline(gone.id), board.find(exact="4a1c")) == (None, [], [])
    with reading(engine) as connection:
        for table in ("states", "documents", "lock_ids", "history"):
            assert connection.execute(text(f"SELECT id FROM {table} WHERE id <> '{kept.id}'")).all() == []


def test_a_backend_cannot_drop_another_s_rows(engine: Engine) -> None:
    row = state_row("a.tfstate", backend="dev-kr")
    inventory = SqlInventory(engine)
    inventory.apply(changes(row, backend="dev-kr"))
    inventory.apply(changes(drop=(row.id,), backend="prod-kr"))
    assert SqlBoard(engine).state(row.id) == row


def test_forgotten_backends_are_gone_with_rows_counts_and_report(engine: Engine) -> None:
    inventory, board = SqlInventory(engine), SqlBoard(engine)
    inventory.apply(changes(state_row("a.tfstate"), backend="prod-kr"))
    inventory.apply(changes(state_row("a.tfstate", backend="dev-kr"), backend="dev-kr"))
    inventory.apply(changes(backend="prod-us"))
    inventory.forget_backends(["prod-kr"])
    assert [row.backend for row in board.page(ALL).rows] == ["prod-kr"]
    assert [found.backend for found in board.reports()] == ["prod-kr"]
    assert (board.counts()["all"], board.generation()) == (1, 4)
    inventory.forget_backends(["prod-kr"])
    assert board.generation() == 4


@pytest.mark.parametrize("count", [4, 5])
def test_a_forgotten_backend_goes_a_part_at_a_time_so_that_nobody_waits_for_all_of_it(
    engine: Engine, count: int
) -> None:
    inventory, board = SqlInventory(engine), SqlBoard(engine)
    inventory.apply(changes(state_row("a.tfstate"), backend="prod-kr"))
    old = [state_row(f"{number}.tfstate", backend="dev-kr") for number in range(count)]
    inventory.apply(changes(*old, backend="dev-kr"))
    left: list[int] = []
    inventory.forget_backends(["prod-kr"], at_once=2, wait=lambda _: left.append(board.counts()["all"]))
    assert left == [1 + count - 2, 1 + count - 4]
    assert [row.backend for row in board.page(ALL).rows] == ["prod-kr"]
    assert (board.counts()["all"], [found.backend for found in board.reports()]) == (1, ["prod-kr"])


def test_a_verdict_that_changes_is_a_line_of_the_timeline(engine: Engine) -> None:
    inventory, board = SqlInventory(engine), SqlBoard(engine)
    row = state_row("a.tfstate")
    held = locked_row("a.tfstate", "root@ci", NOON.timestamp())
    for minutes, given in enumerate([row, replace(row, memo="looked again"), held, row]):
        inventory.apply(changes(given, attempted_at=NOON + timedelta(minutes=minutes)))
    assert board.timeline(row.id) == [
        (NOON + timedelta(minutes=3), "ok", "unlocked", ""),
        (NOON + timedelta(minutes=2), "ok", "locked", "root@ci"),
        (NOON, "ok", "unlocked", ""),
    ]
    assert board.timeline(row.id, limit=1) == [(NOON + timedelta(minutes=3), "ok", "unlocked", "")]


def test_a_timeline_keeps_its_newest_lines(engine: Engine) -> None:
    inventory = SqlInventory(engine)
    for number in range(HISTORY_LIMIT + 5):
        inventory.apply(changes(state_row("a.tfstate", holder=f"user{number}")))
    found = SqlBoard(engine).timeline(state_row("a.tfstate").id, limit=1000)
    assert [holder for *_, holder in found] == [f"user{n}" for n in range(HISTORY_LIMIT + 4, 4, -1)]


def test_a_re_checked_row_replaces_the_stored_one(engine: Engine) -> None:
    inventory = SqlInventory(engine)
    board = SqlBoard(engine, clock=lambda: NOON + timedelta(minutes=7))
    row = state_row("a.tfstate")
    inventory.apply(changes(row))
    edited = replace(row, content="manual_edit", rank=2)
    assert (board.put(edited), board.put(edited)) == (2, 2)
    assert board.state(row.id) == edited
    assert board.timeline(row.id)[0] == (NOON + timedelta(minutes=7), "manual_edit", "unlocked", "")
    assert board.counts()["digest"] == 1


def test_web_and_refresher_write_at_the_same_time(database_url: str) -> None:
    refresher, web = open_engine(database_url), open_engine(database_url)
    migrate(refresher)
    inventory, board = SqlInventory(refresher), SqlBoard(web)
    rows = [state_row(f"{number}.tfstate") for number in range(50)]
    inventory.apply(changes(*rows))
    generations: list[int] = []
    failures: list[BaseException] = []

    def put() -> None:
        try:
            for number in range(40):
                generations.append(
                    board.put(replace(rows[number % 5], memo=f"web {number}", content="manual_edit"))
                )
        except BaseException as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20):
        inventory.apply(changes(*(replace(row, fingerprint=f"{number}") for row in rows)))
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(board.page(replace(ALL, limit=100)).rows) == board.counts()["all"] == 50
    edited = [row for row in board.page(replace(ALL, limit=100)).rows if row.content == "manual_edit"]
    assert board.statuses().get("manual_edit", 0) == len(edited)
    assert board.generation() >= 21
    assert max(generations) <= board.generation()


HOSTILE = [
    "\0",
    "nul\0in the middle",
    "\ud800",
    "\udfff lone \ud83d",
    "\ud83d\ude00 a pair that is none",
    "\U0010ffff",
    "\x1b[31m",
    "\u202egnp.tfstate",
    "a" * 20000,
    "한" * 5000,
    "\ud800" * 3000,
    "%_\\*?[]'\";--",
    " \t\n ",
    "",
]


@pytest.mark.parametrize("text_", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_any_column_breaks_nothing(engine: Engine, text_: str) -> None:
    names = ("content", "lock", "terraform", "summary", "holder", "operation", "digest", "search", "memo")
    everywhere: dict[str, Any] = dict.fromkeys(names, text_)
    row = replace(
        locked_row("good.tfstate", "x", 5.0),
        id="f" * 16,
        key=text_,
        fingerprint=text_,
        document={"locks": [{"id": text_}, {"id": None}, "no lock"], text_: [text_, float("nan")]},
        **everywhere,
    )
    good = state_row("other.tfstate")
    inventory, board = SqlInventory(engine), SqlBoard(engine)
    assert inventory.apply(changes(row, good)) == 1
    assert inventory.apply(changes(row, good)) == 1
    found = board.state(row.id)
    assert found is not None
    found.key.encode()
    assert len(found.document) == 2
    for query in hostile_queries(text_):
        walked = pages(board, query)
        assert {listed.id for listed in walked} <= {row.id, good.id}
    assert {listed.id for listed in pages(board, ALL)} == {row.id, good.id}
    board.timeline(row.id)
    board.neighbours(row.id, Query(view="all"))
    assert board.state(text_) is None
    assert board.locks_of(text_, text_) == (1 if text_ else 0)
    assert (row.id in {listed.id for listed in board.find(exact=text_)}) == bool(text_)
    assert [listed.id for listed in board.find(ids=(text_, good.id))] == [good.id]
    board.find(fragment=text_)
    assert len(list(board.export(Query(view="all")))) == 2
    inventory.apply(changes(drop=(row.id, text_)))
    assert [listed.id for listed in pages(board, ALL)] == [good.id]


def hostile_queries(text_: str) -> Iterator[Query]:
    for sort in ("severity", "locked", "key", "modified"):
        yield Query(view="all", sort=sort, text=text_, limit=1)
        yield Query(view="all", sort=sort, prefix=text_, limit=1)
        yield Query(view="all", sort=sort, holder=text_, limit=1)
        yield Query(view="all", sort=sort, backend=text_, status=text_, after=text_, limit=1)


def pages(board: SqlBoard, query: Query) -> list[ListRow]:
    found: list[ListRow] = []
    while True:
        page = board.page(query)
        found += page.rows
        if not page.next:
            return found
        query = replace(query, after=page.next)


def test_numbers_that_no_database_orders_are_stored_as_unknown(engine: Engine) -> None:
    row: StateRow = state_row("a.tfstate", locked_since=float("nan"), modified=float("inf"))
    SqlInventory(engine).apply(changes(row))
    found = SqlBoard(engine).state(row.id)
    assert found is not None
    assert (found.locked_since, found.modified) == (None, None)
    assert SqlInventory(engine).apply(changes(row)) == 1
