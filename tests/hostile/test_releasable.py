"""A lock whose record is hostile can be released like any other: exactly that lock, and the log keeps what
stood there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.databases import sqlite_url
from tests.emulators import Emulator
from tests.faults import fault_proxy
from tests.hostile.payloads import FAMILIES, Payload, sample
from tests.hostile.skeleton import skeleton, unfit
from tests.hostile.world import client_of, state
from tests.recovery.house import Bodies, House, Key, open_house
from tests.terraform.stored import md5

BODY = state("3f8c1c1e-6d0a-4b7e-9c55-0a1b2c3d4e5f")


class Held(NamedTuple):
    """A key held by a lock item that is nothing but the text, and one held by such a file."""

    payload: Payload
    item: Key
    file: Key


class Scene(NamedTuple):
    """The dashboard after one refresh over a key pair for each family."""

    house: House
    held: Mapping[str, Held]


def storable(text: str) -> str:
    """What UTF-8 cannot write, no client can store either."""
    return text.encode("utf-8", "replace").decode()


def healthy(house: House, name: str) -> Key:
    key = house.key(name)
    key.stored.put_body(BODY)
    key.stored.put_digest(md5(BODY))
    return key


@pytest.fixture(scope="module")
def scene(moto: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("releasable")
    with fault_proxy(moto.url, one_at_a_time=True) as proxy:
        house = open_house(moto, proxy, sqlite_url(folder), Bodies(BODY, BODY, {}, {}))
        held = {}
        for number, payload in enumerate(sample(len(FAMILIES))):
            text = storable(payload.text)
            item = healthy(house, f"{number}/item.tfstate")
            item.stored.put_item(item.stored.lock_id, Info={"S": text})
            file = healthy(house, f"{number}/file.tfstate")
            file.stored.put_lockfile(text.encode())
            held[payload.family] = Held(payload, item, file)
        house.refresher.refresh()
        yield Scene(house, held)


def around(key: Key, other: Key) -> tuple[object, ...]:
    """What a release of the one's lock must leave alone."""
    stored = other.stored
    return (
        key.stored.digest(),
        key.versions(),
        stored.digest(),
        stored.has_lockfile(),
        stored.item(stored.lock_id),
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("store", ["item", "file"])
def test_a_hostile_lock_is_released_alone_and_recorded_as_it_was(
    scene: Scene, family: str, store: str
) -> None:
    held = scene.held[family]
    key, other = (held.item, held.file) if store == "item" else (held.file, held.item)
    before = around(key, other)

    answer = key.act("unlock")

    assert (answer.status, answer.result) == (303, "done"), answer.page.text
    assert key.free
    assert around(key, other) == before
    assert answer.record is not None
    (released,) = answer.record.entry.facts["plan"]["releases"]
    if store == "item":
        assert released["attribute"] == {"S": storable(held.payload.text)}
    page = client_of(scene.house).get(f"/audit/{answer.record.seq}", buffered=True)
    assert page.status_code == 200
    assert not unfit(page.text)
    assert skeleton(page.text)


def test_the_log_of_all_these_releases_verifies(scene: Scene) -> None:
    found = scene.house.audit.verify()

    assert found.ok, found.problem
