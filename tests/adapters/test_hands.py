from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from lockboard.adapters.aws import Access, RoleCredentials, unread
from lockboard.adapters.hands import HandsOpener, Reach, session_name, source_identity
from lockboard.adapters.policies import LONGEST_SESSION_POLICY, actor_policy
from lockboard.domain.audit import LOCKBOARD, Person
from lockboard.domain.bodies import read_body
from lockboard.domain.errors import AccessDenied, ReadError, SettingsError, Throttled, Unreachable
from lockboard.domain.writes import Hands, Restorable, Sent
from tests.emulators import REGION, Emulator, free_port
from tests.faults import Fault, FaultProxy, Seen, fault_proxy
from tests.iam import ACCOUNT, Call, denied
from tests.stub_aws import Answer, Asked, Respond, StubAws, dynamo, in_order, stub_aws

ACTOR = f"arn:aws:iam::{ACCOUNT}:role/lockboard-actor"
READER = f"arn:aws:iam::{ACCOUNT}:role/lockboard-reader"
ANNA = Person("Anna Example <anna@example.com>", "oidc", "192.0.2.1")
ACTION = "6f7a1c6e-0d9b-4c0e-9d0a-1c2f3a4b5c6d"
KEY = "team/env:/blue/app one*.tfstate"
STATE = json.dumps({"version": 4, "serial": 3, "lineage": "l"}).encode()
NEXT = Restorable(STATE, read_body(STATE), "v", "e")


def reach(url: str, bucket: str = "b", table: str | None = "t", **more: Any) -> Reach:
    named = {name: more.pop(name) for name in ("external_id", "role_arn") if name in more}
    access = Access(REGION, s3_endpoint_url=url, dynamodb_endpoint_url=url, **named)
    return Reach(access, bucket, "team/", table, **more)


def opener(url: str, bucket: str = "b", table: str | None = "t", **more: Any) -> HandsOpener:
    return HandsOpener({"prod": reach(url, bucket, table, **more)})


def open_(opener: HandsOpener, person: Person = ANNA, action: str = ACTION, key: str = KEY) -> Hands:
    return opener("prod", key, person, action)


def assume_role(asked: Asked | Seen) -> dict[str, str]:
    """The parameters of an AssumeRole."""
    return {name: values[0] for name, values in parse_qs(asked.body.decode(), strict_parsing=True).items()}


def credentials_of(asked: Asked | Seen) -> tuple[str, str | None]:
    """Access key ID and session token that a request was signed with."""
    found = re.search(r"Credential=([^/]+)/", asked.headers["authorization"])
    assert found
    return found[1], asked.headers.get("x-amz-security-token")


def granted(role: str) -> Answer:
    """An AssumeRole that was granted: the credentials name the role and never end in a test's time."""
    text = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIA{role.upper()}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>token-{role}</SessionToken>"
        f"<Expiration>{datetime.now(UTC).year + 1}-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    return Answer(200, text.encode(), {"Content-Type": "text/xml"})


def sts_error(status: int, code: str, message: str = "no") -> Answer:
    text = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
    return Answer(status, text.encode(), {"Content-Type": "text/xml"})


def is_sts(asked: Asked) -> bool:
    return asked.body.startswith(b"Action=")


def answering(asked: Asked) -> Answer:
    """A store that does what it is asked, and an STS that grants every role."""
    if is_sts(asked):
        return granted(assume_role(asked)["RoleArn"].rpartition("-")[2])
    if "x-amz-target" in asked.headers:
        return dynamo({})
    if asked.method == "DELETE":
        return Answer(204)
    return Answer(headers={"ETag": '"0123456789abcdef0123456789abcdef"'})


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubAws]:
    yield from stubbed(monkeypatch, answering)


def stubbed(monkeypatch: pytest.MonkeyPatch, respond: Respond) -> Iterator[StubAws]:
    with stub_aws(respond) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found.url)
        yield found


# ------------------------------------------------------------------ with an actor's role


