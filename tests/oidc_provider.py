"""A real OpenID provider on loopback, on Authlib's server side: login page, codes with PKCE, signed tokens.

It is honest until a test gives it a defect. Its clock is the test's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import ssl
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core import AuthorizationCodeMixin, OpenIDCode
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask, Response, redirect, request
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import serialize_compact
from werkzeug.serving import WSGIRequestHandler, make_server

WSGIApp = Callable[..., Any]
Claims = dict[str, Any]


class Defect(StrEnum):
    """One thing that a provider, or somebody who plays one, does wrong."""

    # What it says of itself
    OTHER_ISSUER_IN_DISCOVERY = "the discovery document names another issuer"
    PLAIN_HTTP_ENDPOINT = "an endpoint outside loopback has no TLS"
    NO_TOKEN_ENDPOINT = "the discovery document names no token endpoint"
    NO_KNOWN_AUTH_METHOD = "the token endpoint takes only signed assertions"
    DISCOVERY_REDIRECTS = "the discovery document redirects"
    DISCOVERY_IS_HTML = "the discovery document is a web page"
    DISCOVERY_IS_DEEP = "the discovery document is 200,000 lists in each other"
    DISCOVERY_IS_SILENT = "the discovery document never comes"
    # Its keys
    KEYS_REDIRECT = "the key set redirects"
    KEYS_ARE_HUGE = "the key set has 300 KB"
    KEYS_ARE_NO_SET = "the key set has no keys"
    KEYS_AT_NO_ADDRESS = "the key set is at an address that no host can have"
    KEY_IS_GARBAGE = "the key is no key"
    # How the ID token is signed
    ALG_NONE = "the ID token is not signed"
    HS256_SECRET = "the ID token is signed with the client's secret"
    HS256_PUBLIC_KEY = "the ID token is signed with the public key as a secret"
    FOREIGN_KEY = "another key signs under a known key ID"
    FOREIGN_KEY_IN_HEADER = "another key signs and is carried in the token's header"
    UNKNOWN_KEY_ID = "an unknown key signs"
    ALTERED = "the claims were altered after signing"
    SHORT_KEY = "the key has 1,024 bits"
    NOT_A_JWT = "the ID token is a word"
    ACCESS_TOKEN_AS_ID_TOKEN = "an access token (at+jwt) stands for the ID token"
    # What the ID token says
    WRONG_ISSUER = "iss is another"
    WRONG_AUDIENCE = "aud is another client"
    NO_AUDIENCE = "aud is missing"
    SEVERAL_AUDIENCES = "aud has several clients and azp is missing"
    OTHER_PARTY = "azp is another client"
    EXPIRED = "exp is past"
    NO_EXPIRY = "exp is missing"
    EXPIRY_NOT_A_NUMBER = "exp is NaN"
    EXPIRY_IS_TEXT = "exp is text"
    ISSUED_IN_FUTURE = "iat is in the future"
    ISSUED_LONG_AGO = "iat is an hour ago"
    NO_ISSUE_TIME = "iat is missing"
    NOT_YET_VALID = "nbf is in the future"
    WRONG_NONCE = "nonce is another"
    NO_NONCE = "nonce is missing"
    ODD_NONCE = "nonce is half a character"
    NO_SUBJECT = "sub is missing"
    EMPTY_SUBJECT = "sub is empty"
    LONG_SUBJECT = "sub has 256 characters"
    SUBJECT_OF_TWO_LINES = "sub has a line break"
    WRONG_AT_HASH = "at_hash is of another access token"
    PROVED_IN_FUTURE = "auth_time is in the future"
    STALE_PROOF = "auth_time is an hour ago"
    NO_PROOF_TIME = "auth_time is missing"
    GROUPS_ARE_AN_OBJECT = "groups are an object"
    GROUPS_ARE_NUMBERS = "groups are numbers"
    # The token endpoint
    NO_ID_TOKEN = "there is no ID token"
    TOKENS_ARE_HTML = "the token endpoint answers with a web page"
    TOKENS_FAIL = "the token endpoint answers 500"
    TOKENS_REDIRECT = "the token endpoint redirects"
    TOKENS_OF_ANOTHER_TYPE = "the token is of another type"
    TOKENS_LAST_FOREVER = "the access token ends after an infinity of seconds"
    CODE_IS_ECHOED = "the token endpoint refuses, and quotes the code"
    # The rest
    DECLINES = "the person is not let through"
    ANOTHER_ISSUER_ANSWERS = "the answer carries the iss of another"
    ISSUER_LEFT_OUT = "the answer lacks the iss that was promised"
    USERINFO_OF_ANOTHER = "userinfo speaks of somebody else"


@dataclass
class Someone:
    """A person with an account at the provider."""

    sub: str
    password: str
    claims: Claims = field(default_factory=dict)


@dataclass
class Registered(ClientMixin):  # type: ignore[misc]
    """A client of the provider."""

    client_id: str
    client_secret: str
    redirect_uris: set[str] = field(default_factory=set)
    auth_method: str = "client_secret_basic"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(client_secret, self.client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """An authorization code that was given out."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    user: str
    nonce: str | None
    auth_time: int
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time


