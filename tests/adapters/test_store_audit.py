"""The audit log on each database: one chain whoever appends, nothing changed unseen, every fault in time."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError

from lockboard.adapters.store import (
    SqlAudit,
    SqlInventory,
    migrate,
    open_audit_engine,
    open_engine,
    open_memory,
)
from lockboard.adapters.store.audit_rows import columns_of
from lockboard.adapters.store.schema import audit
from lockboard.domain.audit import (
    GENESIS,
    UNREADABLE,
    AlreadyRecorded,
    Audit,
    AuditError,
    AuditQuery,
    Entry,
    Head,
    Kind,
    Person,
    Verification,
    Witness,
    body_of,
    mac_of,
)
from lockboard.domain.errors import StoreError
from tests.databases import NOON, PostgresServer, changes, sqlite_url, state_row

KEY = b"the key of the audit log in tests"
KIM = Person("kim@example.com", "demo", "127.0.0.1")
HANDSHAKE_SECONDS = 30
Rows = list[dict[str, Any]]


def silent(_head: Head, _at: datetime) -> None:
    return


def open_log(url: str, witness: Witness = silent, key: bytes = KEY, **options: Any) -> SqlAudit:
    return SqlAudit(open_audit_engine(url), key, options.pop("clock", Seconds()), witness, **options)


class Seconds:
    """A clock that goes on by a second at each look."""

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def an_event(**changes: Any) -> Entry:
    return replace(Entry(Kind.EVENT, "export", KIM), **changes)


def an_intent(action_id: str, **changes: Any) -> Entry:
    made = Entry(Kind.INTENT, "force_unlock", KIM, action_id, "prod-kr", "acme", "team/app.tfstate", "s1")
    return replace(made, **changes)


def an_outcome(action_id: str, **changes: Any) -> Entry:
    return replace(an_intent(action_id), kind=Kind.OUTCOME, **{"result": "done", **changes})


@pytest.fixture(scope="module")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with its tables made, to be copied."""
    return Path(make_url(migrated(sqlite_url(tmp_path_factory.mktemp("made")))).database or "")


@pytest.fixture
def sqlite_made(made_file: Path, tmp_path: Path) -> str:
    """A SQLite database with its tables made."""
    url = sqlite_url(tmp_path)
    shutil.copy(made_file, make_url(url).database or "")
    return url


@pytest.fixture(scope="module")
def made_database(postgresql: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with its tables made; one for all tests here, since each takes half a second."""
    url = migrated(postgresql.fresh())
    yield url
    postgresql.drop(url)


@pytest.fixture
def postgresql_made(made_database: str) -> Iterator[str]:
    """The same with an empty log, which this test has for itself."""
    yield made_database
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    engine = open_engine(made_database)
    with engine.begin() as connection:
        connection.execute(text(ended))
    with changing(engine) as connection:
        connection.execute(audit.delete())
        connection.execute(text("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_insert_only"))
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """A database with its tables made and an empty log, on each kind in turn."""
    found = request.getfixturevalue(f"{request.param}_made")
    assert isinstance(found, str)
    return found


@pytest.fixture
def log(url: str) -> SqlAudit:
    return open_log(url)


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """The database as somebody with all rights changes it: without the triggers."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for name in ("no_update", "no_delete", "no_replace"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS audit_{name}"))
        else:
            connection.execute(text("SET LOCAL synchronous_commit = off"))  # a change in a test needs no disk
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_insert_only"))
        yield connection


# Appending


def test_a_record_is_numbered_dated_chained_and_read_back(log: Audit) -> None:
    first = log.append(an_intent("a1", reason="the runner died", facts={"raw": "\ud800\0"}))
    second = log.append(an_outcome("a1"))
    assert (first.seq, second.seq) == (1, 2)
    assert (first.at, second.at) == (NOON + timedelta(seconds=1), NOON + timedelta(seconds=2))
    assert first.mac == mac_of(KEY, 1, GENESIS, first.body)
    assert second.mac == mac_of(KEY, 2, first.mac, second.body)
    assert first.entry.facts == {"raw": "\ud800\0"}
    assert [log.record(1), log.record(2), log.record(3)] == [first, second, None]
    assert (log.first(), log.head()) == (first, Head(2, second.mac))


def test_an_empty_log_has_no_first_record_and_no_head_and_is_right(log: Audit) -> None:
    assert (log.first(), log.head(), log.people(), list(log.export(AuditQuery()))) == (None, None, [], [])
    assert log.last_verification() is None
    assert log.verify() == Verification(0, None)
    assert log.page(AuditQuery()).records == []


def test_the_witness_is_told_of_each_head_when_others_can_read_it_already(url: str) -> None:
    reader = open_log(url)
    told: list[tuple[Head, Head | None]] = []
    log = open_log(url, witness=lambda head, _at: told.append((head, reader.head())))
    heads = [Head(record.seq, record.mac) for record in (log.append(an_event()), log.append(an_event()))]
    assert told == [(head, head) for head in heads]


def test_time_never_goes_back_in_the_log(url: str) -> None:
    moments = iter([NOON, NOON - timedelta(days=1), NOON + timedelta(seconds=1)])
    log = open_log(url, clock=lambda: next(moments))
    found = [log.append(an_event()).at for _ in range(3)]
    assert found == [NOON, NOON, NOON + timedelta(seconds=1)]


def test_an_action_has_one_intent_and_one_outcome(log: Audit) -> None:
    log.append(an_intent("a1"))
    log.append(an_outcome("a1"))
    for again in (an_intent("a1", reason="again"), an_outcome("a1", result="failed")):
        with pytest.raises(AlreadyRecorded, match="a1"):
            log.append(again)
    for _ in range(2):
        log.append(replace(an_intent("a1"), kind=Kind.REFUSAL))
    assert [record.entry.kind.value for record in log.of_action("a1")] == [
        "intent",
        "outcome",
        "refusal",
        "refusal",
    ]
    assert log.of_action("") == []
    assert log.verify().ok


