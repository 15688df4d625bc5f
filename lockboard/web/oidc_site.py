"""The OpenID provider as this server asks it: what it says of itself, its keys, and a code for tokens.

OpenID Connect Discovery 1.0 section 4, RFC 7517 (keys), RFC 6749 section 4.1.3 (codes), RFC 7636 (PKCE).
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from lockboard.domain.errors import SettingsError
from lockboard.domain.signin import FRESH
from lockboard.domain.text import shown
from lockboard.web.doors import SignInRefused
from lockboard.web.oidc_claims import fitting_key

LONGEST_ANSWER = 256 * 1024
"""Bytes that are read of an answer."""
KEPT = timedelta(minutes=10)
"""What the provider says of itself, and its keys, are asked for again after so long."""
LOOK_AGAIN = timedelta(seconds=30)
"""An unknown key has the keys asked for again, but not more often than this."""


@dataclass(frozen=True, slots=True)
class OidcClient:
    """How the provider has us registered, and how its answers are read.

    issuer: exactly as the provider writes it.  redirect_uri: absolute, of our callback.  fresh: how old a
    proof may be that was asked for anew.  timeout: seconds for one answer, to connect and to read it.

    Raises:
        SettingsError: an address is not https (http is for loopback), or an ID or secret cannot be sent.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    name_claim: str = "email"
    groups_claim: str = "groups"
    ca_file: Path | None = None
    fresh: timedelta = FRESH
    timeout: float = 5.0

    def __post_init__(self) -> None:
        for name in ("issuer", "redirect_uri"):
            parts = _split(getattr(self, name))
            if parts is None or not (parts.scheme == "https" or _is_loopback(parts)):
                raise SettingsError(f"OpenID Connect: {name} must be an https address (or of loopback)")
        for name in ("client_id", "client_secret"):
            value = getattr(self, name)
            if not (value and value.isascii() and value.isprintable()):
                raise SettingsError(f"OpenID Connect: {name} must be printable ASCII text")
        if "openid" not in self.scopes:
            raise SettingsError('OpenID Connect: scopes must hold "openid"; without it there is no ID token')

    @property
    def on_loopback(self) -> bool:
        parts = _split(self.issuer)
        return parts is not None and _is_loopback(parts)


class About(NamedTuple):
    """What the provider says of itself.

    person: its userinfo endpoint.  names_itself: it always sends `iss` along (RFC 9207).
    """

    authorize: str
    token: str
    keys: str
    person: str | None
    auth_method: str
    names_itself: bool


