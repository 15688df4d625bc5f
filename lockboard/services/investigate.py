"""Gathering what is known of one key into an Observation, with no more requests than the question needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest, parse_digest
from lockboard.domain.keys import DIGEST_SUFFIX, LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import LOCKBOARD_OPERATION, Lock, lock_from_item
from lockboard.domain.model import Backend, History, Observation, Policy, StateObject, Unread, Version
from lockboard.domain.ports import LockTable, States, TableItem
from lockboard.services.memo import Memo, since

VERSIONS_COMPARED = 30
"""Noncurrent versions whose bytes are read to find the one a digest names, newest first."""

LOCKFILES_READ = 10
"""Versions of a key's `.tflock` that are read to learn who uses lock files: newest first, as long as they are
Lockboard's.
"""

LARGEST_LOCKFILE = 65_536
"""Bytes of such a version: no lock record has as many."""

AT_ONCE = 5
"""Requests of one look at one key."""

SMALLEST_STATE = 100
"""Bytes. Terraform 1.11 writes 181 for a state without resources, of which its lineage alone takes 36."""

NOT_VERIFIED = Unread("its bytes were not read yet")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the listing and the table say of one key before anything else is read."""

    key: str
    state: StateObject | None | Unread
    digest: Digest | None | Unread
    table_lock: Lock | None | Unread
    file_lock: Lock | None | Unread


def is_lock_item(item: TableItem, key: str) -> bool:
    """Whether the item under a key's own lock ID is that key's lock rather than the digest of the key without
    `-md5`.
    """
    if item.info is not None:
        return True
    return item.digest is None and not key.endswith(DIGEST_SUFFIX)


def digest_of(item: TableItem | None | Unread) -> Digest | None | Unread:
    """The digest of a key from the item under its digest ID: an item with Info alone is a lock of the key
    ending in `-md5`.
    """
    if item is None or isinstance(item, Unread):
        return item
    if item.digest is None and item.info is not None:
        return None
    return parse_digest(item.digest)


def lock_of(item: TableItem | None | Unread, key: str, *, stands_as_state: bool) -> Lock | None | Unread:
    """The lock of a key from the item under its lock ID.

    `stands_as_state`: an object at this very key is a state.
    """
    if item is None or isinstance(item, Unread):
        return item
    if is_lock_item(item, key):
        return lock_from_item(item.info, carries_digest=item.digest is not None)
    if not key.endswith(DIGEST_SUFFIX) or (stands_as_state and item.digest is not None):
        return lock_from_item(None, carries_digest=True)
    return None


