"""What is written down of each action, and what never is: the contents of a state."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from lockboard.adapters.policies import actor_policy, session_policy
from lockboard.domain.audit import Kind, Record
from tests.emulators import REGION
from tests.faults import Fault, Seen, call
from tests.iam import ACCOUNT, denied
from tests.recovery.conftest import NewHouse
from tests.recovery.deeds import DEEDS, Deed
from tests.recovery.house import CANARY, House, action_of, changes_state_of_affairs
from tests.recovery.page import REASON

pytestmark = pytest.mark.terraform

ALSO_FAILED = ("set the digest", "restore a deleted state", "take over")


@dataclass(frozen=True)
class Story:
    """One action, done. found: for each change, as it arrived, what the log then held of its action."""

    key: str
    found: Sequence[tuple[str, Sequence[Record]]]
    requests: Sequence[Seen]
    outcome: Record

    @property
    def changes(self) -> list[Seen]:
        return [seen for seen in self.requests if changes_state_of_affairs(seen)]


def tell(house: House, deed: Deed) -> Story:
    found: list[tuple[str, Sequence[Record]]] = []

    def look(seen: Seen) -> None:
        found.append((action_of(seen), house.audit.of_action(action_of(seen))))

    key = house.key()
    deed.make(key)
    page = deed.ask(key.known())
    house.proxy.on(changes_state_of_affairs, call(before=look), times=None)
    house.proxy.recording.clear()
    answer = key.send(page, ticket="OPS-7")
    house.proxy.clear_rules()
    assert answer.result == "done"
    assert answer.record is not None
    requests = [seen for seen in house.proxy.recording.requests if action_of(seen)]
    return Story(key.key, found, requests, answer.record)


@pytest.fixture(scope="module")
def stories(shared_house: House) -> Mapping[str, Story]:
    """Every action, once."""
    return {name: tell(shared_house, deed) for name, deed in DEEDS.items()}


@pytest.mark.parametrize("name", DEEDS)
def test_every_change_belongs_to_one_intent_that_was_durable_before_it_arrived(
    stories: Mapping[str, Story], name: str
) -> None:
    story = stories[name]

    assert len(story.found) == DEEDS[name].writes == len(story.changes)
    assert {action for action, _ in story.found} == {story.outcome.entry.action_id}
    for _, records in story.found:
        assert [record.entry.kind for record in records] == [Kind.INTENT]
        entry = records[0].entry
        assert (entry.reason, entry.ticket, entry.key) == (REASON, "OPS-7", story.key)
        assert entry.person.name


@pytest.mark.parametrize("name", DEEDS)
def test_the_outcome_tells_each_write_with_its_request_id(stories: Mapping[str, Story], name: str) -> None:
    story = stories[name]
    steps = story.outcome.entry.facts["steps"]

    written = [f"{'dynamodb' if seen.target else 's3'}:{seen.operation}" for seen in story.changes]
    assert [step["operation"] for step in steps] == written
    assert all(step["request_id"] for step in steps)
    assert {step["sent"] for step in steps} == {"done"}


@pytest.mark.parametrize("name", DEEDS)
def test_the_policies_that_we_ship_allow_what_an_action_asks_for_and_nothing_on_another_key(
    shared_house: House, stories: Mapping[str, Story], name: str
) -> None:
    story, bucket, table = stories[name], shared_house.bucket, shared_house.table
    actor = actor_policy(bucket, "", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}")
    session = session_policy(bucket, "", story.key, table)
    strange = session_policy(bucket, "", "another/terraform.tfstate", table)

    assert denied([actor, session], story.requests) == []
    for seen in story.changes:
        assert denied([actor, strange], [seen]) != []


def test_the_log_of_all_that_was_done_verifies(shared_house: House, stories: Mapping[str, Story]) -> None:
    found = shared_house.audit.verify()

    assert found.ok, found.problem
    assert found.checked >= 2 * len(stories)


def test_the_exact_lock_that_was_removed_is_kept(house: House) -> None:
    key = house.key().healthy()
    key.locked()
    raw = (key.stored.item(key.stored.lock_id) or {})["Info"]
    answer = key.known().act("unlock")

    assert answer.record is not None
    released = answer.record.entry.facts["plan"]["releases"]
    assert [lock["raw"] for lock in released] == [raw["S"], raw["S"]]
    assert released[1]["attribute"] == raw


def test_what_is_in_a_state_is_in_no_page_record_log_or_output(
    new_house: NewHouse, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every action, done and failed, every page of it, the exports and the database's own bytes."""
    caplog.set_level(logging.DEBUG)
    house = new_house()
    assert CANARY.encode() in house.bodies.older
    for name, deed in DEEDS.items():
        for fails in (False, True) if name in ALSO_FAILED else (False,):
            key = house.key()
            deed.make(key)
            page = deed.ask(key.known())
            if fails:
                house.proxy.on(changes_state_of_affairs, Fault.CLOSE_BEFORE)
            assert (key.send(page).result == "done") is not fails, name
            house.get(f"/s/{key.id}")
    for url in ("/states", "/audit", "/health", "/settings", "/audit.csv", "/audit.jsonl"):
        assert house.get(url).status == 200, url

    written = house.stdout.getvalue() if isinstance(house.stdout, io.StringIO) else ""
    assert written.count("\n") >= 2 * len(DEEDS)
    texts = [*capfd.readouterr(), caplog.text, written, database_text(house)]
    assert not [said[:200] for said in house.said if CANARY.encode() in said]
    assert not [text for text in texts if CANARY in text]


def database_text(house: House) -> str:
    """Every byte of the database's files, or every row of every table."""
    url = make_url(house.settings.store_url)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        files = sorted(path.parent.glob(f"{path.name}*"))
        assert files
        return "".join(file.read_bytes().decode("latin-1") for file in files)
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        names = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        ).scalars()
        rows = [str(connection.execute(text(f'SELECT * FROM "{name}"')).all()) for name in list(names)]
    engine.dispose()
    assert len(rows) > 3
    return "".join(rows)
