"""The ways out as the pages offer them: how each asks and is named, and at which address it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from lockboard.domain.model import Action
from lockboard.domain.undo import UNDO


class Way(NamedTuple):
    """One kind of action. question: the title of its page, without a word from AWS.  deed: its button.  link:
    what leads to it.  reasons: what people often give as their reason.
    """

    path: str
    question: str
    deed: str
    link: str
    reasons: tuple[str, ...]


_DEAD = ("runner killed", "laptop lost", "pipeline cancelled")
WAYS: Mapping[str, Way] = {
    Action.FORCE_UNLOCK: Way("unlock", "Force-unlock this state?", "Force-unlock", "Force-unlock…", _DEAD),
    Action.SET_DIGEST: Way(
        "digest",
        "Set the digest of this state?",
        "Set the digest",
        "Set the digest…",
        ("digest write interrupted", "object is the right one", "edited on purpose"),
    ),
    Action.CLEAR_DIGEST: Way(
        "digest/clear",
        "Remove the digest of this state?",
        "Remove the digest",
        "Remove the digest…",
        ("stack decommissioned", "every client locks with files"),
    ),
    Action.RESTORE_VERSION: Way(
        "restore",
        "Restore an earlier version of this state?",
        "Restore this version",
        "Restore this version…",
        ("deleted by mistake", "overwritten by mistake", "last write was broken"),
    ),
    Action.TAKE_OVER: Way(
        "takeover",
        "Take this lock over and repair the state?",
        "Take over and repair",
        "Take over and repair…",
        _DEAD,
    ),
    UNDO: Way(
        "undo",
        "Undo this change?",
        "Undo",
        "Undo…",
        ("the run was alive", "acted on the wrong state", "wrong version"),
    ),
}
"""By the names that actions have in documents and in the log."""


def way_to(state_id: str, action: str, *, store: str = "", version: str = "", query: str = "") -> str:
    """The address where an action is confirmed, "" for one that is not known.

    version: a version to restore, or the number of the record to undo.  query: the list the reader came from.
    """
    way = WAYS.get(action)
    if way is None or (action == Action.RESTORE_VERSION and not version):
        return ""
    path = f"/s/{state_id}/{way.path}"
    named = {"store": store, "version": version}
    if action in (Action.RESTORE_VERSION, UNDO):
        path, named = f"{path}/{quote(version, safe='', errors='replace')}", {}
    asked = "&".join(
        filter(None, (urlencode({k: v for k, v in named.items() if v}, errors="replace"), query))
    )
    return f"{path}?{asked}" if asked else path
