from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache

import pytest

from lockboard.demo import bodies
from lockboard.demo.emulator import Emulator
from lockboard.demo.emulator import client as new_client
from lockboard.demo.team import MOST_DEAD, MOST_RUNS, Did, Step, Target, Team, Wire, targets
from tests.demo.conftest import NOW

client = cache(new_client)


class Clock:
    """A clock that goes on by three seconds whenever it is read."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=3)
        return self.now


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Emulator.start(NOW, seed=7) as emulator:
        yield emulator.url


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """The wire, with nothing left locked or unfinished behind it."""
    wire = Wire(lambda service, region: client(service, region, url))
    yield wire
    for target in targets():
        for lock_id in wire.holder_ids(target):
            wire.release(target, lock_id)
        if target.table:
            wire.put_digest(target, wire.read(target) or b"")


def team_on(wire: Wire, seed: str) -> Team:
    return Team(targets(), wire, Clock(), bodies.dice(seed))


def digest(url: str, target: Target) -> str:
    key = {"LockID": {"S": f"{target.path}-md5"}}
    answer = client("dynamodb", target.region, url).get_item(TableName=target.table, Key=key)
    return str(answer["Item"]["Digest"]["S"])


def md5(wire: Wire, target: Target) -> str:
    return bodies.digest_of(wire.read(target) or b"")


def steps(team: Team, count: int) -> Iterator[Step]:
    return (team.step() for _ in range(count))


def dual() -> Target:
    return next(target for target in targets() if target.table and target.lockfile)


def test_every_finished_run_leaves_a_matching_digest_and_no_lock(url: str, wire: Wire) -> None:
    team = team_on(wire, "finished")
    finished = 0
    for step in steps(team, 150):
        if step.did in (Did.RELEASED, Did.CLEARED):
            finished += 1
            assert wire.holder_ids(step.target) == set()
            assert not step.target.table or digest(url, step.target) == md5(wire, step.target)
    assert finished > 20


def test_never_more_than_three_locks_of_dead_runs_stand(wire: Wire) -> None:
    team = team_on(wire, "dead")
    most = 0
    for step in steps(team, 300):
        most = max(most, len(team.dead))
        assert len(team.dead) <= MOST_DEAD
        assert len(team.working) <= MOST_RUNS
        if step.did is Did.DIED:
            assert len(wire.holder_ids(step.target)) == 1
    assert most == MOST_DEAD


def test_object_and_digest_disagree_under_a_lock_until_the_digest_follows(url: str, wire: Wire) -> None:
    team = team_on(wire, "settling")
    step = next(step for step in steps(team, 200) if step.did is Did.WROTE and step.target.table)
    assert digest(url, step.target) != md5(wire, step.target)
    assert step.target in team.working
    assert len(wire.holder_ids(step.target)) == 1


def test_a_changing_run_writes_the_next_serial_of_the_same_lineage(url: str, wire: Wire) -> None:
    team = team_on(wire, "serial")
    step = next(step for step in steps(team, 200) if step.did is Did.WROTE)
    s3 = client("s3", step.target.region, url)
    found = s3.list_object_versions(Bucket=step.target.bucket, Prefix=step.target.key)["Versions"]
    ids = [version["VersionId"] for version in found if version["Key"] == step.target.key][:2]
    newer, older = (
        json.loads(
            s3.get_object(Bucket=step.target.bucket, Key=step.target.key, VersionId=name)["Body"].read()
        )
        for name in ids
    )
    assert (newer["serial"], newer["lineage"]) == (older["serial"] + 1, older["lineage"])


def test_a_lock_in_both_stores_has_one_id(wire: Wire) -> None:
    info = bodies.lock_info("one", "OperationTypePlan", "dana@ops-laptop", "1.11.4", NOW, dual().path)
    assert wire.take(dual(), info)
    assert wire.holder_ids(dual()) == {"one"}


def test_a_state_that_somebody_else_holds_is_refused_and_left_as_it_is(wire: Wire) -> None:
    held = bodies.lock_info(
        "theirs", "OperationTypeApply", "minji@MacBook-Pro-4.local", "1.11.4", NOW, dual().path
    )
    assert wire.take(dual(), held)
    team = Team((dual(),), wire, Clock(), bodies.dice("refused"))
    assert {step.did for step in steps(team, 20)} == {Did.REFUSED}
    assert wire.holder_ids(dual()) == {"theirs"}


def test_a_lock_file_is_given_back_when_the_table_refuses(url: str, wire: Wire) -> None:
    item = {"LockID": {"S": dual().path}, "Info": {"S": '{"ID":"table"}'}}
    client("dynamodb", dual().region, url).put_item(TableName=dual().table, Item=item)
    assert not wire.take(dual(), '{"ID":"mine"}')
    assert wire.holder_ids(dual()) == {"table"}


def test_releasing_leaves_the_lock_of_another(wire: Wire) -> None:
    assert wire.take(dual(), '{"ID":"theirs"}')
    wire.release(dual(), "mine")
    assert wire.holder_ids(dual()) == {"theirs"}


def test_a_dead_run_that_a_visitor_cleared_is_forgotten_without_a_write(wire: Wire) -> None:
    team = team_on(wire, "visitor")
    dead = next(step.target for step in steps(team, 400) if step.did is Did.DIED)
    for lock_id in wire.holder_ids(dead):
        wire.release(dead, lock_id)
    assert wire.take(dead, '{"ID":"visitor"}')
    next(step for step in steps(team, 400) if step == Step(Did.CLEARED, dead))
    assert wire.holder_ids(dead) == {"visitor"}


def test_the_lifecycle_keeps_the_newest_versions(url: str, wire: Wire) -> None:
    target = dual()
    before = wire.read(target)
    wire.expire(target, keep=2)
    s3 = client("s3", target.region, url)
    found = s3.list_object_versions(Bucket=target.bucket, Prefix=target.key)
    states = [version for version in found["Versions"] if version["Key"] == target.key]
    assert len(states) == 2
    assert states[0]["IsLatest"]
    assert wire.read(target) == before
