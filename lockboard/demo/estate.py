"""The demo's estate: four clusters of invented state keys, among them every status that Lockboard knows.

`ROWS` is the whole truth: the seeding builds each key from its row's content and lock, and the tests compare
what Lockboard says with the same row. `settling` alone has no row, because it lasts seconds; the team makes
it in passing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from lockboard.demo import bodies

Item = Mapping[str, Mapping[str, object]]
"""A DynamoDB item as the service's JSON has it: attribute name to `{type letter: value}`."""

HOSTILE_HOLDER = "<script>alert(1)</script>\u202egpj.exe\ud800\x1b[31m@<img src=x onerror=alert(2)>"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One backend. `table` is None where only `.tflock` is used; `lockfile` is whether `.tflock` is used at
    all.
    """

    name: str
    region: str
    bucket: str
    table: str | None
    lockfile: bool
    versioned: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One state key and what is wrong with it.

    `variant` chooses among the ways a status comes about; `team` marks the keys that the demo's team works
    on.
    """

    backend: str
    key: str
    content: str = "ok"
    lock: str = "unlocked"
    variant: str = ""
    team: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; `body` None is a delete marker. `etag` None is the MD5 of the body."""

    version_id: str
    at: datetime
    body: bytes | None
    etag: str | None = None
    storage_class: str = "STANDARD"


@dataclass(frozen=True, slots=True)
class Estate:
    """What fills the emulator. `objects`: bucket to key to versions, oldest first; `items`: table to its
    items.
    """

    clusters: tuple[Cluster, ...]
    objects: Mapping[str, Mapping[str, tuple[Version, ...]]]
    items: Mapping[str, tuple[Item, ...]]


SHARED_TABLE = "terraform-lock"
FOREIGN_BUCKET = "acme-legacy-tfstate"
"""A bucket that is no backend of the demo, with items in the shared table."""

CLUSTERS = (
    Cluster("dev-kr", "ap-northeast-2", "acme-dev-kr-tfstate", SHARED_TABLE, lockfile=False, versioned=False),
    Cluster("prod-kr", "ap-northeast-2", "acme-prod-kr-tfstate", "acme-prod-kr-tflock", lockfile=True),
    Cluster("dev-us", "us-west-2", "acme-dev-us-tfstate", None, lockfile=True),
    Cluster("prod-us", "us-west-2", "acme-prod-us-tfstate", "tf-state-locks", lockfile=False),
)
ROWS = (
    Row("dev-kr", "Dev/terraform/iam/terraform.tfstate"),
    Row("dev-kr", "Dev/terraform/vpc/terraform.tfstate", team=True),
    Row("dev-kr", "Dev/terraform/eks/terraform.tfstate", lock="locked"),
    Row("dev-kr", "Dev/terraform/rds/terraform.tfstate", "orphan_digest"),
    Row("dev-kr", "Dev/terraform/ecr/terraform.tfstate", "digest_unknown"),
    Row("dev-kr", "server/terraform.tfstate", team=True),
    Row("dev-kr", "remote"),
    Row("dev-kr", "batch/remote", lock="lock_stale"),
    Row("dev-kr", "개발/네트워크.tfstate"),
    Row("dev-kr", "scratch/minji/terraform.tfstate", "no_digest"),
    Row("dev-kr", 'scratch/it\'s "fine" & <b>bold</b>?.tfstate', lock="lock_stale", variant="hostile"),
    Row("dev-kr", "migrated/terraform.tfstate", "digest_ignored", variant="attribute_missing"),
    Row("prod-kr", "Prod/terraform/vpc/terraform.tfstate"),
    Row("prod-kr", "Prod/terraform/iam/terraform.tfstate", "digest_behind", "crashed_mid_write"),
    Row("prod-kr", "Prod/terraform/eks/terraform.tfstate", lock="locked_active"),
    Row("prod-kr", "Prod/terraform/rds/terraform.tfstate", "state_deleted"),
    Row("prod-kr", "Prod/terraform/route53/terraform.tfstate", team=True),
    Row("prod-kr", "server/terraform.tfstate", lock="locked"),
    Row("prod-kr", "remote", lock="lock_partial"),
    Row("prod-kr", "payments/api/terraform.tfstate", team=True),
    Row("prod-kr", "payments/ledger/terraform.tfstate", "state_rolled_back"),
    Row("prod-kr", "app.tfstate", team=True),
    Row("prod-kr", "env:/staging/app.tfstate"),
    Row("prod-kr", "env:/canary/app.tfstate", lock="lock_split"),
    Row("prod-kr", "결제/원장.tfstate", lock="lock_stale"),
    Row("prod-kr", "monitoring/grafana.tfstate", "digest_unknown"),
    Row("prod-kr", "cdn/edge.tfstate", "manual_edit"),
    Row("prod-kr", "archive/2023/kms.tfstate", "state_unreadable"),
    Row("prod-kr", "data/warehouse.tfstate", variant="kms"),
    Row("prod-kr", "data/lake.tfstate", lock="lockboard_orphan"),
    Row("dev-us", "network/terraform.tfstate", "no_digest", team=True),
    Row("dev-us", "eks/terraform.tfstate", "no_digest", team=True),
    Row("dev-us", "iam/terraform.tfstate", "no_digest"),
    Row("dev-us", "app.tfstate", "no_digest", team=True),
    Row("dev-us", "env:/staging/app.tfstate", "no_digest"),
    Row("dev-us", "env:/pr-481/app.tfstate", "no_digest", "lock_stale"),
    Row("dev-us", "env:/pr-488/app.tfstate", "no_digest", "locked"),
    Row("dev-us", "env:/pr-502/app.tfstate", "absent", "lock_orphan"),
    Row("dev-us", "search/terraform.tfstate", "state_deleted_unprotected"),
    Row("dev-us", "mail/terraform.tfstate", "state_corrupt", variant="truncated"),
    Row("dev-us", "queue/terraform.tfstate", "state_empty"),
    Row("dev-us", "vault/terraform.tfstate", "no_digest", variant="encrypted"),
    Row("dev-us", "tools/jenkins.tfstate", "no_digest", "lock_unreadable"),
    Row("dev-us", "load tests/k6+runner.tfstate", "no_digest"),
    Row("prod-us", "platform/network/terraform.tfstate", team=True),
    Row("prod-us", "platform/eks/terraform.tfstate", team=True),
    Row("prod-us", "platform/ledger", lock="key_collision"),
    Row("prod-us", "platform/ledger-md5", lock="key_collision"),
    Row("prod-us", "billing/terraform.tfstate", "digest_behind"),
    Row("prod-us", "search/terraform.tfstate", "state_deleted_ambiguous"),
    Row("prod-us", "web.tfstate", "digest_ignored", variant="quoted"),
    Row("prod-us", "env:/blue/web.tfstate"),
    Row("prod-us", "env:/green/web.tfstate", "state_deleted", "lock_orphan"),
    Row("prod-us", "auth/cognito.tfstate", "state_deleted_unprotected"),
    Row("prod-us", "legacy/vpc-peering.tfstate", "orphan_digest"),
    Row("prod-us", "tools/atlantis.tfstate", lock="lock_stale"),
    Row("prod-us", "tools/grafana.tfstate", lock="lock_unreadable"),
    Row("prod-us", "edge/waf.tfstate", "state_empty"),
    Row("prod-us", "batch/remote", "state_corrupt", variant="html"),
    Row("prod-us", "reports/quarterly run+totals.tfstate", team=True),
)


def cluster_of(name: str) -> Cluster:
    """The cluster of a backend's name; KeyError where there is none."""
    return {cluster.name: cluster for cluster in CLUSTERS}[name]


