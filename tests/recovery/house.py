"""A whole Lockboard over one emulator: its real clients, store, log and pages, and a recording proxy between
it and the emulator.

What the proxy saw and what the emulator holds is the truth that the pages' words are held against.
"""

from __future__ import annotations

import io
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from flask import Flask

from lockboard.adapters.store import SqlApiTokens, SqlAudit
from lockboard.config import ActionSettings, BackendSettings, Settings
from lockboard.domain.audit import AuditQuery, Record
from lockboard.domain.keys import PROBE_KEY, state_id
from lockboard.domain.locks import LockInfo, lock_text
from lockboard.services.actions import Actions
from lockboard.services.recheck import Rechecker
from lockboard.services.reconcile import Reconciler
from lockboard.services.refresh import Refresher
from lockboard.web.app import Services, build_app
from lockboard.web.signin import demo_door
from lockboard.wiring import (
    open_actions,
    open_audit,
    open_backends,
    open_people,
    open_store,
    places_of,
)
from tests.emulators import REGION, Emulator
from tests.faults import FaultProxy, Seen
from tests.recovery.page import OURS, Page, read_page
from tests.terraform.stored import Stored, md5
from tests.terraform.workspace import Stack

BACKEND = "prod"
SECRET, AUDIT_KEY = "s" * 32, "a" * 32
CANARY = "canary-5f1d0c7e9b"
"""Stands in every state of this room, as a password would, and may stand in nothing that Lockboard writes."""
LONGEST_SLEEP = 0.02

_ACTION = re.compile(r"\blockboard-action/([0-9a-f-]{36})\b")


def action_of(seen: Seen) -> str:
    """The ID of the action that a request belongs to, "" where none of Lockboard's sent it."""
    found = _ACTION.search(seen.headers.get("user-agent", ""))
    return found[1] if found else ""


def changes_state_of_affairs(seen: Seen) -> bool:
    """Whether Lockboard asks for a change with it, other than to try whether the store honours conditions."""
    return seen.mutates and action_of(seen) != "" and PROBE_KEY not in seen.path


@dataclass
class HouseClock:
    """The machine's clock, and as far ahead of it as a test needs.

    At rest two seconds: AWS's clock is only known to the second, so without them a page could take itself to
    be earlier than the refresh that found the key.
    """

    ahead: timedelta = timedelta(seconds=2)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(frozen=True)
class Bodies:
    """Two states of one lineage as real Terraform wrote them, and the configuration of each."""

    older: bytes
    newer: bytes
    older_inputs: dict[str, str]
    newer_inputs: dict[str, str]


@dataclass
class House:
    """A running Lockboard. emulator: reached past the proxy.  stdout: what went to standard output. said:
    every answer that it gave, as sent.
    """

    emulator: Emulator
    proxy: FaultProxy
    settings: Settings
    app: Flask
    audit: SqlAudit
    tokens: SqlApiTokens
    actions: Actions
    reconcile: Reconciler
    refresher: Refresher
    clock: HouseClock
    bodies: Bodies
    stdout: TextIO
    said: list[bytes] = field(default_factory=list)
    made: list[Key] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        return self.settings.backends[0].bucket

    @property
    def table(self) -> str | None:
        return self.settings.backends[0].dynamodb_table

    @property
    def beyond(self) -> Emulator:
        """The emulator as it is reached through the proxy, so that Terraform's requests are seen as well."""
        return Emulator(self.emulator.name, self.proxy.url)

    def key(self, key: str = "") -> Key:
        """A state key that no other test has, unless it is named."""
        made = Key(self, key or f"team/{uuid.uuid4().hex[:8]}/terraform.tfstate")
        self.made.append(made)
        return made

    def empty(self) -> None:
        """Take away what the keys made so far left in bucket and table, so that refreshes stay quick."""
        while self.made:
            self.made.pop().vanish()

    def get(self, url: str) -> Page:
        answer = self.app.test_client().get(url)
        self.said.append(answer.data)
        return read_page(answer.status_code, answer.text, answer.headers.get("Location", ""))

    def post(self, url: str, fields: dict[str, str]) -> Page:
        answer = self.app.test_client().post(url, data=fields, headers=OURS)
        self.said.append(answer.data)
        return read_page(answer.status_code, answer.text, answer.headers.get("Location", ""))

    def changes(self, *, committed: bool | None = None) -> list[Seen]:
        """The changes that Lockboard's actions asked for, of all keys."""
        return [
            seen
            for seen in self.proxy.recording.mutations(committed=committed)
            if changes_state_of_affairs(seen)
        ]

    @contextmanager
    def later(self, **span: float) -> Iterator[None]:
        """The clock is ahead by this span meanwhile."""
        before = self.clock.ahead
        self.clock.ahead = before + timedelta(**span)
        try:
            yield
        finally:
            self.clock.ahead = before


