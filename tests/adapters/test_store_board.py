"""What pages ask of the inventory: examples, a model it must agree with, and the plans of its statements."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, event

from lockboard.adapters.store import SqlBoard, SqlInventory, migrate, open_engine
from lockboard.adapters.store.cursor import Cursor, decode, encode
from lockboard.adapters.store.engine import writing
from lockboard.adapters.store.order import Position, order_of
from lockboard.adapters.store.schema import PLACE_LENGTH
from lockboard.adapters.store.sieve import after_prefix
from lockboard.domain.inventory import COUNT_LIMIT, SORTS, VIEWS, ListRow, Query, StateRow, in_view
from lockboard.domain.keys import state_id
from lockboard.domain.model import Content, LockStatus, Severity
from tests.databases import changes, locked_row, state_row

ALL = Query(view="all", sort="key")


def fill(engine: Engine, *rows: StateRow) -> SqlBoard:
    SqlInventory(engine).apply(changes(*rows))
    return SqlBoard(engine)


def keys(rows: Sequence[ListRow | StateRow]) -> list[str]:
    return [row.key for row in rows]


# What a query means, in plain Python.


def matches(row: StateRow, query: Query) -> bool:
    before = query.older_than
    return (
        in_view(query.view, row.rank, row.content, row.lock)
        and query.status in ("", row.content, row.lock)
        and query.backend in ("", row.backend)
        and row.key.startswith(query.prefix)
        and query.holder in ("", row.holder)
        and (before is None or (row.locked_since is not None and row.locked_since < before.timestamp()))
        and all(word in row.search for word in query.text.lower().split())
    )


def in_order(rows: Sequence[StateRow], query: Query) -> list[StateRow]:
    found = sorted(
        (row for row in rows if matches(row, query)), key=lambda row: (row.key[:PLACE_LENGTH], row.id)
    )
    if query.sort == "severity":
        found.sort(key=lambda row: row.rank)
    if query.sort in ("severity", "key"):
        return found[::-1] if query.descending else found
    name = "locked_since" if query.sort == "locked" else "modified"
    falling = query.descending != (query.sort == "modified")
    filled = sorted(
        (row for row in found if getattr(row, name) is not None), key=lambda row: getattr(row, name)
    )
    return (filled[::-1] if falling else filled) + [row for row in found if getattr(row, name) is None]


def assert_agrees(board: SqlBoard, rows: Sequence[StateRow], query: Query) -> None:
    """Pages forward and backward, total, neighbours and export, against the model."""
    expected = [row.id for row in in_order(rows, query)]
    pages = list(forward(board, query))
    assert [row.id for page in pages for row in page] == expected
    backward = [row.id for page in reversed(list(back_from_the_end(board, query))) for row in page]
    assert list(dict.fromkeys(backward)) == expected
    first = board.page(query)
    assert (first.total, first.capped) == (min(len(expected), first.total), len(expected) > first.total)
    assert first.total == len(expected) or (first.capped and first.total == COUNT_LIMIT)
    assert (first.previous, len(first.rows)) == ("", min(query.limit, len(expected)))
    for place in {0, len(expected) // 2, len(expected) - 1} if expected else ():
        before = expected[place - 1] if place else ""
        after = expected[place + 1] if place + 1 < len(expected) else ""
        assert board.neighbours(expected[place], query) == (before, after)
    assert [row.id for row in board.export(query)] == expected


def forward(board: SqlBoard, query: Query) -> Iterator[Sequence[ListRow]]:
    while True:
        page = board.page(query)
        yield page.rows
        if not page.next:
            return
        query = replace(query, after=page.next)


def back_from_the_end(board: SqlBoard, query: Query) -> Iterator[Sequence[ListRow]]:
    """The last page, then each before it."""
    page = board.page(query)
    while page.next:
        page = board.page(replace(query, after=page.next))
    yield page.rows
    while page.previous:
        page = board.page(replace(query, after=page.previous))
        yield page.rows


# Examples.


def test_the_worst_comes_first_and_equals_by_key(engine: Engine) -> None:
    board = fill(
        engine,
        state_row("b", rank=2),
        state_row("a", rank=2),
        state_row("z", rank=0),
        state_row("가", rank=2),
        state_row("B", rank=2),
        state_row("ok"),
    )
    assert keys(board.page(Query()).rows) == ["z", "B", "a", "b", "가"]
    assert keys(board.page(Query(descending=True)).rows) == ["가", "b", "a", "B", "z"]


def test_the_oldest_lock_comes_first_and_rows_without_one_last_in_both_directions(engine: Engine) -> None:
    board = fill(engine, state_row("free"), locked_row("new", "x", 9.0), locked_row("old", "x", 1.5))
    assert keys(board.page(replace(ALL, sort="locked")).rows) == ["old", "new", "free"]
    assert keys(board.page(replace(ALL, sort="locked", descending=True)).rows) == ["new", "old", "free"]


def test_the_newest_state_comes_first_and_rows_without_one_last(engine: Engine) -> None:
    board = fill(engine, state_row("none", modified=None), state_row("old", modified=1.0), state_row("new"))
    assert keys(board.page(replace(ALL, sort="modified")).rows) == ["new", "old", "none"]
    assert keys(board.page(replace(ALL, sort="modified", descending=True)).rows) == ["old", "new", "none"]


def test_wildcards_of_a_search_are_plain_characters(engine: Engine) -> None:
    board = fill(
        engine, *map(state_row, ["100%_a", "100xxa", "back\\slash", "st*r[1]", "quo'te\"s", "-- or 1=1"])
    )
    found = {
        word: keys(board.page(replace(ALL, text=word)).rows) for word in ("0%_", "k\\s", "*r[1", 'e"s', "' '")
    }
    assert found == {
        "0%_": ["100%_a"],
        "k\\s": ["back\\slash"],
        "*r[1": ["st*r[1]"],
        'e"s': ["quo'te\"s"],
        "' '": ["quo'te\"s"],
    }


def test_every_word_of_a_search_must_occur_in_any_order_and_case(engine: Engine) -> None:
    board = fill(engine, *map(state_row, ["prod/vpc", "prod/eks", "dev/vpc"]))
    assert keys(board.page(replace(ALL, text=" VPC  prod ")).rows) == ["prod/vpc"]
    assert keys(board.page(replace(ALL, text="v")).rows) == ["dev/vpc", "prod/vpc"]


def test_a_prefix_is_exact_and_ends_where_it_ends(engine: Engine) -> None:
    board = fill(engine, *map(state_row, ["a/b", "a/", "a0", "A/b", "a/\U0010ffff", "a/\ud7ff", "a", "a/%"]))
    found = keys(board.page(replace(ALL, prefix="a/")).rows)
    assert found == ["a/", "a/%", "a/b", "a/\ud7ff", "a/\U0010ffff"]


def test_the_end_of_a_prefix_is_the_least_text_beyond_it() -> None:
    assert [after_prefix(text) for text in ("a", "a\ud7ff", "a\U0010ffff", "\U0010ffff", "")] == [
        "b",
        "a\ue000",
        "b",
        None,
        None,
    ]


def test_long_keys_that_begin_alike_are_paged_found_and_kept_apart(engine: Engine) -> None:
    stem = "한" * 600
    board = fill(engine, *(state_row(f"{stem}{number}") for number in range(5)), state_row("한"))
    assert_agrees(board, list(board.export(ALL)), replace(ALL, limit=2))
    assert keys(board.page(replace(ALL, prefix=f"{stem}3")).rows) == [f"{stem}3"]
    assert keys(board.find(exact=f"{stem}4")) == [f"{stem}4"]
    assert len(board.page(replace(ALL, limit=2)).next) < 3000


def test_only_locks_held_since_before_a_moment_are_old(engine: Engine) -> None:
    board = fill(engine, locked_row("old", "x", 10.0), locked_row("new", "x", 11.0), state_row("free"))
    before = datetime.fromtimestamp(11, UTC)
    assert keys(board.page(replace(ALL, view="locked", older_than=before)).rows) == ["old"]


def test_counts_are_of_views_and_statuses_of_both_axes(engine: Engine) -> None:
    board = fill(
        engine,
        state_row("ok"),
        state_row("gone", content="state_deleted", rank=1),
        locked_row("held", "x", 1.0),
        state_row("denied", content="unknown", lock="unknown", rank=3),
        locked_row("odd", "", 1.0, lock="lock_unreadable", content="manual_edit", rank=2),
    )
    assert board.counts() == {"attention": 3, "locked": 2, "digest": 2, "unreadable": 2, "all": 5}
    assert board.statuses() == {
        "ok": 2,
        "state_deleted": 1,
        "unlocked": 2,
        "locked": 1,
        "unknown": 1,
        "lock_unreadable": 1,
        "manual_edit": 1,
    }


def test_views_divide_every_status_as_the_pages_say() -> None:
    digest = {content for content in Content if in_view("digest", 5, content, "unlocked")}
    locked = {lock for lock in LockStatus if in_view("locked", 5, "ok", lock)}
    attention = {severity for severity in Severity if in_view("attention", severity.rank, "ok", "unlocked")}
    unreadable = {
        name
        for name in (*Content, *LockStatus)
        if in_view("unreadable", 5, name, "unlocked") or in_view("unreadable", 5, "ok", name)
    }
    assert digest == {
        "digest_ignored",
        "settling",
        "state_deleted",
        "state_deleted_ambiguous",
        "orphan_digest",
        "state_deleted_unprotected",
        "digest_behind",
        "state_rolled_back",
        "manual_edit",
        "digest_unknown",
        "state_empty",
        "state_corrupt",
    }
    assert locked == set(LockStatus) - {"unlocked", "unknown"}
    assert attention == {"critical", "blocked", "attention", "unknown"}
    assert unreadable == {"state_unreadable", "unknown", "lock_unreadable"}


@pytest.mark.parametrize("query", [Query(view="others"), Query(sort="others")])
def test_a_view_or_sort_that_is_none_is_a_mistake_of_the_caller(engine: Engine, query: Query) -> None:
    board = fill(engine, state_row("a"))
    with pytest.raises(ValueError, match="no such"):
        board.page(query)


def test_rows_are_found_by_key_holder_digest_lock_id_or_id(engine: Engine) -> None:
    lock_id, digest = "8a4f1c2e-0000-4000-8000-00000000000a", "ab" * 16
    held = locked_row("dev/vpc", "root@ci " + "x" * 100, 5.0, lock_ids=[lock_id, "other"])
    board = fill(engine, held, state_row("prod/vpc", digest=digest), state_row("stage/vpc"))
    for exact, key in [
        ("dev/vpc", "dev/vpc"),
        (held.holder, "dev/vpc"),
        (lock_id, "dev/vpc"),
        ("other", "dev/vpc"),
        (digest, "prod/vpc"),
    ]:
        assert keys(board.find(exact=exact, fragment="vpc")) == [key]
    assert keys(board.find(ids=[state_id("prod-kr", "stage/vpc"), held.id], exact=digest)) == [
        "dev/vpc",
        "prod/vpc",
        "stage/vpc",
    ]
    assert keys(board.find(exact="vpc", fragment="vpc", limit=2)) == ["dev/vpc", "prod/vpc"]
    assert board.find(exact=held.holder[:-1]) == board.find() == board.find(fragment="  ") == []


def test_a_lock_id_that_is_gone_is_not_found_any_more(engine: Engine) -> None:
    board = fill(engine, locked_row("a", "x", 5.0, lock_ids=["first", "second"]))
    fill(engine, locked_row("a", "x", 5.0, lock_ids=["third"]))
    assert [len(board.find(exact=lock_id)) for lock_id in ("first", "second", "third")] == [0, 0, 1]


def test_locks_with_a_time_come_oldest_first(engine: Engine) -> None:
    unknown = locked_row("unknown", "x", None)
    board = fill(engine, locked_row("b", "x", 2.0), locked_row("a", "x", 3.0), unknown, state_row("free"))
    assert keys(board.held(10)) == ["b", "a"]
    assert keys(board.held(1)) == ["b"]


def test_a_holder_s_other_locks_are_counted(engine: Engine) -> None:
    rows = [locked_row(key, "root@ci", 2.0) for key in "abc"]
    board = fill(engine, *rows, locked_row("d", "root@ci2", 1.0), state_row("free"))
    assert (board.locks_of("root@ci", rows[0].id), board.locks_of("root@ci", "")) == (2, 3)
    assert (board.locks_of("root", ""), board.locks_of("", "")) == (0, 0)


def test_changes_within_a_query_are_counted_from_a_generation_on(engine: Engine) -> None:
    board = fill(engine, *(state_row(f"{number}") for number in range(5)))
    fill(engine, state_row("1", rank=2, content="manual_edit"), state_row("2", memo="x"))
    found = {view: board.changed_since(1, Query(view=view)) for view in ("attention", "all", "locked")}
    assert found == {"attention": 1, "all": 2, "locked": 0}
    assert [board.changed_since(generation, ALL) for generation in (0, 1, 2, 3)] == [5, 2, 0, 0]
    assert board.changed_since(1, replace(ALL, text="2", backend="prod-kr")) == 1


def test_an_export_goes_on_while_rows_change(engine: Engine) -> None:
    rows = [state_row(f"{number:04}") for number in range(450)]
    board = fill(engine, *rows)
    with closing(board.export(ALL)) as export:  # type: ignore[type-var]
        first = next(export)
        SqlInventory(engine).apply(changes(replace(rows[449], memo="new"), drop=(rows[300].id,)))
        rest = list(export)
    assert keys([first, *rest]) == [row.key for row in rows if row != rows[300]]
    assert rest[-1].memo == "new"


def test_a_state_that_is_not_there_has_neither_row_nor_neighbours_nor_timeline(engine: Engine) -> None:
    board = fill(engine, state_row("a"))
    assert (board.state("0" * 16), board.neighbours("0" * 16, ALL), board.timeline("0" * 16)) == (
        None,
        ("", ""),
        [],
    )


def test_a_row_outside_of_the_query_has_the_neighbours_it_would_have(engine: Engine) -> None:
    board = fill(engine, *(state_row(key, rank=2) for key in "ac"), state_row("b"))
    worst = Query(sort="key")
    assert board.neighbours(state_row("b").id, worst) == (state_row("a").id, state_row("c").id)


def test_the_list_never_reads_the_document(engine: Engine) -> None:
    board = fill(engine, *(state_row(f"{number}", rank=number % 6) for number in range(120)))
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    for view, sort in product(VIEWS, SORTS):
        for page in forward(board, Query(view=view, sort=sort)):
            assert all(type(row) is ListRow for row in page)
    assert seen
    assert [statement for statement in seen if "document" in statement] == []


# Cursors.


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "!!!",
        "W10",
        "bnVsbA",
        "e30",
        "WyJrZXkiXQ",
        "\0",
        "\ud800",
        "한",
        "A" * 10000,
        "W1tbW1tbW1tb" * 300,
        encode(order_of("modified", descending=False), Cursor(Position(0, (1.0, "a", "b")), backward=False)),
        encode(order_of("key", descending=True), Cursor(Position(0, ("a", "b")), backward=False)),
        encode(order_of("key", descending=False), Cursor(Position(3, ("a", "b")), backward=False)),
        encode(order_of("key", descending=False), Cursor(Position(-1, ("a", "b")), backward=False)),
        encode(order_of("key", descending=False), Cursor(Position(0, ("a", 1)), backward=False)),
        encode(order_of("key", descending=False), Cursor(Position(0, (["a"], {})), backward=False)),
        encode(order_of("key", descending=False), Cursor(Position(0, ("a",)), backward=False)),
    ],
    ids=range(18),
)
def test_a_cursor_that_is_none_of_this_order_gives_the_first_page(engine: Engine, after: str) -> None:
    board = fill(engine, state_row("a"), state_row("b"))
    assert board.page(replace(ALL, limit=1, after=after)) == board.page(replace(ALL, limit=1))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), st.sampled_from(SORTS), st.booleans())
@settings(max_examples=500)
def test_any_text_at_all_can_be_tried_as_a_cursor(text: str, sort: str, descending: bool) -> None:
    found = decode(order_of(sort, descending=descending), text)
    assert found is None or isinstance(found, Cursor)


@given(
    st.integers(0, 5),
    st.floats(0, 4e9),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=PLACE_LENGTH),
    st.sampled_from(SORTS),
    st.booleans(),
    st.booleans(),
)
def test_a_cursor_comes_back_as_it_went(
    rank: int,
    moment: float,
    key: str,
    sort: str,
    descending: bool,
    backward: bool,
) -> None:
    order = order_of(sort, descending=descending)
    row = ListRow("f" * 16, "b", key, rank, "", "", "", "", "", "", moment, moment, None, "")
    for listed in (row, row._replace(locked_since=None, modified=None)):
        cursor = Cursor(order.position(listed), backward)
        text = encode(order, cursor)
        assert decode(order, text) == cursor
        assert text.replace("-", "").replace("_", "").isalnum()


def test_a_cursor_beyond_the_last_row_gives_the_last_page(engine: Engine) -> None:
    board = fill(engine, *(state_row(f"{number}") for number in range(5)))
    second = board.page(replace(ALL, limit=4))
    fill_after = replace(ALL, limit=4, after=second.next)
    SqlInventory(engine).apply(changes(drop=(state_row("4").id,)))
    page = board.page(fill_after)
    assert (keys(page.rows), page.previous, page.next) == (["0", "1", "2", "3"], "", "")


def test_going_back_to_less_than_a_page_gives_the_first_page_whole(engine: Engine) -> None:
    board = fill(engine, *(state_row(f"{number}") for number in range(6)))
    first = board.page(replace(ALL, limit=3))
    second = board.page(replace(ALL, limit=3, after=first.next))
    SqlInventory(engine).apply(changes(drop=(state_row("0").id,)))
    page = board.page(replace(ALL, limit=3, after=second.previous))
    assert (keys(page.rows), page.previous != "", page.next != "") == (["1", "2", "3"], False, True)


# Many rows: more than COUNT_LIMIT match, so that indexes are walked.


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SqlBoard, Any]]:
    server = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    url = server.fresh() if server else f"sqlite:///{tmp_path_factory.mktemp('many')}/lockboard.db"
    engine = open_engine(url)
    migrate(engine)
    chance = random.Random(5)
    rows = [_random_row(chance, number) for number in range(3500)]
    for backend in ("prod-kr", "dev-kr"):
        mine = [row for row in rows if row.backend == backend]
        SqlInventory(engine).apply(changes(*mine, backend=backend))
    yield SqlBoard(engine), rows
    engine.dispose()
    if server:
        server.drop(url)


def _random_row(chance: random.Random, number: int) -> StateRow:
    held = chance.random() < 0.4
    return state_row(
        f"{chance.choice(['a', 'b/c', 'b/d', '한'])}/{number % 700}/{chance.randrange(10**6)}.tfstate",
        backend=chance.choice(["prod-kr", "dev-kr"]),
        rank=chance.randrange(6),
        content=chance.choice(["ok", "ok", "manual_edit", "state_deleted", "unknown"]),
        lock=chance.choice(["locked", "lock_stale", "unknown"]) if held else "unlocked",
        holder=chance.choice(["root@ci", "ann@laptop"]) if held else "",
        locked_since=float(chance.randrange(300)) if held and chance.random() < 0.9 else None,
        modified=float(chance.randrange(900)) if chance.random() < 0.7 else None,
    )


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    "query",
    [
        Query(view="all"),
        Query(view="attention"),
        Query(view="locked", status="lock_stale"),
        Query(view="all", backend="dev-kr"),
        Query(view="all", backend="dev-kr", status="ok"),
        Query(view="all", prefix="b/"),
        Query(view="all", prefix="b/", backend="prod-kr"),
        Query(view="attention", text="state B/ ROOT"),
        Query(view="all", text="e"),
        Query(view="all", text="tfstate"),
        Query(view="all", holder="root@ci", older_than=datetime.fromtimestamp(200, UTC)),
        Query(view="unreadable", text="한 99"),
    ],
    ids=range(12),
)
def test_many_rows_are_paged_exactly_once_in_each_direction(
    many: tuple[SqlBoard, list[StateRow]],
    query: Query,
    sort: str,
    descending: bool,
) -> None:
    board, rows = many
    assert_agrees(board, rows, replace(query, sort=sort, descending=descending, limit=300))


@pytest.mark.parametrize("sort", SORTS)
def test_sqlite_lists_along_an_index_and_searches_by_trigrams(tmp_path: Any, sort: str) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/lockboard.db")
    migrate(engine)
    chance = random.Random(5)
    board = fill(engine, *(replace(_random_row(chance, n), backend="prod-kr") for n in range(2200)))
    plans: list[tuple[str, list[str]]] = []

    def explain(connection: Any, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "LIMIT" in statement and not statement.startswith("EXPLAIN"):
            raw = connection.connection.driver_connection
            found = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.append((statement, [line[3] for line in found]))

    event.listen(engine, "before_cursor_execute", explain)
    for query in (Query(view="all"), Query(view="all", backend="prod-kr"), Query(view="all", prefix="b/")):
        for _ in zip(range(3), forward(board, replace(query, sort=sort)), strict=False):
            pass
    walks = [plan for statement, plan in plans if "count" not in statement]
    assert walks
    assert [
        plan for plan in walks if any("TEMP B-TREE" in line or line == "SCAN states" for line in plan)
    ] == []
    plans.clear()
    board.page(Query(view="all", text="tfstate"))
    assert any("VIRTUAL TABLE INDEX" in line for line in plans[0][1])


# A model.

_KEYS = ["a", "a/b", "a/b.tfstate", "A/b", "b%", "b_", "b\\", "한/글", "é", "z" * 401, "z" * 402, "a/b*"]
_rows = st.builds(
    lambda key, backend, held, at, **rest: state_row(
        key, backend=backend, **({"holder": held, "locked_since": at} if held else {}), **rest
    ),
    st.sampled_from(_KEYS),
    st.sampled_from(["prod-kr", "dev-kr"]),
    held=st.sampled_from(["", "root@ci", "ann@laptop"]),
    at=st.none() | st.sampled_from([1.0, 1.5, 9.0]),
    rank=st.integers(0, 5),
    content=st.sampled_from(["ok", "manual_edit", "unknown"]),
    lock=st.sampled_from(["unlocked", "locked", "unknown"]),
    modified=st.none() | st.sampled_from([1.0, 2.0, 2.25]),
    digest=st.sampled_from(["", "ab" * 16]),
    memo=st.sampled_from(["", "x"]),
    lock_ids=st.sampled_from([(), ("l1",), ("l1", "l2")]),
)
_queries = st.builds(
    Query,
    view=st.sampled_from(VIEWS),
    status=st.sampled_from(["", "", "ok", "locked", "unknown", "settling"]),
    backend=st.sampled_from(["", "", "prod-kr", "dev-kr", "none"]),
    prefix=st.sampled_from(["", "", "a", "a/", "b\\", "z" * 401, "%"]),
    holder=st.sampled_from(["", "", "root@ci", "root"]),
    older_than=st.none() | st.sampled_from([datetime.fromtimestamp(n, UTC) for n in (1.5, 5, 10)]),
    text=st.sampled_from(["", "", "a", "tfs", "ROOT a", "b%", "*", "abab ann", "한/", "zzz"]),
    sort=st.sampled_from(SORTS),
    descending=st.booleans(),
    limit=st.sampled_from([1, 2, 3, 50]),
)


class Model(RuleBasedStateMachine):
    """The store beside a dictionary."""

    engine: Engine

    @initialize()
    def start(self) -> None:
        self.inventory, self.board = SqlInventory(self.engine), SqlBoard(self.engine)
        self.inventory.forget_backends([])
        self.rows: dict[str, StateRow] = {}
        self.generation = self.board.generation()
        self.stamps: dict[str, int] = {}
        self.reported: set[str] = set()

    def _expect(self, put: Sequence[StateRow], drop: Sequence[str]) -> int:
        """Move the model on; how many rows that changes."""
        gone = [id_ for id_ in drop if self.rows.pop(id_, None)]
        news = {row.id: row for row in put if self.rows.get(row.id) != row}
        self.rows.update(news)
        self.stamps.update(dict.fromkeys(news, self.generation + 1))
        return len(gone) + len(news)

    @rule(backend=st.sampled_from(["prod-kr", "dev-kr"]), rows=st.lists(_rows, max_size=8), data=st.data())
    def refresh(self, backend: str, rows: list[StateRow], data: st.DataObject) -> None:
        put = list({row.id: row for row in rows if row.backend == backend}.values())
        mine = sorted(row.id for row in self.rows.values() if row.backend == backend)
        drop = data.draw(st.lists(st.sampled_from(mine), unique=True, max_size=3)) if mine else []
        drop = [id_ for id_ in drop if id_ not in {row.id for row in put}]
        written = self._expect(put, drop)
        expected = self.generation + (written > 0 or backend not in self.reported)
        self.generation = self.inventory.apply(changes(*put, drop=tuple(drop), backend=backend))
        self.reported.add(backend)
        found = self.inventory.report(backend)
        assert found is not None
        assert (self.generation, found.rows_written) == (expected, written)

    @rule(row=_rows)
    def re_check(self, row: StateRow) -> None:
        expected = self.generation + (self._expect([row], []) > 0)
        self.generation = self.board.put(row)
        assert self.generation == expected

    @rule(kept=st.sampled_from([["prod-kr"], ["dev-kr"], ["prod-kr", "dev-kr"]]))
    def forget(self, kept: list[str]) -> None:
        self.inventory.forget_backends(kept)
        self.rows = {id_: row for id_, row in self.rows.items() if row.backend in kept}
        self.reported &= set(kept)
        self.generation = self.board.generation()

    @rule(query=_queries)
    def look(self, query: Query) -> None:
        assert_agrees(self.board, list(self.rows.values()), query)

    @rule(query=_queries, back=st.integers(0, 3))
    def ask_for_changes(self, query: Query, back: int) -> None:
        since = max(0, self.generation - back)
        changed = [row for row in self.rows.values() if self.stamps[row.id] > since and matches(row, query)]
        assert self.board.changed_since(since, query) == len(changed)

    @rule(holder=st.sampled_from(["root@ci", "ann@laptop"]))
    def ask_for_a_holder(self, holder: str) -> None:
        held = [row.id for row in self.rows.values() if row.holder == holder]
        assert self.board.locks_of(holder, "") == len(held)
        assert {row.id for row in self.board.find(exact=holder, limit=100)} == set(held)

    @rule(lock_id=st.sampled_from(["l1", "l2"]))
    def ask_for_a_lock_id(self, lock_id: str) -> None:
        having = {row.id for row in self.rows.values() if lock_id in str(row.document)}
        assert {row.id for row in self.board.find(exact=lock_id, limit=100)} == having

    @invariant()
    def rows_and_counts_agree(self) -> None:
        if not hasattr(self, "rows"):
            return
        assert {row.id: row for row in self.board.export(ALL)} == self.rows
        counted = dict.fromkeys(VIEWS, 0)
        statuses: dict[str, int] = {}
        for row in self.rows.values():
            for view in VIEWS:
                counted[view] += in_view(view, row.rank, row.content, row.lock)
            for status in {row.content, row.lock}:
                statuses[status] = statuses.get(status, 0) + 1
        assert (self.board.counts(), self.board.statuses()) == (counted, statuses)

    @invariant()
    def the_text_index_holds_what_the_rows_say(self) -> None:
        if self.engine.dialect.name == "sqlite":
            with writing(self.engine) as (connection, _):
                check = "INSERT INTO states_search (states_search, rank) VALUES ('integrity-check', 1)"
                connection.exec_driver_sql(check)


def test_the_store_agrees_with_a_dictionary_whatever_is_done_to_it(engine: Engine) -> None:
    machine = type("ModelHere", (Model,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