def build(now: datetime, seed: int = 1) -> Estate:
    """The estate as it stands at `now` (aware), the same for the same arguments. Nothing in it is later."""
    now = now.replace(microsecond=0)
    objects: dict[str, dict[str, tuple[Version, ...]]] = {cluster.bucket: {} for cluster in CLUSTERS}
    items: dict[str, list[Item]] = {cluster.table: [] for cluster in CLUSTERS if cluster.table}
    for row in ROWS:
        scene = _Scene(row, cluster_of(row.backend), now, bodies.dice(f"{seed}/{row.backend}/{row.key}"))
        _CONTENT[row.content](scene)
        _LOCK[row.lock](scene)
        objects[scene.cluster.bucket].update(scene.objects())
        if scene.cluster.table:
            items[scene.cluster.table].extend(scene.items)
    items[SHARED_TABLE].extend(_foreign_items(now, bodies.dice(f"{seed}/{FOREIGN_BUCKET}")))
    return Estate(CLUSTERS, objects, {table: tuple(found) for table, found in items.items()})


_HELD_SINCE: Mapping[str, tuple[timedelta, timedelta]] = {
    "locked": (timedelta(minutes=3), timedelta(minutes=14)),
    "locked_active": (timedelta(minutes=9), timedelta(minutes=12)),
    "lock_stale": (timedelta(days=1), timedelta(days=19)),
    "crashed_mid_write": (timedelta(hours=5), timedelta(hours=9)),
    "lock_split": (timedelta(minutes=22), timedelta(minutes=31)),
    "lock_partial": (timedelta(minutes=25), timedelta(minutes=35)),
    "lock_unreadable": (timedelta(hours=3), timedelta(hours=60)),
    "lock_orphan": (timedelta(days=1), timedelta(days=3)),
    "lockboard_orphan": (timedelta(hours=4), timedelta(hours=7)),
}
"""How long ago the lock of a status was taken: at least, at most."""


