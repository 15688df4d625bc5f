"""From an observation to the row the inventory keeps."""

from __future__ import annotations

from datetime import datetime

from lockboard.domain.diagnose import diagnose
from lockboard.domain.digests import Digest
from lockboard.domain.holders import held_locks
from lockboard.domain.inventory import StateRow
from lockboard.domain.keys import state_id
from lockboard.domain.model import Backend, Content, LockStatus, Observation, StateObject, Verdict
from lockboard.domain.text import shown, utc
from lockboard.services.documents import document
from lockboard.services.memo import Memo, dump

LONGEST_SHOWN = 1100
"""Characters of a key kept for lists and search: a key has at most 1,024 bytes."""


def judge(
    seen: Observation,
    memo: Memo,
    backend: Backend,
    now: datetime,
    fingerprint: str,
    *,
    rechecked: bool = False,
) -> tuple[StateRow, Verdict]:
    """Decide and put it all in one row."""
    verdict = diagnose(seen, backend.policy_for(seen.key), now)
    entry = document(seen, verdict, backend)
    if rechecked:
        entry["rechecked_at"] = utc(now)
    locks = held_locks(seen)
    # Who and since when are of one lock: of two that can be read the `.tflock`, whose time is S3's.
    shown_lock = next((lock for lock in locks if lock.info), locks[0] if locks else None)
    info, since = (shown_lock.info, shown_lock.since) if shown_lock else (None, None)
    state = seen.state if isinstance(seen.state, StateObject) else None
    digest = seen.digest.value or seen.digest.raw if isinstance(seen.digest, Digest) else ""
    holder = shown(info.who, 120) if info else ""
    ids = {shown(lock.info.id, 200) for lock in locks if lock.info}
    row = StateRow(
        id=state_id(seen.backend, seen.key),
        backend=seen.backend,
        key=shown(seen.key, LONGEST_SHOWN),
        rank=verdict.severity.rank,
        content=verdict.content.value,
        lock=verdict.lock.value,
        terraform=verdict.terraform.value,
        summary=verdict.summary,
        holder=holder,
        operation=shown(info.operation, 60) if info else "",
        locked_since=since.timestamp() if since else None,
        modified=state.last_modified.timestamp() if state else None,
        size=state.size if state else None,
        digest=shown(digest, 64),
        search=" ".join(
            (shown(seen.key, LONGEST_SHOWN), seen.bucket, holder, *sorted(ids), *_sums(digest, state))
        ).lower(),
        fingerprint=fingerprint,
        memo=dump(memo),
        document=entry,
    )
    return row, verdict


def _sums(digest: str, state: StateObject | None) -> list[str]:
    """What an error message may name: the stored digest, and the MD5 calculated of the object."""
    md5 = state.md5 if state and state.md5 != digest else None
    return [text for text in (shown(digest, 64), md5) if text]


def has_to_be_watched(content: str, lock: str, terraform: str) -> bool:
    """Whether the verdict can change though nothing that the listing shows does: time passes, or something
    was not read.
    """
    unsettled = content in (Content.SETTLING, Content.UNKNOWN, Content.STATE_UNREADABLE)
    return unsettled or lock != LockStatus.UNLOCKED or terraform == "unknown"
