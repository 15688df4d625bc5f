"""Many clients at one lock: those who saw it remove it once, and nobody removes what was taken after it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import boto3
import pytest

from lockboard.adapters.aws import Access, Clients, Single
from lockboard.adapters.dynamodb_writes import DynamoTableWrites
from lockboard.adapters.s3_writes import S3StateWrites
from lockboard.domain.writes import Receipt, Sent
from tests.emulators import REGION, Emulator
from tests.faults import FaultProxy, Seen, fault_proxy

RACERS = 12
ROUNDS = {"ministack": 200, "moto": 10}
"""A round of twelve is 14 to 20 requests. The promise is checked on the faster emulator and sampled on the
other; LOCKBOARD_RACE_ROUNDS sets both.
"""
TRIES = 2
"""How often a re-taker tries before it gives up."""


@dataclass
class Racer:
    """One client of its own. Each deed is one attempt, at a lock under a key, of the record `text`."""

    take: Callable[[str, str], Receipt]
    release: Callable[[str, Any], Receipt]
    replace: Callable[[str, Any, str], Receipt]


@dataclass
class Found:
    """What the racers of one round were told, by what they tried."""

    released: list[Receipt] = field(default_factory=list)
    replaced: list[Receipt] = field(default_factory=list)
    taken: list[tuple[str, Receipt]] = field(default_factory=list)

    def all(self) -> list[Receipt]:
        return [*self.released, *self.replaced, *(receipt for _, receipt in self.taken)]


def done(receipts: Sequence[Receipt]) -> int:
    return sum(receipt.sent is Sent.DONE for receipt in receipts)


def race(pool: ThreadPoolExecutor, racers: Sequence[Racer], key: str, seen: Any, number: int) -> Found:
    """A third releases the lock that all saw, a sixth takes it over, half takes it when it is free.

    Who does which changes from round to round, and with it who is first at the gate.
    """
    gate, found = Barrier(len(racers)), Found()

    def run(place: int, racer: Racer) -> None:
        part, text = (place + number) % 6, f'{{"ID":"new {place}"}}'
        gate.wait()
        if part in (0, 3):
            found.released.append(racer.release(key, seen))
        elif part == 1:
            found.replaced.append(racer.replace(key, seen, text))
        else:
            for _ in range(TRIES):
                receipt = racer.take(key, text)
                found.taken.append((text, receipt))
                if receipt.sent is not Sent.LOST:
                    return

    list(pool.map(run, range(len(racers)), racers))
    return found


def rounds(emulator: Emulator) -> int:
    return int(os.environ.get("LOCKBOARD_RACE_ROUNDS", ROUNDS[emulator.name]))


@pytest.fixture
def proxy(emulator: Emulator) -> Iterator[FaultProxy]:
    """moto is given one request at a time, see there."""
    with fault_proxy(emulator.url, one_at_a_time=emulator.name == "moto") as found:
        yield found


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(RACERS) as found:
        yield found


def clients(url: str) -> list[Clients]:
    access = Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url)
    single = Single(access, boto3.Session(region_name=REGION))
    return [single.clients(f"lockboard-action/racer-{number}") for number in range(RACERS)]


def of_table(client: Any, table: str) -> Racer:
    locks = DynamoTableWrites(client, table)
    return Racer(
        lambda key, text: locks.take_lock(key, text, str(uuid.uuid4())),
        lambda key, seen: locks.release_lock(key, seen, str(uuid.uuid4())),
        lambda key, seen, text: locks.replace_lock(key, seen, text, str(uuid.uuid4())),
    )


def of_files(client: Any, bucket: str) -> Racer:
    states = S3StateWrites(client, bucket)
    return Racer(
        states.take_lockfile,
        states.release_lockfile,
        lambda key, seen, text: states.take_lockfile(key, text, over=seen),
    )


@dataclass
class Store:
    """Where the locks of a race are. put: a lock with this text as another client would; what to compare it
    with later.  standing: the text of the lock that is there, None where there is none.  removes: whether a
    request asks for the removal or replacement of the lock that was seen.
    """

    racers: Sequence[Racer]
    put: Callable[[str, str], Any]
    standing: Callable[[str], str | None]
    removes: Callable[[Seen], bool]


def table_store(emulator: Emulator, url: str) -> Store:
    table, dynamodb = emulator.make_table(), emulator.dynamodb

    def put(key: str, text: str) -> Any:
        dynamodb.put_item(TableName=table, Item={"LockID": {"S": key}, "Info": {"S": text}})
        return {"S": text}

    def standing(key: str) -> str | None:
        found = dynamodb.get_item(TableName=table, Key={"LockID": {"S": key}}, ConsistentRead=True)
        return str(found["Item"]["Info"]["S"]) if "Item" in found else None

    def removes(seen: Seen) -> bool:
        [part] = seen.document["TransactItems"]
        return ":old" in next(iter(part.values())).get("ExpressionAttributeValues", {})

    return Store([of_table(one.dynamodb, table) for one in clients(url)], put, standing, removes)


def file_store(emulator: Emulator, url: str, *, versioned: bool) -> Store:
    bucket, s3 = emulator.make_bucket(versioned=versioned), emulator.s3

    def put(key: str, text: str) -> Any:
        return s3.put_object(Bucket=bucket, Key=f"{key}.tflock", Body=text.encode())["ETag"].strip('"')

    def standing(key: str) -> str | None:
        try:
            return bytes(s3.get_object(Bucket=bucket, Key=f"{key}.tflock")["Body"].read()).decode()
        except s3.exceptions.NoSuchKey:
            return None

    def removes(seen: Seen) -> bool:
        return "if-match" in seen.headers

    return Store([of_files(one.s3, bucket) for one in clients(url)], put, standing, removes)


def run_races(store: Store, proxy: FaultProxy, pool: ThreadPoolExecutor, number_of_rounds: int) -> None:
    retaken = 0
    for number in range(number_of_rounds):
        key = f"race/{number}.tfstate"
        seen = store.put(key, f'{{"ID":"old {number}"}}')
        proxy.recording.clear()
        found = race(pool, store.racers, key, seen, number)
        requests = proxy.recording.mutations()

        assert {receipt.sent for receipt in found.all()} == {Sent.DONE, Sent.LOST}
        assert done(found.released) + done(found.replaced) == 1
        taken = [text for text, receipt in found.taken if receipt.sent is Sent.DONE]
        assert len(taken) <= done(found.released)
        replaced = done(found.replaced)
        standing = store.standing(key)
        assert (standing is not None) == bool(taken or replaced)
        assert not taken or standing == taken[0]
        retaken += len(taken)

        assert len(requests) == len(found.all())
        assert all(seen.conditional for seen in requests)
        assert "versionId" not in {name for seen in requests for name in seen.query}
        removals = [seen for seen in requests if store.removes(seen) and seen.committed]
        assert len(removals) == 1
        assert sum(seen.committed for seen in requests) == 1 + len(taken)
    assert retaken


def test_a_lock_in_the_table_is_removed_once_and_none_that_was_taken_since(
    emulator: Emulator, proxy: FaultProxy, pool: ThreadPoolExecutor
) -> None:
    run_races(table_store(emulator, proxy.url), proxy, pool, rounds(emulator))


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
def test_a_lock_file_is_removed_once_and_none_that_was_taken_since(
    emulator: Emulator, proxy: FaultProxy, pool: ThreadPoolExecutor, versioned: bool
) -> None:
    # Half the rounds in each kind of bucket: one store, two histories.
    run_races(file_store(emulator, proxy.url, versioned=versioned), proxy, pool, rounds(emulator) // 2)
