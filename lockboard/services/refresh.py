"""One backend's refresh: list the objects, scan the table, join them, look closer only where something
changed or looks wrong.

The floor is ceil(objects / 1000) LISTs and the table's pages. The last picture is kept in memory, so that a
key is judged anew only if the listing or the table says something new of it, or if its verdict depends on
time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from lockboard.domain.errors import AccessDenied, ReadError
from lockboard.domain.inventory import BackendReport, Changes, Inventory, Known, StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.locks import Lock
from lockboard.domain.model import Backend, Content, History, Observation, StateObject, Unread
from lockboard.domain.ports import Clock, Listed, LockTable, States, TableItem
from lockboard.services import memo as memos
from lockboard.services.investigate import Facts, Investigator, needs_body
from lockboard.services.memo import Memo
from lockboard.services.picture import Picture, Swept
from lockboard.services.rows import has_to_be_watched, judge
from lockboard.services.sweep import Sweeper
from lockboard.services.tally import Tally

READS_PER_REFRESH = 2000
"""Keys that one refresh may look closer at; the rest stays unknown until the next."""

READERS = 4
"""Keys looked at closely at the same time."""

RETRY_UNREAD = timedelta(minutes=5)
"""How long a part that could not be read is left alone."""

FILE_NOT_READ = Unread("its lock file was not read yet")

PAGE = 1000
"""Keys of one LIST page."""

BATCH = 5000
"""Rows written in one transaction: only a first refresh, or a great change, has more."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Look:
    """One key as it was seen, when it was read, and when another look can settle what is open."""

    seen: Observation
    memo: Memo
    read_at: datetime
    settles_at: datetime | None = None


