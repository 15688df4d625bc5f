from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3.exceptions
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from lockboard import __version__
from lockboard.adapters.aws import (
    READ_FAILURES,
    Access,
    Clients,
    Meter,
    clean,
    open_session,
    translate,
    unread,
)
from lockboard.adapters.s3 import S3States
from lockboard.domain.errors import AccessDenied, ReadError, SettingsError, Throttled, Unreachable
from lockboard.domain.model import StateObject, Unread
from tests.emulators import REGION, free_port
from tests.stub_aws import Answer, Asked, Kept, dynamo, listing, s3_error, s3_object, stub_aws

ROLE = "arn:aws:iam::123456789012:role/reader"


def now() -> datetime:
    return datetime.now(UTC)


def clients_at(url: str, **more: Any) -> Clients:
    return open_session(Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url, **more))


def first_page(clients: Clients) -> list[Any]:
    return list(next(S3States(clients.s3, "b", now).list_pages("")))


# ------------------------------------------------------------------ clients


def test_clients_have_bounded_patience_and_say_who_they_are() -> None:
    clients = clients_at("http://127.0.0.1:1")
    for client, read in ((clients.s3, 10), (clients.bodies, 30), (clients.dynamodb, 10)):
        config = client.meta.config
        assert (config.connect_timeout, config.read_timeout) == (3, read)
        assert config.retries == {"mode": "standard", "total_max_attempts": 3}
        assert f"lockboard/{__version__}" in config.user_agent
        assert config.request_checksum_calculation == "when_required"
        assert config.response_checksum_validation == "when_required"


def test_a_custom_endpoint_is_spoken_to_with_the_bucket_in_the_path() -> None:
    with stub_aws(lambda _: listing([Kept("k")])) as stub:
        first_page(clients_at(stub.url))
        assert [asked.path for asked in stub.asked] == ["/b"]
        assert stub.asked[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


def test_the_environment_s_endpoints_work_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_aws(lambda asked: dynamo({}) if asked.method == "POST" else listing([Kept("k")])) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", stub.url)
        clients = open_session(Access(REGION))
        first_page(clients)
        clients.dynamodb.get_item(TableName="t", Key={"LockID": {"S": "x"}})
        assert stub.operations() == ["ListObjectsV2", "GetItem"]


def test_a_failing_service_is_asked_three_times() -> None:
    with stub_aws(lambda _: s3_error(500, "InternalError")) as stub:
        states = S3States(clients_at(stub.url).s3, "b", now)
        with pytest.raises(ReadError):
            next(states.list_pages(""))
        assert (len(stub.asked), states.requests.counts["list"]) == (3, 3)


@pytest.mark.parametrize(
    ("access", "words"),
    [
        (Access(REGION, profile="no such"), "no such"),
        (Access(REGION, profile="no such", role_arn=ROLE), "no such"),
        (Access(REGION, s3_endpoint_url="not a url"), "not a url"),
        (Access(REGION, dynamodb_endpoint_url="ftp//x"), "ftp//x"),
    ],
)
def test_an_unusable_access_is_refused_at_once(access: Access, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_session(access)


def test_opening_sends_nothing() -> None:
    with stub_aws(lambda _: Answer(500)) as stub:
        clients_at(stub.url, role_arn=ROLE)
        assert stub.asked == []


def test_what_botocore_knows_of_the_services_is_read_once_for_all_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients_at("http://127.0.0.1:1")
    monkeypatch.setattr("botocore.loaders.JSONFileLoader.load_file", lambda *_: pytest.fail("read again"))

    found = clients_at("http://127.0.0.1:2", role_arn=ROLE)
    assert found.s3.meta.endpoint_url == "http://127.0.0.1:2"


def test_bodies_and_headers_stay_out_of_debug_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with stub_aws(lambda _: s3_object(b'{"secret": "canary-in-a-state"}')) as stub:
        clients = clients_at(stub.url)
        state = S3States(clients.s3, "b", now, bodies=clients.bodies).read_state("k")
    assert isinstance(state, StateObject)
    for hidden in ("canary", "AWS4-HMAC", "testing"):
        assert hidden not in caplog.text


# ------------------------------------------------------------------ roles


def assumed(expires: datetime) -> Answer:
    text = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        "<AccessKeyId>ASIAROLEROLEROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>role-token</SessionToken><Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        f"</Credentials><AssumedRoleUser><Arn>{ROLE}</Arn><AssumedRoleId>x</AssumedRoleId></AssumedRoleUser>"
        "</AssumeRoleResult></AssumeRoleResponse>"
    )
    return Answer(200, text.encode(), {"Content-Type": "text/xml"})


@pytest.mark.parametrize(("lasts", "times"), [(timedelta(hours=1), 1), (timedelta(minutes=5), 3)])
def test_a_role_is_assumed_once_and_again_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, lasts: timedelta, times: int
) -> None:
    def respond(asked: Asked) -> Answer:
        return assumed(now() + lasts) if asked.method == "POST" else listing([Kept("k")])

    with stub_aws(respond) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
        clients = clients_at(stub.url, role_arn=ROLE, external_id="ticket-7")
        for _ in range(3):
            clients.s3.list_objects_v2(Bucket="b")
        asked_sts = [asked.body.decode() for asked in stub.asked if asked.method == "POST"]
        tokens = {asked.headers.get("x-amz-security-token") for asked in stub.asked if asked.method == "GET"}
    assert len(asked_sts) == times
    assert "RoleSessionName=lockboard" in asked_sts[0]
    assert "ExternalId=ticket-7" in asked_sts[0]
    assert tokens == {"role-token"}


