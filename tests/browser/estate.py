"""Made-up estates for the browser: what was observed is invented here, the verdicts are the real domain's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest, parse_digest
from lockboard.domain.inventory import BackendReport, StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.locks import Lock, lock_from_file, lock_from_item
from lockboard.domain.model import Backend, History, Observation, Policy, StateObject, Unread, Version
from lockboard.services.memo import Memo
from lockboard.services.rows import judge

NOW = datetime(2026, 11, 20, 18, 0, 0, tzinfo=UTC)
LINEAGE = "3f8c1c1e-6d0a-4b7e-9c55-0a1b2c3d4e5f"
FOREIGN_LINEAGE = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def md5(name: str) -> str:
    return hashlib.md5(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def uuid(name: str) -> str:
    """A lock's own ID, the same for the same name."""
    text = md5(name)
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _backend(name: str, bucket: str, table: str | None) -> Backend:
    return Backend(
        name=name,
        bucket=bucket,
        region="ap-northeast-2",
        table=table,
        prefix="",
        state_key=lambda key: key.endswith(".tfstate"),
        policy_for=lambda key: Policy(stale_after=HOUR, protected=key.startswith("Prod/")),
    )


BACKENDS = {
    backend.name: backend
    for backend in (
        _backend("dev-kr", "acme-dev-kr-tfstate", "terraform-lock"),
        _backend("prod-kr", "acme-prod-kr-tfstate", "terraform-lock"),
        _backend("tools", "acme-tools-tfstate", None),
    )
}


def report(backend: str, **changes: object) -> BackendReport:
    """A refresh that went well 8 s before NOW, but for the changes."""
    place = BACKENDS[backend]
    well = BackendReport(
        backend=backend,
        bucket=place.bucket,
        region=place.region,
        table=place.table,
        attempted_at=NOW - timedelta(seconds=8),
        data_at=NOW - timedelta(seconds=8),
        complete=True,
        states=20,
        foreign_items=2,
        requests={"list": 1, "scan": 1, "get": 2, "versions": 0, "other": 0},
        sweep_requests=1,
        duration_seconds=0.412,
        versioning="enabled",
        clock_skew_seconds=0.2,
        swept_at=NOW - timedelta(minutes=21),
    )
    return replace(well, **changes)  # type: ignore[arg-type]


def body(name: str, serial: int = 12, lineage: str = LINEAGE, kind: BodyKind = BodyKind.STATE) -> Body:
    problem = "it ends in the middle of a string" if kind is BodyKind.BROKEN else None
    return Body(md5(name), 5321, kind, problem, 4, serial, lineage, "1.11.4", 37)


def stored(
    name: str, *, ago: timedelta = 2 * DAY, serial: int = 12, kind: BodyKind = BodyKind.STATE
) -> StateObject:
    """A current object whose bytes are named: equal names have equal MD5s."""
    return StateObject(md5(name), 5321, NOW - ago, "v-current", body=body(name, serial, kind=kind))


def past(*versions: tuple[str, int], deleted: bool = False, lineage: str = LINEAGE) -> History:
    """Older versions (name, serial), newest first, a day apart; `deleted` puts a delete marker on top."""
    marker = [Version("marker", NOW - 2 * HOUR, delete_marker=True, latest=True)] if deleted else []
    older = [
        Version(
            f"v-{serial}", NOW - DAY * (n + 1), etag=md5(name), size=5300, body=body(name, serial, lineage)
        )
        for n, (name, serial) in enumerate(versions)
    ]
    return History((*marker, *older))


def record(
    key: str, who: str, held: timedelta, *, name: str = "", operation: str = "OperationTypeApply"
) -> str:
    """The JSON of a lock as Terraform writes it."""
    return json.dumps(
        {
            "ID": name or uuid(key),
            "Operation": operation,
            "Info": "",
            "Who": who,
            "Version": "1.11.4",
            "Created": (NOW - held).isoformat().replace("+00:00", "Z"),
            "Path": key,
        }
    )


_SAME = stored("same")


@dataclass(frozen=True)
class Seen:
    """What one refresh saw of one key; what is not said is well."""

    backend: str
    key: str
    state: StateObject | None | Unread = _SAME
    digest: str | None | Unread = "same"
    item: str | None | Unread = None
    file: tuple[str, timedelta] | None = None
    history: History | Unread | None = None
    settled: bool = True
    sibling: str | None = None
    fingerprint: str = "first"

    def observed(self) -> Observation:
        place = BACKENDS[self.backend]
        early = NOW - HOUR if self.settled else None
        return Observation(
            backend=self.backend,
            bucket=place.bucket,
            key=self.key,
            state=self.state,
            digest=self._digest(),
            table_lock=self._item(),
            file_lock=self._file(),
            has_table=place.table is not None,
            history=self.history,
            sibling=self.sibling,
            mismatch_since=early,
            locks_since=early,
        )

    def row(self, now: datetime = NOW) -> StateRow:
        place = BACKENDS[self.backend]
        return judge(self.observed(), Memo(), place, now, f"{self.fingerprint} {self.key!r}")[0]

    @property
    def id(self) -> str:
        return state_id(self.backend, self.key)

    def _digest(self) -> Digest | None | Unread:
        if not isinstance(self.digest, str):
            return self.digest
        if BACKENDS[self.backend].table is None:
            return None
        return parse_digest({"S": self.digest if self.digest.startswith("'") else md5(self.digest)})

    def _item(self) -> Lock | None | Unread:
        return lock_from_item({"S": self.item}) if isinstance(self.item, str) else self.item

    def _file(self) -> Lock | None:
        if self.file is None:
            return None
        text, held = self.file
        return lock_from_file(text.encode("utf-8", "replace"), NOW - held, "etag", "lock-version")


