"""Every kind of action with a situation that it mends, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lockboard.domain.locks import LOCKBOARD_OPERATION
from tests.recovery.house import Key
from tests.recovery.page import Page
from tests.terraform.stored import md5


@dataclass(frozen=True)
class Deed:
    """make: brings the situation about.  ask: the page that offers to mend it.  writes: how many writes that
    takes.  deciding: the number of the one that mends it.  mended: whether it is.
    """

    make: Callable[[Key], object]
    ask: Callable[[Key], Page]
    writes: int
    deciding: int
    mended: Callable[[Key], bool]


def _digest_is(newer: bool) -> Callable[[Key], bool]:
    def holds(key: Key) -> bool:
        bodies = key.house.bodies
        return key.stored.digest() == md5(bodies.newer if newer else bodies.older)

    return holds


def _locked(**stores: bool) -> Callable[[Key], object]:
    return lambda key: key.healthy().locked(**stores)


def _restored(newer: bool) -> Callable[[Key], bool]:
    def holds(key: Key) -> bool:
        body = key.house.bodies.newer if newer else key.house.bodies.older
        return key.versions()[0][1] == md5(body) and _digest_is(newer)(key)

    return holds


def _done(path: str) -> Callable[[Key], Page]:
    """The page that takes back what `path` does, which is done first."""

    def ask(key: Key) -> Page:
        answer = key.act(path)
        assert answer.result == "done", answer.page.told
        key.house.proxy.recording.clear()
        return key.undo(answer)

    return ask


def _lock_stands(key: Key) -> bool:
    return key.stored.has_lockfile() and key.stored.item(key.stored.lock_id) is not None


DEEDS: Mapping[str, Deed] = {
    "unlock in the table": Deed(
        _locked(file=False), lambda key: key.ask("unlock"), 1, 1, lambda key: key.free
    ),
    "unlock the file": Deed(_locked(table=False), lambda key: key.ask("unlock"), 1, 1, lambda key: key.free),
    "unlock both": Deed(_locked(), lambda key: key.ask("unlock"), 2, 2, lambda key: key.free),
    "set the digest": Deed(Key.behind, lambda key: key.ask("digest"), 5, 3, _digest_is(newer=True)),
    "remove the digest": Deed(
        Key.deleted,
        lambda key: key.ask("digest/clear"),
        5,
        3,
        lambda key: key.stored.item(key.stored.digest_id) is None,
    ),
    "restore a deleted state": Deed(
        Key.deleted_with_digest_behind,
        lambda key: key.ask_restore(key.house.bodies.newer),
        6,
        4,
        _restored(newer=True),
    ),
    "restore over a live state": Deed(
        Key.healthy, lambda key: key.ask_restore(key.house.bodies.older), 6, 4, _restored(newer=False)
    ),
    "take over": Deed(Key.crashed, lambda key: key.ask("takeover"), 5, 3, _digest_is(newer=True)),
    "put a lock back": Deed(_locked(), _done("unlock"), 2, 2, _lock_stands),
    "take a digest back": Deed(Key.behind, _done("digest"), 5, 3, _digest_is(newer=False)),
}


def held(key: Key) -> Mapping[str, Any]:
    """What AWS holds for the key, a lock of Lockboard's own left out."""
    stored = key.stored
    item = stored.item(stored.lock_id)
    file = stored._read(stored.lockfile_key)
    return {
        "versions": key.versions(),
        "digest": stored.item(stored.digest_id),
        "item": None if item and LOCKBOARD_OPERATION in str(item) else item,
        "file": None if file and LOCKBOARD_OPERATION.encode() in file else file,
    }


def own_lock_stands(key: Key) -> bool:
    """Whether a lock of Lockboard's own stands in either store."""
    file = key.stored._read(key.stored.lockfile_key) or b""
    return LOCKBOARD_OPERATION in str(key.stored.item(key.stored.lock_id)) or (
        LOCKBOARD_OPERATION.encode() in file
    )