class OidcSite:
    """Asks the provider, over https only, and keeps what it says of itself and its keys.

    Every method raises SignInRefused where the answer does not come, is too long or too slow, redirects, or
    is not what the specification asks for.
    """

    def __init__(self, client: OidcClient, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._about: tuple[datetime, About] | None = None
        self._keys: tuple[datetime, Sequence[Any]] | None = None
        self._looked_again: datetime | None = None
        # Guards the moment of the last look only: held during a request, it would line up every sign-in
        # behind a provider that does not answer.
        self._lock = threading.Lock()

    def about(self, now: datetime) -> About:
        kept = self._about
        if kept is None or not _is_recent(kept[0], now, KEPT):
            kept = self._about = (now, self._ask_about())
        return kept[1]

    def key(self, kid: str | None, alg: str, now: datetime) -> Mapping[str, Any]:
        """The public key (a JWK) that an ID token names. Keys that the provider changed are found."""
        kept, just_read = self._keys, False
        if kept is None or not _is_recent(kept[0], now, KEPT):
            kept, just_read = self._read_keys(now), True
        found = fitting_key(kept[1], kid, alg)
        if found is None and not just_read and self._may_look_again(now):
            found = fitting_key(self._read_keys(now)[1], kid, alg)
        if found is None:
            raise SignInRefused(f"the ID token's key {shown(str(kid), 100)!r} is not one of the provider's")
        return found

    def authorization_url(self, now: datetime, state: str, verifier: str, **wanted: str | int) -> str:
        """Where the browser is sent, with the code challenge (S256) of a verifier."""
        with self._session() as session:
            url, _ = session.create_authorization_url(
                self.about(now).authorize, state=state, code_verifier=verifier, **wanted
            )
        return str(url)

    def tokens(self, code: str, verifier: str, now: datetime) -> Mapping[str, Any]:
        """What the provider gives for a code."""
        about = self.about(now)
        hidden = (code, verifier, self._client.client_secret)
        with self._session(about.auth_method) as session:
            # The causes are cut off: their texts quote the request, secrets and all.
            try:
                answer = session.fetch_token(
                    about.token,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    allow_redirects=False,
                )
            except AuthlibBaseError as error:
                raise SignInRefused(
                    f"the provider did not take the code: {quoted(error.error, error.description, hidden)}"
                ) from None
            except (OSError, ValueError, TypeError, OverflowError, RecursionError):
                raise SignInRefused(f"{about.token}: the answer is no JSON object with tokens") from None
        if str(answer.get("token_type", "bearer")).lower() != "bearer":
            raise SignInRefused(f"{about.token}: the token is of another type than Bearer")
        return dict(answer)

    def person(self, access_token: str, now: datetime) -> Mapping[str, Any]:
        """What the userinfo endpoint says of whom a token stands for; nothing where there is none."""
        address = self.about(now).person
        if address is None:
            return {}
        return self._document(address, {"Authorization": f"Bearer {access_token}"})

    def _ask_about(self) -> About:
        client = self._client
        address = client.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = self._document(address)
        if document.get("issuer") != client.issuer:
            raise SignInRefused(
                f"{address}: it names another issuer, {shown(str(document.get('issuer')), 200)!r}; the"
                f" configured one is {client.issuer!r}"
            )
        return About(
            self._endpoint(document, "authorization_endpoint"),
            self._endpoint(document, "token_endpoint"),
            self._endpoint(document, "jwks_uri"),
            self._endpoint(document, "userinfo_endpoint") if "userinfo_endpoint" in document else None,
            _auth_method(document.get("token_endpoint_auth_methods_supported")),
            document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        value = document.get(name)
        parts = _split(value) if isinstance(value, str) else None
        if parts is None or not (
            parts.scheme == "https" or (self._client.on_loopback and _is_loopback(parts))
        ):
            raise SignInRefused(f"the provider's {name} is not an https address: {shown(str(value), 200)!r}")
        return str(value)

    def _read_keys(self, now: datetime) -> tuple[datetime, Sequence[Any]]:
        address = self.about(now).keys
        keys = self._document(address).get("keys")
        if not isinstance(keys, list):
            raise SignInRefused(f"{address}: the answer is no key set")
        self._keys = (now, keys)
        return self._keys

    def _may_look_again(self, now: datetime) -> bool:
        with self._lock:
            if self._looked_again is not None and _is_recent(self._looked_again, now, LOOK_AGAIN):
                return False
            self._looked_again = now
            return True

    def _document(self, address: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        with self._session() as session:
            try:
                answer = session.get(
                    address,
                    withhold_token=True,
                    headers=headers,
                    auth=lambda request: request,  # else a .netrc file is looked into
                    allow_redirects=False,
                )
            except OSError as error:
                raise SignInRefused(f"{address}: cannot be asked: {type(error).__name__}") from None
            if answer.status_code != 200:
                raise SignInRefused(f"{address}: the answer has status {answer.status_code}")
            try:
                document = answer.json()
            except (ValueError, RecursionError):
                document = None
        if not isinstance(document, dict):
            raise SignInRefused(f"{address}: the answer is no JSON object")
        return document

    def _session(self, auth_method: str | None = None) -> OAuth2Session:
        client = self._client
        session = OAuth2Session(
            client.client_id,
            client.client_secret,
            token_endpoint_auth_method=auth_method,
            scope=" ".join(client.scopes),
            redirect_uri=client.redirect_uri,
            code_challenge_method="S256",
        )
        session.trust_env = not client.on_loopback  # a proxy of the environment leads elsewhere
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "lockboard"})
        session.adapters.clear()
        adapter = _Careful(client, self._monotonic)
        session.mount("https://", adapter)
        if client.on_loopback:
            session.mount("http://", adapter)
        return session


class _Careful(HTTPAdapter):
    """Reads a bounded answer in bounded time, and goes nowhere else for it."""

    def __init__(self, client: OidcClient, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._seconds = client.timeout
        self._trusted = str(client.ca_file) if client.ca_file else None
        self._monotonic = monotonic

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> Response:
        place = str(request.url).partition("?")[0]
        ends = self._monotonic() + self._seconds
        try:
            answer = super().send(request, True, self._seconds, self._trusted or verify, cert, proxies)
        except (OSError, HTTPError) as error:
            raise SignInRefused(f"{place}: no answer: {shown(str(error), 300)}") from None
        raw = answer.raw
        try:
            if answer.is_redirect:
                raise SignInRefused(f"{place}: the answer leads elsewhere, which is not followed")
            answer.raw = io.BytesIO(self._body(raw, place, ends))
        except (OSError, HTTPError) as error:
            raise SignInRefused(f"{place}: the answer broke off: {type(error).__name__}") from None
        finally:
            raw.close()
        return answer

    def _body(self, raw: Any, place: str, ends: float) -> bytes:
        body = bytearray()
        while piece := raw.read1(16384, decode_content=False):
            body += piece
            if len(body) > LONGEST_ANSWER:
                raise SignInRefused(f"{place}: the answer is longer than {LONGEST_ANSWER} bytes")
            if self._monotonic() > ends:
                raise SignInRefused(f"{place}: the answer took longer than {self._seconds:g} s")
        return bytes(body)


def quoted(error: object, description: object, hidden: Sequence[str] = ()) -> str:
    """A provider's error on one line, without what must not reach a log."""
    text = str(error) if not description else f"{error}: {description}"
    for secret in hidden:
        text = text.replace(secret, "[hidden]")
    return shown(text, 300)


def _auth_method(offered: object) -> str:
    # Discovery 1.0 section 3: left out, it is client_secret_basic.
    if offered is None or (isinstance(offered, list) and "client_secret_basic" in offered):
        return "client_secret_basic"
    if isinstance(offered, list) and "client_secret_post" in offered:
        return "client_secret_post"
    raise SignInRefused("the token endpoint takes neither client_secret_basic nor client_secret_post")


def _is_recent(then: datetime, now: datetime, within: timedelta) -> bool:
    return timedelta(0) <= now - then < within


def _split(address: str) -> SplitResult | None:
    """The parts of an absolute http or https address with neither user nor fragment."""
    if not (address.isascii() and address.isprintable() and " " not in address):
        return None
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc and not parts.fragment else None


def _is_loopback(parts: SplitResult) -> bool:
    if parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