@pytest.mark.parametrize(
    "entry",
    [
        an_event(facts={"x": object()}),
        an_event(facts={"x": float("nan")}),
        an_event(facts={1: "a", 10: "b", 9: "c"}),
        an_event(facts={1: "a", "b": "c"}),
        an_event(key=None),
        an_intent(""),
        an_outcome(""),
    ],
)
def test_what_could_not_be_verified_later_is_not_taken(entry: Entry) -> None:
    log = SqlAudit(open_memory(), KEY, Seconds(), silent)
    log.append(an_event())
    with pytest.raises(AuditError, match="does not take"):
        log.append(entry)
    assert log.append(an_event()).seq == 2
    assert log.verify().ok


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        SqlAudit(open_memory(), b"k" * 31, Seconds(), silent)


ODD = [
    "\ud800\0\udfff",
    "\U0001f512" * 20_000,
    "\x07" * 50_000,
    "\u202e%_\\'\"",
    "\udc80" * 9,
]


@pytest.mark.parametrize("odd", ODD)
def test_hostile_text_is_taken_found_and_kept(log: Audit, odd: str) -> None:
    entry = Entry(
        Kind.INTENT, odd, Person(odd, odd, odd), odd, odd, odd, odd, odd, odd, odd, message=odd,
        facts={odd: [odd]},
    )  # fmt: skip
    kept = log.append(entry).entry
    assert len(kept.key) == len(odd)
    asked = AuditQuery(person=odd, action=odd, backend=odd, ticket=odd, state_id=odd, action_id=odd)
    assert [record.entry for record in log.page(asked).records] == [kept]
    assert [record.entry for record in log.of_action(odd)] == [kept]
    assert [record.entry for record in log.open_intents()] == [kept]
    assert len(log.people()) == 1
    assert log.verify().ok
    with pytest.raises(AlreadyRecorded):
        log.append(entry)


def test_two_halves_of_a_character_side_by_side_are_one_character_in_the_record_and_beside_it(
    log: Audit,
) -> None:
    halves, whole = "\ud83d\udd12", "\U0001f512"
    intent = an_intent(halves, key=halves, person=Person(halves, "demo", ""))
    assert log.append(intent).entry.key == whole
    assert log.verify().ok
    assert [record.seq for record in log.page(AuditQuery(person=whole, key=whole)).records] == [1]
    with pytest.raises(AlreadyRecorded):
        log.append(intent)


# Insert only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET person = 'nobody' WHERE seq = 1",
        "UPDATE audit SET seq = seq",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit",
    ],
)
def test_no_record_is_changed_or_removed_through_the_application(url: str, statement: str) -> None:
    log, engine = open_log(url), open_engine(url)
    records = [log.append(an_event()), log.append(an_event())]
    with pytest.raises(DBAPIError, match="insert-only"), engine.begin() as connection:
        connection.execute(text(statement))
    assert [log.record(1), log.record(2)] == records


@pytest.mark.postgres
def test_postgresql_does_not_truncate_or_upsert_the_log_even_as_a_replica(postgresql_made: str) -> None:
    engine = open_engine(postgresql_made)
    open_log(postgresql_made).append(an_event())
    upsert = "INSERT INTO audit SELECT * FROM audit ON CONFLICT (seq) DO UPDATE SET person = ''"
    for statement in ("TRUNCATE audit", upsert, "DELETE FROM audit"):
        with engine.connect() as connection:
            connection.execute(text("SET session_replication_role = replica"))
            with pytest.raises(DBAPIError, match="insert-only"):
                connection.execute(text(statement))


@pytest.mark.parametrize("seq", ["seq", "seq + 1"])
def test_sqlite_does_not_replace_a_record(sqlite_made: str, seq: str) -> None:
    log, engine = open_log(sqlite_made), open_engine(sqlite_made)
    kept = log.append(an_intent("a1"))
    columns = [column.name for column in audit.columns if column.name != "seq"]
    names = ", ".join(columns)
    statement = f"INSERT OR REPLACE INTO audit (seq, {names}) SELECT {seq}, {names} FROM audit"
    with pytest.raises(DBAPIError, match="has this record already"), engine.begin() as connection:
        connection.execute(text(statement))
    assert list(log.export(AuditQuery())) == [kept]


@pytest.mark.postgres
def test_a_role_that_may_only_select_and_insert_can_keep_the_log_and_nothing_more(
    postgresql_made: str,
) -> None:
    role = make_url(postgresql_made).database
    with open_engine(postgresql_made).begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT SELECT, INSERT ON audit TO {role}"))
    as_role = make_url(postgresql_made).set(username=role).render_as_string(hide_password=False)
    log = open_log(as_role)
    kept = log.append(an_event())
    assert log.verify().ok
    for statement in (
        "UPDATE audit SET person = ''",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "ALTER TABLE audit DISABLE TRIGGER audit_insert_only",
        "DROP TRIGGER audit_insert_only ON audit",
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
        "SET session_replication_role = replica",
    ):
        with (
            pytest.raises(DBAPIError, match=r"permission denied|must be owner"),
            open_engine(as_role).begin() as connection,
        ):
            connection.execute(text(statement))
    assert list(log.export(AuditQuery())) == [kept]


@pytest.mark.postgres
def test_the_narrow_role_of_the_documentation_runs_everything_and_cannot_change_a_record(
    postgresql: PostgresServer,
) -> None:
    url = migrated(postgresql.fresh())
    role = f"narrow_{make_url(url).database}"
    page = Path(__file__).parents[2].joinpath("docs", "audit.md").read_text("utf-8")
    (grants,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with open_engine(url).begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        for statement in filter(str.strip, re.sub(r"\blockboard\b", role, grants).split(";")):
            connection.execute(text(statement))
    as_role = make_url(url).set(username=role).render_as_string(hide_password=False)
    engine = open_engine(as_role)
    migrate(engine)
    SqlInventory(engine).apply(changes(state_row("team/app.tfstate")))
    log = open_log(as_role)
    log.append(an_event())
    assert log.verify().ok
    for verb in ("DELETE FROM audit", "UPDATE audit SET person = ''", "TRUNCATE audit"):
        with engine.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text(verb))
    engine.dispose()
    log._engine.dispose()
    postgresql.drop(url)