def test_a_role_that_may_not_be_assumed_names_that_action(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    with stub_aws(lambda _: Answer(403, denied)) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
        with pytest.raises(AccessDenied) as raised:
            first_page(clients_at(stub.url, role_arn=ROLE))
    assert raised.value.operation == "sts:AssumeRole"


def test_a_role_without_credentials_to_assume_it_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(Unreachable) as raised:
        first_page(clients_at("http://127.0.0.1:1", role_arn=ROLE))
    assert raised.value.code == "NoCredentialsError"


# ------------------------------------------------------------------ regions


def signed_for(asked: Asked) -> str:
    return asked.headers["authorization"].split("Credential=")[1].split("/")[2]


def test_a_bucket_in_another_region_is_followed_there() -> None:
    def respond(asked: Asked) -> Answer:
        if signed_for(asked) == REGION:
            return s3_error(301, "PermanentRedirect", x_amz_bucket_region="ap-northeast-2")
        return listing([Kept("k")])

    with stub_aws(respond) as stub:
        assert len(first_page(clients_at(stub.url))) == 1
        assert [signed_for(asked) for asked in stub.asked] == [REGION, "ap-northeast-2"]


def test_a_bucket_that_is_always_elsewhere_is_an_error_that_names_the_region() -> None:
    with stub_aws(lambda _: s3_error(301, "PermanentRedirect", x_amz_bucket_region="ap-northeast-2")) as stub:
        with pytest.raises(ReadError) as raised:
            first_page(clients_at(stub.url))
        assert len(stub.asked) <= 3
    assert "ap-northeast-2" in raised.value.detail


# ------------------------------------------------------------------ errors


def answered(code: str, status: int = 400, message: str = "no", operation: str = "GetObject") -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


@pytest.mark.parametrize(
    ("error", "kind", "operation"),
    [
        (answered("AccessDenied", 403), AccessDenied, "s3:GetObject"),
        (answered("AccessDeniedException"), AccessDenied, "s3:GetObject"),
        (answered("AllAccessDisabled", 403), AccessDenied, "s3:GetObject"),
        (answered("403", 403), AccessDenied, "s3:GetObject"),
        (
            answered(
                "AccessDenied", 403, "User: u is not authorized to perform: s3:ListBucket on resource: r"
            ),
            AccessDenied,
            "s3:ListBucket",
        ),
        (answered("KMS.DisabledException"), AccessDenied, "kms:Decrypt"),
        (answered("KMSInvalidStateException"), AccessDenied, "kms:Decrypt"),
        (answered("AccessDenied", 403, operation="AssumeRole"), AccessDenied, "sts:AssumeRole"),
        (answered("SlowDown", 503), Throttled, "s3:GetObject"),
        (answered("ProvisionedThroughputExceededException"), Throttled, "s3:GetObject"),
        (answered("ThrottlingException"), Throttled, "s3:GetObject"),
        (answered("anything", 429), Throttled, "s3:GetObject"),
        (answered("ExpiredToken"), Unreachable, "s3:GetObject"),
        (answered("ExpiredTokenException", 403, operation="AssumeRole"), Unreachable, "sts:AssumeRole"),
        (answered("InvalidAccessKeyId", 403), Unreachable, "s3:GetObject"),
        (answered("SignatureDoesNotMatch", 403), Unreachable, "s3:GetObject"),
        (answered("RequestTimeTooSkewed", 403), Unreachable, "s3:GetObject"),
        (EndpointConnectionError(endpoint_url="https://x"), Unreachable, "s3:GetObject"),
        (ConnectTimeoutError(endpoint_url="https://x"), Unreachable, "s3:GetObject"),
        (ReadTimeoutError(endpoint_url="https://x"), Unreachable, "s3:GetObject"),
        (urllib3.exceptions.ProtocolError("broken"), Unreachable, "s3:GetObject"),
        (NoCredentialsError(), Unreachable, "s3:GetObject"),
        (answered("NoSuchBucket", 404), ReadError, "s3:GetObject"),
        (answered("InternalError", 500), ReadError, "s3:GetObject"),
        (answered("InvalidObjectState", 403), ReadError, "s3:GetObject"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), ReadError, "s3:GetObject"),
    ],
)
def test_every_failure_has_its_kind_and_its_action(error: Exception, kind: type, operation: str) -> None:
    assert isinstance(error, READ_FAILURES)
    found = translate(error, "s3:GetObject")
    assert (type(found), found.operation) == (kind, operation)


