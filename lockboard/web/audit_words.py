"""How the audit pages name and mark what a record says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from lockboard.domain.audit import UNREADABLE, Kind, Record, Result
from lockboard.domain.model import Action
from lockboard.domain.text import shown
from lockboard.domain.words import ACTION_WORDS
from lockboard.web.marks import Mark

KIND_TITLES: Mapping[str, str] = {
    Kind.OUTCOME: "Outcome",
    Kind.INTENT: "Intent",
    Kind.REFUSAL: "Refusal",
    Kind.EVENT: "Event",
}
KIND_MEANINGS: Mapping[str, str] = {
    Kind.OUTCOME: "what became of an attempt",
    Kind.INTENT: "written before anything was sent to AWS",
    Kind.REFUSAL: "refused before anything was sent to AWS",
    Kind.EVENT: "something else worth proof",
}
RESULT_TITLES: Mapping[str, str] = {
    Result.DONE: "Done",
    Result.REFUSED: "Refused",
    Result.NO_CHANGE: "No change",
    Result.FAILED: "Failed",
    Result.UNKNOWN: "Unknown",
}
RESULT_MEANINGS: Mapping[str, str] = {
    Result.DONE: "AWS holds the change.",
    Result.REFUSED: "A rule or a lost race stopped it. Nothing was changed.",
    Result.NO_CHANGE: "What was wanted was so already. Nothing was changed.",
    Result.FAILED: "Not carried out as planned. Its sentence and the answers of AWS say how far it came.",
    Result.UNKNOWN: "No answer came that can be trusted. What is true now has to be read.",
}
ACTION_TITLES: Mapping[str, str] = {
    **{str(action): ACTION_WORDS[action].title for action in Action},
    "undo": "Undo",
    "export": "Export",
    "verify": "Verification",
    "start": "Start",
    "heartbeat": "Heartbeat",
    "late_outcome": "Late outcome",
    "sign_in": "Sign-in",
    "sign_in_refused": "Sign-in refused",
    "sign_out": "Sign-out",
    "session_ended": "Session ended",
    "rate_limited": "Too many requests",
    "approval_requested": "Approval asked for",
    "approval_given": "Approval given",
    "approval_declined": "Approval declined",
    "approval_withdrawn": "Request withdrawn",
    "approval_expired": "Request expired",
    "approval_void": "Request void",
    "approval_refused": "Approval refused",
    "account_added": "Account added",
    "account_disabled": "Account disabled",
    "account_enabled": "Account enabled",
    "account_role": "Role changed",
    "account_password": "Password changed",
    "token_added": "API token made",
    "token_revoked": "API token revoked",
    UNREADABLE: "Unreadable",
}
"""By the names that records have."""

_RESULTS: Mapping[str, Mark] = {
    Result.DONE: Mark("plan-works", "ok", "Done"),
    Result.REFUSED: Mark("plan-blocked", "attention", "Refused"),
    Result.NO_CHANGE: Mark("seal-absent", "busy", "No change"),
    Result.FAILED: Mark("plan-fails", "blocked", "Failed"),
    Result.UNKNOWN: Mark("plan-unknown", "unknown", "Unknown"),
}
OPEN = Mark("plan-waits", "attention", "Open")
"""An intent whose outcome is not known."""
_INTENT = Mark("play", "quiet", "Intent")
_EVENT = Mark("brand", "quiet", "Recorded")
_CHANGED = Mark("danger", "critical", "Changed")
_BROKEN = Mark("danger", "critical", "Broken chain")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def action_title(action: str) -> str:
    """A name from a newer version is shown as it stands."""
    return ACTION_TITLES.get(action) or shown(action, 60)


def mark_of(record: Record, *, is_open: bool) -> Mark:
    """How a record ended, in a shape and a word."""
    entry = record.entry
    if entry.result:
        return _RESULTS.get(entry.result) or Mark("plan-unknown", "unknown", shown(entry.result, 40))
    if entry.kind is Kind.INTENT:
        return OPEN if is_open else _INTENT
    if entry.action == UNREADABLE:
        return _CHANGED
    if entry.kind is Kind.EVENT:
        return _BROKEN if entry.action == "verify" and entry.facts.get("problem") else _EVENT
    return Mark("plan-unknown", "unknown", "Unknown")


def day_words(day: date) -> str:
    """`20 Nov 2026`."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