@dataclass(slots=True)
class _Scene:
    """One key under construction. `written`: when the last ordinary apply wrote; `taken`: today's lock."""

    row: Row
    cluster: Cluster
    now: datetime
    rng: random.Random
    states: list[Version] = field(default_factory=list)
    lockfile: list[Version] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    taken: datetime = field(init=False)
    written: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.taken = self.now - self.between(*_HELD_SINCE.get(self.row.lock, (timedelta(0), timedelta(0))))
        if self.row.lock == "crashed_mid_write":
            self.written = self.taken + timedelta(seconds=52)
        elif self.row.lock == "locked_active":
            self.written = self.now - timedelta(minutes=2, seconds=self.rng.randint(0, 59))
        elif self.row.team:
            self.written = self.now - self.between(timedelta(minutes=20), timedelta(hours=9))
        else:
            self.written = self.taken - self.between(timedelta(hours=7), timedelta(days=40))

    @property
    def path(self) -> str:
        """The LockID of the key."""
        return f"{self.cluster.bucket}/{self.row.key}"

    @property
    def incident(self) -> datetime:
        """When somebody changed the object outside Terraform: between the last write and today's lock."""
        return (self.written + (self.taken - self.written) * 0.8).replace(microsecond=0)

    def between(self, least: timedelta, most: timedelta) -> timedelta:
        return timedelta(seconds=round(self.rng.uniform(least.total_seconds(), most.total_seconds())))

    def put(
        self, body: bytes | None, at: datetime, etag: str | None = None, storage_class: str = "STANDARD"
    ) -> None:
        self.states.append(Version(bodies.new_version_id(self.rng), at, body, etag, storage_class))

    def body(self, index: int) -> bytes:
        """The body of a version; it must not be a delete marker."""
        return cast("bytes", self.states[index].body)

    def history(self) -> None:
        """4 to 12 ordinary writes, the last at `written`; where `.tflock` is used, the last three's locks."""
        count = self.rng.randint(4, 12)
        gaps = [self.between(timedelta(minutes=35), timedelta(days=9)) for _ in range(count - 1)]
        at = self.written - sum(gaps, timedelta(0))
        state = bodies.first_state(self.rng)
        for gap in (*gaps, timedelta(0)):
            self.put(self.encoded(state), at, self.etag())
            state, at = state.written_again(self.rng), at + gap
        if self.cluster.lockfile:
            self.past_locks(version.at for version in self.states[-3:])

    def encoded(self, state: bodies.State) -> bytes:
        return bodies.encrypted(state, self.rng) if self.row.variant == "encrypted" else bodies.body_of(state)

    def etag(self) -> str | None:
        """An ETag that is no MD5 where the object is encrypted by KMS; else None."""
        return f"{self.rng.getrandbits(128):032x}" if self.row.variant == "kms" else None

    def past_locks(self, writes: Iterable[datetime]) -> None:
        for at in writes:
            begun, ended = at - timedelta(seconds=self.rng.randint(30, 400)), at + timedelta(seconds=1)
            if self.row.lock == "unlocked" or ended < self.taken:
                self.lock_file(self.info(begun), begun)
                self.lockfile.append(Version(bodies.new_version_id(self.rng), ended, None))

    def digest(self, value: str) -> None:
        """A digest item; nothing where the cluster has no table."""
        self.digest_item({"Digest": {"S": value}})

    def digest_item(self, attributes: Item) -> None:
        self.items.append({"LockID": {"S": f"{self.path}-md5"}, **attributes})

    def info(self, created: datetime, who: str | None = None, operation: str | None = None) -> str:
        """LockInfo JSON of this key; a client's `Created` lies a fraction of a second before AWS has the
        lock.
        """
        return bodies.lock_info(
            bodies.new_uuid(self.rng),
            operation or self.rng.choice(("OperationTypeApply", "OperationTypeApply", "OperationTypePlan")),
            who or self.rng.choice(bodies.HOLDERS),
            self.rng.choice(bodies.RELEASES[2:]),
            created - timedelta(microseconds=self.rng.randint(50_000, 900_000)),
            self.path,
        )

    def lock_item(self, info: str) -> None:
        self.items.append({"LockID": {"S": self.path}, "Info": {"S": info}})

    def lock_file(self, info: str, at: datetime) -> None:
        self.lockfile.append(Version(bodies.new_version_id(self.rng), at, info.encode()))

    def hold(self, info: str, at: datetime | None = None) -> None:
        """A lock in every store that the cluster's configurations use."""
        if self.cluster.lockfile:
            self.lock_file(info, at or self.taken)
        if self.cluster.table:
            self.lock_item(info)

    def objects(self) -> dict[str, tuple[Version, ...]]:
        """Key to versions, oldest first; where the bucket keeps no versions only what is left."""
        found = {self.row.key: tuple(self.states), f"{self.row.key}.tflock": tuple(self.lockfile)}
        if not self.cluster.versioned:
            found = {
                key: tuple(replace(v, version_id="null") for v in versions[-1:] if v.body is not None)
                for key, versions in found.items()
            }
        return {key: versions for key, versions in found.items() if versions}


