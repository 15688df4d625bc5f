"""Tokens of a load balancer, true and forged, and its key server on loopback."""

from __future__ import annotations

import gzip
import hmac
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockboard.adapters.alb import (
    FETCHES_A_MINUTE,
    KEY_HOLDS_OUT,
    KEY_LASTS,
    KEYS_KEPT,
    LONGEST_KEY,
    LONGEST_TOKEN,
    RENEW_AGAIN,
    LoadBalancer,
    NoSuchKey,
    TokenRefused,
    fetcher,
    keys_at,
)
from lockboard.domain.errors import SettingsError

NOW = datetime(2026, 11, 20, 18, 0, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
ARN = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/lockboard/50dc6c495c0c9188"
OTHER_ARN = ARN.replace("50dc6c495c0c9188", "0123456789abcdef")
OTHER_REGION = ARN.replace("eu-west-1", "us-east-1")
ISSUER = "https://login.example.com/"
CLIENT = "lockboard-client"
KID = "6dbcc1a4-52bc-4b13-9e4f-9a8b7c6d5e4f"
KEYS_AT = "https://public-keys.auth.elb.eu-west-1.amazonaws.com/"
EVIL = "https://evil.example/key"

OWN_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
WIDE_KEY = ec.generate_private_key(ec.SECP384R1())

HEADER: Mapping[str, Any] = {
    "typ": "JWT",
    "kid": KID,
    "alg": "ES256",
    "iss": ISSUER,
    "client": CLIENT,
    "signer": ARN,
    "exp": AT + 120,
}
CLAIMS: Mapping[str, Any] = {
    "sub": "8f3a2b",
    "email": "kim@example.com",
    "email_verified": True,
    "groups": ["ops", "dev"],
    "exp": AT + 120,
    "iss": ISSUER,
}


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> bytes:
    """The public key as the key server sends it."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


def encoded(data: bytes, *, padded: bool = True) -> str:
    text = urlsafe_b64encode(data).decode()
    return text if padded else text.rstrip("=")


def written(values: Any) -> bytes:
    return values if isinstance(values, bytes) else json.dumps(values).encode()


def token(
    header: Any = HEADER, claims: Any = CLAIMS, *, key: Any = OWN_KEY, alg: str = "ES256", padded: bool = True
) -> str:
    """As a load balancer writes it, signed over the padded text."""
    signed = f"{encoded(written(header), padded=padded)}.{encoded(written(claims), padded=padded)}"
    signature = jwt.get_algorithm_by_name(alg).sign(signed.encode(), key)
    return f"{signed}.{encoded(signature, padded=padded)}"


def headed(**changes: Any) -> str:
    """A token with some of its header changed, or left out where None; signed with our own key."""
    changed = {name: value for name, value in {**HEADER, **changes}.items() if value is not None}
    return token(changed)


def claimed(**changes: Any) -> str:
    return token(claims={**CLAIMS, **changes})


def by_secret(secret: bytes) -> str:
    """The signature of a symmetric algorithm; PyJWT refuses to make one with a public key, so this does."""
    signed = f"{encoded(written({**HEADER, 'alg': 'HS256'}))}.{encoded(written(CLAIMS))}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def flipped(text: str, part: int) -> str:
    """With another character in the middle of a part."""
    parts = text.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


def cut(text: str, count: int) -> str:
    return ".".join([*text.split("."), "AAAA"][:count])


def no_signature(text: str) -> str:
    return text.rpartition(".")[0] + "."


def nothing_signed(size: int) -> str:
    return f"{token().rpartition('.')[0]}.{encoded(bytes(size))}"


def longer_than_allowed() -> str:
    return token(claims={**CLAIMS, "groups": ["x" * 13_000]})


UNCONFIGURED = "{} is not the configured one"
NO_NUMBER = "exp is not a whole number of seconds"
NO_UUID = "key ID is not a UUID"
MALFORMED = "is malformed"
NO_TOKEN = "is not three parts of base64"
OWN = "brings or names a key of its own"
UNSIGNED = "signature does not match"
NO_OBJECT = "claims are not a JSON object"
EXPIRED = "has expired"

FORGED: dict[str, tuple[Callable[[], str], str]] = {
    # the algorithm
    "algorithm none": (lambda: no_signature(headed(alg="none")) + "AAAA", "algorithm is not ES256"),
    "algorithm None, in other letters": (lambda: headed(alg="nOnE"), "algorithm is not ES256"),
    "no algorithm": (lambda: headed(alg=None), "algorithm is not ES256"),
    "a list of algorithms": (lambda: headed(alg=["ES256"]), "algorithm is not ES256"),
    "HS256 with the public key as secret": (lambda: by_secret(pem(OWN_KEY)), "algorithm is not ES256"),
    "HS256 with an empty secret": (lambda: by_secret(b""), "algorithm is not ES256"),
    "RS256": (
        lambda: token({**HEADER, "alg": "RS256"}, key=rsa_key(), alg="RS256"),
        "algorithm is not ES256",
    ),
    "ES384": (
        lambda: token({**HEADER, "alg": "ES384"}, key=WIDE_KEY, alg="ES384"),
        "algorithm is not ES256",
    ),
    # for whom it was signed, and by whom
    "another load balancer": (lambda: headed(signer=OTHER_ARN), UNCONFIGURED.format("signer")),
    "another region": (lambda: headed(signer=OTHER_REGION), UNCONFIGURED.format("signer")),
    "another account": (
        lambda: headed(signer=ARN.replace("123456789012", "210987654321")),
        UNCONFIGURED.format("signer"),
    ),
    "no signer": (lambda: headed(signer=None), UNCONFIGURED.format("signer")),
    "a list of signers": (lambda: headed(signer=[ARN]), UNCONFIGURED.format("signer")),
    "our signer and more": (lambda: headed(signer=ARN + "\n"), UNCONFIGURED.format("signer")),
    "another issuer": (lambda: headed(iss="https://login.evil.example/"), UNCONFIGURED.format("iss")),
    "no issuer in the header": (lambda: headed(iss=None), UNCONFIGURED.format("iss")),
    "the issuer without its slash": (lambda: headed(iss=ISSUER[:-1]), UNCONFIGURED.format("iss")),
    "another client": (lambda: headed(client="other"), UNCONFIGURED.format("client")),
    "no client": (lambda: headed(client=None), UNCONFIGURED.format("client")),
    # until when
    "expired": (lambda: headed(exp=AT - 61), EXPIRED),
    "expired an hour ago": (lambda: headed(exp=AT - 3600), EXPIRED),
    "no end": (lambda: headed(exp=None), NO_NUMBER),
    "the end as text": (lambda: headed(exp=str(AT + 120)), NO_NUMBER),
    "the end as a fraction": (lambda: headed(exp=AT + 120.5), NO_NUMBER),
    "the end as a truth": (lambda: headed(exp=True), NO_NUMBER),
    "the end as a list": (lambda: headed(exp=[AT + 120]), NO_NUMBER),
    "no number as the end": (lambda: headed(exp=float("nan")), NO_NUMBER),
    "the end never": (lambda: headed(exp=float("inf")), NO_NUMBER),
    "a negative end": (lambda: headed(exp=-AT), EXPIRED),
    "the end in a thousand years": (lambda: headed(exp=AT + 31_557_600_000), "too far in the future"),
    "an end of 400 digits": (lambda: headed(exp=10**400), "too far in the future"),
    "an end of 5,000 digits": (
        lambda: token(written(HEADER).replace(str(AT + 120).encode(), b"9" * 5000)),
        MALFORMED,
    ),
    "claims expired": (lambda: claimed(exp=AT - 61), EXPIRED),
    "the claims' end as text": (lambda: claimed(exp="never"), NO_NUMBER),
    "the claims' end as null": (lambda: claimed(exp=None), NO_NUMBER),
    # which key
    "key ID that climbs": (lambda: headed(kid="../" + KID), NO_UUID),
    "key ID that climbs, as escapes": (lambda: headed(kid="..%2f" + KID), NO_UUID),
    "key ID that names a host": (lambda: headed(kid="@evil.example/" + KID), NO_UUID),
    "key ID that is an address": (lambda: headed(kid=EVIL), NO_UUID),
    "key ID with a query": (lambda: headed(kid=KID + "?x=1"), NO_UUID),
    "key ID with a newline": (lambda: headed(kid=KID + "\n"), NO_UUID),
    "key ID with a header": (lambda: headed(kid=KID + "\r\nHost: evil.example"), NO_UUID),
    "key ID in other digits": (lambda: headed(kid=KID.replace("6", "\u0666")), NO_UUID),
    "key ID that is no UUID": (lambda: headed(kid="key-1"), NO_UUID),
    "empty key ID": (lambda: headed(kid=""), NO_UUID),
    "no key ID": (lambda: headed(kid=None), NO_UUID),
    "key ID as a number": (lambda: headed(kid=7), MALFORMED),
    "a key's address (jku)": (lambda: headed(jku=EVIL), OWN),
    "a certificate's address (x5u)": (lambda: headed(x5u=EVIL), OWN),
    "a key of its own (jwk)": (
        lambda: token(
            {**HEADER, "jwk": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(OTHER_KEY.public_key()))},
            key=OTHER_KEY,
        ),
        OWN,
    ),
    "a certificate of its own (x5c)": (lambda: headed(x5c=["AAAA"]), OWN),
    "critical extensions": (lambda: headed(crit=["exp"]), MALFORMED),
    "an extension that is not critical": (lambda: headed(b64=True), "asks for extensions"),
    "claims that are not encoded": (lambda: headed(b64=False), MALFORMED),
    # its form
    "empty": (lambda: "", NO_TOKEN),
    "blanks": (lambda: "   ", NO_TOKEN),
    "two tokens": (lambda: f"{token()},{token()}", "more than one token"),
    "one token and a comma": (lambda: token() + ",", "more than one token"),
    "the token of somebody else after ours": (lambda: f"{token()}, {claimed(sub='x')}", "more than one"),
    "two parts": (lambda: cut(token(), 2), NO_TOKEN),
    "four parts": (lambda: cut(token(), 4), NO_TOKEN),
    "encrypted, of five parts": (lambda: token() + ".AAAA.AAAA", NO_TOKEN),
    "no signature": (lambda: no_signature(token()), NO_TOKEN),
    "a scheme before it": (lambda: "Bearer " + token(), NO_TOKEN),
    "a newline after it": (lambda: token() + "\n", NO_TOKEN),
    "plain base64": (lambda: "+" + token()[1:], NO_TOKEN),
    "too much padding": (lambda: token().replace(".", "=.", 1), MALFORMED),
    "17 KB": (longer_than_allowed, "longer than 16 KiB"),
    "a header that is no object": (lambda: token([HEADER]), MALFORMED),
    "a header that is not JSON": (lambda: token(b"{'alg': 'ES256'}"), MALFORMED),
    "a header that is not UTF-8": (lambda: token(written(HEADER)[:-1] + b', "x": "\xff"}'), MALFORMED),
    "a header as deep as it is long": (lambda: token(b"[" * 8000), MALFORMED),
    # what is signed
    "a changed byte of the signature": (lambda: flipped(token(), 2), UNSIGNED),
    "a changed byte of the claims": (lambda: flipped(token(), 1), UNSIGNED),
    "a header with a blank more": (
        lambda: ".".join([encoded(written(HEADER) + b" "), *token().split(".")[1:]]),
        UNSIGNED,
    ),
    "the claims of another token": (
        lambda: ".".join([token().split(".")[0], claimed(sub="x").split(".")[1], token().split(".")[2]]),
        UNSIGNED,
    ),
    "the signature zero": (lambda: nothing_signed(64), UNSIGNED),
    "a short signature": (lambda: nothing_signed(63), UNSIGNED),
    "a signature of another key": (lambda: token(key=OTHER_KEY), UNSIGNED),
    "claims that are a list": (lambda: token(claims=[CLAIMS]), NO_OBJECT),
    "claims that are null": (lambda: token(claims=None), NO_OBJECT),
    "claims that are not JSON": (lambda: token(claims=b"sub=8f3a2b"), NO_OBJECT),
    "claims that are not UTF-8": (lambda: token(claims=b'{"sub": "\xff"}'), NO_OBJECT),
    "claims as deep as they are long": (lambda: token(claims=b'{"a":' * 2000), NO_OBJECT),
}

VALID: dict[str, Callable[[], str]] = {
    "padded, as a load balancer sends it": token,
    "signed without padding": lambda: token(padded=False),
    "padded, and the padding lost on the way": lambda: token().replace("=", ""),
    "claims without an end": lambda: token(claims={n: v for n, v in CLAIMS.items() if n != "exp"}),
    "claims that are texts in texts": lambda: claimed(groups='["ops"]', email_verified="true"),
    "ended within the leeway": lambda: headed(exp=AT - 60),
    "claims ended within the leeway": lambda: claimed(exp=AT - 60),
    "further header fields": lambda: headed(version="2"),
}


@dataclass
class Keys:
    """A key server without a network: what it has, and every address that was asked for."""

    has: dict[str, bytes] = field(default_factory=lambda: {KEYS_AT + KID: pem(OWN_KEY)})
    asked: list[str] = field(default_factory=list)

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.has:
            raise NoSuchKey("the key server answered 404")
        return self.has[url]


def balancer(keys: Callable[[str], bytes]) -> LoadBalancer:
    return LoadBalancer(ARN, ISSUER, CLIENT, keys)


def refusal(found: LoadBalancer, text: str, now: datetime = NOW) -> str:
    with pytest.raises(TokenRefused) as caught:
        found.claims(text, now)
    return str(caught.value)


@pytest.mark.parametrize(("make", "reason"), FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused_with_the_reason(make: Callable[[], str], reason: str) -> None:
    assert reason in refusal(balancer(Keys()), make())


@pytest.mark.parametrize("make", VALID.values(), ids=VALID)
def test_a_true_token_gives_its_claims(make: Callable[[], str]) -> None:
    assert balancer(Keys()).claims(make(), NOW)["sub"] == "8f3a2b"


def test_a_true_token_is_padded_so_that_the_padding_is_tried_at_all() -> None:
    assert all(part.endswith("=") for part in token().split(".")[:2])
    assert len(longer_than_allowed()) > 17_000 > LONGEST_TOKEN


def test_whatever_a_token_says_only_the_configured_address_is_asked_for_a_key() -> None:
    keys = Keys()
    for make, _ in FORGED.values():
        refusal(balancer(keys), make())
    for true in VALID.values():
        balancer(keys).claims(true(), NOW)

    assert {KEYS_AT + KID} == set(keys.asked)


def test_no_key_is_asked_for_where_the_header_is_refused_already() -> None:
    after_the_key = (UNSIGNED, NO_OBJECT)
    keys = Keys()
    for name, (make, reason) in FORGED.items():
        if reason not in after_the_key and "claims" not in name:
            refusal(balancer(keys), make())

    assert keys.asked == []


def test_a_refusal_repeats_nothing_that_the_sender_wrote() -> None:
    said = {refusal(balancer(Keys()), make()) for make, _ in FORGED.values()}

    assert not [text for text in said if any(word in text for word in ("evil", KID, "210987654321", "\n"))]


@pytest.mark.parametrize(
    ("arn", "address"),
    [
        (ARN, KEYS_AT),
        (
            ARN.replace("eu-west-1", "ap-southeast-3"),
            "https://public-keys.auth.elb.ap-southeast-3.amazonaws.com/",
        ),
        (
            ARN.replace("aws:", "aws-us-gov:", 1).replace("eu-west-1", "us-gov-west-1"),
            "https://s3-us-gov-west-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-west-1/",
        ),
        (
            ARN.replace("aws:", "aws-cn:", 1).replace("eu-west-1", "cn-north-1"),
            "https://public-keys.auth.elb.cn-north-1.amazonaws.com.cn/",
        ),
    ],
)
def test_the_address_of_the_keys_follows_from_the_load_balancers_arn(arn: str, address: str) -> None:
    assert address == keys_at(arn)


@pytest.mark.parametrize(
    ("arn", "complaint"),
    [
        (
            ARN.replace("aws:", "aws-iso:", 1).replace("eu-west-1", "us-iso-east-1"),
            "aws-iso is not supported",
        ),
        (ARN.replace("app/", "net/"), "not the ARN"),
        (ARN.replace("eu-west-1", "evil.example/"), "not the ARN"),
        (ARN.replace("eu-west-1", "x@evil-1"), "not the ARN"),
        (ARN + "\n", "not the ARN"),
        ("", "not the ARN"),
    ],
)
def test_an_arn_without_an_address_of_keys_stops_the_start(arn: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"^auth.alb.arn: .*{complaint}"):
        LoadBalancer(arn, ISSUER, CLIENT, Keys())


def test_a_key_is_fetched_once_an_hour() -> None:
    keys = Keys()
    found = balancer(keys)
    for minutes in (0, 1, 30, 59):
        later = NOW + timedelta(minutes=minutes)
        found.claims(token({**HEADER, "exp": int(later.timestamp())}, {"sub": "x"}), later)
    assert len(keys.asked) == 1

    later = NOW + timedelta(hours=1)
    found.claims(token({**HEADER, "exp": int(later.timestamp())}, {"sub": "x"}), later)
    assert len(keys.asked) == 2


def test_a_key_of_the_future_is_fetched_anew_after_the_clock_went_backwards() -> None:
    keys = Keys()
    found = balancer(keys)
    later = NOW + timedelta(days=1)
    found.claims(token({**HEADER, "exp": int(later.timestamp())}, {"sub": "x"}), later)
    found.claims(token(), NOW)

    assert len(keys.asked) == 2


def true_at(moment: datetime) -> str:
    """A token as the load balancer gives it then."""
    ends = int(moment.timestamp()) + 120
    return token({**HEADER, "exp": ends}, {**CLAIMS, "exp": ends})


OUTAGES: dict[str, tuple[Callable[[str], bytes], str]] = {
    "it answers 503": (lambda url: refuse("the key server answered 503"), "the key server answered 503"),
    "it does not answer": (lambda url: refuse("the key server did not answer"), "did not answer"),
    "it sends a page": (lambda url: b"<html>back soon</html>", "did not send one public key"),
    "the fetch breaks": (lambda url: bytes(1 // 0), "the key could not be fetched"),
}


def refuse(reason: str) -> bytes:
    raise TokenRefused(reason)


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_known_key_holds_out_while_the_key_server_fails(outage: str) -> None:
    fails, reason = OUTAGES[outage]
    keys, asked, down = Keys(), [], False

    def fetch(url: str) -> bytes:
        asked.append(url)
        return fails(url) if down else keys(url)

    found = balancer(fetch)
    found.claims(token(), NOW)
    down = True
    renewal = NOW + KEY_LASTS
    for later in (renewal, renewal + timedelta(seconds=1), NOW + KEY_HOLDS_OUT - timedelta(seconds=1)):
        assert found.claims(true_at(later), later)["sub"] == "8f3a2b"
    over = NOW + KEY_HOLDS_OUT
    assert reason in refusal(found, true_at(over - timedelta(seconds=1)), over + RENEW_AGAIN)
    assert len(asked) == 4


def test_a_renewal_that_failed_is_tried_again_after_some_seconds() -> None:
    keys, down = Keys(), True

    def fetch(url: str) -> bytes:
        body = keys(url)
        return refuse("the key server answered 503") if down and len(keys.asked) > 1 else body

    found = balancer(fetch)
    found.claims(token(), NOW)
    for seconds in (0, 1, 9):
        later = NOW + KEY_LASTS + timedelta(seconds=seconds)
        found.claims(true_at(later), later)
    assert len(keys.asked) == 2

    down, later = False, NOW + KEY_LASTS + RENEW_AGAIN
    found.claims(true_at(later), later)
    assert len(keys.asked) == 3
    much_later = later + KEY_LASTS - timedelta(seconds=1)
    found.claims(true_at(much_later), much_later)
    assert len(keys.asked) == 3


def test_while_a_known_key_is_renewed_nobody_waits_for_it() -> None:
    asked, go_on = threading.Event(), threading.Event()
    keys = Keys()

    def slow(url: str) -> bytes:
        if keys.asked:
            asked.set()
            assert go_on.wait(60)
        return keys(url)

    found = balancer(slow)
    found.claims(token(), NOW)
    later = NOW + KEY_LASTS
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(found.claims, true_at(later), later)
        assert asked.wait(60)
        assert found.claims(true_at(later), later)["sub"] == "8f3a2b"
        go_on.set()
        assert renewing.result(60)["sub"] == "8f3a2b"


def test_a_key_that_the_key_server_no_longer_has_counts_no_more() -> None:
    keys = Keys()
    found = balancer(keys)
    found.claims(token(), NOW)
    keys.has.clear()
    later = NOW + KEY_LASTS

    assert refusal(found, true_at(later), later) == "the key server answered 404"


def test_that_there_is_no_key_is_remembered_for_a_minute() -> None:
    keys = Keys(has={})
    found = balancer(keys)
    for seconds in (0, 1, 59):
        assert refusal(found, token(), NOW + timedelta(seconds=seconds)) == "the key server answered 404"
    assert len(keys.asked) == 1

    keys.has[KEYS_AT + KID] = pem(OWN_KEY)
    found.claims(token(), NOW + timedelta(seconds=60))
    assert len(keys.asked) == 2


def made_up(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def test_made_up_key_ids_are_asked_for_at_a_bounded_rate_and_do_not_shut_the_true_one_out() -> None:
    keys = Keys()
    found = balancer(keys)
    found.claims(token(), NOW)
    said = [refusal(found, headed(kid=made_up(number))) for number in range(1000)]

    assert len(keys.asked) == FETCHES_A_MINUTE
    assert {"the key server answered 404", "too many unknown keys were asked for within a minute"} == set(
        said
    )
    assert found.claims(token(), NOW)["sub"] == "8f3a2b"

    later = NOW + timedelta(hours=1)
    ends = int(later.timestamp())
    for number in range(1000, 1100):
        refusal(found, headed(kid=made_up(number), exp=ends), later)
    assert len(keys.asked) == 2 * FETCHES_A_MINUTE
    assert found.claims(token({**HEADER, "exp": ends}, {"sub": "x"}), later)["sub"] == "x"


def test_as_many_keys_are_kept_as_there_is_room_for_and_the_used_ones_stay() -> None:
    keys = Keys()
    found = balancer(keys)
    for number in range(2 * KEYS_KEPT):
        kid = made_up(number)
        keys.has[KEYS_AT + kid] = pem(OWN_KEY)
        now = NOW + timedelta(seconds=4 * number)
        found.claims(token({**HEADER, "kid": kid, "exp": int(now.timestamp())}, {"sub": "x"}), now)
        found.claims(token({**HEADER, "exp": int(now.timestamp())}, {"sub": "x"}), now)

    assert keys.asked.count(KEYS_AT + KID) == 1
    found.claims(token({**HEADER, "kid": made_up(0), "exp": int(now.timestamp())}, {"sub": "x"}), now)
    assert keys.asked.count(KEYS_AT + made_up(0)) == 2


def test_of_requests_that_need_the_same_key_at_once_one_fetches_it() -> None:
    asked, go_on = threading.Event(), threading.Event()
    keys = Keys()

    def slow(url: str) -> bytes:
        asked.set()
        assert go_on.wait(60)
        return keys(url)

    found = balancer(slow)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(found.claims, token(), NOW)
        assert asked.wait(60)
        others = [pool.submit(found.claims, token(), NOW) for _ in range(7)]
        go_on.set()
        assert [future.result(60)["sub"] for future in (first, *others)] == ["8f3a2b"] * 8
    assert len(keys.asked) == 1


def test_a_fetch_that_breaks_is_a_refusal_and_leaves_nobody_waiting() -> None:
    def broken(url: str) -> bytes:
        raise RuntimeError(url)

    found = balancer(broken)
    assert refusal(found, token()) == "the key could not be fetched"
    assert refusal(found, token()) == "the key could not be fetched"


CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ONE_KEY = "did not send one public key"

WRONG_KEYS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ONE_KEY),
    "blanks": (b" \n", ONE_KEY),
    "a page": (b"<html>no such key</html>", ONE_KEY),
    "bytes": (bytes(range(256)), ONE_KEY),
    "a broken key": (
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "that cannot be read",
    ),
    "an RSA key": (pem(rsa_key()), "not for ES256"),
    "a P-384 key": (pem(WIDE_KEY), "not for ES256"),
    "an Ed25519 key": (pem(ed25519.Ed25519PrivateKey.generate()), "not for ES256"),
    "two keys": (pem(OWN_KEY) + pem(OTHER_KEY), ONE_KEY),
    "the key twice": (pem(OWN_KEY) * 2, ONE_KEY),
    "a certificate": (CERTIFICATE, ONE_KEY),
    "two certificates": (CERTIFICATE * 2, ONE_KEY),
    "a key and a certificate": (pem(OWN_KEY) + CERTIFICATE, ONE_KEY),
    "a key in a page": (b"<pre>" + pem(OWN_KEY) + b"</pre>", ONE_KEY),
}


@pytest.mark.parametrize(("body", "reason"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_what_is_not_one_key_for_es256_verifies_nothing(body: bytes, reason: str) -> None:
    assert reason in refusal(balancer(Keys({KEYS_AT + KID: body})), token())


@dataclass
class KeyServer:
    """A real server on loopback that answers in one way, and notes what it was asked for."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    over: threading.Event = field(default_factory=threading.Event)
    paths: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Gives its address."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
            thread = threading.Thread(target=http.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{http.server_port}/"
            finally:
                self.over.set()
                http.shutdown()
                thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def say(handler: BaseHTTPRequestHandler, text: bytes) -> None:
    handler.wfile.write(text)


def wait(over: threading.Event) -> None:
    over.wait(60)


def served(server: KeyServer, seconds: float = 3.0, clock: Callable[[], float] = lambda: 0.0) -> str:
    """What a true token is refused for, or its subject, where this server has the keys."""
    with server.running() as address:
        fetch = fetcher(seconds=seconds, clock=clock)
        found = balancer(lambda url: fetch(url.replace(KEYS_AT, address)))
        try:
            return str(found.claims(token(), NOW)["sub"])
        except TokenRefused as error:
            return str(error)


def test_a_key_comes_over_http() -> None:
    server = KeyServer(lambda handler: send(handler, 200, pem(OWN_KEY)))

    assert served(server) == "8f3a2b"
    assert [f"/{KID}"] == server.paths


@pytest.mark.parametrize("status", [204, 301, 302, 303, 307, 308, 400, 403, 404, 429, 500, 503])
def test_another_status_than_200_gives_no_key_and_is_not_followed(status: int) -> None:
    body = b"" if status == 204 else pem(OWN_KEY)
    server = KeyServer(lambda handler: send(handler, status, body, Location="/elsewhere"))

    assert f"the key server answered {status}" == served(server)
    assert [f"/{KID}"] == server.paths


@pytest.mark.parametrize(("status", "kind"), [(404, NoSuchKey), (403, TokenRefused), (500, TokenRefused)])
def test_only_404_says_that_there_is_no_such_key(status: int, kind: type[TokenRefused]) -> None:
    server = KeyServer(lambda handler: send(handler, status))

    with server.running() as address, pytest.raises(TokenRefused) as caught:
        fetcher()(f"{address}{KID}")
    assert type(caught.value) is kind


def test_more_than_4_kib_are_not_read() -> None:
    server = KeyServer(lambda handler: send(handler, 200, pem(OWN_KEY) + b"\n" * LONGEST_KEY))

    assert served(server) == "the key server sent more than a key"


def test_a_body_without_a_length_is_bounded_too() -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not server.over.is_set():
                handler.wfile.write(b"\n" * 1024)
        except OSError:
            pass  # the client has gone, as it should

    server = KeyServer(endless)
    assert served(server) == "the key server sent more than a key"


def test_compressed_bytes_are_not_unpacked() -> None:
    body = gzip.compress(pem(OWN_KEY))
    server = KeyServer(lambda handler: send(handler, 200, body, **{"Content-Encoding": "gzip"}))

    assert ONE_KEY in served(server)


def test_a_server_that_says_nothing_is_given_up() -> None:
    server = KeyServer(lambda handler: wait(server.over))

    assert served(server, seconds=0.2) == "the key server did not answer"


def test_a_server_that_stops_within_the_key_is_given_up() -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, pem(OWN_KEY)[:50], **{"Content-Length": "178"})
        server.over.wait(60)

    server = KeyServer(half)
    assert served(server, seconds=0.2) == "the key server did not answer"


def test_a_server_that_sends_the_key_too_slowly_is_given_up() -> None:
    ticks = iter([0.0, 3.1])
    server = KeyServer(lambda handler: send(handler, 200, pem(OWN_KEY)))

    assert served(server, clock=lambda: next(ticks)) == "the key server did not answer"


def test_a_server_that_breaks_off_gives_no_key() -> None:
    server = KeyServer(lambda handler: send(handler, 200, pem(OWN_KEY), **{"Content-Length": "4000"}))

    assert served(server) == "the key server did not answer"


def test_a_server_that_is_not_there_gives_no_key() -> None:
    with KeyServer(lambda handler: send(handler, 200)).running() as address:
        pass
    with pytest.raises(TokenRefused, match="did not answer"):
        fetcher(seconds=0.5)(address + KID)


def test_a_server_that_does_not_speak_http_gives_no_key() -> None:
    server = KeyServer(lambda handler: say(handler, b"\x16\x03\x01 no HTTP\r\n\r\n"))

    assert served(server) == "the key server did not answer"


def test_where_the_way_out_leads_through_a_proxy_the_key_is_asked_for_there() -> None:
    server = KeyServer(lambda handler: send(handler, 200, pem(OWN_KEY)))
    with server.running() as proxy:
        assert pem(OWN_KEY) == fetcher(proxy=proxy)(f"http://keys.invalid/{KID}")

    assert [f"http://keys.invalid/{KID}"] == server.paths
