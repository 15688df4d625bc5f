"""What an ID token proves, and of whom. No network and no clock.

OpenID Connect Core 1.0 section 3.1.3.7 (validation), RFC 7515 (signature), RFC 8725 (what goes wrong there).
Every function raises SignInRefused; no reason quotes a token, a nonce or a secret.
"""

from __future__ import annotations

import hashlib
import math
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeGuard

from authlib.oidc.core import CodeIDToken
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, RSAKey
from joserfc.jws import JWSRegistry, extract_compact

from lockboard.domain.access import UNTOLD, Identity
from lockboard.domain.text import shown
from lockboard.web.doors import SignInRefused

LEEWAY = timedelta(seconds=60)
"""How far the provider's clock may be from ours."""
LONGEST_ISSUED = timedelta(minutes=10)
"""An ID token is made for the code at hand; one older than this was not."""
SHORTEST_RSA = 2048
LATEST = 253402300800.0
"""The year 10000 in seconds, which no datetime holds."""

# The kind of key and the hash of each algorithm. All are asymmetric: with HS256 whoever knows the client's
# secret, or takes the public key for one, signs as the provider does.
ALGORITHMS = {
    **{f"{family}{size}": ("RSA", f"sha{size}") for family in ("RS", "PS") for size in (256, 384, 512)},
    **{f"ES{size}": ("EC", f"sha{size}") for size in (256, 384, 512)},
    "EdDSA": ("OKP", "sha512"),
    "Ed25519": ("OKP", "sha512"),
}
_BROKEN = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Expected(NamedTuple):
    """What the ID token must fit.

    fresh: how old the proof may be where a new one was asked for, else None.
    """

    issuer: str
    client_id: str
    nonce: str
    access_token: str | None
    fresh: timedelta | None


def header_of(id_token: str) -> tuple[str, str | None]:
    """(algorithm, key ID) as the token says, which nobody has verified yet."""
    try:
        header = extract_compact(id_token.encode()).headers()
        alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    except _BROKEN as error:
        raise SignInRefused(f"the ID token cannot be read: {type(error).__name__}") from None
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise SignInRefused(f"the ID token is signed with {shown(str(alg), 40)!r}, which is not accepted")
    if not (kid is None or isinstance(kid, str)):
        raise SignInRefused("the ID token's key ID is no text")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise SignInRefused(f"the token is no ID token but {shown(str(kind), 40)!r}")
    return alg, kid


def fitting_key(keys: Sequence[Any], kid: str | None, alg: str) -> Mapping[str, Any] | None:
    """The key of that ID for that algorithm; without an ID, the only key that fits."""
    kind = ALGORITHMS[alg][0]
    fitting = [
        key
        for key in keys
        if isinstance(key, dict)
        and key.get("kty") == kind
        and key.get("use", "sig") == "sig"
        and key.get("alg", alg) == alg
        and (kid is None or key.get("kid") == kid)
    ]
    return fitting[0] if len(fitting) == 1 else None