def test_each_action_id_has_one_row_of_a_kind_whoever_inserts(url: str) -> None:
    open_log(url).append(an_intent("a1"))
    engine = open_engine(url)
    (once,) = [index for index in inspect(engine).get_indexes("audit") if index["name"] == "audit_once"]
    assert (once["unique"], once["column_names"]) == (1, ["action_id", "kind"])
    with engine.connect() as connection:
        row = connection.execute(select(audit)).one()._asdict()
    with pytest.raises(DBAPIError), engine.begin() as connection:
        connection.execute(insert(audit).values({**row, "seq": 2}))


# Many at once


def test_threads_of_two_engines_build_one_chain(url: str) -> None:
    told: list[Head] = []
    logs = [open_log(url, witness=lambda head, _at: told.append(head)) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        seqs = list(pool.map(lambda number: logs[number % 2].append(an_event()).seq, range(200)))
    assert sorted(seqs) == list(range(1, 201))
    found = logs[0].verify(told)
    assert (found.ok, found.checked, found.tail_proven) == (True, 200, True)


APPEND = """
import sys
from datetime import UTC, datetime
from lockboard.adapters.store import SqlAudit, open_audit_engine
from lockboard.domain.audit import Entry, Kind, Person
url, key, name = sys.argv[1:]
log = SqlAudit(open_audit_engine(url), key.encode(), lambda: datetime.now(UTC), lambda head, at: None)
print("ready", flush=True)
sys.stdin.read(1)
seqs = []
while len(seqs) < 100 or seqs[-1] - seqs[0] == len(seqs) - 1:  # until the other one came between
    seqs.append(log.append(Entry(Kind.EVENT, "start", Person(name, "system", ""))).seq)
print(len(seqs))
"""


def test_two_processes_build_one_chain(url: str) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, url, KEY.decode(), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in ("one", "other")
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"g")
            process.stdin.flush()
        told = [process.communicate(timeout=60) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], told
    counts = [int(out) for out, _ in told]
    log = open_log(url)
    assert (log.verify().ok, log.verify().checked) == (True, sum(counts))
    names = [record.entry.person.name for record in log.export(AuditQuery())]
    assert [names.count("one"), names.count("other")] == counts


def test_a_record_appended_during_a_verification_is_no_false_alarm(url: str) -> None:
    writer, checker = open_log(url), open_log(url)
    for _ in range(20):
        writer.append(an_event())
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            writer.append(an_event())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = [checker.verify() for _ in range(30)]
    finally:
        stop.set()
        thread.join()
    assert all(each.ok for each in found)
    assert found[-1].checked > found[0].checked >= 20


# Reading


def filled(url: str) -> SqlAudit:
    log = open_log(url)
    for number in range(1, 9):
        key = f"Team-{number % 2}/App 100%_{number}.tfstate"
        log.append(an_intent(f"a{number}", key=key, state_id=f"s{number}", ticket=f"T-{number % 3}"))
        log.append(an_outcome(f"a{number}", key=key, state_id=f"s{number}", result="done"))
    log.append(an_event(person=Person("lee", "demo", "")))
    return log


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        (AuditQuery(person="lee"), [17]),
        (AuditQuery(person="Lee"), []),
        (AuditQuery(action="export"), [17]),
        (AuditQuery(kind="intent", ticket="T-2"), [15, 9, 3]),
        (AuditQuery(result="done", key="team-1 TFSTATE"), [14, 10, 6, 2]),
        (AuditQuery(key="100%_3"), [6, 5]),
        (AuditQuery(key="100__3"), []),
        (AuditQuery(key="app team-1 _7"), [14, 13]),
        (AuditQuery(state_id="s8"), [16, 15]),
        (AuditQuery(action_id="a8"), [16, 15]),
        (AuditQuery(backend="prod-kr", action_id="a1"), [2, 1]),
        (AuditQuery(backend="prod"), []),
        (
            AuditQuery(since=NOON + timedelta(seconds=3), until=NOON + timedelta(seconds=6)),
            [5, 4, 3],
        ),
        (AuditQuery(person="nobody'; DROP TABLE audit"), []),
    ],
)
def test_a_list_holds_what_was_asked_for_newest_first(url: str, query: AuditQuery, seqs: list[int]) -> None:
    log = filled(url)
    page = log.page(query)
    assert [record.seq for record in page.records] == seqs
    assert (page.total, page.capped, page.older, page.newer) == (len(seqs), False, None, None)
    assert [record.seq for record in log.export(replace(query, limit=1, before=2))] == seqs


def test_pages_lead_to_each_other_and_end(url: str) -> None:
    log = filled(url)
    query = AuditQuery(kind="intent", limit=3)
    first = log.page(query)
    second = log.page(replace(query, before=first.older))
    third = log.page(replace(query, before=second.older))
    seqs = [[record.seq for record in page.records] for page in (first, second, third)]
    assert seqs == [[15, 13, 11], [9, 7, 5], [3, 1]]
    assert (first.newer, third.older) == (None, None)
    assert log.page(replace(query, after=third.newer)) == second
    assert log.page(replace(query, after=second.newer)) == first
    assert {page.total for page in (first, second, third)} == {8}


@pytest.mark.parametrize(
    ("query", "older", "newer"),
    [
        (AuditQuery(before=1), None, 0),
        (AuditQuery(after=17), 18, None),
        (AuditQuery(person="nobody"), None, None),
    ],
)
def test_a_page_beyond_the_ends_leads_back(
    url: str, query: AuditQuery, older: int | None, newer: int | None
) -> None:
    log = filled(url)
    page = log.page(query)
    assert (page.records, page.older, page.newer) == ([], older, newer)
    if older:
        assert log.page(AuditQuery(before=older, limit=1)).records[0].seq == 17
    if newer is not None:
        assert log.page(AuditQuery(after=newer, limit=1)).records[0].seq == 1


