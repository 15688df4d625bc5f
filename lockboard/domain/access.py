"""Who may look and who may act, and on which keys: roles, grants and the decision. What no grant gives is
denied.

A grant gives a role within an area: one backend or all, and the keys there that start with a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lockboard.domain.areas import EVERY_BACKEND, EVERYTHING, Area, Scope, in_scope, scope_of
from lockboard.domain.audit import Person

__all__ = [
    "EVERYTHING",
    "EVERY_BACKEND",
    "NO_RIGHTS",
    "Actor",
    "Area",
    "Grant",
    "Identity",
    "Permission",
    "Rights",
    "Role",
    "Scope",
    "in_scope",
    "scope_of",
]


class Role(StrEnum):
    """What somebody is here for.

    viewer: looks.  operator: acts, and reads the audit log of what they may act on.  auditor: looks and reads
    the audit log; acts on nothing.
    administrator: all of it, and who else may do what.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"


class Permission(StrEnum):
    """One thing that can be granted or not.

    act: change a key's lock, digest or state.  unlock_unsuspected: release a lock that is not suspected
    stale.
    act_protected: act on a key that is marked as protected.  approve: be the second person of such an action.
    audit: read, check and export the audit log.  administer: accounts, sessions and API tokens of others.
    """

    VIEW = "view"
    ACT = "act"
    UNLOCK_UNSUSPECTED = "unlock_unsuspected"
    ACT_PROTECTED = "act_protected"
    APPROVE = "approve"
    AUDIT = "audit"
    ADMINISTER = "administer"


_OF_ROLE = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: frozenset({Permission.VIEW, Permission.ACT, Permission.AUDIT}),
    Role.AUDITOR: frozenset({Permission.VIEW, Permission.AUDIT}),
    Role.ADMINISTRATOR: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role within an area. The two extras widen an operator's; an administrator has them."""

    role: Role
    area: Area = EVERYTHING
    unlock_unsuspected: bool = False
    protected: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        found = _OF_ROLE[self.role]
        if self.role is Role.OPERATOR and self.unlock_unsuspected:
            found |= {Permission.UNLOCK_UNSUSPECTED}
        if self.role is Role.OPERATOR and self.protected:
            found |= {Permission.ACT_PROTECTED, Permission.APPROVE}
        if self.area != EVERYTHING:
            found -= {Permission.ADMINISTER}  # it reaches people, who belong to no area
        return found


@dataclass(frozen=True, slots=True)
class Rights:
    """All that somebody was granted; nothing by default."""

    grants: tuple[Grant, ...] = ()

    def may(self, permission: Permission, backend: str, key: str) -> bool:
        """Whether it is granted for this key (as S3 has it)."""
        return any(permission in g.permissions and g.area.holds(backend, key) for g in self.grants)

    def somewhere(self, permission: Permission) -> bool:
        """Whether it is granted for any key at all."""
        return any(permission in grant.permissions for grant in self.grants)

    def everywhere(self, permission: Permission) -> bool:
        """Whether it is granted for every key of every backend."""
        return self.scope(permission) == (EVERYTHING,)

    def scope(self, permission: Permission) -> Scope:
        """The keys for which it is granted."""
        return scope_of(grant.area for grant in self.grants if permission in grant.permissions)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Each role held somewhere, as `Role` orders them."""
        held = {grant.role for grant in self.grants}
        return tuple(role for role in Role if role in held)


NO_RIGHTS = Rights()


UNTOLD = datetime.fromtimestamp(0, UTC)
"""`signed_in_at` where the identity provider does not say when: long ago, so good to look, not to act."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a sign-in established.

    subject: unique and stable, such as `https://idp.example.com|8f3a…` or `local|kim`.  name: what people
    read.
    method: oidc, alb, proxy, local or demo.  groups: as the identity provider names them.
    signed_in_at: when the person last proved who they are (`auth_time`), or UNTOLD.
    """

    subject: str
    name: str
    method: str
    groups: frozenset[str]
    signed_in_at: datetime


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody at work: who it is, what they may do, and how long ago they proved who they are.

    signed_in_at: None for an API token, which has no sign-in and an end of its own.
    """

    person: Person
    rights: Rights
    signed_in_at: datetime | None = None

    def is_fresh(self, now: datetime, within: timedelta) -> bool:
        """Whether the sign-in is recent enough to act on; a sign-in of the future is none."""
        if self.signed_in_at is None:
            return True
        return timedelta(minutes=-1) <= now - self.signed_in_at <= within
