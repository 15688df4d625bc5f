"""boto3 as Lockboard uses it: clients with bounded patience, requests counted, errors in our words.

Nothing outside this folder knows botocore. Every error of it passes through `translate`.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, partial
from http.client import responses
from typing import Any

import boto3
import botocore.session
import urllib3.exceptions
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from lockboard import __version__
from lockboard.domain.errors import AccessDenied, ReadError, SettingsError, Throttled, Unreachable
from lockboard.domain.model import Unread
from lockboard.domain.ports import Clock, Requests
from lockboard.domain.text import shown

CONNECT_SECONDS = 3
READ_SECONDS = 10
BODY_READ_SECONDS = 30
ATTEMPTS = 3
CONNECTIONS = 16
ROLE_SESSION_NAME = "lockboard"

BODY_FAILURES: tuple[type[Exception], ...] = (BotoCoreError, urllib3.exceptions.HTTPError)
"""What reading a body may raise for reasons outside this program."""
READ_FAILURES: tuple[type[Exception], ...] = (
    *BODY_FAILURES,
    ClientError,
    ResponseParserError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""The same for a request and its answer; `translate` knows each. The last four come out of botocore's parsers
where an answer is well-formed and yet not of its service, so nothing but the call may stand in the `try`.
"""


@dataclass(frozen=True)
class Access:
    """How one backend is reached. What is None is left to boto3's own chain of environment, profile and
    metadata.
    """

    region: str
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    s3_endpoint_url: str | None = None
    dynamodb_endpoint_url: str | None = None


@dataclass(frozen=True)
class Clients:
    """boto3 clients of one backend. `bodies` is S3 with more patience, for reading whole objects."""

    s3: Any
    bodies: Any
    dynamodb: Any


@dataclass(frozen=True)
class RoleCredentials:
    """What AssumeRole gave for one action."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)


def open_session(access: Access) -> Clients:
    """The clients of a backend. Sends nothing: credentials are looked up, and the role assumed, at the first
    request.

    Not safe to call from two threads at once (boto3's rule); the clients are.

    Raises:
        SettingsError: the profile is unknown, or a region or endpoint is malformed.
    """
    with _settings_checked(access):
        session = _boto3_session(access)
        return Clients(
            s3=_s3(session, access, _config(READ_SECONDS)),
            bodies=_s3(session, access, _config(BODY_READ_SECONDS)),
            dynamodb=_dynamodb(session, access, _config(READ_SECONDS)),
        )


class Single:
    """Clients of one backend that send every request once, made for one action each.

    A retry would turn a change that was made, and whose answer was lost, into one that was refused. Clients
    of their own leave no idle connection for the other end to close under a write.

    The session is kept: its first client takes a tenth of a second, each further one two or three
    milliseconds. One that is given is used as it is, with its own credentials.
    """

    def __init__(self, access: Access, session: Any = None) -> None:
        self._access, self._session = access, session
        self._making = threading.Lock()

    def clients(self, agent: str, credentials: RoleCredentials | None = None) -> Clients:
        """Clients that name `agent` in every User-Agent header. Sends nothing.

        Raises:
            SettingsError: as `open_session`.
        """
        access = self._access
        with self._made() as session:
            return Clients(
                s3=_s3(session, access, _config(READ_SECONDS, 1, agent), credentials),
                bodies=_s3(session, access, _config(BODY_READ_SECONDS, 1, agent), credentials),
                dynamodb=_dynamodb(session, access, _config(READ_SECONDS, 1, agent), credentials),
            )

    def assume(self, role_arn: str, agent: str, **parameters: Any) -> RoleCredentials:
        """One AssumeRole with the session's own credentials.

        Raises:
            ReadError: it was not granted, or there was no answer.
            SettingsError: as `open_session`.
        """
        with self._made() as session:
            sts = session.client("sts", config=_config(READ_SECONDS, 1, agent))
        extra = {"ExternalId": self._access.external_id} if self._access.external_id else {}
        try:
            found = sts.assume_role(RoleArn=role_arn, **extra, **parameters)["Credentials"]
            return RoleCredentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        except READ_FAILURES as error:
            raise translate(error, "sts:AssumeRole") from None

    @contextmanager
    def _made(self) -> Iterator[Any]:
        """The session, to one thread at a time (boto3's rule)."""
        with self._making, _settings_checked(self._access):
            self._session = self._session or _boto3_session(self._access)
            yield self._session


def without_role(access: Access) -> Access:
    """The same backend with the credentials that its role is assumed with."""
    return replace(access, role_arn=None)


@contextmanager
def _settings_checked(access: Access) -> Iterator[None]:
    try:
        yield
    except ProfileNotFound:
        name = shown(str(access.profile), 100)
        raise SettingsError(f"profile: there is no AWS profile named {name}") from None
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(clean(str(error))) from None


def _boto3_session(access: Access) -> Any:
    _keep_bodies_out_of_logs()
    return boto3.Session(botocore_session=_botocore_session(access), region_name=access.region)


def _s3(session: Any, access: Access, config: Any, credentials: RoleCredentials | None = None) -> Any:
    # A bucket's name before an endpoint's host would need DNS that S3-compatible stores and tunnels seldom
    # have.
    style = {"addressing_style": "path"} if access.s3_endpoint_url else {}
    config = config.merge(Config(signature_version="s3v4", s3=style))
    return session.client("s3", endpoint_url=access.s3_endpoint_url, config=config, **_keys(credentials))


def _dynamodb(session: Any, access: Access, config: Any, credentials: RoleCredentials | None = None) -> Any:
    url = access.dynamodb_endpoint_url
    return session.client("dynamodb", endpoint_url=url, config=config, **_keys(credentials))


def _keys(credentials: RoleCredentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key,
        "aws_session_token": credentials.token,
    }


def _config(read_seconds: int, attempts: int = ATTEMPTS, agent: str = "") -> Any:
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
        user_agent_extra=f"lockboard/{__version__} {agent}".rstrip(),
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


class _AssumedRole(CredentialProvider):  # type: ignore[misc]
    """Credentials of a role, fetched at first use and again before they end, from whatever the base session
    has.
    """

    METHOD = "lockboard-assumed-role"

    def __init__(self, base: Any, access: Access) -> None:
        super().__init__()
        self._base, self._access = base, access

    def load(self) -> Any:
        source = self._base.get_credentials()
        if source is None:
            return None
        extra = {"RoleSessionName": ROLE_SESSION_NAME}
        if self._access.external_id:
            extra["ExternalId"] = self._access.external_id
        create = partial(
            self._base.create_client, region_name=self._access.region, config=_config(READ_SECONDS)
        )
        fetcher = AssumeRoleCredentialFetcher(create, source, self._access.role_arn, extra_args=extra)
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)


def _session_of(profile: str | None) -> Any:
    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    return session


@cache
def _models(data_path: str | None) -> Any:
    """What botocore knows of AWS's services. Each session would read it anew from several megabytes of JSON:
    60 to 200 ms, for every backend.
    """
    return create_loader(data_path)


def _botocore_session(access: Access) -> Any:
    base = _session_of(access.profile)
    if access.profile:
        base.get_scoped_config()  # raises ProfileNotFound now, not at the first request
    if not access.role_arn:
        return base
    session = _session_of(access.profile)
    session.register_component("credential_provider", CredentialResolver([_AssumedRole(base, access)]))
    return session


def _keep_bodies_out_of_logs() -> None:
    """botocore and urllib3 log headers and bodies at DEBUG, and states hold secrets."""
    for name in ("boto3", "botocore", "urllib3"):
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)