@dataclass
class Account:
    """A browser that is signed in at the provider. answered: the request that had it give a password."""

    user: str
    proved_at: datetime
    answered: str


class Provider:
    """A running provider. Tests read `asked` (authorization requests) and `calls` (paths), and set the rest.

    alg: what it signs with.  separate: whether e-mail and groups come from userinfo only.
    """

    def __init__(self, clock: Callable[[], datetime], alg: str = "RS256") -> None:
        self.clock = clock
        self.alg = alg
        self.issuer = ""
        self.defects: set[Defect] = set()
        self.people: dict[str, Someone] = {}
        self.clients: dict[str, Registered] = {}
        self.auth_methods: list[str] | None = ["client_secret_basic", "client_secret_post"]
        self.separate = False
        self.key: Key = signing_key(alg, 1)
        self.asked: list[dict[str, str]] = []
        self.calls: list[str] = []
        self.secrets: set[str] = set()
        self.codes: dict[str, Code] = {}
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, str] = {}
        self.released = threading.Event()
        self.app = _app(self)

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish that one only."""
        self.key = signing_key(self.alg, 2)

    def document(self) -> Claims:
        found: Claims = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.alg],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        if self.auth_methods is not None:
            found["token_endpoint_auth_methods_supported"] = self.auth_methods
        if Defect.OTHER_ISSUER_IN_DISCOVERY in self.defects:
            found["issuer"] += "/"
        if Defect.PLAIN_HTTP_ENDPOINT in self.defects:
            found["token_endpoint"] = "http://idp.example.com/token"
        if Defect.KEYS_AT_NO_ADDRESS in self.defects:
            found["jwks_uri"] = "https://.example.com/jwks"
        if Defect.NO_TOKEN_ENDPOINT in self.defects:
            del found["token_endpoint"]
        if Defect.NO_KNOWN_AUTH_METHOD in self.defects:
            found["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
        return found

    def key_set(self) -> Claims:
        key = signing_key("SHORT", 1) if Defect.SHORT_KEY in self.defects else self.key
        if Defect.KEYS_ARE_NO_SET in self.defects:
            return {"keys": "none"}
        if Defect.KEY_IS_GARBAGE in self.defects:
            return {"keys": [None, 5, {"kty": "RSA", "kid": key.kid, "n": "!", "e": 5}]}
        found: Claims = {"keys": [key.as_dict(private=False, use="sig", alg=self.alg)]}
        if Defect.KEYS_ARE_HUGE in self.defects:
            found["padding"] = "x" * 300_000
        return found

    def signed(self, claims: Claims) -> str:
        """An ID token as an honest provider signs it, or as one of the defects does."""
        for defect in self.defects & _SIGNERS.keys():
            return _SIGNERS[defect](self, claims)
        header = {"alg": self.alg, "kid": self.key.kid}
        return serialize_compact(header, json.dumps(claims), self.key, [self.alg])


@contextmanager
def provider(
    clock: Callable[[], datetime], alg: str = "RS256", tls: Path | None = None
) -> Iterator[Provider]:
    """A provider on a free port of loopback. tls: a folder for its certificate, `ca.pem`."""
    found = Provider(clock, alg)
    context = certified(tls) if tls else None
    with serve(found.app, context) as port:
        found.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            yield found
        finally:
            found.released.set()


@contextmanager
def serve(app: WSGIApp, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve an application on a free port of loopback."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@cache
def signing_key(alg: str, number: int) -> Key:
    """The provider's first or second key of an algorithm, or one that is no provider's (number 3)."""
    named: Any = {"kid": f"key-{number}"}
    if alg.startswith("ES"):
        return ECKey.generate_key("P-" + {"256": "256", "384": "384", "512": "521"}[alg[2:]], named)
    if alg in ("EdDSA", "Ed25519"):
        return OKPKey.generate_key("Ed25519", named)
    return RSAKey.generate_key(1024 if alg == "SHORT" else 2048, named)


def certified(folder: Path) -> ssl.SSLContext:
    """A TLS context for 127.0.0.1; who trusts `ca.pem` in the folder trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider of the tests")])
    now = datetime.now(UTC)  # TLS goes by the computer's own clock
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


