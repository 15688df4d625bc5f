"""What an AWS load balancer says of the person it signed in: `x-amzn-oidc-data`, verified.

The token is a JWT with ways of its own (Elastic Load Balancing, "Authenticate users using an Application
Load Balancer"): who signed it for whom, and until when, stands in its JOSE header, where JWT libraries do not
look; its base64 keeps the padding; and its key is one PEM file, named by the key ID, at an address of the
load balancer's region. Every load balancer of a region signs with keys from there, so that a signature alone
says nothing: the signer has to be ours.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lockboard.domain.errors import LockboardError, SettingsError

LONGEST_TOKEN = 16 * 1024
"""Bytes."""
LONGEST_KEY = 4 * 1024
"""Bytes; a P-256 key has 178."""
LEEWAY = timedelta(seconds=60)
"""How far our clock and the load balancer's may differ."""
LONGEST_LIFE = timedelta(hours=1)
"""A load balancer gives its tokens two minutes."""
KEY_LASTS = timedelta(hours=1)
KEY_HOLDS_OUT = timedelta(hours=4)
"""So long a key counts after it was fetched while the key server fails: an outage of it, or of the way to it,
is to throw nobody out. A key that the server says it has not (404) counts no more.
"""
RENEW_AGAIN = timedelta(seconds=10)
"""After which a renewal that failed is tried again."""
NO_KEY_LASTS = timedelta(minutes=1)
KEYS_KEPT = 128
"""Key IDs that are remembered, with a key or without one."""
FETCHES_A_MINUTE = 20
"""For key IDs that gave no key before: whoever makes some up is not to use us against the key server."""
FETCH_SECONDS = 3.0

Fetch = Callable[[str], bytes]
"""What is at an address, at most LONGEST_KEY bytes. Raises TokenRefused where it is not to be had, NoSuchKey
where it is not there.
"""

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):elasticloadbalancing:(?P<region>[a-z]{2,}(?:-[a-z]+)+-\d{1,2}):\d{12}:"
    r"loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+"
)
_KEYS_AT = {
    "aws": "https://public-keys.auth.elb.{region}.amazonaws.com/",
    "aws-cn": "https://public-keys.auth.elb.{region}.amazonaws.com.cn/",
    "aws-us-gov": "https://s3-{region}.amazonaws.com/aws-elb-public-keys-prod-{region}/",
}
_KEY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PART = r"[A-Za-z0-9_-]+={0,2}"
_TOKEN = re.compile(rf"{_PART}\.{_PART}\.{_PART}")
_ONE_KEY = re.compile(
    rb"\s*-----BEGIN PUBLIC KEY-----\s[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*",
)
_FOREIGN_KEYS = ("jku", "jwk", "x5u", "x5c")
_EXTENSIONS = ("crit", "b64")
_PARALLEL_WAIT_SECONDS = 3 * FETCH_SECONDS


class TokenRefused(LockboardError):
    """The token cannot be trusted. The text says why, and holds nothing that the token's sender wrote."""


class NoSuchKey(TokenRefused):
    """The key server has no key of that ID."""


class LoadBalancer:
    """Verifies what one load balancer says. Safe to share between threads.

    Args:
        arn: of the load balancer, as the token's `signer` has it.
        issuer, client_id: of its authentication action, as the token's `iss` and `client` have them.
        fetch: gets the keys; `fetcher()` outside of tests.

    Raises:
        SettingsError: the ARN is none, or of a partition for which AWS names no address of keys.
    """

    def __init__(self, arn: str, issuer: str, client_id: str, fetch: Fetch) -> None:
        self._expected = {"signer": arn, "iss": issuer, "client": client_id}
        self._keys = _Keys(keys_at(arn), fetch)

    def claims(self, token: str, now: datetime) -> Mapping[str, Any]:
        """The claims of the person who was signed in, from the whole value of `x-amzn-oidc-data`.

        Raises:
            TokenRefused: with the reason.
        """
        header = _header(token)
        self._check(header, now)
        claims = _signed_claims(token, self._keys.get(header["kid"], now))
        if "exp" in claims:
            _check_end(claims["exp"], now)
        return claims

    def _check(self, header: Mapping[str, Any], now: datetime) -> None:
        """All that can be known before a key is asked for."""
        if header.get("alg") != "ES256":
            raise TokenRefused("the token's algorithm is not ES256")
        if any(name in header for name in _FOREIGN_KEYS):
            raise TokenRefused("the token brings or names a key of its own")
        if any(name in header for name in _EXTENSIONS):
            raise TokenRefused("the token asks for extensions")
        for name, value in self._expected.items():
            if header.get(name) != value:
                raise TokenRefused(f"the token's {name} is not the configured one")
        _check_end(header.get("exp"), now, longest=LONGEST_LIFE)
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise TokenRefused("the token's key ID is not a UUID")


