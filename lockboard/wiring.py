"""Joins the rooms: from settings to open clients, the store and the services.

Used by the command line and the web application.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TextIO

from sqlalchemy import Engine

from lockboard import __version__
from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.adapters.hands import HandsOpener, Reach
from lockboard.adapters.probe import Probe, probe_backend
from lockboard.adapters.probe_writes import probe_writes
from lockboard.adapters.s3 import S3States
from lockboard.adapters.store import (
    SqlAccounts,
    SqlApiTokens,
    SqlApprovals,
    SqlAttempts,
    SqlAudit,
    SqlBoard,
    SqlInventory,
    SqlRates,
    SqlSessions,
    migrate,
    open_audit_engine,
    open_engine,
    open_people_engine,
    open_rates_engine,
)
from lockboard.adapters.witness import S3Witness, stdout_witness
from lockboard.config import BackendSettings, Settings, default_folder
from lockboard.domain.audit import LOCKBOARD, Audit
from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import Board, Inventory
from lockboard.domain.keys import PROBE_KEY
from lockboard.domain.model import Backend
from lockboard.domain.ports import Clock
from lockboard.domain.signin import Approvals
from lockboard.services.actions import Actions, Place
from lockboard.services.reconcile import Reconciler
from lockboard.services.refresh import Refresher


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class OpenBackend:
    """One configured backend with its clients."""

    settings: BackendSettings
    backend: Backend
    access: Access
    states: S3States
    table: DynamoLockTable | None

    def probe(self) -> list[Probe]:
        """Try every permission once, through other clients: the readers' own parse listings themselves."""
        settings = self.settings
        return probe_backend(
            open_session(self.access), settings.bucket, settings.dynamodb_table, settings.prefix
        )

    def probe_writes(self) -> list[Probe]:
        """Try every write that actions make, without changing anything."""
        opener = HandsOpener({self.backend.name: _reach(self)}, time.monotonic)
        key = self.settings.prefix + PROBE_KEY
        hands = opener(self.backend.name, key, LOCKBOARD, str(uuid.uuid4()))
        return probe_writes(hands, self.settings.bucket, self.settings.prefix)

    def refresher(self, inventory: Inventory) -> Refresher:
        return Refresher(self.backend, self.states, self.table, inventory, utc_now, time.monotonic)


def open_backends(
    settings: Settings,
    settle: timedelta = timedelta(seconds=10),
    sleep: Callable[[float], None] = time.sleep,
) -> list[OpenBackend]:
    """The clients of every backend; nothing is sent yet. `sleep` is how a scan waits for the table's budget.

    Raises:
        SettingsError: a profile or region is unknown.
    """
    return [_open(backend, settle, sleep) for backend in settings.backends]


def _open(settings: BackendSettings, settle: timedelta, sleep: Callable[[float], None]) -> OpenBackend:
    access = Access(
        region=settings.region,
        profile=settings.profile,
        role_arn=settings.role_arn,
        external_id=settings.external_id,
        s3_endpoint_url=settings.s3_endpoint_url,
        dynamodb_endpoint_url=settings.dynamodb_endpoint_url,
    )
    clients = open_session(access)
    states = S3States(clients.s3, settings.bucket, utc_now, bodies=clients.bodies)
    table = None
    if settings.dynamodb_table:
        table = DynamoLockTable(clients.dynamodb, settings.dynamodb_table, utc_now, time.monotonic, sleep)
    return OpenBackend(settings, settings.backend(settle), access, states, table)


def open_audit(settings: Settings, stream: TextIO) -> SqlAudit | None:
    """The audit log, whose heads go to `stream` and, where one is set, to a bucket; None without an audit
    key.

    The store has to be open already. Raises StoreError.
    """
    if settings.audit_key is None:
        return None
    witness = stdout_witness(stream)
    place = settings.audit
    if place.witness_bucket and place.witness_region:
        access = Access(region=place.witness_region, s3_endpoint_url=place.witness_endpoint_url)
        witness = S3Witness(
            open_session(access).s3, place.witness_bucket, place.witness_prefix, witness, utc_now
        )
    return SqlAudit(open_audit_engine(settings.store_url), settings.audit_key.encode(), utc_now, witness)


class People(NamedTuple):
    """What is kept of people who sign in, and of programs."""

    sessions: SqlSessions
    accounts: SqlAccounts
    tokens: SqlApiTokens
    attempts: SqlAttempts
    approvals: SqlApprovals
    rates: SqlRates


def open_people(settings: Settings) -> People:
    """The stores behind the sign-in, on connections of their own, whose waits end within 5 s.

    The store has to be open already. Raises StoreError.
    """
    engine = open_people_engine(settings.store_url)
    return People(
        SqlSessions(engine),
        SqlAccounts(engine),
        SqlApiTokens(engine),
        SqlAttempts(engine),
        SqlApprovals(engine),
        SqlRates(open_rates_engine(settings.store_url)),
    )


def places_of(opened: Sequence[OpenBackend]) -> dict[str, Place]:
    """The readers of every backend, by name."""
    return {item.backend.name: Place(item.backend, item.states, item.table) for item in opened}


def open_actions(
    settings: Settings,
    opened: Sequence[OpenBackend],
    board: Board,
    audit: Audit | None,
    *,
    approvals: Approvals | None = None,
    clock: Clock = utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Actions, Reconciler] | None:
    """What may be done and what settles it after a death; None where actions are switched off.

    `approvals`: where actions wait for a second person, if the settings ask for one.
    `sleep` is how an action waits before it looks again at what became of a lost reply.
    """
    if not settings.actions.enabled or audit is None or settings.secret_key is None:
        return None
    hands = HandsOpener({item.backend.name: _reach(item) for item in opened}, time.monotonic)
    places = places_of(opened)
    actions = Actions(
        board,
        places,
        audit,
        hands,
        secret=settings.secret_key,
        clock=clock,
        monotonic=time.monotonic,
        sleep=sleep,
        new_id=lambda: str(uuid.uuid4()),
        version=__version__,
        approvals=approvals if settings.actions.second_person else None,
        approval_lasts=settings.actions.approval_lasts,
    )
    return actions, Reconciler(audit, places, hands, actions, time.monotonic)


def _reach(item: OpenBackend) -> Reach:
    settings = item.settings
    return Reach(
        item.access,
        settings.bucket,
        settings.prefix,
        settings.dynamodb_table,
        actor_role_arn=settings.actor_role_arn,
        source_identity=settings.actor_source_identity,
    )


def open_store(settings: Settings) -> tuple[Engine, SqlInventory, SqlBoard]:
    """The inventory's database, brought up to date.

    Raises:
        SettingsError: no setting names a place, and this user has none.
        StoreError: it cannot be opened or migrated.
    """
    if not (settings.database_url or settings.database.url):
        folder = default_folder()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {folder} cannot be made ({error.strerror}): set another place in [database] url"
            ) from None
    engine = open_engine(settings.store_url)
    migrate(engine)
    return engine, SqlInventory(engine), SqlBoard(engine)