def test_more_than_ten_thousand_matches_are_not_counted(url: str) -> None:
    with open_engine(url).begin() as connection:
        seed(connection, 10_001)
    log = open_log(url)
    page = log.page(AuditQuery())
    assert (page.total, page.capped, len(page.records)) == (10_000, True, 50)
    assert log.page(AuditQuery(before=10_001, limit=10**9)).records[-1].seq == 10_001 - 500
    assert len(list(log.export(AuditQuery()))) == 10_001
    assert log.verify().checked == 10_001


def seed(connection: Connection, count: int) -> None:
    """As many records as that, written at once."""
    write(connection, *(an_event(reason=f"reason {seq}", facts={"n": seq}) for seq in range(1, count + 1)))


def write(connection: Connection, *entries: Entry) -> None:
    """These records after the ones that are there, as `append` writes them, at once."""
    newest = connection.execute(
        select(audit.c.seq, audit.c.mac).order_by(audit.c.seq.desc()).limit(1)
    ).first()
    last, mac = (newest.seq, newest.mac) if newest else (0, GENESIS)
    rows: Rows = []
    for seq, entry in enumerate(entries, last + 1):
        at = NOON + timedelta(seconds=seq)
        body = body_of(at, entry)
        mac = mac_of(KEY, seq, mac, body)
        rows.append({"seq": seq, "body": body, "mac": mac, **columns_of(seq, at, entry)})
    connection.execute(insert(audit), rows)


def test_large_records_are_read_a_few_at_a_time(url: str) -> None:
    log = open_log(url)
    for _ in range(12):
        log.append(an_event(message="m" * 1_000_000))
    assert [record.seq for record in log.export(AuditQuery())] == list(range(12, 0, -1))
    assert log.verify().checked == 12


def test_people_are_named_once_in_order(url: str) -> None:
    log = filled(url)
    assert log.people() == ["kim@example.com", "lee"]


def test_intents_stay_open_until_their_outcome(url: str) -> None:
    log, other = open_log(url), open_log(url)
    for name in ("a", "b", "c"):
        log.append(an_intent(name))
    assert [record.entry.action_id for record in log.open_intents()] == ["a", "b", "c"]
    other.append(an_outcome("b"))
    assert [record.entry.action_id for record in log.open_intents()] == ["a", "c"]
    other.append(an_outcome("a"))
    other.append(an_outcome("c"))
    assert log.open_intents() == []
    other.append(an_intent("d"))
    assert [record.entry.action_id for record in log.open_intents()] == ["d"]


def test_an_intent_that_somebody_made_up_is_not_acted_on(url: str) -> None:
    log = open_log(url)
    log.append(an_intent("a"))
    with open_engine(url).begin() as connection:
        row = connection.execute(select(audit)).one()._asdict()
        connection.execute(insert(audit).values({**row, "seq": 2, "action_id": "b"}))
    assert [record.entry.action_id for record in log.open_intents()] == ["a"]


# Tampering

LENGTH = 24
Tamper = Callable[[Connection, int, random.Random], int]
"""Changes the log at about this place and returns the number of the first record that is wrong then."""


def edit_body(connection: Connection, place: int, chance: random.Random) -> int:
    body = connection.execute(select(audit.c.body).where(audit.c.seq == place)).scalar_one()
    at = chance.randrange(len(body))
    other = chance.choice([char for char in "abc012{} " if char != body[at]])
    _set(connection, place, body=body[:at] + other + body[at + 1 :])
    return place


def edit_well(connection: Connection, place: int, chance: random.Random) -> int:
    """Another record, with right copies, as somebody without the key would write it."""
    at, entry = NOON, an_event(reason=f"reason {chance.random()}")
    _set(connection, place, body=body_of(at, entry), **columns_of(place, at, entry))
    return place


def edit_mac(connection: Connection, place: int, chance: random.Random) -> int:
    mac = connection.execute(select(audit.c.mac).where(audit.c.seq == place)).scalar_one()
    _set(connection, place, mac=chance.choice([mac.upper() + "x", mac[:-1], "", GENESIS, mac[::-1] + "\n"]))
    return place


def edit_column(connection: Connection, place: int, chance: random.Random) -> int:
    names = ("kind", "action", "result", "person", "backend", "key", "ticket", "state_id", "action_id")
    name = chance.choice(names)
    value = connection.execute(select(audit.c[name]).where(audit.c.seq == place)).scalar_one()
    _set(connection, place, **{name: value + chance.choice(["x", " ", "\u0301"])})
    return place


def edit_time(connection: Connection, place: int, chance: random.Random) -> int:
    _set(connection, place, at=NOON.timestamp() - chance.random())
    return place


def delete_one(connection: Connection, place: int, _chance: random.Random) -> int:
    connection.execute(audit.delete().where(audit.c.seq == place))
    return place


def delete_and_close_up(connection: Connection, place: int, _chance: random.Random) -> int:
    """Not the last one: that would be a tail cut off."""
    place = min(place, LENGTH - 1)
    rows = _rows(connection)
    del rows[place - 1]
    _write(connection, [{**row, "seq": seq} for seq, row in enumerate(rows, 1)])
    return place


def insert_one(connection: Connection, place: int, _chance: random.Random) -> int:
    rows = _rows(connection)
    at, entry = NOON, an_event(reason="made up")
    body = body_of(at, entry)
    mac = mac_of(b"x" * 32, place, rows[place - 2]["mac"] if place > 1 else GENESIS, body)
    rows.insert(place - 1, {"mac": mac, "body": body, **columns_of(place, at, entry)})
    _write(connection, [{**row, "seq": seq} for seq, row in enumerate(rows, 1)])
    return place


def swap_two(connection: Connection, place: int, chance: random.Random) -> int:
    rows = _rows(connection)
    other = chance.choice([seq for seq in range(1, LENGTH + 1) if seq != place])
    rows[place - 1], rows[other - 1] = rows[other - 1], rows[place - 1]
    _write(connection, [{**row, "seq": seq} for seq, row in enumerate(rows, 1)])
    return min(place, other)


