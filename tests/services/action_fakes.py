"""Writers over the estate in memory: every condition honoured, every write noted, and any of them made to
fail in the ways a network and a death can.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lockboard.domain.access import Actor, Grant, Rights, Role
from lockboard.domain.audit import Person
from lockboard.domain.bodies import read_body
from lockboard.domain.digests import Attribute
from lockboard.domain.keys import LOCKFILE_SUFFIX, state_id
from lockboard.domain.model import Action, Unread
from lockboard.domain.plans import Wanted
from lockboard.domain.ports import TableItem
from lockboard.domain.signin import Approvals
from lockboard.domain.writes import Hands, Receipt, Restorable, Sent
from lockboard.services.actions import Actions, Place
from lockboard.services.attempts import Answer, Form, Prepared
from lockboard.services.reconcile import Reconciler
from tests.services.fakes import Estate
from tests.web.audit_fakes import FakeAudit

KIM = Person("kim", "loopback", "127.0.0.1")
ACTOR = Actor(KIM, Rights((Grant(Role.ADMINISTRATOR),)))
FORM = Form(reason="the runner was killed", ticket="OPS-1")


class Killed(BaseException):
    """The process is gone: nothing after this has any effect."""


class Fault(StrEnum):
    """What happens to one write."""

    REPLY_LOST = "committed, but the reply is lost"
    NEVER_SENT = "not committed, and no reply"
    REFUSED = "refused by the service"
    KILLED_BEFORE = "the process dies before it is sent"
    KILLED_AFTER = "the process dies after it was committed"


WRITES = (
    "take_lockfile",
    "release_lockfile",
    "put_state",
    "take_lock",
    "replace_lock",
    "release_lock",
    "change_digest",
)


@dataclass
class World:
    """An estate, its log, the actions on it and what reached AWS.

    faults: by the name of the writer's method; each used once.  approvals: where protected keys wait.
    before: something to happen right before a write, by the same name, once.
    committed: every write that changed something, as (method, subject).
    """

    estate: Estate = field(default_factory=Estate)
    honours: str = ""
    faults: dict[str, Fault] = field(default_factory=dict)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    committed: list[tuple[str, str]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    dead: bool = False
    ids: int = 0
    approvals: Approvals | None = None

    def __post_init__(self) -> None:
        self.audit = FakeAudit(self.estate.clock)
        self.actions = self.new_process()

    def new_process(self) -> Actions:
        """The same as after a restart."""
        self.dead = False
        place = Place(
            self.estate.backend, self.estate.bucket, self.estate.table if self.estate.has_table else None
        )
        self.places = {self.estate.name: place}
        self.actions = Actions(
            self.estate.inventory,
            self.places,
            self.audit,
            self.open,
            secret="s" * 32,
            clock=self.estate.clock,
            monotonic=self.estate.clock.monotonic,
            sleep=self.estate.clock.pass_,
            new_id=lambda: str(uuid.UUID(int=self._next())),
            version="0.1.0",
            approvals=self.approvals,
        )
        self.reconciler = Reconciler(
            self.audit, self.places, self.open, self.actions, self.estate.clock.monotonic
        )
        return self.actions

    def _next(self) -> int:
        self.ids += 1
        return self.ids

    def open(self, backend: str, key: str, person: Person, action_id: str) -> Hands:
        return Hands(FakeStateWrites(self), FakeTableWrites(self) if self.estate.has_table else None)

    # ---- what a person does ----

    def look(self, key: str, wanted: Wanted) -> Prepared:
        return self.actions.prepare(ACTOR, state_id(self.estate.name, key), wanted)

    def confirm(self, prepared: Prepared, **fields: str) -> Answer:
        """Submit the page with everything filled in that it asks for."""
        plan: Any = prepared.plan
        form = FORM._replace(confirm=plan.confirm, serial=plan.accept_serial)._replace(**fields)
        return self.actions.perform(ACTOR, prepared.row.id, prepared.token, form)

    def act(self, key: str, action: Action, store: str = "", version: str = "") -> Answer:
        return self.confirm(self.look(key, Wanted(action, store, version)))

    def reconcile(self) -> int:
        return self.reconciler()

    # ---- what a write goes through ----

    def write(
        self, name: str, subject: str, holds: Callable[[], bool], change: Callable[[], object]
    ) -> Receipt:
        if self.dead:
            raise Killed
        if then := self.before.pop(name, None):
            then()
        fault = self.faults.pop(name, None)
        if fault is Fault.KILLED_BEFORE:
            self.dead = True
            raise Killed
        self.sent.append(name)
        if fault is Fault.REFUSED:
            return Receipt(Sent.FAILED, name, "r-1", "access denied: s3:PutObject is needed")
        if fault is Fault.NEVER_SENT:
            return Receipt(Sent.UNSETTLED, name, "", "the connection was closed")
        if not holds():
            return Receipt(Sent.LOST, name, "r-1", "the condition does not hold")
        change()
        self.committed.append((name, subject))
        if fault is Fault.KILLED_AFTER:
            self.dead = True
            raise Killed
        if fault is Fault.REPLY_LOST:
            return Receipt(Sent.UNSETTLED, name, "", "the connection was closed")
        found = self.estate.bucket.current(subject)
        etag, version = (
            (found.etag, found.version_id)
            if found and name.startswith(("take_lockfile", "put"))
            else (None, None)
        )
        return Receipt(Sent.DONE, name, "r-1", "", version, etag)


class FakeStateWrites:
    """`StateWrites` over the estate's bucket."""

    def __init__(self, world: World) -> None:
        self._world, self._bucket = world, world.estate.bucket

    def refuses_wrong_conditions(self) -> str:
        return self._world.honours

    def take_lockfile(self, key: str, text: str, over: str | None = None) -> Receipt:
        name = key + LOCKFILE_SUFFIX
        return self._world.write(
            "take_lockfile",
            name,
            lambda: self._etag(name) == over,
            lambda: self._bucket.put(name, text.encode()),
        )

    def release_lockfile(self, key: str, etag: str) -> Receipt:
        name = key + LOCKFILE_SUFFIX
        return self._world.write(
            "release_lockfile", name, lambda: self._etag(name) == etag, lambda: self._bucket.delete(name)
        )

    def read_version(self, key: str, version_id: str) -> Restorable | Unread:
        for version in self._bucket.versions.get(key, ()):
            if version.version_id == version_id and version.body is not None:
                return Restorable(version.body, read_body(version.body), version_id, version.etag)
        return Unread("this version does not exist", "NoSuchVersion")

    def put_state(self, key: str, version: Restorable, over: str | None) -> Receipt:
        return self._world.write(
            "put_state", key, lambda: self._etag(key) == over, lambda: self._bucket.put(key, version.data)
        )

    def _etag(self, name: str) -> str | None:
        found = self._bucket.current(name)
        return found.etag if found else None


