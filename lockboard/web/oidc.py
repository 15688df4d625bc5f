"""The door of OpenID Connect: authorization code flow with PKCE, states that count once, required ID tokens.

Nothing of a sign-in under way is kept on this server. The state that travels with the browser holds it,
encrypted and bound to a cookie, so that any replica with the same secret can finish what another began; the
store remembers which states were used.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from flask import Response, request

from lockboard.domain.access import Identity
from lockboard.domain.signin import SESSION_LIFE, Attempts
from lockboard.domain.text import shown
from lockboard.web.doors import SignInRefused
from lockboard.web.oidc_claims import Expected, check, header_of, identity_of, verified
from lockboard.web.oidc_site import OidcClient, OidcSite, quoted

STATE_LIFE = timedelta(minutes=10)
"""How long somebody may take to sign in at the provider."""
LONGEST_RETURN = 600
"""Characters of a path to return to; a longer one would make the address too long for some servers."""
_LONGEST_STATE = 2048


class _Begun(NamedTuple):
    """A sign-in under way. browser: SHA-256 of the cookie."""

    number: str
    browser: str
    nonce: str
    verifier: str
    return_to: str
    again: bool


class OidcDoor:
    """Sends people to an OpenID provider, and believes what comes back only after every check.

    secret: at least 32 bytes, the same in every replica.  attempts: notes used states; it has to keep them
    for twice STATE_LIFE.  clock: the time with a zone.
    """

    method = "oidc"

    def __init__(
        self,
        client: OidcClient,
        *,
        secret: str,
        attempts: Attempts,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._site = OidcSite(client, monotonic)
        self._attempts = attempts
        self._clock = clock
        key = hmac.digest(secret.encode(), b"lockboard: state of an OpenID Connect sign-in", "sha256")
        self._seal = Fernet(urlsafe_b64encode(key))
        self._secure = client.redirect_uri.startswith("https://")
        self._cookie = "__Host-lockboard-signin" if self._secure else "lockboard-signin"

    def begin(self, return_to: str, *, again: bool) -> Response:
        now = self._clock()
        browser = self._browser() or secrets.token_urlsafe(32)
        begun = _Begun(
            number=secrets.token_urlsafe(16),
            browser=_digest(browser),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            return_to=_own_path(return_to),
            again=again,
        )
        # With max_age a provider has to say when the person proved who they are (Core 1.0 section 3.1.2.1).
        wanted: dict[str, str | int] = {"max_age": int(SESSION_LIFE.total_seconds())}
        if again:
            wanted = {"prompt": "login", "max_age": int(self._client.fresh.total_seconds())}
        state = self._seal.encrypt_at_time(json.dumps(begun).encode(), int(now.timestamp())).decode()
        url = self._site.authorization_url(now, state, begun.verifier, nonce=begun.nonce, **wanted)
        return self._sent(url, browser)

    def finish(self, now: datetime) -> tuple[Identity, str]:
        begun = self._begun(_only("state"), now)
        self._use_up(begun, now)
        self._check_answer(now)
        tokens = self._site.tokens(_only("code"), begun.verifier, now)
        return self._identity(tokens, begun, now), begun.return_to

    def _sent(self, url: str, browser: str) -> Response:
        answer = Response(status=303, headers={"Location": url, "Cache-Control": "no-store"})
        answer.set_cookie(
            self._cookie,
            browser,
            max_age=STATE_LIFE,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="Lax",  # Strict would keep it from the way back, which starts at the provider
        )
        return answer

    def _browser(self) -> str | None:
        """The cookie of the browser at hand. It stays the same for sign-ins in several tabs."""
        value = request.cookies.get(self._cookie, "")
        return value if len(value) == 43 and value.isascii() else None

    def _begun(self, state: str, now: datetime) -> _Begun:
        if len(state) > _LONGEST_STATE:
            raise SignInRefused("the state is longer than any of ours")
        try:
            opened = self._seal.decrypt_at_time(
                state.encode(), int(STATE_LIFE.total_seconds()), int(now.timestamp())
            )
        except InvalidToken:
            raise SignInRefused("the state is not ours, or is older than 10 minutes") from None
        begun = _Begun(*json.loads(opened))
        browser = self._browser()
        if browser is None or not hmac.compare_digest(_digest(browser), begun.browser):
            raise SignInRefused("the state is of another browser, or this one keeps no cookies")
        return begun

    def _use_up(self, begun: _Begun, now: datetime) -> None:
        # Noted before it is counted: of two answers at the same time at most one counts a single note.
        name = f"oidc:{_digest(begun.number)}"
        self._attempts.note(name, now)
        if self._attempts.count(name, now - 2 * STATE_LIFE) != 1:
            raise SignInRefused("the state was used before")

    def _check_answer(self, now: datetime) -> None:
        issuers = request.args.getlist("iss")
        if issuers not in ([], [self._client.issuer]):
            raise SignInRefused(f"the answer is of another issuer: {shown(', '.join(issuers), 200)!r}")
        if not issuers and self._site.about(now).names_itself:
            raise SignInRefused("the answer does not name its issuer, which the provider always does")
        if "error" in request.args:
            said = quoted(request.args["error"], request.args.get("error_description"))
            raise SignInRefused(f"the provider signed nobody in: {said}")

    def _identity(self, tokens: Mapping[str, Any], begun: _Begun, now: datetime) -> Identity:
        client = self._client
        id_token, access = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise SignInRefused("the provider gave no ID token; without one nobody is signed in")
        if not (access is None or (isinstance(access, str) and access.isascii())):
            raise SignInRefused("the provider's access token is no ASCII text")
        alg, kid = header_of(id_token)
        claims = verified(id_token, alg, self._site.key(kid, alg, now))
        fresh = client.fresh if begun.again else None
        check(claims, alg, Expected(client.issuer, client.client_id, begun.nonce, access, fresh), now)
        if access and not {client.name_claim, client.groups_claim} <= claims.keys():
            claims = self._completed(claims, access, now)
        return identity_of(claims, client.name_claim, client.groups_claim)

    def _completed(self, claims: Mapping[str, Any], access: str, now: datetime) -> Mapping[str, Any]:
        """Many providers tell the e-mail address or the groups at the userinfo endpoint only. Nobody signed
        what is said there, so nothing else of it counts, least of all when somebody proved who they are.
        """
        person = self._site.person(access, now)
        if person and person.get("sub") != claims["sub"]:
            raise SignInRefused("the userinfo endpoint speaks of somebody else")
        wanted = (self._client.name_claim, self._client.groups_claim, "email", "email_verified")
        return {**{name: person[name] for name in wanted if name in person}, **claims}


def _only(name: str) -> str:
    """The one value of a parameter; two would leave open which one was checked."""
    values = request.args.getlist(name)
    if len(values) != 1 or not values[0]:
        raise SignInRefused(f"the answer has no {name}, or several")
    return values[0]


def _own_path(path: str) -> str:
    own = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if own and len(path) <= LONGEST_RETURN else "/"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