def cut_tail(connection: Connection, place: int, _chance: random.Random) -> int:
    connection.execute(audit.delete().where(audit.c.seq >= place))
    return place


def put_back_an_old_copy(connection: Connection, place: int, chance: random.Random) -> int:
    """An older copy, on which somebody with the key went on."""
    rows = _rows(connection)[: place - 1]
    for seq in range(place, chance.randint(place, LENGTH + 5) + 1):
        at, entry = NOON, an_event(reason=f"another history {chance.random()}")
        body = body_of(at, entry)
        mac = mac_of(KEY, seq, rows[-1]["mac"] if rows else GENESIS, body)
        rows.append({"seq": seq, "mac": mac, "body": body, **columns_of(seq, at, entry)})
    _write(connection, rows)
    return place


def join_two_branches(connection: Connection, place: int, chance: random.Random) -> int:
    """Records of a fork, made with the key, in the place of ours; after them ours go on."""
    rows = _rows(connection)
    before, end = rows[place - 2]["mac"] if place > 1 else GENESIS, chance.randint(place, LENGTH)
    for seq in range(place, end + 1):
        at, entry = NOON, an_event(reason=f"fork {chance.random()}")
        body = body_of(at, entry)
        before = mac_of(KEY, seq, before, body)
        rows[seq - 1] = {"seq": seq, "mac": before, "body": body, **columns_of(seq, at, entry)}
    _write(connection, rows)
    return place


def go_on_with_another_key(connection: Connection, place: int, chance: random.Random) -> int:
    rows = _rows(connection)
    other = chance.randbytes(32)
    for row in rows[place - 1 :]:
        before = rows[row["seq"] - 2]["mac"] if row["seq"] > 1 else GENESIS
        row["mac"] = mac_of(other, row["seq"], before, row["body"])
    _write(connection, rows)
    return place


def write_other_bytes(connection: Connection, place: int, chance: random.Random) -> int:
    if connection.dialect.name == "sqlite":
        kind = chance.choice(["TEXT", "BLOB"])
        column = chance.choice(["body", "mac", "person", "key"])
        statement = f"UPDATE audit SET {column} = CAST(x'ff00fe' AS {kind}) WHERE seq = :seq"
        connection.execute(text(statement), {"seq": place})
    else:  # which lets no bytes in that are not UTF-8
        _set(connection, place, **{chance.choice(["body", "mac", "person", "key"]): "\xe9\u202e\U0001f512"})
    return place


def _set(connection: Connection, place: int, **values: object) -> None:
    connection.execute(audit.update().where(audit.c.seq == place).values(**values))


def _rows(connection: Connection) -> Rows:
    return [row._asdict() for row in connection.execute(select(audit).order_by(audit.c.seq))]


def _write(connection: Connection, rows: Rows) -> None:
    connection.execute(audit.delete())
    if rows:
        connection.execute(insert(audit), rows)


SEEN_WITHOUT_A_WITNESS: list[Tamper] = [
    edit_body,
    edit_well,
    edit_mac,
    edit_column,
    edit_time,
    delete_and_close_up,
    insert_one,
    swap_two,
    go_on_with_another_key,
    write_other_bytes,
]
SEEN_BY_A_WITNESS: list[Tamper] = [delete_one, cut_tail, put_back_an_old_copy, join_two_branches]


@pytest.fixture
def chained(url: str) -> tuple[Engine, Rows, list[Head]]:
    """A log with its rows and heads, that can be changed."""
    return chain_in(open_audit_engine(url))