# ------------------------------------------------------------------ counting

_KINDS = {
    "ListObjectsV2": "list",
    "Scan": "scan",
    "GetObject": "get",
    "GetItem": "get",
    "HeadObject": "get",
    "ListObjectVersions": "versions",
}


class Meter:
    """Counts the requests that its clients send, retries too, and knows how far apart the clocks were at the
    last answer.

    A client belongs to one meter: two on the same client would both count.
    """

    def __init__(self, clock: Clock, *clients: Any) -> None:
        self.requests = Requests()
        self._clock = clock
        self._lock = threading.Lock()
        self._skew: timedelta | None = None
        for client in {id(client): client for client in clients}.values():
            client.meta.events.register("before-send", self._sent)
            client.meta.events.register("response-received", self._received)

    def skew(self) -> timedelta | None:
        """Our clock minus the service's at the last answer, to the second that its Date header has; None
        without one.
        """
        return self._skew

    def _sent(self, event_name: str, **_: object) -> None:
        kind = _KINDS.get(event_name.rpartition(".")[2], "other")
        with self._lock:
            self.requests.counts[kind] += 1

    def _received(
        self, response_dict: Mapping[str, Any] | None, parsed_response: Mapping[str, Any] | None, **_: object
    ) -> None:
        if response_dict is None:
            return
        if date := response_dict["headers"].get("Date"):
            self._skew = _difference(self._clock(), date)
        code = (parsed_response or {}).get("Error", {}).get("Code")
        if code in THROTTLES or response_dict["status_code"] == 429:
            with self._lock:
                self.requests.throttled += 1


def _difference(ours: datetime, date: str) -> timedelta | None:
    try:
        return ours - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None


# ------------------------------------------------------------------ errors