@dataclass(frozen=True)
class Answer:
    """What a submit came to. page: the answer itself, or the page that it led to.  record: what the log holds
    of it, None where nothing was recorded.
    """

    status: int
    page: Page
    record: Record | None

    @property
    def result(self) -> str:
        return self.record.entry.result if self.record else ""

    @property
    def message(self) -> str:
        return self.record.entry.message if self.record else ""


@dataclass(frozen=True)
class Key:
    """One state key of a house: what AWS holds for it, and the pages of it."""

    house: House
    key: str

    @property
    def id(self) -> str:
        return state_id(BACKEND, self.key)

    @property
    def stored(self) -> Stored:
        """What the emulator holds, and the hand that tampers with it."""
        return Stored(self.house.emulator, self.house.bucket, self.house.table, self.key)

    # The situations

    def healthy(self) -> Key:
        """Two versions, the digest of the newer."""
        self.behind()
        self.stored.put_digest(md5(self.house.bodies.newer))
        return self

    def behind(self) -> Key:
        """The digest write of the newer version was lost."""
        self.stored.put_body(self.house.bodies.older)
        self.stored.put_body(self.house.bodies.newer)
        self.stored.put_digest(md5(self.house.bodies.older))
        return self

    def deleted(self) -> Key:
        """Deleted by hand; the digest names the newest version."""
        self.healthy()
        self.stored.delete_object()
        return self

    def deleted_with_digest_behind(self) -> Key:
        """Deleted by hand; the digest names the version before the newest."""
        self.behind()
        self.stored.delete_object()
        return self

    def locked(self, *, table: bool = True, file: bool = True) -> str:
        """A new lock as Terraform writes it, over whatever stands there; its ID."""
        lock_id = str(uuid.uuid4())
        text = lock_text(
            LockInfo(
                lock_id,
                "OperationTypeApply",
                "",
                "ci@runner-7",
                "1.11.4",
                datetime.now(UTC) - timedelta(seconds=2),
                self.stored.lock_id,
            )
        )
        if file:
            self.stored.put_lockfile(text.encode())
        if table:
            self.stored.put_item(self.stored.lock_id, Info={"S": text})
        return lock_id

    def crashed(self) -> Key:
        """Locked, the newer state written under the lock, its digest not, and the holder is gone."""
        self.locked()
        return self.behind()

    def known(self) -> Key:
        """Found by a refresh, so that it has pages."""
        self.house.refresher.refresh()
        return self

    def vanish(self) -> None:
        """Nothing is left of it, no version either."""
        s3, place = self.house.emulator.s3, {"Bucket": self.house.bucket}
        found = s3.list_object_versions(**place, Prefix=self.key)
        rows = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
        if rows:
            named = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
            s3.delete_objects(**place, Delete={"Objects": named, "Quiet": True})
        for item in (self.stored.lock_id, self.stored.digest_id):
            self.stored.delete_item(item)

    # What is held

    @property
    def free(self) -> bool:
        """Whether no lock stands in either store."""
        return self.stored.item(self.stored.lock_id) is None and not self.stored.has_lockfile()

    def versions(self) -> list[tuple[str, str]]:
        """(version ID, MD5) of every version of the state, newest first; delete markers have no MD5."""
        found = self.house.emulator.s3.list_object_versions(Bucket=self.house.bucket, Prefix=self.key)
        rows = [(v, v["ETag"].strip('"')) for v in found.get("Versions", ())]
        rows += [(marker, "") for marker in found.get("DeleteMarkers", ())]
        ours = [(row, etag) for row, etag in rows if row["Key"] == self.key]
        ours.sort(key=lambda pair: pair[0]["LastModified"], reverse=True)
        return [(row["VersionId"], etag) for row, etag in ours]

    def version_of(self, body: bytes) -> str:
        """The ID of the version with these bytes."""
        return next(version for version, etag in self.versions() if etag == md5(body))

    def changes(self, *, committed: bool | None = None) -> list[Seen]:
        """The changes of this key that Lockboard's actions asked for."""
        name = self.stored.lock_id.encode()
        return [
            seen
            for seen in self.house.changes(committed=committed)
            if self.key in seen.path or name in seen.body
        ]

    def writes(self) -> list[str]:
        """The same as operations, those that were done."""
        return [seen.operation for seen in self.changes(committed=True)]

    # The pages

    def ask(self, path: str) -> Page:
        """The page that asks for confirmation: `unlock`, `digest`, `restore/<version>`, ..."""
        return self.house.get(f"/s/{self.id}/{path}")

    def ask_restore(self, body: bytes) -> Page:
        return self.ask(f"restore/{self.version_of(body)}")

    def send(self, page: Page, **fields: str) -> Answer:
        """The page's form, filled in as it asks and sent, and where the answer leads."""
        assert page.asking is not None, page.text
        found = self.house.post(page.asking.action, page.asking.filled(**fields))
        if found.status != 303:
            return Answer(found.status, found, self.last_record())
        told = self.house.get(found.location)
        assert told.status == 200
        record = self.house.audit.record(int(found.location.rpartition("done=")[2]))
        return Answer(303, told, record)

    def act(self, path: str, **fields: str) -> Answer:
        """Ask, and send the form that is shown."""
        return self.send(self.ask(path), **fields)

    def undo(self, answer: Answer) -> Page:
        """The page that asks whether to take that back."""
        assert answer.record is not None
        return self.ask(f"undo/{answer.record.seq}")

    def records(self) -> Sequence[Record]:
        """What the log holds of this key, newest first."""
        return self.house.audit.page(AuditQuery(state_id=self.id)).records

    def last_record(self) -> Record | None:
        return next(iter(self.records()), None)

    # Terraform

    def stack(self, terraform: str, folder: Path, inputs: dict[str, str], *, lockfile: bool = True) -> Stack:
        """A colleague's working directory for this key, initialised."""
        house = self.house
        stack = Stack(
            terraform=terraform,
            folder=folder,
            emulator=house.beyond,
            bucket=house.bucket,
            key=self.key,
            table=house.table,
            use_lockfile=lockfile,
        )
        stack.write(inputs)
        return stack


