"""What has to be remembered of a key from one look to the next: when a suspicion began, and bytes already
hashed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from lockboard.domain.bodies import Body, BodyKind

_BODIES_KEPT = 40


@dataclass(frozen=True, slots=True)
class Since:
    """A combination of facts and when it was first seen."""

    signature: str
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class Memo:
    """`bodies`: by version ID, or by ETag and time where the listing gives no version ID.

    `sibling`: see Observation.  `lockfile_history`: whether a `.tflock`, be it Lockboard's own, ever stood
    beside the key.
    """

    mismatch: Since | None = None
    locks: Since | None = None
    bodies: dict[str, Body] = field(default_factory=dict)
    sibling: str | None = None
    lockfile_history: bool = False

    def with_body(self, identity: str, body: Body) -> Memo:
        kept = dict(list(self.bodies.items())[-(_BODIES_KEPT - 1) :])
        return replace(self, bodies={**kept, identity: body})


def since(before: Since | None, signature: str | None, now: datetime) -> Since | None:
    """The running suspicion: kept while the signature stays the same, begun anew when it changes."""
    if signature is None:
        return None
    return before if before and before.signature == signature else Since(signature, now)


def dump(memo: Memo) -> str:
    """JSON, or "" where there is nothing to remember."""
    if memo == Memo():
        return ""
    return json.dumps(
        {
            "m": _pair(memo.mismatch),
            "l": _pair(memo.locks),
            "b": {name: asdict(body) for name, body in memo.bodies.items()},
            "s": memo.sibling,
            "f": memo.lockfile_history,
        }
    )


def load(text: str) -> Memo:
    """The memo that `dump` wrote; an empty one where it cannot be read (it is only a saving)."""
    if not text:
        return Memo()
    try:
        data = json.loads(text)
        bodies = {name: Body(**{**body, "kind": BodyKind(body["kind"])}) for name, body in data["b"].items()}
        return Memo(_since(data["m"]), _since(data["l"]), bodies, data["s"], bool(data["f"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Memo()


def _pair(value: Since | None) -> list[str] | None:
    return [value.signature, value.first_seen.isoformat()] if value else None


def _since(pair: list[str] | None) -> Since | None:
    if not pair:
        return None
    signature, first_seen = pair
    moment = datetime.fromisoformat(first_seen)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return Since(signature, moment)
