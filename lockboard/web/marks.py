"""How each status is drawn: the name of its mark in icons.svg, its tone (a CSS class), its title.

A state is drawn as a seal: its left half is the object, its right half the digest. They meet where they
agree, stand apart where they do not, and a half that is missing is dashed. The padlock beside it is the lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from lockboard.domain.model import Content, Effect, LockStatus, Severity
from lockboard.domain.words import CONTENT_WORDS, EFFECT_WORDS, LOCK_WORDS, SEVERITY_WORDS, Words

_Status = TypeVar("_Status", bound=str)


class Mark(NamedTuple):
    """icon: a symbol of icons.svg.  tone: a class of the style sheet.  title: the words beside it."""

    icon: str
    tone: str
    title: str


TONES = tuple(str(severity) for severity in Severity)
"""By rank, the worst first."""

_CONTENT = {
    Content.OK: ("seal-match", "ok"),
    Content.NO_DIGEST: ("seal-alone", "quiet"),
    Content.DIGEST_IGNORED: ("seal-void", "attention"),
    Content.SETTLING: ("seal-settling", "busy"),
    Content.STATE_DELETED: ("seal-gone", "blocked"),
    Content.STATE_DELETED_AMBIGUOUS: ("seal-gone", "blocked"),
    Content.ORPHAN_DIGEST: ("seal-gone", "blocked"),
    Content.STATE_DELETED_UNPROTECTED: ("seal-nothing", "critical"),
    Content.DIGEST_BEHIND: ("seal-behind", "blocked"),
    Content.STATE_ROLLED_BACK: ("seal-back", "blocked"),
    Content.MANUAL_EDIT: ("seal-apart", "blocked"),
    Content.DIGEST_UNKNOWN: ("seal-apart", "blocked"),
    Content.STATE_EMPTY: ("seal-empty", "critical"),
    Content.STATE_CORRUPT: ("seal-broken", "blocked"),
    Content.STATE_UNREADABLE: ("seal-denied", "unknown"),
    Content.ABSENT: ("seal-absent", "quiet"),
    Content.UNKNOWN: ("seal-unknown", "unknown"),
}
_LOCK = {
    LockStatus.UNLOCKED: ("lock-open", "quiet"),
    LockStatus.LOCKED: ("lock-held", "busy"),
    LockStatus.LOCKED_ACTIVE: ("lock-active", "busy"),
    LockStatus.LOCK_STALE: ("lock-stale", "attention"),
    LockStatus.CRASHED_MID_WRITE: ("lock-crashed", "attention"),
    LockStatus.LOCK_SPLIT: ("lock-split", "attention"),
    LockStatus.LOCK_PARTIAL: ("lock-partial", "attention"),
    LockStatus.LOCK_UNREADABLE: ("lock-unreadable", "attention"),
    LockStatus.LOCK_ORPHAN: ("lock-orphan", "attention"),
    LockStatus.KEY_COLLISION: ("lock-collision", "attention"),
    LockStatus.LOCKBOARD_ORPHAN: ("lock-crashed", "attention"),
    LockStatus.UNKNOWN: ("lock-unknown", "unknown"),
}
_EFFECT = {
    Effect.WORKS: ("plan-works", "ok"),
    Effect.WAITS: ("plan-waits", "busy"),
    Effect.BLOCKED: ("plan-blocked", "blocked"),
    Effect.RECREATES: ("plan-recreates", "critical"),
    Effect.FAILS: ("plan-fails", "blocked"),
    Effect.UNKNOWN: ("plan-unknown", "unknown"),
}


def _marks(drawn: Mapping[_Status, tuple[str, str]], words: Mapping[str, Words]) -> dict[str, Mark]:
    return {str(status): Mark(icon, tone, words[status].title) for status, (icon, tone) in drawn.items()}


CONTENT = _marks(_CONTENT, CONTENT_WORDS)
LOCK = _marks(_LOCK, LOCK_WORDS)
EFFECT = {
    status: mark._replace(title=mark.title.removeprefix("Terraform ").capitalize())
    for status, mark in _marks(_EFFECT, EFFECT_WORDS).items()
}
"""Stands under "Terraform", so that its name need not be said again."""
STATUS_TITLES = {
    **{str(s): CONTENT_WORDS[s].title for s in Content},
    **{str(s): LOCK_WORDS[s].title for s in LockStatus},
    "unknown": "Not known",
}
SUSPECT = frozenset(status for status, mark in LOCK.items() if mark.tone == "attention")
"""Lock statuses that somebody should look at."""
SEVERITY_TITLES = {str(severity): SEVERITY_WORDS[severity].title for severity in Severity}
DISAGREE = frozenset(
    str(status)
    for status in (
        Content.DIGEST_BEHIND,
        Content.STATE_ROLLED_BACK,
        Content.MANUAL_EDIT,
        Content.DIGEST_UNKNOWN,
        Content.SETTLING,
    )
)
"""The object is there and is not what the digest names."""


def content_mark(status: str) -> Mark:
    """A status from a newer or damaged store is drawn as not known, never as well."""
    return CONTENT.get(status) or Mark("seal-unknown", "unknown", status or "Not known")


def lock_mark(status: str) -> Mark:
    """As `content_mark`, of a lock."""
    return LOCK.get(status) or Mark("lock-unknown", "unknown", status or "Not known")


def effect_mark(status: str) -> Mark:
    """As `content_mark`, of what Terraform does."""
    return EFFECT.get(status) or Mark("plan-unknown", "unknown", status or "Not known")


def tone_of(rank: object) -> str:
    """The tone of a severity's rank."""
    return TONES[rank] if isinstance(rank, int) and 0 <= rank < len(TONES) else "unknown"
