"""Actions, from the confirmation to its answer, beside the few calls by which a person would do the same
by hand; and the audit log at a size of years.

`python -m benchmarks.recovering CONFIG` is the process that acts; an emulator stands for AWS, behind a
proxy that holds every answer back for the same time.
"""

from __future__ import annotations

import math
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
from sqlalchemy import insert

from benchmarks.children import Child, Command, answer_commands
from benchmarks.figures import Figure, spoken
from benchmarks.refreshing import LATENCY
from lockboard import __version__
from lockboard.adapters.store import SqlAudit, migrate, open_audit_engine, open_engine
from lockboard.adapters.store.audit_rows import columns_of
from lockboard.adapters.store.schema import audit as audit_table
from lockboard.config import Settings, load
from lockboard.domain.audit import GENESIS, AuditQuery, Entry, Head, Kind, Person, body_of, mac_of
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id, state_id
from lockboard.services.investigate import Investigator
from lockboard.services.memo import Memo
from lockboard.services.recheck import Rechecker
from lockboard.services.rows import judge
from lockboard.web.app import Services, build_app
from lockboard.web.signin import demo_door
from lockboard.wiring import (
    open_actions,
    open_audit,
    open_backends,
    open_store,
    places_of,
    utc_now,
)
from tests.emulators import REGION, moto_server
from tests.faults import FaultProxy, call, fault_proxy
from torture.deeds import DEEDS, Before, Deed, Place, md5

BACKEND = "bench"
SECRETS: Mapping[str, str] = {
    "LOCKBOARD_SECRET_KEY": "the secret key of a benchmark: no secret",
    "LOCKBOARD_AUDIT_KEY": "the audit key of a benchmark: no secret either",
}
CALLS: Mapping[str, int] = {
    "unlock the item": 2,
    "unlock the .tflock": 2,
    "repair the digest": 3,
    "restore a version": 3,
}
"""The actions, and how many requests each takes by hand."""

MOST_TIMES, VERIFY_SECONDS, APPEND_MS = 10.0, 10.0, 25.0
APPENDS = 300
BATCH = 2000

_TOKEN = re.compile(r'name="token" value="([^"]+)"')
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_OWN_PAGE = {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}


def measure(folder: Path, times: int, records: int) -> list[Figure]:
    """`times`: how often each action is done, and done by hand. records: of the audit log that is
    verified.
    """
    home = folder / "recovering"
    home.mkdir()
    with moto_server(home) as emulator, fault_proxy(emulator.url) as proxy:
        place = Place(emulator, emulator.make_bucket(), emulator.make_table(), "a secret")
        config = _write_config(folder, place, proxy.url)
        with Child("benchmarks.recovering", str(config)) as actor:
            figures = [_action(deed, place, proxy, actor, times) for deed in DEEDS if deed.name in CALLS]
            found: list[list[Any]] = actor.ask("entries")["entries"]
    settings = load(config, SECRETS)
    return [*figures, *_log(folder, settings, [_entry(*each) for each in found], records)]


# ---------------------------------------------------------------- actions


def _action(deed: Deed, place: Place, proxy: FaultProxy, actor: Child, times: int) -> Figure:
    ours, theirs = [], []
    for turn in range(times + 1):
        by_hand = _by_hand(deed, place, proxy, actor, f"{deed.slug}/hand-{turn}/terraform.tfstate")
        confirmed = _confirmed(deed, place, proxy, actor, f"{deed.slug}/ours-{turn}/terraform.tfstate")
        if turn:  # the first round opens connections and tries the bucket's conditions
            ours.append(confirmed)
            theirs.append(by_hand)
    mine, other = _percentile(ours, 0.95), _percentile(theirs, 0.95)
    name = f"{deed.name}, confirmed to answered, p95: {CALLS[deed.name]} calls"
    return Figure(name, spoken(mine), spoken(other), mine / other, MOST_TIMES, at_least=False)


def _confirmed(deed: Deed, place: Place, proxy: FaultProxy, actor: Child, key: str) -> float:
    before = deed.prepare(place, key)
    form = {"reason": "benchmark", "ticket": "", "confirm": before.typed, **deed.form}
    path = deed.path(state_id(BACKEND, key), before)
    actor.ask("open", key=key, path=path)
    with _latency(proxy):
        return float(actor.ask("confirm", path=path, form=form)["seconds"])


