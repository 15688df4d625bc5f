"""Parts of the estate: which keys somebody's grant, list or log is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

EVERY_BACKEND = "*"


class Area(NamedTuple):
    """Keys of one backend (or of every one) that start with a prefix."""

    backend: str = EVERY_BACKEND
    prefix: str = ""

    def holds(self, backend: str, key: str) -> bool:
        return self.backend in (EVERY_BACKEND, backend) and key.startswith(self.prefix)

    def within(self, other: Area) -> bool:
        """Whether every key of this area lies in the other one."""
        return other.backend in (EVERY_BACKEND, self.backend) and self.prefix.startswith(other.prefix)


EVERYTHING = Area()

Scope = tuple[Area, ...]
"""Areas of which none lies within another, in order; empty for nothing. `(EVERYTHING,)` needs no filter."""


def scope_of(areas: Iterable[Area]) -> Scope:
    """The same keys in as few areas as they take."""
    found = set(areas)
    return tuple(sorted(a for a in found if not any(a.within(b) for b in found - {a})))


def in_scope(scope: Scope, backend: str, key: str) -> bool:
    """Whether a key lies in one of the areas."""
    return any(area.holds(backend, key) for area in scope)


def common(one: Scope, other: Scope) -> Scope:
    """The keys that lie in both."""
    return scope_of(
        Area(b.backend if a.backend == EVERY_BACKEND else a.backend, max(a.prefix, b.prefix, key=len))
        for a in one
        for b in other
        if (a.backend == b.backend or EVERY_BACKEND in (a.backend, b.backend))
        and (a.prefix.startswith(b.prefix) or b.prefix.startswith(a.prefix))
    )


def prefixes_of(scope: Scope, backend: str) -> tuple[str, ...]:
    """What the keys of one backend start with to lie in the scope: of no two prefixes does one start with
    the other, so that no key counts twice. ("",) for all of its keys, () for none.
    """
    found = scope_of(Area(prefix=a.prefix) for a in scope if a.backend in (EVERY_BACKEND, backend))
    return tuple(area.prefix for area in found)
