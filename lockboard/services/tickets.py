"""What a confirmation page is good for: one attempt of one person at one plan for one key, signed."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from lockboard.domain.audit import Person
from lockboard.domain.errors import LockboardError
from lockboard.domain.model import Action
from lockboard.domain.plans import Wanted

VIEW_LASTS = timedelta(seconds=120)
"""How long a confirmation page may be acted on."""

_SALT = "lockboard action"


class BadToken(LockboardError):
    """The form does not come from a page made for this person and key."""


class Ticket(NamedTuple):
    """One attempt. person: as `whose` tells them.  undoes: the number of the record that is undone.
    fingerprint: of the plan that the page shows.  issued: seconds since 1970.
    """

    action_id: str
    state_id: str
    person: str
    wanted: Wanted
    undoes: int | None
    fingerprint: str
    issued: float


class Tickets:
    """Makes tickets into the tokens of forms, and tokens into tickets. secret: the same for all replicas."""

    def __init__(self, secret: str) -> None:
        self._signer = URLSafeSerializer(secret, salt=_SALT)

    def token(self, ticket: Ticket) -> str:
        """Text that nobody without the secret can make."""
        text: str = self._signer.dumps([*ticket[:3], [*fields_of(ticket.wanted)], *ticket[4:]])
        return text

    def opened(self, token: str, person: Person, state_id: str) -> Ticket:
        """Raises BadToken where it is not ours, or was made for another person or key."""
        try:
            action_id, state, name, wanted, undoes, fingerprint, issued = self._signer.loads(token)
            ticket = Ticket(action_id, state, name, wanted_of(wanted), undoes, fingerprint, issued)
        except (BadSignature, ValueError, TypeError):
            raise BadToken(
                "This form was not made by Lockboard, or its secret key has changed. Open the page again."
            ) from None
        if ticket.state_id != state_id or ticket.person != whose(person):
            raise BadToken("This form was made for another state or another person. Open the page again.")
        return ticket

    def action_id(self, token: str) -> str:
        """Of the attempt that the form with this token is for; "" where the token is not ours."""
        try:
            return str(self._signer.loads(token)[0])
        except (BadSignature, LookupError, TypeError):
            return ""


def whose(person: Person) -> str:
    """What a token binds: one name may be two people's."""
    return f"{person.method}|{person.subject or person.name}"


def fields_of(wanted: Wanted) -> tuple[str, str, str]:
    """As it is kept in tokens, requests and the log."""
    return wanted.action.value, wanted.store, wanted.version_id


def wanted_of(fields: tuple[str, str, str]) -> Wanted:
    """Back again. Raises ValueError where there is no such action."""
    action, store, version = fields
    return Wanted(Action(action), store, version)
