"""One database, one emulator behind one proxy, one nest: where trials are held, one after the other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, make_url, text

from benchmarks.children import Child
from lockboard.adapters.witness import read_heads
from lockboard.domain.audit import Audit, Kind
from lockboard.domain.keys import PROBE_KEY, state_id
from lockboard.wiring import open_audit, open_store
from tests.emulators import REGION, Emulator
from tests.faults import Fault, FaultProxy, Seen, call, fault_proxy
from torture.deeds import Before, Deed, Place
from torture.nest import HEADS, settings_of
from torture.points import AT_PROXY, Point, Spot, Where, relapse_of, spot_of

BACKEND = "torture"


@dataclass(frozen=True)
class Trial:
    """What became of one kill. ended, settled: what the killed process and the last restarted one told.
    writes: every change that any of them asked for at the proxy. unintended: those that came there with
    no intent in the log. between, after: what stood after the kill, and after the restart. relapsed: a
    restarted process was killed as well.
    """

    deed: Deed
    point: Point
    spot: Spot
    before: Before
    ended: Mapping[str, Any]
    settled: Mapping[str, Any]
    writes: tuple[Seen, ...]
    unintended: tuple[str, ...]
    between: Standing
    after: Standing
    relapsed: bool
    seconds: float

    @property
    def killed(self) -> bool:
        return bool(self.ended["signal"] == signal.SIGKILL)


@dataclass(frozen=True)
class Standing:
    """What stands at the emulator. versions: ETag by ID, None for a delete marker. body: of the current
    object. item, file: the lock records.
    """

    versions: Mapping[str, str | None]
    body: bytes | None
    digest: str | None
    item: str | None
    file: str | None


@dataclass
class Arena:
    """A place for trials."""

    database: str
    url: str
    place: Place
    proxy: FaultProxy
    nest: Child
    folder: Path
    audit: Audit
    held: int = 0
    _intents: set[str] = field(default_factory=set)

    def hold(self, deed: Deed, point: Point, turn: int) -> Trial:
        """Let one process do the deed, kill it at the point, start another, and look at everything."""
        began, self.held = time.monotonic(), self.held + 1
        key = f"{deed.slug}/{point.name}-{turn}-{self.held}/terraform.tfstate"
        prepare = deed.otherwise if deed.otherwise and turn % 2 else deed.prepare
        before, spot = prepare(self.place, key), spot_of(deed, point, turn)
        self.proxy.recording.clear()
        self.proxy.clear_rules()
        unintended: list[str] = []
        address = state_id(BACKEND, key)
        form = {"reason": "torture", "ticket": "", "confirm": before.typed, **deed.form}
        pid = self.nest.ask(
            "start", key=key, path=deed.path(address, before), form=form, where=spot.where, passed=spot.passed
        )["pid"]
        self._watch(spot, pid, unintended)
        ended = self.nest.ask("go")
        between = self.standing(key)
        relapse = relapse_of(turn)
        again = relapse and self.nest.ask("relapse", where=relapse.where, passed=relapse.passed)
        settled = self.nest.ask("restart", key=key)
        after, writes = self.standing(key), self._writes()
        seconds = time.monotonic() - began
        return Trial(
            deed,
            point,
            spot,
            before,
            ended,
            settled,
            tuple(writes),
            tuple(unintended),
            between,
            after,
            bool(again and again["signal"] == signal.SIGKILL),
            seconds,
        )

    def _writes(self) -> list[Seen]:
        return [seen for seen in self.proxy.recording.mutations() if not _of_probe(seen)]

    def _watch(self, spot: Spot, pid: int, unintended: list[str]) -> None:
        """Every change is checked for its intent on arrival; the fatal one besides kills."""
        turn = iter(range(1_000_000))
        counting = threading.Lock()

        def intended(seen: Seen) -> None:
            found = action_of(seen)
            if not any(record.entry.kind is Kind.INTENT for record in self.audit.of_action(found)):
                unintended.append(f"{seen.operation} of {found or 'no action'}")

        def change(seen: Seen) -> bool:
            return seen.mutates and not _of_probe(seen)

        def fatal(seen: Seen) -> bool:
            if not change(seen):
                return False
            with counting:
                return next(turn) == spot.passed

        def kill(_: Seen) -> None:
            os.kill(pid, signal.SIGKILL)

        if spot.where in AT_PROXY:
            arrived = spot.where is Where.ARRIVED
            deadly = call(before=kill) if arrived else call(after=kill)
            self.proxy.on(
                fatal, call(before=intended), deadly, Fault.CLOSE_BEFORE if arrived else Fault.DROP_REPLY
            )
        self.proxy.on(change, call(before=intended), times=None)

    def standing(self, key: str) -> Standing:
        """What stands there now, asked of the emulator itself."""
        place = self.place
        s3, table = place.emulator.s3, place.emulator.dynamodb
        listed = s3.list_object_versions(Bucket=place.bucket, Prefix=key)
        rows = [(v["Key"], v["VersionId"], v["ETag"].strip('"')) for v in listed.get("Versions", ())]
        rows += [(v["Key"], v["VersionId"], None) for v in listed.get("DeleteMarkers", ())]

        def item(name: str, attribute: str) -> str | None:
            asked = {"LockID": {"S": f"{place.bucket}/{name}"}}
            found = table.get_item(TableName=place.table, Key=asked, ConsistentRead=True).get("Item", {})
            value: str | None = found.get(attribute, {}).get("S")
            return value

        standing = {v["Key"] for v in listed.get("Versions", ()) if v["IsLatest"]}
        body, file = (self._object(k) if k in standing else None for k in (key, f"{key}.tflock"))
        return Standing(
            versions={version: etag for name, version, etag in rows if name == key},
            body=body,
            digest=item(f"{key}-md5", "Digest"),
            item=item(key, "Info"),
            file=file.decode() if file is not None else None,
        )

    def _object(self, key: str) -> bytes:
        data: bytes = self.place.emulator.s3.get_object(Bucket=self.place.bucket, Key=key)["Body"].read()
        return data

    def broken_chain(self) -> str:
        """What is wrong with the log, held against every head that the witness got; "" for nothing."""
        heads = read_heads((self.folder / HEADS).read_text().splitlines())
        found = self.audit.verify(heads)
        if not found.ok:
            return found.problem
        return "" if heads and found.tail_proven else "the witness was told of no head"

    def leaks(self) -> list[str]:
        """Where the states' secret is found that it must not be: files of the run, tables of the database."""
        canary = self.place.canary.encode()
        found = [
            file.name
            for file in sorted(self.folder.iterdir())
            if file.is_file() and canary in file.read_bytes()
        ]
        engine = create_engine(make_url(self.url).set(drivername=_driver(self.url)))
        with engine.connect() as connection:
            for name in inspect(engine).get_table_names():
                rows = connection.execute(text(f'SELECT * FROM "{name}"'))  # noqa: S608  a name of our own schema
                if any(self.place.canary in str(tuple(row)) for row in rows):
                    found.append(f"table {name}")
        engine.dispose()
        return found


