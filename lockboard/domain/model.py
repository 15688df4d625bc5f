"""What was observed of one state key, part by part, and what is known to be missing.

Every part of an `Observation` is a value, None (proven absent) or an `Unread` (nobody knows): "could not
read" can therefore never be taken for "is not there".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest
from lockboard.domain.keys import DEFAULT_WORKSPACE_PREFIX
from lockboard.domain.locks import Lock


@dataclass(frozen=True, slots=True)
class Unread:
    """A part that could not be read, with the reason in words and the service's code.

    `denied`: a retry will not help, access will.
    """

    reason: str
    code: str = ""
    denied: bool = False


@dataclass(frozen=True, slots=True)
class StateObject:
    """The current version of the state object.

    `etag` comes without quotes and equals the MD5 only for single-part objects that KMS did not encrypt:
    equality with the digest proves a match, inequality proves nothing. `body` is None where nobody had to
    read it.
    """

    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    storage_class: str | None = None
    body: Body | Unread | None = None

    @property
    def md5(self) -> str | None:
        return self.body.md5 if isinstance(self.body, Body) else None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker. `body` as in StateObject."""

    version_id: str
    last_modified: datetime
    delete_marker: bool = False
    etag: str = ""
    size: int = 0
    latest: bool = False
    body: Body | Unread | None = None

    def holds(self, digest: str) -> bool:
        """Whether its bytes are proven to be those of the digest; no bytes never are, whatever the digest."""
        if self.delete_marker or self.size == 0:
            return False
        return self.body.md5 == digest if isinstance(self.body, Body) else self.etag == digest

    @property
    def usable(self) -> bool:
        """Whether its bytes may be a state: a version nobody read counts, since restoring reads it first."""
        if self.delete_marker or self.size == 0:
            return False
        return not isinstance(self.body, Body) or self.body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)