@pytest.mark.parametrize(
    "error",
    [
        answered("X", 400, "the key AKIAIOSFODNN7EXAMPLE\nat http://user:hunter2@host/ \u202e"),
        CredentialRetrievalError(provider="custom-process", error_msg="hunter2 AKIAIOSFODNN7EXAMPLE"),
        EndpointConnectionError(
            endpoint_url="http://user:hunter2@host/b?list-type=2&X-Amz-Signature=hunter2"
        ),
    ],
)
def test_no_text_of_an_error_holds_credentials_or_control_characters(error: Exception) -> None:
    found = translate(error, "s3:GetObject")
    for hidden in ("AKIAIOSFODNN7EXAMPLE", "hunter2", "\n", "\u202e"):
        assert hidden not in str(found)
        assert hidden not in unread(found).reason


def test_a_long_message_is_cut() -> None:
    assert len(translate(answered("X", 400, "m" * 100_000), "s3:GetObject").detail) < 600


def test_a_denied_part_says_which_permission_would_open_it() -> None:
    part = unread(translate(answered("AccessDenied", 403), "s3:GetObject"))
    assert part == Unread("access denied: s3:GetObject is needed (AccessDenied)", "AccessDenied", denied=True)


def test_a_closed_port_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        first_page(clients_at(f"http://127.0.0.1:{free_port()}"))


def test_a_meter_counts_a_client_given_twice_once() -> None:
    with stub_aws(lambda _: listing([])) as stub:
        client = stub.client("s3")
        meter = Meter(now, client, client)
        client.list_objects_v2(Bucket="b")
        assert meter.requests.counts["list"] == 1


@pytest.mark.parametrize(
    "said",
    [
        "needs a date. Authorization=AWS4-HMAC-SHA256 Credential=AKIAX/20261120/x, Signature=5ecre7",
        "Authorization: AWS4-HMAC-SHA256 Signature=5ecre7",
        "x-amz-security-token:5ecre7 was not expected",
        "X-Amz-Signature = 5ecre7",
        "x-amz-security-token=5ecre7",
        "Signature=5ecre7",
    ],
)
def test_of_a_request_that_aws_repeats_no_signature_and_no_token_is_kept(said: str) -> None:
    assert "5ecre7" not in clean(said)
    assert "(left out)" in clean(said)


@pytest.mark.parametrize("said", ["The request signature we calculated does not match", "no authorization: "])
def test_words_that_name_no_signature_stay(said: str) -> None:
    assert clean(said) == said


@pytest.mark.parametrize("status", [400, 403])
def test_a_body_that_is_not_of_the_service_is_no_message(status: int) -> None:
    """botocore takes what it cannot read as DynamoDB's JSON for the message."""
    page = Answer(status, b"<html>s3cret of whoever answered", {"Content-Type": "text/html"})
    with stub_aws(lambda _: page) as stub:
        client = stub.client("dynamodb")
        with pytest.raises(ClientError) as found:
            client.scan(TableName="t")
    reason = translate(found.value, "dynamodb:Scan")

    assert "s3cret" in str(found.value)
    assert "s3cret" not in str(reason)
    assert "not what this service writes" in str(reason)