def _driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


def action_of(seen: Seen) -> str:
    """The action that a request belongs to, by the name its client gives itself; "" without one."""
    agent = seen.headers.get("user-agent", "")
    return agent.partition("lockboard-action/")[2].partition(" ")[0]


def _of_probe(seen: Seen) -> bool:
    return PROBE_KEY in seen.path


@contextmanager
def arena(database: str, url: str, emulator: Emulator, folder: Path, canary: str) -> Iterator[Arena]:
    """An arena on an empty database. folder: empty, for its files."""
    bucket, table = emulator.make_bucket(), emulator.make_table()
    # moto takes a failed transaction back by putting an older table in place: one request at a time.
    with fault_proxy(emulator.url, one_at_a_time=emulator.name == "moto") as proxy:
        config = folder / "lockboard.toml"
        config.write_text(_config(url, bucket, table, proxy.url))
        settings = settings_of(config)
        engine, *_ = open_store(settings)
        engine.dispose()
        audit = open_audit(settings, StringIO())
        assert audit is not None
        with Child("torture.nest", str(config), str(folder)) as nest:
            nest.ask("ready")
            yield Arena(database, url, Place(emulator, bucket, table, canary), proxy, nest, folder, audit)


def _config(url: str, bucket: str, table: str, endpoint: str) -> str:
    backend = {
        "name": BACKEND,
        "bucket": bucket,
        "region": REGION,
        "dynamodb_table": table,
        "s3_endpoint_url": endpoint,
        "dynamodb_endpoint_url": endpoint,
    }
    lines = [f'{name} = "{value}"' for name, value in backend.items()]
    return "\n".join(
        ["[database]", f'url = "{url}"', "[actions]", "enabled = true", "[[backends]]", *lines, ""]
    )