def chain_in(engine: Engine) -> tuple[Engine, Rows, list[Head]]:
    with changing(engine) as connection:
        for number in range(LENGTH // 2):
            write(connection, an_intent(f"a{number}", reason=f"reason {number}"), an_outcome(f"a{number}"))
        rows = _rows(connection)
    return engine, rows, [Head(row["seq"], row["mac"]) for row in rows]


every_kind = pytest.mark.parametrize("tamper", [*SEEN_WITHOUT_A_WITNESS, *SEEN_BY_A_WITNESS])


@every_kind
def test_tampering_at_a_hundred_random_places_is_found_and_the_first_bad_record_named(tamper: Tamper) -> None:
    chained = chain_in(open_memory())
    assert tampered_and_found(chained, tamper, 100) == 100


@every_kind
def test_tampering_is_found_in_the_files_and_on_the_server_too(
    chained: tuple[Engine, Rows, list[Head]], tamper: Tamper
) -> None:
    assert tampered_and_found(chained, tamper, 20) == 20


def tampered_and_found(chained: tuple[Engine, Rows, list[Head]], tamper: Tamper, rounds: int) -> int:
    """Change the log that often, each time as it was before, and count how often that was found."""
    engine, rows, heads = chained
    chance, found = random.Random(tamper.__name__), 0
    for _ in range(rounds):
        with changing(engine) as connection:
            wrong = tamper(connection, chance.randint(1, LENGTH), chance)
        fresh = SqlAudit(engine, KEY, Seconds(), silent)
        alone, witnessed = fresh.verify(), fresh.verify(heads[-1:] if tamper is cut_tail else heads)
        assert (witnessed.ok, witnessed.bad_seq, witnessed.tail_proven) == (False, wrong, False)
        assert witnessed.problem.startswith(f"record {wrong}: ")
        assert not alone.tail_proven
        if tamper in SEEN_WITHOUT_A_WITNESS:
            assert alone.bad_seq == wrong
        found += 1
        with changing(engine) as connection:
            _write(connection, rows)
    assert SqlAudit(engine, KEY, Seconds(), silent).verify(heads).ok
    return found


def test_a_cut_tail_and_an_old_copy_are_right_but_not_proven_without_a_witness(
    chained: tuple[Engine, Rows, list[Head]],
) -> None:
    engine, _, heads = chained
    with changing(engine) as connection:
        cut_tail(connection, 10, random.Random(1))
    found = SqlAudit(engine, KEY, Seconds(), silent).verify()
    assert (found.ok, found.checked, found.tail_proven) == (True, 9, False)
    assert SqlAudit(engine, KEY, Seconds(), silent).verify(heads[:9]).tail_proven


@pytest.mark.parametrize("tamper", [cut_tail, put_back_an_old_copy])
def test_the_process_that_wrote_the_tail_misses_it_and_builds_on_nothing_else(
    url: str, tamper: Tamper
) -> None:
    log = open_log(url)
    for _ in range(LENGTH):
        log.append(an_event())
    with changing(open_engine(url)) as connection:
        wrong = tamper(connection, LENGTH, random.Random(1))
    assert log.verify().bad_seq == wrong == LENGTH
    with pytest.raises(AuditError, match=f"record {LENGTH}, which this process wrote, is gone"):
        log.append(an_event())


class Told(list[Head]):
    """A witness that keeps the heads."""

    def __call__(self, head: Head, _at: datetime) -> None:
        self.append(head)


def test_a_hundred_untouched_logs_raise_no_false_alarm() -> None:
    chance, engine = random.Random(7), open_memory()
    for _ in range(100):
        with changing(engine) as connection:
            connection.execute(audit.delete())
        told = Told()
        log = SqlAudit(engine, KEY, Seconds(), told)
        for number in range(chance.randint(1, 12)):
            text = "".join(map(chr, chance.choices(range(0x11000), k=20)))
            kind = chance.choice(list(Kind))
            person = Person(text, "demo", "")
            log.append(Entry(kind, text, person, f"{number}", key=text, reason=text, facts={text: text}))
        for again in (log, SqlAudit(engine, KEY, Seconds(), silent)):
            found = again.verify(told)
            assert (found.ok, found.tail_proven, found.checked) == (True, True, len(told))


def test_nothing_is_begun_on_a_log_found_changed_and_what_is_under_way_gets_its_outcome(
    chained: tuple[Engine, Rows, list[Head]],
) -> None:
    engine, rows, _ = chained
    log = SqlAudit(engine, KEY, Seconds(), silent)
    log.append(an_intent("under way"))
    with changing(engine) as connection:
        edit_time(connection, 5, random.Random(1))
    assert log.verify().bad_seq == 5
    refused(log, "was changed: record 5: .* Nothing is begun until it verifies")
    log.append(an_outcome("under way"))
    log.append(replace(an_intent("refused"), kind=Kind.REFUSAL))
    with changing(engine) as connection:
        _set(connection, 5, at=rows[4]["at"])
    refused(log, "record 5")
    assert log.verify().ok
    assert log.append(an_intent("later")).seq == LENGTH + 4


def test_another_key_is_refused_and_told_at_the_first_record(url: str) -> None:
    open_log(url).append(an_event())
    other = open_log(url, key=b"another key of thirty-two bytes.")
    found = other.verify()
    assert (found.bad_seq, found.checked) == (1, 0)
    with pytest.raises(AuditError, match="its key is another"):
        other.append(an_event())


@pytest.mark.parametrize(
    ("tamper", "place"),
    [
        (edit_body, LENGTH),
        (edit_well, LENGTH),
        (edit_mac, LENGTH),
        (write_other_bytes, LENGTH),
        (swap_two, LENGTH),
        (go_on_with_another_key, LENGTH),
        # The record before the head lends the head's MAC its own.
        (edit_mac, LENGTH - 1),
        (swap_two, LENGTH - 1),
        (delete_one, LENGTH - 1),
        (delete_and_close_up, LENGTH - 1),
        (insert_one, LENGTH - 1),
    ],
)
def test_nothing_is_built_on_a_broken_head(
    chained: tuple[Engine, Rows, list[Head]], tamper: Tamper, place: int
) -> None:
    engine, _, _ = chained
    numbers = select(audit.c.seq).order_by(audit.c.seq)
    with changing(engine) as connection:
        tamper(connection, place, random.Random(3))
        before = connection.execute(numbers).scalars().all()
    with pytest.raises(AuditError, match="is not as it was written"):
        SqlAudit(engine, KEY, Seconds(), silent).append(an_event())
    with engine.connect() as connection:
        assert connection.execute(numbers).scalars().all() == before


def test_a_record_that_cannot_be_read_hides_no_other(chained: tuple[Engine, Rows, list[Head]]) -> None:
    engine, _, _ = chained
    with changing(engine) as connection:
        _set(connection, 3, body="no record", mac="x")
        write_other_bytes(connection, 5, random.Random(1))
    log = SqlAudit(engine, KEY, Seconds(), silent)
    records = log.page(AuditQuery()).records
    assert [record.seq for record in records] == list(range(LENGTH, 0, -1))
    unreadable = next(record for record in records if record.seq == 3)
    assert unreadable.entry.action == UNREADABLE
    assert unreadable.at == NOON + timedelta(seconds=3)
    assert log.record(3) == unreadable
    assert len(list(log.export(AuditQuery()))) == LENGTH
    assert list(log.people()) != []
    assert all(record.body.isprintable() for record in records)


# Faults


def migrated(url: str) -> str:
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()
    return url


def refused(log: Audit, match: str) -> str:
    """The words with which an append is refused, within 5 s."""
    began = time.monotonic()
    with pytest.raises(AuditError, match=match) as caught:
        log.append(an_intent("refused"))
    assert time.monotonic() - began < 5
    assert "kim@example.com" not in str(caught.value)
    return str(caught.value)


def test_a_database_that_another_writer_holds_is_an_error_in_time_and_recovers(url: str) -> None:
    log, engine = open_log(url), open_engine(url)
    log.append(an_event())
    with engine.connect().execution_options(lockboard_writes=True) as connection:
        connection.begin()
        if engine.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE"))
        refused(log, "lock")
    assert log.append(an_event()).seq == 2


@pytest.mark.postgres
def test_a_replica_that_keeps_the_turn_is_waited_for_a_bounded_time(postgresql_made: str) -> None:
    log = open_log(postgresql_made)
    event.listen(
        log._engine, "connect", lambda raw, _: raw.execute("SET lock_timeout = 300") and raw.commit()
    )
    gate, inside = threading.Event(), threading.Event()
    other = open_log(postgresql_made)

    def block(_connection: Connection) -> None:
        inside.set()
        gate.wait(HANDSHAKE_SECONDS)

    event.listen(other._engine, "commit", block)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(other.append, an_event())
        assert inside.wait(HANDSHAKE_SECONDS)
        refused(log, "lock timeout")
        gate.set()
        assert first.result().seq == 1
    assert log.append(an_event()).seq == 2


def test_a_missing_table_is_an_error_that_names_it(url: str) -> None:
    log = open_log(url)
    with open_engine(url).begin() as connection:
        connection.execute(text("ALTER TABLE audit RENAME TO hidden"))
    refused(log, "audit")
    for read in (log.head, log.verify, log.open_intents, lambda: log.page(AuditQuery())):
        with pytest.raises(AuditError, match=r"does not answer: .*audit"):
            read()
    with open_engine(url).begin() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO audit"))
    assert log.append(an_event()).seq == 1


def test_a_full_sqlite_disk_is_an_error_and_nothing_is_half_written(sqlite_made: str) -> None:
    log = open_log(sqlite_made)

    def fill(raw: sqlite3.Connection, _record: object) -> None:
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(log._engine, "connect", fill)
    log._engine.dispose()
    began = time.monotonic()
    with pytest.raises(AuditError, match="database or disk is full"):
        log.append(an_event(message="m" * 400_000))
    assert time.monotonic() - began < 5
    assert log.append(an_event()).seq == 1
    event.remove(log._engine, "connect", fill)
    log._engine.dispose()
    assert log.append(an_event(message="m" * 400_000)).seq == 2
    assert log.verify().ok


def test_a_read_only_database_is_an_error_and_can_still_be_read(url: str) -> None:
    log = open_log(url)
    log.append(an_event())

    def refuse_writes(raw: Any, _record: object) -> None:
        if isinstance(raw, sqlite3.Connection):
            raw.execute("PRAGMA query_only = ON")
        else:
            raw.execute("SET default_transaction_read_only = on")
            raw.commit()

    event.listen(log._engine, "connect", refuse_writes)
    log._engine.dispose()
    refused(log, "read-?only")
    assert log.page(AuditQuery()).total == 1
    assert log.verify().ok


@contextmanager
def nobody_special() -> Iterator[None]:
    """As a user whom file modes hold; root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o555), (0o444, 0o777), (0o000, 0o777)])
def test_a_file_without_permission_to_write_is_an_error(
    made_file: Path, file_mode: int, folder_mode: int
) -> None:
    # Not in pytest's folder, which root does not share.
    with TemporaryDirectory(prefix="lockboard-") as folder:
        file = Path(folder) / "lockboard.db"
        shutil.copy(made_file, file)
        log = open_log(f"sqlite:///{file}")
        log.append(an_event())
        log._engine.dispose()
        file.chmod(file_mode)
        Path(folder).chmod(folder_mode)
        with nobody_special():
            refused(log, "readonly|unable to open")
        Path(folder).chmod(0o700)
        file.chmod(0o600)
        log._engine.dispose()
        assert [record.seq for record in log.export(AuditQuery())] == [1]


def test_a_disk_that_fails_in_the_middle_of_a_write_is_an_error(sqlite_made: str) -> None:
    log = open_log(sqlite_made)
    log.append(an_event())
    size = Path(f"{make_url(sqlite_made).database}-wal").stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        refused(log, "disk I/O error|full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.append(an_event()).seq == 2
    assert log.verify().ok


@pytest.mark.parametrize("opened", [True, False])
def test_a_sqlite_file_that_is_gone_is_an_error_and_no_empty_one_is_made(
    tmp_path: Path, opened: bool
) -> None:
    url = migrated(sqlite_url(tmp_path))
    log = open_log(url)
    if opened:
        log.append(an_event())
    else:
        log._engine.dispose()
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in tmp_path.glob("*.db*"):
        file.rename(kept / file.name)
    refused(log, "not there any more")
    assert list(tmp_path.glob("*.db")) == []
    for file in kept.glob("*.db*"):
        file.rename(tmp_path / file.name)
    assert log.append(an_event()).seq == 1 + opened


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    log = open_log(migrated(sqlite_url(folder)))
    log.append(an_event())
    shutil.rmtree(folder)
    refused(log, "not there any more")


def test_a_sqlite_file_replaced_under_the_process_takes_no_record(tmp_path: Path) -> None:
    url, other = migrated(sqlite_url(tmp_path)), migrated(sqlite_url(tmp_path))
    log = open_log(url)
    log.append(an_event())
    put_back(other, url)
    refused(log, "which this process wrote, is gone")
    with open_engine(url).connect() as connection:
        assert connection.execute(select(audit)).all() == []


def put_back(backup: str, url: str) -> None:
    """What somebody does who restores a backup; SQLite's own files of the old one have to go."""
    place = make_url(url).database or ""
    for name in ("-wal", "-shm"):
        Path(place + name).unlink(missing_ok=True)
    Path(make_url(backup).database or "").replace(place)


def test_a_sqlite_file_replaced_while_a_record_is_written_is_an_error(tmp_path: Path) -> None:
    url, other = migrated(sqlite_url(tmp_path)), migrated(sqlite_url(tmp_path))
    log = open_log(url)

    def replace_file(_connection: Connection) -> None:
        put_back(other, url)

    event.listen(log._engine, "commit", replace_file)
    refused(log, "moved or replaced")


def test_a_corrupt_sqlite_file_is_an_error_for_writers_and_readers(tmp_path: Path) -> None:
    url = migrated(sqlite_url(tmp_path))
    with open_engine(url).begin() as connection:
        seed(connection, 300)
    log = open_log(url)
    log.append(an_event())
    log._engine.dispose()  # the last connection writes all back into the file
    file = Path(make_url(url).database or "")
    data = bytearray(file.read_bytes())
    data[4096:] = random.Random(1).randbytes(len(data) - 4096)
    file.write_bytes(data)
    refused(log, "malformed")
    with pytest.raises(AuditError, match="does not answer"):
        log.verify()


def test_a_file_that_is_no_database_any_more_is_an_error(tmp_path: Path) -> None:
    url = migrated(sqlite_url(tmp_path))
    log = open_log(url)
    log._engine.dispose()
    Path(make_url(url).database or "").write_text("something else\n" * 1000)
    refused(log, "not a database")


def test_a_missing_sqlite_file_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        open_audit_engine(sqlite_url(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_hangs_is_given_up_and_does_not_queue_others(tmp_path: Path) -> None:
    log = open_log(migrated(sqlite_url(tmp_path)), deadline=0.3)
    log.append(an_event())
    gate = threading.Event()

    def hang(raw: sqlite3.Connection, _record: object) -> None:
        raw.set_trace_callback(lambda sql: gate.wait(HANDSHAKE_SECONDS) if sql.startswith("INSERT") else None)

    event.listen(log._engine, "connect", hang)
    log._engine.dispose()
    refused(log, "no answer within 0.3 s")
    refused(log, "an earlier one is still being written")
    assert log.head() is not None
    gate.set()
    event.remove(log._engine, "connect", hang)
    slow = SqlAudit(log._engine, KEY, Seconds(NOON + timedelta(hours=1)), silent)
    assert slow.append(an_event()).seq == 2  # what was given up was not written


@pytest.mark.postgres
def test_a_server_that_hangs_is_given_up(postgresql_made: str) -> None:
    log = open_log(postgresql_made, deadline=0.5)
    log.append(an_event())
    with log._engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        refused(log, "no answer within 0.5 s")
    finally:
        os.kill(pid, signal.SIGCONT)
    later = SqlAudit(log._engine, KEY, Seconds(NOON + timedelta(hours=1)), silent)
    assert later.append(an_event()).seq == 2


@pytest.mark.postgres
def test_a_lost_connection_is_replaced_for_the_next_record(postgresql_made: str) -> None:
    log, engine = open_log(postgresql_made), open_engine(postgresql_made)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"

    def end(*_: object) -> None:
        with engine.connect() as connection:
            connection.execute(text(ended + " AND datname = current_database()"))

    event.listen(log._engine, "commit", end)
    refused(log, "did not take the record: ")
    event.remove(log._engine, "commit", end)
    assert log.append(an_event()).seq == 1
    end()
    assert log.append(an_event()).seq == 2


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("code", "words"),
    [("53100", "No space left on device"), ("58030", "could not write block"), ("XX001", "invalid page")],
)
def test_a_disk_of_postgresql_that_fails_is_an_error(postgresql_made: str, code: str, words: str) -> None:
    log, engine = open_log(postgresql_made), open_engine(postgresql_made)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'; END $$"
            )
        )
        connection.execute(text("CREATE TRIGGER broken BEFORE INSERT ON audit EXECUTE FUNCTION broken()"))
    try:
        refused(log, words)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION broken CASCADE"))
    assert log.append(an_event()).seq == 1