def keys_at(arn: str) -> str:
    """The address below which the keys of a load balancer's region are, from its ARN alone.

    Raises:
        SettingsError: the ARN is none, or of a partition for which AWS names no such address.
    """
    found = _ARN.fullmatch(arn)
    if found is None:
        raise SettingsError("auth.alb.arn: is not the ARN of an Application Load Balancer")
    if found["partition"] not in _KEYS_AT:
        raise SettingsError(
            f"auth.alb.arn: the partition {found['partition']} is not supported; supported are"
            f" {', '.join(_KEYS_AT)}"
        )
    return _KEYS_AT[found["partition"]].format(region=found["region"])


def fetcher(
    proxy: str | None = None, seconds: float = FETCH_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Fetch:
    """Gets keys over HTTP(S): no redirects, no second try, no more than LONGEST_KEY bytes.

    proxy: URL of an HTTP proxy, for networks that lead out through one only.
    seconds: for the connection, for each wait for a part of the answer, and for its body.
    """
    pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()

    def fetch(url: str) -> bytes:
        try:
            answer = pool.request(
                "GET",
                url,
                timeout=urllib3.Timeout(connect=seconds, read=seconds),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                if answer.status == 404:
                    raise NoSuchKey("the key server answered 404")
                if answer.status != 200:
                    raise TokenRefused(f"the key server answered {answer.status}")
                return _short_body(answer, clock, clock() + seconds)
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError):
            raise TokenRefused("the key server did not answer") from None

    return fetch


def _short_body(answer: urllib3.BaseHTTPResponse, clock: Callable[[], float], deadline: float) -> bytes:
    body = b""
    while chunk := answer.read1(LONGEST_KEY + 1):
        body += chunk
        if len(body) > LONGEST_KEY:
            raise TokenRefused("the key server sent more than a key")
        if clock() > deadline:
            raise TokenRefused("the key server did not answer")
    return body


class _Known(NamedTuple):
    """What is known of a key ID: its key, or why there is none. lasts: how long the key server is not asked
    again.  fetched_at: of the key, which is older than `asked_at` where it could not be renewed.
    """

    asked_at: datetime
    lasts: timedelta
    key: EllipticCurvePublicKey | None
    fetched_at: datetime
    reason: str = ""

    def holds(self, now: datetime) -> bool:
        return self.asked_at <= now < self.asked_at + self.lasts

    def holds_out(self, now: datetime) -> bool:
        """Whether there is a key that counts while it cannot be renewed."""
        return self.key is not None and self.fetched_at <= now < self.fetched_at + KEY_HOLDS_OUT


class _Keys:
    """The keys below one address, kept for a while. Of requests that need the same key, one fetches it; the
    others wait for it only where there is none from before.
    """

    def __init__(self, address: str, fetch: Fetch) -> None:
        self._address, self._fetch = address, fetch
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._under_way: dict[str, Future[_Known]] = {}
        self._asked_at: deque[datetime] = deque()

    def get(self, key_id: str, now: datetime) -> EllipticCurvePublicKey:
        with self._lock:
            known = self._known.get(key_id)
            if known is not None and known.holds(now):
                self._known.move_to_end(key_id)
                return _key_of(known)
            waiting = self._under_way.get(key_id)
            if waiting is not None and known is not None and known.holds_out(now):
                return _key_of(known)
            if waiting is None:
                if known is None or known.key is None:
                    self._spend(now)
                mine = self._under_way[key_id] = Future()
        if waiting is not None:
            return _key_of(_result_of(waiting))
        found = self._ask(key_id, known, now)
        with self._lock:
            self._known[key_id] = found
            self._known.move_to_end(key_id)
            while len(self._known) > KEYS_KEPT:
                self._known.popitem(last=False)
            del self._under_way[key_id]
        mine.set_result(found)
        return _key_of(found)

    def _spend(self, now: datetime) -> None:
        while self._asked_at and not now - timedelta(minutes=1) < self._asked_at[0] <= now:
            self._asked_at.popleft()
        if len(self._asked_at) >= FETCHES_A_MINUTE:
            raise TokenRefused("too many unknown keys were asked for within a minute")
        self._asked_at.append(now)

    def _ask(self, key_id: str, known: _Known | None, now: datetime) -> _Known:
        try:
            return _Known(now, KEY_LASTS, _parsed(self._fetch(self._address + key_id)), now)
        except NoSuchKey as refusal:
            return _Known(now, NO_KEY_LASTS, None, now, str(refusal))
        except TokenRefused as refusal:
            reason = str(refusal)
        except Exception:  # noqa: BLE001 - who waits for this key has to be told, whatever went wrong
            reason = "the key could not be fetched"
        if known is not None and known.holds_out(now):
            return known._replace(asked_at=now, lasts=RENEW_AGAIN)
        return _Known(now, NO_KEY_LASTS, None, now, reason)


def _result_of(waiting: Future[_Known]) -> _Known:
    try:
        return waiting.result(_PARALLEL_WAIT_SECONDS)
    except TimeoutError:
        raise TokenRefused("the key server did not answer") from None


def _key_of(known: _Known) -> EllipticCurvePublicKey:
    if known.key is None:
        raise TokenRefused(known.reason)
    return known.key


def _parsed(body: bytes) -> EllipticCurvePublicKey:
    if not _ONE_KEY.fullmatch(body):
        raise TokenRefused("the key server did not send one public key")
    try:
        key = load_pem_public_key(body)
    except Exception:  # noqa: BLE001 - cryptography names no common base of what it raises for a broken key
        raise TokenRefused("the key server sent a key that cannot be read") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise TokenRefused("the key server sent a key that is not for ES256")
    return key


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > LONGEST_TOKEN:
        raise TokenRefused("the token is longer than 16 KiB")
    if "," in token:
        raise TokenRefused("there is more than one token")
    if not _TOKEN.fullmatch(token):
        raise TokenRefused("the token is not three parts of base64")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenRefused("the token is malformed") from None


def _signed_claims(token: str, key: EllipticCurvePublicKey) -> Mapping[str, Any]:
    """The payload, if the signature is of these very bytes, or of the same ones with the padding that the
    load balancer writes, where something on the way took it off.
    """
    payload = None
    for form in dict.fromkeys((token, _padded(token))):
        try:
            payload = jwt.PyJWS(algorithms=["ES256"]).decode(form, key, algorithms=["ES256"])
            break
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
    if payload is None:
        raise TokenRefused("the token's signature does not match")
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefused("the token's claims are not a JSON object")
    return claims


def _padded(token: str) -> str:
    return ".".join(part + "=" * (-len(part) % 4) for part in token.split("."))


def _check_end(end: object, now: datetime, longest: timedelta | None = None) -> None:
    """end: Unix time in seconds."""
    if type(end) is not int:
        raise TokenRefused("the token's exp is not a whole number of seconds")
    moment = int(now.timestamp())
    if end < moment - LEEWAY.total_seconds():
        raise TokenRefused("the token has expired")
    if longest is not None and end > moment + longest.total_seconds():
        raise TokenRefused("the token's exp is too far in the future")