def test_every_action_has_a_session_of_its_own_for_fifteen_minutes(stub: StubAws) -> None:
    hands = opener(stub.url, actor_role_arn=ACTOR)
    open_(hands)
    open_(hands, LOCKBOARD, "7f7a1c6e-0d9b-4c0e-9d0a-1c2f3a4b5c6d", "team/other.tfstate")
    asked = [assume_role(one) for one in stub.asked]
    assert [one["RoleArn"] for one in asked] == [ACTOR, ACTOR]
    assert [one["DurationSeconds"] for one in asked] == ["900", "900"]
    assert [one["RoleSessionName"] for one in asked] == [
        f"Anna_Example__anna@example.-{ACTION}",
        "lockboard-7f7a1c6e-0d9b-4c0e-9d0a-1c2f3a4b5c6d",
    ]
    policies = [json.loads(one["Policy"]) for one in asked]
    assert Call("s3:GetObject", f"arn:aws:s3:::b/{KEY}").allowed_by(policies[0])
    assert not Call("s3:GetObject", f"arn:aws:s3:::b/{KEY}").allowed_by(policies[1])
    assert {"ExternalId", "SourceIdentity"} & asked[0].keys() == set()


def test_what_is_written_is_signed_with_the_session_and_names_the_action(stub: StubAws) -> None:
    hands = open_(opener(stub.url, actor_role_arn=ACTOR))
    assert hands.table is not None
    receipts = [
        hands.states.take_lockfile(KEY, "{}"),
        hands.states.release_lockfile(KEY, "e"),
        hands.table.take_lock("b/k", "{}", str(uuid.uuid4())),
    ]
    assert [receipt.sent for receipt in receipts] == [Sent.DONE] * 3
    [sts, *writes] = stub.asked
    assert is_sts(sts)
    assert credentials_of(sts) == ("testing", None)
    assert {credentials_of(one) for one in writes} == {("ASIAACTOR", "token-actor")}
    for one in stub.asked:
        assert f"lockboard-action/{ACTION}" in one.headers["user-agent"]
        assert one.headers["amz-sdk-request"] == "attempt=1; max=1"


def test_the_role_s_external_id_is_sent(stub: StubAws) -> None:
    open_(opener(stub.url, actor_role_arn=ACTOR, external_id="ticket-7"))
    assert assume_role(stub.asked[0])["ExternalId"] == "ticket-7"


def test_the_person_is_the_source_identity_where_the_trust_policy_allows_it(stub: StubAws) -> None:
    open_(opener(stub.url, actor_role_arn=ACTOR, source_identity=True))
    assert assume_role(stub.asked[0])["SourceIdentity"] == "Anna_Example__anna@example.com_"


def test_the_actor_is_assumed_with_lockboard_s_own_credentials_not_the_reader_s(stub: StubAws) -> None:
    hands = open_(opener(stub.url, actor_role_arn=ACTOR, role_arn=READER))
    hands.states.take_lockfile(KEY, "{}")
    assert [assume_role(one)["RoleArn"] for one in stub.asked if is_sts(one)] == [ACTOR]
    assert credentials_of(stub.asked[0]) == ("testing", None)


REFUSALS: dict[str, tuple[Answer, type[ReadError]]] = {
    "access denied": (sts_error(403, "AccessDenied", "no"), AccessDenied),
    "sts:SetSourceIdentity": (
        sts_error(
            403, "AccessDenied", "x is not authorized to perform: sts:SetSourceIdentity on resource: y"
        ),
        AccessDenied,
    ),
    "credentials have expired": (sts_error(403, "ExpiredToken"), Unreachable),
    "access key is not known": (sts_error(403, "InvalidClientTokenId"), Unreachable),
    "117%": (sts_error(400, "PackedPolicyTooLarge", "Packed policy consumes 117%"), ReadError),
    "ValidationError": (sts_error(400, "ValidationError"), ReadError),
    "InternalFailure": (sts_error(500, "InternalFailure"), ReadError),
    "ServiceUnavailable": (sts_error(503, "ServiceUnavailable"), ReadError),
    "Throttling": (sts_error(400, "Throttling"), Throttled),
    "ResponseParserError": (Answer(200, b"<html>hello", {"Content-Type": "text/html"}), ReadError),
    "not what this service writes": (
        Answer(200, b"<AssumeRoleResponse/>", {"Content-Type": "text/xml"}),
        ReadError,
    ),
}
"""Words -> STS's answer, and the error that has these words."""