class LosingProxy(threading.Thread):
    """Passes bytes between one client and PostgreSQL until the reply to a COMMIT, which it swallows."""

    def __init__(self, server: str) -> None:
        super().__init__(daemon=True)
        self._server, self._listener = server, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.armed = threading.Event()

    def run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):  # either end may be gone
            server.connect(self._server)
            losing = threading.Event()
            threading.Thread(target=self._back, args=(server, client, losing), daemon=True).start()
            while data := client.recv(65536):
                if self.armed.is_set() and b"COMMIT\0" in data:  # not a level's READ COMMITTED
                    losing.set()
                server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


@pytest.mark.postgres
def test_a_commit_whose_reply_is_lost_is_an_error_and_the_chain_goes_on(postgresql_made: str) -> None:
    address = make_url(postgresql_made)
    proxy = LosingProxy(f"{address.query['host']}/.s.PGSQL.{address.query.get('port', 5432)}")
    proxy.start()
    through = address.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
    told: list[Head] = []
    log = open_log(through.render_as_string(hide_password=False), witness=lambda head, _at: told.append(head))
    log.append(an_event())
    proxy.armed.set()
    refused(log, "did not take the record")
    proxy.armed.clear()
    with pytest.raises(AlreadyRecorded):
        log.append(an_intent("refused"))
    assert log.append(an_event()).seq == 3
    assert [head.seq for head in told] == [1, 3]
    assert log.verify(told).ok