def open_house(
    emulator: Emulator,
    proxy: FaultProxy,
    database_url: str,
    bodies: Bodies,
    *,
    bucket: str | None = None,
    table: str | None = None,
) -> House:
    """Join everything, as the server does at its start; in a bucket and a table of its own unless named.

    A mismatch is called one at first sight (no settle time), and no wait is long.
    """
    backend = BackendSettings(
        name=BACKEND,
        bucket=bucket or emulator.make_bucket(),
        region=REGION,
        dynamodb_table=table or emulator.make_table(),
        s3_endpoint_url=proxy.url,
        dynamodb_endpoint_url=proxy.url,
    )
    settings = Settings(
        backends=(backend,),
        actions=ActionSettings(enabled=True),
        database_url=database_url,
        secret_key=SECRET,
        audit_key=AUDIT_KEY,
    )
    _, inventory, board = open_store(settings)
    opened = open_backends(settings, settle=timedelta())
    stdout, clock = io.StringIO(), HouseClock()
    audit = open_audit(settings, stdout)
    assert audit is not None
    acting = open_actions(settings, opened, board, audit, clock=clock, sleep=_nap)
    assert acting is not None
    tokens = open_people(settings).tokens
    services = Services(
        board=board,
        backends={item.backend.name: item.backend for item in opened},
        recheck=Rechecker(board, places_of(opened), clock),
        settings=[],
        clock=clock,
        refresh_every=settings.refresh.every,
        version="test",
        door=demo_door(SECRET, clock),
        limited=False,
        audit=audit,
        actions=acting[0],
        tokens=tokens,
    )
    return House(
        emulator=emulator,
        proxy=proxy,
        settings=settings,
        app=build_app(services),
        audit=audit,
        tokens=tokens,
        actions=acting[0],
        reconcile=acting[1],
        refresher=opened[0].refresher(inventory),
        clock=clock,
        bodies=bodies,
        stdout=stdout,
    )


def _nap(seconds: float) -> None:
    time.sleep(min(seconds, LONGEST_SLEEP))