def test_a_role_that_is_not_granted_is_asked_for_once_and_nothing_else_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [answer for answer, _ in REFUSALS.values()]
    for stub in stubbed(monkeypatch, in_order(*answers)):
        hands = opener(stub.url, actor_role_arn=ACTOR)
        for number, (words, (_, kind)) in enumerate(REFUSALS.items(), 1):
            with pytest.raises(kind) as caught:
                open_(hands)
            error = caught.value
            assert type(error) is kind
            assert words in f"{error.operation} {unread(error).reason}"
            assert error.operation.startswith("sts:")
            assert [is_sts(one) for one in stub.asked] == [True] * number


def test_an_sts_that_does_not_answer_is_told_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    with stub_aws(answering) as stub:
        with pytest.raises(Unreachable) as caught:
            open_(opener(stub.url, actor_role_arn=ACTOR))
        assert stub.asked == []
    assert caught.value.operation == "sts:AssumeRole"


# ------------------------------------------------------------------ without one


def test_without_an_actor_s_role_the_reader_s_credentials_write(stub: StubAws) -> None:
    open_(opener(stub.url)).states.take_lockfile(KEY, "{}")
    [write] = stub.asked
    assert credentials_of(write) == ("testing", None)


def test_without_an_actor_s_role_the_reader_s_role_writes(stub: StubAws) -> None:
    open_(opener(stub.url, role_arn=READER, external_id="ticket-7")).states.take_lockfile(KEY, "{}")
    [sts, write] = stub.asked
    sent = assume_role(sts)
    assert (sent["RoleArn"], sent["RoleSessionName"], sent["ExternalId"]) == (READER, "lockboard", "ticket-7")
    assert "Policy" not in sent
    assert credentials_of(write) == ("ASIAREADER", "token-reader")


# ------------------------------------------------------------------ opening


def test_a_backend_without_a_table_has_no_hands_for_it(stub: StubAws) -> None:
    assert open_(opener(stub.url, table=None)).table is None


def test_opening_without_a_role_sends_nothing(stub: StubAws) -> None:
    open_(opener(stub.url))
    assert stub.asked == []


def test_an_unknown_backend_is_no_backend(stub: StubAws) -> None:
    with pytest.raises(KeyError):
        opener(stub.url)("other", KEY, ANNA, ACTION)


def test_a_malformed_endpoint_is_told_by_its_words(stub: StubAws) -> None:
    with pytest.raises(SettingsError, match="not a url"):
        open_(opener("not a url"))


def test_what_is_known_of_a_bucket_is_known_to_the_next_action(emulator: Emulator) -> None:
    bucket = emulator.make_bucket()
    with fault_proxy(emulator.url) as proxy:
        one = reach(proxy.url, bucket)
        hands = HandsOpener({"one": one, "two": one, "other": reach(proxy.url, emulator.make_bucket())})
        for backend, tried in (("one", 7), ("one", 0), ("two", 0), ("other", 7)):
            proxy.recording.clear()
            opened = hands(backend, KEY, ANNA, ACTION)
            assert opened.states.refuses_wrong_conditions() == ""
            assert len(proxy.recording.requests) == tried


def test_secrets_of_a_session_do_not_show_in_its_text() -> None:
    text = repr(RoleCredentials("ASIAX", "the-secret", "the-token"))
    assert ("ASIAX" in text, "the-secret" in text, "the-token" in text) == (True, False, False)


# ------------------------------------------------------------------ a whole action, as AWS would judge it


@pytest.fixture
def proxy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(emulator.url) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found.url)
        yield found