THROTTLES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "BandwidthLimitExceeded",
        "429",
    }
)
_CREDENTIALS = {
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "RequestExpired": "the request came too late; check this machine's clock",
    "TokenRefreshRequired": "the credentials have to be refreshed",
    "InvalidToken": "the session token is not valid",
    "InvalidClientTokenId": "the access key is not known to AWS",
    "InvalidAccessKeyId": "the access key is not known to AWS",
    "UnrecognizedClientException": "the access key is not known to AWS",
    "IncompleteSignature": "the credentials are malformed",
    "IncompleteSignatureException": "the credentials are malformed",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidSignatureException": "the secret key is wrong, or this machine's clock is",
    "RequestTimeTooSkewed": "this machine's clock differs too much from AWS's",
}
_NOT_OF_SERVICE = "the answer is not what this service writes"
_DENIALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AccountProblem",
        "NotSignedUp",
        "UnauthorizedAccess",
    }
)
_WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "TemporaryRedirect",
    }
)
_ACTION_IN_MESSAGE = re.compile(r"not authorized to perform:? ([a-z0-9-]{2,40}:[A-Za-z]{2,80})\b")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY_OF_URL = re.compile(r'(?<=[a-z0-9/])\?[^\s"?]*=[^\s"]*')
_ACCESS_KEY = re.compile(r"\bA[KS]IA[A-Z0-9]{8,}\b")
_SIGNED = re.compile(
    r"\b(authorization|credential|signature|x-amz-[a-z-]*(?:token|signature|credential))\s*[=:]\s*"
    r"(?:AWS4-[A-Z0-9-]+\s+)?\S+",
    re.IGNORECASE,
)


def translate(error: Exception, action: str) -> ReadError:
    """The domain's error for one of READ_FAILURES. `action` is the IAM action that the request needed."""
    if isinstance(error, ClientError):
        return _translate_answer(error, action)
    code = type(error).__name__
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return Unreachable(action, code, "no AWS credentials were found, or they are incomplete")
    if isinstance(error, (CredentialRetrievalError, TokenRetrievalError, SSOError)):
        # The text holds the output of whatever program or service hands out the credentials.
        return Unreachable(action, code, "the AWS credentials could not be fetched")
    if isinstance(error, (NoConnectionError, HTTPClientError, urllib3.exceptions.HTTPError)):
        return Unreachable(action, code, clean(str(error)))
    if isinstance(error, UnicodeError):
        return ReadError(action, code, "the name cannot be written as UTF-8, so AWS cannot hold it")
    if isinstance(error, BotoCoreError):
        return ReadError(action, code, clean(str(error)))
    return ReadError(action, code, _NOT_OF_SERVICE)


def _translate_answer(error: Any, action: str) -> ReadError:
    answer = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code, message = shown(str(answer.get("Code", "")), 100), clean(str(answer.get("Message") or ""))
    if code in ("", "Unknown"):
        code = f"HTTP {status}"
    if code == str(status) and message != responses.get(status):
        message = (
            _NOT_OF_SERVICE  # botocore takes a body that it cannot read for the message, whoever wrote it
        )
    if error.operation_name.startswith("AssumeRole"):
        action = "sts:AssumeRole"
    if code in THROTTLES or status == 429:
        return Throttled(action, code, message)
    if code in _CREDENTIALS:
        return Unreachable(action, code, _CREDENTIALS[code])
    if code in _WRONG_REGION:
        region = answer.get("Region") or _header(error, "x-amz-bucket-region")
        where = f"; it is in {shown(region, 40)}" if region else ""
        return ReadError(action, code, f"the bucket is not in the configured region{where}")
    named = _ACTION_IN_MESSAGE.search(message)
    if code.startswith("KMS"):
        kms = "kms:GenerateDataKey" if action == "s3:PutObject" else "kms:Decrypt"
        return AccessDenied(named[1] if named else kms, code, message)
    if code in _DENIALS or (status == 403 and code != "InvalidObjectState"):
        return AccessDenied(named[1] if named else action, code, message)
    return ReadError(action, code, message)


def _header(error: Any, name: str) -> str:
    return str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))


def clean(text: str) -> str:
    """A service's words fit to show: of a URL no user, password and query, no access key ID, and of a request
    that they repeat no signature and no token.
    """
    text = _QUERY_OF_URL.sub("", _USER_IN_URL.sub("", text[:10_000]))
    return shown(_ACCESS_KEY.sub("(access key)", _SIGNED.sub(r"\1=(left out)", text)), 500)


def unread(error: ReadError) -> Unread:
    """The part that could not be read, where a caller shows it beside parts that could."""
    if isinstance(error, AccessDenied):
        return Unread(f"access denied: {error.operation} is needed ({error.code})", error.code, denied=True)
    return Unread(f"{error.detail} ({error.code})" if error.detail else error.code, error.code)