def _ok(scene: _Scene) -> None:
    scene.history()
    scene.digest(bodies.digest_of(scene.body(-1)))


def _no_digest(scene: _Scene) -> None:
    scene.history()


def _digest_ignored(scene: _Scene) -> None:
    scene.history()
    value = bodies.digest_of(scene.body(-1))
    scene.digest_item({"Digest": {"S": f'"{value}"'}} if scene.row.variant == "quoted" else {})


def _state_deleted(scene: _Scene) -> None:
    _ok(scene)
    scene.put(None, scene.incident)


def _state_deleted_ambiguous(scene: _Scene) -> None:
    scene.history()
    scene.digest(bodies.digest_of(scene.body(-3)))
    scene.put(None, scene.incident)


def _orphan_digest(scene: _Scene) -> None:
    scene.digest(f"{scene.rng.getrandbits(128):032x}")


def _state_deleted_unprotected(scene: _Scene) -> None:
    scene.history()
    scene.put(None, scene.incident)


def _digest_behind(scene: _Scene) -> None:
    scene.history()
    scene.digest(bodies.digest_of(scene.body(-2)))


def _state_rolled_back(scene: _Scene) -> None:
    _ok(scene)
    scene.put(scene.body(-4), scene.incident)


def _manual_edit(scene: _Scene) -> None:
    _ok(scene)
    scene.put(bodies.edited_by_hand(scene.body(-1)), scene.incident)