def test_all_that_actions_send_is_allowed_by_the_role_and_the_session_and_nothing_of_another_key_is(
    emulator: Emulator, proxy: FaultProxy
) -> None:
    bucket, table = emulator.make_bucket(), emulator.make_table()
    version = emulator.s3.put_object(Bucket=bucket, Key=KEY, Body=STATE, Tagging="a=b")["VersionId"]
    # A session of another account could not reach the bucket, on MiniStack either.
    account = emulator.client("sts").get_caller_identity()["Account"]
    actor = f"arn:aws:iam::{account}:role/lockboard-actor"
    hands = open_(opener(proxy.url, bucket, table, actor_role_arn=actor))
    every_write(hands, bucket, version)

    [asked, *requests] = proxy.recording.requests
    sent = assume_role(asked)
    assert len(sent["Policy"]) <= LONGEST_SESSION_POLICY
    assert {seen.operation for seen in requests} == {
        "DeleteObject",
        "GetObject",
        "GetObjectTagging",
        "PutObject",
        "TransactWriteItems",
    }
    role = actor_policy(bucket, "team/", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}")
    assert denied([role, sent["Policy"]], requests) == []

    other = json.loads(sent["Policy"].replace("blue", "green"))
    of_key = [seen for seen in requests if "/probe-" not in seen.path]
    assert len(denied([role, other], of_key)) >= len(of_key)


def every_write(hands: Hands, bucket: str, version: str) -> None:
    """One of each kind, all of them done."""
    states, table, lock_id = hands.states, hands.table, f"{bucket}/{KEY}"
    assert table is not None
    assert states.refuses_wrong_conditions() == ""
    old = states.read_version(KEY, version)
    assert isinstance(old, Restorable)
    taken = states.take_lockfile(KEY, "{}")
    over = states.take_lockfile(KEY, '{"ID":"x"}', taken.etag)
    put = states.put_state(KEY, old, old.etag)
    token = iter(str(uuid.uuid4()) for _ in range(9))

    def digest(*, absent: bool, new: str | None) -> Any:
        seen = None if absent else {"S": "0" * 32}
        return table.change_digest(
            f"{lock_id}-md5",
            absent=absent,
            old=seen,
            new=new,
            lock_id=lock_id,
            info="theirs",
            token=next(token),
        )

    receipts = [
        taken,
        over,
        put,
        table.take_lock(lock_id, "mine", next(token)),
        table.replace_lock(lock_id, {"S": "mine"}, "theirs", next(token)),
        digest(absent=True, new="0" * 32),
        digest(absent=False, new="0" * 32),
        digest(absent=False, new=None),
        table.release_lock(lock_id, {"S": "theirs"}, next(token)),
        states.release_lockfile(KEY, str(over.etag)),
    ]
    assert [receipt.sent for receipt in receipts] == [Sent.DONE] * len(receipts)


def test_a_lost_reply_of_sts_is_no_second_session(emulator: Emulator, proxy: FaultProxy) -> None:
    proxy.on(proxy.operation("AssumeRole"), Fault.DROP_REPLY)
    with pytest.raises(Unreachable):
        open_(opener(proxy.url, emulator.make_bucket(), actor_role_arn=ACTOR))
    assert proxy.recording.operations() == ["AssumeRole"]


# ------------------------------------------------------------------ names

NAME = re.compile(r"[\w+=,.@-]{2,64}\Z", re.ASCII)
"""What STS takes for a session's name and a source identity."""
PEOPLE = [
    "anna",
    "",
    "a",
    "Anna Example",
    "anna@example.com",
    "홍길동",
    "a" * 300,
    "aws:root",
    "../../etc",
    "a\r\nX: y",
    "😀",
    "\ud800",
    "=cmd|'/c'!A0",
]


@pytest.mark.parametrize("name", PEOPLE, ids=ascii)
def test_names_are_such_as_sts_takes_and_end_in_the_whole_action(name: str) -> None:
    person = Person(name, "demo", "")
    for action in (ACTION, "x", "a b/c", "한"):
        assert NAME.match(session_name(person, action))
    assert session_name(person, ACTION).endswith(f"-{ACTION}")
    assert NAME.match(source_identity(person))


def test_names_that_sts_takes_are_kept() -> None:
    person = Person("a.b+c=d,e@f-g_h", "demo", "")
    assert session_name(person, ACTION) == f"a.b+c=d,e@f-g_h-{ACTION}"
    assert source_identity(person) == "a.b+c=d,e@f-g_h"


def test_nobody_has_a_name_too() -> None:
    assert session_name(Person("", "demo", ""), ACTION) == f"unknown-{ACTION}"