class Refresher:
    """Keeps one backend's rows true. One refresh at a time, whoever asks."""

    def __init__(
        self,
        backend: Backend,
        states: States,
        table: LockTable | None,
        inventory: Inventory,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._backend, self._states, self._table, self._inventory = backend, states, table, inventory
        self._clock, self._monotonic = clock, monotonic
        self._investigator = Investigator(backend, states, table)
        self._one_at_a_time = threading.Lock()
        self._picture: Picture | None = None
        self._known: dict[str, Known] | None = None
        self._strays = True  # whether a stored row may belong to no key of the picture
        self._rechecked: set[str] = set()
        self._heard_until = 0  # the generation up to which re-checks of this backend's keys are known
        self._watched: dict[str, _Look] = {}
        self._file_locks: dict[str, tuple[Listed, Lock | None | Unread]] = {}
        self._sweeper, self._sweep_requests = Sweeper(backend, states), 0
        self._tally = Tally(states, table)

    # ---- the refresh

    def refresh(self) -> BackendReport:
        """Read, judge, write what changed, and report. A failure to read is in the report, never raised."""
        with self._one_at_a_time:
            started, tick = self._clock(), self._monotonic()
            if self._known is None:
                self._known = self._inventory.known(self._backend.name)
            counted = self._tally.counts()
            if self._sweeper.due(started):
                self._sweeper.sweep(started, lambda key: self._stored(key) is not None)
                self._sweep_requests, counted = sum(self._tally.since(counted).values()), self._tally.counts()
            objects, items, errors = self._gather()
            if objects is not None and items is not None:
                before, self._picture = (
                    self._picture,
                    Picture(self._backend, objects, items, self._sweeper.found),
                )
                rows, gone = self._changes(before, self._picture), self._gone(before, self._picture)
            else:
                rows, gone = self._unknown_rows(objects, items, errors), iter(())
            return self._write(rows, gone, lambda n: self._report(started, tick, counted, errors, n))

    def settles_in(self) -> timedelta | None:
        """How long until a second look can decide the last open suspicion; None where none is open."""
        due = [look.settles_at for look in self._watched.values() if look.settles_at]
        return max(due) - self._aws_now() if due else None

    def second_look(self) -> BackendReport | None:
        """Read again, consistently, only what is not settled. None where nothing was open."""
        with self._one_at_a_time:
            report = self._inventory.report(self._backend.name)
            keys = [key for key, look in self._watched.items() if look.settles_at]
            if not keys or report is None:
                return None
            counted, before = self._tally.counts(), report
            rows = [self._look_again(key) for key in keys]

            def counted_together(written: int) -> BackendReport:
                asked = self._tally.since(counted)
                return replace(
                    before, requests={kind: asked[kind] + before.requests.get(kind, 0) for kind in asked}
                )

            return self._write(iter(rows), iter(()), counted_together)

    def _look_again(self, key: str) -> StateRow:
        now = self._aws_now()
        try:
            seen, memo = self._investigator.fresh(key, self._memo(key), now)
        except ReadError as error:
            seen, memo = (
                replace(self._watched[key].seen, state=Unread(str(error), error.code)),
                self._memo(key),
            )
        row, verdict = judge(seen, memo, self._backend, now, "")
        self._watch(key, _Look(seen, memo, now, verdict.settles_at), row)
        return row

    def _write(
        self, rows: Iterator[StateRow], gone: Iterator[str], report: Callable[[int], BackendReport]
    ) -> BackendReport:
        """Write in one transaction; in several only what is more than a batch, to bound memory."""
        written, batch = 0, []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                self._apply(
                    batch,
                    [],
                    self._inventory.report(self._backend.name)
                    or replace(report(0), complete=False, data_at=None),
                )
                written, batch = written + len(batch), []
        drop = list(gone)
        final = report(written + len(batch) + len(drop))
        self._apply(batch, drop, final)
        return final

    def _apply(self, put: Sequence[StateRow], drop: Sequence[str], report: BackendReport) -> None:
        assert self._known is not None
        self._inventory.apply(Changes(self._backend.name, put, drop, report))
        for row in put:
            self._know(row.id, Known(row.fingerprint, row.content, row.lock, row.terraform, row.memo))
        for id_ in drop:
            self._known.pop(id_, None)

    def _know(self, id_: str, known: Known) -> None:
        assert self._known is not None
        self._known[id_] = known

    # ---- gathering

    def _gather(self) -> tuple[dict[str, Listed] | None, dict[str, TableItem | str] | None, list[ReadError]]:
        """List and scan at the same time. None for the one that failed."""
        errors: list[ReadError] = []
        with ThreadPoolExecutor(1) as pool:
            scanned = pool.submit(self._scan)
            objects = _or_error(self._list, errors)
            items = _or_error(scanned.result, errors)
        return objects, items, errors

    def _list(self) -> dict[str, Listed]:
        """Every object by key. A row that is as it was is the last picture's own, so that two pictures take
        little more memory than one.
        """
        before = self._picture.objects if self._picture else {}
        keys = list(before)
        fences = keys[PAGE - 1 : len(keys) - 1 : PAGE]
        found: dict[str, Listed] = {}
        for page in self._states.list_pages(self._backend.prefix, fences):
            for row in page:
                last = before.get(row[0])
                row = last if last == row else row
                found[row[0]] = row
        return found

    def _scan(self) -> dict[str, TableItem | str]:
        """Every item by its LockID, likewise."""
        before = self._picture.items if self._picture else {}
        found: dict[str, TableItem | str] = {}
        for page in self._table.scan_pages() if self._table else ():
            for item in page:
                digest = item.digest.get("S") if item.info is None and item.digest is not None else None
                kept, last = digest if isinstance(digest, str) else item, before.get(item.lock_id)
                found[item.lock_id] = last if last is not None and last == kept else kept
        return found

    # ---- judging

    def _changes(self, before: Picture | None, now_seen: Picture) -> Iterator[StateRow]:
        """Rows that say something new, reading what that needs, a few keys at a time, within the budget."""
        changed = now_seen.changed_since(before)
        self._rechecked = self._heard_of(now_seen) - changed
        work = changed | self._rechecked | self._watched.keys() | self._sweeper.found.deleted.keys()
        work &= now_seen.keys
        work |= (before.keys if before else set()) - now_seen.keys
        closer: list[str] = []
        for key in sorted(work):
            if self._quiet(key, now_seen):
                continue
            if self._wants_reading(key, now_seen):
                closer.append(key)
            elif row := self._decide(key, self._look(key, now_seen, may_read=False), now_seen):
                yield row
        allowed, late = closer[:READS_PER_REFRESH], closer[READS_PER_REFRESH:]
        with ThreadPoolExecutor(READERS) as pool:
            looks = pool.map(lambda key: self._look(key, now_seen, may_read=True), allowed)
            for key, look in zip(allowed, looks, strict=True):
                if row := self._decide(key, look, now_seen):
                    yield row
        for key in late:
            if row := self._decide(key, self._look(key, now_seen, may_read=False), now_seen):
                yield row

    def _heard_of(self, picture: Picture) -> set[str]:
        """Keys whose row a re-check put since the last refresh: what it saw may already be over."""
        self._heard_until, rows = self._inventory.rechecked(self._backend.name, self._heard_until)
        assert self._known is not None
        self._known.update(rows)
        if not rows:
            return set()
        keys = {key for key in picture.keys if state_id(self._backend.name, key) in rows}
        self._strays = self._strays or len(keys) < len(rows)
        return keys

    def _quiet(self, key: str, picture: Picture) -> bool:
        """Whether the stored row already says it all: the same facts, and a verdict that time does not
        change.
        """
        known = self._stored(key)
        if (
            known is None
            or key not in picture.keys
            or has_to_be_watched(known.content, known.lock, known.terraform)
        ):
            return False
        return known.fingerprint == picture.fingerprint(key)

    def _wants_reading(self, key: str, picture: Picture) -> bool:
        """Whether something beyond the listing and the table has to be read to judge this key now."""
        if picture.lockfile(key) is not None and self._cached_file_lock(key, picture) is None:
            return True
        look = self._watched.get(key)
        if look and self._still(key, look, picture):
            return False
        if picture.lockfile_history(key) and picture.table_lock(key) and picture.lockfile(key) is None:
            return True
        state = picture.state(key)
        return state is None or state.size == 0 or needs_body(state, picture.digest(key))

    def _look(self, key: str, picture: Picture, *, may_read: bool) -> _Look:
        """The key as it is now. One key on which this program itself fails must not hide all the others."""
        try:
            return self._seen(key, picture, may_read=may_read)
        except Exception as error:  # noqa: BLE001
            return self._failed_on(key, error)

    def _failed_on(self, key: str, error: Exception) -> _Look:
        part = Unread(f"Lockboard itself failed on this key ({type(error).__name__}); please report it")
        seen = Observation(self._backend.name, self._backend.bucket, key, part, part, part, part)
        return _Look(seen, Memo(), self._aws_now())

    def _seen(self, key: str, picture: Picture, *, may_read: bool) -> _Look:
        """Read anew, or what was read last where nothing new can be learnt."""
        last, now = self._watched.get(key), self._aws_now()
        if last and self._still(key, last, picture):
            return replace(last, seen=replace(last.seen, clock_skew=self._states.clock_skew()))
        facts = Facts(
            key,
            picture.state(key),
            picture.digest(key),
            picture.table_lock(key),
            self._file_lock(key, picture, may_read=may_read),
        )
        seen, memo = self._investigator.complete(facts, self._memo(key), now, may_read=may_read)
        return _Look(seen, memo, now if may_read else now - RETRY_UNREAD)

    def _still(self, key: str, look: _Look, picture: Picture) -> bool:
        """Whether the last look still holds: the same facts, nothing left to settle, and no failed read that
        is due again.
        """
        known, seen = self._stored(key), look.seen
        if known is None or known.fingerprint != picture.fingerprint(key):
            return False
        if seen.mismatch_since and seen.history is None:
            return False
        if seen.state is None and isinstance(seen.history, History) and seen.history.standing:
            return False
        body = seen.state.body if isinstance(seen.state, StateObject) else None
        parts = (seen.state, seen.file_lock, seen.history, seen.lockfile_history, body)
        unread = any(isinstance(part, Unread) for part in parts)
        unread = unread or (
            isinstance(seen.state, StateObject) and body is None and needs_body(seen.state, seen.digest)
        )
        return not unread or self._aws_now() - look.read_at < RETRY_UNREAD

    def _decide(self, key: str, look: _Look, picture: Picture) -> StateRow | None:
        """The row to write, or None where the stored one says the same or nothing stands at this key."""
        if marker := _marker(look.seen):
            self._sweeper.found.deleted[key] = marker  # as the next sweep will find it
        now, fingerprint = self._aws_now(), picture.fingerprint(key)
        try:
            row, verdict = judge(look.seen, look.memo, self._backend, now, fingerprint)
        except Exception as error:  # noqa: BLE001
            look = self._failed_on(key, error)
            row, verdict = judge(look.seen, look.memo, self._backend, now, fingerprint)
        seen = look.seen
        if verdict.content is Content.ABSENT and (key not in picture.keys or not _has_record(seen)):
            picture.keys.discard(key)
            # Nothing to tell, so nothing to ask again before the next sweep.
            self._sweeper.found.deleted.pop(key, None)
            return None
        if key not in picture.keys:
            self._sweeper.found.deleted.setdefault(key, None)
            picture.keys.add(key)
        self._watch(key, replace(look, settles_at=verdict.settles_at), row)
        known = self._stored(key)
        told = (row.content, row.lock, row.terraform, row.fingerprint)
        if known and key in self._rechecked and told[:3] == known[1:4]:
            # The re-check says the same and more, such as the versions: it stays as it is.
            self._know(row.id, known._replace(fingerprint=fingerprint))
            return None
        begun = verdict.settles_at is not None and known is not None and known.memo != row.memo
        return row if known is None or told != known[1:4] + known[:1] or begun else None

    def _watch(self, key: str, look: _Look, row: StateRow) -> None:
        if has_to_be_watched(row.content, row.lock, row.terraform):
            self._watched[key] = look
        else:
            self._watched.pop(key, None)

    def _gone(self, before: Picture | None, picture: Picture) -> Iterator[str]:
        """Ids of rows whose key no longer exists; asked after the rows were judged.

        Without a sweep, deleted states stay.
        """
        assert self._known is not None
        left = before.keys - picture.keys if before else set()
        for key in left:
            self._watched.pop(key, None)
        gone = {state_id(self._backend.name, key) for key in left} & self._known.keys()
        if self._strays:
            here = {state_id(self._backend.name, key) for key in picture.keys}
            kept = Content.STATE_DELETED_UNPROTECTED if self._sweeper.error else None
            here |= gone
            strays = {id_: known.content for id_, known in self._known.items() if id_ not in here}
            self._strays = kept in strays.values()
            gone.update(id_ for id_, content in strays.items() if content != kept)
        yield from gone

    # ---- what is kept of one key

    def _cached_file_lock(self, key: str, picture: Picture) -> Lock | None:
        listed, cached = picture.lockfile(key), self._file_locks.get(key)
        return cached[1] if cached and cached[0] == listed and isinstance(cached[1], Lock) else None

    def _file_lock(self, key: str, picture: Picture, *, may_read: bool) -> Lock | None | Unread:
        """The `.tflock` beside the key, read only when the listing shows another than last time."""
        listed = picture.lockfile(key)
        if listed is None:
            self._file_locks.pop(key, None)
            return None
        if cached := self._cached_file_lock(key, picture):
            return cached
        if not may_read:
            return FILE_NOT_READ
        lock = self._states.read_lockfile(key)
        self._file_locks[key] = (listed, lock)
        return lock

    def _memo(self, key: str) -> Memo:
        known = self._stored(key)
        memo = memos.load(known.memo) if known else Memo()
        if self._picture is None:
            return memo
        return replace(
            memo, sibling=self._picture.sibling(key), lockfile_history=self._picture.lockfile_history(key)
        )

    def _stored(self, key: str) -> Known | None:
        return self._known.get(state_id(self._backend.name, key)) if self._known else None

    # ---- what could not be read

    def _unknown_rows(
        self,
        objects: dict[str, Listed] | None,
        items: dict[str, TableItem | str] | None,
        errors: list[ReadError],
    ) -> Iterator[StateRow]:
        """Rows of keys never seen before, as unknown: half a picture makes no verdict.

        Known keys keep their last data.
        """
        missing = Unread(str(errors[0]), errors[0].code)
        picture = Picture(self._backend, objects or {}, items or {}, Swept())
        self._strays = True
        for key in sorted(picture.keys):
            if self._stored(key):
                continue
            facts = Facts(
                key,
                missing if objects is None else picture.state(key),
                missing if items is None else picture.digest(key),
                missing if items is None else picture.table_lock(key),
                missing if objects is None else FILE_NOT_READ if picture.lockfile(key) else None,
            )
            seen, memo = self._investigator.complete(facts, Memo(), self._aws_now(), may_read=False)
            yield judge(seen, memo, self._backend, self._aws_now(), "")[0]

    # ---- reporting

    def _aws_now(self) -> datetime:
        return self._clock() - (self._states.clock_skew() or timedelta())

    def _report(
        self, started: datetime, tick: float, counted: dict[str, int], errors: list[ReadError], written: int
    ) -> BackendReport:
        before = self._inventory.report(self._backend.name)
        denied = next((error for error in errors if isinstance(error, AccessDenied)), None)
        skew = self._states.clock_skew()
        states, foreign, data_at = (
            (before.states, before.foreign_items, before.data_at) if before else (0, 0, None)
        )
        if not errors and self._picture:
            states, foreign, data_at = len(self._picture.keys), self._picture.foreign, started
        return BackendReport(
            backend=self._backend.name,
            bucket=self._backend.bucket,
            region=self._backend.region,
            table=self._backend.table,
            attempted_at=started,
            data_at=data_at,
            complete=not errors,
            error="; ".join(str(error) for error in errors) or None,
            missing_permission=denied.operation if denied else None,
            states=states,
            foreign_items=foreign,
            requests=self._tally.since(counted),
            sweep_requests=self._sweep_requests,
            throttled=self._tally.throttled(),
            duration_seconds=round(self._monotonic() - tick, 3),
            rows_written=written,
            versioning=self._sweeper.versioning,
            clock_skew_seconds=round(skew.total_seconds(), 1) if skew is not None else None,
            swept_at=self._sweeper.at,
            sweep_error=self._sweeper.error,
        )


def _or_error(read: Callable[[], _T], errors: list[ReadError]) -> _T | None:
    try:
        return read()
    except ReadError as error:
        errors.append(error)
        return None


def _marker(seen: Observation) -> str | None:
    """The version ID of the delete marker under which the state is gone."""
    newest = seen.history.versions[:1] if seen.state is None and isinstance(seen.history, History) else ()
    return next((version.version_id for version in newest if version.delete_marker), None)


def _has_record(seen: Observation) -> bool:
    """Whether anything of this key still stands: a lock, or a digest item whatever it says."""
    return any(part is not None for part in (seen.table_lock, seen.file_lock, seen.digest))
