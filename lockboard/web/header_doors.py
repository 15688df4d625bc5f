"""Sign-in by whoever stands in front and says with each request who it is: an AWS load balancer (`alb`), or a
reverse proxy (`proxy`).

Both rest on gunicorn's handling of headers: of several with one name it makes one, joined with commas, and it
refuses names with an underscore (`--header-map=refuse`), which would look to us like those with a hyphen.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response

from lockboard.domain.access import Identity
from lockboard.domain.errors import LockboardError, SettingsError
from lockboard.web.desk import see_other
from lockboard.web.doors import SignInRefused
from lockboard.web.forwarded import PEER, Networks

LONGEST_NAME = 255
"""Characters of a subject, a name or a group."""

_ALB_TOKEN = "HTTP_X_AMZN_OIDC_DATA"  # noqa: S105 - a header's name
_ALB_IDENTITY = "HTTP_X_AMZN_OIDC_IDENTITY"
_ALB_COOKIE = "AWSELBAuthSessionCookie"
_ALB_COOKIES = (_ALB_COOKIE, *(f"{_ALB_COOKIE}-{number}" for number in range(4)))
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_BETWEEN_GROUPS = re.compile(r"[,\s]+")
_DIGITS = re.compile(r"[0-9]{1,12}")

Verify = Callable[[str, datetime], Mapping[str, Any]]
"""The claims in a value of `x-amzn-oidc-data`. Raises LockboardError, with the reason, where it is forged."""


class AlbDoor:
    """A load balancer signs people in, and signs what it says of them.

    Args:
        verify: `lockboard.adapters.alb.LoadBalancer.claims`.
        issuer: the identity provider's, which `verify` has compared.
        name_claim: the claim that people are called by.
        groups_claim: a list, or a text with commas or spaces between groups; may be absent.
    """

    method = "alb"

    def __init__(self, verify: Verify, issuer: str, name_claim: str, groups_claim: str) -> None:
        self._verify, self._issuer = verify, issuer
        self._name_claim, self._groups_claim = name_claim, groups_claim

    def identity(self, environ: Mapping[str, Any], now: datetime) -> Identity:
        token = environ.get(_ALB_TOKEN, "")
        if not token:
            raise SignInRefused(
                "there is no x-amzn-oidc-data: the request did not come through the load balancer"
            )
        try:
            claims = self._verify(token, now)
        except LockboardError as error:
            raise SignInRefused(f"x-amzn-oidc-data: {error}") from None
        subject = _claim(claims, "sub")
        if _ALB_IDENTITY in environ and _as_sent(environ[_ALB_IDENTITY]) != subject.encode():
            raise SignInRefused("x-amzn-oidc-identity is not the token's sub")
        if self._name_claim == "email" and claims.get("email_verified") in (False, "false"):
            raise SignInRefused("the identity provider has not verified the claim email")
        return Identity(
            subject=f"{self._issuer}|{subject}",
            name=_claim(claims, self._name_claim),
            method=self.method,
            groups=_groups(claims.get(self._groups_claim), self._groups_claim),
            signed_in_at=_signed_in_at(claims.get("auth_time"), now),
        )

    def sign_out(self, home: str) -> Response:
        """Ends the load balancer's session; the identity provider may still know the browser."""
        answer = see_other(home)
        for name in _ALB_COOKIES:
            answer.delete_cookie(name, secure=True, httponly=True)
        return answer


class ProxyDoor:
    """A reverse proxy signs people in. It is known by its address and by a secret that it sends along.

    Args:
        addresses: networks that it calls from (CIDR).
        secret: what `secret_header` has to hold.
        user_header, name_header, groups_header: who it is (required), what they are called (without it as
            `user_header` says), and their groups with commas between them.
        sign_out_url: where the proxy signs people out; "" for nowhere.

    Raises:
        SettingsError: one of them cannot be used.
    """

    method = "proxy"

    def __init__(
        self,
        addresses: Iterable[str],
        secret: str,
        secret_header: str,
        user_header: str,
        name_header: str,
        groups_header: str,
        sign_out_url: str = "",
    ) -> None:
        try:
            self._networks = Networks(addresses)
        except ValueError as error:
            raise SettingsError(f"auth.proxy.addresses: {error}") from None
        if not secret:
            raise SettingsError("LOCKBOARD_PROXY_SECRET: is missing; the proxy cannot be known without it")
        self._secret, self._sign_out_url = secret.encode(), sign_out_url
        self._secret_name = _environ_name("secret_header", secret_header)
        self._user_name = _environ_name("user_header", user_header)
        self._name_name = _environ_name("name_header", name_header)
        self._groups_name = _environ_name("groups_header", groups_header)
        names = (self._secret_name, self._user_name, self._name_name, self._groups_name)
        if self._secret_name in names[1:] or self._groups_name in names[:3]:
            raise SettingsError("auth.proxy: the same header is named twice")

    def identity(self, environ: Mapping[str, Any], now: datetime) -> Identity:
        if not self._networks.hold(environ.get(PEER, "")):
            raise SignInRefused("the request did not come from the proxy's addresses")
        if not hmac.compare_digest(_as_sent(environ.get(self._secret_name, "")), self._secret):
            raise SignInRefused("the proxy's secret is missing or another")
        user = _one(environ.get(self._user_name, ""), "the user's header")
        return Identity(
            subject=f"proxy|{user}",
            name=_one(environ[self._name_name], "the name's header")
            if environ.get(self._name_name)
            else user,
            method=self.method,
            groups=_parts(_text(environ.get(self._groups_name, ""), "the groups' header").split(",")),
            signed_in_at=now,
        )

    def sign_out(self, home: str) -> Response:
        return see_other(self._sign_out_url or home)


def _environ_name(setting: str, header: str) -> str:
    if not _HEADER.fullmatch(header):
        raise SettingsError(f"auth.proxy.{setting}: must be a header's name: letters, digits and hyphens")
    return f"HTTP_{header.upper().replace('-', '_')}"


def _as_sent(value: str) -> bytes:
    """The bytes of a header: WSGI has them as Latin-1."""
    return value.encode("latin-1")


def _text(value: str, what: str) -> str:
    try:
        return _as_sent(value).decode()
    except UnicodeDecodeError:
        raise SignInRefused(f"{what} is not UTF-8") from None


def _one(value: str, what: str) -> str:
    """The only value of a header."""
    if "," in value:
        raise SignInRefused(f"{what} has more than one value")
    return _plain(_text(value, what), what)


def _plain(value: object, what: str) -> str:
    """A text that can name somebody: characters that show, not too many, and no blanks around them."""
    if not isinstance(value, str) or not value:
        raise SignInRefused(f"{what} is missing or no text")
    if len(value) > LONGEST_NAME:
        raise SignInRefused(f"{what} is longer than {LONGEST_NAME} characters")
    if not value.isprintable() or value != value.strip():
        raise SignInRefused(f"{what} has characters that do not show")
    return value


def _claim(claims: Mapping[str, Any], name: str) -> str:
    return _plain(claims.get(name), f"the claim {name}")


def _groups(value: object, name: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return _parts(_BETWEEN_GROUPS.split(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _parts(value)
    raise SignInRefused(f"the claim {name} is neither a text nor a list of texts")


def _parts(values: Iterable[str]) -> frozenset[str]:
    return frozenset(_plain(found, "a group") for value in values if (found := value.strip()))


def _signed_in_at(value: object, now: datetime) -> datetime:
    """`auth_time`, Unix time in seconds; some providers' numbers reach the token as text."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is int and 0 < value <= now.timestamp():
        return datetime.fromtimestamp(value, UTC)
    return now