def _digest_unknown(scene: _Scene) -> None:
    scene.history()
    scene.digest(f"{scene.rng.getrandbits(128):032x}")


def _state_empty(scene: _Scene) -> None:
    _ok(scene)
    scene.put(b"", scene.incident)


def _state_corrupt(scene: _Scene) -> None:
    _ok(scene)
    body = scene.body(-1)
    page = b"<html><head><title>503 Service Temporarily Unavailable</title></head></html>\n"
    scene.put(page if scene.row.variant == "html" else body[: len(body) * 2 // 3], scene.incident)


def _state_unreadable(scene: _Scene) -> None:
    """S3 answers 403 InvalidObjectState to a GET of an archived object; its ETag, as with KMS, is no MD5."""
    _ok(scene)
    last = scene.states[-1]
    scene.states[-1] = replace(last, etag=f"{scene.rng.getrandbits(128):032x}", storage_class="GLACIER")


def _nothing(_: _Scene) -> None:
    return


def _held(scene: _Scene) -> None:
    scene.hold(scene.info(scene.taken, HOSTILE_HOLDER if scene.row.variant == "hostile" else None))


def _held_by_apply(scene: _Scene) -> None:
    scene.hold(scene.info(scene.taken, operation="OperationTypeApply"))


def _lock_split(scene: _Scene) -> None:
    scene.lock_file(scene.info(scene.taken, "atlantis@atlantis-0"), scene.taken)
    scene.lock_item(scene.info(scene.taken + timedelta(minutes=6), "dana@ops-laptop"))


def _lock_partial(scene: _Scene) -> None:
    scene.lock_item(scene.info(scene.taken, operation="OperationTypeApply"))


def _lock_unreadable(scene: _Scene) -> None:
    scene.hold(scene.info(scene.taken)[:70] if scene.cluster.table else "")


def _lockboard_orphan(scene: _Scene) -> None:
    scene.hold(scene.info(scene.taken, "lockboard/dana@acme.example", "lockboard-repair"))


_Story = Callable[[_Scene], None]
_CONTENT: Mapping[str, _Story] = {
    "ok": _ok,
    "no_digest": _no_digest,
    "digest_ignored": _digest_ignored,
    "state_deleted": _state_deleted,
    "state_deleted_ambiguous": _state_deleted_ambiguous,
    "orphan_digest": _orphan_digest,
    "state_deleted_unprotected": _state_deleted_unprotected,
    "digest_behind": _digest_behind,
    "state_rolled_back": _state_rolled_back,
    "manual_edit": _manual_edit,
    "digest_unknown": _digest_unknown,
    "state_empty": _state_empty,
    "state_corrupt": _state_corrupt,
    "state_unreadable": _state_unreadable,
    "absent": _nothing,
}
_LOCK: Mapping[str, _Story] = {
    "unlocked": _nothing,
    "locked": _held,
    "locked_active": _held_by_apply,
    "lock_stale": _held,
    "crashed_mid_write": _held_by_apply,
    "lock_split": _lock_split,
    "lock_partial": _lock_partial,
    "lock_unreadable": _lock_unreadable,
    "lock_orphan": _held,
    "key_collision": _nothing,
    "lockboard_orphan": _lockboard_orphan,
}


def _foreign_items(now: datetime, rng: random.Random) -> list[Item]:
    """Items of a bucket that the demo does not know, one of them a lock: tables are shared between teams."""
    held = f"{FOREIGN_BUCKET}/network/terraform.tfstate"
    info = bodies.lock_info(
        bodies.new_uuid(rng),
        "OperationTypeApply",
        "root@legacy-ci",
        "1.5.7",
        now - timedelta(minutes=7),
        held,
    )
    digests = [f"{FOREIGN_BUCKET}/{name}/terraform.tfstate-md5" for name in ("network", "dns", "mail")]
    return [
        {"LockID": {"S": held}, "Info": {"S": info}},
        *({"LockID": {"S": name}, "Digest": {"S": f"{rng.getrandbits(128):032x}"}} for name in digests),
    ]