def _by_hand(deed: Deed, place: Place, proxy: FaultProxy, actor: Child, key: str) -> float:
    before = deed.prepare(place, key)
    asked = {"name": deed.name, "bucket": place.bucket, "table": place.table, "key": key}
    with _latency(proxy):
        told = actor.ask("by_hand", **asked, before=_plain(before))
    if told["calls"] != CALLS[deed.name]:
        raise RuntimeError(f"{deed.name} took {told['calls']} calls by hand")
    return float(told["seconds"])


def _plain(before: Before) -> dict[str, Any]:
    return {"digest": before.digest, "item": before.item, "file": before.file, "version": before.ids[0]}


@contextmanager
def _latency(proxy: FaultProxy) -> Iterator[None]:
    proxy.on(lambda _: True, call(after=lambda _: time.sleep(LATENCY)), times=None)
    try:
        yield
    finally:
        proxy.clear_rules()


def _percentile(found: Sequence[float], part: float) -> float:
    """By the nearest rank."""
    return sorted(found)[max(0, math.ceil(part * len(found)) - 1)]


# ---------------------------------------------------------------- the log


def _log(folder: Path, settings: Settings, entries: Sequence[Entry], records: int) -> list[Figure]:
    """A log of copies of these entries, verified whole; then some more appended, each durable."""
    url, key = f"sqlite:///{folder / 'audit.db'}", str(settings.audit_key).encode()
    head = _fill(url, key, entries, records)
    log = SqlAudit(open_audit_engine(url), key, utc_now, lambda *_: None)
    began = time.perf_counter()
    found = log.verify([head])
    verified = time.perf_counter() - began
    if not found.ok or found.checked != records:
        raise RuntimeError(f"{found.checked} of {records} records verified: {found.problem}")
    took = []
    for turn in range(APPENDS):
        entry = _copy(entries[turn % len(entries)])
        began = time.perf_counter()
        log.append(entry)
        took.append(time.perf_counter() - began)
    slowest = _percentile(took, 0.99)
    return [
        Figure(
            "verifying the audit log, every record",
            spoken(verified),
            "",
            verified,
            VERIFY_SECONDS,
            at_least=False,
            unit="s",
        ),
        Figure(
            "appending an audit record, p99",
            spoken(slowest),
            "",
            slowest * 1000,
            APPEND_MS,
            at_least=False,
            unit="ms",
        ),
    ]


def _fill(url: str, key: bytes, entries: Sequence[Entry], records: int) -> Head:
    """What so many appends would have left, without a commit for each."""
    engine = open_engine(url)
    migrate(engine)
    began, head = datetime.now(UTC) - timedelta(days=365), Head(0, GENESIS)
    while head.seq < records:
        rows = []
        for seq in range(head.seq + 1, min(head.seq + BATCH, records) + 1):
            entry, at = _copy(entries[seq % len(entries)]), began + timedelta(seconds=seq)
            body = body_of(at, entry)
            head = Head(seq, mac_of(key, seq, head.mac, body))
            rows.append({"seq": seq, "body": body, "mac": head.mac, **columns_of(seq, at, entry)})
        with engine.begin() as connection:
            connection.execute(insert(audit_table), rows)
    engine.dispose()
    return head


def _copy(entry: Entry) -> Entry:
    return replace(entry, action_id=str(uuid.uuid4()))


def _entry(kind: str, action: str, message: str, facts: Mapping[str, Any], key: str) -> Entry:
    kim = Person("kim", "local", "127.0.0.1")
    return Entry(
        Kind(kind),
        action,
        kim,
        backend=BACKEND,
        bucket="acme-tfstate",
        key=key,
        state_id=state_id(BACKEND, key),
        reason="the runner was killed",
        ticket="OPS-1",
        result="done" if kind == Kind.OUTCOME else "",
        message=message,
        facts=facts,
    )


# ---------------------------------------------------------------- the process that acts


