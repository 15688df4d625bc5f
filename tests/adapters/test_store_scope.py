"""A board and a log limited to what somebody may see: as if there were nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text, update

from lockboard.adapters.store import (
    SqlAudit,
    SqlBoard,
    SqlInventory,
    migrate,
    open_audit_engine,
    open_engine,
)
from lockboard.adapters.store.schema import audit
from lockboard.domain.areas import EVERYTHING, Area, Scope, in_scope, scope_of
from lockboard.domain.audit import UNREADABLE, AuditQuery, Entry, Kind, Person, Record, visible
from lockboard.domain.inventory import SORTS, VIEWS, ListRow, Query, StateRow, displayed, in_view
from lockboard.domain.keys import state_id
from lockboard.domain.text import shown
from tests.adapters.test_store_board import assert_agrees, in_order, matches
from tests.databases import NOON, changes, locked_row, state_row

ALL = Query(view="all", sort="key")
BACKENDS = ("prod-kr", "dev-kr", "dev-us")
LONG = "가" * 341 + "z"
"""1,024 bytes, the longest key that S3 takes."""


def fill(engine: Engine, rows: Sequence[StateRow]) -> SqlBoard:
    """The rows, and nothing that was there before."""
    inventory = SqlInventory(engine)
    inventory.forget_backends([])
    for backend in BACKENDS:
        mine = [row for row in rows if row.backend == backend]
        inventory.apply(changes(*mine, backend=backend, states=len(mine), foreign_items=3))
    return SqlBoard(engine)


def keys(rows: Sequence[ListRow | StateRow]) -> list[str]:
    return [row.key for row in rows]


def seen(board: SqlBoard, *areas: Area) -> list[str]:
    """The keys on the board within these areas, counted and listed alike."""
    part = board.within(scope_of(areas))
    found = keys(part.page(replace(ALL, limit=1000)).rows)
    assert part.counts()["all"] == part.page(ALL).total == len(found)
    return found


# What lies within an area.


@pytest.mark.parametrize(
    "prefix",
    [
        "a",
        "a/",
        "%",
        "a%",
        "_",
        "a_",
        "\\",
        "a\\",
        "*",
        "a[",
        "'",
        "한",
        "한/ㄱ",
        "A",
        "e",
        "é",
        "z" * 399,
        "z" * 400,
        "z" * 401,
        LONG,
        LONG[:-1],
        LONG + "z",
        "\n",
        "a\x1b",
        "\u202e",
        "\U0010ffff",
        "a\U0010ffff",
        "a\ud7ff",
        "\ud800",
        "a\ufffd",
        "\U0001f512",
    ],
    ids=range(31),
)
def test_an_area_shows_the_keys_that_start_with_its_prefix_and_no_other(engine: Engine, prefix: str) -> None:
    ends = ("", "/", "b", "%", "_", "\\", "한", "\U0001f512", "\U0010ffff")
    stems = ("", "a", "A", "한", "é", "z" * 399, "z" * 400, "y" * 401, LONG, prefix, prefix[:-1])
    raw = {stem + end for stem in stems for end in ends} - {""}
    rows = [
        state_row(shown(key), backend=backend, id=state_id(backend, key))
        for key in raw
        for backend in ("prod-kr", "dev-kr")
    ]
    board = fill(engine, rows)
    expected = sorted(shown(key) for key in raw if shown(key).startswith(shown(prefix)))
    assert sorted(seen(board, Area("prod-kr", prefix))) == expected
    assert sorted(seen(board, Area("*", prefix))) == sorted(expected * 2)
    assert {key for key in raw if key.startswith(prefix)} <= {
        key for key in raw if shown(key).startswith(shown(prefix))
    }


def test_a_prefix_without_a_backslash_that_is_shown_as_it_is_holds_what_it_holds_in_s3() -> None:
    raw = ["team/a", "team/\n", "team\n", "team\\x0a", "team\\", "\nteam/", "team/\ud800", "team"]
    for prefix in ("team", "team/", "team/a", "t"):
        (area,) = displayed((Area("prod-kr", prefix),))
        assert [key for key in raw if key.startswith(prefix)] == [
            key for key in raw if area.holds("prod-kr", shown(key))
        ]


def test_a_prefix_that_is_the_greatest_text_there_is_ends_nowhere(engine: Engine) -> None:
    rows = [state_row(key) for key in ("\U0010ffff", "\U0010ffff\U0010ffff", "\U0010fffe", "a")]
    fill(engine, rows)
    board = SqlBoard(engine)
    query = replace(ALL, prefix="\U0010ffff")
    assert keys(board.page(query).rows) == ["\U0010ffff", "\U0010ffff\U0010ffff"]
    assert keys(board.within((Area("prod-kr"),)).page(query).rows) == ["\U0010ffff", "\U0010ffff\U0010ffff"]


def test_everything_is_the_board_itself_and_nothing_an_empty_one(engine: Engine) -> None:
    held = locked_row("a", "root@ci", 1.0, lock_ids=["l1"])
    board = fill(engine, [held, state_row("b", backend="dev-kr")])
    assert board.within((EVERYTHING,)) is board
    assert board.within((Area("dev-kr"), EVERYTHING)) is board
    none = board.within(())
    assert_shows_nothing(none, held)
    assert_shows_nothing(board.within((Area("none"), Area("prod-kr", "b"))), held)
    assert none.generation() == board.generation()


def assert_shows_nothing(board: SqlBoard, held: StateRow) -> None:
    page = board.page(ALL)
    assert (page.rows, page.total, page.capped, page.next, page.previous) == ([], 0, False, "", "")
    assert (set(board.counts()), set(board.counts().values())) == (set(VIEWS), {0})
    assert (board.statuses(), board.changed_since(0, ALL), list(board.export(ALL))) == ({}, 0, [])
    assert (board.state(held.id), board.neighbours(held.id, ALL), board.timeline(held.id)) == (
        None,
        ("", ""),
        [],
    )
    assert (board.held(9), board.locks_of("root@ci", "")) == ([], 0)
    for exact in ("a", "root@ci", "l1"):
        assert board.find(ids=[held.id], exact=exact, fragment="a") == []
    assert [report.states for report in board.reports()] in ([], [0])


def test_a_part_of_a_part_is_what_both_hold(engine: Engine) -> None:
    board = fill(engine, [state_row(key, backend=b) for key in ("a/x", "a/y", "b/x") for b in BACKENDS])
    part = board.within((Area("*", "a/"), Area("prod-kr")))
    assert seen(part, Area("prod-kr")) == ["a/x", "a/y", "b/x"]
    assert seen(part, Area("*", "a/x")) == ["a/x"] * 3
    assert seen(part, Area("dev-kr", "b/")) == []
    assert part.within((EVERYTHING,)) is part


def test_a_re_check_puts_a_row_through_a_board_that_does_not_show_it(engine: Engine) -> None:
    board = fill(engine, [state_row("a"), state_row("b")])
    part = board.within((Area("prod-kr", "a"),))
    before = part.generation()
    assert part.put(state_row("b", content="manual_edit")) == board.generation() == before + 1
    assert part.state(state_row("b").id) is None
    assert part.changed_since(before, ALL) == 0
    assert board.changed_since(before, ALL) == 1


def test_counts_follow_every_change_of_a_row_within_and_of_a_backend(engine: Engine) -> None:
    board = fill(engine, [state_row("a/1"), state_row("b/1")])
    part, others = board.within((Area("*", "a/"),)), board.within((Area("*", "b/"),))
    assert (part.counts()["attention"], others.counts()["attention"]) == (0, 0)
    board.put(state_row("a/1", rank=0, content="state_deleted"))
    SqlInventory(engine).apply(changes(state_row("a/2", backend="dev-us"), backend="dev-us"))
    again = board.within((Area("*", "a/"),))
    for found in (part, again):
        assert (found.counts()["attention"], found.counts()["all"]) == (1, 2)
        assert found.statuses() == {"state_deleted": 1, "ok": 1, "unlocked": 2}
    assert (others.counts()["attention"], others.counts()["all"]) == (0, 1)


def test_a_search_for_what_only_others_have_goes_on_as_if_they_had_not(engine: Engine) -> None:
    mine = locked_row("a/root@ci", "ann@laptop", 2.0)
    board = fill(engine, [locked_row("b/1", "root@ci", 1.0, lock_ids=["l1"]), mine])
    part = board.within((Area("prod-kr", "a/"),))
    assert keys(board.find(exact="root@ci", fragment="root@ci")) == ["b/1"]
    assert keys(part.find(exact="root@ci", fragment="root@ci")) == ["a/root@ci"]
    assert part.find(exact="l1") == part.find(ids=[state_row("b/1").id]) == []


def test_a_limit_counts_what_is_seen(engine: Engine) -> None:
    hidden = [locked_row(f"a/{number}", "root@ci", float(number)) for number in range(30)]
    board = fill(engine, [*hidden, locked_row("b/1", "root@ci", 90.0), locked_row("b/2", "root@ci", 91.0)])
    part = board.within((Area("prod-kr", "b/"),))
    assert keys(part.held(1)) == ["b/1"]
    assert keys(part.find(exact="root@ci", limit=2)) == ["b/1", "b/2"]
    assert part.locks_of("root@ci", state_row("b/1").id) == 1


# Reports.


def test_a_report_counts_what_is_seen_of_its_backend(engine: Engine) -> None:
    board = fill(engine, [state_row(key, backend=b) for key in ("a/1", "a/2", "b/1") for b in BACKENDS[:2]])
    SqlInventory(engine).apply(changes(backend="dev-kr", states=3, foreign_items=3, error="access denied"))

    def told(*areas: Area) -> dict[str, tuple[int, int, str | None]]:
        found = board.within(scope_of(areas)).reports()
        return {report.backend: (report.states, report.foreign_items, report.error) for report in found}

    whole, denied = (3, 3, None), "access denied"
    assert told(Area("prod-kr")) == {"prod-kr": whole}
    assert told(Area("prod-kr"), Area("dev-kr", "a/")) == {"prod-kr": whole, "dev-kr": (2, 0, denied)}
    assert told(Area("dev-kr", "a/"), Area("dev-kr", "b/")) == {"dev-kr": (3, 0, denied)}
    assert told(Area("dev-us")) == {"dev-us": (0, 3, None)}
    assert told(Area("*", "b/")) == {
        "dev-kr": (1, 0, denied),
        "dev-us": (0, 0, None),
        "prod-kr": (1, 0, None),
    }
    assert told(Area("none")) == told() == {}


def test_who_sees_a_part_of_a_backend_cannot_count_the_rest_by_what_reading_it_took(engine: Engine) -> None:
    spent: dict[str, Any] = {
        "requests": {"list": 41, "scan": 3},
        "sweep_requests": 7,
        "throttled": 2,
    }
    SqlInventory(engine).apply(changes(**spent))
    board = SqlBoard(engine)
    (part,) = board.within((Area("prod-kr", "a/"),)).reports()
    (whole,) = board.within((Area("prod-kr"),)).reports()

    assert {name: getattr(whole, name) for name in spent} == spent
    assert [getattr(part, name) for name in spent] == [{}, 0, 0]


# Random estates.


_STEMS = ("a", "a/b", "A/b", "b%", "b_c", "b\\", "한/글", "é", "team/", "team/b/", "z" * 401, "z" * 402)
_PREFIXES = ("", "a", "a/", "A", "b%", "b_", "b\\", "한", "z" * 400, "z" * 401, "team/", "team/b", "%", "no")
_HOLDERS = ("root@ci", "ann@laptop")


def random_row(chance: random.Random) -> StateRow:
    held = chance.random() < 0.4
    return state_row(
        chance.choice(_STEMS) + chance.choice(["", "1", "/x.tfstate", "_", "é"]),
        backend=chance.choice(BACKENDS),
        rank=chance.randrange(6),
        content=chance.choice(["ok", "ok", "manual_edit", "state_deleted", "unknown"]),
        lock=chance.choice(["locked", "lock_stale", "unknown"]) if held else "unlocked",
        holder=chance.choice(_HOLDERS) if held else "",
        locked_since=float(chance.randrange(300)) if held and chance.random() < 0.9 else None,
        modified=float(chance.randrange(9)) if chance.random() < 0.7 else None,
        digest="ab" * 16 if chance.random() < 0.1 else "",
        lock_ids=("l1",) if held else (),
    )


def random_scope(chance: random.Random, prefixes: Sequence[str]) -> Scope:
    names = (*BACKENDS, "*", "none")
    count = chance.choice([0, 1, 1, 2, 3, 5])
    return scope_of(Area(chance.choice(names), chance.choice(prefixes)) for _ in range(count))


def random_query(chance: random.Random, prefixes: Sequence[str]) -> Query:
    def seldom(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.25 else ""

    return Query(
        view=chance.choice(["all", *VIEWS]),
        status=seldom("ok", "locked", "unknown"),
        backend=seldom(*BACKENDS, "none"),
        prefix=seldom(*prefixes),
        holder=seldom(*_HOLDERS, "root"),
        older_than=datetime.fromtimestamp(150, UTC) if chance.random() < 0.15 else None,
        text=seldom("a", "tfs", "ROOT", "b%", "한/", "team tfstate"),
        sort=chance.choice(SORTS),
        descending=chance.random() < 0.5,
        limit=chance.choice([2, 7, 50]),
    )


def assert_limited(board: SqlBoard, rows: Sequence[StateRow], scope: Scope, query: Query) -> None:
    """Every answer of the part against the whole export, filtered in Python."""
    part, areas = board.within(scope), displayed(scope)
    mine = [row for row in rows if in_scope(areas, row.backend, row.key)]
    assert_agrees(part, mine, query)
    assert part.changed_since(0, query) == min(1000, sum(matches(row, query) for row in mine))
    views = {view: sum(in_view(view, row.rank, row.content, row.lock) for row in mine) for view in VIEWS}
    statuses = Counter(status for row in mine for status in {row.content, row.lock})
    assert (part.counts(), part.statuses()) == (views, statuses)
    held = sorted((row for row in mine if row.locked_since is not None), key=oldest)
    assert [row.id for row in part.held(7)] == [row.id for row in held[:7]]
    for exact in (*_HOLDERS, "ab" * 16, "l1", rows[0].key):
        named = sorted((row for row in mine if exact in names(row)), key=worst)
        assert [row.id for row in part.find(exact=exact, limit=9)] == [row.id for row in named[:9]]
    for holder in _HOLDERS:
        assert part.locks_of(holder, rows[0].id) == sum(
            row.holder == holder and row.id != rows[0].id for row in mine
        )
    for row in random.Random(len(rows)).sample(rows, min(12, len(rows))):
        visible_row = row in mine
        assert part.state(row.id) == (row if visible_row else None)
        assert bool(part.timeline(row.id)) == bool(part.find(ids=[row.id])) == visible_row
        assert visible_row or part.neighbours(row.id, query) == ("", "")
    backends = {row.backend for row in mine}
    assert backends <= {report.backend for report in part.reports()}
    assert sum(report.states for report in part.reports()) == len(mine)


def oldest(row: StateRow) -> tuple[float, str, str]:
    return row.locked_since or 0.0, row.key[:400], row.id


def worst(row: StateRow) -> tuple[int, str, str]:
    return row.rank, row.key[:400], row.id


def names(row: StateRow) -> set[str]:
    return {row.key, row.holder, row.digest, *(["l1"] if row.holder else [])}


@pytest.mark.parametrize("count", [1, 9, 60, 150])
def test_a_part_of_any_estate_answers_as_if_it_were_all(engine: Engine, count: int) -> None:
    chance = random.Random(count)
    rows = list({row.id: row for row in (random_row(chance) for _ in range(count))}.values())
    board = fill(engine, rows)
    for _ in range(12):
        assert_limited(board, rows, random_scope(chance, _PREFIXES), random_query(chance, _PREFIXES))


# Many rows: more than are counted match, so that indexes are walked.

_MANY_PREFIXES = ("", "a/", "b/", "b/c/", "b/d/1", "b/d/2", "한/", "a/1", "no/")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SqlBoard, list[StateRow]]]:
    server = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    url = server.fresh() if server else f"sqlite:///{tmp_path_factory.mktemp('many')}/lockboard.db"
    engine = open_engine(url)
    migrate(engine)
    chance = random.Random(5)
    stems = ["a", "a", "b/c", "b/d", "한"]
    rows = [
        replace(row, key=key, id=state_id(row.backend, key), search=f"{key} {row.holder}".strip())
        for number in range(4500)
        for row in [random_row(chance)]
        for key in [f"{chance.choice(stems)}/{number % 700}/{number}.tfstate"]
    ]
    yield fill(engine, rows), rows
    engine.dispose()
    if server:
        server.drop(url)


@pytest.mark.parametrize(
    "scope",
    [
        (Area("prod-kr", "a/"),),
        (Area("*", "a/"),),
        (Area("prod-kr"),),
        (Area("prod-kr"), Area("dev-kr")),
        (Area("prod-kr"), Area("dev-kr", "a/"), Area("*", "한/")),
        (Area("*", "b/d/1"), Area("dev-us", "b/")),
    ],
    ids=range(6),
)
def test_a_part_of_many_rows_is_paged_exactly_once_in_each_direction(
    many: tuple[SqlBoard, list[StateRow]], scope: Scope
) -> None:
    board, rows = many
    part = board.within(scope)
    mine = [row for row in rows if in_scope(scope, row.backend, row.key)]
    for sort in SORTS:
        assert_agrees(part, mine, Query(view="all", sort=sort, limit=700))
    assert part.changed_since(0, ALL) == min(1000, len(mine))
    chance = random.Random(len(mine))
    for _ in range(5):
        query = replace(random_query(chance, _MANY_PREFIXES), limit=900)
        assert_agrees(part, mine, query)
        assert part.changed_since(0, query) == min(1000, len(in_order(mine, query)))


def test_keys_of_a_part_are_counted_and_listed_along_indexes(tmp_path: Any) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/lockboard.db")
    migrate(engine)
    rows = [state_row(f"team-{n % 10:02}/{n}", backend=BACKENDS[n % 2], rank=n % 6) for n in range(15_000)]
    board = fill(engine, rows)
    plans: list[str] = []

    def explain(connection: Any, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "states" in statement and not statement.startswith("EXPLAIN"):
            raw = connection.connection.driver_connection
            plans.extend(line[3] for line in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(engine, "before_cursor_execute", explain)
    part = board.within((Area("prod-kr", "team-06/"), Area("dev-kr", "team-07/")))
    assert part.counts()["all"] == 3000
    for sort in SORTS:
        page = part.page(Query(view="all", sort=sort))
        part.page(Query(view="all", sort=sort, after=page.next))
    walked = plans.copy()
    few = board.within((Area("prod-kr", "team-06/1"),))
    assert 0 < few.page(ALL).total < 1000
    engine.dispose()
    assert plans
    assert [line for line in plans if line.startswith("SCAN states") and "INDEX" not in line] == []
    assert [line for line in walked if "TEMP B-TREE" in line] == []
    assert [line for line in plans if "states_by_kind (kind=?)" in line] == []
    assert any("states_by_kind (kind=? AND rank=? AND place>? AND place<?)" in line for line in plans)
    assert any("states_by_backend_place (backend=? AND place>? AND place<?)" in line for line in plans)


# The audit log.

KEY = b"the key of the audit log in tests"
KIM = Person("kim@example.com", "oidc", "10.0.0.7", "idp|kim")


@pytest.fixture
def log(engine: Engine, database_url: str) -> Iterator[SqlAudit]:
    opened = open_audit_engine(database_url)
    yield SqlAudit(opened, KEY, lambda: NOON, lambda _head, _at: None)
    opened.dispose()


def note(log: SqlAudit, backend: str, key: str, **more: Any) -> Record:
    return log.append(
        Entry(
            Kind.REFUSAL,
            "force_unlock",
            KIM,
            backend=backend,
            key=key,
            state_id=state_id(backend, key),
            **more,
        )
    )


def numbers(records: Sequence[Record] | Iterator[Record]) -> list[int]:
    return [record.seq for record in records]


def listed(log: SqlAudit, scope: Scope, **asked: Any) -> list[int]:
    """The numbers of the records in a scope, by pages forward and back and by export alike."""
    query = AuditQuery(scope=scope, limit=2, **asked)
    exported = numbers(log.export(query))
    pages = [log.page(query)]
    while (older := pages[-1].older) is not None:
        pages.append(log.page(replace(query, before=older)))
    found = [seq for page in pages for seq in numbers(page.records)]
    back = [pages[-1]]
    while (newer := back[-1].newer) is not None:
        back.append(log.page(replace(query, after=newer)))
    assert sorted({seq for page in back for seq in numbers(page.records)}, reverse=True) == found
    assert found == exported
    assert {page.total for page in pages} == {len(found)}
    return found


_KEYS = (
    "Prod/x",
    "prod/x",
    "PROD/x",
    "prod/ΔΣ",
    "prod/ΔΣΔ/x",
    "prod/İ",
    "prod/%",
    "prod/_",
    "a\\nb",
    "a\nb",
    'q"uote',
    "q\\",
    "한/글",
    "é",
    "e\u0301",
    "\ud800",
    "\ud83d",
    "\ud83d\ud83d",
    "\U0001f512/x",
    "\udd12",
    "\0",
    "prod/" + "x" * 3000,
    "Prod/" + "x" * 3000,
    '},"key":"prod/',
    "",
)


def test_an_auditor_of_a_part_sees_the_records_of_its_keys_and_no_other(log: SqlAudit) -> None:
    facts: dict[str, Any] = {"plan": {"a": {}, "key": "prod/x"}, "key": "Prod/", "z": {}}
    records = [
        note(log, backend, key, facts=facts if number % 3 else {}, message='},"key":"prod/x')
        for number, key in enumerate(_KEYS)
        for backend in ("prod-kr", "dev-kr")
    ]
    records += [log.append(Entry(Kind.EVENT, "export", KIM)), note(log, "", "prod/x")]
    halves = ("\ud83d", "\ud83d\ud83d", "q\\", "a\\", "a\\n", "a\n", "prod/Δ", "prod/ΔΣ", "prod/δ", "prod/i")
    prefixes = {key[:length] for key in _KEYS for length in (0, 1, 2, 5, 2500)} | {*_KEYS, *halves}
    for prefix in sorted(prefixes):
        for scope in ((Area("prod-kr", prefix),), (Area("*", prefix),)):
            expected = [record.seq for record in records[::-1] if visible(record.entry, scope)]
            assert numbers(log.export(AuditQuery(scope=scope))) == expected
            assert log.page(AuditQuery(scope=scope)).total == len(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_any_log_is_the_whole_of_it_filtered(log: SqlAudit, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        backend = chance.choice(["", *BACKENDS])
        note(log, backend, shown(chance.choice(_KEYS[:16])), ticket=chance.choice(["", "OPS-1"]))
    whole = list(log.export(AuditQuery()))
    for _ in range(15):
        scope = random_scope(chance, ("", "p", "P", "prod/", "Prod/", "a\\", "한", "no"))
        asked = {"ticket": "OPS-1"} if chance.random() < 0.3 else {}
        expected = [
            record.seq
            for record in whole
            if visible(record.entry, scope)
            and record.entry.ticket == asked.get("ticket", record.entry.ticket)
        ]
        assert listed(log, scope, **asked) == expected


def test_what_is_about_no_backend_is_only_seen_by_who_sees_everything(log: SqlAudit) -> None:
    log.append(Entry(Kind.EVENT, "sign_in", KIM))
    note(log, "prod-kr", "a")
    assert numbers(log.export(AuditQuery(scope=(EVERYTHING,)))) == [2, 1] == numbers(log.export(AuditQuery()))
    assert numbers(log.export(AuditQuery(scope=(Area("*", "a"), Area("prod-kr"))))) == [2]
    assert numbers(log.export(AuditQuery(scope=()))) == []
    assert log.page(AuditQuery(scope=())).total == 0


def drop_triggers(connection: Connection) -> None:
    """As somebody who owns the database."""
    on_postgresql = connection.dialect.name == "postgresql"
    name = "audit_insert_only ON audit" if on_postgresql else "audit_no_update"
    connection.execute(text(f"DROP TRIGGER {name}"))


@pytest.mark.parametrize(
    "body",
    ['{"x":{},"key":"a/1', '{"facts":{},"key":"a/1\x01', '{"facts":{},"key":"a/1","\u20ac'],
    ids=range(3),
)
def test_a_record_that_was_changed_is_shown_in_no_part(engine: Engine, log: SqlAudit, body: str) -> None:
    note(log, "prod-kr", "a/1")
    note(log, "prod-kr", "a/2")
    with engine.begin() as connection:
        drop_triggers(connection)
        connection.execute(update(audit).where(audit.c.seq == 1).values(body=body))
    scope = (Area("prod-kr", "a/"),)
    assert numbers(log.page(AuditQuery(scope=scope)).records) == [2]
    assert numbers(log.export(AuditQuery(scope=scope))) == [2]
    assert [record.entry.action for record in log.export(AuditQuery())] == ["force_unlock", UNREADABLE]


@pytest.mark.parametrize("asked", [AuditQuery(limit=2), AuditQuery(limit=2, after=0)])
def test_records_that_were_changed_give_their_place_on_a_page_to_others(
    engine: Engine, log: SqlAudit, asked: AuditQuery
) -> None:
    for number in range(1, 10):
        note(log, "prod-kr", f"a/{number}")
    with engine.begin() as connection:
        drop_triggers(connection)
        changed = audit.c.seq.in_((1, 2, 3, 7, 8, 9))
        connection.execute(update(audit).where(changed).values(body="other bytes"))
    found = log.page(replace(asked, scope=(Area("prod-kr"),)))
    assert numbers(found.records) == ([6, 5] if asked.after is None else [5, 4])