class _Codes(AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def save_authorization_code(self, code: str, request: Any) -> None:
        home: Provider = self.server.home
        data = request.payload.data
        home.secrets.add(code)
        home.codes[code] = Code(
            code=code,
            client_id=request.client.client_id,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            user=request.user.user,
            nonce=data.get("nonce"),
            auth_time=int(request.user.proved_at.timestamp()),
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: Registered) -> Code | None:
        found: Code | None = self.server.home.codes.get(code)
        return found if found and found.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.home.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class _Pkce(CodeChallenge):  # type: ignore[misc]
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        if not grant.request.payload.data.get("code_challenge"):
            raise InvalidRequestError("Missing 'code_challenge'")
        super().validate_code_challenge(grant, redirect_uri)


class _IdTokens(OpenIDCode):  # type: ignore[misc]
    def __init__(self, home: Provider) -> None:
        super().__init__(require_nonce=True)
        self.home = home

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return any(code.nonce == nonce for code in self.home.codes.values())

    def get_client_algorithm(self, client: Registered) -> str:
        return self.home.alg

    def get_encode_header(self, client: Registered) -> Claims:
        return {"alg": self.home.alg, "kid": self.home.key.kid}

    def resolve_client_private_key(self, client: Registered) -> Key:
        return self.home.key

    def get_client_claims(self, client: Registered) -> Claims:
        now = int(self.home.clock().timestamp())
        return {"iss": self.home.issuer, "iat": now, "exp": now + 300}

    def generate_user_info(self, user: str, scope: str) -> Claims:
        found = self.home.people[user]
        return {"sub": found.sub, **({} if self.home.separate else found.claims)}

    def encode_id_token(self, token: Claims, request: Any) -> str:
        honest: str = super().encode_id_token(token, request)
        if not self.home.defects & (_CLAIMS.keys() | _SIGNERS.keys()):
            return honest
        claims: Claims = json.loads(_unpacked(honest.split(".")[1]))
        for defect in self.home.defects & _CLAIMS.keys():
            _CLAIMS[defect](claims, self.home.clock())
        return self.home.signed(claims)


class _Named(IssuerParameter):  # type: ignore[misc]
    def __init__(self, home: Provider) -> None:
        self.home = home

    def get_issuer(self) -> str | None:
        if Defect.ISSUER_LEFT_OUT in self.home.defects:
            return None
        return (
            "https://evil.example" if Defect.ANOTHER_ISSUER_ANSWERS in self.home.defects else self.home.issuer
        )


def _app(home: Provider) -> Flask:
    app = Flask("provider")
    server = AuthorizationServer(
        app,
        query_client=home.clients.get,
        save_token=lambda token, request: _keep_token(home, token, request),
    )
    server.home = home
    server.register_grant(_Codes, [_IdTokens(home), _Pkce()])
    server.register_extension(_Named(home))
    app.before_request(lambda: home.calls.append(request.path))
    app.add_url_rule(
        "/.well-known/openid-configuration", view_func=lambda: _discovery(home), endpoint="about"
    )
    app.add_url_rule("/elsewhere", view_func=home.key_set, endpoint="elsewhere")
    app.add_url_rule("/jwks", view_func=lambda: _keys(home), endpoint="jwks")
    app.add_url_rule("/authorize", view_func=lambda: _authorize(home, server), endpoint="authorize")
    app.add_url_rule("/login", view_func=lambda: _login(home), endpoint="login", methods=["POST"])
    app.add_url_rule("/token", view_func=lambda: _token(home, server), endpoint="token", methods=["POST"])
    app.add_url_rule("/userinfo", view_func=lambda: _userinfo(home), endpoint="userinfo")
    return app


def _keep_token(home: Provider, token: Claims, request: Any) -> None:
    home.secrets.add(token["access_token"])
    home.tokens[token["access_token"]] = request.user


def _discovery(home: Provider) -> Any:
    if Defect.DISCOVERY_IS_SILENT in home.defects:
        home.released.wait(30)
    if Defect.DISCOVERY_REDIRECTS in home.defects:
        return redirect("/elsewhere")
    if Defect.DISCOVERY_IS_DEEP in home.defects:
        return Response("[" * 200_000, mimetype="application/json")
    return "<html>Welcome" if Defect.DISCOVERY_IS_HTML in home.defects else home.document()


def _keys(home: Provider) -> Any:
    return redirect("/elsewhere") if Defect.KEYS_REDIRECT in home.defects else home.key_set()


def _authorize(home: Provider, server: Any) -> Any:
    account = home.accounts.get(request.cookies.get("provider", ""))
    try:
        grant = server.get_consent_grant(end_user=account)
    except OAuth2Error as error:
        return Response(f"{error.error}: {error.description}", status=400)
    if account is None or not _is_enough(account, home.clock()):
        return _login_page()
    home.asked.append(request.args.to_dict())
    declined = Defect.DECLINES in home.defects
    return server.create_authorization_response(grant=grant, grant_user=None if declined else account)


def _is_enough(account: Account, now: datetime) -> bool:
    """Whether the sign-in there is does for what `prompt` and `max_age` ask."""
    if account.answered == request.query_string.decode():
        return True
    if "login" in request.args.get("prompt", "").split():
        return False
    age = now - account.proved_at
    return "max_age" not in request.args or age <= timedelta(seconds=int(request.args["max_age"]))


def _login_page() -> str:
    return (
        '<!doctype html><title>Sign in</title><form method="post" action="/login">'
        f'<input type="hidden" name="then" value="{escape(request.query_string.decode())}">'
        '<input name="user"><input name="password" type="password"><button>Sign in</button></form>'
    )


def _login(home: Provider) -> Any:
    user, then = request.form["user"], request.form["then"]
    known = home.people.get(user)
    if known is None or not hmac.compare_digest(known.password, request.form["password"]):
        return Response("Unknown user or wrong password.", status=403)
    number = secrets.token_urlsafe(16)
    home.accounts[number] = Account(user, home.clock(), then)
    answer = redirect(f"/authorize?{then}", 303)
    answer.set_cookie("provider", number, httponly=True, samesite="Lax")
    return answer


def _token(home: Provider, server: Any) -> Any:
    if Defect.TOKENS_ARE_HTML in home.defects:
        return "<html>Come back later"
    if Defect.TOKENS_FAIL in home.defects:
        return Response('{"error": "server_error"}', status=500, mimetype="application/json")
    if Defect.TOKENS_REDIRECT in home.defects:
        return redirect("/elsewhere", 307)
    if Defect.CODE_IS_ECHOED in home.defects:
        said = f"no code\r\n{request.form['code']} with {request.form['code_verifier']}"
        return {"error": "invalid_grant", "error_description": said}, 400
    answer = server.create_token_response()
    tokens = json.loads(answer.get_data())
    if Defect.NO_ID_TOKEN in home.defects:
        tokens.pop("id_token", None)
    if Defect.TOKENS_OF_ANOTHER_TYPE in home.defects:
        tokens["token_type"] = "mac"
    if Defect.TOKENS_LAST_FOREVER in home.defects:
        tokens["expires_in"] = float("inf")
    home.secrets.update(tokens[name] for name in ("id_token", "access_token") if name in tokens)
    answer.set_data(json.dumps(tokens))
    return answer


def _userinfo(home: Provider) -> Any:
    user = home.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
    if user is None:
        return Response(status=401)
    sub = "another" if Defect.USERINFO_OF_ANOTHER in home.defects else home.people[user].sub
    return {"sub": sub, **home.people[user].claims}


def _set(name: str, value: Any) -> Callable[[Claims, datetime], None]:
    return lambda claims, _: claims.update({name: value})


def _shift(name: str, by: timedelta) -> Callable[[Claims, datetime], None]:
    return lambda claims, now: claims.update({name: int((now + by).timestamp())})


def _drop(name: str) -> Callable[[Claims, datetime], None]:
    return lambda claims, _: claims.pop(name, None)


_CLAIMS: Mapping[Defect, Callable[[Claims, datetime], None]] = {
    Defect.WRONG_ISSUER: _set("iss", "https://evil.example"),
    Defect.WRONG_AUDIENCE: _set("aud", ["another"]),
    Defect.NO_AUDIENCE: _drop("aud"),
    Defect.SEVERAL_AUDIENCES: _set("aud", ["lockboard", "another"]),
    Defect.OTHER_PARTY: _set("azp", "another"),
    Defect.EXPIRED: _shift("exp", timedelta(seconds=-61)),
    Defect.NO_EXPIRY: _drop("exp"),
    Defect.EXPIRY_NOT_A_NUMBER: _set("exp", float("nan")),
    Defect.EXPIRY_IS_TEXT: _set("exp", "9999999999"),
    Defect.ISSUED_IN_FUTURE: _shift("iat", timedelta(seconds=62)),
    Defect.ISSUED_LONG_AGO: _shift("iat", timedelta(hours=-1)),
    Defect.NO_ISSUE_TIME: _drop("iat"),
    Defect.NOT_YET_VALID: _shift("nbf", timedelta(seconds=62)),
    Defect.WRONG_NONCE: _set("nonce", "another"),
    Defect.NO_NONCE: _drop("nonce"),
    Defect.ODD_NONCE: _set("nonce", "\ud800"),
    Defect.NO_SUBJECT: _drop("sub"),
    Defect.EMPTY_SUBJECT: _set("sub", ""),
    Defect.LONG_SUBJECT: _set("sub", "x" * 256),
    Defect.SUBJECT_OF_TWO_LINES: _set("sub", "a\nb"),
    Defect.WRONG_AT_HASH: _set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
    Defect.PROVED_IN_FUTURE: _shift("auth_time", timedelta(seconds=62)),
    Defect.STALE_PROOF: _shift("auth_time", timedelta(hours=-1)),
    Defect.NO_PROOF_TIME: _drop("auth_time"),
    Defect.GROUPS_ARE_AN_OBJECT: _set("groups", {"platform": True}),
    Defect.GROUPS_ARE_NUMBERS: _set("groups", [1, 2]),
}


def _packed(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _by_hand(header: Claims, claims: Claims, sign: Callable[[bytes], bytes]) -> str:
    """A token as nobody's library would sign it."""
    text = ".".join(_packed(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{_packed(sign(text.encode()))}"


def _hs256(home: Provider, claims: Claims, secret: bytes) -> str:
    header = {"alg": "HS256", "kid": home.key.kid}
    return _by_hand(header, claims, lambda text: hmac.digest(secret, text, hashlib.sha256))


def _pem(key: Key) -> bytes:
    assert isinstance(key, RSAKey)
    return key.as_pem(private=False)


def _foreign(home: Provider, claims: Claims, **header: Any) -> str:
    key = signing_key(home.alg, 3)
    return jwt.encode({"alg": home.alg, **header}, claims, key, [home.alg])


def _altered(home: Provider, claims: Claims) -> str:
    header = {"alg": home.alg, "kid": home.key.kid}
    first, _, last = jwt.encode(header, claims, home.key, [home.alg]).split(".")
    return f"{first}.{_packed(json.dumps({**claims, 'sub': 'root'}).encode())}.{last}"


def _short(home: Provider, claims: Claims) -> str:
    key = signing_key("SHORT", 1)
    return jwt.encode({"alg": home.alg, "kid": key.kid}, claims, key, [home.alg])


def _as_access_token(home: Provider, claims: Claims) -> str:
    header = {"alg": home.alg, "kid": home.key.kid, "typ": "at+jwt"}
    return jwt.encode(header, claims, home.key, [home.alg])


def _by_foreign_header(home: Provider, claims: Claims) -> str:
    key = signing_key("ES256", 3)
    header = {"alg": "ES256", "kid": home.key.kid, "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key, ["ES256"])


_SIGNERS: Mapping[Defect, Callable[[Provider, Claims], str]] = {
    Defect.ALG_NONE: lambda home, claims: _by_hand(
        {"alg": "none", "kid": home.key.kid}, claims, lambda _: b""
    ),
    Defect.HS256_SECRET: lambda home, claims: _hs256(
        home, claims, home.clients["lockboard"].client_secret.encode()
    ),
    Defect.HS256_PUBLIC_KEY: lambda home, claims: _hs256(home, claims, _pem(home.key)),
    Defect.FOREIGN_KEY: lambda home, claims: _foreign(home, claims, kid=home.key.kid),
    Defect.FOREIGN_KEY_IN_HEADER: _by_foreign_header,
    Defect.UNKNOWN_KEY_ID: lambda home, claims: _foreign(home, claims, kid="key-3"),
    Defect.ALTERED: _altered,
    Defect.SHORT_KEY: _short,
    Defect.NOT_A_JWT: lambda home, claims: "not-a-token",
    Defect.ACCESS_TOKEN_AS_ID_TOKEN: _as_access_token,
}
