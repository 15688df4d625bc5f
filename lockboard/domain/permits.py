"""Whether somebody may carry out a plan: pure, from rights, plan and situation."""

from __future__ import annotations

from lockboard.domain.access import Permission, Rights
from lockboard.domain.model import LockStatus
from lockboard.domain.plans import Plan, Refused, Situation

SUSPECT = frozenset({LockStatus.LOCK_STALE, LockStatus.CRASHED_MID_WRITE, LockStatus.LOCKBOARD_ORPHAN})
"""Locks whose holder is suspected dead on evidence. Any other may be somebody at work."""


def forbidden(rights: Rights, plan: Plan | Refused, situation: Situation) -> str:
    """Why these rights do not allow this plan, in a sentence; "" where they do.

    Where no plan is possible the reason may be told to whoever could act on the key.
    """
    backend, key = situation.seen.backend, situation.seen.key
    if not rights.may(Permission.ACT, backend, key):
        return "You may look at this state, but not act on it."
    if isinstance(plan, Refused):
        return ""
    if situation.policy.protected and not rights.may(Permission.ACT_PROTECTED, backend, key):
        return "This key is protected by the settings, and you may not act on protected keys."
    if not _releases_only_suspects(plan, situation) and not rights.may(
        Permission.UNLOCK_UNSUSPECTED, backend, key
    ):
        return (
            "This lock is not suspected stale: its holder may be at work. You may release only locks that"
            " are suspected stale."
        )
    return ""


def _releases_only_suspects(plan: Plan, situation: Situation) -> bool:
    return not (plan.releases or plan.over) or situation.verdict.lock in SUSPECT


def may_approve(rights: Rights, backend: str, key: str) -> bool:
    """Whether somebody with these rights may be the second person for an action on this key."""
    return rights.may(Permission.APPROVE, backend, key)