class Investigator:
    """Reads of one backend, one key at a time."""

    def __init__(self, backend: Backend, states: States, table: LockTable | None) -> None:
        self._backend, self._states, self._table = backend, states, table

    def complete(
        self, facts: Facts, memo: Memo, now: datetime, *, may_read: bool = True
    ) -> tuple[Observation, Memo]:
        """Read what the verdict on these facts still needs: bytes where the ETag proves nothing, versions
        where something is wrong.

        With `may_read` False nothing is read, and what would be needed stays unknown.
        """
        state = facts.state
        if isinstance(state, StateObject) and state.size:
            wanted = needs_body(state, facts.digest)
            state, memo = self._with_body(facts.key, state, memo, may_read=may_read and wanted)
        seen = self._observation(replace(facts, state=state), memo)
        seen, memo = self._with_suspicions(seen, memo, now)
        if seen.lockfile_history and _hangs_on_lockfiles(seen):
            others = self._others_used_lockfiles(facts.key) if may_read else NOT_VERIFIED
            seen = replace(seen, lockfile_history=others)
        if not self._needs_history(seen, now):
            return seen, memo
        if not may_read:
            return replace(seen, history=NOT_VERIFIED), memo
        history, memo = self._compared_history(seen, memo)
        return replace(seen, history=history), memo

    def fresh(self, key: str, memo: Memo, now: datetime, *, versions: int = 0) -> tuple[Observation, Memo]:
        """Look at one key anew with consistent reads. With `versions`, also the bytes of that many newest
        versions.

        Raises:
            ReadError: nothing at all could be read.
        """
        bucket, looks_back = self._backend.bucket, bool(versions) and not memo.lockfile_history
        with ThreadPoolExecutor(AT_ONCE) as pool:  # somebody waits for it, and none needs another's answer
            reading = pool.submit(self._states.read_state, key)
            own = pool.submit(self._item, lock_id(bucket, key))
            digest = pool.submit(self._item, digest_id(bucket, key))
            file = pool.submit(self._states.read_lockfile, key)
            past = pool.submit(self._states.history, key + LOCKFILE_SUFFIX) if looks_back else None
        state = reading.result()
        facts = Facts(
            key,
            state,
            digest_of(digest.result()),
            lock_of(own.result(), key, stands_as_state=isinstance(state, StateObject)),
            file.result(),
        )
        if isinstance(state, StateObject) and isinstance(state.body, Body):
            memo = _remember(memo, state, state.body)
        if past is not None:
            files = past.result()
            memo = replace(memo, lockfile_history=isinstance(files, History) and bool(files.versions))
        seen, memo = self.complete(facts, memo, now)
        if versions and not isinstance(seen.history, Unread):
            history, memo = self._read_newest(key, seen.history, memo, versions)
            seen = replace(seen, history=history)
        return seen, memo

    def _item(self, name: str) -> TableItem | None | Unread:
        return self._table.item(name) if self._table else None

    def _observation(self, facts: Facts, memo: Memo) -> Observation:
        return Observation(
            backend=self._backend.name,
            bucket=self._backend.bucket,
            key=facts.key,
            state=facts.state,
            digest=facts.digest,
            table_lock=facts.table_lock,
            file_lock=facts.file_lock,
            has_table=self._backend.table is not None,
            lockfile_history=memo.lockfile_history,
            sibling=memo.sibling,
            clock_skew=self._states.clock_skew(),
            workspace_prefix=self._backend.workspace_prefix,
        )

    def _with_body(
        self, key: str, state: StateObject, memo: Memo, *, may_read: bool
    ) -> tuple[StateObject | None | Unread, Memo]:
        known = _remembered(memo, state)
        if known:
            return replace(state, body=known), memo
        if isinstance(state.body, Body | Unread) or not may_read:
            return state, memo
        read = self._states.read_state(key)
        if isinstance(read, Unread):
            return replace(state, body=read), memo
        if isinstance(read, StateObject) and isinstance(read.body, Body):
            memo = _remember(memo, read, read.body)
        return read, memo

    def _with_suspicions(self, seen: Observation, memo: Memo, now: datetime) -> tuple[Observation, Memo]:
        mismatch = since(memo.mismatch, _mismatch_signature(seen), now)
        locks = since(memo.locks, _locks_signature(seen), now)
        memo = replace(memo, mismatch=mismatch, locks=locks)
        return replace(
            seen,
            mismatch_since=mismatch.first_seen if mismatch else None,
            locks_since=locks.first_seen if locks else None,
        ), memo

    def _needs_history(self, seen: Observation, now: datetime) -> bool:
        if seen.state is None:
            return True
        if not isinstance(seen.state, StateObject):
            return False
        if seen.state.size == 0 or (
            isinstance(seen.state.body, Body) and seen.state.body.kind is BodyKind.BROKEN
        ):
            return True
        return seen.mismatch_since is not None and now - seen.mismatch_since >= self._policy(seen.key).settle

    def _others_used_lockfiles(self, key: str) -> bool | Unread:
        """Whether somebody besides Lockboard used lock files here: its repairs take both locks, whichever the
        stack uses. What is no longer there, or lies further back than is read, is taken for somebody's.
        """
        files = self._states.history(key + LOCKFILE_SUFFIX)
        if isinstance(files, Unread):
            return files
        kept = [version for version in files.versions if not version.delete_marker]
        for version in kept[:LOCKFILES_READ]:
            ours = self._is_our_lockfile(key, version)
            if isinstance(ours, Unread):
                return ours
            if not ours:
                return True
        return not kept or len(kept) > LOCKFILES_READ

    def _is_our_lockfile(self, key: str, version: Version) -> bool | Unread:
        if version.size > LARGEST_LOCKFILE:
            return False
        lock = self._states.read_lockfile(key, version.version_id)
        if isinstance(lock, Unread):
            return lock
        info = lock.info if lock else None
        return info is not None and info.operation.startswith(LOCKBOARD_OPERATION)

    def _policy(self, key: str) -> Policy:
        return self._backend.policy_for(key)

    def _compared_history(self, seen: Observation, memo: Memo) -> tuple[History | Unread, Memo]:
        """The versions, with the bytes of as many read as it takes to find the one that answers."""
        history = self._states.history(seen.key)
        if isinstance(history, Unread):
            return history, memo
        digest = seen.digest.value if isinstance(seen.digest, Digest) else None
        shortcut = history.holding(digest) if digest else None
        found: list[Version] = []
        read = 0
        newest_known = answered = unread = False
        for version in history.versions:
            asked = shortcut is None or version is shortcut or not newest_known
            wanted = asked and not answered and not version.delete_marker and version.size > 0
            if wanted and read >= VERSIONS_COMPARED:
                wanted, unread = False, True
            if wanted:
                version, memo = self._read_version(seen.key, version, memo)
                read += 1
                newest_known = newest_known or version.usable
                unread = unread or isinstance(version.body, Unread)
                answered = _answers(version, digest)
            found.append(version)
        return History(tuple(found), history.complete and not (unread and not answered)), memo

    def _read_newest(
        self, key: str, known: History | None, memo: Memo, limit: int
    ) -> tuple[History | Unread, Memo]:
        history = known or self._states.history(key)
        if isinstance(history, Unread):
            return history, memo
        found: list[Version] = []
        for version in history.versions:
            if len(found) < limit and not version.delete_marker and version.body is None:
                version, memo = self._read_version(key, version, memo)
            found.append(version)
        return replace(history, versions=tuple(found)), memo

    def _read_version(self, key: str, version: Version, memo: Memo) -> tuple[Version, Memo]:
        known = _remembered(memo, version)
        if known is None:
            body = self._states.read_body(key, version.version_id)
            if isinstance(body, Unread):
                return replace(version, body=body), memo
            known, memo = body, memo.with_body(_version_name(version) or _identity(version), body)
        return replace(version, body=known), memo