@dataclass(frozen=True, slots=True)
class History:
    """The versions of one key, newest first.

    `complete` is False where older ones were left unlisted or a body unread.
    """

    versions: tuple[Version, ...] = ()
    complete: bool = True

    @property
    def newest_body(self) -> Version | None:
        """The newest version that has bytes, whatever they are."""
        return next((v for v in self.versions if not v.delete_marker and v.size), None)

    @property
    def newest_usable(self) -> Version | None:
        """The newest version that may be a state."""
        return next((v for v in self.versions if v.usable), None)

    @property
    def standing(self) -> bool:
        """Whether an object stands at the key now."""
        return any(v.latest and not v.delete_marker for v in self.versions)

    def holding(self, digest: str) -> Version | None:
        return next((v for v in self.versions if v.holds(digest)), None)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything seen of one state key at one time.

    `mismatch_since` is when this very pair of object version and digest was first seen to disagree,
    `locks_since` when this very set of lock records was first seen; `clock_skew` our clock minus AWS's;
    `lockfile_history` whether a `.tflock` ever stood beside the key (where the verdict depends on it, one
    that was not Lockboard's own); `sibling` another state key that shares a lock ID or lock file with this
    one.
    """

    backend: str
    bucket: str
    key: str
    state: StateObject | None | Unread
    digest: Digest | None | Unread
    table_lock: Lock | None | Unread
    file_lock: Lock | None | Unread
    has_table: bool = True
    history: History | Unread | None = None
    lockfile_history: bool | Unread = False
    sibling: str | None = None
    mismatch_since: datetime | None = None
    locks_since: datetime | None = None
    clock_skew: timedelta | None = None
    workspace_prefix: str = DEFAULT_WORKSPACE_PREFIX


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as old, for one key.

    settle: how long a mismatch must stand before it is called one (Terraform itself retries for 10 s).
    in_flight: how long after a write under a lock a mismatch is taken for an apply at work.
    """

    stale_after: timedelta = timedelta(hours=1)
    settle: timedelta = timedelta(seconds=10)
    in_flight: timedelta = timedelta(seconds=15)
    future_tolerance: timedelta = timedelta(minutes=5)
    skew_tolerance: timedelta = timedelta(seconds=60)
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """One bucket, with its lock table if any, and how its keys are judged.

    `state_key` tells a state key by its name alone.
    """

    name: str
    bucket: str
    region: str
    table: str | None
    prefix: str
    state_key: Callable[[str], bool]
    policy_for: Callable[[str], Policy]
    workspace_prefix: str = DEFAULT_WORKSPACE_PREFIX
    sweep_every: timedelta = timedelta(hours=1)


class Content(StrEnum):
    """The object against its Digest."""

    OK = "ok"
    NO_DIGEST = "no_digest"
    DIGEST_IGNORED = "digest_ignored"
    SETTLING = "settling"
    STATE_DELETED = "state_deleted"
    STATE_DELETED_AMBIGUOUS = "state_deleted_ambiguous"
    ORPHAN_DIGEST = "orphan_digest"
    STATE_DELETED_UNPROTECTED = "state_deleted_unprotected"
    DIGEST_BEHIND = "digest_behind"
    STATE_ROLLED_BACK = "state_rolled_back"
    MANUAL_EDIT = "manual_edit"
    DIGEST_UNKNOWN = "digest_unknown"
    STATE_EMPTY = "state_empty"
    STATE_CORRUPT = "state_corrupt"
    STATE_UNREADABLE = "state_unreadable"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class LockStatus(StrEnum):
    """Who holds the state, and whether that can be right."""

    UNLOCKED = "unlocked"
    LOCKED = "locked"
    LOCKED_ACTIVE = "locked_active"
    LOCK_STALE = "lock_stale"
    CRASHED_MID_WRITE = "crashed_mid_write"
    LOCK_SPLIT = "lock_split"
    LOCK_PARTIAL = "lock_partial"
    LOCK_UNREADABLE = "lock_unreadable"
    LOCK_ORPHAN = "lock_orphan"
    KEY_COLLISION = "key_collision"
    LOCKBOARD_ORPHAN = "lockboard_orphan"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What a plan with this state does now."""

    WORKS = "works"
    WAITS = "waits"
    BLOCKED = "blocked"
    RECREATES = "recreates"
    FAILS = "fails"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Worst first."""

    CRITICAL = "critical"
    BLOCKED = "blocked"
    ATTENTION = "attention"
    UNKNOWN = "unknown"
    BUSY = "busy"
    OK = "ok"

    @property
    def rank(self) -> int:
        """0 for the worst; the order of every list."""
        return _RANKS[self]

    @property
    def needs_attention(self) -> bool:
        return self.rank <= _RANKS[Severity.UNKNOWN]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Action(StrEnum):
    """What can be done about a key."""

    FORCE_UNLOCK = "force_unlock"
    SET_DIGEST = "set_digest"
    CLEAR_DIGEST = "clear_digest"
    RESTORE_VERSION = "restore_version"
    TAKE_OVER = "take_over"


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out, in words. `version_id` for restore_version, and for take_over where that restores one;
    `lock_id` (the UUID) for force_unlock, with `store` where the two stores hold different locks.
    """

    action: Action
    why: str
    recommended: bool = False
    version_id: str | None = None
    lock_id: str | None = None
    digest: str | None = None
    store: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact the verdict rests on, and where it was read."""

    fact: str
    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is true of a key and what Terraform does with it.

    `settles_at` is when a second look can make it final (None: it is final). `prints` is what `terraform
    plan` says, "" where it simply works. Nothing in it depends on the passing of time except through a change
    of status, so that an unchanged key gives an equal verdict at every refresh.
    """

    content: Content
    lock: LockStatus
    terraform: Effect
    severity: Severity
    summary: str
    remedies: tuple[Remedy, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    dangers: tuple[str, ...] = ()
    prints: str = ""
    settles_at: datetime | None = None
    matching_version: str | None = field(default=None)
