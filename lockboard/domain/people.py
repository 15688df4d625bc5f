"""What is the same wherever accounts and tokens are managed: which names they may have, grants as JSON and in
words, and what a record says of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lockboard.domain.access import EVERY_BACKEND, Area, Grant, Role
from lockboard.domain.signin import ApiToken
from lockboard.domain.text import shown

NAME_RULE = "1 to 64 of the letters a to z, digits, and . _ - @"

LONGEST_PREFIX = 1024
"""Characters; S3 has no longer keys."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def is_name(text: str) -> bool:
    """Whether an account or a token may be called so: nothing that looks like another name or ends a line."""
    return _NAME.fullmatch(text) is not None


def is_plain_prefix(prefix: str) -> bool:
    """Whether a grant may be limited to it: no key is shown as if it began so and does not."""
    return len(prefix) <= LONGEST_PREFIX and "\\" not in prefix and shown(prefix) == prefix


def grants_to_json(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Grants as JSON values: for the database, and for the facts of a record."""
    return [
        {
            "role": grant.role.value,
            "backend": grant.area.backend,
            "prefix": grant.area.prefix,
            "unlock_unsuspected": grant.unlock_unsuspected,
            "protected": grant.protected,
        }
        for grant in grants
    ]


def grants_from_json(found: object) -> tuple[Grant, ...]:
    """The same back. What is no grant that this version knows gives nothing."""
    items = found if isinstance(found, list) else []
    return tuple(grant for item in items if (grant := _grant(item)) is not None)


def _grant(item: object) -> Grant | None:
    if not isinstance(item, Mapping):
        return None
    role, backend, prefix = item.get("role"), item.get("backend"), item.get("prefix")
    if role not in tuple(Role) or not isinstance(backend, str) or not isinstance(prefix, str):
        return None
    extras = (item.get("unlock_unsuspected") is True, item.get("protected") is True)
    return Grant(Role(role), Area(backend, prefix), *extras)


def token_facts(found: ApiToken) -> dict[str, Any]:
    """By which a record names a token."""
    return {"token": found.number, "name": found.name, "owner": found.owner}


def spoken_grants(grants: Iterable[Grant]) -> str:
    """`operator on prod-kr under dev/ (also protected keys); viewer`, fit to show; `nothing` for none."""
    return "; ".join(map(spoken_grant, grants)) or "nothing"


def spoken_grant(grant: Grant) -> str:
    """One of `spoken_grants`."""
    area = grant.area
    where = "" if area.backend == EVERY_BACKEND else f" on {shown(area.backend, 64)}"
    where += f" under {shown(area.prefix, 1024)}" if area.prefix else ""
    extras = [
        words
        for has, words in (
            (grant.unlock_unsuspected, "locks that are not suspected stale"),
            (grant.protected, "protected keys"),
        )
        if has
    ]
    return f"{grant.role.value}{where}" + (f" (also {' and '.join(extras)})" if extras else "")