def _hangs_on_lockfiles(seen: Observation) -> bool:
    """Whether the verdict depends on who used lock files before: of a lock in the table alone, and of a
    digest left behind.
    """
    alone = isinstance(seen.table_lock, Lock) and seen.file_lock is None
    return alone or seen.mismatch_since is not None


def needs_body(state: StateObject, digest: Digest | None | Unread) -> bool:
    """Whether only the bytes can tell: no digest equals the ETag, or the object is too small for a state,
    however well its digest was made to match.

    An empty object has nothing to read.
    """
    if isinstance(digest, Unread) or state.size == 0:
        return False
    return state.size < SMALLEST_STATE or digest is None or digest.value is None or state.etag != digest.value


def _answers(version: Version, digest: str | None) -> bool:
    if digest is not None:
        return version.holds(digest)
    return isinstance(version.body, Body) and version.body.kind in (BodyKind.STATE, BodyKind.ENCRYPTED)


def _identity(version: StateObject | Version) -> str:
    """A version as a listing tells it, which has no version ID.

    A GET gives whole seconds, so only those count.
    """
    return f"{version.etag} {version.size} {int(version.last_modified.timestamp())}"


def _version_name(version: StateObject | Version) -> str | None:
    """The version ID, unless it is that of every object written while versioning is off."""
    return version.version_id if version.version_id != "null" else None


def _remembered(memo: Memo, version: StateObject | Version) -> Body | None:
    return memo.bodies.get(_version_name(version) or "") or memo.bodies.get(_identity(version))


def _remember(memo: Memo, state: StateObject, body: Body) -> Memo:
    """Under both names of the version: a listing knows one, the version history the other."""
    memo, name = memo.with_body(_identity(state), body), _version_name(state)
    return memo.with_body(name, body) if name else memo


def _mismatch_signature(seen: Observation) -> str | None:
    if not isinstance(seen.digest, Digest) or seen.digest.value is None or isinstance(seen.state, Unread):
        return None
    if seen.state is None:
        return f"absent {seen.digest.value}"
    state = seen.state
    matches = state.size > 0 and seen.digest.value in (state.md5, state.etag)
    proven = state.size == 0 or state.md5 is not None
    return None if matches or not proven else f"{_identity(state)} {seen.digest.value}"


def _locks_signature(seen: Observation) -> str | None:
    locks = [part for part in (seen.file_lock, seen.table_lock) if isinstance(part, Lock)]
    return " ".join(f"{lock.store}:{lock.info.id if lock.info else lock.problem}" for lock in locks) or None
