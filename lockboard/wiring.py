"""Joins the rooms: from settings to open clients, the store and the services.

Used by the command line and the web application.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from lockboard.adapters.aws import Access, open_session
from lockboard.adapters.dynamodb import DynamoLockTable
from lockboard.adapters.probe import Probe, probe_backend
from lockboard.adapters.s3 import S3States
from lockboard.adapters.store import SqlBoard, SqlInventory, migrate, open_engine
from lockboard.config import BackendSettings, Settings, default_folder
from lockboard.domain.inventory import Inventory
from lockboard.domain.model import Backend
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


def open_store(settings: Settings) -> tuple[Engine, SqlInventory, SqlBoard]:
    """The inventory's database, brought up to date.

    Raises:
        StoreError: it cannot be opened or migrated.
    """
    if not (settings.database_url or settings.database.url):
        default_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_engine(settings.store_url)
    migrate(engine)
    return engine, SqlInventory(engine), SqlBoard(engine)
