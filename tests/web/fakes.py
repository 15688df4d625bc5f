"""A store and an estate for the pages' tests: real verdicts on made-up observations, kept in lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from flask import Flask
from flask.testing import FlaskClient

from lockboard.domain.areas import EVERYTHING, Scope, in_scope, prefixes_of
from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest, parse_digest
from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import (
    VIEWS,
    BackendReport,
    ListRow,
    Page,
    Query,
    StateRow,
    displayed,
    in_view,
)
from lockboard.domain.locks import Lock, lock_from_file, lock_from_item
from lockboard.domain.model import Backend, History, Observation, Policy, StateObject, Unread, Version
from lockboard.services.memo import Memo
from lockboard.services.rows import judge
from lockboard.web.app import Services, SettingLine, build_app
from lockboard.web.security import LOOPBACK
from tests.web.entrances import always, with_own_forms

NOW = datetime(2026, 11, 20, 18, 0, 0, tzinfo=UTC)
LINEAGE = "3f8c1c1e-6d0a-4b7e-9c55-0a1b2c3d4e5f"
UUID = "6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" hx-get='/x' style=x & 'q'"
HOSTILE_KEY = f'a/{HOSTILE}/"q"&odd?#%.tfstate'


def backend(
    name: str, bucket: str, table: str | None = "terraform-lock", stale: timedelta = timedelta(hours=1)
) -> Backend:
    return Backend(
        name=name,
        bucket=bucket,
        region="ap-northeast-2",
        table=table,
        prefix="",
        state_key=lambda key: key.endswith(".tfstate"),
        policy_for=lambda key: Policy(stale_after=stale, protected=key.startswith("Prod/")),
    )


BACKENDS = {
    found.name: found
    for found in (
        backend("dev-kr", "acme-dev-kr-tfstate"),
        backend("prod-kr", "acme-prod-kr-tfstate"),
        backend("dev-us", "acme-dev-us-tfstate", table=None),
    )
}


@dataclass
class Story:
    """What was seen of one key; `ago` is how long before NOW something happened."""

    backend: str
    key: str
    serial: int | None = 12
    md5: str = "1a2b3c4d5e6f708192a3b4c5d6e7f809"
    digest: str | None = "same"
    written: timedelta = timedelta(days=2, hours=3)
    who: str = ""
    held: timedelta = timedelta(minutes=6)
    info: str | None = None
    tflock: bool = False
    table_lock: bool = True
    state: str = "there"
    older: Sequence[tuple[str, int]] = ()
    kind: BodyKind = BodyKind.STATE
    unread: str = ""
    settled: bool = True
    extra: Mapping[str, object] = field(default_factory=dict)

    def seen(self) -> Observation:
        place = BACKENDS[self.backend]
        return Observation(
            backend=self.backend,
            bucket=place.bucket,
            key=self.key,
            state=self._state(),
            digest=self._digest(),
            table_lock=self._table_lock(),
            file_lock=self._file_lock(),
            has_table=place.table is not None,
            history=self._history(),
            mismatch_since=NOW - timedelta(hours=1) if self.settled else None,
            locks_since=NOW - timedelta(hours=1) if self.settled else None,
        )

    def row(self) -> StateRow:
        place = BACKENDS[self.backend]
        found, _ = judge(self.seen(), Memo(), place, NOW, f"print-{self.backend}-{self.key}")
        return replace(found, document={**found.document, **self.extra})

    def _body(self) -> Body:
        problem = "it ends in the middle" if self.kind is BodyKind.BROKEN else None
        return Body(self.md5, 5321, self.kind, problem, 4, self.serial, LINEAGE, "1.11.4", 37)

    def _state(self) -> StateObject | None | Unread:
        if self.unread:
            return Unread(self.unread, "AccessDenied", denied=True)
        if self.state == "gone":
            return None
        size = 0 if self.state == "empty" else 5321
        return StateObject(
            self.md5, size, NOW - self.written, "v-current", body=self._body() if size else None
        )

    def _digest(self) -> Digest | None:
        if self.digest is None or BACKENDS[self.backend].table is None:
            return None
        return parse_digest({"S": self.md5 if self.digest == "same" else self.digest})

    def _text(self) -> str:
        if self.info is not None:
            return self.info
        place = BACKENDS[self.backend]
        return json.dumps(
            {
                "ID": UUID,
                "Operation": "OperationTypeApply",
                "Info": "",
                "Who": self.who,
                "Version": "1.11.4",
                "Created": (NOW - self.held).isoformat().replace("+00:00", "Z"),
                "Path": f"{place.bucket}/{self.key}",
            }
        )

    def _table_lock(self) -> Lock | None:
        locked = (self.who or self.info is not None) and self.table_lock and BACKENDS[self.backend].table
        return lock_from_item({"S": self._text()}) if locked else None

    def _file_lock(self) -> Lock | None:
        locked = (self.who or self.info is not None) and self.tflock
        return (
            lock_from_file(self._text().encode("utf-8", "replace"), NOW - self.held, "e", "lv")
            if locked
            else None
        )

    def _history(self) -> History | None:
        if not self.older and self.state == "there":
            return None
        versions = []
        if self.state == "gone":
            versions.append(Version("marker-1", NOW - timedelta(hours=2), delete_marker=True, latest=True))
        for number, (md5, serial) in enumerate(self.older):
            body = Body(md5, 5300, BodyKind.STATE, None, 4, serial, LINEAGE, "1.11.4", 36)
            versions.append(
                Version(f"v-{number}", NOW - timedelta(days=number + 1), etag=md5, size=5300, body=body)
            )
        return History(tuple(versions))


OLD = "fad67a84f7ddef1a9de62c85afc3b70a"
STORIES = (
    Story(
        "prod-kr",
        "Prod/terraform/rds/terraform.tfstate",
        digest=OLD,
        state="gone",
        older=((OLD, 41), ("b" * 32, 40)),
    ),
    Story("dev-us", "search/terraform.tfstate", state="gone", older=((OLD, 9),)),
    Story("dev-us", "queue/terraform.tfstate", state="empty", older=((OLD, 9),)),
    Story(
        "prod-kr",
        "Prod/terraform/iam/terraform.tfstate",
        digest=OLD,
        older=((OLD, 11),),
        who="root@runner-t3qyxf-project-7120-concurrent-0",
        held=timedelta(hours=7, minutes=12),
        written=timedelta(hours=7),
    ),
    Story("prod-kr", "payments/ledger/terraform.tfstate", serial=10, digest=OLD, older=((OLD, 14),)),
    Story("prod-kr", "cdn/edge.tfstate", digest=OLD, older=((OLD, 12),)),
    Story("prod-kr", "monitoring/grafana.tfstate", digest="0" * 32),
    Story("dev-kr", "Dev/terraform/rds/terraform.tfstate", digest=OLD, state="gone"),
    Story("dev-kr", "migrated/terraform.tfstate", digest='"quoted"'),
    Story("dev-us", "mail/terraform.tfstate", kind=BodyKind.BROKEN, older=((OLD, 9),)),
    Story("prod-kr", "archive/2023/kms.tfstate", unread="access denied to the object (s3:GetObject)"),
    Story("dev-kr", "batch/remote", who="ubuntu@ip-172-31-2-133", held=timedelta(days=4, hours=3)),
    Story("prod-kr", "결제/원장.tfstate", who="jiwoo@Jiwoo-MacBookPro.local", held=timedelta(days=9)),
    Story(
        "prod-kr",
        "remote",
        who="atlantis@atlantis-0",
        held=timedelta(minutes=33),
        tflock=True,
        table_lock=False,
    ),
    Story("dev-us", "tools/jenkins.tfstate", info="not a lock record", tflock=True, held=timedelta(hours=9)),
    Story(
        "dev-us",
        "env:/pr-502/app.tfstate",
        state="gone",
        who="runner@fv-az881-525",
        held=timedelta(days=1, hours=2),
        tflock=True,
    ),
    Story("dev-kr", HOSTILE_KEY, who=f"{HOSTILE}\u202egpj.exe\x1b[31m", held=timedelta(days=2)),
    Story(
        "prod-kr",
        "Prod/terraform/eks/terraform.tfstate",
        who="runner@fv-az1113-87",
        held=timedelta(minutes=9),
        written=timedelta(minutes=2),
    ),
    Story(
        "dev-kr",
        "Dev/terraform/eks/terraform.tfstate",
        who="minji@Minji-ThinkPad",
        held=timedelta(minutes=12),
    ),
    Story(
        "prod-kr",
        "server/terraform.tfstate",
        who="root@ip-10-91-17-147.ap-northeast-2.compute.internal",
        held=timedelta(minutes=3),
    ),
    Story(
        "prod-kr", "payments/api/terraform.tfstate", digest=OLD, settled=False, written=timedelta(seconds=4)
    ),
    Story("dev-us", "network/terraform.tfstate", written=timedelta(days=61)),
    Story("dev-us", "env:/staging/app.tfstate", written=timedelta(days=430)),
    Story("dev-kr", "Dev/terraform/iam/terraform.tfstate"),
    Story("dev-kr", "Dev/terraform/vpc/terraform.tfstate", written=timedelta(minutes=44)),
    Story("dev-kr", "개발/네트워크.tfstate", written=timedelta(hours=20)),
    Story("prod-kr", "Prod/terraform/vpc/terraform.tfstate", written=timedelta(days=12)),
    Story("prod-kr", "app.tfstate", written=timedelta(days=3)),
    Story("prod-kr", "env:/staging/app.tfstate", written=timedelta(days=5)),
)


def estate() -> list[StateRow]:
    return list(_estate())


@cache
def _estate() -> tuple[StateRow, ...]:
    return tuple(story.row() for story in STORIES)


def report(name: str, **changes: object) -> BackendReport:
    place = BACKENDS[name]
    fine = BackendReport(
        backend=name,
        bucket=place.bucket,
        region=place.region,
        table=place.table,
        attempted_at=NOW - timedelta(seconds=8),
        data_at=NOW - timedelta(seconds=8),
        complete=True,
        states=10,
        foreign_items=2,
        requests={"list": 1, "scan": 1, "get": 2, "versions": 0, "other": 0},
        sweep_requests=1,
        duration_seconds=0.412,
        rows_written=1,
        versioning="enabled",
        clock_skew_seconds=0.2,
        swept_at=NOW - timedelta(minutes=21),
    )
    return replace(fine, **changes)  # type: ignore[arg-type]


class FakeBoard:
    """`Board` in memory. `broken`: every call raises StoreError. `calls` counts them by name."""

    def __init__(self, rows: Sequence[StateRow], reports: Sequence[BackendReport]) -> None:
        self.rows = {row.id: row for row in rows}
        self.changed: dict[str, int] = {}
        self.said = list(reports)
        self.number = 7
        self.broken = False
        self.calls: Counter[str] = Counter()
        self.history: dict[str, list[tuple[datetime, str, str, str]]] = {}

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.broken:
            raise StoreError("the database is locked")

    def within(self, scope: Scope) -> FakeBoard:
        return self if EVERYTHING in scope else PartOfBoard(self, displayed(scope))

    def generation(self) -> int:
        self._called("generation")
        return self.number

    def page(self, query: Query) -> Page:
        self._called("page")
        found = self._matching(query)
        before, start = (
            query.after.startswith("b"),
            int(query.after[1:] or 0) if query.after[1:].isdigit() else 0,
        )
        start = max(0, start - query.limit) if before else start
        part = found[start : start + query.limit]
        end = start + len(part)
        return Page(
            [_listed(row) for row in part],
            f"n{end}" if end < len(found) else "",
            f"b{start}" if start else "",
            len(found),
        )

    def counts(self) -> Mapping[str, int]:
        self._called("counts")
        return {view: sum(_in(view, row) for row in self.rows.values()) for view in VIEWS}

    def statuses(self) -> Mapping[str, int]:
        self._called("statuses")
        return Counter(status for row in self.rows.values() for status in {row.content, row.lock})

    def changed_since(self, generation: int, query: Query) -> int:
        self._called("changed_since")
        return sum(self.changed.get(row.id, 0) > generation for row in self._matching(query))

    def state(self, state_id: str) -> StateRow | None:
        self._called("state")
        return self.rows.get(state_id)

    def neighbours(self, state_id: str, query: Query) -> tuple[str, str]:
        self._called("neighbours")
        ids = [row.id for row in self._matching(query)]
        if state_id not in ids:
            return "", ""
        at = ids.index(state_id)
        return ids[at - 1] if at else "", ids[at + 1] if at + 1 < len(ids) else ""

    def export(self, query: Query) -> Iterator[StateRow]:
        self._called("export")
        yield from self._matching(query)

    def held(self, limit: int) -> Sequence[ListRow]:
        self._called("held")
        held = [row for row in self.rows.values() if row.locked_since is not None]
        return [_listed(row) for row in sorted(held, key=lambda row: row.locked_since or 0)][:limit]

    def locks_of(self, holder: str, but: str) -> int:
        self._called("locks_of")
        return sum(row.holder == holder and row.id != but for row in self.rows.values())

    def find(
        self, *, ids: Sequence[str] = (), exact: str = "", fragment: str = "", limit: int = 20
    ) -> Sequence[ListRow]:
        self._called("find")
        found = [row for row in self.rows.values() if row.id in ids or (exact and exact in _names(row))]
        if not found and fragment:
            found = [
                row
                for row in self.rows.values()
                if all(word in row.search for word in fragment.lower().split())
            ]
        return [_listed(row) for row in sorted(found, key=lambda row: (row.rank, row.key))[:limit]]

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        self._called("timeline")
        return self.history.get(state_id, [])[:limit]

    def reports(self) -> Sequence[BackendReport]:
        self._called("reports")
        return list(self.said)

    def put(self, row: StateRow) -> int:
        self._called("put")
        self.rows[row.id] = row
        self.number += 1
        self.changed[row.id] = self.number
        return self.number

    def _matching(self, query: Query) -> list[StateRow]:
        found = [row for row in self.rows.values() if _in(query.view, row) and _passes(query, row)]
        return sorted(found, key=lambda row: _order(query.sort, row), reverse=query.descending)


class PartOfBoard(FakeBoard):
    """Some keys of a `FakeBoard`; whatever is done to the whole one shows here, too."""

    def __init__(self, whole: FakeBoard, scope: Scope) -> None:
        self.whole, self.scope = whole, scope

    def __getattr__(self, name: str) -> object:
        found = getattr(self.whole, name)
        if name != "rows":
            return found
        return {id_: row for id_, row in found.items() if in_scope(self.scope, row.backend, row.key)}

    def timeline(self, state_id: str, limit: int = 50) -> Sequence[tuple[datetime, str, str, str]]:
        return super().timeline(state_id, limit) if state_id in self.rows else []

    def reports(self) -> Sequence[BackendReport]:
        found = [(report, prefixes_of(self.scope, report.backend)) for report in self.whole.reports()]
        shown = Counter(row.backend for row in self.rows.values())
        return [
            report
            if prefixes == ("",)
            else replace(report, states=shown[report.backend], foreign_items=0, requests={})
            for report, prefixes in found
            if prefixes
        ]

    def put(self, row: StateRow) -> int:
        return self.whole.put(row)


def _in(view: str, row: StateRow) -> bool:
    return in_view(view, row.rank, row.content, row.lock)


def _passes(query: Query, row: StateRow) -> bool:
    return (
        query.status in ("", row.content, row.lock)
        and query.backend in ("", row.backend)
        and row.key.startswith(query.prefix)
        and query.holder in ("", row.holder)
        and (query.older_than is None or (row.locked_since or 1e18) < query.older_than.timestamp())
        and all(word in row.search for word in query.text.lower().split())
    )


def _order(sort: str, row: StateRow) -> tuple[object, ...]:
    keys = {
        "severity": row.rank,
        "locked": row.locked_since if row.locked_since is not None else 1e18,
        "key": row.key,
        "modified": -(row.modified or 0),
    }
    return keys[sort], row.key, row.id


def _names(row: StateRow) -> set[str]:
    ids = {str(lock.get("id")) for lock in row.document.get("locks", ()) if isinstance(lock, Mapping)}  # type: ignore[attr-defined]
    return {row.key, row.holder, row.digest, *ids}


def _listed(row: StateRow) -> ListRow:
    return ListRow(*(getattr(row, name) for name in ListRow._fields))


class Recheck:
    """Answers as told: an error to raise, or the row stored anew."""

    def __init__(self, board: FakeBoard) -> None:
        self.board, self.error, self.asked = board, None, []  # type: ignore[var-annotated]

    def __call__(self, name: str, state_id: str) -> StateRow:
        self.asked.append((name, state_id))
        if self.error is not None:
            raise self.error
        row = self.board.rows[state_id]
        fresh = replace(row, document={**row.document, "rechecked_at": "2026-11-20T18:00:00Z"})
        self.board.put(fresh)
        return fresh


class Ticking:
    """A clock, or a monotonic count of seconds, that moves when told."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at, self.seconds = at, 0.0

    def __call__(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


SETTINGS = (
    SettingLine("database.url", "sqlite:////var/lib/lockboard/lockboard.db", "file"),
    SettingLine("secret_key", "••••••••", "environment"),
    SettingLine("backends[0].stale_after", "1h", "default"),
)


@dataclass
class Web:
    """The application over fakes, with the handles a test turns."""

    board: FakeBoard
    clock: Ticking
    recheck: Recheck
    app: Flask

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()


def web(
    rows: Sequence[StateRow] | None = None,
    reports: Sequence[BackendReport] | None = None,
    backends: Mapping[str, Backend] = BACKENDS,
    hosts: Sequence[str] = LOOPBACK,
    settings: Sequence[SettingLine] = SETTINGS,
) -> Web:
    board = FakeBoard(
        estate() if rows is None else rows,
        [report(name) for name in backends] if reports is None else reports,
    )
    clock, recheck = Ticking(), Recheck(board)
    door = always(clock=clock)
    services = Services(
        board, backends, recheck, settings, clock, timedelta(seconds=15), "0.1.0", door, limited=False
    )
    app = build_app(services, trusted_hosts=hosts, monotonic=clock.monotonic)
    return Web(board, clock, recheck, with_own_forms(app))