class Actor:
    """Lockboard as `web.wsgi` joins it, asked without a socket; and boto3 by hand."""

    def __init__(self, config: Path) -> None:
        settings = load(config, SECRETS)
        _, _, self._board = open_store(settings)
        opened = open_backends(settings, settle=timedelta(0))
        self._log = open_audit(settings, StringIO())
        acting = open_actions(settings, opened, self._board, self._log)
        assert acting is not None
        self._place = places_of(opened)[BACKEND]
        services = Services(
            board=self._board,
            backends={item.backend.name: item.backend for item in opened},
            recheck=Rechecker(self._board, places_of(opened), utc_now),
            settings=[],
            clock=utc_now,
            refresh_every=settings.refresh.every,
            version=__version__,
            door=demo_door(str(settings.secret_key), utc_now),
            limited=False,
            audit=self._log,
            actions=acting[0],
        )
        self._client = build_app(services).test_client()
        self._hidden: dict[str, str] = {}
        endpoint = {"endpoint_url": settings.backends[0].s3_endpoint_url, "region_name": REGION}
        self._s3, self._table = boto3.client("s3", **endpoint), boto3.client("dynamodb", **endpoint)

    def commands(self) -> dict[str, Command]:
        """What `answer_commands` offers."""
        return {
            "open": self.open,
            "confirm": self.confirm,
            "by_hand": self.by_hand,
            "entries": self.entries,
        }

    def open(self, key: str, path: str) -> dict[str, Any]:
        """See the key for the first time, a minute ago, and open the page of the action."""
        backend, states, table = self._place
        now = utc_now() - timedelta(minutes=1)
        seen, memo = Investigator(backend, states, table).fresh(key, Memo(), now)
        self._board.put(judge(seen, memo, backend, now, "")[0])
        page = self._client.get(path, headers={"Host": "localhost"}).get_data(as_text=True)
        token, csrf = _TOKEN.search(page), _CSRF.search(page)
        if token is None or csrf is None:
            raise RuntimeError(f"{path} offers nothing to confirm")
        self._hidden = {"token": token[1], "csrf": csrf[1]}
        return {}

    def confirm(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        """Submit the form."""
        began = time.perf_counter()
        answer = self._client.post(path, data={**form, **self._hidden}, headers=_OWN_PAGE)
        seconds = time.perf_counter() - began
        if answer.status_code != 303:
            raise RuntimeError(f"{path} was answered {answer.status_code}")
        return {"seconds": seconds}

    def by_hand(self, name: str, bucket: str, table: str, key: str, before: dict[str, str]) -> dict[str, Any]:
        """The same with as few requests as it can be done with care: read, then change on condition."""
        item = {"TableName": table, "Key": {"LockID": {"S": lock_id(bucket, key)}}}
        digest = {"TableName": table, "Key": {"LockID": {"S": digest_id(bucket, key)}}}
        state = {"Bucket": bucket, "Key": key}
        began, calls = time.perf_counter(), 0

        def did(_: object) -> None:
            nonlocal calls
            calls += 1

        def set_digest(value: str) -> None:
            values = {":old": {"S": before["digest"]}, ":new": {"S": value}}
            update = {"UpdateExpression": "SET Digest = :new", "ConditionExpression": "Digest = :old"}
            did(self._table.update_item(**digest, **update, ExpressionAttributeValues=values))

        if name == "unlock the item":
            did(self._table.get_item(**item, ConsistentRead=True))
            values = {":old": {"S": before["item"]}}
            condition = {"ConditionExpression": "Info = :old", "ExpressionAttributeValues": values}
            did(self._table.delete_item(**item, **condition))
        elif name == "unlock the .tflock":
            file = {"Bucket": bucket, "Key": key + LOCKFILE_SUFFIX}
            found = self._s3.get_object(**file)
            did(found["Body"].read())
            did(self._s3.delete_object(**file, IfMatch=found["ETag"]))
        elif name == "repair the digest":
            body = self._s3.get_object(**state)["Body"].read()
            did(body)
            did(self._table.get_item(**digest, ConsistentRead=True))
            set_digest(md5(body))
        else:
            body = self._s3.get_object(**state, VersionId=before["version"])["Body"].read()
            did(body)
            did(self._s3.put_object(**state, Body=body))
            set_digest(md5(body))
        return {"seconds": time.perf_counter() - began, "calls": calls}

    def entries(self) -> dict[str, Any]:
        """What was recorded, as far as a copy of it needs."""
        assert self._log is not None
        found = [record.entry for record in self._log.page(AuditQuery(limit=200)).records]
        return {
            "entries": [
                (each.kind.value, each.action, each.message, dict(each.facts), each.key) for each in found
            ]
        }


def _write_config(folder: Path, place: Place, endpoint: str) -> Path:
    file = folder / "recovering.toml"
    backend = {
        "name": BACKEND,
        "bucket": place.bucket,
        "region": REGION,
        "dynamodb_table": place.table,
        "s3_endpoint_url": endpoint,
        "dynamodb_endpoint_url": endpoint,
    }
    lines = [f'{name} = "{value}"' for name, value in backend.items()]
    top = ["[database]", f'url = "sqlite:///{folder / "recovering.db"}"', "[actions]", "enabled = true"]
    file.write_text("\n".join([*top, "[[backends]]", *lines, ""]))
    return file


if __name__ == "__main__":
    answer_commands(Actor(Path(sys.argv[1])).commands())
