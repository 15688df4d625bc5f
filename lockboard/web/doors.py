"""The ways to sign in, as the rest of the pages see them. One of them is open, chosen in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from flask import Response

from lockboard.domain.access import Identity
from lockboard.domain.errors import LockboardError


class SignInRefused(LockboardError):
    """Nobody was signed in. The text is for the server's log and the audit log, where it helps to mend
    things: the browser is told no more than that it did not work.
    """


class HeaderDoor(Protocol):
    """Whoever stands in front signs people in and says with every request who it is (`alb`, `proxy`)."""

    method: str

    def identity(self, environ: Mapping[str, Any], now: datetime) -> Identity:
        """Who sends this request, from its WSGI environment; `signed_in_at` is `now` where nothing older is
        known.

        Raises:
            SignInRefused: it does not say so in a way that can be trusted.
        """

    def sign_out(self, home: str) -> Response:
        """Where the browser goes to be signed out in front of us, too, and back to `home`, an address of
        ours.
        """


class RedirectDoor(Protocol):
    """Another site signs people in and sends the browser back (`oidc`)."""

    method: str

    def begin(self, return_to: str, *, again: bool) -> Response:
        """Send the browser there. `return_to`: a path of ours, already checked.  again: a new proof is asked
        for, even where the other site knows the person still.

        Raises:
            SignInRefused: the other site does not answer.
        """

    def finish(self, now: datetime) -> tuple[Identity, str]:
        """What came back with the request at hand: who it is, and the path that `begin` was given.

        Raises:
            SignInRefused: anything of it is not as it should be.
        """