def test_readers_leave_a_connection_to_the_writer(url: str) -> None:
    log = open_log(url)
    log.append(an_event())
    with ThreadPoolExecutor(16) as pool:
        pages = [pool.submit(log.page, AuditQuery()) for _ in range(200)]
        records = [log.append(an_event()).seq for _ in range(20)]
        assert all(page.result().total >= 1 for page in pages)
    assert records == list(range(2, 22))


def test_an_export_left_unread_holds_no_connection(url: str) -> None:
    with open_engine(url).begin() as connection:
        seed(connection, 600)
    log = open_log(url)
    exports = [log.export(AuditQuery()) for _ in range(20)]
    assert {next(export).seq for export in exports} == {600}
    assert log.append(an_event()).seq == 601
    assert [sum(1 for _ in export) for export in exports] == [599] * 20


def test_the_last_verification_is_remembered_with_its_time(url: str) -> None:
    log = open_log(url, clock=lambda: datetime(2026, 11, 21, tzinfo=UTC))
    log.append(an_event())
    found = log.verify()
    assert log.last_verification() == (datetime(2026, 11, 21, tzinfo=UTC), found)


def test_each_filter_has_an_index(engine: Engine) -> None:
    leading: Sequence[object] = [index["column_names"][0] for index in inspect(engine).get_indexes("audit")]
    expected = {"at", "kind", "action", "result", "person", "backend", "ticket", "state_id", "action_id"}
    assert set(leading) == expected