class FakeTableWrites:
    """`TableWrites` over the estate's table."""

    def __init__(self, world: World) -> None:
        self._world, self._items = world, world.estate.table.items

    def take_lock(self, lock_id: str, info: str, token: str) -> Receipt:
        return self._put("take_lock", lock_id, lambda: lock_id not in self._items, info)

    def replace_lock(self, lock_id: str, old: Attribute | None, info: str, token: str) -> Receipt:
        return self._put("replace_lock", lock_id, lambda: self._holds(lock_id, old), info)

    def release_lock(self, lock_id: str, old: Attribute | None, token: str) -> Receipt:
        return self._world.write(
            "release_lock", lock_id, lambda: self._holds(lock_id, old), lambda: self._items.pop(lock_id)
        )

    def change_digest(
        self,
        digest_id: str,
        *,
        absent: bool,
        old: Attribute | None,
        new: str | None,
        lock_id: str,
        info: str,
        token: str,
    ) -> Receipt:
        def holds() -> bool:
            item = self._items.get(digest_id)
            seen = item is None if absent else item is not None and item.info is None and item.digest == old
            return seen and self._holds(lock_id, {"S": info})

        def change() -> None:
            if new is None:
                del self._items[digest_id]
            else:
                self._items[digest_id] = TableItem(digest_id, None, {"S": new})

        return self._world.write("change_digest", digest_id, holds, change)

    def _holds(self, lock_id: str, info: Attribute | None) -> bool:
        item = self._items.get(lock_id)
        return item is not None and item.digest is None and item.info == info

    def _put(self, name: str, lock_id: str, holds: Callable[[], bool], info: str) -> Receipt:
        item = TableItem(lock_id, {"S": info}, None)
        return self._world.write(name, lock_id, holds, lambda: self._items.update({lock_id: item}))
