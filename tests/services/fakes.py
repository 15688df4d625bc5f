"""One bucket, one lock table, an inventory and its board in memory, behind the domain's ports.

The bucket keeps versions and delete markers, gives ETags as S3 does (or as KMS makes them), tells whole
seconds, and counts what it is asked. Any call can be made to fail, and something can be made to happen right
after one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from lockboard.domain.areas import EVERYTHING, Scope, in_scope, prefixes_of
from lockboard.domain.bodies import Body, read_body
from lockboard.domain.errors import ReadError
from lockboard.domain.inventory import VIEWS, BackendReport, Changes, Known, ListRow, Page, Query, StateRow
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id, matcher
from lockboard.domain.locks import Lock, lock_from_file
from lockboard.domain.model import Backend, History, Policy, Severity, StateObject, Unread, Version
from lockboard.domain.ports import Listed, Requests, SweptKey, TableItem
from lockboard.services.refresh import Refresher

PAGE = 1000
_T = TypeVar("_T")
START = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only when it is told to."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class StoredVersion:
    """One version; `body` is None for a delete marker."""

    version_id: str
    body: bytes | None
    etag: str
    modified: datetime


class Happenings:
    """What is to go wrong, or to happen, at which call."""

    def __init__(self) -> None:
        self.failing_page: dict[str, tuple[int, ReadError]] = {}
        self.unread: dict[tuple[str, str], Unread] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def page(self, operation: str, number: int) -> None:
        """Raise where this page is to fail."""
        at, error = self.failing_page.get(operation, (-1, None))
        if error is not None and at == number:
            raise error

    def done(self, operation: str) -> None:
        """Let happen what was to follow this call, once."""
        if then := self.after.pop(operation, None):
            then()


class FakeBucket:
    """`States` over a dictionary. `kms`: ETags say nothing. `skew`: our clock minus AWS's."""

    def __init__(self, clock: FakeClock, *, versioned: bool = True, kms: bool = False) -> None:
        self.requests, self.happen = Requests(), Happenings()
        self.versions: dict[str, list[StoredVersion]] = {}
        self.skew: timedelta | None = None
        self._clock, self._versioned, self._kms, self._count = clock, versioned, kms, 0

    # ---- what people and Terraform do ----

    def put(self, key: str, body: bytes, etag: str | None = None) -> str:
        """Write an object and return its version ID."""
        self._count += 1
        found = etag or hashlib.md5(f"{self._count}".encode() if self._kms else body).hexdigest()
        name = f"v{self._count}" if self._versioned else "null"
        self._push(key, StoredVersion(name, body, found, self._clock().replace(microsecond=0)))
        return name

    def delete(self, key: str) -> None:
        """Put a delete marker on top, or, unversioned, remove the object."""
        if not self._versioned:
            self.versions.pop(key, None)
            return
        self._count += 1
        self._push(key, StoredVersion(f"m{self._count}", None, "", self._clock().replace(microsecond=0)))

    def forget(self, key: str) -> None:
        """Remove every version, as a lifecycle rule does at last."""
        self.versions.pop(key, None)

    def current(self, key: str) -> StoredVersion | None:
        versions = self.versions.get(key)
        return versions[0] if versions and versions[0].body is not None else None

    def _push(self, key: str, version: StoredVersion) -> None:
        before = self.versions.get(key, []) if self._versioned else []
        self.versions[key] = [version, *before]

    # ---- the port ----

    def list_pages(self, prefix: str, fences: Sequence[str] = ()) -> Iterator[Sequence[Listed]]:
        rows = [
            (
                key,
                now.etag,
                len(now.body or b""),
                now.modified.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            )
            for key in sorted(self.versions, key=lambda key: key.encode("utf-8", "surrogatepass"))
            if key.startswith(prefix) and (now := self.current(key))
        ]
        yield from self._pages("list", "list", rows)

    def sweep_pages(self, prefix: str) -> Iterator[Sequence[SweptKey]]:
        rows = []
        for key in sorted(self.versions):
            newest = self.versions[key][0]
            marker = newest.version_id if newest.body is None else None
            if key.startswith(prefix) and (marker or key.endswith(LOCKFILE_SUFFIX)):
                rows.append(SweptKey(key, marker))
        yield from self._pages("sweep", "versions", rows)

    def _pages(self, operation: str, kind: str, rows: list[_T]) -> Iterator[list[_T]]:
        for number in range(max(1, -(-len(rows) // PAGE))):
            self.requests.counts[kind] += 1
            self.happen.page(operation, number)
            yield rows[number * PAGE : (number + 1) * PAGE]
        self.happen.done(operation)

    def read_state(self, key: str, version_id: str | None = None) -> StateObject | None | Unread:
        self.requests.counts["get"] += 1
        if unread := self.happen.unread.get(("get", key)):
            return unread
        found = self.current(key)
        self.happen.done("get")
        if found is None:
            return None
        body = read_body(found.body or b"")
        shown_id = found.version_id if self._versioned else None
        return StateObject(found.etag, body.size, found.modified, shown_id, "STANDARD", body)

    def read_body(self, key: str, version_id: str) -> Body | Unread:
        self.requests.counts["get"] += 1
        if unread := self.happen.unread.get(("body", key)):
            return unread
        for version in self.versions.get(key, ()):
            if version.version_id == version_id and version.body is not None:
                return read_body(version.body)
        return Unread("no such version", "NoSuchVersion")

    def read_lockfile(self, key: str, version_id: str | None = None) -> Lock | None | Unread:
        self.requests.counts["get"] += 1
        if unread := self.happen.unread.get(("lockfile", key)):
            return unread
        found = self.current(key + LOCKFILE_SUFFIX)
        if version_id:
            found = next(v for v in self.versions[key + LOCKFILE_SUFFIX] if v.version_id == version_id)
        self.happen.done("lockfile")
        return (
            lock_from_file(found.body or b"", found.modified, found.etag, found.version_id) if found else None
        )

    def history(self, key: str) -> History | Unread:
        self.requests.counts["versions"] += 1
        if unread := self.happen.unread.get(("history", key)):
            return unread
        versions = [
            Version(v.version_id, v.modified, v.body is None, v.etag, len(v.body or b""), number == 0)
            for number, v in enumerate(self.versions.get(key, ()))
        ]
        return History(tuple(versions))

    def versioning(self) -> str:
        self.requests.counts["other"] += 1
        return "enabled" if self._versioned else "off"

    def clock_skew(self) -> timedelta | None:
        return self.skew


class FakeTable:
    """`LockTable` over a dictionary, `page_size` items a page."""

    def __init__(self, page_size: int = 100) -> None:
        self.requests, self.happen = Requests(), Happenings()
        self.items: dict[str, TableItem] = {}
        self._page_size = page_size

    def put(self, name: str, *, info: object = None, digest: object = None) -> None:
        """Put an item; plain text becomes a string attribute."""
        attributes = [{"S": value} if isinstance(value, str) else value for value in (info, digest)]
        self.items[name] = TableItem(name, *attributes)  # type: ignore[arg-type]

    def scan_pages(self) -> Iterator[Sequence[TableItem]]:
        items = list(self.items.values())
        for number in range(max(1, -(-len(items) // self._page_size))):
            self.requests.counts["scan"] += 1
            self.happen.page("scan", number)
            yield items[number * self._page_size : (number + 1) * self._page_size]
        self.happen.done("scan")

    def item(self, lock_id: str) -> TableItem | None | Unread:
        self.requests.counts["other"] += 1
        return self.happen.unread.get(("item", lock_id)) or self.items.get(lock_id)


class FakeInventory:
    """`Inventory` and `Board` over a dictionary; `writes` is every transaction, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, StateRow] = {}
        self._reports: dict[str, BackendReport] = {}
        self.writes: list[Changes] = []
        self._generation = 0

    # ---- the refresher's side ----

    def known(self, backend: str) -> dict[str, Known]:
        rows = (row for row in self.rows.values() if row.backend == backend)
        return {
            row.id: Known(row.fingerprint, row.content, row.lock, row.terraform, row.memo) for row in rows
        }

    def rechecked(self, backend: str, since: int) -> tuple[int, dict[str, Known]]:
        found = {id_: known for id_, known in self.known(backend).items() if not known.fingerprint}
        return self._generation, found if self._generation > since else {}

    def apply(self, changes: Changes) -> int:
        put, drop = list(changes.put), list(changes.drop)
        self.writes.append(replace(changes, put=put, drop=drop))
        for row in put:
            assert row.backend == changes.backend
            self._check(row)
            self.rows[row.id] = row
        for gone in drop:
            del self.rows[gone]
        self._reports[changes.backend] = changes.report
        self._generation += bool(put or drop)
        return self._generation

    def _check(self, row: StateRow) -> None:
        texts = (
            row.key,
            row.summary,
            row.holder,
            row.operation,
            row.digest,
            row.search,
            row.fingerprint,
            row.memo,
        )
        assert all("\0" not in text and text.encode() is not None for text in texts)
        json.dumps(row.document).encode()

    def report(self, backend: str) -> BackendReport | None:
        return self._reports.get(backend)

    def forget_backends(self, but: Sequence[str]) -> None:
        self.rows = {id_: row for id_, row in self.rows.items() if row.backend in but}
        self._reports = {name: report for name, report in self._reports.items() if name in but}

    # ---- the pages' side ----

    def within(self, scope: Scope) -> FakeInventory:
        part = FakeInventory()
        part.rows = {id_: row for id_, row in self.rows.items() if in_scope(scope, row.backend, row.key)}
        part._reports = {name: told for name, told in self._reports.items() if prefixes_of(scope, name)}
        part._generation = self._generation
        return self if EVERYTHING in scope else part

    def generation(self) -> int:
        return self._generation

    def _listed(self) -> list[StateRow]:
        return sorted(self.rows.values(), key=lambda row: (row.rank, row.key, row.id))

    def page(self, query: Query) -> Page:
        found = [_line(row) for row in self.export(query)]
        return Page(found[: query.limit], "", "", len(found))

    def counts(self) -> Mapping[str, int]:
        return {view: sum(1 for _ in self.export(Query(view=view))) for view in VIEWS}

    def statuses(self) -> Mapping[str, int]:
        told = [status for row in self.rows.values() for status in (row.content, row.lock)]
        return {status: told.count(status) for status in told}

    def changed_since(self, generation: int, query: Query) -> int:
        return len(self.rows) if generation < self._generation else 0

    def state(self, state_id: str) -> StateRow | None:
        return self.rows.get(state_id)

    def neighbours(self, state_id: str, query: Query) -> tuple[str, str]:
        ids = ["", *(row.id for row in self.export(query)), ""]
        if state_id not in ids:
            return "", ""
        at = ids.index(state_id)
        return ids[at - 1], ids[at + 1]

    def export(self, query: Query) -> Iterator[StateRow]:
        worst = {"attention": Severity.UNKNOWN.rank}.get(query.view, len(Severity))
        return (row for row in self._listed() if row.rank <= worst)

    def held(self, limit: int) -> Sequence[ListRow]:
        return [_line(row) for row in self._listed() if row.locked_since is not None][:limit]

    def locks_of(self, holder: str, but: str) -> int:
        return sum(1 for row in self.rows.values() if row.holder == holder and row.id != but)

    def find(
        self, *, ids: Sequence[str] = (), exact: str = "", fragment: str = "", limit: int = 20
    ) -> Sequence[ListRow]:
        return [_line(row) for row in self._listed() if row.id in ids or row.key == exact][:limit]

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        told = [
            (changes.report.attempted_at, row.content, row.lock, row.holder)
            for changes in reversed(self.writes)
            for row in changes.put
            if row.id == state_id
        ]
        return told[:limit]

    def reports(self) -> Sequence[BackendReport]:
        return list(self._reports.values())

    def put(self, row: StateRow) -> int:
        self._check(row)
        self.rows[row.id] = row
        self._generation += 1
        return self._generation


def _line(row: StateRow) -> ListRow:
    return ListRow(*(getattr(row, name) for name in ListRow._fields))


# ---- a team at work ----------------------------------------------------------


def state_body(serial: int = 1, *, resources: int = 2, lineage: str = "one", note: str = "") -> bytes:
    """A state as Terraform writes it, with so many instances and a secret in an output."""
    instances = [{"schema_version": 0, "attributes": {"id": str(number)}} for number in range(resources)]
    resource = {
        "mode": "managed",
        "type": "null_resource",
        "name": "r",
        "provider": "p",
        "instances": instances,
    }
    whole = {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": serial,
        "lineage": lineage,
        "outputs": {"secret": {"value": f"hunter2{note}", "type": "string"}},
        "resources": [resource] if resources else [],
        "check_results": None,
    }
    return json.dumps(whole, indent=2).encode()


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def info_json(
    id: str, path: str, at: datetime, operation: str = "OperationTypeApply", who: str = "root@ci"
) -> str:
    """LockInfo as Go writes it."""
    fields = {"ID": id, "Operation": operation, "Info": "", "Who": who, "Version": "1.11.4"}
    return json.dumps(
        {**fields, "Created": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "Path": path}, separators=(",", ":")
    )


@dataclass
class Estate:
    """One backend and everything around it. Its verbs are those of people who work with Terraform."""

    clock: FakeClock = field(default_factory=FakeClock)
    versioned: bool = True
    kms: bool = False
    has_table: bool = True
    prefix: str = ""
    name: str = "dev"
    policy: Policy = field(default_factory=Policy)
    include: Sequence[str] = ("*.tfstate",)
    sweep_every: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        self.bucket = FakeBucket(self.clock, versioned=self.versioned, kms=self.kms)
        self.table = FakeTable()
        self.inventory = FakeInventory()
        matches = matcher(self.include)
        self.backend = Backend(
            self.name,
            "b",
            "eu-west-1",
            "locks" if self.has_table else None,
            self.prefix,
            matches,
            lambda key: self.policy,
            sweep_every=self.sweep_every,
        )
        self.refresher = self.restarted()

    def restarted(self, inventory: FakeInventory | None = None) -> Refresher:
        """A new process on the same inventory."""
        table = self.table if self.has_table else None
        return Refresher(
            self.backend, self.bucket, table, inventory or self.inventory, self.clock, self.clock.monotonic
        )

    # ---- deeds ----

    def apply(self, key: str, serial: int = 1, *, digest: bool = True, **more: object) -> bytes:
        """Write a state and its digest."""
        body = state_body(serial, **more)  # type: ignore[arg-type]
        self.bucket.put(key, body)
        if digest and self.has_table:
            self.set_digest(key, md5(body))
        return body

    def set_digest(self, key: str, value: object) -> None:
        self.table.put(digest_id("b", key), digest=value)

    def drop_digest(self, key: str) -> None:
        self.table.items.pop(digest_id("b", key), None)

    def lock(
        self,
        key: str,
        id: str = "id-1",
        *,
        table: bool = True,
        file: bool = False,
        ago: float = 0,
        **more: str,
    ) -> None:
        info = info_json(id, lock_id("b", key), self.clock() - timedelta(seconds=ago), **more)
        if file:
            self.bucket.put(key + LOCKFILE_SUFFIX, info.encode())
        if table:
            self.table.put(lock_id("b", key), info=info)

    def unlock(self, key: str) -> None:
        self.table.items.pop(lock_id("b", key), None)
        if self.bucket.current(key + LOCKFILE_SUFFIX):
            self.bucket.delete(key + LOCKFILE_SUFFIX)

    # ---- looks ----

    def refresh(self, after: float = 0) -> BackendReport:
        """Let time pass, then refresh."""
        self.clock.pass_(after)
        return self.refresher.refresh()

    def settled(self) -> BackendReport:
        """Refresh, and again once everything that was open can be decided."""
        self.refresh()
        return self.refresh(after=16)

    def row(self, key: str) -> StateRow:
        (found,) = [row for row in self.inventory.rows.values() if row.document["raw_key"] == key]
        return found

    def verdicts(self) -> dict[str, tuple[str, str, str]]:
        """Raw key to content, lock and terraform."""
        rows = self.inventory.rows.values()
        return {str(row.document["raw_key"]): (row.content, row.lock, row.terraform) for row in rows}

    def written(self) -> int:
        """Rows put or dropped by the last transaction."""
        last = self.inventory.writes[-1]
        return len(last.put) + len(last.drop)
