"""Fixtures of this room: Lockboard over each emulator, each with another database, so that every action meets
all four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.databases import PostgresServer, postgresql_server, sqlite_url
from tests.emulators import Emulator
from tests.faults import FaultProxy, fault_proxy
from tests.recovery.house import CANARY, Bodies, House, open_house
from tests.terraform.workspace import Stack

OLDER = {"network": f"{CANARY}-10.0.0.0"}
NEWER = {**OLDER, "cluster": f"{CANARY}-blue"}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One PostgreSQL for the session."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def terraform() -> str:
    return needs.terraform()


@dataclass(frozen=True)
class Pair:
    """An emulator and a kind of database."""

    emulator: Emulator
    new_database: Callable[[], str]


PAIRS = [
    pytest.param("moto-sqlite", id="moto-sqlite"),
    pytest.param(
        "ministack-postgresql",
        id="ministack-postgresql",
        marks=[pytest.mark.ministack, pytest.mark.postgres],
    ),
]


@pytest.fixture(scope="session", params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """moto with SQLite, MiniStack with PostgreSQL."""
    emulator: Emulator = request.getfixturevalue(request.param.partition("-")[0])
    if request.param.endswith("sqlite"):
        return Pair(emulator, lambda: sqlite_url(tmp_path_factory.mktemp("sqlite")))
    server: PostgresServer = request.getfixturevalue("postgresql")
    return Pair(emulator, server.fresh)


@pytest.fixture(scope="session")
def bodies(terraform: str, moto: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    """Written by real Terraform, once."""
    stack = Stack(
        terraform=terraform,
        folder=tmp_path_factory.mktemp("terraform"),
        emulator=moto,
        bucket=moto.make_bucket(),
        key="app/terraform.tfstate",
        table=None,
    )
    stack.apply(**OLDER)
    older = stack.stored.body()
    stack.apply(**NEWER)
    return Bodies(older, stack.stored.body(), OLDER, NEWER)


@pytest.fixture(scope="session")
def shared_house(pair: Pair, bodies: Bodies) -> Iterator[House]:
    """One Lockboard for every test that leaves it as it was."""
    with fault_proxy(pair.emulator.url, one_at_a_time=pair.emulator.name == "moto") as proxy:
        yield open_house(pair.emulator, proxy, pair.new_database(), bodies)


@pytest.fixture
def house(shared_house: House) -> Iterator[House]:
    """The shared one, its proxy's record empty; none of its answers may show what is in a state."""
    shared_house.proxy.clear_rules()
    shared_house.proxy.recording.clear()
    shared_house.said.clear()
    yield shared_house
    shared_house.proxy.clear_rules()
    shared_house.empty()
    assert not [said for said in shared_house.said if CANARY.encode() in said]


NewHouse = Callable[..., House]


@pytest.fixture
def new_house(pair: Pair, bodies: Bodies) -> Iterator[NewHouse]:
    """A maker of houses for tests that break something: `ignores` are headers that the store never sees."""
    with ExitStack() as stack:

        def make(
            *,
            ignores: tuple[str, ...] = (),
            proxy: FaultProxy | None = None,
            database_url: str = "",
            **place: str,
        ) -> House:
            one = pair.emulator.name == "moto"
            proxy = proxy or stack.enter_context(
                fault_proxy(pair.emulator.url, one_at_a_time=one, ignores=ignores)
            )
            url = database_url or pair.new_database()
            return open_house(pair.emulator, proxy, url, bodies, **place)

        yield make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a stack's working directory is made."""
    return tmp_path / "stack"


@pytest.fixture
def postgresql_url(postgresql: PostgresServer) -> str:
    """A new, empty PostgreSQL database, whatever the emulator."""
    return postgresql.fresh()