def held(backend: str, key: str, who: str, for_: timedelta, **more: object) -> Seen:
    """A healthy state under a lock in the table."""
    return Seen(backend, key, item=record(key, who, for_), **more)  # type: ignore[arg-type]


DELETED = Seen(
    "prod-kr",
    "Prod/terraform/rds/terraform.tfstate",
    state=None,
    digest="old",
    history=past(("old", 41), ("older", 40), deleted=True),
)
STALE = held("dev-kr", "batch/remote", "ubuntu@ip-172-31-2-133", 4 * DAY + 3 * HOUR)
FINE = Seen("dev-kr", "Dev/terraform/vpc/terraform.tfstate", state=stored("same", ago=timedelta(minutes=44)))
RUNNER = "runner@fv-az1113-87"
BUSY = held(
    "prod-kr",
    "Prod/terraform/eks/terraform.tfstate",
    RUNNER,
    timedelta(minutes=9),
    state=stored("same", ago=timedelta(minutes=2)),
)

_DENIED = Unread("access denied to the object (s3:GetObject)", "AccessDenied", denied=True)
_SLOW = Unread("the service asked to slow down", "SlowDown")

EVERY_STATUS: Sequence[Seen] = (
    DELETED,
    Seen(
        "prod-kr",
        "Prod/terraform/dns/terraform.tfstate",
        state=None,
        digest="old",
        history=past(("last", 8), ("old", 7), deleted=True),
    ),
    Seen("dev-kr", "Dev/terraform/rds/terraform.tfstate", state=None, digest="old", history=History()),
    Seen(
        "tools", "search/terraform.tfstate", state=None, digest=None, history=past(("old", 9), deleted=True)
    ),
    Seen(
        "prod-kr",
        "Prod/terraform/iam/terraform.tfstate",
        state=stored("new", ago=7 * HOUR, serial=12),
        digest="old",
        history=past(("old", 11)),
        item=record("Prod/terraform/iam/terraform.tfstate", "root@runner-t3qyxf-0", 7.2 * HOUR),
    ),
    Seen(
        "prod-kr",
        "mail/behind.tfstate",
        state=stored("new", serial=12),
        digest="old",
        history=past(("old", 11)),
    ),
    Seen(
        "prod-kr",
        "payments/ledger/terraform.tfstate",
        state=stored("new", serial=10),
        digest="old",
        history=past(("old", 14)),
    ),
    Seen(
        "prod-kr",
        "cdn/edge.tfstate",
        state=stored("new", serial=12),
        digest="old",
        history=past(("old", 12), lineage=FOREIGN_LINEAGE),
    ),
    Seen(
        "prod-kr", "monitoring/grafana.tfstate", state=stored("new"), digest="old", history=past(("else", 3))
    ),
    Seen(
        "tools",
        "queue/terraform.tfstate",
        state=StateObject(md5(""), 0, NOW - DAY, "v-current"),
        digest=None,
        history=past(("old", 9)),
    ),
    Seen("tools", "mail/terraform.tfstate", state=stored("cut", kind=BodyKind.BROKEN), digest=None),
    Seen("prod-kr", "archive/2023/kms.tfstate", state=_DENIED),
    Seen("prod-kr", "archive/2024/kms.tfstate", state=_SLOW),
    Seen("dev-kr", "migrated/terraform.tfstate", digest="'quoted'"),
    Seen("dev-kr", "legacy/terraform.tfstate", digest=None),
    Seen(
        "prod-kr",
        "payments/api/terraform.tfstate",
        state=stored("new", ago=timedelta(seconds=4)),
        digest="old",
        settled=False,
    ),
    STALE,
    held("prod-kr", "결제/원장.tfstate", "jiwoo@Jiwoo-MacBookPro.local", 9 * DAY),
    Seen(
        "prod-kr",
        "remote",
        file=(record("remote", "atlantis@atlantis-0", timedelta(minutes=33)), timedelta(minutes=33)),
    ),
    Seen(
        "dev-kr",
        "edge/split.tfstate",
        item=record("edge/split.tfstate", "ci@old-runner", 3 * HOUR),
        file=(
            record("edge/split.tfstate", "ci@new-runner", 2 * HOUR, name=uuid("another")),
            2 * HOUR,
        ),
    ),
    Seen("dev-kr", "tools/jenkins.tfstate", item="not a lock record"),
    Seen(
        "dev-kr",
        "env:/pr-502/app.tfstate",
        state=None,
        digest=None,
        item=record("env:/pr-502/app.tfstate", "runner@fv-az881-525", 26 * HOUR),
        history=History(),
    ),
    Seen("dev-kr", "twins/a.tfstate-md5", sibling="twins/a.tfstate"),
    Seen(
        "dev-kr",
        "repair/terraform.tfstate",
        item=record("repair/terraform.tfstate", "lockboard@ops", DAY, operation="lockboard-set-digest"),
    ),
    Seen("prod-kr", "unread/lock.tfstate", item=_SLOW),
    BUSY,
    held("dev-kr", "Dev/terraform/eks/terraform.tfstate", "minji@Minji-ThinkPad", timedelta(minutes=12)),
    held("prod-kr", "server/terraform.tfstate", "root@ip-10-91-17-147.ec2.internal", timedelta(minutes=3)),
    Seen("tools", "network/terraform.tfstate", state=stored("same", ago=61 * DAY), digest=None),
    FINE,
    Seen("dev-kr", "Dev/terraform/iam/terraform.tfstate"),
    Seen("dev-kr", "개발/네트워크.tfstate", state=stored("same", ago=20 * HOUR)),
    Seen("prod-kr", "Prod/terraform/vpc/terraform.tfstate", state=stored("same", ago=12 * DAY)),
)
"""Every content and every lock status at least once."""