def verified(id_token: str, alg: str, key: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims of a token that this key signed with this algorithm."""
    try:
        public = JWKRegistry.import_key(dict(key))
        if isinstance(public, RSAKey) and public.raw_value.key_size < SHORTEST_RSA:
            raise SignInRefused(f"the provider's key is shorter than {SHORTEST_RSA} bits")
        registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
        token = jwt.decode(id_token, public, registry=registry)
    except _BROKEN as error:
        name = type(error).__name__
        raise SignInRefused(f"the ID token's signature is not the provider's: {name}") from None
    return token.claims


def check(claims: Mapping[str, Any], alg: str, expected: Expected, now: datetime) -> None:
    """Refuse claims that are not for us, not for this sign-in, or not of now."""
    _check_parties(claims, expected)
    _check_binding(claims, alg, expected)
    _check_times(claims, now)
    _check_proof(claims, expected, now)
    # A second opinion: Authlib's own reading of the same rules.
    options = {"iss": {"essential": True, "value": expected.issuer}}
    params = {"nonce": expected.nonce, "client_id": expected.client_id, "access_token": expected.access_token}
    try:
        CodeIDToken(dict(claims), {"alg": alg}, options, params).validate(
            now=int(now.timestamp()), leeway=int(LEEWAY.total_seconds())
        )
    except _BROKEN as error:
        raise SignInRefused(f"the ID token: {shown(str(error), 200)}") from None


def identity_of(claims: Mapping[str, Any], name_claim: str, groups_claim: str) -> Identity:
    """Whom checked claims are about."""
    proved = claims.get("auth_time")
    return Identity(
        subject=f"{claims['iss']}|{claims['sub']}",
        name=_name(claims, name_claim),
        method="oidc",
        groups=_groups(claims.get(groups_claim), groups_claim),
        signed_in_at=UNTOLD if proved is None else datetime.fromtimestamp(proved, UTC),
    )


def _check_parties(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise SignInRefused(f"the ID token is of another issuer: {shown(str(claims.get('iss')), 200)!r}")
    sub = claims.get("sub")
    if not _is_name(sub):
        raise SignInRefused("the ID token's sub is not 1 to 255 printable characters")
    audience = claims.get("aud")
    several = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in several:
        raise SignInRefused(f"the ID token is for another client: {shown(str(audience), 200)}")
    if (len(several) > 1 or "azp" in claims) and claims.get("azp") != expected.client_id:
        raise SignInRefused("the ID token was given to another client (azp)")


def _check_binding(claims: Mapping[str, Any], alg: str, expected: Expected) -> None:
    nonce = claims.get("nonce")
    if nonce != expected.nonce:
        raise SignInRefused("the ID token's nonce is missing or is of another sign-in")
    if "at_hash" not in claims:
        return
    if expected.access_token is None:
        raise SignInRefused("the ID token speaks of an access token (at_hash), and there is none")
    digest = hashlib.new(ALGORITHMS[alg][1], expected.access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != half:
        raise SignInRefused("the ID token is of another access token (at_hash)")


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if now >= expires + LEEWAY:
        raise SignInRefused("the ID token has expired")
    if issued > now + LEEWAY:
        raise SignInRefused("the ID token is of the future (iat): compare the clocks")
    if now - issued > LONGEST_ISSUED:
        raise SignInRefused("the ID token is old (iat): not made for this sign-in, or the clocks differ")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY:
        raise SignInRefused("the ID token is not valid yet (nbf)")


def _check_proof(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    if "auth_time" not in claims:
        if expected.fresh is not None:
            raise SignInRefused(
                "the provider left auth_time out, which it has to give where a new sign-in is asked for"
            )
        return
    proved = _time(claims, "auth_time")
    if proved > now + LEEWAY:
        raise SignInRefused("the person signed in in the future (auth_time): compare the clocks")
    if expected.fresh is not None and now - proved > expected.fresh:
        raise SignInRefused("a new sign-in was asked for, and an old one came back (auth_time)")


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignInRefused(f"the ID token's {name} is missing or is no number")
    if not (math.isfinite(value) and 0 <= value < LATEST):
        raise SignInRefused(f"the ID token's {name} is no time")
    return datetime.fromtimestamp(value, UTC)


def _name(claims: Mapping[str, Any], name_claim: str) -> str:
    """A name to read. Grants may go by it, so what people can call themselves is not taken for it."""
    sub = str(claims["sub"])
    name, email = claims.get(name_claim), claims.get("email")
    if _is_name(name):
        is_email = name_claim == "email" or (isinstance(email, str) and name.casefold() == email.casefold())
        return sub if is_email and not _is_verified(claims) else name
    return sub


def _is_verified(claims: Mapping[str, Any]) -> bool:
    return claims.get("email_verified", True) in (True, "true")  # some providers send text


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 1 <= len(value) <= 255 and shown(value.strip()) == value


def _groups(value: object, claim: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    found = [value] if isinstance(value, str) else value
    if not (isinstance(found, list) and all(isinstance(group, str) for group in found)):
        raise SignInRefused(f"the claim {claim!r} is no list of texts")
    # What cannot be shown as it is cannot be kept or granted anything either.
    return frozenset(group for group in found if shown(group) == group)
